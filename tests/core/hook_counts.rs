//! The counters of hooks and links: lifecycle.md section 1.

use std::cell::Cell;
use std::time::Duration;

use moormq::codec::{QoS, ReasonCode};
use moormq::hooks::stock::AllowAll;
use moormq::hooks::{
    Answer, Chain, Context, Hook, HookClock, HookCounts, HookReport, NoHooks, PublishModifiers, PublishRefusal,
    PublishRequest,
};

use crate::client::{Client, ConnectOptions, V5, V31, V311};
use crate::received::Got;
use crate::script::{Answers, Gate, Script};
use crate::world::{World, open_config};

/// The counters of all shards.
fn reports<C: Chain>(world: &World<C>) -> Vec<HookReport> {
    let mut all = Vec::new();
    world.shards.iter().for_each(|shard| HookReport::add(&mut all, &shard.hook_reports()));
    all
}

/// The counters of `hook` of the link called `link`; none if it was not called.
fn counts<C: Chain>(world: &World<C>, link: &str, hook: &str) -> HookCounts {
    let of = |report: &HookReport| report.link == link && report.hook == hook;
    reports(world).into_iter().find(of).map(|report| report.counts).unwrap_or_default()
}

/// Answers as the topic says.
fn by_topic(gate: &Gate) -> Answers {
    let gate = gate.clone();
    Answers::default().auth_on_publish(move |_, publish| match publish.topic {
        "ok" => Answer::ok(),
        "no" => Answer::refuse(),
        "panic" => panic!("as the test wants it"),
        "later ok" => gate.later(Answer::ok),
        "later no" => gate.later(Answer::refuse),
        "later next" => gate.later(|| Answer::Next),
        "later panic" => gate.later(|| panic!("as the test wants it, later")),
        "never" => Answer::later(std::future::pending()),
        _ => Answer::Next,
    })
}

#[test]
fn each_counter_counts_what_it_says() {
    for shards in [1, 2, 4] {
        let gate = Gate::default();
        let script = Script::new(by_topic(&gate));
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()).hook(AllowAll));
        for shard in 0..shards {
            let client = Client::on(&mut world, shard, "c", ConnectOptions::clean(V31));
            for topic in ["ok", "next", "no", "panic", "later ok", "later no", "later next", "later panic", "never"] {
                gate.close();
                client.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
                world.advance(Duration::from_millis(100));
                gate.open();
                world.advance(Duration::from_millis(if topic == "never" { 4950 } else { 0 }));
                world.settle();
            }
            assert!(!world.is_closed(client.socket));
        }
        let each = shards as u64;
        let HookCounts { calls, next, ok, refusals, later, timeouts, panics, dropped, time, waited } =
            counts(&world, "Script", "auth_on_publish");
        assert_eq!((calls, next, ok, refusals), (9 * each, 2 * each, 2 * each, 2 * each));
        assert_eq!((later, timeouts, panics, dropped), (5 * each, each, 2 * each, 0));
        assert_eq!(time, Duration::ZERO, "nobody asked for it");
        let least = Duration::from_millis((4 * 100 + 5000) * each);
        assert!((least..least + Duration::from_millis(100 * each)).contains(&waited), "{waited:?}");
        let asked_next = HookCounts { calls: 2 * each, ok: 2 * each, ..HookCounts::default() };
        assert_eq!(counts(&world, "AllowAll", "auth_on_publish"), asked_next);
        let routed = HookCounts { calls: 4 * each, ok: 4 * each, ..HookCounts::default() };
        assert_eq!(counts(&world, "Script", "on_publish"), routed);
    }
}

#[test]
fn a_hook_that_is_not_there_is_not_counted() {
    for shards in [1, 2, 4] {
        let script = Script::default();
        let mut world = World::new(shards, open_config(), || NoHooks.hook(AllowAll).hook(script.clone()));
        let mut client = Client::on(&mut world, shards - 1, "c", ConnectOptions::clean(V311));
        client.subscribed(&mut world, "t", QoS::AtMostOnce);
        client.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        client.unsubscribe(&mut world, &["t"]);
        client.disconnect(&mut world);
        let of = |link: &str| -> Vec<&str> {
            reports(&world).iter().filter(|report| report.link == link).map(|report| report.hook).collect()
        };
        assert_eq!(of("AllowAll"), ["auth_on_publish", "auth_on_subscribe"]);
        let called = [
            "auth_on_register",
            "on_client_gone",
            "on_client_wakeup",
            "on_deliver",
            "on_publish",
            "on_register",
            "on_subscribe",
            "on_topic_unsubscribed",
            "on_unsubscribe",
        ];
        assert_eq!(of("Script"), called, "nor one that was not called");
    }
}

#[test]
fn tasks_of_notifications_are_later_answers() {
    for shards in [1, 2, 4] {
        let script = Script { slow: vec!["on_subscribe"], panics: vec!["on_publish"], ..Script::default() };
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        for shard in 0..shards {
            let mut client = Client::on(&mut world, shard, "c", ConnectOptions::clean(V311));
            script.gate.close();
            client.subscribe(&mut world, "t", QoS::AtMostOnce);
            world.advance(Duration::from_millis(200));
            script.gate.open();
            world.settle();
            script.gate.close();
            client.subscribe(&mut world, "u", QoS::AtMostOnce);
            world.advance(Duration::from_millis(5100));
            client.publish(&mut world, "v", "x", QoS::AtMostOnce, 0);
            assert_eq!(client.received(&mut world).len(), 2);
        }
        let each = shards as u64;
        let HookCounts { calls, next, ok, refusals, later, timeouts, panics, waited, .. } =
            counts(&world, "Script", "on_subscribe");
        assert_eq!((calls, later, ok, timeouts), (2 * each, 2 * each, each, each));
        assert_eq!((next, refusals, panics), (0, 0, 0));
        assert!(waited >= Duration::from_millis(5200 * each), "{waited:?}");
        let panicked = HookCounts { calls: each, panics: each, ..HookCounts::default() };
        assert_eq!(counts(&world, "Script", "on_publish"), panicked);
    }
}

/// `$SYS/broker/hooks/LINK/HOOK/COUNTER`, all shards together.
#[test]
fn two_links_of_one_type_have_counters_of_their_own_in_sys() {
    for shards in [1, 2, 4] {
        let refuses = |topic: &'static str| {
            Script::new(Answers::default().auth_on_publish(move |_, publish| {
                if publish.topic == topic { Answer::refuse() } else { Answer::Next }
            }))
        };
        let (first, second) = (refuses("a"), refuses("b"));
        let mut world = World::new(shards, open_config(), || NoHooks.hook(first.clone()).hook(second.clone()));
        for shard in 0..shards {
            let client = Client::on(&mut world, shard, "c", ConnectOptions::clean(V31));
            for topic in ["a", "a", "b", "c"] {
                client.publish(&mut world, topic, "x", QoS::AtLeastOnce, 1);
            }
        }
        // The others report at one interval what the first shard publishes at the next.
        world.advance(Duration::from_secs(41));
        let mut reader = Client::clean(&mut world, "reader", V5);
        reader.subscribe(&mut world, "$SYS/broker/hooks/+/auth_on_publish/#", QoS::AtMostOnce);
        let mut lines: Vec<_> = reader
            .publishes(&mut world)
            .iter()
            .map(|received| format!("{} {}", received.topic.trim_start_matches("$SYS/broker/hooks/"), received.text()))
            .collect();
        lines.sort();
        let expected = |link: &str, calls: usize, next: usize, refusals: usize| {
            let values = [
                ("calls", calls),
                ("dropped", 0),
                ("later", 0),
                ("next", next),
                ("ok", 0),
                ("panics", 0),
                ("refusals", refusals),
                ("time_us", 0),
                ("timeouts", 0),
                ("waited_us", 0),
            ];
            values.map(|(name, value)| format!("{link}/auth_on_publish/{name} {value}"))
        };
        let mut all = expected("Script", 4 * shards, 2 * shards, 2 * shards).to_vec();
        all.extend(expected("Script-2", 2 * shards, shards, shards));
        all.sort();
        assert_eq!(lines, all);
        reader.subscribe(&mut world, "$SYS/broker/hooks/+/on_offline_message/#", QoS::AtMostOnce);
        assert_eq!(reader.received(&mut world), [Got::Suback(1, vec![ReasonCode::Success])], "it was never called");
    }
}

thread_local! {
    static NANOS: Cell<u64> = const { Cell::new(0) };
}

/// Takes a microsecond for each answer.
#[derive(Clone)]
struct Busy;

impl Hook for Busy {
    type State = ();
    const TIMED: bool = true;

    fn auth_on_publish(
        &mut self,
        _: &mut Context<'_, ()>,
        _: &PublishRequest<'_>,
    ) -> Answer<PublishModifiers, PublishRefusal> {
        NANOS.set(NANOS.get() + 1000);
        Answer::ok()
    }
}

#[test]
fn the_time_of_answers_given_now_is_estimated_for_links_that_want_it() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, open_config(), || NoHooks.hook(Busy));
        world.shards.iter_mut().for_each(|shard| shard.measure_by(HookClock(|| NANOS.get()), None));
        let client = Client::on(&mut world, shards - 1, "c", ConnectOptions::clean(V311));
        for _ in 0..300 {
            client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        }
        let HookCounts { calls, ok, time, .. } = counts(&world, "Busy", "auth_on_publish");
        assert_eq!((calls, ok, time), (300, 300, Duration::from_micros(300)));
    }
}
