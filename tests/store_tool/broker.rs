//! A broker that is killed, as a rule; and clients that say exactly what they are told to.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::tool::{PROGRAM, Said, moormq, store};

/// A broker with a store. Dropping it kills it.
pub struct Broker {
    child: Child,
    pub port: u16,
    /// That of the listener with the mountpoint `company`.
    pub company: u16,
    /// What it said of what it read.
    pub read: String,
    /// All that it said until it listened.
    pub said: Vec<String>,
    /// What it says from then on.
    further: Receiver<String>,
    /// Its control socket.
    socket: PathBuf,
}

/// Nothing here takes as long, on a machine that is slow and does ten other things as well: it ends tests that would wait for ever.
const LONG: Duration = Duration::from_secs(600);

/// For a broker that goes on with what another number of shards had: each shard writes anew what it has then, in journals. How much that is depends on
/// how far the archive had come, and so on how busy the machine was. With this there is room for all that journals of the usual length can have, for each
/// of three sessions.
pub const ROOM: &str = "segments = 16";

/// Runs a broker of so many shards on the store at `path`.
fn run(path: &Path, shards: u32, storage: &str) -> Child {
    let config = path.with_extension("toml");
    let segments = if storage.contains("segments") { "" } else { "segments = 4" };
    let text = format!(
        "control.socket = '{}'\nshards = {shards}\nallow_anonymous = true\nsys.interval = '0s'\n\
         limits.max_packet_size = '1MiB'\nlimits.connect_timeout = '10m'\nqueue.max_offline_messages = 'unlimited'\nqueue.max_queue_bytes = 'unlimited'\n\
         listeners.default.address = '127.0.0.1:0'\nlisteners.company.address = '127.0.0.1:0'\n\
         listeners.company.mountpoint = 'company'\n\
         [storage]\npath = '{}'\nsegment_size = '4MiB'\n{segments}\n{storage}\n",
        path.with_extension("sock").display(),
        path.display()
    );
    fs::write(&config, text).expect("it can be written");
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(&config).stderr(Stdio::piped()).spawn().expect("the program can be run")
}

impl Broker {
    /// Starts a broker of so many shards on the store at `path`; its configuration and its control socket are beside that.
    pub fn start(path: &Path, shards: u32) -> Broker {
        Broker::start_with(path, shards, "").sound()
    }

    /// It has found nothing that is damaged.
    pub fn sound(self) -> Broker {
        let bad = self.said.iter().find(|line| line.contains("ERROR") || line.starts_with("moormq:"));
        assert!(bad.is_none(), "{bad:?}");
        self
    }

    /// Starts one with further settings of the section `storage`. It may find that something is damaged.
    pub fn start_with(path: &Path, shards: u32, storage: &str) -> Broker {
        let mut child = run(path, shards, storage);
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (mut said, mut read, mut ports) = (Vec::new(), String::new(), [0; 2]);
        while ports.contains(&0) {
            let Some(line) = lines.next() else { panic!("it has ended, {:?}: {said:?}", child.wait()) };
            let line = line.expect("it is text");
            if line.contains("storage: read") {
                read = line.clone();
            }
            for (name, port) in ["default", "company"].iter().zip(&mut ports) {
                if let Some((_, rest)) = line.split_once(&format!("listener=\"{name}\" address=127.0.0.1:")) {
                    *port = rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
                }
            }
            said.push(line);
        }
        // Nobody waits for the pipe.
        let (sender, further) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        Broker { child, port: ports[0], company: ports[1], read, said, further, socket: path.with_extension("sock") }
    }

    /// Starts one that does not come up: the exit code, and what it says last.
    pub fn refused(path: &Path, shards: u32, storage: &str) -> (Option<i32>, String) {
        let mut child = run(path, shards, storage);
        let mut last = String::new();
        for line in BufReader::new(child.stderr.take().expect("it is piped")).lines() {
            last = line.expect("it is text");
            if last.contains("listening") {
                let _ = child.kill();
                panic!("it has started: {last}");
            }
        }
        (child.wait().expect("it ends").code(), last)
    }

    /// Waits until it says this, in a line that is returned.
    pub fn says(&self, what: &str) -> String {
        loop {
            let line = self.further.recv_timeout(LONG).unwrap_or_else(|error| panic!("{error} before: {what}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Waits until it has ended by itself: the exit code, and what it said last.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let mut last = String::new();
        loop {
            match self.further.recv_timeout(LONG) {
                Ok(line) => last = line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it goes on; it said last: {last}"),
            }
        }
        (self.child.wait().expect("it ends").code(), last)
    }

    /// Runs `moormq ctl` with these arguments.
    pub fn ctl(&self, args: &[&str]) -> Said {
        let socket = self.socket.to_str().expect("a path of the test");
        moormq(&[&["ctl", "--socket", socket][..], args].concat())
    }

    /// The answer to such a command, which has to succeed.
    pub fn ctl_json(&self, args: &[&str]) -> serde_json::Value {
        let said = self.ctl(&[args, &["--json"]].concat());
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{args:?}: {}", said.out);
        serde_json::from_str(&said.out).expect("it is JSON")
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits for that.
    pub fn stop(mut self) {
        let status = Command::new("kill").arg(self.id().to_string()).status().expect("there is kill");
        assert!(status.success());
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.port, self.child.try_wait());
            self.further.try_iter().for_each(|line| eprintln!("{line}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection.
pub struct Client(TcpStream);

impl Client {
    /// Connects with this body of a CONNECT, and reads CONNACK.
    pub fn connect(port: u16, body: &[u8]) -> Client {
        let mut client = Client::begin(port);
        client.send(0x10, body);
        let (kind, body) = client.receive();
        assert!(kind == 0x20 && body[1] == 0, "{body:?}");
        client
    }

    /// Connects, and says nothing.
    pub fn begin(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a duration");
        Client(stream)
    }

    /// MQTT 3.1.1 with a session that is kept.
    pub fn v311(port: u16, client_id: &str) -> Client {
        Client::connect(port, &[b"\0\x04MQTT\x04\0\0\0", &*text(client_id)].concat())
    }

    /// MQTT 5.0 with a session that is kept for ever, Receive Maximum 2, and perhaps a will of these bytes.
    pub fn v5(port: u16, client_id: &str, will: &[u8]) -> Client {
        let flags = if will.is_empty() { 0 } else { 0b0010_1100 };
        let head = [&b"\0\x04MQTT\x05"[..], &[flags, 0, 0, 8, 0x11, 0xff, 0xff, 0xff, 0xff, 0x21, 0, 2]].concat();
        Client::connect(port, &[head, text(client_id), will.to_vec()].concat())
    }

    /// Sends a packet that begins with this byte.
    pub fn send(&mut self, first: u8, body: &[u8]) {
        self.try_send(first, body).expect("it reads");
    }

    /// Likewise; an error if the broker has gone.
    pub fn try_send(&mut self, first: u8, body: &[u8]) -> std::io::Result<()> {
        let mut packet = vec![first];
        let mut length = body.len();
        while length > 127 {
            packet.push(length as u8 | 0x80);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        self.0.write_all(&packet)
    }

    /// The next packet: its first byte, and its body.
    pub fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut byte = || {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("it answers");
            byte[0]
        };
        let first = byte();
        let (mut length, mut shift) = (0, 0);
        loop {
            let next = byte();
            length |= usize::from(next & 0x7f) << shift;
            shift += 7;
            if next & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("it answers");
        (first, body)
    }

    /// Sends a packet, and waits for one that begins with this byte.
    pub fn ask(&mut self, first: u8, body: &[u8], answer: u8) -> Vec<u8> {
        self.send(first, body);
        self.until(answer)
    }

    /// Waits for a packet that begins with this byte, past others.
    pub fn until(&mut self, answer: u8) -> Vec<u8> {
        loop {
            let (kind, body) = self.receive();
            if kind == answer {
                return body;
            }
        }
    }

    /// Leaves in an orderly way. What was on its way to it counts no more.
    pub fn leave(mut self) {
        self.send(0xe0, &[]);
        std::io::copy(&mut self.0, &mut std::io::sink()).expect("it closes");
    }
}

/// A text with its length.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// The body of a PUBLISH: topic, packet id, properties with their length, payload.
pub fn publish(topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    [text(topic), id.to_be_bytes().to_vec(), properties.to_vec(), payload.to_vec()].concat()
}

/// Fills the store at `path` with something of each kind, by a broker of two shards that is killed then.
pub fn fill(path: &Path) {
    let broker = Broker::start(path, 2);
    // A session of each version, one in another mountpoint; all subscribe.
    let mut plain = Client::v311(broker.port, "plain");
    plain.ask(0x82, &[&[0, 1][..], &text("news/#"), &[1], &text("other/+"), &[2]].concat(), 0x90);
    plain.leave();
    let mut far = Client::v311(broker.company, "plain");
    far.ask(0x82, &[&[0, 1][..], &text("news/#"), &[1]].concat(), 0x90);
    far.leave();
    // With identifier 7, options: QoS 2, No Local, Retain As Published.
    let mut five = Client::v5(broker.port, "five", &[]);
    five.ask(0x82, &[&[0, 1, 2, 0x0b, 7][..], &text("news/#"), &[0b1110]].concat(), 0x90);
    five.ask(0x82, &[&[0, 2, 0][..], &text("$share/group/jobs"), &[1]].concat(), 0x90);
    // Its window is two messages: one that it takes no notice of, one that it has, and one that waits.
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    let properties = [&[22, 3][..], &text("text/plain"), &[38], &text("k"), &text("v"), &[1, 1]].concat();
    assert_eq!(properties[0] as usize, properties.len() - 1);
    publisher.ask(0x32, &publish("news/1", 1, &properties, b"first"), 0x40);
    publisher.ask(0x34, &publish("news/2", 2, &[0], b"second"), 0x50);
    publisher.ask(0x62, &[0, 2], 0x70);
    publisher.ask(0x34, &publish("news/3", 3, &[0], &[0, 255, 1]), 0x50);
    publisher.ask(0x62, &[0, 3], 0x70);
    // That one is never released.
    publisher.ask(0x34, &publish("other/1", 77, &[0], b"not released"), 0x50);
    publisher.ask(0x32, &publish("jobs", 5, &[0], b"a job"), 0x40);
    let first = five.until(0x32);
    assert!(first.ends_with(b"first"));
    let (kind, second) = five.receive();
    assert!(kind == 0x34 && second.ends_with(b"second"));
    let id = [second[8], second[9]];
    five.ask(0x50, &id, 0x62);
    // Retained: one that expires in a hundred years, one that goes again.
    let expires = [5, 2, 0xff, 0xff, 0xff, 0xf0];
    publisher.ask(0x33, &publish("kept/1", 6, &expires, b"kept"), 0x40);
    publisher.ask(0x33, &publish("kept/2", 7, &[0], b"cleared"), 0x40);
    publisher.ask(0x33, &publish("kept/2", 8, &[0], b""), 0x40);
    let mut company = Client::v311(broker.company, "publisher");
    company.ask(0x33, &[text("kept/1"), vec![0, 1], b"of the company".to_vec()].concat(), 0x40);
    // A will that is due in a hundred years.
    let delay = [5, 0x18, 0xff, 0xff, 0xff, 0xf0];
    let will = [&delay[..], &text("wills/1"), &text("I am gone")].concat();
    let doomed = Client::v5(broker.port, "doomed", &will);
    drop(doomed);
    company.leave();
    // What was acknowledged is on disk, and the end of the client with a will soon is.
    let mut last = Client::v311(broker.port, "last");
    last.ask(0x82, &[&[0, 1][..], &text("x"), &[1]].concat(), 0x90);
    last.leave();
    drop((five, publisher));
    drop(broker);
    // What it had begun to write may reach the disk after its end. Who looks waits for that.
    let said = store("stat", path, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
}
