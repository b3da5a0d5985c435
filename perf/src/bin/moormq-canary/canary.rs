//! Clients that behave, and measure how soon they are answered: one pings, one publishes to itself, every two milliseconds. Beside them two
//! threads that only sleep as long and look how late they wake up, one on each core: what the machine itself is late.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use moormq::codec::{Packet, QoS};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::client::{self, Client, User};
use moormq_perf_shared::under_test::Failure;

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
    /// A message at QoS 0 to oneself.
    pub publishes: Vec<Sample>,
    /// Sleep on the core of the broker, and how much too long it was.
    pub broker_core: Vec<Sample>,
    /// The same on the core of the clients.
    pub client_core: Vec<Sample>,
}

/// The threads.
pub struct Canary {
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<Result<Vec<Sample>, Failure>>; 4],
}

impl Canary {
    /// Begins to measure.
    pub fn start(address: SocketAddr, user: User, broker_core: usize, client_core: usize) -> Result<Canary, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let ping = Client::open(address, "canary-ping", user)?;
        let mut publish = Client::open(address, "canary-publish", user)?;
        publish.subscribe(&["canary/bird".to_owned()])?;
        let threads = [
            ask(&stop, client_core, ping, |out| Packet::Pingreq.encode(Client::VERSION, out))?,
            ask(&stop, client_core, publish, |out| {
                client::publish("canary/bird", b"peep", QoS::AtMostOnce, false, None, out);
            })?,
            sleep(&stop, broker_core),
            sleep(&stop, client_core),
        ];
        Ok(Canary { stop, threads })
    }

    /// Ends, and gives what was measured.
    pub fn stop(self) -> Result<Samples, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let [pings, publishes, broker_core, client_core] = self.threads.map(|thread| thread.join());
        let of =
            |result: thread::Result<Result<Vec<Sample>, Failure>>| result.map_err(|_| "a thread of the canary died")?;
        Ok(Samples {
            pings: of(pings)?,
            publishes: of(publishes)?,
            broker_core: of(broker_core)?,
            client_core: of(client_core)?,
        })
    }
}

/// Asks on schedule, whether what was asked before is answered or not. Every packet that comes is an answer, in order.
fn ask(
    stop: &Arc<AtomicBool>,
    core: usize,
    mut client: Client,
    question: impl Fn(&mut Vec<u8>) + Send + 'static,
) -> Result<JoinHandle<Result<Vec<Sample>, Failure>>, Failure> {
    let mut asking = client.other_half()?;
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
            client.read_until(|_| true)?;
            samples.push(Sample { due, took: due.elapsed() });
        }
        Ok(samples)
    }))
}

/// Only sleeps.
fn sleep(stop: &Arc<AtomicBool>, core: usize) -> JoinHandle<Result<Vec<Sample>, Failure>> {
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

/// Pins the calling thread, and all that it starts from now on, to these cores.
pub fn pin(cores: &[usize]) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    cores.iter().try_for_each(|core| set.set(*core))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Lets the calling thread go before all others on its core, if the user may ask for it: the clients that ask for a lot are there, too.
fn go_first() {
    let mut chrt = Command::new("chrt");
    chrt.args(["--fifo", "--pid", "10"]).arg(gettid().to_string()).stdout(Stdio::null()).stderr(Stdio::null());
    // Without it the figures have the noise of the machine in them, which is measured.
    let _ = chrt.status();
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
