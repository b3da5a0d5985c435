//! The arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures how long clients wait while their sessions move to another shard of moormq.
#[derive(Parser)]
#[command(name = "moormq-migrate", version)]
pub struct Args {
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    pub moormq: Option<PathBuf>,
    /// Sessions in the slot that moves
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    pub sessions: u32,
    /// Messages that wait for each offline session
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub queued: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub payload: u32,
    /// How often the slot moves, in each of the two measurements
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Clients that connect while the offline sessions move
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub reconnects: u32,
    /// Online clients that get a steady stream; the others get, and all send, two messages a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub streams: u32,
    /// Messages a second of each stream
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rate: u32,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

impl Args {
    /// The time between two messages of a stream.
    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }
}
