//! All of a client that outlives its connection.
//!
//! Owns: the session record, its outgoing window and queue, the packet ids of incoming QoS 2, its subscriptions, its will.
//! Never encodes a packet, calls a hook or knows another session: the shard above decides, this computes.

mod in_flight;
mod inbound;
mod migration;
mod outbound;
mod queue;
mod subscription_ids;
mod settings;
mod will;

use hashbrown::HashMap;

pub use in_flight::{InFlight, Stage};
pub use inbound::Inbound;
pub use migration::{Buffered, MigrationState, PublicationId};
pub use outbound::Outbound;
pub use queue::{Delivery, Insert, Queue, QueueLimits};
pub use subscription_ids::SubscriptionIds;
pub use settings::SessionSettings;
pub use will::Will;

use crate::client::{Client, ConnectionId};
use crate::codec::SubscriptionOptions;
use crate::time::Time;
use crate::topic::TopicFilter;

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What the client asked for, at the QoS it was granted.
    pub options: SubscriptionOptions,
    /// The Subscription Identifier; zero without one.
    pub id: u32,
}

/// A session; one for each subscriber id that is connected or kept. `S` is what the hooks keep with it.
// In this order, what a delivery looks at lies together, from the end of the terms to the beginning of the queue.
#[repr(C)]
pub struct Session<S> {
    /// The client as it connected last.
    pub client: Client,
    /// What was agreed on at the last connect.
    pub settings: SessionSettings,
    /// The live connection, if there is one.
    pub connection: Option<ConnectionId>,
    /// The slot that its subscriber id is hashed to, from 0 to 4095.
    pub slot: u16,
    /// Its way to or from another shard, if it is on one or has just come.
    pub migration: Option<MigrationState>,
    /// Messages to the client: in flight and queued.
    pub outbound: Outbound,
    /// When it began on this shard, as a number that no other session of the shard ever has: places in tables are used again.
    pub instance: u64,
    /// What the hooks keep with this session.
    pub state: S,
    /// Messages from the client that are not complete.
    pub inbound: Inbound,
    /// What it is subscribed to. The filter tree of the shard holds the same, the other way round.
    pub subscriptions: HashMap<TopicFilter, Subscription, ahash::RandomState>,
    /// The will of the live connection, or the delayed one of the last.
    pub will: Option<Will>,
    /// While offline: when the session ends ([`Time::NEVER`]: it is kept for ever).
    pub expires: Time,
    /// While offline: when the delayed will is due.
    pub will_due: Time,
    /// Takeovers in the current window, and when that window began.
    pub takeovers: (u32, Time),
}

impl<S> Session<S> {
    /// Whether it is kept when its connection ends.
    pub fn is_kept(&self) -> bool {
        self.settings.kept
    }
}
