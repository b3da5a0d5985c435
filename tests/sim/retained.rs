//! Rules for retained messages: which one a topic has, and who must be sent it.

use moormq::codec::RetainHandling;

use crate::history::{Ask, FILTERS, TOPICS, matches};
use crate::judge::{Judge, Wanting};
use crate::trace::NO_MESSAGE;

impl Judge {
    /// A client sends SUBSCRIBE: it wants to see what is retained now.
    pub fn wants_retained(&mut self, serial: u32, ask: Ask) {
        let Some(session) = self.connections[serial as usize].session.filter(|_| ask.wants_retained()) else {
            return;
        };
        let one = &self.sessions[session];
        let is_known = one.subscriptions.iter().any(|known| known.filter == ask.filter);
        if ask.options.retain_handling == RetainHandling::SendIfNew && is_known {
            return;
        }
        let mount = self.mount_of(one.subject);
        let settled = self.retained[mount * TOPICS.len()..][..TOPICS.len()].iter().map(|one| match one.settled[..] {
            [only] if one.since.is_empty() => Some(only),
            _ => None,
        });
        let settled = settled.collect();
        let one = &self.sessions[session];
        let owed = one.initial.map(|(most, came)| most.saturating_sub(came));
        let from = one.retained.len();
        self.wanting.push(Wanting { session, serial, filter: ask.filter, number: 0, from, settled, owed });
    }

    pub fn see_retained(&mut self, session: usize, serial: u32, number: u32, anew: bool) {
        let message = &self.messages[number as usize];
        let (routes, key, retained) = (message.routes.clone(), (message.subject, message.topic), message.retain);
        let repeated = (!anew || self.sessions[session].is_forgetful)
            && self.sessions[session].retained.iter().any(|(_, seen)| *seen == number);
        let one = &mut self.sessions[session];
        one.retained.push((serial, number));
        let (most, came) = &mut one.initial[key.1];
        *came += u32::from(anew);
        if *came > *most && !one.is_forgetful {
            let detail = format!("{}: {came} of {most} of {}", self.subjects[one.subject].id, TOPICS[key.1]);
            return self.find("retained: only those who ask for it get it", detail);
        }
        if !retained {
            return self.find("retained: only what was", format!("message {number} was not to be retained"));
        }
        if !self.setup.lifo && !repeated {
            self.check_order(session, key, number, &routes, true);
        }
    }

    pub fn judge_retained(&mut self) {
        for wanting in std::mem::take(&mut self.wanting) {
            let Wanting { session, serial, filter, number, from, settled, owed } = wanting;
            let one = &self.sessions[session];
            let online = !one.ended && one.serial == serial && self.connections[serial as usize].is_responsive;
            let holds =
                one.subscriptions.iter().any(|now| now.filter == filter && now.number == number && now.confirmed);
            if !online || !holds || number == 0 {
                continue;
            }
            let mount = self.mount_of(one.subject);
            for (topic, settled) in settled.into_iter().enumerate().filter(|(topic, _)| matches(filter, *topic)) {
                let Some(expected) = settled else { continue };
                let came: Vec<u32> = one.retained[from..]
                    .iter()
                    .filter(|(on, message)| *on == serial && self.messages[*message as usize].topic == topic)
                    .map(|(_, message)| *message)
                    .collect();
                let quiet = self.retained[mount * TOPICS.len() + topic].since.is_empty();
                let fits = match expected {
                    NO_MESSAGE => !quiet || came.len() <= owed[topic] as usize,
                    expected => !quiet || came.contains(&expected) || one.dropped.contains(&expected),
                };
                if !fits {
                    let detail = format!(
                        "{} subscribed to {} and got {came:?} of {}, not {expected}",
                        self.subjects[one.subject].id, FILTERS[filter], TOPICS[topic]
                    );
                    self.find("retained: the latest is kept and given", detail);
                    return;
                }
            }
        }
        let was_little = self.pressure.was_little;
        self.pressure.was_little = !self.short_of_memory().is_empty();
        for retained in &mut self.retained {
            if retained.since.is_empty() {
                continue;
            }
            // Of each shard the last one; which of those reached the owner of the topic last is not known.
            retained.before.append(&mut retained.settled);
            let since = std::mem::take(&mut retained.since);
            let is_last = |at: usize| since[at + 1..].iter().all(|later| later.shard != since[at].shard);
            let last = || (0..since.len()).filter(|at| is_last(*at)).map(|at| since[at]);
            retained.settled.extend(last().map(|one| one.message));
            if last().any(|one| one.is_unsynced) {
                retained.before.extend(since.iter().map(|one| one.message));
            } else {
                retained.before.clear();
            }
            if was_little {
                // Perhaps it was refused, and what was there before forgotten.
                retained.settled.push(NO_MESSAGE);
            }
        }
    }
}
