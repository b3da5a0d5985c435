//! What is done, as data.

use std::time::Duration;

use moormq::codec::{ProtocolVersion, QoS};
use moormq::hooks::{Chain, NoHooks};
use moormq_perf_shared::links::{Agreeing, Undecided};

use ProtocolVersion::{V5, V311};
use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

use crate::rig::{BATCH, Rig};

/// Turns before those that are counted, so that buffers have the sizes they will have.
const WARM_UP: u64 = 20;

/// Something that the core is measured with. A case keeps its name and its figures for good.
#[derive(Debug)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What happens, for people.
    pub about: &'static str,
    /// How many publish.
    pub publishers: usize,
    /// How many subscribe.
    pub subscribers: usize,
    /// Who gets what.
    pub topology: Topology,
    /// The QoS of publishes and subscriptions.
    pub qos: QoS,
    /// What all clients speak.
    pub version: ProtocolVersion,
    /// How many shards: with two, every message crosses.
    pub shards: usize,
    /// Whether there are three links that answer now.
    pub hooked: bool,
    /// Whether sessions and messages are stored.
    pub stored: bool,
    /// How many turns are enough for a figure.
    pub turns: u64,
}

/// Who gets what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// Publisher and subscriber of the same number share a topic.
    Pairs,
    /// All publish to one topic, all subscribe to it.
    OneTopic,
    /// The subscribers are the members of one shared subscription to all topics.
    Shared,
}

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Deliveries, those of the warm-up not counted.
    pub deliveries: u64,
    /// Allocations that were made for them.
    pub allocations: u64,
}

/// Ten publishers, ten subscribers, a topic each.
const fn pairs(name: &'static str, about: &'static str, qos: QoS) -> Case {
    let (topology, version) = (Topology::Pairs, V311);
    let (publishers, subscribers, turns) = (10, 10, 200);
    Case {
        name,
        about,
        publishers,
        subscribers,
        topology,
        qos,
        version,
        shards: 1,
        hooked: false,
        stored: false,
        turns,
    }
}

/// One publisher, a hundred subscribers, one topic.
const fn fanout(name: &'static str, about: &'static str, qos: QoS) -> Case {
    Case { publishers: 1, subscribers: 100, topology: Topology::OneTopic, turns: 40, ..pairs(name, about, qos) }
}

/// The same with sessions that are kept, and all stored.
const fn stored(name: &'static str, about: &'static str, case: Case) -> Case {
    Case { name, about, stored: true, ..case }
}

/// Every case.
pub static CASES: &[Case] = &[
    pairs("p2p_q0", "10 publishers to 10 subscribers, a topic each, QoS 0, 64 B", AtMostOnce),
    pairs("p2p_q1", "the same at QoS 1", AtLeastOnce),
    pairs("p2p_q2", "the same at QoS 2", ExactlyOnce),
    Case { version: V5, ..pairs("v5_q1", "p2p_q1 over MQTT 5.0", AtLeastOnce) },
    fanout("fanout_q0", "1 publisher to 100 subscribers on one topic, QoS 0, 64 B", AtMostOnce),
    fanout("fanout_q1", "the same at QoS 1", AtLeastOnce),
    Case {
        subscribers: 5,
        topology: Topology::Shared,
        ..pairs("share_q1", "10 publishers, 5 members of one shared subscription, QoS 1, 64 B", AtLeastOnce)
    },
    Case { shards: 2, ..pairs("cross_q1", "p2p_q1 on two shards, every message crosses", AtLeastOnce) },
    Case { hooked: true, ..pairs("hooks_q0", "p2p_q0 with three links that answer now", AtMostOnce) },
    stored("stored_p2p_q1", "p2p_q1 with kept sessions, all on disk", pairs("", "", AtLeastOnce)),
    stored("stored_p2p_q2", "p2p_q2 with kept sessions, all on disk", pairs("", "", ExactlyOnce)),
    stored("stored_fanout_q1", "fanout_q1 with kept sessions, all on disk", fanout("", "", AtLeastOnce)),
    stored(
        "stored_cross_q1",
        "cross_q1 with kept sessions, all on disk",
        Case { shards: 2, ..pairs("", "", AtLeastOnce) },
    ),
];

/// The case called `name`.
pub fn named(name: &str) -> Result<&'static Case, String> {
    let case = CASES.iter().find(|case| case.name == name);
    case.ok_or_else(|| "no such case; `moormq-core-cost list` names them".to_owned())
}

impl Case {
    /// Runs it.
    pub fn run(&self, turns: u64) -> Run {
        if self.hooked {
            let chain = || NoHooks.hook(Undecided::default()).hook(Undecided::default()).hook(Agreeing::default());
            self.run_with(chain, turns)
        } else {
            self.run_with(|| NoHooks, turns)
        }
    }

    fn run_with<C: Chain>(&self, chain: impl Fn() -> C, turns: u64) -> Run {
        let mut rig = Rig::new(self.shards, chain);
        if self.stored {
            rig.store();
        }
        let last = self.shards - 1;
        for number in 0..self.subscribers {
            rig.subscriber(number, last, self.version, &self.filter(number), self.qos);
        }
        for number in 0..self.publishers {
            rig.publisher(number, 0, self.version, &self.topic(number), self.qos);
        }
        let step = Duration::from_millis(1);
        (0..WARM_UP).for_each(|_| rig.turn(step));
        let before = rig.deliveries();
        let counted = allocation_counter::measure(|| (0..turns).for_each(|_| rig.turn(step)));
        let run = Run { deliveries: rig.deliveries() - before, allocations: counted.count_total };
        assert_eq!(run.deliveries, turns * self.deliveries_a_turn(), "{}: messages were lost", self.name);
        run
    }

    /// How many deliveries a turn causes.
    pub fn deliveries_a_turn(&self) -> u64 {
        let copies = if self.topology == Topology::OneTopic { self.subscribers } else { 1 };
        (self.publishers * usize::from(BATCH) * copies) as u64
    }

    fn topic(&self, publisher: usize) -> String {
        match self.topology {
            Topology::OneTopic => "perf/all".to_owned(),
            Topology::Pairs | Topology::Shared => format!("perf/{publisher}/data"),
        }
    }

    fn filter(&self, subscriber: usize) -> String {
        match self.topology {
            Topology::Shared => "$share/group/perf/+/data".to_owned(),
            Topology::OneTopic | Topology::Pairs => self.topic(subscriber),
        }
    }
}

impl Run {
    /// The line that the program prints.
    pub fn line(&self) -> String {
        format!("{} deliveries, {} allocations", self.deliveries, self.allocations)
    }

    /// The run in a line of [`line`](Run::line).
    pub fn parse(text: &str) -> Option<Run> {
        let (deliveries, rest) = text.trim().split_once(" deliveries, ")?;
        let allocations = rest.strip_suffix(" allocations")?;
        Some(Run { deliveries: deliveries.parse().ok()?, allocations: allocations.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_delivers_all_and_twice_as_much_costs_twice_the_allocations() {
        for case in CASES {
            let [once, twice, again] = [4, 8, 4].map(|turns| case.run(turns));
            assert_eq!(once, again, "{}", case.name);
            assert_eq!(twice.deliveries, 2 * once.deliveries, "{}", case.name);
            assert!(twice.allocations <= 2 * once.allocations + 8, "{}: {once:?}, {twice:?}", case.name);
        }
    }

    #[test]
    fn a_printed_run_is_read_back() {
        let run = Run { deliveries: 2000, allocations: 17 };
        assert_eq!(Run::parse(&format!("{}\n", run.line())), Some(run));
        assert_eq!(Run::parse("nothing"), None);
    }
}
