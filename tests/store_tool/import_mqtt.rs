//! `moormq store import mqtt://...`: the retained messages of a broker that runs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use super::broker::{Broker, Client, publish, text};
use super::tool::{Said, moormq, rows, store};

fn import(port: u16, path: &Path, more: &[&str]) -> Said {
    let (url, path) = (format!("mqtt://127.0.0.1:{port}"), path.to_str().expect("a path of the test"));
    moormq(&[&["store", "import", &url, path, "--shards", "2", "--quiet", "1"][..], more].concat())
}

/// The retained messages of a store, without the time at which they expire: that is known to a second.
fn retained(path: &Path) -> Vec<String> {
    let rows = rows(path).into_iter().map(|row| serde_json::from_str::<Value>(&row).expect("it is JSON"));
    let without_time = |mut row: Value| {
        let expires = row["expires"].take();
        format!("{row} {}", if expires.is_null() { "" } else { "expires" })
    };
    let mut retained: Vec<String> = rows.filter(|row| row["row"] == "retained").map(without_time).collect();
    retained.sort_unstable();
    retained
}

#[test]
fn what_another_broker_retains_is_taken_with_its_properties() {
    let directory = tempfile::tempdir().expect("a directory");
    let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
    let broker = Broker::start(&from, 2);
    let mut publisher = Client::v5(broker.port, "publisher", &[]);
    let properties = [&[34, 3][..], &text("text/plain"), &[38], &text("k"), &text("v"), &[2, 0, 0, 255, 255]].concat();
    let properties = [&[(properties.len() - 1) as u8][..], &properties[1..]].concat();
    publisher.ask(0x33, &publish("with/properties", 1, &properties, b"first"), 0x40);
    publisher.ask(0x35, &publish("of/qos/2", 2, &[0], &[0, 255, 1]), 0x50);
    publisher.ask(0x62, &[0, 2], 0x70);
    for number in 0..300 {
        publisher.ask(0x33, &publish(&format!("many/{number}"), 3, &[0], &[b'x'; 2000]), 0x40);
    }
    publisher.ask(0x33, &publish("many/7", 4, &[0], b""), 0x40);
    publisher.leave();
    let said = import(broker.port, &to, &[]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{}", said.out);
    assert!(said.out.starts_with("taken: 301 retained messages\n"), "{}", said.out);
    // Into another mountpoint of the same store, a part of it; what is there stays.
    let said =
        import(broker.port, &to, &["--merge", "--mountpoint", "company", "--filter", "of/#", "--filter", "many/1"]);
    assert!(said.out.starts_with("taken: 2 retained messages\n"), "{said:?}");
    let said = import(broker.port, &to, &["--merge", "--filter", "many/+"]);
    let left_out = "left out: 299 retained messages for topics that have one in the store already\n";
    assert!(said.out.starts_with(left_out), "{said:?}");
    broker.stop();
    let expected = retained(&from);
    assert_eq!(expected.len(), 301);
    let (own, others): (Vec<String>, Vec<String>) =
        retained(&to).into_iter().partition(|row| row.contains("\"mountpoint\":\"\""));
    assert_eq!((own, others.len()), (expected, 2));
    assert_eq!(store("verify", &to, &[]).code, Some(0));
    let broker = Broker::start(&to, 1);
    let mut reader = Client::v5(broker.port, "reader", &[]);
    reader.send(0x82, &[&[0, 1, 0][..], &text("with/properties"), &[1]].concat());
    let body = reader.until(0x33);
    assert!(body.ends_with(b"first") && body.windows(10).any(|part| part == b"text/plain"), "{body:?}");
    broker.stop();
}

/// What reads packets until one begins with this byte.
fn until(stream: &mut TcpStream, first: u8) -> Option<Vec<u8>> {
    loop {
        let mut head = [0; 2];
        stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; usize::from(head[1])];
        stream.read_exact(&mut body).ok()?;
        if head[0] == first {
            return Some(body);
        }
    }
}

/// A broker that knows MQTT 3.1.1 alone, and says so in this way; it retains one message.
fn old_broker(refuse: impl Fn(&mut TcpStream) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it has one").port();
    let thread = thread::spawn(move || {
        let (mut first, _) = listener.accept().expect("a client");
        let connect = until(&mut first, 0x10).expect("it connects");
        assert_eq!(connect[6], 5, "MQTT 5 is tried first");
        refuse(&mut first);
        drop(first);
        let (mut second, _) = listener.accept().expect("it comes again");
        let connect = until(&mut second, 0x10).expect("it connects");
        assert_eq!(connect[6], 4);
        second.write_all(&[0x20, 2, 0, 0]).expect("it reads");
        until(&mut second, 0x82).expect("it subscribes");
        second.write_all(&[0x90, 3, 0, 1, 2]).expect("it reads");
        // One that is not retained, and one of QoS 2 that is.
        second.write_all(b"\x30\x08\0\x03a/bnew").expect("it reads");
        second.write_all(b"\x35\x0a\0\x03a/b\0\x09old").expect("it reads");
        assert_eq!(until(&mut second, 0x50), Some(vec![0, 9]));
        second.write_all(&[0x62, 2, 0, 9]).expect("it reads");
        assert_eq!(until(&mut second, 0x70), Some(vec![0, 9]));
        assert_eq!(until(&mut second, 0xe0), Some(Vec::new()), "it leaves");
    });
    (port, thread)
}

#[test]
fn a_broker_of_mqtt_3_is_asked_in_its_words() {
    let refusals: [fn(&mut TcpStream); 2] = [|stream| stream.write_all(&[0x20, 2, 0, 1]).expect("it reads"), |_| ()];
    for refuse in refusals {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let (port, thread) = old_broker(refuse);
        let said = import(port, &path, &[]);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{}", said.out);
        thread.join().expect("it was spoken to as it should be");
        let retained = retained(&path);
        assert!(retained.len() == 1 && retained[0].contains("\"payload\":\"old\""), "{retained:?}");
        assert!(retained[0].contains("\"topic\":\"a/b\"") && retained[0].contains("\"qos\":2"), "{retained:?}");
    }
}

#[test]
fn what_goes_wrong_is_said_and_no_store_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let refused = |said: Said, why: &str| {
        assert!(said.code != Some(0) && said.err.contains(why), "{said:?}");
        assert!(!path.exists());
    };
    // Nobody listens at a port that is taken by who does not.
    let taken = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("there are sockets");
    taken.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("there is a port");
    let nobody = taken.local_addr().expect("it has one").as_socket().expect("it is of IP").port();
    refused(import(nobody, &path, &[]), "cannot be reached: Connection refused");
    refused(import(nobody, &path, &["--filter", "a/#/b"]), "a/#/b is no topic filter");
    let of = |url: &str| moormq(&["store", "import", url, path.to_str().expect("a path of the test")]);
    refused(of("mqtts://localhost"), "mqtts:// is not known: mqtt://HOST[:PORT] is, without TLS");
    refused(of("mqtt://me:secret@localhost"), "has no user and no path: see --username");
    // Something that is no broker, and one that says nothing of itself.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it has one").port();
    let thread = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().expect("a client");
            until(&mut stream, 0x10).expect("it connects");
            stream.write_all(&[0xff; 8]).expect("it reads");
        }
    });
    refused(import(port, &path, &[]), "answers something else than MQTT");
    thread.join().expect("no panic");
    // A broker with passwords.
    let passwords = directory.path().join("passwords");
    std::fs::write(&passwords, "secret\nmore\n").expect("it can be written");
    let password_file = passwords.to_str().expect("a path of the test");
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let port = listener.local_addr().expect("it has one").port();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let connect = until(&mut stream, 0x10).expect("it connects");
        assert!(connect.ends_with(&[&text("me")[..], &text("secret")].concat()), "{connect:?}");
        stream.write_all(&[0x20, 3, 0, 0x86, 0]).expect("it reads");
    });
    refused(
        import(port, &path, &["--username", "me", "--password-file", password_file]),
        "refuses the connection: BadUserNameOrPassword: see --username and --password-file",
    );
    thread.join().expect("it was told who comes");
}

/// Mosquitto itself: `tests/tools` installs it.
struct Mosquitto {
    child: Child,
    port: u16,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Mosquitto {
    /// It has to be given a port. Whoever else wants one has it from the kernel, which gives none of these to anybody; if one is taken even so,
    /// Mosquitto ends, and another one is tried.
    fn start() -> Mosquitto {
        for _ in 0..20 {
            let port = fastrand::u16(15_000..30_000);
            let mut command = Command::new("/usr/sbin/mosquitto");
            let child = command.args(["-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut started = Mosquitto { child: child.expect("it can be run: tests/tools installs it"), port };
            while started.child.try_wait().expect("it is a child").is_none() {
                thread::sleep(Duration::from_millis(10));
                if started.listens() {
                    return started;
                }
            }
        }
        panic!("it ends at once, whichever port it is given");
    }

    /// Whether it is this process that listens there: one that has not bound its port yet does not.
    fn listens(&self) -> bool {
        let listener = SocketAddr::from(([127, 0, 0, 1], self.port));
        moormq::net::port_holder::holder_of(listener).is_some_and(|holder| holder.pid == self.child.id())
    }
}

#[test]
fn mosquitto_gives_what_it_retains() {
    let mosquitto = Mosquitto::start();
    let port = mosquitto.port;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store");
    let mut publisher = Client::v5(port, "publisher", &[]);
    let properties = [&[13, 3][..], &text("text/plain")].concat();
    publisher.ask(0x33, &publish("kept/1", 1, &properties, b"first"), 0x40);
    publisher.ask(0x35, &publish("kept/2", 2, &[0], b"second"), 0x50);
    publisher.ask(0x62, &[0, 2], 0x70);
    let said = import(port, &path, &[]);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{}", said.out);
    assert!(said.out.starts_with("taken: 2 retained messages\n"), "{}", said.out);
    let retained = retained(&path);
    assert!(retained[0].contains("text/plain") && retained[0].contains("\"payload\":\"first\""), "{retained:?}");
    assert!(retained[1].contains("\"qos\":2") && retained[1].contains("\"payload\":\"second\""), "{retained:?}");
}
