//! The QoS 2 messages that a subscriber has received and the broker has not released.

use moormq::codec::PacketId;

/// The packet identifiers of QoS 2 messages that were received and not released: a bit for each, once there is one.
#[derive(Debug, Default)]
pub struct Unreleased(Vec<u64>);

impl Unreleased {
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
        let was_set = *bits & bit != 0;
        *bits &= !bit;
        was_set
    }

    fn place(id: PacketId) -> (usize, u64) {
        (usize::from(id.get()) / 64, 1 << (id.get() % 64))
    }
}
