//! moormq-migrate: how long clients wait while their sessions move to another shard.
//!
//! Starts the real broker with two shards, makes many sessions in one slot, and has `moormq ctl`'s door move that slot to and fro:
//! with the sessions offline and messages waiting, and with all clients online and talking.
//!
//! | file | what |
//! |---|---|
//! | `offline`, `online` | the two measurements |
//! | `broker` | the program, its control socket, and what the kernel knows of it |
//! | `pool`, `wire` | all connections on one epoll; one of them |
//! | `ledger` | what arrived, what did not, what came twice or too late |
//! | `report` | the figures as a page |

mod broker;
mod ledger;
mod offline;
mod online;
mod pool;
mod report;
mod wire;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use broker::Broker;

/// Any failure; it ends the measurement.
type Failure = Box<dyn Error + Send + Sync>;

/// Measures how long clients wait while their sessions move to another shard of moormq.
#[derive(Parser)]
#[command(name = "moormq-migrate", version)]
pub struct Args {
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    moormq: Option<PathBuf>,
    /// Sessions in the slot that moves
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    sessions: u32,
    /// Messages that wait for each offline session
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    queued: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    payload: u32,
    /// How often the slot moves, in each of the two measurements
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Clients that connect while the offline sessions move
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    arrivals: u32,
    /// Online clients that get a steady stream; the others get, and all send, two messages a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    streams: u32,
    /// Messages a second of each stream
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    /// The time between two messages of a stream.
    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }
}

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
    pool::lift_open_files()?;
    let beside = || Ok::<_, Failure>(std::env::current_exe()?.with_file_name("moormq"));
    let program = args.moormq.clone().map_or_else(beside, Ok)?;
    eprintln!("offline: {} sessions, {} messages waiting for each ...", args.sessions, args.queued);
    let offline = offline::measure(args, &Broker::start(&program)?)?;
    eprintln!("online: {} clients, {} of them with a stream ...", args.sessions, args.streams.min(args.sessions));
    let online = online::measure(args, &Broker::start(&program)?)?;
    let page = report::page(args, &broker::version(&program), &offline, &online);
    print!("{page}");
    if let Some(file) = &args.output {
        std::fs::write(file, page)?;
    }
    let wrong = offline.wrong.count() + online.wrong.count();
    if wrong > 0 {
        return Err(format!("{wrong} messages were lost, doubled or out of order").into());
    }
    Ok(())
}
