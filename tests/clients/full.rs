//! More clients than there may be, or than the process has descriptors for: they are told, and the broker goes on.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::process::Process;
use crate::raw_connection::{ProtocolVersion, RawConnection, ReasonCode, clean};
use crate::{DEADLINE, on_every_number_of_shards};

on_every_number_of_shards![super::five => who_comes_beyond_the_limit_is_told];
mod with_few_descriptors {
    use super::goes_on_with_few_descriptors;
    crate::on_every_number_of_shards![std::convert::identity => goes_on_with_few_descriptors];
}

fn five(shards: usize) -> Broker {
    Broker::with(shards, "[limits]\nmax_connections = 5\n")
}

/// Connects, again and again while there is no room.
fn connect(port: u16, client_id: &str) -> RawConnection {
    let start = Instant::now();
    loop {
        match RawConnection::try_connect(port, clean(ProtocolVersion::V5, client_id)) {
            Ok(connection) => return connection,
            Err(code) => assert!(start.elapsed() < DEADLINE, "there is no room: {code:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn who_comes_beyond_the_limit_is_told(broker: Broker) {
    let refused = |version| RawConnection::try_connect(broker.port(), clean(version, "refused")).err();
    for _ in 0..3 {
        // Exactly five, wherever the kernel puts them. Those of the round before may not have been seen to leave.
        let clients: Vec<_> = (0..5).map(|number| connect(broker.port(), &format!("client-{number}"))).collect();
        for _ in 0..3 {
            assert_eq!(refused(ProtocolVersion::V5), Some(Some(ReasonCode::QuotaExceeded)));
            assert_eq!(refused(ProtocolVersion::V311), Some(Some(ReasonCode::ServerUnavailable)));
        }
        drop(clients);
    }
}

/// A program that runs the broker with at most 220 descriptors.
fn limited() -> PathBuf {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("few-descriptors-{}", std::process::id()));
    let text = format!("#!/bin/sh\nulimit -n 220\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_moormq"));
    let draft = script.with_extension(format!("{:?}", thread::current().id()));
    fs::write(&draft, text).expect("a file can be written");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::rename(&draft, &script).expect("it is ours");
    script
}

/// Operators are answered, files are read again, and newcomers do not wait for an answer for ever.
fn goes_on_with_few_descriptors(shards: usize) {
    let place = std::env::temp_dir().join(format!("moormq-full-{}-{shards}", std::process::id()));
    let (socket, rules) = (place.with_extension("socket"), place.with_extension("rules"));
    fs::write(&rules, "topic a\n").expect("a file can be written");
    let settings = format!(
        "[control]\nsocket = \"{}\"\n[acl_file]\npath = \"{}\"\n[reload]\ninterval = \"never\"\n",
        socket.display(),
        rules.display()
    );
    let mut broker = Broker::of(&limited(), shards, &settings);
    let idle: Vec<_> =
        (0..400).map(|_| TcpStream::connect(("127.0.0.1", broker.port())).expect("the kernel takes it")).collect();
    for number in 0..3 {
        let newcomer = RawConnection::try_connect(broker.port(), clean(ProtocolVersion::V5, &format!("new-{number}")));
        assert!(matches!(newcomer.err(), Some(None | Some(ReasonCode::QuotaExceeded))));
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_moormq"));
        Process::spawn(ctl.args(["ctl", "--socket"]).arg(&socket).arg("shards")).succeed();
        // By SIGHUP; a changed file is read in the same way.
        fs::write(&rules, "topic a\n".repeat(number + 2)).expect("a file can be written");
        broker.process().signal("HUP");
        let (read, entries) = ("read again", format!("entries={}", number + 2));
        let is_told = |line: &str| (line.contains(read) && line.contains(&entries)).then_some(());
        broker.process().stderr().find(&format!("{read} {entries}"), is_told);
    }
    drop(idle);
    connect(broker.port(), "client");
    fs::remove_file(&rules).expect("it is there");
}
