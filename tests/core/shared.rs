//! Shared subscriptions: MQTT 5.0 section 4.8.2, lifecycle.md section 7.

use std::collections::BTreeMap;

use moormq::codec::{AckKind, Packet, QoS, Will};
use moormq::config::SharedPolicy;
use moormq::hooks::NoHooks;
use moormq::random::Random;

use crate::client::{Client, ConnectOptions, V5, V311, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::ReceivedPublish;
use crate::world::{World, config, open_config, worlds, worlds_with};

const SHARED: &str = "$share/g/t";

/// Members of one shared subscription, in turn on each shard.
fn members(world: &mut World<NoHooks>, count: usize, options: ConnectOptions<'_>) -> Vec<Client> {
    let shards = world.shards.len();
    (0..count)
        .map(|number| {
            let mut member = Client::on(world, number % shards, &format!("m{number}-"), options);
            member.subscribed(world, SHARED, QoS::ExactlyOnce);
            member
        })
        .collect()
}

/// What each member has received, and acknowledged if it is QoS 1.
fn received(world: &mut World<NoHooks>, members: &mut [Client]) -> Vec<Vec<ReceivedPublish>> {
    members
        .iter_mut()
        .map(|member| {
            let received = member.publishes(world);
            received
                .iter()
                .filter(|received| received.qos == QoS::AtLeastOnce)
                .for_each(|received| member.ack(world, AckKind::Puback, received.id.expect("QoS 1")));
            received
        })
        .collect()
}

fn counts(received: &[Vec<ReceivedPublish>]) -> Vec<usize> {
    received.iter().map(Vec::len).collect()
}

fn policy(policy: SharedPolicy) -> impl Fn() -> moormq::config::Config {
    move || config(|config| config.shared.policy = policy)
}

#[test]
fn every_message_goes_to_exactly_one_member_whatever_the_policy() {
    let policies = [
        SharedPolicy::Random,
        SharedPolicy::RoundRobin,
        SharedPolicy::Sticky,
        SharedPolicy::HashPublisher,
        SharedPolicy::LocalFirst,
    ];
    for which in policies {
        for mut world in worlds_with(policy(which)) {
            let mut members = members(&mut world, 8, ConnectOptions::clean(V5));
            for from in 0..world.shards.len() {
                let publisher = Client::on(&mut world, from, "publisher", ConnectOptions::clean(V311));
                for number in 0..40 {
                    publisher.publish(&mut world, "t", &number.to_string(), QoS::AtLeastOnce, 1);
                }
                let received = received(&mut world, &mut members);
                let mut texts: Vec<usize> =
                    received.iter().flatten().map(|received| received.text().parse().expect("a number")).collect();
                texts.sort_unstable();
                assert_eq!(texts, (0..40).collect::<Vec<_>>(), "{which:?}");
                let busy = counts(&received).into_iter().filter(|count| *count > 0).count();
                let local: Vec<_> = (0..8).filter(|member| member % world.shards.len() == from).collect();
                match which {
                    SharedPolicy::Random => assert!(busy > 4),
                    SharedPolicy::RoundRobin => assert_eq!(busy, 8, "{:?}", counts(&received)),
                    SharedPolicy::Sticky | SharedPolicy::HashPublisher => assert_eq!(busy, 1),
                    SharedPolicy::LocalFirst => {
                        assert!((0..8).all(|member| local.contains(&member) || received[member].is_empty()));
                    }
                }
                publisher.disconnect(&mut world);
            }
        }
    }
}

#[test]
fn round_robin_is_fair_on_one_shard() {
    let mut world = World::new(1, policy(SharedPolicy::RoundRobin)(), || NoHooks);
    let mut members = members(&mut world, 5, ConnectOptions::clean(V311));
    let publisher = Client::clean(&mut world, "publisher", V311);
    for _ in 0..50 {
        publisher.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
    }
    assert_eq!(counts(&received(&mut world, &mut members)), [10; 5]);
}

#[test]
fn a_publisher_keeps_its_member_when_publishers_are_hashed() {
    for mut world in worlds_with(policy(SharedPolicy::HashPublisher)) {
        let mut members = members(&mut world, 4, ConnectOptions::clean(V311));
        let mut members_of = BTreeMap::new();
        for round in 0..3 {
            for number in 0..20 {
                let id = format!("publisher{number}");
                let publisher = Client::clean(&mut world, &id, V311);
                publisher.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
                publisher.disconnect(&mut world);
                let member = counts(&received(&mut world, &mut members)).iter().position(|count| *count == 1);
                let member = member.expect("one member has it");
                assert_eq!(*members_of.entry(number).or_insert(member), member, "round {round}");
            }
        }
        assert!(members_of.values().collect::<std::collections::BTreeSet<_>>().len() > 1);
    }
}

#[test]
fn groups_and_ordinary_subscriptions_have_copies_of_their_own() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut both = Client::on(&mut world, last, "both", ConnectOptions::clean(V311));
        for filter in ["t", "$share/g/t", "$share/h/t", "$share/h/+"] {
            both.subscribed(&mut world, filter, QoS::AtMostOnce);
        }
        let mut other = Client::on(&mut world, 0, "other", ConnectOptions::clean(V311));
        other.subscribed(&mut world, "$share/i/#", QoS::AtMostOnce);
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        assert_eq!((both.texts(&mut world).len(), other.texts(&mut world).len()), (4, 1));
        both.unsubscribe(&mut world, &["$share/h/t"]);
        both.received(&mut world);
        publisher.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        assert_eq!((both.texts(&mut world).len(), other.texts(&mut world).len()), (3, 1));
    }
}

#[test]
fn online_members_come_before_offline_ones_on_any_shard() {
    for mut world in worlds() {
        let mut members = members(&mut world, 4, ConnectOptions::kept(V311));
        for away in [0, 1, 3] {
            world.hang_up(members[away].socket);
        }
        let publisher = Client::clean(&mut world, "publisher", V5);
        for _ in 0..20 {
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        }
        assert_eq!(counts(&received(&mut world, &mut members)), [0, 0, 20, 0]);
        world.hang_up(members[2].socket);
        for _ in 0..20 {
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        }
        let shards = world.shards.len();
        let mut total = 0;
        for number in 0..4 {
            let name = format!("m{number}-");
            let mut member = Client::on(&mut world, number % shards, &name, ConnectOptions::kept(V311));
            let waited = member.publishes(&mut world);
            total += waited.len();
            waited.iter().for_each(|received| member.ack(&mut world, AckKind::Puback, received.id.expect("QoS 1")));
        }
        assert_eq!(total, 20, "nobody was there: they waited");
    }
}

/// [MQTT-4.8.2-4], lifecycle.md 7: unsent and unacknowledged messages go to another member; a QoS 2 message that was sent
/// stays with the member that may have it [MQTT-4.8.2-5].
#[test]
fn a_member_that_leaves_has_its_messages_moved() {
    for mut world in worlds_with(policy(SharedPolicy::Sticky)) {
        for kept in [true, false] {
            let last = world.shards.len() - 1;
            let small =
                |options: ConnectOptions<'static>| options.with(|properties| properties.receive_maximum = Some(2));
            let options = if kept { small(ConnectOptions::kept(V5)) } else { small(ConnectOptions::clean(V5)) };
            let mut first = Client::on(&mut world, 0, "first", options);
            first.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
            first.subscribed(&mut world, "own", QoS::ExactlyOnce);
            let mut second = Client::on(&mut world, last, "second", ConnectOptions::clean(V5));
            second.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
            let publisher = Client::clean(&mut world, "publisher", V311);
            let sent =
                [("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce), ("3", QoS::AtLeastOnce), ("4", QoS::ExactlyOnce)];
            for (at, (payload, qos)) in sent.into_iter().enumerate() {
                publisher.publish(&mut world, "t", payload, qos, at as u16 + 1);
            }
            publisher.publish(&mut world, "own", "own", QoS::AtLeastOnce, 9);
            let in_flight = first.texts(&mut world);
            let (mut first, second) = if in_flight.is_empty() { (second, first) } else { (first, second) };
            let mut second = second;
            if in_flight.is_empty() {
                // The sticky member is the other one; nothing is queued there, so there is nothing to be moved.
                first.publishes(&mut world);
            } else {
                assert_eq!(in_flight, ["1", "2"]);
                world.hang_up(first.socket);
                let moved: Vec<_> = second
                    .publishes(&mut world)
                    .iter()
                    .map(|received| (received.text().to_owned(), received.dup))
                    .collect();
                let expected = ["1", "3", "4"].map(|payload| (payload.to_owned(), false));
                assert_eq!(moved, expected);
            }
            if kept && !in_flight.is_empty() {
                let mut first = Client::on(&mut world, 0, "first", options);
                let received: Vec<_> = first
                    .publishes(&mut world)
                    .iter()
                    .map(|received| (received.text().to_owned(), received.dup))
                    .collect();
                assert_eq!(received, [("2".to_owned(), true), ("own".to_owned(), false)]);
                first.leave(
                    &mut world,
                    moormq::codec::Disconnect {
                        session_expiry: Some(0),
                        ..moormq::codec::Disconnect::new(moormq::codec::ReasonCode::Success)
                    },
                );
            }
            second.disconnect(&mut world);
        }
    }
}

#[test]
fn messages_of_a_session_that_ends_go_to_members_that_are_away_if_there_are_no_others() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut away = Client::on(&mut world, last, "away", ConnectOptions::kept(V311));
        away.subscribed(&mut world, SHARED, QoS::AtLeastOnce);
        world.hang_up(away.socket);
        let mut here = Client::on(&mut world, 0, "here", ConnectOptions::clean(V311));
        here.subscribed(&mut world, SHARED, QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V311);
        publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        assert_eq!(here.texts(&mut world), ["x"]);
        world.hang_up(here.socket);
        let mut away = Client::on(&mut world, last, "away", ConnectOptions::kept(V311));
        assert_eq!(away.texts(&mut world), ["x"]);
        away.disconnect(&mut world);
    }
}

/// The will of a member whose session ends with its connection does not end with it.
#[test]
fn the_will_of_a_member_that_ends_goes_to_members_that_are_away() {
    for mut world in worlds_with(policy(SharedPolicy::RoundRobin)) {
        let mut away = Client::on(&mut world, 0, "away", ConnectOptions::kept(V311));
        away.subscribed(&mut world, "$share/g/#", QoS::AtLeastOnce);
        world.hang_up(away.socket);
        for number in 0..6 {
            let will = Will { topic: "gone", payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() };
            let options = ConnectOptions { will: Some(will), ..ConnectOptions::clean(V311) };
            let mut dying = Client::on(&mut world, 0, &format!("dying{number}"), options);
            dying.subscribed(&mut world, "$share/g/#", QoS::AtLeastOnce);
            world.hang_up(dying.socket);
        }
        let mut away = Client::on(&mut world, 0, "away", ConnectOptions::kept(V311));
        assert_eq!(away.texts(&mut world), ["gone"; 6]);
    }
}

/// Messages that are buffered for a member while it moves are its own only as long as it is a member.
#[test]
fn a_member_that_goes_offline_on_its_way_to_another_shard_keeps_nothing_from_those_that_are_online() {
    for shards in [2, 4] {
        let mut world = World::new(shards, policy(SharedPolicy::LocalFirst)(), || NoHooks);
        let to = shards - 1;
        let mut stays = Client::on(&mut world, 0, "stays", ConnectOptions::kept(V5));
        let id = id_owned_by(&world, 0, "moves");
        let mut moves = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        for member in [&mut stays, &mut moves] {
            member.subscribed(&mut world, SHARED, QoS::AtLeastOnce);
        }
        let publisher = Client::on(&mut world, to, "publisher", ConnectOptions::clean(V5));
        // The new owner learns of the slot and of the session, and takes it for its only member.
        move_slot(&mut world, &id, to);
        world.carry_out_outputs();
        while world.carry_message(0, to) {}
        world.hang_up_quietly(moves.socket);
        for number in 1..=3 {
            let publish = publish("t", "for who is there", QoS::AtLeastOnce, number);
            publisher.send_quietly(&mut world, &Packet::Publish(publish));
        }
        world.settle();
        assert_eq!(stays.texts(&mut world), ["for who is there"; 3], "of {shards}");
        let mut back = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        assert_eq!(world.shard_of(back.socket), Some(to));
        assert_eq!(back.texts(&mut world), [""; 0]);
    }
}

/// While a session moves, two shards count it among the members: whichever of them is asked, it gets each message once.
#[test]
fn a_message_finds_the_only_member_while_that_is_away_and_moves_to_and_fro() {
    for seed in 0..1000 {
        let mut random = Random::from_seed(seed);
        let shards = [2, 4][random.below(2)];
        let mut world = World::new(shards, policy(SharedPolicy::RoundRobin)(), || NoHooks);
        let id = id_owned_by(&world, 0, "member");
        let mut member = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        member.subscribed(&mut world, SHARED, QoS::AtLeastOnce);
        world.hang_up(member.socket);
        let publishers: Vec<Client> =
            (0..shards).map(|shard| Client::on(&mut world, shard, "publisher", ConnectOptions::clean(V5))).collect();
        let mut published = 0;
        for _ in 0..100 {
            match random.below(8) {
                0 => move_slot(&mut world, &id, random.below(shards)),
                1 => {
                    published += 1;
                    let text = format!("{published:0>3}");
                    let publish = publish("t", &text, QoS::AtLeastOnce, published);
                    publishers[random.below(shards)].send_quietly(&mut world, &Packet::Publish(publish));
                }
                2 => drop(world.carry_transfer()),
                _ => drop(world.carry_any_message(&mut random)),
            }
        }
        world.settle();
        let mut member = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        let mut texts = member.texts(&mut world);
        texts.sort();
        assert_eq!(texts, (1..=published).map(|number| format!("{number:0>3}")).collect::<Vec<_>>(), "seed {seed}");
    }
}

/// Where nobody is there, whose turn it is is asked once, on the publisher's shard.
#[test]
fn members_that_are_away_on_different_shards_take_turns() {
    for mut world in worlds_with(policy(SharedPolicy::RoundRobin)) {
        let shards = world.shards.len();
        let members = members(&mut world, 4, ConnectOptions::kept(V5));
        members.iter().for_each(|member| world.hang_up(member.socket));
        let publisher = Client::on(&mut world, shards - 1, "publisher", ConnectOptions::clean(V5));
        for number in 1..=40 {
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, number);
        }
        let each = (0..4).map(|number| {
            let name = format!("m{number}-");
            Client::on(&mut world, number % shards, &name, ConnectOptions::kept(V5)).texts(&mut world).len()
        });
        assert_eq!(each.collect::<Vec<_>>(), [10; 4], "on {shards} shards");
    }
}

/// Members come and go on all shards while messages are on their way: at QoS 1 none is lost as long as a member is there.
#[test]
fn no_message_is_lost_while_members_come_and_go() {
    for seed in 0..60 {
        let mut random = Random::from_seed(seed);
        let shards = 1 + random.below(4);
        let mut world = World::new(shards, open_config(), || NoHooks);
        let mut members: Vec<Option<Client>> =
            members(&mut world, 5, ConnectOptions::kept(V311)).into_iter().map(Some).collect();
        let publisher = Client::clean(&mut world, "publisher", V311);
        let mut missing: std::collections::BTreeSet<String> = (0..60).map(|number| number.to_string()).collect();
        for number in 0..60 {
            let payload = number.to_string();
            publisher.send_quietly(&mut world, &Packet::Publish(publish("t", &payload, QoS::AtLeastOnce, 1)));
            for _ in 0..random.below(3) {
                world.carry_any_message(&mut random);
            }
            let at = random.below(5);
            match members[at].take() {
                Some(mut member) if random.below(2) == 0 => {
                    for received in member.publishes(&mut world) {
                        missing.remove(received.text());
                        member.ack(&mut world, AckKind::Puback, received.id.expect("QoS 1"));
                    }
                    members[at] = Some(member);
                }
                Some(member) => world.hang_up(member.socket),
                None => {
                    let name = format!("m{at}-");
                    members[at] = Some(Client::on(&mut world, at % shards, &name, ConnectOptions::kept(V311)));
                }
            }
        }
        world.settle();
        for (at, member) in members.into_iter().enumerate() {
            let name = format!("m{at}-");
            let mut member =
                member.unwrap_or_else(|| Client::on(&mut world, at % shards, &name, ConnectOptions::kept(V311)));
            loop {
                let received = member.publishes(&mut world);
                if received.is_empty() {
                    break;
                }
                for received in received {
                    missing.remove(received.text());
                    member.ack(&mut world, AckKind::Puback, received.id.expect("QoS 1"));
                }
            }
        }
        assert!(missing.is_empty(), "seed {seed}: {missing:?}");
    }
}
