//! Nothing is lost: numbers are published while all connections break again and again, and then they are counted.
//!
//! Each publisher sends the same numbers at QoS 1 and at QoS 2; each subscriber sees all of them, those at QoS 1 at least
//! once, those at QoS 2 exactly once, each sequence in order. Clients of all makes take part, because each resumes its
//! session in its own way. rumqttc and mosquitto_sub do so at QoS 1 only: at QoS 2 they
//! forget with the connection what they have received.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use crate::broker::Broker;
use crate::cutter::Cutter;
use crate::process::Process;
use crate::{mqtt3, mqtt5, scripts};

/// Numbers that each publisher sends at each QoS.
const COUNT: usize = 150;
/// Bytes after which the connection of a publisher is cut: a few messages, and not always as many as were in flight.
const PUBLISHER_BYTES: std::ops::Range<i64> = 300..6_000;
/// Likewise for a subscriber, who gets more.
const SUBSCRIBER_BYTES: std::ops::Range<i64> = 500..12_000;
/// For mosquitto_sub, who waits a second before it connects again.
const SLOW_SUBSCRIBER_BYTES: std::ops::Range<i64> = 3_000..15_000;
/// How often each kind of line is cut at least: what all subscribers of a kind are sent is enough for that, even if they
/// get most of it after the last message was published.
const ENOUGH: usize = 4;

#[test]
fn on_1_shard() {
    nothing_is_lost(1);
}

#[test]
fn on_2_shards() {
    nothing_is_lost(2);
}

#[test]
fn on_4_shards() {
    nothing_is_lost(4);
}

/// A subscriber that runs until it gets the end; returns what it has received, as lines of topic and payload.
struct Subscriber {
    name: &'static str,
    /// Up to what QoS its messages are to be trusted.
    qos: u8,
    run: JoinHandle<Vec<String>>,
}

fn nothing_is_lost(shards: usize) {
    // No limit may get in the way.
    let broker = Broker::with(shards, "[queue]\nmax_online_messages = -1\nmax_offline_messages = -1\n");
    let port = broker.port();
    let cutter = |bytes, seed| Cutter::new(port, bytes, seed);
    let to_subscribers = cutter(SUBSCRIBER_BYTES, 1);
    let to_slow_subscribers = cutter(SLOW_SUBSCRIBER_BYTES, 2);
    let to_publishers = cutter(PUBLISHER_BYTES, 3);

    let subscribers = subscribe_all(to_subscribers.port(), to_slow_subscribers.port());
    for cutter in [&to_subscribers, &to_slow_subscribers, &to_publishers] {
        cutter.cut(true);
    }
    let publishers = publish_all(to_publishers.port());
    let sequences: Vec<(&str, u8)> =
        publishers.iter().flat_map(|(name, most, _)| (1..=*most).map(|qos| (*name, qos))).collect();
    for (name, _, run) in publishers {
        run.join().unwrap_or_else(|_| panic!("publisher {name} failed"));
    }
    for cutter in [&to_subscribers, &to_slow_subscribers, &to_publishers] {
        cutter.cut_at_least(ENOUGH);
        cutter.cut(false);
    }
    mqtt3::Client::new(&broker, "end").publish("loss/end", 2, "");
    for Subscriber { name, qos, run } in subscribers {
        let received = run.join().unwrap_or_else(|_| panic!("subscriber {name} failed"));
        check(name, qos, &received, &sequences);
    }
}

/// What one subscriber has received, against what was published: `sequences` by publisher and QoS.
fn check(subscriber: &str, trusted: u8, received: &[String], sequences: &[(&str, u8)]) {
    let mut numbers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for line in received.iter().filter(|line| !line.starts_with("loss/end")) {
        let (topic, number) = line.split_once(' ').expect("a topic and a number");
        numbers.entry(topic).or_default().push(number.parse().expect("a number"));
    }
    let all: Vec<usize> = (0..COUNT).collect();
    for (publisher, qos) in sequences {
        let topic = format!("loss/{publisher}/{qos}");
        let got = numbers.remove(topic.as_str()).unwrap_or_default();
        if *qos == 2 && trusted == 2 {
            assert_eq!(got, all, "{subscriber} from {topic}: exactly once each, in order");
        } else {
            // [MQTT-4.6.0-6]: when messages come again, the first time each of them comes is in order.
            let mut first: Vec<usize> = Vec::new();
            got.iter().for_each(|number| {
                if !first.contains(number) {
                    first.push(*number)
                }
            });
            assert_eq!(first, all, "{subscriber} from {topic}: at least once each, in order at first; all: {got:?}");
        }
    }
    assert!(numbers.is_empty(), "nobody published to {:?}", numbers.keys());
}

/// Starts one subscriber of each make; returns when all are subscribed.
fn subscribe_all(port: u16, slow_port: u16) -> Vec<Subscriber> {
    let (port_text, slow) = (port.to_string(), slow_port.to_string());
    let mut subscribers = vec![
        of_process("paho-3.1", scripts::python("loss_subscriber.py", &[&port_text, "3", "sub-paho-3"])),
        of_process("paho-3.1.1", scripts::python("loss_subscriber.py", &[&port_text, "4", "sub-paho-4"])),
        of_process("paho-5", scripts::python("loss_subscriber.py", &[&port_text, "5", "sub-paho-5"])),
        of_process("mqttjs-3.1.1", scripts::node("loss_subscriber.cjs", &[&port_text, "4", "sub-js-4"])),
        of_process("mqttjs-5", scripts::node("loss_subscriber.cjs", &[&port_text, "5", "sub-js-5"])),
        Subscriber { qos: 1, ..of_process("mosquitto-3.1.1", mosquitto_sub(&slow, "mqttv311", "sub-mosquitto-4")) },
        Subscriber { qos: 1, ..of_process("mosquitto-5", mosquitto_sub(&slow, "mqttv5", "sub-mosquitto-5")) },
    ];
    let (ready, all_ready) = mpsc::channel();
    let (ready5, mut options) = (ready.clone(), mqtt3::options_at(port, "sub-rumqttc-4"));
    options.set_clean_session(false);
    subscribers.push(of_loop("rumqttc-3.1.1", move || {
        let mut client = mqtt3::Client::connect_again_and_again(options);
        client.subscribe("loss/#", 1);
        ready.send(()).expect("somebody waits");
        until_end(|| client.receive(), |message| format!("{} {}", message.topic, mqtt3::text(message)))
    }));
    let mut options = mqtt5::options_at(port, "sub-rumqttc-5");
    options.set_clean_start(false).set_session_expiry_interval(Some(3600));
    subscribers.push(of_loop("rumqttc-5", move || {
        let mut client = mqtt5::Client::connect_again_and_again(options);
        client.subscribe("loss/#", 1);
        ready5.send(()).expect("somebody waits");
        until_end(|| client.receive(), |message| format!("{} {}", mqtt5::topic(message), mqtt5::text(message)))
    }));
    for _ in 0..2 {
        all_ready.recv_timeout(crate::DEADLINE).expect("both subscribe");
    }
    subscribers
}

fn of_loop(name: &'static str, run: impl FnOnce() -> Vec<String> + Send + 'static) -> Subscriber {
    Subscriber { name, qos: 1, run: thread::spawn(run) }
}

/// A process that prints a line for each message; returns when it has subscribed.
fn of_process(name: &'static str, mut process: Process) -> Subscriber {
    process.stdout().find("ready", |line| (line == "ready" || line.starts_with("Subscribed")).then_some(()));
    let run = thread::spawn(move || {
        let lines = std::iter::repeat_with(|| process.stdout().next()).filter(|line| line.starts_with("loss/"));
        let mut received = Vec::new();
        for line in lines {
            let end = line.starts_with("loss/end");
            received.push(line);
            if end {
                break;
            }
        }
        process.signal("KILL");
        process.wait();
        received
    });
    Subscriber { name, qos: 2, run }
}

/// At QoS 1: mosquitto_sub 2.0 throws a QoS 2 message away if the connection breaks while it sends the PUBCOMP.
fn mosquitto_sub(port: &str, version: &str, id: &str) -> Process {
    let mut command = std::process::Command::new("stdbuf");
    command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", port, "-V", version, "-i", id, "-c", "-d"]);
    command.args(["-k", "600", "-q", "1", "-t", "loss/#", "-F", "%t %p"]);
    if version == "mqttv5" {
        command.args(["-x", "3600"]);
    }
    Process::spawn(&mut command)
}

fn until_end<M>(mut receive: impl FnMut() -> M, line: impl Fn(&M) -> String) -> Vec<String> {
    let mut received = Vec::new();
    loop {
        let line = line(&receive());
        let end = line.starts_with("loss/end");
        received.push(line);
        if end {
            return received;
        }
    }
}

/// Starts one publisher of each make: its name, its highest QoS, and what ends when the broker has everything.
fn publish_all(port: u16) -> Vec<(&'static str, u8, JoinHandle<()>)> {
    let script = |start: fn(&str, &[&str]) -> Process, script: &str, version: &str, name: &str| {
        let mut process = start(script, &[&port.to_string(), version, name, &COUNT.to_string()]);
        thread::spawn(move || process.succeed())
    };
    let python = |version, name| script(scripts::python, "loss_publisher.py", version, name);
    let node = |version, name| script(scripts::node, "loss_publisher.cjs", version, name);
    vec![
        ("pub-paho-3", 2, python("3", "pub-paho-3")),
        ("pub-paho-4", 2, python("4", "pub-paho-4")),
        ("pub-paho-5", 2, python("5", "pub-paho-5")),
        ("pub-js-4", 2, node("4", "pub-js-4")),
        ("pub-js-5", 2, node("5", "pub-js-5")),
        ("pub-rumqttc-4", 1, thread::spawn(move || rumqttc_3_1_1(port, "pub-rumqttc-4"))),
        ("pub-rumqttc-5", 1, thread::spawn(move || rumqttc_5(port, "pub-rumqttc-5"))),
    ]
}

/// One message at a time: with more under way, rumqttc changes their order when a connection breaks that has not sent all
/// of them again.
fn rumqttc_3_1_1(port: u16, name: &str) {
    let mut options = mqtt3::options_at(port, name);
    options.set_clean_session(false);
    let mut client = mqtt3::Client::connect_again_and_again(options);
    for number in 0..COUNT {
        client.publish(&format!("loss/{name}/1"), 1, number.to_string());
    }
}

fn rumqttc_5(port: u16, name: &str) {
    let mut options = mqtt5::options_at(port, name);
    options.set_clean_start(false).set_session_expiry_interval(Some(3600));
    let mut client = mqtt5::Client::connect_again_and_again(options);
    for number in 0..COUNT {
        client.publish(&format!("loss/{name}/1"), 1, number.to_string());
    }
}
