//! `$SYS`: what the broker counts, published as retained messages by the first shard.

use super::counters::{Counted, Counters};
use crate::client::DropReason;
use crate::hooks::HookReport;
use crate::time::Time;

/// The shard that publishes.
pub(super) const PUBLISHER: usize = 0;

/// Topics and values, in order.
pub(super) fn lines(total: &Counted, now: Time, version: &str) -> Vec<(String, String)> {
    let counted = counters(&total.counters, now).into_iter().chain(hook_lines(&total.hooks));
    let counted = counted.map(|(topic, value)| (topic, value.to_string()));
    counted.chain([("$SYS/broker/version".to_owned(), version.to_owned())]).collect()
}

/// Topics and values. The names are those of Mosquitto where it has the same.
fn counters(total: &Counters, now: Time) -> Vec<(String, u64)> {
    let offline = total.sessions.saturating_sub(total.connected);
    let fixed = [
        ("uptime", now.as_millis() / 1000),
        ("clients/connected", total.connected),
        ("clients/disconnected", offline),
        ("clients/total", total.sessions),
        ("connections/accepted", total.accepted),
        ("connections/refused", total.refused),
        ("connections/refused/memory", total.refused_for_memory),
        ("connections/takeovers", total.takeovers),
        ("sessions/moved", total.sessions_moved),
        ("subscriptions/count", total.subscriptions),
        ("retained messages/count", total.retained),
        ("retained messages/bytes", total.retained_bytes),
        ("retained messages/refused", total.retained_refused),
        ("messages/received", total.packets_in()),
        ("messages/sent", total.packets_out()),
        ("publish/messages/received", total.messages_in),
        ("publish/messages/sent", total.messages_out),
        ("publish/messages/refused", total.publish_refused),
        ("bytes/received", total.bytes_in),
        ("bytes/sent", total.bytes_out),
        ("hooks/failures", total.hook_failures),
        ("hooks/states/restored", total.hook_states_restored),
        ("hooks/states/anew", total.hook_states_anew),
        ("hooks/states/left out", total.hook_states_left_out),
        ("program/messages/dropped", total.program_dropped),
    ];
    let dropped = DropReason::ALL.map(|reason| {
        (format!("$SYS/broker/publish/messages/dropped/{}", reason.name()), total.dropped[reason as usize])
    });
    let all: u64 = total.dropped.iter().sum();
    let fixed = fixed.into_iter().map(|(name, value)| (format!("$SYS/broker/{name}"), value));
    fixed.chain([("$SYS/broker/publish/messages/dropped".to_owned(), all)]).chain(dropped).collect()
}

/// Topics and values of the hooks that were called.
fn hook_lines(hooks: &[HookReport]) -> impl Iterator<Item = (String, u64)> {
    hooks.iter().flat_map(|HookReport { link, hook, counts, .. }| {
        counts.values().map(|(name, value)| (format!("$SYS/broker/hooks/{link}/{hook}/{name}"), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_topic_of_its_own() {
        let mut total = Counted::default();
        total.counters.dropped = [1; DropReason::ALL.len()];
        total.counters.sessions = 5;
        total.counters.connected = 2;
        let lines = lines(&total, Time::from_millis(61_999), "1.2.3");
        let value = |topic: &str| {
            let found: Vec<_> =
                lines.iter().filter(|(name, _)| name == topic).map(|(_, value)| value.as_str()).collect();
            assert!(found.len() <= 1, "{topic} comes once");
            found.first().copied()
        };
        assert_eq!(value("$SYS/broker/uptime"), Some("61"));
        assert_eq!(value("$SYS/broker/clients/disconnected"), Some("3"));
        assert_eq!(value("$SYS/broker/publish/messages/dropped"), Some(DropReason::ALL.len().to_string().as_str()));
        assert_eq!(value("$SYS/broker/version"), Some("1.2.3"));
        assert!(lines.iter().all(|(topic, _)| value(topic).is_some()));
    }
}
