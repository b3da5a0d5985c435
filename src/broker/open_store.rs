//! What operators can learn of the store of a running broker.

use std::fmt;
use std::path::PathBuf;

use crossbeam::channel;

use super::backup::Backups;
use super::handle::{Handle, RequestError, SHARD_TIMEOUT};
use super::store::OpenControl;
use crate::archive::ArchiveError;
use crate::control::status::{ArchiveStatus, ShardStore, StoreStatus};
use crate::journal::StoreId;
use crate::net::command::Command;
use crate::persistence::JournalReport;
use crate::shard::StoreReport;
use crate::storage::{StorageError, StoreDirectory};

/// The store of a running broker.
pub(super) struct OpenStore {
    pub path: PathBuf,
    pub id: StoreId,
    pub archive: Option<OpenControl>,
    pub backups: Backups,
}

/// Why something could not be done with the store of a running broker.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The broker keeps nothing on disk.
    NoStore,
    /// A backup is being made already.
    Busy,
    /// The directory of a backup cannot be used: a sentence that says why.
    Directory(String),
    /// Nobody waited for the end of a backup, or the broker stops.
    GivenUp,
    /// The archive cannot be read, or does not answer: a sentence that says why.
    Archive(String),
    /// A shard did not accept the request, or did not answer.
    Request(RequestError),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoStore => {
                f.write_str("this broker keeps nothing on disk: its configuration sets no storage.path")
            }
            StoreError::Busy => f.write_str("a backup is being made already: wait for its end"),
            StoreError::GivenUp => f.write_str(
                "the backup was given up, because nobody waited for it or the broker stops: nothing is left of it",
            ),
            StoreError::Archive(problem) | StoreError::Directory(problem) => f.write_str(problem),
            StoreError::Request(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<RequestError> for StoreError {
    fn from(error: RequestError) -> Self {
        StoreError::Request(error)
    }
}

impl From<StorageError> for StoreError {
    fn from(error: StorageError) -> Self {
        StoreError::Directory(error.to_string())
    }
}

impl From<ArchiveError> for StoreError {
    fn from(error: ArchiveError) -> Self {
        StoreError::Archive(error.to_string())
    }
}

impl OpenStore {
    pub fn new(directory: &StoreDirectory, archive: Option<OpenControl>) -> Self {
        let (path, id) = (directory.path().to_owned(), directory.facts().id);
        OpenStore { path, id, archive, backups: Backups::default() }
    }
}

impl Handle {
    /// How the store is: what it takes on disk, and what is in it. Waits for every shard, which counts what it has in portions.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoStore`] if the broker keeps nothing on disk; else as [`Handle::status`], or [`StoreError::Archive`].
    pub fn store_status(&self) -> Result<StoreStatus, StoreError> {
        let store = self.open_store().ok_or(StoreError::NoStore)?;
        let (answer, answers) = channel::bounded(self.inboxes.len());
        for shard in 0..self.inboxes.len() {
            self.send(shard, Command::CountStored { answer: answer.clone() })?;
        }
        let shards = self.collect(answer, &answers)?.into_iter().map(|(shard, report)| status_of(shard, &report));
        let shards = shards.collect();
        let archive = match &store.archive {
            Some(archive) => {
                let report = archive.report(SHARD_TIMEOUT)?;
                // Each page has a summary beside it, and nothing else is there.
                Some(ArchiveStatus { bytes: report.bytes, pages: report.keys / 2 })
            }
            None => None,
        };
        Ok(StoreStatus { path: store.path.display().to_string(), shards, archive })
    }
}

fn status_of(shard: usize, report: &StoreReport) -> ShardStore {
    let &StoreReport { journal, sessions, messages, waiting_bytes, retained, retained_bytes } = report;
    let journal = journal.unwrap_or_default();
    let JournalReport { bytes, limit, live, segments, commits, last_commit, is_crowded, waiting } = journal;
    ShardStore {
        shard,
        journal_bytes: bytes,
        journal_limit: limit,
        segments_in_use: live,
        segments,
        commits,
        last_commit_us: last_commit.map(|took| took.as_micros() as u64),
        sessions,
        messages,
        waiting_bytes,
        retained,
        retained_bytes,
        publishers_wait: is_crowded,
        clients_waiting: waiting,
    }
}
