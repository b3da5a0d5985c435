//! Turns: nobody waits long for others, however much these ask for. In these tests little fits into a turn.

use std::time::{Duration, Instant};

use moormq::codec::{
    Ack, Disconnect, Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Unsubscribe, UserProperties,
};
use moormq::config::Limit;
use moormq::hooks::NoHooks;
use moormq::shard::{Input, Request, TurnLimits};
use moormq::sharding::SLOTS;

use crate::client::{Client, ConnectOptions, QOS, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::world::{World, config, open_config};

/// A world in which ten packets are a client's share, and messages go to three recipients at once.
fn world(shards: usize) -> World<NoHooks> {
    World::in_turns(
        shards,
        TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 },
        open_config(),
        || NoHooks,
    )
}

fn worlds() -> impl Iterator<Item = World<NoHooks>> {
    [1, 2, 4].into_iter().map(world)
}

/// Time passes, so that a new turn begins.
fn begin_turn(world: &mut World<NoHooks>) {
    world.now = world.now + Duration::from_millis(1);
}

fn bytes(version: ProtocolVersion, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
    bytes
}

/// So many clients that subscribe to `t`.
fn crowd(world: &mut World<NoHooks>, count: usize) -> Vec<Client> {
    let member = |number| {
        let mut client = Client::clean(world, &format!("sub{number}"), V311);
        client.subscribed(world, "t", QoS::AtMostOnce);
        client
    };
    (0..count).map(member).collect()
}

#[test]
fn a_client_that_sends_a_lot_is_served_in_shares_and_another_one_in_between() {
    let mut world = world(1);
    let mut greedy = Client::clean(&mut world, "greedy", V311);
    let mut modest = Client::clean(&mut world, "modest", V311);
    begin_turn(&mut world);
    world.send_quietly(greedy.socket, &bytes(V311, &[Packet::Pingreq; 100]));
    world.carry_out_outputs();
    let first = greedy.received(&mut world).len();
    assert!((1..=20).contains(&first), "{first} of 100");
    begin_turn(&mut world);
    world.send_quietly(modest.socket, &bytes(V311, &[Packet::Pingreq]));
    world.carry_out_outputs();
    assert_eq!(modest.received(&mut world), [Got::Pingresp]);
    assert!(world.shards[0].is_behind() && world.shards[0].next_deadline() <= world.now);
    let mut turns = 0;
    let mut rest = 0;
    while world.catch_up() {
        turns += 1;
        world.carry_out_outputs();
        rest += greedy.received(&mut world).len();
    }
    assert_eq!(first + rest, 100);
    assert!(turns >= 5, "{turns} turns");
}

/// Whoever comes when all was done that could be in a turn is served in the next one, if it has not had a whole share lately.
#[test]
fn who_asks_for_little_does_not_wait_behind_those_who_ask_for_a_lot() {
    for mut world in worlds() {
        let greedy: Vec<_> = (0..8)
            .map(|number| Client::on(&mut world, 0, &format!("greedy{number}"), ConnectOptions::clean(V311)))
            .collect();
        let mut modest = Client::on(&mut world, 0, "modest", ConnectOptions::clean(V311));
        let floods = bytes(V311, &[Packet::Pingreq; 100]);
        for round in 0..3 {
            begin_turn(&mut world);
            greedy.iter().for_each(|client| world.send_quietly(client.socket, &floods));
            world.send_quietly(modest.socket, &bytes(V311, &[Packet::Pingreq]));
            world.carry_out_outputs();
            let at_once = modest.received(&mut world);
            assert!(round > 0 || at_once.is_empty(), "all was done that could be");
            assert!(world.catch_up());
            world.carry_out_outputs();
            let answers = [at_once, modest.received(&mut world)].concat();
            assert_eq!(answers, [Got::Pingresp], "round {round}, {} shards", world.shards.len());
        }
        world.settle();
        for mut client in greedy {
            assert_eq!(client.received(&mut world).len(), 300, "nobody is left waiting");
        }
    }
}

/// Properties, long topics and topic aliases that are set anew are work of who sends them, whatever the packet is.
#[test]
fn fields_of_packets_are_work_of_who_sends_them() {
    let pairs = vec![(String::new(), String::new()); 200];
    let (user, long) = (UserProperties::from(&pairs[..]), "t".repeat(4096));
    let filters = [SubscribeFilter { filter: "a", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    let with = |properties| Publish { properties, ..publish("a", "", QoS::AtMostOnce, 0) };
    let ack = Ack { user, ..Ack::new(packet_id(1), ReasonCode::Success) };
    let aliased = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
    // A share is ten packets that are no work beyond that.
    for (what, at_most, packet) in [
        ("nothing", 10, Packet::Publish(publish("a", "", QoS::AtMostOnce, 0))),
        ("a payload", 10, Packet::Publish(publish("a", &long[..1000], QoS::AtMostOnce, 0))),
        ("a topic alias", 7, Packet::Publish(with(aliased))),
        ("a long topic", 2, Packet::Publish(publish(&long, "", QoS::AtMostOnce, 0))),
        ("PUBLISH", 2, Packet::Publish(with(PublishProperties { user, ..PublishProperties::default() }))),
        ("PUBREL", 2, Packet::Pubrel(ack)),
        ("PUBACK", 2, Packet::Puback(ack)),
        ("SUBSCRIBE", 1, Packet::Subscribe(Subscribe { user, ..Subscribe::new(packet_id(1), &filters[..]) })),
        ("UNSUBSCRIBE", 2, Packet::Unsubscribe(Unsubscribe { user, ..Unsubscribe::new(packet_id(1), &["x"][..]) })),
    ] {
        let mut world = world(1);
        let client = Client::clean(&mut world, "c", V5);
        begin_turn(&mut world);
        world.send_quietly(client.socket, &bytes(V5, &[packet; 30]));
        let unserved = |world: &World<NoHooks>| world.shards[0].is_behind();
        assert!(unserved(&world), "{what}");
        let mut shares = 1;
        while world.catch_up() {
            shares += 1;
            world.carry_out_outputs();
        }
        assert!(shares >= 30 / at_most, "{what}: {shares} shares");
        assert!(at_most < 10 || shares <= 4, "{what}: {shares} shares");
    }
}

/// How long packets take beside what they count as: printed, not asserted.
#[test]
fn fields_cost_about_what_they_count_as() {
    let pairs = vec![(String::new(), String::new()); 200_000];
    let (user, long) = (UserProperties::from(&pairs[..]), "t".repeat(60_000));
    let filters = [SubscribeFilter { filter: "a", options: SubscriptionOptions::new(QoS::AtMostOnce) }];
    let aliased = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
    let other = Publish { properties: aliased, ..publish("another/topic", "", QoS::AtMostOnce, 0) };
    let many = PublishProperties { user, ..PublishProperties::default() };
    for (what, packets) in [
        (
            "SUBSCRIBE, 200,000 properties",
            vec![Packet::Subscribe(Subscribe { user, ..Subscribe::new(packet_id(1), &filters[..]) })],
        ),
        ("PUBLISH, 200,000 properties", vec![Packet::Publish(Publish { properties: many, ..other })]),
        ("PUBLISH", vec![Packet::Publish(publish("a/topic", "", QoS::AtMostOnce, 0)); 1000]),
        (
            "an alias set anew",
            [Packet::Publish(Publish { topic: "a/topic", ..other }), Packet::Publish(other)].repeat(500),
        ),
        ("60 kB of topic", vec![Packet::Publish(publish(&long, "", QoS::AtMostOnce, 0)); 100]),
        (
            "60 kB of alias set anew",
            [
                Packet::Publish(Publish { topic: &long, ..other }),
                Packet::Publish(Publish { topic: &long[1..], ..other }),
            ]
            .repeat(50),
        ),
    ] {
        let mut config = open_config();
        config.limits.max_properties = Limit::UNLIMITED;
        let limits = TurnLimits { share: u32::MAX, turn: u32::MAX, ..TurnLimits::default() };
        let mut world = World::in_turns(1, limits, config, || NoHooks);
        let client = Client::clean(&mut world, "c", V5);
        begin_turn(&mut world);
        world.settle();
        let bytes = bytes(V5, &packets);
        let began = Instant::now();
        world.send_quietly(client.socket, &bytes);
        let (took, work) = (began.elapsed().as_nanos() as usize, world.shards[0].turn().work);
        println!("{what}: {} ns a packet, {} units", took / packets.len(), work as usize / packets.len());
        assert!(work as usize >= 4 * packets.len());
    }
}

/// What waits between two shards is as much work as one turn, and no more: what others send there is behind it.
#[test]
fn what_is_a_lot_of_work_elsewhere_is_a_lot_here() {
    for shards in [2, 4] {
        for (cost, at_least, at_most) in [(0, 9, 10), (20, 1, 3)] {
            let mut world = world(shards);
            let mut subscriber = Client::on(&mut world, 1, "subscriber", ConnectOptions::clean(V311));
            subscriber.subscribed(&mut world, "t", QoS::AtMostOnce);
            let publisher = Client::on(&mut world, 0, "publisher", ConnectOptions::clean(V311));
            world.handle(0, Input::Cost { to: 1, work: cost });
            begin_turn(&mut world);
            let texts: Vec<_> = (0..30).map(|number| number.to_string()).collect();
            let packets = texts.iter().map(|text| Packet::Publish(publish("t", text, QoS::AtMostOnce, 0)));
            world.send_quietly(publisher.socket, &bytes(V311, &packets.collect::<Vec<_>>()));
            world.carry_out_outputs();
            let sent = world.on_their_way(0, 1);
            assert!((at_least..=at_most).contains(&sent), "{shards} shards, cost {cost}: {sent}");
            world.settle();
            assert_eq!(subscriber.texts(&mut world), texts, "all of it comes, in order");
        }
    }
}

#[test]
fn all_clients_together_have_one_turn_and_wait_in_order() {
    let mut world = world(1);
    let clients: Vec<Client> = (0..8).map(|number| Client::clean(&mut world, &format!("c{number}"), V311)).collect();
    begin_turn(&mut world);
    for client in &clients {
        world.send_quietly(client.socket, &bytes(V311, &[Packet::Pingreq; 9]));
    }
    world.carry_out_outputs();
    let answered = |world: &mut World<NoHooks>| -> Vec<usize> {
        clients.iter().map(|client| world.received(client.socket).len() / 2).collect()
    };
    let first = answered(&mut world);
    assert!(first[0] == 9 && first[7] == 0, "{first:?}");
    assert!(world.catch_up());
    world.carry_out_outputs();
    let second = answered(&mut world);
    assert!(second.iter().sum::<usize>() > 0 && second[0] == 0, "{second:?}");
    world.settle();
    let all: usize = [first, second, answered(&mut world)].iter().flatten().sum();
    assert_eq!(all, 72);
}

/// However many come or go at once: who is there is answered in the next turn.
#[test]
fn who_is_connected_does_not_stand_in_line_behind_those_who_come_and_go() {
    for mut world in worlds() {
        let connected =
            |world: &mut World<NoHooks>, name: &str| Client::on(world, 0, name, ConnectOptions::clean(V311));
        let modest = connected(&mut world, "modest");
        let go: Vec<_> = (0..60).map(|number| connected(&mut world, &format!("goes{number}-"))).collect();
        let come: Vec<_> = (0..60).map(|_| world.connect(0)).collect();
        for is_coming in [true, false] {
            begin_turn(&mut world);
            for (number, socket) in come.iter().enumerate().filter(|_| is_coming) {
                let id = format!("comes{number}-");
                let connect = Packet::Connect(connect_packet(&id, ConnectOptions::clean(V311)));
                world.send_quietly(*socket, &bytes(V311, &[connect]));
            }
            go.iter().filter(|_| !is_coming).for_each(|client| world.hang_up_quietly(client.socket));
            world.send_quietly(modest.socket, &bytes(V311, &[Packet::Pingreq]));
            world.carry_out_outputs();
            assert!(world.received(modest.socket).is_empty(), "nothing was left of the turn");
            assert!(world.catch_up());
            world.carry_out_outputs();
            assert_eq!(world.received(modest.socket).len(), 2, "is_coming: {is_coming}");
            assert!(world.shards[0].is_behind());
            world.settle();
        }
    }
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

/// What a message costs is also the walk to those who subscribe, found or not.
#[test]
fn a_walk_through_many_filters_is_work_of_who_publishes() {
    for shards in [1, 2] {
        let mut world = World::in_turns(
            shards,
            TurnLimits { share: 1000, turn: 2000, at_once: 100, portion: 100, under_way: 1000 },
            config(|config| config.limits.max_wildcard_shapes = Limit::UNLIMITED),
            || NoHooks,
        );
        let last = shards - 1;
        let mut many = Client::on(&mut world, last, "many", ConnectOptions::clean(V5));
        // A path for each choice of a level or a plus in ten levels, and none of them ends where the topic does.
        for filter in 0..1 << 10_u32 {
            let levels: Vec<_> = (0..10).map(|level| if filter >> level & 1 == 0 { "a" } else { "+" }).collect();
            many.subscribed(&mut world, &format!("{}/z", levels.join("/")), QoS::AtMostOnce);
        }
        many.received(&mut world);
        let publisher = Client::on(&mut world, last, "publisher", ConnectOptions::clean(V311));
        let mut bystander = Client::on(&mut world, last, "bystander", ConnectOptions::clean(V311));
        let topic = ["a"; 12].join("/");
        begin_turn(&mut world);
        world.send_quietly(
            publisher.socket,
            &bytes(V311, &[Packet::Publish(publish(&topic, "", QoS::AtMostOnce, 0)); 9]),
        );
        let served = world.shards[last].counters().messages_in;
        assert_eq!(served, 1, "the first one is a share and more");
        assert!(world.shards[last].turn().is_over);
        begin_turn(&mut world);
        world.send_quietly(bystander.socket, &bytes(V311, &[Packet::Pingreq]));
        world.carry_out_outputs();
        assert_eq!(bystander.received(&mut world), [Got::Pingresp]);
        world.settle();
        assert_eq!(world.shards[last].counters().messages_in, 9);
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

/// What is put off must not take turn after turn, all in one and the same millisecond, from those who wait for theirs.
#[test]
fn clients_have_their_share_while_subscriptions_end_and_sessions_expire() {
    let mut world = world(1);
    let gone = Client::clean(&mut world, "gone", V5);
    for number in 0..60 {
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = [SubscribeFilter { filter: &format!("f{number}"), options }];
        gone.send(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
    }
    for number in 0..60 {
        let options = ConnectOptions::clean(V5).with(|properties| properties.session_expiry = Some(1));
        let (client, _) = Client::connect(&mut world, 0, &format!("c{number}"), options);
        world.hang_up(client.socket);
    }
    let mut bystander = Client::clean(&mut world, "bystander", V311);
    for expire in [false, true] {
        begin_turn(&mut world);
        if expire {
            world.now = world.now + Duration::from_secs(2);
            world.handle(0, Input::Tick);
        } else {
            world.hang_up_quietly(gone.socket);
            world.catch_up();
        }
        // The clock stands still: all of these have had their share of the turn.
        world.send_quietly(bystander.socket, &bytes(V311, &[Packet::Pingreq; 40]));
        world.catch_up();
        world.carry_out_outputs();
        assert!(world.shards[0].is_behind(), "there is more to be done");
        assert!(!bystander.received(&mut world).is_empty(), "the client has its share of each turn, expire {expire}");
        world.settle();
    }
}

/// What is due has half of a share, however much it is: what was put off has the other half.
#[test]
fn what_was_put_off_goes_on_while_sessions_expire() {
    const SESSIONS: usize = 300;
    for mut world in worlds() {
        let home = world.shards.len() - 1;
        let mut here = |name: String, options| Client::on(&mut world, home, &name, options);
        let expiring = || ConnectOptions::clean(V5).with(|properties| properties.session_expiry = Some(1));
        let gone: Vec<_> = (0..SESSIONS).map(|number| here(format!("dies{number}-"), expiring())).collect();
        let clean = ConnectOptions::clean(V311);
        let mut crowd: Vec<_> = (0..40).map(|number| here(format!("sub{number}-"), clean)).collect();
        let (publisher, mut newcomer) = (here("publisher".to_owned(), clean), here("newcomer".to_owned(), clean));
        gone.iter().for_each(|client| world.hang_up(client.socket));
        crowd.iter_mut().for_each(|client| client.subscribed(&mut world, "t", QoS::AtMostOnce));
        (0..60).for_each(|number| publisher.retain(&mut world, &format!("state/{number}"), "x"));
        let options = SubscriptionOptions::new(QoS::AtMostOnce);
        let filters = [SubscribeFilter { filter: "state/#", options }];
        world.now = world.now + Duration::from_secs(5);
        publisher.send_quietly(&mut world, &Packet::Publish(publish("t", "x", QoS::AtMostOnce, 0)));
        newcomer.send_quietly(&mut world, &Packet::Subscribe(Subscribe::new(packet_id(1), &filters[..])));
        let (mut delivered, mut replayed) = (0, 0);
        while delivered < 40 || replayed < 60 {
            assert!(world.catch_up());
            world.carry_out_outputs();
            world.carry_messages();
            begin_turn(&mut world);
            delivered += crowd.iter_mut().map(|client| client.texts(&mut world).len()).sum::<usize>();
            replayed += newcomer.texts(&mut world).len();
        }
        let left = world.shards[home].resource_counts().sessions;
        assert!(left > SESSIONS / 2, "{left} are left");
        world.settle();
        assert_eq!(world.shards[home].resource_counts().sessions, 42);
    }
}

/// [MQTT-3.14.4-3]
#[test]
fn what_came_before_the_end_of_a_connection_counts_however_late_it_is_served() {
    for mut world in worlds() {
        let mut watcher = Client::clean(&mut world, "watcher", V311);
        watcher.subscribed(&mut world, "will", QoS::AtMostOnce);
        watcher.subscribed(&mut world, "last", QoS::AtMostOnce);
        let options = ConnectOptions::clean(V5).will("will");
        let (leaver, _) = Client::connect(&mut world, 0, "leaver", options);
        let mut packets = vec![Packet::Pingreq; 40];
        packets.push(Packet::Publish(publish("last", "words", QoS::AtMostOnce, 0)));
        packets.push(Packet::Disconnect(Disconnect::new(ReasonCode::Success)));
        begin_turn(&mut world);
        world.send_quietly(leaver.socket, &bytes(V5, &packets));
        world.hang_up_quietly(leaver.socket);
        world.settle();
        assert_eq!(watcher.texts(&mut world), ["words"]);
    }
}

/// However many clients read on at once for which a lot waits: each is sent a share of it at a time, in order.
#[test]
fn clients_that_read_on_are_sent_what_waits_in_shares() {
    const MESSAGES: usize = 800;
    for shards in [1, 2, 4] {
        let mut config = open_config();
        config.limits.max_inflight_messages = u16::MAX;
        config.queue.max_waiting_output_bytes = 4096;
        let limits = TurnLimits { share: 100, turn: 300, at_once: 30, portion: 30, under_way: 100 };
        let mut world = World::in_turns(shards, limits, config, || NoHooks);
        let last = shards - 1;
        let reader = |world: &mut World<NoHooks>, number| {
            let mut reader = Client::on(world, last, &format!("r{number}-"), ConnectOptions::clean(V311));
            reader.subscribed(world, "t", QoS::AtLeastOnce);
            world.stick(reader.socket, true);
            reader
        };
        let mut readers: Vec<_> = (0..9).map(|number| reader(&mut world, number)).collect();
        let publisher = Client::clean(&mut world, "publisher", V311);
        let texts: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        texts.iter().for_each(|text| publisher.publish(&mut world, "t", text, QoS::AtLeastOnce, 1));
        let mut bystander = Client::on(&mut world, last, "bystander", ConnectOptions::clean(V311));
        begin_turn(&mut world);
        let sent = |world: &World<NoHooks>| world.shards[last].counters().messages_out;
        let (before, mut turns) = (sent(&world), 0);
        readers.iter().for_each(|reader| world.unstick_quietly(reader.socket));
        // What has been written goes out, and they have room for more.
        world.carry_out_outputs();
        let first = sent(&world) - before;
        assert!((100..=400).contains(&first), "{first} messages in the first turn");
        assert!(world.shards[last].is_behind() && world.shards[last].turn().is_over);
        let mut got = vec![Vec::new(); readers.len()];
        world.send_quietly(bystander.socket, &bytes(V311, &[Packet::Pingreq]));
        while world.shards[last].is_behind() {
            begin_turn(&mut world);
            let before = sent(&world);
            world.catch_up();
            world.carry_out_outputs();
            assert_eq!(bystander.received(&mut world), [Got::Pingresp], "turn {turns}");
            world.send_quietly(bystander.socket, &bytes(V311, &[Packet::Pingreq]));
            // The last share goes beyond it.
            let count = sent(&world) - before;
            assert!(count <= 300 + 100, "{count} messages in turn {turns}");
            for (reader, got) in readers.iter_mut().zip(&mut got) {
                got.extend(reader.texts(&mut world));
            }
            let lengths = || got.iter().map(Vec::len);
            let (least, most) = (lengths().min().unwrap_or(0), lengths().max().unwrap_or(0));
            assert!(most < MESSAGES || least >= MESSAGES / 2, "nobody is left behind: {least} and {most}");
            turns += 1;
        }
        world.settle();
        assert!(turns >= 5, "{turns} turns");
        for (reader, got) in readers.iter_mut().zip(&mut got) {
            got.extend(reader.texts(&mut world));
            assert!(*got == texts, "all of it comes, in order: {shards} shards, {}", got.len());
        }
    }
}

/// The same of what is sent again.
#[test]
fn what_is_sent_again_goes_in_shares() {
    for shards in [1, 2, 4] {
        let mut config = open_config();
        config.limits.max_inflight_messages = u16::MAX;
        let limits = TurnLimits { share: 100, turn: 300, at_once: 30, portion: 30, under_way: 100 };
        let mut world = World::in_turns(shards, limits, config, || NoHooks);
        let last = shards - 1;
        let options = ConnectOptions::kept(V311);
        let mut reader = Client::on(&mut world, last, "r", options);
        reader.subscribed(&mut world, "t", QoS::ExactlyOnce);
        let publisher = Client::clean(&mut world, "publisher", V311);
        for number in 0..1000 {
            publisher.publish(&mut world, "t", &number.to_string(), QoS::AtLeastOnce, 1);
        }
        assert_eq!(reader.texts(&mut world).len(), 1000);
        world.hang_up(reader.socket);
        let id = id_owned_by(&world, last, "r");
        let mut again = Client::open(&mut world, last, V311);
        let sent = |world: &World<NoHooks>| world.shards[last].counters().messages_out;
        let mut connect = Vec::new();
        connect_packet(&id, options).encode(&mut connect);
        begin_turn(&mut world);
        let (mut before, mut turns) = (sent(&world), 0);
        world.send_quietly(again.socket, &connect);
        while world.shards[last].is_behind() {
            world.carry_out_outputs();
            assert!(sent(&world) - before <= 400, "{} messages in turn {turns}", sent(&world) - before);
            begin_turn(&mut world);
            (before, turns) = (sent(&world), turns + 1);
            world.catch_up();
        }
        world.settle();
        assert!(turns >= 3, "{turns} turns");
        assert_eq!(again.received(&mut world).len(), 1001, "CONNACK and all of it");
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
