//! The way of passwords to a thread that has time to check them, and of the answer back.
//!
//! ```text
//!  HashQueue ──► HashWork: whose turn is it? ──► HashWorker (some threads)
//!      ┆                        ▲                     │ ┆
//!      ┆                        └── right or wrong ◄──┘ ┆
//!      └◄───────────────── oneshot ─────────────────────┘
//! ```
//!
//! Nobody waits for a place: where there is none, the answer is *unavailable* at once. What nobody waits for any more, its
//! client gone or its deadline over, is not computed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Select, Sender, bounded, unbounded};
use futures_channel::oneshot;

use super::StoredPassword;
use super::failures::{Failures, Origin};
use super::memory::HashMemory;
use super::waiting::{Rank, Waiting};
use crate::time::Time;

/// After so long without a password a thread gives its memory back.
const IDLE: Duration = Duration::from_secs(1);

/// How many may be handed in, beyond those that wait, before [`HashWork`] looks at them. It looks at once, and takes turns into
/// account; who finds this full is turned away whoever he is.
const HANDED_IN: usize = 1024;

/// Where passwords are handed in to be checked. Clones hand in to the same queue.
#[derive(Clone)]
pub struct HashQueue(Sender<Request>);

/// The other end: knows what waits and whose turn it is. It belongs on a thread of its own, and its
/// [workers](HashWork::worker) on others.
pub struct HashWork {
    requests: Receiver<Request>,
    checks: (Sender<Turn>, Receiver<Turn>),
    outcomes: (Sender<Outcome>, Receiver<Outcome>),
    waiting: Waiting<Check>,
    /// Attempts that are checked elsewhere, by when that may begin.
    sleeping: BTreeMap<(Time, u64), oneshot::Sender<()>>,
    failures: Failures,
    capacity: usize,
    count: u64,
}

/// Checks passwords, one at a time.
pub struct HashWorker {
    checks: Receiver<Turn>,
    outcomes: Sender<Outcome>,
    memory: HashMemory,
}

/// What is handed in.
enum Request {
    Check(Origin, Check),
    /// Somebody else checks, when it is time.
    Wait(Origin, oneshot::Sender<()>),
    Outcome(Outcome),
}

/// A password to check.
struct Check {
    stored: Arc<StoredPassword>,
    /// There is such a user; else the check is for the time it takes.
    is_user: bool,
    password: Box<[u8]>,
    answer: oneshot::Sender<bool>,
}

type Turn = (Origin, Check);

/// What an attempt to log in came to.
struct Outcome {
    origin: Origin,
    right: bool,
}

/// There are too many passwords waiting, or nobody to check them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::hooks::stock) struct Busy;

/// A queue in which `capacity` passwords may wait, and its other end. After some failures of an address or a user name an
/// attempt waits before it is checked, longer each time, up to `longest_delay`.
pub fn hash_queue(capacity: usize, longest_delay: Duration) -> (HashQueue, HashWork) {
    let (sender, requests) = bounded(capacity + HANDED_IN);
    let (waiting, failures) = (Waiting::new(capacity), Failures::new(longest_delay));
    let (checks, outcomes, sleeping) = (bounded(0), unbounded(), BTreeMap::new());
    (HashQueue(sender), HashWork { requests, checks, outcomes, waiting, sleeping, failures, capacity, count: 0 })
}

impl HashQueue {
    /// Hands a password in, to be compared with a stored one: that of the user, or if there is no such user one that costs
    /// the same. What is returned resolves to whether it is right, or to an error if nobody is going to check it.
    pub(super) fn check(
        &self,
        origin: Origin,
        (stored, is_user): (&Arc<StoredPassword>, bool),
        password: &[u8],
    ) -> Result<oneshot::Receiver<bool>, Busy> {
        let (answer, result) = oneshot::channel();
        let check = Check { stored: Arc::clone(stored), is_user, password: password.into(), answer };
        self.0.try_send(Request::Check(origin, check)).map_err(|_| Busy)?;
        Ok(result)
    }

    /// For an attempt that is checked elsewhere: resolves when that may begin, or to an error if there are too many.
    pub(in crate::hooks::stock) fn wait(&self, origin: Origin) -> Result<oneshot::Receiver<()>, Busy> {
        let (answer, result) = oneshot::channel();
        self.0.try_send(Request::Wait(origin, answer)).map_err(|_| Busy)?;
        Ok(result)
    }

    /// What an attempt came to that was checked elsewhere.
    pub(in crate::hooks::stock) fn settle(&self, origin: Origin, right: bool) {
        // If nobody has time to listen, everybody is refused as it is.
        let _ = self.0.try_send(Request::Outcome(Outcome { origin, right }));
    }
}

impl HashWork {
    /// A worker, for a thread of its own.
    pub fn worker(&self) -> HashWorker {
        HashWorker { checks: self.checks.1.clone(), outcomes: self.outcomes.0.clone(), memory: HashMemory::default() }
    }

    /// Gives the workers their checks until all queues are gone and all is done that need not wait. `clock` is the time.
    pub fn run(mut self, clock: impl Fn() -> Time) {
        let (to_workers, outcomes) = (self.checks.0.clone(), self.outcomes.1.clone());
        let (mut next, mut is_open): (Option<Turn>, _) = (None, true);
        loop {
            self.wake(clock());
            next = next.filter(|(_, check)| check.is_needed()).or_else(|| self.next(clock()));
            if next.is_none() && !is_open {
                return;
            }
            let mut select = Select::new();
            let outcome = select.recv(&outcomes);
            let request = if is_open { Some(select.recv(&self.requests)) } else { None };
            let worker = next.is_some().then(|| select.send(&to_workers));
            let sleeps = self.sleeping.first_key_value().map_or(Time::NEVER, |((due, _), _)| *due);
            let selected = match self.waiting.due().min(sleeps) {
                Time::NEVER => select.select(),
                due => match select.select_timeout(due.since(clock())) {
                    Ok(selected) => selected,
                    Err(_) => continue,
                },
            };
            let index = selected.index();
            if index == outcome {
                let outcome = selected.recv(&outcomes);
                outcome.into_iter().for_each(|outcome| self.learn(&outcome, clock()));
            } else if Some(index) == request {
                match selected.recv(&self.requests) {
                    Ok(request) => self.take(request, clock()),
                    Err(_) => is_open = false,
                }
            } else if Some(index) == worker
                && let Some(turn) = next.take()
            {
                // There is a receiver: our own.
                let _ = selected.send(&to_workers, turn);
            }
        }
    }

    /// Does what has been handed in so far and whose turn has come at `now`, on this thread, with `worker`. How much it was.
    pub fn run_until_idle(&mut self, worker: &mut HashWorker, now: Time) -> usize {
        let mut done = 0;
        loop {
            while let Ok(request) = self.requests.try_recv() {
                self.take(request, now);
            }
            while let Ok(outcome) = self.outcomes.1.try_recv() {
                self.learn(&outcome, now);
            }
            self.wake(now);
            match self.next(now) {
                Some(turn) => worker.check(turn),
                None => return done,
            }
            done += 1;
        }
    }

    fn take(&mut self, request: Request, now: Time) {
        match request {
            Request::Outcome(outcome) => self.learn(&outcome, now),
            Request::Check(origin, check) => {
                let not_before = now + self.failures.delay(&origin, now);
                let rank = Rank { not_before, known: self.failures.is_known(&origin, now) };
                // One that does not fit in is dropped, and its answer is that nobody is going to check it.
                let _ = self.waiting.push(origin, check, rank, Check::is_needed);
            }
            Request::Wait(origin, answer) => {
                let due = now + self.failures.delay(&origin, now);
                if due <= now {
                    // Whoever asked may be gone by now.
                    let _ = answer.send(());
                    return;
                }
                if self.sleeping.len() >= self.capacity {
                    self.sleeping.retain(|_, answer| !answer.is_canceled());
                }
                if self.sleeping.len() < self.capacity {
                    self.count += 1;
                    self.sleeping.insert((due, self.count), answer);
                }
            }
        }
    }

    /// Tells those whose time has come.
    fn wake(&mut self, now: Time) {
        while let Some(first) = self.sleeping.first_entry()
            && first.key().0 <= now
        {
            let _ = first.remove().send(());
        }
    }

    fn learn(&mut self, Outcome { origin, right }: &Outcome, now: Time) {
        match right {
            true => self.failures.succeeded(origin, now),
            false => self.failures.failed(origin, now),
        }
    }

    /// Whose turn it is, of those that somebody waits for.
    fn next(&mut self, now: Time) -> Option<Turn> {
        std::iter::from_fn(|| self.waiting.pop(now)).find(|(_, check)| check.is_needed())
    }
}

impl HashWorker {
    /// Checks passwords as they come, until the [`HashWork`] is gone. Without work its memory goes back to the system.
    pub fn run(mut self) {
        loop {
            match self.checks.recv_timeout(IDLE) {
                Ok(turn) => self.check(turn),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    self.memory.release();
                    match self.checks.recv() {
                        Ok(turn) => self.check(turn),
                        Err(_) => return,
                    }
                }
            }
        }
    }

    fn check(&mut self, (origin, check): Turn) {
        // Whoever asked may be gone by now.
        if !check.is_needed() {
            return;
        }
        let Check { stored, is_user, password, answer } = check;
        // Without memory there is no answer: the client is told to come again.
        let Ok(fits) = stored.check(&password, &mut self.memory) else { return };
        let right = fits && is_user;
        let _ = answer.send(right);
        let _ = self.outcomes.send(Outcome { origin, right });
    }
}

impl Check {
    /// Whether anybody waits for the answer.
    fn is_needed(&self) -> bool {
        !self.answer.is_canceled()
    }
}

impl fmt::Debug for HashQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashQueue").field("waiting", &self.0.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HashWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashWork").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HashWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashWorker").field("memory", &self.memory.held()).finish_non_exhaustive()
    }
}
