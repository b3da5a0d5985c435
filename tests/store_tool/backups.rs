//! `moormq ctl store backup`: a copy of the store of a broker that goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::broker::{Broker, Client, publish, text};
use super::tool::{files, rows, store};

/// Clients that publish 1, 2, 3 ... to `all`, with acknowledgements, until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    publishers: Vec<Publisher>,
}

struct Publisher {
    name: String,
    acknowledged: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Load {
    fn begin(broker: &Broker, publishers: usize, size: usize) -> Load {
        let (is_over, rests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let begin = |number: usize| {
            let qos = 1 + number % 2;
            let name = format!("q{qos}-{number}");
            let (over, rests, acknowledged) = (Arc::clone(&is_over), Arc::clone(&rests), Arc::new(AtomicUsize::new(0)));
            let mut client = Client::v311(broker.port, &name);
            let (count, head) = (Arc::clone(&acknowledged), name.clone());
            let thread = thread::spawn(move || {
                for number in 1.. {
                    while rests.load(Ordering::SeqCst) && !over.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(1));
                    }
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let payload = [format!("{head} {number} ").into_bytes(), vec![b'x'; size]].concat();
                    let id = (number % 60_000 + 1) as u16;
                    let body = publish("all", id, &[], &payload);
                    if qos == 1 {
                        client.ask(0x32, &body, 0x40);
                    } else {
                        client.ask(0x34, &body, 0x50);
                    }
                    count.store(number, Ordering::SeqCst);
                    if qos == 2 {
                        client.ask(0x62, &id.to_be_bytes(), 0x70);
                    }
                }
                client.leave();
            });
            Publisher { name, acknowledged, thread }
        };
        Load { publishers: (0..publishers).map(begin).collect(), is_over, rests }
    }

    /// Publishes no more for a while, or again.
    fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::SeqCst);
    }

    /// How many of each are acknowledged.
    fn acknowledged(&self) -> BTreeMap<String, usize> {
        let of = |one: &Publisher| (one.name.clone(), one.acknowledged.load(Ordering::SeqCst));
        self.publishers.iter().map(of).collect()
    }

    fn until(&self, count: usize) {
        while self.acknowledged().values().any(|acknowledged| *acknowledged < count) {
            thread::yield_now();
        }
    }

    fn end(self) -> BTreeMap<String, usize> {
        self.is_over.store(true, Ordering::SeqCst);
        let end = |one: Publisher| {
            one.thread.join().expect("it publishes");
            (one.name, one.acknowledged.load(Ordering::SeqCst))
        };
        self.publishers.into_iter().map(end).collect()
    }
}

fn subscribe(broker: &Broker, sessions: usize) {
    for session in 0..sessions {
        let mut absent = Client::v5(broker.port, &format!("absent-{session}"), &[]);
        absent.ask(0x82, &[&[0, 1, 0][..], &text("all"), &[2]].concat(), 0x90);
        absent.leave();
    }
}

/// By session and publisher, the numbers of the messages that wait in a store.
type Waiting = BTreeMap<String, BTreeMap<String, Vec<usize>>>;

fn note(waiting: &mut Waiting, session: &str, payload: &str) {
    let mut words = payload.split(' ');
    let (name, number) = (words.next().expect("a name"), words.next().expect("a number"));
    let numbers = waiting.entry(session.to_owned()).or_default().entry(name.to_owned()).or_default();
    numbers.push(number.parse().expect("a number"));
}

fn waiting_in(path: &Path) -> Waiting {
    let mut waiting = Waiting::new();
    for row in rows(path) {
        let row: Value = serde_json::from_str(&row).expect("it is JSON");
        if row["row"] == "message" {
            let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} in {row}")).to_owned();
            note(&mut waiting, &text("client_id"), &text("payload"));
        }
    }
    waiting
}

/// What waits is all that was acknowledged before, without a gap and none twice; and what came with QoS 2 is the same everywhere.
fn check(waiting: &Waiting, sessions: usize, before: &BTreeMap<String, usize>, behind: &BTreeMap<String, usize>) {
    assert_eq!(waiting.len(), sessions);
    let mut of_qos_2: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (session, of) in waiting {
        for (name, least) in before {
            let mut numbers = of.get(name).cloned().unwrap_or_default();
            numbers.sort_unstable();
            let expected: Vec<usize> = (1..=numbers.len()).collect();
            assert_eq!(numbers, expected, "{session} of {name}");
            assert!(
                (*least..=behind[name] + 1).contains(&numbers.len()),
                "{session} of {name}: {}, {least}",
                numbers.len()
            );
            if name.starts_with("q2") {
                of_qos_2.entry(name).or_default().insert(numbers.len());
            }
        }
    }
    assert!(of_qos_2.values().all(|counts| counts.len() == 1), "{of_qos_2:?}");
}

/// All that waits for the sessions is delivered, once.
fn take_all(broker: &Broker, waiting: &Waiting) {
    for (session, of) in waiting {
        let mut left: usize = of.values().map(Vec::len).sum();
        let (mut taken, mut client) = (Waiting::new(), Client::v5(broker.port, session, &[]));
        while left > 0 {
            let (kind, body) = client.receive();
            if kind & 0xf0 == 0x30 {
                assert_eq!(kind & 0x08, 0, "it was never sent");
                left -= 1;
                let payload = String::from_utf8_lossy(&body[8..]).into_owned();
                note(&mut taken, session, &payload);
                client.send(if kind & 6 == 4 { 0x50 } else { 0x40 }, &body[5..7]);
            } else if kind == 0x62 {
                client.send(0x70, &body[..2]);
            }
        }
        let sorted = |of: &BTreeMap<String, Vec<usize>>| {
            let mut of = of.clone();
            of.values_mut().for_each(|numbers| numbers.sort_unstable());
            of
        };
        assert_eq!(sorted(&taken[session]), sorted(of), "{session}");
    }
}

/// A client that takes what waits for it, one message after the other, so that pages are read and go.
struct Taker {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Taker {
    fn begin(broker: &Broker) -> Taker {
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, mut client) = (Arc::clone(&is_over), Client::v5(broker.port, "taker", &[]));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let (kind, body) = client.receive();
                if kind & 0xf0 == 0x30 {
                    client.send(0x40, &body[5..7]);
                }
            }
        });
        Taker { is_over, thread }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("it takes messages");
    }
}

fn back_up(broker: &Broker, copy: &Path) -> Value {
    broker.ctl_json(&["store", "backup", copy.to_str().expect("a path of the test")])
}

#[test]
#[ignore = "a load for a minute: by itself, with `cargo test --test store_tool backups -- --ignored`"]
fn a_backup_under_load_is_a_store_of_one_moment() {
    for shards in [1, 2, 4] {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, copy] = ["store", "copy"].map(|name| directory.path().join(name));
        let broker = Broker::start(&path, shards);
        let sessions = 6;
        subscribe(&broker, sessions);
        let load = Load::begin(&broker, 6, 100);
        let mut behind = BTreeMap::new();
        for round in 1..=2 {
            load.rest(false);
            load.until(20 + behind.values().copied().max().unwrap_or(0));
            let before = load.acknowledged();
            let backed_up = back_up(&broker, &copy);
            behind = load.acknowledged();
            load.rest(true);
            assert_eq!(backed_up["path"].as_str(), copy.to_str());
            assert!(backed_up["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{backed_up}");
            assert_eq!(fs::metadata(&copy).expect("it is there").permissions().mode() & 0o777, 0o700);
            let said = store("verify", &copy, &[]);
            assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
            let waiting = waiting_in(&copy);
            check(&waiting, sessions, &before, &behind);
            // It goes on as any store does, with other shards as well.
            let restored = Broker::start(&copy, [1, 2, 4][(round + shards as usize) % 3]);
            take_all(&restored, &waiting);
            restored.stop();
            fs::remove_dir_all(&copy).expect("it can be removed");
        }
        let published = load.end();
        broker.stop();
        // The store itself has all that was published.
        let said = store("verify", &path, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        check(&waiting_in(&path), sessions, &published, &published);
    }
}

/// Small journals: what waits is in pages, which come and go while it is copied.
#[test]
#[ignore = "a load for a minute: by itself, with `cargo test --test store_tool backups -- --ignored`"]
fn a_backup_has_the_pages_of_the_archive_that_belong_to_it() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, copy] = ["store", "copy"].map(|name| directory.path().join(name));
        let broker = Broker::start(&path, shards);
        let sessions = 3;
        subscribe(&broker, sessions);
        let mut taker = Client::v5(broker.port, "taker", &[]);
        taker.ask(0x82, &[&[0, 1, 0][..], &text("all"), &[1]].concat(), 0x90);
        taker.leave();
        let load = Load::begin(&broker, 4, 8000);
        let pages = || broker.ctl_json(&["store"])["archive"]["pages"].as_u64().expect("a number");
        while pages() < 20 {
            thread::yield_now();
        }
        let taking = Taker::begin(&broker);
        for round in 0..3 {
            load.rest(false);
            let before = load.acknowledged();
            back_up(&broker, &copy);
            let behind = load.acknowledged();
            load.rest(true);
            let said = store("verify", &copy, &[]);
            assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
            let mut waiting = waiting_in(&copy);
            // Some of its messages are gone, and no other.
            for numbers in waiting.remove("taker").unwrap_or_default().values_mut() {
                numbers.sort_unstable();
                assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
            }
            check(&waiting, sessions, &before, &behind);
            if round == 2 {
                let restored = Broker::start(&copy, 2);
                take_all(&restored, &waiting);
                restored.stop();
            }
            fs::remove_dir_all(&copy).expect("it can be removed");
        }
        // As long as there are others it has something to take.
        load.rest(false);
        taking.end();
        let published = load.end();
        broker.stop();
        let mut waiting = waiting_in(&path);
        waiting.remove("taker");
        check(&waiting, sessions, &published, &published);
    }
}

#[test]
fn a_backup_that_cannot_be_made_says_why_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let broker = Broker::start(&path, 2);
    subscribe(&broker, 4);
    let refused = |copy: &Path, why: &str| {
        let said = broker.ctl(&["store", "backup", copy.to_str().expect("a path of the test")]);
        assert!(said.code == Some(1) && said.err.contains(why), "{said:?}");
    };
    refused(&path, "is in the store itself");
    refused(&path.join("copy"), "is in the store itself");
    refused(&directory.path().join("no/copy"), "make that first");
    let full = directory.path().join("full");
    fs::create_dir(&full).expect("it can be made");
    fs::write(full.join("x"), "x").expect("it can be written");
    refused(&full, "is not empty");
    assert_eq!(files(&full).len(), 1);
    // Files of journals that are not there any more.
    let [journal, away] = ["journal", "away"].map(|name| path.join(name));
    fs::rename(&journal, &away).expect("it can be renamed");
    let copy = directory.path().join("copy");
    refused(&copy, "cannot be opened");
    assert!(!copy.exists(), "nothing is left");
    fs::rename(&away, &journal).expect("it can be renamed");
    // Half of a copy is no store.
    fs::create_dir_all(copy.join("journal")).expect("it can be made");
    fs::write(copy.join("backup.unfinished"), "").expect("it can be written");
    let said = store("stat", &copy, &[]);
    assert!(said.code == Some(1) && said.err.contains("is a backup that was not finished"), "{said:?}");
    refused(&copy, "is not empty");
    fs::remove_dir_all(&copy).expect("it can be removed");
    // The next one is made as ever, and the broker goes on.
    back_up(&broker, &copy);
    assert_eq!(store("verify", &copy, &[]).code, Some(0));
    Client::v311(broker.port, "last").leave();
    broker.stop();
}
