//! The plots of a report, as SVG.

mod axis;
mod bars;
mod legend;
mod lines;
mod svg;

use crate::broker::Broker;
use crate::outcome::Row;
use crate::report::{figure, messages_of, rates, samples_at, spread};
use crate::sample::{MessagesSample, Spread, micros};
use crate::scenario::{Contenders, Kind};
use crate::times::Latency;

use bars::Group;
use lines::{Line, Point, Words};

/// A plot.
#[derive(Debug)]
pub struct Picture {
    /// One word for the name of its file.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// SVG.
    pub text: String,
}

/// Every plot that the rows have figures for.
pub fn pictures(brokers: &[Broker], rows: &[Row]) -> Vec<Picture> {
    let of_brokers = rows.iter().filter(|row| matches!(row.scenario.contenders, Contenders::Brokers));
    let messages: Vec<&Row> = of_brokers.filter(|row| matches!(row.scenario.kind, Kind::Messages(_))).collect();
    let names: Vec<String> = brokers.iter().map(|broker| broker.name.clone()).collect();
    let cost = "Processor time of the broker per delivered message, µs (shorter is better)";
    let rate = "Deliveries per second, in closed loop (longer is better)";
    let closed: Vec<&Row> = messages.iter().copied().filter(|row| row.scenario.is_closed_loop()).collect();
    let mut pictures = Vec::new();
    let mut add = |name: &str, title: &str, text: Option<String>| {
        pictures.extend(text.map(|text| Picture { name: name.to_owned(), title: title.to_owned(), text }));
    };
    let groups = groups(&messages, MessagesSample::micros_per_delivery);
    add("cost", cost, bars::bars(cost, &names, &groups, |value| figure(Some(value))));
    let groups = self::groups(&closed, |sample| Some(sample.rate()));
    add("rate", rate, bars::bars(rate, &names, &groups, thousands));
    for row in rows.iter().filter(|row| matches!(row.scenario.kind, Kind::Curve(..))) {
        let title = format!("Latency against load ({})", row.scenario.name);
        add(row.scenario.name, &title, curve(&title, &names, row));
    }
    pictures
}

/// The medians of a figure.
fn groups(rows: &[&Row], value: fn(&MessagesSample) -> Option<f64>) -> Vec<Group> {
    let group = |row: &&Row| {
        let medians = row.outcomes.iter().map(|outcome| median(spread(&messages_of(outcome), value)));
        Group { name: row.scenario.name.to_owned(), values: medians.collect() }
    };
    rows.iter().map(group).collect()
}

/// Two lines per broker: the latency that half of the messages, and that 99 of 100 do not exceed.
fn curve(title: &str, brokers: &[String], row: &Row) -> Option<String> {
    let mut lines = Vec::new();
    for (broker, outcome) in row.outcomes.iter().enumerate() {
        for (dashed, time) in [(false, p50 as fn(Latency) -> f64), (true, p99)] {
            let point = |rate: u32| {
                let samples = samples_at(outcome, rate);
                let y = median(spread(&samples, |sample| Some(time(sample.latency?))))?;
                Some(Point { x: f64::from(rate), y, sure: samples.iter().all(|sample| sample.generator_kept_up()) })
            };
            let points = rates(&row.outcomes).into_iter().filter_map(point).collect();
            lines.push(Line { broker, dashed, points });
        }
    }
    let words = Words {
        title,
        notes: [
            "Half of the messages (solid) and 99 of 100 (dashed) took no longer, from the time at which they were due.",
            "Rings: the generator was late itself.",
        ],
        along: "messages per second offered",
        up: "µs",
    };
    lines::lines(words, brokers, &lines)
}

fn p50(latency: Latency) -> f64 {
    micros(latency.p50)
}

fn p99(latency: Latency) -> f64 {
    micros(latency.p99)
}

fn median(spread: Option<Spread>) -> Option<f64> {
    spread.map(|spread| spread.median)
}

/// A rate with three digits.
fn thousands(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.0} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::named;
    use crate::curve::tests::step;
    use crate::outcome::Outcome;
    use crate::sample::Sample;
    use crate::sample::tests::messages;

    #[test]
    fn there_is_a_picture_for_what_was_measured_and_no_other() {
        let brokers = [Broker::parse("a=run a").unwrap()];
        let row = |name, sample| {
            let outcomes = vec![Outcome { samples: vec![sample], failures: Vec::new() }];
            Row { scenario: named(name).unwrap(), brokers: brokers.to_vec(), outcomes }
        };
        let names = |rows: &[Row]| pictures(&brokers, rows).into_iter().map(|picture| picture.name).collect::<Vec<_>>();
        let curve = || row("curve_q1", Sample::Curve(vec![step(1000), step(2000)]));
        assert_eq!(names(&[curve()]), ["curve_q1"]);
        assert_eq!(names(&[row("lat_q1", Sample::Messages(messages(1000)))]), ["cost"]);
        let closed = row("p2p_q0", Sample::Messages(messages(1000)));
        assert_eq!(names(&[closed, curve()]), ["cost", "rate", "curve_q1"]);
        assert!(names(&[]).is_empty());
    }
}
