//! The deliveries of a run: it counts every message that is lost, duplicated or out of order.
//!
//! Owns one bit for every delivery that is due, so that its counts are exact, and the order of every *stream*: the messages
//! of one publisher as one subscriber sees them.

use std::ops::Range;

use crate::scenario::{Messages, Topology};
use crate::stamp::Stamp;

/// What was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Messages published.
    pub published: u64,
    /// Deliveries, each counted once.
    pub delivered: u64,
    /// Deliveries that had been made before.
    pub duplicated: u64,
    /// Deliveries that came after a later message of the same publisher.
    pub reordered: u64,
    /// Deliveries to a subscriber who is not concerned, or of what was never published.
    pub stray: u64,
}

/// The deliveries of one run, due and made.
#[derive(Debug)]
pub struct Deliveries {
    messages: Messages,
    /// By publisher: how many messages it published, which is the sequence number of its next one.
    published: Vec<u32>,
    /// By stream: one more than the highest sequence number that arrived.
    next: Vec<u32>,
    /// What arrived: by publisher if the subscribers share, else by stream.
    arrived: Vec<Bits>,
    tally: Tally,
}

impl Deliveries {
    /// A run without deliveries yet.
    pub fn new(messages: &Messages) -> Self {
        let (publishers, subscribers) = (messages.publishers, messages.subscribers);
        let streams = match messages.topology {
            Topology::Pairs(_) => publishers,
            _ => publishers * subscribers,
        };
        let deliveries = if Self::shares(messages) { publishers } else { streams };
        Deliveries {
            messages: *messages,
            published: vec![0; publishers],
            next: vec![0; streams],
            arrived: vec![Bits::default(); deliveries],
            tally: Tally::default(),
        }
    }

    /// Whether each message goes to one subscriber of several.
    fn shares(messages: &Messages) -> bool {
        matches!(messages.topology, Topology::Shared | Topology::Scattered(_))
    }

    /// Records a message of `publisher`. Returns its sequence number.
    #[inline]
    pub fn publish(&mut self, publisher: u32) -> u32 {
        let sequence = &mut self.published[publisher as usize];
        *sequence += 1;
        self.tally.published += 1;
        *sequence - 1
    }

    /// Records a delivery. Returns the sequence numbers of that publisher which `subscriber` has finished with it: the one that
    /// arrived and, as messages come in order, those that were left out before it. Shared subscribers leave out nothing.
    #[inline]
    pub fn deliver(&mut self, subscriber: usize, stamp: Stamp) -> Range<u32> {
        let publisher = stamp.publisher as usize;
        let due = self.published.get(publisher).is_some_and(|published| stamp.sequence < *published)
            && self.messages.receiver(publisher, stamp.sequence).is_none_or(|receiver| receiver == subscriber);
        if !due {
            self.tally.stray += 1;
            return 0..0;
        }
        let stream = match self.messages.topology {
            Topology::Pairs(_) => publisher,
            _ => subscriber * self.published.len() + publisher,
        };
        let shared = Self::shares(&self.messages);
        if !self.arrived[if shared { publisher } else { stream }].set(stamp.sequence) {
            self.tally.duplicated += 1;
            return 0..0;
        }
        self.tally.delivered += 1;
        let after = stamp.sequence + 1;
        let next = self.next[stream];
        if after <= next {
            self.tally.reordered += 1;
        } else {
            self.next[stream] = after;
        }
        if shared { stamp.sequence..after } else { next..after.max(next) }
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many deliveries all that was published should come to.
    pub fn expected(&self) -> u64 {
        self.tally.published * self.messages.copies() as u64
    }

    /// By publisher, how many messages it published.
    pub fn published(&self) -> &[u32] {
        &self.published
    }
}

/// One bit per message, as many as were needed so far.
#[derive(Clone, Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Sets a bit. False if it was set.
    #[inline]
    fn set(&mut self, at: u32) -> bool {
        let (word, bit) = (at as usize / 64, 1 << (at % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::named;
    use crate::scenario::Kind;

    fn deliveries(scenario: &str, published: u32) -> Deliveries {
        let Kind::Messages(messages) = &named(scenario).unwrap().kind else { panic!("{scenario}") };
        let mut deliveries = Deliveries::new(messages);
        for sequence in 0..published {
            assert_eq!(deliveries.publish(1), sequence);
        }
        deliveries
    }

    fn stamp(sequence: u32) -> Stamp {
        Stamp { publisher: 1, sequence, time: 0 }
    }

    #[test]
    fn what_is_skipped_is_done_with_and_what_comes_late_is_reordered() {
        let mut deliveries = deliveries("p2p_q1", 200);
        assert_eq!(deliveries.deliver(1, stamp(0)), 0..1);
        assert_eq!(deliveries.deliver(1, stamp(130)), 1..131);
        assert!(deliveries.deliver(1, stamp(5)).is_empty());
        assert_eq!(deliveries.deliver(1, stamp(131)), 131..132);
        let tally = deliveries.tally();
        assert_eq!((tally.delivered, tally.reordered, tally.duplicated, tally.stray), (4, 1, 0, 0));
        assert_eq!(deliveries.expected() - tally.delivered, 196);
    }

    #[test]
    fn a_second_copy_is_a_duplicate_unless_another_subscriber_gets_it() {
        let mut pairs = deliveries("p2p_q1", 2);
        pairs.deliver(1, stamp(0));
        assert!(pairs.deliver(1, stamp(0)).is_empty());
        assert_eq!((pairs.tally().delivered, pairs.tally().duplicated), (1, 1));

        let mut fanout = deliveries("fanout_q0", 2);
        assert_eq!((fanout.deliver(0, stamp(0)), fanout.deliver(499, stamp(0))), (0..1, 0..1));
        fanout.deliver(499, stamp(0));
        assert_eq!((fanout.tally().delivered, fanout.tally().duplicated, fanout.expected()), (2, 1, 1000));

        let mut shared = deliveries("share_q1", 2);
        shared.deliver(0, stamp(0));
        shared.deliver(4, stamp(0));
        assert_eq!((shared.tally().delivered, shared.tally().duplicated, shared.expected()), (1, 1, 2));
    }

    #[test]
    fn members_of_a_shared_subscription_each_see_some_messages_in_order() {
        let mut deliveries = deliveries("share_q1", 10);
        assert_eq!(deliveries.deliver(2, stamp(7)), 7..8);
        assert_eq!(deliveries.deliver(3, stamp(2)), 2..3);
        assert_eq!(deliveries.tally().reordered, 0);
        assert_eq!(deliveries.deliver(2, stamp(3)), 3..4);
        assert_eq!(deliveries.tally().reordered, 1);
    }

    #[test]
    fn what_nobody_published_or_another_subscribed_to_is_stray() {
        let mut deliveries = deliveries("p2p_q1", 1);
        for (subscriber, stamp) in [(1, stamp(1)), (2, stamp(0)), (1, Stamp { publisher: 100, sequence: 0, time: 0 })] {
            assert!(deliveries.deliver(subscriber, stamp).is_empty());
        }
        assert_eq!((deliveries.tally().stray, deliveries.tally().delivered), (3, 0));
    }
}
