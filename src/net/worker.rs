//! One shard at work: the loop that feeds its core and carries out what the core asks for.
//!
//! Owns the shard, its sockets, its end of the mesh and the futures of its hooks; all of them on one thread, as one task of
//! a glommio executor. A turn takes in everything that has happened, in one go, and then writes once to each connection
//! that has output: a connection that floods us gets no more than the receive buffers hold before the others have their
//! turn.
//!
//! With nothing to do the thread sleeps in its own ring, which costs one system call. Only while hooks are under way does
//! it sleep in the executor, which hooks may use for timers and blocking work of their own; the ring's bell wakes it for
//! everything else.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use glommio::timer::Timer;

use super::bell::Bell;
use super::clock::Clock;
use super::errand::{Errand, Sink, Told};
use super::hook_tasks::HookTasks;
use super::mesh::{Inbox, Mesh};
use super::output::{self, Output};
use super::ring::SetupStep;
use super::ring_wakeup::Eventfd;
use super::sockets::{Event, Moving, SocketLimits, Sockets};
use crate::client::ConnectionId;
use crate::connection;
use crate::hooks::Chain;
use crate::message::Message;
use crate::shard::{Arrival, Effect, Mail, Shard, Transfer};
use crate::time::Time;

/// Letters of other shards, and requests of other threads, that are taken in before the sockets have their turn.
const LETTERS_PER_TURN: usize = 256;
/// How often, while hooks are under way, the executor looks for what they wait for, however busy the shard is.
const HOOK_LATENCY: Duration = Duration::from_millis(1);
/// How long it looks at least.
const HOOK_LOOK: Duration = Duration::from_micros(10);

/// What one shard's thread sends another's. `S` is what the hooks keep with a session.
pub enum Parcel<S> {
    /// Mail of one turn, in order.
    Mail(Vec<Mail>),
    /// A connection whose client belongs to the receiver.
    HandOff {
        /// Its socket.
        moving: Moving,
        /// What the receiver's core must know.
        arrival: Box<Arrival<S>>,
    },
    /// A session whose slot belongs to the receiver, with its socket unless it has none or lost it on the way.
    Transfer {
        /// Its socket.
        moving: Option<Moving>,
        /// The session.
        transfer: Box<Transfer<S>>,
    },
}

/// Where a connection goes once nothing is outstanding on its socket, and what goes with it.
enum Departure<S> {
    HandOff { to: usize, arrival: Box<Arrival<S>> },
    Transfer { to: usize, transfer: Box<Transfer<S>> },
}

/// A payload as the ring sends it: from the message itself, which lives until it has left.
struct Payload(Message);

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

/// How a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerLimits {
    /// Those of its sockets.
    pub sockets: SocketLimits,
    /// How many times a worker with nothing to do looks again before it sleeps.
    pub spin: u32,
    /// How long a stop may take before what is left is cut.
    pub shutdown_timeout: Duration,
}

/// What a worker is made of.
pub struct WorkerParts<C: Chain> {
    /// The core.
    pub shard: Shard<C>,
    /// The end of the mesh with the number of the shard.
    pub mesh: Mesh<Parcel<C::State>>,
    /// Rings the mesh's doorbell.
    pub inbox: Inbox<Errand>,
    /// By listener number: see [`listen`](super::sockets::listen).
    pub listeners: Vec<OwnedFd>,
    /// How many connections each listener has, counted on all shards together.
    pub connections: Arc<[AtomicUsize]>,
    /// The same on all shards.
    pub clock: Clock,
}

/// One shard at work.
pub struct Worker<C: Chain> {
    shard: Shard<C>,
    mesh: Mesh<Parcel<C::State>>,
    inbox: Inbox<Errand>,
    connections: Arc<[AtomicUsize]>,
    /// Where messages for the embedding program's subscriptions go.
    sinks: HashMap<u64, Sink>,
    clock: Clock,
    limits: WorkerLimits,

    sockets: Sockets<Payload>,
    hooks: HookTasks,
    /// Raised by completions while we sleep in the executor.
    bell: Bell,
    /// The mesh's doorbell. Our ring watches it, too, but its completion does not raise the bell: the kernel (seen with Linux 6.18)
    /// does not signal an eventfd from within the signal of another one.
    door: Bell,

    /// Of the present turn.
    now: Time,
    /// When the executor is to look for what hooks wait for.
    next_hook_look: Time,
    leaving: HashMap<ConnectionId, Departure<C::State>>,
    stopping: Stopping,

    /// Room to work in, kept to save allocations.
    dirty: Vec<ConnectionId>,
    effects: Vec<Effect<C::State>>,
}

/// How far an orderly stop is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// The core is ending its connections. What is left at that time is cut.
    Until(Time),
    /// The core is done; its last output is on its way.
    Flushing(Time),
}

impl<C: Chain> Worker<C> {
    /// A worker for this thread. Only inside a glommio executor.
    ///
    /// # Errors
    ///
    /// The step of setting up the ring that failed, and the kernel's answer.
    pub fn new(parts: WorkerParts<C>, limits: WorkerLimits) -> Result<Self, (SetupStep, io::Error)> {
        let hooks = HookTasks::new(parts.mesh.doorbell());
        let bell = Eventfd::new().map_err(|error| (SetupStep::Eventfd, error))?;
        let sockets = Sockets::new(limits.sockets, parts.listeners, bell.as_fd())?;
        let bell = Bell::new(&bell).map_err(|error| (SetupStep::Eventfd, error))?;
        let door = Bell::new(parts.mesh.doorbell().eventfd()).map_err(|error| (SetupStep::Eventfd, error))?;
        Ok(Worker {
            shard: parts.shard,
            mesh: parts.mesh,
            inbox: parts.inbox,
            connections: parts.connections,
            sinks: HashMap::new(),
            clock: parts.clock,
            limits,
            sockets,
            hooks,
            bell,
            door,
            now: parts.clock.now(),
            next_hook_look: parts.clock.now(),
            leaving: HashMap::new(),
            stopping: Stopping::No,
            dirty: Vec::new(),
            effects: Vec::new(),
        })
    }

    /// Works until [`Errand::Stop`] has been carried out.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to go on with the ring. The shard's connections are lost then.
    pub async fn run(mut self) -> io::Result<()> {
        self.sockets.watch(self.mesh.doorbell().as_fd());
        let mut looks = 0;
        while !self.has_ended() {
            self.now = self.clock.now();
            self.sockets.submit(self.now)?;
            if self.turn() {
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

    /// Gives the executor its turn, for what hooks have begun there; now and then has it look for what that waits for. It
    /// looks only when no task can run, this one included.
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
            Stopping::Flushing(deadline) => self.sockets.is_empty() || self.now >= deadline,
        }
    }

    /// Takes in what has happened and sends out what comes of it. Whether anything had happened.
    fn turn(&mut self) -> bool {
        let mut busy = false;
        while let Some(event) = self.sockets.next_event(self.now) {
            self.on_event(event);
            busy = true;
        }
        busy |= self.receive_mail();
        busy |= self.receive_errands();
        for _ in 0..self.hooks.woken() {
            busy = true;
            if let Some((task, answer)) = self.hooks.go_on() {
                self.shard.hook_answered(task, answer, self.now);
            }
        }
        if self.shard.next_deadline() <= self.now {
            self.shard.tick(self.now);
            busy = true;
        }
        self.carry_out_all();
        busy | self.send_mail()
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Accepted { conn, listener, peer } => {
                let connections = self.connections[listener].fetch_add(1, Ordering::Relaxed) + 1;
                self.shard.accepted(conn, listener, peer, SystemTime::now(), connections, now);
            }
            Event::Received { conn, buffer } => {
                self.shard.received(conn, self.sockets.bytes(&buffer), now);
                self.sockets.give_back(buffer);
            }
            Event::Sent { conn, emptied } => self.shard.sent(conn, emptied, now),
            Event::Closed { conn } => match self.leaving.remove(&conn) {
                None => self.shard.closed(conn, now),
                Some(Departure::HandOff { arrival, .. }) => self.one_connection_less(arrival.listener()),
                Some(Departure::Transfer { to, transfer }) => {
                    self.one_connection_less(transfer.listener());
                    self.mesh.send(to, Parcel::Transfer { moving: None, transfer }, 1);
                }
            },
            Event::Detached { conn, moving } => match self.leaving.remove(&conn) {
                None => {}
                Some(Departure::HandOff { to, arrival }) => {
                    self.mesh.send(to, Parcel::HandOff { moving, arrival }, 1);
                }
                Some(Departure::Transfer { to, transfer }) => {
                    self.mesh.send(to, Parcel::Transfer { moving: Some(moving), transfer }, 1);
                }
            },
            Event::Woken => self.sockets.watch(self.mesh.doorbell().as_fd()),
        }
    }

    fn receive_mail(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..LETTERS_PER_TURN {
            let Some((from, parcel)) = self.mesh.receive() else { break };
            busy = true;
            match parcel {
                Parcel::Mail(mail) => mail.into_iter().for_each(|mail| self.shard.mail(from, mail, self.now)),
                Parcel::HandOff { moving, arrival } => self.welcome(moving, arrival),
                Parcel::Transfer { moving, transfer } => self.take_over(moving, *transfer),
            }
        }
        busy
    }

    fn welcome(&mut self, moving: Moving, arrival: Box<Arrival<C::State>>) {
        let unsent = moving.unsent.len();
        let Some((conn, unread)) = self.sockets.adopt(moving) else {
            return self.one_connection_less(arrival.listener());
        };
        self.shard.arrived(conn, arrival, self.now);
        self.shard.still_sending(conn, unsent);
        if !unread.is_empty() {
            self.shard.received(conn, &unread, self.now);
        }
    }

    fn take_over(&mut self, moving: Option<Moving>, transfer: Transfer<C::State>) {
        let listener = transfer.listener();
        let had_socket = moving.is_some();
        let unsent = moving.as_ref().map_or(0, |moving| moving.unsent.len());
        match moving.and_then(|moving| self.sockets.adopt(moving)) {
            Some((conn, unread)) => {
                self.shard.transferred(Some((conn, &unread)), transfer, self.now);
                self.shard.still_sending(conn, unsent);
            }
            None => {
                if had_socket {
                    self.one_connection_less(listener);
                }
                self.shard.transferred(None, transfer, self.now);
            }
        }
    }

    fn one_connection_less(&self, listener: usize) {
        self.connections[listener].fetch_sub(1, Ordering::Relaxed);
    }

    fn receive_errands(&mut self) -> bool {
        let mut busy = false;
        for _ in 0..LETTERS_PER_TURN {
            let Some(errand) = self.inbox.receive() else { break };
            busy = true;
            match errand {
                Errand::Request(request) => self.shard.request(request, self.now),
                Errand::Report { answer } => drop(answer.try_send(self.shard.report())),
                Errand::MoveSlots { slots, to, answer } => {
                    drop(answer.try_send(self.shard.move_slots(&slots, to, self.now)));
                }
                Errand::Hooks { answer } => drop(answer.try_send(self.shard.hook_reports())),
                Errand::Open { subscription, sink } => drop(self.sinks.insert(subscription, sink)),
                Errand::Close { subscription } => drop(self.sinks.remove(&subscription)),
                Errand::Stop if self.stopping == Stopping::No => {
                    self.stopping = Stopping::Until(self.now + self.limits.shutdown_timeout);
                    self.sockets.close_listeners();
                    self.shard.stop(self.now);
                }
                Errand::Stop => {}
            }
        }
        busy
    }

    /// Writes to the connections that have output and carries out effects, until there are none. An effect finds the
    /// output that was made before it sent.
    fn carry_out_all(&mut self) {
        loop {
            self.shard.take_dirty(&mut self.dirty);
            for conn in self.dirty.drain(..) {
                if let Some(output) = self.shard.take_output(conn) {
                    self.sockets.send(conn, sendable(output));
                }
            }
            let mut effects = std::mem::take(&mut self.effects);
            self.shard.take_effects(&mut effects);
            let done = effects.is_empty();
            effects.drain(..).for_each(|effect| self.carry_out(effect));
            self.effects = effects;
            if done {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect<C::State>) {
        match effect {
            Effect::ReadContinuously(conn) => self.sockets.read_continuously(conn),
            Effect::Pause(conn) => self.sockets.pause(conn),
            Effect::Resume(conn) => self.sockets.resume(conn),
            Effect::Close { connection, listener, last } => {
                self.one_connection_less(listener);
                self.sockets.close(connection, last.map(sendable).unwrap_or_default(), self.now);
            }
            Effect::HandOff { connection, to, arrival } => {
                self.leaving.insert(connection, Departure::HandOff { to, arrival });
                self.sockets.detach(connection);
            }
            Effect::Transfer { connection: Some(connection), to, transfer } => {
                self.leaving.insert(connection, Departure::Transfer { to, transfer });
                self.sockets.detach(connection);
            }
            Effect::Transfer { connection: None, to, transfer } => {
                self.mesh.send(to, Parcel::Transfer { moving: None, transfer }, 1);
            }
            Effect::RunHook { task, future } => self.hooks.run(task, future),
            Effect::CancelHook { task } => self.hooks.cancel(task),
            Effect::Deliver { subscription, message } => self.tell(subscription, Told::Message(message)),
            Effect::Subscribed { subscription } => self.tell(subscription, Told::Subscribed),
            Effect::Stopped => {
                if let Stopping::Until(deadline) = self.stopping {
                    self.stopping = Stopping::Flushing(deadline);
                }
            }
        }
    }

    fn tell(&mut self, subscription: u64, told: Told) {
        if let Some(sink) = self.sinks.get_mut(&subscription) {
            sink(told);
        }
    }

    /// Posts the core's mail and tells it of congestion. Whether there was any change of that.
    fn send_mail(&mut self) -> bool {
        for to in 0..self.mesh.shards() {
            let mail = self.shard.take_mail(to);
            if !mail.is_empty() {
                let weight = mail.len();
                self.mesh.send(to, Parcel::Mail(mail), weight);
            }
        }
        self.mesh.flush();
        let mut changed = false;
        while let Some((to, congested)) = self.mesh.next_change() {
            self.shard.congestion(to, congested, self.now);
            changed = true;
        }
        if changed {
            self.carry_out_all();
        }
        changed
    }

    /// Sleeps until something happens or is due.
    async fn sleep(&mut self) -> io::Result<()> {
        let at_most = self.until_next_deadline();
        let doorbell = Arc::clone(self.mesh.doorbell());
        let found =
            || self.mesh.has_work() || !self.inbox.is_empty() || self.hooks.has_woken() || self.sockets.has_work();
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
        let deadline = self.shard.next_deadline().min(self.sockets.next_deadline()).min(stop);
        (deadline != Time::NEVER).then(|| deadline.since(self.now))
    }

    /// Sleeps where the executor works on for hooks that use it.
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

/// The core's output as the ring takes it.
fn sendable(output: connection::Output) -> Output<Payload> {
    let splices = output.splices.into_iter();
    let splices = splices.map(|splice| output::Splice { at: splice.at, payload: Payload(splice.message) });
    Output { bytes: output.bytes, splices: splices.collect() }
}
