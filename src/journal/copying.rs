//! What a copy of a journal has, that is made while the journal goes on: the beginnings of its segments, up to where it was cut.

use super::format::{BLOCK, SegmentHeader};
use super::segment::{FileId, Segment};

/// A segment of a copy: the beginning of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The file.
    pub file: FileId,
    /// How many bytes of it the copy has: it ends with a frame. The rest of the file may be written meanwhile.
    pub bytes: u64,
    /// The generation of the segment.
    generation: u64,
    /// That of the first segment of the copy: those before it are archived, and not there.
    oldest: u64,
}

/// The pieces that these segments are, which are in order.
pub(super) fn pieces<'a>(segments: impl Iterator<Item = &'a Segment>) -> Vec<Piece> {
    let mut oldest = None;
    let piece = |segment: &Segment| {
        let &Segment { file, generation, end, .. } = segment;
        Piece { file, bytes: end, generation, oldest: *oldest.get_or_insert(generation) }
    };
    segments.map(piece).collect()
}

impl Piece {
    /// Makes the first block of the file that of the copy: which is as long as it is, and in which nothing is missing before its first segment. A header
    /// that is damaged stays as it is.
    ///
    /// # Panics
    ///
    /// If `block` is not one of [`BLOCK`] bytes.
    pub fn restate(&self, block: &mut [u8]) {
        assert_eq!(block.len(), BLOCK);
        let is_sound = SegmentHeader::copies_agree(block);
        if let Some(header) =
            SegmentHeader::read(block).ok().filter(|header| is_sound && header.generation == self.generation)
        {
            SegmentHeader { oldest: self.oldest, bytes: self.bytes, ..header }.write(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Identity, StoreId};
    use super::*;

    #[test]
    fn the_header_of_a_copy_says_how_long_it_is_and_that_nothing_is_missing_before() {
        let header = SegmentHeader {
            identity: Identity { store: StoreId([1; 16]), shard: 3 },
            generation: 7,
            after: 6,
            oldest: 4,
            bytes: 1 << 20,
            opened: 5,
            given_up: [8, 9],
        };
        let segments = [6, 7].map(|generation| Segment {
            end: 12_288,
            ..Segment::empty(FileId(generation as u32), generation, 1 << 20, BLOCK)
        });
        let pieces = pieces(segments.iter());
        let mut block = vec![0; BLOCK];
        header.write(&mut block);
        pieces[1].restate(&mut block);
        assert_eq!(SegmentHeader::read(&block), Ok(SegmentHeader { oldest: 6, bytes: 12_288, ..header }));
        // Another one, and one that is damaged, stays.
        let before = block.clone();
        pieces[0].restate(&mut block);
        assert_eq!(block, before);
        block[20] ^= 1;
        let before = block.clone();
        pieces[1].restate(&mut block);
        assert_eq!(block, before);
    }
}
