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
use crate::topics::place;
use crate::window::Window;

/// Seconds of keep-alive that clients ask for, unless told otherwise: longer than any scenario, so nobody has to ping.
const KEEP_ALIVE: u16 = 600;

/// Filters in one SUBSCRIBE at most: few enough for every broker.
const FILTERS: usize = 100;

/// How far a client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    /// How many SUBACKs are to come.
    Subscribing(usize),
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
    filters: Vec<String>,
    qos: QoS,
    held: Held,
    stuck: bool,
}

#[derive(Debug)]
struct Publisher {
    topics: Vec<String>,
    qos: QoS,
    payload: Vec<u8>,
    window: Window,
}

/// One MQTT client.
#[derive(Debug)]
pub struct Client {
    id: String,
    version: ProtocolVersion,
    keep_alive: u16,
    session: SessionWish,
    stage: Stage,
    role: Role,
    /// The broker may end the connection.
    retired: bool,
}

/// What a client asks the broker to remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SessionWish {
    /// Nothing.
    Clean,
    /// What happens from now on.
    Kept,
    /// What an earlier connection, this number of the engine's, has left: it is taken over.
    TakenOver(usize),
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
    /// A ping was answered.
    Pong,
    /// The broker ended the connection of a client that was retired.
    Ended,
}

impl Client {
    fn new(id: String, version: ProtocolVersion, role: Role) -> Self {
        let (session, stage) = (SessionWish::Clean, Stage::Connecting);
        Client { id, version, keep_alive: KEEP_ALIVE, session, stage, role, retired: false }
    }

    /// A client that connects and does nothing more.
    pub fn idler(id: String) -> Self {
        Self::new(id, ProtocolVersion::V311, Role::Idler)
    }

    /// A client that subscribes to `filters`.
    pub fn subscriber(id: String, version: ProtocolVersion, filters: Vec<String>, qos: QoS) -> Self {
        Self::new(id, version, Role::Subscriber(Subscriber { filters, qos, held: Held::default(), stuck: false }))
    }

    /// A client that publishes payloads of `payload` bytes to its topics in turn, with the QoS and the packet identifiers of
    /// `window`.
    pub fn publisher(
        id: String,
        version: ProtocolVersion,
        topics: Vec<String>,
        payload: usize,
        qos: QoS,
        in_flight: u16,
    ) -> Self {
        let window = Window::new(qos, in_flight);
        Self::new(id, version, Role::Publisher(Publisher { topics, qos, payload: vec![b'.'; payload], window }))
    }

    /// The same with another keep-alive, in seconds: whoever runs it has to ping.
    pub fn keep_alive(self, keep_alive: u16) -> Self {
        Client { keep_alive, ..self }
    }

    /// The same with a session that is kept.
    pub fn kept(self) -> Self {
        Client { session: SessionWish::Kept, ..self }
    }

    /// The same with the session of connection number `index` of the engine, which has the same client id.
    pub fn taking_over(self, index: usize) -> Self {
        Client { session: SessionWish::TakenOver(index), ..self }
    }

    /// The connection whose session it takes over.
    pub fn takes_over(&self) -> Option<usize> {
        match self.session {
            SessionWish::TakenOver(index) => Some(index),
            SessionWish::Clean | SessionWish::Kept => None,
        }
    }

    /// The same, but as soon as it is subscribed nothing is read from its connection any more.
    pub fn stuck(mut self) -> Self {
        if let Role::Subscriber(subscriber) = &mut self.role {
            subscriber.stuck = true;
        }
        self
    }

    /// Whether nothing is to be read from its connection once it is ready.
    pub fn is_stuck(&self) -> bool {
        matches!(&self.role, Role::Subscriber(subscriber) if subscriber.stuck)
    }

    /// From now on the broker may end the connection: another one takes the session over.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether the broker may end the connection.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// What it speaks.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Says CONNECT.
    pub fn connect(&self, out: &mut Vec<u8>) {
        let clean_start = self.session == SessionWish::Clean;
        Connect { keep_alive: self.keep_alive, clean_start, ..Connect::new(self.version, &self.id) }.encode(out);
    }

    /// Says PINGREQ.
    pub fn ping(&self, out: &mut Vec<u8>) {
        Packet::Pingreq.encode(self.version, out);
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
            topic: &publisher.topics[place(stamp.sequence, publisher.topics.len())],
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
                self.resumed(connack.session_present)?;
                return Ok(self.connected(connack.properties.receive_maximum, out));
            }
            (Stage::Subscribing(missing), Packet::Suback(suback)) => {
                for code in suback.codes.iter() {
                    self.granted(code)?;
                }
                if missing == 1 {
                    self.stage = Stage::Ready;
                    return Ok(Event::Ready);
                }
                self.stage = Stage::Subscribing(missing - 1);
            }
            (Stage::Ready, Packet::Pingresp) => return Ok(Event::Pong),
            (_, Packet::Disconnect(_)) if self.retired => {}
            (_, Packet::Disconnect(disconnect)) => return Err(format!("DISCONNECT with {:?}", disconnect.code)),
            (stage, packet) => return Err(format!("unexpected {:?} while {stage:?}", packet.packet_type())),
        }
        Ok(Event::None)
    }

    fn connected(&mut self, receive_maximum: Option<u16>, out: &mut Vec<u8>) -> Event<'static> {
        match &mut self.role {
            Role::Subscriber(Subscriber { filters, qos, .. }) => {
                let options = SubscriptionOptions::new(*qos);
                for (part, id) in filters.chunks(FILTERS).zip((1..).filter_map(PacketId::new)) {
                    let part: Vec<_> = part.iter().map(|filter| SubscribeFilter { filter, options }).collect();
                    Subscribe::new(id, &part[..]).encode(self.version, out);
                }
                self.stage = Stage::Subscribing(filters.len().div_ceil(FILTERS));
                return Event::None;
            }
            Role::Publisher(publisher) => publisher.window.limit(receive_maximum.unwrap_or(u16::MAX)),
            Role::Idler => {}
        }
        self.stage = Stage::Ready;
        Event::Ready
    }

    fn resumed(&self, session_present: bool) -> Result<(), String> {
        match (self.session, session_present) {
            (SessionWish::Clean, true) => Err("CONNACK with a session for a clean start".to_owned()),
            (SessionWish::TakenOver(_), false) => Err("CONNACK without the session that was there".to_owned()),
            _ => Ok(()),
        }
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
        let mut client = Client::subscriber("s".to_owned(), V5, vec!["a".to_owned()], qos);
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
        let mut client = Client::publisher("p".to_owned(), V5, vec!["a".to_owned()], 64, QoS::AtLeastOnce, 100);
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
        let mut client = Client::publisher("p".to_owned(), V5, vec!["a".to_owned()], 64, QoS::ExactlyOnce, 1);
        let mut out = Vec::new();
        client.handle(connack(None), &mut out).unwrap();
        assert!(client.publish(stamp(0), &mut out));
        client.handle(Packet::Pubrec(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
        client.handle(Packet::Pubcomp(Ack::new(id(1), ReasonCode::Success)), &mut out).unwrap();
        use moormq::codec::PacketType::{Publish, Pubrel};
        assert_eq!(said(&out, V5), [Publish, Pubrel]);
        assert_eq!(client.in_flight(), 0);
    }

    #[test]
    fn many_filters_go_in_several_packets_and_all_are_answered() {
        let filters: Vec<String> = (0..250).map(|number| format!("a/{number}")).collect();
        let mut client = Client::subscriber("s".to_owned(), V5, filters, QoS::AtMostOnce);
        let mut out = Vec::new();
        client.handle(connack(None), &mut out).unwrap();
        assert_eq!(said(&out, V5), [moormq::codec::PacketType::Subscribe; 3]);
        let codes = [ReasonCode::GrantedQoS0];
        let ready =
            |n| client.handle(Packet::Suback(Suback::new(id(n), &codes[..])), &mut out).unwrap() == Event::Ready;
        assert_eq!([1, 2, 3].map(ready), [false, false, true]);
    }

    #[test]
    fn a_session_that_is_taken_over_has_to_be_there() {
        let answer = |client: Client, present| {
            let connack = Connack::new(present, ReasonCode::Success);
            { client }.handle(Packet::Connack(connack), &mut Vec::new()).is_ok()
        };
        let idler = || Client::idler("i".to_owned());
        assert!(answer(idler(), false) && !answer(idler(), true));
        assert!(answer(idler().kept(), false) && answer(idler().kept(), true));
        assert!(!answer(idler().taking_over(0), false) && answer(idler().taking_over(0), true));
    }
}
