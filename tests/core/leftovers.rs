//! What clients and sessions leave, where it is a lot: lifecycle.md sections 5 and 7. In these tests more than three messages are a lot.

use std::time::{Duration, Instant};

use moormq::client::DropReason;
use moormq::codec::{Packet, QoS, ReasonCode, Will};
use moormq::config::SharedPolicy;
use moormq::hooks::{Chain, Linked, NoHooks};
use moormq::shard::{Input, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config};

type Hooked = World<Linked<NoHooks, Script>>;

/// Worlds of so many shards with hooks that record calls, in which ten messages are a share.
fn each(numbers: &[usize], mut check: impl FnMut(&mut Hooked, &Script)) {
    for shards in numbers {
        let script = Script::default();
        let limits = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 };
        let mut world = World::in_turns(*shards, limits, config(|_| {}), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
        world.settle();
        assert!(world.shards.iter().all(|shard| !shard.is_behind()));
    }
}

fn begin_turn<C: Chain>(world: &mut World<C>) {
    world.now = world.now + Duration::from_millis(1);
}

/// That of the client of these tests: the last shard owns it.
fn id<C: Chain>(world: &World<C>) -> String {
    id_owned_by(world, world.shards.len() - 1, "c")
}

/// Two messages may be in flight to it.
fn options(mut options: ConnectOptions<'_>) -> ConnectOptions<'_> {
    options = options.with(|properties| properties.receive_maximum = Some(2));
    options
}

/// The client, with 62 messages: two in flight, and behind another one 59 of this QoS that wait.
fn full(world: &mut Hooked, script: &Script, with: ConnectOptions<'_>, filter: &str, qos: QoS) -> Client {
    let id = id(world);
    let (mut client, _) = Client::connect(world, 0, &id, options(with));
    client.subscribed(world, filter, QoS::AtLeastOnce);
    let publisher = Client::clean(world, "publisher", V5);
    for number in 0..62 {
        let qos = if number < 3 { QoS::AtLeastOnce } else { qos };
        publisher.publish(world, "t", &number.to_string(), qos, 1);
    }
    publisher.disconnect(world);
    assert_eq!(client.texts(world), ["0", "1"]);
    script.log.all();
    begin_turn(world);
    client
}

fn count<C: Chain>(world: &World<C>, reason: DropReason) -> u64 {
    world.shards.iter().map(|shard| shard.counters().dropped[reason as usize]).sum()
}

/// What hooks were told of the client since this was asked last; the same some times in a row is there once, with how often.
fn calls(script: &Script, id: &str) -> Vec<String> {
    let mut calls: Vec<(String, usize)> = Vec::new();
    for line in script.log.all() {
        let what = line.strip_prefix(&format!("{id} m5 ")).or_else(|| line.strip_prefix(&format!("/{id} m5 ")));
        let Some(what) = what.filter(|what| !what.starts_with('?')) else { continue };
        match calls.last_mut() {
            Some((last, times)) if last == what => *times += 1,
            _ => calls.push((what.to_owned(), 1)),
        }
    }
    let text = |(what, times)| if times == 1 { what } else { format!("{what} {times}") };
    calls.into_iter().map(text).collect()
}

/// How much of that are drops.
fn drops(calls: &[String]) -> usize {
    let times = |call: &String| call.rsplit(' ').next().and_then(|times| times.parse().ok()).unwrap_or(1);
    calls.iter().filter(|call| call.starts_with("dropped")).map(times).sum()
}

/// What is a lot is one number for all: how small portions are has nothing to do with it.
#[test]
fn what_is_no_lot_is_dropped_at_once_however_small_portions_are() {
    let script = Script::default();
    let limits = TurnLimits { share: 4000, turn: 12_000, at_once: 62, portion: 3, under_way: 30 };
    let mut world = World::in_turns(1, limits, config(|_| {}), || NoHooks.hook(script.clone()));
    let client = full(&mut world, &script, ConnectOptions::clean(V5), "t", QoS::AtLeastOnce);
    let id = id(&world);
    world.hang_up_quietly(client.socket);
    assert_eq!(drops(&calls(&script, &id)), 62);
    assert!(!world.shards[0].is_behind());
}

/// [lifecycle.md 5]
#[test]
fn hooks_are_told_of_the_end_of_a_session_behind_all_that_it_leaves() {
    each(&[1, 2, 4], |world, script| {
        let client = full(world, script, ConnectOptions::clean(V5), "t", QoS::AtLeastOnce);
        let id = id(world);
        let mut bystander = Client::on(world, world.shards.len() - 1, "bystander", ConnectOptions::clean(V5));
        begin_turn(world);
        world.hang_up_quietly(client.socket);
        assert_eq!(calls(script, &id), ["unsubscribed all"]);
        let mut turns = Vec::new();
        loop {
            begin_turn(world);
            world.send_quietly(bystander.socket, &[0xC0, 0]);
            if !world.catch_up() {
                break;
            }
            world.carry_out_outputs();
            assert_eq!(bystander.received(world), [Got::Pingresp], "in the same turn");
            turns.push(calls(script, &id));
        }
        let last = turns.pop().expect("there were some");
        assert!(
            turns.len() >= 5 && turns.iter().all(|turn| turn.len() == 1 && (1..20).contains(&drops(turn))),
            "{turns:?}"
        );
        assert_eq!(last.last().map(String::as_str), Some("gone ConnectionLost"));
        assert_eq!(turns.iter().map(|turn| drops(turn)).sum::<usize>() + drops(&last), 62);
        assert_eq!(count(world, DropReason::SessionEnded), 62);
        world.settle();
    });
}

/// [lifecycle.md 5]
#[test]
fn who_comes_for_a_session_that_leaves_a_lot_is_registered_behind_that() {
    each(&[1, 2, 4], |world, script| {
        // It is away and comes with a clean start; it has just left; it is there, and taken over.
        for (kept, left) in [(true, true), (false, true), (false, false), (true, false)] {
            let with = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let first = full(world, script, with, "t", QoS::AtLeastOnce);
            let id = id(world);
            if left && kept {
                world.hang_up(first.socket);
                assert_eq!(calls(script, &id), ["offline ConnectionLost"]);
            } else if left {
                world.hang_up_quietly(first.socket);
            }
            begin_turn(world);
            let (again, present) = Client::connect(world, 0, &id, options(ConnectOptions::clean(V5)));
            assert!(!present);
            let mut calls = calls(script, &id);
            let mut expected = vec!["unsubscribed all", "dropped t SessionEnded 62"];
            match (kept, left) {
                (true, true) => expected.push("expired CleanStart"),
                (false, true) => expected.push("gone ConnectionLost"),
                (false, false) => expected.push("gone TakenOver"),
                (true, false) => {
                    expected.insert(0, "offline TakenOver");
                    expected.push("expired CleanStart");
                }
            }
            assert_eq!(calls.split_off(expected.len()), ["register", "wakeup"], "kept {kept}, left {left}");
            assert_eq!(calls, expected, "kept {kept}, left {left}");
            again.disconnect(world);
            world.settle();
            script.log.all();
        }
        let sessions: usize = world.shards.iter().map(|shard| shard.resource_counts().sessions).sum();
        assert_eq!(sessions, 0);
    });
}

/// [lifecycle.md 7]
#[test]
fn qos_0_for_a_client_that_has_left_is_dropped_in_portions_and_before_it_is_back() {
    each(&[1, 2, 4], |world, script| {
        for taken_over in [false, true] {
            let first = full(world, script, ConnectOptions::kept(V5), "t", QoS::AtMostOnce);
            let (id, before) = (id(world), count(world, DropReason::OfflineQos0));
            if !taken_over {
                world.hang_up_quietly(first.socket);
                world.catch_up();
                let calls = calls(script, &id);
                assert_eq!(calls[0], "offline ConnectionLost");
                assert!((1..30).contains(&drops(&calls)), "{calls:?}");
            }
            begin_turn(world);
            let (mut again, present) = Client::connect(world, 0, &id, options(ConnectOptions::kept(V5)));
            assert!(present);
            let calls = calls(script, &id);
            let wakeup = calls.iter().position(|call| call == "register").expect("it is registered");
            assert_eq!(drops(&calls[wakeup..]), 0, "{calls:?}");
            assert_eq!(again.texts(world), ["0", "1"], "these are in flight still");
            assert_eq!(count(world, DropReason::OfflineQos0) - before, 59);
            // Without a trace for the next round.
            world.hang_up(again.socket);
            Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(world);
        }
    });
}

/// [lifecycle.md 7]
#[test]
fn a_session_that_ends_while_its_qos_0_is_dropped_drops_the_rest() {
    each(&[1, 2, 4], |world, script| {
        let with = ConnectOptions::clean(V5).with(|properties| properties.session_expiry = Some(1));
        let first = full(world, script, with, "t", QoS::AtMostOnce);
        let id = id(world);
        world.hang_up_quietly(first.socket);
        world.now = world.now + Duration::from_secs(2);
        world.settle();
        let calls = calls(script, &id);
        assert_eq!(calls.last().map(String::as_str), Some("expired Expiry"));
        assert_eq!(drops(&calls), 62, "{calls:?}");
        let (zero, ended) = (count(world, DropReason::OfflineQos0), count(world, DropReason::SessionEnded));
        assert!(zero + ended == 62 && ended >= 3, "{zero} and {ended}");
        let (again, present) = Client::connect(world, 0, &id, options(ConnectOptions::clean(V5)));
        assert!(!present);
        again.disconnect(world);
    });
}

/// [MQTT-4.8.2-4]: none of it is lost, and each goes once, in its order.
#[test]
fn what_a_member_leaves_goes_to_others_in_portions_and_in_order() {
    each(&[1, 2, 4], |world, script| {
        let first = full(world, script, ConnectOptions::clean(V5), "$share/g/t", QoS::AtLeastOnce);
        let mut other = Client::on(world, 0, "other", ConnectOptions::clean(V5));
        other.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let publisher = Client::clean(world, "publisher", V5);
        begin_turn(world);
        world.hang_up_quietly(first.socket);
        assert!(world.shards.iter().any(|shard| shard.is_behind()), "it is a lot");
        publisher.publish(world, "t", "new", QoS::AtLeastOnce, 1);
        world.settle();
        let mut got = other.texts(world);
        let new = got.iter().position(|text| text == "new").expect("it has come");
        got.remove(new);
        assert_eq!(got, (0..62).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(count(world, DropReason::SessionEnded), 0);
    });
}

/// A member with 92 messages of a shared subscription, two of them in flight, and in between 30 of its own; and another member.
fn members(world: &mut Hooked, script: &Script) -> (Client, Client) {
    let mut first = full(world, script, ConnectOptions::kept(V5), "$share/g/t", QoS::AtLeastOnce);
    first.subscribed(world, "own", QoS::AtLeastOnce);
    let publisher = Client::clean(world, "publisher", V5);
    for number in 62..122 {
        begin_turn(world);
        let topic = if number % 2 == 0 { "t" } else { "own" };
        publisher.publish(world, topic, &number.to_string(), QoS::AtLeastOnce, 1);
    }
    publisher.disconnect(world);
    let mut other = Client::on(world, 0, "other", ConnectOptions::clean(V5));
    other.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
    script.log.all();
    begin_turn(world);
    (first, other)
}

/// Those of the shared subscription, in order.
fn shared_texts() -> Vec<String> {
    (0..122).filter(|number| *number < 62 || number % 2 == 0).map(|number| number.to_string()).collect()
}

/// [MQTT-4.8.2-4]: what is not shared stays where it is.
#[test]
fn what_a_member_that_goes_offline_has_goes_to_others_in_portions_and_in_order() {
    each(&[1, 2, 4], |world, script| {
        let (first, mut other) = members(world, script);
        world.hang_up_quietly(first.socket);
        let home = world.shards.len() - 1;
        let (mut turns, mut got) = (0, Vec::new());
        while world.shards[home].is_behind() {
            let before = got.len();
            begin_turn(world);
            world.catch_up();
            world.carry_out_outputs();
            got.extend(other.texts(world));
            turns += 1;
            assert!(got.len() - before <= 20, "{} in a turn", got.len() - before);
        }
        assert!(turns >= 8, "{turns} turns");
        world.settle();
        got.extend(other.texts(world));
        assert_eq!(got, shared_texts());
        let id = id(world);
        let (mut again, present) = Client::connect(world, 0, &id, options(ConnectOptions::kept(V5)));
        assert!(present);
        assert_eq!(again.texts(world), ["63", "65"]);
        world.hang_up(again.socket);
        Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(world);
    });
}

/// [lifecycle.md 7]: else it would have some of it sent again, and others the rest.
#[test]
fn a_member_is_back_when_what_it_left_has_gone_to_others() {
    each(&[1, 2, 4], |world, script| {
        for taken_over in [false, true] {
            let (first, mut other) = members(world, script);
            if !taken_over {
                world.hang_up_quietly(first.socket);
            }
            let id = id(world);
            let (mut again, present) = Client::connect(world, 0, &id, options(ConnectOptions::kept(V5)));
            assert!(present);
            world.settle();
            let offline = if taken_over { "offline TakenOver" } else { "offline ConnectionLost" };
            assert_eq!(calls(script, &id), [offline, "register", "wakeup present"]);
            assert_eq!(again.texts(world), ["63", "65"], "taken over {taken_over}");
            assert_eq!(other.texts(world), shared_texts(), "taken over {taken_over}");
            world.hang_up(again.socket);
            Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(world);
            other.disconnect(world);
        }
    });
}

/// If no other member is there, it has all of it when it is back.
#[test]
fn a_member_keeps_what_nobody_else_is_there_for() {
    each(&[1, 2, 4], |world, script| {
        let first = full(world, script, ConnectOptions::kept(V5), "$share/g/t", QoS::AtLeastOnce);
        world.hang_up(first.socket);
        let id = id(world);
        let (mut again, present) = Client::connect(world, 0, &id, ConnectOptions::kept(V5));
        assert!(present);
        assert_eq!(again.texts(world), (0..62).map(|number| number.to_string()).collect::<Vec<_>>());
        again.disconnect(world);
    });
}

/// Nothing is lost if its session ends before all is gone.
#[test]
fn a_member_whose_session_ends_while_what_it_has_goes_to_others_loses_nothing() {
    each(&[1, 2, 4], |world, script| {
        let (first, mut other) = members(world, script);
        world.hang_up_quietly(first.socket);
        begin_turn(world);
        world.catch_up();
        world.carry_out_outputs();
        let id = id(world);
        let (again, present) = Client::connect(world, 0, &id, options(ConnectOptions::clean(V5)));
        assert!(!present);
        assert_eq!(other.texts(world), shared_texts());
        assert_eq!(count(world, DropReason::SessionEnded), 30);
        again.disconnect(world);
    });
}

/// [lifecycle.md 5]
#[test]
fn an_orderly_stop_drops_at_once_what_is_left() {
    each(&[1, 2, 4], |world, script| {
        let id = id(world);
        let first = full(world, script, ConnectOptions::clean(V5), "t", QoS::AtLeastOnce);
        world.hang_up_quietly(first.socket);
        world.stop();
        let calls = calls(script, &id);
        assert_eq!(calls, ["unsubscribed all", "dropped t SessionEnded 62", "gone ConnectionLost"]);
    });
}

/// [lifecycle.md 5]: the new owner of its slot waits, too.
#[test]
fn who_comes_on_another_shard_waits_for_what_is_left_where_the_session_was() {
    each(&[2, 4], |world, script| {
        for moves_first in [false, true] {
            let (id, home) = (id(world), world.shards.len() - 1);
            let first = full(world, script, ConnectOptions::clean(V5), "t", QoS::AtLeastOnce);
            if moves_first {
                move_slot(world, &id, 0);
                world.carry_out_outputs();
                world.hang_up_quietly(first.socket);
            } else {
                world.hang_up_quietly(first.socket);
                move_slot(world, &id, 0);
            }
            let (again, _) = Client::connect(world, 0, &id, options(ConnectOptions::clean(V5)));
            assert_eq!(world.shard_of(again.socket), Some(0));
            let calls = calls(script, &id);
            assert_eq!(drops(&calls), 62);
            assert_eq!(calls[calls.len() - 3..], ["gone ConnectionLost", "register", "wakeup"], "{calls:?}");
            again.disconnect(world);
            move_slot(world, &id, home);
            world.settle();
        }
    });
}

/// A client has left, and what it had sent before waits for its turn while its session is to move: that goes when its end has been seen to,
/// and what it leaves with it.
#[test]
fn a_session_moves_when_the_end_of_its_connection_has_been_seen_to() {
    for slow in [false, true] {
        for (shards, at_once) in [(2, 3), (2, 1000), (4, 3), (4, 1000)] {
            let limits = TurnLimits { share: 40, turn: 120, at_once, portion: 3, under_way: 30 };
            let slow = if slow { vec!["on_client_offline"] } else { Vec::new() };
            let script = Script { slow: slow.clone(), ..Script::default() };
            let mut world: Hooked = World::in_turns(shards, limits, config(|_| {}), || NoHooks.hook(script.clone()));
            let (id, home) = (id(&world), shards - 1);
            let mut watcher = Client::on(&mut world, 0, "watcher", ConnectOptions::clean(V5));
            watcher.subscribed(&mut world, "last", QoS::AtMostOnce);
            let first = full(&mut world, &script, ConnectOptions::kept(V5), "t", QoS::AtMostOnce);
            let mut packets = Vec::new();
            (0..30)
                .for_each(|_| Packet::Publish(publish("last", "words", QoS::AtMostOnce, 0)).encode(V5, &mut packets));
            world.send_quietly(first.socket, &packets);
            world.hang_up_quietly(first.socket);
            move_slot(&mut world, &id, 0);
            // The turn of what it sent does not come yet.
            while world.carry_out_outputs() | world.carry_messages() | world.carry_transfer() {}
            world.settle();
            assert_eq!(watcher.texts(&mut world).len(), 30, "all that it has sent");
            if !slow.is_empty() {
                world.advance(Duration::from_secs(1));
                assert_eq!(world.shards[home].resource_counts().sessions, 1, "its hook is not done");
                script.gate.open();
            }
            world.advance(Duration::from_secs(1));
            assert_eq!([0, home].map(|shard| world.shards[shard].resource_counts().sessions), [2, 0]);
            assert_eq!(count(&world, DropReason::OfflineQos0), 59);
            let (mut again, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            assert_eq!((present, again.texts(&mut world).len()), (true, 3), "{shards} shards, {at_once} at once");
        }
    }
}

/// A client that gives up waiting leaves nothing behind.
#[test]
fn who_leaves_while_it_waits_is_not_registered() {
    each(&[1, 2, 4], |world, script| {
        let first = full(world, script, ConnectOptions::kept(V5), "t", QoS::AtLeastOnce);
        let id = id(world);
        world.hang_up(first.socket);
        script.log.all();
        let home = world.shards.len() - 1;
        let waiting = Client::open(world, home, V5);
        let mut connect = Vec::new();
        crate::client::connect_packet(&id, ConnectOptions::clean(V5)).encode(&mut connect);
        begin_turn(world);
        world.send_quietly(waiting.socket, &connect);
        world.hang_up_quietly(waiting.socket);
        world.settle();
        assert_eq!(calls(script, &id), ["unsubscribed all", "dropped t SessionEnded 62", "expired CleanStart"]);
        let (mut again, present) = Client::connect(world, 0, &id, ConnectOptions::kept(V5));
        assert!(!present);
        again.send(world, &Packet::Pingreq);
        assert_eq!(again.received(world), [Got::Pingresp]);
        again.leave(world, moormq::codec::Disconnect::new(ReasonCode::Success));
    });
}

/// However much is published to very many meanwhile: what is left has its turn, and so has who comes back.
#[test]
fn what_is_left_has_its_turn_beside_messages_to_many() {
    for (with, filter, qos) in [
        (ConnectOptions::clean(V5), "t", QoS::AtLeastOnce),
        (ConnectOptions::kept(V5), "t", QoS::AtMostOnce),
        (ConnectOptions::kept(V5), "$share/g/t", QoS::AtLeastOnce),
    ] {
        each(&[1, 2, 4], |world, script| {
            let client = full(world, script, with, filter, qos);
            let (id, home) = (id(world), world.shards.len() - 1);
            let mut here = |name: String| Client::on(world, home, &name, ConnectOptions::clean(V311));
            let mut crowd: Vec<_> = (0..40).map(|number| here(format!("sub{number}-"))).collect();
            let (publishers, mut other) = (["a", "b"].map(|name| here(name.to_owned())), here("other".to_owned()));
            crowd.iter_mut().for_each(|one| one.subscribed(world, "many", QoS::AtMostOnce));
            other.subscribed(world, filter, QoS::AtLeastOnce);
            let mut newcomer = Client::open(world, 0, V5);
            let (mut packets, mut connect) = (Vec::new(), Vec::new());
            (0..30).for_each(|_| Packet::Publish(publish("many", "x", QoS::AtMostOnce, 0)).encode(V311, &mut packets));
            connect_packet(&id, options(with)).encode(&mut connect);
            begin_turn(world);
            publishers.iter().for_each(|publisher| world.send_quietly(publisher.socket, &packets));
            begin_turn(world);
            world.hang_up_quietly(client.socket);
            begin_turn(world);
            world.send_quietly(newcomer.socket, &connect);
            let (mut turns, mut answered) = (0, None);
            while world.catch_up() {
                turns += 1;
                world.carry_out_outputs();
                world.carry_messages();
                if answered.is_none() && !newcomer.received(world).is_empty() {
                    answered = Some(turns);
                }
                begin_turn(world);
            }
            assert!(answered.is_some_and(|turn| turn < turns / 2), "{filter} {qos:?}: {answered:?} of {turns}");
            assert!(crowd.iter_mut().all(|one| one.texts(world).len() == 60));
            newcomer.disconnect(world);
            Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(world);
        });
    }
}

/// Printed, not asserted: the longest that another client waits, by what is left. To be looked at in a release build, with 300,000 messages.
#[test]
fn how_long_others_wait() {
    let many = std::env::var("MOORMQ_LEFTOVERS").ok().and_then(|many| many.parse().ok()).unwrap_or(2_000);
    let cases = [
        ("a session that ends", "t", false, QoS::AtLeastOnce),
        ("QoS 0 of a kept session", "t", true, QoS::AtMostOnce),
        ("a member that ends", "$share/g/t", false, QoS::AtLeastOnce),
        ("a member that goes offline", "$share/g/t", true, QoS::AtLeastOnce),
    ];
    for (what, filter, kept, qos) in cases {
        let mut world = World::new(1, config(|_| {}), || NoHooks);
        let with = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
        let (mut client, _) = Client::connect(&mut world, 0, "c", options(with));
        client.subscribed(&mut world, filter, QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V5);
        for number in 0..many {
            let qos = if number < 3 { QoS::AtLeastOnce } else { qos };
            publisher.publish(&mut world, "t", "x", qos, 1);
        }
        let mut other = Client::clean(&mut world, "other", V5);
        other.subscribed(&mut world, filter, QoS::AtLeastOnce);
        begin_turn(&mut world);
        let mut began = Instant::now();
        world.hang_up_quietly(client.socket);
        let (first, mut longest, mut turns) = (began.elapsed(), Duration::ZERO, 0);
        loop {
            world.carry_out_outputs();
            begin_turn(&mut world);
            began = Instant::now();
            if !world.catch_up() {
                break;
            }
            longest = longest.max(began.elapsed());
            turns += 1;
        }
        println!("{what}: {first:?}, then at most {longest:?} in each of {turns} turns");
    }
}

/// A member of the first shard, with three messages of this topic that its client has not acknowledged, and another one on this shard.
fn holder_and_other(world: &mut Hooked, name: &str, topic: &str, far: usize) -> (Client, Client) {
    let filter = format!("$share/g/{topic}");
    let id = id_owned_by(world, 0, name);
    let expires = ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(5));
    let (mut member, _) = Client::connect(world, 0, &id, expires);
    member.subscribed(world, &filter, QoS::AtLeastOnce);
    let publisher = Client::on(world, 0, "publisher", ConnectOptions::clean(V5));
    for number in 0..3 {
        publisher.publish(world, topic, &number.to_string(), QoS::AtLeastOnce, 1);
    }
    assert_eq!(member.texts(world), ["0", "1", "2"]);
    let mut other = Client::on(world, far, &format!("other-{topic}"), ConnectOptions::clean(V5));
    other.subscribed(world, &filter, QoS::AtLeastOnce);
    (member, other)
}

/// The session ends meanwhile, and nobody else is there any more: hooks are told that they are dropped, all of them.
#[test]
fn what_waits_for_room_is_not_lost_without_a_word_when_its_session_ends() {
    each(&[2, 4], |world, script| {
        let (id, far) = (id_owned_by(world, 0, "c"), world.shards.len() - 1);
        let (member, other) = holder_and_other(world, "c", "t", far);
        script.log.all();
        world.handle(0, Input::Congestion { to: far, congested: true });
        world.hang_up(member.socket);
        world.hang_up(other.socket);
        world.advance(Duration::from_secs(6));
        let expected = ["offline ConnectionLost", "unsubscribed all", "dropped t SessionEnded 3", "expired Expiry"];
        assert_eq!(calls(script, &id), expected);
        // There is nothing to wait for any more.
        let (again, _) = Client::connect(world, 0, &id, ConnectOptions::clean(V5));
        assert_eq!(calls(script, &id), ["register", "wakeup"]);
        assert!(!world.is_closed(again.socket));
        world.handle(0, Input::Congestion { to: far, congested: false });
    });
}

/// The session ends meanwhile, and what another one leaves was seen to last: they come in order.
#[test]
fn what_waits_for_room_comes_in_order_when_its_session_has_ended() {
    for shards in [2, 4] {
        let limits = TurnLimits { share: 1, turn: 120, at_once: 3, portion: 3, under_way: 30 };
        let mut world = World::in_turns(shards, limits, config(|_| {}), || NoHooks.hook(Script::default()));
        let far = shards - 1;
        let (member, mut other) = holder_and_other(&mut world, "c", "t", far);
        let (last, _other_last) = holder_and_other(&mut world, "last", "u", far);
        world.handle(0, Input::Congestion { to: far, congested: true });
        world.hang_up(member.socket);
        world.advance(Duration::from_secs(6));
        world.hang_up(last.socket);
        world.handle(0, Input::Congestion { to: far, congested: false });
        world.settle();
        assert_eq!(other.texts(&mut world), ["0", "1", "2"], "{shards} shards");
    }
}

/// Nobody else is there any more: it stays with the member that had it, and is no other one's that is away, though it is that one's turn.
#[test]
fn what_waits_for_room_stays_with_its_member_if_nobody_else_is_there_any_more() {
    let in_turn = config(|config| config.shared.policy = SharedPolicy::RoundRobin);
    let mut world = World::in_turns(4, TurnLimits::default(), in_turn, || NoHooks.hook(Script::default()));
    let (member, other) = holder_and_other(&mut world, "c", "t", 1);
    let mut away = Client::on(&mut world, 3, "away", ConnectOptions::kept(V5));
    away.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
    world.hang_up(away.socket);
    world.handle(0, Input::Congestion { to: 1, congested: true });
    world.hang_up(member.socket);
    world.hang_up(other.socket);
    world.handle(0, Input::Congestion { to: 1, congested: false });
    world.settle();
    let id = id_owned_by(&world, 0, "c");
    let (mut again, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
    let mut texts = again.texts(&mut world);
    texts.sort();
    assert_eq!((present, texts), (true, ["0", "1", "2"].map(str::to_owned).to_vec()));
}

/// Its own will is for its shared subscription, too: it ends with its session, and goes to a member behind a full queue. So does that of each
/// connection that takes the next one over: they wait.
#[test]
fn a_will_that_is_left_to_others_waits_for_room_and_so_does_who_takes_over() {
    for shards in [2, 4] {
        let mut world = World::new(shards, config(|_| {}), || NoHooks.hook(Script::default()));
        let (id, far) = (id_owned_by(&world, 0, "c"), shards - 1);
        let mut away = Client::on(&mut world, far, "away", ConnectOptions::kept(V5));
        away.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
        world.hang_up(away.socket);
        let will = Will { topic: "t", payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() };
        let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) };
        let (mut member, _) = Client::connect(&mut world, 0, &id, options);
        member.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
        world.handle(0, Input::Congestion { to: far, congested: true });
        let mut again = Client::send_connect(&mut world, 0, &id, options);
        assert_eq!(again.received(&mut world), [], "{shards} shards: not while the queue is full");
        world.handle(0, Input::Congestion { to: far, congested: false });
        world.settle();
        assert!(matches!(again.received(&mut world)[..], [Got::Connack { .. }]));
        let id = id_owned_by(&world, far, "away");
        let (mut away, _) = Client::connect(&mut world, far, &id, ConnectOptions::kept(V5));
        assert_eq!(away.texts(&mut world), ["gone"], "{shards} shards");
    }
}
