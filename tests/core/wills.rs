//! Wills: MQTT 5.0 section 3.1.2.5 and 3.1.3.2.2, lifecycle.md section 4.

use std::time::Duration;

use moormq::client::SubscriberId;
use moormq::codec::{
    AckKind, Disconnect, Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, SubscriptionOptions,
    Will,
};
use moormq::config::Config;
use moormq::hooks::{Answer, Chain, NoHooks, PublishModifiers, PublishRefusal, PublishRefusalM5};
use moormq::random::Random;
use moormq::shard::{Input, Request, TurnLimits};
use moormq::sharding::slot_of;

use crate::client::{Client, ConnectOptions, V5, V31, V311, id_owned_by, publish};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{SEED, World, config, open_config, worlds, worlds_with};

/// A subscriber on the last shard to the topics of wills.
fn watcher<C: Chain>(world: &mut World<C>) -> Client {
    let last = world.shards.len() - 1;
    let mut watcher = Client::on(world, last, "watcher", ConnectOptions::clean(V5));
    watcher.subscribed(world, "will/#", QoS::ExactlyOnce);
    watcher
}

fn delayed(options: ConnectOptions<'static>, delay: u32) -> ConnectOptions<'static> {
    ConnectOptions { will: Some(Will { topic: "will/x", payload: b"gone", delay, ..Will::default() }), ..options }
}

fn expiring(seconds: u32) -> ConnectOptions<'static> {
    ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(seconds))
}

type End = fn(&mut World<NoHooks>, &Client);

/// lifecycle.md 4: every end but an orderly DISCONNECT publishes it.
#[test]
fn a_will_is_published_at_every_end_but_an_orderly_disconnect() {
    let ends: [(&str, End); 9] = [
        ("hangs up", |world, client| world.hang_up(client.socket)),
        ("is silent", |world, _| world.advance(Duration::from_secs(16))),
        ("sends garbage", |world, client| world.send(client.socket, &[0, 0, 0])),
        ("sends a packet of the server", |world, client| world.send(client.socket, &[0xD0, 0])),
        ("sends too much", |world, client| world.send(client.socket, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F])),
        ("publishes what it may not", |world, client| client.publish(world, "a/#", "x", QoS::AtMostOnce, 0)),
        ("is taken over", |world, client| drop(Client::clean(world, "dying", client.version))),
        ("is removed", |world, _| {
            let subscriber = SubscriberId::new("", "dying");
            let shard = world.shards[0].owner(&subscriber);
            world.request(shard, Request::Disconnect { subscriber, cleanup: false });
        }),
        ("speaks after the lifetime", |world, _| world.advance(Duration::from_secs(100))),
    ];
    let mortal = |config: &mut Config| config.session.max_connection_lifetime = Some(Duration::from_secs(90));
    for mut world in worlds_with(|| config(mortal)) {
        for version in ProtocolVersion::ALL {
            for (how, end) in ends {
                let mut watcher = watcher(&mut world);
                let options = ConnectOptions { keep_alive: 10, ..ConnectOptions::clean(version).will("will/x") };
                let dying = Client::connect(&mut world, 0, "dying", options).0;
                end(&mut world, &dying);
                assert!(world.is_closed(dying.socket), "{how}");
                assert_eq!(watcher.texts(&mut world), ["gone"], "{version:?} {how}");
                let leaving = Client::connect(&mut world, 0, "dying", options).0;
                leaving.disconnect(&mut world);
                world.advance(Duration::from_secs(20));
                assert_eq!(watcher.texts(&mut world), [""; 0], "[MQTT-3.14.4-3]");
                watcher.disconnect(&mut world);
            }
        }
    }
}

/// [MQTT-3.14.4-3] and 0x04: only DISCONNECT 0x00 is without a will in MQTT 5.
#[test]
fn a_disconnect_with_another_code_publishes_the_will() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        for code in [ReasonCode::DisconnectWithWill, ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded] {
            let dying = Client::connect(&mut world, 0, "dying", ConnectOptions::clean(V5).will("will/x")).0;
            dying.leave(&mut world, Disconnect::new(code));
            assert_eq!(watcher.texts(&mut world), ["gone"], "{code:?}");
        }
        // Nor is a DISCONNECT that is a protocol error.
        let dying = Client::connect(&mut world, 0, "dying", ConnectOptions::clean(V5).will("will/x")).0;
        dying.leave(&mut world, Disconnect { session_expiry: Some(9), ..Disconnect::new(ReasonCode::Success) });
        assert_eq!(watcher.texts(&mut world), ["gone"]);
    }
}

#[test]
fn a_will_has_its_qos_its_retain_flag_and_its_properties() {
    for mut world in worlds() {
        for version in [V311, V5] {
            let mut watcher = watcher(&mut world);
            let properties = PublishProperties {
                message_expiry: Some(30),
                content_type: Some("text"),
                payload_is_utf8: Some(true),
                ..PublishProperties::default()
            };
            let will =
                Will { topic: "will/x", payload: b"x", qos: QoS::ExactlyOnce, retain: true, delay: 0, properties };
            let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(version) };
            let dying = Client::connect(&mut world, 0, "dying", options).0;
            world.advance(Duration::from_secs(100));
            world.hang_up(dying.socket);
            let received = watcher.publishes(&mut world);
            assert_eq!((received.len(), received[0].qos, received[0].retain), (1, QoS::ExactlyOnce, false));
            if version == V5 {
                let passed_on = received[0].properties;
                assert_eq!(passed_on.content_type, Some("text"));
                assert_eq!(passed_on.message_expiry, Some(30), "from the moment it is published");
            }
            let mut late = Client::clean(&mut world, "late", V5);
            late.subscribe(&mut world, "will/x", QoS::AtLeastOnce);
            let kept = late.publishes(&mut world);
            assert_eq!((kept[0].retain, kept[0].qos), (true, QoS::AtLeastOnce));
            late.retain(&mut world, "will/x", "");
            watcher.disconnect(&mut world);
        }
    }
}

/// [MQTT-3.1.3-9]: min(delay, session expiry).
#[test]
fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
    for mut world in worlds() {
        let second = Duration::from_secs(1);
        for (expiry, delay, due) in
            [(100, 10, 10), (10, 100, 10), (5, 5, 5), (u32::MAX, 70, 70), (200, 0, 0), (0, 50, 0)]
        {
            let mut watcher = watcher(&mut world);
            let dying = Client::connect(&mut world, 0, "dying", delayed(expiring(expiry), delay)).0;
            world.hang_up(dying.socket);
            if due > 0 {
                world.advance(due * second - Duration::from_millis(100));
                assert_eq!(watcher.received(&mut world), [], "expiry {expiry}, delay {delay}");
                world.advance(Duration::from_millis(200));
            }
            assert_eq!(watcher.texts(&mut world), ["gone"], "expiry {expiry}, delay {delay}");
            world.advance(201 * second);
            assert_eq!(watcher.received(&mut world), [], "once");
            watcher.disconnect(&mut world);
        }
        let cut = |config: &mut Config| config.session.max_will_delay = Some(Duration::from_secs(3));
        let mut world = World::new(2, config(cut), || NoHooks);
        let mut watcher = watcher(&mut world);
        let dying = Client::connect(&mut world, 0, "dying", delayed(expiring(100), 50)).0;
        world.hang_up(dying.socket);
        world.advance(4 * second);
        assert_eq!(watcher.texts(&mut world), ["gone"], "max_will_delay");
    }
}

/// lifecycle.md 4: cancelled **and forgotten** by a reconnect.
#[test]
fn a_reconnect_forgets_a_delayed_will() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let dying = Client::connect(&mut world, 0, "dying", delayed(expiring(1000), 10)).0;
        world.hang_up(dying.socket);
        world.advance(Duration::from_secs(9));
        let back = Client::connect(&mut world, 0, "dying", expiring(1000)).0;
        world.advance(Duration::from_secs(100));
        world.hang_up(back.socket);
        world.advance(Duration::from_secs(2000));
        assert_eq!(watcher.received(&mut world), [], "not even when the session ends, or another connection does");
        // A takeover is a reconnect, too; without a delay it publishes.
        for (delay, expected) in [(10, vec![]), (0, vec!["gone"])] {
            let old = Client::connect(&mut world, 0, "dying", delayed(expiring(1000), delay)).0;
            let new = Client::connect(&mut world, 0, "dying", expiring(1000)).0;
            assert!(world.is_closed(old.socket));
            world.advance(Duration::from_secs(20));
            new.disconnect(&mut world);
            assert_eq!(watcher.texts(&mut world), expected);
        }
    }
}

/// lifecycle.md 3.9: a clean start ends the session, and with it the wait.
#[test]
fn a_clean_start_publishes_the_delayed_will_of_the_session_it_ends() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let dying = Client::connect(&mut world, 0, "dying", delayed(expiring(1000), 500)).0;
        world.hang_up(dying.socket);
        assert_eq!(watcher.received(&mut world), []);
        let _anew = Client::clean(&mut world, "dying", V5);
        assert_eq!(watcher.texts(&mut world), ["gone"]);
        let live = Client::connect(&mut world, 0, "dying", delayed(expiring(1000), 500)).0;
        let _anew = Client::clean(&mut world, "dying", V5);
        assert!(world.is_closed(live.socket));
        assert_eq!(watcher.texts(&mut world), ["gone"], "the connection was live");
    }
}

#[test]
fn a_will_may_be_suppressed_on_takeover() {
    let suppressed = |config: &mut Config| config.session.suppress_will_on_takeover = true;
    for mut world in worlds_with(|| config(suppressed)) {
        for version in ProtocolVersion::ALL {
            let mut watcher = watcher(&mut world);
            let options = ConnectOptions::kept(version).will("will/x");
            Client::connect(&mut world, 0, "dying", options);
            let second = Client::connect(&mut world, 0, "dying", options).0;
            assert_eq!(watcher.received(&mut world), []);
            world.hang_up(second.socket);
            assert_eq!(watcher.texts(&mut world), ["gone"], "its own is not");
            watcher.disconnect(&mut world);
        }
    }
}

/// An operator who removes a session ends the wait of its will, too.
#[test]
fn removing_a_session_publishes_its_delayed_will() {
    for mut world in worlds() {
        let mut watcher = watcher(&mut world);
        let dying = Client::connect(&mut world, 0, "dying", delayed(expiring(1000), 100)).0;
        world.hang_up(dying.socket);
        assert_eq!(watcher.texts(&mut world), [""; 0]);
        let subscriber = SubscriberId::new("", "dying");
        let shard = world.shards[0].owner(&subscriber);
        world.request(shard, Request::Disconnect { subscriber, cleanup: true });
        assert_eq!(watcher.texts(&mut world), ["gone"]);
        world.advance(Duration::from_secs(200));
        assert_eq!(watcher.texts(&mut world), [""; 0], "once");
    }
}

/// lifecycle.md 4: shutdown publishes it at once, delayed or not. For clients that have left it is queued.
#[test]
fn an_orderly_stop_publishes_every_will() {
    for shards in [1, 2, 4] {
        let script = Script::default();
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        let mut watcher = Client::on(&mut world, shards - 1, "watcher", ConnectOptions::kept(V5));
        watcher.subscribed(&mut world, "will/#", QoS::AtLeastOnce);
        let will = Will { topic: "will/x", payload: b"gone", qos: QoS::AtLeastOnce, delay: 500, ..Will::default() };
        for shard in 0..shards {
            let name = format!("dying{shard}-");
            Client::on(&mut world, shard, &name, ConnectOptions { will: Some(will), ..expiring(1000) });
        }
        for version in [V31, V311] {
            Client::connect(
                &mut world,
                0,
                &format!("{version:?}"),
                ConnectOptions { will: Some(will), ..ConnectOptions::clean(version) },
            );
        }
        script.log.all();
        world.stop();
        assert_eq!(world.stopped, shards);
        let lines = script.log.all();
        let count = |what: &str| lines.iter().filter(|line| line.ends_with(what)).count();
        assert_eq!(count("publish will/x will"), shards + 2);
        let received = watcher.publishes(&mut world).len();
        assert_eq!(received + count("stored will/x"), shards + 2);
    }
}

/// lifecycle.md 4: whoever is connected receives them all, wherever he and the dying are, in whatever order shards stop and hear of each
/// other.
#[test]
fn an_orderly_stop_brings_every_will_to_all_who_are_connected() {
    for (shards, seed) in [1, 2, 4].into_iter().flat_map(|shards| (0..5).map(move |seed| (shards, seed))) {
        let mut random = Random::from_seed(seed);
        let mut world = World::new(shards, open_config(), || NoHooks);
        let mut watchers: Vec<_> = (0..40)
            .map(|number| {
                let version = ProtocolVersion::ALL[number % 3];
                let id = format!("watcher-{number}");
                let mut watcher = Client::connect(&mut world, number % shards, &id, ConnectOptions::clean(version)).0;
                watcher.subscribed(&mut world, "will/#", QoS::AtLeastOnce);
                watcher
            })
            .collect();
        for number in 0..4 {
            let options = ConnectOptions::clean(ProtocolVersion::ALL[number % 3]).will("will/x");
            Client::connect(&mut world, number % shards, &format!("dying-{number}"), options);
        }
        let mut order: Vec<usize> = (0..shards).collect();
        while let Some(shard) = (!order.is_empty()).then(|| order.swap_remove(random.below(order.len()))) {
            world.handle(shard, Input::Stop);
            for _ in 0..random.below(20) {
                world.carry_any_message(&mut random);
            }
        }
        while world.carry_any_message(&mut random) {}
        world.settle();
        assert_eq!(world.stopped, shards);
        for (number, watcher) in watchers.iter_mut().enumerate() {
            assert!(world.is_closed(watcher.socket));
            assert_eq!(watcher.texts(&mut world), ["gone"; 4], "watcher {number} on {shards} shards, seed {seed}");
        }
    }
}

/// What a client publishes after its will would contradict it: it is not served any more. Others are, until all wills have come.
#[test]
fn a_client_whose_will_a_stop_has_published_is_not_served_any_more() {
    let mut world = World::new(2, open_config(), || NoHooks);
    let mut watcher = Client::on(&mut world, 0, "watcher", ConnectOptions::clean(V311));
    watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
    let dying = Client::on(&mut world, 0, "dying", ConnectOptions::clean(V311).will("will/x"));
    let living = Client::on(&mut world, 0, "living", ConnectOptions::clean(V311));
    world.handle(0, Input::Stop);
    dying.publish(&mut world, "after", "death", QoS::AtMostOnce, 0);
    living.publish(&mut world, "still", "alive", QoS::AtMostOnce, 0);
    world.settle();
    assert_eq!((watcher.texts(&mut world), world.stopped), (vec!["gone".to_owned(), "alive".to_owned()], 0));
    world.handle(1, Input::Stop);
    world.settle();
    assert!(world.stopped == 2 && world.is_closed(watcher.socket));
}

/// A shard that is stuck does not keep the others from their clients for ever.
#[test]
fn a_stop_waits_for_other_shards_for_half_of_its_time() {
    let mut world = World::new(2, open_config(), || NoHooks);
    let client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
    world.handle(0, Input::Stop);
    world.settle();
    let half = open_config().runtime.shutdown_timeout / 2;
    world.advance(half - Duration::from_millis(200));
    assert!(!world.is_closed(client.socket));
    world.advance(Duration::from_millis(400));
    assert!(world.is_closed(client.socket) && world.stopped == 1);
}

/// lifecycle.md 4: nor does it lose the wills that wait for their delay, wherever their sessions are.
#[test]
fn an_orderly_stop_publishes_the_wills_of_clients_that_are_away() {
    for (shards, step) in [1, 2, 4].into_iter().flat_map(|shards| (0..8).map(move |step| (shards, step))) {
        let script = Script::default();
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        let mut watcher = watcher(&mut world);
        let slots: Vec<u16> = (0..shards)
            .map(|shard| {
                let id = id_owned_by(&world, shard, "away");
                let away = Client::connect(&mut world, 0, &id, delayed(expiring(1000), 500)).0;
                world.hang_up(away.socket);
                slot_of(&SubscriberId::new("", id.as_str()), SEED)
            })
            .collect();
        assert_eq!(watcher.texts(&mut world), [""; 0]);
        // Some of them are on their way to another shard.
        let now = world.now;
        for shard in 0..shards {
            world.shards[shard]
                .handle(Input::Request(Request::MoveSlots { slots: slots.clone(), to: shards - 1 }), now);
        }
        for _ in 0..step {
            world.carry_out_outputs();
            world.carry_messages();
        }
        script.log.all();
        world.stop();
        assert_eq!(world.stopped, shards);
        let lines = script.log.all();
        let count = lines.iter().filter(|line| line.ends_with("publish will/x will")).count();
        assert_eq!(count, shards, "after {step} steps: {lines:?}");
        if shards == 1 {
            assert_eq!(watcher.texts(&mut world), ["gone"], "a client that is still connected receives it");
        }
        world.advance(Duration::from_secs(1001));
        let lines = script.log.all();
        assert!(!lines.iter().any(|line| line.ends_with("will")), "once: {lines:?}");
    }
}

/// lifecycle.md 4: the publish of a v3.1.1 client that a hook refuses, or fails at, ends its connection.
#[test]
fn a_refused_publish_of_an_older_client_publishes_its_will() {
    let answers = Answers::default().auth_on_publish(|_, publish| match publish.topic {
        "secret" => Answer::Error(PublishRefusal),
        "fails" => panic!("as the test wants it"),
        _ => Answer::Next,
    });
    for shards in [1, 2] {
        let mut world = World::new(shards, open_config(), || NoHooks.hook(Script::new(answers.clone())));
        let mut watcher = watcher(&mut world);
        for topic in ["secret", "fails"] {
            let dying = Client::connect(&mut world, 0, "dying", ConnectOptions::clean(V311).will("will/x")).0;
            dying.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
            assert!(world.is_closed(dying.socket));
            assert_eq!(watcher.texts(&mut world), ["gone"]);
        }
        let mut staying = Client::connect(&mut world, 0, "dying", ConnectOptions::clean(V31).will("will/x")).0;
        staying.publish(&mut world, "secret", "x", QoS::AtLeastOnce, 1);
        assert_eq!(staying.received(&mut world), [Got::Ack(AckKind::Puback, 1, ReasonCode::Success)]);
    }
}

/// lifecycle.md 3.5: refused before anything of a session is touched; never routed below `$`.
#[test]
fn hooks_decide_on_the_will_when_the_client_connects() {
    let answers = Answers::default()
        .auth_on_publish(|_, publish| match publish.topic {
            "will/no" => Answer::Error(PublishRefusal),
            "will/other" => Answer::Ok(PublishModifiers::default().topic("will/y").retain(true)),
            "will/bad" => Answer::Ok(PublishModifiers::default().topic("a/#")),
            _ => Answer::Next,
        })
        .auth_on_publish_m5(|_, _| Answer::Error(PublishRefusalM5::default()));
    for shards in [1, 2] {
        let mut world = World::new(shards, open_config(), || NoHooks.hook(Script::new(answers.clone())));
        let mut live = Client::clean(&mut world, "c", V311);
        for (topic, version) in [("will/no", V311), ("will/no", V31), ("will/bad", V311), ("will/x", V5)] {
            let mut refused = Client::send_connect(&mut world, 0, "c", ConnectOptions::clean(version).will(topic));
            assert_eq!(
                refused.received(&mut world),
                [Got::Connack { present: false, code: ReasonCode::NotAuthorized }]
            );
        }
        live.send(&mut world, &Packet::Pingreq);
        assert_eq!(live.received(&mut world), [Got::Pingresp], "untouched");
        let mut watcher = watcher(&mut world);
        let dying = Client::connect(&mut world, 0, "c", ConnectOptions::clean(V311).will("will/other")).0;
        world.hang_up(dying.socket);
        assert_eq!(watcher.publishes(&mut world)[0].topic, "will/y");
        watcher.subscribe(&mut world, "$w/#", QoS::AtMostOnce);
        watcher.received(&mut world);
        for version in [V31, V311, V5] {
            let dying = Client::connect(&mut world, 0, "c", ConnectOptions::clean(version).will("$w/x")).0;
            world.hang_up(dying.socket);
        }
        assert_eq!(watcher.received(&mut world), []);
    }
}

/// A client may subscribe to the topic of its own will.
#[test]
fn a_will_waits_for_its_own_client_if_its_session_is_kept() {
    for mut world in worlds() {
        for kept in [true, false] {
            let options = if kept { ConnectOptions::kept(V311) } else { ConnectOptions::clean(V311) };
            let will = Will { topic: "will/own", payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() };
            let options = ConnectOptions { will: Some(will), ..options };
            let mut dying = Client::connect(&mut world, 0, "own", options).0;
            dying.subscribed(&mut world, "will/own", QoS::AtLeastOnce);
            world.hang_up(dying.socket);
            let mut back = Client::connect(&mut world, 0, "own", ConnectOptions::kept(V311)).0;
            assert_eq!(back.texts(&mut world), Vec::from_iter(kept.then_some("gone")));
            back.disconnect(&mut world);
            Client::clean(&mut world, "own", V311).disconnect(&mut world);
        }
    }
}

/// [MQTT-3.8.3-3]: a will has the ClientID of its client, and is not sent to it with No Local.
#[test]
fn a_will_does_not_wait_for_its_own_client_with_no_local() {
    for mut world in worlds() {
        for no_local in [true, false] {
            for delay in [0, 5] {
                let will =
                    Will { topic: "will/own", payload: b"gone", qos: QoS::AtLeastOnce, delay, ..Will::default() };
                let mut watcher = watcher(&mut world);
                let mut dying = Client::connect(
                    &mut world,
                    0,
                    "own",
                    ConnectOptions { will: Some(will), ..ConnectOptions::kept(V5) },
                )
                .0;
                let options = SubscriptionOptions { no_local, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
                dying.subscribe_with(&mut world, "will/#", options, None);
                world.hang_up(dying.socket);
                world.advance(Duration::from_secs(6));
                assert_eq!(watcher.texts(&mut world), ["gone"], "others get it");
                let mut back = Client::connect(&mut world, 0, "own", ConnectOptions::kept(V5)).0;
                assert_eq!(back.texts(&mut world), Vec::from_iter((!no_local).then_some("gone")), "delay {delay}");
                watcher.disconnect(&mut world);
                back.disconnect(&mut world);
                Client::clean(&mut world, "own", V5).disconnect(&mut world);
            }
        }
    }
}

/// A will with RETAIN and an empty payload clears the retained message, like any other.
#[test]
fn a_will_may_clear_what_is_retained() {
    for mut world in worlds() {
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish_with(&mut world, Publish { retain: true, ..publish("will/x", "here", QoS::AtMostOnce, 0) });
        let will = Will { topic: "will/x", payload: b"", retain: true, ..Will::default() };
        let dying =
            Client::connect(&mut world, 0, "dying", ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) }).0;
        world.hang_up(dying.socket);
        let mut late = watcher(&mut world);
        assert_eq!(late.received(&mut world), []);
    }
}

/// Worlds of so many shards in which ten packets are a share, and more than three recipients many.
fn small_turns(numbers: &[usize]) -> impl Iterator<Item = World<NoHooks>> {
    let limits = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 };
    numbers.iter().map(move |shards| World::in_turns(*shards, limits, open_config(), || NoHooks))
}

fn begin_turn<C: Chain>(world: &mut World<C>) {
    world.now = world.now + Duration::from_millis(1);
}

/// So many clients of the last shard.
fn on_last<C: Chain>(world: &mut World<C>, count: usize, name: &str, options: ConnectOptions<'_>) -> Vec<Client> {
    let last = world.shards.len() - 1;
    (0..count).map(|number| Client::on(world, last, &format!("{name}{number}-"), options)).collect()
}

fn crowd<C: Chain>(world: &mut World<C>) -> Vec<Client> {
    let mut crowd = on_last(world, 40, "sub", ConnectOptions::clean(V311));
    crowd.iter_mut().for_each(|client| client.subscribed(world, "will/#", QoS::AtMostOnce));
    crowd
}

/// A list of recipients is memory, whoever publishes.
#[test]
fn few_wills_to_many_go_round_at_a_time() {
    for mut world in small_turns(&[1, 2, 4]) {
        let mut crowd = crowd(&mut world);
        let dying = on_last(&mut world, 100, "dying", ConnectOptions::clean(V5).will("will/x"));
        begin_turn(&mut world);
        dying.iter().for_each(|client| world.hang_up_quietly(client.socket));
        let mut most = 0;
        loop {
            let last = world.shards.last().expect("there is one");
            most = most.max(last.resource_counts().under_way);
            world.carry_out_outputs();
            begin_turn(&mut world);
            if !world.catch_up() {
                break;
            }
        }
        assert!(most <= 30 + 40, "{most} recipients waited");
        for client in &mut crowd {
            assert_eq!(client.texts(&mut world).len(), 100);
        }
    }
}

/// Neither waits until there are no more of the others.
#[test]
fn wills_to_many_and_messages_to_many_take_turns() {
    for mut world in small_turns(&[1, 2, 4]) {
        let mut crowd = crowd(&mut world);
        let publishers = on_last(&mut world, 2, "publisher", ConnectOptions::clean(V311));
        let dying = on_last(&mut world, 30, "dying", ConnectOptions::clean(V5).will("will/x"));
        let mut packets = Vec::new();
        (0..15).for_each(|_| {
            Packet::Publish(publish("will/y", "published", QoS::AtMostOnce, 0)).encode(V311, &mut packets)
        });
        begin_turn(&mut world);
        publishers.iter().for_each(|client| world.send_quietly(client.socket, &packets));
        dying.iter().for_each(|client| world.hang_up_quietly(client.socket));
        while world.catch_up() {
            world.carry_out_outputs();
            begin_turn(&mut world);
        }
        for client in &mut crowd {
            let got = client.texts(&mut world);
            assert_eq!(got.len(), 60);
            let wills = got[..30].iter().filter(|text| *text == "gone").count();
            assert!((10..=20).contains(&wills), "{wills} wills are among the first thirty: {got:?}");
        }
    }
}

/// They have a share of a turn like others.
#[test]
fn clients_are_served_while_wills_go_on_that_waited() {
    for mut world in small_turns(&[2, 4]) {
        let last = world.shards.len() - 1;
        let mut watch = |shard, topic| {
            let mut client = Client::on(&mut world, shard, topic, ConnectOptions::clean(V5));
            client.subscribed(&mut world, topic, QoS::AtMostOnce);
            client
        };
        let (mut far, mut near) = (watch(last, "far"), watch(0, "near"));
        let modest = Client::on(&mut world, 0, "modest", ConnectOptions::clean(V311));
        let options = ConnectOptions::clean(V5);
        let first = Client::on(&mut world, 0, "first", options.will("far"));
        let others: Vec<_> = (0..300)
            .map(|number| Client::on(&mut world, 0, &format!("other{number}-"), options.will("near")))
            .collect();
        world.handle(0, Input::Congestion { to: last, congested: true });
        begin_turn(&mut world);
        world.hang_up(first.socket);
        others.iter().for_each(|client| world.hang_up(client.socket));
        assert!(near.texts(&mut world).is_empty(), "they wait behind the first one");
        let mut pings = Vec::new();
        (0..30).for_each(|_| Packet::Pingreq.encode(V311, &mut pings));
        begin_turn(&mut world);
        world.send_quietly(modest.socket, &pings);
        world.carry_out_outputs();
        let mut answers = world.received(modest.socket).len() / 2;
        assert!(answers < 30, "they are more than a share");
        begin_turn(&mut world);
        world.handle(0, Input::Congestion { to: last, congested: false });
        let mut turns = 0;
        while answers < 30 {
            begin_turn(&mut world);
            world.catch_up();
            world.carry_out_outputs();
            turns += 1;
            let more = world.received(modest.socket).len() / 2;
            assert!(more > 0, "some in each turn");
            answers += more;
        }
        let wills = near.texts(&mut world).len();
        assert!(wills > turns && wills < 100, "{wills} wills in {turns} turns");
        world.settle();
        assert_eq!((wills + near.texts(&mut world).len(), far.texts(&mut world).len()), (300, 1));
    }
}
