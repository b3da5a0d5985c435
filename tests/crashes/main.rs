//! The real broker, killed with SIGKILL at random moments under load, again and again on the same store. Its clients count: what was
//! acknowledged may not be lost, QoS 2 may not come twice. See `tests/kills` for more than the few kills that a test has time for.
//!
//! The seed decides about who publishes what and when the kill comes; how far all is by then is the machine's affair, and a run of the
//! same seed another one.

mod broker;
mod campaign;
mod guests;
mod judge;
mod message;
mod operator;
mod power;
mod publisher;
mod round;
mod sleeper;
mod subscriber;
mod testator;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use campaign::{Outcome, Plan, run};
use power::{Kind, Power};

/// So many kills a store has to stand in a long run; then there is a new one.
const PER_STORE: u32 = 50;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

fn own_seed() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is right by a few decades");
    since.as_millis() as u64 % 10_000_000 * 1021
}

fn play(plan: Plan) -> Outcome {
    println!("{plan:?}");
    let began = Instant::now();
    let name = format!("crashes-{}-{}-{}", std::process::id(), plan.shards, plan.seed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let outcome = run(plan, directory.clone());
    let Outcome { kills, early, stops, published, received, bytes, slowest_start, .. } = &outcome;
    let Outcome { shared_twice, wills, slept: (expired, kept), operated, .. } = &outcome;
    println!(
        "{kills} kills ({early} before it listened), {stops} stops, {published} published, {received} received, \
         {shared_twice} at two members of a group, {wills} wills, \
         {expired} sessions had expired, {kept} had not, {bytes} bytes, slowest start {slowest_start:?}, {:.1?}",
        began.elapsed()
    );
    println!("{operated}");
    if plan.disk.is_some() {
        println!("{:?}", outcome.forgotten);
    }
    for (line, count) in &outcome.warnings {
        println!("{count} times: {line}");
    }
    for fault in &outcome.faults {
        println!("FAULT {fault}");
    }
    match outcome.faults.is_empty() {
        true => std::fs::remove_dir_all(&directory).expect("it can be removed"),
        false => println!("the store and the logs are at {}", directory.display()),
    }
    outcome
}

fn plan(seed: u64, shards: usize, rounds: u32) -> Plan {
    let (is_small, is_flushed) = (seed & 1 == 0, seed & 2 == 0);
    let longest = Duration::from_millis(2000);
    let (is_lifo, has_guests) = (seed & 12 == 0, seed & 16 == 0);
    // Beside all that, and by threes, since the numbers of shards take turns.
    let (is_paged, has_moves) = match seed / 3 % 4 {
        0 => (false, false),
        1 => (true, false),
        2 => (shards == 1, true),
        _ => (true, true),
    };
    let segments = number("MOORMQ_KILLS_SEGMENTS").map(|segments| segments as u32);
    Plan {
        seed,
        shards,
        rounds,
        longest,
        publishers: 5,
        is_small,
        segments,
        is_flushed,
        is_lifo,
        is_paged,
        has_moves: has_moves && shards > 1,
        has_guests,
        disk: None,
    }
}

/// Likewise, on a disk whose power fails, too. What is `flushed` only would be lost.
fn power_plan(seed: u64, shards: usize, rounds: u32) -> Plan {
    let kind = if seed & 2 == 0 { Kind::Direct } else { Kind::Buffered };
    Plan { is_flushed: false, disk: Some(kind), ..plan(seed, shards, rounds) }
}

/// Whether such a disk can be had here; says why not.
fn has_disks() -> bool {
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-{}", std::process::id()));
    let mounted = Power::mount(at.clone(), Kind::Direct);
    // It was empty.
    let _ = std::fs::remove_dir(at);
    mounted
        .inspect_err(|error| println!("LEFT OUT: a file system that forgets cannot be mounted here: {error}"))
        .is_ok()
}

/// Few kills, so that a test has time for them.
#[test]
fn what_was_acknowledged_survives_some_kills() {
    let seed = own_seed();
    for (at, shards) in [1, 2, 4].into_iter().enumerate() {
        let plan = plan(seed + at as u64, shards, 8);
        let plan = Plan {
            longest: Duration::from_millis(600),
            is_small: true,
            has_guests: shards == 2,
            is_lifo: false,
            is_paged: shards == 2,
            has_moves: shards > 1,
            ..plan
        };
        let outcome = play(plan);
        assert!(outcome.faults.is_empty(), "see above: seed {}, {shards} shards", plan.seed);
    }
}

/// Few losses of power, where the disk for it can be mounted.
#[test]
fn what_was_acknowledged_survives_some_losses_of_power() {
    if !has_disks() {
        return;
    }
    let seed = own_seed();
    for (at, shards) in [1, 2].into_iter().enumerate() {
        let seed = seed + 2 * at as u64;
        let plan = power_plan(seed, shards, 6);
        let plan = Plan {
            longest: Duration::from_millis(600),
            is_small: true,
            has_guests: false,
            is_lifo: false,
            is_paged: shards == 1,
            has_moves: shards > 1,
            ..plan
        };
        let outcome = play(plan);
        assert!(outcome.faults.is_empty(), "see above: seed {}, {shards} shards", plan.seed);
    }
}

/// What shows that the disk forgets, and that the judge sees it: the same on a disk that syncs nothing.
#[test]
#[ignore = "it fails on purpose until it has lost something: tests/powercuts runs it"]
fn a_disk_that_lies_loses_what_was_acknowledged() {
    let seed = own_seed();
    let is_lost = (seed..seed + 5).any(|seed| {
        let outcome = play(Plan { disk: Some(Kind::Lying), ..power_plan(seed, 1, 20) });
        !outcome.faults.is_empty()
    });
    assert!(is_lost, "nothing was lost by a disk that syncs nothing");
}

/// As many kills as one likes: `MOORMQ_KILLS` in all, on brokers of `MOORMQ_KILLS_SHARDS` shards, from the seed `MOORMQ_KILLS_SEED`.
#[test]
#[ignore = "as long as one likes: tests/kills runs it"]
fn what_was_acknowledged_survives_many_kills() {
    play_many(plan);
}

/// Likewise, with losses of power.
#[test]
#[ignore = "as long as one likes: tests/powercuts runs it"]
fn what_was_acknowledged_survives_many_losses_of_power() {
    assert!(has_disks(), "a disk cannot be mounted");
    play_many(power_plan);
}

fn play_many(plan: impl Fn(u64, usize, u32) -> Plan) {
    let shards = std::env::var("MOORMQ_KILLS_SHARDS").unwrap_or("1,2,4".to_owned());
    let shards: Vec<usize> = shards.split(',').map(|one| one.parse().expect("a number of shards")).collect();
    let kills = number("MOORMQ_KILLS").unwrap_or(1000) as u32;
    let seed = number("MOORMQ_KILLS_SEED").unwrap_or_else(own_seed);
    let (mut done, mut failed) = (vec![0; shards.len()], 0);
    for seed in seed.. {
        let at = done.iter().enumerate().min_by_key(|(_, done)| **done).map_or(0, |(at, _)| at);
        let left = kills.saturating_sub(done.iter().sum());
        if left == 0 {
            break;
        }
        let outcome = play(plan(seed, shards[at], left.min(PER_STORE)));
        done[at] += outcome.kills.max(1);
        failed += u32::from(!outcome.faults.is_empty());
    }
    for (shards, done) in shards.iter().zip(&done) {
        println!("{shards} shards: {done} kills");
    }
    assert_eq!(failed, 0, "stores with faults: see above");
}
