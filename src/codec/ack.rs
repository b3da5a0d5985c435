//! PUBACK, PUBREC, PUBREL and PUBCOMP: the four packets that acknowledge a message, all of one form (MQTT 5.0, 3.4 to 3.7).

use super::explanation::Explanation;
use super::properties::{PropertyList, property_block};
use super::read::Reader;
use super::write::{frame_len, put_header, put_u16};
use super::{DecodeError, Frame, PacketId, PacketType, ProtocolVersion, ReasonCode, Sender, UserProperties};

/// Which of the four packets an [`Ack`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AckKind {
    /// The answer to a QoS 1 PUBLISH.
    Puback,
    /// The answer to a QoS 2 PUBLISH.
    Pubrec,
    /// The answer to PUBREC.
    Pubrel,
    /// The answer to PUBREL.
    Pubcomp,
}

impl AckKind {
    const ALL: [AckKind; 4] = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubrel, AckKind::Pubcomp];

    /// The kind that packets of this type are, if they are acknowledgements.
    pub fn of(packet_type: PacketType) -> Option<AckKind> {
        AckKind::ALL.into_iter().find(|kind| kind.packet_type() == packet_type)
    }

    /// The packet type.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            AckKind::Puback => PacketType::Puback,
            AckKind::Pubrec => PacketType::Pubrec,
            AckKind::Pubrel => PacketType::Pubrel,
            AckKind::Pubcomp => PacketType::Pubcomp,
        }
    }
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP. Before MQTT 5.0 it is nothing but the packet identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// The packet identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// How it went.
    pub code: ReasonCode,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement that says no more than its code.
    #[inline]
    pub const fn new(packet_id: PacketId, code: ReasonCode) -> Self {
        Ack { packet_id, code, reason_string: None, user: UserProperties::NONE }
    }

    /// The acknowledgement in a packet of its shortest form, which is the same in all versions and directions, and what nearly all
    /// of them are. None for any other packet.
    #[inline]
    pub fn of_short(frame: Frame<'_>) -> Option<(AckKind, Ack<'static>)> {
        let Frame { first, body: &[high, low], length: 4 } = frame else { return None };
        let kind = AckKind::ALL.into_iter().find(|kind| first == kind.packet_type().first_byte())?;
        let packet_id = PacketId::new(u16::from_be_bytes([high, low]))?;
        Some((kind, Ack::new(packet_id, ReasonCode::Success)))
    }

    /// From MQTT 5.0 on, reason code and properties may be left out from the end: two bytes are a success, three a code
    /// without properties (3.4.2.1, 3.4.2.2.1).
    #[inline]
    pub(super) fn decode(
        kind: AckKind,
        body: &'a [u8],
        version: ProtocolVersion,
        sender: Sender,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Ack::new(packet_id, ReasonCode::Success));
        }
        if !version.is_v5() {
            return Err(DecodeError::malformed("acknowledgement of more than two bytes"));
        }
        let code = ReasonCode::read(reader.u8()?, kind.packet_type(), sender)?;
        if reader.is_empty() {
            return Ok(Ack::new(packet_id, code));
        }
        let Explanation { reason_string, user } = Explanation::parse(property_block(&mut reader)?)?;
        reader.finish()?;
        Ok(Ack { packet_id, code, reason_string, user })
    }

    fn explanation(&self) -> Explanation<'a> {
        Explanation { reason_string: self.reason_string, user: self.user }
    }

    /// Whether the packet identifier says it all.
    #[inline]
    fn is_short(&self, version: ProtocolVersion) -> bool {
        !version.is_v5() || self.code == ReasonCode::Success && self.reason_string.is_none() && self.user.is_empty()
    }

    #[inline]
    fn body_len(&self, version: ProtocolVersion) -> usize {
        if self.is_short(version) {
            return 2;
        }
        match self.explanation() {
            explanation if explanation.is_empty() => 3,
            explanation => 3 + explanation.section_len(version),
        }
    }

    /// How many bytes [`encode`](Ack::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`, in its shortest form.
    #[inline]
    pub fn encode(&self, kind: AckKind, version: ProtocolVersion, out: &mut Vec<u8>) {
        let first = kind.packet_type().first_byte();
        let [high, low] = self.packet_id.get().to_be_bytes();
        if self.is_short(version) {
            out.extend_from_slice(&[first, 2, high, low]);
            return;
        }
        put_header(first, self.body_len(version), out);
        put_u16(self.packet_id.get(), out);
        out.push(self.code.value());
        let explanation = self.explanation();
        if !explanation.is_empty() {
            explanation.put_section(version, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::ReasonCode::*;
    use crate::codec::Sender::*;
    use crate::codec::transcript::{V5, V31, V311, pid, read, refused, same, writes};

    #[test]
    fn the_four_are_two_bytes_of_packet_id_when_all_is_well() {
        for version in ProtocolVersion::ALL {
            let ack = Ack::new(pid(0x1234), Success);
            same(&[0x40, 2, 0x12, 0x34], version, Client, Packet::Puback(ack));
            same(&[0x50, 2, 0x12, 0x34], version, Server, Packet::Pubrec(ack));
            same(&[0x62, 2, 0x12, 0x34], version, Client, Packet::Pubrel(ack));
            same(&[0x70, 2, 0x12, 0x34], version, Server, Packet::Pubcomp(ack));
        }
    }

    #[test]
    fn code_and_explanation_come_with_mqtt_5() {
        let ack = Ack::new(pid(1), NoMatchingSubscribers);
        same(&[0x40, 3, 0, 1, 0x10], V5, Server, Packet::Puback(ack));
        let pairs = [("k".to_owned(), "v".to_owned())];
        let ack = Ack { reason_string: Some("no"), user: (&pairs[..]).into(), ..Ack::new(pid(1), NotAuthorized) };
        let bytes = b"\x50\x10\x00\x01\x87\x0C\x1F\x00\x02no\x26\x00\x01k\x00\x01v";
        same(bytes, V5, Server, Packet::Pubrec(ack));
        writes(Packet::Pubrec(ack), V311, &[0x50, 2, 0, 1]);
        // A success that explains itself is not short.
        let ack = Ack { reason_string: Some(""), ..Ack::new(pid(1), Success) };
        same(&[0x70, 7, 0, 1, 0, 3, 0x1F, 0, 0], V5, Server, Packet::Pubcomp(ack));
    }

    #[test]
    fn what_could_have_been_left_out_may_be_said() {
        for bytes in [&[0x62, 3, 0, 1, 0][..], &[0x62, 4, 0, 1, 0, 0]] {
            assert_eq!(read(bytes, V5, Client), Ok(Packet::Pubrel(Ack::new(pid(1), Success))));
        }
    }

    #[test]
    fn malformed() {
        for version in ProtocolVersion::ALL {
            assert_eq!(refused(&[0x40, 2, 0, 0], version, Client), MalformedPacket, "packet id 0");
            assert_eq!(refused(&[0x40, 1, 0], version, Client), MalformedPacket);
            assert_eq!(refused(&[0x40, 0], version, Client), MalformedPacket);
        }
        assert_eq!(refused(&[0x40, 3, 0, 1, 0], V311, Client), MalformedPacket, "too long");
        assert_eq!(refused(&[0x42, 2, 0, 1], V311, Client), MalformedPacket, "[MQTT-2.1.3-1]");
        assert_eq!(refused(&[0x60, 2, 0, 1], V311, Client), MalformedPacket, "[MQTT-3.6.1-1]");
        assert_eq!(refused(&[0x60, 2, 0, 1], V5, Client), MalformedPacket, "[MQTT-3.6.1-1]");
        assert_eq!(read(&[0x6A, 2, 0, 1], V31, Client), Ok(Packet::Pubrel(Ack::new(pid(1), Success))), "DUP in 3.1");
        assert_eq!(refused(&[0x40, 3, 0, 1, 0x7F], V5, Client), MalformedPacket, "no such code");
        assert_eq!(refused(&[0x40, 4, 0, 1, 0, 1], V5, Client), MalformedPacket, "properties cut short");
        assert_eq!(refused(&[0x40, 5, 0, 1, 0, 0, 0], V5, Client), MalformedPacket, "bytes behind");
        assert_eq!(refused(&[0x40, 7, 0, 1, 0, 3, 0x03, 0, 0], V5, Client), MalformedPacket, "content type");
    }

    #[test]
    fn each_of_the_four_has_its_codes() {
        let legal = |first: u8| {
            let codes = ReasonCode::ALL.iter().filter(|code| read(&[first, 3, 0, 1, code.value()], V5, Client).is_ok());
            codes.copied().collect::<Vec<_>>()
        };
        let received = [
            Success,
            NoMatchingSubscribers,
            UnspecifiedError,
            ImplementationSpecific,
            NotAuthorized,
            TopicNameInvalid,
            PacketIdInUse,
            QuotaExceeded,
            PayloadFormatInvalid,
        ];
        assert_eq!(legal(0x40), received, "[MQTT-3.4.2-1]");
        assert_eq!(legal(0x50), received, "[MQTT-3.5.2-1]");
        assert_eq!(legal(0x62), [Success, PacketIdNotFound], "[MQTT-3.6.2-1]");
        assert_eq!(legal(0x70), [Success, PacketIdNotFound], "[MQTT-3.7.2-1]");
        assert_eq!(refused(&[0x70, 3, 0, 1, 0x87], V5, Client), ProtocolError);
    }

    #[test]
    fn a_reason_is_told_once() {
        let bytes = [0x40, 10, 0, 1, 0, 6, 0x1F, 0, 0, 0x1F, 0, 0];
        assert_eq!(refused(&bytes, V5, Client), ProtocolError, "(3.4.2.2.2)");
    }
}
