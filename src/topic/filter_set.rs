//! Several topic filters at once, in the order in which they are preferred: what retained messages are asked with.
//!
//! A walk over the topics of a [`TopicMap`](super::TopicMap) asks at each which filter matches, and is told where to go on if none does:
//! so one walk serves all filters, and passes over what none of them can match.

use std::collections::BTreeMap;
use std::ops::Bound;

use smallvec::SmallVec;

use super::TopicFilter;
use super::topic_map::{after, after_all_below};
use crate::memory::{Held, MemoryKind, allocated, allocated_for, allocated_in_tree};

/// The node above all first levels.
const ROOT: u32 = 0;
/// No node, or no filter.
const NONE: u32 = u32::MAX;

/// Filters, each with its place: the first is preferred to the others.
#[derive(Debug)]
pub struct FilterSet {
    filters: Vec<TopicFilter>,
    nodes: Vec<Node>,
    /// The memory of both. A client that is away can have a set for each of its subscriptions, of retained messages it was not sent.
    _held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// One for each distinct beginning of the filters.
#[derive(Debug)]
struct Node {
    /// By the next level, if it is neither `+` nor `#`.
    children: BTreeMap<Box<[u8]>, u32>,
    /// Where the next level is `+`.
    plus: u32,
    /// The filter that ends here.
    here: u32,
    /// The filter of which only `#` is left.
    below: u32,
}

/// What a node of a tree takes beside its places.
const OF_TREE_NODE: usize = 16;

/// Nodes that the levels so far have led to; usually few.
type Nodes = SmallVec<[u32; 8]>;

/// What a set says of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The filter at this place matches it, and none before that does.
    Match(u32),
    /// None matches it, nor anything between it and this text.
    Next(Box<str>),
    /// None matches it, nor anything after it.
    End,
}

impl FilterSet {
    /// A set of these. Of a shared subscription only the filter proper counts.
    pub fn new(filters: Vec<TopicFilter>) -> Self {
        let mut nodes = vec![Node::new()];
        for (place, filter) in (0..).zip(&filters) {
            let mut node = ROOT;
            let mut is_below = false;
            for level in filter.filter().split('/') {
                match level {
                    "#" => is_below = true,
                    "+" => node = child(&mut nodes, node, |node| &mut node.plus),
                    level => {
                        let level = level.as_bytes();
                        node = child(&mut nodes, node, |node| node.children.entry(level.into()).or_insert(NONE));
                    }
                }
            }
            let Node { here, below, .. } = &mut nodes[node as usize];
            let end = if is_below { below } else { here };
            *end = (*end).min(place);
        }
        let parts: usize = nodes.iter().map(Node::allocated).sum();
        let lists = allocated_for::<TopicFilter>(filters.capacity()) + allocated_for::<Node>(nodes.capacity());
        let shared = allocated(size_of::<Self>() + 2 * size_of::<usize>());
        FilterSet { filters, nodes, _held: Held::new(shared + lists + parts) }
    }

    /// The filters, each at its place.
    pub fn filters(&self) -> &[TopicFilter] {
        &self.filters
    }

    /// What it says of `topic`. Adds to `looked_at` how many nodes it took. Wildcards in the first level match no topic that
    /// begins with `$` [MQTT-4.7.2-1].
    pub fn seek(&self, topic: &str, looked_at: &mut usize) -> Sought {
        let mut active: Nodes = SmallVec::from_elem(ROOT, 1);
        let (mut best, mut start) = (NONE, 0);
        loop {
            let end = topic[start..].find('/').map_or(topic.len(), |length| start + length);
            let level = &topic[start..end];
            let is_dollar = start == 0 && level.starts_with('$');
            let mut next = Nodes::new();
            *looked_at += active.len();
            for node in active.iter().map(|node| &self.nodes[*node as usize]) {
                if !is_dollar {
                    best = best.min(node.below);
                    next.extend((node.plus != NONE).then_some(node.plus));
                }
                next.extend(node.children.get(level.as_bytes()).copied());
            }
            if next.is_empty() {
                return if best == NONE {
                    self.behind(topic, start..end, &active, is_dollar)
                } else {
                    Sought::Match(best)
                };
            }
            active = next;
            if end == topic.len() {
                break;
            }
            start = end + 1;
        }
        *looked_at += active.len();
        for node in active.iter().map(|node| &self.nodes[*node as usize]) {
            // `a/#` matches `a`, too.
            best = best.min(node.here).min(node.below);
        }
        if best == NONE { self.below(topic, &active) } else { Sought::Match(best) }
    }

    /// Where a match may be next when `active` have nothing for the level of `topic` at `at`.
    fn behind(&self, topic: &str, at: std::ops::Range<usize>, active: &[u32], is_dollar: bool) -> Sought {
        let (before, level) = (&topic[..at.start], &topic.as_bytes()[at]);
        let later = (Bound::Excluded(level), Bound::Unbounded);
        let mut next = self
            .nodes(active)
            .filter_map(|node| node.children.range::<[u8], _>(later).next())
            .map(|(level, _)| &**level)
            .min();
        // `%` comes behind all that begins with `$`: from there on wildcards match.
        let has_wildcard = |node: &Node| node.plus != NONE || node.below != NONE;
        if is_dollar && self.nodes(active).any(has_wildcard) {
            next = Some(next.map_or(&b"%"[..], |level| level.min(b"%")));
        }
        match (next, before.strip_suffix('/')) {
            (Some(level), _) => Sought::Next(joined(before, level)),
            (None, Some(above)) => Sought::Next(after_all_below(above)),
            (None, None) => Sought::End,
        }
    }

    /// Where a match may be next when `active` go on below `topic`, and none ends with it.
    fn below(&self, topic: &str, active: &[u32]) -> Sought {
        if self.nodes(active).any(|node| node.plus != NONE) {
            return Sought::Next(after(topic));
        }
        let first = self.nodes(active).filter_map(|node| node.children.first_key_value()).map(|(level, _)| level).min();
        match first {
            Some(level) => Sought::Next(joined(&after(topic), level)),
            None => Sought::Next(after_all_below(topic)),
        }
    }

    fn nodes<'a>(&'a self, active: &'a [u32]) -> impl Iterator<Item = &'a Node> {
        active.iter().map(|node| &self.nodes[*node as usize])
    }
}

impl Node {
    fn new() -> Self {
        Node { children: BTreeMap::new(), plus: NONE, here: NONE, below: NONE }
    }

    /// The memory of its children, in bytes: nodes of a tree have eleven places, and all of them when there is one.
    fn allocated(&self) -> usize {
        let place = size_of::<(Box<[u8]>, u32)>();
        let labels: usize = self.children.keys().map(|label| allocated(label.len())).sum();
        match self.children.len() {
            0 => 0,
            1..=11 => allocated(11 * place + OF_TREE_NODE) + labels,
            many => many * allocated_in_tree(place) + labels,
        }
    }
}

/// The child of `parent` that `place` says, made now if there is none.
fn child(nodes: &mut Vec<Node>, parent: u32, place: impl FnOnce(&mut Node) -> &mut u32) -> u32 {
    let new = nodes.len() as u32;
    let child = place(&mut nodes[parent as usize]);
    if *child == NONE {
        *child = new;
        nodes.push(Node::new());
        return new;
    }
    *child
}

/// `before` and a level behind it.
fn joined(before: &str, level: &[u8]) -> Box<str> {
    // The level is one of a filter, which is text.
    [before, std::str::from_utf8(level).unwrap_or_default()].concat().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic_map::{Named, TopicMap};
    use super::super::{TopicName, arbitrary};
    use super::*;

    fn set(filters: &[&str]) -> FilterSet {
        FilterSet::new(filters.iter().map(|filter| TopicFilter::parse(filter, usize::MAX).expect(filter)).collect())
    }

    fn seek(set: &FilterSet, topic: &str) -> Sought {
        set.seek(topic, &mut 0)
    }

    fn next(text: &str) -> Sought {
        Sought::Next(text.into())
    }

    #[test]
    fn the_first_that_matches_counts() {
        let set = set(&["a/+/c", "a/#", "#", "a/b/c", "$SYS/#"]);
        let places = ["a/b/c", "a/b", "a", "b", "", "$SYS", "$SYS/x"].map(|topic| seek(&set, topic));
        assert_eq!(places, [0, 1, 1, 2, 2, 4, 4].map(Sought::Match));
    }

    #[test]
    fn a_walk_goes_on_where_a_match_may_be() {
        let exact = set(&["b/x/y", "d"]);
        assert_eq!(seek(&exact, "a/b/c"), next("b"));
        assert_eq!(seek(&exact, "b"), next("b/x"));
        assert_eq!(seek(&exact, "b/a"), next("b/x"));
        assert_eq!(seek(&exact, "b/x/z"), next("b/x\u{1}"));
        assert_eq!(seek(&exact, "b/z/y"), next("b\u{1}"));
        assert_eq!(seek(&exact, "c"), next("d"));
        assert_eq!(seek(&exact, "e"), Sought::End);
        let plus = set(&["+/state", "a/x/+"]);
        assert_eq!(seek(&plus, "a"), next("a/state"));
        assert_eq!(seek(&plus, "a/b/c"), next("a/state"));
        assert_eq!(seek(&plus, "a/x"), next("a/x/"));
        assert_eq!(seek(&plus, "b/x"), next("b\u{1}"));
    }

    /// [MQTT-4.7.2-1]
    #[test]
    fn wildcards_in_the_first_level_pass_over_dollar_topics() {
        assert_eq!(seek(&set(&["#"]), "$SYS/a"), next("%"));
        assert_eq!(seek(&set(&["+/a", "$x/a", "b"]), "$SYS/a"), next("$x"));
        assert_eq!(seek(&set(&["+/a"]), "$x/a"), next("%"));
        assert_eq!(seek(&set(&["b"]), "$x/a"), next("b"));
        assert_eq!(seek(&set(&["$a"]), "$x/a"), Sought::End);
        assert_eq!(seek(&set(&["+/+"]), "b/$a"), Sought::Match(0));
    }

    #[test]
    fn thousands_of_levels_are_walked() {
        let deep = ["a"; 30_000].join("/");
        assert_eq!(seek(&set(&[&["+"; 30_000].join("/")]), &deep), Sought::Match(0));
        assert_eq!(seek(&set(&["#"]), &deep), Sought::Match(0));
    }

    #[test]
    fn nothing_is_looked_for_with_no_filter() {
        assert_eq!(seek(&set(&[]), "a/b"), Sought::End);
        assert!(set(&[]).filters().is_empty());
    }

    struct Topic(String);

    impl Named for Topic {
        fn topic(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    proptest! {
        /// A walk finds what the filters match one by one, each topic once, and in order.
        #[test]
        fn a_walk_finds_all_that_the_filters_match(
            topics in prop::collection::vec(arbitrary::topic(), 0..60),
            filters in prop::collection::vec(arbitrary::filter(), 0..6),
        ) {
            let mut map = TopicMap::default();
            topics.iter().for_each(|topic| drop(map.insert(Topic(topic.clone()))));
            let set = FilterSet::new(filters.clone());
            let (mut found, mut from, mut looks): (Vec<(String, u32)>, Box<str>, usize) = (Vec::new(), "".into(), 0);
            while let Some(Topic(topic)) = map.from(&from).next() {
                looks += 1;
                from = match seek(&set, topic) {
                    Sought::Match(place) => {
                        found.push((topic.clone(), place));
                        after(topic)
                    }
                    Sought::Next(next) => next,
                    Sought::End => break,
                };
                prop_assert!(looks <= map.len(), "it goes forward");
            }
            let place = |topic: &str| filters.iter().position(|filter| filter.matches(TopicName::trusted(topic)));
            let all = map.from("").filter_map(|Topic(topic)| Some((topic.clone(), place(topic)? as u32)));
            prop_assert_eq!(found, all.collect::<Vec<_>>());
        }
    }
}
