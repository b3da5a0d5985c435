//! The way of passwords to a thread that has time to check them, and of the answer back.
//!
//! A queue that is full turns away at once: nobody waits for a place. A client that went away in the meantime costs no
//! work.

use std::fmt;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use futures_channel::oneshot;

use super::StoredPassword;

/// Where passwords are handed in to be checked. Clones hand in to the same queue.
#[derive(Clone)]
pub struct HashQueue(Sender<Job>);

/// The other end: checks passwords, one at a time. Each clone may work on a thread of its own.
#[derive(Clone)]
pub struct HashWork(Receiver<Job>);

struct Job {
    stored: Arc<StoredPassword>,
    password: Box<[u8]>,
    answer: oneshot::Sender<bool>,
}

/// There are too many passwords waiting, or nobody to check them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

/// A queue in which `capacity` passwords may wait, and its other end.
pub fn hash_queue(capacity: usize) -> (HashQueue, HashWork) {
    let (sender, receiver) = bounded(capacity);
    (HashQueue(sender), HashWork(receiver))
}

impl HashQueue {
    /// Hands a password in. What is returned resolves to whether it is the stored one, or to an error if nobody is
    /// going to check it.
    pub(super) fn check(&self, stored: &Arc<StoredPassword>, password: &[u8]) -> Result<oneshot::Receiver<bool>, Busy> {
        let (answer, result) = oneshot::channel();
        let job = Job { stored: Arc::clone(stored), password: password.into(), answer };
        self.0.try_send(job).map_err(|_| Busy)?;
        Ok(result)
    }
}

impl HashWork {
    /// Checks passwords as they come, until all queues are gone.
    pub fn run(self) {
        self.0.iter().for_each(Job::run);
    }

    /// Checks a password if one is waiting. Whether there was one.
    pub fn run_one(&self) -> bool {
        self.0.try_recv().map(Job::run).is_ok()
    }
}

impl Job {
    fn run(self) {
        if !self.answer.is_canceled() {
            // Whoever asked may be gone by now.
            let _ = self.answer.send(self.stored.is(&self.password));
        }
    }
}

impl fmt::Debug for HashQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashQueue").field("waiting", &self.0.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HashWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashWork").field("waiting", &self.0.len()).finish_non_exhaustive()
    }
}
