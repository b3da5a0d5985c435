//! PUBLISH and its acknowledgements in both directions: MQTT 5.0 sections 3.3 to 3.7 and 4.3 to 4.9, lifecycle.md section 4.

use std::time::Duration;

use moormq::codec::{AckKind::*, ProtocolVersion, Publish, QoS, ReasonCode};

use crate::client::{Client, ConnectOptions, QOS, V5, V31, V311, acked, disconnected, publish};
use crate::received::{Got, ReceivedPublish};
use crate::world::{World, config, open_config, worlds, worlds_with};

/// A subscriber to `t` on the last shard and a publisher on the first.
fn pair<C: moormq::hooks::Chain>(
    world: &mut World<C>,
    subscriber: ConnectOptions<'_>,
    publisher: ProtocolVersion,
) -> (Client, Client) {
    let last = world.shards.len() - 1;
    let mut subscriber = Client::on(world, last, "subscriber", subscriber);
    subscriber.subscribed(world, "t", QoS::ExactlyOnce);
    (subscriber, Client::on(world, 0, "publisher", ConnectOptions::clean(publisher)))
}

fn ids(received: &[ReceivedPublish]) -> Vec<u16> {
    received.iter().map(|received| received.id.expect("QoS 1 and 2 have packet ids")).collect()
}

/// [MQTT-3.3.5-1]: the lower of the QoS of publication and subscription, for every pair of versions.
#[test]
fn a_message_arrives_at_the_lower_qos_and_is_acknowledged_at_its_own() {
    for mut world in worlds() {
        for (from, to) in ProtocolVersion::ALL.into_iter().flat_map(|from| ProtocolVersion::ALL.map(|to| (from, to))) {
            for (published, subscribed) in QOS.into_iter().flat_map(|a| QOS.map(|b| (a, b))) {
                let last = world.shards.len() - 1;
                let mut subscriber = Client::on(&mut world, last, "subscriber", ConnectOptions::clean(to));
                subscriber.subscribed(&mut world, "t", subscribed);
                let mut publisher = Client::clean(&mut world, "publisher", from);
                publisher.publish(&mut world, "t", "hi", published, 9);
                let expected = match published {
                    QoS::AtMostOnce => vec![],
                    QoS::AtLeastOnce => vec![acked(Puback, 9)],
                    QoS::ExactlyOnce => vec![acked(Pubrec, 9)],
                };
                assert_eq!(publisher.received(&mut world), expected);
                let received = subscriber.publishes(&mut world);
                assert_eq!(received.len(), 1);
                assert_eq!(
                    (received[0].qos, received[0].dup, received[0].retain),
                    (published.min(subscribed), false, false)
                );
                subscriber.disconnect(&mut world);
                publisher.disconnect(&mut world);
            }
        }
    }
}

/// [MQTT-4.3.3-10], [MQTT-4.3.3-11]: until PUBREL the same id is the same message, after it another one.
#[test]
fn an_incoming_qos_2_id_stands_for_one_message_until_it_is_released() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let (mut subscriber, mut publisher) = pair(&mut world, ConnectOptions::clean(V5), version);
            publisher.publish(&mut world, "t", "one", QoS::ExactlyOnce, 3);
            publisher.publish_with(&mut world, Publish { dup: true, ..publish("t", "one", QoS::ExactlyOnce, 3) });
            publisher.ack(&mut world, Pubrel, 3);
            publisher.publish(&mut world, "t", "two", QoS::ExactlyOnce, 3);
            publisher.ack(&mut world, Pubrel, 3);
            let expected = [Pubrec, Pubrec, Pubcomp, Pubrec, Pubcomp].map(|kind| acked(kind, 3));
            assert_eq!(publisher.received(&mut world), expected);
            assert_eq!(subscriber.texts(&mut world), ["one", "two"]);
            publisher.disconnect(&mut world);
            subscriber.disconnect(&mut world);
        }
    }
}

#[test]
fn an_unknown_release_is_answered() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let mut client = Client::clean(&mut world, "c", version);
            client.ack(&mut world, Pubrel, 77);
            let code = if version == V5 { ReasonCode::PacketIdNotFound } else { ReasonCode::Success };
            assert_eq!(client.received(&mut world), [Got::Ack(Pubcomp, 77, code)]);
            client.ack(&mut world, Pubrec, 77);
            assert_eq!(client.received(&mut world), [Got::Ack(Pubrel, 77, code)], "or it would wait for ever");
            client.ack(&mut world, Puback, 77);
            client.ack(&mut world, Pubcomp, 77);
            assert_eq!(client.received(&mut world), []);
            assert!(!world.is_closed(client.socket));
        }
    }
}

#[test]
fn acknowledgements_of_the_wrong_handshake_are_protocol_errors() {
    for version in ProtocolVersion::ALL {
        for (qos, wrong) in [(QoS::AtLeastOnce, vec![Pubrec, Pubcomp]), (QoS::ExactlyOnce, vec![Puback, Pubcomp])] {
            for kind in wrong {
                let mut world = World::new(2, open_config(), || moormq::hooks::NoHooks);
                let (mut subscriber, publisher) = pair(&mut world, ConnectOptions::clean(version), V5);
                publisher.publish(&mut world, "t", "hi", qos, 1);
                let id = ids(&subscriber.publishes(&mut world))[0];
                subscriber.ack(&mut world, kind, id);
                assert_eq!(subscriber.received(&mut world), disconnected(version, ReasonCode::ProtocolError));
                assert!(world.is_closed(subscriber.socket));
            }
        }
    }
}

/// [MQTT-3.3.4-9]: no more than the client's Receive Maximum in flight, the rest follows in order.
#[test]
fn the_receive_maximum_of_the_client_bounds_what_is_in_flight() {
    for mut world in worlds() {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(3));
            let (mut subscriber, publisher) = pair(&mut world, options, V311);
            let sent: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
            for (at, payload) in sent.iter().enumerate() {
                publisher.publish(&mut world, "t", payload, qos, at as u16 + 1);
            }
            publisher.publish(&mut world, "t", "behind", QoS::AtMostOnce, 0);
            let mut received = subscriber.publishes(&mut world);
            assert_eq!(received.len(), 3);
            let mut payloads: Vec<_> = received.iter().map(|received| received.text().to_owned()).collect();
            while let Some(first) = received.first() {
                let id = first.id;
                received.remove(0);
                let Some(id) = id else { continue };
                match qos {
                    QoS::ExactlyOnce => {
                        subscriber.ack(&mut world, Pubrec, id);
                        assert_eq!(subscriber.received(&mut world), [acked(Pubrel, id)], "PUBREC makes no room");
                        subscriber.ack(&mut world, Pubcomp, id);
                    }
                    _ => subscriber.ack(&mut world, Puback, id),
                }
                let more = subscriber.publishes(&mut world);
                payloads.extend(more.iter().map(|received| received.text().to_owned()));
                received.extend(more);
                assert!(received.iter().filter(|received| received.id.is_some()).count() <= 3);
            }
            let expected: Vec<_> = sent.iter().map(String::as_str).chain(["behind"]).collect();
            assert_eq!(payloads, expected, "QoS 0 kept its place");
            subscriber.disconnect(&mut world);
        }
    }
}

#[test]
fn max_inflight_messages_bounds_what_is_in_flight_to_older_clients() {
    for mut world in worlds_with(|| config(|config| config.limits.max_inflight_messages = 2)) {
        for version in ProtocolVersion::ALL {
            let (mut subscriber, publisher) = pair(&mut world, ConnectOptions::clean(version), V311);
            for number in 1..=5 {
                publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, number);
            }
            assert_eq!(subscriber.publishes(&mut world).len(), 2);
            subscriber.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.3.4-7]: 0x93.
#[test]
fn a_client_that_exceeds_the_receive_maximum_is_disconnected() {
    let limited = || config(|config| config.limits.receive_maximum = 2);
    for mut world in worlds_with(limited) {
        for last in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut client = Client::clean(&mut world, "c", V5);
            for id in [1, 2] {
                client.publish(&mut world, "t", "x", QoS::ExactlyOnce, id);
            }
            client.publish(&mut world, "t", "x", QoS::ExactlyOnce, 2);
            client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
            client.ack(&mut world, Pubrel, 1);
            client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 3);
            client.publish(&mut world, "t", "x", QoS::ExactlyOnce, 4);
            let unmatched = ReasonCode::NoMatchingSubscribers;
            let rec = |id| Got::Ack(Pubrec, id, unmatched);
            let ack = Got::Ack(Puback, 3, unmatched);
            let repeated = acked(Pubrec, 2);
            let expected = [rec(1), rec(2), repeated, acked(Pubcomp, 1), ack, rec(4)];
            assert_eq!(client.received(&mut world), expected);
            client.publish(&mut world, "t", "x", last, 5);
            assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
            assert!(world.is_closed(client.socket));
        }
        // Older clients do not know this limit.
        let client = Client::clean(&mut world, "old", V311);
        for id in 1..100 {
            client.publish(&mut world, "t", "x", QoS::ExactlyOnce, id);
        }
        assert!(!world.is_closed(client.socket));
    }
}

/// [MQTT-2.2.1-3]: ids wrap, and one that is in use is skipped.
#[test]
fn packet_ids_wrap_and_skip_one_that_is_in_use() {
    let mut world = World::new(1, open_config(), || moormq::hooks::NoHooks);
    let (mut subscriber, publisher) = pair(&mut world, ConnectOptions::clean(V311), V311);
    let mut next = || {
        publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        let received = ids(&subscriber.publishes(&mut world));
        assert_eq!(received.len(), 1);
        received[0]
    };
    assert_eq!([next(), next(), next()], [1, 2, 3]);
    let in_use = 2;
    let mut last = 3;
    let ack = |world: &mut World<_>, subscriber: &mut Client, id| subscriber.ack(world, Puback, id);
    for id in [1, 3] {
        ack(&mut world, &mut subscriber, id);
    }
    for _ in 0..65_535 {
        publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        let received = subscriber.publishes(&mut world);
        let id = received[0].id.expect("QoS 1 has one");
        assert_ne!(id, in_use);
        assert_eq!(
            id,
            match last {
                65_535 => 1,
                1 => 3,
                last => last + 1,
            }
        );
        last = id;
        ack(&mut world, &mut subscriber, id);
    }
    ack(&mut world, &mut subscriber, in_use);
    world.hang_up(subscriber.socket);
}

/// [MQTT-4.6.0-6]: per publisher, topic and QoS the order is kept; here all come at one QoS.
#[test]
fn the_order_of_a_publisher_is_kept_across_shards() {
    for mut world in worlds() {
        for qos in QOS {
            let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(5));
            let (mut subscriber, publisher) = pair(&mut world, options, V311);
            let sent: Vec<String> = (1..=50).map(|number| number.to_string()).collect();
            for (at, payload) in sent.iter().enumerate() {
                let mut bytes = Vec::new();
                let packet = publish("t", payload, qos, at as u16 + 1);
                packet.encode(V311, &mut bytes);
                world.send_quietly(publisher.socket, &bytes);
            }
            world.settle();
            let mut payloads = Vec::new();
            loop {
                let received = subscriber.publishes(&mut world);
                if received.is_empty() {
                    break;
                }
                for received in received {
                    payloads.push(received.text().to_owned());
                    let Some(id) = received.id else { continue };
                    if qos == QoS::ExactlyOnce {
                        subscriber.ack(&mut world, Pubrec, id);
                    }
                    subscriber.ack(&mut world, if qos == QoS::ExactlyOnce { Pubcomp } else { Puback }, id);
                }
            }
            assert_eq!(payloads, sent);
            subscriber.disconnect(&mut world);
        }
    }
}

/// [MQTT-4.4.0-1], [MQTT-4.6.0-1]
#[test]
fn what_is_in_flight_is_sent_again_with_the_same_ids_in_the_same_order() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let (mut subscriber, publisher) = pair(&mut world, ConnectOptions::kept(version), V5);
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
            for (at, qos) in qos.into_iter().enumerate() {
                publisher.publish(&mut world, "t", &at.to_string(), qos, at as u16 + 1);
            }
            let first = subscriber.publishes(&mut world);
            let first_ids = ids(&first);
            subscriber.ack(&mut world, Pubrec, first_ids[1]);
            subscriber.ack(&mut world, Puback, first_ids[3]);
            assert_eq!(subscriber.received(&mut world), [acked(Pubrel, first_ids[1])]);
            world.hang_up(subscriber.socket);
            publisher.publish(&mut world, "t", "later", QoS::AtLeastOnce, 9);
            for _ in 0..3 {
                let last = world.shards.len() - 1;
                let mut again = Client::on(&mut world, last, "subscriber", ConnectOptions::kept(version));
                let received = again.received(&mut world);
                let expected: Vec<Got> = [0, 1, 2, 4]
                    .into_iter()
                    .map(|at| match at {
                        1 => acked(Pubrel, first_ids[1]),
                        at => Got::Publish(ReceivedPublish { dup: true, ..first[at].clone() }),
                    })
                    .collect();
                assert_eq!(received[..4], expected);
                let [Got::Publish(later)] = &received[4..] else { panic!("{received:?}") };
                assert_eq!(later.text(), "later");
                world.hang_up(again.socket);
            }
            // Not `later`, which was sent now, either: a session that is discarded forgets all of it.
            let last = world.shards.len() - 1;
            let mut anew = Client::on(&mut world, last, "subscriber", ConnectOptions::clean(version));
            assert_eq!(anew.received(&mut world), []);
            anew.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.3.4-9]: the Receive Maximum of the new connection holds for what is sent again, too.
#[test]
fn a_client_that_comes_back_with_a_smaller_receive_maximum_is_not_overrun() {
    for mut world in worlds() {
        let (mut subscriber, publisher) = pair(&mut world, ConnectOptions::kept(V5), V5);
        for number in 1..=6 {
            publisher.publish(&mut world, "t", &number.to_string(), QoS::AtLeastOnce, number);
        }
        assert_eq!(subscriber.publishes(&mut world).len(), 6);
        world.hang_up(subscriber.socket);
        publisher.publish(&mut world, "t", "7", QoS::AtLeastOnce, 7);
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(2));
        let last = world.shards.len() - 1;
        let mut again = Client::on(&mut world, last, "subscriber", options);
        publisher.publish(&mut world, "t", "8", QoS::AtMostOnce, 0);
        let (mut payloads, mut dups) = (Vec::new(), 0);
        let mut waiting: std::collections::VecDeque<ReceivedPublish> = again.publishes(&mut world).into();
        while let Some(received) = waiting.pop_front() {
            assert!(waiting.iter().filter(|received| received.id.is_some()).count() < 2);
            payloads.push(received.text().to_owned());
            dups += usize::from(received.dup);
            if let Some(id) = received.id {
                again.ack(&mut world, Puback, id);
            }
            waiting.extend(again.publishes(&mut world));
        }
        assert_eq!((payloads, dups), (["1", "2", "3", "4", "5", "6", "7", "8"].map(str::to_owned).to_vec(), 6));
    }
}

/// [MQTT-4.3.3-4]: PUBREC with an error ends the exchange; its id is free and its place in the window is.
#[test]
fn a_pubrec_with_an_error_ends_the_exchange() {
    for mut world in worlds() {
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let (mut subscriber, publisher) = pair(&mut world, options, V5);
        publisher.publish(&mut world, "t", "one", QoS::ExactlyOnce, 1);
        publisher.publish(&mut world, "t", "two", QoS::ExactlyOnce, 2);
        let one = ids(&subscriber.publishes(&mut world))[0];
        subscriber.ack_with(&mut world, Pubrec, one, ReasonCode::QuotaExceeded);
        let received = subscriber.received(&mut world);
        assert!(matches!(&received[..], [Got::Publish(two)] if two.text() == "two"), "{received:?}");
        subscriber.ack(
            &mut world,
            Pubrec,
            ids(&[match &received[0] {
                Got::Publish(two) => two.clone(),
                _ => unreachable!(),
            }])[0],
        );
        world.hang_up(subscriber.socket);
    }
}

/// [MQTT-4.4.0-1]: MQTT 3 clients may be reminded on a live connection, MQTT 5 clients must not be.
#[test]
fn only_older_clients_are_reminded_on_a_live_connection() {
    let retrying = || config(|config| config.session.retry_interval = Duration::from_secs(10));
    for mut world in worlds_with(retrying) {
        for version in ProtocolVersion::ALL {
            let options = ConnectOptions { keep_alive: 600, ..ConnectOptions::clean(version) };
            let (mut subscriber, publisher) = pair(&mut world, options, V5);
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
            let first = subscriber.publishes(&mut world);
            world.advance(Duration::from_millis(9900));
            assert_eq!(subscriber.received(&mut world), []);
            world.advance(Duration::from_secs(15));
            let again = subscriber.publishes(&mut world);
            let expected = if version == V5 { vec![] } else { vec![ReceivedPublish { dup: true, ..first[0].clone() }] };
            assert_eq!(again, expected);
            subscriber.ack(&mut world, Puback, first[0].id.expect("QoS 1"));
            world.advance(Duration::from_secs(60));
            assert_eq!(subscriber.received(&mut world), []);
            subscriber.disconnect(&mut world);
        }
    }
}

/// lifecycle.md 2: 0x10 where nobody subscribes, on any shard.
#[test]
fn a_v5_publisher_learns_that_nobody_subscribes() {
    for mut world in worlds() {
        let (mut subscriber, mut publisher) = pair(&mut world, ConnectOptions::clean(V5), V5);
        let mut codes = |world: &mut World<_>, topic| {
            publisher.publish(world, topic, "x", QoS::AtLeastOnce, 1);
            publisher.publish(world, topic, "x", QoS::ExactlyOnce, 2);
            publisher.ack(world, Pubrel, 2);
            publisher.received(world)
        };
        let with = |code| [Got::Ack(Puback, 1, code), Got::Ack(Pubrec, 2, code), acked(Pubcomp, 2)];
        assert_eq!(codes(&mut world, "t"), with(ReasonCode::Success));
        assert_eq!(codes(&mut world, "other"), with(ReasonCode::NoMatchingSubscribers));
        subscriber.received(&mut world);
        subscriber.unsubscribe(&mut world, &["t"]);
        assert_eq!(codes(&mut world, "t"), with(ReasonCode::NoMatchingSubscribers));
        subscriber.subscribe(&mut world, "$share/g/t", QoS::AtMostOnce);
        assert_eq!(codes(&mut world, "t"), with(ReasonCode::Success));
        subscriber.disconnect(&mut world);
        assert_eq!(codes(&mut world, "t"), with(ReasonCode::NoMatchingSubscribers));
    }
}

/// lifecycle.md 4: not routed, and never left hanging.
#[test]
fn a_publish_to_a_dollar_topic_is_answered_and_not_routed() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut watcher = Client::on(&mut world, last, "watcher", ConnectOptions::clean(V5));
        watcher.subscribed(&mut world, "$x/#", QoS::ExactlyOnce);
        for version in [V31, V311, V5] {
            let mut client = Client::clean(&mut world, "c", version);
            for topic in ["$x/y", "$SYS/broker/version"] {
                client.publish(&mut world, topic, "x", QoS::AtMostOnce, 0);
                client.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
                client.publish_with(&mut world, Publish { retain: true, ..publish(topic, "x", QoS::ExactlyOnce, 2) });
                let code = if version == V5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
                assert_eq!(client.received(&mut world), [Got::Ack(Puback, 1, code), Got::Ack(Pubrec, 2, code)]);
                client.ack(&mut world, Pubrel, 2);
                let code = if version == V5 { ReasonCode::PacketIdNotFound } else { ReasonCode::Success };
                assert_eq!(client.received(&mut world), [Got::Ack(Pubcomp, 2, code)]);
            }
        }
        assert_eq!(watcher.received(&mut world), []);
    }
}

/// `limits.dollar_topics`: those of others are topics like any other, wills and retained messages included; the broker's own stay its own.
#[test]
fn dollar_topics_that_are_listed_are_routed() {
    for mut world in worlds_with(|| config(|config| config.limits.dollar_topics = vec!["$aws".into()])) {
        let last = world.shards.len() - 1;
        for version in [V311, V5] {
            let mut watcher = Client::on(&mut world, last, "watcher", ConnectOptions::clean(version));
            watcher.subscribed(&mut world, "$aws/+/shadow", QoS::AtMostOnce);
            watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
            let client = Client::connect(&mut world, 0, "c", ConnectOptions::clean(version).will("$aws/w/shadow")).0;
            client.retain(&mut world, "$aws/a/shadow", "kept");
            client.retain(&mut world, "$awsome/a/shadow", "not routed");
            client.retain(&mut world, "$SYS/a/shadow", "not routed");
            assert_eq!(watcher.texts(&mut world), ["kept"]);
            world.hang_up(client.socket);
            assert_eq!(watcher.texts(&mut world), ["gone"]);
            let client = Client::clean(&mut world, "c", version);
            let mut late = Client::on(&mut world, last, "late", ConnectOptions::clean(version));
            late.subscribed(&mut world, "$share/g/$aws/#", QoS::AtMostOnce);
            late.subscribe(&mut world, "$aws/#", QoS::AtMostOnce);
            assert_eq!(late.texts(&mut world), ["kept"]);
            late.disconnect(&mut world);
            watcher.disconnect(&mut world);
            client.retain(&mut world, "$aws/a/shadow", "");
        }
    }
}

#[test]
fn what_may_not_be_published_ends_the_connection_with_its_code() {
    let strict = || {
        config(|config| {
            config.limits.maximum_qos = 1;
            config.limits.retain_available = false;
            config.limits.max_topic_levels = 3;
        })
    };
    let plain = |topic| publish(topic, "x", QoS::AtMostOnce, 0);
    let cases = [
        (publish("t", "x", QoS::ExactlyOnce, 1), ReasonCode::QosNotSupported),
        (Publish { retain: true, ..plain("t") }, ReasonCode::RetainNotSupported),
        (plain("a/+"), ReasonCode::TopicNameInvalid),
        (plain("#"), ReasonCode::TopicNameInvalid),
        (plain("a/b/c/d"), ReasonCode::TopicNameInvalid),
    ];
    for mut world in worlds_with(strict) {
        for (packet, code) in cases {
            for version in ProtocolVersion::ALL {
                let mut client = Client::clean(&mut world, "c", version);
                client.publish_with(&mut world, packet);
                assert_eq!(client.received(&mut world), disconnected(version, code));
                assert!(world.is_closed(client.socket));
            }
        }
    }
}

/// lifecycle.md 4: slows reading, drops nothing.
#[test]
fn the_message_rate_slows_a_client_and_drops_nothing() {
    for mut world in worlds_with(|| config(|config| config.limits.max_message_rate = 10)) {
        world.advance(Duration::from_secs(5));
        let options = ConnectOptions { keep_alive: 2, ..ConnectOptions::clean(V311) };
        let last = world.shards.len() - 1;
        let mut subscriber = Client::on(&mut world, last, "subscriber", ConnectOptions::clean(V5));
        subscriber.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let mut publisher = Client::connect(&mut world, 0, "publisher", options).0;
        let sent: Vec<String> = (1..=45).map(|number| number.to_string()).collect();
        for (at, payload) in sent.iter().enumerate() {
            publisher.publish(&mut world, "t", payload, QoS::AtLeastOnce, at as u16 + 1);
        }
        let mut received = subscriber.texts(&mut world);
        assert_eq!(received.len(), 10, "what a second allows");
        for seconds in 1..=4 {
            world.advance(Duration::from_millis(1050));
            received.extend(subscriber.texts(&mut world));
            assert_eq!(received.len(), (10 + seconds * 10).min(45));
        }
        assert_eq!(received, sent);
        assert_eq!(publisher.received(&mut world).len(), 45);
        assert!(!world.is_closed(publisher.socket), "waiting for us is not silence");
        let mut other = Client::clean(&mut world, "other", V311);
        other.publish(&mut world, "t", "not slowed", QoS::AtLeastOnce, 1);
        assert_eq!(other.received(&mut world), [acked(Puback, 1)]);
    }
}
