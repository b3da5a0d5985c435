//! Filters by the topics they match.

use std::collections::HashMap;

use ahash::RandomState;

use super::{TopicFilter, TopicName};

/// A map from topic filters to `T` that is asked with topic names.
pub struct FilterTree<T> {
    filters: HashMap<Box<str>, (TopicFilter, T), RandomState>,
}

impl<T> FilterTree<T> {
    /// An empty tree whose hashes depend on `seed`.
    pub fn new(seed: u64) -> Self {
        FilterTree { filters: HashMap::with_hasher(RandomState::with_seeds(seed, 1, 2, 3)) }
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter).
    pub fn get(&self, filter: &TopicFilter) -> Option<&T> {
        self.filters.get(filter.filter()).map(|(_, value)| value)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut T> {
        self.filters.get_mut(filter.filter()).map(|(_, value)| value)
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter), put there now if there was nothing.
    pub fn entry(&mut self, filter: &TopicFilter, default: impl FnOnce() -> T) -> &mut T {
        &mut self.filters.entry(filter.filter().into()).or_insert_with(|| (filter.clone(), default())).1
    }

    /// Removes and returns what is kept for [`filter.filter()`](TopicFilter::filter).
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<T> {
        self.filters.remove(filter.filter()).map(|(_, value)| value)
    }

    /// Calls `found` once for every filter that matches `topic`, in no particular order.
    pub fn matching<'t>(&'t self, topic: TopicName<'_>, found: &mut impl FnMut(&'t T)) {
        self.filters.values().filter(|(filter, _)| filter.matches(topic)).for_each(|(_, value)| found(value));
    }

    /// How many filters are kept.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether no filter is kept.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Every filter (without `$share/{ShareName}/`) and what is kept for it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.filters.iter().map(|(text, (_, value))| (&**text, value))
    }
}
