//! The file of an archive: against a map, on disks that lose what was not synced, fail and are damaged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use redb::{BackendError, StorageBackend};

use super::*;
use crate::archive::{
    Answer, Archive, ArchiveError, ArchiveKey, Batch, Change, Desk, Limits, MemoryArchive, Orders, PAGE_BYTES, Read,
    Span, Trouble,
};
use crate::journal::StoreId;
use crate::session::{Key, StoreNumber};

const OWN: StoreId = StoreId([7; 16]);

fn settings() -> ArchiveSettings {
    ArchiveSettings { cache: 1 << 20, reserve: 0, ..ArchiveSettings::default() }
}

fn session(counter: u32) -> StoreNumber {
    StoreNumber::new(1, 0, counter)
}

fn page(counter: u32, first: u64) -> ArchiveKey<'static> {
    ArchiveKey::Page(session(counter), Key::new(first))
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("archive.redb");
    (directory, path)
}

fn opened(path: &Path) -> ArchiveFile {
    ArchiveFile::open(path, OWN, settings()).expect("it can be opened")
}

fn refused(path: &Path) -> ArchiveError {
    match ArchiveFile::open(path, OWN, settings()) {
        Ok(_) => panic!("it can be opened"),
        Err(error) => error,
    }
}

fn apply(archive: &mut impl Archive, fill: impl FnOnce(&mut Batch)) -> Result<(), ArchiveError> {
    let mut batch = Batch::new();
    fill(&mut batch);
    archive.apply(batch.changes())
}

fn opened_after(archive: ArchiveFile, path: &Path) -> ArchiveFile {
    drop(archive);
    opened(path)
}

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

fn all(archive: &mut impl Archive) -> Result<Values, ArchiveError> {
    let mut values = Values::new();
    for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
        let mut failed = None;
        archive.scan(&span, &mut |(key, value)| match value {
            Ok(value) => {
                values.insert(key.to_bytes(), value.to_vec());
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    Ok(values)
}

/// Random changes, and what they make of a map.
fn random_batch(random: &mut fastrand::Rng, longest: usize) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..random.usize(1..30) {
        let session = session(random.u32(..6));
        let first = Key::new(random.u64(..12));
        let filter = ["a", "a/b", "#", "$share/g/a"][random.usize(..4)];
        let key = match random.u32(..5) {
            0 => ArchiveKey::Session(session),
            1 => ArchiveKey::Subscription(session, filter),
            2 => ArchiveKey::Summary(session, first),
            3 => ArchiveKey::Retained { mountpoint: ["", "m"][random.usize(..2)], topic: filter },
            _ => ArchiveKey::Page(session, first),
        };
        match random.u32(..20) {
            0 => batch.delete_session(session),
            1 => batch.delete_all(Span::pages_from(session, first)),
            2..7 => batch.delete(key),
            _ => batch.put(key, vec![random.u8(..); random.usize(..longest)]),
        }
    }
    batch
}

fn change(values: &mut Values, changes: &[Change]) {
    for change in changes {
        match change {
            Change::Put(key, value) => drop(values.insert(key.to_vec(), value.to_vec())),
            Change::Delete(key) => drop(values.remove(&key[..])),
            Change::DeleteAll(span) => {
                values.retain(|key, _| &key[..] < span.start() || &key[..] >= span.end());
            }
        }
    }
}

#[test]
fn it_has_what_a_map_has_and_after_a_drop_what_was_persisted() {
    for seed in 0..6 {
        let (_directory, path) = temporary();
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut archive, mut memory) = (opened(&path), MemoryArchive::new());
        let (mut values, mut persisted) = (Values::new(), Values::new());
        for _ in 0..60 {
            let batch = random_batch(&mut random, if seed % 2 == 0 { 300 } else { 40_000 });
            archive.apply(batch.changes()).expect("it is applied");
            memory.apply(batch.changes()).expect("it is applied");
            change(&mut values, batch.changes());
            match random.u32(..8) {
                0 | 1 => {
                    archive.persist().expect("it is persisted");
                    memory.persist().expect("it is persisted");
                    persisted.clone_from(&values);
                }
                2 => {
                    drop(archive);
                    archive = opened(&path);
                    memory.crash(0);
                    values.clone_from(&persisted);
                }
                3 => {
                    let span = Span::pages(session(random.u32(..6)));
                    let most = random.usize(1..4);
                    let is_done = archive.delete_some(&span, most);
                    assert_eq!(is_done, memory.delete_some(&span, most), "seed {seed}");
                    values = all(&mut memory).expect("it can be read");
                }
                4 => {
                    let key = page(random.u32(..6), random.u64(..12));
                    let read = archive.read(key).expect("it can be read").map(Vec::from);
                    assert_eq!(read.as_ref(), values.get(&key.to_bytes()), "seed {seed}");
                }
                _ => {}
            }
            assert_eq!(all(&mut archive).expect("it can be read"), values, "seed {seed}");
            assert_eq!(all(&mut memory).expect("it can be read"), values, "seed {seed}");
            let bytes: usize = values.iter().map(|(key, value)| key.len() + value.len() + 4).sum();
            assert_eq!(archive.bytes(), bytes as u64, "seed {seed}");
        }
        assert_eq!(archive.verify(), Ok(true), "seed {seed}");
        assert_eq!(all(&mut archive).expect("it can be read"), values);
        archive.close().expect("it is closed");
        assert_eq!(all(&mut opened(&path)).expect("it can be read"), values);
    }
}

#[test]
fn a_look_ends_when_it_is_enough_and_goes_on_behind_a_key() {
    let (_directory, path) = temporary();
    let mut archive = opened(&path);
    apply(&mut archive, |batch| (0..10).for_each(|first| batch.put(page(1, first), vec![first as u8])))
        .expect("applied");
    let mut span = Span::pages(session(1));
    for round in 0..4 {
        let mut seen = Vec::new();
        let mut look = |(key, value): crate::archive::Found<'_>| {
            seen.push((key.to_bytes(), value.expect("it is sound")[0]));
            if seen.len() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        archive.scan(&span, &mut look).expect("it can be read");
        let expected: Vec<u8> = (3 * round..10.min(3 * round + 3)).collect();
        assert_eq!(seen.iter().map(|(_, value)| *value).collect::<Vec<_>>(), expected);
        let Some(last) = seen.last() else { continue };
        span = span.behind(ArchiveKey::from_bytes(&last.0).expect("a key"));
    }
}

#[test]
fn a_file_is_its_owners_alone_and_one_broker_uses_it() {
    let (_directory, path) = temporary();
    let archive = opened(&path);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let error = refused(&path);
    assert_eq!(error.trouble, Trouble::InUse);
    assert!(error.to_string().contains("another process uses it"), "{error}");
    drop(archive);
    opened(&path);
}

#[test]
fn a_file_of_another_store_or_of_another_kind_is_not_touched() {
    let (directory, path) = temporary();
    drop(opened(&path));
    let before = fs::read(&path).expect("it is there");
    let Err(error) = ArchiveFile::open(&path, StoreId([8; 16]), settings()) else { panic!("it can be opened") };
    assert!(error.trouble == Trouble::Foreign && error.to_string().contains("another store"), "{error}");
    for content in [&b""[..], b"something else", &[0; 8192], &before[..4096]] {
        fs::write(&path, content).expect("it can be written");
        let error = refused(&path);
        assert_eq!(error.trouble, Trouble::Damaged, "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert!(error.to_string().contains("backup"), "{error}");
        assert_eq!(fs::read(&path).expect("it is there"), content);
    }
    // It can be set aside, again and again, but not without end.
    let names: Vec<_> = (0..MOST_ASIDE)
        .map(|_| {
            fs::write(&path, b"bad").expect("it can be written");
            set_aside(&path).expect("there is a name")
        })
        .collect();
    assert_eq!(
        (&names[0], &names[1]),
        (&directory.path().join("archive.redb.bad"), &directory.path().join("archive.redb.bad-1"))
    );
    opened(&path);
    assert!(set_aside(&path).expect_err("there are too many").to_string().contains("remove them"));
    // A start that ended while the file was made leaves something.
    fs::remove_file(&path).expect("it is there");
    fs::write(directory.path().join("archive.redb.new"), b"half").expect("it can be written");
    opened(&path);
}

#[test]
fn another_version_is_told() {
    let (_directory, path) = temporary();
    drop(opened(&path));
    let database = redb::Database::open(&path).expect("it can be opened");
    let write = database.begin_write().expect("it can be written");
    let facts: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("facts");
    let version = 9_u32.to_le_bytes();
    write.open_table(facts).expect("a table").insert("version", &version[..]).expect("it is put");
    write.commit().expect("it is committed");
    drop(database);
    let error = refused(&path);
    assert!(error.trouble == Trouble::Foreign && error.to_string().contains("version 9"), "{error}");
}

#[test]
fn without_a_directory_or_the_right_to_it_there_is_none() {
    let (directory, path) = temporary();
    let error = refused(&directory.path().join("none").join("archive"));
    assert!(error.trouble == Trouble::Failed && error.to_string().contains("directory of the store"), "{error}");
    fs::create_dir(&path).expect("it is made");
    assert_eq!(refused(&path).trouble, Trouble::Failed);
}

#[test]
fn a_full_archive_or_disk_takes_deletions_only() {
    let (_directory, path) = temporary();
    let mut archive =
        ArchiveFile::open(&path, OWN, ArchiveSettings { most: 10_000, ..settings() }).expect("it is opened");
    archive.check_room(9000).expect("there is room");
    apply(&mut archive, |batch| batch.put(page(1, 1), vec![0; 9000])).expect("it is applied");
    let error = archive.check_room(2000).expect_err("there is none");
    assert!(error.trouble == Trouble::Full && error.to_string().contains("storage.archive.max_size"), "{error}");
    apply(&mut archive, |batch| batch.delete(page(1, 1))).expect("it is applied");
    archive.check_room(9000).expect("there is room again");
    archive.persist().expect("it is persisted");
    drop(archive);
    let mut archive =
        ArchiveFile::open(&path, OWN, ArchiveSettings { reserve: 1 << 60, ..settings() }).expect("it is opened");
    let error = archive.check_room(1).expect_err("there is none");
    assert!(error.trouble == Trouble::Full && error.to_string().contains("make room there"), "{error}");
}

#[test]
fn a_page_of_the_best_length_takes_32_kib() {
    let (_directory, path) = temporary();
    let mut archive = opened(&path);
    let before = archive.bytes_on_disk();
    apply(&mut archive, |batch| (0..256).for_each(|first| batch.put(page(1, first), vec![1; PAGE_BYTES])))
        .expect("applied");
    archive.persist().expect("it is persisted");
    let each = (archive.bytes_on_disk() - before) / 256;
    assert!((32 << 10..36 << 10).contains(&each), "{each} bytes");
}

#[test]
fn a_bad_bit_in_a_value_costs_that_value() {
    let (_directory, path) = temporary();
    let mut archive = opened(&path);
    apply(&mut archive, |batch| {
        (0..5).for_each(|first| batch.put(page(1, first), vec![0xa0 + first as u8; PAGE_BYTES]))
    })
    .expect("it is applied");
    archive.persist().expect("it is persisted");
    drop(archive);
    let bytes = fs::read(&path).expect("it is there");
    let at = bytes.windows(100).position(|window| window == [0xa2; 100]).expect("the value is there") as u64;
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("it is there")
        .write_all_at(&[0], at + 5)
        .expect("it is written");
    let mut archive = opened(&path);
    let error = archive.read(page(1, 2)).expect_err("it is damaged");
    assert!(error.trouble == Trouble::Lost && error.to_string().contains("Page("), "{error}");
    let mut sound = Vec::new();
    let mut look = |(_, value): crate::archive::Found<'_>| {
        sound.push(value.is_ok());
        ControlFlow::Continue(())
    };
    archive.scan(&Span::all_pages(), &mut look).expect("it can be read");
    assert_eq!(sound, [true, true, false, true, true]);
    // The library sees it, too.
    let verified = opened_after(archive, &path).verify();
    assert!(!matches!(verified, Ok(true)), "{verified:?}");
    let mut archive = opened(&path);
    // It can be replaced.
    apply(&mut archive, |batch| batch.put(page(1, 2), vec![1])).expect("it is applied");
    assert!(archive.read(page(1, 2)).expect("it can be read").is_some());
}

/// A file in memory, on a disk that may lose each block that was not synced since.
#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    /// What blocks had at the last sync, of those that were written since.
    before: BTreeMap<usize, Vec<u8>>,
    synced_length: usize,
    /// So many further calls of each kind are done, and all after that fail.
    writes: Option<u64>,
    syncs: Option<u64>,
    reads: Option<u64>,
    /// The file cannot be longer.
    longest: Option<u64>,
}

const BLOCK: usize = 512;

#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<Platter>>);

impl Platter {
    fn count_down(left: &mut Option<u64>) -> Result<(), BackendError> {
        match left {
            Some(0) => Err(io::Error::from_raw_os_error(libc::EIO).into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Keeps what is there, of the blocks of these bytes.
    fn keep(&mut self, from: usize, to: usize) {
        for block in from / BLOCK..to.div_ceil(BLOCK) {
            let (start, end) = (block * BLOCK, self.bytes.len().min((block + 1) * BLOCK));
            if start < end {
                self.before.entry(block).or_insert_with(|| self.bytes[start..end].to_vec());
            }
        }
    }

    /// The power fails: each block that was not synced is as it was, or as it was written.
    fn lose(&mut self, random: &mut fastrand::Rng) {
        for (block, before) in std::mem::take(&mut self.before) {
            let start = block * BLOCK;
            if random.bool() && start < self.bytes.len() {
                let end = self.bytes.len().min(start + before.len());
                self.bytes[start..end].copy_from_slice(&before[..end - start]);
            }
        }
        if self.bytes.len() > self.synced_length && random.bool() {
            self.bytes.truncate(self.synced_length);
        }
        (self.writes, self.syncs, self.reads, self.longest) = (None, None, None, None);
        self.synced_length = self.bytes.len();
    }
}

impl Disk {
    fn platter(&self) -> std::sync::MutexGuard<'_, Platter> {
        self.0.lock().expect("no panic while it is held")
    }

    fn create(&self) -> ArchiveFile {
        ArchiveFile::create_in(self.clone(), Path::new("disk"), OWN, settings()).expect("it is made")
    }

    fn open(&self) -> Result<ArchiveFile, ArchiveError> {
        ArchiveFile::open_in(self.clone(), Path::new("disk"), OWN, settings())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.platter().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let mut platter = self.platter();
        Platter::count_down(&mut platter.reads)?;
        let from = platter.bytes.get(offset as usize..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        let mut platter = self.platter();
        if platter.longest.is_some_and(|longest| length > longest) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let now = platter.bytes.len();
        platter.keep((length as usize).min(now), now);
        platter.bytes.resize(length as usize, 0);
        platter.synced_length = platter.synced_length.min(length as usize);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.platter();
        Platter::count_down(&mut platter.syncs)?;
        platter.before.clear();
        platter.synced_length = platter.bytes.len();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut platter = self.platter();
        Platter::count_down(&mut platter.writes)?;
        let (from, to) = (offset as usize, offset as usize + data.len());
        platter.keep(from, to);
        platter.bytes.get_mut(from..to).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}

#[test]
fn after_a_loss_of_power_there_is_what_was_persisted_and_all_or_nothing_of_what_was_being() {
    let mut taken = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Disk::default();
        let mut archive = disk.create();
        let (mut values, mut persisted) = (Values::new(), Values::new());
        for _ in 0..12 {
            // Something fails at some time, and then the power does.
            match random.u32(..3) {
                0 => disk.platter().writes = Some(random.u64(..40)),
                1 => disk.platter().syncs = Some(random.u64(..6)),
                _ => {}
            }
            let mut has_failed = false;
            for _ in 0..random.usize(1..6) {
                let batch = random_batch(&mut random, 6000);
                has_failed = archive.apply(batch.changes()).is_err();
                if has_failed {
                    break;
                }
                change(&mut values, batch.changes());
                if random.u32(..3) == 0 {
                    has_failed = archive.persist().is_err();
                    if has_failed {
                        break;
                    }
                    persisted.clone_from(&values);
                }
            }
            if has_failed {
                assert_eq!(archive.persist().expect_err("it has failed").trouble, Trouble::Failed);
                assert_eq!(archive.apply(&[]).expect_err("it has failed").trouble, Trouble::Failed);
                assert_eq!(archive.check_room(1).expect_err("it has failed").trouble, Trouble::Failed);
            }
            // A process that is killed closes nothing.
            disk.platter().writes = Some(0);
            drop(archive);
            disk.platter().lose(&mut random);
            archive = disk.open().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let found = all(&mut archive).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert!(found == persisted || (has_failed && found == values), "seed {seed}");
            taken += usize::from(found != persisted);
            (values, persisted) = (found.clone(), found);
        }
    }
    assert!(taken > 0, "no commit was both failed and there");
}

#[test]
fn a_disk_that_becomes_full_ends_writing_and_loses_nothing_that_was_persisted() {
    let disk = Disk::default();
    let mut archive = disk.create();
    apply(&mut archive, |batch| batch.put(page(1, 1), vec![1; PAGE_BYTES])).expect("it is applied");
    archive.persist().expect("it is persisted");
    let longest = disk.platter().bytes.len() as u64;
    disk.platter().longest = Some(longest);
    let fill = |archive: &mut ArchiveFile| {
        for first in 2..1000 {
            apply(archive, |batch| batch.put(page(1, first), vec![2; PAGE_BYTES]))?;
            archive.persist()?;
        }
        Ok(())
    };
    let error: ArchiveError = fill(&mut archive).expect_err("the disk is full");
    assert!(error.trouble == Trouble::Failed && error.to_string().contains("Make room"), "{error}");
    let error = archive.persist().expect_err("it has failed");
    assert!(error.to_string().contains("start the broker again"), "{error}");
    drop(archive);
    disk.platter().longest = None;
    let mut archive = disk.open().expect("it can be opened");
    assert_eq!(archive.read(page(1, 1)).expect("it can be read").map(|value| value.len()), Some(PAGE_BYTES));
    fill(&mut archive).expect("there is room again");
}

/// The disk fails while a page is read: all shards are told, nothing is changed any more, and nothing is lost.
#[test]
fn a_page_that_cannot_be_read_is_there_still() {
    let disk = Disk::default();
    let mut archive = disk.create();
    apply(&mut archive, |batch| (0..50).for_each(|first| batch.put(page(1, first), vec![1; PAGE_BYTES])))
        .expect("it is applied");
    archive.persist().expect("it is persisted");
    drop(archive);
    let mut desk = Desk::new(disk.open().expect("it can be opened"), 2);
    let (mut orders, mut answers) = (Orders::new(0, Limits::default()), Vec::new());
    disk.platter().reads = Some(0);
    let read = Read::of(page(1, 49));
    desk.take(orders.read(1, read).expect("there is room"));
    let mut batch = Batch::new();
    batch.delete(page(1, 49));
    desk.take(orders.write(batch).expect("there is room").1);
    while desk.step(&mut |shard, answer| answers.push((shard, answer))) {}
    let [(0, Answer::Read { result: Err(why), .. }), (0, Answer::Failed(_)), (1, Answer::Failed(_))] = &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert!(why.trouble == Trouble::Failed && why.to_string().contains("disk cannot be read"), "{why}");
    drop(desk);
    disk.platter().reads = None;
    let mut archive = disk.open().expect("it can be opened");
    assert_eq!(archive.read(page(1, 49)).expect("it can be read").map(|value| value.len()), Some(PAGE_BYTES));
}

/// Whatever has become of the file: no panic, no loop, and what is read is what was put.
#[test]
fn damage_anywhere_is_an_error_or_costs_what_it_hits() {
    let disk = Disk::default();
    let mut archive = disk.create();
    let mut values = Values::new();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let batch = random_batch(&mut random, 9000);
        archive.apply(batch.changes()).expect("it is applied");
        change(&mut values, batch.changes());
        archive.persist().expect("it is persisted");
    }
    archive.close().expect("it is closed");
    let sound = disk.platter().bytes.clone();
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..300 {
        let mut bytes = sound.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len()) / BLOCK * BLOCK;
            let end = bytes.len().min(at + random.usize(1..2 * BLOCK));
            match random.u32(..3) {
                0 => bytes[at..end].fill(0),
                1 => bytes[at..end].iter_mut().for_each(|byte| *byte = random.u8(..)),
                _ => bytes[at] ^= 1 << random.u32(..8),
            }
        }
        *disk.platter() = Platter { synced_length: bytes.len(), bytes, ..Platter::default() };
        let Ok(mut archive) = disk.open() else {
            refused += 1;
            continue;
        };
        let mut found = Values::new();
        for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
            let _ = archive.scan(&span, &mut |(key, value)| {
                if let Ok(value) = value {
                    found.insert(key.to_bytes(), value.to_vec());
                }
                ControlFlow::Continue(())
            });
        }
        for (key, value) in &found {
            assert_eq!(Some(value), values.get(key));
        }
        whole += usize::from(found == values);
        let _ = apply(&mut archive, |batch| batch.put(page(1, 1), vec![1; 5000])).and_then(|()| archive.persist());
    }
    assert!(whole > 10 && refused > 0, "{whole} whole, {refused} refused");
}

/// An archive whose library panics: it has come to something that it did not believe possible.
struct Panics {
    inner: MemoryArchive,
    when: &'static str,
}

impl Panics {
    fn come_to(&self, what: &str) {
        assert!(what != self.when, "a panic of this test");
    }
}

impl Archive for Panics {
    type Snapshot = MemoryArchive;

    fn snapshot(&mut self) -> Result<MemoryArchive, ArchiveError> {
        self.come_to("snapshot");
        self.inner.snapshot()
    }

    fn keys(&mut self) -> Result<u64, ArchiveError> {
        self.inner.keys()
    }

    fn check_room(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.inner.check_room(bytes)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), ArchiveError> {
        self.come_to("apply");
        self.inner.apply(changes)
    }

    fn delete_some(&mut self, span: &Span, most: usize) -> Result<bool, ArchiveError> {
        self.inner.delete_some(span, most)
    }

    fn persist(&mut self) -> Result<(), ArchiveError> {
        self.come_to("persist");
        self.inner.persist()
    }

    fn read(&mut self, key: ArchiveKey<'_>) -> Result<Option<bytes::Bytes>, ArchiveError> {
        self.come_to("read");
        self.inner.read(key)
    }

    fn scan(
        &mut self,
        span: &Span,
        each: &mut dyn FnMut(crate::archive::Found<'_>) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        self.inner.scan(span, each)
    }

    fn bytes_on_disk(&self) -> u64 {
        self.inner.bytes_on_disk()
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        self.come_to("read");
    }
}

/// Whoever waits for an answer gets one: that there is none any more.
#[test]
fn a_panic_of_the_library_comes_to_all_shards_as_a_failure() {
    for when in ["apply", "persist", "read"] {
        let (answers, told): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel()).unzip();
        let answers = answers.into_iter().map(|to| Box::new(move |answer| drop(to.send(answer))) as Box<_>).collect();
        let archive = Panics { inner: MemoryArchive::new(), when };
        let (thread, door, _control) =
            ArchiveThread::start(archive, Limits::default(), answers).expect("there are threads");
        let mut orders = Orders::new(0, Limits::default());
        let mut batch = Batch::new();
        batch.put(page(1, 1), vec![1]);
        let order = match when {
            "read" => orders.read(1, Read::of(page(1, 1))).expect("there is room"),
            _ => orders.write(batch).expect("there is room").1,
        };
        door.give(order).expect("it has not ended");
        for told in told {
            let answer = told.recv_timeout(Duration::from_secs(60)).expect("an answer");
            let Answer::Failed(error) = answer else { panic!("{answer:?}") };
            let text = error.to_string();
            assert!(error.trouble == Trouble::Failed && text.contains("archive.redb"), "{text}");
            assert!(text.contains("panicked: a panic of this test") && text.contains("store verify"), "{text}");
            // That is all: the thread has ended.
            told.recv_timeout(Duration::from_secs(60)).expect_err("nothing else");
        }
        thread.stop();
        let order = Orders::new(1, Limits::default()).read(2, Read::of(page(1, 1))).expect("there is room");
        door.give(order).expect_err("it has ended");
    }
}
