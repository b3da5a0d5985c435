//! What a connection is to send: bytes of its own, with shared payloads spliced in between them.
//!
//! Small things (packet headers, small payloads) are copied into `bytes`, so that one send carries many packets. A
//! large payload stays where it is, shared by all who receive it, and is sent from there.

/// A shared payload that goes out in the midst of [`Output::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice<P> {
    /// How many of the output's own bytes go before it. Never falls from one splice to the next; beyond the end counts as
    /// the end.
    pub at: usize,
    /// The payload, kept alive until it has left.
    pub payload: P,
}

/// What one connection is to send next, as one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<P> {
    /// The bytes that belong to this connection alone.
    pub bytes: Vec<u8>,
    /// Shared payloads, in the order of their places in `bytes`.
    pub splices: Vec<Splice<P>>,
}

impl<P> Default for Output<P> {
    fn default() -> Self {
        Output { bytes: Vec::new(), splices: Vec::new() }
    }
}

impl<P> From<Vec<u8>> for Output<P> {
    /// An output without splices.
    fn from(bytes: Vec<u8>) -> Self {
        Output { bytes, splices: Vec::new() }
    }
}

impl<P: AsRef<[u8]>> Output<P> {
    /// How many bytes go out in all.
    pub fn len(&self) -> usize {
        self.splices.iter().fold(self.bytes.len(), |sum, splice| sum + splice.payload.as_ref().len())
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.splices.iter().all(|splice| splice.payload.as_ref().is_empty())
    }

    /// Hands the segments that remain from `place` on to `take`, in order, none of them empty, until it has enough
    /// (returns false). The slices point at the memory of the bytes and payloads themselves.
    pub(crate) fn segments_from<'a>(&'a self, mut place: Place, mut take: impl FnMut(&'a [u8]) -> bool) {
        loop {
            let splice = self.splices.get(place.splices_sent);
            let until = splice.map_or(self.bytes.len(), |splice| splice.at.min(self.bytes.len()));
            if place.bytes_sent < until {
                if !take(&self.bytes[place.bytes_sent..until]) {
                    return;
                }
                place.bytes_sent = until;
            }
            let Some(splice) = splice else { return };
            let rest = splice.payload.as_ref().get(place.of_splice..).unwrap_or_default();
            if !rest.is_empty() && !take(rest) {
                return;
            }
            place.splices_sent += 1;
            place.of_splice = 0;
        }
    }

    /// Where the rest begins once `sent` more bytes than those before `place` have left.
    pub(crate) fn place_after(&self, place: Place, sent: usize) -> Place {
        let Place { mut bytes_sent, mut splices_sent, mut of_splice } = place;
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
                return Place { bytes_sent, splices_sent, of_splice };
            }
            left -= rest;
            splices_sent += 1;
            of_splice = 0;
        }
        Place { bytes_sent: (bytes_sent + left).min(self.bytes.len()), splices_sent, of_splice }
    }

    /// What remains from `place` on, in one piece.
    pub(crate) fn rest(&self, place: Place) -> Vec<u8> {
        let mut rest = Vec::new();
        self.segments_from(place, |segment| {
            rest.extend_from_slice(segment);
            true
        });
        rest
    }

    /// Whether everything before `place` is everything there is.
    pub(crate) fn ends_at(&self, place: Place) -> bool {
        let mut ended = true;
        self.segments_from(place, |_| {
            ended = false;
            false
        });
        ended
    }
}

/// How much of an output has left: a position among its bytes and splices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    bytes_sent: usize,
    splices_sent: usize,
    of_splice: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output<&'static [u8]> {
        let splice = |at, payload: &'static [u8]| Splice { at, payload };
        Output {
            bytes: b"abcdef".to_vec(),
            splices: vec![splice(0, b"12"), splice(3, b"345"), splice(3, b""), splice(3, b"6"), splice(6, b"789")],
        }
    }

    fn rest(output: &Output<&'static [u8]>, place: Place) -> Vec<u8> {
        output.segments_from(place, |segment| {
            assert!(!segment.is_empty());
            true
        });
        output.rest(place)
    }

    #[test]
    fn wherever_a_short_send_stopped_the_rest_follows() {
        let output = output();
        let whole = b"12abc3456def789";
        assert_eq!(output.len(), whole.len());
        for first in 0..=whole.len() {
            let after_first = output.place_after(Place::default(), first);
            assert_eq!(rest(&output, after_first), &whole[first..]);
            for second in first..=whole.len() {
                let place = output.place_after(after_first, second - first);
                assert_eq!(rest(&output, place), &whole[second..]);
                assert_eq!(output.ends_at(place), second == whole.len());
            }
        }
    }

    #[test]
    fn a_splice_beyond_the_end_goes_last_and_nothing_is_empty() {
        let output = Output { bytes: b"ab".to_vec(), splices: vec![Splice { at: 9, payload: &b"c"[..] }] };
        assert_eq!(rest(&output, Place::default()), b"abc");
        assert!(!output.is_empty());
        assert!(Output::<Vec<u8>>::default().is_empty());
        assert!(Output::<Vec<u8>>::default().ends_at(Place::default()));
    }
}
