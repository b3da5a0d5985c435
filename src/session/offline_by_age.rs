//! Offline sessions by age, for `sessions_full = "expire"`: the oldest makes room for a new session. Without that setting the list
//! is empty.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sharding::Quotas;

/// The offline sessions of a shard, by their place in its table, in the order in which their clients left.
#[derive(Default)]
pub(super) struct OfflineByAge {
    is_asked_for: bool,
    /// Where other shards see how many there are, and which shard this is.
    seen: Option<(Arc<Quotas>, usize)>,
    /// The number of the next client that goes offline: numbers rise.
    next: u64,
    by_number: BTreeMap<u64, u32>,
    numbers: BTreeMap<u32, u64>,
}

impl OfflineByAge {
    /// An empty list; it stays empty if it is not needed.
    pub fn new(is_asked_for: bool) -> Self {
        OfflineByAge { is_asked_for, ..OfflineByAge::default() }
    }

    /// The same, and others see in `quotas` how long it is.
    pub fn seen_in(&mut self, quotas: Arc<Quotas>, shard: usize) {
        self.seen = Some((quotas, shard));
    }

    fn note(&self) {
        if let Some((quotas, shard)) = &self.seen {
            quotas.note_offline(*shard, self.numbers.len());
        }
    }

    /// A session goes offline.
    pub fn insert(&mut self, session: u32) {
        if self.is_asked_for {
            self.by_number.insert(self.next, session);
            self.numbers.insert(session, self.next);
            self.next += 1;
            self.note();
        }
    }

    /// The client is connected again, or its session has ended.
    pub fn remove(&mut self, session: u32) {
        if let Some(number) = self.numbers.remove(&session) {
            self.by_number.remove(&number);
            self.note();
        }
    }

    /// The session that has been offline longest.
    pub fn longest(&self) -> Option<u32> {
        self.by_number.first_key_value().map(|(_, session)| *session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_first_has_been_away_longest() {
        let mut offline = OfflineByAge::new(true);
        [3, 1, 2].into_iter().for_each(|session| offline.insert(session));
        assert_eq!(offline.longest(), Some(3));
        offline.remove(3);
        offline.remove(3);
        assert_eq!(offline.longest(), Some(1));
        offline.insert(3);
        offline.remove(1);
        offline.remove(2);
        assert_eq!(offline.longest(), Some(3));
        offline.remove(3);
        assert_eq!((offline.longest(), offline.numbers.len()), (None, 0));
    }

    #[test]
    fn nothing_is_kept_unasked() {
        let mut offline = OfflineByAge::new(false);
        offline.insert(1);
        assert_eq!(offline.longest(), None);
    }
}
