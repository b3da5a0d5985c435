//! A listener as a shard uses it.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::ProtocolVersion;
use crate::config::{Config, Limit, ListenerConfig, Protocol};
use crate::connection::Rate;

/// A listener as a shard uses it: its own settings, and those of the broker where it has none.
pub(super) struct Listener {
    pub name: Arc<str>,
    pub mountpoint: Arc<str>,
    pub protocols: Vec<Protocol>,
    pub max_connections: Limit,
    /// Connections a second, on all shards; 0: as many as come.
    pub connection_rate: u32,
    pub rate: Rate,
    pub allow_anonymous: bool,
    pub connect_timeout: Duration,
    pub max_packet_size: usize,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub max_message_rate: u32,
    pub lifetime: Option<Duration>,
}

impl Listener {
    pub fn new(own: &ListenerConfig, config: &Config) -> Self {
        let limits = &config.limits;
        Listener {
            name: own.name.as_str().into(),
            mountpoint: own.mountpoint.as_str().into(),
            protocols: own.protocols.clone(),
            max_connections: own.max_connections,
            connection_rate: own.connection_rate.unwrap_or(limits.connection_rate),
            rate: Rate::default(),
            allow_anonymous: own.allow_anonymous.unwrap_or(config.allow_anonymous),
            connect_timeout: own.connect_timeout.unwrap_or(limits.connect_timeout),
            max_packet_size: own.max_packet_size.unwrap_or(limits.max_packet_size),
            receive_maximum: own.receive_maximum.unwrap_or(limits.receive_maximum),
            topic_alias_maximum: own.topic_alias_maximum.unwrap_or(limits.topic_alias_maximum),
            max_message_rate: own.max_message_rate.unwrap_or(limits.max_message_rate),
            lifetime: own.max_connection_lifetime.or(config.session.max_connection_lifetime),
        }
    }

    pub fn speaks(&self, version: ProtocolVersion) -> bool {
        self.protocols.contains(&match version {
            ProtocolVersion::V31 => Protocol::V31,
            ProtocolVersion::V311 => Protocol::V311,
            ProtocolVersion::V5 => Protocol::V5,
        })
    }
}
