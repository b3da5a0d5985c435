//! Eventfds: they wake a thread that sleeps in the kernel. Other threads raise them, or the thread's own ring.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use glommio::io::BufferedFile;

/// A counter in the kernel: a sleeping thread waits for it, any thread may raise it.
#[derive(Debug)]
pub struct Eventfd {
    file: File,
}

impl Eventfd {
    /// A new eventfd, not raised. Reads of it block: a ring can wait for it only then.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptors left (EMFILE, ENFILE).
    pub fn new() -> io::Result<Eventfd> {
        // SAFETY: takes plain values.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor, so nobody else owns it.
        Ok(Eventfd { file: File::from(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Wakes the thread that waits for it, now or at its next read. Several calls before a read count as one.
    pub fn raise(&self) {
        // It fails only when the counter is at its end, and then it is raised already.
        let _ = (&self.file).write(&1u64.to_ne_bytes());
    }
}

impl AsFd for Eventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The reading end of an [`Eventfd`] for a task of a glommio executor.
pub struct EventfdReader {
    file: BufferedFile,
}

impl EventfdReader {
    /// A reader of `eventfd`, with a descriptor of its own. Only inside a glommio executor.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptors left (EMFILE).
    pub fn new(eventfd: &Eventfd) -> io::Result<EventfdReader> {
        let fd = eventfd.file.try_clone()?.into_raw_fd();
        // SAFETY: the descriptor is a fresh duplicate, given up by its owner in this line; `BufferedFile` owns it from
        // here.
        Ok(EventfdReader { file: unsafe { BufferedFile::from_raw_fd(fd) } })
    }

    /// Returns when the eventfd has been raised, and lowers it.
    ///
    /// # Errors
    ///
    /// Errors of a read through the executor's ring.
    pub async fn raised(&self) -> io::Result<()> {
        self.file.read_at(0, 8).await.map(drop).map_err(io::Error::from)
    }

    /// Closes its descriptor. A drop would leave that to the executor, which may end before it.
    ///
    /// # Errors
    ///
    /// Errors of closing a file.
    pub async fn close(self) -> io::Result<()> {
        self.file.close().await.map_err(io::Error::from)
    }
}

impl std::fmt::Debug for EventfdReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventfdReader({})", self.file.as_raw_fd())
    }
}
