//! Answers to clients that wait until what they acknowledge is on disk.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::commits::{Durability, UNKNOWN};
use super::on_disk::OnDisk;
use crate::client::ConnectionId;
use crate::codec::{AckKind, PacketId, ReasonCode};
use crate::numbers::DecisionNumber;

/// What a client is told, or may do, when what that depends on is on disk.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// An acknowledgement without properties.
    Ack(AckKind, PacketId, ReasonCode),
    /// Another packet, as it is sent.
    Packet(Box<[u8]>),
    /// What is in its output by then, CONNACK first: it was kept back.
    Output,
}

/// What has to be on disk before an answer: so many records of this shard, what so many letters to other shards have led to there, a decision, and
/// something that went there by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Records of this shard.
    pub records: u64,
    /// Letters, by shard.
    pub letters: SmallVec<[(usize, u64); 2]>,
    /// A decision.
    pub decision: Option<DecisionNumber>,
    /// Something that went to another shard, by its token.
    pub token: Option<u64>,
}

impl Awaited {
    /// Whether all of it is, in this sense.
    pub(super) fn is_there(&self, durability: Durability, on_disk: &OnDisk) -> bool {
        let others = on_disk.letters.committed();
        on_disk.commits.committed().of(durability) >= self.records
            && self.letters.iter().all(|(shard, letters)| others[*shard].of(durability) >= *letters)
            && self.decision.is_none_or(|decision| on_disk.decisions.is_made(decision))
            && self.token.is_none_or(|token| !on_disk.elsewhere.is_open(token))
    }
}

/// They, in order: of two answers of one client the second never overtakes the first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By what they wait for; what one connection waits for is always the same.
    waiting: [VecDeque<(Awaited, ConnectionId, Answer)>; 2],
}

impl Answers {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Whether any waits in this sense.
    pub fn any_of(&self, durability: Durability) -> bool {
        !self.waiting[durability as usize].is_empty()
    }

    /// Whether any waits for this client.
    pub fn has_for(&self, connection: ConnectionId) -> bool {
        self.waiting.iter().flatten().any(|(_, to, _)| *to == connection)
    }

    /// One more, behind the others.
    pub fn push(&mut self, durability: Durability, awaited: Awaited, to: ConnectionId, answer: Answer) {
        self.waiting[durability as usize].push_back((awaited, to, answer));
    }

    /// Those that wait for what was gathered, the last ones, wait for so many records now.
    pub fn gathered_are_recorded(&mut self, records: u64) {
        for waiting in &mut self.waiting {
            let gathered = waiting.iter_mut().rev().take_while(|(awaited, ..)| awaited.records == UNKNOWN);
            gathered.for_each(|(awaited, ..)| awaited.records = records);
        }
    }

    /// The next one that need not wait any more.
    pub fn next(&mut self, on_disk: &OnDisk) -> Option<(ConnectionId, Answer)> {
        [Durability::Flushed, Durability::Fsynced].into_iter().find_map(|durability| {
            let waiting = &mut self.waiting[durability as usize];
            let is_there = waiting.front().is_some_and(|(awaited, ..)| awaited.is_there(durability, on_disk));
            let (_, to, answer) = if is_there { waiting.pop_front()? } else { return None };
            Some((to, answer))
        })
    }
}
