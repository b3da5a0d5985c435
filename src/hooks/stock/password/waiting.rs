//! Checks that wait for a thread: whose turn it is.
//!
//! Addresses take turns, and within an address the users: whoever sends a hundred passwords a second waits behind himself.
//! Users who logged in from the same address before have a line of their own, which gets every second turn. No address
//! may use more than what it leaves free: there is always room for others.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::failures::Origin;
use crate::time::Time;

/// Checks that wait, each a `T`.
pub(super) struct Waiting<T> {
    capacity: usize,
    held: HashMap<IpAddr, usize>,
    total: usize,
    /// By when they may be done, and the order in which they came.
    delayed: BTreeMap<(Time, u64), (Waiter<T>, bool)>,
    count: u64,
    known: Addresses<T>,
    others: Addresses<T>,
    known_had_the_last: bool,
}

/// Something that waits, and for whom.
struct Waiter<T> {
    origin: Origin,
    check: T,
}

type Addresses<T> = Turns<IpAddr, Users<T>>;
type Users<T> = Turns<Arc<str>, VecDeque<Waiter<T>>>;

/// How something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    /// It may not be done before.
    pub not_before: Time,
    /// Its user logged in from there before.
    pub known: bool,
}

impl<T> Waiting<T> {
    /// Room for `capacity`.
    pub fn new(capacity: usize) -> Self {
        let (held, delayed, known, others) = Default::default();
        Waiting { capacity, held, total: 0, delayed, count: 0, known, others, known_had_the_last: false }
    }

    /// Has `check` wait. If there is no room, those are thrown out first that nobody `needs` any more; if there is still
    /// none it comes back.
    pub fn push(&mut self, origin: Origin, check: T, rank: Rank, needs: impl Fn(&T) -> bool) -> Result<(), T> {
        if !self.has_room(&origin) {
            self.retain(needs);
            if !self.has_room(&origin) {
                return Err(check);
            }
        }
        self.total += 1;
        *self.held.entry(origin.address).or_default() += 1;
        self.count += 1;
        self.delayed.insert((rank.not_before, self.count), (Waiter { origin, check }, rank.known));
        Ok(())
    }

    fn has_room(&self, origin: &Origin) -> bool {
        self.held.get(&origin.address).copied().unwrap_or(0) < self.capacity.saturating_sub(self.total)
    }

    /// Whose turn it is.
    pub fn pop(&mut self, now: Time) -> Option<(Origin, T)> {
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let (waiter, known) = first.remove();
            let line = if known { &mut self.known } else { &mut self.others };
            line.of(waiter.origin.address).of(Arc::clone(&waiter.origin.user)).push_back(waiter);
        }
        let lines = if self.known_had_the_last {
            [(&mut self.others, false), (&mut self.known, true)]
        } else {
            [(&mut self.known, true), (&mut self.others, false)]
        };
        let (waiter, known) = lines.into_iter().find_map(|(line, known)| Some((line.next()?, known)))?;
        self.known_had_the_last = known;
        self.forget(&waiter.origin);
        Some((waiter.origin, waiter.check))
    }

    /// When the next one may be done that may not be yet.
    pub fn due(&self) -> Time {
        self.delayed.first_key_value().map_or(Time::NEVER, |((due, _), _)| *due)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.total
    }

    fn forget(&mut self, origin: &Origin) {
        self.total -= 1;
        if let Entry::Occupied(mut held) = self.held.entry(origin.address) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    fn retain(&mut self, needs: impl Fn(&T) -> bool) {
        let mut gone = Vec::new();
        let mut keep = |waiter: &Waiter<T>| {
            let needed = needs(&waiter.check);
            if !needed {
                gone.push(waiter.origin.clone());
            }
            needed
        };
        self.delayed.retain(|_, (waiter, _)| keep(waiter));
        self.known.retain(&mut keep);
        self.others.retain(&mut keep);
        gone.iter().for_each(|origin| self.forget(origin));
    }
}

/// Lines that take turns, each with a key. None of them is empty.
struct Turns<K, L> {
    lines: HashMap<K, L>,
    order: VecDeque<K>,
}

impl<K, L> Default for Turns<K, L> {
    fn default() -> Self {
        Turns { lines: HashMap::new(), order: VecDeque::new() }
    }
}

/// Something to take from.
trait Line: Default {
    type Item;
    fn next(&mut self) -> Option<Self::Item>;
    fn is_empty(&self) -> bool;
    fn retain(&mut self, keep: &mut impl FnMut(&Self::Item) -> bool);
}

impl<T> Line for VecDeque<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }

    fn retain(&mut self, keep: &mut impl FnMut(&T) -> bool) {
        VecDeque::retain(self, |item| keep(item));
    }
}

impl<K: Clone + Eq + Hash, L: Line> Turns<K, L> {
    /// The line of a key, to put something into it.
    fn of(&mut self, key: K) -> &mut L {
        match self.lines.entry(key) {
            Entry::Occupied(line) => line.into_mut(),
            Entry::Vacant(place) => {
                self.order.push_back(place.key().clone());
                place.insert(L::default())
            }
        }
    }
}

impl<K: Clone + Eq + Hash, L: Line> Line for Turns<K, L> {
    type Item = L::Item;

    fn next(&mut self) -> Option<L::Item> {
        let key = self.order.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        let item = line.next();
        if line.is_empty() {
            self.lines.remove(&key);
        } else {
            self.order.push_back(key);
        }
        item
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn retain(&mut self, keep: &mut impl FnMut(&L::Item) -> bool) {
        let Turns { lines, order } = self;
        lines.retain(|_, line| {
            line.retain(keep);
            !line.is_empty()
        });
        order.retain(|key| lines.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_millis(1000);
    const AT_ONCE: Rank = Rank { not_before: Time::ZERO, known: false };

    fn origin(host: u8, user: &str) -> Origin {
        Origin::new([10, 0, 0, host].into(), user.into())
    }

    fn order(waiting: &mut Waiting<u32>) -> Vec<u32> {
        std::iter::from_fn(|| waiting.pop(NOW)).map(|(_, check)| check).collect()
    }

    #[test]
    fn addresses_take_turns_and_users_within_them() {
        let mut waiting = Waiting::new(100);
        let mut push = |host, user, check| waiting.push(origin(host, user), check, AT_ONCE, |_| true).unwrap();
        (0..5).for_each(|check| push(1, "ann", check));
        push(1, "bob", 10);
        push(2, "ann", 20);
        push(2, "ann", 21);
        assert_eq!(order(&mut waiting), [0, 20, 10, 21, 1, 2, 3, 4]);
        assert_eq!((waiting.len(), waiting.held.len()), (0, 0));
    }

    #[test]
    fn who_was_there_before_has_every_second_turn() {
        let mut waiting = Waiting::new(100);
        for check in 0..3 {
            waiting.push(origin(1, "ann"), check, AT_ONCE, |_| true).unwrap();
            waiting.push(origin(2, "bob"), 10 + check, Rank { known: true, ..AT_ONCE }, |_| true).unwrap();
        }
        assert_eq!(order(&mut waiting), [10, 0, 11, 1, 12, 2]);
    }

    #[test]
    fn nobody_comes_before_his_time() {
        let mut waiting = Waiting::new(100);
        let later = Rank { not_before: Time::from_millis(1500), known: false };
        waiting.push(origin(1, "ann"), 1, later, |_| true).unwrap();
        waiting.push(origin(2, "bob"), 2, AT_ONCE, |_| true).unwrap();
        assert_eq!(order(&mut waiting), [2]);
        assert_eq!(waiting.due(), Time::from_millis(1500));
        assert_eq!(waiting.pop(Time::from_millis(1500)).map(|(_, check)| check), Some(1));
        assert_eq!(waiting.due(), Time::NEVER);
    }

    #[test]
    fn an_address_leaves_as_much_room_as_it_takes() {
        let mut waiting = Waiting::new(100);
        let mut push = |host, check| waiting.push(origin(host, "ann"), check, AT_ONCE, |_| true).is_ok();
        assert_eq!((0..100).filter(|check| push(1, *check)).count(), 50);
        assert_eq!((0..100).filter(|check| push(2, *check)).count(), 25);
        assert!((3..20).all(|host| push(host, 0)), "there is room for others");
    }

    #[test]
    fn who_has_left_makes_room() {
        let mut waiting = Waiting::new(4);
        let push = |waiting: &mut Waiting<u32>, host, check| {
            waiting.push(origin(host, "ann"), check, AT_ONCE, |check| check % 2 == 1).is_ok()
        };
        assert!(push(&mut waiting, 1, 0) && push(&mut waiting, 1, 1));
        assert!(push(&mut waiting, 1, 2), "0 has left");
        assert!(push(&mut waiting, 2, 3));
        assert!(push(&mut waiting, 1, 5), "2 has left");
        assert!(!push(&mut waiting, 1, 7), "nobody has left");
        assert_eq!(order(&mut waiting), [1, 3, 5]);
    }
}
