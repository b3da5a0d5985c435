//! Fleets: many sessions, and much that is retained, of which all comes, to all, in order, within what each takes at a time.

use std::collections::{BTreeMap, BTreeSet};

use moormq::codec::{Ack, AckKind, Packet, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, packet_id, publish};
use crate::received::{Got, ReceivedPublish};
use crate::world::{World, worlds};

/// Sends all these packets in a few writes, and waits until they are served.
fn send_all<'a>(world: &mut World<NoHooks>, client: &Client, packets: impl Iterator<Item = Publish<'a>>) {
    let mut bytes = Vec::new();
    let send = |world: &mut World<NoHooks>, bytes: &mut Vec<u8>| {
        world.send(client.socket, bytes);
        world.received(client.socket);
        bytes.clear();
    };
    for packet in packets {
        Packet::Publish(packet).encode(client.version, &mut bytes);
        if bytes.len() > 32 * 1024 {
            send(world, &mut bytes);
        }
    }
    send(world, &mut bytes);
}

/// Acknowledges what came at QoS 1, in one write.
fn ack_all(world: &mut World<NoHooks>, client: &Client, received: &[ReceivedPublish]) {
    let mut bytes = Vec::new();
    for id in received.iter().filter(|one| one.qos == QoS::AtLeastOnce).filter_map(|one| one.id) {
        Ack::new(packet_id(id), ReasonCode::Success).encode(AckKind::Puback, client.version, &mut bytes);
    }
    world.send_quietly(client.socket, &bytes);
}

fn publishes(received: Vec<Got>) -> Vec<ReceivedPublish> {
    received.into_iter().filter_map(|got| if let Got::Publish(one) = got { Some(one) } else { None }).collect()
}

fn dropped(world: &World<NoHooks>) -> u64 {
    world.shards.iter().flat_map(|shard| shard.counters().dropped).sum()
}

/// A cell mast fails, and works again: whoever was behind it comes at the same moment, with all that waited for him.
#[test]
fn kept_sessions_that_come_back_at_once_get_all_that_waited() {
    const SESSIONS: usize = 200;
    // More than is in flight at a time.
    const MESSAGES: u16 = 120;
    for mut world in worlds() {
        let shards = world.shards.len();
        let version = |number: usize| if number.is_multiple_of(2) { V311 } else { V5 };
        let id = |number: usize| format!("device-{number}");
        for number in 0..SESSIONS {
            let options = ConnectOptions::kept(version(number));
            let mut device = Client::connect(&mut world, number % shards, &id(number), options).0;
            device.subscribed(&mut world, &format!("fleet/{number}/+"), QoS::AtLeastOnce);
            world.hang_up(device.socket);
        }
        let publisher = Client::clean(&mut world, "publisher", V311);
        let topics: Vec<_> = (0..SESSIONS).map(|number| format!("fleet/{number}/do")).collect();
        let texts: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        for text in &texts {
            let packets = (1..).zip(&topics).map(|(id, topic)| publish(topic, text, QoS::AtLeastOnce, id));
            send_all(&mut world, &publisher, packets);
        }
        // All of them, before anything of it has consequences.
        let mut devices: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let device = Client::at(world.connect((number + 1) % shards), version(number));
                let mut bytes = Vec::new();
                connect_packet(&id(number), ConnectOptions::kept(version(number))).encode(&mut bytes);
                world.send_quietly(device.socket, &bytes);
                (device, Vec::new())
            })
            .collect();
        world.settle();
        let mut came = true;
        while std::mem::take(&mut came) {
            for (device, texts) in &mut devices {
                let received = device.received(&mut world);
                if texts.is_empty() {
                    assert!(matches!(received.first(), Some(Got::Connack { present: true, .. })), "{received:?}");
                }
                let received = publishes(received);
                texts.extend(received.iter().map(|one| one.text().to_owned()));
                came |= !received.is_empty();
                ack_all(&mut world, device, &received);
            }
            world.settle();
        }
        assert!(devices.iter().all(|(_, received)| *received == texts), "each has each message once, in order");
        assert_eq!(dropped(&world), 0);
    }
}

/// Retains a message of each of these topics, from any shard.
fn retain(world: &mut World<NoHooks>, topics: &[String], payload: &str) {
    let last = world.shards.len() - 1;
    let publisher = Client::on(world, last, "retainer", ConnectOptions::clean(V311));
    let packets = (1..).zip(topics);
    let packets = packets.map(|(id, topic)| Publish { retain: true, ..publish(topic, payload, QoS::AtLeastOnce, id) });
    send_all(world, &publisher, packets);
    publisher.disconnect(world);
}

/// Receive Maximum holds from the first to the last of it, and others are served in between.
#[test]
fn all_that_is_retained_comes_to_who_takes_ten_at_a_time() {
    const RETAINED: usize = 5_000;
    for mut world in worlds() {
        let topics: Vec<_> = (0..RETAINED).map(|number| format!("kept/{number}")).collect();
        retain(&mut world, &topics, "x");
        let mut other = Client::clean(&mut world, "other", V311);
        other.subscribed(&mut world, "live", QoS::AtMostOnce);
        let ten = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(10));
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "client", ten);
        client.subscribe(&mut world, "kept/#", QoS::AtLeastOnce);
        let mut found = BTreeSet::new();
        loop {
            let received = client.publishes(&mut world);
            if received.is_empty() {
                break;
            }
            assert!(received.len() <= 10, "{} at a time", received.len());
            ack_all(&mut world, &client, &received);
            found.extend(received.into_iter().map(|one| one.topic));
            if found.len().is_multiple_of(500) {
                other.publish(&mut world, "live", "meanwhile", QoS::AtMostOnce, 0);
                assert_eq!(other.texts(&mut world), ["meanwhile"]);
            }
            world.settle();
        }
        assert_eq!(found, topics.into_iter().collect(), "all, whatever the order");
        assert_eq!(dropped(&world), 0);
    }
}

/// What an automation server does at its start: it subscribes to what describes 8,000 entities, and as these come, to the
/// state of each.
#[test]
fn a_discovery_of_eight_thousand_entities_is_complete() {
    const ENTITIES: usize = 8_000;
    let config = "m".repeat(500);
    for mut world in worlds() {
        let topics: Vec<_> =
            (0..ENTITIES).map(|at| format!("homeassistant/sensor/0x{:016x}/{}/config", at / 8, at % 8)).collect();
        retain(&mut world, &topics, &config);
        for (version, qos, filters) in [
            (V311, QoS::AtMostOnce, &["homeassistant/#"][..]),
            (V311, QoS::AtMostOnce, &["homeassistant/+/+/+/config", "homeassistant/+/+/config"]),
            (V5, QoS::AtLeastOnce, &["homeassistant/#"]),
        ] {
            let mut server = Client::clean(&mut world, "server", version);
            let options = SubscriptionOptions::new(qos);
            let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
            server.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
            let (mut found, mut subscribed) = (BTreeMap::new(), 0);
            loop {
                let received = server.publishes(&mut world);
                if received.is_empty() {
                    break;
                }
                ack_all(&mut world, &server, &received);
                received.into_iter().for_each(|one| *found.entry(one.topic).or_insert(0) += 1);
                while subscribed + 500 <= found.len().min(1_000) {
                    let states: Vec<_> = (subscribed..subscribed + 500).map(|at| format!("state/{at}")).collect();
                    let states: Vec<_> = states.iter().map(|filter| SubscribeFilter { filter, options }).collect();
                    server.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(2), &states[..])));
                    subscribed += 500;
                }
                world.settle();
            }
            assert_eq!(found.len(), ENTITIES, "{version:?} {qos:?}");
            assert!(topics.iter().all(|topic| found.get(topic) == Some(&1)), "each once");
            assert_eq!(subscribed, 1_000);
            server.disconnect(&mut world);
        }
        assert_eq!(dropped(&world), 0);
    }
}
