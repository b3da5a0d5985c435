//! A client that says what it is told to, packet by packet, in the words of the project's own codec: for what no client at
//! hand can be brought to say.

use std::io::{Read, Write};
use std::net::TcpStream;

pub use moormq::codec::{Connect, ConnectProperties, Disconnect, Packet, ProtocolVersion, ReasonCode, Will};
use moormq::codec::{Sender, Split, decode, split};

use crate::DEADLINE;
use crate::broker::Broker;

/// A connection. Dropping it cuts it.
pub struct Wire {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

/// The CONNECT of a client with clean start 1, no keep-alive, and no properties.
pub fn clean(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id,
        username: None,
        password: None,
        will: None,
        properties: ConnectProperties::default(),
    }
}

/// Likewise with clean start 0 and a session that is kept: for `seconds` by MQTT 5.0, as configured by 3.1.1.
pub fn kept(version: ProtocolVersion, client_id: &str, seconds: u32) -> Connect<'_> {
    let properties = ConnectProperties { session_expiry: Some(seconds), ..ConnectProperties::default() };
    Connect { clean_start: false, properties, ..clean(version, client_id) }
}

impl Wire {
    /// Connects; panics if it is refused.
    pub fn connect(broker: &Broker, connect: Connect<'_>) -> Wire {
        match Wire::try_connect(broker.port(), connect) {
            Ok(wire) => wire,
            Err(code) => panic!("{} was refused: {code:?}", connect.client_id),
        }
    }

    /// Connects, or tells the code of the CONNACK that refuses; none if the connection ends without.
    pub fn try_connect(port: u16, connect: Connect<'_>) -> Result<Wire, Option<ReasonCode>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
        let mut wire = Wire { stream, version: connect.version, received: Vec::new() };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        wire.send(&bytes);
        let code = wire.next(|packet| match packet {
            Packet::Connack(connack) => Some(connack.code),
            _ => None,
        });
        if code == Some(ReasonCode::Success) { Ok(wire) } else { Err(code) }
    }

    /// Sends a packet. One that the broker no longer takes is lost.
    pub fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.send(&bytes);
    }

    /// Sends bytes, whatever they mean.
    pub fn send(&mut self, bytes: &[u8]) {
        // The broker may have closed the connection: what comes of that is for the test to look at.
        let _ = self.stream.write_all(bytes);
    }

    /// Waits until the broker closes the connection. Tells the code of its DISCONNECT if there is one.
    pub fn end(mut self) -> Option<ReasonCode> {
        self.next(|packet| match packet {
            Packet::Disconnect(disconnect) => Some(disconnect.code),
            _ => None,
        })
    }

    /// Waits for the first packet of which `pick` takes something; none if the connection ends before.
    pub fn next<T>(&mut self, pick: impl Fn(&Packet<'_>) -> Option<T>) -> Option<T> {
        loop {
            if let Ok(Split::Frame(frame)) = split(&self.received, usize::MAX) {
                let length = frame.length;
                let picked =
                    pick(&decode(frame, self.version, Sender::Server).expect("the broker sends legal packets"));
                self.received.drain(..length);
                if picked.is_some() {
                    return picked;
                }
                continue;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.received.extend(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the broker says nothing: {error}"),
            }
        }
    }
}
