//! Queues of which parts are in the archive.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moormq::archive::{Archive, ArchiveKey, Change, Found, MemoryArchive, Span};
use moormq::client::DropReason;
use moormq::codec::{AckKind::*, Packet, QoS};
use moormq::config::{Config, QueueType};
use moormq::hooks::{Chain, DroppedMessage, Hook, NoHooks, Notice};
use moormq::memory::{MemoryHeld, MemoryKind};
use moormq::records::read_summary;
use moormq::session::{Key, StoreNumber};

use super::{kept, last, passing};
use crate::client::{Client, ConnectOptions, V5, acked, id_owned_by, publish};
use crate::migrating::move_slot;
use crate::received::Got;
use crate::stores::{Last, Stores, with_stores};
use crate::turns::{begin_turn, bytes};
use crate::world::{World, config};

/// The archive of a world.
fn with_archive<C: Chain>(shards: usize, config: Config, chain: impl Fn() -> C) -> World<C> {
    with_stores(World::new(shards, config, chain), Stores::default().with_archive(shards))
}

fn ordered(order: QueueType) -> Config {
    config(|config| config.queue.queue_type = order)
}

/// The journals have 4 MiB for each shard: so many of these are three times as much.
const MANY: usize = 600;
/// And so many of them a quarter.
const FEW: usize = 50;

fn text(number: usize) -> String {
    format!("{number:08}{}", "x".repeat(20_000))
}

fn number(text: &str) -> usize {
    text[..8].parse().expect("a number")
}

/// A kept session of the last shard, whose client is away, with many messages in its queue: all acknowledged.
fn filled(world: &mut World<impl Chain>, qos: QoS, many: usize) {
    let shard = last(world);
    let mut absent = kept(world, shard, "absent");
    absent.subscribed(world, "t", QoS::ExactlyOnce);
    world.hang_up(absent.socket);
    let mut publisher = passing(world);
    for number in 0..many {
        publisher.publish(world, "t", &text(number), qos, 1);
        assert_eq!(publisher.received(world).len(), 1, "{number}: nobody waits for ever");
        if qos == QoS::ExactlyOnce {
            publisher.ack(world, Pubrel, 1);
            assert_eq!(publisher.received(world).len(), 1);
        }
    }
    world.hang_up(publisher.socket);
}

fn in_order(order: QueueType, many: usize) -> Vec<usize> {
    let numbers = 0..many;
    if order == QueueType::Lifo { numbers.rev().collect() } else { numbers.collect() }
}

/// More waits than the journals have room for.
#[test]
fn a_queue_that_is_longer_than_the_journals_comes_in_order() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for shards in [1, 2, 4] {
            for (qos, dies) in [(QoS::AtLeastOnce, false), (QoS::ExactlyOnce, false), (QoS::ExactlyOnce, true)] {
                let mut world = with_archive(shards, ordered(order), || NoHooks);
                filled(&mut world, qos, MANY);
                assert!(world.stores().pages() > MANY / 2, "{}", world.stores().pages());
                if dies {
                    world = world.restarted((Last::Lost, Duration::ZERO), shards, ordered(order), || NoHooks);
                }
                let mut absent = kept(&mut world, shards - 1, "absent");
                let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
                assert_eq!(got, in_order(order, MANY), "{order:?}, {shards} shards, {qos:?}");
                world.hang_up(absent.socket);
                assert_eq!(world.stores().pages(), 0, "what was taken is deleted");
            }
        }
    }
}

/// What waits is moved out of memory when it is much, long before the journals need that; also what was there when the broker started. Who takes it has
/// all of it.
#[test]
fn memory_does_not_grow_with_what_waits() {
    let held = || MemoryHeld::on_this_thread().of(MemoryKind::Messages);
    for shards in [1, 2, 4] {
        let before = held();
        let stores = |memory| Stores::default().gathering(shards, memory);
        let mut world = with_stores(World::new(shards, config(|_| ()), || NoHooks), stores(usize::MAX));
        filled(&mut world, QoS::AtLeastOnce, FEW);
        assert_eq!(world.stores().pages(), 0, "the journals have room");
        assert!(held() - before > FEW * text(0).len());

        let mut world = with_stores(World::new(shards, config(|_| ()), || NoHooks), stores(10 * text(0).len()));
        let before = held();
        filled(&mut world, QoS::AtLeastOnce, FEW);
        assert!(world.stores().pages() > FEW / 2, "{}", world.stores().pages());
        assert!(held() - before < 20 * text(0).len(), "{}", held() - before);

        // Nothing of it is in pages when it is killed, and so all is in memory then.
        world.stores().is_archive_held = true;
        let pages = world.stores().pages();
        let mut publisher = passing(&mut world);
        for number in FEW..2 * FEW {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world).len(), 1);
        }
        assert_eq!(world.stores().pages(), pages);
        let mut world = world.restarted((Last::Lost, Duration::ZERO), shards, config(|_| ()), || NoHooks);
        assert!(world.stores().pages() > pages + FEW / 2, "{}", world.stores().pages());
        let mut absent = kept(&mut world, shards - 1, "absent");
        let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
        assert_eq!(got, (0..2 * FEW).collect::<Vec<_>>(), "on {shards} shards");
    }
}

/// When very many queues are moved out of memory, that is done in portions: nobody waits until all are.
#[test]
fn queues_are_moved_out_of_memory_in_portions() {
    const SESSIONS: usize = 24;
    let stores = Stores::default().gathering(1, SESSIONS * 20_000);
    let mut world = with_stores(World::new(1, config(|_| ()), || NoHooks), stores);
    for session in 0..SESSIONS {
        let mut absent = kept(&mut world, 0, &format!("absent-{session}-"));
        absent.subscribed(&mut world, &format!("t/{session}"), QoS::AtLeastOnce);
        world.hang_up(absent.socket);
    }
    let mut publisher = passing(&mut world);
    for session in 1..SESSIONS {
        publisher.publish(&mut world, &format!("t/{session}"), &text(session), QoS::AtLeastOnce, 1);
        assert_eq!(publisher.received(&mut world).len(), 1);
    }
    assert_eq!(world.stores().pages(), 0, "so much may be in memory");
    let text = text(0);
    let last = bytes(publisher.version, &[Packet::Publish(publish("t/0", &text, QoS::AtLeastOnce, 1))]);
    world.send_quietly(publisher.socket, &last);
    let (mut pages, mut turns) = (0, 0);
    while pages < SESSIONS {
        begin_turn(&mut world);
        world.catch_up();
        while world.carry_out_outputs() | world.work_at_the_archive() {}
        let more = world.stores().pages() - pages;
        assert!(more <= SESSIONS / 2, "{more} pages in turn {turns}");
        (pages, turns) = (pages + more, turns + 1);
        assert!(turns < 10 * SESSIONS, "{pages} pages in {turns} turns");
    }
}

/// The broker dies again and again, wherever it is, while a client takes what waits and others add to it: nothing acknowledged is lost, none of QoS 2
/// comes twice, and the order is kept.
#[test]
fn nothing_is_lost_and_nothing_comes_twice_wherever_the_broker_dies() {
    for (order, shards) in [(QueueType::Fifo, 1), (QueueType::Fifo, 2), (QueueType::Lifo, 2), (QueueType::Fifo, 4)] {
        let mut world = with_archive(shards, ordered(order), || NoHooks);
        filled(&mut world, QoS::ExactlyOnce, MANY);
        let (mut got, mut next, mut idle_rounds) = (BTreeSet::new(), MANY, 0);
        for round in 0_usize.. {
            let most = round * 7 % 60 + 1;
            // What is asked of the archive waits in some of the rounds, or amid them.
            world.stores().is_archive_held = round % 3 == 1;
            let mut absent = kept(&mut world, shards - 1, "absent");
            let before = got.len();
            let mut last_of_round = None;
            'taking: loop {
                let received = absent.received(&mut world);
                if received.is_empty() {
                    break;
                }
                for one in received {
                    let publish = match one {
                        Got::Publish(publish) => publish,
                        Got::Ack(Pubrel, id, _) => {
                            absent.ack(&mut world, Pubcomp, id);
                            continue;
                        }
                        other => panic!("{other:?}"),
                    };
                    let (number, id) = (number(publish.text()), publish.id.expect("QoS 2"));
                    assert!(got.insert(number), "{order:?}, {shards} shards, round {round}: {number} comes twice");
                    if order == QueueType::Fifo {
                        assert!(last_of_round.is_none_or(|last| last < number), "{last_of_round:?} before {number}");
                    }
                    last_of_round = Some(number);
                    absent.ack(&mut world, Pubrec, id);
                    if got.len() - before >= most {
                        break 'taking;
                    }
                }
            }
            idle_rounds = if got.len() > before { 0 } else { idle_rounds + 1 };
            if got.len() == next && round > 10 || idle_rounds > 5 {
                break;
            }
            assert!(round < 200, "{} of {next}", got.len());
            if round % 4 == 0 && round < 40 {
                let mut publisher = passing(&mut world);
                for _ in 0..30 {
                    publisher.publish(&mut world, "t", &text(next), QoS::ExactlyOnce, 1);
                    if publisher.received(&mut world) != [acked(Pubrec, 1)] {
                        break;
                    }
                    next += 1;
                    publisher.ack(&mut world, Pubrel, 1);
                    assert_eq!(publisher.received(&mut world), [acked(Pubcomp, 1)]);
                }
            }
            let ending = [Last::Lost, Last::Written, Last::Torn][round % 3];
            world = world.restarted((ending, Duration::ZERO), shards, ordered(order), || NoHooks);
        }
        let missing: Vec<_> = (0..next).filter(|number| !got.contains(number)).collect();
        assert!(missing.is_empty(), "{order:?}, {shards} shards: {missing:?} of {next}");
    }
}

/// Hooks are told of each message that a session leaves, wherever that is.
#[derive(Clone, Default)]
struct Dropped(Arc<Mutex<Vec<usize>>>);

impl Hook for Dropped {
    type State = ();

    fn on_message_drop(&mut self, _: &mut Notice<'_, ()>, message: &DroppedMessage<'_>, reason: DropReason) {
        assert_eq!(reason, DropReason::SessionEnded);
        self.0.lock().expect("nobody panicked").push(number(std::str::from_utf8(message.payload).expect("text")));
    }
}

#[test]
fn who_ends_leaves_what_is_in_the_archive_too() {
    for shards in [1, 2, 4] {
        let told = Dropped::default();
        let mut world = with_archive(shards, config(|_| ()), || NoHooks.hook(told.clone()));
        filled(&mut world, QoS::AtLeastOnce, MANY);
        assert!(world.stores().pages() > MANY / 2);
        let client = Client::on(&mut world, shards - 1, "absent", ConnectOptions::clean(V5));
        assert_eq!(*told.0.lock().expect("nobody panicked"), in_order(QueueType::Fifo, MANY), "{shards} shards");
        world.hang_up(client.socket);
        assert_eq!(world.stores().pages(), 0, "{shards} shards");
    }
}

/// A session that moves takes its pages along, and a crash then is none of its business.
#[test]
fn a_session_moves_with_its_pages() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for dies in [false, true] {
            let mut world = with_archive(2, ordered(order), || NoHooks);
            let id = id_owned_by(&world, 1, "mover");
            let (mut absent, _) = Client::connect(&mut world, 1, &id, ConnectOptions::kept(V5));
            absent.subscribed(&mut world, "t", QoS::ExactlyOnce);
            world.hang_up(absent.socket);
            let mut publisher = passing(&mut world);
            let publish = |world: &mut World<NoHooks>, publisher: &mut Client, numbers: std::ops::Range<usize>| {
                for number in numbers {
                    publisher.publish(world, "t", &text(number), QoS::ExactlyOnce, 1);
                    publisher.ack(world, Pubrel, 1);
                    assert_eq!(publisher.received(world).len(), 2, "{number}");
                }
            };
            publish(&mut world, &mut publisher, 0..300);
            for (at, to) in [0, 1, 0].into_iter().enumerate() {
                move_slot(&mut world, &id, to);
                world.settle();
                publish(&mut world, &mut publisher, 300 + at..301 + at);
            }
            let mut expected: Vec<_> = (0..303).collect();
            if dies {
                world = world.restarted((Last::Lost, Duration::ZERO), 2, ordered(order), || NoHooks);
            }
            let (mut absent, present) = Client::connect(&mut world, 0, &id, ConnectOptions::kept(V5));
            assert!(present);
            let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
            if order == QueueType::Lifo {
                expected.reverse();
            }
            assert_eq!(got, expected, "{order:?}, dies: {dies}");
            world.hang_up(absent.socket);
            assert_eq!(world.stores().pages(), 0);
        }
    }
}

/// Nothing is lost when the archive is full, and all goes on when it has room again.
#[test]
fn publishers_wait_while_the_archive_is_full() {
    for shards in [1, 2] {
        let mut world = with_archive(shards, config(|_| ()), || NoHooks);
        world.stores().desk().archive().faults.room = 1 << 20;
        let mut absent = kept(&mut world, shards - 1, "absent");
        absent.subscribed(&mut world, "t", QoS::AtLeastOnce);
        world.hang_up(absent.socket);
        let shard = last(&world);
        let mut publisher = Client::on(&mut world, shard, "publisher", ConnectOptions::clean(V5));
        let mut acked = 0;
        for number in 0..MANY {
            publisher.publish(&mut world, "t", &text(number), QoS::AtLeastOnce, number as u16 + 1);
            acked += publisher.received(&mut world).len();
        }
        assert!(acked < MANY / 2, "{acked}");
        world.stores().desk().archive().faults.room = u64::MAX;
        for _ in 0..20 {
            world.advance(Duration::from_secs(1));
            acked += publisher.received(&mut world).len();
        }
        assert_eq!(acked, MANY, "{shards} shards");
        let mut absent = kept(&mut world, shards - 1, "absent");
        let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
        assert_eq!(got, in_order(QueueType::Fifo, MANY));
    }
}

/// Whether all shards are to end, and why.
fn failures(world: &World<impl Chain>) -> Vec<String> {
    let failed = world.shards.iter().filter_map(|shard| shard.journal_wake_up().err());
    failed.map(|failure| failure.to_string()).collect()
}

/// The disk of the archive fails while a client takes what waits: that is not a page which is lost. All shards end, and the next broker has all.
#[test]
fn an_archive_that_cannot_be_read_ends_the_broker_and_loses_nothing() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for shards in [1, 2] {
            let mut world = with_archive(shards, ordered(order), || NoHooks);
            filled(&mut world, QoS::AtLeastOnce, MANY);
            let before = world.stores().pages();
            assert!(failures(&world).is_empty());
            world.stores().desk().archive().faults.reads = 3;
            let mut absent = kept(&mut world, shards - 1, "absent");
            let mut got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
            assert!((1..MANY).contains(&got.len()), "{}", got.len());
            assert_eq!(failures(&world), vec!["the archive in memory cannot be read"; shards]);
            // Whatever comes until it ends, nothing more is read, or deleted.
            world.hang_up(absent.socket);
            world.advance(Duration::from_secs(5));
            world = world.restarted((Last::Lost, Duration::ZERO), shards, ordered(order), || NoHooks);
            let pages = world.stores().pages();
            assert!(pages >= before - 3, "{pages} of {before}");
            let mut absent = kept(&mut world, shards - 1, "absent");
            got.extend(absent.drained(&mut world).iter().map(|text| number(text)));
            got.sort_unstable();
            got.dedup();
            assert_eq!(got, in_order(QueueType::Fifo, MANY), "{order:?}, {shards} shards");
        }
    }
}

/// The pages of the archive, in order.
fn pages(world: &mut World<impl Chain>) -> Vec<(StoreNumber, Key)> {
    let mut pages = Vec::new();
    let list = &mut |(key, _): Found<'_>| {
        pages.extend(if let ArchiveKey::Page(session, first) = key { Some((session, first)) } else { None });
        ControlFlow::Continue(())
    };
    world.stores().desk().archive().scan(&Span::all_pages(), list).expect("it can be read");
    pages
}

/// One page is damaged, and one is not there: their messages are lost, and no others.
#[test]
fn a_page_that_is_lost_costs_what_is_in_it() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        let mut world = with_archive(1, ordered(order), || NoHooks);
        filled(&mut world, QoS::AtLeastOnce, MANY);
        let pages = pages(&mut world);
        let archive = world.stores().desk().archive();
        let ((session, first), (other, second)) = (pages[10], pages[20]);
        archive.damage(ArchiveKey::Page(session, first));
        archive.apply(&[Change::Delete(ArchiveKey::Page(other, second).to_bytes().into())]).expect("it is applied");
        let mut absent = kept(&mut world, 0, "absent");
        let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
        let mut expected = in_order(order, MANY);
        expected.retain(|number| got.contains(number));
        assert_eq!(got, expected, "the order is kept");
        // A page has one of these messages.
        assert_eq!(got.len(), MANY - 2, "{order:?}");
        assert!(failures(&world).is_empty());
        assert_eq!(world.stores().pages(), 0);
        world.hang_up(absent.socket);
        let mut absent = kept(&mut world, 0, "absent");
        assert!(absent.drained(&mut world).is_empty());
    }
}

/// What says which messages are in a page is damaged, of some of them; of two others the page, too. A start makes it again where it can, and nothing else
/// is lost.
#[test]
fn a_damaged_summary_costs_nothing_if_the_page_is_whole() {
    for order in [QueueType::Fifo, QueueType::Lifo] {
        for shards in [1, 2] {
            let mut world = with_archive(shards, ordered(order), || NoHooks);
            filled(&mut world, QoS::ExactlyOnce, MANY);
            let pages = pages(&mut world);
            let archive = world.stores().desk().archive();
            let summary = |archive: &mut MemoryArchive, (session, first)| {
                let read = archive.read(ArchiveKey::Summary(session, first));
                let value = read.expect("it is whole").expect("it is there");
                read_summary(session, first, &value).expect("it was written as it should").keys
            };
            let before: Vec<_> = pages.iter().map(|page| summary(archive, *page)).collect();
            // The last page as well: keys that come later are above its own.
            let damaged: Vec<_> = pages.iter().rev().step_by(3).copied().collect();
            damaged.iter().for_each(|(session, first)| archive.damage(ArchiveKey::Summary(*session, *first)));
            // These are long out of the journals.
            let lost = [damaged[damaged.len() - 5], damaged[damaged.len() - 2]];
            lost.iter().for_each(|(session, first)| archive.damage(ArchiveKey::Page(*session, *first)));
            world = world.restarted((Last::Lost, Duration::ZERO), shards, ordered(order), || NoHooks);
            let told = world.stores().damaged_pages();
            let of_pages = told.iter().map(|page| ((page.pages_id, page.first), page.summary.is_none()));
            let mut expected: Vec<_> = damaged.iter().map(|page| (*page, lost.contains(page))).collect();
            expected.reverse();
            assert_eq!(of_pages.collect::<Vec<_>>(), expected);
            assert!(told.iter().all(|page| page.problem.contains("damaged")), "{told:?}");
            // All of that is whole now, or gone.
            world = world.restarted((Last::Lost, Duration::ZERO), shards, ordered(order), || NoHooks);
            assert_eq!(world.stores().damaged_pages(), []);
            for (page, before) in pages.iter().zip(before).filter(|(page, _)| !lost.contains(page)) {
                assert_eq!(summary(world.stores().desk().archive(), *page), before);
            }
            let mut publisher = passing(&mut world);
            publisher.publish(&mut world, "t", &text(MANY), QoS::AtLeastOnce, 1);
            assert_eq!(publisher.received(&mut world), [acked(Puback, 1)]);
            let mut absent = kept(&mut world, shards - 1, "absent");
            let got: Vec<_> = absent.drained(&mut world).iter().map(|text| number(text)).collect();
            let mut expected = in_order(order, MANY + 1);
            expected.retain(|number| got.contains(number));
            // A page has one of these messages.
            assert_eq!((got.len(), got), (MANY + 1 - lost.len(), expected), "{order:?}, {shards} shards");
            assert!(failures(&world).is_empty());
            assert_eq!(world.stores().pages(), 0);
        }
    }
}
