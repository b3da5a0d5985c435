//! What one rule is about: the topics of a filter, or those of a pattern once a client fills it in.
//!
//! A placeholder is a level of its own and becomes what the client is called, literally. A name with characters that
//! mean more than themselves in a filter, or end a level, fills in nothing: who is called `+` gains nothing by it. A
//! *grant* does not let a name that begins with `$` stand for the first level either, so that nobody is granted `$SYS` by
//! taking that name.

use std::sync::Arc;

use super::identity::Identity;
use crate::topic::{TopicError, TopicFilter, TopicName};

/// The topics a rule is about.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// The same for every client.
    Filter(TopicFilter),
    /// Other ones for each client.
    Pattern(Pattern),
}

/// A topic filter with `%u`, `%c` and `%m` as levels.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Arc<str>);

/// Whether a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Grant,
    Deny,
}

impl Scope {
    /// Whether the rule is about `topic`.
    #[inline]
    pub fn matches(&self, topic: TopicName<'_>, who: &Identity<'_>, effect: Effect) -> bool {
        match self {
            Scope::Filter(filter) => filter.matches(topic),
            Scope::Pattern(pattern) => pattern.matches(topic, who, effect),
        }
    }

    /// The filter that this is for a client; none if it is about no topic at all.
    fn filled_in(&self, who: &Identity<'_>, effect: Effect) -> Option<TopicFilter> {
        match self {
            Scope::Filter(filter) => Some(filter.clone()),
            Scope::Pattern(pattern) => pattern.filled_in(who, effect),
        }
    }

    /// Whether the rule is about every topic that `filter` matches.
    pub fn covers(&self, filter: &TopicFilter, who: &Identity<'_>, effect: Effect) -> bool {
        self.filled_in(who, effect).is_some_and(|own| own.covers(filter))
    }

    /// Whether the rule is about any topic that `filter` matches.
    pub fn meets(&self, filter: &TopicFilter, who: &Identity<'_>, effect: Effect) -> bool {
        self.filled_in(who, effect).is_some_and(|own| meet(own.filter(), filter.filter()))
    }
}

impl Pattern {
    /// Checks `text` as a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let inside =
            |level: &str| !is_placeholder(level) && ["%u", "%c", "%m"].iter().any(|place| level.contains(place));
        if text.split('/').any(inside) {
            return Err(PatternError::PlaceholderNotAlone);
        }
        // A placeholder is an ordinary level: the rest has to be a topic filter.
        TopicFilter::parse(text, usize::MAX).map_err(PatternError::Filter)?;
        Ok(Pattern(text.into()))
    }

    /// Its levels for a client; one that no name can fill is none.
    fn levels<'a>(&'a self, who: &Identity<'a>, effect: Effect) -> impl Iterator<Item = Option<&'a str>> {
        let who = *who;
        self.0.split('/').enumerate().map(move |(at, level)| {
            let name = match level {
                "%u" => who.username?,
                "%c" => who.client_id,
                "%m" => who.mountpoint,
                _ => return Some(level),
            };
            let is_plain = !name.contains(['+', '#', '/', '\0']);
            (is_plain && !(effect == Effect::Grant && at == 0 && name.starts_with('$'))).then_some(name)
        })
    }

    /// As [`Pattern::filled_in`] and then [`TopicFilter::matches`], without making the filter.
    fn matches(&self, topic: TopicName<'_>, who: &Identity<'_>, effect: Effect) -> bool {
        if topic.is_dollar() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut wanted = self.levels(who, effect);
        let mut given = topic.levels();
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(Some("#")), _) => return true,
                (Some(Some("+")), Some(_)) => {}
                (Some(Some(want)), Some(level)) if want == level => {}
                _ => return false,
            }
        }
    }

    fn filled_in(&self, who: &Identity<'_>, effect: Effect) -> Option<TopicFilter> {
        let levels: Option<Vec<&str>> = self.levels(who, effect).collect();
        TopicFilter::parse(&levels?.join("/"), usize::MAX).ok()
    }
}

/// Whether `level` is a place for a name.
pub(super) fn is_placeholder(level: &str) -> bool {
    matches!(level, "%u" | "%c" | "%m")
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// A placeholder shares its level with other characters.
    PlaceholderNotAlone,
    /// It is not a topic filter.
    Filter(TopicError),
}

/// Whether there is a topic that both filters match.
fn meet(one: &str, other: &str) -> bool {
    let wild = |filter: &str| filter.starts_with(['+', '#']);
    if (wild(one) && other.starts_with('$')) || (wild(other) && one.starts_with('$')) {
        return false;
    }
    // All they have in common is the topic without characters, which does not exist.
    if matches!((one, other), ("+", "/#") | ("/#", "+")) {
        return false;
    }
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Identity<'static> = Identity { username: Some("u"), client_id: "c", mountpoint: "m" };

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 99).expect(text)
    }

    fn topic(text: &str) -> TopicName<'_> {
        TopicName::parse(text, 99).expect(text)
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    /// Every sequence of up to `most` of `labels`, as levels.
    fn every(labels: &[&str], most: usize) -> Vec<String> {
        let mut all: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut last = all.clone();
        for _ in 1..most {
            last = last.iter().flat_map(|text| labels.iter().map(move |label| format!("{text}/{label}"))).collect();
            all.extend(last.iter().cloned());
        }
        all.retain(|text| !text.is_empty());
        all
    }

    /// Against the definition: what a filter means is the topics it matches. With one label more than filters have, and
    /// one level more, the topics below tell any two filters apart.
    #[test]
    fn covering_and_meeting_are_what_they_mean() {
        let topics = every(&["", "a", "$x", "z"], 4);
        let topics: Vec<TopicName<'_>> = topics.iter().map(|text| topic(text)).collect();
        let filters = every(&["", "a", "$x", "+", "#"], 3);
        let filters: Vec<TopicFilter> = filters.iter().filter_map(|text| TopicFilter::parse(text, 9).ok()).collect();
        assert!(filters.len() > 90, "{} filters", filters.len());
        let matched =
            |filter: &TopicFilter| -> Vec<bool> { topics.iter().map(|topic| filter.matches(*topic)).collect() };
        let matched: Vec<Vec<bool>> = filters.iter().map(matched).collect();
        for (wide, of_wide) in filters.iter().zip(&matched) {
            let scope = Scope::Filter(wide.clone());
            for (narrow, of_narrow) in filters.iter().zip(&matched) {
                let both = || of_wide.iter().zip(of_narrow);
                let covers = both().all(|(wide, narrow)| *wide || !*narrow);
                assert_eq!(scope.covers(narrow, &WHO, Effect::Grant), covers, "{wide} covers {narrow}");
                let meets = both().any(|(wide, narrow)| *wide && *narrow);
                assert_eq!(scope.meets(narrow, &WHO, Effect::Deny), meets, "{wide} meets {narrow}");
            }
        }
    }

    #[test]
    fn a_pattern_matches_what_its_filter_matches() {
        let topics = every(&["", "u", "c", "m", "x", "$SYS"], 3);
        let patterns = every(&["%u", "%c", "%m", "x", "+", "#"], 3);
        let names = [Some("u"), Some(""), Some("$SYS"), Some("+"), None];
        for text in patterns.iter().filter(|text| TopicFilter::parse(text, 9).is_ok()) {
            let pattern = pattern(text);
            for username in names {
                let who = Identity { username, ..WHO };
                for effect in [Effect::Grant, Effect::Deny] {
                    let filled_in = pattern.filled_in(&who, effect);
                    for name in &topics {
                        let expected = filled_in.as_ref().is_some_and(|filter| filter.matches(topic(name)));
                        assert_eq!(pattern.matches(topic(name), &who, effect), expected, "{text} {name} {who:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_taken_literally() {
        let scope = Scope::Pattern(pattern("dev/%c/#"));
        let named = |client_id| Identity { client_id, ..WHO };
        assert!(scope.covers(&filter("dev/c/+"), &named("c"), Effect::Grant));
        assert!(!scope.covers(&filter("dev/d/+"), &named("c"), Effect::Grant));
        for wild in ["+", "#", "a+", "a/b", "+/#", "\0"] {
            for requested in ["dev/+/x", "dev/#", "dev/a/b", "dev/c/x", "dev/+/#"] {
                assert!(!scope.covers(&filter(requested), &named(wild), Effect::Grant), "{wild:?} {requested}");
            }
            for name in ["dev/a/b", "dev/c/x", "dev//x"] {
                assert!(!scope.matches(topic(name), &named(wild), Effect::Grant), "{wild:?} {name}");
            }
        }
        let nobody = Identity { username: None, ..WHO };
        assert!(!Scope::Pattern(pattern("%u/#")).matches(topic("/x"), &nobody, Effect::Grant));
    }

    #[test]
    fn nobody_is_granted_the_system_topics_for_his_name() {
        let who = Identity { client_id: "$SYS", ..WHO };
        let scope = Scope::Pattern(pattern("%c/#"));
        assert!(!scope.covers(&filter("$SYS/#"), &who, Effect::Grant));
        assert!(!scope.matches(topic("$SYS/x"), &who, Effect::Grant));
        assert!(scope.meets(&filter("$SYS/#"), &who, Effect::Deny), "what is denied stays denied");
        assert!(Scope::Pattern(pattern("x/%c")).matches(topic("x/$SYS"), &who, Effect::Grant));
    }

    #[test]
    fn patterns_are_checked() {
        for text in ["dev-%c/x", "%u%c", "a/%%u"] {
            assert_eq!(Pattern::parse(text).err(), Some(PatternError::PlaceholderNotAlone), "{text}");
        }
        assert_eq!(Pattern::parse("%u/#/x").err(), Some(PatternError::Filter(TopicError::HashNotLast)));
        assert_eq!(Pattern::parse("").err(), Some(PatternError::Filter(TopicError::Empty)));
        assert!(Pattern::parse("100%/%x/%").is_ok(), "other per cent signs are text");
    }

    #[test]
    fn a_shared_subscription_is_judged_by_what_is_behind_the_group() {
        let scope = Scope::Filter(filter("a/#"));
        assert!(scope.covers(&filter("$share/g/a/+"), &WHO, Effect::Grant));
        assert!(!scope.covers(&filter("$share/g/b"), &WHO, Effect::Grant));
        assert!(scope.meets(&filter("$share/g/+/b"), &WHO, Effect::Deny));
    }
}
