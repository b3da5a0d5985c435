//! How a shard is doing: what operators see, and what the balance between shards is judged by.

use super::counters::Counters;
use super::machine::Shard;
use super::pubsub::PubSub;
use super::statistics::MemoryGauge;
use crate::client::SubscriberId;
use crate::delivery::FULL;
use crate::hooks::{Chain, HookClock, HookReport};
use crate::migration::SlotMigration;
use crate::session::MigrationState;
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
    /// Whether it is under way.
    pub migration: SlotMigration,
    /// How many sessions of it are here; those that are to come, and are announced, included.
    pub sessions: u32,
    /// Messages that its clients published and were sent by this shard since the start. Wraps around.
    pub messages: u32,
}

/// How many of each a shard holds at the moment: for tests of the promise that nothing grows without bound, and for operators who wonder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceCounts {
    /// Connections, those that are still connecting included.
    pub connections: usize,
    /// Bytes held for clients that are not accepted yet.
    pub unaccepted_bytes: usize,
    /// Sessions, those of offline clients included.
    pub sessions: usize,
    /// Topic filters of all mountpoints: of own subscribers, of other shards, of shared subscriptions.
    pub filters: usize,
    /// Shapes of these that count.
    pub shapes: usize,
    /// Retained messages whose topics this shard owns.
    pub retained: usize,
    /// Subscriptions that are being made, and questions about retained messages.
    pub subscribing: usize,
    /// Clients that are still to be sent retained messages, and subscriptions of the program that are.
    pub replays: usize,
    /// Recipients that wait for their portion of a message to very many.
    pub under_way: usize,
    /// Hooks that have not answered, and subscriber ids that wait for some.
    pub hooks: usize,
    /// Slots and sessions on their way to or from other shards, and what waits for them.
    pub migrations: usize,
    /// Entries in the timer wheel. One goes on for ever; others may outlive their owner by a minute.
    pub deadlines: usize,
}

/// Of the queues of sessions and connections one that is longer than it may be, for tests; none if none is. Looks at all of them. `back`: so many bytes
/// may have come back to the queue of a session when the broker died, as it was not on disk that they were in flight.
pub fn bound_that_is_exceeded<C: Chain>(shard: &Shard<C>, back: usize) -> Option<String> {
    let clients = &shard.pubsub.clients;
    let most_output = clients.flow.most();
    if let Some((what, count, most)) = shared_bound_that_is_exceeded(shard) {
        return Some(format!("{count} {what} on shard {}, {most} at most", clients.setup.id));
    }
    clients.sessions.which(|_| true).into_iter().find_map(|index| {
        let session = clients.sessions.get(index)?;
        let own = session.settings.queue;
        // What came through a shared subscription waits longer than the subscription lasts.
        let is_member = session.subscriptions.shared() > 0 || session.outbound.queue.shared() > 0;
        let keeps = clients.flow.lossless.is_configured() || is_member;
        let limits = if keeps { own.while_publishers_wait(clients.setup.under_way()) } else { own };
        let queue = &session.outbound.queue;
        let queued = queue.bytes();
        if !limits.bytes.allows(queued.saturating_sub(queue.paged().bytes_in_doubt() + back)) {
            return Some(format!("{queued} bytes wait for {}", session.client.subscriber));
        }
        if let Some(MigrationState::Arriving(arriving)) = &session.migration
            && !session.settings.queue.bytes.allows(arriving.bytes)
        {
            return Some(format!("{} bytes are buffered for {}", arriving.bytes, session.client.subscriber));
        }
        let waiting = clients.connections.get(session.connection?)?.outbox.waiting();
        // What is written while there is room may be large, and acknowledgements are not held back.
        let is_long = waiting > 2 * most_output + session.settings.maximum_incoming.min(MOST_WRITTEN);
        is_long.then(|| format!("{waiting} bytes of output wait for {}", session.client.subscriber))
    })
}

/// The same of what all clients of a shard share: what it is, how much there is, and may be.
fn shared_bound_that_is_exceeded<C: Chain>(shard: &Shard<C>) -> Option<(&'static str, usize, usize)> {
    let PubSub { clients, wills, .. } = &shard.pubsub;
    let config = &clients.setup.config;
    let (sessions, connections) = (clients.sessions.len(), clients.connections.ids().len());
    // Of each client one that was taken over, and that of the connection which took over: that is not served meanwhile, but it may end.
    let (of_wills, clients_of_wills) = wills.count_wills();
    // Everybody may have published to all before there were too many.
    let under_way = clients.agenda.turn.limits().under_way.saturating_mul(FULL).saturating_add(sessions * connections);
    let bounds = [
        ("bytes are held for strangers", clients.connections.unaccepted.bytes(), config.limits.max_unaccepted_bytes),
        ("tasks about messages wait", clients.pending_hooks.messages.len(), config.hooks.max_message_tasks),
        ("recipients are under way", clients.delivery.fan_outs.recipients(), under_way),
        ("wills of clients wait", of_wills, 2 * clients_of_wills),
        ("bytes wait behind wills", wills.bytes_behind(), 2 * wills.most() + MOST_WRITTEN),
    ];
    bounds.into_iter().find(|(_, count, most)| count > most)
}

/// More than a packet of a test has.
const MOST_WRITTEN: usize = 64 * 1024;

impl<C: Chain> Shard<C> {
    /// How it is doing now. Looks at every slot, but at no session.
    pub fn report(&self) -> Report {
        let clients = &self.pubsub.clients;
        let slots = (0..SLOTS as u16).map(|slot| SlotReport {
            slot,
            is_own: self.migration.slots.owner_of_slot(slot) == Some(clients.setup.id),
            migration: self.migration.slots.migration_of(slot),
            sessions: clients.sessions.in_slot(slot),
            messages: clients.delivery.traffic.of(slot),
        });
        let known =
            |report: &SlotReport| report.is_own || report.messages > 0 || report.migration != SlotMigration::None;
        Report {
            shard: clients.setup.id,
            counters: self.counters(),
            hooks: self.hook_reports(),
            slots: slots.filter(known).collect(),
        }
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        let PubSub { clients, retained, .. } = &self.pubsub;
        Counters {
            sessions: clients.sessions.len() as u64,
            retained: retained.len() as u64,
            retained_bytes: retained.bytes() as u64,
            others_out: clients.connections.packets_written(),
            ..clients.statistics.counters.clone()
        }
    }

    /// What was counted here of the hooks that were called, link by link.
    pub fn hook_reports(&self) -> Vec<HookReport> {
        HookReport::of(&self.pubsub.clients.chain)
    }

    /// Times answers of hooks by `clock`, for links that want it ([`Hook::TIMED`](crate::hooks::Hook::TIMED)), and has `$SYS` show the memory of
    /// the process, if `memory` says how much that is.
    pub fn measure_by(&mut self, clock: HookClock, memory: Option<MemoryGauge>) {
        self.pubsub.clients.chain.time_by(clock);
        if let Some(memory) = memory {
            self.pubsub.clients.statistics.memory = memory;
        }
    }

    /// Which shard owns a client.
    pub fn owner(&self, subscriber: &SubscriberId) -> usize {
        self.migration.slots.owner(subscriber)
    }

    /// Counts what this shard holds. Walks over its connections: not for every turn.
    pub fn resource_counts(&self) -> ResourceCounts {
        let PubSub { clients, routing, retained, subscribing, .. } = &self.pubsub;
        ResourceCounts {
            connections: clients.connections.ids().len(),
            unaccepted_bytes: clients.connections.unaccepted.bytes(),
            sessions: clients.sessions.len(),
            filters: routing.filters(),
            shapes: routing.all_shapes(),
            retained: retained.len(),
            subscribing: subscribing.len() + retained.pending(),
            replays: retained.replays(),
            under_way: clients.delivery.fan_outs.recipients(),
            hooks: clients.pending_hooks.len(),
            migrations: self.migration.len(),
            deadlines: clients.agenda.deadlines(),
        }
    }
}
