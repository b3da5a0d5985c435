//! Wills: published when a client goes without a word, and only then.

use std::time::Duration;

use crate::broker::Broker;
use crate::mosquitto::Subscriber;
use crate::mqtt5::{LastWillProperties, topic};
use crate::{mqtt3, mqtt5, on_every_number_of_shards};
use rumqttc::QoS;
use rumqttc::v5::mqttbytes::QoS as QoS5;

on_every_number_of_shards![
    a_killed_process_leaves_its_will,
    a_stopped_process_leaves_its_will,
    a_cut_connection_leaves_the_will,
    a_client_that_disconnects_leaves_none,
    a_taken_over_connection_leaves_its_will,
    a_will_may_be_retained,
    a_will_carries_its_properties,
    a_delayed_will_comes_later,
    a_delayed_will_is_forgotten_when_the_client_is_back,
    the_end_of_the_session_ends_the_delay,
];

fn watcher(broker: &Broker) -> mqtt5::Client {
    let mut watcher = mqtt5::Client::new(broker, "watcher");
    watcher.subscribe("will/#", 2);
    watcher
}

fn with_will(broker: &Broker, client_id: &str, qos: QoS, retain: bool) -> mqtt3::MqttOptions {
    let mut options = mqtt3::options(broker, client_id);
    options.set_last_will(mqtt3::LastWill::new(format!("will/{client_id}"), "gone", qos, retain));
    options
}

fn with_delayed_will(broker: &Broker, client_id: &str, session: u32, delay: u32) -> mqtt5::MqttOptions {
    let mut options = mqtt5::kept(broker, client_id, session);
    let properties = LastWillProperties { delay_interval: Some(delay), ..no_properties() };
    let topic = format!("will/{client_id}");
    options.set_last_will(mqtt5::LastWill::new(topic, "gone", QoS5::AtLeastOnce, false, Some(properties)));
    options
}

fn no_properties() -> LastWillProperties {
    LastWillProperties {
        delay_interval: None,
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    }
}

fn a_killed_process_leaves_its_will(broker: Broker) {
    let mut watcher = watcher(&broker);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        let will = format!("will/{version}");
        let arguments =
            ["-V", version, "-t", "any", "--will-topic", &will, "--will-payload", "killed", "--will-qos", "1"];
        let mut subscriber = Subscriber::new(&broker, "%p", &arguments);
        subscriber.process().signal("KILL");
        let received = watcher.receive();
        assert_eq!((topic(&received), mqtt5::text(&received).as_str()), (will, "killed"));
    }
}

/// A process that hangs keeps its connection; the keep-alive ends it.
fn a_stopped_process_leaves_its_will(broker: Broker) {
    let mut watcher = watcher(&broker);
    let will = ["--will-topic", "will/stopped", "--will-payload", "stopped"];
    let mut subscriber = Subscriber::new(&broker, "%p", &[&["-t", "any", "-k", "5"], &will[..]].concat());
    subscriber.process().signal("STOP");
    assert_eq!(watcher.receive_text(), "stopped");
}

fn a_cut_connection_leaves_the_will(broker: Broker) {
    let mut watcher = watcher(&broker);
    for (id, qos) in [("q0", QoS::AtMostOnce), ("q1", QoS::AtLeastOnce), ("q2", QoS::ExactlyOnce)] {
        mqtt3::Client::connect(with_will(&broker, id, qos, false)).cut();
        let received = watcher.receive();
        assert_eq!((topic(&received), received.qos as u8), (format!("will/{id}"), qos as u8));
        assert!(!received.retain);
    }
}

fn a_client_that_disconnects_leaves_none(broker: Broker) {
    let mut watcher = watcher(&broker);
    mqtt3::Client::connect(with_will(&broker, "polite", QoS::AtLeastOnce, false)).disconnect();
    let mut options = mqtt5::options(&broker, "polite-too");
    options.set_last_will(mqtt5::LastWill::new("will/polite-too", "gone", QoS5::AtLeastOnce, false, None));
    mqtt5::Client::connect(options).disconnect();
    watcher.publish("will/marker", 1, "nothing came before");
    assert_eq!(watcher.receive_text(), "nothing came before");
}

fn a_taken_over_connection_leaves_its_will(broker: Broker) {
    let mut watcher = watcher(&broker);
    let mut old = mqtt3::Client::connect(with_will(&broker, "id", QoS::AtLeastOnce, false));
    let _new = mqtt3::Client::new(&broker, "id");
    old.closed();
    assert_eq!(watcher.receive_text(), "gone");
}

fn a_will_may_be_retained(broker: Broker) {
    let mut watcher = watcher(&broker);
    mqtt3::Client::connect(with_will(&broker, "id", QoS::AtLeastOnce, true)).cut();
    assert!(!watcher.receive().retain);
    let mut late = mqtt3::Client::new(&broker, "late");
    late.subscribe("will/#", 1);
    assert!(late.receive().retain);
}

fn a_will_carries_its_properties(broker: Broker) {
    let mut watcher = watcher(&broker);
    let mut options = mqtt5::options(&broker, "id");
    let properties = LastWillProperties {
        delay_interval: Some(0),
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(3600),
        content_type: Some("text/plain".to_owned()),
        response_topic: Some("mourners".to_owned()),
        correlation_data: Some("c0rr".into()),
        user_properties: vec![("name".to_owned(), "value".to_owned())],
    };
    options.set_last_will(mqtt5::LastWill::new("will/id", "gone", QoS5::ExactlyOnce, false, Some(properties)));
    mqtt5::Client::connect(options).cut();
    let received = watcher.receive();
    assert_eq!(received.qos, QoS5::ExactlyOnce);
    let properties = received.properties.expect("the will has properties");
    assert_eq!(properties.payload_format_indicator, Some(1));
    assert!(properties.message_expiry_interval.is_some_and(|left| (3000..=3600).contains(&left)));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.response_topic.as_deref(), Some("mourners"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"c0rr"[..]));
    assert_eq!(properties.user_properties, [("name".to_owned(), "value".to_owned())]);
}

fn a_delayed_will_comes_later(broker: Broker) {
    let mut watcher = watcher(&broker);
    let start = std::time::Instant::now();
    mqtt5::Client::connect(with_delayed_will(&broker, "id", 3600, 2)).cut();
    assert_eq!(watcher.receive_text(), "gone");
    assert!(start.elapsed() >= Duration::from_secs(1), "after {:?}", start.elapsed());
}

fn a_delayed_will_is_forgotten_when_the_client_is_back(broker: Broker) {
    let mut watcher = watcher(&broker);
    mqtt5::Client::connect(with_delayed_will(&broker, "id", 3600, 600)).cut();
    // The new connection has no will; that of the old one must not come, not even when the session ends.
    let back = mqtt5::Client::connect(mqtt5::kept(&broker, "id", 3600));
    assert!(back.connack.session_present);
    back.disconnect();
    mqtt5::Client::new(&broker, "id").disconnect();
    watcher.publish("will/marker", 1, "nothing came before");
    assert_eq!(watcher.receive_text(), "nothing came before");
}

fn the_end_of_the_session_ends_the_delay(broker: Broker) {
    let mut watcher = watcher(&broker);
    // It ends with its connection,
    mqtt5::Client::connect(with_delayed_will(&broker, "at-once", 0, 3600)).cut();
    assert_eq!(topic(&watcher.receive()), "will/at-once");
    // or expires,
    mqtt5::Client::connect(with_delayed_will(&broker, "expired", 1, 3600)).cut();
    assert_eq!(topic(&watcher.receive()), "will/expired");
    // or is discarded.
    mqtt5::Client::connect(with_delayed_will(&broker, "discarded", 3600, 3600)).cut();
    mqtt5::Client::new(&broker, "discarded").disconnect();
    assert_eq!(topic(&watcher.receive()), "will/discarded");
}
