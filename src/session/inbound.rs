//! Incoming QoS 2: which packet ids wait for their PUBREL.

use crate::codec::PacketId;
use crate::memory::{Held, MemoryKind, allocated, allocated_for};

/// The packet ids of incoming QoS 2 messages that were routed and not yet released. A PUBLISH with one of them is a
/// repetition, and is not routed again [MQTT-4.3.3-10]. Survives the connection for kept sessions of every version.
///
/// MQTT 3 has no Receive Maximum: its clients may have all 65,535 unreleased, and need not be told how many are too many: that is 8 KiB
/// for a session at most.
#[derive(Debug, Default)]
pub struct Inbound {
    unreleased: Ids,
    held: Held<{ MemoryKind::Sessions as u8 }>,
}

/// A set of packet ids.
#[derive(Debug)]
enum Ids {
    /// In order; [`MOST_FEW`] at most.
    Few(Vec<PacketId>),
    Many(Box<Bits>),
}

/// A bit for each packet id.
#[derive(Debug)]
struct Bits {
    words: [u64; WORDS],
    /// How many bits are set.
    len: usize,
}

/// Words with a bit for each packet id.
const WORDS: usize = 65_536 / 64;
/// So many are a list: nearly all clients have fewer unreleased.
const MOST_FEW: usize = 64;
/// With so few, many become few again: far enough below that it does not go to and fro.
const FEW_AGAIN: usize = 16;

impl Inbound {
    /// Whether a PUBLISH with this id was taken and not released yet.
    pub fn contains(&self, id: PacketId) -> bool {
        match &self.unreleased {
            Ids::Few(ids) => ids.binary_search(&id).is_ok(),
            Ids::Many(bits) => bits.contains(id),
        }
    }

    /// Adds the id of a PUBLISH that was routed.
    pub fn take(&mut self, id: PacketId) {
        match &mut self.unreleased {
            Ids::Few(ids) => {
                let Err(at) = ids.binary_search(&id) else { return };
                let is_full = ids.len() == ids.capacity();
                ids.insert(at, id);
                let are_many = ids.len() > MOST_FEW;
                if are_many {
                    self.unreleased = Ids::Many(Bits::of(ids));
                }
                if is_full || are_many {
                    self.count();
                }
            }
            Ids::Many(bits) => bits.insert(id),
        }
    }

    /// The client released `id` with PUBREL; false if it was not there.
    pub fn release(&mut self, id: PacketId) -> bool {
        match &mut self.unreleased {
            Ids::Few(ids) => {
                let at = ids.binary_search(&id);
                at.is_ok_and(|at| ids.remove(at) == id)
            }
            Ids::Many(bits) => {
                let was = bits.remove(id);
                if bits.len <= FEW_AGAIN {
                    self.unreleased = Ids::Few(bits.in_order());
                    self.count();
                }
                was
            }
        }
    }

    /// They, in order.
    pub fn ids(&self) -> impl Iterator<Item = PacketId> {
        let (few, many) = match &self.unreleased {
            Ids::Few(ids) => (ids.clone(), None),
            Ids::Many(bits) => (Vec::new(), Some(bits.in_order())),
        };
        many.unwrap_or(few).into_iter()
    }

    /// How many are incomplete.
    pub fn len(&self) -> usize {
        match &self.unreleased {
            Ids::Few(ids) => ids.len(),
            Ids::Many(bits) => bits.len,
        }
    }

    /// Whether none is incomplete.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory they take, in bytes.
    pub fn memory(&self) -> usize {
        self.held.bytes()
    }

    fn count(&mut self) {
        self.held.set(match &self.unreleased {
            Ids::Few(ids) => allocated_for::<PacketId>(ids.capacity()),
            Ids::Many(_) => allocated(size_of::<Bits>()),
        });
    }
}

impl Default for Ids {
    fn default() -> Self {
        Ids::Few(Vec::new())
    }
}

impl Bits {
    fn of(ids: &[PacketId]) -> Box<Self> {
        let mut bits = Box::new(Bits { words: [0; WORDS], len: 0 });
        ids.iter().for_each(|id| bits.insert(*id));
        bits
    }

    /// The word with the bit of `id`, and the bit in it.
    fn place(id: PacketId) -> (usize, u64) {
        (usize::from(id.get() >> 6), 1 << (id.get() & 63))
    }

    fn contains(&self, id: PacketId) -> bool {
        let (word, bit) = Bits::place(id);
        self.words[word] & bit != 0
    }

    fn insert(&mut self, id: PacketId) {
        let (word, bit) = Bits::place(id);
        self.len += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    fn remove(&mut self, id: PacketId) -> bool {
        let (word, bit) = Bits::place(id);
        let was = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        self.len -= usize::from(was);
        was
    }

    fn in_order(&self) -> Vec<PacketId> {
        (1..=u16::MAX).filter_map(PacketId::new).filter(|id| self.contains(*id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryHeld;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).expect("not zero")
    }

    /// A client of MQTT 3.1.1 that never releases one takes a bit for each, and that is counted.
    #[test]
    fn all_ids_take_a_bit_each() {
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Sessions);
        let (before, mut inbound) = (held(), Inbound::default());
        (1..=u16::MAX).for_each(|number| inbound.take(id(number)));
        assert_eq!(inbound.len(), 65_535);
        assert_eq!(held() - before, inbound.memory());
        assert!((8192..=10 * 1024).contains(&inbound.memory()), "{} bytes", inbound.memory());
        (1..=u16::MAX).for_each(|number| assert!(inbound.release(id(number))));
        assert!(inbound.is_empty() && inbound.memory() <= 128, "{} bytes", inbound.memory());
        drop(inbound);
        assert_eq!(held(), before);
    }

    proptest! {
        /// As a set, whatever comes and goes, be they few or many.
        #[test]
        fn they_are_a_set(steps in prop::collection::vec((any::<bool>(), 1..200_u16, 1..100_u16), 1..60)) {
            let (mut inbound, mut model) = (Inbound::default(), BTreeSet::new());
            for (takes, from, many) in steps {
                for number in (from..from + many).map(|number| number.wrapping_mul(331).max(1)) {
                    if takes {
                        inbound.take(id(number));
                        model.insert(number);
                    } else {
                        prop_assert_eq!(inbound.release(id(number)), model.remove(&number));
                    }
                    prop_assert_eq!(inbound.len(), model.len());
                    prop_assert_eq!(inbound.contains(id(number)), takes);
                }
            }
            prop_assert!(model.iter().all(|number| inbound.contains(id(*number))));
        }
    }

    /// [MQTT-4.3.3-10]
    #[test]
    fn an_id_is_taken_until_it_is_released() {
        let id = PacketId::new(7).expect("not zero");
        let mut inbound = Inbound::default();
        assert!(!inbound.contains(id) && !inbound.release(id) && inbound.is_empty());
        inbound.take(id);
        inbound.take(id);
        assert!(inbound.contains(id));
        assert_eq!(inbound.len(), 1);
        assert!(inbound.release(id) && !inbound.release(id) && inbound.is_empty());
    }
}
