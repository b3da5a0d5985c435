//! The thread `moormq-archive`: it does what shards want of the archive, by calls that block.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, RecvError, Sender, TryRecvError, TrySendError, bounded, never, select};

use crate::archive::{Answer, Archive, ArchiveError, Desk, Limits, Order, Trouble, What};
use crate::storage::ARCHIVE;
use crate::threads;

/// What takes the answers of one shard, on the archive's thread. It must not wait.
type Answers = Box<dyn Fn(Answer) + Send>;

/// The thread. A drop stops it.
pub struct ArchiveThread {
    writes: Sender<Task>,
    thread: Option<JoinHandle<()>>,
}

enum Task {
    Write(Order),
    Stop,
}

/// The door of a shard to the archive's thread. Nothing here waits.
#[derive(Clone)]
pub struct ArchiveDoor {
    writes: Sender<Task>,
    reads: Sender<Order>,
}

impl ArchiveThread {
    /// Starts the thread for an archive and as many shards as there are `answers`, by number; and gives the door to it. Answers are called on that
    /// thread, and must get to [`Orders::answered`](crate::archive::Orders::answered) on the shard's, in order. If the archive panics, each shard is
    /// answered [`Answer::Failed`], and the thread ends.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn start<A: Archive + Send + 'static>(
        archive: A,
        limits: Limits,
        answers: Vec<Answers>,
    ) -> io::Result<(Self, ArchiveDoor)> {
        let shards = answers.len();
        // While a refusal is told, batches that it drops are still there, with as many that come after it.
        let (writes, written) = bounded(2 * limits.batches * shards + 1);
        let (reads, read) = bounded((limits.reads * shards).max(1));
        let desk = Desk::new(archive, shards);
        let work = move || Work { desk, answers, writes: written, reads: read, is_stopped: false }.run();
        let thread = threads::start("moormq-archive", work)?;
        let door = ArchiveDoor { writes: writes.clone(), reads };
        Ok((ArchiveThread { writes, thread: Some(thread) }, door))
    }

    /// Ends the thread, once all that it was asked for before is done, persisted and answered. Waits for that, and so for the disk. Nothing is done for
    /// shards afterwards.
    pub fn stop(self) {}
}

impl Drop for ArchiveThread {
    fn drop(&mut self) {
        // It fails if the thread has died, and that was told.
        let _ = self.writes.send(Task::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl ArchiveDoor {
    /// Has something done that the shard's [`Orders`](crate::archive::Orders) have let through: reads go before what is to be written.
    ///
    /// # Errors
    ///
    /// The thread has ended: it comes back, and has no answer.
    pub fn give(&self, order: Order) -> Result<(), Order> {
        // There is room for all that the limits allow.
        match order.what {
            What::Read { .. } => self.reads.try_send(order).map_err(TrySendError::into_inner),
            What::Write { .. } => match self.writes.try_send(Task::Write(order)) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(Task::Write(order)) | TrySendError::Disconnected(Task::Write(order))) => {
                    Err(order)
                }
                Err(_) => unreachable!("it is what was given"),
            },
        }
    }
}

struct Work<A> {
    desk: Desk<A>,
    answers: Vec<Answers>,
    writes: Receiver<Task>,
    reads: Receiver<Order>,
    is_stopped: bool,
}

impl<A: Archive> Work<A> {
    fn run(mut self) {
        loop {
            self.take_what_is_there();
            let Work { desk, answers, .. } = &mut self;
            // In a damaged file the library may find what it panics at, and then knows less of its own state than it believes.
            let has_done = catch_unwind(AssertUnwindSafe(|| {
                desk.step(&mut |shard, answer| {
                    if let Some(answers) = answers.get(shard as usize) {
                        answers(answer);
                    }
                })
            }));
            match has_done {
                Ok(true) => continue,
                Ok(false) => {}
                Err(panic) => return self.give_up(&*panic),
            }
            if self.is_stopped {
                return;
            }
            self.wait();
        }
    }

    /// Nothing is asked of the archive any more, not even to close it: all shards are told, so that nobody waits for an answer.
    fn give_up(self, panic: &(dyn Any + Send)) {
        let message = panic.downcast_ref::<&str>().copied();
        let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("not a text");
        let error = ArchiveError::new(
            Trouble::Failed,
            format!(
                "the archive ({ARCHIVE}) has failed, since what reads and writes it panicked: {message}. The file may be damaged: see what \
                 `moormq store verify` says of the store"
            ),
        );
        self.answers.iter().for_each(|answers| answers(Answer::Failed(error.clone())));
        // It may panic, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self.desk)));
    }

    /// All reads, and batches as far as they can be begun.
    fn take_what_is_there(&mut self) {
        while let Ok(order) = self.reads.try_recv() {
            self.desk.take(order);
        }
        while !self.is_stopped && self.desk.wants_batch() {
            match self.writes.try_recv() {
                Ok(task) => self.take(Ok(task)),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.is_stopped = true,
            }
        }
    }

    fn take(&mut self, task: Result<Task, RecvError>) {
        match task {
            Ok(Task::Write(order)) => self.desk.take(order),
            Ok(Task::Stop) | Err(RecvError) => self.is_stopped = true,
        }
    }

    /// Until there is something to do.
    fn wait(&mut self) {
        select! {
            recv(self.reads) -> order => match order {
                Ok(order) => self.desk.take(order),
                // No shard is left; the thread is stopped soon.
                Err(RecvError) => self.reads = never(),
            },
            recv(self.writes) -> task => self.take(task),
        }
    }
}
