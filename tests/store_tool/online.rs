//! `moormq ctl store`: the store of a broker that runs.

use std::process::Command;

use serde_json::Value;

use super::broker::{Broker, Client, publish, text};
use super::tool::PROGRAM;

fn sum(status: &Value, key: &str) -> u64 {
    let shards = status["shards"].as_array().expect("a list");
    shards.iter().map(|shard| shard[key].as_u64().expect("a number")).sum()
}

/// Sessions `NAME-0` and so on that are away, each with so many messages of this size, and half as many of them retained.
fn fill(broker: &Broker, sessions: usize, messages: usize, size: usize) {
    for session in 0..sessions {
        let mut absent = Client::v5(broker.port, &format!("absent-{session}"), &[]);
        absent.ask(0x82, &[&[0, 1, 0][..], &text(&format!("to/{session}")), &[1]].concat(), 0x90);
        absent.leave();
    }
    let mut publisher = Client::v311(broker.port, "publisher");
    for number in 0..messages {
        for session in 0..sessions {
            let payload = [format!("{session:03} {number:06}").into_bytes(), vec![b'x'; size]].concat();
            publisher.ask(0x32, &publish(&format!("to/{session}"), 1, &[], &payload), 0x40);
        }
    }
    for session in (0..sessions).step_by(2) {
        publisher.ask(0x33, &publish(&format!("kept/{session}"), 1, &[], b"kept"), 0x40);
    }
    publisher.leave();
}

#[test]
fn what_a_running_store_has_is_told() {
    for shards in [1, 2, 4] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let broker = Broker::start(&path, shards);
        fill(&broker, 10, 3, 100);
        let status = broker.ctl_json(&["store"]);
        assert_eq!(status["path"].as_str(), path.to_str());
        assert_eq!(status["shards"].as_array().expect("a list").len(), shards as usize);
        // The publisher has one as well.
        let counts = ["sessions", "messages", "retained"].map(|key| sum(&status, key));
        assert_eq!(counts, [11, 30, 5], "{status}");
        assert!(sum(&status, "waiting_bytes") >= 3000 && sum(&status, "retained_bytes") >= 20, "{status}");
        assert_eq!(sum(&status, "journal_limit"), u64::from(shards) * (16 << 20));
        let on_disk = sum(&status, "journal_bytes");
        assert!(on_disk > 0 && on_disk <= sum(&status, "journal_limit"), "{status}");
        assert!(sum(&status, "commits") > 0 && sum(&status, "segments_in_use") > 0, "{status}");
        for shard in status["shards"].as_array().expect("a list") {
            assert_eq!((&shard["publishers_wait"], &shard["segments"]), (&false.into(), &4.into()), "{shard}");
            assert!(shard["last_commit_us"].as_u64().is_some_and(|micros| micros > 0), "{shard}");
        }
        assert_eq!(status["archive"]["pages"], 0, "{status}");
        let table = broker.ctl(&["store"]);
        let lines: Vec<&str> = table.out.lines().collect();
        assert_eq!(lines[0], format!("store {}", path.display()));
        assert!(
            lines[2].starts_with("shard  journal MiB  limit  segments  of  commit us  sessions  messages"),
            "{lines:?}"
        );
        let last = lines[if shards == 1 { 3 } else { 3 + shards as usize }];
        let words: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(words[0], if shards == 1 { "0" } else { "all" }, "{table:?}");
        assert_eq!((words[6..8].join(" "), words[9], words[11]), ("11 30".to_owned(), "5", "no"), "{table:?}");
        assert!(lines.last().is_some_and(|last| last.starts_with("archive: ") && last.ends_with(" MiB, 0 pages")));
        broker.stop();
    }
}

#[test]
fn a_broker_without_a_store_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, config) = (directory.path().join("control"), directory.path().join("moormq.toml"));
    let text =
        format!("shards = 2\ncontrol.socket = '{}'\nlisteners.default.address = '127.0.0.1:0'\n", socket.display());
    std::fs::write(&config, text).expect("it can be written");
    let mut broker = Command::new(PROGRAM).arg("--config").arg(&config).spawn().expect("the program can be run");
    let ask = || super::tool::moormq(&["ctl", "--socket", socket.to_str().expect("a path"), "store"]);
    let said = std::iter::repeat_with(ask).find(|said| !said.err.contains("there is none: is a broker running"));
    let said = said.expect("it starts");
    let _ = broker.kill();
    let _ = broker.wait();
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("this broker keeps nothing on disk: its configuration sets no storage.path"), "{said:?}");
}
