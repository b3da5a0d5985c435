//! The rules of an access file, and what they say of a topic or a filter.
//!
//! Denials beat grants, whatever their order. What no rule is about is left to others.

use std::collections::HashMap;
use std::fmt;

use super::identity::Identity;
use super::scope::{Effect, Scope};
use crate::topic::{TopicFilter, TopicName};

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
#[derive(Clone, Default)]
pub struct AclRules {
    pub(super) everyone: RuleSet,
    pub(super) users: HashMap<Box<str>, RuleSet>,
    pub(super) count: usize,
}

/// The rules for the same clients.
#[derive(Clone, Default)]
pub(super) struct RuleSet {
    read: Scopes,
    write: Scopes,
}

/// What may be done, and what must not.
#[derive(Clone, Default)]
struct Scopes {
    granted: Vec<Scope>,
    denied: Vec<Scope>,
}

impl RuleSet {
    /// Adds a rule.
    pub fn add(&mut self, effect: Effect, read: bool, write: bool, scope: &Scope) {
        for (wanted, scopes) in [(read, &mut self.read), (write, &mut self.write)] {
            match effect {
                Effect::Grant if wanted => scopes.granted.push(scope.clone()),
                Effect::Deny if wanted => scopes.denied.push(scope.clone()),
                Effect::Grant | Effect::Deny => {}
            }
        }
    }
}

impl AclRules {
    /// Whether `who` may publish to `topic`.
    #[inline]
    pub fn publish(&self, who: &Identity<'_>, topic: TopicName<'_>) -> Ruling {
        let matches = |effect| move |scope: &Scope| scope.matches(topic, who, effect);
        self.rule(who, |rules| &rules.write, matches(Effect::Deny), matches(Effect::Grant))
    }

    /// Whether `who` may subscribe to `filter`: granted if one rule grants all topics that it matches, denied if any of
    /// them is denied. Of a shared subscription the filter behind the group counts.
    pub fn subscribe(&self, who: &Identity<'_>, filter: &TopicFilter) -> Ruling {
        let denies = |scope: &Scope| scope.meets(filter, who, Effect::Deny);
        let grants = |scope: &Scope| scope.covers(filter, who, Effect::Grant);
        self.rule(who, |rules| &rules.read, denies, grants)
    }

    #[inline]
    fn rule(
        &self,
        who: &Identity<'_>,
        of: impl Fn(&RuleSet) -> &Scopes,
        denies: impl Fn(&Scope) -> bool,
        grants: impl Fn(&Scope) -> bool,
    ) -> Ruling {
        let own = who.username.and_then(|username| self.users.get(username)).map(&of);
        let everyone = of(&self.everyone);
        let denied = |scopes: &Scopes| scopes.denied.iter().any(&denies);
        let granted = |scopes: &Scopes| scopes.granted.iter().any(&grants);
        if denied(everyone) || own.is_some_and(denied) {
            Ruling::Denied
        } else if own.is_some_and(granted) || granted(everyone) {
            Ruling::Granted
        } else {
            Ruling::Silent
        }
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

/// How many rules.
impl fmt::Debug for AclRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AclRules({} rules)", self.count)
    }
}
