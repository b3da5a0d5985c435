//! The output of a connection: bytes of its own, with shared payloads spliced in between them.
//!
//! Packet headers and small payloads are copied into `bytes`, so one send carries many packets. A large payload is sent
//! from the memory that all its recipients share.

/// A shared payload, sent in the midst of [`WireBuffer::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice<P> {
    /// The number of the output's own bytes that are sent before it. Never less than that of the splice before. A
    /// number beyond the end counts as the end.
    pub at: usize,
    /// The payload. It is kept alive until it has left.
    pub payload: P,
}

/// The output that a connection sends next, as one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireBuffer<P> {
    /// The bytes that belong to this connection alone.
    pub bytes: Vec<u8>,
    /// The shared payloads, in the order of their positions in `bytes`.
    pub splices: Vec<Splice<P>>,
}

impl<P> Default for WireBuffer<P> {
    fn default() -> Self {
        WireBuffer { bytes: Vec::new(), splices: Vec::new() }
    }
}

impl<P> From<Vec<u8>> for WireBuffer<P> {
    /// An output without splices.
    fn from(bytes: Vec<u8>) -> Self {
        WireBuffer { bytes, splices: Vec::new() }
    }
}

impl<P: AsRef<[u8]>> WireBuffer<P> {
    /// The number of bytes that are sent in all.
    pub fn len(&self) -> usize {
        self.splices.iter().fold(self.bytes.len(), |sum, splice| sum + splice.payload.as_ref().len())
    }

    /// Whether there are no bytes to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.splices.iter().all(|splice| splice.payload.as_ref().is_empty())
    }

    /// Calls `take` with each segment from `position` on, in order, until it returns false. No segment is empty. The
    /// slices point at the memory of the bytes and payloads themselves.
    pub(crate) fn segments_from<'a>(&'a self, mut position: Position, mut take: impl FnMut(&'a [u8]) -> bool) {
        loop {
            let splice = self.splices.get(position.splices_sent);
            let until = splice.map_or(self.bytes.len(), |splice| splice.at.min(self.bytes.len()));
            if position.bytes_sent < until {
                if !take(&self.bytes[position.bytes_sent..until]) {
                    return;
                }
                position.bytes_sent = until;
            }
            let Some(splice) = splice else { return };
            let rest = splice.payload.as_ref().get(position.of_splice..).unwrap_or_default();
            if !rest.is_empty() && !take(rest) {
                return;
            }
            position.splices_sent += 1;
            position.of_splice = 0;
        }
    }

    /// The position that is `sent` bytes after `position`.
    pub(crate) fn position_after(&self, position: Position, sent: usize) -> Position {
        let Position { mut bytes_sent, mut splices_sent, mut of_splice } = position;
        let mut left = sent;
        while let Some(splice) = self.splices.get(splices_sent) {
            let own = splice.at.min(self.bytes.len()).saturating_sub(bytes_sent);
            if left < own {
                break;
            }
            bytes_sent += own;
            left -= own;
            let rest = splice.payload.as_ref().len().saturating_sub(of_splice);
            if left < rest {
                of_splice += left;
                return Position { bytes_sent, splices_sent, of_splice };
            }
            left -= rest;
            splices_sent += 1;
            of_splice = 0;
        }
        Position { bytes_sent: (bytes_sent + left).min(self.bytes.len()), splices_sent, of_splice }
    }

    /// The rest from `position` on, in one piece.
    pub(crate) fn rest(&self, position: Position) -> Vec<u8> {
        let mut rest = Vec::new();
        self.segments_from(position, |segment| {
            rest.extend_from_slice(segment);
            true
        });
        rest
    }

    /// Whether `position` is at the end of the output.
    pub(crate) fn ends_at(&self, position: Position) -> bool {
        let mut ended = true;
        self.segments_from(position, |_| {
            ended = false;
            false
        });
        ended
    }
}

/// A position in an output: how much of its bytes and splices has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    bytes_sent: usize,
    splices_sent: usize,
    of_splice: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> WireBuffer<&'static [u8]> {
        let splice = |at, payload: &'static [u8]| Splice { at, payload };
        WireBuffer {
            bytes: b"abcdef".to_vec(),
            splices: vec![splice(0, b"12"), splice(3, b"345"), splice(3, b""), splice(3, b"6"), splice(6, b"789")],
        }
    }

    fn rest(output: &WireBuffer<&'static [u8]>, position: Position) -> Vec<u8> {
        output.segments_from(position, |segment| {
            assert!(!segment.is_empty());
            true
        });
        output.rest(position)
    }

    #[test]
    fn wherever_a_short_send_stopped_the_rest_follows() {
        let output = output();
        let whole = b"12abc3456def789";
        assert_eq!(output.len(), whole.len());
        for first in 0..=whole.len() {
            let after_first = output.position_after(Position::default(), first);
            assert_eq!(rest(&output, after_first), &whole[first..]);
            for second in first..=whole.len() {
                let position = output.position_after(after_first, second - first);
                assert_eq!(rest(&output, position), &whole[second..]);
                assert_eq!(output.ends_at(position), second == whole.len());
            }
        }
    }

    #[test]
    fn a_splice_beyond_the_end_goes_last_and_nothing_is_empty() {
        let output = WireBuffer { bytes: b"ab".to_vec(), splices: vec![Splice { at: 9, payload: &b"c"[..] }] };
        assert_eq!(rest(&output, Position::default()), b"abc");
        assert!(!output.is_empty());
        assert!(WireBuffer::<Vec<u8>>::default().is_empty());
        assert!(WireBuffer::<Vec<u8>>::default().ends_at(Position::default()));
    }
}
