//! The arguments.

use std::path::PathBuf;

use clap::Parser;
use moormq_perf_shared::store::StoreSettings;

/// Measures how soon a broker that was killed is there again.
#[derive(Parser)]
#[command(name = "moormq-restart", version)]
pub struct Args {
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    pub moormq: Option<PathBuf>,
    /// Sessions in the store
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sessions: u32,
    /// Messages in the store, the same number for each session
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub messages: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub payload: u32,
    /// Shards of the broker
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub shards: u32,
    #[command(flatten)]
    pub store: StoreSettings,
    /// How often it is killed and started again
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}
