//! Topics: names, filters, and what brings them together.
//!
//! This module owns the rules of MQTT section 4.7 and nothing else: it knows neither clients nor messages. Text comes in
//! from the network and is checked once, by [`TopicName::parse`] and [`TopicFilter::parse`]; everything else trusts the
//! proof those types carry.

// `FilterTree` finds the filters that match a topic name (subscriptions, interest of other shards); its `Shapes` say how many nodes a topic
// can visit there. `TopicMap` keeps topic names in
// order, and a `FilterSet` says which of them filters match, and where to look for the next (retained messages). `ScopeTree` finds
// whether a set of filters covers a topic or a filter, `ScopeColumns` whether it meets one (access rules). They are keyed by what
// clients choose, so hashes are seeded, and no walk recurses.

mod filter;
mod filter_set;
mod filter_tree;
mod levels;
mod name;
mod places;
mod scope_columns;
mod scope_tree;
mod shapes;
mod topic_map;

use std::fmt;

use ahash::RandomState;

use crate::random::Random;

pub use filter::TopicFilter;
pub use name::TopicName;

#[doc(hidden)]
pub use {
    filter_set::{FilterSet, Sought},
    filter_tree::FilterTree,
    places::{Names, PLACES, is_level},
    scope_columns::ScopeColumns,
    scope_tree::ScopeTree,
    shapes::Shapes,
    topic_map::{Named, TopicMap, after},
};

/// The longest topic name or filter in bytes: what the two-byte length of a UTF-8 string can say `[MQTT-4.7.3-3]`.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Why a text is not a topic name or not a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// It has no characters `[MQTT-4.7.3-1]`.
    Empty,
    /// It is longer than [`MAX_TOPIC_BYTES`] `[MQTT-4.7.3-3]`.
    TooLong,
    /// It has more levels than this many, the limit that was given.
    TooManyLevels(usize),
    /// It contains the null character `[MQTT-4.7.3-2]`.
    Null,
    /// A topic name contains `+` or `#` `[MQTT-4.7.0-1]`.
    WildcardInName,
    /// `+` or `#` shares its level with other characters `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`.
    WildcardNotAlone,
    /// `#` is not the last level `[MQTT-4.7.1-1]`.
    HashNotLast,
    /// The name of a shared subscription is missing or contains `+` or `#` `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
    ShareName,
    /// A shared subscription has no topic filter after its name `[MQTT-4.8.2-2]`.
    ShareFilter,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopicError::Empty => f.write_str("it is empty"),
            TopicError::TooLong => write!(f, "it is longer than {MAX_TOPIC_BYTES} bytes"),
            TopicError::TooManyLevels(limit) => write!(f, "it has more than {limit} levels"),
            TopicError::Null => f.write_str("it contains the null character"),
            TopicError::WildcardInName => f.write_str("a topic name cannot contain '+' or '#'"),
            TopicError::WildcardNotAlone => f.write_str("'+' and '#' must be alone in their level"),
            TopicError::HashNotLast => f.write_str("'#' must be the last level"),
            TopicError::ShareName => f.write_str("the name of the share is empty or contains '+' or '#'"),
            TopicError::ShareFilter => f.write_str("a shared subscription needs a topic filter after its name"),
        }
    }
}

impl std::error::Error for TopicError {}

/// The hasher that `seed` determines.
fn seeded(seed: u64) -> RandomState {
    let mut random = Random::from_seed(seed);
    RandomState::with_seeds(random.u64(), random.u64(), random.u64(), random.u64())
}

/// Whether a table with room for `capacity` entries and `len` of them should give memory back.
fn is_wasteful(len: usize, capacity: usize) -> bool {
    /// With less room than this, it is not worth while.
    const WORTH_SHRINKING: usize = 1024;

    capacity >= WORTH_SHRINKING && len < capacity / 4
}

/// What the property tests of this module choose from: few levels and few labels, so that things meet.
#[cfg(test)]
mod arbitrary {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::TopicFilter;

    const LABELS: [&str; 6] = ["", "a", "b", "$x", "a label with more than sixteen bytes", "ä"];

    fn labels() -> impl Strategy<Value = Vec<&'static str>> {
        prop::collection::vec(select(&LABELS[..]), 1..5)
    }

    /// Texts of topic names.
    pub(super) fn topic() -> impl Strategy<Value = String> {
        labels().prop_map(|labels| labels.join("/")).prop_filter("a topic is not empty", |text| !text.is_empty())
    }

    /// Filters with and without wildcards, shared and not.
    pub(super) fn filter() -> impl Strategy<Value = TopicFilter> {
        let level = prop_oneof![2 => select(&LABELS[..]), 1 => Just("+")];
        let end = select(&["", "", "/#"][..]);
        let text = prop_oneof![
            9 => (prop::collection::vec(level, 1..5), end).prop_map(|(levels, end)| levels.join("/") + end),
            1 => Just("#".to_owned()),
        ];
        let share = select(&["", "", "", "$share/group/"][..]);
        (share, text.prop_filter("a filter is not empty", |text| !text.is_empty()))
            .prop_map(|(share, text)| TopicFilter::parse(&format!("{share}{text}"), 9).expect(&text))
    }
}
