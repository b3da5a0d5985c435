//! Clients that fight for one id.

use std::thread;

use super::recorder::Recorder;
use crate::raw_connection::{self, Packet, ProtocolVersion, RawConnection};
use crate::{mqtt3, mqtt5, on_every_number_of_shards};

on_every_number_of_shards![std::convert::identity =>
    two_clients_that_come_back_whenever_they_are_sent_away,
    many_takeovers_from_several_threads,
];

/// They never stop by themselves: each takes the other's place as soon as it has lost its own.
fn two_clients_that_come_back_whenever_they_are_sent_away(shards: usize) {
    let recorder = Recorder::with(shards, "");
    let broker = recorder.broker();
    let older = mqtt3::Client::connect_again_and_again(mqtt3::kept(broker, "one"));
    let newer = mqtt5::Client::connect_again_and_again(mqtt5::kept(broker, "one", 3600));
    recorder.wait_for("one", "on_client_wakeup", 60);
    drop(newer);
    drop(older);
    recorder.finish();
}

/// Clean and kept, in turn, from eight threads: every one is let in, and none before the one before is done with.
fn many_takeovers_from_several_threads(shards: usize) {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    let recorder = Recorder::with(shards, "");
    let port = recorder.broker().port();
    let fighters: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                let mut last = None;
                for round in 0..EACH {
                    let version = if (thread + round) % 2 == 0 { ProtocolVersion::V311 } else { ProtocolVersion::V5 };
                    let connect = match round % 3 {
                        0 => raw_connection::clean(version, "one"),
                        _ => raw_connection::kept(version, "one", 3600),
                    };
                    // What a client that was taken over has said last does not matter to anybody.
                    let mut client =
                        RawConnection::try_connect(port, connect).unwrap_or_else(|code| panic!("{code:?}"));
                    client.send_packet(&Packet::Pingreq);
                    last = Some(client);
                }
                last
            })
        })
        .collect();
    let last: Vec<_> = fighters.into_iter().map(|fighter| fighter.join().expect("it is let in each time")).collect();
    recorder.wait_for("one", "on_client_wakeup", THREADS * EACH);
    drop(last);
    let lines = recorder.lines_of("one");
    let count = |hook: &str| lines.iter().filter(|line| line.hook.starts_with(hook)).count();
    assert_eq!((count("auth_on_register"), count("on_register"), count("on_client_wakeup")), (200, 200, 200));
    recorder.finish();
}
