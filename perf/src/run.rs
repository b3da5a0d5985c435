//! One round of a scenario against a broker that is running.

use std::net::SocketAddr;
use std::time::Duration;

use crate::connecting;
use crate::curve;
use crate::emqtt_bench;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::names::Landings;
use crate::process::ProcessTree;
use crate::sample::Sample;
use crate::scenario::{Kind, Scenario};
use crate::traffic;
use crate::watcher::Watcher;

/// The broker to measure.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its processes.
    pub processes: ProcessTree,
    /// Where its clients land, if that matters.
    pub landings: Option<Landings>,
    /// Who watches it while messages are measured.
    pub watcher: Option<Watcher>,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Messages flow, but are not measured yet.
    pub warm_up: Duration,
    /// The window.
    pub window: Duration,
}

/// Runs one round of `scenario`.
///
/// # Errors
///
/// If the broker did something that makes the figures worthless, or somebody interrupts.
pub fn round(scenario: &Scenario, target: &Target, timing: Timing, interrupt: &Interrupt) -> Result<Sample, Failure> {
    match &scenario.kind {
        Kind::Bench(bench) => emqtt_bench::round(bench, target, timing, interrupt).map(Sample::Bench),
        Kind::Messages(messages) => traffic::round(messages, target, timing, interrupt).map(Sample::Messages),
        Kind::Curve(messages, rates) => curve::round(messages, rates, target, timing, interrupt).map(Sample::Curve),
        Kind::Connections(connections) => {
            connecting::round(connections, target, timing, interrupt).map(Sample::Connections)
        }
    }
}
