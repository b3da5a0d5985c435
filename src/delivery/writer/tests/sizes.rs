//! Maximum Packet Size, and large payloads.

use super::*;

/// `30 <length> 0001 't' 00` and the payload.
const OVERHEAD: usize = 6;

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn a_packet_that_is_larger_than_the_client_takes_is_dropped_and_takes_no_packet_id() {
    let mut client = client();
    client.session.settings.maximum_outgoing = OVERHEAD + 4;
    assert_eq!(client.sent("fits", QoS::AtMostOnce), Delivered::Sent);
    for qos in QOS {
        assert_eq!(client.sent("fits not", qos), Delivered::Dropped(DropReason::PacketTooLarge));
    }
    assert_eq!(client.session.outbound.in_flight(), 0);
    client.session.settings.maximum_outgoing = OVERHEAD + 2 + 4;
    assert_eq!(client.sent("fits", QoS::AtLeastOnce), Delivered::Sent);
    let output = client.output();
    let seen: Vec<_> = publishes(&output, V5).iter().map(|publish| (publish.payload, id(publish))).collect();
    assert_eq!(seen, [(&b"fits"[..], None), (b"fits", Some(1))]);
}

#[test]
fn a_large_payload_is_spliced_in_and_shared() {
    for (length, is_spliced) in [(SPLICE_FROM - 1, false), (SPLICE_FROM, true)] {
        let payload = vec![b'x'; length];
        let publication = publication("t", &payload, QoS::AtLeastOnce);
        let mut client = client();
        assert_eq!(client.deliver(&recipient(), &publication, None), Delivered::Sent);
        let output = client.connection.outbox.take().expect("it was written");
        let is_shared = output.splices.iter().map(|splice| splice.message.same_as(&publication.keep()));
        assert_eq!(is_shared.collect::<Vec<_>>(), vec![true; usize::from(is_spliced)]);
        let bytes = output.into_bytes();
        assert_eq!(one(&bytes).payload, payload);
    }
}

/// Packets of others stand before and behind: each part is where it belongs.
#[test]
fn large_properties_are_spliced_in_and_shared_too() {
    let mut block = PropertyBlock::new();
    block.user("k", &"v".repeat(SPLICE_FROM)).expect("they fit");
    for length in [0, 5, SPLICE_FROM] {
        let payload = vec![b'x'; length];
        let mut large = publication("t", &payload, QoS::AtLeastOnce);
        large.properties = block.as_bytes();
        let small = publication("t", b"small", QoS::AtMostOnce);
        let mut client = client();
        for publication in [&small, &large, &small] {
            let mut forms = EncodedForms::default();
            assert_eq!(client.deliver(&recipient(), publication, Some(&mut forms)), Delivered::Sent);
        }
        let output = client.connection.outbox.take().expect("it was written");
        assert!(output.bytes.len() < 100 + length % SPLICE_FROM, "nothing large is copied");
        assert!(output.splices.iter().all(|splice| splice.message.same_as(&large.keep())));
        assert_eq!(output.splices.len(), 1 + length / SPLICE_FROM);
        let whole = output.len();
        let bytes = output.into_bytes();
        let seen = publishes(&bytes, V5);
        let payloads: Vec<_> = seen.iter().map(|publish| publish.payload).collect();
        assert_eq!((whole, payloads), (bytes.len(), vec![b"small", &payload[..], b"small"]));
        assert_eq!(*seen[1].properties.forwarded(), *block.as_bytes());
    }
}

#[test]
fn a_large_payload_is_never_encoded_for_others() {
    let payload = vec![b'x'; SPLICE_FROM];
    let publication = publication("t", &payload, QoS::AtMostOnce);
    let mut forms = EncodedForms::default();
    let mut client = client();
    client.deliver(&recipient(), &publication, Some(&mut forms));
    assert!(forms.encoded(V5, None).is_none());
}
