//! Messages that wait for a session: for its window, or for its client to come back.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::client::DropReason;
use crate::codec::QoS;
use crate::config::{Limit, QueueType};
use crate::message::Message;
use crate::time::Time;
use crate::topic::TopicFilter;

/// The Subscription Identifiers that go out with one delivery.
pub type SubscriptionIds = SmallVec<[u32; 2]>;

/// One message for one subscriber.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub message: Message,
    /// The QoS it is delivered with.
    pub qos: QoS,
    /// The RETAIN flag it is delivered with.
    pub retain: bool,
    /// The Subscription Identifiers of the subscriptions it matched.
    pub ids: SubscriptionIds,
    /// The shared subscription it came through: until it is acknowledged it may still go to another member.
    pub group: Option<Arc<TopicFilter>>,
}

/// The bounds of one session's queue.
#[derive(Clone, Copy, Debug)]
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

/// What became of a message that was given to a queue: which messages were dropped for it, and why.
#[derive(Debug, Default)]
pub struct Insert {
    /// The dropped ones; the new one may be among them.
    pub dropped: SmallVec<[(Delivery, DropReason); 1]>,
    /// Whether the new message is in the queue.
    pub stored: bool,
}

/// Messages in the order in which they came.
///
/// Bounded in messages and bytes. QoS 0 gives way to QoS 1 and 2; then the new message (fifo) or the oldest (lifo) does.
/// Nothing is dropped in vain: if all that may go does not make room, the new message alone does.
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    /// How many of them are QoS 0, and their bytes.
    qos0: usize,
    qos0_bytes: usize,
    /// No message in the queue expires before this.
    earliest_expiry: Time,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), bytes: 0, qos0: 0, qos0_bytes: 0, earliest_expiry: Time::NEVER }
    }
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

    /// The bytes that wait, shared or not.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds `delivery` at the end, making room if there has to be.
    ///
    /// A queue that is over its limit already, because the limit of the other state of the session is higher, is not cut
    /// down to it: what was let in stays, and only makes room for what comes.
    pub fn push(&mut self, delivery: Delivery, limits: &QueueLimits, online: bool, now: Time) -> Insert {
        let mut insert = Insert::default();
        let most = if online { limits.online } else { limits.offline };
        let size = delivery.message.size();
        let full = !most.allows(self.waiting.len() + 1) || !limits.bytes.allows(self.bytes + size);
        if full && self.earliest_expiry <= now {
            self.drop_expired(now, &mut insert);
        }
        let most = bound(most, self.waiting.len(), 1);
        let most_bytes = bound(limits.bytes, self.bytes, size);
        let has_room = |len: usize, bytes: usize| len < most && bytes + size <= most_bytes;
        let (replaceable, their_bytes) = self.replaceable(&delivery, limits.order);
        if !has_room(self.waiting.len() - replaceable, self.bytes - their_bytes) {
            insert.dropped.push((delivery, DropReason::QueueFull));
            return insert;
        }
        while !has_room(self.waiting.len(), self.bytes) {
            let Some(victim) = self.victim() else { break };
            insert.dropped.push((victim, DropReason::QueueFull));
        }
        self.earliest_expiry = self.earliest_expiry.min(delivery.message.expires());
        self.note_in(&delivery);
        self.waiting.push_back(delivery);
        insert.stored = true;
        insert
    }

    /// The message that is to be sent next.
    pub fn next(&self, order: QueueType) -> Option<&Delivery> {
        match order {
            QueueType::Fifo => self.waiting.front(),
            QueueType::Lifo => self.waiting.back(),
        }
    }

    /// Takes out the message that is to be sent next.
    pub fn take(&mut self, order: QueueType) -> Option<Delivery> {
        let delivery = match order {
            QueueType::Fifo => self.waiting.pop_front(),
            QueueType::Lifo => self.waiting.pop_back(),
        }?;
        self.note_out(&delivery);
        if self.waiting.is_empty() {
            *self = Queue::default();
        }
        Some(delivery)
    }

    /// Takes out every message for which `which` holds, in order.
    pub fn extract(&mut self, mut which: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for delivery in std::mem::take(&mut self.waiting) {
            if which(&delivery) {
                self.note_out(&delivery);
                taken.push(delivery);
            } else {
                self.waiting.push_back(delivery);
            }
        }
        taken
    }

    /// Takes out everything, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        std::mem::take(self).waiting.into_iter()
    }

    fn drop_expired(&mut self, now: Time, insert: &mut Insert) {
        let expired = self.extract(|delivery| delivery.message.expires() <= now);
        insert.dropped.extend(expired.into_iter().map(|delivery| (delivery, DropReason::Expired)));
        self.earliest_expiry =
            self.waiting.iter().map(|delivery| delivery.message.expires()).min().unwrap_or(Time::NEVER);
    }

    /// How many messages, and of how many bytes, may go to make room for `newcomer`.
    fn replaceable(&self, newcomer: &Delivery, order: QueueType) -> (usize, usize) {
        match (order, newcomer.qos) {
            (QueueType::Fifo, QoS::AtMostOnce) => (0, 0),
            (QueueType::Fifo, _) | (QueueType::Lifo, QoS::AtMostOnce) => (self.qos0, self.qos0_bytes),
            (QueueType::Lifo, _) => (self.waiting.len(), self.bytes),
        }
    }

    /// The message that goes first to make room, taken out: the oldest of QoS 0, or the oldest of all.
    fn victim(&mut self) -> Option<Delivery> {
        let at = match self.qos0 {
            0 => 0,
            _ => self.waiting.iter().position(|delivery| delivery.qos == QoS::AtMostOnce)?,
        };
        let victim = self.waiting.remove(at)?;
        self.note_out(&victim);
        Some(victim)
    }

    fn note_in(&mut self, delivery: &Delivery) {
        let size = delivery.message.size();
        self.bytes += size;
        if delivery.qos == QoS::AtMostOnce {
            (self.qos0, self.qos0_bytes) = (self.qos0 + 1, self.qos0_bytes + size);
        }
    }

    fn note_out(&mut self, delivery: &Delivery) {
        let size = delivery.message.size();
        self.bytes -= size;
        if delivery.qos == QoS::AtMostOnce {
            (self.qos0, self.qos0_bytes) = (self.qos0 - 1, self.qos0_bytes - size);
        }
    }
}

/// What `limit` allows of something of which `held` are there already and another `more` are to come; never fewer than are
/// there, unless even those to come are too many.
fn bound(limit: Limit, held: usize, more: usize) -> usize {
    if limit.allows(more) { limit.get().map_or(usize::MAX, |most| most.max(held)) } else { 0 }
}
