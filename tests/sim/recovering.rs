//! A broker has died, and the next one has read the disks: what has to be there is, and nothing else than what may be. From here on the judge takes
//! for the state of the sessions what was read.

use std::sync::Arc;

use moormq::client::{EndReason, SubscriberId};
use moormq::codec::QoS;
use moormq::message::Message;

use crate::client::{Client, ClientState};
use crate::history::{FILTERS, MOUNTS, TOPICS};
use crate::judge::{Judge, Retains, Stage, Subscription, Will};
use crate::patience::Patience;
use crate::recovery::{Found, FoundMessage, StoredIds};
use crate::trace::{NO_MESSAGE, message_of};

const PRESENT: &str = "store: what was acknowledged is there";
const GONE: &str = "store: what has ended or was removed is not there";
const STRANGE: &str = "store: nothing is there that never was";
const IDS: &str = "store: packet ids are for what they were";
const CLOCK: &str = "store: what is due is due when it was";
const WILL: &str = "store: a will is there until it was published, and no longer";

impl Judge {
    /// The broker dies: all connections end, and what was under way does.
    pub fn broker_dies(&mut self) {
        self.note(|| "* the broker dies".to_owned());
        self.is_starting = true;
        for connection in &mut self.connections {
            connection.ended.get_or_insert(EndReason::ServerCrash);
            connection.notices = 0;
        }
        for subject in &mut self.subjects {
            (subject.registering, subject.made_way, subject.leaving) = (None, false, false);
            subject.notices.clear();
            subject.admin.clear();
        }
        self.wanting.clear();
        self.drained.clear();
        self.acted.clear();
        self.drops = [0; 6];
        self.patience = Patience::default();
        self.pressure.restart();
    }

    /// These sessions were read.
    pub fn recover(&mut self, found: &[Found], clients: &mut [Client]) {
        for one in found {
            self.note(|| format!("  found {one:?}"));
        }
        self.forget_shares_of_passing();
        // What was taken from a publisher is on disk for all who get it.
        for (client, one) in clients.iter().enumerate() {
            for (mount, state) in one.states.iter().enumerate() {
                self.recover_publisher(found_of(found, client, mount), state);
            }
        }
        for at in 0..self.subjects.len() {
            let id = self.subjects[at].id.clone();
            let one = found.iter().find(|one| is_of(one, &id));
            match one {
                Some(one) => self.recover_session(at, one),
                None => self.miss_session(at),
            }
            if self.violation.is_some() {
                return;
            }
        }
        if let Some(one) = found.iter().find(|one| !self.subjects.iter().any(|subject| is_of(one, &subject.id))) {
            return self.find(STRANGE, format!("{one:?}"));
        }
        for (client, one) in clients.iter_mut().enumerate() {
            for (mount, state) in one.states.iter_mut().enumerate() {
                if let Some(found) = found_of(found, client, mount) {
                    self.recover_client(found, state);
                }
            }
        }
        for at in 0..self.messages.len() {
            let is_promised = self.is_promised(at as u32);
            let message = &mut self.messages[at];
            if !is_promised {
                message.shared.clear();
                message.is_due = false;
            }
        }
    }

    /// What a member may have had whose session ends with its connection is nowhere: nothing is stored of that.
    fn forget_shares_of_passing(&mut self) {
        let is_passing = |session: &usize| {
            let session = &self.sessions[*session];
            let mut serials = session.disk.serials.iter().chain([&session.serial]);
            serials.any(|serial| !self.is_stored(*serial))
        };
        let passing: Vec<usize> = (0..self.sessions.len()).filter(is_passing).collect();
        for message in &mut self.messages {
            message
                .shared
                .retain(|(_, members)| !members.iter().any(|one| passing.binary_search(&one.session).is_ok()));
        }
    }

    /// The session of a subject is not there.
    fn miss_session(&mut self, subject: usize) {
        let one = &mut self.subjects[subject];
        let was_ending = std::mem::take(&mut one.unsubscribed) || one.ending;
        (one.ending, one.stage, one.number) = (false, Stage::NoSession, 0);
        let Some(session) = one.session.take() else { return };
        self.sessions[session].will = None;
        // With the last connection it was to end, or not to be stored any more.
        let disk = &self.sessions[session].disk;
        let was_kept = disk.serials.last().is_none_or(|last| self.is_stored(*last));
        if disk.promised.is_some() && was_kept && !was_ending {
            let detail = format!("{}: no session", self.subjects[subject].id);
            return self.find(PRESENT, detail);
        }
        (self.sessions[session].ended, self.sessions[session].disk.ended_at) = (true, self.rests);
    }

    fn recover_session(&mut self, subject: usize, found: &Found) {
        let serial = found.serial;
        let session = self.connections.get(serial as usize).and_then(|connection| connection.session);
        let Some(session) = session.filter(|session| self.sessions[*session].subject == subject) else {
            return self.find(STRANGE, format!("{found:?}"));
        };
        let one = &mut self.subjects[subject];
        let (current, stage) = (one.session.replace(session), one.stage);
        let is_ending = std::mem::take(&mut one.unsubscribed) | std::mem::take(&mut one.ending);
        one.number = found.number;
        one.stage = if found.is_online { Stage::Online } else { Stage::Offline };
        let id = one.id.clone();
        let known = &self.sessions[session];
        // With the last connection it was to end, and nothing of that one was recorded.
        let was_kept = known.disk.serials.last().is_none_or(|last| self.is_stored(*last));
        if let Some(other) = known.disk.gone_for.filter(|_| !known.ended) {
            return self.find(GONE, format!("{id}: connection {other} had CONNACK, and nothing of it is stored"));
        }
        let was_ending = known.ended || is_ending || !was_kept;
        if known.ended && known.disk.ended_at < self.rests {
            return self.find(GONE, format!("{id}: the session of connection {serial} has ended"));
        }
        let newer = current.filter(|current| *current != session && !is_ending);
        if newer.is_some_and(|newer| self.sessions[newer].disk.promised.is_some()) {
            return self
                .find(PRESENT, format!("{id}: the session of connection {serial}, and a newer one was promised"));
        }
        let place = |serial: u32| known.disk.serials.iter().rposition(|one| *one == serial);
        if known.disk.promised.is_some_and(|promised| place(serial) < place(promised)) && !was_ending {
            let detail = format!("{id}: connection {serial}, and {:?} had CONNACK", known.disk.promised);
            return self.find(PRESENT, detail);
        }
        let is_last = known.serial == serial && current == Some(session) && !was_ending;
        let left = known.disk.left.iter().rfind(|(left, ..)| *left == serial).copied();
        if found.is_online && is_last && left.is_some_and(|(.., rests)| rests < self.rests) {
            return self.find(PRESENT, format!("{id}: nothing of the end of connection {serial}"));
        }
        if !found.is_online && !left.is_some_and(|(_, expires, _)| self.is_same_time(expires, found.expires)) {
            return self.find(CLOCK, format!("{id}: expires {:?}, and connection {serial}: {left:?}", found.expires));
        }
        self.recover_will((session, serial), found, is_last && (stage == Stage::Online) == found.is_online);
        let known = &mut self.sessions[session];
        (known.ended, known.serial) = (false, serial);
        known.expires = found.expires;
        if let Some(newer) = newer {
            let newer = &mut self.sessions[newer];
            (newer.ended, newer.disk.ended_at, newer.will) = (true, self.rests, None);
        }
        self.sessions[session].disk.was_ending = was_ending;
        self.recover_subscriptions(session, found, was_ending);
        self.recover_messages(session, found, was_ending);
    }

    /// Whether what is due at one of two times is due at the other. What was due while the broker was down is due at the start.
    fn is_same_time(&self, one: Option<u64>, other: Option<u64>) -> bool {
        let is_over = |time: Option<u64>| time.is_some_and(|time| time <= self.now);
        one == other || (is_over(one) && is_over(other))
    }

    /// `is_current`: the judge knows of nothing that has happened to the session behind what was read.
    fn recover_will(&mut self, (session, serial): (usize, u32), found: &Found, is_current: bool) {
        let pending = self.sessions[session].will.take();
        let own = self.connections[serial as usize].will;
        let is_new = |number: u32| {
            let message = &self.messages[number as usize];
            message.times_as_will() == 0 && message.must != Some(false)
        };
        if let Some(own) = own.filter(|own| found.will != Some(*own)) {
            let is_promised = self.sessions[session].disk.promised == Some(serial);
            if is_new(own) && is_current && (is_promised || !found.is_online) && (found.is_online || pending.is_some())
            {
                return self.find(WILL, format!("that of connection {serial} is lost"));
            }
            if found.will.is_some() {
                // Its client had no CONNACK.
                self.connections[serial as usize].will = None;
            }
        }
        let Some(number) = found.will else { return };
        // That of a client before, which goes, is recorded until it has gone.
        let mut before = self.sessions[session].disk.serials.iter().map(|serial| &self.connections[*serial as usize]);
        if own != Some(number) && !before.any(|connection| connection.will == Some(number)) {
            return self.find(STRANGE, format!("a will of connection {serial}"));
        }
        let is_new = is_new(number);
        let message = &self.messages[number as usize];
        let was_published =
            message.times_as_will() > 0 && message.routes.last().is_some_and(|last| *last <= self.publications_at_rest);
        let was_forgotten = message.must == Some(false) && message.stored.decided_at < self.rests;
        if was_published || was_forgotten {
            let detail = format!("of connection {serial}: published {was_published}, forgotten {was_forgotten}");
            return self.find(WILL, detail);
        }
        if let Some(pending) = pending.filter(|pending| pending.message == number && is_new && is_current)
            && !self.is_same_time(Some(pending.due), Some(found.will_due))
        {
            return self
                .find(CLOCK, format!("the will of connection {serial}, {} and not {}", found.will_due, pending.due));
        }
        let message = &mut self.messages[number as usize];
        message.stored.forgotten = message.routes.len();
        message.must = None;
        if !found.is_online {
            self.sessions[session].will = Some(Will { message: number, due: found.will_due });
        }
    }

    fn recover_subscriptions(&mut self, session: usize, found: &Found, was_ending: bool) {
        for (filter, text) in FILTERS.iter().enumerate() {
            let terms = found.subscriptions.iter().find(|(known, _)| *known == filter).map(|(_, terms)| *terms);
            if !was_ending && !self.sessions[session].disk.may_be(filter, terms) {
                let one = &self.sessions[session];
                let detail = format!("{}: {text} is {terms:?}; {:?}", found.client_id, one.disk);
                return self.find(if terms.is_some() { GONE } else { PRESENT }, detail);
            }
            self.subscription_numbers += 1;
            let (number, since) = (self.subscription_numbers, self.rests);
            let one = &mut self.sessions[session];
            one.changes += 1;
            let Some((qos, no_local, id)) = terms else {
                one.subscriptions.retain(|one| one.filter != filter);
                continue;
            };
            let (confirmed, fresh, is_changing) = (true, false, false);
            let new = Subscription { filter, number, qos, no_local, id, is_changing, confirmed, fresh, since };
            match one.subscriptions.iter_mut().find(|one| one.filter == filter) {
                Some(one) => *one = Subscription { number: one.number, ..new },
                None => one.subscriptions.push(new),
            }
        }
        self.sessions[session].disk.set(&found.subscriptions);
    }

    fn recover_messages(&mut self, session: usize, found: &Found, was_ending: bool) {
        let is_known = |number: u32| self.messages.get(number as usize).is_some_and(|one| !one.routes.is_empty());
        let is_strange = |number: u32| number != NO_MESSAGE && !is_known(number);
        if let Some(strange) = found.messages.iter().find(|one| one.message.is_some_and(is_strange)) {
            return self.find(STRANGE, format!("{}: {strange:?}", found.client_id));
        }
        let mut owed = std::mem::take(&mut self.sessions[session].owed);
        let one = &self.sessions[session];
        let holds = |through: &[u32]| one.subscriptions.iter().any(|now| through.contains(&now.number));
        owed.retain(|owed| !was_ending && owed.qos > QoS::AtMostOnce && holds(&owed.through));
        owed.retain(|owed| one.accounted(owed.message) == 0);
        let lost = owed.iter().find(|owed| !found.has(owed.message) && self.is_promised(owed.message));
        if let Some(lost) = lost.map(|lost| lost.message) {
            let detail = format!("{}: not message {lost}", self.subjects[one.subject].id);
            return self.find(PRESENT, detail);
        }
        owed.retain(|owed| found.has(owed.message));
        self.sessions[session].owed = owed;
    }

    /// What a client has published and waits for.
    fn recover_publisher(&mut self, found: Option<&Found>, state: &ClientState) {
        let session = found.and_then(|found| self.connections.get(found.serial as usize)?.session);
        let Some(found) = found.filter(|_| session.is_some() && session == state.session) else { return };
        for one in state.outgoing.iter().filter(|one| one.qos == QoS::ExactlyOnce && !one.received) {
            let message = &mut self.messages[one.message as usize];
            if message.routes.is_empty() {
                continue;
            }
            if found.incoming.contains(&one.packet_id) {
                // It is answered when it comes again, and not published.
                message.stored.is_acknowledged = true;
            } else {
                message.session = None;
                message.stored.routed_in_vain = message.routes.len();
            }
        }
    }

    /// What a client has received, and what it has acknowledged.
    fn recover_client(&mut self, found: &Found, state: &mut ClientState) {
        let session = self.connections[found.serial as usize].session;
        let Some(session) = session.filter(|session| state.session == Some(*session)) else {
            // It may get what it had before, and does not know.
            state.is_forgetful = true;
            return;
        };
        // What an end has seen to of a session is gone, though the session is there still.
        state.is_forgetful |= self.sessions[session].disk.was_ending;
        if self.sessions[session].is_forgetful || state.is_forgetful {
            // That it has been sent what it has may not be known, as of any other client.
            let queued = found.messages.iter().filter(|one| one.is_queued);
            let has = |(id, message): &(u16, u32)| state.unfreed.get(id) == Some(message);
            state
                .stored
                .loose
                .extend(queued.filter_map(|one| Some((one.id, one.message?))).filter(has).map(|(id, _)| id));
            // What is not there comes again as another message, perhaps with the packet id that it had.
            let is_there = |id: &u16| found.messages.iter().any(|one| one.id == *id);
            state.unfreed.retain(|id, _| is_there(id) || state.unreleased.contains_key(id));
            return;
        }
        let by_id = found.by_id();
        let id = &found.client_id;
        // What has become too large for its client is dropped, whether that has it or not.
        let drops = |serial: &u32| self.connections[*serial as usize].options.small_packets;
        let may_drop = self.sessions[session].disk.serials.iter().any(drops);
        let held = state.unreleased.iter().filter(|_| !may_drop).find(|(packet_id, message)| {
            by_id.get(packet_id).is_none_or(|one| one.message.is_some_and(|found| found != **message))
        });
        if let Some(held) = held {
            return self.find(IDS, format!("{id} has packet id and QoS 2 message {held:?}: {:?}", by_id.get(held.0)));
        }
        let released = state.stored.released.iter();
        let lost = released.copied().find(|one| by_id.get(one).is_none_or(|one| one.message.is_some()));
        if let Some(lost) = lost {
            return self.find(IDS, format!("{id} has PUBREL for {lost}: {:?}", by_id.get(&lost)));
        }
        for one in &found.messages {
            let Some(message) = one.message else {
                let StoredIds { freed, returned, .. } = &mut state.stored;
                let was_freed = freed.iter().chain(&*returned).any(|(freed, _)| *freed == one.id);
                if !was_freed && !state.unfreed.contains_key(&one.id) && !self.has_left(session) {
                    return self.find(IDS, format!("{id}: {} is in use, and its client has not had it", one.id));
                }
                if was_freed {
                    returned.push((one.id, None));
                }
                continue;
            };
            let is_copy = |other: &&FoundMessage| other.is_queued && other.message == Some(message);
            let queued = if one.is_queued { found.messages.iter().filter(is_copy).count() } else { 0 };
            self.recover_received(session, (one.id, message), queued, state);
        }
        let missing: Vec<(u16, u32)> = (state.unfreed.iter().map(|(id, message)| (*id, *message)))
            .filter(|(id, message)| by_id.get(id).is_none_or(|one| one.message.is_some_and(|found| found != *message)))
            .collect();
        for (packet_id, message) in missing {
            let is_retained = self.messages.get(message as usize).is_none_or(|one| one.retain);
            let may_be_gone = self.is_shared(message) || is_retained || may_drop;
            if !found.has(message) && !may_be_gone && self.is_promised(message) {
                return self.find(PRESENT, format!("{id}: not message {message}, which is in flight as {packet_id}"));
            }
            state.unfreed.remove(&packet_id);
            state.stored.settled.remove(&packet_id);
        }
    }

    /// Whether the client of a session has sent DISCONNECT: what it sent behind that was given to nobody.
    fn has_left(&self, session: usize) -> bool {
        let has_left = |serial: &u32| self.connections[*serial as usize].sent_disconnect.is_some();
        self.sessions[session].disk.serials.iter().any(has_left)
    }

    /// A message is on disk for a client that may have had it. `queued`: so many copies of it are not known to have been sent, this one among them; 0 if
    /// this one is.
    fn recover_received(
        &mut self,
        session: usize,
        (packet_id, message): (u16, u32),
        queued: usize,
        state: &mut ClientState,
    ) {
        let is_queued = queued > 0;
        let one = &self.sessions[session];
        let was_seen = one.seen(message).is_some() || one.retained.iter().any(|(_, seen)| *seen == message);
        if !was_seen {
            return;
        }
        let StoredIds { settled, freed, loose, returned, .. } = &mut state.stored;
        if state.unfreed.get(&packet_id) == Some(&message) {
            if is_queued && settled.contains(&packet_id) && !loose.contains(&packet_id) {
                let detail = format!("message {message} was sent as {packet_id}, and is not known to be");
                return self.find(IDS, detail);
            }
            if is_queued && self.setup.lifo && !state.unreleased.contains_key(&packet_id) {
                // Where the latest goes first, it may get another id: what goes before it may have had the next one meanwhile.
                state.unfreed.remove(&packet_id);
                returned.push((packet_id, Some(message)));
                may_come_again(&mut self.sessions[session].disk.may_come_again, message, queued);
            } else if is_queued {
                loose.insert(packet_id);
            }
            return;
        }
        let known = &self.messages[message as usize];
        // Others may be another copy.
        let is_single = known.routes.len() == 1 && !known.retain && !self.is_shared(message);
        // A broker that stops takes nothing that is behind a packet which it does not take any more.
        let is_single = is_single && !self.setup.stops && !self.has_left(session);
        let was_freed = freed.iter().chain(&*returned).any(|(_, freed)| *freed == Some(message));
        let is_held = state.unfreed.iter().any(|(id, held)| *held == message && !settled.contains(id));
        if is_single && !was_freed && !is_held {
            let detail = format!("message {message}, which its client has acknowledged, as {packet_id}");
            return self.find(GONE, detail);
        }
        returned.push((packet_id, Some(message)));
        may_come_again(&mut self.sessions[session].disk.may_come_again, message, queued);
    }

    /// These retained messages were read, after the power was lost or not.
    pub fn recover_retained(&mut self, found: &[(Arc<str>, Message)], lost_power: bool) {
        for (mount, name) in MOUNTS.iter().enumerate() {
            for (topic, text) in TOPICS.iter().enumerate() {
                let mut of_topic =
                    found.iter().filter(|(mountpoint, one)| **mountpoint == **name && one.topic().as_str() == *text);
                let number = of_topic.next().map_or(NO_MESSAGE, |(_, message)| message_of(message.payload()));
                let known = &self.retained[mount * TOPICS.len() + topic];
                let is_relied_upon =
                    |one: &Retains| self.is_acknowledged(one.message) && !(lost_power && one.is_unsynced);
                let is_newest = |at: usize| {
                    let mut later = known.since[at + 1..].iter().filter(|later| later.shard == known.since[at].shard);
                    !later.any(is_relied_upon)
                };
                let was_before = known.settled.contains(&number) || lost_power && known.before.contains(&number);
                let is_before = was_before && !known.since.iter().any(is_relied_upon);
                let mut since = (0..known.since.len()).filter(|at| known.since[*at].message == number);
                let fits = is_before || since.any(is_newest);
                if !fits && !self.pressure.was_little && self.violation.is_none() {
                    let detail = format!("{name:?} {text}: {number} of {known:?}");
                    self.find(if number == NO_MESSAGE { PRESENT } else { GONE }, detail);
                }
                let known = &mut self.retained[mount * TOPICS.len() + topic];
                known.since.clear();
                known.before.clear();
                known.settled = vec![number];
            }
        }
    }

    fn is_acknowledged(&self, message: u32) -> bool {
        self.messages.get(message as usize).is_some_and(|message| message.stored.is_acknowledged)
    }
}

impl ClientState {
    /// Everything has come to rest.
    pub fn all_is_on_disk(&mut self) {
        self.stored.settled = self.unfreed.keys().copied().collect();
        self.stored.freed.clear();
    }
}

/// So many copies of a message may come as if they were new.
fn may_come_again(again: &mut Vec<u32>, message: u32, copies: usize) {
    if again.iter().filter(|one| **one == message).count() < copies {
        again.push(message);
    }
}

fn is_of(found: &Found, id: &SubscriberId) -> bool {
    found.client_id == *id.client_id && found.mountpoint == *id.mountpoint
}

fn found_of(found: &[Found], client: usize, mount: usize) -> Option<&Found> {
    found.iter().find(|one| one.client_id == format!("c{client}") && one.mountpoint == MOUNTS[mount])
}
