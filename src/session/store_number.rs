//! Which session of the store a record is about.

use std::fmt;
use std::num::NonZeroU64;

/// The number of a session in the store on disk. None is used twice: a session that goes to another shard, or is created anew, gets another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreNumber(NonZeroU64);

impl StoreNumber {
    /// The highest number of a boot.
    pub const LAST_BOOT: u32 = (1 << 24) - 1;

    /// The session `counter` that shard number `shard` has stored in boot `boot`, which is from 1 to [`LAST_BOOT`](Self::LAST_BOOT).
    pub const fn new(boot: u32, shard: u8, counter: u32) -> Self {
        debug_assert!(boot > 0 && boot <= StoreNumber::LAST_BOOT);
        match NonZeroU64::new((boot as u64) << 40 | (shard as u64) << 32 | counter as u64) {
            Some(number) => StoreNumber(number),
            None => StoreNumber(NonZeroU64::MIN),
        }
    }

    /// That with this number; none if it is none.
    pub fn from_u64(number: u64) -> Option<Self> {
        NonZeroU64::new(number).filter(|number| number.get() >> 40 > 0).map(StoreNumber)
    }

    /// In which boot it was given. Each opening of the store by a broker is a boot; they are counted from 1.
    pub fn boot(self) -> u32 {
        (self.0.get() >> 40) as u32
    }

    /// The shard that gave it.
    pub fn shard(self) -> u8 {
        (self.0.get() >> 32) as u8
    }

    /// Which of the numbers of that shard in that boot it is.
    pub fn counter(self) -> u32 {
        self.0.get() as u32
    }

    /// As one number: boot (24 bits), shard (8), counter (32).
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// For operators: boot, shard and counter.
impl fmt::Display for StoreNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.boot(), self.shard(), self.counter())
    }
}

impl fmt::Debug for StoreNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_where_it_comes_from() {
        let number = StoreNumber::new(StoreNumber::LAST_BOOT, 255, u32::MAX);
        assert_eq!((number.boot(), number.shard(), number.counter()), (StoreNumber::LAST_BOOT, 255, u32::MAX));
        assert_eq!(StoreNumber::from_u64(number.get()), Some(number));
        assert_eq!(StoreNumber::new(1, 2, 3).to_string(), "1.2.3");
        assert_eq!([0, (1 << 40) - 1].map(StoreNumber::from_u64), [None, None], "there is no boot 0");
    }
}
