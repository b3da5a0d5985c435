//! The Subscription Identifiers that go out with one delivery: nearly always none or one.

use std::ops::Deref;

/// Subscription Identifiers, each 1 to 268,435,455. None and one take no memory of their own.
#[derive(Clone, Debug)]
pub enum SubscriptionIds {
    /// One, or none if it is zero.
    AtMostOne(u32),
    /// Those of several subscriptions that match one message.
    Many(Box<[u32]>),
}

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
            SubscriptionIds::AtMostOne(first) => *self = SubscriptionIds::Many(Box::new([*first, id])),
            SubscriptionIds::Many(ids) => *ids = ids.iter().copied().chain([id]).collect(),
        }
    }
}

impl From<u32> for SubscriptionIds {
    /// One identifier; none if it is zero.
    fn from(id: u32) -> Self {
        SubscriptionIds::AtMostOne(id)
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
