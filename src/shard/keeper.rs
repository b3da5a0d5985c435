//! Retained messages between shards.
//!
//! Each topic has one keeper among the shards, by hash; the order in which messages reach it is the order that counts. A
//! shard tells the keeper of every message to be retained, and numbers what it tells each keeper from 1.
//!
//! A subscriber must miss nothing, and see no older value after a newer one, while publishers on all shards go on. So its
//! shard first has every shard take in its filters: from then on each of them sends live copies, and says how much it had
//! told each keeper by then. After that it asks the keepers, who answer when they have seen to as much. Whatever was
//! published before is in their answers then, or was superseded; whatever was published after comes live, with its number.
//! So what a keeper has is left out if its number says that it comes live, too. And the keeper says how far it had got: so
//! a live message that came first is known to be newer, or older.
//!
//! Trusts that mail between two shards arrives in order; needs no order between other pairs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashSet;

use super::Shard;
use super::audience::Target;
use super::interest::{Granted, Subscribing};
use super::mail::Mail;
use super::realm::PROGRAM;
use super::retained::{Kept, Retention};
use crate::codec::ReasonCode;
use crate::hooks::Chain;
use crate::message::{Message, Publication};
use crate::session::SubscriptionIds;
use crate::topic::TopicFilter;

/// What a shard told keepers, and was told as one.
pub(super) struct Keeping {
    /// For each keeper, how many messages to be retained it was told of. Itself is one of them.
    told: Vec<u64>,
    /// For each shard, how many of its messages were seen to here.
    seen_to: Vec<u64>,
    /// Questions that wait until enough was seen to.
    asked: Vec<Asked>,
}

/// A question to a keeper.
#[derive(Debug)]
pub struct Asked {
    /// The asking shard's number for it.
    pub(super) token: u64,
    /// The mountpoint.
    pub(super) mountpoint: Arc<str>,
    /// The filters, each with its place among those that were granted; those of a higher QoS first.
    pub(super) filters: Arc<[(u16, TopicFilter)]>,
    /// How many messages of each shard must have been seen to before it is answered.
    pub(super) after: Box<[u64]>,
    /// The asking shard.
    pub(super) from: usize,
}

/// The answer of a keeper.
#[derive(Debug)]
pub struct Found {
    /// The keeper.
    pub(super) keeper: usize,
    /// The number of the question.
    pub(super) token: u64,
    /// Retained messages, each with the place of its filter.
    pub(super) messages: Vec<(u16, Kept)>,
    /// How many messages of each shard had been seen to.
    pub(super) seen_to: Box<[u64]>,
}

/// A retained message that came live while a subscription was being made.
pub(super) struct Live {
    topic: Box<str>,
    /// The shard it was published on, and which of that shard's messages to its keeper it is.
    source: usize,
    number: u64,
}

impl Keeping {
    pub fn new(shards: usize) -> Self {
        Keeping { told: vec![0; shards], seen_to: vec![0; shards], asked: Vec::new() }
    }

    /// How many questions wait.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// How much each keeper was told so far.
    pub fn told(&self) -> Box<[u64]> {
        self.told.as_slice().into()
    }
}

impl<C: Chain> Shard<C> {
    /// Keeps `publication` as the last message of its topic, here or at the shard that does. Gives its number.
    pub(super) fn retain(&mut self, realm: u32, publication: &Publication<'_>) -> u64 {
        let mountpoint = self.realms[realm].name.clone();
        let keeper = keeper(&self.hasher, &mountpoint, publication.topic.as_str(), self.shards);
        self.keeping.told[keeper] += 1;
        let number = self.keeping.told[keeper];
        self.note_live_retained(realm, publication, self.id, number);
        let message = publication.keep();
        if keeper == self.id {
            self.see_to(self.id, realm, message);
        } else {
            self.post(keeper, Mail::Retain { mountpoint, message });
        }
        number
    }

    /// Keeps a message that shard `from` told of.
    pub(super) fn see_to(&mut self, from: usize, realm: u32, message: Message) {
        self.keeping.seen_to[from] += 1;
        let kept = Kept { message: message.clone(), source: from, number: self.keeping.seen_to[from] };
        let outcome = self.realms[realm].retained.store(kept, &self.config.retained, self.shards);
        if outcome == Retention::Refused {
            self.counters.retained_refused += 1;
            tracing::warn!(topic = message.topic().as_str(), "a limit of [retained] is reached: message not retained");
        }
        if !self.keeping.asked.is_empty() {
            self.answer_asked();
        }
    }

    /// A retained message goes to subscribers live: those whose SUBSCRIBE is not complete may need no other for its topic.
    pub(super) fn note_live_retained(&mut self, realm: u32, publication: &Publication<'_>, source: usize, number: u64) {
        for pending in self.subscribing.values_mut().filter(|pending| pending.realm == realm) {
            let mut wanted = pending.granted.iter().flatten().filter(|granted| granted.wants_retained);
            if wanted.any(|granted| granted.filter.matches(publication.topic)) {
                pending.live.push(Live { topic: publication.topic.as_str().into(), source, number });
            }
        }
    }

    /// All shards have taken in the filters of `pending`: the keepers of what is retained are asked.
    pub(super) fn ask_keepers(&mut self, mut pending: Subscribing) {
        let wanted = wanted(&pending.granted);
        let mountpoint = self.realms[pending.realm].name.clone();
        let keepers: Vec<usize> = if wanted.iter().any(|(_, filter)| filter.has_wildcard()) {
            (0..self.shards).collect()
        } else {
            let keeper = |filter: &TopicFilter| keeper(&self.hasher, &mountpoint, filter.filter(), self.shards);
            let mut keepers: Vec<_> = wanted.iter().map(|(_, filter)| keeper(filter)).collect();
            keepers.sort_unstable();
            keepers.dedup();
            keepers
        };
        if keepers.is_empty() {
            return self.complete_subscribe(pending);
        }
        let filters: Arc<[_]> = wanted.into();
        let token = pending.token;
        pending.waiting = keepers.len();
        let after = |keeper: usize| pending.told.iter().map(|told| told.get(keeper).copied().unwrap_or(0)).collect();
        let questions: Vec<_> = keepers.into_iter().map(|keeper| (keeper, after(keeper))).collect();
        self.subscribing.insert(token, pending);
        for (keeper, after) in questions {
            let (mountpoint, filters) = (mountpoint.clone(), filters.clone());
            let asked = Asked { token, mountpoint, filters, after, from: self.id };
            if keeper == self.id {
                self.ask_keeper(asked);
            } else {
                self.post(keeper, Mail::AskRetained(Box::new(asked)));
            }
        }
    }

    /// A shard wants to know what is retained here.
    pub(super) fn ask_keeper(&mut self, asked: Asked) {
        self.keeping.asked.push(asked);
        self.answer_asked();
    }

    /// Answers whoever asked, as soon as enough was seen to.
    fn answer_asked(&mut self) {
        let seen_to = &self.keeping.seen_to;
        let is_ready = |asked: &mut Asked| asked.after.iter().zip(seen_to).all(|(after, seen_to)| after <= seen_to);
        let ready: Vec<_> = self.keeping.asked.extract_if(.., is_ready).collect();
        for Asked { token, mountpoint, filters, from, .. } in ready {
            let realm = self.realms.number(&mountpoint);
            let mut messages = Vec::new();
            let mut seen = HashSet::with_hasher(self.hasher.clone());
            for (at, filter) in filters.iter() {
                let mut found = self.realms[realm].retained.matching(filter, self.now);
                if filters.len() > 1 {
                    found.retain(|kept| seen.insert(kept.message.address()));
                }
                messages.extend(found.into_iter().map(|kept| (*at, kept)));
            }
            let found = Found { keeper: self.id, token, messages, seen_to: self.keeping.seen_to.as_slice().into() };
            if from == self.id {
                self.found_retained(found);
            } else {
                self.post(from, Mail::Retained(Box::new(found)));
            }
        }
    }

    /// A keeper has answered.
    pub(super) fn found_retained(&mut self, found: Found) {
        let Some(mut pending) = self.subscribing.remove(&found.token) else { return };
        pending.found.push(found);
        pending.waiting -= 1;
        if pending.waiting > 0 {
            self.subscribing.insert(pending.token, pending);
        } else {
            self.complete_subscribe(pending);
        }
    }

    /// Sends what is retained for a new subscription [MQTT-3.3.1-9], but what came live already or is older than what did.
    pub(super) fn deliver_retained(&mut self, mut pending: Subscribing) {
        self.frames.begin(false);
        let found = std::mem::take(&mut pending.found);
        let granted: Vec<&Granted> = pending.granted.iter().flatten().collect();
        for Found { keeper, messages, seen_to, .. } in found {
            for (at, Kept { message, source, number }) in messages {
                let Some(granted) = granted.get(usize::from(at)) else { continue };
                let comes_live = pending.told[source].get(keeper).is_some_and(|told| number > *told);
                let overtakes =
                    |live: &Live| live.number > seen_to[live.source] && *live.topic == *message.topic().as_str();
                if !comes_live && !pending.live.iter().any(overtakes) {
                    self.deliver_one_retained(&pending, granted, &message);
                }
            }
        }
    }

    fn deliver_one_retained(&mut self, pending: &Subscribing, granted: &Granted, message: &Message) {
        if message.expires() <= self.now {
            return;
        }
        if pending.session & PROGRAM != 0 {
            return self.deliver_retained_to_program(pending.session, pending.instance, message);
        }
        let Some(session) = self.sessions.get(pending.session) else { return };
        // The session may have ended in the meantime, and another one have its place.
        if session.instance != pending.instance
            || session.subscriptions.get(&granted.filter).is_none_or(|now| now.options != granted.options)
        {
            return;
        }
        let target = Target {
            session: pending.session,
            qos: granted.options.qos,
            retain_as_published: true,
            ids: SubscriptionIds::from(pending.subscription_id),
            group: None,
            initial: true,
        };
        self.deliver(&target, &message.publication(), true);
    }
}

/// The filters for which retained messages are to be sent, each with its place among those that were granted.
///
/// A message that several filters of one SUBSCRIBE match is sent once, at the highest QoS, like any other message: keepers take
/// the first that matches. So the work that one packet makes is bounded by what is retained, and one filter that comes
/// several times counts once, with the options that it has in the end.
fn wanted(granted: &[Result<Granted, ReasonCode>]) -> Vec<(u16, TopicFilter)> {
    let mut by_filter: BTreeMap<&str, (u16, &Granted, bool)> = BTreeMap::new();
    for (at, granted) in (0..).zip(granted.iter().flatten()) {
        let before = by_filter.get(granted.filter.as_str()).is_some_and(|(_, _, wanted)| *wanted);
        by_filter.insert(granted.filter.as_str(), (at, granted, before || granted.wants_retained));
    }
    let mut wanted: Vec<_> = by_filter.into_values().filter(|(_, _, wanted)| *wanted).collect();
    wanted.sort_by_key(|(at, granted, _)| (Reverse(granted.options.qos), *at));
    wanted.into_iter().map(|(at, granted, _)| (at, granted.filter.clone())).collect()
}

/// The shard that keeps the retained message of `topic`: retained messages do not move with slots.
fn keeper(hasher: &ahash::RandomState, mountpoint: &str, topic: &str, shards: usize) -> usize {
    use std::hash::{BuildHasher, Hash, Hasher};
    let mut hasher = hasher.build_hasher();
    mountpoint.hash(&mut hasher);
    topic.hash(&mut hasher);
    hasher.finish() as usize % shards
}
