//! What the notifications of queues are told. Why connections and sessions end is told in the words of
//! [`client`](crate::client).

use crate::codec::QoS;

/// A message that was stored for a session whose client is away.
#[derive(Clone, Copy, Debug)]
pub struct OfflineMessage<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it will be delivered at.
    pub qos: QoS,
    /// The retain flag it will be delivered with.
    pub retain: bool,
}

/// A message that a subscriber will not get.
#[derive(Clone, Copy, Debug)]
pub struct DroppedMessage<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it would have been delivered at.
    pub qos: QoS,
    /// The retain flag it would have been delivered with.
    pub retain: bool,
}
