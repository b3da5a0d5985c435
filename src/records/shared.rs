//! Texts that many records repeat, kept once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::topic::TopicFilter;

/// So many of each kind are known at a time. Beyond it they are forgotten, and what comes then is kept once more.
const MOST_KNOWN: usize = 4096;

/// Mountpoints, names of listeners, and filters of shared subscriptions.
pub(super) struct Shared {
    texts: HashSet<Arc<str>, ahash::RandomState>,
    groups: HashMap<Box<str>, Arc<TopicFilter>, ahash::RandomState>,
}

impl Shared {
    pub fn new(hasher: &ahash::RandomState) -> Self {
        Shared { texts: HashSet::with_hasher(hasher.clone()), groups: HashMap::with_hasher(hasher.clone()) }
    }

    /// `text`, as it is shared.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() == MOST_KNOWN {
            self.texts.clear();
        }
        let new: Arc<str> = text.into();
        self.texts.insert(new.clone());
        new
    }

    /// The filter of a shared subscription. None if it is no filter.
    pub fn group(&mut self, filter: &str) -> Option<Arc<TopicFilter>> {
        if let Some(known) = self.groups.get(filter) {
            return Some(known.clone());
        }
        let new = Arc::new(TopicFilter::parse(filter, usize::MAX).ok()?);
        if self.groups.len() == MOST_KNOWN {
            self.groups.clear();
        }
        self.groups.insert(filter.into(), new.clone());
        Some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_kept_once_and_not_too_much_is_known() {
        let mut shared = Shared::new(&ahash::RandomState::with_seeds(1, 2, 3, 4));
        let (first, group) = (shared.text("a"), shared.group("$share/g/t").expect("a filter"));
        assert!(Arc::ptr_eq(&first, &shared.text("a")));
        assert!(Arc::ptr_eq(&group, &shared.group("$share/g/t").expect("a filter")));
        assert!(shared.group("a/#/b").is_none());
        for number in 0..2 * MOST_KNOWN {
            assert_eq!(&*shared.text(&number.to_string()), number.to_string());
            assert!(shared.group(&format!("$share/{number}/t")).is_some());
            assert!(shared.texts.len() <= MOST_KNOWN && shared.groups.len() <= MOST_KNOWN);
        }
    }
}
