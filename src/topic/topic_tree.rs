//! Topic names by the filters that match them: retained messages.
//!
//! All topics are in one flat map by their text: storing over, reading and clearing one is one look-up, and so is the
//! query of a filter without wildcards. They are in a tree of levels too, which the other queries walk: down the
//! levels that the filter names, all children where it says `+`, everything below where it says `#`. The walk
//! goes along parents and siblings, so it needs no stack, and sees each node once.

use ahash::RandomState;
use indexmap::IndexMap;
use smallvec::SmallVec;

use super::levels::{Level, Levels, NONE, ROOT};
use super::{TopicFilter, seeded, shrink};

/// Levels of a filter that are kept without allocating.
const INLINE_DEPTH: usize = 16;

/// A map from topic names to `T` that is asked with topic filters.
pub struct TopicTree<T> {
    topics: IndexMap<Box<str>, Kept<T>, RandomState>,
    levels: Levels<Here>,
}

/// One per topic.
struct Kept<T> {
    /// Its last level in `levels`.
    node: u32,
    value: T,
}

/// The position in `topics` of the topic that ends with this level, or [`NONE`].
struct Here(u32);

impl Default for Here {
    fn default() -> Self {
        Here(NONE)
    }
}

impl<T> TopicTree<T> {
    /// An empty tree. What hashes depend on is `seed`: random in production, so that nobody can choose topics that collide.
    pub fn new(seed: u64) -> Self {
        let hasher = seeded(seed);
        TopicTree { topics: IndexMap::with_hasher(hasher.clone()), levels: Levels::new(hasher) }
    }

    /// Keeps `value` for `topic`, a checked topic name; returns what it replaces.
    pub fn insert(&mut self, topic: &str, value: T) -> Option<T> {
        if let Some(kept) = self.topics.get_mut(topic) {
            return Some(std::mem::replace(&mut kept.value, value));
        }
        let node =
            topic.split('/').fold(ROOT, |node, level| self.levels.child_or_new(node, &Level::new(level.as_bytes())));
        self.levels.marks_mut(node).0 = self.topics.len() as u32;
        self.topics.insert(topic.into(), Kept { node, value });
        None
    }

    /// What is kept for `topic`.
    pub fn get(&self, topic: &str) -> Option<&T> {
        self.topics.get(topic).map(|kept| &kept.value)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, topic: &str) -> Option<&mut T> {
        self.topics.get_mut(topic).map(|kept| &mut kept.value)
    }

    /// Removes and returns what is kept for `topic`. Memory follows when most of it is unused.
    pub fn remove(&mut self, topic: &str) -> Option<T> {
        let index = self.topics.get_index_of(topic)?;
        let value = self.remove_at(index)?;
        self.give_back();
        Some(value)
    }

    /// Calls `found` with each topic that [`filter.filter()`](TopicFilter::filter) matches and what is kept for it, in no
    /// particular order. Topics that begin with `$` are not matched by a wildcard in the first level `[MQTT-4.7.2-1]`.
    pub fn matching<'t>(&'t self, filter: &TopicFilter, found: &mut impl FnMut(&'t str, &'t T)) {
        if filter.has_wildcard() {
            self.walk(filter.filter(), found);
        } else if let Some((topic, kept)) = self.topics.get_key_value(filter.filter()) {
            found(topic, &kept.value);
        }
    }

    /// Looks at up to `most` topics, those before position `end`, and removes those for which `keep` is false. Gives the position to go on
    /// from: zero when all have been looked at. One goes through all that are there in the meantime when one begins with `usize::MAX`.
    pub fn retain_some(&mut self, end: usize, most: usize, mut keep: impl FnMut(&str, &mut T) -> bool) -> usize {
        let end = end.min(self.topics.len());
        let begin = end.saturating_sub(most);
        // From the end, since the last topic, which has been looked at, takes the place of a removed one.
        for index in (begin..end).rev() {
            let unwanted = self.topics.get_index_mut(index).is_some_and(|(topic, kept)| !keep(topic, &mut kept.value));
            if unwanted {
                self.remove_at(index);
            }
        }
        self.give_back();
        begin
    }

    /// Every topic and what is kept for it, in no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.topics.iter().map(|(topic, kept)| (&**topic, &kept.value))
    }

    /// How many topics are kept.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether no topic is kept.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// As [`matching`](Self::matching), for a filter with wildcards.
    fn walk<'t>(&'t self, filter: &str, found: &mut impl FnMut(&'t str, &'t T)) {
        let path: SmallVec<[Level<'_>; INLINE_DEPTH]> =
            filter.split('/').map(|level| Level::new(level.as_bytes())).collect();
        // The node that the first `depth` levels of the filter led to.
        let (mut node, mut depth) = (ROOT, 0);
        loop {
            let next = match path.get(depth) {
                None => {
                    self.report(node, found);
                    NONE
                }
                Some(level) if level.text == b"#" => {
                    self.subtree(node, found);
                    NONE
                }
                Some(level) if level.text == b"+" => self.matched_by_plus(self.levels.first_child(node)),
                Some(level) => self.levels.child(node, level).unwrap_or(NONE),
            };
            if next != NONE {
                (node, depth) = (next, depth + 1);
                continue;
            }
            // Up to the nearest level where `+` has another child to offer.
            loop {
                if node == ROOT {
                    return;
                }
                if path[depth - 1].text == b"+" {
                    let sibling = self.matched_by_plus(self.levels.next_sibling(node));
                    if sibling != NONE {
                        node = sibling;
                        break;
                    }
                }
                (node, depth) = (self.levels.parent(node), depth - 1);
            }
        }
    }

    /// Reports `top` and all that is below it.
    fn subtree<'t>(&'t self, top: u32, found: &mut impl FnMut(&'t str, &'t T)) {
        let mut node = top;
        loop {
            self.report(node, found);
            let mut next = self.matched_by_plus(self.levels.first_child(node));
            while next == NONE {
                if node == top {
                    return;
                }
                next = self.matched_by_plus(self.levels.next_sibling(node));
                node = self.levels.parent(node);
            }
            node = next;
        }
    }

    /// `node`, or the first of the siblings after it, that a wildcard may match: any but `$...` in the first level
    /// `[MQTT-4.7.2-1]`.
    fn matched_by_plus(&self, mut node: u32) -> u32 {
        while node != NONE && self.levels.parent(node) == ROOT && self.levels.label(node).first() == Some(&b'$') {
            node = self.levels.next_sibling(node);
        }
        node
    }

    fn report<'t>(&'t self, node: u32, found: &mut impl FnMut(&'t str, &'t T)) {
        if let Some((topic, kept)) = self.topics.get_index(self.levels.marks(node).0 as usize) {
            found(topic, &kept.value);
        }
    }

    /// Removes the topic at position `index` and the levels that only it needed.
    fn remove_at(&mut self, index: usize) -> Option<T> {
        let (_, Kept { mut node, value }) = self.topics.swap_remove_index(index)?;
        self.levels.marks_mut(node).0 = NONE;
        while node != ROOT && self.levels.first_child(node) == NONE && self.levels.marks(node).0 == NONE {
            node = self.levels.remove_leaf(node);
        }
        if let Some((_, moved)) = self.topics.get_index(index) {
            self.levels.marks_mut(moved.node).0 = index as u32;
        }
        Some(value)
    }

    /// Returns memory if most of it is unused.
    fn give_back(&mut self) {
        shrink(&mut self.topics);
        let Some(moved) = self.levels.compact() else { return };
        for kept in self.topics.values_mut() {
            kept.node = moved[kept.node as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::{TopicName, arbitrary};
    use super::*;

    fn matching<'t, T: Copy>(tree: &'t TopicTree<T>, filter: &TopicFilter) -> BTreeMap<&'t str, T> {
        let mut found = BTreeMap::new();
        tree.matching(filter, &mut |topic, &value| {
            assert!(found.insert(topic, value).is_none(), "{topic} was found twice");
        });
        found
    }

    fn topics(tree: &TopicTree<u32>, filter: &str) -> Vec<String> {
        let filter = TopicFilter::parse(filter, usize::MAX).unwrap();
        matching(tree, &filter).into_keys().map(str::to_owned).collect()
    }

    /// [MQTT-4.7.2-1]
    #[test]
    fn wildcards_in_the_first_level_do_not_find_dollar_topics() {
        let mut tree = TopicTree::new(1);
        for topic in ["$SYS", "$SYS/a", "$x/a", "b/$a", "b/a", "c"] {
            tree.insert(topic, 0);
        }
        assert_eq!(topics(&tree, "#"), ["b/$a", "b/a", "c"]);
        assert_eq!(topics(&tree, "$share/g/#"), ["b/$a", "b/a", "c"]);
        assert_eq!(topics(&tree, "+/#"), ["b/$a", "b/a", "c"]);
        assert_eq!(topics(&tree, "+/a"), ["b/a"]);
        assert_eq!(topics(&tree, "$SYS/#"), ["$SYS", "$SYS/a"]);
        assert_eq!(topics(&tree, "$x/+"), ["$x/a"]);
    }

    #[test]
    fn thousands_of_levels_are_walked() {
        let deep = ["a"; 30_000].join("/");
        let mut tree = TopicTree::new(1);
        tree.insert(&deep, 1);
        tree.insert(&deep[2..], 2);
        assert_eq!(topics(&tree, "#").len(), 2);
        assert_eq!(topics(&tree, &["+"; 30_000].join("/")), std::slice::from_ref(&deep));
        assert_eq!(tree.remove(&deep), Some(1));
        assert_eq!(tree.remove(&deep[2..]), Some(2));
        assert!(tree.levels.is_bare());
    }

    #[test]
    fn memory_returns() {
        let mut tree = TopicTree::new(1);
        (0..20_000).for_each(|n| assert_eq!(tree.insert(&format!("devices/{n}/state"), n), None));
        let full = tree.levels.capacity();
        assert_eq!(tree.retain_some(usize::MAX, usize::MAX, |_, &mut n| n % 50 == 0), 0);
        let rest = tree.levels.capacity();
        assert!(rest.0 < full.0 / 10 && rest.1 < full.1 / 10 && tree.topics.capacity() < 4_000, "{rest:?}");
        assert_eq!((tree.len(), topics(&tree, "devices/+/state").len()), (400, 400));
        assert_eq!((tree.get("devices/50/state"), tree.get("devices/51/state")), (Some(&50), None));
        (0..20_000).step_by(50).for_each(|n| assert_eq!(tree.remove(&format!("devices/{n}/state")), Some(n)));
        assert!(tree.levels.is_bare());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(String),
        Remove(String),
        Retain(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => arbitrary::topic().prop_map(Step::Insert),
            3 => arbitrary::topic().prop_map(Step::Remove),
            1 => (2..4_usize).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(
            steps in prop::collection::vec(step(), 1..120),
            filters in prop::collection::vec(arbitrary::filter(), 1..20),
            seed: u64,
        ) {
            let mut tree = TopicTree::new(seed);
            let mut model: BTreeMap<String, usize> = BTreeMap::new();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(topic) => prop_assert_eq!(tree.insert(&topic, value), model.insert(topic, value)),
                    Step::Remove(topic) => prop_assert_eq!(tree.remove(&topic), model.remove(&topic)),
                    Step::Retain(n) => {
                        let mut end = usize::MAX;
                        while end > 0 {
                            let mut looks = 0;
                            end = tree.retain_some(end, 3, |_, value| {
                                looks += 1;
                                *value % n != 0
                            });
                            prop_assert!(looks <= 3);
                        }
                        model.retain(|_, value| *value % n != 0);
                    }
                }
                prop_assert_eq!(tree.len(), model.len());
            }
            let same = |(topic, value): (&String, &usize)| tree.get(topic) == Some(value);
            prop_assert!(model.iter().all(same));
            prop_assert_eq!(tree.iter().count(), model.len());
            for filter in filters {
                let wanted = model.iter().map(|(topic, &value)| (&**topic, value));
                let wanted = wanted.filter(|(topic, _)| filter.matches(TopicName::trusted(topic)));
                prop_assert_eq!(matching(&tree, &filter), wanted.collect::<BTreeMap<_, _>>());
            }
            tree.retain_some(usize::MAX, usize::MAX, |_, _| false);
            prop_assert!(tree.is_empty() && tree.levels.is_bare());
        }
    }
}
