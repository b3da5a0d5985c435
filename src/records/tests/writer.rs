//! Shards that write records as those of a broker would, and know what they mean.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::Stored;
use crate::codec::{PacketId, ProtocolVersion, QoS, SubscriptionOptions};
use crate::message::Publication;
use crate::numbers::{DecisionNumber, StoreNumber};
use crate::random::Random;
use crate::session::{Key, Subscription};
use crate::time::Time;
use crate::topic::TopicName;

/// A session as a test sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub client: String,
    pub connection: u64,
    pub is_online: bool,
    pub has_will: bool,
    pub subscriptions: BTreeMap<String, (bool, u32)>,
    pub messages: BTreeMap<u64, SeenMessage>,
    pub incoming: BTreeSet<u16>,
    pub next_key: u64,
    pub launched_below: u64,
}

/// A message of a session: how far it is, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenMessage {
    pub stage: StoredStage,
    pub payload: Option<String>,
}

/// What there is, as a test sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub sessions: BTreeMap<StoreNumber, Seen>,
    pub retained: BTreeMap<(String, String), String>,
}

/// The shards of one boot, each with its journal.
pub struct Writer {
    random: Random,
    boot: u32,
    counters: Vec<u32>,
    /// Which shard has which client.
    homes: BTreeMap<String, usize>,
    connections: u64,
    payloads: u64,
    pub journals: Vec<Vec<Stored>>,
    pub whole: Whole,
}

const CLIENTS: usize = 6;
const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 4] = ["a", "a/#", "+", "$share/g/a/b"];
const MOUNTPOINT: &str = "m";

fn incoming(session: StoreNumber, id: u16) -> Record<'static> {
    Record::Incoming { session, id: PacketId::new(id).expect("not zero"), decision: None }
}

fn never() -> WallClock {
    WallClock::new(Time::ZERO, WallTime::default())
}

impl Writer {
    /// Boot number `boot`, which goes on from `whole`. `connections` is how many there have been.
    pub fn new(seed: u64, boot: u32, whole: Whole, connections: u64) -> Self {
        let mut random = Random::from_seed(seed);
        let shards = 1 + random.below(3);
        let homes = (0..CLIENTS).map(|client| (client.to_string(), random.below(shards))).collect();
        let payloads = u64::from(boot) << 32;
        let (counters, journals) = (vec![0; shards], vec![Vec::new(); shards]);
        Writer { random, boot, counters, homes, connections, payloads, journals, whole }
    }

    /// How many connections there have been.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// The sessions that do not count are said to have ended.
    pub fn end(&mut self, displaced: &[StoreNumber]) {
        for number in displaced {
            self.write(0, &Record::Ended(*number));
        }
    }

    fn write(&mut self, shard: usize, record: &Record<'_>) {
        self.journals[shard].push(Stored::of(record));
    }

    /// Writes a record of a session into the journal of its shard.
    fn write_of(&mut self, number: StoreNumber, record: &Record<'_>) {
        let home = self.homes[&self.whole.sessions[&number].client];
        self.write(home, record);
    }

    fn number(&mut self, shard: usize) -> StoreNumber {
        self.counters[shard] += 1;
        StoreNumber::new(self.boot, shard as u8, self.counters[shard])
    }

    fn chance(&mut self, of: usize) -> bool {
        self.random.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.random.below(from.len())).copied()
    }

    fn session(&mut self) -> Option<StoreNumber> {
        let numbers: Vec<_> = self.whole.sessions.keys().copied().collect();
        self.pick(&numbers)
    }

    fn seen(&mut self, number: StoreNumber) -> &mut Seen {
        self.whole.sessions.get_mut(&number).expect("it is there")
    }

    /// A message of the session that is in one of these stages.
    fn message(&mut self, number: StoreNumber, stages: &[StoredStage]) -> Option<u64> {
        let messages = self.whole.sessions[&number].messages.iter();
        let keys: Vec<u64> = messages.filter(|(_, seen)| stages.contains(&seen.stage)).map(|(key, _)| *key).collect();
        self.pick(&keys)
    }

    /// One thing happens.
    pub fn step(&mut self) {
        match self.random.below(20) {
            0 => self.connect(),
            13 => self.retain(),
            14 => self.move_or_end(),
            15..=19 => self.publish(),
            other => {
                if let Some(number) = self.session() {
                    self.step_of(other, number);
                }
            }
        }
    }

    fn step_of(&mut self, what: usize, number: StoreNumber) {
        use StoredStage::{Queued, Received, Sent};
        match what {
            1 => self.disconnect(number),
            2 => self.subscribe(number),
            3 => {
                let filters: Vec<String> = self.seen(number).subscriptions.keys().cloned().collect();
                if let Some(filter) = self.pick(&filters.iter().collect::<Vec<_>>()) {
                    self.write_of(number, &Record::Unsubscribed { session: number, filter });
                    self.seen(number).subscriptions.remove(filter);
                }
            }
            4..=6 => {
                if let Some(key) = self.message(number, &[Queued, Sent, Received]) {
                    self.write_of(number, &Record::Removed(number, Key::new(key)));
                    self.seen(number).messages.remove(&key);
                }
            }
            7 => {
                if let Some(key) = self.message(number, &[Sent]) {
                    self.write_of(number, &Record::Received(number, Key::new(key)));
                    self.seen(number).messages.insert(key, SeenMessage { stage: Received, payload: None });
                }
            }
            8 => {
                if let Some(before) = self.message(number, &[Queued]) {
                    let next = self.seen(number).next_key + self.random.below(3) as u64;
                    let now = if self.chance(2) { before } else { next };
                    let (old, new) = (Key::new(before), Key::new(now));
                    self.write_of(number, &Record::Renumbered { session: number, before: old, now: new });
                    let seen = self.seen(number);
                    let message = seen.messages.remove(&before).expect("it is there");
                    seen.messages.insert(now, SeenMessage { stage: Sent, ..message });
                    seen.next_key = seen.next_key.max(now + 1);
                }
            }
            9 => self.launch(number),
            10 => {
                let id = 1 + self.random.below(9) as u16;
                self.write_of(number, &incoming(number, id));
                self.seen(number).incoming.insert(id);
            }
            11 => {
                let id = 1 + self.random.below(9) as u16;
                self.write_of(number, &Record::Released(number, PacketId::new(id).expect("not zero")));
                self.seen(number).incoming.remove(&id);
            }
            _ => {
                self.write_of(number, &Record::WillGone(number, DecisionNumber::new(1, 0)));
                self.seen(number).has_will = false;
            }
        }
    }

    /// The header of a session as it is.
    fn write_header(&mut self, number: StoreNumber, shard: usize, replaces: Option<StoreNumber>, is_arriving: bool) {
        let seen = self.whole.sessions[&number].clone();
        let will = Publication::new(TopicName::trusted("will"), b"gone");
        let message = StoredMessage::of_publication(&will, never());
        let will = StoredWill { message, mountpoint: MOUNTPOINT, delay: Default::default(), expiry: None };
        let due = WallTime::from_millis(seen.connection);
        let offline = Offline { since: due, expires: due, will_due: due, has_will: seen.has_will };
        let header = SessionRecord {
            version: ProtocolVersion::V5,
            session_number: seen.connection,
            will: seen.has_will.then_some(will),
            offline: (!seen.is_online).then_some(offline),
            replaces,
            is_arriving,
            ..SessionRecord::new(number, MOUNTPOINT, &seen.client)
        };
        self.write(shard, &Record::Session(Box::new(header)));
    }

    /// A client connects: its session is resumed, or it gets a new one.
    fn connect(&mut self) {
        let client = self.random.below(CLIENTS).to_string();
        let known = self.whole.sessions.iter().find(|(_, seen)| seen.client == client).map(|(number, _)| *number);
        let is_clean = self.chance(4);
        self.connections += 1;
        let (connection, has_will) = (self.connections, self.chance(2));
        let shard = self.homes[&client];
        let number = match known {
            Some(number) if !is_clean => number,
            other => {
                if let Some(old) = other {
                    self.write_of(old, &Record::Ended(old));
                    self.whole.sessions.remove(&old);
                }
                self.number(shard)
            }
        };
        let seen = self.whole.sessions.entry(number).or_default();
        *seen = Seen { client, connection, is_online: true, has_will, ..std::mem::take(seen) };
        self.write_header(number, shard, None, false);
    }

    fn disconnect(&mut self, number: StoreNumber) {
        if self.chance(6) {
            self.write_of(number, &Record::Ended(number));
            self.whole.sessions.remove(&number);
            return;
        }
        let has_will = self.seen(number).has_will && self.random.below(2) == 0;
        let [since, expires, will_due] = [1, 2, 3].map(WallTime::from_millis);
        self.write_of(number, &Record::Offline(number, Offline { since, expires, will_due, has_will }));
        (self.seen(number).is_online, self.seen(number).has_will) = (false, has_will);
    }

    fn subscribe(&mut self, number: StoreNumber) {
        let filter = self.pick(&FILTERS).expect("there are some");
        let (no_local, id) = (self.chance(2), self.random.below(3) as u32);
        let options = SubscriptionOptions { no_local, ..SubscriptionOptions::new(QoS::ExactlyOnce) };
        self.write_of(number, &subscribed(number, filter, Subscription { options, id }));
        self.seen(number).subscriptions.insert(filter.into(), (no_local, id));
    }

    /// Messages up to one of the keys are sent, all that wait.
    fn launch(&mut self, number: StoreNumber) {
        let Some(key) = self.message(number, &[StoredStage::Queued]) else { return };
        self.write_of(number, &Record::Launched(number, Key::new(key)));
        let seen = self.seen(number);
        seen.launched_below = seen.launched_below.max(key + 1);
        for (_, message) in seen.messages.range_mut(..=key) {
            if message.stage == StoredStage::Queued {
                message.stage = StoredStage::Sent;
            }
        }
    }

    /// A message goes to some sessions of each shard.
    fn publish(&mut self) {
        self.payloads += 1;
        let payload = self.payloads.to_string();
        let topic = TopicName::trusted(self.pick(&TOPICS).expect("there are some"));
        for shard in 0..self.journals.len() {
            let of_shard = |(_, seen): &(&StoreNumber, &Seen)| self.homes[&seen.client] == shard;
            let numbers: Vec<StoreNumber> =
                self.whole.sessions.iter().filter(of_shard).map(|(number, _)| *number).collect();
            let mut deliveries = DeliveryBuffer::default();
            for number in numbers {
                if self.chance(2) {
                    continue;
                }
                let is_sent = self.chance(2);
                let seen = self.seen(number);
                // What is not stored takes keys, too.
                let key = seen.next_key + payload.len() as u64 % 2;
                seen.next_key = key + 1;
                let stage = if is_sent { StoredStage::Sent } else { StoredStage::Queued };
                seen.messages.insert(key, SeenMessage { stage, payload: Some(payload.clone()) });
                deliveries.push(&delivery(number, key, is_sent));
            }
            if !deliveries.is_empty() {
                let publication = Publication::new(topic, payload.as_bytes());
                let message = StoredMessage::of_publication(&publication, never());
                self.write(shard, &Record::Message { message, deliveries: deliveries.deliveries() });
            }
        }
    }

    fn retain(&mut self) {
        let (topic, mountpoint) = (self.pick(&TOPICS).expect("some"), self.pick(&["", MOUNTPOINT]).expect("some"));
        let shard = topic.len() % self.journals.len();
        let (name, place) = (TopicName::trusted(topic), (mountpoint.to_owned(), topic.to_owned()));
        if self.chance(3) {
            self.write(shard, &Record::Cleared { mountpoint, topic: name });
            self.whole.retained.remove(&place);
            return;
        }
        self.payloads += 1;
        let payload = self.payloads.to_string();
        let publication = Publication::new(name, payload.as_bytes());
        let message = StoredMessage::of_publication(&publication, never());
        self.write(shard, &Record::Retained { mountpoint, message });
        self.whole.retained.insert(place, payload);
    }

    /// A session moves to another shard, and what is written of its old number after that does not count, be it the end or not. Or it ends, and its
    /// client gets a new one there.
    fn move_or_end(&mut self) {
        let Some(old) = self.session() else { return };
        let from = self.homes[&self.whole.sessions[&old].client];
        let shard = self.random.below(self.journals.len());
        if from == shard {
            return;
        }
        let number = self.number(shard);
        let mut seen = self.whole.sessions.remove(&old).expect("it is there");
        self.homes.insert(seen.client.clone(), shard);
        if self.chance(3) {
            self.connections += 1;
            let (client, connection) = (seen.client, self.connections);
            let new = Seen { client, connection, is_online: true, ..Seen::default() };
            self.whole.sessions.insert(number, new);
            self.write(from, &Record::Ended(old));
            return self.write_header(number, shard, None, false);
        }
        let launched_below = seen.launched_below;
        seen.next_key = seen.messages.keys().last().map_or(0, |last| last + 1).max(launched_below);
        self.whole.sessions.insert(number, seen.clone());
        self.write_header(number, shard, Some(old), true);
        self.write_rest(number, shard, &seen);
        self.write_header(number, shard, Some(old), false);
        if self.chance(2) {
            // It goes on for a while where it was.
            let message = Publication::new(TopicName::trusted("a"), b"late");
            let (message, mut deliveries) =
                (StoredMessage::of_publication(&message, never()), DeliveryBuffer::default());
            deliveries.push(&delivery(old, 1 << 40, false));
            self.write(from, &Record::Message { message, deliveries: deliveries.deliveries() });
        }
        if !self.chance(8) {
            self.write(from, &Record::Ended(old));
        }
    }

    /// All that belongs to a session but its header.
    fn write_rest(&mut self, number: StoreNumber, shard: usize, seen: &Seen) {
        for (filter, (no_local, id)) in &seen.subscriptions {
            let options = SubscriptionOptions { no_local: *no_local, ..SubscriptionOptions::new(QoS::ExactlyOnce) };
            self.write(shard, &subscribed(number, filter, Subscription { options, id: *id }));
        }
        for (key, SeenMessage { stage, payload }) in &seen.messages {
            let Some(payload) = payload else {
                self.write(shard, &Record::Received(number, Key::new(*key)));
                continue;
            };
            let publication = Publication::new(TopicName::trusted("a"), payload.as_bytes());
            let message = StoredMessage::of_publication(&publication, never());
            let mut deliveries = DeliveryBuffer::default();
            deliveries.push(&delivery(number, *key, *stage == StoredStage::Sent));
            self.write(shard, &Record::Message { message, deliveries: deliveries.deliveries() });
        }
        for id in &seen.incoming {
            self.write(shard, &incoming(number, *id));
        }
        if let Some(last) = seen.launched_below.checked_sub(1) {
            self.write(shard, &Record::Launched(number, Key::new(last)));
        }
    }

    /// All journals, one behind the other in any order.
    pub fn in_any_order(&mut self) -> Vec<Stored> {
        let mut journals = self.journals.clone();
        let mut records = Vec::new();
        while !journals.is_empty() {
            records.append(&mut journals.swap_remove(self.random.below(journals.len())));
        }
        records
    }

    /// The ends of all journals are lost, each anywhere.
    pub fn lose_ends(&mut self) {
        for journal in &mut self.journals {
            let left = self.random.below(journal.len() + 1);
            journal.truncate(left);
        }
    }
}

fn subscribed(session: StoreNumber, filter: &str, subscription: Subscription) -> Record<'_> {
    Record::Subscribed { session, filter, subscription }
}

fn delivery(session: StoreNumber, key: u64, is_sent: bool) -> Delivery<'static> {
    let (ids, group) = (StoredIds::from(&[1, 2][..]), Some("$share/g/a/b"));
    Delivery { session, key: Key::new(key), qos: QoS::ExactlyOnce, retain: false, is_sent, ids, group }
}
