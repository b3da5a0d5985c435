//! Messages from publishers to subscribers: QoS, wildcards, order, and subscriptions that hold once they are granted.

use crate::broker::Broker;
use crate::mqtt3::{Client, text};
use crate::on_every_number_of_shards;

on_every_number_of_shards![
    the_lower_qos_wins,
    wildcards_match_levels,
    unsubscribed_means_no_more,
    overlapping_subscriptions_deliver_once,
    publishers_stay_in_order,
    a_granted_subscription_misses_nothing,
    a_client_id_may_be_anything_readable,
];

fn the_lower_qos_wins(broker: Broker) {
    let mut publisher = Client::new(&broker, "publisher");
    for granted in [0, 1, 2] {
        let mut subscriber = Client::new(&broker, &format!("subscriber-{granted}"));
        assert_eq!(subscriber.subscribe("some/topic", granted), Some(granted));
        for published in [0, 1, 2] {
            publisher.publish("some/topic", published, "hello");
            let received = subscriber.receive();
            assert_eq!(received.qos as u8, published.min(granted));
            assert_eq!((received.topic.as_str(), &received.payload[..]), ("some/topic", &b"hello"[..]));
            assert!(!received.retain && !received.dup);
        }
    }
}

fn wildcards_match_levels(broker: Broker) {
    let mut publisher = Client::new(&broker, "publisher");
    let topics = ["a", "a/", "/a", "a/b", "a/b/c", "a//c", "b/b", "b/b/c"];
    for (filter, matching) in [
        ("#", &topics[..]),
        ("+", &["a"]),
        ("+/+", &["a/", "/a", "a/b", "b/b"]),
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a//c"]),
        ("a/+/c", &["a/b/c", "a//c"]),
        ("+/b/#", &["a/b", "a/b/c", "b/b", "b/b/c"]),
        ("/+", &["/a"]),
        ("a/b", &["a/b"]),
    ] {
        let mut subscriber = Client::new(&broker, "subscriber");
        subscriber.subscribe(filter, 1);
        subscriber.subscribe("end/of/it", 1);
        for topic in topics {
            publisher.publish(topic, 1, "");
        }
        publisher.publish("end/of/it", 1, "");
        let mut received = Vec::new();
        loop {
            match subscriber.receive().topic {
                end if end == "end/of/it" => break,
                topic => received.push(topic),
            }
        }
        assert_eq!(received, matching, "{filter}");
    }
}

#[test]
fn wildcards_do_not_match_what_the_broker_says_about_itself() {
    let broker = Broker::with(2, "[sys]\ninterval = \"1s\"\n");
    let mut about = Client::new(&broker, "about");
    about.subscribe("$SYS/#", 0);
    assert!(about.receive().topic.starts_with("$SYS/"));
    // What is said is retained: a subscription that matches it gets it before anything else.
    let mut everything = Client::new(&broker, "everything");
    everything.subscribe("#", 0);
    everything.subscribe("+/broker/#", 0);
    everything.publish("not/sys", 1, "");
    assert_eq!(everything.receive().topic, "not/sys");
}

fn unsubscribed_means_no_more(broker: Broker) {
    let mut publisher = Client::new(&broker, "publisher");
    let mut subscriber = Client::new(&broker, "subscriber");
    subscriber.subscribe("first", 1);
    subscriber.subscribe("second", 1);
    publisher.publish("first", 1, "1");
    assert_eq!(subscriber.receive_text(), "1");
    subscriber.unsubscribe("first");
    publisher.publish("first", 1, "2");
    publisher.publish("second", 1, "3");
    assert_eq!(subscriber.receive_text(), "3");
}

fn overlapping_subscriptions_deliver_once(broker: Broker) {
    let mut client = Client::new(&broker, "client");
    client.subscribe("over/#", 0);
    client.subscribe("over/+", 2);
    client.subscribe("over/lap", 1);
    client.publish("over/lap", 2, "1");
    client.publish("over/lap", 2, "2");
    let received = client.receive();
    assert_eq!((text(&received).as_str(), received.qos as u8), ("1", 2));
    assert_eq!(client.receive_text(), "2");
}

fn publishers_stay_in_order(broker: Broker) {
    /// All together fewer than may wait for one subscriber.
    const MESSAGES: usize = 80;
    const PUBLISHERS: usize = 4;
    let mut subscribers: Vec<Client> = (0..3).map(|id| Client::new(&broker, &format!("subscriber-{id}"))).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("order/+/+", 2);
    }
    let mut publishers: Vec<Client> =
        (0..PUBLISHERS).map(|id| Client::new(&broker, &format!("publisher-{id}"))).collect();
    for number in 0..MESSAGES {
        for (id, publisher) in publishers.iter().enumerate() {
            for qos in [0, 1, 2] {
                publisher.send(&format!("order/{id}/{qos}"), qos, false, number.to_string());
            }
        }
    }
    for publisher in &mut publishers {
        publisher.settle(1, MESSAGES);
        publisher.settle(2, MESSAGES);
    }
    for subscriber in &mut subscribers {
        let mut next = [[0; 3]; PUBLISHERS];
        for _ in 0..MESSAGES * PUBLISHERS * 3 {
            let message = subscriber.receive();
            let mut levels = message.topic.split('/').skip(1).map(|level| level.parse::<usize>().unwrap());
            let next = &mut next[levels.next().unwrap()][levels.next().unwrap()];
            assert_eq!(text(&message), next.to_string(), "{}", message.topic);
            *next += 1;
        }
    }
}

/// Whichever shard the publisher is on: after SUBACK no message is missed, not even at QoS 0.
fn a_granted_subscription_misses_nothing(broker: Broker) {
    let publishers: Vec<Client> = (0..6).map(|id| Client::new(&broker, &format!("publisher-{id}"))).collect();
    for round in 0..40 {
        let mut subscriber = Client::new(&broker, &format!("subscriber-{round}"));
        let filter = if round % 2 == 0 { format!("round/{round}") } else { format!("round/{round}/#") };
        subscriber.subscribe(&filter, 0);
        for (id, publisher) in publishers.iter().enumerate() {
            publisher.send(&format!("round/{round}"), 0, false, id.to_string());
        }
        let mut received: Vec<String> = publishers.iter().map(|_| subscriber.receive_text()).collect();
        received.sort();
        assert_eq!(received, ["0", "1", "2", "3", "4", "5"]);
    }
}

fn a_client_id_may_be_anything_readable(broker: Broker) {
    let long = "x".repeat(100);
    for id in ["", "a b", "ünï/cödé$", "{}[]'\"\\", &long] {
        let mut client = Client::new(&broker, id);
        client.subscribe("echo", 1);
        client.publish("echo", 1, "here");
        assert_eq!(client.receive_text(), "here");
    }
}
