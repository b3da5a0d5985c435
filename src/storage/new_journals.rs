//! Journals that take the place of all those of a store, while no broker uses it: written beside them, then exchanged with them at once.
//!
//! Whenever this ends, the store has the old journals or the new ones, whole. What is left beside them does not count, and is removed by the next
//! start, or when new journals are begun again.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::device;
use super::directory::{NEW_JOURNAL, StoreDirectory, remove_remains};
use super::error::StorageError;
use super::filling::Place;
use super::names::{JournalFile, Listing};
use super::offline_journal::OfflineJournal;
use super::recovery::{JournalReading, open_all};
use crate::journal::{MOST_SEGMENTS, Settings, Sync};

/// Where the old journals go, if they are to be kept.
pub const OLD_JOURNAL: &str = "journal.before";

/// What new journals are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalLayout {
    /// How many shards have one.
    pub shards: u32,
    /// The length of a segment, in bytes.
    pub segment_bytes: u64,
    /// The length of the largest commit, in bytes: no record may be larger than [fits into it](crate::journal::CheckedSettings::largest_body).
    pub frame_bytes: usize,
}

/// New journals that are being written.
pub struct NewJournals {
    directory: StoreDirectory,
    path: PathBuf,
    journals: Vec<OfflineJournal>,
}

/// New journals that are on disk, and do not count yet.
pub struct WrittenJournals {
    directory: StoreDirectory,
    path: PathBuf,
    segments: Vec<usize>,
}

impl NewJournals {
    /// Begins new journals for the store in `directory`, which is this boot of it.
    ///
    /// # Errors
    ///
    /// The layout does not hold, or there is no room for a segment of each.
    pub fn begin(mut directory: StoreDirectory, layout: JournalLayout, boot: u32) -> Result<Self, StorageError> {
        let path = directory.path().join(NEW_JOURNAL);
        remove_remains(&path)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| StorageError::io(&path, "made", &error))?;
        let mut journals = Vec::new();
        for shard in 0..layout.shards {
            let settings = Settings {
                segment_bytes: layout.segment_bytes,
                segments: MOST_SEGMENTS,
                frame_bytes: layout.frame_bytes,
                buffer_bytes: layout.frame_bytes,
                commit_interval: Duration::ZERO,
                sync: Sync::Linked,
                ..Settings::new(directory.facts().id, shard)
            };
            let settings = settings.check().map_err(|error| StorageError::new(&path, error.to_string()))?;
            let floor = directory.facts().floors.get(&shard).copied().unwrap_or_default();
            let place = Place { directory: path.clone(), sync: Sync::Linked, reserve: 0 };
            journals.push(OfflineJournal::begin(settings, floor, boot, place)?);
        }
        directory.raise_floors(&(0..).zip(journals.iter().map(OfflineJournal::floor)).collect())?;
        Ok(NewJournals { directory, path, journals })
    }

    /// Appends a record to the journal of `shard`.
    ///
    /// # Errors
    ///
    /// It is too large, there is no such shard, or the disk is full.
    pub fn append(&mut self, shard: usize, kind: u8, parts: &[&[u8]]) -> Result<(), StorageError> {
        match self.journals.get_mut(shard) {
            Some(journal) => journal.append(kind, parts),
            None => Err(StorageError::new(&self.path, format!("has no journal of shard {shard}"))),
        }
    }

    /// Has all of them on disk.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn finish(mut self) -> Result<WrittenJournals, StorageError> {
        self.journals.iter_mut().try_for_each(OfflineJournal::finish)?;
        device::sync_directory(&self.path).map_err(|error| StorageError::io(&self.path, "synced", &error))?;
        let segments = self.journals.iter().map(OfflineJournal::segments).collect();
        Ok(WrittenJournals { directory: self.directory, path: self.path, segments })
    }
}

impl WrittenJournals {
    /// How many segments each of them has, by shard.
    pub fn segments(&self) -> &[usize] {
        &self.segments
    }

    /// Begins to read the new journal of `shard`, as a start does once it counts.
    ///
    /// # Errors
    ///
    /// A file of it cannot be opened.
    pub fn read(&self, shard: u32) -> Result<JournalReading, StorageError> {
        let listed = Listing::of(&self.path).map_err(|error| StorageError::io(&self.path, "listed", &error))?;
        let ids = listed.journals.get(&shard).cloned().unwrap_or_default();
        let open = |file: JournalFile| {
            let path = file.path(&self.path);
            device::open(&path, false).map(Ok).map_err(|error| StorageError::io(&path, "opened", &error))
        };
        Ok(JournalReading::begin(self.directory.facts(), shard, open_all(shard, ids, open)?))
    }

    /// The new journals count from now on; the old ones are removed, or kept as [`OLD_JOURNAL`] if `keeps_old`. Files that were set aside stay.
    ///
    /// # Errors
    ///
    /// The file system cannot exchange directories, or something cannot be written. Before the exchange nothing has changed then; behind it
    /// the new ones count.
    pub fn switch(self, keeps_old: bool) -> Result<(), StorageError> {
        let (new, own) = (&self.path, self.directory.path());
        let old = own.join(OLD_JOURNAL);
        if keeps_old && fs::symlink_metadata(&old).is_ok() {
            return Err(StorageError::new(&old, "is there already, from an earlier time: move it away first"));
        }
        let journal = self.directory.journal();
        for name in self.directory.journal_files()?.set_aside {
            let path = new.join(&name);
            fs::hard_link(journal.join(&name), &path).map_err(|error| StorageError::io(&path, "kept", &error))?;
        }
        device::sync_directory(new).map_err(|error| StorageError::io(new, "synced", &error))?;
        renameat_with(CWD, new, CWD, &journal, RenameFlags::EXCHANGE).map_err(|error| {
            let error = io::Error::from(error);
            match device::is_unsupported(&error) {
                true => StorageError::new(
                    &journal,
                    "cannot be exchanged with new journals on this file system: copy the store to another one, and do it there",
                ),
                false => StorageError::io(&journal, "exchanged", &error),
            }
        })?;
        device::sync_directory(own).map_err(|error| StorageError::io(own, "synced", &error))?;
        match keeps_old {
            true => fs::rename(new, &old)
                .and_then(|()| device::sync_directory(own))
                .map_err(|error| StorageError::io(&old, "kept", &error)),
            false => remove_remains(new),
        }
    }
}
