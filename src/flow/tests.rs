//! Patience with slow clients, on both sides, and with full shards.

use super::*;
use std::net::IpAddr;

use crate::config::QueueConfig;
use crate::sharding::hasher;

const CLIENT: ConnectionId = ConnectionId::new(1, 1);
const PATIENCE: Duration = Duration::from_millis(500);
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
/// So much is enough to be held for it.
const ENOUGH: usize = 125;

fn publisher(connection: u32) -> Publisher {
    Publisher { shard: 0, connection: ConnectionId::new(connection, 1) }
}

fn flow() -> Flow {
    let queue = QueueConfig { max_waiting_output_bytes: 1000, publisher_patience: PATIENCE, ..QueueConfig::default() };
    Flow::new(&Config { queue, ..Config::default() }, hasher(7))
}

fn kept() -> Account {
    Account::of_session(7, ADDRESS)
}

fn backlog(output: usize, queued: usize) -> Backlog {
    Backlog { output, queued, most_queued: 10_000, is_long: false }
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// A publication at QoS 0, of so many bytes, is added to a backlog that is full.
fn add(flow: &mut Flow, account: Account, by: u32, bytes: usize, now: Time) -> FullOutput {
    flow.backlog_is_full(CLIENT, account, (backlog(1000, 0), QoS::AtMostOnce), (publisher(by), bytes), now)
}

fn set(publishers: &[u32]) -> BTreeSet<Publisher> {
    publishers.iter().map(|number| publisher(*number)).collect()
}

#[test]
fn each_publisher_waits_once_until_half_of_the_backlog_has_left() {
    let mut flow = flow();
    let first = add(&mut flow, kept(), 2, ENOUGH, at(0));
    assert_eq!(first, FullOutput { publisher_waits: true, look_at: Some(at(500)) });
    assert_eq!(add(&mut flow, kept(), 2, ENOUGH, at(0)), FullOutput::default());
    assert!(add(&mut flow, kept(), 3, ENOUGH, at(0)).publisher_waits && flow.is_waiting_for_clients());
    assert!(flow.backlog_shrank(CLIENT, backlog(300, 201), at(9)).is_empty());
    assert_eq!(flow.backlog_shrank(CLIENT, backlog(300, 200), at(9)), set(&[2, 3]));
    assert!(!flow.is_waiting_for_clients() && !flow.has_slow_clients());
}

/// For QoS 1 and 2 there is more room than for QoS 0, but what is left is left for them.
#[test]
fn a_queue_that_is_nearly_full_is_so_for_every_qos() {
    let flow = flow();
    let short = |queued| Backlog { most_queued: 800, ..backlog(0, queued) };
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert!(!flow.is_full(short(599), qos) && flow.is_full(short(600), qos), "{qos:?}");
        assert_eq!(flow.relieved_at(short(600), qos), 400);
    }
    let long = backlog(400, 600);
    assert!(flow.is_full(long, QoS::AtMostOnce) && !flow.is_full(long, QoS::AtLeastOnce));
}

#[test]
fn who_adds_little_does_not_wait() {
    let mut flow = flow();
    let little = add(&mut flow, kept(), 2, ENOUGH - 1, at(0));
    assert_eq!(little, FullOutput { publisher_waits: false, look_at: Some(at(500)) }, "but credit is spent");
    assert!(!add(&mut flow, kept(), 3, 1, at(1)).publisher_waits);
    assert!(add(&mut flow, kept(), 2, 1, at(2)).publisher_waits, "little and little is much");
    assert_eq!(flow.remove(CLIENT, at(3)), set(&[2]));
}

#[test]
fn a_client_that_does_not_read_is_given_up_when_its_credit_is_used_up() {
    let mut flow = flow();
    add(&mut flow, kept(), 2, ENOUGH, at(0));
    let pace = |flow: &Flow| flow.pace(CLIENT, backlog(1000, 0), QoS::AtMostOnce, at(500));
    assert_eq!((flow.due(CLIENT, at(100)).look_at, pace(&flow)), (Some(at(500)), Pace::Full), "too early");
    let over = flow.due(CLIENT, at(500));
    assert_eq!(over, PatienceOver { released: set(&[2]), look_at: None });
    assert_eq!((pace(&flow), flow.is_waiting_for_clients()), (Pace::Lost, false));
    assert_eq!(add(&mut flow, kept(), 2, ENOUGH, at(100_000)), FullOutput::default(), "it has not read since");
    assert_eq!(flow.pace(CLIENT, backlog(1000, 0), QoS::AtLeastOnce, at(500)), Pace::Full, "QoS 1 is queued");
    assert_eq!(flow.pace(CLIENT, backlog(10, 10), QoS::AtMostOnce, at(500)), Pace::Keeping);
    assert!(flow.backlog_shrank(CLIENT, backlog(0, 0), at(100_000)).is_empty());
    assert!(add(&mut flow, kept(), 2, ENOUGH, at(100_000)).publisher_waits);
}

#[test]
fn credit_outlives_the_connection_and_comes_back_slowly() {
    for account in [kept(), Account::of_connection(CLIENT, ADDRESS)] {
        let mut flow = flow();
        add(&mut flow, account, 2, ENOUGH, at(0));
        flow.due(CLIENT, at(500));
        flow.remove(CLIENT, at(500));
        flow.forget_whole(at(600));
        assert_eq!(
            add(&mut flow, account, 2, ENOUGH, at(600)),
            FullOutput::default(),
            "five milliseconds are too little"
        );
        flow.remove(CLIENT, at(600));
        let again = add(&mut flow, account, 2, ENOUGH, at(2500));
        assert_eq!(again, FullOutput { publisher_waits: true, look_at: Some(at(2600)) });
        flow.remove(CLIENT, at(2500));
        flow.forget_whole(at(20_000));
        assert!(flow.standings.is_empty());
    }
}

/// However many parts the clients and the addresses have: each is looked at once.
#[test]
fn credits_of_very_many_are_looked_at_in_parts_and_once_each() {
    let mut flow = flow();
    for number in 0..6000_u32 {
        let (id, address) = (ConnectionId::new(number, 1), IpAddr::from(number.to_be_bytes()));
        for account in [Account::of_session(u64::from(number), address), Account::of_connection(id, address)] {
            let full = (backlog(1000, 0), QoS::AtMostOnce);
            flow.backlog_is_full(id, account, full, (publisher(2), ENOUGH), at(0));
            flow.due(id, at(500));
            flow.remove(id, at(500));
        }
    }
    let calls = 1 + (0..).take_while(|_| !flow.forget_whole(at(600))).count();
    assert!((8..100).contains(&calls), "{calls}");
    assert_eq!(1 + (0..).take_while(|_| !flow.forget_whole(at(600))).count(), calls, "none is whole yet");
    let mut rounds = 0;
    while !flow.standings.is_empty() {
        while !flow.forget_whole(at(100_000)) {}
        rounds += 1;
        assert!(rounds <= 8);
    }
}

/// Clients of one house, or behind one gateway, do not pay for each other, as long as they read.
#[test]
fn who_has_caught_up_leaves_nothing_to_the_next_from_its_address() {
    let mut flow = flow();
    let other = ConnectionId::new(2, 1);
    let full = (backlog(1000, 0), QoS::AtMostOnce);
    let of = |id| Account::of_connection(id, ADDRESS);
    assert!(add(&mut flow, of(CLIENT), 2, ENOUGH, at(0)).publisher_waits);
    let second = flow.backlog_is_full(other, of(other), full, (publisher(2), ENOUGH), at(200));
    assert_eq!(second.look_at, Some(at(700)), "each connection has a credit of its own");
    assert_eq!(flow.due(CLIENT, at(500)).released, set(&[2]));
    assert!(flow.backlog_shrank(CLIENT, backlog(0, 0), at(510)).is_empty());
    flow.remove(CLIENT, at(510));
    let third = add(&mut flow, of(CLIENT), 2, ENOUGH, at(510));
    assert_eq!(third.look_at, Some(at(1010)), "the first one has caught up");
    flow.remove(other, at(600));
    assert_eq!(flow.backlog_shrank(CLIENT, backlog(0, 0), at(610)), set(&[2]));
    flow.remove(CLIENT, at(610));
    let last = add(&mut flow, of(CLIENT), 2, ENOUGH, at(610));
    assert_eq!(last.look_at, Some(at(710)), "the second one has not: a hundred milliseconds were left to it");
}

#[test]
fn a_client_that_reads_too_slowly_is_given_up_and_loses_nothing_while_it_reads() {
    let mut flow = flow();
    add(&mut flow, kept(), 2, ENOUGH, at(0));
    flow.took(CLIENT, at(400));
    assert!(flow.backlog_shrank(CLIENT, backlog(501, 0), at(400)).is_empty(), "not half of it");
    assert_eq!(flow.due(CLIENT, at(500)).released, set(&[2]));
    let pace = |flow: &Flow, now| flow.pace(CLIENT, backlog(1000, 5000), QoS::AtMostOnce, at(now));
    assert_eq!([600, 899, 900].map(|now| pace(&flow, now)), [Pace::Full, Pace::Full, Pace::Lost]);
    assert_eq!(add(&mut flow, kept(), 2, ENOUGH, at(700)), FullOutput::default(), "nobody waits for it");
    flow.backlog_shrank(CLIENT, backlog(1000, 4000), at(1500));
    assert_eq!(pace(&flow, 1500), Pace::Lost, "others may have taken that");
    flow.took(CLIENT, at(2000));
    assert_eq!([2499, 2500].map(|now| pace(&flow, now)), [Pace::Full, Pace::Lost]);
}

/// QoS 1 and 2 have most of the queue for themselves.
#[test]
fn what_is_full_for_qos_0_is_not_for_the_others() {
    let mut flow = flow();
    let full = |backlog, qos| flow.is_full(backlog, qos);
    assert!(full(backlog(600, 400), QoS::AtMostOnce) && !full(backlog(600, 399), QoS::AtMostOnce));
    assert!(!full(backlog(1000, 7499), QoS::AtLeastOnce) && full(backlog(0, 7500), QoS::ExactlyOnce));
    assert!(full(Backlog { is_long: true, ..backlog(0, 0) }, QoS::AtLeastOnce), "so many messages");
    assert_eq!(flow.pace(CLIENT, backlog(1000, 0), QoS::AtLeastOnce, at(500)), Pace::Full, "no room in the output");
    assert_eq!(flow.pace(CLIENT, backlog(999, 5000), QoS::AtLeastOnce, at(500)), Pace::Keeping);
    let (waiting, by) = ((backlog(0, 7500), QoS::AtLeastOnce), (publisher(2), ENOUGH));
    assert!(flow.backlog_is_full(CLIENT, kept(), waiting, by, at(0)).publisher_waits);
    assert!(flow.backlog_shrank(CLIENT, backlog(0, 5001), at(1)).is_empty());
    assert_eq!(flow.backlog_shrank(CLIENT, backlog(0, 5000), at(1)), set(&[2]));
}

#[test]
fn a_connection_that_goes_lets_its_publishers_go_on() {
    let mut flow = flow();
    add(&mut flow, kept(), 2, ENOUGH, at(0));
    assert_eq!(flow.remove(CLIENT, at(0)), set(&[2]));
    assert!(flow.remove(CLIENT, at(0)).is_empty() && !flow.is_waiting_for_clients());
}

#[test]
fn a_publisher_waits_for_the_shards_that_are_full_and_it_has_written_to() {
    let mut flow = flow();
    let shards = |numbers: &[usize]| {
        let mut shards = ShardSet::default();
        numbers.iter().for_each(|shard| shards.insert(*shard));
        shards
    };
    assert!(flow.congested_among(shards(&[3])).is_empty() && flow.set_congested(3, true).is_empty());
    assert_eq!(flow.congested_among(shards(&[2, 3])), shards(&[3]));
    flow.set_congested(4, true);
    let ids = [1, 2, 3].map(|index| ConnectionId::new(index, 1));
    for (id, waits_for) in ids.into_iter().zip([&[3][..], &[4], &[3, 4]]) {
        flow.wait_for_room(id, shards(waits_for));
    }
    assert_eq!(flow.set_congested(3, false), [ids[0]]);
    assert_eq!(flow.set_congested(4, false), [ids[1], ids[2]]);
    assert!(flow.set_congested(4, false).is_empty());
}

#[test]
fn who_publishes_through_a_shard_is_held_once_for_each_one_behind_it() {
    let mut flow = flow();
    let publisher = |shard| Publisher { shard, connection: CLIENT };
    assert!(flow.hold_for_room(publisher(1), 3) && !flow.hold_for_room(publisher(1), 3));
    assert!(flow.hold_for_room(publisher(2), 3) && flow.hold_for_room(publisher(1), 4));
    assert_eq!(flow.held_for_room(3).len(), 2);
    assert!(flow.held_for_room(3).is_empty() && flow.hold_for_room(publisher(1), 3));
}

#[test]
fn who_waits_for_memory_goes_on_when_there_is_some() {
    let mut flow = flow();
    let ids = [1, 2, 3].map(|index| ConnectionId::new(index, 1));
    assert!(!flow.holds_publishers() && flow.set_memory(MemoryStage::RetainedFull).is_empty());
    assert!(!flow.holds_publishers());
    flow.set_memory(MemoryStage::PublishersHeld);
    assert!(flow.holds_publishers());
    ids.into_iter().chain(ids).for_each(|id| flow.wait_for_memory(id));
    flow.remove(ids[1], at(0));
    assert!(flow.set_memory(MemoryStage::Full).is_empty() && flow.holds_publishers());
    assert_eq!(flow.set_memory(MemoryStage::Normal), BTreeSet::from([ids[0], ids[2]]));
    assert!(flow.set_memory(MemoryStage::Normal).is_empty());
}

/// Whether it was forgotten by now makes no difference.
#[test]
fn a_credit_that_is_whole_again_is_as_if_it_had_never_been_spent() {
    for is_forgotten in [false, true] {
        let mut flow = flow();
        assert_eq!(add(&mut flow, kept(), 2, ENOUGH, at(0)).look_at, Some(at(500)));
        flow.backlog_shrank(CLIENT, backlog(0, 0), at(10));
        // Another one from its address is slow until it goes.
        let other = ConnectionId::new(2, 1);
        let full = (backlog(1000, 0), QoS::AtMostOnce);
        let begun =
            flow.backlog_is_full(other, Account::of_session(8, ADDRESS), full, (publisher(2), ENOUGH), at(1000));
        assert_eq!(begun.look_at, Some(at(1500)));
        flow.due(other, at(1500));
        flow.remove(other, at(1500));
        if is_forgotten {
            flow.forget_whole(at(1500));
        }
        assert_eq!(add(&mut flow, kept(), 2, ENOUGH, at(1500)), FullOutput::default(), "{is_forgotten}");
    }
}

/// A host has as many sessions as it likes.
#[test]
fn a_new_session_begins_with_what_its_address_has_left_and_one_that_is_kept_with_its_own() {
    let mut flow = flow();
    assert!(add(&mut flow, kept(), 2, ENOUGH, at(0)).publisher_waits);
    assert_eq!(flow.due(CLIENT, at(500)).released, set(&[2]));
    flow.remove(CLIENT, at(500));
    let of = |instance, address: &str| Account::of_session(instance, address.parse().expect("an address"));
    for poor in [of(8, "127.0.0.1"), Account::of_connection(CLIENT, ADDRESS), of(7, "192.0.2.1")] {
        assert_eq!(add(&mut flow, poor, 2, ENOUGH, at(500)), FullOutput::default(), "{poor:?}");
        flow.remove(CLIENT, at(500));
    }
    let rich = of(9, "2001:db8::1");
    assert_eq!(add(&mut flow, rich, 2, ENOUGH, at(500)).look_at, Some(at(1000)));
    assert_eq!(flow.due(CLIENT, at(1000)).released, set(&[2]));
    flow.remove(CLIENT, at(1000));
    assert_eq!(add(&mut flow, of(10, "2001:db8::2"), 2, ENOUGH, at(1000)), FullOutput::default(), "one network");
}
