//! What a side-by-side measurement gave.

use crate::broker::Broker;
use crate::sample::Sample;
use crate::scenario::Scenario;

/// What the rounds of one scenario gave, for one broker.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The rounds that gave figures.
    pub samples: Vec<Sample>,
    /// Why the others did not.
    pub failures: Vec<String>,
}

/// What the rounds of one scenario gave.
#[derive(Debug)]
pub struct Row {
    /// The scenario.
    pub scenario: &'static Scenario,
    /// Who was measured.
    pub brokers: Vec<Broker>,
    /// In the order of the brokers.
    pub outcomes: Vec<Outcome>,
}
