//! The embedding program as a client of its own kind: it publishes and subscribes without a connection, without hooks, and
//! ends other clients' connections.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use std::collections::BTreeMap;

use super::audience::Origin;
use super::interest::{Granted, Subscribing};
use super::mail::{Announcement, Mail};
use super::realm::PROGRAM;
use super::slot_moves::Waiting;
use super::{Effect, Shard};
use crate::client::{EndReason, ExpiredReason, SubscriberId};
use crate::codec::{PacketId, PropertyBlock, QoS, ReasonCode, RetainHandling, SubscriptionOptions};
use crate::hooks::{Chain, SubscribeModifiersM5};
use crate::message::{Message, Publication};
use crate::session::Subscription;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

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
    /// Subscribe; answered with [`Effect::Subscribed`], after which nothing is missed.
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
    /// Move slots. A shard moves those of them that are its own.
    MoveSlots {
        /// Which.
        slots: Vec<u16>,
        /// To which shard.
        to: usize,
    },
    /// End the connection of a client. Any shard will do; the one that owns it is the shortest way.
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
    subscriptions: BTreeMap<u64, (u32, TopicFilter, u32)>,
    /// The numbers by their place in the filter tree.
    places: Vec<Option<u64>>,
    free: Vec<u32>,
}

impl Program {
    /// The number of the subscription that stands in the filter tree as `subscriber`.
    pub fn number(&self, subscriber: u32) -> Option<u64> {
        *self.places.get((subscriber & !PROGRAM) as usize)?
    }

    fn add(&mut self, number: u64, realm: u32, filter: TopicFilter) -> u32 {
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        if place as usize == self.places.len() {
            self.places.push(None);
        }
        self.places[place as usize] = Some(number);
        self.subscriptions.insert(number, (realm, filter, place | PROGRAM));
        place | PROGRAM
    }

    fn remove(&mut self, number: u64) -> Option<(u32, TopicFilter, u32)> {
        let removed = self.subscriptions.remove(&number)?;
        let place = removed.2 & !PROGRAM;
        self.places[place as usize] = None;
        self.free.push(place);
        Some(removed)
    }
}

impl<C: Chain> Shard<C> {
    /// The embedding program asks for something.
    pub fn request(&mut self, request: Request, now: Time) {
        self.now = now;
        match request {
            Request::Publish { mountpoint, topic, payload, qos, retain, properties, expiry } => {
                let Ok(topic) = TopicName::parse(&topic, usize::MAX) else { return };
                let realm = self.realms.number(&mountpoint);
                let mut publication = Publication::new(topic, &payload);
                publication.qos = qos;
                publication.retain = retain;
                publication.properties = properties.as_bytes();
                publication.expires = expiry.map_or(Time::NEVER, |expiry| now + expiry);
                self.publish_own(realm, &publication);
            }
            Request::Subscribe { subscription, mountpoint, filter } => {
                let realm = self.realms.number(&mountpoint);
                self.subscribe_program(realm, subscription, filter);
            }
            Request::Unsubscribe { subscription } => {
                if let Some((realm, filter, place)) = self.program.remove(subscription) {
                    self.remove_subscriber(realm, &filter, place);
                }
            }
            Request::Disconnect { subscriber, cleanup } => self.disconnect(subscriber, cleanup),
            Request::MoveSlots { slots, to } => drop(self.move_slots(&slots, to, now)),
        }
    }

    /// Which shard owns a client.
    pub fn owner(&self, subscriber: &SubscriberId) -> usize {
        self.slots.owner(subscriber)
    }

    /// Publishes something that no client published.
    pub(super) fn publish_own(&mut self, realm: u32, publication: &Publication<'_>) {
        let origin = Origin { session: None, publisher: 0, policy: self.config.shared.policy };
        self.route(realm, publication, origin);
    }

    fn subscribe_program(&mut self, realm: u32, number: u64, filter: TopicFilter) {
        let options = SubscriptionOptions {
            qos: QoS::ExactlyOnce,
            no_local: false,
            retain_as_published: true,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        let place = self.program.add(number, realm, filter.clone());
        let interest = self.add_subscriber(realm, &filter, place, Subscription { options, id: 0 }, true);
        let pending = Subscribing {
            connection: crate::client::ConnectionId::new(u32::MAX, 0),
            session: place,
            instance: number,
            token: self.number(),
            realm,
            packet_id: PacketId::new(1).expect("one is not zero"),
            subscription_id: 0,
            granted: vec![Ok(Granted { filter: filter.clone(), options, wants_retained: true })],
            user: Vec::new(),
            by: SubscribeModifiersM5::default(),
            connection_ended: false,
            waiting: 0,
            told: vec![Box::default(); self.shards],
            live: Vec::new(),
            found: Vec::new(),
        };
        self.announce(pending, vec![Announcement { filter, interest, retained: true }]);
    }

    /// All shards have taken in a subscription of the program.
    pub(super) fn program_subscribed(&mut self, pending: Subscribing) {
        let subscription = pending.instance;
        self.effects.push(Effect::Subscribed { subscription });
        self.deliver_retained(pending);
    }

    /// What is retained for a subscription of the program, if there still is that one.
    pub(super) fn deliver_retained_to_program(&mut self, place: u32, subscription: u64, message: &Message) {
        if self.program.number(place) == Some(subscription) {
            self.effects.push(Effect::Deliver { subscription, message: message.clone() });
        }
    }

    /// Ends the connection of a client on behalf of an operator; with `cleanup`, its session too.
    pub(super) fn disconnect(&mut self, subscriber: SubscriberId, cleanup: bool) {
        let owner = self.slots.owner(&subscriber);
        if owner != self.id {
            return self.post(owner, Mail::Disconnect { subscriber, cleanup });
        }
        if self.must_wait(&subscriber) {
            return self.wait_for(subscriber, Waiting::Disconnect { cleanup });
        }
        self.disconnect_here(&subscriber, cleanup);
    }

    /// The same for a client whose session is here if there is one.
    pub(super) fn disconnect_here(&mut self, subscriber: &SubscriberId, cleanup: bool) {
        let Some(index) = self.sessions.find(subscriber) else { return };
        if let Some(id) = self.sessions.get(index).and_then(|session| session.connection) {
            self.end_with(id, EndReason::Admin, ReasonCode::AdministrativeAction);
        }
        if cleanup && self.sessions.find(subscriber) == Some(index) {
            self.expire_session(index, ExpiredReason::Admin);
        }
    }
}
