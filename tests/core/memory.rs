//! The broker holds nearly as much memory as it may: what stops at each stage, and goes on when it is left.

use std::time::Duration;

use moormq::codec::{AckKind, Packet, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::config::{Config, QueueConfig, SysConfig};
use moormq::hooks::NoHooks;
use moormq::memory::MemoryKind::{Connections, InFlight, Messages, Queues, Retained, Sessions, Subscriptions, Tables};
use moormq::memory::{MemoryHeld, MemoryKind, MemoryStage};
use moormq::shard::Input;

use crate::client::{Client, ConnectOptions, V5, V311, acked, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::world::{World, open_config, worlds, worlds_with};

const SECOND: Duration = Duration::from_secs(1);

impl World<NoHooks> {
    /// The broker is at this stage, as all shards hear.
    fn memory(&mut self, stage: MemoryStage) {
        (0..self.shards.len()).for_each(|shard| self.handle(shard, Input::Memory(stage)));
        self.settle();
    }
}

#[test]
fn what_is_retained_does_not_grow() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let publisher = Client::clean(&mut world, "publisher", V5);
        let mut live = Client::on(&mut world, last, "live", ConnectOptions::clean(V5));
        live.subscribed(&mut world, "#", QoS::AtMostOnce);
        let mut retain = |world: &mut World<NoHooks>, topic: &str, text: &str| {
            publisher.retain(world, topic, text);
            assert_eq!(live.texts(world), [text], "whoever is there gets it");
        };
        for topic in ["a", "b", "c", "d"] {
            retain(&mut world, topic, "12");
        }
        world.memory(MemoryStage::RetainedFull);
        for (topic, text) in [("a", "3"), ("b", ""), ("c", "larger"), ("e", "new")] {
            retain(&mut world, topic, text);
        }
        let refused: u64 = world.shards.iter().map(|shard| shard.counters().retained_refused).sum();
        assert_eq!(refused, 2, "the larger one and the new one");
        let mut reader = Client::clean(&mut world, "reader", V5);
        reader.subscribe(&mut world, "#", QoS::AtMostOnce);
        let mut kept = reader.texts(&mut world);
        kept.sort();
        assert_eq!(kept, ["12", "3"], "and nothing that is not the last of its topic");
        world.memory(MemoryStage::Normal);
        retain(&mut world, "e", "new");
        let mut reader = Client::clean(&mut world, "reader", V5);
        reader.subscribe(&mut world, "e", QoS::AtMostOnce);
        assert_eq!(reader.texts(&mut world), ["new"]);
    }
}

#[test]
fn publishers_are_held_and_nobody_else() {
    for stage in [MemoryStage::PublishersHeld, MemoryStage::Full] {
        for mut world in worlds() {
            let last = world.shards.len() - 1;
            let mut reader = Client::on(&mut world, last, "reader", ConnectOptions::kept(V5));
            reader.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let options = ConnectOptions { keep_alive: 2, ..ConnectOptions::clean(V5) };
            let mut publisher = Client::connect(&mut world, 0, "publisher", options).0;
            publisher.publish(&mut world, "t", "before", QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world), [acked(AckKind::Puback, 1)]);
            world.memory(stage);
            assert_eq!(reader.texts(&mut world), ["before"]);
            publisher.send(&mut world, &Packet::Pingreq);
            assert_eq!(publisher.received(&mut world), [Got::Pingresp], "it does not publish");
            publisher.publish(&mut world, "t", "held", QoS::AtLeastOnce, 2);
            publisher.publish(&mut world, "t", &"large ".repeat(10_000), QoS::AtLeastOnce, 3);
            // Longer than its keep-alive: what it sends is not read, and that is not its fault.
            world.advance(9 * SECOND);
            assert_eq!((publisher.received(&mut world), reader.texts(&mut world)), (vec![], vec![]));
            // Who takes and asks goes on.
            reader.ack(&mut world, AckKind::Puback, 1);
            reader.send(&mut world, &Packet::Pingreq);
            reader.subscribe(&mut world, "other", QoS::AtMostOnce);
            let got = reader.received(&mut world);
            assert!(matches!(got[..], [Got::Pingresp, Got::Suback(..)]), "{got:?}");
            assert!(!world.is_closed(publisher.socket));
            world.memory(MemoryStage::RetainedFull);
            assert_eq!(publisher.received(&mut world), [2, 3].map(|id| acked(AckKind::Puback, id)));
            let got = reader.texts(&mut world);
            assert_eq!(got.iter().map(String::len).collect::<Vec<_>>(), [4, 60_000]);
        }
    }
}

/// What such a client publishes stands before its acknowledgements: if it were held without end, nobody would make room.
#[test]
fn who_has_something_to_take_is_held_no_longer_than_a_second_for_each_publish() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut both = Client::on(
            &mut world,
            last,
            "both",
            ConnectOptions::kept(V5).with(|properties| {
                properties.receive_maximum = Some(2);
            }),
        );
        both.subscribed(&mut world, "to/both", QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V311);
        for id in 1..=4 {
            publisher.publish(&mut world, "to/both", "x", QoS::AtLeastOnce, id);
        }
        assert_eq!(both.texts(&mut world).len(), 2, "the window is full");
        world.memory(MemoryStage::Full);
        both.publish(&mut world, "t", "first", QoS::AtLeastOnce, 1);
        both.ack(&mut world, AckKind::Puback, 1);
        both.publish(&mut world, "t", "second", QoS::AtLeastOnce, 2);
        both.ack(&mut world, AckKind::Puback, 2);
        assert!(both.received(&mut world).is_empty());
        for (second, id) in [(1, 1), (2, 2)] {
            world.advance(SECOND + Duration::from_millis(100));
            let got = both.received(&mut world);
            assert!(
                got.contains(&Got::Ack(AckKind::Puback, id, ReasonCode::NoMatchingSubscribers)),
                "{second}: {got:?}"
            );
            assert_eq!(got.len(), 2, "and one more message, whose place is free: {got:?}");
        }
        // Now there is nothing more for it.
        both.ack(&mut world, AckKind::Puback, 3);
        both.ack(&mut world, AckKind::Puback, 4);
        both.publish(&mut world, "t", "third", QoS::AtLeastOnce, 3);
        world.advance(5 * SECOND);
        assert!(both.received(&mut world).is_empty());
        world.memory(MemoryStage::Normal);
        assert_eq!(both.received(&mut world).len(), 1);
    }
}

/// Reading what waited is no reason to be forgotten among those who wait for memory.
#[test]
fn who_is_held_and_reads_what_waited_for_it_goes_on_when_there_is_memory() {
    let short =
        || Config { queue: QueueConfig { max_waiting_output_bytes: 4096, ..QueueConfig::default() }, ..open_config() };
    for mut world in worlds_with(short) {
        let last = world.shards.len() - 1;
        let mut both = Client::on(&mut world, last, "both", ConnectOptions::clean(V5));
        both.subscribed(&mut world, "to/both", QoS::AtMostOnce);
        world.stick(both.socket, true);
        let publisher = Client::clean(&mut world, "publisher", V311);
        for _ in 0..20 {
            publisher.publish(&mut world, "to/both", &"x".repeat(1000), QoS::AtMostOnce, 0);
        }
        world.memory(MemoryStage::PublishersHeld);
        both.publish(&mut world, "t", "held", QoS::AtLeastOnce, 1);
        world.stick(both.socket, false);
        assert!(!both.texts(&mut world).is_empty());
        world.advance(3 * SECOND);
        world.memory(MemoryStage::Normal);
        let acked = Got::Ack(AckKind::Puback, 1, ReasonCode::NoMatchingSubscribers);
        assert!(both.received(&mut world).contains(&acked), "{} shards", world.shards.len());
    }
}

/// Who does not publish goes on: a packet that is no PUBLISH is not held before it is larger than a CONNECT may be.
#[test]
fn who_subscribes_to_long_filters_is_not_held() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut still = Client::on(&mut world, last, "still", ConnectOptions::clean(V5));
        world.memory(MemoryStage::PublishersHeld);
        let filter = "x".repeat(50_000);
        let filters = [SubscribeFilter { filter: &filter, options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        let mut bytes = Vec::new();
        Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])).encode(V5, &mut bytes);
        bytes.chunks(10_000).for_each(|read| world.send(still.socket, read));
        assert!(matches!(still.received(&mut world)[..], [Got::Suback(..)]), "{} shards", world.shards.len());
    }
}

/// What has begun and is not whole takes memory, too. Such packets may be all that takes it: so they come on, but slowly.
#[test]
fn who_has_begun_a_large_packet_is_held_and_it_comes_on_slowly() {
    const READ: usize = 10_000;
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut reader = Client::on(&mut world, last, "reader", ConnectOptions::clean(V5));
        reader.subscribed(&mut world, "t", QoS::AtMostOnce);
        let options = ConnectOptions { keep_alive: 2, ..ConnectOptions::clean(V5) };
        let (early, late) =
            (Client::connect(&mut world, 0, "early", options).0, Client::connect(&mut world, 0, "late", options).0);
        let large = "x".repeat(6 * READ);
        let mut bytes = Vec::new();
        Packet::Publish(publish("t", &large, QoS::AtMostOnce, 0)).encode(V5, &mut bytes);
        let of_unread = || MemoryHeld::on_this_thread().of(MemoryKind::Unread);
        bytes[..3 * READ].chunks(READ).for_each(|read| world.send(early.socket, read));
        world.memory(MemoryStage::PublishersHeld);
        // It is seen with the next read; a new one when it is more than a receive buffer takes.
        world.send(early.socket, &bytes[3 * READ..4 * READ]);
        bytes[..3 * READ].chunks(READ).for_each(|read| world.send(late.socket, read));
        let before = of_unread();
        world.send(early.socket, &bytes[4 * READ..]);
        world.send(late.socket, &bytes[3 * READ..]);
        assert!(of_unread() <= before, "nothing more is read: {} and {before} before", of_unread());
        world.advance(Duration::from_millis(900));
        assert!(of_unread() <= before && reader.texts(&mut world).is_empty());
        let (mut came, mut seconds) = (0, 0);
        while came < 2 {
            // Their keep-alive is shorter: what they send is not read.
            world.advance(SECOND);
            seconds += 1;
            let texts = reader.texts(&mut world);
            assert!(texts.iter().all(|text| *text == large));
            came += texts.len();
            assert!(seconds < 20 && (seconds > 2 || came == 0), "{came} after {seconds} s");
        }
        assert_eq!(of_unread(), 0);
        assert!(!world.is_closed(early.socket) && !world.is_closed(late.socket));
        // A small one may come whole, and waits.
        early.publish(&mut world, "t", "small", QoS::AtMostOnce, 0);
        world.advance(5 * SECOND);
        assert!(reader.texts(&mut world).is_empty());
        world.memory(MemoryStage::Normal);
        assert_eq!(reader.texts(&mut world), ["small"]);
    }
}

/// A hold is the shard's: it is left behind, and the new one holds for itself.
#[test]
fn who_is_held_and_moves_is_held_there_and_goes_on_from_there() {
    for shards in [2, 4] {
        let mut world = World::new(shards, open_config(), || NoHooks);
        let id = id_owned_by(&world, 0, "publisher");
        let (mut publisher, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        world.memory(MemoryStage::PublishersHeld);
        publisher.publish(&mut world, "t", "held", QoS::AtLeastOnce, 1);
        for to in [1, 0, 1] {
            move_slot(&mut world, &id, to);
            world.settle();
            assert_eq!(world.shard_of(publisher.socket), Some(to));
            world.advance(3 * SECOND);
            assert!(publisher.received(&mut world).is_empty());
        }
        world.memory(MemoryStage::Normal);
        let acked = Got::Ack(AckKind::Puback, 1, ReasonCode::NoMatchingSubscribers);
        assert_eq!(publisher.received(&mut world), [acked]);
    }
}

/// What had arrived before comes before what its client does next, as it always does: so little more may be held.
#[test]
fn what_is_held_of_a_client_that_comes_anew_is_published_first() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut reader = Client::on(&mut world, last, "reader", ConnectOptions::clean(V5));
        reader.subscribed(&mut world, "t", QoS::AtMostOnce);
        let publisher = Client::clean(&mut world, "publisher", V5);
        world.memory(MemoryStage::PublishersHeld);
        for text in ["first", "second", "third"] {
            publisher.publish(&mut world, "t", text, QoS::AtMostOnce, 0);
        }
        assert!(reader.texts(&mut world).is_empty());
        let again = Client::clean(&mut world, "publisher", V5);
        assert!(world.is_closed(publisher.socket) && !world.is_closed(again.socket));
        assert_eq!(reader.texts(&mut world), ["first", "second", "third"]);
    }
}

#[test]
fn new_clients_are_refused_at_the_limit_but_not_those_who_come_for_what_waits() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for shard in 0..shards {
            let mut kept = Client::on(&mut world, shard, "kept", ConnectOptions::kept(V5));
            kept.subscribed(&mut world, "t", QoS::AtLeastOnce);
            kept.disconnect(&mut world);
        }
        world.memory(MemoryStage::PublishersHeld);
        let still = Client::clean(&mut world, "still", V5);
        world.memory(MemoryStage::Full);
        for shard in 0..shards {
            let id = id_owned_by(&world, shard, "new");
            let mut new = Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(V5));
            let refused = Got::Connack { present: false, code: ReasonCode::QuotaExceeded };
            assert_eq!((new.received(&mut world), world.is_closed(new.socket)), (vec![refused], true));
            let new = Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(V311));
            assert_eq!((world.received(new.socket), world.is_closed(new.socket)), (vec![0x20, 2, 0, 3], true));
            let id = id_owned_by(&world, shard, "kept");
            let (kept, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            assert!(present && !world.is_closed(kept.socket));
        }
        assert!(!world.is_closed(still.socket), "who is there stays");
        world.memory(MemoryStage::PublishersHeld);
        Client::clean(&mut world, "new", V5);
    }
}

/// What all shards of a world hold, of the kinds that clients cause.
fn held() -> Vec<(MemoryKind, usize)> {
    let held = MemoryHeld::on_this_thread();
    MemoryKind::ALL.into_iter().map(|kind| (kind, held.of(kind))).filter(|(_, bytes)| *bytes > 0).collect()
}

/// Tables that have grown once stay: so the first round says what is left, and the second leaves nothing more.
#[test]
fn nothing_is_held_when_all_sessions_are_gone() {
    let config = || Config { sys: SysConfig { interval: Duration::ZERO }, ..open_config() };
    for mut world in worlds_with(config) {
        for round in 0..3 {
            let before = MemoryHeld::on_this_thread();
            let shards = world.shards.len();
            let publisher = Client::clean(&mut world, "publisher", V5);
            let mut clients = Vec::new();
            for number in 0..4 {
                let options = ConnectOptions::kept(V5);
                let mut client = Client::on(&mut world, number % shards, &format!("c{number}"), options);
                client.subscribed(&mut world, "#", QoS::ExactlyOnce);
                clients.push(client);
            }
            clients[0].disconnect(&mut world);
            for id in 1..=200 {
                let payload = "x".repeat(100 * usize::from(id));
                publisher.publish(&mut world, &format!("t/{id}"), &payload, QoS::AtLeastOnce, id);
                publisher.retain(&mut world, &format!("r/{id}"), "y");
            }
            let now = MemoryHeld::on_this_thread();
            for kind in [Messages, Queues, InFlight, Retained, Sessions, Subscriptions, Connections] {
                let grows = !(round > 0 && kind == Subscriptions);
                assert!(!grows || now.of(kind) > before.of(kind), "{kind:?}: {:?}", held());
            }
            for id in 1..=200 {
                publisher.retain(&mut world, &format!("r/{id}"), "");
            }
            publisher.disconnect(&mut world);
            for (number, client) in clients.into_iter().enumerate() {
                world.hang_up(client.socket);
                let id = id_owned_by(&world, number % shards, &format!("c{number}"));
                Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(&mut world);
            }
            world.settle();
            let left = MemoryHeld::on_this_thread();
            for kind in MemoryKind::ALL {
                let stays = if round == 0 && matches!(kind, Subscriptions | Tables) { 4096 * shards } else { 0 };
                let (left, before) = (left.of(kind), before.of(kind));
                assert!(left >= before && left <= before + stays, "{kind:?}: {left}, {before} before round {round}");
            }
        }
        drop(world);
        assert_eq!(held(), [], "not even tables");
    }
}

/// Messages that are dropped when their client leaves take no memory any more, however few were kept among them.
#[test]
fn what_is_dropped_of_a_queue_is_held_no_more() {
    for many in [1000, 20_000] {
        let mut world = World::new(1, open_config(), || NoHooks);
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Queues);
        let publisher = Client::clean(&mut world, "publisher", V5);
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(2));
        let (mut client, _) = Client::connect(&mut world, 0, "c", options);
        client.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let before = held();
        for number in 0..many {
            let qos = if number < 3 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            publisher.publish(&mut world, "t", "x", qos, 1);
        }
        let full = held() - before;
        world.hang_up(client.socket);
        world.settle();
        let left = held() - before;
        assert!(full > 40 * many && left < 1000, "{many} messages: {full} bytes, and {left} when one of them is left");
    }
}
