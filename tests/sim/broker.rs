//! A simulated broker: the shards, and what a runtime does for them (outputs, messages between shards, sends, hooks). Nothing
//! moves by itself: the driver chooses what arrives next.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use moormq::client::ConnectionId;
use moormq::connection::SendBuffer;
use moormq::hooks::{Chain, HookFuture, NoHooks};
use moormq::memory::MemoryStage;
use moormq::random::Random;
use moormq::shard::{
    AcceptedConnect, Admission, ArrivedConnection, Input, Output, Request, Setup as ShardSetup, Shard, ShardMessage,
    Standing, Transfer, TurnLimits, standings,
};
use moormq::sharding::Quotas;
use moormq::time::Time;

use crate::copying::Copying;
use crate::disks::{Disks, Heard};
use crate::history::Setup;
use crate::links::{Link, Links};
use crate::mailboxes::Mailboxes;
use crate::pressure::Given;
use crate::socket::{End, Socket};
use crate::store::opening::Opened;
use crate::trace::{Trace, peer_of};

/// The seed of the shards' hashes.
pub const HASH_SEED: u64 = 42;

type State = <Links as Chain>::State;

/// What one shard sends to another through the mesh.
enum MeshMessage {
    Message(ShardMessage),
    HandOff(usize, Box<AcceptedConnect<State>>),
    Transfer(Option<usize>, Box<Transfer<State>>),
}

/// A socket that is to go to another shard once what is on its way to the client has left.
struct Detaching {
    socket: Option<usize>,
    from: usize,
    to: usize,
    message: Option<MeshMessage>,
}

/// Connections of which a shard wants what is on its way, and the sockets of those that are open.
type Draining = Vec<(ConnectionId, Option<usize>)>;

/// A hook that answers later.
struct Running {
    shard: usize,
    task: u64,
    future: HookFuture,
    /// It was polled without an answer: it will never answer.
    asleep: bool,
}

pub struct Broker {
    pub shards: Vec<Shard<Links>>,
    pub now: Time,
    /// When it was started, in milliseconds since the history began.
    epoch: u64,
    /// With a store: its disks.
    pub disks: Option<Box<Disks>>,
    /// All shards write what they have before anybody is served.
    renews: bool,
    pub trace: Trace,
    pub sockets: Vec<Socket>,
    /// Sockets that are open at one end at least.
    pub open: Vec<usize>,
    /// By shard and connection index.
    by_index: Vec<Vec<Option<usize>>>,
    generation: u32,
    /// From each shard to each other.
    messages: Vec<VecDeque<MeshMessage>>,
    detaching: Vec<Detaching>,
    hooks: Vec<Running>,
    /// Shards that may have outputs.
    unflushed: Vec<bool>,
    /// Shards whose turn of the runtime has passed its socket events: the next one begins a new turn.
    past_sockets: Vec<bool>,
    /// Connections of which a shard wants what is on its way, by shard.
    draining: Vec<Vec<ConnectionId>>,
    pub mailboxes: Mailboxes,
    turn: TurnLimits,
    /// Queues that have room again, of which their senders have not heard.
    relieved: Vec<(usize, usize)>,
    pub stopped: usize,
    /// The shard that was driven last: the events in the trace are its own.
    pub last_shard: usize,
    /// Connections whose clients hung up while they were on the way from shard to shard, and whose end nobody has found.
    ended: Vec<usize>,
    /// Connections that were transferred with unread bytes.
    pub transferred: Vec<usize>,
    /// Sockets with new output for the client.
    pub taken: Vec<usize>,
    /// Shards that were driven, and not looked at since.
    unseen: BTreeSet<usize>,
    /// How many sessions have come to each shard.
    arrivals: Vec<u32>,
    /// When each shard was driven last.
    driven: Vec<Time>,
    /// Connections that have sent or taken something in the last event.
    pub acted: Vec<u32>,
    /// A client whose bytes were given, if that was the last event.
    pub given: Option<Given>,
    /// A copy of the store that is being made.
    pub copying: Option<Copying>,
    /// How many have been.
    pub copies: u64,
    /// Nothing that is sent arrives.
    pub reaches_nobody: bool,
}

impl Broker {
    /// One of as many shards as the setup says. With a store, [`restore`](Self::restore) has to follow.
    pub fn new(setup: &Setup) -> Self {
        let disks = setup
            .is_stored()
            .then(|| Box::new(Disks::new(setup.journal(), setup.paging(), setup.loses_what_is_not_synced())));
        let trace = Trace::default();
        trace.open().setup = Some(*setup);
        Broker::start(setup, setup.shards, trace, (0, disks))
    }

    fn start(setup: &Setup, shards: usize, trace: Trace, (epoch, disks): (u64, Option<Box<Disks>>)) -> Self {
        let config = Arc::new(setup.config());
        let turn = setup.turn();
        let quotas = Quotas::new(&config, shards);
        let of_shard = |id| ShardSetup {
            id,
            shards,
            seed: HASH_SEED,
            turn,
            version: "simulated",
            config: config.clone(),
            quotas: quotas.clone(),
        };
        let chain = || NoHooks.hook(Link::<0>(trace.clone())).hook(Link::<1>(trace.clone())).hook(Link(trace.clone()));
        Broker {
            shards: (0..shards).map(|id| Shard::new(of_shard(id), chain(), Time::ZERO)).collect(),
            now: Time::ZERO,
            epoch,
            disks,
            renews: false,
            sockets: Vec::new(),
            open: Vec::new(),
            by_index: vec![Vec::new(); shards],
            generation: 0,
            messages: (0..shards * shards).map(|_| VecDeque::new()).collect(),
            detaching: Vec::new(),
            hooks: Vec::new(),
            unflushed: vec![false; shards],
            past_sockets: vec![false; shards],
            draining: vec![Vec::new(); shards],
            mailboxes: Mailboxes::new(shards, setup.mailbox_bytes()),
            turn,
            relieved: Vec::new(),
            stopped: 0,
            last_shard: 0,
            ended: Vec::new(),
            transferred: Vec::new(),
            taken: Vec::new(),
            unseen: BTreeSet::new(),
            arrivals: vec![0; shards],
            driven: vec![Time::ZERO; shards],
            acted: Vec::new(),
            given: None,
            copying: None,
            copies: 0,
            reaches_nobody: false,
            trace,
        }
    }

    /// The broker dies, is down so many milliseconds, and starts again with so many shards; [`restore`](Self::restore) has to follow. Its connections
    /// have been [cut](Self::cut).
    pub fn restart(&mut self, setup: &Setup, shards: usize, (loses_power, down): (bool, u64), random: &mut Random) {
        self.hooks.clear();
        self.shards.clear();
        // What waited for hooks has ended with the others, and nobody is told.
        self.trace.open().restart();
        let (mut disks, trace) = (self.disks.take(), self.trace.clone());
        disks.iter_mut().for_each(|disks| disks.die(loses_power, random));
        let sockets = std::mem::take(&mut self.sockets);
        let (epoch, generation) = (self.millis() + down, self.generation);
        *self = Broker { sockets, generation, ..Broker::start(setup, shards, trace, (epoch, disks)) };
    }

    /// What a store has.
    pub fn read(&mut self) -> Option<Opened> {
        let (shards, epoch) = (self.shards.len(), self.epoch);
        Some(self.disks.as_mut()?.open(shards, HASH_SEED, epoch))
    }

    /// The shards are given what a store had.
    pub fn restore(&mut self, opened: Opened) {
        let Some(disks) = &self.disks else { return };
        self.renews = opened.renews;
        opened.restore(&mut self.shards, disks.clock());
        (0..self.shards.len()).for_each(|shard| self.drove(shard));
    }

    /// All shards have what a store had.
    pub fn is_restored(&self) -> bool {
        self.shards.iter().all(Shard::is_restored)
    }

    /// All shards have written what they have, if they had to: nothing counts any more that was there before.
    pub fn is_renewed(&mut self) {
        if std::mem::take(&mut self.renews) {
            self.disks.iter_mut().for_each(|disks| disks.is_renewed());
        }
    }

    /// A shard hears that all have.
    pub fn begin(&mut self, shard: usize) {
        self.handle(shard, Input::Restored);
        self.drove(shard);
    }

    /// Cuts a connection as the end of the broker does. What was on its way to the client arrives or not.
    pub fn cut(&mut self, socket: usize, arrives: bool) {
        let one = &mut self.sockets[socket];
        let under_way = one.under_way.take().unwrap_or_default();
        if arrives && !one.stuck && !one.hung_up {
            one.inbox.extend(under_way);
        }
        one.to_broker.clear();
        one.end = End::Closed;
    }

    /// Milliseconds since the history began.
    pub fn millis(&self) -> u64 {
        self.epoch + self.now.as_millis()
    }

    pub fn set_now(&mut self, now: Time) {
        self.now = now;
        if let Some(disks) = &self.disks {
            disks.set_time(now);
        }
    }

    /// One of the things that are under way for journals and the archive is done, picked at random.
    pub fn go_on_disk(&mut self, random: &mut Random) -> bool {
        let Some((shard, heard)) = self.disks.as_mut().and_then(|disks| disks.go_on(random)) else { return false };
        match heard {
            Heard::Journal(answer) => self.handle(shard, Input::Journal(answer)),
            Heard::Archive(answer) => self.handle(shard, Input::Archive(answer)),
            Heard::Nothing => return true,
        }
        self.drove(shard);
        true
    }

    /// When there is something to be done for the journal of a shard.
    fn journal_due(&self, shard: usize) -> Time {
        let due = self.shards[shard].journal_wake_up().ok().flatten();
        due.map_or(Time::NEVER, |due| Time::from_millis(due.as_micros().div_ceil(1000) as u64))
    }

    /// Whether a disk has no room: then a journal may have none.
    pub fn waits_for_disks(&self) -> bool {
        self.disks.as_ref().is_some_and(|disks| disks.is_any_full())
    }

    /// Whether journals wait for their time.
    pub fn waits_for_journals(&self) -> bool {
        self.disks.is_some() && (0..self.shards.len()).any(|shard| self.journal_due(shard) < Time::NEVER)
    }

    /// Does what is due for the journal of a shard. Whether anything was.
    pub fn wake_journal(&mut self, shard: usize) -> bool {
        let is_due = self.disks.is_some() && self.journal_due(shard) <= self.now;
        if is_due {
            self.drove(shard);
            self.flush(shard);
        }
        is_due
    }

    /// A shard is given an input.
    fn handle(&mut self, shard: usize, input: Input<'_, State>) {
        let begins_turn = matches!(input, Input::Tick) || self.driven[shard] != self.now;
        let before = if begins_turn { 0 } else { self.shards[shard].turn().work };
        self.shards[shard].handle(input, self.now);
        self.mailboxes.works(shard, self.turn, (before, self.shards[shard].turn().work));
    }

    /// A shard was driven: it may have outputs.
    fn drove(&mut self, shard: usize) {
        self.past_sockets[shard] = true;
        self.drove_by_socket(shard);
    }

    /// The same by an event of a socket.
    fn drove_by_socket(&mut self, shard: usize) {
        self.unflushed[shard] = true;
        self.unseen.insert(shard);
        self.driven[shard] = self.now;
        self.last_shard = shard;
    }

    /// Begins a new turn if the present one has passed its socket events.
    pub fn before_socket_event(&mut self, socket: usize) {
        if let End::At(shard, _) = self.sockets[socket].end
            && self.past_sockets[shard]
        {
            self.flush(shard);
        }
    }

    pub fn accept(&mut self, socket: Socket, shard: usize) -> usize {
        let at = self.sockets.len();
        let (serial, client) = (socket.serial, socket.client);
        self.sockets.push(socket);
        self.open.push(at);
        let id = self.assign(at, shard);
        let (peer, connected_at) = (peer_of(client, serial), SystemTime::UNIX_EPOCH);
        let input = Input::Accepted { connection: id, listener: 0, peer, connected_at, admission: Admission::Admitted };
        self.handle(shard, input);
        self.drove(shard);
        at
    }

    fn assign(&mut self, socket: usize, shard: usize) -> ConnectionId {
        let places = &mut self.by_index[shard];
        let index = places.iter().position(Option::is_none).unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        places[index] = Some(socket);
        self.generation += 1;
        let id = ConnectionId::new(index as u32, self.generation);
        self.sockets[socket].end = End::At(shard, id);
        id
    }

    fn socket_of(&self, shard: usize, id: ConnectionId) -> Option<usize> {
        let socket = (*self.by_index[shard].get(id.index())?)?;
        (self.sockets[socket].end == End::At(shard, id)).then_some(socket)
    }

    /// The number of a connection that the shard has, whether its client has hung up or not.
    pub fn serial_of(&self, shard: usize, id: ConnectionId) -> Option<u32> {
        let socket = &self.sockets[(*self.by_index[shard].get(id.index())?)?];
        (socket.end == End::At(shard, id) || socket.end == End::Closed).then_some(socket.serial)
    }

    /// The broker is given `count` of the bytes that are on their way to it.
    pub fn give(&mut self, socket: usize, count: usize) {
        let one = &mut self.sockets[socket];
        let End::At(shard, id) = one.end else { return };
        if !one.reading {
            return;
        }
        let bytes: Vec<u8> = one.to_broker.drain(..count).collect();
        note_given(one, count, self.epoch + self.now.as_millis());
        let is_same_turn = self.driven[shard] == self.now;
        let is_turn_over = is_same_turn && self.shards[shard].turn().work >= self.turn.turn;
        self.given = Some(Given { serial: one.serial, is_turn_over });
        self.acted.push(one.serial);
        self.handle(shard, Input::Received { connection: id, bytes: &bytes });
        self.drove_by_socket(shard);
    }

    /// The shards that were driven since this was asked last, whether there is work left on them, how many sessions have come to them, and
    /// how their clients stand, by the numbers of their connections.
    #[allow(clippy::type_complexity)]
    pub fn look(&mut self) -> Vec<(usize, bool, u32, Vec<(u32, Standing)>)> {
        let unseen = std::mem::take(&mut self.unseen);
        let stand = |shard: usize| {
            let serial = |standing: &Standing| {
                // The client's end may be closed.
                let socket = self.by_index[shard][standing.connection.index()];
                self.sockets[socket.expect("a connection has a socket")].serial
            };
            let all =
                standings(&self.shards[shard]).into_iter().map(|standing| (serial(&standing), standing)).collect();
            (shard, self.shards[shard].is_behind(), self.arrivals[shard], all)
        };
        unseen.into_iter().map(stand).collect()
    }

    /// How much memory there is changes, as one shard sees it.
    pub fn memory(&mut self, shard: usize, stage: MemoryStage) {
        self.handle(shard, Input::Memory(stage));
        self.drove(shard);
    }

    /// A shard that wants what is on its way on some connections, picked at random. Gives them, and the sockets of those that are open.
    pub fn next_drained(&mut self, random: &mut Random) -> Option<(usize, Draining)> {
        let count = self.shards.len();
        let start = random.below(count);
        let shard = (0..count).map(|at| (start + at) % count).find(|shard| !self.draining[*shard].is_empty())?;
        let draining = std::mem::take(&mut self.draining[shard]);
        Some((shard, draining.into_iter().map(|id| (id, self.socket_of(shard, id))).collect()))
    }

    /// All that was on its way has been given, whether the broker reads or not.
    pub fn drain(&mut self, shard: usize, connection: ConnectionId, socket: Option<usize>) {
        self.mailboxes.drains(shard, connection);
        if let Some(socket) = socket {
            let one = &mut self.sockets[socket];
            let bytes: Vec<u8> = one.to_broker.drain(..).collect();
            note_given(one, bytes.len(), self.epoch + self.now.as_millis());
            self.acted.push(one.serial);
            self.handle(shard, Input::Received { connection, bytes: &bytes });
        }
        self.handle(shard, Input::Drained { connection });
        self.drove_by_socket(shard);
    }

    /// The client's end is closed.
    pub fn hang_up(&mut self, socket: usize) {
        let one = &mut self.sockets[socket];
        one.hung_up = true;
        one.under_way = None;
        if let End::At(shard, id) = one.end {
            one.end = End::Closed;
            // The index is the shard's until it has closed the connection, too.
            self.handle(shard, Input::Closed { connection: id });
            self.drove_by_socket(shard);
        }
        self.forget(socket);
    }

    fn forget(&mut self, socket: usize) {
        if self.sockets[socket].end != End::InTransit {
            self.open.retain(|open| *open != socket);
        }
    }

    /// What is on its way to the client has arrived.
    pub fn complete_send(&mut self, socket: usize) {
        let one = &mut self.sockets[socket];
        let Some(bytes) = one.under_way.take() else { return };
        one.inbox.extend_from_slice(&bytes);
        self.acted.push(one.serial);
        if let End::At(shard, id) = one.end {
            self.handle(shard, Input::Sent { connection: id, emptied: bytes });
            self.drove_by_socket(shard);
        }
    }

    pub fn request(&mut self, shard: usize, request: Request) {
        self.handle(shard, Input::Request(request));
        self.drove(shard);
    }

    pub fn congest(&mut self, from: usize, to: usize, on: bool) {
        self.mailboxes.set_congested(from, to, on);
        self.handle(from, Input::Congestion { to, congested: on });
        self.drove(from);
    }

    /// A shard hears that a queue to another one has room again.
    pub fn relieve(&mut self) -> bool {
        let Some((from, to)) = self.relieved.pop() else { return false };
        self.congest(from, to, false);
        true
    }

    pub fn stop(&mut self, shard: usize) {
        self.mailboxes.stopping = true;
        self.handle(shard, Input::Stop);
        self.drove(shard);
    }

    pub fn tick(&mut self, shard: usize) {
        self.handle(shard, Input::Tick);
        self.drove(shard);
    }

    /// Gives another turn to a shard that has not done all, picked at random.
    pub fn catch_up(&mut self, random: &mut Random) -> bool {
        let count = self.shards.len();
        let start = random.below(count);
        let is_late = |shard: &usize| self.shards[*shard].is_behind() || self.shards[*shard].turn().is_over;
        let Some(shard) = (0..count).map(|at| (start + at) % count).find(is_late) else { return false };
        self.tick(shard);
        true
    }

    /// When something is due at the earliest.
    pub fn next_deadline(&self) -> Time {
        let journals = if self.disks.is_some() { self.shards.len() } else { 0 };
        let journals = (0..journals).map(|shard| self.journal_due(shard));
        self.shards.iter().map(Shard::next_deadline).chain(journals).min().unwrap_or(Time::NEVER)
    }

    /// Delivers one message between two shards, picked at random.
    pub fn carry(&mut self, random: &mut Random) -> bool {
        let pairs = self.messages.len();
        let start = random.below(pairs);
        // The runtime leaves them where they are while a shard has done enough for one turn.
        let is_due =
            |pair: &usize| !self.messages[*pair].is_empty() && !self.shards[pair % self.shards.len()].turn().is_over;
        let Some(pair) = (0..pairs).map(|at| (start + at) % pairs).find(is_due) else {
            return self.catch_up(random);
        };
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        match self.messages[pair].pop_front() {
            Some(MeshMessage::Message(message)) => {
                if self.mailboxes.takes((from, to), &message) {
                    self.relieved.push((from, to));
                }
                self.handle(to, Input::Message { from, message });
            }
            Some(MeshMessage::HandOff(socket, accepted)) => self.hand_over(socket, to, accepted),
            Some(MeshMessage::Transfer(socket, transfer)) => self.transfer(socket, to, transfer),
            None => {}
        }
        self.drove(to);
        true
    }

    fn hand_over(&mut self, socket: usize, to: usize, accepted: Box<AcceptedConnect<State>>) {
        let id = self.assign(socket, to);
        self.sockets[socket].reading = true;
        let input = Input::HandedOff { connection: id, accepted, unsent: 0, unread: &[] };
        self.handle(to, input);
        self.note_end(socket);
    }

    fn transfer(&mut self, socket: Option<usize>, to: usize, transfer: Box<Transfer<State>>) {
        self.arrivals[to] += 1;
        let Some(socket) = socket else {
            return self.handle(to, Input::Transferred { arrived: None, transfer });
        };
        let id = self.assign(socket, to);
        let one = &mut self.sockets[socket];
        one.reading = false;
        // The bytes that had arrived when its old shard let it go. A client that has hung up has sent no more.
        let count = if one.hung_up { one.to_broker.len() } else { one.to_broker.len() / 2 };
        let bytes: Vec<u8> = one.to_broker.drain(..count).collect();
        note_given(one, count, self.epoch + self.now.as_millis());
        self.transferred.push(socket);
        let arrived = Some(ArrivedConnection { connection: id, unread: &bytes, unsent: 0 });
        self.handle(to, Input::Transferred { arrived, transfer });
        self.note_end(socket);
    }

    /// A client may have hung up while its connection was on the way: the shard that has it now finds that.
    fn note_end(&mut self, socket: usize) {
        if self.sockets[socket].hung_up {
            self.ended.push(socket);
        }
    }

    /// A connection whose end a shard can find now, picked at random: the shard reads, or is done with it.
    pub fn next_ended(&mut self, random: &mut Random) -> Option<usize> {
        let count = self.ended.len();
        let start = random.below(count);
        let is_found = |at: &usize| {
            let one = &self.sockets[self.ended[*at]];
            one.reading || !matches!(one.end, End::At(..))
        };
        let at = (0..count).map(|at| (start + at) % count).find(is_found)?;
        Some(self.ended.swap_remove(at))
    }

    /// Moves one connection that its old shard has let go into the mesh.
    pub fn detach(&mut self, random: &mut Random) -> bool {
        let count = self.detaching.len();
        let start = random.below(count);
        let ready = |one: &Detaching| one.socket.is_none_or(|socket| self.sockets[socket].under_way.is_none());
        let Some(at) = (0..count).map(|at| (start + at) % count).find(|at| ready(&self.detaching[*at])) else {
            return false;
        };
        let Detaching { from, to, message, .. } = self.detaching.swap_remove(at);
        self.messages[from * self.shards.len() + to].extend(message);
        true
    }

    /// Breaks a connection that its old shard has let go. Returns which.
    pub fn break_detaching(&mut self, pick: usize) -> Option<usize> {
        let at = pick % self.detaching.len().max(1);
        let socket = self.detaching.get(at)?.socket?;
        self.sockets[socket].hung_up = true;
        self.sockets[socket].under_way = None;
        Some(socket)
    }

    /// A connection that cannot leave its shard because its client reads nothing.
    pub fn stuck_while_detaching(&self) -> Option<usize> {
        self.detaching.iter().filter_map(|one| one.socket).find(|socket| self.sockets[*socket].stuck)
    }

    /// Polls one of the hooks that answer later.
    pub fn poll(&mut self, random: &mut Random) -> bool {
        let count = self.hooks.len();
        let start = random.below(count);
        let Some(at) = (0..count).map(|at| (start + at) % count).find(|at| !self.hooks[*at].asleep) else {
            return false;
        };
        let mut context = Context::from_waker(Waker::noop());
        match self.hooks[at].future.as_mut().poll(&mut context) {
            Poll::Pending => self.hooks[at].asleep = true,
            Poll::Ready(answer) => {
                let Running { shard, task, .. } = self.hooks.remove(at);
                let input = Input::HookAnswered { task, answer: Box::new(answer) };
                self.handle(shard, input);
                self.drove(shard);
            }
        }
        true
    }

    /// Whether a hook runs that never answers.
    pub fn waits_for_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Takes the outputs of one shard, picked at random.
    pub fn flush_any(&mut self, random: &mut Random) -> bool {
        let count = self.shards.len();
        let start = random.below(count);
        let Some(shard) = (0..count).map(|at| (start + at) % count).find(|shard| self.unflushed[*shard]) else {
            return false;
        };
        self.flush(shard);
        true
    }

    /// Takes the outputs of a shard, as a turn of the runtime does.
    pub fn flush(&mut self, shard: usize) {
        if !self.unflushed[shard] {
            return;
        }
        while let Some(output) = self.shards[shard].next_output() {
            self.carry_out(shard, output);
        }
        (self.unflushed[shard], self.past_sockets[shard]) = (false, false);
        for to in (0..self.shards.len()).filter(|to| *to != shard) {
            if self.mailboxes.is_full(shard, to) {
                self.congest(shard, to, true);
            }
        }
    }

    fn carry_out(&mut self, shard: usize, output: Output<State>) {
        match output {
            Output::Send { connection, buffer } => {
                let Some(socket) = self.socket_of(shard, connection) else { return };
                self.taken.push(socket);
                self.sockets[socket].under_way = Some(buffer.into_bytes());
            }
            Output::Messages { to, messages } => {
                messages.iter().for_each(|message| self.mailboxes.goes((shard, to), message, self.sockets.len()));
                self.messages[shard * self.shards.len() + to].extend(messages.into_iter().map(MeshMessage::Message));
            }
            Output::ReadContinuously(_)
            | Output::Deliver { .. }
            | Output::Subscribed { .. }
            | Output::SessionAnswer { .. }
            | Output::SlotsMoving(_)
            | Output::StoreReport(_) => {}
            Output::Cut(number, news) => {
                let Some(copying) = &mut self.copying else { return };
                copying.hear(shard, number, news);
                if copying.made.len() == self.shards.len() {
                    self.disks.iter_mut().for_each(|disks| disks.release_archive());
                }
            }
            Output::Pause(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.sockets[socket].reading = false;
                }
            }
            Output::Resume(id) => {
                if let Some(socket) = self.socket_of(shard, id) {
                    self.sockets[socket].reading = true;
                }
            }
            Output::Drain(connection) => self.draining[shard].push(connection),
            Output::Close { connection, last, .. } => self.close(shard, connection, last),
            Output::HandOff { connection, to, accepted } => {
                let Some(socket) = self.socket_of(shard, connection) else { return };
                self.let_go(shard, connection, socket);
                let message = Some(MeshMessage::HandOff(socket, accepted));
                self.detaching.push(Detaching { socket: Some(socket), from: shard, to, message });
            }
            Output::Transfer { connection, to, transfer } => {
                // One whose client has hung up goes along.
                let socket = connection.and_then(|id| *self.by_index[shard].get(id.index())?);
                if let (Some(id), Some(socket)) = (connection, socket) {
                    self.let_go(shard, id, socket);
                }
                let message = Some(MeshMessage::Transfer(socket, transfer));
                self.detaching.push(Detaching { socket, from: shard, to, message });
            }
            Output::RunHook { task, future } => self.hooks.push(Running { shard, task, future, asleep: false }),
            Output::CancelHook { task } => self.hooks.retain(|hook| (hook.shard, hook.task) != (shard, task)),
            Output::Journal(effect) => self.disks.as_mut().expect("there is a store").begin(shard, effect),
            Output::Archive(order) => self.disks.as_mut().expect("there is a store").order(order),
            Output::Stopped => self.stopped += 1,
        }
    }

    fn let_go(&mut self, shard: usize, id: ConnectionId, socket: usize) {
        self.by_index[shard][id.index()] = None;
        self.sockets[socket].end = End::InTransit;
    }

    fn close(&mut self, shard: usize, id: ConnectionId, last: Option<SendBuffer>) {
        let socket = self.socket_of(shard, id);
        self.by_index[shard][id.index()] = None;
        let Some(socket) = socket else { return };
        let one = &mut self.sockets[socket];
        one.end = End::Closed;
        let under_way = one.under_way.take().unwrap_or_default();
        if !one.stuck && !self.reaches_nobody {
            one.inbox.extend(under_way);
            one.inbox.extend(last.map(SendBuffer::into_bytes).unwrap_or_default());
        }
        self.taken.push(socket);
        self.forget(socket);
    }
}

/// Counts bytes that the broker was given.
fn note_given(socket: &mut Socket, count: usize, now: u64) {
    socket.given += count;
    socket.last_given = now;
}
