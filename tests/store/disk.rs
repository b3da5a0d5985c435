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
    /// Those that were removed, or have another name: a loss of power brings them back, as long as the directory is not synced.
    removed: Vec<(FileId, File)>,
}

/// A file: what is read from the cache, and what of that is on the device.
#[derive(Clone, Default)]
pub struct File {
    pub bytes: Vec<u8>,
    /// Blocks that cannot be read.
    pub unreadable: BTreeSet<u64>,
    /// Sectors that a sync would write. Those whose sync has failed are none, whether they are on the device or not.
    dirty: BTreeSet<usize>,
    /// Sectors that were written, and are not as on the device: those that are dirty, and those whose sync has failed.
    differing: BTreeSet<usize>,
    /// It was filled with zeros: a sync would write those, too.
    is_fresh: bool,
    /// None if it is not known to its directory yet.
    durable: Option<Vec<u8>>,
}

impl ReadAt for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (&self).read_at(buffer, offset)
    }
}

impl ReadAt for &File {
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

impl File {
    /// Writes sectors that are dirty, with that chance of ten, to the device. All of them are clean then.
    fn write_back(&mut self, chance: usize, random: Option<&mut Random>) {
        if random.is_some() {
            self.make_all_dirty();
        } else if std::mem::take(&mut self.is_fresh) {
            self.durable = Some(vec![0; self.bytes.len()]);
            self.differing.clone_from(&self.dirty);
        }
        let durable = self.durable.get_or_insert_default();
        durable.resize(self.bytes.len(), 0);
        let mut random = random;
        for sector in std::mem::take(&mut self.dirty) {
            let range = sector * SECTOR..self.bytes.len().min((sector + 1) * SECTOR);
            if range.start < range.end && random.as_mut().is_none_or(|random| random.below(10) < chance) {
                durable[range.clone()].copy_from_slice(&self.bytes[range]);
                self.differing.remove(&sector);
            }
        }
    }

    fn make_all_dirty(&mut self) {
        if std::mem::take(&mut self.is_fresh) {
            self.dirty = (0..self.bytes.len().div_ceil(SECTOR)).collect();
            self.differing.clone_from(&self.dirty);
        }
    }

    /// What is read is what is on the device, but for what was not [written](Disk::write): damage stays.
    fn forget(&mut self) {
        let durable = self.durable.get_or_insert_default();
        self.bytes.resize(durable.len(), 0);
        for sector in std::mem::take(&mut self.differing) {
            let range = sector * SECTOR..durable.len().min((sector + 1) * SECTOR);
            if range.start < range.end {
                self.bytes[range.clone()].copy_from_slice(&durable[range]);
            }
        }
    }
}

/// All sectors, none, or any of them.
fn chance(random: &mut Random) -> usize {
    [0, 1, 5, 9, 10][random.below(5)]
}

impl Disk {
    /// The files, as a start finds them.
    pub fn open(&self) -> Vec<(FileId, File)> {
        self.files.iter().map(|(id, file)| (*id, file.clone())).collect()
    }

    /// What a start has to do before it reads: all is synced, and nothing read from the cache.
    pub fn sync_and_forget(&mut self) {
        self.sync_directory();
        for file in self.files.values_mut() {
            file.write_back(10, None);
            file.forget();
        }
    }

    pub fn sync_directory(&mut self) {
        self.removed.clear();
    }

    /// Makes a file of zeros, or makes one anew.
    pub fn fill(&mut self, id: FileId, bytes: usize) {
        let file = self.files.entry(id).or_default();
        file.bytes = vec![0; bytes];
        (file.dirty, file.differing, file.is_fresh) = (BTreeSet::new(), BTreeSet::new(), true);
    }

    pub fn write(&mut self, id: FileId, offset: u64, data: &[u8]) {
        let file = self.files.entry(id).or_default();
        let end = offset as usize + data.len();
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[offset as usize..end].copy_from_slice(data);
        let sectors = offset as usize / SECTOR..end.div_ceil(SECTOR);
        file.differing.extend(sectors.clone());
        file.dirty.extend(sectors);
    }

    /// Writes some of the sectors.
    pub fn write_partly(&mut self, id: FileId, offset: u64, data: &[u8], random: &mut Random) {
        let chance = chance(random);
        for (at, sector) in data.chunks(SECTOR).enumerate() {
            if random.below(10) < chance {
                self.write(id, offset + (at * SECTOR) as u64, sector);
            }
        }
    }

    pub fn remove(&mut self, id: FileId) {
        self.removed.extend(self.files.remove(&id).map(|file| (id, file)));
    }

    pub fn sync(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(&id) {
            file.write_back(10, None);
        }
    }

    /// Some of what is to be synced is, and nothing will be.
    pub fn fail_sync(&mut self, id: FileId, random: &mut Random) {
        if let Some(file) = self.files.get_mut(&id) {
            file.write_back(chance(random), Some(random));
        }
    }

    /// These bytes alone become durable.
    pub fn sync_range(&mut self, id: FileId, offset: u64, bytes: usize) {
        let file = self.files.get_mut(&id).expect("it is there");
        file.make_all_dirty();
        let durable = file.durable.as_mut().expect("it was prepared");
        let range = offset as usize..offset as usize + bytes;
        durable[range.clone()].copy_from_slice(&file.bytes[range.clone()]);
        for sector in range.step_by(SECTOR).map(|at| at / SECTOR) {
            file.dirty.remove(&sector);
            file.differing.remove(&sector);
        }
    }

    /// Of what is not durable, any sector may be lost, and any file.
    pub fn lose_power(&mut self, random: &mut Random) {
        self.files.retain(|_, file| file.durable.is_some() || random.below(2) == 0);
        for (id, file) in std::mem::take(&mut self.removed) {
            if file.durable.is_some() && random.below(2) == 0 {
                self.files.entry(id).or_insert(file);
            }
        }
        for file in self.files.values_mut() {
            let length = file.durable.as_ref().map_or(0, Vec::len);
            let grows = random.below(2) == 0;
            file.write_back(chance(random), Some(random));
            if let Some(durable) = file.durable.as_mut().filter(|_| !grows) {
                durable.truncate(length);
            }
            file.forget();
        }
    }
}
