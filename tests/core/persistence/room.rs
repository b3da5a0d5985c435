//! Room in the journal, and a disk that fails.

use std::time::Duration;

use moormq::codec::{AckKind::*, Packet, QoS};
use moormq::hooks::NoHooks;

use super::{kept, killed, last, passing, worlds};
use crate::client::{Client, ConnectOptions, V5, acked, publish};
use crate::received::Got;
use crate::stores::Last;
use crate::world::{World, open_config};

/// A message of some size.
fn text(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(20_000))
}

/// The next start has more segments: what counts of a journal that is full does not fit into the one that a start adds.
fn more_segments(world: &mut World<NoHooks>) {
    world.stores().settings.segments = 12;
}

/// A session with messages of about a megabyte that wait, which count; then others that are acknowledged, through all segments several times.
#[test]
fn segments_are_used_again_and_what_counts_is_kept_wherever_the_broker_dies() {
    for (writes, last_write) in
        [(0, Last::Lost), (1, Last::Torn), (3, Last::Lost), (7, Last::Written), (20, Last::Lost)]
    {
        for mut world in worlds() {
            let shards = world.shards.len();
            let mut absent = kept(&mut world, shards - 1, "absent");
            absent.subscribed(&mut world, "old", QoS::ExactlyOnce);
            world.hang_up(absent.socket);
            let publisher = passing(&mut world);
            for number in 0..10 {
                publisher.publish(&mut world, "old", &text(number), QoS::ExactlyOnce, number as u16 + 1);
            }
            publisher.retain(&mut world, "r", "retained");
            let mut reader = kept(&mut world, shards - 1, "reader");
            reader.subscribed(&mut world, "new", QoS::AtLeastOnce);
            let before = world.stores().prepared;
            for number in 0..400 {
                publisher.publish(&mut world, "new", &text(number), QoS::AtLeastOnce, 100);
                let got = reader.publishes(&mut world);
                assert_eq!(got.len(), 1, "{number}: nobody waits for ever");
                reader.ack(&mut world, Puback, got[0].id.expect("QoS 1"));
            }
            assert!(world.stores().prepared > before + 6, "segments were used again");
            // And on, up to a crash somewhere.
            world.hold_commits();
            for number in 0..60 {
                publisher.publish(&mut world, "new", &text(number), QoS::AtLeastOnce, 100);
                if number % 3 == 0 {
                    (0..shards).for_each(|shard| (0..writes).for_each(|_| world.commit_quietly(shard)));
                    world.settle();
                }
            }
            more_segments(&mut world);
            let mut world = world.restarted((last_write, Duration::ZERO), shards, open_config(), || NoHooks);
            let mut absent = kept(&mut world, shards - 1, "absent");
            let expected: Vec<_> = (0..10).map(text).collect();
            assert_eq!(absent.drained(&mut world), expected);
            let mut late = passing(&mut world);
            late.subscribe(&mut world, "r", QoS::AtMostOnce);
            assert_eq!(late.texts(&mut world), ["retained"]);
        }
    }
}

/// What the last session left fills the journal but for its last segment, and nothing is recorded that could make room.
#[test]
fn a_journal_of_which_nothing_counts_has_room_at_the_next_start() {
    for mut world in worlds() {
        let shards = world.shards.len();
        world.stores().settings.segments = 3;
        kept(&mut world, shards - 1, "c");
        world = killed(killed(world));
        world.hold_commits();
        Client::on(&mut world, shards - 1, "c", ConnectOptions::clean(V5));
        let mut world = world.restarted((Last::Written, Duration::ZERO), shards, open_config(), || NoHooks);
        let mut client = Client::on(&mut world, shards - 1, "other", ConnectOptions::clean(V5));
        client.subscribed(&mut world, "t", QoS::AtMostOnce);
        client.publish(&mut world, "t", "x", QoS::AtMostOnce, 0);
        assert_eq!(client.texts(&mut world), ["x"]);
    }
}

/// Nobody acknowledges: then publishers wait, and others do not; and when there is room again, all goes on.
#[test]
fn publishers_wait_while_the_journal_is_full() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let shard = last(&world);
        let mut absent = kept(&mut world, shard, "absent");
        absent.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(absent.socket);
        let mut publisher =
            Client::on(&mut world, shard, "publisher", crate::client::ConnectOptions::clean(crate::client::V5));
        let mut taken = 0;
        for number in 0..400 {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, number as u16 + 1);
            taken += publisher.received(&mut world).len();
        }
        assert!(taken > 50 && taken < 200, "{taken} of 400 messages of 20 KB fit into 4 MiB");
        world.advance(Duration::from_secs(3));
        assert_eq!(publisher.received(&mut world), []);
        // Others are served, and acknowledgements taken.
        let mut other = passing(&mut world);
        other.send(&mut world, &Packet::Pingreq);
        assert_eq!(other.received(&mut world), [Got::Pingresp]);
        let mut absent = kept(&mut world, shard, "absent");
        let mut got = Vec::new();
        loop {
            let some = absent.drained(&mut world);
            world.advance(Duration::from_secs(1));
            if some.is_empty() {
                break;
            }
            got.extend(some);
        }
        let acks = publisher.received(&mut world);
        assert_eq!(taken + acks.len(), 400, "the publisher goes on");
        assert_eq!(got.len(), 400);
        world.hang_up(absent.socket);
        let mut world = super::killed(world);
        let mut absent = kept(&mut world, shards - 1, "absent");
        assert_eq!(absent.received(&mut world), []);
    }
}

/// Retained messages, sessions and what waits with them may need more than half of the journal: it gets longer then, as far as it may, is read
/// so by the next start, and gets shorter when less is needed.
#[test]
fn a_journal_is_as_long_as_what_is_needed_wants() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let files = |world: &mut World<NoHooks>| {
            let shard = last(world);
            world.stores().files_of(shard)
        };
        world.stores().settings.most_segments = 64;
        let mut world = killed(world);
        let first = files(&mut world);
        let mut absent = kept(&mut world, shards - 1, "absent");
        absent.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(absent.socket);
        let mut publisher = passing(&mut world);
        for number in 0..200 {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, number as u16 + 1);
            publisher.retain(&mut world, &format!("r/{number}"), &text(number));
        }
        let acked = publisher.received(&mut world).len();
        assert_eq!(acked, 200, "nobody waits for room");
        let longest = files(&mut world);
        assert!(longest > 2 * first, "{longest} files, {first} at first");
        let mut world = killed(world);
        assert!(files(&mut world) <= longest + 2);
        let mut absent = kept(&mut world, shards - 1, "absent");
        assert_eq!(absent.drained(&mut world), (0..200).map(text).collect::<Vec<_>>());
        let publisher = passing(&mut world);
        for number in 0..200 {
            publisher.retain(&mut world, &format!("r/{number}"), "");
        }
        // Much more comes and goes, so that what is needed is written again.
        let large = "x".repeat(400_000);
        for number in 0..120 {
            publisher.publish(&mut world, "t", &large, QoS::AtLeastOnce, 1);
            assert_eq!(absent.drained(&mut world).len(), 1, "{number}, {shards} shards");
        }
        let now = files(&mut world);
        assert!(now <= first + 2, "{now} files, {first} at first and {longest} when all was needed");
        let mut world = killed(world);
        let mut late = passing(&mut world);
        late.subscribe(&mut world, "r/#", QoS::AtMostOnce);
        assert_eq!(late.texts(&mut world), [""; 0]);
    }
}

#[test]
fn after_a_write_that_failed_nothing_is_acknowledged_and_the_shard_lives_on() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut subscriber = kept(&mut world, shard, "subscriber");
        subscriber.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let mut publisher = passing(&mut world);
        publisher.publish(&mut world, "t", "a", QoS::AtLeastOnce, 1);
        assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
        world.hold_commits();
        publisher.publish(&mut world, "t", "b", QoS::AtLeastOnce, 2);
        world.fail_write(shard);
        world.stores().is_held = false;
        publisher.publish(&mut world, "t", "c", QoS::AtLeastOnce, 3);
        world.advance(Duration::from_secs(3));
        assert_eq!(publisher.received(&mut world), []);
        let got = subscriber.publishes(&mut world);
        assert!(got.len() >= 2);
        for one in &got {
            subscriber.ack(&mut world, Puback, one.id.expect("QoS 1"));
        }
        for client in [&mut publisher, &mut subscriber] {
            client.send(&mut world, &Packet::Pingreq);
        }
        assert_eq!(subscriber.received(&mut world), [Got::Pingresp]);
        subscriber.subscribe(&mut world, "u", QoS::AtLeastOnce);
        assert_eq!(subscriber.received(&mut world), []);
        let mut other = passing_on(&mut world, shard);
        other.send(&mut world, &Packet::Pingreq);
        assert_eq!(other.received(&mut world), [Got::Pingresp]);
        let mut world = super::killed(world);
        let mut subscriber = kept(&mut world, shard, "subscriber");
        assert!(subscriber.texts(&mut world).contains(&"a".to_owned()));
    }
}

fn passing_on(world: &mut World<NoHooks>, shard: usize) -> Client {
    Client::on(world, shard, "other", crate::client::ConnectOptions::clean(crate::client::V5))
}

/// A disk that is full: no further segment can be prepared. Publishers wait before the journal is at its end.
#[test]
fn a_full_disk_holds_publishers() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut absent = kept(&mut world, shard, "absent");
        absent.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(absent.socket);
        world.stores().is_full = true;
        let mut publisher =
            Client::on(&mut world, shard, "publisher", crate::client::ConnectOptions::clean(crate::client::V5));
        let packets: Vec<String> = (0..400).map(text).collect();
        let mut taken = 0;
        for (id, text) in (1..).zip(&packets) {
            publisher.send(&mut world, &Packet::Publish(publish("t", text, QoS::AtLeastOnce, id)));
            taken += publisher.received(&mut world).len();
        }
        assert!(taken < 400);
        more_segments(&mut world);
        let shards = world.shards.len();
        let mut world = world.restarted((Last::Lost, Duration::ZERO), shards, open_config(), || NoHooks);
        let mut absent = kept(&mut world, shard, "absent");
        assert!(absent.drained(&mut world).len() >= taken, "what was acknowledged is there");
    }
}
