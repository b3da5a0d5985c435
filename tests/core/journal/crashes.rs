//! Crashes at any step, again and again, on the same files.

use std::time::Duration;

use moormq::journal::{Class, Refused, Settings, Sync};

use super::rig::{Crash, Rig, small};

/// Something happens.
fn step(rig: &mut Rig) {
    let kinds = if rig.random.below(20) == 0 { 13_000 } else { 400 };
    match rig.random.below(12) {
        0..=3 => {
            let class = if rig.random.below(5) == 0 { Class::Relief } else { Class::Ordinary };
            let length = rig.random.below(kinds);
            match rig.append(class, length) {
                Ok(_) => assert!(rig.journal.failure().is_none()),
                Err(Refused::TooLarge) => assert!(length > rig.settings.check().expect("they hold").largest_body()),
                Err(Refused::Failed) => assert!(rig.journal.failure().is_some()),
                Err(Refused::Busy | Refused::Full) => {}
            }
        }
        4..=5 => rig.take_effects(),
        6..=7 => rig.go_on(),
        8 if rig.random.below(12) == 0 => rig.fail_preparation(),
        8 => rig.end_preparation(),
        9 => {
            rig.archive();
        }
        10 if rig.random.below(50) == 0 => rig.now += Duration::from_secs(rig.random.below(60) as u64),
        10 => rig.now += Duration::from_micros(rig.random.below(600) as u64),
        _ => match rig.random.below(40) {
            0 => rig.fail_commit(),
            1 => rig.disk_is_full = true,
            _ => rig.disk_is_full = false,
        },
    }
    if rig.journal.failure().is_some() {
        let marks = (rig.journal.flushed(), rig.journal.fsynced());
        rig.take_effects();
        assert!(rig.commit.is_none() && rig.journal.wake_up().is_none());
        assert_eq!(rig.append(Class::Relief, 10), Err(Refused::Failed));
        assert_eq!((rig.journal.flushed(), rig.journal.fsynced()), marks, "nothing is acknowledged any more");
    }
}

fn run(settings: Settings, seed: u64, crashes: &[Crash]) -> Rig {
    let mut rig = Rig::new(settings, seed);
    for left in (0..12).rev() {
        for _ in 0..rig.random.below(400) {
            step(&mut rig);
        }
        let crash = crashes[rig.random.below(crashes.len())];
        rig.crash(crash);
        match rig.random.below(4) {
            _ if left == 0 => rig.settings.segments = settings.segments,
            0 => rig.settings.segments = 3 + rig.random.below(4) as u32,
            _ => {}
        }
        rig.recover(crash);
    }
    rig
}

const BOTH: &[Crash] = &[Crash::Killed, Crash::PowerLost];

fn shapes(sync: Sync) -> [Settings; 4] {
    [
        small(sync),
        Settings { segments: 3, ..small(sync) },
        Settings { segment_bytes: 16 << 10, frame_bytes: 4 << 10, buffer_bytes: 4 << 10, segments: 6, ..small(sync) },
        Settings { commit_interval: Duration::ZERO, ..small(sync) },
    ]
}

#[test]
fn what_was_promised_is_there_after_any_crash_and_nothing_else_is() {
    let mut kept = 0;
    for seed in 0..30 {
        for sync in [Sync::Dsync, Sync::Linked] {
            for settings in shapes(sync) {
                kept += run(settings, seed, BOTH).history.len();
            }
        }
    }
    assert!(kept > 3_000, "only {kept} records were kept in all");
}

#[test]
fn without_syncs_what_was_written_survives_the_end_of_the_process() {
    for seed in 0..15 {
        for settings in shapes(Sync::Never) {
            run(settings, seed, &[Crash::Killed]);
        }
    }
}

#[test]
fn after_many_crashes_the_journal_takes_records_as_before() {
    for seed in 0..15 {
        let mut rig = run(small(Sync::Linked), seed, BOTH);
        rig.disk_is_full = false;
        rig.settle_and_archive();
        for _ in 0..300 {
            rig.append(Class::Ordinary, 1000).expect("there is room");
            rig.settle_and_archive();
        }
        assert!(rig.disk.files.len() <= 5, "{} files", rig.disk.files.len());
        assert_eq!(rig.history.last().map(|last| last.mark), Some(rig.journal.fsynced()));
    }
}
