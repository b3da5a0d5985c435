//! What the clients of this shard are still to be sent of what is retained.

use std::collections::VecDeque;
use std::sync::Arc;

use super::gathering::Gathered;
use super::holders::Holders;
use super::live::LiveLog;
use super::page::RetainedPage;
use super::replay::{Replay, Wanted};
use crate::message::Message;
use crate::sharding::hash_of_topic;
use crate::tables::PartedMap;
use crate::topic::{FilterSet, TopicFilter};

/// The replays of a shard, by reader: the place of a session, or of a subscription of the program.
pub(super) struct Replays {
    readers: PartedMap<u32, Reader>,
    /// The questions that are open: who asks, and where the log ended then.
    asked: PartedMap<u64, (u32, u64)>,
    next_question: u64,
    /// The readers that have a message here which was not sent yet, by the hash of its topic.
    unsent: PartedMap<u64, Holders>,
    /// How many of them were looked at for messages that came live.
    pub looked_at: usize,
    log: LiveLog,
    /// Subscriptions that need not wait any more for the first pages, by their numbers.
    begun: VecDeque<u64>,
    /// Readers that have something to be sent or asked, in order.
    ready: VecDeque<u32>,
    hasher: ahash::RandomState,
    shards: usize,
}

/// One who is sent retained messages.
struct Reader {
    replay: Box<Replay>,
    /// Its client is connected.
    is_online: bool,
    is_ready: bool,
    /// The questions that are open.
    asked: Vec<u64>,
    /// The subscription that waits for the first pages, one of each owner: nothing is sent before.
    beginning: Option<u64>,
}

/// A topic in its mountpoint, as the organ looks for it.
#[derive(Clone, Copy)]
pub(super) struct Topic<'a> {
    pub name: &'a str,
    /// Its hash, with that of the mountpoint.
    pub hash: u64,
    /// The shard that owns it.
    pub owner: usize,
}

impl<'a> Topic<'a> {
    /// The topic of this name; on one of so many `shards`.
    pub fn new(mountpoint: &str, name: &'a str, hasher: &ahash::RandomState, shards: usize) -> Self {
        let hash = hash_of_topic(mountpoint, name, hasher);
        Topic { name, hash, owner: hash as usize % shards }
    }
}

impl Replays {
    /// None, on one of so many `shards`. Topics are hashed with `hasher`.
    pub fn new(hasher: ahash::RandomState, shards: usize) -> Self {
        Replays {
            readers: PartedMap::with_hasher(hasher.clone()),
            asked: PartedMap::with_hasher(hasher.clone()),
            next_question: 0,
            unsent: PartedMap::with_hasher(hasher.clone()),
            looked_at: 0,
            log: LiveLog::default(),
            begun: VecDeque::new(),
            ready: VecDeque::new(),
            hasher,
            shards,
        }
    }

    /// How many readers there are.
    pub fn len(&self) -> usize {
        self.readers.len()
    }

    /// A reader in this mountpoint is to be sent what `owners` have for the subscription with this number. That comes out of
    /// [`next_begun`](Self::next_begun) when the first pages are here, or the reader has to wait anyway: for what is before them, or because
    /// it is not connected.
    pub fn add(
        &mut self,
        number: u64,
        (place, is_online): (u32, bool),
        mountpoint: &Arc<str>,
        gathered: Gathered,
        owners: &[usize],
    ) {
        let replay = || Box::new(Replay::new(mountpoint.clone(), self.hasher.clone()));
        let reader = self.readers.get_or_insert_with(place, || Reader::new(replay(), is_online));
        let before = reader.replay.filters().cloned();
        let dropped = reader.replay.add(gathered, owners);
        self.changed(place, before.as_ref(), dropped);
        match self.readers.get_mut(&place) {
            Some(reader) if reader.is_online && reader.replay.is_first_alone() => reader.beginning = Some(number),
            _ => self.begun.push_back(number),
        }
    }

    /// A reader is not to be sent what is left for these filters.
    pub fn remove(&mut self, place: u32, filters: &[TopicFilter]) {
        let Some(reader) = self.readers.get_mut(&place) else { return };
        let before = reader.replay.filters().cloned();
        let dropped = reader.replay.remove(filters);
        self.changed(place, before.as_ref(), dropped);
    }

    /// The requests of a reader have changed, of which these filters were the first, and these messages are not to be sent now.
    fn changed(&mut self, place: u32, before: Option<&Arc<FilterSet>>, dropped: Vec<Message>) {
        self.forget_unsent(place, &dropped);
        let Some(reader) = self.readers.get_mut(&place) else { return };
        let is_same = before.zip(reader.replay.filters()).is_some_and(|(before, now)| Arc::ptr_eq(before, now));
        if !is_same {
            self.close_questions(place);
            self.begin(place);
        }
        self.make_ready(place);
    }

    /// The client of a reader is connected, or not any more. What is here for it is asked for again when it is.
    pub fn set_online(&mut self, place: u32, is_online: bool) {
        let Some(reader) = self.readers.get_mut(&place) else { return };
        reader.is_online = is_online;
        if is_online {
            return self.make_ready(place);
        }
        let dropped = reader.replay.drop_pages();
        self.forget_unsent(place, &dropped);
        self.close_questions(place);
        self.begin(place);
    }

    /// Forgets a reader, and gives what was left for it.
    pub fn take(&mut self, place: u32) -> Option<Box<Replay>> {
        self.set_online(place, false);
        self.readers.remove(&place).map(|reader| reader.replay)
    }

    /// What another shard has left for a reader is to be sent from here.
    pub fn put(&mut self, place: u32, replay: Box<Replay>, is_online: bool) {
        self.readers.insert(place, Reader::new(replay, is_online));
        self.make_ready(place);
    }

    /// Whether a reader is to be sent something.
    pub fn has(&self, place: u32) -> bool {
        self.readers.contains_key(&place)
    }

    /// Whether readers have something to be sent or asked.
    pub fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next reader that has. It is forgotten if it has nothing to wait for any more.
    pub fn next_ready(&mut self) -> Option<u32> {
        loop {
            let place = self.ready.pop_front()?;
            // It may have gone, or gone offline.
            let Some(reader) = self.readers.get_mut(&place) else { continue };
            reader.is_ready = false;
            if reader.is_online {
                return Some(place);
            }
        }
    }

    /// Whether subscriptions need not wait any more.
    pub fn is_any_begun(&self) -> bool {
        !self.begun.is_empty()
    }

    /// The next subscription that need not.
    pub fn next_begun(&mut self) -> Option<u64> {
        self.begun.pop_front()
    }

    /// The subscription that waits for the first pages for this reader need not any more.
    fn begin(&mut self, place: u32) {
        let beginning = self.readers.get_mut(&place).and_then(|reader| reader.beginning.take());
        self.begun.extend(beginning);
    }

    /// The next message for a reader, with the filter that it matches; none if there is none here, or a subscription waits for others.
    pub fn next(&self, place: u32) -> Option<(&TopicFilter, &Message)> {
        self.readers.get(&place).filter(|reader| reader.beginning.is_none())?.replay.next()
    }

    /// That message was sent, or is not to be.
    pub fn sent(&mut self, place: u32) {
        let Some(message) = self.readers.get_mut(&place).and_then(|reader| reader.replay.take()) else { return };
        self.forget_unsent(place, &[message]);
    }

    /// See [`Replay::queued_before`].
    pub fn queued_before(&mut self, place: u32, now: u64) -> Option<u64> {
        self.readers.get_mut(&place).filter(|reader| reader.beginning.is_none())?.replay.queued_before(now)
    }

    /// What is to be asked for a reader, if nothing is here for it and no question is open: for each question its number, the mountpoint
    /// and what. A reader for which nothing is left is forgotten.
    pub fn ask(&mut self, place: u32) -> Vec<(u64, Arc<str>, Wanted)> {
        let Some(reader) = self.readers.get_mut(&place) else { return Vec::new() };
        if reader.replay.is_over() {
            self.forget(place);
            return Vec::new();
        }
        if !reader.asked.is_empty() || !reader.is_online {
            return Vec::new();
        }
        let mut questions = Vec::new();
        for wanted in reader.replay.wanted(reader.beginning.is_some()) {
            let token = self.next_question;
            self.next_question += 1;
            reader.asked.push(token);
            self.asked.insert(token, (place, self.log.end()));
            questions.push((token, reader.replay.mountpoint().clone(), wanted));
        }
        questions
    }

    /// An owner has answered. Nobody may be waiting for it any more.
    pub fn answered(&mut self, mut page: RetainedPage) {
        let Some((place, since)) = self.asked.remove(&page.token) else { return };
        if let Some(reader) = self.readers.get_mut(&place) {
            reader.asked.retain(|token| *token != page.token);
            let (mountpoint, hasher, shards) = (reader.replay.mountpoint(), &self.hasher, self.shards);
            let hash = |topic: &str| Topic::new(mountpoint, topic, hasher, shards).hash;
            self.log.cut(&mut page, since, hash);
            for (_, message) in &page.messages {
                let holders = self.unsent.get_or_insert_with(hash(message.topic().as_str()), Holders::default);
                holders.add(place, &self.hasher);
            }
            reader.replay.answered(page);
            if reader.asked.is_empty() {
                self.begin(place);
                self.make_ready(place);
            }
        }
        self.no_question_perhaps();
    }

    /// A message to be retained has come live: which one it is of those of `shard` to the owner of its topic. What is here of the topic and
    /// was not sent is not sent any more.
    pub fn note_live(&mut self, topic: Topic<'_>, shard: usize, number: u64) {
        if !self.asked.is_empty() {
            self.log.note(shard, topic.owner, number, topic.hash);
        }
        let Some(holders) = self.unsent.remove(&topic.hash) else { return };
        let mut stay = Holders::default();
        for place in holders.into_places() {
            self.looked_at += 1;
            let Some(reader) = self.readers.get_mut(&place) else { continue };
            match reader.replay.comes_live(topic.owner, topic.name.as_bytes(), shard, number) {
                Some(_) => self.make_ready(place),
                None => stay.add(place, &self.hasher),
            }
        }
        if !stay.is_empty() {
            self.unsent.insert(topic.hash, stay);
        }
    }

    fn make_ready(&mut self, place: u32) {
        let Some(reader) = self.readers.get_mut(&place) else { return };
        // One for which nothing is left is to be forgotten, connected or not.
        if reader.replay.is_over() {
            self.forget(place);
        } else if reader.is_online && !std::mem::replace(&mut reader.is_ready, true) {
            self.ready.push_back(place);
        }
    }

    fn forget(&mut self, place: u32) {
        self.begin(place);
        self.readers.remove(&place);
    }

    /// These messages for a reader are not here any more.
    fn forget_unsent(&mut self, place: u32, messages: &[Message]) {
        let Some(reader) = self.readers.get(&place) else { return };
        for message in messages {
            let topic = message.topic();
            let hash = Topic::new(reader.replay.mountpoint(), topic.as_str(), &self.hasher, self.shards).hash;
            let Some(holders) = self.unsent.get_mut(&hash) else { continue };
            holders.remove(place);
            if holders.is_empty() {
                self.unsent.remove(&hash);
            }
        }
    }

    fn close_questions(&mut self, place: u32) {
        let Some(reader) = self.readers.get_mut(&place) else { return };
        for token in reader.asked.drain(..) {
            self.asked.remove(&token);
        }
        self.no_question_perhaps();
    }

    fn no_question_perhaps(&mut self) {
        if self.asked.is_empty() {
            self.log.clear();
        }
    }
}

#[cfg(test)]
impl Replays {
    /// How many messages are here that were not sent.
    pub fn here(&self) -> usize {
        self.readers.values().map(|reader| reader.replay.messages().count()).sum()
    }

    /// Whether nothing is here and no question is open.
    pub fn is_bare(&self) -> bool {
        self.here() == 0 && self.unsent.is_empty() && self.asked.is_empty() && self.log.is_empty()
    }
}

impl Reader {
    fn new(replay: Box<Replay>, is_online: bool) -> Self {
        Reader { replay, is_online, is_ready: false, asked: Vec::new(), beginning: None }
    }
}
