//! What shards ask each other about retained messages: one page at a time.

use std::sync::Arc;

use crate::config::RetainedConfig;
use crate::message::Message;
use crate::topic::FilterSet;

/// Most bytes of a page, but that it has one message at least, however large.
const BYTES: usize = 256 * 1024;
/// Topics that are looked at for one page, and nodes of its set of filters: so a page costs no more when hardly anything matches.
const TOPICS: usize = 1024;
const NODES: usize = 16 * TOPICS;

/// A question to the shard that owns topics.
#[derive(Debug)]
pub struct RetainedQuestion {
    /// The asking shard's number for it.
    pub token: u64,
    /// The mountpoint.
    pub mountpoint: Arc<str>,
    /// The filters; those of a higher QoS first.
    pub filters: Arc<FilterSet>,
    /// The topic to begin with, or a text before it.
    pub from: Box<str>,
    /// For each shard: what has a higher number comes live.
    pub sent: Arc<[u64]>,
    /// How many messages of each shard must have been applied before it is answered.
    pub after: Box<[u64]>,
}

/// The answer of the owner.
#[derive(Debug)]
pub struct RetainedPage {
    /// The number of the question.
    pub token: u64,
    /// The shard that answers.
    pub owner: usize,
    /// Retained messages in the order of their topics, each with the place of its filter.
    pub messages: Vec<(u32, Message)>,
    /// Where the next page begins; none if this is the last.
    pub next: Option<Box<str>>,
    /// How many messages of each shard had been applied.
    pub applied: Box<[u64]>,
}

/// How much there is on a page, and is done for it.
pub(super) struct PageLimits {
    pub messages: usize,
    pub bytes: usize,
    pub topics: usize,
    pub nodes: usize,
}

impl PageLimits {
    pub fn of(config: &RetainedConfig) -> Self {
        PageLimits { messages: config.page_messages, bytes: BYTES, topics: TOPICS, nodes: NODES }
    }
}
