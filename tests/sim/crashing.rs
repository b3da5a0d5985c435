//! The end of the broker amid a history, and the start of the next one with what is on the disks.

use std::time::Duration;

use crate::copying::Copied;
use crate::judge::Stage;
use crate::play::Play;
use crate::recovery::Found;
use crate::socket::End;

const PROGRESS: &str = "progress: a broker with a store starts";

impl Play {
    /// The broker of the history has a store that has nothing, if it has one.
    pub fn begin(&mut self) {
        if let Some(opened) = self.broker.read() {
            self.broker.restore(opened);
            self.start_serving(0);
        }
    }

    /// Does something of what is under way for journals, or leaves it for later.
    pub fn go_on_disk(&mut self) -> bool {
        let patience = self.judge.setup.disk_patience();
        self.random.below(16) >= patience && self.broker.go_on_disk(&mut self.random)
    }

    /// Disks make no more trouble; if one has failed, its shard acknowledges nothing until the broker starts again.
    pub fn start_again_after_failure(&mut self) {
        let shards = self.broker.shards.len();
        if self.broker.disks.as_mut().is_some_and(|disks| !disks.are_in_order()) {
            self.crash((false, 0), shards, false);
        }
    }

    /// The broker dies, and starts again after so many milliseconds with so many shards; with `again`, it dies amid that, too.
    pub fn crash(&mut self, (loses_power, down): (bool, u64), shards: usize, again: bool) {
        if self.broker.disks.is_none() || self.judge.violation.is_some() {
            return;
        }
        self.die((loses_power, down), shards, None);
        if again && self.judge.violation.is_none() {
            let turns = self.random.below(30);
            self.some_turns(turns);
            if self.broker.is_restored() && self.random.below(2) == 0 {
                self.broker.is_renewed();
                self.broker.begin(0);
                self.observe();
            }
            self.die((loses_power, 0), shards, None);
        }
        if self.judge.violation.is_none() {
            let turns = self.random.below(20);
            self.start_serving(turns);
        }
    }

    /// The broker ends, and the next one has a copy of the store with these disks.
    pub fn go_on_with(&mut self, copy: Copied, down: u64, shards: usize) {
        self.die((false, down), shards, Some(copy));
        if self.judge.violation.is_none() {
            let turns = self.random.below(20);
            self.start_serving(turns);
        }
    }

    fn die(&mut self, (loses_power, down): (bool, u64), shards: usize, copy: Option<Copied>) {
        self.observe();
        let reaches_nobody = self.broker.reaches_nobody;
        for socket in 0..self.broker.sockets.len() {
            if self.broker.sockets[socket].end != End::Closed {
                let arrives = self.random.below(2) == 0 && !reaches_nobody;
                self.broker.cut(socket, arrives);
                self.receive(socket);
                self.free(socket);
            }
        }
        self.judge.broker_dies();
        self.broker.restart(&self.judge.setup, shards, (loses_power, down), &mut self.random);
        self.judge.now = self.broker.millis();
        if let (Some(copy), Some(disks)) = (copy, &mut self.broker.disks) {
            disks.become_copy(copy);
        }
        if let Some((disks, transcript)) = self.broker.disks.as_ref().zip(self.judge.transcript.as_mut()) {
            transcript.extend(disks.records());
        }
        let Some(opened) = self.broker.read() else { return };
        let sessions = opened.shares.iter().flat_map(|share| &share.sessions);
        let mut paged =
            |session| self.broker.disks.iter_mut().flat_map(|disks| disks.paged(session)).collect::<Vec<_>>();
        let found: Vec<Found> = sessions.map(|session| Found::of(session, &paged(session))).collect();
        self.judge.recover(&found, &mut self.clients);
        self.judge.recover_retained(&opened.retained, loses_power);
        self.broker.restore(opened);
    }

    fn some_turns(&mut self, count: usize) {
        for _ in 0..count {
            self.turn();
        }
    }

    /// The shards hear of each other what sessions have subscribed to; then of the end of the last broker, with so many turns between.
    fn start_serving(&mut self, turns: usize) {
        let patience = self.broker.now + Duration::from_secs(120);
        while !self.broker.is_restored() {
            if self.turn() {
                continue;
            }
            if self.broker.now >= patience {
                return self.judge.find(PROGRESS, "its shards wait for each other".to_owned());
            }
            // A journal may wait for its time.
            self.pass_until(self.broker.now + Duration::from_millis(5));
        }
        self.broker.is_renewed();
        for shard in 0..self.broker.shards.len() {
            self.broker.begin(shard);
            self.observe();
            self.some_turns(turns);
        }
        self.judge.is_starting = false;
        let online = self.judge.subjects.iter().find(|one| one.stage == Stage::Online);
        if let Some(online) = online {
            let detail = format!("{} was connected when the broker died, and is", online.id);
            self.judge.find("lifecycle: the grammar of hooks", detail);
        }
    }
}
