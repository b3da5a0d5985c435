//! Histories: what happens to a broker, as plain data. A seed makes one; a step can be taken out without touching the others.

use moormq::codec::{ProtocolVersion, QoS};
use moormq::config::{Config, HookDeadline, Limit, OnDeadline, QueueType, SharedPolicy, UnauthorizedPublish};
use moormq::random::Random;
use std::time::Duration;

/// How many devices there are, each with a client id of its own.
pub const DEVICES: usize = 5;
/// The device that looks at what is left in the end; no step is about it.
pub const PROBE: usize = DEVICES;

/// Topics. Shared subscriptions have theirs for themselves, so that it is known through what a message came.
pub const TOPICS: [&str; 6] = ["a/x", "a/y", "b/x", "a/w", "s/p/x", "s/p/y"];
/// From this one on, topics belong to shared subscriptions.
pub const FIRST_SHARED_TOPIC: usize = 4;
/// Filters that clients subscribe to.
pub const FILTERS: [&str; 9] =
    ["a/x", "a/y", "a/+", "+/x", "a/#", "+/+", "$share/g/s/p/+", "$share/g/s/p/x", "$share/h/s/p/#"];
/// From this one on they are shared.
pub const FIRST_SHARED_FILTER: usize = 6;

/// Whether filter number `filter` matches topic number `topic`.
pub fn matches(filter: usize, topic: usize) -> bool {
    let wanted = FILTERS[filter].strip_prefix("$share/").map_or(FILTERS[filter], |rest| &rest[2..]);
    let mut given = TOPICS[topic].split('/');
    for level in wanted.split('/') {
        match (level, given.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(given)) if level == given => {}
            _ => return false,
        }
    }
    given.next().is_none()
}

/// What a link of the chain does when it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plan {
    /// Nothing special: the last link accepts.
    #[default]
    Accept,
    /// The second link says no.
    Refuse,
    /// The second link panics.
    Panic,
    /// The second link has no opinion, and takes its time to say so.
    Later,
    /// The first link accepts, later.
    AcceptLater,
    /// The second link says no, later.
    RefuseLater,
    /// The second link panics in its later answer.
    PanicLater,
    /// The first link never answers.
    Never,
    /// The last link changes the question: another topic, for a publish.
    Rewrite,
}

impl Plan {
    pub const ALL: [Plan; 9] = [
        Plan::Accept,
        Plan::Refuse,
        Plan::Panic,
        Plan::Later,
        Plan::AcceptLater,
        Plan::RefuseLater,
        Plan::PanicLater,
        Plan::Never,
        Plan::Rewrite,
    ];

    /// Whether it may end in a refusal: what comes later may come too late.
    pub fn refuses(self) -> bool {
        !matches!(self, Plan::Accept | Plan::Rewrite)
    }
}

/// Under which name a device goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Its client id.
    Plain,
    /// One that a hook rewrites to its client id.
    Alias,
    /// One that a hook rewrites to its client id in another mountpoint.
    Mounted,
}

impl Name {
    /// Which of its two identities it is: without or with mountpoint.
    pub fn mount(self) -> usize {
        usize::from(self == Name::Mounted)
    }

    pub fn client_id(self, device: usize) -> String {
        let first = match self {
            Name::Plain => 'c',
            Name::Alias => 'r',
            Name::Mounted => 'm',
        };
        format!("{first}{device}")
    }
}

/// The mountpoints.
pub const MOUNTS: [&str; 2] = ["", "m"];

/// A will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bequest {
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    /// Seconds.
    pub delay: u8,
    pub plan: Plan,
}

/// What a CONNECT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    pub name: Name,
    pub version: ProtocolVersion,
    pub clean: bool,
    /// Seconds; MQTT 5 only.
    pub expiry: u16,
    pub will: Option<Bequest>,
    /// Seconds.
    pub keep_alive: u8,
    /// 0: none.
    pub receive_maximum: u8,
    pub small_packets: bool,
    pub plan: Plan,
    /// What its notifications do, by bits: see `links`.
    pub notices: u8,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A device connects; whatever connection it has is left as it is.
    Connect {
        device: usize,
        shard: usize,
        hello: Hello,
    },
    Subscribe {
        device: usize,
        filter: usize,
        qos: QoS,
        no_local: bool,
        plan: Plan,
    },
    Unsubscribe {
        device: usize,
        filter: usize,
        plan: Plan,
    },
    Publish {
        device: usize,
        topic: usize,
        qos: QoS,
        retain: bool,
        large: bool,
        expiry: Option<u8>,
        plan: Plan,
    },
    /// Clears what is retained.
    Clear {
        device: usize,
        topic: usize,
    },
    /// Leaves with a DISCONNECT.
    Disconnect {
        device: usize,
        with_will: bool,
        expiry: Option<u16>,
    },
    /// Leaves without; what is on its way is lost if it is `abrupt`.
    HangUp {
        device: usize,
        abrupt: bool,
    },
    /// Takes no output any more, or goes on.
    Stick {
        device: usize,
        on: bool,
    },
    /// Acknowledges nothing any more, or goes on.
    Lazy {
        device: usize,
        on: bool,
    },
    /// Does not keep its connection alive any more.
    Silent {
        device: usize,
    },
    /// The slot of a device moves.
    Move {
        device: usize,
        mount: usize,
        to: usize,
    },
    /// An operator ends a connection.
    Admin {
        device: usize,
        mount: usize,
        shard: usize,
        cleanup: bool,
    },
    /// The mailbox between two shards is full.
    Congest {
        from: usize,
        to: usize,
    },
    /// A socket that is being handed over breaks.
    Break {
        pick: usize,
    },
    /// Time passes.
    Advance {
        millis: u16,
    },
    /// Chance carries some of what is on its way.
    Run {
        seed: u32,
        turns: u8,
    },
    /// Everything that is on its way arrives.
    Settle {
        seed: u32,
    },
}

/// How the broker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub shards: usize,
    pub seed: u64,
    pub inflight: u16,
    /// Messages that may wait, online and offline; none: many.
    pub queue: Option<usize>,
    pub lifo: bool,
    pub policy: SharedPolicy,
    pub suppress_will: bool,
    pub ignores_refused: bool,
    pub takeover_limit: Option<u32>,
    /// Seconds that a kept session of MQTT 3 is kept.
    pub expiry_v3: Option<u16>,
    pub allows_late: bool,
    /// The history ends with an orderly stop.
    pub stops: bool,
}

impl Setup {
    fn random(random: &mut Random, seed: u64) -> Self {
        let policies = [
            SharedPolicy::Random,
            SharedPolicy::RoundRobin,
            SharedPolicy::Sticky,
            SharedPolicy::HashPublisher,
            SharedPolicy::LocalFirst,
        ];
        Setup {
            shards: [1, 2, 2, 3, 3, 4, 4, 8][random.below(8)],
            seed,
            inflight: [1, 2, 3, 10, 100][random.below(5)],
            queue: [None, None, None, Some(2)][random.below(4)],
            lifo: random.below(8) == 0,
            policy: policies[random.below(5)],
            suppress_will: random.below(6) == 0,
            ignores_refused: random.below(2) == 0,
            takeover_limit: [None, None, None, Some(2)][random.below(4)],
            expiry_v3: [None, Some(4)][random.below(2)],
            allows_late: random.below(4) == 0,
            stops: random.below(8) == 0,
        }
    }

    /// The configuration of the broker.
    pub fn config(&self) -> Config {
        let mut config = Config { allow_anonymous: true, ..Config::default() };
        config.sys.interval = Duration::ZERO;
        config.limits.max_inflight_messages = self.inflight;
        if let Some(most) = self.queue {
            config.queue.max_online_messages = Limit::at_most(most);
            config.queue.max_offline_messages = Limit::at_most(most);
        }
        config.queue.queue_type = if self.lifo { QueueType::Lifo } else { QueueType::Fifo };
        config.queue.max_waiting_output_bytes = 4096;
        config.shared.policy = self.policy;
        config.session.suppress_will_on_takeover = self.suppress_will;
        config.session.takeover_limit = self.takeover_limit;
        config.session.persistent_session_expiry = self.expiry_v3.map(|seconds| Duration::from_secs(seconds.into()));
        if self.ignores_refused {
            config.session.unauthorized_publish = UnauthorizedPublish::Ignore;
        }
        config.hooks.later_deadline = Duration::from_secs(1);
        if self.allows_late {
            let late = |name: &str| HookDeadline {
                name: name.to_owned(),
                on_deadline: Some(OnDeadline::Allow),
                ..HookDeadline::default()
            };
            config.hooks.each = vec![late("auth_on_publish"), late("auth_on_publish_m5"), late("auth_on_subscribe")];
        }
        config.check().expect("the simulator configures what makes sense");
        config
    }
}

/// What a seed stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

impl History {
    /// The history of `seed`.
    pub fn of(seed: u64) -> Self {
        let mut maker = Maker::new(seed);
        let setup = maker.setup;
        let count = 15 + maker.random.below(70);
        let mut steps = Vec::with_capacity(count * 2 + DEVICES);
        for device in 0..DEVICES {
            if maker.random.below(4) > 0 {
                steps.push(maker.connect(device));
            }
        }
        for _ in 0..count {
            steps.push(maker.step());
            if maker.random.below(3) > 0 {
                steps.push(maker.run());
            }
        }
        History { setup, steps }
    }
}

/// Makes steps by chance. How often each kind comes differs from seed to seed, and some never come.
struct Maker {
    random: Random,
    setup: Setup,
    weights: [u16; 17],
    /// How often hooks do anything special, in 16.
    trouble: usize,
    /// What most connects have in common.
    clean: usize,
    kept: u16,
    turns: usize,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut random = Random::from_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x51);
        let setup = Setup::random(&mut random, seed);
        // Connect, subscribe, unsubscribe, publish, clear, disconnect, hang up, stick, lazy, silent, move, admin, congest,
        // break, advance, settle, storm.
        let usual = [8, 8, 2, 16, 1, 3, 4, 2, 2, 1, 4, 1, 1, 1, 4, 2, 1];
        let weights = usual.map(|weight| weight * [0, 1, 1, 2, 4][random.below(5)]);
        Maker {
            weights: weights.map(|weight| weight as u16),
            trouble: [0, 0, 1, 4][random.below(4)],
            clean: [0, 4, 12, 16][random.below(4)],
            kept: [0, 2, 600, 600][random.below(4)],
            turns: [2, 8, 20, 50][random.below(4)],
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

    fn seed(&mut self) -> u32 {
        self.random.u64() as u32
    }

    fn run(&mut self) -> Step {
        let turns = 1 + self.random.below(self.turns);
        Step::Run { seed: self.seed(), turns: turns as u8 }
    }

    fn shard(&mut self) -> usize {
        self.random.below(self.setup.shards)
    }

    fn expiry(&mut self) -> u16 {
        [0, self.kept, self.kept, self.kept, 3, 600][self.random.below(6)]
    }

    fn connect(&mut self, device: usize) -> Step {
        let version = [ProtocolVersion::V5, ProtocolVersion::V5, ProtocolVersion::V311, ProtocolVersion::V31];
        let will = self.of(5).then(|| Bequest {
            topic: [3, 3, 0, 4][self.random.below(4)],
            qos: self.qos(),
            retain: self.of(3),
            delay: [0, 0, 1, 5][self.random.below(4)],
            plan: self.plan(),
        });
        let will = will.map(|will| Bequest { retain: will.retain && will.topic < FIRST_SHARED_TOPIC, ..will });
        let hello = Hello {
            name: [Name::Plain, Name::Plain, Name::Plain, Name::Alias, Name::Mounted][self.random.below(5)],
            version: version[self.random.below(4)],
            clean: self.of(self.clean),
            expiry: self.expiry(),
            will,
            keep_alive: [0, 0, 10][self.random.below(3)],
            receive_maximum: [0, 0, 1, 2, 5][self.random.below(5)],
            small_packets: self.of(1),
            plan: self.plan(),
            notices: if self.of(self.trouble) { self.random.u64() as u8 } else { 0 },
        };
        Step::Connect { device, shard: self.shard(), hello }
    }

    fn publish(&mut self, device: usize) -> Step {
        let topic = self.random.below(TOPICS.len());
        let retain = topic < FIRST_SHARED_TOPIC && self.of(3);
        Step::Publish {
            device,
            topic,
            qos: self.qos(),
            retain,
            large: self.of(3),
            expiry: (!retain && self.of(1)).then(|| 1 + self.random.below(3) as u8),
            plan: self.plan(),
        }
    }

    fn step(&mut self) -> Step {
        let total: u16 = self.weights.iter().sum();
        let mut at = self.random.below(usize::from(total.max(1))) as u16;
        let mut kind = 0;
        while kind < 16 && at >= self.weights[kind] {
            at -= self.weights[kind];
            kind += 1;
        }
        let device = self.random.below(DEVICES);
        let mount = usize::from(self.of(3));
        match kind {
            0 | 16 => self.connect(device),
            1 => Step::Subscribe {
                device,
                filter: self.random.below(FILTERS.len()),
                qos: self.qos(),
                no_local: self.of(2),
                plan: self.plan(),
            },
            2 => Step::Unsubscribe { device, filter: self.random.below(FILTERS.len()), plan: self.plan() },
            3 => self.publish(device),
            4 => Step::Clear { device, topic: self.random.below(FIRST_SHARED_TOPIC) },
            5 => Step::Disconnect { device, with_will: self.of(4), expiry: self.of(4).then(|| self.expiry()) },
            6 => Step::HangUp { device, abrupt: self.of(8) },
            7 => Step::Stick { device, on: self.of(8) },
            8 => Step::Lazy { device, on: self.of(8) },
            9 => Step::Silent { device },
            10 => Step::Move { device, mount, to: self.shard() },
            11 => Step::Admin { device, mount, shard: self.shard(), cleanup: self.of(8) },
            12 => Step::Congest { from: self.shard(), to: self.shard() },
            13 => Step::Break { pick: self.random.below(4) },
            14 => Step::Advance { millis: [5, 100, 1000, 3000, 9000][self.random.below(5)] },
            _ => Step::Settle { seed: self.seed() },
        }
    }
}
