//! What the core costs per delivered message, without sockets: instructions, as callgrind counts them, and allocations. Neither depends on what
//! else the machine does.
//!
//! | file | what |
//! |---|---|
//! | `case` | what is done, as data |
//! | `rig`, `responder` | shards and clients without sockets; what clients answer |
//! | `store` | journals, and disks that forget everything |
//! | `measure` | the difference between so many messages and twice as many |
//! | `budget` | what it may cost, and whether it does |

mod budget;
mod case;
mod measure;
mod responder;
mod rig;
mod store;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use budget::Budget;
use case::{CASES, Case};

/// What the core costs per delivered message, without sockets.
#[derive(Parser)]
#[command(name = "moormq-core-cost", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say which cases there are
    List,
    /// Run a case once, for a profiler; says how many deliveries that were, and how many allocations
    Run {
        /// The case
        #[arg(value_parser = case::named)]
        case: &'static Case,
        /// How many turns, in each of which every publisher publishes once
        turns: u64,
    },
    /// Measure every case (needs valgrind), and compare with a budget
    Check {
        /// The budget
        budget: PathBuf,
        /// The tools that this was built and is measured with; a budget that was made with others is not enforced
        #[arg(long)]
        tools: String,
        /// Write the new figures into the budget instead
        #[arg(long)]
        update: bool,
    },
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::List => {
            for case in CASES {
                println!("{:<16} {}", case.name, case.about);
            }
            ExitCode::SUCCESS
        }
        Command::Run { case, turns } => {
            let run = case.run(turns);
            println!("{}", run.line());
            ExitCode::SUCCESS
        }
        Command::Check { budget, tools, update } => match check(&budget, tools, update) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("moormq-core-cost: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Measures, and says on standard output how that compares. Whether it is within the budget.
fn check(file: &Path, tools: String, update: bool) -> Result<bool, String> {
    let mut budget = Budget::load(file)?;
    let mut costs = Vec::new();
    for case in CASES {
        eprintln!("measuring {}", case.name);
        costs.push((case.name, measure::cost(case)?));
    }
    if update {
        budget.replace(tools, &costs);
        budget.save(file)?;
        println!("{} has the new figures", file.display());
        return Ok(true);
    }
    let verdict = budget.verdict(&tools, &costs);
    println!("{}", verdict.text);
    Ok(verdict.within)
}
