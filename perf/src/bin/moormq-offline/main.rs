//! moormq-offline: what it costs to store messages for clients that are away, and how soon others are answered meanwhile.
//!
//! Starts brokers one after the other, each with kept sessions whose clients are away. Publishers publish to all of them, on schedule, at QoS 1. What the broker
//! takes (processor time, memory, disk) is looked at while the messages become more; with `--pings` a client pings each millisecond. In the end some of the
//! sessions are looked at in full: every message has to be there, once and in order, unless older ones were to give way.
//!
//! | file | what |
//! |---|---|
//! | `args` | its arguments |
//! | `broker` | the brokers, and what the kernel knows of them |
//! | `load` | all publishers |
//! | `publisher` | one of them |
//! | `pinger` | the client that pings |
//! | `report` | the figures as a page |

mod args;
mod broker;
mod load;
mod pinger;
mod publisher;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use moormq_perf_shared::kept_sessions;
use moormq_perf_shared::scheduling::pin;
use moormq_perf_shared::under_test::{self, Failure};

use args::{Args, Kind};
use broker::Broker;
use pinger::Pinger;
use report::Round;

/// How long the broker is left alone before it is looked at for the last time: what it has put off is done by then.
const REST: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-offline: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    under_test::lift_open_files(0)?;
    let program = under_test::program(args.moormq.as_deref())?;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        for kind in &args.brokers {
            eprintln!("{}, round {number} of {} ...", kind.name(), args.rounds);
            let round = measure(args, *kind, &program)?;
            // A measurement takes long, and may be ended.
            eprintln!("{}", report::figures(args, &round));
            rounds.push(round);
        }
    }
    pin(&cores(args))?;
    let page = report::page(args, &under_test::version(&program), &rounds);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    Ok(())
}

fn measure(args: &Args, kind: Kind, program: &Path) -> Result<Round, Failure> {
    // The broker pins its shards itself; other threads of it, such as that of the archive, have all cores.
    pin(&cores(args))?;
    let broker = Broker::start(kind, args, program)?;
    let making = kept_sessions::make(broker.address(), args.sessions)?;
    eprintln!("  {} sessions were made in {:.1} s; messages ...", args.sessions, making.as_secs_f64());
    broker.settle()?;
    pin(&[args.client_core])?;
    let pinger = args.pings.then(|| Pinger::start(broker.address(), args.client_core)).transpose()?;
    let load = load::publish_all(args, &broker)?;
    let mut pings = pinger.map(Pinger::stop).transpose()?;
    if let Some(pings) = &mut pings {
        pings.keep_slowest();
    }
    thread::sleep(REST);
    let rest = broker.usage()?;
    if !(kind == Kind::Memory && args.keep.is_some()) {
        kept_sessions::check(broker.address(), args.sessions, args.each())?;
    }
    Ok(Round { kind, making, load, pings, rest, warnings: broker.warnings() })
}

/// All cores that are used.
fn cores(args: &Args) -> Vec<usize> {
    [&args.broker_cores[..], &[args.client_core]].concat()
}
