//! The file of an archive, damaged: opening it is refused, or gives an archive that works. What is read of it then was put. The library that reads it
//! may panic, and may not end the process with that, or never end.
//!
//! `tests/fuzz/run archive`

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::panic::{set_hook, take_hook};
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moormq::archive::{Archive, ArchiveKey, Batch, Found, Span};
use moormq::codec::QoS;
use moormq::journal::StoreId;
use moormq::message::Publication;
use moormq::numbers::StoreNumber;
use moormq::records::{NewPage, PageBuilder, WallClock, WallTime};
use moormq::session::{Key, OutgoingMessage, SubscriptionIds};
use moormq::storage::archive::{ArchiveFile, ArchiveSettings, copy_archive, find_pages, mend_pages};
use moormq::time::Time;
use moormq::topic::TopicName;
use moormq_fuzz::choices::Choices;
use moormq_fuzz::directory;

const STORE: StoreId = StoreId([7; 16]);
const SETTINGS: ArchiveSettings = ArchiveSettings { cache: 1 << 20, most: u64::MAX, reserve: 0 };
const CLOCK: WallClock = WallClock::new(Time::ZERO, WallTime::from_millis(1_700_000_000_000));
/// What a disk writes wholly or not at all, and what the library does.
const BLOCK: usize = 512;
const PAGE: usize = 4096;

/// Keys and their values.
type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// A file as its broker has closed it, one as it was when its broker was killed, and what is in both or [put later](last_batch).
struct Sound {
    files: [Vec<u8>; 2],
    values: Values,
}

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| directory().join("archive.redb"));

static SOUND: LazyLock<Sound> = LazyLock::new(|| {
    let mut archive = ArchiveFile::open(&PLACE, STORE, SETTINGS).expect("it can be made");
    for (session, messages) in (1..8).zip([1, 2, 9, 30, 200, 3, 4]) {
        for page in 0..session {
            let mut batch = Batch::new();
            put_page(&mut batch, session, u64::from(page) * 500, messages);
            archive.apply(batch.changes()).expect("it is applied");
        }
        archive.persist().expect("it is persisted");
    }
    let killed = fs::read(&*PLACE).expect("it is there");
    archive.close().expect("it is closed");
    let closed = fs::read(&*PLACE).expect("it is there");
    let mut archive = ArchiveFile::open(&PLACE, STORE, SETTINGS).expect("it can be opened");
    let mut values = values_of(&mut archive);
    assert!(values.len() == 56, "28 pages, each with its summary");
    archive.apply(last_batch().changes()).expect("it is applied");
    values.extend(values_of(&mut archive));
    Sound { files: [closed, killed], values }
});

/// Puts a page, and deletes one.
fn last_batch() -> Batch {
    let mut batch = Batch::new();
    put_page(&mut batch, 9, 1, 40);
    batch.delete_page(StoreNumber::new(1, 0, 7), Key::new(0));
    batch
}

fn put_page(batch: &mut Batch, session: u32, first: u64, messages: u64) {
    let id = StoreNumber::new(1, 0, session);
    let mut page = PageBuilder::new(id, 16 << 10);
    for key in first..first + messages {
        let payload = vec![key as u8; 10 + 40 * session as usize];
        let message = Publication::new(TopicName::trusted("a"), &payload).keep();
        let (qos, ids) = (QoS::AtLeastOnce, SubscriptionIds::new());
        page.push(&OutgoingMessage { message, qos, retain: false, key: Key::new(key), ids, group: None }, CLOCK);
    }
    let NewPage { stored, value, summary } = page.finish().expect("it has messages");
    batch.put_page(id, stored.keys.first(), summary, value);
}

/// All that can be read.
fn values_of(archive: &mut impl Archive) -> Values {
    let mut values = Values::new();
    for span in [Span::sessions(), Span::retained(), Span::all_pages()] {
        let look = &mut |(key, value): Found<'_>| {
            values.extend(value.ok().map(|value| (key.to_bytes(), value.to_vec())));
            ControlFlow::Continue(())
        };
        let _ = archive.scan(&span, look);
    }
    values
}

/// Changes some of a file.
fn damage(choices: &mut Choices<'_>, file: &mut Vec<u8>) {
    let (kind, blocks) = (choices.byte(), file.len() / BLOCK);
    if blocks == 0 {
        return file.clear();
    }
    let (at, other) = (choices.word() % blocks * BLOCK, choices.word() % blocks * BLOCK);
    match kind % 8 {
        0 => file.truncate(at),
        1 => file[at..at + BLOCK].fill(0),
        2 => file.copy_within(other..other + BLOCK, at),
        3 => {
            // A page of the library, as it is written and read.
            let (to, from) = (at / PAGE * PAGE, other / PAGE * PAGE);
            if to.max(from) + PAGE <= file.len() {
                file.copy_within(from..from + PAGE, to);
            }
        }
        4 => {
            let more = file.len() + other;
            file.resize(more.min(8 << 20), 0);
        }
        5 => choices.damage(&mut file[..BLOCK]),
        _ => {
            let place = choices.word() % BLOCK;
            for (byte, piece) in file[at + place..].iter_mut().zip(choices.bytes()) {
                *byte ^= piece;
            }
        }
    }
}

/// Makes the checksums right of what the file says of its last two transactions.
fn forge_checksums(file: &mut [u8]) {
    for at in [64, 192] {
        if let Some((said, checksum)) = file.get_mut(at..at + 128).and_then(|slot| slot.split_last_chunk_mut()) {
            *checksum = xxhash_rust::xxh3::xxh3_128(said).to_le_bytes();
        }
    }
}

/// Does all with it that a broker does. Whether it could be opened.
fn use_it(values: &Values) -> bool {
    let Ok(mut archive) = ArchiveFile::open(&PLACE, STORE, SETTINGS) else { return false };
    let found = find_pages(&mut archive, CLOCK, |_, _| {});
    assert!(values_of(&mut archive).iter().all(|(key, value)| values.get(key) == Some(value)), "it was put");
    for key in values.keys().filter_map(|key| ArchiveKey::from_bytes(key)) {
        let read = archive.read(key).ok().flatten();
        assert!(read.is_none_or(|read| values.get(&key.to_bytes()).is_some_and(|value| *value == *read)), "it was put");
    }
    let copy = PLACE.with_extension("copy");
    if let Ok(snapshot) = archive.snapshot() {
        let _ = copy_archive(&snapshot, &copy, STORE, &mut |_| true);
    }
    let _ = fs::remove_file(&copy);
    let _ = found.and_then(|damaged| mend_pages(&mut archive, &damaged));
    let is_put = archive.apply(last_batch().changes()).and_then(|()| archive.persist());
    let _ = archive.keys();
    if is_put.is_ok() {
        let _ = archive.close();
    }
    true
}

/// Panics of the library are caught where it is called; all others end the process, and say why.
fn pass_over_panics_of_the_library() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|place| place.file().contains("/redb-")) {
            tell(panic);
        }
    }));
}

// A byte says which of the files, and whether checksums are made right; then come pieces of damage.
fuzz_target!(init: pass_over_panics_of_the_library(), |input: &[u8]| {
    let Sound { files, values } = &*SOUND;
    let mut choices = Choices(input);
    let (file, is_forged) = (choices.below(2), choices.flag());
    let mut bytes = files[file].clone();
    while !choices.0.is_empty() {
        damage(&mut choices, &mut bytes);
    }
    if is_forged {
        forge_checksums(&mut bytes);
    }
    fs::write(&*PLACE, &bytes).expect("there is room");
    if let Ok(mut archive) = ArchiveFile::look_at(&PLACE, STORE) {
        values_of(&mut archive);
        let _ = archive.verify();
    }
    if use_it(values) {
        use_it(values);
    }
});
