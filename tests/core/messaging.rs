//! Messages between clients of one and of several shards.

use moormq::codec::{AckKind, ProtocolVersion, QoS, ReasonCode};

use crate::client::{Client, ConnectOptions, id_owned_by};
use crate::received::Got;
use crate::world::worlds;

#[test]
fn a_message_reaches_a_subscriber_of_any_shard() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for (publisher_at, subscriber_at) in [(0, 0), (0, shards - 1), (shards - 1, 0)] {
            let id = id_owned_by(&world, subscriber_at, "subscriber");
            let (mut subscriber, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(ProtocolVersion::V311));
            subscriber.subscribe(&mut world, "a/+", QoS::AtMostOnce);
            assert_eq!(subscriber.received(&mut world), [Got::Suback(1, vec![ReasonCode::Success])]);
            assert_eq!(world.shard_of(subscriber.socket), Some(subscriber_at));
            let id = id_owned_by(&world, publisher_at, "publisher");
            let (publisher, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(ProtocolVersion::V5));
            publisher.publish(&mut world, "a/b", "hello", QoS::AtMostOnce, 0);
            let received = subscriber.publishes(&mut world);
            assert_eq!(received.len(), 1, "with {shards} shards");
            assert_eq!((received[0].topic.as_str(), received[0].payload.as_slice()), ("a/b", &b"hello"[..]));
            subscriber.disconnect(&mut world);
            publisher.disconnect(&mut world);
        }
    }
}

#[test]
fn qos_2_goes_through_both_handshakes_once() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let id = id_owned_by(&world, shards - 1, "subscriber");
        let (mut subscriber, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(ProtocolVersion::V5));
        subscriber.subscribe(&mut world, "t", QoS::ExactlyOnce);
        subscriber.received(&mut world);
        let (mut publisher, _) =
            Client::connect(&mut world, 0, "publisher", ConnectOptions::clean(ProtocolVersion::V311));
        publisher.publish(&mut world, "t", "once", QoS::ExactlyOnce, 7);
        publisher.publish(&mut world, "t", "once", QoS::ExactlyOnce, 7);
        publisher.ack(&mut world, AckKind::Pubrel, 7);
        let expected = [AckKind::Pubrec, AckKind::Pubrec, AckKind::Pubcomp];
        assert_eq!(publisher.received(&mut world), expected.map(|kind| Got::Ack(kind, 7, ReasonCode::Success)));
        let received = subscriber.publishes(&mut world);
        assert_eq!(received.len(), 1);
        let id = received[0].id.expect("QoS 2 has a packet id");
        subscriber.ack(&mut world, AckKind::Pubrec, id);
        subscriber.ack(&mut world, AckKind::Pubcomp, id);
        assert_eq!(subscriber.received(&mut world), [Got::Ack(AckKind::Pubrel, id, ReasonCode::Success)]);
    }
}

#[test]
fn a_kept_session_gets_what_came_while_it_was_away() {
    for mut world in worlds() {
        let options = ConnectOptions::kept(ProtocolVersion::V311);
        let (mut subscriber, present) = Client::connect(&mut world, 0, "subscriber", options);
        assert!(!present);
        subscriber.subscribe(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(subscriber.socket);
        let (publisher, _) = Client::connect(&mut world, 0, "publisher", ConnectOptions::clean(ProtocolVersion::V5));
        for number in 1..=3 {
            publisher.publish(&mut world, "t", &number.to_string(), QoS::AtLeastOnce, number);
        }
        let (mut subscriber, present) = Client::connect(&mut world, 0, "subscriber", options);
        assert!(present);
        let payloads: Vec<_> = subscriber.publishes(&mut world).into_iter().map(|received| received.payload).collect();
        assert_eq!(payloads, [b"1", b"2", b"3"]);
    }
}
