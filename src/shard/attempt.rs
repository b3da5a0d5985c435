//! Clients between CONNECT and their session: an [`Attempt`] while others decide on it, an [`Arrival`] when all have accepted.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::client::Client;
use crate::codec::{Connect, DecodeError, Packet, ProtocolVersion, ReasonCode, Sender, Split, decode, split};
use crate::hooks::{AuthSuccess, RegisterModifiersM5};
use crate::session::{SessionSettings, Will};
use crate::time::Time;

/// Which question is being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `on_auth_m5`.
    Authenticate,
    /// Nothing: the client is to send AUTH.
    AwaitAuth,
    /// `auth_on_register`.
    Register,
    /// `auth_on_publish` for the will.
    Will,
}

/// A client that is connecting. `S` is what the hooks keep for it.
pub struct Attempt<S> {
    /// Its CONNECT, whole.
    pub(super) frame: Vec<u8>,
    pub(super) client: Client,
    pub(super) state: S,
    pub(super) step: Step,
    /// The hook that answers later: its task and link. And the AUTH it was asked about, if it was one.
    pub(super) waiting: Option<(u64, usize)>,
    pub(super) auth_frame: Vec<u8>,
    pub(super) auth: Option<AuthSuccess>,
    pub(super) modifiers: RegisterModifiersM5,
    pub(super) assigned_id: bool,
    pub(super) will: Option<Will>,
    /// Until when it must have come to an end, while nothing but the client is waited for.
    pub(super) due: Time,
}

/// A client that was accepted, on its way to the shard that owns it.
pub struct Arrival<S> {
    pub(super) frame: Vec<u8>,
    pub(super) client: Client,
    pub(super) state: S,
    pub(super) auth: Option<AuthSuccess>,
    pub(super) modifiers: RegisterModifiersM5,
    pub(super) assigned_id: bool,
    pub(super) will: Option<Will>,
    pub(super) clean_start: bool,
    pub(super) terms: SessionSettings,
    /// Bytes behind the CONNECT.
    pub(super) unread: Vec<u8>,
    pub(super) listener: usize,
    pub(super) connected_at: SystemTime,
}

impl<S> Arrival<S> {
    /// The far end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.client.peer
    }

    /// The listener that accepted it, by its place in the configuration.
    pub fn listener(&self) -> usize {
        self.listener
    }
}

/// The CONNECT in `frame`, which was decoded once before.
pub(super) fn decoded(frame: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let malformed = DecodeError { code: ReasonCode::MalformedPacket, what: "not a CONNECT" };
    let Split::Frame(frame) = split(frame, frame.len())? else { return Err(malformed) };
    match decode(frame, ProtocolVersion::V5, Sender::Client)? {
        Packet::Connect(connect) => Ok(connect),
        _ => Err(DecodeError { code: ReasonCode::ProtocolError, what: "the first packet is not a CONNECT" }),
    }
}
