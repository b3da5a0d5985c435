//! Settings that a hook makes for a connection and its session: they have effect, and are in CONNACK where MQTT 5 has a field for
//! them. lifecycle.md section 2.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use moormq::codec::{AckKind, Packet, QoS, ReasonCode, SubscriptionOptions};
use moormq::config::Limit;
use moormq::hooks::{
    Answer, Chain, Expiry, Linked, NoHooks, PublishModifiersM5, RegisterModifiers, RegisterModifiersM5,
};

use crate::client::{Client, ConnectOptions, V5, V311, id_owned_by};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{World, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

const ONE: NonZeroU16 = NonZeroU16::MIN;

fn each(answers: &Answers, mut check: impl FnMut(&mut Hooked)) {
    for shards in [1, 2, 4] {
        let script = Script::new(answers.clone());
        check(&mut World::new(shards, open_config(), || NoHooks.hook(script.clone())));
    }
}

/// These modifiers for clients whose id begins with `c`.
fn m5(modifiers: RegisterModifiersM5) -> Answers {
    Answers::default().auth_on_register_m5(move |client, _| match client.subscriber.client_id.starts_with('c') {
        true => Answer::Ok(modifiers.clone()),
        false => Answer::Next,
    })
}

/// The same for clients of both kinds.
fn both(modifiers: RegisterModifiers) -> Answers {
    let v3 = modifiers.clone();
    m5(modifiers.into()).auth_on_register(move |client, _| match client.subscriber.client_id.starts_with('c') {
        true => Answer::Ok(v3.clone()),
        false => Answer::Next,
    })
}

fn last(world: &Hooked) -> String {
    id_owned_by(world, world.shards.len() - 1, "c")
}

#[test]
fn a_user_name_is_seen_by_the_hooks_that_follow() {
    let renamed = |client: &moormq::client::Client| client.username.as_deref() == Some("renamed");
    let answers = both(RegisterModifiers::default().username("renamed"))
        .auth_on_publish(move |client, _| if renamed(client) { Answer::ok() } else { Answer::refuse() })
        .auth_on_publish_m5(move |client, _| if renamed(client) { Answer::ok() } else { Answer::refuse() });
    each(&answers, |world| {
        for version in [V311, V5] {
            let id = last(world);
            // The will is put to them while it connects, the rest later.
            let options = ConnectOptions { username: Some("original"), ..ConnectOptions::clean(version).will("w") };
            let mut client = Client::connect(world, 0, &id, options).0;
            client.publish(world, "t", "x", QoS::AtLeastOnce, 1);
            let code = if version == V5 { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
            assert_eq!(client.received(world), [Got::Ack(AckKind::Puback, 1, code)]);
        }
    });
}

#[test]
fn a_message_rate_slows_the_client_and_drops_nothing() {
    let rate = NonZeroU32::new(2).expect("not zero");
    each(&both(RegisterModifiers::default().max_message_rate(rate)), |world| {
        for version in [V311, V5] {
            let id = last(world);
            let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(version)).0;
            (1..=8).for_each(|packet| client.publish(world, "t", "x", QoS::AtLeastOnce, packet));
            let at_once = client.received(world).len();
            assert!(at_once <= 2, "{at_once}");
            world.advance(Duration::from_secs(1));
            let next = client.received(world).len();
            assert!((1..=3).contains(&next), "{next}");
            world.advance(Duration::from_secs(10));
            assert_eq!(at_once + next + client.received(world).len(), 8);
        }
    });
}

#[test]
fn an_offline_limit_holds_while_the_client_is_away() {
    each(&both(RegisterModifiers::default().max_offline_messages(Limit::at_most(1))), |world| {
        for version in [V311, V5] {
            let id = last(world);
            let mut client = Client::connect(world, 0, &id, ConnectOptions::kept(version)).0;
            client.subscribed(world, "t", QoS::AtLeastOnce);
            world.hang_up(client.socket);
            let publisher = Client::clean(world, "publisher", V311);
            (1..=3).for_each(|packet| publisher.publish(world, "t", &packet.to_string(), QoS::AtLeastOnce, packet));
            let mut client = Client::connect(world, 0, &id, ConnectOptions::kept(version)).0;
            assert_eq!(client.texts(world), ["1"]);
            Client::connect(world, 0, &id, ConnectOptions::clean(version)).0.disconnect(world);
        }
    });
}

/// [MQTT-3.3.4-9], in CONNACK.
#[test]
fn a_receive_maximum_holds_for_the_client() {
    each(&m5(RegisterModifiersM5::default().receive_maximum(ONE)), |world| {
        let id = last(world);
        let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0;
        assert_eq!(client.connack().properties.receive_maximum, Some(1));
        client.publish(world, "t", "x", QoS::ExactlyOnce, 1);
        assert_eq!(client.received(world), [Got::Ack(AckKind::Pubrec, 1, ReasonCode::NoMatchingSubscribers)]);
        client.publish(world, "t", "x", QoS::ExactlyOnce, 2);
        assert_eq!(client.received(world), [Got::Disconnect(ReasonCode::ReceiveMaximumExceeded)]);
    });
}

/// Whichever is lowest of what the client takes and what hooks set.
#[test]
fn a_receive_maximum_of_the_client_may_be_lowered() {
    let lower = RegisterModifiersM5::default().client_receive_maximum(NonZeroU16::new(2).expect("not zero"));
    let inflight = RegisterModifiersM5::default().max_inflight_messages(NonZeroU16::new(2).expect("not zero"));
    for modifiers in [lower, inflight] {
        each(&m5(modifiers), |world| {
            for (asked, expected) in [(10, 2), (1, 1)] {
                let id = last(world);
                let options = ConnectOptions::clean(V5).with(|properties| properties.receive_maximum = Some(asked));
                let mut client = Client::connect(world, 0, &id, options).0;
                client.subscribed(world, "t", QoS::AtLeastOnce);
                let publisher = Client::clean(world, "publisher", V311);
                (1..=4).for_each(|packet| publisher.publish(world, "t", "x", QoS::AtLeastOnce, packet));
                assert_eq!(client.publishes(world).len(), expected);
            }
        });
    }
}

/// [MQTT-3.2.2-15], in CONNACK.
#[test]
fn a_maximum_packet_size_holds_for_the_client() {
    let most = NonZeroU32::new(50).expect("not zero");
    each(&m5(RegisterModifiersM5::default().maximum_packet_size(most)), |world| {
        let id = last(world);
        let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0;
        assert_eq!(client.connack().properties.maximum_packet_size, Some(50));
        client.publish(world, "t", &"x".repeat(40), QoS::AtLeastOnce, 1);
        assert_eq!(client.received(world), [Got::Ack(AckKind::Puback, 1, ReasonCode::NoMatchingSubscribers)]);
        client.publish(world, "t", &"x".repeat(50), QoS::AtLeastOnce, 2);
        assert_eq!(client.received(world), [Got::Disconnect(ReasonCode::PacketTooLarge)]);
    });
}

/// In CONNACK.
#[test]
fn subscription_identifiers_that_are_not_available_are_not_taken() {
    each(&m5(RegisterModifiersM5::default().subscription_identifiers_available(false)), |world| {
        let id = last(world);
        let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(V5)).0;
        assert_eq!(client.connack().properties.subscription_ids_available, Some(false));
        client.subscribe_with(world, "t", SubscriptionOptions::new(QoS::AtMostOnce), Some(1));
        assert_eq!(client.received(world), [Got::Disconnect(ReasonCode::SubscriptionIdsNotSupported)]);
    });
}

/// In CONNACK.
#[test]
fn a_keep_alive_of_the_hook_is_the_one_that_holds() {
    each(&m5(RegisterModifiersM5::default().server_keep_alive(4_u16)), |world| {
        let id = last(world);
        let mut client =
            Client::connect(world, 0, &id, ConnectOptions { keep_alive: 600, ..ConnectOptions::clean(V5) }).0;
        assert_eq!(client.connack().properties.server_keep_alive, Some(4));
        world.advance(Duration::from_millis(5900));
        client.send(world, &Packet::Pingreq);
        assert_eq!(client.received(world), [Got::Pingresp]);
        world.advance(Duration::from_millis(6100));
        assert_eq!(client.received(world), [Got::Disconnect(ReasonCode::KeepAliveTimeout)]);
    });
}

#[test]
fn a_clean_start_is_as_the_hook_says() {
    for clean in [true, false] {
        each(&m5(RegisterModifiersM5::default().clean_start(clean)), |world| {
            let id = last(world);
            for (asks, present) in [(true, false), (!clean, !clean), (!clean, !clean)] {
                let options = ConnectOptions { clean_start: asks, ..ConnectOptions::kept(V5) };
                let (client, found) = Client::connect(world, 0, &id, options);
                assert_eq!(found, present, "clean start {clean}, asked for {asks}");
                world.hang_up(client.socket);
            }
        });
    }
}

/// In CONNACK; 0 ends the session with the connection.
#[test]
fn a_session_expiry_of_the_hook_is_the_one_that_holds() {
    for (expiry, after) in [(0, 0), (10, 11)] {
        let modifiers =
            RegisterModifiersM5::default().session_expiry_interval(Expiry::After(Duration::from_secs(expiry)));
        each(&m5(modifiers), |world| {
            let id = last(world);
            let connect = |world: &mut Hooked| Client::connect(world, 0, &id, ConnectOptions::kept(V5));
            let (client, _) = connect(world);
            assert_eq!(client.connack().properties.session_expiry, Some(expiry as u32));
            if after > 0 {
                world.hang_up(client.socket);
                world.advance(Duration::from_secs(9));
                let (client, present) = connect(world);
                assert!(present);
                world.hang_up(client.socket);
            } else {
                world.hang_up(client.socket);
            }
            world.advance(Duration::from_secs(after));
            assert!(!connect(world).1);
        });
    }
}

#[test]
fn a_throttle_holds_for_mqtt_5_too() {
    let answers = Answers::default()
        .auth_on_publish_m5(|_, _| Answer::Ok(PublishModifiersM5::default().throttle(Duration::from_millis(300))));
    each(&answers, |world| {
        let mut client = Client::clean(world, "c", V5);
        (1..=2).for_each(|packet| client.publish(world, "t", "x", QoS::AtLeastOnce, packet));
        assert_eq!(client.received(world).len(), 1);
        world.advance(Duration::from_millis(200));
        assert_eq!(client.received(world), []);
        world.advance(Duration::from_millis(200));
        assert_eq!(client.received(world).len(), 1);
    });
}
