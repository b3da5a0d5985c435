//! Which shard owns a subscriber id.
//!
//! Ids are hashed to 4096 slots, and slots belong to shards. Every shard holds the same map and the same hash seeds.

use std::hash::{BuildHasher, Hash, Hasher};

use crate::client::SubscriberId;

/// How many slots there are: enough that shards can be evened out, few enough that the map is small.
pub const SLOTS: usize = 4096;

/// The slot map of a broker.
#[derive(Clone)]
pub struct SlotMap {
    owners: Box<[u16]>,
    hasher: ahash::RandomState,
}

impl SlotMap {
    /// Slots dealt out evenly to `shards`. `seed` must be the same on all of them.
    pub fn even(shards: usize, seed: u64) -> Self {
        SlotMap { owners: (0..SLOTS).map(|slot| (slot % shards) as u16).collect(), hasher: hasher(seed) }
    }

    /// The shard that owns `subscriber`.
    pub fn owner(&self, subscriber: &SubscriberId) -> usize {
        usize::from(self.owners[self.hash(subscriber) as usize % SLOTS])
    }

    /// The slot of `subscriber`.
    pub fn slot(&self, subscriber: &SubscriberId) -> u16 {
        (self.hash(subscriber) as usize % SLOTS) as u16
    }

    /// The shard that owns `slot`; none if there is no such slot.
    pub fn owner_of_slot(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).map(|owner| usize::from(*owner))
    }

    /// Gives `slot` to `shard`.
    pub fn set(&mut self, slot: u16, shard: usize) {
        self.owners[usize::from(slot)] = shard as u16;
    }

    fn hash(&self, subscriber: &SubscriberId) -> u64 {
        self.hasher.hash_one(subscriber)
    }

    /// The shard that keeps the retained message of `topic`: retained messages do not move with slots.
    pub fn keeper(&self, mountpoint: &str, topic: &str, shards: usize) -> usize {
        if shards == 1 {
            return 0;
        }
        let mut hasher = self.hasher.build_hasher();
        mountpoint.hash(&mut hasher);
        topic.hash(&mut hasher);
        hasher.finish() as usize % shards
    }
}

/// Messages by slot: what its clients published and were sent, as PUBLISH packets, since the start. Wraps around.
pub struct Traffic(Box<[u32; SLOTS]>);

impl Traffic {
    /// Nothing so far.
    pub fn new() -> Self {
        Traffic(Box::new([0; SLOTS]))
    }

    /// Counts a message of a client in `slot`.
    #[inline]
    pub fn count(&mut self, slot: u16) {
        // The mask spares the check of bounds: there are as many places.
        let place = &mut self.0[usize::from(slot) % SLOTS];
        *place = place.wrapping_add(1);
    }

    /// How many it counted.
    pub fn of(&self, slot: u16) -> u32 {
        self.0[usize::from(slot) % SLOTS]
    }
}

/// The shard that owns `subscriber` in a broker of so many shards with this seed, while no slot has moved.
pub fn owner_of(subscriber: &SubscriberId, shards: usize, seed: u64) -> usize {
    hasher(seed).hash_one(subscriber) as usize % SLOTS % shards
}

/// The slot of `subscriber` in a broker with this seed.
pub fn slot_of(subscriber: &SubscriberId, seed: u64) -> u16 {
    (hasher(seed).hash_one(subscriber) as usize % SLOTS) as u16
}

/// A hasher for maps that are keyed by what clients choose.
pub fn hasher(seed: u64) -> ahash::RandomState {
    ahash::RandomState::with_seeds(seed, seed.rotate_left(17), !seed, seed.rotate_left(41))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_counted_by_slot_and_wraps_around() {
        let mut traffic = Traffic::new();
        traffic.0[9] = u32::MAX;
        traffic.count(9);
        traffic.count(4095);
        assert_eq!([8, 9, 4095].map(|slot| traffic.of(slot)), [0, 0, 1]);
    }

    #[test]
    fn every_shard_agrees_and_each_has_its_share() {
        let (a, b) = (SlotMap::even(4, 7), SlotMap::even(4, 7));
        let mut counts = [0; 4];
        for number in 0..4000 {
            let id = SubscriberId::new("", format!("client-{number}"));
            assert_eq!(a.owner(&id), b.owner(&id));
            counts[a.owner(&id)] += 1;
        }
        assert!(counts.iter().all(|&count| count > 800), "{counts:?}");
    }
}
