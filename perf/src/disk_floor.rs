//! What the writes of a broker cost with nothing else: `moormq-disk-floor` writes as much at a time, as often and in the same way.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::process::pin;
use crate::sample::{MessagesSample, Sample};
use crate::times::Latency;
use crate::writes::Writes;

/// What the program says: nanoseconds of processor time, writes, nanoseconds that the window took, and of the time a write took half, 99 of 100 and all.
const FIGURES: usize = 6;

/// Repeats what the broker wrote that gave `stored`, and gives it as a round in which so many messages a second were delivered.
///
/// # Errors
///
/// That broker wrote nothing that is known; the program cannot be run, or fails.
pub fn measure(program: &Path, plan: &Plan, stored: Option<&MessagesSample>) -> Result<Sample, Failure> {
    let known = || {
        let stored = stored?;
        Some((stored, stored.writes?.each?, stored.commits_a_second()?))
    };
    let (stored, bytes, commits) =
        known().ok_or_else(|| nothing("the broker before it wrote nothing that is known"))?;
    let directory = std::env::temp_dir().join(format!("moormq-disk-floor-{}", std::process::id()));
    let mut command = Command::new(program);
    command.arg("--directory").arg(&directory).args(["--bytes", &format!("{bytes:.0}")]);
    command.args(["--rate", &format!("{commits:.3}"), "--seconds", &plan.timing.window.as_secs_f64().to_string()]);
    command.stdin(Stdio::null());
    let core = plan.cores.broker;
    let run = thread::spawn(move || {
        pin(&[core])?;
        command.output().map_err(Failure::system("moormq-disk-floor"))
    });
    let output = run.join().map_err(|_| nothing("the thread that starts it panicked"))??;
    // It may not have come so far as to make it.
    let _ = std::fs::remove_dir_all(&directory);
    let said = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<u64> = said.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    let Ok([cpu, writes, wall, p50, p99, max]) = <[u64; FIGURES]>::try_from(figures) else {
        return Err(nothing(&format!("{said} {}", String::from_utf8_lossy(&output.stderr))));
    };
    let [wall, p50, p99, max] = [wall, p50, p99, max].map(Duration::from_nanos);
    let delivered = (stored.rate() * wall.as_secs_f64()) as u64;
    let took = Latency { p50, p90: p99, p99, p999: max, max };
    Ok(Sample::Messages(MessagesSample {
        wall,
        delivered,
        broker_cpu: Duration::from_nanos(cpu),
        generator_cpu: Duration::ZERO,
        peak_resident: 0,
        tally: Default::default(),
        expected: 0,
        unacknowledged: 0,
        given_up: 0,
        latency: None,
        lateness: None,
        acknowledged: Some(Box::new(took)),
        writes: Some(Writes { bytes: (writes as f64 * bytes) as u64, each: Some(bytes) }),
    }))
}

fn nothing(what: &str) -> Failure {
    Failure::System(format!("moormq-disk-floor: {what}"))
}
