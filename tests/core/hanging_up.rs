//! Clients that leave as soon as they have sent what they had to say: it is served, whatever the broker has to wait for first.

use std::time::Duration;

use moormq::codec::{
    Disconnect, Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions,
};
use moormq::hooks::{Answer, Chain, NoHooks};
use moormq::memory::MemoryStage;
use moormq::random::Random;
use moormq::shard::Input;

use crate::client::{Client, ConnectOptions, V5, V311, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::migrating_much::steps;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, open_config, worlds, worlds_with};

/// The last that a client with a will has to say: nothing is answered, and the will is not published.
fn last_words() -> Vec<Packet<'static>> {
    let words = ["one", "two", "three"].map(|text| Packet::Publish(publish("last", text, QoS::AtMostOnce, 0)));
    words.into_iter().chain([Packet::Disconnect(Disconnect::new(ReasonCode::Success))]).collect()
}

fn watcher<C: Chain>(world: &mut World<C>) -> Client {
    let mut watcher = Client::clean(world, "watcher", V311);
    watcher.subscribed(world, "#", QoS::AtMostOnce);
    watcher
}

/// Sends all of it and closes the connection; nothing follows yet.
fn say<C: Chain>(world: &mut World<C>, client: &Client, version: ProtocolVersion, packets: &[Packet<'_>]) {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
    world.send_quietly(client.socket, &bytes);
}

#[test]
fn what_is_behind_a_publish_that_a_hook_decides_on_later_is_served() {
    for (shards, version) in [1, 2, 4].into_iter().flat_map(|shards| [V311, V5].map(|version| (shards, version))) {
        for says_goodbye in [true, false] {
            let gate = Gate::default();
            let (v3, v5) = (gate.clone(), gate.clone());
            let answers = Answers::default()
                .auth_on_publish(move |_, _| v3.later(Answer::ok))
                .auth_on_publish_m5(move |_, _| v5.later(Answer::ok));
            let script = Script::new(answers);
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let mut watcher = watcher(&mut world);
            gate.open();
            let options = ConnectOptions::clean(version).will("will");
            let (client, _) = Client::connect(&mut world, 0, "client", options);
            gate.close();
            let mut words = last_words();
            if !says_goodbye {
                words.truncate(1);
            }
            say(&mut world, &client, version, &words);
            world.close_behind(client.socket);
            world.settle();
            assert!(watcher.texts(&mut world).is_empty() && !world.is_gone(client.socket));
            gate.open();
            world.settle();
            let expected: &[&str] = if says_goodbye { &["one", "two", "three"] } else { &["one", "gone"] };
            assert_eq!(watcher.texts(&mut world), expected, "on {shards} shards");
            assert!(world.is_gone(client.socket));
        }
    }
}

#[test]
fn what_is_behind_a_subscribe_that_other_shards_take_in_is_served() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let (client, _) = Client::connect(&mut world, 0, "client", ConnectOptions::clean(V5).will("will"));
        let filters = [SubscribeFilter { filter: "new", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        let subscribe = Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..]));
        let words: Vec<_> = std::iter::once(subscribe).chain(last_words()).collect();
        say(&mut world, &client, V5, &words);
        world.close_behind(client.socket);
        world.settle();
        assert_eq!(watcher.texts(&mut world), ["one", "two", "three"]);
        assert!(world.is_gone(client.socket));
    }
}

/// Before, amid and behind the move of its session: the connection goes along, though its client has left.
#[test]
fn what_came_while_a_session_moves_is_served() {
    for (shards, at, kept) in [2, 4].into_iter().flat_map(|shards| (0..40).map(move |at| (shards, at / 2, at % 2 == 0)))
    {
        for closes_after in 0..3 {
            let mut world = World::new(shards, open_config(), || NoHooks);
            let mut watcher = watcher(&mut world);
            let id = id_owned_by(&world, 0, "mover");
            let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let (client, _) = Client::connect(&mut world, 0, &id, options.will("will"));
            let mut random = Random::from_seed(at);
            move_slot(&mut world, &id, shards - 1);
            steps(&mut world, at as usize, &mut random);
            say(&mut world, &client, V5, &last_words());
            steps(&mut world, closes_after, &mut random);
            world.close_behind(client.socket);
            world.settle();
            let said = watcher.texts(&mut world);
            assert_eq!(said, ["one", "two", "three"], "closed {closes_after} after {at} steps on {shards} shards");
            assert!(world.is_gone(client.socket));
        }
    }
}

/// Its output is void: that it did not read it keeps nothing from being served that it sent.
#[test]
fn what_is_behind_output_that_a_client_did_not_read_is_served() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let (mut client, _) = Client::connect(&mut world, 0, "client", ConnectOptions::clean(V5).will("will"));
        client.subscribed(&mut world, "own", QoS::AtMostOnce);
        world.stick(client.socket, true);
        let large = "x".repeat(200_000);
        let own = (0..4).map(|_| Packet::Publish(publish("own", &large, QoS::AtMostOnce, 0)));
        say(&mut world, &client, V5, &own.chain(last_words()).collect::<Vec<_>>());
        world.settle();
        let of_others = |texts: Vec<String>| texts.into_iter().filter(|text| *text != large).collect::<Vec<_>>();
        assert!(of_others(watcher.texts(&mut world)).is_empty(), "it has to read first");
        world.close_behind(client.socket);
        world.settle();
        world.advance(Duration::from_secs(2));
        assert_eq!(of_others(watcher.texts(&mut world)), ["one", "two", "three"]);
        assert!(world.is_gone(client.socket));
    }
}

/// It comes as fast as it may.
#[test]
fn what_is_behind_messages_that_come_too_fast_is_served() {
    for mut world in worlds_with(|| config(|config| config.limits.max_message_rate = 2)) {
        world.advance(Duration::from_secs(5));
        let mut watcher = watcher(&mut world);
        let (client, _) = Client::connect(&mut world, 0, "client", ConnectOptions::clean(V5).will("will"));
        say(&mut world, &client, V5, &last_words());
        world.close_behind(client.socket);
        world.settle();
        assert_eq!(watcher.texts(&mut world), ["one", "two"]);
        world.advance(Duration::from_secs(2));
        assert_eq!(watcher.texts(&mut world), ["three"]);
        assert!(world.is_gone(client.socket));
    }
}

/// While publishers are held for memory it goes on slowly, and takes what is in memory already.
#[test]
fn what_is_behind_messages_that_are_held_for_memory_is_served() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let (client, _) = Client::connect(&mut world, 0, "client", ConnectOptions::clean(V5).will("will"));
        let shards = world.shards.len();
        (0..shards).for_each(|shard| world.handle(shard, Input::Memory(MemoryStage::PublishersHeld)));
        say(&mut world, &client, V5, &last_words());
        world.close_behind(client.socket);
        world.settle();
        assert!(watcher.texts(&mut world).is_empty());
        world.advance(Duration::from_secs(10));
        assert_eq!(watcher.texts(&mut world), ["one", "two", "three"]);
        assert!(world.is_gone(client.socket));
    }
}
