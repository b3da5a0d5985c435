//! The start of a broker with a store on disks in memory, as the real one does it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use moormq::archive::{Archive, ArchiveKey, Desk, Found, Limits, MemoryArchive, Span};
use moormq::hooks::Chain;
use moormq::journal::{Floor, Journal, Reader, Settings, Sync};
use moormq::message::Message;
use moormq::persistence::{Durability, PersistenceSetup};
use moormq::records::{Image, Share, WallClock, read_summary};
use moormq::shard::Shard;
use moormq::sharding::hasher;

use super::disk::Disk;

/// A store: the disks of all shards, and what a broker keeps beside them.
#[derive(Default)]
pub struct Store {
    /// By the shard that the journal is of.
    pub disks: BTreeMap<u32, Disk>,
    floors: BTreeMap<u32, Floor>,
    /// The desk of the archive, if there is one.
    pub archive: Option<Desk<MemoryArchive>>,
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
    /// How much may be under way to the archive.
    archive: Option<Limits>,
}

/// How much of a shard may be under way to the archive: little, so that this is reached.
const LIMITS: Limits = Limits { bytes: 256 << 10, batches: 4, reads: 2 };

/// The settings of the journal of one shard.
pub fn settings_of(mut settings: Settings, shard: u32) -> Settings {
    settings.identity.shard = shard;
    settings
}

impl Store {
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
        if let Some(desk) = &mut self.archive {
            let mut archive = std::mem::take(desk.archive());
            read_summaries(&mut archive, &mut image);
            *desk = Desk::new(archive, shards);
        }
        let readers = self.disks.iter().map(|(shard, disk)| {
            let files = disk.files.iter().map(|(id, file)| (*id, file)).collect();
            Reader::new(settings_of(settings, *shard).identity, files)
        });
        let mut readers: Vec<_> = readers.collect();
        image.read(&mut readers.iter_mut().collect::<Vec<_>>(), self.first_boot, |shard, error| {
            panic!("on shard {shard} a record is not as it should be: {error}");
        });
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
        let archive = self.archive.is_some().then_some(LIMITS);
        Opened { shares, retained, renews, journals, boot: self.boot, sync: settings.sync, wall, archive }
    }

    /// All shards have written what they have: nothing counts any more that was written before.
    pub fn is_renewed(&mut self, shards: usize) {
        self.first_boot = self.boot;
        self.disks.retain(|shard, _| (*shard as usize) < shards);
    }
}

/// What there is of pages is told before any journal is read.
fn read_summaries(archive: &mut MemoryArchive, image: &mut Image) {
    let each = &mut |(key, value): Found<'_>| {
        if let ArchiveKey::Summary(id, first) = key {
            let page = read_summary(id, first, value.expect("it is whole")).expect("it was written as it should");
            image.page(id, page);
        }
        ControlFlow::Continue(())
    };
    archive.scan(&Span::sessions(), each).expect("it can be read");
}

impl Opened {
    /// Gives the shards what was read, and has them store from here on. `clock` gives the time since the start.
    pub fn restore<C: Chain>(self, shards: &mut [Shard<C>], clock: impl Fn() -> Duration + Clone + 'static) {
        let Opened { shares, retained, journals, boot, sync, wall, archive, .. } = self;
        let durability = if sync == Sync::Never { Durability::Flushed } else { Durability::Fsynced };
        for ((shard, journal), share) in shards.iter_mut().zip(journals).zip(shares) {
            let Share { sessions, beginning } = share;
            sessions.into_iter().for_each(|stored| shard.restore(stored, wall));
            retained.iter().for_each(|(mountpoint, message)| shard.restore_retained(mountpoint, message));
            let clock = Box::new(clock.clone());
            shard.persist(PersistenceSetup { journal, archive, boot, sync, durability, clock, wall, beginning });
        }
    }
}
