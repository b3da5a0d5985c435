//! One mountpoint as a shard sees it: who subscribes to what, here and elsewhere, and the retained messages it keeps.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use super::retained::Retained;
use super::share::Group;
use crate::codec::QoS;
use crate::session::Subscription;
use crate::sharding::ShardSet;
use crate::topic::{FilterTree, TopicFilter};

/// One session's subscription to one filter, as the filter tree holds it: one per subscription, so kept small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The session, by its place in the table; with [`PROGRAM`] set, a subscription of the embedding program.
    pub session: u32,
    /// The Subscription Identifier; zero without one.
    pub id: u32,
    /// The QoS that was granted.
    pub qos: QoS,
    /// The client wants nothing of its own.
    pub no_local: bool,
    /// The client wants to see the RETAIN flag as it was published.
    pub retain_as_published: bool,
}

/// Marks subscriptions of the embedding program.
pub const PROGRAM: u32 = 1 << 31;

impl Subscriber {
    pub fn new(session: u32, subscription: Subscription) -> Self {
        Subscriber {
            session,
            id: subscription.id,
            qos: subscription.options.qos,
            no_local: subscription.options.no_local,
            retain_as_published: subscription.options.retain_as_published,
        }
    }
}

/// Everybody who subscribes to one filter.
#[derive(Debug, Default)]
pub struct Routes {
    /// Sessions of this shard.
    pub local: SmallVec<[Subscriber; 1]>,
    /// Shared subscriptions to this filter.
    pub groups: Vec<Group>,
    /// Shards that have subscribers.
    pub remote: ShardSet,
}

impl Routes {
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

/// One mountpoint.
pub struct Realm {
    /// Its name.
    pub name: Arc<str>,
    /// Filters and who subscribes to them.
    pub tree: FilterTree<Routes>,
    /// Retained messages that this shard keeps.
    pub retained: Retained,
}

impl Realm {
    /// The routes of `filter`, made if there are none.
    pub fn routes(&mut self, filter: &TopicFilter) -> &mut Routes {
        self.tree.entry(filter, Routes::default)
    }

    /// The members of the shared subscription `filter`.
    pub fn group(&self, filter: &TopicFilter) -> Option<&Group> {
        self.tree.get(filter)?.groups.iter().find(|group| *group.filter == *filter)
    }

    /// Forgets `filter` if nobody subscribes to it.
    pub fn prune(&mut self, filter: &TopicFilter) {
        if self.tree.get(filter).is_some_and(Routes::is_empty) {
            self.tree.remove(filter);
        }
    }
}

/// The mountpoints of a broker, numbered as this shard met them. They are named by configuration and hooks, not by clients,
/// so they are few and are never forgotten.
pub struct Realms {
    realms: Vec<Realm>,
    by_name: BTreeMap<Arc<str>, u32>,
    seed: u64,
    last: Cell<u32>,
}

impl Realms {
    pub fn new(seed: u64) -> Self {
        Realms { realms: Vec::new(), by_name: BTreeMap::new(), seed, last: Cell::new(0) }
    }

    /// The number of the mountpoint `name`.
    pub fn number(&mut self, name: &Arc<str>) -> u32 {
        let last = self.last.get();
        if self.realms.get(last as usize).is_some_and(|realm| realm.name == *name) {
            return last;
        }
        let number = match self.by_name.get(name) {
            Some(&number) => number,
            None => self.add(name.clone()),
        };
        self.last.set(number);
        number
    }

    fn add(&mut self, name: Arc<str>) -> u32 {
        let number = u32::try_from(self.realms.len()).expect("mountpoints are few");
        self.by_name.insert(name.clone(), number);
        self.realms.push(Realm { name, tree: FilterTree::new(self.seed), retained: Retained::new(self.seed) });
        number
    }

    pub fn iter(&self) -> impl Iterator<Item = &Realm> {
        self.realms.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Realm> {
        self.realms.iter_mut()
    }
}

impl std::ops::Index<u32> for Realms {
    type Output = Realm;

    fn index(&self, number: u32) -> &Realm {
        &self.realms[number as usize]
    }
}

impl std::ops::IndexMut<u32> for Realms {
    fn index_mut(&mut self, number: u32) -> &mut Realm {
        &mut self.realms[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountpoints_keep_their_numbers() {
        let mut realms = Realms::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!([realms.number(&a), realms.number(&b), realms.number(&a)], [0, 1, 0]);
        assert_eq!(&*realms[1].name, "b");
    }
}
