//! What is there when the broker starts again after it has died.

use std::time::Duration;

use moormq::codec::{
    AckKind::*, Packet, Publish, PublishProperties, QoS, ReasonCode, RetainHandling, SubscriptionOptions, Will,
};
use moormq::hooks::{Chain, NoHooks};

use super::{kept, killed, last, passing, seen, worlds};
use crate::client::{Client, ConnectOptions, V5, V311, acked, id_owned_by, publish};
use crate::received::Got;
use crate::script::Script;
use crate::stores::{Last, stored_world};
use crate::world::{World, open_config};

/// The broker dies, and is down so long.
fn down(world: World<NoHooks>, seconds: u64) -> World<NoHooks> {
    let shards = world.shards.len();
    world.restarted((Last::Lost, Duration::from_secs(seconds)), shards, open_config(), || NoHooks)
}

/// The client connects again; its session is there.
fn again(world: &mut World<NoHooks>, id: &str) -> Client {
    let (client, present) = Client::connect(world, 0, id, ConnectOptions::kept(V5));
    assert!(present, "{id} has its session");
    client
}

#[test]
fn sessions_are_present_with_their_subscriptions() {
    for mut world in worlds() {
        let shard = last(&world);
        for number in [shard, 0] {
            let id = id_owned_by(&world, number, "c");
            let mut client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
            let options = SubscriptionOptions {
                no_local: true,
                retain_as_published: true,
                retain_handling: RetainHandling::DoNotSend,
                ..SubscriptionOptions::new(QoS::AtLeastOnce)
            };
            client.subscribe_with(&mut world, "a/+", options, Some(7));
            client.subscribe_with(&mut world, "a/#", SubscriptionOptions::new(QoS::ExactlyOnce), Some(268_435_455));
            client.received(&mut world);
            client.subscribed(&mut world, "b", QoS::ExactlyOnce);
            client.subscribed(&mut world, "b", QoS::AtLeastOnce);
            world = killed(world);
            let mut client = again(&mut world, &id);
            let other = passing(&mut world);
            let all = Publish { retain: true, ..publish("a/x", "1", QoS::ExactlyOnce, 1) };
            other.publish_with(&mut world, all);
            other.publish(&mut world, "b", "2", QoS::ExactlyOnce, 2);
            client.publish(&mut world, "a/x", "3", QoS::AtLeastOnce, 3);
            let got = client.publishes(&mut world);
            let texts: Vec<_> = got.iter().map(|one| (one.text(), one.qos, one.retain, one.ids())).collect();
            let large = 268_435_455;
            assert_eq!(
                texts,
                [
                    ("1", QoS::ExactlyOnce, true, vec![7, large]),
                    ("2", QoS::AtLeastOnce, false, vec![]),
                    ("3", QoS::AtLeastOnce, false, vec![large]),
                ]
            );
            client.leave(
                &mut world,
                moormq::codec::Disconnect {
                    session_expiry: Some(0),
                    ..moormq::codec::Disconnect::new(ReasonCode::Success)
                },
            );
            other.publish_with(&mut world, Publish { retain: true, ..publish("a/x", "", QoS::AtMostOnce, 1) });
        }
    }
}

/// Whatever number of shards it had before.
#[test]
fn queues_are_there_in_order_on_another_number_of_shards_too() {
    for (before, after) in [(1, 1), (2, 2), (4, 4), (1, 2), (4, 2), (2, 4), (4, 1)] {
        let mut world = stored_world(before, open_config(), || NoHooks);
        let ids: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
        for id in &ids {
            let mut client = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5)).0;
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(client.socket);
        }
        let publisher = passing(&mut world);
        let texts: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        for (number, text) in texts.iter().enumerate() {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][number % 2];
            publisher.publish(&mut world, "t", text, qos, number as u16 + 1);
        }
        let mut world = world.restarted((Last::Lost, Duration::ZERO), after, open_config(), || NoHooks);
        for id in &ids {
            let mut client = again(&mut world, id);
            let got = client.publishes(&mut world);
            assert!(got.iter().all(|one| !one.dup), "{got:?}");
            assert_eq!(got.iter().map(|one| one.text()).collect::<Vec<_>>(), texts, "{before} and {after} shards");
            for one in got {
                client.ack(&mut world, if one.qos == QoS::ExactlyOnce { Pubrec } else { Puback }, one.id.unwrap());
            }
            client.received(&mut world);
        }
    }
}

/// [MQTT-4.4.0-1]: what is in flight is sent again with its packet id.
#[test]
fn messages_in_flight_are_sent_again_with_their_packet_ids() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let mut client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = passing(&mut world);
        for (number, text) in (1..).zip(["a", "b", "c", "d", "e"]) {
            let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            publisher.publish(&mut world, "t", text, qos, number);
        }
        let got = client.publishes(&mut world);
        let ids: Vec<u16> = got.iter().map(|one| one.id.expect("not QoS 0")).collect();
        assert_eq!(ids.len(), 5);
        // a is acknowledged, b is received, of d the handshake is complete.
        client.ack(&mut world, Puback, ids[0]);
        client.ack(&mut world, Pubrec, ids[1]);
        client.ack(&mut world, Pubrec, ids[3]);
        client.ack(&mut world, Pubcomp, ids[3]);
        for _ in 0..2 {
            world = killed(world);
            let mut client = again(&mut world, &id);
            let got = client.received(&mut world);
            let publishes: Vec<_> = got
                .iter()
                .filter_map(|one| if let Got::Publish(one) = one { Some(one.clone()) } else { None })
                .collect();
            let dup = [("c", QoS::AtLeastOnce, Some(ids[2]), true), ("e", QoS::AtLeastOnce, Some(ids[4]), true)];
            assert_eq!(seen(&publishes), dup);
            let others: Vec<_> = got.into_iter().filter(|one| !matches!(one, Got::Publish(_))).collect();
            assert_eq!(others, [acked(Pubrel, ids[1])]);
        }
        let mut client = again(&mut world, &id);
        client.received(&mut world);
        client.ack(&mut world, Pubcomp, ids[1]);
        client.ack(&mut world, Puback, ids[2]);
        client.ack(&mut world, Puback, ids[4]);
        let mut world = killed(world);
        let mut client = again(&mut world, &id);
        assert_eq!(client.received(&mut world), []);
        // None of these ids is in use any more; a new message has one, and all works on.
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "f", QoS::ExactlyOnce, 1);
        assert_eq!(client.drained(&mut world), ["f"]);
    }
}

/// A window of one: what waits behind it is not DUP when it is sent after the crash, and what was sent is.
#[test]
fn what_was_not_sent_is_no_duplicate() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
        let mut client = Client::connect(&mut world, 0, &id, options).0;
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = passing(&mut world);
        for (number, text) in (1..).zip(["a", "b", "c", "d"]) {
            let qos = if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            publisher.publish(&mut world, "t", text, qos, number);
        }
        let got = client.publishes(&mut world);
        assert_eq!(got.len(), 1);
        client.ack(&mut world, Puback, got[0].id.unwrap());
        let second = client.publishes(&mut world);
        assert_eq!(second.len(), 1);
        let mut world = killed(world);
        let mut client = again(&mut world, &id);
        let got = client.publishes(&mut world);
        let of: Vec<_> = got.iter().map(|one| (one.text(), one.dup)).collect();
        assert_eq!(of, [("b", true), ("c", false), ("d", false)]);
        assert_eq!(got[0].id, second[0].id);
    }
}

/// [MQTT-4.3.3-10]: the same packet id is the same message until PUBREL.
#[test]
fn a_qos_2_publish_that_was_taken_is_not_routed_again() {
    for mut world in worlds() {
        let shard = last(&world);
        let id = id_owned_by(&world, shard, "publisher");
        let mut publisher = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        let mut subscriber = kept(&mut world, 0, "subscriber");
        subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
        publisher.publish(&mut world, "t", "a", QoS::ExactlyOnce, 9);
        publisher.publish(&mut world, "t", "b", QoS::ExactlyOnce, 10);
        publisher.ack(&mut world, Pubrel, 10);
        assert_eq!(publisher.received(&mut world), [acked(Pubrec, 9), acked(Pubrec, 10), acked(Pubcomp, 10)]);
        let mut world = killed(world);
        let mut publisher = again(&mut world, &id);
        let repeated = Publish { dup: true, ..publish("t", "a", QoS::ExactlyOnce, 9) };
        publisher.publish_with(&mut world, repeated);
        publisher.publish(&mut world, "t", "c", QoS::ExactlyOnce, 10);
        publisher.ack(&mut world, Pubrel, 9);
        publisher.publish(&mut world, "t", "d", QoS::ExactlyOnce, 9);
        let expected = [acked(Pubrec, 9), acked(Pubrec, 10), acked(Pubcomp, 9), acked(Pubrec, 9)];
        assert_eq!(publisher.received(&mut world), expected);
        let mut subscriber = kept(&mut world, 0, "subscriber");
        assert_eq!(subscriber.drained(&mut world), ["a", "b", "c", "d"]);
    }
}

#[test]
fn retained_messages_are_there_with_their_properties() {
    for mut world in worlds() {
        let publisher = passing(&mut world);
        for number in 0..10 {
            let properties = PublishProperties { content_type: Some("text"), ..PublishProperties::default() };
            let topic = format!("t/{number}");
            let one = Publish { retain: true, properties, ..publish(&topic, &topic, QoS::AtLeastOnce, 1) };
            publisher.publish_with(&mut world, one);
        }
        let properties = PublishProperties { message_expiry: Some(20), ..PublishProperties::default() };
        let one = Publish { retain: true, properties, ..publish("t/expires", "e", QoS::AtLeastOnce, 1) };
        publisher.publish_with(&mut world, one);
        publisher.retain(&mut world, "t/3", "");
        publisher.retain(&mut world, "t/4", "new");
        for (seconds, count) in [(10, 10), (11, 9)] {
            world = down(world, seconds);
            let mut client = Client::clean(&mut world, "late", V5);
            client.subscribe(&mut world, "t/#", QoS::AtLeastOnce);
            let got = client.publishes(&mut world);
            assert_eq!(got.len(), count, "{got:?}");
            assert!(got.iter().all(|one| one.retain));
            let of = |topic: &str| got.iter().find(|one| one.topic == topic);
            assert!(of("t/3").is_none());
            assert_eq!(of("t/4").expect("it is there").text(), "new");
            assert_eq!(of("t/5").expect("it is there").properties.content_type, Some("text"));
            let left = of("t/expires").map(|one| one.properties.message_expiry);
            assert_eq!(left, (seconds == 10).then_some(Some(10)));
        }
    }
}

#[test]
fn messages_expire_by_the_calendar() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let mut client = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).0;
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        world.hang_up(client.socket);
        let publisher = passing(&mut world);
        for (expiry, text) in [(10, "a"), (100, "b"), (15, "c")] {
            let properties = PublishProperties { message_expiry: Some(expiry), ..PublishProperties::default() };
            let one = Publish { properties, ..publish("t", text, QoS::AtLeastOnce, 1) };
            publisher.publish_with(&mut world, one);
        }
        world.advance(Duration::from_secs(5));
        let mut world = down(world, 11);
        let mut client = again(&mut world, &id);
        let got = client.publishes(&mut world);
        assert_eq!(got.iter().map(|one| one.text()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(got[0].properties.message_expiry, Some(84));
        client.ack(&mut world, Puback, got[0].id.unwrap());
        // Those that expired do not come back.
        let mut world = killed(world);
        let mut client = again(&mut world, &id);
        assert_eq!(client.received(&mut world), []);
    }
}

#[test]
fn sessions_expire_while_the_broker_is_down() {
    for mut world in worlds() {
        let shard = last(&world);
        let expiring = |seconds| ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(seconds));
        let [away, there, long] = ["away", "there", "long"].map(|name| id_owned_by(&world, shard, name));
        let client = Client::connect(&mut world, 0, &away, expiring(20)).0;
        world.hang_up(client.socket);
        Client::connect(&mut world, 0, &there, expiring(20));
        let client = Client::connect(&mut world, 0, &long, ConnectOptions::kept(V311)).0;
        world.hang_up(client.socket);
        world.advance(Duration::from_secs(5));
        // Whose client was connected has the whole time from the start on.
        let mut world = down(world, 14);
        world.advance(Duration::from_secs(2));
        let present = |world: &mut World<NoHooks>, id: &str| Client::connect(world, 0, id, ConnectOptions::kept(V5)).1;
        assert!(!present(&mut world, &away));
        let mut world = killed(world);
        assert!(present(&mut world, &there) && present(&mut world, &long));
    }
}

/// Whose client was connected when the broker died is offline before anything else happens to it, once; its will is published, after its delay if
/// it has one.
#[test]
fn clients_that_were_connected_are_offline_and_their_wills_published() {
    for shards in [1, 2, 4] {
        let script = Script::default();
        let chain = || NoHooks.hook(script.clone());
        let mut world = stored_world(shards, open_config(), chain);
        let shard = last(&world);
        let mut watcher = kept(&mut world, 0, "watcher");
        watcher.subscribed(&mut world, "will/#", QoS::AtLeastOnce);
        world.hang_up(watcher.socket);
        let [now, later, left] = ["now", "later", "left"].map(|name| id_owned_by(&world, shard, name));
        let will =
            |topic, delay| Some(Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, delay, ..Will::default() });
        let with_will = |topic, delay| ConnectOptions { will: will(topic, delay), ..ConnectOptions::kept(V5) };
        Client::connect(&mut world, 0, &now, with_will("will/now", 0));
        Client::connect(&mut world, 0, &later, with_will("will/later", 60));
        let client = Client::connect(&mut world, 0, &left, with_will("will/left", 30)).0;
        world.hang_up(client.socket);
        script.log.all();
        let downtime = (Last::Lost, Duration::from_secs(10));
        let mut world = world.restarted(downtime, shards, open_config(), chain);
        let crashed = ["offline ServerCrash"];
        assert_eq!(script.log.of(&now), ["publish will/now will"].iter().chain(&crashed).copied().collect::<Vec<_>>());
        assert_eq!(script.log.of(&later), crashed);
        assert_eq!(script.log.of(&left), [""; 0]);
        let mut watcher = kept(&mut world, 0, "watcher");
        let topics = |watcher: &mut Client, world: &mut World<_>| -> Vec<String> {
            watcher.publishes(world).into_iter().map(|one| one.topic).collect()
        };
        assert_eq!(topics(&mut watcher, &mut world), ["will/now"]);
        world.advance(Duration::from_secs(15));
        assert_eq!(topics(&mut watcher, &mut world), [""; 0]);
        world.advance(Duration::from_secs(6));
        assert_eq!(topics(&mut watcher, &mut world), ["will/left"]);
        script.log.all();
        // It dies once more before the other one is due: nobody is offline twice, and no will is published twice.
        let mut world = world.restarted((Last::Lost, Duration::from_secs(10)), shards, open_config(), chain);
        assert_eq!([&now, &later, &left].map(|id| script.log.of(id).len()), [0; 3]);
        let (client, present) = Client::connect(&mut world, 0, &now, ConnectOptions::kept(V5));
        assert!(present);
        assert_eq!(script.log.of(&now), ["register", "wakeup present"]);
        client.disconnect(&mut world);
        let mut watcher = kept(&mut world, 0, "watcher");
        let again = topics(&mut watcher, &mut world);
        assert!(!again.contains(&"will/later".to_owned()), "{again:?}");
        world.advance(Duration::from_secs(30));
        assert_eq!(topics(&mut watcher, &mut world), ["will/later"]);
    }
}

/// That the first will is on disk for who gets it is known when the next client has come, with another one.
#[test]
fn the_will_of_who_takes_over_is_not_forgotten_with_the_one_before() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut watcher = kept(&mut world, 0, "watcher");
        watcher.subscribed(&mut world, "will/#", QoS::AtLeastOnce);
        world.hang_up(watcher.socket);
        let id = id_owned_by(&world, shard, "c");
        for topic in ["will/1", "will/2"] {
            world.hold_commits();
            let will = Some(Will { topic, payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() });
            Client::send_connect(&mut world, 0, &id, ConnectOptions { will, ..ConnectOptions::kept(V5) });
            for number in (0..=shard).rev() {
                world.commit_on(number);
            }
            world.commit();
        }
        let mut world = killed(world);
        let mut watcher = kept(&mut world, 0, "watcher");
        let topics: Vec<_> = watcher.publishes(&mut world).into_iter().map(|one| one.topic).collect();
        assert_eq!(topics, ["will/1", "will/2"]);
    }
}

/// The session is on disk with its next client, or without it, and that the will of the one before was published is not: it is when the broker starts again.
#[test]
fn a_will_that_goes_is_not_forgotten_when_the_next_client_is_on_disk() {
    for (mut world, is_taken_over) in [true, false].into_iter().flat_map(|is| worlds().map(move |world| (world, is))) {
        let shard = last(&world);
        let mut watcher = kept(&mut world, 0, "watcher");
        watcher.subscribed(&mut world, "will/#", QoS::AtLeastOnce);
        world.hang_up(watcher.socket);
        let id = id_owned_by(&world, shard, "c");
        let will = Some(Will { topic: "will/1", payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() });
        let (client, _) = Client::connect(&mut world, 0, &id, ConnectOptions { will, ..ConnectOptions::kept(V5) });
        world.hold_commits();
        if !is_taken_over {
            world.hang_up(client.socket);
        }
        let mut next = Client::send_connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        world.commit_on(shard);
        if shard > 0 {
            assert_eq!(next.received(&mut world), [], "it waits for that");
        }
        let mut world = killed(world);
        let mut watcher = kept(&mut world, 0, "watcher");
        let topics: Vec<_> = watcher.publishes(&mut world).into_iter().map(|one| one.topic).collect();
        assert_eq!(topics, ["will/1"], "{is_taken_over}, shard {shard}");
    }
}

/// Each start begins another segment, so the third one has to make room, and does not do so before it is known until when sessions are kept.
#[test]
fn what_is_written_again_at_a_start_has_its_end() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let options = || ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(20));
        for _ in 0..5 {
            Client::connect(&mut world, 0, &id, options());
            world = killed(world);
            for shard in 0..world.shards.len() {
                let records = world.stores().records(shard);
                let never = format!("expires: {:?}", moormq::records::WallTime::NEVER);
                let kept_for_ever = records.iter().find(|one| one.starts_with("Session") && one.contains(&never));
                assert_eq!(kept_for_ever, None);
            }
        }
        assert!(world.stores().prepared >= 6, "segments were used again");
    }
}

/// What was under way when it died is there, or not, or in pieces; what was acknowledged is there.
#[test]
fn what_was_under_way_may_be_lost_and_what_was_acknowledged_is_not() {
    for (last_write, expected) in [(Last::Lost, vec!["a"]), (Last::Torn, vec!["a"]), (Last::Written, vec!["a", "b"])] {
        for mut world in worlds() {
            let shards = world.shards.len();
            let mut subscriber = kept(&mut world, shards - 1, "subscriber");
            subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(subscriber.socket);
            let mut publisher = passing(&mut world);
            publisher.publish(&mut world, "t", "a", QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
            world.hold_commits();
            publisher.publish(&mut world, "t", "b", QoS::AtLeastOnce, 1);
            publisher.send(&mut world, &Packet::Pingreq);
            assert_eq!(publisher.received(&mut world), [Got::Pingresp]);
            let mut world = world.restarted((last_write, Duration::ZERO), shards, open_config(), || NoHooks);
            let mut subscriber = kept(&mut world, shards - 1, "subscriber");
            assert_eq!(subscriber.drained(&mut world), expected);
        }
    }
}
