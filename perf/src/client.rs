//! One MQTT client: what it answers to what the broker sends. Does no I/O.
//!
//! Life: CONNECT, CONNACK, for a subscriber SUBSCRIBE and SUBACK, then ready. Everything the broker may not do is a failure, so that
//! no broker gets a good figure for less than it was asked for.

use std::fmt;

use moormq::codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions,
};

use crate::stamp::Stamp;
use crate::window::Window;

/// Seconds of keep-alive that clients ask for: longer than any scenario, so nobody has to ping.
const KEEP_ALIVE: u16 = 600;

/// How far a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    Subscribing,
    Ready,
}

/// What a client is for.
#[derive(Debug)]
enum Role {
    /// To be connected.
    Idler,
    /// To receive.
    Subscriber(Subscriber),
    /// To send.
    Publisher(Publisher),
}

#[derive(Debug)]
struct Subscriber {
    filter: String,
    qos: QoS,
    held: Held,
}

#[derive(Debug)]
struct Publisher {
    topic: String,
    qos: QoS,
    payload: Vec<u8>,
    window: Window,
}

/// One MQTT client.
#[derive(Debug)]
pub struct Client {
    id: String,
    version: ProtocolVersion,
    stage: Stage,
    role: Role,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// Nothing to tell.
    None,
    /// The client is connected, and subscribed if it is to be.
    Ready,
    /// A message was delivered; this is its payload.
    Delivered(&'a [u8]),
}

impl Client {
    /// A client that connects and does nothing more.
    pub fn idler(id: String) -> Self {
        Client { id, version: ProtocolVersion::V311, stage: Stage::Connecting, role: Role::Idler }
    }

    /// A client that subscribes to `filter`.
    pub fn subscriber(id: String, version: ProtocolVersion, filter: String, qos: QoS) -> Self {
        let role = Role::Subscriber(Subscriber { filter, qos, held: Held::default() });
        Client { id, version, stage: Stage::Connecting, role }
    }

    /// A client that publishes payloads of `payload` bytes to `topic`, with the QoS and the packet identifiers of `window`.
    pub fn publisher(
        id: String,
        version: ProtocolVersion,
        topic: String,
        payload: usize,
        qos: QoS,
        in_flight: u16,
    ) -> Self {
        let window = Window::new(qos, in_flight);
        let role = Role::Publisher(Publisher { topic, qos, payload: vec![b'.'; payload], window });
        Client { id, version, stage: Stage::Connecting, role }
    }

    /// What it speaks.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Says CONNECT.
    pub fn connect(&self, out: &mut Vec<u8>) {
        Connect { keep_alive: KEEP_ALIVE, ..Connect::new(self.version, &self.id) }.encode(out);
    }

    /// Says DISCONNECT.
    pub fn disconnect(&self, out: &mut Vec<u8>) {
        Packet::Disconnect(Disconnect::new(ReasonCode::NormalDisconnection)).encode(self.version, out);
    }

    /// Publishes a message. False if it has to wait for an acknowledgement first.
    ///
    /// # Panics
    ///
    /// If the client is no publisher.
    #[inline]
    pub fn publish(&mut self, stamp: Stamp, out: &mut Vec<u8>) -> bool {
        let Role::Publisher(publisher) = &mut self.role else { panic!("{} is no publisher", self.id) };
        let Some(packet_id) = publisher.window.take() else {
            return false;
        };
        stamp.put(&mut publisher.payload);
        Publish {
            qos: publisher.qos,
            topic: &publisher.topic,
            packet_id,
            payload: &publisher.payload,
            ..Publish::default()
        }
        .encode(self.version, out);
        true
    }

    /// How many published messages are not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        match &self.role {
            Role::Publisher(publisher) => publisher.window.in_flight(),
            Role::Idler | Role::Subscriber(_) => 0,
        }
    }

    /// Takes in a packet and appends what there is to say to it.
    ///
    /// # Errors
    ///
    /// What the broker did wrong.
    #[inline]
    pub fn handle<'a>(&mut self, packet: Packet<'a>, out: &mut Vec<u8>) -> Result<Event<'a>, String> {
        match (self.stage, packet) {
            (Stage::Ready, Packet::Publish(publish)) => return self.delivered(publish, out),
            (Stage::Ready, Packet::Puback(ack)) => self.acknowledged(AckKind::Puback, &ack)?,
            (Stage::Ready, Packet::Pubcomp(ack)) => self.acknowledged(AckKind::Pubcomp, &ack)?,
            (Stage::Ready, Packet::Pubrec(ack)) => {
                self.acknowledged(AckKind::Pubrec, &ack)?;
                Ack::new(ack.packet_id, ReasonCode::Success).encode(AckKind::Pubrel, self.version, out);
            }
            (Stage::Ready, Packet::Pubrel(ack)) => self.released(&ack, out)?,
            (Stage::Connecting, Packet::Connack(connack)) => {
                accepted("CONNACK", connack.code)?;
                return Ok(self.connected(connack.properties.receive_maximum, out));
            }
            (Stage::Subscribing, Packet::Suback(suback)) => {
                for code in suback.codes.iter() {
                    self.granted(code)?;
                }
                self.stage = Stage::Ready;
                return Ok(Event::Ready);
            }
            (_, Packet::Disconnect(disconnect)) => return Err(format!("DISCONNECT with {:?}", disconnect.code)),
            (stage, packet) => return Err(format!("unexpected {:?} while {stage:?}", packet.packet_type())),
        }
        Ok(Event::None)
    }

    fn connected(&mut self, receive_maximum: Option<u16>, out: &mut Vec<u8>) -> Event<'static> {
        match &mut self.role {
            Role::Subscriber(Subscriber { filter, qos, .. }) => {
                let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(*qos) }];
                Subscribe::new(PacketId::MIN, &filters[..]).encode(self.version, out);
                self.stage = Stage::Subscribing;
                return Event::None;
            }
            Role::Publisher(publisher) => publisher.window.limit(receive_maximum.unwrap_or(u16::MAX)),
            Role::Idler => {}
        }
        self.stage = Stage::Ready;
        Event::Ready
    }

    fn granted(&self, code: ReasonCode) -> Result<(), String> {
        match &self.role {
            Role::Subscriber(subscriber) if code.value() == subscriber.qos as u8 => Ok(()),
            _ => Err(format!("SUBACK with {code:?}")),
        }
    }

    #[inline]
    fn delivered<'a>(&mut self, publish: Publish<'a>, out: &mut Vec<u8>) -> Result<Event<'a>, String> {
        let Role::Subscriber(subscriber) = &mut self.role else {
            return Err("PUBLISH to a client without subscription".to_owned());
        };
        if publish.qos != subscriber.qos {
            return Err(format!("PUBLISH at QoS {} instead of {}", publish.qos as u8, subscriber.qos as u8));
        }
        let Some(packet_id) = publish.packet_id else {
            return Ok(Event::Delivered(publish.payload));
        };
        let ack = Ack::new(packet_id, ReasonCode::Success);
        if publish.qos == QoS::AtLeastOnce {
            ack.encode(AckKind::Puback, self.version, out);
            return Ok(Event::Delivered(publish.payload));
        }
        ack.encode(AckKind::Pubrec, self.version, out);
        // The same message again, until PUBREL [MQTT-4.3.3-10].
        let fresh = subscriber.held.insert(packet_id);
        Ok(if fresh { Event::Delivered(publish.payload) } else { Event::None })
    }

    fn released(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let Role::Subscriber(subscriber) = &mut self.role else {
            return Err("PUBREL to a client without subscription".to_owned());
        };
        if !subscriber.held.remove(ack.packet_id) {
            return Err(format!("PUBREL {} without PUBLISH", ack.packet_id));
        }
        Ack::new(ack.packet_id, ReasonCode::Success).encode(AckKind::Pubcomp, self.version, out);
        Ok(())
    }

    #[inline]
    fn acknowledged(&mut self, kind: AckKind, ack: &Ack<'_>) -> Result<(), String> {
        accepted("acknowledgement", ack.code)?;
        let awaited = match &mut self.role {
            Role::Publisher(publisher) => publisher.window.acknowledge(kind, ack.packet_id),
            Role::Idler | Role::Subscriber(_) => false,
        };
        if awaited { Ok(()) } else { Err(format!("{kind:?} {} that nobody waits for", ack.packet_id)) }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// Refuses codes that are errors; "no matching subscribers" is none.
#[inline]
fn accepted(what: &str, code: ReasonCode) -> Result<(), String> {
    if code.value() < 0x80 { Ok(()) } else { Err(format!("{what} with {code:?}")) }
}

/// The packet identifiers of QoS 2 messages that were received and not released: a bit for each, once there is one.
#[derive(Debug, Default)]
struct Held(Vec<u64>);

impl Held {
    /// False if it was there.
    #[inline]
    fn insert(&mut self, id: PacketId) -> bool {
        self.0.resize(1024, 0);
        let (word, bit) = Self::place(id);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    /// False if it was not there.
    #[inline]
    fn remove(&mut self, id: PacketId) -> bool {
        let (word, bit) = Self::place(id);
        let Some(bits) = self.0.get_mut(word) else {
            return false;
        };
        let held = *bits & bit != 0;
        *bits &= !bit;
        held
    }

    fn place(id: PacketId) -> (usize, u64) {
        (usize::from(id.get()) / 64, 1 << (id.get() % 64))
    }
}

#[cfg(test)]
mod tests {
    use moormq::codec::{Connack, ConnackProperties, MAX_PACKET_SIZE, Sender, Split, Suback, decode, split};

    use super::*;

    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn stamp(sequence: u32) -> Stamp {
        Stamp { publisher: 0, sequence, time: 0 }
    }

    fn id(value: u16) -> PacketId {
        PacketId::new(value).unwrap()
    }

    /// The types of the packets in `out`, as a broker sees them.
    fn said(out: &[u8], version: ProtocolVersion) -> Vec<moormq::codec::PacketType> {
        let mut rest = out;
        let mut types = Vec::new();
        while let Ok(Split::Frame(frame)) = split(rest, MAX_PACKET_SIZE) {
            types.push(decode(frame, version, Sender::Client).unwrap().packet_type());
            rest = &rest[frame.length..];
        }
        assert!(rest.is_empty());
        types
    }

    fn connack(receive_maximum: Option<u16>) -> Packet<'static> {
        let properties = ConnackProperties { receive_maximum, ..ConnackProperties::default() };
        Packet::Connack(Connack { properties, ..Connack::new(false, ReasonCode::Success) })
    }

    fn subscriber(qos: QoS, granted: ReasonCode) -> Result<Client, String> {
        let mut client = Client::subscriber("s".to_owned(), V5, "a".to_owned(), qos);
        let mut out = Vec::new();
        assert_eq!(client.handle(connack(None), &mut out), Ok(Event::None));
        assert_eq!(said(&out, V5), [moormq::codec::PacketType::Subscribe]);
        let codes = [granted];
        client.handle(Packet::Suback(Suback::new(PacketId::MIN, &codes[..])), &mut out)?;
        Ok(client)
    }

    #[test]
    fn a_lower_qos_than_asked_for_is_a_failure() {
        assert!(subscriber(QoS::ExactlyOnce, ReasonCode::GrantedQoS1).is_err());
        let mut client = subscriber(QoS::AtLeastOnce, ReasonCode::GrantedQoS1).unwrap();
        let publish = Publish { topic: "a", ..Publish::default() };
        assert!(client.handle(Packet::Publish(publish), &mut Vec::new()).is_err());
    }

    #[test]
    fn receive_maximum_of_the_server_is_obeyed() {
        let mut client = Client::publisher("p".to_owned(), V5, "a".to_owned(), 64, QoS::AtLeastOnce, 100);
        let mut out = Vec::new();
        assert_eq!(client.handle(connack(Some(2)), &mut out), Ok(Event::Ready));
        assert_eq!([0, 1, 2].map(|sequence| client.publish(stamp(sequence), &mut out)), [true, true, false]);
        client.handle(Packet::Puback(Ack::new(id(1), ReasonCode::NoMatchingSubscribers)), &mut out).unwrap();
        assert!(client.publish(stamp(2), &mut out));
        assert_eq!(client.in_flight(), 2);
        assert!(client.handle(Packet::Puback(Ack::new(id(1), ReasonCode::NotAuthorized)), &mut out).is_err());
    }

    #[test]
    fn a_qos_2_message_counts_once_until_it_is_released() {
        use moormq::codec::PacketType::{Pubcomp, Pubrec};
        let mut client = subscriber(QoS::ExactlyOnce, ReasonCode::GrantedQoS2).unwrap();
        let mut out = Vec::new();
        let publish =
            Publish { topic: "a", qos: QoS::ExactlyOnce, packet_id: Some(id(9)), payload: b"x", ..Publish::default() };
        let release = Packet::Pubrel(Ack::new(id(9), ReasonCode::Success));
        assert_eq!(client.handle(Packet::Publish(publish), &mut out), Ok(Event::Delivered(b"x")));
        assert_eq!(client.handle(Packet::Publish(Publish { dup: true, ..publish }), &mut out), Ok(Event::None));
        assert_eq!(client.handle(release, &mut out), Ok(Event::None));
        assert!(client.handle(release, &mut Vec::new()).is_err());
        assert_eq!(client.handle(Packet::Publish(publish), &mut out), Ok(Event::Delivered(b"x")));
        assert_eq!(said(&out, V5), [Pubrec, Pubrec, Pubcomp, Pubrec]);
    }

    #[test]
    fn a_publisher_takes_qos_2_through_all_steps() {
        let mut client = Client::publisher("p".to_owned(), V5, "a".to_owned(), 64, QoS::ExactlyOnce, 1);
        let mut out = Vec::new();
        client.handle(connack(None), &mut out).unwrap();
        assert!(client.publish(stamp(0), &mut out));
        client.handle(Packet::Pubrec(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
        client.handle(Packet::Pubcomp(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
        use moormq::codec::PacketType::{Publish, Pubrel};
        assert_eq!(said(&out, V5), [Publish, Pubrel]);
        assert_eq!(client.in_flight(), 0);
    }
}
