//! `moormq store verify`, and compaction of what is damaged.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::broker::fill;
use super::tool::{files, rows, store, unchanged};

/// The segments of the store that have commits, each with the places of these.
fn commits(path: &Path) -> Vec<(PathBuf, Vec<u64>)> {
    let journal = path.join("journal");
    let names = fs::read_dir(&journal).expect("it can be listed").map(|entry| entry.expect("an entry").path());
    let of = |path: PathBuf| {
        let bytes = fs::read(&path).expect("it can be read");
        let begins = |at: &u64| bytes[*at as usize..].starts_with(b"mqJf");
        let places: Vec<u64> = (4096..bytes.len() as u64).step_by(4096).filter(begins).collect();
        (!places.is_empty()).then_some((path, places))
    };
    names.filter_map(of).collect()
}

/// Where the first record of a commit begins. How long it is depends on what else came at that time: behind it there may be nothing that counts.
const RECORDS: u64 = 40;

fn write(path: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.write_all_at(bytes, at).expect("it can be written");
}

#[test]
fn damage_is_told_with_its_file_and_place_and_a_torn_tail_is_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let said = store("verify", &path, &[]);
    assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");

    // The last commit of a journal is not whole.
    // Which shard has how many of the sessions, and so of the commits, is another one with each store.
    let (segment, places) = commits(&path).into_iter().max_by_key(|(_, places)| places.len()).expect("there are some");
    assert!(places.len() > 3, "{places:?}");
    let name = segment.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let last = *places.last().expect("there are some");
    write(&segment, last + RECORDS, &[0xff; 8]);
    let said = store("verify", &path, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let told = format!("note: journal/{name}: the last commit, 4096 bytes at {last}, is not whole");
    assert!(said.out.contains(&told) && said.out.contains("This is no damage"), "{}", said.out);

    // One that others follow.
    let third = places[2];
    write(&segment, third + RECORDS, &[0xff; 8]);
    let before = files(&path);
    let said = store("verify", &path, &[]);
    assert_eq!(said.code, Some(4), "{said:?}");
    let told = format!("damage: journal/{name}: commits in the 4096 bytes at {third} are damaged and left out");
    assert!(said.out.contains(&told) && said.out.contains("DAMAGED in 1 places"), "{}", said.out);
    let said = store("verify", &path, &["--json"]);
    let notes = said.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("it is JSON"));
    let damages: Vec<_> = notes.filter(|note| note["is_damage"] == true).collect();
    assert!(damages.len() == 1 && damages[0]["file"] == format!("journal/{name}"), "{damages:?}");
    assert!(store("stat", &path, &[]).out.ends_with("DAMAGED: see above\n"));
    assert!(store("dump", &path, &[]).err.contains("damage: journal/"));
    unchanged(&before, &path);

    // Compaction wants to be told, and keeps the evidence.
    let said = store("compact", &path, &[]);
    assert!(said.code == Some(1) && said.err.contains("is damaged, as `moormq store verify` tells"), "{said:?}");
    unchanged(&before, &path);
    let said = store("compact", &path, &["--despite-damage"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(path.join("journal.before").join(&name).exists());
    assert_eq!(store("verify", &path, &[]).code, Some(0));
    assert!(rows(&path).len() > 5);
}

#[test]
fn what_is_wrong_with_other_files_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let told = |told: &str, code: i32| {
        let said = store("verify", &path, &[]);
        assert!(said.code == Some(code) && said.out.contains(told), "{told}: {said:?}");
    };
    fs::write(path.join("journal/0000-00000000.bad"), "x").expect("it can be written");
    told("note: journal/0000-00000000.bad: an earlier start set it aside", 0);
    fs::write(path.join("journal/notes.txt"), "x").expect("it can be written");
    told("note: journal/notes.txt: this is no file of a journal", 0);
    fs::write(path.join("journal/0001-00000099"), vec![7; 8192]).expect("it can be written");
    told("damage: journal/0001-00000099: this is not a segment of a journal, or wholly damaged", 4);
    fs::remove_file(path.join("journal/0001-00000099")).expect("it is there");
    write(&path.join("store"), 30, b"x");
    told("damage: store: one of the two copies in it cannot be read", 4);
    // A shard that had a journal, and has none.
    write(&path.join("store"), 30, &fs::read(path.join("store")).expect("it is there")[4096 + 30..][..1]);
    for name in ["0000-00000000", "0000-00000001", "0000-00000002", "0000-00000003"] {
        let _ = fs::remove_file(path.join("journal").join(name));
    }
    told("note: journal of shard 0: it has no files", 0);
    fs::remove_dir_all(path.join("journal")).expect("it is there");
    told("damage: there is no directory journal. All that was in it is lost", 4);
}
