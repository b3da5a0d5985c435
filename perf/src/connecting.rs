//! A round in which clients connect and then stay, silent or nearly so.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Event};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::sample::{ConnectionsSample, Idle};
use crate::scenario::Connections;
use crate::target::Target;
use crate::times::Latency;
use crate::timing::Timing;

/// How long the broker has to come to rest before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// How long a broker has to end connections whose sessions were taken over, and to answer pings.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the loop sleeps at most before it looks at the time.
const LOOK: Duration = Duration::from_millis(20);

/// Runs one round.
///
/// # Errors
///
/// As [`run::round`](crate::run::round).
pub fn round(
    connections: &Connections,
    target: &Target,
    timing: Timing,
    interrupt: &Interrupt,
) -> Result<ConnectionsSample, Failure> {
    let mut engine = Engine::new(interrupt)?;
    let Connections { count, at_a_time, ids, keep_alive } = *connections;
    let resident_before = target.processes.resident()?;
    // Where sessions are taken over they have to be there first, which is not what is measured.
    let prepared = if ids < count { ids } else { 0 };
    engine.open((0..prepared).map(|number| client(connections, number)), target.address, at_a_time)?;
    let (cpu_before, start) = (target.processes.cpu()?, Instant::now());
    engine.open((prepared..count).map(|number| client(connections, number)), target.address, at_a_time)?;
    let (cpu_after, wall) = (target.processes.cpu()?, start.elapsed());
    expect_ends(&mut engine)?;
    thread::sleep(SETTLE);
    let resident_after = target.processes.resident()?;
    let idle = keep_alive.map(|keep_alive| idle(&mut engine, count, keep_alive, target, timing.window)).transpose()?;
    let answer = Latency::of(engine.answers()[prepared..].iter().copied());
    engine.close();
    Ok(ConnectionsSample {
        open: ids as u64,
        count: (count - prepared) as u64,
        wall,
        broker_cpu: cpu_after.saturating_sub(cpu_before),
        resident_before,
        resident_after,
        answer,
        idle,
    })
}

/// Client number `number`.
fn client(connections: &Connections, number: usize) -> Client {
    let Connections { count, ids, keep_alive, .. } = *connections;
    let client = Client::idle(format!("perf-idle-{}", number % ids));
    let client = match keep_alive {
        Some(keep_alive) => client.keep_alive(keep_alive),
        None => client,
    };
    match number.checked_sub(ids) {
        Some(before) => client.taking_over(before),
        None if ids < count => client.kept(),
        None => client,
    }
}

/// Waits until every connection is ended whose session was taken over.
fn expect_ends(engine: &mut Engine) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while engine.lingering() > 0 {
        if Instant::now() > deadline {
            return Err(Failure::Broker(format!("{} connections live on without a session", engine.lingering())));
        }
        engine.turn(Some(LOOK), |_, _| {})?;
    }
    Ok(())
}

/// What it costs to have `count` connections: one window of silence, and one with pings, each client at three quarters of its keep-alive.
fn idle(
    engine: &mut Engine,
    count: usize,
    keep_alive: u16,
    target: &Target,
    window: Duration,
) -> Result<Idle, Failure> {
    let silent = busy(target, || stay_silent(engine, window))?;
    let pinging = busy(target, || ping(engine, count, Duration::from_secs(u64::from(keep_alive)) * 3 / 4, window))?;
    Ok(Idle { silent, pinging })
}

/// Processor time of the broker while `act` runs, in seconds per second.
fn busy(target: &Target, act: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let (before, start) = (target.processes.cpu()?, Instant::now());
    act()?;
    let used = target.processes.cpu()?.saturating_sub(before);
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}

fn stay_silent(engine: &mut Engine, window: Duration) -> Result<(), Failure> {
    let end = Instant::now() + window;
    while Instant::now() < end {
        engine.turn(Some(LOOK), |_, _| {})?;
    }
    Ok(())
}

/// Pings with `count` clients in turn, so that each does once per `interval`, and takes in the answers.
fn ping(engine: &mut Engine, count: usize, interval: Duration, window: Duration) -> Result<(), Failure> {
    let start = Instant::now();
    let (mut pinged, mut answered) = (0, 0);
    while start.elapsed() < window {
        let due = (start.elapsed().as_secs_f64() / interval.as_secs_f64() * count as f64) as usize;
        for number in pinged..due {
            engine.ping(number % count);
        }
        pinged = pinged.max(due);
        engine.flush()?;
        engine.turn(Some(Duration::from_millis(1)), |_, event| answered += usize::from(event == Event::Pong))?;
    }
    let deadline = Instant::now() + PATIENCE;
    while answered < pinged {
        if Instant::now() > deadline {
            return Err(Failure::Broker(format!("{} of {pinged} pings were not answered", pinged - answered)));
        }
        engine.turn(Some(LOOK), |_, event| answered += usize::from(event == Event::Pong))?;
    }
    Ok(())
}
