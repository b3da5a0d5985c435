//! What must have come by when all is drained, and what must not have come.

use std::sync::Mutex;

use crate::message::{Kind, Sent};
use crate::publisher::Log;
use crate::subscriber::{Filter, Tally};

fn covers(filter: &Filter, sent: &Sent) -> bool {
    let Some(acked) = sent.acked else { return false };
    is_for(filter, sent) && filter.spans.iter().any(|span| span.covers(sent.first, acked))
}

fn is_for(filter: &Filter, sent: &Sent) -> bool {
    filter.kind == sent.kind && filter.topic.is_none_or(|topic| topic == sent.topic)
}

fn has(tally: &Tally, publisher: usize, number: usize) -> bool {
    tally.counts.get(publisher).and_then(|counts| counts.get(number)).is_some_and(|count| *count > 0)
}

fn describe(who: &str, publisher: usize, number: usize, sent: &Sent) -> String {
    let Sent { round, acked_round, .. } = sent;
    format!(
        "{who}: message {number} of publisher {publisher}, of round {round}, acknowledged in {acked_round}: {sent:?}"
    )
}

/// Messages that were acknowledged, and have not come to all to whom they should; of each publisher those from a number on.
pub fn lost(logs: &[Mutex<Log>], tallies: &[Mutex<Tally>], from: &[usize], groups: u8) -> Vec<String> {
    let tallies: Vec<_> = tallies.iter().map(|tally| tally.lock().expect("nobody panics")).collect();
    let mut lost = Vec::new();
    for (publisher, log) in logs.iter().enumerate() {
        let log = log.lock().expect("nobody panics");
        for (number, sent) in log.sent.iter().enumerate().skip(from[publisher]).filter(|(_, one)| !one.is_clearing) {
            for tally in &tallies {
                let mut own = tally.filters.iter().filter(|filter| filter.group.is_none());
                if own.any(|filter| covers(filter, sent)) && !has(tally, publisher, number) {
                    lost.push(describe(&tally.client_id, publisher, number, sent));
                }
            }
            for group in (0..groups).filter(|_| sent.kind == Kind::Shared) {
                let is_in = |filter: &&Filter| filter.group == Some(group) && is_for(filter, sent);
                let members: Vec<_> =
                    tallies.iter().filter_map(|one| Some((one, one.filters.iter().find(is_in)?))).collect();
                let any = members.iter().any(|(_, filter)| covers(filter, sent));
                if any && !members.iter().any(|(tally, _)| has(tally, publisher, number)) {
                    lost.push(describe(&format!("group {group}"), publisher, number, sent));
                }
            }
        }
    }
    lost
}

/// Messages that came though there was no subscription to them.
pub fn undue(logs: &[Mutex<Log>], tallies: &[Mutex<Tally>], from: &[usize]) -> Vec<String> {
    let mut undue = Vec::new();
    for tally in tallies {
        let tally = tally.lock().expect("nobody panics");
        for (publisher, log) in logs.iter().enumerate() {
            let log = log.lock().expect("nobody panics");
            for (number, sent) in log.sent.iter().enumerate().skip(from[publisher]) {
                // A will is published some time later.
                let acked = sent.acked.filter(|_| sent.kind != Kind::Will);
                let may = |filter: &Filter| {
                    // What waits for a member whose session ends goes on to another one, which may be a member since a moment ago.
                    let until = acked.filter(|_| filter.group.is_none());
                    is_for(filter, sent) && filter.spans.iter().any(|span| span.touches(sent.first, until))
                };
                if sent.is_void && has(&tally, publisher, number) {
                    undue.push(format!(
                        "it may not come at all: {}",
                        describe(&tally.client_id, publisher, number, sent)
                    ));
                }
                if has(&tally, publisher, number) && !tally.filters.iter().any(may) {
                    let spans: Vec<_> = tally.filters.iter().map(|filter| (&filter.text, &filter.spans)).collect();
                    undue.push(format!("{} {spans:?}", describe(&tally.client_id, publisher, number, sent)));
                }
            }
        }
    }
    undue
}

/// QoS 2 messages that came to more than one member of a group.
pub fn shared_twice(logs: &[Mutex<Log>], tallies: &[Mutex<Tally>], from: &[usize], groups: u8) -> usize {
    let tallies: Vec<_> = tallies.iter().map(|tally| tally.lock().expect("nobody panics")).collect();
    let mut twice = 0;
    for (publisher, log) in logs.iter().enumerate() {
        let log = log.lock().expect("nobody panics");
        for (number, sent) in log.sent.iter().enumerate().skip(from[publisher]) {
            if sent.kind != Kind::Shared || sent.qos as u8 != 2 {
                continue;
            }
            for group in 0..groups {
                let is_in = |tally: &Tally| tally.filters.iter().any(|filter| filter.group == Some(group));
                let members = tallies.iter().filter(|tally| is_in(tally) && tally.qos as u8 == 2);
                twice += usize::from(members.filter(|tally| has(tally, publisher, number)).count() > 1);
            }
        }
    }
    twice
}

/// What may be retained of a topic: the number of what was acknowledged last, and what was sent since; none is nothing.
pub fn retained(log: &Log, topic: u8) -> (bool, Vec<Option<u32>>) {
    let of_topic = log.sent.iter().enumerate().filter(|(_, sent)| sent.kind == Kind::Retained && sent.topic == topic);
    let mut may = vec![None];
    let mut is_needed = false;
    for (number, sent) in of_topic {
        let value = (!sent.is_clearing).then_some(number as u32);
        match sent.acked {
            Some(_) => {
                may = vec![value];
                is_needed = value.is_some();
            }
            None => {
                may.push(value);
                is_needed &= value.is_some();
            }
        }
    }
    (is_needed, may)
}
