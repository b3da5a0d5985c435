//! The shards and what a runtime does for them, without sockets: effects, mail, sends, hooks. Nothing moves by itself:
//! whoever drives it says what arrives next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use moormq::client::ConnectionId;
use moormq::connection::Output;
use moormq::hooks::{Chain, HookFuture, NoHooks};
use moormq::random::Random;
use moormq::shard::{Arrival, Effect, Mail, Place, Request, Shard, Transfer};
use moormq::time::Time;

use crate::history::Setup;
use crate::links::{Link, Links};
use crate::trace::{Trace, peer_of};
use crate::wire::{End, Wire};

/// The seed of the shards' hashes.
pub const HASH_SEED: u64 = 42;

type State = <Links as Chain>::State;

/// Something between two shards.
enum Parcel {
    Mail(Mail),
    HandOff(Option<usize>, Box<Arrival<State>>),
    Transfer(Option<usize>, Box<Transfer<State>>),
}

/// A socket that is to go to another shard once what is on its way to the client has left.
struct Detaching {
    wire: Option<usize>,
    from: usize,
    to: usize,
    parcel: Option<Parcel>,
}

/// A hook that answers later.
struct Running {
    shard: usize,
    task: u64,
    future: HookFuture,
    /// It was asked, and has no answer: it never will.
    asleep: bool,
}

pub struct Broker {
    pub shards: Vec<Shard<Links>>,
    pub now: Time,
    pub trace: Trace,
    pub wires: Vec<Wire>,
    /// The wires that are not done with.
    pub open: Vec<usize>,
    /// By shard and connection index.
    by_index: Vec<Vec<Option<usize>>>,
    generation: u32,
    /// From each shard to each other.
    mail: Vec<VecDeque<Parcel>>,
    detaching: Vec<Detaching>,
    hooks: Vec<Running>,
    /// Shards that have something to be taken.
    unflushed: Vec<bool>,
    /// Those that had more than events of sockets: in a turn of the runtime no event of a socket follows it.
    past_sockets: Vec<bool>,
    pub congested: Vec<(usize, usize)>,
    pub stopped: usize,
    /// Which shard's events are in the trace.
    pub spoke: usize,
    effects: Vec<Effect<State>>,
    dirty: Vec<ConnectionId>,
    /// Connections that were handed in with bytes.
    pub adopted: Vec<usize>,
    /// Output that was taken since the driver looked: by wire.
    pub taken: Vec<usize>,
}

impl Broker {
    pub fn new(setup: &Setup) -> Self {
        let config = Arc::new(setup.config());
        let trace = Trace::default();
        let shards = setup.shards;
        let place = |id| Place { id, shards, seed: HASH_SEED, version: "simulated" };
        let chain = || NoHooks.hook(Link::<0>(trace.clone())).hook(Link::<1>(trace.clone())).hook(Link(trace.clone()));
        Broker {
            shards: (0..shards).map(|id| Shard::new(place(id), config.clone(), chain(), Time::ZERO)).collect(),
            now: Time::ZERO,
            wires: Vec::new(),
            open: Vec::new(),
            by_index: vec![Vec::new(); shards],
            generation: 0,
            mail: (0..shards * shards).map(|_| VecDeque::new()).collect(),
            detaching: Vec::new(),
            hooks: Vec::new(),
            unflushed: vec![false; shards],
            past_sockets: vec![false; shards],
            congested: Vec::new(),
            stopped: 0,
            spoke: 0,
            effects: Vec::new(),
            dirty: Vec::new(),
            adopted: Vec::new(),
            taken: Vec::new(),
            trace,
        }
    }

    /// A shard was driven: it may have something to be taken.
    fn drove(&mut self, shard: usize) {
        self.unflushed[shard] = true;
        self.past_sockets[shard] = true;
        self.spoke = shard;
    }

    /// The same by an event of a socket.
    fn drove_by_socket(&mut self, shard: usize) {
        self.unflushed[shard] = true;
        self.spoke = shard;
    }

    /// An event of a socket is to come: it begins a new turn, unless there have been none but such in this one.
    pub fn before_socket_event(&mut self, wire: usize) {
        if let End::At(shard, _) = self.wires[wire].end
            && self.past_sockets[shard]
        {
            self.flush(shard);
        }
    }

    pub fn accept(&mut self, wire: Wire, shard: usize) -> usize {
        let at = self.wires.len();
        let serial = wire.serial;
        self.wires.push(wire);
        self.open.push(at);
        let id = self.assign(at, shard);
        self.shards[shard].accepted(id, 0, peer_of(serial), SystemTime::UNIX_EPOCH, 1, self.now);
        self.drove(shard);
        at
    }

    fn assign(&mut self, wire: usize, shard: usize) -> ConnectionId {
        let places = &mut self.by_index[shard];
        let index = places.iter().position(Option::is_none).unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        places[index] = Some(wire);
        self.generation += 1;
        let id = ConnectionId::new(index as u32, self.generation);
        self.wires[wire].end = End::At(shard, id);
        id
    }

    fn wire_of(&self, shard: usize, id: ConnectionId) -> Option<usize> {
        let wire = (*self.by_index[shard].get(id.index())?)?;
        (self.wires[wire].end == End::At(shard, id)).then_some(wire)
    }

    /// The broker is given `count` of the bytes that are on their way to it.
    pub fn give(&mut self, wire: usize, count: usize) {
        let one = &mut self.wires[wire];
        let End::At(shard, id) = one.end else { return };
        if !one.reading {
            return;
        }
        let bytes: Vec<u8> = one.to_broker.drain(..count).collect();
        note_given(one, count, self.now);
        self.shards[shard].received(id, &bytes, self.now);
        self.drove_by_socket(shard);
    }

    /// The client's end is closed.
    pub fn hang_up(&mut self, wire: usize) {
        let one = &mut self.wires[wire];
        one.hung_up = true;
        one.under_way = None;
        if let End::At(shard, id) = one.end {
            one.end = End::Closed;
            self.by_index[shard][id.index()] = None;
            self.shards[shard].closed(id, self.now);
            self.drove_by_socket(shard);
        }
        self.forget(wire);
    }

    fn forget(&mut self, wire: usize) {
        if self.wires[wire].end != End::Travelling {
            self.open.retain(|open| *open != wire);
        }
    }

    /// What is on its way to the client has arrived.
    pub fn complete_send(&mut self, wire: usize) {
        let one = &mut self.wires[wire];
        let Some(bytes) = one.under_way.take() else { return };
        one.inbox.extend_from_slice(&bytes);
        if let End::At(shard, id) = one.end {
            self.shards[shard].sent(id, bytes, self.now);
            self.drove_by_socket(shard);
        }
    }

    pub fn request(&mut self, shard: usize, request: Request) {
        self.shards[shard].request(request, self.now);
        self.drove(shard);
    }

    pub fn congest(&mut self, from: usize, to: usize, on: bool) {
        self.congested.retain(|pair| *pair != (from, to));
        if on {
            self.congested.push((from, to));
        }
        self.shards[from].congestion(to, on, self.now);
        self.drove(from);
    }

    pub fn stop(&mut self, shard: usize) {
        self.shards[shard].stop(self.now);
        self.drove(shard);
    }

    pub fn tick(&mut self, shard: usize) {
        self.shards[shard].tick(self.now);
        self.drove(shard);
    }

    /// When something is due at the earliest.
    pub fn next_deadline(&self) -> Time {
        self.shards.iter().map(Shard::next_deadline).min().unwrap_or(Time::NEVER)
    }

    /// Hands over one parcel of a pair that chance picks.
    pub fn carry(&mut self, random: &mut Random) -> bool {
        let pairs = self.mail.len();
        let start = random.below(pairs);
        let Some(pair) = (0..pairs).map(|at| (start + at) % pairs).find(|pair| !self.mail[*pair].is_empty()) else {
            return false;
        };
        let (from, to) = (pair / self.shards.len(), pair % self.shards.len());
        match self.mail[pair].pop_front() {
            Some(Parcel::Mail(mail)) => self.shards[to].mail(from, mail, self.now),
            Some(Parcel::HandOff(wire, arrival)) => self.hand_over(wire, to, arrival),
            Some(Parcel::Transfer(wire, transfer)) => self.transfer(wire, to, *transfer),
            None => {}
        }
        self.drove(to);
        true
    }

    fn hand_over(&mut self, wire: Option<usize>, to: usize, arrival: Box<Arrival<State>>) {
        let Some(wire) = self.adoptable(wire) else { return };
        let id = self.assign(wire, to);
        self.wires[wire].reading = true;
        self.shards[to].arrived(id, arrival, self.now);
    }

    fn transfer(&mut self, wire: Option<usize>, to: usize, transfer: Transfer<State>) {
        let Some(wire) = self.adoptable(wire) else { return self.shards[to].transferred(None, transfer, self.now) };
        let id = self.assign(wire, to);
        let one = &mut self.wires[wire];
        one.reading = false;
        // What had come when it was let go of.
        let count = one.to_broker.len() / 2;
        let bytes: Vec<u8> = one.to_broker.drain(..count).collect();
        note_given(one, count, self.now);
        self.adopted.push(wire);
        self.shards[to].transferred(Some((id, &bytes)), transfer, self.now);
    }

    /// The connection, unless it broke on the way.
    fn adoptable(&mut self, wire: Option<usize>) -> Option<usize> {
        let wire = wire?;
        if self.wires[wire].hung_up {
            self.wires[wire].end = End::Closed;
            self.forget(wire);
            return None;
        }
        Some(wire)
    }

    /// One that is let go of by its shard is ready to leave.
    pub fn detach(&mut self, random: &mut Random) -> bool {
        let count = self.detaching.len();
        let start = random.below(count);
        let ready = |one: &Detaching| one.wire.is_none_or(|wire| self.wires[wire].under_way.is_none());
        let Some(at) = (0..count).map(|at| (start + at) % count).find(|at| ready(&self.detaching[*at])) else {
            return false;
        };
        let Detaching { from, to, parcel, .. } = self.detaching.swap_remove(at);
        self.mail[from * self.shards.len() + to].extend(parcel);
        true
    }

    /// A connection that is being let go of breaks. Says which.
    pub fn break_detaching(&mut self, pick: usize) -> Option<usize> {
        let at = pick % self.detaching.len().max(1);
        let wire = self.detaching.get(at)?.wire?;
        self.wires[wire].hung_up = true;
        self.wires[wire].under_way = None;
        Some(wire)
    }

    /// Whether a client that takes nothing keeps its connection from leaving a shard.
    pub fn stuck_while_detaching(&self) -> Option<usize> {
        self.detaching.iter().filter_map(|one| one.wire).find(|wire| self.wires[*wire].stuck)
    }

    /// Asks one of the hooks that answer later.
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
                self.shards[shard].hook_answered(task, answer, self.now);
                self.drove(shard);
            }
        }
        true
    }

    /// Whether a hook runs that never answers.
    pub fn waits_for_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Takes what a shard that chance picks has.
    pub fn flush_any(&mut self, random: &mut Random) -> bool {
        let count = self.shards.len();
        let start = random.below(count);
        let Some(shard) = (0..count).map(|at| (start + at) % count).find(|shard| self.unflushed[*shard]) else {
            return false;
        };
        self.flush(shard);
        true
    }

    /// Takes output, effects and mail of a shard, as a turn of the runtime does.
    pub fn flush(&mut self, shard: usize) {
        if !self.unflushed[shard] {
            return;
        }
        loop {
            let mut dirty = std::mem::take(&mut self.dirty);
            self.shards[shard].take_dirty(&mut dirty);
            for id in dirty.drain(..) {
                let Some(output) = self.shards[shard].take_output(id) else { continue };
                let Some(wire) = self.wire_of(shard, id) else { continue };
                self.taken.push(wire);
                self.wires[wire].under_way = Some(flat(output));
            }
            self.dirty = dirty;
            let mut effects = std::mem::take(&mut self.effects);
            self.shards[shard].take_effects(&mut effects);
            let done = effects.is_empty();
            for effect in effects.drain(..) {
                self.carry_out(shard, effect);
            }
            self.effects = effects;
            if done {
                break;
            }
        }
        for to in 0..self.shards.len() {
            if to != shard {
                let letters = self.shards[shard].take_mail(to);
                self.mail[shard * self.shards.len() + to].extend(letters.into_iter().map(Parcel::Mail));
            }
        }
        (self.unflushed[shard], self.past_sockets[shard]) = (false, false);
    }

    fn carry_out(&mut self, shard: usize, effect: Effect<State>) {
        match effect {
            Effect::ReadContinuously(_) | Effect::Deliver { .. } | Effect::Subscribed { .. } => {}
            Effect::Pause(id) => {
                if let Some(wire) = self.wire_of(shard, id) {
                    self.wires[wire].reading = false;
                }
            }
            Effect::Resume(id) => {
                if let Some(wire) = self.wire_of(shard, id) {
                    self.wires[wire].reading = true;
                }
            }
            Effect::Close { connection, last, .. } => self.close(shard, connection, last),
            Effect::HandOff { connection, to, arrival } => {
                let Some(wire) = self.wire_of(shard, connection) else { return };
                self.let_go(shard, connection, wire);
                let parcel = Some(Parcel::HandOff(Some(wire), arrival));
                self.detaching.push(Detaching { wire: Some(wire), from: shard, to, parcel });
            }
            Effect::Transfer { connection, to, transfer } => {
                let wire = connection.and_then(|id| self.wire_of(shard, id));
                if let (Some(id), Some(wire)) = (connection, wire) {
                    self.let_go(shard, id, wire);
                }
                let parcel = Some(Parcel::Transfer(wire, transfer));
                self.detaching.push(Detaching { wire, from: shard, to, parcel });
            }
            Effect::RunHook { task, future } => self.hooks.push(Running { shard, task, future, asleep: false }),
            Effect::CancelHook { task } => self.hooks.retain(|hook| (hook.shard, hook.task) != (shard, task)),
            Effect::Stopped => self.stopped += 1,
        }
    }

    fn let_go(&mut self, shard: usize, id: ConnectionId, wire: usize) {
        self.by_index[shard][id.index()] = None;
        self.wires[wire].end = End::Travelling;
    }

    fn close(&mut self, shard: usize, id: ConnectionId, last: Option<Output>) {
        let Some(wire) = self.wire_of(shard, id) else { return };
        self.by_index[shard][id.index()] = None;
        let one = &mut self.wires[wire];
        one.end = End::Closed;
        let under_way = one.under_way.take().unwrap_or_default();
        if !one.stuck {
            one.inbox.extend(under_way);
            one.inbox.extend(last.map(flat).unwrap_or_default());
        }
        self.taken.push(wire);
        self.forget(wire);
    }
}

/// The broker was given so many bytes: packet ids of acknowledgements among them are free.
fn note_given(wire: &mut Wire, count: usize, now: Time) {
    wire.given += count;
    wire.last_given = now.as_millis();
}

/// The bytes of an output as they leave.
fn flat(output: Output) -> Vec<u8> {
    if output.splices.is_empty() {
        return output.bytes;
    }
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
