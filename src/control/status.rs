//! What operators see: shards and slots, moves, and hooks. Plain values, as the broker gives them and as they go over the socket.

use serde::{Deserialize, Serialize};

use crate::hooks::{HookCounts, HookReport};

/// How shards, and the busiest slots, were doing while they were measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// For how long they were measured, in seconds.
    pub seconds: f64,
    /// All shards, in order.
    pub shards: Vec<ShardStatus>,
    /// The slots with most messages a second, busiest first; then those with most sessions. Slots without either are left out.
    pub slots: Vec<SlotStatus>,
}

/// How a shard is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Which shard, from 0.
    pub shard: usize,
    /// The core that its thread is pinned to.
    pub core: usize,
    /// Slots that it owns.
    pub slots: usize,
    /// Sessions that are on it, those of absent clients included.
    pub sessions: u64,
    /// Connections of clients.
    pub connections: u64,
    /// PUBLISH packets a second that its clients sent.
    pub messages_in_per_second: f64,
    /// PUBLISH packets a second that its clients were sent.
    pub messages_out_per_second: f64,
    /// Processor time of its thread, in percent of one core. None if the kernel does not tell.
    pub cpu_percent: Option<f64>,
}

/// How a slot is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Which slot.
    pub slot: u16,
    /// The shard that owns it.
    pub shard: usize,
    /// Sessions in it.
    pub sessions: u64,
    /// PUBLISH packets a second, both ways.
    pub messages_per_second: f64,
    /// Whether sessions of it are still on their way to that shard.
    pub is_moving: bool,
}

/// How far a move has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveProgress {
    /// Slots that are to move.
    pub slots: usize,
    /// Those of them that are not wholly there yet.
    pub slots_left: usize,
    /// Sessions that were in them when they began to move.
    pub sessions: u64,
    /// Sessions that are still where they were.
    pub sessions_left: u64,
}

/// What a move has moved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// To which shard.
    pub to: usize,
    /// The slots that moved, ascending.
    pub slots: Vec<u16>,
    /// Slots that were there already.
    pub already_there: Vec<u16>,
    /// Sessions that moved with them.
    pub sessions: u64,
    /// How long it took until the last of them was there, in seconds.
    pub seconds: f64,
}

/// A slot that moves, or would, to even out the load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// Which slot.
    pub slot: u16,
    /// From this shard.
    pub from: usize,
    /// To this one.
    pub to: usize,
    /// Its PUBLISH packets a second, both ways.
    pub messages_per_second: f64,
    /// Sessions in it.
    pub sessions: u64,
}

/// What evening out the load has moved, or would.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rebalanced {
    /// For how long messages were counted before, in seconds.
    pub seconds: f64,
    /// The slots that moved; or would, if nothing was to be moved yet. None if the load is even, or as even as it can be.
    pub moves: Vec<PlannedMove>,
    /// PUBLISH packets a second of each shard, both ways, as measured.
    pub before: Vec<f64>,
    /// The same as it is to be expected afterwards.
    pub after: Vec<f64>,
    /// Whether they moved.
    pub is_done: bool,
}

/// What was counted of one hook of one link since the start, on all shards together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// The place of the link in the chain, from 0.
    pub position: usize,
    /// The name of the link, as in `$SYS/broker/hooks`.
    pub link: String,
    /// The hook.
    pub hook: String,
    /// What was counted, with times in microseconds.
    #[serde(flatten)]
    pub counts: HookCounts,
}

impl From<HookReport> for HookStatus {
    fn from(HookReport { position, link, hook, counts }: HookReport) -> Self {
        HookStatus { position, link, hook: hook.to_owned(), counts }
    }
}

/// Where a client belongs.
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
}
