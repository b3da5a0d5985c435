//! To whom a stored message goes on this shard.

use super::bytes::{Cursor, Wrong, put_keyed_place, put_number, put_text_with_length};
use crate::codec::QoS;
use crate::session::{Key, StoreNumber, SubscriptionIds};
use crate::topic::TopicFilter;

/// A message for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The session.
    pub session: StoreNumber,
    /// The key of the message there, which no other one has had.
    pub key: Key,
    /// The QoS it is delivered with, which is not 0: such a message is not stored.
    pub qos: QoS,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// Whether it was sent at once. Otherwise it waits in the queue, until the session [has launched](super::Record::Launched) its key.
    pub is_sent: bool,
    /// The Subscription Identifiers of the subscriptions it matched.
    pub ids: StoredIds<'a>,
    /// The filter of the shared subscription it came through, with `$share` and its name.
    pub group: Option<&'a str>,
}

/// The Subscription Identifiers of a delivery, each 1 to 268,435,455.
#[derive(Clone, Copy, Debug)]
pub struct StoredIds<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    List(&'a [u32]),
    /// Numbers that were checked.
    Stored(&'a [u8]),
}

impl<'a> StoredIds<'a> {
    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (list, stored) = match self.0 {
            Source::List(list) => (list, &[][..]),
            Source::Stored(bytes) => (&[][..], bytes),
        };
        let mut cursor = Cursor::new(stored);
        list.iter().copied().chain(std::iter::from_fn(move || cursor.number_u32().ok()))
    }

    /// As sessions have them.
    pub fn to_ids(&self) -> SubscriptionIds {
        self.iter().fold(SubscriptionIds::new(), |mut ids, id| {
            ids.push(id);
            ids
        })
    }

    fn read(cursor: &mut Cursor<'a>, count: u64) -> Result<Self, Wrong> {
        let from = cursor.rest();
        for _ in 0..count {
            if !(1..=LAST_ID).contains(&cursor.number()?) {
                return Err("a Subscription Identifier is out of range");
            }
        }
        Ok(StoredIds(Source::Stored(&from[..from.len() - cursor.rest().len()])))
    }
}

impl<'a> From<&'a [u32]> for StoredIds<'a> {
    fn from(list: &'a [u32]) -> Self {
        StoredIds(Source::List(list))
    }
}

impl PartialEq for StoredIds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for StoredIds<'_> {}

/// The highest Subscription Identifier there is.
const LAST_ID: u64 = 268_435_455;

/// What the first byte of a delivery says.
const QOS: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const SENT: u8 = 1 << 3;
const GROUP: u8 = 1 << 4;
const ONE_ID: u8 = 1 << 5;
const SEVERAL_IDS: u8 = 1 << 6;

impl<'a> Delivery<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.qos != QoS::AtMostOnce);
        let ids = self.ids.iter().count();
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.retain, RETAIN) | flag(self.is_sent, SENT) | flag(self.group.is_some(), GROUP);
        out.push(self.qos as u8 | flags | flag(ids == 1, ONE_ID) | flag(ids > 1, SEVERAL_IDS));
        put_keyed_place(self.session, self.key, out);
        if ids > 1 {
            put_number(ids as u64, out);
        }
        self.ids.iter().for_each(|id| put_number(id.into(), out));
        if let Some(group) = self.group {
            put_text_with_length(group, out);
        }
    }

    fn read(cursor: &mut Cursor<'a>) -> Result<Self, Wrong> {
        let flags = cursor.byte()?;
        let has = |flag| flags & flag != 0;
        let qos = match QoS::from_u8(flags & QOS) {
            Some(qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce)) => qos,
            _ => return Err("a delivery has neither QoS 1 nor 2"),
        };
        let (session, key) = cursor.keyed_place()?;
        let ids = match (has(ONE_ID), has(SEVERAL_IDS)) {
            (false, false) => 0,
            (true, false) => 1,
            (false, true) => match cursor.number()? {
                0 | 1 => return Err("several Subscription Identifiers are not several"),
                count => count,
            },
            (true, true) => return Err("a delivery has flags that exclude each other"),
        };
        if flags & !(QOS | RETAIN | SENT | GROUP | ONE_ID | SEVERAL_IDS) != 0 {
            return Err("a delivery has flags that there are not");
        }
        let ids = StoredIds::read(cursor, ids)?;
        let group = if has(GROUP) { Some(cursor.text_with_length()?) } else { None };
        Ok(Delivery { session, key, qos, retain: has(RETAIN), is_sent: has(SENT), ids, group })
    }
}

/// Deliveries of one message, as they are stored. Reused, it takes no memory but once.
#[derive(Debug, Default)]
pub struct DeliveryBuffer {
    count: u64,
    bytes: Vec<u8>,
}

impl DeliveryBuffer {
    /// Adds one.
    pub fn push(&mut self, delivery: &Delivery<'_>) {
        delivery.put(&mut self.bytes);
        self.count += 1;
    }

    /// How many bytes they take in a record. Who has more for one message than a record may have writes it twice.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.count = 0;
        self.bytes.clear();
    }

    /// They, to be encoded.
    pub fn deliveries(&self) -> Deliveries<'_> {
        Deliveries { count: self.count, bytes: &self.bytes }
    }
}

/// The deliveries of one message: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deliveries<'a> {
    count: u64,
    /// They were written here, or have been checked.
    bytes: &'a [u8],
}

impl<'a> Deliveries<'a> {
    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Delivery<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.bytes);
        std::iter::from_fn(move || Delivery::read(&mut cursor).ok())
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How they are stored.
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn read(cursor: &mut Cursor<'a>, count: u64) -> Result<Self, Wrong> {
        if count == 0 {
            return Err("a message is for nobody");
        }
        let from = cursor.rest();
        for _ in 0..count {
            let delivery = Delivery::read(cursor)?;
            if delivery.group.is_some_and(|group| !is_shared(group)) {
                return Err("the filter of a shared subscription is none");
            }
        }
        Ok(Deliveries { count, bytes: &from[..from.len() - cursor.rest().len()] })
    }
}

/// Whether `text` is the filter of a shared subscription.
fn is_shared(text: &str) -> bool {
    text.starts_with("$share/") && TopicFilter::check(text).is_ok()
}
