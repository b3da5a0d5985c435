//! The sockets of one shard: accepting, reading, writing, handing over, closing.
//!
//! Owns the listeners, the sockets of the connections, and the ring. It knows when to read and how to close, but never
//! interprets bytes. A [`ConnectionId`] is reused only after the last completion of the old connection has arrived, so
//! no completion is taken for another connection's.
//!
//! A turn: [`submit`](Sockets::submit) or [`wait`](Sockets::wait), then [`next_event`](Sockets::next_event) until there
//! is none. Operations asked for meanwhile are queued; the next turn submits all of them by one system call.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::listeners::Listeners;
pub use super::listeners::{ACCEPT_RETRY, listen};
use super::output::WireBuffer;
use super::ring::{Buffer, Completion, MAX_CONNECTIONS, Ring, RingSize, SetupStep};
use super::socket::{Reading, Remainder, Socket, Stage, Table};
use crate::client::ConnectionId;
use crate::journal::{Answer, Write};
use crate::sharding::Quota;
use crate::time::Time;

/// The limits of one shard's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// The size of the ring and of its receive buffers.
    pub ring: RingSize,
    /// Connections of this shard at which accepting pauses, those that are being closed included. At most
    /// [`MAX_CONNECTIONS`]. Handed-over connections are taken beyond it.
    pub max_connections: usize,
    /// The time that the peer of a closed connection has to take the final output. Then the connection is reset.
    pub flush_timeout: Duration,
    /// The time that it then has to close its side.
    pub linger: Duration,
}

impl Default for SocketLimits {
    /// 1024 operations per system call, 8192 completions, 256 receive buffers of 16 KiB (4 MiB), one million
    /// connections, five seconds to flush, one to linger.
    fn default() -> Self {
        SocketLimits {
            ring: RingSize { submissions: 1024, completions: 8192, buffers: 256, buffer_bytes: 16 * 1024 },
            max_connections: 1_000_000,
            flush_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(1),
        }
    }
}

/// An event of a shard's sockets.
#[derive(Debug)]
pub enum Event {
    /// A client connected. Its socket is read by single receives at first: see [`Sockets::read_continuously`].
    Accepted {
        /// The new connection.
        conn: ConnectionId,
        /// The number of the listener.
        listener: usize,
        /// The far end.
        peer: SocketAddr,
    },
    /// A client connected and was closed at once: there is no place for another socket.
    TurnedAway {
        /// The number of the listener.
        listener: usize,
        /// The far end.
        peer: SocketAddr,
    },
    /// Bytes arrived: [`Sockets::bytes`] shows them, [`Sockets::give_back`] has to follow.
    Received {
        /// The connection that they arrived on.
        conn: ConnectionId,
        /// The buffer that holds them.
        buffer: Buffer,
    },
    /// The whole of an output has left.
    Sent {
        /// The connection that it went to.
        conn: ConnectionId,
        /// The vector of its bytes, emptied, to be used again.
        emptied: Vec<u8>,
    },
    /// The peer closed the connection or it broke. Nothing more comes from it; the id is not used again before
    /// [`Sockets::close`] or [`Sockets::detach`].
    Closed {
        /// The connection.
        conn: ConnectionId,
    },
    /// A connection is free to be handed over: nothing is outstanding on its socket. The id is stale.
    Detached {
        /// Its former id on this shard.
        conn: ConnectionId,
        /// The socket, for [`Sockets::adopt`] on the other shard.
        socket: DetachedSocket,
    },
    /// The watched eventfd was raised. Watch it again.
    Woken,
    /// What became of a write of the journal: see [`Sockets::write_file`].
    Journal(Answer),
}

/// A socket on its way from one shard to another, with the bytes that go along.
#[derive(Debug)]
pub struct DetachedSocket {
    /// The socket itself.
    pub fd: OwnedFd,
    /// The number of the listener that accepted it.
    pub listener: usize,
    /// The far end.
    pub peer: SocketAddr,
    /// Bytes that arrived after the last [`Event::Received`].
    pub unread: Vec<u8>,
    /// Bytes that were being sent and have not left.
    pub unsent: Vec<u8>,
}

/// One shard's sockets.
pub struct Sockets<P: AsRef<[u8]>> {
    pub(super) limits: SocketLimits,
    pub(super) ring: Ring<P>,
    pub(super) listeners: Listeners,
    /// Whether connections are accepted.
    accepts: bool,
    pub(super) table: Table<P>,
    /// Sockets whose receive the next submit arms.
    pub(super) to_arm: Vec<ConnectionId>,
    /// Sockets whose receive found no buffer, in the order in which they get one.
    pub(super) starved: VecDeque<ConnectionId>,
    /// The time given by the last call.
    pub(super) now: Time,
    /// Flushing sockets, in the order of their deadlines.
    pub(super) flushing: VecDeque<(Time, ConnectionId)>,
    /// Draining sockets, in the order of their deadlines.
    pub(super) lingering: VecDeque<(Time, ConnectionId)>,
    /// Detached sockets that no event has announced yet.
    pub(super) detached: VecDeque<(ConnectionId, DetachedSocket)>,
    /// Sockets on which nothing is outstanding. They have their places until they are closed.
    pub(super) to_close: VecDeque<OwnedFd>,
    /// The places for sockets that all shards share, and which shard this is.
    places: Option<(Arc<Quota>, usize)>,
}

impl<P: AsRef<[u8]>> Sockets<P> {
    /// Sockets for this thread, accepting from `listeners` (see [`listen`]), numbered in their order. `bell` is raised
    /// by completions while [`ring_bell`](Self::ring_bell) is on.
    ///
    /// # Errors
    ///
    /// The step of setting up the ring that failed, and the kernel's error.
    pub fn new(
        limits: SocketLimits,
        listeners: Vec<OwnedFd>,
        bell: BorrowedFd<'_>,
    ) -> Result<Self, (SetupStep, io::Error)> {
        let max_connections = limits.max_connections.min(MAX_CONNECTIONS);
        Ok(Sockets {
            limits: SocketLimits { max_connections, ..limits },
            ring: Ring::new(limits.ring, bell)?,
            listeners: Listeners::new(listeners),
            accepts: true,
            table: Table::new(),
            to_arm: Vec::new(),
            starved: VecDeque::new(),
            now: Time::ZERO,
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            detached: VecDeque::new(),
            to_close: VecDeque::new(),
            places: None,
        })
    }

    /// Accepts connections from here on, or no more; those that come meanwhile wait in the kernel.
    pub fn set_accepting(&mut self, accepts: bool) {
        self.accepts = accepts;
    }

    /// Has every accepted socket take one of `places`, until it is closed, wherever that is. This is `shard`.
    pub fn share_places(&mut self, places: Arc<Quota>, shard: usize) {
        self.places = Some((places, shard));
    }

    /// Takes a place for a socket. If none is left, those that wait to be closed make room: of clients that come back as fast as they left,
    /// none is turned away for want of places that nobody needs.
    fn take_place(&mut self) -> bool {
        loop {
            let Some((places, shard)) = &self.places else { return true };
            if places.take(*shard, 1) {
                return true;
            }
            if !self.close_one() {
                return false;
            }
        }
    }

    /// The place of a socket that is closed may be taken by another one.
    pub(super) fn give_place_back(&self) {
        if let Some((places, shard)) = &self.places {
            places.give_back(*shard, 1);
        }
    }

    /// The number of sockets, including those that are being closed or handed over.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are no sockets, and none was detached that has not been handed out as an event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.detached.is_empty()
    }

    /// Submits all queued operations and takes in the completions that are there, without waiting.
    ///
    /// # Errors
    ///
    /// An error of the kernel after which the ring cannot be used: the shard has to end.
    pub fn submit(&mut self, now: Time) -> io::Result<()> {
        self.prepare(now);
        self.ring.submit()
    }

    /// Submits all queued operations and waits for an event, at most for `at_most`, or without limit if `None`. It may
    /// return without an event.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn wait(&mut self, at_most: Option<Duration>, now: Time) -> io::Result<()> {
        self.prepare(now);
        if self.goes_on() { self.ring.submit() } else { self.ring.wait(at_most) }
    }

    fn prepare(&mut self, now: Time) {
        self.now = now;
        self.end_overdue(now);
        self.close_some();
        self.arm_receives();
        let accepts = self.accepts && self.table.len() < self.limits.max_connections;
        self.listeners.steer(&mut self.ring, accepts, now);
    }

    /// The time by which [`submit`](Self::submit) or [`wait`](Self::wait) has to be called even without an event.
    pub fn next_deadline(&self) -> Time {
        self.next_overdue().min(self.listeners.next_deadline())
    }

    /// Whether there are events to hand out, or operations to submit.
    pub fn has_work(&mut self) -> bool {
        self.goes_on() || !self.to_arm.is_empty() || self.ring.has_work()
    }

    /// Whether something is to be done without a completion.
    fn goes_on(&self) -> bool {
        let Sockets { starved, detached, to_close, .. } = self;
        !(starved.is_empty() && detached.is_empty() && to_close.is_empty())
    }

    /// The next of the events that the last [`submit`](Self::submit) or [`wait`](Self::wait) brought.
    pub fn next_event(&mut self, now: Time) -> Option<Event> {
        self.now = now;
        if let Some((conn, socket)) = self.detached.pop_front() {
            return Some(Event::Detached { conn, socket });
        }
        while let Some(completion) = self.ring.next_completion() {
            let event = match completion {
                Completion::Accepted { listener, result, more } => {
                    self.listeners.accepted(listener, result.as_ref().err(), more, now);
                    result.ok().and_then(|socket| self.accepted(listener, socket))
                }
                Completion::Received { conn, result, more } => self.received(conn, result, more),
                Completion::Sent { conn, result, output } => self.sent(conn, result, output),
                Completion::Woken => Some(Event::Woken),
                Completion::FileWritten { buffer, result } => Some(Event::Journal(Answer::Written { buffer, result })),
                Completion::FileSynced(result) => Some(Event::Journal(Answer::Synced(result))),
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn accepted(&mut self, listener: usize, socket: OwnedFd) -> Option<Event> {
        // A connection that the client has closed already has no address any more.
        let stream = TcpStream::from(socket);
        let peer = stream.peer_addr().ok()?;
        // A table that is full has accepted it before the accept could be cancelled.
        let is_full = self.table.len() >= self.limits.max_connections;
        if is_full || !self.take_place() {
            // It does not wait for a place: its client would not know why.
            self.ring.close(stream.into());
            return Some(Event::TurnedAway { listener, peer });
        }
        let socket = Socket::new(stream.into(), listener as u16, peer, Reading::Singly);
        let Some(conn) = self.table.insert(socket, self.limits.max_connections) else {
            self.give_place_back();
            return Some(Event::TurnedAway { listener, peer });
        };
        self.steer_reading(conn);
        Some(Event::Accepted { conn, listener, peer })
    }

    fn received(&mut self, conn: ConnectionId, result: io::Result<Option<Buffer>>, more: bool) -> Option<Event> {
        let Some(socket) = self.table.get_mut(conn) else {
            self.discard(result);
            return None;
        };
        if !more {
            (socket.armed, socket.cancelling) = (Reading::Not, false);
        }
        match (socket.stage, result) {
            (Stage::Open, Ok(Some(buffer))) => {
                self.steer_reading(conn);
                return Some(Event::Received { conn, buffer });
            }
            (Stage::Leaving, Ok(Some(buffer))) => {
                if let Some(Remainder::Travelling { unread, .. }) = socket.remainder.as_deref_mut() {
                    unread.extend_from_slice(self.ring.bytes(&buffer));
                }
                self.ring.give_back(buffer);
            }
            (_, Ok(Some(buffer))) => self.ring.give_back(buffer),
            (_, Ok(None)) => return self.peer_ended(conn),
            (stage, Err(error)) => match error.raw_os_error() {
                Some(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
                Some(libc::ENOBUFS) => {
                    self.ring.grow_buffers();
                    self.starve(conn);
                }
                _ if matches!(stage, Stage::Ending | Stage::Leaving | Stage::Lost) => {}
                _ => return self.broke(conn),
            },
        }
        self.settle(conn);
        self.steer_reading(conn);
        None
    }

    fn discard(&mut self, result: io::Result<Option<Buffer>>) {
        if let Ok(Some(buffer)) = result {
            self.ring.give_back(buffer);
        }
    }

    fn sent(&mut self, conn: ConnectionId, result: io::Result<()>, output: WireBuffer<P>) -> Option<Event> {
        let socket = self.table.get_mut(conn)?;
        socket.sending = None;
        match socket.stage {
            Stage::Open if result.is_ok() => {
                let mut emptied = output.bytes;
                emptied.clear();
                return Some(Event::Sent { conn, emptied });
            }
            Stage::Open | Stage::Flushing if result.is_err() => return self.broke(conn),
            Stage::Flushing => match socket.remainder.take().map(|remainder| *remainder) {
                Some(Remainder::FinalOutput(output)) => self.start_send(conn, output),
                _ => self.drain(conn),
            },
            Stage::Leaving => match result {
                Ok(()) => self.settle(conn),
                Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => {
                    if let Some(Remainder::Travelling { unsent, .. }) = socket.remainder.as_deref_mut() {
                        *unsent = output.bytes;
                    }
                    self.settle(conn);
                }
                Err(_) => return self.broke(conn),
            },
            _ => self.settle(conn),
        }
        None
    }

    /// The received bytes in `buffer`.
    ///
    /// # Panics
    ///
    /// If the buffer belongs to another shard.
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.ring.bytes(buffer)
    }

    /// Gives a buffer back: its bytes have been processed.
    ///
    /// # Panics
    ///
    /// If the buffer belongs to another shard.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.ring.give_back(buffer);
    }

    /// Whether an output of the connection is being sent. If so, [`send`](Self::send) has to wait for [`Event::Sent`].
    pub fn is_sending(&self, conn: ConnectionId) -> bool {
        self.table.get(conn).is_some_and(|socket| socket.sending.is_some())
    }

    /// Sends `output`, in as many operations as it takes. [`Event::Sent`] follows when all of it has left. The output
    /// is dropped if the connection does not exist any more.
    ///
    /// # Panics
    ///
    /// If an output of the connection is being sent.
    pub fn send(&mut self, conn: ConnectionId, output: WireBuffer<P>) {
        if self.table.get(conn).is_some_and(|socket| socket.stage == Stage::Open) {
            self.start_send(conn, output);
        }
    }

    pub(super) fn start_send(&mut self, conn: ConnectionId, output: WireBuffer<P>) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        assert!(socket.sending.is_none(), "two outputs of one connection at a time");
        socket.sending = Some(self.ring.send(conn, socket.fd.as_fd(), output));
    }

    /// Writes to a file of the journal. One write at a time: the next when all answers to the last one have come, as
    /// [`Event::Journal`]: `Written`, and with [`Sync::Linked`](crate::journal::Sync::Linked) then `Synced`, also if the write failed.
    ///
    /// # Panics
    ///
    /// The last one is not over.
    pub fn write_file(&mut self, file: Arc<File>, write: Write) {
        self.ring.write_file(file, write);
    }

    /// Stops accepting for good. Connections that wait to be accepted are reset.
    pub fn close_listeners(&mut self) {
        self.listeners.close();
    }

    /// Waits for `eventfd` to be raised. One call gives one [`Event::Woken`].
    pub fn watch(&mut self, eventfd: BorrowedFd<'_>) {
        self.ring.watch(eventfd);
    }

    /// Switches the bell on or off: while it is on, completions raise it. After switching it on, call
    /// [`submit`](Self::submit) and look for events once more: completions that came before do not raise it.
    pub fn ring_bell(&mut self, on: bool) {
        self.ring.ring_bell(on);
    }
}
