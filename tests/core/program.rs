//! The embedding program: it publishes, subscribes and disconnects without a connection. And what is left in the end: nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moormq::client::{SessionAction, SubscriberId};
use moormq::codec::{AckKind, Disconnect, PropertyBlock, Publish, QoS, ReasonCode};
use moormq::hooks::{Answer, Chain, NoHooks};
use moormq::memory::MemoryStage;
use moormq::random::Random;
use moormq::shard::{Input, Request};
use moormq::time::Time;
use moormq::topic::TopicFilter;

use crate::client::{Client, ConnectOptions, V5, V31, V311, acked, connect_packet, publish};
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, worlds};

fn publishing(topic: &str, payload: &'static str, retain: bool) -> Request {
    Request::Publish {
        mountpoint: Arc::from(""),
        topic: topic.to_owned(),
        payload: Bytes::from_static(payload.as_bytes()),
        qos: QoS::AtLeastOnce,
        retain,
        properties: PropertyBlock::new(),
        expiry: None,
    }
}

fn subscribing(subscription: u64, filter: &str) -> Request {
    let filter = TopicFilter::parse(filter, 9).expect("a valid filter");
    Request::Subscribe { subscription, mountpoint: Arc::from(""), filter }
}

/// What was delivered to the program since the last call: subscription, topic and payload.
fn delivered<C: Chain>(world: &mut World<C>) -> Vec<(u64, String, String)> {
    let delivered = std::mem::take(&mut world.delivered);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("payloads of tests are text");
    delivered
        .into_iter()
        .map(|(number, message)| (number, message.topic().as_str().to_owned(), text(message.payload())))
        .collect()
}

fn received(number: u64, topic: &str, payload: &str) -> (u64, String, String) {
    (number, topic.to_owned(), payload.to_owned())
}

#[test]
fn what_the_program_publishes_reaches_clients_of_every_shard() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let mut block = PropertyBlock::new();
        block.content_type("text/plain").expect("a legal content type");
        for (from, to) in (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to))) {
            let mut client = Client::on(&mut world, to, "c", ConnectOptions::clean(V5));
            client.subscribed(&mut world, "t/+", QoS::ExactlyOnce);
            world.request(from, publishing("t/x", "plain", false));
            world.request(
                from,
                Request::Publish {
                    mountpoint: Arc::from(""),
                    topic: "t/y".to_owned(),
                    payload: Bytes::from_static(b"rich"),
                    qos: QoS::ExactlyOnce,
                    retain: true,
                    properties: block.clone(),
                    expiry: Some(Duration::from_secs(7)),
                },
            );
            world.request(from, publishing("t/+", "no topic name", false));
            let got = client.publishes(&mut world);
            assert_eq!(got.iter().map(|received| received.text()).collect::<Vec<_>>(), ["plain", "rich"]);
            assert_eq!((got[1].qos, got[1].properties.content_type), (QoS::ExactlyOnce, Some("text/plain")));
            assert_eq!(got[1].properties.message_expiry, Some(7));
            let mut late = Client::on(&mut world, to, "late", ConnectOptions::clean(V311));
            late.subscribe(&mut world, "t/y", QoS::AtMostOnce);
            assert_eq!(late.texts(&mut world), ["rich"]);
            world.request(from, publishing("t/y", "", true));
            client.disconnect(&mut world);
        }
    }
}

#[test]
fn what_the_program_subscribes_to_comes_from_every_shard_once_for_each_subscription() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.retain(&mut world, "t/kept", "kept");
        for shard in 0..shards {
            let (one, two) = (shard as u64 * 2 + 10, shard as u64 * 2 + 11);
            world.request(shard, subscribing(one, "t/#"));
            world.request(shard, subscribing(two, "t/+"));
            assert_eq!(std::mem::take(&mut world.subscribed), [one, two]);
            assert_eq!(delivered(&mut world), [received(one, "t/kept", "kept"), received(two, "t/kept", "kept")]);
            for from in 0..shards {
                let publisher = Client::on(&mut world, from, "p", ConnectOptions::clean(V5));
                publisher.publish(&mut world, "t/live", "live", QoS::AtLeastOnce, 1);
                assert_eq!(delivered(&mut world), [received(one, "t/live", "live"), received(two, "t/live", "live")]);
                world.request(from, publishing("t/own", "own", false));
                assert_eq!(delivered(&mut world).len(), 2, "its own, too");
                publisher.disconnect(&mut world);
            }
            world.request(shard, Request::Unsubscribe { subscription: one });
            publisher.publish(&mut world, "t/live", "live", QoS::AtMostOnce, 0);
            assert_eq!(delivered(&mut world), [received(two, "t/live", "live")]);
            world.request(shard, Request::Unsubscribe { subscription: two });
            world.request(shard, Request::Unsubscribe { subscription: two });
            publisher.publish(&mut world, "t/live", "live", QoS::AtMostOnce, 0);
            assert_eq!(delivered(&mut world), []);
        }
    }
}

/// A subscription that ended while the other shards took it in leaves its place to the next one, and nothing else.
#[test]
fn what_is_retained_for_a_subscription_that_ended_does_not_come_to_the_next_one() {
    for shards in [2, 4] {
        let mut world = World::new(shards, crate::world::open_config(), || NoHooks);
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.retain(&mut world, "old", "kept");
        publisher.retain(&mut world, "new", "kept");
        let now = world.now;
        world.shards[0].handle(Input::Request(subscribing(1, "old")), now);
        world.shards[0].handle(Input::Request(Request::Unsubscribe { subscription: 1 }), now);
        world.shards[0].handle(Input::Request(subscribing(2, "new")), now);
        world.settle();
        assert_eq!(delivered(&mut world), [received(2, "new", "kept")]);
    }
}

/// It receives all retained messages up to the last value, like a client; see `retained`.
#[test]
fn the_program_misses_nothing_while_it_subscribes() {
    for seed in 0..100 {
        let mut random = Random::from_seed(seed);
        let shards = 2 + random.below(3);
        let mut world = World::new(shards, crate::world::open_config(), || NoHooks);
        let publisher = Client::on(&mut world, random.below(shards), "p", ConnectOptions::clean(V311));
        let subscribe_at = random.below(20);
        let mut last = String::new();
        for step in 0..40 {
            if step == subscribe_at {
                let now = world.now;
                world.shards[random.below(shards)].handle(Input::Request(subscribing(1, "t")), now);
            }
            if random.below(3) == 0 {
                last = step.to_string();
                let mut bytes = Vec::new();
                Publish { retain: true, ..publish("t", &last, QoS::AtMostOnce, 0) }.encode(V311, &mut bytes);
                world.send_quietly(publisher.socket, &bytes);
            } else {
                world.carry_any_message(&mut random);
            }
        }
        while world.carry_any_message(&mut random) {}
        let numbers: Vec<usize> =
            delivered(&mut world).iter().map(|(_, _, text)| text.parse().expect("a step")).collect();
        assert!(numbers.is_sorted(), "seed {seed}: {numbers:?}");
        assert_eq!(numbers.last().map(usize::to_string).unwrap_or_default(), last, "seed {seed}");
    }
}

/// What it publishes waits in the inbox then: see `net_worker`.
#[test]
fn what_the_program_publishes_waits_for_shards_it_has_published_to_and_for_memory() {
    let mut world = World::new(3, crate::world::open_config(), || NoHooks);
    let mut client = Client::on(&mut world, 1, "c", ConnectOptions::clean(V311));
    client.subscribed(&mut world, "t", QoS::AtMostOnce);
    let waits = |world: &World<NoHooks>| world.shards[0].turn().program_waits;
    for to in [1, 2] {
        world.handle(0, Input::Congestion { to, congested: true });
    }
    world.request(0, publishing("nobody", "x", false));
    assert!(!waits(&world), "nobody has it");
    world.request(0, publishing("t", "x", false));
    assert!(waits(&world));
    world.handle(0, Input::Congestion { to: 2, congested: false });
    assert!(waits(&world));
    world.handle(0, Input::Congestion { to: 1, congested: false });
    assert!(!waits(&world));
    for (stage, held) in [(MemoryStage::RetainedFull, false), (MemoryStage::PublishersHeld, true)] {
        world.handle(0, Input::Memory(stage));
        assert_eq!(waits(&world), held, "{stage:?}");
    }
    world.handle(0, Input::Memory(MemoryStage::Normal));
    assert!(!waits(&world));
}

/// lifecycle.md 5: the hooks are in `lifecycle`; here what becomes of session and messages.
#[test]
fn the_program_disconnects_clients_and_removes_sessions() {
    for mut world in worlds() {
        for cleanup in [false, true] {
            let last = world.shards.len() - 1;
            let id = crate::client::id_owned_by(&world, last, "c");
            let mut client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V311)).0;
            client.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let subscriber = SubscriberId::new("", id.as_str());
            let owner = world.shards[0].owner(&subscriber);
            assert_eq!(owner, last);
            world.request(owner, Request::Disconnect { subscriber: SubscriberId::new("", "stranger"), cleanup });
            assert!(!world.is_closed(client.socket));
            world.request(owner, Request::Disconnect { subscriber, cleanup });
            assert!(world.is_closed(client.socket));
            world.request(0, publishing("t", "waits", false));
            let (mut client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V311));
            assert_eq!((present, client.texts(&mut world).len()), (!cleanup, usize::from(!cleanup)));
            client.disconnect(&mut world);
            Client::connect(&mut world, 0, &id, ConnectOptions::clean(V311)).0.disconnect(&mut world);
        }
    }
}

/// Whoever asks is told how the session was, wherever it is, and whatever shard he asked.
#[test]
fn an_operator_is_told_whether_there_is_such_a_client() {
    for mut world in worlds() {
        for asked in 0..world.shards.len() {
            let owner = world.shards.len() - 1;
            let id = crate::client::id_owned_by(&world, owner, "c");
            let subscriber = SubscriberId::new("", id.as_str());
            let ask = |world: &mut World<_>, action, ticket| {
                world.request(asked, Request::Session { subscriber: subscriber.clone(), action, ticket });
                let [(answered, found)] = &std::mem::take(&mut world.found)[..] else { panic!("one answer") };
                assert_eq!(*answered, ticket);
                found.clone()
            };
            let (find, end) = (SessionAction::Find, |cleanup| SessionAction::Disconnect { cleanup });
            assert_eq!(ask(&mut world, find, 1), None);
            assert_eq!(ask(&mut world, end(true), 2), None);
            let mut client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V311)).0;
            client.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let found = ask(&mut world, find, 3).expect("it is there");
            assert!(found.is_connected && found.is_kept);
            assert_eq!((&*found.client.subscriber.client_id, found.subscriptions, found.queued), (&*id, 1, 0));
            assert!(!world.is_closed(client.socket), "it was only a question");
            assert!(ask(&mut world, end(false), 4).expect("it is there").is_connected);
            assert!(world.is_closed(client.socket));
            world.request(0, publishing("t", "waits", false));
            let found = ask(&mut world, find, 5).expect("it is kept");
            assert_eq!((found.is_connected, found.queued, found.queued_bytes > 0), (false, 1, true));
            assert!(ask(&mut world, end(true), 6).is_some());
            assert_eq!(ask(&mut world, find, 7), None);
        }
    }
}

/// A full mailbox pauses the publishers that write to it, and no others; what they sent is not lost.
#[test]
fn a_full_mailbox_pauses_the_publishers_that_write_to_it() {
    for shards in [2, 4] {
        let mut world = World::new(shards, crate::world::open_config(), || NoHooks);
        let mut there = Client::on(&mut world, 1, "there", ConnectOptions::clean(V311));
        there.subscribed(&mut world, "far", QoS::AtMostOnce);
        let mut publisher = Client::on(&mut world, 0, "p", ConnectOptions::clean(V311));
        let mut local = Client::on(&mut world, 0, "l", ConnectOptions::clean(V311));
        let now = world.now;
        world.shards[0].handle(Input::Congestion { to: 1, congested: true }, now);
        for id in 1..=3 {
            publisher.publish(&mut world, "far", "x", QoS::AtLeastOnce, id);
            local.publish(&mut world, "near", "x", QoS::AtLeastOnce, id);
        }
        assert_eq!((publisher.received(&mut world).len(), local.received(&mut world).len()), (1, 3));
        world.shards[0].handle(Input::Congestion { to: 1, congested: false }, now);
        world.settle();
        assert_eq!(publisher.received(&mut world), [acked(AckKind::Puback, 2), acked(AckKind::Puback, 3)]);
        assert_eq!(there.texts(&mut world).len(), 3);
    }
}

/// When everything is gone, nothing is left in the shards: sessions, filters, groups, hooks, pending subscriptions. The entries of
/// the timer wheel are bounded, however much came and went.
#[test]
fn memory_returns_to_zero() {
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let shards = 1 + random.below(4);
        let gate = Gate::default();
        let (slow, register) = (gate.clone(), gate.clone());
        let answers = Answers::default()
            .auth_on_publish(move |_, publish| match publish.topic {
                "later" => slow.later(Answer::ok),
                _ => Answer::Next,
            })
            .auth_on_register(move |_, register_| match register_.password {
                Some(b"later") => register.later(Answer::ok),
                _ => Answer::Next,
            });
        let script = Script { answers, gate: gate.clone(), slow: vec!["on_client_gone"], ..Script::default() };
        let quiet = config(|config| config.sys.interval = Duration::ZERO);
        let mut world = World::new(shards, quiet, || NoHooks.hook(script.clone()));
        let mut clients: Vec<Client> = Vec::new();
        for step in 0..200 {
            match random.below(6) {
                0 | 1 => {
                    let version = [V31, V311, V5][random.below(3)];
                    let mut options = if random.below(2) == 0 {
                        ConnectOptions::kept(version)
                    } else {
                        ConnectOptions::clean(version)
                    };
                    (options.keep_alive, options.username) = (random.below(3) as u16 * 10, Some("x"));
                    options.password = (random.below(4) == 0).then_some(b"later");
                    let will = moormq::codec::Will { topic: "w", retain: true, delay: 1, ..Default::default() };
                    options.will = (random.below(2) == 0).then_some(will);
                    let client = Client::open(&mut world, random.below(shards), version);
                    let mut bytes = Vec::new();
                    connect_packet(&format!("c{}", random.below(12)), options).encode(&mut bytes);
                    world.send_quietly(client.socket, &bytes);
                    clients.push(client);
                }
                2 if !clients.is_empty() => {
                    let client = &clients[random.below(clients.len())];
                    let filter = ["a/+", "#", "$share/g/a/b", "$share/h/#", "w"][random.below(5)];
                    let filters = [moormq::codec::SubscribeFilter {
                        filter,
                        options: moormq::codec::SubscriptionOptions::new(QoS::ExactlyOnce),
                    }];
                    let subscribe = moormq::codec::Subscribe::new(crate::client::packet_id(1), &filters[..]);
                    let mut bytes = Vec::new();
                    subscribe.encode(client.version, &mut bytes);
                    world.send_quietly(client.socket, &bytes);
                }
                3 if !clients.is_empty() => {
                    let client = &clients[random.below(clients.len())];
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(3)];
                    let topic = ["a/b", "later", "w"][random.below(3)];
                    let mut bytes = Vec::new();
                    publish(topic, "x", qos, 1 + step).encode(client.version, &mut bytes);
                    world.send_quietly(client.socket, &bytes);
                }
                4 if !clients.is_empty() => {
                    let client = clients.swap_remove(random.below(clients.len()));
                    world.hang_up(client.socket);
                }
                5 if random.below(3) == 0 => {
                    let name = format!("c{}", random.below(12));
                    let slot = moormq::sharding::slot_of(&SubscriberId::new("", name.as_str()), crate::world::SEED);
                    let (to, now) = (random.below(shards), world.now);
                    for shard in &mut world.shards {
                        shard.handle(Input::Request(Request::MoveSlots { slots: vec![slot], to }), now);
                    }
                }
                5 => world.advance(Duration::from_millis(random.below(400) as u64)),
                _ => {
                    world.carry_any_message(&mut random);
                }
            }
        }
        gate.open();
        world.settle();
        for client in clients {
            world.hang_up(client.socket);
        }
        for id in 0..12 {
            let subscriber = SubscriberId::new("", format!("c{id}"));
            let owner = world.shards[0].owner(&subscriber);
            world.request(owner, Request::Disconnect { subscriber, cleanup: true });
        }
        let cleaner = Client::clean(&mut world, "cleaner", V5);
        cleaner.retain(&mut world, "w", "");
        cleaner.leave(&mut world, Disconnect::new(ReasonCode::Success));
        world.settle();
        // Each hook that answered later has an entry until its deadline; connections and sessions have a few each.
        world.advance(Duration::from_secs(6));
        for shard in &world.shards {
            let counts = shard.resource_counts();
            assert!(counts.deadlines <= 100, "seed {seed}: {counts:?}");
        }
        world.advance(Duration::from_secs(130));
        for shard in &world.shards {
            let counts = shard.resource_counts();
            // Only the sweep of retained messages goes on for ever.
            assert_eq!(counts, moormq::shard::ResourceCounts { deadlines: 1, ..Default::default() }, "seed {seed}");
            assert!(shard.next_deadline() < Time::NEVER);
        }
    }
}

/// A client that is slowed down again and again has few entries in the timer wheel, not one for each time.
#[test]
fn timers_of_a_throttled_client_do_not_pile_up() {
    let slowed = config(|config| {
        config.limits.max_message_rate = 1;
        config.sys.interval = Duration::ZERO;
    });
    let mut world = World::new(1, slowed, || NoHooks);
    let client =
        Client::connect(&mut world, 0, "c", ConnectOptions { keep_alive: 600, ..ConnectOptions::clean(V311) }).0;
    for _ in 0..200 {
        client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        world.advance(Duration::from_millis(1050));
    }
    let counts = world.shards[0].resource_counts();
    assert!(counts.deadlines <= 6, "{counts:?}");
    assert_eq!(world.shards[0].counters().messages_in, 200);
}
