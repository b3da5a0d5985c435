//! Messages: who must get them, who may, how often and in which order; and what became of those that nobody got.

use moormq::client::DropReason;
use moormq::codec::QoS;

use crate::history::{FILTERS, FIRST_SHARED_FILTER, FIRST_SHARED_TOPIC, TOPICS, matches};
use crate::judge::{Judge, Life, Member, Owed, Seen, Stage, Subscription, Wanting};
use crate::trace::NO_MESSAGE;

/// A PUBLISH as a client takes it.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    pub message: u32,
    pub topic: usize,
    pub qos: QoS,
    pub retain: bool,
    /// Not as a repetition: the client had not seen it under this packet id.
    pub anew: bool,
}

const LOST: &str = "messages: none is lost";
pub const TWICE: &str = "messages: none comes twice";
const STRANGE: &str = "messages: none comes that was not asked for";
const ORDER: &str = "messages: order of each publisher and topic";

impl Life {
    pub fn seen(&self, message: u32) -> Option<&Seen> {
        self.seen.iter().find(|seen| seen.message == message)
    }

    /// How many copies of a message are accounted for: came, or were dropped and said to be.
    pub fn accounted(&self, message: u32) -> usize {
        let came = self.seen(message).map_or(0, |seen| seen.times as usize);
        came + self.dropped.iter().filter(|dropped| **dropped == message).count()
    }

    fn matching(&self, topic: usize) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.iter().filter(move |one| matches(one.filter, topic))
    }
}

impl Judge {
    /// A SUBSCRIBE has come to the hooks: from now on its filters may be in effect.
    pub fn asked_to_subscribe(&mut self, subject: usize, filters: &[(usize, QoS, bool)]) {
        let Some(life) = self.subjects[subject].life else { return };
        let mount = self.mount_of(subject);
        let life = &mut self.lives[life];
        for &(filter, qos, no_local) in filters {
            life.ever |= 1 << filter;
            if filter >= FIRST_SHARED_FILTER && qos == QoS::AtMostOnce {
                self.careless[mount] |= 1 << filter;
            }
            let Some(one) = life.subscriptions.iter_mut().find(|one| one.filter == filter) else {
                let one = Subscription { filter, number: 0, qos, no_local, confirmed: false, fresh: false, since: 0 };
                life.subscriptions.push(one);
                continue;
            };
            // While it changes it may be either.
            (one.qos, one.no_local) = (one.qos.min(qos), one.no_local || no_local);
            for owed in life.owed.iter_mut().filter(|owed| owed.through.contains(&one.number)) {
                owed.qos = owed.qos.min(qos);
            }
        }
    }

    /// It has taken effect, and SUBACK follows: from now on nothing is missed.
    pub fn subscribed(&mut self, subject: usize, serial: u32, filters: &[(usize, QoS, bool)]) {
        let Some(life) = self.subjects[subject].life else {
            let detail = format!("{}: on_subscribe without a session", self.subjects[subject].id);
            return self.find("lifecycle: the grammar of hooks", detail);
        };
        for &(filter, qos, no_local) in filters {
            self.subscription_numbers += 1;
            let number = self.subscription_numbers;
            let life = &mut self.lives[life];
            if let Some(one) = life.subscriptions.iter_mut().find(|one| one.filter == filter) {
                let (number, since) = if one.confirmed { (one.number, one.since) } else { (number, self.rests) };
                *one = Subscription { filter, number, qos, no_local, confirmed: true, fresh: true, since };
                if let Some(wanting) = self
                    .wanting
                    .iter_mut()
                    .find(|wanting| wanting.serial == serial && wanting.filter == filter && wanting.number == 0)
                {
                    wanting.number = number;
                }
            }
        }
    }

    pub fn unsubscribed(&mut self, subject: usize, filters: &[usize]) {
        let Some(life) = self.subjects[subject].life else { return };
        self.lives[life].subscriptions.retain(|one| !filters.contains(&one.filter));
        self.wanting.retain(|wanting| wanting.life != life || !filters.contains(&wanting.filter));
    }

    /// A client sends SUBSCRIBE: it wants to see what is retained now.
    pub fn wants_retained(&mut self, serial: u32, filter: usize) {
        let Some(life) = self.connections[serial as usize].life.filter(|_| filter < FIRST_SHARED_FILTER) else {
            return;
        };
        let mount = self.mount_of(self.lives[life].subject);
        let settled = self.retained[mount * TOPICS.len()..][..TOPICS.len()].iter().map(|one| match one.settled[..] {
            [only] if one.since.is_empty() => Some(only),
            _ => None,
        });
        let settled = settled.collect();
        let from = self.lives[life].retained.len();
        self.wanting.push(Wanting { life, serial, filter, number: 0, from, settled });
    }

    /// A message was routed.
    pub fn published(&mut self, subject: usize, number: u32, topic: usize, qos: QoS, retain: bool, is_will: bool) {
        self.publications += 1;
        let publication = self.publications;
        let mount = self.mount_of(subject);
        let Some(message) = self.messages.get_mut(number as usize) else { return };
        message.routes.push(publication);
        (message.topic, message.subject, message.retain) = (topic, subject, retain);
        let life = self.subjects[subject].life;
        // A client that could not see that its session had ended repeats what only that session knew.
        let twice = message.life == life && message.routes.len() > 1 && message.qos != QoS::AtLeastOnce;
        message.life = life;
        if is_will {
            self.will_published(number);
        } else if twice {
            let detail = format!("message {number} at {:?} was routed again", self.messages[number as usize].qos);
            self.find("messages: what a client sends is routed once", detail);
        }
        for at in 0..self.lives.len() {
            let life = &mut self.lives[at];
            if life.ended || usize::from(!self.subjects[life.subject].id.mountpoint.is_empty()) != mount {
                continue;
            }
            let own = life.subject == subject;
            let through: Vec<&Subscription> =
                life.matching(topic).filter(|one| one.confirmed && !one.fresh && !(own && one.no_local)).collect();
            if through.is_empty() {
                continue;
            }
            if topic >= FIRST_SHARED_TOPIC {
                if qos == QoS::AtMostOnce {
                    continue;
                }
                let is_online = self.subjects[life.subject].stage == Stage::Online;
                let is_known = |since: u32| is_online && since.max(life.woke_at) < self.rests;
                let member = |one: &&Subscription| Member {
                    life: at,
                    number: one.number,
                    online: is_known(one.since).then_some(life.serial),
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
            let owed = Owed {
                message: number,
                qos: highest.min(qos),
                through: through.iter().map(|one| one.number).collect(),
                serial: life.serial,
            };
            life.owed.push(owed);
        }
    }

    /// A copy was dropped, and said to be.
    pub fn dropped(&mut self, subject: usize, message: u32, qos: QoS, reason: DropReason) {
        self.drops[reason as usize] += 1;
        let Some(life) = self.subjects[subject].life else {
            // A session that is just ending may drop what its own will brought.
            return;
        };
        self.lives[life].dropped.push(message);
        let Some(one) = self.messages.get(message as usize) else { return };
        let connection = &self.connections[self.lives[life].serial as usize];
        let is_online = self.subjects[subject].stage == Stage::Online;
        let fits = match reason {
            DropReason::QueueFull => self.setup.queue.is_some(),
            DropReason::Expired => one.expires.is_some_and(|at| at <= self.now),
            DropReason::PacketTooLarge => connection.hello.small_packets && one.large,
            DropReason::OfflineQos0 => qos == QoS::AtMostOnce,
            DropReason::SlowConsumer => qos == QoS::AtMostOnce && is_online,
            DropReason::SessionEnded => !self.could_be_passed_on(life, message),
        };
        // Which is seen when everything that came of it was heard.
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
        let Delivery { message: number, topic, qos, retain, anew } = delivery;
        self.note(|| format!("  client #{serial} hears {delivery:?}"));
        let Some(life) = self.connections[serial as usize].life else {
            return self.find(STRANGE, format!("message {number} on connection {serial}, which has no session"));
        };
        let subject = self.lives[life].subject;
        if number == NO_MESSAGE {
            return;
        }
        if topic >= TOPICS.len() || number as usize >= self.messages.len() {
            return self.find(STRANGE, format!("message {number} to topic {topic}"));
        }
        let message = &self.messages[number as usize];
        let ever = self.lives[life].ever;
        let asked_for = (0..FILTERS.len()).any(|filter| ever & 1 << filter != 0 && matches(filter, topic));
        let same_realm = self.mount_of(message.subject) == self.mount_of(subject);
        if message.routes.is_empty() || message.topic != topic || !asked_for || !same_realm || qos > message.qos {
            let detail = format!("{} got message {number} to {} at {qos:?}", self.subjects[subject].id, TOPICS[topic]);
            return self.find(STRANGE, detail);
        }
        if retain {
            self.see_retained(life, serial, number, anew);
        } else {
            self.see(life, number, qos, anew);
        }
    }

    fn see(&mut self, life: usize, number: u32, qos: QoS, anew: bool) {
        let message = &self.messages[number as usize];
        let (routes, topic, publisher) = (message.routes.clone(), message.topic, message.subject);
        let (retained, is_shared) = (message.retain, topic >= FIRST_SHARED_TOPIC);
        let one = &mut self.lives[life];
        let first = one.seen(number).is_none();
        if first {
            one.seen.push(Seen { message: number, times: 0, anew: 0 });
        }
        let seen = one.seen.iter_mut().find(|seen| seen.message == number).expect("it was just put there");
        seen.times += 1;
        seen.anew += u32::from(anew);
        let times = seen.anew as usize;
        let most = if is_shared { routes.len() * self.groups_of(life, topic) } else { routes.len() };
        let subject = self.lives[life].subject;
        let may_repeat = self.lives[life].is_forgetful || (is_shared && qos < QoS::ExactlyOnce);
        if times > most && !may_repeat {
            let detail = format!("{} got message {number} {times} times at {qos:?}", self.subjects[subject].id);
            self.find(TWICE, detail);
        }
        if is_shared {
            return self.see_shared(number, qos, anew);
        }
        if first && !self.setup.lifo {
            self.check_order(life, (publisher, topic), number, &routes, false);
            if retained {
                self.check_order(life, (publisher, topic), number, &routes, true);
            }
        }
    }

    fn check_order(&mut self, life: usize, key: (usize, usize), number: u32, routes: &[u32], retained: bool) {
        let (Some(first), Some(last)) = (routes.first(), routes.last()) else { return };
        let one = &mut self.lives[life];
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
                self.subjects[subject].id, TOPICS[key.1]
            );
            self.find(ORDER, detail);
        }
    }

    fn see_retained(&mut self, life: usize, serial: u32, number: u32, anew: bool) {
        let message = &self.messages[number as usize];
        let (routes, key, retained) = (message.routes.clone(), (message.subject, message.topic), message.retain);
        let repeated = (!anew || self.lives[life].is_forgetful)
            && self.lives[life].retained.iter().any(|(_, seen)| *seen == number);
        self.lives[life].retained.push((serial, number));
        if !retained {
            return self.find("retained: only what was", format!("message {number} was not to be retained"));
        }
        if !self.setup.lifo && !repeated {
            self.check_order(life, key, number, &routes, true);
        }
    }

    /// Everything has arrived: nothing may be missing.
    pub fn judge_deliveries(&mut self, is_end: bool) {
        for at in 0..self.lives.len() {
            if !self.lives[at].ended {
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
        let mut owed = std::mem::take(&mut self.lives[at].owed);
        let life = &self.lives[at];
        let online = self.subjects[life.subject].stage == Stage::Online;
        let responsive = online && self.connections[life.serial as usize].is_responsive;
        owed.retain(|one| {
            // A subscription that ended before the message came does not count.
            let holds = life.subscriptions.iter().any(|now| one.through.contains(&now.number));
            let stays = one.qos > QoS::AtMostOnce || (online && life.serial == one.serial);
            holds && stays
        });
        owed.retain(|one| life.accounted(one.message) == 0);
        let missing = owed.first().map(|one| one.message).filter(|_| responsive || is_end);
        if let Some(message) = missing {
            let detail = format!("{} did not get message {message}", self.subjects[life.subject].id);
            self.find(LOST, detail);
        }
        self.lives[at].owed = owed;
    }

    fn judge_retained(&mut self) {
        for wanting in std::mem::take(&mut self.wanting) {
            let Wanting { life, serial, filter, number, from, settled } = wanting;
            let one = &self.lives[life];
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
                    NO_MESSAGE => !quiet || came.is_empty(),
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
        for retained in &mut self.retained {
            if retained.since.is_empty() {
                continue;
            }
            // Of each shard the last one; which of those came last to the keeper nobody knows.
            retained.settled.clear();
            for (at, (shard, message)) in retained.since.iter().enumerate() {
                if !retained.since[at + 1..].iter().any(|(later, _)| later == shard) {
                    retained.settled.push(*message);
                }
            }
            retained.since.clear();
        }
    }
}
