//! The subscriptions of a session.

use crate::codec::SubscriptionOptions;
use crate::memory::{Held, MemoryKind, OF_SHARED_TEXT, allocated};
use crate::tables::{IntoIter, PartedTable};
use crate::topic::{Shapes, TopicFilter};

/// One subscription of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What the client asked for, at the QoS it was granted.
    pub options: SubscriptionOptions,
    /// The Subscription Identifier; zero without one.
    pub id: u32,
}

/// The subscriptions of a session, by topic filter. They can be walked in portions, as long as none comes or goes meanwhile.
pub struct Subscriptions {
    entries: PartedTable<(TopicFilter, Subscription)>,
    hasher: ahash::RandomState,
    /// The bytes of the filters.
    filter_bytes: usize,
    /// The filters of those that are shared, which follow the client whenever it comes or leaves: most sessions have none.
    shared: Option<Box<PartedTable<TopicFilter>>>,
    /// A filter was refused for its shape, and that has been logged.
    is_refusal_logged: bool,
    /// Of the filters whose shapes count: most sessions have none.
    shapes: Option<Box<Shapes>>,
    held: Held<{ MemoryKind::Subscriptions as u8 }>,
}

/// A portion of the subscriptions of a session.
#[derive(Debug, Default)]
pub struct SubscriptionPortion {
    /// They.
    pub entries: Vec<(TopicFilter, Subscription)>,
    /// Where the next portion begins; none behind the last one.
    pub rest: Option<usize>,
}

/// So many places of the table are looked at for each subscription that a portion may have: after many have gone, most are empty.
const SPARSE: usize = 16;

impl Subscriptions {
    /// None. `hasher` is that of maps keyed by what clients choose.
    pub fn new(hasher: ahash::RandomState) -> Self {
        Subscriptions {
            entries: PartedTable::new(),
            hasher,
            filter_bytes: 0,
            shared: None,
            is_refusal_logged: false,
            shapes: None,
            held: Held::default(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of their filters.
    pub fn filter_bytes(&self) -> usize {
        self.filter_bytes
    }

    /// How many of them are shared.
    pub fn shared(&self) -> u32 {
        self.shared.as_ref().map_or(0, |shared| shared.len() as u32)
    }

    /// Whether no more shapes of their filters would count with `filter`, or no more than `most` then.
    pub fn have_room_for_shape(&self, filter: &TopicFilter, most: usize) -> bool {
        const NONE: &Shapes = &Shapes::new();
        self.shapes.as_deref().unwrap_or(NONE).have_room_for(filter.filter(), most)
    }

    /// A filter is refused for its shape. Whether it is the first one.
    pub fn is_first_refusal(&mut self) -> bool {
        !std::mem::replace(&mut self.is_refusal_logged, true)
    }

    /// The memory they take.
    pub fn memory(&self) -> usize {
        self.held.bytes()
    }

    /// That of maps keyed by what clients choose.
    pub fn hasher(&self) -> &ahash::RandomState {
        &self.hasher
    }

    /// The subscription to `filter`, if there is one.
    pub fn get(&self, filter: &TopicFilter) -> Option<&Subscription> {
        let found = self.entries.find(self.hasher.hash_one(filter), |(other, _)| other == filter);
        found.map(|(_, subscription)| subscription)
    }

    /// Has room made for so many more at once, so that it is not made again and again while they come. Of very many there are only some.
    pub fn reserve(&mut self, more: usize) {
        let Subscriptions { entries, hasher, .. } = self;
        entries.reserve(more, |(filter, _)| hasher.hash_one(filter));
        self.count();
    }

    /// Adds one, or replaces that to the same filter.
    pub fn put(&mut self, filter: TopicFilter, subscription: Subscription) {
        let Subscriptions { entries, hasher, .. } = self;
        let hash = hasher.hash_one(&filter);
        if let Some((_, known)) = entries.find_mut(hash, |(other, _)| *other == filter) {
            *known = subscription;
            return;
        }
        self.filter_bytes += filter.as_str().len();
        if filter.share_name().is_some() {
            let shared = self.shared.get_or_insert_with(|| Box::new(PartedTable::new()));
            shared.insert_unique(hash, filter.clone(), |other| hasher.hash_one(other));
        }
        if filter.has_wildcard() && !Shapes::is_ordinary(filter.filter()) {
            self.shapes.get_or_insert_default().add(filter.filter());
        }
        entries.insert_unique(hash, (filter, subscription), |(other, _)| hasher.hash_one(other));
        self.count();
    }

    /// Removes that to `filter`. Whether there was one.
    pub fn remove(&mut self, filter: &TopicFilter) -> bool {
        let Subscriptions { entries, hasher, .. } = self;
        let is_it = |(other, _): &(TopicFilter, Subscription)| other == filter;
        let hash = hasher.hash_one(filter);
        let removed = entries.remove(hash, is_it, |(other, _)| hasher.hash_one(other));
        let is_there = removed.is_some();
        if is_there {
            self.filter_bytes -= filter.as_str().len();
            if let Some(shared) = &mut self.shared {
                shared.remove(hash, |other| other == filter, |other| hasher.hash_one(other));
            }
            self.shared.take_if(|shared| shared.is_empty());
            if let Some(shapes) = &mut self.shapes {
                shapes.remove(filter.filter());
            }
            self.shapes.take_if(|shapes| shapes.is_empty());
            self.count();
        }
        is_there
    }

    /// The filters of those that are shared. Looks at no others.
    pub fn shared_filters(&self) -> Vec<TopicFilter> {
        self.shared.iter().flat_map(|shared| shared.iter()).cloned().collect()
    }

    /// All of them, as one portion.
    pub fn all(&self) -> SubscriptionPortion {
        SubscriptionPortion { entries: self.entries.iter().cloned().collect(), rest: None }
    }

    /// The next of them, `most` at most: from the beginning, which is zero, or where the portion before ended. There may be fewer although
    /// some are left.
    pub fn portion(&self, begin: usize, most: usize) -> SubscriptionPortion {
        let most = most.max(1);
        let mut entries = Vec::with_capacity(most.min(self.len()));
        let rest = self.entries.walk(begin, most.saturating_mul(SPARSE), |entry| {
            entries.push(entry.clone());
            entries.len() == most
        });
        SubscriptionPortion { entries, rest }
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Subscriptions {
        let is_refusal_logged = self.is_refusal_logged;
        let none = Subscriptions { is_refusal_logged, ..Subscriptions::new(self.hasher.clone()) };
        std::mem::replace(self, none)
    }

    /// Their filters.
    pub fn into_filters(self) -> Filters {
        Filters(self.entries.into_iter())
    }

    fn count(&mut self) {
        let table = self.entries.allocated();
        let shapes = |shapes: &Shapes| allocated(size_of::<Shapes>()) + shapes.allocated();
        let shapes = self.shapes.as_deref().map_or(0, shapes);
        let shared = |shared: &PartedTable<TopicFilter>| allocated(size_of_val(shared)) + shared.allocated();
        let table = table + self.shared.as_deref().map_or(0, shared);
        self.held.set(table + self.filter_bytes + OF_SHARED_TEXT * self.entries.len() + shapes);
    }
}

/// The filters of subscriptions that have been taken out, one by one.
pub struct Filters(IntoIter<(TopicFilter, Subscription)>);

impl Iterator for Filters {
    type Item = TopicFilter;

    fn next(&mut self) -> Option<TopicFilter> {
        self.0.next().map(|(filter, _)| filter)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Filters {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::codec::QoS;

    fn subscriptions() -> Subscriptions {
        Subscriptions::new(ahash::RandomState::with_seeds(1, 2, 3, 4))
    }

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 8).expect("a valid filter")
    }

    fn subscription(id: u32) -> Subscription {
        Subscription { options: SubscriptionOptions::new(QoS::AtMostOnce), id }
    }

    /// All of them, walked in portions of so many at most.
    fn walked(subscriptions: &Subscriptions, most: usize) -> Vec<(String, u32)> {
        let (mut all, mut begin) = (Vec::new(), Some(0));
        while let Some(at) = begin {
            let portion = subscriptions.portion(at, most);
            assert!(portion.entries.len() <= most && portion.rest.is_none_or(|rest| rest > at));
            all.extend(portion.entries.iter().map(|(filter, one)| (filter.as_str().to_owned(), one.id)));
            begin = portion.rest;
        }
        all.sort();
        all
    }

    #[test]
    fn after_many_have_gone_a_portion_looks_at_few_places_still() {
        let mut subscriptions = subscriptions();
        let filters: Vec<_> = (0..400).map(|number| filter(&number.to_string())).collect();
        filters.iter().for_each(|filter| subscriptions.put(filter.clone(), subscription(1)));
        filters[1..].iter().for_each(|filter| assert!(subscriptions.remove(filter)));
        let portion = subscriptions.portion(0, 4);
        assert!(portion.entries.len() <= 1 && portion.rest == Some(4 * SPARSE));
        assert_eq!(walked(&subscriptions, 4), [("0".to_owned(), 1)]);
    }

    #[test]
    fn what_is_taken_out_is_not_counted_any_more() {
        let mut subscriptions = subscriptions();
        assert_eq!(subscriptions.portion(0, 1).rest, None);
        subscriptions.put(filter("a/b"), subscription(1));
        subscriptions.put(filter("$share/g/a"), subscription(1));
        assert!(subscriptions.memory() > 0);
        let taken = subscriptions.take();
        let counts = |one: &Subscriptions| (one.len(), one.filter_bytes(), one.shared());
        assert!(subscriptions.is_empty() && !taken.is_empty());
        assert_eq!((counts(&subscriptions), subscriptions.memory()), ((0, 0, 0), 0));
        assert_eq!(counts(&taken), (2, 13, 1));
        let mut filters = taken.into_filters();
        assert_eq!((filters.len(), filters.by_ref().count(), filters.len()), (2, 2, 0));
    }

    /// Printed, not asserted: a walk over all of them would take a millisecond for each time that the client comes or leaves.
    #[test]
    fn those_that_are_shared_are_found_whatever_else_there_is() {
        for others in [0, 100_000] {
            let mut subscriptions = subscriptions();
            (0..others).for_each(|number| subscriptions.put(filter(&format!("t/{number}")), subscription(1)));
            subscriptions.put(filter("$share/g/a"), subscription(1));
            let began = Instant::now();
            let found = (0..100).map(|_| subscriptions.shared_filters().len()).sum::<usize>();
            assert_eq!(found, 100);
            println!("beside {others} others: {:?}", began.elapsed() / 100);
        }
    }

    /// However they come and go, and whether they are shared.
    #[test]
    fn shapes_are_those_of_the_filters_that_are_there() {
        let deep = |text: &str| TopicFilter::parse(text, 32).expect("a valid filter");
        let [plain, shared, longer] =
            ["+/+/+/d/e/f/g/h/i", "$share/g/+/+/+/4/5/6/7/8/9", "+/+/+/d/e/f/g/h/i/j"].map(deep);
        let mut subscriptions = subscriptions();
        subscriptions.put(filter("+/+/#"), subscription(1));
        let ordinary = subscriptions.memory();
        assert!(subscriptions.have_room_for_shape(&longer, 2) && !subscriptions.have_room_for_shape(&longer, 1));
        subscriptions.put(plain.clone(), subscription(1));
        subscriptions.put(plain.clone(), subscription(2));
        assert!(subscriptions.memory() > ordinary + 100);
        assert!(subscriptions.have_room_for_shape(&shared, 0), "its shape is there");
        subscriptions.put(shared.clone(), subscription(1));
        assert!(subscriptions.remove(&plain) && !subscriptions.remove(&plain));
        assert!(subscriptions.have_room_for_shape(&plain, 0) && !subscriptions.have_room_for_shape(&longer, 1));
        assert!(subscriptions.remove(&shared));
        assert!(!subscriptions.have_room_for_shape(&plain, 0));
        assert!(subscriptions.memory() < ordinary + 100, "{ordinary}");
        subscriptions.put(plain.clone(), subscription(1));
        assert!(subscriptions.is_first_refusal() && !subscriptions.is_first_refusal());
        let taken = subscriptions.take();
        assert!(taken.have_room_for_shape(&plain, 0) && !subscriptions.have_room_for_shape(&plain, 0));
        assert!(!subscriptions.is_first_refusal());
    }

    proptest! {
        /// They come and go: the table knows what a map knows, however small the portions are in which it is walked.
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0..40_u32, any::<bool>(), 0..9_u32), 0..120), most in 1..9_usize) {
            let (mut subscriptions, mut map) = (subscriptions(), BTreeMap::new());
            subscriptions.reserve(3);
            for (number, leaves, id) in steps {
                let text = if number % 3 == 0 { format!("$share/g/{number}") } else { number.to_string() };
                if leaves {
                    prop_assert_eq!(subscriptions.remove(&filter(&text)), map.remove(&text).is_some());
                } else {
                    subscriptions.put(filter(&text), subscription(id));
                    map.insert(text, id);
                }
            }
            let wanted: Vec<_> = map.iter().map(|(text, id)| (text.clone(), *id)).collect();
            prop_assert_eq!(walked(&subscriptions, most), wanted);
            prop_assert_eq!(subscriptions.all().entries.len(), map.len());
            prop_assert_eq!(subscriptions.filter_bytes(), map.keys().map(String::len).sum::<usize>());
            let mut shared: Vec<_> = subscriptions.shared_filters().iter().map(|one| one.as_str().to_owned()).collect();
            shared.sort();
            let is_shared = |text: &&String| text.starts_with('$');
            prop_assert_eq!(&shared, &map.keys().filter(is_shared).cloned().collect::<Vec<_>>());
            prop_assert_eq!(subscriptions.shared() as usize, shared.len());
            for number in 0..40 {
                let text = number.to_string();
                prop_assert_eq!(subscriptions.get(&filter(&text)).map(|one| one.id), map.get(&text).copied());
            }
        }
    }
}
