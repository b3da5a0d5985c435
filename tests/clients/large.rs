//! Large payloads: whole up to the limit, refused above it, and never sent to those who do not take them.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use moormq::codec::{Packet, PacketId, Publish, QoS};

use crate::broker::Broker;
use crate::raw_connection::{ProtocolVersion, RawConnection, clean};
use crate::{mqtt3, mqtt5, on_every_number_of_shards};

/// The default of `limits.max_packet_size`.
const MAX_PACKET_SIZE: usize = 1 << 23;
/// What is left for the payload, with a fixed header of five bytes, the topic, and a packet id.
const MAX_PAYLOAD: usize = MAX_PACKET_SIZE - 5 - (2 + TOPIC.len()) - 2;
const TOPIC: &str = "large";

on_every_number_of_shards![
    the_largest_payload_arrives_whole,
    one_byte_more_is_refused,
    many_large_payloads_arrive_in_order,
    a_large_payload_waits_for_an_offline_client,
    who_takes_less_gets_only_that,
    images_reach_all_who_take_their_time_with_each,
];

/// Bytes of which none can be missing or misplaced unnoticed.
fn payload(size: usize, seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..size).map(|_| random.u8(..)).collect()
}

fn the_largest_payload_arrives_whole(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut subscribers: Vec<_> = (0..3).map(|id| mqtt3::Client::new(&broker, &id.to_string())).collect();
    for (subscriber, qos) in subscribers.iter_mut().zip(0..) {
        subscriber.subscribe(TOPIC, qos);
    }
    for qos in [0, 1, 2] {
        let sent = payload(MAX_PAYLOAD, qos.into());
        publisher.publish(TOPIC, qos, sent.clone());
        for subscriber in &mut subscribers {
            assert!(subscriber.receive().payload == sent, "QoS {qos}");
        }
    }
}

fn one_byte_more_is_refused(broker: Broker) {
    let mut subscriber = mqtt3::Client::new(&broker, "subscriber");
    subscriber.subscribe("#", 1);
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    publisher.send(TOPIC, 1, false, payload(MAX_PAYLOAD + 1, 0));
    publisher.closed();
    subscriber.publish("marker", 1, "nothing came before");
    assert_eq!(subscriber.receive_text(), "nothing came before");
}

fn many_large_payloads_arrive_in_order(broker: Broker) {
    let publisher = mqtt3::Client::new(&broker, "publisher");
    let mut subscriber = mqtt3::Client::new(&broker, "subscriber");
    subscriber.subscribe(TOPIC, 2);
    let sizes = [1_000_000, 3, 70_000, 900_000, 4096, 4095, 65_536, 0, 500_000, 1_000_000];
    for (seed, &size) in sizes.iter().enumerate() {
        publisher.send(TOPIC, 1, false, payload(size, seed as u64));
    }
    for (seed, &size) in sizes.iter().enumerate() {
        assert!(subscriber.receive().payload == payload(size, seed as u64), "message {seed}");
    }
}

fn a_large_payload_waits_for_an_offline_client(broker: Broker) {
    let mut away = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
    away.subscribe(TOPIC, 1);
    away.disconnect();
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    for seed in 0..5 {
        publisher.publish(TOPIC, 1, payload(MAX_PAYLOAD, seed));
    }
    let mut back = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
    for seed in 0..5 {
        assert!(back.receive().payload == payload(MAX_PAYLOAD, seed), "message {seed}");
    }
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: it is as if the message had been sent.
fn who_takes_less_gets_only_that(broker: Broker) {
    let mut options = mqtt5::options(&broker, "modest");
    options.set_max_packet_size(Some(1000));
    let mut modest = mqtt5::Client::connect(options);
    let mut other = mqtt5::Client::new(&broker, "other");
    for client in [&mut modest, &mut other] {
        client.subscribe(TOPIC, 2);
    }
    for size in [10, 2000, 900, 100_000, 20] {
        other.publish(TOPIC, 2, payload(size, 0));
    }
    let sizes = |client: &mut mqtt5::Client, count| -> Vec<usize> {
        std::iter::repeat_with(|| client.receive().payload.len()).take(count).collect()
    };
    assert_eq!(sizes(&mut other, 5), [10, 2000, 900, 100_000, 20]);
    assert_eq!(sizes(&mut modest, 3), [10, 900, 20]);
}

/// A camera sends forty images of 1 MB as fast as the broker takes them; five programs look at each for 50 ms.
fn images_reach_all_who_take_their_time_with_each(broker: Broker) {
    const IMAGES: u16 = 40;
    let pixels = Arc::new(payload(1_000_000, 1));
    let programs: Vec<_> = (0..5)
        .map(|number| {
            let version = if number % 2 == 0 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
            let mut program = RawConnection::connect(&broker, clean(version, &format!("program-{number}")));
            program.subscribe(TOPIC);
            let pixels = Arc::clone(&pixels);
            thread::spawn(move || {
                for number in 0..IMAGES {
                    let image = program.take();
                    assert_eq!(image[..2], number.to_be_bytes(), "image {number} is next");
                    assert!(image[2..] == pixels[..], "image {number} is whole");
                    thread::sleep(Duration::from_millis(50));
                }
            })
        })
        .collect();
    let mut camera = RawConnection::connect(&broker, clean(ProtocolVersion::V311, "camera"));
    for number in 0..IMAGES {
        let image = [&number.to_be_bytes()[..], &pixels].concat();
        let (payload, packet_id) = (&image[..], PacketId::new(number + 1));
        camera.send_packet(&Packet::Publish(Publish {
            topic: TOPIC,
            payload,
            qos: QoS::AtLeastOnce,
            packet_id,
            ..Publish::default()
        }));
    }
    for _ in 0..IMAGES {
        camera.next(|packet| matches!(packet, Packet::Puback(_)).then_some(())).expect("it is acknowledged");
    }
    for (number, program) in programs.into_iter().enumerate() {
        program.join().unwrap_or_else(|_| panic!("program {number} gets all of them"));
    }
}
