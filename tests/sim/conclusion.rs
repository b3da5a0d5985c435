//! What must be true when everything has arrived, and in the end.

use std::time::Duration;

use moormq::codec::{ProtocolVersion, QoS};
use moormq::random::Random;
use moormq::shard::Held;

use crate::device::Device;
use crate::history::{Ask, DEVICES, Hello, MOUNTS, Name, PROBE, Plan, TOPICS};
use crate::judge::{Judge, Stage};
use crate::play::{Play, subscriber};
use crate::wire::{End, Wire};

impl Play {
    /// Judges what must be true when everything has arrived.
    pub fn verdict(&mut self, is_end: bool) {
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
        self.judge.rests += 1;
        self.judge.publications_at_rest = self.judge.publications;
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
    pub fn conclude(&mut self) {
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
            self.subscribe(PROBE, [Some(Ask::plain(5, QoS::AtLeastOnce)), None], 0, Plan::Accept);
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
        aliases: 0,
        exchange: None,
        is_strange: false,
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
    } else if wire.authenticating {
        "AUTH, or the end of its connection"
    } else if wire.pings > 0 {
        "PINGRESP"
    } else {
        return;
    };
    let detail = format!("connection {} waits for {waits}: {:?}", wire.serial, store.outgoing);
    judge.find("progress: every client is answered", detail);
}
