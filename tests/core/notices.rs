//! Notifications that panic, and those that take their time: lifecycle.md section 1.

use std::time::Duration;

use moormq::codec::{AckKind, Packet, QoS, ReasonCode};
use moormq::hooks::{Chain, Linked, NoHooks};

use crate::client::{Client, Hello, V5, V311, acked};
use crate::heard::Got;
use crate::script::{Gate, Script};
use crate::world::{World, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

fn each(slow: &[&'static str], check: impl Fn(&mut Hooked, &Script)) {
    for shards in [1, 2, 4] {
        let script = Script { slow: slow.to_vec(), ..Script::default() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
    }
}

#[test]
fn a_client_waits_for_what_its_hooks_want_done_first_and_others_do_not() {
    each(&["on_publish"], |world, script| {
        let last = world.shards.len() - 1;
        let mut client = Client::on(world, last, "c", Hello::clean(V311));
        let mut other = Client::on(world, last, "other", Hello::clean(V5));
        other.subscribed(world, "#", QoS::AtMostOnce);
        client.publish(world, "t", "1", QoS::AtLeastOnce, 1);
        client.publish(world, "t", "2", QoS::AtLeastOnce, 2);
        client.say(world, &Packet::Pingreq);
        assert_eq!(client.heard(world), [], "not even the acknowledgement is seen");
        assert_eq!(other.texts(world), ["1"], "it was routed before");
        other.say(world, &Packet::Pingreq);
        assert_eq!(other.heard(world), [Got::Pingresp]);
        assert_eq!(script.gate.waiting(), 1, "the second is not looked at yet");
        script.gate.open();
        world.settle();
        assert_eq!(client.heard(world), [acked(AckKind::Puback, 1), acked(AckKind::Puback, 2), Got::Pingresp]);
        assert_eq!(other.texts(world), ["2"]);
    });
}

#[test]
fn a_client_is_not_welcomed_before_its_hooks_are_done() {
    each(&["on_register", "on_client_wakeup"], |world, script| {
        let last = world.shards.len() - 1;
        let id = crate::client::id_owned_by(world, last, "c");
        let mut client = Client::knock(world, 0, &id, Hello::clean(V311));
        client.say(world, &Packet::Pingreq);
        assert_eq!(client.heard(world), []);
        script.gate.open();
        world.settle();
        let connack = Got::Connack { present: false, code: ReasonCode::Success };
        assert_eq!(client.heard(world), [connack, Got::Pingresp]);
        let lines = script.log.of(&id);
        assert_eq!(lines, ["register", "wakeup", "on_register is done", "on_client_wakeup is done"]);
    });
}

#[test]
fn who_comes_back_waits_until_his_leaving_is_done() {
    each(&["on_client_gone", "on_client_offline"], |world, script| {
        for hello in [Hello::kept(V311), Hello::clean(V5)] {
            script.gate.close();
            let last = world.shards.len() - 1;
            let id = crate::client::id_owned_by(world, last, "c");
            let client = Client::connect(world, 0, &id, hello).0;
            world.hang_up(client.socket);
            script.log.all();
            let mut first = Client::knock(world, 0, &id, hello);
            let mut second = Client::knock(world, last, &id, hello);
            let gives_up = Client::knock(world, 0, &id, hello);
            first.say(world, &Packet::Pingreq);
            world.hang_up(gives_up.socket);
            assert_eq!((first.heard(world), script.log.of(&id)), (vec![], vec![]));
            let mut other = Client::clean(world, "other", V311);
            other.say(world, &Packet::Pingreq);
            assert_eq!(other.heard(world), [Got::Pingresp]);
            other.disconnect(world);
            script.gate.open();
            world.settle();
            let lines = script.log.of(&id);
            assert!(lines[0].ends_with("is done") && lines[1] == "register", "{lines:?}");
            assert!(matches!(first.heard(world)[0], Got::Connack { .. }));
            assert!(matches!(second.heard(world)[..], [Got::Connack { .. }]));
            assert!(world.is_closed(first.socket) && !world.is_closed(second.socket), "in the order they came");
            world.hang_up(second.socket);
        }
    });
}

/// lifecycle.md 1: never two at a time. Hooks are called one by one at the moment they tell of; what they want done is done one
/// by one in the order of the calls.
#[test]
fn tasks_of_one_subscriber_id_are_never_under_way_two_at_a_time() {
    let slow = ["on_register", "on_client_wakeup", "on_client_offline", "on_offline_message"];
    each(&slow, |world, script| {
        let last = world.shards.len() - 1;
        let id = crate::client::id_owned_by(world, last, "c");
        script.gate.open();
        let mut old = Client::connect(world, 0, &id, Hello::kept(V311)).0;
        old.subscribed(world, "t", QoS::AtLeastOnce);
        let publisher = Client::clean(world, "publisher", V5);
        script.log.all();
        script.gate.close();
        let begun = script.gate.waiting();
        let mut new = Client::knock(world, last, &id, Hello::kept(V311));
        assert!(world.is_closed(old.socket));
        assert_eq!(script.log.of(&id), ["register", "offline TakenOver", "wakeup present"]);
        assert_eq!(script.gate.waiting(), begun + 1, "one of three tasks is under way");
        world.hang_up(new.socket);
        publisher.publish(world, "t", "x", QoS::AtLeastOnce, 1);
        script.gate.open();
        world.settle();
        let lines = script.log.of(&id);
        let done: Vec<_> = lines.iter().filter(|line| line.ends_with("is done")).map(String::as_str).collect();
        let in_order = [
            "on_register is done",
            "on_client_offline is done",
            "on_client_wakeup is done",
            "on_client_offline is done",
            "on_offline_message is done",
        ];
        assert_eq!(done, in_order, "{lines:?}");
        assert_eq!(new.heard(world), [], "it was gone before its turn came");
    });
}

/// lifecycle.md 5: at an orderly shutdown all hooks are called, and done, before the process ends.
#[test]
fn a_stop_waits_for_what_its_hooks_want_done_but_not_for_ever() {
    for gives_up in [false, true] {
        each(&["on_client_gone", "on_client_offline"], |world, script| {
            let shards = world.shards.len();
            let ids: Vec<_> = (0..shards).map(|shard| crate::client::id_owned_by(world, shard, "c")).collect();
            for (number, id) in ids.iter().enumerate() {
                let hello = if number % 2 == 0 { Hello::kept(V311) } else { Hello::clean(V5) };
                Client::connect(world, 0, id, hello);
            }
            world.stop();
            assert_eq!(world.stopped, 0, "every shard has something to do");
            world.advance(Duration::from_millis(4900));
            assert_eq!(world.stopped, 0);
            if gives_up {
                world.advance(Duration::from_millis(200));
            } else {
                script.gate.open();
                world.settle();
                for id in &ids {
                    assert!(script.log.of(id).last().is_some_and(|line| line.ends_with("is done")));
                }
            }
            assert_eq!(world.stopped, shards, "each says so once");
        });
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    each(&["on_subscribe"], |world, script| {
        let mut client = Client::clean(world, "c", V311);
        client.subscribe(world, "t", QoS::AtMostOnce);
        world.advance(Duration::from_millis(4900));
        assert_eq!(client.heard(world), []);
        world.advance(Duration::from_millis(200));
        assert_eq!(client.heard(world), [Got::Suback(1, vec![ReasonCode::Success])]);
        let failures: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
        assert_eq!((failures, script.gate.waiting()), (1, 1));
    });
}

/// A client whose hooks take their time is not silent, and its connect time-out is over.
#[test]
fn waiting_for_a_hook_is_not_silence() {
    let patient = crate::world::config(|config| config.hooks.later_deadline = Duration::from_secs(60));
    let gate = Gate::default();
    let script = Script { slow: vec!["on_client_gone", "on_publish"], gate: gate.clone(), ..Script::default() };
    let mut world = World::new(2, patient, || NoHooks.hook(script.clone()));
    let client = Client::clean(&mut world, "c", V311);
    world.hang_up(client.socket);
    let mut back = Client::knock(&mut world, 0, "c", Hello { keep_alive: 2, ..Hello::clean(V311) });
    world.advance(Duration::from_secs(30));
    assert!(!world.is_closed(back.socket));
    gate.open();
    world.settle();
    gate.close();
    back.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
    world.advance(Duration::from_secs(30));
    gate.open();
    world.settle();
    assert_eq!(back.heard(&mut world).len(), 2);
}

#[test]
fn a_notification_that_panics_changes_nothing() {
    let all = [
        "on_register",
        "on_register_m5",
        "on_client_wakeup",
        "on_client_offline",
        "on_client_gone",
        "on_session_expired",
        "on_publish",
        "on_publish_m5",
        "on_subscribe",
        "on_subscribe_m5",
        "on_topic_unsubscribed",
        "on_offline_message",
        "on_message_drop",
    ];
    for shards in [1, 2] {
        let script = Script { panics: all.to_vec(), ..Script::default() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        for version in [V311, V5] {
            let mut client = Client::connect(&mut world, 0, "c", Hello::kept(version).will("t")).0;
            client.subscribed(&mut world, "t", QoS::AtLeastOnce);
            client.publish(&mut world, "t", "x", QoS::ExactlyOnce, 1);
            assert_eq!(client.heard(&mut world).len(), 2);
            world.hang_up(client.socket);
            let (mut client, present) = Client::connect(&mut world, 0, "c", Hello::kept(version));
            assert!(present);
            client.unsubscribe(&mut world, &["t"]);
            assert!(matches!(client.heard(&mut world)[..], [_, Got::Unsuback(..)]), "its own message, once more");
            Client::clean(&mut world, "c", version).disconnect(&mut world);
        }
        let failures: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
        assert!(failures >= 12, "each is counted: {failures}");
    }
}
