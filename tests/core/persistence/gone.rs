//! What does not come back: whatever was dropped, acknowledged, ended or cleared before the broker died.

use std::collections::BTreeMap;
use std::time::Duration;

use moormq::client::SubscriberId;
use moormq::codec::{AckKind::*, ConnectProperties, Publish, PublishProperties, QoS};
use moormq::config::{Config, Limit, QueueType};
use moormq::hooks::{Chain, NoHooks};
use moormq::shard::Request;

use super::{kept, killed, last, passing};
use crate::client::{Client, ConnectOptions, V5, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::ReceivedPublish;
use crate::stores::{Last, Stores, stored_world, with_stores};
use crate::world::{World, config, open_config};

const KILLED: (Last, Duration) = (Last::Lost, Duration::ZERO);

/// Publishes each word, its last letter being its QoS.
fn publish_all<C: Chain>(world: &mut World<C>, words: &str) {
    let publisher = passing(world);
    for (id, word) in (1..).zip(words.split(' ')) {
        let (payload, qos) = word.split_at(word.len() - 1);
        let qos = QoS::from_u8(qos.parse().expect("a QoS")).expect("a QoS");
        publisher.publish(world, "t", payload, qos, id);
        world.advance(Duration::from_millis(600));
    }
    publisher.disconnect(world);
}

#[test]
fn dropped_messages_do_not_come_back_whatever_the_order_of_the_queue() {
    for (order, expected) in [(QueueType::Fifo, ["a", "b", "c"]), (QueueType::Lifo, ["e", "d", "c"])] {
        for shards in [1, 2, 4] {
            let few = || {
                config(|config: &mut Config| {
                    config.queue.max_offline_messages = Limit::at_most(3);
                    config.queue.max_online_messages = Limit::at_most(3);
                    config.queue.queue_type = order;
                })
            };
            let mut world = stored_world(shards, few(), || NoHooks);
            let mut client = kept(&mut world, shards - 1, "c");
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(client.socket);
            publish_all(&mut world, "a1 b2 c2 d1 e2");
            for _ in 0..2 {
                world = world.restarted(KILLED, shards, few(), || NoHooks);
            }
            let mut client = kept(&mut world, shards - 1, "c");
            assert_eq!(client.drained(&mut world), expected, "{order:?}");
            let mut world = world.restarted(KILLED, shards, few(), || NoHooks);
            let mut client = kept(&mut world, shards - 1, "c");
            assert_eq!(client.received(&mut world), []);
            publish_all(&mut world, "x2 y1");
            assert_eq!(client.drained(&mut world), ["x", "y"]);
        }
    }
}

/// The newest is sent first, behind a window of one: a crash between two messages.
#[test]
fn a_lifo_queue_is_gone_through_once_across_crashes() {
    for shards in [1, 2] {
        for qos in ["1", "2"] {
            let lifo = || config(|config: &mut Config| config.queue.queue_type = QueueType::Lifo);
            let options = ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(1));
            let mut world = stored_world(shards, lifo(), || NoHooks);
            let mut client = Client::on(&mut world, shards - 1, "c", options);
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(client.socket);
            publish_all(&mut world, &["a", "b", "c", "d"].map(|text| format!("{text}{qos}")).join(" "));
            let mut got = Vec::new();
            for _ in 0..4 {
                let mut client = Client::on(&mut world, shards - 1, "c", options);
                let one = client.publishes(&mut world);
                assert_eq!(one.len(), 1, "{qos}: {got:?}");
                got.push(one[0].text().to_owned());
                let id = one[0].id.expect("not QoS 0");
                if qos == "2" {
                    client.ack(&mut world, Pubrec, id);
                }
                world.hold_commits();
                // The next one is sent, and that is not on disk.
                client.ack(&mut world, if qos == "2" { Pubcomp } else { Puback }, id);
                world.stores().is_held = false;
                world.commit();
                world = world.restarted(KILLED, shards, lifo(), || NoHooks);
            }
            assert_eq!(got, ["d", "c", "b", "a"]);
            let mut client = Client::on(&mut world, shards - 1, "c", options);
            assert_eq!(client.received(&mut world), []);
        }
    }
}

#[test]
fn what_was_unsubscribed_ended_expired_or_cleared_does_not_come_back() {
    for shards in [1, 2, 4] {
        let mut world = stored_world(shards, open_config(), || NoHooks);
        let shard = last(&world);
        let mut client = kept(&mut world, shard, "unsubscribed");
        client.subscribed(&mut world, "t", QoS::AtLeastOnce);
        client.subscribed(&mut world, "u", QoS::AtLeastOnce);
        client.unsubscribe(&mut world, &["t"]);
        let ids = ["clean", "removed", "expired", "left"].map(|name| id_owned_by(&world, shard, name));
        for id in &ids {
            let expiry = if id.starts_with("expired") { 10 } else { 3600 };
            let options = ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(expiry));
            let mut client = Client::connect(&mut world, 0, id, options).0;
            client.subscribed(&mut world, "u", QoS::ExactlyOnce);
            if id.starts_with("left") {
                let end = moormq::codec::Disconnect::new(moormq::codec::ReasonCode::Success);
                client.leave(&mut world, moormq::codec::Disconnect { session_expiry: Some(0), ..end });
            } else {
                world.hang_up(client.socket);
            }
        }
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "u", "old", QoS::ExactlyOnce, 1);
        publisher.retain(&mut world, "r/kept", "x");
        publisher.retain(&mut world, "r/cleared", "x");
        publisher.retain(&mut world, "r/cleared", "");
        let mut clean =
            Client::connect(&mut world, 0, &ids[0], ConnectOptions { clean_start: true, ..ConnectOptions::kept(V5) }).0;
        clean.received(&mut world);
        world.hang_up(clean.socket);
        let subscriber = SubscriberId::new("", ids[1].as_str());
        world.request(shard, Request::Disconnect { subscriber, cleanup: true });
        world.advance(Duration::from_secs(11));
        for _ in 0..2 {
            world = killed(world);
        }
        for (id, is_there) in ids.iter().zip([true, false, false, false]) {
            let (mut client, present) = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5));
            assert_eq!((present, client.received(&mut world).len()), (is_there, 0), "{id}");
        }
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "t", QoS::AtLeastOnce, 1);
        publisher.publish(&mut world, "u", "u", QoS::AtLeastOnce, 2);
        let mut client = kept(&mut world, shard, "unsubscribed");
        assert_eq!(client.texts(&mut world), ["old", "u"]);
        let mut late = Client::clean(&mut world, "late", V5);
        late.subscribe(&mut world, "r/#", QoS::AtMostOnce);
        let topics: Vec<_> = late.publishes(&mut world).into_iter().map(|one| one.topic).collect();
        assert_eq!(topics, ["r/kept"]);
    }
}

#[test]
fn upgraded_messages_are_upgraded_after_a_crash_too() {
    for shards in [1, 2, 4] {
        let upgraded = || config(|config: &mut Config| config.session.upgrade_qos = true);
        let mut world = stored_world(shards, upgraded(), || NoHooks);
        let mut client = kept(&mut world, shards - 1, "c");
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        publish_all(&mut world, "a0");
        assert_eq!(client.texts(&mut world), ["a"]);
        world.hang_up(client.socket);
        publish_all(&mut world, "b0 c1");
        let mut world = world.restarted(KILLED, shards, upgraded(), || NoHooks);
        let mut client = kept(&mut world, shards - 1, "c");
        let got = client.publishes(&mut world);
        let of: Vec<_> = got.iter().map(|one| (one.text(), one.qos, one.dup)).collect();
        let qos = QoS::ExactlyOnce;
        assert_eq!(of, [("a", qos, true), ("b", qos, false), ("c", qos, false)]);
    }
}

/// A session that does not outlive its connection any more is served to its end: what waited for its disk does not wait for ever.
#[test]
fn a_stored_session_that_is_kept_no_more_is_served_on() {
    for shards in [1, 2] {
        let lifo = || config(|config: &mut Config| config.queue.queue_type = QueueType::Lifo);
        let mut world = stored_world(shards, lifo(), || NoHooks);
        let mut client = kept(&mut world, shards - 1, "c");
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        world.hang_up(client.socket);
        publish_all(&mut world, "a2 b2 c1 d2");
        let options = ConnectOptions { clean_start: false, ..ConnectOptions::clean(V5) };
        let mut client = Client::on(&mut world, shards - 1, "c", options);
        assert_eq!(client.drained(&mut world), ["d", "c", "b", "a"]);
        let mut world = world.restarted(KILLED, shards, lifo(), || NoHooks);
        let id = id_owned_by(&world, shards - 1, "c");
        assert!(!Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5)).1);
    }
}

/// The expiry of a message that is sent on is not the one that was stored.
#[test]
fn messages_that_expired_in_the_queue_do_not_come_back() {
    for shards in [1, 2] {
        let mut world = stored_world(shards, open_config(), || NoHooks);
        let mut client = kept(&mut world, shards - 1, "c");
        client.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(client.socket);
        let publisher = passing(&mut world);
        let properties = PublishProperties { message_expiry: Some(5), ..PublishProperties::default() };
        publisher.publish_with(&mut world, Publish { properties, ..publish("t", "x", QoS::AtLeastOnce, 1) });
        world.advance(Duration::from_secs(6));
        let mut client = kept(&mut world, shards - 1, "c");
        assert_eq!(client.received(&mut world), []);
        let world = killed(world);
        let mut world = killed(world);
        let mut client = kept(&mut world, shards - 1, "c");
        assert_eq!(client.received(&mut world), []);
    }
}

/// What was sent first is the last one of the queue: after a crash the others do not go before it, or it would have another packet id.
#[test]
fn what_was_sent_out_of_order_keeps_its_packet_ids_across_crashes() {
    for shards in [1, 2, 4] {
        let lifo = || config(|config: &mut Config| config.queue.queue_type = QueueType::Lifo);
        let mut world = stored_world(shards, lifo(), || NoHooks);
        let mut subscriber = kept(&mut world, shards - 1, "subscriber");
        subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
        world.hang_up(subscriber.socket);
        publish_all(&mut world, "a1 b2 c1 d2");
        let ids = |received: Vec<ReceivedPublish>| -> BTreeMap<String, Option<u16>> {
            received.iter().map(|one| (one.text().to_owned(), one.id)).collect()
        };
        let mut subscriber = kept(&mut world, shards - 1, "subscriber");
        let before = ids(subscriber.publishes(&mut world));
        assert_eq!(before.len(), 4);
        for _ in 0..2 {
            world = world.restarted(KILLED, shards, lifo(), || NoHooks);
            let mut subscriber = kept(&mut world, shards - 1, "subscriber");
            assert_eq!(ids(subscriber.publishes(&mut world)), before, "{shards} shards");
        }
    }
}

/// The older message of two was sent last, and the broker dies before that is on disk: after that a newer one goes before it, so that it would have
/// another packet id.
#[test]
fn what_is_sent_out_of_order_is_seen_when_that_is_on_disk() {
    for shards in [1, 2, 4] {
        let lifo = || config(|config: &mut Config| config.queue.queue_type = QueueType::Lifo);
        let options = |most| ConnectOptions::kept(V5).with(|properties| properties.receive_maximum = Some(most));
        let mut world = stored_world(shards, lifo(), || NoHooks);
        let mut client = Client::on(&mut world, shards - 1, "c", options(1));
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        world.hang_up(client.socket);
        publish_all(&mut world, "a2 b2");
        let mut client = Client::on(&mut world, shards - 1, "c", options(1));
        let id = client.publishes(&mut world)[0].id.expect("not QoS 0");
        client.ack(&mut world, Pubrec, id);
        world.hold_commits();
        client.ack(&mut world, Pubcomp, id);
        let seen: Vec<_> = client.publishes(&mut world).iter().map(|one| (one.text().to_owned(), one.id)).collect();
        world = world.restarted(KILLED, shards, lifo(), || NoHooks);
        publish_all(&mut world, "c2");
        let mut client = Client::on(&mut world, shards - 1, "c", options(10));
        let again = client.publishes(&mut world);
        for (text, id) in seen {
            assert!(again.iter().any(|one| one.text() == text && one.id == id), "{text} as {id:?}: {again:?}");
        }
        assert_eq!(again.len(), 2, "{again:?}");
    }
}

/// What a client has taken out of pages is gone before the archive has deleted them, and so it is when the session goes on under another number.
#[test]
fn what_was_in_pages_does_not_come_back_under_another_number() {
    const MANY: usize = 12;
    let text = |number: usize| format!("{number:08}{}", "x".repeat(20_000));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let stores = Stores::default().gathering(2, 1000);
        let mut world = with_stores(World::new(2, config(|_| ()), || NoHooks), stores);
        let id = id_owned_by(&world, 1, "mover");
        let (mut absent, _) = Client::connect(&mut world, 1, &id, ConnectOptions::kept(V5));
        absent.subscribed(&mut world, "t", qos);
        world.hang_up(absent.socket);
        let mut publisher = passing(&mut world);
        for number in 0..MANY {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world).len(), 1);
        }
        assert_eq!(world.stores().pages(), MANY, "each is one");

        let few = ConnectProperties { receive_maximum: Some(2), ..ConnectOptions::kept(V5).properties };
        let few = ConnectOptions { properties: few, ..ConnectOptions::kept(V5) };
        let (mut absent, present) = Client::connect(&mut world, 1, &id, few);
        assert!(present);
        world.stores().is_archive_held = true;
        let pages = world.stores().pages();
        let taken = absent.drained(&mut world).len();
        assert!(taken > 2, "what was read of pages: {taken}");
        world.hang_up(absent.socket);
        assert_eq!(world.stores().pages(), pages, "they are there still");
        assert!(MANY - taken < pages, "{taken}");
        move_slot(&mut world, &id, 0);
        world.settle();

        let mut world = world.restarted(KILLED, 2, config(|_| ()), || NoHooks);
        let (mut absent, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(present);
        let numbers: Vec<usize> =
            absent.drained(&mut world).iter().map(|text| text[..8].parse().expect("a number")).collect();
        assert_eq!(numbers, (taken..MANY).collect::<Vec<_>>(), "{qos:?}");
    }
}
