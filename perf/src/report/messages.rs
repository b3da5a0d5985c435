//! The tables of rounds with messages.

use super::figures::{faults, figure, messages_of, range, spread, whole};
use super::legend::legend;
use crate::broker::Broker;
use crate::outcome::{Outcome, Row};
use crate::sample::{MessagesSample, micros};

/// One row per scenario, one column per broker.
pub fn overview(brokers: &[Broker], rows: &[&Row]) -> String {
    let names: Vec<&str> = brokers.iter().map(|broker| broker.name.as_str()).collect();
    let mut text = format!(
        "\n## Processor time of the broker per delivered message, µs\n\n| scenario | {} |\n|---|{}\n",
        names.join(" | "),
        "---:|".repeat(names.len())
    );
    for row in rows {
        let cell = |outcome: &Outcome| {
            let spread = spread(&messages_of(outcome), MessagesSample::micros_per_delivery);
            figure(spread.map(|spread| spread.median))
        };
        let cells: Vec<String> = row.outcomes.iter().map(cell).collect();
        text += &format!("| {} | {} |\n", row.scenario.name, cells.join(" | "));
    }
    text
}

/// One row per scenario and broker, and what the scenarios are.
pub fn details(rows: &[&Row]) -> String {
    let mut text = "\n## In detail\n\n\
        | scenario | broker | µs/out | lowest-highest | deliveries/s | broker % | generator % | p50 µs | p99 µs | peak MiB | wrong |\n\
        |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    for row in rows {
        for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
            let samples = messages_of(outcome);
            let cost = spread(&samples, MessagesSample::micros_per_delivery);
            let median =
                |value: &dyn Fn(&MessagesSample) -> Option<f64>| spread(&samples, value).map(|spread| spread.median);
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(cost.map(|cost| cost.median)),
                range(cost),
                whole(median(&|sample| Some(sample.rate()))),
                whole(median(&|sample| Some(sample.broker_load()))),
                whole(median(&|sample| Some(sample.generator_load()))),
                whole(median(&|sample| Some(micros(sample.latency?.p50)))),
                whole(median(&|sample| Some(micros(sample.latency?.p99)))),
                figure(median(&|sample| Some(sample.peak_resident as f64 / 1024.0))),
                faults(&samples),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text + &legend(rows)
}
