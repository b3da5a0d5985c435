//! The organ for retained messages: those whose topics this shard owns, and how a new subscription gets to know of all of them.
//!
//! Each topic is owned by one of the shards, by hash; the order in which messages reach the owner is the order that counts. A
//! shard sends the owner every message to be retained, and numbers what it sends each owner from 1. The owner *applies* it.
//!
//! A subscriber must miss nothing, and see no older value after a newer one, while publishers on all shards go on. So its
//! shard first has every shard take in its filters: from then on each of them sends live copies, and says how many messages it had
//! sent each owner by then. After that it asks the owners, who answer when they have applied as many. Whatever was
//! published before is in their answers then, or was superseded; whatever was published after comes live, with its number.
//! So what an owner has is left out if its number says that it comes live, too. And the owner says how many messages it had applied: so
//! a live message that came first is known to be newer, or older.
//!
//! A shard that has taken a filter in is not told of it again. For the next subscription to it the shard knows as much by itself: since
//! then every message to be retained that matches has come here live, with its number, and the last of them is the last that can have
//! been sent before what is still on its way. So shards say how many messages they had sent also if nobody wants what is retained now, and
//! say only what has changed since they said it last.
//!
//! The owner keeps within the limits of `[retained]`: number, bytes, bytes of one message. What is over them is delivered, but not retained.
//!
//! Trusts that messages between two shards arrive in order; needs no order between other pairs. Never delivers anything.

mod fetch;
mod sent;
mod store;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashSet;

pub use fetch::{RetainedAnswer, RetainedQuestion};
pub use sent::Counts;
pub use store::{Kept, Retention};

use crate::config::RetainedConfig;
use crate::message::{Message, Publication};
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

use fetch::Fetch;
use sent::Sent;
use store::Store;

/// Retained messages; one for each shard.
pub struct Retained {
    /// The shard it is of, and how many there are.
    own: usize,
    shards: usize,
    seed: u64,
    hasher: ahash::RandomState,
    /// By mountpoint.
    stores: Vec<Store>,
    /// How many messages shards have sent owners.
    sent: Sent,
    /// For each shard, how many of its messages were applied here.
    applied: Vec<u64>,
    /// Questions that wait until enough was applied: who asks, and about which mountpoint.
    questions: Vec<(usize, u32, RetainedQuestion)>,
    /// What new subscriptions of this shard know so far, by the number of the subscription.
    fetches: BTreeMap<u64, Fetch>,
    /// The mountpoint whose messages are looked at next for those that have expired, and the position before which they are.
    swept: (usize, usize),
}

/// How many messages are looked at on one occasion for those that have expired: a fraction of a millisecond.
const SWEPT_AT_ONCE: usize = 2048;

impl Retained {
    /// Nothing retained, on shard `own` of `shards`. `hasher` and `seed` must be the same on all of them.
    pub fn new(own: usize, shards: usize, seed: u64, hasher: ahash::RandomState) -> Self {
        Retained {
            own,
            shards,
            seed,
            hasher,
            stores: Vec::new(),
            sent: Sent::new(own, shards),
            applied: vec![0; shards],
            questions: Vec::new(),
            fetches: BTreeMap::new(),
            swept: (0, usize::MAX),
        }
    }

    /// How many messages are retained here.
    pub fn len(&self) -> usize {
        self.stores.iter().map(Store::len).sum()
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.stores.iter().map(Store::bytes).sum()
    }

    /// How many subscriptions and questions wait.
    pub fn pending(&self) -> usize {
        self.questions.len() + self.fetches.len()
    }

    /// A publication that was made here is to be retained: the shard that owns its topic, and which message to that owner it is.
    pub fn send(&mut self, mountpoint: u32, name: &str, publication: &Publication<'_>) -> (usize, u64) {
        let owner = self.owner(name, publication.topic.as_str());
        let number = self.sent.send(owner);
        self.note_live(mountpoint, publication.topic, self.own, number);
        (owner, number)
    }

    /// Applies a message of shard `from`, whose topic this one owns.
    pub fn apply(&mut self, from: usize, mountpoint: u32, message: Message, limits: &RetainedConfig) -> Retention {
        self.applied[from] += 1;
        let kept = Kept { message, shard: from, number: self.applied[from] };
        let shards = self.shards;
        self.store(mountpoint).store(kept, limits, shards)
    }

    /// A message to be retained has come from another shard, and goes to subscribers live; it is that message of `shard` to the owner of
    /// its topic.
    pub fn comes_live(&mut self, mountpoint: u32, name: &str, topic: TopicName<'_>, shard: usize, number: u64) {
        let owner = self.owner(name, topic.as_str());
        self.sent.learn(shard, owner, number);
        self.note_live(mountpoint, topic, shard, number);
    }

    fn note_live(&mut self, mountpoint: u32, topic: TopicName<'_>, shard: usize, number: u64) {
        for fetch in self.fetches.values_mut().filter(|fetch| fetch.mountpoint == mountpoint) {
            fetch.note_live(topic, shard, number);
        }
    }

    /// This shard has taken in these filters of shard `from`, which is to be told how many messages this one has sent the owners of what
    /// they match: gives what it was not told before.
    pub fn tell_sent(&mut self, from: usize, name: &str, filters: &[TopicFilter]) -> Counts {
        if filters.iter().any(TopicFilter::has_wildcard) {
            return self.sent.tell(from, None);
        }
        let owners = self.owners(name, filters.iter());
        self.sent.tell(from, Some(&owners))
    }

    /// Shard `from` has sent owners so many messages.
    pub fn learn_sent(&mut self, from: usize, sent: &[(u16, u64)]) {
        for (owner, number) in sent {
            self.sent.learn(from, usize::from(*owner), *number);
        }
    }

    /// A subscription with this number is being made, which wants what is retained for these filters, each with its place among those that
    /// were granted.
    pub fn begin(&mut self, token: u64, mountpoint: u32, filters: Vec<(u16, TopicFilter)>) {
        if !filters.is_empty() {
            self.fetches.insert(token, Fetch::new(mountpoint, filters, self.sent.by_owner()));
        }
    }

    /// Shard `from` has taken in the filters of a subscription, and has said how many messages it had sent.
    pub fn taken_in(&mut self, token: u64, from: usize) {
        if let Some(fetch) = self.fetches.get_mut(&token) {
            fetch.taken_in(from, self.sent.of(from));
        }
    }

    /// All shards have taken in the filters of a subscription: the owners to ask, and what. None if there is nothing to ask.
    pub fn questions(&mut self, token: u64, name: &Arc<str>) -> Vec<(usize, RetainedQuestion)> {
        let Some(fetch) = self.fetches.get(&token) else { return Vec::new() };
        let owners: Vec<usize> = if fetch.filters.iter().any(|(_, filter)| filter.has_wildcard()) {
            (0..self.shards).collect()
        } else {
            self.owners(name, fetch.filters.iter().map(|(_, filter)| filter))
        };
        let Some(fetch) = self.fetches.get_mut(&token) else { return Vec::new() };
        fetch.waiting = owners.len();
        let question = |owner| {
            let (mountpoint, filters, after) = (name.clone(), fetch.filters.clone(), fetch.after(owner));
            (owner, RetainedQuestion { token, mountpoint, filters, after })
        };
        owners.into_iter().map(question).collect()
    }

    /// Shard `from`, perhaps this one, wants to know what is retained here in a mountpoint.
    pub fn ask(&mut self, from: usize, mountpoint: u32, question: RetainedQuestion) {
        self.questions.push((from, mountpoint, question));
    }

    /// Whether a question waits.
    #[inline]
    pub fn is_asked(&self) -> bool {
        !self.questions.is_empty()
    }

    /// The answers that can be given by now, each with the shard that asked.
    pub fn answers(&mut self, now: Time) -> Vec<(usize, RetainedAnswer)> {
        let applied = &self.applied;
        let is_ready = |(_, _, question): &mut (usize, u32, RetainedQuestion)| {
            question.after.iter().zip(applied).all(|(after, applied)| after <= applied)
        };
        let ready: Vec<_> = self.questions.extract_if(.., is_ready).collect();
        ready.into_iter().map(|(from, mountpoint, question)| (from, self.answer(mountpoint, &question, now))).collect()
    }

    fn answer(&mut self, mountpoint: u32, question: &RetainedQuestion, now: Time) -> RetainedAnswer {
        let mut messages = Vec::new();
        let mut seen = HashSet::with_hasher(self.hasher.clone());
        for (at, filter) in question.filters.iter() {
            let mut found = self.store(mountpoint).matching(filter, now);
            if question.filters.len() > 1 {
                found.retain(|kept| seen.insert(kept.message.address()));
            }
            messages.extend(found.into_iter().map(|kept| (*at, kept)));
        }
        RetainedAnswer { token: question.token, owner: self.own, messages, applied: self.applied.as_slice().into() }
    }

    /// An owner has answered. The number of the subscription, if all have.
    pub fn answered(&mut self, answer: RetainedAnswer) -> Option<u64> {
        let token = answer.token;
        let fetch = self.fetches.get_mut(&token)?;
        fetch.answered(answer);
        (fetch.waiting == 0).then_some(token)
    }

    /// The retained messages that a subscription is sent, each with the place of its filter. It is forgotten here.
    pub fn finish(&mut self, token: u64) -> Vec<(u16, Message)> {
        self.fetches.remove(&token).map(Fetch::into_messages).unwrap_or_default()
    }

    /// Looks at the next messages, and forgets those that have expired. Says whether all have been looked at: then it begins anew.
    pub fn forget_expired(&mut self, now: Time) -> bool {
        let mut left = SWEPT_AT_ONCE;
        while let Some(store) = self.stores.get_mut(self.swept.0) {
            let most = store.len().min(left);
            self.swept.1 = store.forget_expired(self.swept.1, most, now);
            if self.swept.1 > 0 {
                return false;
            }
            left -= most;
            self.swept = (self.swept.0 + 1, usize::MAX);
        }
        self.swept = (0, usize::MAX);
        true
    }

    fn store(&mut self, mountpoint: u32) -> &mut Store {
        let at = mountpoint as usize;
        while self.stores.len() <= at {
            self.stores.push(Store::new(self.seed));
        }
        &mut self.stores[at]
    }

    /// The shards that own the topics of these filters, which have no wildcards.
    fn owners<'a>(&self, mountpoint: &str, filters: impl Iterator<Item = &'a TopicFilter>) -> Vec<usize> {
        let mut owners: Vec<_> = filters.map(|filter| self.owner(mountpoint, filter.filter())).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// The shard that owns `topic`. Topics do not move with slots.
    fn owner(&self, mountpoint: &str, topic: &str) -> usize {
        let mut hasher = self.hasher.build_hasher();
        mountpoint.hash(&mut hasher);
        topic.hash(&mut hasher);
        hasher.finish() as usize % self.shards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(count: usize) -> Vec<Retained> {
        (0..count).map(|own| Retained::new(own, count, 7, crate::sharding::hasher(7))).collect()
    }

    fn publication<'a>(topic: &'a str, payload: &'a str) -> Publication<'a> {
        let mut publication = Publication::new(TopicName::trusted(topic), payload.as_bytes());
        publication.retain = true;
        publication
    }

    /// A topic that `owner` of two shards owns.
    fn topic_of(shards: &[Retained], owner: usize) -> String {
        (0..)
            .map(|number| format!("t{number}"))
            .find(|topic| shards[0].owner("", topic) == owner)
            .expect("there is one")
    }

    fn apply(shards: &mut [Retained], from: usize, owner: usize, topic: &str, payload: &str) {
        let message = publication(topic, payload).keep();
        shards[owner].apply(from, 0, message, &RetainedConfig::default());
    }

    fn begin(shards: &mut [Retained], filter: &str) {
        shards[0].begin(1, 0, vec![(3, TopicFilter::parse(filter, 8).expect("a valid filter"))]);
    }

    /// Shard 1 takes in a filter with wildcards.
    fn taken_in(shards: &mut [Retained]) {
        let filter = TopicFilter::parse("#", 8).expect("a valid filter");
        let sent = shards[1].tell_sent(0, "", &[filter]);
        shards[0].learn_sent(1, &sent);
        shards[0].taken_in(1, 1);
    }

    /// Has everybody answer, and gives what is sent.
    fn fetched(shards: &mut [Retained]) -> Vec<(u16, String)> {
        for (owner, question) in shards[0].questions(1, &"".into()) {
            shards[owner].ask(0, 0, question);
        }
        for owner in 0..shards.len() {
            for (asking, answer) in shards[owner].answers(Time::ZERO) {
                shards[asking].answered(answer);
            }
        }
        let text = |message: Message| String::from_utf8_lossy(message.payload()).into_owned();
        shards[0].finish(1).into_iter().map(|(at, message)| (at, text(message))).collect()
    }

    #[test]
    fn all_owners_are_asked_about_a_wildcard_and_one_about_a_topic() {
        let mut shards = shards(2);
        let topics = [0, 1].map(|owner| topic_of(&shards, owner));
        for (owner, topic) in topics.iter().enumerate() {
            shards[0].send(0, "", &publication(topic, "x"));
            apply(&mut shards, 0, owner, topic, "x");
        }
        begin(&mut shards, "+");
        taken_in(&mut shards);
        assert_eq!(fetched(&mut shards), [(3, "x".to_owned()), (3, "x".to_owned())]);
        begin(&mut shards, &topics[1]);
        assert_eq!(shards[0].questions(1, &"".into()).iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn an_owner_answers_when_it_has_applied_what_was_sent_before() {
        let mut shards = shards(2);
        let topic = topic_of(&shards, 1);
        // Shard 0 has published it, and its message to the owner is still on its way.
        assert_eq!(shards[0].send(0, "", &publication(&topic, "old")), (1, 1));
        begin(&mut shards, "#");
        taken_in(&mut shards);
        let (_, question) = shards[0].questions(1, &"".into()).pop().expect("both are asked");
        shards[1].ask(0, 0, question);
        assert!(shards[1].is_asked() && shards[1].answers(Time::ZERO).is_empty());
        apply(&mut shards, 0, 1, &topic, "old");
        let (_, answer) = shards[1].answers(Time::ZERO).pop().expect("enough was applied");
        assert_eq!((answer.messages.len(), &*answer.applied, shards[1].is_asked()), (1, &[1, 0][..], false));
    }

    #[test]
    fn what_comes_live_does_not_come_again() {
        let mut shards = shards(2);
        let topic = topic_of(&shards, 1);
        begin(&mut shards, "#");
        taken_in(&mut shards);
        // Published on shard 1 after it has taken the filter in: it comes live from there, and the owner has it.
        let (_, number) = shards[1].send(0, "", &publication(&topic, "new"));
        apply(&mut shards, 1, 1, &topic, "new");
        assert_eq!((number, fetched(&mut shards)), (1, vec![]));
    }

    #[test]
    fn nothing_older_comes_after_what_came_live() {
        let mut shards = shards(2);
        let topic = topic_of(&shards, 1);
        apply(&mut shards, 1, 1, &topic, "old");
        shards[1].send(0, "", &publication(&topic, "old"));
        begin(&mut shards, "#");
        taken_in(&mut shards);
        // The newer value came live, and has not reached the owner when it answers.
        let (_, number) = shards[0].send(0, "", &publication(&topic, "new"));
        assert_eq!((number, fetched(&mut shards)), (1, vec![]));
    }

    #[test]
    fn a_message_that_several_filters_match_is_found_once() {
        let mut shards = shards(1);
        shards[0].send(0, "", &publication("a/b", "x"));
        apply(&mut shards, 0, 0, "a/b", "x");
        let filters = ["a/+", "#"].map(|filter| TopicFilter::parse(filter, 8).expect("a valid filter"));
        shards[0].begin(1, 0, (0..).zip(filters).collect());
        assert_eq!(fetched(&mut shards), [(0, "x".to_owned())]);
        assert_eq!((shards[0].pending(), shards[0].len()), (0, 1));
    }

    #[test]
    fn what_has_expired_is_forgotten_in_every_mountpoint() {
        let (mut shards, at) = (shards(1), Time::from_millis(5));
        let mut expiring = publication("a", "soon");
        expiring.expires = at;
        for mountpoint in [0, 3] {
            for message in [expiring.keep(), publication("b", "stays").keep()] {
                let outcome = shards[0].apply(0, mountpoint, message, &RetainedConfig::default());
                assert_eq!(outcome, Retention::Kept);
            }
        }
        assert!(shards[0].forget_expired(Time::from_millis(4)));
        assert_eq!(shards[0].len(), 4);
        assert!(shards[0].forget_expired(at));
        assert_eq!((shards[0].len(), shards[0].bytes()), (2, 2 * publication("b", "stays").keep().size()));
    }

    #[test]
    fn what_has_expired_is_forgotten_in_portions() {
        let (mut shards, at) = (shards(1), Time::from_millis(5));
        for number in 0..5 * SWEPT_AT_ONCE {
            let topic = format!("t/{number}");
            let mut publication = publication(&topic, "x");
            publication.expires = if number % 2 == 0 { at } else { Time::NEVER };
            shards[0].apply(0, (number % 3) as u32, publication.keep(), &RetainedConfig::default());
        }
        let mut occasions = 0;
        let mut is_done = false;
        while !is_done {
            let before = shards[0].len();
            is_done = shards[0].forget_expired(at);
            occasions += 1;
            assert!(before - shards[0].len() <= SWEPT_AT_ONCE, "no more than a portion at once");
            // What comes meanwhile is looked at in the next round.
            let topic = format!("new/{occasions}");
            let mut publication = publication(&topic, "x");
            publication.expires = at;
            shards[0].apply(0, 0, publication.keep(), &RetainedConfig::default());
        }
        assert!((5..=8).contains(&occasions), "{occasions}");
        while !shards[0].forget_expired(at) {}
        assert_eq!(shards[0].len(), 5 * SWEPT_AT_ONCE / 2);
    }

    #[test]
    fn subscriptions_and_questions_are_pending_until_they_are_answered() {
        let mut shards = shards(2);
        assert_eq!(shards[0].pending(), 0);
        begin(&mut shards, "#");
        assert_eq!(shards[0].pending(), 1);
        taken_in(&mut shards);
        for (owner, question) in shards[0].questions(1, &"".into()) {
            shards[owner].ask(0, 0, question);
        }
        assert_eq!(
            [shards[0].pending(), shards[1].pending()],
            [2, 1],
            "the subscription, and a question to each owner"
        );
        for (owner, last) in [(0, None), (1, Some(1))] {
            let (asking, answer) = shards[owner].answers(Time::ZERO).pop().expect("enough was applied");
            assert_eq!((asking, shards[0].answered(answer)), (0, last));
        }
        assert_eq!([shards[0].pending(), shards[1].pending()], [1, 0]);
        assert!(shards[0].finish(1).is_empty());
        assert_eq!(shards[0].pending(), 0);
    }

    #[test]
    fn an_answer_for_a_subscription_that_is_gone_is_nobodys() {
        let mut shards = shards(1);
        begin(&mut shards, "#");
        for (owner, question) in shards[0].questions(1, &"".into()) {
            shards[owner].ask(0, 0, question);
        }
        assert!(shards[0].finish(1).is_empty(), "its client has left");
        let (_, answer) = shards[0].answers(Time::ZERO).pop().expect("it is answered still");
        assert_eq!((shards[0].answered(answer), shards[0].pending()), (None, 0));
        assert!(shards[0].questions(1, &"".into()).is_empty());
    }
}
