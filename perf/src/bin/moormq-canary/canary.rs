//! Clients that behave, and measure how soon they are answered: one pings, some publish to one another, every two milliseconds. Beside them two
//! threads that only sleep as long and look how late they wake up, one on each core: what the machine itself is late.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use moormq::codec::{Packet, QoS};

use crate::client::{self, Client, User};
use moormq_perf_shared::scheduling::{go_first, pin};
use moormq_perf_shared::under_test::Failure;

/// So many pairs publish to one another where there are several shards: some of them are on different ones.
const PAIRS: usize = 4;
/// How often each of them asks.
const INTERVAL: Duration = Duration::from_millis(2);

/// What somebody measured.
#[derive(Clone, Copy)]
pub struct Sample {
    /// When he should have asked.
    pub due: Instant,
    /// From then until the answer. What a broker that stalls holds up counts, too: all that were due meanwhile.
    pub took: Duration,
}

/// All that was measured.
pub struct Samples {
    /// PINGREQ until PINGRESP.
    pub pings: Vec<Sample>,
    /// A message at QoS 0 from one client to another.
    pub publishes: Vec<Sample>,
    /// Sleep on the core of the broker, and how much too long it was.
    pub broker_core: Vec<Sample>,
    /// The same on the core of the clients.
    pub client_core: Vec<Sample>,
}

/// The threads.
pub struct Canary {
    stop: Arc<AtomicBool>,
    pings: Measuring,
    publishes: Vec<Measuring>,
    broker_core: Measuring,
    client_core: Measuring,
}

/// A thread that gives what it has measured when it is told to stop.
type Measuring = JoinHandle<Result<Vec<Sample>, Failure>>;

impl Canary {
    /// Begins to measure.
    pub fn start(
        address: SocketAddr,
        user: User,
        broker_cores: &[usize],
        client_core: usize,
    ) -> Result<Canary, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let ping = Client::open(address, "canary-ping", user)?;
        let asking = ping.other_half()?;
        let pings = ask(&stop, client_core, (asking, ping), |out| Packet::Pingreq.encode(Client::VERSION, out))?;
        let pairs = if broker_cores.len() > 1 { PAIRS } else { 1 };
        let publishes = (0..pairs).map(|pair| {
            let topic = format!("canary/{pair}");
            let publisher = Client::open(address, &format!("canary-publish-{pair}"), user)?;
            let mut subscriber = Client::open(address, &format!("canary-subscribe-{pair}"), user)?;
            subscriber.subscribe(std::slice::from_ref(&topic))?;
            ask(&stop, client_core, (publisher, subscriber), move |out| {
                client::publish(&topic, b"peep", QoS::AtMostOnce, false, None, out);
            })
        });
        let publishes = publishes.collect::<Result<_, _>>()?;
        let [broker_core, client_core] = [broker_cores[0], client_core].map(|core| sleep(&stop, core));
        Ok(Canary { stop, pings, publishes, broker_core, client_core })
    }

    /// Ends, and gives what was measured.
    pub fn stop(self) -> Result<Samples, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let of = |thread: Measuring| thread.join().map_err(|_| "a thread of the canary died")?;
        Ok(Samples {
            pings: of(self.pings)?,
            publishes: self.publishes.into_iter().map(of).collect::<Result<Vec<_>, _>>()?.concat(),
            broker_core: of(self.broker_core)?,
            client_core: of(self.client_core)?,
        })
    }
}

/// Asks on schedule, whether what was asked before is answered or not: on one connection, and on another each packet that comes is an answer, in
/// order.
fn ask(
    stop: &Arc<AtomicBool>,
    core: usize,
    (mut asking, mut answered): (Client, Client),
    question: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> Result<Measuring, Failure> {
    let (asked, to_be_answered) = channel();
    on_schedule(stop, core, move |due| {
        asking.send(&question)?;
        Ok(asked.send(due)?)
    });
    Ok(thread::spawn(move || {
        pin(&[core])?;
        go_first();
        let mut samples = Vec::new();
        while let Ok(due) = to_be_answered.recv() {
            answered.read_until(|_| true)?;
            samples.push(Sample { due, took: due.elapsed() });
        }
        Ok(samples)
    }))
}

/// Only sleeps.
fn sleep(stop: &Arc<AtomicBool>, core: usize) -> Measuring {
    let (woke, wakes) = channel();
    let sleeping = on_schedule(stop, core, move |due| Ok(woke.send(Sample { due, took: due.elapsed() })?));
    thread::spawn(move || {
        sleeping.join().map_err(|_| "a thread of the canary died")??;
        Ok(wakes.into_iter().collect())
    })
}

/// Has something done at each time that it is due.
fn on_schedule(
    stop: &Arc<AtomicBool>,
    core: usize,
    mut work: impl FnMut(Instant) -> Result<(), Failure> + Send + 'static,
) -> JoinHandle<Result<(), Failure>> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        pin(&[core])?;
        go_first();
        let mut due = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            due += INTERVAL;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            work(due)?;
        }
        Ok(())
    })
}

/// How long all threads of a process together were ready to run and had to wait for their core, so far.
pub fn waited_for_core(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_task = |folder: fs::DirEntry| {
        let text = fs::read_to_string(folder.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(of_task).sum())
}
