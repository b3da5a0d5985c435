//! Sessions: kept and ended, resumed with what waited, taken over.

use std::thread;
use std::time::Duration;

use crate::broker::Broker;
use crate::mqtt5::DisconnectReasonCode;
use crate::{mqtt3, mqtt5, on_every_number_of_shards};

on_every_number_of_shards![
    what_was_queued_arrives_in_order,
    qos_0_does_not_wait,
    unacknowledged_messages_come_again,
    a_clean_session_leaves_nothing,
    a_clean_session_discards_the_kept_one,
    a_connection_takes_the_session_over,
    a_client_that_is_taken_over_again_and_again_loses_nothing,
    a_session_ends_with_its_connection_if_it_is_not_kept,
    a_kept_session_expires,
    a_session_belongs_to_all_versions,
];

/// At QoS 1: rumqttc forgets with the connection how far messages at QoS 2 have got. `loss` has clients that know.
fn what_was_queued_arrives_in_order(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut away = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
    assert!(!away.session_present);
    away.subscribe("queue/#", 1);
    for round in 0..3 {
        if round == 1 {
            away.disconnect()
        } else {
            away.cut()
        }
        for number in 0..500 {
            publisher.send("queue/of/it", 1 + (number % 2) as u8, false, number.to_string());
        }
        publisher.settle(1, 250);
        publisher.settle(2, 250);
        away = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
        assert!(away.session_present);
        for number in 0..500 {
            assert_eq!(away.receive_text(), number.to_string());
        }
        // What follows the acknowledgements shows that the broker has read them.
        away.publish("elsewhere", 1, "");
    }
}

fn qos_0_does_not_wait(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut away = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
    away.subscribe("mixed", 1);
    away.subscribe("low", 0);
    away.disconnect();
    publisher.publish("mixed", 0, "published low");
    publisher.publish("low", 1, "subscribed low");
    publisher.publish("mixed", 1, "waits");
    let mut back = mqtt3::Client::connect(mqtt3::kept(&broker, "away"));
    assert_eq!(back.receive_text(), "waits");
}

fn unacknowledged_messages_come_again(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let manual = || {
        let mut options = mqtt3::kept(&broker, "forgetful");
        options.set_manual_acks(true);
        options
    };
    let mut forgetful = mqtt3::Client::connect(manual());
    forgetful.subscribe("again", 1);
    for text in ["one", "two", "three"] {
        publisher.publish("again", 1, text);
    }
    let first: Vec<_> = (0..3).map(|_| forgetful.receive()).collect();
    assert!(first.iter().all(|message| !message.dup));
    forgetful.cut();
    // [MQTT-4.4.0-1]: with the same packet id; [MQTT-3.3.1-1]: marked as sent before; [MQTT-4.6.0-1]: in order.
    let mut forgetful = mqtt3::Client::connect(manual());
    for sent in &first {
        let again = forgetful.receive();
        assert!(again.dup);
        assert_eq!((again.pkid, &again.payload), (sent.pkid, &sent.payload));
        forgetful.ack(&again);
    }
    // Whatever is behind the acknowledgements shows that the broker has read them.
    forgetful.publish("elsewhere", 1, "");
    forgetful.cut();
    publisher.publish("again", 1, "four");
    let mut forgetful = mqtt3::Client::connect(manual());
    assert_eq!(forgetful.receive_text(), "four");
}

fn a_clean_session_leaves_nothing(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut clean = mqtt3::Client::new(&broker, "clean");
    clean.subscribe("gone", 1);
    clean.disconnect();
    publisher.publish("gone", 1, "nobody hears it");
    let mut next = mqtt3::Client::connect(mqtt3::kept(&broker, "clean"));
    assert!(!next.session_present);
    next.subscribe("marker", 1);
    publisher.publish("gone", 1, "nobody hears it");
    publisher.publish("marker", 1, "heard");
    assert_eq!(next.receive_text(), "heard");
}

fn a_clean_session_discards_the_kept_one(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut kept = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
    kept.subscribe("queue", 1);
    kept.disconnect();
    publisher.publish("queue", 1, "discarded");
    mqtt3::Client::new(&broker, "id").disconnect();
    let mut anew = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
    assert!(!anew.session_present);
    anew.subscribe("queue", 1);
    publisher.publish("queue", 1, "new");
    assert_eq!(anew.receive_text(), "new");
}

fn a_connection_takes_the_session_over(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut old = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 3600));
    old.subscribe("both", 1);
    publisher.publish("both", 1, "to the old one");
    assert_eq!(old.receive_text(), "to the old one");
    let mut new = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 3600));
    assert!(new.connack.session_present);
    assert_eq!(old.disconnected(), DisconnectReasonCode::SessionTakenOver);
    publisher.publish("both", 1, "to the new one");
    assert_eq!(new.receive_text(), "to the new one");
    // An older client is closed without a DISCONNECT.
    let newest = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
    assert!(newest.session_present);
    assert_eq!(new.disconnected(), DisconnectReasonCode::SessionTakenOver);
    let mut last = mqtt3::Client::new(&broker, "id");
    { newest }.closed();
    last.subscribe("both", 1);
    publisher.publish("both", 1, "to the last one");
    assert_eq!(last.receive_text(), "to the last one");
}

fn a_client_that_is_taken_over_again_and_again_loses_nothing(broker: Broker) {
    let mut client = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
    client.subscribe("storm", 1);
    let port = broker.port();
    let publisher = thread::spawn(move || {
        let mut publisher = mqtt3::Client::connect(mqtt3::options_at(port, "publisher"));
        for number in 0..400 {
            publisher.publish("storm", 1, number.to_string());
        }
    });
    let mut received = vec![false; 400];
    for _ in 0..20 {
        // The old client is not closed by anybody but the broker.
        let new = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
        assert!(new.session_present);
        let mut old = std::mem::replace(&mut client, new);
        old.closed();
        old.received_so_far().iter().for_each(|number| received[number.parse::<usize>().unwrap()] = true);
    }
    publisher.join().expect("everything is published");
    client.publish("storm", 1, "400");
    loop {
        match client.receive_text().parse::<usize>().unwrap() {
            400 => break,
            number => received[number] = true,
        }
    }
    let lost: Vec<usize> = (0..400).filter(|&number| !received[number]).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

fn a_session_ends_with_its_connection_if_it_is_not_kept(broker: Broker) {
    for cut in [false, true] {
        let mut client = mqtt5::Client::new(&broker, "id");
        client.subscribe("topic", 1);
        if cut {
            client.cut()
        } else {
            client.disconnect()
        }
        let again = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 0));
        assert!(!again.connack.session_present);
        // A live session that is not kept is not resumed on takeover either.
        let taken_over = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 0));
        assert!(!taken_over.connack.session_present);
    }
}

fn a_kept_session_expires(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut client = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 1));
    client.subscribe("topic", 1);
    client.cut();
    publisher.publish("topic", 1, "expires with the session");
    // The session has to be old enough.
    thread::sleep(Duration::from_secs(3));
    let mut client = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 3600));
    assert!(!client.connack.session_present);
    client.subscribe("topic", 1);
    publisher.publish("topic", 1, "new");
    assert_eq!(client.receive_text(), "new");
}

fn a_session_belongs_to_all_versions(broker: Broker) {
    let mut old = mqtt3::Client::connect(mqtt3::kept(&broker, "id"));
    old.subscribe("topic", 2);
    old.disconnect();
    mqtt5::Client::new(&broker, "publisher").publish("topic", 2, "hello");
    let mut new = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 3600));
    assert!(new.connack.session_present);
    assert_eq!(new.receive_text(), "hello");
}
