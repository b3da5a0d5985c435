//! The start of a broker with a store: no shard accepts connections before all have what was stored, and know of each other what clients have
//! subscribed to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How often a shard looks whether the others are ready.
pub const LOOK: Duration = Duration::from_millis(1);

/// What is awaited of all shards, one thing after the other.
#[derive(Debug)]
pub struct Opening {
    shards: usize,
    /// How many shards have come to each step.
    steps: Mutex<[usize; STEPS]>,
    /// What has to be done when all sessions are there, by who starts the shards, is done.
    is_between_done: AtomicBool,
    changed: Condvar,
}

const STEPS: usize = 2;

/// A step of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sessions are there, and other shards know what they have subscribed to.
    Restored = 0,
    /// What the end of the last broker meant for them has happened: clients may come.
    Ready = 1,
}

impl Opening {
    /// Of so many shards, none of which has come to any step.
    pub fn of(shards: usize) -> Self {
        let (steps, changed) = (Mutex::new([0; STEPS]), Condvar::new());
        Opening { shards, steps, is_between_done: AtomicBool::new(false), changed }
    }

    /// What has to be done when all sessions are there is done.
    pub fn go_on(&self) {
        self.is_between_done.store(true, Ordering::Release);
    }

    /// Whether the sessions are there, and what had to be done then is.
    pub fn may_go_on(&self) -> bool {
        self.is_between_done.load(Ordering::Acquire) && self.is_reached(Step::Restored)
    }

    /// A shard has come to a step.
    pub fn reach(&self, step: Step) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps[step as usize] += 1;
        self.changed.notify_all();
    }

    /// Whether all shards have.
    pub fn is_reached(&self, step: Step) -> bool {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)[step as usize] == self.shards
    }

    /// Waits until all shards have come to this step; or `until` says otherwise, which is asked now and then.
    pub fn wait(&self, step: Step, mut until: impl FnMut() -> bool) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        while steps[step as usize] < self.shards && !until() {
            let waited = self.changed.wait_timeout(steps, Duration::from_millis(100));
            steps = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
