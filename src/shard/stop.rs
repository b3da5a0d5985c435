//! How far an orderly stop is on one shard.

/// The progress of an orderly stop.
///
/// ```text
///   Running ── Stop ──► Publishing ── own wills are out ──► Waiting ── those of the others, too ──► Closing ──► Stopped
///                           └────────────── the time for that is over ─────────────────────────────┘
/// ```
///
/// No connection is closed before every shard has published its wills, and this one has received them: so whoever is
/// connected gets them, wherever he is.
#[derive(Debug)]
pub(super) struct Stop {
    stage: Stage,
    /// How many other shards have not said that their wills are published. They may say so before this one stops.
    awaited: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Publishing,
    Waiting,
    Closing,
    Stopped,
}

impl Stop {
    /// Of one of so many shards.
    pub fn new(shards: usize) -> Self {
        Stop { stage: Stage::Running, awaited: shards - 1 }
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

    /// Whether the connections are to be closed now: all wills have come. True once.
    pub fn closes(&mut self) -> bool {
        self.awaited == 0 && self.advance(Stage::Waiting, Stage::Closing)
    }

    /// Whether connections are closed as they come.
    pub fn is_closing(&self) -> bool {
        self.stage >= Stage::Closing
    }

    /// Nothing is left to be done. True once.
    pub fn ends(&mut self) -> bool {
        self.advance(Stage::Closing, Stage::Stopped)
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
        assert!(!stop.has_begun() && !stop.closes() && !stop.ends());
        assert!(stop.begin() && !stop.begin() && stop.has_begun());
        assert!(!stop.closes(), "its own are not out");
        assert!(stop.has_published() && !stop.has_published());
        assert!(!stop.closes(), "one is awaited");
        stop.other_has_published();
        assert!(!stop.is_closing() && stop.closes() && !stop.closes() && stop.is_closing());
        assert!(stop.ends() && !stop.ends() && stop.is_closing());
    }

    #[test]
    fn nobody_waits_for_ever_for_a_shard_that_says_nothing() {
        let mut stop = Stop::new(2);
        stop.begin();
        assert!(!stop.closes());
        stop.wait_no_longer();
        assert!(stop.closes() && !stop.has_published() && stop.ends());
    }
}
