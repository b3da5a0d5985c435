//! A value for each index, in chunks that are made when one of their values is set.

use super::Chunks;

/// A list without an end, in which every value is [`Default::default`] until it is set. Setting one makes one chunk at most, wherever it is.
#[derive(Debug)]
pub struct Sparse<T>(Chunks<T>);

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Sparse(Chunks::new())
    }
}

impl<T: Copy + Default> Sparse<T> {
    /// The value at an index.
    #[inline]
    pub fn get(&self, at: usize) -> T {
        self.0.get(at).copied().unwrap_or_default()
    }

    /// The memory it takes, in bytes.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        self.0.allocated()
    }

    /// Sets the value at an index.
    #[inline]
    pub fn set(&mut self, at: usize, value: T) {
        match self.0.get_mut(at) {
            Some(known) => *known = value,
            None => self.set_first(at, value),
        }
    }

    #[inline(never)]
    fn set_first(&mut self, at: usize, value: T) {
        let (chunk, at) = (at / Chunks::<T>::CHUNK, at % Chunks::<T>::CHUNK);
        while self.0.chunks() <= chunk {
            self.0.push_chunk();
        }
        let values = self.0.chunk_mut(chunk);
        // The first one grows with what is in it, as most have no other.
        let len = if chunk == 0 { (at + 1).next_power_of_two() } else { Chunks::<T>::CHUNK };
        values.reserve_exact(len.saturating_sub(values.len()));
        values.resize(len, T::default());
        values[at] = value;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = Chunks::<[u64; 32]>::CHUNK;

    #[test]
    fn what_nobody_set_takes_no_memory() {
        let mut sparse = Sparse::<[u64; 32]>::default();
        sparse.set(2, [1; 32]);
        assert_eq!(sparse.0.chunk_mut(0).capacity(), 4);
        sparse.set(10 * CHUNK + 3, [1; 32]);
        let made = (0..sparse.0.chunks()).filter(|chunk| sparse.0.chunk_mut(*chunk).capacity() > 4).count();
        assert_eq!((sparse.0.chunks(), made), (11, 1));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..5 * CHUNK, 1..9_u64), 0..60)) {
            let (mut sparse, mut model) = (Sparse::<[u64; 32]>::default(), BTreeMap::new());
            for (at, value) in steps {
                sparse.set(at, [value; 32]);
                model.insert(at, value);
                prop_assert!((0..6 * CHUNK).all(|at| sparse.get(at)[0] == model.get(&at).copied().unwrap_or(0)));
            }
        }
    }
}
