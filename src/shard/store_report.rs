//! What operators are told of what a shard has in the store, and of its part of a copy.

use crate::journal::Piece;
use crate::persistence::JournalReport;

/// What a shard has in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Its journal; none if there is no store.
    pub journal: Option<JournalReport>,
    /// Sessions that are stored.
    pub sessions: u64,
    /// Messages that wait for them, or that their clients have not acknowledged.
    pub messages: u64,
    /// How many bytes wait for them.
    pub waiting_bytes: u64,
    /// Retained messages that are stored.
    pub retained: u64,
    /// Their size in bytes.
    pub retained_bytes: u64,
}

/// What has become of the cut of a journal, for a copy of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutNews {
    /// It is made: what is recorded from here on is not in the copy.
    Made,
    /// All that the copy has of this journal is on disk: these pieces of its files, which stay as they are until [`Request::EndCut`].
    ///
    /// [`Request::EndCut`]: super::Request::EndCut
    OnDisk(Vec<Piece>),
}

/// How far a count is.
#[derive(Debug)]
pub(super) struct Counting {
    pub at: At,
    pub report: StoreReport,
}

/// What is counted next.
#[derive(Debug)]
pub(super) enum At {
    /// The session at this place in the table.
    Session(u32),
    /// Retained messages of this mountpoint, from this topic on.
    Retained(u32, Box<str>),
}

impl Counting {
    /// Nothing is counted yet.
    pub fn begin() -> Self {
        Counting { at: At::Session(0), report: StoreReport::default() }
    }
}
