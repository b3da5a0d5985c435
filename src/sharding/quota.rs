//! Limits of the whole broker, which its shards use up together.
//!
//! What is left of a limit is dealt out to the shards. Each takes from its own part, so that two shards rarely touch the
//! same memory; one whose part is used up takes from the parts of the others. So nothing is refused while anything is
//! left anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crossbeam::utils::CachePadded;

use crate::config::{Config, Limit};

/// What is left of one limit.
#[derive(Debug)]
pub struct Quota {
    /// By shard, its part. None if there is no limit. A part is negative while more is in use than the limit allows: see
    /// [`Quota::take_anyway`].
    left: Option<Box<[CachePadded<AtomicIsize>]>>,
}

impl Quota {
    /// All of `limit` is left, for so many shards.
    pub fn new(limit: Limit, shards: usize) -> Self {
        let part = |count: usize, shard: usize| count / shards + usize::from(shard < count % shards);
        let left = |count| {
            let part = |shard| isize::try_from(part(count, shard)).unwrap_or(isize::MAX / 2);
            (0..shards).map(|shard| CachePadded::new(AtomicIsize::new(part(shard)))).collect()
        };
        Quota { left: limit.get().map(left) }
    }

    /// Takes `count` for `shard`. False, and nothing is taken, if that much is not left on all shards together. (Of several
    /// that take more than one at the same time, each may find that the others have it.)
    pub fn take(&self, shard: usize, count: usize) -> bool {
        let Some(left) = &self.left else { return true };
        let wanted = count as isize;
        let mut taken = 0;
        for other in (shard..left.len()).chain(0..shard) {
            let most = wanted - taken;
            let part = left[other]
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |part| (part > 0).then(|| part - part.min(most)));
            taken += part.map_or(0, |part| part.min(most));
            if taken == wanted {
                return true;
            }
        }
        left[shard].fetch_add(taken, Ordering::AcqRel);
        false
    }

    /// Takes one for `shard`, whether or not one is left: the next that is given back makes up for it.
    pub fn take_anyway(&self, shard: usize) {
        if !self.take(shard, 1)
            && let Some(left) = &self.left
        {
            left[shard].fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Gives back `count` that `shard` has in use.
    pub fn give_back(&self, shard: usize, count: usize) {
        if let Some(left) = &self.left {
            left[shard].fetch_add(count as isize, Ordering::AcqRel);
        }
    }
}

/// The limits that the shards of a broker share.
#[derive(Debug)]
pub struct Quotas {
    /// Sessions, those of offline clients included.
    pub sessions: Quota,
    /// Retained messages.
    pub retained_messages: Quota,
    /// Their bytes.
    pub retained_bytes: Quota,
    /// By shard, how many sessions could end to make room for others.
    offline: Box<[CachePadded<AtomicUsize>]>,
}

impl Quotas {
    /// Nothing is in use yet, on so many shards.
    pub fn new(config: &Config, shards: usize) -> Arc<Self> {
        let quota = |limit| Quota::new(limit, shards);
        Arc::new(Quotas {
            sessions: quota(config.limits.max_sessions),
            retained_messages: quota(config.retained.max_messages),
            retained_bytes: quota(config.retained.max_total_bytes),
            offline: (0..shards).map(|_| CachePadded::new(AtomicUsize::new(0))).collect(),
        })
    }

    /// `shard` has so many sessions that could end to make room for others.
    pub fn note_offline(&self, shard: usize, count: usize) {
        self.offline[shard].store(count, Ordering::Release);
    }

    /// The shard with most sessions that could end to make room for others; none if there is none.
    pub fn most_offline(&self) -> Option<usize> {
        let counts = self.offline.iter().map(|count| count.load(Ordering::Acquire)).enumerate();
        counts.filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(shard, _)| shard)
    }
}

/// A place among [`Quotas::sessions`] that is kept free for a client. It is given back when that leaves.
#[derive(Debug)]
pub struct SessionPlace {
    /// None when its session has it.
    quotas: Option<Arc<Quotas>>,
    shard: usize,
}

impl SessionPlace {
    /// Takes one for `shard`, as [`Quota::take_anyway`].
    pub fn take_anyway(quotas: &Arc<Quotas>, shard: usize) -> Self {
        quotas.sessions.take_anyway(shard);
        SessionPlace { quotas: Some(Arc::clone(quotas)), shard }
    }

    /// From now on the session of the client has it.
    pub fn keep(mut self) {
        self.quotas = None;
    }
}

impl Drop for SessionPlace {
    fn drop(&mut self) {
        if let Some(quotas) = &self.quotas {
            quotas.sessions.give_back(self.shard, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn everything_can_be_used_by_any_shard_and_nothing_more() {
        for (limit, shards) in [(1, 1), (1, 4), (5, 4), (100, 3)] {
            for one in 0..shards {
                let quota = Quota::new(Limit::at_most(limit), shards);
                assert!((0..limit).all(|_| quota.take(one, 1)), "{limit} on shard {one} of {shards}");
                assert!((0..shards).all(|shard| !quota.take(shard, 1)));
                quota.give_back(one, 1);
                assert!(quota.take(shards - 1, 1) && !quota.take(one, 1));
            }
        }
    }

    #[test]
    fn much_is_gathered_from_all_shards_and_put_back_if_it_is_not_enough() {
        let quota = Quota::new(Limit::at_most(100), 4);
        assert!(quota.take(1, 90) && !quota.take(2, 11) && quota.take(3, 10) && !quota.take(0, 1));
        let unlimited = Quota::new(Limit::UNLIMITED, 2);
        assert!(unlimited.take(0, usize::MAX) && unlimited.take(1, usize::MAX));
    }

    #[test]
    fn what_is_taken_anyway_is_made_up_for() {
        let quota = Quota::new(Limit::at_most(2), 2);
        (0..3).for_each(|_| quota.take_anyway(1));
        quota.give_back(1, 1);
        assert!(!quota.take(0, 1) && !quota.take(1, 1));
        quota.give_back(1, 1);
        assert!(quota.take(0, 1) && !quota.take(1, 1));
    }

    #[test]
    fn a_place_that_is_kept_free_is_given_back_unless_a_session_has_it() {
        let config = Config::from_toml("limits.max_sessions = 1", "test").expect("the settings are valid");
        let quotas = Quotas::new(&config, 2);
        let place = SessionPlace::take_anyway(&quotas, 1);
        assert!(!quotas.sessions.take(0, 1));
        drop(place);
        assert!(quotas.sessions.take(0, 1));
        quotas.sessions.give_back(0, 1);
        SessionPlace::take_anyway(&quotas, 1).keep();
        assert!(!quotas.sessions.take(0, 1));
    }

    /// However many threads take and give back at the same time: never more than the limit, and never a refusal below it.
    #[test]
    fn threads_that_take_at_the_same_time_share_exactly() {
        const THREADS: usize = 4;
        let quota = Quota::new(Limit::at_most(THREADS - 1), THREADS);
        let (used, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        crossbeam::thread::scope(|scope| {
            for shard in 0..THREADS {
                let (quota, used, refused) = (&quota, &used, &refused);
                scope.spawn(move |_| {
                    for _ in 0..10_000 {
                        if quota.take(shard, 1) {
                            assert!(used.fetch_add(1, Ordering::SeqCst) < THREADS - 1);
                            used.fetch_sub(1, Ordering::SeqCst);
                            quota.give_back(shard, 1);
                        } else {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        })
        .expect("no panic");
        assert!((0..THREADS - 1).all(|shard| quota.take(shard, 1)) && !quota.take(0, 1), "nothing is lost");
    }

    #[test]
    fn the_shard_with_most_offline_sessions_makes_room() {
        let quotas = Quotas::new(&Config::default(), 3);
        assert_eq!(quotas.most_offline(), None);
        quotas.note_offline(1, 2);
        quotas.note_offline(2, 1);
        assert_eq!(quotas.most_offline(), Some(1));
        quotas.note_offline(1, 0);
        assert_eq!(quotas.most_offline(), Some(2));
    }
}
