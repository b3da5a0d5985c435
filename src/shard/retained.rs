//! Retained messages of one mountpoint, as far as this shard keeps them. Which shard keeps what, and how a subscriber gets
//! to know of it: `keeper`.

use crate::config::RetainedConfig;
use crate::message::Message;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicTree};

/// A retained message, and where it came from: one for each topic.
#[derive(Clone, Debug)]
pub struct Kept {
    pub message: Message,
    /// The shard it was published on.
    pub source: usize,
    /// Which of that shard's messages to this keeper it is.
    pub number: u64,
}

/// The retained messages that this shard keeps for one mountpoint.
pub struct Retained {
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

impl Retained {
    pub fn new(seed: u64) -> Self {
        Retained { messages: TopicTree::new(seed), bytes: 0 }
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps `kept` as the last message of its topic. `share` is how many shards the limits are divided among, rounded up.
    pub fn store(&mut self, kept: Kept, limits: &RetainedConfig, share: usize) -> Retention {
        let message = kept.message.clone();
        let size = message.size();
        if let Some(old) = self.messages.get_mut(message.topic().as_str())
            && !message.payload().is_empty()
            && limits.max_message_bytes.allows(message.payload().len())
            && limits.max_total_bytes.allows((self.bytes - old.message.size()) * share + size)
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
            && limits.max_messages.allows(self.messages.len() * share + 1)
            && limits.max_total_bytes.allows(self.bytes * share + size);
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

    /// Forgets what has expired.
    pub fn forget_expired(&mut self, now: Time) {
        let mut freed = 0;
        self.messages.retain(|_, kept| {
            let keep = kept.message.expires() > now;
            freed += if keep { 0 } else { kept.message.size() };
            keep
        });
        self.bytes -= freed;
    }
}
