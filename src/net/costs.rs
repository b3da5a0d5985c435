//! What messages between shards cost their receivers.
//!
//! A message of a few bytes to a thousand subscribers is a lot of work, and what comes after it waits for that. What a message costs is known
//! to its receiver alone, and when it is done: the receiver says what the last ones have cost, and the sender expects as much of the next.

use std::sync::atomic::{AtomicU32, Ordering};

/// A message counts for this part of the average of what messages cost.
const RECENT: u32 = 8;

/// What the last messages of one shard have cost another, each: the receiver says it, the sender reads it.
#[derive(Default)]
pub(super) struct Cost(AtomicU32);

impl Cost {
    /// As the receiver said.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard knows of costs: of the messages that it gets, and of what it was told of those that it sends.
pub(super) struct Costs {
    /// By receiver: what messages to it cost, as [`next_change`](Self::next_change) has said.
    told: Vec<u32>,
    /// Receivers for which that is not true any more.
    changed: Vec<usize>,
    /// By sender: what its messages have cost here, in parts of a unit.
    here: Vec<u32>,
}

impl Costs {
    /// Of messages between `shards` shards nothing is known.
    pub fn new(shards: usize) -> Self {
        Costs { told: vec![0; shards], changed: Vec::new(), here: vec![0; shards] }
    }

    /// What a message to shard `to` costs it, by what that has said.
    pub fn of(&mut self, to: usize, said: &Cost) -> u32 {
        let (cost, told) = (said.get(), &mut self.told[to]);
        // Half as much, or twice: else it would change all the time.
        if cost / 2 > *told || cost < *told / 2 {
            *told = cost;
            self.changed.push(to);
        }
        cost
    }

    /// The next shard to which messages cost another amount of work than was said before, and how much each does.
    pub fn next_change(&mut self) -> Option<(usize, u32)> {
        let to = self.changed.pop()?;
        Some((to, self.told[to]))
    }

    /// A message of shard `from` was so much work here.
    pub fn was_work(&mut self, from: usize, work: u32) {
        let cost = &mut self.here[from];
        *cost = *cost - *cost / RECENT + work.min(u32::MAX / (2 * RECENT));
    }

    /// Has shard `from` know what its messages cost here.
    pub fn say(&self, from: usize, cost: &Cost) {
        let now = self.here[from] / RECENT;
        if cost.get() != now {
            cost.0.store(now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_hears_what_its_messages_cost_when_that_has_changed_a_lot() {
        let (said, mut receiver, mut sender) = (Cost::default(), Costs::new(2), Costs::new(2));
        assert_eq!((sender.of(1, &said), sender.next_change()), (0, None));
        let mut handle = |messages, work| {
            (0..messages).for_each(|_| receiver.was_work(0, work));
            receiver.say(0, &said);
            (sender.of(1, &said), sender.next_change())
        };
        assert_eq!(handle(100, 500), (500, Some((1, 500))));
        let (cost, change) = handle(100, 600);
        assert!((590..=600).contains(&cost) && change.is_none(), "{cost}");
        assert!(matches!(handle(100, 2), (2, Some((1, 2)))));
        let (_, huge) = handle(1000, u32::MAX);
        assert!(huge.is_some_and(|(_, cost)| cost > u32::MAX / 32), "it does not wrap around");
    }
}
