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
mod pauses;
mod outbox;
mod unread;
mod violation;

use std::net::SocketAddr;
use std::time::SystemTime;

pub use aliases::{AliasesIn, AliasesOut, OutgoingAlias};
pub use pauses::{PauseReason, PauseReasons};
pub use outbox::{Outbox, Output, SPLICE_FROM, Splice};
pub use unread::Unread;
pub use violation::{Violation, code_for};

use crate::client::ConnectionId;
use crate::codec::{ProtocolVersion, ReasonCode};
use crate::time::Time;

/// One connection; a shard holds one for each socket. `A` is what is known of a client that is still connecting.
// In this order, what a delivery and an acknowledgement look at lies together, at the beginning.
#[repr(C)]
pub struct Connection<A> {
    /// Which connection of the shard this is.
    pub id: ConnectionId,
    /// Whether it stands on the list of connections to flush.
    pub dirty: bool,
    /// Why its packets are not being served at the moment.
    pub pauses: PauseReasons,
    /// Whether the runtime was asked not to read from it.
    pub paused: bool,
    /// Bytes that go out with the next flush.
    pub outbox: Outbox,
    /// When the last complete packet came.
    pub last_heard: Time,
    /// How far it has come.
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
    /// For how many clients it waits while there is [`PauseReason::Consumer`].
    pub consumers: u32,
    /// Until when [`PauseReason::Throttle`] lasts.
    pub throttled_until: Time,
}

/// How far a connection has come.
pub enum ConnectionStage<A> {
    /// Nothing but parts of a CONNECT came so far.
    Opening,
    /// The CONNECT is here, and hooks or an exchange of AUTH packets decide on it.
    Connecting(Box<A>),
    /// It belongs to a session.
    Connected(Connected),
}

impl<A> Connection<A> {
    /// Whether it waits for an answer that comes to this shard.
    pub fn is_pending(&self) -> bool {
        match &self.stage {
            ConnectionStage::Connected(connected) => connected.pending.is_some(),
            ConnectionStage::Opening | ConnectionStage::Connecting(_) => true,
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
    /// Which hook answer, subscription or delay the client waits for.
    pub pending: Option<Pending>,
    /// Messages that may still be read before the rate limit stops reading, and since when they are counted.
    pub rate: Rate,
    /// When the connection was registered: its lifetime counts from here.
    pub registered: Time,
    /// When it was last seen to whether something has to be sent again, and what was the oldest then.
    pub retried: Time,
    /// The oldest packet in flight at that time.
    pub oldest_in_flight: Option<u64>,
    /// By when an enhanced re-authentication that is under way must be over [MQTT-4.12.1]; else [`Time::NEVER`].
    pub reauthentication_due: Time,
    /// Its authentication method, if it used one.
    pub auth_method: Option<Box<str>>,
}

/// Topic aliases of both directions.
pub struct Aliases {
    /// Set by the client.
    pub incoming: AliasesIn,
    /// Set by the broker.
    pub outgoing: AliasesOut,
}

impl Aliases {
    /// None set; topics are hashed with `hasher`.
    pub fn new(hasher: &ahash::RandomState) -> Box<Self> {
        Box::new(Aliases { incoming: AliasesIn::default(), outgoing: AliasesOut::new(hasher.clone()) })
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
    /// Counts one at `now`, and says whether that is more than `limit` a second.
    pub fn exceeds(&mut self, limit: u32, now: Time) -> bool {
        self.count(limit.saturating_add(1), now).is_some()
    }

    /// Counts one message at `now`; if that reaches `limit` a second, until when reading is to stop.
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
mod tests {
    use super::*;

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
