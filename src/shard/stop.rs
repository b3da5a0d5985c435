//! How far an orderly stop is on one shard.

use super::draining::Draining;

/// The progress of an orderly stop.
///
/// ```text
///   Running ── Stop ──► Publishing ── own wills are out ──► Waiting ── those of the others, too ──► Draining ──► Closed ──► Stopped
///                           └────────────── the time for that is over ─────────────────────────────┘
/// ```
///
/// No connection is closed before every shard has published its wills, and this one has received them: so whoever is
/// connected gets them, wherever he is; then those that take what waits for them have it: see [`draining`](super::draining).
#[derive(Debug)]
pub(super) struct Stop {
    stage: Stage,
    /// How many other shards have not said that their wills are published. They may say so before this one stops.
    awaited: usize,
    /// Connections that are still to be closed.
    pub draining: Draining,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Publishing,
    Waiting,
    Draining,
    Closed,
    Stopped,
}

impl Stop {
    /// Of one of so many shards.
    pub fn new(shards: usize) -> Self {
        Stop { stage: Stage::Running, awaited: shards - 1, draining: Draining::default() }
    }

    /// Begins the stop. False if it has begun already.
    pub fn begin(&mut self) -> bool {
        self.advance(Stage::Running, Stage::Publishing)
    }

    /// Whether it has begun.
    #[inline]
    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Another shard has published its wills: they have come.
    pub fn other_has_published(&mut self) {
        self.awaited = self.awaited.saturating_sub(1);
    }

    /// All wills of this shard are published. True the first time.
    pub fn has_published(&mut self) -> bool {
        self.advance(Stage::Publishing, Stage::Waiting)
    }

    /// There is no more time to wait for the wills of the others.
    pub fn wait_no_longer(&mut self) {
        self.has_published();
        self.awaited = 0;
    }

    /// Whether the connections are to be closed from now on: all wills have come. True once.
    pub fn drains(&mut self) -> bool {
        self.awaited == 0 && self.advance(Stage::Waiting, Stage::Draining)
    }

    /// Whether connections are closed as they come.
    pub fn is_closing(&self) -> bool {
        self.stage >= Stage::Draining
    }

    /// All connections are closed.
    pub fn all_closed(&mut self) {
        self.advance(Stage::Draining, Stage::Closed);
    }

    /// Nothing is left to be done. True once.
    pub fn ends(&mut self) -> bool {
        self.advance(Stage::Closed, Stage::Stopped)
    }

    fn advance(&mut self, from: Stage, to: Stage) -> bool {
        let advances = self.stage == from;
        if advances {
            self.stage = to;
        }
        advances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_closed_when_the_wills_of_all_shards_have_come() {
        let mut stop = Stop::new(3);
        // Another one was asked to stop first.
        stop.other_has_published();
        assert!(!stop.has_begun() && !stop.drains() && !stop.ends());
        assert!(stop.begin() && !stop.begin() && stop.has_begun());
        assert!(!stop.drains(), "its own are not out");
        assert!(stop.has_published() && !stop.has_published());
        assert!(!stop.drains(), "one is awaited");
        stop.other_has_published();
        assert!(!stop.is_closing() && stop.drains() && !stop.drains() && stop.is_closing());
        assert!(!stop.ends(), "some are open");
        stop.all_closed();
        assert!(stop.ends() && !stop.ends() && stop.is_closing());
    }

    #[test]
    fn nobody_waits_for_ever_for_a_shard_that_says_nothing() {
        let mut stop = Stop::new(2);
        stop.begin();
        assert!(!stop.drains());
        stop.wait_no_longer();
        assert!(stop.drains() && !stop.has_published());
        stop.all_closed();
        assert!(stop.ends());
    }
}
