//! What waits for a client, and what is sent again.

use super::*;

/// A client that has come back, with these messages in flight.
fn returned(in_flight: &[(&str, QoS)]) -> Client<NoHooks> {
    let mut client = client();
    in_flight.iter().for_each(|(payload, qos)| assert_eq!(client.sent(payload, *qos), Delivered::Sent));
    client.output();
    client.session.outbound.send_again();
    client
}

fn expiring(payload: &str, qos: QoS, at: Time) -> OutgoingMessage {
    let mut publication = publication("t", payload.as_bytes(), qos);
    publication.expires = at;
    OutgoingMessage { message: publication.keep(), ..delivery("", qos) }
}

fn dropped(progress: &AllProgress) -> Vec<(&[u8], DropReason)> {
    progress.dropped.iter().map(|(delivery, reason)| (delivery.message.payload(), *reason)).collect()
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]
#[test]
fn what_is_in_flight_is_sent_again_first_in_order_with_the_same_ids() {
    let mut client = returned(&[("1", QOS[1]), ("2", QOS[2]), ("3", QOS[1])]);
    client.session.outbound.received(PacketId::new(2).expect("not zero"));
    client.enqueue(delivery("4", QOS[2]));
    client.enqueue(delivery("5", QOS[0]));
    let progress = client.send_waiting(usize::MAX);
    assert_eq!((progress.messages, progress.wrote, progress.dropped.len()), (4, true, 0), "PUBREL is no message");
    let output = client.output();
    let seen: Vec<_> = packets(&output, V5)
        .into_iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => (publish.payload, publish.dup, id(&publish)),
            Packet::Pubrel(ack) => (&b"PUBREL"[..], false, Some(ack.packet_id.get())),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        seen,
        [
            (&b"1"[..], true, Some(1)),
            (b"PUBREL", false, Some(2)),
            (b"3", true, Some(3)),
            (b"4", false, Some(4)),
            (b"5", false, None)
        ]
    );
    assert!(!client.session.outbound.has_unsent() && client.session.outbound.in_flight() == 4);
    let idle = client.send_waiting(usize::MAX);
    assert_eq!((idle.messages, idle.wrote, client.output()), (0, false, Vec::new()));
}

#[test]
fn a_pubrel_alone_is_written_but_is_no_message() {
    let mut client = returned(&[("1", QOS[2])]);
    client.session.outbound.received(PacketId::MIN);
    let progress = client.send_waiting(usize::MAX);
    assert_eq!((progress.messages, progress.wrote), (0, true));
}

#[test]
fn flags_identifiers_and_shared_subscription_are_those_of_the_first_time() {
    let mut client = client();
    let group = Arc::new(TopicFilter::parse("$share/g/t", 8).expect("a valid filter"));
    let recipient = Recipient { ids: SubscriptionIds::from(7), group: Some(group.clone()), ..recipient() };
    let mut published = publication("t", b"x", QoS::AtLeastOnce);
    published.retain = true;
    client.deliver(&recipient, &published, None);
    let first = client.output();
    client.session.outbound.send_again();
    client.send_waiting(usize::MAX);
    let again = client.output();
    assert_eq!(one(&again), Publish { dup: true, ..one(&first) });
    assert!(client.session.outbound.extract(|_| true).iter().all(|entry| entry.group() == Some(&group)));
}

/// [MQTT-3.3.4-9]: the client may come back with a smaller Receive Maximum.
#[test]
fn no_more_is_sent_again_than_the_client_takes_now_and_nothing_new_before_it() {
    let mut client = returned(&[("1", QOS[1]), ("2", QOS[1]), ("3", QOS[1]), ("4", QOS[1])]);
    client.session.settings.send_maximum = 2;
    client.enqueue(delivery("5", QOS[0]));
    client.enqueue(delivery("6", QOS[1]));
    client.send_waiting(usize::MAX);
    assert_eq!(client.texts(), ["1", "2"]);
    let mut acknowledged = |id: u16| {
        let id = PacketId::new(id).expect("not zero");
        assert!(client.session.outbound.complete(id, Stage::AwaitingPuback));
        client.send_waiting(usize::MAX);
        client.texts()
    };
    assert_eq!(acknowledged(1), ["3"]);
    assert_eq!(acknowledged(2), ["4", "5"], "QoS 0 takes no place in the window");
    assert_eq!(acknowledged(3), ["6"]);
}

/// [MQTT-4.6.0-5]
#[test]
fn qos_0_waits_behind_what_the_window_holds_back() {
    let mut client = client();
    client.session.settings.send_maximum = 1;
    [("1", QOS[1]), ("2", QOS[1]), ("3", QOS[0])]
        .into_iter()
        .for_each(|(text, qos)| client.enqueue(delivery(text, qos)));
    client.send_waiting(usize::MAX);
    assert_eq!(client.texts(), ["1"]);
    assert!(client.session.outbound.complete(PacketId::MIN, Stage::AwaitingPuback));
    client.send_waiting(usize::MAX);
    assert_eq!(client.texts(), ["2", "3"]);
}

#[test]
fn a_lifo_queue_sends_the_newest_first() {
    let mut client = client();
    client.session.settings.queue.order = QueueType::Lifo;
    ["1", "2", "3"].into_iter().for_each(|text| client.enqueue(delivery(text, QoS::AtLeastOnce)));
    client.send_waiting(usize::MAX);
    assert_eq!(client.texts(), ["3", "2", "1"]);
}

/// [MQTT-3.3.2-5]
#[test]
fn what_expired_while_it_waited_is_dropped_and_takes_no_place() {
    let mut client = client();
    client.session.settings.send_maximum = 1;
    for (text, qos, at) in
        [("old", QOS[1], NOW), ("old, too", QOS[0], NOW), ("new", QOS[1], NOW + Duration::from_millis(1))]
    {
        client.enqueue(expiring(text, qos, at));
    }
    let progress = client.send_waiting(usize::MAX);
    assert_eq!(dropped(&progress), [(&b"old"[..], DropReason::Expired), (b"old, too", DropReason::Expired)]);
    assert_eq!(progress.messages, 1);
    let output = client.output();
    assert_eq!((one(&output).payload, id(&one(&output))), (&b"new"[..], Some(1)));
}

/// Its delivery began before [MQTT-3.3.2-5].
#[test]
fn what_is_in_flight_is_sent_again_even_if_it_has_expired() {
    let mut client = client();
    client.session.outbound.launch(expiring("x", QOS[1], Time::from_millis(5)));
    client.session.outbound.send_again();
    let progress = client.send_waiting(usize::MAX);
    assert_eq!((progress.messages, progress.dropped.len()), (1, 0));
    let output = client.output();
    assert_eq!(one(&output).properties.message_expiry, Some(0));
}

/// [MQTT-3.1.2-25]: the client may come back with a smaller Maximum Packet Size.
#[test]
fn what_is_too_large_for_the_client_is_dropped_and_what_is_behind_it_goes_on() {
    let mut client = returned(&[("too large", QOS[1]), ("1", QOS[2])]);
    [("too large, too", QOS[0]), ("too large as well", QOS[1]), ("2", QOS[1])]
        .into_iter()
        .for_each(|(text, qos)| client.enqueue(delivery(text, qos)));
    client.session.settings.maximum_outgoing = 10;
    let progress = client.send_waiting(usize::MAX);
    let too_large = DropReason::PacketTooLarge;
    assert_eq!(
        dropped(&progress),
        [(&b"too large"[..], too_large), (b"too large, too", too_large), (b"too large as well", too_large)]
    );
    let output = client.output();
    let seen: Vec<_> = publishes(&output, V5).iter().map(|publish| (publish.payload, id(publish))).collect();
    assert_eq!(seen, [(&b"1"[..], Some(2)), (b"2", Some(3))], "what was not sent took no packet id");
    assert_eq!((progress.messages, client.session.outbound.in_flight()), (2, 2));
}

#[test]
fn nothing_is_sent_while_the_output_is_full() {
    let mut client = returned(&[("1", QOS[1]), ("2", QOS[1])]);
    client.enqueue(delivery("3", QOS[0]));
    client.enqueue(delivery("4", QOS[0]));
    let idle = client.send_waiting(0);
    assert_eq!((idle.messages, idle.wrote, client.output()), (0, false, Vec::new()));
    for text in ["1", "2", "3", "4"] {
        let progress = client.send_waiting(1);
        assert_eq!((progress.messages, client.texts()), (1, vec![text.to_owned()]), "one fills it");
    }
}

proptest! {
    /// What waits is sent in order and never more than there is room for; what is not sent is dropped with a reason or waits still.
    #[test]
    fn nothing_is_lost_or_overtaken(
        messages in prop::collection::vec((0..3_usize, 0..30_usize, prop::bool::weighted(0.2)), 0..30),
        send_maximum in 1..6_u16,
        maximum in 20..60_usize,
        most in 0..300_usize,
        turns in prop::collection::vec(0..4_usize, 1..6),
    ) {
        let mut client = client();
        (client.session.settings.send_maximum, client.session.settings.maximum_outgoing) = (send_maximum, maximum);
        let mut waiting = Vec::new();
        for (number, (qos, size, has_expired)) in messages.into_iter().enumerate() {
            let payload = format!("{number:0>2$}{:0>1$}", "", size, 3);
            let at = if has_expired { NOW } else { Time::NEVER };
            client.enqueue(expiring(&payload, QOS[qos], at));
            waiting.push(payload);
        }
        for acknowledged in turns {
            let mut oldest = 0..acknowledged;
            client.session.outbound.extract(|_| oldest.next().is_some());
            let progress = client.send_waiting(most);
            let gone: Vec<String> =
                progress.dropped.iter().map(|(delivery, _)| String::from_utf8_lossy(delivery.message.payload()).into_owned()).collect();
            prop_assert!(client.connection.outbox.waiting() < most + maximum);
            let sent = client.texts();
            prop_assert_eq!(sent.len() as u64, progress.messages);
            prop_assert!(client.session.outbound.in_flight() <= usize::from(send_maximum));
            prop_assert!(sent.is_sorted() && gone.is_sorted());
            let taken = sent.len() + gone.len();
            let mut all = [sent, gone].concat();
            all.sort();
            prop_assert_eq!(&all[..], &waiting[..taken]);
            waiting.drain(..taken);
            prop_assert_eq!(client.session.outbound.queue.len(), waiting.len());
        }
    }
}
