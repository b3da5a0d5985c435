//! A round in one line, while they run.

use std::fmt::Write;

use super::figures::{faults, figure};
use crate::sample::{Idle, Sample, micros};

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
        Sample::Connections(sample) => {
            let mut line = format!(
                "{} µs/connect  {:.0}/s  {} KiB each",
                figure(Some(sample.micros_per_connect())),
                sample.rate(),
                figure(Some(sample.resident_each()))
            );
            if let Some(answer) = sample.answer {
                let [p99, max] = [answer.p99, answer.max].map(|time| time.as_secs_f64() * 1e3);
                let _ = write!(line, "  p99 {p99:.1} max {max:.1} ms");
            }
            if let Some(Idle { silent, pinging }) = sample.idle {
                let _ = write!(line, "  {:.2} ms/s silent, {:.2} ms/s with pings", silent * 1e3, pinging * 1e3);
            }
            line
        }
        Sample::Bench(sample) => format!(
            "{} µs/out  {:.0}/s received  {:.0}/s offered{}",
            figure(sample.micros_per_delivery()),
            sample.received,
            sample.offered,
            match sample.overrun {
                0.0 => String::new(),
                late => format!("  {late:.0} published too late: the generator falls behind"),
            }
        ),
        Sample::Curve(steps) => match steps.last() {
            Some(step) if step.kept_up() => format!("kept up with {}/s and all below", step.offered),
            Some(step) => format!("fell behind at {}/s: {:.0}/s", step.offered, step.sample.rate()),
            None => "no rates".to_owned(),
        },
    }
}
