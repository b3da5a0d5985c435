//! How long a connection is waited for: packets that take their time, and looks that came late.

use std::time::Duration;

use crate::time::Time;

/// How late a look may be and still count as in time: wheels are coarse, and turns take a moment.
const IN_TIME: Duration = Duration::from_millis(100);
/// The longest time from a look that came late to the next one.
const LATEST: Duration = Duration::from_secs(60);

/// How fast a packet comes that has begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    since: Time,
    bytes: usize,
}

impl Progress {
    /// A packet has begun, with so many bytes.
    pub fn begin(&mut self, bytes: usize, now: Time) {
        *self = Progress { since: now, bytes };
    }

    /// More of it came.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// When it is to be looked at, if that is done every `interval`.
    pub fn due(&self, interval: Duration) -> Time {
        self.since + interval
    }

    /// Whether fewer than `rate` bytes a second came in the `interval` that is over now. Another one begins. If the look comes late, it says
    /// nothing, and the next interval begins as much later: as for a [`SecondLook`].
    pub fn is_too_slow(&mut self, interval: Duration, rate: usize, now: Time) -> bool {
        let late = now.since(self.due(interval));
        if late >= IN_TIME {
            self.begin(0, now + late.min(LATEST));
            return false;
        }
        let wanted = rate as u128 * interval.as_millis() / 1000;
        let is_slow = (self.bytes as u128) < wanted;
        self.begin(0, now);
        is_slow
    }
}

/// A second look at a connection whose time was over when the first look came late: the whole broker stood still, or the machine. What its
/// client sent meanwhile may be unread, or have to be sent again. So it is looked at once more, after as long as the first look was late.
#[derive(Clone, Copy, Debug, Default)]
pub struct SecondLook {
    /// The deadline that was looked at late.
    of: Time,
    at: Time,
}

impl SecondLook {
    /// When a connection is to be looked at whose time is over at `due`.
    pub fn due(&self, due: Time) -> Time {
        if self.of == due { self.at.max(due) } else { due }
    }

    /// Whether its time is over now for good. If not, though `due` has passed, there is a second look.
    pub fn is_over(&mut self, due: Time, now: Time) -> bool {
        if now < self.due(due) {
            return false;
        }
        let late = now.since(due);
        if late < IN_TIME || self.of == due {
            return true;
        }
        *self = SecondLook { of: due, at: now + late.min(LATEST) };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_packet_has_to_come_at_a_rate_in_each_interval() {
        let mut progress = Progress::default();
        progress.begin(4, at(1000));
        progress.add(6);
        assert_eq!(progress.due(SECOND), at(2000));
        assert!(!progress.is_too_slow(SECOND, 10, at(2000)));
        progress.add(9);
        assert!(progress.is_too_slow(SECOND, 10, at(3000)), "what came before does not count");
        assert!(!progress.is_too_slow(SECOND, 0, at(4000)), "any rate will do");
        assert!(!progress.is_too_slow(SECOND, 10, at(5100)), "nobody knows what is unread");
        assert_eq!(progress.due(SECOND), at(6200));
        assert!(progress.is_too_slow(SECOND, 10, at(6200)));
    }

    #[test]
    fn a_look_in_time_is_enough() {
        let mut look = SecondLook::default();
        assert!(!look.is_over(at(5000), at(4999)));
        assert!(look.is_over(at(5000), at(5099)));
    }

    #[test]
    fn after_a_late_look_there_is_another_as_much_later() {
        let mut look = SecondLook::default();
        assert!(!look.is_over(at(5000), at(8000)));
        assert_eq!((look.due(at(5000)), look.due(at(9000))), (at(11_000), at(9000)));
        assert!(!look.is_over(at(5000), at(10_999)));
        assert!(look.is_over(at(5000), at(60_000)), "and no third one");
        assert!(!look.is_over(at(70_000), at(10_000_000)), "another deadline, another stop");
        assert_eq!(look.due(at(70_000)), at(10_060_000));
    }
}
