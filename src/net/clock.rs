//! The clock of the broker. All shards count from the same start.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::time::Time;

/// A clock of the time since the broker started, monotonic. Copies of one clock agree, also on different threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Clock { start: Instant::now() }
    }

    /// The time, rounded down to a millisecond. Read once per turn.
    pub fn now(&self) -> Time {
        Time::from_millis(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Clock {
    /// The time, as exact as the system knows it: for what happens several times in a millisecond.
    pub fn exact(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Nanoseconds since the first call, to measure durations shorter than a turn.
pub fn nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
