//! A hash table in parts: growing moves the entries of one part.
//!
//! This is linear hashing over tables. Bits in the middle of a hash choose the part; when there are more entries than the parts
//! should have on average, one part is split into two, in the order of their numbers, and the part that is new is the last one. So there is no
//! directory that maps anything, one part more costs one part's entries, and nothing can be split in vain: entries of one and the same hash stay
//! in one part, which then is as large as they are many, and the others are split in their turn.
//!
//! While all are in one part there is nothing else: a small table takes as much memory as a plain one and a pointer, and what is found there costs
//! as much.

use std::fmt;
use std::vec;

use hashbrown::HashTable;
use hashbrown::hash_table::{self, Entry};

use crate::memory::{allocated, allocated_for};

/// A single part has no more entries than this: then there are two.
const FULL: usize = 1600;
/// How many entries parts have on average, at most. Those that have not been split yet in a round have up to twice as many.
const AVERAGE: usize = FULL / 2;
/// With fewer on average the last part joins the one that it came from. Far enough below [`AVERAGE`] that a table whose entries come
/// and go does not split and join all the time.
const FEW: usize = AVERAGE / 2;
/// With less room than this, it is not worth while to give some back.
const WORTH_SHRINKING: usize = 448;
/// From this bit of a hash on they choose the part: the table in the part uses those at both ends.
const CHOOSING_BITS: u32 = 32;
/// In the number of a place the part stands above this bit.
const PART_BITS: u32 = 32;

/// A hash table that moves no more entries in one call than two parts have places: like [`HashTable`], hashes and what makes two entries
/// equal are handed in. Hashes should differ in all bits.
pub struct PartedTable<T> {
    /// All of them, while one part is enough; then it is empty. It is looked into first, so that what is found there costs what it costs
    /// in a plain table.
    one: HashTable<T>,
    many: Option<Box<Many<T>>>,
}

/// Two parts or more.
struct Many<T> {
    parts: Vec<HashTable<T>>,
    /// One less than the number of parts, rounded up to a power of two.
    mask: usize,
    len: usize,
    /// The memory of the parts.
    allocated: usize,
}

impl<T> Default for PartedTable<T> {
    fn default() -> Self {
        PartedTable::new()
    }
}

impl<T> fmt::Debug for PartedTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartedTable").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> PartedTable<T> {
    /// An empty table, which has allocated nothing.
    pub const fn new() -> Self {
        PartedTable { one: HashTable::new(), many: None }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> usize {
        match &self.many {
            None => self.one.len(),
            Some(many) => many.len,
        }
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory it takes, in bytes, without what entries hold elsewhere.
    pub fn allocated(&self) -> usize {
        match &self.many {
            None => allocated_by(&self.one),
            Some(many) => size_of::<Many<T>>() + allocated_for::<HashTable<T>>(many.parts.capacity()) + many.allocated,
        }
    }

    /// The entry with this hash of which `is_it` is true.
    #[inline]
    pub fn find(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        match self.one.find(hash, &mut is_it) {
            None => self.many.as_ref()?.find(hash, is_it),
            found => found,
        }
    }

    /// As [`find`](Self::find), to change it. Its hash must stay the same.
    #[inline]
    pub fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        match &mut self.many {
            None => self.one.find_mut(hash, is_it),
            Some(many) => many.find_mut(hash, is_it),
        }
    }

    /// The entry with this hash of which `is_it` is true, made now if there is none. `hasher` gives the hashes of others.
    #[inline]
    pub fn find_or_insert_with(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
        hasher: impl Fn(&T) -> u64,
    ) -> &mut T {
        self.make_room(&hasher);
        match &mut self.many {
            None => self.one.entry(hash, is_it, hasher).or_insert_with(make).into_mut(),
            Some(many) => many.find_or_insert_with(hash, is_it, make, hasher),
        }
    }

    /// Adds an entry, where there is none that is equal. `hasher` gives the hashes of others.
    #[inline]
    pub fn insert_unique(&mut self, hash: u64, value: T, hasher: impl Fn(&T) -> u64) -> &mut T {
        self.make_room(&hasher);
        match &mut self.many {
            None => self.one.insert_unique(hash, value, hasher).into_mut(),
            Some(many) => many.find_or_insert_with(hash, |_| false, || value, hasher),
        }
    }

    /// Takes the entry with this hash out of which `is_it` is true. `hasher` gives the hashes of others: memory is given back when most of
    /// it is unused.
    pub fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool, hasher: impl Fn(&T) -> u64) -> Option<T> {
        match &mut self.many {
            None => {
                let (removed, _) = self.one.find_entry(hash, is_it).ok()?.remove();
                give_back(&mut self.one, &hasher);
                Some(removed)
            }
            Some(many) => {
                let at = many.choose(hash);
                let (removed, _) = many.parts[at].find_entry(hash, is_it).ok()?.remove();
                many.len -= 1;
                many.change(at, |part| give_back(part, &hasher));
                self.join(&hasher);
                Some(removed)
            }
        }
    }

    /// Makes room for so many more at once, as far as they are in one part.
    pub fn reserve(&mut self, more: usize, hasher: impl Fn(&T) -> u64) {
        if self.many.is_none() {
            self.one.reserve(more.min(FULL.saturating_sub(self.one.len())), hasher);
        }
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.tables().iter().flat_map(HashTable::iter)
    }

    /// Calls `each` with the entries from the place `begin` on, which is zero or what the last call gave, until it says that it has enough. Gives
    /// where to go on; none at the end. At most `places` are looked at, many of which may be empty. If entries come or go between two
    /// calls, others may be left out or come again.
    pub fn walk(&self, begin: usize, mut places: usize, mut each: impl FnMut(&T) -> bool) -> Option<usize> {
        let tables = self.tables();
        let (mut part, mut at) = (begin >> PART_BITS, begin & ((1 << PART_BITS) - 1));
        while let Some(table) = tables.get(part) {
            while at < table.num_buckets() {
                if places == 0 {
                    return Some(part << PART_BITS | at);
                }
                places -= 1;
                let is_enough = table.get_bucket(at).is_some_and(&mut each);
                at += 1;
                if is_enough {
                    places = 0;
                }
            }
            (part, at) = (part + 1, 0);
        }
        None
    }

    /// Forgets the entries of a part for which `keep` is false. Gives the next part; none behind the last one. Parts begin at zero.
    pub fn retain_in(
        &mut self,
        part: usize,
        keep: impl FnMut(&mut T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<usize> {
        match &mut self.many {
            None => {
                self.one.retain(keep);
                give_back(&mut self.one, &hasher);
                None
            }
            Some(many) => {
                let at = part.min(many.parts.len() - 1);
                let before = many.parts[at].len();
                many.parts[at].retain(keep);
                many.len -= before - many.parts[at].len();
                many.change(at, |part| give_back(part, &hasher));
                self.join(&hasher);
                Some(at + 1).filter(|next| *next < self.tables().len())
            }
        }
    }

    fn tables(&self) -> &[HashTable<T>] {
        match &self.many {
            None => std::slice::from_ref(&self.one),
            Some(many) => &many.parts,
        }
    }

    /// One more entry is to come.
    #[inline]
    fn make_room(&mut self, hasher: &impl Fn(&T) -> u64) {
        if self.one.len() >= FULL || self.many.is_some() {
            self.split(hasher);
        }
    }

    /// Splits the part whose turn it is, if there are enough entries for one more.
    #[inline(never)]
    fn split(&mut self, hasher: &impl Fn(&T) -> u64) {
        let one = &mut self.one;
        let many = self.many.get_or_insert_with(|| {
            let (len, allocated) = (one.len(), allocated_by(one));
            Box::new(Many { parts: vec![std::mem::take(one)], mask: 0, len, allocated })
        });
        if many.len >= many.parts.len() * AVERAGE {
            many.split(hasher);
        }
    }

    /// After entries have gone: there may be one part less.
    fn join(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(many) = &mut self.many else { return };
        if many.len < many.parts.len() * FEW {
            many.join(hasher);
        }
        if let [_] = &*many.parts
            && let Some(last) = many.parts.pop()
        {
            (self.one, self.many) = (last, None);
        }
    }
}

impl<T> Many<T> {
    /// The part of a hash.
    #[inline]
    fn choose(&self, hash: u64) -> usize {
        let at = chosen(hash) & self.mask;
        // The part with that number is still one with the one below.
        if at < self.parts.len() { at } else { at & (self.mask >> 1) }
    }

    // Not where the single part is looked into: that is to cost what a plain table does.
    #[cold]
    #[inline(never)]
    fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.parts[self.choose(hash)].find(hash, is_it)
    }

    #[inline(never)]
    fn find_mut(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let at = self.choose(hash);
        self.parts[at].find_mut(hash, is_it)
    }

    fn find_or_insert_with(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
        hasher: impl Fn(&T) -> u64,
    ) -> &mut T {
        let at = self.choose(hash);
        self.change(at, |part| part.reserve(1, &hasher));
        match self.parts[at].entry(hash, is_it, hasher) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.len += 1;
                entry.insert(make()).into_mut()
            }
        }
    }

    /// The part from which the part with this number comes: without the highest bit.
    fn origin(number: usize) -> usize {
        number ^ (1 << number.ilog2())
    }

    fn split(&mut self, hasher: &impl Fn(&T) -> u64) {
        let new = self.parts.len();
        let from = Many::<T>::origin(new);
        self.mask = (new + 1).next_power_of_two() - 1;
        let whole = std::mem::take(&mut self.parts[from]);
        self.allocated -= allocated_by(&whole);
        // Half of them, and what chance may add.
        let room = whole.len() / 2 + 64;
        let mut halves = [HashTable::with_capacity(room), HashTable::with_capacity(room)];
        for entry in whole {
            let hash = hasher(&entry);
            halves[usize::from(chosen(hash) & self.mask == new)].insert_unique(hash, entry, hasher);
        }
        self.allocated += halves.iter().map(allocated_by).sum::<usize>();
        let [stays, goes] = halves;
        self.parts[from] = stays;
        self.parts.push(goes);
    }

    /// The last part becomes one again with that from which it came.
    fn join(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(last) = self.parts.pop() else { return };
        let number = self.parts.len();
        self.allocated -= allocated_by(&last);
        self.mask = number.next_power_of_two() - 1;
        self.change(Many::<T>::origin(number), |part| {
            part.reserve(last.len(), hasher);
            for entry in last {
                part.insert_unique(hasher(&entry), entry, hasher);
            }
        });
        if self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(2 * self.parts.len());
        }
    }

    /// Changes a part, whose memory may change thereby.
    fn change(&mut self, at: usize, change: impl FnOnce(&mut HashTable<T>)) {
        let part = &mut self.parts[at];
        let before = part.num_buckets();
        let allocated = allocated_by(part);
        change(part);
        if part.num_buckets() != before {
            self.allocated = self.allocated + allocated_by(part) - allocated;
        }
    }
}

/// The bits of a hash that choose the part.
#[inline]
fn chosen(hash: u64) -> usize {
    (hash >> CHOOSING_BITS) as usize
}

fn allocated_by<T>(table: &HashTable<T>) -> usize {
    allocated(table.allocation_size())
}

/// Gives memory back if most of it is unused. (The capacity of a table says nothing of that: it falls with each entry that leaves a mark behind.)
fn give_back<T>(table: &mut HashTable<T>, hasher: &impl Fn(&T) -> u64) {
    let places = table.num_buckets() / 8 * 7;
    if places >= WORTH_SHRINKING && table.len() < places / 4 {
        table.shrink_to(2 * table.len(), hasher);
    }
}

/// The entries of a table that was taken apart. Those of a part are freed when the next one is begun.
pub struct IntoIter<T> {
    part: hash_table::IntoIter<T>,
    parts: vec::IntoIter<HashTable<T>>,
    left: usize,
}

impl<T> IntoIterator for PartedTable<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        let left = self.len();
        let parts = self.many.map_or_else(Vec::new, |many| many.parts);
        IntoIter { part: self.one.into_iter(), parts: parts.into_iter(), left }
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(entry) = self.part.next() {
                self.left -= 1;
                return Some(entry);
            }
            self.part = self.parts.next()?.into_iter();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> ExactSizeIterator for IntoIter<T> {}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What one call may move.
    const MOST_MOVED: usize = 4096;

    fn hash(key: u64) -> u64 {
        ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(key)
    }

    /// A table of numbers that counts how many hashes one call asks for.
    #[derive(Default)]
    struct Counted {
        table: PartedTable<u64>,
        asked: Cell<usize>,
        most: usize,
    }

    impl Counted {
        fn insert(&mut self, key: u64) {
            self.asked.set(0);
            let hasher = |key: &u64| {
                self.asked.set(self.asked.get() + 1);
                hash(*key)
            };
            self.table.insert_unique(hash(key), key, hasher);
            self.most = self.most.max(self.asked.get());
        }

        fn remove(&mut self, key: u64) -> Option<u64> {
            self.asked.set(0);
            let hasher = |key: &u64| {
                self.asked.set(self.asked.get() + 1);
                hash(*key)
            };
            let removed = self.table.remove(hash(key), |other| *other == key, hasher);
            self.most = self.most.max(self.asked.get());
            removed
        }

        fn has(&self, key: u64) -> bool {
            self.table.find(hash(key), |other| *other == key).is_some()
        }
    }

    /// What the parts take in truth.
    fn allocated_in_truth(table: &PartedTable<u64>) -> usize {
        table.tables().iter().map(allocated_by).sum()
    }

    #[test]
    fn a_small_table_takes_a_pointer_more_than_a_plain_one() {
        assert_eq!(size_of::<PartedTable<(u64, u64)>>(), size_of::<HashTable<(u64, u64)>>() + size_of::<usize>());
        let (mut table, mut plain) = (PartedTable::new(), HashTable::new());
        assert_eq!(table.allocated(), 0);
        for key in 0..FULL as u64 {
            table.insert_unique(hash(key), key, |key| hash(*key));
            plain.insert_unique(hash(key), key, |key| hash(*key));
            assert_eq!(table.allocated(), allocated_by(&plain));
        }
    }

    #[test]
    fn no_call_moves_more_than_two_parts_however_many_there_are() {
        let mut table = Counted::default();
        (0..200_000).for_each(|key| table.insert(key));
        assert!(table.most > FULL / 2 && table.most <= MOST_MOVED, "{}", table.most);
        let parts = table.table.tables();
        let longest = parts.iter().map(HashTable::len).max().unwrap_or(0);
        assert!(parts.len() >= 200_000 / AVERAGE && longest <= 2 * AVERAGE + 300, "{} {longest}", parts.len());
        assert!((0..200_000).all(|key| table.has(key)));
        table.most = 0;
        (0..200_000).for_each(|key| assert_eq!(table.remove(key), Some(key)));
        assert!(table.most > 0 && table.most <= MOST_MOVED, "{}", table.most);
        assert!(table.table.many.is_none() && table.table.is_empty());
    }

    #[test]
    fn memory_follows_the_entries() {
        let mut table = Counted::default();
        (0..100_000).for_each(|key| table.insert(key));
        let full = table.table.allocated();
        (0..99_000).for_each(|key| assert_eq!(table.remove(key), Some(key)));
        let rest = table.table.allocated();
        assert!(rest < full / 20, "{full} {rest}");
        (99_000..100_000).for_each(|key| assert!(table.has(key)));
        (99_000..99_990).for_each(|key| assert_eq!(table.remove(key), Some(key)));
        assert!(table.table.allocated() < full / 200);
    }

    /// Entries that leave a nearly full table leave marks behind, which count against its capacity.
    #[test]
    fn what_was_nearly_full_gives_its_memory_back() {
        for full in [800, 870, 896, 1590] {
            let mut table = Counted::default();
            (0..full).for_each(|key| table.insert(key));
            let before = table.table.allocated();
            for key in 0..full {
                assert_eq!(table.remove(key), Some(key));
                assert_eq!(table.table.allocated(), allocated_in_truth(&table.table));
            }
            assert!(table.table.allocated() < before / 2, "{full}: {before} {}", table.table.allocated());
        }
    }

    #[test]
    fn a_table_whose_entries_come_and_go_does_not_split_and_join() {
        let mut table = Counted::default();
        (0..50_000).for_each(|key| table.insert(key));
        let parts = table.table.tables().len();
        for key in 50_000..70_000 {
            assert_eq!(table.remove(key - 50_000), Some(key - 50_000));
            table.insert(key);
        }
        assert_eq!(table.table.tables().len(), parts);
    }

    /// Nobody can bring that about where hashes are seeded. It ends all the same.
    #[test]
    fn entries_of_one_hash_stay_together() {
        let mut table = PartedTable::new();
        (0..5000_u64).for_each(|key| {
            table.insert_unique(7, key, |_| 7);
        });
        assert_eq!(table.find(7, |key| *key == 4321), Some(&4321));
        assert_eq!((table.len(), table.iter().count()), (5000, 5000));
        (0..5000_u64).for_each(|key| assert_eq!(table.remove(7, |other| *other == key, |_| 7), Some(key)));
        assert!(table.is_empty());
    }

    #[test]
    fn parts_are_swept_one_by_one() {
        let mut table = Counted::default();
        (0..20_000).for_each(|key| table.insert(key));
        let (mut part, mut calls, mut most) = (Some(0), 0, 0);
        while let Some(at) = part {
            let mut looked_at = 0;
            let keep = |key: &mut u64| {
                looked_at += 1;
                key.is_multiple_of(2)
            };
            part = table.table.retain_in(at, keep, |key| hash(*key));
            (calls, most) = (calls + 1, most.max(looked_at));
        }
        assert!(calls > 10 && most <= MOST_MOVED);
        assert_eq!(table.table.len(), table.table.iter().count());
        assert!(table.table.len() < 12_000 && (0..20_000).step_by(2).all(|key| table.has(key)));
        assert_eq!(table.table.retain_in(usize::MAX, |_| true, |key| hash(*key)), None);
    }

    #[test]
    fn a_walk_in_portions_looks_at_few_places_and_finds_all() {
        let mut table = Counted::default();
        for len in [0, 10, 1000, 10_000] {
            (table.table.len() as u64..len).for_each(|key| table.insert(key));
            let (mut begin, mut all) = (Some(0), Vec::new());
            while let Some(at) = begin {
                let before = all.len();
                begin = table.table.walk(at, 64, |key| {
                    all.push(*key);
                    all.len() - before == 10
                });
                assert!(all.len() - before <= 10);
            }
            all.sort_unstable();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn taken_apart_it_says_how_many_are_left() {
        let mut table = Counted::default();
        (0..3000).for_each(|key| table.insert(key));
        let mut entries = table.table.into_iter();
        assert_eq!((entries.next().is_some(), entries.len()), (true, 2999));
        assert_eq!((entries.by_ref().count(), entries.len()), (2999, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Against a map, across the sizes at which parts are split and joined. A step is for many keys, so that it gets there.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..6_u8, 0..40_u64), 1..30)) {
            let (mut table, mut model) = (PartedTable::new(), BTreeMap::new());
            for (number, (step, block)) in steps.into_iter().enumerate() {
                for key in block * 200..block * 200 + 700 {
                    let is_it = |entry: &(u64, usize)| entry.0 == key;
                    let hasher = |entry: &(u64, usize)| hash(entry.0);
                    match step {
                        0..3 => {
                            table.find_or_insert_with(hash(key), is_it, || (key, 0), hasher).1 = number;
                            model.insert(key, number);
                        }
                        3 => if let Some(entry) = table.find_mut(hash(key), is_it) {
                            entry.1 = number;
                            model.insert(key, number);
                        },
                        _ => {
                            let removed = table.remove(hash(key), is_it, hasher);
                            prop_assert_eq!(removed.map(|entry| entry.1), model.remove(&key));
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(&table.iter().copied().collect::<BTreeMap<_, _>>(), &model);
                for key in (0..8700).step_by(7) {
                    let found = table.find(hash(key), |entry| entry.0 == key);
                    prop_assert_eq!(found.map(|entry| &entry.1), model.get(&key));
                }
                if let Some(many) = &table.many {
                    prop_assert_eq!(many.allocated, many.parts.iter().map(allocated_by).sum::<usize>());
                    prop_assert!(many.parts.len() > 1 && many.mask >= many.parts.len() - 1);
                }
            }
        }
    }

    #[test]
    fn what_is_allocated_is_known() {
        let mut table = Counted::default();
        (0..10_000).for_each(|key| table.insert(key));
        let directory = table.table.allocated() - allocated_in_truth(&table.table);
        assert!((1..2000).contains(&directory), "{directory}");
    }
}
