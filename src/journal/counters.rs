//! What a journal has done so far.

use std::time::Duration;

use super::effect::Mark;

/// What a journal has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How many commits have ended well: written, and synced if that is asked for.
    pub commits: u64,
    /// How many records were in them.
    pub records: u64,
    /// How many bytes they took in their frames: kinds, lengths and bodies.
    pub record_bytes: u64,
    /// How many bytes were written for that: headers and what fills blocks, too.
    pub written_bytes: u64,
    /// How many writes were begun again, since the system had not begun them: [`Journal::written`](super::Journal::written).
    pub begun_again: u64,
    /// How many segments were prepared.
    pub segments: u64,
    /// The last of the commits.
    pub last: Option<LastCommit>,
}

/// What one commit cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastCommit {
    /// The mark that it reached.
    pub mark: Mark,
    /// How many records were in it.
    pub records: u64,
    /// How many bytes they took.
    pub record_bytes: u64,
    /// How many bytes were written.
    pub written_bytes: u64,
    /// When its write was given out, the first time. How long it took is what has passed since, when its answers come.
    pub begun: Duration,
}

impl Counters {
    pub(super) fn count(&mut self, commit: LastCommit) {
        self.commits += 1;
        self.records += commit.records;
        self.record_bytes += commit.record_bytes;
        self.written_bytes += commit.written_bytes;
        self.last = Some(commit);
    }
}
