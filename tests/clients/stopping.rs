//! How a broker ends: in an orderly way when it is asked, at once when it is asked again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::broker::Broker;
use crate::mqtt5::DisconnectReasonCode;
use crate::raw_connection::{Connect, Packet, ProtocolVersion, RawConnection, Will, clean};
use crate::{DEADLINE, mqtt3, mqtt5, on_every_number_of_shards};

on_every_number_of_shards![
    clients_receive_a_disconnect,
    both_signals_stop_it,
    its_port_is_free_at_once,
    whoever_is_connected_receives_every_will,
];

fn clients_receive_a_disconnect(mut broker: Broker) {
    let mut newer: Vec<_> = (0..5).map(|id| mqtt5::Client::new(&broker, &format!("newer-{id}"))).collect();
    let mut older: Vec<_> = (0..5).map(|id| mqtt3::Client::new(&broker, &format!("older-{id}"))).collect();
    // A connection without a CONNECT does not delay the stop.
    let _silent = TcpStream::connect(("127.0.0.1", broker.port())).expect("the broker listens");
    assert_eq!(broker.stop().code(), Some(0));
    for client in &mut newer {
        assert_eq!(client.disconnected(), DisconnectReasonCode::ServerShuttingDown);
    }
    older.iter_mut().for_each(mqtt3::Client::closed);
}

fn both_signals_stop_it(mut broker: Broker) {
    let mut client = mqtt5::Client::new(&broker, "client");
    broker.process().signal("INT");
    assert_eq!(broker.ended().code(), Some(0));
    assert_eq!(client.disconnected(), DisconnectReasonCode::ServerShuttingDown);
}

/// Those of other brokers and of scripts that rotate logs.
#[test]
fn signals_that_mean_nothing_here_end_nothing() {
    let mut broker = Broker::start(2);
    for signal in ["USR1", "USR2", "HUP", "PIPE"] {
        broker.process().signal(signal);
    }
    broker.process().stderr().find("the last of them", |line| line.contains("SIGUSR2 does nothing here").then_some(()));
    mqtt3::Client::new(&broker, "client");
}

/// On one shard: what a shard has acknowledged is on its way to its own subscribers.
#[test]
fn what_was_acknowledged_goes_out_before_the_end() {
    let mut broker = Broker::start(1);
    let mut subscriber = mqtt3::Client::new(&broker, "subscriber");
    subscriber.subscribe("last/words", 1);
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    for number in 0..50 {
        publisher.send("last/words", 1, false, number.to_string());
    }
    publisher.settle(1, 50);
    assert_eq!(broker.stop().code(), Some(0));
    for number in 0..50 {
        assert_eq!(subscriber.receive_text(), number.to_string());
    }
}

/// Of four clients with a will, at 40 who subscribed; they are told of the end behind the wills.
fn whoever_is_connected_receives_every_will(mut broker: Broker) {
    let watcher = |number: usize| {
        let id = format!("watcher-{number}");
        let mut watcher = RawConnection::connect(&broker, clean(ProtocolVersion::ALL[number % 3], &id));
        // SUBSCRIBE 1: "will/#" at QoS 1.
        watcher.send(match watcher.version() {
            ProtocolVersion::V5 => b"\x82\x0c\x00\x01\x00\x00\x06will/#\x01",
            _ => b"\x82\x0b\x00\x01\x00\x06will/#\x01",
        });
        watcher.next(|packet| matches!(packet, Packet::Suback(_)).then_some(())).expect("it is granted");
        watcher
    };
    let watchers: Vec<_> = (0..40).map(watcher).collect();
    let will = Will { topic: "will/x", payload: b"gone", ..Will::default() };
    let dying: Vec<_> = (0..4)
        .map(|number| {
            let id = format!("dying-{number}");
            RawConnection::connect(&broker, Connect { will: Some(will), ..clean(ProtocolVersion::V311, &id) })
        })
        .collect();
    let received: Vec<_> = watchers.into_iter().map(|watcher| thread::spawn(move || wills(watcher))).collect();
    assert_eq!(broker.stop().code(), Some(0));
    drop(dying);
    for (number, received) in received.into_iter().enumerate() {
        assert_eq!(received.join().expect("it does not panic"), 4, "watcher {number}");
    }
}

/// How many wills come until the connection ends.
fn wills(mut watcher: RawConnection) -> usize {
    let will =
        |packet: &Packet<'_>| matches!(packet, Packet::Publish(publish) if publish.payload == b"gone").then_some(());
    std::iter::from_fn(|| watcher.next(will)).count()
}

fn its_port_is_free_at_once(mut broker: Broker) {
    let port = broker.port();
    let client = mqtt3::Client::new(&broker, "client");
    assert_eq!(broker.stop().code(), Some(0));
    drop(client);
    let again = Broker::configured(&format!(
        "shards = 2\n[listeners.default]\naddress = \"127.0.0.1:{port}\"\nallow_anonymous = true\n"
    ));
    mqtt3::Client::new(&again, "client");
}

/// A client that does not read can delay an orderly stop; a second signal stops at once.
#[test]
fn the_second_signal_ends_it_at_once() {
    let mut broker = Broker::with(2, "[runtime]\nshutdown_timeout = \"1h\"\n");
    let _stuck = stuck_client(&broker);
    broker.process().signal("TERM");
    broker.process().stderr().find("stopping", |line| line.contains("stopping").then_some(()));
    broker.process().signal("TERM");
    assert_eq!(broker.ended().code(), Some(143), "128 + SIGTERM");
}

#[test]
fn a_stuck_client_is_cut_when_the_time_is_up() {
    let mut broker = Broker::with(2, "[runtime]\nshutdown_timeout = \"1s\"\n");
    let _stuck = stuck_client(&broker);
    assert_eq!(broker.stop().code(), Some(0));
}

/// A client that subscribes, is sent more than the network holds, and never reads.
fn stuck_client(broker: &Broker) -> TcpStream {
    let mut stuck = TcpStream::connect(("127.0.0.1", broker.port())).expect("the broker listens");
    stuck.set_read_timeout(Some(DEADLINE)).expect("a duration that is not zero");
    // CONNECT: MQTT 3.1.1, clean session 1, keep-alive 0, client id "stuck"; SUBSCRIBE 1: "flood" at QoS 1.
    stuck.write_all(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05stuck").expect("it is connected");
    stuck.write_all(b"\x82\x0a\x00\x01\x00\x05flood\x01").expect("it is connected");
    let mut answers = [0; 4 + 5];
    stuck.read_exact(&mut answers).expect("CONNACK and SUBACK");
    assert_eq!(answers, *b"\x20\x02\x00\x00\x90\x03\x00\x01\x01");
    let mut publisher = mqtt3::Client::new(broker, "publisher");
    for _ in 0..16 {
        publisher.publish("flood", 1, vec![0; 1_000_000]);
    }
    stuck
}
