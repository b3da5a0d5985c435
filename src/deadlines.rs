//! Deadlines: one coarse timer wheel per shard.
//!
//! Owns the times at which something may be due, by key. There is no cancelling. The owner of a key has its real deadline
//! in its own state. When the key fires, the owner compares, and either acts, arms the key again for a later time, or
//! ignores it. So a keep-alive costs nothing per packet: the deadline in the state of the connection moves, and the wheel
//! is armed again once per period.
//!
//! Time is counted in ticks of [`TICK_MILLIS`]. A deadline waits in the level where its tick first differs from the
//! present one, as numbers in base 64, so arming is a shift and a push, and a deadline moves down at most once per
//! level, of which `LEVELS` reach to the end of time. A word of 64 bits per level has a bit for each slot that is not empty:
//! nothing ever walks over empty ones, however long the shard slept.

use std::array;
use std::mem;

use crate::time::Time;

/// The coarseness: a deadline fires at its moment or less than this much later.
pub const TICK_MILLIS: u64 = 8;

/// Slots per level, and the bits of a tick that choose one of them.
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.ilog2();

/// The last tick there is, and enough levels to reach it.
const LAST_TICK: u64 = u64::MAX / TICK_MILLIS;
const LEVELS: usize = (u64::BITS - LAST_TICK.leading_zeros()).div_ceil(SLOT_BITS) as usize;

/// An emptied slot keeps its buffer for the next deadlines if it has room for no more than this many.
const KEPT_CAPACITY: usize = 32;

/// Keys of type `K`, each armed for a moment. One per shard; some 17 KiB when empty.
pub struct Deadlines<K> {
    /// The present: every deadline up to this tick has fired or is in `due`.
    elapsed: u64,
    /// Armed for a moment that had already passed.
    due: Vec<K>,
    /// Deadlines after `elapsed`. In level `n` are those whose `n`-th digit is greater than that of `elapsed` while all
    /// higher digits are the same; so everything in a level is due before anything in a higher one.
    levels: Box<[Level<K>]>,
    len: usize,
}

struct Level<K> {
    /// Bit `n` is set if slot `n` is not empty.
    occupied: u64,
    slots: [Vec<Armed<K>>; SLOTS],
}

struct Armed<K> {
    tick: u64,
    key: K,
}

impl<K> Deadlines<K> {
    /// Nothing armed; `now` is the present.
    pub fn new(now: Time) -> Self {
        let level = || Level { occupied: 0, slots: array::from_fn(|_| Vec::new()) };
        Deadlines {
            elapsed: now.as_millis() / TICK_MILLIS,
            due: Vec::new(),
            levels: (0..LEVELS).map(|_| level()).collect(),
            len: 0,
        }
    }

    /// Lets `key` fire once at `at`: never before, and at the first [`expire`](Self::expire) that comes [`TICK_MILLIS`] or more
    /// after it. A moment that has passed fires at the next `expire`; [`Time::NEVER`] is not armed at all.
    ///
    /// A key may be armed any number of times and then fires as often. It cannot be cancelled: its owner checks whether
    /// it still matters when it fires.
    pub fn arm(&mut self, at: Time, key: K) {
        if at == Time::NEVER {
            return;
        }
        self.len += 1;
        let tick = at.as_millis().div_ceil(TICK_MILLIS).min(LAST_TICK);
        if tick <= self.elapsed {
            self.due.push(key);
        } else {
            self.place(Armed { tick, key });
        }
    }

    /// Makes `now` the present and calls `fired` with every key that is due, those of an earlier tick first. A `now`
    /// before the present counts as the present.
    pub fn expire(&mut self, now: Time, fired: &mut impl FnMut(K)) {
        let now = now.as_millis() / TICK_MILLIS;
        let mut due = mem::take(&mut self.due);
        self.len -= due.len();
        due.drain(..).for_each(&mut *fired);
        self.due = reusable(due);

        while let Some((level, slot, start)) = self.earliest() {
            if start > now {
                break;
            }
            self.elapsed = start;
            let mut armed = mem::take(&mut self.levels[level].slots[slot]);
            self.levels[level].occupied &= !(1 << slot);
            for one in armed.drain(..) {
                if one.tick <= start {
                    self.len -= 1;
                    fired(one.key);
                } else {
                    self.place(one);
                }
            }
            self.levels[level].slots[slot] = reusable(armed);
        }
        self.elapsed = self.elapsed.max(now);
    }

    /// A moment before which nothing fires, [`Time::NEVER`] if nothing is armed. It is exact for what is due within the
    /// next half second; for the rest it may be early, so that a sleeper wakes up, finds nothing and asks again: at most
    /// once per level, each time much closer.
    pub fn next(&self) -> Time {
        if !self.due.is_empty() {
            return Time::from_millis(self.elapsed * TICK_MILLIS);
        }
        self.earliest().map_or(Time::NEVER, |(_, _, start)| Time::from_millis(start * TICK_MILLIS))
    }

    /// How many keys are armed.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether no key is armed.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a deadline that is after the present into its slot.
    fn place(&mut self, armed: Armed<K>) {
        debug_assert!(armed.tick > self.elapsed);
        let level = ((self.elapsed ^ armed.tick).ilog2() / SLOT_BITS) as usize;
        let slot = (armed.tick >> shift(level)) as usize % SLOTS;
        self.levels[level].occupied |= 1 << slot;
        self.levels[level].slots[slot].push(armed);
    }

    /// The first slot that is not empty: its level, its number, and the tick at which it begins.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let (level, occupied) =
            self.levels.iter().map(|level| level.occupied).enumerate().find(|&(_, occupied)| occupied != 0)?;
        let slot = occupied.trailing_zeros();
        // The digits of the present above this level, then this one, then zeros.
        let above = self.elapsed.checked_shr(shift(level) + SLOT_BITS).unwrap_or(0);
        let start = ((above << SLOT_BITS) | u64::from(slot)) << shift(level);
        Some((level, slot as usize, start))
    }
}

/// The next entries of one owner in the wheel, so that it is not armed twice for the same time.
#[derive(Clone, Copy, Debug)]
pub struct OwnEntries {
    next: Time,
    /// An entry behind the next one: when that has fired, this is the next.
    after: Time,
}

impl OwnEntries {
    /// No entry.
    pub const NONE: OwnEntries = OwnEntries { next: Time::NEVER, after: Time::NEVER };

    /// Sets a deadline `at`. Returns whether an entry must be armed for it.
    pub fn needs(&mut self, at: Time) -> bool {
        if at >= self.next {
            return false;
        }
        *self = OwnEntries { next: at, after: self.next };
        true
    }

    /// An entry of this owner has fired. Returns whether it is its next deadline.
    pub fn fired(&mut self, now: Time) -> bool {
        if self.next > now {
            return false;
        }
        *self = if self.after > now { OwnEntries { next: self.after, after: Time::NEVER } } else { OwnEntries::NONE };
        true
    }
}

/// How far the digit of `level` lies to the left.
const fn shift(level: usize) -> u32 {
    level as u32 * SLOT_BITS
}

/// The emptied `buffer`, or a new one if it has grown so large that its memory is worth more elsewhere.
fn reusable<T>(buffer: Vec<T>) -> Vec<T> {
    debug_assert!(buffer.is_empty());
    if buffer.capacity() <= KEPT_CAPACITY { buffer } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn expire(deadlines: &mut Deadlines<u32>, millis: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        deadlines.expire(Time::from_millis(millis), &mut |key| fired.push(key));
        fired
    }

    #[test]
    fn fires_at_its_moment_or_within_a_tick_after_it() {
        for at in 1000..1000 + 3 * TICK_MILLIS {
            let mut deadlines = Deadlines::new(Time::from_millis(3));
            deadlines.arm(Time::from_millis(at), 7);
            assert!(expire(&mut deadlines, at - 1).is_empty());
            assert_eq!(expire(&mut deadlines, at + TICK_MILLIS - 1), [7], "{at}");
            assert!(deadlines.is_empty());
        }
    }

    #[test]
    fn never_is_not_armed_and_the_far_future_is() {
        let mut deadlines = Deadlines::new(Time::ZERO);
        deadlines.arm(Time::NEVER, 1);
        assert_eq!((deadlines.len(), deadlines.next()), (0, Time::NEVER));
        deadlines.arm(Time::from_millis(u64::MAX - 1), 2);
        assert_eq!(deadlines.len(), 1);
        assert!(expire(&mut deadlines, u64::MAX - 2 * TICK_MILLIS).is_empty());
        assert_eq!(expire(&mut deadlines, u64::MAX), [2]);
    }

    #[test]
    fn the_past_fires_at_the_next_expire() {
        let mut deadlines = Deadlines::new(Time::from_millis(5000));
        deadlines.arm(Time::from_millis(10), 1);
        deadlines.arm(Time::from_millis(5000), 2);
        assert!(deadlines.next() <= Time::from_millis(5000));
        assert_eq!(expire(&mut deadlines, 5000), [1, 2]);
        assert_eq!(deadlines.next(), Time::NEVER);
        assert!(expire(&mut deadlines, 10).is_empty());
        deadlines.arm(Time::from_millis(4000), 3);
        assert_eq!(expire(&mut deadlines, 10), [3]);
    }

    #[test]
    fn a_sleeper_wakes_at_most_once_per_level() {
        let at = Time::ZERO + Duration::from_secs(100 * 24 * 3600);
        let mut deadlines = Deadlines::new(Time::from_millis(12_345));
        deadlines.arm(at, 1);
        for wakes in 1.. {
            let now = deadlines.next();
            assert!(now.as_millis() < at.as_millis() + TICK_MILLIS);
            assert!(wakes <= LEVELS);
            if expire(&mut deadlines, now.as_millis()) == [1] {
                break;
            }
        }
    }

    #[test]
    fn memory_shrinks_after_a_burst() {
        let mut deadlines = Deadlines::new(Time::ZERO);
        for key in 0..100_000 {
            deadlines.arm(Time::from_millis(u64::from(key) % 5000), key);
            deadlines.arm(Time::from_millis(3_600_000), key);
        }
        assert_eq!(expire(&mut deadlines, 4_000_000).len(), 200_000);
        let capacity = |level: &Level<u32>| level.slots.iter().map(Vec::capacity).sum::<usize>();
        assert!(deadlines.levels.iter().map(capacity).sum::<usize>() <= LEVELS * SLOTS * KEPT_CAPACITY);
        assert!(deadlines.due.capacity() <= KEPT_CAPACITY);
    }

    #[test]
    fn an_entry_that_is_there_is_not_armed_again() {
        let at = Time::from_millis;
        let mut entries = OwnEntries::NONE;
        assert!(entries.needs(at(60)) && !entries.needs(at(60)) && !entries.needs(at(70)));
        assert!(entries.needs(at(10)), "sooner");
        assert!(!entries.fired(at(9)), "a stale entry");
        assert!(entries.fired(at(10)));
        assert!(!entries.needs(at(60)) && !entries.needs(at(100)), "the entry at 60 is there still");
        assert!(entries.needs(at(20)) && entries.fired(at(20)) && entries.fired(at(60)));
        assert!(!entries.fired(at(200)) && entries.needs(at(300)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u64),
        Advance(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let distance = || prop_oneof![0..40_u64, 0..2_000_u64, 0..100_000_u64, 0..10_000_000_u64, 0..1_u64 << 50];
        prop_oneof![3 => distance().prop_map(Step::Arm), 1 => distance().prop_map(Step::Advance)]
    }

    proptest! {
        #[test]
        fn agrees_with_a_heap(start in 0..1_u64 << 40, steps in prop::collection::vec(step(), 1..200)) {
            let mut now = start;
            let mut deadlines = Deadlines::new(Time::from_millis(now));
            let mut model = BinaryHeap::new();
            let tick_of = |millis: u64| millis.div_ceil(TICK_MILLIS);
            for (key, step) in (0_u32..).zip(steps) {
                match step {
                    // Some are armed for the past.
                    Step::Arm(distance) => {
                        let at = (now + distance).saturating_sub(20);
                        deadlines.arm(Time::from_millis(at), key);
                        model.push(Reverse((tick_of(at), key)));
                    }
                    Step::Advance(distance) => {
                        now += distance;
                        let fired = expire(&mut deadlines, now);
                        let mut wanted = Vec::new();
                        while let Some(&Reverse((tick, key))) = model.peek() && tick <= now / TICK_MILLIS {
                            model.pop();
                            wanted.push(key);
                        }
                        let mut sorted = fired.clone();
                        sorted.sort_unstable();
                        wanted.sort_unstable();
                        prop_assert_eq!(sorted, wanted);
                    }
                }
                prop_assert_eq!(deadlines.len(), model.len());
                match model.peek() {
                    None => prop_assert_eq!(deadlines.next(), Time::NEVER),
                    Some(&Reverse((tick, _))) => {
                        let next = deadlines.next().as_millis();
                        let present = now / TICK_MILLIS;
                        prop_assert!(next <= tick.max(present) * TICK_MILLIS);
                        // Exact when near.
                        if tick / 64 == present / 64 {
                            prop_assert_eq!(next, tick.max(present) * TICK_MILLIS);
                        }
                    }
                }
            }
        }
    }
}
