//! Pauses: the reasons not to serve the packets of a connection.

/// A reason not to serve packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PauseReason {
    /// A hook answers later.
    HookAnswer = 1,
    /// The session of the connecting client is still on another shard.
    SessionArrival = 1 << 1,
    /// Tasks of notifications about the connecting client's subscriber id are not done.
    Registration = 1 << 2,
    /// The connection is about to be handed to the shard that owns its client.
    HandOff = 1 << 3,
    /// Other shards are taking in a subscription.
    Subscribe = 1 << 4,
    /// A hook asked for a pause, or the message rate is used up.
    Throttle = 1 << 5,
    /// The client does not read what it is sent.
    OutputFull = 1 << 6,
    /// The queue to another shard is full, or many wills wait for room.
    Congestion = 1 << 7,
    /// Its session moves to another shard.
    Migration = 1 << 8,
    /// Tasks of notifications about the connected client are not done. Nothing is sent, either.
    Notification = 1 << 9,
    /// Clients that it publishes to have not taken yet what is for them.
    SlowConsumer = 1 << 10,
    /// It is about to be closed.
    Closing = 1 << 11,
    /// It has had its share of the turn.
    Turn = 1 << 12,
    /// Its client takes over a connection whose last bytes are being read.
    Takeover = 1 << 13,
    /// What it publishes must not be dropped, and clients have not taken yet what is for them.
    Lossless = 1 << 14,
    /// It publishes, and the broker holds nearly as much memory as it may.
    Memory = 1 << 15,
    /// It publishes, and the journal has no room for what would have to be recorded.
    Disk = 1 << 16,
    /// What it is told with CONNACK is not on disk yet. Nothing is sent, either.
    Commit = 1 << 17,
}

/// The reasons that only slow a client down: nothing has begun that must be done before its next packet.
const PACE: u32 = PauseReason::Throttle as u32
    | PauseReason::OutputFull as u32
    | PauseReason::Congestion as u32
    | PauseReason::SlowConsumer as u32
    | PauseReason::Lossless as u32
    | PauseReason::Memory as u32
    | PauseReason::Disk as u32
    | PauseReason::Turn as u32;

/// The reasons that end when others have taken what waits for them, or when it is the client's turn.
const ROOM: u32 = PauseReason::Congestion as u32
    | PauseReason::SlowConsumer as u32
    | PauseReason::Lossless as u32
    | PauseReason::Disk as u32
    | PauseReason::Turn as u32;

/// The reasons that end by themselves within a time, because what has begun for the client is bounded, or with [`ROOM`]. They hold up what a
/// client sent before it left, and do not make it void.
const OURS: u32 = ROOM
    | PauseReason::Throttle as u32
    | PauseReason::Memory as u32
    | PauseReason::HookAnswer as u32
    | PauseReason::Subscribe as u32
    | PauseReason::Migration as u32
    | PauseReason::Notification as u32
    | PauseReason::Commit as u32;

/// A set of [`PauseReason`]s. Packets are served only while it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauseReasons(u32);

impl PauseReasons {
    /// Whether there is no reason to wait.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is one of them.
    #[inline]
    pub fn contains(self, reason: PauseReason) -> bool {
        self.0 & reason as u32 != 0
    }

    /// Whether nothing may be sent, either.
    #[inline]
    pub fn hold_output(self) -> bool {
        self.0 & (PauseReason::Notification as u32 | PauseReason::Commit as u32) != 0
    }

    /// Whether `reason` is one of them, and the only one.
    #[inline]
    pub fn is_only(self, reason: PauseReason) -> bool {
        self.0 == reason as u32
    }

    /// Whether there are reasons, and all of them end without the client: when others have taken what waits for them, when it is the client's
    /// turn, or when what has begun is done. What has come of it is served then, though it be gone.
    pub fn end_without_client(self) -> bool {
        self.0 != 0 && self.0 & !OURS == 0
    }

    /// Whether the client waits for something that is not its own fault.
    pub fn is_waiting_for_us(self) -> bool {
        self.0 & !(PauseReason::OutputFull as u32) != 0
    }

    /// Whether something that has begun must be done before the next packet can be served.
    pub fn is_amid_something(self) -> bool {
        self.0 & !PACE != 0
    }

    /// Removes all reasons that only slow the client down.
    pub fn remove_pace(&mut self) {
        self.0 &= !PACE;
    }

    /// Removes all reasons that concern the shard that a connection has left.
    pub fn keep_across_shards(&mut self) {
        self.0 &= PauseReason::Throttle as u32;
    }

    /// Adds a reason.
    pub fn insert(&mut self, reason: PauseReason) {
        self.0 |= reason as u32;
    }

    /// Removes a reason. True if it was one of them.
    pub fn remove(&mut self, reason: PauseReason) -> bool {
        let was = self.contains(reason);
        self.0 &= !(reason as u32);
        was
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_served_when_the_last_reason_has_gone() {
        let mut reasons = PauseReasons::default();
        assert!(!reasons.remove(PauseReason::HookAnswer) && reasons.is_empty());
        reasons.insert(PauseReason::HookAnswer);
        reasons.insert(PauseReason::Throttle);
        reasons.insert(PauseReason::HookAnswer);
        assert!(reasons.contains(PauseReason::HookAnswer) && !reasons.contains(PauseReason::OutputFull));
        assert!(reasons.remove(PauseReason::HookAnswer) && !reasons.is_empty(), "the other one is left");
        assert!(reasons.remove(PauseReason::Throttle) && reasons.is_empty());
    }

    #[test]
    fn a_client_that_does_not_read_waits_for_itself_alone() {
        let mut reasons = PauseReasons::default();
        reasons.insert(PauseReason::OutputFull);
        assert!(!reasons.is_waiting_for_us());
        for bit in (0..=17).filter(|bit| 1 << bit != PauseReason::OutputFull as u32) {
            assert!(PauseReasons(reasons.0 | 1 << bit).is_waiting_for_us());
        }
    }

    #[test]
    fn only_a_throttle_goes_along_to_another_shard() {
        let mut reasons = PauseReasons(u32::MAX);
        reasons.keep_across_shards();
        assert_eq!(reasons, PauseReasons(PauseReason::Throttle as u32));
    }
}
