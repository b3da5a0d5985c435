//! A journal on a disk in memory, and all that it should know.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use moormq::journal::{
    Aligned, Archived, BLOCK, Class, Effect, Failure, FileId, Finding, Floor, Journal, Mark, Preparation, Reader,
    Recovered, Refused, Settings, StoreId, Sync, Write,
};
use moormq::random::Random;

use super::found::Found;
use crate::store::disk::{Disk, File};

/// A record that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub id: u64,
    pub length: usize,
    pub mark: Mark,
    /// The segment of its frame, once that is being written.
    pub generation: Option<u64>,
    /// The place of its frame: file, offset and length.
    pub frame: Option<(FileId, u64, usize)>,
    /// Whether this start has read it, or it was appended since. Otherwise this start could not read it.
    pub is_known: bool,
    /// Whether it was on the device at the last start.
    pub is_durable: bool,
    /// Whether it is archived.
    pub is_released: bool,
}

impl Entry {
    pub fn kind(id: u64) -> u8 {
        (id % 251) as u8
    }

    /// Something that is different for each, and not zero at its end.
    pub fn body(id: u64, length: usize) -> Vec<u8> {
        let mut state = id;
        let mut body = id.to_le_bytes().to_vec();
        body.resize_with(length.max(8), || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (state >> 56) as u8 | 1
        });
        body
    }
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crash {
    Killed,
    PowerLost,
}

/// A commit that is under way.
pub enum UnderWay {
    Writing(Write),
    Syncing(FileId),
}

pub struct Rig {
    pub settings: Settings,
    pub disk: Disk,
    pub journal: Journal,
    pub now: Duration,
    pub random: Random,
    /// All that was taken and can still be read, in order.
    pub history: Vec<Entry>,
    pub commit: Option<UnderWay>,
    /// What is being prepared, and the oldest generation that counted when that began.
    pub preparing: Option<(Preparation, u64)>,
    /// All segments below are archived.
    pub released_below: u64,
    /// No segment below may be read any more.
    pub gone_below: u64,
    next_id: u64,
    pub disk_is_full: bool,
    /// Whether removals fail now and then.
    pub removals_fail: bool,
    /// Whether anything was lost so far that could be told.
    pub has_lost: bool,
    /// How many starts have lost something before what they have read.
    pub holes: u64,
    /// Files that were set aside.
    pub aside: Vec<(FileId, File)>,
    /// What was there, but could not be read at the end of a journal.
    pub given_up: Vec<Entry>,
    /// The same, of this start: before there is a segment that says so, they may still come back.
    behind: Vec<Entry>,
    /// What a store would keep.
    pub floor: Floor,
    /// Whether not all records are to be synced.
    pub is_mixed: bool,
    /// How each write was to become durable.
    pub writes: Vec<Sync>,
    /// The last mark of earlier openings.
    opened: Mark,
}

pub fn small(sync: Sync) -> Settings {
    Settings {
        segment_bytes: 40 << 10,
        segments: 4,
        frame_bytes: 12 << 10,
        buffer_bytes: 36 << 10,
        sync,
        ..Settings::new(StoreId([9; 16]), 2)
    }
}

/// The marks, kinds and bodies of records.
pub type Records = Vec<(Mark, u8, Vec<u8>)>;

/// All that can be read.
pub fn read(settings: &Settings, files: Vec<(FileId, File)>) -> (Records, Recovered, Vec<Finding>) {
    let (records, recovered, findings) = read_all(settings, files);
    (records.into_iter().map(|(_, mark, kind, body)| (mark, kind, body)).collect(), recovered, findings)
}

/// All that can be read, with the generations.
#[expect(clippy::type_complexity, reason = "what a record is, and what there is besides")]
pub fn read_all(
    settings: &Settings,
    files: Vec<(FileId, File)>,
) -> (Vec<(u64, Mark, u8, Vec<u8>)>, Recovered, Vec<Finding>) {
    let mut reader = Reader::new(settings.identity, files);
    let mut records = Vec::new();
    while let Some(record) = reader.next() {
        records.push((record.generation, record.mark, record.kind, record.body.to_vec()));
    }
    let (recovered, findings) = reader.finish();
    (records, recovered, findings)
}

/// A journal that goes on from there.
pub fn opened(settings: Settings, recovered: Recovered) -> Journal {
    Journal::new(settings.check().expect("they hold"), recovered, 1_800_000_000).expect("it is its own")
}

impl Rig {
    pub fn new(settings: Settings, seed: u64) -> Self {
        let journal = opened(settings, Recovered::nothing());
        Rig {
            settings,
            disk: Disk::default(),
            floor: journal.floor(),
            journal,
            now: Duration::ZERO,
            random: Random::from_seed(seed),
            history: Vec::new(),
            commit: None,
            preparing: None,
            released_below: 0,
            gone_below: 0,
            next_id: 1,
            disk_is_full: false,
            removals_fail: false,
            has_lost: false,
            holes: 0,
            aside: Vec::new(),
            given_up: Vec::new(),
            behind: Vec::new(),
            is_mixed: false,
            writes: Vec::new(),
            opened: Mark::default(),
        }
    }

    /// A journal that was on a disk before: what can be read of it is among `history`.
    pub fn over(settings: Settings, disk: Disk, history: &[Entry]) -> (Self, Records, Vec<Finding>) {
        let mut rig = Rig { disk, ..Rig::new(settings, 1) };
        rig.next_id = history.last().map_or(1, |last| last.id + 1);
        let findings = rig.start_over(history);
        let (records, ..) = read(&rig.settings, rig.disk.open());
        (rig, records, findings)
    }

    /// Starts again, whatever is found: it is a part of `history`.
    pub fn start_over(&mut self, history: &[Entry]) -> Vec<Finding> {
        let (records, recovered, findings) = read_all(&self.settings, self.disk.open());
        let found = Found { records, findings, may_have_holes: true, promised: Mark::default() };
        self.has_lost = true;
        self.history = history.to_vec();
        found.check_records(self);
        self.take_over(&found.ids(), &BTreeSet::new(), Mark::default());
        self.journal = opened(self.settings, recovered);
        found.findings
    }

    /// Appends a record with a body of so many bytes, eight at least.
    pub fn append(&mut self, class: Class, length: usize) -> Result<Mark, Refused> {
        let (id, room) = (self.next_id, self.journal.room(class));
        let body = Entry::body(id, length);
        let (front, back) = body.split_at(body.len() / 3);
        // Of the files before the first one that is synced nothing is promised.
        let is_first = self.history.last().is_none_or(|last| last.mark <= self.opened);
        let is_to_be_synced = !self.is_mixed || is_first || self.random.below(3) == 0;
        let result = self.journal.append_as(class, is_to_be_synced, Entry::kind(id), &[front, back]);
        assert_eq!(
            result.is_ok(),
            room.is_some_and(|room| body.len() <= room),
            "{result:?} with {room:?} for {length}"
        );
        if let Ok(mark) = result {
            assert!(self.history.last().is_none_or(|last| last.mark <= mark));
            let generation = self.journal.generation_of(mark);
            assert!(generation.is_some(), "it is known where it goes");
            let (length, generation, frame) = (body.len(), None, None);
            let (is_known, is_durable, is_released) = (true, false, false);
            self.history.push(Entry { id, length, mark, generation, frame, is_known, is_durable, is_released });
            self.next_id += 1;
        }
        result
    }

    /// Takes all effects there are.
    pub fn take_effects(&mut self) {
        while let Some(effect) = self.journal.next_effect(self.now) {
            match effect {
                Effect::Write(write) => self.take_write(write),
                Effect::Prepare(preparation) => {
                    assert!(self.preparing.is_none(), "one at a time");
                    let oldest = u64::from_le_bytes(*preparation.header[56..].first_chunk().expect("a header"));
                    let counts = |entry: &Entry| entry.is_released || entry.generation.is_none_or(|own| own >= oldest);
                    assert!(self.history.iter().all(counts), "what is not archived counts");
                    assert!(self.has_lost || oldest >= self.released_below, "and nothing else");
                    if !preparation.fill && self.journal.shortage().is_some() {
                        // There is no room to keep what was given up.
                        self.given_up.clear();
                    }
                    self.preparing = Some((preparation, oldest));
                }
                Effect::Remove { file } | Effect::SetAside { file }
                    if self.removals_fail && self.random.below(3) == 0 =>
                {
                    // It may be used again another time.
                    self.given_up.retain(|entry| entry.frame.is_none_or(|frame| frame.0 != file));
                }
                Effect::Remove { file } => self.disk.remove(file),
                Effect::SetAside { file } => {
                    self.aside.extend(self.disk.files.get(&file).map(|there| (file, there.clone())));
                    self.disk.remove(file);
                }
            }
        }
    }

    fn take_write(&mut self, write: Write) {
        assert!(self.commit.is_none(), "one commit at a time");
        self.writes.push(write.sync);
        assert!(write.offset.is_multiple_of(4096) && write.bytes.is_multiple_of(4096) && write.bytes > 0);
        assert!(write.data().as_ptr().addr().is_multiple_of(4096));
        assert!(write.bytes <= self.settings.frame_bytes && (self.is_mixed || write.sync == self.settings.sync));
        assert!(write.offset + write.bytes as u64 <= self.disk.files[&write.file].bytes.len() as u64, "no file grows");
        let generation = u64::from_le_bytes(*write.data()[32..].first_chunk().expect("a header"));
        let number = u64::from_le_bytes(*write.data()[16..].first_chunk().expect("a header"));
        let again = self.history.iter().rfind(|entry| entry.frame.is_some()).map(|entry| (entry.mark, entry.frame));
        if let Some((mark, frame)) = again.filter(|(mark, _)| mark.to_string() == number.to_string()) {
            assert_eq!(frame, Some((write.file, write.offset, write.bytes)), "the same once more");
            assert!(self.journal.flushed() < mark);
            self.commit = Some(UnderWay::Writing(write));
            return;
        }
        let mark = self.history.iter().find(|entry| entry.frame.is_none()).expect("no frame is empty").mark;
        assert_eq!((mark.to_string(), self.journal.generation_of(mark)), (number.to_string(), Some(generation)));
        for entry in self.history.iter_mut().filter(|entry| entry.mark == mark) {
            assert!(entry.frame.is_none(), "no frame is written twice");
            entry.frame = Some((write.file, write.offset, write.bytes));
            entry.generation = Some(generation);
        }
        self.commit = Some(UnderWay::Writing(write));
    }

    /// Goes on with the commit that is under way.
    pub fn go_on(&mut self) {
        match self.commit.take() {
            Some(UnderWay::Writing(write)) => {
                self.disk.write(write.file, write.offset, write.data());
                match write.sync {
                    Sync::Dsync => self.disk.sync_range(write.file, write.offset, write.bytes),
                    Sync::Linked if self.random.below(4) == 0 => {
                        // Its answer is here first.
                        self.disk.sync(write.file);
                        let before = (self.journal.flushed(), self.journal.fsynced());
                        assert!(self.journal.synced(Ok(())) && !self.journal.synced(Ok(())), "once");
                        assert_eq!((self.journal.flushed(), self.journal.fsynced()), before);
                    }
                    Sync::Linked => self.commit = Some(UnderWay::Syncing(write.file)),
                    Sync::Never => {}
                }
                assert!(self.journal.written(write.buffer, Ok(write.bytes)));
            }
            Some(UnderWay::Syncing(file)) => {
                self.disk.sync(file);
                assert!(self.journal.synced(Ok(())));
            }
            None => {}
        }
    }

    /// The commit that is under way fails, whatever it has done so far.
    pub fn fail_commit(&mut self) {
        let error = || io::Error::other("the disk is gone");
        match self.commit.take() {
            Some(UnderWay::Writing(write)) => {
                self.disk.write_partly(write.file, write.offset, write.data(), &mut self.random);
                let short = self.random.below(2) == 0;
                assert!(self.journal.written(write.buffer, if short { Ok(write.bytes - 1) } else { Err(error()) }));
                assert!(!self.journal.synced(Err(io::ErrorKind::Interrupted.into())), "it has ended");
            }
            Some(UnderWay::Syncing(file)) => {
                self.disk.fail_sync(file, &mut self.random);
                assert!(self.journal.synced(Err(error())));
            }
            None => {}
        }
    }

    /// The write that is under way is not begun by the system.
    pub fn interrupt_commit(&mut self) {
        let Some(UnderWay::Writing(write)) = self.commit.take_if(|commit| matches!(commit, UnderWay::Writing(_)))
        else {
            return;
        };
        let kind = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock][self.random.below(2)];
        let is_first = self.random.below(2) == 0;
        let is_linked = write.sync == Sync::Linked;
        let sync = |rig: &mut Rig| {
            assert_eq!(rig.journal.synced(Err(io::Error::other("canceled"))), is_linked);
        };
        let written = |rig: &mut Rig, buffer: Aligned| assert!(rig.journal.written(buffer, Err(kind.into())));
        if is_first {
            sync(self);
        }
        written(self, write.buffer);
        if !is_first {
            sync(self);
        }
        assert!(!self.journal.is_settled());
    }

    /// Ends what is being prepared.
    pub fn end_preparation(&mut self) {
        let Some((preparation, oldest)) = self.preparing.take() else { return };
        let Preparation { file, bytes, fill, header, .. } = preparation;
        if fill && self.disk_is_full {
            self.disk.fill(file, self.random.below(bytes as usize));
            self.journal.prepared(file, Err(io::ErrorKind::StorageFull.into()), self.now);
            return;
        }
        if fill {
            self.disk.fill(file, bytes as usize);
        }
        self.disk.write(file, 0, &header);
        self.disk.sync(file);
        if fill {
            self.disk.sync_directory();
        }
        self.gone_below = self.gone_below.max(oldest);
        // Others may have been torn, or are archived.
        self.given_up.extend(self.behind.drain(..).filter(|entry| entry.is_durable && !entry.is_released));
        self.journal.prepared(file, Ok(()), self.now);
    }

    /// What is being prepared fails, whatever it has done so far.
    pub fn fail_preparation(&mut self) {
        let Some((Preparation { file, bytes, fill, header, .. }, _)) = self.preparing.take() else { return };
        let is_filled = !fill || self.random.below(2) == 0;
        if fill {
            let length = if is_filled { bytes as usize } else { self.random.below(bytes as usize) };
            self.disk.fill(file, length);
        }
        match self.random.below(3) {
            0 if is_filled => self.disk.write(file, 0, &header),
            1 if is_filled => self.disk.write_partly(file, 0, &header, &mut self.random),
            _ => {}
        }
        if self.random.below(2) == 0 {
            // What is in a file that is used again was never synced, perhaps, and is read once more.
            self.has_lost |= self.settings.sync == Sync::Never || self.is_mixed;
            self.disk.fail_sync(file, &mut self.random);
        }
        self.journal.prepared(file, Err(io::Error::other("a bad block")), self.now);
    }

    /// Archives a segment, if one is to be.
    pub fn archive(&mut self) -> bool {
        let Some(oldest) = self.journal.oldest() else { return false };
        let other = Archived { generation: oldest.generation + 1, ..oldest };
        assert!(!self.journal.release(other), "none but the oldest");
        let of = |entry: &&Entry| entry.generation == Some(oldest.generation) && entry.is_known;
        let marks: Vec<Mark> = self.history.iter().filter(of).map(|entry| entry.mark).collect();
        assert_eq!(
            (marks.first().copied().unwrap_or_default(), marks.last().copied().unwrap_or_default()),
            (oldest.from, oldest.to),
            "all that is known of it"
        );
        assert!(oldest.to <= self.journal.flushed());
        let generations = |rig: &Rig| marks.iter().map(|mark| rig.journal.generation_of(*mark)).collect::<Vec<_>>();
        assert!(generations(self).iter().all(|generation| *generation == Some(oldest.generation)));
        assert!(self.journal.release(oldest));
        assert!(!self.journal.release(oldest), "once");
        assert!(generations(self).iter().all(Option::is_none));
        let is_of = |entry: &&mut Entry| entry.generation.is_some_and(|generation| generation <= oldest.generation);
        self.history.iter_mut().filter(is_of).for_each(|entry| entry.is_released = true);
        self.released_below = oldest.generation + 1;
        true
    }

    /// Does all that can be done without an archive.
    pub fn settle(&mut self) {
        let is_due = |rig: &Rig| rig.journal.wake_up().is_some_and(|at| at <= rig.now);
        while !self.journal.is_settled() || self.preparing.is_some() || is_due(self) {
            self.now = self.now.max(self.journal.wake_up().unwrap_or(self.now));
            self.take_effects();
            self.go_on();
            self.end_preparation();
            if self.journal.failure().is_some() || (self.disk_is_full && self.journal.is_settled()) {
                return;
            }
        }
    }

    /// Settles, with everything archived that is to be.
    pub fn settle_and_archive(&mut self) {
        self.settle();
        while self.archive() {
            self.settle();
        }
    }

    /// The broker ends, whatever it is doing.
    pub fn crash(&mut self, crash: Crash) {
        if let Some(UnderWay::Writing(write)) = self.commit.take() {
            self.disk.write_partly(write.file, write.offset, write.data(), &mut self.random);
        }
        if let Some((Preparation { file, bytes, fill, header, .. }, _)) = self.preparing.take() {
            let begun = self.random.below(4);
            if fill && begun > 0 {
                let length = if begun == 1 { self.random.below(bytes as usize) } else { bytes as usize };
                self.disk.fill(file, length);
            }
            if begun == 3 || !fill {
                self.disk.write_partly(file, 0, &header, &mut self.random);
            }
        }
        if crash == Crash::PowerLost {
            self.disk.lose_power(&mut self.random);
        }
    }

    /// What has to be there after a crash, of what was appended since the start.
    pub fn promised(&self, crash: Crash) -> Mark {
        match (crash, self.journal.failure()) {
            // What a failed sync was for is not read from the cache.
            (Crash::Killed, Some(Failure::Sync(_))) | (Crash::PowerLost, _) => self.journal.fsynced(),
            (Crash::Killed, _) => self.journal.flushed(),
        }
    }

    /// Starts again after a crash, and checks what is there.
    pub fn recover(&mut self, crash: Crash) {
        let promised = self.promised(crash);
        // Of what is not synced any part is lost with the power, or by a sync that fails: those are of a whole file.
        let is_cache_lost = crash == Crash::PowerLost || matches!(self.journal.failure(), Some(Failure::Sync(_)));
        let may_have_holes =
            crash == Crash::PowerLost && self.settings.sync == Sync::Never || is_cache_lost && self.is_mixed;
        self.disk.sync_and_forget();
        self.behind.iter_mut().for_each(|entry| entry.is_released = true);
        self.history.append(&mut self.behind);
        let (records, recovered, findings) = read_all(&self.settings, self.disk.open());
        let found = Found { records, findings, may_have_holes, promised };
        let hit = Found::hit(self);
        self.has_lost |= may_have_holes || !hit.is_empty();
        self.holes += u64::from(found.check(self));
        self.take_over(&found.ids(), &hit, promised);
        let settings = self.settings.check().expect("they hold");
        self.journal =
            Journal::new(settings, recovered.above(self.floor), 1_800_000_001).expect("it is its own, and has numbers");
        let floor = self.journal.floor();
        assert!(floor.number > self.floor.number && floor.generation > self.floor.generation);
        self.floor = floor;
        self.opened = self.journal.fsynced();
        assert!(self.history.last().is_none_or(|last| last.mark <= self.opened));
    }

    /// Goes on with what was `read`; what was `hit` cannot be read now.
    fn take_over(&mut self, read: &BTreeSet<u64>, hit: &BTreeSet<u64>, promised: Mark) {
        let last = read.last().copied().unwrap_or(0);
        let (history, behind): (Vec<Entry>, Vec<Entry>) = self.history.iter().partition(|entry| entry.id <= last);
        // What is behind the last one that is read never comes back once the journal goes on. Others may, if they can be read another time.
        self.behind = behind;
        self.behind.retain(|entry| hit.contains(&entry.id));
        self.behind.iter_mut().for_each(|entry| entry.is_durable |= entry.mark <= promised);
        self.history = history;
        self.history.retain(|entry| read.contains(&entry.id) || hit.contains(&entry.id));
        for entry in &mut self.history {
            entry.is_known = read.contains(&entry.id);
            entry.is_durable = true;
            entry.is_released &= !entry.is_known;
        }
        let first = self.history.iter().find(|entry| !entry.is_released);
        self.released_below = first.map_or(0, |entry| entry.generation.expect("it was written"));
    }

    /// Some blocks cannot be read from now on, but none of a header.
    pub fn break_blocks(&mut self) {
        let ids: Vec<FileId> = self.disk.files.keys().copied().collect();
        self.has_lost = true;
        for _ in 0..self.random.below(4) {
            let Some(&id) = ids.get(self.random.below(ids.len().max(1))) else { return };
            let file = self.disk.files.get_mut(&id).expect("it is there");
            let blocks = (file.bytes.len() / BLOCK).saturating_sub(1).max(1);
            file.unreadable.insert(1 + self.random.below(blocks) as u64);
        }
    }

    /// All blocks can be read again.
    pub fn mend_blocks(&mut self) {
        self.disk.files.values_mut().for_each(|file| file.unreadable.clear());
    }
}
