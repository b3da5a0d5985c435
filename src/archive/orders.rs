//! What one shard has asked an archive for, and is not answered yet.

use std::collections::VecDeque;

use super::batch::Batch;
use super::order::{Answer, Order, Read, Ticket, What};

/// How much of one shard may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of batches that are not persisted; a batch is no larger than that.
    pub bytes: usize,
    /// Batches that are not persisted.
    pub batches: usize,
    /// Reads that are not answered. Each answer has a value, a page as a rule.
    pub reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 8 << 20, batches: 64, reads: 64 }
    }
}

/// Why something cannot be asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// So much is under way that an answer has to come first.
    Busy,
    /// It is larger than all that may be under way.
    TooLarge,
    /// There was no room for an earlier batch: see [`Orders::go_on`].
    Full,
    /// The archive has failed. Nothing is written any more before the broker was started again.
    Failed,
}

/// What one shard has asked for.
#[derive(Debug)]
pub struct Orders {
    shard: u32,
    limits: Limits,
    last: Ticket,
    /// The batches that are not persisted, and how many bytes they have.
    under_way: VecDeque<(Ticket, usize)>,
    bytes: usize,
    reads: usize,
    attempt: u32,
    refused: Option<Refused>,
}

impl Orders {
    /// Nothing yet.
    pub fn new(shard: u32, limits: Limits) -> Self {
        let under_way = VecDeque::new();
        Orders { shard, limits, last: Ticket(0), under_way, bytes: 0, reads: 0, attempt: 0, refused: None }
    }

    /// A batch is wanted to be written: what is to be sent to the desk, and the ticket for [`Answer::Persisted`]. Batches of a shard are made in the
    /// order in which they are given here.
    ///
    /// # Errors
    ///
    /// It cannot be now, and comes back.
    pub fn write(&mut self, batch: Batch) -> Result<(Ticket, Order), (Refused, Batch)> {
        let refused = match self.refused {
            Some(refused) => Some(refused),
            None if batch.bytes() > self.limits.bytes => Some(Refused::TooLarge),
            None if !self.has_room(batch.bytes()) => Some(Refused::Busy),
            None => None,
        };
        if let Some(refused) = refused {
            return Err((refused, batch));
        }
        let ticket = Ticket(self.last.0 + 1);
        self.last = ticket;
        self.bytes += batch.bytes();
        self.under_way.push_back((ticket, batch.bytes()));
        Ok((ticket, Order { shard: self.shard, what: What::Write { ticket, attempt: self.attempt, batch } }))
    }

    /// Something is wanted to be read: what is to be sent to the desk. The answer has the `tag`.
    ///
    /// What was written before is not waited for: a shard has that in memory until it is persisted.
    ///
    /// # Errors
    ///
    /// So much is under way that an answer has to come first.
    pub fn read(&mut self, tag: u64, read: Read) -> Result<Order, Refused> {
        if self.reads >= self.limits.reads {
            return Err(Refused::Busy);
        }
        self.reads += 1;
        Ok(Order { shard: self.shard, what: What::Read { tag, read } })
    }

    /// An answer has come: there may be room again.
    pub fn answered(&mut self, answer: &Answer) {
        match answer {
            Answer::Persisted(up_to) => {
                let count = self.under_way.partition_point(|(ticket, _)| ticket <= up_to);
                self.bytes -= self.under_way.drain(..count).map(|(_, bytes)| bytes).sum::<usize>();
            }
            Answer::Refused { from, .. } => {
                let first = self.under_way.partition_point(|(ticket, _)| ticket < from);
                self.bytes -= self.under_way.drain(first..).map(|(_, bytes)| bytes).sum::<usize>();
                self.refused = self.refused.or(Some(Refused::Full));
            }
            Answer::Failed(_) => {
                self.under_way.clear();
                self.bytes = 0;
                self.refused = Some(Refused::Failed);
            }
            Answer::Read { .. } => self.reads = self.reads.saturating_sub(1),
        }
    }

    /// After [`Answer::Refused`]: it may be tried again. What was refused has to be given once more, before what was to follow it.
    pub fn go_on(&mut self) {
        if self.refused == Some(Refused::Full) {
            self.refused = None;
            self.attempt += 1;
        }
    }

    /// Whether a batch of so many bytes could be under way with all others.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.limits.bytes && self.under_way.len() < self.limits.batches
    }

    /// How many bytes of batches are not persisted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The first batch that is not persisted.
    pub fn oldest(&self) -> Option<Ticket> {
        self.under_way.front().map(|(ticket, _)| *ticket)
    }
}
