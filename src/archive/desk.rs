//! What shards want of an archive, in which order it is done, and what they are answered.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::{Batch, Change};
use super::contract::Archive;
use super::error::{ArchiveError, Trouble};
use super::key::ArchiveKey;
use super::order::{Answer, Order, Read, ReadResult, Ticket, What};

/// So many bytes of values are put in one step at most, but for a single larger value, and the summary of the last page.
pub const STEP_BYTES: usize = 256 << 10;
/// So many keys are put or deleted in one step at most, and the summary of the last page.
pub const STEP_KEYS: usize = 256;
/// When so many bytes were changed, they are persisted, even if there is more to change.
///
/// A read waits for that at most. Fewer would cost more, since each persist also writes which parts of the file are free.
pub const GATHERED_BYTES: usize = 4 << 20;

/// A batch that is under way.
#[derive(Debug)]
struct Writing {
    shard: u32,
    ticket: Ticket,
    attempt: u32,
    batch: Batch,
    /// How many changes are made.
    done: usize,
}

/// What is known of a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Customer {
    /// All batches up to this one are made since the last persist.
    made: Option<Ticket>,
    /// Batches of this attempt are refused.
    refused: Option<u32>,
}

/// An archive, and what shards want of it.
#[derive(Debug)]
pub struct Desk<A> {
    archive: A,
    reads: VecDeque<(u32, u64, Read)>,
    writes: VecDeque<Writing>,
    customers: Vec<Customer>,
    /// How many bytes were changed since the last persist.
    gathered: usize,
    is_changed: bool,
    has_failed: bool,
    /// Nothing is written.
    is_held: bool,
}

impl<A: Archive> Desk<A> {
    /// Of so many shards.
    pub fn new(archive: A, shards: usize) -> Self {
        Desk {
            archive,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            customers: vec![Customer::default(); shards],
            gathered: 0,
            is_changed: false,
            has_failed: false,
            is_held: false,
        }
    }

    /// Takes what a shard wants.
    pub fn take(&mut self, order: Order) {
        let Order { shard, what } = order;
        match what {
            What::Read { tag, read } => self.reads.push_back((shard, tag, read)),
            What::Write { .. } if self.has_failed => {}
            What::Write { ticket, attempt, batch } => {
                self.writes.push_back(Writing { shard, ticket, attempt, batch, done: 0 });
            }
        }
    }

    /// Whether another batch could be begun at once.
    pub fn wants_batch(&self) -> bool {
        !self.is_held && self.writes.is_empty() && self.gathered < GATHERED_BYTES
    }

    /// Does what comes next: a read, a step of a batch, or a persist. False if there is nothing to do.
    pub fn step(&mut self, answer: &mut dyn FnMut(u32, Answer)) -> bool {
        if let Some((shard, tag, read)) = self.reads.pop_front() {
            let result = self.read(read);
            let failure = result.as_ref().err().filter(|error| error.trouble != Trouble::Lost).cloned();
            answer(shard, Answer::Read { tag, result });
            if let Some(error) = failure.filter(|_| !self.has_failed) {
                self.fail(&error, answer);
            }
            return true;
        }
        let done = match self.writes.front() {
            _ if self.is_held => return false,
            Some(_) if self.gathered < GATHERED_BYTES => self.write_some(answer),
            _ if self.is_changed => self.persist(answer),
            _ => return false,
        };
        if let Err(error) = done {
            self.fail(&error, answer);
        }
        true
    }

    /// Persists what was changed, and writes nothing more until it may [go on](Desk::go_on): so no shard is told that anything else is persisted. Reads go on.
    ///
    /// # Errors
    ///
    /// The archive has failed, now or before: then the shards know.
    pub fn hold(&mut self, answer: &mut dyn FnMut(u32, Answer)) -> Result<(), ArchiveError> {
        if let Err(error) = self.archive.persist() {
            if !self.has_failed {
                self.fail(&error, answer);
            }
            return Err(error);
        }
        self.are_persisted(answer);
        self.is_held = true;
        Ok(())
    }

    /// Writes again.
    pub fn go_on(&mut self) {
        self.is_held = false;
    }

    /// The archive itself. What shards want is done by [`step`](Desk::step) only.
    pub fn archive(&mut self) -> &mut A {
        &mut self.archive
    }

    fn read(&mut self, read: Read) -> ReadResult {
        match read {
            Read::Of(key) => {
                let Some(name) = ArchiveKey::from_bytes(&key) else { return Ok(None) };
                Ok(self.archive.read(name)?.map(|value| (key, value)))
            }
            Read::First(span) => {
                let mut first = Ok(None);
                self.archive.scan(&span, &mut |(key, value)| {
                    first = value.map(|value| Some((key.to_bytes().into(), Bytes::copy_from_slice(value))));
                    ControlFlow::Break(())
                })?;
                first
            }
        }
    }

    /// Makes some changes of the first batch.
    fn write_some(&mut self, answer: &mut dyn FnMut(u32, Answer)) -> Result<(), ArchiveError> {
        let Some(writing) = self.writes.front_mut() else { return Ok(()) };
        let Some(customer) = self.customers.get_mut(writing.shard as usize) else {
            self.writes.pop_front();
            return Ok(());
        };
        if customer.refused == Some(writing.attempt) {
            self.writes.pop_front();
            return Ok(());
        }
        if writing.done == 0 && writing.batch.put_bytes() > 0 {
            match self.archive.check_room(writing.batch.put_bytes()) {
                Ok(()) => {}
                Err(error) if error.trouble == Trouble::Full => {
                    customer.refused = Some(writing.attempt);
                    answer(writing.shard, Answer::Refused { from: writing.ticket, error });
                    self.writes.pop_front();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let rest = &writing.batch.changes()[writing.done..];
        match rest.first() {
            Some(Change::DeleteAll(span)) => {
                self.is_changed = true;
                self.gathered += STEP_KEYS * Batch::PER_CHANGE;
                writing.done += usize::from(self.archive.delete_some(span, STEP_KEYS)?);
            }
            Some(_) => {
                let (count, bytes) = step_of(rest);
                self.is_changed = true;
                self.gathered += bytes;
                self.archive.apply(&rest[..count])?;
                writing.done += count;
            }
            None => {}
        }
        if writing.done == writing.batch.changes().len() {
            // Of an empty batch as well there is an answer.
            self.is_changed = true;
            customer.made = Some(writing.ticket);
            self.writes.pop_front();
        }
        Ok(())
    }

    fn persist(&mut self, answer: &mut dyn FnMut(u32, Answer)) -> Result<(), ArchiveError> {
        self.archive.persist()?;
        self.are_persisted(answer);
        Ok(())
    }

    /// All that was changed is persisted.
    fn are_persisted(&mut self, answer: &mut dyn FnMut(u32, Answer)) {
        (self.gathered, self.is_changed) = (0, false);
        for (shard, customer) in (0..).zip(&mut self.customers) {
            if let Some(ticket) = customer.made.take() {
                answer(shard, Answer::Persisted(ticket));
            }
        }
    }

    fn fail(&mut self, error: &ArchiveError, answer: &mut dyn FnMut(u32, Answer)) {
        self.has_failed = true;
        self.writes.clear();
        (self.gathered, self.is_changed) = (0, false);
        for shard in 0..self.customers.len() {
            answer(shard as u32, Answer::Failed(error.clone()));
        }
    }
}

/// How many of these changes make a step, and how many bytes they have. A span that is deleted ends it. It does not end between a page and its summary:
/// behind a step it may be persisted, and a crash or a copy would leave one of the two.
fn step_of(changes: &[Change]) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for change in changes {
        let more = change.bytes();
        let is_full = count >= STEP_KEYS || (count > 0 && bytes + more > STEP_BYTES);
        let belongs = || count > 0 && belong_together(&changes[count - 1], change);
        if matches!(change, Change::DeleteAll(_)) || (is_full && !belongs()) {
            break;
        }
        (count, bytes) = (count + 1, bytes + more);
    }
    (count, bytes)
}

/// Whether these are a page and its summary.
fn belong_together(page: &Change, summary: &Change) -> bool {
    fn key(change: &Change) -> Option<ArchiveKey<'_>> {
        match change {
            Change::Put(key, _) | Change::Delete(key) => ArchiveKey::from_bytes(key),
            Change::DeleteAll(_) => None,
        }
    }
    matches!(
        (key(page), key(summary)),
        (Some(ArchiveKey::Page(of, first)), Some(ArchiveKey::Summary(id, of_first))) if (of, first) == (id, of_first)
    )
}
