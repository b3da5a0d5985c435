//! Enhanced authentication: MQTT 5.0 section 4.12, lifecycle.md section 6.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use moormq::codec::{Auth, ConnectProperties, Disconnect, Packet, QoS, ReasonCode};
use moormq::hooks::{
    Answer, AuthContinue, AuthStage, AuthStep, AuthSuccess, Chain, ConnectCode, ConnectRefusalM5, Linked, NoHooks,
    RegisterModifiersM5,
};

use crate::client::{Client, ConnectOptions, V5, id_owned_by, publish};
use crate::received::Got;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

const CONTINUE: ReasonCode = ReasonCode::ContinueAuthentication;

/// A method that asks `rounds` questions; each answer must be the number of its round.
fn method(rounds: u8) -> Answers {
    Answers::default().on_auth_m5(move |_, exchange| {
        if exchange.method != "COUNT" {
            return Answer::Next;
        }
        let round = exchange.data.and_then(|data| data.first().copied()).unwrap_or(0);
        match (exchange.stage, round) {
            (_, b'!') => Answer::Error(ConnectRefusalM5::default().code(ConnectCode::Banned).reason_string("you")),
            (AuthStage::Connect | AuthStage::Reauthenticate, _) | (AuthStage::Continue, _) if round < rounds => {
                let question = AuthContinue::default().data(Bytes::copy_from_slice(&[round + 1])).reason_string("more");
                Answer::Ok(AuthStep::Continue(question))
            }
            _ => Answer::Ok(AuthStep::Success(
                AuthSuccess::default().data(Bytes::from_static(b"done")).username("counted").reason_string("well"),
            )),
        }
    })
}

fn options(method: &'static str) -> ConnectOptions<'static> {
    ConnectOptions::clean(V5).with(|properties| properties.authentication_method = Some(method))
}

fn each(answers: &Answers, mut check: impl FnMut(&mut Hooked, &Script)) {
    for shards in [1, 2, 4] {
        let script = Script::new(answers.clone());
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        check(&mut world, &script);
    }
}

/// A client that has answered all questions, on the last shard.
fn authenticated(world: &mut Hooked, name: &str, options: ConnectOptions<'_>) -> Client {
    let id = id_owned_by(world, world.shards.len() - 1, name);
    let mut client = Client::send_connect(world, 0, &id, options);
    assert_eq!(client.received(world), [Got::Auth(CONTINUE, vec![1])]);
    client.auth(world, CONTINUE, "COUNT", &[1]);
    assert_eq!(client.received(world), [Got::Auth(CONTINUE, vec![2])]);
    client.auth(world, CONTINUE, "COUNT", &[2]);
    assert_eq!(client.received(world), [Got::Connack { present: false, code: ReasonCode::Success }]);
    client
}

#[test]
fn an_exchange_ends_with_a_connack_with_the_last_data() {
    each(&method(2), |world, script| {
        let client = authenticated(world, "c", options("COUNT"));
        let connack = client.connack().properties;
        let expected = (Some("COUNT"), Some(&b"done"[..]), Some("well"));
        assert_eq!((connack.authentication_method, connack.authentication_data, connack.reason_string), expected);
        let asked: Vec<_> =
            script.log.all().into_iter().filter_map(|line| Some(line.split_once("? ")?.1.to_owned())).collect();
        assert_eq!(asked, ["on_auth_m5", "on_auth_m5", "on_auth_m5", "auth_on_register_m5"]);
        assert_eq!(world.shard_of(client.socket), Some(world.shards.len() - 1));
    });
}

/// `auth_on_register_m5` follows, must agree, and knows the user name that the exchange settled.
#[test]
fn both_hooks_must_accept() {
    let answers = method(0).auth_on_register_m5(|client, _| match client.username.as_deref() {
        Some("counted") => Answer::Ok(RegisterModifiersM5::default().authentication_data(Bytes::from_static(b"later"))),
        _ => Answer::Error(ConnectRefusalM5::default().code(ConnectCode::NotAuthorized)),
    });
    each(&answers, |world, _| {
        let client = Client::connect(world, 0, "c", options("COUNT")).0;
        assert_eq!(client.connack().properties.authentication_data, Some(&b"later"[..]));
        let mut client = Client::send_connect(world, 0, "c", ConnectOptions::clean(V5));
        assert_eq!(client.received(world), [Got::Connack { present: false, code: ReasonCode::NotAuthorized }]);
    });
    let refusing = method(0).auth_on_register_m5(|_, _| Answer::Error(ConnectRefusalM5::default()));
    each(&refusing, |world, _| {
        let mut client = Client::send_connect(world, 0, "c", options("COUNT"));
        assert_eq!(client.received(world), [Got::Connack { present: false, code: ReasonCode::NotAuthorized }]);
        assert_eq!(client.connack().properties.authentication_method, Some("COUNT"));
    });
}

/// Failure before CONNACK is a CONNACK with the reason code.
#[test]
fn a_failure_before_connack_is_a_connack_with_the_code() {
    each(&method(2), |world, script| {
        let refused = |code| [Got::Connack { present: false, code }];
        let mut client = Client::send_connect(world, 0, "c", options("UNKNOWN"));
        assert_eq!(client.received(world), refused(ReasonCode::BadAuthenticationMethod));
        let data =
            |data: &'static [u8]| options("COUNT").with(|properties| properties.authentication_data = Some(data));
        let mut client = Client::send_connect(world, 0, "c", data(b"!"));
        assert_eq!(client.received(world), refused(ReasonCode::Banned));
        assert_eq!(client.connack().properties.reason_string, Some("you"));
        let mut client = Client::send_connect(world, 0, "c", options("COUNT"));
        client.auth(world, CONTINUE, "COUNT", b"!");
        assert_eq!(client.received(world)[1..], refused(ReasonCode::Banned));
        assert!(world.is_closed(client.socket));
        // Data without method: 0x82.
        let orphan = ConnectProperties { authentication_data: Some(b"x"), ..ConnectProperties::default() };
        let mut client =
            Client::send_connect(world, 0, "c", ConnectOptions { properties: orphan, ..ConnectOptions::clean(V5) });
        assert_eq!(client.received(world), refused(ReasonCode::ProtocolError));
        assert_eq!(script.log.of("c"), [""; 0]);
    });
}

/// [MQTT-3.1.2-30], [MQTT-4.12.0-3], [MQTT-4.12.0-5]: only AUTH with the same method, or DISCONNECT.
#[test]
fn nothing_else_may_be_sent_before_the_end_of_the_exchange() {
    let wrong = [
        Packet::Pingreq,
        Packet::Publish(publish("t", "x", QoS::AtMostOnce, 0)),
        Packet::Connect(moormq::codec::Connect::new(V5, "c")),
        Packet::Auth(Auth::new(CONTINUE, "OTHER")),
        Packet::Auth(Auth::new(ReasonCode::ReAuthenticate, "COUNT")),
    ];
    each(&method(2), |world, _| {
        for packet in wrong {
            let mut client = Client::send_connect(world, 0, "c", options("COUNT"));
            client.send(world, &packet);
            let refused = Got::Connack { present: false, code: ReasonCode::ProtocolError };
            assert_eq!(client.received(world)[1..], [refused], "{packet:?}");
            assert!(world.is_closed(client.socket));
        }
        let mut client = Client::send_connect(world, 0, "c", options("COUNT"));
        client.send(world, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        assert_eq!(client.received(world)[1..], []);
        assert!(world.is_closed(client.socket));
    });
}

/// lifecycle.md 6: the exchange has a deadline of its own.
#[test]
fn an_exchange_takes_no_longer_than_it_may() {
    each(&method(2), |world, _| {
        let mut client = Client::send_connect(world, 0, "c", options("COUNT"));
        world.advance(Duration::from_secs(6));
        client.auth(world, CONTINUE, "COUNT", &[1]);
        world.advance(Duration::from_millis(3900));
        assert!(!world.is_closed(client.socket));
        world.advance(Duration::from_millis(200));
        assert!(world.is_closed(client.socket));
        let refused = Got::Connack { present: false, code: ReasonCode::NotAuthorized };
        assert_eq!(client.received(world).last(), Some(&refused));
    });
    let gate = Gate::default();
    let slow = gate.clone();
    let answers = method(0).auth_on_register_m5(move |_, _| slow.later(Answer::ok));
    let patient = config(|config| config.hooks.later_deadline = Duration::from_secs(60));
    let mut world = World::new(2, patient, || NoHooks.hook(Script::new(answers.clone())));
    let mut client = Client::send_connect(&mut world, 0, "c", options("COUNT"));
    world.advance(Duration::from_secs(30));
    gate.open();
    world.settle();
    assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: ReasonCode::Success }]);
}

/// Section 4.12.1: normal traffic continues; success is AUTH 0x00.
#[test]
fn a_client_may_authenticate_again() {
    each(&method(2), |world, _| {
        let mut client = authenticated(world, "c", options("COUNT"));
        for _ in 0..2 {
            client.auth(world, ReasonCode::ReAuthenticate, "COUNT", &[]);
            client.send(world, &Packet::Pingreq);
            client.auth(world, CONTINUE, "COUNT", &[1]);
            client.auth(world, CONTINUE, "COUNT", &[2]);
            let expected = [
                Got::Auth(CONTINUE, vec![1]),
                Got::Pingresp,
                Got::Auth(CONTINUE, vec![2]),
                Got::Auth(ReasonCode::Success, b"done".to_vec()),
            ];
            assert_eq!(client.received(world), expected);
        }
        // The exchange is over: a further answer belongs to none.
        client.auth(world, CONTINUE, "COUNT", &[1]);
        assert_eq!(client.received(world), [Got::Disconnect(ReasonCode::ProtocolError)]);
    });
}

/// lifecycle.md 6: the exchange has a deadline of its own, however often the client sends something, or begins anew.
#[test]
fn authenticating_again_takes_no_longer_than_it_may() {
    each(&method(2), |world, script| {
        let mut watcher = Client::clean(world, "watcher", crate::client::V311);
        watcher.subscribed(world, "w", QoS::AtMostOnce);
        for again in [CONTINUE, ReasonCode::ReAuthenticate] {
            let mut client = authenticated(world, "c", options("COUNT").will("w"));
            world.advance(Duration::from_secs(60));
            client.auth(world, ReasonCode::ReAuthenticate, "COUNT", &[]);
            world.advance(Duration::from_secs(6));
            client.auth(world, again, "COUNT", &[1]);
            client.send(world, &Packet::Pingreq);
            world.advance(Duration::from_millis(3900));
            assert!(!world.is_closed(client.socket));
            script.log.all();
            world.advance(Duration::from_millis(200));
            assert!(world.is_closed(client.socket));
            let ended = Got::Disconnect(ReasonCode::NotAuthorized);
            assert_eq!(client.received(world).last(), Some(&ended), "{again:?}");
            assert_eq!(watcher.texts(world), ["gone"]);
            let lines = script.log.all();
            assert!(lines.iter().any(|line| line.ends_with("gone NotAuthorized")), "{lines:?}");
        }
        // What was finished in time does not end anything.
        let client = authenticated(world, "c", options("COUNT"));
        client.auth(world, ReasonCode::ReAuthenticate, "COUNT", &[]);
        client.auth(world, CONTINUE, "COUNT", &[2]);
        world.advance(Duration::from_secs(60));
        assert!(!world.is_closed(client.socket));
    });
}

/// lifecycle.md 6: failure is a DISCONNECT with the code, and the will is published. [MQTT-4.12.1-2]
#[test]
fn a_client_that_fails_to_authenticate_again_is_disconnected() {
    each(&method(2), |world, script| {
        let mut watcher = Client::clean(world, "watcher", crate::client::V311);
        watcher.subscribed(world, "w", QoS::AtMostOnce);
        let cases: [(&str, &[u8], ReasonCode, ReasonCode); 4] = [
            // DISCONNECT has no code Banned [MQTT-3.14.2-1].
            ("COUNT", b"!", ReasonCode::ReAuthenticate, ReasonCode::NotAuthorized),
            ("OTHER", b"", ReasonCode::ReAuthenticate, ReasonCode::ProtocolError),
            ("COUNT", b"", CONTINUE, ReasonCode::ProtocolError),
            ("OTHER", b"", CONTINUE, ReasonCode::ProtocolError),
        ];
        for (method, data, code, expected) in cases {
            let options = options("COUNT").will("w");
            let mut client = authenticated(world, "c", options);
            script.log.all();
            client.auth(world, code, method, data);
            assert_eq!(client.received(world), [Got::Disconnect(expected)], "{method} {code:?}");
            assert_eq!(watcher.texts(world), ["gone"]);
            let lines = script.log.all();
            let reason = if data == b"!" { "gone NotAuthorized" } else { "gone ProtocolError(ProtocolError)" };
            assert!(lines.iter().any(|line| line.ends_with(reason)), "{lines:?}");
        }
        let mut plain = Client::clean(world, "plain", V5);
        plain.auth(world, ReasonCode::ReAuthenticate, "COUNT", &[]);
        assert_eq!(plain.received(world), [Got::Disconnect(ReasonCode::ProtocolError)], "it never had a method");
    });
}

/// lifecycle.md 6: the hook may adjust username and limits.
#[test]
fn authenticating_again_may_change_the_session_settings() {
    let answers = Answers::default().on_auth_m5(|_, exchange| {
        let mut success = AuthSuccess::default();
        if exchange.stage == AuthStage::Reauthenticate {
            success = success
                .max_connection_lifetime(Duration::from_secs(40))
                .max_message_rate(NonZeroU32::MIN)
                .max_message_size(moormq::config::Limit::at_most(50))
                .username("other");
        }
        Answer::Ok(success.into())
    });
    let mortal = || config(|config| config.session.max_connection_lifetime = Some(Duration::from_secs(100)));
    let mut world = World::new(2, mortal(), || NoHooks.hook(Script::new(answers.clone())));
    let mut renew = |at: u64| {
        let mut client = Client::connect(&mut world, 0, "c", options("X")).0;
        world.advance(Duration::from_secs(at));
        client.auth(&mut world, ReasonCode::ReAuthenticate, "X", &[]);
        assert_eq!(client.received(&mut world), [Got::Auth(ReasonCode::Success, vec![])]);
        let mut lived = at * 1000;
        while !world.is_closed(client.socket) {
            world.advance(Duration::from_millis(500));
            lived += 500;
        }
        assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::MaximumConnectTime)]);
        lived
    };
    assert!((40_000..=41_000).contains(&renew(0)));
    assert!((60_000..=61_000).contains(&renew(20)), "from then on");
    assert!((100_000..=101_000).contains(&renew(90)), "or the listener's limit, if that is sooner");
    let mut client = Client::connect(&mut world, 0, "c", options("X")).0;
    client.auth(&mut world, ReasonCode::ReAuthenticate, "X", &[]);
    client.received(&mut world);
    world.send(client.socket, &[0x30, 49]);
    assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::PacketTooLarge)]);
}

#[test]
fn every_answer_may_come_later() {
    for shards in [1, 2] {
        let gate = Gate::default();
        let slow = gate.clone();
        let answers = Answers::default().on_auth_m5(move |_, exchange| {
            let last = exchange.stage != AuthStage::Connect;
            slow.later(move || match last {
                true => Answer::Ok(AuthSuccess::default().into()),
                false => Answer::Ok(AuthContinue::default().into()),
            })
        });
        let mut world = World::new(shards, open_config(), || NoHooks.hook(Script::new(answers.clone())));
        let open = |world: &mut Hooked| {
            gate.open();
            world.settle();
            gate.close();
        };
        let mut client = Client::send_connect(&mut world, 0, "c", options("X"));
        assert_eq!(client.received(&mut world), []);
        open(&mut world);
        assert_eq!(client.received(&mut world), [Got::Auth(CONTINUE, vec![])]);
        client.auth(&mut world, CONTINUE, "X", &[]);
        client.send(&mut world, &Packet::Pingreq);
        assert_eq!(client.received(&mut world), []);
        open(&mut world);
        assert_eq!(
            client.received(&mut world),
            [Got::Connack { present: false, code: ReasonCode::Success }, Got::Pingresp]
        );
        client.auth(&mut world, ReasonCode::ReAuthenticate, "X", &[]);
        client.send(&mut world, &Packet::Pingreq);
        open(&mut world);
        assert_eq!(client.received(&mut world), [Got::Auth(ReasonCode::Success, vec![]), Got::Pingresp]);
    }
}

/// [MQTT-3.1.2-29], [MQTT-3.15.2-2]
#[test]
fn reason_strings_are_left_out_without_request_problem_information() {
    each(&method(2), |world, _| {
        for (wants, size, expected) in [(true, 1000, Some("more")), (false, 1000, None), (true, 18, None)] {
            let options = options("COUNT").with(|properties| {
                properties.request_problem_information = wants;
                properties.maximum_packet_size = Some(size);
            });
            let mut client = Client::send_connect(world, 0, "c", options);
            assert_eq!(client.received(world), [Got::Auth(CONTINUE, vec![1])]);
            assert_eq!(client.reader.reason, expected);
            assert!(client.longest <= size as usize);
        }
    });
}
