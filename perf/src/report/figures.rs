//! Figures as they are printed, and what went wrong.

use crate::outcome::Outcome;
use crate::sample::{MessagesSample, Sample, Spread};

/// A figure with about three digits.
pub fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 9.995 => format!("{value:.2}"),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// A whole figure, its thousands apart.
pub fn whole(value: Option<f64>) -> String {
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

/// The rounds with messages.
pub fn messages_of(outcome: &Outcome) -> Vec<&MessagesSample> {
    let messages = outcome.samples.iter().filter_map(|sample| match sample {
        Sample::Messages(sample) => Some(sample),
        Sample::Connections(_) | Sample::Curve(_) | Sample::Bench(_) => None,
    });
    messages.collect()
}

/// The spread of a figure over rounds.
pub fn spread(samples: &[&MessagesSample], value: impl Fn(&MessagesSample) -> Option<f64>) -> Option<Spread> {
    Spread::of(samples.iter().filter_map(|sample| value(sample)))
}

/// From the lowest to the highest.
pub fn range(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |spread| format!("{}-{}", figure(Some(spread.min)), figure(Some(spread.max))))
}

/// What went wrong, all rounds together: losses first.
pub fn faults(samples: &[&MessagesSample]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
