//! The store on disk: what a broker reads of it when it starts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::layout::StartError;
use crate::config::{Config, StoredDurability};
use crate::hooks::Chain;
use crate::journal::{BLOCK, Journal, Settings, Sync};
use crate::message::Message;
use crate::net::clock::Clock;
use crate::net::opening::Opening;
use crate::numbers::DecisionNumber;
use crate::persistence::{Durability, PersistenceSetup};
use crate::records::{Image, Record, Share, WallClock, WallTime};
use crate::shard::Shard;
use crate::sharding::hasher;
use crate::storage::{StorageError, StoreDirectory};

/// What a record may have beside the packet that it comes from: a session with its will, to whom a message goes.
const BESIDE_PACKET: usize = 256 << 10;
/// Commits of this length at least: many messages go into one.
const LEAST_FRAME: usize = 1 << 20;

/// A store that is open, and what was in it.
pub(super) struct Store {
    pub directory: StoreDirectory,
    /// How commits become durable.
    pub sync: Sync,
    /// By shard.
    pub parts: Vec<StorePart>,
    pub opening: Arc<Opening>,
}

/// What a shard goes on from.
pub(super) struct StorePart {
    boot: u32,
    sync: Sync,
    durability: Durability,
    wall: WallClock,
    journal: Journal,
    share: Share,
    last_decision: DecisionNumber,
    /// Of all shards: each takes those whose topics it owns.
    retained: Arc<[(Arc<str>, Message)]>,
}

impl Store {
    /// Opens the store at `path`, or makes one, for a broker of so many shards, and reads all that it has.
    pub fn open(path: &str, config: &Config, shards: usize, clock: Clock) -> Result<Self, StartError> {
        let (config, largest_packet) = (&config.storage, config.largest_packet());
        let began = Instant::now();
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut directory = StoreDirectory::open_or_create(Path::new(path), seconds).map_err(StartError::Storage)?;
        directory.notes().iter().for_each(|note| tracing::warn!("storage: {note}"));
        check_shards(&directory, shards)?;
        let boot = directory.begin_boot().map_err(StartError::Storage)?;
        let durability = durability(config.durability);
        let sync = match durability {
            Durability::Fsynced => directory.sync(),
            Durability::Flushed => Sync::Never,
        };
        let seed = directory.facts().slot_seed;
        let wall = WallClock::new(clock.now(), WallTime::from_system(now));
        let mut image = Image::new(wall, hasher(seed));
        let mut recovered = Vec::new();
        for shard in 0..shards as u32 {
            let recovery = directory.recover(shard, |record| match Record::decode(record.kind, record.body) {
                Ok(record) => image.apply(&record),
                Err(error) => tracing::error!(shard, "storage: {error}: it is left out"),
            });
            let recovery = recovery.map_err(StartError::Storage)?;
            recovery.findings.iter().for_each(|finding| tracing::warn!(shard, "storage: {finding}"));
            recovered.push(recovery.recovered);
        }
        let mut contents = image.finish();
        let counts = contents.counts();
        // A record has to fit into a commit: the largest packet, and to whom it goes.
        let frame_bytes = (largest_packet + BESIDE_PACKET).next_multiple_of(BLOCK).max(LEAST_FRAME);
        let (mut journals, mut floors) = (Vec::new(), BTreeMap::new());
        for (shard, recovered) in (0..).zip(recovered) {
            let settings = Settings {
                segment_bytes: config.segment_size as u64,
                frame_bytes,
                buffer_bytes: 4 * frame_bytes,
                segments: config.segments,
                commit_interval: config.commit_interval,
                sync,
                ..Settings::new(directory.facts().id, shard)
            };
            let settings = settings.check().map_err(|error| StartError::Resources(io::Error::other(error)))?;
            let journal = Journal::new(settings, recovered, u64::from(boot));
            let journal = journal.map_err(|error| StartError::Resources(io::Error::other(error)))?;
            floors.insert(shard, journal.floor());
            journals.push(journal);
        }
        directory.raise_floors(&floors).map_err(StartError::Storage)?;
        let last_decision = contents.last_decision();
        let shares = contents.shares(shards, seed);
        let retained: Arc<[_]> = contents.into_retained().collect();
        let parts = journals.into_iter().zip(shares).map(|(journal, share)| {
            let retained = Arc::clone(&retained);
            StorePart { boot, sync, durability, wall, journal, share, last_decision, retained }
        });
        let parts = parts.collect();
        tracing::info!(
            path = %directory.path().display(),
            sessions = counts.sessions,
            messages = counts.messages,
            retained = counts.retained,
            records = counts.records,
            milliseconds = began.elapsed().as_millis() as u64,
            "storage: read"
        );
        Ok(Store { directory, sync, parts, opening: Arc::new(Opening::of(shards)) })
    }

    /// The seed of the hash from subscriber id to slot.
    pub fn seed(&self) -> u64 {
        self.directory.facts().slot_seed
    }
}

impl StorePart {
    /// Gives a shard what was stored, and has it store from here on.
    pub fn restore<C: Chain>(self, shard: &mut Shard<C>, clock: Clock) {
        let StorePart { boot, sync, durability, wall, journal, share, last_decision, retained } = self;
        let Share { sessions, displaced, undecided } = share;
        for stored in sessions {
            let was_online = stored.offline.is_none();
            shard.restore(stored.into_session(0, 0, wall), was_online);
        }
        for (mountpoint, message) in &*retained {
            shard.restore_retained(mountpoint, message);
        }
        let clock = Box::new(move || -> Duration { clock.exact() });
        shard.persist(PersistenceSetup {
            journal,
            boot,
            sync,
            durability,
            clock,
            wall,
            displaced,
            undecided,
            last_decision,
        });
    }
}

/// Of a store that others have written, each shard goes on with its own journal.
fn check_shards(directory: &StoreDirectory, shards: usize) -> Result<(), StartError> {
    let written =
        directory.journal_files().map_err(StartError::Storage)?.journals.keys().next_back().map(|last| last + 1);
    match written {
        Some(written) if written as usize != shards => {
            let problem = format!(
                "was written by a broker with {written} shards, and cannot be read by one with {shards} yet: set shards = {written}"
            );
            Err(StartError::Storage(StorageError::new(directory.path(), problem)))
        }
        _ => Ok(()),
    }
}

fn durability(config: StoredDurability) -> Durability {
    match config {
        StoredDurability::Fsynced => Durability::Fsynced,
        StoredDurability::Flushed => Durability::Flushed,
    }
}
