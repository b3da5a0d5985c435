//! The tools of mosquitto, and what they show of the broker.

use std::process::Command;

use crate::broker::Broker;
use crate::process::Process;
use crate::{mqtt3, on_every_number_of_shards};

/// What each tool calls the versions of MQTT.
const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];
/// Lines that are messages begin so; the others are what `-d` says.
const MARK: &str = "MESSAGE ";

on_every_number_of_shards![
    every_version_talks_to_every_version,
    the_tools_keep_their_sessions,
    a_request_finds_its_response,
    properties_arrive_as_they_were_sent,
    retained_messages_are_listed,
];

/// A running mosquitto_sub whose subscriptions are made. Dropping it kills it, with SIGKILL.
pub struct Subscriber(Process);

impl Subscriber {
    /// Starts it with these arguments; messages are printed in this format (`man mosquitto_sub`, "Output format").
    pub fn new(broker: &Broker, format: &str, arguments: &[&str]) -> Subscriber {
        let format = format!("{MARK}{format}");
        // What is not a terminal gets its lines only when many have come together; stdbuf becomes the tool.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &broker.port().to_string()]);
        let process = Process::spawn(command.args(["-d", "-k", "600", "-F", &format]).args(arguments));
        process.stdout().find("Subscribed", |line| line.starts_with("Subscribed").then_some(()));
        Subscriber(process)
    }

    /// Waits for the next message, and returns what is printed of it.
    pub fn next(&self) -> String {
        loop {
            if let Some(message) = self.0.stdout().next().strip_prefix(MARK) {
                return message.to_owned();
            }
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.0
    }
}

/// Runs mosquitto_pub, which has to succeed.
pub fn publish(broker: &Broker, arguments: &[&str]) {
    Process::spawn(tool("mosquitto_pub", broker).args(arguments)).succeed();
}

fn tool(name: &str, broker: &Broker) -> Command {
    let mut command = Command::new(name);
    command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string()]);
    command
}

fn every_version_talks_to_every_version(broker: Broker) {
    let subscribers = VERSIONS.map(|version| {
        let id = format!("sub-{version}");
        Subscriber::new(&broker, "%t %q %p", &["-V", version, "-i", &id, "-q", "2", "-t", "tools/#"])
    });
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let topic = format!("tools/{version}");
            publish(&broker, &["-V", version, "-q", qos, "-t", &topic, "-m", "hello"]);
            for subscriber in &subscribers {
                assert_eq!(subscriber.next(), format!("{topic} {qos} hello"));
            }
        }
    }
}

fn the_tools_keep_their_sessions(broker: Broker) {
    for version in VERSIONS {
        let kept = ["-V", version, "-i", "kept", "-c", "-q", "1", "-t", "kept/#"];
        // mosquitto_sub knows no other way to keep a session of MQTT 5.0.
        let expiry: &[&str] = if version == "mqttv5" { &["-x", "3600"] } else { &[] };
        let arguments = [&kept, expiry].concat();
        drop(Subscriber::new(&broker, "%p", &arguments));
        for text in ["one", "two", "three"] {
            publish(&broker, &["-V", version, "-q", "1", "-t", "kept/for/you", "-m", text]);
        }
        let again = Subscriber::new(&broker, "%p", &arguments);
        assert_eq!([again.next(), again.next(), again.next()], ["one", "two", "three"], "{version}");
        drop(again);
        // Whoever has the id next starts anew.
        mqtt3::Client::new(&broker, "kept").disconnect();
    }
}

fn a_request_finds_its_response(broker: Broker) {
    let mut responder = crate::mqtt5::Client::new(&broker, "responder");
    responder.subscribe("request", 1);
    let mut command = tool("mosquitto_rr", &broker);
    let mut asking =
        Process::spawn(command.args(["-V", "mqttv5", "-q", "1", "-t", "request", "-e", "response/here"]).args([
            "-m",
            "what is it?",
            "-D",
            "publish",
            "correlation-data",
            "question 7",
        ]));
    let request = responder.receive();
    let asked = request.properties.clone().expect("a request has properties");
    assert_eq!(asked.response_topic.as_deref(), Some("response/here"));
    assert_eq!(asked.correlation_data.as_deref(), Some(&b"question 7"[..]));
    let correlated = crate::mqtt5::PublishProperties { correlation_data: asked.correlation_data, ..Default::default() };
    responder.publish_with("response/here", 1, "it is this", correlated);
    asking.succeed();
    assert_eq!(asking.stdout().all(), ["it is this"]);
}

fn properties_arrive_as_they_were_sent(broker: Broker) {
    let format = "%p|%C|%F|%R|%D|%P";
    let subscriber = Subscriber::new(&broker, format, &["-V", "mqttv5", "-t", "with/properties"]);
    let properties: Vec<&str> = "-D publish content-type text/plain -D publish payload-format-indicator 1 \
        -D publish response-topic answer/to -D publish correlation-data c0rr -D publish user-property a 1 \
        -D publish user-property a 2"
        .split_whitespace()
        .collect();
    publish(&broker, &[&["-V", "mqttv5", "-t", "with/properties", "-m", "hello"], &properties[..]].concat());
    assert_eq!(subscriber.next(), "hello|text/plain|1|answer/to|c0rr|a:1 a:2");
}

fn retained_messages_are_listed(broker: Broker) {
    for version in VERSIONS {
        publish(&broker, &["-V", version, "-r", "-q", "1", "-t", &format!("list/{version}"), "-m", version]);
    }
    let list = |version: &str| {
        let arguments = ["-V", version, "--retained-only", "-v", "-t", "list/#", "-t", "end"];
        publish(&broker, &["-r", "-q", "1", "-t", "end", "-m", "end"]);
        let process = Process::spawn(tool("mosquitto_sub", &broker).args(arguments));
        let mut lines: Vec<String> = std::iter::repeat_with(|| process.stdout().next()).take(4).collect();
        lines.sort();
        lines
    };
    for version in VERSIONS {
        assert_eq!(list(version), ["end end", "list/mqttv31 mqttv31", "list/mqttv311 mqttv311", "list/mqttv5 mqttv5"]);
    }
}
