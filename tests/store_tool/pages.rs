//! Messages that are in the archive, and no more in a journal.

use super::broker::{Broker, Client, publish, text};
use super::tool::{files, rows, store};

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
    assert_eq!(files(&path), before, "nothing was written");
    let said = store("compact", &path, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(numbers(), expected);
    // All come, in order, to another number of shards.
    let broker = Broker::start(&path, 2);
    let mut absent = Client::v5(broker.port, "absent", &[]);
    for number in &expected {
        let (kind, body) = absent.receive();
        assert!(kind == 0x32 && body[6..].starts_with(number.as_bytes()), "{number}: {:?}", &body[..16]);
        absent.send(0x40, &[body[3], body[4]]);
    }
    absent.leave();
    broker.stop();
    assert_eq!(numbers(), [""; 0]);
}
