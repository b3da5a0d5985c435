//! Shared subscriptions: each message goes to one member, and does not stay with one that is gone.

use std::collections::BTreeSet;

use crate::broker::Broker;
use crate::{mqtt3, mqtt5, on_every_number_of_shards};

on_every_number_of_shards![
    each_message_goes_to_one_member,
    groups_do_not_know_each_other,
    retained_messages_are_not_shared,
    the_others_get_what_a_gone_member_leaves,
    older_clients_can_share,
];

fn each_message_goes_to_one_member(broker: Broker) {
    let mut publisher = mqtt5::Client::new(&broker, "publisher");
    let mut members: Vec<mqtt5::Client> =
        (0..4).map(|id| mqtt5::Client::new(&broker, &format!("member-{id}"))).collect();
    for member in &mut members {
        member.subscribe("$share/group/work/#", 1);
        member.subscribe("end", 1);
    }
    for number in 0..200 {
        publisher.publish("work/item", 1, number.to_string());
    }
    publisher.publish("end", 1, "end");
    let mut all = BTreeSet::new();
    for member in &mut members {
        let received: Vec<usize> = until_end(member);
        assert!(!received.is_empty(), "everybody has a share");
        assert!(received.is_sorted(), "what one publisher sends stays in order: {received:?}");
        assert!(received.iter().all(|number| all.insert(*number)), "nothing comes twice");
    }
    assert_eq!(all.len(), 200);
}

fn groups_do_not_know_each_other(broker: Broker) {
    let mut publisher = mqtt5::Client::new(&broker, "publisher");
    let mut clients: Vec<mqtt5::Client> = ["$share/one/work", "$share/two/work", "work"]
        .into_iter()
        .map(|filter| {
            let mut client = mqtt5::Client::new(&broker, &filter.replace('/', "-"));
            client.subscribe(filter, 1);
            client.subscribe("end", 1);
            client
        })
        .collect();
    for number in 0..20 {
        publisher.publish("work", 1, number.to_string());
    }
    publisher.publish("end", 1, "end");
    for client in &mut clients {
        assert_eq!(until_end(client), (0..20).collect::<Vec<_>>());
    }
}

fn retained_messages_are_not_shared(broker: Broker) {
    let mut client = mqtt5::Client::new(&broker, "client");
    client.retain("work", "retained");
    client.subscribe("$share/group/work", 1);
    client.publish("work", 1, "live");
    assert_eq!(client.receive_text(), "live");
}

fn the_others_get_what_a_gone_member_leaves(broker: Broker) {
    let mut publisher = mqtt5::Client::new(&broker, "publisher");
    // Both keep their sessions, and neither acknowledges anything before the first one goes.
    let connect = |id: &str| {
        let mut options = mqtt5::kept(&broker, id, 3600);
        options.set_manual_acks(true);
        let mut client = mqtt5::Client::connect(options);
        client.subscribe("$share/group/work", 1);
        client
    };
    let (goes, mut stays) = (connect("goes"), connect("stays"));
    for number in 0..60 {
        publisher.publish("work", 1, number.to_string());
    }
    goes.cut();
    let mut received = BTreeSet::new();
    while received.len() < 60 {
        let message = stays.receive();
        received.insert(mqtt5::text(&message).parse::<usize>().unwrap());
        stays.ack(&message);
    }
}

fn older_clients_can_share(broker: Broker) {
    let mut members = ["one", "two"].map(|id| mqtt3::Client::new(&broker, id));
    for member in &mut members {
        assert_eq!(member.subscribe("$share/group/work", 1), Some(1));
    }
    let mut publisher = mqtt3::Client::new(&broker, "publisher");
    for number in 0..50 {
        publisher.publish("work", 1, number.to_string());
    }
    // Members that leave the group by and by: the rest takes everything.
    let [one, mut two] = members;
    one.disconnect();
    publisher.publish("work", 1, "last");
    while two.receive_text() != "last" {}
}

/// 5,000 messages at once for five members of which one acknowledges nothing: the others get them, but for the few that it was sent.
#[test]
fn a_slow_member_costs_nobody_a_message() {
    const COUNT: usize = 5000;
    // As many as there is room for; then many more than the queues take together, and a publisher that waits as long as it takes.
    let small = "max_online_messages = 10\npublisher_patience = \"1h\"";
    for (shards, queue) in [(1, ""), (2, ""), (4, ""), (1, small), (2, small), (4, small)] {
        let broker = Broker::with(shards, &format!("[limits]\nmax_inflight_messages = 10\n[queue]\n{queue}\n"));
        let mut options = mqtt3::kept(&broker, "slow");
        options.set_manual_acks(true);
        let mut slow = mqtt3::Client::connect(options);
        slow.subscribe("$share/group/work", 1);
        let (got, all) = std::sync::mpsc::channel();
        let mut running = Vec::new();
        for number in 0..4 {
            let mut member = mqtt3::Client::connect(mqtt3::kept(&broker, &format!("member-{number}")));
            member.subscribe("$share/group/work", 1);
            member.subscribe("end", 1);
            let got = got.clone();
            running.push(std::thread::spawn(move || {
                loop {
                    let text = member.receive_text();
                    if text == "end" || got.send(text).is_err() {
                        return;
                    }
                }
            }));
        }
        let mut publisher = mqtt3::Client::new(&broker, "publisher");
        for number in 0..COUNT {
            publisher.send("work", 1, false, number.to_string());
        }
        publisher.settle(1, COUNT);
        let mut received = BTreeSet::new();
        let mut receive = |count| {
            while received.len() < count {
                let text: String = all.recv_timeout(crate::DEADLINE).expect("all of them come");
                received.insert(text.parse::<usize>().unwrap());
            }
        };
        receive(COUNT - 10);
        // What it was sent, and has not acknowledged, goes to the others when it leaves.
        slow.cut();
        receive(COUNT);
        publisher.publish("end", 1, "end");
        running.into_iter().for_each(|member| member.join().expect("it gets the end"));
    }
}

/// Several publishers with 5,000 messages outstanding, members with small windows of which one takes its time, and one that breaks its
/// connection and comes back again and again: each message reaches a member, at any QoS.
#[test]
fn members_with_small_queues_that_come_and_go_cost_nobody_a_message() {
    const COUNT: usize = 5000;
    const PUBLISHERS: usize = 4;
    for (shards, qos, window, most) in [(2, 1, 10, 10), (2, 2, 10, 100), (4, 1, 1, 100), (4, 2, 10, 10)] {
        let queue =
            format!("max_online_messages = {most}\nmax_offline_messages = \"unlimited\"\npublisher_patience = \"1h\"");
        let broker = Broker::with(shards, &format!("[queue]\n{queue}\n"));
        let options = |id: &str| {
            let mut options = mqtt5::kept(&broker, id, 3600);
            options.set_receive_maximum(Some(window));
            options
        };
        let (got, all) = std::sync::mpsc::channel();
        let run = |options, pause: Option<std::time::Duration>| {
            let mut member = mqtt5::Client::connect(options);
            member.subscribe("$share/group/work", qos);
            member.subscribe("end", 1);
            let got = got.clone();
            std::thread::spawn(move || {
                loop {
                    let text = member.receive_text();
                    pause.into_iter().for_each(std::thread::sleep);
                    if text == "end" || got.send(text).is_err() {
                        return;
                    }
                }
            })
        };
        let pauses = [None, None, None, Some(std::time::Duration::from_micros(500))];
        let running: Vec<_> = pauses
            .into_iter()
            .enumerate()
            .map(|(number, pause)| run(options(&format!("member-{number}")), pause))
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let mut client = mqtt3::Client::new(&broker, &format!("publisher-{publisher}"));
                std::thread::spawn(move || {
                    let own: Vec<_> = (0..COUNT).filter(|number| number % PUBLISHERS == publisher).collect();
                    own.iter().for_each(|number| client.send("work", qos, false, number.to_string()));
                    client.settle(qos, own.len());
                })
            })
            .collect();
        let mut received = BTreeSet::new();
        while received.len() < COUNT {
            // What it has received and nobody has seen when it breaks its connection counts, too.
            let mut restless = mqtt5::Client::connect(options("restless"));
            // At QoS 1: of what it was sent at QoS 2 it would have to remember the packet ids.
            restless.subscribe("$share/group/work", 1);
            for _ in 0..20 {
                while let Ok(text) = all.try_recv() {
                    received.insert(text.parse::<usize>().unwrap());
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            received.extend(restless.cut_with_rest().iter().map(|text| text.parse::<usize>().unwrap()));
        }
        publishers.into_iter().for_each(|publisher| publisher.join().expect("all are acknowledged"));
        mqtt3::Client::new(&broker, "last").publish("end", 1, "end");
        running.into_iter().for_each(|member| member.join().expect("it gets the end"));
    }
}

fn until_end(client: &mut mqtt5::Client) -> Vec<usize> {
    let received = std::iter::repeat_with(|| client.receive_text());
    received.take_while(|text| text != "end").map(|text| text.parse().unwrap()).collect()
}
