//! A listener as a shard uses it.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::ProtocolVersion;
use crate::config::{Config, ListenerConfig, Protocol, StoredDurability};

/// A listener: its own settings, and those of the broker where it has none. A few per shard.
pub struct Listener {
    /// Its name in configuration, hooks and logs.
    pub name: Arc<str>,
    /// The mountpoint of its clients, as long as no hook puts them elsewhere.
    pub mountpoint: Arc<str>,
    /// Whether it is the last link of every conditional chain, which accepts what no hook has decided on.
    pub allow_anonymous: bool,
    /// How long a connection may take until its CONNECT is complete.
    pub connect_timeout: Duration,
    /// The largest packet taken before the client is accepted, in bytes.
    pub max_connect_size: usize,
    /// The largest packet taken later, in bytes, as long as no hook says otherwise.
    pub max_packet_size: usize,
    /// The Receive Maximum that clients are told.
    pub receive_maximum: u16,
    /// The Topic Alias Maximum that clients are told.
    pub topic_alias_maximum: u16,
    /// Messages a second that are read from one client; 0: as many as come.
    pub max_message_rate: u32,
    /// How long a connection may live; none: for ever.
    pub lifetime: Option<Duration>,
    /// What is stored of the sessions of its clients, as long as no hook says otherwise.
    pub durability: StoredDurability,
    protocols: Vec<Protocol>,
}

impl Listener {
    /// The listener `own` of this configuration.
    pub fn new(own: &ListenerConfig, config: &Config) -> Self {
        let limits = &config.limits;
        let max_packet_size = own.max_packet_size.unwrap_or(limits.max_packet_size);
        Listener {
            name: own.name.as_str().into(),
            mountpoint: own.mountpoint.as_str().into(),
            protocols: own.protocols.clone(),
            allow_anonymous: own.allow_anonymous.unwrap_or(config.allow_anonymous),
            connect_timeout: own.connect_timeout.unwrap_or(limits.connect_timeout),
            max_connect_size: limits.max_connect_size.min(max_packet_size),
            max_packet_size,
            receive_maximum: own.receive_maximum.unwrap_or(limits.receive_maximum),
            topic_alias_maximum: own.topic_alias_maximum.unwrap_or(limits.topic_alias_maximum),
            max_message_rate: own.max_message_rate.unwrap_or(limits.max_message_rate),
            lifetime: own.max_connection_lifetime.or(config.session.max_connection_lifetime),
            durability: config.durability_of(own),
        }
    }

    /// Whether its clients may use this version.
    pub fn speaks(&self, version: ProtocolVersion) -> bool {
        self.protocols.contains(&match version {
            ProtocolVersion::V31 => Protocol::V31,
            ProtocolVersion::V311 => Protocol::V311,
            ProtocolVersion::V5 => Protocol::V5,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(settings: &str) -> Listener {
        let config = Config::from_toml(settings, "test").expect("the settings are valid");
        Listener::new(&config.listeners[0], &config)
    }

    #[test]
    fn a_listener_inherits_what_it_does_not_set() {
        let settings = "allow_anonymous = true\nlimits.receive_maximum = 7\nlimits.topic_alias_maximum = 9\n\
                        session.max_connection_lifetime = '1h'\nlisteners.l.topic_alias_maximum = 3\n\
                        listeners.l.protocols = ['5']";
        let listener = listener(settings);
        assert_eq!((&*listener.name, listener.allow_anonymous), ("l", true));
        assert_eq!((listener.receive_maximum, listener.topic_alias_maximum), (7, 3));
        assert_eq!(listener.lifetime, Some(Duration::from_secs(3600)));
        assert_eq!(ProtocolVersion::ALL.map(|version| listener.speaks(version)), [false, false, true]);
    }
}
