//! The disks of the shards, and what is under way to them. The driver chooses what is done next.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use moormq::journal::{Answer, BLOCK, Effect, FileId, Piece, Preparation, Settings, Sync, Write};
use moormq::random::Random;
use moormq::records::{WallClock, WallTime};
use moormq::time::Time;

use crate::store::disk::Disk;
use crate::store::opening::{Opened, Store};

/// What the calendar says when a history begins.
pub const FIRST_START: u64 = 1_800_000_000_000;

/// Something that is being done for a journal.
enum UnderWay {
    Write(Write),
    /// What was written there is synced.
    Sync(FileId),
    Prepare(Preparation),
}

/// What is known of the disk of one shard.
#[derive(Default)]
struct State {
    under_way: Vec<UnderWay>,
    /// The next write or sync fails.
    fails: bool,
    /// One has.
    has_failed: bool,
    is_full: bool,
}

pub struct Disks {
    store: Store,
    settings: Settings,
    /// By shard.
    states: Vec<State>,
    /// The time, for journals.
    clock: Rc<Cell<Duration>>,
}

impl Disks {
    pub fn new(settings: Settings) -> Self {
        Disks { store: Store::default(), settings, states: Vec::new(), clock: Rc::default() }
    }

    pub fn set_time(&self, now: Time) {
        self.clock.set(now.since(Time::ZERO));
    }

    /// The time since the start of the broker.
    pub fn clock(&self) -> impl Fn() -> Duration + Clone + 'static {
        let clock = self.clock.clone();
        move || clock.get()
    }

    /// Reads what is there, for a broker of so many shards that starts so long after the beginning of the history.
    pub fn open(&mut self, shards: usize, seed: u64, millis: u64) -> Opened {
        self.states = (0..shards).map(|_| State::default()).collect();
        self.clock = Rc::default();
        let wall = WallClock::new(Time::ZERO, WallTime::from_millis(FIRST_START + millis));
        self.store.open(shards, self.settings, wall, seed)
    }

    /// A journal wants something done. Gives the answer if that is done at once.
    pub fn begin(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Write(write) => self.states[shard].under_way.push(UnderWay::Write(write)),
            Effect::Prepare(preparation) => self.states[shard].under_way.push(UnderWay::Prepare(preparation)),
            Effect::Remove { file } | Effect::SetAside { file } => self.store.disk(shard).remove(file),
        }
    }

    /// Does one of the things that are under way, picked at random. Gives the shard, and what its journal is answered.
    pub fn go_on(&mut self, random: &mut Random) -> Option<(usize, Answer)> {
        let count = self.states.len();
        let start = random.below(count);
        let shard = (0..count).map(|at| (start + at) % count).find(|at| !self.states[*at].under_way.is_empty())?;
        let under_way = &mut self.states[shard].under_way;
        let at = random.below(under_way.len());
        let answer = match under_way.swap_remove(at) {
            UnderWay::Write(write) => self.write(shard, write, random),
            UnderWay::Sync(file) => self.sync(shard, file, random),
            UnderWay::Prepare(preparation) => self.prepare(shard, preparation, random),
        };
        Some((shard, answer))
    }

    fn write(&mut self, shard: usize, write: Write, random: &mut Random) -> Answer {
        let (state, disk) = (&mut self.states[shard], self.store.disk(shard));
        if std::mem::take(&mut state.fails) {
            state.has_failed = true;
            disk.write_partly(write.file, write.offset, write.data(), random);
            return Answer::Written { buffer: write.buffer, result: Err(io::Error::other("a bad block")) };
        }
        disk.write(write.file, write.offset, write.data());
        match write.sync {
            Sync::Dsync => disk.sync_range(write.file, write.offset, write.bytes),
            Sync::Linked => state.under_way.push(UnderWay::Sync(write.file)),
            Sync::Never => {}
        }
        Answer::Written { buffer: write.buffer, result: Ok(write.bytes) }
    }

    fn sync(&mut self, shard: usize, file: FileId, random: &mut Random) -> Answer {
        let (state, disk) = (&mut self.states[shard], self.store.disk(shard));
        if std::mem::take(&mut state.fails) {
            state.has_failed = true;
            disk.fail_sync(file, random);
            return Answer::Synced(Err(io::Error::other("a bad block")));
        }
        disk.sync(file);
        Answer::Synced(Ok(()))
    }

    fn prepare(&mut self, shard: usize, preparation: Preparation, random: &mut Random) -> Answer {
        let Preparation { file, bytes, fill, header, .. } = preparation;
        let disk = self.store.disk(shard);
        if fill && self.states[shard].is_full {
            disk.fill(file, random.below(bytes as usize));
            return Answer::Prepared { file, result: Err(io::ErrorKind::StorageFull.into()) };
        }
        if fill {
            disk.fill(file, bytes as usize);
        }
        disk.write(file, 0, &header);
        disk.sync(file);
        if fill {
            disk.sync_directory();
        }
        Answer::Prepared { file, result: Ok(()) }
    }

    /// The next write or sync of this shard fails.
    pub fn fail(&mut self, shard: usize) {
        self.states[shard].fails = true;
    }

    pub fn fill(&mut self, shard: usize, is_full: bool) {
        self.states[shard].is_full = is_full;
    }

    pub fn is_any_full(&self) -> bool {
        self.states.iter().any(|state| state.is_full)
    }

    /// Whether one has failed: the broker is to end.
    pub fn has_failed(&self) -> bool {
        self.states.iter().any(|state| state.has_failed)
    }

    /// What a copy has of the journal of a shard.
    pub fn copy_of(&mut self, shard: usize, pieces: &[Piece]) -> Disk {
        let mut copy = Disk::default();
        for piece in pieces {
            let file = self.store.disk(shard).files.get(&piece.file).expect("it stays");
            let mut bytes = file.bytes[..piece.bytes as usize].to_vec();
            piece.restate(&mut bytes[..BLOCK]);
            copy.write(piece.file, 0, &bytes);
            copy.sync(piece.file);
        }
        copy
    }

    /// The store is a copy of what it was, with these disks.
    pub fn become_copy(&mut self, disks: BTreeMap<u32, Disk>) {
        self.store.disks = disks;
    }

    /// All shards have written what they have.
    pub fn is_renewed(&mut self) {
        self.store.is_renewed(self.states.len());
    }

    /// No disk makes trouble any more. Whether one has failed: then its shard acknowledges nothing until the broker starts again.
    pub fn are_in_order(&mut self) -> bool {
        self.states.iter_mut().for_each(|state| (state.fails, state.is_full) = (false, false));
        self.states.iter().all(|state| !state.has_failed)
    }

    /// The broker dies: any part of what is under way is on the disk. If there is no power, too, any part of what is not synced is lost.
    pub fn die(&mut self, loses_power: bool, random: &mut Random) {
        for (shard, state) in std::mem::take(&mut self.states).into_iter().enumerate() {
            let disk = self.store.disk(shard);
            for under_way in state.under_way {
                match under_way {
                    UnderWay::Write(write) => disk.write_partly(write.file, write.offset, write.data(), random),
                    UnderWay::Sync(_) => {}
                    UnderWay::Prepare(preparation) => die_preparing(disk, &preparation, random),
                }
            }
            if loses_power {
                disk.lose_power(random);
            }
        }
    }
}

fn die_preparing(disk: &mut Disk, preparation: &Preparation, random: &mut Random) {
    let &Preparation { file, bytes, fill, .. } = preparation;
    let begun = random.below(4);
    if fill && begun > 0 {
        disk.fill(file, if begun == 1 { random.below(bytes as usize) } else { bytes as usize });
    }
    if begun == 3 || !fill {
        disk.write_partly(file, 0, &preparation.header, random);
    }
}
