//! The side-by-side measurement: every broker in turn, round by round, so that what else happens on the machine hits all of them alike.

use crate::broker::Broker;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::process;
use crate::report;
use crate::run::{self, Timing};
use crate::sample::Sample;
use crate::scenario::Scenario;

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// With what.
    pub scenarios: Vec<&'static Scenario>,
    /// Whom.
    pub brokers: Vec<Broker>,
    /// How often.
    pub rounds: usize,
    /// For how long.
    pub timing: Timing,
    /// The core of the brokers.
    pub broker_core: usize,
    /// The core of the generator.
    pub generator_core: usize,
}

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
    /// In the order of the plan's brokers.
    pub outcomes: Vec<Outcome>,
}

/// Measures, and tells standard error how it goes. After an interruption there is what was measured until then.
///
/// # Errors
///
/// If the generator cannot run on its core. What goes wrong with a broker is in its outcome.
pub fn compare(plan: &Plan, interrupt: &Interrupt) -> Result<Vec<Row>, Failure> {
    process::pin(plan.generator_core)?;
    let mut rows: Vec<Row> = Vec::new();
    for scenario in &plan.scenarios {
        let outcomes = plan.brokers.iter().map(|_| Outcome::default()).collect();
        let mut row = Row { scenario, outcomes };
        let finished = rounds(plan, &mut row, interrupt);
        rows.push(row);
        if finished.is_err() {
            eprintln!("interrupted");
            break;
        }
    }
    Ok(rows)
}

/// All rounds of one scenario.
///
/// # Errors
///
/// An interruption only.
fn rounds(plan: &Plan, row: &mut Row, interrupt: &Interrupt) -> Result<(), Failure> {
    for round in 1..=plan.rounds {
        for (broker, outcome) in plan.brokers.iter().zip(&mut row.outcomes) {
            eprint!("{:<12} round {round}/{}  {:<12} ", row.scenario.name, plan.rounds, broker.name);
            match measure(plan, broker, row.scenario, interrupt) {
                Ok(sample) => {
                    eprintln!("{}", report::line(&sample));
                    outcome.samples.push(sample);
                }
                Err(Failure::Interrupted) => return Err(Failure::Interrupted),
                Err(failure) => {
                    eprintln!("failed: {failure}");
                    outcome.failures.push(failure.to_string());
                }
            }
        }
    }
    Ok(())
}

/// One round with a broker that is started for it and stopped after it.
fn measure(plan: &Plan, broker: &Broker, scenario: &Scenario, interrupt: &Interrupt) -> Result<Sample, Failure> {
    let running = broker.start(plan.broker_core, interrupt)?;
    run::round(scenario, &running.target()?, plan.timing, interrupt)
}
