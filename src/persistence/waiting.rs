//! What waits for the disk: answers to clients, what is recorded later only, and what other shards are told.

use std::collections::btree_map::Entry;

use smallvec::SmallVec;

use super::Persistence;
use super::answers::{Answer, Awaited};
use super::commits::{Committed, Durability, UNKNOWN};
use super::deferrals::Deferred;
use super::launches::Launch;
use crate::client::ConnectionId;
use crate::codec::PacketId;
use crate::numbers::{Decision, DecisionNumber};
use crate::records::Record;
use crate::session::StoreNumber;
use crate::sharding::ShardSet;

impl Persistence {
    /// So many letters were sent to another shard that lead to records there.
    pub fn sent_letters(&mut self, to: usize, sent: u64) {
        if to != self.own {
            self.on_disk.letters.sent(to, sent);
        }
    }

    /// Something was published here that is not delivered to all at once: as if it was a letter to this shard itself.
    pub fn write_to_self(&mut self) {
        self.on_disk.letters.send(self.own);
        self.on_disk.letters.come(self.own);
    }

    /// Whether anything is recorded later only.
    pub fn is_anything_deferred(&self) -> bool {
        !self.deferrals.is_empty()
    }

    /// Something is to be recorded when all that was sent to other shards before is on disk there, and this decision is.
    pub fn defer(&mut self, deferred: Deferred, after: Option<DecisionNumber>) {
        let letters = self.on_disk.letters.all_open();
        let decision = after.filter(|number| !self.on_disk.decisions.is_made(*number));
        self.write_after(Awaited { letters, decision, ..Awaited::default() }, deferred);
    }

    pub(super) fn write_after(&mut self, awaited: Awaited, deferred: Deferred) {
        match awaited == Awaited::default() && self.deferrals.is_empty() {
            true => self.write_deferred(deferred, false),
            false => self.deferrals.push(awaited, deferred),
        }
    }

    /// Records what was deferred, and may have been for other shards.
    pub(super) fn write_deferred(&mut self, deferred: Deferred, is_elsewhere: bool) {
        let decision = match deferred {
            Deferred::Taken(decision, id) => {
                let Decision { session, number } = decision;
                self.write_taken(decision, id);
                match self.incoming.entry((session, id.get())) {
                    Entry::Occupied(expected) if *expected.get() == number => drop(expected.remove()),
                    // The id is in use again.
                    Entry::Occupied(_) => {}
                    // Its client does not wait for PUBREC.
                    Entry::Vacant(_) => self.write(&Record::Released(session, id)),
                }
                Some(decision)
            }
            Deferred::PassedOn(decision, key) => {
                let Decision { session, number } = decision;
                self.write(&Record::PassedOn { session, key, decision: number });
                Some(decision)
            }
            Deferred::KeptNoMore(decision) => {
                self.write(&Record::Ended(decision.session));
                self.adoptions.forget(decision.session);
                self.promises.forget(decision.session);
                Some(decision)
            }
            Deferred::WillGone(decision) => {
                self.write(&Record::WillGone(decision.session, decision.number));
                self.wills_going.remove(&decision.session);
                self.new_wills.extend(self.wills_to_come.remove(&decision.session));
                Some(decision)
            }
            Deferred::Ended(session) => {
                self.write(&Record::Ended(session));
                self.adoptions.forget(session);
                self.promises.forget(session);
                if let Some(pages) = &mut self.pages {
                    pages.has_ended(session);
                }
                None
            }
        };
        if let Some(decision) = decision {
            self.on_disk.decisions.write(decision, self.recorded(), is_elsewhere);
        }
    }

    /// Records that a QoS 2 message of a client was taken.
    pub(super) fn write_taken(&mut self, Decision { session, number }: Decision, id: PacketId) {
        self.write(&Record::Incoming { session, id, decision: Some(number) });
    }

    pub(super) fn write_those_deferred(&mut self) {
        while let Some((deferred, was_elsewhere)) = self.deferrals.next(&self.on_disk) {
            self.write_deferred(deferred, was_elsewhere);
        }
    }

    /// A letter has come from another shard.
    pub fn letter_came(&mut self, from: usize) {
        self.on_disk.letters.come(from);
    }

    /// A shard says how many letters of this one are on disk there with all that followed.
    pub fn letters_committed(&mut self, by: usize, committed: Committed) {
        self.on_disk.letters.are_committed(by, committed);
        self.write_those_deferred();
    }

    /// All decisions of another shard below this count are on disk there.
    pub fn decisions_made(&mut self, by: usize, below: u64) {
        self.on_disk.decisions.are_made(by, below);
        self.write_those_deferred();
    }

    /// What all other shards are to be told of decisions: those of this shard below this count are on disk.
    pub fn next_decisions(&mut self) -> Option<u64> {
        self.on_disk.decisions.next_news()
    }

    /// A session is about to decide something that messages depend on; its last decision was this one. What it has decided has to be said in the
    /// same input, with [`take_incoming`](Self::take_incoming) or [`defer`](Self::defer).
    pub fn decide(&mut self, session: StoreNumber, last: DecisionNumber) -> Decision {
        self.on_disk.decisions.give(session, last)
    }

    /// A decision as messages have it that depend on it. Of a session that has come from another shard it is one of the number that it had there: as
    /// long as the new one is not on disk, that number counts after a crash, which has not decided this and does the same again. Of the new one
    /// nothing would be known then, as of one that has ended.
    pub fn in_messages(&self, decision: Decision) -> Decision {
        Decision { session: self.adoptions.before(decision.session).unwrap_or(decision.session), ..decision }
    }

    /// Whether this decision is on disk.
    pub fn is_made(&self, number: DecisionNumber) -> bool {
        self.on_disk.decisions.is_made(number)
    }

    /// Nothing was decided, nothing depends on it.
    pub fn forget(&mut self, decision: Decision) {
        self.on_disk.decisions.forget(decision);
    }

    /// What these shards have been sent and is not known to be on disk there.
    pub(super) fn letters_to(&self, told: ShardSet) -> SmallVec<[(usize, u64); 2]> {
        told.iter().filter_map(|shard| Some((shard, self.on_disk.letters.open(shard)?))).collect()
    }

    /// A client is to be answered when all that was recorded so far is on disk, what these shards have been sent, and a decision if there is one.
    /// Gives the answer back if that is so, and none of its answers waits.
    ///
    /// `durability`: what the client is promised. With `is_gathered`, the message is one of those that are delivered together, and not recorded yet: see
    /// [`record_noted`](Self::record_noted).
    pub fn answer(
        &mut self,
        (connection, durability): (ConnectionId, Durability),
        (told, is_gathered): (ShardSet, bool),
        decision: Option<DecisionNumber>,
        answer: Answer,
    ) -> Option<Answer> {
        let mut awaited = Awaited { records: self.recorded(), letters: self.letters_to(told), decision, token: None };
        if is_gathered {
            (awaited.records, self.gathered) = (UNKNOWN, true);
        } else if self.counts() && !self.answers.any_of(durability) && awaited.is_there(durability, &self.on_disk) {
            return Some(answer);
        }
        self.answers.push(durability, awaited, connection, answer);
        None
    }

    /// The next answer that need not wait any more.
    pub fn next_answer(&mut self) -> Option<(ConnectionId, Answer)> {
        if !self.counts() {
            return None;
        }
        self.answers.next(&self.on_disk)
    }

    /// The next session with QoS 2 messages that are on disk.
    pub fn next_launch(&mut self) -> Option<Launch> {
        if !self.counts() {
            return None;
        }
        self.launches.next(&self.on_disk)
    }

    /// What was done at this time has been done. `portions`: so many messages in portions had been begun, of which so many are done; none if
    /// what shards have sent may be here without being delivered for another reason.
    pub fn end_input(&mut self, portions: Option<(u64, u64)>) {
        if let Some(portions) = portions.filter(|_| !self.adoptions.is_any_being_recorded()) {
            self.on_disk.letters.end_turn(self.recorded(), self.on_disk.elsewhere.last_passed_on(), portions);
            self.on_disk.elsewhere.end_turn(self.recorded(), portions);
        }
    }

    /// What another shard is to be told: so many of its letters are on disk here.
    pub fn next_news(&mut self) -> Option<(usize, Committed)> {
        loop {
            let (shard, committed) =
                self.on_disk.letters.next_news(self.on_disk.commits.committed(), &self.on_disk.elsewhere)?;
            if shard != self.own {
                return Some((shard, committed));
            }
            self.letters_committed(shard, committed);
        }
    }
}
