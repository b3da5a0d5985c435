//! Messages that are in the archive, and no more in a journal.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::thread;

use moormq::archive::{Archive as _, ArchiveKey, Batch};
use moormq::records::{WallClock, WallTime};
use moormq::session::OutgoingMessage;
use moormq::storage::ReadOnlyStore;
use moormq::storage::archive::{ArchiveFile, ArchiveSettings, find_pages, read_messages};
use moormq::time::Time;

use super::broker::{Broker, Client, ROOM, publish, text};
use super::tool::{files, moormq, rows, store, unchanged};

/// So many messages of 8 KB are more than the journals may hold: 16 MiB.
const MANY: usize = 4000;

fn payload(number: usize) -> Vec<u8> {
    [format!("{number:06}").into_bytes(), vec![b'x'; 8000]].concat()
}

#[test]
fn what_is_in_the_archive_is_told_kept_and_delivered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let broker = Broker::start(&path, 1);
    let mut absent = Client::v5(broker.port, "absent", &[]);
    absent.ask(0x82, &[&[0, 1, 0][..], &text("t"), &[1]].concat(), 0x90);
    absent.leave();
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    for number in 0..MANY {
        publisher.ask(0x32, &publish("t", 1, &[0], &payload(number)), 0x40);
    }
    drop(broker);
    let before = files(&path);
    let said = store("verify", &path, &[]);
    assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
    let said = store("stat", &path, &[]);
    assert!(said.out.contains(&format!("messages of sessions: {MANY}, ")), "{}", said.out);
    let Archive { pages, messages, bytes, bytes_on_disk } = archive_of(&path);
    // The journals have the others, all that they can if the archive had fallen behind when the broker was killed.
    assert!(messages > MANY / 3 && pages * 3 < messages && messages <= pages * 4, "{pages} pages, {messages} messages");
    // A page has up to four of them, and takes 32 KiB.
    assert!((messages as u64 * 8000..pages as u64 * 33_000).contains(&bytes), "{bytes}");
    assert!(bytes_on_disk > bytes, "{bytes_on_disk}");
    let numbers = || -> Vec<String> {
        let dumped = rows(&path);
        let rows = dumped.iter().map(|row| serde_json::from_str::<serde_json::Value>(row).expect("it is JSON"));
        let messages = rows.filter(|row| row["row"] == "message");
        let mut numbers: Vec<_> =
            messages.map(|row| row["payload"].as_str().expect("it is text")[..6].to_owned()).collect();
        numbers.sort_unstable();
        numbers
    };
    let expected: Vec<String> = (0..MANY).map(|number| format!("{number:06}")).collect();
    assert_eq!(numbers(), expected);
    unchanged(&before, &path);
    let said = store("compact", &path, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(numbers(), expected);
    // All come, in order, to another number of shards.
    let broker = Broker::start_with(&path, 2, ROOM).sound();
    let mut absent = Client::v5(broker.port, "absent", &[]);
    for number in &expected {
        let (kind, body) = absent.receive();
        assert!(kind == 0x32 && body[6..].starts_with(number.as_bytes()), "{number}: {:?}", &body[..16]);
        absent.send(0x40, &[body[3], body[4]]);
    }
    absent.leave();
    broker.stop();
    assert_eq!(numbers(), [""; 0]);
    assert_eq!(archive_of(&path).pages, 0);
}

/// What `stat` says of the archive.
struct Archive {
    pages: usize,
    messages: usize,
    bytes: u64,
    bytes_on_disk: u64,
}

fn archive_of(path: &Path) -> Archive {
    let said = store("stat", path, &["--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("it is JSON");
    let number = |name: &str| report["archive"][name].as_u64().expect("a number");
    let (pages, messages) = (number("pages"), number("messages"));
    let text = store("stat", path, &[]).out;
    assert!(
        text.contains(&format!("archive: {pages} pages with {messages} messages, {} bytes, ", number("bytes"))),
        "{text}"
    );
    Archive {
        pages: pages as usize,
        messages: messages as usize,
        bytes: number("bytes"),
        bytes_on_disk: number("bytes_on_disk"),
    }
}

/// A few small messages and then large ones: several of the former are in a page. In all more than the journals may hold.
fn mixed(number: usize) -> Vec<u8> {
    let length = if number < 100 { 8000 } else { 100_000 };
    [format!("{number:06}").into_bytes(), vec![b'x'; length]].concat()
}

const MIXED: usize = 300;

/// A store in which these messages wait for a client `absent`. Its broker was killed.
fn waiting(path: &Path) {
    let broker = Broker::start(path, 1);
    subscribed(&broker);
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    for number in 0..MIXED {
        publisher.ask(0x32, &publish("t", 1, &[0], &mixed(number)), 0x40);
    }
}

fn subscribed(broker: &Broker) {
    let mut absent = Client::v5(broker.port, "absent", &[]);
    absent.ask(0x82, &[&[0, 1, 0][..], &text("t"), &[1]].concat(), 0x90);
    absent.leave();
}

/// Takes so many messages of the client `absent`: their numbers.
fn taken(broker: &Broker, many: usize) -> Vec<usize> {
    let mut absent = Client::v5(broker.port, "absent", &[]);
    let mut numbers = Vec::new();
    for _ in 0..many {
        let (kind, body) = absent.receive();
        assert_eq!(kind, 0x32);
        numbers.push(std::str::from_utf8(&body[6..12]).expect("text").parse().expect("a number"));
        absent.send(0x40, &[body[3], body[4]]);
    }
    absent.leave();
    numbers
}

fn numbers_in(messages: &[OutgoingMessage]) -> Vec<usize> {
    let text = |one: &OutgoingMessage| String::from_utf8_lossy(&one.message.payload()[..6]).into_owned();
    messages.iter().map(|one| text(one).parse().expect("a number")).collect()
}

/// Of one page the summary is damaged, of one the page, of one both.
#[test]
fn what_is_damaged_in_the_archive_is_told_with_its_client_and_costs_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    waiting(&path);
    let id = ReadOnlyStore::open(&path).expect("it is a store").facts().id;
    let mut archive =
        ArchiveFile::open(&path.join("archive.redb"), id, ArchiveSettings::default()).expect("it is whole");
    let clock = WallClock::new(Time::ZERO, WallTime::default());
    let mut pages = Vec::new();
    assert_eq!(find_pages(&mut archive, clock, |id, page| pages.push((id, page.keys.first()))), Ok(vec![]));
    let [summary, page, both] = [pages[2], pages[5], pages[8]];
    let mut numbers = |(id, first)| {
        let messages = read_messages(&mut archive, id, first, clock).expect("it can be read").expect("it is whole");
        numbers_in(&messages)
    };
    let (of_summary, of_page, of_both) = (numbers(summary), numbers(page), numbers(both));
    assert!(of_summary.len() > 1 && of_page.len() > 1 && of_both.len() > 1);
    let mut batch = Batch::new();
    for (id, first) in [summary, both] {
        batch.put(ArchiveKey::Summary(id, first), vec![1; 20]);
    }
    for (id, first) in [page, both] {
        batch.put(ArchiveKey::Page(id, first), vec![1; 20]);
    }
    archive.apply(batch.changes()).and_then(|()| archive.persist()).expect("it is written");
    archive.close().expect("it is closed");

    let said = store("verify", &path, &[]);
    assert_eq!(said.code, Some(4), "{said:?}");
    let line = |what: &str| {
        let lines: Vec<_> = said.out.lines().filter(|line| line.contains(what)).collect();
        let [line] = lines[..] else { panic!("{what}: {}", said.out) };
        assert!(line.starts_with("damage: archive.redb: a page of the archive that is none, at byte 0: "), "{line}");
        line
    };
    line(&format!(": {} messages for client absent. The messages are whole", of_summary.len()));
    line(&format!(": {} messages for client absent. They are lost", of_page.len()));
    line(": messages for client absent. They are lost");
    let dumped = store("dump", &path, &["--json"]);
    assert!(
        dumped.err.contains(&format!(
            "at byte 0: its checksum is wrong: it was damaged, or belongs elsewhere: {} messages for client absent",
            of_page.len()
        )),
        "{}",
        dumped.err
    );

    let broker = Broker::start_with(&path, 1, "");
    let line = |level: &str| {
        let lines: Vec<_> = broker.said.iter().filter(|line| line.contains(level)).collect();
        let [line] = lines[..] else { panic!("{level}: {:?}", broker.said) };
        assert!(line.contains("client=absent"), "{line}");
        line
    };
    let mended = line("WARN");
    assert!(mended.contains("are all there") && mended.contains(&format!("messages={}", of_summary.len())), "{mended}");
    assert!(line("ERROR").contains("are lost with a page of the archive"));
    let expected: Vec<_> = (0..MIXED).filter(|number| !of_page.contains(number) && !of_both.contains(number)).collect();
    assert_eq!(taken(&broker, expected.len()), expected);
    let lost = broker.says("are lost with a page of the archive: ");
    let is_told = lost.contains("client=absent") && lost.contains(&format!("messages={}", of_page.len()));
    assert!(is_told && lost.contains("ERROR"), "{lost}");
    broker.stop();
    let said = store("verify", &path, &[]);
    assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
    assert_eq!(archive_of(&path).pages, 0);

    // What it says of its size is wrong, and a page has no summary.
    let file = path.join("archive.redb");
    let mut archive = ArchiveFile::open(&file, id, ArchiveSettings::default()).expect("it is whole");
    let mut batch = Batch::new();
    batch.put(ArchiveKey::Page(page.0, page.1), vec![1; 20]);
    archive.apply(batch.changes()).and_then(|()| archive.persist()).expect("it is written");
    archive.close().expect("it is closed");
    let database = redb::Database::open(&file).expect("it can be opened");
    let write = database.begin_write().expect("it can be written");
    let facts: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("facts");
    let bytes = 12_345_u64.to_le_bytes();
    write.open_table(facts).expect("a table").insert("bytes", &bytes[..]).expect("it is put");
    write.commit().expect("it is committed");
    drop(database);
    let said = store("verify", &path, &[]);
    assert_eq!(said.code, Some(4), "{said:?}");
    // Its key has 15 bytes, its checksum 4.
    let size = "damage: archive.redb: it says that it has 12345 bytes of keys and values, and it has 39\n";
    assert!(said.out.contains(size) && said.out.contains("note: archive.redb: 1 pages have no summary"), "{said:?}");
}

/// The disk does not give what is in the archive: the broker ends, and says why.
#[test]
fn an_archive_that_cannot_be_read_ends_the_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    waiting(&path);
    // Not what it has in memory.
    let broker = Broker::start_with(&path, 1, "archive.cache_size = '1MiB'");
    let mut absent = Client::begin(broker.port);
    let file = OpenOptions::new().write(true).open(path.join("archive.redb")).expect("it is there");
    file.set_len(8192).expect("it can be made shorter");
    let head = [&b"\0\x04MQTT\x05"[..], &[0, 0, 0, 5, 0x11, 0xff, 0xff, 0xff, 0xff]].concat();
    // It may have ended before: if it has something to write there, it finds out by itself.
    let _ = absent.try_send(0x10, &[head, text("absent")].concat());
    let (code, last) = broker.ended();
    drop(absent);
    assert_eq!(code, Some(101), "{last}");
    assert!(
        last.starts_with("moormq: thread shard-0 died: archive ") && last.contains("archive.redb cannot be"),
        "{last}"
    );
    assert!(last.ends_with("; the process ends, with exit status 101"), "{last}");
}

#[test]
fn a_store_with_messages_in_its_archive_is_not_opened_without_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    waiting(&path);
    let without = "archive.enabled = false";
    let (code, last) = Broker::refused(&path, 1, without);
    assert_eq!(code, Some(1), "{last}");
    assert!(last.contains("has messages in its archive") && last.contains("set it to true"), "{last}");
    let config = path.with_extension("toml").display().to_string();
    let checked = moormq(&["check-config", &config]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.err.contains("storage.path") && checked.err.contains("has messages in its archive"), "{checked:?}");
    let broker = Broker::start(&path, 1);
    assert_eq!(taken(&broker, MIXED), (0..MIXED).collect::<Vec<_>>());
    broker.stop();
    // There is nothing in it any more, and it is left alone.
    let before = fs::read(path.join("archive.redb")).expect("it is there");
    let broker = Broker::start_with(&path, 1, without);
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    for number in 0..20 {
        publisher.ask(0x32, &publish("t", 1, &[0], &mixed(number)), 0x40);
    }
    drop(broker);
    let broker = Broker::start_with(&path, 1, without);
    assert_eq!(taken(&broker, 20), (0..20).collect::<Vec<_>>());
    broker.stop();
    let checked = moormq(&["check-config", &config]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(fs::read(path.join("archive.redb")).expect("it is there"), before);
    // A new store has none then.
    let other = directory.path().join("other");
    Broker::start_with(&other, 1, without).stop();
    assert!(!other.join("archive.redb").exists());
}

/// It is not taken for one that never was.
#[test]
fn an_archive_that_is_missing_is_missed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    waiting(&path);
    fs::remove_file(path.join("archive.redb")).expect("it is there");
    let (code, last) = Broker::refused(&path, 1, "");
    assert!(code == Some(1) && last.contains("has lost its archive.redb") && last.contains("from a backup"), "{last}");
    let config = path.with_extension("toml").display().to_string();
    let checked = moormq(&["check-config", &config]);
    assert!(checked.code == Some(1) && checked.err.contains("has lost its archive.redb"), "{checked:?}");
    let verified = store("verify", &path, &[]);
    assert!(verified.code == Some(4) && verified.out.contains("there is no file archive.redb"), "{verified:?}");
    // Who goes on without it is told, and has the rest.
    let broker = Broker::start_with(&path, 1, "archive.enabled = false");
    assert!(broker.said.iter().any(|line| line.contains("is missing: what waited in it is lost")), "{:?}", broker.said);
    broker.stop();
    // From then on there is one again.
    Broker::start(&path, 1).stop();
    assert!(path.join("archive.redb").exists());
    assert_eq!(moormq(&["check-config", &config]).code, Some(0));
}

/// Whichever limit is reached: what was acknowledged is there, and no more is in the archive.
#[test]
fn a_full_archive_has_publishers_wait() {
    for (setting, most, why) in [
        (
            "archive.max_size = '64MiB'\narchive.cache_size = '1MiB'",
            64 << 20,
            "of 67108864: set storage.archive.max_size higher",
        ),
        (
            "archive.min_free = '1024TiB'",
            0,
            "1125899906842624 are to be left free: make room there, or set storage.archive.min_free",
        ),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let broker = Broker::start_with(&path, 1, setting);
        subscribed(&broker);
        let mut publisher = Client::v311(broker.port, "publisher");
        let publishing = thread::spawn(move || {
            let payload = |number: usize| [format!("{number:06}").into_bytes(), vec![b'x'; 500_000]].concat();
            (0..250).try_for_each(|number| {
                publisher.try_send(0x32, &publish("t", number as u16 + 1, &[], &payload(number)))
            })
        });
        let line = broker.says("is full: ");
        assert!(line.contains(why), "{line}");
        drop(broker);
        assert!(publishing.join().expect("no panic").is_err(), "it had to wait");
        let Archive { bytes, .. } = archive_of(&path);
        // What was not persisted when the broker was killed is in journals alone: two batches at most, of 8 MiB together.
        assert!(bytes <= most && bytes + (16 << 20) > most, "{bytes}");
        let said = store("verify", &path, &[]);
        assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
        let waiting = messages_of(&path);
        assert!((10..200).contains(&waiting), "{waiting}");
        let broker = Broker::start(&path, 1);
        assert_eq!(taken(&broker, waiting), (0..waiting).collect::<Vec<_>>());
        broker.stop();
    }
}

fn messages_of(path: &Path) -> usize {
    let report: serde_json::Value = serde_json::from_str(&store("stat", path, &["--json"]).out).expect("it is JSON");
    report["messages"].as_u64().expect("a number") as usize
}
