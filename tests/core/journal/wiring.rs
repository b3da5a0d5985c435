//! What whoever wires a journal relies on: answers in any order, marks that only grow, what is archived up to where, and what it all cost.

use std::io;
use std::time::Duration;

use moormq::journal::{
    BEGUN_AGAIN_AFTER, Class, Effect, FileId, Floor, Identity, Journal, MOST_ATTEMPTS, Mark, OpenError, Reader,
    Recovered, Refused, Settings, Sync, What, Write,
};
use moormq::random::Random;

use super::rig::{Crash, Rig, opened, read, small};
use crate::store::disk::Disk;

fn settled(sync: Sync) -> Rig {
    let mut rig = Rig::new(small(sync), 7);
    rig.settle();
    rig
}

/// A record whose write was given out.
fn written(journal: &mut Journal, now: Duration) -> (Mark, Write) {
    let mark = journal.append(Class::Ordinary, 1, &[b"a record"]).expect("there is room");
    let Some(Effect::Write(write)) = journal.next_effect(now) else { panic!("it is to be written") };
    (mark, write)
}

#[test]
fn a_write_that_the_system_does_not_begin_is_begun_again_so_often_and_so_far_apart() {
    for sync in [Sync::Dsync, Sync::Linked, Sync::Never] {
        for kind in [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock] {
            let mut journal = settled(sync).journal;
            let mut now = Duration::from_secs(1);
            let (mark, mut write) = written(&mut journal, now);
            let first = (write.file, write.offset, write.data().to_vec());
            now += small(sync).commit_interval;
            for attempt in 1..MOST_ATTEMPTS {
                assert!(journal.written(write.buffer, Err(kind.into())));
                if sync == Sync::Linked {
                    assert!(journal.next_effect(now).is_none() && journal.wake_up().is_none(), "a sync is on its way");
                    assert!(journal.synced(Err(io::Error::other("canceled"))), "it has ended, too");
                }
                assert!(journal.failure().is_none() && !journal.is_settled() && journal.flushed() < mark);
                let Some(Effect::Write(again)) = journal.next_effect(now) else { panic!("once more: {attempt}") };
                assert_eq!((again.file, again.offset, again.data().to_vec()), first);
                assert!(journal.next_effect(now).is_none());
                write = again;
                now += BEGUN_AGAIN_AFTER;
            }
            assert_eq!(journal.counters().begun_again, u64::from(MOST_ATTEMPTS) - 1);
            let mut last = Some(write);
            // The last attempt is as good as the first.
            if kind == io::ErrorKind::Interrupted {
                let Write { buffer, bytes, .. } = last.take().expect("one");
                assert!(journal.written(buffer, Ok(bytes)));
                assert_eq!(journal.synced(Ok(())), sync == Sync::Linked);
                assert!(journal.flushed() == mark && journal.is_settled());
            } else {
                assert!(journal.written(last.take().expect("one").buffer, Err(kind.into())));
                assert!(journal.failure().is_some() && journal.next_effect(Duration::from_secs(99)).is_none());
            }
        }
    }
}

#[test]
fn a_write_that_is_begun_again_waits_for_that() {
    let mut journal = settled(Sync::Dsync).journal;
    let now = Duration::from_secs(1);
    let (_, first) = written(&mut journal, now);
    journal.written(first.buffer, Err(io::ErrorKind::WouldBlock.into()));
    let mut next = now + small(Sync::Dsync).commit_interval;
    for _ in 0..3 {
        assert_eq!(journal.wake_up(), Some(next));
        assert!(journal.next_effect(next - Duration::from_nanos(1)).is_none());
        let Some(Effect::Write(again)) = journal.next_effect(next) else { panic!("once more") };
        assert_eq!(journal.wake_up(), None);
        journal.written(again.buffer, Err(io::ErrorKind::WouldBlock.into()));
        next += BEGUN_AGAIN_AFTER;
    }
}

#[test]
fn answers_that_do_not_belong_to_what_is_under_way_are_refused() {
    let (mut journal, mut other) = (settled(Sync::Linked).journal, settled(Sync::Linked).journal);
    let now = Duration::from_secs(1);
    assert!(!journal.synced(Ok(())), "nothing is being synced");
    let (mark, write) = written(&mut journal, now);
    let (others, foreign) = written(&mut other, now);
    // The buffer of another journal, which waits for its own as before.
    let bytes = foreign.bytes;
    assert!(!journal.written(foreign.buffer, Ok(bytes)));
    assert!(journal.flushed() < mark && journal.failure().is_none());
    assert!(!other.is_settled() && other.flushed() < others);
    // The sync first, and once.
    assert!(journal.synced(Ok(())) && !journal.synced(Ok(())));
    assert!(journal.flushed() < mark && journal.fsynced() < mark, "it does not count before the write");
    assert!(journal.written(write.buffer, Ok(write.bytes)));
    assert_eq!((journal.flushed(), journal.fsynced()), (mark, mark));
    assert!(!journal.prepared(FileId(77), Ok(()), now), "another file");
    // A sync that failed, and is there first, ends the journal when the write is there.
    let (next, write) = written(&mut journal, now + Duration::from_secs(1));
    assert!(journal.synced(Err(io::Error::other("the disk is gone"))) && journal.failure().is_none());
    assert!(journal.written(write.buffer, Ok(write.bytes)));
    assert!(journal.failure().is_some() && journal.fsynced() == mark && journal.flushed() == next);
    assert!(!journal.synced(Ok(())));
}

#[test]
fn what_is_recovered_goes_with_its_own_identity_alone() {
    let rig = settled(Sync::Dsync);
    let Identity { store, shard } = rig.settings.identity;
    let recovered = || Reader::new(rig.settings.identity, rig.disk.open()).finish().0;
    let other = Settings { identity: Identity { store, shard: shard + 1 }, ..rig.settings };
    let new =
        |settings: Settings, recovered| Journal::new(settings.check().expect("they hold"), recovered, 0).map(drop);
    assert_eq!(new(other, recovered()), Err(OpenError::OtherIdentity(rig.settings.identity)));
    assert_eq!(new(rig.settings, recovered()), Ok(()));
    assert_eq!(new(other, Recovered::nothing()), Ok(()), "there was no journal");
    let told = OpenError::OtherIdentity(rig.settings.identity).to_string();
    assert!(told.contains("shard 2 of store 0909"), "{told}");
}

#[test]
fn marks_and_generations_grow_though_all_files_are_lost() {
    let mut rig = settled(Sync::Dsync);
    let (mut last, mut floor) = (Mark::default(), Floor::default());
    for _ in 0..4 {
        let mark = rig.append(Class::Ordinary, 10).expect("there is room");
        rig.settle();
        assert!(mark > last && rig.journal.fsynced() == mark);
        assert!(rig.journal.floor().number > floor.number && rig.journal.floor().generation > floor.generation);
        (last, floor) = (mark, rig.journal.floor());
        rig.disk = Disk::default();
        rig.history.clear();
        let (_, recovered, findings) = read(&rig.settings, rig.disk.open());
        assert!(findings.is_empty() && recovered.generation() == 0, "that is for who knows the floor to tell");
        rig.journal = opened(rig.settings, recovered.above(floor));
        assert!(rig.journal.fsynced() >= last && rig.journal.flushed() >= last, "as the marks do");
        rig.settle();
    }
    // With the files the floor changes nothing, whatever of the two is higher.
    let before = rig.append(Class::Ordinary, 10).expect("there is room");
    rig.settle();
    rig.crash(Crash::PowerLost);
    let (_, recovered, _) = read(&rig.settings, rig.disk.open());
    assert!(recovered.generation() > 0);
    rig.journal = opened(rig.settings, recovered.above(floor).above(Floor::default()));
    rig.settle();
    assert!(rig.append(Class::Ordinary, 10).is_ok_and(|mark| mark > before));
}

#[test]
fn numbers_end_before_they_are_too_great_for_a_header() {
    for floor in [Floor { generation: u64::MAX, number: 0 }, Floor { generation: 0, number: u64::MAX }] {
        let settings = small(Sync::Dsync).check().expect("they hold");
        let new = Journal::new(settings, Recovered::nothing().above(floor), 0);
        assert_eq!(new.map(drop), Err(OpenError::NoNumbers));
    }
}

#[test]
fn a_sealed_journal_is_archived_whole_and_goes_on() {
    for sync in [Sync::Dsync, Sync::Linked, Sync::Never] {
        let mut rig = settled(sync);
        rig.journal.seal();
        assert_eq!(rig.journal.oldest(), None, "there is nothing");
        let first = rig.append(Class::Ordinary, 100).expect("there is room");
        rig.settle();
        let last = rig.append(Class::Ordinary, 100).expect("there is room");
        assert_eq!(rig.journal.oldest(), None, "there is much room");
        rig.journal.seal();
        assert_eq!(rig.journal.oldest(), None, "it is not written");
        rig.settle();
        let oldest = rig.journal.oldest().expect("it is wanted");
        assert_eq!((oldest.from, oldest.to), (first, last));
        assert_eq!(rig.journal.generation_of(first), Some(oldest.generation));
        // What is appended meanwhile is in another segment, and not wanted.
        let next = rig.append(Class::Ordinary, 100).expect("there is room");
        rig.settle();
        assert!(rig.journal.generation_of(next) > Some(oldest.generation));
        assert!(rig.archive());
        assert_eq!((rig.journal.oldest(), rig.journal.generation_of(first)), (None, None));
        rig.settle();
        rig.crash(Crash::Killed);
        rig.recover(Crash::Killed);
        assert_eq!(rig.history.iter().map(|entry| entry.mark).collect::<Vec<_>>(), [next]);
    }
}

#[test]
fn an_opening_that_finds_nothing_archived_takes_relief() {
    let mut rig = Rig::new(small(Sync::Dsync), 3);
    // The archive does not work, and the broker ends again and again. There is always room for what would make some.
    for start in 0..12 {
        rig.settle();
        assert!(rig.append(Class::Relief, 100).is_ok(), "{start}");
        let found = rig.journal.fullness().live - 1;
        assert_eq!(rig.append(Class::Ordinary, 100).is_ok(), found + 1 < rig.settings.segments as usize);
        rig.settle();
        rig.crash(Crash::PowerLost);
        rig.recover(Crash::PowerLost);
    }
    assert_eq!(rig.disk.files.len(), 12, "one of each start");
    // It works again.
    rig.settle_and_archive();
    assert!(rig.append(Class::Ordinary, 100).is_ok());
    for _ in 0..30 {
        rig.append(Class::Ordinary, 3000).expect("there is room");
        rig.settle_and_archive();
    }
    assert_eq!(rig.disk.files.len(), 4);
}

#[test]
fn what_it_cost_is_counted() {
    for sync in [Sync::Dsync, Sync::Linked, Sync::Never] {
        let mut rig = settled(sync);
        assert_eq!((rig.journal.counters().segments, rig.journal.counters().last), (4, None));
        rig.now = Duration::from_secs(3);
        let marks = [100, 200].map(|length| rig.append(Class::Ordinary, length).expect("there is room"));
        rig.take_effects();
        assert_eq!(rig.journal.counters().commits, 0, "it has not ended");
        rig.settle();
        rig.now += Duration::from_secs(1);
        let mark = rig.append(Class::Ordinary, 5000).expect("there is room");
        rig.settle();
        let counters = rig.journal.counters();
        let bodies = 1 + 1 + 100 + 1 + 2 + 200;
        assert_eq!((counters.commits, counters.records, counters.record_bytes), (2, 3, bodies + 1 + 2 + 5000));
        assert_eq!((counters.written_bytes, counters.begun_again), (4096 + 8192, 0));
        let last = counters.last.expect("there are two");
        assert_eq!((last.mark, last.records, last.record_bytes, last.written_bytes), (mark, 1, 5003, 8192));
        assert_eq!(last.begun, Duration::from_secs(4));
        assert!(marks[0] == marks[1] && mark > marks[1]);
    }
}

/// Pages whose sync has failed are read from the cache as they were written, and no further sync writes them: see `Reader`.
#[test]
fn what_a_failed_sync_was_for_is_not_to_be_read_from_the_cache() {
    let fail = |seed| {
        let mut rig = settled(Sync::Linked);
        rig.random = Random::from_seed(seed);
        let kept = rig.append(Class::Ordinary, 100).expect("there is room");
        rig.settle();
        let lost = rig.append(Class::Ordinary, 2000).expect("there is room");
        rig.now += rig.settings.commit_interval;
        rig.take_effects();
        while rig.journal.flushed() < lost {
            rig.go_on();
        }
        (rig, kept, lost)
    };
    let mut tries = 0;
    let (mut rig, kept, lost) = loop {
        tries += 1;
        assert!(tries < 99, "its sync is sometimes still on its way");
        let (mut rig, kept, lost) = fail(tries);
        rig.fail_commit();
        // Any sector may be on the device all the same.
        let is_lost = |disk: &Disk| {
            let mut disk = disk.clone();
            disk.sync_and_forget();
            read(&rig.settings, disk.open()).0.last().map(|last| last.0) == Some(kept)
        };
        if rig.journal.failure().is_some() && is_lost(&rig.disk) {
            break (rig, kept, lost);
        }
    };
    // Who reads the cache has it, syncs it in vain, and has acknowledged what the next loss of power takes.
    let (records, ..) = read(&rig.settings, rig.disk.open());
    assert_eq!(records.last().map(|last| last.0), Some(lost));
    let mut disk: Disk = rig.disk.clone();
    disk.files.keys().copied().collect::<Vec<_>>().into_iter().for_each(|file| disk.sync(file));
    disk.lose_power(&mut rig.random);
    assert_eq!(read(&rig.settings, disk.open()).0.last().map(|last| last.0), Some(kept));
    // Who does as he is told has lost it at once, and nothing after.
    rig.crash(Crash::Killed);
    rig.recover(Crash::Killed);
    assert_eq!(rig.history.last().map(|last| last.mark), Some(kept));
    rig.settle();
    let next = rig.append(Class::Ordinary, 100).expect("there is room");
    rig.settle();
    rig.crash(Crash::PowerLost);
    rig.recover(Crash::PowerLost);
    assert_eq!(rig.history.iter().map(|entry| entry.mark).collect::<Vec<_>>(), [kept, next]);
}

#[test]
fn a_file_of_which_the_header_alone_cannot_be_read_is_set_aside() {
    let mut rig = settled(Sync::Dsync);
    for _ in 0..16 {
        rig.append(Class::Ordinary, 3000).expect("there is room");
        rig.settle();
    }
    let file = rig.history[0].frame.expect("it was written").0;
    let bytes = rig.disk.files[&file].bytes.clone();
    rig.disk.files.get_mut(&file).expect("it is there").unreadable.insert(0);
    let history = rig.history.clone();
    let findings = rig.start_over(&history);
    assert!(matches!(findings[0].what, What::Unreadable { offset: 0, .. }) && findings.len() == 2, "{findings:?}");
    assert_eq!(rig.history.len(), history.len(), "all is read");
    for _ in 0..40 {
        rig.settle_and_archive();
        rig.append(Class::Ordinary, 3000).expect("there is room");
    }
    assert!(matches!(&rig.aside[..], [(aside, kept)] if *aside == file && kept.bytes == bytes));
    assert!(!rig.disk.files.contains_key(&file));
}

#[test]
fn files_that_are_left_alone_are_counted_and_what_is_too_long_is_cut() {
    let mut rig = settled(Sync::Dsync);
    rig.append(Class::Ordinary, 100).expect("there is room");
    rig.settle();
    let mut disk = rig.disk.clone();
    let file = rig.history[0].frame.expect("it was written").0;
    let whole = disk.files[&file].bytes.clone();
    // Somebody has appended the same segment once more.
    disk.write(file, whole.len() as u64, &whole);
    disk.write(FileId(50), 0, &[3; 9000]);
    let (records, recovered, findings) = read(&rig.settings, disk.open());
    assert_eq!((records.len(), recovered.left_alone()), (1, &[FileId(50)][..]));
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|told| told.ends_with("the file has 81920 bytes instead of 40960")), "{told:?}");
    assert!(findings.iter().any(|finding| finding.file == Some(file) && !finding.is_loss()));
    // It goes, since it is not as it should be; the other one stays.
    let mut journal = opened(rig.settings, recovered);
    let mut removed = Vec::new();
    let mut now = Duration::ZERO;
    for _ in 0..200 {
        let _ = journal.append(Class::Ordinary, 1, &[&[1; 3000]]);
        now += Duration::from_secs(1);
        while let Some(effect) = journal.next_effect(now) {
            match effect {
                Effect::Write(write) => drop(journal.written(write.buffer, Ok(write.bytes))),
                Effect::Prepare(preparation) => drop(journal.prepared(preparation.file, Ok(()), now)),
                Effect::Remove { file } => removed.push(file),
                Effect::SetAside { file } => panic!("{file:?} is whole"),
            }
        }
        if let Some(oldest) = journal.oldest() {
            assert!(journal.release(oldest));
        }
    }
    assert_eq!(removed, [file]);
}

#[test]
fn a_refused_record_leaves_room_for_smaller_ones() {
    let mut rig = settled(Sync::Dsync);
    rig.append(Class::Ordinary, 10).expect("there is room");
    rig.take_effects();
    while rig.append(Class::Ordinary, 1000) != Err(Refused::Busy) {}
    let room = rig.journal.room(Class::Ordinary).expect("there is some");
    assert!(rig.append(Class::Ordinary, room).is_ok());
}
