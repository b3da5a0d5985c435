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
    /// Packets of other types received.
    pub others_in: u64,
    /// Packets of other types sent.
    pub others_out: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// CONNECT packets refused, and connections that were closed before theirs could come, for want of room.
    pub refused: u64,
    /// Those of them that were refused because too much was held for clients that are not accepted.
    pub refused_for_memory: u64,
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
    /// What links had kept with sessions, by link and session, that they have again since the start.
    pub hook_states_restored: u64,
    /// The same, of links that store what they keep and have it not.
    pub hook_states_anew: u64,
    /// How often what a link keeps with a session could not be written.
    pub hook_states_left_out: u64,
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

    /// Packets of all types received.
    pub fn packets_in(&self) -> u64 {
        self.messages_in + self.others_in
    }

    /// Packets of all types sent.
    pub fn packets_out(&self) -> u64 {
        self.messages_out + self.others_out
    }

    /// Adds what another shard counted.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            bytes_in,
            bytes_out,
            messages_in,
            messages_out,
            others_in,
            others_out,
            accepted,
            refused,
            refused_for_memory,
            takeovers,
            sessions_moved,
            publish_refused,
            retained_refused,
            hook_failures,
            hook_states_restored,
            hook_states_anew,
            hook_states_left_out,
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
        self.others_in += others_in;
        self.others_out += others_out;
        self.accepted += accepted;
        self.refused += refused;
        self.refused_for_memory += refused_for_memory;
        self.takeovers += takeovers;
        self.sessions_moved += sessions_moved;
        self.publish_refused += publish_refused;
        self.retained_refused += retained_refused;
        self.hook_failures += hook_failures;
        self.hook_states_restored += hook_states_restored;
        self.hook_states_anew += hook_states_anew;
        self.hook_states_left_out += hook_states_left_out;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::HookCounts;

    /// Another number in every field, from `first` on.
    fn counters(first: u64) -> Counters {
        let mut numbers = first..;
        let mut next = || numbers.next().expect("numbers do not run out");
        Counters {
            bytes_in: next(),
            bytes_out: next(),
            messages_in: next(),
            messages_out: next(),
            others_in: next(),
            others_out: next(),
            accepted: next(),
            refused: next(),
            refused_for_memory: next(),
            takeovers: next(),
            sessions_moved: next(),
            publish_refused: next(),
            retained_refused: next(),
            hook_failures: next(),
            hook_states_restored: next(),
            hook_states_anew: next(),
            hook_states_left_out: next(),
            program_dropped: next(),
            dropped: [(); DropReason::ALL.len()].map(|()| next()),
            connected: next(),
            sessions: next(),
            subscriptions: next(),
            retained: next(),
            retained_bytes: next(),
        }
    }

    /// All numbers, in the order of the fields.
    fn numbers(counters: &Counters) -> Vec<u64> {
        let text = format!("{counters:?}");
        let words = text.split(|character: char| !character.is_ascii_digit());
        words.filter_map(|word| word.parse().ok()).collect()
    }

    #[test]
    fn every_counter_is_added_to_its_own_kind() {
        let mut total = counters(100);
        total.add(&counters(1));
        let added: Vec<u64> = (0..23 + DropReason::ALL.len() as u64).map(|at| 100 + at + 1 + at).collect();
        assert_eq!(numbers(&total), added);
    }

    #[test]
    fn dropped_messages_are_counted_by_reason() {
        let mut counters = Counters::default();
        for (times, reason) in (1..).zip(DropReason::ALL) {
            (0..times).for_each(|_| counters.drop(reason));
        }
        assert_eq!(DropReason::ALL.map(|reason| counters.dropped[reason as usize]), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_another_shard_counted_of_its_hooks_is_added_too() {
        let counted = |calls| Counted {
            counters: counters(calls),
            hooks: vec![HookReport {
                position: 0,
                link: "acl".into(),
                hook: "on_publish",
                counts: HookCounts { calls, ..HookCounts::default() },
            }],
        };
        let mut total = counted(3);
        total.add(&counted(4));
        assert_eq!((total.counters.bytes_in, total.hooks.len(), total.hooks[0].counts.calls), (7, 1, 7));
    }
}
