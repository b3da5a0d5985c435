//! The embedding program as a client of its own kind: it publishes and subscribes without a connection, without hooks, and
//! ends other clients' connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::{SessionAction, SubscriberId};
use crate::codec::{PropertyBlock, QoS};
use crate::session::PROGRAM;
use crate::topic::TopicFilter;

/// Something the embedding program asks of a shard.
#[derive(Debug)]
pub enum Request {
    /// Publish a message. Any shard will do; one program thread keeps to one shard, so that its messages stay in order.
    Publish {
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// A valid topic name.
        topic: String,
        /// The payload.
        payload: Bytes,
        /// The QoS it counts as.
        qos: QoS,
        /// Whether it is to be retained.
        retain: bool,
        /// Its properties.
        properties: PropertyBlock,
        /// Its Message Expiry Interval.
        expiry: Option<Duration>,
    },
    /// Subscribe; answered with [`Output::Subscribed`](super::Output::Subscribed), after which nothing is missed.
    Subscribe {
        /// A number by which deliveries are known; never used twice.
        subscription: u64,
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The filter; not a shared one.
        filter: TopicFilter,
    },
    /// End a subscription.
    Unsubscribe {
        /// Its number.
        subscription: u64,
    },
    /// Move slots. A shard moves those of them that are its own, and says so with [`Output::SlotsMoving`](super::Output::SlotsMoving).
    MoveSlots {
        /// Which.
        slots: Vec<u16>,
        /// To which shard.
        to: usize,
    },
    /// Cut the journals of all shards for a copy of the store: answered with [`Output::Cut`](super::Output::Cut) on each shard, when that is done and
    /// when all that the copy has is on disk. Any shard will do; if all are asked, it is done sooner.
    Cut {
        /// The number of the copy. Later ones have higher numbers, and take the place of earlier ones.
        number: u64,
    },
    /// What a copy has of the journal of this shard is copied, or is not wanted any more. All shards have to be told.
    EndCut {
        /// The number of the copy.
        number: u64,
    },
    /// Count what is in the store: answered with [`Output::StoreReport`](super::Output::StoreReport).
    CountStored,
    /// Find a client, or end its connection, and say so: answered with [`Output::SessionAnswer`](super::Output::SessionAnswer). Any
    /// shard will do; the one that owns it is the shortest way. A session that is on its way to another shard is waited for.
    Session {
        /// The client.
        subscriber: SubscriberId,
        /// What is to be done.
        action: SessionAction,
        /// A number by which the answer is known; never used twice.
        ticket: u64,
    },
    /// End the connection of a client, as [`Request::Session`] does, without an answer. Any shard will do; the one that owns it is the shortest way.
    Disconnect {
        /// The client.
        subscriber: SubscriberId,
        /// Whether its session is to end, too.
        cleanup: bool,
    },
}

/// The subscriptions of the embedding program on this shard.
#[derive(Default)]
pub(super) struct Program {
    subscriptions: BTreeMap<u64, ProgramSubscription>,
    /// The numbers by their place in the filter tree.
    places: Vec<Option<u64>>,
    free: Vec<u32>,
}

/// One subscription of the embedding program.
pub(super) struct ProgramSubscription {
    /// Where it is.
    pub mountpoint: u32,
    /// What it is to.
    pub filter: TopicFilter,
    /// Its place in the filter tree, with [`PROGRAM`] set.
    pub place: u32,
}

impl Program {
    /// The number of the subscription that stands in the filter tree as `subscriber`.
    pub fn number(&self, subscriber: u32) -> Option<u64> {
        *self.places.get((subscriber & !PROGRAM) as usize)?
    }

    /// Adds a subscription in a mountpoint, and gives its place.
    pub fn add(&mut self, number: u64, mountpoint: u32, filter: TopicFilter) -> u32 {
        let at = self.free.pop().unwrap_or(self.places.len() as u32);
        if at as usize == self.places.len() {
            self.places.push(None);
        }
        self.places[at as usize] = Some(number);
        let place = at | PROGRAM;
        self.subscriptions.insert(number, ProgramSubscription { mountpoint, filter, place });
        place
    }

    /// Takes out a subscription. Its place is used again.
    pub fn remove(&mut self, number: u64) -> Option<ProgramSubscription> {
        let removed = self.subscriptions.remove(&number)?;
        let at = removed.place & !PROGRAM;
        self.places[at as usize] = None;
        self.free.push(at);
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_means_the_subscription_that_has_it() {
        let mut program = Program::default();
        let filter = TopicFilter::parse("a/#", 8).expect("a valid filter");
        let place = program.add(7, 0, filter.clone());
        assert_eq!((place & PROGRAM, program.number(place)), (PROGRAM, Some(7)));
        let removed = program.remove(7).expect("it is there");
        assert_eq!((removed.mountpoint, removed.place, &removed.filter), (0, place, &filter));
        assert!(program.number(place).is_none() && program.remove(7).is_none());
        assert_eq!((program.add(8, 1, filter), program.number(place)), (place, Some(8)));
    }
}
