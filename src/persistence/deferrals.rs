//! What is recorded when something else is on disk that was sent to other shards: it would be lost if the process ended between.

use std::collections::VecDeque;

use super::answers::Awaited;
use super::commits::Durability;
use super::on_disk::OnDisk;
use crate::codec::PacketId;
use crate::numbers::{Decision, StoreNumber};
use crate::session::Key;

/// Something that is recorded later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// A QoS 2 message with this packet id was taken from the client of a session.
    Taken(Decision, PacketId),
    /// A message of a session has gone on to another one.
    PassedOn(Decision, Key),
    /// The will of a session was published.
    WillGone(Decision),
    /// A session ends with its connection from here on.
    KeptNoMore(Decision),
    /// A session has ended: its will was published, what others could have went on to them.
    Ended(StoreNumber),
}

/// They, in order: none goes before an earlier one.
#[derive(Debug, Default)]
pub(super) struct Deferrals {
    waiting: VecDeque<(Awaited, Deferred)>,
    /// How many there were that do not wait any more.
    done: u64,
}

impl Deferrals {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One more, behind the others.
    pub fn push(&mut self, awaited: Awaited, deferred: Deferred) {
        self.waiting.push_back((awaited, deferred));
    }

    /// The next one that need not wait any more, and whether it had waited for other shards.
    pub fn next(&mut self, on_disk: &OnDisk) -> Option<(Deferred, bool)> {
        self.waiting.front().filter(|(awaited, _)| awaited.is_there(Durability::Fsynced, on_disk))?;
        let (awaited, deferred) = self.waiting.pop_front()?;
        self.done += 1;
        Some((deferred, !awaited.letters.is_empty()))
    }

    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.done + self.waiting.len() as u64
    }

    /// Whether none of the first `count` waits.
    pub fn are_done(&self, count: u64) -> bool {
        self.done >= count
    }
}
