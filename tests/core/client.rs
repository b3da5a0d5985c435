//! A client of the world: says packets, and hears them.

use moormq::client::SubscriberId;
use moormq::codec::{
    Ack, AckKind, Connack, Connect, ConnectProperties, Disconnect, Outgoing, Packet, PacketId, ProtocolVersion, QoS,
    ReasonCode, Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};
use moormq::hooks::Chain;

use crate::world::{Socket, World};

/// A PUBLISH that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub id: Option<u16>,
}

/// Any packet that was received, in words short enough for assertions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    Connack { present: bool, code: ReasonCode },
    Publish(Heard),
    Ack(AckKind, u16, ReasonCode),
    Suback(u16, Vec<ReasonCode>),
    Unsuback(u16),
    Pingresp,
    Disconnect(ReasonCode),
    Auth(ReasonCode),
}

/// A client with one connection.
pub struct Client {
    pub socket: Socket,
    pub version: ProtocolVersion,
    buffer: Vec<u8>,
    /// Heard, and not asked for yet.
    early: Vec<Got>,
}

/// What a CONNECT says, beyond the client id.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    pub version: ProtocolVersion,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub properties: ConnectProperties<'a>,
    pub will: Option<moormq::codec::Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

impl Hello<'_> {
    /// A clean session.
    pub fn clean(version: ProtocolVersion) -> Self {
        Hello {
            version,
            clean_start: true,
            keep_alive: 0,
            properties: ConnectProperties::default(),
            will: None,
            username: None,
            password: None,
        }
    }

    /// A session that is kept.
    pub fn kept(version: ProtocolVersion) -> Self {
        let properties = ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() };
        Hello { clean_start: false, properties, ..Hello::clean(version) }
    }
}

impl Client {
    /// Connects on `shard` and takes the CONNACK, which must be a welcome.
    pub fn connect<C: Chain>(world: &mut World<C>, shard: usize, id: &str, hello: Hello<'_>) -> (Client, bool) {
        let mut client = Client::knock(world, shard, id, hello);
        let mut heard = client.heard(world);
        let Some(Got::Connack { present, code: ReasonCode::Success }) = heard.first() else {
            panic!("{id} was not welcomed: {heard:?}")
        };
        let present = *present;
        client.early = heard.split_off(1);
        (client, present)
    }

    /// Sends a CONNECT and reads nothing.
    pub fn knock<C: Chain>(world: &mut World<C>, shard: usize, id: &str, hello: Hello<'_>) -> Client {
        let socket = world.connect(shard);
        let client = Client { socket, version: hello.version, buffer: Vec::new(), early: Vec::new() };
        let mut bytes = Vec::new();
        connect_packet(id, hello).encode(&mut bytes);
        world.send(socket, &bytes);
        client
    }

    /// Everything received since the last call.
    pub fn heard<C: Chain>(&mut self, world: &mut World<C>) -> Vec<Got> {
        self.buffer.extend(world.received(self.socket));
        let mut got = std::mem::take(&mut self.early);
        let mut at = 0;
        while let Ok(Split::Frame(frame)) = split(&self.buffer[at..], usize::MAX) {
            at += frame.length;
            got.push(understood(decode(frame, self.version, Sender::Server).expect("the broker sends legal packets")));
        }
        self.buffer.drain(..at);
        got
    }

    /// The publishes among what was received since the last call.
    pub fn publishes<C: Chain>(&mut self, world: &mut World<C>) -> Vec<Heard> {
        let got = self.heard(world);
        got.into_iter().filter_map(|got| if let Got::Publish(heard) = got { Some(heard) } else { None }).collect()
    }

    pub fn say<C: Chain>(&self, world: &mut World<C>, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        world.send(self.socket, &bytes);
    }

    /// Subscribes at packet id 1.
    pub fn subscribe<C: Chain>(&mut self, world: &mut World<C>, filter: &str, qos: QoS) {
        self.subscribe_with(world, filter, SubscriptionOptions::new(qos), None);
    }

    pub fn subscribe_with<C: Chain>(
        &mut self,
        world: &mut World<C>,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) {
        let filters = [SubscribeFilter { filter, options }];
        let packet = Packet::Subscribe(Subscribe {
            packet_id: packet_id(1),
            subscription_id,
            filters: (&filters[..]).into(),
            user: Default::default(),
        });
        self.say(world, &packet);
    }

    pub fn publish<C: Chain>(&self, world: &mut World<C>, topic: &str, payload: &str, qos: QoS, id: u16) {
        self.publish_with(world, topic, payload, qos, false, id);
    }

    pub fn publish_with<C: Chain>(
        &self,
        world: &mut World<C>,
        topic: &str,
        payload: &str,
        qos: QoS,
        retain: bool,
        id: u16,
    ) {
        let mut bytes = Vec::new();
        let outgoing = Outgoing {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(id)),
            alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: &[],
            payload: payload.as_bytes(),
        };
        outgoing.encode(self.version, &mut bytes);
        world.send(self.socket, &bytes);
    }

    pub fn ack<C: Chain>(&self, world: &mut World<C>, kind: AckKind, id: u16) {
        let mut bytes = Vec::new();
        Ack::new(packet_id(id), ReasonCode::Success).encode(kind, self.version, &mut bytes);
        world.send(self.socket, &bytes);
    }

    pub fn disconnect<C: Chain>(&self, world: &mut World<C>) {
        self.say(world, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
    }
}

pub fn connect_packet<'a>(id: &'a str, hello: Hello<'a>) -> Connect<'a> {
    Connect {
        version: hello.version,
        clean_start: hello.clean_start,
        keep_alive: hello.keep_alive,
        client_id: id,
        username: hello.username,
        password: hello.password,
        will: hello.will,
        properties: hello.properties,
    }
}

pub fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("packet ids of tests are not zero")
}

/// A client id that `shard` of `world` owns.
pub fn id_owned_by<C: Chain>(world: &World<C>, shard: usize, name: &str) -> String {
    (0..)
        .map(|number| format!("{name}{number}"))
        .find(|id| world.shards[0].owner(&SubscriberId::new("", id.as_str())) == shard)
        .expect("every shard owns some ids")
}

fn understood(packet: Packet<'_>) -> Got {
    let ack = |kind, ack: Ack<'_>| Got::Ack(kind, ack.packet_id.get(), ack.code);
    match packet {
        Packet::Connack(Connack { session_present, code, .. }) => Got::Connack { present: session_present, code },
        Packet::Publish(publish) => Got::Publish(Heard {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            id: publish.packet_id.map(PacketId::get),
        }),
        Packet::Puback(packet) => ack(AckKind::Puback, packet),
        Packet::Pubrec(packet) => ack(AckKind::Pubrec, packet),
        Packet::Pubrel(packet) => ack(AckKind::Pubrel, packet),
        Packet::Pubcomp(packet) => ack(AckKind::Pubcomp, packet),
        Packet::Suback(suback) => Got::Suback(suback.packet_id.get(), suback.codes.iter().collect()),
        Packet::Unsuback(unsuback) => Got::Unsuback(unsuback.packet_id.get()),
        Packet::Pingresp => Got::Pingresp,
        Packet::Disconnect(disconnect) => Got::Disconnect(disconnect.code),
        Packet::Auth(auth) => Got::Auth(auth.code),
        other => panic!("a broker does not send {other:?}"),
    }
}
