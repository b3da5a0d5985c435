//! moormq as a program embeds it, for measurements: without hooks, with three links, or with one that writes the shard of each client into a file.
//!
//! It runs until it is killed.

mod client_shards;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use moormq::Broker;
use moormq::config::Config;
use moormq_perf_shared::links::{Agreeing, Undecided};

use client_shards::ClientShards;

/// moormq as a program embeds it, for measurements.
#[derive(Parser)]
#[command(name = "moormq-embedded", version)]
struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How many links that answer now
    #[arg(long, value_name = "N", default_value = "0", value_parser = ["0", "3"], conflicts_with = "client_shards")]
    links: String,
    /// A file for lines `SHARD CLIENT-ID`, one for each client that connects
    #[arg(long, value_name = "FILE")]
    client_shards: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        // The broker does its work on threads of its own.
        Ok(_broker) => loop {
            thread::park();
        },
        Err(error) => {
            eprintln!("moormq-embedded: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Broker, Box<dyn std::error::Error>> {
    let builder = Broker::builder().config(Config::load(&args.config)?);
    Ok(match (&args.client_shards, args.links.as_str()) {
        (Some(file), _) => builder.hook(ClientShards::to(file)?).start()?,
        (None, "3") => {
            builder.hook(Undecided::default()).hook(Undecided::default()).hook(Agreeing::default()).start()?
        }
        (None, _) => builder.start()?,
    })
}
