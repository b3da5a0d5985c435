//! What waits until it is on disk, and what does not.

use moormq::codec::{AckKind::*, Packet, Publish, QoS, ReasonCode};
use moormq::hooks::NoHooks;
use moormq::shard::TurnLimits;

use super::{kept, last, passing, piece, seen, worlds};
use crate::client::{Client, ConnectOptions, V5, V311, acked, id_owned_by, publish};
use crate::received::Got;
use crate::stores::{Stores, stored_world, with_stores};
use crate::world::{World, open_config};

const NOTHING: [Got; 0] = [];

#[test]
fn sessions_that_end_with_their_connection_and_qos_0_write_nothing_and_wait_for_nothing() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut absent = kept(&mut world, shard, "absent");
        absent.subscribed(&mut world, "t", QoS::AtMostOnce);
        absent.subscribed(&mut world, "other", QoS::ExactlyOnce);
        let before = world.record_count();
        assert!(before > 0);
        world.hold_commits();
        for version in [V311, V5] {
            let mut clean = Client::on(&mut world, shard, "clean", ConnectOptions::clean(version));
            clean.subscribed(&mut world, "t", QoS::ExactlyOnce);
            let mut publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(version));
            publisher.publish(&mut world, "t", "0", QoS::AtMostOnce, 0);
            publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
            publisher.publish(&mut world, "t", "2", QoS::ExactlyOnce, 2);
            publisher.publish(&mut world, "other", "0", QoS::AtMostOnce, 0);
            publisher.ack(&mut world, Pubrel, 2);
            assert_eq!(publisher.received(&mut world), [acked(Puback, 1), acked(Pubrec, 2), acked(Pubcomp, 2)]);
            assert_eq!(clean.texts(&mut world), ["0", "1", "2"]);
            assert_eq!(absent.texts(&mut world).len(), 4);
            clean.unsubscribe(&mut world, &["t"]);
            assert_eq!(clean.received(&mut world).len(), 1, "UNSUBACK");
            for client in [clean, publisher] {
                client.disconnect(&mut world);
            }
        }
        world.commit();
        assert_eq!(world.record_count(), before, "{:?}", world.stores().records(shard));
    }
}

#[test]
fn connack_suback_and_unsuback_wait_and_pingresp_does_not() {
    for mut world in worlds() {
        let shard = last(&world);
        world.hold_commits();
        let id = crate::client::id_owned_by(&world, shard, "kept");
        let mut client = Client::send_connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert_eq!(client.received(&mut world), NOTHING);
        client.send(&mut world, &Packet::Pingreq);
        assert_eq!(client.received(&mut world), NOTHING, "nothing comes before CONNACK");
        world.commit();
        let connack = Got::Connack { present: false, code: ReasonCode::Success };
        assert_eq!(client.received(&mut world), [connack, Got::Pingresp]);
        client.subscribe(&mut world, "t", QoS::AtLeastOnce);
        client.send(&mut world, &Packet::Pingreq);
        assert_eq!(client.received(&mut world), [Got::Pingresp]);
        world.commit();
        assert_eq!(client.received(&mut world), [Got::Suback(1, vec![ReasonCode::granted(QoS::AtLeastOnce)])]);
        client.unsubscribe(&mut world, &["t"]);
        assert_eq!(client.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(client.received(&mut world), [Got::Unsuback(2, vec![ReasonCode::Success])]);
    }
}

/// What its client says from then on is not recorded: as it was before, the session must not come back.
#[test]
fn connack_waits_until_a_session_that_is_kept_no_more_is_gone_from_the_disk() {
    for mut world in worlds() {
        let shard = last(&world);
        let client = kept(&mut world, shard, "c");
        world.hang_up(client.socket);
        world.hold_commits();
        let id = id_owned_by(&world, shard, "c");
        let options = ConnectOptions { clean_start: false, ..ConnectOptions::clean(V5) };
        let mut client = Client::send_connect(&mut world, 0, &id, options);
        assert_eq!(client.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(client.received(&mut world), [Got::Connack { present: true, code: ReasonCode::Success }]);
    }
}

/// What it would be told is not on disk: it is told nothing.
#[test]
fn who_is_sent_away_before_its_session_is_on_disk_has_no_connack() {
    for mut world in worlds() {
        world.hold_commits();
        let id = id_owned_by(&world, last(&world), "c");
        let mut first = Client::send_connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        let mut second = Client::send_connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        assert!(world.is_closed(first.socket));
        assert_eq!(first.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(second.received(&mut world), [Got::Connack { present: true, code: ReasonCode::Success }]);
    }
}

#[test]
fn a_stop_ends_when_all_is_on_disk_and_not_before() {
    for mut world in worlds() {
        let shards = world.shards.len();
        let client = kept(&mut world, shards - 1, "c");
        world.hold_commits();
        world.stop();
        assert!(world.is_closed(client.socket) && world.stopped < shards);
        world.commit();
        assert_eq!(world.stopped, shards);
    }
}

/// The shard of the subscriber alone has something to record, or both have.
#[test]
fn acknowledgements_wait_for_the_shard_that_stores_and_qos_1_deliveries_for_nothing() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut subscriber = kept(&mut world, shard, "subscriber");
        subscriber.subscribed(&mut world, "t", QoS::AtLeastOnce);
        let mut publishers = [passing(&mut world), kept(&mut world, 0, "publisher")];
        world.hold_commits();
        for publisher in &mut publishers {
            publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
            let got = subscriber.publishes(&mut world);
            assert_eq!(got.len(), 1, "at once");
            publisher.publish(&mut world, "t", "2", QoS::ExactlyOnce, 2);
            let second = subscriber.publishes(&mut world);
            assert_eq!(second.len(), 1, "at once");
            assert_eq!(publisher.received(&mut world), NOTHING);
            for other in 0..shard {
                world.commit_on(other);
            }
            assert_eq!(publisher.received(&mut world), NOTHING, "it is not on disk where it has to be");
            world.commit();
            assert_eq!(publisher.received(&mut world), [acked(Puback, 1), acked(Pubrec, 2)]);
            publisher.ack(&mut world, Pubrel, 2);
            if world.is_writing(0).is_some() {
                assert_eq!(publisher.received(&mut world), NOTHING);
                world.commit();
            }
            assert_eq!(publisher.received(&mut world), [acked(Pubcomp, 2)]);
            for one in got.iter().chain(&second) {
                subscriber.ack(&mut world, Puback, one.id.expect("QoS 1"));
            }
            world.commit();
        }
    }
}

#[test]
fn pubrec_and_pubcomp_of_a_stored_publisher_wait_though_nobody_has_subscribed() {
    for mut world in worlds() {
        let mut publisher = kept(&mut world, 0, "publisher");
        world.hold_commits();
        publisher.publish(&mut world, "t", "2", QoS::ExactlyOnce, 2);
        // Behind it, though nothing is recorded for it.
        publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 1);
        assert_eq!(publisher.received(&mut world), NOTHING);
        world.commit();
        let code = ReasonCode::NoMatchingSubscribers;
        assert_eq!(publisher.received(&mut world), [Got::Ack(Pubrec, 2, code), Got::Ack(Puback, 1, code)]);
        publisher.publish(&mut world, "t", "3", QoS::AtLeastOnce, 3);
        assert_eq!(publisher.received(&mut world), [Got::Ack(Puback, 3, code)], "nothing is recorded");
        publisher.ack(&mut world, Pubrel, 2);
        assert_eq!(publisher.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(publisher.received(&mut world), [acked(Pubcomp, 2)]);
    }
}

#[test]
fn qos_2_publishes_and_pubrel_to_a_stored_session_wait() {
    for mut world in worlds() {
        let shard = last(&world);
        let mut subscriber = kept(&mut world, shard, "subscriber");
        subscriber.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = passing(&mut world);
        world.hold_commits();
        publisher.publish(&mut world, "t", "2", QoS::ExactlyOnce, 1);
        publisher.publish(&mut world, "t", "1", QoS::AtLeastOnce, 2);
        assert_eq!(subscriber.received(&mut world), NOTHING, "the second one is behind the first");
        world.commit();
        let got = subscriber.publishes(&mut world);
        assert_eq!(seen(&got).iter().map(|one| one.0).collect::<Vec<_>>(), ["2", "1"]);
        let id = got[0].id.expect("QoS 2");
        world.commit();
        subscriber.ack(&mut world, Pubrec, id);
        assert_eq!(subscriber.received(&mut world), NOTHING);
        world.commit();
        assert_eq!(subscriber.received(&mut world), [acked(Pubrel, id)]);
        // Told again, it waits for nothing that is not there.
        subscriber.ack(&mut world, Pubrec, id);
        world.commit();
        assert_eq!(subscriber.received(&mut world), [acked(Pubrel, id)]);
    }
}

#[test]
fn a_retained_message_is_acknowledged_when_the_owner_of_its_topic_has_it() {
    for mut world in worlds() {
        let mut publisher = passing(&mut world);
        world.hold_commits();
        for number in 0..8 {
            let topic = format!("t/{number}");
            publisher.publish_with(&mut world, Publish { retain: true, ..publish(&topic, "x", QoS::AtLeastOnce, 1) });
            assert_eq!(publisher.received(&mut world), NOTHING);
            world.commit();
            let code = ReasonCode::NoMatchingSubscribers;
            let got = publisher.received(&mut world);
            assert!(got == [acked(Puback, 1)] || got == [Got::Ack(Puback, 1, code)], "{got:?}");
        }
    }
}

/// What comes in one read goes to many together; what goes to all of them is one record.
#[test]
fn publications_that_are_gathered_are_acknowledged_when_all_of_them_are_on_disk() {
    for mut world in worlds() {
        let mut crowd = Vec::new();
        for number in 0..24 {
            let shard = number % world.shards.len();
            let mut member = kept(&mut world, shard, &format!("{number}of"));
            member.subscribed(&mut world, "t", QoS::AtLeastOnce);
            crowd.push(member);
        }
        let mut publisher = passing(&mut world);
        world.hold_commits();
        let texts: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let packets: Vec<_> =
            (1..).zip(&texts).map(|(id, text)| Packet::Publish(publish("t", text, QoS::AtLeastOnce, id))).collect();
        world.send(publisher.socket, &piece(V5, &packets));
        assert_eq!(publisher.received(&mut world), NOTHING);
        assert!(crowd[0].texts(&mut world).len() >= 20, "they are sent");
        for shard in 1..world.shards.len() {
            world.commit_on(shard);
            assert_eq!(publisher.received(&mut world), NOTHING);
        }
        world.commit();
        let all: Vec<_> = (1..=40).map(|id| acked(Puback, id)).collect();
        assert_eq!(publisher.received(&mut world), all);
        for shard in 0..world.shards.len() {
            let records = world.stores().records(shard);
            let messages = records.iter().filter(|record| record.starts_with("Message")).count();
            assert_eq!(messages, 40, "each body once");
        }
    }
}

/// So much work in a turn that a message to some is in portions.
fn small_turns() -> TurnLimits {
    TurnLimits { at_once: 4, portion: 4, ..TurnLimits::default() }
}

/// So many stored sessions that subscribe to `t`, on all shards in turn.
fn crowd(world: &mut World<NoHooks>, count: usize) -> Vec<Client> {
    let shards = world.shards.len();
    let member = |number| {
        let mut member = kept(world, number % shards, &format!("{number}of"));
        member.subscribed(world, "t", QoS::AtLeastOnce);
        member
    };
    (0..count).map(member).collect()
}

#[test]
fn a_publication_in_portions_is_acknowledged_when_the_last_one_is_on_disk() {
    for shards in [1, 2, 4] {
        let world = World::in_turns(shards, small_turns(), open_config(), || NoHooks);
        let mut world = with_stores(world, Stores::default());
        let mut crowd = crowd(&mut world, 40);
        let mut publisher = passing(&mut world);
        world.hold_commits();
        publisher.send_quietly(&mut world, &Packet::Publish(publish("t", "x", QoS::AtLeastOnce, 1)));
        world.carry_out_outputs();
        // Whatever is on disk, as long as there are portions left.
        while world.shards[0].is_behind() {
            while world.is_writing(0).is_some() {
                world.commit_quietly(0);
                world.carry_out_outputs();
            }
            assert_eq!(publisher.received(&mut world), NOTHING);
            world.catch_up();
            world.carry_out_outputs();
        }
        assert_eq!(publisher.received(&mut world), NOTHING);
        world.settle();
        assert_eq!(publisher.received(&mut world), NOTHING);
        for member in &mut crowd {
            assert_eq!(member.texts(&mut world), ["x"]);
        }
        world.commit();
        assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
        let mut told = 0;
        for shard in 0..shards {
            let records = world.stores().records(shard);
            told += records.iter().filter(|record| record.starts_with("Message")).count();
        }
        assert!(told > shards, "they were in portions");
    }
}

#[test]
fn a_large_crowd_is_in_portions_by_default_too() {
    let mut world = stored_world(1, open_config(), || NoHooks);
    for number in 0..1100 {
        let mut member = kept(&mut world, 0, &format!("{number}of"));
        member.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(member.socket);
    }
    let mut publisher = passing(&mut world);
    world.hold_commits();
    publisher.publish(&mut world, "t", "x", QoS::AtLeastOnce, 1);
    assert_eq!(publisher.received(&mut world), NOTHING);
    world.commit();
    assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
    let mut world = super::killed(world);
    for number in [0, 500, 1023, 1024, 1099] {
        let mut member = kept(&mut world, 0, &format!("{number}of"));
        assert_eq!(member.texts(&mut world), ["x"], "{number}");
    }
}

/// While wills wait for their turn, what is published to their topics is behind them.
#[test]
fn a_publication_behind_wills_is_acknowledged_when_it_is_on_disk() {
    for shards in [1, 2, 4] {
        let world = World::in_turns(shards, small_turns(), open_config(), || NoHooks);
        let mut world = with_stores(world, Stores::default());
        let _crowd = crowd(&mut world, 20);
        let dying: Vec<_> = (0..30)
            .map(|number| Client::on(&mut world, 0, &format!("dying{number}"), ConnectOptions::clean(V5).will("t")))
            .collect();
        let mut publisher = passing(&mut world);
        world.hold_commits();
        for one in &dying {
            world.hang_up_quietly(one.socket);
        }
        publisher.send_quietly(&mut world, &Packet::Publish(publish("t", "x", QoS::AtLeastOnce, 1)));
        for _ in 0..1000 {
            world.carry_out_outputs();
            for shard in 0..shards {
                while world.is_writing(shard).is_some() {
                    world.commit_quietly(shard);
                }
            }
            world.carry_out_outputs();
            let has_ack = !publisher.received(&mut world).is_empty();
            if has_ack {
                let on_disk = (0..shards).map(|shard| world.stores().deliveries(shard, "x")).sum::<usize>();
                assert_eq!(on_disk, 20, "it is acknowledged when it is on disk for all");
                break;
            }
            world.catch_up();
            world.carry_messages();
        }
        world.commit();
    }
}
