//! CONNECT and its refusals: lifecycle.md section 3, MQTT 5.0 section 3.1.

use std::time::Duration;

use moormq::client::SubscriberId;
use moormq::codec::{Connect, Packet, ProtocolVersion, PublishProperties, QoS, ReasonCode, Will};
use moormq::config::{Config, ListenerConfig, Protocol};
use moormq::shard::{Admission, Input};

use crate::client::{Client, ConnectOptions, V5, V31, V311, connect_packet, disconnected, id_owned_by};
use crate::received::Got;
use crate::world::{SEED, Socket, World, config, open_config, worlds, worlds_with};

/// Checks that a CONNECT with these options is answered with `code` and closed; with no code, closed without a CONNACK.
fn refused(config: Config, id: &str, options: ConnectOptions<'_>, code: impl Into<Option<ReasonCode>>) {
    let mut world = World::new(1, config, || moormq::hooks::NoHooks);
    let mut client = Client::send_connect(&mut world, 0, id, options);
    let answer = code.into().map(|code| Got::Connack { present: false, code });
    assert_eq!(client.received(&mut world), Vec::from_iter(answer), "{id:?} {:?}", options.version);
    assert!(world.is_closed(client.socket));
}

/// Checks the refusal for each version: `v5` for MQTT 5, `v3` for the older ones.
fn refused_alike(config: impl Fn() -> Config, id: &str, options: ConnectOptions<'_>, v5: ReasonCode, v3: ReasonCode) {
    for version in ProtocolVersion::ALL {
        refused(config(), id, ConnectOptions { version, ..options }, if version == V5 { v5 } else { v3 });
    }
}

fn connect_bytes(id: &str, options: ConnectOptions<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    connect_packet(id, options).encode(&mut bytes);
    bytes
}

fn first_bytes(bytes: &[u8]) -> (Vec<u8>, bool) {
    first_pieces(&[bytes])
}

/// The same with bytes that come piece by piece.
fn first_pieces(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
    let socket = world.connect(0);
    pieces.iter().for_each(|piece| world.send(socket, piece));
    (world.received(socket), world.is_closed(socket))
}

#[test]
fn an_empty_client_id_is_assigned_refused_or_made_up_by_version() {
    // MQTT 3.1, section 3.1: 1 to 23 characters.
    refused(open_config(), "", ConnectOptions::clean(V31), ReasonCode::ClientIdentifierNotValid);
    refused(open_config(), "", ConnectOptions::kept(V31), ReasonCode::ClientIdentifierNotValid);
    // [MQTT-3.1.3-8] of 3.1.1: only with a clean session.
    refused(open_config(), "", ConnectOptions::kept(V311), ReasonCode::ClientIdentifierNotValid);
    for mut world in worlds() {
        let (first, _) = Client::connect(&mut world, 0, "", ConnectOptions::clean(V311));
        let (second, _) = Client::connect(&mut world, 0, "", ConnectOptions::clean(V311));
        assert!(!world.is_closed(first.socket) && !world.is_closed(second.socket), "each has an id of its own");
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.2.2-16]
#[test]
fn an_assigned_client_id_is_in_connack_and_can_be_used_again() {
    for mut world in worlds() {
        let (client, _) = Client::connect(&mut world, 0, "", ConnectOptions::kept(V5));
        let assigned = client.connack().properties.assigned_client_id.expect("the CONNACK of v5 has the assigned id");
        assert!((1..=23).contains(&assigned.len()) && assigned.chars().all(|c| c.is_ascii_alphanumeric()));
        client.disconnect(&mut world);
        let (again, present) = Client::connect(&mut world, 0, assigned, ConnectOptions::kept(V5));
        assert!(present);
        assert_eq!(again.connack().properties.assigned_client_id, None);
    }
}

#[test]
fn a_long_client_id_is_accepted_up_to_the_limit() {
    let longest = "x".repeat(1024);
    for version in ProtocolVersion::ALL {
        let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
        Client::connect(&mut world, 0, &longest, ConnectOptions::clean(version));
        refused(open_config(), &"x".repeat(1025), ConnectOptions::clean(version), ReasonCode::ClientIdentifierNotValid);
    }
}

#[test]
fn names_with_wildcards_are_accepted_unless_they_are_not_allowed() {
    let strict = || config(|config| config.session.allow_wildcards_in_identity = false);
    for id in ["a+", "#", "a/#", "+4917012345", "a+b@example.org"] {
        let not_valid = ReasonCode::ClientIdentifierNotValid;
        refused_alike(strict, id, ConnectOptions::clean(V5), not_valid, not_valid);
        let options = ConnectOptions { username: Some(id), ..ConnectOptions::clean(V5) };
        let bad_name = ReasonCode::BadUserNameOrPassword;
        refused_alike(strict, "c", options, bad_name, bad_name);
        let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
        Client::connect(&mut world, 0, id, ConnectOptions { username: Some(id), ..ConnectOptions::clean(V311) });
    }
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]: an unknown level is refused in the words of MQTT 3, which all know; another protocol is not answered.
#[test]
fn an_unknown_level_is_answered_so_that_the_client_falls_back() {
    let connect = |name: &[u8], level: u8| {
        let head = [&[0, name.len() as u8], name, &[level, 2, 0, 0]].concat();
        let body = [&head[..], if level >= 5 { &[0] } else { &[] }, &[0, 1, b'c']].concat();
        first_bytes(&[&[0x10, body.len() as u8], &body[..]].concat())
    };
    let fall_back = (vec![0x20, 2, 0, 1], true);
    for level in [0, 1, 2, 3, 6, 7, 0x7F, 0x80, 0x83, 0x85, 0xFF] {
        assert_eq!(connect(b"MQTT", level), fall_back, "level {level}");
    }
    for level in [4, 5, 0x84] {
        assert_eq!(connect(b"MQIsdp", level), fall_back, "level {level}");
    }
    for name in [&b"HTTP"[..], b"mqtt", b"MQTTT", b""] {
        for level in [4, 5, 6] {
            assert_eq!(connect(name, level), (vec![], true), "{name:?}");
        }
    }
}

/// Bridges of MQTT 3 say in their level that they are one: they get nothing back of what they publish, in no shared subscription more than
/// others, and are told what was retained.
#[test]
fn a_bridge_gets_nothing_back_and_learns_what_was_retained() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        for version in [V31, V311] {
            let options = |is_bridge| ConnectOptions { is_bridge, ..ConnectOptions::clean(version) };
            let mut bridge = Client::on(&mut world, last, "bridge", options(true));
            bridge.subscribed(&mut world, "t/#", QoS::AtMostOnce);
            bridge.subscribed(&mut world, "$share/g/s", QoS::AtMostOnce);
            let mut plain = Client::on(&mut world, last, "plain", options(false));
            plain.subscribed(&mut world, "t/#", QoS::AtMostOnce);
            bridge.retain(&mut world, "t/a", "own");
            plain.retain(&mut world, "t/a", "of another");
            bridge.publish(&mut world, "s", "shared", QoS::AtMostOnce, 0);
            let got = |client: &mut Client, world: &mut World<moormq::hooks::NoHooks>| -> Vec<(String, bool)> {
                client.publishes(world).iter().map(|it| (it.text().to_owned(), it.retain)).collect()
            };
            let shared = ("shared".to_owned(), false);
            assert_eq!(got(&mut bridge, &mut world), [("of another".to_owned(), true), shared], "{version:?}");
            let both = ["own", "of another"].map(|text| (text.to_owned(), false));
            assert_eq!(got(&mut plain, &mut world), both, "{version:?}");
            for client in [bridge, plain] {
                client.retain(&mut world, "t/a", "");
                client.disconnect(&mut world);
            }
        }
    }
}

/// lifecycle.md 3: `protocols` of a listener.
#[test]
fn a_listener_speaks_only_the_versions_it_was_given() {
    let only = |protocol| {
        let listener = ListenerConfig { protocols: vec![protocol], ..ListenerConfig::default() };
        move || config(|config| config.listeners = vec![listener.clone()])
    };
    let versions = [(Protocol::V31, V31), (Protocol::V311, V311), (Protocol::V5, V5)];
    for (allowed, speaks) in versions {
        for (_, version) in versions {
            if version == speaks {
                let mut world = World::new(1, only(allowed)(), || moormq::hooks::NoHooks);
                Client::connect(&mut world, 0, "c", ConnectOptions::clean(version));
            } else {
                refused(only(allowed)(), "c", ConnectOptions::clean(version), ReasonCode::UnsupportedProtocolVersion);
            }
        }
    }
}

/// lifecycle.md 1: no link could validate the client.
#[test]
fn without_hooks_and_without_anonymous_clients_nobody_gets_in() {
    refused_alike(
        Config::default,
        "c",
        ConnectOptions::clean(V5),
        ReasonCode::NotAuthorized,
        ReasonCode::NotAuthorized,
    );
    let credentials = ConnectOptions { username: Some("me"), password: Some(b"secret"), ..ConnectOptions::clean(V5) };
    // As with a wrong password: which names exist must not show.
    let wrong = ReasonCode::BadUserNameOrPassword;
    refused_alike(Config::default, "c", credentials, wrong, wrong);
    let listener = ListenerConfig { allow_anonymous: Some(false), ..ListenerConfig::default() };
    let own = || config(|config| config.listeners = vec![listener.clone()]);
    refused_alike(own, "c", ConnectOptions::clean(V5), ReasonCode::NotAuthorized, ReasonCode::NotAuthorized);
}

/// [MQTT-3.2.2-12], [MQTT-3.2.2-13]: a will above Maximum QoS, or with RETAIN where it is not available, is refused.
#[test]
fn a_will_beyond_what_is_offered_is_refused() {
    let will = |will| ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) };
    let qos2 = will(Will { topic: "w", qos: QoS::ExactlyOnce, ..Will::default() });
    let low = || config(|config| config.limits.maximum_qos = 1);
    refused_alike(low, "c", qos2, ReasonCode::QosNotSupported, ReasonCode::NotAuthorized);
    let retained = will(Will { topic: "w", retain: true, ..Will::default() });
    let none = || config(|config| config.limits.retain_available = false);
    refused_alike(none, "c", retained, ReasonCode::RetainNotSupported, ReasonCode::NotAuthorized);
    let levels = || config(|config| config.limits.max_topic_levels = 3);
    let deep = will(Will { topic: "a/b/c/d", ..Will::default() });
    refused_alike(levels, "c", deep, ReasonCode::TopicNameInvalid, ReasonCode::NotAuthorized);
}

/// [MQTT-4.7.3-1], [MQTT-3.3.2-2]: what is no topic is none of a will, either. MQTT 3.1.1 closes without a CONNACK [MQTT-3.1.4-1].
#[test]
fn a_will_to_what_is_no_topic_is_refused() {
    for topic in ["", "a/+", "#"] {
        let options = |version| ConnectOptions { version, ..ConnectOptions::clean(version).will(topic) };
        refused(open_config(), "c", options(V5), ReasonCode::TopicNameInvalid);
        for version in [V31, V311] {
            let mut bytes = Vec::new();
            connect_packet("c", options(version)).encode(&mut bytes);
            assert_eq!(first_bytes(&bytes), (vec![], true), "{topic}");
        }
    }
}

/// [MQTT-4.7.3-1], [MQTT-3.3.2-14]: no answer goes to what is no topic, in a will as in PUBLISH.
#[test]
fn a_will_that_asks_for_an_answer_to_what_is_no_topic_is_refused() {
    for topic in ["", "a/+", "#"] {
        let properties = PublishProperties { response_topic: Some(topic), ..PublishProperties::default() };
        let will = Will { topic: "w", properties, ..Will::default() };
        let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) };
        refused(open_config(), "c", options, ReasonCode::ProtocolError);
    }
}

/// 3.1.3.2.3: 0x99, as for a PUBLISH.
#[test]
fn a_will_that_is_not_the_text_it_says_it_is_is_refused() {
    let properties = PublishProperties { payload_is_utf8: Some(true), ..PublishProperties::default() };
    let will = |payload| Some(Will { topic: "w", payload, properties, ..Will::default() });
    let options = |payload| ConnectOptions { will: will(payload), ..ConnectOptions::clean(V5) };
    refused(open_config(), "c", options(b"\xFF"), ReasonCode::PayloadFormatInvalid);
    let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
    Client::connect(&mut world, 0, "c", options("Grüße".as_bytes()));
}

/// lifecycle.md 4: 0x95, as soon as the length is known; older clients, and those of whom nothing else is known, are closed.
#[test]
fn a_connect_that_is_too_large_is_refused() {
    let config = || {
        let mut config = open_config();
        config.limits.max_packet_size = 64;
        config
    };
    let id = "x".repeat(64);
    refused(config(), &id, ConnectOptions::clean(V5), ReasonCode::PacketTooLarge);
    refused(config(), &id, ConnectOptions::clean(V311), None);
    refused(config(), &id, ConnectOptions::clean(V31), None);
    assert_eq!(first_bytes(b"\x10\xFF\xFF\xFF\x7F"), (vec![], true));
    let too_large = b"\x10\xFF\xFF\xFF\x7F\0\x04MQTT\x05";
    let connack = vec![0x20, 3, 0, 0x95, 0];
    assert_eq!(first_bytes(too_large), (connack.clone(), true));
    for cut in 1..5 {
        let (header, rest) = too_large.split_at(cut);
        assert_eq!(first_pieces(&[header, rest]), (connack.clone(), true), "after {cut} bytes");
    }
}

/// [MQTT-3.1.0-1]: the first packet must be a CONNECT; any other closes the connection without an answer.
#[test]
fn a_first_packet_other_than_connect_closes_the_connection() {
    for first in [1..=15_u8].into_iter().flatten().filter(|number| *number != 1) {
        for flags in 0..16 {
            for body in [&[0][..], &[2, 0, 0], &[4, 0, 1, b'a', 0]] {
                let bytes = [&[first << 4 | flags], body].concat();
                assert_eq!(first_bytes(&bytes), (vec![], true), "{bytes:?}");
            }
        }
    }
    assert_eq!(first_bytes(b"GET / HTTP/1.1\r\n\r\n"), (vec![], true));
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_is_a_protocol_error() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            for second in [Connect::new(version, "c"), Connect::new(V5, "other"), Connect::new(V311, "")] {
                let mut client = Client::clean(&mut world, "c", version);
                client.send(&mut world, &Packet::Connect(second));
                assert_eq!(client.received(&mut world), disconnected(version, ReasonCode::ProtocolError));
                assert!(world.is_closed(client.socket));
            }
            // Not even one that cannot be read is answered with a code that DISCONNECT does not have.
            let mut client = Client::clean(&mut world, "c", version);
            world.send(client.socket, b"\x10\x0D\x00\x04MQTT\x09\x02\x00\x00\x00\x00\x01c");
            assert_eq!(client.received(&mut world), disconnected(version, ReasonCode::ProtocolError));
        }
    }
}

/// lifecycle.md 3.1: a CONNECT must be complete within `connect_timeout`, in however many pieces it comes.
#[test]
fn a_connect_that_takes_too_long_is_given_up() {
    let bytes = connect_bytes(&"x".repeat(60), ConnectOptions::clean(V311));
    for mut world in worlds() {
        let silent = world.connect(0);
        let dripping = world.connect(0);
        for byte in bytes.iter().take(48) {
            world.advance(Duration::from_millis(100));
            world.send(dripping, &[*byte]);
        }
        assert!(!world.is_closed(silent) && !world.is_closed(dripping), "4.8 seconds are not too long");
        world.advance(Duration::from_millis(300));
        assert!(world.is_closed(silent) && world.is_closed(dripping));
        let patient = Client::clean(&mut world, "c", V311);
        world.advance(Duration::from_secs(60));
        assert!(!world.is_closed(patient.socket), "the time-out ends with CONNECT");
    }
}

#[test]
fn a_connect_may_be_split_anywhere_and_other_packets_follow_at_once() {
    for mut world in worlds() {
        for shard in 0..world.shards.len() {
            let id = id_owned_by(&world, shard, "split");
            for version in ProtocolVersion::ALL {
                let mut bytes = connect_bytes(&id, ConnectOptions::clean(version));
                let connect = bytes.len();
                Packet::Pingreq.encode(version, &mut bytes);
                Packet::Pingreq.encode(version, &mut bytes);
                for cut in 0..bytes.len() {
                    let mut client = Client::open(&mut world, 0, version);
                    world.send(client.socket, &bytes[..cut]);
                    assert_eq!(client.received(&mut world).is_empty(), cut < connect);
                    world.send(client.socket, &bytes[cut..]);
                    let before = if cut < connect + 2 { 2 } else { 1 };
                    assert_eq!(client.received(&mut world)[usize::from(cut < connect)..], vec![Got::Pingresp; before]);
                    world.hang_up(client.socket);
                }
                let mut client = Client::open(&mut world, 0, version);
                for byte in &bytes {
                    world.send(client.socket, &[*byte]);
                }
                assert_eq!(client.received(&mut world)[1..], [Got::Pingresp, Got::Pingresp]);
                world.hang_up(client.socket);
            }
        }
    }
}

/// lifecycle.md 3.10: what the client pipelined behind CONNECT is processed without waiting for more input, also on the way
/// to another shard.
#[test]
fn bytes_behind_connect_follow_the_client_to_its_shard() {
    for mut world in worlds() {
        for shard in 0..world.shards.len() {
            let id = id_owned_by(&world, shard, "pipelining");
            let mut client = Client::open(&mut world, 0, V311);
            let mut bytes = connect_bytes(&id, ConnectOptions::clean(V311));
            bytes.extend(b"\x82\x06\x00\x01\x00\x01t\x01\x32\x07\x00\x01t\x00\x05hi");
            world.send_quietly(client.socket, &bytes);
            world.send_quietly(client.socket, b"\x32\x07\x00\x01t\x00\x06ho\xC0");
            world.settle();
            world.send(client.socket, b"\x00");
            let received = client.received(&mut world);
            assert_eq!(world.shard_of(client.socket), Some(shard));
            let kinds: Vec<_> = received.iter().filter(|got| !matches!(got, Got::Publish(_))).cloned().collect();
            let ack = |id| Got::Ack(moormq::codec::AckKind::Puback, id, ReasonCode::Success);
            let connack = Got::Connack { present: false, code: ReasonCode::Success };
            let suback = Got::Suback(1, vec![ReasonCode::GrantedQoS1]);
            assert_eq!(kinds, [connack, suback, ack(5), ack(6), Got::Pingresp], "owner {shard}");
            assert_eq!(received.len(), 7, "both publishes came back");
        }
    }
}

/// lifecycle.md 3: `takeover_limit`, for sessions that are kept and for such as end with every takeover.
#[test]
fn a_fight_for_one_client_id_ends_at_the_takeover_limit() {
    let limited = || config(|config| config.session.takeover_limit = Some(3));
    for mut world in worlds_with(limited) {
        for (options, id) in [
            (ConnectOptions::kept(V5), "kept"),
            (ConnectOptions::clean(V5), "clean"),
            (ConnectOptions::kept(V311), "old"),
        ] {
            let mut last = Client::connect(&mut world, 0, id, options).0;
            for _ in 0..3 {
                let newcomer = Client::connect(&mut world, 0, id, options).0;
                assert!(world.is_closed(last.socket));
                last = newcomer;
            }
            let mut refused = Client::send_connect(&mut world, 0, id, options);
            let code = match options.version {
                ProtocolVersion::V5 => ReasonCode::ConnectionRateExceeded,
                _ => ReasonCode::ServerUnavailable,
            };
            assert_eq!(refused.received(&mut world), [Got::Connack { present: false, code }], "{id}");
            assert!(world.is_closed(refused.socket) && !world.is_closed(last.socket));
            world.advance(Duration::from_secs(61));
            Client::connect(&mut world, 0, id, options);
            assert!(world.is_closed(last.socket), "a new window");
        }
    }
}

#[test]
fn coming_back_after_a_clean_end_is_no_takeover() {
    let limited = || config(|config| config.session.takeover_limit = Some(1));
    for mut world in worlds_with(limited) {
        for _ in 0..10 {
            let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V311));
            client.disconnect(&mut world);
        }
    }
}

/// The limit is that of all shards together, however their clients are spread.
#[test]
fn sessions_are_limited_in_number() {
    let limited = || config(|config| config.limits.max_sessions = moormq::config::Limit::at_most(3));
    for mut world in worlds_with(limited) {
        let full = world.shards.len() - 1;
        // All of it on one shard; a kept session counts while its client is away.
        let [a, d, e] = [("a", full), ("d", 0), ("e", full)].map(|(name, shard)| id_owned_by(&world, shard, name));
        let (first, _) = Client::connect(&mut world, 0, &a, ConnectOptions::kept(V5));
        first.disconnect(&mut world);
        Client::on(&mut world, full, "b", ConnectOptions::clean(V5));
        let third = Client::on(&mut world, full, "c", ConnectOptions::clean(V311));
        for (version, code) in [(V5, ReasonCode::QuotaExceeded), (V311, ReasonCode::ServerUnavailable)] {
            let mut refused = Client::send_connect(&mut world, 0, &d, ConnectOptions::clean(version));
            assert_eq!(refused.received(&mut world), [Got::Connack { present: false, code }]);
        }
        // Who has a session may come back, anew or not, as often as he likes.
        for options in [ConnectOptions::kept(V5), ConnectOptions::clean(V5), ConnectOptions::kept(V5)] {
            Client::connect(&mut world, 0, &a, options);
        }
        // There is room when one has gone, for one.
        third.disconnect(&mut world);
        Client::connect(&mut world, 0, &d, ConnectOptions::clean(V5));
        let mut refused = Client::send_connect(&mut world, 0, &e, ConnectOptions::clean(V5));
        let code = ReasonCode::QuotaExceeded;
        assert_eq!(refused.received(&mut world), [Got::Connack { present: false, code }]);
    }
}

/// A session that moves is one session all the time.
#[test]
fn a_session_that_moves_is_counted_once() {
    let limited = || config(|config| config.limits.max_sessions = moormq::config::Limit::at_most(2));
    for shards in [2, 4] {
        let mut world = World::new(shards, limited(), || moormq::hooks::NoHooks);
        let id = id_owned_by(&world, 0, "mover");
        let mover = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        for to in (0..shards).rev() {
            let slot = moormq::sharding::slot_of(&SubscriberId::new("", id.as_str()), SEED);
            for shard in 0..shards {
                world.request(shard, moormq::shard::Request::MoveSlots { slots: vec![slot], to });
            }
            let other = Client::clean(&mut world, "other", V311);
            let mut refused = Client::send_connect(&mut world, 0, "third", ConnectOptions::clean(V5));
            assert!(matches!(refused.received(&mut world)[..], [Got::Connack { code: ReasonCode::QuotaExceeded, .. }]));
            other.disconnect(&mut world);
        }
        mover.disconnect(&mut world);
    }
}

/// lifecycle.md 5: every refusal comes before anything of a session is touched.
#[test]
fn a_refused_connect_leaves_the_live_connection_alone() {
    for mut world in worlds() {
        let mut live = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5)).0;
        let will = ConnectOptions { will: Some(Will { topic: "a/#", ..Will::default() }), ..ConnectOptions::kept(V5) };
        Client::send_connect(&mut world, 0, "c", will);
        live.send(&mut world, &Packet::Pingreq);
        assert_eq!(live.received(&mut world), [Got::Pingresp]);
    }
}

#[test]
fn a_connection_that_ends_before_or_amid_its_connect_leaves_nothing_behind() {
    let bytes = connect_bytes("c", ConnectOptions::clean(V5));
    for mut world in worlds() {
        for cut in 0..bytes.len() {
            let socket: Socket = world.connect(0);
            world.send(socket, &bytes[..cut]);
            world.hang_up(socket);
        }
        let (_, present) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V5));
        assert!(!present);
    }
}

/// A CONNECT on a connection that was accepted like this: the code of its CONNACK.
fn answer_to(world: &mut World<moormq::hooks::NoHooks>, version: ProtocolVersion, admission: Admission) -> ReasonCode {
    let shard = world.shards.len() - 1;
    let socket = world.connect_to(shard, 0, admission);
    let mut client = Client::at(socket, version);
    world.send(socket, &connect_bytes("c", ConnectOptions::clean(version)));
    match client.received(world)[..] {
        [Got::Connack { code, .. }] => code,
        ref received => panic!("{received:?}"),
    }
}

/// lifecycle.md 4: quota 0x97, connection rate 0x9F; code 3 for older clients.
#[test]
fn a_listener_that_is_full_or_overrun_says_so() {
    for mut world in worlds() {
        for version in [V31, V311, V5] {
            let or = |code| if version == V5 { code } else { ReasonCode::ServerUnavailable };
            assert_eq!(answer_to(&mut world, version, Admission::Admitted), ReasonCode::Success);
            assert_eq!(answer_to(&mut world, version, Admission::Full), or(ReasonCode::QuotaExceeded));
            assert_eq!(answer_to(&mut world, version, Admission::TooFast), or(ReasonCode::ConnectionRateExceeded));
        }
    }
}

/// What is closed at once, because there is no place even to refuse it, is not gone without a trace.
#[test]
fn who_is_closed_at_once_is_counted() {
    let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
    let peer = "192.0.2.1:1883".parse().expect("an address");
    (0..3).for_each(|_| world.handle(0, Input::TurnedAway { listener: 0, peer }));
    let counters = world.shards[0].report().counters;
    assert_eq!((counters.accepted, counters.refused), (3, 3));
}
