//! The values that operators see: the status of shards, slots and hooks, and moves. The broker returns them, and the
//! control socket carries them.

use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::client::SessionFound;
use crate::codec::ProtocolVersion;
use crate::config::Protocol;
use crate::hooks::{HookCounts, HookReport};
use crate::memory::{MemoryHeld, MemoryKind};

/// The status of the shards and of the busiest slots, measured over some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The time of the measurement, in seconds.
    pub seconds: f64,
    /// All shards, in order.
    pub shards: Vec<ShardStatus>,
    /// The busiest slots: those with most messages a second first, then those with most sessions. Slots without
    /// messages and sessions are left out.
    pub slots: Vec<SlotStatus>,
    /// What the broker holds in memory.
    #[serde(default)]
    pub memory: MemoryStatus,
}

/// What the broker holds in memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// All of it.
    pub held: usize,
    /// What it may hold. None if there is no limit.
    pub limit: Option<usize>,
    /// By kind, with the names of `$SYS/broker/memory`.
    pub kinds: Vec<(String, usize)>,
}

impl MemoryStatus {
    /// What is held of what may be held.
    pub(crate) fn of(held: &MemoryHeld, limit: Option<usize>) -> Self {
        let kinds = MemoryKind::ALL.map(|kind| (kind.name().to_owned(), held.of(kind)));
        MemoryStatus { held: held.total(), limit, kinds: kinds.into() }
    }
}

/// The status of a shard.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// The core that its thread is pinned to.
    pub core: usize,
    /// The number of slots that it owns.
    pub slots: usize,
    /// The number of its sessions, offline ones included.
    pub sessions: u64,
    /// The number of its connections.
    pub connections: u64,
    /// PUBLISH packets a second that its clients sent.
    pub messages_in_per_second: f64,
    /// PUBLISH packets a second that its clients were sent.
    pub messages_out_per_second: f64,
    /// The processor time of its thread, in percent of one core. None if the kernel does not give it.
    pub cpu_percent: Option<f64>,
}

/// The status of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The number of the slot.
    pub slot: u16,
    /// The shard that owns it.
    pub shard: usize,
    /// The number of sessions in it.
    pub sessions: u64,
    /// PUBLISH packets a second, both ways.
    pub messages_per_second: f64,
    /// Whether some of its sessions are still on another shard.
    pub is_moving: bool,
}

/// The progress of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveProgress {
    /// The number of slots of the move.
    pub slots: usize,
    /// The number of slots that are not completely there yet.
    pub slots_left: usize,
    /// The number of sessions in them when they began to move.
    pub sessions: u64,
    /// The number of sessions that have not moved yet.
    pub sessions_left: u64,
}

/// The progress of a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupProgress {
    /// The number of bytes that were copied.
    pub copied: u64,
    /// The number of bytes that are to be copied; zero as long as that is not known.
    pub copied_of: u64,
}

/// The progress of a command that takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Progress {
    /// Of a move.
    Move(MoveProgress),
    /// Of a backup.
    Backup(BackupProgress),
}

/// A finished backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackedUp {
    /// Its directory.
    pub path: String,
    /// The size of what was copied, in bytes.
    pub bytes: u64,
    /// How long it took until all shards had cut their journals, in seconds. What was acknowledged before the command is in the backup, and nothing of
    /// what happened behind that.
    pub cut_seconds: f64,
    /// The duration of the whole, in seconds.
    pub seconds: f64,
}

/// The outcome of a move.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// The shard that they moved to.
    pub to: usize,
    /// The slots that moved, ascending.
    pub slots: Vec<u16>,
    /// Slots that were there already.
    pub already_there: Vec<u16>,
    /// The number of sessions that moved with them.
    pub sessions: u64,
    /// The duration of the move, in seconds.
    pub seconds: f64,
}

/// A move of one slot, planned to rebalance the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// The number of the slot.
    pub slot: u16,
    /// The shard that owns it now.
    pub from: usize,
    /// The shard that it moves to.
    pub to: usize,
    /// Its PUBLISH packets a second, both ways.
    pub messages_per_second: f64,
    /// The number of sessions in it.
    pub sessions: u64,
}

/// The outcome of rebalancing, or its plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// The time for which messages were counted, in seconds.
    pub seconds: f64,
    /// The moves, carried out or planned. Empty if the load is as even as it can be.
    pub moves: Vec<PlannedMove>,
    /// PUBLISH packets a second of each shard, both ways, as measured.
    pub before: Vec<f64>,
    /// The same numbers as expected after the moves.
    pub after: Vec<f64>,
    /// Whether the moves were carried out.
    pub is_done: bool,
}

/// The store of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its directory.
    pub path: String,
    /// What each shard has in it, in their order.
    pub shards: Vec<ShardStore>,
    /// The archive. None if the program was built without.
    pub archive: Option<ArchiveStatus>,
}

/// What a shard has in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStore {
    /// The number of the shard, from 0.
    pub shard: usize,
    /// The size of its journal on disk, in bytes, with the segments that are ready to be written.
    pub journal_bytes: u64,
    /// The size that its journal is to have at most, in bytes. While what is needed is written once more there may be twice as much.
    pub journal_limit: u64,
    /// The number of segments with something that is needed.
    pub segments_in_use: usize,
    /// The number of segments that there are to be.
    pub segments: usize,
    /// The number of commits since the start.
    pub commits: u64,
    /// The duration of the last commit, in microseconds. None if there was none.
    pub last_commit_us: Option<u64>,
    /// The number of sessions that are stored.
    pub sessions: u64,
    /// The number of messages that wait for them, or that their clients have not acknowledged.
    pub messages: u64,
    /// The size of those that wait, in bytes.
    pub waiting_bytes: u64,
    /// The number of retained messages that are stored.
    pub retained: u64,
    /// Their size, in bytes.
    pub retained_bytes: u64,
    /// Whether clients that publish or subscribe have to wait until the journal has room.
    pub publishers_wait: bool,
    /// The number of clients that do.
    pub clients_waiting: usize,
}

/// The archive of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveStatus {
    /// Its size on disk, in bytes.
    pub bytes: u64,
    /// The number of pages of queues in it.
    pub pages: u64,
}

/// The counters of one hook of one link since the start, summed over all shards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// The position of the link in the chain, from 0.
    pub position: usize,
    /// The name of the link, as in `$SYS/broker/hooks`.
    pub link: String,
    /// The name of the hook.
    pub hook: String,
    /// The counters. Times are in microseconds.
    #[serde(flatten)]
    pub counts: HookCounts,
}

impl From<HookReport> for HookStatus {
    fn from(HookReport { position, link, hook, counts }: HookReport) -> Self {
        HookStatus { position, link, hook: hook.to_owned(), counts }
    }
}

/// The session of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Whether the client is connected. If it is not, what follows about its connection is of the last one.
    pub is_connected: bool,
    /// The far end of its connection.
    pub peer: SocketAddr,
    /// The listener that accepted it.
    pub listener: String,
    /// Its user name.
    pub username: Option<String>,
    /// The version of MQTT: `3.1`, `3.1.1` or `5`.
    pub protocol: String,
    /// When it was accepted, in seconds since 1970.
    pub connected_at: u64,
    /// Whether the session is kept when the connection ends.
    pub is_kept: bool,
    /// What is stored of it: `fsynced`, `flushed` or `none`. Brokers that had no such classes do not say.
    #[serde(default)]
    pub durability: String,
    /// The number of topic filters that it subscribes to.
    pub subscriptions: usize,
    /// The number of messages that wait for the client.
    pub queued: usize,
    /// The size of their topics, payloads and properties, in bytes.
    pub queued_bytes: usize,
    /// The number of messages that were sent to the client and are not acknowledged.
    pub in_flight: usize,
    /// The memory of the session with its subscriptions and messages, in bytes. Messages that others hold, too, count in full.
    #[serde(default)]
    pub memory: usize,
}

impl From<SessionFound> for SessionStatus {
    fn from(found: SessionFound) -> Self {
        let SessionFound { client, is_connected, is_kept, durability, .. } = found;
        let SessionFound { subscriptions, queued, queued_bytes, in_flight, memory, .. } = found;
        let protocol = match client.version {
            ProtocolVersion::V31 => Protocol::V31,
            ProtocolVersion::V311 => Protocol::V311,
            ProtocolVersion::V5 => Protocol::V5,
        };
        SessionStatus {
            is_connected,
            peer: client.peer,
            listener: client.listener.to_string(),
            username: client.username.as_deref().map(str::to_owned),
            protocol: protocol.to_string(),
            connected_at: client.connected_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            is_kept,
            durability: durability.to_string(),
            subscriptions,
            queued,
            queued_bytes,
            in_flight,
            memory,
        }
    }
}

/// A client's berth: its slot, the shard that owns the slot, and the session if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Berth {
    /// Its mountpoint.
    pub mountpoint: String,
    /// Its client id.
    pub client_id: String,
    /// The slot of its subscriber id.
    pub slot: u16,
    /// The shard that owns the slot now.
    pub shard: usize,
    /// The session of the client. None if there is no such client.
    pub session: Option<SessionStatus>,
}
