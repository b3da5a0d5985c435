//! The generator of random steps.

use moormq::codec::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};
use moormq::random::Random;

use crate::history::{
    Ask, CLIENTS, ConnectOptions, EVERY_TOPIC_FILTER, Exchange, FILTERS, FIRST_SHARED_FILTER, FIRST_SHARED_TOPIC,
    MIRROR, Name, Plan, Setup, Step, TOPICS, WillOptions,
};
use crate::links::notice;

/// A generator of random steps. How often each kind comes differs from seed to seed; some never come.
pub struct Generator {
    pub random: Random,
    pub setup: Setup,
    weights: [u16; 18],
    /// How often hooks do anything special, in 16.
    trouble: usize,
    /// How often the notifications of a client want something done, in 16: a history may have a backend that all of them talk to.
    slow: usize,
    /// What most connects have in common.
    clean: usize,
    kept: u16,
    turns: usize,
    /// How many of the topics and filters are for shared subscriptions, in 16.
    shared: usize,
    /// How often a client publishes several messages at once, in 16.
    bursts: usize,
    /// Whether all clients begin with a subscription to what is not for shared ones.
    pub crowd: bool,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x51);
        let mut setup = Setup::random(&mut random, seed);
        // Connect, subscribe, unsubscribe, publish, clear, disconnect, hang up, stick, lazy, silent, move, admin, congest,
        // break, advance, settle, storm, authenticate again.
        let usual = [8, 8, 2, 16, 1, 3, 4, 2, 2, 1, 4, 1, 1, 1, 4, 2, 1, 2];
        let weights = usual.map(|weight| weight * [0, 1, 1, 2, 4][random.below(5)]);
        let shared = [0, 4, 4, 4, 15][random.below(5)];
        let all_kept = shared > 8 && random.below(2) == 0;
        let crowd = shared <= 8 && random.below(4) == 0;
        if crowd && random.below(2) == 0 {
            // With few shards, several clients share one.
            setup.shards = 1 + random.below(2);
        }
        let is_stored = setup.is_stored();
        if is_stored {
            setup.shards = setup.stored_shards();
        }
        Generator {
            weights: weights.map(|weight| weight as u16),
            trouble: [0, 0, 1, 4][random.below(4)],
            slow: [0, 0, 0, 12][random.below(4)],
            clean: if all_kept { 0 } else { [[0, 4, 12, 16], [0, 0, 2, 8]][usize::from(is_stored)][random.below(4)] },
            kept: if all_kept {
                600
            } else {
                [[0, 2, 600, 600], [5, 600, 600, 600]][usize::from(is_stored)][random.below(4)]
            },
            turns: [2, 8, 20, 50][random.below(4)],
            shared,
            bursts: [0, 1, 4, 12][random.below(4)],
            crowd,
            random,
            setup,
        }
    }

    fn of(&mut self, sixteenths: usize) -> bool {
        self.random.below(16) < sixteenths
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.random.below(4)]
    }

    fn plan(&mut self) -> Plan {
        if self.of(self.trouble) { Plan::ALL[self.random.below(9)] } else { Plan::Accept }
    }

    fn notices(&mut self) -> u8 {
        let which = self.random.u64() as u8;
        if self.of(self.trouble) {
            which
        } else if self.of(self.slow) {
            which & notice::SLOW
        } else {
            0
        }
    }

    fn seed(&mut self) -> u32 {
        self.random.u64() as u32
    }

    pub fn run(&mut self) -> Step {
        let turns = 1 + self.random.below(self.turns);
        Step::Run { seed: self.seed(), turns: turns as u8 }
    }

    fn shard(&mut self) -> usize {
        self.random.below(self.setup.shards)
    }

    fn expiry(&mut self) -> u16 {
        [0, self.kept, self.kept, self.kept, 3, 600][self.random.below(6)]
    }

    fn exchange(&mut self) -> Exchange {
        Exchange { rounds: self.random.below(3) as u8, plan: self.plan() }
    }

    pub fn connect(&mut self, client: usize) -> Step {
        let version = [ProtocolVersion::V5, ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31];
        let will = self.of(5).then(|| WillOptions {
            topic: if self.shared > 8 { FIRST_SHARED_TOPIC } else { [3, 3, 0, 4][self.random.below(4)] },
            qos: self.qos(),
            retain: self.of(3),
            delay: [0, 0, 1, 5][self.random.below(4)],
            plan: self.plan(),
        });
        let will = will.map(|will| WillOptions { retain: will.retain && will.topic < FIRST_SHARED_TOPIC, ..will });
        let versions = if client == MIRROR { [ProtocolVersion::V5; 4] } else { version };
        let version = versions[self.random.below(4)];
        let exchange = if version == ProtocolVersion::V5 && self.of(3) { Some(self.exchange()) } else { None };
        let options = ConnectOptions {
            name: [Name::Plain, Name::Plain, Name::Plain, Name::Alias, Name::Mounted][self.random.below(5)],
            version,
            clean: self.of(self.clean),
            expiry: self.expiry(),
            will,
            keep_alive: [0, 0, 10][self.random.below(3)],
            receive_maximum: [0, 0, 1, 2, 5][self.random.below(5)],
            small_packets: self.of(1),
            aliases: [0, 0, 1, 5][self.random.below(4)],
            exchange,
            is_strange: exchange.is_some() && self.of(1),
            plan: self.plan(),
            notices: self.notices(),
        };
        Step::Connect { client, shard: self.shard(), options }
    }

    fn publish(&mut self, client: usize) -> Step {
        let topic = self.topic();
        let retain = topic < FIRST_SHARED_TOPIC && self.of(3);
        Step::Publish {
            client,
            topic,
            qos: self.qos(),
            retain,
            large: self.of(3),
            expiry: (!retain && self.of(1)).then(|| 1 + self.random.below(3) as u8),
            alias: [0, 0, 1, 2, 3][self.random.below(5)],
            plan: self.plan(),
            more: if self.of(self.bursts) { 1 + self.random.below(6) as u8 } else { 0 },
        }
    }

    fn filter(&mut self) -> usize {
        if self.shared > 8 {
            // One group alone, so that each message has come through it.
            FIRST_SHARED_FILTER
        } else if self.of(self.shared) {
            FIRST_SHARED_FILTER + self.random.below(FILTERS.len() - FIRST_SHARED_FILTER)
        } else {
            self.random.below(FIRST_SHARED_FILTER)
        }
    }

    fn topic(&mut self) -> usize {
        if self.of(self.shared) {
            FIRST_SHARED_TOPIC + self.random.below(TOPICS.len() - FIRST_SHARED_TOPIC)
        } else {
            self.random.below(FIRST_SHARED_TOPIC)
        }
    }

    fn ask(&mut self, client: usize) -> Ask {
        let filter = self.filter();
        let handling = [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        let is_mirror = client == MIRROR;
        let qos = self.qos();
        // In histories about shared subscriptions no member may lose messages.
        let least = if self.shared > 8 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        let options = SubscriptionOptions {
            qos: qos.max(least),
            no_local: filter < FIRST_SHARED_FILTER && self.of(2),
            retain_as_published: is_mirror,
            retain_handling: if is_mirror { handling[2] } else { handling[[0, 0, 1, 2][self.random.below(4)]] },
        };
        Ask { filter, options }
    }

    /// The first subscription of one client of a crowd.
    pub fn join(&mut self, client: usize) -> Step {
        let ask = Ask { filter: EVERY_TOPIC_FILTER, ..self.ask(client) };
        Step::Subscribe { client, ask, second: None, id: 0, plan: Plan::Accept }
    }

    fn subscribe(&mut self, client: usize) -> Step {
        let ask = self.ask(client);
        let second = if self.of(4) { Some(self.ask(client)) } else { None };
        Step::Subscribe { client, ask, second, id: [0, 0, 1, 2, 3][self.random.below(5)], plan: self.plan() }
    }

    pub fn step(&mut self) -> Step {
        let total: u16 = self.weights.iter().sum();
        let mut at = self.random.below(usize::from(total.max(1))) as u16;
        let mut kind = 0;
        while kind < 17 && at >= self.weights[kind] {
            at -= self.weights[kind];
            kind += 1;
        }
        let client = self.random.below(CLIENTS);
        let mount = usize::from(self.of(3));
        match kind {
            0 | 16 => self.connect(client),
            1 => self.subscribe(client),
            2 => Step::Unsubscribe { client, filter: self.filter(), plan: self.plan() },
            3 => self.publish(client),
            4 => Step::Clear { client, topic: self.random.below(FIRST_SHARED_TOPIC) },
            5 => Step::Disconnect { client, with_will: self.of(4), expiry: self.of(4).then(|| self.expiry()) },
            6 => Step::HangUp { client, abrupt: self.of(8) },
            7 => Step::Stick { client, on: self.of(8) },
            8 => Step::Lazy { client, on: self.of(8) },
            9 => Step::Silent { client },
            10 => Step::Move { client, mount, to: self.shard() },
            11 => Step::Admin { client, mount, shard: self.shard(), cleanup: self.of(8) },
            12 => Step::Congest { from: self.shard(), to: self.shard() },
            13 => Step::Break { pick: self.random.below(4) },
            14 => Step::Advance { millis: [5, 100, 1000, 3000, 9000][self.random.below(5)] },
            17 => Step::Reauthenticate { client, exchange: self.exchange() },
            _ => Step::Settle { seed: self.seed() },
        }
    }
}
