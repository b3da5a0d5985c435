//! Rates as `$SYS` shows them: how many in a minute, as an average over the last one, five and fifteen minutes in which what
//! is longer ago counts less, as the load of a Unix system.

use std::time::Duration;

use super::counters::Counters;

/// The averages' names and the minutes they look back.
const SPANS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

/// What averages are kept of: the name, and the count.
type Kind = (&'static str, fn(&Counters) -> u64);

const KINDS: [Kind; 8] = [
    ("messages/received", Counters::packets_in),
    ("messages/sent", Counters::packets_out),
    ("publish/received", |counters| counters.messages_in),
    ("publish/sent", |counters| counters.messages_out),
    ("publish/dropped", |counters| counters.dropped.iter().sum()),
    ("bytes/received", |counters| counters.bytes_in),
    ("bytes/sent", |counters| counters.bytes_out),
    ("sockets", |counters| counters.accepted),
];

/// The averages, and the counts that they were last made of; of the shard that publishes `$SYS`.
#[derive(Default)]
pub(super) struct LoadAverages {
    counts: [u64; KINDS.len()],
    averages: [[f64; SPANS.len()]; KINDS.len()],
}

impl LoadAverages {
    /// Takes in the counts of the whole broker, `interval` after the last time.
    pub fn update(&mut self, total: &Counters, interval: Duration) {
        let minutes = interval.as_secs_f64() / 60.0;
        for ((counted, averages), (_, count)) in self.counts.iter_mut().zip(&mut self.averages).zip(KINDS) {
            let new = count(total);
            let rate = new.saturating_sub(*counted) as f64 / minutes;
            *counted = new;
            for (average, (_, span)) in averages.iter_mut().zip(SPANS) {
                *average += (rate - *average) * (1.0 - (-minutes / span).exp());
            }
        }
    }

    /// Topics and values, in order.
    pub fn lines(&self) -> impl Iterator<Item = (String, String)> + '_ {
        KINDS.iter().zip(&self.averages).flat_map(|((kind, _), averages)| {
            let line = move |(average, (span, _)): (&f64, &(&str, f64))| {
                (format!("$SYS/broker/load/{kind}/{span}"), format!("{average:.2}"))
            };
            averages.iter().zip(&SPANS).map(line)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(averages: &LoadAverages, topic: &str) -> f64 {
        let found = averages.lines().find(|(name, _)| name == topic).expect("it is there");
        found.1.parse().expect("a number")
    }

    #[test]
    fn a_steady_rate_is_reached_sooner_over_a_minute_than_over_fifteen() {
        let (mut averages, mut total) = (LoadAverages::default(), Counters::default());
        for _ in 0..9 {
            total.messages_in += 100;
            averages.update(&total, Duration::from_secs(20));
        }
        let [one, five, fifteen] = ["1min", "5min", "15min"]
            .map(|span| value(&averages, &format!("$SYS/broker/load/publish/received/{span}")));
        // 1 - e^-3, 1 - e^-0.6 and 1 - e^-0.2 of 300 a minute, after three minutes.
        assert_eq!([one, five, fifteen].map(f64::round), [285.0, 135.0, 54.0]);
        assert_eq!(value(&averages, "$SYS/broker/load/messages/received/1min"), one, "PUBLISH packets among others");
        (0..60).for_each(|_| averages.update(&total, Duration::from_secs(20)));
        assert_eq!(value(&averages, "$SYS/broker/load/publish/received/1min"), 0.0);
    }

    #[test]
    fn every_average_has_a_topic_of_its_own() {
        let averages = LoadAverages::default();
        let topics: std::collections::BTreeSet<_> = averages.lines().map(|(topic, _)| topic).collect();
        assert_eq!(topics.len(), KINDS.len() * SPANS.len());
    }
}
