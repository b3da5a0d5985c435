//! What is to be done for the journal, and what follows from its answers.

use std::fmt;
use std::time::Duration;

use super::Persistence;
use super::pages::Pages;
use crate::archive::ArchiveError;
use crate::journal::{self, Effect, Failure};

/// Why nothing more is stored.
#[derive(Clone, Copy, Debug)]
pub enum StoreFailure<'a> {
    /// The journal has failed.
    Journal(&'a Failure),
    /// The archive has.
    Archive(&'a ArchiveError),
}

impl fmt::Display for StoreFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreFailure::Journal(failure) => failure.fmt(f),
            StoreFailure::Archive(error) => error.fmt(f),
        }
    }
}

/// How the journal of a shard is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// Bytes of its files on disk, those included that are ready to be written.
    pub bytes: u64,
    /// Most bytes that its files are to have.
    pub limit: u64,
    /// Segments with records that are needed.
    pub live: usize,
    /// Segments that there are to be.
    pub segments: usize,
    /// Commits since the start.
    pub commits: u64,
    /// How long the last one took.
    pub last_commit: Option<Duration>,
    /// Whether publishers have to wait until it has room.
    pub is_crowded: bool,
    /// How many clients wait for that.
    pub waiting: usize,
}

impl Persistence {
    /// How the journal is.
    pub fn journal_report(&self) -> JournalReport {
        let journal = &self.setup.journal;
        let fullness = journal.fullness();
        let of_segments = |count: usize| count as u64 * journal.segment_bytes();
        JournalReport {
            bytes: of_segments(journal.files()),
            limit: of_segments(fullness.segments),
            live: fullness.live,
            segments: fullness.segments,
            commits: journal.counters().commits,
            last_commit: self.last_commit,
            is_crowded: self.is_crowded(),
            waiting: self.standstill.waiting(),
        }
    }

    /// What is to be done for the journal now.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if !self.behind.is_empty() {
            // Nothing may be under way whose end would have them looked at.
            self.catch_up();
        }
        self.tell_standstill();
        self.setup.journal.next_effect((self.setup.clock)())
    }

    /// Why it takes nothing more, if it does not: what is to be stored is not known to be on disk from then on, so nobody can be told that it is.
    pub fn failure(&self) -> Option<StoreFailure<'_>> {
        let of_archive = || self.pages.as_ref()?.failure().map(StoreFailure::Archive);
        self.setup.journal.failure().map(StoreFailure::Journal).or_else(of_archive)
    }

    /// When there is something to be done for it, at the latest; since the start of the broker.
    pub fn wake_up(&self) -> Option<Duration> {
        let of_pages = self.pages.as_ref().and_then(Pages::wake_up);
        self.setup.journal.wake_up().into_iter().chain(of_pages).chain(self.standstill.told_at()).min()
    }

    /// Something was done for it, or could not be.
    pub fn done(&mut self, answer: journal::Answer) {
        let journal = &mut self.setup.journal;
        let had_failed = journal.failure().is_some();
        let (now, commits) = ((self.setup.clock)(), journal.counters().commits);
        journal.answer(answer, now);
        if let Some(last) = journal.counters().last.filter(|_| journal.counters().commits > commits) {
            self.last_commit = Some(now.saturating_sub(last.begun));
        }
        if let Some(failure) = journal.failure().filter(|_| !had_failed) {
            tracing::error!(
                shard = self.own,
                "{failure}: what is to be stored here cannot be any more, so the broker ends"
            );
            self.lost += self.behind.len() as u64;
            self.behind.clear();
        }
        self.catch_up();
        let journal = &self.setup.journal;
        self.on_disk.commits.follow(journal.flushed(), journal.fsynced());
        if self.moves_count() {
            self.on_disk.decisions.are_committed(self.on_disk.records());
        }
        self.write_those_deferred();
        self.release_segments();
    }
}
