//! Publishers that are held without end: what they publish must not be dropped for a connected client, by its topic or by the listener of
//! that client.
//!
//! They wait until half of what is full has been read, however long that takes, and spend no credit. A publisher whose own client is waited
//! for is not held: its acknowledgements come behind what it publishes, and two that wait for each other would wait for ever. What is
//! under way when a publisher is told to wait is not dropped either: the queue of a client takes more than its limit of such messages.

use std::collections::{BTreeMap, BTreeSet};

use super::backlog::Backlog;
use crate::client::ConnectionId;
use crate::config::Config;
use crate::sharding::Publisher;
use crate::topic::{TopicFilter, TopicName};

/// What must not be dropped, and who waits for that.
pub struct Lossless {
    filters: Vec<TopicFilter>,
    /// By listener: whether that is all for its clients.
    listeners: Vec<bool>,
    /// Clients whose backlog is full: how many bytes are to be left of it, and who waits for that.
    full: BTreeMap<ConnectionId, (usize, BTreeSet<Publisher>)>,
}

impl Lossless {
    /// As it is configured. Nobody waits.
    pub fn new(config: &Config) -> Self {
        let parse = |filter: &String| TopicFilter::parse(filter, usize::MAX).ok();
        Lossless {
            filters: config.queue.lossless_filters.iter().filter_map(parse).collect(),
            listeners: config.listeners.iter().map(|listener| listener.lossless).collect(),
            full: BTreeMap::new(),
        }
    }

    /// Whether a message to `topic` must not be dropped for a client of this listener.
    pub fn applies(&self, topic: TopicName<'_>, listener: usize) -> bool {
        self.listeners.get(listener).is_some_and(|all| *all) || self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// Whether there is anything that must not be dropped.
    pub fn is_configured(&self) -> bool {
        !self.filters.is_empty() || self.listeners.contains(&true)
    }

    /// Whether anybody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// Whether anybody waits for this client.
    pub fn is_full(&self, id: ConnectionId) -> bool {
        self.full.contains_key(&id)
    }

    /// The backlog of a client is full: `publisher` has to wait until `relieved_at` bytes are left of it. Whether that is new.
    pub fn wait(&mut self, id: ConnectionId, relieved_at: usize, publisher: Publisher) -> bool {
        let (least, publishers) = self.full.entry(id).or_insert_with(|| (relieved_at, BTreeSet::new()));
        *least = relieved_at.min(*least);
        publishers.insert(publisher)
    }

    /// Something has left the backlog of a client: who waits no more for it.
    pub fn backlog_shrank(&mut self, id: ConnectionId, backlog: Backlog) -> BTreeSet<Publisher> {
        let is_relieved = |(relieved_at, _): &(usize, _)| backlog.bytes() <= *relieved_at && !backlog.is_long;
        if self.full.get(&id).is_some_and(is_relieved) { self.remove(id) } else { BTreeSet::new() }
    }

    /// Forgets a client, and gives who waits for it.
    pub fn remove(&mut self, id: ConnectionId) -> BTreeSet<Publisher> {
        self.full.remove(&id).map(|(_, publishers)| publishers).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_waits_until_half_has_left_and_is_told_once() {
        let config = "queue.lossless_filters = ['a/#']\n[listeners.lossy]\naddress = '127.0.0.1:1'\n[listeners.lossless]\naddress = '127.0.0.1:2'\nlossless = true";
        let config = Config::from_toml(config, "test").expect("a configuration");
        let lossless_at = config.listeners.iter().position(|listener| listener.lossless).expect("there is one");
        let mut lossless = Lossless::new(&config);
        let topic = TopicName::trusted;
        assert!(lossless.applies(topic("a/b"), 1 - lossless_at) && lossless.applies(topic("b"), lossless_at));
        assert!(!lossless.applies(topic("b"), 1 - lossless_at));
        let [client, other] = [1, 2].map(|index| ConnectionId::new(index, 1));
        let publisher = Publisher { shard: 0, connection: other };
        let backlog = |queued| Backlog { output: 0, queued, most_queued: 1000, is_long: false };
        assert!(lossless.wait(client, 500, publisher) && !lossless.wait(client, 500, publisher));
        assert!(lossless.is_full(client) && !lossless.is_full(other));
        assert!(lossless.backlog_shrank(client, backlog(501)).is_empty());
        assert_eq!(lossless.backlog_shrank(client, backlog(500)).len(), 1);
        assert!(lossless.is_empty() && lossless.remove(client).is_empty());
    }
}
