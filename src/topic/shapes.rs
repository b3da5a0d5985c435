//! Shapes of topic filters: how many nodes of a tree of filters one topic can visit.
//!
//! A *shape* is a number of levels and which of them are `+`: `a/+/c` and `x/+/z` have the same one. Of all beginnings of filters that have
//! one shape a topic matches at most one, since their other levels must be its own. So a topic visits at most one node of a tree for each
//! shape that the beginnings of its filters have, however many filters there are. What a message costs is bounded by bounding these.
//!
//! There are few shapes of few levels, or with few `+` in not very many levels, and filters of which there are many have such ones. These
//! are [ordinary](Shapes::is_ordinary), and not counted: there are 1,198 of them. Nor are those without `+`, of which a topic meets one for
//! each of its levels.

use super::is_wasteful;
use crate::memory::allocated_for;

/// With so many levels at most every shape is ordinary.
const FEW_LEVELS: usize = 8;
/// With so many levels at most it is if there are few `+`.
const ORDINARY_LEVELS: usize = 16;
/// So many `+` are few.
const FEW_PLUSES: usize = 2;
/// How many ordinary shapes with a `+` there are.
#[cfg(test)]
const ORDINARY: usize = 1198;

/// The node above all first levels. Nothing is above it, so that it stands for "no node" below others.
const ROOT: u32 = 0;

/// The shapes of all beginnings of a set of filters, as far as they count; how many filters have each.
///
/// One for each tree of filters, and for each session that has filters whose shapes count. They are a tree themselves, in which a level is
/// either `+` or not. Only filters with shapes that count are in it.
#[derive(Debug)]
pub struct Shapes {
    nodes: Vec<Node>,
    /// The first node that is not in use; linked by the first of `below`.
    free: u32,
    live: usize,
    counted: usize,
}

/// One for each shape.
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// With one level more: that is not `+`, that is.
    below: [u32; 2],
    /// How many filters begin with this shape.
    filters: u32,
}

/// How far a filter was followed: how many levels, how many of them `+`.
#[derive(Clone, Copy, Debug, Default)]
struct Reach {
    levels: usize,
    pluses: usize,
}

impl Reach {
    fn on(self, is_plus: bool) -> Self {
        Reach { levels: self.levels + 1, pluses: self.pluses + usize::from(is_plus) }
    }

    /// If a beginning counts, all longer ones do.
    fn counts(self) -> bool {
        self.pluses > 0 && self.levels > FEW_LEVELS && (self.levels > ORDINARY_LEVELS || self.pluses > FEW_PLUSES)
    }
}

/// For each level of a filter, without `#`, whether it is `+`.
fn levels(filter: &str) -> impl Iterator<Item = bool> {
    filter.split('/').take_while(|level| *level != "#").map(|level| level == "+")
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes::new()
    }
}

impl Shapes {
    /// None.
    pub const fn new() -> Self {
        Shapes { nodes: Vec::new(), free: ROOT, live: 0, counted: 0 }
    }

    /// Whether no shape of a filter counts: it has, without `#`, at most 8 levels, or at most 16 and two `+`, or no `+`.
    pub fn is_ordinary(filter: &str) -> bool {
        !levels(filter).fold(Reach::default(), Reach::on).counts()
    }

    /// How many shapes there are that count.
    pub fn len(&self) -> usize {
        self.counted
    }

    /// Whether none counts.
    pub fn is_empty(&self) -> bool {
        self.counted == 0
    }

    /// Whether no more count with this filter, or no more than `most` then.
    pub fn have_room_for(&self, filter: &str, most: usize) -> bool {
        let more = self.more_with(filter);
        more == 0 || self.counted + more <= most
    }

    /// How many nodes of a tree of these filters a topic with so many levels can visit, the root included.
    #[cfg(test)]
    pub(super) fn most_visited(&self, levels: usize) -> usize {
        1 + levels + ORDINARY + self.counted
    }

    /// How many more would count with this filter.
    fn more_with(&self, filter: &str) -> usize {
        if Shapes::is_ordinary(filter) {
            return 0;
        }
        let (mut node, mut reach, mut more) = (ROOT, Reach::default(), 0);
        let mut is_known = !self.nodes.is_empty();
        for is_plus in levels(filter) {
            reach = reach.on(is_plus);
            if is_known {
                node = self.nodes[node as usize].below[usize::from(is_plus)];
                is_known = node != ROOT;
            }
            more += usize::from(!is_known && reach.counts());
        }
        more
    }

    /// Adds those of a filter.
    pub fn add(&mut self, filter: &str) {
        if !Shapes::is_ordinary(filter) {
            self.add_all(filter);
        }
    }

    /// Removes those of a filter that was added, as far as no other has them. Memory follows when most of it is unused.
    pub fn remove(&mut self, filter: &str) {
        if Shapes::is_ordinary(filter) {
            return;
        }
        let (mut node, mut reach) = (ROOT, Reach::default());
        for is_plus in levels(filter) {
            reach = reach.on(is_plus);
            let below = self.nodes[node as usize].below[usize::from(is_plus)];
            debug_assert!(below != ROOT, "it was added");
            if node != ROOT && self.nodes[node as usize].filters == 0 {
                self.release(node);
            } else if self.nodes[below as usize].filters == 1 {
                self.nodes[node as usize].below[usize::from(is_plus)] = ROOT;
            }
            let filters = &mut self.nodes[below as usize].filters;
            *filters -= 1;
            self.counted -= usize::from(*filters == 0 && reach.counts());
            node = below;
        }
        if self.nodes[node as usize].filters == 0 {
            self.release(node);
        }
        if self.live == 0 {
            *self = Shapes::new();
        } else if is_wasteful(self.live, self.nodes.capacity()) {
            self.compact();
        }
    }

    /// The memory it takes, in bytes.
    pub fn allocated(&self) -> usize {
        allocated_for::<Node>(self.nodes.capacity())
    }

    fn add_all(&mut self, filter: &str) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let (mut node, mut reach) = (ROOT, Reach::default());
        for is_plus in levels(filter) {
            reach = reach.on(is_plus);
            let mut below = self.nodes[node as usize].below[usize::from(is_plus)];
            if below == ROOT {
                below = self.make();
                self.nodes[node as usize].below[usize::from(is_plus)] = below;
                self.counted += usize::from(reach.counts());
            }
            self.nodes[below as usize].filters += 1;
            node = below;
        }
    }

    fn make(&mut self) -> u32 {
        self.live += 1;
        if self.free == ROOT {
            self.nodes.push(Node::default());
            return (self.nodes.len() - 1) as u32;
        }
        let number = self.free;
        [self.free, _] = std::mem::take(&mut self.nodes[number as usize]).below;
        number
    }

    fn release(&mut self, node: u32) {
        self.live -= 1;
        self.nodes[node as usize] = Node { below: [self.free, ROOT], filters: 0 };
        self.free = node;
    }

    /// Gives the memory of nodes back that are not in use: the others get new numbers.
    fn compact(&mut self) {
        let mut kept = Vec::with_capacity(2 * (1 + self.live));
        kept.push(self.nodes[ROOT as usize]);
        let mut at = 0;
        while at < kept.len() {
            for side in 0..2 {
                let below = kept[at].below[side];
                if below != ROOT {
                    kept[at].below[side] = kept.len() as u32;
                    kept.push(self.nodes[below as usize]);
                }
            }
            at += 1;
        }
        (self.nodes, self.free) = (kept, ROOT);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::{FilterTree, TopicFilter, TopicName};
    use super::*;

    /// Filters over few labels, of so many levels at most, and with `#` at the end sometimes.
    fn filter(levels: usize) -> impl Strategy<Value = String> {
        let level = prop_oneof![2 => Just("+"), 2 => Just("a"), 1 => Just("b")];
        let end = select(&["", "", "/#"][..]);
        (prop::collection::vec(level, 1..=levels), end).prop_map(|(levels, end)| levels.join("/") + end)
    }

    fn topic(levels: usize) -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => Just("a"), 1 => Just("b")];
        prop::collection::vec(level, 1..=levels).prop_map(|levels| levels.join("/"))
    }

    /// The beginnings of filters as shapes, each with how many have it: written as they are said to be.
    fn plainly<'a>(filters: impl Iterator<Item = &'a str>) -> BTreeMap<Vec<bool>, u32> {
        let mut shapes = BTreeMap::new();
        for filter in filters {
            let levels: Vec<_> = filter.split('/').filter(|level| *level != "#").map(|level| level == "+").collect();
            (1..=levels.len()).for_each(|end| *shapes.entry(levels[..end].to_vec()).or_default() += 1);
        }
        shapes
    }

    fn counts(shape: &[bool]) -> bool {
        let pluses = shape.iter().filter(|is_plus| **is_plus).count();
        pluses > 0 && !(shape.len() <= 8 || shape.len() <= 16 && pluses <= 2)
    }

    #[test]
    fn as_many_are_ordinary_as_is_said() {
        let few_levels = (1..=8).map(|levels| (1 << levels) - 1).sum::<usize>();
        let few_pluses = (9..=16).map(|levels| levels + levels * (levels - 1) / 2).sum::<usize>();
        assert_eq!(few_levels + few_pluses, ORDINARY);
        let shapes = (1..=16).flat_map(|levels| (1_u32..1 << levels).map(move |pluses| (levels, pluses)));
        let reach = |(levels, pluses): (usize, u32)| Reach { levels, pluses: pluses.count_ones() as usize };
        assert_eq!(shapes.filter(|shape| !reach(*shape).counts()).count(), ORDINARY);
    }

    #[test]
    fn what_is_ordinary() {
        for text in ["#", "a/b", "+/+/+/+/+/+/+/+/#", "a/b/c/d/e/f/g/h/+/+/#", "+/b/c/d/e/f/g/h/i/j/k/l/m/n/o/+"] {
            assert!(Shapes::is_ordinary(text), "{text}");
        }
        assert!(Shapes::is_ordinary(&["a"; 1000].join("/")), "no wildcard");
        for text in ["+/+/+/d/e/f/g/h/i", "+/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/+/#"] {
            assert!(!Shapes::is_ordinary(text), "{text}");
        }
    }

    #[test]
    fn a_shape_counts_once_for_all_filters_that_have_it() {
        let mut shapes = Shapes::new();
        let deep = |label: &str| format!("+/+/+/{}", [label; 9].join("/"));
        assert!(shapes.have_room_for(&deep("a"), 4) && !shapes.have_room_for(&deep("a"), 3), "9 to 12 levels");
        assert!(shapes.have_room_for("+/+/+", 0), "it is ordinary");
        shapes.add(&deep("a"));
        assert!(shapes.have_room_for(&deep("b"), 0), "the same shape");
        assert!(!shapes.have_room_for(&(deep("b") + "/c"), 4) && shapes.have_room_for(&(deep("b") + "/c"), 5));
        shapes.add(&deep("b"));
        assert_eq!(shapes.len(), 4);
        shapes.remove(&deep("a"));
        assert_eq!(shapes.len(), 4);
        shapes.remove(&deep("b"));
        assert!(shapes.is_empty() && shapes.allocated() == 0);
    }

    #[test]
    fn memory_returns_and_no_walk_recurses() {
        let mut shapes = Shapes::new();
        let text =
            |bits: u32| (0..14).map(|bit| if bits >> bit & 1 == 0 { "a" } else { "+" }).collect::<Vec<_>>().join("/");
        (0..1 << 14).for_each(|bits| shapes.add(&text(bits)));
        let (all, full) = (shapes.len(), shapes.allocated());
        (0..1 << 14).filter(|bits| bits % 64 != 63).for_each(|bits| shapes.remove(&text(bits)));
        assert!(shapes.allocated() < full / 8 && shapes.len() < all / 8);
        let rest = (0..1 << 14).filter(|bits| bits % 64 == 63).map(text).collect::<Vec<_>>();
        assert_eq!(shapes.len(), plainly(rest.iter().map(|text| &**text)).keys().filter(|shape| counts(shape)).count());
        shapes.add(&"+/".repeat(30_000));
        shapes.remove(&"+/".repeat(30_000));
        rest.iter().for_each(|text| shapes.remove(text));
        assert!(shapes.is_empty() && shapes.allocated() == 0);
    }

    proptest! {
        /// Filters come and go, and with them what counts.
        #[test]
        fn agrees_with_what_is_counted_plainly(steps in prop::collection::vec((filter(20), any::<bool>()), 0..60)) {
            let (mut shapes, mut there) = (Shapes::new(), Vec::<String>::new());
            for (text, leaves) in steps {
                if leaves && let Some(gone) = there.pop() {
                    shapes.remove(&gone);
                }
                let more = shapes.more_with(&text);
                let before = shapes.len();
                shapes.add(&text);
                there.insert(there.len() / 2, text);
                let plain = plainly(there.iter().map(|text| &**text));
                prop_assert_eq!(shapes.len(), plain.keys().filter(|shape| counts(shape)).count());
                prop_assert_eq!(shapes.len(), before + more);
            }
            there.iter().for_each(|text| shapes.remove(text));
            prop_assert!(shapes.is_empty() && shapes.live == 0);
        }

        /// The bound holds: a topic visits no more nodes than its filters have shapes, and no more than is said of those that count.
        #[test]
        fn a_topic_visits_one_node_for_each_shape_at_most(
            filters in prop::collection::vec(prop_oneof![filter(6), filter(24)], 0..200),
            topics in prop::collection::vec(prop_oneof![topic(6), topic(24)], 1..10),
        ) {
            let (mut tree, mut all) = (FilterTree::new(1), Shapes::new());
            for text in &filters {
                let filter = TopicFilter::parse(text, 30).expect(text);
                tree.entry(&filter, || ());
                // Those without wildcards are not in the tree of levels.
                if filter.has_wildcard() {
                    all.add_all(text);
                }
            }
            for topic in topics {
                let name = TopicName::trusted(&topic);
                let visited = tree.matching(name, &mut |()| {});
                prop_assert!(visited <= 1 + all.live, "{visited} of {}", all.live);
                prop_assert!(visited <= tree.shapes().most_visited(name.levels().count()));
            }
        }
    }

    /// 2^18 filters of 18 levels, each `a` or `+`: without a bound one topic visits half a million nodes.
    #[test]
    fn a_bound_on_shapes_bounds_what_a_topic_visits() {
        let (mut tree, mut refused) = (FilterTree::new(1), 0);
        for bits in 0..1_u32 << 18 {
            let text = (0..18).map(|bit| if bits >> bit & 1 == 0 { "a" } else { "+" }).collect::<Vec<_>>().join("/");
            if tree.shapes().have_room_for(&text, 4096) {
                tree.entry(&TopicFilter::parse(&text, 32).expect("a valid filter"), || ());
            } else {
                refused += 1;
            }
        }
        let topic = ["a"; 18].join("/");
        let visited = tree.matching(TopicName::trusted(&topic), &mut |()| {});
        assert!(refused > 250_000 && tree.shapes().len() <= 4096);
        assert!((4000..=4096 + ORDINARY + 19).contains(&visited), "{visited}");
    }
}
