//! The end of a connection on a shard: closed by the broker, ended by the peer, or handed over to another shard.
//!
//! In each case the socket is let go only when the last completion of its operations has arrived. The stages are those
//! of [`Stage`](super::socket::Stage).

use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::output::WireBuffer;
use super::ring::MAX_CONNECTIONS;
use super::socket::{Reading, Remainder, Socket, Stage};
use super::sockets::{DetachedSocket, Event, Sockets};
use crate::client::ConnectionId;
use crate::time::Time;

/// Sockets that are closed at a time. If very many clients leave at once, those that stay are served in between.
const CLOSED_AT_A_TIME: usize = 16;

impl<P: AsRef<[u8]>> Sockets<P> {
    /// Detaches a connection, to hand it over to another shard. [`Event::Detached`] follows when nothing is outstanding
    /// on its socket; there are no other events of it. Output that has not left by then travels with the socket, so a peer
    /// that does not read delays nobody. So does a socket that the peer has closed, or that broke: what came before is still
    /// to be served, and whoever adopts it finds the end again.
    pub fn detach(&mut self, conn: ConnectionId) {
        let can_leave = |socket: &&mut Socket<P>| matches!(socket.stage, Stage::Open | Stage::Lost);
        if let Some(socket) = self.table.get_mut(conn).filter(can_leave) {
            socket.stage = Stage::Leaving;
            socket.wanted = Reading::Not;
            socket.remainder = Some(Box::new(Remainder::Travelling { unread: Vec::new(), unsent: Vec::new() }));
            if let Some(send) = socket.sending {
                self.ring.cancel_send(send);
            }
            self.steer_reading(conn);
            self.settle(conn);
        }
    }

    /// Adopts a detached socket. Returns its id on this shard and the bytes that arrived while it moved. It is not read
    /// before [`read_continuously`](Self::read_continuously) or [`resume`](Self::resume). Its socket must be a blocking
    /// one. Its unsent output is sent at once: see [`is_sending`](Self::is_sending).
    ///
    /// `None` if there are [`MAX_CONNECTIONS`] already. The connection is closed then.
    pub fn adopt(&mut self, detached: DetachedSocket) -> Option<(ConnectionId, Vec<u8>)> {
        let socket = Socket::new(detached.fd, detached.listener as u16, detached.peer, Reading::Not);
        let Some(conn) = self.table.insert(socket, MAX_CONNECTIONS) else {
            self.give_place_back();
            return None;
        };
        if !detached.unsent.is_empty() {
            self.start_send(conn, WireBuffer::from(detached.unsent));
        }
        Some((conn, detached.unread))
    }

    /// Closes a connection: when the output that is being sent and then `final_output` have left, or after the
    /// [`flush_timeout`](super::sockets::SocketLimits::flush_timeout). No event of it follows.
    pub fn close(&mut self, conn: ConnectionId, final_output: WireBuffer<P>, now: Time) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        match socket.stage {
            Stage::Open => {}
            Stage::Lost => return self.end(conn),
            _ => return,
        }
        self.now = now;
        if socket.sending.is_none() && final_output.is_empty() {
            return self.drain(conn);
        }
        socket.stage = Stage::Flushing;
        self.flushing.push_back((now + self.limits.flush_timeout, conn));
        if socket.sending.is_none() {
            self.start_send(conn, final_output);
        } else if !final_output.is_empty() {
            socket.remainder = Some(Box::new(Remainder::FinalOutput(final_output)));
        }
    }

    /// Closes a connection at once, without its output. No event of it follows.
    pub fn abort(&mut self, conn: ConnectionId) {
        self.end(conn);
    }

    /// Handles the end of the peer's side.
    pub(super) fn peer_ended(&mut self, conn: ConnectionId) -> Option<Event> {
        let socket = self.table.get_mut(conn)?;
        socket.ended = true;
        socket.wanted = Reading::Not;
        match socket.stage {
            Stage::Open => return self.broke(conn),
            Stage::Draining => self.end(conn),
            // The peer may still take output that is being sent. A shard that adopts the socket finds this end again.
            Stage::Flushing | Stage::Leaving | Stage::Ending | Stage::Lost => self.settle(conn),
        }
        None
    }

    /// Ends a connection that broke. Its id is the core's until the core closes it.
    pub(super) fn broke(&mut self, conn: ConnectionId) -> Option<Event> {
        match self.table.get(conn)?.stage {
            Stage::Open => {
                self.stop(conn, Stage::Lost);
                return Some(Event::Closed { conn });
            }
            Stage::Lost => {}
            Stage::Leaving => {
                self.stop(conn, Stage::Leaving);
                self.settle(conn);
            }
            _ => self.end(conn),
        }
        None
    }

    /// Shuts the socket down for writing, after all output, and waits for the peer to close its side.
    pub(super) fn drain(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        if socket.ended || SockRef::from(&socket.fd).shutdown(Shutdown::Write).is_err() {
            return self.end(conn);
        }
        socket.stage = Stage::Draining;
        socket.wanted = Reading::Continuously;
        self.lingering.push_back((self.now + self.limits.linger, conn));
        self.steer_reading(conn);
    }

    /// Resets a flushing connection whose peer did not take its output in time.
    fn cut_off(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get(conn).filter(|socket| socket.stage == Stage::Flushing) else { return };
        // With a linger time of zero the close is a reset: the kernel keeps nothing for a peer that takes nothing.
        let _ = SockRef::from(&socket.fd).set_linger(Some(Duration::ZERO));
        self.end(conn);
    }

    /// Closes the socket when nothing is outstanding on it, and ends what is outstanding.
    fn end(&mut self, conn: ConnectionId) {
        self.stop(conn, Stage::Ending);
        self.settle(conn);
    }

    /// Ends what is outstanding on the socket.
    fn stop(&mut self, conn: ConnectionId, stage: Stage) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        socket.stage = stage;
        socket.wanted = Reading::Not;
        if !socket.is_quiet() {
            // It ends receives and sends. It fails if the connection is broken, but then they have ended already.
            let _ = SockRef::from(&socket.fd).shutdown(Shutdown::Both);
        }
        self.steer_reading(conn);
    }

    /// Closes a socket, or hands it out as detached, if its last completion has arrived.
    pub(super) fn settle(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get(conn).filter(|socket| socket.is_quiet()) else { return };
        if !matches!(socket.stage, Stage::Ending | Stage::Leaving) {
            return;
        }
        let Some(socket) = self.table.remove(conn) else { return };
        self.listeners.relieve();
        let Socket { fd, peer, listener, remainder, .. } = socket;
        if socket.stage == Stage::Ending {
            return self.to_close.push_back(fd);
        }
        let (unread, unsent) = match remainder.map(|remainder| *remainder) {
            Some(Remainder::Travelling { unread, unsent }) => (unread, unsent),
            _ => (Vec::new(), Vec::new()),
        };
        let detached = DetachedSocket { fd, listener: usize::from(listener), peer, unread, unsent };
        self.detached.push_back((conn, detached));
    }

    /// Closes some of the sockets on which nothing is outstanding. To the kernel each is as much work as many packets, which wait behind it.
    pub(super) fn close_some(&mut self) {
        for _ in 0..CLOSED_AT_A_TIME {
            if !self.close_one() {
                break;
            }
        }
    }

    /// Closes one of them, whose place may be taken then. False if there is none.
    pub(super) fn close_one(&mut self) -> bool {
        let Some(fd) = self.to_close.pop_front() else { return false };
        self.ring.close(fd);
        self.give_place_back();
        true
    }

    /// Ends the flushing and draining connections whose deadlines have passed.
    pub(super) fn end_overdue(&mut self, now: Time) {
        while let Some(conn) = due(&mut self.flushing, now) {
            self.cut_off(conn);
        }
        while let Some(conn) = due(&mut self.lingering, now) {
            self.end(conn);
        }
    }

    /// The next of these deadlines.
    pub(super) fn next_overdue(&self) -> Time {
        let first =
            |queue: &VecDeque<(Time, ConnectionId)>| queue.front().map_or(Time::NEVER, |(deadline, _)| *deadline);
        first(&self.flushing).min(first(&self.lingering))
    }
}

/// The next connection whose deadline has passed, taken out of a queue that is ordered by deadline.
fn due(queue: &mut VecDeque<(Time, ConnectionId)>, now: Time) -> Option<ConnectionId> {
    let (deadline, conn) = *queue.front()?;
    (deadline <= now).then(|| {
        queue.pop_front();
        conn
    })
}
