//! The modifiers of hooks, and their effect: lifecycle.md section 2; and notifications that take their time.

use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moormq::client::SubscriberId;
use moormq::codec::{AckKind, Packet, PropertyBlock, Publish, PublishProperties, QoS, ReasonCode};
use moormq::config::{Limit, QueueType, SharedPolicy};
use moormq::hooks::{
    Answer, Chain, DeliverAnswer, DeliverModifiers, DeliverModifiersM5, Expiry, Linked, NoHooks, PublishModifiers,
    PublishModifiersM5, RegisterModifiers, RegisterModifiersM5,
};

use crate::client::{Client, ConnectOptions, V5, V311, acked, publish};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{World, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

fn each(answers: Answers, mut check: impl FnMut(&mut Hooked, &Script)) {
    for shards in [1, 2, 4] {
        let script = Script::new(answers.clone());
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
    }
}

/// The same modifiers for clients of both kinds.
fn registering(v3: RegisterModifiers) -> Answers {
    let m5 = RegisterModifiersM5::from(v3.clone());
    Answers::default()
        .auth_on_register(move |_, _| Answer::Ok(v3.clone()))
        .auth_on_register_m5(move |_, _| Answer::Ok(m5.clone()))
}

/// lifecycle.md 3.4: identity may change here, and decides on the shard and the session.
#[test]
fn a_hook_may_give_the_client_another_identity() {
    let answers = Answers::default().auth_on_register(|client, _| {
        let name = format!("real-{}", client.subscriber.client_id);
        Answer::Ok(RegisterModifiers::default().client_id(name).username("someone"))
    });
    each(answers, |world, script| {
        for number in 0..8 {
            let id = format!("c{number}");
            let mut client = Client::connect(world, 0, &id, ConnectOptions::kept(V311)).0;
            let real = format!("real-{id}");
            let owner = world.shards[0].owner(&SubscriberId::new("", real.as_str()));
            assert_eq!(world.shard_of(client.socket), Some(owner));
            assert_eq!(script.log.of(&real), ["register", "wakeup"]);
            client.subscribed(world, "t", QoS::AtMostOnce);
            let (_, present) = Client::connect(world, 0, &id, ConnectOptions::kept(V311));
            assert!(present && world.is_closed(client.socket));
        }
    });
}

/// Two mountpoints never see each other.
#[test]
fn mountpoints_never_meet() {
    let answers = Answers::default()
        .auth_on_register(|_, register| {
            let mountpoint = String::from_utf8_lossy(register.password.unwrap_or_default()).into_owned();
            Answer::Ok(RegisterModifiers::default().mountpoint(mountpoint))
        })
        .auth_on_publish(|_, publish| match publish.topic {
            "across" => Answer::Ok(PublishModifiers::default().mountpoint("b").topic("t")),
            _ => Answer::Next,
        });
    let at = |mountpoint: &'static str| ConnectOptions {
        username: Some("x"),
        password: Some(mountpoint.as_bytes()),
        ..ConnectOptions::kept(V311)
    };
    each(answers, |world, _| {
        let mut clients = ["a", "b", "c"].map(|mountpoint| {
            let mut client = Client::connect(world, 0, "same", at(mountpoint)).0;
            client.subscribed(world, "#", QoS::AtMostOnce);
            client.subscribed(world, "$share/g/t", QoS::AtMostOnce);
            client
        });
        assert!(clients.iter().all(|client| !world.is_closed(client.socket)), "the same client id, three times");
        let publisher = Client::connect(world, 0, "publisher", at("a")).0;
        publisher.retain(world, "t", "for a");
        assert_eq!(clients[0].texts(world), ["for a", "for a"]);
        publisher.publish(world, "across", "for b", QoS::AtMostOnce, 0);
        let received = clients.each_mut().map(|client| client.texts(world).len());
        assert_eq!(received, [0, 2, 0]);
        let late = ["a", "b"].map(|mountpoint| {
            let mut late = Client::connect(world, 0, "late", at(mountpoint)).0;
            late.subscribe(world, "t", QoS::AtMostOnce);
            late.texts(world).len()
        });
        assert_eq!(late, [1, 0], "what is retained, too");
    });
}

#[test]
fn a_hook_may_change_what_is_published() {
    let mut block = PropertyBlock::new();
    block.content_type("made/up").expect("a legal content type");
    let m5 = PublishModifiersM5::default()
        .topic("b")
        .payload(Bytes::from_static(b"other"))
        .qos(QoS::AtLeastOnce)
        .retain(true)
        .properties(block)
        .message_expiry(Expiry::After(Duration::from_secs(9)));
    let v3 =
        PublishModifiers::default().topic("b").payload(Bytes::from_static(b"other")).qos(QoS::ExactlyOnce).retain(true);
    let answers = Answers::default()
        .auth_on_publish(move |_, _| Answer::Ok(v3.clone()))
        .auth_on_publish_m5(move |_, _| Answer::Ok(m5.clone()));
    each(answers, |world, script| {
        let last = world.shards.len() - 1;
        let mut subscriber = Client::on(world, last, "subscriber", ConnectOptions::clean(V5));
        subscriber.subscribed(world, "+", QoS::ExactlyOnce);
        for (version, qos) in [(V311, QoS::ExactlyOnce), (V5, QoS::AtLeastOnce)] {
            let mut publisher = Client::clean(world, "publisher", version);
            let properties =
                PublishProperties { response_topic: Some("r"), message_expiry: Some(99), ..Default::default() };
            let packet = Publish { properties, ..publish("a", "mine", QoS::AtLeastOnce, 5) };
            script.log.all();
            publisher.publish_with(world, packet);
            assert_eq!(script.log.of("publisher"), ["publish b"]);
            assert_eq!(publisher.received(world), [acked(AckKind::Puback, 5)], "by the QoS the client used");
            let received = subscriber.publishes(world);
            assert_eq!((received[0].topic.as_str(), received[0].text(), received[0].qos), ("b", "other", qos));
            let properties = received[0].properties;
            assert_eq!(properties.response_topic, None);
            let expected = if version == V5 { (Some("made/up"), Some(9)) } else { (None, None) };
            assert_eq!((properties.content_type, properties.message_expiry), expected);
            let mut late = Client::clean(world, "late", V311);
            late.subscribe(world, "b", QoS::AtMostOnce);
            assert_eq!(late.texts(world), ["other"]);
        }
    });
}

#[test]
fn a_topic_that_is_none_refuses_the_publish() {
    let answers = Answers::default()
        .auth_on_publish(|_, _| Answer::Ok(PublishModifiers::default().topic("a/#")))
        .auth_on_publish_m5(|_, _| Answer::Ok(PublishModifiersM5::default().topic("")));
    each(answers, |world, script| {
        let mut client = Client::clean(world, "m5", V5);
        client.publish(world, "t", "x", QoS::AtLeastOnce, 1);
        assert_eq!(client.received(world), [Got::Ack(AckKind::Puback, 1, ReasonCode::ImplementationSpecific)]);
        let client = Client::connect(world, 0, "v3", ConnectOptions::kept(V311)).0;
        script.log.all();
        client.publish(world, "t", "x", QoS::AtLeastOnce, 1);
        assert!(world.is_closed(client.socket));
        assert_eq!(script.log.of("v3"), ["offline HookFailure"]);
    });
}

#[test]
fn a_hook_may_slow_a_client_down() {
    let answers = Answers::default().auth_on_publish(|_, publish| match publish.topic {
        "slow" => Answer::Ok(PublishModifiers::default().throttle(Duration::from_millis(300))),
        _ => Answer::Next,
    });
    each(answers, |world, _| {
        let mut client = Client::clean(world, "c", V311);
        let mut other = Client::clean(world, "other", V311);
        for id in 1..=3 {
            client.publish(world, "slow", "x", QoS::AtLeastOnce, id);
        }
        let mut received = client.received(world).len();
        assert_eq!(received, 1);
        for expected in [1, 2, 2, 3, 3] {
            other.send(world, &Packet::Pingreq);
            assert_eq!(other.received(world), [Got::Pingresp]);
            world.advance(Duration::from_millis(200));
            received += client.received(world).len();
            assert_eq!(received, expected);
        }
    });
}

#[test]
fn limits_that_a_hook_sets_hold() {
    let few = |count| NonZeroU16::new(count).expect("not zero");
    let v3 = RegisterModifiers::default()
        .max_message_size(Limit::at_most(100))
        .max_message_rate(NonZeroU32::new(5).expect("not zero"))
        .max_inflight_messages(few(2))
        .max_online_messages(Limit::at_most(3))
        .max_offline_messages(Limit::at_most(1))
        .queue_type(QueueType::Lifo)
        .max_connection_lifetime(Duration::from_secs(50));
    each(registering(v3), |world, _| {
        for version in [V311, V5] {
            let last = world.shards.len() - 1;
            let mut client = Client::on(world, last, "limited", ConnectOptions::kept(version));
            client.subscribed(world, "t", QoS::AtLeastOnce);
            let publisher = Client::clean(world, "publisher", V311);
            let send = |world: &mut Hooked, texts: &[&str]| {
                for text in texts {
                    publisher.publish(world, "t", text, QoS::AtLeastOnce, 1);
                    // The publisher has the same rate.
                    world.advance(Duration::from_millis(250));
                }
            };
            send(world, &["1", "2", "3", "4", "5", "6"]);
            // The publisher waits no longer for a client whose queue is full.
            world.advance(Duration::from_secs(1));
            let first = client.publishes(world);
            assert_eq!(first.iter().map(|received| received.text()).collect::<Vec<_>>(), ["1", "2"]);
            first.iter().for_each(|received| client.ack(world, AckKind::Puback, received.id.expect("QoS 1")));
            assert_eq!(client.texts(world), ["6", "5"]);
            world.hang_up(client.socket);
            let client = Client::on(world, last, "limited", ConnectOptions::kept(version));
            world.send(client.socket, &[0x30, 99]);
            assert!(world.is_closed(client.socket));
            let client = Client::on(world, last, "limited", ConnectOptions::kept(version));
            world.advance(Duration::from_secs(51));
            assert!(world.is_closed(client.socket));
            Client::on(world, last, "limited", ConnectOptions::clean(version)).disconnect(world);
        }
    });
}

/// lifecycle.md 2: in CONNACK, **and enforced**.
#[test]
fn what_a_hook_takes_away_is_not_granted() {
    let m5 = RegisterModifiersM5::default()
        .maximum_qos(QoS::AtLeastOnce)
        .retain_available(false)
        .wildcard_subscription_available(false)
        .shared_subscription_available(false)
        .subscription_identifiers_available(false)
        .topic_alias_maximum(1_u16)
        .receive_maximum(NonZeroU16::MIN);
    each(Answers::default().auth_on_register_m5(move |_, _| Answer::Ok(m5.clone())), |world, _| {
        let mut client = Client::clean(world, "c", V5);
        for (filter, code) in [
            ("a/+", ReasonCode::WildcardSubscriptionsNotSupported),
            ("$share/g/a", ReasonCode::SharedSubscriptionsNotSupported),
            ("a", ReasonCode::GrantedQoS1),
        ] {
            client.subscribe(world, filter, QoS::ExactlyOnce);
            assert_eq!(client.received(world), [Got::Suback(1, vec![code])]);
        }
        let alias = PublishProperties { topic_alias: Some(2), ..PublishProperties::default() };
        let plain = publish("t", "x", QoS::AtMostOnce, 0);
        for (packet, code) in [
            (publish("t", "x", QoS::ExactlyOnce, 1), ReasonCode::QosNotSupported),
            (Publish { retain: true, ..plain }, ReasonCode::RetainNotSupported),
            (Publish { properties: alias, ..plain }, ReasonCode::TopicAliasInvalid),
        ] {
            let mut client = Client::clean(world, "c", V5);
            client.publish_with(world, packet);
            assert_eq!(client.received(world), [Got::Disconnect(code)]);
        }
        // [MQTT-3.2.2-12], [MQTT-3.2.2-13]: nor to a will.
        for (qos, retain, code) in [
            (QoS::ExactlyOnce, false, ReasonCode::QosNotSupported),
            (QoS::AtMostOnce, true, ReasonCode::RetainNotSupported),
        ] {
            let will = moormq::codec::Will { topic: "w", qos, retain, ..Default::default() };
            let mut client =
                Client::send_connect(world, 0, "c", ConnectOptions { will: Some(will), ..ConnectOptions::clean(V5) });
            assert_eq!(client.received(world), [Got::Connack { present: false, code }]);
        }
    });
}

#[test]
fn the_rest_of_what_a_hook_may_set_for_a_session() {
    let v3 = RegisterModifiers::default()
        .clean_session(false)
        .upgrade_qos(true)
        .retry_interval(Duration::from_secs(3))
        .shared_subscription_policy(SharedPolicy::Sticky)
        .session_expiry(Expiry::After(Duration::from_secs(10)));
    each(registering(v3), |world, _| {
        let last = world.shards.len() - 1;
        let mut client =
            Client::on(world, last, "c", ConnectOptions { clean_start: false, ..ConnectOptions::clean(V311) });
        client.subscribed(world, "t", QoS::AtLeastOnce);
        let publisher = Client::clean(world, "publisher", V311);
        publisher.publish(world, "t", "x", QoS::AtMostOnce, 0);
        let received = client.publishes(world);
        assert_eq!(received[0].qos, QoS::AtLeastOnce, "upgraded");
        world.advance(Duration::from_millis(6500));
        assert!(client.publishes(world).iter().all(|received| received.dup) && !world.is_closed(client.socket));
        world.hang_up(client.socket);
        world.advance(Duration::from_secs(9));
        // The client asks for a clean session, and the hook says no.
        let (client, present) = Client::connect(world, 0, "c0", ConnectOptions::clean(V311));
        client.disconnect(world);
        let id = crate::client::id_owned_by(world, last, "c");
        assert_eq!(present, id == "c0");
        let (client, present) = Client::connect(world, 0, &id, ConnectOptions::clean(V311));
        assert!(present);
        world.hang_up(client.socket);
        world.advance(Duration::from_secs(11));
        assert!(!Client::connect(world, 0, &id, ConnectOptions::clean(V311)).1, "expired");
        let mut members = ["m1", "m2"].map(|id| {
            let mut member = Client::clean(world, id, V311);
            member.subscribed(world, "$share/g/s", QoS::AtMostOnce);
            member
        });
        for _ in 0..10 {
            publisher.publish(world, "s", "x", QoS::AtMostOnce, 0);
        }
        let mut received = members.each_mut().map(|member| member.texts(world).len());
        received.sort_unstable();
        assert_eq!(received, [0, 10]);
    });
}

/// lifecycle.md 2: just before an outgoing PUBLISH, for this client alone; the same on every retransmission.
#[test]
fn a_delivery_is_rewritten_for_one_client_and_stays_as_it_was_first_sent() {
    let count = Arc::new(AtomicUsize::new(0));
    let (v3, m5) = (count.clone(), count.clone());
    let mut block = PropertyBlock::new();
    block.user("for", "you").expect("a legal user property");
    let answers = Answers::default()
        .on_deliver(move |client, _| match &*client.subscriber.client_id {
            "changed" => {
                let payload = format!("v{}", v3.fetch_add(1, Ordering::Relaxed));
                DeliverAnswer::Ok(DeliverModifiers::default().topic("mine").payload(payload))
            }
            "bad" => DeliverAnswer::Ok(DeliverModifiers::default().topic("a/#")),
            "panics" => panic!("as the test wants it"),
            _ => DeliverAnswer::Next,
        })
        .on_deliver_m5(move |client, _| match &*client.subscriber.client_id {
            "changed" => {
                let payload = format!("v{}", m5.fetch_add(1, Ordering::Relaxed));
                DeliverAnswer::Ok(DeliverModifiersM5::default().payload(payload).properties(block.clone()))
            }
            _ => DeliverAnswer::Next,
        });
    each(answers, |world, _| {
        let mut others = ["plain", "bad", "panics"].map(|id| {
            let mut other = Client::clean(world, id, V311);
            other.subscribed(world, "t", QoS::AtLeastOnce);
            other
        });
        for version in [V311, V5] {
            count.store(0, Ordering::Relaxed);
            let mut changed = Client::connect(world, 0, "changed", ConnectOptions::kept(version)).0;
            changed.subscribed(world, "t", QoS::ExactlyOnce);
            let publisher = Client::clean(world, "publisher", V5);
            for (qos, id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
                publisher.publish(world, "t", "original", qos, id);
            }
            let received = changed.publishes(world);
            assert_eq!(received.iter().map(|received| received.text()).collect::<Vec<_>>(), ["v0", "v1", "v2"]);
            let topic = if version == V5 { "t" } else { "mine" };
            assert!(received.iter().all(|received| received.topic == topic));
            assert_eq!(received[1].properties.user.iter().count(), usize::from(version == V5));
            for _ in 0..2 {
                changed = Client::connect(world, 0, "changed", ConnectOptions::kept(version)).0;
                let again: Vec<_> =
                    changed.publishes(world).iter().map(|received| received.text().to_owned()).collect();
                assert_eq!(again, ["v1", "v2"]);
            }
            assert_eq!(count.load(Ordering::Relaxed), 3, "not asked again");
            for other in &mut others {
                let received = other.publishes(world);
                assert!(received.iter().all(|received| received.topic == "t" && received.text() == "original"));
                assert_eq!(received.len(), 3);
                let ids: Vec<_> =
                    received.iter().filter_map(|received| received.id.map(|id| (received.qos, id))).collect();
                ids.iter().for_each(|(_, id)| other.ack(world, AckKind::Puback, *id));
            }
            Client::clean(world, "changed", version).disconnect(world);
        }
    });
}
