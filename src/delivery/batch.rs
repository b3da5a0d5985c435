//! Publications of one client to one topic that came together and have many recipients: gathered, then delivered recipient by
//! recipient.
//!
//! What is known of a recipient is then looked at once for all of them. Delivered one by one, each of them would go through
//! the records of all recipients, which are more than the caches hold. They are matched once, too.
//!
//! Nothing comes between a publication that is gathered and its delivery but more of the same: it is delivered before any
//! other packet is served, before anything else is delivered, and before the bytes that it came with are done. So a delivery that
//! has its publisher wait does so a little later: all of the batch is delivered, and a PUBLISH to another topic that was
//! begun.

use crate::codec::QoS;
use crate::message::{Message, Publication};
use crate::numbers::Decision;
use crate::octets;
use crate::session::{PublicationId, Recipient};
use crate::sharding::{Publisher, ShardSet};
use crate::time::Time;
use crate::topic::TopicName;

/// From so many recipients on it is worth while: with fewer, gathering costs more instructions than it saves.
const MANY: usize = 4;
/// Most publications, and bytes of them, in a batch: little enough to stay in the first-level cache with one recipient. Nor may
/// an output that is just about full grow by them to what is taken for a sign that its client is lost.
const MOST: usize = 64;
const MOST_BYTES: usize = 8 * 1024;
/// The largest publication that is gathered, in bytes.
const LARGEST: usize = 1024;
/// Most Subscription Identifiers of a recipient: with thousands of them even a small publication is a large packet.
const MOST_IDS: usize = 16;

/// What is gathered, and for whom.
#[derive(Default)]
pub struct Batch {
    mountpoint: u32,
    /// Whose publications they are.
    publisher: Option<Publisher>,
    /// Those of this shard.
    recipients: Vec<Recipient>,
    /// Shards that get a copy of each.
    remote: ShardSet,
    gathered: Vec<Gathered>,
    /// Most publications, so that the deliveries fit into a turn.
    most: usize,
    /// Topic, properties and payload of each, one behind the other: each has its topic, so that keeping it is one copy.
    bytes: Vec<u8>,
}

/// One publication, in order.
struct Gathered {
    id: PublicationId,
    /// Where its topic, its properties and its payload end among the bytes; it begins where the one before it ends.
    ends: [usize; 3],
    qos: QoS,
    retain: bool,
    expires: Time,
    decision: Option<Decision>,
    kept: Option<Message>,
}

impl Batch {
    /// Whether nothing is gathered.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }

    /// Whether a batch may begin with `publication`, which goes to these recipients of this shard.
    #[inline]
    pub fn is_worth_while(publication: &Publication<'_>, recipients: &[Recipient]) -> bool {
        let is_short = |recipient: &Recipient| recipient.ids.len() <= MOST_IDS;
        recipients.len() >= MANY && is_small(publication) && recipients.iter().all(is_short)
    }

    /// Whether `publication` is one more of those that are gathered, and so has the recipients that they have. One that is to be
    /// retained is not: a batch is delivered, and sent to other shards, and no more.
    #[inline]
    pub fn continues(&self, mountpoint: u32, publisher: Option<Publisher>, publication: &Publication<'_>) -> bool {
        !self.is_empty()
            && is_small(publication)
            && !publication.retain
            && (self.mountpoint, self.publisher) == (mountpoint, publisher)
            && self.topic() == Some(publication.topic.as_str().as_bytes())
    }

    /// Begins a batch for these recipients, of about `deliveries` at most; in exchange gives an empty list of such. There must be none.
    pub fn begin(
        &mut self,
        mountpoint: u32,
        publisher: Option<Publisher>,
        recipients: &mut Vec<Recipient>,
        remote: ShardSet,
        deliveries: usize,
    ) {
        debug_assert!(self.is_empty(), "one batch at a time");
        self.most = (deliveries / recipients.len().max(1)).clamp(1, MOST);
        (self.mountpoint, self.publisher, self.remote) = (mountpoint, publisher, remote);
        self.recipients.clear();
        std::mem::swap(&mut self.recipients, recipients);
    }

    /// Adds a publication.
    pub fn push(&mut self, id: PublicationId, publication: &Publication<'_>) {
        let ends = [publication.topic.as_str().as_bytes(), publication.properties, publication.payload].map(|part| {
            self.bytes.extend_from_slice(part);
            self.bytes.len()
        });
        let Publication { qos, retain, expires, decision, .. } = *publication;
        let kept = publication.kept().cloned();
        self.gathered.push(Gathered { id, ends, qos, retain, expires, decision, kept });
    }

    /// Whether it must be delivered now.
    pub fn is_full(&self) -> bool {
        self.gathered.len() >= self.most || self.bytes.len() >= MOST_BYTES
    }

    /// Whose publications they are.
    pub fn publisher(&self) -> Option<Publisher> {
        self.publisher
    }

    /// The recipients of this shard.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// The shards that get a copy of each.
    pub fn remote(&self) -> ShardSet {
        self.remote
    }

    /// What is gathered, in order.
    pub fn publications(&self) -> Vec<(PublicationId, Publication<'_>)> {
        let mut begin = 0;
        let publication = |gathered: &Gathered| {
            let [topic, properties, payload] = gathered.ends;
            // The bytes were copied from a `TopicName`.
            let name = TopicName::trusted(octets::text(&self.bytes[begin..topic]).unwrap_or_default());
            let mut publication = Publication::new(name, &self.bytes[properties..payload]);
            publication.properties = &self.bytes[topic..properties];
            (publication.qos, publication.retain) = (gathered.qos, gathered.retain);
            (publication.expires, publication.decision) = (gathered.expires, gathered.decision);
            publication.source = &self.bytes[begin..payload];
            begin = payload;
            (gathered.id, publication.kept_as(gathered.kept.clone()))
        };
        self.gathered.iter().map(publication).collect()
    }

    /// Forgets what was gathered, and for whom; keeps the memory.
    pub fn clear(&mut self) {
        self.recipients.clear();
        self.gathered.clear();
        self.bytes.clear();
    }

    fn topic(&self) -> Option<&[u8]> {
        let [end, ..] = self.gathered.first()?.ends;
        Some(&self.bytes[..end])
    }
}

fn is_small(publication: &Publication<'_>) -> bool {
    publication.topic.as_str().len() + publication.properties.len() + publication.payload.len() <= LARGEST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::ConnectionId;
    use crate::session::SubscriptionIds;

    fn publication<'a>(topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
        Publication::new(TopicName::trusted(topic), payload)
    }

    fn id(sequence: u64) -> PublicationId {
        PublicationId { shard: 0, sequence }
    }

    fn begun() -> Batch {
        let mut batch = Batch::default();
        batch.begin(1, None, &mut Vec::new(), ShardSet::default(), usize::MAX);
        batch.push(id(1), &publication("a", b"first"));
        batch
    }

    #[test]
    fn what_is_gathered_comes_out_in_order_and_as_it_was() {
        let mut batch = begun();
        let mut second = publication("a", b"second");
        (second.properties, second.qos, second.expires) = (b"props", QoS::AtLeastOnce, Time::from_millis(9));
        batch.push(id(2), &second);
        let found = batch.publications();
        let seen: Vec<_> =
            found.iter().map(|(id, one)| (id.sequence, one.topic.as_str(), one.properties, one.payload)).collect();
        assert_eq!(seen, [(1, "a", &b""[..], &b"first"[..]), (2, "a", b"props", b"second")]);
        assert_eq!((found[1].1.qos, found[1].1.expires), (QoS::AtLeastOnce, Time::from_millis(9)));
        drop(found);
        batch.clear();
        assert!(batch.is_empty() && batch.publications().is_empty());
    }

    #[test]
    fn only_more_of_the_same_continues_it() {
        let batch = begun();
        assert!(batch.continues(1, None, &publication("a", b"x")));
        assert!(!batch.continues(2, None, &publication("a", b"x")), "another mountpoint");
        assert!(!batch.continues(1, None, &publication("b", b"x")), "another topic");
        assert!(!batch.continues(1, None, &publication("a", &[0; LARGEST])), "too large");
        let mut retained = publication("a", b"x");
        retained.retain = true;
        assert!(!batch.continues(1, None, &retained));
        assert!(!Batch::default().continues(0, None, &publication("a", b"x")), "nothing is gathered");
    }

    #[test]
    fn it_is_worth_while_for_several_recipients_whose_packets_are_small() {
        let recipient = || Recipient {
            session: 1,
            qos: QoS::AtMostOnce,
            retain_as_published: false,
            ids: SubscriptionIds::new(),
            group: None,
        };
        let mut recipients: Vec<_> = std::iter::repeat_with(recipient).take(MANY).collect();
        assert!(Batch::is_worth_while(&publication("a", b"x"), &recipients));
        assert!(!Batch::is_worth_while(&publication("a", b"x"), &recipients[1..]));
        assert!(!Batch::is_worth_while(&publication("a", &[0; LARGEST + 1]), &recipients));
        (1..=MOST_IDS as u32 + 1).for_each(|id| recipients[1].ids.push(id));
        assert!(!Batch::is_worth_while(&publication("a", b"x"), &recipients), "its identifiers make the packet large");
    }

    #[test]
    fn it_is_full_by_number_and_by_bytes() {
        let mut batch = begun();
        (2..=MOST as u64).for_each(|sequence| batch.push(id(sequence), &publication("a", b"x")));
        assert!(batch.is_full());
        let mut batch = begun();
        let payload = [0; LARGEST - 1];
        let pushed = (2..).take_while(|sequence| {
            batch.push(id(*sequence), &publication("a", &payload));
            !batch.is_full()
        });
        assert_eq!(pushed.count(), MOST_BYTES / LARGEST - 1);
    }

    #[test]
    fn recipients_are_taken_over_and_an_empty_list_comes_back() {
        let ids = SubscriptionIds::new();
        let recipient = Recipient { session: 5, qos: QoS::AtMostOnce, retain_as_published: false, ids, group: None };
        let (mut batch, mut recipients) = (Batch::default(), vec![recipient]);
        let mut remote = ShardSet::default();
        remote.insert(3);
        let publisher = Some(Publisher { shard: 0, connection: ConnectionId::new(1, 1) });
        batch.begin(1, publisher, &mut recipients, remote, usize::MAX);
        assert!(recipients.is_empty() && batch.is_empty(), "the first publication is still to come");
        assert_eq!(batch.recipients().iter().map(|recipient| recipient.session).collect::<Vec<_>>(), [5]);
        assert_eq!((batch.publisher(), batch.remote()), (publisher, remote));
        batch.clear();
        assert!(batch.recipients().is_empty());
    }

    #[test]
    fn publications_of_another_publisher_do_not_continue_it() {
        let batch = begun();
        let other = Some(Publisher { shard: 0, connection: ConnectionId::new(1, 1) });
        assert!(!batch.continues(1, other, &publication("a", b"x")));
    }

    #[test]
    fn a_message_that_is_kept_already_is_not_kept_again() {
        let mut batch = begun();
        let kept = publication("a", b"second");
        let message = kept.keep();
        batch.push(id(2), &kept);
        let found = batch.publications();
        assert!(found[1].1.keep().same_as(&message) && found[0].1.kept().is_none());
        assert_eq!(found[0].1.keep().payload(), b"first");
    }

    proptest! {
        /// What is pushed comes out: in order, every field as it was, however often the batch was used before.
        #[test]
        fn what_is_pushed_comes_out(
            batches in prop::collection::vec(
                prop::collection::vec(
                    (
                        prop::collection::vec(any::<u8>(), 0..60),
                        prop::collection::vec(any::<u8>(), 0..20),
                        (0..3_u8, any::<bool>(), any::<u64>(), any::<bool>()),
                    ),
                    1..20,
                ),
                1..4,
            ),
            topic in "[a-z]{1,30}(/\u{e9}[a-z]{0,9})?",
        ) {
            let mut batch = Batch::default();
            for pushed in batches {
                batch.begin(1, None, &mut Vec::new(), ShardSet::default(), usize::MAX);
                for (sequence, (payload, properties, (qos, retain, expires, is_kept))) in (1..).zip(&pushed) {
                    let mut one = publication(&topic, payload);
                    (one.properties, one.retain, one.expires) = (properties, *retain, Time::from_millis(*expires));
                    one.qos = QoS::from_u8(*qos).expect("0 to 2");
                    is_kept.then(|| one.keep());
                    batch.push(id(sequence), &one);
                }
                let found = batch.publications();
                prop_assert_eq!(found.len(), pushed.len());
                for (sequence, ((number, one), (payload, properties, fields))) in (1..).zip(found.iter().zip(&pushed)) {
                    prop_assert_eq!(*number, id(sequence));
                    let message = one.keep();
                    prop_assert_eq!((one.topic.as_str(), one.payload, one.properties), (&*topic, &**payload, &**properties));
                    prop_assert_eq!((message.payload(), message.properties()), (&**payload, &**properties));
                    prop_assert_eq!(message.topic().as_str(), &topic);
                    prop_assert_eq!((one.qos as u8, one.retain, one.expires.as_millis()), (fields.0, fields.1, fields.2));
                    prop_assert_eq!((message.qos(), message.retain(), message.expires()), (one.qos, one.retain, one.expires));
                }
                drop(found);
                batch.clear();
                prop_assert!(batch.is_empty());
            }
        }
    }
}
