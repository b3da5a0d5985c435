//! Deadlines: one coarse timer wheel per shard.
//!
//! Owns the times at which something may be due, by key. There is no cancelling. The owner of a key has its real deadline
//! in its own state. When the key fires, the owner compares, and either acts, arms the key again for a later time, or
//! ignores it. So a keep-alive costs nothing per packet: the deadline in the state of the connection moves, and the wheel
//! is armed again once per period.
//!
//! Time is counted in ticks of [`TICK_MILLIS`]. A deadline waits in the level where its tick first differs from the
//! present one, as numbers in base 64, so arming is a shift and a link, and a deadline moves down at most once per
//! level, of which `LEVELS` reach to the end of time. A word of 64 bits per level has a bit for each slot that is not empty:
//! nothing ever walks over empty ones, however long the shard slept.
//!
//! A slot may have a million deadlines. They are linked, so that none is copied, and fire or move down in portions: what is left of the slot
//! that has begun comes before any later one, which is as much later as that takes. With a million connections that is some ten turns, twice a
//! minute.

use crate::tables::Slots;
use crate::time::Time;

/// The coarseness: a deadline fires at its moment or less than this much later, if no more are due than fit into a turn.
pub const TICK_MILLIS: u64 = 8;

/// Slots per level, and the bits of a tick that choose one of them.
const SLOTS_IN_LEVEL: usize = 64;
const SLOT_BITS: u32 = SLOTS_IN_LEVEL.ilog2();

/// The last tick there is, and enough levels to reach it.
const LAST_TICK: u64 = u64::MAX / TICK_MILLIS;
const LEVELS: usize = (u64::BITS - LAST_TICK.leading_zeros()).div_ceil(SLOT_BITS) as usize;

/// So many deadlines move down a level in the time in which one that fires is looked at by its owner.
const MOVED: usize = 8;

/// No place.
const NONE: u32 = u32::MAX;

/// Keys of type `K`, each armed for a moment. One per shard; some 6 KiB when empty.
pub struct Deadlines<K> {
    /// The present: every deadline up to this tick has fired, or is in `due` or `begun`.
    elapsed: u64,
    armed: Slots<Option<Armed<K>>>,
    /// Armed for a moment that had already passed.
    due: List,
    /// What is left of the slot that begins with the present.
    begun: List,
    /// The last [`expire`](Deadlines::expire) has left some.
    is_under_way: bool,
    /// Deadlines after `elapsed`. In level `n` are those whose `n`-th digit is greater than that of `elapsed` while all
    /// higher digits are the same; so everything in a level is due before anything in a higher one.
    levels: Box<[Level]>,
}

struct Level {
    /// Bit `n` is set if slot `n` is not empty.
    occupied: u64,
    slots: [List; SLOTS_IN_LEVEL],
}

struct Armed<K> {
    tick: u64,
    key: K,
    /// The next one in its list.
    next: u32,
}

/// The places of deadlines in a row.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE };

    fn is_empty(self) -> bool {
        self.first == NONE
    }
}

impl<K> Deadlines<K> {
    /// Nothing armed; `now` is the present.
    pub fn new(now: Time) -> Self {
        let level = || Level { occupied: 0, slots: [List::EMPTY; SLOTS_IN_LEVEL] };
        Deadlines {
            elapsed: now.as_millis() / TICK_MILLIS,
            armed: Slots::new(),
            due: List::EMPTY,
            begun: List::EMPTY,
            is_under_way: false,
            levels: (0..LEVELS).map(|_| level()).collect(),
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
        let tick = at.as_millis().div_ceil(TICK_MILLIS).min(LAST_TICK);
        let place = self.armed.insert(Some(Armed { tick, key, next: NONE }));
        if tick <= self.elapsed {
            link(&mut self.armed, &mut self.due, place);
        } else {
            self.put(place, tick);
        }
    }

    /// Makes `now` the present and calls `fired` with every key that is due, those of an earlier tick first. A `now`
    /// before the present counts as the present. At most `most` deadlines fire, and at most [`MOVED`] times as many move down a level:
    /// if others are left, the answer is true, and the next call goes on with them.
    pub fn expire(&mut self, now: Time, most: usize, fired: &mut impl FnMut(K)) -> bool {
        self.is_under_way = self.go_on(now, most, fired);
        self.is_under_way
    }

    fn go_on(&mut self, now: Time, most: usize, fired: &mut impl FnMut(K)) -> bool {
        let now = now.as_millis() / TICK_MILLIS;
        let (mut left, mut moves) = (most, most.saturating_mul(MOVED));
        loop {
            while !self.due.is_empty() {
                if left == 0 {
                    return true;
                }
                left -= 1;
                let place = unlink(&self.armed, &mut self.due);
                self.fire(place, fired);
            }
            while !self.begun.is_empty() {
                if left == 0 || moves == 0 {
                    return true;
                }
                let place = unlink(&self.armed, &mut self.begun);
                match self.armed[place].as_ref().map_or(0, |armed| armed.tick) {
                    tick if tick <= self.elapsed => {
                        left -= 1;
                        self.fire(place, fired);
                    }
                    tick => {
                        moves -= 1;
                        self.put(place, tick);
                    }
                }
            }
            let Some((level, slot, start)) = self.earliest().filter(|(_, _, start)| *start <= now) else { break };
            self.elapsed = start;
            self.levels[level].occupied &= !(1 << slot);
            self.begun = std::mem::replace(&mut self.levels[level].slots[slot], List::EMPTY);
        }
        self.elapsed = self.elapsed.max(now);
        false
    }

    /// A moment before which nothing fires, [`Time::NEVER`] if nothing is armed. It is exact for what is due within the
    /// next half second; for the rest it may be early, so that a sleeper wakes up, finds nothing and asks again: at most
    /// once per level, each time much closer.
    pub fn next(&self) -> Time {
        if !self.due.is_empty() || !self.begun.is_empty() {
            return Time::from_millis(self.elapsed * TICK_MILLIS);
        }
        self.earliest().map_or(Time::NEVER, |(_, _, start)| Time::from_millis(start * TICK_MILLIS))
    }

    /// Whether the last [`expire`](Self::expire) has left some that it would have come to.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// How many keys are armed.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether no key is armed.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    fn fire(&mut self, place: u32, fired: &mut impl FnMut(K)) {
        if let Some(armed) = self.armed.remove(place) {
            fired(armed.key);
        }
    }

    /// Puts a deadline that is after the present into its slot.
    fn put(&mut self, place: u32, tick: u64) {
        debug_assert!(tick > self.elapsed);
        let level = ((self.elapsed ^ tick).ilog2() / SLOT_BITS) as usize;
        let slot = (tick >> shift(level)) as usize % SLOTS_IN_LEVEL;
        self.levels[level].occupied |= 1 << slot;
        link(&mut self.armed, &mut self.levels[level].slots[slot], place);
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

/// Adds a deadline at the end of a list.
fn link<K>(armed: &mut Slots<Option<Armed<K>>>, list: &mut List, place: u32) {
    if let Some(one) = &mut armed[place] {
        one.next = NONE;
    }
    match std::mem::replace(&mut list.last, place) {
        NONE => list.first = place,
        last => {
            if let Some(last) = &mut armed[last] {
                last.next = place;
            }
        }
    }
}

/// Takes the first deadline from a list that is not empty.
fn unlink<K>(armed: &Slots<Option<Armed<K>>>, list: &mut List) -> u32 {
    let place = list.first;
    list.first = armed[place].as_ref().map_or(NONE, |one| one.next);
    if list.first == NONE {
        list.last = NONE;
    }
    place
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

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn expire(deadlines: &mut Deadlines<u32>, millis: u64) -> Vec<u32> {
        let mut fired = Vec::new();
        let is_more_left = deadlines.expire(Time::from_millis(millis), usize::MAX, &mut |key| fired.push(key));
        assert!(!is_more_left);
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
        assert!(deadlines.armed.allocated() < 1000, "{}", deadlines.armed.allocated());
    }

    /// What is armed for the past is due, too.
    #[test]
    fn what_is_left_of_the_past_is_under_way() {
        let mut deadlines = Deadlines::new(Time::from_millis(80));
        (0..3).for_each(|key| deadlines.arm(Time::ZERO, key));
        assert!(deadlines.expire(Time::from_millis(80), 2, &mut |_| {}) && deadlines.is_under_way());
        assert!(!deadlines.expire(Time::from_millis(80), 2, &mut |_| {}) && !deadlines.is_under_way());
    }

    /// Whether they fire or move down a level.
    #[test]
    fn however_many_are_due_each_call_looks_at_few_of_them() {
        let mut deadlines = Deadlines::new(Time::ZERO);
        let at = |millis| Time::from_millis(3_600_000 + millis);
        (0..20_000).for_each(|key| deadlines.arm(at(u64::from(key) % 64), key));
        (0..3000).for_each(|key| deadlines.arm(Time::ZERO, key));
        let (mut calls, mut fired, now) = (0, Vec::new(), at(2 * TICK_MILLIS));
        loop {
            let before = fired.len();
            let is_more_left = deadlines.expire(now, 1000, &mut |key| fired.push(key));
            assert!(fired.len() - before <= 1000);
            calls += 1;
            if calls == 10 {
                assert!(is_more_left && deadlines.is_under_way() && deadlines.next() <= now);
                deadlines.arm(at(0), 1_000_000);
            }
            if !is_more_left {
                break;
            }
        }
        assert!((12..40).contains(&calls) && !deadlines.is_under_way(), "{calls}");
        let due = (0..20_000).filter(|key| key % 64 <= 2 * TICK_MILLIS as u32).count();
        assert_eq!((fired.len(), deadlines.len()), (3000 + due + 1, 20_000 - due));
        assert_eq!(fired[..3000], (0..3000).collect::<Vec<_>>());
        fired.retain(|key| *key < 1_000_000);
        let ticks: Vec<_> = fired[3000..].iter().map(|key: &u32| (key % 64).div_ceil(TICK_MILLIS as u32)).collect();
        assert!(ticks.is_sorted());
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
                        // In portions.
                        let mut fired = Vec::new();
                        while deadlines.expire(Time::from_millis(now), 1 + key as usize % 5, &mut |key| fired.push(key)) {}
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
