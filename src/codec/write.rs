//! The data types of MQTT, appended to a buffer (MQTT 5.0, 1.5).
//!
//! A length field of two bytes bounds strings and binary data. What is longer is cut, never sent with a wrong length:
//! a packet that was encoded can always be parsed.

/// The longest string or binary data there is, in bytes.
pub(super) const MAX_FIELD_LEN: usize = u16::MAX as usize;

/// How many bytes `value` takes as a variable byte integer.
#[inline]
pub(super) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends a variable byte integer. `value` is at most 268,435,455.
#[inline]
pub(super) fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    debug_assert!(value <= 0xFFF_FFFF, "no variable byte integer holds {value}");
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[inline]
pub(super) fn put_u16(value: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(value: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// How many bytes `bytes` take as binary data.
#[inline]
pub(super) fn binary_len(bytes: &[u8]) -> usize {
    2 + bytes.len().min(MAX_FIELD_LEN)
}

#[inline]
pub(super) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let bytes = &bytes[..bytes.len().min(MAX_FIELD_LEN)];
    put_u16(bytes.len() as u16, out);
    out.extend_from_slice(bytes);
}

/// How many bytes `text` takes as a string.
#[inline]
pub(super) fn string_len(text: &str) -> usize {
    2 + cut(text).len()
}

#[inline]
pub(super) fn put_string(text: &str, out: &mut Vec<u8>) {
    let text = cut(text);
    put_u16(text.len() as u16, out);
    out.extend_from_slice(text.as_bytes());
}

/// As much of `text` as a string holds, in whole characters.
#[inline]
fn cut(text: &str) -> &str {
    if text.len() <= MAX_FIELD_LEN {
        return text;
    }
    let end = (0..=MAX_FIELD_LEN).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[..end]
}

/// How long a packet is whose body has `body_len` bytes.
#[inline]
pub(super) const fn frame_len(body_len: usize) -> usize {
    1 + varint_len(body_len) + body_len
}

/// Appends a fixed header, and makes room for the body that follows.
#[inline]
pub(super) fn put_header(first: u8, body_len: usize, out: &mut Vec<u8>) {
    out.reserve(frame_len(body_len));
    out.push(first);
    put_varint(body_len, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::read::Reader;

    #[test]
    fn varints_are_as_long_as_said_and_come_back() {
        for value in [0, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Reader::new(&out).varint(), Ok(value as u32));
        }
    }

    #[test]
    fn what_is_too_long_is_cut_at_a_character() {
        let text = "a".repeat(65_534) + "\u{20AC}";
        let mut out = Vec::new();
        put_string(&text, &mut out);
        assert_eq!(out.len(), string_len(&text));
        assert_eq!(Reader::new(&out).string(), Ok(&text[..65_534]));

        let bytes = [7; 65_536];
        out.clear();
        put_binary(&bytes, &mut out);
        assert_eq!(out.len(), binary_len(&bytes));
        assert_eq!(Reader::new(&out).binary(), Ok(&bytes[..65_535]));
    }
}
