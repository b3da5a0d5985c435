//! Plays a history: steps, what chance carries between them, and what has to be true when everything has arrived.

use moormq::client::SubscriberId;
use moormq::codec::Packet;
use moormq::random::Random;
use moormq::shard::{Request, slot_of};
use moormq::time::Time;
use std::time::Duration;

use crate::broker::{Broker, HASH_SEED};
use crate::device::{Device, Outgoing};
use crate::history::{DEVICES, History, MOUNTS, Step};
use crate::judge::Judge;
use crate::violation::Violation;
use crate::wire::{End, Wire};

pub struct Play {
    pub broker: Broker,
    pub judge: Judge,
    pub devices: Vec<Device>,
    pub random: Random,
}

/// The subscriber id of a device in a mountpoint.
pub fn subscriber(device: usize, mount: usize) -> SubscriberId {
    SubscriberId::new(MOUNTS[mount], format!("c{device}"))
}

/// Plays `history`; gives what was found, and the transcript if one is wanted.
pub fn play(history: &History, transcript: bool) -> (Option<Violation>, Vec<String>) {
    let mut play = Play::new(history);
    if transcript {
        play.judge.transcript = Some(Vec::new());
    }
    for step in &history.steps {
        play.judge.note(|| format!("* {step:?}"));
        play.step(step);
        if play.judge.violation.is_some() {
            break;
        }
    }
    if play.judge.violation.is_none() {
        play.conclude();
    }
    (play.judge.violation.take(), play.judge.transcript.take().unwrap_or_default())
}

impl Play {
    fn new(history: &History) -> Self {
        Play {
            broker: Broker::new(&history.setup),
            judge: Judge::new(history.setup),
            devices: (0..=DEVICES).map(|_| Device::default()).collect(),
            random: Random::from_seed(history.setup.seed),
        }
    }

    pub fn step(&mut self, step: &Step) {
        match *step {
            Step::Connect { device, shard, hello } => self.connect(device, shard, hello),
            Step::Subscribe { device, ask, second, id, plan } => self.subscribe(device, [Some(ask), second], id, plan),
            Step::Unsubscribe { device, filter, plan } => self.unsubscribe(device, filter, plan),
            Step::Publish { device, topic, qos, retain, large, expiry, alias, plan, more } => {
                let outgoing =
                    Outgoing { message: 0, packet_id: 0, topic, qos, retain, large, expiry, plan, received: false };
                (0..=more).for_each(|_| self.publish(device, outgoing, alias));
            }
            Step::Reauthenticate { device, exchange } => self.authenticate_again(device, exchange),
            Step::Clear { device, topic } => self.clear(device, topic),
            Step::Disconnect { device, with_will, expiry } => self.disconnect(device, with_will, expiry),
            Step::HangUp { device, abrupt } => self.hang_up(device, abrupt),
            Step::Stick { device, on } => {
                if let Some(wire) = self.devices[device].wire {
                    self.broker.wires[wire].stuck = on;
                }
            }
            Step::Lazy { device, on } => self.devices[device].lazy = on,
            Step::Silent { device } => {
                if let Some(wire) = self.devices[device].wire {
                    self.broker.wires[wire].keep_alive_off = true;
                }
            }
            Step::Move { device, mount, to } => {
                let slots = vec![slot_of(&subscriber(device, mount), HASH_SEED)];
                for shard in 0..self.broker.shards.len() {
                    self.broker.request(shard, Request::MoveSlots { slots: slots.clone(), to });
                    self.heard();
                }
            }
            Step::Admin { device, mount, shard, cleanup } => self.admin(device, mount, shard, cleanup),
            Step::Congest { from, to } if from != to => self.broker.congest(from, to, true),
            Step::Congest { .. } => {}
            Step::Break { pick } => {
                if let Some(wire) = self.broker.break_detaching(pick) {
                    let serial = self.broker.wires[wire].serial;
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
        self.heard();
    }

    /// The judge hears what hooks were called, and the clients what came for them.
    pub fn heard(&mut self) {
        for wire in std::mem::take(&mut self.broker.adopted) {
            self.free(wire);
        }
        let events = std::mem::take(&mut self.broker.trace.open().events);
        if !events.is_empty() {
            for event in events {
                self.judge.hear(event, self.broker.spoke);
            }
            self.judge.event_is_over();
        }
        if self.broker.taken.is_empty() {
            return;
        }
        for wire in std::mem::take(&mut self.broker.taken) {
            let one = &self.broker.wires[wire];
            let serial = one.serial;
            if matches!(one.end, End::At(..)) && self.judge.connections[serial as usize].notices > 0 {
                let detail = format!("connection {serial} was sent something while a notification is not done");
                self.judge.find("hooks: clients see nothing before notifications are done", detail);
            }
            if one.end == End::Closed {
                self.hear(wire);
            }
        }
    }

    /// A client looks at what came.
    fn hear(&mut self, wire: usize) {
        let one = &mut self.broker.wires[wire];
        if one.orphaned || one.hung_up {
            one.inbox.clear();
            return;
        }
        let store = &mut self.devices[one.device].stores[one.hello.name.mount()];
        store.hear(one, &mut self.judge);
    }

    /// Chance has one thing happen of those that may. Says whether there was any.
    pub fn turn(&mut self) -> bool {
        let start = self.random.below(8);
        let moved = (0..8).any(|at| match (start + at) % 8 {
            0 | 1 => self.broker.carry(&mut self.random),
            2 => self.broker.detach(&mut self.random),
            3 => self.give_some(),
            4 => self.complete_a_send(),
            5 => self.broker.poll(&mut self.random),
            6 => self.answer_one(),
            _ => self.broker.flush_any(&mut self.random),
        });
        if moved {
            self.heard();
            if self.random.below(4) > 0 {
                self.broker.flush(self.broker.spoke);
                self.heard();
            }
        }
        moved
    }

    /// The first of the open wires, from one that chance picks, for which `which` holds.
    fn pick(&mut self, which: impl Fn(&Wire) -> bool) -> Option<usize> {
        let open = &self.broker.open;
        let start = self.random.below(open.len());
        (0..open.len()).map(|at| open[(start + at) % open.len()]).find(|wire| which(&self.broker.wires[*wire]))
    }

    fn give_some(&mut self) -> bool {
        let readable = |wire: &Wire| matches!(wire.end, End::At(..)) && wire.reading && !wire.to_broker.is_empty();
        let Some(wire) = self.pick(readable) else { return false };
        let most = self.broker.wires[wire].to_broker.len();
        let count = if self.random.below(4) > 0 { most } else { 1 + self.random.below(most) };
        self.give(wire, count);
        true
    }

    /// Before an event of a socket comes.
    pub fn new_turn(&mut self, wire: usize) {
        self.broker.before_socket_event(wire);
        self.heard();
    }

    pub fn give(&mut self, wire: usize, count: usize) {
        self.new_turn(wire);
        self.broker.give(wire, count);
        self.free(wire);
    }

    /// The broker was given bytes: acknowledgements among them free their packet ids.
    fn free(&mut self, wire: usize) {
        let one = &mut self.broker.wires[wire];
        self.devices[one.device].stores[one.hello.name.mount()].free(one);
    }

    fn complete_a_send(&mut self) -> bool {
        let Some(wire) = self.pick(|wire| wire.under_way.is_some() && !wire.stuck) else { return false };
        self.new_turn(wire);
        self.broker.complete_send(wire);
        self.hear(wire);
        true
    }

    fn answer_one(&mut self) -> bool {
        let devices = &self.devices;
        let answers =
            |wire: &Wire| !wire.owes.is_empty() && wire.is_open() && !wire.orphaned && !devices[wire.device].lazy;
        let open = &self.broker.open;
        let start = self.random.below(open.len());
        let found =
            (0..open.len()).map(|at| open[(start + at) % open.len()]).find(|wire| answers(&self.broker.wires[*wire]));
        let Some(wire) = found else { return false };
        let one = &mut self.broker.wires[wire];
        self.devices[one.device].stores[one.hello.name.mount()].answer(one)
    }

    /// Time passes; clients keep their connections alive.
    fn advance(&mut self, millis: u64) {
        for at in 0..self.broker.open.len() {
            let wire = self.broker.open[at];
            let one = &self.broker.wires[wire];
            if one.welcomed && one.hello.keep_alive > 0 && !one.keep_alive_off && !one.orphaned {
                self.broker.wires[wire].pings += 1;
                self.say(wire, &Packet::Pingreq);
            }
        }
        for wire in self.broker.open.clone() {
            let one = &self.broker.wires[wire];
            let readable = matches!(one.end, End::At(..)) && one.reading && !one.to_broker.is_empty();
            if readable {
                self.give(wire, self.broker.wires[wire].to_broker.len());
                self.heard();
            }
        }
        let end = self.broker.now + Duration::from_millis(millis);
        self.pass_until(end);
    }

    pub fn pass_until(&mut self, end: Time) {
        // A turn is never so long that time passes in it.
        (0..self.broker.shards.len()).for_each(|shard| self.broker.flush(shard));
        self.heard();
        while self.broker.now < end {
            self.broker.now = self.broker.next_deadline().max(self.broker.now + Duration::from_millis(1)).min(end);
            self.judge.now = self.broker.now.as_millis();
            for shard in 0..self.broker.shards.len() {
                if self.broker.shards[shard].next_deadline() <= self.broker.now {
                    self.broker.tick(shard);
                    self.heard();
                    self.broker.flush(shard);
                    self.heard();
                }
            }
        }
    }

    /// Everything that is on its way arrives, and hooks that never answer have had their time.
    pub fn settle(&mut self) {
        for (from, to) in self.broker.congested.clone() {
            self.broker.congest(from, to, false);
            self.heard();
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
            if let Some(wire) = self.broker.stuck_while_detaching() {
                self.broker.wires[wire].stuck = false;
                continue;
            }
            let held = |wire: &usize| {
                let one = &self.broker.wires[*wire];
                !one.stuck && !one.to_broker.is_empty() && one.is_open()
            };
            // Sessions that are to move, and publishers whose slow consumer has left, are looked at again in a moment.
            let soon = self.broker.next_deadline() <= self.broker.now + Duration::from_millis(30);
            if !self.broker.waits_for_hooks() && !self.broker.open.iter().any(held) && !soon {
                return;
            }
            let next = self.broker.next_deadline().max(self.broker.now + Duration::from_millis(10));
            self.pass_until(next.min(self.broker.now + Duration::from_millis(500)));
        }
        self.judge.find("progress: everything comes to rest", "a connection waits and waits".to_owned());
    }
}
