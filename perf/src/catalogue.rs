//! Every scenario there is.
//!
//! A scenario keeps its name and its figures for good: results are compared over years. Change one, and it is a new one.

use moormq::codec::{ProtocolVersion, QoS};

use ProtocolVersion::{V5, V311};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

use crate::scenario::Bench;
use crate::scenario::{
    Connections, Contenders, CoreLayout, Kind, Limits, Links, Load, Messages, Scenario, ShardPlacement, Share, Storage,
    Topology, Variant,
};

/// A closed loop in which publishers take turns.
const fn closed(outstanding: usize) -> Load {
    Load::Closed { outstanding, share: Share::Turns }
}

/// `pairs` publishers and as many subscribers, 64 bytes of payload, MQTT 3.1.1.
const fn pairs(pairs: usize, qos: QoS, load: Load) -> Messages {
    Messages {
        publishers: pairs,
        subscribers: pairs,
        topology: Topology::Pairs(1),
        qos,
        version: V311,
        payload: 64,
        load,
        stuck: 0,
        kept: false,
    }
}

/// Two publishers, 500 subscribers, one topic.
const fn fanout(qos: QoS) -> Messages {
    Messages { publishers: 2, subscribers: 500, topology: Topology::OneTopic, ..pairs(0, qos, closed(50)) }
}

/// 500 publishers with a topic each, few subscribers to all of them.
const fn fanin(subscribers: usize, topology: Topology, qos: QoS) -> Messages {
    Messages { publishers: 500, subscribers, topology, ..pairs(0, qos, closed(5000)) }
}

const fn scenario(name: &'static str, about: &'static str, kind: Kind) -> Scenario {
    Scenario { name, about, kind, contenders: Contenders::Brokers, limits: Limits::Lifted }
}

const fn messages(name: &'static str, about: &'static str, messages: Messages) -> Scenario {
    scenario(name, about, Kind::Messages(messages))
}

/// `count` clients with an id each.
const fn connections(count: usize, at_a_time: usize) -> Connections {
    Connections { count, at_a_time, ids: count, keep_alive: None }
}

const fn connecting(name: &'static str, about: &'static str, connections: Connections) -> Scenario {
    scenario(name, about, Kind::Connections(connections))
}

/// 50 pairs at QoS 1, with payloads of `payload` bytes.
const fn payloads(payload: usize, outstanding: usize) -> Messages {
    Messages { payload, ..pairs(50, AtLeastOnce, closed(outstanding)) }
}

/// 10 publishers, 100 subscribers to one topic of which one reads nothing, 1 KiB.
const fn slow(qos: QoS) -> Kind {
    Kind::Messages(Messages {
        publishers: 10,
        subscribers: 100,
        topology: Topology::OneTopic,
        payload: 1024,
        stuck: 1,
        ..pairs(0, qos, Load::Open { rate: 500 })
    })
}

/// Arguments of `emqtt_bench`: 100 subscribers, 64 bytes.
const fn bench(publishers: usize, topic: &'static str, qos: QoS, interval: u32) -> Bench {
    Bench { publishers, subscribers: 100, topic, qos, payload: 64, interval }
}

/// One shard with these hooks.
const fn hooked(name: &'static str, links: Links) -> Variant {
    Variant { name, links, layout: CoreLayout::Own, placement: ShardPlacement::Any, storage: Storage::Memory }
}

/// One shard or two, with clients where they are wanted.
const fn on_cores(name: &'static str, layout: CoreLayout, placement: ShardPlacement) -> Variant {
    Variant { name, links: Links::ClientShards, layout, placement, storage: Storage::Memory }
}

/// One shard with this store.
const fn storing(name: &'static str, storage: Storage) -> Variant {
    Variant { storage, ..hooked(name, Links::None) }
}

/// Two shards on one core with this store, and all messages cross.
const fn storing_across(name: &'static str, storage: Storage) -> Variant {
    Variant { storage, ..on_cores(name, CoreLayout::TwoOnOne, ShardPlacement::Across) }
}

/// What a store is measured with.
static STORES: &[Variant] =
    &[storing("memory", Storage::Memory), storing("flushed", Storage::Flushed), storing("fsynced", Storage::Fsynced)];

/// Likewise, with two shards.
static STORES_ACROSS: &[Variant] = &[
    storing_across("memory", Storage::Memory),
    storing_across("flushed", Storage::Flushed),
    storing_across("fsynced", Storage::Fsynced),
];

/// A scenario about stores: sessions are kept.
const fn durable(name: &'static str, about: &'static str, all: Messages) -> Scenario {
    let kind = Kind::Messages(Messages { kept: true, ..all });
    Scenario { contenders: Contenders::Stores(STORES), ..scenario(name, about, kind) }
}

/// What crossing is measured with.
static ONE_SHARD_OR_TWO: &[Variant] = &[
    on_cores("1 shard", CoreLayout::Own, ShardPlacement::Any),
    on_cores("1 shard, on the generator's core", CoreLayout::WithGenerator, ShardPlacement::Any),
    on_cores("2 shards on one core, none crosses", CoreLayout::TwoOnOne, ShardPlacement::Within),
    on_cores("2 shards on one core, all cross", CoreLayout::TwoOnOne, ShardPlacement::Across),
    on_cores("2 shards, none crosses", CoreLayout::Two, ShardPlacement::Within),
    on_cores("2 shards, all cross", CoreLayout::Two, ShardPlacement::Across),
];

/// Every scenario, in the order in which they run.
pub static SCENARIOS: &[Scenario] = &[
    messages(
        "p2p_q0",
        "100 publishers to 100 subscribers, a topic each, QoS 0, 64 B, 5000 outstanding",
        pairs(100, AtMostOnce, closed(5000)),
    ),
    messages(
        "p2p_q1",
        "100 publishers to 100 subscribers, a topic each, QoS 1, 64 B, 5000 outstanding",
        pairs(100, AtLeastOnce, closed(5000)),
    ),
    messages(
        "p2p_q2",
        "100 publishers to 100 subscribers, a topic each, QoS 2, 64 B, 2000 outstanding",
        pairs(100, ExactlyOnce, closed(2000)),
    ),
    messages(
        "p2p_shallow",
        "500 publishers to 500 subscribers, a topic each, QoS 1, 64 B, one outstanding each",
        pairs(500, AtLeastOnce, Load::Closed { outstanding: 500, share: Share::Own }),
    ),
    messages(
        "fanout_q0",
        "2 publishers to 500 subscribers on one topic, QoS 0, 64 B, 50 messages (25,000 deliveries) outstanding",
        fanout(AtMostOnce),
    ),
    messages(
        "fanout_q1",
        "2 publishers to 500 subscribers on one topic, QoS 1, 64 B, 50 messages (25,000 deliveries) outstanding",
        fanout(AtLeastOnce),
    ),
    messages(
        "fanin_q0",
        "500 publishers, 2 subscribers to a wildcard, QoS 0, 64 B, 5000 messages (10,000 deliveries) outstanding",
        fanin(2, Topology::Wildcard, AtMostOnce),
    ),
    messages(
        "share_q1",
        "500 publishers, 5 members of one shared subscription, QoS 1, 64 B, 5000 outstanding",
        fanin(5, Topology::Shared, AtLeastOnce),
    ),
    messages(
        "p2p_4k",
        "50 publishers to 50 subscribers, a topic each, QoS 0, 4096 B, 5000 outstanding",
        Messages { payload: 4096, ..pairs(50, AtMostOnce, closed(5000)) },
    ),
    messages(
        "v5_q1",
        "100 publishers to 100 subscribers, a topic each, QoS 1, 64 B, MQTT 5.0, 5000 outstanding",
        Messages { version: V5, ..pairs(100, AtLeastOnce, closed(5000)) },
    ),
    messages(
        "lat_q1",
        "50 publishers to 50 subscribers, a topic each, QoS 1, 64 B, 5000 messages/s in all, on schedule",
        pairs(50, AtLeastOnce, Load::Open { rate: 5000 }),
    ),
    connecting("conn", "5000 clients connect, 64 at a time, and stay", connections(5000, 64)),
    connecting("idle15k", "15,000 clients connect, 64 at a time, and stay", connections(15_000, 64)),
    messages(
        "topics_100k",
        "100 publishers to 100 subscribers, 1000 topics each in turn (100,000 in all, as many subscriptions), QoS 0, 64 B, \
         5000 outstanding",
        Messages { topology: Topology::Pairs(1000), ..pairs(100, AtMostOnce, closed(5000)) },
    ),
    messages(
        "wild_1m",
        "1,000,000 subscriptions with a wildcard each (1000 subscribers), 50 publishers to topics that match one each, QoS 0, \
         64 B, 10,000 messages/s in all, on schedule",
        Messages {
            publishers: 50,
            subscribers: 1000,
            topology: Topology::Scattered(1000),
            ..pairs(0, AtMostOnce, Load::Open { rate: 10_000 })
        },
    ),
    messages(
        "pay_16b",
        "50 publishers to 50 subscribers, a topic each, QoS 1, 16 B, 5000 outstanding",
        payloads(16, 5000),
    ),
    messages("pay_256b", "the same with 256 B, 5000 outstanding", payloads(256, 5000)),
    messages("pay_1k", "the same with 1 KiB, 5000 outstanding", payloads(1 << 10, 5000)),
    messages("pay_16k", "the same with 16 KiB, 500 outstanding", payloads(16 << 10, 500)),
    messages("pay_256k", "the same with 256 KiB, 50 outstanding", payloads(256 << 10, 50)),
    Scenario {
        limits: Limits::Default,
        ..scenario(
            "slow_q0",
            "10 publishers to 100 subscribers on one topic, of which one reads nothing, QoS 0, 1 KiB, 500 messages/s in all, on \
             schedule; default limits",
            slow(AtMostOnce),
        )
    },
    Scenario { limits: Limits::Default, ..scenario("slow_q1", "the same at QoS 1", slow(AtLeastOnce)) },
    connecting(
        "idle15k_ka60",
        "15,000 clients connect, 64 at a time, with a keep-alive of 60 s; then a window of silence, and one in which each \
         pings every 45 s",
        Connections { keep_alive: Some(60), ..connections(15_000, 64) },
    ),
    connecting("storm", "5000 clients connect, all at once, and stay", connections(5000, 5000)),
    connecting(
        "takeover",
        "6000 clients connect, 64 at a time, 1000 client ids in turn, so that 5000 take a kept session over from a live connection",
        Connections { ids: 1000, ..connections(6000, 64) },
    ),
    scenario(
        "curve_q1",
        "50 publishers to 50 subscribers, a topic each, QoS 1, 64 B, on schedule, faster and faster until the broker falls behind",
        Kind::Curve(
            pairs(50, AtLeastOnce, Load::Open { rate: 1000 }),
            &[
                1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 70_000, 100_000, 150_000, 200_000, 300_000, 400_000,
                600_000, 800_000,
            ],
        ),
    ),
    scenario(
        "bench_p2p_q1",
        "emqtt_bench: 100 publishers to 100 subscribers, a topic each, QoS 1, 64 B, each every 10 ms (10,000 messages/s)",
        Kind::Bench(bench(100, "bench/%i", AtLeastOnce, 10)),
    ),
    scenario(
        "bench_fanout_q0",
        "emqtt_bench: 10 publishers to 100 subscribers on one topic, QoS 0, 64 B, each every 100 ms (10,000 deliveries/s)",
        Kind::Bench(bench(10, "bench/all", AtMostOnce, 100)),
    ),
    Scenario {
        contenders: Contenders::Variants(&[hooked("no hooks", Links::None), hooked("3 links", Links::Three)]),
        ..messages(
            "hooks_q0",
            "p2p_q0 with no hooks, and with three links that have all hooks of a message and answer now",
            pairs(100, AtMostOnce, closed(5000)),
        )
    },
    Scenario {
        contenders: Contenders::Variants(ONE_SHARD_OR_TWO),
        ..messages(
            "crossing_q1",
            "p2p_q1 on one shard, and on two (on one core, and on a core each) with publisher and subscriber of a pair on the \
             same shard or on different ones",
            pairs(100, AtLeastOnce, closed(5000)),
        )
    },
    Scenario {
        contenders: Contenders::Variants(ONE_SHARD_OR_TWO),
        ..messages(
            "crossing_deep_q1",
            "crossing_q1 with 20,000 outstanding, so that neither of two shards runs dry",
            pairs(100, AtLeastOnce, closed(20_000)),
        )
    },
    durable("durable_p2p_q1", "p2p_q1 with sessions that are kept", pairs(100, AtLeastOnce, closed(5000))),
    durable("durable_p2p_q2", "p2p_q2 with sessions that are kept", pairs(100, ExactlyOnce, closed(2000))),
    durable("durable_fanout_q1", "fanout_q1 with sessions that are kept", fanout(AtLeastOnce)),
    Scenario {
        contenders: Contenders::Stores(STORES_ACROSS),
        ..durable(
            "durable_crossing_q1",
            "p2p_q1 with sessions that are kept, on two shards on one core, with publisher and subscriber of a pair on different ones",
            pairs(100, AtLeastOnce, closed(5000)),
        )
    },
    durable("durable_lat_q1", "lat_q1 with sessions that are kept", pairs(50, AtLeastOnce, Load::Open { rate: 5000 })),
];

/// The scenario called `name`.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::STAMP_LEN;

    fn all_messages() -> impl Iterator<Item = (&'static str, &'static Messages)> {
        SCENARIOS.iter().filter_map(|scenario| match &scenario.kind {
            Kind::Messages(messages) | Kind::Curve(messages, _) => Some((scenario.name, messages)),
            Kind::Connections(_) | Kind::Bench(_) => None,
        })
    }

    #[test]
    fn what_is_outstanding_can_be_shared_and_published() {
        for (name, messages) in all_messages() {
            let Load::Closed { outstanding, share } = messages.load else { continue };
            assert!(usize::from(messages.packet_ids()) * messages.publishers > outstanding, "{name}");
            if share == Share::Own {
                assert!(outstanding > 0 && outstanding.is_multiple_of(messages.publishers), "{name}");
            }
        }
    }

    #[test]
    fn payloads_hold_a_stamp_and_pairs_are_pairs() {
        for (name, messages) in all_messages() {
            assert!(messages.payload >= STAMP_LEN, "{name}");
            if let Topology::Pairs(_) = messages.topology {
                assert_eq!(messages.publishers, messages.subscribers, "{name}");
                assert_eq!(messages.topics(7), messages.filters(7), "{name}");
            }
        }
    }

    #[test]
    fn names_are_unique() {
        for scenario in SCENARIOS {
            assert!(std::ptr::eq(named(scenario.name).unwrap(), scenario), "{}", scenario.name);
        }
        assert!(named("p2p").is_none());
    }

    #[test]
    fn clients_of_variants_come_in_pairs() {
        for scenario in SCENARIOS {
            let (Contenders::Variants(variants) | Contenders::Stores(variants)) = scenario.contenders else { continue };
            let Kind::Messages(messages) = &scenario.kind else { panic!("{}", scenario.name) };
            let is_placed = |variant: &&Variant| variant.placement != ShardPlacement::Any;
            for variant in variants.iter().filter(is_placed) {
                assert!(matches!(messages.topology, Topology::Pairs(_)), "{}", scenario.name);
                assert_eq!(variant.links, Links::ClientShards, "{}", scenario.name);
            }
        }
    }
}
