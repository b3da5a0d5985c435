//! The sessions of a shard, by their place in its table and by subscriber id.

use std::sync::Arc;

use super::Session;
use super::offline_by_age::OfflineByAge;
use crate::client::SubscriberId;
use crate::deadlines::OwnEntries;
use crate::memory::{Held, MemoryKind, allocated_for};
use crate::sharding::{Quotas, SLOTS};
use crate::tables::{Chunks, PartedMap};
use crate::time::Time;

/// The sessions of a shard.
pub struct Sessions<S> {
    /// Looked into for every message. Eight bytes each: they may be copied (see [`tables`](crate::tables)).
    records: Vec<Option<Box<Session<S>>>>,
    /// For each place, its entries in the timer wheel. They outlive the session.
    entries: Chunks<OwnEntries>,
    free: Chunks<u32>,
    by_id: PartedMap<SubscriberId, u32>,
    /// How many there are in each slot.
    in_slot: Box<[u32]>,
    offline: OfflineByAge,
    /// The hasher of maps that are keyed by what clients choose.
    hasher: ahash::RandomState,
    /// The memory of the tables.
    held: Held<{ MemoryKind::Tables as u8 }>,
}

impl<S> Sessions<S> {
    /// No session yet. `orders_offline`: whether [`longest_offline`](Self::longest_offline) will be asked for.
    pub fn new(hasher: ahash::RandomState, orders_offline: bool) -> Self {
        Sessions {
            records: Vec::new(),
            entries: Chunks::new(),
            free: Chunks::new(),
            by_id: PartedMap::with_hasher(hasher.clone()),
            in_slot: vec![0; SLOTS].into(),
            offline: OfflineByAge::new(orders_offline),
            hasher,
            held: Held::new(allocated_for::<u32>(SLOTS)),
        }
    }

    /// Has other shards see in `quotas` how many could end to make room; this is `shard`.
    pub fn seen_in(&mut self, quotas: Arc<Quotas>, shard: usize) {
        self.offline.seen_in(quotas, shard);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The hasher of maps that are keyed by what clients choose.
    pub fn hasher(&self) -> &ahash::RandomState {
        &self.hasher
    }

    /// Adds a session and gives its place. There must be none of its subscriber id.
    pub fn insert(&mut self, session: Session<S>) -> u32 {
        let id = session.client.subscriber.clone();
        self.in_slot[usize::from(session.slot)] += 1;
        let session = Some(Box::new(session));
        let index = match self.free.pop() {
            Some(index) => {
                self.records[index as usize] = session;
                index
            }
            None => {
                self.records.push(session);
                self.entries.push(OwnEntries::NONE);
                u32::try_from(self.records.len() - 1).expect("a shard has fewer than 2^32 sessions")
            }
        };
        let before = self.by_id.insert(id, index);
        self.count();
        debug_assert!(before.is_none(), "a subscriber id has one session");
        index
    }

    /// The place of the session of a subscriber id.
    pub fn find(&self, id: &SubscriberId) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The session of a subscriber id.
    pub fn of(&self, id: &SubscriberId) -> Option<&Session<S>> {
        self.get(self.find(id)?)
    }

    /// The session at this place.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&Session<S>> {
        self.records.get(index as usize)?.as_deref()
    }

    /// The session at this place.
    #[inline]
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Session<S>> {
        self.records.get_mut(index as usize)?.as_deref_mut()
    }

    /// How many places there are: sessions are at some of those below.
    pub fn places(&self) -> u32 {
        self.records.len() as u32
    }

    /// Takes a session out. Its place is not used again before [`free_place`](Self::free_place).
    pub fn remove(&mut self, index: u32) -> Option<Box<Session<S>>> {
        let session = self.records.get_mut(index as usize)?.take()?;
        self.by_id.remove(&session.client.subscriber);
        self.in_slot[usize::from(session.slot)] -= 1;
        self.offline.remove(index);
        self.count();
        Some(session)
    }

    /// Counts the memory of the tables.
    fn count(&mut self) {
        let records = allocated_for::<Option<Box<Session<S>>>>(self.records.capacity());
        let places = records + self.entries.allocated() + self.free.allocated();
        self.held.set(allocated_for::<u32>(SLOTS) + places + self.by_id.allocated());
    }

    /// Nothing leads to the place of a session any more that was taken out: it may be used again.
    pub fn free_place(&mut self, index: u32) {
        debug_assert!(self.get(index).is_none(), "nobody is there");
        self.free.push(index);
    }

    /// How many there are in `slot`.
    pub fn in_slot(&self, slot: u16) -> u32 {
        self.in_slot[usize::from(slot)]
    }

    /// The places of the sessions for which `holds` is true. Looks at every session.
    pub fn which(&self, holds: impl Fn(&Session<S>) -> bool) -> Vec<u32> {
        (0..self.records.len() as u32).filter(|index| self.get(*index).is_some_and(&holds)).collect()
    }

    /// The subscriber ids of the sessions in the slots for which `holds` is true, in no order. Looks at every session.
    pub fn ids_in_slots(&self, holds: impl Fn(u16) -> bool) -> Vec<SubscriberId> {
        let found = self.records.iter().flatten().filter(|session| holds(session.slot));
        found.map(|session| session.client.subscriber.clone()).collect()
    }

    /// The client of the session at this place has left.
    pub fn went_offline(&mut self, index: u32) {
        self.offline.insert(index);
    }

    /// The client of the session at this place is back.
    pub fn came_online(&mut self, index: u32) {
        self.offline.remove(index);
    }

    /// The session whose client has been offline longest; none if it was said that nobody asks.
    pub fn longest_offline(&self) -> Option<u32> {
        self.offline.longest()
    }

    /// The session at `index` wants to be looked at when `at` has come; says whether the timer wheel must be armed for that.
    pub fn needs_entry(&mut self, index: u32, at: Time) -> bool {
        self.entries.get_mut(index as usize).is_some_and(|entries| entries.needs(at))
    }

    /// An entry of the timer wheel for the session at `index` has fired; says whether it is one that counts.
    pub fn entry_fired(&mut self, index: u32, now: Time) -> bool {
        self.entries.get_mut(index as usize).is_some_and(|entries| entries.fired(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::session::testing::session_of;

    fn sessions(orders_offline: bool) -> Sessions<()> {
        Sessions::new(ahash::RandomState::with_seeds(1, 2, 3, 4), orders_offline)
    }

    /// A session of the client `id` in `slot`.
    fn session(id: &str, slot: u16) -> Session<()> {
        Session { slot, ..session_of(id) }
    }

    fn id(id: &str) -> SubscriberId {
        SubscriberId::new("", id)
    }

    #[test]
    fn a_session_is_found_by_place_and_by_subscriber_id_until_it_is_taken_out() {
        let mut sessions = sessions(false);
        let at = sessions.insert(session("a", 0));
        assert_eq!((sessions.find(&id("a")), sessions.len(), sessions.is_empty()), (Some(at), 1, false));
        assert!(sessions.get(at).is_some() && sessions.get_mut(at).is_some() && sessions.of(&id("a")).is_some());
        assert_eq!(sessions.remove(at).map(|session| session.client.subscriber), Some(id("a")));
        assert_eq!((sessions.find(&id("a")), sessions.len(), sessions.is_empty()), (None, 0, true));
        assert!(sessions.get(at).is_none() && sessions.get_mut(at).is_none() && sessions.of(&id("a")).is_none());
        assert!(sessions.remove(at).is_none() && sessions.remove(at + 1).is_none());
    }

    #[test]
    fn one_client_id_in_two_mountpoints_is_two_subscriber_ids() {
        let mut sessions = sessions(false);
        let mut elsewhere = session("a", 0);
        elsewhere.client.subscriber = SubscriberId::new("m", "a");
        let places = [sessions.insert(session("a", 0)), sessions.insert(elsewhere)];
        assert_eq!([sessions.find(&id("a")), sessions.find(&SubscriberId::new("m", "a"))], places.map(Some));
    }

    #[test]
    fn a_place_is_used_again() {
        let mut sessions = sessions(false);
        let places = ["a", "b", "c"].map(|id| sessions.insert(session(id, 0)));
        assert_eq!(places, [0, 1, 2]);
        sessions.remove(1);
        assert_eq!(sessions.insert(session("f", 0)), 3, "not before it is free");
        sessions.free_place(1);
        assert_eq!(sessions.insert(session("d", 0)), 1);
        assert_eq!(sessions.insert(session("e", 0)), 4);
        assert_eq!(["a", "b", "c", "d"].map(|text| sessions.find(&id(text))), [Some(0), None, Some(2), Some(1)]);
    }

    #[test]
    fn sessions_are_counted_by_slot() {
        let mut sessions = sessions(false);
        for (id, slot) in [("a", 7), ("b", 4095), ("c", 7)] {
            sessions.insert(session(id, slot));
        }
        assert_eq!([0, 7, 4095].map(|slot| sessions.in_slot(slot)), [0, 2, 1]);
        let mut of_slot = sessions.ids_in_slots(|slot| slot == 7);
        of_slot.sort();
        assert_eq!(of_slot, [id("a"), id("c")]);
        sessions.remove(0);
        assert_eq!((sessions.in_slot(7), sessions.ids_in_slots(|slot| slot == 7)), (1, vec![id("c")]));
        assert_eq!(sessions.which(|session| session.slot == 4095), [1]);
    }

    #[test]
    fn the_longest_offline_is_none_that_is_back_or_gone() {
        let mut sessions = sessions(true);
        let [a, b, c] = ["a", "b", "c"].map(|id| sessions.insert(session(id, 0)));
        [b, c, a].into_iter().for_each(|session| sessions.went_offline(session));
        assert_eq!(sessions.longest_offline(), Some(b));
        sessions.came_online(b);
        assert_eq!(sessions.longest_offline(), Some(c));
        sessions.remove(c);
        sessions.free_place(c);
        assert_eq!(sessions.longest_offline(), Some(a));
        sessions.went_offline(b);
        assert_eq!(sessions.longest_offline(), Some(a), "it left anew");
        let again = sessions.insert(session("d", 0));
        assert_eq!(again, c, "in the place of one that had been offline");
        sessions.remove(a);
        sessions.remove(b);
        assert_eq!(sessions.longest_offline(), None, "and is not");
    }

    #[test]
    fn nobody_is_longest_offline_where_nobody_asks() {
        let mut sessions = sessions(false);
        let at = sessions.insert(session("a", 0));
        sessions.went_offline(at);
        assert_eq!(sessions.longest_offline(), None);
    }

    #[test]
    fn the_entry_of_a_session_that_has_gone_counts_for_the_next_at_its_place() {
        let (mut sessions, at) = (sessions(false), Time::from_millis);
        assert!(!sessions.needs_entry(0, at(5)) && !sessions.entry_fired(0, at(5)), "there is no such place");
        sessions.insert(session("a", 0));
        assert!(sessions.needs_entry(0, at(10)));
        assert!(!sessions.needs_entry(0, at(10)) && !sessions.needs_entry(0, at(20)), "there is an earlier one");
        sessions.remove(0);
        sessions.free_place(0);
        sessions.insert(session("b", 0));
        assert!(!sessions.needs_entry(0, at(15)), "that of the last session is in the wheel still");
        assert!(!sessions.entry_fired(0, at(9)) && sessions.entry_fired(0, at(10)));
        assert!(sessions.needs_entry(0, at(15)));
    }

    proptest! {
        /// Sessions come and go: the table knows what a list of ids, places and slots knows.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((0..12_u16, 0..3_u16, any::<bool>()), 0..80)) {
            let mut sessions = sessions(true);
            let (mut list, mut most): (Vec<(SubscriberId, u32, u16)>, usize) = (Vec::new(), 0);
            for (number, slot, leaves) in steps {
                let subscriber = id(&number.to_string());
                match list.iter().position(|(other, ..)| *other == subscriber) {
                    None => {
                        let place = sessions.insert(session(&subscriber.client_id, slot));
                        prop_assert!(list.iter().all(|(_, other, _)| *other != place));
                        list.push((subscriber, place, slot));
                        most = most.max(list.len());
                        prop_assert!((place as usize) < most, "no new place while one is free");
                    }
                    Some(at) if leaves => {
                        let (subscriber, place, _) = list.remove(at);
                        prop_assert_eq!(sessions.remove(place).map(|gone| gone.client.subscriber), Some(subscriber));
                        sessions.free_place(place);
                    }
                    Some(_) => {}
                }
                prop_assert_eq!(sessions.len(), list.len());
                for (subscriber, place, _) in &list {
                    prop_assert_eq!(sessions.find(subscriber), Some(*place));
                    prop_assert_eq!(sessions.get(*place).map(|here| &here.client.subscriber), Some(subscriber));
                }
                for slot in 0..3 {
                    let here = list.iter().filter(|(_, _, other)| *other == slot).count();
                    prop_assert_eq!(sessions.in_slot(slot) as usize, here);
                    prop_assert_eq!(sessions.ids_in_slots(|other| other == slot).len(), here);
                }
            }
        }
    }
}
