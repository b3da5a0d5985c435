//! The answers of conditional hooks, and their effect: lifecycle.md sections 1 and 2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moormq::codec::{AckKind, Publish, PublishProperties, QoS, ReasonCode, SubscribeFilter, SubscriptionOptions};
use moormq::config::{Config, HookDeadline, OnDeadline, UnauthorizedPublish};
use moormq::hooks::{
    Answer, Chain, FilterGrant, Linked, NoHooks, PublishCode, PublishModifiers, PublishRefusal, PublishRefusalM5,
    SubscribeCode, SubscribeModifiers, SubscribeModifiersM5, SubscribeRefusal, SubscribeRefusalM5,
    UnsubscribeModifiers, UnsubscribeModifiersM5,
};

use crate::client::{Client, ConnectOptions, V5, V31, V311, acked, packet_id, publish};
use crate::received::Got;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, config, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

fn hooked(shards: usize, config: Config, script: &Script) -> Hooked {
    World::new(shards, config, || NoHooks.hook(script.clone()))
}

/// An answer of every conditional hook that may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Ok,
    Refuse,
    Next,
    Panic,
    LaterOk,
    LaterRefuse,
    LaterNext,
    LaterPanic,
    Never,
}

const ALL: [Say; 9] = [
    Say::Ok,
    Say::Refuse,
    Say::Next,
    Say::Panic,
    Say::LaterOk,
    Say::LaterRefuse,
    Say::LaterNext,
    Say::LaterPanic,
    Say::Never,
];

fn answer<M: Default + 'static, R: Default + 'static>(say: Say, gate: &Gate) -> Answer<M, R> {
    match say {
        Say::Ok => Answer::ok(),
        Say::Refuse => Answer::refuse(),
        Say::Next => Answer::Next,
        Say::Panic => panic!("as the test wants it"),
        Say::LaterOk => gate.later(Answer::ok),
        Say::LaterRefuse => gate.later(Answer::refuse),
        Say::LaterNext => gate.later(|| Answer::Next),
        Say::LaterPanic => gate.later(|| panic!("as the test wants it, later")),
        Say::Never => Answer::later(std::future::pending()),
    }
}

/// Runs `check` for each answer of the hooks that `make` builds. `check` is given whether the client may pass, with and
/// without anonymous clients. It opens the gate, or lets the deadline pass, with [`go_on`].
fn each_answer(
    make: fn(Say, Gate) -> Answers,
    change: fn(&mut Config),
    mut check: impl FnMut(&mut Hooked, Say, &Gate, bool),
) {
    for (shards, anonymous) in [(1, true), (2, true), (2, false)] {
        for say in ALL {
            let gate = Gate::default();
            let script = Script::new(make(say, gate.clone()));
            let mut config = config(change);
            config.allow_anonymous = anonymous;
            let mut world = hooked(shards, config, &script);
            let passes = match say {
                Say::Ok | Say::LaterOk => true,
                Say::Next | Say::LaterNext => anonymous,
                _ => false,
            };
            check(&mut world, say, &gate, passes);
            let failures: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
            let fails = matches!(say, Say::Panic | Say::LaterPanic | Say::Never);
            assert_eq!(failures, u64::from(fails), "{say:?}: each is counted once");
        }
    }
}

fn go_on(world: &mut Hooked, say: Say, gate: &Gate) {
    gate.open();
    world.advance(Duration::from_millis(if say == Say::Never { 5100 } else { 50 }));
}

fn registering(say: Say, gate: Gate) -> Answers {
    let other = gate.clone();
    let subject = |id: &str| id == "subject";
    Answers::default()
        .auth_on_register(move |client, _| match subject(&client.subscriber.client_id) {
            true => answer(say, &gate),
            false => Answer::ok(),
        })
        .auth_on_register_m5(move |client, _| match subject(&client.subscriber.client_id) {
            true => answer(say, &other),
            false => Answer::ok(),
        })
}

#[test]
fn every_answer_to_a_connect() {
    for version in [V31, V311, V5] {
        each_answer(
            registering,
            |_| {},
            |world, say, gate, passes| {
                let mut client = Client::send_connect(world, 0, "subject", ConnectOptions::clean(version));
                let bystander = Client::clean(world, "bystander", V311);
                go_on(world, say, gate);
                let code = match (passes, say) {
                    (true, _) => ReasonCode::Success,
                    // The client did nothing wrong: it may come again.
                    (false, Say::Never) => ReasonCode::ServerUnavailable,
                    (false, _) => ReasonCode::NotAuthorized,
                };
                assert_eq!(client.received(world), [Got::Connack { present: false, code }], "{say:?}");
                assert_eq!(world.is_closed(client.socket), !passes);
                assert!(!world.is_closed(bystander.socket));
            },
        );
    }
}

fn publishing(say: Say, gate: Gate) -> Answers {
    let other = gate.clone();
    Answers::default()
        .auth_on_register(|_, _| Answer::ok())
        .auth_on_register_m5(|_, _| Answer::ok())
        .auth_on_subscribe(|_, _| Answer::ok())
        .auth_on_publish(move |_, publish| if publish.topic == "t" { answer(say, &gate) } else { Answer::ok() })
        .auth_on_publish_m5(move |_, publish| if publish.topic == "t" { answer(say, &other) } else { Answer::ok() })
}

/// lifecycle.md 4: refused publish, per version and setting.
#[test]
fn every_answer_to_a_publish() {
    for version in [V31, V311, V5] {
        for policy in [UnauthorizedPublish::Disconnect, UnauthorizedPublish::Ignore] {
            let change: fn(&mut Config) = match policy {
                UnauthorizedPublish::Disconnect => |_| {},
                UnauthorizedPublish::Ignore => {
                    |config| config.session.unauthorized_publish = UnauthorizedPublish::Ignore
                }
            };
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                each_answer(publishing, change, |world, say, gate, passes| {
                    let last = world.shards.len() - 1;
                    let mut subscriber = Client::on(world, last, "subscriber", ConnectOptions::clean(V311));
                    subscriber.subscribed(world, "+", QoS::AtMostOnce);
                    let mut client = Client::clean(world, "subject", version);
                    client.publish(world, "t", "x", qos, 7);
                    // Packet order is kept for this client; others go on.
                    client.publish(world, "u", "behind", QoS::AtLeastOnce, 8);
                    go_on(world, say, gate);
                    let closes = !passes && version == V311 && policy == UnauthorizedPublish::Disconnect;
                    assert_eq!(world.is_closed(client.socket), closes, "{say:?}");
                    let mut routed = Vec::from_iter(passes.then_some("x"));
                    routed.extend((!closes).then_some("behind"));
                    assert_eq!(subscriber.texts(world), routed, "{say:?}");
                    if closes {
                        return assert_eq!(client.received(world), []);
                    }
                    let code = if passes || version != V5 { ReasonCode::Success } else { ReasonCode::NotAuthorized };
                    let mut answers = match qos {
                        QoS::AtMostOnce => vec![],
                        QoS::AtLeastOnce => vec![Got::Ack(AckKind::Puback, 7, code)],
                        QoS::ExactlyOnce => vec![Got::Ack(AckKind::Pubrec, 7, code)],
                    };
                    answers.push(acked(AckKind::Puback, 8));
                    assert_eq!(client.received(world), answers, "{say:?} {version:?}");
                    if qos == QoS::ExactlyOnce && code == ReasonCode::Success {
                        client.ack(world, AckKind::Pubrel, 7);
                        assert_eq!(client.received(world), [acked(AckKind::Pubcomp, 7)]);
                    }
                });
            }
        }
    }
}

fn subscribing(say: Say, gate: Gate) -> Answers {
    let other = gate.clone();
    Answers::default()
        .auth_on_register(|_, _| Answer::ok())
        .auth_on_register_m5(|_, _| Answer::ok())
        .auth_on_publish(|_, _| Answer::ok())
        .auth_on_subscribe(move |_, _| answer(say, &gate))
        .auth_on_subscribe_m5(move |_, _| answer(say, &other))
}

#[test]
fn every_answer_to_a_subscribe() {
    for version in [V31, V311, V5] {
        each_answer(
            subscribing,
            |_| {},
            |world, say, gate, passes| {
                let last = world.shards.len() - 1;
                let mut client = Client::on(world, last, "subject", ConnectOptions::clean(version));
                client.subscribe(world, "t", QoS::AtLeastOnce);
                client.send(world, &moormq::codec::Packet::Pingreq);
                go_on(world, say, gate);
                let code = match passes {
                    true => ReasonCode::GrantedQoS1,
                    false if version == V5 => ReasonCode::NotAuthorized,
                    false => ReasonCode::UnspecifiedError,
                };
                assert_eq!(client.received(world), [Got::Suback(1, vec![code]), Got::Pingresp], "{say:?}");
                let publisher = Client::clean(world, "publisher", V311);
                publisher.publish(world, "t", "x", QoS::AtMostOnce, 0);
                assert_eq!(client.texts(world).len(), usize::from(passes));
            },
        );
    }
}

/// The same for hooks that cannot refuse: they accept instead.
fn unsubscribe_answer<M: Default + 'static>(say: Say, gate: &Gate) -> Answer<M, std::convert::Infallible> {
    match say {
        Say::Ok | Say::Refuse => Answer::ok(),
        Say::LaterOk | Say::LaterRefuse => gate.later(Answer::ok),
        Say::Next => Answer::Next,
        Say::Panic => panic!("as the test wants it"),
        Say::LaterNext => gate.later(|| Answer::Next),
        Say::LaterPanic => gate.later(|| panic!("as the test wants it, later")),
        Say::Never => Answer::later(std::future::pending()),
    }
}

fn unsubscribing(say: Say, gate: Gate) -> Answers {
    let other = gate.clone();
    Answers::default()
        .auth_on_register(|_, _| Answer::ok())
        .auth_on_register_m5(|_, _| Answer::ok())
        .auth_on_subscribe(|_, _| Answer::ok())
        .auth_on_subscribe_m5(|_, _| Answer::ok())
        .on_unsubscribe(move |_, _| unsubscribe_answer(say, &gate))
        .on_unsubscribe_m5(move |_, _| unsubscribe_answer(say, &other))
}

#[test]
fn nothing_keeps_a_client_from_unsubscribing() {
    for version in [V311, V5] {
        each_answer(
            unsubscribing,
            |_| {},
            |world, say, gate, _| {
                let mut client = Client::clean(world, "subject", version);
                client.subscribed(world, "t", QoS::AtLeastOnce);
                client.unsubscribe(world, &["t"]);
                go_on(world, say, gate);
                let codes = Vec::from_iter((version == V5).then_some(ReasonCode::Success));
                assert_eq!(client.received(world), [Got::Unsuback(2, codes)], "{say:?}");
            },
        );
    }
}

/// lifecycle.md 1: what counts when the deadline has passed is set per hook.
#[test]
fn a_deadline_may_let_the_client_pass() {
    let never = Answers::default()
        .auth_on_register(|_, _| Answer::later(std::future::pending()))
        .auth_on_publish(|_, _| Answer::later(std::future::pending()));
    let own = |name: &str, on_deadline| HookDeadline {
        name: name.to_owned(),
        later_deadline: Some(Duration::from_secs(2)),
        on_deadline: Some(on_deadline),
    };
    let lenient = config(|config| {
        config.hooks.each =
            vec![own("auth_on_register", OnDeadline::Allow), own("auth_on_publish", OnDeadline::Refuse)];
    });
    let mut world = hooked(2, lenient, &Script::new(never));
    let mut client = Client::send_connect(&mut world, 0, "c", ConnectOptions::clean(V31));
    world.advance(Duration::from_millis(1900));
    assert_eq!(client.received(&mut world), []);
    world.advance(Duration::from_millis(200));
    assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: ReasonCode::Success }]);
    client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
    world.advance(Duration::from_millis(2100));
    assert_eq!(client.received(&mut world), [acked(AckKind::Puback, 1)]);
    let refused: u64 = world.shards.iter().map(|shard| shard.counters().publish_refused).sum();
    assert_eq!(refused, 1);
}

/// lifecycle.md 1: links are asked in order until one has an opinion, also when the answers come later.
#[test]
fn links_are_asked_in_order_until_one_decides() {
    for shards in [1, 2] {
        let gate = Gate::default();
        let asked = Arc::new(AtomicUsize::new(0));
        let link = |answer: fn(&Gate) -> Answer<PublishModifiers, PublishRefusal>| {
            let (gate, asked) = (gate.clone(), asked.clone());
            Script::new(Answers::default().auth_on_publish(move |_, _| {
                asked.fetch_add(1, Ordering::Relaxed);
                answer(&gate)
            }))
        };
        let links = [
            link(|_| Answer::Next),
            link(|gate| gate.later(|| Answer::Next)),
            link(|gate| gate.later(|| Answer::Ok(PublishModifiers::default().topic("renamed")))),
            link(|_| Answer::Error(PublishRefusal)),
        ];
        let [a, b, c, d] = links;
        let chain = || NoHooks.hook(a.clone()).hook(b.clone()).hook(c.clone()).hook(d.clone());
        let mut world = World::new(shards, open_config(), chain);
        let mut client = Client::clean(&mut world, "c", V311);
        client.subscribed(&mut world, "renamed", QoS::AtMostOnce);
        client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        assert_eq!((asked.load(Ordering::Relaxed), client.received(&mut world)), (2, vec![]));
        gate.open();
        world.settle();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "the last one is not asked");
        let received = client.received(&mut world);
        assert!(
            matches!(&received[..], [Got::Publish(received), Got::Ack(AckKind::Puback, 1, _)] if received.topic == "renamed")
        );
    }
}

/// A client that is gone is not waited for; one that comes back sends again.
#[test]
fn an_answer_that_comes_after_its_client_left_changes_nothing() {
    for shards in [1, 2] {
        let gate = Gate::default();
        let other = gate.clone();
        let answers = Answers::default()
            .auth_on_register(move |client, _| match &*client.subscriber.client_id {
                "waits" => gate.later(Answer::ok),
                _ => Answer::Next,
            })
            .auth_on_publish(move |_, publish| match publish.topic {
                "slow" => other.later(Answer::ok),
                _ => Answer::Next,
            });
        let script = Script::new(answers);
        let mut world = hooked(shards, open_config(), &script);
        let waits = Client::send_connect(&mut world, 0, "waits", ConnectOptions::clean(V311));
        let publisher = Client::connect(&mut world, 0, "publisher", ConnectOptions::kept(V311)).0;
        publisher.publish(&mut world, "slow", "x", QoS::ExactlyOnce, 1);
        world.hang_up(waits.socket);
        world.hang_up(publisher.socket);
        script.log.all();
        world.advance(Duration::from_secs(10));
        let lines = script.log.all();
        assert!(lines.iter().all(|line| !line.contains("waits") && !line.contains("slow")), "{lines:?}");
    }
}

#[test]
fn a_refusal_has_the_reason_string_of_the_hook() {
    let answers = Answers::default()
        .auth_on_publish_m5(|_, publish| {
            let code = PublishCode::ALL.iter().find(|code| format!("{code:?}") == publish.topic);
            Answer::Error(PublishRefusalM5::new(*code.expect("a topic that names a code")).reason_string("because"))
        })
        .auth_on_subscribe_m5(|_, subscribe| {
            let name = subscribe.filters[0].filter;
            let code = SubscribeCode::ALL.iter().find(|code| format!("{code:?}") == name).expect("a filter that does");
            Answer::Error(SubscribeRefusalM5::from(*code))
        });
    let mut world = hooked(2, open_config(), &Script::new(answers));
    for wants_reasons in [true, false] {
        let options =
            ConnectOptions::clean(V5).with(|properties| properties.request_problem_information = wants_reasons);
        let mut client = Client::connect(&mut world, 0, "c", options).0;
        for code in PublishCode::ALL {
            client.publish(&mut world, &format!("{code:?}"), "x", QoS::AtLeastOnce, 1);
            assert_eq!(client.received(&mut world), [Got::Ack(AckKind::Puback, 1, (*code).into())]);
            assert_eq!(client.reader.reason, wants_reasons.then_some("because"), "[MQTT-3.1.2-29]");
            client.publish(&mut world, &format!("{code:?}"), "x", QoS::ExactlyOnce, 2);
            assert_eq!(client.received(&mut world), [Got::Ack(AckKind::Pubrec, 2, (*code).into())]);
        }
        for code in SubscribeCode::ALL {
            client.subscribe(&mut world, &format!("{code:?}"), QoS::AtMostOnce);
            assert_eq!(client.received(&mut world), [Got::Suback(1, vec![(*code).into()])]);
        }
    }
}

/// lifecycle.md 2: per filter, in order: grant at a QoS, another filter, or refuse with a code.
#[test]
fn each_filter_gets_the_grant_of_its_place() {
    let grants = || {
        [
            FilterGrant::Grant,
            FilterGrant::GrantAt(QoS::AtMostOnce),
            FilterGrant::Replace { filter: "other".to_owned(), qos: QoS::AtLeastOnce },
            FilterGrant::Replace { filter: "a/#/b".to_owned(), qos: QoS::AtLeastOnce },
            FilterGrant::Refuse(SubscribeCode::QuotaExceeded),
        ]
    };
    let answers = Answers::default()
        .auth_on_subscribe(move |_, subscribe| match subscribe.filters.len() {
            1 => Answer::Error(SubscribeRefusal),
            _ => Answer::Ok(SubscribeModifiers::default().filters(grants())),
        })
        .auth_on_subscribe_m5(move |_, _| {
            Answer::Ok(SubscribeModifiersM5::default().filters(grants()).reason_string("as you like it"))
        })
        .on_unsubscribe(|_, _| Answer::Ok(UnsubscribeModifiers::default().filters(["other".to_owned()])))
        .on_unsubscribe_m5(|_, _| {
            let filters = ["other", "a", "too", "many"].map(str::to_owned);
            Answer::Ok(UnsubscribeModifiersM5::default().filters(filters).reason_string("gone"))
        });
    for shards in [1, 2] {
        let script = Script::new(answers.clone());
        let mut world = hooked(shards, open_config(), &script);
        for version in [V311, V5] {
            let mut client = Client::clean(&mut world, "c", version);
            let filters = ["a", "b", "c", "d", "e", "forgotten"]
                .map(|filter| SubscribeFilter { filter, options: SubscriptionOptions::new(QoS::ExactlyOnce) });
            let subscribe = moormq::codec::Subscribe::new(packet_id(1), &filters[..]);
            script.log.all();
            client.send(&mut world, &moormq::codec::Packet::Subscribe(subscribe));
            let or = |code| if version == V5 { code } else { ReasonCode::UnspecifiedError };
            let codes = vec![
                ReasonCode::GrantedQoS2,
                ReasonCode::Success,
                ReasonCode::GrantedQoS1,
                or(ReasonCode::TopicFilterInvalid),
                or(ReasonCode::QuotaExceeded),
                or(ReasonCode::NotAuthorized),
            ];
            assert_eq!(client.received(&mut world), [Got::Suback(1, codes)]);
            assert_eq!(client.reader.reason, (version == V5).then_some("as you like it"));
            assert_eq!(script.log.of("c"), ["subscribe a b other"]);
            client.unsubscribe(&mut world, &["c", "a"]);
            let codes = if version == V5 { vec![ReasonCode::Success; 2] } else { vec![] };
            assert_eq!(client.received(&mut world), [Got::Unsuback(2, codes)]);
            assert_eq!(script.log.of("c"), ["unsubscribed other a"]);
            client.publish_with(
                &mut world,
                Publish { properties: PublishProperties::default(), ..publish("b", "left", QoS::AtMostOnce, 0) },
            );
            assert_eq!(client.texts(&mut world), ["left"]);
        }
    }
}
