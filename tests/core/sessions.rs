//! Sessions: kept, resumed, discarded, expired, taken over. MQTT 5.0 sections 3.1.2.4, 3.1.2.11.2 and 4.1, lifecycle.md
//! sections 3 to 5.

use std::time::Duration;

use moormq::codec::{AckKind::*, Disconnect, ProtocolVersion, QoS, ReasonCode};
use moormq::config::Config;
use moormq::hooks::{Answer, Chain, Expiry, NoHooks, RegisterModifiers};

use crate::client::{Client, ConnectOptions, V5, V31, V311, acked, disconnected, id_owned_by};
use crate::received::Got;
use crate::script::{Answers, Script};
use crate::world::{World, config, open_config, worlds, worlds_with};

const HOUR: Duration = Duration::from_secs(3600);

fn expiring(seconds: u32) -> ConnectOptions<'static> {
    ConnectOptions::kept(V5).with(|properties| properties.session_expiry = Some(seconds))
}

/// Whether the session of `id` is there still; asking does not change how long it stays.
fn is_there<C: Chain>(world: &mut World<C>, id: &str, options: ConnectOptions<'_>) -> bool {
    let (client, present) = Client::connect(world, 0, id, options);
    world.hang_up(client.socket);
    present
}

fn leaving(seconds: u32) -> Disconnect<'static> {
    Disconnect { session_expiry: Some(seconds), ..Disconnect::new(ReasonCode::Success) }
}

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-4.1.0-1]: on whichever shard the client is accepted.
#[test]
fn a_kept_session_is_resumed_wherever_its_client_arrives() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for version in ProtocolVersion::ALL {
            for owner in 0..shards {
                let id = id_owned_by(&world, owner, "c");
                let (mut client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(version));
                assert!(!present);
                client.subscribed(&mut world, "t", QoS::AtLeastOnce);
                for acceptor in 0..shards {
                    world.hang_up(client.socket);
                    let publisher = Client::clean(&mut world, "publisher", V5);
                    publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
                    let (back, present) = Client::connect(&mut world, acceptor, &id, ConnectOptions::kept(version));
                    client = back;
                    // MQTT 3.1 has no such flag.
                    assert_eq!(present, version != V31);
                    let received = client.publishes(&mut world);
                    assert_eq!(received.len(), 1);
                    client.ack(&mut world, Puback, received[0].id.expect("QoS 1"));
                    assert_eq!(world.shard_of(client.socket), Some(owner));
                }
                // A clean start forgets it, and what is clean is never resumed.
                let (client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(version));
                assert!(!present);
                let publisher = Client::clean(&mut world, "publisher", V5);
                publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
                client.disconnect(&mut world);
                let (mut client, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(version));
                assert_eq!((present, client.received(&mut world)), (false, vec![]));
                client.disconnect(&mut world);
                Client::connect(&mut world, 0, &id, ConnectOptions::clean(version)).0.disconnect(&mut world);
            }
        }
    }
}

/// [MQTT-3.1.2-23]
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed_and_not_before() {
    for mut world in worlds() {
        for seconds in [1_u32, 30, 100] {
            let id = format!("after{seconds}");
            is_there(&mut world, &id, expiring(seconds));
            world.advance(Duration::from_secs(seconds.into()) - Duration::from_millis(100));
            assert!(is_there(&mut world, &id, expiring(seconds)), "{seconds}");
            world.advance(Duration::from_secs(seconds.into()) + Duration::from_millis(100));
            assert!(!is_there(&mut world, &id, expiring(seconds)), "{seconds}");
        }
        is_there(&mut world, "ever", expiring(u32::MAX));
        is_there(&mut world, "never", expiring(0));
        assert!(!is_there(&mut world, "never", expiring(0)));
        world.advance(HOUR);
        assert!(is_there(&mut world, "ever", expiring(u32::MAX)));
    }
}

#[test]
fn a_session_does_not_expire_while_its_client_is_there() {
    for mut world in worlds() {
        let (client, _) = Client::connect(&mut world, 0, "c", expiring(2));
        world.advance(Duration::from_secs(300));
        world.hang_up(client.socket);
        world.advance(Duration::from_secs(1));
        assert!(is_there(&mut world, "c", expiring(2)));
    }
}

#[test]
fn sessions_of_older_clients_are_kept_as_long_as_configured() {
    let options = ConnectOptions::kept(V311);
    let minute = |config: &mut Config| config.session.persistent_session_expiry = Some(Duration::from_secs(60));
    for mut world in worlds_with(|| config(minute)) {
        is_there(&mut world, "c", options);
        world.advance(Duration::from_secs(59));
        assert!(is_there(&mut world, "c", options));
        world.advance(Duration::from_secs(61));
        assert!(!is_there(&mut world, "c", options));
    }
    let mut world = World::new(2, open_config(), || NoHooks);
    is_there(&mut world, "c", options);
    world.advance(10 * HOUR);
    assert!(is_there(&mut world, "c", options), "for ever by default");
    let modifiers = RegisterModifiers::default().session_expiry(Expiry::After(Duration::from_secs(5)));
    let answers = Answers::default().auth_on_register(move |_, _| Answer::Ok(modifiers.clone()));
    let mut world = World::new(2, open_config(), || NoHooks.hook(Script::new(answers.clone())));
    is_there(&mut world, "c", options);
    world.advance(Duration::from_secs(6));
    assert!(!is_there(&mut world, "c", options), "a hook said so");
}

#[test]
fn the_longest_session_expiry_holds_for_what_is_asked_when_connecting_and_when_leaving() {
    let minute = |config: &mut Config| config.session.max_session_expiry = Some(Duration::from_secs(60));
    for mut world in worlds_with(|| config(minute)) {
        is_there(&mut world, "c", expiring(3600));
        world.advance(Duration::from_secs(61));
        let (client, present) = Client::connect(&mut world, 0, "c", expiring(10));
        assert!(!present);
        client.leave(&mut world, leaving(u32::MAX));
        world.advance(Duration::from_secs(59));
        assert!(is_there(&mut world, "c", expiring(10)));
        world.advance(Duration::from_secs(11));
        assert!(!is_there(&mut world, "c", expiring(10)));
    }
}

/// Section 3.14.2.2.2
#[test]
fn a_disconnect_may_change_how_long_the_session_stays() {
    for mut world in worlds() {
        let (client, _) = Client::connect(&mut world, 0, "c", expiring(10));
        client.leave(&mut world, leaving(100));
        world.advance(Duration::from_secs(50));
        let (client, present) = Client::connect(&mut world, 0, "c", expiring(10));
        assert!(present, "longer");
        client.leave(&mut world, leaving(0));
        assert!(!is_there(&mut world, "c", expiring(10)), "it ended at once");
        let (mut client, _) = Client::connect(&mut world, 0, "none", ConnectOptions::clean(V5));
        client.send(&mut world, &moormq::codec::Packet::Disconnect(leaving(1)));
        assert_eq!(client.received(&mut world), [Got::Disconnect(ReasonCode::ProtocolError)], "from zero");
        let (client, _) = Client::connect(&mut world, 0, "zero", ConnectOptions::clean(V5));
        client.leave(&mut world, leaving(0));
        assert!(!is_there(&mut world, "zero", expiring(10)), "that is no change");
    }
}

/// [MQTT-3.1.4-3]: v5 gets a DISCONNECT, older clients are closed.
#[test]
fn a_newcomer_takes_over_wherever_it_arrives() {
    for mut world in worlds() {
        let shards = world.shards.len();
        for (old, new) in ProtocolVersion::ALL.into_iter().flat_map(|old| ProtocolVersion::ALL.map(|new| (old, new))) {
            for (first, second) in (0..shards).flat_map(|first| (0..shards).map(move |second| (first, second))) {
                let (mut loser, _) = Client::connect(&mut world, first, "c", ConnectOptions::kept(old));
                loser.subscribed(&mut world, "t", QoS::AtLeastOnce);
                let publisher = Client::clean(&mut world, "publisher", V5);
                publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
                let flying = loser.publishes(&mut world)[0].clone();
                let (mut winner, _) = Client::connect(&mut world, second, "c", ConnectOptions::kept(new));
                assert_eq!(loser.received(&mut world), disconnected(old, ReasonCode::SessionTakenOver));
                assert!(world.is_closed(loser.socket));
                let received = winner.publishes(&mut world);
                assert_eq!((received[0].dup, received[0].id, received.len()), (true, flying.id, 1));
                winner.disconnect(&mut world);
                let (client, _) = Client::connect(&mut world, 0, "c", ConnectOptions::clean(new));
                client.disconnect(&mut world);
            }
        }
    }
}

/// lifecycle.md 3.9: a session that ended with its connection is never resumed, and its subscriptions are gone.
#[test]
fn what_was_clean_is_not_inherited_by_a_newcomer() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let mut clean = Client::clean(&mut world, "c", version);
            clean.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let (mut kept, present) = Client::connect(&mut world, 0, "c", ConnectOptions::kept(version));
            assert!(!present && world.is_closed(clean.socket));
            let publisher = Client::clean(&mut world, "publisher", V5);
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
            assert_eq!(kept.received(&mut world), []);
            kept.subscribed(&mut world, "t", QoS::AtLeastOnce);
            let (mut clean, present) = Client::connect(&mut world, 0, "c", ConnectOptions::clean(version));
            assert!(!present);
            publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
            assert_eq!(clean.received(&mut world), []);
            clean.disconnect(&mut world);
        }
    }
}

/// lifecycle.md 7: QoS 2 inbound state survives reconnect, for every version.
#[test]
fn an_incoming_qos_2_message_is_taken_once_across_connections() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let last = world.shards.len() - 1;
            let mut subscriber = Client::on(&mut world, last, "subscriber", ConnectOptions::clean(V5));
            subscriber.subscribed(&mut world, "t", QoS::AtMostOnce);
            let id = id_owned_by(&world, 0, "publisher");
            let mut publisher = Client::connect(&mut world, 0, &id, ConnectOptions::kept(version)).0;
            publisher.publish(&mut world, "t", "once", QoS::ExactlyOnce, 5);
            assert_eq!(publisher.received(&mut world), [acked(Pubrec, 5)]);
            world.hang_up(publisher.socket);
            let mut publisher = Client::connect(&mut world, last, &id, ConnectOptions::kept(version)).0;
            publisher.publish(&mut world, "t", "once", QoS::ExactlyOnce, 5);
            publisher.ack(&mut world, Pubrel, 5);
            assert_eq!(publisher.received(&mut world), [acked(Pubrec, 5), acked(Pubcomp, 5)]);
            assert_eq!(subscriber.texts(&mut world), ["once"]);
            // Not across sessions.
            publisher.publish(&mut world, "t", "twice", QoS::ExactlyOnce, 6);
            let publisher = Client::connect(&mut world, 0, &id, ConnectOptions::clean(version)).0;
            publisher.publish(&mut world, "t", "twice", QoS::ExactlyOnce, 6);
            assert_eq!(subscriber.texts(&mut world), ["twice", "twice"]);
            publisher.disconnect(&mut world);
            subscriber.disconnect(&mut world);
        }
    }
}

/// An outgoing QoS 2 handshake goes on at any of its stages after a reconnect, and the message arrives once.
#[test]
fn an_outgoing_qos_2_handshake_goes_on_after_a_reconnect() {
    for mut world in worlds() {
        for version in ProtocolVersion::ALL {
            let last = world.shards.len() - 1;
            let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            client.subscribed(&mut world, "t", QoS::ExactlyOnce);
            let publisher = Client::clean(&mut world, "publisher", V5);
            publisher.publish(&mut world, "t", "x", QoS::ExactlyOnce, 1);
            let id = client.publishes(&mut world)[0].id.expect("QoS 2");
            world.hang_up(client.socket);
            let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            assert!(client.publishes(&mut world)[0].dup);
            client.ack(&mut world, Pubrec, id);
            world.hang_up(client.socket);
            let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            assert_eq!(client.received(&mut world), [acked(Pubrel, id)]);
            client.ack(&mut world, Pubrec, id);
            assert_eq!(client.received(&mut world), [acked(Pubrel, id)], "said once more");
            client.ack(&mut world, Pubcomp, id);
            world.hang_up(client.socket);
            let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            assert_eq!(client.received(&mut world), []);
            client.leave(&mut world, leaving(0));
            Client::on(&mut world, last, "c", ConnectOptions::clean(version)).disconnect(&mut world);
        }
    }
}

/// The version may change with each connection; queued messages are sent in the present one.
#[test]
fn a_session_may_be_resumed_in_another_version() {
    for mut world in worlds() {
        let last = world.shards.len() - 1;
        let mut client = Client::on(&mut world, last, "c", ConnectOptions::kept(V5));
        client.subscribe_with(&mut world, "t", moormq::codec::SubscriptionOptions::new(QoS::AtLeastOnce), Some(9));
        let publisher = Client::clean(&mut world, "publisher", V5);
        publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
        for version in [V311, V5, V31, V5] {
            world.hang_up(client.socket);
            client = Client::on(&mut world, last, "c", ConnectOptions::kept(version));
            let received = client.publishes(&mut world);
            assert_eq!(received[0].text(), "x");
            assert_eq!(received[0].ids(), if version == V5 { vec![9] } else { vec![] });
        }
    }
}

/// Several connects with one client id at once are served one after the other; the last one stays.
#[test]
fn connects_of_one_client_id_are_served_in_order() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, open_config(), || NoHooks);
        let mut bytes = Vec::new();
        crate::client::connect_packet("c", ConnectOptions::kept(V5)).encode(&mut bytes);
        let mut clients: Vec<_> = (0..8).map(|number| Client::open(&mut world, number % shards, V5)).collect();
        clients.iter().for_each(|client| world.send_quietly(client.socket, &bytes));
        world.settle();
        let open = clients.iter().filter(|client| !world.is_closed(client.socket)).count();
        assert_eq!(open, 1);
        let mut present: Vec<bool> = Vec::new();
        for client in &mut clients {
            let received = client.received(&mut world);
            let Got::Connack { present: was, code: ReasonCode::Success } = received[0] else { panic!("{received:?}") };
            present.push(was);
            let taken_over = received[1..] == [Got::Disconnect(ReasonCode::SessionTakenOver)];
            assert_eq!(taken_over, world.is_closed(client.socket));
        }
        assert_eq!(present.iter().filter(|was| !**was).count(), 1, "one made the session");
    }
}
