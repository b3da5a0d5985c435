//! The session: all state of a client that outlives its connection.
//!
//! Owns: the session record, its outgoing window and queue, the packet ids of incoming QoS 2, its subscriptions, its will.
//! Never encodes a packet, calls a hook or knows another session: the shard above decides, this computes.

mod in_flight;
mod inbound;
mod key;
mod migration;
mod offline_by_age;
mod outbound;
mod pages;
mod queue;
mod recipient;
mod settings;
mod subscription_ids;
mod subscriptions;
mod table;
mod waiting;
mod will;
mod window;

pub use crate::numbers::StoreNumber;
pub use in_flight::{InFlight, Stage, packet_id};
pub use inbound::Inbound;
pub use key::Key;
pub use migration::{Arriving, Buffered, MigrationState, PublicationId};
pub use outbound::{Outbound, Restored, StallWatch};
pub use pages::{PageKeys, StoredPage};
pub use queue::{Insert, OutgoingMessage, Queue, QueueLimits};
pub use recipient::{PROGRAM, Recipient};
pub use settings::SessionSettings;
pub use subscription_ids::SubscriptionIds;
pub use subscriptions::{Filters, Subscription, SubscriptionPortion, Subscriptions};
pub use table::Sessions;
pub use waiting::{Look, Waiting, Walk};
pub use will::Will;

use crate::client::{Client, ConnectionId, SessionFound};
use crate::config::StoredDurability;
use crate::memory::{Held, MemoryKind, allocated};
use crate::numbers::DecisionNumber;
use crate::time::Time;

/// A session; one for each subscriber id that is connected or kept. `S` is what the hooks keep with it.
// In this order, what a delivery looks at lies together, from the end of the settings to the beginning of the queue.
#[repr(C)]
pub struct Session<S> {
    /// The client as it connected last.
    pub client: Client,
    /// The settings from the last connect.
    pub settings: SessionSettings,
    /// The live connection, if there is one.
    pub connection: Option<ConnectionId>,
    /// The slot that its subscriber id is hashed to, from 0 to 4095.
    pub slot: u16,
    /// Its number in the store on disk, if it is kept there.
    pub stored: Option<StoreNumber>,
    /// Its migration to or from another shard, if there is one.
    pub migration: Option<MigrationState>,
    /// Messages to the client: in flight and queued.
    pub outbound: Outbound,
    /// The instance number of this session on its shard. No other session of the shard ever has it; places in tables are reused.
    pub instance: u64,
    /// What the hooks keep with this session.
    pub state: S,
    /// Messages from the client that are not complete.
    pub inbound: Inbound,
    /// Its subscriptions. The filter tree of the shard has the same, from filter to session.
    pub subscriptions: Subscriptions,
    /// The will of the live connection, or the delayed one of the last.
    pub will: Option<Will>,
    /// While offline: when the session ends ([`Time::NEVER`]: it is kept for ever).
    pub expires: Time,
    /// While offline: when the delayed will is due.
    pub will_due: Time,
    /// Takeovers in the current window, and when that window began.
    pub takeovers: (u32, Time),
    /// Its last decision, of those that messages depend on.
    pub last_decision: DecisionNumber,
    /// Its memory, but for what its parts count themselves.
    pub(crate) held: Held<{ MemoryKind::Sessions as u8 }>,
}

impl<S: Default> Session<S> {
    /// A session without a connection. `slot` is the slot of its subscriber id, `instance` a number that no other session of
    /// the shard has, `takeovers` the count of takeovers and the start of their window, `hasher` that of maps keyed by what
    /// clients choose.
    pub fn new(
        client: Client,
        settings: SessionSettings,
        slot: u16,
        instance: u64,
        takeovers: (u32, Time),
        hasher: ahash::RandomState,
    ) -> Self {
        let names = 16 + client.subscriber.client_id.len();
        let username = client.username.as_ref().map_or(0, |name| allocated(16 + name.len()));
        Session {
            held: Held::new(allocated(size_of::<Self>()) + allocated(names) + username),
            client,
            settings,
            connection: None,
            slot,
            stored: None,
            migration: None,
            outbound: Outbound::default(),
            instance,
            state: S::default(),
            inbound: Inbound::default(),
            subscriptions: Subscriptions::new(hasher),
            will: None,
            expires: Time::NEVER,
            will_due: Time::NEVER,
            takeovers,
            last_decision: DecisionNumber::default(),
        }
    }
}

impl<S> Session<S> {
    /// Whether it is kept when its connection ends.
    pub fn is_kept(&self) -> bool {
        self.settings.kept
    }

    /// Whether it is to be on disk, if anything is.
    pub fn is_to_be_stored(&self) -> bool {
        self.settings.kept && self.settings.durability != StoredDurability::None
    }

    /// Whether it is to come, or has come and what was buffered for it is being delivered: nothing may become of it before that is done.
    pub fn is_arriving(&self) -> bool {
        matches!(self.migration, Some(MigrationState::Arriving(_)))
    }

    /// How it is, for an operator.
    pub fn found(&self) -> SessionFound {
        SessionFound {
            client: self.client.clone(),
            is_connected: self.connection.is_some(),
            is_kept: self.is_kept(),
            durability: self.stored.map_or(StoredDurability::None, |_| self.settings.durability),
            subscriptions: self.subscriptions.len(),
            queued: self.outbound.queue.len(),
            queued_bytes: self.outbound.queue.bytes(),
            in_flight: self.outbound.in_flight(),
            memory: self.memory(),
        }
    }

    /// The memory it takes, in bytes. Messages that others hold, too, count in full.
    pub fn memory(&self) -> usize {
        self.held.bytes() + self.subscriptions.memory() + self.inbound.memory() + self.outbound.memory()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Sessions for unit tests.

    use std::net::SocketAddr;
    use std::time::SystemTime;

    use super::*;
    use crate::client::SubscriberId;
    use crate::codec::{ProtocolVersion, QoS};
    use crate::message::Publication;
    use crate::topic::TopicName;

    /// A kept session of an MQTT 5 client, with everything allowed and nothing limited.
    pub(crate) fn session() -> Session<()> {
        session_of("client")
    }

    /// The same of the client with this id, with the state that the hooks of a test keep.
    pub(crate) fn session_of<S: Default>(client_id: &str) -> Session<S> {
        let client = Client {
            subscriber: SubscriberId::new("", client_id),
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            listener: "test".into(),
            version: ProtocolVersion::V5,
            username: None,
            certificate: None,
            connected_at: SystemTime::UNIX_EPOCH,
            session_number: 1,
        };
        Session::new(client, settings(), 0, 1, (0, Time::ZERO), ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    /// Settings that allow everything and limit nothing.
    pub(crate) fn settings() -> SessionSettings {
        SessionSettings::unlimited()
    }

    /// A delivery of `payload` to topic `t`.
    pub(crate) fn delivery(payload: &str, qos: QoS) -> OutgoingMessage {
        let message = Publication::new(TopicName::trusted("t"), payload.as_bytes()).keep();
        OutgoingMessage { message, qos, retain: false, key: Key::NONE, ids: SubscriptionIds::new(), group: None }
    }
}
