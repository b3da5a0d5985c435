//! The `io_uring` of one shard, behind a safe interface.
//!
//! Owns the ring and all memory that the kernel reads or writes for it: receive buffers (`ring_buffers`), outputs that
//! are being sent (`ring_sends`), a buffer that is being written to a file (`ring_files`), and the word that a wake-up
//! is read into. The ring owns such memory until the last completion of the operation that names it. A ring that is
//! dropped earlier cancels its operations and waits for them. Memory of operations that do not end even then is leaked.
//!
//! It knows file descriptors and [`ConnectionId`]s, not what they are for. It trusts its owner to keep a descriptor
//! open until the operations on it are over; otherwise they reach another file, but never freed memory. Files that are
//! written it keeps open itself.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

pub use super::ring_buffers::Buffer;
use super::ring_buffers::{Buffers, GROUP};
use super::ring_files::{Entries, FileOutcome, Files};
use super::ring_sends::{SendOutcome, Sends};
use super::ring_tag::Kind;
pub use super::ring_tag::MAX_CONNECTIONS;
use super::send_pace::SendPace;
use crate::client::ConnectionId;
use crate::journal::{Aligned, Write};
use crate::net::output::WireBuffer;

/// A write of a file and the sync linked to it are submitted together.
const LEAST_SUBMISSIONS: u32 = 2;
/// How many threads the kernel may have for a thread that writes files, for those operations on files that block.
const FILE_WORKERS: u32 = 4;

/// The size of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Operations submitted by one system call. Rounded up to a power of two.
    pub submissions: u32,
    /// Completions that the queue holds. The kernel keeps more of them aside, which costs time. Rounded up to a power
    /// of two.
    pub completions: u32,
    /// Receive buffers, all of which may be in use in one turn. Rounded up to a power of two, at most 32768.
    pub buffers: u16,
    /// Bytes of one receive buffer: the most that one receive can bring.
    pub buffer_bytes: u32,
}

/// A step of setting up a ring: the one that failed, for the error message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupStep {
    /// Creating the ring (`io_uring_setup`).
    Ring,
    /// Registering the receive buffers (`IORING_REGISTER_PBUF_RING`).
    Buffers,
    /// Creating and registering the eventfd that completions raise.
    Eventfd,
    /// Entering the ring (`io_uring_enter`), with nothing to submit yet.
    Enter,
}

/// A send that has not completed; see [`Ring::cancel_send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendNumber(NonZeroU32);

/// The completion of an operation.
#[derive(Debug)]
pub enum Completion<P> {
    /// A listener accepted a connection or failed to.
    Accepted {
        /// The listener's number.
        listener: usize,
        /// The connection's socket.
        result: io::Result<OwnedFd>,
        /// More follow; otherwise the accept is over.
        more: bool,
    },
    /// A receive brought bytes, the end of the stream (`None`), or failed.
    Received {
        /// The connection.
        conn: ConnectionId,
        /// What was received.
        result: io::Result<Option<Buffer>>,
        /// More follow; otherwise the receive is over.
        more: bool,
    },
    /// A send is over: all of the output has left, or the send failed.
    Sent {
        /// The connection.
        conn: ConnectionId,
        /// The result of the send.
        result: io::Result<()>,
        /// The output, so that its memory can be used again. After a cancelled send, its unsent rest.
        output: WireBuffer<P>,
    },
    /// The eventfd given to [`Ring::watch`] was raised. Watch again for more.
    Woken,
    /// A write of a file is over; with [`Sync::Linked`](crate::journal::Sync::Linked) a [`Completion::FileSynced`] follows, also if it failed.
    FileWritten {
        /// What was written.
        buffer: Aligned,
        /// How many bytes were: all, or it is an error.
        result: io::Result<usize>,
    },
    /// The sync behind a write is over.
    FileSynced(io::Result<()>),
}

/// The memory that the kernel reads and writes.
struct Memory<P> {
    buffers: Buffers,
    sends: Sends<P>,
    files: Files,
    /// The word that a watched eventfd is read into. Its value does not matter.
    watched: NonNull<u64>,
}

impl<P> Drop for Memory<P> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::into_raw` in `Ring::new` and freed only here, when no operation is outstanding.
        drop(unsafe { Box::from_raw(self.watched.as_ptr()) });
    }
}

/// The `io_uring` of one shard. It stays on the thread that made it.
pub struct Ring<P: AsRef<[u8]>> {
    uring: IoUring,
    /// Dropped only when nothing is outstanding.
    memory: ManuallyDrop<Memory<P>>,
    /// Operations whose last completion has not been reaped, those of `backlog` included.
    outstanding: usize,
    /// Operations that wait for room in the submission queue.
    backlog: VecDeque<squeue::Entry>,
    /// Sends that wait for the next submission.
    pace: SendPace,
    /// Completions taken off the queue and not handed out yet.
    reaped: VecDeque<cqueue::Entry>,
    /// The flags of an `io_uring_enter` that waits for completions.
    waiting: EnterFlags,
    /// A file was written.
    writes_files: bool,
    /// The kernel takes a ring with these flags from one thread only.
    stays: PhantomData<*const ()>,
}

impl<P: AsRef<[u8]>> Ring<P> {
    /// A ring for this thread. `bell` is raised by completions while [`ring_bell`](Self::ring_bell) is on.
    ///
    /// # Errors
    ///
    /// The step that failed and the kernel's error; [`StartError`](super::probe::StartError) lists the causes.
    pub fn new(size: RingSize, bell: BorrowedFd<'_>) -> Result<Self, (SetupStep, io::Error)> {
        let uring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(size.completions.max(size.submissions))
            .dontfork()
            .build(size.submissions.max(LEAST_SUBMISSIONS))
            .map_err(|error| (SetupStep::Ring, error))?;
        let parameters = uring.params();
        let mut waiting = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if parameters.is_feature_no_iowait() {
            waiting |= EnterFlags::NO_IOWAIT;
        }
        if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
            return Err((SetupStep::Ring, io::ErrorKind::Unsupported.into()));
        }
        let watched = NonNull::from(Box::leak(Box::new(0)));
        let (sends, files) = (Sends::new(), Files::new());
        let memory = Memory { buffers: Buffers::new(size.buffers, size.buffer_bytes), sends, files, watched };
        let mut ring = Ring {
            uring,
            memory: ManuallyDrop::new(memory),
            outstanding: 0,
            backlog: VecDeque::new(),
            pace: SendPace::new(),
            reaped: VecDeque::new(),
            waiting,
            writes_files: false,
            stays: PhantomData,
        };
        // SAFETY: `Drop` frees the buffers only after unregistering them, and with no operation outstanding.
        let registered = unsafe { ring.memory.buffers.register(&ring.uring.submitter()) };
        registered.map_err(|error| (SetupStep::Buffers, error))?;
        ring.uring.completion().disable_eventfd();
        let registered = ring.uring.submitter().register_eventfd(bell.as_raw_fd());
        registered.map_err(|error| (SetupStep::Eventfd, error))?;
        ring.enter(0, 0, EnterFlags::GETEVENTS, None).map_err(|error| (SetupStep::Enter, error))?;
        Ok(ring)
    }

    /// Accepts connections from `socket`, one after the other, as listener number `listener`, until it is cancelled or
    /// fails. Their sockets are closed on exec.
    pub fn accept(&mut self, listener: usize, socket: BorrowedFd<'_>) {
        let accept = opcode::AcceptMulti::new(fd(socket)).flags(libc::SOCK_CLOEXEC).build();
        self.push_tagged(accept, Kind::Accept.tag(listener, 0));
    }

    /// Ends the accept of a listener, which then completes with ECANCELED, unless it ends otherwise first.
    pub fn cancel_accept(&mut self, listener: usize) {
        self.cancel(Kind::Accept.tag(listener, 0));
    }

    /// Receives once from `socket`, when there is something to receive. Fails with ENOBUFS if all buffers are lent
    /// then.
    pub fn receive_once(&mut self, conn: ConnectionId, socket: BorrowedFd<'_>) {
        let receive = opcode::Recv::new(fd(socket), std::ptr::null_mut(), 0).buf_group(GROUP).build();
        self.push_tagged(
            receive.flags(squeue::Flags::BUFFER_SELECT),
            Kind::Receive.tag(conn.index(), conn.generation()),
        );
    }

    /// Receives from `socket` again and again, until it is cancelled, fails (ENOBUFS when all buffers are lent),
    /// reaches the end of the stream, or the kernel finds it has done enough.
    pub fn receive_many(&mut self, conn: ConnectionId, socket: BorrowedFd<'_>) {
        let receive = opcode::RecvMulti::new(fd(socket), GROUP).build();
        self.push_tagged(receive, Kind::Receive.tag(conn.index(), conn.generation()));
    }

    /// Ends the receive of a connection, which then completes with ECANCELED, unless it ends otherwise first.
    pub fn cancel_receive(&mut self, conn: ConnectionId) {
        self.cancel(Kind::Receive.tag(conn.index(), conn.generation()));
    }

    /// Sends all of `output` to `socket`, in as many operations as it takes.
    pub fn send(&mut self, conn: ConnectionId, socket: BorrowedFd<'_>, output: WireBuffer<P>) -> SendNumber {
        let slot = self.memory.sends.start(conn, socket.as_raw_fd(), output);
        self.send_in_turn(slot);
        SendNumber(NonZeroU32::MIN.saturating_add(slot))
    }

    /// Cancels a send. It then completes with ECANCELED and its unsent rest, unless all of it has left or it failed
    /// otherwise.
    pub fn cancel_send(&mut self, send: SendNumber) {
        let slot = send.0.get() - 1;
        if self.pace.take(slot) {
            // There is an operation to be cancelled then.
            self.push_send(slot);
        }
        self.memory.sends.cancel(slot);
        self.cancel(Kind::Send.tag(slot as usize, 0));
    }

    /// Submits what is left of a send with the next submission, or a later one if that is a lot already.
    fn send_in_turn(&mut self, slot: u32) {
        if self.pace.may_go(slot, self.memory.sends.bytes(slot)) {
            self.push_send(slot);
        }
    }

    fn push_send(&mut self, slot: u32) {
        // SAFETY: the send has just started, or its last operation has just completed, or it waited since then, so none
        // of it is outstanding. `next_completion` calls `complete` only with a completion, and `Drop` leaks the sends if
        // completions do not arrive.
        let (send, bytes) = unsafe { self.memory.sends.entry(slot) };
        self.pace.goes(bytes);
        self.push_tagged(send, Kind::Send.tag(slot as usize, 0));
    }

    /// All operations were submitted: those sends are the next ones that wait for that.
    fn submitted(&mut self) {
        self.pace.submitted();
        while let Some(slot) = self.pace.next() {
            self.push_send(slot);
        }
    }

    /// Writes a buffer to a file, and syncs it as the write says. One at a time: the next when the last one is over.
    ///
    /// # Panics
    ///
    /// The last one is not over.
    pub fn write_file(&mut self, file: Arc<File>, write: Write) {
        if !self.writes_files {
            self.writes_files = true;
            // One operation at a time blocks. Where that cannot be set the kernel has a bound of its own.
            let _ = self.uring.submitter().register_iowq_max_workers(&mut [FILE_WORKERS, 0]);
        }
        self.memory.files.start(file, write);
        self.push_file_entries();
    }

    fn push_file_entries(&mut self) {
        // SAFETY: the write has just started, or none of its operations is outstanding: `written` and `synced` say so, which `next_completion`
        // calls with completions only. `Drop` leaks the write if completions do not arrive.
        let entries = unsafe { self.memory.files.entries() };
        match entries {
            None => {}
            Some(Entries::One(entry)) => self.push(entry),
            Some(Entries::Linked(pair)) => {
                self.outstanding += pair.len();
                // SAFETY: as in `push`. They go into the queue together, because what is submitted apart is not linked.
                if !self.backlog.is_empty() || unsafe { self.uring.submission().push_multiple(&pair) }.is_err() {
                    self.backlog.extend(pair);
                }
            }
        }
    }

    /// Closes a descriptor on which no operations are outstanding.
    pub fn close(&mut self, socket: OwnedFd) {
        let close = opcode::Close::new(Fd(socket.into_raw_fd())).build();
        self.push_tagged(close, Kind::Close.tag(0, 0));
    }

    /// Waits for `eventfd` to be raised, and lowers it. One call gives one [`Completion::Woken`].
    pub fn watch(&mut self, eventfd: BorrowedFd<'_>) {
        let read = opcode::Read::new(fd(eventfd), self.memory.watched.as_ptr().cast(), size_of::<u64>() as u32).build();
        self.push_tagged(read, Kind::Watch.tag(0, 0));
    }

    fn cancel(&mut self, user_data: u64) {
        self.push_tagged(opcode::AsyncCancel::new(user_data).build(), Kind::Cancel.tag(0, 0));
    }

    fn push_tagged(&mut self, entry: squeue::Entry, user_data: u64) {
        self.push(entry.user_data(user_data));
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.outstanding += 1;
        // SAFETY: whatever memory the entry names is owned by `memory` until its completion came. The constructors of
        // entries above name the receive buffers, the output of a send, the buffer of a file write, and the watched
        // word, or none at all.
        if !self.backlog.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Moves operations from the backlog to the submission queue, as many as fit, in order.
    fn fill_queue(&mut self) {
        let mut queue = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            let is_linked = Kind::of(entry.get_user_data()).0 == Some(Kind::FileLinkedWrite);
            let linked = self.backlog.get(1).filter(|_| is_linked);
            let entries = 1 + usize::from(linked.is_some());
            // SAFETY: as in `push`. The two of a pair go together.
            let pushed = match linked {
                Some(second) => unsafe { queue.push_multiple(&[entry.clone(), second.clone()]) },
                None => unsafe { queue.push(entry) },
            };
            if pushed.is_err() {
                break;
            }
            self.backlog.drain(..entries);
        }
    }

    /// Submits all queued operations and takes in the completions that are there, without waiting. It makes no system
    /// call when there is nothing to submit and the kernel has no work pending for this ring.
    ///
    /// # Errors
    ///
    /// An error of the kernel after which the ring cannot be used.
    pub fn submit(&mut self) -> io::Result<()> {
        loop {
            let queued = self.uring.submission().len() as u32;
            let call = queued > 0 || self.is_kernel_behind();
            let submitted = if call { self.enter(queued, 0, EnterFlags::GETEVENTS, None)? } else { 0 };
            self.took(submitted, queued);
            self.reap();
            // Operations that the kernel refuses now wait for the next turn: it is short of memory, or completions have
            // to be taken first.
            if self.backlog.is_empty() && submitted == queued as usize || submitted == 0 {
                self.submitted();
                return Ok(());
            }
        }
    }

    /// Submits all queued operations and waits for a completion, at most for `at_most`, or without limit if `None`.
    /// Returns early when a signal arrives, and at once when there are completions to take.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        self.reap();
        if !self.reaped.is_empty() || !self.backlog.is_empty() || !self.pace.is_empty() {
            return self.submit();
        }
        let timeout = at_most.map(Timespec::from);
        let args = SubmitArgs::new();
        let args = match &timeout {
            Some(timeout) => args.timespec(timeout),
            None => args,
        };
        let queued = self.uring.submission().len() as u32;
        let submitted = self.enter(queued, 1, self.waiting, Some(&args))?;
        self.took(submitted, queued);
        self.reap();
        self.submitted();
        Ok(())
    }

    fn enter(&self, submit: u32, want: u32, flags: EnterFlags, args: Option<&SubmitArgs<'_, '_>>) -> io::Result<usize> {
        let submitter = self.uring.submitter();
        // SAFETY: `submit` is what the queue holds, and `args` is what `EXT_ARG`, set exactly when it is given,
        // announces; the crate passes its size along.
        match unsafe { submitter.enter(submit, want, flags.bits(), args) } {
            Ok(submitted) => Ok(submitted),
            // In this order: the timeout, a signal, completions that have to be taken first, a shortage of memory.
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(0),
                _ => Err(error),
            },
        }
    }

    /// The kernel took so many operations of those in the queue.
    fn took(&mut self, submitted: usize, queued: u32) {
        if submitted < queued as usize {
            self.memory.files.parted();
        }
    }

    fn reap(&mut self) {
        self.reaped.extend(self.uring.completion());
        self.fill_queue();
    }

    /// The next completion of those taken in by the last [`submit`](Self::submit) or [`wait`](Self::wait).
    pub fn next_completion(&mut self) -> Option<Completion<P>> {
        loop {
            let entry = self.reaped.pop_front()?;
            let more = cqueue::more(entry.flags());
            if !more {
                self.outstanding -= 1;
            }
            let (kind, index, generation) = Kind::of(entry.user_data());
            let result = entry.result();
            return Some(match kind.expect("all user data is made by `Kind::tag`") {
                Kind::Accept => {
                    // SAFETY: the kernel opened this descriptor for us, and tells of it only here.
                    let result = errno(result).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as i32) });
                    Completion::Accepted { listener: index, result, more }
                }
                Kind::Receive => {
                    let conn = ConnectionId::new(index as u32, generation);
                    let result = self.received(result, entry.flags());
                    Completion::Received { conn, result, more }
                }
                Kind::Send => match self.memory.sends.complete(index as u32, result) {
                    SendOutcome::Finished { conn, result, output } => Completion::Sent { conn, result, output },
                    SendOutcome::Partial => {
                        self.send_in_turn(index as u32);
                        continue;
                    }
                },
                Kind::Watch => Completion::Woken,
                Kind::FileWrite | Kind::FileLinkedWrite | Kind::FileSync => {
                    match self.file_completed(kind == Some(Kind::FileSync), result) {
                        Some(completion) => completion,
                        None => continue,
                    }
                }
                Kind::Cancel | Kind::Close => continue,
            });
        }
    }

    fn file_completed(&mut self, is_sync: bool, result: i32) -> Option<Completion<P>> {
        let files = &mut self.memory.files;
        let outcome = if is_sync { files.synced(result) } else { files.written(result) };
        if matches!(outcome, FileOutcome::Goes | FileOutcome::Written { goes: true, .. }) {
            self.push_file_entries();
        }
        match outcome {
            FileOutcome::Waits | FileOutcome::Goes => None,
            FileOutcome::Written { buffer, result, .. } => Some(Completion::FileWritten { buffer, result }),
            FileOutcome::Synced(result) => Some(Completion::FileSynced(result)),
        }
    }

    fn received(&mut self, result: i32, flags: u32) -> io::Result<Option<Buffer>> {
        let len = errno(result);
        let filled = len.as_ref().map_or(0, |len| *len);
        let buffer = cqueue::buffer_select(flags).map(|id| self.memory.buffers.lend(id, filled));
        match buffer {
            Some(buffer) if filled > 0 => Ok(Some(buffer)),
            Some(unused) => {
                self.memory.buffers.give_back(unused);
                len.map(|_| None)
            }
            None => len.map(|_| None),
        }
    }

    /// Whether there are completions to hand out, or operations to submit, or the kernel has something to do that it does in a call only.
    pub fn has_work(&mut self) -> bool {
        let is_any_queued = !self.backlog.is_empty() || !self.pace.is_empty();
        !self.reaped.is_empty() || is_any_queued || !self.uring.submission().is_empty() || self.is_kernel_behind()
    }

    /// Whether the kernel has something to do for this ring, which it does when it is entered: completions that did not fit into the queue, and
    /// sockets to look at. It looks at twenty in a call, whether that brings completions or not, and while some are left others that come do not
    /// raise the bell: nobody may go to sleep by that.
    fn is_kernel_behind(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// The bytes in a buffer.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.memory.buffers.bytes(buffer)
    }

    /// Gives a buffer back to the kernel, which may fill it again.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.memory.buffers.give_back(buffer);
    }

    /// Puts more buffers into use, if there are more. For receives that failed with ENOBUFS.
    pub fn grow_buffers(&mut self) {
        self.memory.buffers.grow();
    }

    /// The number of buffers that the kernel may fill, by the completions taken so far.
    pub fn free_buffers(&self) -> usize {
        self.memory.buffers.with_kernel()
    }

    /// Switches the bell on or off: while it is on, completions raise it. After switching it on, call
    /// [`submit`](Self::submit) and look for completions once more: those that came before do not raise it.
    pub fn ring_bell(&mut self, on: bool) {
        let queue = self.uring.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }
}

fn fd(socket: impl AsFd) -> Fd {
    Fd(socket.as_fd().as_raw_fd())
}

/// A result of the kernel as a value or, if it is negative, an error number.
fn errno(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// The time that a dropped ring waits for its operations to end, in tenths of a second.
const PATIENCE: usize = 10;

impl<P: AsRef<[u8]>> Drop for Ring<P> {
    fn drop(&mut self) {
        self.pace.clear();
        if self.outstanding > 0 {
            self.push_tagged(opcode::AsyncCancel2::new(CancelBuilder::any()).build(), Kind::Cancel.tag(0, 0));
        }
        for _ in 0..PATIENCE {
            while let Some(entry) = self.reaped.pop_front() {
                self.outstanding -= usize::from(!cqueue::more(entry.flags()));
                if Kind::of(entry.user_data()).0 == Some(Kind::Accept) && entry.result() >= 0 {
                    // SAFETY: the kernel opened this descriptor for us, and tells of it only here.
                    drop(unsafe { OwnedFd::from_raw_fd(entry.result()) });
                }
            }
            if self.outstanding == 0 || self.wait(Some(Duration::from_millis(100))).is_err() {
                break;
            }
        }
        if self.outstanding > 0 || self.memory.buffers.unregister(&self.uring.submitter()).is_err() {
            tracing::warn!(operations = self.outstanding, "leaking the memory of a ring that does not come to rest");
            return;
        }
        // SAFETY: nothing is outstanding and the buffers are unregistered, so the kernel is done with the memory; it is
        // not used after this.
        unsafe { ManuallyDrop::drop(&mut self.memory) };
    }
}
