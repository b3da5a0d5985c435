//! Notifications that panic, and those that take their time: lifecycle.md section 1.

use std::time::Duration;

use moormq::codec::{AckKind, Packet, QoS, ReasonCode};
use moormq::config::{Limit, OnDeadline, SessionsFull};
use moormq::hooks::{Answer, Chain, Linked, NoHooks};

use crate::client::{Client, ConnectOptions, V5, V311, acked};
use crate::received::Got;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, open_config};

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
        let mut client = Client::on(world, last, "c", ConnectOptions::clean(V311));
        let mut other = Client::on(world, last, "other", ConnectOptions::clean(V5));
        other.subscribed(world, "#", QoS::AtMostOnce);
        client.publish(world, "t", "1", QoS::AtLeastOnce, 1);
        client.publish(world, "t", "2", QoS::AtLeastOnce, 2);
        client.send(world, &Packet::Pingreq);
        assert_eq!(client.received(world), [], "not even the acknowledgement is seen");
        assert_eq!(other.texts(world), ["1"], "it was routed before");
        other.send(world, &Packet::Pingreq);
        assert_eq!(other.received(world), [Got::Pingresp]);
        assert_eq!(script.gate.waiting(), 1, "the second is not looked at yet");
        script.gate.open();
        world.settle();
        assert_eq!(client.received(world), [acked(AckKind::Puback, 1), acked(AckKind::Puback, 2), Got::Pingresp]);
        assert_eq!(other.texts(world), ["2"]);
    });
}

#[test]
fn connack_waits_until_hooks_are_done() {
    each(&["on_register", "on_client_wakeup"], |world, script| {
        let last = world.shards.len() - 1;
        let id = crate::client::id_owned_by(world, last, "c");
        let mut client = Client::send_connect(world, 0, &id, ConnectOptions::clean(V311));
        client.send(world, &Packet::Pingreq);
        assert_eq!(client.received(world), []);
        script.gate.open();
        world.settle();
        let connack = Got::Connack { present: false, code: ReasonCode::Success };
        assert_eq!(client.received(world), [connack, Got::Pingresp]);
        let lines = script.log.of(&id);
        assert_eq!(lines, ["register", "wakeup", "on_register is done", "on_client_wakeup is done"]);
    });
}

#[test]
fn a_reconnect_waits_until_the_work_of_the_last_end_is_done() {
    each(&["on_client_gone", "on_client_offline"], |world, script| {
        for options in [ConnectOptions::kept(V311), ConnectOptions::clean(V5)] {
            script.gate.close();
            let last = world.shards.len() - 1;
            let id = crate::client::id_owned_by(world, last, "c");
            let client = Client::connect(world, 0, &id, options).0;
            world.hang_up(client.socket);
            script.log.all();
            let mut first = Client::send_connect(world, 0, &id, options);
            let mut second = Client::send_connect(world, last, &id, options);
            let gives_up = Client::send_connect(world, 0, &id, options);
            first.send(world, &Packet::Pingreq);
            world.hang_up(gives_up.socket);
            assert_eq!((first.received(world), script.log.of(&id)), (vec![], vec![]));
            let mut other = Client::clean(world, "other", V311);
            other.send(world, &Packet::Pingreq);
            assert_eq!(other.received(world), [Got::Pingresp]);
            other.disconnect(world);
            script.gate.open();
            world.settle();
            let lines = script.log.of(&id);
            assert!(lines[0].ends_with("is done") && lines[1] == "register", "{lines:?}");
            assert!(matches!(first.received(world)[0], Got::Connack { .. }));
            assert!(matches!(second.received(world)[..], [Got::Connack { .. }]));
            assert!(world.is_closed(first.socket) && !world.is_closed(second.socket), "in the order they came");
            world.hang_up(second.socket);
        }
    });
}

/// With `sessions_full = "expire"`, a session whose client is about to be back makes room for nobody; that of one who left later does.
#[test]
fn a_session_whose_client_waits_for_its_hooks_makes_room_for_nobody() {
    for shards in [1, 2, 4] {
        let script = Script { slow: vec!["on_client_offline"], ..Script::default() };
        let few = config(|config| {
            config.limits.max_sessions = Limit::at_most(2);
            config.limits.sessions_full = SessionsFull::Expire;
        });
        let mut world = World::new(shards, few, || NoHooks.hook(script.clone()));
        let last = shards - 1;
        let [first, later, new, refused] =
            ["a", "b", "c", "d"].map(|name| crate::client::id_owned_by(&world, last, name));
        for id in [&first, &later] {
            let client = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5)).0;
            world.hang_up(client.socket);
        }
        let mut back = Client::send_connect(&mut world, 0, &first, ConnectOptions::kept(V5));
        assert_eq!(back.received(&mut world), [], "it waits for its hooks");
        let _new = Client::connect(&mut world, 0, &new, ConnectOptions::clean(V5));
        assert!(script.log.of(&later).contains(&"expired Limit".to_owned()), "{shards} shards");
        let mut refused = Client::send_connect(&mut world, 0, &refused, ConnectOptions::clean(V5));
        let code = ReasonCode::QuotaExceeded;
        assert_eq!(refused.received(&mut world), [Got::Connack { present: false, code }]);
        script.gate.open();
        world.settle();
        let connack = Got::Connack { present: true, code: ReasonCode::Success };
        assert_eq!(back.received(&mut world), [connack], "{shards} shards");
    }
}

/// lifecycle.md 1: never two at a time. Hooks are called one by one when something happens; their later work is done one
/// by one in the order of the calls.
#[test]
fn tasks_of_one_subscriber_id_are_never_under_way_two_at_a_time() {
    let slow = ["on_register", "on_client_wakeup", "on_client_offline"];
    each(&slow, |world, script| {
        let last = world.shards.len() - 1;
        let id = crate::client::id_owned_by(world, last, "c");
        script.gate.open();
        let mut old = Client::connect(world, 0, &id, ConnectOptions::kept(V311)).0;
        old.subscribed(world, "t", QoS::AtLeastOnce);
        script.log.all();
        script.gate.close();
        let begun = script.gate.waiting();
        let mut new = Client::send_connect(world, last, &id, ConnectOptions::kept(V311));
        assert!(world.is_closed(old.socket));
        assert_eq!(script.log.of(&id), ["register", "offline TakenOver", "wakeup present"]);
        assert_eq!(script.gate.waiting(), begun + 1, "one of three tasks is under way");
        world.hang_up(new.socket);
        script.gate.open();
        world.settle();
        let lines = script.log.of(&id);
        let done: Vec<_> = lines.iter().filter(|line| line.ends_with("is done")).map(String::as_str).collect();
        let in_order = [
            "on_register is done",
            "on_client_offline is done",
            "on_client_wakeup is done",
            "on_client_offline is done",
        ];
        assert_eq!(done, in_order, "{lines:?}");
        assert_eq!(new.received(world), [], "it was gone before its turn came");
    });
}

/// lifecycle.md 1: what a hook wants done about a message, of which there may be any number, holds up nobody.
#[test]
fn a_client_does_not_wait_for_what_its_hooks_want_done_about_messages() {
    for shards in [1, 2, 4] {
        let script = Script { slow: vec!["on_message_drop", "on_offline_message"], ..Script::default() };
        let configured = config(|config| {
            config.allow_anonymous = true;
            config.queue.max_online_messages = Limit::at_most(1);
            config.queue.max_offline_messages = Limit::at_most(1);
            config.hooks.max_message_tasks = 10;
        });
        let mut world = World::new(shards, configured, || NoHooks.hook(script.clone()));
        let world = &mut world;
        let id = crate::client::id_owned_by(world, shards - 1, "c");
        let mut client = Client::connect(world, 0, &id, ConnectOptions::kept(V311)).0;
        client.subscribed(world, "t", QoS::AtLeastOnce);
        world.hang_up(client.socket);
        let publisher = Client::clean(world, "publisher", V5);
        for number in 1..=20 {
            publisher.publish(world, "t", &number.to_string(), QoS::AtLeastOnce, number);
        }
        let lines = script.log.of(&id);
        let told = |hook: &str| lines.iter().filter(|line| line.starts_with(hook)).count();
        assert_eq!((told("stored"), told("dropped")), (1, 19), "{lines:?}");
        assert_eq!(script.gate.waiting(), 1, "one after the other");

        // The client comes back while nothing of that is done, and is served.
        let mut client = Client::connect(world, 0, &id, ConnectOptions::kept(V311)).0;
        client.send(world, &Packet::Pingreq);
        let received = client.received(world);
        assert!(received.contains(&Got::Pingresp), "{received:?}");
        script.log.all();

        script.gate.open();
        world.settle();
        let done: Vec<_> = script.log.of(&id).into_iter().filter(|line| line.ends_with("is done")).collect();
        let mut in_order = vec!["on_offline_message is done"];
        in_order.extend(["on_message_drop is done"; 4]);
        assert_eq!(done, in_order, "as many as leave half of the room to others");
        let dropped: u64 =
            world.shards.iter().flat_map(|shard| shard.hook_reports()).map(|report| report.counts.dropped).sum();
        assert_eq!(dropped, 15, "the others are counted");
    }
}

/// At a stop they are done, too, but all of them together are not waited for longer than one is.
#[test]
fn a_stop_waits_for_what_is_to_be_done_about_messages_no_longer_than_for_one() {
    for gives_up in [false, true] {
        let script = Script { slow: vec!["on_message_drop"], ..Script::default() };
        let configured = config(|config| {
            config.allow_anonymous = true;
            config.queue.max_offline_messages = Limit::at_most(1);
        });
        let mut world = World::new(1, configured, || NoHooks.hook(script.clone()));
        let mut client = Client::connect(&mut world, 0, "c", ConnectOptions::kept(V311)).0;
        client.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(client.socket);
        let publisher = Client::clean(&mut world, "publisher", V5);
        for number in 1..=9 {
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, number);
        }
        world.stop();
        assert_eq!(world.stopped, 0);
        if gives_up {
            world.advance(Duration::from_millis(5200));
        } else {
            script.gate.open();
            world.settle();
        }
        assert_eq!(world.stopped, 1, "{gives_up}");
        let done = script.log.of("c").iter().filter(|line| line.ends_with("is done")).count();
        assert_eq!(done, if gives_up { 0 } else { 8 });
    }
}

/// lifecycle.md 5: at an orderly shutdown all hooks are called, and done, before the process ends.
#[test]
fn a_stop_waits_for_what_its_hooks_want_done_but_not_for_ever() {
    for gives_up in [false, true] {
        each(&["on_client_gone", "on_client_offline"], |world, script| {
            let shards = world.shards.len();
            let ids: Vec<_> = (0..shards).map(|shard| crate::client::id_owned_by(world, shard, "c")).collect();
            for (number, id) in ids.iter().enumerate() {
                let options = if number % 2 == 0 { ConnectOptions::kept(V311) } else { ConnectOptions::clean(V5) };
                Client::connect(world, 0, id, options);
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
        assert_eq!(client.received(world), []);
        world.advance(Duration::from_millis(200));
        assert_eq!(client.received(world), [Got::Suback(1, vec![ReasonCode::Success])]);
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
    let mut back =
        Client::send_connect(&mut world, 0, "c", ConnectOptions { keep_alive: 2, ..ConnectOptions::clean(V311) });
    world.advance(Duration::from_secs(30));
    assert!(!world.is_closed(back.socket));
    gate.open();
    world.settle();
    gate.close();
    back.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
    world.advance(Duration::from_secs(30));
    gate.open();
    world.settle();
    assert_eq!(back.received(&mut world).len(), 2);
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
            let mut client = Client::connect(&mut world, 0, "c", ConnectOptions::kept(version).will("t")).0;
            client.subscribed(&mut world, "t", QoS::AtLeastOnce);
            client.publish(&mut world, "t", "x", QoS::ExactlyOnce, 1);
            assert_eq!(client.received(&mut world).len(), 2);
            world.hang_up(client.socket);
            let (mut client, present) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(version));
            assert!(present);
            client.unsubscribe(&mut world, &["t"]);
            assert!(matches!(client.received(&mut world)[..], [_, Got::Unsuback(..)]), "its own message, once more");
            Client::clean(&mut world, "c", version).disconnect(&mut world);
        }
        let failures: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
        assert!(failures >= 12, "each is counted: {failures}");
    }
}

/// What waited for a hook is served when the hook is given up, before anything else is due.
#[test]
fn a_ping_that_waited_for_a_hook_counts_for_the_keep_alive() {
    let script = Script { slow: vec!["on_publish"], ..Script::default() };
    let configured = config(|config| config.hooks.later_deadline = Duration::from_secs(3));
    let mut world = World::new(1, configured, || NoHooks.hook(script.clone()));
    // One and a half times of it is over when the hook is given up.
    let options = ConnectOptions { keep_alive: 2, ..ConnectOptions::clean(V311) };
    let mut client = Client::connect(&mut world, 0, "c", options).0;
    client.publish(&mut world, "t", "1", QoS::AtMostOnce, 0);
    client.send(&mut world, &Packet::Pingreq);
    world.advance(Duration::from_millis(3100));
    assert_eq!(client.received(&mut world), [Got::Pingresp]);
    assert!(!world.is_closed(client.socket));
}

/// Both the task that the first waits for and the hook that the second waits for are given up in the same moment.
#[test]
fn who_comes_first_is_registered_first_if_deadlines_coincide() {
    let answers = Answers::default().auth_on_register_m5(|_, register| match register.clean_start {
        true => Answer::later(std::future::pending()),
        false => Answer::Next,
    });
    let script = Script { answers, slow: vec!["on_client_gone"], ..Script::default() };
    let configured = config(|config| {
        config.hooks.later_deadline = Duration::from_secs(3);
        config.hooks.on_deadline = OnDeadline::Allow;
    });
    let mut world = World::new(1, configured, || NoHooks.hook(script.clone()));
    let options = ConnectOptions { clean_start: false, ..ConnectOptions::clean(V5) };
    let old = Client::connect(&mut world, 0, "c", options).0;
    world.hang_up(old.socket);
    let first = Client::send_connect(&mut world, 0, "c", options);
    let second = Client::send_connect(&mut world, 0, "c", ConnectOptions::clean(V5));
    world.advance(Duration::from_secs(7));
    assert!(world.is_closed(first.socket) && !world.is_closed(second.socket), "the last that came is there");
}
