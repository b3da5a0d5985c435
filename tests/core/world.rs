//! Several shards without sockets. The test hands in the inputs, carries the messages between shards, and moves the clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use moormq::client::{ConnectionId, SessionFound};
use moormq::config::Config;
use moormq::connection::SendBuffer;
use moormq::hooks::{Chain, HookFuture, NoHooks};
use moormq::message::Message;
use moormq::random::Random;
use moormq::shard::{
    Admission, ArrivedConnection, Input, Output, Request, Setup, Shard, ShardMessage, Transfer, TurnLimits,
};
use moormq::sharding::Quotas;
use moormq::time::Time;

use crate::stores::Stores;

/// The seed of the shards' hashes.
pub const SEED: u64 = 42;

/// Most bytes that are read at once of what had to wait.
const READ: usize = 16 << 10;

/// The client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket(usize);

/// The broker's end of it.
struct BrokerEnd {
    /// Where it is; none once the broker closed it.
    at: Option<(usize, ConnectionId)>,
    received: Vec<u8>,
    /// Whether the broker reads from it.
    reading: bool,
    unsent: Vec<u8>,
    /// The client reads nothing: what is sent to it stays under way.
    stuck: bool,
    under_way: Option<Vec<u8>>,
    /// The client has closed its end, behind all that it sent; who reads from it finds that.
    ended: bool,
}

/// A session on its way from one shard to another.
struct SessionTransfer<S> {
    to: usize,
    connection: Option<ConnectionId>,
    transfer: Box<Transfer<S>>,
}

/// What was carried between shards to make a subscription known, and to find what is retained for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    pub subscribe: usize,
    pub subscribed: usize,
    /// Counters in the latter.
    pub counters: usize,
    /// Questions and answers.
    pub retained: usize,
}

impl Carried {
    fn add(&mut self, message: &ShardMessage) {
        match message {
            ShardMessage::Subscribe { .. } => self.subscribe += 1,
            ShardMessage::Subscribed { sent, .. } => {
                self.subscribed += 1;
                self.counters += sent.len();
            }
            ShardMessage::AskRetained(_) | ShardMessage::Retained(_) => self.retained += 1,
            _ => {}
        }
    }
}

/// A broker of some shards.
pub struct World<C: Chain> {
    pub shards: Vec<Shard<C>>,
    pub now: Time,
    ends: Vec<BrokerEnd>,
    by_id: BTreeMap<(usize, usize), usize>,
    next_generation: u32,
    /// Messages from each shard to each other.
    messages: Vec<Vec<VecDeque<ShardMessage>>>,
    /// Sessions on their way.
    transfers: VecDeque<SessionTransfer<C::State>>,
    hooks: Vec<(usize, u64, HookFuture)>,
    /// What was delivered to the embedding program: subscription and message.
    pub delivered: Vec<(u64, Message)>,
    pub subscribed: Vec<u64>,
    /// Answers to requests about sessions, by ticket.
    pub found: Vec<(u64, Option<Box<SessionFound>>)>,
    pub stopped: usize,
    /// What was carried between shards.
    pub carried: Carried,
    /// What is kept on disk, if anything is.
    pub stores: Option<Box<Stores>>,
}

/// A configuration without authentication and authorisation.
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
        World::in_turns(shards, TurnLimits::default(), config, chain)
    }

    /// The same, with so much work in a turn.
    pub fn in_turns(shards: usize, turn: TurnLimits, config: Config, chain: impl Fn() -> C) -> Self {
        let config = Arc::new(config);
        let quotas = Quotas::new(&config, shards);
        let setup = |id| Setup {
            id,
            shards,
            seed: SEED,
            turn,
            version: "test",
            config: config.clone(),
            quotas: quotas.clone(),
        };
        World {
            shards: (0..shards).map(|id| Shard::new(setup(id), chain(), Time::ZERO)).collect(),
            now: Time::ZERO,
            ends: Vec::new(),
            by_id: BTreeMap::new(),
            next_generation: 0,
            messages: (0..shards).map(|_| (0..shards).map(|_| VecDeque::new()).collect()).collect(),
            transfers: VecDeque::new(),
            hooks: Vec::new(),
            delivered: Vec::new(),
            subscribed: Vec::new(),
            found: Vec::new(),
            stopped: 0,
            carried: Carried::default(),
            stores: None,
        }
    }

    /// A new connection, accepted by `shard`.
    pub fn connect(&mut self, shard: usize) -> Socket {
        self.connect_to(shard, 0, Admission::Admitted)
    }

    /// A new connection of a listener.
    pub fn connect_to(&mut self, shard: usize, listener: usize, admission: Admission) -> Socket {
        let socket = self.open_to(shard, listener, admission);
        self.settle();
        socket
    }

    /// A new connection, accepted by `shard`; nothing follows before [`World::settle`].
    pub fn open(&mut self, shard: usize) -> Socket {
        self.open_to(shard, 0, Admission::Admitted)
    }

    fn open_to(&mut self, shard: usize, listener: usize, admission: Admission) -> Socket {
        let socket = self.ends.len();
        let end = BrokerEnd {
            at: None,
            received: Vec::new(),
            reading: true,
            unsent: Vec::new(),
            stuck: false,
            under_way: None,
            ended: false,
        };
        self.ends.push(end);
        let id = self.assign(socket, shard);
        let peer = SocketAddr::from(([127, 0, 0, 1], socket as u16));
        let connected_at = SystemTime::UNIX_EPOCH;
        self.handle(shard, Input::Accepted { connection: id, listener, peer, connected_at, admission });
        Socket(socket)
    }

    /// The client sends `bytes`, and everything that follows from it happens.
    pub fn send(&mut self, socket: Socket, bytes: &[u8]) {
        self.send_quietly(socket, bytes);
        self.settle();
    }

    /// The client sends `bytes`; nothing follows before [`World::settle`].
    pub fn send_quietly(&mut self, socket: Socket, bytes: &[u8]) {
        let end = &mut self.ends[socket.0];
        let Some((shard, id)) = end.at else { return };
        if end.reading && end.unsent.is_empty() {
            self.handle(shard, Input::Received { connection: id, bytes });
        } else {
            end.unsent.extend_from_slice(bytes);
        }
    }

    /// The client sends `bytes`, which the kernel has: they are read when everything else has happened, unless the broker asks for them.
    pub fn send_to_kernel(&mut self, socket: Socket, bytes: &[u8]) {
        self.ends[socket.0].unsent.extend_from_slice(bytes);
    }

    /// What the client received since the last call.
    pub fn received(&mut self, socket: Socket) -> Vec<u8> {
        std::mem::take(&mut self.ends[socket.0].received)
    }

    /// Whether the broker closed the connection.
    pub fn is_closed(&self, socket: Socket) -> bool {
        self.ends[socket.0].at.is_none()
    }

    /// Which shard the connection is on.
    pub fn shard_of(&self, socket: Socket) -> Option<usize> {
        self.ends[socket.0].at.map(|(shard, _)| shard)
    }

    /// The client closes its end without a word, and everything that follows from it happens.
    pub fn hang_up(&mut self, socket: Socket) {
        self.hang_up_quietly(socket);
        self.settle();
    }

    /// The client closes its end without a word; nothing follows before [`World::settle`].
    pub fn hang_up_quietly(&mut self, socket: Socket) {
        // The index is the shard's until it has closed the connection, too.
        if let Some((shard, id)) = self.ends[socket.0].at.take() {
            self.handle(shard, Input::Closed { connection: id });
        }
    }

    /// The client closes its end behind all that it sent, and the shard that reads from it finds that, at once if all has been read: it may
    /// have the bytes already and not have served them. Nothing follows before [`World::settle`].
    pub fn close_behind(&mut self, socket: Socket) {
        self.ends[socket.0].ended = true;
        self.find_end(socket.0);
    }

    /// Whether the broker closed a connection whose client has closed it.
    pub fn is_gone(&self, socket: Socket) -> bool {
        self.by_id.values().all(|one| *one != socket.0)
    }

    fn find_end(&mut self, socket: usize) -> bool {
        let end = &mut self.ends[socket];
        let Some((shard, id)) = end.at.filter(|_| end.ended && end.unsent.is_empty()) else { return false };
        // It is found again where the connection goes.
        end.reading = false;
        self.handle(shard, Input::Closed { connection: id });
        true
    }

    /// The client stops or resumes reading.
    pub fn stick(&mut self, socket: Socket, stuck: bool) {
        self.ends[socket.0].stuck = stuck;
        if !stuck {
            self.take_in(socket);
        }
        self.settle();
    }

    /// The client resumes reading; nothing follows before [`World::settle`].
    pub fn unstick_quietly(&mut self, socket: Socket) {
        let end = &mut self.ends[socket.0];
        end.stuck = false;
        if let Some(bytes) = end.under_way.take() {
            end.received.extend_from_slice(&bytes);
            if let Some((shard, id)) = end.at {
                self.handle(shard, Input::Sent { connection: id, emptied: Vec::new() });
            }
        }
    }

    /// A client that is stuck reads what is under way to it, and no more.
    pub fn take_in(&mut self, socket: Socket) {
        self.take_in_quietly(socket);
        self.settle();
    }

    /// The same; nothing follows before [`World::settle`].
    pub fn take_in_quietly(&mut self, socket: Socket) {
        if let Some(bytes) = self.ends[socket.0].under_way.take() {
            self.ends[socket.0].received.extend_from_slice(&bytes);
            if let Some((shard, id)) = self.ends[socket.0].at {
                self.handle(shard, Input::Sent { connection: id, emptied: Vec::new() });
            }
        }
    }

    /// The client stops reading; nothing follows before [`World::settle`].
    pub fn stick_quietly(&mut self, socket: Socket) {
        self.ends[socket.0].stuck = true;
    }

    /// What waits in the kernel, in bytes.
    pub fn unsent(&self, socket: Socket) -> usize {
        self.ends[socket.0].unsent.len()
    }

    /// Time passes, in small steps.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while self.now < end {
            self.now = (self.now + Duration::from_millis(50)).min(end);
            (0..self.shards.len()).for_each(|shard| self.handle(shard, Input::Tick));
            self.settle();
        }
    }

    /// The embedding program asks `shard` for something.
    pub fn request(&mut self, shard: usize, request: Request) {
        self.handle(shard, Input::Request(request));
        self.settle();
    }

    /// Stops all shards.
    pub fn stop(&mut self) {
        (0..self.shards.len()).for_each(|shard| self.handle(shard, Input::Stop));
        self.settle();
    }

    /// Carries outputs and messages until nothing moves any more.
    pub fn settle(&mut self) {
        loop {
            while self.carry_out_outputs()
                | self.catch_up()
                | self.poll_hooks()
                | self.carry_messages()
                | self.carry_transfer()
                | self.work_at_the_archive()
            {}
            // Messages do not pile up between shards: who writes to one that is behind is not read from.
            if !self.read_on() {
                return;
            }
        }
    }

    /// Something happens to a shard; nothing follows before [`World::settle`].
    pub fn handle(&mut self, shard: usize, input: Input<'_, C::State>) {
        if let Some(stores) = &self.stores {
            stores.set_time(self.now);
        }
        self.shards[shard].handle(input, self.now);
    }

    /// Carries out the outputs of all shards. Returns whether there were any.
    pub fn carry_out_outputs(&mut self) -> bool {
        let mut moved = false;
        for shard in 0..self.shards.len() {
            while let Some(output) = self.shards[shard].next_output() {
                self.carry_out(shard, output);
                moved = true;
            }
        }
        moved
    }

    /// Gives another turn to the shards that have not done all. Returns whether there was one.
    pub fn catch_up(&mut self) -> bool {
        let behind: Vec<_> = (0..self.shards.len()).filter(|shard| self.shards[*shard].is_behind()).collect();
        behind.iter().for_each(|shard| self.handle(*shard, Input::Tick));
        !behind.is_empty()
    }

    /// Reads from each connection what had to wait, a piece at a time.
    pub fn read_on(&mut self) -> bool {
        let mut moved = false;
        for socket in 0..self.ends.len() {
            let end = &mut self.ends[socket];
            if let Some((shard, id)) = end.at.filter(|_| end.reading && !end.unsent.is_empty()) {
                let piece: Vec<u8> = end.unsent.drain(..end.unsent.len().min(READ)).collect();
                self.handle(shard, Input::Received { connection: id, bytes: &piece });
                moved = true;
            }
            if self.ends[socket].reading {
                moved |= self.find_end(socket);
            }
        }
        moved
    }

    /// Delivers one message of each pair of shards.
    pub fn carry_messages(&mut self) -> bool {
        let mut moved = false;
        for from in 0..self.shards.len() {
            for to in 0..self.shards.len() {
                moved |= self.carry_message(from, to);
            }
        }
        moved
    }

    /// The bytes of the messages that are on their way from one shard to another.
    pub fn bytes_under_way(&self, from: usize, to: usize) -> usize {
        self.messages[from][to].iter().map(ShardMessage::weight).sum()
    }

    /// Delivers the session that has been on its way longest.
    pub fn carry_transfer(&mut self) -> bool {
        let Some(SessionTransfer { to, connection, transfer }) = self.transfers.pop_front() else { return false };
        let id = connection.filter(|id| self.socket_of(to, *id).is_some());
        let arrived = id.map(|connection| ArrivedConnection { connection, unread: &[], unsent: 0 });
        self.handle(to, Input::Transferred { arrived, transfer });
        true
    }

    /// How many messages from one shard to another were not delivered yet.
    pub fn on_their_way(&self, from: usize, to: usize) -> usize {
        self.messages[from][to].len()
    }

    /// Delivers the oldest message from one shard to another.
    pub fn carry_message(&mut self, from: usize, to: usize) -> bool {
        let Some(message) = self.messages[from][to].pop_front() else { return false };
        self.carried.add(&message);
        self.handle(to, Input::Message { from, message });
        true
    }

    /// Delivers one message of a random pair of shards, and carries out the outputs that follow. Returns whether there was one.
    pub fn carry_any_message(&mut self, random: &mut Random) -> bool {
        self.carry_out_outputs();
        let shards = self.shards.len();
        let pairs: Vec<_> =
            (0..shards * shards).filter(|at| !self.messages[at / shards][at % shards].is_empty()).collect();
        let Some(&pair) = pairs.get(random.below(pairs.len())) else { return false };
        self.carry_message(pair / shards, pair % shards);
        self.carry_out_outputs();
        true
    }

    fn assign(&mut self, socket: usize, shard: usize) -> ConnectionId {
        let index = (0..).find(|index| !self.by_id.contains_key(&(shard, *index))).expect("indices do not run out");
        self.next_generation += 1;
        let id = ConnectionId::new(index as u32, self.next_generation);
        self.by_id.insert((shard, index), socket);
        self.ends[socket].at = Some((shard, id));
        id
    }

    fn socket_of(&self, shard: usize, id: ConnectionId) -> Option<usize> {
        let socket = *self.by_id.get(&(shard, id.index()))?;
        (self.ends[socket].at == Some((shard, id))).then_some(socket)
    }

    fn carry_out(&mut self, shard: usize, output: Output<C::State>) {
        match output {
            Output::Send { connection, buffer } => {
                // It is not if its client has hung up, and what it had sent waits for its turn.
                let Some(socket) = self.socket_of(shard, connection) else { return };
                let bytes = buffer.into_bytes();
                if self.ends[socket].stuck {
                    self.ends[socket].under_way = Some(bytes);
                } else {
                    self.ends[socket].received.extend_from_slice(&bytes);
                    self.handle(shard, Input::Sent { connection, emptied: Vec::new() });
                }
            }
            Output::ReadContinuously(_) | Output::SlotsMoving(_) | Output::StoreReport(_) | Output::Cut(..) => {}
            Output::SessionAnswer { ticket, found } => self.found.push((ticket, found)),
            Output::Pause(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.ends[socket].reading = false;
                }
            }
            Output::Resume(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.ends[socket].reading = true;
                }
            }
            Output::Drain(connection) => {
                let socket = self.socket_of(shard, connection);
                if let Some(socket) = socket {
                    let end = &mut self.ends[socket];
                    let bytes: Vec<u8> = end.unsent.drain(..end.unsent.len().min(READ)).collect();
                    self.handle(shard, Input::Received { connection, bytes: &bytes });
                }
                self.handle(shard, Input::Drained { connection });
            }
            Output::Close { connection, last, .. } => {
                let socket = self.socket_of(shard, connection);
                self.by_id.remove(&(shard, connection.index()));
                if let Some(socket) = socket {
                    let end = &mut self.ends[socket];
                    end.at = None;
                    let under_way = end.under_way.take().unwrap_or_default();
                    end.received.extend(under_way);
                    end.received.extend(last.map(SendBuffer::into_bytes).unwrap_or_default());
                }
            }
            Output::HandOff { connection, to, accepted } => {
                let socket = self.socket_of(shard, connection).expect("a connection that is handed off is there");
                self.by_id.remove(&(shard, connection.index()));
                let id = self.assign(socket, to);
                // A handed-off connection is read from.
                self.ends[socket].reading = true;
                let unread = std::mem::take(&mut self.ends[socket].unsent);
                self.handle(to, Input::HandedOff { connection: id, accepted, unsent: 0, unread: &unread });
            }
            Output::Transfer { connection, to, transfer } => {
                let socket = connection.and_then(|id| self.socket_of(shard, id));
                if let Some(id) = connection {
                    self.by_id.remove(&(shard, id.index()));
                }
                let id = socket.map(|socket| {
                    self.ends[socket].reading = false;
                    self.assign(socket, to)
                });
                self.transfers.push_back(SessionTransfer { to, connection: id, transfer });
            }
            Output::RunHook { task, future } => self.hooks.push((shard, task, future)),
            Output::CancelHook { task } => {
                self.hooks.retain(|(at, number, _)| (*at, *number) != (shard, task));
            }
            Output::Deliver { subscription, message } => self.delivered.push((subscription, message)),
            Output::Subscribed { subscription } => self.subscribed.push(subscription),
            Output::Messages { to, messages } => self.messages[shard][to].extend(messages),
            Output::Journal(effect) => self.do_for_journal(shard, effect),
            Output::Archive(order) => self.stores().desk().take(order),
            Output::Stopped => self.stopped += 1,
        }
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
            self.handle(shard, Input::HookAnswered { task, answer: Box::new(answer) });
        }
        moved
    }
}
