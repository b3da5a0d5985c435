//! A broker with a store whose disk is not as it should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use moormq::codec::{PacketId, Publish, QoS};

use crate::process::Process;
use crate::raw_connection::{Packet, ProtocolVersion, RawConnection, kept};

/// A program that runs the broker, and does not mind the signal of a file that would be too large: the write fails then.
fn program(directory: &Path) -> PathBuf {
    let program = directory.join("broker");
    let broker = env!("CARGO_BIN_EXE_moormq");
    fs::write(&program, format!("#!/bin/sh\ntrap '' XFSZ\nexec {broker} \"$@\"\n")).expect("a file can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    program
}

/// When a write fails, nobody knows what is on the disk: the broker ends, and says why.
#[test]
fn a_write_that_fails_ends_the_broker() {
    for shards in [1, 2] {
        let name = format!("storing-{}-{shards}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory below the target directory can be made");
        let config = directory.join("moormq.toml");
        let listener =
            "[listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nconnect_timeout = \"10m\"";
        let store = directory.join("store");
        let text = format!("shards = {shards}\n{listener}\n[storage]\npath = \"{}\"\n", store.display());
        fs::write(&config, text).expect("a file can be written");
        let mut broker = Process::spawn(Command::new(program(&directory)).arg("--config").arg(&config));
        let port = broker.stderr().find("address=127.0.0.1:", |line| {
            line.split_once("address=127.0.0.1:")?.1.split(' ').next()?.parse().ok()
        });
        // On each shard there is a segment, with a header and one commit at least: no more fits.
        for client in 0..20 {
            let name = format!("early{client}");
            let connected = RawConnection::try_connect(port, kept(ProtocolVersion::V5, &name, 60));
            assert!(connected.is_ok(), "{}", broker.transcript());
        }
        let pid = broker.id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=8192"]).status();
        assert!(limited.expect("it is part of every Debian").success());
        // Whoever comes when it has ended is not answered.
        for client in 0..20 {
            if RawConnection::try_connect(port, kept(ProtocolVersion::V5, &format!("client{client}"), 60)).is_err() {
                break;
            }
        }
        let status = broker.wait();
        assert_eq!(status.code(), Some(101), "{}", broker.transcript());
        let log = broker.transcript();
        assert!(log.contains("the journal could not be written: File too large"), "{log}");
        let last = broker.stderr().all().pop().unwrap_or_default();
        assert!(last.contains("died: the journal could not be written"), "{last}");
        fs::remove_dir_all(&directory).expect("it can be removed");
    }
}

/// Of three listeners each has a class of its own: what is theirs is there when the broker was killed, or is not.
#[test]
fn listeners_have_classes_of_their_own() {
    for shards in [1, 2] {
        let name = format!("classes-{}-{shards}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&directory).expect("a directory below the target directory can be made");
        let listener = |name: &str, durability: &str| {
            let open = "address = \"127.0.0.1:0\"\nallow_anonymous = true\nconnect_timeout = \"10m\"";
            format!("[listeners.{name}]\n{open}\n{durability}\n")
        };
        let listeners = listener("stored", "") + &listener("flushed", "durability = \"flushed\"");
        let listeners = listeners + &listener("quick", "durability = \"none\"");
        let (config, store) = (directory.join("moormq.toml"), directory.join("store"));
        let storage = format!("[storage]\npath = \"{}\"\nsegment_size = \"16MiB\"\nsegments = 4\n", store.display());
        fs::write(&config, format!("shards = {shards}\n{listeners}{storage}")).expect("a file can be written");
        let names = ["stored", "flushed", "quick"];
        let start = || {
            let broker = Process::spawn(Command::new(env!("CARGO_BIN_EXE_moormq")).arg("--config").arg(&config));
            let ports = names.map(|name| {
                let listening = format!("listener=\"{name}\" address=127.0.0.1:");
                broker
                    .stderr()
                    .find(&listening, |line| line.split_once(&listening)?.1.split(' ').next()?.parse::<u16>().ok())
            });
            (broker, ports)
        };
        let connect = |port: u16, name: &str| {
            RawConnection::try_connect(port, kept(ProtocolVersion::V5, name, 600)).expect("it is accepted")
        };
        let (mut broker, ports) = start();
        for (name, port) in names.into_iter().zip(ports) {
            connect(port, name).subscribe("t");
        }
        // That of the second one is on disk with that of the third one at the latest: it waits for both.
        for (text, port) in [("one", ports[2]), ("two", ports[1]), ("three", ports[0])] {
            let mut publisher = connect(port, text);
            let packet_id = PacketId::new(1);
            let publish = Publish { qos: QoS::AtLeastOnce, topic: "t", packet_id, ..Publish::default() };
            publisher.send_packet(&Packet::Publish(Publish { payload: text.as_bytes(), ..publish }));
            publisher.next(|packet| matches!(packet, Packet::Puback(_)).then_some(())).expect("a PUBACK");
        }
        broker.signal("KILL");
        broker.wait();
        let (mut broker, ports) = start();
        for (name, port) in names.into_iter().zip(ports) {
            let mut client = connect(port, name);
            if name != "quick" {
                assert_eq!([(); 3].map(|()| client.take()), [&b"one"[..], b"two", b"three"], "{name}");
            }
            client.send_packet(&Packet::Pingreq);
            let next = client.next(|packet| Some(matches!(packet, Packet::Pingresp)));
            assert_eq!(next, Some(true), "{name} has nothing more");
        }
        broker.signal("TERM");
        broker.succeed();
        fs::remove_dir_all(&directory).expect("it can be removed");
    }
}
