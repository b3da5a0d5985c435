//! Store numbers: which session of the store a record is about.

use std::fmt;

/// The number of a session in its store. None is used twice: a session that goes to another shard or is created anew gets another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreNumber(u64);

impl StoreNumber {
    /// The highest boot number.
    pub const LAST_BOOT: u32 = (1 << 24) - 1;

    /// The session `counter` that shard number `shard` has stored in boot `boot`, which is at most [`LAST_BOOT`](Self::LAST_BOOT).
    pub const fn new(boot: u32, shard: u8, counter: u32) -> Self {
        debug_assert!(boot <= StoreNumber::LAST_BOOT);
        StoreNumber((boot as u64) << 40 | (shard as u64) << 32 | counter as u64)
    }

    /// In which boot it was given. Each opening of the store by a broker is a boot; they are counted.
    pub const fn boot(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// The shard that gave it.
    pub const fn shard(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// Which of the numbers of that shard in that boot it is.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// As one number: boot (24 bits), shard (8), counter (32).
    pub const fn get(self) -> u64 {
        self.0
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
