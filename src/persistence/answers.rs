//! Answers to clients that wait until what they acknowledge is on disk.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::commits::{Committed, Durability};
use crate::client::ConnectionId;
use crate::codec::{AckKind, PacketId, ReasonCode};
use crate::session::StoreNumber;

/// How many records there will be is not known yet: more are to come for the same.
pub(super) const UNKNOWN: u64 = u64::MAX;

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

/// The client that is answered, and of which QoS 2 message of it is to be recorded then that it was taken.
pub type Addressee = (ConnectionId, Option<(StoreNumber, PacketId)>);

/// What has to be on disk before an answer: so many records of this shard, and what so many letters to other shards have led to there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// Records of this shard.
    pub records: u64,
    /// Letters, by shard.
    pub letters: SmallVec<[(usize, u64); 2]>,
}

impl Awaited {
    /// Whether all of it is, in this sense; `others` says of each shard what the letters to it have led to.
    pub(super) fn is_there(&self, durability: Durability, own: Committed, others: &[Committed]) -> bool {
        own.of(durability) >= self.records
            && self.letters.iter().all(|(shard, letters)| others[*shard].of(durability) >= *letters)
    }
}

/// They, in order: of two answers of one client the second never overtakes the first.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// By what they wait for; what one connection waits for is always the same.
    waiting: [VecDeque<(Awaited, Addressee, Answer)>; 2],
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

    /// One more, behind the others.
    pub fn push(&mut self, durability: Durability, awaited: Awaited, to: Addressee, answer: Answer) {
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
    pub fn next(&mut self, own: Committed, others: &[Committed]) -> Option<(Addressee, Answer)> {
        [Durability::Flushed, Durability::Fsynced].into_iter().find_map(|durability| {
            let waiting = &mut self.waiting[durability as usize];
            let is_there = waiting.front().is_some_and(|(awaited, ..)| awaited.is_there(durability, own, others));
            let (_, to, answer) = if is_there { waiting.pop_front()? } else { return None };
            Some((to, answer))
        })
    }
}
