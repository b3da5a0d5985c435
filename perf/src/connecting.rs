//! A round in which clients connect and then stay, silent.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::run::Target;
use crate::sample::ConnectionsSample;
use crate::scenario::Connections;

/// How long the broker has to come to rest before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs one round.
///
/// # Errors
///
/// As [`run::round`](crate::run::round).
pub fn round(connections: &Connections, target: &Target, interrupt: &Interrupt) -> Result<ConnectionsSample, Failure> {
    let mut engine = Engine::new(interrupt)?;
    let clients = (0..connections.count).map(|number| Client::idler(format!("perf-idle-{number}")));
    let resident_before = target.processes.resident()?;
    let (cpu_before, start) = (target.processes.cpu()?, Instant::now());
    engine.open(clients, target.address, connections.at_a_time)?;
    let (cpu_after, wall) = (target.processes.cpu()?, start.elapsed());
    thread::sleep(SETTLE);
    let resident_after = target.processes.resident()?;
    engine.close();
    Ok(ConnectionsSample {
        count: connections.count as u64,
        wall,
        broker_cpu: cpu_after.saturating_sub(cpu_before),
        resident_before,
        resident_after,
    })
}
