//! Messages of shared subscriptions that go on to other members.

use std::collections::BTreeMap;

use moormq::codec::QoS;
use moormq::config::SharedPolicy;
use moormq::hooks::NoHooks;
use moormq::random::Random;

use super::{kept, killed, last, passing, worlds};
use crate::client::Client;
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
