//! The simulator: several shards of the real core, without sockets, driven from a seed. Clients connect, take over, publish,
//! hang; messages between shards are reordered, and the queues for them are full; slots move; memory runs short; hooks take their time,
//! refuse, panic. In a quarter of the histories there is a store on disks that are slow, fail, fill and lose what was not synced, and the broker
//! dies at any step and starts again with what is on them. A judge checks the contract after every step. See `tests/simulate` for more than the few
//! seeds that a test has time for.

mod acting;
mod authenticating;
mod broker;
mod campaign;
mod client;
mod conclusion;
mod copying;
mod crashing;
mod deliveries;
mod disks;
mod generator;
mod history;
mod judge;
mod lifecycle;
mod links;
mod mailboxes;
mod mutations;
mod noticing;
mod patience;
mod play;
mod pressure;
mod recovering;
mod recovery;
mod retained;
mod scenes;
mod shared;
mod shrink;
mod socket;
// Some of it is for the tests of the core alone.
#[allow(dead_code)]
#[path = "../store/mod.rs"]
mod store;
mod storing;
mod subscribing;
mod trace;
mod violation;

use campaign::{Campaign, report, silence_panics};

/// How many seeds a test runs if nobody says otherwise.
const SEEDS: u64 = 3000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text}")))
}

/// Where the seeds of a run begin that is to find something new: not where another one began.
fn own_beginning() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock is right by a few decades");
    // So many that those of two runs overlap only if they begin in the same moment; and few digits to type.
    since.as_millis() as u64 % 10_000_000 * 1_000_000
}

/// The seeds from `MOORMQ_SIM_FROM` on, `MOORMQ_SIM_SEEDS` of them, on `MOORMQ_SIM_THREADS` threads. If nobody says where to begin,
/// the same as ever, and others. No history has a store without `MOORMQ_SIM_STORE`; if that is `some`, one in four has one, otherwise only such are
/// played.
#[test]
fn no_history_breaks_the_contract() {
    silence_panics();
    let seeds = number("MOORMQ_SIM_SEEDS").unwrap_or(SEEDS);
    match number("MOORMQ_SIM_FROM") {
        Some(from) => run(from, seeds),
        None => {
            run(0, SEEDS);
            run(own_beginning(), seeds);
        }
    }
}

fn run(from: u64, seeds: u64) {
    let threads = number("MOORMQ_SIM_THREADS").map_or_else(
        || std::thread::available_parallelism().map_or(1, |count| count.get()),
        |threads| threads.max(1) as usize,
    );
    let is_stored = std::env::var("MOORMQ_SIM_STORE").is_ok_and(|which| which != "some");
    println!("{seeds} seeds from {from}{}", if is_stored { ", those with a store" } else { "" });
    let campaign = Campaign { from, seeds, threads, shows_progress: seeds > SEEDS, is_stored };
    let began = std::time::Instant::now();
    let (run, failure) = campaign.run();
    let seconds = began.elapsed().as_secs_f64();
    if let Some(failure) = failure {
        panic!("after {run} seeds: {}", report(&failure));
    }
    println!("{run} seeds from {from} without a failure, in {seconds:.1} s, {:.0} per second", run as f64 / seconds);
}
