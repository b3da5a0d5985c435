//! A client that pings each millisecond, on a thread of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// How much too late the thread woke up for a PINGREQ: what the machine is late.
    pub lateness: Histogram<u64>,
    /// The slowest: when since the beginning, and how long.
    pub slowest: Vec<(Duration, Duration)>,
}

/// The thread.
pub struct Pinger {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Pings, Failure>>,
}

impl Pinger {
    /// Begins to ping.
    pub fn start(address: SocketAddr, core: usize) -> Result<Pinger, Failure> {
        let client = Client::connect(address, "pinger", false)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            pin(&[core])?;
            go_first();
            ping(client, &stopped)
        });
        Ok(Pinger { stop, thread })
    }

    /// Ends, and gives what was measured.
    pub fn stop(self) -> Result<Pings, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread that pings has panicked")?
    }
}

fn ping(mut client: Client, stop: &AtomicBool) -> Result<Pings, Failure> {
    let mut pings = Pings { times: times()?, lateness: times()?, slowest: Vec::new() };
    let began = Instant::now();
    let mut due = began;
    while !stop.load(Ordering::Relaxed) {
        due += INTERVAL;
        let pause = due.saturating_duration_since(Instant::now());
        if !pause.is_zero() {
            thread::sleep(pause);
            pings.lateness.saturating_record(due.elapsed().as_nanos() as u64);
        }
        client.ping()?;
        let took = due.elapsed();
        pings.times.saturating_record(took.as_nanos() as u64);
        pings.remember(due - began, took);
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
