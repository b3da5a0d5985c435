//! moormq-canary: how soon a client that behaves is answered while others ask for a lot.
//!
//! Starts the real broker with its shards on cores of their own, a canary that asks every two milliseconds, and one case after the other.
//!
//! | file | what |
//! |---|---|
//! | `args` | its arguments |
//! | `cases` | what is asked of the broker |
//! | `scene` | what a case has to do with |
//! | `broker` | the program, and what the kernel knows of it |
//! | `client` | a client that waits for its answers |
//! | `canary` | clients and threads that measure |
//! | `report` | the figures as a page |

mod args;
mod broker;
mod canary;
mod cases;
mod client;
mod report;
mod scene;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use args::Args;
use broker::Broker;
use canary::Canary;
use cases::{CASES, Case};
use moormq_perf_shared::scheduling::pin;
use moormq_perf_shared::under_test::{self, Failure};
use report::Figures;
use scene::Scene;

/// Open files that the largest case needs, of the broker and of its clients each.
const OPEN_FILES: u64 = 120_000;
/// Open files that are needed for other things than clients.
const OTHER_FILES: u64 = 500;
/// How long broker and canary are left alone before a case begins.
const REST: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-canary: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    if args.list {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return Ok(());
    }
    if let Some(unknown) = args.cases.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        return Err(format!("there is no case {unknown}; --list names them").into());
    }
    let most_clients = under_test::lift_open_files(OPEN_FILES)?.saturating_sub(OTHER_FILES);
    let program = under_test::program(args.moormq.as_deref())?;
    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    let mut failed = false;
    for case in CASES.iter().filter(|case| args.cases.is_empty() || args.cases.iter().any(|name| name == case.name)) {
        let first = rounds.len();
        for round in 1..=args.rounds {
            eprintln!("{}, round {round} of {} ...", case.name, args.rounds);
            let measured = match measure(args, &program, case, most_clients) {
                Ok(measured) => measured,
                Err(failure) => {
                    eprintln!("moormq-canary: {failure}");
                    failed = true;
                    continue;
                }
            };
            for (number, figures) in measured.into_iter().enumerate() {
                match rounds.get_mut(first + number) {
                    Some(row) => row.push(figures),
                    None => rounds.push(vec![figures]),
                }
            }
        }
    }
    let page = report::page(args, &under_test::version(&program), broker::may_go_first(), &rounds);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    if failed { Err("not all rounds came to an end".into()) } else { Ok(()) }
}

fn measure(args: &Args, program: &Path, case: &Case, most_clients: u64) -> Result<Vec<Figures>, Failure> {
    // The broker pins its shards itself; other threads of it, such as those that check passwords, have all cores.
    pin(&[&args.broker_cores[..], &[args.client_core]].concat())?;
    let broker = Broker::start(program, &args.broker_cores, case.logins, case.settings)?;
    pin(&[args.client_core])?;
    let user = case.logins.then_some(broker::USER);
    let canary = Canary::start(broker.address(), user, &args.broker_cores, args.client_core)?;
    std::thread::sleep(REST);
    let mut scene = Scene::new(broker.address(), user, broker.pid(), args.divide, most_clients);
    (case.run)(&mut scene).map_err(|failure| format!("{}: {failure}", case.name))?;
    let samples = canary.stop()?;
    let peak = broker.peak_mib()?;
    scene.windows.iter().for_each(|window| eprintln!("{}", report::stalls(window, &samples)));
    Ok(scene.windows.into_iter().map(|window| Figures::of(window, &samples, peak)).collect())
}
