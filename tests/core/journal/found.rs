//! What a start finds, and whether that is what it should.

use std::collections::BTreeSet;

use moormq::journal::{BLOCK, FileId, Finding, Mark, What};

use super::rig::{Entry, Rig};
use crate::store::disk::File;

/// What was read at a start, before anything goes on from there.
pub struct Found {
    /// Generations, marks, kinds and bodies.
    pub records: Vec<(u64, Mark, u8, Vec<u8>)>,
    pub findings: Vec<Finding>,
    /// What was not synced may be lost, and what is behind it not.
    pub may_have_holes: bool,
    /// What has to be there, of what was appended since the last start.
    pub promised: Mark,
}

/// The number that is at that place of a file.
fn number_at(file: &File, at: usize) -> Option<u64> {
    file.bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// The generation of the segment that is in a file.
fn generation_of(file: &File) -> Option<u64> {
    number_at(file, 40)
}

/// Whether a header says that the segment of an entry does not count.
fn is_excluded(rig: &Rig, entry: &Entry) -> bool {
    let own = entry.generation.expect("it was written");
    let excludes = |file: &File, copy: usize| {
        let [generation, after, oldest] = [40, 48, 56].map(|at| number_at(file, copy + at).unwrap_or(0));
        oldest > own || (0 < after && after < own && own < generation)
    };
    rig.disk.files.values().any(|file| excludes(file, 0) || excludes(file, BLOCK / 2))
}

/// Whether the frame of an entry is on the disk, where it was written.
pub fn is_there(rig: &Rig, entry: &Entry) -> bool {
    let Some((file, offset, bytes)) = entry.frame else { return false };
    let body = Entry::body(entry.id, entry.length);
    let frame = rig.disk.files.get(&file).and_then(|file| file.bytes.get(offset as usize..offset as usize + bytes));
    rig.disk.files.get(&file).and_then(generation_of) == entry.generation
        && frame.is_some_and(|frame| frame.windows(body.len()).any(|piece| piece == body))
}

/// Whether a block of the frame of an entry cannot be read, and it is there.
fn is_hit(rig: &Rig, entry: &Entry) -> bool {
    let Some((file, offset, bytes)) = entry.frame else { return false };
    let blocks = offset / BLOCK as u64..(offset + bytes as u64) / BLOCK as u64;
    let is_bad = rig.disk.files.get(&file).is_some_and(|file| file.unreadable.range(blocks).next().is_some());
    is_bad && is_there(rig, entry)
}

impl Found {
    pub fn id((.., body): &(u64, Mark, u8, Vec<u8>)) -> u64 {
        u64::from_le_bytes(*body.first_chunk().expect("a record that was written"))
    }

    /// The ids of all that was read.
    pub fn ids(&self) -> BTreeSet<u64> {
        self.records.iter().map(Self::id).collect()
    }

    /// The ids of what is there and cannot be read.
    pub fn hit(rig: &Rig) -> BTreeSet<u64> {
        rig.history.iter().filter(|entry| is_hit(rig, entry)).map(|entry| entry.id).collect()
    }

    /// Checks all of it against what was appended. Whether something is missing before something that is read.
    pub fn check(&self, rig: &Rig) -> bool {
        self.check_records(rig);
        let (read, hit) = (self.ids(), Self::hit(rig));
        let last_read = self.records.last().map_or(0, Self::id);
        let is_needed = |entry: &&Entry| !entry.is_released && (entry.is_durable || entry.mark <= self.promised);
        for entry in rig.history.iter().filter(is_needed).filter(|entry| !read.contains(&entry.id)) {
            assert!(hit.contains(&entry.id), "{entry:?} was promised, and can be read: {:?}", self.findings);
            let (file, from, bytes) = entry.frame.expect("it was written");
            let is_told = |finding: &Finding| match finding.what {
                What::Unreadable { .. } => finding.file == Some(file) && entry.id > last_read,
                What::Damaged { offset, bytes: of } => {
                    finding.file == Some(file) && offset <= from && from + bytes as u64 <= offset + of
                }
                _ => false,
            };
            assert!(self.findings.iter().any(is_told), "{entry:?} is lost: {:?}", self.findings);
        }
        // What is missing before something that is read is always told.
        let is_missing = |entry: &&Entry| !entry.is_released && !read.contains(&entry.id) && entry.id < last_read;
        let missing = rig.history.iter().filter(is_missing).count();
        let is_loss = self.findings.iter().any(Finding::is_loss);
        assert!(missing == 0 || is_loss, "{missing} are missing: {:?}", self.findings);
        assert!(!is_loss || rig.has_lost, "nothing is lost: {:?}", self.findings);
        for entry in &rig.given_up {
            let was_kept = |(file, kept): &(FileId, File)| {
                entry.frame.is_some_and(|frame| frame.0 == *file) && generation_of(kept) == entry.generation
            };
            let is_there = is_there(rig, entry);
            assert!(is_there || rig.aside.iter().any(was_kept), "{entry:?} was given up, and written over");
            if !is_there || is_excluded(rig, entry) {
                continue;
            }
            let (file, from, _) = entry.frame.expect("it was written");
            let is_told = |finding: &Finding| match finding.what {
                What::GivenUp { offset, bytes } => (offset..offset + bytes).contains(&from),
                What::Unreadable { .. } => true,
                _ => false,
            };
            let told = self.findings.iter().any(|finding| finding.file == Some(file) && is_told(finding));
            assert!(told, "{entry:?} was given up: {:?}", self.findings);
        }
        missing > 0
    }

    /// All that is read was written: so, in order, and none twice. None is left out without a reason.
    pub fn check_records(&self, rig: &Rig) {
        let mut history = rig.history.iter();
        for record in &self.records {
            let (generation, mark, kind, body) = record;
            let id = Self::id(record);
            let entry =
                history.find(|entry| entry.id == id).unwrap_or_else(|| panic!("{id}: in order, and none twice"));
            assert_eq!((*mark, *kind, Some(*generation)), (entry.mark, Entry::kind(id), entry.generation));
            assert!(*body == Entry::body(id, entry.length), "as it was written");
            assert!(*generation >= rig.gone_below, "what is gone never comes back");
        }
        if self.may_have_holes || rig.has_lost {
            return;
        }
        let Some(first) = self.records.first().map(Self::id) else { return };
        let from = rig.history.iter().position(|entry| entry.id == first).expect("it was written");
        let to = from + self.records.len();
        assert!(rig.history[from..to].iter().map(|entry| entry.id).eq(self.records.iter().map(Self::id)), "no holes");
        let before = from.checked_sub(1).map(|before| rig.history[before].generation);
        assert_ne!(before, Some(rig.history[from].generation), "segments come back as a whole");
    }
}
