//! Publications of one client to one topic that came together and have many receivers: gathered, then delivered receiver by
//! receiver.
//!
//! What is known of a receiver is then looked at once for all of them. Delivered one by one, each of them would go through
//! the records of all receivers, which are more than the caches hold. They are matched once, too.
//!
//! Nothing comes between a publication that is gathered and its delivery but more of the same: it is delivered before any
//! other packet is served, before anything else is delivered, and before the bytes that it came with are done. So a delivery that
//! has its publisher wait does so a little later: all of the batch is delivered, and a PUBLISH to another topic that was
//! begun.

use super::Shard;
use super::audience::Audience;
use super::consumers::Publisher;
use crate::codec::QoS;
use crate::hooks::Chain;
use crate::message::{Message, Publication};
use crate::session::PublicationId;
use crate::time::Time;
use crate::topic::TopicName;

/// From so many receivers on it is worth while: with fewer, gathering costs more instructions than it saves.
const MANY: usize = 4;
/// Most publications, and bytes of them, in a batch: little enough to stay in the first-level cache with one receiver. Nor may
/// an output that is just about full grow by them to what `consumers` takes for a sign that its client is lost.
const MOST: usize = 64;
const MOST_BYTES: usize = 8 * 1024;
/// The largest publication that is gathered.
const LARGEST: usize = 1024;

/// What is gathered. Its receivers are those in the audience of the shard.
#[derive(Default)]
pub(super) struct Batch {
    /// Whether there are bytes behind the packet that is being served: if not, there is nothing to gather it with.
    pub more_follows: bool,
    realm: u32,
    /// Whose publications they are.
    publisher: Option<Publisher>,
    waiting: Vec<Waiting>,
    /// Topic, properties and payload of each, one behind the other: each has its topic, so that keeping it is one copy.
    bytes: Vec<u8>,
}

/// One publication, in order.
struct Waiting {
    source: PublicationId,
    /// Where its topic, its properties and its payload end among the bytes; it begins where the one before it ends.
    ends: [usize; 3],
    qos: QoS,
    retain: bool,
    expires: Time,
    kept: Option<Message>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= MOST || self.bytes.len() >= MOST_BYTES
    }

    fn topic(&self) -> Option<&[u8]> {
        let [end, ..] = self.waiting.first()?.ends;
        Some(&self.bytes[..end])
    }

    fn push(&mut self, source: PublicationId, publication: &Publication<'_>) {
        let ends = [publication.topic.as_str().as_bytes(), publication.properties, publication.payload].map(|part| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        });
        let Publication { qos, retain, expires, .. } = *publication;
        self.waiting.push(Waiting { source, ends, qos, retain, expires, kept: publication.kept().cloned() });
    }

    fn publications(&self) -> Vec<(PublicationId, Publication<'_>)> {
        let mut begin = 0;
        let publication = |waiting: &Waiting| {
            let [topic, properties, payload] = waiting.ends;
            // The bytes were copied from a `TopicName`.
            let name = TopicName::trusted(std::str::from_utf8(&self.bytes[begin..topic]).unwrap_or_default());
            let mut publication = Publication::new(name, &self.bytes[properties..payload]);
            publication.properties = &self.bytes[topic..properties];
            (publication.qos, publication.retain, publication.expires) = (waiting.qos, waiting.retain, waiting.expires);
            publication.source = &self.bytes[begin..payload];
            begin = payload;
            (waiting.source, publication.kept_as(waiting.kept.clone()))
        };
        self.waiting.iter().map(publication).collect()
    }

    fn clear(&mut self) {
        self.waiting.clear();
        self.bytes.clear();
    }
}

impl<C: Chain> Shard<C> {
    /// Whether `publication` is one more of those that are gathered, and so has the receivers that they have. One that is to be
    /// retained is not: with that, a SUBSCRIBE may be complete, and its client be served in between.
    #[inline]
    pub(super) fn continues_batch(&self, realm: u32, publication: &Publication<'_>) -> bool {
        let batch = &self.batch;
        !batch.is_empty()
            && is_small(publication)
            && !publication.retain
            && (batch.realm, batch.publisher) == (realm, self.publishing)
            && batch.topic() == Some(publication.topic.as_str().as_bytes())
    }

    /// Whether a batch is to begin with `publication` for `audience`: if a client published it, and that is worth while.
    #[inline]
    pub(super) fn begins_batch(&self, audience: &Audience, publication: &Publication<'_>) -> bool {
        self.batch.more_follows
            && audience.targets.len() >= MANY
            && !audience.is_by_choice()
            && self.publishing.is_some()
            && is_small(publication)
            // What is gathered all comes, though its publisher be told to wait: as long as somebody waits, each message is by itself.
            && !self.slow_consumers.are_waited_for()
    }

    /// Keeps `publication` for the receivers in the audience of the shard.
    pub(super) fn gather(&mut self, realm: u32, publication: &Publication<'_>) {
        (self.batch.realm, self.batch.publisher) = (realm, self.publishing);
        self.batch.push(self.source, publication);
        if self.batch.is_full() {
            self.deliver_batch();
        }
    }

    /// Delivers what was gathered.
    #[inline]
    pub(super) fn deliver_batch(&mut self) {
        if !self.batch.is_empty() {
            self.deliver_by_receiver();
        }
    }

    #[inline(never)]
    fn deliver_by_receiver(&mut self) {
        let mut audience = self.audience.take().unwrap_or_default();
        let mut batch = std::mem::take(&mut self.batch);
        let outer = (self.source, self.publishing);
        self.publishing = batch.publisher;
        let publications = batch.publications();
        self.frames.begin_batch(publications.len());
        for target in &audience.targets {
            for (at, (source, publication)) in publications.iter().enumerate() {
                self.source = *source;
                self.frames.choose(at);
                self.deliver_to(target, publication);
            }
        }
        self.frames.begin(false);
        (self.source, self.publishing) = outer;
        drop(publications);
        batch.clear();
        audience.targets.clear();
        (self.batch, self.audience) = (batch, Some(audience));
    }
}

fn is_small(publication: &Publication<'_>) -> bool {
    publication.topic.as_str().len() + publication.properties.len() + publication.payload.len() <= LARGEST
}
