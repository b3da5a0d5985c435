//! `moormq ctl` and rebalancing: clients move between shards while they talk, and notice nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::broker::Broker;
use crate::{DEADLINE, mqtt3, mqtt5};

/// A broker with a control socket.
struct Operated {
    broker: Broker,
    socket: PathBuf,
    _folder: TempDir,
}

impl Operated {
    fn start(shards: usize) -> Operated {
        Operated::with(shards, "")
    }

    fn with(shards: usize, sections: &str) -> Operated {
        // Not below the target directory: the path of a socket must be short.
        let folder = tempfile::tempdir().expect("a directory can be made");
        let socket = folder.path().join("control");
        let control = format!("[control]\nsocket = \"{}\"\n{sections}", socket.display());
        Operated { broker: Broker::with(shards, &control), socket, _folder: folder }
    }

    /// The output of a command, which has to succeed.
    fn ctl(&self, args: &[&str]) -> String {
        let output = ctl(&[&["--socket", &self.socket.display().to_string()], args].concat());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ctl(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The exit code and the output of a command.
    fn outcome(&self, args: &[&str]) -> (i32, String) {
        let output = ctl(&[&["--socket", &self.socket.display().to_string()], args].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().expect("it was not killed"), String::from_utf8(text).expect("it is text"))
    }

    /// What is said about a client, which need not be there.
    fn find(&self, client: &str) -> Value {
        let (code, text) = self.outcome(&["find", client, "--json"]);
        let mut found: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(code == 3, found[0]["session"].is_null(), "{text}");
        found[0].take()
    }

    /// What is said about a command that cannot be carried out.
    fn refusal(&self, args: &[&str]) -> String {
        refusal(&[&["--socket", &self.socket.display().to_string()], args].concat())
    }

    fn shard_of(&self, client: &str) -> usize {
        number(&self.find(client)["shard"])
    }

    fn move_to(&self, client: &str, shard: usize) {
        let args = ["shards", "move", "--client", client, "--to", &shard.to_string(), "--timeout", "600"];
        assert_eq!(number(&self.json(&args)["to"]), shard);
        assert_eq!(self.shard_of(client), shard);
    }

    /// Ids of clients in slots of their own on `shard`.
    fn ids_on(&self, shard: usize, count: usize) -> Vec<String> {
        let mut slots: BTreeMap<usize, String> = BTreeMap::new();
        for number in 0.. {
            let id = format!("client-{number}");
            let berth = self.find(&id);
            if self::number(&berth["shard"]) == shard {
                slots.entry(self::number(&berth["slot"])).or_insert(id);
            }
            if slots.len() == count {
                break;
            }
        }
        slots.into_values().collect()
    }
}

fn ctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_moormq")).arg("ctl").args(args).output().expect("the program runs")
}

fn refusal(args: &[&str]) -> String {
    let output = ctl(args);
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?} succeeded");
    String::from_utf8(output.stderr).expect("it is text")
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number")) as usize
}

/// Clients that publish 1, 2, 3 ... to `t/NAME/QOS`, until they are stopped.
struct Publishers {
    stop: Arc<AtomicBool>,
    threads: Vec<(String, JoinHandle<usize>)>,
}

impl Publishers {
    fn new() -> Publishers {
        Publishers { stop: Arc::default(), threads: Vec::new() }
    }

    fn add(&mut self, broker: &Broker, name: &str, qos: u8) {
        let (stop, topic) = (Arc::clone(&self.stop), format!("t/{name}/{qos}"));
        let mut publish: Box<dyn FnMut(usize) + Send> = if name.contains('5') {
            let (mut client, topic) = (mqtt5::Client::new(broker, name), topic.clone());
            Box::new(move |number| client.publish(&topic, qos, number.to_string()))
        } else {
            let (mut client, topic) = (mqtt3::Client::new(broker, name), topic.clone());
            Box::new(move |number| client.publish(&topic, qos, number.to_string()))
        };
        let run = move || {
            let mut count = 0;
            while !stop.load(Ordering::SeqCst) {
                count += 1;
                publish(count);
            }
            count
        };
        self.threads.push((topic, thread::spawn(run)));
    }

    /// How many each has published, by topic.
    fn stop(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|(topic, thread)| (topic, thread.join().expect("its connection holds"))).collect()
    }
}

/// Takes messages until all that were published have come: each once, in order.
fn take_all(subscriber: &str, mut due: BTreeMap<String, usize>, mut next: impl FnMut() -> (String, String)) {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    while !due.is_empty() {
        let (topic, text) = next();
        let got = last.entry(topic.clone()).or_default();
        assert_eq!(text.parse(), Ok(*got + 1), "{subscriber}: {topic} after {got}");
        *got += 1;
        if due.get(&topic) == Some(got) {
            due.remove(&topic);
        }
    }
}

/// Every client moves to every shard and back several times, alone and with the whole broker, while all publish.
fn clients_move_under_traffic(shards: usize) {
    let operated = Operated::start(shards);
    let mut subscriber = mqtt3::Client::new(&operated.broker, "sub3");
    assert_eq!(subscriber.subscribe("t/#", 2), Some(2));
    let mut subscriber5 = mqtt5::Client::new(&operated.broker, "sub5");
    subscriber5.subscribe("t/#", 2);
    let mut publishers = Publishers::new();
    for (name, qos) in [("pub3-1", 1), ("pub3-2", 2), ("pub5-1", 1), ("pub5-2", 2)] {
        publishers.add(&operated.broker, name, qos);
    }
    for round in 0..3 * shards {
        for (at, client) in ["sub3", "pub3-1", "sub5", "pub3-2", "pub5-1", "pub5-2"].into_iter().enumerate() {
            operated.move_to(client, (round + at) % shards);
        }
        let to = (round % shards).to_string();
        let moved = operated.json(&["shards", "move", "0-4095", "--to", &to, "--timeout", "600"]);
        let count = |key: &str| moved[key].as_array().expect("a list").len();
        assert_eq!(count("slots") + count("already_there"), 4096);
    }
    let published = publishers.stop();
    // What came is what was published, then nothing more: the mark comes right behind it.
    let mut last = mqtt3::Client::new(&operated.broker, "last");
    last.publish("t/last", 2, "1");
    let due: BTreeMap<String, usize> = published.into_iter().chain([("t/last".to_owned(), 1)]).collect();
    take_all("3.1.1", due.clone(), || {
        let publish = subscriber.receive();
        (publish.topic.clone(), mqtt3::text(&publish))
    });
    assert!(subscriber.received_so_far().is_empty(), "more than was published");
    take_all("5.0", due, || {
        let publish = subscriber5.receive();
        (mqtt5::topic(&publish), mqtt5::text(&publish))
    });
}

#[test]
fn clients_move_under_traffic_on_2_shards() {
    clients_move_under_traffic(2);
}

#[test]
fn clients_move_under_traffic_on_4_shards() {
    clients_move_under_traffic(4);
}

#[test]
fn an_offline_session_moves_with_its_queue() {
    for shards in [2, 4] {
        let operated = Operated::start(shards);
        let mut subscriber = mqtt5::Client::connect(mqtt5::kept(&operated.broker, "sub", 3600));
        subscriber.subscribe("queued", 2);
        subscriber.cut();
        let mut publisher = mqtt3::Client::new(&operated.broker, "pub");
        for number in 0..50 {
            publisher.publish("queued", 1 + number % 2, number.to_string());
        }
        let to = (operated.shard_of("sub") + 1) % shards;
        operated.move_to("sub", to);
        publisher.publish("queued", 2, "50");
        let mut subscriber = mqtt5::Client::connect(mqtt5::kept(&operated.broker, "sub", 3600));
        assert!(subscriber.connack.session_present);
        for number in 0..51 {
            assert_eq!(subscriber.receive_text(), number.to_string());
        }
        let shard = &operated.json(&["shards"])["shards"][to];
        assert!(number(&shard["connections"]) >= 1 && number(&shard["sessions"]) >= 1, "{shard}");
    }
}

#[test]
fn a_client_that_moved_can_be_disconnected() {
    for shards in [1, 2, 4] {
        let operated = Operated::start(shards);
        let mut client = mqtt5::Client::connect(mqtt5::kept(&operated.broker, "client", 3600));
        operated.move_to("client", (operated.shard_of("client") + 1) % shards);
        let said = operated.ctl(&["disconnect", "client"]);
        assert!(said.starts_with("client was connected from 127.0.0.1:"), "{said}");
        assert!(said.ends_with(" and is disconnected; its session is kept\n"), "{said}");
        assert_eq!(client.disconnected(), mqtt5::DisconnectReasonCode::AdministrativeAction);
        let mut client = mqtt5::Client::connect(mqtt5::kept(&operated.broker, "client", 3600));
        assert!(client.connack.session_present);
        operated.ctl(&["disconnect", "client", "--cleanup"]);
        client.disconnected();
        let client = mqtt5::Client::connect(mqtt5::kept(&operated.broker, "client", 3600));
        assert!(!client.connack.session_present);
    }
}

/// `find` and `disconnect` say whether there is such a client, in words and by exit code, and the log says who did what.
#[test]
fn a_client_is_found_or_said_not_to_be_there() {
    for shards in [1, 2, 4] {
        let mut operated = Operated::start(shards);
        let none = "no such client: nobody\n".to_owned();
        assert_eq!(operated.outcome(&["disconnect", "nobody"]), (3, none.clone()));
        assert_eq!(operated.outcome(&["disconnect", "nobody", "--cleanup"]), (3, none));
        assert_eq!(operated.outcome(&["disconnect", "nobody", "--json"]), (3, "null\n".to_owned()));

        let mut options = mqtt5::kept(&operated.broker, "ann", 3600);
        options.set_credentials("ann's", "x");
        let mut client = mqtt5::Client::connect(options);
        client.subscribe("a/#", 1);
        let (code, text) = operated.outcome(&["find", "nobody", "ann"]);
        assert_eq!(code, 3, "one of them is not there");
        let [_, nobody, ann] = &text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let words = |line: &str| line.split_whitespace().skip(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(nobody), ["nobody", "no", "such", "client"], "{text}");
        let ann = words(ann);
        assert_eq!((&*ann[0], &*ann[1], ann[2].starts_with("127.0.0.1:")), ("ann", "connected", true), "{text}");
        assert_eq!(ann[3..10], ["default", "ann's", "5", "none", "1", "0", "0"], "{text}");
        assert!(ann[10].parse::<usize>().is_ok_and(|memory| memory > 0), "{text}");
        assert_eq!(operated.outcome(&["find", "ann"]).0, 0);
        let found = operated.find("ann");
        let session = &found["session"];
        assert_eq!((session["is_connected"].as_bool(), session["protocol"].as_str()), (Some(true), Some("5")));
        assert_eq!((session["username"].as_str(), number(&session["subscriptions"])), (Some("ann's"), 1));

        client.cut();
        let waiting = Instant::now();
        while operated.find("ann")["session"]["is_connected"] != Value::Bool(false) {
            assert!(waiting.elapsed() < DEADLINE, "the broker does not notice");
        }
        mqtt3::Client::new(&operated.broker, "bob").publish("a/b", 1, "waits");
        let session = operated.find("ann")["session"].take();
        assert_eq!((number(&session["queued"]), session["is_kept"].as_bool()), (1, Some(true)));
        let offline = |what: &str| format!("ann was not connected; its session {what}\n");
        assert_eq!(operated.outcome(&["disconnect", "ann"]), (0, offline("is kept, --cleanup ends it")));
        assert_eq!(operated.outcome(&["disconnect", "ann", "--cleanup"]), (0, offline("has ended")));
        assert!(operated.find("ann")["session"].is_null());

        let uid = fs::metadata(&operated.socket).expect("it is there").uid();
        let lines = operated.broker.process().stderr();
        for (what, outcome) in [
            ("disconnect nobody", "no such client"),
            ("find nobody ann", "1 of 2 are there"),
            ("disconnect ann --cleanup", "done"),
        ] {
            let line = format!("ctl {what} uid={uid} pid=");
            let outcome = format!("outcome=\"{outcome}\"");
            lines.find(what, |said| (said.contains(&line) && said.contains(&outcome)).then_some(()));
        }
    }
}

/// A broker that does not run any more, but has not ended, is said to be one.
#[test]
fn a_suspended_broker_is_said_to_be_silent() {
    let mut operated = Operated::start(2);
    operated.broker.process().signal("STOP");
    let (code, text) = operated.outcome(&["hooks"]);
    operated.broker.process().signal("CONT");
    assert_eq!(code, 1);
    assert!(
        text.contains("the broker has said nothing for 25 s: it is suspended, or the machine is overloaded"),
        "{text}"
    );
}

#[test]
fn hooks_are_counted_on_all_shards_together() {
    for shards in [1, 2, 4] {
        let operated = Operated::start(shards);
        assert_eq!(operated.ctl(&["hooks"]), "no hook was called yet\n");
        for client in 0..4 {
            let mut client = mqtt3::Client::new(&operated.broker, &format!("client-{client}"));
            (0..5).for_each(|number| client.publish("t", 1, number.to_string()));
        }
        let hooks = operated.json(&["hooks"]);
        let asked = hooks.as_array().expect("a list").iter().find(|hook| hook["hook"] == "auth_on_publish");
        let asked = asked.unwrap_or_else(|| panic!("it was called: {hooks}"));
        assert_eq!((&asked["link"], number(&asked["position"])), (&Value::from("Stock"), 0));
        assert_eq!([number(&asked["calls"]), number(&asked["ok"]), number(&asked["refusals"])], [20, 20, 0]);
        let table = operated.ctl(&["hooks"]);
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let row = table.lines().map(words).find(|row| row.get(1).is_some_and(|hook| hook == "auth_on_publish"));
        assert_eq!(row.expect("it has a row")[2..9], ["20", "0", "20", "0", "0", "0", "0"], "{table}");
    }
}

#[test]
fn rebalance_moves_load_and_breaks_nothing() {
    let operated = Operated::start(2);
    let names = operated.ids_on(0, 4);
    let mut publishers = Publishers::new();
    names.iter().for_each(|name| publishers.add(&operated.broker, name, 1));
    let tried = operated.json(&["shards", "rebalance", "--dry-run", "--seconds", "1"]);
    assert_eq!(tried["is_done"], Value::Bool(false));
    assert!(names.iter().all(|name| operated.shard_of(name) == 0), "it was only a question");
    let start = Instant::now();
    while operated.json(&["shards", "rebalance", "--seconds", "1"])["moves"] == Value::Array(Vec::new()) {
        assert!(start.elapsed() < DEADLINE, "nothing moves");
    }
    let moved = names.iter().filter(|name| operated.shard_of(name) == 1).count();
    assert!((1..names.len()).contains(&moved), "{moved} of {} moved", names.len());
    let status = operated.json(&["shards", "--slots", "4096", "--seconds", "1"]);
    let slots = status["slots"].as_array().expect("a list");
    assert!(slots.len() >= names.len(), "every slot with a client is shown: {status}");
    assert!(publishers.stop().values().all(|count| *count > 0));
}

#[test]
fn the_broker_rebalances_by_itself_if_configured() {
    let policy = "[rebalance]\nenabled = true\ninterval = \"100ms\"\nintervals = 2\nmin_rate = 1\ncool_down = \"0s\"\n";
    let mut operated = Operated::with(2, policy);
    let names = operated.ids_on(0, 4);
    let mut publishers = Publishers::new();
    names.iter().for_each(|name| publishers.add(&operated.broker, name, 2));
    operated.broker.process().stderr().find("rebalancing", |line| line.contains("rebalancing from=").then_some(()));
    let start = Instant::now();
    while names.iter().all(|name| operated.shard_of(name) == 0) {
        assert!(start.elapsed() < DEADLINE, "nothing moves");
    }
    assert!(publishers.stop().values().all(|count| *count > 0));
}

#[test]
fn errors_say_what_to_do() {
    let operated = Operated::start(2);
    let says = |args: &[&str], what: &str| {
        let refusal = operated.refusal(args);
        assert!(refusal.contains(what), "{args:?}: {refusal}");
    };
    says(&["shards", "move", "7", "--to", "2"], "moormq: there is no shard 2: they are numbered from 0 to 1");
    says(&["shards", "move", "4096", "--to", "1"], "slots are numbers from 0 to 4095");
    says(&["shards", "move", "--to", "1"], "SLOT");
    says(&["shards", "--seconds", "0"], "a number of seconds from 0.1 to 3600");
    let nowhere = refusal(&["--socket", "/nowhere/control", "shards"]);
    assert!(nowhere.contains("/nowhere/control: there is none: is a broker running"), "{nowhere}");
    assert!(refusal(&["shards"]).contains("say which broker: --socket PATH, or --config FILE"));
    let mode = fs::metadata(&operated.socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut stream = UnixStream::connect(&operated.socket).expect("it listens");
    stream
        .write_all(
            b"{\"version\":2,\"command\":{\"move\":{\"slots\":[5000],\"clients\":[],\"to\":1,\"timeout\":1.0}}}\n",
        )
        .expect("it listens");
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).expect("it answers");
    assert!(reply.contains("there is no slot 5000: they are numbered from 0 to 4095"), "{reply}");
}

#[test]
fn one_socket_serves_one_broker_and_goes_with_it() {
    let mut operated = Operated::start(1);
    let config = operated.socket.with_file_name("second.toml");
    let text = format!(
        "[listeners.default]\naddress = \"127.0.0.1:0\"\n[control]\nsocket = \"{}\"\n",
        operated.socket.display()
    );
    fs::write(&config, text).expect("a file can be written");
    let config = config.display().to_string();
    let moormq = || Command::new(env!("CARGO_BIN_EXE_moormq"));
    let second = moormq().args(["--config", &config]).output().expect("the program runs");
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && error.contains("another broker listens there: stop it"), "{error}");
    // The configuration says where the socket is.
    let shown = ctl(&["--config", &config, "shards"]);
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("shard  core  slots"));
    let status = operated.broker.stop();
    assert!(status.success() && !operated.socket.exists(), "{status}");
}
