//! What happens to a shard: one way of its door.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::message::ShardMessage;
use super::program::Request;
use crate::archive;
use crate::client::ConnectionId;
use crate::codec::ReasonCode;
use crate::handshake::{AcceptedConnect, PendingConnect};
use crate::hooks::HookAnswer;
use crate::journal;
use crate::memory::MemoryStage;
use crate::migration::SessionTransfer;
use crate::retained::Replay;

/// A session under way to another shard, with what is known of a connection. `S` is what the hooks keep with it.
pub type Transfer<S> = SessionTransfer<S, PendingConnect<S>, Replay>;

/// Something that happens to a shard. `S` is what the hooks keep with a session.
pub enum Input<'a, S> {
    /// A listener accepted a connection. Nothing is sent or called before its CONNECT.
    Accepted {
        /// The connection. No other has its index.
        connection: ConnectionId,
        /// The listener, by its place in the configuration.
        listener: usize,
        /// The far end.
        peer: SocketAddr,
        /// When, by the calendar.
        connected_at: SystemTime,
        /// Whether there is a place for it.
        admission: Admission,
    },
    /// A connection was closed as soon as it was accepted: there was no room for it, not even to refuse it.
    TurnedAway {
        /// The listener, by its place in the configuration.
        listener: usize,
        /// The far end.
        peer: SocketAddr,
    },
    /// Bytes came from a client.
    Received {
        /// Its connection.
        connection: ConnectionId,
        /// The bytes, behind all that came before.
        bytes: &'a [u8],
    },
    /// Everything that was handed over for a connection with [`Output::Send`](super::Output::Send) has left.
    Sent {
        /// The connection.
        connection: ConnectionId,
        /// The buffer it was in, to be used again.
        emptied: Vec<u8>,
    },
    /// The far end closed the connection, or it broke.
    Closed {
        /// The connection.
        connection: ConnectionId,
    },
    /// What the kernel had of a connection when [`Output::Drain`](super::Output::Drain) was taken has been handed in, as far as one read
    /// goes; or the connection is gone.
    Drained {
        /// The connection.
        connection: ConnectionId,
    },
    /// A connection that another shard accepted, and that belongs to a client of this one. The runtime reads from it.
    HandedOff {
        /// Its id on this shard.
        connection: ConnectionId,
        /// Its client, as it left with [`Output::HandOff`](super::Output::HandOff).
        accepted: Box<AcceptedConnect<S>>,
        /// How many bytes are still on their way to the client: [`Input::Sent`] tells when they have left.
        unsent: usize,
        /// Bytes that came for it on the way.
        unread: &'a [u8],
    },
    /// A session has come, as it left with [`Output::Transfer`](super::Output::Transfer).
    Transferred {
        /// Its connection, unless it has none or there was no room for that.
        arrived: Option<ArrivedConnection<'a>>,
        /// The session.
        transfer: Box<Transfer<S>>,
    },
    /// A message from another shard.
    Message {
        /// Which one.
        from: usize,
        /// The message, behind all that this shard sent before.
        message: ShardMessage,
    },
    /// A hook's answer is here, or its future panicked.
    HookAnswered {
        /// The number that [`Output::RunHook`](super::Output::RunHook) gave it.
        task: u64,
        /// The answer.
        answer: Box<HookAnswer>,
    },
    /// The queue to another shard is full, or has room again. While it is full, clients that publish to it are not served.
    Congestion {
        /// That shard.
        to: usize,
        /// Whether it is full.
        congested: bool,
    },
    /// How much work messages are to another shard has changed.
    Cost {
        /// That shard.
        to: usize,
        /// What each is to it, in units of [`TurnLimits`](super::TurnLimits): as much belongs to the share of the client that causes it.
        work: u32,
    },
    /// How near the broker is to holding as much memory as it may has changed.
    Memory(MemoryStage),
    /// The embedding program or an operator asks for something.
    Request(Request),
    /// The embedding program had no room for a message that was handed over with [`Output::Deliver`](super::Output::Deliver).
    Undelivered,
    /// All shards have the sessions that were on disk, and know of each other what these have subscribed to. Comes once, before anybody is
    /// connected.
    Restored,
    /// An effect of [`Output::Journal`](super::Output::Journal) has been carried out, or could not be.
    Journal(journal::Answer),
    /// The desk of the archive has answered what [`Output::Archive`](super::Output::Archive) asked for.
    Archive(archive::Answer),
    /// Time has passed: what is due is done.
    Tick,
    /// An orderly stop begins: every client is told, every will is published, also those of clients that are away, every hook is
    /// called. New clients are refused. [`Output::Stopped`](super::Output::Stopped) follows when that is true of those, too, that were on
    /// their way from another shard, and when the tasks of notifications are done or have been given up.
    Stop,
}

/// Whether there is a place for a new connection. One that has none is served until its CONNECT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has a place, until [`Output::Close`](super::Output::Close).
    Admitted,
    /// The listener or the broker has as many connections as it may have.
    Full,
    /// The listener has accepted as many as it may in this second.
    TooFast,
}

impl Admission {
    /// Why the CONNECT is refused, if it is.
    pub(super) fn refusal(self) -> Option<ReasonCode> {
        match self {
            Admission::Admitted => None,
            Admission::Full => Some(ReasonCode::QuotaExceeded),
            Admission::TooFast => Some(ReasonCode::ConnectionRateExceeded),
        }
    }
}

/// The connection of a session that came from another shard. The runtime does not read from it before
/// [`Output::Resume`](super::Output::Resume).
#[derive(Clone, Copy, Debug)]
pub struct ArrivedConnection<'a> {
    /// Its id on this shard.
    pub connection: ConnectionId,
    /// Bytes that came for it on the way.
    pub unread: &'a [u8],
    /// How many bytes are still on their way to the client: [`Input::Sent`] tells when they have left.
    pub unsent: usize,
}
