//! The thread `moormq-store`: it prepares segments, removes files and sets them aside, for all shards, by calls that block.
//!
//! New segments are filled piece by piece; between two pieces comes whatever else waits, since a segment that is used again is ready at once.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};

use super::device;
use super::filling::{Filling, PIECE, Place, reuse};
use super::names::{JournalFile, Listing};
use crate::journal::{Aligned, FileId, Preparation};
use crate::threads;

/// How many tasks may wait for the thread, for each shard. A journal prepares one segment at a time; the others are files that are removed.
pub const TASKS_PER_SHARD: usize = 256;

/// How many files that were set aside there may be, of all shards together; further ones are removed instead.
pub const MOST_SET_ASIDE: usize = 32;

/// A segment that was prepared, or could not be.
#[derive(Debug)]
pub struct Prepared {
    /// The file.
    pub file: FileId,
    /// The open file that it is written by; for [`JournalFiles`](super::JournalFiles).
    pub result: io::Result<Arc<File>>,
}

/// What is to be done with a file of a shard. If it is open there, the open file comes along.
pub(super) enum Task {
    Prepare { shard: u32, preparation: Preparation, open: Option<Arc<File>> },
    Remove { file: JournalFile, open: Option<Arc<File>> },
    SetAside { file: JournalFile, open: Option<Arc<File>> },
    Stop,
}

/// What takes the answers of one shard. It must not wait.
pub(super) type Answers = Box<dyn Fn(Prepared) + Send>;

/// The thread. A drop stops it.
pub struct StoreThread {
    tasks: Sender<Task>,
    thread: Option<JoinHandle<()>>,
}

/// The door to the thread, for a shard.
#[derive(Clone)]
pub(super) struct Tasks(Sender<Task>);

impl StoreThread {
    /// Starts the thread for files in `place`; `answers` are those of the shards, by number.
    pub(super) fn start(place: Place, answers: Vec<Answers>) -> io::Result<(Self, Tasks)> {
        let (tasks, receiver) = bounded((TASKS_PER_SHARD * answers.len()).max(1));
        let work = move || {
            Work { place, answers, tasks: receiver, fills: VecDeque::new(), zeros: Aligned::zeroed(PIECE) }.run()
        };
        let thread = threads::start("moormq-store", work)?;
        Ok((StoreThread { tasks: tasks.clone(), thread: Some(thread) }, Tasks(tasks)))
    }

    /// Ends the thread, once it has done what it was asked for before; but segments that are being filled are given up. Waits for that, and so for
    /// the disk. Nothing is done for shards afterwards.
    pub fn stop(self) {}
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        // It fails if the thread has died, and that was told.
        let _ = self.tasks.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Tasks {
    /// Hands a task over, without waiting. If there is no room, or the thread has ended, it comes back.
    pub fn send(&self, task: Task) -> Result<(), TrySendError<Task>> {
        self.0.try_send(task)
    }
}

/// A segment that is being filled.
struct Fill {
    shard: u32,
    preparation: Preparation,
    filling: Filling,
}

struct Work {
    place: Place,
    answers: Vec<Answers>,
    tasks: Receiver<Task>,
    /// One for each shard at most, since a journal prepares one at a time.
    fills: VecDeque<Fill>,
    zeros: Aligned,
}

impl Work {
    fn run(mut self) {
        loop {
            let task = match self.fills.is_empty() {
                true => self.tasks.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.tasks.try_recv(),
            };
            match task {
                Ok(task) => {
                    if self.carry_out(task).is_break() {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => self.fill_some(),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn carry_out(&mut self, task: Task) -> ControlFlow<()> {
        match task {
            Task::Prepare { shard, preparation, .. } if preparation.fill => {
                let path = JournalFile { shard, file: preparation.file }.path(&self.place.directory);
                match Filling::begin(path, preparation.bytes, preparation.is_beyond, &self.place) {
                    Ok(filling) => self.fills.push_back(Fill { shard, preparation, filling }),
                    Err(error) => self.answer(shard, preparation.file, Err(error)),
                }
            }
            Task::Prepare { shard, preparation, open } => {
                let path = JournalFile { shard, file: preparation.file }.path(&self.place.directory);
                let reused = reuse(&path, open.as_deref(), &preparation, &self.place);
                let file = reused.and_then(|opened| {
                    opened.map(Arc::new).or(open).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
                });
                self.answer(shard, preparation.file, file);
            }
            Task::Remove { file, open } => {
                tell_failure("removed", file, self.remove(file));
                drop(open);
            }
            Task::SetAside { file, open } => {
                tell_failure("set aside", file, self.set_aside(file));
                drop(open);
            }
            Task::Stop => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Fills a piece of the segment that was asked for first.
    fn fill_some(&mut self) {
        let Some(Fill { preparation, filling, .. }) = self.fills.front_mut() else { return };
        let is_full = match filling.go_on(&self.zeros, preparation.bytes) {
            Ok(false) => return,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(Fill { shard, preparation, filling }) = self.fills.pop_front() {
            let file = is_full.and_then(|()| filling.finish(&preparation.header, &self.place));
            self.answer(shard, preparation.file, file.map(Arc::new));
        }
    }

    fn answer(&self, shard: u32, file: FileId, result: io::Result<Arc<File>>) {
        if let Some(answers) = self.answers.get(shard as usize) {
            answers(Prepared { file, result });
        }
    }

    fn remove(&self, file: JournalFile) -> io::Result<()> {
        match fs::remove_file(file.path(&self.place.directory)) {
            // It was removed when it could not be filled.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn set_aside(&self, file: JournalFile) -> io::Result<()> {
        let directory = &self.place.directory;
        if Listing::of(directory)?.set_aside.len() >= MOST_SET_ASIDE {
            tracing::warn!(%file, "a segment could not be read in full; it is removed, because {MOST_SET_ASIDE} are set aside already");
            return self.remove(file);
        }
        let is_free =
            |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let mut paths = file.set_aside_names().map(|name| directory.join(name));
        let path = paths.find(|path| is_free(path)).ok_or(io::ErrorKind::AlreadyExists)?;
        fs::rename(file.path(directory), &path)?;
        tracing::warn!(path = %path.display(), "a segment that could not be read in full was set aside");
        device::sync_directory(directory)
    }
}

fn tell_failure(what: &str, file: JournalFile, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, %file, "a file of a journal cannot be {what}");
    }
}
