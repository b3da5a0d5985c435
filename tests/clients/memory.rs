//! A broker that holds as much memory as it may: who publishes waits, newcomers are told, and all goes on when there is room.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use moormq::codec::{PacketId, Publish, QoS};

use crate::broker::Broker;
use crate::raw_connection::{
    Connect, Disconnect, Packet, ProtocolVersion, RawConnection, ReasonCode, Will, clean, kept,
};
use crate::{DEADLINE, on_every_number_of_shards};

on_every_number_of_shards![super::with_32_mebibytes => publishers_wait_until_there_is_room];
mod of_a_flood {
    use super::what_a_flood_of_connects_takes_is_given_back;
    crate::on_every_number_of_shards![what_a_flood_of_connects_takes_is_given_back];
}

const LIMITS: &str = "[limits]\nmax_memory = \"32MiB\"\nmax_topic_bytes_per_client = \"unlimited\"\n\
    [queue]\nmax_offline_messages = \"unlimited\"\nmax_queue_bytes = \"unlimited\"\n";
/// Twice of what there is memory for.
const MESSAGES: u16 = 640;
const SIZE: usize = 100_000;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn with_32_mebibytes(shards: usize) -> Broker {
    Broker::with(shards, LIMITS)
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("it is not zero")
}

fn publish(connection: &mut RawConnection, number: u16) {
    let payload = vec![7; SIZE];
    let publish = Publish {
        topic: "t",
        payload: &payload,
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(number)),
        ..Publish::default()
    };
    connection.send_packet(&Packet::Publish(publish));
}

fn publishers_wait_until_there_is_room(mut broker: Broker) {
    // Says whether the line says of newcomers, too, that they are refused: it may be the first.
    let says = |broker: &mut Broker, what: &str| {
        let is_refusing = |line: &str| line.contains("new clients are refused");
        broker.process().stderr().find(what, |line| line.contains(what).then_some(is_refusing(line)))
    };
    let mut reader = RawConnection::connect(&broker, kept(V5, "reader", 3600));
    reader.subscribe("t");
    drop(reader);
    let mut still = RawConnection::connect(&broker, clean(V5, "still"));
    let mut publisher = RawConnection::connect(&broker, clean(V5, "publisher"));
    let publishing = thread::spawn(move || {
        for number in 1..=MESSAGES {
            publish(&mut publisher, number);
            let acked = publisher.next(|packet| matches!(packet, Packet::Puback(_)).then_some(()));
            acked.expect("it is acknowledged when there is room");
        }
        publisher
    });
    let is_refusing = says(&mut broker, "memory: publishers are held");
    assert!(!publishing.is_finished());

    // Who does not publish goes on, and may even fill what is left.
    let filter = |number: usize| format!("{number}/{}", "x".repeat(60_000));
    (0..200).for_each(|number| still.subscribe(&filter(number)));
    if !is_refusing {
        says(&mut broker, "new clients are refused");
    }
    let refused = |version| RawConnection::try_connect(broker.port(), clean(version, "new")).err();
    assert_eq!(refused(V5), Some(Some(ReasonCode::QuotaExceeded)));
    assert_eq!(refused(ProtocolVersion::V311), Some(Some(ReasonCode::ServerUnavailable)));
    still.send_packet(&Packet::Pingreq);
    still.next(|packet| matches!(packet, Packet::Pingresp).then_some(())).expect("a PINGRESP");

    // Who comes for what waits is let in, and makes room.
    let mut reader = RawConnection::connect(&broker, kept(V5, "reader", 3600));
    (0..MESSAGES).for_each(|_| drop(reader.take()));
    drop(publishing.join().expect("nothing is lost"));
    drop(still);
    says(&mut broker, "memory: there is enough again");
    RawConnection::connect(&broker, clean(V5, "new"));
}

/// Nobody has been accepted, and all that came is in memory; when they have left it is the system's again.
fn what_a_flood_of_connects_takes_is_given_back(mut broker: Broker) {
    const FLOOD: usize = 240;
    let mut connect = Vec::new();
    let will = Some(Will { topic: "w", payload: &[7; 60_000], ..Will::default() });
    Connect { will, ..clean(V5, "flood") }.encode(&mut connect);
    connect.pop();
    // What every shard has once there were clients like these.
    let names: Vec<_> = (0..64).map(|number| format!("before-{number}")).collect();
    let first = |name| RawConnection::connect(&broker, Connect { will, ..clean(V5, name) });
    let first: Vec<_> = names.iter().map(|name| first(name)).collect();
    first
        .into_iter()
        .for_each(|mut client| client.send_packet(&Packet::Disconnect(Disconnect::new(ReasonCode::Success))));
    let before = broker.process().resident_kib();
    let flood: Vec<_> = (0..FLOOD)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", broker.port())).expect("the broker listens");
            stream.write_all(&connect).expect("it fits into the buffers of the kernel");
            stream
        })
        .collect();
    let start = Instant::now();
    let mut reach = |what: &str, is_reached: &dyn Fn(u64) -> bool| loop {
        let resident = broker.process().resident_kib();
        if is_reached(resident) {
            return resident;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: {before} KiB before, {resident} KiB now");
        thread::sleep(Duration::from_millis(50));
    };
    let taken = (FLOOD * connect.len()) as u64 >> 10;
    let busy = reach("it is read", &|resident| resident > before + taken / 2);
    drop(flood);
    let idle = reach("it is given back", &|resident| resident < before + taken / 3);
    println!(
        "resident: {before} KiB before, {busy} KiB with {FLOOD} CONNECTs without their last byte, {idle} KiB afterwards"
    );
}
