//! The connection of one client: its socket, what arrived in part, and what waits to be sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Instant;

use moormq::codec::{MAX_PACKET_SIZE, Sender, Split, decode, split};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

use crate::client::{Client, Event};
use crate::failure::Failure;
use crate::stamp::Stamp;

/// The receive buffer of a client that stops reading, in bytes: small, so that the broker soon notices.
const STUCK_BUFFER: usize = 4096;

/// Connections from one local address to one port of the broker; the range of local ports must have room for so many.
const CONNECTIONS_PER_ADDRESS: usize = 10_000;

/// The connection of one client.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    client: Client,
    /// The beginning of a packet of which the rest is still to come.
    partial: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` was sent.
    sent: usize,
    /// When it was opened.
    pub opened: Instant,
    /// Whether the broker ended it, as it may once the client is retired.
    pub ended: bool,
    /// Whether it waits for room in the socket.
    pub blocked: bool,
    /// Whether it is on the list of those with something to send.
    pub listed: bool,
}

impl Connection {
    /// Connects `client`, number `index` of all, to the broker at `address`, and says CONNECT. Waits for nobody: the
    /// connection may still be on its way.
    ///
    /// # Errors
    ///
    /// If the kernel cannot even begin.
    pub fn open(client: Client, index: usize, address: SocketAddr) -> Result<Self, Failure> {
        let connect = || {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if let Some(source) = source(index, address) {
                socket.set_reuse_address(true)?;
                socket.bind(&source.into())?;
            }
            if client.is_stuck() {
                socket.set_recv_buffer_size(STUCK_BUFFER)?;
            }
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            match socket.connect(&address.into()) {
                Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(error),
                _ => Ok(socket.into()),
            }
        };
        let opened = Instant::now();
        let stream = connect().map_err(Failure::system(format_args!("{client} cannot connect to {address}")))?;
        let mut out = Vec::new();
        client.connect(&mut out);
        Ok(Connection {
            stream,
            client,
            partial: Vec::new(),
            out,
            sent: 0,
            opened,
            ended: false,
            blocked: false,
            listed: false,
        })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whose connection it is.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Whether there is something to send.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Publishes a message, as [`Client::publish`].
    #[inline]
    pub fn publish(&mut self, stamp: Stamp) -> bool {
        self.client.publish(stamp, &mut self.out)
    }

    /// Says PINGREQ.
    pub fn ping(&mut self) {
        self.client.ping(&mut self.out);
    }

    /// Lets the broker end the connection.
    pub fn retire(&mut self) {
        self.client.retire();
    }

    /// Says DISCONNECT.
    pub fn disconnect(&mut self) {
        self.client.disconnect(&mut self.out);
    }

    /// Reads once, and hands each packet to the client. `buffer` is room for what is read, `at_most` bytes, behind the beginning
    /// of the largest packet.
    ///
    /// # Errors
    ///
    /// If the broker closed the connection, or did something wrong.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        at_most: usize,
        mut report: impl FnMut(Event<'_>),
    ) -> Result<(), Failure> {
        let before = self.partial.len();
        if before + at_most > buffer.len() {
            return Err(self.failure("a packet larger than any that was published"));
        }
        let read = match self.stream.read(&mut buffer[before..before + at_most]) {
            Ok(read) if read > 0 => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Ok(_) | Err(_) if self.client.is_retired() => {
                self.ended = true;
                report(Event::Ended);
                return Ok(());
            }
            Ok(_) => return Err(self.failure("the broker closed the connection")),
            Err(error) => return Err(self.failure(error)),
        };
        buffer[..before].copy_from_slice(&self.partial);
        let bytes = &buffer[..before + read];
        let used = self.consume(bytes, &mut report)?;
        self.partial.clear();
        self.partial.extend_from_slice(&bytes[used..]);
        Ok(())
    }

    /// Hands each whole packet in `bytes` to the client. Gives how many bytes those were.
    fn consume(&mut self, bytes: &[u8], report: &mut impl FnMut(Event<'_>)) -> Result<usize, Failure> {
        let mut used = 0;
        loop {
            let frame = match split(&bytes[used..], MAX_PACKET_SIZE) {
                Ok(Split::Frame(frame)) => frame,
                Ok(Split::Incomplete { .. }) => return Ok(used),
                Err(error) => return Err(self.failure(format_args!("{error:?}"))),
            };
            let packet = decode(frame, self.client.version(), Sender::Server)
                .map_err(|error| self.failure(format_args!("{error:?}")))?;
            let event = self.client.handle(packet, &mut self.out).map_err(|what| self.failure(what))?;
            if event != Event::None {
                report(event);
            }
            used += frame.length;
        }
    }

    /// Sends what there is with one call. Afterwards `blocked` says whether something is left because the socket has no room.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    pub fn send(&mut self) -> Result<(), Failure> {
        match self.stream.write(&self.out[self.sent..]) {
            Ok(sent) => self.sent += sent,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Whoever reads next will see that it ended.
            Err(_) if self.client.is_retired() => self.sent = self.out.len(),
            Err(error) => return Err(self.failure(error)),
        }
        self.blocked = self.sent < self.out.len();
        if !self.blocked {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    fn failure(&self, what: impl std::fmt::Display) -> Failure {
        Failure::Broker(format!("{}: {what}", self.client))
    }
}

/// The local address of connection number `index` if the kernel's choice would run out of ports: on the loopback interface there are
/// many addresses.
fn source(index: usize, address: SocketAddr) -> Option<SocketAddr> {
    let group = u8::try_from(index / CONNECTIONS_PER_ADDRESS).ok()?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() && group > 0 => {
            Some((Ipv4Addr::new(127, 0, 0, group.saturating_add(1)), 0).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use moormq::codec::{Connack, Packet, PacketType, ProtocolVersion, ReasonCode};

    use super::*;

    #[test]
    fn many_connections_come_from_several_addresses() {
        let broker = "127.0.0.1:1883".parse().unwrap();
        assert_eq!(source(9_999, broker), None);
        assert_eq!(source(10_000, broker), Some("127.0.0.2:0".parse().unwrap()));
        assert_eq!(source(10_000, "192.0.2.1:1883".parse().unwrap()), None);
    }

    #[test]
    fn a_packet_in_two_parts_is_put_together() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut connection = Connection::open(Client::idle("i".to_owned()), 0, listener.local_addr().unwrap()).unwrap();
        let (mut broker, _) = listener.accept().unwrap();
        while connection.has_output() {
            connection.send().unwrap();
        }
        assert!(!connection.has_output() && !connection.blocked);

        let mut connect = [0; 64];
        let length = broker.read(&mut connect).unwrap();
        let Ok(Split::Frame(frame)) = split(&connect[..length], MAX_PACKET_SIZE) else { panic!() };
        assert_eq!((frame.packet_type(), frame.length), (Some(PacketType::Connect), length));

        let mut connack = Vec::new();
        Packet::Connack(Connack::new(false, ReasonCode::Success)).encode(ProtocolVersion::V311, &mut connack);
        let mut ready = 0;
        connection.stream.set_nonblocking(false).unwrap();
        for (part, expected) in [(&connack[..1], 0), (&connack[1..], 1)] {
            broker.write_all(part).unwrap();
            connection.receive(&mut [0; 32], 16, |event| ready += usize::from(event == Event::Ready)).unwrap();
            assert_eq!(ready, expected);
        }
        drop(broker);
        assert!(matches!(connection.receive(&mut [0; 32], 16, |_| {}), Err(Failure::Broker(_))));
    }
}
