//! Scenes with which some histories begin: steps that seldom come together by chance. Where they differ is up to chance, and so is all that
//! follows.

use moormq::codec::{ProtocolVersion, QoS};
use moormq::random::Random;

use crate::history::{
    Ask, CLIENTS, ConnectOptions, EVERY_TOPIC_FILTER, FIRST_SHARED_FILTER, FIRST_SHARED_TOPIC, MIRROR, Name, Plan,
    Setup, Step,
};

/// One history in so many begins with a scene.
const RARELY: usize = 8;

/// The scene that a history begins with; most have none.
pub fn scene(setup: &Setup) -> Vec<Step> {
    let mut random = Random::from_seed(setup.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5CE);
    if setup.is_stored() && setup.paging().is_some() && random.below(2) == 0 {
        return pile_up(setup, &mut random);
    }
    if random.below(RARELY) > 0 {
        return Vec::new();
    }
    match random.below(3) {
        0 => slow_again(&mut random),
        1 => member_leaves(&mut random),
        _ => asks_behind_portions(setup, &mut random),
    }
}

/// A client connects, whose session is kept for so many seconds; 0: it ends with its connection.
fn connect(client: usize, expiry: u16, random: &mut Random) -> Step {
    let version = [ProtocolVersion::V5, ProtocolVersion::V311][random.below(2)];
    let version = if client == MIRROR || expiry > 0 { ProtocolVersion::V5 } else { version };
    let options = ConnectOptions { expiry, ..ConnectOptions::plain(Name::Plain, version, expiry == 0) };
    Step::Connect { client, shard: 0, options }
}

fn subscribe(client: usize, filter: usize, qos: QoS) -> Step {
    Step::Subscribe { client, ask: Ask::plain(filter, qos), second: None, id: 0, plan: Plan::Accept }
}

/// A client publishes `more` messages than one, which may be retained, and large.
fn publish(client: usize, topic: usize, qos: QoS, (retain, large): (bool, bool), more: u8) -> Step {
    Step::Publish { client, topic, qos, retain, large, expiry: None, alias: 0, plan: Plan::Accept, more }
}

fn settle(random: &mut Random) -> Step {
    Step::Settle { seed: random.u64() as u32 }
}

fn run(random: &mut Random, most: usize) -> Step {
    Step::Run { seed: random.u64() as u32, turns: 1 + random.below(most) as u8 }
}

/// A client does not read until publishers have waited for it, and does the same on its next connection.
fn slow_again(random: &mut Random) -> Vec<Step> {
    let consumer = random.below(MIRROR);
    let publisher = (consumer + 1 + random.below(CLIENTS - 1)) % CLIENTS;
    let topic = random.below(3);
    let mut steps = vec![connect(publisher, 0, random)];
    for _ in 0..2 {
        steps.extend([connect(consumer, 0, random), settle(random)]);
        steps.extend([subscribe(consumer, EVERY_TOPIC_FILTER, QoS::AtMostOnce), settle(random)]);
        steps.push(Step::Stick { client: consumer, on: true });
        steps.push(publish(publisher, topic, QoS::AtMostOnce, (false, true), 3 + random.below(3) as u8));
        steps.extend([run(random, 60), Step::Advance { millis: [5, 15, 40][random.below(3)] }]);
        steps.push(Step::HangUp { client: consumer, abrupt: true });
    }
    steps
}

/// A client wants what is retained of a topic while messages to it are under way from another shard: to this client, and in portions to others
/// that are away, and so cost little.
fn asks_behind_portions(setup: &Setup, random: &mut Random) -> Vec<Step> {
    let shard = random.below(setup.shards);
    let mut steps = Vec::new();
    for client in 0..CLIENTS {
        let to = if client == MIRROR { (shard + 1) % setup.shards } else { shard };
        steps.push(Step::Move { client, mount: 0, to });
    }
    steps.push(settle(random));
    let topic = random.below(2);
    let asks = random.below(MIRROR);
    for away in (0..MIRROR).filter(|client| *client != asks) {
        steps.extend([connect(away, 600, random), settle(random)]);
        steps.extend([subscribe(away, topic, QoS::AtLeastOnce), settle(random)]);
        steps.push(Step::HangUp { client: away, abrupt: true });
    }
    steps.extend([connect(asks, 0, random), connect(MIRROR, 0, random), settle(random)]);
    steps.extend([subscribe(asks, topic, QoS::AtLeastOnce), settle(random)]);
    let more = 2 + random.below(3) as u8;
    steps.extend([publish(MIRROR, topic, QoS::AtLeastOnce, (true, false), more), run(random, 40)]);
    steps.extend([subscribe(asks, topic, QoS::AtLeastOnce), run(random, 40), settle(random)]);
    steps
}

/// A member of a shared subscription leaves for good that has not acknowledged what it was sent.
fn member_leaves(random: &mut Random) -> Vec<Step> {
    let leaves = random.below(MIRROR);
    let stays = (leaves + 1 + random.below(MIRROR - 1)) % MIRROR;
    let mut steps = Vec::new();
    for client in [leaves, stays, MIRROR] {
        steps.extend([connect(client, 0, random), settle(random)]);
        if client != MIRROR {
            steps.extend([subscribe(client, FIRST_SHARED_FILTER, QoS::ExactlyOnce), settle(random)]);
        }
    }
    steps.push(Step::Lazy { client: leaves, on: true });
    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce][random.below(3)];
    let more = 1 + random.below(4) as u8;
    steps.extend([publish(MIRROR, FIRST_SHARED_TOPIC, qos, (false, false), more), run(random, 60)]);
    steps.push(match random.below(2) {
        0 => Step::HangUp { client: leaves, abrupt: true },
        _ => Step::Disconnect { client: leaves, with_will: false, expiry: None },
    });
    steps.extend([run(random, 40), Step::Lazy { client: leaves, on: false }]);
    steps
}

/// Messages pile up for a client that is away, and the broker dies in between; then the client comes for them, and leaves again amid that.
fn pile_up(setup: &Setup, random: &mut Random) -> Vec<Step> {
    let consumer = random.below(MIRROR);
    let publisher = (consumer + 1 + random.below(CLIENTS - 1)) % CLIENTS;
    let comes = |random: &mut Random| {
        let plain = ConnectOptions::plain(Name::Plain, ProtocolVersion::V5, false);
        let options = ConnectOptions { receive_maximum: [1, 2, 5, 0][random.below(4)], ..plain };
        Step::Connect { client: consumer, shard: random.below(setup.shards), options }
    };
    let leaves = |random: &mut Random| match random.below(2) {
        0 => Step::HangUp { client: consumer, abrupt: true },
        _ => Step::Disconnect { client: consumer, with_will: false, expiry: None },
    };
    let qos = |random: &mut Random| [QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(2)];
    let is_large = random.below(2) == 0;
    let mut steps = vec![comes(random), settle(random)];
    steps.extend([subscribe(consumer, EVERY_TOPIC_FILTER, qos(random)), settle(random), leaves(random)]);
    for _ in 0..1 + random.below(4) {
        steps.extend([connect(publisher, 600, random), run(random, 40)]);
        for _ in 0..1 + random.below(3) {
            let more = [3, 10, 30][random.below(3)];
            steps.push(publish(publisher, random.below(2), qos(random), (false, is_large), more));
            steps.push(if random.below(3) == 0 { settle(random) } else { run(random, 200) });
        }
        if random.below(3) > 0 {
            steps.push(Step::Crash {
                seed: random.u64() as u32,
                millis: 10,
                loses_power: random.below(2) == 0 && setup.may_lose_power(),
                again: random.below(4) == 0,
                shards: [setup.shards, setup.shards, 1, 2][random.below(4)],
            });
        }
        if random.below(2) == 0 {
            steps.extend([comes(random), run(random, 200), leaves(random)]);
        }
    }
    steps.extend([comes(random), run(random, 100)]);
    steps
}
