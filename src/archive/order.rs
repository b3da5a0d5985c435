//! What passes between a shard and the desk.

use bytes::Bytes;

use super::batch::Batch;
use super::error::ArchiveError;
use super::key::ArchiveKey;
use super::span::Span;

/// The number of a batch of a shard: they are counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a shard wants.
#[derive(Debug)]
pub struct Order {
    /// Who wants it.
    pub shard: u32,
    /// What.
    pub what: What,
}

/// What a shard can want; made by [`Orders`](super::Orders).
#[derive(Debug)]
pub enum What {
    /// Changes.
    Write {
        /// Their number.
        ticket: Ticket,
        /// How often the shard has gone on after a refusal.
        attempt: u32,
        /// The changes.
        batch: Batch,
    },
    /// A value.
    Read {
        /// What the answer is to be known by.
        tag: u64,
        /// Which value.
        read: Read,
    },
}

/// Which value is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// That of a key.
    Of(Box<[u8]>),
    /// That of the first key in a span.
    First(Span),
}

impl Read {
    /// The value of a key.
    pub fn of(key: ArchiveKey<'_>) -> Self {
        Read::Of(key.to_bytes().into())
    }
}

/// What was read: a key as bytes, and its value; or that there is none.
pub type ReadResult = Result<Option<(Box<[u8]>, Bytes)>, ArchiveError>;

/// What a shard is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All its batches up to this one survive a loss of power.
    Persisted(Ticket),
    /// There is no room for this batch: nothing of it was changed, nor of those after it that are under way. Those before it go on.
    Refused {
        /// The first one.
        from: Ticket,
        /// What to do.
        error: ArchiveError,
    },
    /// The archive has failed, for all shards, by a write or by a read: nothing that was not persisted before will be. It comes once.
    Failed(ArchiveError),
    /// A read is done.
    Read {
        /// As it was given.
        tag: u64,
        /// What was read.
        result: ReadResult,
    },
}
