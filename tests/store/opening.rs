//! The start of a broker with a store on disks in memory, as the real one does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moormq::hooks::Chain;
use moormq::journal::{Floor, Journal, Reader, Settings, Sync};
use moormq::message::Message;
use moormq::persistence::{Durability, PersistenceSetup};
use moormq::records::{Image, Record, StoredSession, WallClock};
use moormq::session::StoreNumber;
use moormq::shard::Shard;
use moormq::sharding::{hasher, owner_of};

use super::disk::Disk;

/// A store: the disks of all shards, and what a broker keeps beside them.
#[derive(Default)]
pub struct Store {
    /// By the shard that the journal is of.
    pub disks: BTreeMap<u32, Disk>,
    floors: BTreeMap<u32, Floor>,
    /// How often it was opened.
    boot: u32,
}

/// What was read of a store.
pub struct Opened {
    pub sessions: Vec<Box<StoredSession>>,
    /// With their mountpoints.
    pub retained: Vec<(Arc<str>, Message)>,
    journals: Vec<Journal>,
    replaced: Vec<StoreNumber>,
    boot: u32,
    sync: Sync,
    wall: WallClock,
    seed: u64,
}

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
        let mut journals = Vec::new();
        let known = self.disks.keys().last().map_or(0, |last| *last as usize + 1).max(shards);
        for shard in 0..known {
            let settings = settings_of(settings, shard as u32);
            let disk = self.disk(shard);
            disk.sync_and_forget();
            let files = disk.files.iter().map(|(id, file)| (*id, file)).collect();
            let mut reader = Reader::new(settings.identity, files);
            while let Some(record) = reader.next() {
                image.apply(&Record::decode(record.kind, record.body).expect("it was written as it should"));
            }
            let (recovered, _) = reader.finish();
            if shard < shards {
                let above = self.floors.get(&(shard as u32)).copied().unwrap_or_default();
                let settings = settings.check().expect("journals can work with them");
                let journal = Journal::new(settings, recovered.above(above), self.boot.into()).expect("it is its own");
                self.floors.insert(shard as u32, journal.floor());
                journals.push(journal);
            }
        }
        let mut contents = image.finish();
        let replaced = contents.displaced().to_vec();
        let sessions = contents.sessions().collect();
        let retained = contents.into_retained().collect();
        Opened { sessions, retained, journals, replaced, boot: self.boot, sync: settings.sync, wall, seed }
    }
}

impl Opened {
    /// Gives the shards what was read, and has them store from here on. `clock` gives the time since the start.
    pub fn restore<C: Chain>(self, shards: &mut [Shard<C>], clock: impl Fn() -> Duration + Clone + 'static) {
        let Opened { sessions, retained, journals, replaced, boot, sync, wall, seed } = self;
        for stored in sessions {
            let (was_online, number) = (stored.offline.is_none(), stored.number);
            let shard = owner_of(&stored.client.subscriber, shards.len(), seed);
            let mut session = stored.into_session(0, 0, wall);
            session.stored = Some(number);
            shards[shard].restore(session, was_online);
        }
        for (mountpoint, message) in &retained {
            shards.iter_mut().for_each(|shard| shard.restore_retained(mountpoint, message));
        }
        let durability = if sync == Sync::Never { Durability::Flushed } else { Durability::Fsynced };
        let count = shards.len();
        for (at, (shard, journal)) in shards.iter_mut().zip(journals).enumerate() {
            let is_own = |number: &&StoreNumber| usize::from(number.shard()) % count == at;
            let replaced = replaced.iter().filter(is_own).copied().collect();
            let clock = Box::new(clock.clone());
            shard.persist(PersistenceSetup { journal, boot, sync, durability, clock, wall, replaced });
        }
    }
}
