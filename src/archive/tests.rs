//! What shards want, and what becomes of it: with an archive in memory that fails and fills.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::*;
use crate::session::{Key, StoreNumber};

fn session(counter: u32) -> StoreNumber {
    StoreNumber::new(1, 0, counter)
}

fn page(counter: u32, first: u64) -> ArchiveKey<'static> {
    ArchiveKey::Page(session(counter), Key::new(first))
}

fn put(first: u64, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(page(1, first), vec![first as u8; bytes]);
    batch
}

/// A desk, and the shards before it, to which answers come at once.
struct Rig {
    desk: Desk<MemoryArchive>,
    shards: Vec<Orders>,
    answers: VecDeque<(u32, Answer)>,
}

impl Rig {
    fn new(shards: u32, limits: Limits) -> Self {
        Rig {
            desk: Desk::new(MemoryArchive::new(), shards as usize),
            shards: (0..shards).map(|shard| Orders::new(shard, limits)).collect(),
            answers: VecDeque::new(),
        }
    }

    fn write(&mut self, shard: usize, batch: Batch) -> Ticket {
        let (ticket, order) = self.shards[shard].write(batch).map_err(|(refused, _)| refused).expect("there is room");
        self.desk.take(order);
        ticket
    }

    fn read(&mut self, shard: usize, tag: u64, read: Read) {
        let order = self.shards[shard].read(tag, read).expect("there is room");
        self.desk.take(order);
    }

    fn step(&mut self) -> bool {
        let Rig { desk, shards, answers } = self;
        desk.step(&mut |shard, answer| {
            shards[shard as usize].answered(&answer);
            answers.push_back((shard, answer));
        })
    }

    fn finish(&mut self) {
        while self.step() {}
    }

    fn answers(&mut self) -> Vec<(u32, Answer)> {
        self.answers.drain(..).collect()
    }

    fn value(&mut self, key: ArchiveKey<'_>) -> Option<Bytes> {
        self.desk.archive().read(key).expect("it can be read")
    }
}

#[test]
fn one_persist_is_for_all_that_came_and_each_shard_is_told() {
    let mut rig = Rig::new(2, Limits::default());
    rig.desk.archive().faults.persists = 1;
    let first = rig.write(0, put(1, 10));
    let second = rig.write(0, put(2, 10));
    let other = rig.write(1, put(3, 10));
    assert!(first < second && rig.shards[0].oldest() == Some(first));
    rig.finish();
    assert_eq!(rig.answers(), [(0, Answer::Persisted(second)), (1, Answer::Persisted(other))]);
    assert_eq!((rig.shards[0].bytes(), rig.shards[0].oldest()), (0, None));
    rig.desk.archive().crash(0);
    for first in 1..=3 {
        assert_eq!(rig.value(page(1, first)).as_deref(), Some(&[first as u8; 10][..]));
    }
}

#[test]
fn an_empty_batch_is_answered_too() {
    let mut rig = Rig::new(1, Limits::default());
    let ticket = rig.write(0, Batch::new());
    rig.finish();
    assert_eq!(rig.answers(), [(0, Answer::Persisted(ticket))]);
}

#[test]
fn what_was_gathered_is_persisted_before_more_is_changed() {
    let limits = Limits { bytes: 64 << 20, ..Limits::default() };
    let mut rig = Rig::new(1, limits);
    let tickets: Vec<Ticket> = (0..10).map(|first| rig.write(0, put(first, 1 << 20))).collect();
    rig.finish();
    let persisted: Vec<Ticket> = rig
        .answers()
        .into_iter()
        .map(|(_, answer)| match answer {
            Answer::Persisted(ticket) => ticket,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(persisted, [tickets[3], tickets[7], tickets[9]], "each {GATHERED_BYTES} bytes");
}

#[test]
fn a_read_does_not_wait_for_a_batch() {
    let mut rig = Rig::new(2, Limits { bytes: 64 << 20, ..Limits::default() });
    rig.write(0, put(7, 5));
    rig.finish();
    rig.answers();
    let mut batch = Batch::new();
    for first in 100..300 {
        batch.put(page(2, first), vec![1; PAGE_BYTES]);
    }
    batch.delete_session(session(2));
    let last = rig.write(0, batch);
    let mut steps = 0;
    loop {
        // It is answered by the next step, whenever it comes.
        rig.read(1, steps, Read::of(page(1, 7)));
        assert!(rig.step());
        let expected = Ok(Some((page(1, 7).to_bytes().into(), Bytes::from_static(&[7; 5]))));
        assert_eq!(rig.answers(), [(1, Answer::Read { tag: steps, result: expected })]);
        steps += 1;
        if !rig.step() {
            break;
        }
        let told: Vec<Answer> = rig.answers().into_iter().map(|(_, answer)| answer).collect();
        assert!(told.is_empty() || told == [Answer::Persisted(last)], "{told:?}");
    }
    assert!(steps as usize > 200 * PAGE_BYTES / STEP_BYTES, "only {steps} steps");
}

#[test]
fn a_long_span_is_deleted_in_pieces() {
    let mut rig = Rig::new(1, Limits { batches: 1000, ..Limits::default() });
    let mut batch = Batch::new();
    for first in 0..1000 {
        batch.put_page(session(1), Key::new(first), vec![1], vec![2]);
    }
    batch.put(ArchiveKey::Session(session(1)), vec![3]);
    batch.put(ArchiveKey::Session(session(2)), vec![4]);
    rig.write(0, batch);
    rig.finish();
    rig.answers();
    let mut batch = Batch::new();
    batch.delete_session(session(1));
    rig.write(0, batch);
    let mut most = 0;
    while rig.step() {
        let changes = rig.desk.archive().unpersisted();
        assert!(changes <= most + STEP_KEYS, "{changes} after {most}");
        most = changes;
    }
    let mut left = Vec::new();
    rig.desk
        .archive()
        .scan(&Span::sessions(), &mut |(key, _)| {
            left.push(key.to_bytes());
            std::ops::ControlFlow::Continue(())
        })
        .expect("it can be read");
    assert_eq!(left, [ArchiveKey::Session(session(2)).to_bytes()]);
    assert_eq!(rig.desk.archive().bytes_on_disk(), 10 + 1);
}

#[test]
fn so_much_of_a_shard_may_be_under_way() {
    let limits = Limits { bytes: 1000, batches: 3, reads: 2 };
    let mut rig = Rig::new(2, limits);
    assert_eq!(rig.shards[0].write(put(1, 1000)).expect_err("it is too large").0, Refused::TooLarge);
    rig.write(0, put(1, 500));
    let (refused, back) = rig.shards[0].write(put(2, 500)).expect_err("too many bytes");
    assert_eq!((refused, &back), (Refused::Busy, &put(2, 500)));
    rig.write(0, put(2, 10));
    rig.write(0, put(3, 10));
    assert_eq!(rig.shards[0].write(put(4, 10)).expect_err("too many batches").0, Refused::Busy);
    // What others have under way does not matter.
    rig.write(1, put(5, 500));
    for tag in 0..2 {
        rig.read(0, tag, Read::of(page(1, 1)));
    }
    assert_eq!(rig.shards[0].read(2, Read::of(page(1, 1))).map(drop), Err(Refused::Busy));
    rig.finish();
    rig.write(0, back);
    rig.read(0, 3, Read::First(Span::pages(session(1))));
    rig.finish();
    assert_eq!(rig.answers().len(), 2 + 2 + 1 + 1);
}

#[test]
fn the_first_of_a_span_is_found() {
    let mut rig = Rig::new(1, Limits::default());
    for first in [10, 20] {
        rig.write(0, put(first, 3));
    }
    rig.finish();
    rig.answers();
    let (own, other) = (session(1), session(2));
    for (tag, (span, first)) in
        [(Span::pages(own), Some(10)), (Span::pages_from(own, Key::new(11)), Some(20)), (Span::pages(other), None)]
            .into_iter()
            .enumerate()
    {
        rig.read(0, tag as u64, Read::First(span));
        rig.finish();
        let found = first.map(|first| (page(1, first).to_bytes().into(), Bytes::from(vec![first as u8; 3])));
        assert_eq!(rig.answers(), [(0, Answer::Read { tag: tag as u64, result: Ok(found) })]);
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_with_what_follows_it_until_the_shard_goes_on() {
    let mut rig = Rig::new(2, Limits::default());
    rig.desk.archive().faults.room = 1000;
    let small = rig.write(0, put(1, 100));
    let large = rig.write(0, put(2, 2000));
    rig.write(0, put(3, 100));
    let mut delete = Batch::new();
    delete.delete(page(1, 1));
    rig.write(0, delete.clone());
    let other = rig.write(1, put(4, 100));
    rig.finish();
    let answers = rig.answers();
    let [(0, Answer::Refused { from, error }), persisted @ ..] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((*from, error.trouble), (large, Trouble::Full));
    assert_eq!(persisted, [(0, Answer::Persisted(small)), (1, Answer::Persisted(other))]);
    assert_eq!(rig.value(page(1, 3)), None);
    assert!(rig.value(page(1, 1)).is_some(), "what came after it has to wait");
    assert_eq!(rig.shards[0].bytes(), 0);
    assert_eq!(rig.shards[0].write(delete.clone()).expect_err("it has not gone on").0, Refused::Full);
    rig.shards[0].go_on();
    // Deleting needs no room.
    rig.desk.archive().faults.room = 0;
    let deleted = rig.write(0, delete);
    rig.finish();
    assert_eq!(rig.answers(), [(0, Answer::Persisted(deleted))]);
    rig.write(0, put(2, 1));
    rig.finish();
    assert!(matches!(&rig.answers()[..], [(0, Answer::Refused { .. })]));
}

#[test]
fn batches_that_were_sent_before_a_refusal_was_known_are_dropped_after_going_on() {
    let mut rig = Rig::new(1, Limits::default());
    rig.desk.archive().faults.room = 1000;
    let mut orders = Vec::new();
    for (first, bytes) in [(1, 2000), (2, 10)] {
        orders.push(rig.shards[0].write(put(first, bytes)).expect("there is room").1);
    }
    let late = orders.pop().expect("two");
    rig.desk.take(orders.pop().expect("one"));
    rig.finish();
    rig.shards[0].go_on();
    rig.desk.take(late);
    let again = rig.write(0, put(1, 20));
    rig.finish();
    assert!(
        matches!(&rig.answers()[..], [(_, Answer::Refused { .. }), (_, Answer::Persisted(ticket))] if *ticket == again)
    );
    assert_eq!(rig.value(page(1, 2)), None);
    assert_eq!(rig.value(page(1, 1)).map(|value| value.len()), Some(20));
}

#[test]
fn after_a_failed_persist_nothing_is_persisted_any_more() {
    for fault in [Faults { persists: 1, ..Faults::default() }, Faults { changes: 1, ..Faults::default() }] {
        let mut rig = Rig::new(2, Limits::default());
        rig.desk.archive().faults = fault;
        let first = rig.write(0, put(1, 10));
        rig.finish();
        rig.write(0, put(2, 10));
        rig.write(1, put(3, 10));
        rig.finish();
        let answers = rig.answers();
        let [(0, Answer::Persisted(persisted)), (0, Answer::Failed(_)), (1, Answer::Failed(_))] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!(*persisted, first);
        for shard in 0..2 {
            assert_eq!(rig.shards[shard].write(put(4, 1)).expect_err("it has failed").0, Refused::Failed);
            rig.shards[shard].go_on();
            assert_eq!(rig.shards[shard].write(put(4, 1)).expect_err("it has failed").0, Refused::Failed);
        }
        // Reading goes on.
        rig.read(1, 9, Read::of(page(1, 1)));
        rig.finish();
        assert!(matches!(&rig.answers()[..], [(1, Answer::Read { tag: 9, result: Ok(Some(_)) })]));
        rig.desk.archive().crash(0);
        assert_eq!(rig.value(page(1, 2)), None);
        assert!(rig.value(page(1, 1)).is_some());
    }
}

/// What cannot be read is there, perhaps: so nobody is to go on as if it was not. What is only damaged is another matter.
#[test]
fn after_a_failed_read_nothing_is_persisted_any_more() {
    let mut rig = Rig::new(2, Limits::default());
    rig.write(0, put(1, 10));
    rig.write(0, put(2, 10));
    rig.finish();
    rig.answers();
    rig.desk.archive().damage(page(1, 2));
    rig.read(1, 1, Read::of(page(1, 2)));
    rig.finish();
    let answers = rig.answers();
    assert!(
        matches!(&answers[..], [(1, Answer::Read { result: Err(error), .. })] if error.trouble == Trouble::Lost),
        "{answers:?}"
    );
    rig.desk.archive().faults.reads = 0;
    rig.write(0, put(3, 10));
    for tag in 2..4 {
        rig.read(1, tag, Read::of(page(1, 1)));
    }
    rig.finish();
    let answers = rig.answers();
    let [(1, Answer::Read { .. }), (0, Answer::Failed(_)), (1, Answer::Failed(error)), (1, Answer::Read { .. })] =
        &answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!(error.trouble, Trouble::Failed);
    for shard in &mut rig.shards {
        assert_eq!(shard.write(put(4, 1)).expect_err("it has failed").0, Refused::Failed);
    }
    rig.desk.archive().crash(0);
    assert!(rig.value(page(1, 1)).is_some() && rig.value(page(1, 3)).is_none());
}

#[test]
fn a_damaged_value_is_told_and_ends_nothing() {
    let mut archive = MemoryArchive::new();
    let mut batch = Batch::new();
    for first in 0..3 {
        batch.put(page(1, first), vec![1]);
    }
    archive.apply(batch.changes()).expect("it is applied");
    archive.damage(page(1, 1));
    assert_eq!(archive.read(page(1, 1)).expect_err("it is damaged").trouble, Trouble::Lost);
    let mut seen = Vec::new();
    let mut each = |(_, value): Found<'_>| {
        seen.push(value.is_ok());
        std::ops::ControlFlow::Continue(())
    };
    archive.scan(&Span::all_pages(), &mut each).expect("it can be read");
    assert_eq!(seen, [true, false, true]);
    archive.faults.reads = 0;
    assert_eq!(archive.read(page(1, 0)).expect_err("it cannot be").trouble, Trouble::Failed);
}

/// Random batches of several shards; crashes with any part of what was not persisted.
#[test]
fn what_was_told_as_persisted_is_there_after_any_crash() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut rig = Rig::new(3, Limits { bytes: 20_000, ..Limits::default() });
        // By shard, which has keys of its own: what it has written, and what of that was told to be persisted.
        let mut written: Vec<Vec<(Ticket, u64, Option<u8>)>> = vec![Vec::new(); 3];
        let mut persisted = [Ticket(0); 3];
        for _ in 0..300 {
            let shard = random.usize(..3);
            let (first, value) = (random.u64(..20), random.bool().then(|| random.u8(..)));
            let key = page(shard as u32, first);
            let mut batch = Batch::new();
            match value {
                Some(value) => batch.put(key, vec![value; random.usize(1..4000)]),
                None => batch.delete(key),
            }
            if let Ok((ticket, order)) = rig.shards[shard].write(batch) {
                rig.desk.take(order);
                written[shard].push((ticket, first, value));
            }
            for _ in 0..random.usize(..4) {
                rig.step();
            }
            for (shard, answer) in rig.answers() {
                let Answer::Persisted(ticket) = answer else { panic!("{answer:?}") };
                assert!(ticket > persisted[shard as usize]);
                persisted[shard as usize] = ticket;
            }
        }
        let unpersisted = rig.desk.archive().unpersisted();
        rig.desk.archive().crash(random.usize(..=unpersisted));
        for (shard, written) in written.iter().enumerate() {
            let mut sure: BTreeMap<u64, Option<u8>> = BTreeMap::new();
            let mut perhaps: BTreeMap<u64, Vec<Option<u8>>> = BTreeMap::new();
            for (ticket, first, value) in written {
                match *ticket <= persisted[shard] {
                    true => drop(sure.insert(*first, *value)),
                    false => perhaps.entry(*first).or_default().push(*value),
                }
            }
            for first in 0..20 {
                let value = rig.value(page(shard as u32, first)).map(|value| value[0]);
                let is_sure = sure.get(&first).copied().flatten() == value;
                let is_later = perhaps.get(&first).is_some_and(|later| later.contains(&value));
                assert!(is_sure || is_later, "seed {seed}: {first} of {shard} has {value:?}");
            }
        }
    }
}

#[test]
fn a_page_goes_with_its_summary() {
    let mut archive = MemoryArchive::new();
    let mut batch = Batch::new();
    batch.put_page(session(1), Key::new(5), vec![1], vec![2; 100]);
    archive.apply(batch.changes()).expect("it is applied");
    assert_eq!(
        archive.read(ArchiveKey::Summary(session(1), Key::new(5))).expect("it can be read").as_deref(),
        Some(&[1][..])
    );
    let mut batch = Batch::new();
    batch.delete_page(session(1), Key::new(5));
    archive.apply(batch.changes()).expect("it is applied");
    assert_eq!(archive.bytes_on_disk(), 0);
}

/// What is persisted in the middle of a batch has no summary without its page; and of what is being deleted no page without its summary.
#[test]
fn a_summary_is_there_after_its_page_and_goes_after_it() {
    let mut rig = Rig::new(1, Limits { bytes: 64 << 20, ..Limits::default() });
    let keys = |rig: &mut Rig, span: Span| {
        let mut keys = Vec::new();
        let mut each = |(key, _): Found<'_>| {
            if let ArchiveKey::Page(_, first) | ArchiveKey::Summary(_, first) = key {
                keys.push(first);
            }
            std::ops::ControlFlow::Continue(())
        };
        rig.desk.archive().scan(&span, &mut each).expect("it can be read");
        keys
    };
    let (mut put, mut delete) = (Batch::new(), Batch::new());
    for first in (0..200).map(Key::new) {
        put.put_page(session(1), first, vec![1; 60], vec![2; PAGE_BYTES]);
        delete.delete_page(session(1), first);
    }
    let mut steps = 0;
    for (batch, is_put) in [(put, true), (delete, false)] {
        rig.write(0, batch);
        while rig.step() {
            let (pages, summaries) = (keys(&mut rig, Span::all_pages()), keys(&mut rig, Span::sessions()));
            let (first, then) = if is_put { (&pages, &summaries) } else { (&summaries, &pages) };
            assert!(then.iter().all(|key| first.contains(key)), "put: {is_put}");
            steps += 1;
        }
    }
    assert!(steps > 200 * PAGE_BYTES / STEP_BYTES, "only {steps} steps");
    assert!(keys(&mut rig, Span::sessions()).is_empty());
}

#[test]
fn a_crash_takes_changes_back_from_the_last_one_on() {
    for (kept, expected) in [(0, Some(1)), (1, Some(2)), (2, None), (3, Some(3)), (9, Some(3))] {
        let mut archive = MemoryArchive::new();
        let change = |archive: &mut MemoryArchive, value: Option<u8>| {
            let mut batch = Batch::new();
            match value {
                Some(value) => batch.put(page(1, 1), vec![value]),
                None => batch.delete(page(1, 1)),
            }
            archive.apply(batch.changes()).expect("it is applied");
        };
        change(&mut archive, Some(1));
        archive.persist().expect("it is persisted");
        [Some(2), None, Some(3)].into_iter().for_each(|value| change(&mut archive, value));
        archive.crash(kept);
        let found = archive.read(page(1, 1)).expect("it can be read").map(|value| value[0]);
        assert_eq!(found, expected, "{kept} kept");
        assert_eq!(archive.bytes_on_disk(), if found.is_some() { 16 } else { 0 });
    }
}

/// A batch may be persisted when it is made in part: a copy is made then, or much was changed.
#[test]
fn a_page_and_its_summary_are_persisted_together() {
    for size in [10_000, STEP_BYTES - 200, STEP_BYTES - 64, STEP_BYTES] {
        let mut desk = Desk::new(MemoryArchive::new(), 1);
        let mut orders = Orders::new(0, Limits { bytes: 64 << 20, ..Limits::default() });
        let (mut put, mut deleted) = (Batch::new(), Batch::new());
        let keys = if size > 100_000 { 8 } else { 400 };
        for first in 0..keys {
            put.put_page(session(1), Key::new(first), vec![1; 20], vec![2; size]);
            deleted.delete_page(session(1), Key::new(first));
        }
        for batch in [put, deleted] {
            let (_, order) = orders.write(batch).expect("there is room");
            desk.take(order);
            let mut answers = Vec::new();
            while desk.step(&mut |_, answer| answers.push(answer)) {
                answers.iter().for_each(|answer| orders.answered(answer));
                answers.clear();
                desk.hold(&mut |_, _| ()).expect("it is persisted");
                let mut snapshot = desk.archive().snapshot().expect("it can be read");
                desk.go_on();
                for first in (0..keys).map(Key::new) {
                    let has = |archive: &mut MemoryArchive, key| archive.read(key).expect("it can be read").is_some();
                    let summary = has(&mut snapshot, ArchiveKey::Summary(session(1), first));
                    assert_eq!(summary, has(&mut snapshot, ArchiveKey::Page(session(1), first)), "{size}: {first:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_written_while_it_is_held_and_all_is_read() {
    let mut desk = Desk::new(MemoryArchive::new(), 1);
    let mut orders = Orders::new(0, Limits::default());
    let mut given = |desk: &mut Desk<MemoryArchive>, value: u8| {
        let mut batch = Batch::new();
        batch.put(page(1, 1), vec![value]);
        let (ticket, order) = orders.write(batch).expect("there is room");
        desk.take(order);
        ticket
    };
    let first = given(&mut desk, 1);
    assert!(desk.step(&mut |_, _| panic!("it is not persisted")));
    let mut answers = Vec::new();
    desk.hold(&mut |_, answer| answers.push(answer)).expect("it is persisted");
    assert_eq!(answers, [Answer::Persisted(first)]);
    let second = given(&mut desk, 2);
    assert!(!desk.wants_batch() && !desk.step(&mut |_, _| panic!("there is no answer")));
    desk.take(orders_read());
    let mut read = Vec::new();
    assert!(desk.step(&mut |_, answer| read.push(answer)));
    assert!(matches!(&read[..], [Answer::Read { result: Ok(Some((_, value))), .. }] if value[..] == [1]), "{read:?}");
    desk.go_on();
    let mut answers = Vec::new();
    while desk.step(&mut |_, answer| answers.push(answer)) {}
    assert_eq!(answers, [Answer::Persisted(second)]);
}

fn orders_read() -> Order {
    Orders::new(0, Limits::default()).read(7, Read::of(page(1, 1))).expect("there is room")
}
