//! Numbers that are in a store on disk: which session a record is about, and which decision of it a message depends on.

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

/// A message counts when it is on disk that a session has decided so. Till then it is on the disks of the shards that are to have it, and nobody
/// is sent it who may get it once only. After a crash it counts nowhere if that was not decided: its source has it still, and does the same again.
///
/// A session decides about what its client publishes with QoS 2, about its will, and about messages that it leaves to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The session that decides.
    pub session: StoreNumber,
    /// Which of its decisions: later ones have higher numbers.
    pub number: DecisionNumber,
}

/// The number of a decision: the lower eight bits are the shard that gave it, the others its count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionNumber(u64);

impl DecisionNumber {
    /// Number `count` of `shard`. Numbers begin at one, there is none with the count 0.
    pub const fn new(count: u64, shard: u8) -> Self {
        DecisionNumber(count << 8 | shard as u64)
    }

    /// That with this number.
    pub const fn from_u64(number: u64) -> Self {
        DecisionNumber(number)
    }

    /// As one number: count (56 bits), shard (8).
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The shard that has given it, in the boot in which it was given.
    pub const fn shard(self) -> u8 {
        self.0 as u8
    }

    /// Its count: no other decision of the shard had it in any boot, and those of one session ascend wherever they were given.
    pub const fn count(self) -> u64 {
        self.0 >> 8
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
        let number = DecisionNumber::new((1 << 56) - 1, 255);
        assert_eq!((number.count(), number.shard()), ((1 << 56) - 1, 255));
        assert!(DecisionNumber::new(2, 0) > DecisionNumber::new(1, 255), "the count comes first");
    }
}
