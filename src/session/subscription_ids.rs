//! The Subscription Identifiers that go out with one delivery: nearly always none or one.

use std::ops::Deref;

/// Subscription Identifiers, each 1 to 268,435,455. None and one take no memory of their own, and are moved about in two words.
#[derive(Clone, Debug)]
pub enum SubscriptionIds {
    /// One, or none if it is zero.
    One(u32),
    /// Those of several subscriptions that match one message.
    #[allow(clippy::box_collection, reason = "a vector itself would make each delivery larger, for what is rare")]
    Many(Box<Vec<u32>>),
}

impl SubscriptionIds {
    /// None.
    pub const fn new() -> Self {
        SubscriptionIds::One(0)
    }

    /// Adds `id`; zero stands for a subscription that has none.
    pub fn push(&mut self, id: u32) {
        match self {
            _ if id == 0 => {}
            SubscriptionIds::One(0) => *self = SubscriptionIds::One(id),
            SubscriptionIds::One(first) => *self = SubscriptionIds::Many(Box::new(vec![*first, id])),
            SubscriptionIds::Many(ids) => ids.push(id),
        }
    }
}

impl From<u32> for SubscriptionIds {
    /// One identifier; none if it is zero.
    fn from(id: u32) -> Self {
        SubscriptionIds::One(id)
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
            SubscriptionIds::One(0) => &[],
            SubscriptionIds::One(id) => std::slice::from_ref(id),
            SubscriptionIds::Many(ids) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
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
}
