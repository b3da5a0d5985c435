//! What brings a session into being, takes it over, and ends it.

use super::peer::{Peer, Session, Version};
use super::recorder::Recorder;
use crate::mqtt5::DisconnectReasonCode;
use crate::on_every_number_of_shards;
use crate::raw_connection::{self, Disconnect, Packet, ProtocolVersion, RawConnection, ReasonCode, Will};

on_every_number_of_shards![std::convert::identity =>
    first_connect_and_resume,
    a_session_that_ends_with_its_connection,
    a_disconnect_that_lowers_the_expiry_to_zero,
    takeovers,
    a_takeover_publishes_the_will_of_the_old_connection,
    a_clean_start_over_a_session_whose_client_is_away,
    expiry,
    a_newcomer_that_needs_room,
    an_operator_ends_connections_and_sessions,
    a_session_that_moves,
    an_orderly_stop_calls_every_hook_before_the_process_ends,
    a_refusal_calls_none,
    hooks_are_called_in_the_order_of_events,
];

fn each(shards: usize, sections: &str, check: impl Fn(&mut Recorder, &str, Version)) {
    let mut recorder = Recorder::with(shards, sections);
    for version in Version::BOTH {
        // Ids of several shards.
        for name in ["a", "b", "c"] {
            check(&mut recorder, &format!("{name}-{version:?}"), version);
        }
    }
    recorder.finish();
}

fn first_connect_and_resume(shards: usize) {
    each(shards, "", |recorder, id, version| {
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["1 register", "1 wakeup"]);
        client.cut();
        recorder.expect(id, &["1 offline ConnectionLost"]);
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["2 register", "2 wakeup present"]);
        client.disconnect();
        recorder.expect(id, &["2 offline ClientDisconnect(Success)"]);
    });
}

fn a_session_that_ends_with_its_connection(shards: usize) {
    each(shards, "", |recorder, id, version| {
        let client = Peer::connect(recorder, id, version, Session::Clean);
        recorder.expect(id, &["1 register", "1 wakeup"]);
        client.cut();
        recorder.expect(id, &["1 unsubscribed all", "1 gone ConnectionLost"]);
        let client = Peer::connect(recorder, id, version, Session::Clean);
        recorder.expect(id, &["2 register", "2 wakeup"]);
        client.disconnect();
        recorder.expect(id, &["2 unsubscribed all", "2 gone ClientDisconnect(Success)"]);
    });
}

fn a_disconnect_that_lowers_the_expiry_to_zero(shards: usize) {
    let recorder = Recorder::with(shards, "");
    for (id, code, will) in
        [("with", ReasonCode::DisconnectWithWill, &["1 will"][..]), ("without", ReasonCode::Success, &[])]
    {
        let last_words = Will { topic: "w", payload: b"gone", delay: 100, ..Will::default() };
        let connect =
            raw_connection::Connect { will: Some(last_words), ..raw_connection::kept(ProtocolVersion::V5, id, 3600) };
        let mut client = RawConnection::connect(recorder.broker(), connect);
        recorder.expect(id, &["1 register", "1 wakeup"]);
        client.send_packet(&Packet::Disconnect(Disconnect { session_expiry: Some(0), ..Disconnect::new(code) }));
        assert_eq!(client.end(), None);
        let gone = format!("1 gone ClientDisconnect({code:?})");
        recorder.expect(id, &[will, &["1 unsubscribed all", gone.as_str()]].concat());
    }
    recorder.finish();
}

/// Every old session under every new one, over both versions.
fn takeovers(shards: usize) {
    let recorder = Recorder::with(shards, "");
    for (old_version, new_version) in Version::BOTH.into_iter().flat_map(|old| Version::BOTH.map(|new| (old, new))) {
        for (old, new) in Session::BOTH.into_iter().flat_map(|old| Session::BOTH.map(|new| (old, new))) {
            let id = &format!("{old_version:?}-{old:?}-{new_version:?}-{new:?}");
            let first = Peer::connect(&recorder, id, old_version, old);
            recorder.expect(id, &["1 register", "1 wakeup"]);
            let second = Peer::connect(&recorder, id, new_version, new);
            let expected: &[&str] = match (old, new) {
                (Session::Kept, Session::Kept) => &["2 register", "1 offline TakenOver", "2 wakeup present"],
                (Session::Clean, _) => &["2 register", "1 unsubscribed all", "1 gone TakenOver", "2 wakeup"],
                (Session::Kept, Session::Clean) => {
                    &["2 register", "1 offline TakenOver", "1 unsubscribed all", "1 expired CleanStart", "2 wakeup"]
                }
            };
            recorder.expect(id, expected);
            first.ended(DisconnectReasonCode::SessionTakenOver);
            second.disconnect();
            let left: &[&str] = match new {
                Session::Clean => &["2 unsubscribed all", "2 gone ClientDisconnect(Success)"],
                Session::Kept => &["2 offline ClientDisconnect(Success)"],
            };
            recorder.expect(id, left);
        }
    }
    recorder.finish();
}

fn a_takeover_publishes_the_will_of_the_old_connection(shards: usize) {
    let recorder = Recorder::with(shards, "");
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let id = &format!("{version:?}");
        let will = Will { topic: "w", payload: b"gone", ..Will::default() };
        let old = RawConnection::connect(
            recorder.broker(),
            raw_connection::Connect { will: Some(will), ..raw_connection::kept(version, id, 3600) },
        );
        recorder.expect(id, &["1 register", "1 wakeup"]);
        let new = RawConnection::connect(recorder.broker(), raw_connection::kept(version, id, 3600));
        recorder.expect(id, &["2 register", "1 will", "1 offline TakenOver", "2 wakeup present"]);
        let expected = (version == ProtocolVersion::V5).then_some(ReasonCode::SessionTakenOver);
        assert_eq!(old.end(), expected);
        drop(new);
        recorder.expect(id, &["2 offline ConnectionLost"]);
    }
    recorder.finish();
}

fn a_clean_start_over_a_session_whose_client_is_away(shards: usize) {
    each(shards, "", |recorder, id, version| {
        Peer::connect(recorder, id, version, Session::Kept).disconnect();
        recorder.expect(id, &["1 register", "1 wakeup", "1 offline ClientDisconnect(Success)"]);
        let client = Peer::connect(recorder, id, version, Session::Clean);
        recorder.expect(id, &["2 register", "1 unsubscribed all", "1 expired CleanStart", "2 wakeup"]);
        client.cut();
        recorder.expect(id, &["2 unsubscribed all", "2 gone ConnectionLost"]);
    });
}

/// The will waits for longer than the session lives, and comes when that ends. An older client's does not wait.
fn expiry(shards: usize) {
    let recorder = Recorder::with(shards, "[session]\npersistent_session_expiry = \"1s\"\n");
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let id = &format!("{version:?}");
        let will = Will { topic: "w", payload: b"gone", delay: 3600, ..Will::default() };
        drop(RawConnection::connect(
            recorder.broker(),
            raw_connection::Connect { will: Some(will), ..raw_connection::kept(version, id, 1) },
        ));
        let expected: &[&str] = match version {
            ProtocolVersion::V5 => &["1 offline ConnectionLost", "1 unsubscribed all", "1 expired Expiry", "1 will"],
            _ => &["1 will", "1 offline ConnectionLost", "1 unsubscribed all", "1 expired Expiry"],
        };
        recorder.expect(id, &[&["1 register", "1 wakeup"], expected].concat());
    }
    recorder.finish();
}

/// One session for each shard: a newcomer finds its shard full when as many as there are shards have been.
fn a_newcomer_that_needs_room(shards: usize) {
    let limits = format!("[limits]\nmax_sessions = {shards}\nsessions_full = \"expire\"\n");
    let recorder = Recorder::with(shards, &limits);
    let ids: Vec<String> = (0..=shards).map(|number| format!("client-{number}")).collect();
    for id in &ids {
        Peer::connect(&recorder, id, Version::Newer, Session::Kept).disconnect();
        recorder.expect(id, &["1 register", "1 wakeup", "1 offline ClientDisconnect(Success)"]);
    }
    let has_expired = |id: &&String| recorder.lines_of(id).iter().any(|line| line.hook == "on_session_expired");
    let expired: Vec<_> = ids.iter().filter(has_expired).collect();
    assert!(!expired.is_empty(), "at least two were on one shard, and the later one took the place of the earlier");
    for id in expired {
        recorder.expect(id, &["1 unsubscribed all", "1 expired Limit"]);
    }
    recorder.finish();
}

fn an_operator_ends_connections_and_sessions(shards: usize) {
    each(shards, "", |recorder, id, version| {
        let (disconnect, remove) = (format!("disconnect {id}"), format!("remove {id}"));
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["1 register", "1 wakeup"]);
        recorder.order(&disconnect);
        recorder.expect(id, &["1 offline Admin"]);
        client.ended(DisconnectReasonCode::AdministrativeAction);
        // Without cleanup there is nothing to do for a client that is away.
        recorder.order(&disconnect);
        recorder.order(&remove);
        recorder.expect(id, &["1 unsubscribed all", "1 expired Admin"]);
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["2 register", "2 wakeup"]);
        recorder.order(&remove);
        recorder.expect(id, &["2 offline Admin", "2 unsubscribed all", "2 expired Admin"]);
        client.ended(DisconnectReasonCode::AdministrativeAction);
        for (number, order) in [(3, &disconnect), (4, &remove)] {
            let client = Peer::connect(recorder, id, version, Session::Clean);
            recorder.expect(id, &[&format!("{number} register"), &format!("{number} wakeup")]);
            recorder.order(order);
            recorder.expect(id, &[&format!("{number} unsubscribed all"), &format!("{number} gone Admin")]);
            client.ended(DisconnectReasonCode::AdministrativeAction);
        }
        // Nor is there with cleanup, for one that does not exist.
        recorder.order(&remove);
    });
}

/// Moving is invisible, with and without a connection. What follows shows that nothing was called in between.
fn a_session_that_moves(shards: usize) {
    each(shards, "", |recorder, id, version| {
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["1 register", "1 wakeup"]);
        let round = |recorder: &mut Recorder| {
            (0..shards).chain([0]).for_each(|shard| recorder.order(&format!("move {shard} {id}")));
        };
        round(recorder);
        // Orders are carried out one after the other.
        recorder.order(&format!("disconnect {id}"));
        recorder.expect(id, &["1 offline Admin"]);
        client.ended(DisconnectReasonCode::AdministrativeAction);
        round(recorder);
        let client = Peer::connect(recorder, id, version, Session::Kept);
        recorder.expect(id, &["2 register", "2 wakeup present"]);
        client.disconnect();
        recorder.expect(id, &["2 offline ClientDisconnect(Success)"]);
        round(recorder);
        recorder.order(&format!("remove {id}"));
        recorder.expect(id, &["2 unsubscribed all", "2 expired Admin"]);
    });
}

fn an_orderly_stop_calls_every_hook_before_the_process_ends(shards: usize) {
    let mut recorder = Recorder::with(shards, "");
    let mut clients = Vec::new();
    for version in Version::BOTH {
        for session in Session::BOTH {
            let id = format!("{version:?}-{session:?}");
            clients.push((Peer::connect(&recorder, &id, version, session), id));
        }
    }
    let will = Will { topic: "w", payload: b"gone", delay: 100, ..Will::default() };
    let connect =
        raw_connection::Connect { will: Some(will), ..raw_connection::kept(ProtocolVersion::V5, "will", 3600) };
    let with_will = RawConnection::connect(recorder.broker(), connect);
    Peer::connect(&recorder, "away", Version::Newer, Session::Kept).disconnect();
    recorder.expect("away", &["1 register", "1 wakeup", "1 offline ClientDisconnect(Success)"]);
    recorder.stop();
    for (client, id) in clients {
        let gone = id.ends_with("Clean");
        let end: &[&str] =
            if gone { &["1 unsubscribed all", "1 gone ServerShutdown"] } else { &["1 offline ServerShutdown"] };
        recorder.expect(&id, &[&["1 register", "1 wakeup"], end].concat());
        client.ended(DisconnectReasonCode::ServerShuttingDown);
    }
    recorder.expect("will", &["1 register", "1 wakeup", "1 will", "1 offline ServerShutdown"]);
    assert_eq!(with_will.end(), Some(ReasonCode::ServerShuttingDown));
    recorder.ended();
}

/// A name that is not allowed, a will that the rules refuse, and one takeover too many: the session that is there is not
/// touched.
fn a_refusal_calls_none(shards: usize) {
    let rules = tempfile::NamedTempFile::new().expect("a file can be made");
    std::fs::write(&rules, "topic read #\n").expect("a file can be written");
    let sections = format!(
        "[session]\ntakeover_limit = 1\ntakeover_window = \"1day\"\nallow_wildcards_in_identity = false\n[acl_file]\npath = {:?}\n",
        rules.path()
    );
    let recorder = Recorder::with(shards, &sections);
    let port = recorder.broker().port();
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        let code = |older, newer| if version == ProtocolVersion::V5 { newer } else { older };
        let refused = |connect| RawConnection::try_connect(port, connect).err().expect("it is refused");
        let bad_name = code(ReasonCode::ClientIdentifierNotValid, ReasonCode::ClientIdentifierNotValid);
        assert_eq!(refused(raw_connection::kept(version, "a+", 3600)), Some(bad_name));
        let id = &format!("{version:?}");
        let live = RawConnection::connect(recorder.broker(), raw_connection::kept(version, id, 3600));
        recorder.expect(id, &["1 register", "1 wakeup"]);
        let will = Will { topic: "w", payload: b"gone", ..Will::default() };
        let not_allowed = code(ReasonCode::NotAuthorized, ReasonCode::NotAuthorized);
        let with_will = raw_connection::Connect { will: Some(will), ..raw_connection::kept(version, id, 3600) };
        assert_eq!(refused(with_will), Some(not_allowed));
        let second = RawConnection::connect(recorder.broker(), raw_connection::kept(version, id, 3600));
        recorder.expect(id, &["2 register", "1 offline TakenOver", "2 wakeup present"]);
        drop(live);
        let too_many = code(ReasonCode::ServerUnavailable, ReasonCode::ConnectionRateExceeded);
        assert_eq!(refused(raw_connection::clean(version, id)), Some(too_many));
        drop(second);
        recorder.expect(id, &["2 offline ConnectionLost"]);
    }
    assert_eq!(recorder.lines_of("a+"), []);
    recorder.finish();
}

/// All hooks of a short life, with their arguments.
fn hooks_are_called_in_the_order_of_events(shards: usize) {
    let recorder = Recorder::with(shards, "");
    for version in Version::BOTH {
        let id = &format!("{version:?}");
        let mut client = Peer::connect(&recorder, id, version, Session::Kept);
        match &mut client {
            Peer::Older(client) => {
                client.subscribe("lamp/+", 1);
                client.publish("lamp/1", 1, "on");
                client.receive();
                client.unsubscribe("lamp/+");
            }
            Peer::Newer(client) => {
                client.subscribe("lamp/+", 1);
                client.publish("lamp/1", 1, "on");
                client.receive();
                client.unsubscribe("lamp/+");
            }
        }
        client.disconnect();
        recorder.wait_for(id, "on_client_offline", 1);
        let lines = recorder.lines_of(id);
        let seen: Vec<_> =
            lines.iter().map(|line| format!("{} {}", line.hook, line.arguments).trim_end().to_owned()).collect();
        let m5 = |hook: &str| if version == Version::Newer { format!("{hook}_m5") } else { hook.to_owned() };
        let (clean, registered) = match version {
            Version::Older => ("clean_session=false", m5("on_register")),
            Version::Newer => ("clean_start=false", m5("on_register") + " session_expiry=3600"),
        };
        let message = r#"topic="lamp/1" qos=1 retain=false payload="on""#;
        let expected = [
            format!("{} {clean} keep_alive=600 will=None", m5("auth_on_register")),
            registered,
            "on_client_wakeup session_present=false".to_owned(),
            format!("{} filters=[(\"lamp/+\", 1)]", m5("auth_on_subscribe")),
            format!("{} filters=[(\"lamp/+\", 1)]", m5("on_subscribe")),
            format!("{} {message} will=false", m5("auth_on_publish")),
            format!("{} {message}", m5("on_deliver")),
            format!("{} {message} will=false", m5("on_publish")),
            format!("{} filters=[\"lamp/+\"]", m5("on_unsubscribe")),
            "on_topic_unsubscribed topics=Topics([\"lamp/+\"])".to_owned(),
            "on_client_offline reason=ClientDisconnect(Success)".to_owned(),
        ];
        assert_eq!(seen, expected);
        let number = lines.last().expect("there are some").number;
        assert!(lines[1..].iter().all(|line| line.number == number) && lines[0].number == 0);
    }
    recorder.finish();
}
