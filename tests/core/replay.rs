//! What is retained is sent as fast as a new subscriber takes it, however much it is: lifecycle.md section 7.

use std::collections::BTreeSet;
use std::time::Duration;

use moormq::codec::{
    AckKind, Packet, Publish, QoS, RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;
use moormq::random::Random;
use moormq::shard::{Input, Request, TurnLimits};
use moormq::topic::TopicFilter;

use crate::client::{Client, ConnectOptions, V5, V311, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::{Got, ReceivedPublish};
use crate::world::{World, config, open_config, worlds, worlds_with};

/// Turns of a few pages.
const SHORT: TurnLimits = TurnLimits { share: 1024, turn: 2048, at_once: 512, portion: 512, under_way: 4096 };

/// Brokers with 1, 2 and 4 shards that have short turns.
fn worlds_in_short_turns() -> impl Iterator<Item = World<NoHooks>> {
    [1, 2, 4].into_iter().map(|shards| World::in_turns(shards, SHORT, open_config(), || NoHooks))
}

/// Retains so many messages of this payload, in turn from all shards. The topics, in order.
fn retain(world: &mut World<NoHooks>, topics: usize, payload: &str, qos: QoS) -> Vec<String> {
    let shards = world.shards.len();
    let publishers: Vec<_> =
        (0..shards).map(|shard| Client::on(world, shard, &format!("p{shard}-"), ConnectOptions::clean(V5))).collect();
    let topics: Vec<_> = (0..topics).map(|number| format!("kept/{:02}/{number:06}", number % 100)).collect();
    for (number, topic) in topics.iter().enumerate() {
        let packet = Publish { retain: true, ..publish(topic, payload, qos, 1) };
        publishers[number % shards].send_quietly(world, &Packet::Publish(packet));
        world.settle();
        let publisher = &publishers[number % shards];
        world.received(publisher.socket);
        if qos == QoS::ExactlyOnce {
            publisher.ack(world, AckKind::Pubrel, 1);
            world.received(publisher.socket);
        }
    }
    let mut topics = topics;
    topics.sort();
    topics
}

/// Acknowledges a message at QoS 1.
fn ack(world: &mut World<NoHooks>, client: &Client, received: &ReceivedPublish) {
    if let (QoS::AtLeastOnce, Some(id)) = (received.qos, received.id) {
        client.ack(world, AckKind::Puback, id);
    }
}

/// Reads and acknowledges until nothing comes any more.
fn all(world: &mut World<NoHooks>, client: &mut Client) -> Vec<ReceivedPublish> {
    let mut all = Vec::new();
    loop {
        let received = client.publishes(world);
        if received.is_empty() {
            return all;
        }
        received.iter().for_each(|one| ack(world, client, one));
        all.extend(received);
    }
}

fn topics(received: &[ReceivedPublish]) -> Vec<String> {
    assert!(received.iter().all(|one| one.retain), "[MQTT-3.3.1-8]");
    let mut topics: Vec<_> = received.iter().map(|one| one.topic.clone()).collect();
    topics.sort();
    topics
}

fn is_quiet(world: &World<NoHooks>) -> bool {
    world.shards.iter().map(|shard| shard.resource_counts()).all(|counts| counts.replays + counts.subscribing == 0)
}

/// [MQTT-3.3.1-9]: more than any queue may hold.
#[test]
fn more_than_any_queue_may_hold_all_comes() {
    for mut world in worlds_with(|| config(|config| config.queue.max_queue_bytes = Limit::at_most(1 << 20))) {
        let kept = retain(&mut world, 500, &"x".repeat(64 * 1024), QoS::AtLeastOnce);
        let last = world.shards.len() - 1;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut client = Client::on(&mut world, last, "client", ConnectOptions::clean(V311));
            client.subscribe(&mut world, "kept/#", qos);
            let received = all(&mut world, &mut client);
            assert!(received.iter().all(|one| one.payload.len() == 64 * 1024 && one.qos == qos));
            assert_eq!(topics(&received), kept, "{qos:?}");
            client.disconnect(&mut world);
        }
        assert!(is_quiet(&world));
        assert!(world.shards.iter().all(|shard| shard.counters().dropped.iter().sum::<u64>() == 0));
    }
}

#[test]
fn small_messages_all_come_though_no_queue_could_hold_them() {
    let tight = |config: &mut Config| {
        config.queue.max_online_messages = Limit::at_most(0);
        config.queue.max_queue_bytes = Limit::at_most(1024);
        config.queue.max_waiting_output_bytes = 4096;
        config.limits.max_inflight_messages = 7;
    };
    for mut world in worlds_with(|| config(tight)) {
        let kept = retain(&mut world, 3000, "small", QoS::AtLeastOnce);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
            client.subscribe(&mut world, "#", qos);
            assert_eq!(topics(&all(&mut world, &mut client)), kept, "{qos:?}");
            client.disconnect(&mut world);
        }
    }
}

/// What a shard has sent in messages, by input.
fn sent_by(world: &mut World<NoHooks>, act: impl FnOnce(&mut World<NoHooks>)) -> u64 {
    let sent = |world: &World<NoHooks>| world.shards[0].counters().messages_out;
    let before = sent(world);
    act(world);
    sent(world) - before
}

/// A client that asks for everything again and again gets everything, but others have their turn in between.
#[test]
fn no_input_sends_more_than_fits_into_a_turn_and_a_page() {
    const MOST: u64 = SHORT.turn as u64 + 256;
    let mut world = World::in_turns(1, SHORT, open_config(), || NoHooks);
    let kept = retain(&mut world, 10_000, "x", QoS::AtMostOnce);
    let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
    let filters = [SubscribeFilter { filter: "#", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    let mut bytes = Vec::new();
    (0..2000).for_each(|_| Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])).encode(V311, &mut bytes));
    let sent = sent_by(&mut world, |world| world.send_quietly(client.socket, &bytes));
    assert!(sent <= MOST, "{sent}");
    loop {
        // The outputs of a turn come with one input each: that they have left.
        world.carry_out_outputs();
        if !world.shards[0].is_behind() {
            break;
        }
        let sent = sent_by(&mut world, |world| world.handle(0, Input::Tick));
        assert!(sent <= MOST, "{sent}");
    }
    let received = client.received(&mut world);
    assert_eq!(received.iter().filter(|got| matches!(got, Got::Suback(..))).count(), 2000);
    let received: BTreeSet<_> = received
        .into_iter()
        .filter_map(|got| if let Got::Publish(received) = got { Some(received.topic) } else { None })
        .collect();
    assert_eq!(received.into_iter().collect::<Vec<_>>(), kept);
    assert!(is_quiet(&world));
}

/// A filter that matches next to nothing does not hold up the others either.
#[test]
fn a_walk_through_many_topics_takes_several_turns() {
    for mut world in worlds_in_short_turns() {
        retain(&mut world, 10_000, "x", QoS::AtMostOnce);
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
        let filters = [SubscribeFilter { filter: "+/+/+/#", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        let never = [SubscribeFilter { filter: "+/+/+/x", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        client.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &never[..])));
        let mut turns = 0;
        while !is_quiet(&world) {
            world.carry_out_outputs();
            turns += usize::from(world.catch_up());
            world.carry_messages();
        }
        assert!(turns >= 10_000 / 2 / SHORT.turn as usize, "{turns}");
        client.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        assert_eq!(client.publishes(&mut world).len(), 10_000);
    }
}

/// A client that does not read is sent what its output may hold, and no more is fetched for it than a page.
#[test]
fn a_client_that_does_not_read_has_a_page_waiting_and_no_queue() {
    for mut world in worlds() {
        let kept = retain(&mut world, 1000, &"x".repeat(2000), QoS::AtMostOnce);
        let before: u64 = world.shards.iter().map(|shard| shard.counters().messages_out).sum();
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
        world.stick(client.socket, true);
        client.subscribe(&mut world, "#", QoS::AtMostOnce);
        world.settle();
        let after: u64 = world.shards.iter().map(|shard| shard.counters().messages_out).sum();
        let most = 1024 * 1024 / 2000 + 256;
        assert!((after - before) as usize <= most, "{} of {most}", after - before);
        world.stick(client.socket, false);
        assert_eq!(topics(&all(&mut world, &mut client)), kept);
    }
}

/// Neither waits for more of the other than is there: what is queued goes before the next page, and a page, at first one of each owner,
/// before what is queued then.
#[test]
fn live_messages_and_retained_ones_take_turns() {
    let narrow = |config: &mut Config| {
        config.limits.max_inflight_messages = 1;
        config.retained.page_messages = 5;
    };
    for mut world in worlds_with(|| config(narrow)) {
        retain(&mut world, 20, "x", QoS::AtLeastOnce);
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
        client.subscribe(&mut world, "#", QoS::AtLeastOnce);
        for number in 0..10 {
            publisher.publish(&mut world, "live", "y", QoS::AtLeastOnce, number + 1);
        }
        let received = all(&mut world, &mut client);
        let first_live = received.iter().position(|one| !one.retain).expect("they come");
        assert!(first_live <= 5 * world.shards.len(), "a page of it came before, not all: {first_live}");
        let rest = &received[first_live..];
        assert!(rest[..10].iter().all(|one| !one.retain) && rest[10..].iter().all(|one| one.retain));
        assert_eq!(received.len(), 30);
    }
}

/// Whoever subscribes sees what was retained before what is published when SUBACK has come, of each topic, though it takes one message
/// at a time.
#[test]
fn what_is_retained_comes_before_what_is_published_after_suback() {
    let narrow = |config: &mut Config| config.limits.max_inflight_messages = 1;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for mut world in worlds_with(|| config(narrow)) {
            let kept = retain(&mut world, 40, "x", QoS::AtLeastOnce);
            let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
            let filters = [SubscribeFilter { filter: "#", options: SubscriptionOptions::new(QoS::AtLeastOnce) }];
            client.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
            let mut random = Random::from_seed(1);
            let mut received = Vec::new();
            while received.is_empty() {
                world.carry_out_outputs();
                received = client.received(&mut world);
                world.carry_any_message(&mut random);
                world.catch_up();
            }
            assert!(matches!(received[0], Got::Suback(..)), "{received:?}");
            for topic in &kept {
                publisher.send_quietly(&mut world, &Packet::Publish(publish(topic, "y", qos, 1)));
                world.settle();
                world.received(publisher.socket);
            }
            let first =
                received.into_iter().filter_map(|got| if let Got::Publish(one) = got { Some(one) } else { None });
            let mut received: Vec<_> = first.collect();
            received.iter().for_each(|one| ack(&mut world, &client, one));
            received.extend(all(&mut world, &mut client));
            for topic in &kept {
                let of_topic: Vec<_> =
                    received.iter().filter(|one| one.topic == *topic).map(|one| one.text()).collect();
                assert_eq!(of_topic, ["x", "y"], "{topic} {qos:?}");
            }
        }
    }
}

/// What comes behind SUBSCRIBE is served when the first page of what is retained has been sent.
#[test]
fn a_subscription_that_is_ended_in_the_same_read_gets_the_first_page() {
    for mut world in worlds() {
        let kept = retain(&mut world, 40, "x", QoS::AtMostOnce);
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
        let filters = [SubscribeFilter { filter: "#", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        let mut bytes = Vec::new();
        Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])).encode(V5, &mut bytes);
        Packet::Unsubscribe(Unsubscribe::new(packet_id(2), &["#"][..])).encode(V5, &mut bytes);
        world.send_quietly(client.socket, &bytes);
        world.settle();
        let received = client.received(&mut world);
        let [Got::Suback(..), retained @ .., Got::Unsuback(..)] = &received[..] else { panic!("{received:?}") };
        assert_eq!(retained.len(), kept.len());
        assert!(is_quiet(&world));
    }
}

#[test]
fn who_leaves_gets_the_rest_when_it_is_back() {
    for mut world in worlds() {
        let kept = retain(&mut world, 1000, "x", QoS::AtLeastOnce);
        let last = world.shards.len() - 1;
        let id = id_owned_by(&world, last, "client");
        let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        client.subscribe(&mut world, "#", QoS::AtLeastOnce);
        let mut received = client.publishes(&mut world);
        received.iter().for_each(|one| ack(&mut world, &client, one));
        assert!(received.len() < 500);
        world.hang_up(client.socket);
        let replays: usize = world.shards.iter().map(|shard| shard.resource_counts().replays).sum();
        assert_eq!(replays, 1);
        // What is cleared meanwhile does not come any more, and what is new comes live.
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V5));
        publisher.publish_with(&mut world, Publish { retain: true, ..publish(&kept[999], "", QoS::AtLeastOnce, 1) });
        let (mut client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(present);
        received.extend(all(&mut world, &mut client));
        let (retained, live): (Vec<_>, Vec<_>) = received.into_iter().partition(|one| one.retain);
        let found: BTreeSet<_> = topics(&retained).into_iter().collect();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            kept[..999],
            "some of them twice perhaps: they were in flight"
        );
        assert_eq!(live.iter().map(|one| one.topic.as_str()).collect::<Vec<_>>(), [kept[999].as_str()]);
        assert!(is_quiet(&world));
    }
}

#[test]
fn a_session_that_moves_takes_with_it_what_it_has_not_been_sent() {
    for shards in [2, 4] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut world = World::new(shards, open_config(), || NoHooks);
            let kept = retain(&mut world, 3000, &"x".repeat(1000), QoS::AtLeastOnce);
            let id = id_owned_by(&world, 0, "client");
            let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            world.stick(client.socket, true);
            client.subscribe(&mut world, "#", qos);
            move_slot(&mut world, &id, shards - 1);
            for _ in 0..20 {
                world.carry_out_outputs();
                world.carry_messages();
            }
            world.stick(client.socket, false);
            let received = all(&mut world, &mut client);
            assert_eq!(world.shard_of(client.socket), Some(shards - 1));
            let found: BTreeSet<_> = topics(&received).into_iter().collect();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), kept, "{qos:?}");
            assert_eq!(received.len(), 3000, "each once");
            assert!(is_quiet(&world));
        }
    }
}

#[test]
fn what_is_unsubscribed_comes_no_more() {
    for mut world in worlds() {
        retain(&mut world, 2000, "x", QoS::AtLeastOnce);
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
        client.subscribe(&mut world, "kept/+/+", QoS::AtLeastOnce);
        let before = client.publishes(&mut world);
        assert_eq!(before.len(), 100, "the window is full");
        client.send(&mut world, &Packet::Unsubscribe(Unsubscribe::new(packet_id(2), &["kept/+/+"][..])));
        assert!(is_quiet(&world));
        before.iter().for_each(|one| ack(&mut world, &client, one));
        assert_eq!(client.publishes(&mut world), []);
    }
}

/// Section 3.8.3.1: who asks for it again gets all of it again. Who does not gets the rest, as the new subscription has it [MQTT-3.8.4-4].
#[test]
fn a_subscription_that_is_made_again_begins_anew_or_goes_on() {
    for mut world in worlds() {
        let kept = retain(&mut world, 1000, "x", QoS::AtLeastOnce);
        for (retain_handling, expected) in [
            (RetainHandling::SendAtSubscribe, 100 + 1000),
            (RetainHandling::SendIfNew, 1000),
            (RetainHandling::DoNotSend, 1000),
        ] {
            let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V5));
            client.subscribe_with(&mut world, "#", SubscriptionOptions::new(QoS::AtLeastOnce), Some(1));
            let mut received = client.publishes(&mut world);
            let options = SubscriptionOptions { retain_handling, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
            client.subscribe_with(&mut world, "#", options, Some(2));
            received.iter().for_each(|one| ack(&mut world, &client, one));
            received.extend(all(&mut world, &mut client));
            assert_eq!(received.len(), expected, "{retain_handling:?}");
            assert!(received[100..].iter().all(|one| one.ids() == [2]), "{retain_handling:?}");
            assert_eq!(topics(&received[expected - 1000..]), kept);
            client.disconnect(&mut world);
            assert!(is_quiet(&world));
        }
    }
}

#[test]
fn the_program_gets_all_of_it_too() {
    for mut world in worlds_in_short_turns() {
        let kept = retain(&mut world, 3000, "x", QoS::AtMostOnce);
        let filter = TopicFilter::parse("kept/#", 8).expect("a valid filter");
        let subscribe =
            |subscription| Request::Subscribe { subscription, mountpoint: "".into(), filter: filter.clone() };
        world.request(0, subscribe(7));
        assert_eq!(world.subscribed, [7]);
        let mut found: Vec<_> =
            world.delivered.drain(..).map(|(_, message)| message.topic().as_str().to_owned()).collect();
        found.sort();
        assert_eq!(found, kept);
        world.handle(0, Input::Request(subscribe(8)));
        world.request(0, Request::Unsubscribe { subscription: 8 });
        assert!(world.delivered.len() < 3000 && is_quiet(&world));
    }
}

/// What gives way in a full queue came later than the page, and does not count as what it waits for.
#[test]
fn a_page_waits_for_what_was_queued_before_it_whatever_gives_way_in_the_queue() {
    let narrow = |config: &mut Config| {
        config.limits.max_inflight_messages = 1;
        config.queue.max_online_messages = Limit::at_most(3);
        config.queue.publisher_patience = Duration::from_millis(1);
    };
    for mut world in worlds_with(|| config(narrow)) {
        let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
        let mut client = Client::on(&mut world, 0, "client", ConnectOptions::clean(V311));
        client.subscribed(&mut world, "#", QoS::AtLeastOnce);
        // The first is in flight, three wait, and the newest is only retained.
        for (number, text) in ["1", "2", "3", "4"].into_iter().enumerate() {
            publisher.publish(&mut world, "t", text, QoS::AtLeastOnce, number as u16 + 1);
        }
        world.advance(Duration::from_millis(10));
        let newest = Publish { retain: true, ..publish("t", "5", QoS::AtLeastOnce, 5) };
        publisher.publish_with(&mut world, newest);
        let mut received = client.publishes(&mut world);
        assert_eq!(received.len(), 1);
        client.subscribe(&mut world, "t", QoS::AtLeastOnce);
        ack(&mut world, &client, &received[0]);
        // There is room for one of QoS 0, which gives way to the next.
        for text in ["6", "7"] {
            let qos = if text == "6" { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            publisher.publish(&mut world, "u", text, qos, 6);
        }
        received.extend(all(&mut world, &mut client));
        let texts: Vec<_> = received.iter().map(ReceivedPublish::text).collect();
        assert_eq!(texts, ["1", "2", "3", "4", "5", "7"]);
    }
}

/// What is published to many is delivered in portions. A page that comes meanwhile goes behind all of it, as if it had been delivered at once.
#[test]
fn a_page_waits_for_what_is_delivered_in_portions() {
    for shards in [1, 2, 4] {
        let turns = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 };
        let mut world = World::in_turns(shards, turns, open_config(), || NoHooks);
        let mut crowd = Vec::new();
        for number in 0..10 {
            let mut one = Client::on(&mut world, 0, &format!("{number}of"), ConnectOptions::clean(V311));
            one.subscribed(&mut world, "#", QoS::AtMostOnce);
            crowd.push(one);
        }
        let publisher = Client::on(&mut world, shards - 1, "publisher", ConnectOptions::clean(V311));
        let packet = Publish { retain: true, ..publish("t", "x", QoS::AtMostOnce, 0) };
        publisher.send_quietly(&mut world, &Packet::Publish(packet));
        let mut last = crowd.pop().expect("ten");
        let filters = [SubscribeFilter { filter: "t", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
        last.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(9), &filters[..])));
        world.settle();
        let retained: Vec<_> = last.publishes(&mut world).iter().map(|one| one.retain).collect();
        assert_eq!(retained, [false, true], "{shards} shards");
    }
}
