//! A file of a journal, as it is read: which segment it is, and its blocks.

use std::io;

use super::finding::{Findings, What};
use super::format::{BLOCK, FrameHeader, Identity, LARGEST_FRAME, NoHeader, SegmentHeader};
use super::segment::FileId;

/// How many blocks of a file may be unreadable before the rest of it is given up: some disks take seconds for each.
pub const MOST_UNREADABLE: u32 = 64;
/// How many bytes are read at once while looking for frames.
const WINDOW: usize = 64 * BLOCK;

/// What is read from: a file, or what stands for one in tests.
pub trait ReadAt {
    /// How many bytes there are.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads bytes from `offset` on into `buffer`; how many that were. It may be fewer, and is none at the end only.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Fills `buffer` from `offset` on.
fn read_exact(file: &impl ReadAt, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A segment that is this journal's.
pub(super) struct Source<F> {
    pub id: FileId,
    pub file: F,
    /// How many bytes there are to read, and how many there should be.
    pub bytes: u64,
    pub of: u64,
    pub generation: u64,
    /// See [`SegmentHeader`]; 0 if that is lost.
    pub after: u64,
    pub oldest: u64,
    pub given_up: [u64; 2],
    /// Whether it may be written further, or used again without being filled.
    pub is_sound: bool,
}

/// What a file is.
pub(super) enum Kind<F> {
    Segment(Source<F>),
    /// Zeros, or nothing: it was being made when the broker ended.
    Unfinished,
    /// Not ours, and already told.
    Other,
}

/// Finds out what a file is.
pub(super) fn identify<F: ReadAt>(
    id: FileId,
    file: F,
    own: Identity,
    window: &mut Window,
    found: &mut Findings,
) -> Kind<F> {
    window.forget();
    let bytes = match file.bytes() {
        Ok(0) => return Kind::Unfinished,
        Ok(bytes) => bytes,
        Err(error) => {
            found.add(Some(id), What::Unreadable { offset: 0, error });
            return Kind::Other;
        }
    };
    let (header, is_whole, has_begun) = match window.block(&file, bytes, 0) {
        Ok(block) => (SegmentHeader::read(block), SegmentHeader::copies_agree(block), SegmentHeader::has_begun(block)),
        Err(error) => {
            found.add(Some(id), What::Unreadable { offset: 0, error });
            (Err(NoHeader::Damaged), false, false)
        }
    };
    match header {
        Ok(header) if header.identity.store != own.store => {
            found.add(Some(id), What::OtherStore { store: header.identity.store });
            Kind::Other
        }
        Ok(header) if header.identity.shard != own.shard => {
            found.add(Some(id), What::OtherShard { shard: header.identity.shard });
            Kind::Other
        }
        Ok(SegmentHeader { generation, after, oldest, given_up, bytes: of, .. }) => {
            let is_sound = bytes == of;
            let mut source = Source { id, file, bytes, of, generation, after, oldest, given_up, is_sound };
            if !is_whole {
                // One copy is torn, or damaged, and the other perhaps the older one: frames say more.
                source.is_sound = false;
                let latest = search(&source.file, id, bytes, own, window, found).latest;
                if let Some(latest) = latest.filter(|latest| *latest > generation) {
                    found.add(Some(id), What::HeaderLost { generation: latest });
                    (source.generation, source.after, source.given_up) = (latest, 0, [0, 0]);
                }
            }
            Kind::Segment(source)
        }
        Err(NoHeader::OtherVersion(version)) => {
            found.add(Some(id), What::OtherVersion { version });
            Kind::Other
        }
        Err(no) => match search(&file, id, bytes, own, window, found) {
            Search { latest: Some(generation), .. } => {
                found.add(Some(id), What::HeaderLost { generation });
                Kind::Segment(Source {
                    id,
                    file,
                    bytes,
                    of: bytes,
                    generation,
                    after: 0,
                    oldest: 0,
                    given_up: [0, 0],
                    is_sound: false,
                })
            }
            // If its header is torn as well, there was never a frame in it.
            Search { is_blank: true, .. } if no == NoHeader::Blank || has_begun => Kind::Unfinished,
            Search { .. } => {
                found.add(Some(id), What::NoSegment);
                Kind::Other
            }
        },
    }
}

/// What there is in a file that has no header.
struct Search {
    /// The highest generation of its frames.
    latest: Option<u64>,
    /// There are zeros alone, behind the first block.
    is_blank: bool,
}

fn search(
    file: &impl ReadAt,
    id: FileId,
    bytes: u64,
    own: Identity,
    window: &mut Window,
    found: &mut Findings,
) -> Search {
    let mut search = Search { latest: None, is_blank: true };
    let mut blocks = Blocks::new(id, 0);
    while let Some((offset, block)) = blocks.next(file, bytes, window, found) {
        search.is_blank &= offset == 0 || block.iter().all(|byte| *byte == 0);
        search.latest = search.latest.max(FrameHeader::read(block, offset, own).map(|header| header.generation));
    }
    search.is_blank &= !blocks.is_unreadable();
    search
}

/// A walk through the blocks of a file.
pub(super) struct Blocks {
    id: FileId,
    /// The block that comes next.
    pub offset: u64,
    unreadable: u32,
}

impl Blocks {
    pub fn new(id: FileId, offset: u64) -> Self {
        Blocks { id, offset, unreadable: 0 }
    }

    /// Whether a block of it could not be read.
    pub fn is_unreadable(&self) -> bool {
        self.unreadable > 0
    }

    /// The next block that can be read, and where it is. The first that cannot be is told; after too many there is none any more.
    pub fn next<'w>(
        &mut self,
        file: &impl ReadAt,
        bytes: u64,
        window: &'w mut Window,
        found: &mut Findings,
    ) -> Option<(u64, &'w [u8])> {
        while self.offset < bytes && self.unreadable < MOST_UNREADABLE {
            let offset = self.offset;
            self.offset += BLOCK as u64;
            match window.load(file, bytes, offset) {
                Ok(()) => return Some((offset, window.loaded(offset))),
                Err(error) => self.could_not_read(offset, error, found),
            }
        }
        None
    }

    pub fn could_not_read(&mut self, offset: u64, error: io::Error, found: &mut Findings) {
        if self.unreadable == 0 {
            found.add(Some(self.id), What::Unreadable { offset, error });
        }
        self.unreadable += 1;
    }
}

/// The part of a file that was read last.
pub(super) struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    pub fn new() -> Self {
        Window { bytes: Vec::with_capacity(WINDOW), start: 0 }
    }

    /// Another file is read from now on.
    pub fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The block at `offset`; a part of one at the end of the file.
    fn block(&mut self, file: &impl ReadAt, end: u64, offset: u64) -> io::Result<&[u8]> {
        self.load(file, end, offset)?;
        Ok(self.loaded(offset))
    }

    fn has(&self, offset: u64) -> bool {
        (self.start..self.start + self.bytes.len() as u64).contains(&offset)
    }

    /// Reads the block at `offset` and some behind it; that one alone if they cannot be read together.
    fn load(&mut self, file: &impl ReadAt, end: u64, offset: u64) -> io::Result<()> {
        if self.has(offset) {
            return Ok(());
        }
        self.start = offset;
        let left = end.saturating_sub(offset);
        let read = self
            .fill(file, left.min(WINDOW as u64) as usize)
            .or_else(|_| self.fill(file, left.min(BLOCK as u64) as usize));
        if read.is_err() {
            self.bytes.clear();
        }
        read
    }

    fn fill(&mut self, file: &impl ReadAt, bytes: usize) -> io::Result<()> {
        self.bytes.resize(bytes, 0);
        read_exact(file, &mut self.bytes, self.start)
    }

    fn loaded(&self, offset: u64) -> &[u8] {
        let from = (offset - self.start) as usize;
        &self.bytes[from..self.bytes.len().min(from + BLOCK)]
    }
}

/// Reads the frame at `offset` behind `header` into `records`. False if it does not match its checksum, or would reach beyond the `end` of
/// the file.
pub(super) fn read_frame(
    file: &impl ReadAt,
    end: u64,
    offset: u64,
    header: &FrameHeader,
    records: &mut Vec<u8>,
) -> io::Result<bool> {
    records.clear();
    let from = offset + super::format::FRAME_HEADER as u64;
    let length = header.length as usize;
    if length > LARGEST_FRAME || from + length as u64 > end {
        return Ok(false);
    }
    records.resize(length, 0);
    read_exact(file, records, from)?;
    Ok(header.matches(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which one block cannot be read; how far each read went.
    struct Bytes {
        bytes: Vec<u8>,
        bad: usize,
    }

    impl ReadAt for Bytes {
        fn bytes(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let (from, bad) = (offset as usize, self.bad * BLOCK..(self.bad + 1) * BLOCK);
            let end = self.bytes.len().min(from + buffer.len().min(5000));
            if from < bad.end && end > bad.start {
                return Err(io::Error::other("bad"));
            }
            buffer[..end - from].copy_from_slice(&self.bytes[from..end]);
            Ok(end - from)
        }
    }

    #[test]
    fn every_block_that_can_be_read_is_read_once() {
        let blocks = 150;
        let mut bytes: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / BLOCK) as u8).collect();
        bytes.extend([7; 100]);
        for bad in [0, 1, 63, 64, 149] {
            let file = Bytes { bytes: bytes.clone(), bad };
            let (mut window, mut found) = (Window::new(), Findings::default());
            let mut walk = Blocks::new(FileId(1), 0);
            let mut seen = Vec::new();
            while let Some((offset, block)) = walk.next(&file, file.bytes.len() as u64, &mut window, &mut found) {
                let at = offset as usize / BLOCK;
                let (length, byte) = if at == blocks { (100, 7) } else { (BLOCK, at as u8) };
                assert!(block.len() == length && block.iter().all(|read| *read == byte));
                seen.push(at);
            }
            assert_eq!(seen, (0..=blocks).filter(|at| *at != bad).collect::<Vec<_>>());
            assert!(walk.is_unreadable());
            let at = (bad * BLOCK) as u64;
            assert!(matches!(found.listed()[0].what, What::Unreadable { offset, .. } if offset == at));
        }
    }

    #[test]
    fn a_frame_beyond_the_end_is_none() {
        let mut frame = vec![5; BLOCK];
        let place = super::super::segment::Place { file: FileId(0), generation: 1, offset: 4096, room: 4096 };
        let own = Identity { store: super::super::StoreId([0; 16]), shard: 0 };
        FrameHeader::finish(&mut frame, BLOCK, own, &place, [1, 0]);
        let header = FrameHeader::read(&frame, 4096, own).expect("it is sound");
        let file = Bytes { bytes: [&vec![0; BLOCK][..], &frame].concat(), bad: 99 };
        let mut records = Vec::new();
        assert!(read_frame(&file, 8192, 4096, &header, &mut records).expect("it can be read"));
        assert!(records == [5; BLOCK - 40]);
        assert!(!read_frame(&file, 8191, 4096, &header, &mut records).expect("it is not read"));
        assert!(!read_frame(&file, 8192, 0, &header, &mut records).expect("it can be read"), "other bytes");
    }
}
