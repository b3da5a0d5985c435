//! Places that are taken and given back in any order, in chunks.

use std::ops::{Index, IndexMut};

use super::Chunks;
use crate::memory::allocated_for;

/// Values at places that are numbered, like a slab. A value stays at its place; a place that was given back is used again, the lowest one
/// first, so that the rear ones become free in time. A chunk in which no place is taken is freed. One call moves the entries of one chunk
/// at most. Where many places have become free among others that have not, the owner may move values that
/// [`straggler`](Slots::straggler) names, one by one.
///
/// A place that is not taken has the value [`Default::default`]; there may be no value to be seen there at all.
#[derive(Debug)]
pub struct Slots<T> {
    places: Chunks<T>,
    /// How many places in each chunk are taken.
    taken: Vec<u32>,
    free: FreePlaces,
    len: usize,
    /// How many chunks other than the first have been freed, with chunks behind them that have not.
    freed: usize,
    /// The last straggler: the next one is in front of it.
    straggler: usize,
}

/// With so many places for each that is taken, those in the rear are stragglers.
const SPARSE: usize = 4;
/// So many words of free places are looked at for a straggler.
const LOOKED_AT: usize = 256;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots::new()
    }
}

impl<T> Slots<T> {
    /// None taken; nothing is allocated.
    pub const fn new() -> Self {
        Slots {
            places: Chunks::new(),
            taken: Vec::new(),
            free: FreePlaces::new(),
            len: 0,
            freed: 0,
            straggler: usize::MAX,
        }
    }

    /// How many places are taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory it takes, in bytes, without what values hold elsewhere.
    pub fn allocated(&self) -> usize {
        self.places.allocated() - self.freed * allocated_for::<T>(Chunks::<T>::CHUNK)
            + allocated_for::<u32>(self.taken.capacity())
            + self.free.allocated()
    }

    /// The value at a place.
    #[inline]
    pub fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)
    }

    /// The value at a place, to change it.
    #[inline]
    pub fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)
    }

    /// All values in the order of their places. Those of places that are not taken may be among them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter()
    }
}

impl<T: Default> Slots<T> {
    /// Takes a place for a value.
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let Some(place) = self.free.take_lowest() else {
            let place = self.places.len();
            assert!(place < u32::MAX as usize, "fewer than 2^32 places");
            self.places.push(value);
            if self.taken.len() < self.places.chunks() {
                self.taken.push(0);
            }
            self.taken[place / Chunks::<T>::CHUNK] += 1;
            return place as u32;
        };
        let (chunk, at) = (place / Chunks::<T>::CHUNK, place % Chunks::<T>::CHUNK);
        self.taken[chunk] += 1;
        let places = self.places.chunk_mut(chunk);
        if places.len() <= at {
            // It was freed.
            places.resize_with(Chunks::<T>::CHUNK, T::default);
            self.freed -= usize::from(chunk > 0);
        }
        places[at] = value;
        place as u32
    }

    /// Gives a place back that is taken, and the value that was there.
    pub fn remove(&mut self, place: u32) -> T {
        let place = place as usize;
        let value = std::mem::take(&mut self.places[place]);
        debug_assert!(!self.free.contains(place), "it is taken");
        self.len -= 1;
        self.free.add(place);
        let chunk = place / Chunks::<T>::CHUNK;
        self.taken[chunk] -= 1;
        if self.taken[chunk] == 0 {
            self.free_chunk(chunk);
        }
        value
    }

    /// A place in the rear that is taken and should be given up for one in front, by [`bring_forward`](Self::bring_forward): there are
    /// many free ones, in more than one chunk. None if that is not so, or too few places were looked at to find it. Each call names
    /// another one, from the rear to the front and then from the rear again.
    pub fn straggler(&mut self) -> Option<u32> {
        let held = self.places.len() - self.freed * Chunks::<T>::CHUNK;
        if held <= Chunks::<T>::CHUNK || held <= SPARSE * self.len {
            return None;
        }
        let lowest = self.free.lowest()?;
        let mut before = self.straggler.min(self.places.len());
        for _ in 0..LOOKED_AT {
            if before <= lowest {
                before = self.places.len();
            }
            match self.free.last_taken_in_word(before) {
                Some(place) if place > lowest => {
                    self.straggler = place;
                    return Some(place as u32);
                }
                _ => before = (before - 1) / 64 * 64,
            }
        }
        self.straggler = before;
        None
    }

    /// Moves the value of a place to the lowest one that is free: gives which.
    pub fn bring_forward(&mut self, place: u32) -> u32 {
        let value = self.remove(place);
        self.insert(value)
    }

    fn free_chunk(&mut self, chunk: usize) {
        if chunk + 1 < self.taken.len() {
            *self.places.chunk_mut(chunk) = Vec::new();
            self.freed += usize::from(chunk > 0);
            return;
        }
        // Those before it may have been freed already.
        while self.taken.last() == Some(&0) {
            let last = self.taken.len() - 1;
            self.freed -= usize::from(last > 0 && self.places.chunk_mut(last).is_empty());
            self.places.drop_last_chunk();
            self.taken.pop();
        }
        self.free.truncate(self.taken.len() * Chunks::<T>::CHUNK);
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: u32) -> &T {
        &self.places[place as usize]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut T {
        &mut self.places[place as usize]
    }
}

/// The places that are free: a bit for each, and above them a bit for each word that has one.
#[derive(Debug)]
struct FreePlaces {
    words: Vec<u64>,
    above: Vec<u64>,
    /// Before this word of those above nothing is free.
    lowest: usize,
}

impl FreePlaces {
    const fn new() -> Self {
        FreePlaces { words: Vec::new(), above: Vec::new(), lowest: 0 }
    }

    fn allocated(&self) -> usize {
        allocated_for::<u64>(self.words.capacity()) + allocated_for::<u64>(self.above.capacity())
    }

    fn contains(&self, place: usize) -> bool {
        self.words.get(place / 64).is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn add(&mut self, place: usize) {
        let (word, above) = (place / 64, place / 64 / 64);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
            self.above.resize(above + 1, 0);
        }
        self.words[word] |= 1 << (place % 64);
        self.above[above] |= 1 << (word % 64);
        self.lowest = self.lowest.min(above);
    }

    /// With 10^7 places no more than 2,442 words are looked at.
    fn lowest(&mut self) -> Option<usize> {
        while self.above.get(self.lowest) == Some(&0) {
            self.lowest += 1;
        }
        let word = self.lowest * 64 + self.above.get(self.lowest)?.trailing_zeros() as usize;
        Some(word * 64 + self.words[word].trailing_zeros() as usize)
    }

    fn take_lowest(&mut self) -> Option<usize> {
        let place = self.lowest()?;
        let word = place / 64;
        self.words[word] &= !(1 << (place % 64));
        if self.words[word] == 0 {
            self.above[word / 64] &= !(1 << (word % 64));
        }
        Some(place)
    }

    /// The last place before `end` that is not free, if it is in the same word.
    fn last_taken_in_word(&self, end: usize) -> Option<usize> {
        let last = end.checked_sub(1)?;
        let taken = !self.words.get(last / 64).copied().unwrap_or(0) & (u64::MAX >> (63 - last % 64));
        taken.checked_ilog2().map(|bit| last / 64 * 64 + bit as usize)
    }

    /// Forgets the places from this one on, which is a multiple of 64.
    fn truncate(&mut self, places: usize) {
        let words = places / 64;
        if words >= self.words.len() {
            return;
        }
        self.words.truncate(words);
        self.above.truncate(words.div_ceil(64));
        if let (Some(last), rest @ 1..) = (self.above.last_mut(), words % 64) {
            *last &= (1 << rest) - 1;
        }
        self.lowest = self.lowest.min(self.above.len());
        if self.words.len() < self.words.capacity() / 4 {
            self.words.shrink_to(2 * self.words.len());
            self.above.shrink_to(2 * self.above.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// With 256 places in a chunk.
    type Large = Option<Box<[[u64; 64]; 1]>>;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Wide([u64; 64]);

    impl Default for Wide {
        fn default() -> Self {
            Wide([u64::MAX; 64])
        }
    }

    fn wide(number: u64) -> Wide {
        Wide([number; 64])
    }

    const CHUNK: u32 = Chunks::<Wide>::CHUNK as u32;

    fn filled(places: u32) -> Slots<Wide> {
        let mut slots = Slots::new();
        (0..places).for_each(|place| assert_eq!(slots.insert(wide(place.into())), place));
        slots
    }

    #[test]
    fn the_lowest_free_place_is_taken_first() {
        let mut slots = filled(1000);
        for place in [700, 3, 500, 64] {
            assert_eq!(slots.remove(place), wide(place.into()));
        }
        assert_eq!([(); 5].map(|()| slots.insert(wide(0))), [3, 64, 500, 700, 1000]);
        assert_eq!(slots.len(), 1001);
    }

    #[test]
    fn a_chunk_without_a_taken_place_is_freed_wherever_it_is() {
        let mut slots = filled(4 * CHUNK);
        let (full, chunk) = (slots.allocated(), allocated_for::<Wide>(Chunks::<Wide>::CHUNK));
        (CHUNK..2 * CHUNK).for_each(|place| assert_eq!(slots.remove(place), wide(place.into())));
        assert!(slots.allocated() < full - chunk / 2, "one in the middle");
        assert_eq!(slots.get(CHUNK), None);
        assert_eq!(slots.insert(wide(7)), CHUNK, "it is used again");
        assert_eq!((slots[CHUNK], slots[CHUNK + 1]), (wide(7), Wide::default()));
        slots.remove(CHUNK);
        (2 * CHUNK..4 * CHUNK).for_each(|place| assert_eq!(slots.remove(place), wide(place.into())));
        assert!(slots.allocated() < full / 4 + 10_000, "and those before the last ones");
        (0..CHUNK).for_each(|place| assert_eq!(slots.remove(place), wide(place.into())));
        assert!(slots.allocated() < 256, "{}", slots.allocated());
        assert_eq!(slots.insert(wide(1)), 0);
    }

    #[test]
    fn stragglers_are_brought_forward_one_by_one_until_few_places_are_free() {
        let mut slots = filled(20 * CHUNK);
        let full = slots.allocated();
        assert_eq!(slots.straggler(), None);
        (0..20 * CHUNK)
            .filter(|place| place % 50 != 0)
            .for_each(|place| assert_eq!(slots.remove(place), wide(place.into())));
        assert!(slots.allocated() > full / 2, "one in each chunk");
        let (mut left, mut moves, mut calls) = (slots.len(), 0, 0);
        while slots.places.chunks() > 1 && calls < 1000 {
            calls += 1;
            if let Some(place) = slots.straggler() {
                let value = slots[place];
                // The owner may leave one where it is.
                if place % 100 != 0 || calls > 300 {
                    let to = slots.bring_forward(place);
                    assert!(to < place && slots[to] == value);
                    moves += 1;
                }
            }
        }
        assert!(slots.allocated() <= full / 10 && moves <= 2 * left, "{moves} {calls}");
        (0..20 * CHUNK).for_each(|place| {
            if !slots.free.contains(place as usize) && (place as usize) < slots.places.len() {
                slots.remove(place);
                left -= 1;
            }
        });
        assert!(left == 0 && slots.allocated() < 256, "{left} {}", slots.allocated());
    }

    #[test]
    fn of_an_option_no_place_is_larger_than_its_value() {
        let mut slots = Slots::<Large>::new();
        let place = slots.insert(Some(Box::new([[1; 64]])));
        assert!(slots[place].is_some() && slots.remove(place).is_some() && slots.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a map by place. Steps are for many places, so that chunks are freed.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..3_u8, 0..5_u32, 1..400_u32), 1..40)) {
            let (mut slots, mut model, mut number) = (Slots::new(), BTreeMap::new(), 0);
            let mut free: BTreeSet<u32> = (0..20_000).collect();
            for (step, chunk, times) in steps {
                for at in chunk * CHUNK..chunk * CHUNK + times {
                    match step {
                        0 => {
                            let place = slots.insert(wide(number));
                            prop_assert_eq!(Some(place), free.pop_first());
                            model.insert(place, number);
                            number += 1;
                        }
                        _ => if let Some(known) = model.remove(&at) {
                            prop_assert_eq!(slots.remove(at), wide(known));
                            free.insert(at);
                        },
                    }
                }
                prop_assert_eq!((slots.len(), slots.is_empty()), (model.len(), model.is_empty()));
                for (place, known) in &model {
                    prop_assert_eq!(slots.get(*place), Some(&wide(*known)));
                }
                let held: usize = (0..slots.places.chunks())
                    .map(|chunk| allocated_for::<Wide>(slots.places.chunk_mut(chunk).capacity()))
                    .sum();
                let rest = allocated_for::<Vec<Wide>>(64) + allocated_for::<u32>(64) + 4096;
                prop_assert!((held..held + rest).contains(&slots.allocated()), "{} {held}", slots.allocated());
                let last = model.last_key_value().map_or(0, |(place, _)| place / CHUNK + 1);
                prop_assert_eq!(slots.taken.len() as u32, last);
            }
        }
    }
}
