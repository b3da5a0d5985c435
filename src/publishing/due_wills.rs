//! Wills that are due and wait for room, between shards and among messages to very many.
//!
//! Their hooks have been told, and their clients may be gone. What waits here was with a session before: so that it stays as much, no client
//! with another will is registered while more waits than a bound. They go on in order. What others publish to the same topic meanwhile waits
//! behind them, and who has published so, too, when more waits than that; at twice as much nobody publishes anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::client::{ConnectionId, SubscriberId};
use crate::config::SharedPolicy;
use crate::session::Will;
use crate::topic::TopicName;

/// A will that is due, or what was published to its topic after it.
pub struct DueWill {
    /// Whose it is; none if the program or the broker published it.
    pub subscriber: Option<SubscriberId>,
    /// The connection that published it, if it is no will.
    pub connection: Option<ConnectionId>,
    /// The slot of that client.
    pub slot: u16,
    /// The place and the instance number of its session, if that was there still.
    pub session: Option<(u32, u64)>,
    /// How members of shared subscriptions are chosen.
    pub policy: SharedPolicy,
    /// The message.
    pub will: Will,
}

impl DueWill {
    /// Its size in bytes if it is no will.
    fn size_behind(&self) -> usize {
        let is_will = self.subscriber.is_some() && self.connection.is_none();
        if is_will { 0 } else { self.will.message.size() }
    }
}

/// The organ; one for each shard.
pub struct DueWills {
    waiting: VecDeque<DueWill>,
    /// How many of them there are by topic, in whatever mountpoint.
    topics: BTreeMap<String, usize>,
    /// The bytes of those that wait.
    bytes: usize,
    /// Those of them that are no wills.
    bytes_behind: usize,
    /// The bytes that went to other shards in this turn.
    sent: usize,
    /// Most bytes that go to other shards in a turn: whether a queue is full is known when it is over.
    most: usize,
    /// Clients that are registered when there is room.
    newcomers: BTreeMap<SubscriberId, Vec<ConnectionId>>,
}

impl DueWills {
    /// None. `most` bytes go to other shards in a turn.
    pub fn new(most: usize) -> Self {
        let (waiting, topics, newcomers) = (VecDeque::new(), BTreeMap::new(), BTreeMap::new());
        DueWills { waiting, topics, bytes: 0, bytes_behind: 0, sent: 0, most, newcomers }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether as much went to other shards as may in a turn.
    pub fn is_turn_over(&self) -> bool {
        self.sent >= self.most
    }

    /// So many bytes went to other shards.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Another turn begins.
    pub fn begin_turn(&mut self) {
        self.sent = 0;
    }

    /// Whether any to this topic waits.
    #[cold]
    pub fn has_of(&self, topic: TopicName<'_>) -> bool {
        self.topics.contains_key(topic.as_str())
    }

    /// Adds one behind the others.
    pub fn push(&mut self, due: DueWill) {
        self.note_in(&due);
        self.waiting.push_back(due);
    }

    fn note_in(&mut self, due: &DueWill) {
        let message = &due.will.message;
        self.bytes += message.size();
        self.bytes_behind += due.size_behind();
        *self.topics.entry(message.topic().as_str().to_owned()).or_default() += 1;
    }

    /// Takes out the one that has waited longest.
    pub fn pop(&mut self) -> Option<DueWill> {
        let due = self.waiting.pop_front()?;
        let message = &due.will.message;
        self.bytes -= message.size();
        self.bytes_behind -= due.size_behind();
        let topic = message.topic().as_str();
        if let Some(count) = self.topics.get_mut(topic) {
            *count -= 1;
            if *count == 0 {
                self.topics.remove(topic);
            }
        }
        Some(due)
    }

    /// It has to wait on, before all others.
    pub fn put_back(&mut self, due: DueWill) {
        self.note_in(&due);
        self.waiting.push_front(due);
    }

    /// Whether a newcomer has to wait to be registered, and has it wait: there is no room for another will, or for one of another connection
    /// of this client that came before.
    pub fn waits(&mut self, subscriber: &SubscriberId, newcomer: ConnectionId, has_will: bool) -> bool {
        let waits = has_will && self.is_full() || self.newcomers.contains_key(subscriber);
        if waits {
            self.newcomers.entry(subscriber.clone()).or_default().push(newcomer);
        }
        waits
    }

    /// Whether one of this client waits.
    pub fn is_awaited(&self, subscriber: &SubscriberId) -> bool {
        self.newcomers.contains_key(subscriber)
    }

    /// Those that wait, if there is room; of one client in the order in which they came.
    pub fn admitted(&mut self) -> impl Iterator<Item = ConnectionId> + use<> {
        let admitted = if self.is_full() { BTreeMap::new() } else { std::mem::take(&mut self.newcomers) };
        admitted.into_values().flatten()
    }

    /// The bytes of what was published to the topics of those that wait, and waits behind them.
    pub fn bytes_behind(&self) -> usize {
        self.bytes_behind
    }

    /// How many wills wait, and of how many clients. Looks at all of them.
    pub fn count_wills(&self) -> (usize, usize) {
        let wills = self.waiting.iter().filter(|due| due.size_behind() == 0);
        let clients: BTreeSet<_> = wills.clone().map(|due| &due.subscriber).collect();
        (wills.count(), clients.len())
    }

    /// How many bytes may wait before no client with another will is registered.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether so much waits that no client with another will is registered, and the program publishes nothing.
    pub fn is_full(&self) -> bool {
        self.bytes > self.most
    }

    /// Whether a client waits before it publishes: so much waits, and what it published last is some of that; or twice as much does.
    pub fn holds(&self, publishes_behind: bool) -> bool {
        self.bytes > if publishes_behind { self.most } else { self.most.saturating_mul(2) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::codec::QoS;
    use crate::session::testing::delivery;

    fn due(name: &str) -> DueWill {
        let message = delivery(&"x".repeat(1000), QoS::AtMostOnce).message;
        let will = Will { message, mountpoint: "".into(), delay: Duration::ZERO, expiry: None };
        DueWill {
            subscriber: Some(SubscriberId::new("", name)),
            connection: None,
            slot: 1,
            session: None,
            policy: SharedPolicy::Random,
            will,
        }
    }

    #[test]
    fn they_go_on_in_order_and_newcomers_wait_while_they_are_many() {
        let mut wills = DueWills::new(1500);
        let ids = [1, 2].map(|index| ConnectionId::new(index, 1));
        let [one, two] = ["one", "two"].map(|name| SubscriberId::new("", name));
        wills.push(due("a"));
        assert!(!wills.is_empty() && !wills.waits(&one, ids[0], true));
        wills.push(due("b"));
        assert!(wills.waits(&one, ids[0], true) && wills.waits(&one, ids[1], false), "in order");
        assert!(!wills.waits(&two, ids[0], false) && wills.is_awaited(&one) && !wills.is_awaited(&two));
        assert_eq!(wills.admitted().count(), 0);
        let first = wills.pop().expect("there are two");
        wills.put_back(first);
        assert_eq!(wills.admitted().count(), 0);
        assert_eq!(wills.pop().and_then(|due| due.subscriber), Some(SubscriberId::new("", "a")));
        assert!(wills.has_of(TopicName::trusted("t")) && !wills.has_of(TopicName::trusted("u")));
        assert!(wills.admitted().eq(ids) && !wills.waits(&one, ids[0], true));
        assert!(wills.pop().is_some() && wills.pop().is_none() && wills.is_empty());
        assert!(!wills.has_of(TopicName::trusted("t")));
    }

    #[test]
    fn so_many_bytes_go_in_a_turn() {
        let mut wills = DueWills::new(1500);
        wills.sent(1499);
        assert!(!wills.is_turn_over());
        wills.sent(1);
        assert!(wills.is_turn_over());
        wills.begin_turn();
        assert!(!wills.is_turn_over());
    }
}
