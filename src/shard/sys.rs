//! `$SYS`: what the broker counts, published as retained messages by the first shard.

use std::sync::Arc;

use super::clock::Deadline;
use super::mail::Mail;
use super::{Counted, Counters, Shard};
use crate::client::DropReason;
use crate::hooks::{Chain, HookReport};
use crate::message::Publication;
use crate::time::Time;
use crate::topic::TopicName;

/// The shard that publishes.
const PUBLISHER: usize = 0;

impl<C: Chain> Shard<C> {
    /// The interval has passed: the others report to the publisher, the publisher publishes what it knows.
    pub(super) fn sys_due(&mut self) {
        self.deadlines.arm(self.now + self.config.sys.interval, Deadline::Sys);
        self.count_gauges();
        let mut total = Counted { counters: self.counters.clone(), hooks: self.hook_reports() };
        if self.id != PUBLISHER {
            self.post(PUBLISHER, Mail::Counters(Box::new(total)));
            return;
        }
        self.others.iter().for_each(|other| total.add(other));
        let realm = self.realms.number(&Arc::from(""));
        for (topic, value) in lines(&total.counters, self.now).into_iter().chain(hook_lines(&total.hooks)) {
            self.publish_sys(realm, &topic, &value.to_string());
        }
        self.publish_sys(realm, "$SYS/broker/version", self.version);
    }

    fn publish_sys(&mut self, realm: u32, topic: &str, value: &str) {
        let mut publication = Publication::new(TopicName::trusted(topic), value.as_bytes());
        publication.retain = true;
        self.publish_own(realm, &publication);
    }

    /// Brings the counters up to date that are gauges.
    pub(super) fn count_gauges(&mut self) {
        self.counters.sessions = self.sessions.len() as u64;
        self.counters.retained = self.realms.iter().map(|realm| realm.retained.len() as u64).sum();
        self.counters.retained_bytes = self.realms.iter().map(|realm| realm.retained.bytes() as u64).sum();
    }
}

/// Topics and values. The names are those of Mosquitto where it has the same.
fn lines(total: &Counters, now: Time) -> Vec<(String, u64)> {
    let offline = total.sessions.saturating_sub(total.connected);
    let fixed = [
        ("uptime", now.as_millis() / 1000),
        ("clients/connected", total.connected),
        ("clients/disconnected", offline),
        ("clients/total", total.sessions),
        ("connections/accepted", total.accepted),
        ("connections/refused", total.refused),
        ("connections/takeovers", total.takeovers),
        ("sessions/moved", total.sessions_moved),
        ("subscriptions/count", total.subscriptions),
        ("retained messages/count", total.retained),
        ("retained messages/bytes", total.retained_bytes),
        ("retained messages/refused", total.retained_refused),
        ("publish/messages/received", total.messages_in),
        ("publish/messages/sent", total.messages_out),
        ("publish/messages/refused", total.publish_refused),
        ("bytes/received", total.bytes_in),
        ("bytes/sent", total.bytes_out),
        ("hooks/failures", total.hook_failures),
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
