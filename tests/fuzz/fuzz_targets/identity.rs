//! The file that says whose store a directory is, damaged: it is refused, or read, and what is written then is read again. The numbers that journals go on
//! with never fall, and whoever looks at the store sees the same.
//!
//! `tests/fuzz/run identity`

#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moormq::journal::{BLOCK, Floor, Journal, Settings};
use moormq::storage::{ReadOnlyStore, StoreDirectory};
use moormq_fuzz::choices::Choices;
use moormq_fuzz::directory;

static PLACE: LazyLock<PathBuf> = LazyLock::new(|| directory().join("store"));

fn open() -> Option<StoreDirectory> {
    StoreDirectory::open_or_create(&PLACE, 7).map_err(|error| error.to_string()).ok()
}

/// A store that so many shards have had.
fn make(shards: u32) {
    let _ = fs::remove_dir_all(&*PLACE);
    let mut store = open().expect("it can be made");
    store.begin_boot().expect("it is the first");
    let floor = |shard| (shard, Floor { generation: 1 << 32, number: 1 << 40 });
    store.raise_floors(&(0..shards).map(floor).collect()).expect("it can be written");
}

/// Makes the checksums of both copies right, as far as they say how long they are.
fn forge_checksums(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    for copy in <[&mut [u8]; 2]>::from(bytes.split_at_mut(middle)) {
        let length =
            copy.get(16..20).and_then(|length| length.first_chunk()).map_or(0, |length| u32::from_le_bytes(*length));
        if let Some(summed) = copy.get(12..length as usize) {
            let checksum = crc32c::crc32c(summed);
            copy[8..12].copy_from_slice(&checksum.to_le_bytes());
        }
    }
}

// Bytes for the number of shards, and whether checksums are made right; then comes damage, at most places of both copies alike.
fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    make(choices.below(200) as u32);
    let (is_forged, file) = (choices.flag(), PLACE.join("store"));
    let mut bytes = fs::read(&file).expect("it is there");
    while !choices.0.is_empty() {
        match choices.below(4) {
            0 => bytes.truncate(choices.word()),
            1 => choices.damage(&mut bytes),
            _ => {
                let half = bytes.len() / 2 / BLOCK * BLOCK;
                choices.damage(&mut bytes[..half]);
                bytes.copy_within(..half, half);
            }
        }
    }
    if is_forged {
        forge_checksums(&mut bytes);
    }
    fs::write(&file, &bytes).expect("there is room");
    let seen = ReadOnlyStore::open(&PLACE).map(|store| (store.facts().clone(), store.shards()));
    let Some(mut store) = open() else { return assert!(seen.is_err()) };
    assert_eq!(seen.map(|(facts, _)| facts).ok().as_ref(), Some(store.facts()));
    let Ok(boot) = store.begin_boot() else { return };
    let mut floors = BTreeMap::new();
    for shard in 0..3 {
        let recovered = store.recover(shard, |_| {}).expect("it can be read").recovered;
        let settings = Settings::new(store.facts().id, shard).check().expect("they hold");
        let Ok(journal) = Journal::new(settings, recovered, boot.into()) else { return };
        let before = store.facts().floors.get(&shard).copied().unwrap_or_default();
        assert!(journal.floor().generation > before.generation && journal.floor().number > before.number);
        floors.insert(shard, journal.floor());
    }
    store.raise_floors(&floors).expect("it can be written");
    store.set_archive(true).expect("it can be written");
    store.forget_earlier_boots().expect("it can be written");
    let facts = store.facts().clone();
    drop(store);
    assert_eq!(open().as_ref().map(StoreDirectory::facts), Some(&facts), "it is read again");
});
