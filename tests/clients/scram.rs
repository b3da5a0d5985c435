//! SCRAM-SHA-256 as a client of others speaks it: MQTT.js, with the primitives of OpenSSL.

use std::process::Command;

use crate::broker::Broker;
use crate::on_every_number_of_shards;
use crate::process::Process;
use crate::scripts::node;

/// A broker, and a folder with its file of users.
struct Guarded {
    broker: Broker,
    _folder: tempfile::TempDir,
}

fn guarded(shards: usize) -> Guarded {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let users = folder.path().join("scram");
    let mut moormq = Command::new(env!("CARGO_BIN_EXE_moormq"));
    let mut passwd = Process::spawn_to_order(moormq.args(["passwd", "--scram"]).arg(&users).arg("ann"));
    passwd.order("pencil");
    passwd.succeed();
    let broker = Broker::with(shards, &format!("[scram_file]\npath = \"{}\"\n", users.display()));
    Guarded { broker, _folder: folder }
}

on_every_number_of_shards![super::guarded => mqttjs_proves_itself_and_does_so_again];

fn mqttjs_proves_itself_and_does_so_again(guarded: Guarded) {
    node("scram.cjs", &[&guarded.broker.port().to_string(), "5"]).succeed();
}
