//! The figures as a page of Markdown.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use moormq_perf_shared::under_test::machine;

use crate::args::{Args, Kind};
use crate::broker::Usage;
use crate::load::Outcome;
use crate::pinger::Pings;

/// What one broker came to in one round.
pub struct Round {
    pub kind: Kind,
    /// How long it took to make the sessions.
    pub making: Duration,
    pub load: Outcome,
    pub pings: Option<Pings>,
    /// What it had taken when it had been left alone for a while.
    pub rest: Usage,
    /// Warnings and errors in its log.
    pub warnings: Vec<String>,
}

/// The page.
pub fn page(args: &Args, version: &str, rounds: &[Round]) -> String {
    let mut page = format!(
        "# Messages for clients that are away\n\n{}\n\n{} sessions with a subscription each, whose clients are away; {} messages of {} bytes, {} a second on \
         schedule by {} publishers, QoS 1; {} shards with {}, durability fsynced. Brokers were started anew for each round, rounds interleaved.\n\n",
        machine(version),
        args.sessions,
        u64::from(args.each()) * u64::from(args.sessions),
        args.payload,
        args.rate,
        args.publishers,
        args.broker_cores.len(),
        args.store.journals(),
    );
    page.push_str(
        "| broker | messages/s | MB/s | CPU µs/message | PUBACK p50, ms | p99, ms | most, ms | bytes written/message | store, MiB | sessions made in, s |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    rounds.iter().for_each(|round| page.push_str(&line(args, round)));
    page.push_str(&growth(rounds));
    if rounds.iter().any(|round| round.pings.is_some()) {
        page.push_str(&pings(rounds));
    }
    for Round { kind, warnings, .. } in rounds {
        for warning in warnings {
            // Writing to a string does not fail.
            let _ = writeln!(page, "\n{}: `{warning}`", kind.name());
        }
    }
    page
}

/// The most important lines of a round, while others are to come.
pub fn figures(args: &Args, round: &Round) -> String {
    let pings = round.pings.as_ref().map(|pings| ping_line(round.kind, pings));
    line(args, round) + &pings.unwrap_or_default()
}

fn line(args: &Args, round: &Round) -> String {
    let Outcome { before, marks, times } = &round.load;
    let Some((messages, end)) = marks.last() else { return String::new() };
    let rate = *messages as f64 / (end.at - before.at).as_secs_f64();
    format!(
        "| {} | {rate:.0} | {:.1} | {:.2} | {} | {} | {} | {:.0} | {:.0} | {:.1} |\n",
        round.kind.name(),
        rate * f64::from(args.payload) / 1e6,
        (end.cpu - before.cpu).as_secs_f64() * 1e6 / *messages as f64,
        millis(times.value_at_quantile(0.5)),
        millis(times.value_at_quantile(0.99)),
        millis(times.max()),
        (round.rest.written - before.written) as f64 / *messages as f64,
        mib(round.rest.stored),
        round.making.as_secs_f64(),
    )
}

/// What there is when there are so many messages.
fn growth(rounds: &[Round]) -> String {
    let mut text = "\n| broker | messages | after, s | resident, MiB | CPU µs/message since the line before | bytes written/message since | store, MiB |\n\
                    |---|---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for Round { kind, load: Outcome { before, marks, .. }, rest, .. } in rounds {
        let mut last = (0, *before);
        for (messages, usage) in [(0, *before)].iter().chain(marks) {
            let more = (messages - last.0).max(1) as f64;
            let _ = writeln!(
                text,
                "| {} | {messages} | {:.1} | {:.0} | {:.2} | {:.0} | {:.0} |",
                kind.name(),
                (usage.at - before.at).as_secs_f64(),
                usage.resident as f64 / 1024.0,
                (usage.cpu - last.1.cpu).as_secs_f64() * 1e6 / more,
                (usage.written - last.1.written) as f64 / more,
                mib(usage.stored),
            );
            last = (*messages, *usage);
        }
        let _ = writeln!(
            text,
            "| {} | at rest | {:.1} | {:.0} | | | {:.0} |",
            kind.name(),
            (rest.at - before.at).as_secs_f64(),
            rest.resident as f64 / 1024.0,
            mib(rest.stored),
        );
    }
    text
}

fn pings(rounds: &[Round]) -> String {
    let mut text =
        "\nPINGREQ to PINGRESP, ms; beside it how late the client woke up to ask, which is the machine's.\n\n\
                    | broker | pings | p50 | p99 | p99.9 | p99.99 | most | woke up late: p99.9 | p99.99 | most |\n\
                    |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
    let of_all = rounds.iter().filter_map(|round| Some((round.kind, round.pings.as_ref()?)));
    of_all.clone().for_each(|(kind, pings)| text.push_str(&ping_line(kind, pings)));
    text.push_str("\nThe slowest, and when:\n\n");
    for (kind, Pings { slowest, .. }) in of_all {
        let each =
            slowest.iter().map(|(at, took)| format!("{:.1} ms at {:.1} s", took.as_secs_f64() * 1e3, at.as_secs_f64()));
        let _ = writeln!(text, "* {}: {}", kind.name(), each.collect::<Vec<_>>().join(", "));
    }
    text
}

fn ping_line(kind: Kind, Pings { times, lateness, .. }: &Pings) -> String {
    let of = |times: &Histogram<u64>, quantiles: &[f64]| {
        let at = quantiles.iter().map(|quantile| millis(times.value_at_quantile(*quantile)));
        at.chain([millis(times.max())]).collect::<Vec<_>>().join(" | ")
    };
    let (took, late) = (of(times, &[0.5, 0.99, 0.999, 0.9999]), of(lateness, &[0.999, 0.9999]));
    format!("| {} | {} | {took} | {late} |\n", kind.name(), times.len())
}

fn millis(nanos: u64) -> String {
    format!("{:.2}", nanos as f64 / 1e6)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
