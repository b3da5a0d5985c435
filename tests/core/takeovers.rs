//! Takeovers, lifecycle.md section 3: what a client sent on its old connection comes before what it does on the new one, and what it leaves
//! there does not keep it from coming.

use std::time::Duration;

use moormq::codec::{Ack, AckKind::*, Disconnect, Packet, QoS, ReasonCode};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;
use moormq::memory::MemoryStage;
use moormq::shard::{Input, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::world::{World, config, open_config, worlds, worlds_with};

/// The client of `old` sends `packets`, which the kernel has and nobody has read, and connects again on `shard`. Returns Session Present,
/// too.
fn back_at_once(
    world: &mut World<NoHooks>,
    (old, packets): (&Client, &[Packet<'_>]),
    (shard, id, options): (usize, &str, ConnectOptions<'_>),
) -> (Client, bool) {
    // What is to be read is, when everything has come to rest.
    let mut new = Client::open(world, shard, options.version);
    let (mut bytes, mut connect) = (Vec::new(), Vec::new());
    packets.iter().for_each(|packet| packet.encode(old.version, &mut bytes));
    world.send_to_kernel(old.socket, &bytes);
    connect_packet(id, options).encode(&mut connect);
    world.send(new.socket, &connect);
    let received = new.received(world);
    let [Got::Connack { present, code: ReasonCode::Success }] = received[..] else { panic!("{received:?}") };
    (new, present)
}

fn goodbye() -> Packet<'static> {
    Packet::Disconnect(Disconnect::new(ReasonCode::Success))
}

/// [MQTT-3.14.4-3]: whichever shard accepts the new connection, and whichever owns the session.
#[test]
fn a_disconnect_that_nobody_has_read_comes_before_a_takeover() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for version in [V311, V5] {
            let mut watcher = Client::clean(&mut world, "watcher", V311);
            watcher.subscribed(&mut world, "#", QoS::AtMostOnce);
            for owner in 0..shards {
                let id = id_owned_by(&world, owner, "c");
                for (acceptor, new) in
                    [(0, ConnectOptions::clean(version)), (shards - 1, ConnectOptions::kept(version))]
                {
                    let options = ConnectOptions::clean(version).will("will");
                    let (old, _) = Client::connect(&mut world, 0, &id, options);
                    let last = [Packet::Publish(publish("last", "words", QoS::AtMostOnce, 0)), goodbye()];
                    let (new, present) = back_at_once(&mut world, (&old, &last), (acceptor, &id, new));
                    assert_eq!(watcher.texts(&mut world), ["words"], "and no will");
                    assert!(!present && world.is_closed(old.socket));
                    new.disconnect(&mut world);
                }
            }
            world.hang_up(watcher.socket);
        }
    }
}

/// Two that want the same connection: the later one has it in the end.
#[test]
fn those_who_take_over_keep_their_order() {
    for mut world in worlds() {
        let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::kept(V5));
        let last = world.shards.len() - 1;
        let newer: Vec<_> = (0..3).map(|_| Client::open(&mut world, last, V5)).collect();
        let mut bytes = Vec::new();
        goodbye().encode(V5, &mut bytes);
        world.send_to_kernel(old.socket, &bytes);
        bytes.clear();
        connect_packet("id", ConnectOptions::kept(V5)).encode(&mut bytes);
        newer.iter().for_each(|client| world.send_quietly(client.socket, &bytes));
        world.settle();
        let mut newer = newer.into_iter().map(|mut client| client.received(&mut world)).collect::<Vec<_>>();
        assert!(matches!(newer.pop().as_deref(), Some([Got::Connack { present: true, .. }])));
        for taken_over in newer {
            let [Got::Connack { .. }, end] = &taken_over[..] else { panic!("{taken_over:?}") };
            assert_eq!(*end, Got::Disconnect(ReasonCode::SessionTakenOver));
        }
    }
}

/// Its publishes wait because somebody else is slow, and perhaps for memory, too; its DISCONNECT is behind them.
#[test]
fn what_a_held_publisher_has_sent_is_served_before_it_is_taken_over() {
    let tight = || {
        config(|config| {
            config.queue.max_waiting_output_bytes = 4096;
            config.queue.max_queue_bytes = Limit::at_most(1 << 20);
        })
    };
    for stage in [MemoryStage::Normal, MemoryStage::PublishersHeld] {
        for mut world in worlds_with(tight) {
            let mut slow = Client::clean(&mut world, "slow", V5);
            slow.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let mut watcher = Client::clean(&mut world, "watcher", V311);
            watcher.subscribed(&mut world, "will", QoS::AtMostOnce);
            watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
            world.stick(slow.socket, true);
            let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::clean(V311).will("will"));
            let payload = "x".repeat(1000);
            (0..15).for_each(|_| old.publish(&mut world, "t", &payload, QoS::AtMostOnce, 0));
            let before = watcher.texts(&mut world).len();
            assert!(before < 15, "it is held");
            (0..world.shards.len()).for_each(|shard| world.handle(shard, Input::Memory(stage)));
            let last = world.shards.len() - 1;
            back_at_once(&mut world, (&old, &[goodbye()]), (last, "id", ConnectOptions::clean(V311)));
            let rest = watcher.texts(&mut world);
            let has_will = rest.contains(&"gone".to_owned());
            assert_eq!((before + rest.len(), has_will), (15, false), "{stage:?}, {} shards", world.shards.len());
        }
    }
}

/// One read, and one share of a turn: what is beyond that is lost with the connection.
#[test]
fn who_never_ends_does_not_keep_its_successor_waiting() {
    for shards in [1, 2, 4] {
        let turn = TurnLimits { share: 400, turn: 800, at_once: 100, portion: 100, under_way: 1000 };
        let mut world = World::in_turns(shards, turn, open_config(), || NoHooks);
        let mut watcher = Client::clean(&mut world, "watcher", V311);
        watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
        let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::clean(V311));
        let packets: Vec<_> = (0..2000).map(|_| Packet::Publish(publish("t", "more", QoS::AtMostOnce, 0))).collect();
        let last = world.shards.len() - 1;
        let (_, present) = back_at_once(&mut world, (&old, &packets), (last, "id", ConnectOptions::clean(V311)));
        let served = watcher.texts(&mut world).len();
        assert!(!present && world.is_closed(old.socket) && (1..1000).contains(&served), "{served}");
    }
}

/// What it sent on the old connection is answered there, or not at all; what follows on the new one is its own.
#[test]
fn acknowledgements_that_nobody_has_read_count() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let (mut old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::kept(V5));
        old.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish(&mut world, "t", "once", QoS::AtLeastOnce, 1);
        let id = old.publishes(&mut world)[0].id.expect("QoS 1");
        let ack = Packet::Puback(Ack::new(packet_id(id), ReasonCode::Success));
        let (mut new, present) = back_at_once(&mut world, (&old, &[ack]), (last, "id", ConnectOptions::kept(V5)));
        assert_eq!((present, new.received(&mut world)), (true, vec![]), "nothing comes again");
        new.publish(&mut world, "x", "y", QoS::AtLeastOnce, 7);
        let got = new.received(&mut world);
        assert!(matches!(&got[..], [Got::Ack(Puback, 7, _)]), "{got:?}");
    }
}

/// Worlds in which more than three messages are a lot to be left.
fn narrow_worlds(
    shards: &'static [usize],
    config: impl Fn() -> Config + 'static,
) -> impl Iterator<Item = World<NoHooks>> {
    let turn = TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 };
    shards.iter().map(move |shards| World::in_turns(*shards, turn, config(), || NoHooks))
}

/// How much a session leaves: a little, and a lot.
const LEFT: [usize; 2] = [2, 62];

/// Lets two messages at a time be in flight.
fn narrow(options: ConnectOptions<'_>) -> ConnectOptions<'_> {
    options.with(|properties| properties.receive_maximum = Some(2))
}

/// A client, connected to the first shard, whose session is on the last one, with so many messages.
fn with_messages(world: &mut World<NoHooks>, options: ConnectOptions<'_>, many: usize) -> (Client, String) {
    let id = id_owned_by(world, world.shards.len() - 1, "c");
    let (mut client, _) = Client::connect(world, 0, &id, narrow(options));
    fill(world, &mut client, many);
    (client, id)
}

/// The client gets so many messages more.
fn fill(world: &mut World<NoHooks>, client: &mut Client, many: usize) {
    client.subscribed(world, "own", QoS::AtLeastOnce);
    let publisher = Client::clean(world, "publisher", V5);
    (0..many).for_each(|_| publisher.publish(world, "own", "x", QoS::AtLeastOnce, 1));
    publisher.disconnect(world);
    begin_turn(world);
}

fn begin_turn(world: &mut World<NoHooks>) {
    world.now = world.now + Duration::from_millis(1);
}

/// A client connects to the first shard. No shard gets another turn after that: if a lot is left of the session before, it waits.
fn connect_in_this_turn(world: &mut World<NoHooks>, id: &str, options: ConnectOptions<'_>) -> Client {
    let client = Client::open(world, 0, options.version);
    let mut connect = Vec::new();
    connect_packet(id, options).encode(&mut connect);
    begin_turn(world);
    world.send_quietly(client.socket, &connect);
    while world.carry_out_outputs() | world.carry_messages() {}
    client
}

/// The reason code of the CONNACK.
fn answer(world: &mut World<NoHooks>, client: &mut Client) -> Option<ReasonCode> {
    match client.received(world).first() {
        Some(Got::Connack { code, .. }) => Some(*code),
        _ => None,
    }
}

fn tell_memory(world: &mut World<NoHooks>, stage: MemoryStage) {
    (0..world.shards.len()).for_each(|shard| world.handle(shard, Input::Memory(stage)));
}

/// Without memory who has a session is let in, also if that ends for it, connected or not, however much it leaves.
#[test]
fn who_takes_over_is_let_in_without_memory() {
    for many in LEFT {
        for (kept, connected) in [(false, true), (true, true), (true, false)] {
            for mut world in narrow_worlds(&[1, 2, 4], open_config) {
                let options = if kept { ConnectOptions::kept(V5) } else { ConnectOptions::clean(V5) };
                let (old, id) = with_messages(&mut world, options, many);
                if !connected {
                    world.hang_up(old.socket);
                }
                tell_memory(&mut world, MemoryStage::Full);
                let mut new = Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(V5));
                let case = (kept, connected, many, world.shards.len());
                assert_eq!(answer(&mut world, &mut new), Some(ReasonCode::Success), "{case:?}");
                let mut other = Client::send_connect(&mut world, 0, "other", ConnectOptions::clean(V5));
                assert_eq!(answer(&mut world, &mut other), Some(ReasonCode::QuotaExceeded), "{case:?}");
            }
        }
    }
}

/// While it waits for what that leaves, nobody else gets the place of the session that has ended for it.
#[test]
fn who_takes_over_keeps_the_place_of_its_session() {
    for many in LEFT {
        for mut world in narrow_worlds(&[1, 2, 4], || config(|config| config.limits.max_sessions = Limit::at_most(2))) {
            let (old, id) = with_messages(&mut world, ConnectOptions::clean(V5), many);
            Client::clean(&mut world, "second", V5);
            let mut new = connect_in_this_turn(&mut world, &id, ConnectOptions::clean(V5));
            assert!(world.is_closed(old.socket), "it has come this far");
            let mut other = connect_in_this_turn(&mut world, "other", ConnectOptions::clean(V5));
            world.settle();
            let answers = [&mut new, &mut other].map(|client| answer(&mut world, client));
            let case = (many, world.shards.len());
            assert_eq!(answers, [Some(ReasonCode::Success), Some(ReasonCode::QuotaExceeded)], "{case:?}");
            // And it has one place, not two.
            new.disconnect(&mut world);
            Client::clean(&mut world, "other", V5);
            let mut third = Client::send_connect(&mut world, 0, "third", ConnectOptions::clean(V5));
            assert_eq!(answer(&mut world, &mut third), Some(ReasonCode::QuotaExceeded), "{case:?}");
        }
    }
}

#[test]
fn the_place_of_who_leaves_while_it_takes_over_is_free() {
    for mut world in narrow_worlds(&[1, 2, 4], || config(|config| config.limits.max_sessions = Limit::at_most(2))) {
        let (old, id) = with_messages(&mut world, ConnectOptions::clean(V5), 62);
        Client::clean(&mut world, "second", V5);
        let new = connect_in_this_turn(&mut world, &id, ConnectOptions::clean(V5));
        assert!(world.is_closed(old.socket) && world.shards.iter().any(|shard| shard.is_behind()), "it waits");
        world.hang_up(new.socket);
        Client::clean(&mut world, "other", V5);
        let mut third = Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(V5));
        assert_eq!(answer(&mut world, &mut third), Some(ReasonCode::QuotaExceeded));
    }
}

/// What it may is known on the shard, too, that its slot moves to while it waits.
#[test]
fn who_takes_over_while_its_slot_moves_keeps_its_place() {
    let limited = || {
        config(|config| {
            config.limits.max_sessions = Limit::at_most(2);
            config.session.takeover_limit = Some(1);
        })
    };
    for mut world in narrow_worlds(&[2, 4], limited) {
        let (old, id) = with_messages(&mut world, ConnectOptions::clean(V5), 62);
        Client::clean(&mut world, "second", V5);
        let mut new = connect_in_this_turn(&mut world, &id, ConnectOptions::clean(V5));
        assert!(world.is_closed(old.socket) && world.shards.iter().any(|shard| shard.is_behind()), "it waits");
        tell_memory(&mut world, MemoryStage::Full);
        move_slot(&mut world, &id, 0);
        world.settle();
        assert_eq!((answer(&mut world, &mut new), world.shard_of(new.socket)), (Some(ReasonCode::Success), Some(0)));
        let mut again = Client::send_connect(&mut world, 0, &id, ConnectOptions::clean(V5));
        assert_eq!(answer(&mut world, &mut again), Some(ReasonCode::ConnectionRateExceeded), "the second takeover");
    }
}

/// `takeover_limit`: what a session leaves does not make a fight begin anew.
#[test]
fn a_fight_for_one_client_id_ends_however_much_is_left() {
    let limited = || config(|config| config.session.takeover_limit = Some(3));
    for many in LEFT {
        for mut world in narrow_worlds(&[1, 2, 4], limited) {
            let options = narrow(ConnectOptions::clean(V5));
            let (mut last, id) = with_messages(&mut world, options, many);
            for _ in 0..3 {
                let (newcomer, _) = Client::connect(&mut world, 0, &id, options);
                assert!(world.is_closed(last.socket));
                last = newcomer;
                fill(&mut world, &mut last, many);
            }
            let mut refused = Client::send_connect(&mut world, 0, &id, options);
            let case = (many, world.shards.len());
            assert_eq!(answer(&mut world, &mut refused), Some(ReasonCode::ConnectionRateExceeded), "{case:?}");
            assert!(!world.is_closed(last.socket));
            world.advance(Duration::from_secs(61));
            Client::connect(&mut world, 0, &id, options);
            assert!(world.is_closed(last.socket), "a new window");
        }
    }
}

/// What held it up is done away with so that its last bytes are served; if they were not the last ones, it goes on.
#[test]
fn a_held_publisher_goes_on_if_it_is_not_taken_over() {
    let limited = || config(|config| config.session.takeover_limit = Some(1));
    for mut world in worlds_with(limited) {
        let mut watcher = Client::clean(&mut world, "watcher", V311);
        watcher.subscribed(&mut world, "t", QoS::AtMostOnce);
        let last = world.shards.len() - 1;
        Client::connect(&mut world, 0, "id", ConnectOptions::clean(V5));
        let (old, _) = Client::connect(&mut world, 0, "id", ConnectOptions::clean(V5));
        tell_memory(&mut world, MemoryStage::PublishersHeld);
        old.publish(&mut world, "t", "held", QoS::AtMostOnce, 0);
        assert_eq!(watcher.texts(&mut world), [""; 0]);
        let mut refused = Client::send_connect(&mut world, last, "id", ConnectOptions::clean(V5));
        assert_eq!(answer(&mut world, &mut refused), Some(ReasonCode::ConnectionRateExceeded));
        assert_eq!(watcher.texts(&mut world), ["held"], "it might have been the last one");
        tell_memory(&mut world, MemoryStage::Normal);
        old.publish(&mut world, "t", "more", QoS::AtMostOnce, 0);
        assert_eq!(watcher.texts(&mut world), ["more"], "{} shards", world.shards.len());
    }
}
