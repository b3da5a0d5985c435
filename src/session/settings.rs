//! Session settings: the outcome of CONNECT, configuration and hooks.

use std::time::Duration;

use super::QueueLimits;
use crate::codec::QoS;
use crate::config::{QueueType, SharedPolicy, StoredDurability};

/// The settings of a session: enforced by the shard, and sent to MQTT 5 clients where CONNACK has a field for them.
#[derive(Clone, Debug, PartialEq, Eq)]
// What every delivery looks at comes last, next to the session's connection.
#[repr(C)]
pub struct SessionSettings {
    /// Whether the session is kept when its connection ends.
    pub kept: bool,
    /// Highest topic alias the client may use.
    pub alias_maximum_in: u16,
    /// What is stored of the session, and what its client waits for.
    pub durability: StoredDurability,
    /// How long a kept session waits for its client; none: for ever.
    pub expiry: Option<Duration>,
    /// Most QoS 2 messages from the client that may be incomplete: the Receive Maximum of the CONNACK.
    pub receive_maximum: u16,
    /// Largest packet taken from the client, in bytes.
    pub maximum_incoming: usize,
    /// Highest QoS the client may publish with.
    pub maximum_qos: QoS,
    /// Whether the client may publish retained messages.
    pub retain_available: bool,
    /// Whether it may subscribe with wildcards.
    pub wildcard_available: bool,
    /// Whether it may subscribe with Subscription Identifiers.
    pub ids_available: bool,
    /// Whether it may use shared subscriptions.
    pub shared_available: bool,
    /// Whether it is a bridge of MQTT 3 that said so: its subscriptions have No Local and Retain As Published.
    pub is_bridge: bool,
    /// Messages a second that are read from the client; 0: as many as come.
    pub message_rate: u32,
    /// How members of shared subscriptions are chosen for what this client publishes.
    pub shared_policy: SharedPolicy,
    /// Bounds of the queue.
    pub queue: QueueLimits,
    /// How long the connection may live; none: for ever.
    pub lifetime: Option<Duration>,
    /// v3: unacknowledged messages are sent again on a live connection after this long; zero: only on reconnect.
    pub retry_interval: Duration,
    /// The effective keep-alive in seconds; 0: none.
    pub keep_alive: u16,
    /// Whether the client wants reason strings and user properties on packets other than PUBLISH, CONNACK and DISCONNECT
    /// [MQTT-3.1.2-29].
    pub problem_information: bool,
    /// Largest packet the client takes, in bytes [MQTT-3.1.2-24].
    pub maximum_outgoing: usize,
    /// Most QoS 1 and 2 messages to the client that may be unacknowledged (its Receive Maximum, or
    /// `max_inflight_messages`).
    pub send_maximum: u16,
    /// Highest topic alias the broker may use.
    pub alias_maximum_out: u16,
    /// Whether messages are delivered at the QoS of the subscription even if they were published with a lower one.
    pub upgrade_qos: bool,
}

impl SessionSettings {
    /// Those of a session that is kept for ever: nothing limited, everything allowed that MQTT knows, and as MQTT has it where it has a
    /// default. Records of a store leave out what is as here: a value that changes would change what those on disk say.
    pub fn unlimited() -> Self {
        SessionSettings {
            kept: true,
            alias_maximum_in: 0,
            durability: StoredDurability::Fsynced,
            expiry: None,
            receive_maximum: u16::MAX,
            maximum_incoming: usize::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_available: true,
            ids_available: true,
            shared_available: true,
            is_bridge: false,
            message_rate: 0,
            shared_policy: SharedPolicy::Random,
            queue: QueueLimits::unlimited(QueueType::Fifo),
            lifetime: None,
            retry_interval: Duration::ZERO,
            keep_alive: 0,
            problem_information: true,
            maximum_outgoing: usize::MAX,
            send_maximum: u16::MAX,
            alias_maximum_out: 0,
            upgrade_qos: false,
        }
    }
}
