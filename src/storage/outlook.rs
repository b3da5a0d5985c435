//! What can be known of a store before a broker starts on it: whether it can be opened or made, and whether there is room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::{ReadWriteFlags, pwritev2};

use super::device;
use super::directory::{Content, JOURNAL, LOCK, NEW_JOURNAL, STORE, check, read_facts, used};
use super::error::StorageError;
use crate::journal::{Aligned, BLOCK};

/// What was found. Nothing was changed.
#[derive(Debug, Default)]
pub struct Outlook {
    /// Why a start would fail, or run out of room soon.
    pub problems: Vec<String>,
    /// What an operator should know: that a broker uses it now, how it commits.
    pub notes: Vec<String>,
}

/// Looks at the store at `path`, or at the place where it would be made, for journals of `needed` bytes in all.
pub fn outlook(path: &Path, needed: u64) -> Outlook {
    let mut found = Outlook::default();
    match fs::metadata(path) {
        Ok(_) => found.existing(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => found.missing(path),
        Err(error) => found.problem(&StorageError::io(path, "looked at", &error)),
    }
    if found.problems.is_empty() {
        found.room(path, needed);
    }
    found
}

impl Outlook {
    fn problem(&mut self, error: &StorageError) {
        self.problems.push(error.to_string());
    }

    fn missing(&mut self, path: &Path) {
        let parent = parent(path);
        if !parent.is_dir() {
            let problem =
                format!("cannot be made, because there is no directory {}: make that first", parent.display());
            return self.problem(&StorageError::new(path, problem));
        }
        self.writable(parent);
    }

    fn existing(&mut self, path: &Path) {
        let content = match check(path) {
            Ok(content) => content,
            Err(error) => return self.problem(&error),
        };
        self.writable(path);
        if content == Content::Store {
            if let Err(error) = read_facts(&path.join(STORE)) {
                self.problem(&error);
            }
            self.lock(path);
        }
    }

    fn writable(&mut self, directory: &Path) {
        if let Err(error) = access(directory, Access::WRITE_OK | Access::EXEC_OK) {
            self.problem(&StorageError::io(directory, "written to", &error.into()));
        }
    }

    /// A broker that runs, most likely this one.
    fn lock(&mut self, path: &Path) {
        let Ok(lock) = File::open(path.join(LOCK)) else { return };
        if matches!(device::lock_shared(&lock, std::time::Duration::ZERO), Ok(false)) {
            self.notes.push(used(path, &lock, "a start has to wait for its end").to_string());
        }
    }

    fn room(&mut self, path: &Path, needed: u64) {
        let place = if path.is_dir() { path } else { parent(path) };
        let (Ok(free), taken) = (device::free_bytes(place), taken(path)) else { return };
        if needed > taken.saturating_add(free) {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let problem = format!(
                "its journals take {} MiB (storage.segments x storage.segment_size for each shard), of which they have {}, and {} MiB are free \
                 there: make room, or set less",
                mib(needed),
                mib(taken),
                mib(free)
            );
            self.problems.push(format!("storage {}: {problem}", path.display()));
        }
        if let Some(false) = takes_direct_writes(place) {
            self.notes.push(format!(
                "storage {}: its file system has no direct writes, so a commit is a write and a sync: that costs more",
                path.display()
            ));
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The bytes of the journals that are there. What is left of others goes at a start.
fn taken(path: &Path) -> u64 {
    let of = |directory: &str| -> u64 {
        let entries = fs::read_dir(path.join(directory)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
    };
    of(JOURNAL) + of(NEW_JOURNAL)
}

/// Whether the file system of a directory takes direct writes, as a journal makes them: tried in a file without a name. None if that cannot be tried.
fn takes_direct_writes(directory: &Path) -> Option<bool> {
    let open = |flags| OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(directory);
    let file = match open(libc::O_TMPFILE | libc::O_DIRECT) {
        Ok(file) => file,
        // It may be files without a name that it does not have.
        Err(error) if device::is_unsupported(&error) => return open(libc::O_TMPFILE).ok().map(|_| false),
        Err(_) => return None,
    };
    let written = pwritev2(&file, &[IoSlice::new(&Aligned::zeroed(BLOCK))], 0, ReadWriteFlags::DSYNC);
    match written.map_err(io::Error::from) {
        Ok(bytes) => Some(bytes == BLOCK),
        Err(error) if device::is_unsupported(&error) => Some(false),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreDirectory;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    const MIB: u64 = 1 << 20;

    fn found(path: &Path, needed: u64) -> (Vec<String>, Vec<String>) {
        let Outlook { problems, mut notes } = outlook(path, needed);
        notes.retain(|note| !note.contains("no direct writes"));
        (problems, notes)
    }

    #[test]
    fn what_can_be_made_or_opened_is_in_order_and_nothing_is_made() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("store");
        assert_eq!(found(&path, MIB), (Vec::new(), Vec::new()));
        assert_eq!(found(parent.path(), MIB), (Vec::new(), Vec::new()));
        assert_eq!(fs::read_dir(parent.path()).expect("it can be listed").count(), 0);
        drop(StoreDirectory::open_or_create(&path, 7).expect("it can be made"));
        assert_eq!(found(&path, MIB), (Vec::new(), Vec::new()));
        let store = StoreDirectory::open_or_create(&path, 7).expect("it can be opened");
        let (problems, notes) = found(&path, MIB);
        assert!(
            problems.is_empty() && notes[0].contains(": a start has to wait for its end"),
            "{problems:?} {notes:?}"
        );
        drop(store);
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("data");
        let problem = |path: &Path, needed| {
            let (mut problems, notes) = found(path, needed);
            assert!(problems.len() == 1 && notes.is_empty(), "{problems:?} {notes:?}");
            problems.remove(0)
        };
        assert!(problem(&path.join("a/b"), MIB).contains("make that first"));
        let told = problem(&path, 1 << 62);
        assert!(told.contains("of which they have 0, and ") && told.contains("make room, or set less"), "{told}");
        drop(StoreDirectory::open_or_create(&path, 7).expect("it can be made"));
        let file = File::create(path.join(JOURNAL).join("0000-00000000")).expect("it can be made");
        file.set_len(5 * MIB).expect("it is sparse");
        assert!(problem(&path, 1 << 62).contains("of which they have 5, and "));
        fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
        assert!(problem(&path, MIB).contains("is open to other users (mode 755)"));
        fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it is ours");
        fs::write(path.join(STORE), "x").expect("it can be written");
        assert!(problem(&path, MIB).contains("was not written by this broker"));
        fs::write(parent.path().join("file"), "").expect("it can be written");
        assert!(problem(&parent.path().join("file"), MIB).contains("is not a directory"));
        assert!(problem(parent.path(), MIB).contains("is neither empty nor a store"));
        assert!(problem(Path::new("/proc/store"), MIB).contains("/proc"));
    }

    #[test]
    fn whether_there_are_direct_writes_is_found_as_a_start_finds_it() {
        for place in ["/tmp", "/dev/shm"] {
            let directory = tempfile::tempdir_in(place).expect("a directory");
            let is_direct =
                device::best_sync(directory.path(), "try").expect("it can be tried") == crate::journal::Sync::Dsync;
            assert!(takes_direct_writes(directory.path()).is_none_or(|found| found == is_direct), "{place}");
            assert_eq!(fs::read_dir(directory.path()).expect("it can be listed").count(), 0);
        }
    }
}
