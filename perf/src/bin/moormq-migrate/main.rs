//! moormq-migrate: how long clients wait while their sessions move to another shard.
//!
//! Starts the real broker with two shards, makes many sessions in one slot, and has `moormq ctl`'s door move that slot to and fro:
//! with the sessions offline and messages waiting, and with all clients online and talking.
//!
//! | file | what |
//! |---|---|
//! | `args` | its arguments |
//! | `offline`, `online` | the two measurements |
//! | `broker` | the program, its control socket, and what the kernel knows of it |
//! | `pool`, `connection` | all connections on one epoll; one of them |
//! | `sequence` | what arrived, what did not, what came twice or too late |
//! | `report` | the figures as a page |

mod args;
mod broker;
mod connection;
mod offline;
mod online;
mod pool;
mod report;
mod sequence;

use std::process::ExitCode;

use clap::Parser;

use args::Args;
use broker::Broker;
use moormq_perf_shared::under_test::{self, Failure};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("moormq-migrate: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    under_test::lift_open_files(0)?;
    let program = under_test::program(args.moormq.as_deref())?;
    eprintln!("offline: {} sessions, {} messages waiting for each ...", args.sessions, args.queued);
    let offline = offline::measure(args, &Broker::start(&program)?)?;
    eprintln!("online: {} clients, {} of them with a stream ...", args.sessions, args.streams.min(args.sessions));
    let online = online::measure(args, &Broker::start(&program)?)?;
    let page = report::page(args, &under_test::version(&program), &offline, &online);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    let faults = offline.faults.count() + online.faults.count();
    if faults > 0 {
        return Err(format!("{faults} messages were lost, doubled or out of order").into());
    }
    Ok(())
}
