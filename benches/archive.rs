//! What the archive costs: of a processor, of the disk, of memory, and how long others wait.
//!
//! `cargo bench --bench archive -- WHAT DIRECTORY`. It writes some gigabytes there, and removes them. CPU is that of the process, the kernel's
//! part for it included. WHAT is:
//!
//! * `pages BYTES ALIVE TOTAL [CACHE]`: pages of so many bytes are put, for 10,000 sessions in turn; so that ALIVE MB are there, each is deleted when it is the oldest.
//!   TOTAL MB are put. As many are persisted at once as the thread does under load.
//! * `restart SESSIONS PAGES BYTES`: sessions with two subscriptions each, and pages. A process that is killed writes them; how long opening takes, and
//!   reading all sessions, with the file not in memory.
//! * `reads MB`: how long a read takes while so many MB are written, as fast as it goes.

use std::collections::VecDeque;
use std::fs;
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use moormq::archive::{Answer, Archive, ArchiveKey, Batch, GATHERED_BYTES, Limits, Orders, Read, Refused, Span};
use moormq::journal::StoreId;
use moormq::session::{Key, StoreNumber};
use moormq::storage::archive::{ArchiveFile, ArchiveSettings, ArchiveThread};

/// The bytes of a message.
const MESSAGE: f64 = 182.0;

fn session(counter: u32) -> StoreNumber {
    StoreNumber::new(1, 0, counter)
}

/// Seconds of a processor.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("it can be read");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

/// A line of a file of this process.
fn number(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/self/{file}")).expect("it can be read");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("there is such a line");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

fn opened(directory: &Path, cache: usize) -> ArchiveFile {
    let settings = ArchiveSettings { cache, ..ArchiveSettings::default() };
    ArchiveFile::open(&directory.join("archive.redb"), StoreId([1; 16]), settings)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Some page, that is no other one.
fn page(number: u64, bytes: usize) -> Vec<u8> {
    let mut page = vec![number as u8; bytes];
    let length = bytes.min(8);
    page[..length].copy_from_slice(&number.to_le_bytes()[..length]);
    page
}

fn pages(directory: &Path, bytes: usize, alive: usize, total: usize, cache: usize) {
    let mut archive = opened(directory, cache);
    let mut live = VecDeque::new();
    let (mut put, mut number_of_page, mut is_warm) = (0, 0_u64, false);
    let (mut from, mut measured, mut slowest) =
        ((cpu(), number("io", "write_bytes:"), Instant::now()), 0_u64, Duration::ZERO);
    while put < total {
        if !is_warm && put >= alive {
            // From here on as many pages are deleted as are put.
            (from, measured, is_warm) = ((cpu(), number("io", "write_bytes:"), Instant::now()), 0, true);
        }
        let mut batch = Batch::new();
        while batch.put_bytes() < GATHERED_BYTES {
            let owner = session((number_of_page * 7919 % 10_000) as u32);
            let first = Key::new(number_of_page);
            batch.put_page(owner, first, vec![0; 12], page(number_of_page, bytes));
            live.push_back((owner, first));
            number_of_page += 1;
            measured += 1;
            if live.len() * bytes > alive
                && let Some((owner, first)) = live.pop_front()
            {
                batch.delete_page(owner, first);
            }
        }
        put += batch.put_bytes();
        let began = Instant::now();
        archive.apply(batch.changes()).expect("it is applied");
        archive.persist().expect("it is persisted");
        slowest = slowest.max(began.elapsed());
    }
    let (cpu, written, seconds) = (
        (cpu() - from.0) * 1e6 / measured as f64,
        number("io", "write_bytes:") - from.1,
        from.2.elapsed().as_secs_f64(),
    );
    let began = Instant::now();
    let mut read = 0_u32;
    for (owner, first) in live.iter().rev().take(2000) {
        read += u32::from(archive.read(ArchiveKey::Page(*owner, *first)).expect("it can be read").is_some());
    }
    let read = began.elapsed().as_secs_f64() * 1e6 / f64::from(read.max(1));
    println!(
        "pages of {bytes}, {} MB of them alive: {cpu:.1} µs of CPU for each put and deleted, {:.3} for a message; {:.2} bytes written for each; {:.0} MB/s; \
         slowest batch {:.0} ms; {read:.0} µs to read one that is in memory; {} MB resident (most {}), {} MB of disk",
        alive >> 20,
        cpu * MESSAGE / bytes as f64,
        written as f64 / (measured * bytes as u64) as f64,
        (measured * bytes as u64) as f64 / 1e6 / seconds,
        slowest.as_secs_f64() * 1e3,
        number("status", "RssAnon:") >> 10,
        number("status", "VmHWM:") >> 10,
        archive.bytes_on_disk() >> 20,
    );
}

fn fill(directory: &Path, sessions: u32, pages: u64, bytes: usize) {
    let mut archive = opened(directory, 32 << 20);
    let mut number_of_page = 0;
    for own in 0..sessions {
        let mut batch = Batch::new();
        batch.put(ArchiveKey::Session(session(own)), vec![1; 120]);
        batch.put(ArchiveKey::Subscription(session(own), &format!("devices/{own}/commands/#")), vec![2; 4]);
        batch.put(ArchiveKey::Subscription(session(own), "news/#"), vec![2; 4]);
        while number_of_page * u64::from(sessions) < pages * u64::from(own + 1) {
            batch.put_page(session(own), Key::new(number_of_page), vec![3; 12], page(number_of_page, bytes));
            number_of_page += 1;
        }
        archive.apply(batch.changes()).expect("it is applied");
        if own % 100 == 99 && own + 1 < sessions {
            archive.persist().expect("it is persisted");
        }
    }
    println!(
        "{number_of_page} pages: {} MB resident (most {})",
        number("status", "RssAnon:") >> 10,
        number("status", "VmHWM:") >> 10
    );
    // Killed: what was not persisted is lost, and nothing is closed.
    let _ = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
}

fn restart(directory: &Path, sessions: u32, pages: u64, bytes: usize) {
    let program = std::env::current_exe().expect("this program");
    let arguments = [
        "fill".to_owned(),
        directory.display().to_string(),
        sessions.to_string(),
        pages.to_string(),
        bytes.to_string(),
    ];
    let _ = Command::new(program).args(arguments).status();
    let file = fs::File::open(directory.join("archive.redb")).expect("it is there");
    file.sync_all().expect("it can be synced");
    rustix::fs::fadvise(&file, 0, None::<NonZeroU64>, rustix::fs::Advice::DontNeed).expect("it can be forgotten");
    let began = Instant::now();
    let mut archive = opened(directory, 32 << 20);
    let open = began.elapsed();
    let began = Instant::now();
    let (mut seen, mut summaries) = (0, 0);
    let mut look = |(key, _): moormq::archive::Found<'_>| {
        seen += 1;
        summaries += u64::from(matches!(key, ArchiveKey::Summary(..)));
        ControlFlow::Continue(())
    };
    archive.scan(&Span::sessions(), &mut look).expect("it can be read");
    let scan = began.elapsed();
    let began = Instant::now();
    archive.scan(&Span::sessions(), &mut |_| ControlFlow::Continue(())).expect("it can be read");
    let again = began.elapsed();
    let began = Instant::now();
    let first = Span::pages(session(sessions / 2));
    archive.scan(&first, &mut |_| ControlFlow::Break(())).expect("it can be read");
    println!(
        "{sessions} sessions, {summaries} pages of {bytes}: opened in {open:?} after kill -9, {seen} keys of sessions in {scan:?}, once more in {again:?}, first page of one in {:?}; \
         {} MB resident (most {}), {} MB of disk",
        began.elapsed(),
        number("status", "RssAnon:") >> 10,
        number("status", "VmHWM:") >> 10,
        archive.bytes_on_disk() >> 20,
    );
}

fn reads(directory: &Path, megabytes: u64) {
    const BYTES: usize = moormq::archive::PAGE_BYTES;
    let archive = opened(directory, 32 << 20);
    let (sender, answers) = channel();
    let to_reader = sender.clone();
    let limits = Limits::default();
    let mut orders = [0, 1].map(|shard| Orders::new(shard, limits));
    let (thread, door, _control) = ArchiveThread::start(
        archive,
        limits,
        vec![
            Box::new(move |answer| drop(sender.send((0, answer)))),
            Box::new(move |answer| drop(to_reader.send((1, answer)))),
        ],
    )
    .expect("there are threads");
    let (mut next, mut persisted, total) = (0_u64, 0_u64, (megabytes << 20) / BYTES as u64);
    let mut batches = VecDeque::new();
    let (mut waits, mut asked) = (Vec::new(), None::<Instant>);
    let mut kept = None;
    let mut random = fastrand::Rng::with_seed(1);
    let began = Instant::now();
    while persisted < total {
        let batch = kept.take().unwrap_or_else(|| {
            let mut batch = Batch::new();
            for _ in 0..8 {
                batch.put_page(session((next % 10_000) as u32), Key::new(next), vec![0; 12], page(next, BYTES));
                next += 1;
            }
            batch
        });
        match orders[0].write(batch) {
            Ok((ticket, order)) => {
                door.give(order).expect("the thread lives");
                batches.push_back((ticket, next));
            }
            Err((Refused::Busy, batch)) => kept = Some(batch),
            Err((refused, _)) => panic!("{refused:?}"),
        }
        if asked.is_none() && persisted > 0 {
            let wanted = random.u64(..persisted);
            let key = ArchiveKey::Page(session((wanted % 10_000) as u32), Key::new(wanted));
            door.give(orders[1].read(wanted, Read::of(key)).expect("one at a time")).expect("the thread lives");
            asked = Some(Instant::now());
        }
        let answer = match kept {
            Some(_) => answers.recv().ok(),
            None => answers.try_recv().ok(),
        };
        let Some((shard, answer)) = answer else { continue };
        orders[shard].answered(&answer);
        match answer {
            Answer::Persisted(up_to) => {
                let count = batches.partition_point(|(ticket, _)| *ticket <= up_to);
                persisted = batches.drain(..count).next_back().map_or(persisted, |(_, end)| end);
            }
            Answer::Read { result, .. } => {
                assert!(result.expect("it can be read").is_some());
                waits.extend(asked.take().map(|asked| asked.elapsed()));
            }
            other => panic!("{other:?}"),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    waits.sort_unstable();
    let part = |per_mille: usize| waits[(waits.len() - 1) * per_mille / 1000];
    println!(
        "{} reads of {BYTES} bytes while {megabytes} MB were written ({:.0} MB/s): p50 {:?}, p99 {:?}, most {:?}; {} MB resident (most {})",
        waits.len(),
        (persisted * BYTES as u64) as f64 / 1e6 / seconds,
        part(500),
        part(990),
        part(1000),
        number("status", "RssAnon:") >> 10,
        number("status", "VmHWM:") >> 10,
    );
    thread.stop();
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [what, directory, numbers @ ..] = &arguments[..] else {
        eprintln!("cargo bench --bench archive -- pages|restart|reads DIRECTORY NUMBERS: see the source");
        return ExitCode::SUCCESS;
    };
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse().expect("a number")).collect();
    let directory = Path::new(directory).join("archive-bench");
    if what == "fill" {
        fill(directory.parent().expect("it has one"), numbers[0] as u32, numbers[1] as u64, numbers[2]);
        return ExitCode::FAILURE;
    }
    fs::create_dir(&directory).expect("there is none yet");
    match (&what[..], &numbers[..]) {
        ("pages", [bytes, alive, total, rest @ ..]) => {
            pages(&directory, *bytes, alive << 20, total << 20, rest.first().copied().unwrap_or(32) << 20);
        }
        ("restart", [sessions, pages, bytes]) => restart(&directory, *sessions as u32, *pages as u64, *bytes),
        ("reads", [megabytes]) => reads(&directory, *megabytes as u64),
        _ => eprintln!("pages BYTES ALIVE TOTAL [CACHE], restart SESSIONS PAGES BYTES, reads MB"),
    }
    fs::remove_dir_all(&directory).expect("it can be removed");
    ExitCode::SUCCESS
}
