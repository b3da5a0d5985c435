//! A client as a program on a device has it: what it remembers between connections, and how it answers.

use std::collections::BTreeMap;

use moormq::codec::{
    Ack, AckKind, Auth, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Sender, Split,
    decode, split,
};

use crate::authenticating::EXCHANGE;
use crate::deliveries::Delivery;
use crate::history::{FILTERS, FIRST_SHARED_TOPIC, METHODS, MOST_ALIASES, Plan, TOPICS};
use crate::judge::Judge;
use crate::trace::{message_of, payload};
use crate::wire::{Acknowledged, Owed, Wire};

/// A publish that is not complete.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    pub message: u32,
    pub packet_id: u16,
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    pub large: bool,
    pub expiry: Option<u8>,
    pub plan: Plan,
    /// PUBREC has come.
    pub received: bool,
}

/// What a client remembers of one session.
#[derive(Default)]
pub struct Store {
    pub outgoing: Vec<Outgoing>,
    pub last_packet_id: u16,
    /// The session it is about.
    life: Option<usize>,
    /// It may have forgotten something of a session that there still is.
    pub is_forgetful: bool,
    /// QoS 2 messages that have come and were not released, by packet id.
    unreleased: BTreeMap<u16, u32>,
    /// Messages that have come and whose last acknowledgement the broker was not given, by packet id.
    unfreed: BTreeMap<u16, u32>,
}

/// A client.
#[derive(Default)]
pub struct Device {
    /// By mountpoint.
    pub stores: [Store; 2],
    /// Its connection.
    pub wire: Option<usize>,
    pub lazy: bool,
}

pub const LARGE: usize = 1500;

/// How a PUBLISH names its topic.
#[derive(Clone, Copy, Debug)]
pub enum Naming {
    Topic,
    Alias(u16),
    Both(u16),
}

impl Outgoing {
    pub fn encode(&self, version: ProtocolVersion, dup: bool, naming: Naming, out: &mut Vec<u8>) {
        let payload = payload(self.message, self.plan, if self.large { LARGE } else { 0 });
        let (topic, topic_alias) = match naming {
            Naming::Topic => (TOPICS[self.topic], None),
            Naming::Alias(alias) => ("", Some(alias)),
            Naming::Both(alias) => (TOPICS[self.topic], Some(alias)),
        };
        let message_expiry = self.expiry.map(u32::from);
        let properties = PublishProperties { message_expiry, topic_alias, ..PublishProperties::default() };
        let publish = Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic,
            packet_id: PacketId::new(self.packet_id),
            properties: if version == ProtocolVersion::V5 { properties } else { PublishProperties::default() },
            payload: &payload,
        };
        publish.encode(version, out);
    }
}

fn write_ack(wire: &mut Wire, kind: AckKind, packet_id: u16) {
    let mut bytes = Vec::new();
    let Some(id) = PacketId::new(packet_id) else { return };
    Ack::new(id, ReasonCode::Success).encode(kind, wire.version(), &mut bytes);
    wire.send(&bytes);
}

impl Store {
    /// A session begins: nothing of another one counts.
    pub fn begin(&mut self) {
        *self = Store { last_packet_id: self.last_packet_id, ..Store::default() };
    }

    pub fn packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id % 1000 + 1;
            if self.outgoing.iter().all(|one| one.packet_id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }

    /// The broker was given acknowledgements: their packet ids are free.
    pub fn free(&mut self, wire: &mut Wire) {
        while let Some(Acknowledged { at, packet_id }) = wire.freeing.front().copied() {
            if at > wire.given {
                return;
            }
            wire.freeing.pop_front();
            wire.outstanding.remove(&packet_id);
            self.unfreed.remove(&packet_id);
        }
    }

    /// Sends one answer that is owed.
    pub fn answer(&mut self, wire: &mut Wire) -> bool {
        let Some(owed) = wire.owes.pop_front() else { return false };
        match owed {
            Owed::Puback(id) => write_ack(wire, AckKind::Puback, id),
            Owed::Pubrec(id) => write_ack(wire, AckKind::Pubrec, id),
            Owed::Pubrel(id) => write_ack(wire, AckKind::Pubrel, id),
            Owed::Pubcomp(id) => write_ack(wire, AckKind::Pubcomp, id),
        }
        if let Owed::Puback(packet_id) | Owed::Pubcomp(packet_id) = owed {
            wire.freeing.push_back(Acknowledged { at: wire.sent, packet_id });
        }
        true
    }

    /// Takes whole packets out of what has come.
    pub fn hear(&mut self, wire: &mut Wire, judge: &mut Judge) {
        let inbox = std::mem::take(&mut wire.inbox);
        let mut at = 0;
        while let Ok(Split::Frame(frame)) = split(&inbox[at..], usize::MAX) {
            at += frame.length;
            match decode(frame, wire.version(), Sender::Server) {
                Ok(packet) => self.understand(wire, judge, packet),
                Err(error) => judge.find("packets: what the broker sends is legal", format!("{error:?}")),
            }
        }
        wire.inbox = inbox[at..].to_vec();
    }

    fn understand(&mut self, wire: &mut Wire, judge: &mut Judge, packet: Packet<'_>) {
        let serial = wire.serial;
        if !matches!(packet, Packet::Publish(_)) {
            judge.note(|| format!("  client #{serial} hears {packet:?}"));
        }
        let is_asked = matches!(packet, Packet::Auth(_)) && wire.hello.exchange.is_some() && !wire.answered;
        if !wire.welcomed && !matches!(packet, Packet::Connack(_)) && !is_asked {
            return judge.find("packets: CONNACK comes first", format!("connection {serial}: {packet:?}"));
        }
        match packet {
            Packet::Connack(connack) => {
                let method = wire.hello.exchange.map(|_| METHODS[usize::from(wire.hello.is_strange)]);
                if connack.code == ReasonCode::Success && connack.properties.authentication_method != method {
                    judge.find(EXCHANGE, format!("connection {serial}: {connack:?}"));
                }
                wire.alias_maximum = connack.properties.topic_alias_maximum.unwrap_or_default();
                self.welcomed(wire, judge, connack.code, connack.session_present);
            }
            Packet::Publish(publish) => self.take(wire, judge, &publish),
            Packet::Puback(ack) | Packet::Pubrec(ack) => {
                let is_rec = matches!(packet, Packet::Pubrec(_));
                self.acknowledged(wire, judge, ack, is_rec);
            }
            Packet::Pubrel(ack) => {
                self.unreleased.remove(&ack.packet_id.get());
                wire.owes.push_back(Owed::Pubcomp(ack.packet_id.get()));
            }
            Packet::Pubcomp(ack) => {
                let before = self.outgoing.len();
                self.outgoing.retain(|one| !(one.packet_id == ack.packet_id.get() && one.received));
                if self.outgoing.len() == before {
                    judge.find(UNASKED, format!("connection {serial}: PUBCOMP {}", ack.packet_id.get()));
                }
            }
            Packet::Suback(suback) => {
                let asked = wire.subscribing.take().filter(|(id, _)| *id == suback.packet_id.get());
                match asked.and_then(|(_, asks)| asks) {
                    Some(asks) => judge.subscription_answered(serial, asks, suback),
                    None => judge.find(UNASKED, format!("connection {serial}: {suback:?}")),
                }
            }
            Packet::Unsuback(unsuback) => {
                if !matches!(wire.subscribing, Some((id, None)) if id == unsuback.packet_id.get()) {
                    judge.find(UNASKED, format!("connection {serial}: {unsuback:?}"));
                }
                wire.subscribing = None;
            }
            Packet::Pingresp => wire.pings = wire.pings.saturating_sub(1),
            Packet::Auth(auth) => authenticate(wire, judge, auth),
            Packet::Disconnect(_) => {}
            other => judge.find(UNASKED, format!("connection {serial}: {other:?}")),
        }
    }

    fn welcomed(&mut self, wire: &mut Wire, judge: &mut Judge, code: ReasonCode, present: bool) {
        let connection = &judge.connections[wire.serial as usize];
        let (woke, hello) = (connection.woke, connection.hello);
        let first = !std::mem::replace(&mut wire.answered, true);
        // MQTT 3.1 has no word for it: its client knows it from somewhere else.
        let present = if hello.version == ProtocolVersion::V31 { woke.unwrap_or_default() } else { present };
        let fits = if code == ReasonCode::Success { woke == Some(present) } else { woke.is_none() && !present };
        if !fits || !first {
            let detail = format!("connection {}: {code:?}, present {present}, woke up {woke:?}", wire.serial);
            judge.find("packets: CONNACK says what is", detail);
        }
        if code.is_error() {
            return;
        }
        wire.welcomed = true;
        let life = judge.connections[wire.serial as usize].life;
        // One that keeps time knows that its session has expired, whatever has begun since without its knowledge.
        let is_strange = self.life.is_some() && self.life != life;
        if !present || hello.clean || is_strange {
            self.begin();
            self.life = life;
            return;
        }
        self.life = life;
        if std::mem::take(&mut self.is_forgetful)
            && let Some(life) = judge.connections[wire.serial as usize].life
        {
            judge.lives[life].is_forgetful = true;
        }
        // QoS 1 messages of shared subscriptions went elsewhere when the connection ended.
        let topic = |message: &u32| judge.messages.get(*message as usize).map(|message| message.topic);
        let is_shared = |message: &u32| topic(message).is_some_and(|topic| topic >= FIRST_SHARED_TOPIC);
        self.unfreed.retain(|id, message| self.unreleased.contains_key(id) || !is_shared(message));
        // One that would be refused again would end the connection again.
        self.outgoing.retain(|one| !one.plan.refuses());
        let mut bytes = Vec::new();
        for one in &self.outgoing {
            match (one.received, PacketId::new(one.packet_id)) {
                (true, Some(id)) => {
                    Ack::new(id, ReasonCode::Success).encode(AckKind::Pubrel, wire.version(), &mut bytes);
                }
                _ => one.encode(wire.version(), true, Naming::Topic, &mut bytes),
            }
        }
        wire.send(&bytes);
    }

    fn acknowledged(&mut self, wire: &mut Wire, judge: &mut Judge, ack: Ack<'_>, is_rec: bool) {
        let id = ack.packet_id.get();
        let wanted = if is_rec { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let Some(at) = self.outgoing.iter().position(|one| one.packet_id == id && one.qos == wanted) else {
            return judge.find(UNASKED, format!("connection {}: {ack:?}", wire.serial));
        };
        let message = &judge.messages[self.outgoing[at].message as usize];
        if !ack.code.is_error() && message.routes.is_empty() && !message.refusing {
            let detail = format!("message {} was acknowledged and not routed", self.outgoing[at].message);
            judge.find("messages: acknowledged is routed", detail);
        }
        if is_rec && !ack.code.is_error() {
            self.outgoing[at].received = true;
            wire.owes.push_back(Owed::Pubrel(id));
        } else {
            self.outgoing.remove(at);
        }
    }

    fn take(&mut self, wire: &mut Wire, judge: &mut Judge, publish: &Publish<'_>) {
        let message = message_of(publish.payload);
        let topic = topic_of(wire, judge, publish);
        let mut anew = true;
        if let Some(id) = publish.packet_id.map(PacketId::get) {
            anew = self.check_packet_id(wire, judge, publish, message, id);
            wire.outstanding.insert(id);
            let hello = &wire.hello;
            let most = match hello.receive_maximum {
                most if most > 0 && hello.version == ProtocolVersion::V5 => usize::from(most),
                _ => usize::MAX,
            };
            let most = most.min(usize::from(judge.setup.inflight));
            if wire.outstanding.len() > most {
                let detail = format!("connection {}: {} of {most}", wire.serial, wire.outstanding.len());
                judge.find("packets: Receive Maximum", detail);
            }
            let is_twice = publish.qos == QoS::ExactlyOnce;
            wire.owes.push_back(if is_twice { Owed::Pubrec(id) } else { Owed::Puback(id) });
            self.unfreed.insert(id, message);
            if is_twice {
                if self.unreleased.insert(id, message) == Some(message) {
                    return;
                }
                anew = true;
            } else if publish.dup {
                anew = false;
            }
        }
        let ids = publish.properties.subscription_ids.iter().collect();
        let delivery = Delivery { message, topic, qos: publish.qos, retain: publish.retain, anew, ids };
        judge.delivered(wire.serial, delivery);
    }

    /// Whether a packet id is used as it may be; and whether the message is new.
    fn check_packet_id(&self, wire: &Wire, judge: &mut Judge, publish: &Publish<'_>, message: u32, id: u16) -> bool {
        let Some(known) = self.unfreed.get(&id).copied() else { return !publish.dup };
        let too_large = judge.connections[wire.serial as usize].hello.small_packets;
        if (!publish.dup || known != message) && !too_large {
            let detail = format!(
                "connection {}: {id} for message {message}, dup {}, while it stands for {known}",
                wire.serial, publish.dup
            );
            judge.find("packets: a packet id in use is not used again", detail);
        }
        known != message
    }
}

/// The broker asks once more who the client is, or has its last word.
fn authenticate(wire: &mut Wire, judge: &mut Judge, auth: Auth<'_>) {
    let is_expected = wire.hello.exchange.is_some() && (!wire.answered || wire.authenticating);
    let goes_on = auth.code == ReasonCode::ContinueAuthentication;
    if !is_expected || auth.method != Some(METHODS[0]) || (!goes_on && !wire.answered) {
        return judge.find(EXCHANGE, format!("connection {}: {auth:?}", wire.serial));
    }
    if !goes_on {
        wire.authenticating = false;
        return judge.authenticated(wire.serial);
    }
    let mut bytes = Vec::new();
    Packet::Auth(auth).encode(wire.version(), &mut bytes);
    wire.send(&bytes);
}

/// The topic of a PUBLISH, by its name or its alias.
fn topic_of(wire: &mut Wire, judge: &mut Judge, publish: &Publish<'_>) -> usize {
    let named = TOPICS.iter().position(|known| *known == publish.topic).unwrap_or(usize::MAX);
    let Some(alias) = publish.properties.topic_alias else { return named };
    let most = u16::from(wire.hello.aliases).min(MOST_ALIASES);
    let known = wire.aliases_in.get(usize::from(alias)).copied().flatten();
    if alias > most || (publish.topic.is_empty() && known.is_none()) {
        let detail = format!("connection {}: {alias} of {most} for {:?}", wire.serial, publish.topic);
        judge.find("packets: topic aliases mean what they were set to", detail);
        return usize::MAX;
    }
    if publish.topic.is_empty() {
        return known.unwrap_or(usize::MAX);
    }
    wire.aliases_in[usize::from(alias)] = Some(named);
    named
}

const UNASKED: &str = "packets: answers are to something";

/// The filter with this number, as text.
pub fn filter(number: usize) -> &'static str {
    FILTERS[number]
}
