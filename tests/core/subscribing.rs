//! SUBSCRIBE and UNSUBSCRIBE, and who gets what: MQTT 5.0 sections 3.8 to 3.11 and 4.7, lifecycle.md section 7.

use std::collections::BTreeMap;
use std::time::Duration;

use moormq::codec::{
    AckKind, Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties,
};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, V31, V311, disconnected, packet_id};
use crate::received::Got;
use crate::world::{Carried, World, config, open_config, worlds, worlds_with};

fn at(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions::new(qos)
}

/// Subscribes to all of `filters` at once and gives the codes of the SUBACK.
fn codes(world: &mut World<NoHooks>, client: &mut Client, filters: &[(&str, QoS)]) -> Vec<ReasonCode> {
    let filters: Vec<_> = filters.iter().map(|(filter, qos)| SubscribeFilter { filter, options: at(*qos) }).collect();
    client.send(world, &Packet::Subscribe(Subscribe::new(packet_id(9), &filters[..])));
    match &client.received(world)[..] {
        [Got::Suback(9, codes)] => codes.clone(),
        received => panic!("{received:?}"),
    }
}

/// [MQTT-4.7.1-1] to [MQTT-4.7.2-1], end to end; `topic` has the tests of matching itself.
#[test]
fn messages_reach_those_whose_filters_match() {
    let filters = ["#", "a/#", "a/+", "+/b", "a/b", "+", "$x/#", "+/+/c", "a//b", "/a"];
    let expected: &[(&str, &[usize])] = &[
        ("a", &[0, 1, 5]),
        ("a/b", &[0, 1, 2, 3, 4]),
        ("a/b/c", &[0, 1, 7]),
        ("x/b", &[0, 3]),
        ("a//b", &[0, 1, 8]),
        ("/a", &[0, 9]),
        ("a/", &[0, 1, 2]),
    ];
    for mut world in worlds() {
        let shards = world.shards.len();
        let mut clients: Vec<_> = (0..filters.len())
            .map(|number| {
                let name = format!("{number}-");
                let mut client = Client::on(&mut world, number % shards, &name, ConnectOptions::clean(V311));
                client.subscribed(&mut world, filters[number], QoS::AtMostOnce);
                client
            })
            .collect();
        for from in 0..shards {
            let publisher = Client::on(&mut world, from, "publisher", ConnectOptions::clean(V5));
            for (topic, receivers) in expected {
                publisher.publish(&mut world, topic, "x", QoS::AtMostOnce, 0);
                for (number, client) in clients.iter_mut().enumerate() {
                    let topics: Vec<_> =
                        client.publishes(&mut world).into_iter().map(|received| received.topic).collect();
                    let times = usize::from(receivers.contains(&number));
                    assert_eq!(topics, vec![(*topic).to_owned(); times], "{topic} at {}", filters[number]);
                }
            }
            publisher.disconnect(&mut world);
        }
    }
}

/// [MQTT-4.7.2-1]
#[test]
fn what_the_broker_says_of_itself_is_seen_only_by_those_who_ask_for_it() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut all = Client::on(&mut world, last, "all", ConnectOptions::clean(V311));
        all.subscribed(&mut world, "#", QoS::AtMostOnce);
        all.subscribed(&mut world, "+/broker/version", QoS::AtMostOnce);
        let mut sys = Client::on(&mut world, last, "sys", ConnectOptions::clean(V311));
        sys.subscribed(&mut world, "$SYS/#", QoS::AtMostOnce);
        world.advance(std::time::Duration::from_secs(25));
        assert_eq!(all.publishes(&mut world), []);
        let received = sys.publishes(&mut world);
        let version =
            received.iter().find(|received| received.topic == "$SYS/broker/version").expect("it says its version");
        assert_eq!(version.text(), "test");
        let connected = received.iter().find(|received| received.topic == "$SYS/broker/clients/connected");
        assert!(connected.is_some());
        let mut late = Client::on(&mut world, 0, "late", ConnectOptions::clean(V311));
        late.subscribe(&mut world, "$SYS/broker/version", QoS::AtMostOnce);
        assert_eq!(late.texts(&mut world), ["test"], "it is retained");
    }
}

/// [MQTT-3.3.4-3], [MQTT-3.3.4-4], lifecycle.md 7: one copy, at the highest QoS, with all identifiers.
#[test]
fn overlapping_subscriptions_give_one_copy() {
    for mut world in worlds() {
        for from in 0..world.shards.len() {
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
            let overlapping = [
                ("a/#", QoS::AtMostOnce, Some(1)),
                ("a/b", QoS::ExactlyOnce, Some(268_435_455)),
                ("+/b", QoS::AtLeastOnce, None),
                ("#", QoS::AtMostOnce, Some(1)),
                ("a/c", QoS::ExactlyOnce, Some(4)),
            ];
            for (filter, qos, id) in overlapping {
                client.subscribe_with(&mut world, filter, at(qos), id);
            }
            client.received(&mut world);
            let publisher = Client::on(&mut world, from, "publisher", ConnectOptions::clean(V311));
            publisher.publish(&mut world, "a/b", "x", QoS::ExactlyOnce, 1);
            let received = client.publishes(&mut world);
            assert_eq!(received.len(), 1);
            assert_eq!((received[0].qos, received[0].ids()), (QoS::ExactlyOnce, vec![1, 1, 268_435_455]));
            // Setting a subscription anew replaces it, identifier included [MQTT-3.8.4-3].
            client.subscribe_with(&mut world, "a/b", at(QoS::AtMostOnce), None);
            client.received(&mut world);
            publisher.publish(&mut world, "a/b", "x", QoS::ExactlyOnce, 2);
            let received = client.publishes(&mut world);
            assert_eq!((received.len(), received[0].qos, received[0].ids()), (1, QoS::AtLeastOnce, vec![1, 1]));
            client.disconnect(&mut world);
        }
    }
}

#[test]
fn identifiers_are_kept_with_messages_that_wait() {
    for mut world in worlds() {
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::kept(V5));
        client.subscribe_with(&mut world, "a/#", at(QoS::AtLeastOnce), Some(7));
        client.subscribe_with(&mut world, "a/+", at(QoS::AtLeastOnce), Some(8));
        world.hang_up(client.socket);
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.publish(&mut world, "a/b", "x", QoS::AtLeastOnce, 1);
        for _ in 0..2 {
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::kept(V5));
            assert_eq!(client.publishes(&mut world)[0].ids(), [7, 8]);
            world.hang_up(client.socket);
        }
    }
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_excludes_the_publisher_and_nobody_else() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "client", ConnectOptions::clean(V5));
        let no_local = SubscriptionOptions { no_local: true, ..at(QoS::AtLeastOnce) };
        client.subscribe_with(&mut world, "t/#", no_local, None);
        client.received(&mut world);
        client.publish(&mut world, "t/x", "own", QoS::AtLeastOnce, 1);
        let unmatched = Got::Ack(AckKind::Puback, 1, ReasonCode::NoMatchingSubscribers);
        assert_eq!(client.received(&mut world), [unmatched]);
        let other = Client::clean(&mut world, "other", V311);
        other.publish(&mut world, "t/x", "of another", QoS::AtMostOnce, 0);
        assert_eq!(client.texts(&mut world), ["of another"]);
        client.subscribe(&mut world, "t/x", QoS::AtMostOnce);
        client.received(&mut world);
        client.publish(&mut world, "t/x", "own", QoS::AtMostOnce, 0);
        assert_eq!(client.texts(&mut world), ["own"], "the other subscription wants it");
        // [MQTT-3.8.3-4]
        client.subscribe_with(&mut world, "$share/g/t", no_local, None);
        assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::ProtocolError)]);
    }
}

/// [MQTT-3.8.4-7], [MQTT-3.9.3-2]
#[test]
fn each_filter_has_its_code() {
    let long = "a/".repeat(40);
    let filters = [
        ("a", QoS::AtMostOnce),
        ("b/#", QoS::AtLeastOnce),
        ("$share/g/c", QoS::ExactlyOnce),
        (&*long, QoS::AtLeastOnce),
        ("d", QoS::ExactlyOnce),
    ];
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let invalid = if version == V5 { ReasonCode::TopicFilterInvalid } else { ReasonCode::UnspecifiedError };
            let (zero, one, two) = (ReasonCode::Success, ReasonCode::GrantedQoS1, ReasonCode::GrantedQoS2);
            let mut client = Client::clean(&mut world, "c", version);
            let expected = [zero, one, two, invalid, two];
            assert_eq!(codes(&mut world, &mut client, &filters), expected, "{version:?}");
            let publisher = Client::clean(&mut world, "publisher", V5);
            for topic in ["a", "b", "c", "d"] {
                publisher.publish(&mut world, topic, topic, QoS::AtMostOnce, 0);
            }
            assert_eq!(client.texts(&mut world), ["a", "b", "c", "d"]);
            client.disconnect(&mut world);
        }
    }
}

/// `limits.max_topic_bytes_per_client`: 0x97 for the filters that are too much, wherever the session is, and the others stay.
#[test]
fn the_filters_of_a_session_are_limited_in_bytes() {
    let filters: Vec<String> = (0..40).map(|number| format!("{number:02}{}", "x".repeat(58))).collect();
    let small = |config: &mut Config| config.limits.max_topic_bytes_per_client = Limit::at_most(1024);
    for mut world in worlds_with(|| config(small)) {
        let last = world.shards.len() - 1;
        for version in ProtocolVersion::ALL {
            let full = if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::UnspecifiedError };
            let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            let all: Vec<_> = filters.iter().map(|filter| (&**filter, QoS::AtMostOnce)).collect();
            let expected: Vec<_> = (0..40).map(|at| if at < 17 { ReasonCode::Success } else { full }).collect();
            assert_eq!(codes(&mut world, &mut client, &all), expected, "17 of 60 bytes each are 1,020");
            client.unsubscribe(&mut world, &[&filters[3]]);
            client.received(&mut world);
            assert_eq!(codes(&mut world, &mut client, &all[20..22]), [ReasonCode::Success, full]);
            let mut back = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            assert_eq!(codes(&mut world, &mut back, &all[21..23]), [full, full]);
            let mut anew = Client::on(&mut world, last, "c", ConnectOptions::clean(version));
            assert_eq!(codes(&mut world, &mut anew, &all[21..22]), [ReasonCode::Success]);
            anew.disconnect(&mut world);
        }
    }
}

/// A store that clients have filled keeps nobody from seeing what the broker says of itself.
#[test]
fn a_full_retained_store_does_not_silence_the_broker() {
    let full = |config: &mut Config| {
        config.retained.max_messages = Limit::at_most(4);
        config.retained.max_message_bytes = Limit::at_most(1);
        config.sys.interval = Duration::from_secs(1);
    };
    for mut world in worlds_with(|| config(full)) {
        let client = Client::clean(&mut world, "c", V5);
        (0..100).for_each(|topic| client.retain(&mut world, &topic.to_string(), "x"));
        world.advance(Duration::from_secs(3));
        let last = world.shards.len() - 1;
        let mut late = Client::on(&mut world, last, "late", ConnectOptions::clean(V311));
        late.subscribe(&mut world, "$SYS/broker/#", QoS::AtMostOnce);
        let lines: BTreeMap<_, _> =
            late.publishes(&mut world).into_iter().map(|it| (it.topic.clone(), it.text().to_owned())).collect();
        assert!(lines.keys().len() > 20, "{lines:?}");
        assert_eq!(lines["$SYS/broker/version"], "test");
        let refused: usize = lines["$SYS/broker/retained messages/refused"].parse().expect("a number");
        assert!(refused >= 90, "{refused} of 100");
    }
}

/// lifecycle.md 4: retain/QoS/shared/wildcard/identifier not supported.
#[test]
fn what_is_not_available_is_refused() {
    let strict = |config: &mut Config| {
        config.limits.wildcard_available = false;
        config.limits.shared_available = false;
        config.limits.subscription_ids_available = false;
        config.limits.maximum_qos = 1;
        config.limits.max_subscriptions_per_client = Limit::at_most(2);
    };
    for mut world in worlds_with(|| config(strict)) {
        for version in ProtocolVersion::ALL {
            let or = |code| if version == V5 { code } else { ReasonCode::UnspecifiedError };
            let mut client = Client::clean(&mut world, "c", version);
            let filters = ["a/+", "$share/g/a", "a", "b", "c", "a"].map(|filter| (filter, QoS::ExactlyOnce));
            let expected = [
                or(ReasonCode::WildcardSubscriptionsNotSupported),
                or(ReasonCode::SharedSubscriptionsNotSupported),
                ReasonCode::GrantedQoS1,
                ReasonCode::GrantedQoS1,
                or(ReasonCode::QuotaExceeded),
                ReasonCode::GrantedQoS1,
            ];
            assert_eq!(codes(&mut world, &mut client, &filters), expected);
        }
        let mut client = Client::clean(&mut world, "c", V5);
        client.subscribe_with(&mut world, "a", at(QoS::AtMostOnce), Some(1));
        assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::SubscriptionIdsNotSupported)]);
    }
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.8.2-1], [MQTT-4.8.2-2]: a filter that is none ends the connection
/// [MQTT-4.13.1-1], and nothing of its packet takes effect.
#[test]
fn an_ill_formed_filter_ends_the_connection() {
    let ill_formed = [
        "",
        "a/#/b",
        "a#",
        "#/a",
        "+a/b",
        "a/b+",
        "++",
        "$share/g",
        "$share/g/",
        "$share//t",
        "$share/g+/t",
        "$share/g/a#",
    ];
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let publisher = Client::clean(&mut world, "publisher", V5);
        for version in ProtocolVersion::ALL {
            let ended = disconnected(version, ReasonCode::ProtocolError);
            for filter in ill_formed {
                let filters = ["t", filter, "u"].map(|filter| SubscribeFilter { filter, options: at(QoS::AtMostOnce) });
                let mut client = Client::on(&mut world, last, "c", ConnectOptions::clean(version));
                client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
                assert_eq!(client.received(&mut world), ended, "{filter} {version:?}");
                assert!(world.is_closed(client.socket));

                let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
                client.subscribed(&mut world, "t", QoS::AtLeastOnce);
                client.unsubscribe(&mut world, &["t", filter]);
                assert_eq!(client.received(&mut world), ended, "{filter} {version:?}");
                publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
                let mut back = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
                assert_eq!(back.texts(&mut world), ["x"], "the subscription is still there");
                back.disconnect(&mut world);
            }
        }
    }
}

#[test]
fn filters_of_one_packet_are_limited_in_number() {
    for mut world in worlds_with(|| config(|config| config.limits.max_filters_per_subscribe = 3)) {
        for version in [V311, V5] {
            let ended = disconnected(version, ReasonCode::QuotaExceeded);
            let mut client = Client::clean(&mut world, "c", version);
            let filters = ["a", "b", "c", "d"].map(|filter| SubscribeFilter { filter, options: at(QoS::AtMostOnce) });
            client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..3])));
            assert_eq!(client.received(&mut world), [Got::Suback(1, vec![ReasonCode::Success; 3])]);
            client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
            let beyond = if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::UnspecifiedError };
            let codes = [vec![ReasonCode::Success; 3], vec![beyond]].concat();
            assert_eq!(client.received(&mut world), [Got::Suback(1, codes)]);
            client.unsubscribe(&mut world, &["a", "b", "c", "d"]);
            assert_eq!(client.received(&mut world), ended);
        }
    }
}

/// A property takes five bytes, and reading it is work.
#[test]
fn properties_of_one_packet_are_limited_in_number() {
    let pairs = vec![(String::new(), String::new()); 1025];
    for (most, taken) in [(Limit::at_most(1024), false), (Limit::UNLIMITED, true)] {
        for mut world in worlds_with(|| config(|config| config.limits.max_properties = most)) {
            let filters = [SubscribeFilter { filter: "a", options: at(QoS::AtMostOnce) }];
            let subscribe = |count: usize| Subscribe {
                user: UserProperties::from(&pairs[..count]),
                ..Subscribe::new(packet_id(1), &filters[..])
            };
            let mut client = Client::clean(&mut world, "c", V5);
            let suback = [Got::Suback(1, vec![ReasonCode::Success])];
            client.send(&mut world, &Packet::Subscribe(subscribe(1024)));
            assert_eq!(client.received(&mut world), suback, "as many as may be");
            client.send(&mut world, &Packet::Subscribe(subscribe(1025)));
            let one_more = client.received(&mut world);
            if taken {
                assert_eq!(one_more, suback);
            } else {
                assert_eq!(one_more, disconnected(V5, ReasonCode::QuotaExceeded));
            }
        }
    }
}

/// [MQTT-3.10.4-1] to [MQTT-3.10.4-6], [MQTT-3.11.3-2]
#[test]
fn unsubscribing_ends_what_is_named_and_nothing_else() {
    let long = "a/".repeat(40);
    for mut world in worlds() {
        for version in [V31, V311, V5] {
            let last = world.shards.len() - 1;
            let mut client = Client::on(&mut world, last, "client", ConnectOptions::clean(version));
            let all = ["a", "a/#", "$share/g/a"].map(|filter| (filter, QoS::AtMostOnce));
            codes(&mut world, &mut client, &all);
            client.unsubscribe(&mut world, &["a/#", "b", &long, "$share/g/a", "$share/h/a", "a/#"]);
            let (yes, no) = (ReasonCode::Success, ReasonCode::NoSubscriptionExisted);
            let expected =
                if version == V5 { vec![yes, no, ReasonCode::TopicFilterInvalid, yes, no, no] } else { vec![] };
            assert_eq!(client.received(&mut world), [Got::Unsuback(2, expected)]);
            let publisher = Client::clean(&mut world, "publisher", V5);
            publisher.publish(&mut world, "a", "once", QoS::AtMostOnce, 0);
            publisher.publish(&mut world, "a/b", "never", QoS::AtMostOnce, 0);
            assert_eq!(client.texts(&mut world), ["once"]);
            client.disconnect(&mut world);
        }
    }
}

/// After SUBACK nothing is missed, whichever shard a publisher is on; after UNSUBACK nothing comes any more.
#[test]
fn suback_and_unsuback_hold_for_publishers_on_every_shard() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let publishers: Vec<_> = (0..shards)
            .map(|shard| Client::on(&mut world, shard, &format!("p{shard}-"), ConnectOptions::clean(V311)))
            .collect();
        for shard in 0..shards {
            let mut client = Client::on(&mut world, shard, "client", ConnectOptions::clean(V311));
            for round in 0..3 {
                client.subscribed(&mut world, "t/+", QoS::AtMostOnce);
                for (number, publisher) in publishers.iter().enumerate() {
                    publisher.publish(&mut world, "t/x", &format!("{round}{number}"), QoS::AtMostOnce, 0);
                }
                assert_eq!(client.texts(&mut world).len(), shards);
                client.unsubscribe(&mut world, &["t/+"]);
                assert_eq!(client.received(&mut world), [Got::Unsuback(2, vec![])]);
                publishers.iter().for_each(|publisher| publisher.publish(&mut world, "t/x", "no", QoS::AtMostOnce, 0));
                assert_eq!(client.received(&mut world), []);
            }
            client.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.8.1-1]: and a SUBSCRIBE without a filter, or with a QoS that does not exist, is no packet.
#[test]
fn a_subscribe_that_says_nothing_ends_the_connection() {
    for version in [V311, V5] {
        let properties: &[u8] = if version == V5 { &[0] } else { &[] };
        for (first, rest) in [(0x82_u8, &[][..]), (0x82, &[0, 1, b'a', 3]), (0x80, &[0, 1, b'a', 0]), (0xA2, &[])] {
            let mut world = World::new(2, open_config(), || NoHooks);
            let client = Client::clean(&mut world, "c", version);
            let body = [&[0, 1][..], properties, rest].concat();
            world.send(client.socket, &[&[first, body.len() as u8], &body[..]].concat());
            assert!(world.is_closed(client.socket));
        }
    }
}

/// Two connections may subscribe to the same filter at the same time; neither is done before all shards know.
#[test]
fn two_clients_of_a_shard_may_subscribe_to_one_filter_at_once() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut clients = ["a", "b"].map(|name| Client::on(&mut world, last, name, ConnectOptions::clean(V311)));
        for client in &clients {
            world.send_quietly(client.socket, b"\x82\x06\x00\x01\x00\x01t\x00");
        }
        world.settle();
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        publisher.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        for client in &mut clients {
            assert_eq!(client.texts(&mut world), ["x"]);
        }
        world.hang_up(clients[0].socket);
        publisher.publish(&mut world, "t", "y", QoS::AtMostOnce, 0);
        assert_eq!(clients[1].texts(&mut world), ["y"]);
    }
}

/// Only what is new travels: a filter that this shard has told the others of is not told again, and of the messages to be retained that a
/// shard has sent only what has changed since it said so last.
#[test]
fn what_the_other_shards_know_is_not_told_again() {
    for shards in [1, 2, 4, 64] {
        let mut world = World::new(shards, open_config(), || NoHooks);
        let others = shards - 1;
        for number in 0..shards {
            let publisher = Client::on(&mut world, number, &format!("p{number}-"), ConnectOptions::clean(V311));
            publisher.retain(&mut world, &format!("kept/{number}"), "x");
        }
        let mut number = 0;
        let mut subscribe = |filter: &str| {
            number += 1;
            let mut client = Client::on(&mut world, 0, &format!("s{number}-"), ConnectOptions::clean(V5));
            world.carried = Carried::default();
            client.subscribe(&mut world, filter, QoS::AtMostOnce);
            println!("{shards} shards, {filter}: {:?}", world.carried);
            let Carried { subscribe, subscribed, counters, retained } = world.carried;
            (subscribe, subscribed, counters, retained, client.publishes(&mut world).len())
        };
        // Each of the other shards has sent one message, to one owner.
        assert_eq!(subscribe("kept/#"), (others, others, others, 2 * others, shards));
        assert_eq!(subscribe("kept/#"), (0, 0, 0, 2 * others, shards), "it is known");
        assert_eq!(subscribe("+/+"), (others, others, 0, 2 * others, shards), "new, but nothing was sent meanwhile");
        for topic in ["kept/0", "other"] {
            let (told, answers, counters, retained, found) = subscribe(topic);
            assert_eq!((told, answers, counters, found), (others, others, 0, usize::from(topic == "kept/0")));
            assert!(retained <= 2, "its owner alone is asked");
            assert_eq!(subscribe(topic), (0, 0, 0, retained, found));
        }
        assert_eq!(subscribe("$share/g/kept/0"), (others, others, 0, 0, 0), "the first member");
        assert_eq!(subscribe("$share/g/kept/0"), (0, 0, 0, 0, 0));
    }
}

/// A subscription to a filter that is still on its way to the other shards waits for it.
#[test]
fn a_known_filter_is_complete_when_the_others_have_taken_it_in() {
    for shards in [2, 4] {
        let mut world = World::new(shards, open_config(), || NoHooks);
        let mut clients = ["a-", "b-"].map(|id| Client::on(&mut world, 0, id, ConnectOptions::clean(V5)));
        for filter in ["t", "$share/g/t"] {
            let filters = [SubscribeFilter { filter, options: at(QoS::AtMostOnce) }];
            let subscribe = Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..]));
            for client in &clients {
                client.send_quietly(&mut world, &subscribe);
                world.carry_out_outputs();
            }
            // All but the last shard have taken it in.
            for shard in 1..shards - 1 {
                while world.carry_message(0, shard) | world.carry_message(shard, 0) {
                    world.carry_out_outputs();
                }
            }
            world.carry_out_outputs();
            for client in &mut clients {
                assert_eq!(client.received(&mut world), [], "{filter}");
            }
            world.settle();
            for client in &mut clients {
                assert!(matches!(client.received(&mut world)[..], [Got::Suback(1, _)]), "{filter}");
            }
        }
    }
}
