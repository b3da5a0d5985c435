//! Those of this shard who subscribe to one filter.

use std::ops::Index;

use smallvec::SmallVec;

use super::subscriber::Subscriber;
use crate::memory::{Held, MemoryKind, allocated, allocated_for};
use crate::sharding::hasher;
use crate::tables::{Chunks, PartedMap};

/// From so many subscribers on their places are known: fewer are searched as fast.
const INDEXED_FROM: usize = 16;
/// With so few they are searched again: far enough below that those who come and go do not make and drop the index.
const INDEXED_TO: usize = 4;
/// So many lie in one list that doubles. Those behind them are in chunks, so that growing copies no more than these.
const SIDE_BY_SIDE: usize = 4096;

/// Subscribers, each session once. They lie side by side, so that a message goes through them at the pace of memory; where each of them
/// lies is known, so that coming and going costs the same however many there are. Who leaves gives its place to the last.
#[derive(Debug, Default)]
pub struct Roster {
    first: SmallVec<[Subscriber; 1]>,
    many: Option<Box<Many>>,
    held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// What there is besides while there are many subscribers.
#[derive(Debug)]
struct Many {
    /// The place of each, by its session. Sessions are places in a table, which no client chooses: they need no secret seed.
    places: PartedMap<u32, u32>,
    /// Those behind the first [`SIDE_BY_SIDE`].
    rest: Chunks<Subscriber>,
}

impl Roster {
    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.first.len() + self.many.as_ref().map_or(0, |many| many.rest.len())
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The subscriber at this place.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Subscriber> {
        match self.first.get(at) {
            None => self.get_behind(at),
            found => found,
        }
    }

    #[cold]
    #[inline(never)]
    fn get_behind(&self, at: usize) -> Option<&Subscriber> {
        self.many.as_ref()?.rest.get(at.checked_sub(SIDE_BY_SIDE)?)
    }

    /// The first of them, in order: all if there are not very many.
    #[inline]
    pub fn first(&self) -> &[Subscriber] {
        &self.first
    }

    /// Whether there may be some behind the [`first`](Self::first).
    #[inline]
    pub fn has_rest(&self) -> bool {
        self.many.is_some()
    }

    /// Those behind the [`first`](Self::first), as lists in which they lie side by side.
    pub fn rest(&self) -> impl Iterator<Item = &[Subscriber]> {
        self.many.iter().flat_map(|many| many.rest.pieces())
    }

    /// Adds a subscriber at the end, or puts it in the place of what its session subscribed to before.
    pub fn put(&mut self, subscriber: Subscriber) {
        if let Some(at) = self.place_of(subscriber.session) {
            self.set(at, subscriber);
            return;
        }
        let at = self.len();
        match &mut self.many {
            Some(many) => {
                many.places.insert(subscriber.session, at as u32);
                if at < SIDE_BY_SIDE { self.first.push(subscriber) } else { many.rest.push(subscriber) }
            }
            None => {
                self.first.push(subscriber);
                if self.first.len() == INDEXED_FROM {
                    self.index();
                }
            }
        }
        self.count();
    }

    /// From here on places are known.
    fn index(&mut self) {
        let mut places = PartedMap::with_hasher(hasher(0));
        places.extend(self.first.iter().map(|subscriber| subscriber.session).zip(0..));
        self.many = Some(Box::new(Many { places, rest: Chunks::new() }));
    }

    /// Takes out what a session subscribed to.
    pub fn remove(&mut self, session: u32) -> Option<Subscriber> {
        let at = self.place_of(session)?;
        let removed = *self.get(at)?;
        let last = match &mut self.many {
            Some(many) if !many.rest.is_empty() => many.rest.pop(),
            _ => self.first.pop(),
        };
        if let Some(many) = &mut self.many {
            many.places.remove(&session);
        }
        if let Some(last) = last.filter(|last| last.session != session) {
            self.set(at, last);
            self.note_place(at);
        }
        self.give_back();
        Some(removed)
    }

    /// Two subscribers change places.
    pub fn swap(&mut self, one: usize, other: usize) {
        if let (Some(was_one), Some(was_other)) = (self.get(one).copied(), self.get(other).copied()) {
            self.set(one, was_other);
            self.set(other, was_one);
            [one, other].into_iter().for_each(|at| self.note_place(at));
        }
    }

    /// The place of a session.
    pub fn place_of(&self, session: u32) -> Option<usize> {
        match &self.many {
            Some(many) => many.places.get(&session).map(|at| *at as usize),
            None => self.first.iter().position(|subscriber| subscriber.session == session),
        }
    }

    /// Puts a subscriber at a place that is there.
    fn set(&mut self, at: usize, subscriber: Subscriber) {
        match (self.first.get_mut(at), &mut self.many) {
            (Some(place), _) => *place = subscriber,
            (None, Some(many)) => many.rest[at - SIDE_BY_SIDE] = subscriber,
            (None, None) => {}
        }
    }

    /// Who is at this place was at another one before.
    fn note_place(&mut self, at: usize) {
        let session = self[at].session;
        if let Some(many) = &mut self.many {
            many.places.insert(session, at as u32);
        }
    }

    /// Returns memory if most of it is unused.
    fn give_back(&mut self) {
        if self.first.len() <= INDEXED_TO {
            self.many = None;
        }
        if self.first.spilled() && self.first.len() < self.first.capacity() / 4 {
            self.first.shrink_to_fit();
        }
        if let Some(many) = &mut self.many {
            many.rest.give_back();
        }
        self.count();
    }

    /// Counts the memory it takes.
    fn count(&mut self) {
        let first = if self.first.spilled() { allocated_for::<Subscriber>(self.first.capacity()) } else { 0 };
        let of_many = |many: &Many| allocated(size_of::<Many>()) + many.places.allocated() + many.rest.allocated();
        self.held.set(first + self.many.as_deref().map_or(0, of_many));
    }
}

impl Index<usize> for Roster {
    type Output = Subscriber;

    #[inline]
    fn index(&self, at: usize) -> &Subscriber {
        self.get(at).expect("there is a subscriber")
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

    fn all(roster: &Roster) -> Vec<Subscriber> {
        assert!(roster.has_rest() || roster.rest().next().is_none());
        roster.first().iter().chain(roster.rest().flatten()).copied().collect()
    }

    #[test]
    fn memory_returns() {
        let mut roster = Roster::default();
        (0..10_000).for_each(|session| roster.put(subscriber(session, 0)));
        assert!(roster.many.is_some() && roster.held.bytes() >= 10_000 * size_of::<Subscriber>());
        (0..9_990).for_each(|session| assert!(roster.remove(session).is_some()));
        assert!(roster.first.capacity() <= 64 && roster.held.bytes() <= 10_000, "{}", roster.held.bytes());
        (9_990..10_000).for_each(|session| assert_eq!(roster.remove(session), Some(subscriber(session, 0))));
        assert!(roster.is_empty() && roster.many.is_none());
    }

    /// Of more than lie in one list.
    #[test]
    fn who_leaves_gives_its_place_to_the_last_wherever_both_are() {
        let (mut roster, most) = (Roster::default(), SIDE_BY_SIDE as u32 + 20_000);
        (0..most).for_each(|session| roster.put(subscriber(session, 0)));
        roster.put(subscriber(most - 5, 7));
        roster.swap(1, most as usize - 5);
        assert_eq!((roster[1], roster[most as usize - 5]), (subscriber(most - 5, 7), subscriber(1, 0)));
        for session in (0..most).step_by(3) {
            assert_eq!(roster.remove(session).map(|gone| gone.session), Some(session));
        }
        let all: Vec<u32> = all(&roster).iter().map(|subscriber| subscriber.session).collect();
        assert!(all.len() == roster.len() && all.iter().all(|session| session % 3 > 0));
        assert!(all.iter().enumerate().all(|(at, session)| roster.place_of(*session) == Some(at)));
        assert!(roster.get(all.len()).is_none());
        all.iter().for_each(|session| assert!(roster.remove(*session).is_some()));
        assert!(roster.is_empty() && roster.many.is_none());
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
                prop_assert_eq!(&all(&roster), &list);
                prop_assert_eq!(roster.len(), list.len());
                for (at, one) in list.iter().enumerate() {
                    prop_assert_eq!(roster.place_of(one.session), Some(at));
                }
            }
        }
    }
}
