//! A client that pings each millisecond, whether what it asked before is answered or not: one thread asks, another one reads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use moormq_perf_shared::scheduling::{go_first, pin};
use moormq_perf_shared::under_test::Failure;
use moormq_perf_shared::waiting_client::Client;

use crate::load::times;

/// How often.
const INTERVAL: Duration = Duration::from_millis(1);
/// So many of the slowest are told one by one.
const SLOWEST: usize = 12;

/// What was measured.
pub struct Pings {
    /// From when PINGREQ should have been sent until PINGRESP, in nanoseconds: what holds one up holds up those that are due meanwhile, too.
    pub times: Histogram<u64>,
    /// How much too late PINGREQ was sent: what the machine is late.
    pub lateness: Histogram<u64>,
    /// The slowest: when since the beginning, and how long.
    pub slowest: Vec<(Duration, Duration)>,
}

/// The threads.
pub struct Pinger {
    stop: Arc<AtomicBool>,
    asking: Measuring<Histogram<u64>>,
    reading: Measuring<Pings>,
}

/// A thread that gives what it has measured when it ends.
type Measuring<T> = JoinHandle<Result<T, Failure>>;

impl Pinger {
    /// Begins to ping.
    pub fn start(address: SocketAddr, core: usize) -> Result<Pinger, Failure> {
        let client = Client::connect(address, "pinger", false)?;
        let (stop, other) = (Arc::new(AtomicBool::new(false)), client.other_half()?);
        let (stopped, (asked, to_be_answered)) = (Arc::clone(&stop), channel());
        let asking = on_core(core, move || ask(other, &stopped, &asked));
        let reading = on_core(core, move || read(client, &to_be_answered));
        Ok(Pinger { stop, asking, reading })
    }

    /// Ends when all is answered, and gives what was measured.
    pub fn stop(self) -> Result<Pings, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let lateness = self.asking.join().map_err(|_| "the thread that pings has panicked")??;
        let pings = self.reading.join().map_err(|_| "the thread that reads PINGRESP has panicked")??;
        Ok(Pings { lateness, ..pings })
    }
}

/// Has a thread do this on a core, before all others.
fn on_core<T: Send + 'static>(core: usize, work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Measuring<T> {
    thread::spawn(move || {
        pin(&[core])?;
        go_first();
        work()
    })
}

/// Asks on schedule; how late it was each time.
fn ask(mut client: Client, stop: &AtomicBool, asked: &Sender<Instant>) -> Result<Histogram<u64>, Failure> {
    let (mut lateness, mut due) = (times()?, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        due += INTERVAL;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        lateness.saturating_record(due.elapsed().as_nanos() as u64);
        client.ask_for_pong()?;
        asked.send(due)?;
    }
    Ok(lateness)
}

/// PINGRESPs come in the order of what they answer.
fn read(mut client: Client, to_be_answered: &Receiver<Instant>) -> Result<Pings, Failure> {
    let mut pings = Pings { times: times()?, lateness: times()?, slowest: Vec::new() };
    let began = Instant::now();
    while let Ok(due) = to_be_answered.recv() {
        client.pong()?;
        let took = due.elapsed();
        pings.times.saturating_record(took.as_nanos() as u64);
        pings.remember(due.saturating_duration_since(began), took);
    }
    Ok(pings)
}

impl Pings {
    /// Of several that were held up together the first is the slowest.
    fn remember(&mut self, at: Duration, took: Duration) {
        if let Some((last, longest)) = self.slowest.last_mut()
            && at < *last + *longest
        {
            return;
        }
        self.slowest.push((at, took));
        if self.slowest.len() > 10_000 {
            self.keep_slowest();
        }
    }

    /// All but the slowest are forgotten.
    pub fn keep_slowest(&mut self) {
        self.slowest.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        self.slowest.truncate(SLOWEST);
        self.slowest.sort_by_key(|(at, _)| *at);
    }
}
