//! The end of an orderly stop, lifecycle.md section 4: who takes what waits for it has it before its connection is closed.

use std::time::Duration;

use moormq::codec::{AckKind::*, QoS, ReasonCode};
use moormq::hooks::NoHooks;

use crate::client::{Client, ConnectOptions, V5, V311, disconnected};
use crate::received::Got;
use crate::world::{World, worlds};

const MESSAGES: usize = 30;

/// A client that takes two messages at a time, for which thirty were acknowledged.
fn lagging(world: &mut World<NoHooks>, name: &str, options: ConnectOptions<'_>) -> Client {
    let options = options.with(|properties| properties.receive_maximum = Some(2));
    let mut client = Client::connect(world, world.shards.len() - 1, name, options).0;
    client.subscribed(world, name, QoS::AtLeastOnce);
    let mut publisher = Client::clean(world, "publisher", V311);
    for number in 1..=MESSAGES {
        publisher.publish(world, name, &number.to_string(), QoS::AtLeastOnce, number as u16);
    }
    assert_eq!(publisher.received(world).len(), MESSAGES, "all are acknowledged");
    world.hang_up(publisher.socket);
    client
}

/// Takes and acknowledges whatever comes, until the connection is closed; what came last.
fn take_all(world: &mut World<NoHooks>, client: &mut Client, texts: &mut Vec<String>) -> Vec<Got> {
    loop {
        let got = client.received(world);
        let mut others = Vec::new();
        for one in got {
            match one {
                Got::Publish(publish) => {
                    texts.push(publish.text().to_owned());
                    publish.id.into_iter().for_each(|id| client.ack(world, Puback, id));
                }
                other => others.push(other),
            }
        }
        if world.is_closed(client.socket) {
            others.extend(client.received(world));
            return others;
        }
        world.advance(Duration::from_millis(20));
    }
}

/// Whether it has a will or not: acknowledgements are served when nothing else is any more.
#[test]
fn who_acknowledges_has_all_that_waits_for_it_and_the_wills_behind_that() {
    for options in [ConnectOptions::clean(V5), ConnectOptions::kept(V5), ConnectOptions::clean(V5).will("elsewhere")] {
        for mut world in worlds() {
            let mut client = lagging(&mut world, "lagging", options);
            let dying = ConnectOptions::clean(V311).will("lagging");
            Client::connect(&mut world, 0, "dying", dying);
            world.stop();
            assert!(!world.is_closed(client.socket) && world.stopped < world.shards.len());
            let mut texts = Vec::new();
            let last = take_all(&mut world, &mut client, &mut texts);
            let expected: Vec<_> = (1..=MESSAGES).map(|number| number.to_string()).chain(["gone".to_owned()]).collect();
            assert_eq!((texts, last), (expected, disconnected(V5, ReasonCode::ServerShuttingDown)));
            world.advance(Duration::from_millis(20));
            assert_eq!(world.stopped, world.shards.len());
        }
    }
}

/// Whatever the network makes of it.
#[test]
fn an_acknowledgement_may_come_in_pieces() {
    for mut world in worlds() {
        let mut client = lagging(&mut world, "lagging", ConnectOptions::clean(V5));
        world.stop();
        let mut taken = 0;
        for publish in client.publishes(&mut world) {
            let [high, low] = publish.id.expect("QoS 1").to_be_bytes();
            for byte in [0x40, 2, high, low] {
                world.send(client.socket, &[byte]);
            }
            taken += client.publishes(&mut world).len();
        }
        assert_eq!(taken, 2, "{} shards", world.shards.len());
    }
}

/// What it publishes then would be acknowledged and lost.
#[test]
fn nothing_else_is_served_meanwhile() {
    for mut world in worlds() {
        let mut client = lagging(&mut world, "lagging", ConnectOptions::clean(V5));
        world.stop();
        let first = client.publishes(&mut world);
        client.publish(&mut world, "lagging", "more", QoS::AtLeastOnce, 7);
        client.ack(&mut world, Puback, first[0].id.expect("QoS 1"));
        assert_eq!(client.received(&mut world), [], "the acknowledgement stands behind it");
        world.advance(Duration::from_secs(1));
        assert!(world.is_closed(client.socket) && world.stopped == world.shards.len());
    }
}

/// Neither one that takes nothing nor one that takes it for ever.
#[test]
fn nobody_keeps_the_broker_from_stopping() {
    for mut world in worlds() {
        let deaf = lagging(&mut world, "deaf", ConnectOptions::clean(V5));
        let mut slow = lagging(&mut world, "slow", ConnectOptions::clean(V5));
        world.stop();
        let mut taken = 0;
        while !world.is_closed(slow.socket) {
            let got = slow.publishes(&mut world);
            taken += got.len();
            world.advance(Duration::from_millis(400));
            if let Some(publish) = got.first() {
                slow.ack(&mut world, Puback, publish.id.expect("QoS 1"));
            }
        }
        assert!(world.is_closed(deaf.socket) && (4..MESSAGES).contains(&taken), "{taken}");
        world.advance(Duration::from_millis(50));
        assert_eq!(world.stopped, world.shards.len());
    }
}
