//! The table of what is kept in memory and what on disk.

use super::figures::{faults, figure, messages_of, range, spread, whole};
use super::legend::legend;
use crate::outcome::Row;
use crate::sample::{MessagesSample, micros};

/// One row per scenario and broker, and what the scenarios are.
pub fn details(rows: &[&Row]) -> String {
    let mut text = "\n## In memory and on disk\n\n\
        | scenario | broker | µs/out | lowest-highest | times memory | deliveries/s | times memory | p50 µs | p99 µs | p50 µs to the \
        acknowledgement | p99 µs | bytes/out | commits/s | peak MiB | wrong |\n\
        |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    for row in rows {
        let of = |at: usize, value: &dyn Fn(&MessagesSample) -> Option<f64>| {
            spread(&messages_of(row.outcomes.get(at)?), value).map(|spread| spread.median)
        };
        let cost = |sample: &MessagesSample| sample.micros_per_delivery();
        let rate = |sample: &MessagesSample| Some(sample.rate());
        for (at, broker) in row.brokers.iter().enumerate() {
            let samples = messages_of(&row.outcomes[at]);
            let median = |value: &dyn Fn(&MessagesSample) -> Option<f64>| of(at, value);
            let times = |value: &dyn Fn(&MessagesSample) -> Option<f64>| {
                let times = of(at, value).zip(of(0, value)).map(|(own, first)| format!("{:.2}", own / first));
                times.unwrap_or_else(|| "-".to_owned())
            };
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(median(&cost)),
                range(spread(&samples, cost)),
                times(&cost),
                whole(median(&rate)),
                times(&rate),
                whole(median(&|sample| Some(micros(sample.latency?.p50)))),
                whole(median(&|sample| Some(micros(sample.latency?.p99)))),
                whole(median(&|sample| Some(micros(sample.acknowledged.as_deref()?.p50)))),
                whole(median(&|sample| Some(micros(sample.acknowledged.as_deref()?.p99)))),
                whole(median(&MessagesSample::bytes_each)),
                whole(median(&MessagesSample::commits_a_second)),
                figure(median(&|sample| Some(sample.peak_resident as f64 / 1024.0))),
                faults(&samples),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text += "\nThe floor of the disk writes what the line above it wrote, as much at a time, as often and in the same way, and does nothing else: its \
             processor time is given per message of that line, its times are those of a write.\n";
    text + &legend(rows)
}
