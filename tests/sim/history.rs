//! Histories: the events of a simulation, as plain data. A seed makes one; a step can be removed without touching the others.

use moormq::codec::{ProtocolVersion, QoS, RetainHandling, SubscriptionOptions};
use moormq::config::{Config, HookDeadline, Limit, OnDeadline, QueueType, SharedPolicy, UnauthorizedPublish};
use moormq::memory::MemoryStage;
use moormq::random::Random;
use moormq::shard::TurnLimits;
use std::time::Duration;

use crate::generator::Generator;
use crate::scenes::scene;
use crate::storing::{add_backups, add_crashes};

/// How many clients there are, each with a client id of its own.
pub const CLIENTS: usize = 5;
/// The client whose subscriptions have Retain As Published and no retained messages: a message with RETAIN set reaches it
/// because it was published, never because it was stored. It speaks MQTT 5.
pub const MIRROR: usize = CLIENTS - 1;
/// The client that checks what is left in the end; no step is about it.
pub const PROBE: usize = CLIENTS;

/// Topics. Shared subscriptions have topics of their own, so that a message shows which kind of subscription it came through.
pub const TOPICS: [&str; 6] = ["a/x", "a/y", "b/x", "a/w", "s/p/x", "s/p/y"];
/// From this one on, topics belong to shared subscriptions.
pub const FIRST_SHARED_TOPIC: usize = 4;
/// Filters that clients subscribe to. One matches no topic, and has a shape that counts.
pub const FILTERS: [&str; 10] = [
    "a/x",
    "a/y",
    "a/+",
    "+/x",
    "a/#",
    "+/+",
    "+/+/+/+/+/+/+/+/+/#",
    "$share/g/s/p/+",
    "$share/g/s/p/x",
    "$share/h/s/p/#",
];
/// The filter that matches every topic but those of shared subscriptions.
pub const EVERY_TOPIC_FILTER: usize = 5;
/// From this one on they are shared.
pub const FIRST_SHARED_FILTER: usize = 7;

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
    /// The second link answers *Next*, later.
    Later,
    /// The first link accepts, later.
    AcceptLater,
    /// The second link says no, later.
    RefuseLater,
    /// The second link panics in its later answer.
    PanicLater,
    /// The first link never answers.
    Never,
    /// The last link accepts with modifiers: another topic, for a publish.
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

    /// Whether it may end in a refusal: a later answer may come too late.
    pub fn refuses(self) -> bool {
        !matches!(self, Plan::Accept | Plan::Rewrite)
    }
}

/// The client id that a client sends in CONNECT.
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

    pub fn client_id(self, client: usize) -> String {
        let first = match self {
            Name::Plain => 'c',
            Name::Alias => 'r',
            Name::Mounted => 'm',
        };
        format!("{first}{client}")
    }
}

/// The mountpoints.
pub const MOUNTS: [&str; 2] = ["", "m"];

/// A will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillOptions {
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    /// Seconds.
    pub delay: u8,
    pub plan: Plan,
}

/// An enhanced authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// How often the client is asked once more.
    pub rounds: u8,
    /// How it ends.
    pub plan: Plan,
}

impl Exchange {
    /// The authentication data of both sides: how many rounds are left, and how it ends.
    pub fn data(self) -> [u8; 2] {
        [self.rounds, self.plan as u8]
    }

    /// What `data` says.
    pub fn read(data: Option<&[u8]>) -> Self {
        let [rounds, plan] = data.and_then(|data| data.try_into().ok()).unwrap_or_default();
        Exchange { rounds, plan: Plan::ALL[usize::from(plan) % Plan::ALL.len()] }
    }
}

/// The method that the hooks know, and one that they do not.
pub const METHODS: [&str; 2] = ["known", "strange"];

/// The fields of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    pub name: Name,
    pub version: ProtocolVersion,
    pub clean: bool,
    /// Seconds; MQTT 5 only.
    pub expiry: u16,
    pub will: Option<WillOptions>,
    /// Seconds.
    pub keep_alive: u8,
    /// 0: none.
    pub receive_maximum: u8,
    pub small_packets: bool,
    /// Topic Alias Maximum; MQTT 5 only.
    pub aliases: u8,
    /// MQTT 5 only.
    pub exchange: Option<Exchange>,
    /// The hooks do not know the method.
    pub is_strange: bool,
    pub plan: Plan,
    /// What its notifications do, by bits: see `links`.
    pub notices: u8,
}

impl ConnectOptions {
    /// Those of a plain CONNECT; its session is kept unless it is `clean`.
    pub fn plain(name: Name, version: ProtocolVersion, clean: bool) -> Self {
        ConnectOptions {
            name,
            version,
            clean,
            expiry: if clean { 0 } else { 600 },
            will: None,
            keep_alive: 0,
            receive_maximum: 0,
            small_packets: false,
            aliases: 0,
            exchange: None,
            is_strange: false,
            plan: Plan::Accept,
            notices: 0,
        }
    }
}

/// A filter of a SUBSCRIBE and its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub filter: usize,
    pub options: SubscriptionOptions,
}

impl Ask {
    pub fn plain(filter: usize, qos: QoS) -> Self {
        Ask { filter, options: SubscriptionOptions::new(qos) }
    }

    /// Whether it may bring retained messages: always, or if its subscription is new.
    pub fn wants_retained(&self) -> bool {
        self.filter < FIRST_SHARED_FILTER && self.options.retain_handling != RetainHandling::DoNotSend
    }
}

/// One event of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A client connects; whatever connection it has is left as it is.
    Connect {
        client: usize,
        shard: usize,
        options: ConnectOptions,
    },
    Subscribe {
        client: usize,
        ask: Ask,
        second: Option<Ask>,
        /// Subscription Identifier; 0: none.
        id: u8,
        plan: Plan,
    },
    Unsubscribe {
        client: usize,
        filter: usize,
        plan: Plan,
    },
    Publish {
        client: usize,
        topic: usize,
        qos: QoS,
        retain: bool,
        large: bool,
        expiry: Option<u8>,
        /// Topic Alias; 0: none.
        alias: u8,
        plan: Plan,
        /// How many more it publishes in the same way at once.
        more: u8,
    },
    /// Authenticates again on a live connection, if it did when it connected.
    Reauthenticate {
        client: usize,
        exchange: Exchange,
    },
    /// Clears the retained message of a topic.
    Clear {
        client: usize,
        topic: usize,
    },
    /// Sends DISCONNECT.
    Disconnect {
        client: usize,
        with_will: bool,
        expiry: Option<u16>,
    },
    /// Closes the connection without DISCONNECT; what is on its way is lost if it is `abrupt`.
    HangUp {
        client: usize,
        abrupt: bool,
    },
    /// Stops or resumes reading.
    Stick {
        client: usize,
        on: bool,
    },
    /// Stops or resumes acknowledging.
    Lazy {
        client: usize,
        on: bool,
    },
    /// Sends no PINGREQ any more.
    Silent {
        client: usize,
    },
    /// The slot of a client moves.
    Move {
        client: usize,
        mount: usize,
        to: usize,
    },
    /// An operator ends a connection.
    Admin {
        client: usize,
        mount: usize,
        shard: usize,
        cleanup: bool,
    },
    /// The mesh from one shard to another is full.
    Congest {
        from: usize,
        to: usize,
    },
    /// How much memory there is: on all shards, or on one that is the first to see it.
    Memory {
        stage: MemoryStage,
        shard: Option<usize>,
    },
    /// The broker dies and starts again, with a store.
    Crash {
        seed: u32,
        /// How long it is down.
        millis: u32,
        /// What is in the caches of the disks is lost, or some of it.
        loses_power: bool,
        /// It dies once more while it starts.
        again: bool,
        /// How many shards it has then.
        shards: usize,
    },
    /// The store is copied, the broker goes on for some turns, and ends; the next one has the copy.
    Backup {
        seed: u32,
        turns: u8,
        /// How long it is down.
        millis: u32,
        /// How many shards it has then.
        shards: usize,
    },
    /// The next write of a journal fails.
    FailWrite {
        shard: usize,
    },
    /// A disk is full, or has room again.
    FillDisk {
        shard: usize,
        on: bool,
    },
    /// The next change of the archive fails.
    FailArchive,
    /// The archive is full, or has room again.
    FillArchive {
        on: bool,
    },
    /// A socket that is being handed over breaks.
    Break {
        pick: usize,
    },
    /// Time passes.
    Advance {
        millis: u16,
    },
    /// Some of what is on its way arrives, in random order.
    Run {
        seed: u32,
        turns: u8,
    },
    /// Everything that is on its way arrives.
    Settle {
        seed: u32,
    },
}

/// How many topic aliases the broker takes, and uses.
pub const MOST_ALIASES: u16 = 3;

/// How long hooks that answer later may take.
pub const LATER_DEADLINE: Duration = Duration::from_secs(1);

/// How many bytes of output may wait for a client.
pub const OUTPUT_BYTES: usize = 4096;

/// How long publishers wait for a client at most.
pub const PATIENCE: Duration = Duration::from_millis(20);

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
    /// Messages come at the QoS of the subscription.
    pub upgrades_qos: bool,
    /// The history ends with an orderly stop.
    pub stops: bool,
}

impl Setup {
    pub fn random(random: &mut Random, seed: u64) -> Self {
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
            upgrades_qos: random.below(6) == 0,
        }
    }

    /// How much is done in a turn: in some histories so little that clients, and parts of what they ask for, often have to wait.
    pub fn turn(&self) -> TurnLimits {
        match self.seed % 5 {
            0 => TurnLimits { share: 1, turn: 40, at_once: 1, portion: 1, under_way: 2 },
            1 => TurnLimits { share: 12, turn: 60, at_once: 2, portion: 2, under_way: 8 },
            _ => TurnLimits::default(),
        }
    }

    /// Whether what is published below `a` must not be dropped for connected clients.
    pub fn is_lossless(&self) -> bool {
        self.seed % 7 == 3
    }

    /// How many bytes may wait in the queue of a session, if that is little.
    pub fn queue_bytes(&self) -> Option<usize> {
        match self.seed % 11 {
            5 => Some(4 << 10),
            7 => Some(2 << 10),
            _ => None,
        }
    }

    /// How many bytes may be on their way from one shard to another: in some histories so few that publishers often have to wait.
    pub fn mailbox_bytes(&self) -> usize {
        [2 << 20, 2 << 20, 1000][(self.seed % 3) as usize]
    }

    /// Whether that is so little.
    pub fn has_small_mailboxes(&self) -> bool {
        self.mailbox_bytes() < (1 << 20)
    }

    /// Whether there is little memory now and then.
    pub fn has_little_memory(&self) -> bool {
        self.seed % 13 == 4
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
        config.queue.max_waiting_output_bytes = OUTPUT_BYTES;
        config.limits.auth_timeout = Duration::from_secs(3600);
        config.retained.page_messages = [1, 1, 2, 256][(self.seed % 4) as usize];
        // Less than `settle` waits before everything counts as arrived.
        config.queue.publisher_patience = PATIENCE;
        if self.is_lossless() {
            config.queue.lossless_filters = vec!["a/#".into()];
        }
        if let Some(bytes) = self.queue_bytes() {
            config.queue.max_queue_bytes = Limit::at_most(bytes);
        }
        config.shared.policy = self.policy;
        config.session.suppress_will_on_takeover = self.suppress_will;
        config.session.upgrade_qos = self.upgrades_qos;
        config.limits.topic_alias_maximum = MOST_ALIASES;
        config.limits.outbound_topic_aliases = MOST_ALIASES;
        config.session.takeover_limit = self.takeover_limit;
        config.session.persistent_session_expiry = self.expiry_v3.map(|seconds| Duration::from_secs(seconds.into()));
        if self.ignores_refused {
            config.session.unauthorized_publish = UnauthorizedPublish::Ignore;
        }
        config.hooks.later_deadline = LATER_DEADLINE;
        if self.allows_late {
            let late = |name: &str| HookDeadline {
                name: name.to_owned(),
                on_deadline: Some(OnDeadline::Allow),
                ..HookDeadline::default()
            };
            config.hooks.each = vec![late("auth_on_publish"), late("auth_on_publish_m5"), late("auth_on_subscribe")];
        }
        config.check().expect("the simulator configures what makes sense");
        // Less than anybody may configure.
        config.runtime.mailbox_bytes = self.mailbox_bytes();
        config
    }
}

/// A setup and the steps, made from a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

impl History {
    /// The history of `seed`.
    pub fn of(seed: u64) -> Self {
        let mut generator = Generator::new(seed);
        let setup = generator.setup;
        let count = 15 + generator.random.below(70);
        let mut steps = scene(&setup);
        steps.reserve(count * 2 + CLIENTS);
        for client in 0..CLIENTS {
            if generator.random.below(4) > 0 {
                steps.push(generator.connect(client));
            }
        }
        if generator.crowd {
            steps.push(Step::Settle { seed: 0 });
            steps.extend((0..CLIENTS).map(|client| generator.join(client)));
        }
        for _ in 0..count {
            steps.push(generator.step());
            if generator.random.below(3) > 0 {
                steps.push(generator.run());
            }
        }
        if setup.has_little_memory() {
            add_memory(&mut steps, &setup);
        }
        if setup.is_stored() {
            add_crashes(&mut steps, &setup);
            add_backups(&mut steps, &setup);
        }
        History { setup, steps }
    }
}

/// Has memory run short now and then between the steps of a history. The other steps are those that there would be without.
fn add_memory(steps: &mut Vec<Step>, setup: &Setup) {
    use MemoryStage::{Full, Normal, PublishersHeld, RetainedFull};
    let mut random = Random::from_seed(setup.seed ^ 0x3E3);
    let mut at = random.below(CLIENTS + 3);
    while at < steps.len() {
        let stage = [Normal, RetainedFull, PublishersHeld, PublishersHeld, Full, Full][random.below(6)];
        let shard = (random.below(4) == 0).then(|| random.below(setup.shards));
        steps.insert(at, Step::Memory { stage, shard });
        at += 2 + random.below(12);
    }
}
