//! Topic filters: what a subscription or an access rule asks for.

use std::fmt;
use std::sync::Arc;

use super::{MAX_TOPIC_BYTES, TopicError, TopicName};

/// What the text of a shared subscription begins with `[MQTT-4.8.2-1]`.
const SHARE_PREFIX: &str = "$share/";

/// A checked topic filter, owned; cloning it shares the text.
///
/// A filter is the text as the client sent it. Of a shared subscription, `$share/{ShareName}/{filter}`, the parts are
/// distinguished by [`share_name`](Self::share_name) and [`filter`](Self::filter). Equality is equality of the whole text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    text: Arc<str>,
    /// Where the filter proper begins: 0, or behind `$share/{ShareName}/`. At most [`MAX_TOPIC_BYTES`].
    start: u16,
    wildcard: bool,
}

impl TopicFilter {
    /// Checks `text` as a topic filter of at most `max_levels` levels, not counting those of `$share/{ShareName}/`, and
    /// at most [`MAX_TOPIC_BYTES`] bytes in all.
    pub fn parse(text: &str, max_levels: usize) -> Result<Self, TopicError> {
        let (filter, wildcard) = take_apart(text, max_levels)?;
        let start = u16::try_from(text.len() - filter.len()).map_err(|_| TopicError::TooLong)?;
        Ok(TopicFilter { text: text.into(), start, wildcard })
    }

    /// Checks that `text` is well formed: that it is a topic filter for the standard, whatever is accepted of those here.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(text: &str) -> Result<(), TopicError> {
        take_apart(text, usize::MAX).map(drop)
    }

    /// The whole text as the client sent it, `$share/{ShareName}/` included.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filter proper: what topics are compared with.
    pub fn filter(&self) -> &str {
        &self.text[usize::from(self.start)..]
    }

    /// The group of a shared subscription; none if the subscription is not shared.
    pub fn share_name(&self) -> Option<&str> {
        let end = usize::from(self.start).checked_sub(1)?;
        Some(&self.text[SHARE_PREFIX.len()..end])
    }

    /// Whether `+` or `#` occurs in it: whether it can match more than one topic.
    pub const fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether it matches `topic`. Wildcards in the first level match no topic that begins with `$` `[MQTT-4.7.2-1]`.
    pub fn matches(&self, topic: TopicName<'_>) -> bool {
        let filter = self.filter();
        if !self.wildcard {
            return filter == topic.as_str();
        }
        if topic.is_dollar() && begins_with_wildcard(filter) {
            return false;
        }
        let mut wanted = filter.split('/');
        let mut given = topic.levels();
        loop {
            match (wanted.next(), given.next()) {
                (None, None) | (Some("#"), _) => return true,
                (Some("+"), Some(_)) => {}
                (Some(want), Some(level)) if want == level => {}
                _ => return false,
            }
        }
    }

    /// Whether every topic that `other` matches is matched by this filter too: `a/#` covers `a/+` and `a`, but `a/+` does
    /// not cover `a/#`, nor `#` `$SYS/a`. Groups of shared subscriptions do not count.
    pub fn covers(&self, other: &TopicFilter) -> bool {
        let (wide, narrow) = (self.filter(), other.filter());
        if begins_with_wildcard(wide) && narrow.starts_with('$') {
            return false;
        }
        // A topic has at least one level, and is not empty: each of these two matches the same as the longer form.
        let narrow = match narrow {
            "#" => "+/#",
            "/#" => "/+/#",
            other => other,
        };
        let mut wide = wide.split('/');
        let mut narrow = narrow.split('/');
        loop {
            match (wide.next(), narrow.next()) {
                (None, None) | (Some("#"), _) => return true,
                (_, Some("#")) => return false,
                (Some("+"), Some(_)) => {}
                (Some(w), Some(n)) if w == n => {}
                _ => return false,
            }
        }
    }

    /// The filter proper as shared text: the client's own unless it is behind `$share/{ShareName}/`.
    pub(super) fn shared_filter(&self) -> Arc<str> {
        if self.start == 0 { self.text.clone() } else { self.filter().into() }
    }
}

/// The filter proper in `text`, and whether it has wildcards.
fn take_apart(text: &str, max_levels: usize) -> Result<(&str, bool), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong);
    }
    if text.as_bytes().contains(&0) {
        return Err(TopicError::Null);
    }
    let filter = match text.strip_prefix(SHARE_PREFIX) {
        Some(shared) => split_share(shared)?,
        None => text,
    };
    Ok((filter, check_levels(filter, max_levels)?))
}

/// `{ShareName}/{filter}` → `{filter}` `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
fn split_share(shared: &str) -> Result<&str, TopicError> {
    let (name, filter) = shared.split_once('/').unwrap_or((shared, ""));
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(TopicError::ShareName);
    }
    if filter.is_empty() {
        return Err(TopicError::ShareFilter);
    }
    Ok(filter)
}

/// Whether `filter` has wildcards; they must be alone in their level, `#` in the last one.
fn check_levels(filter: &str, max_levels: usize) -> Result<bool, TopicError> {
    let (mut count, mut wildcard, mut ended) = (0, false, false);
    for level in filter.split('/') {
        count += 1;
        if count > max_levels {
            return Err(TopicError::TooManyLevels(max_levels));
        }
        if ended {
            return Err(TopicError::HashNotLast);
        }
        match level {
            "+" => wildcard = true,
            "#" => (wildcard, ended) = (true, true),
            _ if level.contains(['+', '#']) => return Err(TopicError::WildcardNotAlone),
            _ => {}
        }
    }
    Ok(wildcard)
}

/// Whether the first level of `filter` is `+` or `#`, so that it matches nothing that begins with `$` `[MQTT-4.7.2-1]`.
fn begins_with_wildcard(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::arbitrary;
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text, 9).expect(text)
    }

    fn matches(text: &str, topic: &str) -> bool {
        filter(text).matches(TopicName::parse(topic, 9).expect(topic))
    }

    #[test]
    fn filters_are_checked() {
        let error = |text| TopicFilter::parse(text, 3).expect_err(text);
        assert_eq!(error(""), TopicError::Empty);
        assert_eq!(error("a/\0"), TopicError::Null);
        assert_eq!(error("a/b/c/d"), TopicError::TooManyLevels(3));
        assert_eq!(error("a/#/b"), TopicError::HashNotLast);
        assert_eq!(error("#/"), TopicError::HashNotLast);
        for text in ["a+", "+a/b", "a/b#", "a/#b", "++", "##", "+#"] {
            assert_eq!(error(text), TopicError::WildcardNotAlone, "{text}");
        }
        for text in ["/", "#", "+", "+/+/#", "//", "a/+/b", "$SYS/#", "$share", "share/a"] {
            let filter = TopicFilter::parse(text, 3).expect(text);
            assert_eq!((filter.as_str(), filter.filter(), filter.share_name()), (text, text, None));
        }
    }

    #[test]
    fn how_many_levels_are_accepted_is_no_question_of_form() {
        let deep = "a/".repeat(1000);
        assert_eq!(TopicFilter::parse(&deep, 9), Err(TopicError::TooManyLevels(9)));
        assert_eq!(TopicFilter::check(&deep), Ok(()));
        assert_eq!(TopicFilter::check(&format!("{deep}/#/")), Err(TopicError::HashNotLast));
        for text in ["", "a/#/b", "a#", "+a/b", "$share/g", "$share//t", "$share/g+/t", "$share/g/t/#/u"] {
            assert!(TopicFilter::check(text).is_err(), "{text}");
        }
        for text in ["#", "+/+", "/", "$share/g//", "$share", "$SYS/#"] {
            assert_eq!(TopicFilter::check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn filters_have_at_most_65535_bytes() {
        let text = format!("$share/{}/a", "g".repeat(MAX_TOPIC_BYTES - 9));
        let longest = TopicFilter::parse(&text, 1).unwrap();
        assert_eq!((longest.filter(), longest.share_name().map(str::len)), ("a", Some(MAX_TOPIC_BYTES - 9)));
        assert_eq!(TopicFilter::parse(&format!("{text}b"), 1), Err(TopicError::TooLong));
    }

    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    #[test]
    fn shared_subscriptions_are_taken_apart() {
        let shared = TopicFilter::parse("$share/group/a/+/c", 3).unwrap();
        assert_eq!(shared.as_str(), "$share/group/a/+/c");
        assert_eq!((shared.filter(), shared.share_name()), ("a/+/c", Some("group")));
        assert!(shared.has_wildcard());
        let root = filter("$share/g//");
        assert_eq!((root.filter(), root.share_name(), root.has_wildcard()), ("/", Some("g"), false));
        for text in ["$share/", "$share//a", "$share/+/a", "$share/g#/a"] {
            assert_eq!(TopicFilter::parse(text, 9), Err(TopicError::ShareName), "{text}");
        }
        for text in ["$share/g", "$share/g/"] {
            assert_eq!(TopicFilter::parse(text, 9), Err(TopicError::ShareFilter), "{text}");
        }
        assert_eq!(TopicFilter::parse("$share/g/a/#/b", 9), Err(TopicError::HashNotLast));
    }

    /// The examples of section 4.7.
    #[test]
    fn wildcards_match_as_the_standard_says() {
        for topic in ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"] {
            assert!(matches("sport/tennis/player1/#", topic));
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("#", "sport/"));
        assert!(matches("sport/tennis/+", "sport/tennis/player2"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance"));
        assert!(!matches("ACCOUNTS", "Accounts"));
        assert!(!matches("a", "a/") && !matches("a/", "a") && !matches("a/#", "ab"));
    }

    /// [MQTT-4.7.2-1]
    #[test]
    fn wildcards_in_the_first_level_do_not_match_dollar_topics() {
        for text in ["#", "+/a", "+/#", "+/+", "$share/g/#", "$share/g/+/a"] {
            assert!(!matches(text, "$SYS/a"), "{text}");
        }
        for text in ["$SYS/#", "$SYS/+", "$SYS/a", "$share/g/$SYS/#"] {
            assert!(matches(text, "$SYS/a"), "{text}");
        }
        assert!(matches("+/+", "a/$b") && matches("#", "a/$b"));
    }

    #[test]
    fn covering() {
        let covers = |wide, narrow| filter(wide).covers(&filter(narrow));
        assert!(covers("a/#", "a") && covers("a/#", "a/+") && covers("a/#", "a/#") && covers("a/+/#", "a/b/#"));
        assert!(!covers("a/+", "a/#") && !covers("a/+/#", "a/#") && !covers("a", "+"));
        assert!(covers("#", "+/a") && !covers("#", "$SYS/a") && covers("$SYS/#", "$SYS/+/b"));
        assert!(covers("+/#", "#") && covers("#", "+/#") && !covers("+/+/#", "#"));
        assert!(covers("/+/#", "/#") && covers("+/+/#", "/#") && !covers("+", "/#"));
        assert!(covers("a/+", "$share/g/a/b") && covers("$share/g/a/+", "a/b"));
    }

    proptest! {
        /// Against every topic of up to five levels of a small alphabet; filters have up to three, and `y` is in none of them.
        #[test]
        fn covers_is_what_matching_every_topic_tells(
            pair in prop::collection::vec(prop::sample::select(&["", "a", "$x", "+", "+", "#"][..]), 3..7)
        ) {
            let (wide, narrow) = pair.split_at(pair.len() / 2);
            let parse = |levels: &[&str]| TopicFilter::parse(&levels.join("/"), 9);
            let (Ok(wide), Ok(narrow)) = (parse(wide), parse(narrow)) else { return Ok(()) };
            let labels = ["", "a", "$x", "y"].map(str::to_owned);
            let mut topics = labels.to_vec();
            for depth in 1..5 {
                let above: Vec<_> = topics.iter().filter(|topic| topic.split('/').count() == depth).cloned().collect();
                topics.extend(above.iter().flat_map(|above| labels.each_ref().map(|level| format!("{above}/{level}"))));
            }
            let mut names = topics.iter().filter(|text| !text.is_empty()).map(|text| TopicName::trusted(text));
            let missed = names.find(|&name| narrow.matches(name) && !wide.matches(name));
            prop_assert_eq!(wide.covers(&narrow), missed.is_none(), "{} {} {:?}", wide, narrow, missed);
        }

        #[test]
        fn a_filter_without_wildcards_matches_its_own_text_only(filter in arbitrary::filter(), topic in arbitrary::topic()) {
            let name = TopicName::parse(&topic, 9).unwrap();
            if !filter.has_wildcard() {
                prop_assert_eq!(filter.matches(name), filter.filter() == topic);
            }
        }
    }
}
