//! Whatever bytes come: the right code or a close, never a panic, and nobody else is affected. MQTT 5.0 section 4.13.

use std::time::Duration;

use moormq::codec::{
    Ack, AckKind, Auth, Connect, Disconnect, Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
    Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use moormq::hooks::NoHooks;
use moormq::random::Random;

use crate::client::{Client, ConnectOptions, V5, V31, V311, disconnected, id_owned_by, packet_id, publish};
use crate::received::Got;
use crate::world::{World, open_config, worlds};

const FILTERS: [SubscribeFilter<'static>; 2] = [
    SubscribeFilter { filter: "a/+", options: SubscriptionOptions::new(QoS::AtLeastOnce) },
    SubscribeFilter { filter: "$share/g/b", options: SubscriptionOptions::new(QoS::ExactlyOnce) },
];

/// Legal packets of a client, one of each kind and more.
fn legal(version: ProtocolVersion) -> Vec<Vec<u8>> {
    let properties =
        PublishProperties { topic_alias: Some(3), content_type: Some("x"), ..PublishProperties::default() };
    let ack = Ack::new(packet_id(9), ReasonCode::Success);
    let mut packets = vec![
        Packet::Publish(publish("a/b", "payload", QoS::AtMostOnce, 0)),
        Packet::Publish(publish("a/b", "", QoS::AtLeastOnce, 1)),
        Packet::Publish(Publish { retain: true, properties, ..publish("a/b", "payload", QoS::ExactlyOnce, 2) }),
        Packet::Puback(ack),
        Packet::Pubrec(ack),
        Packet::Pubrel(ack),
        Packet::Pubcomp(ack),
        Packet::Subscribe(Subscribe::new(packet_id(4), &FILTERS[..])),
        Packet::Unsubscribe(Unsubscribe::new(packet_id(5), &["a/+", "c"][..])),
        Packet::Pingreq,
    ];
    if version == V5 {
        let refused = Ack { reason_string: Some("no"), ..Ack::new(packet_id(9), ReasonCode::QuotaExceeded) };
        packets.extend([Packet::Pubrec(refused), Packet::Puback(refused)]);
    }
    let encoded = |packet: Packet<'_>| {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        bytes
    };
    packets.into_iter().map(encoded).collect()
}

/// A bystander with a subscription, who must not be affected.
struct Bystander(Client);

impl Bystander {
    fn new(world: &mut World<NoHooks>) -> Self {
        let last = world.shards.len() - 1;
        let mut client = Client::on(world, last, "bystander", ConnectOptions::clean(V311));
        client.subscribed(world, "mine/+", QoS::AtMostOnce);
        Bystander(client)
    }

    fn is_well(&mut self, world: &mut World<NoHooks>) {
        self.0.publish(world, "mine/x", "well", QoS::AtMostOnce, 0);
        assert_eq!(self.0.texts(world), ["well"]);
    }
}

#[test]
fn every_packet_may_be_split_anywhere() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        for version in ProtocolVersion::ALL {
            let packets = legal(version);
            let all = packets.concat();
            let answers = |world: &mut World<NoHooks>, pieces: &mut dyn Iterator<Item = &[u8]>| {
                // In a turn of its own: at the end of one what is retained may come behind the packet that unsubscribes.
                world.advance(Duration::from_millis(1));
                let mut client = Client::on(world, last, "c", ConnectOptions::clean(version));
                pieces.for_each(|piece| world.send(client.socket, piece));
                let received = client.received(world);
                assert!(!world.is_closed(client.socket), "{received:?}");
                world.hang_up(client.socket);
                let anew = Client::clean(world, "cleaner", V5);
                anew.retain(world, "a/b", "");
                anew.disconnect(world);
                received
            };
            let whole = answers(&mut world, &mut std::iter::once(&all[..]));
            assert!(whole.len() >= 8);
            for cut in 1..all.len() {
                assert_eq!(answers(&mut world, &mut [&all[..cut], &all[cut..]].into_iter()), whole, "cut at {cut}");
            }
            for size in [1, 2, 3, 7] {
                assert_eq!(answers(&mut world, &mut all.chunks(size)), whole, "in pieces of {size}");
            }
        }
    }
}

/// Table 2-1: what only servers send, and what does not exist.
#[test]
fn packets_of_the_other_side_and_of_no_side_end_the_connection() {
    for mut world in worlds() {
        let mut bystander = Bystander::new(&mut world);
        for version in ProtocolVersion::ALL {
            let cases: [(&[u8], ReasonCode); 9] = [
                (&[0x00, 0], ReasonCode::MalformedPacket),
                (&[0x20, 2, 0, 0], ReasonCode::ProtocolError),
                (&[0x90, 4, 0, 1, 0, 0], ReasonCode::ProtocolError),
                (&[0xB0, 4, 0, 1, 0, 0], ReasonCode::ProtocolError),
                (&[0xD0, 0], ReasonCode::ProtocolError),
                (&[0xF0, 0], if version == V5 { ReasonCode::ProtocolError } else { ReasonCode::MalformedPacket }),
                (&[0x30, 0x80, 0x80, 0x80, 0x80, 1], ReasonCode::MalformedPacket),
                (&[0x36, 4, 0, 1, b'a', 0], ReasonCode::MalformedPacket),
                (&[0x32, 6, 0, 1, b'a', 0, 0, 0], ReasonCode::MalformedPacket),
            ];
            for (bytes, code) in cases {
                let mut client = Client::clean(&mut world, "c", version);
                world.send(client.socket, bytes);
                assert_eq!(client.received(&mut world), disconnected(version, code), "{bytes:?}");
                assert!(world.is_closed(client.socket), "{version:?} {bytes:?}");
            }
            let client = Client::clean(&mut world, "c", version);
            if version != V31 {
                world.send(client.socket, &[0xC1, 0]);
                assert!(world.is_closed(client.socket), "[MQTT-2.1.3-1]");
            }
        }
        bystander.is_well(&mut world);
    }
}

/// The answer to changed bytes is legal whatever they are: a client can decode everything that the broker sends.
#[test]
fn changed_packets_are_answered_with_legal_ones_or_the_connection_ends() {
    let mut random = Random::from_seed(7);
    for mut world in worlds() {
        let mut bystander = Bystander::new(&mut world);
        let last = world.shards.len() - 1;
        for version in ProtocolVersion::ALL {
            for packet in legal(version) {
                for at in 0..packet.len() {
                    for _ in 0..4 {
                        let mut bytes = packet.clone();
                        bytes[at] = random.u64() as u8;
                        let mut client = Client::on(&mut world, last, "c", ConnectOptions::clean(version).will("w"));
                        world.send(client.socket, &bytes);
                        let received = client.received(&mut world);
                        let closed = world.is_closed(client.socket);
                        let disconnected = matches!(received.last(), Some(Got::Disconnect(_)));
                        let leaves = bytes[0] >> 4 == 14;
                        assert!(
                            if disconnected { closed && version == V5 } else { !closed || version != V5 || leaves },
                            "{bytes:?}"
                        );
                        world.hang_up(client.socket);
                    }
                }
            }
        }
        bystander.is_well(&mut world);
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = Random::from_seed(11);
    for mut world in worlds() {
        let mut bystander = Bystander::new(&mut world);
        let shards = world.shards.len();
        for round in 0..3000 {
            let version = [V31, V311, V5][random.below(3)];
            let mut client = match random.below(3) {
                0 => Client::open(&mut world, random.below(shards), version),
                _ => Client::on(&mut world, random.below(shards), "noisy", ConnectOptions::kept(version)),
            };
            for _ in 0..1 + random.below(4) {
                let mut bytes: Vec<u8> = (0..random.below(40)).map(|_| random.u64() as u8).collect();
                if random.below(2) == 0 && bytes.len() > 2 {
                    // A fixed header that may be right makes it further in.
                    bytes[0] = [0x10, 0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0]
                        [random.below(13)];
                    bytes[1] = bytes.len() as u8 - 2;
                }
                world.send(client.socket, &bytes);
            }
            if version == V5 || client.reader.connack.is_some() {
                client.received(&mut world);
            }
            world.hang_up(client.socket);
            if round % 500 == 0 {
                bystander.is_well(&mut world);
            }
        }
        bystander.is_well(&mut world);
    }
}

/// CONNECT, too: every byte changed, and cut short at every byte with the length to match.
#[test]
fn changed_connects_are_refused_with_legal_codes_or_closed() {
    let mut random = Random::from_seed(3);
    let will = Will {
        topic: "w",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: 3,
        properties: PublishProperties { content_type: Some("x"), ..PublishProperties::default() },
    };
    for mut world in worlds() {
        let mut bystander = Bystander::new(&mut world);
        for version in ProtocolVersion::ALL {
            let options = ConnectOptions {
                will: Some(will),
                username: Some("user"),
                password: Some(b"pass"),
                ..ConnectOptions::kept(version)
            };
            let mut whole = Vec::new();
            crate::client::connect_packet("changed", options).encode(&mut whole);
            for at in 0..whole.len() {
                let mut cut = whole[..at].to_vec();
                if at > 1 {
                    cut[1] = at as u8 - 2;
                }
                let changed = (0..24).map(|_| {
                    let mut bytes = whole.clone();
                    bytes[at] = random.u64() as u8;
                    bytes
                });
                for bytes in changed.chain([cut]).collect::<Vec<_>>() {
                    let socket = world.connect(0);
                    world.send(socket, &bytes);
                    let said = world.received(socket);
                    // It answers in the version that the bytes ask for, which may have been what was changed.
                    if let [0x20, length, ..] = said[..] {
                        let spoken = if usize::from(length) == 2 { V311 } else { V5 };
                        let mut reader = crate::received::PacketReader::default();
                        let received = reader.read(said, spoken);
                        let accepted = matches!(received[0].0, Got::Connack { code: ReasonCode::Success, .. });
                        assert_eq!(world.is_closed(socket), !accepted, "{bytes:?}");
                    } else {
                        assert_eq!(said, b"", "{bytes:?}");
                    }
                    world.hang_up(socket);
                }
            }
        }
        bystander.is_well(&mut world);
    }
}

/// The reason codes of MQTT 5 for violations.
#[test]
fn violations_have_their_codes() {
    let alias = PublishProperties { topic_alias: Some(9), ..PublishProperties::default() };
    let answer_to = |topic| Publish {
        properties: PublishProperties { response_topic: Some(topic), ..PublishProperties::default() },
        ..publish("t", "x", QoS::AtMostOnce, 0)
    };
    let cases = [
        (Packet::Connect(Connect::new(V5, "c")), ReasonCode::ProtocolError),
        (Packet::Auth(Auth::new(ReasonCode::ReAuthenticate, "X")), ReasonCode::ProtocolError),
        (Packet::Publish(Publish { topic: "", properties: alias, ..Publish::default() }), ReasonCode::ProtocolError),
        (Packet::Publish(publish("a/#", "x", QoS::AtMostOnce, 0)), ReasonCode::TopicNameInvalid),
        // [MQTT-4.7.3-1], [MQTT-3.3.2-14]
        (Packet::Publish(answer_to("")), ReasonCode::ProtocolError),
        (Packet::Publish(answer_to("a/+")), ReasonCode::ProtocolError),
        (
            Packet::Disconnect(Disconnect { session_expiry: Some(5), ..Disconnect::new(ReasonCode::Success) }),
            ReasonCode::ProtocolError,
        ),
    ];
    for shards in [1, 2] {
        for (packet, code) in cases {
            let mut world = World::new(shards, open_config(), || NoHooks);
            let mut client = Client::clean(&mut world, "c", V5);
            client.send(&mut world, &packet);
            assert_eq!(client.received(&mut world), [Got::Disconnect(code)], "{packet:?}");
            assert!(world.is_closed(client.socket));
            assert!(client.reader.reason.is_some_and(|reason| !reason.is_empty()), "it says what was wrong");
        }
    }
}

/// What came with the packet that ended the connection is not served, in this read or a later one.
#[test]
fn nothing_behind_a_violation_is_served() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut watcher = Client::on(&mut world, last, "watcher", ConnectOptions::clean(V311));
        watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
        let id = id_owned_by(&world, 0, "c");
        let mut bytes = vec![0xD0, 0];
        publish("t", "too late", QoS::AtMostOnce, 0).encode(V5, &mut bytes);
        let client = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0;
        world.send_quietly(client.socket, &bytes);
        world.send_quietly(client.socket, &bytes[2..]);
        world.settle();
        let left = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0;
        let mut bytes = vec![0xE0, 0];
        publish("t", "too late", QoS::AtMostOnce, 0).encode(V5, &mut bytes);
        world.send(left.socket, &bytes);
        assert_eq!(watcher.received(&mut world), []);
    }
}

/// An acknowledgement may name any id at any time; only one that is in flight means anything.
#[test]
fn stray_acknowledgements_are_passed_over() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let mut client = Client::clean(&mut world, "c", version);
            for kind in [AckKind::Puback, AckKind::Pubcomp] {
                for id in [1, 2, 65_535] {
                    client.ack(&mut world, kind, id);
                }
            }
            client.send(&mut world, &Packet::Pingreq);
            assert_eq!(client.received(&mut world), [Got::Pingresp]);
            client.disconnect(&mut world);
        }
    }
}
