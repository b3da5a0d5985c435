//! The checks when everything has arrived, and the end of a history.

use std::time::Duration;

use moormq::codec::{ProtocolVersion, QoS};
use moormq::random::Random;
use moormq::shard::ResourceCounts;

use crate::client::Client;
use crate::history::{Ask, CLIENTS, ConnectOptions, MOUNTS, Name, PROBE, Plan, TOPICS};
use crate::judge::{Judge, Stage};
use crate::play::{Play, subscriber};
use crate::socket::{End, Socket};

impl Play {
    /// Judges what must be true when everything has arrived.
    pub fn verdict(&mut self, is_end: bool) {
        if self.judge.violation.is_some() {
            return;
        }
        for socket in &self.broker.sockets {
            let client = &self.clients[socket.client];
            let ready = socket.connected && socket.is_open() && !socket.replaced;
            self.judge.connections[socket.serial as usize].is_responsive = ready && !socket.stuck && !client.lazy;
            if socket.is_open() && !socket.stuck && !socket.replaced && !client.lazy {
                check_answered(socket, client, &mut self.judge);
            }
        }
        self.judge.judge_lifecycles();
        self.judge.judge_deliveries(is_end);
        self.judge.judge_patience();
        self.check_counts();
        self.judge.rests += 1;
        self.judge.publications_at_rest = self.judge.publications;
        if self.broker.disks.is_some() {
            self.judge.all_is_on_disk();
            self.clients.iter_mut().flat_map(|client| &mut client.states).for_each(|state| state.all_is_on_disk());
        }
    }

    /// Compares the counters of the shards with what the judge knows.
    fn check_counts(&mut self) {
        let online = self.judge.subjects.iter().filter(|one| one.stage == Stage::Online).count();
        let sessions = self.judge.sessions.iter().filter(|session| !session.ended).count();
        let subscriptions =
            self.judge.sessions.iter().filter(|session| !session.ended).flat_map(|session| &session.subscriptions);
        let (confirmed, perhaps) =
            subscriptions.fold((0, 0), |(yes, all), one| (yes + u64::from(one.confirmed), all + 1));
        let mut counts = ResourceCounts::default();
        let (mut connected, mut subscribed, mut drops) = (0, 0, [0; 6]);
        for shard in &self.broker.shards {
            let one = shard.resource_counts();
            counts.sessions += one.sessions;
            counts.connections += one.connections;
            counts.subscribing += one.subscribing;
            counts.hooks += one.hooks;
            connected += shard.counters().connected;
            subscribed += shard.counters().subscriptions;
            drops.iter_mut().zip(shard.counters().dropped).for_each(|(sum, one)| *sum += one);
        }
        if drops != self.judge.drops {
            let detail = format!("counted {drops:?}, announced {:?}", self.judge.drops);
            self.judge.find("drops: each is announced and counted", detail);
        }
        let open = self.broker.sockets.iter().filter(|socket| matches!(socket.end, End::At(..))).count();
        let fits = counts.sessions == sessions
            && connected == online as u64
            && counts.connections == open
            && (confirmed..=perhaps).contains(&subscribed)
            && counts.subscribing + counts.hooks == 0;
        if !fits {
            let detail = format!(
                "{counts:?}, connected {connected}, subscriptions {subscribed}; sessions {sessions}, online {online}, open {open}, confirmed {confirmed} of {perhaps}"
            );
            self.judge.find("owners: each session has one, and what is counted is there", detail);
        }
    }

    /// The end of a history: all clients recover, all sessions are resumed, nothing is missing, and nothing is left.
    pub fn conclude(&mut self) {
        self.judge.note(|| "* the end".to_owned());
        self.random = Random::from_seed(self.judge.setup.seed ^ 0xE4D);
        if self.judge.setup.stops {
            self.start_again_after_failure();
            self.conclude_with_stop();
            if !self.judge.setup.is_stored() {
                return;
            }
            // All is on disk, and the next broker goes on with it.
            self.judge.stopping = false;
            let shards = self.broker.shards.len();
            let loses_power = self.judge.setup.may_lose_power() && self.random.below(2) == 0;
            self.crash((loses_power, 10), shards, false);
        }
        self.recover();
        self.settle();
        self.verdict(false);
        // The second time wills that the first one brought have come, too: a client has one connection at a time.
        self.resume_all();
        self.resume_all();
        self.settle();
        self.probe();
        self.settle();
        self.verdict(true);
        self.clean_up();
    }

    fn recover(&mut self) {
        for client in &mut self.clients {
            client.lazy = false;
        }
        for at in 0..self.broker.sockets.len() {
            self.broker.sockets[at].stuck = false;
            if self.broker.sockets[at].replaced && self.broker.sockets[at].is_open() {
                self.hang_up_socket(at, true);
                self.observe();
            }
        }
    }

    fn resume_all(&mut self) {
        for client in 0..CLIENTS {
            for mount in 0..MOUNTS.len() {
                let subject = self.judge.subject(&subscriber(client, mount));
                if self.judge.subjects[subject].stage != Stage::Offline || self.judge.violation.is_some() {
                    continue;
                }
                let Some(session) = self.judge.subjects[subject].session else { continue };
                let last = self.judge.connections[self.judge.sessions[session].serial as usize].options;
                self.hang_up(client, false);
                let name = if mount == 0 { Name::Plain } else { Name::Mounted };
                let shard = self.random.below(self.broker.shards.len());
                self.connect(client, shard, ConnectOptions::plain(name, last.version, false));
                self.settle();
                self.verdict(false);
            }
        }
    }

    /// A client without a session subscribes to all retained messages.
    fn probe(&mut self) {
        for name in [Name::Plain, Name::Mounted] {
            self.hang_up(PROBE, false);
            self.connect(PROBE, 0, ConnectOptions::plain(name, ProtocolVersion::V5, true));
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
            self.observe();
            let turns = self.random.below(6);
            for _ in 0..turns {
                self.turn();
            }
        }
        self.recover();
        self.settle();
        self.verdict(false);
        let online = self.judge.subjects.iter().filter(|one| one.stage == Stage::Online).count();
        let open = self.broker.sockets.iter().filter(|socket| socket.connected && socket.is_open()).count();
        if online + open > 0 || self.broker.stopped != self.broker.shards.len() {
            let detail = format!("{online} online, {open} connections open, {} shards stopped", self.broker.stopped);
            self.judge.find("stop: every connection ends", detail);
        }
    }

    /// All sessions end, and retained messages are cleared: nothing may be left.
    fn clean_up(&mut self) {
        if self.judge.violation.is_some() {
            return;
        }
        for name in [Name::Plain, Name::Mounted] {
            self.hang_up(PROBE, false);
            self.connect(PROBE, 0, ConnectOptions::plain(name, ProtocolVersion::V5, true));
            self.settle();
            (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
            self.settle();
        }
        for client in 0..=PROBE {
            self.hang_up(client, false);
            for mount in 0..MOUNTS.len() {
                self.observe();
                let shard = self.random.below(self.broker.shards.len());
                self.admin(client, mount, shard, true);
            }
        }
        self.settle();
        self.verdict(false);
        // A will may have been retained.
        self.connect(PROBE, 0, ConnectOptions::plain(Name::Plain, ProtocolVersion::V5, true));
        self.settle();
        (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
        self.settle();
        self.connect(PROBE, 0, ConnectOptions::plain(Name::Mounted, ProtocolVersion::V5, true));
        self.settle();
        (0..TOPICS.len()).for_each(|topic| self.clear(PROBE, topic));
        self.settle();
        self.recover();
        self.hang_up(PROBE, false);
        self.settle();
        self.pass_until(self.broker.now + Duration::from_secs(130));
        self.settle();
        self.verdict(false);
        for shard in 0..self.broker.shards.len() {
            let counts = self.broker.shards[shard].resource_counts();
            if counts != (ResourceCounts { deadlines: 1, ..ResourceCounts::default() }) {
                self.judge.find("memory: nothing is left in the end", format!("shard {shard}: {counts:?}"));
            }
        }
    }
}

/// Checks that a client that reads and acknowledges waits for nothing.
fn check_answered(socket: &Socket, client: &Client, judge: &mut Judge) {
    let state = &client.states[socket.options.name.mount()];
    let waits = if !socket.answered {
        "CONNACK"
    } else if !socket.connected || judge.connections[socket.serial as usize].sent_disconnect.is_some() {
        "the end of its connection"
    } else if socket.subscribing.is_some() {
        "SUBACK or UNSUBACK"
    } else if !state.outgoing.is_empty() {
        "an acknowledgement"
    } else if socket.authenticating {
        "AUTH, or the end of its connection"
    } else if socket.pings > 0 {
        "PINGRESP"
    } else {
        return;
    };
    let detail = format!("connection {} waits for {waits}: {:?}", socket.serial, state.outgoing);
    judge.find("progress: every client is answered", detail);
}
