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
        // That does not sync what need not be.
        9 if rig.random.below(20) == 0 && !rig.is_mixed => rig.journal.seal(),
        9 => {
            rig.archive();
        }
        10 if rig.random.below(50) == 0 => rig.now += Duration::from_secs(rig.random.below(60) as u64),
        10 => rig.now += Duration::from_micros(rig.random.below(600) as u64),
        _ => match rig.random.below(40) {
            0 => rig.fail_commit(),
            2..=4 => rig.interrupt_commit(),
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

/// What goes wrong besides crashes.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// Blocks that cannot be read at a start, and sometimes can at the next.
    reads: bool,
    /// Files that cannot be removed, or set aside.
    removals: bool,
    /// No fault: not all records are to be synced.
    is_mixed: bool,
}

/// Says which run it was, if that fails.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn run(settings: Settings, seed: u64, crashes: &[Crash], faults: Faults) -> Rig {
    let _told = Told(format!("seed {seed}, {crashes:?}, {faults:?}, {settings:?}"));
    let mut rig = Rig::new(settings, seed);
    (rig.removals_fail, rig.is_mixed) = (faults.removals, faults.is_mixed);
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
        if faults.reads && rig.random.below(2) == 0 {
            rig.mend_blocks();
        }
        if faults.reads && rig.random.below(2) == 0 {
            rig.break_blocks();
        }
        rig.recover(crash);
    }
    rig
}

/// The seeds that are tried: `MOORMQ_JOURNAL_SEEDS` times as many as is usual, from `MOORMQ_JOURNAL_FROM` on.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let times = std::env::var("MOORMQ_JOURNAL_SEEDS").ok().and_then(|times| times.parse().ok());
    let from = std::env::var("MOORMQ_JOURNAL_FROM").ok().and_then(|from| from.parse().ok()).unwrap_or(0);
    from..from + usual * times.unwrap_or(1)
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
    for seed in seeds(30) {
        for sync in [Sync::Dsync, Sync::Linked] {
            for settings in shapes(sync) {
                let rig = run(settings, seed, BOTH, Faults::default());
                assert!(!rig.has_lost && rig.aside.is_empty(), "nothing is lost");
                kept += rig.history.len();
            }
        }
    }
    assert!(kept > 3_000, "only {kept} records were kept in all");
}

#[test]
fn what_is_to_be_synced_is_and_all_before_it() {
    let (mut synced, mut written) = (0, 0);
    for seed in seeds(30) {
        for sync in [Sync::Dsync, Sync::Linked] {
            for settings in shapes(sync) {
                let faults = Faults { is_mixed: true, ..Faults::default() };
                let rig = run(settings, seed, BOTH, faults);
                synced += rig.writes.iter().filter(|sync| **sync != Sync::Never).count();
                written += rig.writes.len();
            }
        }
    }
    assert!(synced > 1000 && written > synced + 1000, "{synced} of {written}");
}

#[test]
fn without_syncs_what_was_written_survives_the_end_of_the_process() {
    for seed in seeds(15) {
        for settings in shapes(Sync::Never) {
            run(settings, seed, &[Crash::Killed], Faults::default());
        }
    }
}

#[test]
fn without_syncs_a_loss_of_power_leaves_holes_that_are_told() {
    let mut holes = 0;
    for seed in seeds(15) {
        for settings in shapes(Sync::Never) {
            holes += run(settings, seed, BOTH, Faults::default()).holes;
        }
    }
    assert!(holes > 20, "only {holes} starts found holes");
}

#[test]
fn what_cannot_be_read_or_removed_costs_nothing_else() {
    let (mut lost, mut aside, mut given_up) = (0, 0, 0);
    for seed in seeds(6) {
        for sync in [Sync::Dsync, Sync::Linked, Sync::Never] {
            for settings in shapes(sync) {
                for faults in [
                    Faults { reads: true, ..Faults::default() },
                    Faults { reads: true, removals: true, ..Faults::default() },
                ] {
                    let crashes = if sync == Sync::Never { &BOTH[..1] } else { BOTH };
                    let rig = run(settings, seed, crashes, faults);
                    lost += rig.holes;
                    aside += rig.aside.len();
                    given_up += rig.given_up.len();
                }
            }
        }
    }
    assert!(lost > 20 && aside > 20 && given_up > 5, "{lost} starts lost something, {aside} files, {given_up}");
}

#[test]
fn after_many_crashes_the_journal_takes_records_as_before() {
    for seed in seeds(15) {
        for faults in [Faults::default(), Faults { reads: true, removals: true, ..Faults::default() }] {
            let mut rig = run(small(Sync::Linked), seed, BOTH, faults);
            rig.disk_is_full = false;
            rig.removals_fail = false;
            rig.settle_and_archive();
            for _ in 0..300 {
                rig.append(Class::Ordinary, 1000).expect("there is room");
                rig.settle_and_archive();
            }
            if !faults.removals {
                assert!(rig.disk.files.len() <= 5, "{} files", rig.disk.files.len());
            }
            assert_eq!(rig.history.last().map(|last| last.mark), Some(rig.journal.fsynced()));
        }
    }
}
