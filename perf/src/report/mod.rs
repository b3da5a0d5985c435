//! The report: Markdown tables of medians.

mod bench;
mod connections;
mod curve;
mod figures;
mod legend;
mod line;
mod messages;
mod stores;
mod variants;

use std::path::Path;

pub use curve::{rates, samples_at};
pub use figures::{figure, messages_of, spread};
pub use line::line;

use crate::machine::Machine;
use crate::outcome::Row;
use crate::plan::Plan;
use crate::scenario::{Contenders, Kind};

/// A plot that belongs to the report.
#[derive(Debug)]
pub struct Plot {
    /// The name of its file, beside that of the report.
    pub file: String,
    /// What it shows.
    pub title: String,
}

/// The whole report.
pub fn report(plan: &Plan, versions: &[String], machine: &Machine, rows: &[Row], plots: &[Plot]) -> String {
    let of = |wanted: fn(&Row) -> bool| rows.iter().filter(|row| wanted(row)).collect::<Vec<_>>();
    let ours = of(|row| row.scenario.is_of_variants());
    let stores = of(|row| row.scenario.is_of_stores());
    let messages = of(|row| {
        matches!(row.scenario.contenders, Contenders::Brokers) && matches!(row.scenario.kind, Kind::Messages(_))
    });
    let curves = of(|row| matches!(row.scenario.kind, Kind::Curve(..)));
    let connections = of(|row| matches!(row.scenario.kind, Kind::Connections(_)));
    let bench = of(|row| matches!(row.scenario.kind, Kind::Bench(_)));
    let mut text = heading(plan, versions, machine);
    if !messages.is_empty() {
        text += &messages::overview(&plan.brokers, &messages);
    }
    for plot in plots {
        text += &format!("\n![{}]({})\n", plot.title, plot.file);
    }
    if !messages.is_empty() {
        text += &messages::details(&messages);
    }
    text += &curve::tables(&curves);
    if !connections.is_empty() {
        text += &connections::details(&connections);
    }
    if !bench.is_empty() {
        text += &bench::details(&bench);
    }
    if !ours.is_empty() {
        text += &variants::details(&plan.cores, &ours);
    }
    if !stores.is_empty() {
        text += &stores::details(&stores);
    }
    text += &failures(rows);
    text += &configurations(plan);
    text
}

/// The name of a file beside the report `output`: that of the report, with an addition and another ending.
pub fn beside(output: &Path, addition: &str, ending: &str) -> String {
    format!("{}-{addition}.{ending}", output.file_stem().unwrap_or_default().to_string_lossy())
}

fn heading(plan: &Plan, versions: &[String], machine: &Machine) -> String {
    let mut text = format!(
        "# Brokers side by side\n\n{}; {}; {}. Brokers on core {}, one at a time and started anew for each round, generator on core {}; \
         loopback. Rounds of each: {}, interleaved; warm-up {:?}, window {:?}; medians.\n\n",
        machine.date,
        machine.processor,
        machine.kernel,
        plan.cores.broker,
        plan.cores.generator,
        plan.rounds,
        plan.timing.warm_up,
        plan.timing.window
    );
    for (broker, version) in plan.brokers.iter().zip(versions) {
        text += &format!("* {}: {version}\n", broker.name);
    }
    text
}

/// The rounds that gave nothing, if there are any.
fn failures(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for (broker, outcome) in row.brokers.iter().zip(&row.outcomes) {
            for failure in &outcome.failures {
                text += &format!("* {}, {}: {failure}\n", row.scenario.name, broker.name);
            }
        }
    }
    if text.is_empty() { text } else { format!("\n## Rounds that failed\n\n{text}") }
}

fn configurations(plan: &Plan) -> String {
    let mut text = String::new();
    for broker in &plan.brokers {
        if let Some(configuration) = broker.configuration() {
            text += &format!(
                "\n## Configuration of {}, but for scenarios with default limits\n\n```\n{configuration}```\n",
                broker.name
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::Broker;
    use crate::catalogue::named;
    use crate::cores::Cores;
    use crate::curve::tests::step;
    use crate::outcome::Outcome;
    use crate::sample::Sample;
    use crate::sample::tests::{connections, messages};
    use crate::timing::Timing;

    fn plan() -> Plan {
        Plan {
            scenarios: Vec::new(),
            brokers: ["a=run a", "b=run b"].map(|text| Broker::parse(text).unwrap()).to_vec(),
            rounds: 3,
            timing: Timing { warm_up: Duration::from_millis(500), window: Duration::from_secs(2) },
            embedded: None,
            disk_floor: None,
            cores: Cores { broker: 0, second: 1, generator: 1 },
        }
    }

    fn report_of(rows: &[Row]) -> String {
        let machine = Machine { processor: "cpu".to_owned(), kernel: "Linux".to_owned(), date: "today".to_owned() };
        report(&plan(), &["1.0".to_owned(), "2.0".to_owned()], &machine, rows, &[])
    }

    fn row(scenario: &str, outcomes: [Outcome; 2]) -> Row {
        Row { scenario: named(scenario).unwrap(), brokers: plan().brokers, outcomes: outcomes.into() }
    }

    fn outcome(samples: Vec<Sample>) -> Outcome {
        Outcome { samples, failures: Vec::new() }
    }

    #[test]
    fn medians_losses_and_failures_are_shown() {
        let samples = |delivered: [u64; 3]| delivered.map(|delivered| Sample::Messages(messages(delivered))).to_vec();
        let good = Outcome { samples: samples([1000, 1000, 1000]), failures: Vec::new() };
        let bad = Outcome { samples: samples([900, 0, 1000]), failures: vec!["it fell over".to_owned()] };
        let report = report_of(&[row("p2p_q1", [good, bad])]);
        for line in [
            "| scenario | a | b |\n|---|---:|---:|\n| p2p_q1 | 2.00 | 2.00 |\n",
            "| p2p_q1 | a | 2.00 | 2.00-2.00 | 2,000 | 0 | 50 | - | - | 4.00 | none |\n",
            "| p2p_q1 | b | 2.00 | 2.00-2.00 | 1,800 | 0 | 50 | - | - | 4.00 | 1100 of 3000 lost |\n",
            "* p2p_q1, b: it fell over\n",
            "* b: 2.0\n",
        ] {
            assert!(report.contains(line), "{line}\nis not in\n{report}");
        }
        assert!(!report.contains("## Connections"));
    }

    #[test]
    fn connections_have_a_table_of_their_own() {
        let rows = [row("conn", [outcome(vec![Sample::Connections(connections())]), Outcome::default()])];
        let report = report_of(&rows);
        assert!(
            report.contains(
                "| conn | a | 30.0 | 2,000 | - | - | 1.50 | - | - |\n| conn | b | - | - | - | - | - | - | - |\n"
            ),
            "{report}"
        );
        assert!(!report.contains("In detail"));
    }

    #[test]
    fn a_curve_has_a_line_for_each_rate_and_broker_that_reached_it() {
        let curve = |rates: &[u32]| outcome(vec![Sample::Curve(rates.iter().map(|rate| step(*rate)).collect())]);
        let report = report_of(&[row("curve_q1", [curve(&[1000, 2000]), curve(&[1000])])]);
        let lines: Vec<_> =
            report.lines().filter(|line| line.starts_with("| 1,000 |") || line.starts_with("| 2,000 |")).collect();
        assert_eq!(lines.len(), 3, "{report}");
        assert_eq!(lines[1], "| 1,000 | b | 2,000 | 2.00 | 100 | 100 | 100 | 100 | 100 | 10 | none |");
    }

    #[test]
    fn variants_are_compared_with_the_first_of_them() {
        let dear = |cost| messages_at(cost);
        let rows = [row("hooks_q0", [outcome(vec![dear(200)]), outcome(vec![dear(210)])])];
        let report = report_of(&rows);
        assert!(report.contains("| hooks_q0 | b | 2.10 | 2.10-2.10 | 1.050 |"), "{report}");
        assert!(!report.contains("In detail"));
    }

    /// A round in which each of 1000 deliveries took so many hundredths of a microsecond.
    fn messages_at(hundredths: u64) -> Sample {
        let broker_cpu = Duration::from_nanos(hundredths * 10 * 1000);
        Sample::Messages(crate::sample::MessagesSample { broker_cpu, ..messages(1000) })
    }

    #[test]
    fn plots_are_beside_the_report() {
        assert_eq!(beside(Path::new("perf/results/today.md"), "cost", "svg"), "today-cost.svg");
    }
}
