//! The store on disk: what a broker reads of it when it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::layout::StartError;
use crate::archive::{self, Archive, ArchiveError, Limits};
#[cfg(not(feature = "archive"))]
use crate::archive::{MemoryArchive, Trouble};
use crate::client::log_client;
use crate::config::{ArchiveConfig, Config, StorageConfig, StoredDurability};
use crate::hooks::Chain;
#[cfg(not(feature = "archive"))]
use crate::journal::StoreId;
use crate::journal::{BLOCK, Journal, MOST_SEGMENTS, Recovered, Settings, Sync};
use crate::message::Message;
use crate::net::clock::Clock;
use crate::net::memory::max_memory;
use crate::net::opening::Opening;
use crate::persistence::{Durability, Paging, PersistenceSetup};
use crate::records::{BadRecord, Counts, Image, Part, Share, StoredSession, WallClock, WallTime};
use crate::session::{StoreNumber, StoredPage};
use crate::shard::Shard;
use crate::sharding::hasher;
#[cfg(feature = "archive")]
pub(super) use crate::storage::archive::copy_archive;
use crate::storage::archive::{ArchiveControl, ArchiveDoor, ArchiveThread, DamagedPage, find_pages, mend_pages};
#[cfg(feature = "archive")]
use crate::storage::archive::{ArchiveFile, ArchiveSettings};
use crate::storage::{JournalReading, ReadOnlyStore, Recovery, StorageError, StoreDirectory};
use crate::threads;

/// What a record may have beside the packet that it comes from: a session with its will, to whom a message goes.
const BESIDE_PACKET: usize = 256 << 10;
/// What a message for a session and a session take in a journal, about, beside what they are.
const BESIDE_MESSAGE: usize = 64;
const OF_SESSION: usize = 1024;
/// A shard gathers so many bytes of queues at least before it moves them to the archive.
const LEAST_GATHERED: usize = 1 << 20;
/// Commits of this length at least: many messages go into one.
const LEAST_FRAME: usize = 1 << 20;

/// A store that is open, and what was in it.
pub(super) struct Store {
    pub directory: StoreDirectory,
    /// How commits become durable.
    pub sync: Sync,
    /// How many bytes of the disk are left free.
    pub reserve: u64,
    /// By shard.
    parts: Vec<StorePart>,
    opening: Arc<Opening>,
    /// The archive, before its thread is started, and how much of a shard may be under way to it.
    archive: Option<OpenArchive>,
    paging: Paging,
    /// If each shard writes anew what it has: the journals of shards that do not exist any more.
    vanished: Option<Vec<u32>>,
}

/// What is to be done when all shards have written anew what belongs to them: they are others than before, or sessions had moved.
pub(super) struct Renewal {
    directory: StoreDirectory,
    vanished: Vec<u32>,
}

impl Renewal {
    /// Nothing counts any more that was written before.
    pub fn finish(mut self) -> Result<(), StorageError> {
        self.directory.forget_earlier_boots()?;
        self.vanished.iter().try_for_each(|shard| self.directory.remove_journal(*shard))
    }
}

/// What a shard goes on from.
pub(super) struct StorePart {
    boot: u32,
    sync: Sync,
    durability: Durability,
    wall: WallClock,
    journal: Journal,
    paging: Option<Paging>,
    share: Share,
    /// Of all shards: each takes those whose topics it owns.
    retained: Arc<[(Arc<str>, Message)]>,
}

impl Store {
    /// Opens the store at `path`, or makes one, for a broker of so many shards, and reads all that it has.
    pub fn open(path: &str, config: &Config, shards: usize, clock: Clock) -> Result<Self, StartError> {
        let durability = most_durable(config);
        // In memory messages take some times as much, and publishers are held when it is nearly full.
        let most_gathered = max_memory(&config.limits).get().map_or(usize::MAX, |bytes| bytes / 8);
        let (config, largest_packet) = (&config.storage, config.largest_packet());
        let began = Instant::now();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut directory = StoreDirectory::open_or_create(Path::new(path), seconds).map_err(StartError::Storage)?;
        directory.notes().iter().for_each(|note| tracing::warn!("storage: {note}"));
        let boot = directory.begin_boot().map_err(StartError::Storage)?;
        // Where hooks alone ask for more, what is written goes through the kernel's memory nevertheless.
        let sync = match durability {
            Durability::Fsynced => directory.sync(),
            Durability::Flushed => Sync::Linked,
        };
        let seed = directory.facts().slot_seed;
        // Opening may have waited for a lock: both times are those of this moment.
        let wall = WallClock::new(clock.now(), WallTime::from_system(SystemTime::now()));
        let mut image = Image::new(wall, hasher(seed));
        let mut archive = open_archive(&mut directory, &config.archive)?;
        let of_archive =
            |error: ArchiveError| StartError::Storage(StorageError::new(directory.path(), error.to_string()));
        // What there is of pages is told before any journal is read.
        let damaged = archive.as_mut().map(|archive| find_pages(archive, wall, |id, page| image.page(id, page)));
        let damaged = damaged.transpose().map_err(of_archive)?.unwrap_or_default();
        let recovered = read(&directory, shards, &mut image)?;
        let vanished: Vec<u32> = (shards as u32..recovered.len() as u32).collect();
        let mut contents = image.finish();
        if let Some(archive) = archive.as_mut().filter(|_| !damaged.is_empty()) {
            tell(&damaged, contents.left());
            mend_pages(archive, &damaged).map_err(of_archive)?;
        }
        let counts = contents.counts();
        let renews = !vanished.is_empty() || !contents.are_at_home(shards, seed);
        // A record has to fit into a commit: the largest packet, and to whom it goes.
        let frame_bytes = (largest_packet + BESIDE_PACKET).next_multiple_of(BLOCK).max(LEAST_FRAME);
        let limits = Limits { bytes: Limits::default().bytes.max(4 * frame_bytes), ..Limits::default() };
        let memory = (config.archive.gather.min(most_gathered) / shards).max(LEAST_GATHERED);
        let paging = Paging { limits, memory, ..Paging::default() };
        let (mut journals, mut floors) = (Vec::new(), BTreeMap::new());
        for (shard, recovered) in (0..shards as u32).zip(recovered) {
            let settings = Settings {
                segment_bytes: config.segment_size as u64,
                frame_bytes,
                buffer_bytes: 4 * frame_bytes,
                segments: config.segments,
                most_segments: most_segments(config),
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
        let shares = contents.shares(shards, seed, renews);
        if renews {
            let segments = check_room(&directory, &shares, counts, config)?;
            journals.iter_mut().for_each(|journal| journal.want(segments));
        }
        let retained: Arc<[_]> = contents.into_retained().collect();
        let parts = journals.into_iter().zip(shares).map(|(journal, share)| {
            let retained = Arc::clone(&retained);
            let paging = archive.is_some().then_some(paging);
            StorePart { boot, sync, durability, wall, journal, paging, share, retained }
        });
        let parts = parts.collect();
        tracing::info!(
            path = %directory.path().display(),
            sessions = counts.sessions,
            messages = counts.messages,
            retained = counts.retained,
            records = counts.records,
            renews,
            milliseconds = began.elapsed().as_millis() as u64,
            "storage: read"
        );
        let vanished = renews.then_some(vanished);
        let reserve = config.archive.min_free as u64;
        Ok(Store { directory, sync, reserve, parts, opening: Arc::new(Opening::of(shards)), archive, paging, vanished })
    }

    /// Starts the thread of the archive, if there is one, for shards that take their answers so; and gives the doors to it.
    pub fn start_archive(
        &mut self,
        answers: Vec<Box<dyn Fn(archive::Answer) + Send>>,
    ) -> io::Result<Option<(ArchiveThread, ArchiveDoor, OpenControl)>> {
        self.archive.take().map(|archive| ArchiveThread::start(archive, self.paging.limits, answers)).transpose()
    }

    /// Its parts, how its start goes, and what is to be done when all shards have written anew what belongs to them, if they do.
    pub fn into_parts(self) -> (Vec<StorePart>, Arc<Opening>, Option<Renewal>) {
        let Store { directory, parts, opening, vanished, .. } = self;
        (parts, opening, vanished.map(|vanished| Renewal { directory, vanished }))
    }

    /// The seed of the hash from subscriber id to slot.
    pub fn seed(&self) -> u64 {
        self.directory.facts().slot_seed
    }
}

impl StorePart {
    /// Gives a shard what was stored, and has it store from here on.
    pub fn restore<C: Chain>(self, shard: &mut Shard<C>, clock: Clock) {
        let StorePart { boot, sync, durability, wall, journal, paging, share, retained } = self;
        let Share { sessions, beginning } = share;
        sessions.into_iter().for_each(|stored| shard.restore(stored, wall));
        for (mountpoint, message) in &*retained {
            shard.restore_retained(mountpoint, message);
        }
        let clock = Box::new(move || -> Duration { clock.exact() });
        shard.persist(PersistenceSetup { journal, paging, boot, sync, durability, clock, wall, beginning });
    }
}

#[cfg(feature = "archive")]
pub(super) type OpenArchive = ArchiveFile;
#[cfg(not(feature = "archive"))]
pub(super) type OpenArchive = MemoryArchive;

/// This program has none that could be copied.
#[cfg(not(feature = "archive"))]
pub(super) fn copy_archive(
    _: &MemoryArchive,
    path: &Path,
    _: StoreId,
    _: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, ArchiveError> {
    Err(ArchiveError::new(Trouble::Failed, format!("archive {} cannot be written by this program", path.display())))
}

/// The door of operators to its thread.
pub(super) type OpenControl = ArchiveControl<<OpenArchive as Archive>::Snapshot>;

/// Opens the archive of a store, or makes it.
#[cfg(feature = "archive")]
fn open_archive(directory: &mut StoreDirectory, config: &ArchiveConfig) -> Result<Option<OpenArchive>, StartError> {
    let (path, store, place) = (directory.archive(), directory.facts().id, directory.path().to_owned());
    let failed = |error: ArchiveError| StartError::Storage(StorageError::new(&place, error.to_string()));
    let is_missing = directory.facts().has_archive && !path.exists();
    if config.enabled {
        if is_missing {
            return Err(StartError::Storage(StorageError::new(&place, MISSING)));
        }
        let most = config.max_size.get().map_or(u64::MAX, |bytes| bytes as u64);
        let settings = ArchiveSettings { cache: config.cache_size, most, reserve: config.min_free as u64 };
        let archive = ArchiveFile::open(&path, store, settings).map_err(failed)?;
        directory.set_archive(true).map_err(StartError::Storage)?;
        return Ok(Some(archive));
    }
    if is_missing {
        tracing::warn!("storage: the archive of {} is missing: what waited in it is lost", place.display());
        directory.set_archive(false).map_err(StartError::Storage)?;
    }
    if path.exists()
        && ArchiveFile::look_at(&path, store).and_then(|mut archive| archive.has_values()).map_err(failed)?
    {
        return Err(StartError::Storage(StorageError::new(&place, UNWANTED)));
    }
    Ok(None)
}

/// Of an archive that has something.
#[cfg(feature = "archive")]
const UNWANTED: &str = "has messages in its archive, and storage.archive.enabled is false: set it to true, until `moormq store stat` says that there are \
                        no pages in the archive";
/// Of one that is not there, and was.
#[cfg(feature = "archive")]
const MISSING: &str = "has lost its archive.redb, and with it messages that waited: restore it from a backup. To go on without them, start once \
                       with storage.archive.enabled = false";
/// Of any.
#[cfg(not(feature = "archive"))]
const UNWANTED: &str =
    "has an archive, which this program was built without: messages are in it. Use one with the feature `archive`";

/// Why a start with these settings would not open a store because of its archive, if that is so.
#[cfg(feature = "archive")]
pub(super) fn archive_problem(store: &ReadOnlyStore, config: &ArchiveConfig) -> Option<StorageError> {
    if store.lacks_archive() && config.enabled {
        return Some(StorageError::new(store.path(), MISSING));
    }
    let is_wanted = |mut archive: ArchiveFile| Ok(config.enabled || !archive.has_values()?);
    let problem = match store.archive().and_then(|archive| archive.map_or(Ok(true), is_wanted)) {
        Ok(true) => return None,
        Ok(false) => UNWANTED.to_owned(),
        Err(error) => error.to_string(),
    };
    Some(StorageError::new(store.path(), problem))
}

/// Likewise.
#[cfg(not(feature = "archive"))]
pub(super) fn archive_problem(store: &ReadOnlyStore, _: &ArchiveConfig) -> Option<StorageError> {
    store.has_archive().then(|| StorageError::new(store.path(), UNWANTED))
}

/// This program has none.
#[cfg(not(feature = "archive"))]
fn open_archive(directory: &mut StoreDirectory, _: &ArchiveConfig) -> Result<Option<OpenArchive>, StartError> {
    match directory.archive().exists() {
        true => Err(StartError::Storage(StorageError::new(directory.path(), UNWANTED))),
        false => Ok(None),
    }
}

/// What is damaged of pages, and whose they are.
fn tell(damaged: &[DamagedPage], sessions: &[Box<StoredSession>]) {
    let ids: BTreeSet<StoreNumber> = damaged.iter().map(|page| page.pages_id).collect();
    let with_pages = sessions.iter().filter(|session| ids.contains(&session.pages_id()));
    let owners: BTreeMap<_, _> = with_pages.map(|session| (session.pages_id(), session)).collect();
    for DamagedPage { pages_id, first, problem, summary } in damaged {
        let owner = owners.get(pages_id);
        // What no session has is deleted, damaged or not.
        let Some(owner) = owner else { continue };
        match summary {
            Some(_) => {
                let is_it = |page: &&StoredPage| page.keys.first() == *first;
                let messages = owner.pages.iter().find(is_it).map_or(0, StoredPage::left);
                log_client!(
                    warn,
                    owner.client,
                    messages,
                    "storage: {problem}; the messages are all there: what says which they are is written anew"
                );
            }
            // It could be known from either of them alone.
            None => log_client!(
                error,
                owner.client,
                messages = "unknown",
                "storage: messages of its queue are lost with a page of the archive, but for those that are in the journal still: {problem}"
            ),
        }
    }
}

/// How many segments a journal may have.
fn most_segments(config: &StorageConfig) -> u32 {
    config.max_segments.get().map_or(MOST_SEGMENTS, |most| config.segments.max(most as u32))
}

/// What each shard has is to be written anew beside what there is, in one journal of a length that may be. Gives that, in segments.
fn check_room(
    directory: &StoreDirectory,
    shares: &[Share],
    counts: Counts,
    config: &StorageConfig,
) -> Result<usize, StartError> {
    let of_session = |session: &StoredSession| session.bytes() + BESIDE_MESSAGE * session.messages().len() + OF_SESSION;
    let retained = counts.retained_bytes / shares.len().max(1);
    let needed = shares.iter().map(|share| retained + share.sessions.iter().map(of_session).sum::<usize>()).max();
    let (needed, segment) = (needed.unwrap_or(0), config.segment_size);
    let segments = needed / (segment / 8 * 7) + 2;
    if segments <= most_segments(config) as usize {
        return Ok(segments);
    }
    let problem = format!(
        "was written by other shards, and each shard has to write anew what it has now, {} MiB at most: set storage.max_segments to {segments} or more, or storage.segment_size higher",
        needed >> 20
    );
    Err(StartError::Storage(StorageError::new(directory.path(), problem)))
}

/// Reads all journals. Gives what each journal goes on from, those of shards included that do not exist any more.
fn read(directory: &StoreDirectory, shards: usize, image: &mut Image) -> Result<Vec<Recovered>, StartError> {
    let files = directory.journal_files().map_err(StartError::Storage)?;
    let known = files.journals.keys().next_back().map_or(0, |last| *last as usize + 1);
    let journals = 0..known.max(shards) as u32;
    let at_once = read_at_once(directory, journals.clone(), shards, image).map_err(StartError::Storage)?;
    let recoveries = match at_once {
        Some(recoveries) => recoveries,
        None => read_in_turn(directory, journals, image).map_err(StartError::Storage)?,
    };
    let finish = |(shard, recovery): (u32, Recovery)| {
        recovery.findings.iter().for_each(|finding| tracing::warn!(shard, "storage: {finding}"));
        recovery.recovered
    };
    Ok((0..).zip(recoveries).map(finish).collect())
}

/// Reads each journal on a thread of its own. None if what they say depends on which is read first, or there is no thread to be had: nothing was taken in.
fn read_at_once(
    directory: &StoreDirectory,
    journals: Range<u32>,
    shards: usize,
    image: &mut Image,
) -> Result<Option<Vec<Recovery>>, StorageError> {
    let (first, seed) = (directory.facts().first_boot, directory.facts().slot_seed);
    let parts = journals.map(|journal| (journal, image.part(journal, shards, seed)));
    let read = threads::at_once("journal", parts, |(journal, mut part): (u32, Part)| {
        let mut reading = directory.read(journal)?;
        part.read(reading.reader(), first);
        let recovery = part.is_apart().then(|| reading.finish());
        Ok((part, recovery))
    });
    let Ok(read) = read else { return Ok(None) };
    let (parts, recoveries): (_, Vec<_>) =
        read.into_iter().collect::<Result<Vec<_>, StorageError>>()?.into_iter().unzip();
    Ok(recoveries.into_iter().collect::<Option<_>>().filter(|_| image.put_together(parts, tell_bad)))
}

/// Reads one journal after the other, boot by boot: what a later boot has written counts, whichever shard it was.
fn read_in_turn(
    directory: &StoreDirectory,
    journals: Range<u32>,
    image: &mut Image,
) -> Result<Vec<Recovery>, StorageError> {
    let mut readings = journals.map(|journal| directory.read(journal)).collect::<Result<Vec<_>, _>>()?;
    let mut readers: Vec<_> = readings.iter_mut().map(JournalReading::reader).collect();
    image.read(&mut readers, directory.facts().first_boot, tell_bad);
    Ok(readings.into_iter().map(JournalReading::finish).collect())
}

fn tell_bad(shard: usize, error: BadRecord) {
    tracing::error!(shard, "storage: {error}: it is left out");
}

/// The most that anybody is promised by the configuration.
fn most_durable(config: &Config) -> Durability {
    let of_listeners = config.listeners.iter().map(|listener| config.durability_of(listener));
    let is_fsynced = |durability| durability == StoredDurability::Fsynced;
    match is_fsynced(config.storage.durability) || of_listeners.into_iter().any(is_fsynced) {
        true => Durability::Fsynced,
        false => Durability::Flushed,
    }
}
