//! A client for tests: it sends and receives packets.

use moormq::client::SubscriberId;
use moormq::codec::{
    Ack, AckKind, Auth, Connack, Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use moormq::hooks::Chain;

use crate::received::{Got, PacketReader, ReceivedPublish};
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

/// What a client receives when the broker ends its connection with `code`: MQTT 5 has a DISCONNECT for it, MQTT 3 nothing.
pub fn disconnected(version: ProtocolVersion, code: ReasonCode) -> Vec<Got> {
    Vec::from_iter((version == V5).then_some(Got::Disconnect(code)))
}

/// A client with one connection.
pub struct Client {
    pub socket: Socket,
    pub version: ProtocolVersion,
    pub reader: PacketReader,
    /// Packets that came with the CONNACK.
    early: Vec<Got>,
    /// The length of the longest packet that was received.
    pub longest: usize,
}

/// The fields of a CONNECT, but for the client id.
#[derive(Clone, Copy)]
pub struct ConnectOptions<'a> {
    pub version: ProtocolVersion,
    pub is_bridge: bool,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub properties: ConnectProperties<'a>,
    pub will: Option<Will<'a>>,
    pub username: Option<&'a str>,
    pub password: Option<&'a [u8]>,
}

impl<'a> ConnectOptions<'a> {
    /// A clean session.
    pub fn clean(version: ProtocolVersion) -> Self {
        ConnectOptions {
            version,
            is_bridge: false,
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
        ConnectOptions { clean_start: false, properties, ..ConnectOptions::clean(version) }
    }

    /// The same with a will to `topic`.
    pub fn will(self, topic: &'a str) -> Self {
        ConnectOptions { will: Some(Will { topic, payload: b"gone", ..Will::default() }), ..self }
    }

    /// The same with other properties.
    pub fn with(mut self, change: impl FnOnce(&mut ConnectProperties<'a>)) -> Self {
        change(&mut self.properties);
        self
    }
}

impl Client {
    /// Connects on `shard` and takes the CONNACK, which must be a success. Returns Session Present, too.
    pub fn connect<C: Chain>(
        world: &mut World<C>,
        shard: usize,
        id: &str,
        options: ConnectOptions<'_>,
    ) -> (Client, bool) {
        let mut client = Client::send_connect(world, shard, id, options);
        let mut received = client.received(world);
        let Some(Got::Connack { present, code: ReasonCode::Success }) = received.first() else {
            panic!("{id} was not accepted: {received:?}")
        };
        let present = *present;
        client.early = received.split_off(1);
        (client, present)
    }

    /// Connects with a clean session on the first shard.
    pub fn clean<C: Chain>(world: &mut World<C>, id: &str, version: ProtocolVersion) -> Client {
        Client::connect(world, 0, id, ConnectOptions::clean(version)).0
    }

    /// Connects on the first shard with an id that `shard` owns.
    pub fn on<C: Chain>(world: &mut World<C>, shard: usize, name: &str, options: ConnectOptions<'_>) -> Client {
        let id = id_owned_by(world, shard, name);
        Client::connect(world, 0, &id, options).0
    }

    /// Sends a CONNECT and reads nothing.
    pub fn send_connect<C: Chain>(world: &mut World<C>, shard: usize, id: &str, options: ConnectOptions<'_>) -> Client {
        let client = Client::open(world, shard, options.version);
        let mut bytes = Vec::new();
        connect_packet(id, options).encode(&mut bytes);
        world.send(client.socket, &bytes);
        client
    }

    /// Opens a connection and sends nothing.
    pub fn open<C: Chain>(world: &mut World<C>, shard: usize, version: ProtocolVersion) -> Client {
        let socket = world.connect(shard);
        Client::at(socket, version)
    }

    /// A client at a connection that is there.
    pub fn at(socket: Socket, version: ProtocolVersion) -> Client {
        Client { socket, version, reader: PacketReader::default(), early: Vec::new(), longest: 0 }
    }

    /// Everything received since the last call.
    pub fn received<C: Chain>(&mut self, world: &mut World<C>) -> Vec<Got> {
        let mut got = std::mem::take(&mut self.early);
        for (packet, length) in self.reader.read(world.received(self.socket), self.version) {
            self.longest = self.longest.max(length);
            got.push(packet);
        }
        got
    }

    /// The publishes among what was received since the last call.
    pub fn publishes<C: Chain>(&mut self, world: &mut World<C>) -> Vec<ReceivedPublish> {
        let got = self.received(world);
        got.into_iter().filter_map(|got| if let Got::Publish(received) = got { Some(received) } else { None }).collect()
    }

    /// The payloads of those, as text.
    pub fn texts<C: Chain>(&mut self, world: &mut World<C>) -> Vec<String> {
        self.publishes(world).iter().map(|received| received.text().to_owned()).collect()
    }

    /// The payloads of what comes until all of it is acknowledged, as text.
    pub fn drained<C: Chain>(&mut self, world: &mut World<C>) -> Vec<String> {
        let mut received = Vec::new();
        loop {
            let publishes = self.publishes(world);
            if publishes.is_empty() {
                return received;
            }
            for publish in publishes {
                received.push(publish.text().to_owned());
                let Some(id) = publish.id else { continue };
                if publish.qos == QoS::ExactlyOnce {
                    self.ack(world, AckKind::Pubrec, id);
                }
                self.ack(world, if publish.qos == QoS::ExactlyOnce { AckKind::Pubcomp } else { AckKind::Puback }, id);
            }
        }
    }

    /// The CONNACK that was received.
    pub fn connack(&self) -> Connack<'static> {
        self.reader.connack.expect("a CONNACK was received")
    }

    pub fn send<C: Chain>(&self, world: &mut World<C>, packet: &Packet<'_>) {
        self.send_quietly(world, packet);
        world.settle();
    }

    /// Sends `packet`; nothing follows before [`World::settle`].
    pub fn send_quietly<C: Chain>(&self, world: &mut World<C>, packet: &Packet<'_>) {
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
        self.send(world, &Packet::Subscribe(subscribe));
    }

    /// Subscribes, and takes the SUBACK, which must be the next packet and grant it.
    pub fn subscribed<C: Chain>(&mut self, world: &mut World<C>, filter: &str, qos: QoS) {
        self.subscribe(world, filter, qos);
        assert_eq!(self.received(world), [Got::Suback(1, vec![ReasonCode::granted(qos)])], "{filter}");
    }

    /// Unsubscribes at packet id 2.
    pub fn unsubscribe<C: Chain>(&self, world: &mut World<C>, filters: &[&str]) {
        self.send(world, &Packet::Unsubscribe(Unsubscribe::new(packet_id(2), filters)));
    }

    pub fn publish<C: Chain>(&self, world: &mut World<C>, topic: &str, payload: &str, qos: QoS, id: u16) {
        self.publish_with(world, publish(topic, payload, qos, id));
    }

    /// Publishes at QoS 0, to be retained.
    pub fn retain<C: Chain>(&self, world: &mut World<C>, topic: &str, payload: &str) {
        self.publish_with(world, Publish { retain: true, ..publish(topic, payload, QoS::AtMostOnce, 0) });
    }

    pub fn publish_with<C: Chain>(&self, world: &mut World<C>, publish: Publish<'_>) {
        self.send(world, &Packet::Publish(publish));
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
        self.send(world, &Packet::Auth(Auth { data: Some(data), ..Auth::new(code, method) }));
    }

    pub fn disconnect<C: Chain>(&self, world: &mut World<C>) {
        self.leave(world, Disconnect::new(ReasonCode::Success));
    }

    /// Sends this DISCONNECT, and closes the connection if the broker does not.
    pub fn leave<C: Chain>(&self, world: &mut World<C>, disconnect: Disconnect<'_>) {
        self.send(world, &Packet::Disconnect(disconnect));
        world.hang_up(self.socket);
    }
}

pub fn connect_packet<'a>(id: &'a str, options: ConnectOptions<'a>) -> Connect<'a> {
    Connect {
        version: options.version,
        is_bridge: options.is_bridge,
        clean_start: options.clean_start,
        keep_alive: options.keep_alive,
        client_id: id,
        username: options.username,
        password: options.password,
        will: options.will,
        properties: options.properties,
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
