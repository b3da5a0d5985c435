//! What one new subscription needs to know of retained messages before its owners are asked.

use std::sync::Arc;

use crate::topic::TopicFilter;

/// A subscription that wants retained messages: complete when every shard has taken its filters in.
pub struct Gathered {
    /// The filters, those of a higher QoS first.
    pub(super) filters: Vec<TopicFilter>,
    /// For each owner, how many messages each shard had sent it when it took the filters in; or, if it had before, when the subscription took
    /// effect here. What has a higher number comes live.
    pub(super) sent: Vec<Arc<[u64]>>,
}

impl Gathered {
    /// A shard has taken the filters in, and had sent each owner so many messages by then.
    pub fn taken_in(&mut self, shard: usize, sent: impl Iterator<Item = u64>) {
        for (of_owner, sent) in self.sent.iter_mut().zip(sent) {
            if of_owner[shard] != sent {
                Arc::make_mut(of_owner)[shard] = sent;
            }
        }
    }
}
