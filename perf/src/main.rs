//! moormq-perf: a load generator for MQTT brokers, and a harness that measures several of them side by side.
//!
//! | file | what |
//! |---|---|
//! | `scenario`, `catalogue` | what is measured, as data; all there is of it |
//! | `topics`, `names` | where messages go; who the clients are |
//! | `client`, `window` | one MQTT client; the packet identifiers of a publisher |
//! | `stamp`, `deliveries`, `credit` | the content of payloads; deliveries due and made; the closed loop |
//! | `connection`, `engine` | one connection; the event loop of all of them |
//! | `target`, `timing` | the broker that a round is about; how long the round takes |
//! | `traffic`, `curve`, `connecting`, `run` | a round with messages; one with ever more of them; one with connections; any of these |
//! | `emqtt_bench`, `watcher` | another program that makes the load; one that looks on |
//! | `writes`, `disk_floor` | what a broker has written to its store; the same writes with nothing else |
//! | `process`, `machine`, `interrupt`, `failure` | what the kernel is asked for; Ctrl-C; what goes wrong |
//! | `broker`, `configuration`, `cores` | brokers to start and stop; their configuration; their cores |
//! | `plan`, `compare`, `outcome` | what is measured side by side; all brokers in turn; what that gave |
//! | `times`, `sample`, `report`, `plot` | how long things took; what a round gave; tables; pictures |

mod broker;
mod catalogue;
mod cli;
mod client;
mod compare;
mod configuration;
mod connecting;
mod connection;
mod cores;
mod credit;
mod curve;
mod deliveries;
mod disk_floor;
mod emqtt_bench;
mod engine;
mod failure;
mod interrupt;
mod machine;
mod names;
mod outcome;
mod plan;
mod plot;
mod process;
mod report;
mod run;
mod sample;
mod scenario;
mod stamp;
mod target;
mod times;
mod timing;
mod topics;
mod traffic;
mod watcher;
mod window;
mod writes;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use catalogue::SCENARIOS;
use cli::{Args, Command, CompareArgs, RunArgs};
use failure::Failure;
use interrupt::Interrupt;
use machine::Machine;
use outcome::Row;
use plan::Plan;
use plot::Picture;
use process::ProcessTree;
use report::Plot;

use sample::Sample;
use target::Target;
use watcher::Watcher;

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
        println!("{:<15} {}", scenario.name, scenario.about);
    }
    Ok(())
}

/// Measures a broker that is running.
fn run(args: &RunArgs) -> Result<(), Failure> {
    let interrupt = prepare()?;
    if let Some(core) = args.core {
        process::pin(&[core])?;
    }
    for scenario in args.scenarios.all() {
        for round in 1..=args.timing.rounds {
            let watcher = args.watch.as_deref().map(|command| Watcher::new(command, args.pid));
            let processes = ProcessTree::of(args.pid)?;
            let target = Target { address: args.address, processes, client_shards: None, watcher, store: None };
            let sample = run::round(scenario, &target, args.timing.timing(), &interrupt)?;
            println!("{:<15} round {round}/{}  {}", scenario.name, args.timing.rounds, report::line(&sample));
            if let Sample::Messages(sample) = sample {
                println!("{:<15} {} deliveries in {:.3} s", "", sample.delivered, sample.wall.as_secs_f64());
            }
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
    let plots = match &output {
        Some(file) => save_plots(file, &plan, &rows)?,
        None => Vec::new(),
    };
    let text = report::report(&plan, &versions, &machine, &rows, &plots);
    print!("{text}");
    if let Some(file) = output {
        std::fs::write(&file, text).map_err(Failure::system(file.display()))?;
    }
    interrupt.check()
}

/// Draws the plots that belong to the report `output`, and puts them beside it.
fn save_plots(output: &Path, plan: &Plan, rows: &[Row]) -> Result<Vec<Plot>, Failure> {
    let mut plots = Vec::new();
    for Picture { name, title, text } in plot::pictures(&plan.brokers, rows) {
        let file = report::beside(output, &name, "svg");
        let path = output.with_file_name(&file);
        std::fs::write(&path, text).map_err(Failure::system(path.display()))?;
        plots.push(Plot { file, title });
    }
    Ok(plots)
}

fn prepare() -> Result<Interrupt, Failure> {
    process::lift_open_files()?;
    Interrupt::arm()
}
