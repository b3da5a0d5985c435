//! Packets that are encoded once for many.

use super::*;

/// Forms that hold another message than the one that is delivered: whoever is sent `FOREIGN` was sent what was encoded for others.
fn foreign() -> EncodedForms {
    let mut forms = EncodedForms::default();
    for version in [V311, V5] {
        for packet_id in [None, Some(PacketId::MIN)] {
            let qos = if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce };
            forms.encode(&Outgoing { qos, packet_id, topic: "t", payload: FOREIGN, ..Outgoing::default() }, version);
        }
    }
    forms
}

const FOREIGN: &[u8] = b"encoded for another";

/// Whether a client is sent what was encoded for others.
fn shares<C: Chain>(client: &mut Client<C>, recipient: &Recipient) -> bool {
    let publication = publication("t", b"own", QoS::AtMostOnce);
    assert_eq!(client.deliver(recipient, &publication, Some(&mut foreign())), Delivered::Sent);
    let is_shared = client.texts() == [String::from_utf8_lossy(FOREIGN)];
    // And the other way round: what is its own is not kept for others.
    let mut forms = EncodedForms::default();
    client.deliver(recipient, &publication, Some(&mut forms));
    let version = client.session.client.version;
    assert_eq!(forms.encoded(version, None).is_some(), is_shared);
    is_shared
}

#[test]
fn a_packet_is_encoded_once_for_each_version_and_for_qos_0_and_the_others() {
    for version in ProtocolVersion::ALL {
        assert!(shares(&mut Client::new(version, NoHooks), &recipient()));
    }
    let mut forms = foreign();
    for qos in QOS {
        let mut client = client();
        let mut published = publication("t", b"own", qos);
        published.retain = true;
        client.deliver(&recipient(), &published, Some(&mut forms));
        let output = client.output();
        let publish = one(&output);
        assert_eq!((publish.payload, publish.qos, publish.retain), (FOREIGN, qos, true));
    }
}

#[test]
fn packet_ids_are_each_clients_own() {
    let mut forms = EncodedForms::default();
    let published = publication("t", b"x", QoS::AtLeastOnce);
    for before in 0..3 {
        let mut client = client();
        (0..before).for_each(|_| assert_eq!(client.sent("before", QoS::AtLeastOnce), Delivered::Sent));
        client.output();
        client.deliver(&recipient(), &published, Some(&mut forms));
        let output = client.output();
        assert_eq!(id(&one(&output)), Some(before + 1));
        assert_eq!(client.session.outbound.in_flight(), usize::from(before) + 1);
    }
}

#[test]
fn what_has_subscription_identifiers_or_may_have_an_alias_is_a_clients_own() {
    let with_id = Recipient { ids: SubscriptionIds::from(3), ..recipient() };
    assert!(!shares(&mut client(), &with_id));
    let mut with_aliases = client();
    with_aliases.session.settings.alias_maximum_out = 1;
    assert_eq!(with_aliases.sent("the topic is seen", QoS::AtMostOnce), Delivered::Sent);
    with_aliases.output();
    assert!(!shares(&mut with_aliases, &recipient()));
}

/// Both may be sent it: the other client has no aliases that would have to be told.
#[test]
fn what_a_client_with_aliases_is_sent_without_one_serves_others() {
    let mut with_aliases = client();
    with_aliases.session.settings.alias_maximum_out = 1;
    let mut forms = EncodedForms::default();
    let published = publication("t", b"x", QoS::AtMostOnce);
    with_aliases.deliver(&recipient(), &published, Some(&mut forms));
    assert!(forms.encoded(V5, None).is_some());
}

#[test]
fn what_is_encoded_already_is_dropped_if_it_is_too_large() {
    let mut client = client();
    client.session.settings.maximum_outgoing = 8;
    let published = publication("t", b"too large", QoS::AtMostOnce);
    let mut forms = EncodedForms::default();
    self::client().deliver(&recipient(), &published, Some(&mut forms));
    let outcome = client.deliver(&recipient(), &published, Some(&mut forms));
    assert_eq!((outcome, client.output()), (Delivered::Dropped(DropReason::PacketTooLarge), Vec::new()));
}

#[test]
fn what_a_hook_rewrites_is_a_clients_own() {
    let to_x = || DeliverAnswer::Ok(DeliverModifiers::default().payload("rewritten"));
    for version in [V311, V5] {
        assert!(!shares(&mut Client::new(version, NoHooks.hook(Says(to_x))), &recipient()));
        assert!(shares(&mut Client::new(version, NoHooks.hook(Says(DeliverAnswer::ok))), &recipient()));
        assert!(shares(&mut Client::new(version, NoHooks.hook(Says(|| DeliverAnswer::Next))), &recipient()));
    }
}

/// A client and how it subscribes.
#[derive(Clone, Debug)]
struct Asked {
    version: ProtocolVersion,
    qos: QoS,
    retain: bool,
    ids: Vec<u32>,
    aliases: u16,
    maximum: usize,
    is_rewritten: bool,
}

fn asked() -> impl Strategy<Value = Asked> {
    let version = prop::sample::select(&ProtocolVersion::ALL[..]);
    let qos = prop::sample::select(&QOS[..]);
    let ids = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(1..268_435_456_u32, 1..3)];
    let maximum = prop_oneof![2 => Just(usize::MAX), 1 => 8..60_usize];
    (version, qos, any::<bool>(), ids, 0..3_u16, maximum, prop::bool::weighted(0.1)).prop_map(
        |(version, qos, retain, ids, aliases, maximum, is_rewritten)| {
            let (ids, aliases) = if version.is_v5() { (ids, aliases) } else { (Vec::new(), 0) };
            Asked { version, qos, retain, ids, aliases, maximum, is_rewritten }
        },
    )
}

/// What the clients are sent of `payloads`, delivered to one after the other, with what was encoded for others or without.
fn received(asked: &[Asked], payloads: &[Vec<u8>], properties: &[u8], expires: Time, shared: bool) -> Vec<Vec<u8>> {
    let to_x = || DeliverAnswer::Ok(DeliverModifiers::default().topic("rewritten"));
    let mut clients: Vec<_> = asked
        .iter()
        .map(|asked| {
            let says = if asked.is_rewritten { to_x } else { || DeliverAnswer::Next };
            let mut client = Client::new(asked.version, NoHooks.hook(Says(says)));
            client.session.settings.alias_maximum_out = asked.aliases;
            client.session.settings.maximum_outgoing = asked.maximum;
            client
        })
        .collect();
    let mut forms = EncodedForms::default();
    for payload in payloads {
        forms.clear();
        let mut published = publication("some/topic", payload, QoS::AtMostOnce);
        (published.properties, published.expires) = (properties, expires);
        for (client, asked) in clients.iter_mut().zip(asked) {
            (published.qos, published.retain) = (asked.qos, asked.retain);
            let ids = asked.ids.iter().fold(SubscriptionIds::new(), |mut ids, id| {
                ids.push(*id);
                ids
            });
            let recipient = Recipient { ids, ..recipient() };
            client.deliver(&recipient, &published, Some(&mut forms).filter(|_| shared));
        }
    }
    clients.iter_mut().map(Client::output).collect()
}

proptest! {
    /// Nobody can see whether a packet was encoded for him alone, whoever else is sent the message.
    #[test]
    fn what_is_encoded_once_is_what_would_be_encoded_for_each(
        asked in prop::collection::vec(asked(), 1..8),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..5),
        content_type in prop::option::of("[a-z]{0,9}"),
        expires in prop_oneof![Just(Time::NEVER), (0..100_000_u64).prop_map(Time::from_millis)],
    ) {
        let mut block = PropertyBlock::new();
        if let Some(content_type) = content_type {
            block.content_type(&content_type).expect("it is short");
        }
        let received = |shared| received(&asked, &payloads, block.as_bytes(), expires, shared);
        prop_assert_eq!(received(true), received(false));
    }
}
