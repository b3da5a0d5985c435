//! A connection of a client: packets out of a socket, and into it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moormq::codec::{Connack, Connect, MAX_PACKET_SIZE, Packet, ProtocolVersion, Sender, Split, decode, split};

/// A broker that takes or says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection on which CONNACK has come.
pub struct Connection {
    stream: TcpStream,
    pub version: ProtocolVersion,
    received: Vec<u8>,
}

impl Connection {
    /// Connects; gives also whether the broker had a session.
    pub fn open(address: SocketAddr, connect: &Connect<'_>) -> io::Result<(Connection, bool)> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection { stream, version: connect.version, received: Vec::new() };
        connection.send(&[Packet::Connect(*connect)])?;
        let mut answer = None;
        connection.receive_some(PATIENCE, |packet, _| {
            if let Packet::Connack(Connack { session_present, code, .. }) = packet {
                answer = Some((session_present, code));
            }
            answer.is_none()
        })?;
        match answer {
            Some((session_present, code)) if !code.is_error() => Ok((connection, session_present)),
            other => Err(io::Error::other(format!("CONNACK: {other:?}"))),
        }
    }

    pub fn send(&mut self, packets: &[Packet<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.encode(self.version, &mut bytes));
        self.send_bytes(&bytes)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Takes all packets that are there, or come within this time; sends what is put into the buffer meanwhile.
    pub fn receive(&mut self, wait: Duration, mut take: impl FnMut(Packet<'_>, &mut Vec<u8>)) -> io::Result<()> {
        self.receive_some(wait, |packet, out| {
            take(packet, out);
            true
        })
    }

    /// Likewise, until `take` wants no more; the rest is kept.
    fn receive_some(
        &mut self,
        wait: Duration,
        mut take: impl FnMut(Packet<'_>, &mut Vec<u8>) -> bool,
    ) -> io::Result<()> {
        let mut out = Vec::new();
        let (mut begin, mut wants) = (0, true);
        if self.received.is_empty() {
            self.read(wait)?;
        }
        while wants {
            let whole = split(&self.received[begin..], MAX_PACKET_SIZE).map_err(|error| malformed(error.what))?;
            match whole {
                Split::Frame(frame) => {
                    let packet = decode(frame, self.version, Sender::Server).map_err(|error| malformed(error.what))?;
                    wants = take(packet, &mut out);
                    begin += frame.length;
                }
                Split::Incomplete { .. } if begin == self.received.len() => break,
                Split::Incomplete { .. } => {
                    self.received.drain(..begin);
                    begin = 0;
                    if !out.is_empty() {
                        self.stream.write_all(&std::mem::take(&mut out))?;
                    }
                    if !self.read(PATIENCE)? {
                        return Err(malformed("a packet that does not end"));
                    }
                }
            }
        }
        self.received.drain(..begin);
        match out.is_empty() {
            true => Ok(()),
            false => self.stream.write_all(&out),
        }
    }

    /// Whether something came.
    fn read(&mut self, wait: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.received.extend_from_slice(&buffer[..length]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}
