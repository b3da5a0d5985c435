//! The data types of MQTT, read from the front of a slice (MQTT 5.0, 1.5).

use super::{DecodeError, PacketId};
use crate::octets;

/// The longest a variable byte integer may be.
pub(super) const MAX_VARINT_LEN: usize = 4;

const CUT_SHORT: DecodeError = DecodeError::malformed("packet ends in the middle of a field");

/// What is left of a packet.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// What has not been read.
    #[inline]
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A variable byte integer: at most four bytes, and no more than its value needs `[MQTT-1.5.5-1]`.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0;
        for position in 0..MAX_VARINT_LEN {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * position);
            if byte & 0x80 == 0 {
                if byte == 0 && position > 0 {
                    return Err(DecodeError::malformed("variable byte integer longer than needed [MQTT-1.5.5-1]"));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::malformed("variable byte integer of more than four bytes"))
    }

    /// Binary data: two bytes of length, then the bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// A UTF-8 string: two bytes of length, then well-formed UTF-8 `[MQTT-1.5.4-1]` without U+0000 `[MQTT-1.5.4-2]`.
    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        let text = octets::text(bytes).ok_or_else(|| DecodeError::malformed("string is not UTF-8 [MQTT-1.5.4-1]"))?;
        if octets::contains_null(bytes) {
            return Err(DecodeError::malformed("string contains U+0000 [MQTT-1.5.4-2]"));
        }
        Ok(text)
    }

    /// A packet identifier, which is never zero `[MQTT-2.2.1-3]`, `[MQTT-2.2.1-4]`.
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::malformed("packet identifier is 0 [MQTT-2.2.1-3]"))
    }

    /// The packet must end here.
    #[inline]
    pub(super) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::malformed("bytes after the end of the packet")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ReasonCode;

    fn string(bytes: &[u8]) -> Result<&str, DecodeError> {
        Reader::new(bytes).string()
    }

    #[test]
    fn varints_are_four_bytes_at_most_and_no_longer_than_needed() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7F], 127),
            (&[0x80, 0x01], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xFF, 0xFF, 0x7F], 2_097_151),
            (&[0x80, 0x80, 0x80, 0x01], 2_097_152),
            (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
        ] {
            assert_eq!(Reader::new(bytes).varint(), Ok(value));
        }
        for bytes in [&[0x80, 0x00][..], &[0xFF, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x01], &[0x80], &[]] {
            assert_eq!(Reader::new(bytes).varint().unwrap_err().code, ReasonCode::MalformedPacket, "{bytes:x?}");
        }
    }

    #[test]
    fn strings_are_utf8_without_nul_or_surrogates_but_keep_their_byte_order_mark() {
        assert_eq!(string(b"\x00\x00"), Ok(""));
        assert_eq!(string("\0\x05a\u{20AC}\u{7F}rest".as_bytes()), Ok("a\u{20AC}\u{7F}"));
        assert_eq!(string(b"\x00\x03\xEF\xBB\xBF"), Ok("\u{FEFF}"), "[MQTT-1.5.4-3]");
        for bytes in [
            &b"\x00\x01\x00"[..],        // U+0000
            b"\x00\x03a\x00b",           // U+0000 inside
            b"\x00\x02\xC0\x80",         // U+0000, overlong
            b"\x00\x03\xED\xA0\x80",     // U+D800, a surrogate
            b"\x00\x03\xED\xBF\xBF",     // U+DFFF
            b"\x00\x01\xFF",             // never in UTF-8
            b"\x00\x02\xE2\x82",         // cut short
            b"\x00\x04\xF4\x90\x80\x80", // beyond U+10FFFF
            b"\x00\x05abcd",             // announces more than there is
            b"\xFF\xFFabcd",
            b"\x00",
            b"",
        ] {
            assert_eq!(string(bytes).unwrap_err().code, ReasonCode::MalformedPacket, "{bytes:x?}");
        }
    }

    #[test]
    fn the_end_is_the_end() {
        let mut reader = Reader::new(&[0x12, 0x34, 0x56, 0x78, 0x9A]);
        assert_eq!(reader.u32(), Ok(0x1234_5678));
        assert!(reader.u16().is_err());
        assert!(reader.finish().is_err());
        assert_eq!(reader.u8(), Ok(0x9A));
        assert!(reader.is_empty() && reader.finish().is_ok());
    }
}
