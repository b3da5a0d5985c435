//! Slots that move to another shard while clients are connected: nothing is lost, doubled or reordered.

use std::time::Duration;

use moormq::client::SubscriberId;
use moormq::codec::{
    Ack, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use moormq::hooks::{Chain, NoHooks};
use moormq::random::Random;
use moormq::shard::{Request, slot_of};

use crate::client::{Client, Hello, V5, connect_packet, id_owned_by, packet_id, publish};
use crate::heard::Got;
use crate::script::Script;
use crate::world::{World, open_config};

fn world(shards: usize) -> World<NoHooks> {
    World::new(shards, open_config(), || NoHooks)
}

/// Moves the slot of `id` to shard `to`, without waiting for it.
pub fn move_slot<C: Chain>(world: &mut World<C>, id: &str, to: usize) {
    let slot = slot_of(&SubscriberId::new("", id), crate::world::SEED);
    for shard in 0..world.shards.len() {
        let request = Request::MoveSlots { slots: vec![slot], to };
        let now = world.now;
        world.shards[shard].request(request, now);
    }
}

#[test]
fn an_offline_session_moves_with_its_queue() {
    for shards in [2, 4] {
        let mut world = world(shards);
        let id = id_owned_by(&world, 0, "subscriber");
        let (mut subscriber, _) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V311));
        subscriber.subscribe(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(subscriber.socket);
        let (publisher, _) = Client::connect(&mut world, 0, "publisher", Hello::clean(ProtocolVersion::V5));
        publisher.publish(&mut world, "t", "before", QoS::AtLeastOnce, 1);
        move_slot(&mut world, &id, shards - 1);
        publisher.publish(&mut world, "t", "while", QoS::AtLeastOnce, 2);
        world.settle();
        publisher.publish(&mut world, "t", "after", QoS::AtLeastOnce, 3);
        let (mut subscriber, present) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V311));
        assert!(present);
        assert_eq!(world.shard_of(subscriber.socket), Some(shards - 1));
        let payloads: Vec<_> = subscriber.publishes(&mut world).into_iter().map(|heard| heard.payload).collect();
        assert_eq!(payloads, [&b"before"[..], b"while", b"after"]);
    }
}

#[test]
fn a_client_that_connects_during_the_move_pulls_its_session() {
    for shards in [2, 4] {
        for steps in 0..12 {
            let mut world = world(shards);
            let id = id_owned_by(&world, 0, "subscriber");
            let (mut subscriber, _) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V5));
            subscriber.subscribe(&mut world, "t", QoS::AtLeastOnce);
            world.hang_up(subscriber.socket);
            let (publisher, _) = Client::connect(&mut world, 0, "publisher", Hello::clean(ProtocolVersion::V5));
            publisher.publish(&mut world, "t", "kept", QoS::AtLeastOnce, 1);
            move_slot(&mut world, &id, 1);
            for _ in 0..steps {
                world.carry_out_effects();
                world.carry_mail();
            }
            let (mut subscriber, present) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V5));
            assert!(present, "after {steps} steps of the move");
            assert_eq!(world.shard_of(subscriber.socket), Some(1));
            assert_eq!(subscriber.publishes(&mut world).len(), 1);
        }
    }
}

/// Ids that share the slot of `first`.
pub fn in_the_slot_of(first: &str, count: usize) -> Vec<String> {
    let slot = |id: &str| slot_of(&SubscriberId::new("", id), crate::world::SEED);
    let ids = (0..).map(|number| format!("{first}-{number}")).filter(|id| slot(id) == slot(first));
    ids.take(count).collect()
}

/// Leaves a kept session behind that is subscribed to `t` and has one message waiting.
fn leave_session(world: &mut World<NoHooks>, id: &str) {
    let (mut client, _) = Client::connect(world, 0, id, Hello::kept(ProtocolVersion::V5));
    client.subscribe(world, "t", QoS::AtLeastOnce);
    world.hang_up(client.socket);
}

#[test]
fn clients_that_connect_while_their_slot_moves_find_their_sessions() {
    const SESSIONS: usize = 200;
    for shards in [2, 3] {
        let mut world = world(shards);
        let ids = in_the_slot_of(&id_owned_by(&world, 0, "many"), SESSIONS);
        ids.iter().for_each(|id| leave_session(&mut world, id));
        let clients: Vec<Client> = ids.iter().map(|_| Client::dial(&mut world, 1, ProtocolVersion::V5)).collect();
        move_slot(&mut world, &ids[0], 1);
        // Those at the end of the queue first, so that they are pulled before it is their turn.
        for (client, id) in clients.iter().zip(&ids).rev() {
            let hello = Hello::kept(ProtocolVersion::V5);
            client.say_quietly(&mut world, &Packet::Connect(connect_packet(id, hello)));
            world.carry_out_effects();
            world.carry_mail();
            world.carry_transfer();
        }
        world.settle();
        for (mut client, id) in clients.into_iter().zip(&ids) {
            let heard = client.heard(&mut world);
            assert!(matches!(heard.first(), Some(Got::Connack { present: true, .. })), "{id}: {heard:?}");
            assert_eq!(world.shard_of(client.socket), Some(1));
        }
    }
}

#[test]
fn a_session_that_ends_on_its_way_leaves_its_slot_free_to_move() {
    let mut world = world(2);
    let id = id_owned_by(&world, 0, "short");
    let (client, _) = Client::connect(&mut world, 0, &id, Hello::clean(ProtocolVersion::V5));
    move_slot(&mut world, &id, 1);
    world.hang_up(client.socket);
    move_slot(&mut world, &id, 0);
    world.settle();
    let (client, present) = Client::connect(&mut world, 1, &id, Hello::clean(ProtocolVersion::V5));
    assert!(!present);
    assert_eq!(world.shard_of(client.socket), Some(0), "the slot went back");
}

#[test]
fn a_slot_moves_on_only_when_every_shard_has_heard_of_its_last_move() {
    let mut world = world(3);
    let id = id_owned_by(&world, 0, "wanderer");
    // The third shard is slow to hear that the slot went to the second one.
    move_slot(&mut world, &id, 1);
    world.carry_out_effects();
    let pairs = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0)];
    while pairs.iter().any(|(from, to)| world.carry_letter(*from, *to)) | world.carry_out_effects() {}
    move_slot(&mut world, &id, 2);
    world.settle();
    move_slot(&mut world, &id, 2);
    world.settle();
    let (client, _) = Client::connect(&mut world, 2, &id, Hello::clean(ProtocolVersion::V5));
    assert_eq!(world.shard_of(client.socket), Some(2));
}

/// Carries everything but sessions.
fn carry_letters<C: Chain>(world: &mut World<C>) {
    while world.carry_out_effects() | world.carry_mail() {}
}

/// The slot goes from shard to shard while two clients wait for the session that is on its way.
#[test]
fn who_waits_while_the_slot_moves_on_begins_one_session_and_not_two() {
    let mut world = world(3);
    let id = id_owned_by(&world, 1, "wanderer");
    let hello = Hello::clean(ProtocolVersion::V5);
    Client::connect(&mut world, 0, &id, hello);
    let waiting = [1, 2].map(|shard| Client::dial(&mut world, shard, ProtocolVersion::V5));
    for (client, to) in waiting.iter().zip([0, 2]) {
        move_slot(&mut world, &id, to);
        carry_letters(&mut world);
        client.say_quietly(&mut world, &Packet::Connect(connect_packet(&id, hello)));
        carry_letters(&mut world);
    }
    world.settle();
    world.advance(std::time::Duration::from_millis(100));
    assert_eq!(world.shards.iter().map(|shard| shard.held().sessions).sum::<usize>(), 1);
    let open: Vec<_> = waiting.iter().filter_map(|client| world.shard_of(client.socket)).collect();
    assert_eq!(open, [2]);
}

/// A session moves no more once the broker stops: who would have to wait for it is refused.
#[test]
fn who_comes_for_a_session_on_its_way_is_refused_when_the_broker_stops() {
    let mut world = world(3);
    let id = id_owned_by(&world, 0, "late");
    leave_session(&mut world, &id);
    let client = Client::dial(&mut world, 2, ProtocolVersion::V5);
    move_slot(&mut world, &id, 1);
    let now = world.now;
    world.shards[..2].iter_mut().for_each(|shard| shard.stop(now));
    client.say_quietly(&mut world, &Packet::Connect(connect_packet(&id, Hello::kept(ProtocolVersion::V5))));
    world.settle();
    assert!(world.is_closed(client.socket));
}

/// Two sessions with the same number, which is each shard's own; one comes to the place that the other has left.
#[test]
fn a_session_that_came_into_the_place_of_another_does_not_hear_of_its_subscriptions() {
    let script = Script::default();
    let mut world = World::new(2, open_config(), || NoHooks.hook(script.clone()));
    let hello = Hello::clean(ProtocolVersion::V5);
    let ids = [0, 1].map(|shard| id_owned_by(&world, shard, "c"));
    let [leaves, _] = ids.each_ref().map(|id| Client::connect(&mut world, 0, id, hello).0);
    let filters = [SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    leaves.say_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
    world.carry_out_effects();
    let now = world.now;
    let subscriber = SubscriberId::new("", ids[0].as_str());
    world.shards[0].request(Request::Disconnect { subscriber, cleanup: true }, now);
    move_slot(&mut world, &ids[1], 0);
    world.carry_out_effects();
    while world.carry_letter(1, 0) {}
    world.settle();
    let told = script.log.of(&ids[1]);
    assert!(!told.iter().any(|line| line.starts_with("subscribe")), "{told:?}");
}

/// One client's view: what it has of each publisher must be 1, 2, 3 ... without a gap.
#[derive(Default)]
struct Ledger(std::collections::BTreeMap<String, u32>);

impl Ledger {
    fn note(&mut self, payload: &[u8], seed: u64) {
        let text = String::from_utf8(payload.to_vec()).expect("payloads are text");
        let (publisher, number) = text.split_once(' ').expect("publisher and number");
        let last = self.0.entry(publisher.to_owned()).or_default();
        assert_eq!(number.parse::<u32>(), Ok(*last + 1), "seed {seed}: from {publisher} after {last}");
        *last += 1;
    }
}

#[test]
fn an_online_session_moves_and_its_client_notices_nothing() {
    for seed in 0..400 {
        let mut random = Random::from_seed(seed);
        let shards = [2, 3, 4][random.below(3)];
        let mut world = world(shards);
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(3)];
        let id = id_owned_by(&world, 0, "subscriber");
        let (mut subscriber, _) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V5));
        subscriber.subscribe(&mut world, "to/+", qos);
        let publishers: Vec<(String, Client)> = (0..shards)
            .map(|shard| {
                let id = id_owned_by(&world, shard, "publisher");
                let (client, _) = Client::connect(&mut world, 0, &id, Hello::clean(ProtocolVersion::V5));
                (id, client)
            })
            .collect();
        let mut sent = vec![0; shards];
        let restlessness = [1, 4, 10][random.below(3)];
        let mut ledger = Ledger::default();
        for _ in 0..300 {
            match random.below(8) {
                0 | 1 => {
                    let at = random.below(shards);
                    sent[at] += 1;
                    let payload = format!("{} {}", publishers[at].0, sent[at]);
                    publishers[at]
                        .1
                        .say_quietly(&mut world, &Packet::Publish(publish("to/you", &payload, qos, sent[at])));
                }
                2 if random.below(restlessness) == 0 => {
                    let who = if random.below(2) == 0 { &id } else { &publishers[random.below(shards)].0 };
                    move_slot(&mut world, who, random.below(shards));
                }
                3 => drop(world.carry_out_effects()),
                4 => drop(world.carry_transfer()),
                5 => {
                    for heard in subscriber.publishes(&mut world) {
                        ledger.note(&heard.payload, seed);
                        acknowledge(&mut world, &subscriber, heard.qos, heard.id);
                    }
                }
                _ => drop(world.carry_letter(random.below(shards), random.below(shards))),
            }
        }
        for _ in 0..50 {
            world.settle();
            for heard in subscriber.publishes(&mut world) {
                ledger.note(&heard.payload, seed);
                acknowledge(&mut world, &subscriber, heard.qos, heard.id);
            }
        }
        assert!(!world.is_closed(subscriber.socket), "seed {seed}");
        for (at, (name, _)) in publishers.iter().enumerate() {
            assert_eq!(ledger.0.get(name).copied().unwrap_or(0), u32::from(sent[at]), "seed {seed}: from {name}");
        }
    }
}

fn acknowledge(world: &mut World<NoHooks>, subscriber: &Client, qos: QoS, id: Option<u16>) {
    let Some(id) = id else { return };
    match qos {
        QoS::ExactlyOnce => {
            subscriber.say_quietly(world, &Packet::Pubrec(Ack::new(packet_id(id), ReasonCode::Success)));
            subscriber.say_quietly(world, &Packet::Pubcomp(Ack::new(packet_id(id), ReasonCode::Success)));
        }
        _ => subscriber.say_quietly(world, &Packet::Puback(Ack::new(packet_id(id), ReasonCode::Success))),
    }
}

/// The program asks the shard that owned the client at the start: it is found, wherever it or its session is by then.
#[test]
fn a_client_that_moved_or_moves_is_found_by_who_disconnects_it() {
    for (shards, steps) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |steps| (shards, steps))) {
        for cleanup in [false, true] {
            let mut world = world(shards);
            let id = id_owned_by(&world, 0, "client");
            let (client, _) = Client::connect(&mut world, 1, &id, Hello::kept(ProtocolVersion::V5));
            move_slot(&mut world, &id, shards - 1);
            for _ in 0..steps {
                world.carry_out_effects();
                world.carry_mail();
                world.carry_transfer();
            }
            let subscriber = SubscriberId::new("", id.as_str());
            assert_eq!(moormq::shard::owner_of(&subscriber, shards, crate::world::SEED), 0);
            let now = world.now;
            world.shards[0].request(Request::Disconnect { subscriber, cleanup }, now);
            world.settle();
            assert!(world.is_closed(client.socket), "{shards} shards, after {steps} steps");
            let (again, present) = Client::connect(&mut world, 0, &id, Hello::kept(ProtocolVersion::V5));
            assert_eq!(present, !cleanup, "{shards} shards, after {steps} steps");
            assert_eq!(world.shard_of(again.socket), Some(shards - 1));
        }
    }
}

/// The connection that is taken over may still be at the former owner of the slot, or on its way.
#[test]
fn a_takeover_finds_the_old_connection_wherever_its_session_is() {
    for (shards, step) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |step| (shards, step))) {
        for (old_hello, new_hello, expected) in [
            (Hello::kept(V5), Hello::kept(V5), &["register", "offline TakenOver", "wakeup present"][..]),
            (Hello::clean(V5), Hello::kept(V5), &["register", "unsubscribed all", "gone TakenOver", "wakeup"]),
            (
                Hello::kept(V5),
                Hello::clean(V5),
                &["register", "offline TakenOver", "unsubscribed all", "expired CleanStart", "wakeup"],
            ),
        ] {
            let script = Script::default();
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, 0, "mover");
            let (mut old, _) = Client::connect(&mut world, 0, &id, old_hello);
            old.subscribe(&mut world, "t", QoS::AtLeastOnce);
            old.heard(&mut world);
            let mut new = Client::dial(&mut world, 1, V5);
            script.log.all();
            move_slot(&mut world, &id, 1);
            for _ in 0..step {
                world.carry_out_effects();
                world.carry_mail();
                world.carry_transfer();
            }
            new.say_quietly(&mut world, &Packet::Connect(connect_packet(&id, new_hello)));
            world.settle();
            assert_eq!(script.log.of(&id), expected, "after {step} steps on {shards} shards");
            assert_eq!(old.heard(&mut world), [Got::Disconnect(ReasonCode::SessionTakenOver)]);
            assert!(matches!(new.heard(&mut world)[..], [Got::Connack { .. }]));
        }
    }
}

/// A stop finds everybody, also those between two shards: a shard has stopped when they have come and were sent away.
#[test]
fn a_stop_waits_for_sessions_that_are_on_their_way() {
    for (shards, step) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |step| (shards, step))) {
        for (hello, end) in [
            (Hello::kept(V5), &["offline ServerShutdown"][..]),
            (Hello::clean(V5), &["unsubscribed all", "gone ServerShutdown"]),
        ] {
            let script = Script::default();
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, 0, "mover");
            let (mut client, _) = Client::connect(&mut world, 0, &id, hello);
            client.subscribe(&mut world, "t", QoS::AtLeastOnce);
            client.heard(&mut world);
            script.log.all();
            move_slot(&mut world, &id, 1);
            for _ in 0..step {
                world.carry_out_effects();
                world.carry_mail();
            }
            let now = world.now;
            for shard in 0..shards {
                world.shards[shard].stop(now);
                while world.carry_out_effects() {}
                world.carry_mail();
            }
            // What the last shard needs for its stop is there, but for the session that travels.
            while world.carry_out_effects() | world.carry_mail() {}
            let told_early = script.log.of(&id) == end;
            assert_eq!(world.stopped, if told_early { shards } else { shards - 1 }, "after {step} steps");
            world.settle();
            assert!(told_early || script.log.of(&id) == end, "after {step} steps on {shards} shards");
            assert_eq!(world.stopped, shards);
            assert_eq!(client.heard(&mut world), [Got::Disconnect(ReasonCode::ServerShuttingDown)]);
        }
    }
}

/// Carries everything but the letters from one shard of three to another.
fn carry_all_but(late: (usize, usize), world: &mut World<NoHooks>) {
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    while world.carry_out_effects()
        | pairs
            .iter()
            .filter(|pair| **pair != late)
            .fold(false, |moved, (from, to)| world.carry_letter(*from, *to) | moved)
        | world.carry_transfer()
    {}
}

/// The new owner has messages for others that were published before the session subscribed, and that it has got as retained ones.
#[test]
fn what_was_published_before_a_session_subscribed_does_not_come_by_way_of_its_new_owner() {
    for (topic, qos) in (0..6).flat_map(|number| [(number, QoS::AtMostOnce), (number, QoS::ExactlyOnce)]) {
        let topic = format!("t{topic}");
        let mut world = world(3);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, Hello::kept(V5));
        let mut other = Client::on(&mut world, 1, "other", Hello::clean(V5));
        other.subscribed(&mut world, &topic, qos);
        let publisher = Client::on(&mut world, 2, "publisher", Hello::clean(V5));
        for text in ["1", "2", "3"] {
            let retained = Publish { retain: true, ..publish(&topic, text, QoS::AtMostOnce, 0) };
            publisher.say_quietly(&mut world, &Packet::Publish(retained));
            carry_all_but((2, 1), &mut world);
        }
        let filters = [SubscribeFilter { filter: &topic, options: SubscriptionOptions::new(qos) }];
        mover.say_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        carry_all_but((2, 1), &mut world);
        let early = mover.texts(&mut world);
        move_slot(&mut world, &id, 1);
        carry_all_but((2, 1), &mut world);
        world.settle();
        // Where the retained message is kept by shard 1, the subscription was not complete before.
        world.advance(Duration::from_secs(1));
        let late = mover.texts(&mut world);
        assert_eq!([early, late].concat(), ["3"], "{topic}");
        assert_eq!(other.texts(&mut world), ["1", "2", "3"]);
        assert_eq!(world.shard_of(mover.socket), Some(1));
    }
}

/// What a client publishes after a move does not overtake the will of its last connection, wherever the move was when that broke,
/// and also if its session ended with it.
#[test]
fn a_will_is_not_overtaken_by_a_client_that_comes_back_elsewhere() {
    let hellos = [Hello::kept(V5).will("t"), Hello::clean(V5).will("t")];
    for (hello, steps) in hellos.into_iter().flat_map(|hello| (0..14).map(move |steps| (hello, steps))) {
        let mut world = world(3);
        let id = id_owned_by(&world, 0, "mover");
        let reader_id = id_owned_by(&world, 2, "reader");
        let (mut reader, _) = Client::connect(&mut world, 2, &reader_id, Hello::clean(V5));
        reader.subscribe(&mut world, "t", QoS::AtMostOnce);
        let (old, _) = Client::connect(&mut world, 0, &id, hello);
        let new = Client::dial(&mut world, 1, V5);
        move_slot(&mut world, &id, 1);
        for _ in 0..steps {
            world.carry_out_effects();
            world.carry_mail();
            world.carry_transfer();
        }
        // From here on the letters from the old owner to the reader's shard are late.
        world.hang_up_quietly(old.socket);
        carry_all_but((0, 2), &mut world);
        new.say_quietly(&mut world, &Packet::Connect(connect_packet(&id, Hello::kept(V5))));
        new.say_quietly(&mut world, &Packet::Publish(publish("t", "after", QoS::AtMostOnce, 0)));
        carry_all_but((0, 2), &mut world);
        world.settle();
        let payloads: Vec<_> = reader.publishes(&mut world).into_iter().map(|heard| heard.payload).collect();
        assert_eq!(payloads, [&b"gone"[..], b"after"], "after {steps} steps");
    }
}
