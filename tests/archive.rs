//! The archive on its thread, with several shards; and in a process that is killed, again and again. `tests/archive-kills` does that more often than a
//! test has time for.
#![cfg(feature = "archive")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moormq::archive::{
    Answer, Archive, ArchiveError, ArchiveKey, Batch, Change, Found, Limits, MemoryArchive, Orders, Read, Refused,
    Span, Ticket, Trouble,
};
use moormq::journal::StoreId;
use moormq::session::{Key, StoreNumber};
use moormq::storage::archive::{ArchiveDoor, ArchiveFile, ArchiveSettings, ArchiveThread};

const OWN: StoreId = StoreId([7; 16]);
/// Set in a process that is to be killed: the path of its archive, and where its numbers begin.
const CHILD: &str = "MOORMQ_TEST_ARCHIVE";
/// How often a long run kills.
const KILLS: &str = "MOORMQ_ARCHIVE_KILLS";
/// Nothing here takes as long.
const LONG: Duration = Duration::from_secs(60);

fn session(counter: u32) -> StoreNumber {
    StoreNumber::new(1, 0, counter)
}

fn page(counter: u32, first: u64) -> ArchiveKey<'static> {
    ArchiveKey::Page(session(counter), Key::new(first))
}

fn put(counter: u32, first: u64, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(page(counter, first), vec![first as u8; bytes]);
    batch
}

/// A shard: its door, and the answers that have come.
struct Shard {
    door: Door,
    answers: Receiver<Answer>,
}

/// What a shard has asked for, and the door to the thread.
struct Door {
    orders: Orders,
    door: ArchiveDoor,
}

impl Door {
    fn write(&mut self, batch: Batch) -> Result<Ticket, (Refused, Batch)> {
        let (ticket, order) = self.orders.write(batch)?;
        self.door.give(order).map(|()| ticket).map_err(|_| (Refused::Failed, Batch::new()))
    }

    fn read(&mut self, tag: u64, read: Read) -> Result<(), Refused> {
        let order = self.orders.read(tag, read)?;
        self.door.give(order).map_err(|_| Refused::Failed)
    }
}

impl Shard {
    fn answer(&mut self) -> Answer {
        let answer = self.answers.recv_timeout(LONG).expect("an answer");
        self.door.orders.answered(&answer);
        answer
    }

    fn write(&mut self, batch: Batch) -> Ticket {
        self.door.write(batch).map_err(|(refused, _)| refused).expect("there is room")
    }

    /// Waits until all that was written is persisted.
    fn finish(&mut self) {
        while self.door.orders.oldest().is_some() {
            let answer = self.answer();
            assert!(matches!(answer, Answer::Persisted(_)), "{answer:?}");
        }
    }
}

fn start<A: Archive + Send + 'static>(archive: A, shards: usize, limits: Limits) -> (ArchiveThread, Vec<Shard>) {
    let (answers, receivers): (Vec<Sender<Answer>>, Vec<_>) = (0..shards).map(|_| channel()).unzip();
    let answers =
        answers.into_iter().map(|sender| Box::new(move |answer| drop(sender.send(answer))) as Box<_>).collect();
    let (thread, door, _) = ArchiveThread::start(archive, limits, answers).expect("there are threads");
    let doors = (0..).map(|shard| Door { orders: Orders::new(shard, limits), door: door.clone() });
    (thread, doors.zip(receivers).map(|(door, answers)| Shard { door, answers }).collect())
}

/// An archive in memory that waits, when it is to change or to persist something, until that is let through.
struct Gated {
    inner: MemoryArchive,
    gate: Gate,
}

#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// So many calls may go through.
    free: usize,
    waits: bool,
}

impl Gate {
    fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("no panic while it is held");
        state.waits = true;
        changed.notify_all();
        let (mut state, _) = changed.wait_timeout_while(state, LONG, |state| state.free == 0).expect("no panic");
        state.free = state.free.checked_sub(1).expect("it was let through");
        state.waits = false;
    }

    fn open(&self, calls: usize) {
        let (state, changed) = &*self.0;
        state.lock().expect("no panic while it is held").free += calls;
        changed.notify_all();
    }

    /// Until something waits at it.
    fn wait(&self) {
        let (state, changed) = &*self.0;
        let state = state.lock().expect("no panic while it is held");
        let (state, _) =
            changed.wait_timeout_while(state, LONG, |state| !state.waits || state.free > 0).expect("no panic");
        assert!(state.waits);
    }
}

impl Archive for Gated {
    type Snapshot = MemoryArchive;

    fn check_room(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.inner.check_room(bytes)
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), ArchiveError> {
        self.gate.pass();
        self.inner.apply(changes)
    }

    fn delete_some(&mut self, span: &Span, most: usize) -> Result<bool, ArchiveError> {
        self.inner.delete_some(span, most)
    }

    fn persist(&mut self) -> Result<(), ArchiveError> {
        self.gate.pass();
        self.inner.persist()
    }

    fn read(&mut self, key: ArchiveKey<'_>) -> Result<Option<Bytes>, ArchiveError> {
        self.inner.read(key)
    }

    fn scan(&mut self, span: &Span, each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<(), ArchiveError> {
        self.inner.scan(span, each)
    }

    fn bytes_on_disk(&self) -> u64 {
        self.inner.bytes_on_disk()
    }

    fn keys(&mut self) -> Result<u64, ArchiveError> {
        self.inner.keys()
    }

    fn snapshot(&mut self) -> Result<MemoryArchive, ArchiveError> {
        self.inner.snapshot()
    }
}

#[test]
fn who_is_over_the_bound_is_told_and_never_waits() {
    let gate = Gate::default();
    let limits = Limits { bytes: 10_000, batches: 4, reads: 3 };
    let (thread, mut shards) = start(Gated { inner: MemoryArchive::new(), gate: gate.clone() }, 2, limits);
    for first in 0..4 {
        shards[0].write(put(1, first, 1000));
    }
    let (refused, _) = shards[0].door.write(put(1, 9, 1000)).expect_err("too many");
    assert_eq!(refused, Refused::Busy);
    shards[1].write(put(2, 1, 9000));
    assert_eq!(shards[1].door.write(put(2, 2, 9000)).expect_err("too many").0, Refused::Busy);
    assert_eq!(shards[1].door.write(put(2, 2, 11_000)).expect_err("too large").0, Refused::TooLarge);
    gate.wait();
    for tag in 0..3 {
        shards[1].door.read(tag, Read::of(page(1, 0))).expect("there is room");
    }
    assert_eq!(shards[1].door.read(3, Read::of(page(1, 0))), Err(Refused::Busy));
    gate.open(1000);
    shards[0].finish();
    shards[0].write(put(1, 9, 1000));
    for tag in 0..3 {
        assert!(matches!(shards[1].answer(), Answer::Read { tag: of, .. } if of == tag));
    }
    shards[1].finish();
    thread.stop();
}

/// A mass is being written: what another shard reads meanwhile waits for the call that is under way, and for no other.
#[test]
fn reads_go_before_writes() {
    let gate = Gate::default();
    let (thread, mut shards) = start(Gated { inner: MemoryArchive::new(), gate: gate.clone() }, 2, Limits::default());
    gate.open(2);
    shards[0].write(put(1, 7, 10));
    shards[0].finish();
    for first in 0..20 {
        shards[0].write(put(2, first, 300_000));
    }
    gate.wait();
    for tag in 0..10 {
        shards[1].door.read(tag, Read::of(page(1, 7))).expect("there is room");
    }
    gate.open(1);
    for expected in 0..10 {
        let Answer::Read { tag, result } = shards[1].answer() else { panic!("it writes nothing") };
        assert_eq!((tag, result.map(|found| found.map(|(_, value)| value.len()))), (expected, Ok(Some(10))));
    }
    assert!(shards[0].answers.try_recv().is_err(), "nothing is persisted yet");
    gate.open(1000);
    shards[0].finish();
    thread.stop();
}

#[test]
fn a_stop_finishes_what_was_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("archive.redb");
    let settings = ArchiveSettings { reserve: 0, ..ArchiveSettings::default() };
    let archive = ArchiveFile::open(&path, OWN, settings).expect("it is opened");
    let (thread, mut shards) = start(archive, 3, Limits::default());
    let mut last = Vec::new();
    for (shard, at) in shards.iter_mut().zip(0..) {
        for first in 0..50 {
            shard.write(put(at, first, 10_000));
        }
        shard.door.read(1, Read::First(Span::pages(session(at)))).expect("there is room");
        last.push(shard.write(put(at, 50, 10)));
    }
    thread.stop();
    for (shard, last) in shards.iter_mut().zip(last) {
        let mut answers: Vec<Answer> = shard.answers.try_iter().collect();
        assert_eq!(answers.pop(), Some(Answer::Persisted(last)));
        assert!(answers.iter().any(|answer| matches!(answer, Answer::Read { tag: 1, .. })));
        // Nobody is there any more.
        answers.push(Answer::Persisted(last));
        answers.iter().for_each(|answer| shard.door.orders.answered(answer));
        assert_eq!(shard.door.write(put(9, 9, 9)).expect_err("it has ended").0, Refused::Failed);
    }
    let mut archive = ArchiveFile::open(&path, OWN, settings).expect("it is opened");
    let mut pages = 0;
    let mut count = |_: Found<'_>| {
        pages += 1;
        ControlFlow::Continue(())
    };
    archive.scan(&Span::all_pages(), &mut count).expect("it can be read");
    assert_eq!(pages, 3 * 51);
}

#[test]
fn a_refusal_and_a_failure_come_to_those_whom_they_concern() {
    let mut archive = MemoryArchive::new();
    archive.faults.room = 5000;
    archive.faults.persists = 1;
    let (thread, mut shards) = start(archive, 2, Limits::default());
    let from = shards[0].write(put(1, 1, 6000));
    let Answer::Refused { from: told, error } = shards[0].answer() else { panic!("there is no room") };
    assert_eq!((told, error.trouble), (from, Trouble::Full));
    shards[0].door.orders.go_on();
    shards[0].write(put(1, 1, 10));
    shards[0].finish();
    shards[0].write(put(1, 2, 10));
    for shard in &mut shards {
        assert!(matches!(shard.answer(), Answer::Failed(error) if error.trouble == Trouble::Failed));
        assert_eq!(shard.door.write(put(1, 3, 10)).expect_err("it has failed").0, Refused::Failed);
    }
    thread.stop();
}

// A process that is killed.

/// What batch number `number` does: a page of each of ten sessions is put, and one from some time ago deleted. A last key has the number.
fn batch_of(number: u64) -> Batch {
    let mut batch = Batch::new();
    let own = (number % 10) as u32;
    batch.put_page(session(own), Key::new(number), number.to_le_bytes().to_vec(), content(number));
    if let Some(old) = number.checked_sub(200) {
        batch.delete_page(session((old % 10) as u32), Key::new(old));
    }
    if number % 500 == 499 {
        batch.delete_session(session(own));
    }
    batch.put(ArchiveKey::Retained { mountpoint: "", topic: "last" }, number.to_le_bytes().to_vec());
    batch
}

fn content(number: u64) -> Vec<u8> {
    vec![number as u8; 100 + (number * 977 % 33_000) as usize]
}

/// All that there is once batches up to `last` are made.
fn expected(last: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut values = BTreeMap::new();
    // What was put earlier is deleted by then.
    for number in last.saturating_sub(2000)..=last {
        for change in batch_of(number).changes() {
            match change {
                Change::Put(key, value) => drop(values.insert(key.to_vec(), value.to_vec())),
                Change::Delete(key) => drop(values.remove(&key[..])),
                Change::DeleteAll(span) => values.retain(|key, _| &key[..] < span.start() || &key[..] >= span.end()),
            }
        }
    }
    values
}

/// The process that is killed: it writes for ever, and prints what is persisted.
#[test]
#[ignore = "it is run by the others"]
fn write_until_killed() {
    let Ok(child) = std::env::var(CHILD) else { return };
    let (path, first) = child.rsplit_once(' ').expect("a path and a number");
    let archive = ArchiveFile::open(Path::new(path), OWN, ArchiveSettings::default()).expect("it can be opened");
    let (_thread, mut shards) = start(archive, 1, Limits::default());
    let shard = &mut shards[0];
    let mut next: u64 = first.parse().expect("a number");
    let base = next;
    loop {
        match shard.door.write(batch_of(next)) {
            Ok(_) => next += 1,
            Err((Refused::Busy, _)) => {
                let Answer::Persisted(Ticket(ticket)) = shard.answer() else { panic!("it fails") };
                // Tickets are counted from 1.
                println!("persisted {}", base + ticket - 1);
                std::io::stdout().flush().expect("it is read");
            }
            Err((refused, _)) => panic!("{refused:?}"),
        }
    }
}

fn kill_again_and_again(kills: u64, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let name = format!("archive-{}-{seed}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let path: PathBuf = directory.join("archive.redb");
    let (mut next, mut persists, mut slowest) = (0, 0, Duration::ZERO);
    for kill in 0..kills {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["write_until_killed", "--exact", "--ignored", "--nocapture"])
            .env(CHILD, format!("{} {next}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is read")).lines();
        let (sender, told) = channel();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(number) = line.strip_prefix("persisted ") {
                    let _ = sender.send(number.parse::<u64>().expect("a number"));
                }
            }
        });
        // It dies some time after something was persisted; now and then before that.
        let first = (kill % 4 != 3).then(|| told.recv_timeout(LONG).expect("something is persisted"));
        thread::sleep(Duration::from_micros(random.u64(..200_000)));
        child.kill().expect("it lives");
        child.wait().expect("it has ended");
        reader.join().expect("no panic");
        let persisted = told.try_iter().last().or(first);
        persists += u64::from(persisted.is_some());
        let began = Instant::now();
        let mut archive = ArchiveFile::open(&path, OWN, ArchiveSettings::default())
            .unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        slowest = slowest.max(began.elapsed());
        let mut found = BTreeMap::new();
        for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
            let mut look = |(key, value): Found<'_>| {
                found.insert(key.to_bytes(), value.unwrap_or_else(|error| panic!("kill {kill}: {error}")).to_vec());
                ControlFlow::Continue(())
            };
            archive.scan(&span, &mut look).unwrap_or_else(|error| panic!("kill {kill}: {error}"));
        }
        let last = found.get(&ArchiveKey::Retained { mountpoint: "", topic: "last" }.to_bytes());
        let last = last.map(|last| u64::from_le_bytes(last[..].try_into().expect("a number")));
        assert!(last >= persisted, "kill {kill}: {persisted:?} was told, and {last:?} is there");
        let Some(last) = last else { continue };
        assert!(last + 1 >= next, "kill {kill}: {next} was there before, and {last} is now");
        // A batch that is half done may be there: the next one does it again.
        let mut half = expected(last);
        if found != half {
            let before = found.clone();
            let whole = expected(last + 1);
            half.retain(|key, value| whole.get(key) == Some(value));
            assert!(
                half.iter().all(|(key, value)| before.get(key) == Some(value)),
                "kill {kill}: something is missing"
            );
            assert!(
                before
                    .iter()
                    .all(|(key, value)| whole.get(key) == Some(value) || expected(last).get(key) == Some(value))
            );
        }
        next = last + 1;
    }
    println!(
        "seed {seed}: {kills} kills, {persists} of them after a persist; {next} batches; slowest opening {slowest:?}"
    );
    std::fs::remove_dir_all(directory).expect("it can be removed");
}

#[test]
fn a_killed_process_has_lost_nothing_that_was_persisted() {
    kill_again_and_again(6, 1);
}

/// As often as `MOORMQ_ARCHIVE_KILLS` says.
#[test]
#[ignore = "it takes long: see tests/archive-kills"]
fn many_kills() {
    let kills = std::env::var(KILLS).map_or(100, |kills| kills.parse().expect("a number"));
    kill_again_and_again(kills, fastrand::u64(..1_000_000));
}
