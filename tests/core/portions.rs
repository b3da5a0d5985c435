//! Much work at once: a message to many, subscriptions and sessions that end. It goes in portions, and others have their turn in between.

use std::time::Duration;

use moormq::codec::{Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::hooks::NoHooks;
use moormq::shard::{Input, Request, TurnLimits};
use moormq::sharding::SLOTS;

use crate::client::{Client, ConnectOptions, QOS, V5, V311, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::turns::{begin_turn, bytes, world, worlds};
use crate::world::{World, open_config};

/// So many clients that subscribe to `t`.
fn crowd(world: &mut World<NoHooks>, count: usize) -> Vec<Client> {
    let member = |number| {
        let mut client = Client::clean(world, &format!("sub{number}"), V311);
        client.subscribed(world, "t", QoS::AtMostOnce);
        client
    };
    (0..count).map(member).collect()
}

/// [MQTT-4.6.0-5]: for each recipient in the order of publishing, whoever published.
#[test]
fn a_message_to_many_goes_in_portions_and_what_comes_after_it_waits_behind() {
    for mut world in worlds() {
        let mut crowd = Vec::new();
        for number in 0..40 {
            let version = ProtocolVersion::ALL[number % 3];
            let mut client = Client::clean(&mut world, &format!("sub{number}"), version);
            client.subscribed(&mut world, "t", QOS[number % 3]);
            crowd.push(client);
        }
        let publishers: Vec<_> =
            (0..3).map(|number| Client::clean(&mut world, &format!("pub{number}"), V311)).collect();
        let mut bystander = Client::clean(&mut world, "bystander", V311);
        begin_turn(&mut world);
        for (number, publisher) in publishers.iter().enumerate() {
            let texts = [format!("{number}a"), format!("{number}b")];
            let packets = texts.iter().map(|text| Packet::Publish(publish("t", text, QoS::AtMostOnce, 0)));
            world.send_quietly(publisher.socket, &bytes(V311, &packets.collect::<Vec<_>>()));
        }
        world.carry_out_outputs();
        begin_turn(&mut world);
        world.send_quietly(bystander.socket, &bytes(V311, &[Packet::Pingreq]));
        world.carry_out_outputs();
        if world.shards.len() == 1 {
            assert_eq!(bystander.received(&mut world), [Got::Pingresp], "before the messages are delivered");
            assert!(world.shards[0].is_behind());
        }
        world.settle();
        for client in &mut crowd {
            let got = client.texts(&mut world);
            assert_eq!(got.len(), 6, "{got:?}");
            for number in 0..3 {
                let of: Vec<_> = got.iter().filter(|text| text.starts_with(&number.to_string())).collect();
                assert_eq!(of, [&format!("{number}a"), &format!("{number}b")]);
            }
        }
    }
}

/// The kernel copies what is sent. Recipients of a large message are few at a time, whether they read or not, and those of a small one as
/// many as may be.
#[test]
fn a_large_message_goes_to_few_at_a_time() {
    let limits = TurnLimits::default();
    for shards in [1, 2, 4] {
        for (size, at_most) in [(100, usize::MAX), (4 << 20, 2)] {
            let mut world = World::in_turns(shards, limits, open_config(), || NoHooks);
            let mut crowd = crowd(&mut world, 12);
            let publisher = Client::clean(&mut world, "pub", V311);
            begin_turn(&mut world);
            let payload = "x".repeat(size);
            let packet = Packet::Publish(publish("t", &payload, QoS::AtMostOnce, 0));
            world.send_quietly(publisher.socket, &bytes(V311, &[packet]));
            world.carry_out_outputs();
            let mut received =
                |world: &mut World<NoHooks>| crowd.iter_mut().map(|client| client.received(world).len()).sum::<usize>();
            let (mut all, mut turns) = (received(&mut world), 1);
            while world.carry_messages() || world.catch_up() {
                world.carry_out_outputs();
                let new = received(&mut world);
                assert!(new <= at_most.saturating_mul(shards), "{new} of {size} bytes in a turn");
                (all, turns) = (all + new, turns + 1);
            }
            assert_eq!(all, 12);
            assert!(size < 1000 || turns >= 12 / (2 * shards), "{turns} turns");
        }
    }
}

/// However many publish to many: a list of recipients each is memory, and work before the next one's turn comes.
#[test]
fn few_messages_to_many_go_round_at_a_time() {
    for mut world in worlds() {
        let mut crowd = crowd(&mut world, 40);
        let publishers: Vec<_> =
            (0..60).map(|number| Client::clean(&mut world, &format!("pub{number}"), V311)).collect();
        let mut modest = Client::clean(&mut world, "modest", V311);
        modest.subscribed(&mut world, "modest", QoS::AtMostOnce);
        let (mut most, mut modest_came) = (0, false);
        begin_turn(&mut world);
        for publisher in &publishers {
            let packets = ["1", "2"].map(|text| Packet::Publish(publish("t", text, QoS::AtMostOnce, 0)));
            world.send_quietly(publisher.socket, &bytes(V311, &packets));
        }
        let packet = bytes(V311, &[Packet::Publish(publish("modest", "x", QoS::AtMostOnce, 0))]);
        world.send_quietly(modest.socket, &packet);
        for _ in 0..100_000 {
            let under_way = world.shards.iter().map(|shard| shard.resource_counts().under_way);
            most = most.max(under_way.max().unwrap_or_default());
            world.carry_out_outputs();
            modest_came |= modest.texts(&mut world) == ["x"];
            begin_turn(&mut world);
            let mut moved = world.catch_up() | world.carry_out_outputs();
            for to in 0..world.shards.len() {
                let from = (0..world.shards.len()).filter(|_| !world.shards[to].turn().is_full).collect::<Vec<_>>();
                from.into_iter().for_each(|from| moved |= world.carry_message(from, to));
            }
            if !moved {
                break;
            }
        }
        // Eight times as many as may wait for those who do so again and again, and one message more.
        assert!(most > 30 && most <= 8 * 30 + 40, "{most} recipients waited");
        assert!(modest_came, "the one that publishes to itself");
        world.settle();
        for client in &mut crowd {
            assert_eq!(client.texts(&mut world).len(), 120);
        }
    }
}

/// Others need not wait until a message has gone round: only what is of the same topic or of the same client must not overtake it.
#[test]
fn what_is_of_another_topic_and_another_client_goes_past_a_message_to_many() {
    let mut world = world(1);
    let mut crowd = crowd(&mut world, 200);
    let publisher = Client::clean(&mut world, "publisher", V311);
    let mut other = Client::clean(&mut world, "other", V311);
    other.subscribed(&mut world, "other/#", QoS::AtMostOnce);
    begin_turn(&mut world);
    let packets = ["t", "other/same client"].map(|topic| Packet::Publish(publish(topic, "x", QoS::AtMostOnce, 0)));
    world.send_quietly(publisher.socket, &bytes(V311, &packets));
    world.carry_out_outputs();
    let late = bytes(V311, &[Packet::Publish(publish("other/same topic", "late", QoS::AtMostOnce, 0))]);
    let past = bytes(V311, &[Packet::Publish(publish("other/own", "past", QoS::AtMostOnce, 0))]);
    begin_turn(&mut world);
    world.send_quietly(other.socket, &[past, late].concat());
    world.carry_out_outputs();
    assert!(world.shards[0].is_behind());
    let got = other.texts(&mut world);
    assert_eq!(got, ["past", "late"], "the message to many is still going round");
    world.settle();
    assert_eq!(other.texts(&mut world), ["x"]);
    for client in &mut crowd {
        assert_eq!(client.texts(&mut world), ["x"]);
    }
}

/// Whether it must not overtake one of them is asked for each message of others.
#[test]
fn what_goes_past_very_many_messages_to_many_is_more_work() {
    let limits = TurnLimits { share: 4000, turn: 100_000, at_once: 3, portion: 3, under_way: 10_000 };
    let mut world = World::in_turns(1, limits, open_config(), || NoHooks);
    let _crowd = crowd(&mut world, 10);
    let publishers: Vec<_> = (0..320).map(|number| Client::clean(&mut world, &format!("p{number}"), V311)).collect();
    let mut other = Client::clean(&mut world, "other", V311);
    other.subscribed(&mut world, "other", QoS::AtMostOnce);
    let mut costs = Vec::new();
    for are_many in [false, true] {
        begin_turn(&mut world);
        let packet = Packet::Publish(publish("t", "x", QoS::AtMostOnce, 0));
        publishers.iter().filter(|_| are_many).for_each(|one| one.send_quietly(&mut world, &packet));
        other.send_quietly(&mut world, &Packet::Pingreq);
        let before = world.shards[0].turn().work;
        other.send_quietly(&mut world, &Packet::Publish(publish("other", "x", QoS::AtMostOnce, 0)));
        costs.push(world.shards[0].turn().work - before);
        world.carry_out_outputs();
        assert_eq!(other.texts(&mut world), ["x"]);
    }
    assert!(costs[1] >= costs[0] + 20, "{costs:?}");
}

#[test]
fn who_leaves_while_a_message_goes_round_takes_no_one_elses_place() {
    let mut world = world(1);
    let mut crowd = crowd(&mut world, 9);
    let publisher = Client::clean(&mut world, "publisher", V311);
    begin_turn(&mut world);
    world.send_quietly(publisher.socket, &bytes(V311, &[Packet::Publish(publish("t", "x", QoS::AtMostOnce, 0))]));
    world.carry_out_outputs();
    // The last one leaves before its portion comes, and somebody gets its place who has not subscribed.
    world.hang_up_quietly(crowd[8].socket);
    let newcomer = Client::open(&mut world, 0, V311);
    let mut connect = Vec::new();
    crate::client::connect_packet("newcomer", ConnectOptions::clean(V311)).encode(&mut connect);
    world.send_quietly(newcomer.socket, &connect);
    world.settle();
    let mut newcomer = newcomer;
    assert_eq!(newcomer.received(&mut world), [Got::Connack { present: false, code: ReasonCode::Success }]);
    for client in &mut crowd[..8] {
        assert_eq!(client.texts(&mut world), ["x"]);
    }
}

#[test]
fn a_session_that_moves_gets_once_what_was_on_its_way_in_portions() {
    for shards in [2, 4] {
        let mut world = world(shards);
        let mut crowd = Vec::new();
        for number in 0..20 {
            let mut client = Client::on(&mut world, 0, &format!("{number}of"), ConnectOptions::clean(V5));
            client.subscribed(&mut world, "t", QOS[number % 3]);
            crowd.push(client);
        }
        let publisher = Client::on(&mut world, 1, "publisher", ConnectOptions::clean(V311));
        for text in ["1", "2", "3"] {
            let packet = bytes(V311, &[Packet::Publish(publish("t", text, QoS::AtMostOnce, 0))]);
            world.send_quietly(publisher.socket, &packet);
        }
        let slots = (0..SLOTS as u16).collect();
        world.handle(0, Input::Request(Request::MoveSlots { slots, to: 1 }));
        world.settle();
        for client in &mut crowd {
            assert_eq!(client.texts(&mut world), ["1", "2", "3"], "{shards} shards");
            assert_eq!(world.shard_of(client.socket), Some(1));
        }
    }
}

/// What is in a portion for a member of a shared subscription whose session is about to come waits for it.
#[test]
fn what_is_for_a_member_on_its_way_goes_round_once() {
    for shards in [2, 4] {
        let mut world = world(shards);
        let id = id_owned_by(&world, 0, "member");
        let (mut member, _) = Client::connect(&mut world, 0, &id, ConnectOptions::clean(V311));
        member.subscribe(&mut world, "$share/g/t", QoS::AtMostOnce);
        member.subscribe(&mut world, "$share/h/t", QoS::AtMostOnce);
        let publisher = Client::on(&mut world, 1, "publisher", ConnectOptions::clean(V311));
        for number in 0..8 {
            let mut one = Client::on(&mut world, 1, &format!("c{number}-"), ConnectOptions::clean(V311));
            one.subscribe(&mut world, "t", QoS::AtMostOnce);
        }
        move_slot(&mut world, &id, 1);
        // All but the session itself comes.
        while world.carry_out_outputs() | world.carry_messages() {}
        publisher.send_quietly(&mut world, &Packet::Publish(publish("t", "x", QoS::AtMostOnce, 0)));
        while world.catch_up() {}
        world.settle();
        assert_eq!(member.texts(&mut world), ["x", "x"], "{shards} shards");
        assert_eq!(world.shard_of(member.socket), Some(1));
    }
}

#[test]
fn the_subscriptions_of_a_session_that_has_ended_go_in_portions_and_are_nobodys() {
    for mut world in worlds() {
        let gone = Client::clean(&mut world, "gone", V5);
        let names: Vec<String> = (0..60).map(|number| format!("f{number}")).collect();
        for names in names.chunks(10) {
            let options = SubscriptionOptions::new(QoS::AtMostOnce);
            let filters: Vec<_> = names.iter().map(|filter| SubscribeFilter { filter, options }).collect();
            gone.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        }
        begin_turn(&mut world);
        let home = world.shard_of(gone.socket).expect("it is connected");
        world.hang_up_quietly(gone.socket);
        if world.shards.len() == 1 {
            assert!(world.shards[home].is_behind(), "sixty are too many for one turn");
        }
        let mut next = Client::clean(&mut world, "next", V311);
        let publisher = Client::clean(&mut world, "publisher", V311);
        for name in &names {
            publisher.publish(&mut world, name, "x", QoS::AtMostOnce, 0);
        }
        world.settle();
        assert_eq!(next.received(&mut world), []);
        let filters: usize = world.shards.iter().map(|shard| shard.resource_counts().filters).sum();
        assert_eq!(filters, 0);
    }
}

#[test]
fn sessions_that_expire_at_once_do_so_in_portions() {
    let mut world = world(1);
    for number in 0..30 {
        let options = ConnectOptions::clean(V5).with(|properties| properties.session_expiry = Some(1));
        let (client, _) = Client::connect(&mut world, 0, &format!("c{number}"), options);
        world.hang_up(client.socket);
    }
    assert_eq!(world.shards[0].resource_counts().sessions, 30);
    world.now = world.now + Duration::from_secs(2);
    world.handle(0, Input::Tick);
    let left = world.shards[0].resource_counts().sessions;
    assert!((1..30).contains(&left), "{left} are left");
    world.settle();
    assert_eq!(world.shards[0].resource_counts().sessions, 0);
}

#[test]
fn an_orderly_stop_delivers_what_goes_round() {
    for mut world in worlds() {
        let mut crowd = crowd(&mut world, 12);
        let publisher = Client::clean(&mut world, "publisher", V311);
        begin_turn(&mut world);
        let packet = Packet::Publish(publish("t", "x", QoS::AtMostOnce, packet_id(1).get()));
        world.send_quietly(publisher.socket, &bytes(V311, &[packet]));
        if world.shards.len() == 1 {
            world.stop();
            for client in &mut crowd {
                assert_eq!(client.texts(&mut world), ["x"]);
            }
        }
    }
}
