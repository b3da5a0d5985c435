//! The records, as bytes and back.

use std::fmt;

use super::bytes::{Cursor, KEYS_END, Wrong, put_keyed_place, put_number, put_place, text};
use super::delivery::Deliveries;
use super::message::{Head, StoredMessage};
use super::offline::Offline;
use super::options::{options_from, options_to};
use super::session_record::SessionRecord;
use crate::codec::PacketId;
use crate::journal::Class;
use crate::numbers::{DecisionNumber, StoreNumber};
use crate::session::{Key, Subscription};
use crate::topic::{TopicFilter, TopicName};

/// One record. What each means is said in the documentation of the module above.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// The header of a session: it is made, or its header is replaced; its messages, subscriptions and packet ids stay.
    Session(Box<SessionRecord<'a>>),
    /// The session is offline now.
    Offline(StoreNumber, Offline),
    /// Its will was published: a decision, on which that depends for stored sessions.
    WillGone(StoreNumber, DecisionNumber),
    /// A subscription was added or replaced.
    Subscribed {
        /// The session.
        session: StoreNumber,
        /// Its filter, which [`TopicFilter::check`] finds well-formed.
        filter: &'a str,
        /// The rest of it.
        subscription: Subscription,
    },
    /// A subscription was removed.
    Unsubscribed {
        /// The session.
        session: StoreNumber,
        /// Its filter.
        filter: &'a str,
    },
    /// A message, and those of this shard that it is for.
    Message {
        /// The message.
        message: StoredMessage<'a>,
        /// Who gets it.
        deliveries: Deliveries<'a>,
    },
    /// A message was acknowledged, dropped, or has expired.
    Removed(StoreNumber, Key),
    /// A message has gone on to another session: the copy there depends on this decision.
    PassedOn {
        /// The session that had it.
        session: StoreNumber,
        /// Its key there.
        key: Key,
        /// The decision.
        decision: DecisionNumber,
    },
    /// PUBREC came for a message: only its key is needed still, for PUBREL and PUBCOMP.
    Received(StoreNumber, Key),
    /// A message was sent that others wait before, or under another key than it was stored with.
    Renumbered {
        /// The session.
        session: StoreNumber,
        /// The key of the message before.
        before: Key,
        /// The key it was sent with: the same, or one that the session had not used.
        now: Key,
    },
    /// All messages up to this key have been sent.
    Launched(StoreNumber, Key),
    /// A PUBLISH of QoS 2 was taken from the client, and its PUBREL has not come.
    Incoming {
        /// The session.
        session: StoreNumber,
        /// The packet id.
        id: PacketId,
        /// The decision that messages depend on, if there are such.
        decision: Option<DecisionNumber>,
    },
    /// That packet id was released.
    Released(StoreNumber, PacketId),
    /// What the hooks keep with the session, as they wrote it; nothing if they keep nothing.
    HookState(StoreNumber, &'a [u8]),
    /// The session has ended, or is at another shard: nothing of it counts any more.
    Ended(StoreNumber),
    /// A message is the retained one of its topic.
    Retained {
        /// Where.
        mountpoint: &'a str,
        /// The message, with a payload.
        message: StoredMessage<'a>,
    },
    /// A topic has no retained message any more.
    Cleared {
        /// Where.
        mountpoint: &'a str,
        /// The topic.
        topic: TopicName<'a>,
    },
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// No record has this kind here: a later version may have written it.
    UnknownKind(u8),
    /// It is none of its kind.
    Malformed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRecord::UnknownKind(kind) => write!(f, "a record of kind {kind}, which this version does not know"),
            BadRecord::Malformed { kind, what } => write!(f, "a record of kind {kind} that is none: {what}"),
        }
    }
}

impl std::error::Error for BadRecord {}

/// The kinds of records.
pub(super) mod kind {
    pub const SESSION: u8 = 1;
    pub const OFFLINE: u8 = 2;
    pub const WILL_GONE: u8 = 3;
    pub const SUBSCRIBED: u8 = 4;
    pub const UNSUBSCRIBED: u8 = 5;
    pub const MESSAGE: u8 = 6;
    pub const REMOVED: u8 = 7;
    pub const RECEIVED: u8 = 8;
    pub const RENUMBERED: u8 = 9;
    pub const LAUNCHED: u8 = 10;
    pub const INCOMING: u8 = 11;
    pub const RELEASED: u8 = 12;
    pub const ENDED: u8 = 13;
    pub const RETAINED: u8 = 14;
    pub const CLEARED: u8 = 15;
    pub const PASSED_ON: u8 = 16;
    pub const HOOK_STATE: u8 = 17;

    pub const LAST: u8 = HOOK_STATE;
}

/// So many pieces a record has at most.
const MOST_PARTS: usize = 5;

/// A record as it is appended to a journal: its kind, and its body in pieces. Payloads, topics and deliveries are where they were.
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// Its kind.
    pub kind: u8,
    parts: [&'a [u8]; MOST_PARTS],
    used: usize,
}

impl<'a> Encoded<'a> {
    fn new<const COUNT: usize>(kind: u8, from: [&'a [u8]; COUNT]) -> Self {
        let mut parts = [&[][..]; MOST_PARTS];
        parts[..COUNT].copy_from_slice(&from);
        Encoded { kind, parts, used: COUNT }
    }

    /// The pieces of its body, in order.
    pub fn parts(&self) -> &[&'a [u8]] {
        &self.parts[..self.used]
    }

    /// The length of its body.
    pub fn bytes(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl<'a> Record<'a> {
    /// Whether it may be written when the disk is all but full: what makes queues shorter and ends sessions may, and what is needed for that.
    pub fn class(&self) -> Class {
        match self {
            Record::Session(_)
            | Record::Subscribed { .. }
            | Record::Message { .. }
            | Record::Incoming { .. }
            | Record::HookState(..)
            | Record::Retained { .. } => Class::Ordinary,
            Record::Offline(..)
            | Record::WillGone(..)
            | Record::Unsubscribed { .. }
            | Record::Removed(..)
            | Record::PassedOn { .. }
            | Record::Received(..)
            | Record::Renumbered { .. }
            | Record::Launched(..)
            | Record::Released(..)
            | Record::Ended(_)
            | Record::Cleared { .. } => Class::Relief,
        }
    }

    /// As it is appended to a journal. What is not there in one piece is written to `buffer`, which is cleared before.
    pub fn encode<'b>(&'b self, buffer: &'b mut Vec<u8>) -> Encoded<'b> {
        buffer.clear();
        let (kind, tail) = self.put(buffer);
        let head: &[u8] = buffer;
        match tail {
            Tail::None => Encoded::new(kind, [head]),
            Tail::Text(text) => Encoded::new(kind, [head, text.as_bytes()]),
            Tail::Message(before, message) => {
                let [topic, properties, payload] = message.parts();
                Encoded::new(kind, [head, before, topic, properties, payload])
            }
        }
    }

    /// Its kind; the front of its body, written to `out`; what follows that.
    fn put<'b>(&'b self, out: &mut Vec<u8>) -> (u8, Tail<'b>) {
        let placed = |kind, session, number, out: &mut Vec<u8>| {
            put_place(session, number, out);
            (kind, Tail::None)
        };
        let keyed = |kind, session, key, out: &mut Vec<u8>| {
            put_keyed_place(session, key, out);
            (kind, Tail::None)
        };
        match *self {
            Record::Session(ref session) => {
                session.put(out);
                (kind::SESSION, Tail::None)
            }
            Record::Offline(session, ref offline) => {
                put_place(session, 0, out);
                offline.put(out);
                (kind::OFFLINE, Tail::None)
            }
            Record::WillGone(session, decision) => {
                put_place(session, 0, out);
                put_number(decision.get(), out);
                (kind::WILL_GONE, Tail::None)
            }
            Record::Subscribed { session, filter, subscription } => {
                put_place(session, 0, out);
                out.push(options_to(subscription.options));
                put_number(subscription.id.into(), out);
                (kind::SUBSCRIBED, Tail::Text(filter))
            }
            Record::Unsubscribed { session, filter } => {
                put_place(session, 0, out);
                (kind::UNSUBSCRIBED, Tail::Text(filter))
            }
            Record::Message { message, deliveries } => {
                message.put_head(out);
                put_number(deliveries.count(), out);
                (kind::MESSAGE, Tail::Message(deliveries.as_bytes(), message))
            }
            Record::Removed(session, key) => keyed(kind::REMOVED, session, key, out),
            Record::PassedOn { session, key, decision } => {
                put_keyed_place(session, key, out);
                put_number(decision.get(), out);
                (kind::PASSED_ON, Tail::None)
            }
            Record::Received(session, key) => keyed(kind::RECEIVED, session, key, out),
            Record::Renumbered { session, before, now } => {
                put_keyed_place(session, before, out);
                put_number(now.get(), out);
                (kind::RENUMBERED, Tail::None)
            }
            Record::Launched(session, key) => keyed(kind::LAUNCHED, session, key, out),
            Record::Incoming { session, id, decision } => {
                put_place(session, id.get().into(), out);
                put_number(decision.map_or(0, DecisionNumber::get), out);
                (kind::INCOMING, Tail::None)
            }
            Record::Released(session, id) => placed(kind::RELEASED, session, id.get().into(), out),
            Record::HookState(session, state) => {
                put_place(session, 0, out);
                out.extend_from_slice(state);
                (kind::HOOK_STATE, Tail::None)
            }
            Record::Ended(session) => placed(kind::ENDED, session, 0, out),
            Record::Retained { mountpoint, message } => {
                message.put_head(out);
                put_number(mountpoint.len() as u64, out);
                (kind::RETAINED, Tail::Message(mountpoint.as_bytes(), message))
            }
            Record::Cleared { mountpoint, topic } => {
                put_number(mountpoint.len() as u64, out);
                out.extend_from_slice(mountpoint.as_bytes());
                (kind::CLEARED, Tail::Text(topic.as_str()))
            }
        }
    }

    /// Reads a record of this kind. Whatever `body` is, this ends in time that is linear in its length; nothing but a session takes memory for it.
    ///
    /// # Errors
    ///
    /// The kind is not known, or `body` is not what [`encode`](Self::encode) would have written: to the last byte, but for fields of a session
    /// that this version does not know.
    pub fn decode(kind: u8, body: &'a [u8]) -> Result<Self, BadRecord> {
        let mut cursor = Cursor::new(body);
        let record = Record::read(kind, &mut cursor).and_then(|record| match cursor.is_empty() {
            true => Ok(record),
            false => Err("bytes are left behind it"),
        });
        record.map_err(|what| match (1..=kind::LAST).contains(&kind) {
            true => BadRecord::Malformed { kind, what },
            false => BadRecord::UnknownKind(kind),
        })
    }

    /// The same, from all that is left.
    pub(super) fn read(kind: u8, cursor: &mut Cursor<'a>) -> Result<Self, Wrong> {
        Ok(match kind {
            kind::SESSION => Record::Session(Box::new(SessionRecord::read(cursor)?)),
            kind::OFFLINE => Record::Offline(cursor.session()?, Offline::read(cursor)?),
            kind::WILL_GONE => Record::WillGone(cursor.session()?, cursor.decision_number()?),
            kind::SUBSCRIBED => {
                let session = cursor.session()?;
                let options = options_from(cursor.byte()?)?;
                let id = match cursor.number()? {
                    id @ 0..=268_435_455 => id as u32,
                    _ => return Err("a Subscription Identifier is out of range"),
                };
                let subscription = Subscription { options, id };
                Record::Subscribed { session, filter: filter(cursor)?, subscription }
            }
            kind::HOOK_STATE => Record::HookState(cursor.session()?, cursor.take_rest()),
            kind::UNSUBSCRIBED => Record::Unsubscribed { session: cursor.session()?, filter: filter(cursor)? },
            kind::MESSAGE => {
                let head = Head::read(cursor)?;
                let count = cursor.number()?;
                let deliveries = Deliveries::read(cursor, count)?;
                Record::Message { message: head.read_rest(cursor)?, deliveries }
            }
            kind::RETAINED => {
                let head = Head::read(cursor)?;
                let mountpoint = cursor.text_with_length()?;
                let message = head.read_rest(cursor)?;
                if message.payload.is_empty() {
                    return Err("a retained message has no payload");
                }
                Record::Retained { mountpoint, message }
            }
            kind::CLEARED => {
                let mountpoint = cursor.text_with_length()?;
                let topic = TopicName::parse(text(cursor.take_rest())?, usize::MAX).map_err(|_| "a topic is none")?;
                Record::Cleared { mountpoint, topic }
            }
            kind => Record::read_place(kind, cursor)?,
        })
    }

    /// Those that are hardly more than a place: the most frequent ones.
    fn read_place(kind: u8, cursor: &mut Cursor<'a>) -> Result<Self, Wrong> {
        if kind == kind::ENDED {
            return cursor.session().map(Record::Ended);
        }
        if matches!(kind, kind::INCOMING | kind::RELEASED) {
            let (session, id) = cursor.place()?;
            let id = u16::try_from(id).ok().and_then(PacketId::new).ok_or("a packet identifier is none")?;
            return Ok(match kind {
                kind::INCOMING => Record::Incoming { session, id, decision: cursor.optional_decision()? },
                _ => Record::Released(session, id),
            });
        }
        let (session, key) = cursor.keyed_place()?;
        Ok(match kind {
            kind::REMOVED => Record::Removed(session, key),
            kind::RECEIVED => Record::Received(session, key),
            kind::RENUMBERED => match cursor.number()? {
                now @ 0..KEYS_END => Record::Renumbered { session, before: key, now: Key::new(now) },
                _ => return Err("a message has got a key that is none"),
            },
            kind::LAUNCHED => Record::Launched(session, key),
            kind::PASSED_ON => Record::PassedOn { session, key, decision: cursor.decision_number()? },
            _ => return Err("its kind is not known"),
        })
    }
}

/// What follows what was written to the buffer.
enum Tail<'a> {
    None,
    Text(&'a str),
    /// Something else, then the message.
    Message(&'a [u8], StoredMessage<'a>),
}

/// All that is left, as a topic filter.
fn filter<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Wrong> {
    let filter = text(cursor.take_rest())?;
    TopicFilter::check(filter).map_err(|_| "a topic filter is none")?;
    Ok(filter)
}
