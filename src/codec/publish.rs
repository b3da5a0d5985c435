//! PUBLISH as it is received, and as a client sends it (MQTT 5.0, 3.3). How a broker sends it: [`Outgoing`](super::Outgoing).

use super::properties::{PropertyList, property_block};
use super::read::Reader;
use super::write::{frame_len, put_header, put_string, put_u16, string_len};
use super::{DecodeError, PacketId, PacketType, ProtocolVersion, PublishProperties, QoS, Sender};

/// The flags in the first byte of a PUBLISH (3.3.1).
pub(super) mod flag {
    pub(in crate::codec) const RETAIN: u8 = 1 << 0;
    pub(in crate::codec) const QOS_SHIFT: u8 = 1;
    pub(in crate::codec) const DUP: u8 = 1 << 3;
}

/// A message on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Publish<'a> {
    /// Whether it may have been sent before; never at QoS 0.
    pub dup: bool,
    /// The QoS at which it is sent.
    pub qos: QoS,
    /// To a server: keep it. To a client: it was kept.
    pub retain: bool,
    /// The topic name: a string, otherwise unchecked. Empty only if a topic alias stands for it.
    pub topic: &'a str,
    /// The packet identifier: there at QoS 1 and 2, and only there.
    pub packet_id: Option<PacketId>,
    /// Properties; the default before MQTT 5.0.
    pub properties: PublishProperties<'a>,
    /// The message.
    pub payload: &'a [u8],
}

/// The first byte of a PUBLISH.
#[inline]
pub(super) const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketType::Publish.first_byte()
        | if dup { flag::DUP } else { 0 }
        | (qos as u8) << flag::QOS_SHIFT
        | if retain { flag::RETAIN } else { 0 }
}

impl<'a> Publish<'a> {
    #[inline]
    pub(super) fn decode(
        flags: u8,
        body: &'a [u8],
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Self, DecodeError> {
        let Some(qos) = QoS::from_u8(flags >> flag::QOS_SHIFT & 0b11) else {
            return Err(DecodeError::malformed("QoS is 3 [MQTT-3.3.1-4]"));
        };
        let dup = flags & flag::DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP at QoS 0 [MQTT-3.3.1-2]"));
        }
        let mut reader = Reader::new(body);
        let topic = reader.string()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_id()?),
        };
        let properties = match version {
            ProtocolVersion::V5 => PublishProperties::parse(property_block(&mut reader)?)?,
            _ => PublishProperties::default(),
        };
        if topic.is_empty() && properties.topic_alias.is_none() {
            return Err(no_topic(version));
        }
        if sender == Sender::Client && !properties.subscription_ids.is_empty() {
            return Err(DecodeError::protocol("Subscription Identifier from a client [MQTT-3.3.4-6]"));
        }
        let retain = flags & flag::RETAIN != 0;
        Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        string_len(self.topic) + packet_id + self.properties.section_len(version) + self.payload.len()
    }

    /// How many bytes [`encode`](Publish::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`. At QoS 1 and 2 it must have a packet identifier.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert_eq!(self.packet_id.is_some(), self.qos != QoS::AtMostOnce, "[MQTT-2.2.1-2]");
        put_header(first_byte(self.dup, self.qos, self.retain), self.body_len(version), out);
        put_string(self.topic, out);
        if self.qos != QoS::AtMostOnce {
            put_u16(self.packet_id.map_or(0, PacketId::get), out);
        }
        self.properties.put_section(version, out);
        out.extend_from_slice(self.payload);
    }
}

/// A topic name is at least one character long `[MQTT-4.7.3-1]`; in MQTT 5.0 an alias may stand for it (3.3.2.1).
#[cold]
fn no_topic(version: ProtocolVersion) -> DecodeError {
    match version {
        ProtocolVersion::V5 => DecodeError::protocol("PUBLISH with neither topic nor Topic Alias (3.3.2.1)"),
        _ => DecodeError::malformed("PUBLISH with an empty topic [MQTT-4.7.3-1]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, frame, pid, read, refused, same, writes};

    const PLAIN: Publish<'_> = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "a/b",
        packet_id: None,
        properties: PublishProperties {
            payload_is_utf8: None,
            message_expiry: None,
            topic_alias: None,
            response_topic: None,
            correlation_data: None,
            content_type: None,
            subscription_ids: crate::codec::SubscriptionIds::NONE,
            user: crate::codec::UserProperties::NONE,
            block: &[],
        },
        payload: b"hi",
    };

    #[test]
    fn at_every_qos() {
        let dup = Publish { dup: true, qos: QoS::AtLeastOnce, packet_id: Some(pid(0x0102)), ..PLAIN };
        let kept = Publish { retain: true, qos: QoS::ExactlyOnce, packet_id: Some(pid(65_535)), payload: b"", ..PLAIN };
        for version in [V31, V311] {
            same(b"\x30\x07\x00\x03a/bhi", version, Client, Packet::Publish(PLAIN));
            same(b"\x3A\x09\x00\x03a/b\x01\x02hi", version, Server, Packet::Publish(dup));
            same(b"\x35\x07\x00\x03a/b\xFF\xFF", version, Client, Packet::Publish(kept));
        }
        same(b"\x30\x08\x00\x03a/b\x00hi", V5, Client, Packet::Publish(PLAIN));
        same(b"\x3A\x0A\x00\x03a/b\x01\x02\x00hi", V5, Server, Packet::Publish(dup));
    }

    #[test]
    fn with_all_properties() {
        let pairs = [("k".to_owned(), "v".to_owned())];
        let properties = PublishProperties {
            payload_is_utf8: Some(true),
            message_expiry: Some(1),
            topic_alias: Some(2),
            response_topic: Some("r"),
            correlation_data: Some(&[9]),
            content_type: Some("t"),
            subscription_ids: (&[3, 128][..]).into(),
            user: (&pairs[..]).into(),
            block: &[],
        };
        let block: &[&[u8]] = &[
            &[0x01, 1],
            &[0x02, 0, 0, 0, 1],
            &[0x23, 0, 2],
            b"\x08\x00\x01r",
            b"\x09\x00\x01\x09",
            b"\x03\x00\x01t",
            &[0x0B, 3],
            &[0x0B, 0x80, 1],
            b"\x26\x00\x01k\x00\x01v",
        ];
        let block = block.concat();
        let bytes = frame(0x30, &[b"\x00\x03a/b", &[block.len() as u8], &block, b"hi"]);
        same(&bytes, V5, Server, Packet::Publish(Publish { properties, ..PLAIN }));
        let Ok(Packet::Publish(publish)) = read(&bytes, V5, Server) else { panic!() };
        assert_eq!(publish.properties.block, block);
        writes(Packet::Publish(Publish { properties, ..PLAIN }), V311, b"\x30\x07\x00\x03a/bhi");
    }

    #[test]
    fn an_alias_may_stand_for_the_topic() {
        let properties = PublishProperties { topic_alias: Some(7), ..Default::default() };
        let publish = Publish { topic: "", properties, payload: b"", ..PLAIN };
        same(&[0x30, 6, 0, 0, 3, 0x23, 0, 7], V5, Client, Packet::Publish(publish));
        assert_eq!(refused(&[0x30, 3, 0, 0, 0], V5, Client), ProtocolError, "(3.3.2.1)");
        assert_eq!(refused(&[0x30, 2, 0, 0], V311, Client), MalformedPacket, "[MQTT-4.7.3-1]");
        assert_eq!(refused(&[0x30, 6, 0, 0, 3, 0x23, 0, 0], V5, Client), TopicAliasInvalid, "[MQTT-3.3.2-8]");
    }

    #[test]
    fn malformed() {
        for version in ProtocolVersion::ALL {
            for first in [0x36, 0x37, 0x3E, 0x3F] {
                let bytes = [&[first][..], b"\x08\x00\x01a\x00\x01\x00xx"].concat();
                assert_eq!(refused(&bytes, version, Client), MalformedPacket, "[MQTT-3.3.1-4]");
            }
            assert_eq!(refused(b"\x38\x04\x00\x01a\x00", version, Client), MalformedPacket, "[MQTT-3.3.1-2]");
            assert_eq!(refused(b"\x32\x06\x00\x01a\x00\x00\x00", version, Client), MalformedPacket, "packet id 0");
            assert_eq!(refused(b"\x32\x04\x00\x01a\x00", version, Client), MalformedPacket, "no packet id");
            assert_eq!(refused(b"\x30\x04\x00\x03a\x00", version, Client), MalformedPacket, "topic cut short");
            assert_eq!(refused(b"\x30\x04\x00\x01\xFF\x00", version, Client), MalformedPacket, "[MQTT-1.5.4-1]");
            assert_eq!(refused(b"\x30\x04\x00\x01\x00\x00", version, Client), MalformedPacket, "[MQTT-1.5.4-2]");
            assert_eq!(refused(b"\x30\x00", version, Client), MalformedPacket, "no topic");
        }
        assert_eq!(refused(b"\x30\x03\x00\x01a", V5, Client), MalformedPacket, "no property length");
        assert_eq!(refused(b"\x30\x05\x00\x01a\x02\x01", V5, Client), MalformedPacket, "properties cut short");
        assert_eq!(refused(b"\x30\x08\x00\x01a\x80\x80\x80\x80\x01", V5, Client), MalformedPacket, "property length");
    }

    #[test]
    fn what_mqtt_5_forbids() {
        let publish = |properties: &[u8]| frame(0x30, &[b"\x00\x01a", &[properties.len() as u8], properties]);
        assert_eq!(refused(&publish(&[0x0B, 1]), V5, Client), ProtocolError, "[MQTT-3.3.4-6]");
        assert!(read(&publish(&[0x0B, 1, 0x0B, 1]), V5, Server).is_ok());
        assert_eq!(refused(&publish(&[0x0B, 0]), V5, Server), ProtocolError, "(3.3.2.3.8)");
        assert_eq!(refused(&publish(&[0x01, 1, 0x01, 1]), V5, Client), ProtocolError, "twice");
        assert_eq!(refused(&publish(&[0x01, 2]), V5, Client), ProtocolError);
        assert_eq!(refused(&publish(&[0x08, 0, 1, b'#']), V5, Client), ProtocolError, "[MQTT-3.3.2-14]");
        assert_eq!(refused(&publish(&[0x18, 0, 0, 0, 1]), V5, Client), MalformedPacket, "will delay");
        assert_eq!(refused(&publish(&[0x03, 0, 9, b'x']), V5, Client), MalformedPacket, "beyond the block");
    }
}
