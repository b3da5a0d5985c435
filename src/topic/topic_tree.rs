//! Topic names by the filters that match them.

use std::collections::HashMap;

use ahash::RandomState;

use super::{TopicFilter, TopicName};

/// A map from topic names to `T` that is asked with topic filters.
pub struct TopicTree<T> {
    topics: HashMap<Box<str>, T, RandomState>,
}

impl<T> TopicTree<T> {
    /// An empty tree whose hashes depend on `seed`.
    pub fn new(seed: u64) -> Self {
        TopicTree { topics: HashMap::with_hasher(RandomState::with_seeds(seed, 1, 2, 3)) }
    }

    /// Keeps `value` for `topic`, a checked topic name; returns what it replaces.
    pub fn insert(&mut self, topic: &str, value: T) -> Option<T> {
        self.topics.insert(topic.into(), value)
    }

    /// What is kept for `topic`.
    pub fn get(&self, topic: &str) -> Option<&T> {
        self.topics.get(topic)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut T> {
        self.topics.get_mut(topic)
    }

    /// Removes and returns what is kept for `topic`.
    pub fn remove(&mut self, topic: &str) -> Option<T> {
        self.topics.remove(topic)
    }

    /// Calls `found` with each topic that `filter` matches and what is kept for it, in no particular order.
    pub fn matching<'t>(&'t self, filter: &TopicFilter, found: &mut impl FnMut(&'t str, &'t T)) {
        self.topics
            .iter()
            .filter(|(topic, _)| filter.matches(TopicName::checked_before(topic)))
            .for_each(|(topic, value)| found(topic, value));
    }

    /// Removes every topic for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut T) -> bool) {
        self.topics.retain(|topic, value| keep(topic, value));
    }

    /// Every topic and what is kept for it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.topics.iter().map(|(topic, value)| (&**topic, value))
    }

    /// How many topics are kept.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic is kept.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}
