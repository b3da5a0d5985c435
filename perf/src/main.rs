//! moormq-perf: a load generator for MQTT brokers, and a harness that measures several of them side by side.
//!
//! | file | what |
//! |---|---|
//! | `scenario` | what is measured, as data |
//! | `client`, `window` | one MQTT client; the packet identifiers of a publisher |
//! | `stamp`, `ledger`, `credit` | what payloads carry; what arrived and what did not; the closed loop |
//! | `wire`, `engine` | one connection; the event loop of all of them |
//! | `traffic`, `connecting`, `run` | a round with messages; a round with connections; either |
//! | `process`, `machine`, `interrupt`, `failure` | what the kernel is asked for; Ctrl-C; what goes wrong |
//! | `broker`, `compare` | brokers to start and stop; all of them in turn |
//! | `sample`, `report` | what a round gave; tables |

mod broker;
mod cli;
mod client;
mod compare;
mod connecting;
mod credit;
mod engine;
mod failure;
mod interrupt;
mod ledger;
mod machine;
mod process;
mod report;
mod run;
mod sample;
mod scenario;
mod stamp;
mod traffic;
mod window;
mod wire;

use std::process::ExitCode;

use clap::Parser;

use cli::{Args, Command, CompareArgs, RunArgs};
use failure::Failure;
use interrupt::Interrupt;
use machine::Machine;
use process::ProcessTree;
use run::Target;
use scenario::SCENARIOS;

fn main() -> ExitCode {
    let done = match Args::parse().command {
        Command::List => list(),
        Command::Run(args) => run(&args),
        Command::Compare(args) => compare(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-perf: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), Failure> {
    for scenario in SCENARIOS {
        println!("{:<12} {}", scenario.name, scenario.about);
    }
    Ok(())
}

/// Measures a broker that is running.
fn run(args: &RunArgs) -> Result<(), Failure> {
    let interrupt = prepare()?;
    if let Some(core) = args.core {
        process::pin(core)?;
    }
    for scenario in args.scenarios.all() {
        for round in 1..=args.timing.rounds {
            let target = Target { address: args.address, processes: ProcessTree::of(args.pid)? };
            let sample = run::round(scenario, &target, args.timing.timing(), &interrupt)?;
            println!("{:<12} round {round}/{}  {}", scenario.name, args.timing.rounds, report::line(&sample));
        }
    }
    Ok(())
}

/// Measures brokers side by side, and prints the report.
fn compare(args: CompareArgs) -> Result<(), Failure> {
    let interrupt = prepare()?;
    let machine = Machine::here();
    let output = args.output.clone();
    let plan = args.plan()?;
    let versions: Vec<String> = plan.brokers.iter().map(broker::Broker::version).collect();
    let rows = compare::compare(&plan, &interrupt)?;
    let text = report::report(&plan, &versions, &machine, &rows);
    print!("{text}");
    if let Some(file) = output {
        std::fs::write(&file, text).map_err(Failure::system(file.display()))?;
    }
    interrupt.check()
}

fn prepare() -> Result<Interrupt, Failure> {
    process::lift_open_files()?;
    Interrupt::arm()
}
