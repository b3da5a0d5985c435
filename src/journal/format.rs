//! The bytes of segments, frames and records; the tables are in the documentation of the module above.

use std::fmt;

use crc32c::{crc32c, crc32c_append};

use super::segment::Place;

/// What everything is aligned to: segments, frames, buffers. Bytes.
pub const BLOCK: usize = 4096;
/// The version of the format.
pub const FORMAT_VERSION: u32 = 1;
/// How large a frame may be in any journal, in bytes: what reading one takes in memory.
pub const LARGEST_FRAME: usize = 64 << 20;
/// The length of the header of a frame.
pub(super) const FRAME_HEADER: usize = 40;

const SEGMENT_MAGIC: [u8; 8] = *b"moormq-J";
const SEGMENT_HEADER: usize = 96;
/// No number in a header is greater, so that they can be counted up from.
pub(super) const MOST_NUMBER: u64 = 1 << 62;
/// Where the header of a segment stands: twice, so that a bad bit in one does not matter, each within a sector, which a disk writes
/// wholly or not at all.
const COPIES: [usize; 2] = [0, BLOCK / 2];
const FRAME_MAGIC: [u8; 4] = *b"mqJf";

/// Which store something belongs to: a number that is made up when the store is made, 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Whose journal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store.
    pub store: StoreId,
    /// The shard that writes it.
    pub shard: u32,
}

impl Identity {
    /// What checksums begin with, of a frame of that generation at that place: so a frame is nothing in any other.
    fn seed(self, generation: u64, offset: u64) -> u32 {
        let mut seed = [0; 36];
        seed[..16].copy_from_slice(&self.store.0);
        seed[16..20].copy_from_slice(&self.shard.to_le_bytes());
        seed[20..28].copy_from_slice(&generation.to_le_bytes());
        seed[28..].copy_from_slice(&offset.to_le_bytes());
        crc32c(&seed)
    }
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub identity: Identity,
    /// Which use of which file it is: greater than that of all segments before it.
    pub generation: u64,
    /// The generation of the segment before it; 0 if there was none.
    pub after: u64,
    /// The oldest generation that still counted when this one was prepared.
    pub oldest: u64,
    /// The length of the file.
    pub bytes: u64,
    /// When the journal was opened that made it, in seconds since 1970.
    pub opened: u64,
    /// The numbers of the last frame that counted then, and of the first that followed: all between them were given up.
    pub given_up: [u64; 2],
}

/// Why there is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Nothing is there but zeros.
    Blank,
    /// Something else.
    Damaged,
    /// It is one of another version.
    OtherVersion(u32),
}

impl SegmentHeader {
    /// Writes the first block of a segment.
    pub fn write(&self, block: &mut [u8]) {
        let mut copy = [0; SEGMENT_HEADER];
        copy[..8].copy_from_slice(&SEGMENT_MAGIC);
        copy[12..16].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.identity.store.0);
        copy[32..36].copy_from_slice(&self.identity.shard.to_le_bytes());
        let [last, first] = self.given_up;
        let numbers = [self.generation, self.after, self.oldest, self.bytes, self.opened, last, first];
        for (place, number) in copy[40..].as_chunks_mut().0.iter_mut().zip(numbers) {
            *place = number.to_le_bytes();
        }
        let checksum = crc32c(&copy[12..]);
        copy[8..12].copy_from_slice(&checksum.to_le_bytes());
        block.fill(0);
        for at in COPIES {
            block[at..at + SEGMENT_HEADER].copy_from_slice(&copy);
        }
    }

    /// Reads the first block of a segment. If its two headers differ, it was about to be recycled: the later generation counts.
    pub fn read(block: &[u8]) -> Result<Self, NoHeader> {
        let copies =
            COPIES.map(|at| block.get(at..at + SEGMENT_HEADER).map_or(Err(NoHeader::Damaged), Self::read_copy));
        match copies {
            [Ok(one), Ok(other)] => Ok(if one.generation >= other.generation { one } else { other }),
            [Ok(one), Err(_)] | [Err(_), Ok(one)] => Ok(one),
            _ if block.iter().all(|byte| *byte == 0) => Err(NoHeader::Blank),
            [Err(other @ NoHeader::OtherVersion(_)), _] | [_, Err(other)] => Err(other),
        }
    }

    /// Whether a header was begun in a block that has none which is sound.
    pub fn has_begun(block: &[u8]) -> bool {
        COPIES.iter().any(|at| block.get(*at..at + SEGMENT_MAGIC.len()) == Some(SEGMENT_MAGIC.as_slice()))
    }

    /// Whether both copies in a block are the same.
    pub fn copies_agree(block: &[u8]) -> bool {
        let [one, other] = COPIES.map(|at| block.get(at..at + SEGMENT_HEADER));
        one == other
    }

    fn read_copy(copy: &[u8]) -> Result<Self, NoHeader> {
        if copy[..8] != SEGMENT_MAGIC || u32_at(copy, 8) != crc32c(&copy[12..]) {
            return Err(NoHeader::Damaged);
        }
        // Every version keeps magic, checksum and version in these places, and the length of what is summed.
        let version = u32_at(copy, 12);
        if version != FORMAT_VERSION {
            return Err(NoHeader::OtherVersion(version));
        }
        // No journal counts so far: somebody has made that up.
        if (40..SEGMENT_HEADER).step_by(8).any(|at| u64_at(copy, at) > MOST_NUMBER) {
            return Err(NoHeader::Damaged);
        }
        let mut store = StoreId([0; 16]);
        store.0.copy_from_slice(&copy[16..32]);
        Ok(SegmentHeader {
            identity: Identity { store, shard: u32_at(copy, 32) },
            generation: u64_at(copy, 40),
            after: u64_at(copy, 48),
            oldest: u64_at(copy, 56),
            bytes: u64_at(copy, 64),
            opened: u64_at(copy, 72),
            given_up: [u64_at(copy, 80), u64_at(copy, 88)],
        })
    }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The length of what follows it.
    pub length: u32,
    /// Greater than that of all frames before it.
    pub number: u64,
    /// The number of the frame before it; 0 if there was none.
    pub previous: u64,
    /// That of its segment.
    pub generation: u64,
    /// That of the records.
    checksum: u32,
    seed: u32,
}

impl FrameHeader {
    /// Writes the header of `frame`, whose `used` bytes are the header and the records, and zeros up to the next block. How many bytes that
    /// is. `numbers` are its own and that of the frame before it.
    pub fn finish(frame: &mut [u8], used: usize, identity: Identity, place: &Place, numbers: [u64; 2]) -> usize {
        let seed = identity.seed(place.generation, place.offset);
        let (header, records) = frame[..used].split_at_mut(FRAME_HEADER);
        let length = u32::try_from(records.len()).expect("frames are bounded");
        header[..4].copy_from_slice(&FRAME_MAGIC);
        header[8..12].copy_from_slice(&length.to_le_bytes());
        header[12..16].copy_from_slice(&crc32c_append(seed, records).to_le_bytes());
        let numbers = [numbers[0], numbers[1], place.generation];
        for (at, number) in header[16..].as_chunks_mut().0.iter_mut().zip(numbers) {
            *at = number.to_le_bytes();
        }
        let checksum = crc32c_append(seed, &header[8..]);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
        let whole = used.next_multiple_of(BLOCK);
        frame[used..whole].fill(0);
        whole
    }

    /// Reads a header at the front of `block`, which is at `offset` of its file, if one of a journal of `identity` is there.
    pub fn read(block: &[u8], offset: u64, identity: Identity) -> Option<Self> {
        let header = block.get(..FRAME_HEADER).filter(|header| header[..4] == FRAME_MAGIC)?;
        let generation = u64_at(header, 32);
        let seed = identity.seed(generation, offset);
        (u32_at(header, 4) == crc32c_append(seed, &header[8..])).then(|| FrameHeader {
            length: u32_at(header, 8),
            checksum: u32_at(header, 12),
            number: u64_at(header, 16),
            previous: u64_at(header, 24),
            generation,
            seed,
        })
    }

    /// Whether a frame of that generation has begun at the front of `block`, though its header may be damaged.
    pub fn has_begun(block: &[u8], generation: u64) -> bool {
        block.len() >= FRAME_HEADER && block[..4] == FRAME_MAGIC && u64_at(block, 32) == generation
    }

    /// Whether `records` are what the frame was written with.
    pub fn matches(&self, records: &[u8]) -> bool {
        crc32c_append(self.seed, records) == self.checksum
    }

    /// How many bytes the frame takes in its segment.
    pub fn whole(&self) -> u64 {
        (FRAME_HEADER as u64 + u64::from(self.length)).next_multiple_of(BLOCK as u64)
    }
}

/// How many bytes a record with a body of `length` takes.
pub(super) fn record_bytes(length: usize) -> usize {
    1 + varint_bytes(length) + length
}

/// The largest body of a record that takes no more than `bytes`, which are two at least.
pub(super) fn largest_body(bytes: usize) -> usize {
    // Its kind takes one byte, and its length one to five.
    let mut largest = bytes.saturating_sub(6);
    while record_bytes(largest + 1) <= bytes {
        largest += 1;
    }
    largest
}

fn varint_bytes(length: usize) -> usize {
    length.max(1).ilog2() as usize / 7 + 1
}

/// Writes a record at the front of `place`; how many bytes it took.
pub(super) fn write_record(place: &mut [u8], kind: u8, length: usize, parts: &[&[u8]]) -> usize {
    place[0] = kind;
    let mut at = 1;
    let mut rest = length;
    while rest > 127 {
        place[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    place[at] = rest as u8;
    at += 1;
    for part in parts {
        place[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    at
}

/// Reads the record at the front of `records`: its kind, where its body begins, and where it ends. None if there is none that is whole.
pub(super) fn read_record(records: &[u8]) -> Option<(u8, usize, usize)> {
    let (&kind, lengths) = records.split_first()?;
    let mut length = 0_usize;
    for (at, byte) in lengths.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let body = at + 2;
            let end = body.checked_add(length)?;
            return (end <= records.len()).then_some((kind, body, end));
        }
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().copied().map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().copied().map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::segment::FileId;
    use super::*;

    const IDENTITY: Identity = Identity { store: StoreId([7; 16]), shard: 3 };
    const HEADER: SegmentHeader = SegmentHeader {
        identity: IDENTITY,
        generation: 9,
        after: 8,
        oldest: 6,
        bytes: 8192,
        opened: 1_800_000_000,
        given_up: [70, 90],
    };

    fn block(header: &SegmentHeader) -> Vec<u8> {
        let mut block = vec![0xee; BLOCK];
        header.write(&mut block);
        block
    }

    #[test]
    fn a_segment_header_survives_any_bad_bit() {
        let whole = block(&HEADER);
        assert_eq!(SegmentHeader::read(&whole), Ok(HEADER));
        for bit in 0..BLOCK * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::read(&flipped), Ok(HEADER), "bit {bit}");
        }
    }

    #[test]
    fn of_a_torn_header_the_later_one_counts() {
        let later = SegmentHeader { generation: 12, after: 11, ..HEADER };
        for torn in [BLOCK / 2, BLOCK] {
            let mut mixed = block(&HEADER);
            mixed[torn - BLOCK / 2..torn].copy_from_slice(&block(&later)[torn - BLOCK / 2..torn]);
            assert_eq!(SegmentHeader::read(&mixed), Ok(later));
        }
    }

    #[test]
    fn what_is_no_header_says_why() {
        assert_eq!(SegmentHeader::read(&[0; BLOCK]), Err(NoHeader::Blank));
        assert_eq!(SegmentHeader::read(&[1; BLOCK]), Err(NoHeader::Damaged));
        assert_eq!(SegmentHeader::read(&[1; 20]), Err(NoHeader::Damaged));
        assert_eq!(SegmentHeader::read(&[]), Err(NoHeader::Blank));
        let absurd = SegmentHeader { generation: u64::MAX, ..HEADER };
        assert_eq!(SegmentHeader::read(&block(&absurd)), Err(NoHeader::Damaged));
        let mut other = block(&HEADER);
        for at in COPIES {
            other[at + 12] = 2;
            let checksum = crc32c(&other[at + 12..at + SEGMENT_HEADER]);
            other[at + 8..at + 12].copy_from_slice(&checksum.to_le_bytes());
        }
        assert_eq!(SegmentHeader::read(&other), Err(NoHeader::OtherVersion(2)));
    }

    #[test]
    fn a_frame_is_read_by_its_own_journal_and_generation_only() {
        let mut frame = vec![0xee; 2 * BLOCK];
        frame[FRAME_HEADER..FRAME_HEADER + 5].copy_from_slice(b"hello");
        let place = Place { file: FileId(0), generation: 9, offset: 4096, room: 4096 };
        assert_eq!(FrameHeader::finish(&mut frame, FRAME_HEADER + 5, IDENTITY, &place, [4, 3]), BLOCK);
        let header = FrameHeader::read(&frame, 4096, IDENTITY).expect("it is sound");
        assert_eq!((header.length, header.number, header.previous, header.generation), (5, 4, 3, 9));
        assert_eq!(header.whole(), BLOCK as u64);
        assert!(header.matches(b"hello") && !header.matches(b"hellp"));
        assert!(frame[FRAME_HEADER + 5..BLOCK].iter().all(|byte| *byte == 0), "what is unused is zero");
        for other in [Identity { shard: 4, ..IDENTITY }, Identity { store: StoreId([8; 16]), ..IDENTITY }] {
            assert_eq!(FrameHeader::read(&frame, 4096, other), None);
        }
        assert_eq!(FrameHeader::read(&frame, 8192, IDENTITY), None, "not in another place");
        for bit in 0..FRAME_HEADER * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::read(&frame, 4096, IDENTITY), None, "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(FrameHeader::read(&frame[..FRAME_HEADER - 1], 4096, IDENTITY), None);
    }

    #[test]
    fn records_of_any_length_come_back() {
        for length in [0, 1, 126, 127, 128, 129, 16_383, 16_384, 16_385, 2_097_151, 2_097_152] {
            let body = vec![5; length];
            let mut place = vec![0; record_bytes(length)];
            assert_eq!(write_record(&mut place, 200, length, &[&body[..length / 3], &body[length / 3..]]), place.len());
            let (kind, from, end) = read_record(&place).expect("it is whole");
            assert_eq!((kind, &place[from..end], end), (200, &*body, place.len()));
            assert_eq!(read_record(&place[..place.len() - 1]), None, "not if a byte is missing");
            // The largest body for so many bytes is the largest that fits.
            let largest = largest_body(place.len());
            assert!(
                record_bytes(largest) <= place.len() && record_bytes(largest + 1) > place.len(),
                "{length}: {largest}"
            );
        }
        assert_eq!(read_record(&[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0]), None, "too long a length");
        assert_eq!(read_record(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f]), None, "more than there is");
    }

    #[test]
    fn the_largest_body_is_right_for_every_number_of_bytes() {
        for bytes in (2..40_000).chain(2_097_100..2_097_200) {
            let largest = largest_body(bytes);
            assert!(record_bytes(largest) <= bytes && record_bytes(largest + 1) > bytes, "{bytes}: {largest}");
        }
    }
}
