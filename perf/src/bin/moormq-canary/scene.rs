//! What a case has to do with: a broker, how much to ask of it, and the times between which the canary is looked at.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::canary::waited_for_core;
use crate::client::{Client, User};
use moormq_perf_shared::under_test::Failure;

/// How long the canary is looked at after the last answer: what is left to do by then is done.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// What a case has to do with.
pub struct Scene {
    pub address: SocketAddr,
    pub user: User,
    pid: u32,
    divide: usize,
    most_clients: usize,
    pub windows: Vec<Window>,
}

/// The time in which something was asked of the broker.
pub struct Window {
    /// What.
    pub what: &'static str,
    pub from: Instant,
    pub until: Instant,
    /// How long threads of the broker had to wait for a core meanwhile.
    pub waited: Duration,
    /// What came of it.
    pub outcome: String,
}

impl Scene {
    /// Nothing has happened.
    pub fn new(address: SocketAddr, user: User, pid: u32, divide: u32, most_clients: u64) -> Scene {
        let (divide, most_clients) = (divide as usize, most_clients as usize);
        Scene { address, user, pid, divide, most_clients, windows: Vec::new() }
    }

    /// `count`, or less where the program is only tried out.
    pub fn some(&self, count: usize) -> usize {
        (count / self.divide).max(1)
    }

    /// So many clients at a time, as far as the limit on open files allows.
    pub fn clients(&self, count: usize) -> usize {
        self.some(count).min(self.most_clients)
    }

    /// A client that was accepted.
    pub fn client(&self, id: &str) -> Result<Client, Failure> {
        Client::open(self.address, id, self.user)
    }

    /// Has something done while the canary is looked at; what it gives is told in the report.
    pub fn during(
        &mut self,
        what: &'static str,
        work: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let before = waited_for_core(self.pid);
        let from = Instant::now();
        let outcome = work()?;
        std::thread::sleep(AFTERWARDS);
        let until = Instant::now();
        // Threads that have ended meanwhile are not counted any more.
        let waited = waited_for_core(self.pid).saturating_sub(before);
        self.windows.push(Window { what, from, until, waited, outcome });
        Ok(())
    }
}
