//! The will of a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::message::Message;

/// A message to be published if the connection ends without an orderly DISCONNECT.
#[derive(Clone, Debug)]
pub struct Will {
    /// What is published. Its Message Expiry counts from the moment it is [MQTT-3.1.3-9], see [`Will::expiry`].
    pub message: Message,
    /// The mountpoint it is published into.
    pub mountpoint: Arc<str>,
    /// Will Delay Interval.
    pub delay: Duration,
    /// Message Expiry Interval, from the moment of publication.
    pub expiry: Option<Duration>,
}
