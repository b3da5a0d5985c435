//! The places for connections: of each listener, of the whole broker, and of the descriptors of the process. All shards
//! take from the same ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{Config, Limit, ListenerConfig};
use crate::shard::Admission;
use crate::sharding::Quota;
use crate::time::Time;

/// Connections that are refused with a CONNACK at the same time. Further ones are closed without a word.
pub const REFUSED_AT_A_TIME: usize = 256;

/// The places for connections.
#[derive(Debug)]
pub struct Places {
    listeners: Box<[Listener]>,
    connections: Quota,
    refusals: Quota,
    /// Sockets, those that are being closed included.
    pub(super) sockets: Arc<Quota>,
}

#[derive(Debug)]
struct Listener {
    places: Quota,
    /// Connections a second; 0: as many as come.
    rate: u32,
    /// The last second in which one was accepted, from the 32nd bit on, and how many were.
    accepted: AtomicU64,
}

impl Places {
    /// The places that `config` allows on so many shards, if the process has descriptors for so many `sockets`.
    pub fn new(config: &Config, shards: usize, sockets: usize) -> Self {
        let listener = |listener: &ListenerConfig| Listener {
            places: Quota::new(listener.max_connections, shards),
            rate: listener.connection_rate.unwrap_or(config.limits.connection_rate),
            accepted: AtomicU64::new(0),
        };
        // Some are left for those that are refused.
        let refusals = REFUSED_AT_A_TIME.min(sockets / 8).max(1);
        let most = sockets.saturating_sub(refusals).max(1);
        let connections = config.limits.max_connections.map_or(most, |wanted| wanted.min(most));
        Places {
            listeners: config.listeners.iter().map(listener).collect(),
            connections: Quota::new(Limit::at_most(connections), shards),
            refusals: Quota::new(Limit::at_most(refusals), shards),
            sockets: Arc::new(Quota::new(Limit::at_most(sockets), shards)),
        }
    }

    /// Takes a place for a connection that `shard` has accepted. None if there is not even one to refuse it.
    pub(super) fn take(&self, shard: usize, listener: usize, now: Time) -> Option<Admission> {
        let own = &self.listeners[listener];
        let admission = if !own.places.take(shard, 1) {
            Admission::Full
        } else if !self.connections.take(shard, 1) {
            own.places.give_back(shard, 1);
            Admission::Full
        } else if !own.is_in_time(now) {
            self.give_back(shard, Some(listener));
            Admission::TooFast
        } else {
            return Some(Admission::Admitted);
        };
        self.refusals.take(shard, 1).then_some(admission)
    }

    /// Gives back the place of a connection: of `listener`, or of those that are refused.
    pub(super) fn give_back(&self, shard: usize, listener: Option<usize>) {
        match listener {
            Some(listener) => {
                self.listeners[listener].places.give_back(shard, 1);
                self.connections.give_back(shard, 1);
            }
            None => self.refusals.give_back(shard, 1),
        }
    }
}

impl Listener {
    /// Counts a connection at `now`; false, and it is not counted, if it is one too many in this second.
    fn is_in_time(&self, now: Time) -> bool {
        let second = now.as_millis() / 1000;
        let counted = self.accepted.fetch_update(Ordering::AcqRel, Ordering::Acquire, |accepted| {
            // A shard whose turn began in the second before counts with the others.
            let count = if accepted >> 32 >= second { accepted & u64::from(u32::MAX) } else { 0 };
            (count < u64::from(self.rate)).then_some((accepted >> 32).max(second) << 32 | (count + 1))
        });
        self.rate == 0 || counted.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Time = Time::from_millis;

    fn places(settings: &str, shards: usize, sockets: usize) -> Places {
        Places::new(&Config::from_toml(settings, "test").expect("the settings are valid"), shards, sockets)
    }

    #[test]
    fn a_broker_takes_exactly_as_many_as_it_may_on_whatever_shards() {
        for by_listener in [false, true] {
            let limit = if by_listener { "listeners.l.max_connections = 5" } else { "limits.max_connections = 5" };
            let places = places(limit, 4, 1000);
            let take = |shard| places.take(shard, 0, AT(0));
            assert_eq!([1, 1, 1, 2, 1].map(take), [Some(Admission::Admitted); 5], "{limit}");
            assert_eq!([0, 1, 2, 3].map(take), [Some(Admission::Full); 4]);
            // Who is being refused has no place that others could miss.
            places.give_back(1, Some(0));
            assert_eq!([3, 3].map(take), [Some(Admission::Admitted), Some(Admission::Full)]);
        }
    }

    #[test]
    fn so_many_are_refused_at_a_time() {
        let places = places("limits.max_connections = 1", 2, 10_000);
        let take = |shard| places.take(shard, 0, AT(0));
        assert_eq!(take(0), Some(Admission::Admitted));
        assert!((0..REFUSED_AT_A_TIME).all(|number| take(number % 2) == Some(Admission::Full)));
        assert_eq!([take(0), take(1)], [None; 2]);
        places.give_back(0, None);
        assert_eq!([take(1), take(1)], [Some(Admission::Full), None]);
    }

    #[test]
    fn descriptors_limit_connections_and_leave_some_to_refuse_others() {
        let places = places("", 2, 80);
        let taken: Vec<_> = (0..100).map_while(|number| places.take(number % 2, 0, AT(0))).collect();
        assert_eq!(taken, [vec![Admission::Admitted; 70], vec![Admission::Full; 10]].concat());
    }

    #[test]
    fn a_rate_is_that_of_all_shards_and_a_full_listener_refuses_before_a_fast_one() {
        let places = places("listeners.l.max_connections = 4\nlisteners.l.connection_rate = 3", 4, 1000);
        let take = |shard, at| places.take(shard, 0, AT(at));
        assert_eq!([0, 1, 0].map(|shard| take(shard, 5000)), [Some(Admission::Admitted); 3]);
        assert_eq!(take(3, 5001), Some(Admission::TooFast));
        assert_eq!(take(2, 6000), Some(Admission::Admitted), "another second");
        assert_eq!(take(2, 6000), Some(Admission::Full));
    }
}
