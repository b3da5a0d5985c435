//! The messages of a queue, in order, with an index of those that give way first. What of them is in the archive, or is to be: see `paging`.

mod paging;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::pages::{Pages, Whereabouts};
use super::{Key, OutgoingMessage, SubscriptionIds};
use crate::codec::QoS;
use crate::config::QueueType;
use crate::memory::{Held, MemoryKind, allocated, allocated_for, allocated_in_tree};
use crate::time::Time;

/// With so few places they are closed up only in [`Waiting::settle`].
const FEW: usize = 64;

/// Messages in the order in which they came, of which the oldest of QoS 0 and those that have expired are found without a walk: somebody
/// who fills his queue with a million others would have each message after that cost a walk over them.
///
/// What is taken out in the middle leaves a gap; gaps are closed up when half of the places are gaps. The first place and the last are
/// never gaps. Places are numbered in order. A number means the same place until gaps are closed up, or the last places are empty: then
/// those behind get lower numbers than they had.
#[derive(Debug, Default)]
// The order matters to the session: every delivery looks whether something waits.
#[repr(C)]
pub struct Waiting {
    places: VecDeque<Option<OutgoingMessage>>,
    /// What is in the archive, if anything ever was.
    pages: Option<Box<Pages>>,
    /// The number of the first place.
    first: u64,
    gaps: usize,
    bytes: usize,
    /// How many came through shared subscriptions.
    shared: usize,
    /// Made for the first message that is to be found in it: many queues never have one.
    index: Option<Box<Index>>,
    /// The memory of the places and the index.
    held: Held<{ MemoryKind::Queues as u8 }>,
    /// How often places got other numbers than they had.
    renumbered: u32,
    /// How far messages have become pages that are not persisted, and how far those that are were taken out.
    paged: Walk,
    persisted: Walk,
}

/// How far a walk over messages has come, of which there may be others in between. It comes to each message, and to some more than once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// The number of the next place.
    place: u64,
    /// If places have got other numbers since, it begins anew.
    renumbered: u32,
}

/// What became of a message that was looked at.
#[derive(Debug)]
pub enum Look<T> {
    /// It was taken out.
    Taken(T),
    /// It is where it was.
    Kept,
    /// There was none.
    End,
}

/// The messages of QoS 0, and those that expire, by the numbers of their places.
#[derive(Debug, Default)]
struct Index {
    /// The places of QoS 0, and of some gaps.
    qos0: VecDeque<u64>,
    /// How many messages of QoS 0 there are, and their bytes.
    qos0_len: usize,
    qos0_bytes: usize,
    /// Those that expire, the earliest first.
    expiring: BTreeSet<(Time, u64)>,
}

impl Waiting {
    /// How many messages there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        let in_memory = self.messages_in_memory();
        self.pages.as_ref().map_or(in_memory, |pages| in_memory + pages.len())
    }

    /// Whether there is none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && (self.pages.is_none() || self.are_pages_empty())
    }

    // Apart, as every delivery asks whether something waits, and few queues ever had a page.
    #[cold]
    fn are_pages_empty(&self) -> bool {
        self.pages.as_ref().is_none_or(|pages| pages.len() == 0)
    }

    /// Their bytes, shared or not.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.pages.as_ref().map_or(self.bytes, |pages| self.bytes + pages.bytes())
    }

    /// The number of the place of the oldest; without any, that of the next one that comes.
    pub(super) fn first_place(&self) -> u64 {
        self.first
    }

    /// The number of the place of the next one that comes.
    pub(super) fn next_place(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// How many of them are QoS 0, and their bytes.
    pub(super) fn qos0(&self) -> (usize, usize) {
        self.index.as_ref().map_or((0, 0), |index| (index.qos0_len, index.qos0_bytes))
    }

    /// How many of them came through shared subscriptions.
    pub(super) fn shared(&self) -> usize {
        self.shared
    }

    /// Where the one that goes next is.
    fn whereabouts(&self, order: QueueType) -> Whereabouts {
        match &self.pages {
            Some(pages) => pages.next_is(order, !self.places.is_empty()),
            None => Whereabouts::Queue,
        }
    }

    /// The place that goes next of those that are here.
    fn next_here(&self, order: QueueType) -> Option<usize> {
        match order {
            QueueType::Fifo => Some(0),
            QueueType::Lifo => self.places.len().checked_sub(1),
        }
    }

    /// The one that goes next; none either if that is in the archive.
    pub(super) fn next(&self, order: QueueType) -> Option<&OutgoingMessage> {
        match self.whereabouts(order) {
            Whereabouts::Queue => self.places.get(self.next_here(order)?)?.as_ref(),
            Whereabouts::Read => self.pages.as_ref()?.next_read(order),
            Whereabouts::Archive => None,
        }
    }

    /// The one that goes next has another key from here on.
    pub(super) fn renumber_next(&mut self, order: QueueType, key: Key) {
        let next = match self.whereabouts(order) {
            Whereabouts::Queue => {
                let at = self.next_here(order);
                at.and_then(|at| self.places.get_mut(at)?.as_mut())
            }
            Whereabouts::Read => self.pages.as_mut().and_then(|pages| pages.next_read_mut(order)),
            Whereabouts::Archive => None,
        };
        let before = next.map(|next| (std::mem::replace(&mut next.key, key), next.size()));
        if let Some((pages, (before, size))) = self.pages.as_mut().zip(before) {
            pages.is_gone(before, size);
        }
    }

    /// Messages of QoS 1 and 2 that have no keys get these, in order.
    pub(super) fn give_keys(&mut self, mut next: impl FnMut() -> Key) {
        let has_none = |message: &&mut OutgoingMessage| message.key.is_none() && message.qos > QoS::AtMostOnce;
        self.places.iter_mut().flatten().filter(has_none).for_each(|message| message.key = next());
        // They were passed over.
        self.paged = Walk::default();
    }

    /// All of them, in order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &OutgoingMessage> {
        self.places.iter().flatten()
    }

    /// Adds one behind all others.
    pub(super) fn push(&mut self, mut message: OutgoingMessage) {
        if matches!(message.ids, SubscriptionIds::Many(_))
            && let Some(Some(last)) = self.places.back()
        {
            message.ids.share_with(&last.ids);
        }
        self.bytes += message.size();
        self.shared += usize::from(message.group.is_some());
        if Index::concerns(&message) {
            let place = self.next_place();
            self.index.get_or_insert_default().note_in(place, &message);
        }
        let is_full = self.places.len() == self.places.capacity();
        self.places.push_back(Some(message));
        if is_full || self.index.is_some() {
            self.count();
        }
    }

    /// The memory it takes, in bytes, with all messages that are in memory.
    pub(super) fn memory(&self) -> usize {
        self.held.bytes() + self.bytes + self.pages.as_ref().map_or(0, |pages| pages.read_bytes())
    }

    /// Counts the memory of the places and the index.
    fn count(&mut self) {
        let index = self.index.as_ref().map_or(0, |index| {
            allocated(size_of::<Index>())
                + allocated_for::<u64>(index.qos0.capacity())
                + allocated_in_tree(size_of::<(Time, u64)>()) * index.expiring.len()
        });
        let pages = self.pages.as_ref().map_or(0, |pages| pages.memory());
        self.held.set(allocated_for::<Option<OutgoingMessage>>(self.places.capacity()) + index + pages);
    }

    /// Takes out the oldest of those that are in memory.
    pub(super) fn pop_first(&mut self) -> Option<OutgoingMessage> {
        self.take(0)
    }

    /// Takes out the one that goes next, unless that is in the archive.
    pub(super) fn pop_next(&mut self, order: QueueType) -> Option<OutgoingMessage> {
        match self.whereabouts(order) {
            Whereabouts::Queue => self.take(self.next_here(order)?),
            Whereabouts::Read => {
                let taken = self.pages.as_mut()?.take_read(order);
                self.count();
                taken
            }
            Whereabouts::Archive => None,
        }
    }

    /// Takes out the oldest of QoS 0.
    pub(super) fn pop_qos0(&mut self) -> Option<OutgoingMessage> {
        let index = self.index.as_mut()?;
        while let Some(place) = index.qos0.front() {
            let at = (place - self.first) as usize;
            if matches!(&self.places[at], Some(message) if message.qos == QoS::AtMostOnce) {
                return self.take(at);
            }
            index.qos0.pop_front();
        }
        None
    }

    /// Takes out one that has expired, the earliest first.
    pub(super) fn pop_expired(&mut self, now: Time) -> Option<OutgoingMessage> {
        let (expires, place) = *self.index.as_ref()?.expiring.first()?;
        if expires <= now { self.take((place - self.first) as usize) } else { None }
    }

    /// The first message in the `most` first places for which `which` is true.
    pub(super) fn find_first(
        &self,
        most: usize,
        which: impl FnMut(&&OutgoingMessage) -> bool,
    ) -> Option<&OutgoingMessage> {
        self.places.iter().take(most).flatten().find(which)
    }

    /// Takes out what [`find_first`](Self::find_first) finds.
    pub(super) fn take_first(
        &mut self,
        most: usize,
        mut which: impl FnMut(&OutgoingMessage) -> bool,
    ) -> Option<OutgoingMessage> {
        let is_it = |place: &Option<OutgoingMessage>| place.as_ref().is_some_and(&mut which);
        let at = self.places.iter().take(most).position(is_it)?;
        self.take(at)
    }

    /// Looks at the first message in memory that `walk` has not come to, and takes it out if `which` is true. What was read of pages is not looked at.
    pub(super) fn look(
        &mut self,
        walk: &mut Walk,
        which: impl FnOnce(&OutgoingMessage) -> bool,
    ) -> Look<OutgoingMessage> {
        let Some(at) = self.come_to(walk) else { return Look::End };
        match &self.places[at] {
            Some(message) if which(message) => self.take(at).map_or(Look::Kept, Look::Taken),
            _ => Look::Kept,
        }
    }

    /// The next place of a walk.
    fn come_to(&self, walk: &mut Walk) -> Option<usize> {
        if walk.renumbered != self.renumbered {
            *walk = Walk { place: 0, renumbered: self.renumbered };
        }
        let place = walk.place.max(self.first);
        let at = (place - self.first) as usize;
        (at < self.places.len()).then(|| {
            walk.place = place + 1;
            at
        })
    }

    /// Takes out the message at a place: it does not wait any more.
    fn take(&mut self, at: usize) -> Option<OutgoingMessage> {
        let message = self.take_out(at)?;
        if let Some(pages) = &mut self.pages
            && !message.key.is_none()
        {
            pages.is_gone(message.key, message.size());
        }
        Some(message)
    }

    /// Takes out the message at a place, whatever becomes of it.
    fn take_out(&mut self, at: usize) -> Option<OutgoingMessage> {
        let message = self.places.get_mut(at)?.take()?;
        self.gaps += 1;
        self.bytes -= message.size();
        self.shared -= usize::from(message.group.is_some());
        if let Some(index) = &mut self.index {
            index.note_out(self.first + at as u64, &message);
        }
        self.trim();
        Some(message)
    }

    /// Sees to it that the first place and the last are no gaps, and that not most of the others are.
    fn trim(&mut self) {
        while matches!(self.places.front(), Some(None)) {
            self.places.pop_front();
            self.first += 1;
            self.gaps -= 1;
        }
        while matches!(self.places.back(), Some(None)) {
            self.places.pop_back();
            self.gaps -= 1;
            self.renumbered = self.renumbered.wrapping_add(1);
        }
        if self.places.is_empty() {
            (self.places, self.index) = (VecDeque::new(), None);
            return self.count();
        }
        let places = self.first..self.next_place();
        if let Some(index) = &mut self.index {
            index.trim(places);
        }
        if self.gaps * 2 > self.places.len() && self.places.len() > FEW {
            self.close_up();
        } else if self.places.capacity() > 4 * self.places.len().max(FEW) {
            // A queue that was long once may not be empty for months.
            self.places.shrink_to(2 * self.places.len());
            if let Some(index) = &mut self.index {
                index.qos0.shrink_to(2 * index.qos0.len());
            }
            self.count();
        }
    }

    /// Takes no more memory than there must be, if few are left: they may be for long.
    pub(super) fn settle(&mut self) {
        if self.places.len() <= FEW {
            self.close_up();
        }
    }

    fn close_up(&mut self) {
        self.places.retain(Option::is_some);
        self.renumbered = self.renumbered.wrapping_add(u32::from(self.gaps > 0));
        self.gaps = 0;
        self.places.shrink_to_fit();
        let mut index = None;
        for (place, message) in (self.first..).zip(self.places.iter().flatten()) {
            if Index::concerns(message) {
                index.get_or_insert_with(Box::<Index>::default).note_in(place, message);
            }
        }
        self.index = index;
        self.count();
    }
}

impl Index {
    /// Whether a message is to be found in an index.
    fn concerns(message: &OutgoingMessage) -> bool {
        message.qos == QoS::AtMostOnce || message.message.expires() != Time::NEVER
    }

    fn note_in(&mut self, place: u64, message: &OutgoingMessage) {
        if message.qos == QoS::AtMostOnce {
            self.qos0.push_back(place);
            self.qos0_len += 1;
            self.qos0_bytes += message.size();
        }
        if message.message.expires() != Time::NEVER {
            self.expiring.insert((message.message.expires(), place));
        }
    }

    fn note_out(&mut self, place: u64, message: &OutgoingMessage) {
        if message.qos == QoS::AtMostOnce {
            // It is the oldest of them, or in the middle and found to be a gap later, or the newest: see `trim`.
            if self.qos0.front() == Some(&place) {
                self.qos0.pop_front();
            }
            self.qos0_len -= 1;
            self.qos0_bytes -= message.size();
        }
        if message.message.expires() != Time::NEVER {
            self.expiring.remove(&(message.message.expires(), place));
        }
    }

    /// Only these places are left: the numbers behind them are given again.
    fn trim(&mut self, places: Range<u64>) {
        while self.qos0.front().is_some_and(|place| *place < places.start) {
            self.qos0.pop_front();
        }
        while self.qos0.back().is_some_and(|place| *place >= places.end) {
            self.qos0.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::super::queue::tests::{delivery, expiring};
    use super::*;

    /// What `Waiting` is to do, by walks.
    #[derive(Default)]
    struct Model(Vec<OutgoingMessage>);

    impl Model {
        fn remove(&mut self, at: Option<usize>) -> Option<OutgoingMessage> {
            at.map(|at| self.0.remove(at))
        }
    }

    proptest! {
        /// Whatever is put in and taken out, it is what a walk over all would find, and little more is kept than is there.
        #[test]
        fn what_is_found_is_what_a_walk_would_find(
            steps in prop::collection::vec((0..12_u8, 1..5_u64), 0..400),
        ) {
            let (mut waiting, mut model) = (Waiting::default(), Model::default());
            for (number, (what, expiry)) in steps.into_iter().enumerate() {
                let now = Time::from_millis(expiry);
                let (taken, expected) = match what {
                    0..=6 => {
                        let expires = if what < 4 { Time::NEVER } else { now };
                        let qos = QoS::from_u8(what % 3).expect("0 to 2");
                        let message = expiring(&number.to_string(), qos, expires);
                        waiting.push(message.clone());
                        model.0.push(message);
                        (None, None)
                    }
                    7 => (waiting.pop_first(), { let at = (!model.0.is_empty()).then_some(0); model.remove(at) }),
                    8 => (waiting.pop_next(QueueType::Lifo), model.0.pop()),
                    9 | 10 => {
                        let at = model.0.iter().position(|message| message.qos == QoS::AtMostOnce);
                        (waiting.pop_qos0(), model.remove(at))
                    }
                    _ => {
                        let expired = model.0.iter().enumerate().filter(|(_, one)| one.message.expires() <= now);
                        let at = expired.min_by_key(|(at, one)| (one.message.expires(), *at)).map(|(at, _)| at);
                        (waiting.pop_expired(now), model.remove(at))
                    }
                };
                let payload = |one: Option<OutgoingMessage>| one.map(|one| one.message.payload().to_vec());
                prop_assert_eq!(payload(taken), payload(expected));
                let of_qos0 = || model.0.iter().filter(|one| one.qos == QoS::AtMostOnce);
                let size = |one: &OutgoingMessage| one.size();
                prop_assert_eq!(waiting.len(), model.0.len());
                prop_assert_eq!(waiting.is_empty(), model.0.is_empty());
                prop_assert_eq!(waiting.bytes(), model.0.iter().map(size).sum::<usize>());
                prop_assert_eq!(waiting.qos0(), (of_qos0().count(), of_qos0().map(size).sum::<usize>()));
                let address = |one: &OutgoingMessage| one.message.address();
                prop_assert_eq!(waiting.next(QueueType::Fifo).map(address), model.0.first().map(address));
                prop_assert_eq!(waiting.next(QueueType::Lifo).map(address), model.0.last().map(address));
                prop_assert!(waiting.iter().map(address).eq(model.0.iter().map(address)));
                prop_assert!(waiting.gaps <= waiting.len().max(FEW));
                prop_assert!(waiting.places.capacity() <= 4 * waiting.places.len().max(FEW));
                prop_assert_eq!(waiting.held.bytes() > 0, !waiting.is_empty());
                prop_assert!(waiting.index.as_ref().is_none_or(|index| index.qos0.len() <= waiting.places.len()));
            }
            waiting.settle();
            let places = &waiting.places;
            prop_assert!(places.len() > FEW || waiting.gaps == 0 && places.capacity() <= places.len() + 4);
            let even = |one: &OutgoingMessage| one.message.payload().last().is_some_and(|digit| digit % 2 == 0);
            let (mut walk, mut taken) = (Walk::default(), Vec::new());
            loop {
                match waiting.look(&mut walk, even) {
                    Look::Taken(message) => taken.push(message),
                    Look::Kept => {}
                    Look::End => break,
                }
            }
            prop_assert!(taken.iter().all(even) && !waiting.iter().any(even));
            prop_assert_eq!(taken.len() + waiting.len(), model.0.len());
            prop_assert_eq!(waiting.bytes(), waiting.iter().map(|one| one.size()).sum::<usize>());
        }
    }

    /// Of messages that were very many, whichever go, and in whichever order, what is left takes little more memory than it must.
    #[test]
    fn places_of_what_is_gone_take_no_memory() {
        const MANY: usize = 20_000;
        let takes: [fn(&mut Waiting) -> Option<OutgoingMessage>; 3] =
            [Waiting::pop_first, |one| one.pop_next(QueueType::Lifo), Waiting::pop_qos0];
        for take in takes {
            let mut waiting = Waiting::default();
            waiting.push(delivery("x", QoS::AtLeastOnce));
            (1..MANY).for_each(|_| waiting.push(delivery("x", QoS::AtMostOnce)));
            let full = waiting.held.bytes();
            (1..MANY).for_each(|_| drop(take(&mut waiting).expect("as many as there are rounds")));
            assert!(waiting.len() == 1 && waiting.held.bytes() < full / 20, "{} of {full}", waiting.held.bytes());
            waiting.settle();
            assert!(waiting.held.bytes() < 1000, "{}", waiting.held.bytes());
            waiting.pop_first();
            assert_eq!((waiting.held.bytes(), waiting.next_place() > 0), (0, true));
        }
    }

    /// Printed, not asserted; with a walk for each this test would take an hour.
    #[test]
    fn what_gives_way_costs_the_same_however_many_are_before_it() {
        for many in [1_000, 300_000] {
            let mut waiting = Waiting::default();
            (0..many).for_each(|_| waiting.push(delivery("x", QoS::AtLeastOnce)));
            (0..many).for_each(|_| waiting.push(delivery("x", QoS::AtMostOnce)));
            (0..many).for_each(|at| waiting.push(expiring("x", QoS::AtLeastOnce, Time::from_millis(at))));
            let began = Instant::now();
            for at in 0..many {
                waiting.pop_qos0().expect("as many as there are rounds");
                waiting.pop_expired(Time::from_millis(at)).expect("each at its time");
            }
            println!("{} ns for each of {many}", began.elapsed().as_nanos() / u128::from(2 * many));
            assert_eq!((waiting.len(), waiting.qos0()), (many as usize, (0, 0)));
        }
    }
}
