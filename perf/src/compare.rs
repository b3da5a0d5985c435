//! The side-by-side measurement: every broker in turn, round by round, so that what else happens on the machine hits all of them alike.

use crate::broker::{Broker, Kind};
use crate::disk_floor;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::outcome::{Outcome, Row};
use crate::plan::Plan;
use crate::process;
use crate::report;
use crate::run;
use crate::sample::Sample;
use crate::scenario::Scenario;

/// Measures, and prints its progress on standard error. After an interruption there is what was measured until then.
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
        // What the floor of a disk is to write: as the broker before it has.
        let mut stored = None;
        for (broker, outcome) in row.brokers.iter().zip(&mut row.outcomes) {
            eprint!("{:<15} round {round}/{}  {:<12} ", row.scenario.name, plan.rounds, broker.name);
            let measured = match &broker.kind {
                Kind::DiskFloor(program) => disk_floor::measure(program, plan, stored.as_ref()),
                _ => measure(plan, broker, row.scenario, interrupt),
            };
            match measured {
                Ok(sample) => {
                    eprintln!("{}", report::line(&sample));
                    if let Sample::Messages(sample) = &sample {
                        stored = Some(sample.clone());
                    }
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
