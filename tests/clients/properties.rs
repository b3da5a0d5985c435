//! What MQTT 5.0 adds to messages and subscriptions.

use std::thread;
use std::time::Duration;

use crate::broker::Broker;
use crate::mqtt5::{
    Client, Filter, PubAckReason, PublishProperties, SubscribeReasonCode, UnsubAckReason, kept, options, text, topic,
};
use crate::on_every_number_of_shards;
use rumqttc::v5::mqttbytes::QoS;

on_every_number_of_shards![
    properties_of_a_publish_are_forwarded,
    subscribers_receive_the_remaining_message_expiry,
    an_expired_message_is_not_delivered,
    subscription_identifiers_come_with_the_message,
    an_alias_stands_for_its_topic,
    the_broker_uses_aliases_within_the_clients_limit,
    the_clients_receive_maximum_is_honoured,
    no_local_is_honoured,
    a_client_without_an_id_is_assigned_one,
    acknowledgements_tell_what_happened,
    connack_has_the_limits,
];

fn properties_of_a_publish_are_forwarded(broker: Broker) {
    let mut subscriber = Client::new(&broker, "subscriber");
    subscriber.subscribe("with/properties", 2);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        response_topic: Some("answer/to".to_owned()),
        correlation_data: Some(vec![0, 1, 255].into()),
        // [MQTT-3.3.2-18]: in order, the same name again included.
        user_properties: vec![pair("b", "1"), pair("a", "2"), pair("b", "3"), pair("", "")],
        content_type: Some("text/plain".to_owned()),
        ..Default::default()
    };
    let mut publisher = Client::new(&broker, "publisher");
    for qos in [0, 1, 2] {
        publisher.publish_with("with/properties", qos, "hello", properties.clone());
        assert_eq!(subscriber.receive().properties.as_ref(), Some(&properties));
    }
}

fn subscribers_receive_the_remaining_message_expiry(broker: Broker) {
    let mut away = Client::connect(kept(&broker, "away", 3600));
    away.subscribe("aging", 1);
    away.disconnect();
    let expiry = PublishProperties { message_expiry_interval: Some(3600), ..Default::default() };
    Client::new(&broker, "publisher").publish_with("aging", 1, "hello", expiry);
    // The message has to be older than a second.
    thread::sleep(Duration::from_secs(2));
    let mut back = Client::connect(kept(&broker, "away", 3600));
    let left = back.receive().properties.and_then(|properties| properties.message_expiry_interval);
    assert!(left.is_some_and(|left| (3000..3600).contains(&left)), "{left:?}");
}

fn an_expired_message_is_not_delivered(broker: Broker) {
    let mut away = Client::connect(kept(&broker, "away", 3600));
    away.subscribe("aging", 1);
    away.disconnect();
    let mut publisher = Client::new(&broker, "publisher");
    let expiry = PublishProperties { message_expiry_interval: Some(1), ..Default::default() };
    publisher.publish_with("aging", 1, "too old", expiry.clone());
    publisher.publish("aging", 1, "without age");
    publisher.send("aging/retained", 1, true, "too old", expiry);
    publisher.puback();
    // The message has to be too old.
    thread::sleep(Duration::from_secs(3));
    let mut back = Client::connect(kept(&broker, "away", 3600));
    assert_eq!(back.receive_text(), "without age");
    back.subscribe("aging/retained", 1);
    publisher.publish("aging/retained", 1, "live");
    assert_eq!(back.receive_text(), "live");
}

fn subscription_identifiers_come_with_the_message(broker: Broker) {
    let mut client = Client::new(&broker, "client");
    for (filter, id) in [("id/#", 1), ("id/+", 268_435_455), ("id/x", 77), ("other", 5)] {
        client.subscribe_with(Filter::new(filter, QoS::AtLeastOnce), Some(id));
    }
    client.subscribe("none", 1);
    let mut ids = |topic: &str| {
        client.publish(topic, 1, "");
        let mut ids = client.receive().properties.map_or(Vec::new(), |properties| properties.subscription_identifiers);
        ids.sort();
        ids
    };
    assert_eq!(ids("id/x"), [1, 77, 268_435_455]);
    assert_eq!(ids("id/x/y"), [1]);
    assert_eq!(ids("other"), [5]);
    assert!(ids("none").is_empty());
}

fn an_alias_stands_for_its_topic(broker: Broker) {
    let mut subscriber = Client::new(&broker, "subscriber");
    subscriber.subscribe("aliased/#", 2);
    let publisher = Client::new(&broker, "publisher");
    let most = publisher.connack_properties().topic_alias_max.expect("aliases are allowed");
    let alias = |alias| PublishProperties { topic_alias: Some(alias), ..Default::default() };
    publisher.send("aliased/one", 1, false, "1", alias(1));
    publisher.send("aliased/most", 0, false, "2", alias(most));
    publisher.send("", 2, false, "3", alias(1));
    publisher.send("", 1, false, "4", alias(most));
    publisher.send("aliased/other", 1, false, "5", alias(1));
    publisher.send("", 1, false, "6", alias(1));
    for (name, payload) in [("one", "1"), ("most", "2"), ("one", "3"), ("most", "4"), ("other", "5"), ("other", "6")] {
        let received = subscriber.receive();
        assert_eq!((topic(&received), text(&received).as_str()), (format!("aliased/{name}"), payload));
        let alias = received.properties.and_then(|properties| properties.topic_alias);
        assert_eq!(alias, None, "the alias is between the publisher and the broker");
    }
}

fn the_broker_uses_aliases_within_the_clients_limit(broker: Broker) {
    let mut options = options(&broker, "subscriber");
    options.set_topic_alias_max(Some(2));
    let mut subscriber = Client::connect(options);
    subscriber.subscribe("aliased/#", 1);
    let mut publisher = Client::new(&broker, "publisher");
    let mut topics = vec![String::new(); 3];
    for round in 0..3 {
        for name in ["aliased/a", "aliased/b", "aliased/c", "aliased/d"] {
            publisher.publish(name, 1, format!("{name} {round}"));
            let received = subscriber.receive();
            let alias = received.properties.as_ref().and_then(|properties| properties.topic_alias);
            let resolved = match (topic(&received), alias) {
                (topic, None) => topic,
                (topic, Some(alias)) if topic.is_empty() => topics[usize::from(alias)].clone(),
                (topic, Some(alias)) => {
                    topics[usize::from(alias)].clone_from(&topic);
                    topic
                }
            };
            assert_eq!((resolved.as_str(), text(&received)), (name, format!("{name} {round}")));
        }
    }
}

/// [MQTT-3.3.4-9].
fn the_clients_receive_maximum_is_honoured(broker: Broker) {
    let mut options = options(&broker, "slow");
    options.set_receive_maximum(Some(3)).set_manual_acks(true);
    let mut slow = Client::connect(options);
    slow.subscribe("window", 2);
    let mut publisher = Client::new(&broker, "publisher");
    for number in 0..60 {
        publisher.publish("window", 1 + number % 2, number.to_string());
    }
    let mut unacknowledged = Vec::new();
    for number in 0..60 {
        let received = slow.receive();
        assert_eq!(text(&received), number.to_string());
        unacknowledged.push(received);
        assert!(unacknowledged.len() <= 3);
        // All that fit have come: only now is there room for more.
        if unacknowledged.len() == 3 {
            for received in unacknowledged.drain(..) {
                slow.ack(&received);
            }
        }
    }
}

fn no_local_is_honoured(broker: Broker) {
    let mut other = Client::new(&broker, "other");
    let mut client = Client::new(&broker, "client");
    let mut filter = Filter::new("room", QoS::AtLeastOnce);
    filter.nolocal = true;
    client.subscribe_with(filter, None);
    client.publish("room", 1, "my own");
    other.publish("room", 1, "another one's");
    assert_eq!(client.receive_text(), "another one's");
}

fn a_client_without_an_id_is_assigned_one(broker: Broker) {
    let [one, two] = [(); 2].map(|()| Client::new(&broker, ""));
    let id = |client: &Client| {
        client.connack_properties().assigned_client_identifier.expect("the CONNACK has the assigned id")
    };
    assert!(!id(&one).is_empty() && id(&one) != id(&two));
    let mut options = kept(&broker, &id(&one), 3600);
    options.set_clean_start(true);
    let mut named = Client::connect(options);
    assert_eq!(named.connack.properties.clone().and_then(|properties| properties.assigned_client_identifier), None);
    named.subscribe("mine", 1);
    named.publish("mine", 1, "hello");
    assert_eq!(named.receive_text(), "hello");
    { one }.disconnected();
}

fn acknowledgements_tell_what_happened(broker: Broker) {
    let mut client = Client::new(&broker, "client");
    for (wanted, granted) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        assert_eq!(client.subscribe("topic", wanted), SubscribeReasonCode::Success(granted));
    }
    assert_eq!(client.unsubscribe("topic"), UnsubAckReason::Success);
    assert_eq!(client.unsubscribe("topic"), UnsubAckReason::NoSubscriptionExisted);
    // No client may publish below `$SYS`.
    client.send("$SYS/faked", 1, false, "", PublishProperties::default());
    assert_eq!(client.puback(), PubAckReason::NotAuthorized);
}

fn connack_has_the_limits(broker: Broker) {
    let mut options = kept(&broker, "client", 3600);
    options.set_clean_start(true);
    let connack = Client::connect(options).connack_properties();
    assert_eq!(connack.receive_max, Some(1024));
    assert_eq!(connack.max_packet_size, Some(1 << 23));
    assert_eq!(connack.topic_alias_max, Some(32));
    // Without a property the default of MQTT 5.0 applies.
    assert!(connack.session_expiry_interval.is_none_or(|seconds| seconds == 3600));
    assert!(connack.max_qos.is_none());
    assert!(
        [connack.retain_available, connack.wildcard_subscription_available]
            .iter()
            .all(|one| one.is_none_or(|one| one == 1))
    );
    assert!(connack.server_keep_alive.is_none());
}
