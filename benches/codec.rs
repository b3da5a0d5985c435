//! What the codec costs: the packets of the hot path, and those of connecting.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use moormq::codec::{
    Ack, AckKind, Connect, ConnectProperties, MAX_PACKET_SIZE, Outgoing, Packet, PacketId, ProtocolVersion, Publish,
    PublishProperties, QoS, ReasonCode, Sender, Split, Subscribe, SubscribeFilter, SubscriptionOptions, decode, split,
};

const V311: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;
const PAYLOAD: [u8; 64] = [b'x'; 64];
const TOPIC: &str = "bench/publisher/00042/out";

fn encoded(packet: Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

fn packets(pairs: &[(String, String)]) -> Vec<(&'static str, ProtocolVersion, Vec<u8>)> {
    let id = Some(PacketId::MIN);
    let qos0 = Publish { topic: TOPIC, payload: &PAYLOAD, ..Publish::default() };
    let qos1 = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..qos0 };
    let properties = PublishProperties {
        payload_is_utf8: Some(true),
        message_expiry: Some(60),
        content_type: Some("application/json"),
        user: pairs.into(),
        ..PublishProperties::default()
    };
    let rich = Publish { properties, ..qos1 };
    let ack = Packet::Puback(Ack::new(PacketId::MIN, ReasonCode::Success));
    let filters = [SubscribeFilter { filter: "bench/+/00042/#", options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
    let subscribe = Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters[..]));
    let credentials = |version| Connect {
        keep_alive: 60,
        username: Some("user"),
        password: Some(b"password"),
        ..Connect::new(version, "client-00042")
    };
    let connect_properties =
        ConnectProperties { session_expiry: Some(3600), receive_maximum: Some(100), ..ConnectProperties::default() };
    let connect = Packet::Connect(Connect { properties: connect_properties, ..credentials(V5) });
    vec![
        ("publish_q0_v3", V311, encoded(Packet::Publish(qos0), V311)),
        ("publish_q1_v3", V311, encoded(Packet::Publish(qos1), V311)),
        ("publish_q0_v5", V5, encoded(Packet::Publish(qos0), V5)),
        ("publish_q1_v5", V5, encoded(Packet::Publish(qos1), V5)),
        ("publish_q1_v5_properties", V5, encoded(Packet::Publish(rich), V5)),
        ("puback_v3", V311, encoded(ack, V311)),
        ("puback_v5", V5, encoded(ack, V5)),
        ("subscribe_v3", V311, encoded(subscribe, V311)),
        ("subscribe_v5", V5, encoded(subscribe, V5)),
        ("connect_v3", V311, encoded(Packet::Connect(credentials(V311)), V311)),
        ("connect_v5", V5, encoded(connect, V5)),
    ]
}

/// Splitting and decoding, as it is done with what was received.
fn decoding(c: &mut Criterion) {
    let pairs = [("trace".to_owned(), "0123456789abcdef".to_owned())];
    let mut group = c.benchmark_group("codec/decode");
    group.throughput(Throughput::Elements(1));
    for (name, version, bytes) in packets(&pairs) {
        group.bench_function(name, |b| {
            b.iter(|| {
                let Ok(Split::Frame(frame)) = split(black_box(&bytes), MAX_PACKET_SIZE) else { panic!() };
                match decode(frame, black_box(version), Sender::Client) {
                    Ok(Packet::Publish(publish)) => black_box(publish.topic.len() + publish.payload.len()),
                    Ok(packet) => black_box(packet.packet_type() as usize),
                    Err(error) => panic!("{error}"),
                }
            })
        });
    }
}

/// Encoding into a buffer that has room, as an outbox has.
fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec/encode");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(4096);
    let qos0 = Outgoing { topic: TOPIC, payload: &PAYLOAD, ..Outgoing::default() };
    let qos1 = Outgoing { qos: QoS::AtLeastOnce, packet_id: Some(PacketId::MIN), ..qos0 };
    let rich = Outgoing { message_expiry: Some(59), subscription_ids: &[7], ..qos1 };
    for (name, version, outgoing) in [
        ("outgoing_q0_v3", V311, qos0),
        ("outgoing_q1_v3", V311, qos1),
        ("outgoing_q0_v5", V5, qos0),
        ("outgoing_q1_v5", V5, qos1),
        ("outgoing_q1_v5_properties", V5, rich),
    ] {
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&outgoing).encode(black_box(version), &mut out);
                black_box(out.len())
            })
        });
    }
    let mut frame = Vec::new();
    qos1.encode(V311, &mut frame);
    let offset = qos1.packet_id_offset(V311).expect("QoS 1");
    group.bench_function("outgoing_q1_v3_copied_and_patched", |b| {
        b.iter(|| {
            out.clear();
            out.extend_from_slice(black_box(&frame));
            Outgoing::patch(&mut out, offset, PacketId::MAX, false);
            black_box(out.len())
        })
    });
    for (name, version) in [("puback_v3", V311), ("puback_v5", V5)] {
        let ack = Ack::new(PacketId::MIN, ReasonCode::Success);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&ack).encode(AckKind::Puback, black_box(version), &mut out);
                black_box(out.len())
            })
        });
    }
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
