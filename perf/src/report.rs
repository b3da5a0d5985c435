//! The report: Markdown tables of medians, and a line per round while they run.

use std::fmt::Write;

use crate::compare::{Outcome, Plan, Row};
use crate::machine::Machine;
use crate::sample::{ConnectionsSample, MessagesSample, Sample, Spread, micros};
use crate::scenario::Kind;

/// A round in one line.
pub fn line(sample: &Sample) -> String {
    match sample {
        Sample::Messages(sample) => {
            let mut line = format!(
                "{} µs/out  {:.0}/s  broker {:.0} %, generator {:.0} %",
                figure(sample.micros_per_delivery()),
                sample.rate(),
                sample.broker_load(),
                sample.generator_load(),
            );
            if let Some(latency) = sample.latency {
                let [p50, p99, max] = [latency.p50, latency.p99, latency.max].map(micros);
                let _ = write!(line, "  p50 {p50:.0} p99 {p99:.0} max {max:.0} µs");
            }
            let faults = faults(&[sample]);
            if faults != "none" {
                let _ = write!(line, "  {faults}");
            }
            line
        }
        Sample::Connections(sample) => format!(
            "{} µs/connect  {:.0}/s  {} KiB each",
            figure(Some(sample.micros_per_connect())),
            sample.rate(),
            figure(Some(sample.resident_each()))
        ),
    }
}

/// The whole report.
pub fn report(plan: &Plan, versions: &[String], machine: &Machine, rows: &[Row]) -> String {
    let mut text = heading(plan, versions, machine);
    let (messages, connections): (Vec<&Row>, Vec<&Row>) =
        rows.iter().partition(|row| matches!(row.scenario.kind, Kind::Messages(_)));
    if !messages.is_empty() {
        text += &overview(plan, &messages);
        text += &message_details(plan, &messages);
    }
    if !connections.is_empty() {
        text += &connection_details(plan, &connections);
    }
    text += &failures(plan, rows);
    text += &configurations(plan);
    text
}

fn heading(plan: &Plan, versions: &[String], machine: &Machine) -> String {
    let mut text = format!(
        "# Brokers side by side\n\n{}; {}; {}. Brokers on core {}, one at a time and started anew for each round, generator on core {}; \
         loopback. Rounds of each: {}, interleaved; warm-up {:?}, window {:?}; medians.\n\n",
        machine.date,
        machine.processor,
        machine.kernel,
        plan.broker_core,
        plan.generator_core,
        plan.rounds,
        plan.timing.warm_up,
        plan.timing.window
    );
    for (broker, version) in plan.brokers.iter().zip(versions) {
        text += &format!("* {}: {version}\n", broker.name);
    }
    text
}

/// One row per scenario, one column per broker.
fn overview(plan: &Plan, rows: &[&Row]) -> String {
    let names: Vec<&str> = plan.brokers.iter().map(|broker| broker.name.as_str()).collect();
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
fn message_details(plan: &Plan, rows: &[&Row]) -> String {
    let mut text = "\n## In detail\n\n\
        | scenario | broker | µs/out | lowest-highest | deliveries/s | broker % | generator % | p50 µs | p99 µs | peak MiB | wrong |\n\
        |---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|\n"
        .to_owned();
    for row in rows {
        for (broker, outcome) in plan.brokers.iter().zip(&row.outcomes) {
            let samples = messages_of(outcome);
            let cost = spread(&samples, MessagesSample::micros_per_delivery);
            let median =
                |value: &dyn Fn(&MessagesSample) -> Option<f64>| spread(&samples, value).map(|spread| spread.median);
            let cells = [
                row.scenario.name.to_owned(),
                broker.name.clone(),
                figure(cost.map(|cost| cost.median)),
                cost.map_or("-".to_owned(), |cost| format!("{}-{}", figure(Some(cost.min)), figure(Some(cost.max)))),
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

fn connection_details(plan: &Plan, rows: &[&Row]) -> String {
    let mut text = "\n## Connections\n\n\
        | scenario | broker | µs/connect | connects/s | KiB per idle connection |\n\
        |---|---|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        for (broker, outcome) in plan.brokers.iter().zip(&row.outcomes) {
            let samples = outcome.samples.iter().filter_map(|sample| match sample {
                Sample::Connections(sample) => Some(sample),
                Sample::Messages(_) => None,
            });
            let median = |value: fn(&ConnectionsSample) -> f64| {
                Spread::of(samples.clone().map(value)).map(|spread| spread.median)
            };
            text += &format!(
                "| {} | {} | {} | {} | {} |\n",
                row.scenario.name,
                broker.name,
                figure(median(ConnectionsSample::micros_per_connect)),
                whole(median(ConnectionsSample::rate)),
                figure(median(ConnectionsSample::resident_each)),
            );
        }
    }
    text + &legend(rows)
}

fn legend(rows: &[&Row]) -> String {
    let lines: String = rows.iter().map(|row| format!("* {}: {}\n", row.scenario.name, row.scenario.about)).collect();
    format!("\n{lines}")
}

/// The rounds that gave nothing, if there are any.
fn failures(plan: &Plan, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        for (broker, outcome) in plan.brokers.iter().zip(&row.outcomes) {
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
            text += &format!("\n## Configuration of {}\n\n```\n{configuration}```\n", broker.name);
        }
    }
    text
}

fn messages_of(outcome: &Outcome) -> Vec<&MessagesSample> {
    let messages = outcome.samples.iter().filter_map(|sample| match sample {
        Sample::Messages(sample) => Some(sample),
        Sample::Connections(_) => None,
    });
    messages.collect()
}

fn spread(samples: &[&MessagesSample], value: impl Fn(&MessagesSample) -> Option<f64>) -> Option<Spread> {
    Spread::of(samples.iter().filter_map(|sample| value(sample)))
}

/// What went wrong, all rounds together: losses first.
fn faults(samples: &[&MessagesSample]) -> String {
    let sum = |count: fn(&MessagesSample) -> u64| samples.iter().map(|sample| count(sample)).sum::<u64>();
    let expected = sum(|sample| sample.expected);
    let mut faults = Vec::new();
    let lost = sum(MessagesSample::lost);
    if lost > 0 {
        faults.push(format!("{lost} of {expected} lost"));
    }
    for (count, what) in [
        (sum(|sample| sample.tally.duplicated), "duplicated"),
        (sum(|sample| sample.tally.reordered), "reordered"),
        (sum(|sample| sample.tally.stray), "stray"),
        (sum(|sample| sample.unacknowledged), "unacknowledged"),
        (sum(|sample| sample.given_up), "given up"),
    ] {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    match (samples.is_empty(), faults.is_empty()) {
        (true, _) => "no figures".to_owned(),
        (false, true) => "none".to_owned(),
        (false, false) => faults.join(", "),
    }
}

/// A figure with about three digits.
fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 9.995 => format!("{value:.2}"),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// A whole figure, its thousands apart.
fn whole(value: Option<f64>) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::Broker;
    use crate::run::Timing;
    use crate::sample::tests::messages;
    use crate::scenario::named;

    fn plan() -> Plan {
        Plan {
            scenarios: Vec::new(),
            brokers: ["a=run a", "b=run b"].map(|text| Broker::parse(text).unwrap()).to_vec(),
            rounds: 3,
            timing: Timing { warm_up: Duration::from_millis(500), window: Duration::from_secs(2) },
            broker_core: 0,
            generator_core: 1,
        }
    }

    fn report_of(rows: &[Row]) -> String {
        let machine = Machine { processor: "cpu".to_owned(), kernel: "Linux".to_owned(), date: "today".to_owned() };
        report(&plan(), &["1.0".to_owned(), "2.0".to_owned()], &machine, rows)
    }

    #[test]
    fn medians_losses_and_failures_are_shown() {
        let samples = |delivered: [u64; 3]| delivered.map(|delivered| Sample::Messages(messages(delivered))).to_vec();
        let good = Outcome { samples: samples([1000, 1000, 1000]), failures: Vec::new() };
        let bad = Outcome { samples: samples([900, 0, 1000]), failures: vec!["it fell over".to_owned()] };
        let report = report_of(&[Row { scenario: named("p2p_q1").unwrap(), outcomes: vec![good, bad] }]);
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
        let sample = ConnectionsSample {
            count: 1000,
            wall: Duration::from_secs(1),
            broker_cpu: Duration::from_millis(20),
            resident_before: 1000,
            resident_after: 2500,
        };
        let outcomes =
            vec![Outcome { samples: vec![Sample::Connections(sample)], failures: Vec::new() }, Outcome::default()];
        let report = report_of(&[Row { scenario: named("conn").unwrap(), outcomes }]);
        assert!(report.contains("| conn | a | 20.0 | 1,000 | 1.50 |\n| conn | b | - | - | - |\n"), "{report}");
        assert!(!report.contains("In detail"));
    }

    #[test]
    fn figures_are_short() {
        for (value, text) in [(0.247, "0.25"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.4, "1234")] {
            assert_eq!(figure(Some(value)), text);
        }
        for (value, text) in [(7.4, "7"), (999.0, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(whole(Some(value)), text);
        }
    }
}
