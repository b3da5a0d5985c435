//! A segment file, as it is read at a start: what the disk has, not what the kernel remembers.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use rustix::fs::{Advice, fadvise};

use crate::journal::{Aligned, BLOCK, ReadAt};

/// How many bytes are read from a disk at once.
pub const READ_AHEAD: usize = 1 << 20;

/// A segment file that is read, or the reason why it cannot be.
pub(super) enum SegmentFile {
    Readable {
        file: File,
        /// All files of a reader share it: they are read one after the other.
        cache: Rc<RefCell<ReadCache>>,
        /// Which of those files it is.
        number: usize,
    },
    Broken(io::Error),
}

/// The part of a file that was read last, in memory that direct reads can be made to.
pub(super) struct ReadCache {
    of: usize,
    start: u64,
    filled: usize,
    bytes: Aligned,
    /// Up to there not all of a file can be read: what is wanted is read alone, since a disk may take seconds for what it cannot read.
    cautious: (usize, u64),
}

impl ReadCache {
    pub fn new() -> Self {
        ReadCache { of: 0, start: 0, filled: 0, bytes: Aligned::zeroed(READ_AHEAD), cautious: (0, 0) }
    }

    /// Where `offset` of that file is in it.
    fn find(&self, of: usize, offset: u64) -> Option<&[u8]> {
        let at = offset.checked_sub(self.start).filter(|at| self.of == of && *at < self.filled as u64)?;
        Some(&self.bytes[at as usize..self.filled])
    }

    /// Reads a part of a file with `offset` in it: much, or if that cannot be read the `wanted` bytes alone, so that one bad block does not cost
    /// others.
    fn fill(&mut self, file: &File, of: usize, offset: u64, wanted: usize) -> io::Result<()> {
        let start = offset - offset % BLOCK as u64;
        let least = ((offset - start) as usize + wanted).next_multiple_of(BLOCK).min(READ_AHEAD);
        self.filled = 0;
        let is_cautious = self.cautious.0 == of && start < self.cautious.1;
        let much = if is_cautious { least } else { READ_AHEAD };
        let read = file.read_at(&mut self.bytes[..much], start);
        if read.is_err() && much > least {
            self.cautious = (of, start + READ_AHEAD as u64);
            return self.fill(file, of, offset, wanted);
        }
        let filled = read?;
        (self.of, self.start, self.filled) = (of, start, filled);
        Ok(())
    }
}

/// Has all of a file be on the disk, and later reads see what is there: what goes through the page cache forgets pages, because those whose sync has
/// failed once are in it as if it had not.
pub(super) fn on_disk(file: &File, is_direct: bool) -> io::Result<()> {
    file.sync_all()?;
    if !is_direct {
        fadvise(file, 0, None::<NonZeroU64>, Advice::DontNeed)?;
    }
    Ok(())
}

impl ReadAt for SegmentFile {
    fn bytes(&self) -> io::Result<u64> {
        match self {
            SegmentFile::Readable { file, .. } => Ok(file.metadata()?.len()),
            SegmentFile::Broken(error) => Err(again(error)),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            SegmentFile::Readable { file, cache, number } => {
                let mut cache = cache.borrow_mut();
                if cache.find(*number, offset).is_none() {
                    cache.fill(file, *number, offset, buffer.len())?;
                }
                let Some(found) = cache.find(*number, offset) else { return Ok(0) };
                let bytes = found.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&found[..bytes]);
                Ok(bytes)
            }
            SegmentFile::Broken(error) => Err(again(error)),
        }
    }
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::device;

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at / 7) as u8).collect()
    }

    #[test]
    fn any_part_of_a_file_is_read_with_and_without_the_page_cache() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("x");
        let long = pattern(2 * READ_AHEAD + 5 * BLOCK + 100);
        std::fs::write(&path, &long).expect("it can be written");
        let other = directory.path().join("y");
        std::fs::write(&other, [1; 10]).expect("it can be written");
        for is_direct in [false, true] {
            let Ok(file) = device::open(&path, is_direct) else { continue };
            on_disk(&file, is_direct).expect("it can be synced");
            let cache = Rc::new(RefCell::new(ReadCache::new()));
            let file = SegmentFile::Readable { file, cache: Rc::clone(&cache), number: 0 };
            let small = device::open(&other, is_direct).expect("as the other");
            let small = SegmentFile::Readable { file: small, cache, number: 1 };
            assert_eq!(file.bytes().expect("it is there"), long.len() as u64);
            for offset in [0, 1, 4095, 4096, 8232, READ_AHEAD - 1, READ_AHEAD, long.len() - 50, long.len() - 1] {
                let mut buffer = vec![0; 300_000];
                let read = file.read_at(&mut buffer, offset as u64).expect("it can be read");
                assert!(read > 0 && buffer[..read] == long[offset..offset + read], "{offset}");
                let mut buffer = [0; 20];
                assert_eq!(small.read_at(&mut buffer, 2).expect("it can be read"), 8);
                assert_eq!(buffer[..9], [1, 1, 1, 1, 1, 1, 1, 1, 0]);
            }
            for beyond in [0, 1, 10_000] {
                let read = file.read_at(&mut [0; 10], (long.len() + beyond) as u64);
                assert_eq!(read.expect("nothing is read"), 0);
            }
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_one_that_cannot_be_read() {
        let file = SegmentFile::Broken(io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(file.bytes().expect_err("it is broken").raw_os_error(), Some(libc::EIO));
        assert_eq!(file.read_at(&mut [0], 0).expect_err("it is broken").raw_os_error(), Some(libc::EIO));
    }
}
