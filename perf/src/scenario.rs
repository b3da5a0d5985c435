//! What a scenario is, as data: who talks to whom, how much, how hard. The list of all of them is in [`catalogue`](crate::catalogue).

use moormq::codec::{ProtocolVersion, QoS};

/// Something to measure brokers with.
#[derive(Debug)]
pub struct Scenario {
    /// What it is called on the command line and in reports.
    pub name: &'static str,
    /// What happens, for people.
    pub about: &'static str,
    /// What happens, for the generator.
    pub kind: Kind,
    /// Who is measured with it.
    pub contenders: Contenders,
    /// The limits in the configuration of the brokers.
    pub limits: Limits,
}

/// The families of scenarios.
#[derive(Debug)]
pub enum Kind {
    /// Messages flow from publishers to subscribers.
    Messages(Messages),
    /// Messages at one rate after the other, until the broker cannot keep up: the load in it is only where that begins.
    Curve(Messages, &'static [u32]),
    /// Clients connect and then stay, silent or nearly so.
    Connections(Connections),
    /// `emqtt_bench` makes the load, if it is there.
    Bench(Bench),
}

/// Who is measured.
#[derive(Clone, Copy, Debug)]
pub enum Contenders {
    /// The brokers that were asked for.
    Brokers,
    /// moormq against itself, if it was asked for.
    Variants(&'static [Variant]),
    /// Likewise in memory and with a store, beside what its writes cost alone, and Mosquitto with its persistence if that was asked for.
    Stores(&'static [Variant]),
}

/// moormq as a program embeds it, in one of several ways.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant {
    /// What it is called in reports.
    pub name: &'static str,
    /// Its hooks.
    pub links: Links,
    /// Its shards and cores.
    pub layout: CoreLayout,
    /// The shards of publishers and subscribers.
    pub placement: ShardPlacement,
    /// What it keeps.
    pub storage: Storage,
}

/// Where a variant keeps what it has acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In memory.
    Memory,
    /// In a store whose files the kernel writes when it likes.
    Flushed,
    /// In a store, and on the disk.
    Fsynced,
}

/// The hooks of a variant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    /// None.
    None,
    /// Three links, each with all hooks that a message calls, which answer now.
    Three,
    /// One link, which writes the shard of each client into a file and has no hook for messages.
    ClientShards,
}

/// The number of shards of a variant, and their cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreLayout {
    /// One shard on the core of the brokers.
    Own,
    /// One shard on the core of the generator.
    WithGenerator,
    /// Two shards on the core of the brokers.
    TwoOnOne,
    /// Two shards on a core each; the second core is that of the generator if there is no third.
    Two,
}

/// Which shard clients belong to, in a broker of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ShardPlacement {
    /// Whichever their names lead to.
    Any,
    /// Publisher and subscriber of a pair to the same; the pairs take turns.
    Within,
    /// Publisher and subscriber of a pair to different ones; the pairs take turns.
    Across,
}

/// The limits in the configuration of brokers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limits {
    /// As much as they can: what is measured is work, not refusals.
    Lifted,
    /// What they allow by default: what is measured is how they protect themselves.
    Default,
}

/// Messages from publishers to subscribers.
#[derive(Clone, Copy, Debug)]
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
    /// How many of the subscribers, the last ones, read nothing once they have subscribed. Their messages are not counted.
    pub stuck: usize,
    /// Whether sessions are kept when connections end.
    pub kept: bool,
}

/// Which subscriber gets whose messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// Publisher and subscriber of the same number share so many topics, which nobody else uses.
    Pairs(usize),
    /// All publish to one topic, all subscribe to it.
    OneTopic,
    /// A topic for each publisher, and every subscriber has a wildcard over all of them.
    Wildcard,
    /// A topic for each publisher; the subscribers are the members of one shared subscription to all of them.
    Shared,
    /// Every subscriber has so many filters, each with a wildcard; every message matches one filter of all, and the publishers share the topics.
    Scattered(usize),
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
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// How many connect, all together.
    pub count: usize,
    /// How many are between connect and CONNACK at a time.
    pub at_a_time: usize,
    /// Over how many client ids they go round: more clients than ids take sessions over from each other, which are kept ones then.
    pub ids: usize,
    /// The keep-alive that they ask for, in seconds, if somebody is to look what it costs to have them: first in silence, then
    /// with the pings that are due.
    pub keep_alive: Option<u16>,
}

/// The load that `emqtt_bench` makes. It speaks MQTT 3.1.1.
#[derive(Clone, Copy, Debug)]
pub struct Bench {
    /// How many clients publish.
    pub publishers: usize,
    /// How many subscribe.
    pub subscribers: usize,
    /// The topic; `%i` stands for the number of a client, so that publisher and subscriber of the same number are a pair.
    pub topic: &'static str,
    /// The QoS of publishes and subscriptions.
    pub qos: QoS,
    /// Bytes of payload.
    pub payload: usize,
    /// How often each publisher publishes, in milliseconds.
    pub interval: u32,
}

impl CoreLayout {
    /// How many shards.
    pub fn shards(self) -> usize {
        match self {
            CoreLayout::Own | CoreLayout::WithGenerator => 1,
            CoreLayout::TwoOnOne | CoreLayout::Two => 2,
        }
    }
}

impl Scenario {
    /// Whether moormq is measured against itself.
    pub fn is_of_variants(&self) -> bool {
        matches!(self.contenders, Contenders::Variants(_))
    }

    /// Whether it is about stores.
    pub fn is_of_stores(&self) -> bool {
        matches!(self.contenders, Contenders::Stores(_))
    }

    /// Whether messages are published as fast as the broker lets them.
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.kind, Kind::Messages(Messages { load: Load::Closed { .. }, .. }))
    }
}

impl Messages {
    /// How many deliveries a message causes.
    pub fn copies(&self) -> usize {
        match self.topology {
            Topology::Pairs(_) | Topology::Shared | Topology::Scattered(_) => 1,
            Topology::OneTopic | Topology::Wildcard => self.subscribers - self.stuck,
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
