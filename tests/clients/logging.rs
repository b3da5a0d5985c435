//! The log: nothing that happens to standard error stops the broker, and clients cannot fill it.

use std::fs::File;
use std::io::pipe;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::DEADLINE;
use crate::broker::Broker;
use crate::on_every_number_of_shards;
use crate::raw_connection::{Packet, ProtocolVersion, RawConnection, clean};

on_every_number_of_shards![super::limited => what_is_left_out_is_counted];

fn limited(shards: usize) -> Broker {
    Broker::with(shards, "[retained]\nmax_messages = 0\n[log]\nmax_lines_per_second = 10\n")
}

/// How many retained messages are refused, each with a line in the log.
const REFUSED: usize = 20_000;

/// Retained publishes at QoS 0 that are each refused with a line, and waits until the last has been served.
fn be_refused(connection: &mut RawConnection) {
    for number in 0..REFUSED {
        connection.send(b"\x31\x04\x00\x01ax");
        if number % 1000 == 999 {
            be_served(connection);
        }
    }
}

fn be_served(connection: &mut RawConnection) {
    connection.send_packet(&Packet::Pingreq);
    connection.next(|packet| matches!(packet, Packet::Pingresp).then_some(())).expect("it is served");
}

fn what_is_left_out_is_counted(mut broker: Broker) {
    let start = Instant::now();
    be_refused(&mut RawConnection::connect(&broker, clean(ProtocolVersion::V311, "client")));
    assert_eq!(broker.stop().code(), Some(0));
    let seconds = start.elapsed().as_secs() as usize;
    let log = broker.process().stderr();
    log.wait_for_end();
    let (written, told): (Vec<_>, Vec<_>) = log
        .all()
        .into_iter()
        .filter(|line| line.contains("message not retained"))
        .partition(|line| !line.contains("lines left out"));
    assert!(written.len() <= 10 * (seconds + 2), "{} lines in {seconds} s", written.len());
    let count = |line: &String| line.split_once("lines=")?.1.split(' ').next()?.parse::<usize>().ok();
    let told: usize = told.iter().filter_map(count).sum();
    assert_eq!(written.len() + told, REFUSED, "every line is written or counted");
}

/// A broker whose standard error is not read.
struct Unheard {
    child: Child,
    port: u16,
}

impl Unheard {
    fn start(shards: usize, stderr: Stdio) -> Unheard {
        // It cannot say which port it has. The kernel gives none of these to others.
        let mut ports = std::iter::repeat_with(|| fastrand::u16(15_000..30_000)).take(1000);
        let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port");
        let file = format!("{}/unheard-{}-{port}.toml", env!("CARGO_TARGET_TMPDIR"), std::process::id());
        let settings = format!(
            "shards = {shards}\nallow_anonymous = true\nretained.max_messages = 0\nlog.max_lines_per_second = 0\n\
             [listeners.default]\naddress = \"127.0.0.1:{port}\"\nconnect_timeout = \"10m\"\n"
        );
        std::fs::write(&file, settings).expect("a file can be written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_moormq"));
        let child = command.args(["--config", &file]).stdin(Stdio::null()).stderr(stderr).spawn();
        let broker = Unheard { child: child.expect("it can be started"), port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < DEADLINE, "it listens");
            thread::sleep(Duration::from_millis(10));
        }
        std::fs::remove_file(&file).expect("it was read");
        broker
    }

    fn connect(&self, client_id: &str) -> RawConnection {
        RawConnection::try_connect(self.port, clean(ProtocolVersion::V311, client_id)).expect("it is let in")
    }

    /// Sends SIGTERM, and waits for the end.
    fn stop(mut self) -> ExitStatus {
        let status = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(status.expect("sh can be run").success());
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "SIGTERM ends it");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Everybody is served, with more lines than any pipe holds, and SIGTERM works.
fn goes_on(stderr: impl Fn() -> Stdio) {
    for shards in [1, 2, 4] {
        let broker = Unheard::start(shards, stderr());
        let mut loud = broker.connect("loud");
        be_refused(&mut loud);
        // One on each shard, most likely.
        (0..8).for_each(|number| be_served(&mut broker.connect(&format!("other-{number}"))));
        assert_eq!(broker.stop().code(), Some(0), "{shards} shards");
    }
}

#[test]
fn a_full_disk_stops_nobody() {
    goes_on(|| File::options().write(true).open("/dev/full").expect("Linux has it").into());
}

#[test]
fn a_closed_pipe_stops_nobody() {
    goes_on(|| pipe().expect("a pipe").1.into());
}

#[test]
fn a_reader_that_does_not_read_stops_nobody() {
    // The reader lives as long as the test.
    let readers = std::cell::RefCell::new(Vec::new());
    goes_on(|| {
        let (reader, writer) = pipe().expect("a pipe");
        readers.borrow_mut().push(reader);
        writer.into()
    });
}
