//! The log: an operator learns of every connection that was refused or ended, whose it was, and why.

use std::io::{Read, Write};
use std::net::TcpStream;

use moormq::codec::PublishProperties;

use crate::DEADLINE;
use crate::broker::Broker;
use crate::raw_connection::{Connect, Disconnect, Packet, ProtocolVersion, RawConnection, ReasonCode, Will, clean};

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// Waits for a line at this level that has all of these words.
fn logged(broker: &mut Broker, level: &str, words: &[&str]) {
    let is_it = |line: &str| line.contains(level) && words.iter().all(|word| line.contains(word));
    broker.process().stderr().find(&words.join(" ... "), |line| is_it(line).then_some(()));
}

/// Sends bytes as the first ones of a connection, which the broker closes. Returns the address of the client.
fn strange(broker: &Broker, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).expect("the broker listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
    stream.write_all(bytes).expect("it reads");
    // A connection that is closed with a reset is closed, too.
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    format!("peer={}", stream.local_addr().expect("it is bound"))
}

#[test]
fn what_comes_to_the_wrong_port_is_called_by_its_name() {
    let upgrade = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    for shards in [1, 2, 4] {
        let mut broker = Broker::start(shards);
        for (bytes, seems) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], "the client seems to speak TLS"),
            (b"GET / HTTP/1.1\r\n\r\n", "the client seems to speak HTTP"),
            (upgrade.as_bytes(), "the client seems to speak a WebSocket upgrade"),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "the client seems to speak the PROXY protocol"),
            (b"\xC0\x00", "the first packet is not a CONNECT"),
            (b"\x82\x7F", "what came is not the beginning of a CONNECT"),
        ] {
            let peer = strange(&broker, bytes);
            logged(&mut broker, "INFO", &["connection closed: ", seems, &peer, "listener=\"default\""]);
        }
        let peer = strange(&broker, b"\x10\x09\x00\x04MQTT\x04\x02\x00");
        logged(&mut broker, "INFO", &["connection refused: packet ends in the middle", &peer, "listener=\"default\""]);
        assert!(
            !broker.process().stderr().all().iter().any(|line| line.contains("GET ")),
            "what came is not logged itself"
        );
    }
}

fn refused(broker: &Broker, connect: Connect<'_>) {
    RawConnection::try_connect(broker.port(), connect).err().expect("it is refused");
}

#[test]
fn a_refused_client_is_named_with_the_reason() {
    for shards in [1, 2, 4] {
        let mut broker = Broker::configured(&format!(
            "shards = {shards}\n[listeners.default]\naddress = \"127.0.0.1:0\"\n[session]\nmax_client_id_size = 23\n"
        ));
        let user = Connect { username: Some("ann\n\u{1b}[31m"), ..clean(V5, "ann's") };
        refused(&broker, user);
        let who = ["peer=127.0.0.1:", "client=ann's", "user=\"ann\\n\\u{1b}[31m\"", "listener=\"default\""];
        let why = "connection refused: no hook accepts this client, and the listener does not allow anonymous ones";
        logged(&mut broker, "INFO", &[&who[..], &[why]].concat());
        refused(&broker, clean(V311, "a-client-id-of-more-than-23-bytes"));
        logged(&mut broker, "INFO", &["client=a-client-id-of", "the client id is longer than max_client_id_size"]);
    }
}

#[test]
fn an_ended_connection_is_named_with_the_reason() {
    for shards in [1, 2, 4] {
        let mut broker = Broker::with(shards, "[log]\nfilter = \"debug\"\n");
        let who = |id: &'static str| Connect { username: Some("ann"), ..clean(V311, id) };
        let connect = |connect| RawConnection::connect(&broker, connect);
        drop(connect(who("cut")));
        let mut wrong = connect(who("wrong"));
        wrong.send(&[0x30, 3, 0, 1, b'#']);
        wrong.end();
        let taken = connect(who("taken"));
        let _taker = connect(who("taken"));
        taken.end();
        let mut orderly = connect(who("orderly"));
        orderly.send_packet(&Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        orderly.end();
        let mut silent = connect(Connect { keep_alive: 1, ..who("silent") });
        assert_eq!(silent.next(|_| None::<()>), None);
        for (id, level, why) in [
            ("cut", "INFO", "the client closed it without DISCONNECT, or it broke"),
            ("wrong", "INFO", "the client broke the protocol, Topic Name invalid (0x90)"),
            ("taken", "INFO", "another connection took over the client id"),
            ("orderly", "DEBUG", "the client disconnected"),
            ("silent", "INFO", "nothing came from the client for one and a half times its keep-alive"),
        ] {
            let client = format!("client={id} ");
            let who = ["peer=127.0.0.1:", &client, "user=\"ann\"", "listener=\"default\""];
            logged(&mut broker, level, &[&who[..], &[&format!("connection closed: {why}")]].concat());
        }
    }
}

#[test]
fn a_client_that_may_not_publish_is_named_with_the_topic() {
    for shards in [1, 2, 4] {
        let rules = tempfile::NamedTempFile::new().expect("a file can be made");
        std::fs::write(&rules, "topic read #\n").expect("it can be written");
        let mut broker = Broker::with(shards, &format!("[acl_file]\npath = {:?}\n", rules.path()));
        let will = Will { topic: "w", payload: b"", properties: PublishProperties::default(), ..Will::default() };
        refused(&broker, Connect { will: Some(will), ..clean(V5, "testator") });
        logged(&mut broker, "INFO", &["client=testator ", "connection refused: it may not publish its will"]);
        let mut publisher = RawConnection::connect(&broker, clean(V311, "publisher"));
        publisher.send(&[0x30, 3, 0, 1, b't']);
        publisher.end();
        logged(
            &mut broker,
            "INFO",
            &["client=publisher ", "connection closed: not authorized: it may not publish to t"],
        );
    }
}

#[test]
fn who_says_nothing_or_leaves_too_early_is_named_by_address() {
    let mut broker = Broker::configured(
        "shards = 2\n[listeners.default]\naddress = \"127.0.0.1:0\"\nallow_anonymous = true\nconnect_timeout = \"1s\"\n",
    );
    let peer = strange(&broker, b"");
    logged(&mut broker, "INFO", &["connection closed: nothing came within connect_timeout", &peer]);
    let peer = strange(&broker, b"\x10\x0c\x00\x04MQ");
    logged(
        &mut broker,
        "INFO",
        &["connection closed: no whole CONNECT came within connect_timeout, only 6 bytes", &peer],
    );
}
