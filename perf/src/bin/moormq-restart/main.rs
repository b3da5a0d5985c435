//! moormq-restart: how soon a broker is there again that was killed, with many sessions and many messages in its store.
//!
//! Starts the real broker with a store, makes kept sessions with a subscription each, leaves, and publishes to all of them at QoS 1. Then the broker is
//! killed with SIGKILL and started again, and a client counts the time: from the start until its CONNACK says that its session is there, and until its first
//! message. Some of the sessions are looked at in full: every message has to be there, once and in order.

mod args;
mod client;
mod outcome;
mod report;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use moormq_perf_shared::under_test::{self, Failure, UnderTest};

use args::Args;
use client::Client;
use outcome::{Outcome, Restart};

/// Clients at work at a time: so many share a commit.
const AT_ONCE: u32 = 64;
/// Messages of one of them that are not acknowledged.
const WINDOW: usize = 200;
/// How many sessions are looked at in full.
const LOOKED_AT: u32 = 500;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-restart: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    under_test::lift_open_files(0)?;
    let program = under_test::program(args.moormq.as_deref())?;
    let configure = |port, folder: &Path| Ok(configuration(args, port, &folder.join("store")));
    let mut broker = UnderTest::start("moormq-restart", Command::new(&program), configure)?;
    let address = broker.address();
    eprintln!("{} sessions ...", args.sessions);
    let making = in_parts(args.sessions, |of| {
        of.into_iter()
            .try_for_each(|session| Client::connect(address, &name(session), true)?.subscribe(&topic(session)))
    })?;
    eprintln!("{} messages ...", args.messages);
    let payload = vec![b'.'; args.payload as usize];
    let filling = in_parts(args.sessions, |of| {
        let mut publisher = Client::connect(address, &format!("publisher-{}", of[0]), false)?;
        let rounds = args.messages / args.sessions;
        for round in 0..rounds {
            for session in &of {
                let mut payload = payload.clone();
                payload[..4].copy_from_slice(&round.to_be_bytes());
                publisher.publish(&topic(*session), &payload, WINDOW)?;
            }
        }
        publisher.wait_for_all()
    })?;
    let before = broker.memory("VmRSS:");
    let stored = size_of(&broker.folder().join("store"));
    let mut restarts = Vec::new();
    for round in 0..args.rounds {
        eprintln!("restart {} of {} ...", round + 1, args.rounds);
        broker.kill()?;
        let began = Instant::now();
        broker.start_again(Command::new(&program))?;
        let session = round * 7 % args.sessions;
        let mut client = loop {
            match Client::connect(address, &name(session), true) {
                Ok(client) => break client,
                Err(_) if began.elapsed() < Duration::from_secs(120) => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(error),
            }
        };
        let connack = began.elapsed();
        if !client.session_present {
            return Err(format!("{} has lost its session", name(session)).into());
        }
        client.message()?;
        let first = began.elapsed();
        let (resident, peak) = (broker.memory("VmRSS:"), broker.memory("VmHWM:"));
        // Nothing is acknowledged, so that all is there the next time.
        restarts.push(Restart { connack, first, resident, peak });
    }
    let expected = args.messages / args.sessions;
    for at in 0..LOOKED_AT.min(args.sessions) {
        let session = (u64::from(at) * u64::from(args.sessions) / u64::from(LOOKED_AT.min(args.sessions))) as u32;
        look_at(Client::connect(address, &name(session), true)?, expected)
            .map_err(|error| format!("{}: {error}", name(session)))?;
    }
    let outcome = Outcome { making, filling, before, stored, restarts };
    let page = report::page(args, &under_test::version(&program), &outcome);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    Ok(())
}

/// All messages are there, once and in order.
fn look_at(mut client: Client, expected: u32) -> Result<(), Failure> {
    for number in 0..expected {
        let payload = client.message()?;
        if payload.first_chunk() != Some(&number.to_be_bytes()) {
            return Err(
                format!("message {number} of {expected} is another one: {:?}", payload.first_chunk::<4>()).into()
            );
        }
    }
    match client.is_quiet()? {
        true => Ok(()),
        false => Err("there is more than was published".into()),
    }
}

/// Has several threads do a part each of so many sessions; how long that took.
fn in_parts(sessions: u32, act: impl Fn(Vec<u32>) -> Result<(), Failure> + Sync) -> Result<Duration, Failure> {
    let (began, act) = (Instant::now(), &act);
    thread::scope(|scope| {
        let parts = (0..AT_ONCE.min(sessions)).map(|part| {
            scope.spawn(move || act((0..sessions).skip(part as usize).step_by(AT_ONCE as usize).collect()))
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().try_for_each(|part| part.join().map_err(|_| Failure::from("a thread panicked"))?)
    })?;
    Ok(began.elapsed())
}

fn name(session: u32) -> String {
    format!("session-{session}")
}

fn topic(session: u32) -> String {
    format!("s/{session}")
}

/// What the files below a folder take, in bytes.
fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(of) if of.is_dir() => size_of(&entry.path()),
        Ok(of) => of.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn configuration(args: &Args, port: u16, store: &Path) -> String {
    let segments = args.segments.map(|segments| format!("segments = {segments}\n")).unwrap_or_default();
    let size = args.segment_size.as_ref().map(|size| format!("segment_size = \"{size}\"\n")).unwrap_or_default();
    let gather = args.gather.as_ref().map(|size| format!("archive.gather = \"{size}\"\n")).unwrap_or_default();
    format!(
        r#"shards = {}
allow_anonymous = true

[log]
filter = "warn,moormq=info"

[listeners.default]
address = "127.0.0.1:{port}"

[queue]
max_online_messages = "unlimited"
max_offline_messages = "unlimited"
max_queue_bytes = "unlimited"

[storage]
path = "{}"
{segments}{size}{gather}
[sys]
interval = "0s"
"#,
        args.shards,
        store.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_accepts_its_configuration() {
        let args = Args::parse_from(["moormq-restart", "--shards", "2"]);
        let text = configuration(&args, 1883, Path::new("/s"));
        let config = moormq::config::Config::from_toml(&text, "test").unwrap();
        assert_eq!((config.shards, config.storage.path.as_deref()), (Some(2), Some("/s")));
    }
}
