//! Rules on what a shard does under pressure: turns have an end, and who publishes is held for memory.

use std::collections::BTreeMap;

use moormq::memory::MemoryStage;

use crate::judge::Judge;
use crate::trace::What;

/// The least work that a packet is.
const PACKET: u32 = 4;
/// How long a publisher is held for memory before it may publish once, in milliseconds.
const MEMORY_HOLD: u64 = 1000;

const TURN: &str = "turns: a client has its share, and nobody more than the turn";
const MEMORY: &str = "memory: publishers are held, new clients refused";

/// Bytes of a client that a shard was given.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub serial: u32,
    /// All was done before that may be done in the turn.
    pub is_turn_over: bool,
}

#[derive(Debug, Default)]
pub struct Pressure {
    /// What the present event is, if it is that.
    pub given: Option<Given>,
    /// How many messages of that client were routed in it.
    served: u32,
    /// By shard: how much memory there is, and since when publishers are held for it.
    stages: Vec<(MemoryStage, Option<u64>)>,
    /// When a connection published last while it was held for memory.
    passed: BTreeMap<u32, u64>,
    /// There was little memory since everything had come to rest last: what was to be retained perhaps is not.
    pub was_little: bool,
    /// New clients may have been refused.
    pub was_full: bool,
    /// The history had a queue between two shards full.
    pub was_congested: bool,
}

impl Pressure {
    /// The broker has started again: there is enough memory.
    pub fn restart(&mut self) {
        let Pressure { was_little, was_full, was_congested, .. } = *self;
        *self = Pressure { was_little, was_full, was_congested, ..Pressure::default() };
    }
}

impl Judge {
    /// The memory stage of a shard changes.
    pub fn memory_changes(&mut self, shard: usize, stage: MemoryStage) {
        let Pressure { stages, was_little, was_full, .. } = &mut self.pressure;
        if stages.len() <= shard {
            stages.resize(shard + 1, (MemoryStage::Normal, None));
        }
        let since = stages[shard].1.unwrap_or(self.now);
        stages[shard] = (stage, (stage >= MemoryStage::PublishersHeld).then_some(since));
        *was_little |= stage > MemoryStage::Normal;
        *was_full |= stage == MemoryStage::Full;
    }

    /// The shards where there is little memory.
    pub fn short_of_memory(&self) -> Vec<usize> {
        let stages = self.pressure.stages.iter().enumerate();
        stages.filter(|(_, (stage, _))| *stage > MemoryStage::Normal).map(|(shard, _)| shard).collect()
    }

    /// Whether new clients are refused on a shard for want of memory.
    pub fn is_memory_full(&self, shard: usize) -> bool {
        self.pressure.stages.get(shard).is_some_and(|(stage, _)| *stage == MemoryStage::Full)
    }

    /// A client without a session is registered.
    pub fn must_have_memory(&mut self, serial: u32) {
        if self.is_memory_full(self.shard) {
            self.find(MEMORY, format!("connection {serial} begins a session when there is no memory"));
        }
    }

    /// A connection published.
    pub fn served(&mut self, serial: u32, what: &What) {
        let What::Published { message, is_will: false, .. } = *what else { return };
        if self.pressure.given.is_some_and(|given| given.serial == serial) {
            self.pressure.served += 1;
        }
        let (shard, now) = (self.shard, self.now);
        let Some((_, Some(since))) = self.pressure.stages.get(shard).copied() else { return };
        // It may have come before, and waited for a hook; and what was sent before a takeover is served in any case.
        let is_late = self.messages.get(message as usize).is_some_and(|message| message.is_answered_later);
        if is_late || self.drained.contains(&serial) {
            return;
        }
        let since = since.max(self.pressure.passed.get(&serial).copied().unwrap_or_default());
        self.pressure.passed.insert(serial, now);
        if now < since + MEMORY_HOLD {
            let detail = format!("connection {serial} publishes message {message} after {} ms", now - since);
            self.find(MEMORY, detail);
        }
    }

    /// All hook calls of an event were observed: no client was served more than its share, or when the turn was over.
    pub fn judge_share(&mut self) {
        let served = std::mem::take(&mut self.pressure.served);
        let Some(Given { serial, is_turn_over }) = self.pressure.given.take() else { return };
        // One more may have been begun before. As much again goes with the sends that the first ones caused.
        let most = if is_turn_over { 0 } else { 2 * self.setup.turn().share.div_ceil(PACKET) + 1 };
        if served > most {
            let detail = format!("{served} messages of connection {serial}, {most} at most; over {is_turn_over}");
            self.find(TURN, detail);
        }
    }
}
