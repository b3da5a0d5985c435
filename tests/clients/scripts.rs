//! Scripts for the clients of other languages: paho-mqtt for Python, MQTT.js for JavaScript.
//!
//! `tests/run` installs both and says where in the environment. A test that needs one that is not there fails: it would
//! prove nothing if it were left out.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::Broker;
use crate::on_every_number_of_shards;
use crate::process::Process;

/// The environment variable that names a Python with paho-mqtt.
const PYTHON: &str = "MOORMQ_TEST_PYTHON";
/// The environment variable that names a directory of node modules with mqtt in it.
const NODE_MODULES: &str = "MOORMQ_TEST_NODE_MODULES";

on_every_number_of_shards![paho_basics, paho_sessions, paho_mqtt5, mqttjs_basics, mqttjs_sessions, mqttjs_mqtt5];

/// Starts a script for paho-mqtt.
pub fn python(script: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(installed(PYTHON));
    Process::spawn(command.arg("-u").arg(below("python", script)).args(arguments))
}

/// Starts a script for MQTT.js.
pub fn node(script: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed(NODE_MODULES));
    Process::spawn(command.arg(below("js", script)).args(arguments))
}

fn installed(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run the tests with tests/run, which installs what they need"),
    }
}

fn below(directory: &str, script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(directory).join(script)
}

/// Runs a script against the broker for each of these versions: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0.
fn run(broker: &Broker, start: fn(&str, &[&str]) -> Process, script: &str, versions: &[&str]) {
    for version in versions {
        start(script, &[&broker.port().to_string(), version]).succeed();
    }
}

fn paho_basics(broker: Broker) {
    run(&broker, python, "basics.py", &["3", "4", "5"]);
}

fn paho_sessions(broker: Broker) {
    run(&broker, python, "sessions.py", &["3", "4", "5"]);
}

fn paho_mqtt5(broker: Broker) {
    run(&broker, python, "features5.py", &["5"]);
}

fn mqttjs_basics(broker: Broker) {
    run(&broker, node, "basics.cjs", &["3", "4", "5"]);
}

fn mqttjs_sessions(broker: Broker) {
    run(&broker, node, "sessions.cjs", &["3", "4", "5"]);
}

fn mqttjs_mqtt5(broker: Broker) {
    run(&broker, node, "features5.cjs", &["5"]);
}
