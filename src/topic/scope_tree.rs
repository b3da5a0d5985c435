//! Topic filters with places for names: what access rules are about.
//!
//! A place is a level of its own, one of [`PLACES`], and stands for what a client is called, literally. All filters of all
//! owners are in one tree of levels, each owner's below a level of its own: asking goes down the levels of the topic or
//! filter, and looks at each stored level at most once. How many filters there are that the walk does not meet makes no
//! difference.

use smallvec::{SmallVec, smallvec};

use super::levels::{Level, Levels, NONE, ROOT};
use super::{TopicFilter, TopicName, seeded};

/// The levels that are places. No topic filter may have one of them as an ordinary level.
pub const PLACES: [&str; 3] = ["%u", "%c", "%m"];

/// Levels that are kept, and nodes that are reached, without allocating.
const INLINE: usize = 16;

/// A set of topic filters with places, by owner.
pub struct ScopeTree {
    levels: Levels<Marks>,
}

/// What a client is called: what stands in the places, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Without one, what has the place is about nothing.
    pub of: [Option<&'a str>; 3],
    /// Whether a name that begins with `$` may be the first level.
    pub dollar: bool,
}

impl<'a> Names<'a> {
    /// What stands in a place. A name with characters that mean more than themselves in a filter, or end a level, is none.
    fn get(&self, place: usize, is_first: bool) -> Option<&'a str> {
        let name = self.of[place]?;
        (is_level(name) && (self.dollar || !is_first || !name.starts_with('$'))).then_some(name)
    }
}

/// What a level knows of what is below it.
struct Marks {
    /// A filter ends with this level.
    ends: bool,
    /// A filter continues with `#` and so ends.
    hash: bool,
    /// The child `+`, or [`NONE`].
    plus: u32,
    /// The children that are places, or [`NONE`].
    places: [u32; 3],
}

impl Default for Marks {
    fn default() -> Self {
        Marks { ends: false, hash: false, plus: NONE, places: [NONE; 3] }
    }
}

/// A node that a walk has reached, and how many levels are above it.
type Reached = SmallVec<[(u32, usize); INLINE]>;

impl ScopeTree {
    /// Nothing. What hashes depend on is `seed`.
    pub fn new(seed: u64) -> Self {
        ScopeTree { levels: Levels::new(seeded(seed)) }
    }

    /// Adds a topic filter with places: levels that are not one are checked, and there is no share name.
    pub fn insert(&mut self, owner: &str, filter: &str) {
        let mut node = self.levels.child_or_new(ROOT, &Level::new(owner.as_bytes()));
        for level in filter.split('/') {
            if level == "#" {
                self.levels.marks_mut(node).hash = true;
                return;
            }
            let child = self.levels.child_or_new(node, &Level::new(level.as_bytes()));
            let marks = self.levels.marks_mut(node);
            if level == "+" {
                marks.plus = child;
            } else if let Some(place) = place_of(level.as_bytes()) {
                marks.places[place] = child;
            }
            node = child;
        }
        self.levels.marks_mut(node).ends = true;
    }

    /// Whether there is a filter of `owner` that matches `topic`.
    pub fn matches(&self, owner: &str, topic: TopicName<'_>, names: &Names<'_>) -> bool {
        // A name has no wildcards, so that what covers it is what matches it.
        self.covers_levels(owner, topic.as_str(), names)
    }

    /// Whether a single filter of `owner` matches every topic that `filter` matches.
    pub fn covers(&self, owner: &str, filter: &TopicFilter, names: &Names<'_>) -> bool {
        // A topic has at least one level, and is not empty: each of these two matches the same as the longer form.
        let text = match filter.filter() {
            "#" => "+/#",
            "/#" => "/+/#",
            other => other,
        };
        self.covers_levels(owner, text, names)
    }

    fn covers_levels(&self, owner: &str, text: &str, names: &Names<'_>) -> bool {
        let Some(root) = self.root(owner) else { return false };
        let (path, is_dollar) = (path(text), text.starts_with('$'));
        let mut reached: Reached = smallvec![(root, 0)];
        while let Some((node, depth)) = reached.pop() {
            let marks = self.levels.marks(node);
            // No wildcard in the first level matches a topic that begins with `$` [MQTT-4.7.2-1].
            let wild = depth > 0 || !is_dollar;
            if marks.hash && wild {
                return true;
            }
            let Some(level) = path.get(depth) else {
                if marks.ends {
                    return true;
                }
                continue;
            };
            if level.text == b"#" {
                continue;
            }
            if marks.plus != NONE && wild {
                reached.push((marks.plus, depth + 1));
            }
            if level.text != b"+" {
                self.literal(node, level, depth, names, &mut reached);
            }
        }
        false
    }

    /// Whether there is a topic that `filter` matches and a filter of `owner`, too.
    pub fn meets(&self, owner: &str, filter: &TopicFilter, names: &Names<'_>) -> bool {
        let Some(root) = self.root(owner) else { return false };
        let (text, is_dollar) = (filter.filter(), filter.filter().starts_with('$'));
        let path = path(text);
        let mut reached: Reached = smallvec![(root, 0)];
        while let Some((node, depth)) = reached.pop() {
            let marks = self.levels.marks(node);
            let wild = depth > 0 || !is_dollar;
            // All that `/#` and `+` have in common is the topic without characters, which does not exist.
            let is_nothing = depth == 1 && text == "+" && self.is_empty_level(node, names);
            if marks.hash && wild && !is_nothing {
                return true;
            }
            let Some(level) = path.get(depth) else {
                if self.ends(node, depth, names) {
                    return true;
                }
                continue;
            };
            match level.text {
                b"#" => {
                    // The same the other way round.
                    let is_nothing = depth == 1 && text == "/#" && self.levels.label(node) == b"+";
                    if self.ends(node, depth, names) && !is_nothing {
                        return true;
                    }
                    if self.anything_below(node, depth, names) {
                        return true;
                    }
                }
                b"+" => self.children(node, depth, names, |child| reached.push((child, depth + 1))),
                _ => {
                    if marks.plus != NONE && wild {
                        reached.push((marks.plus, depth + 1));
                    }
                    self.literal(node, level, depth, names, &mut reached);
                }
            }
        }
        false
    }

    fn root(&self, owner: &str) -> Option<u32> {
        self.levels.child(ROOT, &Level::new(owner.as_bytes()))
    }

    /// The children of `node` that are this level: the one of its name, and places for it.
    fn literal(&self, node: u32, level: &Level<'_>, depth: usize, names: &Names<'_>, reached: &mut Reached) {
        if place_of(level.text).is_none()
            && let Some(child) = self.levels.child(node, level)
        {
            reached.push((child, depth + 1));
        }
        for (place, child) in self.levels.marks(node).places.into_iter().enumerate() {
            if child != NONE && names.get(place, depth == 0).is_some_and(|name| name.as_bytes() == level.text) {
                reached.push((child, depth + 1));
            }
        }
    }

    /// All children of `node` that a wildcard meets.
    fn children(&self, node: u32, depth: usize, names: &Names<'_>, mut found: impl FnMut(u32)) {
        let mut child = self.levels.first_child(node);
        while child != NONE {
            let is_met = self.text(child, depth == 0, names).is_some_and(|text| depth > 0 || !text.starts_with(b"$"));
            if is_met {
                found(child);
            }
            child = self.levels.next_sibling(child);
        }
    }

    /// Whether any filter ends below `node`, to which `depth` levels lead.
    fn anything_below(&self, node: u32, depth: usize, names: &Names<'_>) -> bool {
        let mut nodes: SmallVec<[u32; INLINE]> = SmallVec::new();
        self.children(node, depth, names, |child| nodes.push(child));
        while let Some(node) = nodes.pop() {
            let marks = self.levels.marks(node);
            // What the first level may be has been looked at.
            let depth = if self.levels.parent(self.levels.parent(node)) == ROOT { 1 } else { 2 };
            if marks.hash || self.ends(node, depth, names) {
                return true;
            }
            self.children(node, depth, names, |child| nodes.push(child));
        }
        false
    }

    /// Whether a filter ends with `node`, to which as many levels lead.
    fn ends(&self, node: u32, depth: usize, names: &Names<'_>) -> bool {
        let marks = self.levels.marks(node);
        // A topic is not empty.
        marks.ends && !(depth == 1 && self.is_empty_level(node, names))
    }

    fn is_empty_level(&self, node: u32, names: &Names<'_>) -> bool {
        self.text(node, true, names).is_some_and(<[u8]>::is_empty)
    }

    /// The level that `node` is; none if it is a place that no name can fill.
    fn text<'a>(&'a self, node: u32, is_first: bool, names: &Names<'a>) -> Option<&'a [u8]> {
        let label = self.levels.label(node);
        match place_of(label) {
            None => Some(label),
            Some(place) => names.get(place, is_first).map(str::as_bytes),
        }
    }
}

/// Whether a name can stand for a level, and for nothing but itself.
pub fn is_level(name: &str) -> bool {
    !name.contains(['+', '#', '/', '\0'])
}

fn place_of(level: &[u8]) -> Option<usize> {
    PLACES.iter().position(|place| place.as_bytes() == level)
}

fn path(text: &str) -> SmallVec<[Level<'_>; INLINE]> {
    text.split('/').map(|level| Level::new(level.as_bytes())).collect()
}
