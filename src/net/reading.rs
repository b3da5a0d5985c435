//! How the sockets of a shard are read: singly, continuously, or not at all.
//!
//! What is wanted of a socket and what the ring is doing with it are two things. The receive is steered towards what is
//! wanted: armed by the next submit, or cancelled.

use std::os::fd::AsFd;

use super::socket::{Reading, Stage};
use super::sockets::Sockets;
use crate::client::ConnectionId;

impl<P: AsRef<[u8]>> Sockets<P> {
    /// Reads the connection by one receive that goes on, instead of single ones.
    pub fn read_continuously(&mut self, conn: ConnectionId) {
        self.read(conn, Reading::Continuously);
    }

    /// Stops reading the connection. What has been received already, and what a single receive under way may bring, is
    /// still delivered.
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

    /// Brings the receive of a socket nearer to what is wanted: lists it to be armed, or cancels it.
    pub(super) fn steer_reading(&mut self, conn: ConnectionId) {
        let Some(socket) = self.table.get_mut(conn) else { return };
        match (socket.armed, socket.wanted) {
            (Reading::Not, Reading::Singly | Reading::Continuously) if !socket.listed => {
                socket.listed = true;
                self.to_arm.push(conn);
            }
            // A single receive of an open socket may as well bring what it brings.
            (Reading::Singly, Reading::Not) if socket.stage == Stage::Open => {}
            (Reading::Singly | Reading::Continuously, Reading::Not) if !socket.cancelling => {
                socket.cancelling = true;
                self.ring.cancel_receive(conn);
            }
            _ => {}
        }
    }

    /// Its receive found no buffer.
    pub(super) fn starve(&mut self, conn: ConnectionId) {
        if let Some(socket) = self.table.get_mut(conn).filter(|socket| !socket.listed) {
            socket.listed = true;
            self.starved.push_back(conn);
        }
    }

    /// Arms the receives that are to be, those that starved as far as there are buffers.
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
