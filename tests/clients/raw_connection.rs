//! A connection with the project's own codec: it sends single packets and raw bytes, for what no client library at hand can send.

use std::io::{Read, Write};
use std::net::TcpStream;

use moormq::codec::{
    Ack, AckKind, PacketId, QoS, Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};
pub use moormq::codec::{Connect, ConnectProperties, Disconnect, Packet, ProtocolVersion, ReasonCode, Will};

use crate::DEADLINE;
use crate::broker::Broker;

/// A connection. Dropping it cuts it.
pub struct RawConnection {
    stream: TcpStream,
    version: ProtocolVersion,
    received: Vec<u8>,
}

/// The CONNECT of a client with clean start 1, no keep-alive, and no properties.
pub fn clean(version: ProtocolVersion, client_id: &str) -> Connect<'_> {
    Connect::new(version, client_id)
}

/// Likewise with clean start 0 and a session that is kept: for `seconds` by MQTT 5.0, as configured by 3.1.1.
pub fn kept(version: ProtocolVersion, client_id: &str, seconds: u32) -> Connect<'_> {
    let properties = ConnectProperties { session_expiry: Some(seconds), ..ConnectProperties::default() };
    Connect { clean_start: false, properties, ..clean(version, client_id) }
}

impl RawConnection {
    /// Connects; panics if it is refused.
    pub fn connect(broker: &Broker, connect: Connect<'_>) -> RawConnection {
        match RawConnection::try_connect(broker.port(), connect) {
            Ok(connection) => connection,
            Err(code) => panic!("{} was refused: {code:?}", connect.client_id),
        }
    }

    /// Connects. The error is the code of the CONNACK that refuses; none if the connection ends without one.
    pub fn try_connect(port: u16, connect: Connect<'_>) -> Result<RawConnection, Option<ReasonCode>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
        let mut connection = RawConnection { stream, version: connect.version, received: Vec::new() };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        connection.send(&bytes);
        let code = connection.next(|packet| match packet {
            Packet::Connack(connack) => Some(connack.code),
            _ => None,
        });
        if code == Some(ReasonCode::Success) { Ok(connection) } else { Err(code) }
    }

    /// Its version of MQTT.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Sends a packet. One that the broker no longer takes is lost.
    pub fn send_packet(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        self.send(&bytes);
    }

    /// Sends bytes, whatever they mean.
    pub fn send(&mut self, bytes: &[u8]) {
        // The broker may have closed the connection: the test checks that.
        let _ = self.stream.write_all(bytes);
    }

    /// Subscribes at QoS 1, and waits until that is done.
    pub fn subscribe(&mut self, filter: &str) {
        let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
        let packet_id = PacketId::new(1).expect("it is not zero");
        self.send_packet(&Packet::Subscribe(Subscribe::new(packet_id, &filters[..])));
        self.next(|packet| matches!(packet, Packet::Suback(_)).then_some(())).expect("a SUBACK");
    }

    /// Takes a message at QoS 1, and acknowledges it. Returns its payload.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = self.next(|packet| match packet {
            Packet::Publish(publish) => Some((publish.packet_id?, publish.payload.to_vec())),
            _ => None,
        });
        let (id, payload) = taken.expect("a message at QoS 1");
        let mut ack = Vec::new();
        Ack::new(id, ReasonCode::Success).encode(AckKind::Puback, self.version, &mut ack);
        self.send(&ack);
        payload
    }

    /// Waits until the broker closes the connection. Returns the code of its DISCONNECT if there is one.
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
                Err(error) => panic!("the broker sends nothing: {error}"),
            }
        }
    }
}
