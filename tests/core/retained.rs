//! Retained messages, wherever they are kept: MQTT 5.0 sections 3.3.1.3 and 3.8.3.1, lifecycle.md section 7.

use moormq::client::SubscriberId;
use moormq::codec::{
    Packet, Publish, QoS, RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;
use moormq::random::Random;

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::received::Got;
use crate::world::{World, config, open_config, worlds, worlds_with};

/// The messages that a new subscriber on `shard` receives: topics and payloads in rising order.
fn retained(world: &mut World<NoHooks>, shard: usize, filter: &str) -> Vec<(String, String)> {
    let mut client = Client::on(world, shard, "reader", ConnectOptions::clean(V311));
    client.subscribe(world, filter, QoS::ExactlyOnce);
    let received = client.received(world);
    assert!(matches!(received[0], Got::Suback(..)), "SUBACK comes first");
    client.disconnect(world);
    let mut found = Vec::new();
    for got in received.into_iter().skip(1) {
        let Got::Publish(received) = got else { panic!("{got:?}") };
        assert!(received.retain && !received.dup, "[MQTT-3.3.1-8]");
        found.push((received.topic.clone(), received.text().to_owned()));
    }
    found.sort();
    found
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned())).collect()
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7]
#[test]
fn the_last_message_of_a_topic_is_kept_until_it_is_replaced_or_cleared() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for (from, to) in (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to))) {
            let publisher = Client::on(&mut world, from, "publisher", ConnectOptions::clean(V5));
            for topic in ["a/1", "a/2", "b", "a/1/x", "a"] {
                publisher.retain(&mut world, topic, "old");
                publisher.retain(&mut world, topic, topic);
                publisher.publish(&mut world, topic, "not kept", QoS::AtMostOnce, 0);
            }
            assert_eq!(retained(&mut world, to, "a/+"), pairs(&[("a/1", "a/1"), ("a/2", "a/2")]));
            assert_eq!(retained(&mut world, to, "b"), pairs(&[("b", "b")]));
            let all = pairs(&[("a", "a"), ("a/1", "a/1"), ("a/1/x", "a/1/x"), ("a/2", "a/2")]);
            assert_eq!(retained(&mut world, to, "a/#"), all);
            for topic in ["a/1", "a/2", "b", "a/1/x", "a"] {
                publisher.retain(&mut world, topic, "");
            }
            assert_eq!(retained(&mut world, to, "#"), []);
            publisher.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.3.1-3], [MQTT-3.3.1-12], [MQTT-3.3.1-13]: live copies have the flag only for those who want it as published.
#[test]
fn the_flag_of_live_messages_is_as_the_subscriber_wants_it() {
    for mut world in worlds() {
        for (as_published, published) in [(false, false), (false, true), (true, false), (true, true)] {
            let last = world.shards.len() - 1;
            let mut client = Client::on(&mut world, last, "client", ConnectOptions::clean(V5));
            let options =
                SubscriptionOptions { retain_as_published: as_published, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
            client.subscribe_with(&mut world, "live/#", options, None);
            client.received(&mut world);
            let publisher = Client::clean(&mut world, "publisher", V311);
            publisher
                .publish_with(&mut world, Publish { retain: published, ..publish("live/a", "x", QoS::AtLeastOnce, 1) });
            assert_eq!(client.publishes(&mut world)[0].retain, as_published && published);
            publisher.retain(&mut world, "live/a", "");
            assert_eq!(client.publishes(&mut world)[0].retain, as_published, "a message that clears is live, too");
            client.disconnect(&mut world);
        }
    }
}

/// Section 3.8.3.1: Retain Handling 0, 1 and 2.
#[test]
fn retained_messages_are_sent_as_the_subscription_asks() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.retain(&mut world, "t", "kept");
        let handlings = [
            (RetainHandling::SendAtSubscribe, [1, 1]),
            (RetainHandling::SendIfNew, [1, 0]),
            (RetainHandling::DoNotSend, [0, 0]),
        ];
        for (retain_handling, expected) in handlings {
            let last = world.shards.len() - 1;
            let mut client = Client::on(&mut world, last, "client", ConnectOptions::kept(V5));
            let options = SubscriptionOptions { retain_handling, ..SubscriptionOptions::new(QoS::AtMostOnce) };
            for count in expected {
                client.subscribe_with(&mut world, "t", options, Some(5));
                let received = client.publishes(&mut world);
                assert_eq!(received.len(), count, "{retain_handling:?}");
                assert!(received.iter().all(|received| received.ids() == [5] && received.retain));
            }
            client.disconnect(&mut world);
            let mut client = Client::on(&mut world, last, "client", ConnectOptions::kept(V5));
            client.subscribe_with(&mut world, "t", options, None);
            assert_eq!(client.publishes(&mut world).len(), expected[1], "the session had it");
            client.unsubscribe(&mut world, &["t"]);
            client.subscribe_with(&mut world, "t", options, None);
            assert_eq!(client.publishes(&mut world).len(), expected[0], "new again");
            let options = ConnectOptions::clean(V5);
            client.disconnect(&mut world);
            let client = Client::on(&mut world, last, "client", options);
            client.disconnect(&mut world);
        }
    }
}

#[test]
fn the_qos_is_the_lower_of_both_and_each_filter_of_a_subscribe_is_served() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish_with(&mut world, Publish { retain: true, ..publish("a", "x", QoS::AtLeastOnce, 1) });
        publisher.publish_with(&mut world, Publish { retain: true, ..publish("b", "x", QoS::ExactlyOnce, 2) });
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "client", ConnectOptions::clean(V5));
        let deep = "x/".repeat(40);
        fn filter(filter: &str, qos: QoS) -> SubscribeFilter<'_> {
            SubscribeFilter { filter, options: SubscriptionOptions::new(qos) }
        }
        let filters = [filter("a", QoS::ExactlyOnce), filter(&deep, QoS::AtMostOnce), filter("b", QoS::AtLeastOnce)];
        client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        let mut received: Vec<_> =
            client.publishes(&mut world).into_iter().map(|received| (received.topic.clone(), received.qos)).collect();
        received.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(received, [("a".to_owned(), QoS::AtLeastOnce), ("b".to_owned(), QoS::AtLeastOnce)]);
    }
}

/// [MQTT-4.8.2] and lifecycle.md 7: never to shared subscriptions.
#[test]
fn shared_subscriptions_get_no_retained_messages() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.retain(&mut world, "t", "kept");
        assert_eq!(retained(&mut world, 0, "$share/g/t"), []);
        assert_eq!(retained(&mut world, 0, "$share/g/#"), []);
    }
}

#[test]
fn a_limit_keeps_messages_out_and_forgets_what_they_would_have_replaced() {
    let kept_of = |change: fn(&mut Config), payloads: &[(&str, &str)]| {
        let mut world = World::new(1, config(change), || NoHooks);
        let publisher = Client::clean(&mut world, "publisher", V311);
        for (topic, payload) in payloads {
            publisher.retain(&mut world, topic, payload);
        }
        retained(&mut world, 0, "#")
    };
    let two = |config: &mut Config| config.retained.max_messages = Limit::at_most(2);
    assert_eq!(kept_of(two, &[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]), pairs(&[("a", "4"), ("b", "2")]));
    assert_eq!(kept_of(two, &[("a", "1"), ("b", "2"), ("a", ""), ("c", "3")]), pairs(&[("b", "2"), ("c", "3")]));
    let short = |config: &mut Config| config.retained.max_message_bytes = Limit::at_most(3);
    assert_eq!(kept_of(short, &[("a", "123"), ("b", "1234"), ("c", "1"), ("c", "1234")]), pairs(&[("a", "123")]));
    let none = |config: &mut Config| config.retained.max_messages = Limit::at_most(0);
    assert_eq!(kept_of(none, &[("a", "1")]), []);
    let bytes = |config: &mut Config| config.retained.max_total_bytes = Limit::at_most(400);
    let long = "x".repeat(150);
    assert_eq!(kept_of(bytes, &[("a", &long), ("b", &long), ("c", "1")]).len(), 2);
    // With several shards a limit is shared out, and nobody is left without.
    for mut world in worlds_with(|| config(two)) {
        let publisher = Client::clean(&mut world, "publisher", V311);
        for number in 0..100 {
            publisher.retain(&mut world, &number.to_string(), "x");
        }
        let kept = retained(&mut world, 0, "#").len();
        assert!((1..=2.max(world.shards.len())).contains(&kept), "{kept}");
    }
}

/// One topic with one publisher, as the test knows it.
struct Source {
    publisher: Client,
    topic: String,
    published: Vec<String>,
}

/// The places in `published` of what was received, in order: each not before the one that came last.
fn places(published: &[String], received: &[String]) -> Vec<usize> {
    let mut at = 0;
    let place = |payload: &String| {
        at = (at..published.len()).find(|place| published[*place] == *payload)?;
        Some(at)
    };
    received.iter().map_while(place).collect()
}

/// When a neighbour of the subscriber subscribes and unsubscribes, in turn. What the shard knows of its filter is used for the subscriber.
fn comings(random: &mut Random) -> Vec<usize> {
    let mut comings: Vec<usize> = (0..random.below(4)).map(|_| random.below(60)).collect();
    comings.sort_unstable();
    comings
}

fn come_and_go(world: &mut World<NoHooks>, neighbour: &Client, filter: &str, comings: &[usize], step: usize) {
    for (number, _) in comings.iter().enumerate().filter(|(_, at)| **at == step) {
        match number % 2 {
            0 => subscribe_quietly(world, neighbour, filter),
            _ => {
                let filters = [filter];
                let unsubscribe = Unsubscribe::new(packet_id(2), &filters[..]);
                neighbour.send_quietly(world, &Packet::Unsubscribe(unsubscribe));
            }
        }
    }
}

fn subscribe_quietly(world: &mut World<NoHooks>, client: &Client, filter: &str) {
    let filters = [SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    client.send_quietly(world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
}

/// After SUBACK nothing is missed, and no older value comes after a newer one, whichever messages between shards are late.
#[test]
fn a_subscriber_among_busy_publishers_sees_every_topic_up_to_its_last_value() {
    for seed in 0..1000 {
        let mut random = Random::from_seed(seed);
        let shards = 2 + random.below(4);
        let mut world = World::new(shards, open_config(), || NoHooks);
        let mut sources: Vec<Source> = (0..4)
            .map(|number| {
                let shard = random.below(shards);
                let publisher = Client::on(&mut world, shard, &format!("p{number}-"), ConnectOptions::clean(V311));
                Source { publisher, topic: format!("t/{number}"), published: Vec::new() }
            })
            .collect();
        let shard = random.below(shards);
        let mut subscriber = Client::on(&mut world, shard, "subscriber", ConnectOptions::clean(V5));
        let neighbour = Client::on(&mut world, shard, "neighbour", ConnectOptions::clean(V5));
        let (subscribe_at, comings) = (random.below(40), comings(&mut random));
        let filter = ["t/+", "t/0", "t/#"][random.below(3)];
        for step in 0..80 {
            come_and_go(&mut world, &neighbour, filter, &comings, step);
            if step == subscribe_at {
                subscribe_quietly(&mut world, &subscriber, filter);
            }
            if random.below(3) == 0 {
                let at = random.below(sources.len());
                let source = &mut sources[at];
                let clears = random.below(4) == 0;
                let payload = if clears { String::new() } else { step.to_string() };
                let packet = Publish { retain: true, ..publish(&source.topic, &payload, QoS::AtMostOnce, 0) };
                source.publisher.send_quietly(&mut world, &Packet::Publish(packet));
                source.published.push(payload);
            } else {
                world.carry_any_message(&mut random);
            }
        }
        while world.carry_any_message(&mut random) {}
        let received = subscriber.publishes(&mut world);
        for source in &sources {
            let payloads: Vec<_> = received
                .iter()
                .filter(|received| received.topic == source.topic)
                .map(|received| received.text().to_owned())
                .collect();
            let places = places(&source.published, &payloads);
            assert_eq!(places.len(), payloads.len(), "seed {seed}: {payloads:?} is no part of {:?}", source.published);
            let Some(last) = source.published.last() else { continue };
            let up_to_date = match payloads.last() {
                // What was cleared while no subscriber was known to its publisher, though copies for the last one were on their way, is not
                // told to the next one.
                Some(payload) => payload == last || last.is_empty() && comings.len() > 1,
                // Another topic was subscribed to, or there was nothing to be seen.
                None => last.is_empty() || filter == "t/0" && source.topic != "t/0",
            };
            assert!(up_to_date, "seed {seed}: {payloads:?} of {:?}", source.published);
        }
    }
}

/// The same with several publishers of one topic: what is retained in the end has been seen.
#[test]
fn the_value_that_stays_has_been_seen_whoever_published_it() {
    for seed in 0..1000 {
        let mut random = Random::from_seed(seed);
        let shards = 2 + random.below(4);
        let mut world = World::new(shards, open_config(), || NoHooks);
        let publishers: Vec<_> = (0..shards)
            .map(|shard| Client::on(&mut world, shard, &format!("p{shard}-"), ConnectOptions::clean(V311)))
            .collect();
        let shard = random.below(shards);
        let id = id_owned_by(&world, shard, "subscriber");
        assert_eq!(world.shards[0].owner(&SubscriberId::new("", id.as_str())), shard);
        let mut subscriber = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0;
        let neighbour = Client::on(&mut world, shard, "neighbour", ConnectOptions::clean(V5));
        let (subscribe_at, comings) = (random.below(30), comings(&mut random));
        for step in 0..60 {
            come_and_go(&mut world, &neighbour, "t", &comings, step);
            if step == subscribe_at {
                subscribe_quietly(&mut world, &subscriber, "t");
            }
            if random.below(3) == 0 {
                let payload = step.to_string();
                let packet = Publish { retain: true, ..publish("t", &payload, QoS::AtMostOnce, 0) };
                publishers[random.below(shards)].send_quietly(&mut world, &Packet::Publish(packet));
            } else {
                world.carry_any_message(&mut random);
            }
        }
        while world.carry_any_message(&mut random) {}
        let received = subscriber.texts(&mut world);
        let stays = retained(&mut world, 0, "t");
        assert!(
            stays.iter().all(|(_, payload)| received.contains(payload)),
            "seed {seed}: {stays:?}, received {received:?}"
        );
    }
}

/// [MQTT-3.3.1-9]: what is retained reaches the client, however little of other messages may wait for it, as long as its
/// bytes may; and live messages come behind it.
#[test]
fn all_that_is_retained_comes_even_if_it_is_more_than_may_wait_for_a_client() {
    let tight = || {
        config(|config| {
            config.queue.max_online_messages = Limit::at_most(3);
            config.queue.max_waiting_output_bytes = 4096;
            config.limits.max_inflight_messages = 200;
        })
    };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for mut world in worlds_with(tight) {
            let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
            let payload = "x".repeat(500);
            for number in 0..100 {
                let topic = format!("t/{number}");
                publisher.publish_with(
                    &mut world,
                    Publish { retain: true, ..publish(&topic, &payload, QoS::ExactlyOnce, number + 1) },
                );
            }
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
            world.stick(client.socket, true);
            client.subscribe(&mut world, "t/+", qos);
            for number in 0..5 {
                let (topic, text) = (format!("t/{number}"), format!("live {number}"));
                publisher.publish(&mut world, &topic, &text, QoS::ExactlyOnce, 200 + number);
            }
            world.stick(client.socket, false);
            world.settle();
            let received = client.publishes(&mut world);
            let (retained, live): (Vec<_>, Vec<_>) = received.iter().partition(|received| received.retain);
            assert_eq!(retained.len(), 100, "{qos:?}");
            let live: Vec<_> = live.iter().map(|received| received.text()).collect();
            assert_eq!(live, ["live 0", "live 1", "live 2", "live 3", "live 4"], "the publisher waits: {qos:?}");
        }
    }
}

/// One SUBSCRIBE brings a message once, however many of its filters match: at the highest QoS, as it has come to be granted.
#[test]
fn overlapping_filters_of_one_subscribe_bring_one_copy() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        for (id, topic) in [(1, "a/b"), (2, "a/c"), (3, "d")] {
            publisher.publish_with(&mut world, Publish { retain: true, ..publish(topic, "x", QoS::ExactlyOnce, id) });
        }
        let mut client = Client::clean(&mut world, "client", V5);
        let filter = |filter, qos| SubscribeFilter { filter, options: SubscriptionOptions::new(qos) };
        let new_only = |filter, qos| {
            let options =
                SubscriptionOptions { retain_handling: RetainHandling::SendIfNew, ..SubscriptionOptions::new(qos) };
            SubscribeFilter { filter, options }
        };
        let filters = [
            filter("#", QoS::AtMostOnce),
            filter("a/+", QoS::AtLeastOnce),
            filter("d", QoS::ExactlyOnce),
            filter("a/b", QoS::AtMostOnce),
            filter("#", QoS::AtMostOnce),
            new_only("d", QoS::AtMostOnce),
        ];
        client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        let received = client.publishes(&mut world);
        let mut received: Vec<_> = received.iter().map(|received| (received.topic.as_str(), received.qos)).collect();
        received.sort_unstable();
        assert_eq!(received, [("a/b", QoS::AtLeastOnce), ("a/c", QoS::AtLeastOnce), ("d", QoS::AtMostOnce)]);
    }
}

/// Owners of topics that answer late answer the session that asked, not the next one of its client.
#[test]
fn what_was_looked_up_for_a_session_is_not_for_the_one_after_it() {
    for (shards, steps) in [2, 4].into_iter().flat_map(|shards| (0..10).map(move |steps| (shards, steps))) {
        let mut world = World::new(shards, open_config(), || NoHooks);
        Client::clean(&mut world, "publisher", V5).retain(&mut world, "t", "kept");
        let id = id_owned_by(&world, 0, "c");
        let (old, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V311));
        let mut new = Client::open(&mut world, 0, V311);
        let filters = [SubscribeFilter { filter: "t", options: SubscriptionOptions::default() }];
        let mut subscribe = Vec::new();
        Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])).encode(V311, &mut subscribe);
        let mut connect = Vec::new();
        Packet::Connect(connect_packet(&id, ConnectOptions::clean(V311))).encode(V311, &mut connect);
        world.send_quietly(old.socket, &subscribe);
        for _ in 0..steps {
            world.carry_out_outputs();
            world.carry_messages();
        }
        world.send_quietly(new.socket, &connect);
        world.send_quietly(new.socket, &subscribe);
        world.settle();
        let received = new.received(&mut world);
        let [Got::Connack { .. }, Got::Suback(..), Got::Publish(..)] = received[..] else {
            panic!("{shards} shards, after {steps} steps: {received:?}")
        };
    }
}
