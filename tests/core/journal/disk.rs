//! A disk in memory: it has a cache that a loss of power empties, writes sectors in any order, fails and fills.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use moormq::journal::{BLOCK, FileId, ReadAt};
use moormq::random::Random;

/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// The files of a journal.
#[derive(Clone, Default)]
pub struct Disk {
    pub files: BTreeMap<FileId, File>,
}

/// A file: what is read from it, and what of that survives a loss of power.
#[derive(Clone, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Blocks that cannot be read.
    pub unreadable: BTreeSet<u64>,
    /// None if it is not known to its directory yet.
    durable: Option<Vec<u8>>,
}

impl ReadAt for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    /// Reads a piece at a time, as systems may do.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let from = (offset as usize).min(self.bytes.len());
        let length = buffer.len().min(self.bytes.len() - from).min(3 * BLOCK + 100);
        let blocks = offset / BLOCK as u64..(offset + length as u64).div_ceil(BLOCK as u64);
        if self.unreadable.range(blocks).next().is_some() {
            return Err(io::Error::other("a bad block"));
        }
        buffer[..length].copy_from_slice(&self.bytes[from..from + length]);
        Ok(length)
    }
}

impl Disk {
    /// The files, as a start finds them.
    pub fn open(&self) -> Vec<(FileId, File)> {
        self.files.iter().map(|(id, file)| (*id, file.clone())).collect()
    }

    /// Makes a file of zeros, or makes one anew.
    pub fn fill(&mut self, id: FileId, bytes: usize) {
        self.files.entry(id).or_default().bytes = vec![0; bytes];
    }

    pub fn write(&mut self, id: FileId, offset: u64, data: &[u8]) {
        let file = self.files.entry(id).or_default();
        let end = offset as usize + data.len();
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[offset as usize..end].copy_from_slice(data);
    }

    /// Writes some of the sectors.
    pub fn write_partly(&mut self, id: FileId, offset: u64, data: &[u8], random: &mut Random) {
        // All, none, or any of them.
        let chance = [0, 1, 5, 9, 10][random.below(5)];
        for (at, sector) in data.chunks(SECTOR).enumerate() {
            if random.below(10) < chance {
                self.write(id, offset + (at * SECTOR) as u64, sector);
            }
        }
    }

    pub fn sync(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.durable = Some(file.bytes.clone());
        }
    }

    /// These bytes alone become durable.
    pub fn sync_range(&mut self, id: FileId, offset: u64, bytes: usize) {
        let file = self.files.get_mut(&id).expect("it is there");
        let durable = file.durable.as_mut().expect("it was prepared");
        let range = offset as usize..offset as usize + bytes;
        durable[range.clone()].copy_from_slice(&file.bytes[range]);
    }

    /// Of what is not durable, any sector may be lost, and any file.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.files.retain(|_, file| file.durable.is_some() || random.below(2) == 0);
        for file in self.files.values_mut() {
            let durable = file.durable.clone().unwrap_or_default();
            let length = if random.below(2) == 0 { durable.len() } else { file.bytes.len() };
            let chance = [0, 1, 5, 9, 10][random.below(5)];
            file.bytes.resize(length, 0);
            for (at, sector) in file.bytes.chunks_mut(SECTOR).enumerate() {
                let from = at * SECTOR;
                if random.below(10) >= chance {
                    for (place, byte) in sector.iter_mut().enumerate() {
                        *byte = durable.get(from + place).copied().unwrap_or(0);
                    }
                }
            }
            file.durable = Some(file.bytes.clone());
        }
    }
}
