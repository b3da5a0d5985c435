//! Batches: publications of one client that come in one read and go to many. They are delivered as if each had come alone.

use std::sync::{Arc, Mutex};

use moormq::codec::{
    AckKind::*, Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, SubscriptionOptions, Unsubscribe,
};
use moormq::config::{Config, SharedPolicy};
use moormq::hooks::{Answer, Chain, DeliverAnswer, NoHooks};

use crate::client::{Client, ConnectOptions, QOS, V5, V311, acked, connect_packet, packet_id, publish};
use crate::received::Got;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, worlds_with};

fn wide_windows() -> Config {
    config(|config| {
        config.limits.max_inflight_messages = 1000;
        config.shared.policy = SharedPolicy::RoundRobin;
    })
}

/// Twelve subscribers to `filter` on each shard, of every version and QoS.
fn crowd<C: Chain>(world: &mut World<C>, filter: &str) -> Vec<(Client, QoS)> {
    let mut crowd = Vec::new();
    for shard in 0..world.shards.len() {
        for number in 0..12 {
            let (version, qos) = (ProtocolVersion::ALL[number % 3], QOS[number / 3 % 3]);
            let mut client = Client::on(world, shard, &format!("{number}of"), ConnectOptions::clean(version));
            client.subscribed(world, filter, qos);
            crowd.push((client, qos));
        }
    }
    crowd
}

/// Several packets in one piece.
fn piece(version: ProtocolVersion, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
    bytes
}

fn texts(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// A run of publications to `t`, one for each text, at this QoS from packet id 1 on.
fn run(texts: &[String], qos: QoS) -> Vec<Packet<'_>> {
    let ids = 1_u16..;
    texts.iter().zip(ids).map(|(text, id)| Packet::Publish(publish("t", text, qos, id))).collect()
}

/// [MQTT-4.6.0-5], [MQTT-3.3.5-1]: in order, at the lower QoS, with what is between the runs in its place.
#[test]
fn a_run_reaches_everybody_in_order_with_all_that_comes_between() {
    for mut world in worlds_with(wide_windows) {
        let mut crowd = crowd(&mut world, "#");
        let mut mirror = Client::on(&mut world, 0, "mirror", ConnectOptions::clean(V5));
        let as_published =
            SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::new(QoS::ExactlyOnce) };
        mirror.subscribe_with(&mut world, "t", as_published, Some(7));
        let mut publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
        let not_own = SubscriptionOptions { no_local: true, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
        publisher.subscribe_with(&mut world, "t", not_own, None);
        assert_eq!(publisher.received(&mut world).len(), 1, "SUBACK");
        let (texts, large) = (texts(300), "large".repeat(1000));
        let at = |number: usize| QOS[number / 7 % 3];
        let none = PublishProperties::default();
        let properties = PublishProperties { content_type: Some("words"), message_expiry: Some(60), ..none };
        let alias = PublishProperties { topic_alias: Some(1), ..none };
        let mut packets = Vec::new();
        let mut expected = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let publish = publish("t", text, at(number), number as u16 + 1);
            let publish = match number {
                50..60 => Publish { topic: "another", ..publish },
                100 | 105 | 106 => Publish { retain: true, ..publish },
                120 | 250 => Publish { payload: large.as_bytes(), ..publish },
                130..140 => Publish { properties, ..publish },
                160 => Publish { properties: alias, ..publish },
                161..170 => Publish { topic: "", properties: alias, ..publish },
                _ => publish,
            };
            if number % 97 == 0 {
                packets.push(Packet::Pingreq);
            }
            packets.push(Packet::Publish(publish));
            let topic = if publish.topic.is_empty() { "t" } else { publish.topic };
            expected.push((topic, publish.payload, at(number), publish.properties));
        }
        world.send(publisher.socket, &piece(V5, &packets));
        for (client, granted) in &mut crowd {
            let received = client.publishes(&mut world);
            assert_eq!(received.len(), expected.len());
            for (received, (topic, payload, qos, properties)) in received.iter().zip(&expected) {
                assert_eq!((received.topic.as_str(), received.payload.as_slice()), (*topic, *payload));
                assert_eq!((received.qos, received.retain, received.dup), ((*qos).min(*granted), false, false));
                let properties = if client.version.is_v5() { *properties } else { none };
                assert_eq!(received.properties.content_type, properties.content_type);
                assert_eq!(received.properties.message_expiry, properties.message_expiry);
            }
            let ids: Vec<_> = received.iter().filter_map(|received| received.id).collect();
            assert_eq!(ids, (1..=ids.len() as u16).collect::<Vec<_>>());
        }
        let mirrored = mirror.publishes(&mut world);
        assert!(mirrored.iter().all(|received| received.ids() == [7]));
        let retained = mirrored.iter().filter(|received| received.retain).map(|received| received.text());
        assert_eq!(retained.collect::<Vec<_>>(), ["100", "105", "106"]);
        let answers = publisher.received(&mut world);
        let acks = (0..300).filter_map(|number| match at(number) {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(acked(Puback, number as u16 + 1)),
            QoS::ExactlyOnce => Some(acked(Pubrec, number as u16 + 1)),
        });
        assert_eq!(
            answers.iter().filter(|got| **got != Got::Pingresp).cloned().collect::<Vec<_>>(),
            acks.collect::<Vec<_>>()
        );
        assert_eq!(answers.iter().filter(|got| **got == Got::Pingresp).count(), 4);
        let mut late = Client::clean(&mut world, "late", V311);
        late.subscribe(&mut world, "t", QoS::AtMostOnce);
        assert_eq!(late.texts(&mut world), ["106"], "the last that was to be retained");
    }
}

/// Lifecycle.md section 4: what a client published before it goes is published, and its will comes after that.
#[test]
fn what_came_before_an_end_is_delivered_before_the_will() {
    let ends = [
        Packet::Connect(connect_packet("again", ConnectOptions::clean(V311))),
        Packet::Publish(publish("not/+/valid", "x", QoS::AtMostOnce, 0)),
    ];
    for end in ends {
        for mut world in worlds_with(wide_windows) {
            let mut crowd = crowd(&mut world, "t");
            let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311).will("t"));
            let mut expected = texts(20);
            let mut packets = run(&expected, QoS::AtLeastOnce);
            packets.push(end);
            let bytes = piece(V311, &packets);
            world.send(publisher.socket, &bytes);
            assert!(world.is_closed(publisher.socket));
            expected.push("gone".to_owned());
            for (client, _) in &mut crowd {
                assert_eq!(client.texts(&mut world), expected);
            }
        }
    }
}

/// What a client does between two runs happens between them.
#[test]
fn a_publisher_that_unsubscribes_gets_what_it_published_before_and_nothing_after() {
    for mut world in worlds_with(wide_windows) {
        let mut crowd = crowd(&mut world, "t");
        let mut publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
        publisher.subscribed(&mut world, "t", QoS::AtMostOnce);
        let all = texts(20);
        let mut packets = run(&all[..10], QoS::AtMostOnce);
        let filters = ["t"];
        packets.push(Packet::Unsubscribe(Unsubscribe::new(packet_id(2), &filters[..])));
        packets.extend(run(&all[10..], QoS::AtMostOnce));
        world.send(publisher.socket, &piece(V5, &packets));
        let received = publisher.received(&mut world);
        let (before, after) = received.split_at(10);
        let own: Vec<_> =
            before.iter().map(|got| if let Got::Publish(received) = got { received.text() } else { "" }).collect();
        assert_eq!(own, all[..10]);
        assert_eq!(after, [Got::Unsuback(2, vec![ReasonCode::Success])]);
        for (client, _) in &mut crowd {
            assert_eq!(client.texts(&mut world), all);
        }
    }
}

/// QoS 0 for a client that does not read waits, and so does its publisher: nothing is lost, and the others get all of it.
#[test]
fn a_run_for_one_that_does_not_read_is_not_lost() {
    for mut world in worlds_with(|| config(|config| config.queue.max_waiting_output_bytes = 4096)) {
        let mut crowd = crowd(&mut world, "t");
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let last = crowd.len() - 1;
        world.stick(crowd[last].0.socket, true);
        let texts: Vec<_> = (0..1000).map(|number| format!("{number:0>100}")).collect();
        for texts in texts.chunks(100) {
            world.send(publisher.socket, &piece(V311, &run(texts, QoS::AtMostOnce)));
        }
        let mut received = vec![Vec::new(); crowd.len()];
        for _ in 0..1000 {
            world.stick(crowd[last].0.socket, false);
            world.stick(crowd[last].0.socket, true);
            crowd
                .iter_mut()
                .zip(&mut received)
                .for_each(|((client, _), received)| received.extend(client.texts(&mut world)));
        }
        received.iter().for_each(|received| assert_eq!(*received, texts));
    }
}

/// [MQTT-4.8.2-4]: the member of a shared subscription is chosen for each message of a run.
#[test]
fn members_of_a_shared_subscription_take_turns_within_a_run() {
    for mut world in worlds_with(wide_windows) {
        let mut crowd = crowd(&mut world, "t");
        let shards = world.shards.len();
        let mut members = Vec::new();
        for number in 0..2 * shards {
            let mut member =
                Client::on(&mut world, number / 2, &format!("member{number}of"), ConnectOptions::clean(V5));
            member.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
            members.push(member);
        }
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
        let all = texts(80);
        world.send(publisher.socket, &piece(V5, &run(&all, QoS::AtLeastOnce)));
        let received: Vec<_> = members.iter_mut().map(|member| member.texts(&mut world)).collect();
        assert!(received.iter().all(|texts| texts.len() == 40 / shards), "{received:?}");
        let mut shared: Vec<usize> = received.concat().iter().filter_map(|text| text.parse().ok()).collect();
        shared.sort_unstable();
        assert_eq!(shared, (0..80).collect::<Vec<_>>());
        for (client, _) in &mut crowd {
            assert_eq!(client.texts(&mut world), all);
        }
    }
}

/// A run that fills the output of a client has its publisher wait: what it sent behind the run is served when that has left.
#[test]
fn what_follows_a_run_waits_with_its_publisher() {
    for mut world in worlds_with(|| config(|config| config.queue.max_waiting_output_bytes = 4096)) {
        let crowd = crowd(&mut world, "t");
        let mut publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let slow = crowd[0].0.socket;
        world.stick(slow, true);
        let texts: Vec<_> = (0..60).map(|number| format!("{number:0>100}")).collect();
        let mut packets = run(&texts, QoS::AtMostOnce);
        packets.push(Packet::Pingreq);
        world.send(publisher.socket, &piece(V311, &packets));
        assert_eq!(publisher.received(&mut world), []);
        world.stick(slow, false);
        assert_eq!(publisher.received(&mut world), [Got::Pingresp]);
    }
}

/// A publish that a hook answers later comes after the run before it, and what follows waits for it.
#[test]
fn a_later_answer_within_a_run_keeps_its_order() {
    for shards in [1, 2, 4] {
        let gate = Gate::default();
        let at = gate.clone();
        let answers = Answers::default().auth_on_publish(move |_, request| match request.payload {
            b"7" => at.later(Answer::ok),
            _ => Answer::ok(),
        });
        let mut world = World::new(shards, wide_windows(), || NoHooks.hook(Script::new(answers.clone())));
        let mut crowd = crowd(&mut world, "t");
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let texts = texts(20);
        world.send(publisher.socket, &piece(V311, &run(&texts, QoS::AtLeastOnce)));
        for (client, _) in &mut crowd {
            assert_eq!(client.texts(&mut world), texts[..7]);
        }
        gate.open();
        world.settle();
        for (client, _) in &mut crowd {
            assert_eq!(client.texts(&mut world), texts[7..]);
        }
    }
}

/// `on_deliver` is asked of each message and each receiver once, of the messages of one receiver in their order.
#[test]
fn on_deliver_is_asked_once_for_each_delivery_in_the_order_of_each_receiver() {
    for shards in [1, 2, 4] {
        let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let note = {
            let seen = seen.clone();
            move |client: &moormq::client::Client, payload: &[u8]| {
                let (id, text) =
                    (client.subscriber.client_id.to_string(), String::from_utf8_lossy(payload).into_owned());
                seen.lock().expect("no hook panics").push((id, text));
            }
        };
        let note_m5 = note.clone();
        let answers = Answers::default()
            .on_deliver(move |client, delivery| {
                note(client, delivery.payload);
                DeliverAnswer::Next
            })
            .on_deliver_m5(move |client, delivery| {
                note_m5(client, delivery.payload);
                DeliverAnswer::Next
            });
        let mut world = World::new(shards, wide_windows(), || NoHooks.hook(Script::new(answers.clone())));
        let crowd = crowd(&mut world, "t");
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let texts = texts(200);
        world.send(publisher.socket, &piece(V311, &run(&texts, QoS::AtLeastOnce)));
        let mut seen = std::mem::take(&mut *seen.lock().expect("no hook panics"));
        assert_eq!(seen.len(), crowd.len() * texts.len());
        seen.sort_by(|(one, _), (other, _)| one.cmp(other));
        for of_one in seen.chunks(texts.len()) {
            assert!(of_one.iter().map(|(_, text)| text).eq(&texts), "{of_one:?}");
        }
    }
}
