//! One connection of an MQTT 3.1.1 client that sends and receives at QoS 1.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use moormq::codec::{
    Ack, AckKind, Connect, Disconnect, MAX_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode,
    Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};

use moormq_perf_shared::under_test::Failure;

const VERSION: ProtocolVersion = ProtocolVersion::V311;
/// Longer than any measurement: nobody has to ping.
const KEEP_ALIVE: u16 = 3600;

/// One connection.
pub struct Connection {
    id: String,
    pub stream: TcpStream,
    partial: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` was sent.
    sent: usize,
    /// Whether it is on the list of those with something to send.
    pub listed: bool,
    /// Whether it waits for room in the socket.
    pub blocked: bool,
    /// Whether the epoll tells when there is room.
    pub waits: bool,
    packet_id: u16,
    /// Messages that are not acknowledged.
    pub in_flight: usize,
}

/// What the broker said.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The client is connected; whether it found a session.
    Connected {
        /// Whether there was one.
        session_present: bool,
    },
    /// It is subscribed.
    Subscribed,
    /// A message.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its payload.
        payload: &'a [u8],
    },
}

impl Connection {
    /// Connects, and says CONNECT. Waits for the kernel, not for the broker.
    pub fn open(id: &str, clean: bool, address: SocketAddr) -> Result<Connection, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        Connect { keep_alive: KEEP_ALIVE, clean_start: clean, ..Connect::new(VERSION, id) }.encode(&mut out);
        let (partial, id) = (Vec::new(), id.to_owned());
        Ok(Connection {
            id,
            stream,
            partial,
            out,
            sent: 0,
            listed: false,
            blocked: false,
            waits: false,
            packet_id: 0,
            in_flight: 0,
        })
    }

    /// Subscribes at QoS 1.
    pub fn subscribe(&mut self, filter: &str) {
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
        Subscribe::new(PacketId::MIN, &filters[..]).encode(VERSION, &mut self.out);
    }

    /// Publishes at QoS 1. So few are under way that packet identifiers may be taken in turn.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.in_flight += 1;
        let packet_id = PacketId::new(self.packet_id);
        Publish { qos: QoS::AtLeastOnce, topic, packet_id, payload, ..Publish::default() }
            .encode(VERSION, &mut self.out);
    }

    /// Says DISCONNECT.
    pub fn disconnect(&mut self) {
        Packet::Disconnect(Disconnect::new(ReasonCode::NormalDisconnection)).encode(VERSION, &mut self.out);
    }

    /// Whether there is something to send.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Reads once. `buffer` has room for what is read and for the largest packet.
    pub fn receive(&mut self, buffer: &mut [u8], mut report: impl FnMut(Event<'_>)) -> Result<(), Failure> {
        let before = self.partial.len();
        let read = match self.stream.read(&mut buffer[before..]) {
            Ok(0) => return Err(self.failure("the broker closed the connection")),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(error) => return Err(self.failure(error)),
        };
        buffer[..before].copy_from_slice(&self.partial);
        let bytes = &buffer[..before + read];
        let mut used = 0;
        while let Split::Frame(frame) =
            split(&bytes[used..], MAX_PACKET_SIZE).map_err(|error| self.malformed(&error))?
        {
            let packet = decode(frame, VERSION, Sender::Server).map_err(|error| self.malformed(&error))?;
            self.handle(packet, &mut report)?;
            used += frame.length;
        }
        self.partial.clear();
        self.partial.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    fn handle(&mut self, packet: Packet<'_>, report: &mut impl FnMut(Event<'_>)) -> Result<(), Failure> {
        match packet {
            Packet::Connack(connack) if connack.code == ReasonCode::Success => {
                report(Event::Connected { session_present: connack.session_present });
            }
            Packet::Suback(_) => report(Event::Subscribed),
            Packet::Puback(_) => self.in_flight -= 1,
            Packet::Publish(Publish { topic, payload, packet_id: Some(packet_id), .. }) => {
                Ack::new(packet_id, ReasonCode::Success).encode(AckKind::Puback, VERSION, &mut self.out);
                report(Event::Message { topic, payload });
            }
            other => return Err(self.failure(format_args!("unexpected {:?}", other.packet_type()))),
        }
        Ok(())
    }

    /// Sends what there is with one call. Afterwards `blocked` says whether something is left.
    pub fn send(&mut self) -> Result<(), Failure> {
        match self.stream.write(&self.out[self.sent..]) {
            Ok(sent) => self.sent += sent,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(self.failure(error)),
        }
        self.blocked = self.sent < self.out.len();
        if !self.blocked {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    fn malformed(&self, error: &dyn std::fmt::Debug) -> Failure {
        self.failure(format_args!("{error:?}"))
    }

    fn failure(&self, what: impl std::fmt::Display) -> Failure {
        format!("{}: {what}", self.id).into()
    }
}
