//! Why the packets of a connection are not being served.

/// A reason not to serve packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PauseReason {
    /// A hook answers later.
    Hook = 1,
    /// Other shards are taking in a subscription.
    Subscribe = 2,
    /// A hook asked for a pause, or the message rate is used up.
    Throttle = 4,
    /// The client does not read what it is sent.
    Outbox = 8,
    /// The mailbox of another shard is full.
    Mailbox = 16,
    /// Its session moves to another shard.
    Move = 32,
    /// A hook that was told of something has not done yet what it wants to do first. Nothing is sent, either.
    Notice = 64,
    /// Clients that it publishes to have not taken yet what is for them.
    Consumer = 128,
}

/// A set of [`PauseReason`]s. Packets are served only while it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseReasons(u8);

impl PauseReasons {
    /// Whether there is no reason to wait.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `hold` is one of the reasons.
    pub fn contains(self, hold: PauseReason) -> bool {
        self.0 & hold as u8 != 0
    }

    /// Whether the client waits for something that is not its own fault.
    pub fn is_waiting_for_us(self) -> bool {
        self.0 & !(PauseReason::Outbox as u8) != 0
    }

    /// Leaves the reasons that were those of another shard behind.
    pub fn settle_in(&mut self) {
        self.0 &= PauseReason::Throttle as u8;
    }

    /// Adds a reason.
    pub fn insert(&mut self, hold: PauseReason) {
        self.0 |= hold as u8;
    }

    /// Takes a reason away; true if it was there and nothing else holds.
    pub fn release(&mut self, hold: PauseReason) -> bool {
        let held = self.contains(hold);
        self.0 &= !(hold as u8);
        held && self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_served_when_the_last_reason_has_gone() {
        let mut pauses = PauseReasons::default();
        assert!(!pauses.release(PauseReason::Hook) && pauses.is_empty());
        pauses.insert(PauseReason::Hook);
        pauses.insert(PauseReason::Throttle);
        pauses.insert(PauseReason::Hook);
        assert!(pauses.contains(PauseReason::Hook) && !pauses.contains(PauseReason::Outbox));
        assert!(!pauses.release(PauseReason::Hook), "the other one pauses");
        assert!(pauses.release(PauseReason::Throttle) && pauses.is_empty());
    }

    #[test]
    fn a_client_that_does_not_read_waits_for_itself_alone() {
        let mut pauses = PauseReasons::default();
        pauses.insert(PauseReason::Outbox);
        assert!(!pauses.is_waiting_for_us());
        for hold in [PauseReason::Hook, PauseReason::Subscribe, PauseReason::Throttle, PauseReason::Mailbox, PauseReason::Notice, PauseReason::Consumer] {
            pauses.insert(hold);
            assert!(pauses.is_waiting_for_us());
            pauses.release(hold);
        }
        assert!(!pauses.is_waiting_for_us());
    }
}
