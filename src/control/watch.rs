//! The watching thread: it reads files again when they have changed, or on request.
//!
//! It checks each file at an interval. A changed file is read when two checks in a row find it the same: so a file that
//! an editor is still writing is not read. The last valid content stays in force until a new one is valid.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::entry_file::{FileError, FileProblem, read};
use crate::hooks::stock::FaultyLines;
use crate::threads;

/// A watched file, and the function that takes its text.
pub(super) struct Watched {
    path: PathBuf,
    take: Box<Take>,
    /// The stamp of the file when it was read, valid or not. None if there was no file.
    read: Option<Stamp>,
    /// The stamp of the file at the last check.
    seen: Option<Stamp>,
}

type Take = dyn FnMut(&str) -> Result<usize, FaultyLines> + Send;

/// The metadata that change when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    length: u64,
    changed: (i64, i64),
    renamed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: (metadata.dev(), metadata.ino()),
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

    /// The error for lines of the file that are not valid.
    pub fn fault(&self, faulty: FaultyLines) -> FileError {
        FileError::new(&self.path, FileProblem::Lines(faulty))
    }

    /// The file, to be watched. `take` puts a new text into force and returns the number of its entries.
    pub fn watched(self, take: impl FnMut(&str) -> Result<usize, FaultyLines> + Send + 'static) -> Watched {
        let FirstReading { path, stamp, .. } = self;
        Watched { path, take: Box::new(take), read: stamp, seen: stamp }
    }
}

impl Watched {
    /// Reads the file again if it has changed since it was read, but not since the last check.
    fn check(&mut self) {
        let stamp = Stamp::of(&self.path);
        if stamp != self.read && stamp == self.seen {
            self.reread();
        }
        self.seen = stamp;
    }

    /// Reads the file again. If it is not valid, the last valid content stays in force.
    fn reread(&mut self) {
        // The stamp comes first: a change during the read is found at the next check.
        self.read = Stamp::of(&self.path);
        let taken = read(&self.path)
            .and_then(|text| (self.take)(&text).map_err(|fault| FileError::new(&self.path, FileProblem::Lines(fault))));
        match taken {
            Ok(entries) => tracing::info!(file = %self.path.display(), entries, "read again"),
            Err(error) => tracing::error!("{error}: not used, what was read before stays in force"),
        }
    }
}

/// The handle that has the files read again. Clones belong to the same thread.
#[derive(Clone, Debug)]
pub struct Reloader(Sender<()>);

impl Reloader {
    /// Requests that every file is read again, changed or not. Does not wait for it.
    pub fn reload(&self) {
        // If the queue is full, a request is there that has not been carried out yet.
        let _ = self.0.try_send(());
    }
}

/// Watches `files` until all reloaders are dropped. Checks them every `interval`; without one, reads them on request
/// only.
pub(super) fn watch(files: Vec<Watched>, interval: Option<Duration>) -> io::Result<Reloader> {
    let (sender, requests) = bounded(1);
    if !files.is_empty() {
        threads::start("moormq-files", move || run(files, &requests, interval))?;
    }
    Ok(Reloader(sender))
}

fn run(mut files: Vec<Watched>, requests: &Receiver<()>, interval: Option<Duration>) {
    loop {
        let request = match interval {
            Some(interval) => requests.recv_timeout(interval),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match request {
            Ok(()) => files.iter_mut().for_each(Watched::reread),
            Err(RecvTimeoutError::Timeout) => files.iter_mut().for_each(Watched::check),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{Receiver as Texts, channel};

    use tempfile::TempDir;

    use super::*;

    /// A watched file, and the texts taken from it. A text with `bad` in it is not valid.
    struct Trial {
        _directory: TempDir,
        path: PathBuf,
        watched: Watched,
        texts: Texts<String>,
    }

    impl Trial {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            fs::write(&path, "first").unwrap();
            let (sender, texts) = channel();
            let watched = FirstReading::of(&path).unwrap().watched(move |text| {
                let fault = || crate::hooks::stock::FaultyLine { line: 1, problem: "bad".to_owned() }.into();
                sender.send(text.to_owned()).unwrap();
                if text.contains("bad") { Err(fault()) } else { Ok(1) }
            });
            Trial { _directory: directory, path, watched, texts }
        }

        /// Replaces the file by another one, with another inode.
        fn replace(&self, text: &str) {
            let draft = self.path.with_extension("draft");
            fs::write(&draft, text).unwrap();
            fs::rename(draft, &self.path).unwrap();
        }

        fn taken(&self) -> Vec<String> {
            self.texts.try_iter().collect()
        }
    }

    #[test]
    fn a_file_is_read_when_it_has_changed_and_stays_so() {
        let mut trial = Trial::new();
        trial.watched.check();
        assert!(trial.taken().is_empty(), "it is the same");
        trial.replace("second");
        trial.watched.check();
        assert!(trial.taken().is_empty(), "somebody may still be writing");
        trial.replace("third!");
        trial.watched.check();
        assert!(trial.taken().is_empty(), "so it was");
        trial.watched.check();
        assert_eq!(trial.taken(), ["third!"]);
        trial.watched.check();
        assert!(trial.taken().is_empty(), "once is enough");
    }

    #[test]
    fn a_broken_file_is_tried_once_and_again_when_it_changes() {
        let mut trial = Trial::new();
        trial.replace("bad");
        (0..5).for_each(|_| trial.watched.check());
        assert_eq!(trial.taken(), ["bad"]);
        fs::remove_file(&trial.path).unwrap();
        (0..5).for_each(|_| trial.watched.check());
        assert!(trial.taken().is_empty());
        trial.replace("good");
        (0..5).for_each(|_| trial.watched.check());
        assert_eq!(trial.taken(), ["good"]);
    }

    #[test]
    fn a_request_has_it_read_at_once() {
        let Trial { _directory, path, watched, texts } = Trial::new();
        let reloader = watch(vec![watched], None).unwrap();
        reloader.reload();
        assert_eq!(texts.recv().unwrap(), "first");
        fs::write(&path, "second").unwrap();
        reloader.clone().reload();
        assert_eq!(texts.recv().unwrap(), "second");
        drop(reloader);
        texts.recv().expect_err("the thread has ended");
    }

    #[test]
    fn a_change_is_noticed_in_time() {
        let trial = Trial::new();
        trial.replace("second");
        let Trial { _directory, watched, texts, .. } = trial;
        let _reloader = watch(vec![watched], Some(Duration::from_millis(10))).unwrap();
        assert_eq!(texts.recv().unwrap(), "second");
    }
}
