//! PUBLISH as it is received, and as a client sends it (MQTT 5.0, 3.3). How a broker sends it: [`Outgoing`](super::Outgoing).

use super::property::{PropertyList, property_block};
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
