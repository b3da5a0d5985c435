//! Making room in the journal: what counts still of its older half is written once more at its end, session by session; then those segments
//! are used again.
//!
//! Records say what is, not what changes. So one that is written again makes no difference, and what changes meanwhile is recorded behind it.

use crate::session::Walk;
use crate::topic::TopicFilter;

/// How far the journal is in that.
#[derive(Debug, Default)]
pub(super) enum Rewriting {
    /// It has enough room.
    #[default]
    Idle,
    /// What counts is being written again.
    UnderWay {
        /// The generation of the segment with the first record of this round, once there is one: those below are not needed behind the last.
        below: Option<u64>,
        at: Cursor,
    },
    /// All was written; it is not on disk before so many records are. What went on to other shards is in the old segments alone until it is on disk
    /// there: so many things were deferred by then, and have to be recorded.
    /// And so many batches of pages, which were closed by then, have to be persisted.
    Committing { below: u64, records: u64, deferred: u64, pages: u64 },
    /// Segments below this generation are given back, and so many had records still after that. There were so many records by then. When all are,
    /// it is known what is needed.
    Done { below: u64, live: usize, records: u64, is_fitted: bool },
}

/// How far this shard is in writing anew all that it has, so that nothing counts any more that was written by earlier boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It need not.
    None,
    UnderWay,
    /// It is on disk. Until that of all shards is, no segment is given back.
    Written,
}

/// What is written again next.
#[derive(Debug)]
pub enum Cursor {
    /// The session at this place in the table, from its beginning.
    Session(u32),
    /// The rest of a session.
    RestOf(Box<SessionCursor>),
    /// Retained messages of this mountpoint, from this topic on.
    Retained(u32, Box<str>),
    /// Nothing: that was all.
    End,
}

/// How far a session is written again.
#[derive(Debug)]
pub struct SessionCursor {
    /// Its place, and its instance number.
    pub session: (u32, u64),
    /// Subscriptions that are left.
    pub filters: std::vec::IntoIter<TopicFilter>,
    /// The sequence from which on messages in flight are left.
    pub in_flight: u64,
    /// Whether what waits is to be in pages of the archive.
    pub is_paged_out: bool,
    /// How far its queue is.
    pub queue: Walk,
}
