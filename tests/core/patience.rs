//! Publishers wait for clients that do not keep up, for a while: the credit of either side.

use std::time::Duration;

use moormq::client::DropReason;
use moormq::codec::{AckKind, QoS};
use moormq::config::{Config, Limit, QueueConfig};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, QOS, V5, V311, id_owned_by};
use crate::migrating::move_slot;
use crate::world::{World, config, worlds_with};

/// Little output, and room for any number of messages in the queue.
fn tight() -> Config {
    config(|config| {
        config.queue.max_waiting_output_bytes = 4096;
        config.queue.max_online_messages = Limit::UNLIMITED;
        // A quarter of it is more than one read.
        config.queue.max_queue_bytes = Limit::at_most(100 << 10);
    })
}

fn served(world: &World<NoHooks>) -> u64 {
    world.shards.iter().map(|shard| shard.counters().messages_in).sum()
}

fn dropped(world: &World<NoHooks>) -> u64 {
    let counters = world.shards.iter().map(|shard| shard.counters());
    counters
        .map(|counters| {
            counters.dropped[DropReason::SlowConsumer as usize] + counters.dropped[DropReason::QueueFull as usize]
        })
        .sum()
}

#[test]
fn a_burst_to_a_client_that_reads_loses_nothing() {
    for qos in QOS {
        for mut world in worlds_with(tight) {
            let last = world.shards.len() - 1;
            let mut reader = Client::on(&mut world, last, "reader", ConnectOptions::kept(V5));
            reader.subscribed(&mut world, "t", qos);
            let publisher = Client::clean(&mut world, "publisher", V311);
            world.stick(reader.socket, true);
            let payload = "x".repeat(500);
            let texts: Vec<String> = (0..600).map(|number| format!("{number} {payload}")).collect();
            for (id, text) in (1..).zip(&texts) {
                publisher.publish(&mut world, "t", text, qos, id);
                if qos == QoS::ExactlyOnce {
                    publisher.ack(&mut world, AckKind::Pubrel, id);
                }
            }
            let mut received = Vec::new();
            // It reads, now and then, and acknowledges.
            while received.len() < texts.len() {
                world.stick(reader.socket, false);
                let got = reader.publishes(&mut world);
                assert!(!got.is_empty(), "{qos:?}: {} have come, {} were dropped", received.len(), dropped(&world));
                for one in got {
                    match one.id {
                        Some(id) if one.qos == QoS::AtLeastOnce => reader.ack(&mut world, AckKind::Puback, id),
                        Some(id) => {
                            reader.ack(&mut world, AckKind::Pubrec, id);
                            reader.ack(&mut world, AckKind::Pubcomp, id);
                        }
                        None => {}
                    }
                    received.push(one.text().to_owned());
                }
                world.stick(reader.socket, true);
                world.advance(Duration::from_millis(2));
            }
            assert!(received == texts && dropped(&world) == 0, "{qos:?}");
        }
    }
}

/// Publishers do not wait for it longer than for others, but what they publish has the queue to wait in.
#[test]
fn a_client_that_reads_too_slowly_loses_what_its_queue_has_no_room_for() {
    for (room, loses) in [(1 << 20, false), (100 << 10, true)] {
        let config =
            || Config { queue: QueueConfig { max_queue_bytes: Limit::at_most(room), ..tight().queue }, ..tight() };
        for mut world in worlds_with(config) {
            let last = world.shards.len() - 1;
            let mut reader = Client::on(&mut world, last, "reader", ConnectOptions::clean(V311));
            reader.subscribed(&mut world, "t", QoS::AtMostOnce);
            let publisher = Client::clean(&mut world, "publisher", V311);
            world.stick(reader.socket, true);
            let payload = "x".repeat(500);
            let texts: Vec<String> = (0..600).map(|number| format!("{number} {payload}")).collect();
            texts.iter().for_each(|text| publisher.publish(&mut world, "t", text, QoS::AtMostOnce, 0));
            let (mut received, begun) = (Vec::new(), world.now);
            loop {
                world.advance(Duration::from_millis(100));
                world.take_in(reader.socket);
                let got = reader.texts(&mut world);
                if got.is_empty() {
                    break;
                }
                received.extend(got);
            }
            assert!(world.now.since(begun) > Duration::from_secs(2), "it takes longer than anybody waits");
            assert_eq!((received == texts, dropped(&world) == 0), (!loses, !loses), "{room}: {}", received.len());
        }
    }
}

/// Publishes much to a topic that a client subscribes to which reads nothing. Gives how long its publisher was held.
fn held(world: &mut World<NoHooks>, publisher: &Client, for_at_most: Duration) -> Duration {
    let begun = world.now;
    let before = served(world);
    let payload = "x".repeat(1000);
    for _ in 0..20 {
        publisher.publish(world, "t", &payload, QoS::AtMostOnce, 0);
    }
    while served(world) < before + 20 && world.now.since(begun) < for_at_most {
        world.advance(Duration::from_millis(50));
    }
    assert_eq!(served(world), before + 20, "it goes on in the end");
    world.now.since(begun)
}

#[test]
fn connecting_again_brings_no_new_patience() {
    let kept = ConnectOptions::kept(V5);
    let anew = ConnectOptions { clean_start: true, ..kept };
    // The session ends with the connection, is kept, or is one more that is kept: of another client, or with a clean start.
    for (options, is_new) in [(ConnectOptions::clean(V311), true), (kept, false), (kept, true), (anew, false)] {
        for mut world in worlds_with(tight) {
            let publisher = Client::clean(&mut world, "publisher", V311);
            let last = world.shards.len() - 1;
            let mut all = Duration::ZERO;
            for number in 0..5 {
                // Who leaves an address without having caught up leaves its lack of credit to the next.
                let name = if is_new { format!("rude{number}") } else { "rude".to_owned() };
                let mut rude = Client::on(&mut world, last, &name, options);
                rude.subscribe(&mut world, "t", QoS::AtMostOnce);
                rude.received(&mut world);
                world.stick(rude.socket, true);
                all += held(&mut world, &publisher, Duration::from_secs(5));
                world.hang_up(rude.socket);
            }
            assert!(all >= Duration::from_millis(400) && all <= Duration::from_millis(800), "{all:?}");
        }
    }
}

#[test]
fn a_publisher_is_held_for_a_tenth_of_the_time_at_most() {
    for mut world in worlds_with(tight) {
        let publisher = Client::clean(&mut world, "publisher", V311);
        let mut rude = Vec::new();
        for number in 0..30 {
            let mut client = Client::clean(&mut world, &format!("rude{number}"), V5);
            // A session that is kept has a credit of its own.
            client = {
                world.hang_up(client.socket);
                Client::connect(&mut world, 0, &format!("kept{number}"), ConnectOptions::kept(V5)).0
            };
            client.subscribed(&mut world, &format!("t/{number}"), QoS::AtMostOnce);
            world.stick(client.socket, true);
            rude.push(client);
        }
        let payload = "x".repeat(1000);
        let begun = world.now;
        let mut stalled = Duration::ZERO;
        for number in 0..30 {
            for _ in 0..10 {
                let (before, at) = (served(&world), world.now);
                publisher.publish(&mut world, &format!("t/{number}"), &payload, QoS::AtMostOnce, 0);
                while served(&world) == before {
                    world.advance(Duration::from_millis(50));
                }
                stalled += world.now.since(at);
            }
            world.advance(Duration::from_millis(100));
        }
        let all = world.now.since(begun);
        assert!(
            stalled <= Duration::from_millis(600) + all / 20 + Duration::from_millis(500),
            "{stalled:?} of {all:?}"
        );
        assert!(stalled >= Duration::from_millis(400), "{stalled:?}");
    }
}

/// Who publishes little is not held for a client that another one floods.
#[test]
fn a_client_that_is_flooded_holds_up_who_floods_it() {
    for mut world in worlds_with(tight) {
        let mut rude = Client::clean(&mut world, "rude", V311);
        rude.subscribed(&mut world, "#", QoS::AtMostOnce);
        let flood = Client::clean(&mut world, "flood", V311);
        let modest = Client::clean(&mut world, "modest", V311);
        world.stick(rude.socket, true);
        let payload = "x".repeat(1000);
        for _ in 0..20 {
            flood.publish(&mut world, "t", &payload, QoS::AtMostOnce, 0);
        }
        let before = served(&world);
        for _ in 0..5 {
            modest.publish(&mut world, "t", "hello", QoS::AtMostOnce, 0);
        }
        assert_eq!(served(&world) - before, 5);
        assert!(before < 20, "the other one waits");
    }
}

/// What the publisher waited for stays behind when it moves, and its credit comes back as ever.
#[test]
fn a_publisher_that_moves_while_it_is_held_can_be_held_again() {
    for shards in [2, 4] {
        let mut world = World::new(shards, tight(), || NoHooks);
        let id = id_owned_by(&world, 0, "publisher");
        let (publisher, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V311));
        for to in [1, 0] {
            let mut rude = Client::on(&mut world, 1, &format!("rude{to}"), ConnectOptions::clean(V311));
            rude.subscribed(&mut world, "t", QoS::AtMostOnce);
            world.stick(rude.socket, true);
            let before = served(&world);
            for _ in 0..20 {
                publisher.publish(&mut world, "t", &"x".repeat(1000), QoS::AtMostOnce, 0);
            }
            world.advance(Duration::from_millis(200));
            assert!(served(&world) < before + 20, "it waits on shard {}", 1 - to);
            move_slot(&mut world, &id, to);
            world.settle();
            assert_eq!(world.shard_of(publisher.socket), Some(to));
            world.hang_up(rude.socket);
            world.advance(Duration::from_secs(20));
        }
    }
}

/// Where queues have few bytes, those of QoS 1 alone may fill one, long before the output is full: QoS 0 that comes behind them waits, too.
#[test]
fn qos_0_behind_a_queue_that_is_nearly_full_is_not_dropped_for_a_client_that_reads() {
    let short = || {
        config(|config| {
            config.queue.max_waiting_output_bytes = 16 << 10;
            config.queue.max_queue_bytes = Limit::at_most(16 << 10);
        })
    };
    for mut world in worlds_with(short) {
        let last = world.shards.len() - 1;
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut reader = Client::on(&mut world, last, "reader", options);
        reader.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let [first, second] =
            ["first", "second"].map(|name| Client::on(&mut world, last, name, ConnectOptions::clean(V311)));
        let payload = "x".repeat(1000);
        for id in 1..=13 {
            first.publish(&mut world, "t", &payload, QoS::AtLeastOnce, id);
        }
        for _ in 0..40 {
            second.publish(&mut world, "t", &payload, QoS::AtMostOnce, 0);
        }
        assert!(served(&world) < 53, "{} shards: it waits", world.shards.len());
        let mut received = 0;
        while received < 53 {
            let got = reader.publishes(&mut world);
            assert!(!got.is_empty(), "{received} have come, {} were dropped", dropped(&world));
            received += got.len();
            got.iter().filter_map(|one| one.id).for_each(|id| reader.ack(&mut world, AckKind::Puback, id));
        }
        assert_eq!(dropped(&world), 0);
    }
}
