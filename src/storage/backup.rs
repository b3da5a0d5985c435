//! A copy of a store that a broker goes on using: the directory that it is made in.
//!
//! What goes into the copy is chosen elsewhere: the pieces of journals up to where these were cut, and a snapshot of the archive. The file `store` comes
//! last, when all else is on the disk: without it a directory with [`UNFINISHED`] is a copy that was not finished, and no broker starts with that.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::device;
use super::directory::{ARCHIVE, JOURNAL, STORE, UNFINISHED, make_if_missing, make_journal, read_facts};
use super::error::StorageError;
use super::filling::PIECE;
use super::names::JournalFile;
use crate::journal::{Aligned, BLOCK, Piece};

/// So many bytes of the disk are left free: the store may be on it, too.
const RESERVE: u64 = 256 << 20;

/// A copy in the making. What there is of it is removed if that does not come to its end.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    /// The directory that is copied.
    store: PathBuf,
    /// Its directory was there, and empty.
    was_there: bool,
    is_done: bool,
    buffer: Aligned,
}

impl Backup {
    /// Begins a copy of the store in the directory `store`, in a directory at `path`, which is made, or is empty and becomes its user's alone.
    ///
    /// # Errors
    ///
    /// It is not empty, or is within the store; its parent is not there; or it cannot be written. Nothing was made then.
    pub fn begin(path: &Path, store: &Path) -> Result<Self, StorageError> {
        let failed = |what: &'static str| move |error: io::Error| StorageError::io(path, what, &error);
        let whole = whole(path)?;
        if whole.starts_with(store) {
            let problem = format!(
                "is in the store itself, {}: name a directory elsewhere, best on another disk",
                store.display()
            );
            return Err(StorageError::new(path, problem));
        }
        let was_there = match fs::read_dir(&whole).map(|mut entries| entries.next().is_none()) {
            Ok(true) => true,
            Ok(false) => {
                return Err(StorageError::new(
                    path,
                    "is not empty: name a directory that is, or that does not exist yet",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed("listed")(error)),
        };
        make_if_missing(&whole)?;
        let backup =
            Backup { path: whole, store: store.to_owned(), was_there, is_done: false, buffer: Aligned::zeroed(PIECE) };
        let path = &backup.path;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed("closed to other users"))?;
        let mark = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path.join(UNFINISHED));
        mark.map_err(failed("written"))?;
        make_journal(path)?;
        Ok(backup)
    }

    /// Its directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the archive is to be.
    pub fn archive(&self) -> PathBuf {
        self.path.join(ARCHIVE)
    }

    /// Whether so many bytes have room on its disk, with some that are left free.
    ///
    /// # Errors
    ///
    /// They have not.
    pub fn check_room(&self, bytes: u64) -> Result<(), StorageError> {
        let free = device::free_bytes(&self.path);
        let free = free.map_err(|error| StorageError::io(&self.path, "looked at", &error))?;
        match free < bytes.saturating_add(RESERVE) {
            true => {
                let problem = format!(
                    "has no room: {} MiB are to be copied, and its disk has {}, of which {} are left free",
                    bytes >> 20,
                    free >> 20,
                    RESERVE >> 20
                );
                Err(StorageError::new(&self.path, problem))
            }
            false => Ok(()),
        }
    }

    /// Copies what is to be copied of the journal of `shard`. `goes_on` is told how many bytes more were copied; false, if it says that this is to end.
    ///
    /// # Errors
    ///
    /// A file cannot be read or written.
    pub fn copy_journal(
        &mut self,
        shard: u32,
        pieces: &[Piece],
        goes_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, StorageError> {
        for piece in pieces {
            let file = JournalFile { shard, file: piece.file };
            let [from, to] = [&self.store, &self.path].map(|path| file.path(&path.join(JOURNAL)));
            if !copy_piece(&from, &to, piece, &mut self.buffer, goes_on)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All is there. A broker can start with it, once this has returned.
    ///
    /// # Errors
    ///
    /// Something cannot be written. There is no copy then.
    pub fn finish(mut self) -> Result<(), StorageError> {
        let (mut facts, _) = read_facts(&self.store.join(STORE))?;
        facts.has_archive = self.path.join(ARCHIVE).exists();
        let (mark, store) = (self.path.join(UNFINISHED), self.path.join(STORE));
        let finish = || {
            device::sync_directory(&self.path.join(JOURNAL))?;
            device::sync_directory(&self.path)?;
            let mut file = File::options().write(true).open(&mark)?;
            file.write_all(&facts.encode())?;
            file.sync_all()?;
            fs::rename(&mark, &store)?;
            device::sync_directory(&self.path)?;
            self.path.parent().map_or(Ok(()), device::sync_directory)
        };
        finish().map_err(|error| StorageError::io(&store, "written", &error))?;
        self.is_done = true;
        Ok(())
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // The mark goes last: until then it says what this is.
        let _ = fs::remove_dir_all(self.path.join(JOURNAL));
        for name in [STORE, ARCHIVE, "archive.redb.new", UNFINISHED] {
            let _ = fs::remove_file(self.path.join(name));
        }
        if !self.was_there {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// The absolute path of a directory that need not be there, with no links in it.
fn whole(path: &Path) -> Result<PathBuf, StorageError> {
    let failed = |error: io::Error| StorageError::io(path, "found", &error);
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return found.map_err(failed),
    }
    let path = std::path::absolute(path).map_err(failed)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    match fs::canonicalize(parent) {
        Ok(parent) => Ok(parent.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let problem =
                format!("cannot be made, because there is no directory {}: make that first", parent.display());
            Err(StorageError::new(&path, problem))
        }
        Err(error) => Err(failed(error)),
    }
}

fn copy_piece(
    from: &Path,
    to: &Path,
    piece: &Piece,
    buffer: &mut Aligned,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, StorageError> {
    // Past the page cache: what is written there meanwhile goes past it, too.
    let (source, _) = device::open_to_look(from).map_err(|error| StorageError::io(from, "opened", &error))?;
    let target = device::create(to, false).map_err(|error| StorageError::io(to, "made", &error))?;
    let mut at = 0;
    while at < piece.bytes {
        let length = (piece.bytes - at).min(buffer.len() as u64);
        let part = &mut buffer[..length as usize];
        source.read_exact_at(part, at).map_err(|error| StorageError::io(from, "read", &error))?;
        if at == 0 {
            piece.restate(&mut part[..BLOCK]);
        }
        target.write_all_at(part, at).map_err(|error| StorageError::io(to, "written", &error))?;
        at += length;
        if !goes_on(length) {
            return Ok(false);
        }
    }
    target.sync_all().map_err(|error| StorageError::io(to, "synced", &error))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::directory::StoreDirectory;
    use super::*;

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn a_copy_is_made_in_an_empty_place_outside_the_store_and_leaves_nothing_behind_if_it_is_not_finished() {
        let parent = temporary();
        let store = parent.path().join("store");
        let made = StoreDirectory::open_or_create(&store, 7).expect("it can be made");
        let refused = |path: &Path| Backup::begin(path, made.path()).expect_err("it is refused").to_string();
        assert!(refused(&store.join("copy")).contains("is in the store itself"));
        assert!(refused(&store.join("journal")).contains("is in the store itself"));
        assert!(refused(parent.path()).contains("is not empty"));
        assert!(refused(&parent.path().join("no/copy")).contains("no directory"));
        std::os::unix::fs::symlink(&store, parent.path().join("link")).expect("a link");
        assert!(refused(&parent.path().join("link/copy")).contains("is in the store itself"));
        assert_eq!(fs::read_dir(&store).expect("it is there").count(), 3, "nothing was made");

        let path = parent.path().join("copy");
        let backup = Backup::begin(&path, made.path()).expect("it can be made");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
        let half = |path: &Path| StoreDirectory::open_or_create(path, 8).expect_err("it is half of one").to_string();
        assert!(half(&path).contains("is a backup that was not finished"), "{}", half(&path));
        assert!(refused(&path).contains("is not empty"));
        drop(backup);
        assert!(!path.exists());
        fs::create_dir(&path).expect("it can be made");
        drop(Backup::begin(&path, made.path()).expect("it is empty"));
        assert_eq!(fs::read_dir(&path).expect("it stays").count(), 0);

        let backup = Backup::begin(&path, made.path()).expect("it is empty");
        backup.finish().expect("it can be written");
        let copy = StoreDirectory::open_or_create(&path, 8).expect("it is a store");
        assert_eq!((copy.facts(), copy.is_new()), (made.facts(), false));
    }
}
