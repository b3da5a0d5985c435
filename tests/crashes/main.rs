//! The real broker, killed with SIGKILL at random moments under load, again and again on the same store. Its clients count: what was
//! acknowledged may not be lost, QoS 2 may not come twice. See `tests/kills` for more than the few kills that a test has time for.
//!
//! The seed decides about who publishes what and when the kill comes; how far all is by then is the machine's affair, and a run of the
//! same seed another one.

mod broker;
mod campaign;
mod judge;
mod message;
mod publisher;
mod round;
mod subscriber;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use campaign::{Outcome, Plan, run};

/// So many kills a store has to stand in a long run; then there is a new one.
const PER_STORE: u32 = 50;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

fn own_seed() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is right by a few decades");
    since.as_millis() as u64 % 10_000_000 * 1000
}

fn play(plan: Plan) -> Outcome {
    println!("{plan:?}");
    let began = Instant::now();
    let name = format!("crashes-{}-{}-{}", std::process::id(), plan.shards, plan.seed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let outcome = run(plan, directory.clone());
    let Outcome { kills, early, stops, published, received, bytes, slowest_start, .. } = &outcome;
    let Outcome { came_twice, shared_twice, .. } = &outcome;
    println!(
        "{kills} kills ({early} before it listened), {stops} stops, {published} published, {received} received, \
         {came_twice} of QoS 2 twice, {shared_twice} at two members of a group, {bytes} bytes, slowest start {slowest_start:?}, {:.1?}",
        began.elapsed()
    );
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
    let (is_small, is_flushed) = (seed % 2 == 0, seed / 2 % 2 == 0);
    Plan { seed, shards, rounds, longest: Duration::from_millis(2000), publishers: 5, is_small, is_flushed }
}

/// Few kills, so that a test has time for them.
#[test]
fn what_was_acknowledged_survives_some_kills() {
    let seed = own_seed();
    for (at, shards) in [1, 2, 4].into_iter().enumerate() {
        let plan = Plan { longest: Duration::from_millis(600), ..plan(seed + at as u64, shards, 8) };
        let outcome = play(plan);
        assert!(outcome.faults.is_empty(), "see above: seed {}, {shards} shards", plan.seed);
    }
}

/// As many as one likes: `MOORMQ_KILLS` in all, on brokers of `MOORMQ_KILLS_SHARDS` shards, from the seed `MOORMQ_KILLS_SEED`.
#[test]
#[ignore = "as long as one likes: tests/kills runs it"]
fn what_was_acknowledged_survives_many_kills() {
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
