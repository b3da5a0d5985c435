//! A simulated client: what it remembers between connections, and how it answers.

use std::collections::BTreeMap;

use moormq::codec::{
    Ack, AckKind, Auth, Packet, PacketId, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Sender, Split,
    decode, split,
};
use moormq::config::StoredDurability;

use crate::authenticating::EXCHANGE;
use crate::deliveries::Delivery;
use crate::history::{FILTERS, FIRST_SHARED_TOPIC, METHODS, MOST_ALIASES, Plan, TOPICS};
use crate::judge::Judge;
use crate::recovery::StoredIds;
use crate::socket::{Acknowledged, Owed, Socket};
use crate::trace::{message_of, payload};

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

/// The client's side of one session state (3.1.1 and 5.0, section 4.1).
#[derive(Default)]
pub struct ClientState {
    pub outgoing: Vec<Outgoing>,
    pub last_packet_id: u16,
    /// The session, by its index in the judge.
    pub session: Option<usize>,
    /// The broker may still have the session that this client has forgotten.
    pub is_forgetful: bool,
    /// QoS 2 messages that were received and not released, by packet id.
    pub unreleased: BTreeMap<u16, u32>,
    /// Received messages whose final acknowledgement the broker was not given, by packet id.
    pub unfreed: BTreeMap<u16, u32>,
    pub stored: StoredIds,
}

/// A client.
#[derive(Default)]
pub struct Client {
    /// By mountpoint.
    pub states: [ClientState; 2],
    /// Its connection.
    pub socket: Option<usize>,
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

fn write_ack(socket: &mut Socket, kind: AckKind, packet_id: u16) {
    let mut bytes = Vec::new();
    let Some(id) = PacketId::new(packet_id) else { return };
    Ack::new(id, ReasonCode::Success).encode(kind, socket.version(), &mut bytes);
    socket.send(&bytes);
}

impl ClientState {
    /// A session begins: nothing of another one counts.
    pub fn begin(&mut self) {
        *self = ClientState { last_packet_id: self.last_packet_id, ..ClientState::default() };
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
    pub fn free(&mut self, socket: &mut Socket) {
        while let Some(Acknowledged { at, packet_id }) = socket.freeing.front().copied() {
            if at > socket.given {
                return;
            }
            socket.freeing.pop_front();
            socket.outstanding.remove(&packet_id);
            let message = self.unfreed.remove(&packet_id);
            self.stored.free(packet_id, message);
        }
    }

    /// Sends one answer that is owed.
    pub fn answer(&mut self, socket: &mut Socket) -> bool {
        let Some(owed) = socket.owes.pop_front() else { return false };
        match owed {
            Owed::Puback(id) => write_ack(socket, AckKind::Puback, id),
            Owed::Pubrec(id) => write_ack(socket, AckKind::Pubrec, id),
            Owed::Pubrel(id) => write_ack(socket, AckKind::Pubrel, id),
            Owed::Pubcomp(id) => write_ack(socket, AckKind::Pubcomp, id),
        }
        if let Owed::Puback(packet_id) | Owed::Pubcomp(packet_id) = owed {
            socket.freeing.push_back(Acknowledged { at: socket.sent, packet_id });
        }
        true
    }

    /// Decodes the packets that were received, and answers them.
    pub fn receive(&mut self, socket: &mut Socket, judge: &mut Judge) {
        let inbox = std::mem::take(&mut socket.inbox);
        let mut at = 0;
        while let Ok(Split::Frame(frame)) = split(&inbox[at..], usize::MAX) {
            at += frame.length;
            match decode(frame, socket.version(), Sender::Server) {
                Ok(packet) => self.handle(socket, judge, packet),
                Err(error) => judge.find("packets: what the broker sends is legal", format!("{error:?}")),
            }
        }
        socket.inbox = inbox[at..].to_vec();
    }

    fn handle(&mut self, socket: &mut Socket, judge: &mut Judge, packet: Packet<'_>) {
        let serial = socket.serial;
        if !matches!(packet, Packet::Publish(_)) {
            judge.note(|| format!("  client #{serial} receives {packet:?}"));
        }
        let is_asked = matches!(packet, Packet::Auth(_)) && socket.options.exchange.is_some() && !socket.answered;
        if !socket.connected && !matches!(packet, Packet::Connack(_)) && !is_asked {
            return judge.find("packets: CONNACK comes first", format!("connection {serial}: {packet:?}"));
        }
        match packet {
            Packet::Connack(connack) => {
                let method = socket.options.exchange.map(|_| METHODS[usize::from(socket.options.is_strange)]);
                if connack.code == ReasonCode::Success && connack.properties.authentication_method != method {
                    judge.find(EXCHANGE, format!("connection {serial}: {connack:?}"));
                }
                socket.alias_maximum = connack.properties.topic_alias_maximum.unwrap_or_default();
                self.connack_received(socket, judge, connack.code, connack.session_present);
            }
            Packet::Publish(publish) => self.take(socket, judge, &publish),
            Packet::Puback(ack) | Packet::Pubrec(ack) => {
                let is_rec = matches!(packet, Packet::Pubrec(_));
                self.acknowledged(socket, judge, ack, is_rec);
            }
            Packet::Pubrel(ack) => {
                if self.unreleased.remove(&ack.packet_id.get()).is_some() {
                    self.stored.released.insert(ack.packet_id.get());
                }
                socket.owes.push_back(Owed::Pubcomp(ack.packet_id.get()));
            }
            Packet::Pubcomp(ack) => {
                let before = self.outgoing.len();
                self.outgoing.retain(|one| !(one.packet_id == ack.packet_id.get() && one.received));
                if self.outgoing.len() == before {
                    judge.find(UNASKED, format!("connection {serial}: PUBCOMP {}", ack.packet_id.get()));
                }
            }
            Packet::Suback(suback) => {
                let asked = socket.subscribing.take().filter(|(id, _)| *id == suback.packet_id.get());
                match asked.and_then(|(_, asks)| asks) {
                    Some(asks) => judge.subscription_answered(serial, asks, suback),
                    None => judge.find(UNASKED, format!("connection {serial}: {suback:?}")),
                }
            }
            Packet::Unsuback(unsuback) => {
                if !matches!(socket.subscribing, Some((id, None)) if id == unsuback.packet_id.get()) {
                    judge.find(UNASKED, format!("connection {serial}: {unsuback:?}"));
                }
                socket.subscribing = None;
                judge.unsuback_promises(serial);
            }
            Packet::Pingresp => socket.pings = socket.pings.saturating_sub(1),
            Packet::Auth(auth) => authenticate(socket, judge, auth),
            Packet::Disconnect(_) => {}
            other => judge.find(UNASKED, format!("connection {serial}: {other:?}")),
        }
    }

    fn connack_received(&mut self, socket: &mut Socket, judge: &mut Judge, code: ReasonCode, present: bool) {
        let connection = &judge.connections[socket.serial as usize];
        let (woke, options) = (connection.woke, connection.options);
        let first = !std::mem::replace(&mut socket.answered, true);
        // A CONNACK of MQTT 3.1 has no Session Present flag: the simulated client looks it up.
        let present = if options.version == ProtocolVersion::V31 { woke.unwrap_or_default() } else { present };
        let fits = if code == ReasonCode::Success { woke == Some(present) } else { woke.is_none() && !present };
        if !fits || !first {
            let detail = format!("connection {}: {code:?}, present {present}, woke up {woke:?}", socket.serial);
            judge.find("packets: CONNACK says what is", detail);
        }
        if code == ReasonCode::QuotaExceeded && !judge.pressure.was_full {
            judge.find("packets: CONNACK says what is", format!("connection {}: {code:?}", socket.serial));
        }
        if code.is_error() {
            return;
        }
        socket.connected = true;
        judge.connack_promises(socket.serial);
        let session = judge.connections[socket.serial as usize].session;
        // The client keeps time: it knows that its session has expired, even if another one has begun since.
        let is_strange = self.session.is_some() && self.session != session;
        if !present || options.clean || is_strange {
            self.begin();
            self.session = session;
            return;
        }
        self.session = session;
        if std::mem::take(&mut self.is_forgetful)
            && let Some(session) = judge.connections[socket.serial as usize].session
        {
            judge.sessions[session].is_forgetful = true;
        }
        // QoS 1 messages of shared subscriptions went elsewhere when the connection ended.
        let topic = |message: &u32| judge.messages.get(*message as usize).map(|message| message.topic);
        let is_shared = |message: &u32| topic(message).is_some_and(|topic| topic >= FIRST_SHARED_TOPIC);
        self.unfreed.retain(|id, message| self.unreleased.contains_key(id) || !is_shared(message));
        // A publish that was refused would be refused again, and end the connection again.
        self.outgoing.retain(|one| !one.plan.refuses());
        let mut bytes = Vec::new();
        for one in &self.outgoing {
            match (one.received, PacketId::new(one.packet_id)) {
                (true, Some(id)) => {
                    Ack::new(id, ReasonCode::Success).encode(AckKind::Pubrel, socket.version(), &mut bytes);
                }
                _ => one.encode(socket.version(), true, Naming::Topic, &mut bytes),
            }
        }
        socket.send(&bytes);
    }

    fn acknowledged(&mut self, socket: &mut Socket, judge: &mut Judge, ack: Ack<'_>, is_rec: bool) {
        let id = ack.packet_id.get();
        let wanted = if is_rec { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let Some(at) = self.outgoing.iter().position(|one| one.packet_id == id && one.qos == wanted) else {
            return judge.find(UNASKED, format!("connection {}: {ack:?}", socket.serial));
        };
        let message = &judge.messages[self.outgoing[at].message as usize];
        if !ack.code.is_error() && message.routes.is_empty() && !message.refusing {
            let detail = format!("message {} was acknowledged and not routed", self.outgoing[at].message);
            judge.find("messages: acknowledged is routed", detail);
        }
        let waits = judge.setup.durability(socket.serial) != StoredDurability::None;
        judge.messages[self.outgoing[at].message as usize].stored.is_acknowledged |= !ack.code.is_error() && waits;
        if is_rec && !ack.code.is_error() {
            self.outgoing[at].received = true;
            socket.owes.push_back(Owed::Pubrel(id));
        } else {
            self.outgoing.remove(at);
        }
    }

    fn take(&mut self, socket: &mut Socket, judge: &mut Judge, publish: &Publish<'_>) {
        let message = message_of(publish.payload);
        let topic = topic_of(socket, judge, publish);
        let mut anew = true;
        if let Some(id) = publish.packet_id.map(PacketId::get) {
            anew = self.check_packet_id(socket, judge, publish, message, id);
            socket.outstanding.insert(id);
            let options = &socket.options;
            let most = match options.receive_maximum {
                most if most > 0 && options.version == ProtocolVersion::V5 => usize::from(most),
                _ => usize::MAX,
            };
            let most = most.min(usize::from(judge.setup.inflight));
            if socket.outstanding.len() > most {
                let detail = format!("connection {}: {} of {most}", socket.serial, socket.outstanding.len());
                judge.find("packets: Receive Maximum", detail);
            }
            let is_twice = publish.qos == QoS::ExactlyOnce;
            socket.owes.push_back(if is_twice { Owed::Pubrec(id) } else { Owed::Puback(id) });
            self.unfreed.insert(id, message);
            self.stored.receive(id);
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
        judge.delivered(socket.serial, delivery);
    }

    /// Checks the use of a packet id. Returns whether the message is new.
    fn check_packet_id(
        &mut self,
        socket: &Socket,
        judge: &mut Judge,
        publish: &Publish<'_>,
        message: u32,
        id: u16,
    ) -> bool {
        let Some(known) = self.unfreed.get(&id).copied() else { return !publish.dup };
        let too_large = judge.connections[socket.serial as usize].options.small_packets;
        let may_be_dup = publish.dup || self.stored.loose.remove(&id);
        if (!may_be_dup || known != message) && !too_large {
            let detail = format!(
                "connection {}: {id} for message {message}, dup {}, while it stands for {known}",
                socket.serial, publish.dup
            );
            judge.find("packets: a packet id in use is not used again", detail);
        }
        known != message
    }
}

/// AUTH from the broker: another step, or the success of a re-authentication.
fn authenticate(socket: &mut Socket, judge: &mut Judge, auth: Auth<'_>) {
    let is_expected = socket.options.exchange.is_some() && (!socket.answered || socket.authenticating);
    let goes_on = auth.code == ReasonCode::ContinueAuthentication;
    if !is_expected || auth.method != Some(METHODS[0]) || (!goes_on && !socket.answered) {
        return judge.find(EXCHANGE, format!("connection {}: {auth:?}", socket.serial));
    }
    if !goes_on {
        socket.authenticating = false;
        return judge.authenticated(socket.serial);
    }
    let mut bytes = Vec::new();
    Packet::Auth(auth).encode(socket.version(), &mut bytes);
    socket.send(&bytes);
}

/// The topic of a PUBLISH, by its name or its alias.
fn topic_of(socket: &mut Socket, judge: &mut Judge, publish: &Publish<'_>) -> usize {
    let named = TOPICS.iter().position(|known| *known == publish.topic).unwrap_or(usize::MAX);
    let Some(alias) = publish.properties.topic_alias else { return named };
    let most = u16::from(socket.options.aliases).min(MOST_ALIASES);
    let known = socket.aliases_in.get(usize::from(alias)).copied().flatten();
    if alias > most || (publish.topic.is_empty() && known.is_none()) {
        let detail = format!("connection {}: {alias} of {most} for {:?}", socket.serial, publish.topic);
        judge.find("packets: topic aliases mean what they were set to", detail);
        return usize::MAX;
    }
    if publish.topic.is_empty() {
        return known.unwrap_or(usize::MAX);
    }
    socket.aliases_in[usize::from(alias)] = Some(named);
    named
}

const UNASKED: &str = "packets: answers are to something";

/// The filter with this number, as text.
pub fn filter(number: usize) -> &'static str {
    FILTERS[number]
}
