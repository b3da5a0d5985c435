//! The files of one shard's journal at run time.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use crossbeam::channel::TrySendError;

use super::directory::StoreDirectory;
use super::filling::Place;
use super::names::JournalFile;
use super::thread::{Prepared, StoreThread, Task, Tasks};
use crate::journal::{Answer, Effect, FileId, Sync, Write};

/// The files that a shard writes its journal to, and its door to the store's thread. It never waits for that.
///
/// As long as one of them lives, no other process uses the store.
pub struct JournalFiles {
    shard: u32,
    /// Those that are prepared.
    open: HashMap<FileId, Arc<File>>,
    tasks: Tasks,
    _lock: Arc<File>,
}

/// What becomes of an effect.
#[must_use]
pub enum Begun {
    /// It is to be written by the shard: see [`Sockets::write_file`](crate::net::sockets::Sockets::write_file).
    Write {
        /// The file.
        file: Arc<File>,
        /// What is written to it.
        write: Write,
    },
    /// The store's thread has it. An answer comes from there if the effect has one.
    HandedOver,
    /// It cannot be carried out, and this is the answer.
    Answered(Answer),
}

impl StoreThread {
    /// Starts the thread of the store, `moormq-store`; and gives the files of as many shards as there are `answers`, by number. These are called
    /// on that thread when a segment is prepared or cannot be, for [`JournalFiles::prepared`] on the shard's; they must not wait. For each shard
    /// there is one at a time.
    ///
    /// `sync` is how the journals commit: [`StoreDirectory::sync`], or [`Sync::Never`]. `reserve` is how many bytes of the disk are left free when
    /// a journal has more segments made than its settings want.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn for_shards(
        directory: &StoreDirectory,
        sync: Sync,
        reserve: u64,
        answers: Vec<Box<dyn Fn(Prepared) + Send>>,
    ) -> io::Result<(StoreThread, Vec<JournalFiles>)> {
        let shards = answers.len() as u32;
        let (thread, tasks) = StoreThread::start(Place { directory: directory.journal(), sync, reserve }, answers)?;
        let files = |shard| JournalFiles {
            shard,
            open: HashMap::new(),
            tasks: tasks.clone(),
            _lock: Arc::clone(directory.lock()),
        };
        Ok((thread, (0..shards).map(files).collect()))
    }
}

impl JournalFiles {
    /// Begins to carry out an effect of the shard's journal.
    pub fn begin(&mut self, effect: Effect) -> Begun {
        let shard = self.shard;
        match effect {
            Effect::Write(write) => match self.open.get(&write.file) {
                Some(file) => Begun::Write { file: Arc::clone(file), write },
                None => {
                    debug_assert!(false, "{:?} was not prepared", write.file);
                    let result = Err(io::Error::new(io::ErrorKind::NotFound, "the segment is not open"));
                    Begun::Answered(Answer::Written { buffer: write.buffer, result })
                }
            },
            Effect::Prepare(preparation) => {
                let open = self.open.remove(&preparation.file);
                self.prepare(Task::Prepare { shard, preparation, open })
            }
            Effect::Remove { file } => {
                let open = self.open.remove(&file);
                self.discard(Task::Remove { file: JournalFile { shard, file }, open })
            }
            Effect::SetAside { file } => {
                let open = self.open.remove(&file);
                self.discard(Task::SetAside { file: JournalFile { shard, file }, open })
            }
        }
    }

    fn prepare(&mut self, task: Task) -> Begun {
        let (task, why) = match self.tasks.send(task) {
            Ok(()) => return Begun::HandedOver,
            Err(TrySendError::Full(task)) => (task, "the thread of the store is behind"),
            Err(TrySendError::Disconnected(task)) => (task, "the thread of the store has ended"),
        };
        let Task::Prepare { preparation, .. } = task else { return Begun::HandedOver };
        let result = Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        Begun::Answered(Answer::Prepared { file: preparation.file, result })
    }

    fn discard(&mut self, task: Task) -> Begun {
        // Nothing in it counts: the next start finds that it is there, and that again.
        if let Err(TrySendError::Full(Task::Remove { file, .. } | Task::SetAside { file, .. })) = self.tasks.send(task)
        {
            tracing::warn!(%file, "the thread of the store is behind: a file of a journal stays until the next start");
        }
        Begun::HandedOver
    }

    /// A segment is prepared, or could not be: this is the answer.
    pub fn prepared(&mut self, prepared: Prepared) -> Answer {
        let Prepared { file, result } = prepared;
        let result = result.map(|open| drop(self.open.insert(file, open)));
        Answer::Prepared { file, result }
    }

    /// How many files are open.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}
