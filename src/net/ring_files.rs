//! The write of a file that a ring has under way: one at a time, because a journal has one commit under way.
//!
//! Owns the buffer and the open file from the start until the kernel has done the last operation that names them. Meanwhile nothing here touches
//! the buffer: that keeps the pointer in the kernel's hands valid.
//!
//! | [`Sync`] | operations |
//! |---|---|
//! | `Dsync` | a write with `RWF_DSYNC` |
//! | `Linked` | a write, and an `fdatasync` that the kernel begins when the write has written all it was to |
//! | `Never` | a write |
//!
//! What goes on, and what does not:
//!
//! * A write that wrote a part goes on behind it, from the block that it has not finished; its sync, which the kernel has cancelled then, with it.
//! * Any error, EINTR and EAGAIN as well, and a write that gets nowhere, ends the write. Whether it is begun again is for the journal to say. The
//!   answer to its sync is an error then.
//! * A sync is linked to its write only if the kernel has taken both in one call. If it took less than it was given in some call meanwhile, the sync
//!   is done once more, after the write.
//! * An error of a sync is the last word: it is told once, and another sync would not have it.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{opcode, squeue};

use super::ring_tag::Kind;
use crate::journal::{Aligned, BLOCK, Sync, Write};

/// A write, from its start until all of it has been told.
struct FileWrite {
    file: Arc<File>,
    /// None once the write has been told.
    buffer: Option<Aligned>,
    offset: u64,
    bytes: usize,
    sync: Sync,
    /// How much is written. Operations begin behind it.
    done: usize,
    /// How many bytes the outstanding write is to write; none if it has completed.
    writing: Option<usize>,
    is_syncing: bool,
    /// The outstanding sync may have begun before the write had ended.
    may_be_early: bool,
    /// The write has failed, and that has been told.
    has_failed: bool,
}

/// What to do after a completion.
pub(super) enum FileOutcome {
    /// Nothing yet.
    Waits,
    /// [`Files::entries`] have to be submitted.
    Goes,
    /// The write is over: all bytes are written, or it failed. If it `goes` on, [`Files::entries`] have to be submitted, for its sync.
    Written { buffer: Aligned, result: io::Result<usize>, goes: bool },
    /// The sync is over.
    Synced(io::Result<()>),
}

/// Operations that are submitted together, each with its user data.
pub(super) enum Entries {
    One(squeue::Entry),
    /// The second is linked to the first.
    Linked([squeue::Entry; 2]),
}

/// The file writes of a ring.
pub(super) struct Files {
    /// In a box, because the kernel has a pointer into what it owns. None if no operation is outstanding, and none to be submitted.
    write: Option<Box<FileWrite>>,
}

impl Files {
    /// None.
    pub fn new() -> Self {
        Files { write: None }
    }

    /// Starts a write. The caller submits [`entries`](Self::entries).
    ///
    /// # Panics
    ///
    /// The last one is not over.
    pub fn start(&mut self, file: Arc<File>, write: Write) {
        assert!(self.write.is_none(), "two writes of one journal at a time");
        let Write { offset, buffer, bytes, sync, .. } = write;
        assert!(bytes <= buffer.len(), "a write of more than there is");
        self.write = Some(Box::new(FileWrite {
            file,
            buffer: Some(buffer),
            offset,
            bytes,
            sync,
            done: 0,
            writing: None,
            is_syncing: false,
            may_be_early: false,
            has_failed: false,
        }));
    }

    /// The operations of the kernel that come next: the rest of the write with what syncs it, or the sync alone if all is written.
    ///
    /// # Safety
    ///
    /// Between the submission of the operations and their completions, the caller calls neither `entries` nor, except with a completion,
    /// [`written`](Self::written) or [`synced`](Self::synced), and keeps `self` alive (leaks it if need be). The pointer then stays good: it points
    /// into heap memory of the buffer, which is not given away before the write has completed; and the descriptor stays open.
    pub unsafe fn entries(&mut self) -> Option<Entries> {
        let write = self.write.as_deref_mut()?;
        let fd = Fd(write.file.as_raw_fd());
        let sync = opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build().user_data(Kind::FileSync.tag(0, 0));
        write.may_be_early = false;
        let Some(rest) = write.buffer.as_deref().map(|buffer| &buffer[write.done..write.bytes]) else {
            write.is_syncing = true;
            return Some(Entries::One(sync));
        };
        // A frame is shorter by far.
        let bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX - (BLOCK as u32 - 1));
        write.writing = Some(bytes as usize);
        let one = opcode::Write::new(fd, rest.as_ptr(), bytes).offset(write.offset + write.done as u64);
        let one = if write.sync == Sync::Dsync { one.rw_flags(libc::RWF_DSYNC) } else { one };
        if write.sync == Sync::Linked {
            write.is_syncing = true;
            let first = one.build().flags(squeue::Flags::IO_LINK).user_data(Kind::FileLinkedWrite.tag(0, 0));
            return Some(Entries::Linked([first, sync]));
        }
        Some(Entries::One(one.build().user_data(Kind::FileWrite.tag(0, 0))))
    }

    /// The kernel took less than it was given in one call: that may have parted a write and its sync.
    pub fn parted(&mut self) {
        if let Some(write) = &mut self.write {
            write.may_be_early |= write.writing.is_some() && write.is_syncing;
        }
    }

    /// The write has completed with this result.
    pub fn written(&mut self, result: i32) -> FileOutcome {
        let Some(write) = self.write.as_deref_mut() else { return FileOutcome::Waits };
        let asked = write.writing.take().unwrap_or(0);
        let result = match usize::try_from(result) {
            Ok(bytes) if bytes >= asked => {
                write.done += asked;
                Ok(write.done)
            }
            // Direct writes begin at a block: what is written of the last one is written again.
            Ok(bytes) if bytes >= BLOCK => {
                write.done += bytes - bytes % BLOCK;
                Ok(write.done)
            }
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        if result.as_ref().is_ok_and(|done| *done < write.bytes) {
            return if write.is_syncing { FileOutcome::Waits } else { FileOutcome::Goes };
        }
        let Some(buffer) = write.buffer.take() else { return FileOutcome::Waits };
        write.has_failed = result.is_err();
        let is_linked = write.sync == Sync::Linked;
        let goes = is_linked && !write.is_syncing;
        if !is_linked {
            self.write = None;
        }
        FileOutcome::Written { buffer, result, goes }
    }

    /// The sync has completed with this result.
    pub fn synced(&mut self, result: i32) -> FileOutcome {
        let Some(write) = self.write.as_deref_mut() else { return FileOutcome::Waits };
        write.is_syncing = false;
        if write.writing.is_some() {
            // It was parted from its write: another one follows that.
            return FileOutcome::Waits;
        }
        let is_doubtful = write.may_be_early && result >= 0 && !write.has_failed;
        if write.buffer.is_some() || is_doubtful {
            // Not all is written, and the kernel has cancelled this one; or it may have begun too early.
            return FileOutcome::Goes;
        }
        let result = match result {
            0.. if write.has_failed => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            0.. => Ok(()),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        self.write = None;
        FileOutcome::Synced(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::FileId;

    const BYTES: usize = 4 * BLOCK;

    fn started(sync: Sync) -> Files {
        let mut files = Files::new();
        let file = Arc::new(tempfile::tempfile().expect("a file"));
        let buffer = Aligned::zeroed(BYTES + BLOCK);
        files.start(file, Write { file: FileId(0), offset: 8192, buffer, bytes: BYTES, sync });
        go(&mut files);
        files
    }

    /// Makes the next operations; whether there are two.
    fn go(files: &mut Files) -> bool {
        // SAFETY: they are never submitted.
        let entries = unsafe { files.entries() };
        matches!(entries.expect("there is something to do"), Entries::Linked(_))
    }

    fn is_over(files: &Files) -> bool {
        files.write.is_none()
    }

    #[test]
    fn a_write_that_syncs_itself_is_over_when_all_is_written() {
        for sync in [Sync::Dsync, Sync::Never] {
            let mut files = started(sync);
            let FileOutcome::Written { buffer, result: Ok(BYTES), goes: false } = files.written(BYTES as i32) else {
                panic!("all is written")
            };
            assert!(buffer.len() == BYTES + BLOCK && is_over(&files));
        }
    }

    #[test]
    fn a_linked_write_is_over_when_it_is_synced() {
        let mut files = started(Sync::Linked);
        assert!(matches!(files.written(BYTES as i32), FileOutcome::Written { result: Ok(BYTES), goes: false, .. }));
        assert!(!is_over(&files));
        assert!(matches!(files.synced(0), FileOutcome::Synced(Ok(()))) && is_over(&files));
    }

    #[test]
    fn what_is_written_in_parts_goes_on_at_a_block_with_a_sync_behind_it() {
        let mut files = started(Sync::Linked);
        assert!(matches!(files.written(BLOCK as i32 + 5), FileOutcome::Waits), "its sync is outstanding");
        assert!(matches!(files.synced(-libc::ECANCELED), FileOutcome::Goes));
        assert!(go(&mut files));
        assert!(matches!(files.written(2 * BLOCK as i32), FileOutcome::Waits));
        assert!(matches!(files.synced(-libc::ECANCELED), FileOutcome::Goes));
        assert!(go(&mut files));
        assert!(matches!(files.written(BLOCK as i32), FileOutcome::Written { result: Ok(BYTES), goes: false, .. }));
        assert!(matches!(files.synced(0), FileOutcome::Synced(Ok(()))));

        let mut files = started(Sync::Dsync);
        assert!(matches!(files.written(3 * BLOCK as i32), FileOutcome::Goes));
        assert!(!go(&mut files));
        assert!(matches!(files.written(BLOCK as i32), FileOutcome::Written { result: Ok(BYTES), .. }));
    }

    #[test]
    fn an_error_ends_a_write_and_its_sync_has_an_answer_too() {
        for result in [-libc::EIO, -libc::ENOSPC, -libc::EINTR, -libc::EAGAIN, 0, 100] {
            let mut files = started(Sync::Dsync);
            assert!(matches!(files.written(result), FileOutcome::Written { result: Err(_), goes: false, .. }));
            assert!(is_over(&files));
            let mut files = started(Sync::Linked);
            assert!(matches!(files.written(result), FileOutcome::Written { result: Err(_), goes: false, .. }));
            assert!(!is_over(&files));
            assert!(matches!(files.synced(-libc::ECANCELED), FileOutcome::Synced(Err(_))) && is_over(&files));
            // A sync that was parted from it, and has ended before it, is not told: so there is another one.
            let mut files = started(Sync::Linked);
            assert!(matches!(files.synced(0), FileOutcome::Waits));
            assert!(matches!(files.written(result), FileOutcome::Written { result: Err(_), goes: true, .. }));
            assert!(!go(&mut files));
            assert!(matches!(files.synced(0), FileOutcome::Synced(Err(_))) && is_over(&files));
        }
    }

    #[test]
    fn an_error_of_a_sync_is_the_last_word() {
        for error in [libc::EIO, libc::EINTR] {
            let mut files = started(Sync::Linked);
            files.parted();
            assert!(matches!(files.written(BYTES as i32), FileOutcome::Written { goes: false, .. }));
            let FileOutcome::Synced(Err(told)) = files.synced(-error) else { panic!("it is over") };
            assert!(told.raw_os_error() == Some(error) && is_over(&files));
        }
    }

    #[test]
    fn a_sync_that_was_parted_from_its_write_is_not_believed() {
        // It ends after the write, and may have begun before that had ended.
        let mut files = started(Sync::Linked);
        files.parted();
        assert!(matches!(files.written(BYTES as i32), FileOutcome::Written { goes: false, .. }));
        files.parted();
        assert!(matches!(files.synced(0), FileOutcome::Goes));
        assert!(!go(&mut files));
        files.parted();
        assert!(matches!(files.synced(0), FileOutcome::Synced(Ok(()))), "it was alone");
        // It ends before the write.
        let mut files = started(Sync::Linked);
        assert!(matches!(files.synced(0), FileOutcome::Waits));
        assert!(matches!(files.written(BYTES as i32), FileOutcome::Written { result: Ok(BYTES), goes: true, .. }));
        assert!(!go(&mut files));
        assert!(matches!(files.synced(0), FileOutcome::Synced(Ok(()))) && is_over(&files));
    }
}
