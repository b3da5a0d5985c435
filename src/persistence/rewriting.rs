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
    /// All was written; it is not on disk before so many records are.
    Committing { below: u64, records: u64 },
    /// Segments below this generation are not needed any more.
    Done { below: u64 },
}

/// How much may count of what the journal has, at most: what was recorded since the last round began, that round included.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// Bytes since the last round began that has ended, or all.
    bytes: u64,
    /// Bytes since the one began that is under way, and how many records there were then.
    round: Option<(u64, u64)>,
    /// With fewer records there is no other round: it would find as much as the last one.
    next_round: u64,
}

impl Extent {
    /// Of a journal with so many bytes, of which nothing is known.
    pub fn of(bytes: u64) -> Self {
        Extent { bytes, ..Extent::default() }
    }

    /// How many bytes may count.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes are recorded.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.round.iter_mut().for_each(|(round, _)| *round += bytes as u64);
    }

    /// Whether another round may find less: a quarter of the last one's records have come since.
    pub fn may_shrink(&self, records: u64) -> bool {
        records >= self.next_round
    }

    /// A round begins.
    pub fn begin_round(&mut self, records: u64) {
        self.round = Some((0, records));
    }

    /// It has ended: what counts is among what was recorded since it began.
    pub fn end_round(&mut self, records: u64) {
        if let Some((bytes, began)) = self.round.take() {
            self.bytes = bytes;
            self.next_round = records + (records - began) / 4 + 1;
        }
    }
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
    /// How far its queue is.
    pub queue: Walk,
}
