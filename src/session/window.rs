//! Messages in flight, in the order in which they were sent first.

use std::collections::VecDeque;

use super::in_flight::{IDS, InFlight, packet_id};
use crate::codec::PacketId;
use crate::memory::{Held, MemoryKind, allocated_for};

/// With so few places the window is never closed up.
const FEW: usize = 64;

/// Messages in flight, in the order of their sequences.
///
/// They are acknowledged in the order of sending [MQTT-4.6.0-2], so it is nearly always the first that is taken out. What is taken out
/// elsewhere leaves a gap: the others stay where they are, and are closed up when half of the window is gaps. So each costs the same,
/// whatever the order. The first place is never a gap.
#[derive(Debug, Default)]
pub(super) struct Window {
    places: VecDeque<InFlight>,
    gaps: usize,
    /// The memory of the places.
    held: Held<{ MemoryKind::InFlight as u8 }>,
}

impl Window {
    /// The memory it takes, in bytes, with all messages.
    pub fn memory(&self) -> usize {
        let messages = self.places.iter().map(InFlight::size).sum::<usize>();
        self.held.bytes() + messages
    }

    /// How many messages are in flight.
    #[inline]
    pub fn len(&self) -> usize {
        self.places.len() - self.gaps
    }

    /// The oldest.
    #[inline]
    pub fn first(&self) -> Option<&InFlight> {
        self.places.front()
    }

    /// The latest; perhaps it is a gap.
    #[inline]
    pub fn last(&self) -> Option<&InFlight> {
        self.places.back()
    }

    /// Adds a message, with a higher sequence than all others.
    // Always inline, so that the entry is built where it stays.
    #[inline(always)]
    pub fn push(&mut self, entry: InFlight) {
        if self.places.len() == self.places.capacity() {
            self.grow();
        }
        self.places.push_back(entry);
    }

    /// The message at this place.
    #[inline]
    pub fn at(&self, place: usize) -> &InFlight {
        &self.places[place]
    }

    /// As [`at`](Self::at), to change it.
    pub fn at_mut(&mut self, place: usize) -> &mut InFlight {
        &mut self.places[place]
    }

    /// Takes out the message at this place.
    #[inline]
    pub fn remove(&mut self, place: usize) -> Option<InFlight> {
        // The usual case has a cheap way of its own.
        if place > 0 {
            return self.leave_gap(place);
        }
        let removed = self.places.pop_front();
        if self.gaps > 0 {
            self.close_front();
        }
        if self.places.is_empty() && self.places.capacity() > FEW {
            self.places = VecDeque::new();
            self.held.set(0);
        }
        removed
    }

    /// Makes room for more messages, and counts the memory it takes.
    #[cold]
    fn grow(&mut self) {
        self.places.reserve(1);
        self.held.set(allocated_for::<InFlight>(self.places.capacity()));
    }

    /// The messages in flight.
    pub fn in_order(&self) -> impl Iterator<Item = &InFlight> {
        self.places.iter().filter(|entry| !entry.is_gap())
    }

    /// The place of the first message whose sequence is not below this one.
    pub fn first_from(&self, sequence: u64) -> Option<usize> {
        let place = self.places.partition_point(|entry| entry.sequence() < sequence);
        (place..self.places.len()).find(|place| !self.places[*place].is_gap())
    }

    /// The place of `id`: nearly always the first; otherwise the sequences that give this id are looked up, latest first, each by
    /// bisection.
    #[inline]
    pub fn find(&self, id: PacketId) -> Option<usize> {
        let first = self.places.front()?.sequence();
        if packet_id(first) == id { Some(0) } else { self.find_behind(first, id) }
    }

    /// The place of a sequence: mostly as far behind the first as the sequences are apart.
    fn place_of(&self, sequence: u64) -> Option<usize> {
        let guess = usize::try_from(sequence - self.places.front()?.sequence()).ok()?;
        match self.places.get(guess) {
            Some(entry) if entry.sequence() == sequence => Some(guess),
            _ => self.places.binary_search_by_key(&sequence, InFlight::sequence).ok(),
        }
    }

    fn find_behind(&self, first: u64, id: PacketId) -> Option<usize> {
        let last = self.places.back()?.sequence();
        // One that is never acknowledged, and millions that were sent after it: there are fewer places than such sequences.
        if (last - first) / IDS > self.places.len() as u64 {
            return self.places.iter().rposition(|entry| packet_id(entry.sequence()) == id && !entry.is_gap());
        }
        let remainder = u64::from(id.get()) - 1;
        let mut sequence = (last / IDS) * IDS + remainder;
        if sequence > last {
            sequence = sequence.checked_sub(IDS)?;
        }
        loop {
            if sequence < first {
                return None;
            }
            if let Some(place) = self.place_of(sequence)
                && !self.places[place].is_gap()
            {
                return Some(place);
            }
            sequence = sequence.checked_sub(IDS)?;
        }
    }

    #[cold]
    fn leave_gap(&mut self, place: usize) -> Option<InFlight> {
        let entry = self.places.get_mut(place)?;
        let gap = InFlight::gap(entry.sequence());
        let removed = std::mem::replace(entry, gap);
        self.gaps += 1;
        if self.gaps * 2 > self.places.len() && self.places.len() > FEW {
            self.places.retain(|entry| !entry.is_gap());
            self.gaps = 0;
        }
        Some(removed)
    }

    #[cold]
    fn close_front(&mut self) {
        while self.places.front().is_some_and(InFlight::is_gap) {
            self.places.pop_front();
            self.gaps -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::codec::QoS;
    use crate::session::queue::tests::delivery;

    fn window(sequences: std::ops::Range<u64>) -> Window {
        let mut window = Window::default();
        sequences.for_each(|sequence| window.push(InFlight::new(sequence, delivery("x", QoS::AtLeastOnce), None)));
        window
    }

    fn remove(window: &mut Window, sequence: u64) {
        let place = window.find(packet_id(sequence)).expect("it is in flight");
        assert_eq!(window.remove(place).map(|entry| entry.sequence()), Some(sequence));
        assert!(window.find(packet_id(sequence)).is_none());
    }

    #[test]
    fn gaps_take_no_more_room_than_what_is_in_flight() {
        let mut window = window(0..1000);
        // The first is never acknowledged, however many are sent after it.
        for sequence in 1..50_000 {
            remove(&mut window, sequence);
            window.push(InFlight::new(sequence + 999, delivery("x", QoS::AtLeastOnce), None));
            assert!(window.len() == 1000 - 1 + 1 && window.places.len() <= 2001, "{}", window.places.len());
        }
        assert_eq!(
            (window.first().map(InFlight::sequence), window.first_from(1)),
            (Some(0), window.find(packet_id(50_000)))
        );
        for sequence in (50_000..50_999).rev() {
            remove(&mut window, sequence);
        }
        assert!(window.places.len() <= FEW);
        remove(&mut window, 0);
        assert_eq!((window.len(), window.places.len(), window.places.capacity()), (0, 0, 0));
    }

    /// Whatever the order of acknowledgements, each costs the same, however many messages are in flight. Printed, not asserted.
    #[test]
    fn an_acknowledgement_costs_the_same_in_any_order() {
        for most in [1_000, 65_535_u64] {
            let middle = most / 2;
            let from_the_middle = (0..middle).flat_map(|step| [middle + step, middle - 1 - step]);
            let orders: [(&str, Vec<u64>); 3] = [
                ("in order", (0..most).collect()),
                ("backwards", (0..most).rev().collect()),
                ("from the middle", from_the_middle.chain(middle * 2..most).collect()),
            ];
            for (name, order) in orders {
                let mut window = window(0..most);
                let began = Instant::now();
                order.iter().for_each(|sequence| remove(&mut window, *sequence));
                println!("{most} in flight, {name}: {} ns each", began.elapsed().as_nanos() / u128::from(most));
                assert_eq!((window.len(), window.places.len()), (0, 0));
            }
        }
    }
}
