//! The fields of CONNACK, and their effect: lifecycle.md section 3, MQTT 5.0 section 3.2.2.

use std::time::Duration;

use moormq::codec::{
    ConnackProperties, Packet, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};
use moormq::config::{Config, ListenerConfig};
use moormq::hooks::{
    Answer, Chain, ConnectCode, ConnectRefusal, ConnectRefusalM5, Expiry, NoHooks, RegisterModifiersM5,
};

use crate::client::{Client, ConnectOptions, V5, V31, V311, disconnected, packet_id};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{World, config, open_config, worlds};

/// The properties of the CONNACK that answers a CONNECT with these options.
fn connack_properties(config: Config, options: ConnectOptions<'_>) -> ConnackProperties<'static> {
    let mut world = World::new(1, config, || NoHooks);
    Client::connect(&mut world, 0, "c", options).0.connack().properties
}

/// The properties of the CONNACK if `auth_on_register_m5` answers with these modifiers.
fn set_by_hook(modifiers: RegisterModifiersM5, options: ConnectOptions<'_>) -> ConnackProperties<'static> {
    let answers = Answers::default().auth_on_register_m5(move |_, _| Answer::Ok(modifiers.clone()));
    let mut world = World::new(1, open_config(), || NoHooks.hook(Script::new(answers.clone())));
    Client::connect(&mut world, 0, "c", options).0.connack().properties
}

/// The properties that the default configuration always sends.
fn usual() -> ConnackProperties<'static> {
    ConnackProperties {
        receive_maximum: Some(1024),
        maximum_packet_size: Some(8 * 1024 * 1024),
        topic_alias_maximum: Some(32),
        ..ConnackProperties::default()
    }
}

#[test]
fn connack_has_what_differs_from_the_defaults_and_nothing_else() {
    assert_eq!(connack_properties(open_config(), ConnectOptions::clean(V5)), usual());
    assert_eq!(connack_properties(open_config(), ConnectOptions::kept(V5)), usual());
    let all = config(|config| {
        config.limits.receive_maximum = u16::MAX;
        config.limits.topic_alias_maximum = 0;
        config.limits.maximum_qos = 1;
        config.limits.retain_available = false;
        config.limits.wildcard_available = false;
        config.limits.shared_available = false;
        config.limits.subscription_ids_available = false;
        config.limits.max_packet_size = 4096;
        config.session.max_keep_alive = Some(30);
        config.session.max_session_expiry = Some(Duration::from_secs(60));
    });
    let expected = ConnackProperties {
        session_expiry: Some(60),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(4096),
        wildcard_available: Some(false),
        subscription_ids_available: Some(false),
        shared_available: Some(false),
        server_keep_alive: Some(30),
        ..ConnackProperties::default()
    };
    assert_eq!(connack_properties(all, ConnectOptions::kept(V5)), expected);
}

#[test]
fn a_listener_has_limits_of_its_own() {
    let listener = ListenerConfig {
        receive_maximum: Some(7),
        topic_alias_maximum: Some(3),
        max_packet_size: Some(2048),
        ..ListenerConfig::default()
    };
    let own = connack_properties(config(|config| config.listeners = vec![listener]), ConnectOptions::clean(V5));
    let expected = (Some(7), Some(3), Some(2048));
    assert_eq!((own.receive_maximum, own.topic_alias_maximum, own.maximum_packet_size), expected);
}

/// [MQTT-3.2.2-21], section 3.2.2.3.2
#[test]
fn connack_has_the_session_expiry_if_it_is_not_the_requested_one() {
    let ask = |seconds| ConnectOptions::kept(V5).with(|properties| properties.session_expiry = seconds);
    let most = |seconds| config(move |config| config.session.max_session_expiry = Some(Duration::from_secs(seconds)));
    assert_eq!(connack_properties(most(60), ask(Some(60))).session_expiry, None);
    assert_eq!(connack_properties(most(60), ask(Some(61))).session_expiry, Some(60));
    assert_eq!(connack_properties(most(60), ask(Some(u32::MAX))).session_expiry, Some(60));
    assert_eq!(connack_properties(most(60), ask(None)).session_expiry, None);
    assert_eq!(connack_properties(open_config(), ask(Some(u32::MAX))).session_expiry, None);
    let by = |expiry| RegisterModifiersM5::default().session_expiry_interval(expiry);
    let seconds = |count| by(Expiry::After(Duration::from_secs(count)));
    assert_eq!(set_by_hook(seconds(5), ask(None)).session_expiry, Some(5));
    assert_eq!(set_by_hook(seconds(0), ask(Some(60))).session_expiry, Some(0));
    assert_eq!(set_by_hook(by(Expiry::Never), ask(Some(60))).session_expiry, Some(u32::MAX));
    let fraction = by(Expiry::After(Duration::from_millis(1500)));
    assert_eq!(set_by_hook(fraction, ask(None)).session_expiry, Some(2), "rounded up");
}

/// [MQTT-3.2.2-21], [MQTT-3.2.2-22]
#[test]
fn connack_has_the_keep_alive_if_it_is_not_the_requested_one() {
    let ask = |keep_alive| ConnectOptions { keep_alive, ..ConnectOptions::clean(V5) };
    let most = || config(|config| config.session.max_keep_alive = Some(30));
    assert_eq!(connack_properties(most(), ask(30)).server_keep_alive, None);
    assert_eq!(connack_properties(most(), ask(31)).server_keep_alive, Some(30));
    assert_eq!(connack_properties(most(), ask(0)).server_keep_alive, Some(30));
    let by = |seconds: u16| RegisterModifiersM5::default().server_keep_alive(seconds);
    assert_eq!(set_by_hook(by(90), ask(60)).server_keep_alive, Some(90));
    assert_eq!(set_by_hook(by(0), ask(60)).server_keep_alive, Some(0));
    assert_eq!(set_by_hook(by(60), ask(60)).server_keep_alive, None);
}

/// [MQTT-3.1.2-22]: one and a half times the effective keep-alive.
#[test]
fn a_silent_client_is_closed_after_one_and_a_half_times_its_keep_alive() {
    for mut world in worlds() {
        for version in [V31, V311, V5] {
            let options = ConnectOptions { keep_alive: 10, ..ConnectOptions::clean(version) };
            let mut silent = Client::connect(&mut world, 0, "silent", options).0;
            let mut lively = Client::connect(&mut world, 0, "lively", options).0;
            let idle = Client::connect(&mut world, 0, "idle", ConnectOptions { keep_alive: 0, ..options }).0;
            world.advance(Duration::from_secs(9));
            lively.send(&mut world, &Packet::Pingreq);
            world.advance(Duration::from_millis(5900));
            assert!(!world.is_closed(silent.socket));
            world.advance(Duration::from_millis(200));
            assert_eq!(silent.received(&mut world), disconnected(version, ReasonCode::KeepAliveTimeout));
            assert!(world.is_closed(silent.socket));
            world.advance(Duration::from_millis(8700));
            assert_eq!(lively.received(&mut world), [Got::Pingresp]);
            assert!(!world.is_closed(lively.socket));
            world.advance(Duration::from_secs(600));
            assert!(world.is_closed(lively.socket) && !world.is_closed(idle.socket));
        }
    }
}

#[test]
fn the_keep_alive_of_the_server_is_the_one_that_holds() {
    let mut world = World::new(2, config(|config| config.session.max_keep_alive = Some(4)), || NoHooks);
    let asked = Client::connect(&mut world, 0, "v5", ConnectOptions { keep_alive: 600, ..ConnectOptions::clean(V5) }).0;
    let none = Client::connect(&mut world, 0, "none", ConnectOptions::clean(V5)).0;
    let old = Client::connect(&mut world, 0, "old", ConnectOptions { keep_alive: 20, ..ConnectOptions::clean(V311) }).0;
    world.advance(Duration::from_millis(5900));
    assert!(!world.is_closed(asked.socket) && !world.is_closed(none.socket));
    world.advance(Duration::from_millis(200));
    assert!(world.is_closed(asked.socket) && world.is_closed(none.socket));
    assert!(!world.is_closed(old.socket), "3.1.1 has no field for it");
}

/// lifecycle.md 4: maximum connect time 0xA0.
#[test]
fn a_connection_lives_no_longer_than_it_may() {
    let limited = || config(|config| config.session.max_connection_lifetime = Some(Duration::from_secs(90)));
    for version in [V311, V5] {
        let mut world = World::new(2, limited(), || NoHooks);
        let mut client = Client::clean(&mut world, "c", version);
        for _ in 0..8 {
            world.advance(Duration::from_secs(11));
            client.send(&mut world, &Packet::Pingreq);
        }
        assert_eq!(client.received(&mut world), vec![Got::Pingresp; 8]);
        world.advance(Duration::from_secs(3));
        assert_eq!(client.received(&mut world), disconnected(version, ReasonCode::MaximumConnectTime));
        assert!(world.is_closed(client.socket));
    }
    let by = |seconds| RegisterModifiersM5::default().max_connection_lifetime(Duration::from_secs(seconds));
    for (asked, expected) in [(10, 10), (600, 90)] {
        let answers = Answers::default().auth_on_register_m5(move |_, _| Answer::Ok(by(asked)));
        let mut world = World::new(1, limited(), || NoHooks.hook(Script::new(answers.clone())));
        let client = Client::clean(&mut world, "c", V5);
        world.advance(Duration::from_millis(expected * 1000 - 100));
        assert!(!world.is_closed(client.socket));
        world.advance(Duration::from_millis(200));
        assert!(world.is_closed(client.socket), "the shorter of {asked} and 90 seconds");
    }
}

#[test]
fn connack_has_what_hooks_set() {
    let two = std::num::NonZeroU16::new(2).expect("two is not zero");
    let size = std::num::NonZeroU32::new(500).expect("so is this");
    let modifiers = RegisterModifiersM5::default()
        .receive_maximum(two)
        .maximum_packet_size(size)
        .topic_alias_maximum(0_u16)
        .maximum_qos(QoS::AtMostOnce)
        .retain_available(false)
        .wildcard_subscription_available(false)
        .shared_subscription_available(false)
        .subscription_identifiers_available(false)
        .response_information("answers/c")
        .reason_string("welcome")
        .user_property("region", "eu")
        .authentication_data(bytes::Bytes::from_static(b"never sent: no method"));
    let asks = ConnectOptions::clean(V5).with(|properties| properties.request_response_information = true);
    let pairs = [("region".to_owned(), "eu".to_owned())];
    let expected = ConnackProperties {
        receive_maximum: Some(2),
        maximum_qos: Some(QoS::AtMostOnce),
        retain_available: Some(false),
        maximum_packet_size: Some(500),
        wildcard_available: Some(false),
        subscription_ids_available: Some(false),
        shared_available: Some(false),
        response_information: Some("answers/c"),
        reason_string: Some("welcome"),
        user: (&pairs[..]).into(),
        ..ConnackProperties::default()
    };
    assert_eq!(set_by_hook(modifiers.clone(), asks), expected);
    // [MQTT-3.1.2-28]: not unless it was asked for.
    assert_eq!(set_by_hook(modifiers, ConnectOptions::clean(V5)).response_information, None);
}

/// [MQTT-3.2.2-19], [MQTT-3.2.2-20]
#[test]
fn reason_strings_are_left_out_if_the_client_takes_no_packet_of_that_size() {
    let modifiers = RegisterModifiersM5::default().reason_string("r".repeat(200)).user_property("k", "v".repeat(200));
    let takes = |size| ConnectOptions::clean(V5).with(|properties| properties.maximum_packet_size = Some(size));
    let both = set_by_hook(modifiers.clone(), takes(1000));
    assert!(both.reason_string.is_some() && !both.user.is_empty());
    let one = set_by_hook(modifiers.clone(), takes(300));
    assert!(one.reason_string.is_some() && one.user.is_empty());
    let none = set_by_hook(modifiers, takes(100));
    assert_eq!((none.reason_string, none.receive_maximum), (None, Some(1024)));

    let refusal = ConnectRefusalM5::default().reason_string("no".repeat(100)).user_property("k", "v");
    let answers = Answers::default().auth_on_register_m5(move |_, _| Answer::Error(refusal.clone()));
    let mut world = World::new(1, open_config(), || NoHooks.hook(Script::new(answers.clone())));
    for (size, said) in [(1000, true), (100, false)] {
        let mut client = Client::send_connect(&mut world, 0, "c", takes(size));
        assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: ReasonCode::NotAuthorized }]);
        assert_eq!(client.connack().properties.reason_string.is_some(), said);
        assert!(client.longest <= size as usize);
    }
}

/// [MQTT-3.1.2-24]: a client that can take no packet is closed; its session comes and goes as the lifecycle wants it.
#[test]
fn no_packet_is_larger_than_the_client_takes() {
    let takes = |size| ConnectOptions::kept(V5).with(|properties| properties.maximum_packet_size = Some(size));
    for shards in [1, 2, 4] {
        let strict = config(|config| config.session.allow_wildcards_in_identity = false);
        let mut world = World::new(shards, strict, || NoHooks.hook(Script::new(Answers::default())));
        for (id, size, code) in
            [("c", 15, None), ("c+", 4, None), ("c+", 5, Some(ReasonCode::ClientIdentifierNotValid))]
        {
            let mut client = Client::send_connect(&mut world, 0, id, takes(size));
            let expected: Vec<_> = code.map(|code| Got::Connack { present: false, code }).into_iter().collect();
            assert_eq!(client.received(&mut world), expected, "{id} {size}");
            assert!(world.is_closed(client.socket));
        }

        let many: Vec<_> = (0..30).map(|number| format!("filter/{number}")).collect();
        let filters: Vec<_> = many.iter().map(|filter| filter.as_str()).collect();
        let options = SubscriptionOptions::default();
        let subscribe: Vec<_> = filters.iter().map(|&filter| SubscribeFilter { filter, options }).collect();
        for asks in [
            Packet::Subscribe(Subscribe::new(packet_id(1), &subscribe[..])),
            Packet::Unsubscribe(Unsubscribe::new(packet_id(1), &filters[..])),
        ] {
            let (mut client, _) = Client::connect(&mut world, 0, "c", takes(30));
            client.send(&mut world, &asks);
            assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::PacketTooLarge)]);
            assert!(world.is_closed(client.socket) && client.longest <= 30);
        }
    }
}

/// lifecycle.md 2: the reason code of a refusal by `auth_on_register`, by version.
#[test]
fn a_hook_refuses_with_the_code_of_its_choice() {
    let v3 = [
        (ConnectRefusal::NotAuthorized, ReasonCode::NotAuthorized),
        (ConnectRefusal::InvalidCredentials, ReasonCode::BadUserNameOrPassword),
        (ConnectRefusal::IdentifierRejected, ReasonCode::ClientIdentifierNotValid),
        (ConnectRefusal::Unavailable, ReasonCode::ServerUnavailable),
    ];
    for (refusal, code) in v3 {
        let answers = Answers::default().auth_on_register(move |_, _| Answer::Error(refusal));
        let mut world = World::new(2, open_config(), || NoHooks.hook(Script::new(answers.clone())));
        for version in [V31, V311] {
            let mut client = Client::send_connect(&mut world, 0, "c", ConnectOptions::kept(version));
            assert_eq!(client.received(&mut world), [Got::Connack { present: false, code }]);
            assert!(world.is_closed(client.socket));
        }
    }
    for &code in ConnectCode::ALL {
        let refusal = ConnectRefusalM5::default().code(code).server_reference("elsewhere").user_property("k", "v");
        let answers = Answers::default().auth_on_register_m5(move |_, _| Answer::Error(refusal.clone()));
        let mut world = World::new(2, open_config(), || NoHooks.hook(Script::new(answers.clone())));
        let mut client = Client::send_connect(&mut world, 0, "c", ConnectOptions::kept(V5));
        assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: code.into() }]);
        let said = client.connack().properties;
        assert_eq!((said.server_reference, said.user.iter().count()), (Some("elsewhere"), 1));
    }
}

/// [MQTT-3.2.2-2], [MQTT-3.2.2-3]
#[test]
fn session_present_is_set_if_there_is_a_session() {
    for mut world in worlds() {
        for version in [V311, V5] {
            let id = format!("{version:?}");
            for expected in [false, true, true] {
                let (client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(version));
                assert_eq!(present, expected);
                client.disconnect(&mut world);
            }
            let (_, present) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(version));
            assert!(!present);
            let (_, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(version));
            assert!(!present, "a clean session leaves nothing");
        }
    }
}
