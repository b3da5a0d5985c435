//! Rules for messages: who must get one, who may, how often, and in which order; and what becomes of those that are dropped.

use moormq::client::DropReason;
use moormq::codec::{ProtocolVersion, QoS};

use crate::history::{FILTERS, FIRST_SHARED_TOPIC, TOPICS, matches};
use crate::judge::{Exactly, Judge, Member, Owed, Seen, Session, Stage, Subscription};
use crate::patience::DROPPED;
use crate::trace::NO_MESSAGE;

/// A PUBLISH that a client received.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: u32,
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    /// Not a repetition: the client has not seen it under this packet id.
    pub anew: bool,
    /// Subscription Identifiers.
    pub ids: Vec<u32>,
}

const LOST: &str = "messages: none is lost";
pub const TWICE: &str = "messages: none comes twice";
const STRANGE: &str = "messages: none comes that was not asked for";
const OPTIONS: &str = "messages: each comes as the subscriptions want it";
const ORDER: &str = "messages: order of each publisher and topic";

impl Session {
    pub fn seen(&self, message: u32) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.message == message)
    }

    /// How many copies of a message are accounted for: received, or reported as dropped.
    pub fn accounted(&self, message: u32) -> usize {
        let came = self.seen(message).map_or(0, |seen| seen.times as usize);
        came + self.dropped.iter().filter(|dropped| **dropped == message).count()
    }

    fn matching(&self, topic: usize) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().filter(move |one| matches(one.filter, topic))
    }
}

impl Judge {
    /// A message was routed that this connection published.
    pub fn published(
        &mut self,
        (subject, serial): (usize, u32),
        number: u32,
        topic: usize,
        (qos, retain, is_will): (QoS, bool, bool),
    ) {
        self.publications += 1;
        let publication = self.publications;
        let mount = self.mount_of(subject);
        let Some(message) = self.messages.get_mut(number as usize) else { return };
        message.routes.push(publication);
        if message.meant_for.is_some_and(|meant| meant != topic) {
            let detail = format!("message {number} was published to topic {topic}, not {:?}", message.meant_for);
            return self.find("messages: each is published to its topic", detail);
        }
        let message = &mut self.messages[number as usize];
        (message.topic, message.subject, message.retain) = (topic, subject, retain);
        let is_first = message.routes.len() == 1;
        let session = self.subjects[subject].session;
        // A client that could not see that its session had ended repeats what only that session knew.
        let twice = message.session == session && message.routes.len() > 1 && message.qos != QoS::AtLeastOnce;
        message.session = session;
        if is_will {
            self.will_published(number);
        } else if twice {
            let detail = format!("message {number} at {:?} was routed again", self.messages[number as usize].qos);
            self.find("messages: what a client sends is routed once", detail);
        }
        let mut surely = Vec::new();
        for at in 0..self.sessions.len() {
            let session = &mut self.sessions[at];
            if session.ended || usize::from(!self.subjects[session.subject].id.mountpoint.is_empty()) != mount {
                continue;
            }
            let own = session.subject == subject;
            let through: Vec<&Subscription> =
                session.matching(topic).filter(|one| one.confirmed && !one.fresh && !(own && one.no_local)).collect();
            if through.is_empty() {
                continue;
            }
            if topic >= FIRST_SHARED_TOPIC {
                if qos == QoS::AtMostOnce {
                    continue;
                }
                let is_online = self.subjects[session.subject].stage == Stage::Online;
                let is_known = |since: u32| is_online && since.max(session.woke_at) < self.rests;
                let member = |one: &&Subscription| Member {
                    session: at,
                    number: one.number,
                    online: is_known(one.since).then_some(session.serial),
                };
                let members: Vec<_> = through.iter().map(|one| (one.filter, member(one))).collect();
                let message = &mut self.messages[number as usize];
                message.is_due = true;
                for (filter, member) in members {
                    match message.shared.iter_mut().find(|(group, _)| *group == filter) {
                        Some((_, members)) => members.push(member),
                        None => message.shared.push((filter, vec![member])),
                    }
                }
                continue;
            }
            let highest = through.iter().map(|one| one.qos).max().unwrap_or_default();
            let qos = if self.setup.upgrades_qos { highest } else { highest.min(qos) };
            let is_sure = |one: &Subscription| one.confirmed && !one.fresh && !one.is_changing;
            // If the publisher repeats a message, an earlier copy may still wait, made for the subscriptions of that time.
            let is_sure = is_first && session.matching(topic).all(is_sure);
            let mut ids: Vec<u32> = through.iter().filter_map(|one| one.id).collect();
            ids.sort_unstable();
            let owed = Owed {
                message: number,
                qos,
                exactly: is_sure.then_some(Exactly { changes: session.changes, qos, ids }),
                through: through.iter().map(|one| one.number).collect(),
                serial: session.serial,
            };
            session.owed.push(owed);
            if is_sure {
                surely.push((at, qos));
            }
        }
        for (session, qos) in surely {
            if !is_will && !self.is_lossless(topic) && self.is_connected(session) {
                self.routed_to(session, serial, number, qos);
            }
        }
    }

    /// A hook was called for a dropped copy.
    pub fn dropped(&mut self, subject: usize, message: u32, qos: QoS, reason: DropReason) {
        self.drops[reason as usize] += 1;
        let Some(session) = self.subjects[subject].session else {
            // A session that is just ending may drop what its own will brought.
            return;
        };
        self.sessions[session].dropped.push(message);
        let Some(one) = self.messages.get(message as usize) else { return };
        let connection = &self.connections[self.sessions[session].serial as usize];
        let is_online = self.subjects[subject].stage == Stage::Online;
        let fits = match reason {
            DropReason::QueueFull => self.setup.queue.is_some() || self.setup.queue_bytes().is_some(),
            DropReason::Expired => one.expires.is_some_and(|at| at <= self.now),
            DropReason::PacketTooLarge => connection.options.small_packets && one.large,
            DropReason::OfflineQos0 => qos == QoS::AtMostOnce,
            DropReason::SlowConsumer => qos == QoS::AtMostOnce && is_online,
            DropReason::SessionEnded => !self.could_be_passed_on(session, message),
        };
        let topic = one.topic;
        let is_lossless = !one.is_will && !one.routes.is_empty() && self.is_lossless(topic);
        let is_wrong = match reason {
            DropReason::SlowConsumer => is_lossless || !self.may_lose(self.shard, session),
            _ => false,
        };
        if is_wrong {
            return self.find(DROPPED, format!("message {message} for connection {}", self.sessions[session].serial));
        }
        if reason == DropReason::QueueFull && is_online && self.setup.queue.is_none() {
            self.cut_off(session, message, qos);
        }
        // It is checked when all hooks of this event were called.
        self.subjects[subject].leaving |= reason == DropReason::OfflineQos0 && is_online;
        if !fits {
            let detail = format!("message {message} at {qos:?} was dropped for {reason:?}, online {is_online}");
            self.find("drops: reasons are true", detail);
        }
        if reason == DropReason::SessionEnded {
            self.subjects[subject].ending = true;
        }
    }

    /// A client has received a PUBLISH on the connection `serial`.
    pub fn delivered(&mut self, serial: u32, delivery: Delivery) {
        self.note(|| format!("  client #{serial} receives {delivery:?}"));
        let Delivery { message: number, topic, qos, retain, anew, ids } = delivery;
        let Some(session) = self.connections[serial as usize].session else {
            return self.find(STRANGE, format!("message {number} on connection {serial}, which has no session"));
        };
        let subject = self.sessions[session].subject;
        if number == NO_MESSAGE {
            return;
        }
        if topic >= TOPICS.len() || number as usize >= self.messages.len() {
            return self.find(STRANGE, format!("message {number} to topic {topic}"));
        }
        let anew = self.sessions[session].disk.is_anew(number, anew);
        let message = &self.messages[number as usize];
        let ever = self.sessions[session].ever;
        let asked_for = (0..FILTERS.len()).any(|filter| ever & 1 << filter != 0 && matches(filter, topic));
        let same_mountpoint = self.mount_of(message.subject) == self.mount_of(subject);
        if message.routes.is_empty()
            || message.topic != topic
            || !asked_for
            || !same_mountpoint
            || (qos > message.qos && !self.setup.upgrades_qos)
        {
            let detail = format!("{} got message {number} to {} at {qos:?}", self.subjects[subject].id, TOPICS[topic]);
            return self.find(STRANGE, detail);
        }
        if ids
            .iter()
            .any(|id| !self.sessions[session].asked.iter().any(|one| one.id == Some(*id) && matches(one.filter, topic)))
        {
            let detail = format!("{} got message {number} with {ids:?}", self.subjects[subject].id);
            return self.find(OPTIONS, detail);
        }
        if retain && !self.sessions[session].is_mirror {
            return self.see_retained(session, serial, number, anew);
        }
        self.check_options((session, serial), number, (qos, retain, ids));
        self.see(session, number, qos, anew);
    }

    /// Checks a message that was not retained: QoS, RETAIN and Subscription Identifiers must be those of the subscriptions.
    fn check_options(
        &mut self,
        (session, serial): (usize, u32),
        number: u32,
        (qos, retain, mut ids): (QoS, bool, Vec<u32>),
    ) {
        let (one, message) = (&self.sessions[session], &self.messages[number as usize]);
        ids.sort_unstable();
        let mut owed = one.owed.iter().filter(|owed| owed.message == number).peekable();
        let is_sure = owed.peek().is_some() && !one.is_forgetful;
        // An MQTT 3 client receives no identifiers.
        let is_v5 = self.connections[serial as usize].options.version == ProtocolVersion::V5;
        let exactly = owed.map(|owed| owed.exactly.as_ref().filter(|exactly| exactly.changes == one.changes));
        let wrong = |exactly: Option<&Exactly>| {
            exactly.is_some_and(|exactly| exactly.qos != qos || (is_v5 && exactly.ids != ids))
        };
        let exactly: Option<Vec<_>> = exactly.collect();
        let wrong = exactly.filter(|_| is_sure).is_some_and(|all| all.iter().all(|one| wrong(Some(one))));
        let flag_is_wrong = one.is_mirror && retain != message.retain;
        let is_shared = message.topic >= FIRST_SHARED_TOPIC;
        let last = message.routes.last().copied().unwrap_or_default();
        let mut asked = one.asked.iter().filter(|asked| matches(asked.filter, message.topic));
        let is_own = message.subject == one.subject;
        let unasked = !is_shared && !asked.any(|asked| asked.after < last && !(is_own && asked.no_local));
        if wrong || flag_is_wrong || unasked {
            let detail = format!(
                "{} got message {number} at {qos:?}, RETAIN {retain}, with {ids:?}; not asked for {unasked}",
                self.subjects[one.subject].id
            );
            self.find(OPTIONS, detail);
        }
    }

    fn see(&mut self, session: usize, number: u32, qos: QoS, anew: bool) {
        let message = &self.messages[number as usize];
        let (routes, topic, publisher) = (message.routes.clone(), message.topic, message.subject);
        let (retained, is_shared) = (message.retain, topic >= FIRST_SHARED_TOPIC);
        let one = &mut self.sessions[session];
        let first = one.seen(number).is_none();
        if first {
            one.seen.push(Seen { message: number, times: 0, anew: 0, loosely: false });
        }
        let seen = one.seen.iter_mut().find(|seen| seen.message == number).expect("it was just put there");
        seen.times += 1;
        seen.anew += u32::from(anew);
        seen.loosely |= qos < QoS::ExactlyOnce;
        let loosely = seen.loosely;
        let times = seen.anew as usize;
        let most = match is_shared {
            true => routes.len() * self.groups_of(session, topic),
            false if loosely => routes.len(),
            false => routes.len() - self.messages[number as usize].stored.routed_in_vain,
        };
        let subject = self.sessions[session].subject;
        let may_repeat = self.sessions[session].is_forgetful || (is_shared && loosely);
        if times > most && !may_repeat {
            let detail = format!("{} got message {number} {times} times at {qos:?}", self.subjects[subject].id);
            self.find(TWICE, detail);
        }
        if is_shared {
            return self.see_shared(session, number, qos, anew);
        }
        if first && !self.setup.lifo {
            // What is in pages goes before QoS 0, which is never: order is promised for each QoS [MQTT-4.6.0-6].
            let is_apart = self.setup.is_stored() && qos == QoS::AtMostOnce;
            let key = (publisher, topic + if is_apart { TOPICS.len() } else { 0 });
            self.check_order(session, key, number, &routes, false);
            if retained {
                self.check_order(session, key, number, &routes, true);
                self.comes_before_retained(session, number, &routes);
            }
        }
    }

    pub fn check_order(&mut self, session: usize, key: (usize, usize), number: u32, routes: &[u32], retained: bool) {
        let (Some(first), Some(last)) = (routes.first(), routes.last()) else { return };
        let one = &mut self.sessions[session];
        let latest = if retained { &mut one.latest_retained } else { &mut one.latest };
        let at = latest.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            latest.push((key, 0));
            latest.len() - 1
        });
        let before = latest[at].1;
        latest[at].1 = before.max(*first);
        if *last < before {
            let (subject, publisher) = (one.subject, &self.subjects[key.0].id);
            let detail = format!(
                "{}: message {number} of {publisher} to {} came after a later one, retained {retained}",
                self.subjects[subject].id,
                TOPICS[key.1 % TOPICS.len()]
            );
            self.find(ORDER, detail);
        }
    }

    /// Who had asked for a message before it was published gets it as it is published; if it asks for what is retained, too, that comes behind.
    fn comes_before_retained(&mut self, session: usize, number: u32, routes: &[u32]) {
        let one = &self.sessions[session];
        if routes.len() == 1 && !one.is_forgetful && one.retained.iter().any(|(_, seen)| *seen == number) {
            let detail = format!("{}: message {number} came behind itself, retained", self.subjects[one.subject].id);
            self.find(ORDER, detail);
        }
    }

    /// Everything has arrived: nothing may be missing.
    pub fn judge_deliveries(&mut self, is_end: bool) {
        for at in 0..self.sessions.len() {
            if !self.sessions[at].ended {
                self.judge_owed(at, is_end);
            }
        }
        self.judge_passed_on();
        self.judge_retained();
        for at in 0..self.subjects.len() {
            if self.subjects[at].ending {
                let detail = format!("{}: SessionEnded, and it did not", self.subjects[at].id);
                self.find("drops: reasons are true", detail);
            }
        }
        if is_end {
            self.judge_shared();
        }
    }

    fn judge_owed(&mut self, at: usize, is_end: bool) {
        let mut owed = std::mem::take(&mut self.sessions[at].owed);
        let session = &self.sessions[at];
        let online = self.subjects[session.subject].stage == Stage::Online;
        let responsive = online && self.connections[session.serial as usize].is_responsive;
        owed.retain(|one| {
            // A subscription that ended before the message came does not count.
            let holds = session.subscriptions.iter().any(|now| one.through.contains(&now.number));
            let stays = one.qos > QoS::AtMostOnce || (online && session.serial == one.serial);
            holds && stays
        });
        owed.retain(|one| session.accounted(one.message) == 0);
        let missing = owed.first().map(|one| one.message).filter(|_| responsive || is_end);
        if let Some(message) = missing {
            let detail = format!("{} did not get message {message}", self.subjects[session.subject].id);
            self.find(LOST, detail);
        }
        self.sessions[at].owed = owed;
    }
}
