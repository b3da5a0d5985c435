//! A journal that is written while no broker uses the store: without a ring and a thread, by calls that block.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::error::StorageError;
use super::filling::{Filling, PIECE, Place};
use super::names::JournalFile;
use crate::journal::{
    Aligned, CheckedSettings, Class, Effect, FileId, Floor, Journal, Preparation, Recovered, Refused, Sync, Write,
};

/// The journal of a shard, in a directory where it had none. A segment is made when it is needed, and the first one at once.
pub(super) struct OfflineJournal {
    shard: u32,
    journal: Journal,
    place: Place,
    open: HashMap<FileId, File>,
    /// The segment that is made next, once there is no room in the others.
    next: Option<Preparation>,
    zeros: Aligned,
}

impl OfflineJournal {
    /// Begins one above `floor`, in files in `place`. `settings` commit by [`Sync::Linked`], and as often as they can.
    pub fn begin(settings: CheckedSettings, floor: Floor, boot: u32, place: Place) -> Result<Self, StorageError> {
        debug_assert!(settings.sync == Sync::Linked && settings.commit_interval.is_zero() && !place.is_direct());
        let shard = settings.identity.shard;
        let journal = Journal::new(settings, Recovered::nothing().above(floor), u64::from(boot))
            .map_err(|error| StorageError::new(&place.directory, error.to_string()))?;
        let zeros = Aligned::zeroed(PIECE);
        let mut offline = OfflineJournal { shard, journal, place, open: HashMap::new(), next: None, zeros };
        offline.work()?;
        offline.make_segment()?;
        Ok(offline)
    }

    /// See [`Journal::floor`].
    pub fn floor(&self) -> Floor {
        self.journal.floor()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.open.len()
    }

    /// Appends a record.
    pub fn append(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), StorageError> {
        loop {
            match self.journal.append(Class::Relief, kind, parts) {
                Ok(_) => return Ok(()),
                Err(Refused::Busy) => self.work()?,
                Err(Refused::Full) => {
                    self.work()?;
                    self.make_segment()?;
                }
                Err(Refused::TooLarge) => return Err(self.refused("would have a record that is larger than a commit")),
                Err(Refused::Failed) => return Err(self.refused("cannot be written any more")),
            }
        }
    }

    /// Has everything on disk.
    pub fn finish(&mut self) -> Result<(), StorageError> {
        while !self.journal.is_settled() {
            self.work()?;
        }
        Ok(())
    }

    fn refused(&self, problem: &str) -> StorageError {
        StorageError::new(&self.place.directory, problem)
    }

    /// Writes what waits; notes which segment is to be made.
    fn work(&mut self) -> Result<(), StorageError> {
        while let Some(effect) = self.journal.next_effect(Duration::ZERO) {
            match effect {
                Effect::Write(write) => self.write(write)?,
                Effect::Prepare(preparation) => self.next = Some(preparation),
                // There was nothing before that could be removed.
                Effect::Remove { .. } | Effect::SetAside { .. } => {}
            }
        }
        Ok(())
    }

    fn write(&mut self, write: Write) -> Result<(), StorageError> {
        let path = JournalFile { shard: self.shard, file: write.file }.path(&self.place.directory);
        let failed = |error| StorageError::io(&path, "written", &error);
        let file = self.open.get(&write.file).ok_or_else(|| StorageError::new(&path, "is not open"))?;
        file.write_all_at(write.data(), write.offset).and_then(|()| file.sync_data()).map_err(failed)?;
        self.journal.written(write.buffer, Ok(write.bytes));
        self.journal.synced(Ok(()));
        Ok(())
    }

    fn make_segment(&mut self) -> Result<(), StorageError> {
        let Some(Preparation { file, bytes, header, .. }) = self.next.take() else {
            return Err(self.refused("would have more segments than there may be: they have to be larger"));
        };
        let path = JournalFile { shard: self.shard, file }.path(&self.place.directory);
        let failed = |error| StorageError::io(&path, "made", &error);
        let mut filling = Filling::begin(path.clone(), bytes, false, &self.place).map_err(failed)?;
        while !filling.go_on(&self.zeros, bytes).map_err(failed)? {}
        self.open.insert(file, filling.finish(&header, &self.place).map_err(failed)?);
        self.journal.prepared(file, Ok(()), Duration::ZERO);
        self.work()
    }
}
