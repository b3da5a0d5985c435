//! What one new subscription needs to know of retained messages before its owners are asked.

use std::sync::Arc;

use crate::topic::TopicFilter;

/// A subscription that wants retained messages, until every shard has taken its filters in.
pub(super) struct Gathering {
    filters: Vec<TopicFilter>,
    /// For each shard, how many messages it had sent each owner when it took the filters in.
    sent: Vec<Box<[u64]>>,
}

/// The same when every shard has.
pub struct Gathered {
    /// The filters, those of a higher QoS first.
    pub(super) filters: Vec<TopicFilter>,
    /// For each owner, how many messages each shard had sent it: what has a higher number comes live.
    pub(super) sent: Vec<Arc<[u64]>>,
}

impl Gathering {
    pub fn new(filters: Vec<TopicFilter>, shards: usize) -> Self {
        Gathering { filters, sent: vec![Box::default(); shards] }
    }

    /// `shard` has taken the filters in, and had sent each owner so many messages.
    pub fn taken_in(&mut self, shard: usize, sent: Box<[u64]>) {
        self.sent[shard] = sent;
    }

    /// All have.
    pub fn finish(self) -> Gathered {
        let Gathering { filters, sent } = self;
        let of = |owner: usize| sent.iter().map(move |sent| sent.get(owner).copied().unwrap_or(0));
        Gathered { filters, sent: (0..sent.len()).map(|owner| of(owner).collect()).collect() }
    }
}
