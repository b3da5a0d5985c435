//! How long a client may be silent, and what is not silence: lifecycle.md section 4, MQTT 5.0 section 3.1.2.10.

use std::time::Duration;

use moormq::codec::{Packet, QoS, ReasonCode};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, V31, V311, connect_packet, disconnected, publish};
use crate::received::Got;
use crate::world::{World, config, worlds};

const SECOND: Duration = Duration::from_secs(1);

/// Connects with a keep-alive of so many seconds, to the last shard.
fn alive(world: &mut World<NoHooks>, name: &str, keep_alive: u16, options: ConnectOptions<'_>) -> Client {
    let last = world.shards.len() - 1;
    Client::on(world, last, name, ConnectOptions { keep_alive, ..options })
}

/// The whole broker stands still for a while. What is due by then is looked at first when it goes on: no bytes have been read yet.
fn stand_still(world: &mut World<NoHooks>, how_long: Duration) {
    world.now = world.now + how_long;
    world.advance(Duration::from_millis(1));
}

/// A PUBLISH of `size` bytes, in pieces.
fn upload(size: usize, pieces: usize) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    publish("t", &"x".repeat(size - 5), QoS::AtMostOnce, 0).encode(V311, &mut bytes);
    bytes.chunks(bytes.len().div_ceil(pieces)).map(<[u8]>::to_vec).collect()
}

/// 3.1.2.10: it runs from the end of one packet to the start of the next.
#[test]
fn a_packet_may_take_longer_than_the_keep_alive() {
    for mut world in worlds() {
        for version in [V31, V311, V5] {
            let mut watcher = Client::clean(&mut world, "watcher", V311);
            watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
            let mut client = alive(&mut world, "c", 2, ConnectOptions::clean(version));
            let mut bytes = Vec::new();
            publish("t", &"x".repeat(60_000), QoS::AtMostOnce, 0).encode(version, &mut bytes);
            for piece in bytes.chunks(5000) {
                world.send(client.socket, piece);
                world.advance(2 * SECOND);
            }
            assert_eq!(watcher.texts(&mut world).len(), 1, "half a minute later");
            world.advance(Duration::from_millis(800));
            assert!(!world.is_closed(client.socket), "it counts from the end of the packet");
            world.advance(Duration::from_millis(400));
            assert_eq!(client.received(&mut world), disconnected(version, ReasonCode::KeepAliveTimeout));
        }
    }
}

#[test]
fn a_packet_of_which_nothing_comes_any_more_is_silence() {
    for mut world in worlds() {
        let client = alive(&mut world, "c", 2, ConnectOptions::clean(V311));
        let forever = alive(&mut world, "forever", 0, ConnectOptions::clean(V311));
        for client in [&client, &forever] {
            world.send(client.socket, &upload(1000, 2)[0]);
        }
        world.advance(Duration::from_millis(2900));
        assert!(!world.is_closed(client.socket));
        world.advance(Duration::from_millis(200));
        assert!(world.is_closed(client.socket));
        world.advance(600 * SECOND);
        assert!(!world.is_closed(forever.socket), "without a keep-alive there is no silence");
    }
}

/// `session.min_packet_rate`.
#[test]
fn a_packet_has_to_come_at_the_lowest_rate() {
    for shards in [1, 2, 4] {
        for (rate, survives) in [(5, true), (20, false), (0, true)] {
            let mut world = World::new(shards, config(|config| config.session.min_packet_rate = rate), || NoHooks);
            let client = alive(&mut world, "c", 2, ConnectOptions::clean(V311));
            for piece in upload(400, 40) {
                world.send(client.socket, &piece);
                world.advance(SECOND);
            }
            assert_eq!(!world.is_closed(client.socket), survives, "at {rate} bytes a second");
        }
    }
}

/// What was sent while the broker stood still is read before anybody is called silent, and who answers that late answers in time.
#[test]
fn nobody_is_silent_because_the_broker_stood_still() {
    for mut world in worlds() {
        for version in [V31, V311, V5] {
            let mut client = alive(&mut world, "c", 2, ConnectOptions::clean(version));
            let mut silent = alive(&mut world, "silent", 2, ConnectOptions::clean(version));
            let begun = alive(&mut world, "begun", 2, ConnectOptions::clean(version));
            world.send(begun.socket, &[0xC0]);
            stand_still(&mut world, 20 * SECOND);
            world.advance(16 * SECOND);
            for socket in [client.socket, silent.socket, begun.socket] {
                assert!(!world.is_closed(socket));
            }
            client.send(&mut world, &Packet::Pingreq);
            world.send(begun.socket, &[0]);
            assert_eq!(client.received(&mut world), [Got::Pingresp]);
            world.advance(2 * SECOND);
            assert_eq!(silent.received(&mut world), disconnected(version, ReasonCode::KeepAliveTimeout), "it is");
            assert!(!world.is_closed(client.socket) && !world.is_closed(begun.socket));
            world.advance(2 * SECOND);
            assert!(world.is_closed(client.socket) && world.is_closed(begun.socket));
        }
    }
}

#[test]
fn a_connect_that_came_while_the_broker_stood_still_is_in_time() {
    let mut connect = Vec::new();
    connect_packet("c", ConnectOptions::clean(V5)).encode(&mut connect);
    for mut world in worlds() {
        let (socket, silent) = (world.connect(0), world.connect(0));
        stand_still(&mut world, 8 * SECOND);
        world.send(socket, &connect);
        let mut client = Client::at(socket, V5);
        assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: ReasonCode::Success }]);
        world.advance(4 * SECOND);
        assert!(world.is_closed(silent) && !world.is_closed(socket));
    }
}

/// What a client sent while it was not read, because it had to wait for something, is read first, too.
#[test]
fn who_had_to_wait_is_given_time_again() {
    let limited = config(|config| config.limits.max_message_rate = 1);
    let mut world = World::new(1, limited, || NoHooks);
    let client = alive(&mut world, "c", 1, ConnectOptions::clean(V311));
    client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
    world.advance(Duration::from_millis(700));
    // It is not read for the rest of the second: what it sends stays where it is.
    client.send(&mut world, &Packet::Pingreq);
    world.advance(Duration::from_millis(1700));
    assert!(!world.is_closed(client.socket));
    world.advance(SECOND);
    assert!(world.is_closed(client.socket));
}
