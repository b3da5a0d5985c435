//! A file that is looked at: what the library writes to it when it opens one that was not closed stays in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

/// What is written at once in memory, in bytes.
const BLOCK: u64 = 4096;

/// The file, and what differs from it.
#[derive(Debug)]
pub(super) struct Looking {
    file: File,
    changed: Mutex<Changed>,
}

#[derive(Debug)]
struct Changed {
    length: u64,
    /// How much of the file counts still: it was perhaps made shorter, and longer again.
    of_file: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
}

impl Looking {
    /// A file that is open to be read.
    pub fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Looking { file, changed: Mutex::new(Changed { length, of_file: length, blocks: BTreeMap::new() }) })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Changed, &File) -> io::Result<T>) -> io::Result<T> {
        // Nothing panics while it is locked.
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut changed, &self.file)
    }
}

impl Changed {
    fn read(&self, file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let of_file = (self.of_file.saturating_sub(offset)).min(out.len() as u64) as usize;
        let (there, behind) = out.split_at_mut(of_file);
        file.read_exact_at(there, offset)?;
        behind.fill(0);
        let end = offset + out.len() as u64;
        for (at, block) in self.blocks.range(offset - offset % BLOCK..end) {
            let (from, to) = ((*at).max(offset), (at + BLOCK).min(end));
            let of_block = &block[(from - at) as usize..(to - at) as usize];
            out[(from - offset) as usize..(to - offset) as usize].copy_from_slice(of_block);
        }
        Ok(())
    }

    fn write(&mut self, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len() as u64;
        let mut at = offset - offset % BLOCK;
        self.length = self.length.max(end);
        while at < end {
            if !self.blocks.contains_key(&at) {
                let mut block = vec![0; BLOCK as usize];
                let there = (self.length - at).min(BLOCK) as usize;
                self.read(file, at, &mut block[..there])?;
                self.blocks.insert(at, block.into());
            }
            let (from, to) = (at.max(offset), (at + BLOCK).min(end));
            if let Some(block) = self.blocks.get_mut(&at) {
                block[(from - at) as usize..(to - at) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
            at += BLOCK;
        }
        Ok(())
    }

    fn set_length(&mut self, length: u64) {
        self.of_file = self.of_file.min(length);
        drop(self.blocks.split_off(&length.next_multiple_of(BLOCK)));
        if let Some(last) = self.blocks.get_mut(&(length - length % BLOCK)) {
            last[(length % BLOCK) as usize..].fill(0);
        }
        self.length = length;
    }
}

impl StorageBackend for Looking {
    fn len(&self) -> io::Result<u64> {
        self.with(|changed, _| Ok(changed.length))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|changed, file| changed.read(file, offset, out))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|changed, _| {
            changed.set_length(length);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|changed, file| changed.write(file, offset, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_as_it_is_and_is_read_as_it_would_be() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let before: Vec<u8> = (0..3 * BLOCK as usize + 100).map(|at| at as u8 | 1).collect();
        std::fs::write(&path, &before).expect("it can be written");
        let looking = Looking::new(File::open(&path).expect("it is there")).expect("it has a length");
        let mut model = before.clone();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..2000 {
            match random.u8(..8) {
                0 => {
                    let length = random.usize(1..5 * BLOCK as usize);
                    looking.set_len(length as u64).expect("it is in memory");
                    model.resize(length, 0);
                }
                1..4 => {
                    let at = random.usize(..model.len());
                    let data = vec![random.u8(..); random.usize(..2 * BLOCK as usize)];
                    looking.write(at as u64, &data).expect("it is in memory");
                    model.resize(model.len().max(at + data.len()), 0);
                    model[at..at + data.len()].copy_from_slice(&data);
                }
                _ => {
                    let at = random.usize(..model.len());
                    let mut out = vec![0; random.usize(..=model.len() - at)];
                    looking.read(at as u64, &mut out).expect("it is there");
                    assert!(out == model[at..at + out.len()]);
                }
            }
            assert_eq!(looking.len().expect("it is known"), model.len() as u64);
        }
        assert!(looking.read(model.len() as u64, &mut [0]).is_err());
        assert_eq!(std::fs::read(&path).expect("it is there"), before);
    }
}
