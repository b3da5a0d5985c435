//! A store that an earlier version has written is read by this one, and says the same: what is in `stores/`.
//!
//! | file | what |
//! |---|---|
//! | `v1.tar.gz` | a store of two shards, written by a broker of format 1 that was killed: all that `broker::fill` does |
//! | `v1.jsonl` | what `moormq store dump --json` said of it then |
//!
//! A version that changes the format adds a pair, by the ignored test below, and leaves those that are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::broker::{Broker, Client, fill};
use super::tool::store;

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_tool/stores")
}

fn tar(args: &[&str], directory: &Path) {
    let status = Command::new("tar").args(args).arg("-C").arg(directory).arg("store").status();
    assert!(status.expect("there is tar").success());
}

#[test]
fn a_store_of_each_version_says_what_it_said() {
    for version in ["v1"] {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = stores().join(format!("{version}.tar.gz"));
        tar(&["xzpf", &archive.display().to_string(), "--no-same-owner"], directory.path());
        let path = directory.path().join("store");
        let said = store("dump", &path, &["--json"]);
        assert_eq!((said.code, &*said.err), (Some(0), ""));
        let expected = fs::read_to_string(stores().join(format!("{version}.jsonl"))).expect("it is there");
        assert_eq!(said.out, expected);
        assert_eq!(store("verify", &path, &[]).code, Some(0));

        let broker = Broker::start(&path, 2);
        assert!(broker.read.contains("sessions=7 messages=8 retained=2"), "{}", broker.read);
        let mut plain = Client::v311(broker.port, "plain");
        let payloads = [&b"first"[..], b"second", &[0, 255, 1], b"not released"];
        for payload in payloads {
            let (kind, body) = plain.receive();
            assert!(kind & 0xf0 == 0x30 && body.ends_with(payload), "{kind:x} {body:?}");
        }
    }
}

/// Writes a store of this version, and what it says: `cargo test --test store_tool writes_a_store -- --ignored`.
#[test]
#[ignore = "it writes what the other test reads"]
fn writes_a_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let said = store("dump", &path, &["--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    fs::create_dir_all(stores()).expect("it can be made");
    let archive = stores().join("new.tar.gz").display().to_string();
    tar(&["czf", &archive, "--sparse", "--hole-detection=raw", "--owner=0", "--group=0"], directory.path());
    fs::write(stores().join("new.jsonl"), said.out).expect("it can be written");
}
