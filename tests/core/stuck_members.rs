//! Members of shared subscriptions that take nothing: the others get what is published, and what waits for them.

use std::collections::BTreeSet;
use std::time::Duration;

use moormq::client::DropReason;
use moormq::codec::{AckKind, QoS};
use moormq::config::{Config, Limit, SharedPolicy};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, id_owned_by};
use crate::world::{World, config, worlds_with};

const POLICIES: [SharedPolicy; 5] = [
    SharedPolicy::Random,
    SharedPolicy::RoundRobin,
    SharedPolicy::Sticky,
    SharedPolicy::HashPublisher,
    SharedPolicy::LocalFirst,
];

fn small_queues(policy: SharedPolicy) -> Config {
    config(|config| {
        config.shared.policy = policy;
        config.queue.max_online_messages = Limit::at_most(40);
    })
}

/// Members on all shards, which have few messages in flight.
fn members(world: &mut World<NoHooks>, count: usize) -> Vec<Client> {
    let shards = world.shards.len();
    let connect = |number: usize| {
        let id = id_owned_by(world, number % shards, &format!("member{number}-"));
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(5));
        let (mut member, _) = Client::connect(world, 0, &id, options);
        member.subscribed(world, "$share/g/work", QoS::AtLeastOnce);
        member
    };
    (0..count).map(connect).collect()
}

/// What members have received, which acknowledge it.
fn take(world: &mut World<NoHooks>, members: &mut [Client], into: &mut BTreeSet<usize>) -> usize {
    let mut taken = 0;
    for member in members {
        for publish in member.publishes(world) {
            into.insert(publish.text().parse().expect("a number"));
            member.ack(world, AckKind::Puback, publish.id.expect("QoS 1"));
            taken += 1;
        }
    }
    taken
}

fn dropped(world: &World<NoHooks>) -> u64 {
    let of = |reason| world.shards.iter().map(|shard| shard.counters().dropped[reason as usize]).sum::<u64>();
    of(DropReason::QueueFull) + of(DropReason::SlowConsumer)
}

/// Many more than fit into all queues together.
#[test]
fn a_member_that_takes_nothing_costs_nobody_a_message() {
    for policy in POLICIES {
        for mut world in worlds_with(|| small_queues(policy)) {
            let mut members = members(&mut world, 5);
            // With these policies one member gets all that one client publishes.
            let publishers: Vec<_> = (0..4)
                .map(|number| Client::connect(&mut world, 0, &format!("p{number}"), ConnectOptions::clean(V5)).0)
                .collect();
            let (stuck, others) = members.split_at_mut(1);
            let mut received = BTreeSet::new();
            for number in 0..1000 {
                let text = number.to_string();
                publishers[number % 4].publish(&mut world, "work", &text, QoS::AtLeastOnce, 1 + number as u16);
                // They are behind, but they do take.
                if number % 3 == 0 {
                    take(&mut world, others, &mut received);
                }
            }
            let mut quiet = 0;
            while quiet < 100 {
                quiet = if take(&mut world, others, &mut received) > 0 { 0 } else { quiet + 1 };
                world.advance(Duration::from_millis(50));
            }
            let sent_to_it: Vec<_> = stuck[0].publishes(&mut world);
            received.extend(sent_to_it.iter().map(|publish| publish.text().parse::<usize>().expect("a number")));
            assert_eq!((received.len(), dropped(&world)), (1000, 0), "{policy:?}, {} shards", world.shards.len());
            assert!(sent_to_it.len() <= 5, "nothing stays with it but what it was sent");
        }
    }
}

/// Also if nothing is full.
#[test]
fn what_waits_for_a_member_that_takes_nothing_goes_to_others() {
    for policy in [SharedPolicy::Sticky, SharedPolicy::RoundRobin] {
        for mut world in worlds_with(|| config(|config| config.shared.policy = policy)) {
            let publisher = Client::clean(&mut world, "publisher", V5);
            let mut members = members(&mut world, 3);
            let (mut received, mut first) = (BTreeSet::new(), BTreeSet::new());
            for number in 0..60 {
                let text = number.to_string();
                publisher.publish(&mut world, "work", &text, QoS::AtLeastOnce, 1 + number);
            }
            // The first one reads, and does not acknowledge.
            for publish in members[0].publishes(&mut world) {
                first.insert(publish.text().parse::<usize>().expect("a number"));
            }
            for _ in 0..100 {
                take(&mut world, &mut members[1..], &mut received);
                world.advance(Duration::from_millis(50));
            }
            received.extend(&first);
            assert_eq!(received.len(), 60, "{policy:?}, {} shards", world.shards.len());
            assert!(first.len() <= 5 && members[0].publishes(&mut world).is_empty());
        }
    }
}

/// All of them take nothing: their publisher waits, for a while.
#[test]
fn publishers_wait_when_no_member_on_any_shard_has_room() {
    for mut world in worlds_with(|| small_queues(SharedPolicy::Random)) {
        let _members = members(&mut world, 4);
        let publisher = Client::clean(&mut world, "publisher", V5);
        let served =
            |world: &World<NoHooks>| -> u64 { world.shards.iter().map(|one| one.counters().messages_in).sum() };
        for number in 0..400_u16 {
            publisher.publish(&mut world, "work", "x", QoS::AtLeastOnce, 1 + number);
        }
        let first = served(&world);
        assert!((4 * 30..4 * 45).contains(&first), "{first} fit into all queues together");
        assert_eq!(dropped(&world), 0);
        world.advance(Duration::from_secs(2));
        assert_eq!(served(&world), 400, "but not for ever");
        assert!(dropped(&world) > 0);
    }
}
