//! The organ for retained messages: those whose topics this shard owns, and how a new subscription gets to know of all of them.
//!
//! Each topic is owned by one of the shards, by hash; the order in which messages reach the owner is the order that counts. A
//! shard sends the owner every message to be retained, and numbers what it sends each owner from 1. The owner *applies* it.
//!
//! A subscriber must miss nothing, and see no older value after a newer one, while publishers on all shards go on. So its
//! shard first has every shard take in its filters: from then on each of them sends live copies, and says how many messages it had
//! sent each owner by then. After that it asks the owners, who answer when they have applied as many. Whatever was
//! published before is in their answers then, or was superseded; whatever was published after comes live, with its number.
//! So an owner leaves out what comes live, too, as its number says.
//!
//! A shard that has taken a filter in is not told of it again. For the next subscription to it the shard knows as much by itself: since
//! then every message to be retained that matches has come here live, with its number, and the last of them is the last that can have
//! been sent before what is still on its way. So shards say how many messages they had sent also if nobody wants what is retained now, and
//! say only what has changed since they said it last.
//!
//! The answers are *replayed* page by page. All owners are asked for their first page at once, and the subscription is complete when
//! these are here: so what is published after that comes behind them. Then one owner after the other is asked for the next page when all
//! was sent that is here of it, which is as soon as the window of the client and its output have room. What had been queued for the
//! client when a page came goes before it: it may be older, and come through another subscription. What is queued later goes behind it.
//! So what waits for a client is the first page of each owner, then one, however much is retained, and its queue is not touched. A walk
//! through the topics is resumed behind the last topic of a page, whatever was stored and removed meanwhile. An owner looks at so many
//! topics for a page, and shards do so much of this in one turn; what is left waits for the next.
//!
//! What has come live before a page is asked for, the owner must have applied when it answers: so it does not have what is older. What
//! comes live while the question is open is remembered, and the page is cut off before the first topic that it concerns. What comes live
//! after that takes what is older off the page.
//!
//! A client that leaves and keeps its session is sent the rest when it is back: what was on the page is asked for again. So it is
//! when its session moves to another shard. What is not sent any more: topics of filters that were unsubscribed, and those of filters
//! that were subscribed to again, for which all begins anew.
//!
//! The owner keeps within the limits of `[retained]`: number, bytes, bytes of one message. What is over them is delivered, but not retained.
//! While there is no memory, what would take more of it is over the limits, too. Messages below `$SYS/` are the broker's own: no limit concerns them, and they count against none.
//!
//! Trusts that messages between two shards arrive in order; needs no order between other pairs. Never delivers anything.

mod gathering;
mod holders;
mod live;
mod page;
mod questions;
mod replay;
mod replays;
mod sent;
mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub use gathering::Gathered;
pub use page::{RetainedPage, RetainedQuestion};
pub use replay::Replay;
pub use sent::Counts;
pub use store::{Kept, Retention};

use crate::config::{Limit, RetainedConfig};
use crate::message::{Message, Publication};
use crate::sharding::Quotas;
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

use page::PageLimits;
use questions::{Asked, Questions};
use replay::Wanted;
use replays::{Replays, Topic};
use sent::Sent;
use store::{Found, Room, Store};

/// Topics among which what has expired is forgotten in one go.
pub const SWEPT: usize = 1024;

/// Retained messages; one for each shard.
pub struct Retained {
    /// The shard it is of, and how many there are.
    own: usize,
    shards: usize,
    hasher: ahash::RandomState,
    /// What is left of the limits of the whole broker.
    quotas: Arc<Quotas>,
    limits: PageLimits,
    /// Whether there is memory for more than is retained.
    pub may_grow: bool,
    /// By mountpoint.
    stores: Vec<Store>,
    /// Where to go on forgetting what has expired: in which mountpoint, and at which topic.
    sweeping: Option<(usize, Box<str>)>,
    /// How many messages shards have sent owners.
    sent: Sent,
    /// For each shard, how many of its messages were applied here.
    applied: Vec<u64>,
    /// For each owner and shard, which of that shard's messages to the owner were seen last by readers that have come here from other
    /// shards. They may not have come here.
    seen_elsewhere: Vec<Box<[u64]>>,
    questions: Questions,
    /// New subscriptions of this shard that others have not taken in yet, by the number of the subscription.
    gathering: BTreeMap<u64, Gathered>,
    replays: Replays,
    /// Pages that came while publications were delivered in portions, each with the number of those that had begun.
    behind: VecDeque<(u64, RetainedPage)>,
    /// Whether the next work is an answer, if there are others to be done.
    answers_next: bool,
    /// Whether it is known that there is work.
    is_scheduled: bool,
}

/// Something to be done: some of it in each turn.
pub enum Work {
    /// A page goes to this shard, perhaps to this one; and how much was looked at for it.
    Answer(usize, RetainedPage, usize),
    /// The subscription with this number need not wait any more: what is retained for it comes as its reader takes it.
    Begin(u64),
    /// A reader has something to be sent or asked.
    Reader(u32),
}

impl Retained {
    /// Nothing retained, on shard `own` of `shards`. `hasher` and `quotas` must be the same on all of them.
    pub fn new(
        (own, shards): (usize, usize),
        hasher: ahash::RandomState,
        quotas: Arc<Quotas>,
        config: &RetainedConfig,
    ) -> Self {
        Retained {
            own,
            shards,
            quotas,
            limits: PageLimits::of(config),
            may_grow: true,
            stores: Vec::new(),
            sweeping: None,
            sent: Sent::new(own, shards),
            applied: vec![0; shards],
            seen_elsewhere: Vec::new(),
            questions: Questions::new(shards),
            gathering: BTreeMap::new(),
            replays: Replays::new(hasher.clone(), shards),
            behind: VecDeque::new(),
            answers_next: false,
            is_scheduled: false,
            hasher,
        }
    }

    /// What is retained here in a mountpoint, from this topic on: `most` messages; and where to go on, none if that is all.
    pub fn portion(&self, mountpoint: u32, from: &str, most: usize) -> (Vec<Message>, Option<(u32, Box<str>)>) {
        let Some(store) = self.stores.get(mountpoint as usize) else { return (Vec::new(), None) };
        let (messages, next) = store.portion(from, most);
        let next = next.map(|next| (mountpoint, next));
        let is_last = mountpoint as usize + 1 >= self.stores.len();
        (messages, next.or_else(|| (!is_last).then(|| (mountpoint + 1, "".into()))))
    }

    /// How many messages are retained here.
    pub fn len(&self) -> usize {
        self.stores.iter().map(Store::len).sum()
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.stores.iter().map(Store::bytes).sum()
    }

    /// How many subscriptions wait for other shards, and questions for messages.
    pub fn pending(&self) -> usize {
        self.questions.len() + self.gathering.len()
    }

    /// How many readers are still to be sent something.
    pub fn replays(&self) -> usize {
        self.replays.len()
    }

    /// A publication that was made here is to be retained: the shard that owns its topic, and which message to that owner it is.
    pub fn send(&mut self, mountpoint: &str, publication: &Publication<'_>) -> (usize, u64) {
        let topic = self.topic(mountpoint, publication.topic.as_str());
        let number = self.sent.send(topic.owner);
        self.replays.note_live(topic, self.own, number);
        (topic.owner, number)
    }

    /// The shard that owns a topic.
    pub fn owner(&self, mountpoint: &str, topic: TopicName<'_>) -> usize {
        self.topic(mountpoint, topic.as_str()).owner
    }

    /// Applies a message of shard `from`, whose topic this one owns.
    pub fn apply(&mut self, from: usize, mountpoint: u32, message: Message, limits: &RetainedConfig) -> Retention {
        self.applied[from] += 1;
        let kept = Kept { message, shard: from, number: self.applied[from] };
        let room = self.room(limits.max_message_bytes);
        let retention = self.store(mountpoint).store(kept, &room);
        self.questions.applied(from, &self.applied);
        retention
    }

    /// How many readers were looked at for messages that came live, since this was asked last.
    pub fn looked_at(&mut self) -> usize {
        std::mem::take(&mut self.replays.looked_at)
    }

    /// A message to be retained goes to subscribers live; it is that message of `shard` to the owner of its topic.
    pub fn note_live(&mut self, mountpoint: &str, topic: TopicName<'_>, shard: usize, number: u64) {
        let topic = self.topic(mountpoint, topic.as_str());
        self.sent.learn(shard, topic.owner, number);
        self.replays.note_live(topic, shard, number);
    }

    /// This shard has taken in these filters of shard `from`, which is to be told how many messages this one has sent the owners of what
    /// they match: gives what it was not told before.
    pub fn tell_sent(&mut self, from: usize, mountpoint: &str, filters: &[TopicFilter]) -> Counts {
        if filters.iter().any(TopicFilter::has_wildcard) {
            return self.sent.tell(from, None);
        }
        let owners = self.owners(mountpoint, filters);
        self.sent.tell(from, Some(&owners))
    }

    /// Shard `from` has sent owners so many messages.
    pub fn learn_sent(&mut self, from: usize, sent: &[(u16, u64)]) {
        for (owner, number) in sent {
            self.sent.learn(from, usize::from(*owner), *number);
        }
    }

    /// A subscription with this number is being made, which wants what is retained for these filters; those of a higher QoS come first.
    pub fn begin(&mut self, token: u64, filters: Vec<TopicFilter>) {
        if !filters.is_empty() {
            self.gathering.insert(token, Gathered { filters, sent: self.sent.by_owner() });
        }
    }

    /// Shard `from` has taken in the filters of a subscription, and has said how many messages it had sent.
    pub fn taken_in(&mut self, token: u64, from: usize) {
        if let Some(gathering) = self.gathering.get_mut(&token) {
            gathering.taken_in(from, self.sent.of(from));
        }
    }

    /// All shards have taken in the filters of a subscription: what is to be replayed, if it wants what is retained.
    pub fn gathered(&mut self, token: u64) -> Option<Gathered> {
        self.gathering.remove(&token)
    }

    /// Replays what is retained for the subscription with this number to a reader: a session, or a subscription of the program, by its
    /// place. [`Work::Begin`] says when the subscription is complete; nothing is sent before.
    pub fn replay(&mut self, number: u64, (reader, is_online): (u32, bool), mountpoint: &Arc<str>, gathered: Gathered) {
        let owners: Vec<usize> = if gathered.filters.iter().any(TopicFilter::has_wildcard) {
            (0..self.shards).collect()
        } else {
            self.owners(mountpoint, &gathered.filters)
        };
        self.replays.add(number, (reader, is_online), mountpoint, gathered, &owners);
    }

    /// Whether a reader is still to be sent something.
    pub fn is_replaying(&self, reader: u32) -> bool {
        self.replays.has(reader)
    }

    /// A reader wants nothing more for these filters.
    pub fn stop_replaying(&mut self, reader: u32, filters: &[TopicFilter]) {
        self.replays.remove(reader, filters);
    }

    /// The client of a reader is connected, or not any more.
    pub fn set_online(&mut self, reader: u32, is_online: bool) {
        self.replays.set_online(reader, is_online);
    }

    /// A reader has gone.
    pub fn forget_reader(&mut self, reader: u32) {
        self.replays.take(reader);
    }

    /// A reader goes to another shard: what is left for it.
    pub fn reader_leaves(&mut self, reader: u32) -> Option<Box<Replay>> {
        let mut replay = self.replays.take(reader)?;
        replay.seen = (0..self.shards).map(|owner| self.seen(owner).collect()).collect();
        Some(replay)
    }

    /// A reader has come from another shard, with what is left for it.
    pub fn reader_arrived(&mut self, reader: u32, mut replay: Box<Replay>, is_online: bool) {
        // What it saw there it must not see older.
        self.seen_elsewhere.resize(self.shards, vec![0; self.shards].into());
        for (own, other) in self.seen_elsewhere.iter_mut().zip(std::mem::take(&mut replay.seen)) {
            own.iter_mut().zip(other).for_each(|(own, other)| *own = (*own).max(other));
        }
        self.replays.put(reader, replay, is_online);
    }

    /// The next message for a reader, if one is here, with the filter that it matches. What becomes of it is said with
    /// [`message_done`](Self::message_done).
    pub fn next_message(&self, reader: u32) -> Option<(&TopicFilter, &Message)> {
        self.replays.next(reader)
    }

    /// The next message of a reader was sent, or is not to be.
    pub fn message_done(&mut self, reader: u32) {
        self.replays.sent(reader);
    }

    /// Up to where the queue of a reader goes before the messages that are here for it: what was in it when they came, older messages of
    /// the same topics perhaps. `end` is where it ends now. None if no messages are here.
    pub fn queued_before(&mut self, reader: u32, end: u64) -> Option<u64> {
        self.replays.queued_before(reader, end)
    }

    /// What owners are to be asked for a reader, if that is due.
    pub fn questions(&mut self, reader: u32) -> Vec<(usize, RetainedQuestion)> {
        let asked = self.replays.ask(reader).into_iter();
        let questions = asked.map(|(token, mountpoint, Wanted { owner, filters, from, sent })| {
            let after = sent.iter().zip(self.seen(owner)).map(|(sent, seen)| seen.max(*sent)).collect();
            (owner, RetainedQuestion { token, mountpoint, filters, from, sent, after })
        });
        questions.collect()
    }

    /// Shard `from`, perhaps this one, wants to know what is retained here in a mountpoint.
    pub fn ask(&mut self, from: usize, mountpoint: u32, question: RetainedQuestion) {
        self.questions.add(Asked { from, mountpoint, question }, &self.applied);
    }

    /// An owner has answered. Of the publications that are delivered here in portions so many have `begun`, and so many are `done`: those
    /// between may be older than what is on the page, so it is taken in behind them.
    pub fn answered(&mut self, page: RetainedPage, (begun, done): (u64, u64)) {
        self.behind.push_back((begun, page));
        self.take_in(done);
    }

    /// So many publications in portions are done: takes in the pages that came before others.
    pub fn take_in(&mut self, done: u64) {
        while self.behind.front().is_some_and(|(begun, _)| *begun <= done)
            && let Some((_, page)) = self.behind.pop_front()
        {
            self.replays.answered(page);
        }
    }

    /// Whether there is work that nobody knows of yet. From now on somebody does.
    pub fn needs_turn(&mut self) -> bool {
        self.has_work() && !std::mem::replace(&mut self.is_scheduled, true)
    }

    /// The next thing to be done.
    pub fn next_work(&mut self, now: Time) -> Option<Work> {
        if let Some(number) = self.replays.next_begun() {
            return Some(Work::Begin(number));
        }
        self.answers_next = !self.answers_next;
        if self.questions.is_any_ready() && (self.answers_next || !self.replays.is_any_ready()) {
            let Asked { from, mountpoint, question } = self.questions.next()?;
            let (page, looked_at) = self.answer(mountpoint, &question, now);
            return Some(Work::Answer(from, page, looked_at));
        }
        self.replays.next_ready().map(Work::Reader)
    }

    /// Nothing more is done in this turn. Whether there is more to do.
    pub fn end_turn(&mut self) -> bool {
        self.is_scheduled = self.has_work();
        self.is_scheduled
    }

    fn has_work(&self) -> bool {
        self.questions.is_any_ready() || self.replays.is_any_ready() || self.replays.is_any_begun()
    }

    fn answer(&mut self, mountpoint: u32, question: &RetainedQuestion, now: Time) -> (RetainedPage, usize) {
        let (own, applied) = (self.own, self.applied.as_slice().into());
        self.store(mountpoint);
        let Found { messages, next, looked_at } = self.stores[mountpoint as usize].page(question, &self.limits, now);
        (RetainedPage { token: question.token, owner: own, messages, next, applied }, looked_at)
    }

    /// Forgets what has expired among some of the topics. Whether there are more to be looked at.
    pub fn forget_expired(&mut self, now: Time) -> bool {
        let (mountpoint, from) = self.sweeping.take().unwrap_or_default();
        let room = self.room(Limit::UNLIMITED);
        let Some(store) = self.stores.get_mut(mountpoint) else { return false };
        let next = store.forget_expired(&from, SWEPT, now, &room).map(|next| (mountpoint, next));
        self.sweeping = next.or_else(|| (mountpoint + 1 < self.stores.len()).then(|| (mountpoint + 1, "".into())));
        self.sweeping.is_some()
    }

    /// For each shard, which of its messages to this owner were seen last, by whoever reads here.
    fn seen(&self, owner: usize) -> impl Iterator<Item = u64> {
        let elsewhere = self.seen_elsewhere.get(owner);
        let elsewhere = move |shard: usize| elsewhere.map_or(0, |seen| seen[shard]);
        (0..self.shards).zip(self.sent.to(owner)).map(move |(shard, sent)| elsewhere(shard).max(*sent))
    }

    /// What is left of the limits, for messages of no more than `most_of_one` bytes.
    fn room(&self, most_of_one: Limit) -> Room {
        Room { may_grow: self.may_grow, most_of_one, quotas: self.quotas.clone(), shard: self.own }
    }

    fn store(&mut self, mountpoint: u32) -> &mut Store {
        let at = mountpoint as usize;
        if self.stores.len() <= at {
            self.stores.resize_with(at + 1, Store::default);
        }
        &mut self.stores[at]
    }

    /// The shards that own the topics of these filters, which have no wildcards.
    fn owners(&self, mountpoint: &str, filters: &[TopicFilter]) -> Vec<usize> {
        let owner = |filter: &TopicFilter| self.topic(mountpoint, filter.filter()).owner;
        let mut owners: Vec<_> = filters.iter().map(owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// A topic, and the shard that owns it. Topics do not move with slots.
    fn topic<'a>(&self, mountpoint: &str, name: &'a str) -> Topic<'a> {
        Topic::new(mountpoint, name, &self.hasher, self.shards)
    }
}

#[cfg(test)]
mod tests;
