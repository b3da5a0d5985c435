//! Every conditional hook has a deadline of its own, and an answer that counts when it has passed: lifecycle.md section 1.

use std::time::Duration;

use moormq::codec::{AckKind, QoS, ReasonCode};
use moormq::config::{Config, HookDeadline, OnDeadline};
use moormq::hooks::{Answer, Chain, Linked, NoHooks};

use crate::client::{Client, ConnectOptions, V5, V31, id_owned_by};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{World, config};

type Hooked = World<Linked<NoHooks, Script>>;

fn answer<M: Default + 'static, R: 'static>(never: bool) -> Answer<M, R> {
    if never { Answer::later(std::future::pending()) } else { Answer::ok() }
}

/// The hook `never` does not answer, all others agree.
fn answers(never: &'static str) -> Answers {
    Answers::default()
        .auth_on_register(move |_, _| answer(never == "auth_on_register"))
        .auth_on_register_m5(move |_, _| answer(never == "auth_on_register_m5"))
        .on_auth_m5(move |_, _| answer(never == "on_auth_m5"))
        .auth_on_publish(move |_, _| answer(never == "auth_on_publish"))
        .auth_on_publish_m5(move |_, _| answer(never == "auth_on_publish_m5"))
        .auth_on_subscribe(move |_, _| answer(never == "auth_on_subscribe"))
        .auth_on_subscribe_m5(move |_, _| answer(never == "auth_on_subscribe_m5"))
        .on_unsubscribe(move |_, _| answer(never == "on_unsubscribe"))
        .on_unsubscribe_m5(move |_, _| answer(never == "on_unsubscribe_m5"))
}

/// Two seconds and this answer for `hook`; a minute and the other answer for all others.
fn own_deadline(hook: &'static str, at_deadline: OnDeadline) -> impl Fn(&mut Config) {
    move |config| {
        config.hooks.later_deadline = Duration::from_secs(60);
        config.hooks.on_deadline = match at_deadline {
            OnDeadline::Allow => OnDeadline::Refuse,
            OnDeadline::Refuse => OnDeadline::Allow,
        };
        config.hooks.each = vec![HookDeadline {
            name: hook.to_owned(),
            later_deadline: Some(Duration::from_secs(2)),
            on_deadline: Some(at_deadline),
        }];
    }
}

/// Runs `check` for `hook` with both answers, on 1, 2 and 4 shards. It is given whether the client is to pass.
fn each(hook: &'static str, mut check: impl FnMut(&mut Hooked, bool)) {
    for shards in [1, 2, 4] {
        for at_deadline in [OnDeadline::Allow, OnDeadline::Refuse] {
            let script = Script::new(answers(hook));
            let config = config(own_deadline(hook, at_deadline));
            let mut world = World::new(shards, config, || NoHooks.hook(script.clone()));
            check(&mut world, at_deadline == OnDeadline::Allow);
            let failures: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
            assert_eq!(failures, 1, "{hook} missed its deadline");
            let timeouts: u64 = world
                .shards
                .iter()
                .flat_map(|shard| shard.hook_reports())
                .map(|report| {
                    assert!(report.counts.timeouts == 0 || report.hook == hook);
                    report.counts.timeouts
                })
                .sum();
            assert_eq!(timeouts, 1, "{hook}");
        }
    }
}

/// The packets that `client` receives when the deadline passes, and not before.
fn at_the_deadline(world: &mut Hooked, client: &mut Client) -> Vec<Got> {
    world.advance(Duration::from_millis(1900));
    assert_eq!(client.received(world), []);
    world.advance(Duration::from_millis(200));
    client.received(world)
}

fn last(world: &Hooked) -> String {
    id_owned_by(world, world.shards.len() - 1, "c")
}

#[test]
fn of_auth_on_register() {
    for (hook, version) in [("auth_on_register", V31), ("auth_on_register_m5", V5)] {
        each(hook, |world, passes| {
            let id = last(world);
            let mut client = Client::send_connect(world, 0, &id, ConnectOptions::clean(version));
            let code = if passes { ReasonCode::Success } else { ReasonCode::ServerUnavailable };
            assert_eq!(at_the_deadline(world, &mut client), [Got::Connack { present: false, code }]);
            assert_eq!(world.is_closed(client.socket), !passes);
        });
    }
}

#[test]
fn of_on_auth_m5() {
    each("on_auth_m5", |world, passes| {
        let id = last(world);
        let options = ConnectOptions::clean(V5).with(|properties| properties.authentication_method = Some("M"));
        let mut client = Client::send_connect(world, 0, &id, options);
        let code = if passes { ReasonCode::Success } else { ReasonCode::ServerUnavailable };
        assert_eq!(at_the_deadline(world, &mut client), [Got::Connack { present: false, code }]);
    });
}

#[test]
fn of_auth_on_publish() {
    for (hook, version) in [("auth_on_publish", V31), ("auth_on_publish_m5", V5)] {
        each(hook, |world, passes| {
            let mut subscriber = Client::clean(world, "subscriber", version);
            subscriber.subscribed(world, "t", QoS::AtMostOnce);
            let id = last(world);
            let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(version)).0;
            client.publish(world, "t", "x", QoS::AtLeastOnce, 1);
            let code = if passes || version == V31 { ReasonCode::Success } else { ReasonCode::NotAuthorized };
            assert_eq!(at_the_deadline(world, &mut client), [Got::Ack(AckKind::Puback, 1, code)]);
            assert_eq!(subscriber.texts(world).len(), usize::from(passes));
        });
    }
}

/// A will is put to the same hooks: if it is refused, its client is.
#[test]
fn of_auth_on_publish_for_a_will() {
    for (hook, version) in [("auth_on_publish", V31), ("auth_on_publish_m5", V5)] {
        each(hook, |world, passes| {
            let id = last(world);
            let mut client = Client::send_connect(world, 0, &id, ConnectOptions::clean(version).will("w"));
            let code = if passes { ReasonCode::Success } else { ReasonCode::ServerUnavailable };
            assert_eq!(at_the_deadline(world, &mut client), [Got::Connack { present: false, code }]);
        });
    }
}

#[test]
fn of_auth_on_subscribe() {
    for (hook, version) in [("auth_on_subscribe", V31), ("auth_on_subscribe_m5", V5)] {
        each(hook, |world, passes| {
            let id = last(world);
            let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(version)).0;
            client.subscribe(world, "t", QoS::AtLeastOnce);
            let code = match passes {
                true => ReasonCode::GrantedQoS1,
                false if version == V5 => ReasonCode::NotAuthorized,
                false => ReasonCode::UnspecifiedError,
            };
            assert_eq!(at_the_deadline(world, &mut client), [Got::Suback(1, vec![code])]);
        });
    }
}

/// It cannot refuse: the filters stay as they are, whatever is set.
#[test]
fn of_on_unsubscribe() {
    for (hook, version) in [("on_unsubscribe", V31), ("on_unsubscribe_m5", V5)] {
        each(hook, |world, _| {
            let id = last(world);
            let mut client = Client::connect(world, 0, &id, ConnectOptions::clean(version)).0;
            client.subscribed(world, "t", QoS::AtLeastOnce);
            client.unsubscribe(world, &["t"]);
            let codes = Vec::from_iter((version == V5).then_some(ReasonCode::Success));
            assert_eq!(at_the_deadline(world, &mut client), [Got::Unsuback(2, codes)]);
            client.publish(world, "t", "x", QoS::AtMostOnce, 0);
            assert_eq!(client.received(world), []);
        });
    }
}
