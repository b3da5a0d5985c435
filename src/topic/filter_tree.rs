//! Filters by the topics they match: subscriptions, and what other shards are interested in.
//!
//! All filters are in one flat map by their text, so a topic finds the filter that spells it with one look-up. Those with
//! wildcards are also in a tree of levels, which a topic walks only if there is one; without wildcard filters that
//! part costs one comparison. A walk follows, from each node it reaches, the child with the name of the topic's next level
//! and the child `+`, and so sees each node at most once. It allocates nothing for topics of up to 16 levels.

use std::sync::Arc;

use ahash::RandomState;
use indexmap::IndexMap;

use super::levels::{Levels, NONE, ROOT};
use super::{TopicFilter, TopicName, seeded, shrink};

/// A map from topic filters to `T` that is asked with topic names.
///
/// The key is the filter without `$share/{ShareName}/`: shared and other subscriptions to a filter meet in the same `T`.
pub struct FilterTree<T> {
    filters: IndexMap<Arc<str>, Kept<T>, RandomState>,
    wildcards: Levels<Marks>,
}

/// One per filter.
struct Kept<T> {
    /// Where the filter ends in `wildcards`; [`NONE`] if it has no wildcards.
    node: u32,
    value: T,
}

/// What a level knows about filters: positions in `filters`, or [`NONE`].
struct Marks {
    /// The filter that ends with this level.
    here: u32,
    /// The filter that continues with `#` and so ends.
    hash: u32,
    /// The child `+`, to find it without looking.
    plus: u32,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { here: NONE, hash: NONE, plus: NONE }
    }
}

impl<T> FilterTree<T> {
    /// An empty tree. What hashes depend on is `seed`: random in production, so that nobody can choose filters that collide.
    pub fn new(seed: u64) -> Self {
        let hasher = seeded(seed);
        FilterTree { filters: IndexMap::with_hasher(hasher.clone()), wildcards: Levels::new(hasher) }
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter).
    pub fn get(&self, filter: &TopicFilter) -> Option<&T> {
        self.filters.get(filter.filter()).map(|kept| &kept.value)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut T> {
        self.filters.get_mut(filter.filter()).map(|kept| &mut kept.value)
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter), put there now if there was nothing.
    pub fn entry(&mut self, filter: &TopicFilter, default: impl FnOnce() -> T) -> &mut T {
        let index = match self.filters.get_index_of(filter.filter()) {
            Some(index) => index,
            None => self.insert(filter, default()),
        };
        &mut self.filters[index].value
    }

    /// Removes and returns what is kept for [`filter.filter()`](TopicFilter::filter). Memory follows when most of it is
    /// unused.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<T> {
        let (index, text, kept) = self.filters.swap_remove_full(filter.filter())?;
        if kept.node != NONE {
            let marks = self.wildcards.marks_mut(kept.node);
            *(if text.ends_with('#') { &mut marks.hash } else { &mut marks.here }) = NONE;
            self.prune(kept.node);
        }
        self.moved(self.filters.len(), index);
        shrink(&mut self.filters);
        Some(kept.value)
    }

    /// Calls `found` once for every filter that matches `topic`, in no particular order.
    pub fn matching<'t>(&'t self, topic: TopicName<'_>, found: &mut impl FnMut(&'t T)) {
        if let Some(kept) = self.filters.get(topic.as_str()) {
            found(&kept.value);
        }
        if !self.wildcards.is_bare() || self.wildcards.marks(ROOT).hash != NONE {
            self.walk(topic, found);
        }
    }

    /// How many filters are kept.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether no filter is kept.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Every filter (without `$share/{ShareName}/`) and what is kept for it, in no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.filters.iter().map(|(text, kept)| (&**text, &kept.value))
    }

    /// As [`matching`](Self::matching), of the filters with wildcards.
    fn walk<'t>(&'t self, topic: TopicName<'_>, found: &mut impl FnMut(&'t T)) {
        let levels = &self.wildcards;
        let mut report = |index: u32| {
            if index != NONE {
                found(&self.filters[index as usize].value);
            }
        };
        // No wildcard in the first level for a topic that begins with `$` [MQTT-4.7.2-1].
        let wildcards_at = |node: u32| node != ROOT || !topic.is_dollar();
        let plus_of = |node: u32| if wildcards_at(node) { levels.marks(node).plus } else { NONE };

        let mut path = levels.path(topic.as_str());
        let (mut node, mut depth) = (ROOT, 0);
        loop {
            // `a/#` matches `a` too, so it counts at `a` already.
            if wildcards_at(node) {
                report(levels.marks(node).hash);
            }
            let next = match path.level(depth) {
                Some(level) => levels.child(node, level).unwrap_or_else(|| plus_of(node)),
                None => {
                    report(levels.marks(node).here);
                    NONE
                }
            };
            if next != NONE {
                (node, depth) = (next, depth + 1);
                continue;
            }
            // Up to the nearest level where `+` remains to be followed.
            loop {
                if node == ROOT {
                    return;
                }
                let parent = levels.parent(node);
                let plus = plus_of(parent);
                if plus != NONE && plus != node {
                    node = plus;
                    break;
                }
                (node, depth) = (parent, depth - 1);
            }
        }
    }

    /// Puts in a filter that is not there; returns its position.
    fn insert(&mut self, filter: &TopicFilter, value: T) -> usize {
        let index = self.filters.len();
        let node = if filter.has_wildcard() { self.mark(filter.filter(), index as u32) } else { NONE };
        self.filters.insert(filter.shared_filter(), Kept { node, value });
        index
    }

    /// Makes the levels of `filter` as far as they are missing, and the last one point to `index`; returns the last one.
    fn mark(&mut self, filter: &str, index: u32) -> u32 {
        let mut node = ROOT;
        for level in filter.split('/') {
            if level == "#" {
                self.wildcards.marks_mut(node).hash = index;
                return node;
            }
            let child = self.wildcards.child_or_new(node, level.as_bytes());
            if level == "+" {
                self.wildcards.marks_mut(node).plus = child;
            }
            node = child;
        }
        self.wildcards.marks_mut(node).here = index;
        node
    }

    /// Removes `node` and the levels above it, as far up as no filter needs them.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.wildcards.first_child(node) == NONE {
            let marks = self.wildcards.marks(node);
            if marks.here != NONE || marks.hash != NONE {
                break;
            }
            let parent = self.wildcards.remove_leaf(node);
            let marks = self.wildcards.marks_mut(parent);
            if marks.plus == node {
                marks.plus = NONE;
            }
            node = parent;
        }
        let Some(moved) = self.wildcards.compact() else { return };
        for marks in self.wildcards.all_marks_mut().filter(|marks| marks.plus != NONE) {
            marks.plus = moved[marks.plus as usize];
        }
        for kept in self.filters.values_mut().filter(|kept| kept.node != NONE) {
            kept.node = moved[kept.node as usize];
        }
    }

    /// The filter that was at position `from` is at `to` now, if there is one: tells its level.
    fn moved(&mut self, from: usize, to: usize) {
        let Some((text, kept)) = self.filters.get_index(to).filter(|(_, kept)| kept.node != NONE) else { return };
        let marks = self.wildcards.marks_mut(kept.node);
        let mark = if text.ends_with('#') { &mut marks.hash } else { &mut marks.here };
        debug_assert!(*mark == from as u32 || *mark == to as u32);
        *mark = to as u32;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, usize::MAX).expect(text)
    }

    fn matching<T: Clone + Ord>(tree: &FilterTree<T>, topic: &str) -> Vec<T> {
        let mut found = Vec::new();
        tree.matching(TopicName::parse(topic, usize::MAX).expect(topic), &mut |value| found.push(value.clone()));
        found.sort();
        found
    }

    #[test]
    fn shared_and_other_subscriptions_meet() {
        let mut tree = FilterTree::new(1);
        *tree.entry(&filter("a/+"), || 0) += 1;
        *tree.entry(&filter("$share/g/a/+"), || 0) += 1;
        assert_eq!((tree.len(), tree.get(&filter("$share/h/a/+"))), (1, Some(&2)));
        assert_eq!(tree.iter().collect::<Vec<_>>(), [("a/+", &2)]);
        assert_eq!(tree.remove(&filter("$share/i/a/+")), Some(2));
        assert!(tree.is_empty());
    }

    /// [MQTT-4.7.2-1]
    #[test]
    fn wildcards_in_the_first_level_do_not_find_dollar_topics() {
        let mut tree = FilterTree::new(1);
        for text in ["#", "+/a", "+/#", "$SYS/#", "$SYS/+", "$SYS/a", "$share/g/+/+"] {
            tree.entry(&filter(text), || text);
        }
        assert_eq!(matching(&tree, "$SYS/a"), ["$SYS/#", "$SYS/+", "$SYS/a"]);
        assert_eq!(matching(&tree, "b/a"), ["#", "$share/g/+/+", "+/#", "+/a"]);
    }

    #[test]
    fn the_only_filter_may_be_hash() {
        let mut tree = FilterTree::new(1);
        tree.entry(&filter("#"), || 1);
        assert_eq!(matching(&tree, "a/b"), [1]);
        assert_eq!(matching(&tree, "$SYS"), []);
        tree.remove(&filter("#"));
        assert_eq!(matching(&tree, "a/b"), []);
    }

    /// Every node is visited once: 2^12 filters over `a` and `+` are found once each, and thousands of levels are walked
    /// without recursion.
    #[test]
    fn walks_do_not_explode() {
        let mut tree = FilterTree::new(1);
        for bits in 0..1_u32 << 12 {
            let levels: Vec<_> = (0..12).map(|bit| if bits >> bit & 1 == 0 { "a" } else { "+" }).collect();
            tree.entry(&filter(&levels.join("/")), || bits);
        }
        assert_eq!(matching(&tree, &["a"; 12].join("/")), (0..1 << 12).collect::<Vec<_>>());
        assert_eq!(matching(&tree, &["a"; 13].join("/")), []);

        let deep = 30_000;
        let mut tree = FilterTree::new(1);
        let texts = [vec!["+"; deep].join("/"), vec!["a"; deep].join("/"), format!("{}#", "+/".repeat(deep))];
        for (value, text) in texts.iter().enumerate() {
            tree.entry(&filter(text), || value);
        }
        assert_eq!(matching(&tree, &texts[1]), [0, 1, 2]);
        assert_eq!(matching(&tree, &format!("{}/b", texts[1])), [2]);
        texts.iter().for_each(|text| assert!(tree.remove(&filter(text)).is_some()));
        assert!(tree.wildcards.is_bare());
    }

    #[test]
    fn memory_returns() {
        let mut tree = FilterTree::new(1);
        let text = |n: u32| filter(&format!("site/{}/device {n}/{}", n % 7, ["state", "+", "#"][n as usize % 3]));
        (0..20_000).for_each(|n| *tree.entry(&text(n), || 0) = n);
        let full = tree.wildcards.capacity();
        assert!(full.0 > 20_000 && full.1 > 20_000 && tree.filters.capacity() >= 20_000);
        (0..20_000).filter(|n| n % 50 != 0).for_each(|n| assert_eq!(tree.remove(&text(n)), Some(n)));
        let rest = tree.wildcards.capacity();
        assert!(rest.0 < full.0 / 10 && rest.1 < full.1 / 10 && tree.filters.capacity() < 4_000, "{rest:?}");
        for n in (0..20_000).step_by(50) {
            assert_eq!(tree.get(&text(n)), Some(&n));
            assert_eq!(matching(&tree, &format!("site/{}/device {n}/state", n % 7)), [n]);
        }
    }

    proptest! {
        #[test]
        fn finds_what_each_filter_matches(
            filters in prop::collection::vec(arbitrary::filter(), 0..40),
            topics in prop::collection::vec(arbitrary::topic(), 1..20),
            seed: u64,
        ) {
            let mut tree = FilterTree::new(seed);
            let mut model = BTreeMap::new();
            for filter in filters {
                tree.entry(&filter, || filter.filter().to_owned());
                model.insert(filter.filter().to_owned(), filter);
            }
            for topic in topics {
                let name = TopicName::parse(&topic, 9).unwrap();
                let wanted = model.iter().filter(|(_, filter)| filter.matches(name)).map(|(text, _)| text.clone());
                prop_assert_eq!(matching(&tree, &topic), wanted.collect::<Vec<_>>());
            }
        }

        #[test]
        fn putting_in_and_taking_out_leaves_what_a_map_has(
            steps in prop::collection::vec((arbitrary::filter(), any::<bool>()), 1..150),
            topic in arbitrary::topic(),
        ) {
            let mut tree = FilterTree::new(5);
            let mut model: BTreeMap<String, (TopicFilter, usize)> = BTreeMap::new();
            for (value, (filter, put)) in steps.into_iter().enumerate() {
                let key = filter.filter().to_owned();
                if put {
                    *tree.entry(&filter, || 0) = value;
                    model.insert(key, (filter, value));
                } else {
                    prop_assert_eq!(tree.remove(&filter), model.remove(&key).map(|(_, value)| value));
                }
                prop_assert_eq!(tree.len(), model.len());
            }
            let all: BTreeMap<_, _> = tree.iter().collect();
            prop_assert_eq!(&all, &model.iter().map(|(text, (_, value))| (&**text, value)).collect::<BTreeMap<_, _>>());
            let name = TopicName::parse(&topic, 9).unwrap();
            let mut wanted: Vec<_> = model.values().filter(|(filter, _)| filter.matches(name)).map(|&(_, v)| v).collect();
            wanted.sort_unstable();
            prop_assert_eq!(matching(&tree, &topic), wanted);
            for (filter, value) in model.values() {
                prop_assert_eq!(tree.get(filter), Some(value));
                prop_assert_eq!(tree.remove(filter), Some(*value));
            }
            prop_assert!(tree.is_empty() && tree.wildcards.is_bare());
        }
    }
}
