//! The tables of rounds with connections.

use super::figures::{figure, whole};
use super::legend::legend;
use crate::outcome::{Outcome, Row};
use crate::sample::{ConnectionsSample, Sample, Spread};
use crate::times::Latency;

/// One row per scenario and broker, and what the scenarios are.
pub fn details(rows: &[&Row]) -> String {
    let mut text = "\n## Connections\n\n\
        | scenario | broker | µs/connect | connects/s | p50 ms | p99 ms | KiB per idle connection | ms/s silent | ms/s pinging |\n\
        |---|---|---:|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
            let answer = |time: fn(Latency) -> std::time::Duration| {
                median(outcome, |sample| Some(time(sample.answer?).as_secs_f64() * 1e3))
            };
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(median(outcome, |sample| Some(sample.micros_per_connect()))),
                whole(median(outcome, |sample| Some(sample.rate()))),
                figure(answer(|answer| answer.p50)),
                figure(answer(|answer| answer.p99)),
                figure(median(outcome, |sample| Some(sample.resident_each()))),
                figure(median(outcome, |sample| Some(sample.idle?.silent * 1e3))),
                figure(median(outcome, |sample| Some(sample.idle?.pinging * 1e3))),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text + &legend(rows)
}

/// The median of a figure over the rounds that have it.
fn median(outcome: &Outcome, value: impl Fn(&ConnectionsSample) -> Option<f64>) -> Option<f64> {
    let samples = outcome.samples.iter().filter_map(|sample| match sample {
        Sample::Connections(sample) => value(sample),
        Sample::Messages(_) | Sample::Curve(_) | Sample::Bench(_) => None,
    });
    Spread::of(samples).map(|spread| spread.median)
}
