//! The rules of an access file, and what they say of a topic or a filter.
//!
//! Denials beat grants, whatever their order. What no rule is about is left to others.

use std::fmt;

use super::identity::Identity;
use super::scope::{Effect, Scope};
use crate::topic::{Names, PLACES, ScopeColumns, ScopeTree, TopicFilter, TopicName, is_level};

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It is granted, and not denied.
    Granted,
    /// It is denied.
    Denied,
    /// No rule is about it.
    Silent,
}

/// Rules, read from text; see [`AclRules::parse`].
pub struct AclRules {
    read: Access,
    write: Access,
    /// What is denied to read, once more: a subscription is denied for any topic that it has in common with a rule.
    denied_in_part: ScopeColumns,
    count: usize,
    /// Which of the places patterns have.
    places: [bool; PLACES.len()],
}

/// What may be done, and what must not, by user name. Without one it is for everyone.
struct Access {
    granted: ScopeTree,
    denied: ScopeTree,
}

/// Under which the rules for everyone are kept. No user has this name.
const EVERYONE: &str = "";

impl Access {
    fn new() -> Self {
        // What is in these trees is chosen by whoever writes the file, and by nobody else.
        Access { granted: ScopeTree::new(1), denied: ScopeTree::new(2) }
    }
}

impl AclRules {
    /// No rules.
    pub(super) fn new() -> Self {
        AclRules {
            read: Access::new(),
            write: Access::new(),
            denied_in_part: ScopeColumns::new(3),
            count: 0,
            places: Default::default(),
        }
    }

    /// Adds a rule, for everyone or for one user.
    pub(super) fn add(&mut self, user: Option<&str>, effect: Effect, (read, write): (bool, bool), scope: &Scope) {
        for (wanted, access) in [(read, &mut self.read), (write, &mut self.write)] {
            let tree = match effect {
                Effect::Grant => &mut access.granted,
                Effect::Deny => &mut access.denied,
            };
            if wanted {
                tree.insert(user.unwrap_or(EVERYONE), scope.text());
            }
        }
        if read && effect == Effect::Deny {
            self.denied_in_part.insert(user.unwrap_or(EVERYONE), scope.text());
        }
        self.count += 1;
        for (has, place) in self.places.iter_mut().zip(PLACES) {
            *has |= scope.text().split('/').any(|level| level == place);
        }
    }

    /// The names of a client that fill in nothing although patterns have a place for them, with that place.
    pub(super) fn useless_names<'a>(&self, who: &Identity<'a>) -> impl Iterator<Item = (&'static str, &'a str)> {
        let names = names(who).into_iter().zip(PLACES).zip(self.places);
        names.filter_map(|((name, place), has)| name.filter(|name| has && !is_level(name)).map(|name| (place, name)))
    }

    /// Whether `who` may publish to `topic`.
    #[inline]
    pub fn publish(&self, who: &Identity<'_>, topic: TopicName<'_>) -> Ruling {
        let matches = |tree: &ScopeTree, owner: &str, names: &Names<'_>| tree.matches(owner, topic, names);
        let (granted, denied) = (&self.write.granted, &self.write.denied);
        rule(who, |owner, names| matches(denied, owner, names), |owner, names| matches(granted, owner, names))
    }

    /// Whether `who` may subscribe to `filter`: granted if one rule grants all topics that it matches, denied if any of
    /// them is denied. Of a shared subscription the filter behind the group counts.
    pub fn subscribe(&self, who: &Identity<'_>, filter: &TopicFilter) -> Ruling {
        // What covers a filter without wildcards is what meets it, and is found faster.
        let is_denied = |owner: &str, names: &Names<'_>| match filter.has_wildcard() {
            true => self.denied_in_part.meets(owner, filter, names),
            false => self.read.denied.covers(owner, filter, names),
        };
        rule(who, is_denied, |owner, names| self.read.granted.covers(owner, filter, names))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What stands in the [`PLACES`].
fn names<'a>(who: &Identity<'a>) -> [Option<&'a str>; PLACES.len()] {
    [who.username, Some(who.client_id), Some(who.mountpoint)]
}

#[inline]
fn rule(
    who: &Identity<'_>,
    denies: impl Fn(&str, &Names<'_>) -> bool,
    grants: impl Fn(&str, &Names<'_>) -> bool,
) -> Ruling {
    let of = names(who);
    let owners = || who.username.filter(|user| *user != EVERYONE).into_iter().chain([EVERYONE]);
    // Who is called `$SYS` is not granted the system topics for that; what is denied stays denied.
    let (to_deny, to_grant) = (Names { of, dollar: true }, Names { of, dollar: false });
    if owners().any(|owner| denies(owner, &to_deny)) {
        Ruling::Denied
    } else if owners().any(|owner| grants(owner, &to_grant)) {
        Ruling::Granted
    } else {
        Ruling::Silent
    }
}

/// How many rules.
impl fmt::Debug for AclRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AclRules({} rules)", self.count)
    }
}
