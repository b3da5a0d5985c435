//! The retained messages of one mountpoint, as far as this shard owns their topics.

use crate::config::RetainedConfig;
use crate::message::Message;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicTree};

/// A retained message, and where it came from: one for each topic.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The message.
    pub message: Message,
    /// The shard it was published on.
    pub shard: usize,
    /// Which of the messages it is that this shard has sent the owner of its topics.
    pub number: u64,
}

/// The retained messages of one mountpoint.
pub(super) struct Store {
    messages: TopicTree<Kept>,
    bytes: usize,
}

/// What became of a message that was to be retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// It is kept.
    Kept,
    /// It had no payload: what was kept is forgotten [MQTT-3.3.1-6].
    Cleared,
    /// A limit is reached; what was kept before for this topic is forgotten, since it is no longer the last message.
    Refused,
}

impl Store {
    pub fn new(seed: u64) -> Self {
        Store { messages: TopicTree::new(seed), bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `kept` as the last message of its topic. The limits are divided among so many `shards`, rounded up.
    pub fn store(&mut self, kept: Kept, limits: &RetainedConfig, shards: usize) -> Retention {
        let message = kept.message.clone();
        let size = message.size();
        if let Some(old) = self.messages.get_mut(message.topic().as_str())
            && !message.payload().is_empty()
            && limits.max_message_bytes.allows(message.payload().len())
            && limits.max_total_bytes.allows((self.bytes - old.message.size()) * shards + size)
        {
            self.bytes = self.bytes - old.message.size() + size;
            *old = kept;
            return Retention::Kept;
        }
        if let Some(old) = self.messages.remove(message.topic().as_str()) {
            self.bytes -= old.message.size();
        }
        if message.payload().is_empty() {
            return Retention::Cleared;
        }
        let fits = limits.max_message_bytes.allows(message.payload().len())
            && limits.max_messages.allows(self.messages.len() * shards + 1)
            && limits.max_total_bytes.allows(self.bytes * shards + size);
        if !fits {
            return Retention::Refused;
        }
        self.bytes += size;
        self.messages.insert(message.topic().as_str(), kept);
        Retention::Kept
    }

    /// The retained messages that match `filter` and have not expired.
    pub fn matching(&self, filter: &TopicFilter, now: Time) -> Vec<Kept> {
        let mut found = Vec::new();
        self.messages.matching(filter, &mut |_, kept| {
            if kept.message.expires() > now {
                found.push(kept.clone());
            }
        });
        found
    }

    /// Looks at up to `most` messages, those before position `end`, and forgets those that have expired. Gives the position to go on from, zero
    /// when all have been looked at.
    pub fn forget_expired(&mut self, end: usize, most: usize, now: Time) -> usize {
        let mut freed = 0;
        let end = self.messages.retain_some(end, most, |_, kept| {
            let keep = kept.message.expires() > now;
            freed += if keep { 0 } else { kept.message.size() };
            keep
        });
        self.bytes -= freed;
        end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limit;
    use crate::message::Publication;
    use crate::topic::TopicName;

    fn kept(topic: &str, payload: &[u8], expires: Time) -> Kept {
        let mut publication = Publication::new(TopicName::trusted(topic), payload);
        publication.expires = expires;
        Kept { message: publication.keep(), shard: 0, number: 1 }
    }

    fn matching(store: &Store, filter: &str, now: Time) -> Vec<Vec<u8>> {
        let filter = TopicFilter::parse(filter, 8).expect("a valid filter");
        let mut found: Vec<_> =
            store.matching(&filter, now).iter().map(|kept| kept.message.payload().to_vec()).collect();
        found.sort();
        found
    }

    /// [MQTT-3.3.1-5], [MQTT-3.3.1-6]
    #[test]
    fn the_last_message_of_a_topic_is_kept_until_an_empty_one_clears_it() {
        let (mut store, limits) = (Store::new(1), RetainedConfig::default());
        assert_eq!(store.store(kept("a", b"1", Time::NEVER), &limits, 1), Retention::Kept);
        assert_eq!(store.store(kept("a", b"2", Time::NEVER), &limits, 1), Retention::Kept);
        assert_eq!((store.len(), matching(&store, "+", Time::ZERO)), (1, vec![b"2".to_vec()]));
        assert_eq!(store.store(kept("a", b"", Time::NEVER), &limits, 1), Retention::Cleared);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn a_limit_refuses_what_is_new_and_forgets_what_was_there_for_the_topic() {
        let mut store = Store::new(1);
        let limits = RetainedConfig {
            max_messages: Limit::at_most(4),
            max_message_bytes: Limit::at_most(2),
            ..Default::default()
        };
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &limits, 2);
        assert_eq!([stored("a", b"1"), stored("b", b"1")], [Retention::Kept; 2]);
        assert_eq!(stored("c", b"1"), Retention::Refused, "two of four are this shard's");
        assert_eq!(stored("a", b"too long"), Retention::Refused);
        assert_eq!((store.len(), matching(&store, "#", Time::ZERO)), (1, vec![b"1".to_vec()]));
    }

    #[test]
    fn what_has_expired_is_not_found_and_is_forgotten() {
        let (mut store, limits, at) = (Store::new(1), RetainedConfig::default(), Time::from_millis(5));
        store.store(kept("a", b"1", at), &limits, 1);
        store.store(kept("b", b"2", Time::NEVER), &limits, 1);
        assert_eq!(matching(&store, "#", at), [b"2".to_vec()]);
        assert_eq!(store.forget_expired(usize::MAX, 10, at), 0);
        assert_eq!(store.len(), 1);
        assert_eq!(store.bytes(), kept("b", b"2", Time::NEVER).message.size());
    }
}
