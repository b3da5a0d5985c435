//! A journal on a disk in memory, and all that it should know.

use std::io;
use std::time::Duration;

use moormq::journal::{
    Archived, Class, Effect, FileId, Finding, Journal, Mark, Preparation, Reader, Recovered, Refused, Settings,
    StoreId, Sync, Write,
};
use moormq::random::Random;

use super::disk::{Disk, File};

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
    let mut reader = Reader::new(settings.identity, files);
    let mut records = Vec::new();
    while let Some(record) = reader.next() {
        records.push((record.mark, record.kind, record.body.to_vec()));
    }
    let (recovered, findings) = reader.finish();
    (records, recovered, findings)
}

impl Rig {
    pub fn new(settings: Settings, seed: u64) -> Self {
        Rig {
            settings,
            disk: Disk::default(),
            journal: Journal::new(settings.check().expect("they hold"), Recovered::nothing(), 1_800_000_000),
            now: Duration::ZERO,
            random: Random::from_seed(seed),
            history: Vec::new(),
            commit: None,
            preparing: None,
            released_below: 0,
            gone_below: 0,
            next_id: 1,
            disk_is_full: false,
        }
    }

    /// Appends a record with a body of so many bytes, eight at least.
    pub fn append(&mut self, class: Class, length: usize) -> Result<Mark, Refused> {
        let (id, room) = (self.next_id, self.journal.room(class));
        let body = Entry::body(id, length);
        let (front, back) = body.split_at(body.len() / 3);
        let result = self.journal.append(class, Entry::kind(id), &[front, back]);
        assert_eq!(
            result.is_ok(),
            room.is_some_and(|room| body.len() <= room),
            "{result:?} with {room:?} for {length}"
        );
        if let Ok(mark) = result {
            assert!(self.history.last().is_none_or(|last| last.mark <= mark));
            self.history.push(Entry { id, length: body.len(), mark, generation: None, frame: None });
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
                    self.preparing = Some((preparation, self.released_below));
                }
                Effect::Remove { file } | Effect::SetAside { file } => {
                    self.disk.files.remove(&file);
                }
            }
        }
    }

    fn take_write(&mut self, write: Write) {
        assert!(self.commit.is_none(), "one commit at a time");
        assert!(write.offset.is_multiple_of(4096) && write.bytes.is_multiple_of(4096) && write.bytes > 0);
        assert!(write.data().as_ptr().addr().is_multiple_of(4096));
        assert!(write.bytes <= self.settings.frame_bytes && write.sync == self.settings.sync);
        assert!(write.offset + write.bytes as u64 <= self.disk.files[&write.file].bytes.len() as u64, "no file grows");
        let generation = u64::from_le_bytes(*write.data()[32..].first_chunk().expect("a header"));
        let mark = self.history.iter().find(|entry| entry.frame.is_none()).expect("no frame is empty").mark;
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
                    Sync::Linked => self.commit = Some(UnderWay::Syncing(write.file)),
                    Sync::Never => {}
                }
                self.journal.written(write.buffer, Ok(write.bytes));
            }
            Some(UnderWay::Syncing(file)) => {
                self.disk.sync(file);
                self.journal.synced(Ok(()));
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
                self.journal.written(write.buffer, if short { Ok(write.bytes - 1) } else { Err(error()) });
                self.journal.synced(Err(io::ErrorKind::Interrupted.into()));
            }
            Some(UnderWay::Syncing(_)) => self.journal.synced(Err(error())),
            None => {}
        }
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
        self.gone_below = self.gone_below.max(oldest);
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
        self.journal.prepared(file, Err(io::Error::other("a bad block")), self.now);
    }

    /// Archives a segment, if one is to be.
    pub fn archive(&mut self) -> bool {
        let Some(oldest) = self.journal.oldest() else { return false };
        let other = Archived { generation: oldest.generation + 1, ..oldest };
        assert!(!self.journal.release(other), "none but the oldest");
        assert!(self.journal.release(oldest));
        assert!(!self.journal.release(oldest), "once");
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

    /// What has to be there after a crash.
    pub fn promised(&self, crash: Crash) -> Mark {
        match crash {
            Crash::Killed => self.journal.flushed(),
            Crash::PowerLost => self.journal.fsynced(),
        }
    }

    /// Starts again after a crash, and checks what is there.
    pub fn recover(&mut self, crash: Crash) {
        let promised = self.promised(crash);
        let (records, recovered, findings) = read(&self.settings, self.disk.open());
        assert!(findings.iter().all(|finding| !finding.is_loss()), "{findings:?}");
        let from = records.first().map_or(self.history.len(), |(mark, ..)| {
            self.history.iter().position(|entry| entry.mark == *mark).expect("what is read was written")
        });
        for ((mark, kind, body), entry) in records.iter().zip(self.history.get(from..).unwrap_or_default()) {
            assert_eq!((*mark, *kind), (entry.mark, Entry::kind(entry.id)), "in order, none twice, none left out");
            assert!(*body == Entry::body(entry.id, entry.length), "as it was written");
        }
        assert!(from + records.len() <= self.history.len(), "nothing is invented");
        let is_needed = |entry: &Entry| entry.mark <= promised && entry.generation >= Some(self.released_below);
        if let Some(first) = self.history.iter().position(is_needed) {
            let last = self.history.iter().rposition(is_needed).expect("there is a first");
            assert!(
                from <= first && last < from + records.len(),
                "{first}..={last} were promised, {from} {}",
                records.len()
            );
        }
        let history = self.history[from..from + records.len()].to_vec();
        assert!(history.iter().all(|entry| entry.generation >= Some(self.gone_below)), "what is gone never comes back");
        if let Some(before) = from.checked_sub(1).filter(|_| !history.is_empty()) {
            assert_ne!(self.history[before].generation, history[0].generation, "segments come back as a whole");
        }
        self.released_below = history.first().map_or(0, |entry| entry.generation.expect("it was written"));
        self.history = history;
        for file in recovered.files_to_sync() {
            self.disk.sync(file);
        }
        self.journal = Journal::new(self.settings.check().expect("they hold"), recovered, 1_800_000_001);
        assert!(self.history.last().is_none_or(|last| last.mark <= self.journal.fsynced()));
    }
}
