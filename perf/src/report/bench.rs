//! The table of rounds whose load `emqtt_bench` made.

use super::figures::{figure, whole};
use super::legend::legend;
use crate::outcome::{Outcome, Row};
use crate::sample::{BenchSample, Sample, Spread};

/// One row per scenario and broker, and what the scenarios are.
pub fn details(rows: &[&Row]) -> String {
    let mut text = "\n## With emqtt_bench\n\n\
        | scenario | broker | µs/out | received/s (its own count) | published/s (its own count) | offered/s | published too late |\n\
        |---|---|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(median(outcome, BenchSample::micros_per_delivery)),
                whole(median(outcome, |sample| Some(sample.received))),
                whole(median(outcome, |sample| sample.published)),
                whole(median(outcome, |sample| Some(sample.offered))),
                whole(median(outcome, |sample| Some(sample.overrun))),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text + &legend(rows)
}

/// The median of a figure over the rounds that have it.
fn median(outcome: &Outcome, value: fn(&BenchSample) -> Option<f64>) -> Option<f64> {
    let samples = outcome.samples.iter().filter_map(|sample| match sample {
        Sample::Bench(sample) => value(sample),
        Sample::Messages(_) | Sample::Connections(_) | Sample::Curve(_) => None,
    });
    Spread::of(samples).map(|spread| spread.median)
}
