//! Messages of shared subscriptions that go on to other members.

use std::collections::BTreeMap;

use moormq::client::SubscriberId;
use moormq::codec::{AckKind, QoS};
use moormq::config::SharedPolicy;
use moormq::hooks::NoHooks;
use moormq::random::Random;
use moormq::shard::Request;

use super::{kept, killed, last, passing, worlds};
use crate::client::{Client, ConnectOptions, V5, id_owned_by};
use crate::stores::{Last, stored_world};
use crate::world::{World, config};

const SHARED: &str = "$share/g/t";

fn turns() -> moormq::config::Config {
    config(|config| config.shared.policy = SharedPolicy::RoundRobin)
}

/// A member goes away with messages that were not sent, and the others get them; the broker dies before, between or after.
#[test]
fn a_message_that_goes_on_to_another_member_is_neither_lost_nor_doubled() {
    for shards in [1, 2, 4] {
        for seed in 0..12 {
            let mut random = Random::from_seed(seed);
            let mut world = stored_world(shards, turns(), || NoHooks);
            let mut first = kept(&mut world, 0, "first");
            let mut second = kept(&mut world, shards - 1, "second");
            first.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
            second.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
            world.hang_up(first.socket);
            world.hang_up(second.socket);
            let publisher = passing(&mut world);
            for number in 0..10 {
                publisher.publish(&mut world, "t", &number.to_string(), QoS::ExactlyOnce, number + 1);
            }
            // One of them comes back: what the other one has goes on to it, or stays.
            let mut got: BTreeMap<String, usize> = BTreeMap::new();
            let mut second = kept(&mut world, shards - 1, "second");
            for text in second.drained(&mut world) {
                *got.entry(text).or_default() += 1;
            }
            world.hang_up(second.socket);
            if random.below(2) == 0 {
                world.hold_commits();
            }
            let mut world: World<NoHooks> =
                world.restarted((Last::Lost, std::time::Duration::ZERO), shards, turns(), || NoHooks);
            for (name, shard) in [("first", 0), ("second", shards - 1)] {
                let mut client: Client = kept(&mut world, shard, name);
                for text in client.drained(&mut world) {
                    *got.entry(text).or_default() += 1;
                }
            }
            assert_eq!(got.len(), 10, "none is lost: {got:?}");
            assert!(got.values().all(|count| *count == 1), "none is doubled: {got:?}");
        }
    }
}

/// A message leaves the queue of a member, and the broker dies before that is on disk: it goes to another member only if the first one has not seen it.
#[test]
fn what_a_member_was_sent_when_the_broker_died_goes_to_no_other() {
    let one_at_a_time = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
    for shards in [1, 2, 4] {
        let mut world = stored_world(shards, turns(), || NoHooks);
        let mut first = Client::on(&mut world, 0, "first", one_at_a_time);
        first.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
        world.hang_up(first.socket);
        let publisher = passing(&mut world);
        for number in 0..3 {
            publisher.publish(&mut world, "t", &number.to_string(), QoS::ExactlyOnce, number + 1);
        }
        let mut first = Client::on(&mut world, 0, "first", one_at_a_time);
        let id = first.publishes(&mut world)[0].id.expect("not QoS 0");
        first.ack(&mut world, AckKind::Pubrec, id);
        world.hold_commits();
        first.ack(&mut world, AckKind::Pubcomp, id);
        let mut got: Vec<String> = first.publishes(&mut world).iter().map(|one| one.text().to_owned()).collect();
        let mut world = world.restarted((Last::Lost, std::time::Duration::ZERO), shards, turns(), || NoHooks);
        let subscriber = SubscriberId::new("", id_owned_by(&world, 0, "first"));
        let mut second = kept(&mut world, shards - 1, "second");
        second.subscribed(&mut world, SHARED, QoS::ExactlyOnce);
        world.request(0, Request::Disconnect { subscriber, cleanup: true });
        got.extend(second.drained(&mut world));
        got.sort_unstable();
        assert_eq!(got, ["1", "2"], "{shards} shards");
    }
}

/// It alone is no news for other shards, but whoever subscribes to it again waits until they have that.
#[test]
fn a_shared_subscription_that_was_on_disk_is_made_again() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut member = kept(&mut world, shard, "member");
        member.subscribed(&mut world, "$share/g/t", QoS::AtLeastOnce);
        let mut world = killed(world);
        for name in ["member", "other"] {
            let mut member = kept(&mut world, shard, name);
            member.subscribed(&mut world, "$share/g/t", QoS::ExactlyOnce);
        }
    }
}
