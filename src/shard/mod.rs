//! The shard: the owner of sessions, subscriptions and retained messages of its share of the clients.
//!
//! A state machine without I/O and with one door. In go events, with the time at which they happen: [`Shard::accepted`],
//! [`Shard::received`], [`Shard::sent`], [`Shard::closed`], [`Shard::arrived`], [`Shard::mail`], [`Shard::hook_answered`],
//! [`Shard::congestion`], [`Shard::tick`], [`Shard::stop`] and the requests of the embedding program. Out come, after each
//! of them: output of connections ([`Shard::take_dirty`], [`Shard::take_output`]), mail for other shards
//! ([`Shard::take_mail`]) and [`Effect`]s. Sockets, tests and the simulator all use this door.
//!
//! It trusts the runtime to hand in every event of a connection in order, and mail of each pair of shards in order. It never
//! reads a clock, never waits and never fails: what a client does wrong ends that client's connection.
//!
//! | file | what |
//! |---|---|
//! | `serve` | bytes to packets, packets to those who handle them |
//! | `connect`, `attempt`, `refuse`, `terms`, `register` | CONNECT: the questions to the hooks, the terms, the place in a session |
//! | `auth` | the exchange of AUTH packets |
//! | `publish`, `acks`, `subscribe` | the other packets |
//! | `route`, `audience`, `share`, `batch`, `deliver`, `frames`, `consumers` | from a publication to its receivers, and back-pressure |
//! | `interest`, `keeper`, `retained` | what other shards must know of subscriptions, and retained messages |
//! | `slot_moves`, `migrate` | slots, and sessions, that move to another shard |
//! | `load`, `balance` | how busy shards and slots are, and which slots should move |
//! | `ending`, `wills` | how connections and sessions end |
//! | `ask`, `notices` | hooks that are asked, and hooks that are told and take their time |
//! | `output` | what goes out to clients |
//! | `clock`, `sys`, `report`, `program` | deadlines, `$SYS`, reports, the embedding program |
//! | `absent` | sessions that make room for newcomers |
//! | `tables`, `listener`, `realm`, `slots`, `mail`, `effect`, `counters`, `held` | what all of them stand on |

mod absent;
mod acks;
mod attempt;
mod audience;
mod auth;
mod balance;
mod batch;
mod clock;
mod connect;
mod consumers;
mod counters;
mod deliver;
mod effect;
mod ending;
mod frames;
mod held;
mod interest;
mod keeper;
mod listener;
mod load;
mod mail;
mod migrate;
mod notices;
mod output;
mod program;
mod publish;
mod realm;
mod refuse;
mod register;
mod report;
mod retained;
mod route;
mod serve;
mod share;
mod slot_moves;
mod subscribe;
mod sys;
mod tables;
mod terms;
mod wills;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

pub use attempt::{Arrival, Attempt};
pub use balance::{BalanceLimits, Balancer, SlotMove, plan};
pub use counters::{Counted, Counters};
pub use effect::Effect;
pub use held::Held;
pub use keeper::{Asked, Found};
pub use load::{Load, ShardLoad, SlotLoad};
pub use mail::{Announcement, Mail, Share, SlotsMoved};
pub use migrate::{Prepare, Transfer};
pub use program::Request;
pub use report::{Report, SlotReport};
pub use slot_moves::{SlotMigration, SlotsMoving};
pub use crate::sharding::{MAX_SHARDS, SLOTS, owner_of, slot_of};

use crate::client::{ConnectionId, SubscriberId};
use crate::codec::ReasonCode;
use crate::config::{Config, SessionsFull};
use crate::connection::{Connection, ConnectionStage, PauseReason, PauseReasons, Outbox, Unread};
use crate::deadlines::Deadlines;
use crate::hooks::{Chain, HookAnswer, HookClock, HookReport};
use crate::message::Block;
use crate::random::Random;
use crate::session::PublicationId;
use crate::time::Time;

use absent::Absent;
use audience::Audience;
use batch::Batch;
use clock::Deadline;
use consumers::{Publisher, SlowConsumers};
use frames::Frames;
use interest::Subscribing;
use keeper::Keeping;
use listener::Listener;
use notices::Notices;
use program::Program;
use realm::Realms;
use crate::sharding::ShardSet;
use slot_moves::Moves;
use crate::sharding::{SlotMap, SlotTraffic};
use tables::{Connections, Sessions};

/// What a shard is told when it is made.
#[derive(Clone)]
pub struct Place {
    /// Which shard it is, from 0.
    pub id: usize,
    /// How many there are, at most [`MAX_SHARDS`].
    pub shards: usize,
    /// The seed of hashes: random, and the same on every shard.
    pub seed: u64,
    /// The version of the broker, as `$SYS` shows it.
    pub version: &'static str,
}

/// One shard. `C` is the chain of hooks.
pub struct Shard<C: Chain> {
    id: usize,
    shards: usize,
    version: &'static str,
    config: Arc<Config>,
    listeners: Vec<Listener>,
    chain: C,
    /// The time of the event that is being handled.
    now: Time,
    random: Random,
    hasher: ahash::RandomState,
    slots: SlotMap,
    traffic: SlotTraffic,

    connections: Connections<Attempt<C::State>>,
    sessions: Sessions<C::State>,
    absent: Absent,
    realms: Realms,
    deadlines: Deadlines<Deadline>,
    /// Hooks that answer later, and who waits.
    tasks: BTreeMap<u64, Task>,
    notices: BTreeMap<SubscriberId, Notices<C::State>>,
    /// Subscriptions that other shards are taking in.
    subscribing: BTreeMap<u64, Subscribing>,
    /// Numbers for tasks, subscriptions and connections: never used twice.
    next_number: u64,
    keeping: Keeping,
    moves: Moves<C::State>,
    /// Moves that this shard prepares for: the old owner and its token, and how many shards have not answered.
    preparing: BTreeMap<u64, (usize, u64, usize)>,
    /// Sessions that came with a cut.
    cutting: Vec<u32>,
    /// How many publications were routed here, and which of them is being delivered, if it is one of here.
    sequence: u64,
    source: PublicationId,
    /// Who published it, if a client did that is to wait when a receiver cannot follow.
    publishing: Option<Publisher>,
    slow_consumers: SlowConsumers,
    /// Of each shard, up to which publication all that it sent here has come.
    heard: Vec<u64>,
    program: Program,
    /// What the other shards counted when they were last heard of.
    others: Vec<Counted>,
    counters: Counters,
    stopping: bool,
    /// [`Effect::Stopped`] has been said.
    stop_announced: bool,

    /// Connections that go to other shards when the effects are taken.
    handing_off: Vec<HandingOff<C::State>>,

    /// What the runtime fetches.
    effects: Vec<Effect<C::State>>,
    dirty: Vec<ConnectionId>,
    outgoing: Vec<Vec<Mail>>,
    /// Shards whose mailboxes are full, and the connections that are not served until they have room.
    congested: ShardSet,
    waiting_for_mailbox: Vec<ConnectionId>,

    /// Room to work in, kept to save allocations.
    /// Boxed, so that lending it moves one word; none while it is lent. While there is a batch, its receivers.
    audience: Option<Box<Audience>>,
    batch: Batch,
    frames: Frames,
    aliased: String,
    fired: Vec<Deadline>,
    spare: Vec<Vec<u8>>,
    /// The packet being served, if it was put together in memory of its own.
    block: Option<Block>,
}

/// A connection that goes to another shard.
struct HandingOff<S> {
    connection: ConnectionId,
    to: usize,
    arrival: Box<Arrival<S>>,
}

/// A hook that answers later.
struct Task {
    waits: Waits,
    /// Its place among the hooks of the configuration.
    hook: &'static str,
    /// The link that answers, and since when it is thinking.
    link: usize,
    asked: Time,
}

/// Who waits for a hook.
enum Waits {
    /// A connection, whose packet it is asked about.
    Connection(ConnectionId),
    /// Whoever has this id: it was told of something.
    Subscriber(SubscriberId),
}

impl<C: Chain> Shard<C> {
    /// A shard without clients. `config` must have been checked.
    pub fn new(place: Place, config: Arc<Config>, chain: C, now: Time) -> Self {
        let Place { id, shards, seed, version } = place;
        assert!(id < shards && shards <= MAX_SHARDS, "shard {id} of {shards}");
        let hasher = crate::sharding::hasher(seed);
        let mut deadlines = Deadlines::new(now);
        if !config.sys.interval.is_zero() {
            deadlines.arm(now + config.sys.interval, Deadline::Sys);
        }
        deadlines.arm(now + clock::SWEEP, Deadline::Sweep);
        Shard {
            id,
            shards,
            version,
            listeners: config.listeners.iter().map(|listener| Listener::new(listener, &config)).collect(),
            chain,
            now,
            random: Random::from_seed(seed ^ (id as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            slots: SlotMap::even(shards, seed),
            traffic: SlotTraffic::new(),
            connections: Connections::new(),
            sessions: Sessions::new(hasher.clone()),
            absent: Absent::new(config.limits.sessions_full == SessionsFull::Expire),
            realms: Realms::new(seed),
            deadlines,
            tasks: BTreeMap::new(),
            notices: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            next_number: 1,
            keeping: Keeping::new(shards),
            moves: Moves::new(),
            preparing: BTreeMap::new(),
            cutting: Vec::new(),
            sequence: 0,
            source: PublicationId::NONE,
            publishing: None,
            slow_consumers: SlowConsumers::default(),
            heard: vec![0; shards],
            program: Program::default(),
            others: vec![Counted::default(); shards],
            counters: Counters::default(),
            stopping: false,
            stop_announced: false,
            handing_off: Vec::new(),
            effects: Vec::new(),
            dirty: Vec::new(),
            outgoing: (0..shards).map(|_| Vec::new()).collect(),
            congested: ShardSet::default(),
            waiting_for_mailbox: Vec::new(),
            audience: None,
            frames: Frames::new(),
            batch: Batch::default(),
            aliased: String::new(),
            fired: Vec::new(),
            spare: Vec::new(),
            block: None,
            hasher,
            config,
        }
    }

    /// A listener accepted a connection. Nothing is sent or called before its CONNECT. `connections` is how many the listener
    /// has on all shards, this one included: the runtime knows.
    pub fn accepted(
        &mut self,
        id: ConnectionId,
        listener: usize,
        peer: SocketAddr,
        connected_at: SystemTime,
        connections: usize,
        now: Time,
    ) {
        self.now = now;
        self.counters.accepted += 1;
        self.add_connection(id, listener, peer, connected_at);
        let shards = self.shards as u32;
        let listener = &mut self.listeners[listener];
        let due = now + listener.connect_timeout;
        let too_fast =
            listener.connection_rate > 0 && listener.rate.exceeds(listener.connection_rate.div_ceil(shards), now);
        let refused = if !listener.max_connections.allows(connections) {
            Some(ReasonCode::QuotaExceeded)
        } else if too_fast {
            Some(ReasonCode::ConnectionRateExceeded)
        } else {
            None
        };
        if let Some(connection) = self.connections.get_mut(id) {
            connection.refused = refused;
        }
        self.arm_connection(id, due);
    }

    /// The far end closed the connection, or it broke.
    pub fn closed(&mut self, id: ConnectionId, now: Time) {
        self.now = now;
        self.connection_lost(id);
    }

    /// A letter from shard `from`.
    pub fn mail(&mut self, from: usize, mail: Mail, now: Time) {
        self.now = now;
        match mail {
            Mail::Publish { sequence, mountpoint, message, number, publisher } => {
                let source = PublicationId { shard: from, sequence };
                self.publishing = publisher.map(|connection| (from, connection));
                self.route_from_mail(source, &mountpoint, &message, number);
                self.publishing = None;
            }
            Mail::Share(share) => self.route_share(from, *share),
            Mail::Subscribe { token, mountpoint, filters, flush } => {
                self.take_in(from, token, &mountpoint, &filters);
                if let Some((shard, token)) = flush.filter(|(shard, _)| *shard != self.id) {
                    self.say_flushed(shard, token);
                }
            }
            Mail::Subscribed { token, told, sequence } => {
                self.has_heard(from, sequence);
                self.taken_in(from, token, told);
            }
            Mail::Unsubscribe { mountpoint, filter } => self.forget_interest(from, &mountpoint, &filter),
            Mail::Group { mountpoint, filter, online, offline } => {
                self.group_elsewhere(from, &mountpoint, &filter, online, offline);
            }
            Mail::Retain { mountpoint, message } => {
                let realm = self.realms.number(&mountpoint);
                self.see_to(from, realm, message);
            }
            Mail::AskRetained(asked) => self.ask_keeper(*asked),
            Mail::Retained(found) => self.found_retained(*found),
            Mail::Leaving { token } => self.say_flushed(from, token),
            Mail::Flushed { token, sequence } => {
                self.has_heard(from, sequence);
                self.flushed(token);
            }
            Mail::Prepare(prepare) => self.prepare(from, *prepare),
            Mail::Abandoned { token } => self.arrival_abandoned(from, token),
            Mail::SlotsMoved(moved) => self.slots_moved(from, &moved),
            Mail::SlotsSeen { token } => self.letter_answered(token),
            Mail::SlotEmptied { slot } => self.slot_emptied(slot),
            Mail::Pull { subscriber } => self.pulled(from, subscriber),
            Mail::NotHere { subscriber } => self.not_here(&subscriber),
            Mail::Disconnect { subscriber, cleanup } => self.disconnect(subscriber, cleanup),
            Mail::Publisher { connection, wait } => self.publisher_told(connection, wait),
            Mail::Counters(counted) => self.others[from] = *counted,
        }
    }

    /// The mailbox of shard `to` is full, or has room again. While it is full, clients that publish to it are not served.
    pub fn congestion(&mut self, to: usize, congested: bool, now: Time) {
        self.now = now;
        if congested {
            self.congested.insert(to);
            return;
        }
        self.congested.remove(to);
        if self.congested.is_empty() {
            for id in std::mem::take(&mut self.waiting_for_mailbox) {
                self.release(id, PauseReason::Mailbox);
            }
        }
    }

    /// A hook's answer is here, or its future panicked.
    pub fn hook_answered(&mut self, task: u64, answer: HookAnswer, now: Time) {
        self.now = now;
        let Some(Task { waits, hook, link, asked }) = self.tasks.remove(&task) else { return };
        self.chain.settle(link, hook, answer.outcome(), now.since(asked));
        let failed = matches!(answer, HookAnswer::Failed);
        if failed {
            tracing::error!(hook, "hook panicked in its later answer");
        }
        match waits {
            // Who goes on with the packet counts the failure, as if it were one of now.
            Waits::Connection(id) => self.resume_hook(id, task, Some(answer)),
            Waits::Subscriber(subscriber) => {
                self.counters.hook_failures += u64::from(failed);
                self.notice_done(subscriber);
            }
        }
    }

    /// What the runtime is to do, in order.
    pub fn take_effects(&mut self, into: &mut Vec<Effect<C::State>>) {
        self.carry_out_hand_offs();
        into.append(&mut self.effects);
    }

    /// The mail for shard `to` since the last call, in order.
    pub fn take_mail(&mut self, to: usize) -> Vec<Mail> {
        std::mem::take(&mut self.outgoing[to])
    }

    /// What this shard counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What was counted here of the hooks that were called, link by link.
    pub fn hook_reports(&self) -> Vec<HookReport> {
        HookReport::of(&self.chain)
    }

    /// Times answers of hooks by `clock`, for links that want it ([`Hook::TIMED`](crate::hooks::Hook::TIMED)).
    pub fn time_hooks_by(&mut self, clock: HookClock) {
        self.chain.time_by(clock);
    }

    fn post(&mut self, to: usize, mail: Mail) {
        debug_assert_ne!(to, self.id, "a shard does not write to itself");
        self.outgoing[to].push(mail);
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<C> {
        let own = self.id;
        (0..self.shards).filter(move |shard| *shard != own)
    }

    fn add_connection(&mut self, id: ConnectionId, listener: usize, peer: SocketAddr, connected_at: SystemTime) {
        self.connections.insert(Connection {
            id,
            listener,
            peer,
            connected_at,
            refused: None,
            last_heard: self.now,
            stage: ConnectionStage::Opening,
            unread: Unread::default(),
            outbox: Outbox::default(),
            pauses: PauseReasons::default(),
            consumers: 0,
            throttled_until: Time::ZERO,
            paused: false,
            dirty: false,
        });
    }
}
