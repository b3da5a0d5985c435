//! Publications of one client to one topic that came together and have many receivers: put aside for a moment, then
//! delivered receiver by receiver.
//!
//! What is known of a receiver is then looked at once for all of them. Delivered one by one, each of them would go through
//! the records of all receivers, which are more than the caches hold.
//!
//! Nothing comes between a publication that is put aside and its delivery but more of the same: it is delivered before any
//! other packet is served, before anything else is delivered, and before the bytes that it came with are done.

use super::Shard;
use super::consumers::Publisher;
use crate::codec::QoS;
use crate::hooks::Chain;
use crate::message::{Message, Publication};
use crate::session::Source;
use crate::time::Time;
use crate::topic::TopicName;

/// From so many receivers on it is worth while: with fewer, putting aside costs more instructions than it saves.
const MANY: usize = 4;
/// Most publications, and bytes of them, in a batch: little enough to stay in the first-level cache with one receiver.
const MOST: usize = 64;
const MOST_BYTES: usize = 8 * 1024;
/// The largest publication that is put aside.
const LARGEST: usize = 1024;

/// What is put aside. Its receivers are those in the audience of the shard.
#[derive(Default)]
pub(super) struct Batch {
    realm: u32,
    /// Whose publications they are.
    publisher: Option<Publisher>,
    waiting: Vec<Waiting>,
    /// Topic, properties and payload of each, one behind the other.
    bytes: Vec<u8>,
}

/// One publication, in order.
struct Waiting {
    source: Source,
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

    fn push(&mut self, source: Source, publication: &Publication<'_>) {
        let ends = [publication.topic.as_str().as_bytes(), publication.properties, publication.payload].map(|part| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        });
        let Publication { qos, retain, expires, .. } = *publication;
        self.waiting.push(Waiting { source, ends, qos, retain, expires, kept: publication.kept().cloned() });
    }

    fn publications(&self) -> Vec<(Source, Publication<'_>)> {
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
    /// Whether `publication` is one more of those that are put aside, and so has the receivers that they have. One that is to be
    /// retained is not: who has subscribed a moment ago may get it before what came earlier.
    #[inline]
    pub(super) fn continues_batch(&self, realm: u32, publication: &Publication<'_>) -> bool {
        let batch = &self.batch;
        !batch.is_empty()
            && is_small(publication)
            && !publication.retain
            && (batch.realm, batch.publisher) == (realm, self.publishing)
            && batch.topic() == Some(publication.topic.as_str().as_bytes())
    }

    /// Puts `publication` aside for the receivers in the audience, if a client published it and that is worth while. False if
    /// it is to be delivered at once.
    #[inline]
    pub(super) fn put_aside(&mut self, realm: u32, publication: &Publication<'_>) -> bool {
        let many =
            self.audience.as_ref().is_some_and(|audience| audience.targets.len() >= MANY && !audience.is_by_choice());
        // Of what is put aside, all comes, though its publisher be told to wait: as long as one is, each message is by itself.
        if !many || self.publishing.is_none() || self.slow_consumers.are_waited_for() || !is_small(publication) {
            return false;
        }
        (self.batch.realm, self.batch.publisher) = (realm, self.publishing);
        self.batch.push(self.source, publication);
        if self.batch.is_full() {
            self.deliver_batch();
        }
        true
    }

    /// Delivers what was put aside.
    #[inline]
    pub(super) fn deliver_batch(&mut self) {
        if !self.batch.is_empty() {
            self.deliver_by_receiver();
        }
    }

    #[inline(never)]
    fn deliver_by_receiver(&mut self) {
        let Some(mut audience) = self.audience.take() else { return };
        let mut batch = std::mem::take(&mut self.batch);
        let (source, publishing) = (self.source, self.publishing);
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
        (self.source, self.publishing) = (source, publishing);
        drop(publications);
        batch.clear();
        audience.targets.clear();
        (self.batch, self.audience) = (batch, Some(audience));
    }
}

fn is_small(publication: &Publication<'_>) -> bool {
    publication.topic.as_str().len() + publication.properties.len() + publication.payload.len() <= LARGEST
}
