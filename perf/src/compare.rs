//! The side-by-side measurement: every broker in turn, round by round, so that what else happens on the machine hits all of them alike.

use std::path::PathBuf;

use crate::broker::{self, Broker};
use crate::cores::Cores;
use crate::emqtt_bench;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::process;
use crate::report;
use crate::run::{self, Timing};
use crate::sample::Sample;
use crate::scenario::{Contenders, Kind, Scenario};

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// With what.
    pub scenarios: Vec<&'static Scenario>,
    /// Whom.
    pub brokers: Vec<Broker>,
    /// The program `moormq-embedded`, for scenarios in which moormq is measured against itself; without it they are left out.
    pub embedded: Option<PathBuf>,
    /// How often.
    pub rounds: usize,
    /// For how long.
    pub timing: Timing,
    /// Where.
    pub cores: Cores,
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
    /// Who was measured.
    pub brokers: Vec<Broker>,
    /// In the order of the brokers.
    pub outcomes: Vec<Outcome>,
}

impl Plan {
    /// Who is measured with `scenario`: nobody, if something is missing for it.
    fn contenders(&self, scenario: &Scenario) -> Vec<Broker> {
        if matches!(scenario.kind, Kind::Bench(_)) && emqtt_bench::program().is_none() {
            return Vec::new();
        }
        match (scenario.contenders, &self.embedded) {
            (Contenders::Brokers, _) => self.brokers.clone(),
            (Contenders::Variants(_), None) => Vec::new(),
            (Contenders::Variants(variants), Some(program)) => variants
                .iter()
                .map(|variant| Broker {
                    name: variant.name.to_owned(),
                    kind: broker::Kind::Embedded(program.clone(), *variant),
                })
                .collect(),
        }
    }
}

/// Measures, and tells standard error how it goes. After an interruption there is what was measured until then.
///
/// # Errors
///
/// If the generator cannot run on its core. What goes wrong with a broker is in its outcome.
pub fn compare(plan: &Plan, interrupt: &Interrupt) -> Result<Vec<Row>, Failure> {
    process::pin(&[plan.cores.generator])?;
    let mut rows: Vec<Row> = Vec::new();
    for scenario in &plan.scenarios {
        let brokers = plan.contenders(scenario);
        if brokers.is_empty() {
            eprintln!("{:<15} left out: it needs moormq, or emqtt_bench on the PATH", scenario.name);
            continue;
        }
        let outcomes = brokers.iter().map(|_| Outcome::default()).collect();
        let mut row = Row { scenario, brokers, outcomes };
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
        for (broker, outcome) in row.brokers.iter().zip(&mut row.outcomes) {
            eprint!("{:<15} round {round}/{}  {:<12} ", row.scenario.name, plan.rounds, broker.name);
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
    let running = broker.start(&plan.cores, scenario.limits, interrupt)?;
    run::round(scenario, &running.target()?, plan.timing, interrupt)
}
