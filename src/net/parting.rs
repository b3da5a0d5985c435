//! How connections leave a shard: closed by us, ended by the peer, or handed over to another shard.
//!
//! Whichever way, a socket goes only when the last completion of its operations has arrived. See
//! [`Stage`](super::socket::Stage) for the ways.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::time::Duration;

use socket2::SockRef;

use super::output::Output;
use super::ring::MAX_CONNECTIONS;
use super::socket::{Parting, Reading, Socket, Stage};
use super::sockets::{Event, Moving, Sockets};
use crate::client::ConnectionId;
use crate::time::Time;

impl<P: AsRef<[u8]>> Sockets<P> {
    /// Lets go of a connection in order to hand it over; [`Event::Detached`] tells when it is free, or [`Event::Closed`] that it broke.
    /// Nothing else comes from it. What is on its way to the peer and has not left by then goes along: a peer that does not read
    /// holds nobody up.
    pub fn detach(&mut self, conn: ConnectionId) {
        if let Some(socket) = self.table.get_mut(conn).filter(|socket| socket.stage == Stage::Open) {
            socket.stage = Stage::Leaving;
            socket.wanted = Reading::Not;
            socket.parting = Some(Box::new(Parting::Luggage { unread: Vec::new(), unsent: Vec::new() }));
            if let Some(send) = socket.sending {
                self.ring.cancel_send(send);
            }
            self.steer_reading(conn);
            self.settle(conn);
        }
    }

    /// Takes over a connection, and returns its id here with the bytes that arrived while it moved. It is not read before
    /// [`read_continuously`](Self::read_continuously) or [`resume`](Self::resume). Its socket must block. What it was sending is
    /// sent on: see [`is_sending`](Self::is_sending).
    ///
    /// `None` if there are [`MAX_CONNECTIONS`]; the connection is closed then.
    pub fn adopt(&mut self, moving: Moving) -> Option<(ConnectionId, Vec<u8>)> {
        let socket = Socket::new(moving.socket, moving.listener as u16, moving.peer, Reading::Not);
        let conn = self.table.insert(socket, MAX_CONNECTIONS)?;
        if !moving.unsent.is_empty() {
            self.launch(conn, Output::from(moving.unsent));
        }
        Some((conn, moving.unread))
    }

    /// Closes a connection: once what is on its way to the peer, and then `last_words`, have been sent, or after the
    /// [`flush_timeout`](super::sockets::SocketLimits::flush_timeout). No event comes from it any more.
    pub fn close(&mut self, conn: ConnectionId, last_words: Output<P>, now: Time) {
        let Some(socket) = self.table.get_mut(conn).filter(|socket| socket.stage == Stage::Open) else { return };
        self.now = now;
        if socket.sending.is_none() && last_words.is_empty() {
            return self.drain(conn);
        }
        socket.stage = Stage::Flushing;
        self.flushing.push_back((now + self.limits.flush_timeout, conn));
        if socket.sending.is_none() {
            self.launch(conn, last_words);
        } else if !last_words.is_empty() {
            socket.parting = Some(Box::new(Parting::LastWords(last_words)));
        }
    }

    /// The peer sends no more.
    pub(super) fn peer_ended(&mut self, conn: ConnectionId) -> Option<Event> {
        let socket = self.table.get_mut(conn)?;
        socket.ended = true;
        socket.wanted = Reading::Not;
        match socket.stage {
            Stage::Open => return self.broke(conn),
            Stage::Draining => self.end(conn),
            // It may still take what is on its way to it; whoever adopts it will find the end again.
            Stage::Flushing | Stage::Leaving | Stage::Ending => self.settle(conn),
        }
        None
    }

    /// The connection is of no more use.
    pub(super) fn broke(&mut self, conn: ConnectionId) -> Option<Event> {
        let was_ours = matches!(self.table.get(conn)?.stage, Stage::Open | Stage::Leaving);
        self.end(conn);
        was_ours.then_some(Event::Closed { conn })
    }

    /// Everything has been sent: tells the peer, and waits for its side.
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

    /// The peer had its time to take what is for it.
    fn cut_off(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get(conn).filter(|socket| socket.stage == Stage::Flushing) else { return };
        // With a linger time of zero the close is a reset: the kernel keeps nothing for a peer that takes nothing.
        let _ = SockRef::from(&socket.fd).set_linger(Some(Duration::ZERO));
        self.end(conn);
    }

    /// Closes the socket as soon as nothing is outstanding on it, and sees to it that this is soon.
    fn end(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        socket.stage = Stage::Ending;
        socket.wanted = Reading::Not;
        if !socket.is_quiet() {
            // Ends receives and sends; it fails if the connection broke, which ends them as well.
            let _ = SockRef::from(&socket.fd).shutdown(Shutdown::Both);
        }
        self.steer_reading(conn);
        self.settle(conn);
    }

    /// Lets a socket go on whose last completion has arrived.
    pub(super) fn settle(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get(conn).filter(|socket| socket.is_quiet()) else { return };
        if !matches!(socket.stage, Stage::Ending | Stage::Leaving) {
            return;
        }
        let Some(socket) = self.table.remove(conn) else { return };
        self.listeners.relieve();
        let Socket { fd, peer, listener, parting, .. } = socket;
        if socket.stage == Stage::Ending {
            return self.ring.close(fd);
        }
        let (unread, unsent) = match parting.map(|parting| *parting) {
            Some(Parting::Luggage { unread, unsent }) => (unread, unsent),
            _ => (Vec::new(), Vec::new()),
        };
        let moving = Moving { socket: fd, listener: usize::from(listener), peer, unread, unsent };
        self.detached.push_back((conn, moving));
    }

    /// Ends the closing connections whose time is up.
    pub(super) fn end_overdue(&mut self, now: Time) {
        while let Some(conn) = due(&mut self.flushing, now) {
            self.cut_off(conn);
        }
        while let Some(conn) = due(&mut self.lingering, now) {
            self.end(conn);
        }
    }

    /// When the time of the next one is up.
    pub(super) fn next_overdue(&self) -> Time {
        let first =
            |queue: &VecDeque<(Time, ConnectionId)>| queue.front().map_or(Time::NEVER, |(deadline, _)| *deadline);
        first(&self.flushing).min(first(&self.lingering))
    }
}

/// The next whose time is up, out of a queue in the order of time.
fn due(queue: &mut VecDeque<(Time, ConnectionId)>, now: Time) -> Option<ConnectionId> {
    let (deadline, conn) = *queue.front()?;
    (deadline <= now).then(|| {
        queue.pop_front();
        conn
    })
}
