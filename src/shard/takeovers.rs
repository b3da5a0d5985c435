//! Connections that are about to be taken over, and who waits for that: see `last_bytes`.

use std::collections::BTreeMap;

use crate::client::{ConnectionId, SubscriberId};

/// Connections that are about to be taken over.
#[derive(Default)]
pub(super) struct Takeovers {
    /// Those whose last bytes are being read, and whose they are.
    draining: BTreeMap<ConnectionId, SubscriberId>,
    /// The connections that wait for that, in order.
    waiting: BTreeMap<SubscriberId, Vec<ConnectionId>>,
    /// The one whose last bytes have been served, while those that waited for that go on.
    drained: Option<ConnectionId>,
}

impl Takeovers {
    /// Whether the client of `id` is behind another one that waits to take over the same connection. Then it waits, too.
    pub fn is_behind(&mut self, subscriber: &SubscriberId, id: ConnectionId) -> bool {
        let waiting = self.waiting.get_mut(subscriber);
        waiting.map(|waiting| waiting.push(id)).is_some()
    }

    /// Whether the client of `id` must wait until what came on the connection that it has is served, for which the runtime is to be asked.
    pub fn waits(&mut self, old: ConnectionId, subscriber: &SubscriberId, id: ConnectionId) -> bool {
        if self.drained == Some(old) {
            return false;
        }
        self.draining.insert(old, subscriber.clone());
        self.waiting.insert(subscriber.clone(), vec![id]);
        true
    }

    /// What came on `old` has been served, until [`are_over`](Self::are_over): who waits to take it over, in order.
    pub fn go_on(&mut self, old: ConnectionId) -> Vec<ConnectionId> {
        self.drained = Some(old);
        let subscriber = self.draining.remove(&old);
        subscriber.and_then(|subscriber| self.waiting.remove(&subscriber)).unwrap_or_default()
    }

    /// They have all gone on.
    pub fn are_over(&mut self) {
        self.drained = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_take_over_the_same_connection_wait_in_order_and_once() {
        let mut takeovers = Takeovers::default();
        let [old, first, second, third] = [1, 2, 3, 4].map(|index| ConnectionId::new(index, 1));
        let (id, other) = (SubscriberId::new("", "a"), SubscriberId::new("", "b"));
        assert!(!takeovers.is_behind(&id, first) && takeovers.waits(old, &id, first));
        assert!(takeovers.is_behind(&id, second) && !takeovers.is_behind(&other, third));
        assert_eq!(takeovers.go_on(old), [first, second]);
        assert!(!takeovers.waits(old, &id, first), "it has waited");
        assert!(takeovers.waits(first, &id, second), "for another one");
        takeovers.are_over();
        assert!(takeovers.waits(old, &other, third) && takeovers.go_on(second).is_empty());
    }
}
