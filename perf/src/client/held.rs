//! Which QoS 2 messages a subscriber holds.

use moormq::codec::PacketId;

/// The packet identifiers of QoS 2 messages that were received and not released: a bit for each, once there is one.
#[derive(Debug, Default)]
pub struct Held(Vec<u64>);

impl Held {
    /// False if it was there.
    #[inline]
    pub fn insert(&mut self, id: PacketId) -> bool {
        self.0.resize(1024, 0);
        let (word, bit) = Self::place(id);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    /// False if it was not there.
    #[inline]
    pub fn remove(&mut self, id: PacketId) -> bool {
        let (word, bit) = Self::place(id);
        let Some(bits) = self.0.get_mut(word) else {
            return false;
        };
        let held = *bits & bit != 0;
        *bits &= !bit;
        held
    }

    fn place(id: PacketId) -> (usize, u64) {
        (usize::from(id.get()) / 64, 1 << (id.get() % 64))
    }
}
