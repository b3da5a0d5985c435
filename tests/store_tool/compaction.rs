//! `moormq store compact`.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::broker::{Broker, Client, fill};
use super::tool::{PROGRAM, rows, store};

#[test]
fn what_counts_is_kept_and_the_rest_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let before = rows(&path);
    assert!(before.len() > 15, "{before:#?}");
    let records = |said: &str| -> Vec<u64> {
        let counts = said.lines().filter_map(|line| line.strip_suffix(" records")?.rsplit(' ').next()?.parse().ok());
        counts.collect()
    };
    let many = records(&store("stat", &path, &[]).out);
    for _ in 0..2 {
        let said = store("compact", &path, &[]);
        assert_eq!((said.code, &*said.err), (Some(0), ""));
        assert_eq!(rows(&path), before);
        assert_eq!(store("verify", &path, &[]).code, Some(0));
    }
    let few = records(&store("stat", &path, &[]).out);
    assert!(many.len() == 2 && few.len() == 2 && few.iter().sum::<u64>() < many.iter().sum(), "{many:?} {few:?}");
    assert!(!path.join("journal.new").exists() && !path.join("journal.before").exists());

    // A broker goes on with it: the client that had a message has PUBREL, and what was sent comes once more under its packet id.
    let broker = Broker::start(&path, 2);
    assert!(broker.read.contains("sessions=7 messages=8 retained=2"), "{}", broker.read);
    let mut five = Client::v5(broker.port, "five", &[]);
    let (kind, first) = five.receive();
    assert!(kind == 0x3a && first[8..10] == [0, 1] && first.ends_with(b"first"), "{kind:x} {first:?}");
    assert_eq!(five.receive(), (0x62, vec![0, 2]));
    five.ask(0x40, &[0, 1], 0x34);
}

/// Killed at any moment, a compaction leaves a store that has everything.
#[test]
fn a_compaction_that_is_killed_costs_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    fill(&path);
    let before = rows(&path);
    let (mut round, mut was_killed) = (0, 0);
    // How long one takes depends on the machine: there are further rounds until some were killed.
    while round < 40 || was_killed < 6 {
        let mut command = Command::new(PROGRAM);
        command.args(["store", "compact"]).arg(&path).stdout(Stdio::null());
        let mut child = command.spawn().expect("it can be run");
        thread::sleep(Duration::from_micros(1700 * (round % 40)));
        let _ = child.kill();
        was_killed += u32::from(!child.wait().expect("it ends").success());
        assert_eq!(rows(&path), before, "round {round}");
        assert_eq!(store("verify", &path, &[]).code, Some(0));
        round += 1;
    }
    // Where it can be: both kinds of remains.
    fs::create_dir_all(path.join("journal.new")).expect("it can be made");
    fs::write(path.join("journal.new/0000-00000000"), "half of a").expect("it can be written");
    let said = store("stat", &path, &[]);
    assert!(said.out.contains("journal.new: this is what a compaction or an import left"), "{}", said.out);
    drop(Broker::start(&path, 2));
    assert!(!path.join("journal.new").exists());
    assert_eq!(rows(&path).len(), before.len());
}
