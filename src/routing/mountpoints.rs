//! The mountpoints of a broker, each with the filters that are subscribed to in it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::Group;
use super::subscribers::Subscribers;
use crate::topic::{FilterTree, TopicFilter};

/// One mountpoint.
pub struct Mountpoint {
    /// Its name.
    pub name: Arc<str>,
    /// Filters and who subscribes to them.
    pub tree: FilterTree<Subscribers>,
}

impl Mountpoint {
    /// The subscribers to `filter`, made if there are none.
    pub fn subscribers(&mut self, filter: &TopicFilter) -> &mut Subscribers {
        self.tree.entry(filter, Subscribers::default)
    }

    /// The members of the shared subscription `filter`.
    pub fn group(&self, filter: &TopicFilter) -> Option<&Group> {
        self.tree.get(filter)?.known_group(filter)
    }

    /// Forgets `filter` if nobody subscribes to it.
    pub fn prune(&mut self, filter: &TopicFilter) {
        if self.tree.get(filter).is_some_and(Subscribers::is_empty) {
            self.tree.remove(filter);
        }
    }
}

/// The mountpoints of a broker, numbered as this shard met them. They are named by configuration and hooks, not by clients,
/// so they are few and are never forgotten.
pub struct Mountpoints {
    mountpoints: Vec<Mountpoint>,
    by_name: BTreeMap<Arc<str>, u32>,
    seed: u64,
    last: Cell<u32>,
}

impl Mountpoints {
    pub fn new(seed: u64) -> Self {
        Mountpoints { mountpoints: Vec::new(), by_name: BTreeMap::new(), seed, last: Cell::new(0) }
    }

    /// The number of the mountpoint `name`.
    #[inline]
    pub fn number(&mut self, name: &Arc<str>) -> u32 {
        let last = self.last.get();
        if self.mountpoints.get(last as usize).is_some_and(|mountpoint| Arc::ptr_eq(&mountpoint.name, name)) {
            return last;
        }
        self.number_by_name(name)
    }

    fn number_by_name(&mut self, name: &Arc<str>) -> u32 {
        let last = self.last.get();
        if self.mountpoints.get(last as usize).is_some_and(|mountpoint| mountpoint.name == *name) {
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
        let number = u32::try_from(self.mountpoints.len()).expect("mountpoints are few");
        self.by_name.insert(name.clone(), number);
        self.mountpoints.push(Mountpoint { name, tree: FilterTree::new(self.seed) });
        number
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mountpoint> {
        self.mountpoints.iter()
    }
}

impl std::ops::Index<u32> for Mountpoints {
    type Output = Mountpoint;

    fn index(&self, number: u32) -> &Mountpoint {
        &self.mountpoints[number as usize]
    }
}

impl std::ops::IndexMut<u32> for Mountpoints {
    fn index_mut(&mut self, number: u32) -> &mut Mountpoint {
        &mut self.mountpoints[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountpoints_keep_their_numbers() {
        let mut mountpoints = Mountpoints::new(1);
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert_eq!([mountpoints.number(&a), mountpoints.number(&b), mountpoints.number(&a)], [0, 1, 0]);
        assert_eq!(&*mountpoints[1].name, "b");
    }
}
