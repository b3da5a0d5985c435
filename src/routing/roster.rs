//! Those of this shard who subscribe to one filter.

use std::ops::Deref;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::subscriber::Subscriber;
use crate::memory::{Held, MemoryKind, allocated, allocated_for, allocated_for_table};
use crate::sharding::hasher;

/// From so many subscribers on their places are known: fewer are searched as fast.
const INDEXED_FROM: usize = 16;
/// With so few they are searched again: far enough below that those who come and go do not make and drop the index.
const INDEXED_TO: usize = 4;

/// Subscribers, each session once. They lie side by side, so that a message goes through them at the pace of memory; where each of them
/// lies is known, so that coming and going costs the same however many there are. Who leaves gives its place to the last.
#[derive(Debug, Default)]
pub struct Roster {
    subscribers: SmallVec<[Subscriber; 1]>,
    /// The place of each, by its session, while there are many.
    places: Option<Box<Places>>,
    held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// Sessions are places in a table, which no client chooses: they need no secret seed.
type Places = HashMap<u32, u32, ahash::RandomState>;

impl Roster {
    /// Adds a subscriber at the end, or puts it in the place of what its session subscribed to before.
    pub fn put(&mut self, subscriber: Subscriber) {
        if let Some(at) = self.place_of(subscriber.session) {
            self.subscribers[at] = subscriber;
            return;
        }
        let at = self.subscribers.len();
        self.subscribers.push(subscriber);
        match &mut self.places {
            Some(places) => drop(places.insert(subscriber.session, at as u32)),
            None if at + 1 == INDEXED_FROM => {
                let mut places = Places::with_hasher(hasher(0));
                places.extend(self.subscribers.iter().map(|subscriber| subscriber.session).zip(0..));
                self.places = Some(Box::new(places));
            }
            None => {}
        }
        self.count();
    }

    /// Takes out what a session subscribed to.
    pub fn remove(&mut self, session: u32) -> Option<Subscriber> {
        let at = self.place_of(session)?;
        let removed = self.subscribers.swap_remove(at);
        if let Some(places) = &mut self.places {
            places.remove(&session);
            if let Some(moved) = self.subscribers.get(at) {
                places.insert(moved.session, at as u32);
            }
        }
        self.give_back();
        Some(removed)
    }

    /// Two subscribers change places.
    pub fn swap(&mut self, one: usize, other: usize) {
        self.subscribers.swap(one, other);
        if let Some(places) = &mut self.places {
            for at in [one, other] {
                places.insert(self.subscribers[at].session, at as u32);
            }
        }
    }

    /// The place of a session.
    pub fn place_of(&self, session: u32) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&session).map(|at| *at as usize),
            None => self.subscribers.iter().position(|subscriber| subscriber.session == session),
        }
    }

    /// Returns memory if most of it is unused.
    fn give_back(&mut self) {
        let len = self.subscribers.len();
        if len <= INDEXED_TO {
            self.places = None;
        }
        if self.subscribers.spilled() && len < self.subscribers.capacity() / 4 {
            self.subscribers.shrink_to_fit();
            if let Some(places) = &mut self.places {
                places.shrink_to_fit();
            }
        }
        self.count();
    }

    /// Counts the memory it takes.
    fn count(&mut self) {
        let side_by_side =
            if self.subscribers.spilled() { allocated_for::<Subscriber>(self.subscribers.capacity()) } else { 0 };
        let places = self.places.as_ref().map_or(0, |places| {
            allocated(size_of::<Places>()) + allocated_for_table(places.capacity(), size_of::<(u32, u32)>())
        });
        self.held.set(side_by_side + places);
    }
}

impl Deref for Roster {
    type Target = [Subscriber];

    fn deref(&self) -> &[Subscriber] {
        &self.subscribers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::QoS;

    fn subscriber(session: u32, id: u32) -> Subscriber {
        Subscriber { session, id, qos: QoS::AtMostOnce, no_local: false, retain_as_published: false }
    }

    #[test]
    fn memory_returns() {
        let mut roster = Roster::default();
        (0..10_000).for_each(|session| roster.put(subscriber(session, 0)));
        assert!(roster.places.is_some() && roster.subscribers.capacity() >= 10_000);
        (0..9_990).for_each(|session| assert!(roster.remove(session).is_some()));
        let places = roster.places.as_ref().map_or(0, |places| places.capacity());
        assert!(roster.subscribers.capacity() <= 64 && places <= 64, "{} {places}", roster.subscribers.capacity());
        (9_990..10_000).for_each(|session| assert_eq!(roster.remove(session), Some(subscriber(session, 0))));
        assert!(roster.is_empty() && roster.places.is_none());
    }

    proptest! {
        /// Against a list, below the number from which places are known, above it and across it.
        #[test]
        fn agrees_with_a_list(
            steps in prop::collection::vec((0..40_u32, 0..3_u32, prop::option::weighted(0.6, any::<usize>())), 0..200),
        ) {
            let (mut roster, mut list) = (Roster::default(), Vec::<Subscriber>::new());
            for (session, id, step) in steps {
                let known = list.iter().position(|other| other.session == session);
                match (step, known) {
                    (Some(step), _) if step % 8 == 0 && list.len() > 1 => {
                        let middle = list.len() / 2;
                        roster.swap(0, middle);
                        list.swap(0, middle);
                    }
                    (Some(_), Some(at)) => {
                        roster.put(subscriber(session, id));
                        list[at] = subscriber(session, id);
                    }
                    (Some(_), None) => {
                        roster.put(subscriber(session, id));
                        list.push(subscriber(session, id));
                    }
                    (None, known) => prop_assert_eq!(roster.remove(session), known.map(|at| list.swap_remove(at))),
                }
                prop_assert_eq!(&roster[..], &list[..]);
                for (at, one) in list.iter().enumerate() {
                    prop_assert_eq!(roster.place_of(one.session), Some(at));
                }
            }
        }
    }
}
