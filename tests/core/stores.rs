//! The stores of a world: a journal for each shard, on a disk in memory. The test says when writes are answered, and when the broker dies.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use moormq::archive::{Archive, Desk, Found, MemoryArchive, Span};
use moormq::config::Config;
use moormq::hooks::Chain;
use moormq::journal::{Answer, Effect, Settings, StoreId, Sync, Write};
use moormq::persistence::Paging;
use moormq::records::{Record, WallClock, WallTime};
use moormq::shard::Input;
use moormq::storage::archive::DamagedPage;
use moormq::time::Time;

use crate::store::disk::Disk;
use crate::store::opening::{LIMITS, Store};
use crate::world::{SEED, World};

/// What the calendar says when the first broker starts.
const FIRST_START: u64 = 1_800_000_000_000;
/// How much of a write is on the disk if it is torn: not even the smallest frame, which takes a block.
const TORN: usize = 50;

/// The disks of all shards, and what is under way to them.
pub struct Stores {
    store: Store,
    /// What journals are told; but for the shard.
    pub settings: Settings,
    /// What the calendar says at time zero.
    wall: WallTime,
    clock: Rc<Cell<Duration>>,
    /// Whether writes wait for [`World::commit`].
    pub is_held: bool,
    /// Whether what the archive is asked for waits, too.
    pub is_archive_held: bool,
    /// Whether no segment can be prepared any more.
    pub is_full: bool,
    /// Whether syncs behind writes wait for [`World::end_syncs`].
    pub are_syncs_held: bool,
    /// Shards whose syncs wait.
    syncing: Vec<usize>,
    /// Writes that wait, by shard.
    waiting: Vec<VecDeque<Write>>,
    /// How many segments were prepared.
    pub prepared: usize,
}

/// What becomes of the writes that are under way when the broker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// None of them is on the disk.
    Lost,
    /// They are, and nobody knows.
    Written,
    /// Their beginnings are.
    Torn,
}

impl Default for Stores {
    fn default() -> Self {
        let settings = Settings {
            segment_bytes: 1 << 20,
            frame_bytes: 512 << 10,
            buffer_bytes: 1 << 20,
            commit_interval: Duration::ZERO,
            ..Settings::new(StoreId([9; 16]), 0)
        };
        Stores {
            store: Store::default(),
            settings,
            wall: WallTime::from_millis(FIRST_START),
            clock: Rc::default(),
            is_held: false,
            is_archive_held: false,
            is_full: false,
            are_syncs_held: false,
            syncing: Vec::new(),
            waiting: Vec::new(),
            prepared: 0,
        }
    }
}

impl Stores {
    /// The time, for journals.
    pub fn set_time(&self, now: Time) {
        self.clock.set(now.since(Time::ZERO));
    }

    /// With an archive, which has nothing.
    pub fn with_archive(self, shards: usize) -> Self {
        self.gathering(shards, Paging::default().memory)
    }

    /// Likewise; queues are moved to it when so many bytes of them are in the memory of a shard.
    pub fn gathering(mut self, shards: usize, memory: usize) -> Self {
        let paging = Paging { limits: LIMITS, memory, ..Paging::default() };
        self.store = Store::with_archive(Some((Desk::new(MemoryArchive::new(), shards), paging)));
        self
    }

    /// The desk of the archive.
    pub fn desk(&mut self) -> &mut Desk<MemoryArchive> {
        &mut self.store.archive.as_mut().expect("there is an archive").0
    }

    /// What was damaged of pages when the broker started last.
    pub fn damaged_pages(&self) -> &[DamagedPage] {
        &self.store.damaged
    }

    /// How many pages the archive has.
    pub fn pages(&mut self) -> usize {
        let mut pages = 0;
        let count = &mut |_: Found<'_>| {
            pages += 1;
            ControlFlow::Continue(())
        };
        self.desk().archive().scan(&Span::all_pages(), count).expect("it can be read");
        pages
    }

    /// How many files the journal of a shard has.
    pub fn files_of(&mut self, shard: usize) -> usize {
        self.disk(shard).files.len()
    }

    fn disk(&mut self, shard: usize) -> &mut Disk {
        self.store.disk(shard)
    }

    fn write(&mut self, shard: usize, write: &Write) {
        self.disk(shard).write(write.file, write.offset, write.data());
    }

    fn each_record(&self, shard: usize, each: impl FnMut(&Record<'_>)) {
        self.store.each_record(shard as u32, self.settings, each);
    }

    /// All records on the disk of this shard, as text.
    pub fn records(&self, shard: usize) -> Vec<String> {
        let mut records = Vec::new();
        self.each_record(shard, |record| records.push(format!("{record:?}")));
        records
    }

    /// For how many sessions a message with this payload is on the disk of this shard, acknowledged or not.
    pub fn deliveries(&self, shard: usize, payload: &str) -> usize {
        let (mut count, clock) = (0, WallClock::new(Time::ZERO, self.wall));
        self.each_record(shard, |record| match record {
            Record::Message { message, deliveries } if message.publication(clock).payload == payload.as_bytes() => {
                count += deliveries.iter().count();
            }
            _ => {}
        });
        count
    }

    /// What is said of the broker that dies is that it was down so long.
    fn die(&mut self, now: Time, last: Last, down: Duration) {
        for (shard, writes) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            for write in writes {
                match last {
                    Last::Lost => {}
                    Last::Written => self.write(shard, &write),
                    Last::Torn => {
                        let front = &write.data()[..TORN];
                        self.disk(shard).write(write.file, write.offset, front);
                    }
                }
            }
        }
        self.wall = WallTime::from_millis(self.wall.as_millis() + now.as_millis() + down.as_millis() as u64);
        (self.is_held, self.is_archive_held, self.is_full) = (false, false, false);
        (self.are_syncs_held, self.syncing) = (false, Vec::new());
        if let Some((desk, _)) = &mut self.store.archive {
            desk.archive().crash(0);
        }
    }
}

/// A world with stores that have nothing.
pub fn stored_world<C: Chain>(shards: usize, config: Config, chain: impl Fn() -> C) -> World<C> {
    with_stores(World::new(shards, config, chain), Stores::default())
}

/// Gives a world these stores, and its shards what is in them.
pub fn with_stores<C: Chain>(mut world: World<C>, mut stores: Stores) -> World<C> {
    let shards = world.shards.len();
    stores.clock = Rc::default();
    stores.waiting = (0..shards).map(|_| VecDeque::new()).collect();
    let opened = stores.store.open(shards, stores.settings, WallClock::new(Time::ZERO, stores.wall), SEED);
    let (clock, renews) = (stores.clock.clone(), opened.renews);
    opened.restore(&mut world.shards, move || clock.get());
    world.stores = Some(Box::new(stores));
    world.settle();
    while world.shards.iter().any(|shard| shard.is_behind()) {
        (0..shards).for_each(|shard| world.handle(shard, Input::Tick));
        world.settle();
    }
    assert!(world.shards.iter().all(|shard| shard.is_restored()));
    if renews {
        world.stores().store.is_renewed(shards);
    }
    (0..shards).for_each(|shard| world.handle(shard, Input::Restored));
    world.settle();
    world
}

impl<C: Chain> World<C> {
    /// The broker dies, is down so long, and starts again with so many shards.
    pub fn restarted(
        mut self,
        (last, down): (Last, Duration),
        shards: usize,
        config: Config,
        chain: impl Fn() -> C,
    ) -> World<C> {
        let mut stores = self.stores.take().expect("there are stores");
        stores.die(self.now, last, down);
        drop(self);
        with_stores(World::new(shards, config, chain), *stores)
    }

    /// The stores.
    pub fn stores(&mut self) -> &mut Stores {
        self.stores.as_mut().expect("there are stores")
    }

    /// Writes wait from here on.
    pub fn hold_commits(&mut self) {
        self.stores().is_held = true;
    }

    /// All that waits is written, and all that follows from it.
    pub fn commit(&mut self) {
        self.settle();
        while (0..self.shards.len()).any(|shard| self.commit_some(shard)) {
            self.settle();
        }
    }

    /// What waits on this shard is written, and what follows from it there; on others nothing is.
    pub fn commit_on(&mut self, shard: usize) {
        self.settle();
        while self.commit_some(shard) {
            self.settle();
        }
    }

    /// One write of this shard is carried out, if one waits.
    fn commit_some(&mut self, shard: usize) -> bool {
        let Some(write) = self.stores().waiting[shard].pop_front() else { return false };
        self.write(shard, write);
        true
    }

    /// The same, and nothing follows before [`World::settle`].
    pub fn commit_quietly(&mut self, shard: usize) {
        self.commit_some(shard);
    }

    fn write(&mut self, shard: usize, write: Write) {
        let stores = self.stores();
        stores.write(shard, &write);
        let Write { buffer, bytes, sync, .. } = write;
        self.handle(shard, Input::Journal(Answer::Written { buffer, result: Ok(bytes) }));
        match sync {
            Sync::Linked if self.stores().are_syncs_held => self.stores().syncing.push(shard),
            Sync::Linked => self.handle(shard, Input::Journal(Answer::Synced(Ok(())))),
            Sync::Dsync | Sync::Never => {}
        }
    }

    /// The write of this shard that waits fails.
    pub fn fail_write(&mut self, shard: usize) {
        let write = self.stores().waiting[shard].pop_front().expect("one waits");
        let result = Err(io::Error::other("a bad block"));
        self.handle(shard, Input::Journal(Answer::Written { buffer: write.buffer, result }));
        self.settle();
    }

    /// The syncs that wait are over, and all that follows from it is done.
    pub fn end_syncs(&mut self) {
        loop {
            for shard in std::mem::take(&mut self.stores().syncing) {
                self.handle(shard, Input::Journal(Answer::Synced(Ok(()))));
            }
            self.commit();
            if self.stores().syncing.is_empty() {
                return;
            }
        }
    }

    /// Whether a write waits on this shard, and how it becomes durable.
    pub fn is_writing(&mut self, shard: usize) -> Option<Sync> {
        self.stores().waiting[shard].front().map(|write| write.sync)
    }

    /// Does something for the journal of a shard.
    pub fn do_for_journal(&mut self, shard: usize, effect: Effect) {
        let stores = self.stores();
        match effect {
            Effect::Write(write) if stores.is_held => stores.waiting[shard].push_back(write),
            Effect::Write(write) => self.write(shard, write),
            Effect::Prepare(preparation) => {
                let is_full = stores.is_full;
                let result = if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) };
                if !is_full {
                    stores.prepared += 1;
                    let disk = stores.disk(shard);
                    if preparation.fill {
                        disk.fill(preparation.file, preparation.bytes as usize);
                    }
                    disk.write(preparation.file, 0, &preparation.header);
                }
                self.handle(shard, Input::Journal(Answer::Prepared { file: preparation.file, result }));
            }
            Effect::Remove { file } | Effect::SetAside { file } => stores.disk(shard).remove(file),
        }
    }

    /// The archive does a step of what it was asked for. Whether there was one.
    pub fn work_at_the_archive(&mut self) -> bool {
        let Some(stores) = self.stores.as_mut().filter(|stores| !stores.is_archive_held) else { return false };
        let (Some((desk, _)), mut answers) = (&mut stores.store.archive, Vec::new()) else { return false };
        let has_done = desk.step(&mut |shard, answer| answers.push((shard, answer)));
        for (shard, answer) in answers {
            self.handle(shard as usize, Input::Archive(answer));
        }
        has_done
    }

    /// How many records all disks have.
    pub fn record_count(&mut self) -> usize {
        let shards = self.shards.len();
        (0..shards).map(|shard| self.stores().records(shard).len()).sum()
    }
}
