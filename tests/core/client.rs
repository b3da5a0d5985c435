//! A client of the world: says packets, and hears them.

use moormq::client::SubscriberId;
use moormq::codec::{
    Ack, AckKind, Auth, Connack, Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use moormq::hooks::Chain;

use crate::heard::{Ear, Got, Heard};
use crate::world::{Socket, World};

pub const V31: ProtocolVersion = ProtocolVersion::V31;
pub const V311: ProtocolVersion = ProtocolVersion::V311;
pub const V5: ProtocolVersion = ProtocolVersion::V5;

/// Every QoS, lowest first.
pub const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// The acknowledgement of a publish that succeeded.
pub const fn acked(kind: AckKind, id: u16) -> Got {
    Got::Ack(kind, id, ReasonCode::Success)
}

/// A client with one connection.
pub struct Client {
    pub socket: Socket,
    pub version: ProtocolVersion,
    pub ear: Ear,
    /// Heard, and not asked for yet.
    early: Vec<Got>,
    /// The length of the longest packet heard.
    pub longest: usize,
}

/// What a CONNECT says, beyond the client id.
#[derive(Clone, Copy)]
pub struct Hello<'a> {
    pub version: ProtocolVersion,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub properties: ConnectProperties<'a>,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
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

    /// A session that is kept, for an hour if its client speaks MQTT 5.
    pub fn kept(version: ProtocolVersion) -> Self {
        let properties = ConnectProperties { session_expiry: Some(3600), ..ConnectProperties::default() };
        Hello { clean_start: false, properties, ..Hello::clean(version) }
    }

    /// The same with a will to `topic`.
    pub fn will(self, topic: &'a str) -> Self {
        Hello { will: Some(Will { topic, payload: b"gone", ..Will::default() }), ..self }
    }

    /// The same with other properties.
    pub fn with(mut self, change: impl FnOnce(&mut ConnectProperties<'a>)) -> Self {
        change(&mut self.properties);
        self
    }
}

impl Client {
    /// Connects on `shard` and takes the CONNACK, which must be a welcome. Says whether a session was present.
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

    /// Connects with a clean session on the first shard.
    pub fn clean<C: Chain>(world: &mut World<C>, id: &str, version: ProtocolVersion) -> Client {
        Client::connect(world, 0, id, Hello::clean(version)).0
    }

    /// Connects on the first shard with an id that `shard` owns.
    pub fn on<C: Chain>(world: &mut World<C>, shard: usize, name: &str, hello: Hello<'_>) -> Client {
        let id = id_owned_by(world, shard, name);
        Client::connect(world, 0, &id, hello).0
    }

    /// Sends a CONNECT and reads nothing.
    pub fn knock<C: Chain>(world: &mut World<C>, shard: usize, id: &str, hello: Hello<'_>) -> Client {
        let client = Client::dial(world, shard, hello.version);
        let mut bytes = Vec::new();
        connect_packet(id, hello).encode(&mut bytes);
        world.send(client.socket, &bytes);
        client
    }

    /// Opens a connection and sends nothing.
    pub fn dial<C: Chain>(world: &mut World<C>, shard: usize, version: ProtocolVersion) -> Client {
        let socket = world.connect(shard);
        Client::at(socket, version)
    }

    /// Whoever is at `socket`.
    pub fn at(socket: Socket, version: ProtocolVersion) -> Client {
        Client { socket, version, ear: Ear::default(), early: Vec::new(), longest: 0 }
    }

    /// Everything received since the last call.
    pub fn heard<C: Chain>(&mut self, world: &mut World<C>) -> Vec<Got> {
        let mut got = std::mem::take(&mut self.early);
        for (packet, length) in self.ear.hear(world.received(self.socket), self.version) {
            self.longest = self.longest.max(length);
            got.push(packet);
        }
        got
    }

    /// The publishes among what was received since the last call.
    pub fn publishes<C: Chain>(&mut self, world: &mut World<C>) -> Vec<Heard> {
        let got = self.heard(world);
        got.into_iter().filter_map(|got| if let Got::Publish(heard) = got { Some(heard) } else { None }).collect()
    }

    /// The payloads of those, as text.
    pub fn texts<C: Chain>(&mut self, world: &mut World<C>) -> Vec<String> {
        self.publishes(world).iter().map(|heard| heard.text().to_owned()).collect()
    }

    /// The CONNACK that was received.
    pub fn connack(&self) -> Connack<'static> {
        self.ear.connack.expect("a CONNACK was received")
    }

    pub fn say<C: Chain>(&self, world: &mut World<C>, packet: &Packet<'_>) {
        self.say_quietly(world, packet);
        world.settle();
    }

    /// Sends `packet`; nothing follows before [`World::settle`].
    pub fn say_quietly<C: Chain>(&self, world: &mut World<C>, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        world.send_quietly(self.socket, &bytes);
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
        let subscribe = Subscribe { subscription_id, ..Subscribe::new(packet_id(1), &filters[..]) };
        self.say(world, &Packet::Subscribe(subscribe));
    }

    /// Subscribes, and takes the SUBACK, which must be the next thing to be heard and grant it.
    pub fn subscribed<C: Chain>(&mut self, world: &mut World<C>, filter: &str, qos: QoS) {
        self.subscribe(world, filter, qos);
        assert_eq!(self.heard(world), [Got::Suback(1, vec![ReasonCode::granted(qos)])], "{filter}");
    }

    /// Unsubscribes at packet id 2.
    pub fn unsubscribe<C: Chain>(&self, world: &mut World<C>, filters: &[&str]) {
        self.say(world, &Packet::Unsubscribe(Unsubscribe::new(packet_id(2), filters)));
    }

    pub fn publish<C: Chain>(&self, world: &mut World<C>, topic: &str, payload: &str, qos: QoS, id: u16) {
        self.publish_with(world, publish(topic, payload, qos, id));
    }

    /// Publishes at QoS 0, to be retained.
    pub fn retain<C: Chain>(&self, world: &mut World<C>, topic: &str, payload: &str) {
        self.publish_with(world, Publish { retain: true, ..publish(topic, payload, QoS::AtMostOnce, 0) });
    }

    pub fn publish_with<C: Chain>(&self, world: &mut World<C>, publish: Publish<'_>) {
        self.say(world, &Packet::Publish(publish));
    }

    pub fn ack<C: Chain>(&self, world: &mut World<C>, kind: AckKind, id: u16) {
        self.ack_with(world, kind, id, ReasonCode::Success);
    }

    pub fn ack_with<C: Chain>(&self, world: &mut World<C>, kind: AckKind, id: u16, code: ReasonCode) {
        let mut bytes = Vec::new();
        Ack::new(packet_id(id), code).encode(kind, self.version, &mut bytes);
        world.send(self.socket, &bytes);
    }

    /// Sends AUTH with `method`.
    pub fn auth<C: Chain>(&self, world: &mut World<C>, code: ReasonCode, method: &str, data: &[u8]) {
        self.say(world, &Packet::Auth(Auth { data: Some(data), ..Auth::new(code, method) }));
    }

    pub fn disconnect<C: Chain>(&self, world: &mut World<C>) {
        self.leave(world, Disconnect::new(ReasonCode::Success));
    }

    /// Sends this DISCONNECT, and closes the connection if the broker does not.
    pub fn leave<C: Chain>(&self, world: &mut World<C>, disconnect: Disconnect<'_>) {
        self.say(world, &Packet::Disconnect(disconnect));
        world.hang_up(self.socket);
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

/// A PUBLISH without properties; at QoS 0 it has no packet id.
pub fn publish<'a>(topic: &'a str, payload: &'a str, qos: QoS, id: u16) -> Publish<'a> {
    Publish {
        qos,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| packet_id(id)),
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
        ..Publish::default()
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
