//! SUBACK and UNSUBACK: one reason code for each topic filter of the request, in its order (MQTT 5.0, 3.9 and 3.11).

use std::fmt;

use super::explanation::Explanation;
use super::property::{PropertyList, property_block};
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
