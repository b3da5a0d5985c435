//! What the broker holds in memory, by kind, and how near that is to what it may hold.
//!
//! Who holds memory has a [`Held`] beside it, which says how much that is for as long as it lives. Sums are kept for each kind, and for
//! each thread by itself: so counting is one addition to memory that no other thread writes. A message is made on one
//! shard and dropped by another that had it last, so the sum of one thread says little; that of all threads is what the process holds.
//!
//! Counted is what an allocator gives, not what it was asked for: see [`allocated`]. Payloads that many share are counted once, where
//! they are. Two brokers in one process are counted together, as the memory they share is.

use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MemoryKind {
    /// Messages with their topics and payloads, each of them once: those that wait in queues, are in flight, retained, or on their way. With
    /// them the lists of Subscription Identifiers, where there are several.
    Messages,
    /// Places of messages in the queues of sessions, and of sessions in line for a message to very many.
    Queues,
    /// Places of messages that clients have not acknowledged.
    InFlight,
    /// Places of retained messages.
    Retained,
    /// Sessions, but for what is counted elsewhere.
    Sessions,
    /// Topic filters of sessions, and the trees that find them.
    Subscriptions,
    /// Connections, but for what is counted elsewhere.
    Connections,
    /// Bytes that came and are not served yet.
    Unread,
    /// Bytes that are to be sent.
    Output,
    /// Messages between shards, but for their payloads.
    BetweenShards,
    /// Tables of sessions, which stay when those have gone that were in them.
    Tables,
}

const KINDS: usize = 11;

impl MemoryKind {
    /// All of them.
    pub const ALL: [MemoryKind; KINDS] = [
        MemoryKind::Messages,
        MemoryKind::Queues,
        MemoryKind::InFlight,
        MemoryKind::Retained,
        MemoryKind::Sessions,
        MemoryKind::Subscriptions,
        MemoryKind::Connections,
        MemoryKind::Unread,
        MemoryKind::Output,
        MemoryKind::BetweenShards,
        MemoryKind::Tables,
    ];

    /// Its name in reports and topics.
    pub fn name(self) -> &'static str {
        match self {
            MemoryKind::Messages => "messages",
            MemoryKind::Queues => "queues",
            MemoryKind::InFlight => "in flight",
            MemoryKind::Retained => "retained",
            MemoryKind::Sessions => "sessions",
            MemoryKind::Subscriptions => "subscriptions",
            MemoryKind::Connections => "connections",
            MemoryKind::Unread => "unread",
            MemoryKind::Output => "output",
            MemoryKind::BetweenShards => "between shards",
            MemoryKind::Tables => "tables",
        }
    }
}

/// Bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryHeld([isize; KINDS]);

impl MemoryHeld {
    /// What all threads of the process hold together.
    pub fn in_process() -> Self {
        let mut held = MemoryHeld::default();
        SUMS.iter().for_each(|sums| held.add(sums));
        held
    }

    /// What was taken on this thread and not given back on it. Of use where all shards are on one thread: in tests.
    pub fn on_this_thread() -> Self {
        let mut held = MemoryHeld::default();
        held.add(&SUMS[lent()]);
        held
    }

    /// The bytes of one kind.
    pub fn of(&self, kind: MemoryKind) -> usize {
        usize::try_from(self.0[kind as usize]).unwrap_or(0)
    }

    /// All of them.
    pub fn total(&self) -> usize {
        usize::try_from(self.0.iter().sum::<isize>()).unwrap_or(0)
    }

    fn add(&mut self, sums: &Sums) {
        self.0.iter_mut().zip(&sums.0).for_each(|(held, sum)| *held += sum.load(Ordering::Relaxed));
    }
}

/// The bytes that its owner holds, of the kind `KIND`: counted until it is dropped.
#[derive(Debug, Default)]
pub struct Held<const KIND: u8> {
    /// In units of [`UNIT`].
    units: u32,
}

/// What every allocation is a multiple of.
const UNIT: usize = 16;

impl<const KIND: u8> Held<KIND> {
    /// So many bytes are held.
    #[inline]
    pub fn new(bytes: usize) -> Self {
        let mut held = Held { units: 0 };
        held.set(bytes);
        held
    }

    /// So many bytes are held now.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        let units = (bytes.div_ceil(UNIT)).min(u32::MAX as usize) as u32;
        if units != self.units {
            count(KIND, (units as isize - self.units as isize) * UNIT as isize);
            self.units = units;
        }
    }

    /// How many are.
    pub fn bytes(&self) -> usize {
        self.units as usize * UNIT
    }
}

impl<const KIND: u8> Drop for Held<KIND> {
    #[inline]
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The bytes that an allocation of `size` bytes takes. Allocators round up to classes, four for each power of two: those of mimalloc and
/// jemalloc are the same.
#[inline]
pub const fn allocated(size: usize) -> usize {
    if size <= 8 * UNIT {
        return size.next_multiple_of(UNIT);
    }
    let step = 1 << (usize::BITS - (size - 1).leading_zeros() - 3);
    size.next_multiple_of(step)
}

/// The bytes that a buffer for so many `T` takes.
#[inline]
pub const fn allocated_for<T>(capacity: usize) -> usize {
    allocated(capacity * size_of::<T>())
}

/// About the bytes that an entry of `size` bytes takes in a B-tree, whose nodes have eleven places, seven of which are used.
pub const fn allocated_in_tree(size: usize) -> usize {
    11 * (size + 2) / 7
}

/// What a text that is shared takes beside its bytes: two counts, and what an allocator cannot use.
pub const OF_SHARED_TEXT: usize = 24;

/// How near what is held is to what may be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryStage {
    /// Far enough.
    #[default]
    Normal,
    /// From 80 % on: what is retained does not grow.
    RetainedFull,
    /// From 90 % on: publishers are held, too.
    PublishersHeld,
    /// At the limit: new clients are refused, too.
    Full,
}

impl MemoryStage {
    /// The stage that follows when so many bytes of `most` are held. A stage is left when five parts in a hundred are free again, so
    /// that it does not begin and end all the time.
    pub fn next(self, held: usize, most: usize) -> Self {
        let hundredth = (most / 100).max(1);
        let stage = |held: usize| match held / hundredth {
            0..80 => MemoryStage::Normal,
            80..90 => MemoryStage::RetainedFull,
            90..100 => MemoryStage::PublishersHeld,
            _ => MemoryStage::Full,
        };
        let (above, below) = (stage(held), stage(held.saturating_add(5 * hundredth)));
        self.clamp(above, below)
    }
}

/// The sums of one thread, by kind.
struct Sums([AtomicIsize; KINDS]);

/// How many threads have sums of their own at a time. Others share the first ones, as do those that are gone.
const THREADS: usize = 256;

static SUMS: [CachePadded<Sums>; THREADS] =
    [const { CachePadded::new(Sums([const { AtomicIsize::new(0) }; KINDS])) }; THREADS];

/// Which sums belong to a thread: a bit for each. The first ones are everybody's.
static TAKEN: [AtomicU64; THREADS / 64] = [AtomicU64::new(1), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)];

/// Everybody's sums.
const SHARED: usize = 0;

thread_local! {
    /// The sums of this thread, once it has some of its own. It is looked at for every message that is kept: nothing may be in the way.
    static OWN: Cell<Option<&'static Sums>> = const { Cell::new(None) };
    static LENT: Lent = Lent::take();
}

/// The place of the sums that one thread has, until its end.
struct Lent(usize);

impl Lent {
    fn take() -> Self {
        for (word, taken) in TAKEN.iter().enumerate() {
            let free = |bits: u64| (bits != u64::MAX).then(|| bits | (bits + 1));
            if let Ok(before) = taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, free) {
                return Lent(word * 64 + before.trailing_ones() as usize);
            }
        }
        Lent(SHARED)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let own = self.0;
        if own == SHARED {
            return;
        }
        OWN.set(None);
        for (sum, shared) in SUMS[own].0.iter().zip(&SUMS[SHARED].0) {
            shared.fetch_add(sum.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        TAKEN[own / 64].fetch_and(!(1 << (own % 64)), Ordering::AcqRel);
    }
}

/// The place of the sums of this thread: everybody's if there were too many threads, or it is about to end.
fn lent() -> usize {
    LENT.try_with(|lent| lent.0).unwrap_or(SHARED)
}

#[inline]
fn count(kind: u8, bytes: isize) {
    match OWN.get() {
        Some(own) => {
            // Nobody else writes here.
            let sum = &own.0[usize::from(kind)];
            sum.store(sum.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
        }
        None => count_first(kind, bytes),
    }
}

#[cold]
fn count_first(kind: u8, bytes: isize) {
    let own = lent();
    SUMS[own].0[usize::from(kind)].fetch_add(bytes, Ordering::Relaxed);
    if own != SHARED {
        OWN.set(Some(&SUMS[own]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNREAD: u8 = MemoryKind::Unread as u8;

    fn unread() -> usize {
        MemoryHeld::on_this_thread().of(MemoryKind::Unread)
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let mut held = Held::<UNREAD>::new(100);
        assert_eq!((held.bytes(), unread()), (112, 112));
        held.set(1024);
        let other = Held::<UNREAD>::new(16);
        assert_eq!((unread(), MemoryHeld::on_this_thread().total()), (1040, 1040));
        drop(held);
        assert_eq!(unread(), 16);
        drop(other);
        assert_eq!(MemoryHeld::on_this_thread(), MemoryHeld::default());
    }

    #[test]
    fn kinds_are_in_order_and_have_names_of_their_own() {
        for (at, kind) in MemoryKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            assert_eq!(MemoryKind::ALL.iter().filter(|other| other.name() == kind.name()).count(), 1);
        }
    }

    /// The process holds what one thread took and another one did not give back, also when the first one is gone.
    #[test]
    fn what_one_thread_takes_another_may_give_back() {
        const KIND: u8 = MemoryKind::Tables as u8;
        let in_process = || MemoryHeld::in_process().of(MemoryKind::Tables);
        for _ in 0..2 * THREADS {
            let held = std::thread::spawn(|| Held::<KIND>::new(1 << 20)).join().expect("no panic");
            assert!(in_process() >= 1 << 20);
            std::thread::spawn(move || drop(held)).join().expect("no panic");
        }
        assert_eq!(in_process(), 0, "no other test holds this kind");
    }

    #[test]
    fn allocations_are_rounded_up_to_classes() {
        let sizes = [0, 1, 16, 17, 128, 129, 160, 161, 256, 257, 1 << 20, (1 << 20) + 1];
        let classes = [0, 16, 16, 32, 128, 160, 160, 192, 256, 320, 1 << 20, (1 << 20) + (1 << 18)];
        assert_eq!(sizes.map(allocated), classes);
    }

    #[test]
    fn a_stage_begins_at_its_part_and_ends_five_hundredths_below() {
        let mut stage = MemoryStage::Normal;
        let mut at = |held| {
            stage = stage.next(held, 1000);
            stage
        };
        use MemoryStage::*;
        let up = [0, 799, 800, 899, 900, 999, 1000, 5000].map(&mut at);
        assert_eq!(up, [Normal, Normal, RetainedFull, RetainedFull, PublishersHeld, PublishersHeld, Full, Full]);
        let down = [950, 949, 850, 849, 750, 749].map(&mut at);
        assert_eq!(down, [Full, PublishersHeld, PublishersHeld, RetainedFull, RetainedFull, Normal]);
        assert_eq!([2000, 0].map(&mut at), [Full, Normal], "some are passed over");
        assert_eq!(Normal.next(usize::MAX, usize::MAX), Full);
        assert_eq!(Normal.next(usize::MAX / 2, usize::MAX), Normal);
    }
}
