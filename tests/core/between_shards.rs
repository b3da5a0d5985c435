//! What is on its way between shards while one of them does nothing: bytes that are bounded, and nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use moormq::codec::{Packet, QoS, Will};
use moormq::config::{Config, SharedPolicy};
use moormq::hooks::{Chain, NoHooks};
use moormq::shard::{Input, TurnLimits, bound_that_is_exceeded};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config};

const MAILBOX: usize = 64 << 10;
const WILL: usize = 8 << 10;
/// More than fit into a queue with what goes in a turn, and no more than are sent to a client at once.
const CLIENTS: usize = 28;

/// A world whose last shard does nothing until it is told to. As the runtime does, it tells the others when the queue to it is full.
struct Stuck<C: Chain> {
    world: World<C>,
    congested: BTreeSet<(usize, usize)>,
    /// Most bytes that were on their way from one shard to another.
    most: usize,
    /// The bytes of a full queue.
    mailbox: usize,
}

fn small_mailboxes() -> Config {
    config(|config| config.runtime.mailbox_bytes = MAILBOX)
}

impl<C: Chain> Stuck<C> {
    fn of(world: World<C>) -> Self {
        Stuck { world, congested: BTreeSet::new(), most: 0, mailbox: MAILBOX }
    }

    fn last(&self) -> usize {
        self.world.shards.len() - 1
    }

    /// A turn of all shards; messages come to the last one only if it `takes` them.
    fn turn(&mut self, takes: bool) {
        let shards = self.world.shards.len();
        let last = self.last();
        self.world.carry_out_outputs();
        for (from, to) in (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to))) {
            let bytes = self.world.bytes_under_way(from, to);
            self.most = self.most.max(bytes);
            if bytes >= self.mailbox && self.congested.insert((from, to)) {
                self.world.handle(from, Input::Congestion { to, congested: true });
            }
            if takes || to != last {
                self.world.carry_message(from, to);
            }
            if self.world.bytes_under_way(from, to) <= self.mailbox / 2 && self.congested.remove(&(from, to)) {
                self.world.handle(from, Input::Congestion { to, congested: false });
            }
        }
        self.world.catch_up();
        self.world.carry_transfer();
    }

    fn turns(&mut self, count: usize, takes: bool) {
        (0..count).for_each(|_| self.turn(takes));
    }

    /// Time passes for all but the last shard.
    fn advance(&mut self, by: Duration) {
        let last = self.last();
        let end = self.world.now + by;
        while self.world.now < end {
            self.world.now = (self.world.now + Duration::from_millis(50)).min(end);
            let awake = if last == 0 { 0..1 } else { 0..last };
            awake.for_each(|shard| self.world.handle(shard, Input::Tick));
            self.turn(false);
        }
    }
}

/// A subscriber on the last shard, and clients of the first one with a large will each.
fn clients<C: Chain>(stuck: &mut Stuck<C>, options: ConnectOptions<'static>, delay: u32) -> (Client, Vec<Client>) {
    clients_watched_on(stuck, stuck.last(), options, delay)
}

/// The same with the subscriber on this shard.
fn clients_watched_on<C: Chain>(
    stuck: &mut Stuck<C>,
    shard: usize,
    options: ConnectOptions<'static>,
    delay: u32,
) -> (Client, Vec<Client>) {
    let world = &mut stuck.world;
    let mut watcher = Client::on(world, shard, "watcher", ConnectOptions::clean(V5));
    watcher.subscribed(world, "will/#", QoS::AtLeastOnce);
    let dying = |number: usize| {
        let payload = format!("{number} {}", "x".repeat(WILL));
        let topic = format!("will/{number}");
        let will = Will { topic: &topic, payload: payload.as_bytes(), qos: QoS::AtLeastOnce, delay, ..Will::default() };
        let options = ConnectOptions { will: Some(will), ..options };
        Client::on(world, 0, &format!("dying{number}-"), options)
    };
    let dying = (0..CLIENTS).map(dying).collect();
    (watcher, dying)
}

fn numbers<C: Chain>(stuck: &mut Stuck<C>, client: &mut Client) -> Vec<usize> {
    let number = |text: &String| text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    client.texts(&mut stuck.world).iter().map(number).collect()
}

type End = fn(&mut Stuck<NoHooks>, &[Client]);

#[test]
fn wills_that_are_due_at_the_same_moment_wait_for_room_and_all_come() {
    let hang_up: End = |stuck, dying| dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
    let ends: [(&str, ConnectOptions<'static>, u32, End); 4] = [
        ("they are lost", ConnectOptions::clean(V5), 0, hang_up),
        ("they are silent", ConnectOptions { keep_alive: 10, ..ConnectOptions::kept(V5) }, 0, |stuck, _| {
            stuck.advance(Duration::from_secs(16));
        }),
        ("their delay is over", ConnectOptions::kept(V5), 5, |stuck, dying| {
            dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
            stuck.advance(Duration::from_secs(6));
        }),
        (
            "their sessions expire",
            ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(5)),
            60,
            |stuck, dying| {
                dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
                stuck.advance(Duration::from_secs(6));
            },
        ),
    ];
    for shards in [1, 2, 4] {
        for (how, options, delay, end) in ends {
            let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
            let (mut watcher, dying) = clients(&mut stuck, options, delay);
            end(&mut stuck, &dying);
            stuck.turns(50, false);
            let come = numbers(&mut stuck, &mut watcher).len();
            assert_eq!(come, if shards == 1 { CLIENTS } else { 0 }, "{how}, {shards} shards");
            assert!(stuck.most <= 2 * MAILBOX + 2 * WILL, "{how}, {shards} shards: {} bytes", stuck.most);
            stuck.turns(3 * CLIENTS, true);
            let mut all = numbers(&mut stuck, &mut watcher);
            if how == "they are lost" {
                assert!(all.is_sorted(), "in order: {all:?}");
            }
            all.sort_unstable();
            assert_eq!(come + all.len(), CLIENTS, "{how}, {shards} shards: {all:?}");
            assert!(stuck.most <= 2 * MAILBOX + 2 * WILL);
            stuck.world.settle();
        }
    }
}

/// Those that are for this shard alone wait behind others, and are work like any other when they go on.
#[test]
fn wills_that_have_waited_go_on_in_portions() {
    let limits = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 1000 };
    let mut stuck = Stuck::of(World::in_turns(2, limits, small_mailboxes(), || NoHooks));
    let mut far = Client::on(&mut stuck.world, 1, "far", ConnectOptions::clean(V5));
    far.subscribed(&mut stuck.world, "will/0", QoS::AtLeastOnce);
    let (mut watcher, dying) = clients_watched_on(&mut stuck, 0, ConnectOptions::clean(V5), 0);
    stuck.world.handle(0, Input::Congestion { to: 1, congested: true });
    dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
    stuck.turns(50, false);
    assert!(numbers(&mut stuck, &mut watcher).is_empty(), "they wait behind the first one");
    stuck.world.now = stuck.world.now + Duration::from_millis(1);
    stuck.world.handle(0, Input::Congestion { to: 1, congested: false });
    let work = stuck.world.shards[0].turn().work;
    assert!(work <= limits.turn + 10, "{work}");
    stuck.world.carry_out_outputs();
    let first = numbers(&mut stuck, &mut watcher).len();
    assert!(first > 0 && first < CLIENTS, "{first}");
    stuck.turns(3 * CLIENTS, true);
    assert_eq!(first + numbers(&mut stuck, &mut watcher).len(), CLIENTS);
    stuck.world.settle();
}

/// What was sent in a turn is known when it is over, and not when the queue has room again.
#[test]
fn wills_are_no_more_in_a_turn_however_often_a_queue_has_room_again() {
    for shards in [2, 4] {
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
        let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
        let (world, to) = (&mut stuck.world, shards - 1);
        world.handle(0, Input::Congestion { to, congested: true });
        dying.iter().for_each(|client| world.hang_up_quietly(client.socket));
        world.carry_out_outputs();
        assert_eq!(world.bytes_under_way(0, to), 0);
        for turn in 1..=3 {
            for congested in [false, true].repeat(5) {
                world.handle(0, Input::Congestion { to, congested });
            }
            world.handle(0, Input::Congestion { to, congested: false });
            world.carry_out_outputs();
            let bytes = world.bytes_under_way(0, to);
            let most = MAILBOX / 2 + 2 * WILL;
            assert!(bytes > (turn - 1) * most / 2 && bytes <= turn * most, "{bytes} after {turn} turns");
            world.now = world.now + Duration::from_millis(1);
            world.handle(0, Input::Tick);
        }
        stuck.turns(3 * CLIENTS, true);
        assert_eq!(numbers(&mut stuck, &mut watcher), (0..CLIENTS).collect::<Vec<_>>(), "{shards} shards");
        stuck.world.settle();
    }
}

/// Of one that is retained the owner of its topic has to hear, whoever subscribes.
#[test]
fn what_is_to_be_retained_waits_for_room_at_its_owner() {
    for shards in [2, 4] {
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
        let world = &mut stuck.world;
        let payload = "x".repeat(WILL);
        let dying: Vec<Client> = (0..CLIENTS)
            .map(|number| {
                let topic = format!("state/{number}");
                let will = Will { topic: &topic, payload: payload.as_bytes(), retain: true, ..Will::default() };
                let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) };
                Client::on(world, 0, &format!("dying{number}-"), options)
            })
            .collect();
        // A client of the first shard has as much outstanding, and is held.
        let publisher = Client::on(world, 0, "publisher", ConnectOptions::clean(V5));
        for number in 0..CLIENTS {
            let topic = format!("value/{number}");
            let publish = moormq::codec::Publish { retain: true, ..publish(&topic, &payload, QoS::AtMostOnce, 0) };
            let mut bytes = Vec::new();
            Packet::Publish(publish).encode(V5, &mut bytes);
            world.send_to_kernel(publisher.socket, &bytes);
        }
        dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        for _ in 0..50 {
            stuck.turn(false);
            stuck.world.read_on();
        }
        assert!(stuck.most > MAILBOX && stuck.most <= 3 * MAILBOX + 2 * WILL, "{} bytes", stuck.most);
        for _ in 0..6 * CLIENTS {
            stuck.turn(true);
            stuck.world.read_on();
        }
        stuck.world.settle();
        let retained: usize = stuck.world.shards.iter().map(|shard| shard.resource_counts().retained).sum();
        assert_eq!(retained, 2 * CLIENTS, "{shards} shards");
    }
}

/// What is retained in the end is what was published last.
#[test]
fn what_others_publish_to_the_topic_of_a_will_comes_behind_it() {
    for shards in [2, 4] {
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
        let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
        let publisher = Client::on(&mut stuck.world, 0, "publisher", ConnectOptions::clean(V5));
        dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        stuck.turns(10, false);
        let text = CLIENTS.to_string();
        let topic = format!("will/{}", CLIENTS - 1);
        publisher.send_quietly(&mut stuck.world, &Packet::Publish(publish(&topic, &text, QoS::AtLeastOnce, 1)));
        stuck.turns(3 * CLIENTS, true);
        assert_eq!(numbers(&mut stuck, &mut watcher), (0..=CLIENTS).collect::<Vec<_>>(), "{shards} shards");
    }
}

/// What the client does next comes behind its will, on this shard and on another one.
#[test]
fn who_comes_back_waits_until_its_will_is_out() {
    for (shards, moves) in [(2, false), (4, false), (4, true)] {
        let script = Script::default();
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks.hook(script.clone())));
        let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
        script.log.all();
        dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        let id = id_owned_by(&stuck.world, 0, &format!("dying{}-", CLIENTS - 1));
        let lines: Vec<String> = script.log.all().into_iter().filter(|line| line.contains(&id)).collect();
        let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap_or_else(|| panic!("{lines:?}"));
        assert!(at("will/") < at("gone"), "the hooks hear of it in the order of the lifecycle");
        if moves {
            move_slot(&mut stuck.world, &id, 1);
        }
        stuck.turns(10, false);
        let mut bytes = Vec::new();
        connect_packet(&id, ConnectOptions::clean(V5)).encode(&mut bytes);
        let text = format!("{CLIENTS} is back");
        Packet::Publish(publish("will/back", &text, QoS::AtLeastOnce, 1)).encode(V5, &mut bytes);
        let index = stuck.world.open(0);
        let mut back = Client::at(index, V5);
        stuck.world.send_quietly(back.socket, &bytes);
        stuck.turns(50, false);
        assert_eq!(back.received(&mut stuck.world), [], "not even CONNACK");
        stuck.turns(6 * CLIENTS, true);
        stuck.world.settle();
        assert!(matches!(back.received(&mut stuck.world)[..], [Got::Connack { .. }, Got::Ack(..)]));
        let all = numbers(&mut stuck, &mut watcher);
        assert_eq!(all, (0..=CLIENTS).collect::<Vec<_>>(), "{shards} shards, moves: {moves}");
    }
}

/// Else one message more would wait with each that comes, publishes and hangs up. What they have sent is served when there is room.
#[test]
fn who_publishes_behind_wills_waits_when_that_is_much() {
    for shards in [2, 4] {
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
        let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
        dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        stuck.turns(10, false);
        let topic = format!("will/{}", CLIENTS - 1);
        // No more than are in flight to a client.
        let all = CLIENTS + 70;
        for number in CLIENTS..all {
            let mut bytes = Vec::new();
            let id = id_owned_by(&stuck.world, 0, &format!("publisher{number}-"));
            connect_packet(&id, ConnectOptions::clean(V5)).encode(&mut bytes);
            let text = format!("{number} {}", "x".repeat(WILL));
            Packet::Publish(publish(&topic, &text, QoS::AtLeastOnce, 1)).encode(V5, &mut bytes);
            let publisher = stuck.world.open(0);
            stuck.world.send_quietly(publisher, &bytes);
            stuck.turns(3, false);
            stuck.world.hang_up_quietly(publisher);
            stuck.turns(3, false);
            assert_eq!(bound_that_is_exceeded(&stuck.world.shards[0], 0), None);
        }
        let mut got = Vec::new();
        for _ in 0..all {
            stuck.turns(6, true);
            got.extend(numbers(&mut stuck, &mut watcher));
        }
        assert!(got[..CLIENTS].iter().copied().eq(0..CLIENTS), "wills first: {got:?}");
        got.sort_unstable();
        assert_eq!(got, (0..all).collect::<Vec<_>>(), "{shards} shards");
        stuck.world.settle();
    }
}

/// Else there would be more wills with each that comes and goes. Others are let in.
#[test]
fn nobody_brings_another_will_while_too_many_wait() {
    let mut stuck = Stuck::of(World::new(2, small_mailboxes(), || NoHooks));
    let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
    dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
    stuck.turns(10, false);
    let connect = |stuck: &mut Stuck<NoHooks>, name: &str, options: ConnectOptions<'_>| {
        let id = id_owned_by(&stuck.world, 0, name);
        let client = Client::at(stuck.world.open(0), V5);
        let mut bytes = Vec::new();
        connect_packet(&id, options).encode(&mut bytes);
        stuck.world.send_quietly(client.socket, &bytes);
        stuck.turns(10, false);
        client
    };
    let mut with_will = connect(&mut stuck, "with", ConnectOptions::clean(V5).will("will/x"));
    let mut without = connect(&mut stuck, "without", ConnectOptions::clean(V5));
    assert_eq!(with_will.received(&mut stuck.world), []);
    assert!(matches!(without.received(&mut stuck.world)[..], [Got::Connack { .. }]));
    stuck.turns(3 * CLIENTS, true);
    assert!(matches!(with_will.received(&mut stuck.world)[..], [Got::Connack { .. }]));
    assert_eq!(numbers(&mut stuck, &mut watcher).len(), CLIENTS);
}

#[test]
fn a_stop_waits_for_no_room_and_all_wills_come_first() {
    for shards in [1, 2, 4] {
        let mut stuck = Stuck::of(World::new(shards, small_mailboxes(), || NoHooks));
        let (mut watcher, dying) = clients(&mut stuck, ConnectOptions::clean(V5), 0);
        // Half of them are gone when it begins.
        dying[..CLIENTS / 2].iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        stuck.turns(10, false);
        stuck.world.stop();
        assert_eq!(stuck.world.stopped, shards);
        let mut all = Vec::new();
        for got in watcher.received(&mut stuck.world) {
            match got {
                Got::Publish(publish) => all.push(publish.text().split(' ').next().expect("a number").to_owned()),
                other => assert!(matches!(other, Got::Disconnect(_)), "{other:?}"),
            }
        }
        assert_eq!(all.len(), CLIENTS, "{shards} shards");
    }
}

/// What a member leaves goes to others as far as there is room on the way: when its session ends, when that is kept, and when it is taken over.
#[test]
fn what_a_member_leaves_to_others_waits_for_room() {
    let hang_up: fn(&mut Stuck<NoHooks>, &Client, &str) = |stuck, member, _| {
        stuck.world.hang_up_quietly(member.socket);
    };
    let take_over: fn(&mut Stuck<NoHooks>, &Client, &str) = |stuck, _, id| {
        let mut bytes = Vec::new();
        connect_packet(id, ConnectOptions::clean(V5)).encode(&mut bytes);
        let index = stuck.world.open(0);
        stuck.world.send_quietly(index, &bytes);
    };
    let ends = [
        ("it ends", ConnectOptions::clean(V5), hang_up),
        ("it is kept", ConnectOptions::kept(V5), hang_up),
        ("it is taken over", ConnectOptions::kept(V5), take_over),
    ];
    // With and without other shards that have no member.
    for (shards, at_once) in [(1, 1024), (2, 1024), (4, 1024), (2, 3), (4, 3)] {
        for (how, options, end) in &ends {
            let what = format!("{how}, {shards} shards, {at_once} at once");
            let limits = TurnLimits { at_once, ..TurnLimits::default() };
            let mut stuck = Stuck::of(World::in_turns(shards, limits, small_mailboxes(), || NoHooks));
            let world = &mut stuck.world;
            let member = Client::on(world, 0, "member", options.with(|with| with.receive_maximum = Some(2)));
            let mut member = member;
            member.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
            let publisher = Client::on(world, 0, "publisher", ConnectOptions::clean(V5));
            for number in 0..CLIENTS {
                let payload = format!("{number} {}", "x".repeat(WILL));
                publisher.publish(world, "t", &payload, QoS::AtLeastOnce, 1);
            }
            publisher.disconnect(world);
            let mut other = Client::on(world, shards - 1, "other", ConnectOptions::clean(V5));
            other.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
            assert!(other.received(world).is_empty(), "{what}");
            let id = id_owned_by(world, 0, "member");
            stuck.most = 0;
            end(&mut stuck, &member, &id);
            stuck.turns(50, false);
            let most = MAILBOX * 3 / 2 + 2 * WILL;
            assert!(stuck.most <= most, "{what}: {} bytes", stuck.most);
            let mut all = numbers(&mut stuck, &mut other);
            assert_eq!(all.len(), if shards == 1 { CLIENTS } else { 0 }, "{what}");
            assert!(shards == 1 || stuck.most > MAILBOX / 2, "{what}: {} bytes", stuck.most);
            assert!(!stuck.world.shards[0].is_behind(), "{what}: it waits, and does not look again and again");
            stuck.turns(6 * CLIENTS, true);
            all.extend(numbers(&mut stuck, &mut other));
            all.sort_unstable();
            assert_eq!(all, (0..CLIENTS).collect::<Vec<_>>(), "{what}");
            assert!(stuck.most <= most, "{what}: {} bytes", stuck.most);
            stuck.world.settle();
        }
    }
}

/// What was buffered for a member on its way goes to others as far as there is room, when its session has ended where it was.
#[test]
fn what_was_buffered_for_a_member_that_ended_waits_for_room() {
    for at_once in [1024, 3] {
        let limits = TurnLimits { at_once, ..TurnLimits::default() };
        let mut config = small_mailboxes();
        config.shared.policy = SharedPolicy::LocalFirst;
        let mut stuck = Stuck::of(World::in_turns(4, limits, config, || NoHooks));
        let world = &mut stuck.world;
        let options = ConnectOptions::kept(V5);
        let mut other = Client::on(world, 3, "other", options);
        other.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        world.hang_up(other.socket);
        let id = id_owned_by(world, 0, "mover");
        let (mut mover, _) = Client::connect(world, 0, &id, ConnectOptions::clean(V5));
        mover.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let publisher = |number| Client::on(world, 1, &format!("p{number}"), ConnectOptions::clean(V5));
        let publishers: Vec<_> = (0..CLIENTS).map(publisher).collect();
        move_slot(world, &id, 1);
        // The new owner knows of it, and the old one does not know that yet.
        world.carry_out_outputs();
        while world.carry_message(0, 1) {}
        world.carry_out_outputs();
        for (number, publisher) in publishers.iter().enumerate() {
            let payload = format!("{number} {}", "x".repeat(WILL));
            publisher.send_quietly(world, &Packet::Publish(publish("t", &payload, QoS::AtLeastOnce, 1)));
        }
        world.hang_up_quietly(mover.socket);
        let mut most = 0;
        for turn in 0..50 + 6 * CLIENTS {
            stuck.turn(turn >= 50);
            most = most.max(stuck.world.bytes_under_way(1, 3));
            let is_behind = stuck.world.shards[1].is_behind();
            assert!(turn != 49 || !is_behind, "{at_once} at once: it waits, and does not look again and again");
        }
        let bounds = MAILBOX / 2..=MAILBOX * 3 / 2 + 2 * WILL;
        assert!(bounds.contains(&most), "{at_once} at once: {most} bytes");
        let other = id_owned_by(&stuck.world, 3, "other");
        let mut other = Client::connect(&mut stuck.world, 0, &other, options).0;
        let mut all = numbers(&mut stuck, &mut other);
        all.sort_unstable();
        assert_eq!(all, (0..CLIENTS).collect::<Vec<_>>(), "{at_once} at once");
    }
}

/// Nobody waits for a shard that is stuck while somebody else can take what a member leaves.
#[test]
fn what_a_member_leaves_goes_to_shards_that_have_room() {
    for third in [0, 1] {
        let mut stuck = Stuck::of(World::new(4, small_mailboxes(), || NoHooks));
        let world = &mut stuck.world;
        let options = ConnectOptions::kept(V5).with(|with| with.receive_maximum = Some(2));
        let mut member = Client::on(world, 0, "member", options);
        member.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let publisher = Client::on(world, 0, "publisher", ConnectOptions::clean(V5));
        for number in 0..CLIENTS {
            publisher.publish(world, "t", &format!("{number} x"), QoS::AtLeastOnce, 1);
        }
        let mut far = Client::on(world, 3, "far", ConnectOptions::clean(V5));
        far.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let mut near = Client::on(world, third, "near", ConnectOptions::clean(V5));
        near.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        stuck.world.handle(0, Input::Congestion { to: 3, congested: true });
        stuck.world.hang_up_quietly(member.socket);
        stuck.turns(50, false);
        assert_eq!(numbers(&mut stuck, &mut near).len(), CLIENTS, "the third on shard {third}");
        stuck.world.settle();
        assert!(numbers(&mut stuck, &mut far).is_empty());
    }
}

/// Members of a shard in the middle come and go, each time when messages for them are on their way: they go on to a shard that is stuck, and their
/// publisher waits for that.
#[test]
fn who_publishes_through_another_shard_waits_for_the_one_behind() {
    for shards in [3, 4] {
        let few = |config: &mut Config| {
            config.runtime.mailbox_bytes = MAILBOX;
            config.shared.policy = SharedPolicy::Sticky;
        };
        let mut stuck = Stuck::of(World::new(shards, config(few), || NoHooks));
        let last = shards - 1;
        let world = &mut stuck.world;
        let mut far = Client::on(world, last, "far", ConnectOptions::clean(V5));
        far.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let mut middle = Client::on(world, 1, "middle", ConnectOptions::kept(V5));
        middle.subscribed(world, "$share/g/t", QoS::AtLeastOnce);
        let id = id_owned_by(world, 1, "middle");
        world.hang_up(middle.socket);
        let publisher = Client::on(world, 0, "publisher", ConnectOptions::clean(V5));
        let (rounds, each) = (16, 6);
        for round in 0..rounds {
            let mut bytes = Vec::new();
            connect_packet(&id, ConnectOptions::kept(V5)).encode(&mut bytes);
            let socket = stuck.world.open(1);
            stuck.world.send_quietly(socket, &bytes);
            stuck.turns(10, false);
            for number in 0..each {
                let text = format!("{} {}", round * each + number, "x".repeat(WILL));
                let mut bytes = Vec::new();
                Packet::Publish(publish("t", &text, QoS::AtLeastOnce, 1)).encode(V5, &mut bytes);
                stuck.world.send_to_kernel(publisher.socket, &bytes);
            }
            // Nothing is carried to the shard in the middle before its member is gone.
            while stuck.world.read_on() {
                stuck.world.carry_out_outputs();
            }
            stuck.world.hang_up_quietly(socket);
            stuck.turns(20, false);
        }
        assert!(stuck.most > MAILBOX && stuck.most <= 3 * MAILBOX, "{shards} shards: {} bytes", stuck.most);
        for _ in 0..20 * rounds {
            stuck.turn(true);
            stuck.world.read_on();
        }
        stuck.world.settle();
        let mut all = numbers(&mut stuck, &mut far);
        all.sort_unstable();
        assert_eq!(all, (0..rounds * each).collect::<Vec<_>>(), "{shards} shards");
    }
}

const POLICIES: [SharedPolicy; 3] = [SharedPolicy::Random, SharedPolicy::RoundRobin, SharedPolicy::HashPublisher];

/// A member of a shared subscription on the last shard, and one on this.
fn members(stuck: &mut Stuck<NoHooks>, near: usize) -> [Client; 2] {
    [stuck.last(), near].map(|shard| {
        let mut member = Client::on(&mut stuck.world, shard, "member", ConnectOptions::clean(V5));
        member.subscribed(&mut stuck.world, "$share/g/will/#", QoS::AtLeastOnce);
        member
    })
}

/// So many of the messages that were published have come to the near member while the last shard did nothing, and to both in the end.
fn come_to_members(stuck: &mut Stuck<NoHooks>, [far, near]: &mut [Client; 2], published: usize, what: &str) {
    for _ in 0..6 * CLIENTS {
        stuck.turn(false);
        stuck.world.read_on();
    }
    let come = numbers(stuck, near).len();
    assert!(come + MAILBOX / WILL + 2 >= published, "{come}, {what}");
    assert!(stuck.most <= MAILBOX + MAILBOX / 2 + 2 * WILL, "{} bytes, {what}", stuck.most);
    stuck.turns(6 * CLIENTS, true);
    stuck.world.settle();
    assert_eq!(come + numbers(stuck, near).len() + numbers(stuck, far).len(), published, "{what}");
}

/// Members of a shared subscription are on the last shard, to which the queue gets full, and on another one. What `publish` does, which says how
/// many messages that are, comes to the latter, whatever the policy.
fn pass_over(publish: impl Fn(&mut Stuck<NoHooks>) -> usize) {
    for (shards, near, policy) in
        [(2, 0), (4, 0), (4, 1)].into_iter().flat_map(|(shards, near)| POLICIES.map(|policy| (shards, near, policy)))
    {
        let what = format!("{shards} shards, {near}, {policy:?}");
        let config = config(|config| {
            config.runtime.mailbox_bytes = MAILBOX;
            config.shared.policy = policy;
        });
        let mut stuck = Stuck::of(World::new(shards, config, || NoHooks));
        let mut members = members(&mut stuck, near);
        let published = publish(&mut stuck);
        come_to_members(&mut stuck, &mut members, published, &what);
    }
}

/// A member behind a full queue has no room. Nobody waits for it while another one has some.
#[test]
fn members_of_a_shard_to_which_the_queue_is_full_are_passed_over() {
    pass_over(|stuck| {
        let publisher = Client::on(&mut stuck.world, 0, "publisher", ConnectOptions::clean(V5));
        for number in 0..CLIENTS {
            let payload = format!("{number} {}", "x".repeat(WILL));
            let mut bytes = Vec::new();
            Packet::Publish(publish("will/0", &payload, QoS::AtMostOnce, 0)).encode(V5, &mut bytes);
            stuck.world.send_to_kernel(publisher.socket, &bytes);
        }
        CLIENTS
    });
}

/// The same of wills.
#[test]
fn wills_pass_over_members_of_a_shard_to_which_the_queue_is_full() {
    pass_over(|stuck| {
        let dying: Vec<Client> = (0..2 * CLIENTS)
            .map(|number| {
                let payload = format!("{number} {}", "x".repeat(WILL));
                let topic = format!("will/{number}");
                let will =
                    Will { topic: &topic, payload: payload.as_bytes(), qos: QoS::AtLeastOnce, ..Will::default() };
                let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) };
                Client::on(&mut stuck.world, 0, &format!("dying{number}-"), options)
            })
            .collect();
        dying.iter().for_each(|client| stuck.world.hang_up_quietly(client.socket));
        2 * CLIENTS
    });
}

/// Only what would go to a shard that is behind is left out.
#[test]
fn what_the_broker_says_of_itself_comes_though_a_queue_is_full() {
    for shards in [2, 4] {
        let mut world = World::new(shards, config(|config| config.sys.interval = Duration::from_secs(1)), || NoHooks);
        let last = shards - 1;
        let mut reader = Client::on(&mut world, 0, "reader", ConnectOptions::clean(V311));
        reader.subscribed(&mut world, "$SYS/#", QoS::AtMostOnce);
        world.advance(Duration::from_secs(3));
        let topics = |world: &mut World<NoHooks>, reader: &mut Client| -> BTreeSet<String> {
            reader.publishes(world).into_iter().map(|publish| publish.topic.clone()).collect()
        };
        let all = topics(&mut world, &mut reader);
        assert!(all.len() > 20, "{all:?}");
        // The shards before the last one find the queue to it full.
        (0..last).for_each(|from| world.handle(from, Input::Congestion { to: last, congested: true }));
        let _more: Vec<Client> = (0..5)
            .map(|number| Client::on(&mut world, shards / 2, &format!("client{number}-"), ConnectOptions::clean(V311)))
            .collect();
        reader.received(&mut world);
        world.advance(Duration::from_secs(2));
        let mut some = BTreeSet::new();
        let mut connected = String::new();
        for publish in reader.publishes(&mut world) {
            some.insert(publish.topic.clone());
            if publish.topic == "$SYS/broker/clients/connected" {
                connected = publish.text().to_owned();
            }
        }
        assert!(some.len() > all.len() / shards / 2 && some.len() < all.len(), "{} of {}", some.len(), all.len());
        assert!(connected.is_empty() || connected == "6", "what others have counted comes: {connected}");
        world.now = world.now + Duration::from_secs(1);
        world.handle(0, Input::Tick);
        world.carry_out_outputs();
        assert_eq!(world.on_their_way(0, last), 0, "nothing goes there");
        assert_eq!(world.on_their_way(0, 1) > 0, shards > 2);
        world.settle();
        (0..last).for_each(|from| world.handle(from, Input::Congestion { to: last, congested: false }));
        world.advance(Duration::from_secs(2));
        assert_eq!(topics(&mut world, &mut reader), all, "{shards} shards");
    }
}

/// At full speed, to a subscriber on another shard that takes its time: what is on its way when the publisher hears that it has to wait has room,
/// and he waits as long as that costs credit.
#[test]
fn qos_0_between_shards_is_not_lost_for_one_that_reads() {
    const MESSAGES: usize = 300;
    for (shards, size) in [(2, 16 << 10), (4, 16 << 10), (2, 65 << 10), (4, 65 << 10)] {
        let config = config(|config| config.queue.max_waiting_output_bytes = 64 << 10);
        let (mailbox, patience) = (config.runtime.mailbox_bytes, config.queue.publisher_patience);
        let mut flow = Stuck { mailbox, ..Stuck::of(World::new(shards, config, || NoHooks)) };
        let last = shards - 1;
        let mut reader = Client::on(&mut flow.world, last, "reader", ConnectOptions::clean(V311));
        reader.subscribed(&mut flow.world, "t", QoS::AtMostOnce);
        let publisher = Client::on(&mut flow.world, 0, "publisher", ConnectOptions::clean(V311));
        flow.world.stick_quietly(reader.socket);
        for number in 0..MESSAGES {
            let mut bytes = Vec::new();
            let text = format!("{number} {}", "x".repeat(size));
            Packet::Publish(publish("t", &text, QoS::AtMostOnce, 0)).encode(V311, &mut bytes);
            flow.world.send_to_kernel(publisher.socket, &bytes);
        }
        // In each millisecond up to 2 MB are read from one, and every fourth one the other takes what is there.
        let (mut all, mut millis, mut held) = (Vec::new(), 0, 0);
        while all.len() < MESSAGES && millis < 60_000 {
            millis += 1;
            flow.world.now = flow.world.now + Duration::from_millis(1);
            (0..shards).for_each(|shard| flow.world.handle(shard, Input::Tick));
            let mut reads = 0;
            while reads < 128 && flow.world.read_on() {
                flow.world.carry_out_outputs();
                reads += 1;
            }
            held += u64::from(reads < 128 && flow.world.unsent(publisher.socket) > 0);
            flow.turns(30, true);
            if millis % 4 == 0 {
                flow.world.take_in_quietly(reader.socket);
                all.extend(numbers(&mut flow, &mut reader));
            }
        }
        let what = format!("{shards} shards, {size} bytes: held {held} ms of {millis}");
        assert_eq!(all, (0..MESSAGES).collect::<Vec<_>>(), "{what}");
        let dropped: u64 = flow.world.shards.iter().map(|shard| shard.counters().dropped.iter().sum::<u64>()).sum();
        assert_eq!(dropped, 0, "{what}");
        let most = patience + Duration::from_millis(millis) / 20 + Duration::from_millis(50);
        assert!(held > 100 && Duration::from_millis(held) <= most, "{what}");
    }
}

/// For one that reads nothing he waits no longer than he has patience.
#[test]
fn a_publisher_on_another_shard_waits_for_as_long_as_it_has_patience() {
    for shards in [2, 4] {
        let config = config(|_| {});
        let (mailbox, patience) = (config.runtime.mailbox_bytes, config.queue.publisher_patience);
        let mut flow = Stuck { mailbox, ..Stuck::of(World::new(shards, config, || NoHooks)) };
        let mut reader = Client::on(&mut flow.world, shards - 1, "reader", ConnectOptions::clean(V311));
        reader.subscribed(&mut flow.world, "t", QoS::AtMostOnce);
        let publisher = Client::on(&mut flow.world, 0, "publisher", ConnectOptions::clean(V311));
        flow.world.stick_quietly(reader.socket);
        for number in 0..100 {
            let mut bytes = Vec::new();
            let text = format!("{number} {}", "x".repeat(16 << 10));
            Packet::Publish(publish("t", &text, QoS::AtMostOnce, 0)).encode(V311, &mut bytes);
            flow.world.send_to_kernel(publisher.socket, &bytes);
        }
        let (mut millis, mut held) = (0, 0);
        while flow.world.unsent(publisher.socket) > 0 && millis < 10_000 {
            millis += 1;
            flow.world.now = flow.world.now + Duration::from_millis(1);
            (0..shards).for_each(|shard| flow.world.handle(shard, Input::Tick));
            held += u64::from(!flow.world.read_on());
            flow.turns(3, true);
        }
        let (least, most) = (patience - Duration::from_millis(30), patience + Duration::from_millis(100));
        assert!((least..=most).contains(&Duration::from_millis(held)), "{shards} shards: held {held} ms of {millis}");
    }
}
