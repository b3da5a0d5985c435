//! Filters and listeners whose messages are not dropped for connected clients, however slow those are.

use std::time::Duration;

use moormq::client::DropReason;
use moormq::codec::{AckKind, Packet, QoS};
use moormq::config::{Config, Limit, ListenerConfig};
use moormq::hooks::NoHooks;
use moormq::shard::Admission;

use crate::client::{Client, ConnectOptions, QOS, V5, V311, connect_packet, id_owned_by, publish};
use crate::received::Got;
use crate::world::{World, config, worlds_with};

/// What is below `a` must not be dropped, and nothing for clients of the second listener.
fn lossless() -> Config {
    config(|config| {
        let address = |port| ([127, 0, 0, 1], port).into();
        config.listeners = vec![
            ListenerConfig { name: "lossy".into(), address: address(1), ..ListenerConfig::default() },
            ListenerConfig {
                name: "lossless".into(),
                address: address(2),
                lossless: true,
                ..ListenerConfig::default()
            },
        ];
        config.queue.lossless_filters = vec!["a/#".into()];
        config.queue.max_waiting_output_bytes = 4096;
        config.queue.max_queue_bytes = Limit::at_most(64 << 10);
    })
}

fn dropped(world: &World<NoHooks>) -> u64 {
    let of = |reason| world.shards.iter().map(|shard| shard.counters().dropped[reason as usize]).sum::<u64>();
    of(DropReason::QueueFull) + of(DropReason::SlowConsumer)
}

/// A client of this listener, of the last shard, that subscribes to everything.
fn subscriber(world: &mut World<NoHooks>, listener: usize, qos: QoS) -> Client {
    let last = world.shards.len() - 1;
    let socket = world.connect_to(last, listener, Admission::Admitted);
    let mut client = Client::at(socket, V5);
    let id = id_owned_by(world, last, "subscriber");
    let mut bytes = Vec::new();
    connect_packet(&id, ConnectOptions::kept(V5)).encode(&mut bytes);
    world.send(socket, &bytes);
    assert!(matches!(client.received(world)[..], [Got::Connack { .. }]));
    client.subscribed(world, "#", qos);
    client
}

/// Reads and acknowledges all that is there, and then reads no more.
fn read(world: &mut World<NoHooks>, client: &mut Client) -> Vec<String> {
    world.stick(client.socket, false);
    let mut texts = Vec::new();
    for one in client.publishes(world) {
        match one.id {
            Some(id) if one.qos == QoS::AtLeastOnce => client.ack(world, AckKind::Puback, id),
            Some(id) => {
                client.ack(world, AckKind::Pubrec, id);
                client.ack(world, AckKind::Pubcomp, id);
            }
            None => {}
        }
        texts.push(one.text().to_owned());
    }
    world.stick(client.socket, true);
    texts
}

#[test]
fn nothing_is_dropped_for_a_client_that_hardly_reads() {
    for (topic, listener) in [("a/b", 0), ("b", 1)] {
        for qos in QOS {
            for mut world in worlds_with(lossless) {
                let mut slow = subscriber(&mut world, listener, qos);
                world.stick(slow.socket, true);
                let publishers = ["one", "two"].map(|id| Client::clean(&mut world, id, V311));
                let payload = "x".repeat(500);
                let texts: Vec<String> = (0..400).map(|number| format!("{number} {payload}")).collect();
                for (id, text) in (1..).zip(&texts) {
                    let publisher = &publishers[usize::from(id % 2)];
                    publisher.publish(&mut world, topic, text, qos, id);
                    if qos == QoS::ExactlyOnce {
                        publisher.ack(&mut world, AckKind::Pubrel, id);
                    }
                }
                let mut received = Vec::new();
                while received.len() < texts.len() {
                    // Far longer than anybody's patience.
                    world.advance(Duration::from_secs(3));
                    assert_eq!(dropped(&world), 0, "{topic} at {qos:?}, {} shards", world.shards.len());
                    received.extend(read(&mut world, &mut slow));
                }
                received.sort_by_key(|text| text.split(' ').next().and_then(|number| number.parse::<usize>().ok()));
                assert!(received == texts && dropped(&world) == 0);
            }
        }
    }
}

#[test]
fn others_are_not_held_and_their_messages_may_be_dropped() {
    for mut world in worlds_with(lossless) {
        let slow = subscriber(&mut world, 0, QoS::AtMostOnce);
        world.stick(slow.socket, true);
        let mut other = Client::clean(&mut world, "other", V5);
        other.subscribed(&mut world, "c", QoS::AtMostOnce);
        let held = Client::clean(&mut world, "held", V311);
        let payload = "x".repeat(1000);
        (0..100).for_each(|_| held.publish(&mut world, "a/b", &payload, QoS::AtMostOnce, 0));
        let publisher = Client::clean(&mut world, "publisher", V311);
        (0..100).for_each(|_| publisher.publish(&mut world, "c", &payload, QoS::AtMostOnce, 0));
        world.advance(Duration::from_secs(3));
        assert_eq!(other.publishes(&mut world).len(), 100, "{} shards", world.shards.len());
        assert!(dropped(&world) > 0, "what is not listed");
        let served = world.shards.iter().map(|shard| shard.counters().messages_in).sum::<u64>();
        assert!(served < 200, "and it still waits");
        // Keep-alive is not held against who waits; the slow one leaves, and he goes on.
        world.hang_up(slow.socket);
        world.advance(Duration::from_millis(100));
        assert_eq!(world.shards.iter().map(|shard| shard.counters().messages_in).sum::<u64>(), 200);
    }
}

/// Nothing is sent, and so nothing read, when what waits is too large for the client.
#[test]
fn who_waits_goes_on_when_nothing_of_what_waited_could_be_sent() {
    for mut world in worlds_with(lossless) {
        let last = world.shards.len() - 1;
        let options = ConnectOptions::clean(V5).with(|properties| {
            (properties.receive_maximum, properties.maximum_packet_size) = (Some(1), Some(200));
        });
        let mut small = Client::on(&mut world, last, "small", options);
        small.subscribed(&mut world, "a/b", QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.publish(&mut world, "a/b", "small", QoS::AtLeastOnce, 1);
        let payload = "x".repeat(1000);
        (0..100).for_each(|_| publisher.publish(&mut world, "a/b", &payload, QoS::AtLeastOnce, 2));
        let served =
            |world: &World<NoHooks>| world.shards.iter().map(|shard| shard.counters().messages_in).sum::<u64>();
        world.advance(Duration::from_secs(3));
        assert!(served(&world) < 101, "it waits");
        let got = small.publishes(&mut world);
        assert_eq!(got.len(), 1);
        small.ack(&mut world, AckKind::Puback, got[0].id.expect("QoS 1"));
        world.settle();
        assert_eq!(served(&world), 101, "{} shards", world.shards.len());
    }
}

/// What it acknowledges comes behind what it publishes.
#[test]
fn who_publishes_to_itself_does_not_wait_for_itself() {
    for mut world in worlds_with(lossless) {
        let last = world.shards.len() - 1;
        let id = id_owned_by(&world, last, "both");
        let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(3));
        let (mut both, _) = Client::connect(&mut world, 0, &id, options);
        both.subscribed(&mut world, "a/b", QoS::AtLeastOnce);
        let payload = "x".repeat(1000);
        let mut received = 0;
        for round in 0..100_u16 {
            for number in 0..10 {
                let publish = publish("a/b", &payload, QoS::AtLeastOnce, 1 + round * 10 + number);
                both.send_quietly(&mut world, &Packet::Publish(publish));
            }
            world.settle();
            // It is behind with what it has received, but not for ever.
            for got in both.publishes(&mut world) {
                received += 1;
                both.ack(&mut world, AckKind::Puback, got.id.expect("QoS 1"));
            }
            world.advance(Duration::from_millis(500));
        }
        for _ in 0..1000 {
            for got in both.publishes(&mut world) {
                received += 1;
                both.ack(&mut world, AckKind::Puback, got.id.expect("QoS 1"));
            }
        }
        assert_eq!(received as u64 + dropped(&world), 1000, "{} shards", world.shards.len());
        assert_eq!(both.received(&mut world), vec![]);
    }
}

/// Two that publish to each other, and both read slowly.
#[test]
fn two_that_publish_to_each_other_do_not_wait_for_ever() {
    for mut world in worlds_with(lossless) {
        let shards = world.shards.len();
        let mut pair: Vec<Client> = (0..2)
            .map(|number| {
                let id = id_owned_by(&world, number % shards, &format!("c{number}-"));
                let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(3));
                let (mut client, _) = Client::connect(&mut world, 0, &id, options);
                client.subscribed(&mut world, &format!("a/{number}"), QoS::AtLeastOnce);
                client
            })
            .collect();
        let payload = "x".repeat(1000);
        for number in 0..300 {
            for (at, client) in pair.iter().enumerate() {
                client.publish(&mut world, &format!("a/{}", 1 - at), &payload, QoS::AtLeastOnce, 1 + number);
            }
        }
        let mut received = 0;
        for _ in 0..2000 {
            for client in &mut pair {
                for got in client.publishes(&mut world) {
                    received += 1;
                    client.ack(&mut world, AckKind::Puback, got.id.expect("QoS 1"));
                }
            }
            world.advance(Duration::from_millis(50));
        }
        assert_eq!(received + dropped(&world), 600, "{shards} shards");
    }
}
