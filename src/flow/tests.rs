//! Patience with slow clients, on both sides, and with full shards.

use super::*;
use crate::config::QueueConfig;

const CLIENT: ConnectionId = ConnectionId::new(1, 1);
const PATIENCE: Duration = Duration::from_millis(500);
const KEPT: Account = Account::Session(7);
/// So much is enough to be held for it.
const ENOUGH: usize = 125;

fn publisher(connection: u32) -> Publisher {
    Publisher { shard: 0, connection: ConnectionId::new(connection, 1) }
}

fn flow() -> Flow {
    let queue = QueueConfig { max_waiting_output_bytes: 1000, publisher_patience: PATIENCE, ..QueueConfig::default() };
    Flow::new(&Config { queue, ..Config::default() })
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
    let first = add(&mut flow, KEPT, 2, ENOUGH, at(0));
    assert_eq!(first, FullOutput { publisher_waits: true, look_at: Some(at(500)) });
    assert_eq!(add(&mut flow, KEPT, 2, ENOUGH, at(0)), FullOutput::default());
    assert!(add(&mut flow, KEPT, 3, ENOUGH, at(0)).publisher_waits && flow.is_waiting_for_clients());
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
    let little = add(&mut flow, KEPT, 2, ENOUGH - 1, at(0));
    assert_eq!(little, FullOutput { publisher_waits: false, look_at: Some(at(500)) }, "but credit is spent");
    assert!(!add(&mut flow, KEPT, 3, 1, at(1)).publisher_waits);
    assert!(add(&mut flow, KEPT, 2, 1, at(2)).publisher_waits, "little and little is much");
    assert_eq!(flow.remove(CLIENT, at(3)), set(&[2]));
}

#[test]
fn a_client_that_does_not_read_is_given_up_when_its_credit_is_used_up() {
    let mut flow = flow();
    add(&mut flow, KEPT, 2, ENOUGH, at(0));
    let pace = |flow: &Flow| flow.pace(CLIENT, backlog(1000, 0), QoS::AtMostOnce);
    assert_eq!((flow.due(CLIENT, at(100)).look_at, pace(&flow)), (Some(at(500)), Pace::Full), "too early");
    let over = flow.due(CLIENT, at(500));
    assert_eq!(over, PatienceOver { released: set(&[2]), look_at: None });
    assert_eq!((pace(&flow), flow.is_waiting_for_clients()), (Pace::Lost, false));
    assert_eq!(add(&mut flow, KEPT, 2, ENOUGH, at(100_000)), FullOutput::default(), "it has not read since");
    assert_eq!(flow.pace(CLIENT, backlog(1000, 0), QoS::AtLeastOnce), Pace::Full, "QoS 1 is queued");
    assert_eq!(flow.pace(CLIENT, backlog(10, 10), QoS::AtMostOnce), Pace::Keeping);
    assert!(flow.backlog_shrank(CLIENT, backlog(0, 0), at(100_000)).is_empty());
    assert!(add(&mut flow, KEPT, 2, ENOUGH, at(100_000)).publisher_waits);
}

#[test]
fn credit_outlives_the_connection_and_comes_back_slowly() {
    let address = Account::Address(IpAddr::from([10, 0, 0, 1]));
    for account in [KEPT, address] {
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
        assert!(flow.credits.is_empty());
    }
}

#[test]
fn clients_of_one_address_spend_its_credit_together_and_once_at_a_time() {
    let mut flow = flow();
    let address = Account::Address(IpAddr::from([10, 0, 0, 1]));
    let other = ConnectionId::new(2, 1);
    add(&mut flow, address, 2, ENOUGH, at(0));
    let full = (backlog(1000, 0), QoS::AtMostOnce);
    let second = flow.backlog_is_full(other, address, full, (publisher(2), ENOUGH), at(200));
    assert_eq!(second.look_at, Some(at(500)));
    assert_eq!(flow.due(other, at(500)).released, set(&[2]));
    assert_eq!(flow.due(CLIENT, at(500)).released, set(&[2]));
}

/// QoS 1 and 2 have most of the queue for themselves.
#[test]
fn what_is_full_for_qos_0_is_not_for_the_others() {
    let mut flow = flow();
    let full = |backlog, qos| flow.is_full(backlog, qos);
    assert!(full(backlog(600, 400), QoS::AtMostOnce) && !full(backlog(600, 399), QoS::AtMostOnce));
    assert!(!full(backlog(1000, 7499), QoS::AtLeastOnce) && full(backlog(0, 7500), QoS::ExactlyOnce));
    assert!(full(Backlog { is_long: true, ..backlog(0, 0) }, QoS::AtLeastOnce), "so many messages");
    assert_eq!(flow.pace(CLIENT, backlog(1000, 0), QoS::AtLeastOnce), Pace::Full, "no room in the output");
    assert_eq!(flow.pace(CLIENT, backlog(999, 5000), QoS::AtLeastOnce), Pace::Keeping);
    let (waiting, by) = ((backlog(0, 7500), QoS::AtLeastOnce), (publisher(2), ENOUGH));
    assert!(flow.backlog_is_full(CLIENT, KEPT, waiting, by, at(0)).publisher_waits);
    assert!(flow.backlog_shrank(CLIENT, backlog(0, 5001), at(1)).is_empty());
    assert_eq!(flow.backlog_shrank(CLIENT, backlog(0, 5000), at(1)), set(&[2]));
}

#[test]
fn a_connection_that_goes_lets_its_publishers_go_on() {
    let mut flow = flow();
    add(&mut flow, KEPT, 2, ENOUGH, at(0));
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
