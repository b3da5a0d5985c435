//! Several shards without sockets: events go in by hand, mail is carried by hand, and time passes when told to.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use moormq::client::ConnectionId;
use moormq::config::Config;
use moormq::connection::Output;
use moormq::hooks::{Chain, HookFuture, NoHooks};
use moormq::message::Message;
use moormq::random::Random;
use moormq::shard::{Effect, Mail, Place, Request, Shard, Transfer};
use moormq::time::Time;

/// The seed of the shards' hashes.
pub const SEED: u64 = 42;

/// One end of a connection, as a client holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket(usize);

/// The broker's end of it.
struct Wire {
    /// Where it is; none once the broker closed it.
    at: Option<(usize, ConnectionId)>,
    received: Vec<u8>,
    /// Whether the broker reads from it.
    reading: bool,
    unsent: Vec<u8>,
    /// The client takes nothing: what is sent to it stays under way.
    stuck: bool,
    under_way: Option<Vec<u8>>,
}

/// A session between two shards.
struct Travelling<S> {
    to: usize,
    connection: Option<ConnectionId>,
    transfer: Box<Transfer<S>>,
}

/// A broker of some shards.
pub struct World<C: Chain> {
    pub shards: Vec<Shard<C>>,
    pub now: Time,
    wires: Vec<Wire>,
    by_id: BTreeMap<(usize, usize), usize>,
    next_generation: u32,
    /// Letters from each shard to each other.
    mail: Vec<Vec<VecDeque<Mail>>>,
    /// Sessions on their way.
    travelling: VecDeque<Travelling<C::State>>,
    hooks: Vec<(usize, u64, HookFuture)>,
    /// What was delivered to the embedding program: subscription and message.
    pub delivered: Vec<(u64, Message)>,
    pub subscribed: Vec<u64>,
    pub stopped: usize,
}

/// A configuration in which everybody may do everything.
pub fn open_config() -> Config {
    Config { allow_anonymous: true, ..Config::default() }
}

/// The open configuration with a change.
pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = open_config();
    change(&mut config);
    config.check().expect("tests configure what makes sense");
    config
}

/// Worlds of one, two and four shards without hooks.
pub fn worlds() -> impl Iterator<Item = World<NoHooks>> {
    worlds_with(open_config)
}

/// The same with this configuration.
pub fn worlds_with(config: impl Fn() -> Config) -> impl Iterator<Item = World<NoHooks>> {
    [1, 2, 4].into_iter().map(move |shards| World::new(shards, config(), || NoHooks))
}

impl<C: Chain> World<C> {
    pub fn new(shards: usize, config: Config, chain: impl Fn() -> C) -> Self {
        let config = Arc::new(config);
        let place = |id| Place { id, shards, seed: SEED, version: "test" };
        World {
            shards: (0..shards).map(|id| Shard::new(place(id), config.clone(), chain(), Time::ZERO)).collect(),
            now: Time::ZERO,
            wires: Vec::new(),
            by_id: BTreeMap::new(),
            next_generation: 0,
            mail: (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect(),
            travelling: VecDeque::new(),
            hooks: Vec::new(),
            delivered: Vec::new(),
            subscribed: Vec::new(),
            stopped: 0,
        }
    }

    /// A new connection, accepted by `shard`.
    pub fn connect(&mut self, shard: usize) -> Socket {
        self.connect_to(shard, 0, 1)
    }

    /// A new connection of a listener, which has `connections` with it.
    pub fn connect_to(&mut self, shard: usize, listener: usize, connections: usize) -> Socket {
        let socket = self.wires.len();
        let wire =
            Wire { at: None, received: Vec::new(), reading: true, unsent: Vec::new(), stuck: false, under_way: None };
        self.wires.push(wire);
        let id = self.assign(socket, shard);
        let peer = SocketAddr::from(([127, 0, 0, 1], socket as u16));
        self.shards[shard].accepted(id, listener, peer, SystemTime::UNIX_EPOCH, connections, self.now);
        self.settle();
        Socket(socket)
    }

    /// The client sends `bytes`, and everything that follows from it happens.
    pub fn send(&mut self, socket: Socket, bytes: &[u8]) {
        self.send_quietly(socket, bytes);
        self.settle();
    }

    /// The client sends `bytes`; nothing follows before [`World::settle`].
    pub fn send_quietly(&mut self, socket: Socket, bytes: &[u8]) {
        let wire = &mut self.wires[socket.0];
        let Some((shard, id)) = wire.at else { return };
        if wire.reading {
            self.shards[shard].received(id, bytes, self.now);
        } else {
            wire.unsent.extend_from_slice(bytes);
        }
    }

    /// What the client received since the last call.
    pub fn received(&mut self, socket: Socket) -> Vec<u8> {
        std::mem::take(&mut self.wires[socket.0].received)
    }

    /// Whether the broker closed the connection.
    pub fn is_closed(&self, socket: Socket) -> bool {
        self.wires[socket.0].at.is_none()
    }

    /// Which shard the connection is on.
    pub fn shard_of(&self, socket: Socket) -> Option<usize> {
        self.wires[socket.0].at.map(|(shard, _)| shard)
    }

    /// The client closes its end without a word, and everything that follows from it happens.
    pub fn hang_up(&mut self, socket: Socket) {
        self.hang_up_quietly(socket);
        self.settle();
    }

    /// The client closes its end without a word; nothing follows before [`World::settle`].
    pub fn hang_up_quietly(&mut self, socket: Socket) {
        if let Some((shard, id)) = self.wires[socket.0].at.take() {
            self.by_id.remove(&(shard, id.index()));
            self.shards[shard].closed(id, self.now);
        }
    }

    /// The client stops taking what it is sent, or goes on.
    pub fn stick(&mut self, socket: Socket, stuck: bool) {
        self.wires[socket.0].stuck = stuck;
        if !stuck && let Some(bytes) = self.wires[socket.0].under_way.take() {
            self.wires[socket.0].received.extend_from_slice(&bytes);
            if let Some((shard, id)) = self.wires[socket.0].at {
                self.shards[shard].sent(id, Vec::new(), self.now);
            }
        }
        self.settle();
    }

    /// Time passes, in small steps.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(50)).min(end);
            for shard in &mut self.shards {
                shard.tick(self.now);
            }
            self.settle();
        }
    }

    /// The embedding program asks `shard` for something.
    pub fn request(&mut self, shard: usize, request: Request) {
        self.shards[shard].request(request, self.now);
        self.settle();
    }

    /// Stops all shards.
    pub fn stop(&mut self) {
        for shard in &mut self.shards {
            shard.stop(self.now);
        }
        self.settle();
    }

    /// Carries effects, mail and output until nothing moves any more.
    pub fn settle(&mut self) {
        while self.carry_out_effects() | self.poll_hooks() | self.carry_mail() | self.carry_transfer() {}
    }

    /// Carries out what the shards ask for, and takes their output and mail. Says whether there was any.
    pub fn carry_out_effects(&mut self) -> bool {
        let mut moved = false;
        for shard in 0..self.shards.len() {
            let mut effects = Vec::new();
            self.shards[shard].take_effects(&mut effects);
            moved |= !effects.is_empty();
            for effect in effects {
                self.carry_out(shard, effect);
            }
            moved |= self.flush(shard);
            for to in 0..self.shards.len() {
                if to != shard {
                    let letters = self.shards[shard].take_mail(to);
                    moved |= !letters.is_empty();
                    self.mail[shard][to].extend(letters);
                }
            }
        }
        moved
    }

    /// Hands over one letter of each pair of shards.
    pub fn carry_mail(&mut self) -> bool {
        let mut moved = false;
        for from in 0..self.shards.len() {
            for to in 0..self.shards.len() {
                moved |= self.carry_letter(from, to);
            }
        }
        moved
    }

    /// Hands in the session that has been on its way longest.
    pub fn carry_transfer(&mut self) -> bool {
        let Some(Travelling { to, connection, transfer }) = self.travelling.pop_front() else { return false };
        let id = connection.filter(|id| self.socket_of(to, *id).is_some());
        self.shards[to].transferred(id.map(|id| (id, &[][..])), *transfer, self.now);
        true
    }

    /// Hands over the oldest letter from one shard to another.
    pub fn carry_letter(&mut self, from: usize, to: usize) -> bool {
        let Some(letter) = self.mail[from][to].pop_front() else { return false };
        self.shards[to].mail(from, letter, self.now);
        true
    }

    /// Hands over one letter, of a pair of shards that chance picks, and carries out what follows from it on the spot. Says
    /// whether there was one.
    pub fn carry_any_letter(&mut self, random: &mut Random) -> bool {
        self.carry_out_effects();
        let shards = self.shards.len();
        let pairs: Vec<_> = (0..shards * shards).filter(|at| !self.mail[at / shards][at % shards].is_empty()).collect();
        let Some(&pair) = pairs.get(random.below(pairs.len())) else { return false };
        self.carry_letter(pair / shards, pair % shards);
        self.carry_out_effects();
        true
    }

    fn assign(&mut self, socket: usize, shard: usize) -> ConnectionId {
        let index = (0..).find(|index| !self.by_id.contains_key(&(shard, *index))).expect("indices do not run out");
        self.next_generation += 1;
        let id = ConnectionId::new(index as u32, self.next_generation);
        self.by_id.insert((shard, index), socket);
        self.wires[socket].at = Some((shard, id));
        id
    }

    fn socket_of(&self, shard: usize, id: ConnectionId) -> Option<usize> {
        let socket = *self.by_id.get(&(shard, id.index()))?;
        (self.wires[socket].at == Some((shard, id))).then_some(socket)
    }

    fn carry_out(&mut self, shard: usize, effect: Effect<C::State>) {
        match effect {
            Effect::ReadContinuously(_) => {}
            Effect::Pause(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.wires[socket].reading = false;
                }
            }
            Effect::Resume(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.wires[socket].reading = true;
                    let unsent = std::mem::take(&mut self.wires[socket].unsent);
                    self.shards[shard].received(id, &unsent, self.now);
                }
            }
            Effect::Close { connection, last, .. } => {
                if let Some(socket) = self.socket_of(shard, connection) {
                    self.by_id.remove(&(shard, connection.index()));
                    let wire = &mut self.wires[socket];
                    wire.at = None;
                    let under_way = wire.under_way.take().unwrap_or_default();
                    wire.received.extend(under_way);
                    wire.received.extend(last.map(flat).unwrap_or_default());
                }
            }
            Effect::HandOff { connection, to, arrival } => {
                let socket = self.socket_of(shard, connection).expect("a connection that is handed off is there");
                self.by_id.remove(&(shard, connection.index()));
                let id = self.assign(socket, to);
                self.shards[to].arrived(id, arrival, self.now);
                // Whoever takes a connection over reads from it.
                self.wires[socket].reading = true;
                let unsent = std::mem::take(&mut self.wires[socket].unsent);
                self.shards[to].received(id, &unsent, self.now);
            }
            Effect::Transfer { connection, to, transfer } => {
                let socket = connection.and_then(|id| self.socket_of(shard, id));
                if let Some(id) = connection {
                    self.by_id.remove(&(shard, id.index()));
                }
                let id = socket.map(|socket| {
                    self.wires[socket].reading = false;
                    self.assign(socket, to)
                });
                self.travelling.push_back(Travelling { to, connection: id, transfer });
            }
            Effect::RunHook { task, future } => self.hooks.push((shard, task, future)),
            Effect::CancelHook { task } => {
                self.hooks.retain(|(at, number, _)| (*at, *number) != (shard, task));
            }
            Effect::Deliver { subscription, message } => self.delivered.push((subscription, message)),
            Effect::Subscribed { subscription } => self.subscribed.push(subscription),
            Effect::Stopped => self.stopped += 1,
        }
    }

    fn flush(&mut self, shard: usize) -> bool {
        let mut dirty = Vec::new();
        self.shards[shard].take_dirty(&mut dirty);
        for id in &dirty {
            let Some(output) = self.shards[shard].take_output(*id) else { continue };
            let socket = self.socket_of(shard, *id).expect("a connection with output is there");
            let bytes = flat(output);
            if self.wires[socket].stuck {
                self.wires[socket].under_way = Some(bytes);
            } else {
                self.wires[socket].received.extend_from_slice(&bytes);
                self.shards[shard].sent(*id, Vec::new(), self.now);
            }
        }
        !dirty.is_empty()
    }

    fn poll_hooks(&mut self) -> bool {
        let mut answers = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        self.hooks.retain_mut(|(shard, task, future)| match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => {
                answers.push((*shard, *task, answer));
                false
            }
            Poll::Pending => true,
        });
        let moved = !answers.is_empty();
        for (shard, task, answer) in answers {
            self.shards[shard].hook_answered(task, answer, self.now);
        }
        moved
    }
}

/// The bytes of an output as they leave.
fn flat(output: Output) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(output.len());
    let mut at = 0;
    for splice in &output.splices {
        bytes.extend_from_slice(&output.bytes[at..splice.at]);
        bytes.extend_from_slice(splice.message.payload());
        at = splice.at;
    }
    bytes.extend_from_slice(&output.bytes[at..]);
    bytes
}
