//! Shapes of topic filters (`limits.max_wildcard_shapes`): whatever clients subscribe to, a message visits a bounded part of the tree of
//! filters. What it visits is counted as work, and so measured without a clock.

use std::sync::Arc;
use std::time::Duration;

use moormq::codec::{Packet, ProtocolVersion, QoS, ReasonCode, Subscribe, SubscribeFilter, SubscriptionOptions};
use moormq::config::{Config, Limit};
use moormq::hooks::NoHooks;
use moormq::shard::{Input, Request};
use moormq::topic::TopicFilter;

use crate::client::{Client, ConnectOptions, V5, id_owned_by, packet_id};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::world::{World, config, worlds_with};

/// How many shapes there may be in these tests; a session may have eight of them.
const MOST: usize = 64;
const LEVELS: u32 = 12;
/// How many places a message may visit: those that count, those that never do, one for each level, and the root.
const MOST_VISITED: usize = MOST + 1198 + LEVELS as usize + 1;
/// What a message to all clients of these tests is beside that.
const OTHER_WORK: usize = 600;

fn limited(config: &mut Config) {
    config.limits.max_wildcard_shapes = Limit::at_most(MOST);
}

/// A filter with `+` where a bit is set, `a` elsewhere, behind these words.
fn filter(before: &str, bits: u32) -> String {
    let levels = (0..LEVELS).map(|level| if bits >> level & 1 == 1 { "+" } else { "a" });
    format!("{before}{}", levels.collect::<Vec<_>>().join("/"))
}

/// With three `+` at least in the first eight levels: four shapes count for each, those of nine levels and more.
fn many(count: usize) -> Vec<u32> {
    (0_u32..1 << 8).filter(|bits| bits.count_ones() >= 3).take(count).collect()
}

fn topic() -> String {
    filter("", 0)
}

fn subscribe_quietly(world: &mut World<NoHooks>, client: &Client, filters: &[String]) {
    let options = SubscriptionOptions::new(QoS::AtMostOnce);
    let filters: Vec<_> = filters.iter().map(|filter| SubscribeFilter { filter, options }).collect();
    client.send_quietly(world, &Packet::Subscribe(Subscribe::new(packet_id(9), &filters[..])));
}

/// The codes of the SUBACK for these filters.
fn codes(world: &mut World<NoHooks>, client: &mut Client, filters: &[String]) -> Vec<ReasonCode> {
    subscribe_quietly(world, client, filters);
    suback(world, client)
}

fn suback(world: &mut World<NoHooks>, client: &mut Client) -> Vec<ReasonCode> {
    world.settle();
    match &client.received(world)[..] {
        [Got::Suback(9, codes)] => codes.clone(),
        received => panic!("{received:?}"),
    }
}

fn full(version: ProtocolVersion) -> ReasonCode {
    if version == V5 { ReasonCode::QuotaExceeded } else { ReasonCode::UnspecifiedError }
}

fn client(world: &mut World<NoHooks>, number: usize, version: ProtocolVersion) -> Client {
    let shard = number % world.shards.len();
    Client::on(world, shard, &format!("{number}-"), ConnectOptions::clean(version))
}

/// The most work that a message to the topic that all filters match is to any shard, wherever it is published.
fn cost(world: &mut World<NoHooks>) -> usize {
    let mut most = 0;
    for from in 0..world.shards.len() {
        let publisher = Client::on(world, from, "publisher", ConnectOptions::clean(V5));
        // A turn begins on all shards.
        world.now = world.now + Duration::from_millis(1);
        (0..world.shards.len()).for_each(|shard| world.handle(shard, Input::Tick));
        publisher.publish(world, &topic(), "x", QoS::AtMostOnce, 0);
        most = world.shards.iter().map(|shard| shard.turn().work as usize).fold(most, usize::max);
        publisher.disconnect(world);
    }
    most
}

/// Clients that ask for all filters of `a` and `+` get few of them, and nobody else is refused anything.
#[test]
fn clients_together_have_no_more_shapes_than_are_allowed() {
    for mut world in worlds_with(|| config(limited)) {
        for version in ProtocolVersion::ALL {
            let idle = cost(&mut world);
            let mut clients = Vec::new();
            let mut granted = 0;
            let all: Vec<_> = (0..1 << LEVELS).map(|bits| filter("", bits)).collect();
            for (number, part) in all.chunks(256).enumerate() {
                let mut client = client(&mut world, number, version);
                let ordinary = ["+/+/+/+/+/+/+/+/#", "a/+/+/a/a/a/a/a/a/a/a/a/a/a/a/a", "a"].map(str::to_owned);
                let got = codes(&mut world, &mut client, &[part, &ordinary].concat());
                assert_eq!(got.len(), part.len() + ordinary.len());
                let (of_part, of_ordinary) = got.split_at(part.len());
                assert_eq!(of_ordinary, [ReasonCode::Success; 3], "the others of the packet are served");
                for (code, text) in of_part.iter().zip(part) {
                    assert!([ReasonCode::Success, full(version)].contains(code), "{code:?}");
                    // Those with at most two `+`.
                    assert!(*code == ReasonCode::Success || text.matches('+').count() > 2, "{text}");
                }
                let refused = of_part.iter().filter(|code| **code != ReasonCode::Success).count();
                assert!(refused > 100, "{refused} of {}", part.len());
                granted += part.len() - refused;
                clients.push(client);
            }
            assert!(granted > MOST / 4, "{granted}");
            let busy = cost(&mut world);
            assert!(busy > idle && busy <= idle + MOST_VISITED + OTHER_WORK, "{idle} {busy}");
            for client in &mut clients {
                assert!(client.texts(&mut world).contains(&"x".to_owned()));
                client.disconnect(&mut world);
            }
            assert_eq!(cost(&mut world), idle);
        }
    }
}

/// Eight clients may use up what there is: no one of them has more than its part, and it is free again when filters or sessions go.
#[test]
fn there_is_room_again_when_filters_or_sessions_go() {
    for mut world in worlds_with(|| config(limited)) {
        for version in ProtocolVersion::ALL {
            let full = full(version);
            // Two filters are eight shapes: an eighth.
            let filters: Vec<_> = many(40).into_iter().map(|bits| filter("", bits)).collect();
            let mut holders = Vec::new();
            for (number, three) in filters[..24].chunks(3).enumerate() {
                let mut client = client(&mut world, number, version);
                let got = codes(&mut world, &mut client, three);
                assert_eq!(got, [ReasonCode::Success, ReasonCode::Success, full]);
                assert_eq!(codes(&mut world, &mut client, three), got, "what it has it may ask for again");
                holders.push(client);
            }
            let mut late = client(&mut world, 9, version);
            assert_eq!(codes(&mut world, &mut late, &filters[30..31]), [full]);
            assert_eq!(codes(&mut world, &mut late, &filters[..1]), [ReasonCode::Success], "that shape is there");
            let shared = [format!("$share/g/{}", filters[1]), format!("$share/g/{}", filters[30])];
            assert_eq!(codes(&mut world, &mut late, &shared), [ReasonCode::Success, full]);
            // The shapes of the first of them are the late one's, too, and those of the second those of its shared subscription.
            holders[0].unsubscribe(&mut world, &[&filters[0], &filters[1]]);
            holders[0].received(&mut world);
            assert_eq!(codes(&mut world, &mut holders[0], &filters[31..32]), [full]);
            late.unsubscribe(&mut world, &[&filters[0], &shared[0]]);
            late.received(&mut world);
            assert_eq!(
                codes(&mut world, &mut holders[0], &filters[31..34]),
                [ReasonCode::Success, ReasonCode::Success, full]
            );
            // A session ends.
            world.hang_up(holders[1].socket);
            world.settle();
            assert_eq!(codes(&mut world, &mut late, &shared[1..]), [ReasonCode::Success]);
            assert_eq!(codes(&mut world, &mut late, &filters[35..38]), [ReasonCode::Success, full, full]);
            holders.iter().chain([&late]).for_each(|client| client.disconnect(&mut world));
        }
    }
}

/// What clients on several shards ask for at the same moment is granted by each shard for itself: no more than each may.
#[test]
fn shards_that_accept_at_the_same_moment_each_keep_to_the_limit() {
    for mut world in worlds_with(|| config(limited)) {
        let shards = world.shards.len();
        let mut clients: Vec<_> = (0..12 * shards).map(|number| client(&mut world, number, V5)).collect();
        let filters: Vec<_> = many(219).into_iter().map(|bits| filter("", bits)).collect();
        for (client, three) in clients.iter().zip(filters.chunks(3).cycle()) {
            subscribe_quietly(&mut world, client, three);
        }
        let granted = clients.iter_mut().flat_map(|client| suback(&mut world, client));
        let granted = granted.filter(|code| *code == ReasonCode::Success).count();
        assert!((MOST / 4..=shards * MOST / 4).contains(&granted), "{granted} filters of four shapes");
        assert!(cost(&mut world) <= MOST_VISITED + (shards - 1) * MOST + OTHER_WORK);
        let mut late = client(&mut world, 1000, V5);
        assert_eq!(codes(&mut world, &mut late, &[filter("", 0xf00)]), [full(V5)]);
    }
}

/// A session moves with filters that it could not have now.
#[test]
fn sessions_that_move_keep_what_they_have() {
    for mut world in worlds_with(|| config(limited)) {
        let last = world.shards.len() - 1;
        let id = id_owned_by(&world, 0, "moves");
        let (mut moves, _) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
        let filters: Vec<_> = many(20).into_iter().map(|bits| filter("", bits)).collect();
        assert_eq!(codes(&mut world, &mut moves, &filters[..2]), [ReasonCode::Success; 2]);
        for (number, two) in filters[2..16].chunks(2).enumerate() {
            let mut other = client(&mut world, number, V5);
            assert_eq!(codes(&mut world, &mut other, two), [ReasonCode::Success; 2]);
        }
        for to in [last, 0, last] {
            move_slot(&mut world, &id, to);
            world.settle();
            let mut late = client(&mut world, 100 + to, V5);
            assert_eq!(codes(&mut world, &mut late, &filters[18..19]), [full(V5)], "it counts once");
            late.publish(&mut world, &topic(), "x", QoS::AtMostOnce, 0);
            assert_eq!(moves.texts(&mut world), ["x"]);
            assert_eq!(codes(&mut world, &mut moves, &filters[18..19]), [full(V5)], "it has an eighth");
        }
        moves.unsubscribe(&mut world, &[&filters[0]]);
        moves.received(&mut world);
        assert_eq!(codes(&mut world, &mut moves, &filters[18..20]), [ReasonCode::Success, full(V5)]);
    }
}

/// The embedding program is not refused. What it subscribes to counts.
#[test]
fn the_program_subscribes_to_what_it_wants() {
    for mut world in worlds_with(|| config(limited)) {
        let last = world.shards.len() - 1;
        for (number, bits) in (1..).zip(many(17)) {
            let filter = TopicFilter::parse(&filter("", bits), 32).expect("a valid filter");
            world.request(last, Request::Subscribe { subscription: number, mountpoint: Arc::from(""), filter });
        }
        assert_eq!(world.subscribed.len(), 17);
        let mut late = client(&mut world, 0, V5);
        assert_eq!(codes(&mut world, &mut late, &[filter("", many(18)[17])]), [full(V5)]);
        late.publish(&mut world, &topic(), "x", QoS::AtMostOnce, 0);
        assert_eq!(world.delivered.len(), 17);
    }
}
