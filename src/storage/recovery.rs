//! Reading the journal of a shard at a start.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::rc::Rc;

use super::device;
use super::directory::StoreDirectory;
use super::error::StorageError;
use super::names::JournalFile;
use super::segment_file::{ReadCache, SegmentFile, on_disk};
use super::store_file::StoreFacts;
use crate::journal::{FileId, Finding, Floor, Identity, ReadAt, Reader, Record, Recovered, Sync};

/// Opens the segment files of a shard by `open`, whose inner error is one of the disk.
pub(super) fn open_all(
    shard: u32,
    ids: Vec<FileId>,
    open: impl Fn(JournalFile) -> Result<io::Result<File>, StorageError>,
) -> Result<Vec<(FileId, SegmentFile)>, StorageError> {
    let cache = Rc::new(RefCell::new(ReadCache::new()));
    let opened = ids.into_iter().enumerate().map(|(number, id)| {
        let source = match open(JournalFile { shard, file: id })? {
            Ok(file) => SegmentFile::Readable { file, cache: Rc::clone(&cache), number },
            Err(error) => SegmentFile::Broken(error),
        };
        Ok((id, source))
    });
    opened.collect()
}

/// What was read of a journal.
#[derive(Debug)]
pub struct Recovery {
    /// What the journal goes on from. It is synced, and above the floor that was kept.
    pub recovered: Recovered,
    /// What was found besides records.
    pub findings: Vec<Finding>,
    /// How many segment files there were.
    pub files: usize,
}

/// A journal that is being read.
pub struct JournalReading {
    reader: Reader<SegmentFile>,
    floor: Floor,
    files: usize,
}

impl JournalReading {
    /// Begins to read the journal of `shard`, whose files are open.
    pub(super) fn begin(facts: &StoreFacts, shard: u32, sources: Vec<(FileId, SegmentFile)>) -> Self {
        let files = sources.len();
        let reader = Reader::new(Identity { store: facts.id, shard }, sources);
        let floor = facts.floors.get(&shard).copied().unwrap_or_default();
        JournalReading { reader, floor, files }
    }

    /// What reads it.
    pub fn reader(&mut self) -> &mut Reader<impl ReadAt + use<>> {
        &mut self.reader
    }

    /// What was read. Records that were not are read over.
    pub fn finish(self) -> Recovery {
        let (recovered, findings) = self.reader.finish();
        Recovery { recovered: recovered.above(self.floor), findings, files: self.files }
    }
}

impl StoreDirectory {
    /// Begins to read the journal of `shard`, one that does not exist any more, too. All its files are synced before. It takes an open file for each
    /// of them.
    ///
    /// # Errors
    ///
    /// A file of it may not be opened, is used by another process still, or cannot be synced: then it is not known what is in it. Whatever is in the files, there is
    /// none: what cannot be read is among the findings.
    pub fn read(&self, shard: u32) -> Result<JournalReading, StorageError> {
        let ids = self.journal_files()?.journals.remove(&shard).unwrap_or_default();
        let sources = open_all(shard, ids, |file| self.open_to_read(file))?;
        let directory = self.journal();
        device::sync_directory(&directory).map_err(|error| StorageError::io(&directory, "synced", &error))?;
        Ok(JournalReading::begin(self.facts(), shard, sources))
    }

    /// Reads the whole journal of `shard`: `each` gets its records in order.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read).
    pub fn recover(&self, shard: u32, mut each: impl FnMut(Record<'_>)) -> Result<Recovery, StorageError> {
        let mut reading = self.read(shard)?;
        while let Some(record) = reading.reader().next() {
            each(record);
        }
        Ok(reading.finish())
    }

    /// Opens a segment file, as [`Reader`] wants it: nobody writes it any more, and what is read is on the disk. The lock need not last: all open
    /// files of a process that was killed have gone by then, and no other process opens one. The inner error is one of the disk.
    fn open_to_read(&self, file: JournalFile) -> Result<io::Result<File>, StorageError> {
        let path = file.path(&self.journal());
        let is_direct = self.sync() == Sync::Dsync;
        let open = match device::open(&path, is_direct) {
            Ok(open) => open,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(Err(error)),
            Err(error) => return Err(StorageError::io(&path, "opened", &error)),
        };
        let locked = device::lock(&open, device::LOCK_PATIENCE);
        if !locked.map_err(|error| StorageError::io(&path, "locked", &error))? {
            let problem = "is still open in another process, which may write it: end that one first. If it was killed, its last write has \
                           not ended: see whether the disk answers";
            return Err(StorageError::in_use(&path, problem));
        }
        on_disk(&open, is_direct).map_err(|error| StorageError::io(&path, "synced", &error))?;
        Ok(Ok(open))
    }
}
