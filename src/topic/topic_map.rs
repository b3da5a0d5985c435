//! Topic names in the order of their levels: retained messages.
//!
//! A topic comes first, then all that is below it, then its next sibling: the order of the texts, with `/` before every other
//! character. So whatever is below a level lies together, and a walk can pass over it; and a walk that was interrupted goes on at any
//! text, whatever was stored and removed meanwhile.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Something that has a topic name, which never changes.
pub trait Named {
    /// The bytes of the topic name.
    fn topic(&self) -> &[u8];
}

/// One `T` for each topic name, in the order of their levels. The names are those that the values have: there is no second copy.
pub struct TopicMap<T>(BTreeSet<Entry<T>>);

/// A value, compared by its topic.
struct Entry<T>(T);

/// What entries are looked up by.
trait Key {
    fn bytes(&self) -> &[u8];
}

/// The topic of no entry in particular.
struct Text<'a>(&'a str);

impl<T: Named> Key for Entry<T> {
    fn bytes(&self) -> &[u8] {
        self.0.topic()
    }
}

impl Key for Text<'_> {
    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl<'a, T: Named + 'a> Borrow<dyn Key + 'a> for Entry<T> {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.bytes(), other.bytes())
    }
}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for dyn Key + '_ {}

impl<T: Named> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.bytes(), other.bytes())
    }
}

impl<T: Named> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Named> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl<T: Named> Eq for Entry<T> {}

impl<T> Default for TopicMap<T> {
    fn default() -> Self {
        TopicMap(BTreeSet::new())
    }
}

impl<T: Named + 'static> TopicMap<T> {
    /// Keeps `value` for its topic; returns what it replaces.
    pub fn insert(&mut self, value: T) -> Option<T> {
        self.0.replace(Entry(value)).map(|entry| entry.0)
    }

    /// What is kept for `topic`.
    pub fn get(&self, topic: &str) -> Option<&T> {
        self.0.get(&Text(topic) as &dyn Key).map(|entry| &entry.0)
    }

    /// Removes and returns what is kept for `topic`.
    pub fn remove(&mut self, topic: &str) -> Option<T> {
        self.0.take(&Text(topic) as &dyn Key).map(|entry| entry.0)
    }

    /// What is kept for `topic` and the topics after it, in order. It need not be a topic that is there.
    pub fn from<'m>(&'m self, topic: &str) -> impl Iterator<Item = &'m T> + use<'m, T> {
        let first = Text(topic);
        self.0.range::<dyn Key, _>((Bound::Included(&first as &dyn Key), Bound::Unbounded)).map(|entry| &entry.0)
    }

    /// All that is kept, in the order of the topics.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|entry| entry.0)
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The smallest text that comes after `topic`.
pub fn after(topic: &str) -> Box<str> {
    [topic, "/"].concat().into()
}

/// The smallest text that comes after `topic` and all that is below it.
pub(super) fn after_all_below(topic: &str) -> Box<str> {
    // No topic has the null character, so this is the smallest behind `/`.
    [topic, "\u{1}"].concat().into()
}

/// Compares two topics level by level.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.get(same).map(rank).cmp(&other.get(same).map(rank))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Value(String, usize);

    impl Named for Value {
        fn topic(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }

    fn map(topics: &[&str]) -> TopicMap<Value> {
        let mut map = TopicMap::default();
        for (number, topic) in topics.iter().enumerate() {
            assert!(map.insert(Value((*topic).to_owned(), number)).is_none());
        }
        map
    }

    fn topics(map: &TopicMap<Value>, from: &str) -> Vec<String> {
        map.from(from).map(|value| value.0.clone()).collect()
    }

    #[test]
    fn what_is_below_a_level_lies_together_behind_it() {
        let map = map(&["a!", "a/b", "a", "a/b/c", "b", "/a", "a b", "a/", "A", "a/\u{1}"]);
        assert_eq!(topics(&map, ""), ["/a", "A", "a", "a/", "a/\u{1}", "a/b", "a/b/c", "a b", "a!", "b"]);
    }

    #[test]
    fn a_walk_goes_on_behind_a_topic_or_behind_all_that_is_below_it() {
        let map = map(&["a", "a/b", "a/b/c", "a/b/d", "a/c", "b"]);
        assert_eq!(topics(&map, "a/b"), ["a/b", "a/b/c", "a/b/d", "a/c", "b"]);
        assert_eq!(topics(&map, &after("a/b")), ["a/b/c", "a/b/d", "a/c", "b"]);
        assert_eq!(topics(&map, &after_all_below("a/b")), ["a/c", "b"]);
        assert_eq!(topics(&map, &after_all_below("a/b/bb")), ["a/b/c", "a/b/d", "a/c", "b"], "it need not be there");
        assert_eq!(topics(&map, "c"), [""; 0]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map_of_levels(
            steps in prop::collection::vec((arbitrary::topic(), prop::bool::weighted(0.7)), 1..120),
            from in arbitrary::topic(),
        ) {
            let levels = |topic: &str| topic.split('/').map(str::to_owned).collect::<Vec<_>>();
            let (mut map, mut model) = (TopicMap::default(), BTreeMap::new());
            for (number, (topic, inserts)) in steps.into_iter().enumerate() {
                if inserts {
                    let value = Value(topic.clone(), number);
                    prop_assert_eq!(map.insert(value.clone()), model.insert(levels(&topic), value));
                } else {
                    prop_assert_eq!(map.remove(&topic), model.remove(&levels(&topic)));
                }
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(map.get(&topic), model.get(&levels(&topic)));
            }
            prop_assert_eq!(map.from("").collect::<Vec<_>>(), model.values().collect::<Vec<_>>());
            let (wanted, behind) = (levels(&from), after(&from));
            let rest: Vec<_> = model.range(wanted.clone()..).map(|(_, value)| value).collect();
            prop_assert_eq!(map.from(&from).collect::<Vec<_>>(), rest.clone());
            let rest: Vec<_> = rest.into_iter().filter(|value| value.0 != from).collect();
            prop_assert_eq!(map.from(&behind).collect::<Vec<_>>(), rest.clone());
            let is_below = |value: &&Value| levels(&value.0).starts_with(&wanted);
            let rest: Vec<_> = rest.into_iter().filter(|value| !is_below(value)).collect();
            prop_assert_eq!(map.from(&after_all_below(&from)).collect::<Vec<_>>(), rest);
        }
    }
}
