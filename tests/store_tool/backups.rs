//! `moormq ctl store backup`: a copy of the store of a broker that goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::broker::{Broker, Client, ROOM, publish, text};
use super::tool::{files, rows, store};

/// Clients that publish 1, 2, 3 ... to `all`, with acknowledgements, until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    pace: Arc<AtomicU8>,
    publishers: Vec<Publisher>,
}

/// How fast they publish: as the broker acknowledges; with a [`PAUSE`] before each message; or not, until they are told something else.
const FAST: u8 = 0;
const STEADY: u8 = 1;
const REST: u8 = 2;

/// A copy that takes long has some hundred more messages then, and not all that a broker can take meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

/// How often it is looked whether something has come about.
const LOOK: Duration = Duration::from_millis(10);

struct Publisher {
    name: String,
    acknowledged: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Load {
    fn begin(broker: &Broker, publishers: usize, size: usize) -> Load {
        let (is_over, pace) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(FAST)));
        let begin = |number: usize| {
            let qos = 1 + number % 2;
            let name = format!("q{qos}-{number}");
            let (over, pace, acknowledged) = (Arc::clone(&is_over), Arc::clone(&pace), Arc::new(AtomicUsize::new(0)));
            let mut client = Client::v311(broker.port, &name);
            let (count, head) = (Arc::clone(&acknowledged), name.clone());
            let thread = thread::spawn(move || {
                for number in 1.. {
                    while pace.load(Ordering::SeqCst) == REST && !over.load(Ordering::SeqCst) {
                        thread::sleep(LOOK);
                    }
                    if pace.load(Ordering::SeqCst) == STEADY {
                        thread::sleep(PAUSE);
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
        Load { publishers: (0..publishers).map(begin).collect(), is_over, pace }
    }

    /// Publishes at another pace from now on.
    fn go_on(&self, pace: u8) {
        self.pace.store(pace, Ordering::SeqCst);
    }

    /// How many of each are acknowledged.
    fn acknowledged(&self) -> BTreeMap<String, usize> {
        let of = |one: &Publisher| (one.name.clone(), one.acknowledged.load(Ordering::SeqCst));
        self.publishers.iter().map(of).collect()
    }

    fn until(&self, count: usize) {
        while self.acknowledged().values().any(|acknowledged| *acknowledged < count) {
            thread::sleep(LOOK);
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

/// A value in a row, which has no characters that are written in another way. (To have the row read as what it is takes a program that is not optimized
/// many seconds.)
fn value<'a>(row: &'a str, key: &str) -> &'a str {
    let value = row.split_once(&format!("\"{key}\":\"")).and_then(|(_, rest)| rest.split_once('"'));
    value.unwrap_or_else(|| panic!("{key} in {row}")).0
}

fn waiting_in(path: &Path) -> Waiting {
    let mut waiting = Waiting::new();
    for row in rows(path).iter().filter(|row| value(row, "row") == "message") {
        note(&mut waiting, value(row, "client_id"), value(row, "payload"));
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

/// What the copy has is checked, and a broker goes on with it, as with any store, with another number of shards as well.
#[test]
fn a_backup_under_load_is_a_store_of_one_moment() {
    for (shards, later) in [(1, 2), (2, 4), (4, 1)] {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, copy] = ["store", "copy"].map(|name| directory.path().join(name));
        let broker = Broker::start(&path, shards);
        let sessions = 6;
        subscribe(&broker, sessions);
        let load = Load::begin(&broker, 6, 100);
        load.until(10);
        load.go_on(STEADY);
        let before = load.acknowledged();
        let backed_up = back_up(&broker, &copy);
        let behind = load.acknowledged();
        let published = load.end();
        broker.stop();
        assert_eq!(backed_up["path"].as_str(), copy.to_str());
        assert!(backed_up["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{backed_up}");
        assert_eq!(fs::metadata(&copy).expect("it is there").permissions().mode() & 0o777, 0o700);
        let said = store("verify", &copy, &[]);
        assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
        let waiting = waiting_in(&copy);
        check(&waiting, sessions, &before, &behind);
        // Its files end with what is in them: they are made longer.
        let said = store("compact", &copy, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(waiting_in(&copy), waiting);
        let restored = Broker::start(&copy, later);
        take_all(&restored, &waiting);
        restored.stop();
        // The store itself has all that was published.
        let said = store("verify", &path, &[]);
        assert_eq!(said.code, Some(0), "{said:?}");
        check(&waiting_in(&path), sessions, &published, &published);
    }
}

/// Small journals: what waits is in pages, which come and go while it is copied.
#[test]
fn a_backup_has_the_pages_of_the_archive_that_belong_to_it() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().expect("a directory");
        let [path, copy] = ["store", "copy"].map(|name| directory.path().join(name));
        let broker = Broker::start(&path, shards);
        let sessions = 2;
        subscribe(&broker, sessions);
        let mut taker = Client::v5(broker.port, "taker", &[]);
        taker.ask(0x82, &[&[0, 1, 0][..], &text("all"), &[1]].concat(), 0x90);
        taker.leave();
        // Two of them are in a page.
        let load = Load::begin(&broker, 4, 16_000);
        let pages = || broker.ctl_json(&["store"])["archive"]["pages"].as_u64().expect("a number");
        while pages() < 20 {
            thread::sleep(LOOK);
        }
        let taking = Taker::begin(&broker);
        for round in 0..2 {
            load.go_on(STEADY);
            let before = load.acknowledged();
            back_up(&broker, &copy);
            let behind = load.acknowledged();
            load.go_on(REST);
            let said = store("verify", &copy, &[]);
            assert!(said.code == Some(0) && said.out.ends_with(": no damage\n"), "{said:?}");
            let mut waiting = waiting_in(&copy);
            // Some of its messages are gone, and no other.
            for numbers in waiting.remove("taker").unwrap_or_default().values_mut() {
                numbers.sort_unstable();
                assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{numbers:?}");
            }
            check(&waiting, sessions, &before, &behind);
            if round == 1 {
                let restored = Broker::start_with(&copy, 2, ROOM).sound();
                take_all(&restored, &waiting);
                restored.stop();
            }
            fs::remove_dir_all(&copy).expect("it can be removed");
        }
        // As long as there are others it has something to take.
        load.go_on(STEADY);
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
