//! Sessions that move while their queues go to the archive, or are taken back from it.

use std::time::Duration;

use moormq::codec::{AckKind::*, Packet, QoS};
use moormq::hooks::{Chain, NoHooks};

use crate::client::{Client, ConnectOptions, V5, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::stores::{Stores, with_stores};
use crate::world::{World, config};

fn text(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(20_000))
}

fn number(text: &str) -> usize {
    text[..8].parse().expect("a number")
}

/// Two shards, which move what waits to the archive when so many of these messages do.
fn gathering(messages: usize) -> World<NoHooks> {
    let stores = Stores::default().gathering(2, messages * text(0).len());
    with_stores(World::new(2, config(|_| ()), || NoHooks), stores)
}

/// A kept session of shard 1, whose client is away, with so many messages in its queue. Gives its client id, and who publishes.
fn filled(world: &mut World<impl Chain>, many: usize) -> (String, Client) {
    let id = id_owned_by(world, 1, "mover");
    let mut absent = Client::connect(world, 1, &id, ConnectOptions::kept(V5)).0;
    absent.subscribed(world, "t", QoS::AtLeastOnce);
    world.hang_up(absent.socket);
    let mut publisher = Client::on(world, 1, "publisher", ConnectOptions::clean(V5));
    for number in 0..many {
        publisher.publish(world, "t", &text(number), QoS::AtLeastOnce, 1);
        assert_eq!(publisher.received(world).len(), 1, "{number}");
    }
    (id, publisher)
}

fn numbers(texts: &[String]) -> Vec<usize> {
    texts.iter().map(|text| number(text)).collect()
}

/// Nothing becomes a page once the new owner prepares: that would never hear that the page is persisted, and keep the session for ever.
#[test]
fn a_session_that_leaves_is_not_moved_to_the_archive() {
    for steps in 0..6 {
        let mut world = gathering(10);
        let (id, publisher) = filled(&mut world, 9);
        assert_eq!(world.stores().pages(), 0);
        move_slot(&mut world, &id, 0);
        for number in 9..12 {
            let text = text(number);
            let packet = Packet::Publish(publish("t", &text, QoS::AtLeastOnce, 1));
            publisher.send_quietly(&mut world, &packet);
            for _ in 0..steps {
                world.carry_out_outputs();
                world.carry_messages();
            }
        }
        world.settle();
        move_slot(&mut world, &id, 1);
        world.settle();
        world.advance(Duration::from_millis(100));
        let (mut absent, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(present);
        assert_eq!(world.shard_of(absent.socket), Some(1), "after {steps} steps it has moved back");
        assert_eq!(numbers(&absent.drained(&mut world)), (0..12).collect::<Vec<_>>());
        world.hang_up(absent.socket);
        assert_eq!(world.stores().pages(), 0);
    }
}

/// A client that takes what waits as fast as pages are read moves nevertheless, long before it has all.
#[test]
fn who_takes_page_after_page_moves() {
    let mut world = gathering(10);
    let (id, _) = filled(&mut world, 300);
    let options = ConnectOptions::kept(V5).with(|connect| connect.receive_maximum = Some(10));
    let mut absent = Client::connect(&mut world, 1, &id, options).0;
    world.stores().is_archive_held = true;
    let (mut got, mut is_asked) = (Vec::new(), false);
    while world.shard_of(absent.socket) == Some(1) {
        for publish in absent.publishes(&mut world) {
            got.push(number(publish.text()));
            publish.id.into_iter().for_each(|id| absent.ack(&mut world, Puback, id));
        }
        if !std::mem::replace(&mut is_asked, got.len() > 20) && got.len() > 20 {
            move_slot(&mut world, &id, 0);
        }
        // A page comes, and the next is asked for at once.
        world.stores().is_archive_held = false;
        world.work_at_the_archive();
        world.stores().is_archive_held = true;
        world.advance(Duration::from_millis(50));
        assert!(got.len() < 200, "it has not moved");
    }
    world.stores().is_archive_held = false;
    world.settle();
    got.extend(numbers(&absent.drained(&mut world)));
    assert_eq!(got, (0..300).collect::<Vec<_>>());
}

/// So does a session for which so much comes that there is always a page under way.
#[test]
fn for_whom_page_after_page_is_made_moves() {
    let mut world = gathering(10);
    let (id, publisher) = filled(&mut world, 9);
    world.stores().is_archive_held = true;
    for number in 9..400 {
        publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, 1);
        if number == 50 {
            assert!(world.stores().pages() > 0);
            move_slot(&mut world, &id, 0);
        }
        if number % 3 == 0 {
            world.stores().is_archive_held = false;
            world.work_at_the_archive();
            world.stores().is_archive_held = true;
        }
        world.advance(Duration::from_millis(20));
        if world.shards[0].resource_counts().sessions == 1 {
            return;
        }
    }
    panic!("it has not moved");
}
