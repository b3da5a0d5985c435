//! Clients with many shared subscriptions that come, leave and end: lifecycle.md section 7. In these tests more than three are many, and a
//! share is ten of them.

use std::time::{Duration, Instant};

use moormq::client::SubscriberId;
use moormq::codec::{Packet, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::config::{Config, Limit, SessionsFull};
use moormq::hooks::{Chain, Linked, NoHooks};
use moormq::shard::{Input, Request, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, connect_packet, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config};

type Hooked = World<Linked<NoHooks, Script>>;

const MANY: usize = 40;
const LIMITS: TurnLimits = TurnLimits { share: 160, turn: 480, at_once: 3, portion: 3, under_way: 30 };

/// Worlds of so many shards with hooks that record calls.
fn each_with(numbers: &[usize], change: impl Fn(&mut Config), mut check: impl FnMut(&mut Hooked, &Script)) {
    for shards in numbers {
        let script = Script::default();
        let mut world = World::in_turns(*shards, LIMITS, config(&change), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
        world.settle();
        assert!(world.shards.iter().all(|shard| !shard.is_behind()));
    }
}

fn each(check: impl FnMut(&mut Hooked, &Script)) {
    each_with(&[1, 2, 4], |_| {}, check);
}

fn home<C: Chain>(world: &World<C>) -> usize {
    world.shards.len() - 1
}

/// That of the member of these tests: the last shard owns it.
fn id<C: Chain>(world: &World<C>) -> String {
    id_owned_by(world, home(world), "m")
}

/// All shards have a turn, and what they send each other comes.
fn turn<C: Chain>(world: &mut World<C>) {
    world.now = world.now + Duration::from_millis(1);
    world.catch_up();
    while world.carry_out_outputs() | world.carry_messages() {}
}

/// Subscribes to all of the shared subscriptions, a few at a time.
fn join<C: Chain>(world: &mut World<C>, client: &mut Client) {
    join_quietly(world, client);
    world.settle();
    client.received(world);
}

fn join_quietly<C: Chain>(world: &mut World<C>, client: &Client) {
    let texts: Vec<String> = (0..MANY).map(|number| format!("$share/g/t{number}")).collect();
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let filters: Vec<_> = texts.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    client.send_quietly(world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
}

/// A member of all of them, with a client that is there.
fn member<C: Chain>(world: &mut World<C>, options: ConnectOptions<'_>) -> Client {
    let id = id(world);
    let (mut member, _) = Client::connect(world, 0, &id, options);
    join(world, &mut member);
    member
}

/// The other one, of the first shard.
fn other<C: Chain>(world: &mut World<C>, options: ConnectOptions<'_>) -> Client {
    let mut other = Client::on(world, 0, "other", options);
    join(world, &mut other);
    other
}

/// A message to each of them, of which the payload is the number and `suffix`.
fn publish_quietly<C: Chain>(world: &mut World<C>, publisher: &Client, suffix: &str, qos: QoS) {
    for number in 0..MANY {
        let (topic, payload) = (format!("t{number}"), format!("{number}{suffix}"));
        let id = if qos == QoS::AtMostOnce { 0 } else { 1 + number as u16 };
        let packet = Publish { dup: false, ..publish(&topic, &payload, qos, id) };
        publisher.send_quietly(world, &Packet::Publish(packet));
    }
}

fn publish_all<C: Chain>(world: &mut World<C>, publisher: &Client, suffix: &str) {
    publish_quietly(world, publisher, suffix, QoS::AtLeastOnce);
    world.settle();
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

fn all(suffix: &str) -> Vec<String> {
    sorted((0..MANY).map(|number| format!("{number}{suffix}")).collect())
}

fn connect_quietly<C: Chain>(world: &mut World<C>, options: ConnectOptions<'_>) -> Client {
    let client = Client::open(world, home(world), options.version);
    let (id, mut connect) = (id(world), Vec::new());
    connect_packet(&id, options).encode(&mut connect);
    world.send_quietly(client.socket, &connect);
    client
}

/// What hooks were told of the member since this was asked last.
fn calls<C: Chain>(world: &World<C>, script: &Script) -> Vec<String> {
    calls_of(&id(world), script)
}

fn calls_of(id: &str, script: &Script) -> Vec<String> {
    let of = |line: String| {
        let what = line.strip_prefix(&format!("{id} m5 ")).or_else(|| line.strip_prefix(&format!("/{id} m5 ")));
        what.filter(|what| !what.starts_with('?')).map(str::to_owned)
    };
    script.log.all().into_iter().filter_map(of).collect()
}

/// How many sessions there are.
fn sessions<C: Chain>(world: &World<C>) -> usize {
    world.shards.iter().map(|shard| shard.resource_counts().sessions).sum()
}

/// Turns until nothing is left to be done; in each of them, a client of the last shard is served, and no more is done than fits into it.
fn turns_until_done(world: &mut Hooked, bystander: &mut Client) -> usize {
    let (home, mut turns) = (home(world), 0);
    while world.shards[home].is_behind() {
        assert!(world.shards[home].turn().work <= LIMITS.turn, "{:?}", world.shards[home].turn());
        world.send_quietly(bystander.socket, &[0xC0, 0]);
        turn(world);
        assert_eq!(bystander.received(world), [Got::Pingresp]);
        turns += 1;
    }
    turns
}

fn bystander(world: &mut Hooked) -> Client {
    Client::on(world, home(world), "bystander", ConnectOptions::clean(V5))
}

#[test]
fn a_client_that_leaves_holds_up_nobody_and_gets_nothing_that_others_could_have() {
    each(|world, script| {
        let mut bystander = bystander(world);
        for kept in [true, false] {
            let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let first = member(world, options);
            let mut other = other(world, ConnectOptions::clean(V5));
            let publisher = Client::clean(world, "publisher", V5);
            script.log.all();
            turn(world);
            world.hang_up_quietly(first.socket);
            assert!(world.shards[home(world)].is_behind(), "it is a lot");
            // Not even QoS 0, which would be dropped.
            publish_quietly(world, &publisher, "", QoS::AtMostOnce);
            let turns = turns_until_done(world, &mut bystander);
            assert!(turns >= 4, "{turns} turns, kept {kept}");
            world.settle();
            assert_eq!(sorted(other.texts(world)), all(""), "kept {kept}");
            let told = calls(world, script);
            let expected: &[&str] =
                if kept { &["offline ConnectionLost"] } else { &["unsubscribed all", "gone ConnectionLost"] };
            assert_eq!(told, expected);
            publish_all(world, &publisher, "");
            assert_eq!(sorted(other.texts(world)), all(""), "kept {kept}");
            let (mut again, present) = Client::connect(world, 0, &id(world), options);
            assert_eq!((present, again.texts(world)), (kept, Vec::new()));
            world.hang_up(again.socket);
            other.disconnect(world);
            Client::connect(world, 0, &id(world), ConnectOptions::clean(V5)).0.disconnect(world);
        }
    });
}

#[test]
fn a_client_that_comes_is_answered_when_all_its_memberships_count_as_online() {
    each(|world, script| {
        let mut bystander = bystander(world);
        let first = member(world, ConnectOptions::kept(V5));
        let other = other(world, ConnectOptions::kept(V5));
        let publisher = Client::clean(world, "publisher", V5);
        world.hang_up(first.socket);
        world.hang_up(other.socket);
        script.log.all();
        turn(world);
        let mut again = connect_quietly(world, ConnectOptions::kept(V5));
        let mut turns = 0;
        while again.received(world).is_empty() {
            let behind = world.shards[home(world)].is_behind();
            assert!(behind, "it is answered behind that, and then at once");
            assert!(world.shards[home(world)].turn().work <= LIMITS.turn);
            world.send_quietly(bystander.socket, &[0xC0, 0]);
            turn(world);
            assert_eq!(bystander.received(world), [Got::Pingresp]);
            turns += 1;
        }
        assert!(turns >= 4, "{turns} turns");
        assert!(!world.shards[home(world)].is_behind());
        publish_all(world, &publisher, "");
        assert_eq!(sorted(again.texts(world)), all(""), "all of that is its own: the other one is away");
        assert_eq!(calls(world, script), ["register", "wakeup present"]);
        assert_eq!(script.log.all().len(), 0);
    });
}

/// Whoever counts as online and is not would get what others leave, when nobody is there.
fn nobody_counts_as_online<C: Chain>(world: &mut World<C>, mut other: Client) {
    let publisher = Client::clean(world, "publisher", V5);
    publish_all(world, &publisher, "");
    assert_eq!(sorted(other.texts(world)), all(""));
    world.hang_up(other.socket);
    let id = id_owned_by(world, 0, "other");
    let (mut other, present) = Client::connect(world, 0, &id, ConnectOptions::kept(V5));
    assert!(present);
    assert_eq!(sorted(other.texts(world)), all(""), "it had not acknowledged them, and keeps them");
}

#[test]
fn a_client_that_comes_and_leaves_at_once_counts_as_online_nowhere() {
    each(|world, script| {
        for turns in 0..4 {
            let first = member(world, ConnectOptions::kept(V5));
            world.hang_up(first.socket);
            let again = connect_quietly(world, ConnectOptions::kept(V5));
            (0..turns).for_each(|_| turn(world));
            assert!(world.shards[home(world)].is_behind());
            world.hang_up_quietly(again.socket);
            world.settle();
            let other = other(world, ConnectOptions::kept(V5));
            nobody_counts_as_online(world, other);
            for name in [id(world), id_owned_by(world, 0, "other")] {
                Client::connect(world, 0, &name, ConnectOptions::clean(V5)).0.disconnect(world);
            }
        }
        let told = calls(world, script);
        assert_eq!(told.iter().filter(|call| *call == "wakeup present").count(), 4, "{told:?}");
        assert_eq!(told.iter().filter(|call| *call == "offline ConnectionLost").count(), 8, "{told:?}");
    });
}

/// [MQTT-4.8.2-4]: what comes for it while it counts as online waits in its queue, and goes on behind that.
#[test]
fn what_comes_for_a_member_that_is_leaving_is_neither_lost_nor_doubled() {
    each(|world, _| {
        for (kept, comes) in [(true, true), (true, false), (false, true), (false, false)] {
            let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let away = other(world, ConnectOptions::kept(V5));
            world.hang_up(away.socket);
            let first = member(world, options);
            let publisher = Client::clean(world, "publisher", V5);
            let mut late = Client::on(world, 0, "late", ConnectOptions::clean(V5));
            turn(world);
            // Two that it has not acknowledged, and nobody is there to have them.
            publish_first(world, &publisher, 2, "before");
            turn(world);
            world.hang_up_quietly(first.socket);
            publish_first(world, &publisher, MANY, "");
            if comes {
                world.now = world.now + Duration::from_millis(1);
                join_quietly(world, &late);
                while world.carry_out_outputs() | world.carry_messages() {}
            }
            assert!(world.shards[home(world)].is_behind());
            world.settle();
            let expected = sorted([all(""), vec!["0before".to_owned(), "1before".to_owned()]].concat());
            let mut got = late.texts(world);
            if comes {
                assert_eq!(sorted(got), expected, "kept {kept}");
                got = Vec::new();
            }
            for id in [id_owned_by(world, 0, "other"), id(world)] {
                let (mut again, _) = Client::connect(world, 0, &id, ConnectOptions::kept(V5));
                got.extend(again.texts(world));
                Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0.disconnect(world);
            }
            late.disconnect(world);
            assert_eq!(sorted(got), if comes { Vec::new() } else { expected }, "kept {kept}, comes {comes}");
        }
    });
}

/// A message to so many of them, each in a turn of its own in which nothing else goes on.
fn publish_first<C: Chain>(world: &mut World<C>, publisher: &Client, many: usize, suffix: &str) {
    for number in 0..many {
        world.now = world.now + Duration::from_millis(1);
        let (topic, payload) = (format!("t{number}"), format!("{number}{suffix}"));
        let packet = publish(&topic, &payload, QoS::AtLeastOnce, 1 + number as u16);
        publisher.send_quietly(world, &Packet::Publish(packet));
        while world.carry_out_outputs() | world.carry_messages() {}
    }
}

/// [lifecycle.md 7]
#[test]
fn a_member_that_is_taken_over_is_back_when_it_has_left() {
    each(|world, script| {
        let first = member(world, ConnectOptions::kept(V5));
        let publisher = Client::clean(world, "publisher", V5);
        publish_first(world, &publisher, 2, "");
        let mut other = other(world, ConnectOptions::clean(V5));
        script.log.all();
        turn(world);
        let mut again = connect_quietly(world, ConnectOptions::kept(V5));
        world.settle();
        assert!(world.is_closed(first.socket));
        assert!(matches!(again.received(world)[..], [Got::Connack { present: true, .. }]), "it has nothing left");
        assert_eq!(other.texts(world), ["0", "1"]);
        assert_eq!(calls(world, script), ["offline TakenOver", "register", "wakeup present"]);
    });
}

/// [lifecycle.md 5]
#[test]
fn a_session_with_many_memberships_ends_in_order_whatever_ends_it() {
    each(|world, script| {
        let ends = ["gone ConnectionLost", "gone TakenOver", "expired CleanStart", "expired Admin", "expired Expiry"];
        for end in ends {
            let kept = end.starts_with("expired");
            let seconds = u32::from(kept);
            let options = ConnectOptions::clean(V5).with(|properties| properties.session_expiry = Some(seconds));
            let first = member(world, options);
            let mut away = other(world, ConnectOptions::kept(V5));
            let publisher = Client::clean(world, "publisher", V5);
            // What it has is not acknowledged, and goes to another one.
            world.hang_up(away.socket);
            publish_all(world, &publisher, "");
            script.log.all();
            turn(world);
            match end {
                "gone ConnectionLost" => world.hang_up_quietly(first.socket),
                "gone TakenOver" | "expired CleanStart" => {}
                "expired Admin" => {
                    let subscriber = SubscriberId::new("", id(world));
                    world.request(home(world), Request::Disconnect { subscriber, cleanup: true });
                }
                _ => {
                    world.hang_up_quietly(first.socket);
                    world.now = world.now + Duration::from_secs(2);
                    world.settle();
                }
            }
            // In a moment: it waits, and gets no session that ends.
            let again = connect_quietly(world, ConnectOptions::clean(V5));
            world.settle();
            let mut told = calls(world, script);
            assert_eq!(told.split_off(told.len() - 2), ["register", "wakeup"], "{end}");
            let last: Vec<_> = told.iter().rev().take(2).rev().map(String::as_str).collect();
            assert_eq!(last, ["unsubscribed all", end], "{told:?}");
            away = Client::connect(world, 0, &id_owned_by(world, 0, "other"), ConnectOptions::kept(V5)).0;
            assert_eq!(sorted(away.texts(world)), all(""), "{end}");
            world.hang_up(away.socket);
            again.disconnect(world);
            publisher.disconnect(world);
            Client::connect(world, 0, &id_owned_by(world, 0, "other"), ConnectOptions::clean(V5)).0.disconnect(world);
            assert_eq!(sessions(world), 0, "{end}");
            let subscriptions: u64 = world.shards.iter().map(|shard| shard.counters().subscriptions).sum();
            assert_eq!(subscriptions, 0, "{end}");
        }
    });
}

/// [lifecycle.md 5]
#[test]
fn drops_are_told_between_the_end_of_subscriptions_and_that_of_the_session() {
    each(|world, script| {
        let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut first = member(world, options);
        first.subscribed(world, "own", QoS::AtLeastOnce);
        let publisher = Client::clean(world, "publisher", V5);
        for qos in [QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
            publisher.publish(world, "own", "x", qos, 1);
        }
        script.log.all();
        turn(world);
        world.hang_up(first.socket);
        let (zero, one) = ("dropped own OfflineQos0", "dropped own SessionEnded");
        assert_eq!(calls(world, script), ["unsubscribed all", zero, one, one, "gone ConnectionLost"]);
    });
}

#[test]
fn a_session_that_ends_in_portions_makes_room_at_once_and_for_one() {
    let change = |config: &mut Config| {
        config.limits.max_sessions = Limit::at_most(3);
        config.limits.sessions_full = SessionsFull::Expire;
    };
    each_with(&[1, 2, 4], change, |world, _| {
        let first = member(world, ConnectOptions::kept(V5));
        world.hang_up(first.socket);
        let second = Client::on(world, home(world), "second", ConnectOptions::kept(V5));
        world.hang_up(second.socket);
        let third = Client::on(world, home(world), "third", ConnectOptions::clean(V5));
        let fourth = Client::on(world, home(world), "fourth", ConnectOptions::clean(V5));
        world.settle();
        assert_eq!(sessions(world), 3, "the second one is there still");
        let (second, present) =
            Client::connect(world, 0, &id_owned_by(world, home(world), "second"), ConnectOptions::kept(V5));
        assert!(present);
        [second, third, fourth].into_iter().for_each(|client| client.disconnect(world));
    });
}

#[test]
fn a_slot_that_moves_meanwhile_takes_the_member_along_as_it_is_then() {
    each_with(
        &[2, 4],
        |_| {},
        |world, _| {
            // It leaves before the slot, or on its way; or it comes, and its slot moves.
            for case in ["left", "lost on its way", "comes"] {
                let (id, home) = (id(world), home(world));
                let first = member(world, ConnectOptions::kept(V5));
                match case {
                    "left" => {
                        turn(world);
                        world.hang_up_quietly(first.socket);
                        move_slot(world, &id, 0);
                    }
                    "lost on its way" => {
                        move_slot(world, &id, 0);
                        for _ in 0..3 {
                            world.carry_out_outputs();
                            world.carry_messages();
                        }
                        world.hang_up_quietly(first.socket);
                    }
                    _ => {
                        world.hang_up(first.socket);
                        let again = connect_quietly(world, ConnectOptions::kept(V5));
                        turn(world);
                        move_slot(world, &id, 0);
                        turn(world);
                        world.hang_up_quietly(again.socket);
                    }
                }
                world.settle();
                let other = other(world, ConnectOptions::kept(V5));
                nobody_counts_as_online(world, other);
                let (again, present) = Client::connect(world, home, &id, ConnectOptions::kept(V5));
                assert!(present && world.shard_of(again.socket) == Some(0), "{case}");
                world.hang_up(again.socket);
                for name in [id.clone(), id_owned_by(world, 0, "other")] {
                    Client::connect(world, 0, &name, ConnectOptions::clean(V5)).0.disconnect(world);
                }
                move_slot(world, &id, home);
                world.settle();
            }
        },
    );
}

#[test]
fn an_orderly_stop_waits_for_no_turn() {
    for (kept, expected) in
        [(false, vec!["unsubscribed all", "gone ConnectionLost"]), (true, vec!["offline ConnectionLost"])]
    {
        each(|world, script| {
            let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let first = member(world, options);
            script.log.all();
            turn(world);
            world.hang_up_quietly(first.socket);
            assert!(world.shards[home(world)].is_behind());
            let home = home(world);
            world.handle(home, Input::Stop);
            assert!(!world.shards[home].is_behind());
            assert_eq!(calls(world, script), expected);
            world.stop();
            assert_eq!(world.stopped, world.shards.len());
        });
    }
}

/// A client is gone that waited for its share, and its slot leaves.
#[test]
fn a_session_that_ends_as_it_is_about_to_move_stays_and_ends() {
    each_with(
        &[2, 4],
        |_| {},
        |world, script| {
            let (id, home) = (id(world), home(world));
            let others = ["one", "two", "three", "four"];
            let others = others.map(|name| Client::on(world, home, name, ConnectOptions::clean(V5)));
            let first = member(world, ConnectOptions::clean(V5));
            script.log.all();
            turn(world);
            others.iter().for_each(|other| world.send_quietly(other.socket, &[0xC0, 0].repeat(200)));
            assert!(world.shards[home].turn().is_over);
            world.hang_up_quietly(first.socket);
            move_slot(world, &id, 0);
            while world.carry_out_outputs() | world.carry_messages() {}
            world.settle();
            assert_eq!(sessions(world), others.len());
            assert_eq!(calls_of(&id, script), ["unsubscribed all", "gone ConnectionLost"]);
        },
    );
}

/// Each kind of what is put off has its turn.
#[test]
fn publications_to_very_many_hold_up_nobody_who_comes() {
    each(|world, _| {
        let first = member(world, ConnectOptions::kept(V5));
        world.hang_up(first.socket);
        let home = home(world);
        for number in 0..60 {
            let mut subscriber = Client::on(world, home, &format!("s{number}-"), ConnectOptions::clean(V5));
            subscriber.subscribed(world, "many", QoS::AtMostOnce);
        }
        let publishers: Vec<_> =
            (0..4).map(|number| Client::on(world, home, &format!("p{number}-"), ConnectOptions::clean(V5))).collect();
        let mut again = None;
        let mut turns = 0;
        loop {
            let packet = Packet::Publish(publish("many", "x", QoS::AtMostOnce, 0));
            publishers.iter().for_each(|publisher| publisher.send_quietly(world, &packet));
            turn(world);
            turns += 1;
            assert!(turns < 400, "it is never answered");
            if turns == 4 {
                again = Some(connect_quietly(world, ConnectOptions::kept(V5)));
            }
            if again.as_mut().is_some_and(|again| !again.received(world).is_empty()) {
                break;
            }
        }
        assert!(world.shards[home].is_behind(), "what is for very many is under way still");
    });
}

/// Printed, not asserted: the longest that another client waits. To be looked at in a release build, with 10,000 shared subscriptions.
#[test]
fn how_long_others_wait() {
    let many = std::env::var("MOORMQ_MEMBERSHIPS").ok().and_then(|many| many.parse().ok()).unwrap_or(2_000);
    for shards in [1, 4] {
        let mut world = World::new(shards, config(|_| {}), || NoHooks);
        let id = id(&world);
        let (client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        let texts: Vec<String> = (0..many).map(|number| format!("$share/g/a/b/t{number}")).collect();
        for texts in texts.chunks(500) {
            let options = SubscriptionOptions::new(QoS::AtLeastOnce);
            let filters: Vec<_> = texts.iter().map(|filter| SubscribeFilter { filter, options }).collect();
            client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        }
        turn(&mut world);
        let mut began = Instant::now();
        world.hang_up_quietly(client.socket);
        print_turns(&mut world, "its client leaves", began.elapsed());
        began = Instant::now();
        let again = connect_quietly(&mut world, ConnectOptions::kept(V5));
        print_turns(&mut world, "its client comes", began.elapsed());
        world.hang_up(again.socket);
        began = Instant::now();
        let again = connect_quietly(&mut world, ConnectOptions::clean(V5));
        print_turns(&mut world, "it ends", began.elapsed());
        again.disconnect(&mut world);
    }
}

/// How long the shards are busy at a time until all is done.
fn print_turns(world: &mut World<NoHooks>, what: &str, first: Duration) {
    let (mut longest, mut turns) = (Duration::ZERO, 0);
    loop {
        world.now = world.now + Duration::from_millis(1);
        let behind = world.shards.iter().any(|shard| shard.is_behind());
        for shard in 0..world.shards.len() {
            let began = Instant::now();
            world.handle(shard, Input::Tick);
            longest = longest.max(began.elapsed());
        }
        while world.carry_out_outputs() | world.carry_messages() {}
        if !behind {
            break;
        }
        turns += 1;
    }
    println!("{what}, {} shards: {first:?}, then at most {longest:?} in each of {turns} turns", world.shards.len());
}
