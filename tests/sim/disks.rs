//! The disks of the shards, and what is under way to them. The driver chooses what is done next.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use moormq::archive::{self, Archive, Desk, Faults, MemoryArchive, Order};
use moormq::journal::{Answer, BLOCK, Effect, FileId, Piece, Preparation, Settings, Sync, Write};
use moormq::persistence::Paging;
use moormq::random::Random;
use moormq::records::{StoredSession, WallClock, WallTime};
use moormq::session::OutgoingMessage;
use moormq::storage::archive::read_messages;
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

/// What a shard hears of its disk.
pub enum Heard {
    Journal(Answer),
    Archive(archive::Answer),
    /// Nothing yet.
    Nothing,
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
    /// What the archive has answered, and shards have not heard.
    answers: VecDeque<(usize, archive::Answer)>,
    has_archive_failed: bool,
    /// Whether a sync that fails loses what it was for. If not, the cache has it still, and the next start syncs it.
    forgets_after_failure: bool,
    /// The time, for journals.
    clock: Rc<Cell<Duration>>,
}

impl Disks {
    pub fn new(settings: Settings, paging: Option<Paging>, forgets_after_failure: bool) -> Self {
        let archive = paging.map(|paging| (Desk::new(MemoryArchive::new(), 0), paging));
        Disks {
            store: Store::with_archive(archive),
            settings,
            states: Vec::new(),
            answers: VecDeque::new(),
            has_archive_failed: false,
            forgets_after_failure,
            clock: Rc::default(),
        }
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

    /// What the journals have, each record a line, to look at.
    pub fn records(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for shard in self.store.disks.keys() {
            self.store.each_record(*shard, self.settings, |record| lines.push(format!("    {shard}: {record:?}")));
        }
        lines
    }

    /// A journal wants something done. Gives the answer if that is done at once.
    pub fn begin(&mut self, shard: usize, effect: Effect) {
        match effect {
            Effect::Write(write) => self.states[shard].under_way.push(UnderWay::Write(write)),
            Effect::Prepare(preparation) => self.states[shard].under_way.push(UnderWay::Prepare(preparation)),
            Effect::Remove { file } | Effect::SetAside { file } => self.store.disk(shard).remove(file),
        }
    }

    /// A shard wants something of the archive.
    pub fn order(&mut self, order: Order) {
        self.desk().expect("there is an archive").take(order);
    }

    fn desk(&mut self) -> Option<&mut Desk<MemoryArchive>> {
        self.store.archive.as_mut().map(|(desk, _)| desk)
    }

    /// Does one of the things that are under way, picked at random. Gives the shard, and what it hears of that.
    pub fn go_on(&mut self, random: &mut Random) -> Option<(usize, Heard)> {
        match self.store.archive.is_some() && random.below(2) == 0 {
            true => self.go_on_with_archive(random).or_else(|| self.go_on_with_journals(random)),
            false => self.go_on_with_journals(random).or_else(|| self.go_on_with_archive(random)),
        }
    }

    /// Something is done at the desk of the archive, if there is one, whose answers shards are to hear.
    fn at_the_desk<T>(
        &mut self,
        act: impl FnOnce(&mut Desk<MemoryArchive>, &mut dyn FnMut(u32, archive::Answer)) -> T,
    ) -> Option<T> {
        let Disks { store, answers, has_archive_failed, .. } = self;
        let (desk, _) = store.archive.as_mut()?;
        let mut answer = |shard, answer| {
            *has_archive_failed |= matches!(answer, archive::Answer::Failed(_));
            answers.push_back((shard as usize, answer));
        };
        Some(act(desk, &mut answer))
    }

    fn go_on_with_archive(&mut self, random: &mut Random) -> Option<(usize, Heard)> {
        if !self.answers.is_empty() && random.below(2) == 0 {
            return self.answers.pop_front().map(|(shard, answer)| (shard, Heard::Archive(answer)));
        }
        let has_done = self.at_the_desk(|desk, answer| desk.step(answer))?;
        match has_done {
            true => Some((0, Heard::Nothing)),
            false => self.answers.pop_front().map(|(shard, answer)| (shard, Heard::Archive(answer))),
        }
    }

    fn go_on_with_journals(&mut self, random: &mut Random) -> Option<(usize, Heard)> {
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
        Some((shard, Heard::Journal(answer)))
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
            if self.forgets_after_failure {
                disk.fail_sync(file, random);
            }
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

    /// The next change of the archive fails.
    pub fn fail_archive(&mut self) {
        if let Some(desk) = self.desk() {
            desk.archive().faults.changes = 0;
        }
    }

    pub fn fill_archive(&mut self, is_full: bool) {
        if let Some(desk) = self.desk() {
            let archive = desk.archive();
            archive.faults.room = if is_full { archive.bytes_on_disk() } else { u64::MAX };
        }
    }

    /// What waits of a session in pages.
    pub fn paged(&mut self, session: &StoredSession) -> Vec<OutgoingMessage> {
        let (id, wall) = (session.pages_id(), WallClock::new(Time::ZERO, WallTime::from_millis(FIRST_START)));
        let Some(desk) = self.desk() else { return Vec::new() };
        let mut waiting = Vec::new();
        for page in &session.pages {
            let first = page.keys.first();
            let messages = read_messages(desk.archive(), id, first, wall).expect("it can be read");
            let messages = messages.expect("it is there, and was written as it should");
            waiting.extend(messages.into_iter().filter(|message| !page.gone.contains(&message.key)));
        }
        waiting
    }

    pub fn is_any_full(&self) -> bool {
        self.states.iter().any(|state| state.is_full)
    }

    /// Whether one has failed: the broker is to end.
    pub fn has_failed(&self) -> bool {
        self.has_archive_failed || self.states.iter().any(|state| state.has_failed)
    }

    /// What a copy has of the journal of a shard.
    pub fn copy_of(&mut self, shard: usize, pieces: &[Piece]) -> Disk {
        let mut copy = Disk::default();
        for piece in pieces {
            let file = self.store.disk(shard).files.get(&piece.file).expect("it stays");
            let mut bytes = file.bytes[..piece.bytes as usize].to_vec();
            piece.restate(&mut bytes[..BLOCK]);
            copy.write(piece.file, 0, &bytes);
        }
        copy.sync_and_forget();
        copy
    }

    /// Nothing more is persisted in the archive, until that is [released](Self::release_archive); gives what it has. None if there is none, or
    /// it has failed.
    pub fn hold_archive(&mut self) -> Option<MemoryArchive> {
        self.at_the_desk(|desk, answer| desk.hold(answer).and_then(|()| desk.archive().snapshot()))?.ok()
    }

    /// It may go on.
    pub fn release_archive(&mut self) {
        self.desk().into_iter().for_each(Desk::go_on);
    }

    /// The store is a copy of what it was, with these disks, and this archive.
    pub fn become_copy(&mut self, (disks, archive): (BTreeMap<u32, Disk>, Option<MemoryArchive>)) {
        self.store.disks = disks;
        if let (Some(archive), Some((desk, _))) = (archive, &mut self.store.archive) {
            *desk = Desk::new(archive, 0);
        }
    }

    /// All shards have written what they have.
    pub fn is_renewed(&mut self) {
        self.store.is_renewed(self.states.len());
    }

    /// No disk makes trouble any more. Whether one has failed: then its shard acknowledges nothing until the broker starts again.
    pub fn are_in_order(&mut self) -> bool {
        self.states.iter_mut().for_each(|state| (state.fails, state.is_full) = (false, false));
        if let Some(desk) = self.desk() {
            desk.archive().faults = Faults::default();
        }
        !self.has_failed()
    }

    /// The broker dies: any part of what is under way is on the disk. If there is no power, too, any part of what is not synced is lost.
    pub fn die(&mut self, loses_power: bool, random: &mut Random) {
        self.answers.clear();
        self.has_archive_failed = false;
        if let Some(desk) = self.desk() {
            let archive = desk.archive();
            archive.crash(random.below(archive.unpersisted() + 1));
        }
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
