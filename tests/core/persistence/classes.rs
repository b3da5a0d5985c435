//! Classes of durability: of whom something is stored, and who waits for what.

use std::time::Duration;

use moormq::codec::{AckKind::*, ConnectProperties, Packet, Publish, QoS, ReasonCode, Will};
use moormq::config::StoredDurability;
use moormq::hooks::{
    Answer, Chain, ConnectRefusal, ConnectRefusalM5, Linked, NoHooks, RegisterModifiers, RegisterModifiersM5,
};
use moormq::journal::Sync;
use moormq::shard::TurnLimits;

use super::{passing, seen};
use crate::client::{Client, ConnectOptions, V5, V311, acked, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::stores::{Last, Stores, stored_world, with_stores};
use crate::world::{World, config, open_config};

const NOTHING: [Got; 0] = [];
const CONNACK: fn(bool) -> Got = |present| Got::Connack { present, code: ReasonCode::Success };

/// The user name says what is stored of a session.
fn by_name() -> Linked<NoHooks, Script> {
    let class = |name: Option<&str>| match name {
        Some("none") => Some(StoredDurability::None),
        Some("flushed") => Some(StoredDurability::Flushed),
        Some("fsynced") => Some(StoredDurability::Fsynced),
        _ => None,
    };
    let answers = Answers::default()
        .auth_on_register(move |client, _| -> Answer<RegisterModifiers, ConnectRefusal> {
            let durability = class(client.username.as_deref());
            Answer::Ok(RegisterModifiers { durability, ..RegisterModifiers::default() })
        })
        .auth_on_register_m5(move |client, _| -> Answer<RegisterModifiersM5, ConnectRefusalM5> {
            let durability = class(client.username.as_deref());
            Answer::Ok(RegisterModifiersM5 { durability, ..RegisterModifiersM5::default() })
        });
    NoHooks.hook(Script::new(answers))
}

type Classes = World<Linked<NoHooks, Script>>;

fn worlds() -> impl Iterator<Item = Classes> {
    [1, 2, 4].into_iter().map(|shards| stored_world(shards, open_config(), by_name))
}

fn restarted(world: Classes, last: Last) -> Classes {
    let shards = world.shards.len();
    world.restarted((last, Duration::ZERO), shards, open_config(), by_name)
}

fn of_class(class: &str) -> ConnectOptions<'_> {
    ConnectOptions { username: Some(class), ..ConnectOptions::kept(V5) }
}

/// A client whose session is kept, and of this class; whether it was there.
fn come(world: &mut Classes, id: &str, class: &str) -> (Client, bool) {
    Client::connect(world, 0, id, of_class(class))
}

fn last(world: &Classes) -> usize {
    world.shards.len() - 1
}

#[test]
fn nothing_of_class_none_is_written_and_it_waits_for_nothing() {
    for mut world in worlds() {
        let ids = ["v5", "v3"].map(|name| id_owned_by(&world, last(&world), name));
        let before = world.record_count();
        world.hold_commits();
        for (version, id) in [V5, V311].into_iter().zip(&ids) {
            let options = ConnectOptions { version, username: Some("none"), ..ConnectOptions::kept(version) };
            let (mut client, _) = Client::connect(&mut world, 0, id, options.will("gone"));
            client.subscribe(&mut world, id, QoS::ExactlyOnce);
            client.publish(&mut world, id, "1", QoS::AtLeastOnce, 7);
            client.publish(&mut world, id, "2", QoS::ExactlyOnce, 8);
            client.ack(&mut world, Pubrel, 8);
            client.unsubscribe(&mut world, &["other"]);
            let got = client.received(&mut world);
            let publishes = got.iter().filter(|one| matches!(one, Got::Publish(_))).count();
            assert_eq!(publishes, 2, "at QoS 2, too: {got:?}");
            for expected in [acked(Puback, 7), acked(Pubrec, 8), acked(Pubcomp, 8)] {
                assert!(got.contains(&expected), "{expected:?}: {got:?}");
            }
            assert_eq!(got.len(), 2 + 3 + 2, "SUBACK and UNSUBACK: {got:?}");
            world.hang_up(client.socket);
        }
        let publisher = passing(&mut world);
        publisher.publish(&mut world, &ids[0], "3", QoS::AtLeastOnce, 1);
        world.commit();
        assert_eq!(world.record_count(), before, "{:?}", world.stores().records(0));
        let (mut client, present) = come(&mut world, &ids[0], "none");
        assert!(present, "it is kept, in memory");
        assert_eq!(client.texts(&mut world), ["1", "2", "3"]);
        let mut world = restarted(world, Last::Written);
        let (mut client, present) = come(&mut world, &ids[0], "none");
        assert!(!present && client.texts(&mut world).is_empty());
    }
}

#[test]
fn what_a_listener_and_the_broker_say_holds_unless_a_hook_says_otherwise() {
    use StoredDurability::{Flushed, Fsynced, None};
    let is_stored = |all, of_listener, user: Option<&str>| {
        let mut world = stored_world(
            1,
            config(|config| {
                config.storage.durability = all;
                config.listeners[0].durability = of_listener;
            }),
            by_name,
        );
        let options = ConnectOptions { username: user, ..ConnectOptions::kept(V5) };
        Client::connect(&mut world, 0, "c", options);
        world.record_count() > 0
    };
    assert!(is_stored(Fsynced, Option::None, Option::None));
    assert!(!is_stored(None, Option::None, Option::None));
    assert!(!is_stored(Fsynced, Some(None), Option::None));
    assert!(is_stored(None, Some(Flushed), Option::None));
    assert!(is_stored(None, Some(None), Some("fsynced")));
    assert!(!is_stored(Fsynced, Some(Fsynced), Some("none")));
}

/// By the classes of those who get it.
#[test]
fn what_others_get_from_class_none_is_stored_and_its_acknowledgement_does_not_wait() {
    for mut world in worlds() {
        let shard = last(&world);
        let ids = ["fsynced", "none"].map(|class| (class, id_owned_by(&world, shard, class)));
        for (class, id) in &ids {
            let (mut client, _) = come(&mut world, id, class);
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(client.socket);
        }
        let (mut publisher, _) = come(&mut world, "publisher", "none");
        let mut waiting = Client::connect(&mut world, 0, "waiting", ConnectOptions::clean(V5)).0;
        world.hold_commits();
        publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
        publisher.publish(&mut world, "t", "2", QoS::ExactlyOnce, 2);
        publisher.publish_with(&mut world, Publish { retain: true, ..publish("r", "new", QoS::AtLeastOnce, 3) });
        let nobody = Got::Ack(Puback, 3, ReasonCode::NoMatchingSubscribers);
        assert_eq!(publisher.received(&mut world), [acked(Puback, 1), acked(Pubrec, 2), nobody]);
        waiting.publish(&mut world, "t", "3", QoS::AtLeastOnce, 1);
        assert_eq!(waiting.received(&mut world), NOTHING, "whose session is not of that class waits");
        world.commit();
        assert_eq!(waiting.received(&mut world), [acked(Puback, 1)]);
        let mut world = restarted(world, Last::Lost);
        for (class, id) in &ids {
            let (mut client, present) = come(&mut world, id, class);
            let is_stored = *class == "fsynced";
            assert_eq!(present, is_stored);
            assert_eq!(client.texts(&mut world), if is_stored { vec!["1", "2", "3"] } else { vec![] });
            client.subscribe(&mut world, "r", QoS::AtMostOnce);
            assert_eq!(client.texts(&mut world), ["new"], "what is retained is the broker's");
        }
    }
}

/// What its client does from then on is not recorded: as it was, the session must not come back.
#[test]
fn a_stored_session_that_is_stored_no_more_is_gone_from_the_disk_before_connack() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let (mut client, _) = come(&mut world, &id, "fsynced");
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "in flight", QoS::AtLeastOnce, 1);
        world.hang_up(client.socket);
        publisher.publish(&mut world, "t", "waits", QoS::ExactlyOnce, 2);
        world.hold_commits();
        let mut client = Client::send_connect(&mut world, 0, &id, of_class("none"));
        assert_eq!(client.received(&mut world), NOTHING);
        world.commit();
        let got = client.received(&mut world);
        assert_eq!(got[0], CONNACK(true));
        assert_eq!(got.len(), 3, "it has all that it had: {got:?}");
        let before = world.record_count();
        client.subscribe(&mut world, "u", QoS::AtLeastOnce);
        assert_eq!(client.received(&mut world).len(), 1, "SUBACK, at once");
        publisher.publish(&mut world, "u", "later", QoS::AtLeastOnce, 3);
        world.hang_up(client.socket);
        world.commit();
        assert_eq!(world.record_count(), before);
        let mut world = restarted(world, Last::Written);
        let (mut client, present) = come(&mut world, &id, "fsynced");
        assert!(!present && client.texts(&mut world).is_empty());
    }
}

/// Who takes over from a client that waits for that waits for it, too.
#[test]
fn nobody_has_connack_before_what_was_stored_is_gone_from_the_disk() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let (client, _) = come(&mut world, &id, "fsynced");
        world.hang_up(client.socket);
        world.hold_commits();
        let mut clients = [(); 3].map(|()| Client::send_connect(&mut world, 0, &id, of_class("none")));
        for client in &mut clients {
            assert_eq!(client.received(&mut world), NOTHING);
        }
        world.commit();
        assert_eq!(clients[2].received(&mut world), [CONNACK(true)]);
        let (_, present) = come(&mut restarted(world, Last::Lost), &id, "fsynced");
        assert!(!present);
    }
}

/// A session of class none of the first shard has taken a QoS 2 message, which the shard of a stored subscriber has not on disk. Gives the client ids of both, and
/// the subscriber.
fn taken_from_class_none(shards: usize) -> (Classes, String, String, Client) {
    let mut world = stored_world(shards, open_config(), by_name);
    let (id, subscriber_id) = (id_owned_by(&world, 0, "publisher"), id_owned_by(&world, 1, "subscriber"));
    let (mut subscriber, _) = come(&mut world, &subscriber_id, "fsynced");
    subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
    let (publisher, _) = come(&mut world, &id, "none");
    world.hold_commits();
    publisher.publish(&mut world, "t", "one", QoS::ExactlyOnce, 1);
    (world, id, subscriber_id, subscriber)
}

/// What its client has published is on the disk of no subscriber's shard: then it is not on disk that it was taken, and it can be sent again.
#[test]
fn a_session_that_is_stored_from_now_on_has_taken_what_others_have_on_disk() {
    for shards in [2, 4] {
        let (mut world, id, subscriber_id, _) = taken_from_class_none(shards);
        let mut publisher = Client::send_connect(&mut world, 0, &id, of_class("fsynced"));
        world.commit_on(0);
        assert_eq!(publisher.received(&mut world), NOTHING);
        let mut world = restarted(world, Last::Lost);
        let mut publisher = Client::send_connect(&mut world, 0, &id, of_class("fsynced"));
        publisher.publish_with(&mut world, Publish { dup: true, ..publish("t", "one", QoS::ExactlyOnce, 1) });
        assert_eq!(publisher.received(&mut world), [CONNACK(false), acked(Pubrec, 1)]);
        let (mut subscriber, _) = come(&mut world, &subscriber_id, "fsynced");
        assert_eq!(subscriber.texts(&mut world), ["one"]);
    }
}

/// When they have it, it is whole; and who leaves before that, or is not to be stored again, does not wait for it.
#[test]
fn a_session_that_waits_for_others_to_be_whole_is_whole_then_or_ends() {
    for (shards, class) in [2, 4].into_iter().flat_map(|shards| [(shards, "fsynced"), (shards, "none")]) {
        let (mut world, id, _, mut subscriber) = taken_from_class_none(shards);
        Client::send_connect(&mut world, 0, &id, of_class("fsynced"));
        let mut publisher = Client::send_connect(&mut world, 0, &id, of_class(class));
        world.commit_on(0);
        assert_eq!(publisher.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(publisher.received(&mut world), [CONNACK(true)]);
        assert_eq!(subscriber.texts(&mut world), ["one"]);
        let (_, present) = come(&mut restarted(world, Last::Lost), &id, "fsynced");
        assert_eq!(present, class == "fsynced", "{shards} shards");
    }
}

/// Its new shard is told that its end is on disk, though nothing of it is stored any more when it moves.
#[test]
fn a_session_that_is_stored_no_more_moves() {
    for shards in [2, 4] {
        let mut world = stored_world(shards, open_config(), by_name);
        let id = id_owned_by(&world, 1, "c");
        for class in ["fsynced", "none"] {
            let (client, _) = come(&mut world, &id, class);
            world.hang_up(client.socket);
        }
        move_slot(&mut world, &id, 0);
        world.settle();
        let mut client = Client::send_connect(&mut world, 0, &id, of_class("none"));
        assert_eq!(client.received(&mut world), [CONNACK(true)], "{shards} shards");
        assert_eq!(world.shard_of(client.socket), Some(0));
    }
}

/// Everything: subscriptions, what is in flight with its packet ids and how far it is, what waits, packet ids of the client, the will.
#[test]
fn a_session_that_is_stored_from_now_on_is_on_disk_as_a_whole_before_connack() {
    for mut world in worlds() {
        let id = id_owned_by(&world, last(&world), "c");
        let will = Will { topic: "gone", payload: b"gone", qos: QoS::AtLeastOnce, ..Will::default() };
        let few = |class| {
            let options = of_class(class).with(|properties| properties.receive_maximum = Some(3));
            ConnectOptions { will: Some(will), ..options }
        };
        let mut watcher = Client::connect(&mut world, 0, "watcher", of_class("fsynced")).0;
        watcher.subscribed(&mut world, "gone", QoS::AtLeastOnce);
        let records = world.record_count();
        let (mut client, _) = Client::connect(&mut world, 0, &id, few("none"));
        client.subscribed(&mut world, "t", QoS::ExactlyOnce);
        client.subscribed(&mut world, "u", QoS::AtLeastOnce);
        client.publish(&mut world, "x", "not released", QoS::ExactlyOnce, 99);
        client.received(&mut world);
        let publisher = passing(&mut world);
        for (id, text) in (1..).zip(["a", "b", "c", "d", "e"]) {
            let qos = if id % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            publisher.publish(&mut world, "t", text, qos, id);
        }
        let before = client.publishes(&mut world);
        let ids: Vec<u16> = before.iter().filter_map(|one| one.id).collect();
        assert_eq!(seen(&before).len(), 3, "two wait");
        client.ack(&mut world, Pubrec, ids[1]);
        client.received(&mut world);
        client.disconnect(&mut world);
        publisher.publish(&mut world, "t", "f", QoS::ExactlyOnce, 6);
        assert_eq!(world.record_count(), records);
        world.hold_commits();
        let mut client = Client::send_connect(&mut world, 0, &id, few("fsynced"));
        assert_eq!(client.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(client.received(&mut world)[0], CONNACK(true));
        for round in 0..2 {
            world = restarted(world, Last::Lost);
            if round == 0 {
                let mut watcher = Client::connect(&mut world, 0, "watcher", of_class("fsynced")).0;
                assert_eq!(watcher.texts(&mut world), ["gone"], "its will was on disk");
            }
            let (mut client, present) = come(&mut world, &id, "fsynced");
            assert!(present);
            let got = client.received(&mut world);
            let publishes: Vec<_> = got
                .iter()
                .filter_map(|one| if let Got::Publish(one) = one { Some(one.clone()) } else { None })
                .collect();
            let in_flight = [("a", QoS::AtLeastOnce, Some(ids[0]), true), ("c", QoS::AtLeastOnce, Some(ids[2]), true)];
            assert_eq!(seen(&publishes)[..2], in_flight, "round {round}");
            let texts: Vec<_> = publishes.iter().map(|one| one.text()).collect();
            assert_eq!(texts, ["a", "c", "d", "e", "f"], "round {round}");
            assert!(got.contains(&acked(Pubrel, ids[1])), "{got:?}");
            // It was taken.
            client.publish(&mut world, "t", "again", QoS::ExactlyOnce, 99);
            assert_eq!(client.received(&mut world), [acked(Pubrec, 99)]);
        }
        let mut client = Client::connect(&mut world, 0, &id, few("fsynced")).0;
        assert_eq!(client.drained(&mut world), ["a", "c", "d", "e", "f"]);
        let publisher = passing(&mut world);
        publisher.publish(&mut world, "u", "new", QoS::AtLeastOnce, 1);
        assert_eq!(client.drained(&mut world), ["new"]);
    }
}

/// It is recorded in portions. If the broker dies before all is on disk, it is gone, as it would have been: its client was told nothing.
#[test]
fn a_session_that_is_not_on_disk_as_a_whole_is_not_there_after_a_crash() {
    for shards in [1, 2, 4] {
        let mut left = Vec::new();
        for portions in 0..400 {
            let turn = TurnLimits { share: 8, ..TurnLimits::default() };
            let world = World::in_turns(shards, turn, open_config(), by_name);
            let mut world = with_stores(world, Stores::default());
            let id = id_owned_by(&world, shards - 1, "c");
            let (mut client, _) = come(&mut world, &id, "none");
            for number in 0..20 {
                client.subscribed(&mut world, &format!("t/{number}"), QoS::AtLeastOnce);
            }
            world.hang_up(client.socket);
            world.hold_commits();
            let client = Client::open(&mut world, 0, V5);
            let mut connect = Vec::new();
            crate::client::connect_packet(&id, of_class("fsynced")).encode(&mut connect);
            world.send_quietly(client.socket, &connect);
            for _ in 0..portions {
                world.carry_out_outputs();
                world.carry_messages();
                world.carry_transfer();
                world.catch_up();
                (0..shards).for_each(|shard| world.commit_quietly(shard));
            }
            let mut world = restarted(world, Last::Lost);
            let (mut client, present) = come(&mut world, &id, "fsynced");
            left.push(present);
            let publisher = passing(&mut world);
            for number in [0, 19] {
                publisher.publish(&mut world, &format!("t/{number}"), "x", QoS::AtLeastOnce, 1);
            }
            assert_eq!(client.texts(&mut world).len(), if present { 2 } else { 0 }, "all or nothing");
            if present {
                break;
            }
        }
        assert!(left.len() > 2 && left.last() == Some(&true), "{left:?}");
    }
}

/// Also if it is not stored itself: what it has published waits for the disks of others.
#[test]
fn who_moves_to_another_shard_has_its_acknowledgements_first() {
    for shards in [2, 4] {
        let mut world = stored_world(shards, open_config(), by_name);
        let (mut subscriber, _) = come(&mut world, "subscriber", "fsynced");
        subscriber.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let id = id_owned_by(&world, 0, "publisher");
        let mut publisher = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V5)).0;
        world.hold_commits();
        publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
        move_slot(&mut world, &id, 1);
        assert_eq!(publisher.received(&mut world), NOTHING);
        world.commit();
        world.advance(Duration::from_secs(1));
        assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
        assert_eq!(world.shard_of(publisher.socket), Some(1));
        publisher.send(&mut world, &Packet::Pingreq);
        assert_eq!(publisher.received(&mut world), [Got::Pingresp]);
    }
}

/// It was paused for that, and leaves with something unread. The move does not wait for its end, which waits for the move.
#[test]
fn who_hangs_up_while_its_move_waits_for_the_disk_moves() {
    for shards in [2, 4] {
        let mut world = stored_world(shards, open_config(), by_name);
        let (mut subscriber, _) = come(&mut world, "subscriber", "fsynced");
        subscriber.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let id = id_owned_by(&world, 0, "publisher");
        let (publisher, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        world.hold_commits();
        publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
        move_slot(&mut world, &id, 1);
        publisher.publish(&mut world, "t", "2", QoS::AtLeastOnce, 2);
        world.close_behind(publisher.socket);
        world.commit();
        world.advance(Duration::from_secs(1));
        world.commit();
        assert!(world.is_gone(publisher.socket));
        assert_eq!(subscriber.texts(&mut world), ["1", "2"], "{shards} shards");
        world.stores().is_held = false;
        let (_, present) = Client::connect(&mut world, 1, &id, ConnectOptions::kept(V5));
        assert!(present);
    }
}

/// A flushed subscriber and publisher: whoever is promised more has what concerns it synced.
#[test]
fn a_commit_is_synced_if_anybody_is_promised_that_and_others_do_not_wait_for_it() {
    for shards in [1, 2, 4] {
        let mut stores = Stores::default();
        stores.settings.sync = Sync::Linked;
        let mut world = with_stores(World::new(shards, open_config(), by_name), stores);
        let shard = last(&world);
        let ids = ["flushed", "fsynced"].map(|class| (class, id_owned_by(&world, shard, class)));
        for (class, id) in &ids {
            let (mut client, _) = come(&mut world, id, class);
            client.subscribed(&mut world, class, QoS::ExactlyOnce);
            world.hang_up(client.socket);
        }
        let mut publishers = ["flushed", "fsynced"].map(|class| {
            let id = id_owned_by(&world, 0, &format!("p-{class}"));
            Client::connect(&mut world, 0, &id, ConnectOptions { username: Some(class), ..ConnectOptions::clean(V5) }).0
        });
        world.hold_commits();
        world.stores().are_syncs_held = true;
        for (at, to, is_synced) in
            [(0, "flushed", false), (0, "fsynced", true), (1, "flushed", true), (1, "fsynced", true)]
        {
            let publisher = &mut publishers[at];
            publisher.publish(&mut world, to, "x", QoS::AtLeastOnce, 1);
            let sync = if is_synced { Sync::Linked } else { Sync::Never };
            assert_eq!(world.is_writing(shard), Some(sync), "{at} {to}, {shards} shards");
            assert_eq!(publisher.received(&mut world), NOTHING);
            world.commit();
            let (mut written, now) = (publisher.received(&mut world), [acked(Puback, 1)]);
            let is_there = |got: &[Got]| got == now;
            assert_eq!(is_there(&written), at == 0, "{to}, {shards} shards");
            world.end_syncs();
            written.extend(publisher.received(&mut world));
            assert!(is_there(&written), "{at} {to}, {shards} shards: {written:?}");
        }
    }
}

/// A session is stored again while pages of its queue are on the way to the archive: its messages are in the journal with it, and are there if that is all.
#[test]
fn what_is_stored_again_is_whole_without_pages_that_are_under_way() {
    const MANY: usize = 5;
    let text = |number: usize| format!("{number}{}", "x".repeat(2000));
    for shards in [1, 2, 4] {
        let world = World::new(shards, open_config(), by_name);
        let mut world = with_stores(world, Stores::default().gathering(shards, 1000));
        let id = id_owned_by(&world, last(&world), "mover");
        let (mut client, _) = come(&mut world, &id, "fsynced");
        client.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(client.socket);
        world.stores().is_archive_held = true;
        let mut publisher = passing(&mut world);
        for number in 0..MANY {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
        }
        for class in ["none", "fsynced"] {
            let one = ConnectProperties { receive_maximum: Some(1), ..of_class(class).properties };
            let one = ConnectOptions { properties: one, ..of_class(class) };
            let (client, present) = Client::connect(&mut world, 0, &id, one);
            assert!(present);
            world.hang_up(client.socket);
        }
        assert_eq!(world.stores().pages(), 0, "none has got there");
        let mut world = restarted(world, Last::Lost);
        let (mut client, present) = come(&mut world, &id, "fsynced");
        assert!(present);
        assert_eq!(client.drained(&mut world), (0..MANY).map(text).collect::<Vec<_>>(), "{shards} shards");
    }
}
