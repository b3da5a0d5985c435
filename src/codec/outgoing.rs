//! PUBLISH as a broker sends it: encoded once, copied to many receivers, patched for each.
//!
//! What came with the message goes out as bytes ([`PublishProperties::forwarded`](super::PublishProperties::forwarded)); what
//! belongs to the delivery (alias, remaining expiry, subscription identifiers) is written before it.

use super::property::Property;
use super::publish::{first_byte, flag};
use super::write::{frame_len, put_string, put_u16, put_varint, string_len, varint_len};
use super::{PacketId, ProtocolVersion, QoS};

/// A PUBLISH from the server to a client.
///
/// It must not be larger than [`MAX_PACKET_SIZE`](super::MAX_PACKET_SIZE), whatever the client accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outgoing<'a> {
    /// Whether it may have been sent before; never at QoS 0.
    pub dup: bool,
    /// The QoS at which it is sent.
    pub qos: QoS,
    /// Whether it was retained.
    pub retain: bool,
    /// The topic name; empty when `alias` stands for it.
    pub topic: &'a str,
    /// The packet identifier: there at QoS 1 and 2, and only there.
    pub packet_id: Option<PacketId>,
    /// Topic Alias; never zero.
    pub alias: Option<u16>,
    /// What is left of the Message Expiry Interval, in seconds.
    pub message_expiry: Option<u32>,
    /// The identifiers of the subscriptions that it matches.
    pub subscription_ids: &'a [u32],
    /// The properties that came with the message, encoded, without a length.
    pub properties: &'a [u8],
    /// The message.
    pub payload: &'a [u8],
}

impl Outgoing<'_> {
    /// The delivery's own properties and the message's.
    #[inline]
    fn properties_len(&self) -> usize {
        let alias = if self.alias.is_some() { 3 } else { 0 };
        let expiry = if self.message_expiry.is_some() { 5 } else { 0 };
        let ids: usize = self.subscription_ids.iter().map(|&id| 1 + varint_len(id as usize)).sum();
        alias + expiry + ids + self.properties.len()
    }

    /// Topic and packet identifier.
    #[inline]
    fn variable_header_len(&self) -> usize {
        string_len(self.topic) + if self.qos == QoS::AtMostOnce { 0 } else { 2 }
    }

    #[inline]
    fn body_len(&self, version: ProtocolVersion) -> usize {
        let properties = match version {
            ProtocolVersion::V5 => {
                let len = self.properties_len();
                varint_len(len) + len
            }
            _ => 0,
        };
        self.variable_header_len() + properties + self.payload.len()
    }

    /// How many bytes [`encode`](Outgoing::encode) appends. Before MQTT 5.0 properties take none.
    #[inline]
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// The first byte of a PUBLISH: its type and these flags.
    #[inline]
    pub const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
        first_byte(dup, qos, retain)
    }

    /// Where the two bytes of the packet identifier stand in what is encoded, high byte first; none at QoS 0. The DUP flag
    /// is always bit 3 of the first byte.
    #[inline]
    pub fn packet_id_offset(&self, version: ProtocolVersion) -> Option<usize> {
        match self.qos {
            QoS::AtMostOnce => None,
            _ => Some(1 + varint_len(self.body_len(version)) + string_len(self.topic)),
        }
    }

    /// Puts another packet identifier and DUP flag into an encoded PUBLISH of QoS 1 or 2, whose packet identifier is at
    /// `offset`.
    ///
    /// # Panics
    ///
    /// If `frame` ends before `offset + 2`.
    #[inline]
    pub fn patch(frame: &mut [u8], offset: usize, packet_id: PacketId, dup: bool) {
        frame[offset..offset + 2].copy_from_slice(&packet_id.get().to_be_bytes());
        frame[0] = frame[0] & !flag::DUP | if dup { flag::DUP } else { 0 };
    }

    /// Appends the packet to `out`, all but the payload: for a payload that is sent from where it is.
    pub fn encode_head(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let body_len = self.body_len(version);
        out.reserve(frame_len(body_len) - self.payload.len());
        self.put_head(body_len, version, out);
    }

    /// Appends the packet of MQTT 5 to `out`, all but the properties that came with the message, and the payload: for properties that
    /// are sent from where they are.
    pub fn encode_own_head(&self, out: &mut Vec<u8>) {
        let body_len = self.body_len(ProtocolVersion::V5);
        out.reserve(frame_len(body_len) - self.payload.len() - self.properties.len());
        self.put_variable_header(body_len, out);
        self.put_own_properties(out);
    }

    /// Appends the packet to `out`.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let body_len = self.body_len(version);
        out.reserve(frame_len(body_len));
        self.put_head(body_len, version, out);
        out.extend_from_slice(self.payload);
    }

    #[inline]
    fn put_head(&self, body_len: usize, version: ProtocolVersion, out: &mut Vec<u8>) {
        self.put_variable_header(body_len, out);
        if version.is_v5() {
            self.put_own_properties(out);
            out.extend_from_slice(self.properties);
        }
    }

    /// All before the properties.
    #[inline]
    fn put_variable_header(&self, body_len: usize, out: &mut Vec<u8>) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce, "[MQTT-2.2.1-2]");
        out.push(first_byte(self.dup, self.qos, self.retain));
        put_varint(body_len, out);
        put_string(self.topic, out);
        if self.qos != QoS::AtMostOnce {
            put_u16(self.packet_id.map_or(0, PacketId::get), out);
        }
    }

    /// The length of all properties, and those of the delivery.
    #[inline]
    fn put_own_properties(&self, out: &mut Vec<u8>) {
        put_varint(self.properties_len(), out);
        if let Some(alias) = self.alias {
            Property::TopicAlias(alias).encode(out);
        }
        if let Some(seconds) = self.message_expiry {
            Property::MessageExpiryInterval(seconds).encode(out);
        }
        for &id in self.subscription_ids {
            Property::SubscriptionIdentifier(id).encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::transcript::{V5, V311, pid, read};
    use crate::codec::{Packet, PropertyBlock, Publish, PublishProperties, Sender};

    /// Every way of encoding gives the same bytes.
    fn encoded(outgoing: &Outgoing<'_>, version: ProtocolVersion) -> Vec<u8> {
        let mut whole = Vec::new();
        outgoing.encode(version, &mut whole);
        let mut head = Vec::new();
        outgoing.encode_head(version, &mut head);
        assert_eq!([&head, outgoing.payload].concat(), whole);
        if version == V5 {
            let mut own = Vec::new();
            outgoing.encode_own_head(&mut own);
            assert_eq!([&own, outgoing.properties, outgoing.payload].concat(), whole);
        }
        assert_eq!(outgoing.encoded_len(version), whole.len());
        whole
    }

    #[test]
    fn properties_of_the_delivery_stand_before_those_of_the_message() {
        let mut block = PropertyBlock::new();
        block.content_type("t").unwrap().user("k", "v").unwrap();
        let outgoing = Outgoing {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b",
            packet_id: Some(pid(0x0102)),
            alias: Some(4),
            message_expiry: Some(5),
            subscription_ids: &[6, 200],
            properties: block.as_bytes(),
            payload: b"hi",
        };
        let bytes = encoded(&outgoing, V5);
        let ids = [6, 200];
        let properties = PublishProperties {
            topic_alias: Some(4),
            message_expiry: Some(5),
            subscription_ids: (&ids[..]).into(),
            ..block.properties()
        };
        let publish = Publish {
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b",
            packet_id: Some(pid(0x0102)),
            properties,
            payload: b"hi",
        };
        assert_eq!(read(&bytes, V5, Sender::Server), Ok(Packet::Publish(publish)));
        assert_eq!(*publish.properties.forwarded(), *block.as_bytes());
        assert_eq!(encoded(&outgoing, V311), b"\x3B\x09\x00\x03a/b\x01\x02hi");
    }

    #[test]
    fn an_alias_may_stand_for_the_topic() {
        let outgoing = Outgoing { alias: Some(1), payload: b"x", ..Default::default() };
        assert_eq!(encoded(&outgoing, V5), b"\x30\x07\x00\x00\x03\x23\x00\x01x");
        assert_eq!(outgoing.packet_id_offset(V5), None);
    }

    #[test]
    fn a_frame_is_patched_for_each_receiver() {
        for payload_len in [0, 100, 200, 20_000, 3_000_000] {
            let payload = vec![7; payload_len];
            for version in [V311, V5] {
                let first = Outgoing {
                    qos: QoS::ExactlyOnce,
                    topic: "some/topic",
                    packet_id: Some(pid(1)),
                    message_expiry: Some(3),
                    payload: &payload,
                    ..Default::default()
                };
                let mut frame = encoded(&first, version);
                let offset = first.packet_id_offset(version).unwrap();
                let second = Outgoing { dup: true, packet_id: Some(pid(0xABCD)), ..first };
                Outgoing::patch(&mut frame, offset, pid(0xABCD), true);
                assert!(frame == encoded(&second, version));
                Outgoing::patch(&mut frame, offset, pid(1), false);
                assert!(frame == encoded(&first, version));
            }
        }
    }
}
