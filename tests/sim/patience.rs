//! Rules on patience: publishers are held for clients that do not keep up, as long as both sides have credit, and nothing is dropped before.
//!
//! The model has arithmetic of its own. It takes from the shards what can be seen of them between two inputs: how much waits for whom,
//! for whom publishers wait, who was given up, who is held. From when that was so it reckons what credit there is left, and says whether it
//! may be so. Time passes between inputs only, so that this is exact, but for the ends of credits: the timers of a shard are coarse, and a
//! shard that has much to do is later.

use std::collections::BTreeMap;

use moormq::codec::QoS;
use moormq::shard::{Standing, TurnLimits};

use crate::history::{FIRST_SHARED_TOPIC, OUTPUT_BYTES, PATIENCE, TOPICS};
use crate::judge::{Judge, Stage};

/// So much longer than its credit lasts may be what spends it, in milliseconds: a tick of the timers.
const LATE: u64 = 8;
/// What a publisher may add to a full backlog before it is held.
const ALLOWANCE: usize = OUTPUT_BYTES / 8;

const GIVEN_UP: &str = "flow: who has credit is not given up";
const WAITED_FOR: &str = "flow: who has no credit is not waited for";
const HELD: &str = "flow: who has no credit is not held";
const NOT_HELD: &str = "flow: publishers are held for a full queue";
pub const DROPPED: &str = "drops: nothing is dropped for who has credit, or what is lossless";

/// A credit of time: what lasts uses it up, and it comes back in twenty times that time.
#[derive(Clone, Copy, Debug, Default)]
struct Credit {
    /// What is gone of it at `at`, in twentieths of a millisecond.
    gone: u64,
    at: u64,
    /// How many things last that use it up.
    users: usize,
    /// Since when something lasts although nothing is left.
    empty_since: Option<u64>,
    /// It began with what an earlier connection from the same address may have left: that had perhaps caught up at last.
    is_guess: bool,
}

impl Credit {
    fn whole() -> u64 {
        PATIENCE.as_millis() as u64 * 20
    }

    fn pass(&mut self, now: u64) {
        let passed = now - self.at;
        if self.users == 0 {
            (self.gone, self.empty_since) = (self.gone.saturating_sub(passed), None);
            self.is_guess &= self.gone > 0;
        } else {
            let last = (Self::whole() - self.gone).div_ceil(20);
            if last <= passed && self.empty_since.is_none() {
                self.empty_since = Some(self.at + last);
            }
            self.gone = (self.gone + passed * 20).min(Self::whole());
        }
        self.at = now;
    }

    /// How many whole milliseconds are left.
    fn left(&mut self, now: u64) -> u64 {
        self.pass(now);
        (Self::whole() - self.gone) / 20
    }

    /// Whether it is worth while to begin: a tenth of it is left.
    fn is_enough(&mut self, now: u64) -> bool {
        let left = self.left(now);
        left > 0 && left * 10 >= PATIENCE.as_millis() as u64
    }

    /// Whether what uses it up has lasted for too long.
    fn is_overdrawn(&mut self, now: u64) -> bool {
        self.pass(now);
        self.empty_since.is_some_and(|since| now > since + LATE)
    }
}

/// Whose the credit of a consumer is: on each shard that of a session which is kept, or of a connection, by its serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Account {
    Session(usize, usize),
    Connection(usize, u32),
}

/// A connection whose backlog was full, and has not been relieved.
#[derive(Clone, Copy, Debug)]
struct Slow {
    shard: usize,
    account: Account,
    given_up: bool,
    /// Since which event.
    since: u64,
}

/// A connection that publishes.
#[derive(Clone, Copy, Debug, Default)]
struct Publisher {
    credit: Credit,
    /// The shard on which it is held.
    held_on: Option<usize>,
    /// The event in which it was let go for want of credit, or to serve the last bytes before a takeover.
    let_go: u64,
}

/// A message that was routed in the present event, and a session of the same shard that must get it at this QoS.
#[derive(Clone, Copy, Debug)]
struct Routed {
    message: u32,
    publisher: u32,
    consumer: u32,
    qos: QoS,
    is_large: bool,
}

/// What a client's connections left to the next ones.
#[derive(Clone, Copy, Debug, Default)]
struct LeftBehind {
    credit: Credit,
    /// In which event.
    event: u64,
}

impl LeftBehind {
    /// A connection has gone that had this much left: that counts, if it is less than there was.
    fn note(&mut self, left: Credit, now: u64, event: u64) {
        self.credit.pass(now);
        if left.gone > self.credit.gone {
            *self = LeftBehind { credit: left, event };
        }
    }
}

#[derive(Debug, Default)]
pub struct Patience {
    /// Rises with every look at a shard.
    event: u64,
    credits: BTreeMap<Account, Credit>,
    /// On each shard what a client's connections left to the next ones. Each client has an address of its own.
    left_behind: BTreeMap<(usize, usize), LeftBehind>,
    /// The instance number that a session had on a shard, and how many sessions had come there by then.
    instances: BTreeMap<Account, (u64, u32)>,
    /// By serial.
    slow: BTreeMap<u32, Slow>,
    publishers: BTreeMap<u32, Publisher>,
    /// How each connection stood when its shard was looked at last, and which shard that was.
    last: BTreeMap<u32, (usize, Standing)>,
    routed: Vec<Routed>,
    /// Connections for which somebody must wait, for a message was dropped.
    cut: Vec<(u32, u32)>,
}

impl Judge {
    fn account(&self, shard: usize, serial: u32) -> Option<Account> {
        let connection = &self.connections[serial as usize];
        let session = connection.session?;
        Some(match self.session_settings(serial).0 {
            true => Account::Session(shard, session),
            false => Account::Connection(shard, serial),
        })
    }

    /// The credit of this account, which a connection has. One that is whole is as if there was none: it begins with what the address has left.
    fn credit(&mut self, account: Account, serial: u32) -> &mut Credit {
        let (client, now) = (self.connections[serial as usize].client, self.now);
        let (Account::Session(shard, _) | Account::Connection(shard, _)) = account;
        let LeftBehind { credit: mut inherited, event } =
            self.patience.left_behind.get(&(shard, client)).copied().unwrap_or_default();
        // It may have gone before somebody began to wait for this one in the same event, or after that.
        inherited.is_guess |= inherited.gone > 0 && event == self.patience.event;
        let credit = self.patience.credits.entry(account).or_insert(inherited);
        credit.pass(now);
        if credit.gone == 0 && credit.users == 0 {
            *credit = inherited;
        }
        credit
    }

    /// Whether a queue counts as full for messages of this QoS.
    fn is_full(&self, standing: &Standing, qos: QoS) -> bool {
        let nearly = |most: usize| most - (most / 4).max(1);
        self.is_long(standing)
            || self.setup.queue_bytes().is_some_and(|most| standing.queued >= nearly(most))
            || qos == QoS::AtMostOnce && standing.output + standing.queued >= OUTPUT_BYTES
    }

    /// Whether it has nearly as many messages as it may have.
    fn is_long(&self, standing: &Standing) -> bool {
        self.setup.queue.is_some_and(|most| standing.messages >= most - (most / 4).max(1))
    }

    /// Whether less than half is left of what makes a queue full.
    fn is_relieved(&self, standing: &Standing) -> bool {
        let least = self.setup.queue_bytes().map_or(OUTPUT_BYTES, |bytes| bytes.min(OUTPUT_BYTES)) / 2;
        standing.output + standing.queued <= least && !self.is_long(standing)
    }

    /// Whether what is published to this topic must not be dropped for a connected client.
    pub fn is_lossless(&self, topic: usize) -> bool {
        self.setup.is_lossless() && TOPICS[topic].starts_with("a/")
    }

    /// A message was routed to a session that is connected.
    pub fn routed_to(&mut self, session: usize, publisher: u32, number: u32, qos: QoS) {
        let message = &self.messages[number as usize];
        let is_large = message.large;
        let consumer = self.sessions[session].serial;
        self.patience.routed.push(Routed { message: number, publisher, consumer, qos, is_large });
    }

    /// Whether QoS 0 may be dropped on this shard for a session that is connected and does not read: its credit is used up.
    pub fn may_lose(&mut self, shard: usize, session: usize) -> bool {
        let (serial, now) = (self.sessions[session].serial, self.now);
        if self.patience.slow.get(&serial).is_some_and(|slow| slow.given_up) {
            return true;
        }
        let Some(account) = self.account(shard, serial) else { return false };
        // It may have been given up in this event, which is not over; and a slow one from its address may have gone in it.
        let client = self.connections[serial as usize].client;
        let is_other = |(other, slow): (&u32, &Slow)| {
            *other != serial && slow.shard == shard && self.connections[*other as usize].client == client
        };
        let is_unsure = self.patience.slow.iter().any(is_other);
        let credit = self.credit(account, serial);
        is_unsure || credit.is_guess || !credit.is_enough(now)
    }

    /// A message was dropped for a session that is connected, whose queue has a bound in bytes alone. If that is not because it is large, or
    /// gave way to others, its queue was full when it came, and somebody waits for that.
    ///
    /// There is slack: what came from another shard, and what waited in portions, may have been under way when its publisher was told
    /// to wait; and a publisher that adds little is not held. That publishers are held if they are on the same shard, and add much, is
    /// checked in `stand`.
    pub fn cut_off(&mut self, session: usize, number: u32, qos: QoS) {
        let serial = self.sessions[session].serial;
        let message = &self.messages[number as usize];
        let has_publisher = !message.is_will && message.topic < FIRST_SHARED_TOPIC;
        let Some((shard, before)) = self.patience.last.get(&serial).filter(|_| has_publisher) else { return };
        // What was buffered for a session on its way may have been too much: its publishers waited for the session.
        if *shard != self.shard || before.is_arriving || self.is_lossless(message.topic) || self.acted.contains(&serial)
        {
            return;
        }
        let was_full = self.is_full(before, QoS::AtLeastOnce);
        let is_new = self.patience.routed.iter().any(|one| one.message == number && one.consumer == serial);
        let is_newcomer = !self.setup.lifo && qos > QoS::AtMostOnce && !message.large;
        if was_full && is_new || is_newcomer {
            self.patience.cut.push((serial, number));
        }
    }

    /// How the clients of a shard stand after an input; `arrivals` is how many sessions have come to it so far.
    pub fn stand(&mut self, shard: usize, is_behind: bool, arrivals: u32, all: &[(u32, Standing)]) {
        self.patience.event += 1;
        self.end_what_is_over(shard, all);
        for (serial, standing) in all {
            self.stands_as_consumer(shard, is_behind, arrivals, *serial, standing);
            self.stands_as_publisher(shard, is_behind, *serial, standing);
        }
        let (routed, cut) = (std::mem::take(&mut self.patience.routed), std::mem::take(&mut self.patience.cut));
        // What is delivered in portions comes later.
        if self.setup.turn() == TurnLimits::default() {
            routed.iter().for_each(|one| self.must_hold(shard, one, all));
        }
        for (serial, message) in cut {
            let standing = all.iter().find(|(one, _)| *one == serial).map(|(_, standing)| standing);
            let before = self.patience.last.get(&serial).map(|(_, before)| before.taken);
            let is_sure = |one: &&Standing| before == Some(one.taken) && !self.is_relieved(one);
            if standing.filter(is_sure).is_some_and(|standing| standing.given_up.is_none()) {
                let detail = format!("message {message} was dropped for connection {serial}, and nobody waits for it");
                self.find(NOT_HELD, detail);
            }
        }
        self.patience.last.retain(|_, (on, _)| *on != shard);
        self.patience.last.extend(all.iter().map(|(serial, standing)| (*serial, (shard, *standing))));
    }

    fn end_what_is_over(&mut self, shard: usize, all: &[(u32, Standing)]) {
        self.leave_behind_perhaps(shard, all);
        let (now, event) = (self.now, self.patience.event);
        let Patience { slow, credits, publishers, left_behind, .. } = &mut self.patience;
        let standing = |serial: u32| all.iter().find(|(one, _)| *one == serial).map(|(_, standing)| standing);
        slow.retain(|serial, slow| {
            let stays = slow.shard != shard || standing(*serial).is_some_and(|one| one.given_up.is_some());
            if !stays && !slow.given_up {
                let credit = credits.entry(slow.account).or_default();
                credit.pass(now);
                credit.users -= 1;
            }
            if !stays && standing(*serial).is_none() {
                let credit = credits.entry(slow.account).or_default();
                credit.pass(now);
                let client = self.connections[*serial as usize].client;
                let mut left = *credit;
                left.is_guess |= left.gone > 0 && self.acted.contains(serial);
                left_behind.entry((shard, client)).or_default().note(left, now, event);
            }
            stays
        });
        credits.retain(|account, _| !matches!(account, Account::Connection(on, serial) if *on == shard && standing(*serial).is_none()));
        for (serial, publisher) in publishers {
            if publisher.held_on == Some(shard) && !standing(*serial).is_some_and(|one| one.is_held) {
                if publisher.credit.left(now) == 0 {
                    publisher.let_go = event;
                }
                (publisher.held_on, publisher.credit.users) = (None, 0);
            }
        }
    }

    /// Who went in this event and was not slow before may have become so in it, for the last that it did or got: then it left what it lacks.
    fn leave_behind_perhaps(&mut self, shard: usize, all: &[(u32, Standing)]) {
        let is_here = |serial: u32| all.iter().any(|(one, _)| *one == serial);
        let was_here = self.patience.last.iter().filter(|(_, (on, _))| *on == shard).map(|(serial, _)| *serial);
        let gone: Vec<_> =
            was_here.filter(|serial| !is_here(*serial) && !self.patience.slow.contains_key(serial)).collect();
        for serial in gone {
            let got = self.patience.routed.iter().any(|routed| routed.consumer == serial);
            let Some(account) = self.account(shard, serial).filter(|_| got || self.acted.contains(&serial)) else {
                continue;
            };
            let (client, now, event) = (self.connections[serial as usize].client, self.now, self.patience.event);
            let Some(credit) = self.patience.credits.get_mut(&account) else { continue };
            credit.pass(now);
            let left = Credit { is_guess: true, users: 0, ..*credit };
            self.patience.left_behind.entry((shard, client)).or_default().note(left, now, event);
        }
    }

    fn stands_as_consumer(&mut self, shard: usize, is_behind: bool, arrivals: u32, serial: u32, standing: &Standing) {
        let Some(account) = self.account(shard, serial) else { return };
        if let Account::Session(..) = account {
            // A session that comes from another shard has a credit of its own there.
            let known = self.patience.instances.entry(account).or_insert((standing.instance, arrivals));
            if known.0 != standing.instance && known.1 != arrivals {
                self.patience.credits.remove(&account);
            }
            *known = (standing.instance, arrivals);
        }
        let Some(given_up) = standing.given_up else { return };
        let (now, since) = (self.now, self.patience.event);
        // Whether it has taken half is looked at when output has left: when some of its queue gives way to others nobody looks.
        if standing.output == 0 && standing.messages == 0 {
            let detail = format!("connection {serial} is waited for or given up, and nothing waits for it");
            return self.find("flow: who has taken what was for it is waited for no more", detail);
        }
        self.credit(account, serial);
        let Patience { slow, credits, .. } = &mut self.patience;
        let credit = credits.entry(account).or_default();
        credit.pass(now);
        let is_sure = !credit.is_guess;
        let before = slow.get(&serial).map(|slow| slow.given_up);
        let since = slow.get(&serial).map_or(since, |slow| slow.since);
        slow.insert(serial, Slow { shard, account, given_up, since });
        let left = credit.left(now);
        if before == Some(given_up) {
            if is_sure && !given_up && credit.is_overdrawn(now) && !is_behind {
                let detail = format!("connection {serial} since {:?}, and it is {now}", credit.empty_since);
                self.find(WAITED_FOR, detail);
            }
            return;
        }
        // It may have been relieved, and full again, in this event: then it is as if that began now.
        let is_enough = credit.is_enough(now);
        credit.users = credit.users + usize::from(!given_up) - usize::from(before == Some(false));
        credit.pass(now);
        if !is_sure {
            return;
        }
        if given_up && is_enough {
            self.find(GIVEN_UP, format!("connection {serial} has {left} ms left"));
        } else if !given_up && !is_enough {
            self.find(WAITED_FOR, format!("connection {serial} has {left} ms left"));
        }
    }

    fn stands_as_publisher(&mut self, shard: usize, is_behind: bool, serial: u32, standing: &Standing) {
        let (now, event) = (self.now, self.patience.event);
        let is_drained = self.drained.contains(&serial);
        let publisher = self.patience.publishers.entry(serial).or_default();
        if is_drained {
            publisher.let_go = event;
        }
        if !standing.is_held {
            return;
        }
        let left = publisher.credit.left(now);
        let is_wrong = match publisher.held_on.replace(shard) {
            Some(_) => publisher.credit.is_overdrawn(now) && !is_behind,
            None => {
                let is_enough = publisher.credit.is_enough(now);
                publisher.credit.users = 1;
                !is_enough
            }
        };
        if is_wrong {
            self.find(HELD, format!("connection {serial} has {left} ms left"));
        }
    }

    /// A message was added to what waits for a client of the same shard, which was full and is: somebody waits for that, or nobody any more;
    /// and if it is large, its publisher is held.
    fn must_hold(&mut self, shard: usize, routed: &Routed, all: &[(u32, Standing)]) {
        let Routed { message, publisher, consumer, qos, is_large } = *routed;
        let standing = |serial: u32| all.iter().find(|(one, _)| *one == serial).map(|(_, standing)| *standing);
        let before = self.patience.last.get(&consumer).filter(|(on, _)| *on == shard);
        let Some(((_, before), after)) = before.zip(standing(consumer)) else { return };
        if self.acted.contains(&consumer) || before.taken != after.taken {
            // There may have been room for a moment.
            return;
        }
        if !self.is_full(before, qos) || !self.is_full(&after, qos) || before.instance != after.instance {
            return;
        }
        if after.output + after.queued == before.output + before.queued {
            // It came behind a will to the same topic that waits for room, or for its share, and waits with it.
            return;
        }
        let is_much = is_large || self.is_long(before) && self.is_long(&after);
        let slow = self.patience.slow.get(&consumer).copied();
        let Some(slow) = slow else {
            let detail = format!("message {message} came to connection {consumer}, and nobody waits: {after:?}");
            return self.find(NOT_HELD, detail);
        };
        let Some(one) = standing(publisher).filter(|_| is_much && !slow.given_up) else { return };
        let now = self.now;
        let by = self.patience.publishers.entry(publisher).or_default();
        // Who was let go for want of credit is not held again for the same client.
        if !one.is_held && by.credit.is_enough(now) && by.let_go < slow.since {
            let detail = format!("connection {publisher} added message {message} to connection {consumer}: {after:?}");
            self.find(NOT_HELD, detail);
        }
    }

    /// Everything has come to rest: no patience is without end.
    pub fn judge_patience(&mut self) {
        let waited_for = self.patience.slow.iter().find(|(_, slow)| !slow.given_up);
        let held = self.patience.publishers.iter().find(|(_, one)| one.held_on.is_some());
        if waited_for.is_some() || held.is_some() {
            let detail = format!("at rest {waited_for:?} is waited for, {held:?} is held");
            self.find("flow: no patience is without end", detail);
        }
    }

    /// Whether the client of a session is connected.
    pub fn is_connected(&self, session: usize) -> bool {
        self.subjects[self.sessions[session].subject].stage == Stage::Online
    }
}

const _: () = assert!(crate::client::LARGE >= ALLOWANCE);
