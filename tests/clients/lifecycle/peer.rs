//! rumqttc's client of either version, as far as a lifecycle is concerned.

use super::recorder::Recorder;
use crate::mqtt5::DisconnectReasonCode;
use crate::{mqtt3, mqtt5};

/// Which of rumqttc's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    Older,
    /// MQTT 5.0.
    Newer,
}

impl Version {
    pub const BOTH: [Version; 2] = [Version::Older, Version::Newer];
}

/// A connected client. Dropping it cuts the connection.
pub enum Peer {
    Older(mqtt3::Client),
    Newer(Box<mqtt5::Client>),
}

/// What a client asks of its session when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// Clean start, and an end with the connection.
    Clean,
    /// Resumed, and kept for an hour (MQTT 5.0) or as configured.
    Kept,
}

impl Session {
    pub const BOTH: [Session; 2] = [Session::Clean, Session::Kept];
}

impl Peer {
    /// Connects; panics if it is refused.
    pub fn connect(recorder: &Recorder, id: &str, version: Version, session: Session) -> Peer {
        let broker = recorder.broker();
        match (version, session) {
            (Version::Older, Session::Clean) => Peer::Older(mqtt3::Client::connect(mqtt3::options(broker, id))),
            (Version::Older, Session::Kept) => Peer::Older(mqtt3::Client::connect(mqtt3::kept(broker, id))),
            (Version::Newer, Session::Clean) => Peer::newer(mqtt5::options(broker, id)),
            (Version::Newer, Session::Kept) => Peer::newer(mqtt5::kept(broker, id, 3600)),
        }
    }

    fn newer(options: mqtt5::MqttOptions) -> Peer {
        Peer::Newer(Box::new(mqtt5::Client::connect(options)))
    }

    /// Leaves with DISCONNECT.
    pub fn disconnect(self) {
        match self {
            Peer::Older(client) => client.disconnect(),
            Peer::Newer(client) => client.disconnect(),
        }
    }

    /// Cuts the connection without DISCONNECT.
    pub fn cut(self) {
        match self {
            Peer::Older(client) => client.cut(),
            Peer::Newer(client) => client.cut(),
        }
    }

    /// Waits until the broker ends the connection, with this reason in the DISCONNECT of MQTT 5.0.
    pub fn ended(self, reason: DisconnectReasonCode) {
        match self {
            Peer::Older(mut client) => client.closed(),
            Peer::Newer(mut client) => assert_eq!(client.disconnected(), reason),
        }
    }
}
