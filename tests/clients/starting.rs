//! How a broker fails to start: exit code 1, and one sentence that says what is wrong.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::broker::Broker;
use crate::process::Process;
use crate::scripts::python;

#[test]
fn an_address_in_use_is_a_sentence_and_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    assert_cannot_listen_on(taken.local_addr().expect("it is bound"));
}

/// Shards share an address by SO_REUSEPORT; two brokers must not, or each would serve some of the clients.
#[test]
fn the_address_of_another_broker_is_in_use() {
    let broker = Broker::with(2, "");
    assert_cannot_listen_on(SocketAddr::from(([127, 0, 0, 1], broker.port())));
}

fn assert_cannot_listen_on(address: SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moormq"));
    let mut process = Process::spawn(command.args(["--listen", &address.to_string()]));
    assert_eq!(process.wait().code(), Some(1));
    let sentence =
        format!("cannot listen on {address}: Address already in use (os error 98). Another program listens there");
    process.stderr().find(&sentence, |line| line.contains(&sentence).then_some(()));
}

#[test]
fn a_wrong_configuration_is_a_sentence_and_a_failure() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.toml");
    fs::write(&file, "[limits]\nmaximum_qos = 3\n").expect("a file can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_moormq"));
    let mut process = Process::spawn(command.arg("--config").arg(&file));
    assert_eq!(process.wait().code(), Some(1));
    process.stderr().find("the setting", |line| line.contains("maximum_qos").then_some(()));
}

/// What sandboxes forbid, by the error they answer with: there is nothing else on standard error than what to do.
#[test]
fn a_forbidden_io_uring_is_a_sentence_and_a_failure() {
    for (error, call, sentence) in [
        (libc::EPERM, libc::SYS_io_uring_setup, "io_uring is forbidden to this process"),
        (libc::EACCES, libc::SYS_io_uring_enter, "io_uring is forbidden to this process"),
        (libc::EPERM, libc::SYS_io_uring_register, "io_uring is forbidden to this process"),
        (libc::ENOSYS, libc::SYS_io_uring_setup, "io_uring is missing: Linux 6.1 or newer is needed"),
        (libc::EINVAL, libc::SYS_io_uring_setup, "is too old: its io_uring lacks IORING_SETUP_DEFER_TASKRUN"),
        (libc::EINVAL, libc::SYS_io_uring_register, "is too old: its io_uring lacks IORING_REGISTER_PBUF_RING"),
    ] {
        let (error_number, call_number) = (error.to_string(), call.to_string());
        let broker = [env!("CARGO_BIN_EXE_moormq"), "--listen", "127.0.0.1:0"];
        let mut process = python("forbid.py", &[&[&*error_number, &*call_number][..], &broker[..]].concat());
        assert_eq!(process.wait().code(), Some(1), "{error} {call}");
        process.stderr().wait_for_end();
        let lines = process.stderr().all();
        assert!(lines.len() == 2 && lines[1].contains(sentence), "{error} {call}: {lines:?}");
    }
}
