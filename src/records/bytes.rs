//! What records are made of: numbers, texts, and the place that most of them begin with.

use crate::numbers::{Decision, DecisionNumber, StoreNumber};
use crate::octets;
use crate::session::Key;

/// Why something cannot be read: in a few words, for the log.
pub(super) type Wrong = &'static str;

/// The first number that no key has.
pub(super) const KEYS_END: u64 = (1 << 48) - 1;

/// So many bytes a number takes at most.
const LONGEST_NUMBER: usize = 9;

/// A place has no more bytes than this with a key of eight.
const LONGEST_PLACE: usize = 1 + 4 + 1 + 4 + 8;

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    /// All that is left.
    pub fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn byte(&mut self) -> Result<u8, Wrong> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A number of `length` bytes, eight at most, the lowest first; its last byte is zero only if it is the first one, too.
    fn short_number(&mut self, length: usize) -> Result<u64, Wrong> {
        let bytes = self.take(length)?;
        if length > 1 && bytes.last() == Some(&0) {
            return Err("a number is longer than it has to be");
        }
        let mut whole = [0; 8];
        whole[..length].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(whole))
    }

    /// A number as [`put_number`] writes it.
    pub fn number(&mut self) -> Result<u64, Wrong> {
        let mut value = 0;
        for position in 0..LONGEST_NUMBER {
            let byte = self.byte()?;
            let is_ninth = position + 1 == LONGEST_NUMBER;
            let bits = if is_ninth { byte } else { byte & 0x7F };
            value |= u64::from(bits) << (7 * position);
            if is_ninth || byte & 0x80 == 0 {
                let is_too_long = byte == 0 && position > 0;
                return if is_too_long { Err("a number is longer than it has to be") } else { Ok(value) };
            }
        }
        Err("a number has no end")
    }

    /// A number that counts bytes in memory.
    pub fn length(&mut self) -> Result<usize, Wrong> {
        usize::try_from(self.number()?).map_err(|_| "a length is too great")
    }

    /// A number of 32 bits.
    pub fn number_u32(&mut self) -> Result<u32, Wrong> {
        u32::try_from(self.number()?).map_err(|_| "a number has more than 32 bits")
    }

    /// The next `length` bytes as text.
    pub fn text(&mut self, length: usize) -> Result<&'a str, Wrong> {
        text(self.take(length)?)
    }

    /// A length, and a text of it.
    pub fn text_with_length(&mut self) -> Result<&'a str, Wrong> {
        let length = self.length()?;
        self.text(length)
    }

    /// A place as [`put_place`] writes it: a store number, and a number of 48 bits that belongs to it, zero if there is none.
    pub fn place(&mut self) -> Result<(StoreNumber, u64), Wrong> {
        let lengths = self.byte()?;
        let (counter, boot, key) = (lengths & 3, lengths >> 2 & 3, lengths >> 4);
        if boot == 3 || key > 6 {
            return Err("the lengths in a place are none");
        }
        let boot = self.short_number(usize::from(boot) + 1)? as u32;
        let shard = self.byte()?;
        let counter = self.short_number(usize::from(counter) + 1)? as u32;
        let key = match self.short_number(key.into())? {
            0 if key > 0 => return Err("a number is longer than it has to be"),
            key => key,
        };
        match boot {
            0 => Err("there is no boot 0"),
            boot => Ok((StoreNumber::new(boot, shard, counter), key)),
        }
    }

    /// A place with a key.
    pub fn keyed_place(&mut self) -> Result<(StoreNumber, Key), Wrong> {
        let (session, number) = self.place()?;
        Ok((session, Key::new(number.checked_sub(1).ok_or("a key is missing")?)))
    }

    /// A decision as [`put_decision`] writes it.
    pub fn decision(&mut self) -> Result<Decision, Wrong> {
        let session = self.session()?;
        Ok(Decision { session, number: self.decision_number()? })
    }

    /// The number of a decision.
    pub fn decision_number(&mut self) -> Result<DecisionNumber, Wrong> {
        self.optional_decision()?.ok_or("a decision has no number")
    }

    /// The number of a decision, none if it is zero.
    pub fn optional_decision(&mut self) -> Result<Option<DecisionNumber>, Wrong> {
        let number = self.number()?;
        Ok(Some(DecisionNumber::from_u64(number)).filter(|_| number > 0))
    }

    /// A place without a key.
    pub fn session(&mut self) -> Result<StoreNumber, Wrong> {
        match self.place()? {
            (session, 0) => Ok(session),
            _ => Err("there is a key where none belongs"),
        }
    }
}

/// `bytes` as text.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Wrong> {
    octets::text(bytes).ok_or("a text is not UTF-8")
}

/// Writes a number: seven bits a byte, the lowest first, all but the last with the high bit set. A ninth byte has eight bits, and is the last.
pub(super) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    for _ in 1..LONGEST_NUMBER {
        if number < 0x80 {
            break;
        }
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Writes a length, and the text.
pub(super) fn put_text_with_length(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Writes a store number with a key, which is told from none by being one more.
pub(super) fn put_keyed_place(session: StoreNumber, key: Key, out: &mut Vec<u8>) {
    debug_assert!(!key.is_none(), "it is stored");
    put_place(session, key.get() + 1, out);
}

/// Writes a decision: its session, its number.
pub(super) fn put_decision(decision: Decision, out: &mut Vec<u8>) {
    put_place(decision.session, 0, out);
    put_number(decision.number.get(), out);
}

/// Writes a store number, and a number of 48 bits that belongs to it, zero if there is none.
pub(super) fn put_place(session: StoreNumber, key: u64, out: &mut Vec<u8>) {
    debug_assert!(key <= KEYS_END);
    let (boot, counter) = (session.boot(), session.counter());
    let [boot_bytes, counter_bytes, key_bytes] = [boot.into(), counter.into(), key].map(bytes_of);
    let (boot_bytes, counter_bytes) = (boot_bytes.max(1), counter_bytes.max(1));
    // Most records begin with one. Each part is written whole, and the next one over what it has too much: that costs less than to copy some bytes of each.
    let mut place = [0; LONGEST_PLACE];
    place[0] = ((counter_bytes - 1) | (boot_bytes - 1) << 2 | key_bytes << 4) as u8;
    place[1..5].copy_from_slice(&boot.to_le_bytes());
    let shard = 1 + boot_bytes;
    place[shard] = session.shard();
    let counter_at = shard + 1;
    place[counter_at..counter_at + 4].copy_from_slice(&counter.to_le_bytes());
    let key_at = counter_at + counter_bytes;
    place[key_at..key_at + 8].copy_from_slice(&key.to_le_bytes());
    let whole = out.len() + key_at + key_bytes;
    out.extend_from_slice(&place);
    out.truncate(whole);
}

/// How many bytes a number has that are not zero at its high end.
fn bytes_of(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(8) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(number, &mut out);
        out
    }

    #[test]
    fn numbers_are_as_long_as_they_have_to_be() {
        for (number, length) in [(0, 1), (127, 1), (128, 2), ((1 << 56) - 1, 8), (1 << 56, 9), (u64::MAX, 9)] {
            let bytes = written(number);
            assert_eq!(bytes.len(), length, "{number}");
            assert_eq!(Cursor::new(&bytes).number(), Ok(number));
            assert!(Cursor::new(&bytes[..length - 1]).number().is_err());
        }
        for bytes in
            [&[0x80, 0][..], &[0xFF, 0x80, 0], &[0x80; 9][..8], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0]]
        {
            assert!(Cursor::new(bytes).number().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn places_that_none_would_write_are_refused() {
        // Three lengths that there are not, a counter, a boot and a key that end in zero.
        let bad = [
            &[0x0C, 1, 1, 1, 1, 1, 1][..],
            &[0x70, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            &[0x80, 1, 1, 1],
            &[0x01, 1, 1, 1, 0],
            &[0x04, 1, 0, 1, 1],
            &[0x10, 1, 1, 1, 0],
            &[0x20, 1, 1, 1, 1, 0],
        ];
        for bytes in bad {
            assert!(Cursor::new(bytes).place().is_err(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn places_come_back(boot in 1..1_u32 << 24, shard: u8, counter: u32, key in 0..KEYS_END, cut in 0..24_u32) {
            let (boot, counter, key) = ((boot >> cut).max(1), counter >> cut, key >> cut >> cut);
            let (mut out, number) = (Vec::new(), StoreNumber::new(boot, shard, counter));
            put_place(number, key, &mut out);
            prop_assert!(out.len() <= 15);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.place(), Ok((number, key)));
            prop_assert!(cursor.is_empty());
            prop_assert_eq!((number.boot(), number.shard(), number.counter()), (boot, shard, counter));
        }

        #[test]
        fn numbers_come_back(number: u64, cut in 0..64_u32) {
            let number = number >> cut;
            prop_assert_eq!(Cursor::new(&written(number)).number(), Ok(number));
        }
    }
}
