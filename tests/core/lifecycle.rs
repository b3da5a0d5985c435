//! Which hook, exactly: every row of lifecycle.md section 5, on one shard and on several.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use moormq::client::SubscriberId;
use moormq::codec::{Disconnect, Packet, ProtocolVersion, QoS, ReasonCode, Will};
use moormq::config::{Config, Limit, SessionsFull};
use moormq::hooks::{
    Answer, Chain, ConnectRefusal, Expiry, Linked, NoHooks, PublishRefusal, RegisterModifiersM5, V3Only,
};
use moormq::random::Random;
use moormq::shard::{Input, Request};

use crate::client::{Client, ConnectOptions, V5, V31, V311, connect_packet, disconnected, id_owned_by};
use crate::script::{Answers, Script};
use crate::world::{SEED, Socket, World, config, open_config};

type Hooked = World<Linked<NoHooks, Script>>;

/// Runs `check` for each version and each number of shards, with an id of each shard.
fn each(change: fn(&mut Config), check: impl Fn(&mut Hooked, &Script, &str, ProtocolVersion)) {
    for (shards, version) in [1, 2, 4].into_iter().flat_map(|shards| ProtocolVersion::ALL.map(|v| (shards, v))) {
        for owner in 0..shards {
            let script = Script::default();
            let mut world = World::new(shards, config(change), || NoHooks.hook(script.clone()));
            let id = id_owned_by(&world, owner, "c");
            check(&mut world, &script, &id, version);
        }
    }
}

fn connect(world: &mut Hooked, id: &str, options: ConnectOptions<'_>) -> Client {
    Client::connect(world, 0, id, options).0
}

fn leaving(code: ReasonCode, expiry: Option<u32>) -> Disconnect<'static> {
    Disconnect { session_expiry: expiry, ..Disconnect::new(code) }
}

fn admin(world: &mut Hooked, id: &str, cleanup: bool) {
    let subscriber = SubscriberId::new("", id);
    let shard = world.shards[0].owner(&subscriber);
    world.request(shard, Request::Disconnect { subscriber, cleanup });
}

#[test]
fn connecting_for_the_first_time_and_again() {
    each(
        |_| {},
        |world, script, id, version| {
            let client = connect(world, id, ConnectOptions::kept(version));
            assert_eq!(script.log.of(id), ["register", "wakeup"]);
            world.hang_up(client.socket);
            assert_eq!(script.log.of(id), ["offline ConnectionLost"]);
            let client = connect(world, id, ConnectOptions::kept(version));
            assert_eq!(script.log.of(id), ["register", "wakeup present"]);
            client.disconnect(world);
            assert_eq!(script.log.of(id), ["offline ClientDisconnect(Success)"]);
        },
    );
}

#[test]
fn a_session_that_ends_with_its_connection() {
    each(
        |_| {},
        |world, script, id, version| {
            let client = connect(world, id, ConnectOptions::clean(version));
            world.hang_up(client.socket);
            let lost = ["register", "wakeup", "unsubscribed all", "gone ConnectionLost"];
            assert_eq!(script.log.of(id), lost);
            let client = connect(world, id, ConnectOptions::clean(version));
            client.disconnect(world);
            let left = ["register", "wakeup", "unsubscribed all", "gone ClientDisconnect(Success)"];
            assert_eq!(script.log.of(id), left);
        },
    );
}

#[test]
fn a_disconnect_that_lowers_the_expiry_to_zero() {
    each(
        |_| {},
        |world, script, id, version| {
            if version != V5 {
                return;
            }
            let client = connect(world, id, ConnectOptions::kept(V5));
            script.log.all();
            client.leave(world, leaving(ReasonCode::DisconnectWithWill, Some(0)));
            assert_eq!(script.log.of(id), ["unsubscribed all", "gone ClientDisconnect(DisconnectWithWill)"]);
        },
    );
}

#[test]
fn takeovers() {
    let cases: [(bool, bool, &[&str]); 4] = [
        (true, true, &["register", "offline TakenOver", "wakeup present"]),
        (false, true, &["register", "unsubscribed all", "gone TakenOver", "wakeup"]),
        (false, false, &["register", "unsubscribed all", "gone TakenOver", "wakeup"]),
        (true, false, &["register", "offline TakenOver", "unsubscribed all", "expired CleanStart", "wakeup"]),
    ];
    each(
        |_| {},
        |world, script, id, version| {
            for (old_kept, new_kept, expected) in cases {
                let options = |kept| if kept { ConnectOptions::kept(version) } else { ConnectOptions::clean(version) };
                connect(world, id, options(old_kept));
                script.log.all();
                let new = Client::connect(world, world.shards.len() - 1, id, options(new_kept)).0;
                assert_eq!(script.log.of(id), expected, "old kept {old_kept}, new kept {new_kept}");
                new.disconnect(world);
                connect(world, id, options(false)).disconnect(world);
            }
        },
    );
}

#[test]
fn a_clean_start_over_a_session_whose_client_is_away() {
    each(
        |_| {},
        |world, script, id, version| {
            connect(world, id, ConnectOptions::kept(version)).disconnect(world);
            script.log.all();
            connect(world, id, ConnectOptions::clean(version));
            assert_eq!(script.log.of(id), ["register", "unsubscribed all", "expired CleanStart", "wakeup"]);
        },
    );
}

/// The delayed will comes after the end of the session that it waited for.
#[test]
fn expiry() {
    let soon = |config: &mut Config| config.session.persistent_session_expiry = Some(Duration::from_secs(20));
    each(soon, |world, script, id, version| {
        let will = Will { topic: "w", payload: b"x", delay: 100, ..Will::default() };
        let options = ConnectOptions { will: Some(will), ..ConnectOptions::kept(version) };
        let client = connect(world, id, options.with(|properties| properties.session_expiry = Some(20)));
        script.log.all();
        world.hang_up(client.socket);
        let delayed = version == V5;
        let lost: &[&str] =
            if delayed { &["offline ConnectionLost"] } else { &["publish w will", "offline ConnectionLost"] };
        assert_eq!(script.log.of(id), lost);
        world.advance(Duration::from_secs(21));
        let mut expected = vec!["unsubscribed all", "expired Expiry"];
        expected.extend(delayed.then_some("publish w will"));
        assert_eq!(script.log.of(id), expected);
    });
}

/// It is found on another shard if that of the newcomer has none.
#[test]
fn a_limit_ends_a_session_of_another_shard_if_need_be() {
    for shards in [2, 4] {
        let script = Script::default();
        let few = config(|config| {
            config.limits.max_sessions = Limit::at_most(2);
            config.limits.sessions_full = SessionsFull::Expire;
        });
        let mut world = World::new(shards, few, || NoHooks.hook(script.clone()));
        let [longest, away, new, last] =
            [("a", 1), ("b", 1), ("c", 0), ("d", 0)].map(|(name, shard)| id_owned_by(&world, shard, name));
        for id in [&longest, &away] {
            connect(&mut world, id, ConnectOptions::kept(V5)).disconnect(&mut world);
        }
        script.log.all();
        connect(&mut world, &new, ConnectOptions::clean(V5));
        assert_eq!(script.log.of(&longest), ["unsubscribed all", "expired Limit"]);
        connect(&mut world, &last, ConnectOptions::clean(V5));
        assert_eq!(script.log.of(&away), ["unsubscribed all", "expired Limit"]);
        let mut refused = Client::send_connect(&mut world, 0, &longest, ConnectOptions::kept(V5));
        let code = ReasonCode::QuotaExceeded;
        assert_eq!(refused.received(&mut world), [crate::received::Got::Connack { present: false, code }]);
    }
}

/// The session that has been offline longest is ended for a new one; an online one never is.
#[test]
fn a_limit_ends_the_session_whose_client_has_been_away_longest() {
    for version in ProtocolVersion::ALL {
        let script = Script::default();
        let few = config(|config| {
            config.limits.max_sessions = Limit::at_most(3);
            config.limits.sessions_full = SessionsFull::Expire;
        });
        let mut world = World::new(1, few, || NoHooks.hook(script.clone()));
        for id in ["a", "b", "c"] {
            connect(&mut world, id, ConnectOptions::kept(version)).disconnect(&mut world);
        }
        // A client that was online in between has not been offline for long.
        connect(&mut world, "a", ConnectOptions::kept(version)).disconnect(&mut world);
        script.log.all();
        connect(&mut world, "d", ConnectOptions::kept(version));
        assert_eq!(script.log.of("b"), ["unsubscribed all", "expired Limit"]);
        assert_eq!(script.log.of("d"), ["register", "wakeup"]);
        connect(&mut world, "e", ConnectOptions::clean(version));
        connect(&mut world, "a", ConnectOptions::kept(version));
        assert_eq!(script.log.of("c"), ["unsubscribed all", "expired Limit"]);
        assert_eq!(script.log.of("a"), ["register", "wakeup present"]);
        let mut refused = Client::send_connect(&mut world, 0, "f", ConnectOptions::kept(version));
        let code = if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::ServerUnavailable };
        assert_eq!(refused.received(&mut world), [crate::received::Got::Connack { present: false, code }]);
        assert_eq!(script.log.all().iter().filter(|line| line.contains("expired")).count(), 0);
    }
}

#[test]
fn an_operator_ends_connections_and_sessions() {
    each(
        |_| {},
        |world, script, id, version| {
            let mut kept = connect(world, id, ConnectOptions::kept(version));
            script.log.all();
            admin(world, id, false);
            assert_eq!(script.log.of(id), ["offline Admin"]);
            assert_eq!(kept.received(world), disconnected(version, ReasonCode::AdministrativeAction));
            assert!(world.is_closed(kept.socket));
            admin(world, id, false);
            assert_eq!(script.log.of(id), [""; 0]);
            admin(world, id, true);
            assert_eq!(script.log.of(id), ["unsubscribed all", "expired Admin"]);
            admin(world, id, true);
            connect(world, id, ConnectOptions::kept(version));
            script.log.all();
            admin(world, id, true);
            assert_eq!(script.log.of(id), ["offline Admin", "unsubscribed all", "expired Admin"]);
            for cleanup in [false, true] {
                connect(world, id, ConnectOptions::clean(version));
                script.log.all();
                admin(world, id, cleanup);
                assert_eq!(script.log.of(id), ["unsubscribed all", "gone Admin"]);
            }
        },
    );
}

#[test]
fn an_orderly_stop_calls_every_hook() {
    each(
        |_| {},
        |world, script, id, version| {
            let mut kept = connect(world, id, ConnectOptions::kept(version).will("w"));
            connect(world, "clean", ConnectOptions::clean(version));
            let opening = world.connect(0);
            script.log.all();
            world.stop();
            assert_eq!(script.log.of(id), ["publish w will", "offline ServerShutdown"]);
            assert_eq!(script.log.of("clean"), ["unsubscribed all", "gone ServerShutdown"]);
            assert_eq!(kept.received(world), disconnected(version, ReasonCode::ServerShuttingDown));
            assert!(world.is_closed(opening));
            assert_eq!(world.stopped, world.shards.len());
            let mut late = Client::send_connect(world, 0, "late", ConnectOptions::clean(version));
            let code = ReasonCode::ServerUnavailable;
            assert_eq!(late.received(world), [crate::received::Got::Connack { present: false, code }]);
            assert_eq!(script.log.of("late"), [""; 0]);
        },
    );
}

#[test]
fn every_reason_for_which_a_connection_ends() {
    let mortal = |config: &mut Config| {
        config.session.max_connection_lifetime = Some(Duration::from_secs(90));
        config.limits.max_filters_per_subscribe = 1;
    };
    type End = fn(&mut Hooked, &Client);
    let ends: [(End, &str); 8] = [
        (|world, client| world.hang_up(client.socket), "ConnectionLost"),
        (|world, _| world.advance(Duration::from_secs(16)), "KeepAlive"),
        (|world, client| world.send(client.socket, &[0, 0]), "ProtocolError(MalformedPacket)"),
        (|world, client| world.send(client.socket, &[0xD0, 0]), "ProtocolError(ProtocolError)"),
        (|world, client| world.send(client.socket, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), "ProtocolError(PacketTooLarge)"),
        (|world, client| client.publish(world, "a/+", "x", QoS::AtMostOnce, 0), "ProtocolError(TopicNameInvalid)"),
        (|world, client| client.unsubscribe(world, &["a", "b"]), "Quota(QuotaExceeded)"),
        (
            |world, client| {
                for _ in 0..10 {
                    client.send(world, &Packet::Pingreq);
                    world.advance(Duration::from_secs(10));
                }
            },
            "MaximumLifetime",
        ),
    ];
    each(mortal, |world, script, id, version| {
        for (end, reason) in ends {
            let client = connect(world, id, ConnectOptions { keep_alive: 10, ..ConnectOptions::kept(version) });
            script.log.all();
            end(world, &client);
            assert_eq!(script.log.of(id), [format!("offline {reason}")], "{version:?}");
        }
    });
}

#[test]
fn a_refused_or_failing_publish_is_the_reason_an_older_client_is_closed_for() {
    let answers = Answers::default().auth_on_publish(|_, publish| match publish.topic {
        "refused" => Answer::Error(PublishRefusal),
        "fails" => panic!("as the test wants it"),
        _ => Answer::ok(),
    });
    for shards in [1, 2] {
        let script = Script::new(answers.clone());
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        for (topic, reason) in [("refused", "offline NotAuthorized"), ("fails", "offline HookFailure")] {
            let client = connect(&mut world, "c", ConnectOptions::kept(V311));
            script.log.all();
            client.publish(&mut world, topic, "x", QoS::AtMostOnce, 0);
            assert_eq!(script.log.of("c"), [reason]);
        }
    }
}

/// CONNACK refusal: none, every refusal comes before register.
#[test]
fn a_refusal_calls_none() {
    let answers = Answers::default().auth_on_register(|_, _| Answer::Error(ConnectRefusal::NotAuthorized));
    for shards in [1, 2] {
        let script = Script::new(answers.clone());
        let limited = config(|config| config.limits.max_sessions = moormq::config::Limit::at_most(1));
        let mut world = World::new(shards, limited, || NoHooks.hook(script.clone()));
        for version in [V31, V311] {
            Client::send_connect(&mut world, 0, "c", ConnectOptions::kept(version));
        }
        let long = "a".repeat(1025);
        Client::send_connect(&mut world, 0, &long, ConnectOptions::kept(V5));
        assert_eq!((script.log.of("c"), script.log.of(&long)), (vec![], vec![]));
    }
}

#[test]
fn hooks_are_called_before_subscriptions_and_publishes_are_acknowledged() {
    each(
        |_| {},
        |world, script, id, version| {
            let mut client = connect(world, id, ConnectOptions::kept(version));
            script.log.all();
            client.subscribe(world, "a/+", QoS::AtLeastOnce);
            client.subscribe(world, &"deep/".repeat(40), QoS::AtLeastOnce);
            client.publish(world, "a/b", "x", QoS::ExactlyOnce, 3);
            client.publish(world, "a/b", "x", QoS::ExactlyOnce, 3);
            client.publish(world, "$a/b", "x", QoS::AtLeastOnce, 4);
            client.unsubscribe(world, &["b", "a/+"]);
            client.unsubscribe(world, &["b"]);
            assert_eq!(script.log.of(id), ["subscribe a/+", "publish a/b", "unsubscribed a/+"]);
            client.received(world);
        },
    );
}

/// A session expiry of 0 from a hook is in CONNACK and has effect: the session ends with its connection.
#[test]
fn a_hook_may_have_the_session_end_with_its_connection() {
    let answers = Answers::default().auth_on_register_m5(|_, _| {
        Answer::Ok(RegisterModifiersM5::default().session_expiry_interval(Expiry::After(Duration::ZERO)))
    });
    for shards in [1, 2, 4] {
        let script = Script::new(answers.clone());
        let mut world = World::new(shards, open_config(), || NoHooks.hook(script.clone()));
        let client = connect(&mut world, "c", ConnectOptions::kept(V5));
        assert_eq!(client.connack().properties.session_expiry, Some(0));
        script.log.all();
        let new = connect(&mut world, "c", ConnectOptions::kept(V5));
        assert_eq!(script.log.of("c"), ["register", "unsubscribed all", "gone TakenOver", "wakeup"]);
        world.hang_up(new.socket);
        assert_eq!(script.log.of("c"), ["unsubscribed all", "gone ConnectionLost"]);
    }
}

/// Every hook gets the client: who it is, where it comes from, and which of its connections this is.
#[test]
fn hooks_know_whom_they_are_asked_about() {
    for (shards, version) in [1, 2, 4].into_iter().flat_map(|shards| ProtocolVersion::ALL.map(|v| (shards, v))) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (older, newer) = (seen.clone(), seen.clone());
        let note = |seen: &Mutex<Vec<_>>, client: &moormq::client::Client| {
            seen.lock().expect("no test panics while it writes").push(client.clone());
        };
        let answers = Answers::default()
            .auth_on_register(move |client, _| {
                note(&older, client);
                Answer::Next
            })
            .auth_on_publish(move |client, _| {
                note(&newer, client);
                Answer::Next
            });
        let script = Script::new(answers);
        let mut world = World::new(shards, open_config(), || NoHooks.hook(V3Only(script.clone())));
        let mut last = 0;
        for _ in 0..3 {
            let options = ConnectOptions { username: Some("ann"), ..ConnectOptions::kept(version) };
            let client = Client::connect(&mut world, 0, "c", options).0;
            client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
            let asked = std::mem::take(&mut *seen.lock().expect("no test panics while it writes"));
            let [connecting, connected] = &asked[..] else { panic!("{asked:?}") };
            for client in [connecting, connected] {
                assert_eq!((client.subscriber.to_string(), &*client.listener), ("c".to_owned(), "default"));
                assert_eq!((client.version, client.username.as_deref()), (version, Some("ann")));
                assert_eq!((client.connected_at, client.certificate.is_none()), (SystemTime::UNIX_EPOCH, true));
                assert_eq!(client.peer.ip(), std::net::Ipv4Addr::LOCALHOST);
            }
            assert_eq!(connecting.peer, connected.peer);
            assert_eq!(connecting.session_number, 0, "it has none before it is registered");
            assert!(connected.session_number > last);
            last = connected.session_number;
            world.hang_up(client.socket);
        }
    }
}

/// SUBACK waits for the other shards. `on_subscribe` is called for the granted filters, also if the connection ends before SUBACK;
/// then before the hook for that end.
#[test]
fn on_subscribe_is_called_although_the_connection_ends_before_suback() {
    each(
        |_| {},
        |world, script, id, version| {
            let subscribe = |topic: u8| match version {
                V5 => vec![0x82, 7, 0, 1, 0, 0, 1, topic, 1],
                _ => vec![0x82, 6, 0, 1, 0, 1, topic, 1],
            };
            let client = connect(world, id, ConnectOptions::kept(version));
            script.log.all();
            world.send_quietly(client.socket, &subscribe(b's'));
            world.hang_up(client.socket);
            assert_eq!(script.log.of(id), ["subscribe s", "offline ConnectionLost"]);
            let old = connect(world, id, ConnectOptions::kept(version));
            let owner = world.shard_of(old.socket).expect("it is connected");
            let new = Client::open(world, owner, version);
            let mut bytes = Vec::new();
            connect_packet(id, ConnectOptions::kept(version)).encode(&mut bytes);
            script.log.all();
            world.send_quietly(old.socket, &subscribe(b't'));
            world.send_quietly(new.socket, &bytes);
            world.settle();
            let expected = match world.shards.len() {
                1 => ["subscribe t", "register", "offline TakenOver", "wakeup present"],
                _ => ["register", "subscribe t", "offline TakenOver", "wakeup present"],
            };
            assert_eq!(script.log.of(id), expected);
        },
    );
}

/// The grammar of lifecycle.md section 5: the state of a subscriber id after this hook, if it may be called in the state before.
fn follow(state: &str, line: &str) -> Option<&'static str> {
    Some(match (state, line.split(' ').next()?) {
        ("no session", "wakeup") if line == "wakeup" => "online",
        ("online", "offline") => "offline",
        ("online", "gone") => "no session",
        ("offline", "wakeup") if line == "wakeup present" => "online",
        ("offline", "expired") => "no session",
        _ => return None,
    })
}

/// The final states of two subscriber ids. Checks that they came there by the grammar.
fn check_grammar(script: &Script, seed: u64) {
    for id in ["a", "b"] {
        let (mut state, lines) = ("no session", script.log.of(id));
        check_tasks(&lines, seed);
        let of_the_grammar = |line: &&String| {
            !["register", "unsubscribed", "subscribe"].iter().any(|word| line.starts_with(word))
                && !line.ends_with("is done")
        };
        for line in lines.iter().filter(of_the_grammar) {
            state = follow(state, line).unwrap_or_else(|| panic!("seed {seed}: {line} when {state} in {lines:#?}"));
        }
        assert_ne!(state, "online", "seed {seed}: everybody was sent away");
    }
}

/// Checks that the later work of hooks is done in the order of their calls, and before the next registration.
fn check_tasks(lines: &[String], seed: u64) {
    let mut to_do = std::collections::VecDeque::new();
    for line in lines {
        if let Some(hook) = line.strip_suffix(" is done") {
            assert_eq!(to_do.pop_front(), Some(hook), "seed {seed}: {lines:#?}");
        } else if line == "register" {
            let done = to_do.is_empty() || !lines.iter().any(|line| line.ends_with("is done"));
            assert!(done, "seed {seed}: registered before {to_do:?}: {lines:#?}");
        } else if let Some((hook, _)) = SLOW.iter().find(|(_, word)| line.starts_with(word)) {
            to_do.push_back(*hook);
        }
    }
}

/// Notifications that take their time, if a script says so, and how lines about them begin.
const SLOW: [(&str, &str); 3] =
    [("on_client_offline", "offline"), ("on_client_gone", "gone"), ("on_session_expired", "expired")];

/// Connects, takeovers, leaving, expiry, operators, moves to other shards, and messages between shards in any order.
fn anything_happens(world: &mut Hooked, random: &mut Random, sockets: &mut Vec<Socket>) {
    let shards = world.shards.len();
    match random.below(9) {
        8 => {
            let slot = moormq::sharding::slot_of(&SubscriberId::new("", ["a", "b"][random.below(2)]), SEED);
            let (to, now) = (random.below(shards), world.now);
            for shard in &mut world.shards {
                shard.handle(Input::Request(Request::MoveSlots { slots: vec![slot], to }), now);
            }
        }
        7 => drop(world.carry_transfer()),
        0..3 => {
            let mut options = if random.below(2) == 0 { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
            options.clean_start = random.below(2) == 0;
            if random.below(2) == 0 {
                options = options.with(|properties| properties.session_expiry = properties.session_expiry.map(|_| 1));
            }
            let client = Client::open(world, random.below(shards), V5);
            let mut bytes = Vec::new();
            connect_packet(["a", "b"][random.below(2)], options).encode(&mut bytes);
            world.send_quietly(client.socket, &bytes);
            sockets.push(client.socket);
        }
        3 if !sockets.is_empty() => world.hang_up(sockets.swap_remove(random.below(sockets.len()))),
        4 if !sockets.is_empty() => {
            let socket = sockets[random.below(sockets.len())];
            let packets = [&[0xE0, 0][..], &[0xE0, 1, 4], &[0x82, 7, 0, 1, 0, 0, 1, b't', 1]];
            world.send_quietly(socket, packets[random.below(3)]);
        }
        5 => world.advance(Duration::from_millis(700)),
        6 if random.below(4) == 0 => admin(world, ["a", "b"][random.below(2)], random.below(2) == 0),
        _ => {
            world.carry_any_message(random);
        }
    }
}

#[test]
fn the_hooks_of_a_subscriber_id_spell_the_grammar_in_any_interleaving() {
    for seed in 0..600 {
        let mut random = Random::from_seed(seed);
        let script = Script::default();
        let mut world = World::new(1 + random.below(4), open_config(), || NoHooks.hook(script.clone()));
        let mut sockets = Vec::new();
        for _ in 0..120 {
            anything_happens(&mut world, &mut random, &mut sockets);
        }
        world.settle();
        world.stop();
        check_grammar(&script, seed);
    }
}

/// Hooks with later work that takes a random time.
#[test]
fn hooks_that_take_their_time_spell_the_grammar_in_any_interleaving() {
    for seed in 0..300 {
        let mut random = Random::from_seed(seed);
        let script = Script { slow: SLOW.map(|(hook, _)| hook).to_vec(), ..Script::default() };
        let patient = config(|config| config.hooks.later_deadline = Duration::from_secs(3600));
        let mut world = World::new(1 + random.below(4), patient, || NoHooks.hook(script.clone()));
        let mut sockets = Vec::new();
        for _ in 0..120 {
            match random.below(8) {
                0 => script.gate.open(),
                1 => script.gate.close(),
                _ => anything_happens(&mut world, &mut random, &mut sockets),
            }
        }
        script.gate.open();
        world.settle();
        world.stop();
        check_grammar(&script, seed);
        assert_eq!(world.stopped, world.shards.len());
    }
}

/// Hooks that fail leave nothing open either.
#[test]
fn hooks_that_panic_spell_the_grammar_in_any_interleaving() {
    for seed in 0..40 {
        let mut random = Random::from_seed(seed);
        let panics =
            ["on_register_m5", "on_client_wakeup", "on_client_offline", "on_client_gone", "on_session_expired"];
        let script = Script { panics: panics.to_vec(), ..Script::default() };
        let mut world = World::new(1 + random.below(4), open_config(), || NoHooks.hook(script.clone()));
        let mut sockets = Vec::new();
        for _ in 0..60 {
            anything_happens(&mut world, &mut random, &mut sockets);
        }
        world.settle();
        world.stop();
        check_grammar(&script, seed);
    }
}
