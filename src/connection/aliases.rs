//! Topic aliases [MQTT-3.3.2.3.4]: numbers that stand for topics on one connection.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::config::Limit;
use crate::memory::{Held, MemoryKind, OF_SHARED_TEXT, allocated_for};

/// Aliases that the client set. Numbers up to the Topic Alias Maximum of the CONNACK.
#[derive(Default)]
pub struct AliasesIn {
    topics: Vec<Option<Arc<str>>>,
    /// The bytes of the topics.
    bytes: usize,
    held: Held<{ MemoryKind::Connections as u8 }>,
}

impl AliasesIn {
    /// The client set `alias`, checked against the maximum, to mean `topic`. False, and nothing is changed, if the topics of all aliases
    /// had more than `most` bytes then.
    pub fn set(&mut self, alias: u16, topic: &str, most: Limit) -> bool {
        let at = usize::from(alias) - 1;
        if self.topics.len() <= at {
            self.topics.resize(at + 1, None);
        }
        let before = self.topics[at].as_deref();
        if before == Some(topic) {
            return true;
        }
        let bytes = self.bytes - before.map_or(0, str::len) + topic.len();
        if !most.allows(bytes) {
            return false;
        }
        (self.topics[at], self.bytes) = (Some(topic.into()), bytes);
        let topics = self.bytes + OF_SHARED_TEXT * self.topics.len();
        self.held.set(allocated_for::<Option<Arc<str>>>(self.topics.capacity()) + topics);
        true
    }

    /// What `alias` stands for.
    pub fn get(&self, alias: u16) -> Option<&Arc<str>> {
        self.topics.get(usize::from(alias).checked_sub(1)?)?.as_ref()
    }
}

/// How an outgoing PUBLISH names its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutgoingAlias {
    /// By its name alone.
    None,
    /// By its name; from now on the alias stands for it.
    Introduce(u16),
    /// By the alias alone.
    Use(u16),
}

/// Aliases that the broker sets: a topic gets one when it comes a second time, as long as there are numbers left.
pub struct AliasesOut {
    topics: HashMap<Box<str>, u16, ahash::RandomState>,
    /// The bytes of the topics.
    bytes: usize,
    assigned: u16,
}

/// A topic was seen once.
const SEEN: u16 = 0;

/// The most bytes of topics that are remembered for one connection: those with an alias, and those that were seen once.
const MOST_BYTES: usize = 64 * 1024;

impl AliasesOut {
    /// No alias assigned yet; topics are hashed with `hasher`.
    pub fn new(hasher: ahash::RandomState) -> Self {
        AliasesOut { topics: HashMap::with_hasher(hasher), bytes: 0, assigned: 0 }
    }

    /// How to name `topic` in a PUBLISH that goes out now, with at most `maximum` aliases in use. The PUBLISH must really go
    /// out.
    pub fn name(&mut self, topic: &str, maximum: u16) -> OutgoingAlias {
        match self.topics.get_mut(topic) {
            Some(&mut SEEN) if self.assigned < maximum => {
                self.assigned += 1;
                self.topics.insert(topic.into(), self.assigned);
                OutgoingAlias::Introduce(self.assigned)
            }
            Some(&mut SEEN) => OutgoingAlias::None,
            Some(alias) => OutgoingAlias::Use(*alias),
            None => {
                self.note(topic, maximum);
                OutgoingAlias::None
            }
        }
    }

    /// Remembers that `topic` was seen. Topics seen only once are forgotten when they become too many, so that what stays
    /// is what is hot.
    fn note(&mut self, topic: &str, maximum: u16) {
        if self.assigned >= maximum {
            return;
        }
        let AliasesOut { topics, bytes, .. } = self;
        if topics.len() >= usize::from(maximum) * 4 || *bytes + topic.len() > MOST_BYTES {
            topics.retain(|topic, alias| {
                *bytes -= if *alias == SEEN { topic.len() } else { 0 };
                *alias != SEEN
            });
        }
        if *bytes + topic.len() <= MOST_BYTES {
            *bytes += topic.len();
            topics.insert(topic.into(), SEEN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_publish_introduces_and_the_third_uses() {
        let mut aliases = AliasesOut::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        assert_eq!(aliases.name("a", 1), OutgoingAlias::None);
        assert_eq!(aliases.name("b", 1), OutgoingAlias::None);
        assert_eq!(aliases.name("a", 1), OutgoingAlias::Introduce(1));
        assert_eq!(aliases.name("a", 1), OutgoingAlias::Use(1));
        assert_eq!(aliases.name("b", 1), OutgoingAlias::None, "there is one alias only");
    }

    #[test]
    fn a_flood_of_topics_does_not_pile_up() {
        let mut aliases = AliasesOut::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        for topic in 0..10_000 {
            aliases.name(&topic.to_string(), 2);
        }
        assert!(aliases.topics.len() <= 8);
    }

    #[test]
    fn topics_are_remembered_up_to_so_many_bytes() {
        let mut aliases = AliasesOut::new(ahash::RandomState::with_seeds(1, 2, 3, 4));
        let long = |number: usize| format!("{number}{}", "x".repeat(MOST_BYTES / 3));
        for number in 0..100 {
            aliases.name(&long(number), u16::MAX);
            let bytes: usize = aliases.topics.keys().map(|topic| topic.len()).sum();
            assert!(bytes == aliases.bytes && bytes <= MOST_BYTES, "{bytes}");
        }
        for alias in 1..=2 {
            assert_eq!(aliases.name(&long(200 + alias), u16::MAX), OutgoingAlias::None);
            assert_eq!(aliases.name(&long(200 + alias), u16::MAX), OutgoingAlias::Introduce(alias as u16));
        }
        for _ in 0..3 {
            assert_eq!(aliases.name(&long(300), u16::MAX), OutgoingAlias::None, "there is no room for it");
        }
    }

    #[test]
    fn incoming_aliases_have_topics_of_so_many_bytes() {
        let (mut aliases, most) = (AliasesIn::default(), Limit::at_most(5));
        assert!(aliases.set(1, "abc", most) && !aliases.set(2, "def", most) && aliases.set(2, "de", most));
        assert!(aliases.set(1, "abc", most) && !aliases.set(1, "abcd", most) && aliases.set(1, "c", most));
        assert!(aliases.set(2, "defg", most));
        let topics = [1, 2].map(|alias| aliases.get(alias).map(|topic| topic.to_string()));
        assert_eq!(topics, [Some("c".to_owned()), Some("defg".to_owned())]);
    }

    #[test]
    fn incoming_aliases_can_be_set_anew() {
        let mut aliases = AliasesIn::default();
        aliases.set(2, "a", Limit::UNLIMITED);
        let get = |alias| aliases.get(alias).map(|topic| &**topic);
        assert_eq!((get(1), get(2), get(3), get(0)), (None, Some("a"), None, None));
        aliases.set(2, "b", Limit::UNLIMITED);
        assert_eq!(aliases.get(2).map(|topic| &**topic), Some("b"));
    }
}
