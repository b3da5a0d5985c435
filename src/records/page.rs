//! Pages as they are in the archive: runs of messages that wait, and which ones these are.

use std::fmt;

use super::bytes::{Cursor, KEYS_END, Wrong, put_number};
use super::delivery::{Deliveries, Delivery, DeliveryBuffer, StoredIds};
use super::message::StoredMessage;
use super::record::{Record, kind};
use super::wall_clock::WallClock;
use crate::numbers::StoreNumber;
use crate::session::{Key, OutgoingMessage, PageKeys, StoredPage};

/// So many bytes at the beginning of a page, and of a summary, are the checksum.
const CHECKSUM: usize = 4;

/// A page that is being made.
#[derive(Debug)]
pub struct PageBuilder {
    pages_id: StoreNumber,
    limit: usize,
    value: Vec<u8>,
    keys: Vec<Key>,
    bytes: usize,
    delivery: DeliveryBuffer,
    front: Vec<u8>,
}

/// A page that goes to the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPage {
    /// What it is.
    pub stored: StoredPage,
    /// Its value: [`read_page`] reads it.
    pub value: Vec<u8>,
    /// The value of its summary: [`read_summary`] reads it.
    pub summary: Vec<u8>,
}

/// Why a page, or a summary of one, cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// How many bytes of it come before what is wrong.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for BadPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a page of the archive that is none, at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for BadPage {}

impl PageBuilder {
    /// Nothing yet, of pages under this number; of at most `limit` bytes, unless it is one message alone.
    pub fn new(pages_id: StoreNumber, limit: usize) -> Self {
        PageBuilder {
            pages_id,
            limit,
            value: vec![0; CHECKSUM],
            keys: Vec::new(),
            bytes: 0,
            delivery: DeliveryBuffer::default(),
            front: Vec::new(),
        }
    }

    /// Adds a message behind all others: one that waits, with a key, of QoS 1 or 2, of no shared subscription. What it depended on has been decided.
    /// False if there is no room: then it is not in this page.
    pub fn push(&mut self, message: &OutgoingMessage, clock: WallClock) -> bool {
        debug_assert!(message.group.is_none() && !message.key.is_none(), "no page has such messages");
        let &OutgoingMessage { key, qos, retain, .. } = message;
        let ids = StoredIds::from(&*message.ids);
        self.delivery.clear();
        self.delivery.push(&Delivery { session: self.pages_id, key, qos, retain, is_sent: false, ids, group: None });
        let mut stored = StoredMessage::of(&message.message, clock);
        stored.decision = None;
        let record = Record::Message { message: stored, deliveries: self.delivery.deliveries() };
        let encoded = record.encode(&mut self.front);
        let before = self.value.len();
        put_number(encoded.bytes() as u64, &mut self.value);
        if !self.keys.is_empty() && self.value.len() + encoded.bytes() > self.limit {
            self.value.truncate(before);
            return false;
        }
        encoded.parts().iter().for_each(|part| self.value.extend_from_slice(part));
        self.keys.push(key);
        self.bytes += message.size();
        true
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The page. None if there is no message in it.
    pub fn finish(self) -> Option<NewPage> {
        let PageBuilder { pages_id, mut value, keys, bytes, .. } = self;
        let (stored, summary) = summary_of(pages_id, keys, bytes)?;
        seal(pages_id, stored.keys.first(), &mut value);
        value.shrink_to_fit();
        Some(NewPage { stored, value, summary })
    }
}

/// What a page under this number is that has these messages, and the value of its summary; none if there are no messages. So a summary is made again.
pub fn summarize(pages_id: StoreNumber, messages: &[OutgoingMessage]) -> Option<(StoredPage, Vec<u8>)> {
    let keys = messages.iter().map(|message| message.key).collect();
    summary_of(pages_id, keys, messages.iter().map(OutgoingMessage::size).sum())
}

/// The same of a page with these keys, in any order, and so many bytes.
fn summary_of(pages_id: StoreNumber, mut keys: Vec<Key>, bytes: usize) -> Option<(StoredPage, Vec<u8>)> {
    keys.sort_unstable();
    let keys = PageKeys::new(&keys)?;
    let summary = summary(pages_id, &keys, bytes);
    Some((StoredPage { keys, bytes, gone: Vec::new() }, summary))
}

/// Reads a page that is stored under this number, and under this key, the lowest one in it: its messages, in the order of the queue. Whatever
/// `value` is, this ends in time that is linear in its length, but for sorting the keys, and takes memory in proportion to it.
///
/// # Errors
///
/// It is not what [`PageBuilder`] has made for this place, to the last bit.
pub fn read_page(
    pages_id: StoreNumber,
    first: Key,
    value: &[u8],
    clock: WallClock,
) -> Result<Vec<OutgoingMessage>, BadPage> {
    let mut cursor = check(pages_id, first, value)?;
    let mut messages = Vec::new();
    while !cursor.is_empty() {
        let at = value.len() - cursor.rest().len();
        let message = read_message(&mut cursor, pages_id, clock).map_err(|what| BadPage { at, what })?;
        messages.push(message);
    }
    let mut keys: Vec<u64> = messages.iter().map(|message| message.key.get()).collect();
    keys.sort_unstable();
    if keys.first() != Some(&first.get()) {
        return Err(BadPage { at: CHECKSUM, what: "its lowest key is another one" });
    }
    match keys.is_sorted_by(|one, next| one < next) {
        true => Ok(messages),
        false => Err(BadPage { at: CHECKSUM, what: "two messages have one key" }),
    }
}

fn read_message(cursor: &mut Cursor<'_>, pages_id: StoreNumber, clock: WallClock) -> Result<OutgoingMessage, Wrong> {
    let length = cursor.length()?;
    let mut body = Cursor::new(cursor.take(length)?);
    let (message, deliveries) = match Record::read(kind::MESSAGE, &mut body)? {
        Record::Message { message, deliveries } => (message, deliveries),
        _ => return Err("it is no message"),
    };
    if message.decision.is_some() {
        return Err("a message depends on a decision");
    }
    let Delivery { key, qos, retain, ids, .. } = only(&deliveries, pages_id)?;
    let message = message.publication(clock).keep();
    Ok(OutgoingMessage { message, qos, retain, key, ids: ids.to_ids(), group: None })
}

/// The only one of them, as it is in a page.
fn only<'a>(deliveries: &Deliveries<'a>, pages_id: StoreNumber) -> Result<Delivery<'a>, Wrong> {
    let mut all = deliveries.iter();
    match (all.next(), all.next()) {
        (Some(only), None) if only.session == pages_id && !only.is_sent && only.group.is_none() => Ok(only),
        (Some(_), None) => Err("a message does not wait for the session"),
        _ => Err("a message is for several sessions"),
    }
}

/// The value of the summary of a page under this number that has messages with these keys, of so many bytes.
pub fn summary(pages_id: StoreNumber, keys: &PageKeys, bytes: usize) -> Vec<u8> {
    let mut value = vec![0; CHECKSUM];
    put_number(bytes as u64, &mut value);
    let mut before = keys.first().get();
    for key in keys.iter().skip(1) {
        put_number(key.get() - before, &mut value);
        before = key.get();
    }
    seal(pages_id, keys.first(), &mut value);
    value.shrink_to_fit();
    value
}

/// Reads the summary of the page that is stored under this number and this key, with nothing gone. Whatever `value` is, this ends in time that is
/// linear in its length, and takes memory in proportion to it.
///
/// # Errors
///
/// It is not what [`summary`] has made for this place, to the last bit.
pub fn read_summary(pages_id: StoreNumber, first: Key, value: &[u8]) -> Result<StoredPage, BadPage> {
    let mut cursor = check(pages_id, first, value)?;
    let mut read = || {
        let bytes = cursor.length()?;
        let (mut last, mut wrong) = (first.get(), "two messages have one key");
        let steps = std::iter::from_fn(|| {
            let step = match cursor.is_empty() {
                true => return None,
                false => cursor.number().and_then(|step| {
                    last = last.checked_add(step).filter(|key| *key < KEYS_END).ok_or("a key is none")?;
                    Ok(step)
                }),
            };
            Some(step.map_err(|what| wrong = what).ok())
        });
        let keys = PageKeys::in_steps(first, steps);
        keys.map(|keys| StoredPage { keys, bytes, gone: Vec::new() }).ok_or(wrong)
    };
    let read: Result<_, Wrong> = read();
    read.map_err(|what| BadPage { at: value.len() - cursor.rest().len(), what })
}

/// Writes the checksum of a value for this place.
pub(super) fn seal(pages_id: StoreNumber, first: Key, value: &mut [u8]) {
    if let Some((checksum, rest)) = value.split_first_chunk_mut::<CHECKSUM>() {
        *checksum = checksum_of(pages_id, first, rest).to_le_bytes();
    }
}

/// What follows the checksum of a value from this place, if that is right.
fn check(pages_id: StoreNumber, first: Key, value: &[u8]) -> Result<Cursor<'_>, BadPage> {
    let (checksum, rest) = value.split_first_chunk::<CHECKSUM>().ok_or(BadPage { at: 0, what: "it ends too early" })?;
    match u32::from_le_bytes(*checksum) == checksum_of(pages_id, first, rest) {
        true => Ok(Cursor::new(rest)),
        false => Err(BadPage { at: 0, what: "its checksum is wrong: it was damaged, or belongs elsewhere" }),
    }
}

/// A value that is found at another place than it was written to is none.
fn checksum_of(pages_id: StoreNumber, first: Key, rest: &[u8]) -> u32 {
    let place = [pages_id.get().to_le_bytes(), first.get().to_le_bytes()];
    crc32c::crc32c_append(crc32c::crc32c(place.as_flattened()), rest)
}
