//! What a shard has in the store, in numbers, and how far it is counted.

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
