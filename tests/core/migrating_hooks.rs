//! Hooks and slots that move: no hook is called for a move, none is overtaken by one, and their state moves with the session.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use moormq::client::{EndReason, ExpiredReason, SubscriberId};
use moormq::codec::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode};
use moormq::hooks::{
    Answer, Chain, ConnectRefusal, Context, Hook, NoHooks, Notice, PublishModifiers, PublishRefusal, PublishRequest,
    Register, RegisterModifiers,
};
use moormq::shard::Request;

use crate::client::{Client, ConnectOptions, V5, connect_packet, id_owned_by};
use crate::migrating::{in_the_slot_of, move_slot};
use crate::received::Got;
use crate::script::Script;
use crate::world::{World, open_config};

/// No hook is called for a session that moves, with or without a connection.
#[test]
fn no_hook_is_called_for_a_move() {
    for shards in [2, 4] {
        let script = Script::default();
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        for (name, online) in [("here", true), ("away", false)] {
            let id = id_owned_by(&world, 0, name);
            let (mut client, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            client.subscribe(&mut world, "t", QoS::AtLeastOnce);
            client.received(&mut world);
            if !online {
                world.hang_up(client.socket);
            }
            script.log.all();
            for to in (1..shards).chain([0]) {
                move_slot(&mut world, &id, to);
                world.settle();
                assert_eq!((script.log.all(), client.received(&mut world)), (vec![], vec![]));
                assert_eq!(world.shard_of(client.socket), online.then_some(to));
            }
        }
    }
}

/// What hooks began for a subscriber id on one shard is done before anybody is registered for it on another.
#[test]
fn hooks_that_take_their_time_are_not_overtaken_by_a_move() {
    let (kept, clean) = (ConnectOptions::kept(ProtocolVersion::V5), ConnectOptions::clean(ProtocolVersion::V311));
    for (shards, step) in [2, 4].into_iter().flat_map(|shards| (0..10).map(move |step| (shards, step))) {
        for (options, what) in [(kept, "offline"), (clean, "gone")] {
            let slow = ["on_client_offline", "on_client_gone"];
            let script = Script { slow: slow.to_vec(), ..Script::default() };
            let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, 0, "slow");
            let mut new = Client::open(&mut world, 1, options.version);
            let (old, _) = Client::connect(&mut world, 0, &id, options);
            script.log.all();
            world.hang_up(old.socket);
            move_slot(&mut world, &id, 1);
            for _ in 0..step {
                world.carry_out_outputs();
                world.carry_messages();
                world.carry_transfer();
            }
            new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, options)));
            world.settle();
            world.advance(Duration::from_secs(1));
            let mut lines = script.log.of(&id);
            assert!(lines.iter().any(|line| line.starts_with(what)), "{lines:?}");
            assert_eq!(new.received(&mut world), [], "{what} is not done, after {step} steps on {shards} shards");
            script.gate.open();
            world.advance(Duration::from_secs(1));
            lines.extend(script.log.of(&id));
            let place = |end: &str| lines.iter().position(|line| line.ends_with(end)).expect("the hook was called");
            assert!(place("is done") < place("register"), "{lines:?}");
            let present = options.properties.session_expiry.is_some();
            assert_eq!(new.received(&mut world)[0], Got::Connack { present, code: ReasonCode::Success });
            assert_eq!(world.shard_of(new.socket), Some(1));
        }
    }
}

/// The last packet that a client sent is served when a hook is done, and ends its session: who waits for that on another shard goes on.
#[test]
fn a_session_that_ends_when_a_hook_is_done_is_not_waited_for() {
    let options = ConnectOptions::clean(V5);
    for shards in [2, 4] {
        let script = Script { slow: vec!["on_client_wakeup"], ..Script::default() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        let id = id_owned_by(&world, 0, "short");
        let [old, mut new] = [0, 1].map(|shard| Client::open(&mut world, shard, V5));
        old.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, options)));
        old.send_quietly(&mut world, &Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        world.settle();
        move_slot(&mut world, &id, 1);
        new.send_quietly(&mut world, &Packet::Connect(connect_packet(&id, options)));
        world.settle();
        assert_eq!(new.received(&mut world), [], "the old session is not done, on {shards} shards");
        script.gate.open();
        world.advance(Duration::from_secs(1));
        assert_eq!(new.received(&mut world)[0], Got::Connack { present: false, code: ReasonCode::Success });
        assert_eq!(world.shard_of(new.socket), Some(1), "of {shards}");
    }
}

/// Only so many sessions are on their way at a time: those that cannot leave yet do not take the places of others.
#[test]
fn hooks_that_take_their_time_keep_no_other_session_from_moving() {
    const SLOW: usize = 100;
    for shards in [2, 4] {
        let script = Script { slow: vec!["on_client_offline"], ..Script::default() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        let mut ids = in_the_slot_of(&id_owned_by(&world, 0, "many"), SLOW + 1);
        let quick = ids.pop().expect("one more than those that are slow");
        for id in &ids {
            let client = Client::connect(&mut world, 0, id, ConnectOptions::kept(V5)).0;
            world.hang_up(client.socket);
        }
        let client = Client::connect(&mut world, 0, &quick, ConnectOptions::kept(V5)).0;
        move_slot(&mut world, &quick, 1);
        world.settle();
        assert_eq!(world.shard_of(client.socket), Some(1), "of {shards}");
        assert_eq!(world.shards[0].resource_counts().sessions, SLOW, "they wait");
        script.gate.open();
        world.advance(Duration::from_secs(1));
        assert_eq!(world.shards[1].resource_counts().sessions, SLOW + 1);
    }
}

/// Session numbers rise with every connection, wherever the session is.
#[test]
fn the_numbers_of_a_clients_sessions_rise_wherever_it_connects() {
    for shards in [1, 2, 4] {
        let numbers = Numbers::default();
        let mut world = World::new(shards, open_config(), || NoHooks.hook(numbers.clone()));
        let id = id_owned_by(&world, 0, "wanderer");
        for round in 0..20 {
            let options = if round % 3 == 0 { ConnectOptions::clean(V5) } else { ConnectOptions::kept(V5) };
            let client = Client::connect(&mut world, round % shards, &id, options).0;
            // Other clients use up numbers of the shard where it is not.
            for other in 0..round % 5 {
                Client::clean(&mut world, &format!("other-{other}"), V5).disconnect(&mut world);
            }
            if round % 2 == 0 {
                client.disconnect(&mut world);
            }
            move_slot(&mut world, &id, (round + 1) % shards);
            if round % 4 < 2 {
                world.settle();
            }
        }
        let numbers = numbers.of(&id);
        assert!(numbers.len() == 20 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}

/// Records the session number of every `on_client_wakeup`.
#[derive(Clone, Default)]
struct Numbers(Arc<Mutex<Vec<(String, u64)>>>);

impl Numbers {
    fn of(&self, id: &str) -> Vec<u64> {
        let awake = self.0.lock().expect("no test panics while it writes");
        awake.iter().filter(|(client, _)| client == id).map(|(_, number)| *number).collect()
    }
}

impl Hook for Numbers {
    type State = ();

    fn on_client_wakeup(&mut self, cx: &mut Notice<'_, ()>, _: bool) {
        let (client, mut awake) = (cx.client(), self.0.lock().expect("no test panics while it writes"));
        awake.push((client.subscriber.to_string(), client.session_number));
    }
}

/// Keeps with each session the topics that its client published to, if they begin with `first`, and records them when the
/// client leaves.
#[derive(Clone)]
struct Keeps {
    first: char,
    log: Arc<Mutex<Vec<String>>>,
}

impl Keeps {
    fn note(&self, state: &[String], when: &str) {
        self.log.lock().expect("no test panics while it writes").push(format!("{when} {}", state.join(" ")));
    }
}

impl Hook for Keeps {
    type State = Vec<String>;

    fn auth_on_register(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        _: &Register<'_>,
    ) -> Answer<RegisterModifiers, ConnectRefusal> {
        cx.state().push(format!("{}:", self.first));
        Answer::Next
    }

    fn auth_on_publish(
        &mut self,
        cx: &mut Context<'_, Self::State>,
        publish: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        if publish.topic.starts_with(self.first) {
            cx.state().push(publish.topic.to_owned());
        }
        Answer::Next
    }

    fn on_client_offline(&mut self, cx: &mut Notice<'_, Self::State>, _: EndReason) {
        self.note(cx.state(), "offline");
    }

    fn on_session_expired(&mut self, cx: &mut Notice<'_, Self::State>, _: ExpiredReason) {
        self.note(cx.state(), "expired");
    }
}

/// The state that each link keeps with a session moves with it, with its client and without.
#[test]
fn what_links_keep_with_a_session_moves_with_it() {
    for shards in [2, 4] {
        let log = Arc::<Mutex<Vec<String>>>::default();
        let keeps = |first| Keeps { first, log: log.clone() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(keeps('a')).hook(keeps('b')));
        let written = || std::mem::take(&mut *log.lock().expect("no test panics while it writes"));
        let id = id_owned_by(&world, 0, "c");
        let (client, _) = Client::connect(&mut world, 1, &id, ConnectOptions::kept(ProtocolVersion::V311));
        for (topic, to) in [("a1", shards - 1), ("b1", 0), ("a2", 1), ("c", 0), ("b2", shards - 1)] {
            client.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
            move_slot(&mut world, &id, to);
            world.settle();
            assert_eq!(world.shard_of(client.socket), Some(to), "it moves while it is online");
        }
        assert_eq!(written(), [""; 0], "no hook is called");
        world.hang_up(client.socket);
        assert_eq!(written(), ["offline a: a1 a2", "offline b: b1 b2"]);
        move_slot(&mut world, &id, 0);
        world.settle();
        let request = Request::Disconnect { subscriber: SubscriberId::new("", id.as_str()), cleanup: true };
        assert_eq!(world.shards[0].resource_counts().sessions, 1, "it moves while its client is away");
        world.request(0, request);
        assert_eq!(written(), ["expired a: a1 a2", "expired b: b1 b2"]);
    }
}
