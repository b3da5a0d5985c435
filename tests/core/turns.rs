//! Turns: nobody waits long for others, however much these ask for. In these tests little fits into a turn.

use std::time::{Duration, Instant};

use moormq::codec::{
    Ack, Disconnect, Packet, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Subscribe, SubscribeFilter,
    SubscriptionOptions, Unsubscribe, UserProperties,
};
use moormq::config::Limit;
use moormq::hooks::NoHooks;
use moormq::shard::{Input, TurnLimits};

use crate::client::{Client, ConnectOptions, V5, V311, connect_packet, id_owned_by, packet_id, publish};
use crate::received::Got;
use crate::world::{World, config, open_config};

/// A world in which ten packets are a client's share, and messages go to three recipients at once.
pub fn world(shards: usize) -> World<NoHooks> {
    World::in_turns(
        shards,
        TurnLimits { share: 40, turn: 120, at_once: 3, portion: 3, under_way: 30 },
        open_config(),
        || NoHooks,
    )
}

pub fn worlds() -> impl Iterator<Item = World<NoHooks>> {
    [1, 2, 4].into_iter().map(world)
}

/// Time passes, so that a new turn begins.
pub fn begin_turn(world: &mut World<NoHooks>) {
    world.now = world.now + Duration::from_millis(1);
}

pub fn bytes(version: ProtocolVersion, packets: &[Packet<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(version, &mut bytes));
    bytes
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
