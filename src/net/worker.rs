//! The event loop of one shard: it hands events to the core and does what the core wants done.
//!
//! Owns the shard, its sockets, its end of the mesh and the futures of its hooks. All of them live on one thread, as
//! one task of a glommio executor.
//!
//! A turn hands in all events that are there, then writes once to each connection that has output. Bytes per turn are
//! bounded by the receive buffers, and the core bounds the work that follows from them, and from output that has left: what it puts off for
//! the next turn, it does at a tick. Messages of other shards stay in the mesh when the core has done enough for one turn: so a shard
//! that is behind slows down who writes to it.
//!
//! An idle thread sleeps in its own ring, which costs one system call. Only while hooks are pending does it sleep in
//! the executor, because hooks may use the executor's timers and blocking calls. The ring's bell wakes it for
//! everything else.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use glommio::timer::Timer;

use super::bell::Bell;
use super::clock::Clock;
use super::command::{Command, SubscriptionEvent};
use super::hook_tasks::HookTasks;
use super::memory::MemoryBudget;
use super::mesh::{Inbox, Mesh};
use super::opening::{LOOK, Opening, Start, Step};
use super::output::{self, WireBuffer};
use super::places::Places;
use super::requests::Requests;
use super::ring::SetupStep;
use super::ring_wakeup::Eventfd;
use super::sockets::{DetachedSocket, Event, SocketLimits, Sockets};
use crate::client::{ConnectionId, log_client};
use crate::config::Limit;
use crate::connection;
use crate::hooks::Chain;
use crate::journal::Effect;
use crate::memory::{Held, MemoryKind, allocated_for};
use crate::shard::{AcceptedConnect, ArrivedConnection, Input, Output, Shard, ShardMessage, Transfer, TurnState};
use crate::storage::archive::ArchiveDoor;
use crate::storage::{Begun, JournalFiles};
use crate::time::Time;

/// Messages of other shards per turn at most, and as many commands of other threads: then the sockets have their turn.
const MESSAGES_PER_TURN: usize = 256;
/// Messages of other shards that are handed in in each turn, also if sockets have brought all that fits into it.
const LEAST_PER_TURN: usize = 8;
/// About what a connection that is handed over holds on to, in bytes, but for what it has read and not sent.
const HAND_OFF: usize = 1024;
/// The longest time between two polls of the executor's own ring while hooks are pending, however busy the shard is.
const HOOK_LATENCY: Duration = Duration::from_millis(1);
/// The shortest time that such a poll lasts.
const HOOK_LOOK: Duration = Duration::from_micros(10);

/// A message from one shard's thread to another's. `S` is the state of the hooks that a session carries.
pub enum MeshMessage<S> {
    /// Messages of the core's, in order, and the memory they take but for what they hold on to.
    Messages(Vec<ShardMessage>, Held<{ MemoryKind::BetweenShards as u8 }>),
    /// A connection whose client belongs to the receiver.
    HandOff {
        /// The socket of the connection.
        socket: DetachedSocket,
        /// The state of the connection, for the receiver's core.
        accepted: Box<AcceptedConnect<S>>,
    },
    /// A session whose slot belongs to the receiver.
    Transfer {
        /// The socket of its connection. None if the session is offline.
        socket: Option<DetachedSocket>,
        /// The session.
        transfer: Box<Transfer<S>>,
    },
}

/// A connection that leaves for shard `to` once nothing is outstanding on its socket, and the state that travels with
/// it.
enum OutgoingMigration<S> {
    HandOff { to: usize, accepted: Box<AcceptedConnect<S>> },
    Transfer { to: usize, transfer: Box<Transfer<S>> },
}

/// A payload, or properties, that the ring sends from the memory of the message. It keeps the message alive until the send is over.
struct Payload(connection::Splice);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// The limits of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// The limits of its sockets.
    pub sockets: SocketLimits,
    /// Turns without an event before the worker sleeps.
    pub spin: u32,
    /// The memory that the process may hold.
    pub max_memory: Limit,
    /// The longest time that an orderly stop takes. Connections that are left then are closed without their output.
    pub shutdown_timeout: Duration,
}

/// The parts of a worker.
pub struct WorkerParts<C: Chain> {
    /// The core.
    pub shard: Shard<C>,
    /// The shard's end of the mesh.
    pub mesh: Mesh<MeshMessage<C::State>>,
    /// The commands of other threads. Its senders ring the mesh's doorbell.
    pub inbox: Inbox<Command>,
    /// The listening sockets, by listener number: see [`listen`](super::sockets::listen).
    pub listeners: Vec<OwnedFd>,
    /// The places for connections, the same on all shards.
    pub places: Arc<Places>,
    /// The clock, the same on all shards.
    pub clock: Clock,
    /// The files of its journal, if it has one.
    pub journal: Option<JournalFiles>,
    /// The door to the thread of the archive, if there is one.
    pub archive: Option<ArchiveDoor>,
    /// If there is a store: what all shards wait for before clients may come.
    pub opening: Option<Arc<Opening>>,
}

/// The thread of one shard: the event loop around its core.
pub struct Worker<C: Chain> {
    shard: Shard<C>,
    mesh: Mesh<MeshMessage<C::State>>,
    /// Messages that came together from another shard, as far as they did not fit into the last turn.
    received: Option<(usize, std::vec::IntoIter<ShardMessage>, Held<{ MemoryKind::BetweenShards as u8 }>)>,
    inbox: Inbox<Command>,
    places: Arc<Places>,
    /// What came from there and is not answered.
    requests: Requests,
    clock: Clock,
    limits: WorkerLimits,
    memory: MemoryBudget,

    sockets: Sockets<Payload>,
    hooks: HookTasks,
    /// Raised by completions while the worker sleeps in the executor.
    bell: Bell,
    /// The mesh's doorbell. Our ring watches it, too, but its completion does not raise the bell: the kernel (seen with
    /// Linux 6.18) does not signal an eventfd from within the signal of another one.
    door: Bell,

    /// The time of the present turn.
    now: Time,
    /// The time of the next poll of the executor's own ring.
    next_hook_look: Time,
    migrating: HashMap<ConnectionId, OutgoingMigration<C::State>>,
    /// The files of the core's journal.
    journal: Option<JournalFiles>,
    archive: Option<ArchiveDoor>,
    /// The start, which is not over.
    opening: Option<Start>,
    /// Connections of which the core wants what the kernel has now: it comes with the events of the next turn.
    draining: Vec<ConnectionId>,
    stopping: Stopping,
}

/// The progress of an orderly stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// The core ends its connections, until this deadline.
    Until(Time),
    /// The core is done. Its last output is being sent, until this deadline.
    Flushing(Time),
}

impl<C: Chain> Worker<C> {
    /// A worker for this thread. It may be made inside a glommio executor only.
    ///
    /// # Errors
    ///
    /// The step of setting up the ring that failed, and the kernel's answer.
    pub fn new(parts: WorkerParts<C>, limits: WorkerLimits) -> Result<Self, (SetupStep, io::Error)> {
        let hooks = HookTasks::new(parts.mesh.doorbell());
        let bell = Eventfd::new().map_err(|error| (SetupStep::Eventfd, error))?;
        let mut sockets = Sockets::new(limits.sockets, parts.listeners, bell.as_fd())?;
        sockets.set_accepting(parts.opening.is_none());
        sockets.share_places(Arc::clone(&parts.places.sockets), parts.mesh.shard());
        let bell = Bell::new(&bell).map_err(|error| (SetupStep::Eventfd, error))?;
        let door = Bell::new(parts.mesh.doorbell().eventfd()).map_err(|error| (SetupStep::Eventfd, error))?;
        let shard = parts.mesh.shard();
        Ok(Worker {
            shard: parts.shard,
            mesh: parts.mesh,
            received: None,
            inbox: parts.inbox,
            places: parts.places,
            requests: Requests::new(shard),
            clock: parts.clock,
            limits,
            memory: MemoryBudget::new(limits.max_memory, shard),
            sockets,
            hooks,
            bell,
            door,
            now: parts.clock.now(),
            next_hook_look: parts.clock.now(),
            migrating: HashMap::new(),
            journal: parts.journal,
            archive: parts.archive,
            opening: parts.opening.map(Start::new),
            draining: Vec::new(),
            stopping: Stopping::No,
        })
    }

    /// Runs the event loop until [`Command::Stop`] has been carried out.
    ///
    /// # Errors
    ///
    /// An error of the ring that the kernel cannot go on after, or of the journal: what is to be stored cannot be any more. The shard's connections are
    /// lost then.
    pub async fn run(mut self) -> io::Result<()> {
        self.sockets.watch(self.mesh.doorbell().as_fd());
        let mut looks = 0;
        while !self.has_ended() {
            self.now = self.clock.now();
            self.sockets.submit(self.now)?;
            let is_busy = self.turn();
            if let Err(failure) = self.shard.journal_wake_up() {
                return Err(io::Error::other(failure.to_string()));
            }
            if is_busy {
                looks = 0;
            } else if looks < self.limits.spin {
                looks += 1;
            } else {
                looks = 0;
                self.sleep().await?;
            }
            if !self.hooks.is_empty() {
                self.let_hooks_run().await;
            }
        }
        let Worker { bell, door, .. } = self;
        let closed = bell.close().await;
        door.close().await.and(closed)
    }

    /// Gives the tasks that hooks have started on the executor their turn. Every [`HOOK_LATENCY`] this task sleeps, so
    /// that the executor polls its own ring: it does so only when no task can run.
    async fn let_hooks_run(&mut self) {
        if self.now < self.next_hook_look {
            glommio::executor().yield_now().await;
        } else {
            Timer::new(HOOK_LOOK).await;
            self.next_hook_look = self.now + HOOK_LATENCY;
        }
    }

    fn has_ended(&self) -> bool {
        match self.stopping {
            Stopping::No => false,
            Stopping::Until(deadline) => self.now >= deadline,
            // What other shards wait for has left, too.
            Stopping::Flushing(deadline) => self.sockets.is_empty() && self.mesh.has_sent_all() || self.now >= deadline,
        }
    }

    /// Hands all events in and does all that follows. Returns whether there was an event.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        if self.opening.is_some() {
            self.go_on_opening();
        }
        if let Some(stage) = self.memory.look(self.now) {
            self.shard.handle(Input::Memory(stage), self.now);
            busy = true;
        }
        // Before everything else: when a connection leaves the core, what has come for it must be in, and its socket is detached at
        // the end of the turn.
        while let Some(event) = self.sockets.next_event(self.now) {
            self.on_event(event);
            busy = true;
        }
        busy |= self.drain();
        busy |= self.receive_messages();
        busy |= self.receive_commands();
        for _ in 0..self.hooks.woken() {
            busy = true;
            if let Some((task, answer)) = self.hooks.poll_next() {
                self.shard.handle(Input::HookAnswered { task, answer: Box::new(answer) }, self.now);
            }
        }
        if self.shard.next_deadline() <= self.now {
            self.shard.handle(Input::Tick, self.now);
            busy = true;
        }
        self.carry_out_all();
        busy | self.flush_mesh()
    }

    /// What the kernel had of some connections has come with the events of this turn; but for those that the ring does not read.
    fn drain(&mut self) -> bool {
        let draining = std::mem::take(&mut self.draining);
        for connection in &draining {
            if let Some(bytes) = self.sockets.read_now(*connection) {
                self.shard.handle(Input::Received { connection: *connection, bytes: &bytes }, self.now);
            }
            self.shard.handle(Input::Drained { connection: *connection }, self.now);
        }
        !draining.is_empty()
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Accepted { conn, listener, peer } => {
                let Some(admission) = self.places.take(self.mesh.shard(), listener, now) else {
                    self.sockets.abort(conn);
                    return self.shard.handle(Input::TurnedAway { listener, peer }, now);
                };
                let connected_at = SystemTime::now();
                let input = Input::Accepted { connection: conn, listener, peer, connected_at, admission };
                self.shard.handle(input, now);
            }
            Event::TurnedAway { listener, peer } => self.shard.handle(Input::TurnedAway { listener, peer }, now),
            Event::Received { conn, buffer } => {
                let bytes = self.sockets.bytes(&buffer);
                self.shard.handle(Input::Received { connection: conn, bytes }, now);
                self.sockets.give_back(buffer);
            }
            Event::Sent { conn, emptied } => self.shard.handle(Input::Sent { connection: conn, emptied }, now),
            Event::Closed { conn } => self.shard.handle(Input::Closed { connection: conn }, now),
            Event::Detached { conn, socket } => match self.migrating.remove(&conn) {
                None => {}
                Some(OutgoingMigration::HandOff { to, accepted }) => {
                    let weight = HAND_OFF + socket.unread.len() + socket.unsent.len();
                    self.mesh.send(to, MeshMessage::HandOff { socket, accepted }, weight);
                }
                Some(OutgoingMigration::Transfer { to, transfer }) => {
                    let weight = transfer.weight() + socket.unread.len() + socket.unsent.len();
                    self.mesh.send(to, MeshMessage::Transfer { socket: Some(socket), transfer }, weight);
                }
            },
            Event::Woken => self.sockets.watch(self.mesh.doorbell().as_fd()),
            Event::Journal(answer) => self.shard.handle(Input::Journal(answer), now),
        }
    }

    fn receive_messages(&mut self) -> bool {
        let mut busy = false;
        let mut least = LEAST_PER_TURN;
        for _ in 0..MESSAGES_PER_TURN {
            if !self.hand_in_received(&mut least) {
                break;
            }
            let Some((from, message)) = self.mesh.receive() else { break };
            busy = true;
            match message {
                MeshMessage::Messages(messages, held) => self.received = Some((from, messages.into_iter(), held)),
                MeshMessage::HandOff { socket, accepted } => self.adopt_connection(socket, accepted),
                MeshMessage::Transfer { socket, transfer } => self.adopt_session(socket, transfer),
            }
        }
        self.hand_in_received(&mut least);
        busy || self.received.is_some()
    }

    /// Hands in messages that came together: as far as they fit into this turn, and `least` in any case, which it counts down. Returns
    /// whether all of them are in, and there may be more.
    fn hand_in_received(&mut self, least: &mut usize) -> bool {
        while takes_message(self.shard.turn(), *least) {
            *least = least.saturating_sub(1);
            let Some((from, messages, _)) = &mut self.received else { return true };
            let from = *from;
            match messages.next() {
                Some(message) => {
                    let before = self.shard.turn().work;
                    self.shard.handle(Input::Message { from, message }, self.now);
                    let after = self.shard.turn().work;
                    // The first one of a turn begins it.
                    self.mesh.was_work(from, after.checked_sub(before).unwrap_or(after));
                }
                None => {
                    self.received = None;
                    self.mesh.tell_cost(from);
                }
            }
        }
        false
    }

    fn adopt_connection(&mut self, socket: DetachedSocket, accepted: Box<AcceptedConnect<C::State>>) {
        let unsent = socket.unsent.len();
        let Some((connection, unread)) = self.sockets.adopt(socket) else {
            self.count_connection_out(accepted.listener());
            let shard = self.mesh.shard();
            return log_client!(
                warn,
                accepted.client,
                shard,
                "connection closed: its shard has no room for its socket"
            );
        };
        self.shard.handle(Input::HandedOff { connection, accepted, unsent, unread: &unread }, self.now);
    }

    fn adopt_session(&mut self, socket: Option<DetachedSocket>, transfer: Box<Transfer<C::State>>) {
        let listener = transfer.listener();
        let had_socket = socket.is_some();
        let unsent = socket.as_ref().map_or(0, |socket| socket.unsent.len());
        let adopted = socket.and_then(|socket| self.sockets.adopt(socket));
        if had_socket && adopted.is_none() {
            self.count_connection_out(listener);
        }
        let arrived =
            adopted.as_ref().map(|(connection, unread)| ArrivedConnection { connection: *connection, unread, unsent });
        self.shard.handle(Input::Transferred { arrived, transfer }, self.now);
    }

    fn count_connection_out(&self, listener: usize) {
        self.places.give_back(self.mesh.shard(), Some(listener));
    }

    fn receive_commands(&mut self) -> bool {
        let mut busy = false;
        for at in 0..MESSAGES_PER_TURN {
            if at > 0 && self.shard.turn().is_over {
                break;
            }
            let Some(command) = self.inbox.receive(self.sets_aside()) else { break };
            busy = true;
            self.carry_out_command(command);
        }
        busy
    }

    /// Whether the shard has no room for what the program publishes.
    fn sets_aside(&self) -> bool {
        self.stopping == Stopping::No && self.shard.turn().program_waits
    }

    fn carry_out_command(&mut self, command: Command) {
        match command {
            Command::Stop if self.stopping == Stopping::No => {
                // What the program published before comes first.
                while let Some(command) = self.inbox.take_aside() {
                    self.carry_out_command(command);
                }
                self.stopping = Stopping::Until(self.now + self.limits.shutdown_timeout);
                self.sockets.close_listeners();
                self.shard.handle(Input::Stop, self.now);
            }
            Command::Prepared(prepared) => {
                if let Some(files) = &mut self.journal {
                    let answer = files.prepared(prepared);
                    self.shard.handle(Input::Journal(answer), self.now);
                }
            }
            Command::Archived(answer) => self.shard.handle(Input::Archive(answer), self.now),
            command => self.requests.hand_in(command, &mut self.shard, self.now),
        }
    }

    /// Takes what the core wants done and does it, until there is nothing more.
    fn carry_out_all(&mut self) {
        while let Some(output) = self.shard.next_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output<C::State>) {
        match output {
            Output::Send { connection, buffer } => self.sockets.send(connection, sendable(buffer)),
            Output::ReadContinuously(conn) => self.sockets.read_continuously(conn),
            Output::Pause(conn) => self.sockets.pause(conn),
            Output::Resume(conn) => self.sockets.resume(conn),
            Output::Drain(conn) => self.draining.push(conn),
            Output::Close { connection, listener, last } => {
                self.places.give_back(self.mesh.shard(), listener);
                self.sockets.close(connection, last.map(sendable).unwrap_or_default(), self.now);
            }
            Output::HandOff { connection, to, accepted } => {
                self.migrating.insert(connection, OutgoingMigration::HandOff { to, accepted });
                self.sockets.detach(connection);
            }
            Output::Transfer { connection: Some(connection), to, transfer } => {
                self.migrating.insert(connection, OutgoingMigration::Transfer { to, transfer });
                self.sockets.detach(connection);
            }
            Output::Transfer { connection: None, to, transfer } => {
                let weight = transfer.weight();
                self.mesh.send(to, MeshMessage::Transfer { socket: None, transfer }, weight);
            }
            Output::RunHook { task, future } => self.hooks.run(task, future),
            Output::CancelHook { task } => self.hooks.cancel(task),
            Output::Deliver { subscription, message } => self.notify(subscription, SubscriptionEvent::Message(message)),
            Output::Subscribed { subscription } => self.notify(subscription, SubscriptionEvent::Subscribed),
            Output::Cut(number, news) => self.requests.journal_was_cut(number, news),
            Output::StoreReport(report) => self.requests.stored_was_counted(report),
            Output::SlotsMoving(moving) => self.requests.slots_are_moving(moving),
            Output::SessionAnswer { ticket, found } => self.requests.session_was_found(ticket, found),
            Output::Messages { to, messages } => {
                let bytes = messages.iter().map(ShardMessage::weight).sum();
                let weight = self.mesh.weight(to, bytes, messages.len());
                let held = Held::new(allocated_for::<ShardMessage>(messages.capacity()));
                self.mesh.send(to, MeshMessage::Messages(messages, held), weight);
            }
            Output::Journal(effect) => self.begin(effect),
            Output::Archive(order) => {
                // If its thread has died, the process ends.
                if let Some(door) = &self.archive {
                    let _ = door.give(order);
                }
            }
            Output::Stopped => {
                if let Stopping::Until(deadline) = self.stopping {
                    self.stopping = Stopping::Flushing(deadline);
                }
            }
        }
    }

    fn notify(&mut self, subscription: u64, event: SubscriptionEvent) {
        if !self.requests.notify(subscription, event) {
            self.shard.handle(Input::Undelivered, self.now);
        }
    }

    /// Sends on what the mesh had no room for, and tells the core which shards are congested, and what messages cost them. Returns whether
    /// congestion has changed.
    fn flush_mesh(&mut self) -> bool {
        self.mesh.flush();
        while let Some((to, work)) = self.mesh.next_cost() {
            self.shard.handle(Input::Cost { to, work }, self.now);
        }
        let mut changed = false;
        while let Some((to, congested)) = self.mesh.next_change() {
            self.shard.handle(Input::Congestion { to, congested }, self.now);
            changed = true;
        }
        if changed {
            self.carry_out_all();
        }
        changed
    }
}

/// The store.
impl<C: Chain> Worker<C> {
    /// Goes on with the start, as far as the other shards are: when all have what was on disk, what the end of the last broker meant for that
    /// happens, and when it has on all, clients may come.
    #[cold]
    fn go_on_opening(&mut self) {
        let Some(start) = &mut self.opening else { return };
        let Some(step) = start.next(|| self.shard.is_restored()) else { return };
        match step {
            Step::Restored => {}
            Step::Ended => self.shard.handle(Input::Restored, self.now),
            Step::Open => self.sockets.set_accepting(true),
        }
        if !start.came_to(step) {
            self.opening = None;
        }
    }

    /// Begins to do something for the core's journal.
    fn begin(&mut self, effect: Effect) {
        let Some(files) = &mut self.journal else { return };
        match files.begin(effect) {
            Begun::Write { file, write } => self.sockets.write_file(file, write),
            Begun::HandedOver => {}
            Begun::Answered(answer) => self.shard.handle(Input::Journal(answer), self.now),
        }
    }
}

/// Sleep.
impl<C: Chain> Worker<C> {
    /// Sleeps until an event or the next deadline.
    async fn sleep(&mut self) -> io::Result<()> {
        let at_most = self.until_next_deadline();
        let doorbell = Arc::clone(self.mesh.doorbell());
        let found = || {
            self.mesh.has_work()
                || !self.inbox.is_empty(self.sets_aside())
                || self.hooks.has_woken()
                || self.sockets.has_work()
        };
        if !doorbell.sleep_unless(found) {
            return Ok(());
        }
        let slept = match self.hooks.is_empty() {
            true => self.sockets.wait(at_most, self.now),
            false => self.sleep_in_executor(at_most).await,
        };
        doorbell.awake();
        slept
    }

    fn until_next_deadline(&self) -> Option<Duration> {
        let stop = match self.stopping {
            Stopping::No => Time::NEVER,
            Stopping::Until(deadline) | Stopping::Flushing(deadline) => deadline,
        };
        let deadline =
            self.shard.next_deadline().min(self.sockets.next_deadline()).min(self.memory.next_deadline()).min(stop);
        let at_most = (deadline != Time::NEVER).then(|| deadline.since(self.now));
        let look = self.opening.as_ref().map(|_| LOOK);
        let commit = self.shard.journal_wake_up().ok().flatten();
        let commit = commit.map(|at| at.saturating_sub(self.clock.exact()));
        [at_most, look, commit].into_iter().flatten().min()
    }

    /// Sleeps as a task of the executor, which goes on with the tasks that hooks have started on it.
    async fn sleep_in_executor(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.sockets.ring_bell(true);
        self.sockets.submit(self.now)?;
        if !self.sockets.has_work() {
            let Worker { bell, door, .. } = self;
            let mut timer = pin!(async {
                match at_most {
                    Some(at_most) => drop(Timer::new(at_most).await),
                    None => std::future::pending().await,
                }
            });
            poll_fn(|cx| {
                if let Poll::Ready(raised) = bell.poll_raised(cx) {
                    return Poll::Ready(raised);
                }
                if let Poll::Ready(raised) = door.poll_raised(cx) {
                    return Poll::Ready(raised);
                }
                timer.as_mut().poll(cx).map(Ok)
            })
            .await?;
        }
        self.sockets.ring_bell(false);
        Ok(())
    }
}

/// Whether a shard takes one more message of another: while it has its turn, and some of them in any case, of which `least` are left, unless
/// these are a lot of work; none if there is no room.
fn takes_message(turn: TurnState, least: usize) -> bool {
    !turn.is_over || !turn.is_full && (least == LEAST_PER_TURN || least > 0 && !turn.is_far_over)
}

/// What the core sends, in the form that the ring takes.
fn sendable(buffer: connection::SendBuffer) -> WireBuffer<Payload> {
    let splices = buffer.splices.into_iter();
    let splices = splices.map(|splice| output::Splice { at: splice.at, payload: Payload(splice) });
    WireBuffer { bytes: buffer.bytes, splices: splices.collect() }
}
