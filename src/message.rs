//! The message that a subscription of the program receives.

// The application message, shared by all who receive it.
//
// Owns: `Publication`, a message on its way, borrowed from wherever it came (a receive buffer, a will, a retained copy); and `Message`,
// the same kept in one shared block of memory for those who need it later: queues, in-flight windows, other shards. A publication that
// is delivered at once to everybody is never kept, and so costs no allocation.
//
// Trusts its makers: the topic is checked, the property block is well-formed. Never knows a subscriber.

use std::cell::OnceCell;
use std::ops::{Deref, Range};

use smallvec::SmallVec;
use triomphe::{Arc, ThinArc};

use crate::codec::QoS;
use crate::memory::{Held, MemoryKind, allocated};
use crate::numbers::{Decision, DecisionNumber, StoreNumber};
use crate::octets;
use crate::time::Time;
use crate::topic::TopicName;

/// A published message, shared by all who receive it. Cloning it copies a pointer.
// One reference-counted block: head, topic, properties, payload. A large payload may instead stay in the `Block` it came in.
#[derive(Clone)]
pub struct Message(ThinArc<Head, u8>);

/// What messages hold.
type HeldByMessage = Held<{ MemoryKind::Messages as u8 }>;

/// What stands before the bytes of a message in memory: a count of references, a length, and the head.
const BEFORE_BODY: usize = 2 * size_of::<usize>() + size_of::<Head>();

/// So many bytes a decision has in the body of a message.
const DECISION_BYTES: usize = 16;

/// A packet in memory of its own, which those who keep its payload share.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Block(Arc<(Vec<u8>, HeldByMessage)>);

impl Block {
    /// The packet in `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        let own = size_of::<usize>() + size_of::<(Vec<u8>, HeldByMessage)>();
        let held = Held::new(allocated(bytes.capacity()) + allocated(own));
        Block(Arc::new((bytes, held)))
    }

    /// The memory that the packet is in, in bytes.
    fn capacity(&self) -> usize {
        self.0.0.capacity()
    }
}

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

/// One per kept message. The ranges point into the body behind it, but that of the payload into `block` if there is one.
struct Head {
    topic: Range<u32>,
    properties: Range<u32>,
    payload: Range<u32>,
    qos: QoS,
    retain: bool,
    /// Whether there is a decision, which is behind all else in the body then: few messages have one.
    has_decision: bool,
    is_to_be_synced: bool,
    expires: Time,
    block: Option<Block>,
    held: HeldByMessage,
}

// One more line of the cache for each message would be felt.
const _: () = assert!(size_of::<Head>() == 48);

impl Message {
    // Always inline, so that the head is built where it stays.
    #[inline(always)]
    fn of(mut head: Head, body: &[u8]) -> Self {
        head.held.set(allocated(BEFORE_BODY + body.len()));
        Message(ThinArc::from_header_and_slice(head, body))
    }

    /// The topic it was published to, after the hooks.
    pub fn topic(&self) -> TopicName<'_> {
        let bytes = self.topic_bytes();
        // The bytes were copied from a `TopicName`, so both checks have been made; they are not worth a second walk of the levels.
        TopicName::trusted(octets::text(bytes).unwrap_or_default())
    }

    /// The bytes of that topic.
    #[doc(hidden)]
    pub fn topic_bytes(&self) -> &[u8] {
        self.part(&self.0.header.header.topic)
    }

    /// The encoded MQTT 5 properties that go on unchanged to every receiver:
    /// [`PublishProperties::parse`](crate::codec::PublishProperties::parse) reads them.
    pub fn properties(&self) -> &[u8] {
        self.part(&self.0.header.header.properties)
    }

    /// The application payload.
    pub fn payload(&self) -> &[u8] {
        let Head { block, payload, .. } = &self.0.header.header;
        match block {
            None => self.part(payload),
            Some(block) => &block[payload.start as usize..payload.end as usize],
        }
    }

    /// The quality of service it was published with.
    pub fn qos(&self) -> QoS {
        self.0.header.header.qos
    }

    /// Whether it was published with RETAIN set.
    pub fn retain(&self) -> bool {
        self.0.header.header.retain
    }

    /// When its Message Expiry Interval runs out; [`Time::NEVER`] without one.
    #[doc(hidden)]
    pub fn expires(&self) -> Time {
        self.0.header.header.expires
    }

    /// What has to be decided before it counts, if anything has.
    #[doc(hidden)]
    pub fn decision(&self) -> Option<Decision> {
        if !self.0.header.header.has_decision {
            return None;
        }
        let (_, tail) = self.0.slice.split_last_chunk::<DECISION_BYTES>()?;
        let (session, number) = tail.split_first_chunk::<8>()?;
        let number = number.first_chunk().copied().map(u64::from_le_bytes).map(DecisionNumber::from_u64)?;
        Some(Decision { session: StoreNumber::from_u64(u64::from_le_bytes(*session))?, number })
    }

    /// As of a [`Publication`].
    #[doc(hidden)]
    pub fn is_to_be_synced(&self) -> bool {
        self.0.header.header.is_to_be_synced
    }

    /// Its size for limits in bytes: the memory it occupies, shared or not.
    #[doc(hidden)]
    pub fn size(&self) -> usize {
        let block = self.0.header.header.block.as_ref().map_or(0, |block| block.capacity());
        self.0.slice.len() + size_of::<Head>() + block
    }

    /// Whether this and `other` are one and the same published message.
    #[doc(hidden)]
    pub fn same_as(&self, other: &Message) -> bool {
        self.address() == other.address()
    }

    /// A number that no other message has that is kept at the same time.
    #[doc(hidden)]
    pub fn address(&self) -> usize {
        self.0.slice.as_ptr() as usize
    }

    /// The message as a publication, to be routed or delivered again.
    #[doc(hidden)]
    pub fn publication(&self) -> Publication<'_> {
        Publication {
            topic: self.topic(),
            properties: self.properties(),
            payload: self.payload(),
            qos: self.qos(),
            retain: self.retain(),
            expires: self.expires(),
            decision: self.decision(),
            is_to_be_synced: self.is_to_be_synced(),
            source: &self.0.slice,
            block: self.0.header.header.block.clone(),
            kept: OnceCell::from(self.clone()),
        }
    }

    fn part(&self, range: &Range<u32>) -> &[u8] {
        &self.0.slice[range.start as usize..range.end as usize]
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic().as_str())
            .field("payload", &self.payload().len())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .finish()
    }
}

/// A message on its way through the broker.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub struct Publication<'a> {
    /// The topic, after the hooks.
    pub topic: TopicName<'a>,
    /// The encoded MQTT 5 properties that go on unchanged to every receiver.
    pub properties: &'a [u8],
    /// The application payload.
    pub payload: &'a [u8],
    /// The quality of service it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN set.
    pub retain: bool,
    /// When its Message Expiry Interval runs out; [`Time::NEVER`] without one.
    pub expires: Time,
    /// What has to be decided before it counts, if anything has.
    pub decision: Option<Decision>,
    /// Whether who published it is promised, if it is stored, that it survives a loss of power; so is whoever is not known.
    pub is_to_be_synced: bool,
    /// The bytes with topic, properties and payload in one piece, if there are such: then keeping the message is one copy.
    pub source: &'a [u8],
    /// The memory that the payload lies in, if it is shared already: then keeping the message copies no payload.
    pub block: Option<Block>,
    kept: OnceCell<Message>,
}

impl<'a> Publication<'a> {
    /// Bytes of its topic, properties and payload.
    pub fn bytes(&self) -> usize {
        self.topic.as_str().len() + self.properties.len() + self.payload.len()
    }

    /// A QoS 0 publication of `payload` to `topic`; set the public fields for the rest.
    pub fn new(topic: TopicName<'a>, payload: &'a [u8]) -> Self {
        Publication {
            topic,
            properties: &[],
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            expires: Time::NEVER,
            decision: None,
            is_to_be_synced: true,
            source: &[],
            block: None,
            kept: OnceCell::new(),
        }
    }

    /// Makes it depend on a decision, or on none. What was kept before does not: it is kept anew when it is needed.
    pub fn depend_on(&mut self, decision: Option<Decision>) {
        if self.decision != decision {
            self.decision = decision;
            self.kept = OnceCell::new();
        }
    }

    /// Sets when it expires. What was kept before does not: it is kept anew when it is needed.
    pub fn expire(&mut self, at: Time) {
        self.expires = at;
        self.kept = OnceCell::new();
    }

    /// The publication as a message of its own. The first call copies the bytes once, those of a payload in a block excepted;
    /// later ones share that copy, so the public fields must not be changed after it.
    pub fn keep(&self) -> Message {
        self.kept.get_or_init(|| self.copy()).clone()
    }

    /// The result of [`keep`](Self::keep), if it was called.
    pub fn kept(&self) -> Option<&Message> {
        self.kept.get()
    }

    /// With `kept`, which [`keep`](Self::keep) gave for the same publication when its bytes lay elsewhere, as what it gives here.
    pub fn kept_as(mut self, kept: Option<Message>) -> Self {
        self.kept = kept.map_or_else(OnceCell::new, OnceCell::from);
        self
    }

    /// Seconds until it expires, for the Message Expiry Interval of receivers: rounded up, none if it never does [MQTT-3.3.2-6].
    pub fn remaining_expiry(&self, now: Time) -> Option<u32> {
        remaining_expiry(self.expires, now)
    }

    fn copy(&self) -> Message {
        let mut parts = [self.topic.as_str().as_bytes(), self.properties, self.payload];
        let head = |ranges: [Range<u32>; 3]| {
            let [topic, properties, payload] = ranges;
            let Publication { qos, retain, is_to_be_synced, expires, .. } = *self;
            let (has_decision, block, held) = (self.decision.is_some(), None, Held::default());
            Head { topic, properties, payload, qos, retain, has_decision, is_to_be_synced, expires, block, held }
        };
        let tail = self.decision.map_or([0; DECISION_BYTES], bytes_of);
        let tail = if self.decision.is_some() { &tail[..] } else { &[] };
        if let Some(block) = &self.block
            && let Some([payload]) = positions(block, [self.payload])
        {
            parts[2] = &[];
            let (body, [topic, properties, _]) = joined(parts, tail);
            let head = Head { block: Some(block.clone()), ..head([topic, properties, payload]) };
            return Message::of(head, &body);
        }
        // From the topic on: it stands where words begin in memory then, and is looked through faster.
        if tail.is_empty()
            && let Some(source) = from(self.source, parts[0])
            && let Some([properties, payload]) = positions(source, [self.properties, self.payload])
        {
            return Message::of(head([0..parts[0].len() as u32, properties, payload]), source);
        }
        let (body, ranges) = joined(parts, tail);
        Message::of(head(ranges), &body)
    }
}

/// A message of so many bytes is put together without memory of its own.
const SHORT: usize = 512;

/// A decision, as the last bytes of a message.
fn bytes_of(decision: Decision) -> [u8; DECISION_BYTES] {
    let mut bytes = [0; DECISION_BYTES];
    bytes[..8].copy_from_slice(&decision.session.get().to_le_bytes());
    bytes[8..].copy_from_slice(&decision.number.get().to_le_bytes());
    bytes
}

/// The parts, one behind the other and `tail` behind them, and where each part stands.
fn joined(parts: [&[u8]; 3], tail: &[u8]) -> (SmallVec<[u8; SHORT]>, [Range<u32>; 3]) {
    let mut end = 0;
    let ranges = parts.map(|part| {
        let start = end;
        end += part.len() as u32;
        start..end
    });
    let mut body = SmallVec::with_capacity(end as usize + tail.len());
    parts.into_iter().chain([tail]).for_each(|part| body.extend_from_slice(part));
    (body, ranges)
}

/// Seconds from `now` until `expires`, rounded up; none if that is never.
#[doc(hidden)]
pub fn remaining_expiry(expires: Time, now: Time) -> Option<u32> {
    (expires != Time::NEVER).then(|| {
        let millis = expires.as_millis().saturating_sub(now.as_millis());
        u32::try_from(millis.div_ceil(1000)).unwrap_or(u32::MAX)
    })
}

/// What of `source` begins with `part`, if that stands inside it.
fn from<'a>(source: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let start = (part.as_ptr() as usize).checked_sub(source.as_ptr() as usize)?;
    source.get(start..).filter(|source| source.len() >= part.len())
}

/// Where the parts stand inside `source`, if every one of them does.
fn positions<const N: usize>(source: &[u8], parts: [&[u8]; N]) -> Option<[Range<u32>; N]> {
    let base = source.as_ptr() as usize;
    let mut ranges = [const { 0..0 }; N];
    for (range, part) in ranges.iter_mut().zip(parts) {
        if part.is_empty() {
            continue;
        }
        let start = (part.as_ptr() as usize).checked_sub(base)?;
        let end = start + part.len();
        if end > source.len() {
            return None;
        }
        *range = start as u32..end as u32;
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryHeld;

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::parse(text, 16).expect("a valid topic")
    }

    #[test]
    fn a_message_in_one_piece_is_kept_in_one_copy() {
        let source = b"..a/b--propspayload".as_slice();
        let mut publication =
            Publication::new(topic(std::str::from_utf8(&source[2..5]).expect("ASCII")), &source[12..]);
        publication.properties = &source[7..12];
        publication.source = source;
        let message = publication.keep();
        assert_eq!(message.topic().as_str(), "a/b");
        assert_eq!(message.properties(), b"props");
        assert_eq!(message.payload(), b"payload");
        assert!(message.same_as(&publication.keep()));
    }

    #[test]
    fn a_message_in_pieces_is_put_together() {
        let mut publication = Publication::new(topic("rewritten"), b"payload");
        publication.source = b"something else altogether";
        publication.properties = b"p";
        publication.retain = true;
        let message = publication.keep();
        assert_eq!(
            (message.topic().as_str(), message.properties(), message.payload()),
            ("rewritten", &b"p"[..], &b"payload"[..])
        );
        assert!(message.retain());
        assert_eq!(message.publication().keep().payload(), b"payload");
    }

    #[test]
    fn a_decision_stays_with_a_message() {
        let decision = Decision { session: StoreNumber::new(1, 2, 3), number: DecisionNumber::new(4, 5) };
        let source = b"a/bpayload".as_slice();
        let mut publication = Publication::new(topic("a/b"), &source[3..]);
        publication.source = source;
        assert_eq!(publication.keep().decision(), None);
        publication.depend_on(Some(decision));
        let message = publication.keep();
        let again = message.publication();
        assert_eq!((message.decision(), again.decision), (Some(decision), Some(decision)));
        assert_eq!((message.topic().as_str(), message.payload()), ("a/b", &b"payload"[..]));
        assert!(again.keep().same_as(&message));
        let mut other = again.clone();
        other.depend_on(None);
        let kept = other.keep();
        assert_eq!((kept.decision(), kept.payload(), kept.topic().as_str()), (None, &b"payload"[..], "a/b"));
    }

    #[test]
    fn a_payload_in_a_block_stays_there() {
        let block = Block::new(b"..a/b-a long payload".to_vec());
        let mut publication = Publication::new(topic("a/b"), &block[6..]);
        publication.properties = b"props";
        publication.block = Some(block.clone());
        let message = publication.keep();
        assert_eq!((message.topic().as_str(), message.properties()), ("a/b", &b"props"[..]));
        assert_eq!(message.payload().as_ptr(), block[6..].as_ptr());
        assert!(message.size() >= block.len(), "it holds the block");
        let mut again = message.publication();
        again.expire(Time::from_millis(5));
        assert_eq!(again.keep().payload().as_ptr(), block[6..].as_ptr());
        assert_eq!(again.keep().expires(), Time::from_millis(5));
    }

    #[test]
    fn a_payload_that_a_hook_put_in_place_of_that_in_the_block_is_kept() {
        let block = Block::new(b"a/b-original".to_vec());
        let mut publication = Publication::new(topic("a/b"), b"replaced");
        publication.block = Some(block.clone());
        assert_eq!(publication.keep().payload(), b"replaced");
        assert!(block.0.is_unique() || Arc::count(&block.0) == 2, "only the publication holds it");
    }

    /// Each of them once, however many hold it, until the last one lets it go.
    #[test]
    fn the_memory_of_messages_is_known() {
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Messages);
        let before = held();
        let message = Publication::new(topic("a/b"), &[7; 1000]).keep();
        let one = held() - before;
        assert!((1003..1300).contains(&one), "{one}");
        let other = message.clone();
        assert_eq!(held() - before, one);
        drop(message);
        assert_eq!(held() - before, one);
        drop(other);
        assert_eq!(held(), before);
        let block = Block::new(vec![7; 5000]);
        let mut publication = Publication::new(topic("a/b"), &block);
        publication.block = Some(block.clone());
        let messages = [publication.keep(), publication.keep()];
        let in_block = held() - before;
        assert!((5000..5500).contains(&in_block), "{in_block}");
        drop(publication);
        drop(block);
        assert_eq!(held() - before, in_block, "it is the messages that hold it");
        drop(messages);
        assert_eq!(held(), before);
    }

    #[test]
    fn the_remaining_expiry_is_rounded_up_and_none_without_one() {
        assert_eq!(remaining_expiry(Time::NEVER, Time::ZERO), None);
        assert_eq!(remaining_expiry(Time::from_millis(1001), Time::ZERO), Some(2));
        assert_eq!(remaining_expiry(Time::from_millis(5), Time::from_millis(9)), Some(0));
    }
}
