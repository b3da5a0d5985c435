//! Sessions with a lot of subscriptions, or for which a lot was buffered, that move to another shard: in portions, and nobody sees more of it
//! than that it takes longer. In these tests more than four subscriptions, or messages, are a lot.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use moormq::client::{DropReason, SessionAction, SubscriberId};
use moormq::codec::{Packet, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::config::Limit;
use moormq::hooks::{Chain, Linked, NoHooks};
use moormq::random::Random;
use moormq::shard::{Input, Request, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, config, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

const LIMITS: TurnLimits = TurnLimits { share: 80, turn: 160, at_once: 4, portion: 4, under_way: 100 };
/// Less than what is buffered in these tests is as work.
const SHORT: TurnLimits = TurnLimits { share: 10, turn: 60, ..LIMITS };
/// More than anything that happens to a shard is as work, if it is done in portions.
const MOST_WORK: u32 = 200;
/// A lot of subscriptions: as work, several times that.
const MANY: usize = 60;
/// So many steps a move takes at most.
const STEPS: usize = 400;

fn hooked(shards: usize, limits: TurnLimits, script: &Script) -> Hooked {
    World::in_turns(shards, limits, open_config(), || NoHooks.hook(script.clone()))
}

fn world(shards: usize) -> World<NoHooks> {
    World::in_turns(shards, LIMITS, open_config(), || NoHooks)
}

fn begin_turn<C: Chain>(world: &mut World<C>) {
    world.now = world.now + Duration::from_millis(1);
}

/// One thing happens, in a turn of its own: a message between shards, a session that arrives, or work that was put off. Whether there was one.
/// None of it is much work.
fn step<C: Chain>(world: &mut World<C>, random: &mut Random) -> bool {
    let shards = world.shards.len();
    world.carry_out_outputs();
    begin_turn(world);
    let works = |world: &World<C>| world.shards.iter().map(|shard| shard.turn().work).collect::<Vec<_>>();
    let before = works(world);
    let first = random.below(3);
    let happened = (0..3).map(|at| (first + at) % 3).any(|kind| match kind {
        0 => {
            let pair = random.below(shards * shards);
            let pairs = (0..shards * shards).map(|at| (pair + at) % (shards * shards));
            pairs.into_iter().any(|pair| world.carry_message(pair / shards, pair % shards))
        }
        1 => world.carry_transfer(),
        _ => {
            let behind: Vec<_> = (0..shards).filter(|shard| world.shards[*shard].is_behind()).collect();
            let one = behind.get(random.below(behind.len().max(1))).copied();
            one.into_iter().for_each(|shard| world.handle(shard, Input::Tick));
            one.is_some()
        }
    });
    for (at, (before, work)) in before.into_iter().zip(works(world)).enumerate() {
        // If it is what it was, nothing happened there in this turn.
        assert!(work == before || work <= MOST_WORK, "{work} on shard {at} of {shards}");
    }
    world.carry_out_outputs() || happened
}

pub fn steps<C: Chain>(world: &mut World<C>, count: usize, random: &mut Random) {
    for _ in 0..count {
        step(world, random);
    }
}

/// Subscribes to `t/0` and so on, each with its number plus one as Subscription Identifier if that is known to the protocol.
fn subscribe_to_many<C: Chain>(world: &mut World<C>, client: &mut Client, count: usize) {
    for number in 0..count {
        let (filter, options) = (format!("t/{number}"), SubscriptionOptions::new(QoS::AtLeastOnce));
        client.subscribe_with(world, &filter, options, (client.version == V5).then_some(number as u32 + 1));
    }
    client.received(world);
}

fn filters<C: Chain>(world: &World<C>) -> usize {
    world.shards.iter().map(|shard| shard.resource_counts().filters).sum()
}

fn sessions<C: Chain>(world: &World<C>) -> usize {
    world.shards.iter().map(|shard| shard.resource_counts().sessions).sum()
}

/// What hooks were told of a client, without what they were asked, and what it published.
fn calls(script: &Script, id: &str) -> Vec<String> {
    script.log.of(id).into_iter().filter(|line| !line.starts_with('?') && !line.starts_with("publish")).collect()
}

/// Every input is seen by `step`. After the move each subscription is there, once, and none is left behind.
#[test]
fn a_session_with_many_subscriptions_moves_and_no_shard_stands_still() {
    for (shards, seed) in [2, 4].into_iter().flat_map(|shards| (0..20).map(move |seed| (shards, seed))) {
        let mut random = Random::from_seed(seed);
        let mut world = world(shards);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        subscribe_to_many(&mut world, &mut mover, MANY);
        let before = filters(&world);
        for to in [1, 0, shards - 1] {
            move_slot(&mut world, &id, to);
            let count = (0..).take_while(|_| step(&mut world, &mut random)).count();
            assert!(count < STEPS * shards, "{count}");
            assert_eq!(world.shard_of(mover.socket), Some(to));
            assert_eq!(filters(&world), before, "{shards} shards");
        }
        let publisher = Client::clean(&mut world, "publisher", V311);
        for number in 0..MANY {
            publisher.publish(&mut world, &format!("t/{number}"), &number.to_string(), QoS::AtMostOnce, 0);
            let got: Vec<_> =
                mover.publishes(&mut world).iter().map(|got| (got.text().to_owned(), got.ids())).collect();
            assert_eq!(got, [(number.to_string(), vec![number as u32 + 1])]);
        }
        mover.disconnect(&mut world);
        world.request(
            0,
            Request::Session {
                subscriber: SubscriberId::new("", id.as_str()),
                action: SessionAction::Disconnect { cleanup: true },
                ticket: 1,
            },
        );
        assert_eq!((filters(&world), sessions(&world)), (0, 1), "the publisher's session is left");
    }
}

/// Who needs the session meanwhile: it waits, and finds all of it.
#[test]
fn a_takeover_amid_the_portions_finds_the_whole_session() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..STEPS / 3).step_by(5).map(move |at| (shards, at))) {
        for clean in [false, true] {
            let mut random = Random::from_seed(at as u64);
            let script = Script::default();
            let mut world = hooked(shards, LIMITS, &script);
            let id = id_owned_by(&world, 0, "mover");
            let (mut old, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            subscribe_to_many(&mut world, &mut old, 20);
            let mut new = Client::open(&mut world, 1, V5);
            script.log.all();
            move_slot(&mut world, &id, 1);
            steps(&mut world, at, &mut random);
            let hello = if clean { ConnectOptions::clean(V5) } else { ConnectOptions::kept(V5) };
            new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, hello)));
            while step(&mut world, &mut random) {}
            world.settle();
            let expected = if clean {
                &["register", "offline TakenOver", "unsubscribed all", "expired CleanStart", "wakeup"][..]
            } else {
                &["register", "offline TakenOver", "wakeup present"]
            };
            assert_eq!(calls(&script, &id), expected, "after {at} steps on {shards} shards");
            assert_eq!(old.received(&mut world), [Got::Disconnect(ReasonCode::SessionTakenOver)]);
            new.received(&mut world);
            assert_eq!(world.shard_of(new.socket), Some(1));
            let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
            for number in 0..20 {
                publisher.publish(&mut world, &format!("t/{number}"), "x", QoS::AtMostOnce, 0);
            }
            assert_eq!(new.texts(&mut world).len(), if clean { 0 } else { 20 });
            assert_eq!(filters(&world), if clean { 0 } else { 20 * shards });
        }
    }
}

/// It ends where it was, however far it is, and leaves nothing at either shard. Its will and the messages of its shared subscription are
/// not lost.
#[test]
fn a_session_that_ends_amid_the_portions_leaves_nothing() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..STEPS / 3).step_by(5).map(move |at| (shards, at))) {
        let mut random = Random::from_seed(at as u64);
        let script = Script::default();
        let mut world = hooked(shards, LIMITS, &script);
        let mut watcher = Client::on(&mut world, shards - 1, "watcher", ConnectOptions::clean(V311));
        watcher.subscribed(&mut world, "will", QoS::AtMostOnce);
        watcher.subscribed(&mut world, "$share/g/s", QoS::AtLeastOnce);
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let before = filters(&world);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5).will("will"));
        subscribe_to_many(&mut world, &mut mover, 20);
        mover.subscribe(&mut world, "$share/g/s", QoS::AtLeastOnce);
        mover.received(&mut world);
        script.log.all();
        move_slot(&mut world, &id, 1);
        for number in 0..12_u16 {
            let text = number.to_string();
            publisher.send_quietly(&mut world, &Packet::Publish(publish("s", &text, QoS::AtLeastOnce, number + 1)));
            steps(&mut world, at / 12 + usize::from(usize::from(number) < at % 12), &mut random);
        }
        // Not acknowledged: what it has got goes to the other member, too.
        mover.received(&mut world);
        world.hang_up_quietly(mover.socket);
        while step(&mut world, &mut random) {}
        world.settle();
        assert_eq!(calls(&script, &id), ["unsubscribed all", "gone ConnectionLost"], "after {at} steps");
        let mut texts = watcher.texts(&mut world);
        let will = texts.iter().position(|text| text == "gone").expect("the will came");
        texts.remove(will);
        texts.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        assert_eq!(texts, (0..12).map(|number| number.to_string()).collect::<Vec<_>>(), "after {at} steps on {shards}");
        assert_eq!((filters(&world), sessions(&world)), (before, 2));
        let (_, present) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5));
        assert!(!present);
    }
}

#[test]
fn a_stop_amid_the_portions_finds_everybody() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..STEPS / 3).step_by(5).map(move |at| (shards, at))) {
        let mut random = Random::from_seed(at as u64);
        let script = Script::default();
        let mut world = hooked(shards, LIMITS, &script);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5).will("t/0"));
        subscribe_to_many(&mut world, &mut mover, 20);
        script.log.all();
        move_slot(&mut world, &id, 1);
        steps(&mut world, at, &mut random);
        world.stop();
        let stopped = ["offline ServerShutdown"];
        assert_eq!(
            (calls(&script, &id), world.stopped),
            (stopped.map(str::to_owned).to_vec(), shards),
            "after {at} steps"
        );
        let got = mover.received(&mut world);
        assert!(matches!(&got[..], [Got::Publish(_), Got::Disconnect(ReasonCode::ServerShuttingDown)]), "{got:?}");
    }
}

/// Publishers on all shards, filters that overlap, and moves, in any order: each message comes once, in the order of its publisher, for all of
/// the subscriptions that it matches.
#[test]
fn nothing_is_lost_or_doubled_while_some_subscriptions_are_here_and_some_there() {
    const FILTERS: usize = 12;
    for seed in 0..200 {
        let mut random = Random::from_seed(seed);
        let shards = [2, 3, 4][random.below(3)];
        let portion = 1 + random.below(4);
        let limits = TurnLimits { portion, at_once: portion, ..LIMITS };
        let mut world = World::in_turns(shards, limits, open_config(), || NoHooks);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        subscribe_to_many(&mut world, &mut mover, FILTERS);
        let wide = SubscriptionOptions::new(QoS::AtMostOnce);
        mover.subscribe_with(&mut world, "+/3", wide, Some(100));
        mover.subscribe_with(&mut world, "t/+", wide, Some(101));
        mover.received(&mut world);
        let publishers: Vec<_> =
            (0..shards).map(|shard| Client::on(&mut world, shard, "publisher", ConnectOptions::clean(V311))).collect();
        let (mut sent, mut moves) = (vec![0_u32; shards], 0);
        let mut got: BTreeMap<usize, u32> = BTreeMap::new();
        let mut look = |world: &mut World<NoHooks>, mover: &mut Client| {
            for received in mover.publishes(world) {
                let (from, number) = received.text().split_once(' ').expect("publisher and number");
                let last = got.entry(from.parse().expect("a shard")).or_default();
                assert_eq!(number.parse(), Ok(*last + 1), "seed {seed}: from {from}");
                *last += 1;
                let topic: u32 = received.topic["t/".len()..].parse().expect("a number");
                let ids = [topic + 1].into_iter().chain((topic == 3).then_some(100)).chain([101]);
                assert_eq!(received.ids(), ids.collect::<Vec<_>>(), "seed {seed}: {}", received.topic);
                assert_eq!(received.qos, QoS::AtMostOnce);
            }
        };
        for _ in 0..400 {
            match random.below(6) {
                0 => {
                    let at = random.below(shards);
                    sent[at] += 1;
                    begin_turn(&mut world);
                    let (topic, text) = (format!("t/{}", random.below(FILTERS)), format!("{at} {}", sent[at]));
                    publishers[at]
                        .send_quietly(&mut world, &Packet::Publish(publish(&topic, &text, QoS::AtMostOnce, 0)));
                }
                1 if random.below(12) == 0 => {
                    moves += 1;
                    begin_turn(&mut world);
                    move_slot(&mut world, &id, random.below(shards));
                }
                2 => look(&mut world, &mut mover),
                _ => {
                    step(&mut world, &mut random);
                }
            }
        }
        assert!(moves > 0, "seed {seed}");
        while step(&mut world, &mut random) {}
        for _ in 0..20 {
            world.settle();
            world.advance(Duration::from_millis(50));
        }
        look(&mut world, &mut mover);
        assert!(!world.is_closed(mover.socket), "seed {seed}");
        for (at, sent) in sent.iter().enumerate() {
            assert_eq!(got.get(&at).copied().unwrap_or(0), *sent, "seed {seed}: from {at}, {shards} shards");
        }
    }
}

/// A session with this QoS that has just been sent to the last shard, where 60 messages are buffered for it, and who has published them.
fn buffered<C: Chain>(world: &mut World<C>, options: ConnectOptions<'_>, filter: &str) -> (String, Client, Client) {
    let last = world.shards.len() - 1;
    let id = id_owned_by(world, 0, "mover");
    let (mut mover, _) = Client::connect(world, 0, &id, options);
    mover.subscribe(world, filter, QoS::AtLeastOnce);
    mover.received(world);
    let publisher = Client::on(world, last, "publisher", ConnectOptions::clean(V311));
    move_slot(world, &id, last);
    while world.carry_out_outputs() | world.carry_messages() | world.catch_up() {}
    for number in 1..=60_u16 {
        let text = number.to_string();
        publisher.send_quietly(world, &Packet::Publish(publish("t", &text, QoS::AtLeastOnce, number)));
        while world.carry_out_outputs() | world.catch_up() {}
    }
    begin_turn(world);
    (id, mover, publisher)
}

fn numbers(range: impl Iterator<Item = u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Others have their turn between the portions; what is published meanwhile comes behind, and its client is served when all is delivered.
#[test]
fn what_was_buffered_is_delivered_in_portions_and_what_is_published_meanwhile_behind_it() {
    for (shards, kept) in [2, 4].into_iter().flat_map(|shards| [true, false].map(|kept| (shards, kept))) {
        let mut world = World::in_turns(shards, SHORT, open_config(), || NoHooks);
        let last = shards - 1;
        let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
        let mut bystander = Client::on(&mut world, last, "bystander", ConnectOptions::clean(V311));
        let (_, mut mover, publisher) = buffered(&mut world, options, "t");
        mover.send_quietly(&mut world, &Packet::Pingreq);
        world.carry_transfer();
        let mut turns = Vec::new();
        for number in 61.. {
            begin_turn(&mut world);
            bystander.send_quietly(&mut world, &Packet::Pingreq);
            let text = number.to_string();
            if turns.len() < 5 {
                publisher.send_quietly(&mut world, &Packet::Publish(publish("t", &text, QoS::AtLeastOnce, number)));
            }
            world.handle(last, Input::Tick);
            assert!(world.shards[last].turn().work <= 60, "{}", world.shards[last].turn().work);
            world.carry_out_outputs();
            assert_eq!(bystander.received(&mut world), [Got::Pingresp], "in the same turn");
            turns.push(mover.received(&mut world));
            if !world.catch_up() {
                break;
            }
            world.carry_out_outputs();
            turns.push(mover.received(&mut world));
        }
        world.settle();
        turns.push(mover.received(&mut world));
        let texts = |got: &[Got]| {
            let text = |got: &Got| if let Got::Publish(one) = got { one.text().to_owned() } else { "ping".to_owned() };
            got.iter().map(text).collect::<Vec<_>>()
        };
        assert!(turns.iter().filter(|turn| !turn.is_empty()).count() >= 4, "{turns:?}");
        let mut all = texts(&turns.concat());
        let ping = all.iter().position(|text| text == "ping").expect("it is served in the end");
        assert!(ping >= 60, "behind what was buffered before it came: {ping}");
        all.remove(ping);
        let published = all.len() as u32;
        assert!(published > 60);
        assert_eq!(all, numbers(1..published + 1), "{shards} shards");
        assert_eq!(world.shard_of(mover.socket), Some(last));
    }
}

/// For hooks it is as if all were delivered at once: what becomes of the client meanwhile comes behind.
#[test]
fn a_client_that_is_lost_or_taken_over_amid_what_was_buffered_has_it_first() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..12).map(move |at| (shards, at))) {
        for (taken_over, kept) in [(false, true), (false, false), (true, true), (true, false)] {
            let script = Script::default();
            let mut world = hooked(shards, SHORT, &script);
            let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            let mut new = Client::open(&mut world, 0, V5);
            let (id, mut mover, _) = buffered(&mut world, options.with(|it| it.receive_maximum = Some(10)), "t");
            script.log.all();
            let mut random = Random::from_seed(at);
            world.carry_transfer();
            steps(&mut world, at as usize, &mut random);
            if taken_over {
                let hello = ConnectOptions::kept(V5);
                new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, hello)));
            } else {
                world.hang_up_quietly(mover.socket);
            }
            while step(&mut world, &mut random) {}
            world.settle();
            let mut seen = calls(&script, &id);
            let dropped = seen.iter().filter(|line| line.starts_with("dropped")).count();
            seen.retain(|line| !line.starts_with("dropped"));
            let expected: &[&str] = match (taken_over, kept) {
                (false, true) => &["offline ConnectionLost"],
                (false, false) => &["unsubscribed all", "gone ConnectionLost"],
                (true, true) => &["register", "offline TakenOver", "wakeup present"],
                // It leaves a lot, for which the newcomer waits.
                (true, false) => &["unsubscribed all", "gone TakenOver", "register", "wakeup"],
            };
            assert_eq!(seen, expected, "after {at} steps on {shards} shards");
            assert_eq!(dropped, if kept { 0 } else { 60 });
            let ended: u64 =
                world.shards.iter().map(|one| one.counters().dropped[DropReason::SessionEnded as usize]).sum();
            assert_eq!(ended as usize, dropped);
            if taken_over && kept {
                assert_eq!(new.texts(&mut world), numbers(1..61), "what was in flight is sent again");
            }
            drop(mover.received(&mut world));
        }
    }
}

#[test]
fn a_stop_amid_what_was_buffered_delivers_it() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..6).map(move |at| (shards, at))) {
        let script = Script::default();
        let mut world = hooked(shards, SHORT, &script);
        let (id, mut mover, _) = buffered(&mut world, ConnectOptions::kept(V5).will("will"), "t");
        script.log.all();
        world.carry_transfer();
        steps(&mut world, at, &mut Random::from_seed(1));
        world.stop();
        assert_eq!((calls(&script, &id), world.stopped), (vec!["offline ServerShutdown".to_owned()], shards));
        let mut got = mover.received(&mut world);
        assert_eq!(got.pop(), Some(Got::Disconnect(ReasonCode::ServerShuttingDown)), "after {at} steps");
        assert_eq!(got.len(), 60);
    }
}

/// Its client is away: what is buffered becomes what it finds when it comes back.
#[test]
fn a_client_that_is_away_finds_what_was_buffered_in_order() {
    for (shards, at) in [2, 4].into_iter().flat_map(|shards| (0..12).map(move |at| (shards, at))) {
        let last = shards - 1;
        let mut world = World::in_turns(shards, SHORT, open_config(), || NoHooks);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V311));
        mover.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(mover.socket);
        let publisher = Client::on(&mut world, last, "publisher", ConnectOptions::clean(V311));
        let mut again = Client::open(&mut world, 0, V311);
        move_slot(&mut world, &id, last);
        while world.carry_out_outputs() | world.carry_messages() | world.catch_up() {}
        let mut random = Random::from_seed(at);
        for number in 1..=60_u16 {
            if number == 50 {
                world.carry_transfer();
                steps(&mut world, at as usize, &mut random);
            }
            let text = number.to_string();
            publisher.send_quietly(&mut world, &Packet::Publish(publish("t", &text, QoS::AtLeastOnce, number)));
            world.carry_out_outputs();
        }
        again.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, ConnectOptions::kept(V311))));
        while step(&mut world, &mut random) {}
        world.settle();
        let got = again.received(&mut world);
        assert_eq!(got.first(), Some(&Got::Connack { present: true, code: ReasonCode::Success }));
        let texts = got[1..].iter().map(|got| match got {
            Got::Publish(received) => received.text().to_owned(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), numbers(1..61), "after {at} steps on {shards} shards");
        assert_eq!(world.shard_of(again.socket), Some(last));
    }
}

/// Messages that were buffered for a member that has ended go to another one, in portions.
#[test]
fn what_was_buffered_for_a_member_that_ends_goes_to_others_in_portions() {
    for shards in [2, 4] {
        let mut world =
            World::in_turns(shards, TurnLimits { share: 20, turn: 60, ..LIMITS }, open_config(), || NoHooks);
        let last = shards - 1;
        let mut other = Client::on(&mut world, last, "other", ConnectOptions::kept(V5));
        other.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
        world.hang_up(other.socket);
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5));
        mover.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
        let publisher = Client::on(&mut world, last, "publisher", ConnectOptions::clean(V311));
        move_slot(&mut world, &id, last);
        // The new owner knows of it, and the old one does not know that yet.
        world.carry_out_outputs();
        while world.carry_message(0, last) {}
        world.carry_out_outputs();
        for number in 1..=60_u16 {
            let text = number.to_string();
            publisher.send_quietly(&mut world, &Packet::Publish(publish("t", &text, QoS::AtLeastOnce, number)));
            world.carry_out_outputs();
            world.handle(last, Input::Tick);
            begin_turn(&mut world);
        }
        world.hang_up_quietly(mover.socket);
        world.carry_out_outputs();
        begin_turn(&mut world);
        while world.carry_message(0, last) {
            assert!(world.shards[last].turn().work <= 60, "{}", world.shards[last].turn().work);
            begin_turn(&mut world);
        }
        assert!(world.shards[last].is_behind(), "{shards} shards");
        world.settle();
        drop(mover.received(&mut world));
        let (mut other, present) = {
            let id = id_owned_by(&world, last, "other");
            Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5))
        };
        assert!(present);
        let mut texts = other.texts(&mut world);
        texts.sort_by_key(|text| text.parse::<u32>().expect("a number"));
        texts.dedup();
        assert_eq!(texts, numbers(1..61), "{shards} shards");
    }
}

/// What the longest of all inputs takes while a session with so many subscriptions moves. Printed, not asserted.
#[test]
fn a_move_of_many_subscriptions_is_no_pause() {
    const COUNT: usize = 20_000;
    let mut world =
        World::new(2, config(|config| config.limits.max_subscriptions_per_client = Limit::UNLIMITED), || NoHooks);
    let id = id_owned_by(&world, 0, "mover");
    let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
    let texts: Vec<_> = (0..COUNT).map(|number| format!("site/{number}/state")).collect();
    for texts in texts.chunks(100) {
        let filters =
            texts.iter().map(|filter| SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::AtMostOnce) });
        let filters: Vec<_> = filters.collect();
        mover.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
    }
    mover.received(&mut world);
    move_slot(&mut world, &id, 1);
    let (began, mut longest, mut most) = (Instant::now(), Duration::ZERO, 0);
    loop {
        world.carry_out_outputs();
        begin_turn(&mut world);
        let begins = Instant::now();
        let happened =
            world.carry_message(0, 1) || world.carry_message(1, 0) || world.carry_transfer() || world.catch_up();
        longest = longest.max(begins.elapsed());
        most = world.shards.iter().map(|shard| shard.turn().work).fold(most, u32::max);
        if !happened {
            break;
        }
    }
    println!(
        "{COUNT} subscriptions: {:?} in all, {longest:?} at most at a time, {most} units of work",
        began.elapsed()
    );
    assert_eq!(world.shard_of(mover.socket), Some(1));
    assert!(most <= 2 * TurnLimits::default().turn, "{most}");
}

/// What the old owner delivers while the rest of the subscriptions follows is not kept at the new one until the session comes: nobody waits for
/// that, and it takes no room that later messages need.
#[test]
fn who_publishes_to_a_session_with_many_subscriptions_does_not_wait_for_its_move() {
    for shards in [2, 4] {
        let limited = config(|config| config.queue.max_queue_bytes = Limit::at_most(16 << 10));
        let mut world = World::in_turns(shards, LIMITS, limited, || NoHooks);
        let last = shards - 1;
        let id = id_owned_by(&world, 0, "mover");
        let (mut mover, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        subscribe_to_many(&mut world, &mut mover, MANY);
        mover.subscribe(&mut world, "+/+", QoS::AtMostOnce);
        mover.received(&mut world);
        let mut publisher = Client::on(&mut world, last, "publisher", ConnectOptions::clean(V311));
        move_slot(&mut world, &id, last);
        let mut random = Random::from_seed(1);
        let (mut sent, mut served, mut come) = (0, 0, 0);
        while world.shard_of(mover.socket) == Some(0) {
            sent += 1;
            let text = format!("{sent:01000}");
            begin_turn(&mut world);
            publisher.send_quietly(&mut world, &Packet::Publish(publish("t/0", &text, QoS::AtMostOnce, 0)));
            publisher.send_quietly(&mut world, &Packet::Pingreq);
            steps(&mut world, shards, &mut random);
            served += publisher.received(&mut world).len();
            come += mover.publishes(&mut world).len();
        }
        assert!(sent > 30, "{sent} on {shards} shards");
        assert!(served + 1 >= sent, "{served} of {sent} on {shards} shards");
        while step(&mut world, &mut random) {}
        world.settle();
        assert_eq!(come + mover.publishes(&mut world).len(), sent);
    }
}

/// A member for which more is left than its queue may have has no room, though its connection has.
#[test]
fn a_member_is_passed_over_while_what_was_buffered_for_it_is_delivered() {
    for shards in [2, 4] {
        let few = config(|config| config.queue.max_online_messages = Limit::at_most(20));
        let mut world = World::in_turns(shards, SHORT, few, || NoHooks);
        let last = shards - 1;
        let mut other = Client::on(&mut world, last, "other", ConnectOptions::clean(V5));
        let (_, mut mover, publisher) = buffered(&mut world, ConnectOptions::clean(V5), "$share/g/t");
        let options = SubscriptionOptions::new(QoS::AtLeastOnce);
        let filters = [SubscribeFilter { filter: "$share/g/t", options }];
        other.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        while world.carry_out_outputs() | world.carry_messages() | world.catch_up() {}
        begin_turn(&mut world);
        world.carry_transfer();
        world.carry_out_outputs();
        assert!(world.shards[last].is_behind());
        for number in 61..=70_u16 {
            let text = number.to_string();
            publisher.send_quietly(&mut world, &Packet::Publish(publish("t", &text, QoS::AtLeastOnce, number)));
        }
        world.settle();
        let (texts, rest) = (other.texts(&mut world), mover.texts(&mut world));
        assert_eq!((texts, rest.len()), (numbers(61..71), 60), "{shards} shards");
    }
}
