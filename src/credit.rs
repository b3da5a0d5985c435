//! A credit of time.

use std::time::Duration;

use crate::time::Time;

/// How much longer it takes until it comes back than it took to spend it.
const REGAIN: u64 = 20;

/// A credit of time: spent while something lasts, and regained at a twentieth of the time that passes without it. How much there is in
/// all is the same for every credit of a kind, and handed in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credit {
    /// In twentieths of a millisecond, at `at`.
    spent: u64,
    at: Time,
    /// How many things last that it is spent for, all together once.
    spending: u32,
}

impl Credit {
    /// How much is left of `all`.
    pub fn left(&self, all: Duration, now: Time) -> Duration {
        Duration::from_millis((millis(all) * REGAIN).saturating_sub(self.spent(all, now)) / REGAIN)
    }

    /// Whether all of it is there, and nothing is being spent.
    pub fn is_whole(&self, all: Duration, now: Time) -> bool {
        self.spending == 0 && self.spent(all, now) == 0
    }

    /// Something begins for which it is spent.
    pub fn begin(&mut self, all: Duration, now: Time) {
        self.settle(all, now);
        self.spending += 1;
    }

    /// Something ends for which it was spent.
    pub fn end(&mut self, all: Duration, now: Time) {
        self.settle(all, now);
        self.spending = self.spending.saturating_sub(1);
    }

    fn settle(&mut self, all: Duration, now: Time) {
        (self.spent, self.at) = (self.spent(all, now), now);
    }

    fn spent(&self, all: Duration, now: Time) -> u64 {
        let passed = millis(now.since(self.at));
        if self.spending == 0 {
            return self.spent.saturating_sub(passed);
        }
        self.spent.saturating_add(passed.saturating_mul(REGAIN)).min(millis(all) * REGAIN)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / REGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Duration = Duration::from_millis(500);

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    fn left(credit: &Credit, now: u64) -> u64 {
        millis(credit.left(ALL, at(now)))
    }

    #[test]
    fn it_is_spent_in_time_and_comes_back_at_a_twentieth_of_it() {
        let mut credit = Credit::default();
        assert!(credit.is_whole(ALL, at(0)) && left(&credit, 0) == 500);
        credit.begin(ALL, at(1000));
        assert_eq!([1000, 1100, 1500, 9000].map(|now| left(&credit, now)), [500, 400, 0, 0]);
        credit.end(ALL, at(1300));
        assert_eq!([1300, 1320, 3300, 7299].map(|now| left(&credit, now)), [200, 201, 300, 499]);
        assert!(!credit.is_whole(ALL, at(7299)) && credit.is_whole(ALL, at(7300)));
        assert_eq!(left(&credit, 100_000), 500, "never more");
    }

    #[test]
    fn what_lasts_at_the_same_time_is_spent_once() {
        let mut credit = Credit::default();
        credit.begin(ALL, at(0));
        credit.begin(ALL, at(100));
        credit.end(ALL, at(200));
        assert_eq!(left(&credit, 300), 200);
        credit.end(ALL, at(300));
        assert_eq!(left(&credit, 320), 201);
    }

    #[test]
    fn in_any_ten_seconds_no_more_than_twice_the_credit_is_spent() {
        let mut credit = Credit::default();
        let (mut spent, mut log) = (0_u64, Vec::new());
        // Whatever is there is spent at once.
        for now in 0..60_000 {
            if left(&credit, now) > 0 {
                credit.begin(ALL, at(now));
                credit.end(ALL, at(now + 1));
                spent += 1;
            }
            log.push(spent);
        }
        for from in (0..50_000).step_by(100) {
            assert!(log[from + 9_999] - log[from] <= 1000);
        }
    }
}
