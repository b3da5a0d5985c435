//! Everybody who subscribes to one filter.

use smallvec::SmallVec;

use super::group::Group;
use super::subscriber::Subscriber;
use crate::sharding::ShardSet;
use crate::topic::TopicFilter;

/// Everybody who subscribes to one filter.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Sessions of this shard.
    pub local: SmallVec<[Subscriber; 1]>,
    /// Shared subscriptions to this filter.
    pub groups: Vec<Group>,
    /// Shards that have subscribers.
    pub remote: ShardSet,
}

impl Subscribers {
    /// The shared subscription `filter`, made if there is none.
    pub fn group(&mut self, filter: &TopicFilter) -> &mut Group {
        let known = self.groups.iter().position(|group| *group.filter == *filter);
        let at = known.unwrap_or_else(|| {
            self.groups.push(Group::new(filter.clone()));
            self.groups.len() - 1
        });
        &mut self.groups[at]
    }

    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.groups.is_empty() && self.remote.is_empty()
    }
}
