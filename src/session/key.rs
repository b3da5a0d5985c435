//! The number of a message of a session.

use std::cmp::Ordering;
use std::fmt;

/// A number of 48 bits, in 6 bytes, that no two messages to one client have: those of a client that is sent a million messages a second last
/// for nine years. The packet id of a message in flight follows from it.
///
/// A message that is stored has one from when it is, any other one from when it is put in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u16; 3]);

impl Key {
    /// That of a message that has none yet.
    pub const NONE: Key = Key([u16::MAX; 3]);

    /// The key with this number, below 2⁴⁸ - 1.
    #[inline]
    pub fn new(number: u64) -> Self {
        debug_assert!(number < (1 << 48) - 1);
        Key([number as u16, (number >> 16) as u16, (number >> 32) as u16])
    }

    /// The number.
    #[inline]
    pub fn get(self) -> u64 {
        let Key([low, middle, high]) = self;
        u64::from(high) << 32 | u64::from(middle) << 16 | u64::from(low)
    }

    /// Whether it is [`Key::NONE`].
    #[inline]
    pub fn is_none(self) -> bool {
        self == Key::NONE
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(&other.get())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() { f.write_str("none") } else { self.get().fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_number() {
        let numbers = [0, 1, 65_535, 65_536, u64::from(u32::MAX), (1 << 48) - 2];
        for number in numbers {
            let key = Key::new(number);
            assert!(key.get() == number && !key.is_none());
        }
        assert!(Key::NONE.is_none());
        assert!(numbers.map(Key::new).is_sorted_by(|one, next| one < next) && Key::new(numbers[5]) < Key::NONE);
    }
}
