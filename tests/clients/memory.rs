//! A broker that holds as much memory as it may: who publishes waits, newcomers are told, and all goes on when there is room.

use std::thread;

use moormq::codec::{
    Ack, AckKind, PacketId, Publish, QoS, Subscribe, SubscribeFilter, SubscriptionOptions, UserProperties,
};

use crate::broker::Broker;
use crate::on_every_number_of_shards;
use crate::raw_connection::{Packet, ProtocolVersion, RawConnection, ReasonCode, clean, kept};

on_every_number_of_shards![super::with_32_mebibytes => publishers_wait_until_there_is_room];

const LIMITS: &str = "[limits]\nmax_memory = \"32MiB\"\nmax_topic_bytes_per_client = \"unlimited\"\n\
    [queue]\nmax_offline_messages = \"unlimited\"\nmax_queue_bytes = \"unlimited\"\n";
/// Twice of what there is memory for.
const MESSAGES: u16 = 640;
const SIZE: usize = 100_000;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn with_32_mebibytes(shards: usize) -> Broker {
    Broker::with(shards, LIMITS)
}

fn subscribe(connection: &mut RawConnection, filter: &str) {
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
    let filters = [SubscribeFilter { filter, options }];
    connection.send_packet(&Packet::Subscribe(Subscribe {
        packet_id: id(1),
        subscription_id: None,
        filters: (&filters[..]).into(),
        user: UserProperties::NONE,
    }));
    connection.next(|packet| matches!(packet, Packet::Suback(_)).then_some(())).expect("a SUBACK");
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

/// Takes a message, and acknowledges it.
fn take(connection: &mut RawConnection) {
    let taken = connection.next(|packet| if let Packet::Publish(publish) = packet { publish.packet_id } else { None });
    let mut ack = Vec::new();
    Ack::new(taken.expect("a message at QoS 1"), ReasonCode::Success).encode(AckKind::Puback, V5, &mut ack);
    connection.send(&ack);
}

fn publishers_wait_until_there_is_room(mut broker: Broker) {
    // Says whether the line says of newcomers, too, that they are refused: it may be the first.
    let says = |broker: &mut Broker, what: &str| {
        let is_refusing = |line: &str| line.contains("new clients are refused");
        broker.process().stderr().find(what, |line| line.contains(what).then_some(is_refusing(line)))
    };
    let mut reader = RawConnection::connect(&broker, kept(V5, "reader", 3600));
    subscribe(&mut reader, "t");
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
    (0..200).for_each(|number| subscribe(&mut still, &filter(number)));
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
    (0..MESSAGES).for_each(|_| take(&mut reader));
    drop(publishing.join().expect("nothing is lost"));
    drop(still);
    says(&mut broker, "memory: there is enough again");
    RawConnection::connect(&broker, clean(V5, "new"));
}
