//! A list in chunks: growing copies the entries of one chunk.

use std::ops::{Index, IndexMut};

/// The size of a chunk in bytes, about.
const CHUNK_BYTES: usize = 128 * 1024;
/// A chunk has so many entries at least, and at most.
const FEWEST: usize = 256;
const MOST: usize = 16 * 1024;

/// A list with an index, like a `Vec`, that copies no more than one chunk in one call: 128 KiB, or 256 entries if that is more.
///
/// The first chunk is a plain vector, which grows by doubling. Others are made in their full size, and freed when the last entry in
/// them has gone. A list that has not more than the first costs what a vector costs.
#[derive(Debug)]
pub struct Chunks<T> {
    /// Full if there is another chunk.
    first: Vec<T>,
    /// All but the last one are full.
    rest: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Chunks::new()
    }
}

impl<T> Chunks<T> {
    /// How many entries a chunk has: a power of two.
    pub const CHUNK: usize = {
        let mut entries = MOST;
        while entries > FEWEST && entries * size_of::<T>() > CHUNK_BYTES {
            entries /= 2;
        }
        entries
    };

    /// An empty list, which has allocated nothing.
    pub const fn new() -> Self {
        Chunks { first: Vec::new(), rest: Vec::new() }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self.rest.last() {
            None => self.first.len(),
            Some(last) => self.rest.len() * Self::CHUNK + last.len(),
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.rest.is_empty()
    }

    /// The memory it takes, in bytes, without what entries hold elsewhere.
    pub fn allocated(&self) -> usize {
        use crate::memory::allocated_for;

        allocated_for::<T>(self.first.capacity())
            + self.rest.len() * allocated_for::<T>(Self::CHUNK)
            + allocated_for::<Vec<T>>(self.rest.capacity())
    }

    /// The entry at this index.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        match self.first.get(at) {
            None => self.get_in_rest(at),
            found => found,
        }
    }

    /// The entry at this index, to change it.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        // (What is found cannot be returned from the first arm of a match that goes on to use `self`.)
        if at < self.first.len() { self.first.get_mut(at) } else { self.get_mut_in_rest(at) }
    }

    /// The last entry.
    pub fn last(&self) -> Option<&T> {
        self.rest.last().unwrap_or(&self.first).last()
    }

    /// Adds an entry at the end.
    #[inline]
    pub fn push(&mut self, value: T) {
        if self.rest.is_empty() && self.first.len() < Self::CHUNK {
            self.first.push(value);
        } else {
            self.push_in_rest(value);
        }
    }

    /// Takes the last entry out. Its chunk is freed if it was the only one there.
    pub fn pop(&mut self) -> Option<T> {
        let Some(last) = self.rest.last_mut() else { return self.first.pop() };
        let value = last.pop();
        if last.is_empty() {
            self.drop_last_chunk();
        }
        value
    }

    /// Takes an entry out; the last one comes to its place.
    pub fn swap_remove(&mut self, at: usize) -> Option<T> {
        let last = self.len().checked_sub(1).filter(|last| at <= *last)?;
        if at < last {
            self.swap(at, last);
        }
        self.pop()
    }

    /// Two entries change places.
    ///
    /// # Panics
    ///
    /// If one of them is not there.
    pub fn swap(&mut self, one: usize, other: usize) {
        let (low, high) = (one.min(other), one.max(other));
        let (of_low, of_high) = (low / Self::CHUNK, high / Self::CHUNK);
        let (at_low, at_high) = (low % Self::CHUNK, high % Self::CHUNK);
        if of_low == of_high {
            return self.chunk_mut(of_low).swap(at_low, at_high);
        }
        let (before, behind) = self.rest.split_at_mut(of_high - 1);
        let lower = if of_low == 0 { &mut self.first } else { &mut before[of_low - 1] };
        std::mem::swap(&mut lower[at_low], &mut behind[0][at_high]);
    }

    /// The entries, in order, as lists that lie side by side.
    #[inline]
    pub fn pieces(&self) -> impl Iterator<Item = &[T]> {
        std::iter::once(&self.first).chain(&self.rest).map(Vec::as_slice)
    }

    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces().flatten()
    }

    /// Gives memory of the first chunk back if three of four places in it are unused.
    pub fn give_back(&mut self) {
        if self.rest.is_empty() && self.first.len() < self.first.capacity() / 4 {
            self.first.shrink_to(2 * self.first.len());
        }
    }

    // What is in the first chunk is to cost what it costs in a vector: nothing is to be kept for the other case.
    #[cold]
    #[inline(never)]
    fn get_in_rest(&self, at: usize) -> Option<&T> {
        self.rest.get((at / Self::CHUNK).wrapping_sub(1))?.get(at % Self::CHUNK)
    }

    #[cold]
    #[inline(never)]
    fn get_mut_in_rest(&mut self, at: usize) -> Option<&mut T> {
        self.rest.get_mut((at / Self::CHUNK).wrapping_sub(1))?.get_mut(at % Self::CHUNK)
    }

    #[cold]
    #[inline(never)]
    fn index_in_rest(&self, at: usize) -> &T {
        self.get_in_rest(at).expect("it is there")
    }

    #[inline(never)]
    fn push_in_rest(&mut self, value: T) {
        match self.rest.last_mut().filter(|last| last.len() < Self::CHUNK) {
            Some(last) => last.push(value),
            None => {
                let mut chunk = Vec::with_capacity(Self::CHUNK);
                chunk.push(value);
                self.rest.push(chunk);
            }
        }
    }

    // For the lists that are made of these: there, chunks may be empty.

    /// How many chunks there are.
    pub(super) fn chunks(&self) -> usize {
        1 + self.rest.len()
    }

    /// One of the chunks.
    ///
    /// # Panics
    ///
    /// If there is no such chunk.
    pub(super) fn chunk_mut(&mut self, chunk: usize) -> &mut Vec<T> {
        match chunk.checked_sub(1) {
            None => &mut self.first,
            Some(at) => &mut self.rest[at],
        }
    }

    /// Adds a chunk without entries.
    pub(super) fn push_chunk(&mut self) {
        self.rest.push(Vec::new());
    }

    /// Frees the last chunk.
    pub(super) fn drop_last_chunk(&mut self) {
        if self.rest.pop().is_none() {
            self.first = Vec::new();
        }
        if self.rest.len() < self.rest.capacity() / 4 {
            self.rest.shrink_to(2 * self.rest.len());
        }
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        if at < self.first.len() { &self.first[at] } else { self.index_in_rest(at) }
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        if at < self.first.len() { &mut self.first[at] } else { self.get_mut_in_rest(at).expect("it is there") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With 256 entries in a chunk.
    type Large = [u64; 64];

    fn large(number: usize) -> Large {
        [number as u64; 64]
    }

    #[test]
    fn chunks_have_about_as_many_bytes_whatever_is_in_them() {
        assert_eq!([Chunks::<u8>::CHUNK, Chunks::<u64>::CHUNK, Chunks::<()>::CHUNK], [MOST; 3]);
        assert_eq!((Chunks::<[u64; 2]>::CHUNK, Chunks::<[u64; 10]>::CHUNK), (8192, 1024));
        assert_eq!((Chunks::<Large>::CHUNK, Chunks::<[u64; 1000]>::CHUNK), (256, FEWEST));
    }

    /// What has a place never moves, but within the first chunk while that grows.
    #[test]
    fn growing_copies_no_more_than_the_first_chunk() {
        let mut chunks = Chunks::<Large>::new();
        (0..1000).for_each(|number| chunks.push(large(number)));
        let before: Vec<*const Large> = chunks.iter().map(std::ptr::from_ref).collect();
        (1000..20_000).for_each(|number| chunks.push(large(number)));
        assert!(before.iter().enumerate().all(|(at, place)| std::ptr::eq(*place, &chunks[at])));
        assert!(chunks.pieces().all(|piece| piece.len() <= Chunks::<Large>::CHUNK));
        let (taken, needed) = (chunks.allocated(), 20_000 * size_of::<Large>());
        assert!(taken >= needed && taken < needed + 300_000, "{taken}");
    }

    #[test]
    fn memory_of_chunks_returns() {
        let mut chunks = Chunks::<Large>::new();
        assert_eq!(chunks.allocated(), 0);
        (0..5000).for_each(|number| chunks.push(large(number)));
        (10..5000).rev().for_each(|number| assert_eq!(chunks.pop(), Some(large(number))));
        chunks.give_back();
        assert!(chunks.allocated() <= 24 * size_of::<Large>(), "{}", chunks.allocated());
        assert_eq!((chunks.len(), chunks.last()), (10, Some(&large(9))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a vector, across the borders of chunks.
        #[test]
        fn agrees_with_a_vector(steps in prop::collection::vec((0..6_u8, 0..200_usize, any::<usize>()), 1..60)) {
            let (mut chunks, mut model, mut number) = (Chunks::<Large>::new(), Vec::new(), 0);
            for (step, times, seed) in steps {
                for time in 0..times {
                    match step {
                        0..3 => {
                            chunks.push(large(number));
                            model.push(large(number));
                            number += 1;
                        }
                        3 => prop_assert_eq!(chunks.pop(), model.pop()),
                        4 if !model.is_empty() => {
                            let at = seed.wrapping_mul(time + 1) % model.len();
                            prop_assert_eq!(chunks.swap_remove(at), Some(model.swap_remove(at)));
                        }
                        5 if !model.is_empty() => {
                            let [one, other] = [seed, time].map(|at| at.wrapping_mul(31) % model.len());
                            chunks.swap(one, other);
                            model.swap(one, other);
                            *chunks.get_mut(one).expect("it is there") = large(number);
                            model[one] = large(number);
                        }
                        _ => prop_assert_eq!(chunks.swap_remove(0), None),
                    }
                }
                prop_assert_eq!((chunks.len(), chunks.is_empty(), chunks.last()), (model.len(), model.is_empty(), model.last()));
                prop_assert!(chunks.iter().eq(&model));
                prop_assert!((0..model.len() + 300).all(|at| chunks.get(at) == model.get(at)));
                prop_assert!(chunks.get_mut(model.len()).is_none() && chunks.get(usize::MAX).is_none());
            }
        }
    }
}
