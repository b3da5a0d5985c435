//! The will: the message that CONNECT leaves with the server (MQTT 5.0, 3.1.2.5 and 3.1.3).

use super::properties::{PropertyList, property_block};
use super::property::Property;
use super::read::Reader;
use super::write::{binary_len, put_binary, put_string, string_len};
use super::{DecodeError, ProtocolVersion, PublishProperties, QoS};

/// The message that a server publishes for a client that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Will<'a> {
    /// Where to: a string, otherwise unchecked.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// At which QoS.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Will Delay Interval: how many seconds to wait for the client to come back.
    pub delay: u32,
    /// Properties, without Topic Alias and Subscription Identifier.
    pub properties: PublishProperties<'a>,
}

impl<'a> Will<'a> {
    /// Reads what CONNECT says of the will in its payload; QoS and retain are in its flags.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        qos: QoS,
        retain: bool,
        version: ProtocolVersion,
    ) -> Result<Self, DecodeError> {
        let (properties, delay) = match version {
            ProtocolVersion::V5 => PublishProperties::parse_will(property_block(reader)?)?,
            _ => Default::default(),
        };
        Ok(Will { topic: reader.string()?, payload: reader.binary()?, qos, retain, delay, properties })
    }

    /// How many bytes [`put`](Will::put) appends.
    pub(super) fn len(&self, version: ProtocolVersion) -> usize {
        self.section_len(version) + string_len(self.topic) + binary_len(self.payload)
    }

    /// Appends its part of the payload of CONNECT.
    pub(super) fn put(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        self.put_section(version, out);
        put_string(self.topic, out);
        put_binary(self.payload, out);
    }
}

impl PropertyList for Will<'_> {
    fn each(&self, mut put: impl FnMut(Property<'_>)) {
        if self.delay > 0 {
            put(Property::WillDelayInterval(self.delay));
        }
        self.properties.each(put);
    }
}
