//! Bytes that may not be in a text, looked for eight at a time: every PUBLISH comes through here.

use ascii::AsciiStr;

/// Eight times the same byte.
const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Not zero if one of the eight bytes is.
const fn has_null(word: u64) -> u64 {
    word.wrapping_sub(every(1)) & !word & every(0x80)
}

/// `+` and `#` differ in one bit.
const WILDCARD_BIT: u8 = b'+' ^ b'#';

/// `bytes` as a text, if they are UTF-8 [MQTT-1.5.4-1]. Most are ASCII and short, which the standard library looks at byte by byte.
#[inline]
pub fn text(bytes: &[u8]) -> Option<&str> {
    match AsciiStr::from_ascii(bytes) {
        Ok(ascii) => Some(ascii.as_str()),
        Err(_) => std::str::from_utf8(bytes).ok(),
    }
}

/// Whether a null is among `bytes`.
#[inline]
pub fn contains_null(bytes: &[u8]) -> bool {
    any(bytes, has_null)
}

/// Whether a null, a `+` or a `#` is among `bytes`.
#[inline]
pub fn contains_null_or_wildcard(bytes: &[u8]) -> bool {
    any(bytes, |word| has_null(word) | has_null((word | every(WILDCARD_BIT)) ^ every(b'+' | WILDCARD_BIT)))
}

/// Whether `unfit` is not zero for some eight of `bytes`. It gets no null that is not there.
#[inline]
fn any(bytes: &[u8], unfit: impl Fn(u64) -> u64) -> bool {
    let unfit = |eight: &[u8; 8]| unfit(u64::from_ne_bytes(*eight));
    match bytes.last_chunk() {
        // The last eight may overlap those before them.
        Some(last) => bytes.as_chunks().0.iter().fold(unfit(last), |found, eight| found | unfit(eight)) != 0,
        None => {
            let mut eight = [b' '; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            unfit(&eight) != 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the standard library finds, which looks at them in another way.
    #[test]
    fn what_is_no_text_is_found_wherever_it_is() {
        let characters = ["a", "é", "€", "𝄞", "\0", "\u{7ff}", "\u{ffff}"];
        let wrong: [&[u8]; 8] = [
            b"\x80",
            b"\xc3",
            b"\xe2\x82",
            b"\xf0\x9d\x84",
            b"\xed\xa0\x80",
            b"\xc0\x80",
            b"\xf4\x90\x80\x80",
            b"\xff",
        ];
        for (len, at) in (0..40).flat_map(|len| (0..=len).map(move |at| (len, at))) {
            for middle in characters.map(str::as_bytes).into_iter().chain(wrong) {
                let bytes = ["a".repeat(at).as_bytes(), middle, "a".repeat(len - at).as_bytes()].concat();
                assert_eq!(text(&bytes), std::str::from_utf8(&bytes).ok(), "{bytes:?}");
            }
        }
        assert_eq!(text(b""), Some(""));
    }

    #[test]
    fn unfit_bytes_are_found_wherever_they_are_and_no_others() {
        for len in 1..40 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'a'; len];
                    bytes[at] = byte;
                    assert_eq!(contains_null(&bytes), byte == 0, "{bytes:?}");
                    assert_eq!(contains_null_or_wildcard(&bytes), matches!(byte, 0 | b'+' | b'#'), "{bytes:?}");
                }
            }
        }
        assert!(!contains_null(&[]) && !contains_null_or_wildcard(&[]));
    }
}
