//! Retained messages, and the options of MQTT 5.0 that concern them.

use crate::broker::Broker;
use crate::mqtt3;
use crate::mqtt5::{self, Filter, RetainForwardRule};
use crate::on_every_number_of_shards;
use rumqttc::v5::mqttbytes::QoS;

on_every_number_of_shards![
    who_comes_later_gets_it,
    the_last_one_counts_and_an_empty_one_clears,
    wildcards_find_all_of_them,
    subscribing_again_gets_it_again,
    retain_handling_is_honoured,
    retain_as_published_is_honoured,
];
mod with_small_queues {
    use super::more_than_any_queue_may_hold_comes;
    crate::on_every_number_of_shards![crate::retained::one_mebibyte => more_than_any_queue_may_hold_comes];
}

fn one_mebibyte(shards: usize) -> Broker {
    Broker::with(shards, "[queue]\nmax_queue_bytes = \"1MiB\"\n")
}

fn who_comes_later_gets_it(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let mut early = mqtt3::Client::new(&broker, "early");
    early.subscribe("kept", 2);
    publisher.retain("kept", 1, "hello");
    let received = early.receive();
    assert!(!received.retain, "to an existing subscription it is a message like any other");
    for (id, granted) in [("late-0", 0), ("late-1", 1), ("late-2", 2)] {
        let mut late = mqtt3::Client::new(&broker, id);
        late.subscribe("kept", granted);
        let received = late.receive();
        assert!(received.retain);
        assert_eq!((received.qos as u8, mqtt3::text(&received).as_str()), (granted.min(1), "hello"));
    }
}

fn the_last_one_counts_and_an_empty_one_clears(broker: Broker) {
    let mut client = mqtt3::Client::new(&broker, "client");
    for qos in [0, 1, 2] {
        client.retain("kept", qos, "old");
        client.retain("kept", qos, "new");
        // What follows it is acknowledged: then QoS 0 was taken in, too.
        client.publish("flushed", 1, "");
        let mut late = mqtt3::Client::new(&broker, "late");
        late.subscribe("kept", 2);
        assert_eq!(late.receive_text(), "new");

        client.retain("kept", qos, "");
        client.publish("flushed", 1, "");
        let mut later = mqtt3::Client::new(&broker, "later");
        later.subscribe("kept", 2);
        later.subscribe("marker", 2);
        client.publish("marker", 1, "nothing came before");
        assert_eq!(later.receive_text(), "nothing came before");
    }
}

fn wildcards_find_all_of_them(broker: Broker) {
    // Publishers on all shards.
    let topics: Vec<String> = (0..20).map(|id| format!("tree/{id}/leaf")).collect();
    for (id, topic) in topics.iter().enumerate() {
        mqtt3::Client::new(&broker, &format!("publisher-{id}")).retain(topic, 1, id.to_string());
    }
    for filter in ["tree/#", "tree/+/leaf", "+/+/leaf", "#"] {
        let mut subscriber = mqtt3::Client::new(&broker, "subscriber");
        subscriber.subscribe(filter, 1);
        let mut received: Vec<String> = topics.iter().map(|_| subscriber.receive().topic).collect();
        received.sort();
        let mut all = topics.clone();
        all.sort();
        assert_eq!(received, all, "{filter}");
    }
}

fn subscribing_again_gets_it_again(broker: Broker) {
    let mut client = mqtt3::Client::new(&broker, "client");
    client.retain("kept", 1, "hello");
    for _ in 0..3 {
        client.subscribe("kept", 1);
        assert!(client.receive().retain);
    }
}

fn retain_handling_is_honoured(broker: Broker) {
    let mut client = mqtt5::Client::new(&broker, "client");
    client.retain("kept", "hello");
    let subscribe = |client: &mut mqtt5::Client, rule: RetainForwardRule| {
        let mut filter = Filter::new("kept", QoS::AtLeastOnce);
        filter.retain_forward_rule = rule;
        client.subscribe_with(filter, None);
        // What is retained comes behind SUBACK, and before anything that is published now.
        client.publish("kept", 1, "marker");
        let first = client.receive_text();
        if first != "marker" {
            assert_eq!(client.receive_text(), "marker");
        }
        first
    };
    assert_eq!(subscribe(&mut client, RetainForwardRule::Never), "marker");
    assert_eq!(subscribe(&mut client, RetainForwardRule::OnNewSubscribe), "marker", "the subscription exists");
    assert_eq!(subscribe(&mut client, RetainForwardRule::OnEverySubscribe), "hello");
    client.unsubscribe("kept");
    assert_eq!(subscribe(&mut client, RetainForwardRule::OnNewSubscribe), "hello");
}

fn retain_as_published_is_honoured(broker: Broker) {
    let mut client = mqtt5::Client::new(&broker, "client");
    for preserve in [true, false] {
        let mut filter = Filter::new("live", QoS::AtLeastOnce);
        filter.preserve_retain = preserve;
        filter.retain_forward_rule = RetainForwardRule::Never;
        client.subscribe_with(filter, None);
        client.retain("live", "hello");
        assert_eq!(client.receive().retain, preserve);
    }
}

/// [MQTT-3.3.1-9]: 32 MB, and 1 MiB may wait in a queue.
fn more_than_any_queue_may_hold_comes(broker: Broker) {
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    let topics: Vec<String> = (0..500).map(|number| format!("much/{number:03}")).collect();
    let payload = vec![b'x'; 64 * 1024];
    topics.iter().for_each(|topic| publisher.retain(topic, 1, payload.clone()));
    for qos in [0, 1] {
        let mut reader = mqtt3::Client::new(&broker, &format!("reader-{qos}"));
        reader.subscribe("much/+", qos);
        let mut received: Vec<_> = topics.iter().map(|_| reader.receive()).collect();
        assert!(received.iter().all(|one| one.retain && one.payload.len() == payload.len()));
        received.sort_by(|one, other| one.topic.cmp(&other.topic));
        assert!(received.iter().map(|one| &one.topic).eq(&topics), "QoS {qos}: each once");
    }
}
