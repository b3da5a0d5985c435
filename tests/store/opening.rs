//! The start of a broker with a store on disks in memory, as the real one does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moormq::archive::{Desk, Limits, MemoryArchive};
use moormq::hooks::Chain;
use moormq::journal::{Floor, Journal, Reader, Settings, Sync};
use moormq::message::Message;
use moormq::persistence::{Durability, Paging, PersistenceSetup};
use moormq::records::{Image, Record, Share, WallClock};
use moormq::shard::Shard;
use moormq::sharding::hasher;
use moormq::storage::archive::{DamagedPage, find_pages, mend_pages};

use super::disk::{Disk, File};

/// A store: the disks of all shards, and what a broker keeps beside them.
#[derive(Default)]
pub struct Store {
    /// By the shard that the journal is of.
    pub disks: BTreeMap<u32, Disk>,
    floors: BTreeMap<u32, Floor>,
    /// The desk of the archive, if there is one, and how queues get into it.
    pub archive: Option<(Desk<MemoryArchive>, Paging)>,
    /// What was found to be damaged of its pages, when it was opened last.
    pub damaged: Vec<DamagedPage>,
    /// How often it was opened.
    boot: u32,
    /// The first time of which records count.
    first_boot: u32,
}

/// What was read of a store.
pub struct Opened {
    /// By shard.
    pub shares: Vec<Share>,
    /// With their mountpoints.
    pub retained: Vec<(Arc<str>, Message)>,
    /// Shards are to write all that they have once: then [`Store::is_renewed`].
    pub renews: bool,
    journals: Vec<Journal>,
    boot: u32,
    sync: Sync,
    wall: WallClock,
    paging: Option<Paging>,
}

/// How much of a shard may be under way to the archive: little, so that this is reached.
pub const LIMITS: Limits = Limits { bytes: 256 << 10, batches: 4, reads: 2 };

/// The settings of the journal of one shard.
pub fn settings_of(mut settings: Settings, shard: u32) -> Settings {
    settings.identity.shard = shard;
    settings
}

fn readers_of(disks: &BTreeMap<u32, Disk>, settings: Settings) -> Vec<Reader<&File>> {
    let reader = |(shard, disk)| {
        let (shard, disk): (&u32, &Disk) = (shard, disk);
        let files = disk.files.iter().map(|(id, file)| (*id, file)).collect();
        Reader::new(settings_of(settings, *shard).identity, files)
    };
    disks.iter().map(reader).collect()
}

impl Store {
    /// One that has nothing, with this archive if there is to be one.
    pub fn with_archive(archive: Option<(Desk<MemoryArchive>, Paging)>) -> Self {
        Store { archive, ..Store::default() }
    }

    pub fn disk(&mut self, shard: usize) -> &mut Disk {
        self.disks.entry(shard as u32).or_default()
    }

    /// Opens it, for a broker of so many shards whose hashes have this seed, and reads all that it has. `settings` are those of its journals, but for
    /// the shard; `wall` says what the calendar does.
    pub fn open(&mut self, shards: usize, settings: Settings, wall: WallClock, seed: u64) -> Opened {
        self.boot += 1;
        let mut image = Image::new(wall, hasher(seed));
        let known = self.disks.keys().last().map_or(0, |last| *last as usize + 1).max(shards);
        for shard in 0..known {
            self.disk(shard).sync_and_forget();
        }
        if let Some((desk, _)) = &mut self.archive {
            let mut archive = std::mem::take(desk.archive());
            let each = |id, page| image.page(id, page);
            self.damaged = find_pages(&mut archive, wall, each).expect("it can be read");
            mend_pages(&mut archive, &self.damaged).expect("it can be written");
            *desk = Desk::new(archive, shards);
        }
        let is_bad = |shard: usize, error| panic!("on shard {shard} a record is not as it should be: {error}");
        let mut readers = readers_of(&self.disks, settings);
        // As a broker does it that has a thread for each.
        let read = |(shard, reader): (u32, &mut Reader<_>)| {
            let mut part = image.part(shard, shards, seed);
            part.read(reader, self.first_boot);
            part
        };
        let parts = (0..).zip(&mut readers).map(read).collect();
        if !image.put_together(parts, is_bad) {
            readers = readers_of(&self.disks, settings);
            image.read(&mut readers.iter_mut().collect::<Vec<_>>(), self.first_boot, is_bad);
        }
        let mut journals = Vec::new();
        for (shard, reader) in readers.into_iter().enumerate().take(shards) {
            let (recovered, _) = reader.finish();
            let above = self.floors.get(&(shard as u32)).copied().unwrap_or_default();
            let settings = settings_of(settings, shard as u32).check().expect("journals can work with them");
            let journal = Journal::new(settings, recovered.above(above), self.boot.into()).expect("it is its own");
            self.floors.insert(shard as u32, journal.floor());
            journals.push(journal);
        }
        let mut contents = image.finish();
        let renews = known > shards || !contents.are_at_home(shards, seed);
        let shares = contents.shares(shards, seed, renews);
        let retained = contents.into_retained().collect();
        let paging = self.archive.as_ref().map(|(_, paging)| *paging);
        Opened { shares, retained, renews, journals, boot: self.boot, sync: settings.sync, wall, paging }
    }

    /// What is on the disk of a shard, whose journal has these settings.
    pub fn each_record(&self, shard: u32, settings: Settings, mut each: impl FnMut(&Record<'_>)) {
        let Some(disk) = self.disks.get(&shard) else { return };
        let mut reader = Reader::new(settings_of(settings, shard).identity, disk.open());
        while let Some(record) = reader.next() {
            each(&Record::decode(record.kind, record.body).expect("it was written as it should"));
        }
    }

    /// All shards have written what they have: nothing counts any more that was written before.
    pub fn is_renewed(&mut self, shards: usize) {
        self.first_boot = self.boot;
        self.disks.retain(|shard, _| (*shard as usize) < shards);
    }
}

impl Opened {
    /// Gives the shards what was read, and has them store from here on. `clock` gives the time since the start.
    pub fn restore<C: Chain>(self, shards: &mut [Shard<C>], clock: impl Fn() -> Duration + Clone + 'static) {
        let Opened { shares, retained, journals, boot, sync, wall, paging, .. } = self;
        let durability = if sync == Sync::Never { Durability::Flushed } else { Durability::Fsynced };
        for ((shard, journal), share) in shards.iter_mut().zip(journals).zip(shares) {
            let Share { sessions, beginning } = share;
            sessions.into_iter().for_each(|stored| shard.restore(stored, wall));
            retained.iter().for_each(|(mountpoint, message)| shard.restore_retained(mountpoint, message));
            let clock = Box::new(clock.clone());
            shard.persist(PersistenceSetup { journal, paging, boot, sync, durability, clock, wall, beginning });
        }
    }
}
