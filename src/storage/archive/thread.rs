//! The thread `moormq-archive`: it does what shards want of the archive, by calls that block.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// How an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveReport {
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// How many keys have a value.
    pub keys: u64,
}

/// What an operator wants of the thread: it comes before all else.
enum Wanted<S> {
    Report(Sender<Result<ArchiveReport, ArchiveError>>),
    /// Nothing is to be written as long as the other end of this channel lives.
    Hold(Receiver<()>, Sender<Result<S, ArchiveError>>),
}

/// The door of operators to the archive's thread. `S` is a [snapshot](Archive::Snapshot).
#[derive(Clone)]
pub struct ArchiveControl<S>(Sender<Wanted<S>>);

/// As long as it lives, nothing is written to the archive, and no shard is told that anything is persisted.
pub struct ArchiveHold {
    _lives: Sender<()>,
}

/// What an operator may want at the same time.
const MOST_WANTED: usize = 16;

impl<S> ArchiveControl<S> {
    /// How the archive is, once the thread says so: it may have to wait for the disk.
    ///
    /// # Errors
    ///
    /// It cannot be read, or the thread does not answer within `patience`.
    pub fn report(&self, patience: Duration) -> Result<ArchiveReport, ArchiveError> {
        let (answer, answers) = bounded(1);
        self.ask(Wanted::Report(answer), &answers, patience)
    }

    /// What the archive has, with all that it was given before; it writes nothing until the hold is dropped.
    ///
    /// # Errors
    ///
    /// It cannot be written or read, or the thread does not answer within `patience`.
    pub fn hold(&self, patience: Duration) -> Result<(S, ArchiveHold), ArchiveError> {
        let (lives, held) = bounded(0);
        let (answer, answers) = bounded(1);
        let snapshot = self.ask(Wanted::Hold(held, answer), &answers, patience)?;
        Ok((snapshot, ArchiveHold { _lives: lives }))
    }

    fn ask<T>(
        &self,
        wanted: Wanted<S>,
        answers: &Receiver<Result<T, ArchiveError>>,
        patience: Duration,
    ) -> Result<T, ArchiveError> {
        let is_sent = self.0.send_timeout(wanted, patience).is_ok();
        let answered = is_sent.then(|| answers.recv_timeout(patience).ok()).flatten();
        answered.unwrap_or_else(|| Err(silent()))
    }
}

fn silent() -> ArchiveError {
    ArchiveError::new(Trouble::Failed, "the archive does not answer: its disk is slow, or the broker stops")
}

/// The door of a shard to the archive's thread. Nothing here waits.
#[derive(Clone)]
pub struct ArchiveDoor {
    writes: Sender<Task>,
    reads: Sender<Order>,
}

impl ArchiveThread {
    /// Starts the thread for an archive and as many shards as there are `answers`, by number; and gives the doors to it. Answers are called on that
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
    ) -> io::Result<(Self, ArchiveDoor, ArchiveControl<A::Snapshot>)> {
        let shards = answers.len();
        // While a refusal is told, batches that it drops are still there, with as many that come after it.
        let (writes, written) = bounded(2 * limits.batches * shards + 1);
        let (reads, read) = bounded((limits.reads * shards).max(1));
        let (control, wanted) = bounded(MOST_WANTED);
        let desk = Desk::new(archive, shards);
        let work = move || {
            Work { desk, answers, writes: written, reads: read, wanted, held: never(), is_stopped: false }.run();
        };
        let thread = threads::start("moormq-archive", work)?;
        let door = ArchiveDoor { writes: writes.clone(), reads };
        Ok((ArchiveThread { writes, thread: Some(thread) }, door, ArchiveControl(control)))
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

struct Work<A: Archive> {
    desk: Desk<A>,
    answers: Vec<Answers>,
    writes: Receiver<Task>,
    reads: Receiver<Order>,
    wanted: Receiver<Wanted<A::Snapshot>>,
    /// Closed when it may be written again, if it may not.
    held: Receiver<()>,
    is_stopped: bool,
}

impl<A: Archive> Work<A> {
    fn run(mut self) {
        loop {
            // In a damaged file the library may find what it panics at, and then knows less of its own state than it believes.
            match catch_unwind(AssertUnwindSafe(|| self.go_on())) {
                Ok(true) => {}
                Ok(false) => return,
                Err(panic) => return self.give_up(&*panic),
            }
        }
    }

    /// Does what comes next, or waits for it. False when the thread is to end.
    fn go_on(&mut self) -> bool {
        self.take_what_is_there();
        if self.is_stopped || self.held.try_recv() == Err(TryRecvError::Disconnected) {
            self.held = never();
            self.desk.go_on();
        }
        if self.desk.step(&mut answerer(&self.answers)) {
            return true;
        }
        if !self.is_stopped {
            self.wait();
            return true;
        }
        false
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
        while let Ok(wanted) = self.wanted.try_recv() {
            self.carry_out(wanted);
        }
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

    fn carry_out(&mut self, wanted: Wanted<A::Snapshot>) {
        match wanted {
            Wanted::Report(answer) => {
                let archive = self.desk.archive();
                let report = archive.keys().map(|keys| ArchiveReport { bytes: archive.bytes_on_disk(), keys });
                // Nobody may wait any more.
                let _ = answer.try_send(report);
            }
            Wanted::Hold(held, answer) => {
                let is_held = self.desk.hold(&mut answerer(&self.answers));
                self.held = held;
                let _ = answer.try_send(is_held.and_then(|()| self.desk.archive().snapshot()));
            }
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
            // Nothing is sent there.
            recv(self.held) -> _ => {}
            recv(self.wanted) -> wanted => match wanted {
                Ok(wanted) => self.carry_out(wanted),
                Err(RecvError) => self.wanted = never(),
            },
        }
    }
}

/// Gives each answer to the shard that it is for.
fn answerer(answers: &[Answers]) -> impl FnMut(u32, Answer) {
    |shard, answer| {
        if let Some(answers) = answers.get(shard as usize) {
            answers(answer);
        }
    }
}
