//! What a shard counts. Every shard has its own and adds only to them; `$SYS` shows the sum.

use crate::client::DropReason;
use crate::hooks::HookReport;

/// Counts since the start, and gauges of the moment.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Bytes received from sockets.
    pub bytes_in: u64,
    /// Bytes handed to sockets.
    pub bytes_out: u64,
    /// PUBLISH packets received.
    pub messages_in: u64,
    /// PUBLISH packets sent.
    pub messages_out: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// CONNECT packets refused.
    pub refused: u64,
    /// Connections that ended because another one registered the same subscriber id.
    pub takeovers: u64,
    /// Sessions that came from another shard, because their slot moved.
    pub sessions_moved: u64,
    /// PUBLISH packets that hooks refused, or that went to `$` topics.
    pub publish_refused: u64,
    /// Retained messages that a limit kept out.
    pub retained_refused: u64,
    /// Hooks that panicked or did not answer in time.
    pub hook_failures: u64,
    /// Messages for the embedding program that it was too slow to take.
    pub program_dropped: u64,
    /// Messages dropped, by [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Connections that belong to a session now.
    pub connected: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Retained messages kept now.
    pub retained: u64,
    /// Their bytes.
    pub retained_bytes: u64,
}

impl Counters {
    /// Counts one dropped message.
    pub fn drop(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            bytes_in,
            bytes_out,
            messages_in,
            messages_out,
            accepted,
            refused,
            takeovers,
            sessions_moved,
            publish_refused,
            retained_refused,
            hook_failures,
            program_dropped,
            dropped,
            connected,
            sessions,
            subscriptions,
            retained,
            retained_bytes,
        } = other;
        self.bytes_in += bytes_in;
        self.bytes_out += bytes_out;
        self.messages_in += messages_in;
        self.messages_out += messages_out;
        self.accepted += accepted;
        self.refused += refused;
        self.takeovers += takeovers;
        self.sessions_moved += sessions_moved;
        self.publish_refused += publish_refused;
        self.retained_refused += retained_refused;
        self.hook_failures += hook_failures;
        self.program_dropped += program_dropped;
        self.dropped.iter_mut().zip(dropped).for_each(|(own, other)| *own += other);
        self.connected += connected;
        self.sessions += sessions;
        self.subscriptions += subscriptions;
        self.retained += retained;
        self.retained_bytes += retained_bytes;
    }
}

/// All that a shard counts.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// What it counted itself.
    pub counters: Counters,
    /// What its hooks counted.
    pub hooks: Vec<HookReport>,
}

impl Counted {
    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Counted) {
        self.counters.add(&other.counters);
        HookReport::add(&mut self.hooks, &other.hooks);
    }
}
