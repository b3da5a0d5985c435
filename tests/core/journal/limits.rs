//! The bounds of a journal, each of them reached.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use moormq::journal::{
    Class, Effect, FileId, Fullness, Journal, PREPARED_AGAIN_AFTER, ReadAt, Reader, Recovered, Refused, Settings, Sync,
};

use super::rig::{Crash, Rig, read, small};
use crate::store::disk::File;

fn settled(settings: Settings) -> Rig {
    let mut rig = Rig::new(settings, 3);
    rig.settle();
    rig
}

/// Appends until that is refused for want of segments; how many bytes were taken.
fn fill(rig: &mut Rig, class: Class) -> usize {
    let mut bytes = 0;
    loop {
        match rig.append(class, 3000) {
            Ok(_) => bytes += 3000,
            Err(Refused::Busy) => {}
            Err(refused) => {
                assert_eq!(refused, Refused::Full);
                return bytes;
            }
        }
        rig.settle();
    }
}

#[test]
fn ordinary_records_leave_a_segment_for_relief() {
    let mut rig = settled(small(Sync::Dsync));
    assert_eq!(rig.journal.fullness(), Fullness { live: 0, ready: 4, segments: 4, most: 4 });
    let ordinary = fill(&mut rig, Class::Ordinary);
    assert!(ordinary > 80_000, "three segments: {ordinary}");
    assert_eq!(rig.journal.fullness(), Fullness { live: 3, ready: 1, segments: 4, most: 4 });
    assert_eq!(rig.journal.room(Class::Ordinary), None);
    let relief = fill(&mut rig, Class::Relief);
    assert!((24_000..40_000).contains(&relief), "one segment: {relief}");
    assert_eq!(rig.journal.fullness(), Fullness { live: 4, ready: 0, segments: 4, most: 4 });
    assert_eq!(rig.journal.room(Class::Relief), None);
    // The archive makes room: first for relief, then for all.
    for room in [(None, true), (Some(()), true)] {
        assert!(rig.archive());
        rig.settle();
        assert_eq!((rig.journal.room(Class::Ordinary).map(drop), rig.journal.room(Class::Relief).is_some()), room);
    }
    assert_eq!(rig.disk.files.len(), 4, "the files are used again");
    rig.crash(Crash::PowerLost);
    rig.recover(Crash::PowerLost);
}

#[test]
fn the_oldest_segment_is_archived_when_two_are_left_and_no_sooner() {
    let mut rig = settled(small(Sync::Dsync));
    while rig.journal.fullness().live < 3 {
        assert_eq!(rig.journal.oldest(), None);
        rig.append(Class::Ordinary, 3000).expect("there is room");
        // As long as its last frame is not written, a segment is not complete.
        rig.settle();
    }
    let oldest = rig.journal.oldest().expect("one is left, and one in use");
    assert!(rig.journal.release(oldest));
    assert_eq!(rig.journal.oldest(), None);
}

#[test]
fn records_wait_in_so_many_bytes_and_no_more() {
    let mut rig = settled(small(Sync::Dsync));
    // One commit is under way, and three frames wait.
    rig.append(Class::Ordinary, 10).expect("there is room");
    rig.take_effects();
    let fill = |rig: &mut Rig, class| {
        let taken = std::iter::repeat_with(|| rig.append(class, 1000)).take_while(Result::is_ok).count();
        assert_eq!(rig.append(class, 1000), Err(Refused::Busy));
        taken
    };
    let taken = fill(&mut rig, Class::Ordinary);
    let room = rig.journal.room(Class::Ordinary).expect("some is left of the frame that is open");
    assert!((30..=36).contains(&taken) && room < 1000, "{taken}, {room}");
    // What makes room in the end is not refused for that, but has a bound, too.
    let relief = fill(&mut rig, Class::Relief);
    assert!((11..=12).contains(&relief), "one frame: {relief}");
    assert_eq!(rig.journal.room(Class::Ordinary), None, "that frame is not for others");
    rig.go_on();
    rig.now += rig.settings.commit_interval;
    rig.take_effects();
    assert_eq!(rig.append(Class::Ordinary, 1000), Err(Refused::Busy));
    rig.append(Class::Relief, 1000).expect("a frame less waits");
    rig.settle();
    assert_eq!(rig.history.last().map(|last| last.mark), Some(rig.journal.fsynced()));
}

#[test]
fn a_record_that_fits_no_frame_is_refused_for_ever() {
    let mut rig = settled(small(Sync::Dsync));
    let largest = rig.settings.check().expect("they hold").largest_body();
    assert_eq!(largest, (12 << 10) - 40 - 3);
    assert_eq!(rig.journal.room(Class::Ordinary), Some(largest));
    assert_eq!(rig.append(Class::Relief, largest + 1), Err(Refused::TooLarge));
    rig.append(Class::Ordinary, largest).expect("it fits");
    rig.append(Class::Ordinary, 8).expect("it has another frame");
    rig.settle();
    assert_eq!(
        rig.history.iter().map(|entry| entry.frame.map(|frame| frame.2)).collect::<Vec<_>>(),
        [Some(12 << 10), Some(4 << 10)]
    );
    rig.crash(Crash::PowerLost);
    rig.recover(Crash::PowerLost);
    assert_eq!(rig.history.len(), 2);
}

#[test]
fn commits_are_one_at_a_time_and_so_far_apart() {
    let mut rig = settled(small(Sync::Linked));
    rig.now = Duration::from_secs(5);
    assert_eq!(rig.journal.wake_up(), None);
    rig.append(Class::Ordinary, 10).expect("there is room");
    assert!(rig.journal.wake_up().is_some_and(|at| at <= rig.now), "at once");
    rig.take_effects();
    rig.append(Class::Ordinary, 10).expect("there is room");
    rig.now += Duration::from_secs(1);
    // It is neither written nor synced yet: that is not a matter of time.
    for _ in 0..2 {
        assert_eq!(rig.journal.wake_up(), None);
        assert!(rig.journal.next_effect(rig.now).is_none());
        assert!(!rig.journal.is_settled());
        rig.go_on();
    }
    let begun = rig.now;
    rig.take_effects();
    rig.go_on();
    rig.go_on();
    rig.append(Class::Ordinary, 10).expect("there is room");
    let next = begun + rig.settings.commit_interval;
    assert_eq!(rig.journal.wake_up(), Some(next));
    assert!(rig.journal.next_effect(next - Duration::from_nanos(1)).is_none());
    rig.now = next;
    rig.take_effects();
    assert!(rig.commit.is_some());
}

#[test]
fn a_mark_is_reached_when_its_frame_is_written_and_synced() {
    for sync in [Sync::Dsync, Sync::Linked, Sync::Never] {
        let mut rig = settled(small(sync));
        let mark = rig.append(Class::Ordinary, 10).expect("there is room");
        assert_eq!(rig.append(Class::Relief, 10), Ok(mark), "one frame, one mark");
        rig.take_effects();
        let later = rig.append(Class::Ordinary, 10).expect("there is room");
        assert!(later > mark && rig.journal.flushed() < mark);
        rig.go_on();
        assert_eq!(rig.journal.flushed(), mark);
        assert_eq!(rig.journal.fsynced() == mark, sync == Sync::Dsync);
        rig.go_on();
        assert_eq!(rig.journal.fsynced() == mark, sync != Sync::Never);
    }
}

#[test]
fn a_failed_commit_ends_the_journal_and_the_next_start_goes_on() {
    for sync in [Sync::Dsync, Sync::Linked] {
        let mut rig = settled(small(sync));
        rig.append(Class::Ordinary, 10).expect("there is room");
        rig.settle();
        let mark = rig.journal.flushed();
        rig.append(Class::Ordinary, 10).expect("there is room");
        rig.now += rig.settings.commit_interval;
        rig.take_effects();
        if sync == Sync::Linked {
            rig.go_on();
        }
        rig.fail_commit();
        let failure = rig.journal.failure().expect("it has failed").to_string();
        assert!(failure.contains("journal"), "{failure}");
        assert_eq!(rig.journal.room(Class::Relief), None);
        assert_eq!(rig.append(Class::Relief, 10), Err(Refused::Failed));
        assert_eq!((rig.journal.fsynced(), rig.journal.wake_up()), (mark, None));
        assert!(rig.journal.next_effect(Duration::from_secs(1000)).is_none());
        rig.crash(Crash::PowerLost);
        rig.recover(Crash::PowerLost);
        rig.settle();
        rig.append(Class::Ordinary, 10).expect("there is room");
    }
}

#[test]
fn a_full_disk_is_known_a_segment_ahead_and_tried_again() {
    let mut rig = Rig::new(small(Sync::Dsync), 3);
    for _ in 0..2 {
        rig.take_effects();
        rig.end_preparation();
    }
    rig.disk_is_full = true;
    rig.take_effects();
    rig.end_preparation();
    assert_eq!(rig.journal.shortage().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    let files = rig.disk.files.len();
    rig.take_effects();
    assert_eq!(rig.disk.files.len(), files - 1, "what could be filled of it is free again");
    assert_eq!(rig.journal.wake_up(), Some(rig.now + PREPARED_AGAIN_AFTER));
    assert!(rig.journal.next_effect(rig.now + PREPARED_AGAIN_AFTER - Duration::from_millis(1)).is_none());
    // There are two segments, one of them for relief. What is full is archived at once, and used again: that needs no room.
    for _ in 0..3 {
        assert!(fill(&mut rig, Class::Ordinary) > 24_000);
        assert!(rig.journal.room(Class::Relief).is_some());
        assert!(rig.archive());
        rig.take_effects();
        rig.end_preparation();
        rig.take_effects();
        rig.end_preparation();
        assert!(rig.journal.room(Class::Ordinary).is_some());
    }
    rig.disk_is_full = false;
    rig.now += PREPARED_AGAIN_AFTER;
    rig.settle();
    assert!(rig.journal.shortage().is_none());
    assert_eq!(rig.journal.fullness().ready + rig.journal.fullness().live, 4);
}

#[test]
fn files_that_do_not_fit_other_settings_are_removed() {
    let mut rig = settled(Settings { segments: 6, ..small(Sync::Dsync) });
    fill(&mut rig, Class::Ordinary);
    assert_eq!(rig.disk.files.len(), 6);
    let other = Settings { segment_bytes: 60 << 10, ..small(Sync::Dsync) };
    rig.settings = other;
    rig.crash(Crash::Killed);
    rig.recover(Crash::Killed);
    rig.settle_and_archive();
    for _ in 0..200 {
        rig.append(Class::Ordinary, 3000).expect("there is room");
        rig.settle_and_archive();
    }
    assert_eq!(rig.disk.files.len(), 4);
    assert!(rig.disk.files.values().all(|file| file.bytes.len() == 60 << 10));
    rig.crash(Crash::PowerLost);
    rig.recover(Crash::PowerLost);
}

/// A file that knows the largest buffer it was asked to fill.
struct Measured<'a>(File, &'a Cell<usize>);

impl ReadAt for Measured<'_> {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.set(self.1.get().max(buffer.len()));
        self.0.read_at(buffer, offset)
    }
}

#[test]
fn reading_takes_a_window_and_a_frame_of_memory() {
    let settings =
        Settings { segment_bytes: 2 << 20, frame_bytes: 1 << 20, buffer_bytes: 1 << 20, ..small(Sync::Dsync) };
    let mut rig = settled(settings);
    for length in [500_000, 100, 900_000, 100] {
        rig.append(Class::Ordinary, length).expect("there is room");
        rig.settle();
    }
    let largest = Cell::new(0);
    let files = rig.disk.open().into_iter().map(|(id, file)| (id, Measured(file, &largest))).collect();
    let mut reader = Reader::new(settings.identity, files);
    let mut records = 0;
    while reader.next().is_some() {
        records += 1;
    }
    assert_eq!(records, 4);
    assert_eq!(largest.get(), 900_000_usize.next_multiple_of(4096));
}

#[test]
fn a_segment_is_gone_once_another_is_prepared() {
    let mut rig = settled(small(Sync::Dsync));
    fill(&mut rig, Class::Ordinary);
    assert!(rig.archive());
    let (before, ..) = read(&rig.settings, rig.disk.open());
    rig.take_effects();
    rig.end_preparation();
    let (after, ..) = read(&rig.settings, rig.disk.open());
    assert!(after.len() < before.len() && after[..] == before[before.len() - after.len()..]);
}

#[test]
fn a_new_journal_makes_its_files_one_by_one() {
    let settings = small(Sync::Dsync).check().expect("they hold");
    let mut journal = Journal::new(settings, Recovered::nothing(), 0).expect("there was none before");
    assert_eq!(journal.append(Class::Relief, 1, &[]), Err(Refused::Full));
    for file in 0..4 {
        let Some(Effect::Prepare(preparation)) = journal.next_effect(Duration::ZERO) else { panic!("one more") };
        assert!(preparation.fill && preparation.file == FileId(file) && preparation.generation == u64::from(file) + 1);
        assert!(journal.next_effect(Duration::ZERO).is_none() && journal.wake_up().is_none());
        journal.prepared(preparation.file, Ok(()), Duration::ZERO);
        assert!(journal.room(Class::Relief).is_some());
        assert_eq!(journal.room(Class::Ordinary).is_some(), file > 0);
    }
    journal.append(Class::Ordinary, 1, &[]).expect("there is room");
    let is_write = |effect: Option<Effect>| matches!(effect, Some(Effect::Write(_)));
    assert!(is_write(journal.next_effect(Duration::ZERO)) && journal.next_effect(Duration::ZERO).is_none());
}
