//! A thread that reads files again when they change, or when told to.
//!
//! It looks at each file from time to time. One that is different is read as soon as two looks in a row find it the same:
//! an editor that writes in pieces is not read in pieces. What was last read stays in force until something better was.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::entry_file::{FileError, FileProblem, read};
use crate::hooks::stock::FaultyLine;

/// A file, and what becomes of its text.
pub(super) struct Watched {
    path: PathBuf,
    take: Box<Take>,
    /// How the file looked when it was read, well or not; none if it was not there.
    read: Option<Stamp>,
    /// How it looked at the last look.
    seen: Option<Stamp>,
}

type Take = dyn FnMut(&str) -> Result<usize, FaultyLine> + Send;

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    place: (u64, u64),
    length: u64,
    changed: (i64, i64),
    renamed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            place: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            renamed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// A file that was read for the first time.
pub(super) struct FirstReading {
    path: PathBuf,
    stamp: Option<Stamp>,
    pub text: String,
}

impl FirstReading {
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let stamp = Stamp::of(path);
        Ok(FirstReading { path: path.to_owned(), stamp, text: read(path)? })
    }

    /// The error that a line of it is wrong.
    pub fn fault(&self, fault: FaultyLine) -> FileError {
        FileError::new(&self.path, FileProblem::Line(fault))
    }

    /// The file, to be watched. `take` puts a new text into force, and says how many entries it has.
    pub fn watched(self, take: impl FnMut(&str) -> Result<usize, FaultyLine> + Send + 'static) -> Watched {
        let FirstReading { path, stamp, .. } = self;
        Watched { path, take: Box::new(take), read: stamp, seen: stamp }
    }
}

impl Watched {
    /// Reads the file again if it has changed and is not changing any more.
    fn look(&mut self) {
        let stamp = Stamp::of(&self.path);
        if stamp != self.read && stamp == self.seen {
            self.reread();
        }
        self.seen = stamp;
    }

    /// Reads the file again. If it cannot be used, it is as if it had not been touched.
    fn reread(&mut self) {
        // Looked at before it is read: what happens meanwhile is found at the next look.
        self.read = Stamp::of(&self.path);
        let taken = read(&self.path)
            .and_then(|text| (self.take)(&text).map_err(|fault| FileError::new(&self.path, FileProblem::Line(fault))));
        match taken {
            Ok(entries) => tracing::info!(file = %self.path.display(), entries, "read again"),
            Err(error) => tracing::error!("{error}: not used, what was read before stays in force"),
        }
    }
}

/// Has the files read at once. Clones speak to the same thread.
#[derive(Clone, Debug)]
pub struct Reloader(Sender<()>);

impl Reloader {
    /// Has every file read again soon, changed or not. Does not wait for it.
    pub fn reload(&self) {
        // If the order is there already, it has not been carried out yet.
        let _ = self.0.try_send(());
    }
}

/// Watches `files` until all reloaders are gone; looks at them every `interval`, or never.
pub(super) fn watch(files: Vec<Watched>, interval: Option<Duration>) -> io::Result<Reloader> {
    let (sender, orders) = bounded(1);
    if !files.is_empty() {
        thread::Builder::new().name("moormq-files".to_owned()).spawn(move || run(files, &orders, interval))?;
    }
    Ok(Reloader(sender))
}

fn run(mut files: Vec<Watched>, orders: &Receiver<()>, interval: Option<Duration>) {
    loop {
        let order = match interval {
            Some(interval) => orders.recv_timeout(interval),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(()) => files.iter_mut().for_each(Watched::reread),
            Err(RecvTimeoutError::Timeout) => files.iter_mut().for_each(Watched::look),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
