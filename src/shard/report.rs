//! How a shard is doing: what operators see, and what the balance between shards is judged by.

use super::{Counters, Shard, SlotMigration};
use crate::hooks::{Chain, HookReport};
use crate::sharding::SLOTS;

/// How a shard is doing.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which shard it is.
    pub shard: usize,
    /// What it has counted.
    pub counters: Counters,
    /// What was counted of its hooks.
    pub hooks: Vec<HookReport>,
    /// The slots that it has or had something to do with, ascending.
    pub slots: Vec<SlotReport>,
}

/// One slot, as one shard sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// Which slot.
    pub slot: u16,
    /// Whether it is this shard's.
    pub is_own: bool,
    /// Where it is on its way.
    pub migration: SlotMigration,
    /// How many sessions of it are here; those that are to come, and are announced, included.
    pub sessions: u32,
    /// Messages that its clients published and were sent by this shard since the start. Wraps around.
    pub messages: u32,
}

impl<C: Chain> Shard<C> {
    /// How it is doing now. Looks at every slot, but at no session.
    pub fn report(&mut self) -> Report {
        self.count_gauges();
        let slots = (0..SLOTS as u16).map(|slot| SlotReport {
            slot,
            is_own: self.slots.owner_of_slot(slot) == Some(self.id),
            migration: self.moves.migration_of(slot),
            sessions: self.sessions.in_slot(slot),
            messages: self.traffic.of(slot),
        });
        let known = |report: &SlotReport| report.is_own || report.messages > 0 || report.migration != SlotMigration::None;
        Report {
            shard: self.id,
            counters: self.counters.clone(),
            hooks: self.hook_reports(),
            slots: slots.filter(known).collect(),
        }
    }
}
