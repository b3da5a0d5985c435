//! Topic names: what a PUBLISH is addressed to.

use std::fmt;

use super::{MAX_TOPIC_BYTES, TopicError};
use crate::octets;

/// A checked topic name, borrowed: not empty, no wildcards, no null, within its limits `[MQTT-4.7.3-1]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    /// Checks `text` as a topic name of at most `max_levels` levels (`a//b` has three) and [`MAX_TOPIC_BYTES`] bytes.
    ///
    /// Names that begin with `$` are valid here; who may publish to them is decided elsewhere.
    pub fn parse(text: &'a str, max_levels: usize) -> Result<Self, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if text.len() > MAX_TOPIC_BYTES {
            return Err(TopicError::TooLong);
        }
        if octets::contains_null_or_wildcard(text.as_bytes()) {
            return Err(if text.contains('\0') { TopicError::Null } else { TopicError::WildcardInName });
        }
        // Most names are too short to have too many levels.
        if text.len() >= max_levels && text.bytes().filter(|&byte| byte == b'/').count() >= max_levels {
            return Err(TopicError::TooManyLevels(max_levels));
        }
        Ok(TopicName(text))
    }

    /// Takes `text` as the topic name it is known to be, because it was checked when it came in. Text that is none
    /// is a bug of the caller, found in debug builds; in others it just matches what its levels happen to match.
    pub fn trusted(text: &'a str) -> Self {
        debug_assert_eq!(TopicName::parse(text, usize::MAX).err(), None, "not a topic name: {text:?}");
        TopicName(text)
    }

    /// The name.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it begins with `$`: then no filter that begins with a wildcard matches it `[MQTT-4.7.2-1]`.
    pub fn is_dollar(self) -> bool {
        self.0.as_bytes().first() == Some(&b'$')
    }

    /// Its levels, in order. Empty levels are levels `[MQTT-4.7.3-1]`: `/a` has two.
    pub fn levels(self) -> std::str::Split<'a, char> {
        self.0.split('/')
    }
}

impl fmt::Display for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for TopicName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let ok = |text| assert_eq!(TopicName::parse(text, 3).map(TopicName::as_str), Ok(text));
        ["a", "/", "//", "a/b/c", " ", "$SYS/x", "ä/ö", "sport/tennis player"].into_iter().for_each(ok);
        assert_eq!(TopicName::parse("", 3), Err(TopicError::Empty));
        assert_eq!(TopicName::parse("a/b/c/d", 3), Err(TopicError::TooManyLevels(3)));
        assert_eq!(TopicName::parse("a/\0", 3), Err(TopicError::Null));
        for text in ["+", "#", "a/+/b", "a#", "a+/b"] {
            assert_eq!(TopicName::parse(text, 3), Err(TopicError::WildcardInName));
        }
    }

    #[test]
    fn names_have_at_most_65535_bytes() {
        let text = "a".repeat(MAX_TOPIC_BYTES + 1);
        assert!(TopicName::parse(&text[1..], 1).is_ok());
        assert_eq!(TopicName::parse(&text, 1), Err(TopicError::TooLong));
    }

    #[test]
    fn empty_levels_are_levels() {
        let levels = |text| TopicName::parse(text, 9).unwrap().levels().collect::<Vec<_>>();
        assert_eq!(levels("/finance"), ["", "finance"]);
        assert_eq!(levels("a//b/"), ["a", "", "b", ""]);
    }

    #[test]
    fn dollar_counts_at_the_beginning_only() {
        assert!(TopicName::parse("$", 9).unwrap().is_dollar());
        assert!(TopicName::parse("$SYS/a", 9).unwrap().is_dollar());
        assert!(!TopicName::parse("/$SYS", 9).unwrap().is_dollar());
    }
}
