//! The fixed header: where a packet begins, of which type it is, and where it ends (MQTT 5.0, 2.1).

use super::read::MAX_VARINT_LEN;
use super::write::varint_len;
use super::{DecodeError, ProtocolVersion, ReasonCode};

/// The largest packet there can be, in bytes: a Remaining Length of 268,435,455 and the fixed header before it.
pub const MAX_PACKET_SIZE: usize = 268_435_455 + 1 + MAX_VARINT_LEN;

/// The type of a packet; its number is in the upper four bits of the first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// A client asks for a connection.
    Connect = 1,
    /// The server accepts or refuses it.
    Connack = 2,
    /// A message.
    Publish = 3,
    /// A QoS 1 message is acknowledged.
    Puback = 4,
    /// A QoS 2 message was received.
    Pubrec = 5,
    /// A QoS 2 message is released.
    Pubrel = 6,
    /// A QoS 2 message is complete.
    Pubcomp = 7,
    /// A client subscribes.
    Subscribe = 8,
    /// What was granted.
    Suback = 9,
    /// A client unsubscribes.
    Unsubscribe = 10,
    /// What was removed.
    Unsuback = 11,
    /// Are you there?
    Pingreq = 12,
    /// Yes.
    Pingresp = 13,
    /// The connection ends.
    Disconnect = 14,
    /// A step of an enhanced authentication; MQTT 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// The type with this number; none for 0, which is reserved, and above 15.
    #[inline]
    pub const fn from_u8(value: u8) -> Option<PacketType> {
        use PacketType::*;
        Some(match value {
            1 => Connect,
            2 => Connack,
            3 => Publish,
            4 => Puback,
            5 => Pubrec,
            6 => Pubrel,
            7 => Pubcomp,
            8 => Subscribe,
            9 => Suback,
            10 => Unsubscribe,
            11 => Unsuback,
            12 => Pingreq,
            13 => Pingresp,
            14 => Disconnect,
            15 => Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type, with the flags that the standard demands; PUBLISH adds its own.
    #[inline]
    pub(super) const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.fixed_flags()
    }

    const fn fixed_flags(self) -> u8 {
        match self {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The flags of all packets but PUBLISH are fixed (`[MQTT-2.1.3-1]`, `[MQTT-3.6.1-1]`, `[MQTT-3.8.1-1]`,
    /// `[MQTT-3.10.1-1]`).
    ///
    /// MQTT 3.1 calls them "not used" and a receiver passes over them, except that the three packets which are acknowledged
    /// have QoS 1, and DUP when they are sent again.
    #[inline]
    pub(super) const fn check_flags(self, flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
        let legal = match (self, version) {
            (PacketType::Publish, _) => true,
            (PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe, ProtocolVersion::V31) => {
                flags & 0b0110 == 0b0010
            }
            (_, ProtocolVersion::V31) => true,
            _ => flags == self.fixed_flags(),
        };
        if legal { Ok(()) } else { Err(DecodeError::malformed("reserved flags in the fixed header [MQTT-2.1.3-1]")) }
    }
}

/// A whole packet, of which nothing has been looked at but its fixed header.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The first byte: type and flags.
    pub first: u8,
    /// All that follows the fixed header.
    pub body: &'a [u8],
    /// The length of the whole packet in bytes, fixed header included.
    pub length: usize,
}

impl Frame<'_> {
    /// The type of the packet; none if it is the reserved type 0.
    #[inline]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_u8(self.first >> 4)
    }

    /// The lower four bits of the first byte.
    #[inline]
    pub(super) const fn flags(&self) -> u8 {
        self.first & 0x0F
    }

    /// MQTT 5.0 demands that Remaining Length is as short as it can be `[MQTT-1.5.5-1]`; earlier versions do not, and small
    /// devices make use of it, to fill in the length last.
    #[inline]
    pub(super) fn check_length(&self, version: ProtocolVersion) -> Result<(), DecodeError> {
        if version.is_v5() && self.length > 1 + varint_len(self.body.len()) + self.body.len() {
            return Err(DecodeError::malformed("Remaining Length longer than needed [MQTT-1.5.5-1]"));
        }
        Ok(())
    }
}

/// What [`split`] found at the front of the bytes.
#[derive(Clone, Copy, Debug)]
pub enum Split<'a> {
    /// A whole packet; the next one begins [`Frame::length`] bytes later.
    Frame(Frame<'a>),
    /// The beginning of a packet, or nothing.
    Incomplete {
        /// At least so many more bytes are needed; never zero. Not above the maximum packet size, but nobody should reserve
        /// that much because a stranger announced it.
        missing: usize,
    },
}

/// Finds the packet at the front of `bytes`. Looks at no more than five of them.
///
/// A packet longer than `max_packet_size` bytes, fixed header included, is refused as soon as its length is known.
///
/// # Errors
///
/// [`ReasonCode::PacketTooLarge`] as said; [`ReasonCode::MalformedPacket`] for the reserved packet type 0 and a
/// Remaining Length of more than four bytes. A Remaining Length that is longer than needed is left to [`decode`](super::decode), which
/// knows the version.
#[inline]
pub fn split(bytes: &[u8], max_packet_size: usize) -> Result<Split<'_>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Split::Incomplete { missing: 2 });
    };
    if first >> 4 == 0 {
        return Err(DecodeError::malformed("packet type 0 is reserved"));
    }
    let mut body_len = 0;
    for position in 0..MAX_VARINT_LEN {
        let Some(&byte) = rest.get(position) else {
            return Ok(Split::Incomplete { missing: 1 });
        };
        body_len |= usize::from(byte & 0x7F) << (7 * position);
        if byte & 0x80 == 0 {
            let header_len = 2 + position;
            let length = header_len + body_len;
            if length > max_packet_size {
                return Err(DecodeError { code: ReasonCode::PacketTooLarge, what: "packet above the maximum size" });
            }
            return Ok(match bytes.get(header_len..length) {
                Some(body) => Split::Frame(Frame { first, body, length }),
                None => Split::Incomplete { missing: length - bytes.len() },
            });
        }
    }
    Err(DecodeError::malformed("Remaining Length of more than four bytes"))
}

/// What there is of the body of a packet that may not be whole, or be too large: all behind its fixed header, of two bytes to five.
pub fn body_begun(packet: &[u8]) -> &[u8] {
    let length = packet.iter().skip(1).take(MAX_VARINT_LEN - 1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    packet.get(1 + length..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(bytes: &[u8]) -> usize {
        match split(bytes, MAX_PACKET_SIZE) {
            Ok(Split::Incomplete { missing }) => missing,
            other => panic!("{other:?}"),
        }
    }

    fn refused(bytes: &[u8], max: usize) -> ReasonCode {
        split(bytes, max).unwrap_err().code
    }

    #[test]
    fn a_packet_is_found_when_all_of_it_is_there() {
        let bytes = [0x30, 0x03, 1, 2, 3, 0xC0, 0x00];
        for end in 0..5 {
            assert!(missing(&bytes[..end]) <= 5 - end);
        }
        assert_eq!(missing(&bytes[..2]), 3);
        let Ok(Split::Frame(frame)) = split(&bytes, 5) else { panic!() };
        assert_eq!((frame.first, frame.body, frame.length), (0x30, &[1, 2, 3][..], 5));
        assert_eq!(frame.packet_type(), Some(PacketType::Publish));
    }

    #[test]
    fn size_is_refused_before_the_body_arrives() {
        assert_eq!(refused(&[0x30, 0x80, 0x80, 0x80, 0x01], 1_000_000), ReasonCode::PacketTooLarge);
        assert_eq!(refused(&[0x30, 0x04], 5), ReasonCode::PacketTooLarge);
        assert_eq!(missing(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), 268_435_455);
    }

    #[test]
    fn no_packet_begins_like_this() {
        assert_eq!(refused(&[0x00], 100), ReasonCode::MalformedPacket);
        assert_eq!(refused(&[0x0F, 0x00], 100), ReasonCode::MalformedPacket);
        assert_eq!(refused(&[0x30, 0x80, 0x80, 0x80, 0x80], 100), ReasonCode::MalformedPacket);
    }

    #[test]
    fn only_mqtt_5_minds_a_long_remaining_length() {
        let Ok(Split::Frame(frame)) = split(&[0xC0, 0x80, 0x80, 0x00], 100) else { panic!() };
        assert_eq!((frame.body.len(), frame.length), (0, 4));
        assert!(frame.check_length(ProtocolVersion::V311).is_ok());
        assert_eq!(frame.check_length(ProtocolVersion::V5).unwrap_err().code, ReasonCode::MalformedPacket);
    }

    #[test]
    fn flags_are_fixed_but_for_what_mqtt_31_does_not_use() {
        let legal = |packet: PacketType, version| {
            (0..16).filter(|&flags| packet.check_flags(flags, version).is_ok()).collect::<Vec<u8>>()
        };
        for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
            for number in 1..16 {
                let packet = PacketType::from_u8(number).unwrap();
                let expected = match number {
                    3 => (0..16).collect(),
                    6 | 8 | 10 => vec![2],
                    _ => vec![0],
                };
                assert_eq!(legal(packet, version), expected, "{packet:?}");
            }
        }
        assert_eq!(legal(PacketType::Subscribe, ProtocolVersion::V31), [2, 3, 10, 11]);
        assert_eq!(legal(PacketType::Pingreq, ProtocolVersion::V31).len(), 16);
    }

    #[test]
    fn the_body_begins_behind_a_header_of_two_bytes_to_five() {
        for header in [&[0x10, 5][..], &[0x10, 0x80, 1], &[0x10, 0x80, 0x80, 1], &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]] {
            assert_eq!(body_begun(&[header, b"body"].concat()), b"body");
            assert!((0..=header.len()).all(|end| body_begun(&header[..end]).is_empty()));
        }
    }
}
