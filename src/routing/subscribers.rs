//! Everybody who subscribes to one filter.

use std::collections::BTreeMap;

use super::group::Group;
use super::roster::Roster;
use crate::sharding::ShardSet;
use crate::topic::TopicFilter;

/// Everybody who subscribes to one filter.
#[derive(Debug, Default)]
pub struct Subscribers {
    /// Sessions of this shard.
    pub local: Roster,
    /// Shared subscriptions to this filter, by share name.
    groups: BTreeMap<Box<str>, Box<Group>>,
    /// Shards that have subscribers.
    pub remote: ShardSet,
    /// The announcement after which the other shards know that there are subscribers here.
    pub announced: u64,
}

impl Subscribers {
    /// The shared subscription `filter`, made if there is none.
    pub fn group(&mut self, filter: &TopicFilter) -> &mut Group {
        let name = share_name(filter);
        if !self.groups.contains_key(name) {
            self.groups.insert(name.into(), Box::new(Group::new(filter.clone())));
        }
        self.groups.get_mut(name).expect("it is there by now")
    }

    /// The shared subscription `filter`, if there is one.
    pub fn known_group(&self, filter: &TopicFilter) -> Option<&Group> {
        self.groups.get(share_name(filter)).map(|group| &**group)
    }

    /// As [`known_group`](Self::known_group), to change it.
    pub fn known_group_mut(&mut self, filter: &TopicFilter) -> Option<&mut Group> {
        self.groups.get_mut(share_name(filter)).map(|group| &mut **group)
    }

    /// Forgets the shared subscription `filter` if it has no member on any shard.
    pub fn forget_group_if_empty(&mut self, filter: &TopicFilter) {
        if self.known_group(filter).is_some_and(Group::is_empty) {
            self.groups.remove(share_name(filter));
        }
    }

    /// All shared subscriptions to this filter.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values().map(|group| &**group)
    }

    /// Whether there are shared subscriptions to this filter.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        self.local.is_empty() && self.groups.is_empty() && self.remote.is_empty()
    }
}

/// The name under which a shared subscription is kept.
fn share_name(filter: &TopicFilter) -> &str {
    filter.share_name().unwrap_or_default()
}
