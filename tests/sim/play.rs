//! Plays a history: its steps, random arrivals between them, and the checks when everything has arrived.

use moormq::client::SubscriberId;
use moormq::codec::Packet;
use moormq::memory::{MemoryHeld, MemoryStage};
use moormq::random::Random;
use moormq::shard::{Request, bound_that_is_exceeded};
use moormq::sharding::slot_of;
use moormq::time::Time;
use std::time::Duration;

use crate::broker::{Broker, HASH_SEED};
use crate::client::{Client, LARGE, Outgoing};
use crate::history::{CLIENTS, History, MOUNTS, Step};
use crate::judge::Judge;
use crate::socket::{End, Socket};
use crate::violation::Violation;

pub struct Play {
    pub broker: Broker,
    pub judge: Judge,
    pub clients: Vec<Client>,
    pub random: Random,
    /// How many events there have been.
    events: u64,
}

/// Bounds are looked at after each step, and after every so many events.
const LOOK: u64 = 4;

/// The subscriber id of a client in a mountpoint.
pub fn subscriber(client: usize, mount: usize) -> SubscriberId {
    SubscriberId::new(MOUNTS[mount], format!("c{client}"))
}

/// Plays `history`; gives what was found, and the transcript if one is wanted.
pub fn play(history: &History, transcript: bool) -> (Option<Violation>, Vec<String>) {
    let mut play = Play::new(history);
    if transcript {
        play.judge.transcript = Some(Vec::new());
    }
    play.begin();
    for step in &history.steps {
        play.judge.note(|| format!("* {step:?}"));
        play.step(step);
        (0..play.broker.shards.len()).for_each(|shard| play.look_at_bounds(shard));
        if play.judge.violation.is_some() {
            break;
        }
    }
    if play.judge.violation.is_none() {
        play.conclude();
    }
    let (violation, transcript) = (play.judge.violation.take(), play.judge.transcript.take().unwrap_or_default());
    drop(play);
    (violation.or_else(something_is_held), transcript)
}

/// What is counted as memory must be gone with the shards, however the history ended.
fn something_is_held() -> Option<Violation> {
    let held = MemoryHeld::on_this_thread();
    let detail = format!("of shards that are gone: {held:?}");
    (held != MemoryHeld::default()).then_some(Violation { rule: "memory: what is held is known", detail })
}

impl Play {
    fn new(history: &History) -> Self {
        Play {
            broker: Broker::new(&history.setup),
            judge: Judge::new(history.setup),
            clients: (0..=CLIENTS).map(|_| Client::default()).collect(),
            random: Random::from_seed(history.setup.seed),
            events: 0,
        }
    }

    pub fn step(&mut self, step: &Step) {
        if self.broker.disks.as_ref().is_some_and(|disks| disks.has_failed()) {
            self.start_again_after_failure();
        }
        // There may be fewer shards than when the history was made.
        let shards = self.broker.shards.len();
        match *step {
            Step::Connect { client, shard, options } => self.connect(client, shard % shards, options),
            Step::Subscribe { client, ask, second, id, plan } => self.subscribe(client, [Some(ask), second], id, plan),
            Step::Unsubscribe { client, filter, plan } => self.unsubscribe(client, filter, plan),
            Step::Publish { client, topic, qos, retain, large, expiry, alias, plan, more } => {
                let outgoing =
                    Outgoing { message: 0, packet_id: 0, topic, qos, retain, large, expiry, plan, received: false };
                (0..=more).for_each(|_| self.publish(client, outgoing, alias));
            }
            Step::Reauthenticate { client, exchange } => self.authenticate_again(client, exchange),
            Step::Clear { client, topic } => self.clear(client, topic),
            Step::Disconnect { client, with_will, expiry } => self.disconnect(client, with_will, expiry),
            Step::HangUp { client, abrupt } => self.hang_up(client, abrupt),
            Step::Stick { client, on } => {
                if let Some(socket) = self.clients[client].socket {
                    self.broker.sockets[socket].stuck = on;
                }
            }
            Step::Lazy { client, on } => self.clients[client].lazy = on,
            Step::Silent { client } => {
                if let Some(socket) = self.clients[client].socket {
                    self.broker.sockets[socket].keep_alive_off = true;
                }
            }
            Step::Move { client, mount, to } => {
                let slots = vec![slot_of(&subscriber(client, mount), HASH_SEED)];
                for shard in 0..self.broker.shards.len() {
                    self.broker.request(shard, Request::MoveSlots { slots: slots.clone(), to: to % shards });
                    self.observe();
                }
            }
            Step::Admin { client, mount, shard, cleanup } => self.admin(client, mount, shard % shards, cleanup),
            Step::Congest { from, to } if from % shards != to % shards => {
                let (from, to) = (from % shards, to % shards);
                // What was published before the shard hears of it is on its way.
                self.broker.flush(from);
                self.observe();
                self.broker.congest(from, to, true);
                self.judge.pressure.was_congested = true;
            }
            Step::Congest { .. } => {}
            Step::Memory { stage, shard } => {
                let which = shard.map_or(0..shards, |shard| shard % shards..shard % shards + 1);
                which.for_each(|shard| self.memory(shard, stage));
            }
            Step::Crash { seed, millis, loses_power, again, shards: next } => {
                self.random = Random::from_seed(seed.into());
                self.crash((loses_power, millis.into()), next, again);
            }
            Step::Backup { seed, turns, millis, shards: next } => {
                self.random = Random::from_seed(seed.into());
                self.restore_copy((turns.into(), millis.into()), next);
            }
            Step::FailWrite { shard } => {
                self.broker.disks.iter_mut().for_each(|disks| disks.fail(shard % shards));
            }
            Step::FillDisk { shard, on } => {
                self.broker.disks.iter_mut().for_each(|disks| disks.fill(shard % shards, on));
            }
            Step::FailArchive => self.broker.disks.iter_mut().for_each(|disks| disks.fail_archive()),
            Step::FillArchive { on } => self.broker.disks.iter_mut().for_each(|disks| disks.fill_archive(on)),
            Step::Break { pick } => {
                if let Some(socket) = self.broker.break_detaching(pick) {
                    let serial = self.broker.sockets[socket].serial;
                    self.judge.connection(serial).hung_up = true;
                }
            }
            Step::Advance { millis } => self.advance(millis.into()),
            Step::Run { seed, turns } => {
                self.random = Random::from_seed(seed.into());
                for _ in 0..turns {
                    if !self.turn() || self.judge.violation.is_some() {
                        break;
                    }
                }
            }
            Step::Settle { seed } => {
                self.random = Random::from_seed(seed.into());
                self.settle();
                self.verdict(false);
            }
        }
        self.observe();
    }

    fn look_at_bounds(&mut self, shard: usize) {
        // What was in flight may be in a queue again after a crash.
        let inflight = if self.broker.disks.is_some() { usize::from(self.judge.setup.inflight) } else { 0 };
        if let Some(detail) = bound_that_is_exceeded(&self.broker.shards[shard], inflight * (LARGE + 100)) {
            self.judge.find("bounds: no queue is over its bound", detail);
        }
    }

    /// How much memory there is changes, as one shard sees it.
    fn memory(&mut self, shard: usize, stage: MemoryStage) {
        self.judge.memory_changes(shard, stage);
        self.broker.memory(shard, stage);
        self.observe();
    }

    /// Gives the hook calls to the judge and the received bytes to the clients.
    pub fn observe(&mut self) {
        for socket in std::mem::take(&mut self.broker.transferred) {
            self.free(socket);
        }
        self.judge.pressure.given = self.broker.given.take();
        self.judge.acted.clone_from(&self.broker.acted);
        let events = std::mem::take(&mut self.broker.trace.open().events);
        if !events.is_empty() {
            for event in events {
                self.judge.observe(event, self.broker.last_shard);
            }
            self.judge.event_is_over();
        }
        for (shard, is_behind, arrivals, all) in self.broker.look() {
            self.judge.stand(shard, is_behind, arrivals, &all);
        }
        self.broker.acted.clear();
        self.judge.drained.clear();
        if let Some((rule, detail)) = self.broker.mailboxes.broken.take() {
            self.judge.find(rule, detail);
        }
        self.events += 1;
        if self.events.is_multiple_of(LOOK) {
            self.look_at_bounds(self.broker.last_shard);
        }
        if self.broker.taken.is_empty() {
            return;
        }
        for socket in std::mem::take(&mut self.broker.taken) {
            let one = &self.broker.sockets[socket];
            let serial = one.serial;
            if matches!(one.end, End::At(..)) && self.judge.connections[serial as usize].notices > 0 {
                let detail = format!("connection {serial} was sent something while a notification is not done");
                self.judge.find("hooks: clients see nothing before notifications are done", detail);
            }
            if one.end == End::Closed {
                self.receive(socket);
            }
        }
    }

    /// A client reads what was sent to it.
    pub fn receive(&mut self, socket: usize) {
        let one = &mut self.broker.sockets[socket];
        if one.replaced || one.hung_up {
            one.inbox.clear();
            return;
        }
        let state = &mut self.clients[one.client].states[one.options.name.mount()];
        state.receive(one, &mut self.judge);
    }

    /// Carries out one pending event, picked at random. Returns whether there was one.
    pub fn turn(&mut self) -> bool {
        let kinds = if self.broker.disks.is_some() { 13 } else { 12 };
        let start = self.random.below(kinds);
        let moved = (0..kinds).any(|at| match (start + at) % kinds {
            0 | 1 => self.broker.carry(&mut self.random),
            2 => self.broker.detach(&mut self.random),
            3 => self.give_some(),
            4 => self.complete_a_send(),
            5 => self.broker.poll(&mut self.random),
            6 => self.answer_one(),
            7 => self.broker.catch_up(&mut self.random),
            8 => self.drain_some(),
            9 => self.broker.relieve(),
            11 => self.find_an_end(),
            12 => self.go_on_disk(),
            _ => self.broker.flush_any(&mut self.random),
        });
        // What was left for later is all there is to do.
        let moved = moved || self.broker.go_on_disk(&mut self.random);
        if moved {
            self.observe();
            if self.random.below(4) > 0 {
                self.broker.flush(self.broker.last_shard);
                self.observe();
            }
        }
        moved
    }

    /// The first of the open sockets, from a random one on, for which `which` is true.
    fn pick(&mut self, which: impl Fn(&Socket) -> bool) -> Option<usize> {
        let open = &self.broker.open;
        let start = self.random.below(open.len());
        (0..open.len()).map(|at| open[(start + at) % open.len()]).find(|socket| which(&self.broker.sockets[*socket]))
    }

    fn give_some(&mut self) -> bool {
        let readable =
            |socket: &Socket| matches!(socket.end, End::At(..)) && socket.reading && !socket.to_broker.is_empty();
        let Some(socket) = self.pick(readable) else { return false };
        let most = self.broker.sockets[socket].to_broker.len();
        let count = if self.random.below(4) > 0 { most } else { 1 + self.random.below(most) };
        self.give(socket, count);
        true
    }

    /// A shard takes over connections: what is on its way on them comes first.
    fn drain_some(&mut self) -> bool {
        let Some((shard, draining)) = self.broker.next_drained(&mut self.random) else { return false };
        for (connection, socket) in draining {
            if let Some(socket) = socket {
                self.new_turn(socket);
            }
            let socket = socket.filter(|socket| matches!(self.broker.sockets[*socket].end, End::At(..)));
            if let Some(serial) = self.broker.serial_of(shard, connection) {
                self.judge.drained.push(serial);
                // Who takes it over does not wait for what it has begun; its end may be told later.
                self.judge.connection(serial).has_said_goodbye = false;
            }
            self.broker.drain(shard, connection, socket);
            socket.into_iter().for_each(|socket| self.free(socket));
            self.observe();
        }
        true
    }

    /// Begins a new turn for a socket event if it needs one.
    pub fn new_turn(&mut self, socket: usize) {
        self.broker.before_socket_event(socket);
        self.observe();
    }

    pub fn give(&mut self, socket: usize, count: usize) {
        self.new_turn(socket);
        self.broker.give(socket, count);
        self.free(socket);
    }

    /// The broker was given bytes: acknowledgements among them free their packet ids.
    pub fn free(&mut self, socket: usize) {
        let one = &mut self.broker.sockets[socket];
        self.clients[one.client].states[one.options.name.mount()].free(one);
    }

    fn find_an_end(&mut self) -> bool {
        let Some(socket) = self.broker.next_ended(&mut self.random) else { return false };
        // What it had sent comes first.
        self.give(socket, self.broker.sockets[socket].to_broker.len());
        self.observe();
        self.new_turn(socket);
        self.broker.hang_up(socket);
        true
    }

    fn complete_a_send(&mut self) -> bool {
        let can = |socket: &Socket| socket.under_way.is_some() && !socket.stuck;
        let Some(socket) = self.pick(can).filter(|_| !self.broker.reaches_nobody) else { return false };
        self.new_turn(socket);
        self.broker.complete_send(socket);
        self.receive(socket);
        true
    }

    fn answer_one(&mut self) -> bool {
        let clients = &self.clients;
        let answers = |socket: &Socket| {
            !socket.owes.is_empty() && socket.is_open() && !socket.replaced && !clients[socket.client].lazy
        };
        let open = &self.broker.open;
        let start = self.random.below(open.len());
        let found = (0..open.len())
            .map(|at| open[(start + at) % open.len()])
            .find(|socket| answers(&self.broker.sockets[*socket]));
        let Some(socket) = found else { return false };
        let one = &mut self.broker.sockets[socket];
        self.clients[one.client].states[one.options.name.mount()].answer(one)
    }

    /// Time passes; clients keep their connections alive.
    fn advance(&mut self, millis: u64) {
        for at in 0..self.broker.open.len() {
            let socket = self.broker.open[at];
            let one = &self.broker.sockets[socket];
            if one.connected && one.options.keep_alive > 0 && !one.keep_alive_off && !one.replaced {
                self.broker.sockets[socket].pings += 1;
                self.say(socket, &Packet::Pingreq);
            }
        }
        for socket in self.broker.open.clone() {
            let one = &self.broker.sockets[socket];
            let readable = matches!(one.end, End::At(..)) && one.reading && !one.to_broker.is_empty();
            if readable {
                self.give(socket, self.broker.sockets[socket].to_broker.len());
                self.observe();
            }
        }
        let end = self.broker.now + Duration::from_millis(millis);
        self.pass_until(end);
    }

    pub fn pass_until(&mut self, end: Time) {
        // Time passes between turns only.
        (0..self.broker.shards.len()).for_each(|shard| self.broker.flush(shard));
        self.observe();
        while self.broker.now < end {
            let next = self.broker.next_deadline().max(self.broker.now + Duration::from_millis(1)).min(end);
            self.broker.set_now(next);
            self.judge.now = self.broker.millis();
            for shard in 0..self.broker.shards.len() {
                if self.broker.wake_journal(shard) {
                    self.observe();
                }
                if self.broker.shards[shard].next_deadline() <= self.broker.now {
                    self.broker.tick(shard);
                    self.observe();
                    self.broker.flush(shard);
                    self.observe();
                }
            }
        }
    }

    /// All clients read and acknowledge, and connections that they have forgotten are cut: others wait for them as long as it takes. False if
    /// they did already.
    fn make_all_read(&mut self) -> bool {
        let mut changed = false;
        for socket in self.broker.open.clone() {
            let one = &mut self.broker.sockets[socket];
            changed |= std::mem::take(&mut one.stuck);
            if one.replaced && one.is_open() {
                changed = true;
                self.hang_up_socket(socket, true);
                self.observe();
            }
        }
        for client in &mut self.clients {
            changed |= std::mem::take(&mut client.lazy);
        }
        changed
    }

    /// Everything that is on its way arrives, and hooks that never answer have had their time.
    pub fn settle(&mut self) {
        self.start_again_after_failure();
        for shard in self.judge.short_of_memory() {
            self.memory(shard, MemoryStage::Normal);
        }
        for (from, to) in self.broker.mailboxes.congested.clone() {
            self.broker.congest(from, to, false);
            self.observe();
        }
        // Each message of a history may wait for a hook until its deadline, one after the other.
        let patience = self.broker.now + Duration::from_secs(120);
        while self.broker.now < patience {
            let mut turns = 0;
            while self.turn() {
                turns += 1;
                if self.judge.violation.is_some() {
                    return;
                }
                if turns > 200_000 {
                    return self.judge.find("progress: everything comes to rest", format!("{turns} turns"));
                }
            }
            if let Some(socket) = self.broker.stuck_while_detaching() {
                self.broker.sockets[socket].stuck = false;
                continue;
            }
            if self.judge.setup.is_lossless() && self.make_all_read() {
                continue;
            }
            let waiting = |socket: &usize| {
                let one = &self.broker.sockets[*socket];
                !one.stuck && !one.to_broker.is_empty() && one.is_open()
            };
            // Sessions that are to move, and publishers whose slow consumer has left, are looked at again in a moment.
            let soon = self.broker.next_deadline() <= self.broker.now + Duration::from_millis(30);
            let waits = self.broker.waits_for_hooks() || self.broker.waits_for_journals();
            if !waits && !self.broker.open.iter().any(waiting) && !soon {
                return;
            }
            let next = self.broker.next_deadline().max(self.broker.now + Duration::from_millis(10));
            self.pass_until(next.min(self.broker.now + Duration::from_millis(500)));
        }
        let waiting = |socket: &&usize| {
            let one = &self.broker.sockets[**socket];
            !one.stuck && !one.to_broker.is_empty() && one.is_open()
        };
        let serial = self.broker.open.iter().find(waiting).map(|socket| self.broker.sockets[*socket].serial);
        let broker = &self.broker;
        let (hooks, journals, next) = (broker.waits_for_hooks(), broker.waits_for_journals(), broker.next_deadline());
        let now = broker.now;
        let what =
            format!("connection {serial:?}, hooks: {hooks}, journals: {journals}, due at {next:?}, it is {now:?}");
        self.judge.find("progress: everything comes to rest", what);
    }
}
