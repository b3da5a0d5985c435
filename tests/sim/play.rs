//! Plays a history: steps, what chance carries between them, and what has to be true when everything has arrived.

use moormq::client::SubscriberId;
use moormq::codec::{
    Connect, ConnectProperties, Disconnect, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Subscribe,
    SubscribeFilter, SubscriptionOptions, Unsubscribe, Will,
};
use moormq::random::Random;
use moormq::shard::{Held, Request, slot_of};
use moormq::time::Time;
use std::time::Duration;

use crate::broker::{Broker, HASH_SEED};
use crate::device::{Device, LARGE, Outgoing, Store, filter};
use crate::history::{DEVICES, FIRST_SHARED_TOPIC, Hello, History, MOUNTS, Name, PROBE, Plan, Step, TOPICS};
use crate::judge::{Judge, Stage};
use crate::links::{password, payload};
use crate::violation::Violation;
use crate::wire::{End, Wire};

pub struct Play {
    pub broker: Broker,
    pub judge: Judge,
    pub devices: Vec<Device>,
    random: Random,
}

/// The subscriber id of a device in a mountpoint.
fn subscriber(device: usize, mount: usize) -> SubscriberId {
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
            Step::Subscribe { device, filter, qos, no_local, plan } => {
                self.subscribe(device, filter, qos, no_local, plan);
            }
            Step::Unsubscribe { device, filter, plan } => self.unsubscribe(device, filter, plan),
            Step::Publish { device, topic, qos, retain, large, expiry, plan } => {
                let outgoing =
                    Outgoing { message: 0, packet_id: 0, topic, qos, retain, large, expiry, plan, received: false };
                self.publish(device, outgoing);
            }
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
    fn heard(&mut self) {
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
    fn turn(&mut self) -> bool {
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
    fn new_turn(&mut self, wire: usize) {
        self.broker.before_socket_event(wire);
        self.heard();
    }

    fn give(&mut self, wire: usize, count: usize) {
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

    fn connect(&mut self, device: usize, shard: usize, hello: Hello) {
        if let Some(old) = self.devices[device].wire {
            self.broker.wires[old].orphaned = true;
            self.part_with(old);
        }
        let serial = self.judge.attempt(hello);
        let bequest = hello.will.filter(|will| !will.retain || will.topic < FIRST_SHARED_TOPIC);
        let will = bequest.map(|will| {
            let message = self.judge.message(serial, will.qos, false, true);
            self.judge.connection(serial).will = Some(message);
            (will, payload(message, will.plan, 0))
        });
        let is_v5 = hello.version == ProtocolVersion::V5;
        let mut properties = ConnectProperties::default();
        if is_v5 {
            properties.session_expiry = Some(hello.expiry.into());
            properties.receive_maximum = (hello.receive_maximum > 0).then_some(hello.receive_maximum.into());
            properties.maximum_packet_size = hello.small_packets.then_some(600);
        }
        let client_id = hello.name.client_id(device);
        let password = password(hello.plan, hello.notices);
        let connect = Connect {
            version: hello.version,
            clean_start: hello.clean,
            keep_alive: hello.keep_alive.into(),
            client_id: &client_id,
            username: Some("u"),
            password: Some(&password),
            will: will.as_ref().map(|(will, payload)| Will {
                topic: TOPICS[will.topic],
                payload,
                qos: will.qos,
                retain: will.retain,
                delay: if is_v5 { will.delay.into() } else { 0 },
                ..Will::default()
            }),
            properties,
        };
        let mut bytes = Vec::new();
        connect.encode(&mut bytes);
        let mut wire = Wire::new(serial, device, hello);
        wire.last_given = self.judge.now;
        let at = self.broker.accept(wire, shard);
        self.broker.wires[at].send(&bytes);
        self.devices[device].wire = Some(at);
    }

    /// What a client forgets with a connection that it turns away from.
    fn part_with(&mut self, wire: usize) {
        let one = &self.broker.wires[wire];
        let (welcomed, answered, clean) = (one.welcomed, one.answered, one.hello.clean);
        let kept = match self.judge.connections[one.serial as usize].new_expiry {
            Some(seconds) => seconds > 0,
            None => self.judge.terms(one.serial).0,
        };
        if welcomed && !kept {
            self.store(wire).begin();
        } else if !answered && (clean || !kept) {
            // It cannot know whether the broker has ended the session.
            self.store(wire).begin();
            self.store(wire).is_forgetful = true;
        }
    }

    /// The open connection of a device; one that has been welcomed, if it has to be.
    fn wire(&self, device: usize, welcomed: bool) -> Option<usize> {
        let wire = self.devices[device].wire?;
        let one = &self.broker.wires[wire];
        (one.is_open()
            && (one.welcomed || !welcomed)
            && self.judge.connections[one.serial as usize].said_goodbye.is_none())
        .then_some(wire)
    }

    fn store(&mut self, wire: usize) -> &mut Store {
        let one = &self.broker.wires[wire];
        &mut self.devices[one.device].stores[one.hello.name.mount()]
    }

    fn say(&mut self, wire: usize, packet: &Packet<'_>) {
        let one = &mut self.broker.wires[wire];
        let mut bytes = Vec::new();
        packet.encode(one.version(), &mut bytes);
        one.send(&bytes);
    }

    fn subscribe(&mut self, device: usize, number: usize, qos: QoS, no_local: bool, plan: Plan) {
        let Some(wire) = self.wire(device, true).filter(|wire| self.broker.wires[*wire].subscribing.is_none()) else {
            return;
        };
        let id = self.store(wire).packet_id();
        let one = &self.broker.wires[wire];
        let is_shared = filter(number).starts_with("$share");
        let no_local = no_local && !is_shared && one.version() == ProtocolVersion::V5;
        let serial = one.serial;
        *self.broker.trace.open().plan(serial) = plan;
        let filters = [SubscribeFilter {
            filter: filter(number),
            options: SubscriptionOptions { no_local, ..SubscriptionOptions::new(qos) },
        }];
        let Some(packet_id) = PacketId::new(id) else { return };
        self.say(wire, &Packet::Subscribe(Subscribe::new(packet_id, &filters[..])));
        self.broker.wires[wire].subscribing = Some((id, Some(number)));
        self.judge.wants_retained(serial, number);
    }

    fn unsubscribe(&mut self, device: usize, number: usize, plan: Plan) {
        let Some(wire) = self.wire(device, true).filter(|wire| self.broker.wires[*wire].subscribing.is_none()) else {
            return;
        };
        let id = self.store(wire).packet_id();
        let serial = self.broker.wires[wire].serial;
        *self.broker.trace.open().plan(serial) = plan;
        let filters = [filter(number)];
        let Some(packet_id) = PacketId::new(id) else { return };
        self.say(wire, &Packet::Unsubscribe(Unsubscribe::new(packet_id, &filters[..])));
        self.broker.wires[wire].subscribing = Some((id, None));
    }

    fn publish(&mut self, device: usize, mut outgoing: Outgoing) {
        let Some(wire) = self.wire(device, false) else { return };
        let one = &self.broker.wires[wire];
        let (serial, welcomed, version) = (one.serial, one.welcomed, one.version());
        if !welcomed {
            outgoing.qos = QoS::AtMostOnce;
        }
        outgoing.expiry = outgoing.expiry.filter(|_| version == ProtocolVersion::V5);
        outgoing.message = self.judge.message(serial, outgoing.qos, outgoing.expiry.is_some(), false);
        if outgoing.qos > QoS::AtMostOnce {
            outgoing.packet_id = self.store(wire).packet_id();
            self.store(wire).outgoing.push(outgoing);
        }
        let mut bytes = Vec::with_capacity(LARGE);
        outgoing.encode(version, false, &mut bytes);
        self.broker.wires[wire].send(&bytes);
    }

    fn clear(&mut self, device: usize, topic: usize) {
        if let Some(wire) = self.wire(device, true) {
            let publish = Publish { retain: true, topic: TOPICS[topic], ..Publish::default() };
            self.say(wire, &Packet::Publish(publish));
        }
    }

    fn disconnect(&mut self, device: usize, with_will: bool, expiry: Option<u16>) {
        let Some(wire) = self.wire(device, true) else { return };
        let one = &self.broker.wires[wire];
        let (serial, hello) = (one.serial, one.hello);
        let is_v5 = hello.version == ProtocolVersion::V5;
        let code = if with_will && is_v5 { ReasonCode::DisconnectWithWill } else { ReasonCode::Success };
        // From zero it may not rise.
        let expiry = expiry.filter(|_| is_v5 && hello.expiry > 0);
        let disconnect = Disconnect { session_expiry: expiry.map(u32::from), ..Disconnect::new(code) };
        self.say(wire, &Packet::Disconnect(disconnect));
        let connection = self.judge.connection(serial);
        connection.said_goodbye = Some(with_will && is_v5);
        connection.new_expiry = expiry;
    }

    fn hang_up(&mut self, device: usize, abrupt: bool) {
        let Some(wire) = self.devices[device].wire.filter(|wire| self.broker.wires[*wire].is_open()) else { return };
        self.hang_up_wire(wire, abrupt);
    }

    fn hang_up_wire(&mut self, wire: usize, abrupt: bool) {
        let one = &self.broker.wires[wire];
        let readable = matches!(one.end, End::At(..)) && one.reading;
        if !abrupt && readable {
            self.give(wire, self.broker.wires[wire].to_broker.len());
            self.heard();
        }
        let serial = self.broker.wires[wire].serial;
        self.judge.connection(serial).hung_up = true;
        if self.broker.wires[wire].is_open() {
            self.new_turn(wire);
            self.broker.hang_up(wire);
        }
    }

    fn admin(&mut self, device: usize, mount: usize, shard: usize, cleanup: bool) {
        let subscriber = subscriber(device, mount);
        let subject = self.judge.subject(&subscriber);
        self.judge.wish(subject, cleanup);
        self.broker.request(shard, Request::Disconnect { subscriber, cleanup });
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

    fn pass_until(&mut self, end: Time) {
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
        let patience = self.broker.now + Duration::from_secs(30);
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
            let moving = self.broker.shards.iter().any(|shard| {
                shard.held().moves > 0 && shard.next_deadline() <= self.broker.now + Duration::from_millis(30)
            });
            if !self.broker.waits_for_hooks() && !self.broker.open.iter().any(held) && !moving {
                return;
            }
            let next = self.broker.next_deadline().max(self.broker.now + Duration::from_millis(10));
            self.pass_until(next.min(self.broker.now + Duration::from_millis(500)));
        }
        self.judge.find("progress: everything comes to rest", "a connection waits and waits".to_owned());
    }

    /// Judges what must be true when everything has arrived.
    fn verdict(&mut self, is_end: bool) {
        if self.judge.violation.is_some() {
            return;
        }
        for wire in &self.broker.wires {
            let device = &self.devices[wire.device];
            let ready = wire.welcomed && wire.is_open() && !wire.orphaned;
            self.judge.connections[wire.serial as usize].is_responsive = ready && !wire.stuck && !device.lazy;
            if wire.is_open() && !wire.stuck && !wire.orphaned && !device.lazy {
                check_answered(wire, device, &mut self.judge);
            }
        }
        self.judge.judge_lifecycles();
        self.judge.judge_deliveries(is_end);
        self.check_counts();
    }

    /// What shards count is what the judge knows.
    fn check_counts(&mut self) {
        let online = self.judge.subjects.iter().filter(|one| one.stage == Stage::Online).count();
        let sessions = self.judge.lives.iter().filter(|life| !life.ended).count();
        let subscriptions = self.judge.lives.iter().filter(|life| !life.ended).flat_map(|life| &life.subscriptions);
        let (confirmed, perhaps) =
            subscriptions.fold((0, 0), |(yes, all), one| (yes + u64::from(one.confirmed), all + 1));
        let mut held = Held::default();
        let (mut connected, mut subscribed, mut drops) = (0, 0, [0; 6]);
        for shard in &self.broker.shards {
            let one = shard.held();
            held.sessions += one.sessions;
            held.connections += one.connections;
            held.subscribing += one.subscribing;
            held.hooks += one.hooks;
            connected += shard.counters().connected;
            subscribed += shard.counters().subscriptions;
            drops.iter_mut().zip(shard.counters().dropped).for_each(|(sum, one)| *sum += one);
        }
        if drops != self.judge.drops {
            let detail = format!("counted {drops:?}, announced {:?}", self.judge.drops);
            self.judge.find("drops: each is announced and counted", detail);
        }
        let open = self.broker.wires.iter().filter(|wire| matches!(wire.end, End::At(..))).count();
        let fits = held.sessions == sessions
            && connected == online as u64
            && held.connections == open
            && (confirmed..=perhaps).contains(&subscribed)
            && held.subscribing + held.hooks == 0;
        if !fits {
            let detail = format!(
                "{held:?}, connected {connected}, subscriptions {subscribed}; sessions {sessions}, online {online}, open {open}, confirmed {confirmed} of {perhaps}"
            );
            self.judge.find("owners: each session has one, and what is counted is there", detail);
        }
    }

    /// The end of a history: everybody becomes well, all sessions are resumed, nothing is missing, and nothing is left.
    fn conclude(&mut self) {
        self.judge.note(|| "* the end".to_owned());
        self.random = Random::from_seed(self.judge.setup.seed ^ 0xE4D);
        if self.judge.setup.stops {
            return self.conclude_with_stop();
        }
        self.become_well();
        self.settle();
        self.verdict(false);
        // The second time wills that the first one brought have come, too: a device has one connection at a time.
        self.resume_all();
        self.resume_all();
        self.settle();
        self.probe();
        self.settle();
        self.verdict(true);
        self.clean_up();
    }

    fn become_well(&mut self) {
        for device in &mut self.devices {
            device.lazy = false;
        }
        for at in 0..self.broker.wires.len() {
            self.broker.wires[at].stuck = false;
            if self.broker.wires[at].orphaned && self.broker.wires[at].is_open() {
                self.hang_up_wire(at, true);
                self.heard();
            }
        }
    }

    fn resume_all(&mut self) {
        for device in 0..DEVICES {
            for mount in 0..MOUNTS.len() {
                let subject = self.judge.subject(&subscriber(device, mount));
                if self.judge.subjects[subject].stage != Stage::Offline || self.judge.violation.is_some() {
                    continue;
                }
                let Some(life) = self.judge.subjects[subject].life else { continue };
                let last = self.judge.connections[self.judge.lives[life].serial as usize].hello;
                self.hang_up(device, false);
                let name = if mount == 0 { Name::Plain } else { Name::Mounted };
                let shard = self.random.below(self.broker.shards.len());
                self.connect(device, shard, plain_hello(name, last.version, false));
                self.settle();
                self.verdict(false);
            }
        }
    }

    /// A stranger looks at what is retained.
    fn probe(&mut self) {
        for name in [Name::Plain, Name::Mounted] {
            self.hang_up(PROBE, false);
            self.connect(PROBE, 0, plain_hello(name, ProtocolVersion::V5, true));
            self.settle();
            self.subscribe(PROBE, 5, QoS::AtLeastOnce, false, Plan::Accept);
            self.settle();
            self.verdict(false);
        }
    }

    fn conclude_with_stop(&mut self) {
        self.judge.stopping = true;
        for shard in 0..self.broker.shards.len() {
            self.broker.stop(shard);
            self.heard();
            let turns = self.random.below(6);
            for _ in 0..turns {
                self.turn();
            }
        }
        self.become_well();
        self.settle();
        self.verdict(false);
        let online = self.judge.subjects.iter().filter(|one| one.stage == Stage::Online).count();
        let open = self.broker.wires.iter().filter(|wire| wire.welcomed && wire.is_open()).count();
        if online + open > 0 || self.broker.stopped != self.broker.shards.len() {
            let detail = format!("{online} online, {open} connections open, {} shards stopped", self.broker.stopped);
            self.judge.find("stop: every connection ends", detail);
        }
    }

    /// All sessions end, what is retained is cleared: nothing may be left.
    fn clean_up(&mut self) {
        if self.judge.violation.is_some() {
            return;
        }
        for name in [Name::Plain, Name::Mounted] {
            self.hang_up(PROBE, false);
            self.connect(PROBE, 0, plain_hello(name, ProtocolVersion::V5, true));
            self.settle();
            (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
            self.settle();
        }
        for device in 0..=PROBE {
            self.hang_up(device, false);
            for mount in 0..MOUNTS.len() {
                self.heard();
                let shard = self.random.below(self.broker.shards.len());
                self.admin(device, mount, shard, true);
            }
        }
        self.settle();
        self.verdict(false);
        // A will may have been retained.
        self.connect(PROBE, 0, plain_hello(Name::Plain, ProtocolVersion::V5, true));
        self.settle();
        (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
        self.settle();
        self.connect(PROBE, 0, plain_hello(Name::Mounted, ProtocolVersion::V5, true));
        self.settle();
        (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
        self.settle();
        self.become_well();
        self.hang_up(PROBE, false);
        self.settle();
        self.pass_until(self.broker.now + Duration::from_secs(130));
        self.settle();
        self.verdict(false);
        for shard in 0..self.broker.shards.len() {
            let held = self.broker.shards[shard].held();
            if held != (Held { deadlines: 1, ..Held::default() }) {
                self.judge.find("memory: nothing is left in the end", format!("shard {shard}: {held:?}"));
            }
        }
    }
}

/// A CONNECT without anything special, of a session that is kept unless it is `clean`.
fn plain_hello(name: Name, version: ProtocolVersion, clean: bool) -> Hello {
    Hello {
        name,
        version,
        clean,
        expiry: if clean { 0 } else { 600 },
        will: None,
        keep_alive: 0,
        receive_maximum: 0,
        small_packets: false,
        plan: Plan::Accept,
        notices: 0,
    }
}

/// Whether a client that is well has everything it asked for.
fn check_answered(wire: &Wire, device: &Device, judge: &mut Judge) {
    let store = &device.stores[wire.hello.name.mount()];
    let waits = if !wire.answered {
        "CONNACK"
    } else if !wire.welcomed || judge.connections[wire.serial as usize].said_goodbye.is_some() {
        "the end of its connection"
    } else if wire.subscribing.is_some() {
        "SUBACK or UNSUBACK"
    } else if !store.outgoing.is_empty() {
        "an acknowledgement"
    } else if wire.pings > 0 {
        "PINGRESP"
    } else {
        return;
    };
    let detail = format!("connection {} waits for {waits}: {:?}", wire.serial, store.outgoing);
    judge.find("progress: every client is answered", detail);
}
