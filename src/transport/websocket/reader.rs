//! Frames of a client, as their bytes come: in pieces of any length, several in one, one in several.

use std::ops::Range;

use super::frame::{FrameHeader, LONGEST_HEADER, MOST_OF_CONTROL, Opcode};
use super::violation::{CloseCode, Violation};

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// Bytes of a message, unmasked where they were: these of those that were given.
    Data {
        /// Whether the message is text.
        is_text: bool,
        /// Where they are.
        bytes: Range<usize>,
        /// Whether the message ends with them.
        ends: bool,
    },
    /// The client asks whether the broker is there: with these bytes it is answered.
    Ping(&'a [u8]),
    /// It has answered.
    Pong(&'a [u8]),
    /// It closes, with this code, if it gives one.
    Close(Option<CloseCode>),
}

/// Reads frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a header, of which more is to come.
    header: Gathered<LONGEST_HEADER>,
    frame: Option<Frame>,
    /// Whether the message is text that has begun and not ended.
    message: Option<bool>,
    /// What has come of a frame of control.
    control: Gathered<MOST_OF_CONTROL>,
}

/// A frame whose header has come.
#[derive(Debug)]
struct Frame {
    header: FrameHeader,
    /// How much of its payload has come.
    come: u64,
}

impl FrameReader {
    /// What comes next in `bytes` from `at` on, which it counts up. None if that was all; then this is to be called with what comes next.
    ///
    /// # Errors
    ///
    /// The client does not keep to the protocol. Nothing is to be read behind that.
    pub fn next(&mut self, bytes: &mut [u8], at: &mut usize) -> Result<Option<Incoming<'_>>, Violation> {
        if self.frame.is_none() {
            let Some(header) = self.read_header(bytes, at)? else { return Ok(None) };
            self.begin(header)?;
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let left = frame.header.length - frame.come;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - *at);
        if count == 0 && left > 0 {
            return Ok(None);
        }
        let come = *at..*at + count;
        unmask(&mut bytes[come.clone()], frame.header.mask, frame.come);
        (*at, frame.come) = (come.end, frame.come + count as u64);
        let (opcode, is_whole) = (frame.header.opcode, frame.come == frame.header.length);
        let ends = is_whole && frame.header.is_final;
        if is_whole {
            self.frame = None;
        }
        if !opcode.is_control() {
            let is_text = self.message.unwrap_or_default();
            if ends {
                self.message = None;
            }
            return Ok(Some(Incoming::Data { is_text, bytes: come, ends }));
        }
        self.control.extend(&bytes[come]);
        if !is_whole {
            return Ok(None);
        }
        let payload = self.control.take();
        Ok(Some(match opcode {
            Opcode::Close => Incoming::Close(close_code(payload)?),
            Opcode::Ping => Incoming::Ping(payload),
            _ => Incoming::Pong(payload),
        }))
    }

    /// The next header, if all of it is there.
    fn read_header(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<FrameHeader>, Violation> {
        let before = self.header.len();
        let found = if before == 0 {
            FrameHeader::decode(&bytes[*at..])?
        } else {
            self.header.extend(&bytes[*at..]);
            FrameHeader::decode(self.header.bytes())?
        };
        let Some((header, length)) = found else {
            if before == 0 {
                self.header.extend(&bytes[*at..]);
            }
            *at = bytes.len();
            return Ok(None);
        };
        self.header.take();
        *at += length - before;
        Ok(Some(header))
    }

    /// A frame begins: as one of a message does that has begun, or as the first.
    fn begin(&mut self, header: FrameHeader) -> Result<(), Violation> {
        match (header.opcode, self.message) {
            (Opcode::Continuation, None) => return Err(Violation::Protocol("a message goes on that has not begun")),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::Protocol("a message begins before the last one has ended"));
            }
            (Opcode::Text | Opcode::Binary, None) => self.message = Some(header.opcode == Opcode::Text),
            _ => {}
        }
        self.frame = Some(Frame { header, come: 0 });
        Ok(())
    }
}

/// The code that a frame of closing has.
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(None),
            _ => Err(Violation::Protocol("a close has half a code")),
        };
    };
    let code = CloseCode::sent(u16::from_be_bytes(*code)).ok_or(Violation::Protocol("a close has no valid code"))?;
    std::str::from_utf8(reason).map_err(|_| Violation::Reason)?;
    Ok(Some(code))
}

/// Takes the mask off bytes that are in the payload from `from` on (section 5.3).
fn unmask(bytes: &mut [u8], mask: [u8; 4], from: u64) {
    let mut key = mask;
    key.rotate_left((from % 4) as usize);
    let [a, b, c, d] = key;
    let eight = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ eight).to_ne_bytes();
    }
    rest.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// At most so many bytes that come one after the other.
#[derive(Debug)]
struct Gathered<const MOST: usize> {
    bytes: [u8; MOST],
    len: u8,
}

impl<const MOST: usize> Default for Gathered<MOST> {
    fn default() -> Self {
        Gathered { bytes: [0; MOST], len: 0 }
    }
}

impl<const MOST: usize> Gathered<MOST> {
    fn len(&self) -> usize {
        usize::from(self.len)
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }

    /// Adds as many as there is room for.
    fn extend(&mut self, bytes: &[u8]) {
        let len = self.len();
        let count = bytes.len().min(MOST - len);
        self.bytes[len..len + count].copy_from_slice(&bytes[..count]);
        self.len += count as u8;
    }

    /// They, and none from here on.
    fn take(&mut self) -> &[u8] {
        let len = usize::from(std::mem::take(&mut self.len));
        &self.bytes[..len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frame::write_header;
    use super::*;

    /// A frame of a client.
    fn frame(is_final: bool, opcode: Opcode, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_header(opcode, payload.len(), &mut bytes);
        bytes[0] = if is_final { bytes[0] } else { bytes[0] & 0x7f };
        bytes[1] |= 0x80;
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    /// What comes, with the bytes of a message put together.
    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Whole {
        Message(bool, Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Close(Option<u16>),
    }

    fn read(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Whole>, Violation> {
        let (mut reader, mut message, mut whole) = (FrameReader::default(), Vec::new(), Vec::new());
        for mut piece in pieces {
            let mut at = 0;
            loop {
                let before = at;
                match reader.next(&mut piece, &mut at)? {
                    None if at == piece.len() => break,
                    None => assert!(at > before, "it goes on"),
                    Some(Incoming::Data { is_text, bytes, ends }) => {
                        message.extend_from_slice(&piece[bytes]);
                        if ends {
                            whole.push(Whole::Message(is_text, std::mem::take(&mut message)));
                        }
                    }
                    Some(Incoming::Ping(payload)) => whole.push(Whole::Ping(payload.to_vec())),
                    Some(Incoming::Pong(payload)) => whole.push(Whole::Pong(payload.to_vec())),
                    Some(Incoming::Close(code)) => whole.push(Whole::Close(code.map(CloseCode::get))),
                }
            }
        }
        Ok(whole)
    }

    fn in_pieces(bytes: &[u8], lengths: &[usize]) -> Vec<Vec<u8>> {
        let (mut rest, mut pieces) = (bytes, Vec::new());
        for length in lengths.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, behind) = rest.split_at((*length).min(rest.len()));
            pieces.push(piece.to_vec());
            rest = behind;
        }
        pieces
    }

    proptest! {
        /// However messages are divided into frames, with pings in between, and frames into pieces: what comes is what was sent.
        #[test]
        fn what_comes_is_what_was_sent(
            messages in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..300), 1..200_usize), 1..6),
            lengths in prop::collection::vec(1..40_usize, 1..8),
            mask in any::<[u8; 4]>(),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (is_text, payload, length) in messages {
                let first = if is_text { Opcode::Text } else { Opcode::Binary };
                let mut frames: Vec<&[u8]> = payload.chunks(length).collect();
                frames.resize(frames.len().max(1), &[]);
                for (at, part) in frames.iter().enumerate() {
                    let opcode = if at == 0 { first } else { Opcode::Continuation };
                    bytes.extend(frame(at + 1 == frames.len(), opcode, mask, part));
                    if at == 0 {
                        bytes.extend(frame(true, Opcode::Ping, mask, &payload[..payload.len().min(125)]));
                        expected.push(Whole::Ping(payload[..payload.len().min(125)].to_vec()));
                    }
                }
                let ping = if frames.len() == 1 { expected.pop() } else { None };
                expected.push(Whole::Message(is_text, payload));
                expected.extend(ping);
            }
            prop_assert_eq!(read(in_pieces(&bytes, &lengths)).as_ref(), Ok(&expected));
            prop_assert_eq!(read([bytes]), Ok(expected));
        }

        /// Whatever comes, it is read or refused.
        #[test]
        fn no_bytes_are_too_strange(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            lengths in prop::collection::vec(1..20_usize, 1..4),
        ) {
            prop_assert_eq!(read(in_pieces(&bytes, &lengths)), read([bytes]));
        }

        #[test]
        fn a_mask_is_taken_off_wherever_the_bytes_begin(bytes in prop::collection::vec(any::<u8>(), 0..50), mask in any::<[u8; 4]>(), from in 0..9_usize) {
            let mut unmasked = bytes.clone();
            unmask(&mut unmasked, mask, from as u64);
            let expected: Vec<u8> = (from..).zip(&bytes).map(|(at, byte)| byte ^ mask[at % 4]).collect();
            prop_assert_eq!(unmasked, expected);
        }
    }

    #[test]
    fn frames_have_to_be_in_order() {
        let frame = |is_final, opcode| frame(is_final, opcode, [1, 2, 3, 4], b"x");
        let (begins, goes_on) = (frame(false, Opcode::Binary), frame(true, Opcode::Continuation));
        assert!(read([goes_on.clone()]).is_err());
        assert!(read([begins.clone(), frame(true, Opcode::Binary)]).is_err());
        assert!(read([begins.clone(), goes_on.clone(), goes_on.clone()]).is_err());
        let twice = [begins.clone(), goes_on.clone(), begins, goes_on];
        assert_eq!(read(twice), Ok(vec![Whole::Message(false, b"xx".to_vec()); 2]));
    }

    #[test]
    fn a_close_has_a_code_or_nothing() {
        let close = |payload: &[u8]| read([frame(true, Opcode::Close, [9, 8, 7, 6], payload)]);
        assert_eq!(close(&[]), Ok(vec![Whole::Close(None)]));
        assert_eq!(close(&[3, 232]), Ok(vec![Whole::Close(Some(1000))]));
        assert_eq!(close(b"\x03\xe8bye"), Ok(vec![Whole::Close(Some(1000))]));
        assert!(matches!(close(&[3]), Err(Violation::Protocol(_))));
        assert!(matches!(close(&[3, 237]), Err(Violation::Protocol(_))), "1005");
        assert_eq!(close(b"\x03\xe8\xff"), Err(Violation::Reason));
    }
}
