//! How a broker is divided: shards, and the slots of subscriber ids that belong to them.
//!
//! Ids are hashed to 4096 slots, and slots belong to shards. Every shard holds the same map and the same hash seeds. Limits of the
//! whole broker are shared: see [`Quotas`].

mod quota;

pub use quota::{Quota, Quotas, SessionPlace};

use std::hash::{BuildHasher, Hash, Hasher};

use crate::client::{ConnectionId, SubscriberId};

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
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; 4]);

/// Most shards a broker can have.
pub const MAX_SHARDS: usize = 256;

impl ShardSet {
    /// Adds `shard`.
    pub fn insert(&mut self, shard: usize) {
        self.0[shard / 64] |= 1 << (shard % 64);
    }

    /// Takes `shard` out.
    pub fn remove(&mut self, shard: usize) {
        self.0[shard / 64] &= !(1 << (shard % 64));
    }

    /// Whether `shard` is in it.
    pub fn contains(&self, shard: usize) -> bool {
        self.0[shard / 64] & 1 << (shard % 64) != 0
    }

    /// Whether there is none in it.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Adds those of `other`.
    pub fn union(&mut self, other: &ShardSet) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    /// Those that are in both.
    pub fn intersection(&self, other: &ShardSet) -> ShardSet {
        ShardSet(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// Its shards, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..4).flat_map(move |word| {
            let mut bits = self.0[word];
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                (bits != 0).then(|| {
                    bits &= bits - 1;
                    word * 64 + bit
                })
            })
        })
    }
}

/// A connection of one of the shards, as the publisher of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publisher {
    /// The shard that it is on.
    pub shard: usize,
    /// Which connection of that shard.
    pub connection: ConnectionId,
}

/// Messages by slot: what its clients published and were sent, as PUBLISH packets, since the start. Wraps around.
pub struct SlotTraffic(Box<[u32; SLOTS]>);

impl Default for SlotTraffic {
    fn default() -> Self {
        SlotTraffic(Box::new([0; SLOTS]))
    }
}

impl SlotTraffic {
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

/// The hash of a topic in its mountpoint. One of `n` shards owns what is retained for it: that with the remainder by `n` as its number.
pub fn hash_of_topic(mountpoint: &str, topic: &str, hasher: &ahash::RandomState) -> u64 {
    let mut hash = hasher.build_hasher();
    mountpoint.hash(&mut hash);
    topic.hash(&mut hash);
    hash.finish()
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
    fn a_shard_set_holds_what_was_put_in() {
        let mut set = ShardSet::default();
        for shard in [0, 63, 64, 255] {
            set.insert(shard);
        }
        set.remove(63);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 255]);
        assert!(set.contains(255) && !set.contains(63) && !set.is_empty());
    }

    #[test]
    fn traffic_is_counted_by_slot_and_wraps_around() {
        let mut traffic = SlotTraffic::default();
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

    fn set(shards: &[usize]) -> ShardSet {
        let mut set = ShardSet::default();
        shards.iter().for_each(|shard| set.insert(*shard));
        set
    }

    #[test]
    fn shard_sets_are_joined_and_compared() {
        let (mut one, other) = (set(&[0, 255]), set(&[64, 255]));
        assert!(!one.intersection(&other).is_empty() && one.intersection(&set(&[1, 128])).is_empty());
        assert_eq!(one.intersection(&one), one);
        one.union(&other);
        assert_eq!(one, set(&[0, 64, 255]));
        one.remove(7);
        [0, 64, 255].into_iter().for_each(|shard| one.remove(shard));
        assert!(one.is_empty() && one.iter().next().is_none());
    }

    #[test]
    fn a_slot_belongs_to_whom_it_was_given_last() {
        let mut map = SlotMap::even(3, 7);
        let id = SubscriberId::new("m", "client");
        let slot = map.slot(&id);
        assert_eq!(map.owner_of_slot(slot), Some(map.owner(&id)));
        for shard in [2, 0, 1] {
            map.set(slot, shard);
            assert_eq!((map.owner(&id), map.owner_of_slot(slot)), (shard, Some(shard)));
        }
        assert_eq!(map.owner_of_slot(SLOTS as u16), None);
    }

    #[test]
    fn whoever_knows_seed_and_number_of_shards_knows_the_owner() {
        let map = SlotMap::even(5, 99);
        for number in 0..100 {
            let id = SubscriberId::new("m", number.to_string());
            assert_eq!((owner_of(&id, 5, 99), slot_of(&id, 99)), (map.owner(&id), map.slot(&id)));
        }
    }
}
