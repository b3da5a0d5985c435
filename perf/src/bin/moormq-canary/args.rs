//! The arguments.

use std::path::PathBuf;

use clap::Parser;

/// Measures how soon moormq answers a client that behaves, while others ask for a lot.
#[derive(Parser)]
#[command(name = "moormq-canary", version)]
pub struct Args {
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    pub moormq: Option<PathBuf>,
    /// The cases to run, instead of all; `--list` names them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub cases: Vec<String>,
    /// Name the cases and end
    #[arg(long)]
    pub list: bool,
    /// How often each case is run, on a new broker each time; the report has the median of each figure, and the worst of them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Divides how much is asked of the broker, to try the program out
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub divide: u32,
    /// The cores of the broker: a shard for each. With more than one the canary publishes from shard to shard, too
    #[arg(long, value_name = "CORES", value_delimiter = ',', default_value = "0")]
    pub broker_cores: Vec<usize>,
    /// The core of the clients
    #[arg(long, default_value_t = 1)]
    pub client_core: usize,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
