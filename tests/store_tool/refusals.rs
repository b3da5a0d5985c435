//! What is no store, or is not to be looked at now: each a sentence, and nothing is written.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::broker::{Broker, fill};
use super::tool::{PROGRAM, files, moormq, rows, store, unchanged};

#[test]
fn a_store_in_use_is_left_to_its_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let broker = Broker::start(&path, 1);
    for command in ["stat", "verify", "dump", "compact"] {
        let said = store(command, &path, &[]);
        let who = format!("is used by process {}: stop that first, or look at a copy", broker.id());
        assert!(said.code == Some(1) && said.out.is_empty() && said.err.contains(&who), "{command}: {said:?}");
    }
    broker.stop();
    let config = path.with_extension("toml").display().to_string();
    let said = moormq(&["store", "stat", "--config", &config]);
    assert!(said.code == Some(0) && said.out.contains("sessions: 0"), "{said:?}");
}

#[test]
fn looking_writes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let before = files(&path);
    for (command, more) in [("stat", ""), ("stat", "--json"), ("verify", ""), ("dump", ""), ("dump", "--json")] {
        let more: Vec<&str> = [more].into_iter().filter(|more| !more.is_empty()).collect();
        assert_eq!(store(command, &path, &more).code, Some(0));
    }
    unchanged(&before, &path);
    let of_one = store("dump", &path, &["--client", "five"]);
    assert!(of_one.code == Some(0) && of_one.out.lines().filter(|line| line.starts_with("session ")).count() == 1);
    let of_two = store("dump", &path, &["--client", "plain"]);
    assert_eq!(of_two.out.lines().filter(|line| line.starts_with("session ")).count(), 2, "in two mountpoints");
    assert_eq!(store("dump", &path, &["--client", "nobody"]).code, Some(3));
    assert_eq!(rows(&path).iter().filter(|row| row.contains("\"row\":\"session\"")).count(), 7);
}

#[test]
fn what_is_no_store_is_a_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let refused = |path: &Path, told: &str| {
        let said = store("stat", path, &[]);
        assert!(
            said.code == Some(1) && said.err.starts_with("moormq: storage ") && said.err.contains(told),
            "{said:?}"
        );
    };
    refused(&directory.path().join("nothing"), "cannot be found: No such file or directory");
    refused(directory.path(), "has no store");
    fs::write(directory.path().join("file"), "").expect("it can be written");
    refused(&directory.path().join("file"), "is not a directory");
    refused(directory.path(), "is neither empty nor a store of this broker");
    let said = moormq(&["store", "stat"]);
    assert_eq!(said.code, Some(2), "{said:?}");
}

/// What an archive has is not in the journals: if it cannot be read, they are not taken for everything.
#[test]
fn a_store_with_a_damaged_archive_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    fs::write(path.join("archive.redb"), "no archive").expect("it can be written");
    let before = files(&path);
    for what in ["compact", "stat", "verify", "dump"] {
        let said = store(what, &path, &[]);
        let is_told =
            said.err.contains("archive.redb cannot be opened: it is") && said.err.contains("restore it from a backup");
        assert!(said.code == Some(1) && is_told, "{what}: {said:?}");
    }
    let checked = moormq(&["check-config", &path.with_extension("toml").display().to_string()]);
    assert!(checked.code == Some(1) && checked.err.contains("archive.redb cannot be opened"), "{checked:?}");
    unchanged(&before, &path);
}

/// The file `store` and the directory as they should not be: by the program that runs a broker, and by that which looks.
#[test]
fn a_start_on_what_cannot_be_used_is_a_sentence_and_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let facts = fs::read(path.join("store")).expect("it is there");
    let start = |told: &str| {
        let (code, last) = Broker::refused(&path, 2, "");
        assert!(code == Some(1) && last.contains(told), "{told}: {last}");
    };
    let both = |told: &str| {
        start(told);
        let said = store("stat", &path, &[]);
        assert!(said.code == Some(1) && said.err.contains(told), "{told}: {said:?}");
    };
    let with = |places: [usize; 2], byte: u8| {
        let mut bytes = facts.clone();
        places.iter().for_each(|at| bytes[*at] = byte);
        fs::write(path.join("store"), bytes).expect("it can be written");
    };
    with([12, 4096 + 12], 9);
    both("has version 9 of the format, and this program reads version 1: use the program that wrote it");
    with([0, 4096], b'x');
    both("was not written by this broker: name another directory");
    // Its id says another thing in each copy, and so both have the wrong checksum: none of the bytes may happen to be what it was.
    let wrong = (0..=u8::MAX).find(|byte| *byte != facts[30] && *byte != facts[4096 + 31]).expect("there are 256");
    with([30, 4096 + 31], wrong);
    both("is damaged in both its copies, and without it nothing can be read. Restore it from a backup");
    fs::write(path.join("store"), &facts[..100]).expect("it can be written");
    both("is damaged in both its copies");
    fs::remove_file(path.join("store")).expect("it is there");
    both("has journals, but the file store is missing");
    fs::write(path.join("store"), &facts).expect("it can be written");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    start("is open to other users (mode 755), and messages are in it");
    fs::set_permissions(&path, Permissions::from_mode(0o700)).expect("it is ours");

    // The journals of another store: they are left alone, and that is told.
    let other = directory.path().join("other");
    fill(&other);
    fs::rename(path.join("journal"), directory.path().join("own")).expect("it is there");
    fs::rename(other.join("journal"), path.join("journal")).expect("it is there");
    let said = store("verify", &path, &[]);
    assert!(said.out.contains("this belongs to another store, "), "{said:?}");
    let before = files(&path.join("journal"));
    drop(Broker::start(&path, 2));
    let after = files(&path.join("journal"));
    assert!(before.iter().all(|file| after.contains(file)), "they are as they were");
}

/// Not even root writes to it. (Where it cannot be mounted, nothing is shown.)
#[test]
fn a_directory_that_is_read_only_can_be_looked_at_and_not_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let script = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}' && '{PROGRAM}' store verify '{0}' && \
         '{PROGRAM}' --listen 127.0.0.1:0 --shards 2 --data '{0}'",
        path.display()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("there is unshare");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !String::from_utf8_lossy(&output.stdout).contains("no damage") {
        return eprintln!("nothing can be mounted here: {said}");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Read-only file system") && said.contains("Mount it for writing"), "{said}");
}
