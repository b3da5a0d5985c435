//! Filters by the topics they match: subscriptions, and what other shards are interested in.
//!
//! Filters without wildcards are in one flat table by their text, so a topic finds the one that spells it with one look-up.
//! Those with wildcards are in a tree of levels, which costs a comparison while there are none. A topic is taken through it
//! level by level, together with all nodes it has reached: from each on to the child with the name of the level and to the
//! child `+`. So each level of the topic is cut and hashed once, each node is seen at most once, and nothing is allocated
//! unless dozens of nodes are reached. How many can be reached [`Shapes`] says.

use std::sync::Arc;

use ahash::RandomState;
use smallvec::SmallVec;

use super::levels::{Level, Levels, NONE, ROOT};
use super::{Shapes, TopicFilter, TopicName, seeded};
use crate::tables::{PartedTable, Slots};

/// Nodes that a topic can reach at one depth without anything being allocated.
const INLINE_REACHED: usize = 32;

/// So many levels, and as many filters with wildcards, are moved to other places when one has gone.
const BROUGHT_FORWARD: usize = 4;

/// A map from topic filters to `T` that is asked with topic names.
///
/// The key is the filter without `$share/{ShareName}/`: shared and other subscriptions to a filter meet in the same `T`.
pub struct FilterTree<T> {
    exact: PartedTable<Exact<T>>,
    wildcards: Slots<Option<Wildcard<T>>>,
    /// Where in `wildcards` each filter is, by its text.
    positions: PartedTable<Position>,
    levels: Levels<Marks>,
    /// Of the filters with wildcards.
    shapes: Shapes,
    hasher: RandomState,
}

/// One per filter without wildcards. The hash is kept so that the table can grow without reading a million texts.
struct Exact<T> {
    hash: u64,
    text: Arc<str>,
    value: T,
}

/// One per filter with wildcards.
struct Wildcard<T> {
    text: Arc<str>,
    /// Where the filter ends in `levels`.
    node: u32,
    value: T,
}

/// The position of a filter with wildcards, with the upper half of its hash, so that the table can grow without reading a million texts.
struct Position {
    hash: u32,
    at: u32,
}

/// What a level knows about filters: positions in `wildcards`, or [`NONE`].
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

impl Marks {
    /// The mark of a filter that ends here, or with `#` below.
    fn end_of(&mut self, filter: &str) -> &mut u32 {
        if filter.ends_with('#') { &mut self.hash } else { &mut self.here }
    }
}

impl Position {
    fn hash(hash: u64) -> u32 {
        (hash >> 32) as u32
    }

    /// The hash as the table wants it, with its entropy at both ends.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn spread_own(&self) -> u64 {
        Position::spread(self.hash)
    }
}

impl<T> Exact<T> {
    fn is(&self, hash: u64, text: &str) -> bool {
        self.hash == hash && *self.text == *text
    }
}

impl<T> FilterTree<T> {
    /// An empty tree. What hashes depend on is `seed`: random in production, so that nobody can choose filters that collide.
    pub fn new(seed: u64) -> Self {
        let hasher = seeded(seed);
        FilterTree {
            exact: PartedTable::new(),
            wildcards: Slots::new(),
            positions: PartedTable::new(),
            levels: Levels::new(hasher.clone()),
            shapes: Shapes::new(),
            hasher,
        }
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter).
    pub fn get(&self, filter: &TopicFilter) -> Option<&T> {
        let text = filter.filter();
        if filter.has_wildcard() { Some(&self.wildcard(self.position(text)?)?.value) } else { self.exactly(text) }
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, filter: &TopicFilter) -> Option<&mut T> {
        let text = filter.filter();
        if filter.has_wildcard() {
            let at = self.position(text)?;
            return self.wildcards[at].as_mut().map(|kept| &mut kept.value);
        }
        let hash = self.hasher.hash_one(text);
        self.exact.find_mut(hash, |exact| exact.is(hash, text)).map(|exact| &mut exact.value)
    }

    /// What is kept for [`filter.filter()`](TopicFilter::filter), put there now if there was nothing.
    pub fn entry(&mut self, filter: &TopicFilter, default: impl FnOnce() -> T) -> &mut T {
        let text = filter.filter();
        if filter.has_wildcard() {
            let at = match self.position(text) {
                Some(at) => at,
                None => self.insert_wildcard(filter, default()),
            };
            return &mut self.wildcards[at].as_mut().expect("there is a filter at its position").value;
        }
        let hash = self.hasher.hash_one(text);
        let make = || Exact { hash, text: filter.shared_filter(), value: default() };
        &mut self.exact.find_or_insert_with(hash, |exact| exact.is(hash, text), make, |exact| exact.hash).value
    }

    /// Removes and returns what is kept for [`filter.filter()`](TopicFilter::filter). Memory follows when most of it is
    /// unused.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<T> {
        if filter.has_wildcard() { self.remove_wildcard(filter.filter()) } else { self.remove_exact(filter.filter()) }
    }

    /// Calls `found` once for every filter that matches `topic`, in no particular order. Gives how many nodes it looked at.
    pub fn matching<'t>(&'t self, topic: TopicName<'_>, found: &mut impl FnMut(&'t T)) -> usize {
        if let Some(value) = self.exactly(topic.as_str()) {
            found(value);
        }
        if self.wildcards.is_empty() { 0 } else { self.walk(topic, found) }
    }

    /// The memory it takes, in bytes: without the texts of filters, which others share, and what values hold elsewhere.
    pub fn allocated(&self) -> usize {
        self.exact.allocated()
            + self.wildcards.allocated()
            + self.positions.allocated()
            + self.levels.allocated()
            + self.shapes.allocated()
    }

    /// The shapes of its filters: they bound how many nodes [`matching`](Self::matching) looks at.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// How many filters are kept.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    /// Whether no filter is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every filter (without `$share/{ShareName}/`) and what is kept for it, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let exact = self.exact.iter().map(|exact| (&*exact.text, &exact.value));
        exact.chain(self.wildcards.iter().flatten().map(|kept| (&*kept.text, &kept.value)))
    }

    // For each message.
    #[inline(always)]
    fn exactly(&self, text: &str) -> Option<&T> {
        if self.exact.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        self.exact.find(hash, |exact| exact.is(hash, text)).map(|exact| &exact.value)
    }

    /// As [`matching`](Self::matching), of the filters with wildcards.
    fn walk<'t>(&'t self, topic: TopicName<'_>, found: &mut impl FnMut(&'t T)) -> usize {
        // Most of the time one node at each depth leads on, which needs no list.
        let mut node = ROOT;
        // No wildcard in the first level for a topic that begins with `$` [MQTT-4.7.2-1].
        let mut wildcards_count = !topic.is_dollar();
        let mut rest = Some(topic.as_str().as_bytes());
        let mut looked_at = 0;
        while let Some(text) = rest {
            let (level, behind) = Level::cut(text);
            looked_at += 1;
            let marks = self.levels.marks(node);
            let mut plus = NONE;
            if wildcards_count {
                self.report(marks.hash, found);
                plus = marks.plus;
            }
            node = match self.levels.child(node, &level) {
                Some(child) if plus == NONE => child,
                Some(child) => return looked_at + self.walk_on([plus, child], behind, found),
                None if plus == NONE => return looked_at,
                None => plus,
            };
            (rest, wildcards_count) = (behind, true);
        }
        self.end_at(node, found);
        looked_at + 1
    }

    /// Goes on where two nodes were reached, with what of the topic is behind them.
    fn walk_on<'t>(&'t self, from: [u32; 2], mut rest: Option<&[u8]>, found: &mut impl FnMut(&'t T)) -> usize {
        let mut looked_at = 0;
        // The nodes reached at the present depth, and at the next.
        let mut nodes: [SmallVec<[u32; INLINE_REACHED]>; 2] = [SmallVec::from_slice(&from), SmallVec::new()];
        let [mut reached, mut next] = nodes.each_mut();
        while let Some(text) = rest {
            let (level, behind) = Level::cut(text);
            looked_at += reached.len();
            for &node in reached.iter() {
                let marks = self.levels.marks(node);
                self.report(marks.hash, found);
                if marks.plus != NONE {
                    next.push(marks.plus);
                }
                if let Some(child) = self.levels.child(node, &level) {
                    next.push(child);
                }
            }
            if next.is_empty() {
                return looked_at;
            }
            reached.clear();
            std::mem::swap(&mut reached, &mut next);
            rest = behind;
        }
        for &node in reached.iter() {
            self.end_at(node, found);
        }
        looked_at + reached.len()
    }

    /// A topic ends at this node.
    fn end_at<'t>(&'t self, node: u32, found: &mut impl FnMut(&'t T)) {
        let marks = self.levels.marks(node);
        // `a/#` matches `a` too.
        self.report(marks.hash, found);
        self.report(marks.here, found);
    }

    #[inline]
    fn report<'t>(&'t self, position: u32, found: &mut impl FnMut(&'t T)) {
        if position != NONE
            && let Some(kept) = &self.wildcards[position]
        {
            found(&kept.value);
        }
    }

    /// The filter at this position.
    #[inline]
    fn wildcard(&self, position: u32) -> Option<&Wildcard<T>> {
        self.wildcards.get(position)?.as_ref()
    }

    /// The position of a filter with wildcards.
    fn position(&self, text: &str) -> Option<u32> {
        let hash = Position::hash(self.hasher.hash_one(text));
        let is_it = |position: &Position| {
            position.hash == hash && self.wildcard(position.at).is_some_and(|kept| *kept.text == *text)
        };
        self.positions.find(Position::spread(hash), is_it).map(|position| position.at)
    }

    fn remove_exact(&mut self, text: &str) -> Option<T> {
        let hash = self.hasher.hash_one(text);
        Some(self.exact.remove(hash, |exact| exact.is(hash, text), |exact| exact.hash)?.value)
    }

    /// Puts in a filter that is not there; returns its position.
    fn insert_wildcard(&mut self, filter: &TopicFilter, value: T) -> u32 {
        let node = self.make_levels(filter.filter());
        self.shapes.add(filter.filter());
        let at = self.wildcards.insert(Some(Wildcard { text: filter.shared_filter(), node, value }));
        *self.levels.marks_mut(node).end_of(filter.filter()) = at;
        let hash = Position::hash(self.hasher.hash_one(filter.filter()));
        self.positions.insert_unique(Position::spread(hash), Position { hash, at }, Position::spread_own);
        at
    }

    /// Makes the levels of `filter` as far as they are missing; returns the last one that is not `#`.
    fn make_levels(&mut self, filter: &str) -> u32 {
        let (mut node, mut rest) = (ROOT, Some(filter.as_bytes()));
        while let Some(text) = rest.filter(|&text| text != b"#") {
            let (level, behind) = Level::cut(text);
            let child = self.levels.child_or_new(node, &level);
            if level.text == b"+" {
                self.levels.marks_mut(node).plus = child;
            }
            (node, rest) = (child, behind);
        }
        node
    }

    fn remove_wildcard(&mut self, text: &str) -> Option<T> {
        let at = self.position(text)?;
        let hash = Position::hash(self.hasher.hash_one(text));
        self.positions.remove(Position::spread(hash), |position| position.at == at, Position::spread_own);
        let removed = self.wildcards.remove(at)?;
        *self.levels.marks_mut(removed.node).end_of(text) = NONE;
        self.prune(removed.node);
        self.shapes.remove(text);
        Some(removed.value)
    }

    /// Removes `node` and the levels above it, as far up as no filter needs them.
    fn prune(&mut self, mut node: u32) {
        while node != ROOT && self.levels.first_child(node) == NONE {
            let marks = self.levels.marks(node);
            if marks.here != NONE || marks.hash != NONE {
                break;
            }
            let parent = self.levels.remove_leaf(node);
            let marks = self.levels.marks_mut(parent);
            if marks.plus == node {
                marks.plus = NONE;
            }
            node = parent;
        }
        self.bring_forward();
    }

    /// Where most places are not used any more, moves a few of the values in the rear forward.
    fn bring_forward(&mut self) {
        for _ in 0..BROUGHT_FORWARD {
            if let Some((old, new)) = self.levels.bring_forward() {
                let Marks { here, hash, .. } = *self.levels.marks(new);
                for at in [here, hash].into_iter().filter(|at| *at != NONE) {
                    if let Some(Some(kept)) = self.wildcards.get_mut(at) {
                        kept.node = new;
                    }
                }
                let above = self.levels.marks_mut(self.levels.parent(new));
                if above.plus == old {
                    above.plus = new;
                }
            }
            if let Some(old) = self.wildcards.straggler() {
                let new = self.wildcards.bring_forward(old);
                let Some(kept) = &self.wildcards[new] else { continue };
                *self.levels.marks_mut(kept.node).end_of(&kept.text) = new;
                let hash = Position::hash(self.hasher.hash_one(&*kept.text));
                if let Some(position) = self.positions.find_mut(Position::spread(hash), |position| position.at == old) {
                    position.at = new;
                }
            }
        }
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
        assert!(matching(&tree, "$SYS").is_empty());
        tree.remove(&filter("#"));
        assert!(matching(&tree, "a/b").is_empty());
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
        assert!(matching(&tree, &["a"; 13].join("/")).is_empty());

        let deep = 30_000;
        let mut tree = FilterTree::new(1);
        let texts = [vec!["+"; deep].join("/"), vec!["a"; deep].join("/"), format!("{}#", "+/".repeat(deep))];
        for (value, text) in texts.iter().enumerate() {
            tree.entry(&filter(text), || value);
        }
        assert_eq!(matching(&tree, &texts[1]), [0, 1, 2]);
        assert_eq!(matching(&tree, &format!("{}/b", texts[1])), [2]);
        texts.iter().for_each(|text| assert!(tree.remove(&filter(text)).is_some()));
        assert!(tree.levels.is_bare());
    }

    #[test]
    fn memory_returns() {
        let mut tree = FilterTree::new(1);
        let text = |n: u32| filter(&format!("site/{}/device {n}/{}", n % 7, ["state", "+", "#"][n as usize % 3]));
        (0..20_000).for_each(|n| *tree.entry(&text(n), || 0) = n);
        let full = tree.levels.parts_allocated();
        let [wildcards, exact] = [tree.wildcards.allocated(), tree.exact.allocated()];
        (0..20_000).filter(|n| n % 50 != 0).for_each(|n| assert_eq!(tree.remove(&text(n)), Some(n)));
        let rest = tree.levels.parts_allocated();
        assert!(rest.0 < full.0 / 8 && rest.1 < full.1 / 8, "{rest:?}");
        assert!(tree.wildcards.allocated() < wildcards / 3 && tree.exact.allocated() < exact / 4);
        // What is left is whole, can be added to and be taken away.
        for n in (0..20_000).step_by(50) {
            assert_eq!(tree.get(&text(n)), Some(&n));
            assert_eq!(matching(&tree, &format!("site/{}/device {n}/state", n % 7)), [n]);
        }
        (20_000..25_000).for_each(|n| *tree.entry(&text(n), || 0) = n);
        (20_000..25_000).for_each(|n| assert_eq!(tree.remove(&text(n)), Some(n)));
        (0..20_000).step_by(50).for_each(|n| assert_eq!(tree.remove(&text(n)), Some(n)));
        assert!(tree.is_empty() && tree.levels.is_bare());
    }

    #[test]
    fn coming_and_going_takes_no_memory() {
        let mut tree = FilterTree::new(1);
        for n in 0..10_000 {
            tree.entry(&filter(&format!("a/{n}/+")), || n);
            tree.entry(&filter(&format!("a/{n}")), || n);
            if n >= 10 {
                tree.remove(&filter(&format!("a/{}/+", n - 10)));
                tree.remove(&filter(&format!("a/{}", n - 10)));
            }
        }
        let (nodes, edges) = tree.levels.parts_allocated();
        assert!(nodes <= 6_000 && edges <= 1_000, "{nodes} {edges}");
        assert!(tree.wildcards.allocated() <= 4_000 && tree.exact.allocated() <= 4_000);
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
            prop_assert!(tree.is_empty() && tree.levels.is_bare());
        }
    }
}
