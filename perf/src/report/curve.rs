//! The tables of rounds in which messages come faster and faster.

use std::time::Duration;

use super::figures::{faults, figure, spread, whole};
use super::legend::legend;
use crate::outcome::{Outcome, Row};
use crate::sample::{MessagesSample, Sample, micros};
use crate::times::Latency;

/// For each scenario a line per rate and broker.
pub fn tables(rows: &[&Row]) -> String {
    let mut text = String::new();
    for row in rows {
        text += &format!(
            "\n## Latency against load: {}\n\n\
             | offered/s | broker | deliveries/s | µs/out | p50 µs | p90 µs | p99 µs | p99.9 µs | max µs | generator p99 µs | wrong |\n\
             |---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n",
            row.scenario.name
        );
        for rate in rates(&row.outcomes) {
            for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
                text += &line(rate, &broker.name, &samples_at(outcome, rate));
            }
        }
        text += &legend(&[row]);
    }
    text
}

/// The rates that some round reached, lowest first.
pub fn rates(outcomes: &[Outcome]) -> Vec<u32> {
    let steps = outcomes.iter().flat_map(|outcome| &outcome.samples).flat_map(|sample| match sample {
        Sample::Curve(steps) => steps.as_slice(),
        Sample::Messages(_) | Sample::Connections(_) | Sample::Bench(_) => &[],
    });
    let mut rates: Vec<u32> = steps.map(|step| step.offered).collect();
    rates.sort_unstable();
    rates.dedup();
    rates
}

/// What the rounds gave at this rate.
pub fn samples_at(outcome: &Outcome, rate: u32) -> Vec<&MessagesSample> {
    let steps = outcome.samples.iter().flat_map(|sample| match sample {
        Sample::Curve(steps) => steps.as_slice(),
        Sample::Messages(_) | Sample::Connections(_) | Sample::Bench(_) => &[],
    });
    steps.filter(|step| step.offered == rate).map(|step| &step.sample).collect()
}

/// The line of one broker; empty if no round reached the rate.
fn line(rate: u32, broker: &str, samples: &[&MessagesSample]) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let median = |value: &dyn Fn(&MessagesSample) -> Option<f64>| spread(samples, value).map(|spread| spread.median);
    let time = |of: fn(Latency) -> Duration| whole(median(&|sample| Some(micros(of(sample.latency?)))));
    let cells = [
        whole(Some(f64::from(rate))),
        broker.to_owned(),
        whole(median(&|sample| Some(sample.rate()))),
        figure(median(&MessagesSample::micros_per_delivery)),
        time(|latency| latency.p50),
        time(|latency| latency.p90),
        time(|latency| latency.p99),
        time(|latency| latency.p999),
        time(|latency| latency.max),
        whole(median(&|sample| Some(micros(sample.lateness?.p99)))),
        faults(samples),
    ];
    format!("| {} |\n", cells.join(" | "))
}
