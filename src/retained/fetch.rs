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
    pub after: Arc<[u64]>,
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
    /// By owner, how many messages each shard had sent it when it took the filters in; or, if it had before, when the subscription took
    /// effect here. What has a higher number comes live.
    sent: Vec<Arc<[u64]>>,
    live: Vec<Live>,
    answers: Vec<RetainedAnswer>,
    /// How many owners have not answered.
    pub(super) waiting: usize,
}

impl Fetch {
    pub(super) fn new(mountpoint: u32, filters: Vec<(u16, TopicFilter)>, sent: Vec<Arc<[u64]>>) -> Self {
        Fetch { mountpoint, filters: filters.into(), sent, live: Vec::new(), answers: Vec::new(), waiting: 0 }
    }

    /// A message to be retained goes to subscribers live: the subscription may need no other for its topic.
    pub(super) fn note_live(&mut self, topic: TopicName<'_>, shard: usize, number: u64) {
        if self.filters.iter().any(|(_, filter)| filter.matches(topic)) {
            self.live.push(Live { topic: topic.as_str().into(), shard, number });
        }
    }

    /// A shard has taken the filters in, and had sent each owner so many messages by then.
    pub(super) fn taken_in(&mut self, shard: usize, sent: impl Iterator<Item = u64>) {
        for (of_owner, sent) in self.sent.iter_mut().zip(sent) {
            if of_owner[shard] != sent {
                Arc::make_mut(of_owner)[shard] = sent;
            }
        }
    }

    /// How many messages of each shard the owner must have applied: as many as they had sent it.
    pub(super) fn after(&self, owner: usize) -> Arc<[u64]> {
        self.sent[owner].clone()
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
                let comes_live = number > self.sent[owner][shard];
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
