//! The Subscription Identifiers that go out with one delivery: nearly always none or one.

use std::ops::Deref;

use smallvec::SmallVec;

/// Subscription Identifiers, each 1 to 268,435,455. None and one take no memory of their own.
#[derive(Clone, Debug)]
pub enum SubscriptionIds {
    /// One, or none if it is zero.
    AtMostOne(u32),
    /// Those of several subscriptions that match one message.
    Many(Box<SmallVec<[u32; FEW]>>),
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
            SubscriptionIds::Many(ids) => ids.push(id),
        }
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
        SubscriptionIds::Many(Box::new(SmallVec::from_slice(&ids)))
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
            SubscriptionIds::Many(ids) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

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
