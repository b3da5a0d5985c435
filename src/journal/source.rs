//! A file of a journal, as it is read: which segment it is, and its blocks.

use std::io;

use super::aligned::Aligned;
use super::finding::{Findings, What};
use super::format::{BLOCK, FRAME_HEADER, FrameHeader, Identity, LARGEST_FRAME, NoHeader, SegmentHeader};
use super::segment::{Condition, FileId, Idle};

/// How many blocks of a file may be unreadable before the rest of it is given up: some disks take seconds for each.
pub const MOST_UNREADABLE: u32 = 64;
/// How many bytes are read at once while looking for frames.
const WINDOW: usize = 64 * BLOCK;
/// How often in a row a read may be interrupted before that is an error.
const MOST_INTERRUPTIONS: u32 = 100;

/// What is read from: a file, or what stands for one in tests. It has to be on the device, see [`Reader`](super::Reader).
pub trait ReadAt {
    /// How many bytes there are.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads bytes from `offset` on into `buffer`; how many that were. It may be fewer, and is none at the end only.
    ///
    /// Both `offset` and the place of `buffer` in memory are multiples of [`BLOCK`], as direct reads want it, as long as the answers are; and
    /// so is the length of `buffer`, but at the end of a file whose length is none.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// Fills `buffer` from `offset` on.
fn read_exact(file: &impl ReadAt, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    let mut interruptions = 0;
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
                interruptions = 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted && interruptions < MOST_INTERRUPTIONS => {
                interruptions += 1;
            }
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
    /// As the caller of [`Journal::new`](super::Journal::new) said; 0 if the header is lost.
    pub opened: u64,
    pub condition: Condition,
}

impl<F> Source<F> {
    /// Its file, if it does not count.
    pub fn idle(&self) -> Idle {
        Idle { file: self.id, bytes: self.bytes, condition: self.condition }
    }
}

/// What a file is.
pub(super) enum Kind<F> {
    Segment(Source<F>),
    /// Zeros, or nothing: it was being made when the broker ended.
    Unfinished(Idle),
    /// Not ours, and already told. It is left alone.
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
    let unfinished = Idle { file: id, bytes: 0, condition: Condition::Worn };
    let there = match file.bytes() {
        Ok(0) => return Kind::Unfinished(unfinished),
        Ok(bytes) => bytes,
        Err(error) => {
            found.add(Some(id), What::Unreadable { offset: 0, error });
            return Kind::Other;
        }
    };
    let first = First::read(&file, id, there, window, found);
    match first.header {
        Ok(header) if header.identity.store != own.store => {
            found.add(Some(id), What::OtherStore { store: header.identity.store });
            Kind::Other
        }
        Ok(header) if header.identity.shard != own.shard => {
            found.add(Some(id), What::OtherShard { shard: header.identity.shard });
            Kind::Other
        }
        Ok(SegmentHeader { generation, after, oldest, given_up, opened, bytes: of, .. }) => {
            // What is behind the end of a segment is not of the journal: no file grows.
            let bytes = there.min(of);
            let condition = if there == of { Condition::Sound } else { Condition::Worn };
            if there > of {
                found.add(Some(id), What::TooLong { bytes: there, of });
            }
            let mut source = Source { id, file, bytes, of, generation, after, oldest, given_up, opened, condition };
            if !first.is_whole {
                // One copy is torn, or damaged, and the other perhaps the older one: frames say more.
                let search = search(&source.file, id, bytes, own, window, found);
                source.condition = search.condition();
                if let Some(latest) = search.latest.filter(|latest| *latest > generation) {
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
        Err(no) => {
            let search = search(&file, id, there, own, window, found);
            let condition = if first.is_unreadable { Condition::Evidence } else { search.condition() };
            match search.latest {
                Some(generation) => {
                    found.add(Some(id), What::HeaderLost { generation });
                    let (after, oldest, given_up) = (0, 0, [0, 0]);
                    let (bytes, of, opened) = (there, there, 0);
                    let source = Source { id, file, bytes, of, generation, after, oldest, given_up, opened, condition };
                    Kind::Segment(source)
                }
                // If its header is torn as well, there was never a frame in it.
                None if search.is_blank && (no == NoHeader::Blank || first.has_begun) => Kind::Unfinished(unfinished),
                None => {
                    found.add(Some(id), What::NoSegment);
                    Kind::Other
                }
            }
        }
    }
}

/// The first block of a file.
struct First {
    header: Result<SegmentHeader, NoHeader>,
    /// Both copies of the header are the same.
    is_whole: bool,
    has_begun: bool,
    is_unreadable: bool,
}

impl First {
    fn read(file: &impl ReadAt, id: FileId, bytes: u64, window: &mut Window, found: &mut Findings) -> Self {
        match window.block(file, bytes, 0) {
            Ok(block) => First {
                header: SegmentHeader::read(block),
                is_whole: SegmentHeader::copies_agree(block),
                has_begun: SegmentHeader::has_begun(block),
                is_unreadable: false,
            },
            Err(error) => {
                found.add(Some(id), What::Unreadable { offset: 0, error });
                let header = Err(NoHeader::Damaged);
                First { header, is_whole: false, has_begun: false, is_unreadable: true }
            }
        }
    }
}

/// What there is in a file that has no header, or a doubtful one.
struct Search {
    /// The highest generation of its frames.
    latest: Option<u64>,
    /// There are zeros alone.
    is_blank: bool,
    is_unreadable: bool,
}

impl Search {
    fn condition(&self) -> Condition {
        if self.is_unreadable { Condition::Evidence } else { Condition::Worn }
    }
}

/// Looks through all that is behind the first block.
fn search(
    file: &impl ReadAt,
    id: FileId,
    bytes: u64,
    own: Identity,
    window: &mut Window,
    found: &mut Findings,
) -> Search {
    let (mut latest, mut is_blank) = (None, true);
    let mut blocks = Blocks::new(id, BLOCK as u64);
    while let Some((offset, block)) = blocks.next(file, bytes, window, found) {
        is_blank &= block.iter().all(|byte| *byte == 0);
        latest = latest.max(FrameHeader::read(block, offset, own).map(|header| header.generation));
    }
    let is_unreadable = blocks.is_unreadable();
    Search { latest, is_blank: is_blank && !is_unreadable, is_unreadable }
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
    memory: Aligned,
    bytes: usize,
    start: u64,
    /// Below it each block is read alone: something there cannot be read.
    alone_below: u64,
}

impl Window {
    pub fn new() -> Self {
        Window { memory: Aligned::zeroed(WINDOW), bytes: 0, start: 0, alone_below: 0 }
    }

    /// Another file is read from now on.
    pub fn forget(&mut self) {
        (self.bytes, self.alone_below) = (0, 0);
    }

    /// The block at `offset`; a part of one at the end of the file.
    fn block(&mut self, file: &impl ReadAt, end: u64, offset: u64) -> io::Result<&[u8]> {
        self.load(file, end, offset)?;
        Ok(self.loaded(offset))
    }

    fn has(&self, offset: u64) -> bool {
        (self.start..self.start + self.bytes as u64).contains(&offset)
    }

    /// Reads the block at `offset` and some behind it. If they cannot be read together, each of them is read alone: so a bad one is tried
    /// twice, and not once for each of those before it.
    fn load(&mut self, file: &impl ReadAt, end: u64, offset: u64) -> io::Result<()> {
        if self.has(offset) {
            return Ok(());
        }
        let left = end.saturating_sub(offset);
        let (one, many) = (left.min(BLOCK as u64), left.min(WINDOW as u64));
        if offset >= self.alone_below {
            let read = self.fill(file, offset, many);
            if read.is_ok() || many == one {
                return read;
            }
            self.alone_below = offset + many;
        }
        self.fill(file, offset, one)
    }

    fn fill(&mut self, file: &impl ReadAt, offset: u64, bytes: u64) -> io::Result<()> {
        (self.start, self.bytes) = (offset, 0);
        read_exact(file, &mut self.memory[..bytes as usize], offset)?;
        self.bytes = bytes as usize;
        Ok(())
    }

    fn loaded(&self, offset: u64) -> &[u8] {
        let from = (offset - self.start) as usize;
        &self.memory[from..self.bytes.min(from + BLOCK)]
    }
}

/// The records of the frame that was read last, as far as they were not taken.
pub(super) struct Records {
    frame: Aligned,
    at: usize,
    end: usize,
}

impl Records {
    pub fn none() -> Self {
        Records { frame: Aligned::zeroed(0), at: 0, end: 0 }
    }

    /// Those that are left.
    pub fn rest(&self) -> &[u8] {
        &self.frame[self.at..self.end]
    }

    /// Takes so many bytes of them.
    pub fn take(&mut self, bytes: usize) -> &[u8] {
        let from = self.at;
        self.at += bytes;
        &self.frame[from..self.at]
    }

    pub fn clear(&mut self) {
        (self.at, self.end) = (0, 0);
    }

    /// Reads those of the frame at `offset` behind `header`. False if they do not match their checksum, or the frame would reach beyond the
    /// `end` of the file.
    pub fn read(&mut self, file: &impl ReadAt, end: u64, offset: u64, header: &FrameHeader) -> io::Result<bool> {
        self.clear();
        let length = FRAME_HEADER + header.length as usize;
        if header.length as usize > LARGEST_FRAME || offset + length as u64 > end {
            return Ok(false);
        }
        let whole = header.whole().min(end - offset) as usize;
        if self.frame.len() < whole {
            self.frame = Aligned::zeroed(whole);
        }
        read_exact(file, &mut self.frame[..whole], offset)?;
        if !header.matches(&self.frame[FRAME_HEADER..length]) {
            return Ok(false);
        }
        (self.at, self.end) = (FRAME_HEADER, length);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Whether a read is none that goes on where another one ended.
    fn from_the_front(offset: u64) -> bool {
        offset.is_multiple_of(BLOCK as u64)
    }

    /// Bytes of which one block cannot be read; how far each read went.
    struct Bytes {
        bytes: Vec<u8>,
        bad: usize,
        failed: Cell<u32>,
    }

    impl ReadAt for Bytes {
        fn bytes(&self) -> io::Result<u64> {
            Ok(self.bytes.len() as u64)
        }

        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            assert!(!from_the_front(offset) || buffer.as_ptr().addr().is_multiple_of(BLOCK));
            let (from, bad) = (offset as usize, self.bad * BLOCK..(self.bad + 1) * BLOCK);
            let end = self.bytes.len().min(from + buffer.len().min(5000));
            if from < bad.end && end > bad.start {
                self.failed.set(self.failed.get() + 1);
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
            let file = Bytes { bytes: bytes.clone(), bad, failed: Cell::new(0) };
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
            assert!(file.failed.get() <= 2, "{} reads failed for one block", file.failed.get());
        }
    }

    /// A file of which each read is interrupted.
    struct Interrupted;

    impl ReadAt for Interrupted {
        fn bytes(&self) -> io::Result<u64> {
            Ok(8192)
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Interrupted.into())
        }
    }

    #[test]
    fn a_read_that_is_always_interrupted_ends() {
        assert!(read_exact(&Interrupted, &mut [0; 9], 0).is_err());
    }

    #[test]
    fn a_frame_beyond_the_end_is_none() {
        let mut frame = vec![5; BLOCK];
        let place = super::super::segment::Place { file: FileId(0), generation: 1, offset: 4096, room: 4096 };
        let own = Identity { store: super::super::StoreId([0; 16]), shard: 0 };
        FrameHeader::finish(&mut frame, BLOCK, own, &place, [1, 0]);
        let header = FrameHeader::read(&frame, 4096, own).expect("it is sound");
        let file = Bytes { bytes: [&vec![0; BLOCK][..], &frame].concat(), bad: 99, failed: Cell::new(0) };
        let mut records = Records::none();
        assert!(records.read(&file, 8192, 4096, &header).expect("it can be read"));
        assert!(records.rest() == [5; BLOCK - 40]);
        assert!(records.take(6) == [5; 6] && records.rest().len() == BLOCK - 46);
        assert!(!records.read(&file, 8191, 4096, &header).expect("it is not read"));
        assert!(!records.read(&file, 8192, 0, &header).expect("it can be read"), "other bytes");
        assert!(records.rest().is_empty());
    }
}
