//! How busy shards and slots were between two looks at them.
//!
//! What is measured are messages: PUBLISH packets that clients sent and were sent, retransmissions included. They are counted
//! by the slot of the client, wherever it was at the time; so a slot that moved meanwhile is as busy as it is, and a shard is
//! as busy as the slots that it has now. Connects, subscriptions and the size of messages are not in it.

use super::report::{Report, SlotReport};
use crate::migration::SlotMigration;
use crate::sharding::SLOTS;

/// How busy everything was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// By shard.
    pub shards: Vec<ShardLoad>,
    /// Every slot that is somewhere, ascending.
    pub slots: Vec<SlotLoad>,
}

/// How busy a shard was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardLoad {
    /// PUBLISH packets that came while it was measured.
    pub messages_in: u64,
    /// PUBLISH packets that went.
    pub messages_out: u64,
    /// Slots that it has now.
    pub slots: usize,
    /// Sessions that it has now.
    pub sessions: u64,
    /// Sessions with a connection.
    pub connections: u64,
    /// Messages of the slots that it has now.
    pub messages: u64,
}

/// How busy a slot was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLoad {
    /// Which slot.
    pub slot: u16,
    /// The shard that it is on now.
    pub shard: usize,
    /// Messages of its clients while it was measured.
    pub messages: u64,
    /// Sessions in it, those that have not come yet included.
    pub sessions: u64,
    /// Whether some of it is still on its way there.
    pub is_moving: bool,
}

impl Load {
    /// What happened between two looks at all shards, each in the order of the shards.
    pub fn between(earlier: &[Report], later: &[Report]) -> Load {
        let mut messages = vec![0; SLOTS];
        let mut sessions = vec![0; SLOTS];
        let mut places: Vec<Option<(usize, bool)>> = vec![None; SLOTS];
        for (before, report) in earlier.iter().zip(later) {
            let mut before = before.slots.iter().peekable();
            for slot in &report.slots {
                let at = usize::from(slot.slot);
                while before.next_if(|before| before.slot < slot.slot).is_some() {}
                let counted = before.next_if(|before| before.slot == slot.slot).map_or(0, |before| before.messages);
                messages[at] += u64::from(slot.messages.wrapping_sub(counted));
                sessions[at] += sessions_of(slot);
                if slot.is_own {
                    places[at] = Some((report.shard, slot.migration != SlotMigration::None));
                }
            }
        }
        let mut shards: Vec<ShardLoad> =
            earlier.iter().zip(later).map(|(before, after)| counted(before, after)).collect();
        let slots = places.into_iter().enumerate().filter_map(|(slot, place)| {
            let (shard, is_moving) = place?;
            let load = shards.get_mut(shard)?;
            load.slots += 1;
            load.messages += messages[slot];
            let (messages, sessions) = (messages[slot], sessions[slot]);
            Some(SlotLoad { slot: slot as u16, shard, messages, sessions, is_moving })
        });
        let slots = slots.collect();
        Load { shards, slots }
    }
}

/// Sessions on their way are known to both shards: they count where the slot was, until they have left.
fn sessions_of(slot: &SlotReport) -> u64 {
    match slot.migration {
        SlotMigration::Arriving => 0,
        SlotMigration::None | SlotMigration::Leaving => u64::from(slot.sessions),
    }
}

fn counted(before: &Report, after: &Report) -> ShardLoad {
    ShardLoad {
        messages_in: after.counters.messages_in - before.counters.messages_in,
        messages_out: after.counters.messages_out - before.counters.messages_out,
        sessions: after.counters.sessions,
        connections: after.counters.connected,
        ..ShardLoad::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::counters::Counters;

    fn report(shard: usize, messages_in: u64, slots: &[SlotReport]) -> Report {
        Report {
            shard,
            counters: Counters { messages_in, ..Counters::default() },
            hooks: Vec::new(),
            slots: slots.to_vec(),
        }
    }

    fn slot(slot: u16, is_own: bool, messages: u32) -> SlotReport {
        SlotReport { slot, is_own, migration: SlotMigration::None, sessions: 2, messages }
    }

    #[test]
    fn a_slot_that_moved_takes_its_messages_along() {
        let earlier = [report(0, 10, &[slot(0, true, 5), slot(2, true, u32::MAX)]), report(1, 7, &[slot(1, true, 7)])];
        let leaving = SlotReport { migration: SlotMigration::Leaving, ..slot(2, false, 9) };
        let arriving = SlotReport { migration: SlotMigration::Arriving, ..slot(2, true, 3) };
        let later = [report(0, 25, &[slot(0, true, 6), leaving]), report(1, 12, &[slot(1, true, 7), arriving])];
        let load = Load::between(&earlier, &later);
        let places: Vec<_> =
            load.slots.iter().map(|load| (load.slot, load.shard, load.messages, load.is_moving)).collect();
        assert_eq!(places, [(0, 0, 1, false), (1, 1, 0, false), (2, 1, 13, true)]);
        assert_eq!(load.slots[2].sessions, 2, "nobody is counted twice");
        assert_eq!(load.shards.iter().map(|shard| shard.messages).collect::<Vec<_>>(), [1, 13]);
        assert_eq!(load.shards.iter().map(|shard| shard.messages_in).collect::<Vec<_>>(), [15, 5]);
    }
}
