//! Sessions and retained messages that belong to another shard than the one that has written them: the broker starts with another number of shards,
//! or sessions have moved.

use std::collections::BTreeMap;
use std::time::Duration;

use moormq::codec::{AckKind, Publish, QoS, Will};
use moormq::hooks::NoHooks;
use moormq::random::Random;

use super::{kept, passing, seen};
use crate::client::{Client, ConnectOptions, V5, acked, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::stores::{Last, stored_world};
use crate::world::{World, open_config};

fn restarted(world: World<NoHooks>, shards: usize) -> World<NoHooks> {
    world.restarted((Last::Lost, Duration::ZERO), shards, open_config(), || NoHooks)
}

fn client(world: &mut World<NoHooks>, id: &str) -> Client {
    let (client, present) = Client::connect(world, 0, id, ConnectOptions::kept(V5));
    assert!(present || id.ends_with("new"), "{id}");
    client
}

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// All is there, and what has gone since does not come back, however often and with however many shards the broker starts.
#[test]
fn all_is_there_with_another_number_of_shards() {
    for counts in [[1, 2, 1], [2, 1, 2], [4, 1, 4], [1, 4, 2], [2, 4, 1], [4, 2, 4]] {
        let mut world = stored_world(counts[0], open_config(), || NoHooks);
        for id in IDS {
            let (mut client, _) = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5));
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            client.subscribed(&mut world, "other", QoS::AtLeastOnce);
            world.hang_up(client.socket);
        }
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "first", QoS::ExactlyOnce, 1);
        publisher.publish(&mut world, "other", "second", QoS::AtLeastOnce, 2);
        (0..20).for_each(|topic| publisher.retain(&mut world, &format!("r/{topic}"), "value"));
        for (round, shards) in counts.into_iter().enumerate().skip(1) {
            world = restarted(world, shards);
            let publisher = passing(&mut world);
            publisher.publish(&mut world, "t", &format!("round {round}"), QoS::ExactlyOnce, 1);
            // One takes all that it has, one unsubscribes, a retained message goes.
            let mut taker = client(&mut world, IDS[round]);
            let texts = taker.drained(&mut world);
            let mut expected = vec!["first".to_owned(), "second".to_owned()];
            expected.extend((1..=round).map(|round| format!("round {round}")));
            assert_eq!(texts, expected, "{counts:?}");
            world.hang_up(taker.socket);
            let leaver = client(&mut world, IDS[round + 2]);
            leaver.unsubscribe(&mut world, &["t"]);
            world.hang_up(leaver.socket);
            publisher.retain(&mut world, &format!("r/{round}"), "");
        }
        // Once more with the last number, and with the first.
        for shards in [counts[2], counts[0]] {
            world = restarted(world, shards);
            for (index, id) in IDS.into_iter().enumerate() {
                let mut client = client(&mut world, id);
                let texts: Vec<_> = client.publishes(&mut world).iter().map(|one| one.text().to_owned()).collect();
                let expected: &[&str] = match index {
                    1 => &["round 2"],
                    2 => &[],
                    3 => &["first", "second", "round 1"],
                    _ => &["first", "second", "round 1", "round 2"],
                };
                assert_eq!(texts, expected, "{counts:?}, {id}");
                world.hang_up(client.socket);
            }
            let mut reader = passing(&mut world);
            reader.subscribe(&mut world, "r/#", QoS::AtMostOnce);
            assert_eq!(reader.texts(&mut world).len(), 18, "{counts:?}");
        }
    }
}

/// What a client has in flight goes on at the shard that has it now.
#[test]
fn what_is_in_flight_keeps_its_packet_id_on_another_shard() {
    for counts in [[1, 2], [2, 4], [4, 1]] {
        let mut world = stored_world(counts[0], open_config(), || NoHooks);
        let (mut subscriber, _) = Client::connect(&mut world, 0, "subscriber", ConnectOptions::kept(V5));
        subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "one", QoS::ExactlyOnce, 1);
        publisher.publish(&mut world, "t", "two", QoS::ExactlyOnce, 2);
        let before = subscriber.publishes(&mut world);
        let ids: Vec<u16> = before.iter().filter_map(|one| one.id).collect();
        subscriber.ack(&mut world, AckKind::Pubrec, ids[0]);
        let mut world = restarted(world, counts[1]);
        let mut subscriber = client(&mut world, "subscriber");
        let again = subscriber.publishes(&mut world);
        assert_eq!(seen(&again), [("two", QoS::ExactlyOnce, Some(ids[1]), true)], "{counts:?}");
    }
}

/// Sessions move, and the broker dies at any moment of that. Each message comes once, and so it is after another start.
#[test]
fn a_session_that_moves_is_kept_at_one_shard_or_the_other() {
    for shards in [2, 4] {
        for seed in 0..40 {
            let mut random = Random::from_seed(seed);
            let mut world = stored_world(shards, open_config(), || NoHooks);
            let ids: Vec<String> = (0..3).map(|number| id_owned_by(&world, 0, &format!("mover{number}"))).collect();
            for id in &ids {
                let (mut client, _) = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5));
                client.subscribed(&mut world, "t", QoS::ExactlyOnce);
                if random.below(2) == 0 {
                    world.hang_up(client.socket);
                }
            }
            let publisher = kept(&mut world, shards - 1, "publisher");
            let mut sent = 0;
            for _ in 0..4 {
                sent += 1;
                publisher.publish(&mut world, "t", &sent.to_string(), QoS::ExactlyOnce, sent);
            }
            ids.iter().for_each(|id| move_slot(&mut world, id, 1));
            for _ in 0..random.below(40) {
                world.carry_out_outputs();
                world.carry_any_message(&mut random);
                if random.below(3) == 0 {
                    world.carry_transfer();
                }
            }
            if random.below(2) == 0 {
                world.settle();
                sent += 1;
                publisher.publish(&mut world, "t", &sent.to_string(), QoS::ExactlyOnce, sent);
            }
            let last = if random.below(2) == 0 { Last::Lost } else { Last::Written };
            let other = [1, 2, 4][random.below(3)];
            let mut world = world.restarted((last, Duration::ZERO), other, open_config(), || NoHooks);
            let mut got: BTreeMap<(String, String), usize> = BTreeMap::new();
            for round in 0..2 {
                for id in &ids {
                    let mut client = client(&mut world, id);
                    for text in client.drained(&mut world) {
                        *got.entry((id.clone(), text)).or_default() += 1;
                    }
                    world.hang_up(client.socket);
                }
                assert_eq!(
                    got.len(),
                    ids.len() * usize::from(sent),
                    "seed {seed}, {shards} shards, round {round}: {got:?}"
                );
                assert!(got.values().all(|count| *count == 1), "seed {seed}, {shards} shards, round {round}: {got:?}");
                world = restarted(world, shards);
            }
        }
    }
}

/// A publisher moves, and is on no disk of its new shard when it publishes what another shard writes: after a crash it is what it was before, and sends
/// that once more. Its will is published once, too.
#[test]
fn what_a_session_decides_whose_move_is_not_on_disk_counts_for_the_number_it_had() {
    for shards in [2, 4] {
        let mut world = stored_world(shards, open_config(), || NoHooks);
        let id = id_owned_by(&world, 0, "publisher");
        let will = Will { topic: "t", payload: b"gone", qos: QoS::ExactlyOnce, ..Will::default() };
        let options = ConnectOptions { will: Some(will), ..ConnectOptions::kept(V5) };
        let (publisher, _) = Client::connect(&mut world, 0, &id, options);
        let subscriber_id = id_owned_by(&world, 0, "subscriber");
        let (mut subscriber, _) = Client::connect(&mut world, 0, &subscriber_id, ConnectOptions::kept(V5));
        subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
        // What comes from other shards is not on disk either, so that nobody is told of the move.
        world.hold_commits();
        move_slot(&mut world, &id, 1);
        world.settle();
        assert_eq!(world.shard_of(publisher.socket), Some(1));
        publisher.publish(&mut world, "t", "one", QoS::ExactlyOnce, 1);
        world.hang_up(publisher.socket);
        world.commit_on(0);
        assert_eq!(["one", "gone"].map(|text| world.stores().deliveries(0, text)), [1, 1]);
        let mut world = restarted(world, shards);
        let (mut publisher, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(present);
        publisher.publish_with(&mut world, Publish { dup: true, ..publish("t", "one", QoS::ExactlyOnce, 1) });
        assert_eq!(publisher.received(&mut world), [acked(AckKind::Pubrec, 1)]);
        let mut subscriber = client(&mut world, &subscriber_id);
        let mut texts = subscriber.drained(&mut world);
        texts.sort_unstable();
        assert_eq!(texts, ["gone", "one"], "{shards} shards");
    }
}
