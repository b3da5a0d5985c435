//! What one rule is about: the topics of a filter, or those of a pattern once a client fills it in.
//!
//! A placeholder is a level of its own and becomes what the client is called, literally. A name with characters that
//! mean more than themselves in a filter, or end a level, fills in nothing: who is called `+` gains nothing by it, and who is
//! called `ann/x` does not reach into what is ann's. A
//! *grant* does not let a name that begins with `$` stand for the first level either, so that nobody is granted `$SYS` by
//! taking that name.

use crate::topic::{PLACES, TopicError, TopicFilter};

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
pub(super) struct Pattern(Box<str>);

/// Whether a rule gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Grant,
    Deny,
}

impl Scope {
    /// The filter, with its places.
    pub fn text(&self) -> &str {
        match self {
            Scope::Filter(filter) => filter.filter(),
            Scope::Pattern(pattern) => &pattern.0,
        }
    }
}

impl Pattern {
    /// Checks `text` as a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let inside = |level: &str| !is_placeholder(level) && PLACES.iter().any(|place| level.contains(place));
        if text.split('/').any(inside) {
            return Err(PatternError::PlaceholderNotAlone);
        }
        // A placeholder is an ordinary level: the rest has to be a topic filter.
        TopicFilter::parse(text, usize::MAX).map_err(PatternError::Filter)?;
        Ok(Pattern(text.into()))
    }
}

/// Whether `level` is a place for a name.
pub(super) fn is_placeholder(level: &str) -> bool {
    PLACES.contains(&level)
}

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatternError {
    /// A placeholder shares its level with other characters.
    PlaceholderNotAlone,
    /// It is not a topic filter.
    Filter(TopicError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_checked() {
        let pattern = Pattern::parse;
        for text in ["dev-%c/x", "%u%c", "a/%%u"] {
            assert_eq!(pattern(text).err(), Some(PatternError::PlaceholderNotAlone), "{text}");
        }
        assert_eq!(pattern("%u/#/x").err(), Some(PatternError::Filter(TopicError::HashNotLast)));
        assert_eq!(pattern("").err(), Some(PatternError::Filter(TopicError::Empty)));
        assert!(pattern("100%/%x/%").is_ok(), "other per cent signs are text");
    }
}
