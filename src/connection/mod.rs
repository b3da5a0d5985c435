//! One network connection, as the protocol sees it.
//!
//! Owns: the bytes that came and are not served yet, the bytes that are to go out, the stage of the connection, topic
//! aliases. Never routes, never calls a hook, never knows a session but by its key.
//!
//! ```text
//!            CONNECT                 accepted by the hooks               registered
//!  Opening ──────────► Connecting ──────────────────────────► (owner) ──────────────► Connected ──► closed
//!                       │  ▲ answers, AUTH
//!                       ▼  │
//!                     waiting
//! ```

mod aliases;
mod outbox;
mod pace;
mod patience;
mod pauses;
mod spares;
mod table;
mod unaccepted;
mod unread;
mod violation;

use std::net::SocketAddr;
use std::time::SystemTime;

pub use aliases::{AliasesIn, AliasesOut, OutgoingAlias};
pub use outbox::{Outbox, SPLICE_FROM, SendBuffer, Splice, SplicedPart};
pub use pace::Pace;
pub use patience::{Progress, SecondLook};
pub use pauses::{PauseReason, PauseReasons};
pub use spares::Spares;
pub use table::{Connections, Writable};
pub use unaccepted::Unaccepted;
pub use unread::Unread;
pub use violation::{Violation, code_for};

use crate::client::ConnectionId;
use crate::codec::{ProtocolVersion, ReasonCode};
use crate::credit::Credit;
use crate::memory::{Held, MemoryKind, allocated};
use crate::time::Time;

/// One connection; a shard holds one for each socket. `A` is what is known of a client that is still connecting.
// In this order, what a delivery and an acknowledgement look at lies together, at the beginning.
#[repr(C)]
pub struct Connection<A> {
    /// Which connection of the shard this is.
    pub id: ConnectionId,
    /// Whether it is on the list of connections whose output the runtime is to take.
    pub is_queued_for_output: bool,
    /// Why its packets are not being served at the moment.
    pub pauses: PauseReasons,
    /// Whether the runtime was asked not to read from it.
    pub reading_stopped: bool,
    /// Whether the far end has closed it; what it sent before that is still to be served.
    pub is_lost: bool,
    /// Bytes that go out with the next flush.
    pub outbox: Outbox,
    /// When the last bytes came.
    pub last_heard: Time,
    /// Its stage.
    pub stage: ConnectionStage<A>,
    /// Bytes that came and are not served yet.
    pub unread: Unread,
    /// The listener that accepted it, by its place in the configuration.
    pub listener: usize,
    /// The far end.
    pub peer: SocketAddr,
    /// When it was accepted, by the calendar.
    pub connected_at: SystemTime,
    /// Why its CONNECT will be refused, if that is clear already: the listener is full, or too many come at once.
    pub refused: Option<ReasonCode>,
    /// For how many clients it waits while there is [`PauseReason::SlowConsumer`].
    pub consumers: u32,
    /// For how many clients it waits without end.
    pub lossless_consumers: u32,
    /// How long it may still be made to wait for them.
    pub hold_credit: Credit,
    /// Until when its client counts as one that asks for a lot.
    pub busy_until: Time,
    /// Until when [`PauseReason::Throttle`] lasts.
    pub throttled_until: Time,
    /// Until when [`PauseReason::SlowConsumer`] lasts at most.
    pub held_until: Time,
    /// While there is [`PauseReason::Memory`]: when it is to be looked at. When that has come one PUBLISH may pass.
    pub memory_look: Time,
    /// What its client published last, or last while messages to very many were under way, went to very many: see `delivery::fan_out`.
    pub publishes_to_many: bool,
    /// What its client published last, or last while wills waited, waits behind one: see `publishing::due_wills`.
    pub publishes_behind_wills: bool,
    /// Whether it is in line for a share of a turn in which more of what waits for its client is sent.
    pub waits_to_send: bool,
    /// The bytes of the packets that its client is not accepted for yet: its CONNECT, and AUTH.
    pub request_bytes: usize,
    /// The bytes that count for it in [`Unaccepted`].
    pub unaccepted_bytes: usize,
    /// How fast the packet comes that has begun, if there is one.
    pub progress: Progress,
    /// The second look at it, if the first one came late.
    pub second_look: SecondLook,
    /// Its memory, but for what its parts count themselves.
    pub held: Held<{ MemoryKind::Connections as u8 }>,
}

/// About what the socket of a connection takes, in bytes, with the places in tables that are its.
const SOCKET: usize = 256;

/// The stage of a connection.
pub enum ConnectionStage<A> {
    /// Its CONNECT is not complete.
    Opening {
        /// By when it must be complete.
        due: Time,
    },
    /// The CONNECT is complete: hooks or an exchange of AUTH packets decide on it, or it was accepted and waits for its session.
    Connecting(Box<A>),
    /// It belongs to a session.
    Connected(Connected),
}

impl<A> Connection<A> {
    /// A connection that was just accepted, by the listener at this place in the configuration.
    pub fn new(id: ConnectionId, listener: usize, peer: SocketAddr, connected_at: SystemTime, now: Time) -> Self {
        Connection {
            id,
            is_queued_for_output: false,
            pauses: PauseReasons::default(),
            reading_stopped: false,
            is_lost: false,
            outbox: Outbox::default(),
            last_heard: now,
            stage: ConnectionStage::Opening { due: Time::NEVER },
            unread: Unread::default(),
            listener,
            peer,
            connected_at,
            refused: None,
            consumers: 0,
            lossless_consumers: 0,
            hold_credit: Credit::default(),
            publishes_to_many: false,
            publishes_behind_wills: false,
            waits_to_send: false,
            busy_until: Time::ZERO,
            throttled_until: Time::ZERO,
            held_until: Time::NEVER,
            memory_look: Time::NEVER,
            request_bytes: 0,
            unaccepted_bytes: 0,
            progress: Progress::default(),
            second_look: SecondLook::default(),
            held: Held::new(allocated(size_of::<Self>()) + SOCKET),
        }
    }

    /// Has come from another shard, where it is `id` and its session is at place `session`. `unread` came for it on the way, `unsent`
    /// bytes are still on their way to the client, and the runtime does not read from it.
    pub fn arrive(&mut self, id: ConnectionId, session: u32, unread: &[u8], unsent: usize) {
        self.id = id;
        self.is_queued_for_output = false;
        self.outbox.still_sending(unsent);
        self.pauses.keep_across_shards();
        (self.consumers, self.lossless_consumers) = (0, 0);
        self.memory_look = Time::NEVER;
        self.waits_to_send = false;
        self.reading_stopped = true;
        self.unread.push(unread);
        if let ConnectionStage::Connected(connected) = &mut self.stage {
            connected.session = session;
        }
    }

    /// Counts the memory of the packets that its client is not accepted for yet.
    fn count_request(&mut self) {
        self.held.set(allocated(size_of::<Self>()) + SOCKET + self.request_bytes);
    }

    /// The session it belongs to, by its place in the table of the shard; none before it is connected.
    pub fn session(&self) -> Option<u32> {
        match &self.stage {
            ConnectionStage::Connected(connected) => Some(connected.session),
            ConnectionStage::Opening { .. } | ConnectionStage::Connecting(_) => None,
        }
    }

    /// The state of a connection that belongs to a session.
    #[inline]
    pub fn connected_mut(&mut self) -> Option<&mut Connected> {
        match &mut self.stage {
            ConnectionStage::Connected(connected) => Some(connected),
            ConnectionStage::Opening { .. } | ConnectionStage::Connecting(_) => None,
        }
    }

    /// Whether the last link of every conditional chain accepts what no hook has decided on for its client.
    pub fn allows_anonymous(&self) -> bool {
        matches!(&self.stage, ConnectionStage::Connected(connected) if connected.allows_anonymous)
    }

    /// Whether it waits for an answer from this shard.
    pub fn is_pending(&self) -> bool {
        match &self.stage {
            ConnectionStage::Connected(connected) => connected.pending.is_some(),
            ConnectionStage::Opening { .. } | ConnectionStage::Connecting(_) => true,
        }
    }
}

/// A connection that belongs to a session.
// In this order, what every delivery looks at comes first, next to the outbox.
#[repr(C)]
pub struct Connected {
    /// The session, by its place in the table of the shard.
    pub session: u32,
    /// The version the client speaks.
    pub version: ProtocolVersion,
    /// Largest packet that is taken from it, in bytes.
    pub maximum_incoming: usize,
    /// What MQTT 5 adds; none for other clients, and for those that use no aliases.
    pub aliases: Option<Box<Aliases>>,
    /// The packet whose hook or subscription is not done.
    pub pending: Option<Pending>,
    /// The messages of the current second, for the rate limit.
    pub rate: Rate,
    /// When the connection was registered: its lifetime counts from here.
    pub registered: Time,
    /// When messages in flight were last checked for what has to be sent again.
    pub retried: Time,
    /// The oldest packet in flight at that time.
    pub oldest_in_flight: Option<u64>,
    /// By when an enhanced re-authentication that is under way must be over [MQTT-4.12.1]; else [`Time::NEVER`].
    pub reauthentication_due: Time,
    /// Whether the last link of every conditional chain accepts what no hook has decided on.
    pub allows_anonymous: bool,
    /// Its authentication method, if it used one.
    pub auth_method: Option<Box<str>>,
}

/// Topic aliases of both directions.
pub struct Aliases {
    /// Set by the client.
    pub incoming: AliasesIn,
    /// Set by the broker.
    pub outgoing: AliasesOut,
    _held: Held<{ MemoryKind::Connections as u8 }>,
}

impl Aliases {
    /// None set; topics are hashed with `hasher`.
    pub fn new(hasher: &ahash::RandomState) -> Box<Self> {
        let (incoming, outgoing) = (AliasesIn::default(), AliasesOut::new(hasher.clone()));
        Box::new(Aliases { incoming, outgoing, _held: Held::new(allocated(size_of::<Self>())) })
    }
}

/// A packet that could not be finished in the turn in which it came.
#[derive(Debug)]
pub enum Pending {
    /// A hook answers later; the packet is served again, with the answer, when it does.
    Hook {
        /// The number under which the hook runs.
        task: u64,
        /// The link of the chain that answers.
        link: usize,
        /// The whole packet.
        frame: Vec<u8>,
        /// Its memory.
        held: Held<{ MemoryKind::Unread as u8 }>,
    },
    /// A SUBSCRIBE whose filters other shards are taking in.
    Subscribe {
        /// The number under which the shard keeps it.
        token: u64,
    },
}

/// A rate: messages of one client, or connections of one listener. A bucket that holds one second's worth.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    used: u32,
    since: Time,
}

impl Rate {
    /// Counts one at `now`. Returns whether that is more than `limit` a second.
    pub fn exceeds(&mut self, limit: u32, now: Time) -> bool {
        self.count(limit.saturating_add(1), now).is_some()
    }

    /// Counts one message at `now`. If that reaches `limit` a second, returns when reading may go on.
    pub fn count(&mut self, limit: u32, now: Time) -> Option<Time> {
        let second = std::time::Duration::from_secs(1);
        if now.since(self.since) >= second {
            *self = Rate { used: 0, since: now };
        }
        self.used += 1;
        (self.used >= limit).then(|| self.since + second)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Connections for unit tests.

    use super::*;

    /// A connection that was just accepted.
    pub(crate) fn connection<A>(id: ConnectionId) -> Connection<A> {
        Connection::new(id, 0, SocketAddr::from(([127, 0, 0, 1], 1)), SystemTime::UNIX_EPOCH, Time::ZERO)
    }

    /// What belongs to a connection of a client that speaks `version`, and of the session at place 0.
    pub(crate) fn connected(version: ProtocolVersion) -> Connected {
        Connected {
            session: 0,
            version,
            maximum_incoming: usize::MAX,
            aliases: None,
            pending: None,
            rate: Rate::default(),
            registered: Time::ZERO,
            retried: Time::ZERO,
            oldest_in_flight: None,
            reauthentication_due: Time::NEVER,
            allows_anonymous: false,
            auth_method: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{connected, connection};
    use super::*;

    const HERE: ConnectionId = ConnectionId::new(3, 1);
    const THERE: ConnectionId = ConnectionId::new(7, 2);

    /// A connection in each of its stages, in order.
    fn stages() -> [Connection<()>; 3] {
        let stages = [
            ConnectionStage::Opening { due: Time::NEVER },
            ConnectionStage::Connecting(Box::new(())),
            ConnectionStage::Connected(connected(ProtocolVersion::V5)),
        ];
        stages.map(|stage| Connection { stage, ..connection(HERE) })
    }

    fn live() -> Connection<()> {
        Connection { stage: ConnectionStage::Connected(connected(ProtocolVersion::V311)), ..connection(HERE) }
    }

    #[test]
    fn a_connection_has_a_session_when_it_is_connected() {
        let mut stages = stages();
        assert_eq!(stages.each_ref().map(Connection::session), [None, None, Some(0)]);
        assert_eq!(stages.each_mut().map(|connection| connection.connected_mut().is_some()), [false, false, true]);
    }

    #[test]
    fn a_connection_waits_until_its_connect_is_answered_and_then_for_what_is_pending() {
        assert_eq!(stages().map(|connection| connection.is_pending()), [true, true, false]);
        let mut connection = live();
        let pending = [
            Pending::Hook { task: 1, link: 0, frame: Vec::new(), held: Held::default() },
            Pending::Subscribe { token: 1 },
        ];
        for pending in pending {
            connection.connected_mut().expect("it is").pending = Some(pending);
            assert!(connection.is_pending());
        }
        connection.connected_mut().expect("it is").pending = None;
        assert!(!connection.is_pending());
    }

    #[test]
    fn who_is_not_connected_yet_is_not_allowed_anything() {
        let mut connection = live();
        connection.connected_mut().expect("it is").allows_anonymous = true;
        assert!(connection.allows_anonymous());
        assert_eq!(stages().map(|connection| connection.allows_anonymous()), [false; 3]);
    }

    #[test]
    fn a_connection_arrives_under_its_new_names() {
        let mut connection = live();
        connection.arrive(THERE, 9, b"", 0);
        assert_eq!((connection.id, connection.session()), (THERE, Some(9)));
        let mut connecting = Connection { stage: ConnectionStage::Connecting(Box::new(())), ..live() };
        connecting.arrive(THERE, 9, b"", 0);
        assert_eq!(connecting.session(), None);
    }

    #[test]
    fn what_came_on_the_way_stands_behind_what_came_before() {
        let mut connection = live();
        connection.unread.push(b"before");
        connection.arrive(THERE, 0, b", after", 0);
        assert_eq!(connection.unread.as_slice(), b"before, after");
    }

    #[test]
    fn what_is_still_on_its_way_out_keeps_the_next_send_waiting() {
        let mut connection = live();
        connection.outbox.bytes(&mut Spares::default()).extend_from_slice(b"next");
        connection.arrive(THERE, 0, b"", 5);
        assert!(connection.outbox.is_sending() && connection.outbox.take().is_none());
        assert_eq!(connection.outbox.waiting(), 9);
        connection.outbox.sent();
        assert_eq!(connection.outbox.take().map(|output| output.bytes), Some(b"next".to_vec()));
    }

    #[test]
    fn what_the_last_shard_had_against_it_is_forgotten_but_not_the_clients_own_doing() {
        let mut connection = live();
        connection.pauses.insert(PauseReason::Migration);
        connection.pauses.insert(PauseReason::SlowConsumer);
        connection.pauses.insert(PauseReason::Throttle);
        (connection.consumers, connection.throttled_until) = (2, Time::from_millis(8));
        (connection.is_queued_for_output, connection.reading_stopped) = (true, false);
        connection.arrive(THERE, 0, b"", 0);
        assert!(connection.pauses.remove(PauseReason::Throttle) && connection.pauses.is_empty());
        assert_eq!((connection.consumers, connection.throttled_until), (0, Time::from_millis(8)));
        assert!(!connection.is_queued_for_output, "it is on no list here");
        assert!(connection.reading_stopped, "the runtime does not read from it before it is told to");
    }

    #[test]
    fn a_rate_is_used_up_until_its_second_is_over() {
        let at = Time::from_millis;
        let mut rate = Rate::default();
        assert_eq!(rate.count(3, at(5000)), None);
        assert_eq!(rate.count(3, at(5100)), None);
        assert_eq!(rate.count(3, at(5900)), Some(at(6000)), "the third of three: nothing more in this second");
        assert_eq!(rate.count(3, at(6000)), None);
        let mut rate = Rate::default();
        let exceeds: Vec<_> = (0..4).map(|_| rate.exceeds(2, at(7000))).collect();
        assert_eq!(exceeds, [false, false, true, true]);
        assert!(!rate.exceeds(2, at(8000)));
    }
}
