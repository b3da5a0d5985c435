//! What a client sent on its old connection comes before what it does on the new one, lifecycle.md section 3.

use moormq::codec::{Ack, AckKind::*, Disconnect, Packet, QoS, ReasonCode};
use moormq::config::Limit;
use moormq::hooks::NoHooks;
use moormq::memory::MemoryStage;
use moormq::shard::{Input, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::received::Got;
use crate::world::{World, config, open_config, worlds, worlds_with};

/// The client of `old` sends `packets`, which the kernel has and nobody has read, and connects again on `shard`. Returns Session Present,
/// too.
fn back_at_once(
    world: &mut World<NoHooks>,
    (old, packets): (&Client, &[Packet<'_>]),
    (shard, id, options): (usize, &str, ConnectOptions<'_>),
) -> (Client, bool) {
    // What is to be read is, when everything has come to rest.
    let mut new = Client::open(world, shard, options.version);
    let (mut bytes, mut connect) = (Vec::new(), Vec::new());
    packets.iter().for_each(|packet| packet.encode(old.version, &mut bytes));
    world.send_to_kernel(old.socket, &bytes);
    connect_packet(id, options).encode(&mut connect);
    world.send(new.socket, &connect);
    let received = new.received(world);
    let [Got::Connack { present, code: ReasonCode::Success }] = received[..] else { panic!("{received:?}") };
    (new, present)
}

fn goodbye() -> Packet<'static> {
    Packet::Disconnect(Disconnect::new(ReasonCode::Success))
}

/// [MQTT-3.14.4-3]: whichever shard accepts the new connection, and whichever owns the session.
#[test]
fn a_disconnect_that_nobody_has_read_comes_before_a_takeover() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for version in [V311, V5] {
            let mut watcher = Client::clean(&mut world, "watcher", V311);
            watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
            for owner in 0..shards {
                let id = id_owned_by(&world, owner, "c");
                for (acceptor, new) in
                    [(0, ConnectOptions::clean(version)), (shards - 1, ConnectOptions::kept(version))]
                {
                    let options = ConnectOptions::clean(version).will("will");
                    let (old, _) = Client::connect(&mut world, 0, &id, options);
                    let last = [Packet::Publish(publish("last", "words", QoS::AtMostOnce, 0)), goodbye()];
                    let (new, present) = back_at_once(&mut world, (&old, &last), (acceptor, &id, new));
                    assert_eq!(watcher.texts(&mut world), ["words"], "and no will");
                    assert!(!present && world.is_closed(old.socket));
                    new.disconnect(&mut world);
                }
            }
            world.hang_up(watcher.socket);
        }
    }
}

/// Two that want the same connection: the later one has it in the end.
#[test]
fn those_who_take_over_keep_their_order() {
    for mut world in worlds() {
        let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::kept(V5));
        let last = world.shards.len() - 1;
        let newer: Vec<_> = (0..3).map(|_| Client::open(&mut world, last, V5)).collect();
        let mut bytes = Vec::new();
        goodbye().encode(V5, &mut bytes);
        world.send_to_kernel(old.socket, &bytes);
        bytes.clear();
        connect_packet("id", ConnectOptions::kept(V5)).encode(&mut bytes);
        newer.iter().for_each(|client| world.send_quietly(client.socket, &bytes));
        world.settle();
        let mut newer = newer.into_iter().map(|mut client| client.received(&mut world)).collect::<Vec<_>>();
        assert!(matches!(newer.pop().as_deref(), Some([Got::Connack { present: true, .. }])));
        for taken_over in newer {
            let [Got::Connack { .. }, end] = &taken_over[..] else { panic!("{taken_over:?}") };
            assert_eq!(*end, Got::Disconnect(ReasonCode::SessionTakenOver));
        }
    }
}

/// Its publishes wait because somebody else is slow, and perhaps for memory, too; its DISCONNECT is behind them.
#[test]
fn what_a_held_publisher_has_sent_is_served_before_it_is_taken_over() {
    let tight = || {
        config(|config| {
            config.queue.max_waiting_output_bytes = 4096;
            config.queue.max_queue_bytes = Limit::at_most(1 << 20);
        })
    };
    for stage in [MemoryStage::Normal, MemoryStage::PublishersHeld] {
        for mut world in worlds_with(tight) {
            let mut slow = Client::clean(&mut world, "slow", V5);
            slow.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let mut watcher = Client::clean(&mut world, "watcher", V311);
            watcher.subscribed(&mut world, "will", QoS::AtMostOnce);
            watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
            world.stick(slow.socket, true);
            let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::clean(V311).will("will"));
            let payload = "x".repeat(1000);
            (0..15).for_each(|_| old.publish(&mut world, "t", &payload, QoS::AtMostOnce, 0));
            let before = watcher.texts(&mut world).len();
            assert!(before < 15, "it is held");
            (0..world.shards.len()).for_each(|shard| world.handle(shard, Input::Memory(stage)));
            let last = world.shards.len() - 1;
            back_at_once(&mut world, (&old, &[goodbye()]), (last, "id", ConnectOptions::clean(V311)));
            let rest = watcher.texts(&mut world);
            let has_will = rest.contains(&"gone".to_owned());
            assert_eq!((before + rest.len(), has_will), (15, false), "{stage:?}, {} shards", world.shards.len());
        }
    }
}

/// One read, and one share of a turn: what is beyond that is lost with the connection.
#[test]
fn who_never_ends_does_not_keep_its_successor_waiting() {
    for shards in [1, 2, 4] {
        let turn = TurnLimits { share: 400, turn: 800, at_once: 100, portion: 100, under_way: 1000 };
        let mut world = World::in_turns(shards, turn, open_config(), || NoHooks);
        let mut watcher = Client::clean(&mut world, "watcher", V311);
        watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
        let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::clean(V311));
        let packets: Vec<_> = (0..2000).map(|_| Packet::Publish(publish("t", "more", QoS::AtMostOnce, 0))).collect();
        let last = world.shards.len() - 1;
        let (_, present) = back_at_once(&mut world, (&old, &packets), (last, "id", ConnectOptions::clean(V311)));
        let served = watcher.texts(&mut world).len();
        assert!(!present && world.is_closed(old.socket) && (1..1000).contains(&served), "{served}");
    }
}

/// What it sent on the old connection is answered there, or not at all; what follows on the new one is its own.
#[test]
fn acknowledgements_that_nobody_has_read_count() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let (mut old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::kept(V5));
        old.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish(&mut world, "t", "once", QoS::AtLeastOnce, 1);
        let id = old.publishes(&mut world)[0].id.expect("QoS 1");
        let ack = Packet::Puback(Ack::new(packet_id(id), ReasonCode::Success));
        let (mut new, present) = back_at_once(&mut world, (&old, &[ack]), (last, "id", ConnectOptions::kept(V5)));
        assert_eq!((present, new.received(&mut world)), (true, vec![]), "nothing comes again");
        new.publish(&mut world, "x", "y", QoS::AtLeastOnce, 7);
        let got = new.received(&mut world);
        assert!(matches!(&got[..], [Got::Ack(Puback, 7, _)]), "{got:?}");
    }
}
