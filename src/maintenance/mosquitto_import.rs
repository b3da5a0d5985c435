//! What becomes of what is in a persistence file of Mosquitto.
//!
//! A session of Mosquitto becomes one that is offline. What was in flight to its client is so again, under the same packet id, and is sent again; what
//! waited waits, in its order.
//!
//! Mosquitto publishes a QoS 2 message when its PUBREL comes, and this broker when its PUBLISH does. So one that was taken and not released is published
//! now, to the sessions of the file that subscribe to it, and its packet id is kept: PUBREL is answered, and a repetition is not published again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use indexmap::IndexMap;

use super::mosquitto::{Chunk, ClientChunk, DeliveryChunk, MessageChunk, SubscriptionChunk};
use super::terms::{Known, Taken, Terms};
use super::writing::{MOST_DELIVERIES, Owners};
use crate::client::SubscriberId;
use crate::codec::{PacketId, ProtocolVersion, PublishProperties, QoS, RetainHandling, SubscriptionOptions};
use crate::octets;
use crate::records::{
    Delivery, DeliveryBuffer, Image, Offline, Record, SessionRecord, StoredIds, StoredMessage, WallTime,
};
use crate::session::{Key, QueueLimits, SessionSettings, StoreNumber, Subscription, packet_id};
use crate::sharding::owner_of;
use crate::topic::{TopicFilter, TopicName};

/// A Session Expiry Interval that means for ever.
const FOREVER: u32 = u32::MAX;
/// The states of messages, as Mosquitto numbers them.
mod state {
    pub const TO_BE_SENT_1: u8 = 2;
    pub const AWAITS_PUBACK: u8 = 3;
    pub const TO_BE_SENT_2: u8 = 4;
    pub const AWAITS_PUBREC: u8 = 5;
    pub const RESENDS_PUBREL: u8 = 6;
    pub const AWAITS_PUBREL: u8 = 7;
    pub const AWAITS_PUBCOMP: u8 = 9;
    pub const SENDS_PUBREC: u8 = 10;
    pub const QUEUED: u8 = 11;
}

/// A message, and to whom it goes.
struct Stored {
    topic: Box<str>,
    properties: Vec<u8>,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    expires: WallTime,
    deliveries: DeliveryBuffer,
}

/// A client whose session is taken.
struct Taker {
    number: StoreNumber,
    next_key: u64,
    /// What it subscribes to; shared subscriptions left out.
    filters: Vec<(TopicFilter, Subscription)>,
}

/// A file that is being taken in.
pub(super) struct Taking<'a> {
    boot: u32,
    owners: Owners,
    terms: Terms<'a>,
    known: Known,
    now: WallTime,
    counters: Vec<u32>,
    messages: HashMap<u64, Stored>,
    /// In the order of the file.
    clients: IndexMap<Box<str>, Taker>,
    /// QoS 2 messages from clients that were not released: client, packet id, message.
    unreleased: Vec<(Box<str>, PacketId, u64)>,
    retained: Vec<u64>,
    done: Taken,
}

impl<'a> Taking<'a> {
    /// One into a store that has what is `known`, as boot `boot` of it.
    pub fn new(boot: u32, owners: Owners, terms: Terms<'a>, known: Known, now: WallTime) -> Self {
        Taking {
            boot,
            owners,
            terms,
            known,
            now,
            counters: vec![0; owners.shards],
            messages: HashMap::new(),
            clients: IndexMap::new(),
            unreleased: Vec::new(),
            retained: Vec::new(),
            done: Taken::default(),
        }
    }

    fn took(&mut self, what: &'static str) {
        self.done.took(what);
    }

    fn leave_out(&mut self, why: &'static str) {
        self.done.leave_out(why);
    }

    /// Takes in a chunk: sessions and subscriptions go to `image` at once, messages at the [end](Self::finish).
    pub fn take(&mut self, chunk: &Chunk<'_>, image: &mut Image) {
        let done = match chunk {
            Chunk::Config => Ok(()),
            Chunk::Message(message) => self.message(message),
            Chunk::Delivery(delivery) => self.delivery(delivery, image),
            Chunk::Retained(id) => {
                self.retained.push(*id);
                Ok(())
            }
            Chunk::Subscription(subscription) => self.subscription(subscription, image),
            Chunk::Client(client) => self.client(client, image),
            Chunk::Other(_) => Err("parts of a kind that is not known"),
        };
        if let Err(why) = done {
            self.leave_out(why);
        }
    }

    fn message(&mut self, chunk: &MessageChunk<'_>) -> Result<(), &'static str> {
        let expires = match u64::try_from(chunk.expires) {
            Ok(0) | Err(_) => WallTime::NEVER,
            Ok(seconds) => WallTime::from_millis(seconds.saturating_mul(1000)),
        };
        if expires <= self.now {
            return Err("messages that have expired");
        }
        let wrong = "messages whose topic is none";
        let topic = octets::text(chunk.topic).ok_or(wrong)?;
        TopicName::parse(topic, usize::MAX).map_err(|_| wrong)?;
        let properties = forwarded(chunk.properties).ok_or("messages whose properties are none")?;
        let qos = QoS::from_u8(chunk.qos).ok_or("messages of QoS 3")?;
        self.done.has_record(topic.len() + properties.len() + chunk.payload.len() + MOST_DELIVERIES);
        let stored = Stored {
            topic: topic.into(),
            properties,
            payload: chunk.payload.to_vec(),
            qos,
            retain: chunk.retain,
            expires,
            deliveries: DeliveryBuffer::default(),
        };
        self.messages.insert(chunk.id, stored);
        Ok(())
    }

    fn client(&mut self, chunk: &ClientChunk<'_>, image: &mut Image) -> Result<(), &'static str> {
        let client_id = octets::text(chunk.id).filter(|id| !id.is_empty()).ok_or("sessions whose client id is none")?;
        let expires = match (chunk.interval, u64::try_from(chunk.expires)) {
            (Some(0), _) => return Err("sessions that end with their connection"),
            (_, Ok(0) | Err(_)) => WallTime::NEVER,
            (_, Ok(seconds)) => WallTime::from_millis(seconds.saturating_mul(1000)),
        };
        if expires <= self.now {
            return Err("sessions that have expired");
        }
        let subscriber = SubscriberId::new(self.terms.mountpoint, client_id);
        if self.known.clients.contains(&subscriber) {
            return Err("sessions of clients that the store has already");
        }
        let shard = owner_of(&subscriber, self.owners.shards, self.owners.seed);
        self.counters[shard] += 1;
        let number = StoreNumber::new(self.boot, shard as u8, self.counters[shard]);
        let username = octets::text(chunk.username).filter(|name| !name.is_empty());
        if username.is_none() && !chunk.username.is_empty() {
            // Mosquitto 2.0.11 writes such for clients without one: pieces of its memory.
            self.leave_out("user names that are none, of sessions that are taken");
        }
        let config = self.terms.config;
        let listener = config.listeners.iter().find(|listener| listener.address.port() == chunk.listener_port);
        let settings = self.settings(chunk.interval);
        let expires = match settings.expiry {
            // Of MQTT 3, which the configuration bounds.
            Some(expiry) if expires == WallTime::NEVER => after(self.now, expiry),
            _ => expires,
        };
        let record = SessionRecord {
            version: if is_v5(chunk.interval) { ProtocolVersion::V5 } else { ProtocolVersion::V311 },
            listener: listener.map_or("", |listener| &listener.name),
            username,
            offline: Some(Offline { since: self.now, expires, will_due: WallTime::NEVER, has_will: false }),
            settings,
            ..SessionRecord::new(number, self.terms.mountpoint, client_id)
        };
        image.apply(&Record::Session(Box::new(record)));
        self.clients.insert(client_id.into(), Taker { number, next_key: 0, filters: Vec::new() });
        self.took("sessions");
        Ok(())
    }

    /// Those that the configuration gives, until the client comes back.
    fn settings(&self, interval: Option<u32>) -> SessionSettings {
        let (queue, session) = (&self.terms.config.queue, &self.terms.config.session);
        let expiry = match interval.filter(|_| is_v5(interval)) {
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
            None => session.persistent_session_expiry,
        };
        SessionSettings {
            expiry,
            send_maximum: self.terms.config.limits.max_inflight_messages,
            queue: QueueLimits {
                online: queue.max_online_messages,
                offline: queue.max_offline_messages,
                bytes: queue.max_queue_bytes,
                order: queue.queue_type,
            },
            ..SessionSettings::unlimited()
        }
    }

    fn subscription(&mut self, chunk: &SubscriptionChunk<'_>, image: &mut Image) -> Result<(), &'static str> {
        let wrong = "subscriptions whose filter is none";
        let text = octets::text(chunk.filter).ok_or(wrong)?;
        let filter = TopicFilter::parse(text, usize::MAX).map_err(|_| wrong)?;
        let qos = QoS::from_u8(chunk.qos).ok_or("subscriptions of QoS 3")?;
        if chunk.id > 268_435_455 {
            return Err("subscriptions whose identifier is none");
        }
        let client = octets::text(chunk.client).and_then(|client| self.clients.get_mut(client));
        let client = client.ok_or("subscriptions of sessions that were not taken")?;
        let options = SubscriptionOptions {
            no_local: chunk.no_local,
            retain_as_published: chunk.retain_as_published,
            retain_handling: RetainHandling::SendAtSubscribe,
            ..SubscriptionOptions::new(qos)
        };
        let subscription = Subscription { options, id: chunk.id };
        image.apply(&Record::Subscribed { session: client.number, filter: text, subscription });
        if filter.share_name().is_none() {
            client.filters.push((filter, subscription));
        }
        self.took("subscriptions");
        Ok(())
    }

    fn delivery(&mut self, chunk: &DeliveryChunk<'_>, image: &mut Image) -> Result<(), &'static str> {
        let client_id = octets::text(chunk.client).unwrap_or_default();
        if !self.clients.contains_key(client_id) {
            return Err("messages of sessions that were not taken");
        }
        match chunk.is_incoming {
            true => self.incoming(client_id, chunk),
            false => self.outgoing(client_id, chunk, image),
        }
    }

    /// A QoS 2 message from the client.
    fn incoming(&mut self, client_id: &str, chunk: &DeliveryChunk<'_>) -> Result<(), &'static str> {
        match chunk.state {
            state::AWAITS_PUBREL | state::SENDS_PUBREC => {
                let id = PacketId::new(chunk.packet_id).ok_or("messages whose packet id is none")?;
                self.unreleased.push((client_id.into(), id, chunk.message));
                Ok(())
            }
            state::QUEUED => Err("messages from clients that were not acknowledged: they are sent again"),
            _ => Err("messages from clients that were released already"),
        }
    }

    fn outgoing(&mut self, client_id: &str, chunk: &DeliveryChunk<'_>, image: &mut Image) -> Result<(), &'static str> {
        let qos = match QoS::from_u8(chunk.qos) {
            Some(QoS::AtMostOnce) => return Err("messages of QoS 0, which are not stored"),
            Some(qos) => qos,
            None => return Err("messages of QoS 3"),
        };
        let Some(client) = self.clients.get_mut(client_id) else { return Ok(()) };
        let is_sent = match chunk.state {
            state::QUEUED => false,
            state::TO_BE_SENT_1 | state::AWAITS_PUBACK | state::TO_BE_SENT_2 | state::AWAITS_PUBREC => true,
            state::RESENDS_PUBREL | state::AWAITS_PUBCOMP => {
                let Some(key) = client.key_for(chunk.packet_id) else { return Err("messages whose packet id is none") };
                image.apply(&Record::Received(client.number, key));
                self.took("messages of QoS 2 that clients have, PUBREL not answered");
                return Ok(());
            }
            _ => return Err("messages in a state that is none"),
        };
        let Some(message) = self.messages.get_mut(&chunk.message) else {
            return Err("messages of sessions that have expired or are not in the file");
        };
        let key = match is_sent {
            true => client.key_for(chunk.packet_id).ok_or("messages whose packet id is none")?,
            false => client.next_key(),
        };
        let properties = chunk.properties.get(prefix(chunk.properties).unwrap_or(0)..).unwrap_or_default();
        let ids: Vec<u32> = PublishProperties::parse(properties)
            .map_or_else(|_| Vec::new(), |parsed| parsed.subscription_ids.iter().collect());
        let (session, ids) = (client.number, StoredIds::from(&*ids));
        message.deliveries.push(&Delivery { session, key, qos, retain: chunk.retain, is_sent, ids, group: None });
        self.took(if is_sent { "messages in flight" } else { "messages that wait" });
        Ok(())
    }

    /// All was read: messages go to `image`.
    pub fn finish(mut self, image: &mut Image) -> Taken {
        self.publish_unreleased(image);
        for id in std::mem::take(&mut self.retained) {
            if let Err(why) = self.retain(id, image) {
                self.leave_out(why);
            }
        }
        // In the order of their ids, so that the same file becomes the same store.
        let messages: BTreeMap<u64, Stored> = std::mem::take(&mut self.messages).into_iter().collect();
        for stored in messages.values().filter(|stored| !stored.deliveries.is_empty()) {
            image.apply(&Record::Message {
                message: stored.message(stored.retain),
                deliveries: stored.deliveries.deliveries(),
            });
        }
        self.done
    }

    fn publish_unreleased(&mut self, image: &mut Image) {
        for (client_id, packet_id, id) in std::mem::take(&mut self.unreleased) {
            if let Some(client) = self.clients.get(&client_id) {
                image.apply(&Record::Incoming { session: client.number, id: packet_id, decision: None });
            }
            let Some(message) = self.messages.get_mut(&id) else {
                self.leave_out("messages of sessions that have expired or are not in the file");
                continue;
            };
            let topic = TopicName::trusted(&message.topic);
            for (of, client) in &mut self.clients {
                let matching = |(filter, subscription): &&(TopicFilter, Subscription)| {
                    filter.matches(topic) && !(subscription.options.no_local && *of == client_id)
                };
                let found: Vec<Subscription> = client.filters.iter().filter(matching).map(|(_, one)| *one).collect();
                let qos = found.iter().map(|one| one.options.qos).max_by_key(|qos| *qos as u8);
                let Some(qos) = qos.filter(|qos| *qos != QoS::AtMostOnce) else { continue };
                let qos = if (message.qos as u8) < qos as u8 { message.qos } else { qos };
                let retain = message.retain && found.iter().any(|one| one.options.retain_as_published);
                let ids: Vec<u32> = found.iter().map(|one| one.id).filter(|id| *id > 0).collect();
                let (session, key) = (client.number, client.next_key());
                let ids = StoredIds::from(&*ids);
                let delivery = Delivery { session, key, qos, retain, is_sent: false, ids, group: None };
                message.deliveries.push(&delivery);
            }
            if message.retain {
                self.retained.push(id);
            }
            self.took("messages of QoS 2 from clients, taken and not released: published now");
        }
    }

    fn retain(&mut self, id: u64, image: &mut Image) -> Result<(), &'static str> {
        let Some(stored) = self.messages.get(&id) else {
            return Err("retained messages that have expired or are not in the file");
        };
        let mountpoint = self.terms.mountpoint;
        if stored.topic.starts_with("$SYS/") {
            return Err("retained messages about Mosquitto itself");
        }
        self.known.check_retained(mountpoint, &stored.topic)?;
        if stored.payload.is_empty() {
            image.apply(&Record::Cleared { mountpoint, topic: TopicName::trusted(&stored.topic) });
            return Ok(());
        }
        image.apply(&Record::Retained { mountpoint, message: stored.message(true) });
        self.took("retained messages");
        Ok(())
    }
}

impl Stored {
    fn message(&self, retain: bool) -> StoredMessage<'_> {
        let topic = TopicName::trusted(&self.topic);
        StoredMessage::new(topic, &self.properties, &self.payload, (self.qos, retain), self.expires)
    }
}

impl Taker {
    fn next_key(&mut self) -> Key {
        self.next_key += 1;
        Key::new(self.next_key - 1)
    }

    /// The next key with this packet id. None if it is none.
    fn key_for(&mut self, id: u16) -> Option<Key> {
        let id = PacketId::new(id)?;
        let now = u64::from(packet_id(self.next_key).get());
        let ids = u64::from(u16::MAX);
        self.next_key += (u64::from(id.get()) + ids - now) % ids;
        Some(self.next_key())
    }
}

/// Whether a file that says so is about a client of MQTT 5: those of MQTT 3 are kept for ever.
fn is_v5(interval: Option<u32>) -> bool {
    interval.is_some_and(|seconds| seconds != FOREVER)
}

fn after(now: WallTime, duration: Duration) -> WallTime {
    WallTime::from_millis(now.as_millis().saturating_add(duration.as_millis() as u64))
}

/// Where properties begin behind their length; none if that is none.
fn prefix(properties: &[u8]) -> Option<usize> {
    let last = properties.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    Some(last + 1)
}

/// The properties that go on to receivers, of those that are stored with their length before them. None if they are none.
fn forwarded(properties: &[u8]) -> Option<Vec<u8>> {
    if properties.is_empty() {
        return Some(Vec::new());
    }
    let parsed = PublishProperties::parse(&properties[prefix(properties)?..]).ok()?;
    Some(parsed.forwarded().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_packet_ids_that_messages_had_and_rise() {
        let mut taker = Taker { number: StoreNumber::new(1, 0, 1), next_key: 0, filters: Vec::new() };
        let mut last = None;
        for id in [1, 2, 7, 5, 65_535, 1, 65_535, 65_534] {
            let key = taker.key_for(id).expect("a packet id").get();
            assert_eq!(packet_id(key).get(), id);
            assert!(last < Some(key));
            last = Some(key);
        }
        assert!(taker.key_for(0).is_none());
        assert_eq!(Some(taker.next_key().get()), last.map(|last| last + 1));
    }
}
