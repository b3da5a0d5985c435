//! The queue of a session: messages that wait for its window, or for its client to connect again.

use std::sync::Arc;

use smallvec::SmallVec;

use super::waiting::{Look, Waiting, Walk};
use super::{Key, StoreNumber, StoredPage, SubscriptionIds};
use crate::client::DropReason;
use crate::codec::QoS;
use crate::config::{Limit, QueueType};
use crate::message::Message;
use crate::time::Time;
use crate::topic::TopicFilter;

/// One message for one subscriber.
#[derive(Clone, Debug)]
pub struct OutgoingMessage {
    /// The message.
    pub message: Message,
    /// The QoS it is delivered with.
    pub qos: QoS,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// Its number among the messages of the session, if it is stored.
    pub key: Key,
    /// The Subscription Identifiers of the subscriptions it matched.
    pub ids: SubscriptionIds,
    /// The shared subscription it came through: until it is acknowledged it may still go to another member.
    pub group: Option<Arc<TopicFilter>>,
}

impl OutgoingMessage {
    /// Its size for limits in bytes: the memory of the message and of its identifiers, shared or not.
    #[inline]
    pub fn size(&self) -> usize {
        self.message.size() + self.ids.bytes()
    }
}

/// The bounds of one session's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Most messages while the client is connected.
    pub online: Limit,
    /// Most messages while it is not.
    pub offline: Limit,
    /// Most bytes, connected or not.
    pub bytes: Limit,
    /// Which message goes when it is full, and which comes out first.
    pub order: QueueType,
}

impl QueueLimits {
    /// None.
    pub fn unlimited(order: QueueType) -> Self {
        let unlimited = Limit::UNLIMITED;
        QueueLimits { online: unlimited, offline: unlimited, bytes: unlimited, order }
    }

    /// Those for a connected client whose publishers are held: what is under way when they are told to wait still comes, in any number, and
    /// `under_way` bytes of it at least.
    pub fn while_publishers_wait(self, under_way: usize) -> Self {
        let more = |most: usize| Limit::at_most(most.saturating_add(most.max(under_way)));
        QueueLimits { online: Limit::UNLIMITED, bytes: self.bytes.get().map_or(self.bytes, more), ..self }
    }
}

/// The outcome of adding a message to a queue: the messages that were dropped for it, and why.
#[derive(Debug, Default)]
pub struct Insert {
    /// The dropped ones; the new one may be among them.
    pub dropped: SmallVec<[(OutgoingMessage, DropReason); 1]>,
    /// Whether the new message is in the queue.
    pub stored: bool,
    /// More have to go for it than may at once: it is to be added again.
    pub is_unfinished: bool,
}

/// Of so many of the oldest messages one is looked for by what it is.
const MOST_LOOKED_AT: usize = 1024;

/// Messages in the order in which they came.
///
/// Bounded in messages and bytes. QoS 0 gives way to QoS 1 and 2; then the new message (fifo) or the oldest (lifo) does.
/// Nothing is dropped in vain: if all that may go does not make room, the new message alone does. No more goes than makes room, though more
/// may have expired: a queue is not swept for one message.
#[derive(Debug, Default)]
// The order matters to the session, see there: every delivery looks whether something waits.
#[repr(C)]
pub struct Queue {
    waiting: Waiting,
    /// How many were taken out to be sent.
    taken: u64,
}

impl Queue {
    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many messages were taken out to be sent.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The place of the next message that comes. Places are numbered in the order in which messages come.
    pub fn next_place(&self) -> u64 {
        self.waiting.next_place()
    }

    /// Whether messages are here that had come when this was the [`next_place`](Self::next_place). True for some that came later, if places
    /// between have become empty, or they are in pages.
    pub fn has_any_before(&self, place: u64) -> bool {
        self.waiting.is_any_in_pages() || !self.is_empty() && self.waiting.first_place() < place
    }

    /// The memory it takes, in bytes, with all messages.
    pub fn memory(&self) -> usize {
        self.waiting.memory()
    }

    /// The bytes that wait, shared or not.
    pub fn bytes(&self) -> usize {
        self.waiting.bytes()
    }

    /// Adds `delivery` at the end, making room if there has to be.
    ///
    /// A queue that is over its limit already, because the limit of the other state of the session is higher, is not cut
    /// down to it: what was let in stays, and only makes room for what comes.
    #[cfg(test)]
    pub fn push(&mut self, delivery: OutgoingMessage, limits: &QueueLimits, online: bool, now: Time) -> Insert {
        self.push_in_portions(delivery, limits, online, now, usize::MAX)
    }

    /// The same, but `most_dropped` messages at most go for it.
    pub fn push_in_portions(
        &mut self,
        delivery: OutgoingMessage,
        limits: &QueueLimits,
        online: bool,
        now: Time,
        most_dropped: usize,
    ) -> Insert {
        let mut insert = Insert::default();
        let most = if online { limits.online } else { limits.offline };
        let size = delivery.size();
        let most = bound(most, self.len(), 1);
        let most_bytes = bound(limits.bytes, self.bytes(), size);
        // One that is over its limit makes room at once: for the next portion the bound would be what is left of it then.
        let most_dropped = if limits.bytes.allows(self.bytes()) { most_dropped } else { usize::MAX };
        let has_room = |len: usize, bytes: usize| len < most && bytes + size <= most_bytes;
        while !has_room(self.len(), self.bytes()) {
            let fits_alone = has_room(0, 0);
            if fits_alone && insert.dropped.len() >= most_dropped {
                insert.is_unfinished = true;
                return insert;
            }
            if fits_alone && let Some(expired) = self.waiting.pop_expired(now) {
                insert.dropped.push((expired, DropReason::Expired));
                continue;
            }
            let (replaceable, their_bytes) = self.replaceable(&delivery, limits.order);
            let is_in_vain = !has_room(self.len() - replaceable, self.bytes() - their_bytes);
            let Some(victim) = (if is_in_vain { None } else { self.victim() }) else {
                insert.dropped.push((delivery, DropReason::QueueFull));
                return insert;
            };
            insert.dropped.push((victim, DropReason::QueueFull));
        }
        self.waiting.push(delivery);
        insert.stored = true;
        insert
    }

    /// Adds at the end what was in the queue before the broker started: no limit concerns it.
    pub(super) fn restore(&mut self, delivery: OutgoingMessage) {
        self.waiting.push(delivery);
    }

    /// The message that is to be sent next; none either if that is in the archive.
    pub fn next(&self, order: QueueType) -> Option<&OutgoingMessage> {
        self.waiting.next(order)
    }

    /// Whether the message that is to be sent next is in a page.
    pub fn is_next_of_page(&self, order: QueueType) -> bool {
        self.next(order).is_some_and(|next| self.waiting.has_copy(next.key))
    }

    /// The message that is to be sent next has another key from here on.
    pub(super) fn renumber_next(&mut self, order: QueueType, key: Key) {
        self.waiting.renumber_next(order, key);
    }

    /// Messages of QoS 1 and 2 that have no keys get these, in order.
    pub(super) fn give_keys(&mut self, next: impl FnMut() -> Key) {
        self.waiting.give_keys(next);
    }

    /// Takes out the message that is to be sent next, unless it is in the archive.
    pub fn take(&mut self, order: QueueType) -> Option<OutgoingMessage> {
        let delivery = self.waiting.pop_next(order)?;
        self.taken += 1;
        Some(delivery)
    }

    /// Takes out the oldest message of QoS 0.
    pub fn take_qos0(&mut self) -> Option<OutgoingMessage> {
        self.waiting.pop_qos0()
    }

    /// What was to be taken out has been, for the client has left: the few messages that may be left take no more memory than they must.
    pub fn settle(&mut self) {
        self.waiting.settle();
    }

    /// How many messages of QoS 0 wait.
    pub fn qos0_len(&self) -> usize {
        self.waiting.qos0().0
    }

    /// How many of the messages came through shared subscriptions.
    pub fn shared(&self) -> usize {
        self.waiting.shared()
    }

    /// Takes out the oldest message, which is not to be sent.
    /// None either if it is in the archive.
    pub fn take_oldest(&mut self) -> Option<OutgoingMessage> {
        self.waiting.pop_next(QueueType::Fifo)
    }

    /// What of it is in the archive, or is to be.
    pub fn paged(&self) -> &Waiting {
        &self.waiting
    }

    /// The same, to be changed.
    pub fn paged_mut(&mut self) -> &mut Waiting {
        &mut self.waiting
    }

    /// The number under which its pages are in the archive, if it ever had some.
    pub fn pages_id(&self) -> Option<StoreNumber> {
        self.waiting.pages_id()
    }

    /// Pages that were in the archive before the broker started, under this number. Has to be called as well if there are none any more, but that
    /// number is known: it is that of all pages to come.
    pub fn restore_pages(&mut self, id: StoreNumber, stored: Vec<StoredPage>) {
        self.waiting.restore_pages(id, stored);
    }

    /// The first of the oldest messages for which `which` is true; only so many are looked at.
    pub fn find_first(&self, which: impl FnMut(&&OutgoingMessage) -> bool) -> Option<&OutgoingMessage> {
        self.waiting.find_first(MOST_LOOKED_AT, which)
    }

    /// Takes out what [`find_first`](Self::find_first) finds.
    pub fn take_first(&mut self, which: impl FnMut(&OutgoingMessage) -> bool) -> Option<OutgoingMessage> {
        self.waiting.take_first(MOST_LOOKED_AT, which)
    }

    /// Looks at the next message of a walk, and takes it out if `which` is true.
    pub fn look(&mut self, walk: &mut Walk, which: impl FnOnce(&OutgoingMessage) -> bool) -> Look<OutgoingMessage> {
        self.waiting.look(walk, which)
    }

    /// How many messages, and of how many bytes, may go to make room for `newcomer`.
    fn replaceable(&self, newcomer: &OutgoingMessage, order: QueueType) -> (usize, usize) {
        match (order, newcomer.qos) {
            (QueueType::Fifo, QoS::AtMostOnce) => (0, 0),
            (QueueType::Fifo, _) | (QueueType::Lifo, QoS::AtMostOnce) => self.waiting.qos0(),
            (QueueType::Lifo, _) => (self.waiting.len(), self.bytes()),
        }
    }

    /// The message that goes first to make room, taken out: the oldest of QoS 0, or the oldest of all.
    fn victim(&mut self) -> Option<OutgoingMessage> {
        self.waiting.pop_qos0().or_else(|| self.waiting.pop_first())
    }
}

/// The bound for something of which `present` are there already and `more` are to come; never below `present`, unless `more`
/// alone is above the limit.
fn bound(limit: Limit, present: usize, more: usize) -> usize {
    if limit.allows(more) { limit.get().map_or(usize::MAX, |most| most.max(present)) } else { 0 }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Publication;
    use crate::topic::TopicName;

    /// A delivery of `payload` to topic `t`.
    pub(in crate::session) fn delivery(payload: &str, qos: QoS) -> OutgoingMessage {
        expiring(payload, qos, Time::NEVER)
    }

    /// One that expires.
    pub(in crate::session) fn expiring(payload: &str, qos: QoS, at: Time) -> OutgoingMessage {
        let mut publication = Publication::new(TopicName::trusted("t"), payload.as_bytes());
        publication.expire(at);
        let (message, key, ids) = (publication.keep(), Key::NONE, SubscriptionIds::new());
        OutgoingMessage { message, qos, retain: false, key, ids, group: None }
    }

    /// A client that subscribes to ten thousand filters that overlap has forty kilobytes of identifiers with each message of one byte.
    #[test]
    fn identifiers_of_subscriptions_count_as_bytes() {
        let many = || {
            (1..=10_000).fold(SubscriptionIds::new(), |mut ids, id| {
                ids.push(id);
                ids
            })
        };
        let limits = limits(1000, Limit::at_most(1_000_000), QueueType::Fifo);
        let (mut queue, mut dropped) = (Queue::default(), 0);
        for _ in 0..100 {
            let delivery = OutgoingMessage { ids: many(), ..delivery("1", QoS::AtLeastOnce) };
            dropped += queue.push(delivery, &limits, true, Time::ZERO).dropped.len();
        }
        assert!((10..25).contains(&queue.len()), "{} messages", queue.len());
        assert_eq!(queue.len() + dropped, 100);
        assert!(queue.bytes() > 25 * 40_000 / 2 && queue.bytes() <= 1_000_000, "{} bytes", queue.bytes());
        let first = queue.next(QueueType::Fifo).map(|one| one.ids.as_ptr());
        assert!(queue.waiting.iter().all(|one| Some(one.ids.as_ptr()) == first), "they share one list");
        while queue.take(QueueType::Fifo).is_some() {}
        assert_eq!(queue.bytes(), 0);
    }

    fn limits(messages: usize, bytes: Limit, order: QueueType) -> QueueLimits {
        QueueLimits { online: Limit::at_most(messages), offline: Limit::UNLIMITED, bytes, order }
    }

    fn texts<'a>(deliveries: impl IntoIterator<Item = &'a OutgoingMessage>) -> Vec<String> {
        deliveries.into_iter().map(|one| String::from_utf8_lossy(one.message.payload()).into_owned()).collect()
    }

    /// Gives `words`, each with its QoS behind it, to a queue of three; returns what is in it then and what was dropped.
    fn three(order: QueueType, words: &str) -> (Vec<String>, Vec<String>) {
        let mut queue = Queue::default();
        let mut dropped = Vec::new();
        for word in words.split(' ') {
            let (payload, qos) = word.split_at(1);
            let qos = QoS::from_u8(qos.parse().expect("a QoS")).expect("a QoS");
            let insert = queue.push(delivery(payload, qos), &limits(3, Limit::UNLIMITED, order), true, Time::ZERO);
            dropped.extend(texts(insert.dropped.iter().map(|(delivery, _)| delivery)));
        }
        (texts(queue.waiting.iter()), dropped)
    }

    #[test]
    fn who_gives_way_to_whom() {
        let words =
            |words: &str| words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let cases = [
            (QueueType::Fifo, "a1 b1 c1 d1", "a b c", "d"),
            (QueueType::Fifo, "a0 b1 c0 d2 e1 f1", "b d e", "a c f"),
            (QueueType::Fifo, "a1 b0 c1 d0", "a b c", "d"),
            (QueueType::Lifo, "a1 b1 c1 d1 e2", "c d e", "a b"),
            (QueueType::Lifo, "a1 b0 c1 d0", "a c d", "b"),
            (QueueType::Lifo, "a1 b1 c1 d0", "a b c", "d"),
            (QueueType::Lifo, "a0 b1 c0 d1 e1 f1", "d e f", "a c b"),
        ];
        for (order, given, queued, dropped) in cases {
            assert_eq!(three(order, given), (words(queued), words(dropped)), "{given}");
        }
    }

    #[test]
    fn a_queue_over_its_limit_makes_room_for_one_and_is_not_cut_down() {
        for (order, stored) in [(QueueType::Fifo, false), (QueueType::Lifo, true)] {
            let mut queue = Queue::default();
            let limits = limits(2, Limit::UNLIMITED, order);
            for number in 0..10 {
                assert!(queue.push(delivery(&number.to_string(), QoS::AtLeastOnce), &limits, false, Time::ZERO).stored);
            }
            let insert = queue.push(delivery("new", QoS::AtLeastOnce), &limits, true, Time::ZERO);
            assert_eq!((insert.stored, insert.dropped.len(), queue.len()), (stored, 1, 10));
        }
    }

    #[test]
    fn nothing_is_dropped_in_vain() {
        let one = delivery("1234", QoS::AtLeastOnce).message.size();
        for order in [QueueType::Fifo, QueueType::Lifo] {
            let limits = limits(10, Limit::at_most(3 * one), order);
            let mut queue = Queue::default();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtMostOnce] {
                queue.push(delivery("1234", qos), &limits, true, Time::ZERO);
            }
            let insert = queue.push(delivery(&"x".repeat(4 * one), QoS::ExactlyOnce), &limits, true, Time::ZERO);
            assert_eq!((insert.stored, insert.dropped.len(), queue.len()), (false, 1, 3), "{order:?}");
            // It needs two of the three places, and there is QoS 0 in them.
            let insert = queue.push(delivery(&"x".repeat(one), QoS::ExactlyOnce), &limits, true, Time::ZERO);
            assert_eq!((insert.stored, insert.dropped.len(), queue.len()), (true, 2, 2), "{order:?}");
        }
    }

    /// As many give way as have to, so many at a time; what is let in behind that is within the limit.
    #[test]
    fn many_give_way_in_portions() {
        for (order, qos) in [(QueueType::Fifo, QoS::AtMostOnce), (QueueType::Lifo, QoS::AtLeastOnce)] {
            let small = delivery("1234", QoS::AtMostOnce).size();
            let limits = limits(1000, Limit::at_most(100 * small), order);
            let mut queue = Queue::default();
            (0..50)
                .for_each(|_| drop(queue.push(expiring("1234", qos, Time::from_millis(1)), &limits, true, Time::ZERO)));
            (0..50).for_each(|_| drop(queue.push(delivery("1234", qos), &limits, true, Time::ZERO)));
            let large = delivery(&"x".repeat(80 * small), QoS::AtLeastOnce);
            let now = Time::from_millis(1);
            let mut reasons = Vec::new();
            loop {
                let insert = queue.push_in_portions(large.clone(), &limits, true, now, 7);
                assert!(insert.dropped.len() <= 7 && queue.bytes() <= 100 * small);
                reasons.extend(insert.dropped.iter().map(|(_, reason)| *reason));
                if !insert.is_unfinished {
                    assert!(insert.stored);
                    break;
                }
                assert_eq!((insert.stored, insert.dropped.len()), (false, 7));
            }
            assert!(reasons.len() > 75 && reasons[..50].iter().all(|reason| *reason == DropReason::Expired));
            assert!(reasons[50..].iter().all(|reason| *reason == DropReason::QueueFull));
            let too_large = delivery(&"x".repeat(100 * small), QoS::AtLeastOnce);
            let insert = queue.push_in_portions(too_large, &limits, true, now, 7);
            assert!(!insert.stored && !insert.is_unfinished && insert.dropped.len() == 1, "in vain");
        }
    }

    /// More was let in while publishers waited. What has to go makes room, and is not dropped in vain.
    #[test]
    fn a_queue_over_its_limit_is_not_cut_down_in_portions() {
        let small = delivery("1234", QoS::AtMostOnce).size();
        let limits = limits(1000, Limit::at_most(100 * small), QueueType::Fifo);
        let mut queue = Queue::default();
        let more = limits.while_publishers_wait(100 * small);
        for (count, qos) in [(110, QoS::AtLeastOnce), (90, QoS::AtMostOnce)] {
            (0..count).for_each(|_| assert!(queue.push(delivery("1234", qos), &more, true, Time::ZERO).stored));
        }
        let large = delivery(&"x".repeat(80 * small), QoS::AtLeastOnce);
        let mut dropped = 0;
        while queue.len() >= 110 {
            let insert = queue.push_in_portions(large.clone(), &limits, true, Time::ZERO, 7);
            dropped += insert.dropped.len();
            if !insert.is_unfinished {
                assert!(insert.stored);
                break;
            }
        }
        assert!((80..90).contains(&dropped), "{dropped}");
    }

    /// No more than makes room: it is dropped when its turn to be sent comes.
    #[test]
    fn a_queue_is_not_swept_for_one_message() {
        let limits = limits(10, Limit::UNLIMITED, QueueType::Fifo);
        let (mut queue, at) = (Queue::default(), Time::from_millis(1));
        (0..50).for_each(|_| drop(queue.push(expiring("x", QoS::AtLeastOnce, at), &limits, false, Time::ZERO)));
        let insert = queue.push(delivery("new", QoS::AtLeastOnce), &limits, true, at);
        assert_eq!((insert.stored, insert.dropped.len(), queue.len()), (true, 1, 50));
    }

    #[test]
    fn expired_messages_go_first() {
        let mut queue = Queue::default();
        let limits = limits(2, Limit::UNLIMITED, QueueType::Fifo);
        let at = Time::from_millis;
        queue.push(expiring("a", QoS::AtLeastOnce, at(10)), &limits, true, at(0));
        queue.push(delivery("b", QoS::AtLeastOnce), &limits, true, at(0));
        assert!(!queue.push(delivery("c", QoS::AtLeastOnce), &limits, true, at(9)).stored);
        let insert = queue.push(delivery("d", QoS::AtLeastOnce), &limits, true, at(10));
        assert!(insert.stored && matches!(insert.dropped[..], [(_, DropReason::Expired)]));
        assert_eq!(texts(queue.waiting.iter()), ["b", "d"]);
    }

    proptest! {
        /// After any sequence of operations the counts are right and the limits are kept.
        #[test]
        fn counts_are_right_and_limits_hold(
            most in 0..6_usize,
            bytes in 0..1200_usize,
            lifo in any::<bool>(),
            steps in prop::collection::vec((0..6_u8, 0..200_usize, any::<bool>()), 0..60),
        ) {
            let order = if lifo { QueueType::Lifo } else { QueueType::Fifo };
            let limits = limits(most, Limit::at_most(bytes), order);
            let mut queue = Queue::default();
            for (what, size, online) in steps {
                let (len, before) = (queue.len(), queue.bytes());
                match what {
                    0..=2 => {
                        let qos = QoS::from_u8(what).expect("0 to 2");
                        let insert = queue.push(delivery(&"x".repeat(size), qos), &limits, online, Time::ZERO);
                        prop_assert_eq!(queue.len() + insert.dropped.len(), len + 1);
                        prop_assert!(queue.bytes() <= bytes.max(before));
                        prop_assert!(!online || queue.len() <= most.max(len));
                        prop_assert!(insert.stored || insert.dropped.len() == 1, "itself and nobody else");
                    }
                    3 | 4 => {
                        let next = queue.next(order).map(|next| next.message.clone());
                        let taken = queue.take(order);
                        prop_assert_eq!(taken.is_some(), len > 0);
                        prop_assert!(next.zip(taken).is_none_or(|(next, taken)| next.same_as(&taken.message)));
                    }
                    _ => while queue.take_qos0().is_some() {},
                }
            }
        }
    }
}
