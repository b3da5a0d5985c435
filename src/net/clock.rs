//! The one clock of the broker: all shards count from the same start.

use std::sync::OnceLock;
use std::time::Instant;

use crate::time::Time;

/// Monotonic time since the broker started. Copies of one clock agree, on whatever thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The time, rounded down to a millisecond: to be read once per turn.
    pub fn now(&self) -> Time {
        Time::from_millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds since the first call: for measuring what takes less than a turn.
pub fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
