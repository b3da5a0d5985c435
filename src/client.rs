//! Who a client is, and the reasons for which connections and sessions end and messages are dropped: what hooks, sessions and shards
//! all speak of.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::codec::{ProtocolVersion, ReasonCode};
use crate::config::StoredDurability;

/// What counts of an address where each client has an account. A host of IPv6 has as many addresses as it likes: its network counts, /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address => address,
    }
}

/// The identity of a session: mountpoint and client id. Two mountpoints never see each other.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId {
    /// The namespace of the client: its topics, retained messages and client ids. Empty is the default one.
    pub mountpoint: Arc<str>,
    /// The client id, as sent, assigned, or settled by a hook.
    pub client_id: Arc<str>,
}

impl SubscriberId {
    /// The subscriber `client_id` of `mountpoint`.
    pub fn new(mountpoint: impl Into<Arc<str>>, client_id: impl Into<Arc<str>>) -> Self {
        SubscriberId { mountpoint: mountpoint.into(), client_id: client_id.into() }
    }
}

/// Client id, or mountpoint:client id, for people: on one line.
impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.mountpoint.is_empty() {
            write!(f, "{}:", OneLine(&self.mountpoint))?;
        }
        OneLine(&self.client_id).fmt(f)
    }
}

/// Text that clients choose, for people: what would break a line, or move or colour a terminal, is escaped.
pub(crate) struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => write!(f, "{}", character.escape_unicode()),
            character if character.is_control() => write!(f, "{}", character.escape_default()),
            character => f.write_char(character),
        })
    }
}

impl fmt::Debug for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// One network connection, as the shard that serves it names it. Another shard's connection may have the same id.
///
/// The index is that of a reused place in a table; the generation tells its occupants apart, so an id that outlived its
/// connection is recognised as stale instead of meaning a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(hidden)]
pub struct ConnectionId {
    index: u32,
    generation: u32,
}

impl ConnectionId {
    /// Occupant number `generation` of place `index`.
    pub const fn new(index: u32, generation: u32) -> Self {
        ConnectionId { index, generation }
    }

    /// The place in the shard's tables. Small and dense: fit to index an array with.
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// Which occupant of that place it is.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// What is known of a client, handed to every hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Mountpoint and client id. Before they are settled (`on_auth_m5` of a client without an id) the client id is empty.
    pub subscriber: SubscriberId,
    /// The far end of the network connection.
    pub peer: SocketAddr,
    /// The name of the listener that accepted it.
    pub listener: Arc<str>,
    /// The protocol version it speaks.
    pub version: ProtocolVersion,
    /// The user name of its CONNECT, or the one a hook put in its place.
    pub username: Option<Arc<str>>,
    /// The certificate it showed in the TLS handshake, DER-encoded; none on a plain connection.
    pub certificate: Option<Arc<[u8]>>,
    /// When its network connection was accepted.
    pub connected_at: SystemTime,
    /// Rises with every connection of this subscriber id, so that whoever hears of two of them knows which came later. 0 in
    /// the hooks that are asked before the client is registered.
    pub session_number: u64,
}

/// What is asked about the session of a client, or done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum SessionAction {
    /// To say how it is.
    Find,
    /// To end its connection.
    Disconnect {
        /// And the session.
        cleanup: bool,
    },
}

/// An action on the session of a client, on its way to the shard that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct SessionRequest {
    /// What is to be done.
    pub action: SessionAction,
    /// Who is to be answered; nobody if it is none.
    pub asked_by: Option<Asker>,
}

/// Who asked: a shard, and its number for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct Asker {
    /// The shard.
    pub shard: usize,
    /// Its number for the question.
    pub ticket: u64,
}

/// A session as an operator sees it: how it was when the request came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct SessionFound {
    /// Its client: of the connection it has, or of its last one.
    pub client: Client,
    /// Whether the client is connected.
    pub is_connected: bool,
    /// Whether the session is kept when the connection ends.
    pub is_kept: bool,
    /// What is stored of the session; "none" if nothing is, be it that there is no store.
    pub durability: StoredDurability,
    /// Topic filters that it subscribes to.
    pub subscriptions: usize,
    /// Messages that wait for the client.
    pub queued: usize,
    /// The size of their topics, payloads and properties, in bytes.
    pub queued_bytes: usize,
    /// Messages that were sent to the client and are not acknowledged.
    pub in_flight: usize,
    /// The memory of the session with its subscriptions and messages, in bytes. Messages that others hold, too, count in full.
    pub memory: usize,
}

impl SubscriberId {
    /// The bytes of its texts.
    pub(crate) fn size(&self) -> usize {
        self.mountpoint.len() + self.client_id.len()
    }
}

impl Client {
    /// The bytes of its texts, and of its certificate.
    pub(crate) fn size(&self) -> usize {
        let username = self.username.as_ref().map_or(0, |name| name.len());
        let certificate = self.certificate.as_ref().map_or(0, |certificate| certificate.len());
        self.subscriber.size() + self.listener.len() + username + certificate
    }

    /// A client of the default mountpoint, as one would connect from this machine: for tests of hooks, which change what
    /// matters to them.
    pub fn new(client_id: impl Into<Arc<str>>, version: ProtocolVersion) -> Self {
        Client {
            subscriber: SubscriberId::new("", client_id),
            peer: SocketAddr::from(([127, 0, 0, 1], 1883)),
            listener: "default".into(),
            version,
            username: None,
            certificate: None,
            connected_at: SystemTime::UNIX_EPOCH,
            session_number: 0,
        }
    }
}

/// Why a connection ended: what `on_client_offline` and `on_client_gone` are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client sent DISCONNECT, with this reason code (v3: [`ReasonCode::Success`]).
    ClientDisconnect(ReasonCode),
    /// The network connection was closed or broke without a DISCONNECT.
    ConnectionLost,
    /// Nothing came from the client for one and a half times its keep-alive.
    KeepAlive,
    /// Another connection registered the same subscriber id.
    TakenOver,
    /// The client broke the protocol, with this reason code.
    ProtocolError(ReasonCode),
    /// A publish of the client was refused and it is to be disconnected for that.
    NotAuthorized,
    /// A hook panicked or did not answer in time.
    HookFailure,
    /// A rate or quota was exceeded, with this reason code.
    Quota(ReasonCode),
    /// An operator or the embedding program ended it.
    Admin,
    /// It lived as long as a connection may.
    MaximumLifetime,
    /// The broker stops.
    ServerShutdown,
    /// The broker has died, and the session was on disk.
    ServerCrash,
}

impl EndReason {
    /// Whether the client or the operator of the broker wanted it so, and nothing went wrong: what nobody needs to be told of.
    #[doc(hidden)]
    pub fn is_ordinary(self) -> bool {
        match self {
            EndReason::ClientDisconnect(code) => (code as u8) < 0x80,
            EndReason::ServerShutdown | EndReason::ServerCrash => true,
            _ => false,
        }
    }
}

/// For operators: what happened, as the end of "connection closed: ".
impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = |f: &mut fmt::Formatter<'_>, what: &str, code: ReasonCode| {
            write!(f, "{what}, {code} ({:#04X})", code as u8)
        };
        match *self {
            EndReason::ClientDisconnect(ReasonCode::Success) => f.write_str("the client disconnected"),
            EndReason::ClientDisconnect(code) => with(f, "the client disconnected", code),
            EndReason::ConnectionLost => f.write_str("the client closed it without DISCONNECT, or it broke"),
            EndReason::KeepAlive => f.write_str("nothing came from the client for one and a half times its keep-alive"),
            EndReason::TakenOver => f.write_str("another connection took over the client id"),
            EndReason::ProtocolError(code) => with(f, "the client broke the protocol", code),
            EndReason::NotAuthorized => f.write_str("not authorized"),
            EndReason::HookFailure => f.write_str("a hook failed or did not answer in time"),
            EndReason::Quota(code) => with(f, "a limit was exceeded", code),
            EndReason::Admin => f.write_str("an operator or the embedding program ended it"),
            EndReason::MaximumLifetime => f.write_str("it lived as long as max_connection_lifetime allows"),
            EndReason::ServerShutdown => f.write_str("the broker stops"),
            EndReason::ServerCrash => f.write_str("the broker had died"),
        }
    }
}

/// A line of the log about a client, at a level: with its address, client id, user name and listener. Clients choose their
/// names: what would break a line is escaped.
macro_rules! log_client {
    ($level:ident, $client:expr, $($rest:tt)+) => {
        tracing::$level!(
            peer = %$client.peer,
            client = %$client.subscriber,
            user = $client.username.as_deref(),
            listener = &*$client.listener,
            $($rest)+
        )
    };
}
pub(crate) use log_client;

/// Why a kept session ended while its client was offline: what `on_session_expired` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiredReason {
    /// Its session expiry interval ran out.
    Expiry,
    /// The client came back and asked for a clean start.
    CleanStart,
    /// An operator or the embedding program removed it.
    Admin,
    /// `max_sessions` was reached, and it made room for another client.
    Limit,
}

/// Why a message was not delivered to one subscriber: what `on_message_drop` is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The online or offline queue was full, by messages or by bytes.
    QueueFull,
    /// Its message expiry interval ran out before it could be sent.
    Expired,
    /// It is larger than the client's Maximum Packet Size.
    PacketTooLarge,
    /// The session it waited in ended.
    SessionEnded,
    /// It was published, or subscribed to, at QoS 0 and the client is offline.
    OfflineQos0,
    /// It was QoS 0 and the client does not read what it is sent.
    SlowConsumer,
}

impl DropReason {
    /// Every reason, in the order of the counters.
    pub const ALL: [DropReason; 6] = [
        DropReason::QueueFull,
        DropReason::Expired,
        DropReason::PacketTooLarge,
        DropReason::SessionEnded,
        DropReason::OfflineQos0,
        DropReason::SlowConsumer,
    ];

    /// The name under which operators see it, in `$SYS` and in logs.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::QueueFull => "queue_full",
            DropReason::Expired => "expired",
            DropReason::PacketTooLarge => "packet_too_large",
            DropReason::SessionEnded => "session_ended",
            DropReason::OfflineQos0 => "offline_qos0",
            DropReason::SlowConsumer => "slow_consumer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_said_with_their_code() {
        let said = EndReason::ProtocolError(ReasonCode::PacketTooLarge).to_string();
        assert_eq!(said, "the client broke the protocol, Packet too large (0x95)");
        assert_eq!(EndReason::ClientDisconnect(ReasonCode::Success).to_string(), "the client disconnected");
    }

    #[test]
    fn what_a_client_wanted_is_ordinary() {
        use EndReason::*;
        let ordinary =
            [ClientDisconnect(ReasonCode::Success), ClientDisconnect(ReasonCode::DisconnectWithWill), ServerShutdown];
        assert!(ordinary.into_iter().all(EndReason::is_ordinary));
        let others = [ClientDisconnect(ReasonCode::MalformedPacket), ConnectionLost, KeepAlive, TakenOver, Admin];
        assert!(!others.into_iter().any(EndReason::is_ordinary));
    }

    #[test]
    fn a_client_id_is_one_line_whatever_is_in_it() {
        let shown = |mountpoint: &str, client_id: &str| SubscriberId::new(mountpoint, client_id).to_string();
        assert_eq!(shown("", "ann"), "ann");
        assert_eq!(shown("m\t", "ann"), "m\\t:ann");
        assert_eq!(shown("m", "Büro \"7\""), "m:Büro \"7\"");
        assert_eq!(shown("", "a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
    }
}
