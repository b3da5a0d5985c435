//! The reading of sockets: by single receives, continuously, or not at all.
//!
//! A socket records the way in which it should be read (`wanted`) and the receive that is outstanding (`armed`). The
//! second is steered towards the first: a receive is armed by the next submit, or cancelled.

use std::os::fd::AsFd;

use rustix::net::RecvFlags;

use super::socket::{Reading, Stage};
use super::sockets::Sockets;
use crate::client::ConnectionId;

/// Most bytes that are read at once of a connection that is not read.
const READ_NOW: usize = 64 * 1024;

impl<P: AsRef<[u8]>> Sockets<P> {
    /// Reads the connection by one receive that stays outstanding, instead of single receives.
    pub fn read_continuously(&mut self, conn: ConnectionId) {
        self.read(conn, Reading::Continuously);
    }

    /// Stops reading the connection. Bytes received already, and those of an outstanding single receive, are still
    /// delivered.
    pub fn pause(&mut self, conn: ConnectionId) {
        self.read(conn, Reading::Not);
    }

    /// Reads a paused connection again, continuously.
    pub fn resume(&mut self, conn: ConnectionId) {
        self.read(conn, Reading::Continuously);
    }

    fn read(&mut self, conn: ConnectionId, wanted: Reading) {
        if let Some(socket) = self.table.get_mut(conn).filter(|socket| socket.stage == Stage::Open) {
            socket.wanted = wanted;
            self.steer_reading(conn);
        }
    }

    /// Reads what the kernel has of a connection that the ring does not read, without waiting: a paused one, say. What the ring reads has
    /// come as events.
    pub fn read_now(&mut self, conn: ConnectionId) -> Option<Vec<u8>> {
        let socket = self.table.get(conn)?;
        if socket.stage != Stage::Open || socket.armed != Reading::Not {
            return None;
        }
        let mut bytes = vec![0; READ_NOW];
        let count = rustix::net::recv(&socket.fd, &mut bytes[..], RecvFlags::DONTWAIT).ok()?.0;
        bytes.truncate(count);
        (count > 0).then_some(bytes)
    }

    /// Steers the receive of a socket: lists the socket to be armed, or cancels its receive.
    pub(super) fn steer_reading(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        match (socket.armed, socket.wanted) {
            (Reading::Not, Reading::Singly | Reading::Continuously) if !socket.listed => {
                socket.listed = true;
                self.to_arm.push(conn);
            }
            // A single receive of an open socket is left to complete: its bytes are delivered.
            (Reading::Singly, Reading::Not) if socket.stage == Stage::Open => {}
            (Reading::Singly | Reading::Continuously, Reading::Not) if !socket.cancelling => {
                socket.cancelling = true;
                self.ring.cancel_receive(conn);
            }
            _ => {}
        }
    }

    /// Lists a socket whose receive found no buffer.
    pub(super) fn starve(&mut self, conn: ConnectionId) {
        if let Some(socket) = self.table.get_mut(conn).filter(|socket| !socket.listed) {
            socket.listed = true;
            self.starved.push_back(conn);
        }
    }

    /// Arms the receives of the listed sockets; of those that found no buffer, as many as there are buffers now.
    pub(super) fn arm_receives(&mut self) {
        let mut to_arm = std::mem::take(&mut self.to_arm);
        let fed = self.starved.len().min(self.ring.free_buffers());
        for conn in self.starved.drain(..fed).chain(to_arm.drain(..)) {
            let Some(socket) = self.table.get_mut(conn) else { continue };
            socket.listed = false;
            if socket.armed != Reading::Not {
                continue;
            }
            match socket.wanted {
                Reading::Not => continue,
                Reading::Singly => self.ring.receive_once(conn, socket.fd.as_fd()),
                Reading::Continuously => self.ring.receive_many(conn, socket.fd.as_fd()),
            }
            socket.armed = socket.wanted;
        }
        self.to_arm = to_arm;
    }
}
