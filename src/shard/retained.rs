//! Retained messages of one mountpoint, as far as this shard keeps them.
//!
//! Each topic has one keeper among the shards, by hash. The shard of a publisher sends a retained message there, and keeps
//! a note of it until the keeper confirms: a subscriber that asks in between is told of it by the publisher's shard
//! ([`Recent`]), so that no order of mail between shards can hide it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::RetainedConfig;
use crate::message::Message;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicTree};

/// The retained messages that this shard keeps for one mountpoint.
pub struct Retained {
    messages: TopicTree<Message>,
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

    /// Keeps `message` as the last one of its topic. `share` is how many shards the limits are divided among, rounded up.
    pub fn store(&mut self, message: Message, limits: &RetainedConfig, share: usize) -> Retention {
        let size = message.size();
        if let Some(old) = self.messages.get_mut(message.topic().as_str())
            && !message.payload().is_empty()
            && limits.max_message_bytes.allows(message.payload().len())
            && limits.max_total_bytes.allows((self.bytes - old.size()) * share + size)
        {
            self.bytes = self.bytes - old.size() + size;
            *old = message;
            return Retention::Kept;
        }
        if let Some(old) = self.messages.remove(message.topic().as_str()) {
            self.bytes -= old.size();
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
        self.messages.insert(message.clone().topic().as_str(), message);
        Retention::Kept
    }

    /// The retained messages that match `filter` and have not expired.
    pub fn matching(&self, filter: &TopicFilter, now: Time) -> Vec<Message> {
        let mut found = Vec::new();
        self.messages.matching(filter, &mut |_, message| {
            if message.expires() > now {
                found.push(message.clone());
            }
        });
        found
    }

    /// Forgets what has expired.
    pub fn forget_expired(&mut self, now: Time) {
        let mut freed = 0;
        self.messages.retain(|_, message| {
            let keep = message.expires() > now;
            freed += if keep { 0 } else { message.size() };
            keep
        });
        self.bytes -= freed;
    }
}

/// Retained messages that were sent to their keeper and are not confirmed, for each keeper in the order of sending.
#[derive(Default)]
pub struct Recent {
    unconfirmed: Vec<VecDeque<(Arc<str>, Message)>>,
}

impl Recent {
    pub fn new(shards: usize) -> Self {
        Recent { unconfirmed: (0..shards).map(|_| VecDeque::new()).collect() }
    }

    pub fn sent(&mut self, keeper: usize, mountpoint: &Arc<str>, message: Message) {
        self.unconfirmed[keeper].push_back((mountpoint.clone(), message));
    }

    pub fn confirmed(&mut self, keeper: usize, count: u32) {
        let list = &mut self.unconfirmed[keeper];
        list.drain(..(count as usize).min(list.len()));
        if list.is_empty() {
            *list = VecDeque::new();
        }
    }

    /// The messages that match `filter`.
    pub fn matching(&self, mountpoint: &str, filter: &TopicFilter) -> Vec<Message> {
        self.unconfirmed
            .iter()
            .flatten()
            .filter(|(realm, message)| **realm == *mountpoint && filter.matches(message.topic()))
            .map(|(_, message)| message.clone())
            .collect()
    }
}
