//! The header of a frame (RFC 6455 section 5.2).

use super::violation::Violation;

/// The longest header that a client can send, in bytes.
pub const LONGEST_HEADER: usize = 14;
/// The most payload that a frame may have that is not data, in bytes (section 5.5).
pub const MOST_OF_CONTROL: usize = 125;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Lengths from here on are in two bytes behind it, or in eight.
const IN_TWO_BYTES: u8 = 126;
const IN_EIGHT_BYTES: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation,
    /// A message of text, or its beginning.
    Text,
    /// A message of bytes, or its beginning.
    Binary,
    /// The end of the connection.
    Close,
    /// A question whether the other side is there.
    Ping,
    /// The answer to that.
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }

    /// Whether it is about the connection, and no part of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The header of a frame that a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether it is the last frame of its message.
    pub is_final: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The key by which its payload is masked.
    pub mask: [u8; 4],
    /// The length of its payload in bytes.
    pub length: u64,
}

impl FrameHeader {
    /// The header at the front of `bytes`, and its own length. None if more is to come of it: what there is has been checked.
    ///
    /// # Errors
    ///
    /// It is none of a client that keeps to the protocol: something reserved is used, the payload is not masked, the length is not the shortest form of
    /// its number, or a frame of control is fragmented or too long.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(first) = bytes.first() else { return Ok(None) };
        if first & RESERVED != 0 {
            return Err(Violation::Protocol("a reserved bit is set"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(Violation::Protocol("an opcode is reserved"))?;
        let is_final = first & FINAL != 0;
        if opcode.is_control() && !is_final {
            return Err(Violation::Protocol("a control frame is fragmented"));
        }
        let Some(second) = bytes.get(1) else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(Violation::Protocol("a frame is not masked"));
        }
        let short = second & !MASKED;
        if opcode.is_control() && usize::from(short) > MOST_OF_CONTROL {
            return Err(Violation::Protocol("a control frame is too long"));
        }
        let (length, behind) = match short {
            IN_TWO_BYTES => {
                let Some(length) = bytes.get(2..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), 4)
            }
            IN_EIGHT_BYTES => {
                let Some(length) = bytes.get(2..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
                (u64::from_be_bytes(*length), 10)
            }
            short => (u64::from(short), 2),
        };
        let least = match short {
            IN_TWO_BYTES => u64::from(IN_TWO_BYTES),
            IN_EIGHT_BYTES => 1 << 16,
            _ => 0,
        };
        if length < least || length > i64::MAX as u64 {
            return Err(Violation::Protocol("the length of a frame is not in its only form"));
        }
        let Some(mask) = bytes.get(behind..).and_then(<[u8]>::first_chunk) else { return Ok(None) };
        Ok(Some((FrameHeader { is_final, opcode, mask: *mask, length }, behind + mask.len())))
    }
}

/// Writes the header of a whole message, or of a frame of control, of the server: its payload of `length` bytes is not masked.
pub fn write_header(opcode: Opcode, length: usize, out: &mut Vec<u8>) {
    out.push(FINAL | opcode.bits());
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < IN_TWO_BYTES => out.push(short),
        (_, Ok(length)) => {
            out.push(IN_TWO_BYTES);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(IN_EIGHT_BYTES);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header as a client writes it.
    fn written(is_final: bool, opcode: Opcode, mask: [u8; 4], length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(opcode, length, &mut bytes);
        bytes[0] = if is_final { bytes[0] } else { bytes[0] & !FINAL };
        bytes[1] |= MASKED;
        bytes.extend_from_slice(&mask);
        bytes
    }

    proptest! {
        /// What is written is read, and nothing before all of it is there.
        #[test]
        fn a_header_is_read_as_it_was_written(
            is_final in any::<bool>(),
            opcode in prop_oneof![Just(Opcode::Binary), Just(Opcode::Text), Just(Opcode::Continuation)],
            mask in any::<[u8; 4]>(),
            length in prop_oneof![0..130_usize, 65_000..66_000_usize, any::<u32>().prop_map(|length| length as usize)],
        ) {
            let mut bytes = written(is_final, opcode, mask, length);
            for end in 0..bytes.len() {
                prop_assert_eq!(FrameHeader::decode(&bytes[..end]), Ok(None));
            }
            let (header, its_length) = (FrameHeader { is_final, opcode, mask, length: length as u64 }, bytes.len());
            prop_assert!(its_length <= LONGEST_HEADER);
            bytes.extend_from_slice(b"payload");
            prop_assert_eq!(FrameHeader::decode(&bytes), Ok(Some((header, its_length))));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_is_seen() {
        let refused = |bytes: &[u8]| FrameHeader::decode(bytes).is_err();
        for bits in 0..16 {
            assert_eq!(refused(&[FINAL | bits]), Opcode::of(bits).is_none(), "{bits}");
        }
        for reserved in [0x40, 0x20, 0x10] {
            assert!(refused(&[FINAL | reserved | 2]));
        }
        assert!(refused(&[0x09]) && !refused(&[0x02]), "a ping in two frames");
        assert!(refused(&[0x82, 0x05]), "not masked");
        assert!(refused(&[0x89, 0xfe]) && !refused(&[0x89, 0xfd]), "a ping of 126 bytes");
        assert!(refused(&[0x82, 0xfe, 0, 125]) && !refused(&[0x82, 0xfe, 0, 126]));
        assert!(refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]));
        assert!(!refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]));
        assert!(refused(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), "the highest bit is zero");
    }
}
