//! Who has failed to log in of late, and how long the next attempt waits for that.
//!
//! An address and a user name count each by itself: somebody who tries many names from one address waits, and so does
//! somebody who tries one name from many addresses. The wait is before the check and the same for a right password, so that
//! nobody learns anything by it; it is short, so that whoever knows the password gets in all the same, at whatever rate
//! others guess.
//!
//! Only hashes of names and addresses are kept, in two generations: what is not heard of again is forgotten with the
//! older one.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::client::network;
use crate::time::Time;

/// Failures that cost nothing: anybody mistypes.
const FREE: u32 = 3;
/// The wait after the first failure that does.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// How long a failure is remembered, at least; at most twice that.
const FAILURES_LAST: Duration = Duration::from_secs(60);
/// How long a success is remembered, at least.
const SUCCESSES_LAST: Duration = Duration::from_secs(3600);
/// How many of each are in one generation.
const MOST: usize = 65_536;

/// Where an attempt to log in comes from, and who it says it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::hooks::stock) struct Origin {
    pub address: IpAddr,
    pub user: Arc<str>,
}

impl Origin {
    /// An attempt from this address; its network counts.
    pub fn new(address: IpAddr, user: Arc<str>) -> Self {
        Origin { address: network(address), user }
    }
}

/// Who has failed, and who has succeeded.
pub(super) struct Failures {
    longest: Duration,
    hasher: RandomState,
    failed: Generations<HashMap<u64, u32>>,
    succeeded: Generations<HashSet<u64>>,
}

/// What has been learnt of late, and what before that.
#[derive(Default)]
struct Generations<T> {
    young: T,
    old: T,
    since: Time,
}

impl<T: Default> Generations<T> {
    /// Begins a generation if the young one is `last` old, or `is_full`.
    fn turn(&mut self, now: Time, last: Duration, is_full: impl Fn(&T) -> bool) {
        let age = now.since(self.since);
        if age >= last || is_full(&self.young) {
            self.old = std::mem::take(&mut self.young);
            self.since = now;
        }
        if age >= last * 2 {
            self.old = T::default();
        }
    }
}

impl Failures {
    /// Nobody yet. `longest` is how long an attempt waits at most.
    pub fn new(longest: Duration) -> Self {
        let (failed, succeeded) = Default::default();
        Failures { longest, hasher: RandomState::new(), failed, succeeded }
    }

    /// How long the next attempt waits.
    pub fn delay(&mut self, origin: &Origin, now: Time) -> Duration {
        self.failed.turn(now, FAILURES_LAST, |young| young.len() >= MOST);
        let failures = self.keys(origin).map(|key| self.failures(key)).into_iter().max().unwrap_or(0);
        match failures.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => FIRST_DELAY.saturating_mul(1 << doublings.min(20)).min(self.longest),
        }
    }

    /// Whether this user has logged in from there before: comes first where many wait.
    pub fn is_known(&mut self, origin: &Origin, now: Time) -> bool {
        self.succeeded.turn(now, SUCCESSES_LAST, |young| young.len() >= MOST);
        let both = self.hasher.hash_one(origin);
        let Generations { young, old, .. } = &self.succeeded;
        young.contains(&both) || old.contains(&both)
    }

    /// The password was wrong.
    pub fn failed(&mut self, origin: &Origin, now: Time) {
        self.failed.turn(now, FAILURES_LAST, |young| young.len() >= MOST);
        for key in self.keys(origin) {
            let failures = self.failures(key).saturating_add(1);
            self.failed.young.insert(key, failures);
        }
    }

    /// The password was right.
    pub fn succeeded(&mut self, origin: &Origin, now: Time) {
        self.succeeded.turn(now, SUCCESSES_LAST, |young| young.len() >= MOST);
        let both = self.hasher.hash_one(origin);
        self.succeeded.young.insert(both);
    }

    fn failures(&self, key: u64) -> u32 {
        let Generations { young, old, .. } = &self.failed;
        young.get(&key).or_else(|| old.get(&key)).copied().unwrap_or(0)
    }

    fn keys(&self, origin: &Origin) -> [u64; 2] {
        [self.hasher.hash_one(("address", origin.address)), self.hasher.hash_one(("user", &*origin.user))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str, user: &str) -> Origin {
        Origin::new(address.parse().unwrap(), user.into())
    }

    const NOW: Time = Time::from_millis(1_000_000);

    #[test]
    fn the_wait_grows_with_the_failures_of_an_address_or_a_user() {
        let mut failures = Failures::new(Duration::from_secs(2));
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(failures.delay(&origin("10.0.0.1", "ann"), NOW).as_millis());
            failures.failed(&origin("10.0.0.1", "ann"), NOW);
        }
        assert_eq!(waits, [0, 0, 0, 0, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
        assert_eq!(failures.delay(&origin("10.0.0.1", "bob"), NOW), Duration::from_secs(2), "the address");
        assert_eq!(failures.delay(&origin("10.0.0.2", "ann"), NOW), Duration::from_secs(2), "the user");
        assert_eq!(failures.delay(&origin("10.0.0.2", "bob"), NOW), Duration::ZERO);
        let mut none = Failures::new(Duration::ZERO);
        (0..9).for_each(|_| none.failed(&origin("10.0.0.1", "ann"), NOW));
        assert_eq!(none.delay(&origin("10.0.0.1", "ann"), NOW), Duration::ZERO);
    }

    #[test]
    fn failures_are_forgotten_in_time_and_never_too_many() {
        let mut failures = Failures::new(Duration::from_secs(2));
        let ann = origin("10.0.0.1", "ann");
        (0..9).for_each(|_| failures.failed(&ann, NOW));
        assert!(failures.delay(&ann, NOW + FAILURES_LAST) > Duration::ZERO, "remembered for a minute");
        assert_eq!(failures.delay(&ann, NOW + FAILURES_LAST * 3), Duration::ZERO);
        for user in 0..MOST * 2 {
            failures.failed(&origin("10.0.0.2", &user.to_string()), NOW);
        }
        assert!(failures.failed.young.len() + failures.failed.old.len() <= 2 * MOST + 4);
    }

    #[test]
    fn who_logged_in_from_there_is_known() {
        let mut failures = Failures::new(Duration::ZERO);
        failures.succeeded(&origin("10.0.0.1", "ann"), NOW);
        assert!(failures.is_known(&origin("10.0.0.1", "ann"), NOW + SUCCESSES_LAST));
        assert!(!failures.is_known(&origin("10.0.0.2", "ann"), NOW));
        assert!(!failures.is_known(&origin("10.0.0.1", "bob"), NOW));
        assert!(!failures.is_known(&origin("10.0.0.1", "ann"), NOW + SUCCESSES_LAST * 3));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(origin("2001:db8::1", "a"), origin("2001:db8::ffff:2", "a"));
        assert_ne!(origin("2001:db8::1", "a"), origin("2001:db8:0:1::1", "a"));
        assert_eq!(origin("::ffff:10.0.0.1", "a"), origin("10.0.0.1", "a"));
    }
}
