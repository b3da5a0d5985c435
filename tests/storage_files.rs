//! Journals in real files, written through real rings and prepared by the store's thread: on the disk of the build, and on a file system in memory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::{Duration, Instant};

use moormq::journal::{
    Aligned, Answer, BLOCK, CheckedSettings, Class, Effect, FileId, Journal, Mark, Preparation, Refused, Settings,
    Sync, What, Write,
};
use moormq::net::ring::{Completion, Ring, RingSize};
use moormq::net::ring_wakeup::Eventfd;
use moormq::net::sockets::{Event, SocketLimits, Sockets};
use moormq::storage::{
    Begun, JournalFiles, MOST_SET_ASIDE, Prepared, Recovery, StoreDirectory, StoreThread, TASKS_PER_SHARD,
};
use moormq::time::Time;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const SEGMENT: u64 = 256 << 10;
/// Where file systems of two kinds are.
const PLACES: [&str; 2] = [env!("CARGO_TARGET_TMPDIR"), "/dev/shm"];
/// Set in a process that is to be killed: the directory of its store, and how it commits.
const CHILD: &str = "MOORMQ_TEST_STORE";

fn temporary(place: &str) -> TempDir {
    tempfile::tempdir_in(place).expect("a directory")
}

fn opened(path: &Path) -> StoreDirectory {
    StoreDirectory::open_or_create(path, 1000).expect("it can be opened")
}

fn settings(store: &StoreDirectory, sync: Sync) -> CheckedSettings {
    let settings = Settings {
        segment_bytes: SEGMENT,
        frame_bytes: 16 << 10,
        buffer_bytes: 64 << 10,
        commit_interval: Duration::ZERO,
        sync,
        ..Settings::new(store.facts().id, 0)
    };
    settings.check().expect("they hold")
}

/// The body of a record: its number, and as many further bytes as that says.
fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + (number * 977 % 9000) as usize, number as u8);
    body
}

/// Reads the journal of shard 0: the numbers of its records.
fn recovered(store: &StoreDirectory) -> (Vec<u64>, Recovery) {
    let mut numbers = Vec::new();
    let recovery = store.recover(0, |record| {
        let number = u64::from_le_bytes(*record.body.first_chunk().expect("a number"));
        assert!(record.kind == 3 && record.body == body(number));
        numbers.push(number);
    });
    (numbers, recovery.expect("it can be read"))
}

fn ring(submissions: u32) -> (Ring<Vec<u8>>, Eventfd) {
    let bell = Eventfd::new().expect("a descriptor");
    let size = RingSize { submissions, completions: 64, buffers: 2, buffer_bytes: 4096 };
    (Ring::new(size, bell.as_fd()).expect("a ring"), bell)
}

/// A journal of shard 0, with all that carries it out.
struct Driven {
    // Dropped in this order: as when a broker ends.
    ring: Ring<Vec<u8>>,
    journal: Journal,
    files: JournalFiles,
    _thread: StoreThread,
    prepared: Receiver<Prepared>,
    started: Instant,
    /// Whether a write is under way.
    writes: bool,
    _bell: Eventfd,
}

impl Driven {
    fn start(store: &StoreDirectory, recovery: Recovery, sync: Sync) -> Driven {
        let (sender, prepared) = channel();
        let answer = move |answer| drop(sender.send(answer));
        let (thread, mut files) = StoreThread::for_shards(store, sync, 0, vec![Box::new(answer)]).expect("a thread");
        let (ring, bell) = ring(2);
        let journal = Journal::new(settings(store, sync), recovery.recovered, 1000).expect("it is its own");
        let files = files.pop().expect("one shard");
        let (started, writes) = (Instant::now(), false);
        Driven { ring, journal, files, _thread: thread, prepared, started, writes, _bell: bell }
    }

    fn begin(&mut self) {
        let now = self.started.elapsed();
        while let Some(effect) = self.journal.next_effect(now) {
            match self.files.begin(effect) {
                Begun::Write { file, write } => {
                    self.ring.write_file(file, write);
                    self.writes = true;
                }
                Begun::Answered(answer) => assert!(self.journal.answer(answer, now)),
                Begun::HandedOver => {}
            }
        }
    }

    /// Begins what there is to do, and takes in what is done.
    fn turn(&mut self) {
        self.begin();
        let now = self.started.elapsed();
        if self.writes {
            self.ring.wait(Some(Duration::from_millis(20))).expect("the ring works");
        } else if let Ok(prepared) = self.prepared.recv_timeout(Duration::from_millis(20)) {
            self.take(prepared);
        }
        while let Ok(prepared) = self.prepared.try_recv() {
            self.take(prepared);
        }
        while let Some(completion) = self.ring.next_completion() {
            let answer = match completion {
                Completion::FileWritten { buffer, result } => Answer::Written { buffer, result },
                Completion::FileSynced(result) => Answer::Synced(result),
                _ => panic!("nobody asked for that"),
            };
            assert!(self.journal.answer(answer, now));
        }
        self.writes = self.journal.failure().is_none() && !self.journal.is_settled();
        assert!(self.journal.failure().is_none(), "{:?}", self.journal.failure());
    }

    fn take(&mut self, prepared: Prepared) {
        let answer = self.files.prepared(prepared);
        assert!(self.journal.answer(answer, self.started.elapsed()));
    }

    /// Appends a record, as soon as there is room; what is archived then is given to `released`.
    fn append(&mut self, number: u64, mut released: impl FnMut(&mut Driven)) -> Mark {
        loop {
            match self.journal.append(Class::Ordinary, 3, &[&body(number)]) {
                Ok(mark) => return mark,
                Err(Refused::Busy) => self.turn(),
                Err(Refused::Full) => {
                    self.turn();
                    released(self);
                }
                Err(refused) => panic!("{refused:?}"),
            }
        }
    }

    fn settle(&mut self) {
        while !self.journal.is_settled() {
            self.turn();
        }
    }

    /// Turns until all segments are there.
    fn prepare_all(&mut self) {
        while self.journal.fullness().live + self.journal.fullness().ready < self.journal.fullness().segments {
            self.turn();
        }
    }
}

fn release_oldest(driven: &mut Driven) {
    if let Some(oldest) = driven.journal.oldest() {
        assert!(driven.journal.release(oldest));
    }
}

/// How journals can commit in a directory.
fn syncs(store: &StoreDirectory) -> Vec<Sync> {
    let mut syncs = vec![Sync::Linked, Sync::Never];
    syncs.extend((store.sync() == Sync::Dsync).then_some(Sync::Dsync));
    syncs
}

#[test]
fn what_is_committed_is_read_again_and_goes_on() {
    for place in PLACES {
        let directory = temporary(place);
        let syncs = syncs(&opened(directory.path()));
        println!("{place}: {syncs:?}");
        let mut expected: Vec<u64> = Vec::new();
        // Each opening commits in another way than the one before.
        for sync in syncs.iter().chain(&syncs) {
            let store = opened(directory.path());
            let (numbers, recovery) = recovered(&store);
            assert_eq!(numbers, expected);
            assert!(recovery.findings.is_empty(), "{:?}", recovery.findings);
            let mut driven = Driven::start(&store, recovery, *sync);
            let mut last = Mark::default();
            let next = expected.last().map_or(0, |last| last + 1);
            for number in next..next + 20 {
                last = driven.append(number, release_oldest);
                expected.push(number);
            }
            driven.settle();
            assert!(driven.journal.flushed() >= last);
            assert_eq!(driven.journal.fsynced() >= last, *sync != Sync::Never);
            // What was released is not read again.
            drop(driven);
            let (numbers, _) = recovered(&store);
            assert!(expected.ends_with(&numbers) && numbers.len() >= 20);
            expected = numbers;
        }
    }
}

#[test]
fn segments_are_used_again_and_again_and_then_no_file_is_opened() {
    for place in PLACES {
        let directory = temporary(place);
        let store = opened(directory.path());
        for sync in syncs(&store) {
            let (_, recovery) = recovered(&store);
            let mut driven = Driven::start(&store, recovery, sync);
            driven.prepare_all();
            for number in 0..500 {
                driven.append(number, release_oldest);
            }
            driven.settle();
            assert!(driven.files.open() <= 8);
            drop(driven);
            let listing = store.journal_files().expect("it can be listed");
            assert!(listing.journals[&0].len() <= 8 && listing.strange.is_empty() && listing.set_aside.is_empty());
            let (numbers, recovery) = recovered(&store);
            assert!(recovery.findings.is_empty(), "{:?}", recovery.findings);
            assert!(numbers.ends_with(&(470..500).collect::<Vec<_>>()), "{sync:?}");
            drop(store.remove_journal(0));
        }
    }
}

/// The far side of the next test: appends until it is killed, and says which record is safe.
#[test]
#[ignore = "a process of the test that kills it"]
fn appends_until_it_is_killed() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (path, sync) = told.rsplit_once('=').expect("both");
    let sync = [Sync::Dsync, Sync::Linked, Sync::Never][sync.parse::<usize>().expect("a number")];
    let store = opened(Path::new(path));
    let (numbers, recovery) = recovered(&store);
    let mut driven = Driven::start(&store, recovery, sync);
    let mut number = numbers.last().map_or(0, |last| last + 1);
    loop {
        let marks = [0, 1, 2].map(|more| driven.append(number + more, release_oldest));
        number += 3;
        while driven.journal.flushed() < marks[2] {
            driven.turn();
        }
        println!("safe {}", number - 1);
    }
}

#[test]
fn a_process_that_is_killed_has_not_lost_what_it_said_was_safe() {
    for place in PLACES {
        let directory = temporary(place);
        let has_direct = opened(directory.path()).sync() == Sync::Dsync;
        for (round, sync) in [1, 2, 0, 1, 0].into_iter().filter(|sync| *sync > 0 || has_direct).enumerate() {
            let mut child = Command::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "appends_until_it_is_killed", "--ignored", "--nocapture"])
                .env(CHILD, format!("{}={sync}", directory.path().display()))
                .stdout(Stdio::piped())
                .spawn()
                .expect("it starts");
            let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            let safe = |line: std::io::Result<String>| line.ok()?.strip_prefix("safe ")?.parse::<u64>().ok();
            let mut last = None;
            let mut seen = 0;
            while seen < 30 + 17 * round {
                let line = lines.next().expect("it goes on");
                last = safe(line).or(last);
                seen += usize::from(last.is_some());
            }
            child.kill().expect("it lives");
            last = lines.filter_map(safe).last().or(last);
            // What it had begun may go on after its end.
            let store = loop {
                match StoreDirectory::open_or_create(directory.path(), 7) {
                    Ok(store) => break store,
                    Err(error) => assert!(error.is_in_use(), "{error}"),
                }
            };
            child.wait().expect("it has ended");
            let (numbers, recovery) = recovered(&store);
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
            assert!(numbers.last().copied() >= last, "{:?} is not {last:?}", numbers.last());
            assert!(recovery.findings.iter().all(|finding| !finding.is_loss()), "{:?}", recovery.findings);
        }
    }
}

#[test]
fn a_ring_that_is_dropped_has_its_writes_end_and_lets_its_files_go() {
    for place in PLACES {
        let directory = temporary(place);
        let store = opened(directory.path());
        for sync in syncs(&store) {
            let (before, recovery) = recovered(&store);
            let mut driven = Driven::start(&store, recovery, sync);
            driven.prepare_all();
            let next = before.last().map_or(0, |last| last + 1);
            driven.append(next, |_| {});
            driven.begin();
            assert!(driven.writes);
            driven.ring.submit().expect("the ring works");
            drop(driven);
            let started = Instant::now();
            let (after, recovery) = recovered(&store);
            assert!(started.elapsed() < Duration::from_secs(5), "no lock was left");
            assert!(after == before || after == [&before[..], &[next]].concat());
            assert!(recovery.findings.iter().all(|finding| !finding.is_loss()));
        }
    }
}

/// What becomes of a write of `bytes` at `offset`, and of its sync.
fn written(
    file: &Arc<File>,
    offset: u64,
    bytes: usize,
    sync: Sync,
) -> (Result<usize, std::io::Error>, Option<Result<(), std::io::Error>>) {
    written_behind(0, file, offset, bytes, sync)
}

/// The same, behind so many other operations: the queue has room for two, and a write and its sync wait there together.
fn written_behind(
    others: usize,
    file: &Arc<File>,
    offset: u64,
    bytes: usize,
    sync: Sync,
) -> (Result<usize, std::io::Error>, Option<Result<(), std::io::Error>>) {
    let (mut ring, _bell) = ring(1);
    let closed = || File::open("/dev/null").expect("a descriptor").into();
    (0..others).for_each(|_| ring.close(closed()));
    let buffer = Aligned::zeroed(bytes);
    ring.write_file(Arc::clone(file), Write { file: FileId(0), offset, buffer, bytes, sync });
    (0..5).for_each(|_| ring.close(closed()));
    let (mut result, mut synced) = (None, None);
    while result.is_none() || sync == Sync::Linked && synced.is_none() {
        ring.wait(Some(Duration::from_millis(50))).expect("the ring works");
        while let Some(completion) = ring.next_completion() {
            match completion {
                Completion::FileWritten { result: of, .. } if result.is_none() => result = Some(of),
                Completion::FileSynced(of) if synced.is_none() => synced = Some(of),
                other => panic!("{other:?}"),
            }
        }
    }
    (result.expect("it is over"), synced)
}

#[test]
fn a_write_has_one_answer_and_a_sync_if_it_was_written() {
    let directory = temporary(PLACES[0]);
    let path = directory.path().join("x");
    let file = Arc::new(OpenOptions::new().write(true).create_new(true).open(&path).expect("a file"));
    for (sync, has_sync) in [(Sync::Dsync, false), (Sync::Never, false), (Sync::Linked, true)] {
        let (result, synced) = written(&file, 4096, 4 * BLOCK, sync);
        assert!(result.is_ok_and(|bytes| bytes == 4 * BLOCK));
        assert_eq!(synced.map(|synced| synced.is_ok()), has_sync.then_some(true));
    }
    assert_eq!(fs::metadata(&path).expect("it is there").len(), 5 * BLOCK as u64);
    let full = Arc::new(OpenOptions::new().write(true).open("/dev/full").expect("a device"));
    let unwritable = Arc::new(File::open(&path).expect("it is there"));
    let number = |result: Result<usize, std::io::Error>| result.err().and_then(|error| error.raw_os_error());
    for sync in [Sync::Dsync, Sync::Never, Sync::Linked] {
        for others in 0..5 {
            let (result, synced) = written_behind(others, &full, 0, BLOCK, sync);
            assert_eq!(number(result), Some(libc::ENOSPC));
            // The device cannot be synced: only one that is linked is cancelled instead.
            let told = (sync == Sync::Linked).then_some(Some(libc::ECANCELED));
            assert_eq!(synced.map(|synced| number(synced.map(|()| 0))), told, "{others} others");
        }
        let (result, synced) = written(&unwritable, 0, BLOCK, sync);
        assert_eq!((number(result), synced.is_some_and(|synced| synced.is_ok())), (Some(libc::EBADF), false));
    }
}

#[test]
fn the_sockets_of_a_shard_bring_what_became_of_its_writes() {
    let bell = Eventfd::new().expect("a descriptor");
    let ring = RingSize { submissions: 1, completions: 64, buffers: 2, buffer_bytes: 4096 };
    let limits = SocketLimits { ring, ..SocketLimits::default() };
    let mut sockets: Sockets<Vec<u8>> = Sockets::new(limits, Vec::new(), bell.as_fd()).expect("a ring");
    let file = Arc::new(tempfile::tempfile().expect("a file"));
    let write = Write { file: FileId(0), offset: 0, buffer: Aligned::zeroed(BLOCK), bytes: BLOCK, sync: Sync::Linked };
    sockets.write_file(file, write);
    let mut told = Vec::new();
    while told.len() < 2 {
        sockets.wait(Some(Duration::from_secs(1)), Time::ZERO).expect("the ring works");
        while let Some(event) = sockets.next_event(Time::ZERO) {
            told.push(match event {
                Event::Journal(Answer::Written { result: Ok(BLOCK), .. }) => "written",
                Event::Journal(Answer::Synced(Ok(()))) => "synced",
                other => panic!("{other:?}"),
            });
        }
    }
    assert_eq!(told, ["written", "synced"]);
}

/// The limit is the process's: files of other tests are smaller.
#[test]
fn what_there_is_no_room_for_is_told_and_tried_again() {
    const LIMIT: u64 = 32 << 20;
    // The signal that comes with it ends a process that does not ignore it.
    let _ignored = signal_hook::flag::register(libc::SIGXFSZ, Arc::default()).expect("a signal");
    let (_, hard) = rlimit::getrlimit(rlimit::Resource::FSIZE).expect("there is a limit");
    rlimit::setrlimit(rlimit::Resource::FSIZE, LIMIT, hard).expect("a lower one may be set");
    for place in PLACES {
        let directory = temporary(place);
        let store = opened(directory.path());
        for sync in syncs(&store) {
            let path = directory.path().join("x");
            let file = Arc::new(OpenOptions::new().write(true).create_new(true).open(&path).expect("a file"));
            // The first half is written.
            let (result, synced) = written(&file, LIMIT - 8192, 4 * BLOCK, sync);
            assert!(result.is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG)));
            assert!(synced.is_none_or(|synced| synced.is_err()));
            assert_eq!(file.metadata().expect("it is there").len(), LIMIT);
            fs::remove_file(&path).expect("it is there");

            let large = Settings { segment_bytes: LIMIT + SEGMENT, ..*settings(&store, sync) };
            let (_, recovery) = recovered(&store);
            let mut driven = Driven::start(&store, recovery, sync);
            driven.journal =
                Journal::new(large.check().expect("they hold"), Default::default(), 0).expect("there was none");
            while driven.journal.shortage().is_none() {
                driven.turn();
            }
            let told = driven.journal.shortage().expect("it is short").to_string();
            assert!(told.contains("0000-00000000") && told.contains("File too large"), "{told}");
            assert!(store.journal_files().expect("it can be listed").has_no_journal(), "its room was given back");
        }
    }
}

/// A small file system, if this user may mount one.
struct Mounted(TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let directory = temporary(PLACES[0]);
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(directory.path()).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Mounted(directory))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// How many bytes are free on the file system that a path is on.
fn room_on(path: &Path) -> u64 {
    let said = Command::new("df").args(["--block-size=1", "--output=avail"]).arg(path).output().expect("there is df");
    String::from_utf8_lossy(&said.stdout).lines().last().and_then(|line| line.trim().parse().ok()).expect("a number")
}

#[test]
fn a_full_or_read_only_file_system_is_explained() {
    let options = format!("size={},mode=0700", 2 * SEGMENT + (64 << 10));
    let Some(small) = Mounted::new(&options) else { return println!("skipped: this user may not mount file systems") };
    let store = opened(&small.path());
    for sync in syncs(&store) {
        let (_, recovery) = recovered(&store);
        let mut driven = Driven::start(&store, recovery, sync);
        while driven.journal.shortage().is_none() {
            driven.turn();
        }
        let told = driven.journal.shortage().expect("it is short").to_string();
        assert!(told.contains("0000-00000002") && told.contains("No space left on device"), "{told}");
        assert_eq!(driven.journal.fullness().ready, 2);
        driven.append(1, |_| {});
        driven.settle();
        drop(driven);
        store.remove_journal(0).expect("it is there");
        // A process that another test has just begun may still have its files, which take room as long.
        while room_on(&small.path()) < 2 * SEGMENT {}
    }
    drop(store);
    // A store on it opens even so.
    let fill = OpenOptions::new().write(true).create_new(true).open(small.path().join("fill")).expect("a file");
    while std::io::Write::write(&mut &fill, &[0; 4096]).is_ok() {}
    drop(fill);
    drop(opened(&small.path()));
    // A process that another test has just begun may still have our files.
    let remount = || Command::new("mount").args(["-o", "remount,ro"]).arg(small.path()).status();
    while !remount().is_ok_and(|status| status.success()) {}
    let error = StoreDirectory::open_or_create(&small.path(), 7).expect_err("it is read-only").to_string();
    assert!(error.contains("Mount it for writing, or choose another directory"), "{error}");
}

#[test]
fn files_of_another_store_are_told_and_left_alone() {
    let (ours, theirs) = (temporary(PLACES[0]), temporary(PLACES[0]));
    for directory in [&ours, &theirs] {
        let store = opened(directory.path());
        let (_, recovery) = recovered(&store);
        let mut driven = Driven::start(&store, recovery, store.sync());
        driven.append(7, |_| {});
        driven.settle();
    }
    let name = |directory: &TempDir, name: &str| directory.path().join("journal").join(name);
    let foreign = name(&ours, "0000-00000777");
    fs::copy(name(&theirs, "0000-00000000"), &foreign).expect("it is there");
    let bytes = fs::read(&foreign).expect("it is there");
    let store = opened(ours.path());
    for _ in 0..2 {
        let (numbers, recovery) = recovered(&store);
        assert_eq!(numbers.first(), Some(&7));
        let is_told = |finding: &moormq::journal::Finding| {
            finding.file == Some(FileId(777)) && matches!(finding.what, What::OtherStore { .. })
        };
        assert!(recovery.findings.iter().any(is_told), "{:?}", recovery.findings);
        let mut driven = Driven::start(&store, recovery, store.sync());
        driven.append(8, |_| {});
        driven.settle();
    }
    assert_eq!(fs::read(&foreign).expect("it is there"), bytes);
}

#[test]
fn marks_grow_on_also_when_all_files_of_a_journal_are_lost() {
    let directory = temporary(PLACES[1]);
    let mut last = Mark::default();
    for _ in 0..3 {
        let mut store = opened(directory.path());
        let (numbers, recovery) = recovered(&store);
        assert!(numbers.is_empty());
        let mut driven = Driven::start(&store, recovery, store.sync());
        store.raise_floors(&[(0, driven.journal.floor())].into()).expect("it can be written");
        let mark = driven.append(1, |_| {});
        driven.settle();
        assert!(mark > last);
        last = mark;
        drop(driven);
        store.remove_journal(0).expect("it is there");
    }
}

/// The store's thread, whose answers wait until they are fetched, and one of whose answers it waits for.
fn thread(store: &StoreDirectory, capacity: usize) -> (StoreThread, JournalFiles, Receiver<Prepared>) {
    let (sender, prepared) = sync_channel(capacity);
    let answer = move |answer| drop(sender.send(answer));
    let (thread, mut files) =
        StoreThread::for_shards(store, store.sync(), 0, vec![Box::new(answer)]).expect("a thread");
    (thread, files.pop().expect("one shard"), prepared)
}

fn prepare(file: u32, fill: bool, bytes: u64) -> Effect {
    let mut header = Aligned::zeroed(BLOCK);
    header.fill(file as u8 | 1);
    Effect::Prepare(Preparation { file: FileId(file), generation: 1, bytes, fill, is_beyond: false, header })
}

/// As many files as the settings want are made if the disk has room at all, more only if it has room to spare.
#[test]
fn a_journal_that_gets_longer_leaves_room_on_the_disk() {
    let directory = temporary(PLACES[0]);
    let store = opened(directory.path());
    let (sender, prepared) = sync_channel(2);
    let answer = move |answer| drop(sender.send(answer));
    let answers: Vec<Box<dyn Fn(Prepared) + Send>> = vec![Box::new(answer)];
    let (thread, mut files) = StoreThread::for_shards(&store, store.sync(), u64::MAX / 2, answers).expect("a thread");
    for (file, beyond) in [(0, false), (1, true)] {
        let Effect::Prepare(mut preparation) = prepare(file, true, SEGMENT) else { panic!("it is one") };
        preparation.is_beyond = beyond;
        assert!(matches!(files[0].begin(Effect::Prepare(preparation)), Begun::HandedOver));
        let result = prepared.recv().expect("an answer").result;
        match result {
            Ok(_) => assert!(!beyond),
            Err(error) => assert!(beyond && error.to_string().contains("storage.archive.min_free"), "{error}"),
        }
    }
    thread.stop();
}

#[test]
fn a_shard_never_waits_for_a_thread_that_is_behind() {
    let directory = temporary(PLACES[0]);
    let store = opened(directory.path());
    let (thread, mut files, prepared) = thread(&store, 0);
    assert!(matches!(files.begin(prepare(0, true, SEGMENT)), Begun::HandedOver));
    // When it has its header, the thread waits for somebody to take its answer.
    let first = directory.path().join("journal").join("0000-00000000");
    while fs::read(&first).map_or(0, |bytes| bytes.first().copied().unwrap_or(0)) == 0 {}
    let mut refused = None;
    for file in 1..=TASKS_PER_SHARD as u32 + 1 {
        if let Begun::Answered(answer) = files.begin(prepare(file, true, SEGMENT)) {
            refused = Some((file, answer));
            break;
        }
    }
    let (file, answer) = refused.expect("there is a bound");
    assert!(file as usize >= TASKS_PER_SHARD, "{file}");
    let Answer::Prepared { file: FileId(of), result: Err(error) } = answer else { panic!("it is refused") };
    assert!(of == file && error.to_string().contains("is behind"));
    assert!(matches!(files.begin(Effect::Remove { file: FileId(0) }), Begun::HandedOver), "it is left out");
    drop(prepared);
    thread.stop();
    let Begun::Answered(Answer::Prepared { result: Err(error), .. }) = files.begin(prepare(500, true, SEGMENT)) else {
        panic!("the thread has ended")
    };
    assert!(error.to_string().contains("has ended"));
}

#[test]
fn a_file_is_prepared_used_again_set_aside_and_removed() {
    for place in PLACES {
        let directory = temporary(place);
        let store = opened(directory.path());
        let (thread, mut files, prepared) = thread(&store, 9);
        let at = |name: &str| directory.path().join("journal").join(name);
        let take = |files: &mut JournalFiles, effect| {
            assert!(matches!(files.begin(effect), Begun::HandedOver));
            let prepared = prepared.recv().expect("an answer");
            let Answer::Prepared { file, result } = files.prepared(prepared) else { panic!("another answer") };
            (file.0, result.map_err(|error| error.to_string()))
        };
        assert_eq!(take(&mut files, prepare(3, true, SEGMENT)), (3, Ok(())));
        let bytes = fs::read(at("0000-00000003")).expect("it is there");
        assert!(bytes.len() as u64 == SEGMENT && bytes[..BLOCK].iter().all(|byte| *byte == 3));
        assert!(bytes[BLOCK..].iter().all(|byte| *byte == 0));
        let other = File::open(at("0000-00000003")).expect("it is there");
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err(), "who writes it has the lock");
        assert_eq!(files.open(), 1);
        assert_eq!(take(&mut files, prepare(3, false, SEGMENT)), (3, Ok(())));
        let (_, refused) = take(&mut files, prepare(3, false, SEGMENT + 4096));
        assert!(refused.is_err_and(|told| told.contains("bytes instead of")));
        assert_eq!(files.open(), 0);
        // Its open file is gone, and so is the lock; then there are others.
        // (A process that another test has just begun may still have it.)
        flock(&other, FlockOperation::LockExclusive).expect("there are locks");
        let (_, refused) = take(&mut files, prepare(3, false, SEGMENT));
        assert!(refused.is_err_and(|told| told.contains("is used by another process")));
        flock(&other, FlockOperation::Unlock).expect("it is ours");
        assert_eq!(take(&mut files, prepare(3, false, SEGMENT)), (3, Ok(())));
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        let (_, refused) = take(&mut files, prepare(3, true, SEGMENT));
        assert!(refused.is_err_and(|told| told.contains("cannot be made")), "it is there");
        assert_eq!(fs::metadata(at("0000-00000003")).expect("it is left").len(), SEGMENT);
        let (_, refused) = take(&mut files, prepare(4, false, SEGMENT));
        assert!(refused.is_err_and(|told| told.contains("cannot be opened")));

        assert!(matches!(files.begin(Effect::SetAside { file: FileId(3) }), Begun::HandedOver));
        assert_eq!(take(&mut files, prepare(3, true, SEGMENT)), (3, Ok(())));
        assert!(matches!(files.begin(Effect::SetAside { file: FileId(3) }), Begun::HandedOver));
        assert_eq!(take(&mut files, prepare(5, true, SEGMENT)), (5, Ok(())));
        assert!(matches!(files.begin(Effect::Remove { file: FileId(5) }), Begun::HandedOver));
        assert!(matches!(files.begin(Effect::Remove { file: FileId(6) }), Begun::HandedOver), "it is not there");
        thread.stop();
        let listing = store.journal_files().expect("it can be listed");
        assert_eq!(listing.set_aside, ["0000-00000003.bad", "0000-00000003.bad.2"]);
        assert!(listing.journals.is_empty() && files.open() == 0);
    }
}

#[test]
fn no_more_files_are_set_aside_than_may_be() {
    let directory = temporary(PLACES[1]);
    let store = opened(directory.path());
    let (thread, mut files, prepared) = thread(&store, 9);
    for file in 0..MOST_SET_ASIDE as u32 + 2 {
        assert!(matches!(files.begin(prepare(file, true, 4096)), Begun::HandedOver));
        files.prepared(prepared.recv().expect("an answer"));
        assert!(matches!(files.begin(Effect::SetAside { file: FileId(file) }), Begun::HandedOver));
    }
    thread.stop();
    let listing = store.journal_files().expect("it can be listed");
    assert!(listing.journals.is_empty() && listing.set_aside.len() == MOST_SET_ASIDE);
    assert_eq!(listing.set_aside[0], "0000-00000000.bad");
}

#[test]
fn a_segment_that_is_used_again_overtakes_one_that_is_filled_and_a_stop_gives_that_up() {
    let directory = temporary(PLACES[0]);
    let store = opened(directory.path());
    let (thread, mut files, prepared) = thread(&store, 9);
    assert!(matches!(files.begin(prepare(0, true, SEGMENT)), Begun::HandedOver));
    let first = prepared.recv().expect("an answer");
    files.prepared(first);
    // It takes many pieces.
    assert!(matches!(files.begin(prepare(1, true, 4 << 30)), Begun::HandedOver));
    assert!(matches!(files.begin(prepare(0, false, SEGMENT)), Begun::HandedOver));
    assert_eq!(prepared.recv().expect("an answer").file, FileId(0));
    thread.stop();
    assert!(prepared.try_recv().is_err());
    assert_eq!(store.journal_files().expect("it can be listed").journals, [(0, vec![FileId(0)])].into());
}

#[test]
fn a_segment_that_another_process_may_still_write_is_waited_for() {
    let directory = temporary(PLACES[0]);
    let store = opened(directory.path());
    let (_thread, mut files, prepared) = thread(&store, 9);
    assert!(matches!(files.begin(prepare(0, true, SEGMENT)), Begun::HandedOver));
    let open = prepared.recv().expect("an answer").result.expect("it is prepared");
    let let_go = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(open);
    });
    let started = Instant::now();
    assert!(recovered(&store).0.is_empty());
    assert!(started.elapsed() >= Duration::from_millis(100));
    let_go.join().expect("no panic");
}
