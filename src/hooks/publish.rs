//! `auth_on_publish`, `on_publish` and their m5 forms: what they are asked and told, what they may answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::expiry::Expiry;
use super::modifiers::{boxed_modifiers, refusal_codes};
use crate::codec::{PropertyBlock, PublishProperties, QoS, ReasonCode};

/// A PUBLISH of a v3 client, or its will, before it is routed.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequest<'a> {
    /// The topic name; never one that begins with `$`, those are turned away before.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS the client publishes at; for a will, the will's.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Whether this is the will of a CONNECT instead of a PUBLISH.
    pub is_will: bool,
}

/// A PUBLISH of a v5 client, or its will, before it is routed.
#[derive(Clone, Copy, Debug)]
pub struct PublishRequestM5<'a> {
    /// The topic name, looked up if the client sent an alias; never one that begins with `$`.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS the client publishes at; for a will, the will's.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Whether this is the will of a CONNECT instead of a PUBLISH.
    pub is_will: bool,
    /// Its properties, without the topic alias.
    pub properties: &'a PublishProperties<'a>,
}

impl<'a> PublishRequestM5<'a> {
    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> PublishRequest<'a> {
        let PublishRequestM5 { topic, payload, qos, retain, is_will, .. } = *self;
        PublishRequest { topic, payload, qos, retain, is_will }
    }
}

boxed_modifiers! {
    /// What a hook changed of a publish; what is not set stays as the client sent it.
    pub struct PublishChanges;
    /// What *Ok* of `auth_on_publish` changes. The acknowledgement still follows the QoS the client used.
    pub struct PublishModifiers;
    /// What *Ok* of `auth_on_publish_m5` changes. The acknowledgement still follows the QoS the client used.
    pub struct PublishModifiersM5;
    both {
        /// Publish to this topic instead. A topic that is not a valid topic name refuses the publish.
        topic: String,
        /// Publish this payload instead.
        payload: Bytes,
        /// Route at this QoS instead.
        qos: QoS,
        /// Retain, or do not, whatever the client asked.
        retain: bool,
        /// Publish into this mountpoint instead of the client's.
        mountpoint: Arc<str>,
        /// Read nothing from this client for so long; counted in milliseconds, rounded up. Ignored for a will.
        throttle: Duration,
    }
    m5 {
        /// Publish with exactly these properties instead: those left out are lost. An expiry is none of them.
        properties: PropertyBlock,
        /// The message expires so long after its receipt, whatever the client asked; [`Expiry::Never`] takes an expiry
        /// off. Counted in whole seconds, rounded up.
        message_expiry: Expiry,
    }
}

/// The publish of a v3 client is refused.
///
/// A 3.1.1 client is closed, its will published, or answered as if all were well, as `unauthorized_publish` says; a 3.1
/// client is always answered as if all were well. Nothing is routed. A refused will: CONNACK code 5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishRefusal;

refusal_codes! {
    /// The reason codes with which PUBACK and PUBREC may refuse a publish.
    pub enum PublishCode {
        /// 0x80: no reason is told.
        UnspecifiedError,
        /// 0x83: the broker does not accept it.
        ImplementationSpecific,
        /// 0x87: the client may not publish this. The usual code.
        #[default]
        NotAuthorized,
        /// 0x90: the topic name is well formed but not accepted.
        TopicNameInvalid,
        /// 0x97: a limit was exceeded.
        QuotaExceeded,
        /// 0x99: the payload is not of the format it claims.
        PayloadFormatInvalid,
    }
}

/// The publish of a v5 client is refused: the code goes into PUBACK or PUBREC, a QoS 0 publish is dropped in silence.
/// The client stays connected. A refused will: CONNACK 0x87.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRefusalM5 {
    /// The reason code of PUBACK or PUBREC.
    pub code: PublishCode,
    /// A sentence for people, sent along if the client takes such.
    pub reason_string: Option<String>,
}

impl PublishRefusalM5 {
    /// Refuses with this code.
    pub fn new(code: PublishCode) -> Self {
        PublishRefusalM5 { code, reason_string: None }
    }

    /// Sends a sentence for people along.
    #[must_use]
    pub fn reason_string(mut self, reason_string: impl Into<String>) -> Self {
        self.reason_string = Some(reason_string.into());
        self
    }
}

impl From<PublishRefusal> for PublishRefusalM5 {
    fn from(PublishRefusal: PublishRefusal) -> Self {
        PublishRefusalM5::default()
    }
}

/// A message of a v3 client, or its will, that was routed: the values as hooks modified them.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    /// The mountpoint it went to.
    pub mountpoint: &'a str,
    /// The topic it went to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it was routed at.
    pub qos: QoS,
    /// Whether it was retained.
    pub retain: bool,
    /// Whether it is a will.
    pub is_will: bool,
}

/// A message of a v5 client, or its will, that was routed: the values as hooks modified them.
#[derive(Clone, Copy, Debug)]
pub struct PublishedM5<'a> {
    /// The mountpoint it went to.
    pub mountpoint: &'a str,
    /// The topic it went to.
    pub topic: &'a str,
    /// The application message.
    pub payload: &'a [u8],
    /// The QoS it was routed at.
    pub qos: QoS,
    /// Whether it was retained.
    pub retain: bool,
    /// Whether it is a will.
    pub is_will: bool,
    /// The properties it was routed with.
    pub properties: &'a PublishProperties<'a>,
}

impl<'a> PublishedM5<'a> {
    /// What a v3 hook sees of it: everything but the properties.
    #[inline]
    pub fn without_properties(&self) -> Published<'a> {
        let PublishedM5 { mountpoint, topic, payload, qos, retain, is_will, .. } = *self;
        Published { mountpoint, topic, payload, qos, retain, is_will }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PacketType, Sender};

    #[test]
    fn every_refusal_can_be_told() {
        for &code in PublishCode::ALL {
            for packet in [PacketType::Puback, PacketType::Pubrec] {
                assert!(ReasonCode::from(code).is_allowed_in(packet, Sender::Server), "{code:?} in {packet:?}");
            }
        }
        assert_eq!(ReasonCode::from(PublishRefusalM5::default().code), ReasonCode::NotAuthorized);
    }
}
