//! Topic filters with places for names, in columns: whether one of them has a topic in common with a filter.
//!
//! Filters of one owner that have as many levels, and end the same way, are a *shape*, and numbered in it. A *column* is the
//! set of those that have one label at one level. Asking joins, for each level that is no wildcard, the columns that this level
//! meets, and intersects these: a word for 64 filters at most, whatever wildcards are asked for. A walk down a tree would visit
//! all that is below a `+`.

use ahash::RandomState;
use hashbrown::HashTable;
use indexmap::IndexMap;
use smallvec::SmallVec;

use super::places::{Names, PLACES, place_of};
use super::{TopicFilter, seeded};

/// Levels that are kept without allocating.
const INLINE: usize = 16;

/// A set of topic filters with places, by owner.
pub struct ScopeColumns {
    shapes: IndexMap<Box<str>, Vec<Shape>, RandomState>,
    /// How many shapes there are.
    count: u32,
    columns: HashTable<Column>,
    hasher: RandomState,
}

/// Filters that can be compared level by level.
struct Shape {
    /// Its number among those of all owners.
    number: u32,
    /// How many levels there are, `#` not counted.
    levels: usize,
    /// `#` follows.
    hash: bool,
    count: u32,
    /// Those with a first level that begins with `$`.
    dollar: Set,
    /// The columns of places: at which level, and which.
    places: Vec<(u32, usize)>,
}

/// Those filters of a shape that have a label at a level. There may be millions.
struct Column {
    shape: u32,
    level: u32,
    label: Box<str>,
    set: Set,
}

/// Numbers of filters, 64 in a word: which word it is, and its bits. Words without any are left out.
#[derive(Default)]
struct Set(SmallVec<[(u32, u64); 1]>);

impl Set {
    /// Adds a number, which is not less than those before.
    fn push(&mut self, number: u32) {
        let (at, bit) = (number / 64, 1 << (number % 64));
        match self.0.last_mut() {
            Some((last, bits)) if *last == at => *bits |= bit,
            _ => self.0.push((at, bit)),
        }
    }

    fn add_to(&self, words: &mut [u64]) {
        self.0.iter().for_each(|(at, bits)| words[*at as usize] |= bits);
    }

    fn take_from(&self, words: &mut [u64]) {
        self.0.iter().for_each(|(at, bits)| words[*at as usize] &= !bits);
    }
}

/// The filter that is asked for.
struct Asked<'a> {
    text: &'a str,
    levels: SmallVec<[&'a str; INLINE]>,
    /// `#` follows.
    hash: bool,
}

impl<'a> Asked<'a> {
    fn new(text: &'a str) -> Self {
        let (levels, hash) = cut(text);
        Asked { text, levels: levels.collect(), hash }
    }

    fn begins_with_wildcard(&self) -> bool {
        self.levels.first().is_none_or(|level| *level == "+")
    }

    fn begins_with_dollar(&self) -> bool {
        self.text.starts_with('$')
    }

    /// Whether there are topics with as many levels as both match.
    fn is_as_long_as(&self, shape: &Shape) -> bool {
        match (self.hash, shape.hash) {
            (true, true) => true,
            (true, false) => shape.levels >= self.levels.len(),
            (false, true) => self.levels.len() >= shape.levels,
            (false, false) => self.levels.len() == shape.levels,
        }
    }
}

/// The levels of a filter, and whether `#` follows.
fn cut(text: &str) -> (impl Iterator<Item = &str>, bool) {
    let (levels, hash) = match text.strip_suffix('#') {
        Some(rest) => (rest.strip_suffix('/'), true),
        None => (Some(text), false),
    };
    (levels.into_iter().flat_map(|levels| levels.split('/')), hash)
}

impl ScopeColumns {
    /// Nothing. What hashes depend on is `seed`.
    pub fn new(seed: u64) -> Self {
        let hasher = seeded(seed);
        let shapes = IndexMap::with_hasher(hasher.clone());
        ScopeColumns { shapes, count: 0, columns: HashTable::new(), hasher }
    }

    /// Adds a topic filter with places: levels that are not one are checked, and there is no share name.
    pub fn insert(&mut self, owner: &str, filter: &str) {
        let (levels, hash) = cut(filter);
        let levels: SmallVec<[&str; INLINE]> = levels.collect();
        if !self.shapes.contains_key(owner) {
            self.shapes.insert(owner.into(), Vec::new());
        }
        let shapes = &mut self.shapes[owner];
        let at = shapes.iter().position(|shape| (shape.levels, shape.hash) == (levels.len(), hash));
        let at = at.unwrap_or_else(|| {
            let (number, levels, dollar) = (self.count, levels.len(), Set::default());
            self.count += 1;
            shapes.push(Shape { number, levels, hash, count: 0, dollar, places: Vec::new() });
            shapes.len() - 1
        });
        let shape = &mut shapes[at];
        let number = shape.count;
        shape.count += 1;
        if filter.starts_with('$') {
            shape.dollar.push(number);
        }
        for (level, label) in (0..).zip(levels) {
            let key = (shape.number, level, label);
            let hasher = &self.hasher;
            let entry = self.columns.entry(hasher.hash_one(key), |of| of.key() == key, |of| hasher.hash_one(of.key()));
            let column = entry.or_insert_with(|| {
                shape.places.extend(place_of(label.as_bytes()).map(|place| (level, place)));
                Column { shape: shape.number, level, label: label.into(), set: Set::default() }
            });
            column.into_mut().set.push(number);
        }
    }

    /// Whether there is a topic that `filter` matches and a filter of `owner`, too.
    pub fn meets(&self, owner: &str, filter: &TopicFilter, names: &Names<'_>) -> bool {
        let asked = Asked::new(filter.filter());
        let Some(shapes) = self.shapes.get(owner) else { return false };
        let possible = shapes.iter().filter(|shape| asked.is_as_long_as(shape));
        // No wildcard in the first level matches a topic that begins with `$` [MQTT-4.7.2-1].
        let mut possible = possible.filter(|shape| shape.levels > 0 || !asked.begins_with_dollar());
        possible.any(|shape| self.any_meets(shape, &asked, names))
    }

    fn any_meets(&self, shape: &Shape, asked: &Asked<'_>, names: &Names<'_>) -> bool {
        let levels = (0..).zip(asked.levels.iter().take(shape.levels)).filter(|(_, label)| **label != "+");
        let met = levels.map(|(level, label)| self.met_by(shape, level, label, asked, names));
        let met: SmallVec<[_; INLINE]> = met.collect();
        if met.iter().any(|columns| columns.is_empty()) {
            return false;
        }
        let mut left = vec![u64::MAX; shape.count.div_ceil(64) as usize];
        if let (Some(last), rest @ 1..) = (left.last_mut(), shape.count % 64) {
            *last = (1 << rest) - 1;
        }
        let mut joined = vec![0; left.len()];
        for columns in met {
            joined.fill(0);
            columns.iter().for_each(|set| set.add_to(&mut joined));
            left.iter_mut().zip(&joined).for_each(|(left, joined)| *left &= joined);
        }
        self.take_impossible(shape, asked, names, &mut left);
        left.iter().any(|word| *word != 0)
    }

    /// The columns at `level` that have a topic in common with a level that is no wildcard.
    fn met_by(
        &self,
        shape: &Shape,
        level: u32,
        label: &str,
        asked: &Asked<'_>,
        names: &Names<'_>,
    ) -> SmallVec<[&Set; 2 + PLACES.len()]> {
        let literal = place_of(label.as_bytes()).is_none().then_some(label);
        let wild = (level > 0 || !asked.begins_with_dollar()).then_some("+");
        let is_it = |(place, text): (usize, _)| (names.get(place, level == 0) == Some(label)).then_some(text);
        let places = PLACES.into_iter().enumerate().filter_map(is_it);
        let labels = literal.into_iter().chain(wild).chain(places);
        labels.filter_map(|label| self.column(shape, level, label)).collect()
    }

    /// Takes from `left` the filters that are about no topic, or about none that `asked` matches.
    fn take_impossible(&self, shape: &Shape, asked: &Asked<'_>, names: &Names<'_>, left: &mut [u64]) {
        let take = |level, label: &str, left: &mut [u64]| {
            if let Some(set) = self.column(shape, level, label) {
                set.take_from(left);
            }
        };
        if asked.begins_with_wildcard() {
            shape.dollar.take_from(left);
        }
        // A topic is not empty. That is all that `/#` and `+` have in common.
        let is_nothing_if_empty = shape.levels == 1 && (!shape.hash || asked.text == "+");
        if is_nothing_if_empty {
            take(0, "", left);
        }
        if shape.levels == 1 && !shape.hash && asked.text == "/#" {
            take(0, "+", left);
        }
        for (level, place) in &shape.places {
            let is_possible = match names.get(*place, *level == 0) {
                Some(name) if *level == 0 => {
                    let is_nothing = is_nothing_if_empty && name.is_empty();
                    let is_hidden = asked.begins_with_wildcard() && name.starts_with('$');
                    !is_nothing && !is_hidden
                }
                name => name.is_some(),
            };
            if !is_possible {
                take(*level, PLACES[*place], left);
            }
        }
    }

    fn column(&self, shape: &Shape, level: u32, label: &str) -> Option<&Set> {
        let key = (shape.number, level, label);
        self.columns.find(self.hasher.hash_one(key), |column| column.key() == key).map(|column| &column.set)
    }
}

impl Column {
    fn key(&self) -> (u32, u32, &str) {
        (self.shape, self.level, &self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a set bound what is looked at, whoever asks for what: a walk would visit each `N` below `dev`.
    #[test]
    fn a_column_has_a_word_for_sixty_four_filters() {
        let mut columns = ScopeColumns::new(1);
        (0..10_000).for_each(|number| columns.insert("", &format!("dev/{number}/secret")));
        let shape = &columns.shapes[""][0];
        let words = |level, label| columns.column(shape, level, label).map(|set| set.0.len());
        assert_eq!((words(0, "dev"), words(1, "77"), words(2, "secret")), (Some(157), Some(1), Some(157)));
        // Nothing else: of what is asked for, only this is found.
        assert_eq!((columns.shapes[""].len(), columns.columns.len()), (1, 10_002));
        let names = Names { of: [None; PLACES.len()], dollar: true };
        let meets = |text| columns.meets("", &TopicFilter::parse(text, 9).expect("it is a filter"), &names);
        assert_eq!(
            ["dev/+/x", "dev/+/secret", "+/77/#", "+/77/+/#", "#", "$x/#"].map(meets),
            [false, true, true, true, true, false]
        );
    }
}
