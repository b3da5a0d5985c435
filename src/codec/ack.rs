//! PUBACK, PUBREC, PUBREL and PUBCOMP: the four packets that acknowledge a message, all of one form (MQTT 5.0, 3.4 to 3.7).

use super::explanation::Explanation;
use super::property::{PropertyList, property_block};
use super::read::Reader;
use super::write::{frame_len, put_header, put_u16};
use super::{DecodeError, PacketId, PacketType, ProtocolVersion, ReasonCode, Sender, UserProperties};

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
