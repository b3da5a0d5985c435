//! Slots that move to another shard while clients are connected: nothing is lost, doubled or reordered, and no hook hears of
//! it.

use std::sync::{Arc, Mutex};

use moormq::client::SubscriberId;
use moormq::client::{EndReason, ExpiredReason};
use moormq::codec::{Ack, Packet, ProtocolVersion, QoS, ReasonCode};
use moormq::hooks::{
    Answer, Chain, ConnectRefusal, Context, Hook, NoHooks, Notice, PublishModifiers, PublishRefusal, PublishRequest,
    Register, RegisterModifiers,
};
use moormq::random::Random;
use moormq::shard::{Request, slot_of};

use crate::client::{Client, Hello, connect_packet, id_owned_by, packet_id, publish};
use crate::heard::Got;
use crate::world::{World, open_config};

fn world(shards: usize) -> World<NoHooks> {
    World::new(shards, open_config(), || NoHooks)
}

/// Moves the slot of `id` to shard `to`, without waiting for it.
fn move_slot<C: Chain>(world: &mut World<C>, id: &str, to: usize) {
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
fn in_the_slot_of(first: &str, count: usize) -> Vec<String> {
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
            say(&mut world, client, &Packet::Connect(connect_packet(id, hello)));
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
                    say(&mut world, &publishers[at].1, &Packet::Publish(publish("to/you", &payload, qos, sent[at])));
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

/// Says something of which nothing follows yet.
fn say(world: &mut World<NoHooks>, client: &Client, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(client.version, &mut bytes);
    world.send_quietly(client.socket, &bytes);
}

fn acknowledge(world: &mut World<NoHooks>, subscriber: &Client, qos: QoS, id: Option<u16>) {
    let Some(id) = id else { return };
    match qos {
        QoS::ExactlyOnce => {
            say(world, subscriber, &Packet::Pubrec(Ack::new(packet_id(id), ReasonCode::Success)));
            say(world, subscriber, &Packet::Pubcomp(Ack::new(packet_id(id), ReasonCode::Success)));
        }
        _ => say(world, subscriber, &Packet::Puback(Ack::new(packet_id(id), ReasonCode::Success))),
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

/// Keeps with each session what its client published, if it begins with `letter`, and writes it down when the client leaves.
#[derive(Clone)]
struct Keeps {
    letter: char,
    log: Arc<Mutex<Vec<String>>>,
}

impl Keeps {
    fn note(&self, state: &[String], when: &str) {
        self.log.lock().expect("no test panics while it writes").push(format!("{when} {}", state.join(" ")));
    }
}

impl Hook for Keeps {
    type State = Vec<String>;

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        cx.state().push(format!("{}:", self.letter));
        Answer::Next
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic.starts_with(self.letter) {
            cx.state().push(publish.topic.to_owned());
        }
        Answer::Next
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, Self::State>, _: EndReason) {
        self.note(cx.state(), "offline");
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, Self::State>, _: ExpiredReason) {
        self.note(cx.state(), "expired");
    }
}

/// What each link keeps with a session goes where the session goes, with its client and without.
#[test]
fn what_links_keep_with_a_session_moves_with_it() {
    for shards in [2, 4] {
        let log = Arc::<Mutex<Vec<String>>>::default();
        let keeps = |letter| Keeps { letter, log: log.clone() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(keeps('a')).hook(keeps('b')));
        let written = || std::mem::take(&mut *log.lock().expect("no test panics while it writes"));
        let id = id_owned_by(&world, 0, "c");
        let (client, _) = Client::connect(&mut world, 1, &id, Hello::kept(ProtocolVersion::V311));
        for (topic, to) in [("a1", shards - 1), ("b1", 0), ("a2", 1), ("c", 0), ("b2", shards - 1)] {
            client.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
            move_slot(&mut world, &id, to);
            world.settle();
            assert_eq!(world.shard_of(client.socket), Some(to), "it moves while it is online");
        }
        assert_eq!(written(), [""; 0], "no hook hears of it");
        world.hang_up(client.socket);
        assert_eq!(written(), ["offline a: a1 a2", "offline b: b1 b2"]);
        move_slot(&mut world, &id, 0);
        world.settle();
        let request = Request::Disconnect { subscriber: SubscriberId::new("", id.as_str()), cleanup: true };
        assert_eq!(world.shards[0].held().sessions, 1, "it moves while its client is away");
        world.request(0, request);
        assert_eq!(written(), ["expired a: a1 a2", "expired b: b1 b2"]);
    }
}
