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
#[derive(Debug)]
pub struct Queue {
    waiting: VecDeque<Delivery>,
    bytes: usize,
    /// How many of them are QoS 0.
    qos0: usize,
    /// No message in the queue expires before this.
    earliest_expiry: Time,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), bytes: 0, qos0: 0, earliest_expiry: Time::NEVER }
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
    pub fn push(&mut self, delivery: Delivery, limits: &QueueLimits, online: bool, now: Time) -> Insert {
        let mut insert = Insert::default();
        let most = if online { limits.online } else { limits.offline };
        let size = delivery.message.size();
        while !most.allows(self.waiting.len() + 1) || !limits.bytes.allows(self.bytes + size) {
            if self.earliest_expiry <= now {
                self.drop_expired(now, &mut insert);
                continue;
            }
            let Some(victim) = self.victim(&delivery, limits.order) else {
                insert.dropped.push((delivery, DropReason::QueueFull));
                return insert;
            };
            insert.dropped.push((victim, DropReason::QueueFull));
        }
        self.earliest_expiry = self.earliest_expiry.min(delivery.message.expires());
        self.note_in(&delivery);
        self.waiting.push_back(delivery);
        insert.stored = true;
        insert
    }

    /// Puts back in front what was taken out and not sent. Ignores the limits: it was inside them before.
    pub fn push_front(&mut self, delivery: Delivery) {
        self.earliest_expiry = self.earliest_expiry.min(delivery.message.expires());
        self.note_in(&delivery);
        self.waiting.push_front(delivery);
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

    /// The message that makes room for `newcomer`, taken out; none if it is the newcomer itself.
    fn victim(&mut self, newcomer: &Delivery, order: QueueType) -> Option<Delivery> {
        let at = if newcomer.qos != QoS::AtMostOnce && self.qos0 > 0 {
            self.waiting.iter().position(|delivery| delivery.qos == QoS::AtMostOnce)?
        } else if order == QueueType::Lifo && (newcomer.qos != QoS::AtMostOnce || self.qos0 == self.waiting.len()) {
            0
        } else {
            return None;
        };
        let victim = self.waiting.remove(at)?;
        self.note_out(&victim);
        Some(victim)
    }

    fn note_in(&mut self, delivery: &Delivery) {
        self.bytes += delivery.message.size();
        self.qos0 += usize::from(delivery.qos == QoS::AtMostOnce);
    }

    fn note_out(&mut self, delivery: &Delivery) {
        self.bytes -= delivery.message.size();
        self.qos0 -= usize::from(delivery.qos == QoS::AtMostOnce);
    }
}
