//! The arguments.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use moormq_perf_shared::store::StoreSettings;

/// Measures what it costs to store messages for clients that are away, and how soon others are answered meanwhile.
#[derive(Parser)]
#[command(name = "moormq-offline", version)]
pub struct Args {
    /// The moormq program, instead of the one beside this program
    #[arg(long, value_name = "FILE")]
    pub moormq: Option<PathBuf>,
    /// The brokers, one after the other in each round
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,stored")]
    pub brokers: Vec<Kind>,
    /// How often each broker is measured, started anew each time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Sessions, whose clients are away
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub sessions: u32,
    /// Messages in all, the same number for each session
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub messages: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub payload: u32,
    /// Messages a second of all publishers together, on schedule
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: u32,
    /// Publishers
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub publishers: u32,
    /// Have a client ping each millisecond meanwhile
    #[arg(long)]
    pub pings: bool,
    /// Messages that wait for a session at most, without a store: then the oldest give way. Without it there is no limit
    #[arg(long)]
    pub keep: Option<u32>,
    /// The cores of the broker: a shard for each
    #[arg(long, value_name = "CORES", value_delimiter = ',', default_value = "0,1")]
    pub broker_cores: Vec<usize>,
    /// The core of the clients
    #[arg(long, default_value_t = 1)]
    pub client_core: usize,
    #[command(flatten)]
    pub store: StoreSettings,
    /// A file for the report, besides standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// A broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// moormq in memory
    Memory,
    /// moormq with a store, fsynced
    Stored,
    /// Mosquitto, which saves all that it has each minute
    Mosquitto,
}

impl Kind {
    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Memory => "memory",
            Kind::Stored => "stored",
            Kind::Mosquitto => "Mosquitto",
        }
    }
}

impl Args {
    /// Messages of each session.
    pub fn each(&self) -> u32 {
        (self.messages / self.sessions).max(1)
    }
}
