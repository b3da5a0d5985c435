//! SUBACK and UNSUBACK: one reason code for each topic filter of the request, in its order (MQTT 5.0, 3.9 and 3.11).

use std::fmt;

use super::explanation::Explanation;
use super::properties::{PropertyList, property_block};
use super::read::Reader;
use super::write::{frame_len, put_header, put_u16};
use super::{DecodeError, PacketId, PacketType, ProtocolVersion, ReasonCode, Sender, UserProperties};

/// The answer to SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suback<'a> {
    /// The packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// What was granted or refused, filter by filter. Before MQTT 5.0 every failure becomes 0x80.
    pub codes: ReasonCodes<'a>,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Suback<'a> {
    /// A SUBACK that says no more than its codes.
    pub fn new(packet_id: PacketId, codes: impl Into<ReasonCodes<'a>>) -> Self {
        Suback { packet_id, codes: codes.into(), reason_string: None, user: UserProperties::NONE }
    }

    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let mut explanation = Explanation::default();
        if version.is_v5() {
            explanation = Explanation::parse(property_block(&mut reader)?)?;
        }
        let codes = reader.rest();
        for &code in codes {
            // [MQTT-3.9.3-2] in MQTT 3.1.1: codes other than these four are reserved.
            if !version.is_v5() && !matches!(code, 0 | 1 | 2 | 0x80) {
                return Err(DecodeError::malformed("reserved SUBACK return code [MQTT-3.9.3-2]"));
            }
            ReasonCode::read(code, PacketType::Suback, Sender::Server)?;
        }
        let Explanation { reason_string, user } = explanation;
        Ok(Suback { packet_id, codes: ReasonCodes::in_bytes(codes)?, reason_string, user })
    }

    fn explanation(&self) -> Explanation<'a> {
        Explanation { reason_string: self.reason_string, user: self.user }
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        2 + self.explanation().section_len(version) + self.codes.len()
    }

    /// How many bytes [`encode`](Suback::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_header(PacketType::Suback.first_byte(), self.body_len(version), out);
        put_u16(self.packet_id.get(), out);
        self.explanation().put_section(version, out);
        out.extend(self.codes.iter().map(|code| code.in_suback(version)));
    }
}

/// The answer to UNSUBSCRIBE. Before MQTT 5.0 it is nothing but the packet identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsuback<'a> {
    /// The packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// What became of each filter; empty when decoded from MQTT 3.1 or 3.1.1.
    pub codes: ReasonCodes<'a>,
    /// For people, in a log.
    pub reason_string: Option<&'a str>,
    /// User properties, in order.
    pub user: UserProperties<'a>,
}

impl<'a> Unsuback<'a> {
    /// An UNSUBACK that says no more than its codes.
    pub fn new(packet_id: PacketId, codes: impl Into<ReasonCodes<'a>>) -> Self {
        Unsuback { packet_id, codes: codes.into(), reason_string: None, user: UserProperties::NONE }
    }

    pub(super) fn decode(body: &'a [u8], version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if !version.is_v5() {
            reader.finish()?;
            return Ok(Unsuback::new(packet_id, ReasonCodes::default()));
        }
        let Explanation { reason_string, user } = Explanation::parse(property_block(&mut reader)?)?;
        for &code in reader.rest() {
            ReasonCode::read(code, PacketType::Unsuback, Sender::Server)?;
        }
        Ok(Unsuback { packet_id, codes: ReasonCodes::in_bytes(reader.rest())?, reason_string, user })
    }

    fn explanation(&self) -> Explanation<'a> {
        Explanation { reason_string: self.reason_string, user: self.user }
    }

    fn body_len(&self, version: ProtocolVersion) -> usize {
        let codes = if version.is_v5() { self.codes.len() } else { 0 };
        2 + self.explanation().section_len(version) + codes
    }

    /// How many bytes [`encode`](Unsuback::encode) appends.
    pub fn encoded_len(&self, version: ProtocolVersion) -> usize {
        frame_len(self.body_len(version))
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        put_header(PacketType::Unsuback.first_byte(), self.body_len(version), out);
        put_u16(self.packet_id.get(), out);
        self.explanation().put_section(version, out);
        if version.is_v5() {
            out.extend(self.codes.iter().map(ReasonCode::value));
        }
    }
}

/// The reason codes of a SUBACK or UNSUBACK, in the order of the filters they answer.
///
/// A view that copies nothing: onto a received packet, or onto a slice of the caller's (`(&codes[..]).into()`).
#[derive(Clone, Copy)]
pub struct ReasonCodes<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// Bytes that have been checked to be reason codes.
    Bytes(&'a [u8]),
    List(&'a [ReasonCode]),
}

impl<'a> ReasonCodes<'a> {
    /// Those in `bytes`, which have been checked. There is one for each filter, and no request without filters
    /// (`[MQTT-3.8.3-2]`, `[MQTT-3.10.3-2]`).
    fn in_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() {
            Err(DecodeError::protocol("no reason codes"))
        } else {
            Ok(ReasonCodes(Source::Bytes(bytes)))
        }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Bytes(bytes) => bytes.len(),
            Source::List(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each code, in order.
    pub fn iter(&self) -> ReasonCodesIter<'a> {
        ReasonCodesIter(match self.0 {
            Source::Bytes(bytes) => Rest::Bytes(bytes.iter()),
            Source::List(list) => Rest::List(list.iter()),
        })
    }
}

impl Default for ReasonCodes<'_> {
    fn default() -> Self {
        ReasonCodes(Source::Bytes(&[]))
    }
}

impl<'a> From<&'a [ReasonCode]> for ReasonCodes<'a> {
    fn from(list: &'a [ReasonCode]) -> Self {
        ReasonCodes(Source::List(list))
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReasonCodes<'_> {}

impl fmt::Debug for ReasonCodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for ReasonCodes<'a> {
    type Item = ReasonCode;
    type IntoIter = ReasonCodesIter<'a>;

    fn into_iter(self) -> ReasonCodesIter<'a> {
        self.iter()
    }
}

/// Each reason code of a SUBACK or UNSUBACK.
#[derive(Clone)]
pub struct ReasonCodesIter<'a>(Rest<'a>);

#[derive(Clone)]
enum Rest<'a> {
    Bytes(std::slice::Iter<'a, u8>),
    List(std::slice::Iter<'a, ReasonCode>),
}

impl Iterator for ReasonCodesIter<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<ReasonCode> {
        match &mut self.0 {
            Rest::Bytes(bytes) => ReasonCode::from_u8(*bytes.next()?),
            Rest::List(list) => list.next().copied(),
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
    fn suback_says_what_was_granted() {
        let granted = [ReasonCode::GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError];
        let suback = Suback::new(pid(0x0A0B), &granted[..]);
        for version in [V31, V311] {
            same(&[0x90, 6, 10, 11, 0, 1, 2, 0x80], version, Server, Packet::Suback(suback));
        }
        same(&[0x90, 7, 10, 11, 0, 0, 1, 2, 0x80], V5, Server, Packet::Suback(suback));
        assert_eq!((suback.codes.len(), suback.codes.is_empty()), (4, false));
    }

    #[test]
    fn every_failure_is_0x80_before_mqtt_5() {
        let codes = [NotAuthorized, GrantedQoS1, WildcardSubscriptionsNotSupported];
        let suback = Suback { reason_string: Some("no"), ..Suback::new(pid(1), &codes[..]) };
        writes(Packet::Suback(suback), V311, &[0x90, 5, 0, 1, 0x80, 1, 0x80]);
        same(b"\x90\x0B\x00\x01\x05\x1F\x00\x02no\x87\x01\xA2", V5, Server, Packet::Suback(suback));
    }

    #[test]
    fn malformed_suback() {
        for code in [0x03, 0x7F, 0x87, 0xFF] {
            assert_eq!(refused(&[0x90, 3, 0, 1, code], V311, Server), MalformedPacket, "[MQTT-3.9.3-2] of 3.1.1");
        }
        assert_eq!(refused(&[0x90, 4, 0, 1, 0, 0x03], V5, Server), MalformedPacket, "no such code");
        assert_eq!(refused(&[0x90, 4, 0, 1, 0, 0x11], V5, Server), ProtocolError, "[MQTT-3.9.3-2]");
        assert_eq!(refused(&[0x90, 2, 0, 1], V311, Server), ProtocolError, "no codes");
        assert_eq!(refused(&[0x90, 3, 0, 1, 0], V5, Server), ProtocolError, "no codes");
        assert_eq!(refused(&[0x90, 2, 0, 1], V5, Server), MalformedPacket, "no property length");
        assert_eq!(refused(&[0x90, 3, 0, 0, 0], V311, Server), MalformedPacket, "packet id 0");
        assert_eq!(refused(&[0x91, 3, 0, 1, 0], V311, Server), MalformedPacket, "[MQTT-2.1.3-1]");
        assert_eq!(refused(&[0x90, 3, 0, 1, 0], V311, Client), ProtocolError, "from a client");
    }

    #[test]
    fn unsuback_has_codes_from_mqtt_5_on() {
        let codes = [Success, NoSubscriptionExisted, TopicFilterInvalid];
        let unsuback = Unsuback::new(pid(9), &codes[..]);
        same(&[0xB0, 6, 0, 9, 0, 0, 0x11, 0x8F], V5, Server, Packet::Unsuback(unsuback));
        writes(Packet::Unsuback(unsuback), V311, &[0xB0, 2, 0, 9]);
        let none = Unsuback::new(pid(9), ReasonCodes::default());
        assert_eq!(read(&[0xB0, 2, 0, 9], V31, Server), Ok(Packet::Unsuback(none)));
    }

    #[test]
    fn malformed_unsuback() {
        assert_eq!(refused(&[0xB0, 3, 0, 9, 0], V311, Server), MalformedPacket, "too long");
        assert_eq!(refused(&[0xB0, 3, 0, 9, 0], V5, Server), ProtocolError, "no codes");
        assert_eq!(refused(&[0xB0, 4, 0, 9, 0, 0x01], V5, Server), ProtocolError, "[MQTT-3.11.3-2]");
        assert_eq!(refused(&[0xB0, 4, 0, 9, 0, 0x99], V5, Server), ProtocolError, "[MQTT-3.11.3-2]");
        assert_eq!(refused(&[0xB0, 2, 0, 9], V311, Client), ProtocolError, "from a client");
    }
}
