//! The socket of one connection: its stage, how it is read, and its outstanding operations.
//!
//! Plain state without I/O; [`Sockets`](super::sockets::Sockets) acts on it.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::output::WireBuffer;
use super::ring::SendNumber;
use crate::client::ConnectionId;
use crate::tables::Chunks;

/// The stage of a socket. Only an open socket gives events.
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
    /// The peer closed it or it broke: it is the core's until the core closes it, or lets it go to another shard.
    Lost,
    /// Closed by the core: its final output is being sent.
    Flushing,
    /// Shut down for writing. Bytes of the peer are dropped until it closes its side. A close with unread bytes would
    /// be a reset, and a reset may destroy output that the peer has not read yet.
    Draining,
    /// Being closed: the last completions are outstanding.
    Ending,
    /// Being handed to another shard: the last completions are outstanding.
    Leaving,
}

/// The way in which a socket is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Not at all.
    Not,
    /// By single receives. Between two of them nothing is outstanding: the socket can be handed over at once.
    Singly,
    /// By one receive that stays outstanding (multishot).
    Continuously,
}

/// The bytes that a socket still has to pass on when it is closed or detached.
#[derive(Debug)]
pub(super) enum Remainder<P> {
    /// Of a closed socket: the output that follows the one that is being sent.
    FinalOutput(WireBuffer<P>),
    /// Of a detached socket, for the next shard: bytes received since, and bytes that were being sent and have not
    /// left.
    Travelling { unread: Vec<u8>, unsent: Vec<u8> },
}

/// The record of one connection. There are as many as connections: keep it to one cache line or so.
#[derive(Debug)]
pub(super) struct Socket<P> {
    pub fd: OwnedFd,
    pub peer: SocketAddr,
    pub remainder: Option<Box<Remainder<P>>>,
    pub listener: u16,
    pub stage: Stage,
    pub wanted: Reading,
    /// The kind of receive that is outstanding.
    pub armed: Reading,
    /// The outstanding receive is being cancelled.
    pub cancelling: bool,
    /// It is in a list of sockets whose receive will be armed.
    pub listed: bool,
    /// The send that is outstanding.
    pub sending: Option<SendNumber>,
    /// The peer has ended its side.
    pub ended: bool,
}

impl<P> Socket<P> {
    /// An open socket with nothing outstanding.
    pub fn new(fd: OwnedFd, listener: u16, peer: SocketAddr, wanted: Reading) -> Self {
        Socket {
            fd,
            peer,
            remainder: None,
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

/// An entry of the table. `generation` is that of its present or next occupant.
#[derive(Debug)]
struct Entry<P> {
    generation: u32,
    occupant: Option<Socket<P>>,
}

/// The sockets by the index of their [`ConnectionId`].
#[derive(Debug)]
pub(super) struct Table<P> {
    entries: Chunks<Entry<P>>,
    free: Chunks<u32>,
}

impl<P> Table<P> {
    /// An empty table.
    pub fn new() -> Self {
        Table { entries: Chunks::new(), free: Chunks::new() }
    }

    /// The number of sockets.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Inserts `socket`, if there are fewer than `limit`.
    pub fn insert(&mut self, socket: Socket<P>, limit: usize) -> Option<ConnectionId> {
        if let Some(index) = self.free.pop() {
            let entry = &mut self.entries[index as usize];
            entry.occupant = Some(socket);
            return Some(ConnectionId::new(index, entry.generation));
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|index| (*index as usize) < limit)?;
        self.entries.push(Entry { generation: 0, occupant: Some(socket) });
        Some(ConnectionId::new(index, 0))
    }

    /// The socket of `conn`. None if the id is stale.
    pub fn get(&self, conn: ConnectionId) -> Option<&Socket<P>> {
        let entry = self.entries.get(conn.index()).filter(|entry| entry.generation == conn.generation())?;
        entry.occupant.as_ref()
    }

    /// The socket of `conn`. None if the id is stale.
    pub fn get_mut(&mut self, conn: ConnectionId) -> Option<&mut Socket<P>> {
        let entry = self.entries.get_mut(conn.index()).filter(|entry| entry.generation == conn.generation())?;
        entry.occupant.as_mut()
    }

    /// Removes the socket of `conn`. The id is stale from here on.
    pub fn remove(&mut self, conn: ConnectionId) -> Option<Socket<P>> {
        let entry = self.entries.get_mut(conn.index()).filter(|entry| entry.generation == conn.generation())?;
        let socket = entry.occupant.take()?;
        entry.generation = entry.generation.wrapping_add(1);
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
        assert!(size_of::<Entry<Vec<u8>>>() <= 64, "{}", size_of::<Entry<Vec<u8>>>());
    }

    #[test]
    fn an_entry_is_reused_and_the_old_id_is_stale() {
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
