//! What one new subscription needs to know of retained messages.

use std::sync::Arc;

use super::Kept;
use crate::message::Message;
use crate::topic::{TopicFilter, TopicName};

/// A question to the shard that owns topics.
#[derive(Debug)]
pub struct RetainedQuestion {
    /// The asking shard's number for it.
    pub token: u64,
    /// The mountpoint.
    pub mountpoint: Arc<str>,
    /// The filters, each with its place among those that were granted; those of a higher QoS first.
    pub filters: Arc<[(u16, TopicFilter)]>,
    /// How many messages of each shard must have been applied before it is answered.
    pub after: Box<[u64]>,
}

/// The answer of the owner.
#[derive(Debug)]
pub struct RetainedAnswer {
    /// The number of the question.
    pub token: u64,
    /// The shard that answers.
    pub owner: usize,
    /// Retained messages, each with the place of its filter.
    pub messages: Vec<(u16, Kept)>,
    /// How many messages of each shard had been applied.
    pub applied: Box<[u64]>,
}

/// A retained message that came live while a subscription was being made.
struct Live {
    topic: Box<str>,
    /// The shard it was published on, and which of that shard's messages to its owner it is.
    shard: usize,
    number: u64,
}

/// What is known for one subscription.
pub(super) struct Fetch {
    pub(super) mountpoint: u32,
    pub(super) filters: Arc<[(u16, TopicFilter)]>,
    /// For each shard, how many messages it had sent each owner when it took the filters in.
    pub(super) sent: Vec<Box<[u64]>>,
    live: Vec<Live>,
    answers: Vec<RetainedAnswer>,
    /// How many owners have not answered.
    pub(super) waiting: usize,
}

impl Fetch {
    pub(super) fn new(mountpoint: u32, filters: Vec<(u16, TopicFilter)>, shards: usize) -> Self {
        Fetch {
            mountpoint,
            filters: filters.into(),
            sent: vec![Box::default(); shards],
            live: Vec::new(),
            answers: Vec::new(),
            waiting: 0,
        }
    }

    /// A message to be retained goes to subscribers live: the subscription may need no other for its topic.
    pub(super) fn note_live(&mut self, topic: TopicName<'_>, shard: usize, number: u64) {
        if self.filters.iter().any(|(_, filter)| filter.matches(topic)) {
            self.live.push(Live { topic: topic.as_str().into(), shard, number });
        }
    }

    /// How many messages of each shard the owner must have applied: as many as they had sent it.
    pub(super) fn after(&self, owner: usize) -> Box<[u64]> {
        self.sent.iter().map(|sent| sent.get(owner).copied().unwrap_or(0)).collect()
    }

    pub(super) fn answered(&mut self, answer: RetainedAnswer) {
        self.waiting -= 1;
        self.answers.push(answer);
    }

    /// What is to be sent [MQTT-3.3.1-9]: all that was found, but what comes live, or is older than what came live.
    pub(super) fn into_messages(mut self) -> Vec<(u16, Message)> {
        let mut messages = Vec::new();
        for RetainedAnswer { owner, messages: found, applied, .. } in std::mem::take(&mut self.answers) {
            for (at, Kept { message, shard, number }) in found {
                let comes_live = self.sent[shard].get(owner).is_some_and(|sent| number > *sent);
                let is_older =
                    |live: &Live| live.number > applied[live.shard] && *live.topic == *message.topic().as_str();
                if !comes_live && !self.live.iter().any(is_older) {
                    messages.push((at, message));
                }
            }
        }
        messages
    }
}
