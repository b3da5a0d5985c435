//! The table in which moormq is measured against itself.

use super::figures::{faults, figure, messages_of, range, spread, whole};
use super::legend::legend;
use crate::cores::Cores;
use crate::outcome::Row;
use crate::sample::MessagesSample;

/// One row per scenario and variant, and what the scenarios are.
pub fn details(cores: &Cores, rows: &[&Row]) -> String {
    let mut text = "\n## moormq against itself\n\n\
        | scenario | variant | µs/out | lowest-highest | times the first | deliveries/s | wrong |\n\
        |---|---|---:|---:|---:|---:|---|\n"
        .to_owned();
    for row in rows {
        let cost = |outcome| spread(&messages_of(outcome), MessagesSample::micros_per_delivery);
        let first = row.outcomes.first().and_then(cost);
        for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
            let samples = messages_of(outcome);
            let own = cost(outcome);
            let times = own.zip(first).map(|(own, first)| format!("{:.3}", own.median / first.median));
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(own.map(|own| own.median)),
                range(own),
                times.unwrap_or_else(|| "-".to_owned()),
                whole(spread(&samples, |sample| Some(sample.rate())).map(|rate| rate.median)),
                faults(&samples),
            ];
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    if cores.second == cores.generator {
        text += "\nThere is no third core: a second shard on a core of its own shares that of the generator. Processor time is the broker's \
                 own, wherever it runs, but how much a thread finds to do when it runs changes with what else runs there: the line with one \
                 shard on the generator's core shows how much that is, and two shards on one core run beside the generator as one shard does.\n";
    }
    text + &legend(rows)
}
