//! What is measured, as data: who talks to whom, how much, how hard.
//!
//! A scenario keeps its name and its figures for good: results are compared over years. Change one, and it is a new one.

use moormq::codec::{ProtocolVersion, QoS};

use ProtocolVersion::{V5, V311};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

/// Something to measure a broker with.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called on the command line and in reports.
    pub name: &'static str,
    /// What happens, for people.
    pub about: &'static str,
    /// What happens, for the generator.
    pub kind: Kind,
}

/// The two families of scenarios.
#[derive(Debug)]
pub enum Kind {
    /// Messages flow from publishers to subscribers.
    Messages(Messages),
    /// Clients connect and then stay, silent.
    Connections(Connections),
}

/// Messages from publishers to subscribers.
#[derive(Debug)]
pub struct Messages {
    /// How many publishers, each on a connection of its own.
    pub publishers: usize,
    /// How many subscribers, likewise.
    pub subscribers: usize,
    /// Which subscriber gets whose messages.
    pub topology: Topology,
    /// The QoS of publishes and of subscriptions.
    pub qos: QoS,
    /// What all clients speak.
    pub version: ProtocolVersion,
    /// Bytes of payload in each message; at least [`STAMP_LEN`](crate::stamp::STAMP_LEN).
    pub payload: usize,
    /// How hard the publishers push.
    pub load: Load,
}

/// Which subscriber gets whose messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// Publisher and subscriber of the same number share a topic that nobody else uses.
    Pairs,
    /// All publish to one topic, all subscribe to it.
    OneTopic,
    /// A topic for each publisher, and every subscriber has a wildcard over all of them.
    Wildcard,
    /// A topic for each publisher; the subscribers are the members of one shared subscription to all of them.
    Shared,
}

/// How hard the publishers push.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// As hard as the broker lets them: a message counts as outstanding until all its deliveries were counted, and so many are
    /// outstanding at a time.
    Closed {
        /// Messages, all publishers together.
        outstanding: usize,
        /// Who publishes when a message was delivered.
        share: Share,
    },
    /// On schedule, whatever the broker does: so many messages a second, the publishers taking turns.
    Open {
        /// Messages a second, all publishers together.
        rate: u32,
    },
}

/// Who publishes when a message was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Share {
    /// The publisher whose turn it is: messages that arrive together do not make others that leave together.
    Turns,
    /// The publisher whose message it was: each has an equal part of what is outstanding.
    Own,
}

/// Clients that connect and stay.
#[derive(Debug)]
pub struct Connections {
    /// How many there are in the end.
    pub count: usize,
    /// How many are between connect and CONNACK at a time.
    pub at_a_time: usize,
}

impl Messages {
    /// How many deliveries a message causes.
    pub fn copies(&self) -> usize {
        match self.topology {
            Topology::Pairs | Topology::Shared => 1,
            Topology::OneTopic | Topology::Wildcard => self.subscribers,
        }
    }

    /// Where publisher number `publisher` publishes.
    pub fn topic(&self, publisher: usize) -> String {
        match self.topology {
            Topology::OneTopic => "perf/all".to_owned(),
            Topology::Pairs | Topology::Wildcard | Topology::Shared => format!("perf/{publisher}/data"),
        }
    }

    /// What subscriber number `subscriber` subscribes to.
    pub fn filter(&self, subscriber: usize) -> String {
        match self.topology {
            Topology::OneTopic => "perf/all".to_owned(),
            Topology::Pairs => format!("perf/{subscriber}/data"),
            Topology::Wildcard => "perf/+/data".to_owned(),
            Topology::Shared => "$share/group/perf/+/data".to_owned(),
        }
    }

    /// How many packet identifiers each publisher has: in a closed loop several times as many as it needs on average. One that has
    /// used all lets others go first.
    pub fn packet_ids(&self) -> u16 {
        match self.load {
            Load::Closed { outstanding, .. } => {
                u16::try_from(8 * outstanding / self.publishers).unwrap_or(u16::MAX).max(64)
            }
            Load::Open { .. } => u16::MAX,
        }
    }
}

/// A closed loop in which publishers take turns.
const fn closed(outstanding: usize) -> Load {
    Load::Closed { outstanding, share: Share::Turns }
}

/// `pairs` publishers and as many subscribers, 64 bytes of payload, MQTT 3.1.1.
const fn pairs(pairs: usize, qos: QoS, load: Load) -> Messages {
    Messages { publishers: pairs, subscribers: pairs, topology: Topology::Pairs, qos, version: V311, payload: 64, load }
}

/// Two publishers, 500 subscribers, one topic.
const fn fanout(qos: QoS) -> Messages {
    Messages { publishers: 2, subscribers: 500, topology: Topology::OneTopic, ..pairs(0, qos, closed(50)) }
}

/// 500 publishers with a topic each, few subscribers to all of them.
const fn fanin(subscribers: usize, topology: Topology, qos: QoS) -> Messages {
    Messages { publishers: 500, subscribers, topology, ..pairs(0, qos, closed(5000)) }
}

const fn messages(name: &'static str, about: &'static str, messages: Messages) -> Scenario {
    Scenario { name, about, kind: Kind::Messages(messages) }
}

const fn connections(name: &'static str, about: &'static str, count: usize) -> Scenario {
    Scenario { name, about, kind: Kind::Connections(Connections { count, at_a_time: 64 }) }
}

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
    connections("conn", "5000 clients connect, 64 at a time, and stay", 5000),
    connections("idle15k", "15,000 clients connect, 64 at a time, and stay", 15_000),
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
            Kind::Messages(messages) => Some((scenario.name, messages)),
            Kind::Connections(_) => None,
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
            if messages.topology == Topology::Pairs {
                assert_eq!(messages.publishers, messages.subscribers, "{name}");
                assert_eq!(messages.topic(7), messages.filter(7), "{name}");
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
}
