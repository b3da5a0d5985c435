//! A client of MQTT 5.0 with enhanced authentication, which no client library at hand has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use moormq::codec::{
    Auth, Connect, ConnectProperties, Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Sender, Split, Subscribe,
    SubscribeFilter, SubscriptionOptions, decode, split,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A packet from the broker, with the fields that matter here.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Connack { code: u8, data: Option<String>, assigned: bool },
    Auth { code: u8, data: String },
    Disconnect(u8),
    Suback(Vec<u8>),
    Pingresp,
    Closed,
}

/// A connection to the broker.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Connection::over(TcpStream::connect(address).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Connection { stream, received: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn connect_with_password(&mut self, client_id: &str, username: &str, password: &str) {
        let mut bytes = Vec::new();
        let (username, password) = (Some(username), Some(password.as_bytes()));
        Connect { username, password, ..Connect::new(V5, client_id) }.encode(&mut bytes);
        self.send(&bytes);
    }

    /// CONNECT with an authentication method. The user name is not the one to authenticate as.
    pub fn connect_with_method(&mut self, client_id: &str, method: &str, data: &str) {
        let mut bytes = Vec::new();
        let properties = ConnectProperties {
            authentication_method: Some(method),
            authentication_data: Some(data.as_bytes()),
            ..ConnectProperties::default()
        };
        Connect { username: Some("somebody else"), properties, ..Connect::new(V5, client_id) }.encode(&mut bytes);
        self.send(&bytes);
    }

    /// AUTH.
    pub fn auth(&mut self, code: ReasonCode, method: &str, data: &str) {
        let mut bytes = Vec::new();
        Auth { data: Some(data.as_bytes()), ..Auth::new(code, method) }.encode(V5, &mut bytes);
        self.send(&bytes);
    }

    /// Subscribes at QoS 0; the codes of the SUBACK.
    pub fn subscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
        let packet = Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).expect("not zero"),
            subscription_id: None,
            filters: (&filters[..]).into(),
            user: Default::default(),
        });
        let mut bytes = Vec::new();
        packet.encode(V5, &mut bytes);
        self.send(&bytes);
        match self.receive() {
            Reply::Suback(codes) => codes,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
    }

    /// The code of the CONNACK that comes next.
    pub fn connack(&mut self) -> u8 {
        match self.receive() {
            Reply::Connack { code, .. } => code,
            other => panic!("{other:?} instead of CONNACK"),
        }
    }

    /// The next packet.
    pub fn receive(&mut self) -> Reply {
        loop {
            if let Ok(Split::Frame(frame)) = split(&self.received, usize::MAX) {
                let reply = reply_of(decode(frame, V5, Sender::Server).expect("the broker sends legal packets"));
                let length = frame.length;
                self.received.drain(..length);
                return reply;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).expect("the broker answers in time") {
                0 => return Reply::Closed,
                length => self.received.extend(&buffer[..length]),
            }
        }
    }
}

fn reply_of(packet: Packet<'_>) -> Reply {
    let text = |data: Option<&[u8]>| data.map(|data| String::from_utf8(data.to_vec()).expect("SCRAM is text"));
    match packet {
        Packet::Connack(connack) => Reply::Connack {
            code: connack.code.value(),
            data: text(connack.properties.authentication_data),
            assigned: connack.properties.assigned_client_id.is_some(),
        },
        Packet::Auth(auth) => Reply::Auth { code: auth.code.value(), data: text(auth.data).unwrap_or_default() },
        Packet::Disconnect(disconnect) => Reply::Disconnect(disconnect.code.value()),
        Packet::Suback(suback) => Reply::Suback(suback.codes.iter().map(ReasonCode::value).collect()),
        Packet::Pingresp => Reply::Pingresp,
        other => panic!("nobody asked for {other:?}"),
    }
}
