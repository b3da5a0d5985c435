//! The fuzzer's bytes, as choices.

/// What is left of the bytes. When there is none any more, every choice is the first one.
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// The next byte; none at the end.
    pub fn next(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A number below `many`, which is 256 at most.
    pub fn below(&mut self, many: usize) -> usize {
        usize::from(self.byte()) % many
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number of two bytes, the higher one first.
    pub fn word(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// A yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Some bytes: their number, a byte, and so many.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        self.0.split_off(..length).unwrap_or_default()
    }

    /// Changes `bytes` at some place: a piece is written over them, or its bits are flipped.
    pub fn damage(&mut self, bytes: &mut [u8]) {
        let (flips, place, piece) = (self.flag(), self.word(), self.bytes());
        let from = place.min(bytes.len());
        for (byte, piece) in bytes[from..].iter_mut().zip(piece) {
            *byte = if flips { *byte ^ piece } else { *piece };
        }
    }
}
