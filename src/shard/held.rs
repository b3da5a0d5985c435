//! What a shard holds, in numbers: for tests of the promise that nothing grows without bound, and for operators who wonder.

use super::Shard;
use crate::hooks::Chain;

/// How many of each a shard holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Connections, those that are still connecting included.
    pub connections: usize,
    /// Sessions, those of absent clients included.
    pub sessions: usize,
    /// Topic filters of all mountpoints: of own subscribers, of other shards, of shared subscriptions.
    pub filters: usize,
    /// Retained messages that are kept here.
    pub retained: usize,
    /// Subscriptions that are being made, and questions of other shards about retained messages.
    pub subscribing: usize,
    /// Hooks that have not answered, and subscriber ids that wait for some.
    pub hooks: usize,
    /// Entries in the timer wheel. One goes on for ever; others may outlive their owner by a minute.
    pub deadlines: usize,
}

impl<C: Chain> Shard<C> {
    /// Counts what this shard holds. Walks over its connections: not for every turn.
    pub fn held(&self) -> Held {
        Held {
            connections: self.connections.ids().len(),
            sessions: self.sessions.len(),
            filters: self.realms.iter().map(|realm| realm.tree.len()).sum(),
            retained: self.realms.iter().map(|realm| realm.retained.len()).sum(),
            subscribing: self.subscribing.len() + self.keeping.asked(),
            hooks: self.tasks.len() + self.notices.len(),
            deadlines: self.deadlines.len(),
        }
    }
}
