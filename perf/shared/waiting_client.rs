//! A client that waits for what it asks for.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moormq::codec::{
    Connect, Disconnect, MAX_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Sender, Split,
    Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};

use crate::under_test::Failure;

/// The version that it speaks.
pub const VERSION: ProtocolVersion = ProtocolVersion::V311;
const KEEP_ALIVE: u16 = 3600;
/// As long as an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing comes if there is nothing more.
const QUIET: Duration = Duration::from_millis(20);
/// Output that is sent in one go.
const ENOUGH: usize = 16 * 1024;

/// A connection on which CONNACK has come.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    out: Vec<u8>,
    packet_id: u16,
    in_flight: usize,
    /// Whether the broker had a session for it.
    pub session_present: bool,
}

impl Client {
    /// Connects; the session is kept, if `kept`.
    pub fn connect(address: SocketAddr, id: &str, kept: bool) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let (received, out) = (Vec::new(), Vec::new());
        let mut client = Client { stream, received, out, packet_id: 0, in_flight: 0, session_present: false };
        Connect { keep_alive: KEEP_ALIVE, clean_start: !kept, ..Connect::new(VERSION, id) }.encode(&mut client.out);
        client.flush()?;
        client.session_present = client.next(PATIENCE, |packet| match packet {
            Packet::Connack(connack) if connack.code == ReasonCode::Success => Some(connack.session_present),
            _ => None,
        })?;
        Ok(client)
    }

    /// Subscribes at QoS 1.
    pub fn subscribe(&mut self, filter: &str) -> Result<(), Failure> {
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
        Subscribe::new(PacketId::MIN, &filters[..]).encode(VERSION, &mut self.out);
        self.flush()?;
        self.next(PATIENCE, |packet| matches!(packet, Packet::Suback(_)).then_some(()))
    }

    /// Ends the connection; a session that is kept stays.
    pub fn leave(mut self) -> Result<(), Failure> {
        Disconnect::new(ReasonCode::NormalDisconnection).encode(VERSION, &mut self.out);
        self.flush()
    }

    /// Publishes at QoS 1, and waits while so many are not acknowledged.
    pub fn publish(&mut self, topic: &str, payload: &[u8], window: usize) -> Result<(), Failure> {
        while self.in_flight >= window {
            self.acknowledged()?;
        }
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.in_flight += 1;
        let packet_id = PacketId::new(self.packet_id);
        Publish { qos: QoS::AtLeastOnce, topic, packet_id, payload, ..Publish::default() }
            .encode(VERSION, &mut self.out);
        if self.out.len() > ENOUGH { self.flush() } else { Ok(()) }
    }

    /// Waits until all that was published is acknowledged.
    pub fn wait_for_all(&mut self) -> Result<(), Failure> {
        while self.in_flight > 0 {
            self.acknowledged()?;
        }
        Ok(())
    }

    fn acknowledged(&mut self) -> Result<(), Failure> {
        self.flush()?;
        self.next(PATIENCE, |packet| matches!(packet, Packet::Puback(_)).then_some(()))?;
        self.in_flight -= 1;
        Ok(())
    }

    /// Sends PINGREQ.
    pub fn ask_for_pong(&mut self) -> Result<(), Failure> {
        Packet::Pingreq.encode(VERSION, &mut self.out);
        self.flush()
    }

    /// Waits for PINGRESP.
    pub fn pong(&mut self) -> Result<(), Failure> {
        self.next(PATIENCE, |packet| matches!(packet, Packet::Pingresp).then_some(()))
    }

    /// Another one on the same connection: one writes while the other one reads.
    pub fn other_half(&self) -> Result<Client, Failure> {
        let (received, out) = (Vec::new(), Vec::new());
        Ok(Client { stream: self.stream.try_clone()?, received, out, ..*self })
    }

    /// Waits for a message, and gives its payload. It is not acknowledged.
    pub fn message(&mut self) -> Result<Vec<u8>, Failure> {
        self.next(PATIENCE, |packet| match packet {
            Packet::Publish(publish) => Some(publish.payload.to_vec()),
            _ => None,
        })
    }

    /// Whether nothing more comes.
    pub fn is_quiet(&mut self) -> Result<bool, Failure> {
        self.stream.set_read_timeout(Some(QUIET))?;
        match self.stream.read(&mut [0; 1]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(self.received.is_empty())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(false),
        }
    }

    /// Its connection, on which nothing is to come that it has not asked for.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// The next packet, which has to be what `take` takes.
    fn next<T>(&mut self, wait: Duration, take: impl FnOnce(&Packet<'_>) -> Option<T>) -> Result<T, Failure> {
        self.stream.set_read_timeout(Some(wait))?;
        loop {
            let whole = split(&self.received, MAX_PACKET_SIZE).map_err(|error| error.what)?;
            if let Split::Frame(frame) = whole {
                let packet = decode(frame, VERSION, Sender::Server).map_err(|error| error.what)?;
                let taken = take(&packet).ok_or_else(|| Failure::from(format!("it has sent {packet:?}")))?;
                let length = frame.length;
                self.received.drain(..length);
                return Ok(taken);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer)? {
                0 => return Err("the broker has closed the connection".into()),
                read => self.received.extend_from_slice(&buffer[..read]),
            }
        }
    }
}
