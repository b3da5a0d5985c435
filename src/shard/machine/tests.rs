//! The door: inputs, then outputs until it is quiet.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::super::input::{Admission, Input};
use super::super::output::Output;
use super::super::program::Request;
use super::super::testing::{NOW, filter, setup};
use super::*;
use crate::client::{ConnectionId, SubscriberId};
use crate::codec::{
    Connect, MAX_PACKET_SIZE, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Sender, Split, Subscribe,
    SubscribeFilter, SubscriptionOptions, decode, split,
};
use crate::hooks::NoHooks;

const V5: ProtocolVersion = ProtocolVersion::V5;
const OPEN: &str = "allow_anonymous = true\nlisteners.l.address = '127.0.0.1:0'";

fn shard(shards: usize, settings: &str) -> Shard<NoHooks> {
    Shard::new(setup(shards, &format!("{settings}\n{OPEN}")), NoHooks, NOW)
}

fn outputs(shard: &mut Shard<NoHooks>) -> Vec<Output<()>> {
    std::iter::from_fn(|| shard.next_output()).collect()
}

/// A listener has accepted the connection with this index.
fn accept(shard: &mut Shard<NoHooks>, index: u32) -> ConnectionId {
    let (connection, peer) = (ConnectionId::new(index, 1), SocketAddr::from(([127, 0, 0, 1], 1)));
    let connected_at = SystemTime::UNIX_EPOCH;
    shard.handle(Input::Accepted { connection, listener: 0, peer, connected_at, admission: Admission::Admitted }, NOW);
    connection
}

fn receive(shard: &mut Shard<NoHooks>, connection: ConnectionId, packets: &[Packet<'_>]) {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(V5, &mut bytes));
    shard.handle(Input::Received { connection, bytes: &bytes }, NOW);
}

fn connect(client_id: &str) -> Packet<'_> {
    Packet::Connect(Connect::new(V5, client_id))
}

/// A connected client, whose CONNACK has left.
fn client(shard: &mut Shard<NoHooks>, index: u32, client_id: &str) -> ConnectionId {
    let connection = accept(shard, index);
    receive(shard, connection, &[connect(client_id)]);
    outputs(shard);
    shard.handle(Input::Sent { connection, emptied: Vec::new() }, NOW);
    connection
}

/// The id of a client that the shard `owner` owns.
fn id_of(shard: &Shard<NoHooks>, owner: usize) -> String {
    let mut ids = (0..).map(|number| format!("client-{number}"));
    ids.find(|id| shard.owner(&SubscriberId::new("", id.as_str())) == owner).expect("every shard owns some")
}

/// The packets in `bytes`, by their first bytes.
fn first_bytes(mut bytes: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let Ok(Split::Frame(frame)) = split(bytes, MAX_PACKET_SIZE) {
        found.push(bytes[0]);
        bytes = &bytes[frame.length..];
    }
    found
}

#[test]
fn a_client_is_answered_before_the_runtime_is_told_to_read_on() {
    let mut shard = shard(1, "");
    let id = accept(&mut shard, 0);
    assert!(outputs(&mut shard).is_empty(), "nothing is sent before CONNECT");
    receive(&mut shard, id, &[connect("c"), Packet::Pingreq]);
    let outputs = outputs(&mut shard);
    let [Output::Send { connection, buffer }, Output::ReadContinuously(read)] = &outputs[..] else {
        panic!("one send, then reading goes on")
    };
    assert_eq!((*connection, *read, first_bytes(&buffer.bytes)), (id, id, vec![0x20, 0xD0]), "CONNACK and PINGRESP");
}

#[test]
fn everything_that_follows_from_an_input_is_done_when_it_has_been_handled() {
    let mut shard = shard(1, "");
    let subscription = 77;
    let request = Request::Subscribe { subscription, mountpoint: "".into(), filter: filter("t") };
    shard.handle(Input::Request(request), NOW);
    assert!(matches!(outputs(&mut shard)[..], [Output::Subscribed { subscription: 77 }]));
    let id = client(&mut shard, 0, "c");
    let publish = Publish { topic: "t", payload: b"x", qos: QoS::AtMostOnce, ..Publish::default() };
    receive(&mut shard, id, &[Packet::Publish(publish)]);
    let outputs = outputs(&mut shard);
    let [Output::Deliver { subscription: 77, message }] = &outputs[..] else { panic!("one message") };
    assert_eq!(message.payload(), b"x");
    assert_eq!((shard.counters().messages_in, shard.counters().connected), (1, 1));
}

#[test]
fn messages_for_other_shards_come_last() {
    let mut shard = shard(2, "");
    let id = id_of(&shard, 0);
    let connection = client(&mut shard, 0, &id);
    let filters = [SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    let subscribe = Subscribe::new(PacketId::MIN, &filters[..]);
    receive(&mut shard, connection, &[Packet::Subscribe(subscribe), Packet::Pingreq]);
    let found = outputs(&mut shard);
    assert!(matches!(found.last(), Some(Output::Messages { to: 1, messages }) if messages.len() == 1));
    assert!(!found.iter().any(|output| matches!(output, Output::Send { .. })), "SUBACK waits for the other shard");
}

#[test]
fn a_client_of_another_shard_is_handed_over_with_what_is_behind_its_connect() {
    let mut shard = shard(2, "");
    let client_id = id_of(&shard, 1);
    let id = accept(&mut shard, 0);
    receive(&mut shard, id, &[connect(&client_id), Packet::Pingreq]);
    let mut outputs = outputs(&mut shard);
    let Some(Output::HandOff { connection, to: 1, accepted }) = outputs.pop() else { panic!("it is handed over") };
    assert!(outputs.is_empty());
    assert_eq!(
        (connection, &*accepted.client.subscriber.client_id, &accepted.unread[..]),
        (id, &*client_id, &[0xC0, 0][..])
    );
    assert_eq!(shard.resource_counts().connections, 0);
}

#[test]
fn who_says_nothing_is_closed_when_the_time_for_connect_is_over() {
    let mut shard = shard(1, "limits.connect_timeout = '3s'");
    let id = accept(&mut shard, 0);
    let mut now = NOW;
    while now < NOW + Duration::from_secs(3) {
        assert!(outputs(&mut shard).is_empty());
        now = shard.next_deadline().max(now + Duration::from_millis(1));
        shard.handle(Input::Tick, now);
    }
    assert!(now < NOW + Duration::from_millis(3100));
    assert!(matches!(outputs(&mut shard)[..], [Output::Close { connection, last: None, .. }] if connection == id));
}

#[test]
fn a_stop_tells_every_client_and_then_once_that_it_is_complete() {
    let mut shard = shard(1, "");
    let clients = [0, 1].map(|index| client(&mut shard, index, &index.to_string()));
    shard.handle(Input::Stop, NOW);
    let mut found = outputs(&mut shard);
    assert!(matches!(found.pop(), Some(Output::Stopped)));
    let mut closed = Vec::new();
    for output in &found {
        let Output::Close { connection, last: Some(last), .. } = output else { panic!("every client is told") };
        let Ok(Split::Frame(frame)) = split(&last.bytes, MAX_PACKET_SIZE) else { panic!("one packet") };
        let Ok(Packet::Disconnect(disconnect)) = decode(frame, V5, Sender::Server) else { panic!("a DISCONNECT") };
        assert_eq!(disconnect.code, ReasonCode::ServerShuttingDown);
        closed.push(*connection);
    }
    closed.sort_unstable();
    assert_eq!(closed, clients);
    shard.handle(Input::Stop, NOW);
    assert!(outputs(&mut shard).is_empty());
    let late = accept(&mut shard, 2);
    receive(&mut shard, late, &[connect("late")]);
    assert!(matches!(outputs(&mut shard)[..], [Output::Close { connection, last: Some(_), .. }] if connection == late));
}

#[test]
#[should_panic(expected = "shard 2 of 2")]
fn a_shard_is_one_of_those_that_there_are() {
    Shard::new(Setup { id: 2, ..setup(2, OPEN) }, NoHooks, NOW);
}
