//! Topic filters with places for names, in a tree: whether one of them covers a topic or a filter.
//!
//! A place is a level of its own, one of [`PLACES`](super::PLACES), and stands for what a client is called, literally. All
//! filters of all owners are in one tree of levels, each owner's below a level of its own: asking goes down the levels of the
//! topic or filter, and looks at each stored level at most once. How many filters there are that the walk does not meet makes
//! no difference.

use smallvec::{SmallVec, smallvec};

use super::levels::{Level, Levels, NONE, ROOT};
use super::places::{Names, place_of};
use super::{TopicFilter, TopicName, seeded};

/// Levels that are kept, and nodes that are reached, without allocating.
const INLINE: usize = 16;

/// A set of topic filters with places, by owner.
pub struct ScopeTree {
    levels: Levels<Marks>,
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
}

fn path(text: &str) -> SmallVec<[Level<'_>; INLINE]> {
    text.split('/').map(|level| Level::new(level.as_bytes())).collect()
}
