//! All that is read of a store, and what was found on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::archive::{Archive, ArchiveError, ArchiveKey, Span};
use crate::journal::{self, Finding, Mark};
use crate::records::{BadRecord, Contents, Image, WallClock, WallTime, read_page, summarize};
use crate::session::{Key, OutgoingMessage, StoreNumber, StoredPage};
use crate::sharding::hasher;
use crate::storage::archive::{ArchiveFile, DamagedPage, find_pages, read_messages};
use crate::storage::{JournalReading, ReadOnlyStore, StorageError};
use crate::time::Time;

/// How many bad records of a journal are listed.
pub const MOST_BAD: usize = 1000;

/// What was read of a store.
pub struct StoreView {
    /// By shard.
    pub journals: Vec<JournalView>,
    /// What all journals say together.
    pub contents: Contents,
    /// The clock that times in `contents` go by: milliseconds since 1970 are what they count.
    pub clock: WallClock,
    /// When it was read.
    pub read_at: WallTime,
    /// What was read of the archive, if there is one.
    pub archive: Option<ArchiveView>,
}

/// The archive of a store.
pub struct ArchiveView {
    file: ArchiveFile,
    /// The pages that it has, with the numbers that they are under.
    pub(super) pages: Vec<(StoreNumber, StoredPage)>,
    /// What of these is damaged. Of those whose summaries are whole that is known when they were all [read](Self::check).
    pub damaged: Vec<DamagedPage>,
    /// How many bytes of keys and values it says that it has.
    pub bytes: u64,
    /// How many it takes on disk.
    pub on_disk: u64,
    /// What else is wrong with it.
    pub problems: Vec<String>,
    /// How many pages have no summary, and so are never read: a crash may leave some.
    pub without_summary: u64,
}

/// What was read of the journal of a shard.
pub struct JournalView {
    /// The shard.
    pub shard: u32,
    /// The length of each of its files, in bytes.
    pub segments: Vec<u64>,
    /// How many of them have something that counts.
    pub live: usize,
    /// How many records there are.
    pub records: u64,
    /// The length of the largest body of one, in bytes.
    pub largest_record: usize,
    /// What was found besides records.
    pub findings: Vec<Finding>,
    /// Records that cannot be read, [`MOST_BAD`] at most.
    pub bad: Vec<BadRecordAt>,
    /// How many more of them there are.
    pub further_bad: u64,
}

/// A record that cannot be read, though the commit that it is in is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecordAt {
    /// Its commit.
    pub commit: Mark,
    /// What is wrong with it.
    pub error: BadRecord,
}

/// The clock by which [`Time`] is what [`WallTime`] is, so that nothing that was stored is moved or cut off.
pub(super) fn calendar() -> (WallClock, WallTime) {
    let now = WallTime::from_system(SystemTime::now());
    (WallClock::new(Time::from_millis(now.as_millis()), now), now)
}

impl StoreView {
    /// Reads all of `store`.
    ///
    /// # Errors
    ///
    /// One of its files may not be read, or another process writes it.
    pub fn read(store: &ReadOnlyStore) -> Result<Self, StorageError> {
        let (clock, read_at) = calendar();
        let shards = store.shards().last().map_or(0, |last| last + 1);
        let mut readings = (0..shards).map(|shard| store.read(shard)).collect::<Result<Vec<_>, _>>()?;
        let mut readers: Vec<_> = readings.iter_mut().map(JournalReading::reader).collect();
        let mut seen: Vec<Seen> = std::iter::repeat_with(Seen::default).take(readers.len()).collect();
        let mut image = Image::new(clock, hasher(store.facts().slot_seed));
        let of_archive = |error: ArchiveError| StorageError::new(store.path(), error.to_string());
        let archive = store.archive().map_err(of_archive)?;
        let archive = archive.map(|archive| ArchiveView::read(archive, clock)).transpose().map_err(of_archive)?;
        if let Some(archive) = &archive {
            archive.pages.iter().for_each(|(id, page)| image.page(*id, page.clone()));
        }
        image.read_telling(&mut readers, store.facts().first_boot, |shard, record, error| {
            seen[shard].take(record, error);
        });
        let of = |((shard, reading), seen): ((u32, JournalReading), Seen)| journal(store, shard, reading, seen);
        let journals = (0..).zip(readings).zip(seen).map(of).collect::<Result<_, _>>()?;
        Ok(StoreView { journals, contents: image.finish(), clock, read_at, archive })
    }

    /// The length of the largest body of a record, in bytes.
    pub fn largest_record(&self) -> usize {
        self.journals.iter().map(|journal| journal.largest_record).max().unwrap_or(0)
    }
}

impl ArchiveView {
    fn read(mut file: ArchiveFile, clock: WallClock) -> Result<Self, ArchiveError> {
        let mut pages = Vec::new();
        let damaged = find_pages(&mut file, clock, |id, page| pages.push((id, page)))?;
        let (bytes, on_disk) = (file.bytes(), file.bytes_on_disk());
        Ok(ArchiveView { file, pages, damaged, bytes, on_disk, problems: Vec::new(), without_summary: 0 })
    }

    /// Reads all values, too, and adds to [`damaged`](Self::damaged) the pages that are lost, and to [`problems`](Self::problems) what else is wrong.
    ///
    /// # Errors
    ///
    /// The archive cannot be read.
    pub fn check(&mut self, clock: WallClock) -> Result<(), ArchiveError> {
        let ArchiveView { file, pages, damaged, bytes, problems, without_summary, .. } = self;
        let place = |(id, page): &(StoreNumber, StoredPage)| (*id, page.keys.first());
        let mut missing: BTreeMap<_, &StoredPage> = pages.iter().map(|page| (place(page), &page.1)).collect();
        let (mut counted, mut is_sound) = (0, true);
        let told: BTreeSet<_> = damaged.iter().map(|page| (page.pages_id, page.first)).collect();
        for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
            file.scan(&span, &mut |(key, value)| {
                match &value {
                    Ok(value) => counted += ArchiveFile::size(key, value),
                    Err(_) => is_sound = false,
                }
                let ArchiveKey::Page(pages_id, first) = key else { return ControlFlow::Continue(()) };
                let summary = missing.remove(&(pages_id, first));
                *without_summary += u64::from(summary.is_none() && !told.contains(&(pages_id, first)));
                let read = value.map_err(|error| error.to_string());
                let read =
                    read.and_then(|value| read_page(pages_id, first, value, clock).map_err(|error| error.to_string()));
                match (read, summary) {
                    (Ok(messages), Some(summary)) => {
                        let is_it = summarize(pages_id, &messages).is_some_and(|(page, _)| page.keys == summary.keys);
                        let what = || format!("{key:?} has other messages than its summary says");
                        problems.extend((!is_it).then(what));
                    }
                    (Err(problem), Some(_)) => {
                        damaged.push(DamagedPage { pages_id, first, problem, summary: None });
                    }
                    (_, None) => {}
                }
                ControlFlow::Continue(())
            })?;
        }
        for (pages_id, first) in missing.into_keys().filter(|place| !told.contains(place)) {
            let problem = format!("{:?} is not there", ArchiveKey::Page(pages_id, first));
            damaged.push(DamagedPage { pages_id, first, problem, summary: None });
        }
        if is_sound && counted != *bytes {
            problems.push(format!("it says that it has {bytes} bytes of keys and values, and it has {counted}"));
        }
        Ok(())
    }

    /// The messages of a page; or why it is lost.
    pub(super) fn page(
        &mut self,
        id: StoreNumber,
        first: Key,
        clock: WallClock,
    ) -> Result<Result<Vec<OutgoingMessage>, String>, ArchiveError> {
        read_messages(&mut self.file, id, first, clock)
    }
}

/// What is seen of the records of a journal as they are read.
#[derive(Default)]
struct Seen {
    records: u64,
    largest: usize,
    bad: Vec<BadRecordAt>,
    further_bad: u64,
}

impl Seen {
    fn take(&mut self, record: &journal::Record<'_>, error: Option<BadRecord>) {
        self.records += 1;
        self.largest = self.largest.max(record.body.len());
        match error {
            Some(error) if self.bad.len() < MOST_BAD => self.bad.push(BadRecordAt { commit: record.mark, error }),
            Some(_) => self.further_bad += 1,
            None => {}
        }
    }
}

fn journal(
    store: &ReadOnlyStore,
    shard: u32,
    reading: JournalReading,
    seen: Seen,
) -> Result<JournalView, StorageError> {
    let recovery = reading.finish();
    let Seen { records, largest, bad, further_bad } = seen;
    Ok(JournalView {
        shard,
        segments: store.segment_bytes(shard)?,
        live: recovery.recovered.live(),
        records,
        largest_record: largest,
        findings: recovery.findings,
        bad,
        further_bad,
    })
}
