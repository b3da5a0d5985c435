//! Slots that move to another shard while clients are connected: nothing is lost, doubled or reordered.

use std::time::Duration;

use moormq::client::{SessionAction, SubscriberId};
use moormq::codec::{
    Ack, Disconnect, Packet, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use moormq::hooks::{Chain, NoHooks};
use moormq::random::Random;
use moormq::shard::{Input, Output, Request, ShardMessage};
use moormq::sharding::slot_of;

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config, open_config};

fn world(shards: usize) -> World<NoHooks> {
    World::new(shards, open_config(), || NoHooks)
}

/// Moves the slot of `id` to shard `to`, without waiting for it.
pub fn move_slot<C: Chain>(world: &mut World<C>, id: &str, to: usize) {
    let slot = slot_of(&SubscriberId::new("", id), crate::world::SEED);
    for shard in 0..world.shards.len() {
        let request = Request::MoveSlots { slots: vec![slot], to };
        let now = world.now;
        world.shards[shard].handle(Input::Request(request), now);
    }
}

#[test]
fn an_offline_session_moves_with_its_queue() {
    for shards in [2, 4] {
        let mut world = world(shards);
        let id = id_owned_by(&world, 0, "subscriber");
        let (mut subscriber, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V311));
        subscriber.subscribe(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(subscriber.socket);
        let (publisher, _) = Client::connect(&mut world, 0, "publisher", ConnectOptions::clean(ProtocolVersion::V5));
        publisher.publish(&mut world, "t", "before", QoS::AtLeastOnce, 1);
        move_slot(&mut world, &id, shards - 1);
        publisher.publish(&mut world, "t", "while", QoS::AtLeastOnce, 2);
        world.settle();
        publisher.publish(&mut world, "t", "after", QoS::AtLeastOnce, 3);
        let (mut subscriber, present) =
            Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V311));
        assert!(present);
        assert_eq!(world.shard_of(subscriber.socket), Some(shards - 1));
        let payloads: Vec<_> = subscriber.publishes(&mut world).into_iter().map(|received| received.payload).collect();
        assert_eq!(payloads, [&b"before"[..], b"while", b"after"]);
    }
}

#[test]
fn a_client_that_connects_during_the_move_pulls_its_session() {
    for shards in [2, 4] {
        for steps in 0..12 {
            let mut world = world(shards);
            let id = id_owned_by(&world, 0, "subscriber");
            let (mut subscriber, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V5));
            subscriber.subscribe(&mut world, "t", QoS::AtLeastOnce);
            world.hang_up(subscriber.socket);
            let (publisher, _) =
                Client::connect(&mut world, 0, "publisher", ConnectOptions::clean(ProtocolVersion::V5));
            publisher.publish(&mut world, "t", "kept", QoS::AtLeastOnce, 1);
            move_slot(&mut world, &id, 1);
            for _ in 0..steps {
                world.carry_out_outputs();
                world.carry_messages();
            }
            let (mut subscriber, present) =
                Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V5));
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

/// Makes an offline session that is subscribed to `t` and has one message queued.
fn leave_session(world: &mut World<NoHooks>, id: &str) {
    let (mut client, _) = Client::connect(world, 0, id, ConnectOptions::kept(ProtocolVersion::V5));
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
        let clients: Vec<Client> = ids.iter().map(|_| Client::open(&mut world, 1, ProtocolVersion::V5)).collect();
        move_slot(&mut world, &ids[0], 1);
        // Those at the end of the queue first, so that they are pulled before it is their turn.
        for (client, id) in clients.iter().zip(&ids).rev() {
            let options = ConnectOptions::kept(ProtocolVersion::V5);
            client.send_quietly(&mut world, &Packet::Connect(connect_packet(id, options)));
            world.carry_out_outputs();
            world.carry_messages();
            world.carry_transfer();
        }
        world.settle();
        for (mut client, id) in clients.into_iter().zip(&ids) {
            let received = client.received(&mut world);
            assert!(matches!(received.first(), Some(Got::Connack { present: true, .. })), "{id}: {received:?}");
            assert_eq!(world.shard_of(client.socket), Some(1));
        }
    }
}

#[test]
fn a_session_that_ends_on_its_way_leaves_its_slot_free_to_move() {
    let mut world = world(2);
    let id = id_owned_by(&world, 0, "short");
    let (client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(ProtocolVersion::V5));
    move_slot(&mut world, &id, 1);
    world.hang_up(client.socket);
    move_slot(&mut world, &id, 0);
    world.settle();
    let (client, present) = Client::connect(&mut world, 1, &id, ConnectOptions::clean(ProtocolVersion::V5));
    assert!(!present);
    assert_eq!(world.shard_of(client.socket), Some(0), "the slot went back");
}

#[test]
fn a_slot_moves_on_only_when_every_shard_knows_its_last_move() {
    let mut world = world(3);
    let id = id_owned_by(&world, 0, "wanderer");
    // The third shard learns late that the slot went to the second one.
    move_slot(&mut world, &id, 1);
    world.carry_out_outputs();
    let pairs = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 0)];
    while pairs.iter().any(|(from, to)| world.carry_message(*from, *to)) | world.carry_out_outputs() {}
    move_slot(&mut world, &id, 2);
    world.settle();
    move_slot(&mut world, &id, 2);
    world.settle();
    let (client, _) = Client::connect(&mut world, 2, &id, ConnectOptions::clean(ProtocolVersion::V5));
    assert_eq!(world.shard_of(client.socket), Some(2));
}

/// Carries everything but sessions.
fn carry_all_but_sessions<C: Chain>(world: &mut World<C>) {
    while world.carry_out_outputs() | world.carry_messages() {}
}

/// The slot goes from shard to shard while two clients wait for the session that is on its way.
#[test]
fn who_waits_while_the_slot_moves_on_begins_one_session_and_not_two() {
    let mut world = world(3);
    let id = id_owned_by(&world, 1, "wanderer");
    let options = ConnectOptions::clean(ProtocolVersion::V5);
    Client::connect(&mut world, 0, &id, options);
    let waiting = [1, 2].map(|shard| Client::open(&mut world, shard, ProtocolVersion::V5));
    for (client, to) in waiting.iter().zip([0, 2]) {
        move_slot(&mut world, &id, to);
        carry_all_but_sessions(&mut world);
        client.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, options)));
        carry_all_but_sessions(&mut world);
    }
    world.settle();
    world.advance(std::time::Duration::from_millis(100));
    assert_eq!(world.shards.iter().map(|shard| shard.resource_counts().sessions).sum::<usize>(), 1);
    let open: Vec<_> = waiting.iter().filter_map(|client| world.shard_of(client.socket)).collect();
    assert_eq!(open, [2]);
}

/// Sessions do not move any more once the broker stops: a client that would have to wait for one is refused.
#[test]
fn who_comes_for_a_session_on_its_way_is_refused_when_the_broker_stops() {
    let mut world = world(3);
    let id = id_owned_by(&world, 0, "late");
    leave_session(&mut world, &id);
    let client = Client::open(&mut world, 2, ProtocolVersion::V5);
    move_slot(&mut world, &id, 1);
    let now = world.now;
    world.shards[..2].iter_mut().for_each(|shard| shard.handle(Input::Stop, now));
    client.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, ConnectOptions::kept(ProtocolVersion::V5))));
    world.settle();
    assert!(world.is_closed(client.socket));
}

/// Two sessions with the same number, which is each shard's own; one comes to the place that the other has left.
#[test]
fn a_session_in_the_place_of_another_is_not_notified_of_its_subscriptions() {
    let script = Script::default();
    let mut world = World::new(2, open_config(), || NoHooks.hook(script.clone()));
    let options = ConnectOptions::clean(ProtocolVersion::V5);
    let ids = [0, 1].map(|shard| id_owned_by(&world, shard, "c"));
    let [leaves, _] = ids.each_ref().map(|id| Client::connect(&mut world, 0, id, options).0);
    let filters = [SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    leaves.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
    world.carry_out_outputs();
    let now = world.now;
    let subscriber = SubscriberId::new("", ids[0].as_str());
    world.shards[0].handle(Input::Request(Request::Disconnect { subscriber, cleanup: true }), now);
    move_slot(&mut world, &ids[1], 0);
    world.carry_out_outputs();
    while world.carry_message(1, 0) {}
    world.settle();
    let lines = script.log.of(&ids[1]);
    assert!(!lines.iter().any(|line| line.starts_with("subscribe")), "{lines:?}");
}

/// The messages of one client: those of each publisher must be 1, 2, 3 ... without a gap.
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
        let (mut subscriber, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V5));
        subscriber.subscribe(&mut world, "to/+", qos);
        let publishers: Vec<(String, Client)> = (0..shards)
            .map(|shard| {
                let id = id_owned_by(&world, shard, "publisher");
                let (client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(ProtocolVersion::V5));
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
                        .send_quietly(&mut world, &Packet::Publish(publish("to/you", &payload, qos, sent[at])));
                }
                2 if random.below(restlessness) == 0 => {
                    let who = if random.below(2) == 0 { &id } else { &publishers[random.below(shards)].0 };
                    move_slot(&mut world, who, random.below(shards));
                }
                3 => drop(world.carry_out_outputs()),
                4 => drop(world.carry_transfer()),
                5 => {
                    for received in subscriber.publishes(&mut world) {
                        ledger.note(&received.payload, seed);
                        acknowledge(&mut world, &subscriber, received.qos, received.id);
                    }
                }
                _ => drop(world.carry_message(random.below(shards), random.below(shards))),
            }
        }
        for _ in 0..50 {
            world.settle();
            for received in subscriber.publishes(&mut world) {
                ledger.note(&received.payload, seed);
                acknowledge(&mut world, &subscriber, received.qos, received.id);
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
            subscriber.send_quietly(world, &Packet::Pubrec(Ack::new(packet_id(id), ReasonCode::Success)));
            subscriber.send_quietly(world, &Packet::Pubcomp(Ack::new(packet_id(id), ReasonCode::Success)));
        }
        _ => subscriber.send_quietly(world, &Packet::Puback(Ack::new(packet_id(id), ReasonCode::Success))),
    }
}

/// The program asks the shard that owned the client at the start: it is found, wherever it or its session is by then.
#[test]
fn a_client_that_moved_or_moves_is_found_by_who_disconnects_it() {
    for (shards, steps) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |steps| (shards, steps))) {
        for cleanup in [false, true] {
            let mut world = world(shards);
            let id = id_owned_by(&world, 0, "client");
            let (client, _) = Client::connect(&mut world, 1, &id, ConnectOptions::kept(ProtocolVersion::V5));
            move_slot(&mut world, &id, shards - 1);
            for _ in 0..steps {
                world.carry_out_outputs();
                world.carry_messages();
                world.carry_transfer();
            }
            let subscriber = SubscriberId::new("", id.as_str());
            assert_eq!(moormq::sharding::owner_of(&subscriber, shards, crate::world::SEED), 0);
            let now = world.now;
            let actions = [SessionAction::Find, SessionAction::Disconnect { cleanup }];
            for (ticket, action) in (0..).zip(actions) {
                let request = Request::Session { subscriber: subscriber.clone(), action, ticket };
                world.shards[0].handle(Input::Request(request), now);
            }
            world.settle();
            assert!(world.is_closed(client.socket), "{shards} shards, after {steps} steps");
            let found = world.found.iter().map(|(ticket, found)| (*ticket, found.as_ref().map(|one| one.is_connected)));
            assert_eq!(
                found.collect::<Vec<_>>(),
                [(0, Some(true)), (1, Some(true))],
                "{shards} shards, after {steps} steps"
            );
            let (again, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V5));
            assert_eq!(present, !cleanup, "{shards} shards, after {steps} steps");
            assert_eq!(world.shard_of(again.socket), Some(shards - 1));
        }
    }
}

/// Of two that wait for one session, the first is served before the second takes it over.
#[test]
fn what_a_client_sent_while_it_waited_is_served_before_it_is_taken_over() {
    let mut world = world(2);
    let id = id_owned_by(&world, 0, "c");
    let mut watcher = Client::clean(&mut world, "watcher", V5);
    watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
    let [first, second] = [(); 2].map(|()| Client::open(&mut world, 1, V5));
    move_slot(&mut world, &id, 1);
    world.carry_out_outputs();
    world.carry_message(0, 1);
    let mut bytes = Vec::new();
    connect_packet(&id, ConnectOptions::clean(V5).will("will")).encode(&mut bytes);
    Packet::Publish(publish("x", "from the first", QoS::AtMostOnce, 0)).encode(V5, &mut bytes);
    Packet::Disconnect(Disconnect::new(ReasonCode::Success)).encode(V5, &mut bytes);
    world.send_quietly(first.socket, &bytes);
    second.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, ConnectOptions::clean(V5))));
    world.settle();
    assert!(world.is_closed(first.socket) && !world.is_closed(second.socket));
    assert_eq!(watcher.texts(&mut world), ["from the first"], "and no will");
}

/// The will of a session that moves is at the new owner before the session, and with it whoever waits for that there.
#[test]
fn a_session_does_not_overtake_its_will_to_the_new_owner() {
    let mut world = world(2);
    let id = id_owned_by(&world, 0, "c");
    let watcher = id_owned_by(&world, 1, "watcher");
    let mut watcher = Client::connect(&mut world, 1, &watcher, ConnectOptions::clean(V5)).0;
    watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
    let client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(ProtocolVersion::V311).will("will")).0;
    move_slot(&mut world, &id, 1);
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        world.carry_out_outputs();
        while world.carry_message(from, to) {}
    }
    world.carry_out_outputs();
    // The connection ends, and the session may leave, before the runtime takes an output.
    world.hang_up_quietly(client.socket);
    while world.carry_message(1, 0) {}
    let mut seen = Vec::new();
    while let Some(output) = world.shards[0].next_output() {
        match output {
            Output::Transfer { .. } => seen.push("session"),
            Output::Messages { messages, .. } => {
                let is_publish = |message: &&ShardMessage| matches!(message, ShardMessage::Publish { .. });
                seen.extend(messages.iter().filter(is_publish).map(|_| "will"));
            }
            _ => {}
        }
    }
    assert_eq!(seen, ["will", "session"]);
}

/// A session was queued to leave, left when its client came, and is back with its slot before the queue gets to it.
#[test]
fn a_session_that_is_back_does_not_leave_once_more() {
    let script = Script { slow: vec!["on_client_offline"], ..Script::default() };
    script.gate.open();
    let mut world = World::new(2, open_config(), || NoHooks.hook(script.clone()));
    let id = id_owned_by(&world, 0, "a");
    let many = in_the_slot_of(&id_owned_by(&world, 0, "many"), 64);
    let options = ConnectOptions::kept(V5);
    let client = Client::connect(&mut world, 0, &id, options).0;
    world.hang_up(client.socket);
    let clients: Vec<_> = many.iter().map(|id| Client::connect(&mut world, 0, id, options).0).collect();
    let again = Client::open(&mut world, 1, V5);
    script.gate.close();
    // As many as may be under way, none of which can leave.
    move_slot(&mut world, &many[0], 1);
    clients.iter().for_each(|client| world.hang_up_quietly(client.socket));
    world.settle();
    move_slot(&mut world, &id, 1);
    world.settle();
    again.send(&mut world, &Packet::Connect(connect_packet(&id, options)));
    assert_eq!(world.shard_of(again.socket), Some(1));
    move_slot(&mut world, &id, 0);
    world.settle();
    assert_eq!(world.shard_of(again.socket), Some(0));
    script.gate.open();
    world.settle();
    assert_eq!(world.shards.iter().map(|shard| shard.resource_counts().sessions).sum::<usize>(), 65);
}

/// The output of a slow client leaves while its session is on its way: what waited behind it goes at the new owner, where nothing else would
/// be the occasion.
#[test]
fn what_waits_behind_a_full_output_goes_when_that_leaves_on_the_way() {
    for shards in [2, 4] {
        let small = config(|config| config.queue.max_waiting_output_bytes = 4096);
        let mut world = World::new(shards, small, || NoHooks);
        let id = id_owned_by(&world, 0, "slow");
        let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        let publisher = Client::clean(&mut world, "publisher", V5);
        client.subscribe(&mut world, "t", QoS::AtLeastOnce);
        client.received(&mut world);
        world.stick(client.socket, true);
        publisher.publish(&mut world, "t", &"x".repeat(5000), QoS::AtMostOnce, 0);
        publisher.publish(&mut world, "t", "waits", QoS::AtLeastOnce, 1);
        move_slot(&mut world, &id, 1);
        carry_all_but_sessions(&mut world);
        world.stick(client.socket, false);
        assert_eq!(world.shard_of(client.socket), Some(1));
        let lengths: Vec<_> = client.texts(&mut world).iter().map(String::len).collect();
        assert_eq!(lengths, [5000, "waits".len()], "{shards} shards");
    }
}

/// The connection that is taken over may still be at the former owner of the slot, or on its way.
#[test]
fn a_takeover_finds_the_old_connection_wherever_its_session_is() {
    for (shards, step) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |step| (shards, step))) {
        for (old_hello, new_hello, expected) in [
            (
                ConnectOptions::kept(V5),
                ConnectOptions::kept(V5),
                &["register", "offline TakenOver", "wakeup present"][..],
            ),
            (
                ConnectOptions::clean(V5),
                ConnectOptions::kept(V5),
                &["register", "unsubscribed all", "gone TakenOver", "wakeup"],
            ),
            (
                ConnectOptions::kept(V5),
                ConnectOptions::clean(V5),
                &["register", "offline TakenOver", "unsubscribed all", "expired CleanStart", "wakeup"],
            ),
        ] {
            let script = Script::default();
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, 0, "mover");
            let (mut old, _) = Client::connect(&mut world, 0, &id, old_hello);
            old.subscribe(&mut world, "t", QoS::AtLeastOnce);
            old.received(&mut world);
            let mut new = Client::open(&mut world, 1, V5);
            script.log.all();
            move_slot(&mut world, &id, 1);
            for _ in 0..step {
                world.carry_out_outputs();
                world.carry_messages();
                world.carry_transfer();
            }
            new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, new_hello)));
            world.settle();
            assert_eq!(script.log.of(&id), expected, "after {step} steps on {shards} shards");
            assert_eq!(old.received(&mut world), [Got::Disconnect(ReasonCode::SessionTakenOver)]);
            assert!(matches!(new.received(&mut world)[..], [Got::Connack { .. }]));
        }
    }
}

/// A stop finds everybody, also those between two shards: a shard has stopped when they have come and were sent away.
#[test]
fn a_stop_waits_for_sessions_that_are_on_their_way() {
    for (shards, step) in [2, 4].into_iter().flat_map(|shards| (0..14).map(move |step| (shards, step))) {
        for (options, end) in [
            (ConnectOptions::kept(V5), &["offline ServerShutdown"][..]),
            (ConnectOptions::clean(V5), &["unsubscribed all", "gone ServerShutdown"]),
        ] {
            let script = Script::default();
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, 0, "mover");
            let (mut client, _) = Client::connect(&mut world, 0, &id, options);
            client.subscribe(&mut world, "t", QoS::AtLeastOnce);
            client.received(&mut world);
            script.log.all();
            move_slot(&mut world, &id, 1);
            for _ in 0..step {
                world.carry_out_outputs();
                world.carry_messages();
            }
            let now = world.now;
            for shard in 0..shards {
                world.shards[shard].handle(Input::Stop, now);
                while world.carry_out_outputs() {}
                world.carry_messages();
            }
            // What the last shard needs for its stop is there, but for the session that moves.
            while world.carry_out_outputs() | world.carry_messages() {}
            let sent_early = script.log.of(&id) == end;
            // Nobody is sent away before its will has come, too.
            assert_eq!(world.stopped, if sent_early { shards } else { 0 }, "after {step} steps");
            world.settle();
            assert!(sent_early || script.log.of(&id) == end, "after {step} steps on {shards} shards");
            assert_eq!(world.stopped, shards);
            assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::ServerShuttingDown)]);
        }
    }
}

/// Carries everything but the messages from one shard of three to another.
fn carry_all_but(late: (usize, usize), world: &mut World<NoHooks>) {
    let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];
    while world.carry_out_outputs()
        | pairs
            .iter()
            .filter(|pair| **pair != late)
            .fold(false, |moved, (from, to)| world.carry_message(*from, *to) | moved)
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
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        let mut other = Client::on(&mut world, 1, "other", ConnectOptions::clean(V5));
        other.subscribed(&mut world, &topic, qos);
        let publisher = Client::on(&mut world, 2, "publisher", ConnectOptions::clean(V5));
        for text in ["1", "2", "3"] {
            let retained = Publish { retain: true, ..publish(&topic, text, QoS::AtMostOnce, 0) };
            publisher.send_quietly(&mut world, &Packet::Publish(retained));
            carry_all_but((2, 1), &mut world);
        }
        let filters = [SubscribeFilter { filter: &topic, options: SubscriptionOptions::new(qos) }];
        mover.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
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
    let hellos = [ConnectOptions::kept(V5).will("t"), ConnectOptions::clean(V5).will("t")];
    for (options, steps) in hellos.into_iter().flat_map(|options| (0..14).map(move |steps| (options, steps))) {
        let mut world = world(3);
        let id = id_owned_by(&world, 0, "mover");
        let reader_id = id_owned_by(&world, 2, "reader");
        let (mut reader, _) = Client::connect(&mut world, 2, &reader_id, ConnectOptions::clean(V5));
        reader.subscribe(&mut world, "t", QoS::AtMostOnce);
        let (old, _) = Client::connect(&mut world, 0, &id, options);
        let new = Client::open(&mut world, 1, V5);
        move_slot(&mut world, &id, 1);
        for _ in 0..steps {
            world.carry_out_outputs();
            world.carry_messages();
            world.carry_transfer();
        }
        // From here on the messages from the old owner to the reader's shard are late.
        world.hang_up_quietly(old.socket);
        carry_all_but((0, 2), &mut world);
        new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, ConnectOptions::kept(V5))));
        new.send_quietly(&mut world, &Packet::Publish(publish("t", "after", QoS::AtMostOnce, 0)));
        carry_all_but((0, 2), &mut world);
        world.settle();
        let payloads: Vec<_> = reader.publishes(&mut world).into_iter().map(|received| received.payload).collect();
        assert_eq!(payloads, [&b"gone"[..], b"after"], "after {steps} steps");
    }
}

/// What is buffered for a session on its way is bounded: its publishers wait until it has come, and nothing is lost.
#[test]
fn publishers_wait_for_a_session_that_takes_long_to_come() {
    for shards in [2, 4] {
        let bound = 64 << 10;
        let config = config(|config| config.runtime.mailbox_bytes = bound);
        let mut world = World::new(shards, config, || NoHooks);
        let id = id_owned_by(&world, 0, "moves");
        let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        client.subscribed(&mut world, "t", QoS::AtMostOnce);
        let publishers: Vec<_> = (0..shards)
            .map(|shard| {
                let id = id_owned_by(&world, shard, "publisher");
                Client::connect(&mut world, 0, &id, ConnectOptions::clean(V311)).0
            })
            .collect();
        move_slot(&mut world, &id, 1);
        // Until the session has left; it is on its way.
        carry_all_but_sessions(&mut world);
        let payload = "x".repeat(4000);
        for number in 0..200 {
            let publish = publish("t", &payload, QoS::AtMostOnce, 0);
            publishers[number % shards].send_quietly(&mut world, &Packet::Publish(publish));
            carry_all_but_sessions(&mut world);
        }
        let served: u64 = world.shards.iter().map(|shard| shard.counters().messages_in).sum();
        // A message each is on its way when publishers are told.
        let most = (bound / payload.len() + 1 + shards) as u64;
        assert!((most - shards as u64..=most).contains(&served), "{served} of {most}, {shards} shards");
        world.settle();
        let served: u64 = world.shards.iter().map(|shard| shard.counters().messages_in).sum();
        assert_eq!((served, client.publishes(&mut world).len()), (200, 200));
        assert_eq!(world.shard_of(client.socket), Some(1));
    }
}
