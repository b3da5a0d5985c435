//! The figures as a page of Markdown.

use std::fmt::Write;
use std::time::Duration;

use crate::args::Args;
use crate::broker::MoveFigures;
use crate::offline::Offline;
use crate::online::Online;
use crate::sequence::Faults;
use moormq_perf_shared::under_test::machine;

pub fn page(args: &Args, version: &str, offline: &Offline, online: &Online) -> String {
    let mut page = String::new();
    let mut line = |text: String| {
        page.push_str(&text);
        page.push('\n');
    };
    line("# Sessions that move to another shard\n".to_owned());
    line(format!("{}\n", machine(version)));
    line(format!(
        "One slot with {} sessions, {} rounds. Broker: two shards on the cores of the machine, which the generator shares. Times are in \
         milliseconds.\n",
        args.sessions, args.rounds
    ));
    line(format!("## Offline, {} messages of {} bytes waiting for each session\n", args.queued, args.payload));
    line(moves(&[("nobody comes back", &offline.quiet), ("some come back", &offline.moves)]));
    line(format!(
        "{} clients come back while the slot moves, and at rest; from their connect on:\n",
        args.reconnects.min(args.sessions)
    ));
    line(waits(&[
        ("at rest: CONNACK", &offline.at_rest.connack),
        ("at rest: first message", &offline.at_rest.first),
        ("during a move: CONNACK", &offline.during.connack),
        ("during a move: first message", &offline.during.first),
    ]));
    line(faults(&offline.faults, offline.messages));
    let streams = args.streams.min(args.sessions);
    line(format!("## Online, {streams} clients with {} messages/s, the others with 2, all send 2\n", args.rate));
    line(moves(&[("all online", &online.moves)]));
    line("Per client and round: the longest time between two messages of a stream, and how late the latest message was:\n".to_owned());
    line(waits(&[
        ("at rest: longest gap", &online.at_rest.gaps),
        ("at rest: to the client", &online.at_rest.to_clients),
        ("at rest: from the client", &online.at_rest.from_clients),
        ("during a move: longest gap", &online.during.gaps),
        ("during a move: to the client", &online.during.to_clients),
        ("during a move: from the client", &online.during.from_clients),
    ]));
    line(faults(&online.faults, online.messages));
    page
}

fn moves(rows: &[(&str, &[MoveFigures])]) -> String {
    let mut table =
        "| moves | sessions | median | longest | CPU of the broker, median |\n|---|---:|---:|---:|---:|\n".to_owned();
    for (name, moves) in rows {
        let mut took: Vec<Duration> = moves.iter().map(|one| one.took).collect();
        let mut cpu: Vec<Duration> = moves.iter().map(|one| one.cpu).collect();
        let sessions = moves.iter().map(|one| one.sessions).max().unwrap_or_default();
        let (median, longest, cpu) = (part(&mut took, 0.5), part(&mut took, 1.0), part(&mut cpu, 0.5));
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {name} | {sessions} | {median} | {longest} | {cpu} |");
    }
    table
}

fn waits(rows: &[(&str, &[Duration])]) -> String {
    let mut table = "| | clients | p50 | p99 | max |\n|---|---:|---:|---:|---:|\n".to_owned();
    for (name, waits) in rows {
        let mut waits = waits.to_vec();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| part(&mut waits, share));
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {name} | {} | {p50} | {p99} | {max} |", waits.len());
    }
    table
}

/// The value that this share of all does not exceed, in milliseconds.
fn part(values: &mut [Duration], share: f64) -> String {
    values.sort_unstable();
    let at = (values.len() as f64 * share).ceil() as usize;
    let value = values.get(at.saturating_sub(1));
    value.map_or("-".to_owned(), |value| format!("{:.1}", value.as_secs_f64() * 1000.0))
}

fn faults(faults: &Faults, messages: u64) -> String {
    let Faults { lost, doubled, reordered } = faults;
    format!("Of {messages} messages {lost} were lost, {doubled} came twice, {reordered} out of order.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_sorted_values() {
        let mut values: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| part(&mut values, share)), ["50.0", "99.0", "100.0"]);
        assert_eq!(part(&mut [], 0.5), "-");
    }
}
