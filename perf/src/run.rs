//! One round of a scenario against a broker that is running.

use crate::connecting;
use crate::curve;
use crate::emqtt_bench;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::sample::Sample;
use crate::scenario::{Kind, Scenario};
use crate::target::Target;
use crate::timing::Timing;
use crate::traffic;

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
