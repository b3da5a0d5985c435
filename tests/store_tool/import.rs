//! `moormq store import` of what Mosquitto 2.0.11 of Debian has written, when `mosquitto/fill.py` had filled it: `mosquitto/v6.db`.

use std::fs;
use std::path::{Path, PathBuf};

use super::broker::{Broker, Client, fill};
use super::tool::{Said, files, moormq, rows, store, unchanged};

fn database() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store_tool/mosquitto/v6.db")
}

fn import(file: &Path, path: &Path, more: &[&str]) -> Said {
    let named = [file, path].map(|path| path.to_str().expect("a path of the test"));
    moormq(&[&["store", "import", "--shards", "2"][..], &named, more].concat())
}

#[test]
fn clients_of_mosquitto_get_what_is_theirs() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let said = import(&database(), &path, &[]);
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    let expected = [
        "taken: 2 messages in flight",
        "taken: 1 messages of QoS 2 from clients, taken and not released: published now",
        "taken: 1 messages of QoS 2 that clients have, PUBREL not answered",
        "taken: 7 messages that wait",
        "taken: 3 retained messages",
        "taken: 3 sessions",
        "taken: 5 subscriptions",
        "left out: 1 messages of QoS 0, which are not stored",
        "left out: 1 user names that are none, of sessions that are taken",
    ];
    let (counts, rest): (Vec<&str>, Vec<&str>) = said.out.lines().partition(|line| !line.starts_with('/'));
    assert_eq!(counts, expected);
    assert!(
        rest.len() == 1 && rest[0].ends_with(": 3 sessions, 12 messages, 3 retained messages are in the store now")
    );
    assert_eq!(store("verify", &path, &[]).code, Some(0));

    let broker = Broker::start(&path, 2);
    let mut plain = Client::v311(broker.port, "plain");
    for payload in ["first", "second", "third", "fourth", "with a slash", "not released"] {
        let (kind, body) = plain.receive();
        assert!(kind & 0xf8 == 0x30 && body.ends_with(payload.as_bytes()), "{payload}: {kind:x} {body:?}");
        let id = 2 + usize::from(body[1]);
        let answer = if kind & 6 == 4 { 0x50 } else { 0x40 };
        plain.send(answer, &body[id..id + 2]);
    }
    // In flight as they were, then what waited: Receive Maximum is two.
    let mut five = Client::v5(broker.port, "five", &[]);
    let (kind, first) = five.receive();
    assert!(kind == 0x3a && first[8..10] == [0, 1] && first.ends_with(b"first"), "{kind:x} {first:?}");
    let properties = first[11..].windows(4).any(|four| four == [0x0b, 7, 1, 1] || four[..2] == [0x0b, 7]);
    assert!(properties, "its subscription identifier: {first:?}");
    assert_eq!(five.receive(), (0x62, vec![0, 2]));
    five.send(0x70, &[0, 2]);
    let third = five.until(0x3c);
    assert!(third[8..10] == [0, 3] && third.ends_with(b"third"), "{third:?}");
    five.send(0x50, &[0, 3]);
    five.until(0x62);
    five.send(0x70, &[0, 3]);
    let mut rest = Vec::new();
    while rest.len() < 3 {
        let (kind, body) = five.receive();
        if kind & 0xf0 == 0x30 {
            let id = 2 + usize::from(body[1]);
            five.send(if kind & 6 == 4 { 0x50 } else { 0x40 }, &body[id..id + 2]);
            rest.push(body);
        } else if kind == 0x50 || kind == 0x62 {
            five.send(0x70, &body[..2]);
        }
    }
    for (body, payload) in rest.iter().zip(["fourth", "for the group", "not released"]) {
        assert!(body.ends_with(payload.as_bytes()), "{payload}: {body:?}");
    }
    // Its repetition is not published again: what comes next is another one.
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    publisher.ask(0x3c, &super::broker::publish("news/6", 77, &[0], b"not released"), 0x50);
    publisher.ask(0x62, &[0, 77], 0x70);
    publisher.ask(0x32, &super::broker::publish("news/7", 1, &[0], b"the next"), 0x40);
    let next = std::iter::repeat_with(|| plain.receive()).find(|(kind, _)| kind & 0xf0 == 0x30);
    assert!(next.is_some_and(|(_, body)| body.ends_with(b"the next")));
    // Retained messages, with properties.
    let mut new = Client::v5(broker.port, "new", &[]);
    new.send(0x82, &[&[0, 1, 0][..], &super::broker::text("kept/#"), &[2]].concat());
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while kept.len() < 3 {
        let (kind, body) = new.receive();
        if kind & 0xf1 == 0x31 {
            kept.push(body);
        }
    }
    kept.sort();
    assert!(kept[0].windows(10).any(|part| part == b"text/plain") && kept[0].ends_with(b"kept"), "{kept:?}");
    assert!(kept[1].ends_with(&(0..=255).collect::<Vec<u8>>()) && kept[2].ends_with(b"in a century"));
    broker.stop();
}

#[test]
fn nothing_is_added_to_a_store_unasked_and_what_it_has_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let before = rows(&path);
    let all = files(&path);
    let said = import(&database(), &path, &[]);
    assert!(said.code == Some(1) && said.err.contains("has 7 sessions and 2 retained messages already"), "{said:?}");
    unchanged(&all, &path);
    let said = import(&database(), &path, &["--merge"]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    // All three are there already, under these names; of the retained messages one is.
    assert!(said.out.contains("left out: 3 sessions of clients that the store has already"), "{said:?}");
    assert!(said.out.contains("taken: 2 retained messages"), "{said:?}");
    let after = rows(&path);
    assert!(before.iter().all(|row| after.contains(row)) && after.len() == before.len() + 2, "{after:#?}");
    // In another mountpoint they are others.
    let said = import(&database(), &path, &["--merge", "--mountpoint", "elsewhere"]);
    assert!(said.out.contains("taken: 3 sessions"), "{said:?}");
    let both = rows(&path);
    assert!(after.iter().all(|row| both.contains(row)));
    assert_eq!(both.iter().filter(|row| row.contains("\"mountpoint\":\"elsewhere\"")).count(), 3 + 5 + 12 + 1 + 3);
    assert!(Broker::start(&path, 2).read.contains("sessions=10 messages=20 retained=7"));
}

#[test]
fn what_is_no_such_file_is_a_sentence_and_makes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let file = directory.path().join("mosquitto.db");
    let whole = fs::read(database()).expect("it is there");
    let refused = |bytes: &[u8], told: &str| {
        fs::write(&file, bytes).expect("it can be written");
        let said = import(&file, &path, &[]);
        assert!(said.code == Some(1) && said.err.contains(told), "{told}: {said:?}");
        let has_any = path.exists() && rows(&path).iter().any(|_| true);
        assert!(!has_any, "nothing was taken");
    };
    refused(b"", "is not a persistence file of Mosquitto");
    refused(&whole[..20], "is not a persistence file of Mosquitto");
    let version = [&whole[..22], &[9], &whole[23..]].concat();
    refused(&version, "has version 9 of Mosquitto's persistence format, and 3 to 6 can be read");
    assert!(!path.exists(), "nothing was made");
    refused(&whole[..whole.len() - 3], "ends within what begins at byte ");
    let short = [&whole[..30], &[3], &whole[31..]].concat();
    refused(&short, "what begins at byte 23 is damaged");
    let said = import(&directory.path().join("nothing"), &path, &[]);
    assert!(said.code == Some(1) && said.err.contains("cannot be read: No such file"), "{said:?}");
}
