//! What hooks make of a message for one client.

use super::*;

#[test]
fn a_hook_rewrites_topic_and_payload_for_one_client() {
    let rewritten = || DeliverAnswer::Ok(DeliverModifiers::default().topic("other").payload("rewritten"));
    for version in [V311, V5] {
        let mut client = Client::new(version, NoHooks.hook(Says(rewritten)));
        let mut published = publication("t", b"x", QoS::AtLeastOnce);
        published.retain = true;
        client.deliver(&recipient(), &published, None);
        let output = client.output();
        let found = publishes(&output, version);
        assert_eq!((found[0].topic, found[0].payload), ("other", &b"rewritten"[..]));
        assert_eq!((found[0].qos, found[0].retain), (QoS::AtLeastOnce, true));
    }
}

#[test]
fn a_topic_that_is_not_valid_is_ignored() {
    for topic in ["", "a/#"] {
        let by = DeliverModifiersM5::default().topic(topic).payload("y");
        let published = publication("t", b"x", QoS::AtMostOnce);
        let shown = rewrite(&published, &by).expect("the payload changes");
        assert_eq!((shown.topic().as_str(), shown.payload()), ("t", &b"y"[..]));
    }
    assert!(rewrite(&publication("t", b"x", QoS::AtMostOnce), &DeliverModifiersM5::default()).is_none());
}

#[test]
fn what_is_rewritten_is_held_against_the_clients_maximum_packet_size() {
    let longer = || DeliverAnswer::Ok(DeliverModifiers::default().payload("much longer than it was"));
    let shorter = || DeliverAnswer::Ok(DeliverModifiers::default().payload(""));
    let outcome = |says: fn() -> DeliverAnswer<DeliverModifiers>| {
        let mut client = Client::new(V5, NoHooks.hook(Says(says)));
        client.session.settings.maximum_outgoing = 10;
        client.sent("as it was", QoS::AtMostOnce)
    };
    assert_eq!(outcome(longer), Delivered::Dropped(DropReason::PacketTooLarge));
    assert_eq!(outcome(shorter), Delivered::Sent);
}

/// Every transmission of a message is the same.
#[test]
fn what_is_sent_again_is_as_it_was_rewritten_and_no_hook_is_asked_again() {
    let rewritten = || DeliverAnswer::Ok(DeliverModifiers::default().payload("rewritten"));
    let mut client = Client::new(V5, NoHooks.hook(Says(rewritten)));
    client.sent("x", QoS::AtLeastOnce);
    assert_eq!((client.texts(), client.session.state.1), (vec!["rewritten".to_owned()], 1));
    client.session.outbound.send_again();
    client.send_waiting(usize::MAX);
    assert_eq!((client.texts(), client.session.state.1), (vec!["rewritten".to_owned()], 1));
}

/// Another client may get it instead, and hooks have not rewritten it for that one.
#[test]
fn what_is_kept_in_flight_is_what_was_published() {
    let rewritten = || DeliverAnswer::Ok(DeliverModifiers::default().payload("rewritten"));
    let mut client = Client::new(V5, NoHooks.hook(Says(rewritten)));
    client.sent("x", QoS::AtLeastOnce);
    let in_flight = client.session.outbound.extract(|_| true);
    let kept = in_flight.first().and_then(|entry| entry.delivery()).expect("it is in flight");
    assert_eq!(kept.message.payload(), b"x");
}

#[test]
fn a_message_that_waited_is_rewritten_when_it_is_sent() {
    let rewritten = || DeliverAnswer::Ok(DeliverModifiers::default().payload("rewritten"));
    let mut client = Client::new(V5, NoHooks.hook(Says(rewritten)));
    QOS.into_iter().for_each(|qos| client.enqueue(delivery("x", qos)));
    assert_eq!(client.session.state.1, 0);
    client.send_waiting(usize::MAX);
    assert_eq!((client.texts(), client.session.state.1), (vec!["rewritten".to_owned(); 3], 3));
}
