//! One MQTT client: what it answers to what the broker sends. Does no I/O.
//!
//! Life: CONNECT, CONNACK, for a subscriber SUBSCRIBE and SUBACK, then ready. Everything the broker may not do is a failure, so that
//! no broker gets a good figure for less than it was asked for.

#[cfg(test)]
mod tests;
mod unreleased;

use std::fmt;

use moormq::codec::{
    Ack, AckKind, Connect, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions,
};

use crate::stamp::Stamp;
use crate::topics::place;
use crate::window::Window;

use unreleased::Unreleased;

/// Seconds of keep-alive that clients ask for by default: longer than any scenario, so nobody has to ping.
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
    Idle,
    /// To receive.
    Subscriber(Subscriber),
    /// To send.
    Publisher(Publisher),
}

#[derive(Debug)]
struct Subscriber {
    filters: Vec<String>,
    qos: QoS,
    unreleased: Unreleased,
    stuck: bool,
}

#[derive(Debug)]
struct Publisher {
    topics: Vec<String>,
    qos: QoS,
    payload: Vec<u8>,
    window: Window,
    /// By packet identifier less one: the time in the message's stamp. Empty if nobody asks.
    times: Vec<u64>,
}

/// One MQTT client.
#[derive(Debug)]
pub struct Client {
    id: String,
    version: ProtocolVersion,
    keep_alive: u16,
    session: SessionRequest,
    stage: Stage,
    role: Role,
    /// The broker may end the connection.
    retired: bool,
}

/// What a client asks the broker to remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SessionRequest {
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
    /// Nothing to report.
    None,
    /// The client is connected, and subscribed if it is to be.
    Ready,
    /// A message was delivered; this is its payload.
    Delivered(&'a [u8]),
    /// A message was acknowledged to its end; this is the time in its stamp.
    Acknowledged(u64),
    /// A ping was answered.
    Pong,
    /// The broker ended the connection of a client that was retired.
    Ended,
}

impl Client {
    fn new(id: String, version: ProtocolVersion, role: Role) -> Self {
        let (session, stage) = (SessionRequest::Clean, Stage::Connecting);
        Client { id, version, keep_alive: KEEP_ALIVE, session, stage, role, retired: false }
    }

    /// A client that connects and does nothing more.
    pub fn idle(id: String) -> Self {
        Self::new(id, ProtocolVersion::V311, Role::Idle)
    }

    /// A client that subscribes to `filters`.
    pub fn subscriber(id: String, version: ProtocolVersion, filters: Vec<String>, qos: QoS) -> Self {
        Self::new(
            id,
            version,
            Role::Subscriber(Subscriber { filters, qos, unreleased: Unreleased::default(), stuck: false }),
        )
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
        let (payload, times) = (vec![b'.'; payload], Vec::new());
        Self::new(id, version, Role::Publisher(Publisher { topics, qos, payload, window, times }))
    }

    /// The same, which reports when its messages are acknowledged.
    pub fn timed(mut self) -> Self {
        if let Role::Publisher(publisher) = &mut self.role {
            publisher.times = vec![0; usize::from(u16::MAX)];
        }
        self
    }

    /// The same with another keep-alive, in seconds: whoever runs it has to ping.
    pub fn keep_alive(self, keep_alive: u16) -> Self {
        Client { keep_alive, ..self }
    }

    /// The same with a session that is kept.
    pub fn kept(self) -> Self {
        Client { session: SessionRequest::Kept, ..self }
    }

    /// The same with the session of connection number `index` of the engine, which has the same client id.
    pub fn taking_over(self, index: usize) -> Self {
        Client { session: SessionRequest::TakenOver(index), ..self }
    }

    /// The connection whose session it takes over.
    pub fn takes_over(&self) -> Option<usize> {
        match self.session {
            SessionRequest::TakenOver(index) => Some(index),
            SessionRequest::Clean | SessionRequest::Kept => None,
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
        let clean_start = self.session == SessionRequest::Clean;
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
        if let Some(id) = packet_id
            && let Some(time) = publisher.times.get_mut(usize::from(id.get()) - 1)
        {
            *time = stamp.time;
        }
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
            Role::Idle | Role::Subscriber(_) => 0,
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
            (Stage::Ready, Packet::Puback(ack)) => return self.done(AckKind::Puback, &ack),
            (Stage::Ready, Packet::Pubcomp(ack)) => return self.done(AckKind::Pubcomp, &ack),
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
            Role::Idle => {}
        }
        self.stage = Stage::Ready;
        Event::Ready
    }

    fn resumed(&self, session_present: bool) -> Result<(), String> {
        match (self.session, session_present) {
            (SessionRequest::Clean, true) => Err("CONNACK with a session for a clean start".to_owned()),
            (SessionRequest::TakenOver(_), false) => Err("CONNACK without the session that was there".to_owned()),
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
        let fresh = subscriber.unreleased.insert(packet_id);
        Ok(if fresh { Event::Delivered(publish.payload) } else { Event::None })
    }

    fn released(&mut self, ack: &Ack<'_>, out: &mut Vec<u8>) -> Result<(), String> {
        let Role::Subscriber(subscriber) = &mut self.role else {
            return Err("PUBREL to a client without subscription".to_owned());
        };
        if !subscriber.unreleased.remove(ack.packet_id) {
            return Err(format!("PUBREL {} without PUBLISH", ack.packet_id));
        }
        Ack::new(ack.packet_id, ReasonCode::Success).encode(AckKind::Pubcomp, self.version, out);
        Ok(())
    }

    /// The last acknowledgement of a message.
    #[inline]
    fn done(&mut self, kind: AckKind, ack: &Ack<'_>) -> Result<Event<'static>, String> {
        self.acknowledged(kind, ack)?;
        let Role::Publisher(publisher) = &self.role else { return Ok(Event::None) };
        let time = publisher.times.get(usize::from(ack.packet_id.get()) - 1);
        Ok(time.map_or(Event::None, |time| Event::Acknowledged(*time)))
    }

    #[inline]
    fn acknowledged(&mut self, kind: AckKind, ack: &Ack<'_>) -> Result<(), String> {
        accepted("acknowledgement", ack.code)?;
        let awaited = match &mut self.role {
            Role::Publisher(publisher) => publisher.window.acknowledge(kind, ack.packet_id),
            Role::Idle | Role::Subscriber(_) => false,
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
