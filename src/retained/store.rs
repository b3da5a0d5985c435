//! The retained messages of one mountpoint, as far as this shard owns their topics.

use std::sync::Arc;

use crate::config::Limit;
use crate::message::Message;
use crate::sharding::Quotas;
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
    /// How many of them are about the broker itself, and their bytes: they are as many as it has counters, and no limit concerns them. A
    /// store that clients have filled must not keep anybody from seeing that.
    own: usize,
    own_bytes: usize,
}

/// The limits of retained messages, and what is left of those that all shards share.
pub(super) struct Room {
    pub most_of_one: Limit,
    pub quotas: Arc<Quotas>,
    pub shard: usize,
}

impl Room {
    /// Takes the place of one more message.
    fn enter(&self, size: usize) -> bool {
        let Quotas { retained_messages, retained_bytes, .. } = &*self.quotas;
        if !retained_messages.take(self.shard, 1) {
            return false;
        }
        let has_room = retained_bytes.take(self.shard, size);
        if !has_room {
            retained_messages.give_back(self.shard, 1);
        }
        has_room
    }

    /// A message takes the place of another one. Nothing has changed if there is no room for that.
    fn resize(&self, from: usize, to: usize) -> bool {
        let bytes = &self.quotas.retained_bytes;
        match to.checked_sub(from) {
            Some(0) => true,
            Some(more) => bytes.take(self.shard, more),
            None => {
                bytes.give_back(self.shard, from - to);
                true
            }
        }
    }

    /// Gives the place of a message back.
    fn leave(&self, size: usize) {
        self.quotas.retained_messages.give_back(self.shard, 1);
        self.quotas.retained_bytes.give_back(self.shard, size);
    }
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
        Store { messages: TopicTree::new(seed), bytes: 0, own: 0, own_bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `kept` as the last message of its topic, if there is `room`.
    pub fn store(&mut self, kept: Kept, room: &Room) -> Retention {
        let message = kept.message.clone();
        if is_own(&message) {
            return self.store_own(kept);
        }
        let (size, topic) = (message.size(), message.topic().as_str());
        let fits = !message.payload().is_empty() && room.most_of_one.allows(message.payload().len());
        if fits
            && let Some(old) = self.messages.get_mut(topic)
            && room.resize(old.message.size(), size)
        {
            self.bytes = self.bytes - old.message.size() + size;
            *old = kept;
            return Retention::Kept;
        }
        if let Some(old) = self.messages.remove(topic) {
            self.bytes -= old.message.size();
            room.leave(old.message.size());
        }
        if message.payload().is_empty() {
            return Retention::Cleared;
        }
        if !fits || !room.enter(size) {
            return Retention::Refused;
        }
        self.bytes += size;
        self.messages.insert(topic, kept);
        Retention::Kept
    }

    /// Keeps a message about the broker itself.
    fn store_own(&mut self, kept: Kept) -> Retention {
        let (topic, size) = (kept.message.clone(), kept.message.size());
        if let Some(old) = self.messages.remove(topic.topic().as_str()) {
            self.bytes -= old.message.size();
            self.own_bytes -= old.message.size();
            self.own -= 1;
        }
        if kept.message.payload().is_empty() {
            return Retention::Cleared;
        }
        self.bytes += size;
        self.own_bytes += size;
        self.own += 1;
        self.messages.insert(topic.topic().as_str(), kept);
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

    /// Forgets what has expired. Gives how many messages and bytes of clients that were.
    pub fn forget_expired(&mut self, now: Time) -> (usize, usize) {
        let Store { messages, bytes, own, own_bytes } = self;
        let mut freed = (0, 0);
        messages.retain(|_, kept| {
            let keep = kept.message.expires() > now;
            if !keep {
                let size = kept.message.size();
                *bytes -= size;
                if is_own(&kept.message) {
                    (*own, *own_bytes) = (*own - 1, *own_bytes - size);
                } else {
                    freed = (freed.0 + 1, freed.1 + size);
                }
            }
            keep
        });
        freed
    }
}

/// Whether a message is one about the broker itself. Nobody else publishes there: what clients send to these topics is not routed.
fn is_own(message: &Message) -> bool {
    message.topic().as_str().starts_with("$SYS/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RetainedConfig};
    use crate::message::Publication;
    use crate::topic::TopicName;

    fn kept(topic: &str, payload: &[u8], expires: Time) -> Kept {
        let mut publication = Publication::new(TopicName::trusted(topic), payload);
        publication.expires = expires;
        Kept { message: publication.keep(), shard: 0, number: 1 }
    }

    /// The room that two shards share.
    fn room(limits: &RetainedConfig, shard: usize) -> Room {
        let config = Config { retained: limits.clone(), ..Config::default() };
        Room { most_of_one: limits.max_message_bytes, quotas: Quotas::new(&config, 2), shard }
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
        let (mut store, room) = (Store::new(1), room(&RetainedConfig::default(), 0));
        assert_eq!(store.store(kept("a", b"1", Time::NEVER), &room), Retention::Kept);
        assert_eq!(store.store(kept("a", b"2", Time::NEVER), &room), Retention::Kept);
        assert_eq!((store.len(), matching(&store, "+", Time::ZERO)), (1, vec![b"2".to_vec()]));
        assert_eq!(store.store(kept("a", b"", Time::NEVER), &room), Retention::Cleared);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    /// What one shard leaves, another may use.
    #[test]
    fn a_limit_refuses_what_is_new_and_forgets_what_was_there_for_the_topic() {
        let (mut store, mut other) = (Store::new(1), Store::new(1));
        let limits = RetainedConfig {
            max_messages: Limit::at_most(4),
            max_message_bytes: Limit::at_most(2),
            ..Default::default()
        };
        let room = room(&limits, 0);
        let on_other = Room { quotas: room.quotas.clone(), shard: 1, ..room };
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(["a", "b", "c"].map(|topic| stored(topic, b"1")), [Retention::Kept; 3]);
        assert_eq!(other.store(kept("d", b"1", Time::NEVER), &on_other), Retention::Kept);
        assert_eq!(other.store(kept("e", b"1", Time::NEVER), &on_other), Retention::Refused, "there are four");
        assert_eq!(stored("b", b""), Retention::Cleared);
        assert_eq!(other.store(kept("e", b"1", Time::NEVER), &on_other), Retention::Kept);
        assert_eq!(stored("a", b"too long"), Retention::Refused);
        assert_eq!((store.len(), matching(&store, "#", Time::ZERO)), (1, vec![b"1".to_vec()]));
    }

    #[test]
    fn what_is_about_the_broker_itself_is_kept_whatever_clients_have_filled() {
        let mut store = Store::new(1);
        let bytes = kept("a", b"1", Time::NEVER).message.size();
        let limits = RetainedConfig {
            max_messages: Limit::at_most(1),
            max_total_bytes: Limit::at_most(bytes),
            max_message_bytes: Limit::at_most(1),
        };
        let room = room(&limits, 0);
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(stored("$SYS/broker/uptime", b"1"), Retention::Kept);
        assert_eq!(stored("a", b"1"), Retention::Kept, "the other one does not count");
        assert_eq!(stored("b", b"1"), Retention::Refused);
        assert_eq!(stored("$SYS/broker/uptime", b"21"), Retention::Kept);
        assert_eq!(stored("$SYS/broker/version", b"1"), Retention::Kept);
        assert_eq!(stored("a", b"2"), Retention::Kept);
        assert_eq!(stored("$SYS/broker/version", b""), Retention::Cleared);
        assert_eq!(stored("$SYSTEM", b"1"), Retention::Refused, "that is somebody else");
        assert_eq!((store.len(), matching(&store, "$SYS/#", Time::ZERO)), (2, vec![b"21".to_vec()]));
        let expiring = kept("$SYS/broker/uptime", b"3", Time::from_millis(5));
        store.store(expiring, &room);
        assert_eq!(store.forget_expired(Time::from_millis(5)), (0, 0), "of clients");
        assert_eq!((store.len(), store.bytes(), store.own, store.own_bytes), (1, bytes, 0, 0));
    }

    #[test]
    fn the_bytes_of_all_shards_are_limited_together() {
        let size = kept("a", b"1", Time::NEVER).message.size();
        let limits = RetainedConfig { max_total_bytes: Limit::at_most(2 * size + 1), ..Default::default() };
        let (mut store, room) = (Store::new(1), room(&limits, 0));
        let mut stored = |topic, payload: &[u8]| store.store(kept(topic, payload, Time::NEVER), &room);
        assert_eq!(
            ["a", "b", "c"].map(|topic| stored(topic, b"1")),
            [Retention::Kept, Retention::Kept, Retention::Refused]
        );
        assert_eq!(
            [&b"12"[..], b"123", b"1"].map(|payload| stored("a", payload)),
            [Retention::Kept, Retention::Refused, Retention::Kept,]
        );
        assert_eq!(store.bytes(), 2 * size);
    }

    #[test]
    fn what_has_expired_is_not_found_and_is_forgotten() {
        let (mut store, room, at) = (Store::new(1), room(&RetainedConfig::default(), 0), Time::from_millis(5));
        store.store(kept("a", b"1", at), &room);
        store.store(kept("b", b"2", Time::NEVER), &room);
        assert_eq!(matching(&store, "#", at), [b"2".to_vec()]);
        store.forget_expired(at);
        assert_eq!(store.len(), 1);
        assert_eq!(store.bytes(), kept("b", b"2", Time::NEVER).message.size());
    }
}
