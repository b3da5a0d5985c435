//! A store that is looked at while no broker uses it. Nothing in its directory is changed: no lock file is made, nothing is synced or mended.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use super::device;
use super::directory::{ARCHIVE, Content, JOURNAL, LOCK, STORE, look, read_facts, used};
use super::error::StorageError;
use super::names::{JournalFile, Listing};
use super::recovery::{JournalReading, open_all};
use super::store_file::StoreFacts;
#[cfg(feature = "archive")]
use crate::archive::ArchiveError;
use crate::journal::FileId;

/// What to do about a store that is in use, for those who only look.
const ADVICE: &str = "stop that first, or look at a copy";

/// A store that is looked at. No broker opens it as long as this lives; others may look at it at the same time.
#[derive(Debug)]
pub struct ReadOnlyStore {
    path: PathBuf,
    facts: StoreFacts,
    is_whole: bool,
    listing: Listing,
    has_journal: bool,
    _lock: Option<File>,
}

impl ReadOnlyStore {
    /// Opens the store at `path`, which has to be there. One whose `lock` file is missing, a copy perhaps, is read without a lock.
    ///
    /// # Errors
    ///
    /// There is no store; a broker uses it; it was made by another version, or its file `store` is damaged in both copies; or it cannot be read. The
    /// error says what to do.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let path = &fs::canonicalize(path).map_err(|error| StorageError::io(path, "found", &error))?;
        if look(path)? != Content::Store {
            return Err(StorageError::new(
                path,
                "has no store: it is empty, or no broker has come so far as to make one",
            ));
        }
        let lock = take_lock(path)?;
        let (facts, is_whole) = read_facts(&path.join(STORE))?;
        let journal = path.join(JOURNAL);
        let has_journal = journal.is_dir();
        let listing = match has_journal {
            true => Listing::of(&journal).map_err(|error| StorageError::io(&journal, "listed", &error))?,
            false => Listing::default(),
        };
        Ok(ReadOnlyStore { path: path.clone(), facts, is_whole, listing, has_journal, _lock: lock })
    }

    /// Likewise; none if there is nothing at `path`, or a directory in which a store can be made.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), or there is something else.
    pub fn open_if_any(path: &Path) -> Result<Option<Self>, StorageError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => match look(path)? {
                Content::Store => ReadOnlyStore::open(path).map(Some),
                _ => Ok(None),
            },
        }
    }

    /// Its path, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its file `store` says.
    pub fn facts(&self) -> &StoreFacts {
        &self.facts
    }

    /// Whether both copies in its file `store` are sound. The next start mends that.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Whether it has a directory of journals. Without it, all that was in them is lost.
    pub fn has_journal(&self) -> bool {
        self.has_journal
    }

    /// Whether it has an archive: what counts may be there instead of in the journals.
    pub fn has_archive(&self) -> bool {
        fs::symlink_metadata(self.path.join(ARCHIVE)).is_ok()
    }

    /// Whether it had an archive, and that is missing.
    pub fn lacks_archive(&self) -> bool {
        self.facts.has_archive && !self.has_archive()
    }

    /// Its archive, if it has one, to be looked at.
    ///
    /// # Errors
    ///
    /// It is damaged, or of another store or version, or cannot be read.
    #[cfg(feature = "archive")]
    pub fn archive(&self) -> Result<Option<super::archive::ArchiveFile>, ArchiveError> {
        let open = || super::archive::ArchiveFile::look_at(&self.path.join(ARCHIVE), self.facts.id);
        self.has_archive().then(open).transpose()
    }

    /// The files of its journals.
    pub fn journal_files(&self) -> &Listing {
        &self.listing
    }

    /// The shards that have a journal, or had one: files of it are there, or the file `store` knows of it.
    pub fn shards(&self) -> Vec<u32> {
        let mut shards: Vec<u32> = self.listing.journals.keys().chain(self.facts.floors.keys()).copied().collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// The length of each segment file of `shard`, in bytes.
    ///
    /// # Errors
    ///
    /// One of them cannot be looked at.
    pub fn segment_bytes(&self, shard: u32) -> Result<Vec<u64>, StorageError> {
        let length = |file: FileId| {
            let path = self.segment_path(JournalFile { shard, file });
            fs::metadata(&path).map(|file| file.len()).map_err(|error| StorageError::io(&path, "looked at", &error))
        };
        self.listing.journals.get(&shard).into_iter().flatten().map(|file| length(*file)).collect()
    }

    /// The path of a segment file.
    pub fn segment_path(&self, file: JournalFile) -> PathBuf {
        file.path(&self.path.join(JOURNAL))
    }

    /// Begins to read the journal of `shard`. It takes an open file for each of its segments.
    ///
    /// # Errors
    ///
    /// A file of it may not be opened, or another process writes it still. Whatever is in the files, there is none: what cannot be read is among
    /// the findings.
    pub fn read(&self, shard: u32) -> Result<JournalReading, StorageError> {
        let ids = self.listing.journals.get(&shard).cloned().unwrap_or_default();
        Ok(JournalReading::begin(&self.facts, shard, open_all(shard, ids, |file| self.open_segment(file))?))
    }

    fn open_segment(&self, file: JournalFile) -> Result<io::Result<File>, StorageError> {
        let path = self.segment_path(file);
        let (open, is_direct) = match device::open_to_look(&path) {
            Ok(opened) => opened,
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(Err(error)),
            Err(error) => return Err(StorageError::io(&path, "opened", &error)),
        };
        let locked = device::lock_shared(&open, device::LOCK_PATIENCE);
        if !locked.map_err(|error| StorageError::io(&path, "locked", &error))? {
            let problem = "is open in another process, which may write it: end that one first, or look at a copy";
            return Err(StorageError::in_use(&path, problem));
        }
        if !is_direct {
            // What the disk has, if that can be had without a write.
            let _ = fadvise(&open, 0, None::<NonZeroU64>, Advice::DontNeed);
        }
        Ok(Ok(open))
    }
}

/// A lock that keeps brokers out, and nobody who only looks. None if there is no file for it.
fn take_lock(directory: &Path) -> Result<Option<File>, StorageError> {
    let path = directory.join(LOCK);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io(&path, "opened", &error)),
    };
    let locked = device::lock_shared(&lock, device::SHORT_PATIENCE);
    match locked.map_err(|error| StorageError::io(&path, "locked", &error))? {
        true => Ok(Some(lock)),
        false => Err(used(directory, &lock, ADVICE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreDirectory;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn made(path: &Path) -> StoreDirectory {
        StoreDirectory::open_or_create(path, 7).expect("it can be made")
    }

    fn refused(path: &Path) -> String {
        ReadOnlyStore::open(path).expect_err("it is refused").to_string()
    }

    #[test]
    fn brokers_and_those_who_look_keep_each_other_out_and_two_may_look() {
        let parent = temporary();
        let path = parent.path();
        let store = made(path);
        let error = ReadOnlyStore::open(path).expect_err("a broker has it");
        assert!(error.is_in_use());
        let who = format!("is used by process {}: {ADVICE}", std::process::id());
        assert!(error.to_string().ends_with(&who), "{error}");
        drop(store);
        // The id of a broker that has gone.
        fs::write(path.join(LOCK), "4194305\n").expect("it can be written");
        let first = ReadOnlyStore::open(path).expect("nobody has it");
        let second = ReadOnlyStore::open(path).expect("others only look");
        let error = StoreDirectory::open_or_create(path, 7).expect_err("somebody looks at it");
        assert!(error.to_string().contains("is used by another process"), "{error}");
        drop((first, second));
        made(path);
    }

    #[test]
    fn nothing_is_made_or_changed() {
        let parent = temporary();
        let path = parent.path();
        assert!(refused(path).contains("has no store"));
        assert!(refused(&path.join("nothing")).contains("cannot be found"));
        assert_eq!(fs::read_dir(path).expect("it can be listed").count(), 0);
        drop(made(path));
        fs::remove_file(path.join(LOCK)).expect("it is there");
        fs::remove_dir(path.join(JOURNAL)).expect("it is empty");
        let mut bytes = fs::read(path.join(STORE)).expect("it is there");
        bytes[30] ^= 1;
        fs::write(path.join(STORE), &bytes).expect("it can be written");
        let store = ReadOnlyStore::open(path).expect("one copy is sound");
        assert!(!store.is_whole() && !store.has_journal() && store.shards().is_empty());
        assert_eq!(store.facts().made, 7);
        assert_eq!(fs::read_dir(path).expect("it can be listed").count(), 1);
        assert_eq!(fs::read(path.join(STORE)).expect("it is there"), bytes, "a start mends it");
    }
}
