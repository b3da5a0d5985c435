//! Which journal of a store something belongs into.

use crate::client::SubscriberId;
use crate::sharding::{hash_of_topic, hasher, owner_of};

/// Which journal things belong into, in a broker of so many shards of which no slot has moved.
pub(super) struct Home {
    journal: u32,
    shards: usize,
    seed: u64,
    hasher: ahash::RandomState,
}

impl Home {
    pub fn new(journal: u32, shards: usize, seed: u64) -> Self {
        Home { journal, shards, seed, hasher: hasher(seed) }
    }

    /// Which it is.
    pub fn journal(&self) -> u32 {
        self.journal
    }

    /// Whether a session belongs into this one.
    pub fn has_session(&self, subscriber: &SubscriberId) -> bool {
        owner_of(subscriber, self.shards, self.seed) == self.journal as usize
    }

    /// Whether a retained message does.
    pub fn has_topic(&self, mountpoint: &str, topic: &str) -> bool {
        hash_of_topic(mountpoint, topic, &self.hasher) as usize % self.shards == self.journal as usize
    }
}
