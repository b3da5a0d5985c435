//! The organ that keeps on disk what has to survive a crash: it says what is recorded when, and what waits until that is done.
//!
//! Owns the journal of the shard, the answers that wait for it, and what is known of the journals of other shards. Sessions and messages are
//! lent to it. It never decides what becomes of a message, and never touches a connection: whom to answer is returned.
//!
//! # What is recorded
//!
//! A session that is kept is *stored*, and has a number in the store. So are its subscriptions, messages of QoS 1 and 2 for it with what its
//! client says to them, the packet ids of its own QoS 2 messages, and its will; and retained messages. QoS 0, and sessions that end with their
//! connection, write nothing.
//!
//! # What waits
//!
//! PUBACK, PUBREC, PUBCOMP, SUBACK and UNSUBACK wait until what they acknowledge is on disk, in the sense that was agreed on for the listener:
//! here, and on every shard to which something was sent for it. So do PUBREL to a stored session, whose client forgets the packet id then; QoS
//! 2 messages to one, which stay in its queue, since after a crash another message could have the packet id; and all output from CONNACK on of
//! a client with one. Nothing else waits.
//!
//! Answers of one shard go out in the order in which they were made.
//!
//! # Bounds
//!
//! The journal has its own. When it is full, or as much waits for its commit as may, what is recorded nevertheless waits here, in memory; and no
//! client is served that publishes ([`Persistence::is_crowded`]), so that no more than a turn's worth comes.

mod answers;
mod commits;
mod letters;
mod rewriting;
#[cfg(test)]
mod tests;

pub use answers::{Answer, Awaited};
pub use commits::{Committed, Durability};
pub use rewriting::{Cursor, SessionCursor};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use answers::{Answers, UNKNOWN};
use commits::Commits;
use letters::Letters;
use rewriting::Rewriting;

use crate::client::ConnectionId;
use crate::codec::{PacketId, QoS};
use crate::journal::{self, Class, Effect, Journal, Refused, Sync};
use crate::message::{Message, Publication};
use crate::records::{Delivery, DeliveryBuffer, Offline, Record, SessionRecord, StoredMessage, WallClock};
use crate::session::{Key, OutgoingMessage, Session, StoreNumber, Subscription};
use crate::sharding::ShardSet;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

/// With less room than this in the journal, nothing is published that may have to be recorded: so much may follow from what is served
/// already.
const CROWDED: usize = 256 * 1024;

/// What persistence on one shard begins with.
pub struct PersistenceSetup {
    /// The journal of the shard.
    pub journal: Journal,
    /// Which boot of the store this is, from 1.
    pub boot: u32,
    /// How a commit becomes durable.
    pub sync: Sync,
    /// What QoS 2 messages to clients, and CONNACK, wait for.
    pub durability: Durability,
    /// The time since the start of the broker, more exact than that of inputs.
    pub clock: Box<dyn Fn() -> Duration>,
    /// How that stands to the calendar.
    pub wall: WallClock,
    /// Sessions that others have replaced, and of which that is not recorded: they would come back when those have ended.
    pub replaced: Vec<StoreNumber>,
}

/// A stored session has QoS 2 messages in its queue that may be sent when so many records are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    records: u64,
    /// The session, by its place in the table, and its instance number.
    pub session: (u32, u64),
    /// The last of them.
    pub key: Key,
}

/// What is recorded when something that was sent to other shards is on disk there: it would be lost else, if the process ended between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferred {
    /// A message has gone on to another session.
    Removed(StoreNumber, Key),
    /// The will of a session was published.
    WillGone(StoreNumber),
    /// A session has ended: its will was published, what others could have went on to them.
    Ended(StoreNumber),
}

/// The organ; one for each shard that has a store.
pub struct Persistence {
    setup: PersistenceSetup,
    own: usize,
    /// How many numbers were given.
    numbers: u32,
    commits: Commits,
    /// Records that the journal had no room for, in order.
    behind: VecDeque<(u8, Vec<u8>)>,
    answers: Answers,
    /// Whether there are answers to messages that are gathered and not delivered yet.
    gathered: bool,
    /// QoS 2 messages among these: that they were taken is recorded behind them.
    gathered_incoming: Vec<(StoreNumber, PacketId)>,
    /// QoS 2 messages of clients that other shards do not have on disk yet.
    incoming: BTreeSet<(StoreNumber, u16)>,
    letters: Letters,
    /// What is recorded later, and what has to be on disk before.
    deferred: VecDeque<(Awaited, Deferred)>,
    /// Whether sessions are to come here from other shards.
    pub is_any_arriving: bool,
    /// Clients that are not served before the journal has room.
    pub waiting_for_room: Vec<ConnectionId>,
    /// By the place among publications that are delivered together: deliveries to stored sessions.
    noted: Vec<DeliveryBuffer>,
    launches: VecDeque<Launch>,
    rewriting: Rewriting,
    /// What is written is what was written before, to make room.
    makes_room: bool,
    /// Records that are lost, since the journal has failed: what waits for them waits for ever.
    lost: u64,
    /// Memory to encode records in.
    scratch: Vec<u8>,
}

impl Persistence {
    /// Nothing recorded by this boot yet, on shard `own` of `shards`.
    pub fn new(mut setup: PersistenceSetup, own: usize, shards: usize) -> Self {
        let replaced = std::mem::take(&mut setup.replaced);
        let mut persistence = Persistence {
            setup,
            own,
            numbers: 0,
            commits: Commits::default(),
            behind: VecDeque::new(),
            answers: Answers::default(),
            gathered: false,
            gathered_incoming: Vec::new(),
            incoming: BTreeSet::new(),
            letters: Letters::new(shards),
            deferred: VecDeque::new(),
            is_any_arriving: false,
            waiting_for_room: Vec::new(),
            noted: Vec::new(),
            launches: VecDeque::new(),
            rewriting: Rewriting::Idle,
            makes_room: false,
            lost: 0,
            scratch: Vec::new(),
        };
        replaced.into_iter().for_each(|number| persistence.record_ended(number));
        persistence
    }

    /// The number of a session that is to be stored.
    pub fn next_number(&mut self) -> StoreNumber {
        self.numbers += 1;
        StoreNumber::new(self.setup.boot, self.own as u8, self.numbers)
    }

    /// How many records there are, those included that the journal had no room for.
    fn recorded(&self) -> u64 {
        self.commits.taken() + self.behind.len() as u64 + self.lost
    }

    /// Whether no client is to be served that publishes: the journal has little room, or none.
    pub fn is_crowded(&self) -> bool {
        !self.behind.is_empty() || self.setup.journal.room(Class::Ordinary).is_none_or(|room| room < CROWDED)
    }

    /// Whether nothing waits for the disk.
    pub fn is_settled(&self) -> bool {
        let nothing_waits = self.behind.is_empty() && self.answers.is_empty() && self.deferred.is_empty();
        nothing_waits && self.setup.journal.is_settled()
    }
}

/// What is recorded.
impl Persistence {
    fn write(&mut self, record: &Record<'_>) {
        let Persistence { setup, behind, commits, scratch, makes_room, .. } = self;
        let encoded = record.encode(scratch);
        let class = if *makes_room { Class::Relief } else { record.class() };
        let taken = match behind.is_empty() {
            true => setup.journal.append(class, encoded.kind, encoded.parts()),
            false => Err(Refused::Busy),
        };
        match taken {
            Ok(mark) => {
                commits.take(mark);
                self.note_rewritten();
            }
            // It is no packet of a client: those fit. Whoever waits for it waits for the others only.
            Err(Refused::TooLarge) => {
                let (shard, bytes) = (self.own, encoded.bytes());
                tracing::error!(
                    shard,
                    bytes,
                    "what is larger than a commit of the journal is not stored, and a restart forgets it"
                );
            }
            // It will have no room any more.
            Err(Refused::Failed) => self.lost += 1,
            Err(_) => behind.push_back((encoded.kind, encoded.parts().concat())),
        }
    }

    /// The journal may have room again for what it had none for. It may have all there is: that was taken on already.
    fn catch_up(&mut self) {
        while let Some((kind, body)) = self.behind.front() {
            let Ok(mark) = self.setup.journal.append(Class::Relief, *kind, &[body]) else { return };
            self.commits.take(mark);
            self.behind.pop_front();
            self.note_rewritten();
        }
    }

    /// A message was delivered to the stored session at this place of the table, which has this instance number; it is that at the place `at`
    /// of those that are delivered together.
    pub fn note(&mut self, at: usize, delivery: &Delivery<'_>, session: (u32, u64)) {
        if self.noted.len() <= at {
            self.noted.resize_with(at + 1, DeliveryBuffer::default);
        }
        self.noted[at].push(delivery);
        if delivery.qos == QoS::ExactlyOnce {
            self.launches.push_back(Launch { records: UNKNOWN, session, key: delivery.key });
        }
    }

    /// All recipients here of these publications, which were delivered together, were seen to.
    pub fn record_noted<'p>(&mut self, publications: impl Iterator<Item = &'p Publication<'p>>) {
        let mut noted = std::mem::take(&mut self.noted);
        for (deliveries, publication) in noted.iter_mut().zip(publications).filter(|(one, _)| !one.is_empty()) {
            let message = StoredMessage::of_publication(publication, self.setup.wall);
            self.write(&Record::Message { message, deliveries: deliveries.deliveries() });
            deliveries.clear();
        }
        self.noted = noted;
        for (session, id) in std::mem::take(&mut self.gathered_incoming) {
            self.write(&Record::Incoming(session, id));
        }
        let records = self.recorded();
        for launch in self.launches.iter_mut().rev().take_while(|launch| launch.records == UNKNOWN) {
            launch.records = records;
        }
        if std::mem::take(&mut self.gathered) {
            self.answers.gathered_are_recorded(records);
        }
    }
}

/// What waits for the disk.
impl Persistence {
    /// So many letters were sent to another shard that lead to records there.
    pub fn sent_letters(&mut self, to: usize, sent: u64) {
        if to != self.own {
            self.letters.sent(to, sent);
        }
    }

    /// Something was published here that is not delivered to all at once: as if it was a letter to this shard itself.
    pub fn write_to_self(&mut self) {
        self.letters.send(self.own);
        self.letters.come(self.own);
    }

    /// Whether letters are under way of which it is not known whether what they lead to is on disk.
    pub fn has_open_letters(&self) -> bool {
        self.letters.is_any_open()
    }

    /// Something is to be recorded when all that was sent to other shards before is on disk there.
    pub fn defer(&mut self, deferred: Deferred) {
        let letters = self.letters.all_open();
        match letters.is_empty() && self.deferred.is_empty() {
            true => self.write_deferred(deferred),
            false => self.deferred.push_back((Awaited { records: 0, letters }, deferred)),
        }
    }

    fn write_deferred(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Removed(session, key) => self.write(&Record::Removed(session, key)),
            Deferred::WillGone(session) => self.write(&Record::WillGone(session)),
            Deferred::Ended(session) => self.write(&Record::Ended(session)),
        }
    }

    fn write_those_deferred(&mut self) {
        let (durability, own) = (self.setup.durability, self.commits.committed());
        while let Some((awaited, _)) = self.deferred.front()
            && awaited.is_there(durability, own, self.letters.committed())
        {
            if let Some((_, deferred)) = self.deferred.pop_front() {
                self.write_deferred(deferred);
            }
        }
    }

    /// A letter has come from another shard.
    pub fn letter_came(&mut self, from: usize) {
        self.letters.come(from);
    }

    /// A shard says how many letters of this one are on disk there with all that followed.
    pub fn letters_committed(&mut self, by: usize, committed: Committed) {
        self.letters.are_committed(by, committed);
        self.write_those_deferred();
    }

    /// What has to be on disk before a client is told of what was just done, for which these shards have been sent letters.
    fn awaited(&self, told: ShardSet) -> Awaited {
        let letters = told.iter().filter_map(|shard| Some((shard, self.letters.open(shard)?)));
        Awaited { records: self.recorded(), letters: letters.collect() }
    }

    /// A client is to be answered when all that was recorded so far is on disk, and what these shards have been sent. Gives the answer back
    /// if that is so, and none of its answers waits.
    ///
    /// `incoming` is what [`take_incoming`](Self::take_incoming) gave. With `is_gathered`, the message is one of those that are delivered
    /// together, and not recorded yet: see [`record_noted`](Self::record_noted).
    pub fn answer(
        &mut self,
        connection: ConnectionId,
        (told, is_gathered): (ShardSet, bool),
        (answer, incoming): (Answer, Option<(StoreNumber, PacketId)>),
    ) -> Option<Answer> {
        let (durability, mut awaited) = (self.setup.durability, self.awaited(told));
        if is_gathered {
            (awaited.records, self.gathered) = (UNKNOWN, true);
        } else if !self.answers.any_of(durability)
            && awaited.is_there(durability, self.commits.committed(), self.letters.committed())
        {
            self.record_with_answer(incoming);
            return Some(answer);
        }
        self.answers.push(durability, awaited, (connection, incoming), answer);
        None
    }

    /// The next answer that need not wait any more.
    pub fn next_answer(&mut self) -> Option<(ConnectionId, Answer)> {
        let ((connection, incoming), answer) = self.answers.next(self.commits.committed(), self.letters.committed())?;
        self.record_with_answer(incoming);
        Some((connection, answer))
    }

    /// The message that is answered is on disk. It may have been released meanwhile, by a client that does not wait.
    fn record_with_answer(&mut self, incoming: Option<(StoreNumber, PacketId)>) {
        if let Some((session, id)) = incoming.filter(|(session, id)| self.incoming.remove(&(*session, id.get()))) {
            self.write(&Record::Incoming(session, id));
        }
    }

    /// The next session with QoS 2 messages that are on disk.
    pub fn next_launch(&mut self) -> Option<Launch> {
        let committed = self.commits.committed().of(self.setup.durability);
        self.launches.front().filter(|launch| launch.records <= committed)?;
        self.launches.pop_front()
    }

    /// What was done at this time has been done. `portions`: so many messages in portions had been begun, of which so many are done; none if
    /// what shards have sent may be here without being delivered for another reason.
    pub fn end_input(&mut self, portions: Option<(u64, u64)>) {
        if let Some(portions) = portions {
            self.letters.end_turn(self.recorded(), portions);
        }
    }

    /// What another shard is to be told: so many of its letters are on disk here.
    pub fn next_news(&mut self) -> Option<(usize, Committed)> {
        loop {
            let (shard, committed) = self.letters.next_news(self.commits.committed())?;
            if shard != self.own {
                return Some((shard, committed));
            }
            self.letters_committed(shard, committed);
        }
    }
}

/// Room in the journal.
impl Persistence {
    /// What is to be written again now, to make room; [`rewritten`](Self::rewritten) has to follow. None if there is enough, or the journal takes
    /// no more at present.
    pub fn next_to_rewrite(&mut self) -> Option<Cursor> {
        if !self.is_to_be_rewritten() {
            return None;
        }
        // Where ordinary records have no room, this is what makes some.
        if !self.behind.is_empty() || self.setup.journal.room(Class::Relief).is_none_or(|room| room < CROWDED) {
            self.setup.journal.grow();
            return None;
        }
        let next = match &mut self.rewriting {
            Rewriting::Idle | Rewriting::Done { .. } => {
                self.rewriting = Rewriting::UnderWay { below: None, at: Cursor::End };
                Some(Cursor::Session(0))
            }
            Rewriting::UnderWay { at, .. } => Some(std::mem::replace(at, Cursor::End)),
            Rewriting::Committing { .. } => None,
        };
        self.makes_room = next.is_some();
        next
    }

    /// Whether what is needed is being written again, or has to be: it must fit into the other half of the journal. To do so once more when
    /// neither a segment was begun meanwhile nor anything was recorded would make no room.
    fn is_to_be_rewritten(&self) -> bool {
        let fullness = self.setup.journal.fullness();
        let is_half = fullness.live > 1 && fullness.live * 2 >= fullness.segments;
        match self.rewriting {
            Rewriting::Idle => is_half,
            Rewriting::Done { live, records, .. } => {
                is_half && (fullness.live > live || self.recorded() > records && self.is_crowded())
            }
            Rewriting::UnderWay { .. } => true,
            Rewriting::Committing { .. } => false,
        }
    }

    /// What was to be written again has been, up to here.
    pub fn rewritten(&mut self, up_to: Cursor) {
        self.makes_room = false;
        let records = self.recorded();
        let Rewriting::UnderWay { below, at } = &mut self.rewriting else { return };
        match (up_to, *below) {
            (Cursor::End, Some(below)) => self.rewriting = Rewriting::Committing { below, records },
            // Nothing counts at all of what there was.
            (Cursor::End, None) => {
                let below = match self.commits.last_mark() {
                    Some(mark) => self.setup.journal.generation_of(mark),
                    // All that there is was there at the start.
                    None => self.setup.journal.newest().map(|newest| newest + 1),
                };
                self.rewriting = Rewriting::Committing { below: below.unwrap_or(0), records };
            }
            (up_to, _) => *at = up_to,
        }
        // All of it may be on disk already, and nothing else be under way there.
        self.release_segments();
    }

    /// The segment of the first record that is written again is known.
    fn note_rewritten(&mut self) {
        if let Rewriting::UnderWay { below: below @ None, .. } = &mut self.rewriting
            && let Some(mark) = self.commits.last_mark()
        {
            *below = self.setup.journal.generation_of(mark);
        }
    }

    /// Gives segments back that are not needed any more.
    fn release_segments(&mut self) {
        if let Rewriting::Committing { below, records } = self.rewriting
            && self.commits.committed().of(self.setup.durability) >= records
            // What went on to other shards is in the old segments alone until it is on disk there.
            && self.deferred.is_empty()
        {
            self.setup.journal.archive_below(below);
            self.rewriting = Rewriting::Done { below, live: usize::MAX, records: self.recorded() };
        }
        let Rewriting::Done { below, live, .. } = &mut self.rewriting else { return };
        let journal = &mut self.setup.journal;
        while let Some(oldest) = journal.oldest().filter(|oldest| oldest.generation < *below)
            && journal.release(oldest)
        {
            *live = journal.fullness().live;
        }
        *live = journal.fullness().live.min(*live);
    }
}

/// The journal.
impl Persistence {
    /// What is to be done for the journal now.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if !self.behind.is_empty() {
            // Nothing may be under way whose end would have them looked at.
            self.catch_up();
        }
        self.setup.journal.next_effect((self.setup.clock)())
    }

    /// When there is something to be done for it, at the latest; since the start of the broker.
    pub fn wake_up(&self) -> Option<Duration> {
        self.setup.journal.wake_up()
    }

    /// Something was done for it, or could not be.
    pub fn done(&mut self, answer: journal::Answer) {
        let journal = &mut self.setup.journal;
        let had_failed = journal.failure().is_some();
        journal.answer(answer, (self.setup.clock)());
        if let Some(failure) = journal.failure().filter(|_| !had_failed) {
            tracing::error!(shard = self.own, "{failure}: nothing is acknowledged any more that is to be stored here");
            self.lost += self.behind.len() as u64;
            self.behind.clear();
        }
        self.catch_up();
        let journal = &self.setup.journal;
        let fsynced = if self.setup.sync == Sync::Never { journal.flushed() } else { journal.fsynced() };
        self.commits.follow(journal.flushed(), fsynced);
        self.release_segments();
    }
}

/// Sessions.
impl Persistence {
    /// A session has begun, or its client has come or changed its terms: all that is known of it, but for subscriptions and messages.
    pub fn record_session<S>(&mut self, number: StoreNumber, session: &Session<S>, now: Time) {
        // The will that was published is not the one that this says.
        self.deferred.retain(|(_, deferred)| *deferred != Deferred::WillGone(number));
        let now = self.setup.wall.to_wall(now);
        let record = SessionRecord::of(session, number, now, self.setup.wall);
        self.write(&Record::Session(Box::new(record)));
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

    /// The will of a session was published, or forgotten.
    pub fn record_will_gone(&mut self, number: StoreNumber) {
        self.write(&Record::WillGone(number));
    }

    /// A session has ended, with all that it had.
    pub fn record_ended(&mut self, number: StoreNumber) {
        self.write(&Record::Ended(number));
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
        let message = StoredMessage::of(message, self.setup.wall);
        self.write(&Record::Message { message, deliveries: one.deliveries() });
    }

    /// A client has a QoS 2 message: only the end of the handshake is needed.
    pub fn record_received(&mut self, session: StoreNumber, key: Key) {
        self.write(&Record::Received(session, key));
    }

    /// Messages that had waited were sent, under their keys or others; the oldest first, if they go `in_order`.
    pub fn record_launched(&mut self, session: StoreNumber, launched: &[(Key, Key)], in_order: bool) {
        for (before, now) in launched.iter().filter(|(before, now)| before != now) {
            self.write(&Record::Renumbered { session, before: *before, now: *now });
        }
        // Those that have others are known to be sent.
        if let Some((_, last)) = launched.iter().rev().find(|(before, now)| before == now).filter(|_| in_order) {
            self.write(&Record::Launched(session, *last));
        }
    }

    /// A message of QoS 2 has got another key, and waits until that is on disk. `session`: its place in the table, and its instance number.
    pub fn record_renumbered(&mut self, number: StoreNumber, (before, now): (Key, Key), session: (u32, u64)) {
        self.write(&Record::Renumbered { session: number, before, now });
        self.launches.push_back(Launch { records: self.recorded(), session, key: now });
    }

    /// A QoS 2 message of a client was taken, and went to these shards. That is recorded behind the message: one that is sent again would be
    /// passed over else, though the message is lost. Gives what is to be recorded with the answer, when all shards have the message on disk.
    pub fn take_incoming(
        &mut self,
        (session, id): (StoreNumber, PacketId),
        (told, is_gathered): (ShardSet, bool),
    ) -> Option<(StoreNumber, PacketId)> {
        let is_elsewhere = told.iter().any(|shard| self.letters.open(shard).is_some());
        match (is_elsewhere, is_gathered) {
            // It was sent once more. What was recorded of it the first time goes before this answer.
            _ if self.is_incoming(session, id) => {}
            (true, _) => {
                self.incoming.insert((session, id.get()));
                return Some((session, id));
            }
            (false, true) => self.gathered_incoming.push((session, id)),
            (false, false) => self.write(&Record::Incoming(session, id)),
        }
        None
    }

    /// Whether it will be recorded of a QoS 2 message of a client that it was taken.
    pub fn is_incoming(&self, session: StoreNumber, id: PacketId) -> bool {
        self.incoming.contains(&(session, id.get()))
    }

    /// A QoS 2 message of a client was taken, and is on disk.
    pub fn record_incoming(&mut self, session: StoreNumber, id: PacketId) {
        self.write(&Record::Incoming(session, id));
    }

    /// Its client has released it.
    pub fn record_released(&mut self, session: StoreNumber, id: PacketId) {
        self.incoming.remove(&(session, id.get()));
        self.write(&Record::Released(session, id));
    }

    /// A message is retained.
    pub fn record_retained(&mut self, mountpoint: &str, message: &Message) {
        let message = StoredMessage::of(message, self.setup.wall);
        self.write(&Record::Retained { mountpoint, message });
    }

    /// Nothing is retained for a topic any more.
    pub fn record_cleared(&mut self, mountpoint: &str, topic: TopicName<'_>) {
        self.write(&Record::Cleared { mountpoint, topic });
    }
}
