//! A table that every shard reads and somebody else replaces.
//!
//! Reading is one atomic look whether there is a newer table; no lock, no reference count. What is replaced is dropped by
//! the one who replaces, not by the last shard to notice: freeing a large table takes a while.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

/// The present table, as one shard sees it. Clones see the same.
#[derive(Debug)]
pub struct Live<T> {
    cache: Cache<Arc<ArcSwap<T>>, Arc<T>>,
}

/// Replaces a table for all who see it.
#[derive(Debug)]
pub struct Replacer<T> {
    current: Arc<ArcSwap<T>>,
    /// Tables that a shard may still hold.
    retired: Vec<Arc<T>>,
}

impl<T> Live<T> {
    /// Begins with this table.
    pub fn new(table: T) -> (Self, Replacer<T>) {
        let current = Arc::new(ArcSwap::from_pointee(table));
        (Live { cache: Cache::new(Arc::clone(&current)) }, Replacer { current, retired: Vec::new() })
    }

    /// A table that nobody is going to replace.
    pub fn fixed(table: T) -> Self {
        Live::new(table).0
    }

    /// The table as it is now.
    #[inline]
    pub fn get(&mut self) -> &T {
        self.cache.load()
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Live { cache: self.cache.clone() }
    }
}

impl<T> Replacer<T> {
    /// From now on it is this table. Whoever is reading the old one finishes with it.
    pub fn replace(&mut self, table: T) {
        self.retired.push(self.current.swap(Arc::new(table)));
        self.retired.retain(|table| Arc::strong_count(table) > 1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn all_see_the_newest() {
        let (mut one, mut replacer) = Live::new(1);
        let mut other = one.clone();
        assert_eq!((*one.get(), *other.get()), (1, 1));
        replacer.replace(2);
        assert_eq!((*one.get(), *other.get()), (2, 2));
        drop(replacer);
        assert_eq!(*one.get(), 2);
    }

    /// Counts how often one is dropped.
    struct Dropped(Arc<AtomicUsize>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_reader_never_frees_a_table() {
        let drops = Arc::<AtomicUsize>::default();
        let count = || drops.load(Ordering::Relaxed);
        let (mut live, mut replacer) = Live::new(Dropped(Arc::clone(&drops)));
        let _ = live.get();
        replacer.replace(Dropped(Arc::clone(&drops)));
        let _ = live.get();
        assert_eq!(count(), 0, "the first table is retired, but there");
        replacer.replace(Dropped(Arc::clone(&drops)));
        assert_eq!(count(), 1, "nobody holds the first one any more");
        assert_eq!(replacer.retired.len(), 1);
    }
}
