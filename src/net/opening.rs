//! The start of a broker with a store: no shard accepts connections before all have what was stored, and know of each other what clients have
//! subscribed to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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

const STEPS: usize = 3;

/// A step of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The sessions are there, and other shards know what they have subscribed to.
    Restored = 0,
    /// What the end of the last broker meant for them has happened. A client may come to any shard when it has on all: shards hand clients over to
    /// each other.
    Ended = 1,
    /// Clients may come.
    Open = 2,
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

/// How far a shard is with the start.
pub struct Start {
    opening: Arc<Opening>,
    next: Step,
}

impl Start {
    /// One that has come to no step.
    pub fn new(opening: Arc<Opening>) -> Self {
        Start { opening, next: Step::Restored }
    }

    /// The step that the shard can take now, if there is one; [`came_to`](Self::came_to) has to follow.
    pub fn next(&self, is_restored: impl FnOnce() -> bool) -> Option<Step> {
        let may_go_on = match self.next {
            Step::Restored => is_restored(),
            Step::Ended => self.opening.may_go_on(),
            Step::Open => self.opening.is_reached(Step::Ended),
        };
        may_go_on.then_some(self.next)
    }

    /// The shard has taken this step. Whether there is another one.
    pub fn came_to(&mut self, step: Step) -> bool {
        self.opening.reach(step);
        let next = match step {
            Step::Restored => Some(Step::Ended),
            Step::Ended => Some(Step::Open),
            Step::Open => None,
        };
        self.next = next.unwrap_or(step);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that lets a client in may hand it over to any other one, which must not take it for one of those whose broker has died.
    #[test]
    fn no_shard_lets_clients_in_before_all_sessions_have_ended_their_connections() {
        let opening = Arc::new(Opening::of(2));
        let [mut fast, mut slow] = [(); 2].map(|()| Start::new(Arc::clone(&opening)));
        assert_eq!(fast.next(|| false), None);
        assert_eq!(fast.next(|| true), Some(Step::Restored));
        assert!(fast.came_to(Step::Restored) && slow.came_to(Step::Restored));
        assert_eq!(fast.next(|| true), None, "what is done in between is not");
        opening.go_on();
        assert_eq!((fast.next(|| true), slow.next(|| true)), (Some(Step::Ended), Some(Step::Ended)));
        assert!(fast.came_to(Step::Ended));
        assert_eq!((fast.next(|| true), slow.next(|| true)), (None, Some(Step::Ended)), "the other one is not so far");
        assert!(slow.came_to(Step::Ended));
        assert_eq!((fast.next(|| true), slow.next(|| true)), (Some(Step::Open), Some(Step::Open)));
        assert!(!fast.came_to(Step::Open) && !opening.is_reached(Step::Open));
        assert!(!slow.came_to(Step::Open) && opening.is_reached(Step::Open));
    }
}
