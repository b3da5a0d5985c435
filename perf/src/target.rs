//! What is measured: a broker that is running, and which shards its clients are on.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::process::ProcessTree;
use crate::scenario::ShardPlacement;
use crate::watcher::Watcher;

/// The broker to measure.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its processes.
    pub processes: ProcessTree,
    /// The shards of its clients, if they matter.
    pub client_shards: Option<ClientShards>,
    /// Who watches it while messages are measured.
    pub watcher: Option<Watcher>,
    /// Where it stores what it keeps, if it does.
    pub store: Option<PathBuf>,
}

/// The shards of clients: the file that lists them, and the placement that the round needs.
#[derive(Clone, Debug)]
pub struct ClientShards {
    /// The file in which the broker writes a line `SHARD CLIENT-ID` for each client that connects.
    pub file: PathBuf,
    /// The placement of publishers and subscribers.
    pub placement: ShardPlacement,
}
