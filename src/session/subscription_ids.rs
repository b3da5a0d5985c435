//! The Subscription Identifiers that go out with one delivery: nearly always none or one.

use std::ops::Deref;

use smallvec::SmallVec;
use triomphe::Arc;

use crate::memory::{Held, MemoryKind, allocated, allocated_for};

/// Subscription Identifiers, each 1 to 268,435,455. None and one take no memory of their own; a list is shared by those who hold a copy.
#[derive(Clone, Debug)]
pub enum SubscriptionIds {
    /// One, or none if it is zero.
    AtMostOne(u32),
    /// Those of several subscriptions that match one message.
    Many(Arc<List>),
}

/// Several identifiers, and the memory they take. A client that subscribes to ten thousand filters that overlap has as many with each message.
#[derive(Debug, Default)]
pub struct List {
    ids: SmallVec<[u32; FEW]>,
    held: Held<{ MemoryKind::Messages as u8 }>,
}

/// So many take one allocation.
const FEW: usize = 6;

const _: () = assert!(size_of::<SubscriptionIds>() == 16, "a window is full of them");

impl SubscriptionIds {
    /// None.
    pub const fn new() -> Self {
        SubscriptionIds::AtMostOne(0)
    }

    /// Adds `id`; zero stands for a subscription that has none.
    pub fn push(&mut self, id: u32) {
        match self {
            _ if id == 0 => {}
            SubscriptionIds::AtMostOne(0) => *self = SubscriptionIds::AtMostOne(id),
            SubscriptionIds::AtMostOne(first) => *self = SubscriptionIds::from([*first, id]),
            SubscriptionIds::Many(list) => match Arc::get_mut(list) {
                Some(list) => list.push(id),
                None => {
                    let mut own = List::of(&list.ids);
                    own.push(id);
                    *list = Arc::new(own);
                }
            },
        }
    }

    /// Whether there is none. A list has at least two, so that no recipient's is looked into for this.
    #[inline]
    pub fn is_none(&self) -> bool {
        matches!(self, SubscriptionIds::AtMostOne(0))
    }

    /// The memory of their list in bytes, shared or not.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self {
            SubscriptionIds::AtMostOne(_) => 0,
            SubscriptionIds::Many(list) => list.held.bytes(),
        }
    }

    /// Has the list of `other`, if it is the same: messages that come one behind the other mostly match the same subscriptions.
    #[inline]
    pub fn share_with(&mut self, other: &SubscriptionIds) {
        if let (SubscriptionIds::Many(own), SubscriptionIds::Many(other)) = (self, other)
            && own.ids == other.ids
        {
            *own = other.clone();
        }
    }
}

impl List {
    fn of(ids: &[u32]) -> Self {
        let mut list = List { ids: SmallVec::from_slice(ids), held: Held::default() };
        list.count();
        list
    }

    fn push(&mut self, id: u32) {
        let is_full = self.ids.len() == self.ids.capacity();
        self.ids.push(id);
        if is_full {
            self.count();
        }
    }

    fn count(&mut self) {
        let spilled = if self.ids.spilled() { allocated_for::<u32>(self.ids.capacity()) } else { 0 };
        self.held.set(allocated(size_of::<Self>() + size_of::<usize>()) + spilled);
    }
}

impl From<u32> for SubscriptionIds {
    /// One identifier; none if it is zero.
    fn from(id: u32) -> Self {
        SubscriptionIds::AtMostOne(id)
    }
}

impl<const COUNT: usize> From<[u32; COUNT]> for SubscriptionIds {
    /// Several identifiers, none of them zero.
    fn from(ids: [u32; COUNT]) -> Self {
        SubscriptionIds::Many(Arc::new(List::of(&ids)))
    }
}

impl Default for SubscriptionIds {
    fn default() -> Self {
        SubscriptionIds::new()
    }
}

impl Deref for SubscriptionIds {
    type Target = [u32];

    #[inline]
    fn deref(&self) -> &[u32] {
        match self {
            SubscriptionIds::AtMostOne(0) => &[],
            SubscriptionIds::AtMostOne(id) => std::slice::from_ref(id),
            SubscriptionIds::Many(list) => &list.ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::memory::MemoryHeld;

    #[test]
    fn they_come_out_as_they_went_in() {
        let mut ids = SubscriptionIds::new();
        assert!(ids.is_empty());
        for (id, all) in [(0, &[][..]), (3, &[3]), (0, &[3]), (1, &[3, 1]), (3, &[3, 1, 3])] {
            ids.push(id);
            assert_eq!(&*ids, all);
        }
        assert_eq!(&*SubscriptionIds::from(7), [7]);
        assert!(SubscriptionIds::from(0).is_empty());
    }

    /// A copy is no other list until it is changed, and equal ones become one. What all of them take is known.
    #[test]
    fn a_list_is_held_once_and_its_memory_is_known() {
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Messages);
        let before = held();
        let many = || {
            (1..=10_000).fold(SubscriptionIds::new(), |mut ids, id| {
                ids.push(id);
                ids
            })
        };
        let (first, mut second) = (many(), many());
        assert!((40_000..=82_000).contains(&first.bytes()), "{}", first.bytes());
        assert_eq!(held() - before, first.bytes() + second.bytes());
        second.share_with(&first);
        assert_eq!((&*second, held() - before), (&*first, first.bytes()), "one list");
        let mut other = first.clone();
        other.push(7);
        assert_eq!((first.len(), other.len()), (10_000, 10_001), "who changes it has a copy of his own");
        other.share_with(&first);
        assert_eq!(other.len(), 10_001, "another list stays");
        drop((first, second, other));
        assert_eq!(held(), before);
        assert_eq!(SubscriptionIds::from(7).bytes(), 0);
    }

    /// As many as a session can have subscriptions that match one topic: each is added at the same cost. Printed, not asserted; a copy of all
    /// others for each would take minutes.
    #[test]
    fn another_one_costs_the_same_however_many_there_are() {
        for most in [1_000, 1_000_000] {
            let (mut ids, began) = (SubscriptionIds::new(), Instant::now());
            (1..=most).for_each(|id| ids.push(id));
            println!("{most}: {} ns each", began.elapsed().as_nanos() / u128::from(most));
            assert!(ids.len() == most as usize && ids.iter().copied().eq(1..=most));
        }
    }
}
