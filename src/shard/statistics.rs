//! What a shard knows of the whole broker: the counters of all shards, and what the one that publishes `$SYS` makes of them.

use super::counters::{Counted, Counters};
use super::load_average::LoadAverages;
use crate::config::Limit;
use crate::memory::{MemoryHeld, MemoryKind};
use crate::time::Time;

/// How much memory there is; handed in by the runtime.
#[derive(Clone, Copy, Debug)]
pub struct MemoryGauge {
    /// What the process has in use, in bytes. None if nobody knows.
    pub resident: fn() -> Option<u64>,
    /// What the broker holds.
    pub held: fn() -> MemoryHeld,
    /// What it may hold.
    pub most: Limit,
}

impl MemoryGauge {
    /// Nobody knows anything.
    const NONE: MemoryGauge = MemoryGauge { resident: || None, held: MemoryHeld::default, most: Limit::UNLIMITED };
}

/// What a shard knows of counters: its own, and those of the others as they last told it.
pub(super) struct Statistics {
    /// What it counted itself; the gauges among them are not up to date.
    pub counters: Counters,
    /// By shard.
    pub others: Vec<Counted>,
    /// The memory of the process.
    pub memory: MemoryGauge,
    /// Rates of all shards together, and when they were last updated.
    load: LoadAverages,
    updated: Time,
    /// The most clients and the most memory at a time, as far as they were looked at.
    most_connected: u64,
    most_memory: u64,
}

impl Statistics {
    /// Nothing counted, on one of so many shards.
    pub fn new(shards: usize) -> Self {
        Statistics {
            counters: Counters::default(),
            others: vec![Counted::default(); shards],
            memory: MemoryGauge::NONE,
            load: LoadAverages::default(),
            updated: Time::ZERO,
            most_connected: 0,
            most_memory: 0,
        }
    }

    /// Topics and values of averages and maxima, by the names that Mosquitto has for them. `total` is what all shards have counted.
    pub fn lines(&mut self, total: &Counters, now: Time) -> Vec<(String, String)> {
        let interval = now.since(std::mem::replace(&mut self.updated, now));
        if !interval.is_zero() {
            self.load.update(total, interval);
        }
        self.most_connected = self.most_connected.max(total.connected);
        let mut lines = vec![("$SYS/broker/clients/maximum".to_owned(), self.most_connected.to_string())];
        let held = (self.memory.held)();
        let total = ("held", held.total().to_string());
        let most = ("limit", self.memory.most.get().map_or("unlimited".to_owned(), |most| most.to_string()));
        let kinds = MemoryKind::ALL.map(|kind| (kind.name(), held.of(kind).to_string()));
        let memory = [total, most].into_iter().chain(kinds);
        lines.extend(memory.map(|(name, value)| (format!("$SYS/broker/memory/{name}"), value)));
        if let Some(memory) = (self.memory.resident)() {
            self.most_memory = self.most_memory.max(memory);
            lines.push(("$SYS/broker/heap/current size".to_owned(), memory.to_string()));
            lines.push(("$SYS/broker/heap/maximum size".to_owned(), self.most_memory.to_string()));
        }
        lines.extend(self.load.lines());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_of_other_shards_at_first() {
        let statistics = Statistics::new(3);
        assert_eq!(statistics.others.iter().map(|other| other.counters.accepted).collect::<Vec<_>>(), [0; 3]);
    }

    #[test]
    fn maxima_stay_when_there_is_less() {
        let (mut statistics, mut total) = (Statistics::new(1), Counters::default());
        let value = |lines: &[(String, String)], name: &str| {
            let found = lines.iter().find(|(topic, _)| topic.strip_prefix("$SYS/broker/") == Some(name));
            found.map(|(_, value)| value.clone())
        };
        statistics.memory.resident = || Some(7);
        total.connected = 5;
        statistics.lines(&total, Time::from_millis(20_000));
        statistics.memory.resident = || Some(3);
        total.connected = 2;
        let lines = statistics.lines(&total, Time::from_millis(40_000));
        let value = |name| value(&lines, name);
        assert_eq!(value("clients/maximum").as_deref(), Some("5"));
        assert_eq!(
            (value("heap/current size").as_deref(), value("heap/maximum size").as_deref()),
            (Some("3"), Some("7"))
        );
        assert_eq!(value("load/messages/received/1min").as_deref(), Some("0.00"));
        assert_eq!(value("memory/limit").as_deref(), Some("unlimited"));
        for kind in MemoryKind::ALL {
            let line = (format!("$SYS/broker/memory/{}", kind.name()), "0".to_owned());
            assert!(lines.contains(&line), "{line:?}");
        }
        statistics.memory.resident = || None;
        assert_eq!(
            statistics
                .lines(&total, Time::from_millis(40_000))
                .iter()
                .filter(|(topic, _)| topic.contains("heap"))
                .count(),
            0
        );
    }
}
