//! What is recorded of sessions and messages.

use super::GatheredIncoming;
use super::Persistence;
use super::answers::Awaited;
use super::commits::UNKNOWN;
use super::deferrals::Deferred;
use super::promises::Noted;
use crate::codec::{PacketId, QoS};
use crate::config::StoredDurability;
use crate::message::{Message, Publication};
use crate::numbers::{Decision, DecisionNumber};
use crate::records::{Delivery, DeliveryBuffer, Offline, Record, SessionRecord, StoredMessage, StoredWill};
use crate::session::{Key, OutgoingMessage, PageKeys, Session, StoreNumber, Subscription, Will, packet_id};
use crate::sharding::ShardSet;
use crate::time::Time;
use crate::topic::TopicFilter;

/// Sessions.
impl Persistence {
    /// A session has begun, or its client has come or changed its terms: all that is known of it, but for subscriptions and messages.
    pub fn record_session<S>(&mut self, number: StoreNumber, session: &Session<S>, now: Time) {
        self.promises.make(number, session.settings.durability, false);
        let now = self.setup.wall.to_wall(now);
        let decided = self.on_disk.decisions.written(number, session.last_decision);
        let (replaces, is_arriving) = self.adoptions.of(number);
        let mut record = SessionRecord::of(session, number, now, self.setup.wall);
        let going = self.wills_going.remove(&number);
        if let Some(will) = &going {
            record.will = Some(StoredWill::of(will, self.setup.wall));
            record.offline = record.offline.map(|offline| Offline { has_will: true, will_due: now, ..offline });
        }
        let offline = record.offline.filter(|_| !self.crashed.contains(&number));
        let record = SessionRecord { decided, replaces, is_arriving, offline, ..record };
        self.write(&Record::Session(Box::new(record)));
        self.wills_going.extend(going.map(|will| (number, will)));
    }

    /// The will of a session is published. After a crash it is once more, as long as it is not recorded that it was.
    pub fn will_goes(&mut self, session: StoreNumber, will: &Will) {
        self.wills_going.entry(session).or_insert_with(|| will.clone());
    }

    /// Whether that is still to be recorded.
    pub fn is_will_going(&self, session: StoreNumber) -> bool {
        self.wills_going.contains_key(&session)
    }

    /// What the hooks keep with a session is this now.
    pub fn record_hook_state(&mut self, session: StoreNumber, state: &[u8]) {
        self.write(&Record::HookState(session, state));
    }

    /// A client comes to a session that is stored, or to be stored, and is promised this. To be said before anything is recorded of that.
    pub fn promise(&mut self, number: StoreNumber, durability: StoredDurability) {
        self.promises.make(number, durability, true);
    }

    /// A session was there when the broker started, and its client was promised this.
    pub fn restored(&mut self, number: StoreNumber, durability: StoredDurability) {
        self.promises.make(number, durability, false);
    }

    /// The start is over, and this session has what was read of it: that may be more than is to be in memory.
    pub fn was_there<S>(&mut self, session: &Session<S>) {
        let waiting = session.outbound.queue.paged();
        self.growth.was_there(waiting.messages_in_memory(), waiting.bytes_in_memory());
    }

    /// A client has come to a session, at this place with this instance number, of which that is recorded.
    pub fn client_came(&mut self, number: StoreNumber, session: (u32, u64)) {
        if self.is_will_going(number) {
            self.wills_to_come.insert(number, session);
        }
    }

    /// The next session of which is to be recorded once more what it is.
    pub fn next_new_will(&mut self) -> Option<(u32, u64)> {
        self.new_wills.pop()
    }

    /// The client of a session has gone: since when, until when it is kept, and when its will is due if it is delayed.
    pub fn record_offline(&mut self, number: StoreNumber, (since, expires): (Time, Time), will_due: Option<Time>) {
        let wall = self.setup.wall;
        let offline = Offline {
            since: wall.to_wall(since),
            expires: wall.to_wall(expires),
            will_due: wall.to_wall(will_due.unwrap_or(Time::NEVER)),
            has_will: will_due.is_some(),
        };
        self.write(&Record::Offline(number, offline));
    }

    /// A subscription was added or replaced.
    pub fn record_subscribed(&mut self, session: StoreNumber, filter: &TopicFilter, subscription: Subscription) {
        self.write(&Record::Subscribed { session, filter: filter.as_str(), subscription });
    }

    /// A subscription was removed.
    pub fn record_unsubscribed(&mut self, session: StoreNumber, filter: &TopicFilter) {
        self.write(&Record::Unsubscribed { session, filter: filter.as_str() });
    }
}

/// Messages.
impl Persistence {
    /// A message was acknowledged, dropped, or goes to another session.
    pub fn record_removed(&mut self, session: StoreNumber, key: Key) {
        if !self.makes_room {
            self.growth.went();
        }
        self.write(&Record::Removed(session, key));
    }

    /// What is stored of a message that waits for a client, or was sent.
    pub fn record_delivery(&mut self, session: StoreNumber, delivery: &OutgoingMessage, is_sent: bool) {
        let OutgoingMessage { message, key, qos, retain, ids, group } = delivery;
        if *qos == QoS::AtMostOnce || key.is_none() {
            return;
        }
        let group = group.as_ref().map(|group| group.as_str());
        let (key, ids) = (*key, ids[..].into());
        let mut one = DeliveryBuffer::default();
        one.push(&Delivery { session, key, qos: *qos, retain: *retain, is_sent, ids, group });
        if !self.makes_room {
            self.growth.came_to(delivery, is_sent);
        }
        let message = StoredMessage::of(message, self.setup.wall);
        self.write(&Record::Message { message, deliveries: one.deliveries() });
    }

    /// A message waits in the queue of the session that has this place in the table, and this instance number. If it has come from another shard, and
    /// may go to its client once only, it goes when it is on disk here.
    pub fn record_waiting(&mut self, number: StoreNumber, delivery: &OutgoingMessage, session: (u32, u64)) {
        self.record_delivery(number, delivery, false);
        if delivery.qos == QoS::ExactlyOnce && self.adoptions.of(number).1 {
            let decision = delivery.message.decision().map(|decision| decision.number);
            self.launches.push(self.recorded(), session, delivery.key, decision);
        }
    }

    /// A message was sent that was in a page under this key. The page is needed no more for it.
    pub fn record_launched_of_page(&mut self, number: StoreNumber, before: Key, delivery: &OutgoingMessage) {
        self.sent_while_crowded += if self.is_crowded() { delivery.size() } else { 0 };
        // If only the first of two is on disk, it is there once nevertheless.
        self.record_delivery(number, &OutgoingMessage { key: before, ..delivery.clone() }, true);
        if before != delivery.key {
            self.write(&Record::Renumbered { session: number, before, now: delivery.key });
        }
    }

    /// The same of one that waits, since it has got another key that is to be on disk first. `session`: as of
    /// [`record_renumbered`](Self::record_renumbered).
    pub fn record_renumbered_of_page(
        &mut self,
        number: StoreNumber,
        before: Key,
        delivery: &OutgoingMessage,
        session: (u32, u64),
    ) {
        self.record_launched_of_page(number, before, delivery);
        self.launches.push(self.recorded(), session, delivery.key, None);
    }

    /// What is gone of the pages of a session, and what was read of them and has got another key: the archive does not know of it. What is in flight
    /// has records of its own.
    pub fn record_gone<S>(&mut self, number: StoreNumber, session: &Session<S>) {
        let (outbound, paged) = (&session.outbound, session.outbound.queue.paged());
        let is_in_flight = |key: Key| outbound.under(packet_id(key.get())).is_some_and(|entry| entry.key() == key);
        let of_pages = paged.gone().flatten().copied();
        let mut gone: Vec<Key> = of_pages.filter(|key| !is_in_flight(*key)).collect();
        if self.is_arriving(number) {
            // What records say of it under its old number, if they say anything, does not count any more; and after a crash these pages may be there.
            let deleting = paged.emptied().iter().chain(self.pages_deleted(session));
            gone.extend(deleting.flat_map(PageKeys::iter).filter(|key| !is_in_flight(*key)));
        }
        gone.into_iter().for_each(|key| self.record_removed(number, key));
        paged.loose().for_each(|delivery| self.record_delivery(number, delivery, false));
    }

    /// A client has a QoS 2 message: only the end of the handshake is needed.
    pub fn record_received(&mut self, session: StoreNumber, key: Key) {
        self.write(&Record::Received(session, key));
    }

    /// Messages that had waited were sent, under their keys or others; the oldest first, if they go `in_order`.
    pub fn record_launched(&mut self, session: StoreNumber, launched: &[(Key, Key)], in_order: bool) {
        // Out of order it has to be said of each, or those behind it would get other packet ids after a crash, which their client takes for new ones.
        for (before, now) in launched.iter().filter(|(before, now)| !in_order || before != now) {
            self.write(&Record::Renumbered { session, before: *before, now: *now });
        }
        // Of those before the last one that is known with it.
        if let Some((_, last)) = launched.iter().rev().find(|(before, now)| before == now).filter(|_| in_order) {
            self.write(&Record::Launched(session, *last));
        }
    }

    /// A message of QoS 2 has got another key, and waits until that is on disk. `session`: its place in the table, and its instance number.
    pub fn record_renumbered(&mut self, number: StoreNumber, (before, now): (Key, Key), session: (u32, u64)) {
        self.write(&Record::Renumbered { session: number, before, now });
        self.launches.push(self.recorded(), session, now, None);
    }

    /// A QoS 2 message of a client was taken, and went to these shards. That is recorded behind the message: one that is sent again would be
    /// passed over else, though the message is lost.
    pub fn take_incoming(&mut self, decision: Decision, id: PacketId, (told, is_gathered): (ShardSet, bool)) {
        let awaited = Awaited { letters: self.letters_to(told), ..Awaited::default() };
        if is_gathered && awaited.letters.is_empty() && self.deferrals.is_empty() {
            self.gathered_incoming.push(GatheredIncoming { decision, id, is_released: false });
        } else {
            self.incoming.insert((decision.session, id.get()), decision.number);
            self.write_after(awaited, Deferred::Taken(decision, id));
        }
    }

    /// The decision to take a QoS 2 message of a client, if it will be recorded that it was taken.
    pub fn incoming(&self, session: StoreNumber, id: PacketId) -> Option<DecisionNumber> {
        let gathered = self.gathered_incoming.iter().rev().find(|one| one.is_of(session, id));
        gathered.map(|one| one.decision.number).or_else(|| self.incoming.get(&(session, id.get())).copied())
    }

    /// A QoS 2 message of a client was taken, and is on disk.
    pub fn record_incoming(&mut self, session: StoreNumber, id: PacketId) {
        self.write(&Record::Incoming { session, id, decision: None });
    }

    /// Its client has released it.
    pub fn record_released(&mut self, session: StoreNumber, id: PacketId) {
        let gathered = self.gathered_incoming.iter_mut().rev().find(|one| one.is_of(session, id));
        if let Some(gathered) = gathered {
            gathered.is_released = true;
        } else if self.incoming.remove(&(session, id.get())).is_none() {
            self.write(&Record::Released(session, id));
        }
    }

    /// A message is retained.
    pub fn record_retained(&mut self, mountpoint: &str, message: &Message) {
        let is_to_be_synced = self.makes_room || message.is_to_be_synced();
        let message = StoredMessage::of(message, self.setup.wall);
        self.write_as(&Record::Retained { mountpoint, message }, is_to_be_synced);
    }

    /// Nothing is retained for a topic any more, by this message.
    pub fn record_cleared(&mut self, mountpoint: &str, by: &Message) {
        self.write_as(&Record::Cleared { mountpoint, topic: by.topic() }, by.is_to_be_synced());
    }
}

/// Messages that are delivered together.
impl Persistence {
    /// A message was delivered to the stored session at this place of the table, which has this instance number; it is that at the place `at`
    /// of those that are delivered together.
    pub fn note(&mut self, at: usize, delivery: &Delivery<'_>, session: (u32, u64), decision: Option<DecisionNumber>) {
        if self.noted.len() <= at {
            self.noted.resize_with(at + 1, Noted::default);
        }
        let noted = &mut self.noted[at];
        noted.is_to_be_synced |= self.promises.of(delivery.session);
        noted.deliveries.push(delivery);
        noted.sessions += 1;
        noted.waiting += u64::from(!delivery.is_sent);
        if delivery.qos == QoS::ExactlyOnce {
            self.launches.push(UNKNOWN, session, delivery.key, decision);
        }
    }

    /// All recipients here of these publications, which were delivered together, were seen to.
    pub fn record_noted<'p>(&mut self, publications: impl Iterator<Item = &'p Publication<'p>>) {
        let mut noted = std::mem::take(&mut self.noted);
        let noted_of = noted.iter_mut().zip(publications).filter(|(one, _)| !one.deliveries.is_empty());
        for (Noted { deliveries, is_to_be_synced, sessions, waiting }, publication) in noted_of {
            let size = publication.topic.as_str().len() + publication.payload.len();
            self.growth.came(std::mem::take(sessions), std::mem::take(waiting), size);
            let message = StoredMessage::of_publication(publication, self.setup.wall);
            let is_to_be_synced = std::mem::take(is_to_be_synced) || publication.is_to_be_synced;
            self.write_as(&Record::Message { message, deliveries: deliveries.deliveries() }, is_to_be_synced);
            deliveries.clear();
        }
        self.noted = noted;
        let mut gathered = std::mem::take(&mut self.gathered_incoming);
        for GatheredIncoming { decision, id, is_released } in gathered.drain(..) {
            self.write_taken(decision, id);
            if is_released {
                self.write(&Record::Released(decision.session, id));
            }
            self.on_disk.decisions.write(decision, self.recorded(), false);
        }
        self.gathered_incoming = gathered;
        let records = self.recorded();
        self.launches.are_recorded(records);
        if std::mem::take(&mut self.gathered) {
            self.answers.gathered_are_recorded(records);
        }
    }
}
