//! A message on its way to a client at once.

use super::*;

/// Whether a message is sent, for each QoS.
fn is_sent(prepare: impl Fn(&mut Client<NoHooks>)) -> [bool; 3] {
    QOS.map(|qos| {
        let mut client = client();
        prepare(&mut client);
        let outcome = client.sent("x", qos);
        assert_eq!(client.connection.outbox.has_output(), outcome == Delivered::Sent);
        assert!(matches!(outcome, Delivered::Sent | Delivered::Queue { online: true }));
        outcome == Delivered::Sent
    })
}

#[test]
fn a_message_goes_straight_to_a_client_for_which_nothing_waits() {
    assert_eq!(is_sent(|_| {}), [true; 3]);
}

/// [MQTT-4.6.0-5]
#[test]
fn nothing_goes_before_what_waits_already() {
    assert_eq!(is_sent(|client| client.enqueue(delivery("first", QoS::AtLeastOnce))), [false; 3]);
    let reconnected = |client: &mut Client<NoHooks>| {
        client.session.outbound.launch(delivery("first", QoS::AtLeastOnce));
        client.session.outbound.send_again();
    };
    assert_eq!(is_sent(reconnected), [false; 3]);
}

/// [MQTT-3.3.4-9]
#[test]
fn a_full_window_holds_back_qos_1_and_2_alone() {
    let one_at_a_time = |client: &mut Client<NoHooks>| {
        client.session.settings.send_maximum = 1;
        client.session.outbound.launch(delivery("first", QoS::AtLeastOnce));
    };
    assert_eq!(is_sent(one_at_a_time), [true, false, false]);
}

/// [MQTT-2.2.1-4], [MQTT-3.3.1-2]
#[test]
fn qos_1_and_2_are_in_flight_under_ids_of_their_own_and_qos_0_has_none() {
    let mut client = client();
    QOS.into_iter().for_each(|qos| assert_eq!(client.sent("x", qos), Delivered::Sent));
    let output = client.output();
    let seen: Vec<_> = publishes(&output, V5).iter().map(|publish| (publish.qos, id(publish), publish.dup)).collect();
    assert_eq!(seen, [(QOS[0], None, false), (QOS[1], Some(1), false), (QOS[2], Some(2), false)]);
    let outbound = &client.session.outbound;
    let stage = |id| outbound.stage(PacketId::new(id).expect("not zero"));
    assert_eq!((stage(1), stage(2)), (Some(Stage::AwaitingPuback), Some(Stage::AwaitingPubrec)));
    assert_eq!(outbound.in_flight(), 2);
}

/// [MQTT-3.3.1-9]: what is retained must reach a new subscriber, however slow it is; it waits elsewhere.
#[test]
fn what_is_retained_is_sent_as_such_when_window_and_output_have_room_whatever_is_queued() {
    let mut client = client();
    client.enqueue(delivery("queued", QOS[1]));
    client.session.settings.send_maximum = 2;
    assert_eq!(client.send_retained("0", QOS[0], 4096), Some(Delivered::Sent));
    assert_eq!(client.send_retained("1", QOS[1], 4096), Some(Delivered::Sent));
    assert_eq!(client.send_retained("2", QOS[2], 4096), Some(Delivered::Sent));
    assert_eq!(client.send_retained("3", QOS[1], 4096), None, "the window is full");
    assert_eq!(client.send_retained("4", QOS[0], 4096), Some(Delivered::Sent), "QoS 0 takes no place in it");
    assert_eq!(client.send_retained("5", QOS[0], 1), None, "the output is");
    let output = client.output();
    let seen: Vec<_> =
        publishes(&output, V5).iter().map(|publish| (publish.payload, publish.retain, publish.qos)).collect();
    assert_eq!(seen, [(&b"0"[..], true, QOS[0]), (b"1", true, QOS[1]), (b"2", true, QOS[2]), (b"4", true, QOS[0])]);
    client.session.settings.send_maximum = 9;
    client.session.outbound.send_again();
    assert_eq!(client.send_retained("6", QOS[0], 4096), None, "what is sent again comes first");
    client.send_waiting(usize::MAX);
    client.session.settings.maximum_outgoing = 3;
    let too_large = Some(Delivered::Dropped(DropReason::PacketTooLarge));
    assert_eq!(client.send_retained("7", QOS[0], 4096), too_large);
}

/// [MQTT-3.3.2-6]
#[test]
fn a_message_says_how_long_it_is_still_of_use() {
    let mut client = client();
    let mut expiring = publication("t", b"x", QoS::AtMostOnce);
    expiring.expires = NOW + Duration::from_millis(1001);
    client.deliver(&recipient(), &expiring, None);
    let output = client.output();
    assert_eq!(one(&output).properties.message_expiry, Some(2));
}

/// [MQTT-3.3.4-3], [MQTT-3.3.4-4]
#[test]
fn a_message_has_the_identifiers_of_all_subscriptions_that_it_matches() {
    let mut client = client();
    let recipient = Recipient { ids: SubscriptionIds::from([7, 300]), ..recipient() };
    client.deliver(&recipient, &publication("t", b"x", QoS::AtLeastOnce), None);
    let output = client.output();
    assert_eq!(one(&output).properties.subscription_ids.iter().collect::<Vec<_>>(), [7, 300]);
}

#[test]
fn what_is_written_counts_for_the_slot_of_the_client() {
    let mut client = client();
    client.session.slot = 9;
    client.sent("x", QoS::AtMostOnce);
    client.session.settings.maximum_outgoing = 3;
    client.sent("too large", QoS::AtMostOnce);
    assert_eq!([8, 9].map(|slot| client.traffic.of(slot)), [0, 1]);
}
