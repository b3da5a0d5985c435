//! `on_deliver` and `on_deliver_m5`: what they see of an outgoing PUBLISH and may rewrite.

use bytes::Bytes;

use super::modifiers::boxed_modifiers;
use crate::codec::{PropertyBlock, PublishProperties, QoS};

/// A PUBLISH about to go out to a v3 client.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it goes out at.
    pub qos: QoS,
    /// The retain flag it goes out with.
    pub retain: bool,
}

/// A PUBLISH about to go out to a v5 client.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryM5<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it goes out at.
    pub qos: QoS,
    /// The retain flag it goes out with.
    pub retain: bool,
    /// Its properties, encoded: read them with [`DeliveryM5::properties`]. They are passed on unread, since every delivery
    /// comes by here and few hooks look.
    pub(crate) properties: &'a [u8],
}

impl<'a> DeliveryM5<'a> {
    /// A delivery with these properties, as a packet has them: for tests of hooks.
    pub fn new(delivery: Delivery<'a>, properties: &'a [u8]) -> Self {
        let Delivery { topic, payload, qos, retain } = delivery;
        DeliveryM5 { topic, payload, qos, retain, properties }
    }

    /// Its properties as published: without subscription identifiers, topic alias and expiry.
    pub fn properties(&self) -> PublishProperties<'a> {
        PublishProperties::parse(self.properties).unwrap_or_default()
    }

    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> Delivery<'a> {
        let DeliveryM5 { topic, payload, qos, retain, .. } = *self;
        Delivery { topic, payload, qos, retain }
    }
}

boxed_modifiers! {
    /// What a hook changed of a delivery, for one subscriber; what is not set goes out as it was published.
    pub struct DeliverChanges;
    /// What *Ok* of `on_deliver` changes, for this client alone.
    pub struct DeliverModifiers;
    /// What *Ok* of `on_deliver_m5` changes, for this client alone.
    pub struct DeliverModifiersM5;
    both {
        /// The topic to send. One that is not a valid topic name is ignored.
        topic: String,
        /// The payload to send.
        payload: Bytes,
    }
    m5 {
        /// Send exactly these properties, and those the broker adds: subscription identifiers, topic alias, the
        /// remaining expiry.
        properties: PropertyBlock,
    }
}
