//! Keys and values in a hash table in parts.

use std::borrow::Borrow;
use std::fmt;
use std::hash::Hash;

use ahash::RandomState;

use super::PartedTable;

/// A map like `HashMap` that moves a bounded number of entries in one call: see [`PartedTable`].
pub struct PartedMap<K, V> {
    entries: PartedTable<(K, V)>,
    hasher: RandomState,
}

impl<K, V> fmt::Debug for PartedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartedMap").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<K, V> PartedMap<K, V> {
    /// An empty map, which has allocated nothing. Keys are hashed with `hasher`: one with a secret seed where clients choose them.
    pub const fn with_hasher(hasher: RandomState) -> Self {
        PartedMap { entries: PartedTable::new(), hasher }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The memory it takes, in bytes, without what keys and values hold elsewhere.
    pub fn allocated(&self) -> usize {
        self.entries.allocated()
    }

    /// The keys with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// The keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Hash + Eq, V> PartedMap<K, V> {
    /// The value of a key.
    #[inline]
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        self.entries.find(self.hasher.hash_one(key), |(other, _)| other.borrow() == key).map(|(_, value)| value)
    }

    /// The value of a key, to change it.
    #[inline]
    pub fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        self.entries.find_mut(self.hasher.hash_one(key), |(other, _)| other.borrow() == key).map(|(_, value)| value)
    }

    /// Whether a key has a value.
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value of a key, made now if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&key);
        // The key is needed to compare, and then to be put in.
        if self.entries.find(hash, |(other, _)| *other == key).is_some() {
            let found = self.entries.find_mut(hash, |(other, _)| *other == key);
            return &mut found.expect("it was found").1;
        }
        &mut self.entries.insert_unique(hash, (key, make()), |(other, _)| hasher.hash_one(other)).1
    }

    /// Gives a key a value. Returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hasher = &self.hasher;
        let hash = hasher.hash_one(&key);
        if let Some((_, old)) = self.entries.find_mut(hash, |(other, _)| *other == key) {
            return Some(std::mem::replace(old, value));
        }
        self.entries.insert_unique(hash, (key, value), |(other, _)| hasher.hash_one(other));
        None
    }

    /// Takes the value of a key out.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let hasher = &self.hasher;
        let is_it = |(other, _): &(K, V)| other.borrow() == key;
        let removed = self.entries.remove(hasher.hash_one(key), is_it, |(other, _)| hasher.hash_one(other));
        removed.map(|(_, value)| value)
    }

    /// Forgets the entries of a part for which `keep` is false: see [`PartedTable::retain_in`].
    pub fn retain_in(&mut self, part: usize, mut keep: impl FnMut(&K, &mut V) -> bool) -> Option<usize> {
        let hasher = &self.hasher;
        self.entries.retain_in(part, |(key, value)| keep(key, value), |(key, _)| hasher.hash_one(key))
    }
}

impl<K: Hash + Eq, V> Extend<(K, V)> for PartedMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn map() -> PartedMap<String, u32> {
        PartedMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4))
    }

    #[test]
    fn it_takes_a_pointer_more_than_a_plain_one() {
        type Plain = hashbrown::HashMap<String, u32, RandomState>;
        assert_eq!(size_of::<PartedMap<String, u32>>(), size_of::<Plain>() + size_of::<usize>());
        assert_eq!(map().allocated(), 0);
    }

    #[test]
    fn entries_are_forgotten_part_by_part() {
        let mut map = map();
        (0..10_000).for_each(|number| assert_eq!(map.insert(number.to_string(), number), None));
        let mut part = Some(0);
        while let Some(at) = part {
            part = map.retain_in(at, |_, number| *number < 100);
        }
        assert!((100..5000).contains(&map.len()), "some were moved to parts that had been seen: {}", map.len());
        assert!((0..100).all(|number| map.contains_key(&*number.to_string())));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..5_u8, 0..30_u32), 0..200)) {
            let (mut map, mut model) = (map(), BTreeMap::new());
            for (at, (step, key)) in steps.into_iter().enumerate() {
                let (key, at) = (key.to_string(), at as u32);
                match step {
                    0 | 1 => prop_assert_eq!(map.insert(key.clone(), at), model.insert(key, at)),
                    2 => {
                        *map.get_or_insert_with(key.clone(), || 7) += 1;
                        *model.entry(key).or_insert(7) += 1;
                    }
                    3 => prop_assert_eq!(map.get_mut(&*key), model.get_mut(&key)),
                    _ => prop_assert_eq!(map.remove(&*key), model.remove(&key)),
                }
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                let (mut keys, mut values): (Vec<_>, Vec<_>) = (map.keys().collect(), map.values().collect());
                keys.sort();
                values.sort();
                prop_assert_eq!(keys, model.keys().collect::<Vec<_>>());
                let mut others: Vec<_> = model.values().collect();
                others.sort();
                prop_assert_eq!(values, others);
                for (key, value) in &model {
                    prop_assert_eq!(map.get(&**key), Some(value));
                }
            }
        }
    }
}
