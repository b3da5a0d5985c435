//! Answers that come later and write down something for the session: lifecycle.md section 1.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moormq::client::EndReason;
use moormq::codec::{AckKind, ProtocolVersion, QoS, ReasonCode};
use moormq::hooks::{
    Answer, Boxed, Chain, ConnectRefusal, Context, Hook, Linked, NoHooks, Notice, PublishModifiers, PublishRefusal,
    PublishRequest, Published, Register, RegisterModifiers, SubscribeModifiers, SubscribeRefusal, SubscribeRequest,
    Subscribed, UnsubscribeModifiers, UnsubscribeRequest, Unsubscribed, V3Only,
};

use crate::client::{Client, ConnectOptions, V5, V31, V311, id_owned_by};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::Gate;
use crate::world::{World, open_config};

/// Answers later what it is asked about, and writes that down in the state; records what is written there whenever it is told of something.
#[derive(Clone, Default)]
struct Notes {
    gate: Gate,
    log: Arc<Mutex<Vec<String>>>,
    /// The question to which it has no answer.
    never: Option<&'static str>,
    /// The question to which its answer panics when it is made.
    panics: Option<&'static str>,
}

impl Notes {
    fn ask<M: Default + 'static, R: 'static>(
        &self,
        cx: &mut Context<'_, Vec<&'static str>>,
        about: &'static str,
    ) -> Answer<M, R> {
        let (gate, never, panics) = (self.gate.clone(), self.never == Some(about), self.panics == Some(about));
        let future = async move {
            gate.opened().await;
            if never {
                pending::<()>().await;
            }
        };
        cx.later(future, move |state, ()| {
            assert!(!panics, "as the test wants it");
            state.push(about);
            Answer::ok()
        })
    }

    fn note(&self, when: &str, cx: &mut Notice<'_, Vec<&'static str>>) {
        let line = format!("{when}: {}", cx.state().join(" "));
        self.log.lock().expect("no test panics while it writes").push(line);
    }

    /// What was recorded since the last time.
    fn written(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().expect("no test panics while it writes"))
    }
}

impl Hook for Notes {
    type State = Vec<&'static str>;

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        self.ask(cx, "register")
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        self.ask(cx, if publish.is_will { "will" } else { "publish" })
    }

    fn auth_on_subscribe(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        _: &SubscribeRequest<'_>,
    ) -> Answer<SubscribeModifiers, SubscribeRefusal> {
        self.ask(cx, "subscribe")
    }

    fn on_unsubscribe(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        _: &UnsubscribeRequest<'_>,
    ) -> Answer<UnsubscribeModifiers, std::convert::Infallible> {
        self.ask(cx, "unsubscribe")
    }

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, Self::State>, _: bool) {
        self.note("wakeup", cx);
    }

    fn on_publish(&mut self, cx: &mut Notice<'_, Self::State>, _: &Published<'_>) {
        self.note("publish", cx);
    }

    fn on_subscribe(&mut self, cx: &mut Notice<'_, Self::State>, _: &Subscribed<'_>) {
        self.note("subscribe", cx);
    }

    fn on_topic_unsubscribed(&mut self, cx: &mut Notice<'_, Self::State>, unsubscribed: Unsubscribed<'_>) {
        if matches!(unsubscribed, Unsubscribed::Topics(_)) {
            self.note("unsubscribed", cx);
        }
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, Self::State>, _: EndReason) {
        self.note("offline", cx);
    }
}

/// A link in front, with a state of its own.
#[derive(Clone)]
struct Front;

impl Hook for Front {
    type State = u64;
}

type Hooked = World<Linked<Linked<NoHooks, Front>, Boxed<Vec<&'static str>>>>;

fn hooked(shards: usize, notes: &Notes) -> Hooked {
    World::new(shards, open_config(), || NoHooks.hook(Front).hook(Boxed::new(V3Only(notes.clone()))))
}

/// Opens the gate, and closes it again when everything has happened.
fn answer(world: &mut Hooked, notes: &Notes) {
    notes.gate.open();
    world.settle();
    notes.gate.close();
}

fn each() -> impl Iterator<Item = (usize, ProtocolVersion)> {
    [1, 2, 4].into_iter().flat_map(|shards| [V31, V311, V5].map(|version| (shards, version)))
}

const CONNECTED: Got = Got::Connack { present: false, code: ReasonCode::Success };

/// The client is handed to another shard when it is accepted, and its session moves to a third while a hook has not answered.
#[test]
fn what_a_later_answer_writes_is_there_before_the_packet_goes_on() {
    for (shards, version) in each() {
        let notes = Notes::default();
        let mut world = hooked(shards, &notes);
        let id = id_owned_by(&world, shards - 1, "c");
        let options = ConnectOptions::kept(version).will("last");
        let mut client = Client::send_connect(&mut world, 0, &id, options);
        assert_eq!((client.received(&mut world), notes.written()), (vec![], vec![]));
        answer(&mut world, &notes);
        assert_eq!(client.received(&mut world), [CONNECTED]);
        assert_eq!(world.shard_of(client.socket), Some(shards - 1));
        assert_eq!(notes.written(), ["wakeup: register will"]);

        client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        client.subscribe(&mut world, "t", QoS::AtLeastOnce);
        let code = if version == V5 { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        move_slot(&mut world, &id, 0);
        world.settle();
        assert_eq!((client.received(&mut world), notes.written()), (vec![], vec![]));
        answer(&mut world, &notes);
        assert_eq!(
            client.received(&mut world),
            [Got::Ack(AckKind::Puback, 1, code), Got::Suback(1, vec![ReasonCode::GrantedQoS1])]
        );
        assert_eq!(notes.written(), ["publish: register will publish", "subscribe: register will publish subscribe"]);
        world.advance(Duration::from_secs(1));
        assert_eq!(world.shard_of(client.socket), Some(0), "on {shards} shards");
        client.unsubscribe(&mut world, &["t"]);
        answer(&mut world, &notes);
        assert_eq!(notes.written(), ["unsubscribed: register will publish subscribe unsubscribe"]);
        client.disconnect(&mut world);
        assert_eq!(notes.written(), ["offline: register will publish subscribe unsubscribe"]);
    }
}

/// Who was taken over, or has left before it was accepted, is none to write down anything for. What another one sent before it left is served,
/// and so written.
#[test]
fn what_an_answer_would_have_written_goes_with_its_connection() {
    for (shards, version) in each() {
        let notes = Notes::default();
        let mut world = hooked(shards, &notes);
        let id = id_owned_by(&world, shards - 1, "c");
        let connect = |world: &mut Hooked| Client::send_connect(world, 0, &id, ConnectOptions::kept(version));
        let early = connect(&mut world);
        world.hang_up(early.socket);
        answer(&mut world, &notes);
        assert_eq!(notes.written(), [""; 0]);

        for what in ["publish", "subscribe"] {
            for is_taken_over in [false, true] {
                let mut old = connect(&mut world);
                answer(&mut world, &notes);
                assert_eq!(notes.written(), ["wakeup: register"], "{what}");
                match what {
                    "publish" => old.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1),
                    _ => old.subscribe(&mut world, "t", QoS::AtLeastOnce),
                }
                if is_taken_over {
                    let new = connect(&mut world);
                    assert!(!world.is_closed(old.socket), "nobody has accepted the newcomer");
                    answer(&mut world, &notes);
                    assert!(world.is_closed(old.socket));
                    let lines = notes.written();
                    world.hang_up(new.socket);
                    assert_eq!(lines.last().map(String::as_str), Some("wakeup: register"), "{what}: {lines:?}");
                    assert_eq!(notes.written(), ["offline: register"], "{what}");
                } else {
                    world.hang_up(old.socket);
                    assert_eq!(notes.written(), [""; 0], "{what}");
                    answer(&mut world, &notes);
                    let expected = [format!("{what}: register {what}"), format!("offline: register {what}")];
                    assert_eq!(notes.written(), expected);
                }
            }
        }
    }
}

/// At the deadline the answer is given up, and what it would have written with it.
#[test]
fn an_answer_that_is_too_late_writes_nothing() {
    for (shards, version) in each() {
        let notes = Notes { never: Some("publish"), ..Notes::default() };
        notes.gate.open();
        let mut world = hooked(shards, &notes);
        let mut client = Client::on(&mut world, shards - 1, "c", ConnectOptions::kept(version));
        notes.written();
        client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        world.advance(Duration::from_millis(5100));
        if version == V311 {
            assert!(world.is_closed(client.socket));
        } else {
            let code = if version == V5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
            assert_eq!(client.received(&mut world), [Got::Ack(AckKind::Puback, 1, code)]);
            client.disconnect(&mut world);
        }
        assert_eq!(notes.written(), ["offline: register"]);
    }
}

#[test]
fn an_answer_that_panics_when_it_is_made_refuses() {
    for (shards, version) in each() {
        for (what, failures) in [("register", 1), ("publish", 1), ("subscribe", 1), ("unsubscribe", 1)] {
            let notes = Notes { panics: Some(what), ..Notes::default() };
            notes.gate.open();
            let mut world = hooked(shards, &notes);
            let id = id_owned_by(&world, shards - 1, "c");
            let (mut client, code) =
                (Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(version)), ReasonCode::NotAuthorized);
            let connected =
                Got::Connack { present: false, code: if what == "register" { code } else { ReasonCode::Success } };
            assert_eq!(client.received(&mut world), [connected], "{what}");
            match what {
                "publish" => {
                    client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
                    let code = if version == V5 { code } else { ReasonCode::Success };
                    let answered = Vec::from_iter((version != V311).then_some(Got::Ack(AckKind::Puback, 1, code)));
                    assert_eq!(
                        (client.received(&mut world), world.is_closed(client.socket)),
                        (answered, version == V311)
                    );
                }
                "subscribe" => {
                    client.subscribe(&mut world, "t", QoS::AtLeastOnce);
                    let code = if version == V5 { code } else { ReasonCode::UnspecifiedError };
                    assert_eq!(client.received(&mut world), [Got::Suback(1, vec![code])]);
                }
                "unsubscribe" => {
                    client.unsubscribe(&mut world, &["t"]);
                    assert!(
                        matches!(&client.received(&mut world)[..], [Got::Unsuback(2, _)]),
                        "nothing keeps it from that"
                    );
                }
                _ => {}
            }
            let counted: u64 = world.shards.iter().map(|shard| shard.counters().hook_failures).sum();
            assert_eq!(counted, failures, "{what}");
            let reports = world.shards.iter().flat_map(|shard| shard.hook_reports());
            let panics: u64 = reports.filter(|report| report.link == "Notes").map(|report| report.counts.panics).sum();
            assert_eq!(panics, failures, "{what}: each is counted once");
        }
    }
}
