//! What one round of a scenario gave.

use std::time::Duration;

use crate::deliveries::Tally;
use crate::times::Latency;
use crate::writes::Writes;

/// What one round gave.
#[derive(Clone, Debug)]
pub enum Sample {
    /// Messages flowed.
    Messages(MessagesSample),
    /// Clients connected and stayed.
    Connections(ConnectionsSample),
    /// Messages flowed at one rate after the other, up to the first that was too much.
    Curve(Vec<Step>),
    /// `emqtt_bench` made the load.
    Bench(BenchSample),
}

/// What a round of messages gave. The window is the part of the round that was measured; counts of what went wrong are those of the
/// whole round, warm-up and drain included.
#[derive(Clone, Debug)]
pub struct MessagesSample {
    /// How long the window was.
    pub wall: Duration,
    /// Deliveries in the window.
    pub delivered: u64,
    /// Processor time of the broker in the window.
    pub broker_cpu: Duration,
    /// Processor time of the generator in the window.
    pub generator_cpu: Duration,
    /// The most memory that the broker ever had resident, in KiB.
    pub peak_resident: u64,
    /// What was counted in the whole round.
    pub tally: Tally,
    /// Deliveries that were due in the whole round.
    pub expected: u64,
    /// Messages that the broker never acknowledged.
    pub unacknowledged: u64,
    /// Messages that were on their way for more than a second, and given up so that others could be published. They may have arrived later.
    pub given_up: u64,
    /// The time from when a message should have been published until it was delivered; where there is a schedule.
    pub latency: Option<Latency>,
    /// The time from when a message should have been published until the generator published it, likewise: what of the latency is not the
    /// broker's.
    pub lateness: Option<Latency>,
    /// The time from when a message should have been published until it was acknowledged, likewise.
    pub acknowledged: Option<Box<Latency>>,
    /// What the broker wrote to its store in the window, if it has one.
    pub writes: Option<Writes>,
}

/// What messages at one rate gave.
#[derive(Clone, Debug)]
pub struct Step {
    /// Messages that were to be published in a second.
    pub offered: u32,
    /// What came of it.
    pub sample: MessagesSample,
}

/// What a round of connections gave.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionsSample {
    /// How many connections there were in the end.
    pub open: u64,
    /// How many connections were made in the time that was measured.
    pub count: u64,
    /// How long that took.
    pub wall: Duration,
    /// Processor time of the broker meanwhile.
    pub broker_cpu: Duration,
    /// Resident memory of the broker before, in KiB.
    pub resident_before: u64,
    /// Resident memory of the broker when all are connected and silent, in KiB.
    pub resident_after: u64,
    /// The time from connect to CONNACK.
    pub answer: Option<Latency>,
    /// What it costs to have them; if somebody looked.
    pub idle: Option<Idle>,
}

/// Processor time of the broker, in seconds per second, with all connections up.
#[derive(Clone, Copy, Debug)]
pub struct Idle {
    /// Nobody says anything.
    pub silent: f64,
    /// Clients ping as their keep-alive demands.
    pub pinging: f64,
}

/// What a round gave whose load `emqtt_bench` made.
#[derive(Clone, Copy, Debug)]
pub struct BenchSample {
    /// How long the window was.
    pub wall: Duration,
    /// Processor time of the broker in the window.
    pub broker_cpu: Duration,
    /// Messages per second that it was told to publish.
    pub offered: f64,
    /// Messages per second that it published in the window, as it counts; none at QoS 0, which it counts twice.
    pub published: Option<f64>,
    /// Messages of the window that it published too late: the load is less than it was told.
    pub overrun: f64,
    /// Messages per second that it received in the window, as it counts.
    pub received: f64,
}

impl BenchSample {
    /// Processor time of the broker per delivery, in microseconds; none if nothing was delivered.
    pub fn micros_per_delivery(&self) -> Option<f64> {
        (self.received > 0.0).then(|| micros(self.broker_cpu) / self.wall.as_secs_f64() / self.received)
    }
}

impl MessagesSample {
    /// Processor time of the broker per delivery, in microseconds; none if nothing was delivered.
    pub fn micros_per_delivery(&self) -> Option<f64> {
        (self.delivered > 0).then(|| micros(self.broker_cpu) / self.delivered as f64)
    }

    /// Deliveries per second.
    pub fn rate(&self) -> f64 {
        self.delivered as f64 / self.wall.as_secs_f64()
    }

    /// Bytes that the broker wrote per delivery.
    pub fn bytes_each(&self) -> Option<f64> {
        self.writes.filter(|_| self.delivered > 0).map(|writes| writes.bytes as f64 / self.delivered as f64)
    }

    /// Commits per second.
    pub fn commits_a_second(&self) -> Option<f64> {
        Some(self.writes?.commits()? / self.wall.as_secs_f64())
    }

    /// Deliveries that were due and never came.
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.tally.delivered)
    }

    /// Whether the generator published in time: at the ninety-ninth percentile of the messages its own lateness is less than half of the latency.
    pub fn generator_kept_up(&self) -> bool {
        match (self.lateness, self.latency) {
            (Some(lateness), Some(latency)) => lateness.p99 < latency.p99 / 2,
            _ => false,
        }
    }

    /// How much of one core the broker used, in percent.
    pub fn broker_load(&self) -> f64 {
        100.0 * self.broker_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// How much of one core the generator used, in percent.
    pub fn generator_load(&self) -> f64 {
        100.0 * self.generator_cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

impl ConnectionsSample {
    /// Processor time of the broker per connection, in microseconds.
    pub fn micros_per_connect(&self) -> f64 {
        micros(self.broker_cpu) / self.count as f64
    }

    /// Connections per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.wall.as_secs_f64()
    }

    /// Resident memory that each connection added, in KiB.
    pub fn resident_each(&self) -> f64 {
        (self.resident_after as f64 - self.resident_before as f64) / self.open as f64
    }
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Several figures of the same kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// The one in the middle; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// The spread of these figures; none if there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let half = figures.len() / 2;
        let median = if figures.len() % 2 == 1 { figures[half] } else { (figures[half - 1] + figures[half]) / 2.0 };
        Some(Spread { median, min, max })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A round in which `delivered` of 1000 deliveries came, at 2 µs each.
    pub fn messages(delivered: u64) -> MessagesSample {
        MessagesSample {
            wall: Duration::from_millis(500),
            delivered,
            broker_cpu: Duration::from_micros(2 * delivered),
            generator_cpu: Duration::from_millis(250),
            peak_resident: 4096,
            tally: Tally { published: 1000, delivered, ..Tally::default() },
            expected: 1000,
            unacknowledged: 0,
            given_up: 0,
            latency: None,
            lateness: None,
            acknowledged: None,
            writes: None,
        }
    }

    /// A round in which 100 clients connected in 50 ms, at 30 µs and 1.5 KiB each.
    pub fn connections() -> ConnectionsSample {
        ConnectionsSample {
            open: 100,
            count: 100,
            wall: Duration::from_millis(50),
            broker_cpu: Duration::from_millis(3),
            resident_before: 1000,
            resident_after: 1150,
            answer: None,
            idle: None,
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([3.0]), Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(Spread::of([9.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 9.0, 2.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
    }

    #[test]
    fn figures_per_delivery_and_second() {
        let sample = messages(900);
        assert_eq!((sample.lost(), sample.rate()), (100, 1800.0));
        assert!((sample.micros_per_delivery().unwrap() - 2.0).abs() < 1e-9);
        assert!((sample.broker_load() - 0.36).abs() < 1e-9);
        assert!((sample.generator_load() - 50.0).abs() < 1e-9);
        assert_eq!(messages(0).micros_per_delivery(), None);
    }

    #[test]
    fn figures_of_rates() {
        let (wall, broker_cpu) = (Duration::from_secs(5), Duration::from_secs(1));
        let sample =
            BenchSample { wall, broker_cpu, offered: 10_000.0, published: None, overrun: 0.0, received: 20_000.0 };
        assert!((sample.micros_per_delivery().unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(BenchSample { received: 0.0, ..sample }.micros_per_delivery(), None);
    }

    #[test]
    fn figures_per_connection() {
        let sample = connections();
        assert_eq!((sample.rate(), sample.resident_each()), (2000.0, 1.5));
        assert!((sample.micros_per_connect() - 30.0).abs() < 1e-9);
    }
}
