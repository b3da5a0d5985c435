//! Time as the core sees it: a number that is handed in.
//!
//! Nothing below `net` reads a clock. The runtime reads the monotonic clock once per turn and passes it along as a
//! [`Time`]; tests and the simulator make it up.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the broker started, the same on every shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment the broker started.
    pub const ZERO: Time = Time(0);
    /// Later than anything that will ever happen: "no deadline".
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Self {
        Time(millis)
    }

    /// Milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates at [`Time::NEVER`], so that "in `u64::MAX` seconds" means never instead of a moment ago. A fraction of a
    /// millisecond is rounded up: a deadline never comes early.
    fn add(self, after: Duration) -> Time {
        let millis = after.as_nanos().div_ceil(1_000_000);
        Time(u64::try_from(millis).map_or(u64::MAX, |millis| self.0.saturating_add(millis)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, before: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(before.as_millis()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_never_comes_early_and_never_wraps() {
        assert_eq!(Time::ZERO + Duration::from_micros(1), Time::from_millis(1));
        assert_eq!(Time::from_millis(5) + Duration::MAX, Time::NEVER);
        assert_eq!(Time::from_millis(5) - Duration::from_secs(1), Time::ZERO);
        assert_eq!(Time::from_millis(5).since(Time::from_millis(9)), Duration::ZERO);
    }
}
