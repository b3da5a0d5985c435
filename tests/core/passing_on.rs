//! Properties, expiry, aliases and sizes of messages. MQTT 5.0 sections 3.3.2.3 and 3.1.2.11.

use std::time::Duration;

use moormq::codec::{AckKind, Publish, PublishProperties, QoS, ReasonCode, Will};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, V311, acked, disconnected, publish};
use crate::received::Got;
use crate::world::{World, config, open_config, worlds, worlds_with};

/// A subscriber to `#` on the last shard, which connects with `hello`.
fn subscriber(world: &mut World<NoHooks>, options: ConnectOptions<'_>) -> Client {
    let last = world.shards.len() - 1;
    let mut client = Client::on(world, last, "subscriber", options);
    client.subscribed(world, "#", QoS::AtLeastOnce);
    client
}

fn with<'a>(topic: &'a str, qos: QoS, properties: PublishProperties<'a>) -> Publish<'a> {
    Publish { properties, ..publish(topic, "x", qos, 1) }
}

fn alias(number: u16) -> PublishProperties<'static> {
    PublishProperties { topic_alias: Some(number), ..PublishProperties::default() }
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
#[test]
fn properties_are_passed_on_unchanged_and_in_order() {
    let pairs: Vec<_> =
        [("b", "1"), ("a", "2"), ("b", "3"), ("", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    let properties = PublishProperties {
        payload_is_utf8: Some(true),
        response_topic: Some("answer/here"),
        correlation_data: Some(&[0, 1, 255]),
        content_type: Some("text/plain"),
        user: (&pairs[..]).into(),
        ..PublishProperties::default()
    };
    for mut world in worlds() {
        let mut live = subscriber(&mut world, ConnectOptions::clean(V5));
        let last = world.shards.len() - 1;
        let kept = Client::on(&mut world, last, "kept", ConnectOptions::kept(V5));
        kept.send(&mut world, &subscribe_all());
        world.hang_up(kept.socket);
        let old = Client::clean(&mut world, "old", V311);
        old.send(&mut world, &subscribe_all());
        let publisher = Client::clean(&mut world, "publisher", V5);
        // Those that end here stand between them.
        let more = PublishProperties { topic_alias: Some(1), message_expiry: Some(50), ..properties };
        for properties in [properties, more] {
            publisher.publish_with(&mut world, with("t", QoS::AtLeastOnce, properties));
        }
        publisher.publish_with(&mut world, Publish { retain: true, ..with("t", QoS::AtMostOnce, properties) });
        let will = Will { topic: "t", payload: b"x", properties, ..Will::default() };
        let dying =
            Client::connect(&mut world, 0, "dying", ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) }).0;
        world.hang_up(dying.socket);
        let received = live.publishes(&mut world);
        assert_eq!(received.len(), 4);
        for (at, received) in received.iter().enumerate() {
            let expiry = (at == 1).then_some(50);
            assert_eq!(
                received.properties,
                PublishProperties { message_expiry: expiry, block: received.properties.block, ..properties }
            );
        }
        let received = Client::on(&mut world, last, "kept", ConnectOptions::kept(V5)).publishes(&mut world);
        assert_eq!(received.len(), 2);
        assert_eq!((received[0].properties, received[0].payload.as_slice()), (properties, &b"x"[..]));
        let mut late = Client::clean(&mut world, "late", V5);
        late.send(&mut world, &subscribe_all());
        assert_eq!(late.publishes(&mut world)[0].properties, properties, "retained");
    }
}

fn subscribe_all() -> moormq::codec::Packet<'static> {
    use moormq::codec::{Packet, Subscribe, SubscribeFilter, SubscriptionOptions};
    const ALL: [SubscribeFilter<'static>; 1] =
        [SubscribeFilter { filter: "#", options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
    Packet::Subscribe(Subscribe::new(crate::client::packet_id(1), &ALL[..]))
}

/// A packet that comes in pieces is shared by those who receive it in the memory in which it was put together.
#[test]
fn large_messages_that_come_in_pieces_are_passed_on_whole() {
    let large = |number: u8| (0..100_000_u32).map(|at| (at / 256 + at) as u8 ^ number).collect::<Vec<u8>>();
    let sent: Vec<Vec<u8>> = (0..6).map(large).collect();
    for piece in [700, 16 * 1024, 150_000] {
        for mut world in worlds() {
            let mut live = subscriber(&mut world, ConnectOptions::clean(V5));
            let old = Client::clean(&mut world, "old", V311);
            old.send(&mut world, &subscribe_all());
            let last = world.shards.len() - 1;
            let kept = Client::on(&mut world, last, "kept", ConnectOptions::kept(V5));
            kept.send(&mut world, &subscribe_all());
            world.hang_up(kept.socket);
            let publisher = Client::clean(&mut world, "publisher", V5);
            let mut bytes = Vec::new();
            for (number, payload) in sent.iter().enumerate() {
                // With a topic alias the topic of the others is not in their packets.
                let properties = PublishProperties { content_type: Some("x"), ..alias(1) };
                let topic = if number == 0 { "t" } else { "" };
                let publish = Publish { payload, retain: number == 5, ..with(topic, QoS::AtLeastOnce, properties) };
                moormq::codec::Packet::Publish(publish).encode(V5, &mut bytes);
            }
            bytes.chunks(piece).for_each(|piece| world.send(publisher.socket, piece));
            let mut kept = Client::on(&mut world, last, "kept", ConnectOptions::kept(V5));
            for (client, content_type) in [(&mut live, Some("x")), (&mut { old }, None), (&mut kept, Some("x"))] {
                let received = client.publishes(&mut world);
                assert_eq!(received.len(), sent.len());
                for (received, sent) in received.iter().zip(&sent) {
                    assert!(received.payload == *sent && received.topic == "t");
                    assert_eq!(received.properties.content_type, content_type);
                }
            }
            let mut late = Client::clean(&mut world, "late", V5);
            late.send(&mut world, &subscribe_all());
            assert!(late.publishes(&mut world)[0].payload == sent[5], "retained");
        }
    }
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
#[test]
fn a_message_that_waits_expires_or_goes_out_with_the_time_that_is_left() {
    for mut world in worlds() {
        let client = subscriber(&mut world, ConnectOptions::kept(V5));
        world.hang_up(client.socket);
        let publisher = Client::clean(&mut world, "publisher", V5);
        for seconds in [5, 20, u32::MAX] {
            let expiry = PublishProperties { message_expiry: Some(seconds), ..PublishProperties::default() };
            let payload = seconds.to_string();
            let packet = Publish { payload: payload.as_bytes(), ..with("t", QoS::AtLeastOnce, expiry) };
            publisher.publish_with(&mut world, packet);
        }
        world.advance(Duration::from_millis(7500));
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "subscriber", ConnectOptions::kept(V5));
        let left: Vec<_> =
            client.publishes(&mut world).iter().map(|received| received.properties.message_expiry).collect();
        assert_eq!(left, [Some(13), Some(u32::MAX - 7)], "rounded up");
        let dropped: u64 = world.shards.iter().map(|shard| shard.counters().dropped.iter().sum::<u64>()).sum();
        assert_eq!(dropped, 1);
    }
}

#[test]
fn a_retained_message_expires_too() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        let expiry = PublishProperties { message_expiry: Some(10), ..PublishProperties::default() };
        let packet = Publish { retain: true, ..with("t", QoS::AtMostOnce, expiry) };
        publisher.publish_with(&mut world, packet);
        world.advance(Duration::from_secs(4));
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "subscriber", ConnectOptions::clean(V5));
        client.subscribe(&mut world, "t", QoS::AtMostOnce);
        assert_eq!(client.publishes(&mut world)[0].properties.message_expiry, Some(6));
        world.advance(Duration::from_secs(7));
        client.subscribe(&mut world, "t", QoS::AtMostOnce);
        assert_eq!(client.publishes(&mut world), []);
    }
}

/// A message that is expired makes room in a full queue.
#[test]
fn expired_messages_free_their_place() {
    for mut world in
        worlds_with(|| config(|config| config.queue.max_offline_messages = moormq::config::Limit::at_most(2)))
    {
        let client = subscriber(&mut world, ConnectOptions::kept(V5));
        world.hang_up(client.socket);
        let publisher = Client::clean(&mut world, "publisher", V5);
        let expiry = PublishProperties { message_expiry: Some(1), ..PublishProperties::default() };
        publisher.publish_with(&mut world, with("t", QoS::AtLeastOnce, expiry));
        publisher.publish_with(&mut world, with("t", QoS::AtLeastOnce, expiry));
        world.advance(Duration::from_secs(2));
        for payload in ["a", "b", "c"] {
            publisher.publish(&mut world, "t", payload, QoS::AtLeastOnce, 1);
        }
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "subscriber", ConnectOptions::kept(V5));
        assert_eq!(client.texts(&mut world), ["a", "b"]);
    }
}

/// Section 3.3.2.3.4: an alias stands for its topic on this connection, and can be set anew.
#[test]
fn an_alias_of_the_client_stands_for_its_topic() {
    for mut world in worlds() {
        let mut client = subscriber(&mut world, ConnectOptions::clean(V311));
        let publisher = Client::clean(&mut world, "publisher", V5);
        for (topic, number) in [("a", 1), ("b", 32), ("", 1), ("", 32), ("c", 1), ("", 1)] {
            publisher.publish_with(&mut world, with(topic, QoS::AtMostOnce, alias(number)));
        }
        publisher.publish_with(&mut world, Publish { retain: true, ..with("", QoS::AtMostOnce, alias(1)) });
        let topics: Vec<_> = client.publishes(&mut world).into_iter().map(|received| received.topic).collect();
        assert_eq!(topics, ["a", "b", "a", "b", "c", "c", "c"]);
        publisher.disconnect(&mut world);
        // [MQTT-3.3.2-7]: not on the next one.
        let mut publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish_with(&mut world, with("", QoS::AtMostOnce, alias(1)));
        assert_eq!(publisher.received(&mut world), [Got::Disconnect(ReasonCode::ProtocolError)]);
    }
}

/// [MQTT-3.3.2-8], [MQTT-3.3.2-9]
#[test]
fn an_alias_that_is_not_allowed_ends_the_connection() {
    let invalid = ReasonCode::TopicAliasInvalid;
    for (topic, number, code) in
        [("a", 33, invalid), ("", 33, invalid), ("a", 0xFFFF, invalid), ("", 7, ReasonCode::ProtocolError)]
    {
        let mut world = World::new(2, open_config(), || NoHooks);
        let mut client = Client::clean(&mut world, "c", V5);
        client.publish_with(&mut world, with(topic, QoS::AtMostOnce, alias(number)));
        assert_eq!(client.received(&mut world), [Got::Disconnect(code)]);
    }
    let mut world = World::new(1, open_config(), || NoHooks);
    let mut client = Client::clean(&mut world, "c", V5);
    world.send(client.socket, &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0]);
    assert_eq!(client.received(&mut world), [Got::Disconnect(invalid)], "zero");
    let mut world = World::new(1, config(|config| config.limits.topic_alias_maximum = 0), || NoHooks);
    let mut client = Client::clean(&mut world, "c", V5);
    client.publish_with(&mut world, with("a", QoS::AtMostOnce, alias(1)));
    assert_eq!(client.received(&mut world), [Got::Disconnect(invalid)], "none were offered");
}

/// [MQTT-3.1.2-26], [MQTT-3.1.2-27]
#[test]
fn the_broker_uses_no_more_aliases_than_the_client_takes() {
    for mut world in worlds() {
        for most in [0, 1, 3] {
            let options = ConnectOptions::clean(V5).with(|properties| properties.topic_alias_maximum = most);
            let mut client = subscriber(&mut world, options);
            let publisher = Client::clean(&mut world, "publisher", V311);
            let topics = ["a", "b", "c", "d"];
            for topic in topics.iter().cycle().take(16) {
                publisher.publish(&mut world, topic, "x", QoS::AtMostOnce, 0);
            }
            let received = client.publishes(&mut world);
            let expected: Vec<_> = topics.iter().cycle().take(16).map(|topic| (*topic).to_owned()).collect();
            assert_eq!(received.iter().map(|received| received.topic.clone()).collect::<Vec<_>>(), expected);
            let aliases: std::collections::BTreeSet<_> =
                received.iter().filter_map(|received| received.properties.topic_alias).collect();
            assert_eq!(aliases, (1..=most).collect());
            let used = received.iter().filter(|received| received.by_alias).count();
            assert_eq!(used, usize::from(most) * 2, "the third time and the fourth");
            client.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: what is too large is dropped as if it had been delivered, and what follows is not.
#[test]
fn nothing_larger_than_the_client_takes_is_sent() {
    for mut world in worlds() {
        for (most, aliases) in [(40, 0), (40, 8)] {
            let options = ConnectOptions::kept(V5).with(|properties| {
                properties.maximum_packet_size = Some(most);
                properties.topic_alias_maximum = aliases;
            });
            let last = world.shards.len() - 1;
            let mut client = Client::on(&mut world, last, "small", options);
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            let publisher = Client::clean(&mut world, "publisher", V5);
            let mut expected = Vec::new();
            for round in 0..3 {
                for length in 20..50 {
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][length % 3];
                    let payload = "x".repeat(length);
                    publisher.publish(&mut world, "t", &payload, qos, 1);
                    publisher.ack(&mut world, AckKind::Pubrel, 1);
                    // Fixed header, topic, property length, packet id.
                    let size = 2 + 3 + 1 + length + if qos == QoS::AtMostOnce { 0 } else { 2 };
                    // By an alias a little more would fit, but what the message is by itself decides.
                    if size <= most as usize {
                        expected.push(length);
                    }
                }
                let received = client.publishes(&mut world);
                assert_eq!(
                    received.iter().map(|received| received.payload.len()).collect::<Vec<_>>(),
                    expected,
                    "round {round}"
                );
                assert!(client.longest <= most as usize);
                expected.clear();
                for received in received {
                    match (received.qos, received.id) {
                        (QoS::AtLeastOnce, Some(id)) => client.ack(&mut world, AckKind::Puback, id),
                        (QoS::ExactlyOnce, Some(id)) => {
                            client.ack(&mut world, AckKind::Pubrec, id);
                            client.ack(&mut world, AckKind::Pubcomp, id);
                        }
                        _ => {}
                    }
                }
                client.received(&mut world);
            }
            // In flight under a larger maximum, and too large when the client comes back.
            world.hang_up(client.socket);
            let roomy = ConnectOptions::kept(V5);
            let client = Client::on(&mut world, last, "small", roomy);
            publisher.publish(&mut world, "t", &"y".repeat(100), QoS::AtLeastOnce, 1);
            publisher.publish(&mut world, "t", "short", QoS::AtLeastOnce, 1);
            world.hang_up(client.socket);
            let mut client = Client::on(&mut world, last, "small", options);
            assert_eq!(client.texts(&mut world), ["short"]);
            client.leave(
                &mut world,
                moormq::codec::Disconnect {
                    session_expiry: Some(0),
                    ..moormq::codec::Disconnect::new(ReasonCode::Success)
                },
            );
        }
    }
}

/// lifecycle.md 4: 0x95; older clients are closed.
#[test]
fn nothing_larger_than_the_limit_is_taken() {
    for mut world in worlds_with(|| config(|config| config.limits.max_packet_size = 100)) {
        for version in [V311, V5] {
            let head = if version == V5 { 6 } else { 5 };
            let mut client = Client::clean(&mut world, "c", version);
            client.publish(&mut world, "t", &"x".repeat(100 - head - 2), QoS::AtLeastOnce, 1);
            let received = client.received(&mut world);
            assert!(matches!(received[..], [Got::Ack(AckKind::Puback, 1, _)]), "{received:?}");
            // The length alone decides.
            world.send(client.socket, &[0x30, 99]);
            assert_eq!(client.received(&mut world), disconnected(version, ReasonCode::PacketTooLarge));
            assert!(world.is_closed(client.socket));
        }
    }
}

/// Payloads that are spliced into the output are as good as those that are copied.
#[test]
fn large_payloads_arrive_whole_and_in_order_with_small_ones() {
    for mut world in worlds() {
        let mut clients = [ConnectOptions::clean(V5), ConnectOptions::kept(V311)].map(|options| {
            let mut client = Client::on(&mut world, 0, &format!("c{:?}", options.version), options);
            client.subscribed(&mut world, "t", QoS::AtLeastOnce);
            client
        });
        let publisher = Client::clean(&mut world, "publisher", V5);
        let splice = moormq::connection::SPLICE_FROM;
        let sizes = [0, 1, splice - 1, splice, splice + 1, 5, 300_000, 2, 70_000];
        for (at, size) in sizes.into_iter().enumerate() {
            let payload = char::from(b'a' + at as u8).to_string().repeat(size);
            for client in &clients {
                world.stick(client.socket, at % 3 == 0);
            }
            publisher.publish(&mut world, "t", &payload, [QoS::AtMostOnce, QoS::AtLeastOnce][at % 2], 1);
        }
        for client in &mut clients {
            world.stick(client.socket, false);
            let received = client.publishes(&mut world);
            assert_eq!(received.iter().map(|received| received.payload.len()).collect::<Vec<_>>(), sizes);
            for (at, received) in received.iter().enumerate() {
                assert!(received.payload.iter().all(|byte| *byte == b'a' + at as u8));
            }
        }
    }
}

/// MQTT 3 has no properties: they are left out, and the expiry is kept to all the same.
#[test]
fn older_clients_get_the_message_without_its_properties() {
    for mut world in worlds() {
        let mut client = subscriber(&mut world, ConnectOptions::clean(V311));
        let mut publisher = Client::clean(&mut world, "publisher", V5);
        let properties = PublishProperties { message_expiry: Some(9), content_type: Some("x"), ..Default::default() };
        publisher.publish_with(&mut world, with("t", QoS::AtLeastOnce, properties));
        assert_eq!(client.publishes(&mut world)[0].properties, PublishProperties::default());
        assert_eq!(publisher.received(&mut world), [acked(AckKind::Puback, 1)]);
    }
}

/// [MQTT-3.3.2-4]: what says it is UTF-8 has to be. At QoS 1 and 2 the acknowledgement has the code. At QoS 0 the
/// connection ends, since there is no acknowledgement.
#[test]
fn a_payload_is_what_it_says_it_is() {
    for mut world in worlds() {
        let mut client = subscriber(&mut world, ConnectOptions::clean(V311));
        let mut publisher = Client::clean(&mut world, "publisher", V5);
        let properties = PublishProperties { payload_is_utf8: Some(true), ..Default::default() };
        for (qos, kind) in [(QoS::AtLeastOnce, AckKind::Puback), (QoS::ExactlyOnce, AckKind::Pubrec)] {
            publisher.publish_with(&mut world, Publish { payload: b"\xff", ..with("t", qos, properties) });
            let refused = Got::Ack(kind, 1, ReasonCode::PayloadFormatInvalid);
            assert_eq!(publisher.received(&mut world), [refused]);
        }
        publisher.publish_with(&mut world, with("t", QoS::AtLeastOnce, properties));
        assert_eq!(client.publishes(&mut world).len(), 1, "only what is as it says");
        publisher.received(&mut world);
        publisher.publish_with(&mut world, Publish { payload: b"\xff", ..with("t", QoS::AtMostOnce, properties) });
        assert_eq!(publisher.received(&mut world), [Got::Disconnect(ReasonCode::PayloadFormatInvalid)]);
    }
}
