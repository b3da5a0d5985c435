//! Clients that are not accepted: what is taken of them, and what is held for all of them together.

use moormq::codec::{Connect, ConnectProperties, ProtocolVersion, QoS, ReasonCode, Will};
use moormq::config::Config;
use moormq::hooks::{Answer, Chain, NoHooks};

use crate::client::{Client, ConnectOptions, V5, V31, V311, connect_packet};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{Socket, World, config, open_config, worlds_with};

const KIB: usize = 1024;

/// A CONNECT of a little more than `size` bytes.
fn large(id: &str, version: ProtocolVersion, size: usize) -> Vec<u8> {
    let payload = vec![7; size];
    let mut bytes = Vec::new();
    let will = Will { topic: "w", payload: &payload, ..Will::default() };
    Connect { will: Some(will), ..connect_packet(id, ConnectOptions::clean(version)) }.encode(&mut bytes);
    bytes
}

fn refused_for_memory<C: Chain>(world: &World<C>) -> u64 {
    world.shards.iter().map(|shard| shard.counters().refused_for_memory).sum()
}

fn held<C: Chain>(world: &World<C>) -> usize {
    world.shards.iter().map(|shard| shard.resource_counts().unaccepted_bytes).sum()
}

/// `limits.max_connect_size`: 0x95, when the length is known; MQTT 3 has no words for it. Later packets may be larger.
#[test]
fn a_connect_is_small_and_later_packets_may_be_large() {
    for version in ProtocolVersion::ALL {
        let mut world = World::new(1, open_config(), || NoHooks);
        let bytes = large("c", version, 60 * KIB);
        let socket = world.connect(0);
        world.send(socket, &bytes);
        let mut client = Client::at(socket, version);
        assert_eq!(client.received(&mut world), [Got::Connack { present: false, code: ReasonCode::Success }]);
        client.publish(&mut world, "t", &"x".repeat(900 * KIB), QoS::AtMostOnce, 0);
        assert!(!world.is_closed(socket));

        let user = [("a".repeat(5000), "b".repeat(3000))];
        let properties = ConnectProperties { user: user[..].into(), ..ConnectProperties::default() };
        let name = "n".repeat(8000);
        let payload = vec![7; 60 * KIB];
        let will = Some(Will { topic: "w", payload: &payload, ..Will::default() });
        let options = ConnectOptions { properties, will, username: Some(&name), ..ConnectOptions::clean(version) };
        let mut bytes = Vec::new();
        connect_packet("d", options).encode(&mut bytes);
        let mut too_large = Client::at(world.connect(0), version);
        world.send(too_large.socket, &bytes[..20]);
        let code = ReasonCode::PacketTooLarge;
        let told = Vec::from_iter((version == V5).then_some(Got::Connack { present: false, code }));
        assert_eq!(too_large.received(&mut world), told);
        assert!(world.is_closed(too_large.socket));
    }
}

/// `limits.max_unaccepted_bytes`: half of a CONNECT from each of a hundred strangers. Those who have most there go; who is honest gets in.
#[test]
fn strangers_hold_no_more_than_all_of_them_may() {
    let bound = 128 * KIB;
    for mut world in worlds_with(|| config(|config| config.limits.max_unaccepted_bytes = 128 * KIB)) {
        let shards = world.shards.len();
        for version in [V31, V311, V5] {
            let before = refused_for_memory(&world);
            let strangers: Vec<Socket> = (0..100).map(|number| world.connect(number % shards)).collect();
            let bytes = large("stranger", version, 48 * KIB);
            let slow = world.connect(0);
            let mut connect = Vec::new();
            connect_packet("slow", ConnectOptions::clean(version)).encode(&mut connect);
            world.send(slow, &connect[..9]);
            for piece in bytes[..40 * KIB].chunks(8 * KIB) {
                for &stranger in &strangers {
                    if !world.is_closed(stranger) {
                        world.send(stranger, piece);
                    }
                    assert!(held(&world) <= shards * bound, "{}", held(&world));
                }
            }
            let left: Vec<_> = strangers.iter().filter(|stranger| !world.is_closed(**stranger)).collect();
            assert!(left.len() <= shards * 16 && left.len() >= shards, "{} are left", left.len());
            assert_eq!(refused_for_memory(&world) - before, 100 - left.len() as u64);
            let gone = strangers.iter().copied().find(|stranger| world.is_closed(*stranger)).expect("most are gone");
            let code = if version == V5 { ReasonCode::ServerBusy } else { ReasonCode::ServerUnavailable };
            let told = Client::at(gone, version).received(&mut world);
            assert_eq!(told, [Got::Connack { present: false, code }]);

            let honest = Client::clean(&mut world, "honest", version);
            world.send(slow, &connect[9..]);
            let accepted = Got::Connack { present: false, code: ReasonCode::Success };
            assert_eq!(Client::at(slow, version).received(&mut world), [accepted], "small ones never are among them");
            honest.disconnect(&mut world);
            world.hang_up(slow);
            strangers.iter().for_each(|stranger| world.hang_up(*stranger));
            assert_eq!(held(&world), 0);
        }
    }
}

/// What a hook is asked about counts, too, and what comes behind it.
#[test]
fn who_waits_for_a_hook_is_a_stranger_still() {
    let answers = Answers::default()
        .auth_on_register(|_, _| Answer::later(std::future::pending()))
        .auth_on_register_m5(|_, _| Answer::later(std::future::pending()));
    let small = |config: &mut Config| config.limits.max_unaccepted_bytes = 128 * KIB;
    for shards in [1, 2] {
        let script = Script::new(answers.clone());
        let mut world = World::new(shards, config(small), || NoHooks.hook(script.clone()));
        for version in [V311, V5] {
            let sockets: Vec<Socket> = (0..4).map(|_| world.connect(0)).collect();
            for (number, socket) in sockets.iter().enumerate() {
                world.send(*socket, &large(&format!("c{number}"), version, 40 * KIB));
            }
            let closed = sockets.iter().filter(|socket| world.is_closed(**socket)).count();
            assert_eq!((closed, held(&world) > 120 * KIB), (1, true), "three times 40 KiB fit");
            sockets.iter().for_each(|socket| world.hang_up(*socket));
            assert_eq!(held(&world), 0);
        }
    }
}
