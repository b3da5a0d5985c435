//! The queues of sessions: lifecycle.md section 7.

use std::time::Duration;

use moormq::client::DropReason;
use moormq::codec::{AckKind, Packet, Publish, PublishProperties, QoS};
use moormq::config::{Config, Limit, QueueType};
use moormq::hooks::{Chain, Linked, NoHooks};
use moormq::shard::{TurnLimits, bound_that_is_exceeded};

use crate::client::{Client, ConnectOptions, V5, V31, V311, connect_packet, publish};
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config};

type Hooked = World<Linked<NoHooks, Script>>;

/// Worlds of one, two and four shards with hooks that record drops.
fn each(change: fn(&mut Config), mut check: impl FnMut(&mut Hooked, &Script)) {
    for shards in [1, 2, 4] {
        let script = Script::default();
        let mut world = World::new(shards, config(change), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
    }
}

/// A kept session on the last shard, subscribed to `t` at QoS 2.
fn subscriber(world: &mut Hooked, options: ConnectOptions<'_>) -> Client {
    let last = world.shards.len() - 1;
    let mut client = Client::on(world, last, "c", options);
    client.subscribed(world, "t/+", QoS::ExactlyOnce);
    client
}

fn again(world: &mut Hooked, options: ConnectOptions<'_>) -> Client {
    let last = world.shards.len() - 1;
    Client::on(world, last, "c", options)
}

/// Publishes to `t/...` under its payload: one word for each message, with its QoS behind it.
fn publish_all(world: &mut Hooked, words: &str) {
    let publisher = Client::clean(world, "publisher", V5);
    for (id, word) in (1..).zip(words.split(' ')) {
        let (payload, qos) = word.split_at(word.len() - 1);
        let qos = QoS::from_u8(qos.parse().expect("a QoS")).expect("a QoS");
        publisher.publish(world, &format!("t/{payload}"), payload, qos, id);
        // Nobody waits any more for a client whose queue is full.
        world.advance(Duration::from_millis(600));
    }
    publisher.disconnect(world);
}

/// The messages that the client receives until it has acknowledged all of them.
fn drained(world: &mut Hooked, client: &mut Client) -> String {
    client.drained(world).join(" ")
}

/// The calls of `on_message_drop` for the client: topic and reason.
fn dropped(script: &Script) -> Vec<String> {
    let lines = script.log.all();
    lines.iter().filter_map(|line| Some(line.split_once("dropped t/")?.1.to_owned())).collect()
}

fn count(world: &Hooked, reason: DropReason) -> u64 {
    world.shards.iter().map(|shard| shard.counters().dropped[reason as usize]).sum()
}

#[test]
fn qos_0_does_not_wait_for_an_offline_client() {
    each(
        |_| {},
        |world, script| {
            let client = subscriber(world, ConnectOptions::kept(V311));
            world.hang_up(client.socket);
            script.log.all();
            publish_all(world, "a0 b1 c2 d0");
            assert_eq!(dropped(script), ["a OfflineQos0", "d OfflineQos0"]);
            assert_eq!(count(world, DropReason::OfflineQos0), 2);
            let mut client = again(world, ConnectOptions::kept(V311));
            assert_eq!(drained(world, &mut client), "b c");
        },
    );
}

/// lifecycle.md 7: with `upgrade_qos` messages have the QoS of the subscription.
#[test]
fn upgraded_messages_go_out_and_wait_at_the_qos_of_the_subscription() {
    each(
        |config| config.session.upgrade_qos = true,
        |world, _| {
            let mut client = subscriber(world, ConnectOptions::kept(V5));
            publish_all(world, "a0 b1");
            let qos: Vec<_> = client.publishes(world).iter().map(|received| received.qos).collect();
            assert_eq!(qos, [QoS::ExactlyOnce; 2]);
            world.hang_up(client.socket);
            publish_all(world, "c0");
            let mut client = again(world, ConnectOptions::kept(V5));
            assert_eq!(drained(world, &mut client), "a b c");
            client.disconnect(world);
        },
    );
}

#[test]
fn a_full_queue_drops_the_newest_and_qos_0_before_the_others() {
    let few = |config: &mut Config| {
        config.queue.max_offline_messages = Limit::at_most(3);
        config.queue.max_online_messages = Limit::at_most(3);
    };
    each(few, |world, script| {
        let client = subscriber(world, ConnectOptions::kept(V311));
        world.hang_up(client.socket);
        script.log.all();
        publish_all(world, "a1 b2 c1 d1 e2");
        assert_eq!(dropped(script), ["d QueueFull", "e QueueFull"]);
        assert_eq!(count(world, DropReason::QueueFull), 2);
        let mut client = again(world, ConnectOptions::kept(V311));
        assert_eq!(drained(world, &mut client), "a b c");
    });
    // Online, behind a window of one.
    each(few, |world, script| {
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut client = subscriber(world, options);
        script.log.all();
        publish_all(world, "window1 a0 b1 c0 d1 e1 f0 g1");
        assert_eq!(dropped(script), ["c QueueFull", "f QueueFull", "g QueueFull"]);
        assert_eq!(drained(world, &mut client), "window a b d e", "nothing was queued before a");
    });
}

#[test]
fn a_lifo_queue_drops_the_oldest_and_gives_the_newest_first() {
    let few = |config: &mut Config| {
        config.queue.max_offline_messages = Limit::at_most(3);
        config.queue.max_online_messages = Limit::at_most(3);
        config.queue.queue_type = QueueType::Lifo;
    };
    each(few, |world, script| {
        let client = subscriber(world, ConnectOptions::kept(V311));
        world.hang_up(client.socket);
        script.log.all();
        publish_all(world, "a1 b2 c1 d1 e2");
        assert_eq!(dropped(script), ["a QueueFull", "b QueueFull"]);
        let mut client = again(world, ConnectOptions::kept(V311));
        assert_eq!(drained(world, &mut client), "e d c");
    });
    each(few, |world, script| {
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut client = subscriber(world, options);
        script.log.all();
        publish_all(world, "window1 a0 b1 c0 d0 e1 f1 g0 h1");
        let expected = ["c QueueFull", "d QueueFull", "g QueueFull", "b QueueFull"];
        assert_eq!(dropped(script), expected, "QoS 0 goes first, a newer one before an older message");
        assert_eq!(drained(world, &mut client), "window a h f e");
    });
}

#[test]
fn bytes_are_limited_too_and_nothing_is_dropped_in_vain() {
    let text = |length: usize| "x".repeat(length);
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for shards in [1, 2] {
            let script = Script::default();
            let small = config(|config| {
                config.queue.max_queue_bytes = Limit::at_most(2048);
                config.queue.queue_type = order;
            });
            let mut world = World::new(shards, small, || NoHooks.hook(script.clone()));
            let client = subscriber(&mut world, ConnectOptions::kept(V311));
            world.hang_up(client.socket);
            script.log.all();
            let publisher = Client::clean(&mut world, "publisher", V5);
            for (topic, length) in [("t/a", 800), ("t/b", 800), ("t/large", 3000), ("t/c", 800)] {
                publisher.publish(&mut world, topic, &text(length), QoS::AtLeastOnce, 1);
            }
            let (first, kept) = match order {
                QueueType::Fifo => ("c", ["t/a", "t/b"]),
                QueueType::Lifo => ("a", ["t/c", "t/b"]),
            };
            assert_eq!(dropped(&script), ["large QueueFull".to_owned(), format!("{first} QueueFull")]);
            let mut client = again(&mut world, ConnectOptions::kept(V311));
            let topics: Vec<_> = client.publishes(&mut world).into_iter().map(|received| received.topic).collect();
            assert_eq!(topics, kept);
        }
    }
}

/// lifecycle.md 7: reconnecting never drops, and neither does losing the connection.
#[test]
fn what_was_within_one_limit_is_not_dropped_for_the_other() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for (offline, online) in [(20, 2), (2, 20)] {
            let script = Script::default();
            let limits = config(|config| {
                config.queue.max_offline_messages = Limit::at_most(offline);
                config.queue.max_online_messages = Limit::at_most(online);
                config.queue.queue_type = order;
            });
            let mut world = World::new(2, limits, || NoHooks.hook(script.clone()));
            let one =
                |options: ConnectOptions<'static>| options.with(|properties| properties.receive_maximum = Some(1));
            let mut client = subscriber(&mut world, one(ConnectOptions::kept(V5)));
            let ten = "a1 b1 c1 d1 e1 f1 g1 h1 i1 j1";
            if online > offline {
                publish_all(&mut world, ten);
                world.hang_up(client.socket);
            } else {
                world.hang_up(client.socket);
                publish_all(&mut world, ten);
                client = again(&mut world, one(ConnectOptions::kept(V5)));
            }
            assert_eq!(dropped(&script), [""; 0]);
            // A new one finds the queue over its limit: one message goes for it, or it goes itself.
            publish_all(&mut world, "new1");
            assert_eq!(dropped(&script).len(), 1);
            if online > offline {
                client = again(&mut world, one(ConnectOptions::kept(V5)));
            }
            let received = drained(&mut world, &mut client);
            assert_eq!(received.split(' ').count(), 10, "{received}");
            assert_eq!(received.contains("new"), order == QueueType::Lifo);
        }
    }
}

/// lifecycle.md 7: `on_message_drop` has the reason: for expired messages when they are found, for all others when a session ends.
#[test]
fn what_a_session_had_left_is_dropped_with_it() {
    each(
        |_| {},
        |world, script| {
            let mut client = subscriber(world, ConnectOptions::kept(V5));
            publish_all(world, "flying1 flying2");
            client.received(world);
            world.hang_up(client.socket);
            publish_all(world, "waiting1");
            let publisher = Client::clean(world, "publisher", V5);
            let expiry = PublishProperties { message_expiry: Some(2), ..PublishProperties::default() };
            let packet = Publish { properties: expiry, ..publish("t/short", "x", QoS::AtLeastOnce, 1) };
            publisher.publish_with(world, packet);
            script.log.all();
            world.advance(Duration::from_secs(3));
            let mut client = again(world, ConnectOptions::kept(V5));
            assert_eq!(dropped(script), ["short Expired"]);
            client.received(world);
            world.hang_up(client.socket);
            let client = again(world, ConnectOptions::clean(V5));
            assert_eq!(dropped(script), ["flying SessionEnded", "flying SessionEnded", "waiting SessionEnded"]);
            client.disconnect(world);
        },
    );
}

/// QoS 0 that waited behind a full window does not wait for the next connection.
#[test]
fn qos_0_behind_a_full_window_goes_with_the_connection() {
    each(
        |_| {},
        |world, script| {
            let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
            let client = subscriber(world, options);
            publish_all(world, "a1 c1 b0 d0");
            script.log.all();
            world.hang_up(client.socket);
            assert_eq!(dropped(script), ["b OfflineQos0", "d OfflineQos0"]);
            let mut client = again(world, options);
            assert_eq!(drained(world, &mut client), "a c");
        },
    );
}

/// lifecycle.md 2: called for each message that was stored, and only for those.
#[test]
fn on_offline_message_is_called_for_stored_messages_only() {
    each(
        |config| config.queue.max_offline_messages = Limit::at_most(2),
        |world, script| {
            let client = subscriber(world, ConnectOptions::kept(V31));
            world.hang_up(client.socket);
            script.log.all();
            publish_all(world, "a1 b0 c2 d1");
            let stored: Vec<_> =
                script.log.all().iter().filter_map(|line| Some(line.split_once("stored t/")?.1.to_owned())).collect();
            assert_eq!(stored, ["a", "c"]);
        },
    );
}

/// A publisher at QoS 0 is slowed down to the pace of its subscriber, wherever both are, and nothing is lost.
#[test]
fn a_fast_publisher_waits_for_a_client_that_reads() {
    each(
        |config| config.queue.max_waiting_output_bytes = 4096,
        |world, script| {
            for shard in 0..world.shards.len() {
                let mut slow = Client::on(world, shard, "slow", ConnectOptions::clean(V5));
                slow.subscribed(world, "t/+", QoS::AtMostOnce);
                let publisher = Client::clean(world, "publisher", V311);
                let served =
                    |world: &Hooked| -> u64 { world.shards.iter().map(|shard| shard.counters().messages_in).sum() };
                let before = served(world);
                world.stick(slow.socket, true);
                let payload = "x".repeat(1000);
                for number in 0..40 {
                    publisher.publish(world, &format!("t/{number}"), &payload, QoS::AtMostOnce, 0);
                }
                assert!(served(world) - before < 10, "it waits: {}", served(world) - before);
                let mut received = 0;
                while served(world) - before < 40 {
                    world.stick(slow.socket, false);
                    received += slow.publishes(world).len();
                    world.stick(slow.socket, true);
                }
                world.stick(slow.socket, false);
                assert_eq!(received + slow.publishes(world).len(), 40);
                slow.disconnect(world);
                publisher.disconnect(world);
            }
            assert_eq!(dropped(script), [""; 0]);
        },
    );
}

/// No publisher waits for a client that has left, however full its output was.
#[test]
fn publishers_go_on_when_the_client_they_wait_for_leaves() {
    each(
        |config| config.queue.max_waiting_output_bytes = 4096,
        |world, _| {
            let stuck = subscriber(world, ConnectOptions::clean(V5));
            let publisher = Client::clean(world, "publisher", V311);
            world.stick(stuck.socket, true);
            for number in 0..20 {
                publisher.publish(world, &format!("t/{number}"), &"x".repeat(1000), QoS::AtMostOnce, 0);
            }
            world.hang_up(stuck.socket);
            world.advance(Duration::from_millis(50));
            let served: u64 = world.shards.iter().map(|shard| shard.counters().messages_in).sum();
            assert_eq!(served, 20);
        },
    );
}

/// lifecycle.md 7: a client that does not read.
#[test]
fn a_client_that_does_not_read_loses_qos_0_and_keeps_the_rest() {
    each(
        |config| config.queue.max_waiting_output_bytes = 4096,
        |world, script| {
            let mut slow = subscriber(world, ConnectOptions::clean(V5));
            let last = world.shards.len() - 1;
            let mut quick = Client::on(world, last, "quick", ConnectOptions::clean(V5));
            quick.subscribed(world, "t/+", QoS::AtMostOnce);
            world.stick(slow.socket, true);
            let publisher = Client::clean(world, "publisher", V311);
            let payload = "x".repeat(1000);
            script.log.all();
            for number in 0..10 {
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce][number % 2];
                publisher.publish(world, &format!("t/{number}"), &payload, qos, 1);
                world.advance(Duration::from_millis(600));
            }
            assert_eq!(quick.publishes(world).len(), 10, "others do not wait for long");
            let lost = dropped(script);
            assert!(!lost.is_empty() && lost.iter().all(|line| line.ends_with("SlowConsumer")), "{lost:?}");
            assert_eq!(count(world, DropReason::SlowConsumer), lost.len() as u64);
            world.stick(slow.socket, false);
            let topics: Vec<_> = slow.publishes(world).into_iter().map(|received| received.topic).collect();
            assert_eq!(topics.len() + lost.len(), 10);
            for number in [1, 3, 5, 7, 9] {
                assert!(topics.contains(&format!("t/{number}")), "{topics:?}");
            }
        },
    );
}

/// A publisher that does not read what it is answered is not served until it does; nothing it sent is lost.
#[test]
fn a_publisher_that_does_not_read_its_acknowledgements_is_paused() {
    each(
        |config| config.queue.max_waiting_output_bytes = 4096,
        |world, _| {
            let mut subscriber = subscriber(world, ConnectOptions::clean(V311));
            let mut publisher = Client::clean(world, "publisher", V311);
            world.stick(publisher.socket, true);
            for id in 1..=3000 {
                publisher.publish(world, "t/x", "x", QoS::AtLeastOnce, id);
                for received in subscriber.publishes(world) {
                    subscriber.ack(world, AckKind::Puback, received.id.expect("QoS 1"));
                }
            }
            let served: u64 = world.shards.iter().map(|shard| shard.counters().messages_in).sum();
            assert!((1000..2000).contains(&served), "four bytes each: {served}");
            world.stick(publisher.socket, false);
            let mut answers = publisher.received(world).len();
            while answers < 3000 {
                let received = subscriber.publishes(world);
                assert!(!received.is_empty(), "it waits for nothing but its subscriber: {answers}");
                received.iter().for_each(|one| subscriber.ack(world, AckKind::Puback, one.id.expect("QoS 1")));
                answers += publisher.received(world).len();
            }
            assert_eq!(answers, 3000);
        },
    );
}

/// Output is looked at between the packets of a read, too: however many come in one, the answers are bounded.
#[test]
fn a_client_that_does_not_read_its_answers_is_paused_within_a_read() {
    const PINGS: usize = 20_000;
    for shards in [1, 2, 4] {
        let limits = TurnLimits { share: u32::MAX, turn: u32::MAX, ..TurnLimits::default() };
        let small = config(|config| config.queue.max_waiting_output_bytes = 4096);
        let mut world = World::in_turns(shards, limits, small, || NoHooks);
        let client = Client::on(&mut world, shards - 1, "c", ConnectOptions::clean(V311));
        world.received(client.socket);
        world.stick(client.socket, true);
        let before = world.shards[shards - 1].counters().others_in;
        let answered = |world: &World<NoHooks>| world.shards[shards - 1].counters().others_in - before;
        world.send_quietly(client.socket, &[0xC0, 0].repeat(PINGS));
        world.settle();
        // One answer more than may wait.
        assert_eq!(answered(&world), 4096 / 2 + 1, "{shards} shards");
        world.stick(client.socket, false);
        assert_eq!((world.received(client.socket).len(), answered(&world)), (2 * PINGS, PINGS as u64));
    }
}

/// A world in which ten messages are a share, and one that gives way is a portion; messages expire.
fn in_turns(shards: usize, script: &Script, change: impl FnOnce(&mut Config)) -> Hooked {
    let limits = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 };
    World::in_turns(shards, limits, config(change), || NoHooks.hook(script.clone()))
}

/// Has turns begin until nothing is left to do on the last shard. What the bystander, who is there, asks in one of them is answered in
/// the next; gives how many of the messages that are dropped were in each.
fn drops_by_turn(world: &mut Hooked, script: &Script, bystander: &mut Client) -> Vec<usize> {
    let last = world.shards.len() - 1;
    let mut drops = vec![dropped(script).len()];
    world.send_quietly(bystander.socket, &[0xC0, 0]);
    while world.shards[last].is_behind() {
        world.now = world.now + Duration::from_millis(1);
        world.catch_up();
        world.carry_out_outputs();
        assert_eq!(bystander.received(world), [Got::Pingresp]);
        world.send_quietly(bystander.socket, &[0xC0, 0]);
        assert_eq!(bound_that_is_exceeded(&world.shards[last], 0), None);
        drops.push(dropped(script).len());
    }
    drops
}

/// However many are dropped for one that is sent or comes, they are dropped in portions, and others have their turn.
#[test]
fn many_that_have_expired_are_dropped_in_portions() {
    for shards in [1, 2, 4] {
        let script = Script::default();
        let mut world = in_turns(shards, &script, |_| {});
        let client = subscriber(&mut world, ConnectOptions::kept(V5));
        world.hang_up(client.socket);
        let publisher = Client::clean(&mut world, "publisher", V5);
        let expiry = PublishProperties { message_expiry: Some(2), ..PublishProperties::default() };
        for _ in 0..200 {
            publisher
                .publish_with(&mut world, Publish { properties: expiry, ..publish("t/x", "", QoS::AtLeastOnce, 1) });
        }
        publisher.publish(&mut world, "t/last", "last", QoS::AtLeastOnce, 1);
        world.advance(Duration::from_secs(3));
        script.log.all();
        let last = shards - 1;
        let id = crate::client::id_owned_by(&world, last, "c");
        let mut bystander = Client::on(&mut world, last, "bystander", ConnectOptions::clean(V5));
        let mut client = Client::open(&mut world, last, V5);
        world.now = world.now + Duration::from_millis(1);
        let mut connect = Vec::new();
        connect_packet(&id, ConnectOptions::kept(V5)).encode(&mut connect);
        world.send_quietly(client.socket, &connect);
        let drops = drops_by_turn(&mut world, &script, &mut bystander);
        assert!(drops.iter().all(|count| *count <= 2 * 120 / 4), "{shards} shards: {drops:?}");
        assert_eq!(drops.iter().sum::<usize>(), 200);
        world.settle();
        assert_eq!(client.texts(&mut world), ["last"]);
        assert_eq!(count(&world, DropReason::Expired), 200);
    }
}

/// As many give way to a large message as have to, in portions; it loses no place for that.
#[test]
fn many_small_messages_give_way_to_a_large_one_in_portions() {
    const QUEUE: usize = 14 * 1024;
    for shards in [1, 2, 4] {
        let script = Script::default();
        let mut world = in_turns(shards, &script, |config| {
            config.queue.max_queue_bytes = Limit::at_most(QUEUE);
            config.queue.publisher_patience = Duration::from_secs(10);
        });
        let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut client = subscriber(&mut world, options);
        let publisher = Client::clean(&mut world, "publisher", V5);
        let other = Client::clean(&mut world, "other", V5);
        let mut bystander = Client::on(&mut world, shards - 1, "bystander", ConnectOptions::clean(V5));
        // One is in flight, one waits for it, and the others behind that.
        for number in 0..75 {
            let qos = if number < 2 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            publisher.publish(&mut world, &format!("t/{number}"), "small", qos, 1);
        }
        assert_eq!(dropped(&script), [""; 0]);
        world.now = world.now + Duration::from_millis(1);
        let large = "x".repeat(QUEUE - 2000);
        let packet = |topic, payload, id| Packet::Publish(publish(topic, payload, QoS::AtLeastOnce, id));
        publisher.send_quietly(&mut world, &packet("t/large", &large, 2));
        publisher.send_quietly(&mut world, &packet("t/behind", "behind", 3));
        world.carry_out_outputs();
        world.carry_messages();
        other.send_quietly(&mut world, &packet("t/large", "other", 1));
        world.carry_out_outputs();
        world.carry_messages();
        let drops = drops_by_turn(&mut world, &script, &mut bystander);
        assert!(drops.len() > 5 && drops.iter().all(|count| *count <= 2 * 120 / 4), "{shards} shards: {drops:?}");
        world.settle();
        let all = drops.iter().sum::<usize>() + dropped(&script).len();
        assert!((20..73).contains(&all), "{shards} shards: {all}");
        assert_eq!(count(&world, DropReason::QueueFull), all as u64);
        let got = drained(&mut world, &mut client);
        let mut got: Vec<_> = got.split(' ').filter(|text| *text != "small").map(|text| &text[..5]).collect();
        assert_eq!(got[0], "xxxxx", "{shards} shards: before what is of the same client or topic");
        got.sort_unstable();
        assert_eq!(got, ["behin", "other", "xxxxx"], "{shards} shards");
    }
}

/// No limit, online and offline.
#[test]
fn a_queue_without_limits_keeps_everything() {
    let unlimited = |config: &mut Config| {
        config.queue.max_offline_messages = Limit::UNLIMITED;
        config.queue.max_online_messages = Limit::UNLIMITED;
        config.queue.max_queue_bytes = Limit::UNLIMITED;
    };
    const COUNT: usize = 2500;
    each(unlimited, |world, script| {
        let one = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let client = subscriber(world, one);
        let publisher = Client::clean(world, "publisher", V311);
        for number in 0..2 * COUNT {
            if number == COUNT {
                world.hang_up(client.socket);
            }
            publisher.publish(world, "t/x", &number.to_string(), QoS::AtLeastOnce, 1);
        }
        let mut client = again(world, one);
        let expected: Vec<String> = (0..2 * COUNT).map(|number| number.to_string()).collect();
        assert_eq!(drained(world, &mut client), expected.join(" "));
        assert_eq!(dropped(script), [""; 0]);
    });
}

/// What counts by default is bytes: a burst of many small messages to a client that reads, and one of a few large ones, wait
/// without loss behind its window.
#[test]
fn by_default_a_burst_to_a_client_that_reads_is_kept_whatever_its_number() {
    let defaults = |_: &mut Config| {};
    for (count, size) in [(5000, 10), (40, 1_000_000)] {
        each(defaults, |world, script| {
            let mut client = subscriber(world, ConnectOptions::clean(V311));
            let publisher = Client::clean(world, "publisher", V311);
            let padding = "x".repeat(size);
            for number in 0..count {
                publisher.publish(world, "t/x", &format!("{number} {padding}"), QoS::AtLeastOnce, 1);
            }
            let expected: Vec<String> = (0..count).map(|number| format!("{number} {padding}")).collect();
            assert!(drained(world, &mut client) == expected.join(" "), "{count} messages of {size} bytes");
            assert_eq!(dropped(script), [""; 0]);
        });
    }
}

/// An offline member of a shared subscription has the same hooks as any other client.
#[test]
fn hooks_are_called_for_what_is_stored_or_dropped_through_a_shared_subscription() {
    each(
        |config| config.queue.max_offline_messages = Limit::at_most(1),
        |world, script| {
            let last = world.shards.len() - 1;
            let mut member = Client::on(world, last, "member", ConnectOptions::kept(V311));
            member.subscribed(world, "$share/g/t/+", QoS::AtLeastOnce);
            world.hang_up(member.socket);
            script.log.all();
            publish_all(world, "a0 b1 c1");
            let id = crate::client::id_owned_by(world, last, "member");
            assert_eq!(script.log.of(&id), ["dropped t/a OfflineQos0", "stored t/b", "dropped t/c QueueFull"]);
        },
    );
}
