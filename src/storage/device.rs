//! How files are opened, locked and synced.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::{ReadWriteFlags, pwritev2};

use crate::journal::{Aligned, BLOCK, Sync};

/// How long a lock is waited for: of a process that was killed, the writes that are under way keep it.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a lock is waited for that nobody should have: perhaps a process does that is about to end, or one that has just been begun.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How long after a lock was not free it is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// Files are their owner's alone.
const MODE: u32 = 0o600;

/// Opens a file that is there, for reading and writing, without the page cache if `is_direct`.
pub(super) fn open(path: &Path, is_direct: bool) -> io::Result<File> {
    options(is_direct).open(path)
}

/// Opens a file for reading alone, without the page cache if its file system can do that. Whether it can is told, too.
pub(super) fn open_to_look(path: &Path) -> io::Result<(File, bool)> {
    let open = |direct| OpenOptions::new().read(true).custom_flags(direct | libc::O_NOFOLLOW).open(path);
    match open(libc::O_DIRECT) {
        Err(error) if is_unsupported(&error) => Ok((open(0)?, false)),
        opened => Ok((opened?, true)),
    }
}

/// Makes a file that is not there.
pub(super) fn create(path: &Path, is_direct: bool) -> io::Result<File> {
    options(is_direct).create_new(true).open(path)
}

fn options(is_direct: bool) -> OpenOptions {
    let mut options = OpenOptions::new();
    let direct = if is_direct { libc::O_DIRECT } else { 0 };
    options.read(true).write(true).mode(MODE).custom_flags(direct | libc::O_NOFOLLOW);
    options
}

/// How many bytes are free for this user on the file system that `path` is on.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Locks an open file, unless another open file has the lock.
fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    loop {
        match flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Locks an open file; false if another open file keeps the lock for longer than `patience`.
pub(super) fn lock(file: &File, patience: Duration) -> io::Result<bool> {
    wait_for_lock(file, FlockOperation::NonBlockingLockExclusive, patience)
}

/// Likewise for a lock that others may have, too, but for those who want it for themselves.
pub(super) fn lock_shared(file: &File, patience: Duration) -> io::Result<bool> {
    wait_for_lock(file, FlockOperation::NonBlockingLockShared, patience)
}

fn wait_for_lock(file: &File, operation: FlockOperation, patience: Duration) -> io::Result<bool> {
    let mut left = patience;
    while !try_lock(file, operation)? {
        if left.is_zero() {
            return Ok(false);
        }
        thread::sleep(LOCK_RETRY);
        left = left.saturating_sub(LOCK_RETRY);
    }
    Ok(true)
}

/// Has the names in a directory survive a loss of power.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// How commits become durable in a directory: direct writes are tried in a file called `name`.
///
/// Without room for that file it is not known, and the way that every file system knows is taken.
pub(super) fn best_sync(directory: &Path, name: &str) -> io::Result<Sync> {
    let path = directory.join(name);
    let file = match options(true).create(true).truncate(true).open(&path) {
        Ok(file) => file,
        Err(error) if is_unsupported(&error) || is_full(&error) => {
            // It may have been made even so.
            let _ = std::fs::remove_file(&path);
            return Ok(Sync::Linked);
        }
        Err(error) => return Err(error),
    };
    let written = pwritev2(&file, &[IoSlice::new(&Aligned::zeroed(BLOCK))], 0, ReadWriteFlags::DSYNC);
    let _ = std::fs::remove_file(&path);
    match written.map_err(io::Error::from) {
        Ok(BLOCK) => Ok(Sync::Dsync),
        Ok(_) => Ok(Sync::Linked),
        Err(error) if is_unsupported(&error) || is_full(&error) => Ok(Sync::Linked),
        Err(error) => Err(error),
    }
}

/// Whether a file system does not know how to do something.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS))
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_belongs_to_an_open_file_and_is_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        let first = create(&path, false).expect("it is made");
        assert_eq!(create(&path, false).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AlreadyExists));
        let second = open(&path, false).expect("it is there");
        assert!(lock(&first, Duration::ZERO).expect("there are locks"));
        assert!(!lock(&second, LOCK_RETRY * 3).expect("there are locks"));
        let waiting = thread::spawn(move || lock(&second, LOCK_PATIENCE).expect("there are locks"));
        drop(first);
        assert!(waiting.join().expect("no panic"));
    }

    #[test]
    fn trying_direct_writes_leaves_nothing_behind() {
        for directory in ["/tmp", "/dev/shm"] {
            let directory = tempfile::tempdir_in(directory).expect("a directory");
            let sync = best_sync(directory.path(), "try").expect("it can be tried");
            assert!(matches!(sync, Sync::Dsync | Sync::Linked));
            assert_eq!(std::fs::read_dir(directory.path()).expect("it can be listed").count(), 0);
        }
    }
}
