//! One connection's socket: its stage, what is to be read from it, and what the ring is doing with it.
//!
//! Plain state without I/O; [`Sockets`](super::sockets::Sockets) acts on it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::output::Output;
use super::ring::SendNumber;
use crate::client::ConnectionId;

/// Where a socket is on its way. Only an open one brings events.
///
/// ```text
///            ┌── peer closed, error ────────────────────────────► Ending ──┐
///   Open ────┼── close ──► Flushing ── all sent ──► Draining ────► Ending ──┼──► free, once nothing is outstanding
///            └── detach ──► Leaving ────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In use by the core.
    Open,
    /// The core is done with it; its last output is on the way.
    Flushing,
    /// The peer was told that no more comes. What it still sends is thrown away until it closes too: a close with unread
    /// bytes would be a reset, and a reset may destroy what the peer has not read yet.
    Draining,
    /// Being closed: waits for the last completions.
    Ending,
    /// Being handed to another shard: waits for the last completions.
    Leaving,
}

/// How a socket is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Not at all.
    Not,
    /// One receive at a time: between two of them nothing is outstanding, and the socket can leave at once.
    Singly,
    /// By one receive that goes on.
    Continuously,
}

/// What a socket that is about to go leaves behind.
#[derive(Debug)]
pub(super) enum Parting<P> {
    /// The output that follows the one in flight.
    LastWords(Output<P>),
    /// For the next shard: what was received after the decision to leave, and what was on its way to the peer and has not left.
    Luggage { unread: Vec<u8>, unsent: Vec<u8> },
}

/// The record of one connection. There are as many as connections: keep it to one cache line or so.
#[derive(Debug)]
pub(super) struct Socket<P> {
    pub fd: OwnedFd,
    pub peer: SocketAddr,
    pub parting: Option<Box<Parting<P>>>,
    pub listener: u16,
    pub stage: Stage,
    pub wanted: Reading,
    /// The receive that is outstanding.
    pub armed: Reading,
    /// That receive is being cancelled.
    pub cancelling: bool,
    /// It is in one of the lists of sockets whose receive is to be armed.
    pub listed: bool,
    /// The send that is outstanding.
    pub sending: Option<SendNumber>,
    /// The peer sends no more.
    pub ended: bool,
}

impl<P> Socket<P> {
    /// An open socket with nothing outstanding.
    pub fn new(fd: OwnedFd, listener: u16, peer: SocketAddr, wanted: Reading) -> Self {
        Socket {
            fd,
            peer,
            parting: None,
            listener,
            stage: Stage::Open,
            wanted,
            armed: Reading::Not,
            cancelling: false,
            listed: false,
            sending: None,
            ended: false,
        }
    }

    /// Whether the kernel has no operation on it.
    pub fn is_quiet(&self) -> bool {
        self.armed == Reading::Not && self.sending.is_none()
    }
}

/// A place of the table, and its present or next tenant's number.
#[derive(Debug)]
struct Place<P> {
    generation: u32,
    tenant: Option<Socket<P>>,
}

/// The sockets by the index of their [`ConnectionId`].
#[derive(Debug)]
pub(super) struct Table<P> {
    places: Vec<Place<P>>,
    free: Vec<u32>,
}

impl<P> Table<P> {
    /// An empty table.
    pub fn new() -> Self {
        Table { places: Vec::new(), free: Vec::new() }
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Gives `socket` a place, if there are fewer than `limit`.
    pub fn insert(&mut self, socket: Socket<P>, limit: usize) -> Option<ConnectionId> {
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.tenant = Some(socket);
            return Some(ConnectionId::new(index, place.generation));
        }
        let index = u32::try_from(self.places.len()).ok().filter(|index| (*index as usize) < limit)?;
        self.places.push(Place { generation: 0, tenant: Some(socket) });
        Some(ConnectionId::new(index, 0))
    }

    /// The socket of `conn`, unless it is gone.
    pub fn get(&self, conn: ConnectionId) -> Option<&Socket<P>> {
        let place = self.places.get(conn.index()).filter(|place| place.generation == conn.generation())?;
        place.tenant.as_ref()
    }

    /// The socket of `conn`, unless it is gone.
    pub fn get_mut(&mut self, conn: ConnectionId) -> Option<&mut Socket<P>> {
        let place = self.places.get_mut(conn.index()).filter(|place| place.generation == conn.generation())?;
        place.tenant.as_mut()
    }

    /// Takes the socket of `conn` out; its id is stale from here on.
    pub fn remove(&mut self, conn: ConnectionId) -> Option<Socket<P>> {
        let place = self.places.get_mut(conn.index()).filter(|place| place.generation == conn.generation())?;
        let socket = place.tenant.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(conn.index() as u32);
        Some(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn socket() -> Socket<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = listener.local_addr().unwrap();
        Socket::new(listener.into(), 0, peer, Reading::Singly)
    }

    #[test]
    fn a_record_stays_small_for_there_is_one_per_connection() {
        assert!(size_of::<Place<Vec<u8>>>() <= 64, "{}", size_of::<Place<Vec<u8>>>());
    }

    #[test]
    fn a_place_is_reused_and_the_old_id_is_stale() {
        let mut table = Table::new();
        let first = table.insert(socket(), 1).unwrap();
        assert!(table.insert(socket(), 1).is_none());
        assert!(table.remove(first).is_some());
        assert!(table.remove(first).is_none());
        let second = table.insert(socket(), 1).unwrap();
        assert_eq!(second.index(), first.index());
        assert!(table.get(first).is_none() && table.get_mut(second).is_some());
        assert_eq!(table.len(), 1);
    }
}
