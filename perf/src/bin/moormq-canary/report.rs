//! The figures as a page of Markdown.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::canary::{Sample, Samples};
use crate::scene::Window;
use moormq_perf_shared::under_test::machine;

/// What is a long time for a canary.
const LONG: Duration = Duration::from_millis(10);

/// What the canary found in one window.
pub struct Figures {
    pub what: &'static str,
    ping: [Duration; 3],
    publish: [Duration; 3],
    broker_core: Duration,
    client_core: Duration,
    waited: Duration,
    took: Duration,
    peak_mib: u64,
    outcome: String,
}

impl Figures {
    /// What the canary found in this window.
    pub fn of(window: Window, samples: &Samples, peak_mib: u64) -> Figures {
        let of = |samples| shares(samples, window.from, window.until);
        Figures {
            what: window.what,
            ping: of(&samples.pings),
            publish: of(&samples.publishes),
            broker_core: of(&samples.broker_core)[2],
            client_core: of(&samples.client_core)[2],
            waited: window.waited,
            took: window.until - window.from,
            peak_mib,
            outcome: window.outcome,
        }
    }
}

/// When the canary was kept waiting for long in a window, and for how long: for whoever wants to know why.
pub fn stalls(window: &Window, samples: &Samples) -> String {
    let mut text = format!("  {}:", window.what);
    let mut stalled_until = window.from;
    for sample in samples.pings.iter().filter(|sample| (window.from..=window.until).contains(&sample.due)) {
        if sample.took > LONG && sample.due > stalled_until {
            stalled_until = sample.due + sample.took;
            // Writing to a string does not fail.
            let _ = write!(text, " {} ms at {:.3} s,", ms(sample.took), (sample.due - window.from).as_secs_f64());
        }
    }
    text.pop();
    text
}

/// p50, p99 and the longest of the samples that were due between these times.
fn shares(samples: &[Sample], from: Instant, until: Instant) -> [Duration; 3] {
    let mut took: Vec<Duration> =
        samples.iter().filter(|sample| (from..=until).contains(&sample.due)).map(|sample| sample.took).collect();
    took.sort_unstable();
    [0.5, 0.99, 1.0].map(|share| {
        let at = (took.len() as f64 * share).ceil() as usize;
        took.get(at.saturating_sub(1)).copied().unwrap_or_default()
    })
}

/// The page. Of each window the rounds in a row.
pub fn page(args: &Args, version: &str, goes_first: bool, rounds: &[Vec<Figures>]) -> String {
    let mut page = "# A client that behaves, while others ask for a lot\n\n".to_owned();
    let first = if goes_first { "goes before all else there" } else { "shares that with all else on the machine" };
    page += &format!(
        "{}\nA shard on each of cores {:?}, which {first}; the clients on core {}. {} rounds{}; the median over the rounds, and in parentheses the worst. \
         Milliseconds from when the canary should have asked, every 2 ms, until the answer.\n\n",
        machine(version),
        args.broker_cores,
        args.client_core,
        args.rounds,
        if args.divide > 1 { format!(", all counts divided by {}", args.divide) } else { String::new() }
    );
    page += "| meanwhile | ping p50 | p99 | max | publish p50 | p99 | max | own sleep too long, broker's core | clients' core | broker waited for a core | took, s | peak MiB | |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|\n";
    for figures in rounds {
        let cell = |of: &dyn Fn(&Figures) -> Duration| {
            let mut all: Vec<Duration> = figures.iter().map(of).collect();
            all.sort_unstable();
            let (median, worst) = (all[(all.len() - 1) / 2], all[all.len() - 1]);
            if all.len() > 1 { format!("{} ({})", ms(median), ms(worst)) } else { ms(median) }
        };
        let mut line = format!("| {} |", figures[0].what);
        for share in 0..3 {
            line += &format!(" {} |", cell(&|figures| figures.ping[share]));
        }
        for share in 0..3 {
            line += &format!(" {} |", cell(&|figures| figures.publish[share]));
        }
        line += &format!(" {} | {} |", cell(&|figures| figures.broker_core), cell(&|figures| figures.client_core));
        line += &format!(" {} |", cell(&|figures| figures.waited));
        let took = figures.iter().map(|figures| figures.took.as_secs_f64()).fold(0.0, f64::max);
        let peak = figures.iter().map(|figures| figures.peak_mib).max().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(page, "{line} {took:.1} | {peak} | {} |", figures[figures.len() - 1].outcome);
    }
    page
}

fn ms(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_window_counts() {
        let start = Instant::now();
        let sample = |at| Sample { due: start + Duration::from_millis(at), took: Duration::from_millis(at) };
        let samples: Vec<Sample> = (0..1000).map(sample).collect();
        let until = start + Duration::from_millis(200);
        let [p50, p99, longest] = shares(&samples, start + Duration::from_millis(101), until);
        assert_eq!([p50, p99, longest].map(|value| value.as_millis()), [150, 199, 200]);
        assert_eq!(shares(&[], start, until), [Duration::ZERO; 3]);
    }
}
