//! Times that were taken, and their distribution.

use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time that is distinguished from longer ones.
const LONGEST: Duration = Duration::from_secs(600);

/// Times from publish to delivery, or from question to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// Half of them were no longer.
    pub p50: Duration,
    /// 90 of 100 were no longer.
    pub p90: Duration,
    /// 99 of 100 were no longer.
    pub p99: Duration,
    /// 999 of 1000 were no longer.
    pub p999: Duration,
    /// None was longer.
    pub max: Duration,
}

impl Latency {
    /// The distribution of these times; none if there are none.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Option<Latency> {
        let mut histogram = Histogram::<u64>::new_with_max(LONGEST.as_nanos() as u64, 3).ok()?;
        for time in times {
            histogram.saturating_record(time.as_nanos() as u64);
        }
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        let max = Duration::from_nanos(histogram.max());
        (!histogram.is_empty()).then(|| Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

/// Times, each with the moment at which it should have begun. That moment, not the one at which things did begin, decides what belongs to
/// a window: what a broker holds up counts in full.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<(u64, u64)>);

impl Times {
    /// Adds a time, in nanoseconds, which should have begun at `due` since the start.
    #[inline]
    pub fn add(&mut self, due: u64, took: u64) {
        self.0.push((due, took));
    }

    /// The distribution of those that were due in `window`; none if there are none.
    pub fn within(&self, window: Range<Duration>) -> Option<Latency> {
        let in_window = self.0.iter().filter(|(due, _)| window.contains(&Duration::from_nanos(*due)));
        Latency::of(in_window.map(|(_, took)| Duration::from_nanos(*took)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_due_in_the_window_counts() {
        let second = 1_000_000_000;
        let mut times = Times::default();
        (1..=1000).for_each(|each| times.add(second + each, each * 1000));
        times.add(second - 1, second);
        times.add(2 * second, second);
        let latency = times.within(Duration::from_secs(1)..Duration::from_secs(2)).unwrap();
        let close = |duration: Duration, micros: u128| duration.as_micros().abs_diff(micros) <= 1;
        let Latency { p50, p90, p99, p999, max } = latency;
        assert!(close(p50, 500) && close(p90, 900) && close(p99, 990) && close(p999, 999), "{latency:?}");
        assert!(close(max, 1000), "{latency:?}");
        assert_eq!(times.within(Duration::ZERO..Duration::from_millis(1)), None);
    }
}
