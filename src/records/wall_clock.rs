//! The calendar: what is stored has its meaning in it, while the core counts from the start of the broker.

use std::time::Duration;

use crate::time::Time;

/// Milliseconds since the beginning of 1970, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    /// Later than anything that will ever happen.
    pub const NEVER: WallTime = WallTime(u64::MAX);

    /// The moment `millis` milliseconds after the beginning of 1970.
    pub const fn from_millis(millis: u64) -> Self {
        WallTime(millis)
    }

    /// Milliseconds since the beginning of 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// That moment, or the beginning of 1970 if it is before that.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        WallTime(whole_millis(since))
    }

    /// That moment; none if the system cannot express it.
    pub fn to_system(self) -> Option<std::time::SystemTime> {
        std::time::SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0))
    }
}

/// How the time of the core and the calendar stand to each other.
///
/// It is handed in, as the time is. When the calendar is set, [`set`](Self::set) says so: from then on what is stored has its meaning in the
/// new one. A [`Time`] that was made of it before stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    now: Time,
    wall: WallTime,
}

impl WallClock {
    /// At the moment `now` of the core it is `wall`.
    pub const fn new(now: Time, wall: WallTime) -> Self {
        WallClock { now, wall }
    }

    /// The calendar was looked at again: at `now` it is `wall`.
    pub fn set(&mut self, now: Time, wall: WallTime) {
        *self = WallClock { now, wall };
    }

    /// When `time` is in the calendar: not before 1970. Never is never, and nothing else is.
    pub fn to_wall(self, time: Time) -> WallTime {
        match time {
            Time::NEVER => WallTime::NEVER,
            time => WallTime(moved(time.as_millis(), self.now.as_millis(), self.wall.0)),
        }
    }

    /// When `wall` is for the core: [`Time::ZERO`] if it was before the broker started. Never is never, and nothing else is.
    pub fn to_time(self, wall: WallTime) -> Time {
        match wall {
            WallTime::NEVER => Time::NEVER,
            wall => Time::from_millis(moved(wall.0, self.wall.0, self.now.as_millis())),
        }
    }
}

/// What is as far from `to` as `millis` from `from`; never zero's predecessor, never the last number.
fn moved(millis: u64, from: u64, to: u64) -> u64 {
    match millis.checked_sub(from) {
        Some(after) => to.saturating_add(after).min(u64::MAX - 1),
        None => to.saturating_sub(from - millis),
    }
}

/// Whole milliseconds, rounded up: a deadline never comes early.
pub(super) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clock(now: u64, wall: u64) -> WallClock {
        WallClock::new(Time::from_millis(now), WallTime(wall))
    }

    #[test]
    fn never_stays_never_and_nothing_else_becomes_it() {
        for clock in [clock(0, 0), clock(5, u64::MAX - 3), clock(u64::MAX - 3, 5)] {
            assert_eq!(clock.to_wall(Time::NEVER), WallTime::NEVER);
            assert_eq!(clock.to_time(WallTime::NEVER), Time::NEVER);
            assert_ne!(clock.to_wall(Time::from_millis(u64::MAX - 1)), WallTime::NEVER);
            assert_ne!(clock.to_time(WallTime(u64::MAX - 1)), Time::NEVER);
        }
    }

    #[test]
    fn what_is_before_the_beginning_is_at_it() {
        assert_eq!(clock(10, 1000).to_time(WallTime(5)), Time::ZERO);
        assert_eq!(clock(1000, 10).to_wall(Time::from_millis(5)), WallTime(0));
    }

    /// The calendar is set an hour ahead: what was stored is due an hour earlier than it was thought to be.
    #[test]
    fn what_is_stored_keeps_its_meaning_when_the_calendar_is_set() {
        let mut clock = clock(1000, 7_000_000);
        let stored = clock.to_wall(Time::from_millis(4_001_000));
        assert_eq!(stored, WallTime(11_000_000));
        clock.set(Time::from_millis(2000), WallTime(7_001_000 + 3_600_000));
        assert_eq!(clock.to_time(stored), Time::from_millis(401_000));
    }

    #[test]
    fn milliseconds_are_rounded_up() {
        assert_eq!(whole_millis(Duration::from_micros(1)), 1);
        assert_eq!(whole_millis(Duration::from_millis(7)), 7);
        assert_eq!(whole_millis(Duration::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn there_and_back_is_the_same(now in 0..1_u64 << 50, wall in 1_u64 << 40..1 << 50, time in 0..1_u64 << 50) {
            let clock = clock(now, wall);
            let stored = clock.to_wall(Time::from_millis(time));
            if stored > WallTime(0) {
                prop_assert_eq!(clock.to_time(stored), Time::from_millis(time));
            }
        }
    }
}
