//! Properties of the codec for every packet and for all bytes: decoding is the inverse of encoding, however the bytes are cut into
//! reads, and no bytes can do harm.

use moormq::codec::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, MAX_PACKET_SIZE, Outgoing, Packet,
    PacketId, PacketType, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, Sender, Split,
    Suback, Subscribe, SubscribeFilter, SubscriptionOptions, Unsuback, Unsubscribe, UserProperties, Will, decode,
    split,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const SENDERS: [Sender; 2] = [Sender::Client, Sender::Server];

// Packets borrow; what they borrow from is leaked, a few bytes for each case of a test that ends soon.

fn text() -> impl Strategy<Value = &'static str> {
    "[a-z/+#$ \u{1}\u{7f}\u{e9}\u{feff}\u{ffff}\u{1f980}]{0,12}".prop_map(|text| &*text.leak())
}

fn topic() -> impl Strategy<Value = &'static str> {
    "[a-z/\u{e9}]{1,12}".prop_map(|text| &*text.leak())
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..40).prop_map(|bytes| &*bytes.leak())
}

fn user() -> impl Strategy<Value = UserProperties<'static>> {
    vec((text().prop_map(str::to_owned), text().prop_map(str::to_owned)), 0..4)
        .prop_map(|pairs| UserProperties::from(&*pairs.leak()))
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).unwrap())
}

fn qos() -> impl Strategy<Value = QoS> {
    (0..3u8).prop_map(|qos| QoS::from_u8(qos).unwrap())
}

fn subscription_id() -> impl Strategy<Value = u32> {
    1..=268_435_455u32
}

fn codes_of(packet: PacketType, sender: Sender) -> Vec<ReasonCode> {
    ReasonCode::ALL.iter().copied().filter(|code| code.is_allowed_in(packet, sender)).collect()
}

fn code(packet: PacketType, sender: Sender) -> impl Strategy<Value = ReasonCode> {
    select(codes_of(packet, sender))
}

fn message_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    let strings = (option::of(topic()), option::of(bytes()), option::of(text()), user());
    (any::<Option<bool>>(), any::<Option<u32>>(), strings).prop_map(
        |(payload_is_utf8, message_expiry, (response_topic, correlation_data, content_type, user))| PublishProperties {
            payload_is_utf8,
            message_expiry,
            response_topic,
            correlation_data,
            content_type,
            user,
            ..Default::default()
        },
    )
}

fn publish_properties(sender: Sender) -> impl Strategy<Value = PublishProperties<'static>> {
    let most = if sender == Sender::Server { 4 } else { 1 };
    (message_properties(), option::of(1..=u16::MAX), vec(subscription_id(), 0..most)).prop_map(
        |(properties, topic_alias, ids)| PublishProperties {
            topic_alias,
            subscription_ids: (&*ids.leak()).into(),
            ..properties
        },
    )
}

fn will(version: ProtocolVersion) -> impl Strategy<Value = Will<'static>> {
    (topic(), bytes(), qos(), any::<bool>(), any::<u32>(), message_properties()).prop_map(
        move |(topic, payload, qos, retain, delay, properties)| match version {
            ProtocolVersion::V5 => Will { topic, payload, qos, retain, delay, properties },
            _ => Will { topic, payload, qos, retain, ..Default::default() },
        },
    )
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let limits = (any::<Option<u32>>(), option::of(1..=u16::MAX), option::of(1..=u32::MAX), any::<u16>());
    let authentication = option::of((text(), option::of(bytes())));
    (limits, any::<bool>(), any::<bool>(), authentication, user()).prop_map(
        |(limits, request_response_information, request_problem_information, authentication, user)| ConnectProperties {
            session_expiry: limits.0,
            receive_maximum: limits.1,
            maximum_packet_size: limits.2,
            topic_alias_maximum: limits.3,
            request_response_information,
            request_problem_information,
            authentication_method: authentication.map(|(method, _)| method),
            authentication_data: authentication.and_then(|(_, data)| data),
            user,
        },
    )
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    let credentials = (option::of(text()), option::of(bytes()));
    let will = option::of(will(version));
    (any::<(bool, bool)>(), any::<u16>(), topic(), credentials, will, connect_properties()).prop_map(
        move |((clean_start, is_bridge), keep_alive, client_id, (username, password), will, properties)| {
            Packet::Connect(Connect {
                version,
                is_bridge: is_bridge && !version.is_v5(),
                clean_start,
                keep_alive,
                client_id,
                username,
                password: password.filter(|_| version.is_v5() || username.is_some()),
                will,
                properties: if version.is_v5() { properties } else { ConnectProperties::default() },
            })
        },
    )
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties<'static>> {
    let limits = (any::<Option<u32>>(), option::of(1..=u16::MAX), option::of(1..=u32::MAX), any::<Option<u16>>());
    let available = any::<[Option<bool>; 4]>();
    let strings = [option::of(text()), option::of(text()), option::of(text()), option::of(text())];
    let authentication = option::of((text(), option::of(bytes())));
    let maximum_qos = select(vec![None, Some(QoS::AtMostOnce), Some(QoS::AtLeastOnce)]);
    (limits, available, strings, authentication, maximum_qos, any::<Option<u16>>(), user()).prop_map(
        |(limits, available, strings, authentication, maximum_qos, server_keep_alive, user)| ConnackProperties {
            session_expiry: limits.0,
            receive_maximum: limits.1,
            maximum_qos,
            retain_available: available[0],
            maximum_packet_size: limits.2,
            assigned_client_id: strings[0],
            topic_alias_maximum: limits.3,
            reason_string: strings[1],
            wildcard_available: available[1],
            subscription_ids_available: available[2],
            shared_available: available[3],
            server_keep_alive,
            response_information: strings[2],
            server_reference: strings[3],
            authentication_method: authentication.map(|(method, _)| method),
            authentication_data: authentication.and_then(|(_, data)| data),
            user,
        },
    )
}

fn connack(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    use ReasonCode::*;
    let legacy = vec![
        Success,
        UnsupportedProtocolVersion,
        ClientIdentifierNotValid,
        ServerUnavailable,
        BadUserNameOrPassword,
        NotAuthorized,
    ];
    let codes = if version.is_v5() { codes_of(PacketType::Connack, Sender::Server) } else { legacy };
    (any::<bool>(), select(codes), connack_properties()).prop_map(move |(present, code, properties)| {
        Packet::Connack(Connack {
            session_present: present && code == Success && version != ProtocolVersion::V31,
            code,
            properties: if version.is_v5() { properties } else { ConnackProperties::default() },
        })
    })
}

fn publish(version: ProtocolVersion, sender: Sender) -> impl Strategy<Value = Packet<'static>> {
    (any::<bool>(), qos(), any::<bool>(), topic(), packet_id(), publish_properties(sender), bytes()).prop_map(
        move |(dup, qos, retain, topic, packet_id, properties, payload)| {
            let properties = if version.is_v5() { properties } else { PublishProperties::default() };
            let acknowledged = qos != QoS::AtMostOnce;
            Packet::Publish(Publish {
                dup: dup && acknowledged,
                qos,
                retain,
                topic: if properties.topic_alias.is_some() && dup { "" } else { topic },
                packet_id: Some(packet_id).filter(|_| acknowledged),
                properties,
                payload,
            })
        },
    )
}

type MakeAck = fn(Ack<'static>) -> Packet<'static>;

fn ack(
    packet: PacketType,
    make: MakeAck,
    version: ProtocolVersion,
    sender: Sender,
) -> impl Strategy<Value = Packet<'static>> {
    (packet_id(), code(packet, sender), option::of(text()), user()).prop_map(
        move |(packet_id, code, reason_string, user)| match version {
            ProtocolVersion::V5 => make(Ack { packet_id, code, reason_string, user }),
            _ => make(Ack::new(packet_id, ReasonCode::Success)),
        },
    )
}

fn acks(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet<'static>> {
    prop_oneof![
        ack(PacketType::Puback, Packet::Puback, version, sender),
        ack(PacketType::Pubrec, Packet::Pubrec, version, sender),
        ack(PacketType::Pubrel, Packet::Pubrel, version, sender),
        ack(PacketType::Pubcomp, Packet::Pubcomp, version, sender),
    ]
    .boxed()
}

fn subscribe(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    let handling = select(vec![RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew, RetainHandling::DoNotSend]);
    let options = (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            ProtocolVersion::V5 => SubscriptionOptions { qos, no_local, retain_as_published, retain_handling },
            _ => SubscriptionOptions::new(qos),
        },
    );
    let filter = (text(), options).prop_map(|(filter, options)| SubscribeFilter { filter, options });
    (packet_id(), option::of(subscription_id()), vec(filter, 1..5), user()).prop_map(
        move |(packet_id, subscription_id, filters, user)| {
            let plain = Subscribe::new(packet_id, &*filters.leak());
            Packet::Subscribe(if version.is_v5() { Subscribe { subscription_id, user, ..plain } } else { plain })
        },
    )
}

fn unsubscribe(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    (packet_id(), vec(text(), 1..5), user()).prop_map(move |(packet_id, filters, user)| {
        let plain = Unsubscribe::new(packet_id, &*filters.leak());
        Packet::Unsubscribe(if version.is_v5() { Unsubscribe { user, ..plain } } else { plain })
    })
}

fn suback(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    use ReasonCode::{GrantedQoS1, GrantedQoS2, UnspecifiedError};
    let legacy = vec![ReasonCode::GrantedQoS0, GrantedQoS1, GrantedQoS2, UnspecifiedError];
    let codes = if version.is_v5() { codes_of(PacketType::Suback, Sender::Server) } else { legacy };
    (packet_id(), vec(select(codes), 1..5), option::of(text()), user()).prop_map(
        move |(packet_id, codes, reason_string, user)| {
            let plain = Suback::new(packet_id, &*codes.leak());
            Packet::Suback(if version.is_v5() { Suback { reason_string, user, ..plain } } else { plain })
        },
    )
}

fn unsuback(version: ProtocolVersion) -> impl Strategy<Value = Packet<'static>> {
    let codes = vec(code(PacketType::Unsuback, Sender::Server), 1..5);
    (packet_id(), codes, option::of(text()), user()).prop_map(move |(packet_id, codes, reason_string, user)| {
        Packet::Unsuback(match version {
            ProtocolVersion::V5 => Unsuback { reason_string, user, ..Unsuback::new(packet_id, &*codes.leak()) },
            _ => Unsuback::new(packet_id, &[][..]),
        })
    })
}

fn disconnect(version: ProtocolVersion, sender: Sender) -> impl Strategy<Value = Packet<'static>> {
    let server = sender == Sender::Server;
    (code(PacketType::Disconnect, sender), any::<Option<u32>>(), option::of(text()), option::of(text()), user())
        .prop_map(move |(code, session_expiry, reason_string, server_reference, user)| {
            Packet::Disconnect(match version {
                ProtocolVersion::V5 => Disconnect {
                    code,
                    session_expiry: session_expiry.filter(|_| !server),
                    reason_string,
                    server_reference: server_reference.filter(|_| server),
                    user,
                },
                _ => Disconnect::new(ReasonCode::NormalDisconnection),
            })
        })
}

fn auth(sender: Sender) -> impl Strategy<Value = Packet<'static>> {
    (code(PacketType::Auth, sender), text(), option::of(bytes()), option::of(text()), user()).prop_map(
        |(code, method, data, reason_string, user)| {
            Packet::Auth(Auth { data, reason_string, user, ..Auth::new(code, method) })
        },
    )
}

/// Any legal packet of `version` from `sender`.
fn packet(version: ProtocolVersion, sender: Sender) -> BoxedStrategy<Packet<'static>> {
    let both = prop_oneof![publish(version, sender), acks(version, sender)];
    let packets = match sender {
        Sender::Client => prop_oneof![
            3 => both,
            2 => connect(version),
            2 => subscribe(version),
            1 => unsubscribe(version),
            1 => disconnect(version, sender),
            1 => Just(Packet::Pingreq),
        ]
        .boxed(),
        Sender::Server => prop_oneof![
            3 => both,
            2 => connack(version),
            1 => suback(version),
            1 => unsuback(version),
            1 => Just(Packet::Pingresp),
        ]
        .boxed(),
    };
    if !version.is_v5() {
        return packets;
    }
    prop_oneof![8 => packets, 1 => disconnect(version, sender), 1 => auth(sender)].boxed()
}

/// A direction of a connection, and some packets that went along it.
fn traffic(most: usize) -> impl Strategy<Value = (ProtocolVersion, Sender, Vec<Packet<'static>>)> {
    (select(ProtocolVersion::ALL.to_vec()), select(SENDERS.to_vec()))
        .prop_flat_map(move |(version, sender)| (Just(version), Just(sender), vec(packet(version, sender), 1..=most)))
}

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    assert_eq!(out.len(), packet.encoded_len(version), "{packet:?}");
    out
}

/// The packet at the front of `bytes`, and its length.
fn first_packet(bytes: &[u8], version: ProtocolVersion, sender: Sender) -> Option<(Packet<'_>, usize)> {
    match split(bytes, MAX_PACKET_SIZE) {
        Ok(Split::Frame(frame)) => decode(frame, version, sender).ok().map(|packet| (packet, frame.length)),
        _ => None,
    }
}

/// Decodes whatever can be decoded, as any version and from either side; what can be is legal, so it survives being
/// encoded.
fn examine(bytes: &[u8]) {
    for version in ProtocolVersion::ALL {
        for sender in SENDERS {
            let mut rest = bytes;
            while let Some((packet, length)) = first_packet(rest, version, sender) {
                assert!(length <= rest.len());
                let again = encoded(&packet, version);
                assert!(again.len() <= length, "longer than it came: {packet:?}");
                assert_eq!(first_packet(&again, version, sender), Some((packet, again.len())));
                if let Packet::Publish(publish) = packet {
                    check_forwarded(&publish.properties);
                }
                rest = &rest[length..];
            }
        }
    }
}

/// The forwarded properties are all but those that are made anew for each delivery.
fn check_forwarded(properties: &PublishProperties<'_>) {
    let forwarded = properties.forwarded();
    let expected = PublishProperties {
        message_expiry: None,
        topic_alias: None,
        subscription_ids: Default::default(),
        ..*properties
    };
    assert_eq!(PublishProperties::parse(&forwarded), Ok(expected));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn what_is_encoded_comes_back((version, sender, packets) in traffic(1)) {
        for packet in packets {
            let bytes = encoded(&packet, version);
            prop_assert_eq!(first_packet(&bytes, version, sender), Some((packet, bytes.len())));
            for end in 0..bytes.len() {
                match split(&bytes[..end], MAX_PACKET_SIZE) {
                    Ok(Split::Incomplete { missing }) => prop_assert!(0 < missing && missing <= bytes.len() - end),
                    other => prop_assert!(false, "{other:?} at {end} of {bytes:x?}"),
                }
            }
            prop_assert!(split(&bytes, bytes.len()).is_ok());
            prop_assert_eq!(split(&bytes, bytes.len() - 1).unwrap_err().code, ReasonCode::PacketTooLarge);
        }
    }

    #[test]
    fn however_a_stream_is_cut_its_packets_are_the_same(
        (version, sender, packets) in traffic(8),
        reads in vec(1..64usize, 1..20),
    ) {
        let stream: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        let mut reads = reads.iter().cycle();
        let (mut start, mut end) = (0, 0);
        let mut expected = packets.iter();
        while start < stream.len() {
            match split(&stream[start..end], MAX_PACKET_SIZE).unwrap() {
                Split::Frame(frame) => {
                    let packet = decode(frame, version, sender);
                    prop_assert_eq!(packet.as_ref(), Ok(expected.next().unwrap()));
                    start += frame.length;
                }
                Split::Incomplete { missing } => {
                    prop_assert!(end + missing <= stream.len());
                    end = stream.len().min(end + reads.next().unwrap());
                }
            }
        }
        prop_assert_eq!(expected.next(), None);
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in vec(any::<u8>(), 0..200)) {
        examine(&bytes);
    }

    #[test]
    fn any_body_is_a_packet_or_an_error(first in 0x10..=0xFFu8, body in vec(prop_oneof![0..4u8, any::<u8>()], 0..100)) {
        examine(&[&[first, body.len() as u8], &body[..]].concat());
    }

    #[test]
    fn any_damage_is_survived(
        (version, _, packets) in traffic(3),
        damage in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
    ) {
        let mut bytes: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        for (at, byte, kind) in damage {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, byte),
                _ if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {}
            }
        }
        examine(&bytes);
    }

    #[test]
    fn an_outgoing_publish_is_a_publish(
        version in select(ProtocolVersion::ALL.to_vec()),
        packet in publish(ProtocolVersion::V5, Sender::Server),
    ) {
        let Packet::Publish(publish) = packet else { unreachable!() };
        let bytes = encoded(&packet, ProtocolVersion::V5);
        let Some((Packet::Publish(received), _)) = first_packet(&bytes, ProtocolVersion::V5, Sender::Server) else {
            panic!("{bytes:x?}")
        };
        let forwarded = received.properties.forwarded();
        let subscription_ids: Vec<u32> = publish.properties.subscription_ids.iter().collect();
        let topic = if publish.topic.is_empty() { "topic" } else { publish.topic };
        let outgoing = Outgoing {
            dup: publish.dup,
            qos: publish.qos,
            retain: publish.retain,
            topic,
            packet_id: publish.packet_id,
            alias: publish.properties.topic_alias,
            message_expiry: publish.properties.message_expiry,
            subscription_ids: &subscription_ids,
            properties: &forwarded,
            payload: publish.payload,
        };
        let mut sent = Vec::new();
        outgoing.encode(version, &mut sent);
        prop_assert_eq!(sent.len(), outgoing.encoded_len(version));
        let properties = if version.is_v5() { publish.properties } else { PublishProperties::default() };
        let expected = Packet::Publish(Publish { topic, properties, ..publish });
        prop_assert_eq!(first_packet(&sent, version, Sender::Server), Some((expected, sent.len())));
        if let (Some(offset), Some(id)) = (outgoing.packet_id_offset(version), publish.packet_id) {
            prop_assert_eq!(&sent[offset..offset + 2], id.get().to_be_bytes());
        }
    }
}

/// Cost is linear: thousands of tiny properties, filters or codes in one packet take no longer than their bytes.
#[test]
fn many_small_parts_in_one_packet() {
    let many = 200_000;
    let pairs = vec![(String::new(), String::new()); many];
    let packet_id = PacketId::MIN;
    let filters = vec![SubscribeFilter { filter: "", options: SubscriptionOptions::default() }; many];
    let subscribe = Subscribe { user: (&pairs[..]).into(), ..Subscribe::new(packet_id, &filters[..]) };
    let bytes = encoded(&Packet::Subscribe(subscribe), ProtocolVersion::V5);
    let (packet, _) = first_packet(&bytes, ProtocolVersion::V5, Sender::Client).unwrap();
    assert_eq!(packet, Packet::Subscribe(subscribe));

    let ids = vec![1; many];
    let properties = PublishProperties {
        subscription_ids: (&ids[..]).into(),
        user: (&pairs[..]).into(),
        ..PublishProperties::default()
    };
    let publish = Publish { topic: "t", properties, ..Publish::default() };
    let bytes = encoded(&Packet::Publish(publish), ProtocolVersion::V5);
    let Some((Packet::Publish(received), _)) = first_packet(&bytes, ProtocolVersion::V5, Sender::Server) else {
        panic!()
    };
    assert_eq!(received, publish);
    assert_eq!(received.properties.forwarded().len(), many * 5);
}
