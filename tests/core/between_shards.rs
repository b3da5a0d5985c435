//! What is on its way between shards while one of them does nothing: bytes that are bounded, and nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use moormq::codec::{Packet, QoS, Will};
use moormq::config::Config;
use moormq::hooks::{Chain, NoHooks};
use moormq::shard::{Input, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, connect_packet, id_owned_by, publish};
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
}

fn small_mailboxes() -> Config {
    config(|config| config.runtime.mailbox_bytes = MAILBOX)
}

impl<C: Chain> Stuck<C> {
    fn of(world: World<C>) -> Self {
        Stuck { world, congested: BTreeSet::new(), most: 0 }
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
            if bytes >= MAILBOX && self.congested.insert((from, to)) {
                self.world.handle(from, Input::Congestion { to, congested: true });
            }
            if takes || to != last {
                self.world.carry_message(from, to);
            }
            if self.world.bytes_under_way(from, to) <= MAILBOX / 2 && self.congested.remove(&(from, to)) {
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
