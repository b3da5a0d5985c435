//! What the records of a store say, read one after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::delivery::Deliveries;
use super::home::Home;
use super::message::StoredMessage;
use super::paged::Paged;
use super::record::Record;
use super::session_record::SessionRecord;
use super::shared::Shared;
use super::stored_session::StoredSession;
use super::wall_clock::WallClock;
use crate::client::SubscriberId;
use crate::message::Message;
use crate::numbers::{Decision, DecisionNumber, StoreNumber};
use crate::session::{Key, StoredPage};
use crate::topic::{Named, TopicFilter, TopicMap};

/// What the records of a store say. It is made by [`apply`](Self::apply), which is given all records: of one boot after the other, and of each boot
/// those of one shard after the other, in the order in which they were written.
///
/// It holds what counts, and nothing else: of each message the body once, however many sessions have it.
pub struct Image {
    clock: WallClock,
    hasher: ahash::RandomState,
    shared: Shared,
    pub(super) sessions: HashMap<StoreNumber, Box<StoredSession>, ahash::RandomState>,
    /// Numbers that others have replaced, and by which: whatever is read of them does not count.
    pub(super) replaced: HashMap<StoreNumber, StoreNumber, ahash::RandomState>,
    /// Those of them that have not ended in the records.
    pub(super) displaced: HashSet<StoreNumber, ahash::RandomState>,
    pub(super) retained: BTreeMap<Arc<str>, TopicMap<OfTopic>>,
    /// The pages in the archive. Parts that are read apart look at them, too.
    paged: Arc<Paged>,
    /// Numbers of pages that nobody had before.
    orphans: Vec<StoreNumber>,
    /// The last decision that is named.
    pub(super) last_decision: DecisionNumber,
    /// The journal that is read.
    journal: u32,
    /// Something is in more than one journal.
    pub(super) is_scattered: bool,
    /// If it is a part: which journal everything belongs into.
    home: Option<Home>,
    /// How many records were read.
    pub(super) records: u64,
    pub(super) passed_over: u64,
    /// If it is a part: numbers that are not known, of which there are records.
    pub(super) strangers: HashSet<StoreNumber, ahash::RandomState>,
}

/// A retained message, and the journal that it is in.
pub(super) struct OfTopic(Message, u32);

impl Named for OfTopic {
    fn topic(&self) -> &[u8] {
        self.0.topic_bytes()
    }
}

/// How much there is in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: usize,
    /// Messages of sessions, those in pages and those that only PUBCOMP is waited for among them.
    pub messages: usize,
    /// The size of these messages in bytes, shared or not; of those in pages about.
    pub bytes: usize,
    /// Retained messages.
    pub retained: usize,
    /// Their size in bytes.
    pub retained_bytes: usize,
    /// Records that were read.
    pub records: u64,
    /// How often a record, or a delivery of a message, named a session that is not known. What was read twice may do so, and what was damaged.
    pub passed_over: u64,
}

impl Image {
    /// Nothing. `clock` gives what is stored its time, `hasher` is that of maps keyed by what clients choose.
    pub fn new(clock: WallClock, hasher: ahash::RandomState) -> Self {
        Image {
            clock,
            shared: Shared::new(&hasher),
            sessions: HashMap::with_hasher(hasher.clone()),
            replaced: HashMap::with_hasher(hasher.clone()),
            displaced: HashSet::with_hasher(hasher.clone()),
            strangers: HashSet::with_hasher(hasher.clone()),
            paged: Arc::new(Paged::new(hasher.clone())),
            orphans: Vec::new(),
            hasher,
            retained: BTreeMap::new(),
            last_decision: DecisionNumber::default(),
            journal: 0,
            is_scattered: false,
            home: None,
            records: 0,
            passed_over: 0,
        }
    }

    /// What `contents` says, which go by the same clock, to go on from there with records of later boots.
    pub fn of(mut contents: Contents, clock: WallClock, hasher: ahash::RandomState) -> Self {
        let mut image = Image::new(clock, hasher);
        image.records = contents.counts.records;
        for mut session in contents.sessions.by_ref() {
            image.paged_mut().take_back(&mut session);
            image.sessions.insert(session.number, session);
        }
        (image.retained, image.last_decision) = (contents.retained, contents.last_decision);
        image.orphans = contents.orphans;
        image
    }

    /// Nothing, to be read beside this one, of what belongs into one journal.
    pub(super) fn part_of(&self, home: Home) -> Self {
        let new = Image::new(self.clock, self.hasher.clone());
        Image { paged: Arc::clone(&self.paged), journal: home.journal(), home: Some(home), ..new }
    }

    /// The archive has this page under this number, of which nothing is known to be gone. All pages come before the first record.
    pub fn page(&mut self, pages_id: StoreNumber, page: StoredPage) {
        self.paged_mut().add(pages_id, page);
    }

    fn paged_mut(&mut self) -> &mut Paged {
        Arc::get_mut(&mut self.paged).expect("no part of it is read yet")
    }

    /// What is taken in from here on is in this journal.
    pub fn read_journal(&mut self, journal: u32) {
        self.journal = journal;
    }

    /// Takes in one more record.
    pub fn apply(&mut self, record: &Record<'_>) {
        self.records += 1;
        match *record {
            Record::Session(ref header) => self.session(header),
            Record::Ended(number) => {
                if self.sessions.remove(&number).is_none() && self.home.is_some() {
                    self.strangers.insert(number);
                }
                self.displaced.remove(&number);
            }
            Record::Message { message, deliveries } => self.message(&message, &deliveries),
            Record::Retained { mountpoint, message } => {
                let message = OfTopic(message.publication(self.clock).keep(), self.journal);
                self.look_for_home(mountpoint, message.0.topic().as_str());
                let mountpoint = self.shared.text(mountpoint);
                let before = self.retained.entry(mountpoint).or_default().insert(message);
                self.is_scattered |= before.is_some_and(|OfTopic(_, journal)| journal != self.journal);
            }
            Record::Cleared { mountpoint, topic } => {
                self.look_for_home(mountpoint, topic.as_str());
                if let Some(messages) = self.retained.get_mut(mountpoint) {
                    let before = messages.remove(topic.as_str());
                    self.is_scattered |= before.is_some_and(|OfTopic(_, journal)| journal != self.journal);
                    if messages.is_empty() {
                        self.retained.remove(mountpoint);
                    }
                }
            }
            Record::Subscribed { session, filter, subscription } => {
                if let Some(session) = self.known(session)
                    && let Ok(filter) = TopicFilter::parse(filter, usize::MAX)
                {
                    session.subscriptions.put(filter, subscription);
                }
            }
            Record::Unsubscribed { session, filter } => {
                if let Some(session) = self.known(session)
                    && let Ok(filter) = TopicFilter::parse(filter, usize::MAX)
                {
                    session.subscriptions.remove(&filter);
                }
            }
            Record::HookState(number, state) => self.change(number, |session| {
                session.hook_state = (!state.is_empty()).then(|| state.into());
            }),
            Record::Offline(number, offline) => self.change(number, |session| session.go_offline(offline)),
            Record::WillGone(number, decision) => self.decided(number, Some(decision), StoredSession::forget_will),
            Record::Removed(number, key) => {
                self.change(number, |session| drop(session.remove(key.get())));
                self.is_gone(number, key);
            }
            Record::PassedOn { session, key, decision } => {
                self.decided(session, Some(decision), |session| drop(session.remove(key.get())));
                self.is_gone(session, key);
            }
            Record::Received(number, key) => self.change(number, |session| session.receive(key.get())),
            Record::Renumbered { session, before, now } => {
                self.change(session, |session| session.renumber(before.get(), now.get()));
                self.is_gone(session, before);
            }
            Record::Launched(number, key) => self.change(number, |session| session.launch(key.get())),
            Record::Incoming { session, id, decision } => {
                self.decided(session, decision, |session| session.inbound.take(id));
            }
            Record::Released(number, id) => self.change(number, |session| {
                session.inbound.release(id);
            }),
        }
    }

    /// A part is no part if something is in another journal than it belongs into.
    fn look_for_home(&mut self, mountpoint: &str, topic: &str) {
        self.is_scattered |= self.home.as_ref().is_some_and(|home| !home.has_topic(mountpoint, topic));
    }

    /// The session with this number. If there is none, that is counted, unless it is known where it is.
    fn known(&mut self, number: StoreNumber) -> Option<&mut StoredSession> {
        let known = self.sessions.get_mut(&number);
        match &known {
            Some(session) => self.is_scattered |= session.journal != self.journal,
            None => {
                self.passed_over += u64::from(!self.replaced.contains_key(&number));
                if self.home.is_some() {
                    self.strangers.insert(number);
                }
            }
        }
        known.map(|session| &mut **session)
    }

    /// A message of a session does not wait under this key any more, be it here or in a page.
    fn is_gone(&mut self, number: StoreNumber, key: Key) {
        if !self.paged.is_empty()
            && let Some(session) = self.sessions.get_mut(&number)
        {
            self.paged.note_gone(session, key.get());
        }
    }

    fn change(&mut self, number: StoreNumber, change: impl FnOnce(&mut StoredSession)) {
        if let Some(session) = self.known(number) {
            change(session);
        }
    }

    /// A session has changed, and with that decided something.
    fn decided(
        &mut self,
        number: StoreNumber,
        decision: Option<DecisionNumber>,
        change: impl FnOnce(&mut StoredSession),
    ) {
        self.last_decision = self.last_decision.max(decision.unwrap_or_default());
        self.change(number, |session| {
            session.decide(decision);
            change(session);
        });
    }

    fn session(&mut self, header: &SessionRecord<'_>) {
        let number = header.number;
        self.last_decision = self.last_decision.max(header.decided);
        if let Some(replaces) = header.replaces.filter(|replaces| !header.is_arriving && *replaces != number) {
            self.replaced.insert(replaces, number);
            if self.sessions.remove(&replaces).is_some() {
                self.displaced.insert(replaces);
            }
        }
        if self.replaced.contains_key(&number) {
            self.displaced.insert(number);
            return;
        }
        let mut new = StoredSession::new(header, self.records, &mut self.shared, self.clock, self.hasher.clone());
        self.is_scattered |= self.home.as_ref().is_some_and(|home| !home.has_session(&new.client.subscriber));
        (new.journal, new.reach) = (self.journal, self.paged.reach(new.pages_id()));
        match self.sessions.get_mut(&number) {
            Some(known) => {
                self.is_scattered |= known.journal != self.journal;
                known.replace_header(new);
            }
            None => drop(self.sessions.insert(number, Box::new(new))),
        }
    }

    fn message(&mut self, message: &StoredMessage<'_>, deliveries: &Deliveries<'_>) {
        let publication = message.publication(self.clock);
        self.last_decision = self.last_decision.max(message.decision.map_or_else(Default::default, |one| one.number));
        for delivery in deliveries.iter() {
            let is_in_page = !delivery.is_sent && self.is_in_page(delivery.session, delivery.key);
            let group = delivery.group.and_then(|group| self.shared.group(group));
            match self.known(delivery.session) {
                Some(session) if is_in_page => session.saw(delivery.key.get()),
                // The first one copies the message out of the record, the others share that.
                Some(session) => session.put(&delivery, publication.keep(), group),
                None => {}
            }
        }
    }

    /// Whether what waits for a session under this key is in a page: most of what there is, if there is much.
    fn is_in_page(&self, number: StoreNumber, key: Key) -> bool {
        let has = |session: &StoredSession| self.paged.has(session, key.get());
        !self.paged.is_empty() && self.sessions.get(&number).is_some_and(|session| has(session))
    }

    /// The session that a decision is of: the number that is named, or what has replaced that.
    fn decides(&self, decision: Decision) -> Option<&StoredSession> {
        let named = self.sessions.get(&decision.session);
        let now = || self.sessions.get(self.replaced.get(&decision.session)?);
        named.or_else(now).map(|session| &**session)
    }

    /// Takes out the messages that depend on a decision that was not made, and says which.
    fn take_undecided(&mut self) -> Vec<(StoreNumber, Key)> {
        // Of a session that has ended it does not matter: nobody does again what it had not decided.
        let is_open = |decision: Decision| self.decides(decision).is_some_and(|one| one.decided < decision.number);
        let mut undecided = Vec::new();
        for session in self.sessions.values().filter(|session| session.has_dependent) {
            let decisions = session.messages().iter().filter_map(|(key, delivery)| Some((key, delivery.decision()?)));
            let open = decisions.filter(|(_, decision)| is_open(*decision));
            undecided.extend(open.map(|(key, _)| (session.number, Key::new(key))));
        }
        for (number, key) in &undecided {
            // No record says so: whose journal it is in does not matter.
            self.sessions.get_mut(number).map(|session| session.remove(key.get()));
            self.is_gone(*number, *key);
        }
        undecided.sort_unstable();
        undecided
    }

    /// What there is in the end. Messages that depend on a decision that was not made are not, nor sessions that were not stored before and are not whole.
    /// Of two numbers for one subscriber id one counts: the one that is whole, not still arriving; then that of the later
    /// boot; then that whose client connected later; then that whose header was read later.
    ///
    /// What counts gets its pages. A message that waits and is in a page is there alone; of pages is gone what records say anything else of: that it
    /// was sent, received, removed, passed on or renumbered.
    pub fn finish(mut self) -> Contents {
        let undecided = self.take_undecided();
        let Image { mut sessions, mut displaced, paged, retained, last_decision, is_scattered, .. } = self;
        let mut paged = Arc::into_inner(paged).expect("no part of it is read any more");
        let Image { records, passed_over, .. } = self;
        displaced.extend(sessions.values().filter(|session| session.is_incomplete).map(|session| session.number));
        sessions.retain(|_, session| !session.is_incomplete);
        let mut winners: HashMap<SubscriberId, StoreNumber, _> =
            HashMap::with_capacity_and_hasher(sessions.len(), self.hasher);
        for session in sessions.values() {
            let winner = winners.entry(session.client.subscriber.clone()).or_insert(session.number);
            if sessions.get(winner).is_some_and(|winner| rank(session) > rank(winner)) {
                *winner = session.number;
            }
        }
        sessions.retain(|number, session| {
            let is_winner = winners.get(&session.client.subscriber) == Some(number);
            if !is_winner {
                displaced.insert(*number);
            }
            is_winner
        });
        drop(winners);
        let mut sessions: Vec<_> = sessions.into_values().collect();
        sessions.sort_unstable_by_key(|session| session.number);
        sessions.iter_mut().for_each(|session| paged.settle(session));
        let in_pages = sessions.iter().map(|session| session.waiting_in_pages());
        let in_pages = in_pages.fold((0, 0), |(messages, bytes), of| (messages + of.0, bytes + of.1));
        let counts = Counts {
            sessions: sessions.len(),
            messages: in_pages.0 + sessions.iter().map(|session| session.messages().len()).sum::<usize>(),
            bytes: in_pages.1 + sessions.iter().map(|session| session.bytes()).sum::<usize>(),
            retained: retained.values().map(TopicMap::len).sum(),
            retained_bytes: retained.values().flat_map(|of| of.from("")).map(|OfTopic(one, _)| one.size()).sum(),
            records,
            passed_over,
        };
        let mut displaced: Vec<StoreNumber> = displaced.into_iter().collect();
        displaced.sort_unstable();
        let mut orphans = self.orphans;
        orphans.extend(paged.into_left());
        let sessions = sessions.into_iter();
        Contents { counts, displaced, undecided, orphans, last_decision, is_scattered, sessions, retained }
    }
}

/// Which of two sessions of one subscriber id counts: the one with the greater rank.
fn rank(session: &StoredSession) -> (bool, u32, u64, u64) {
    (!session.is_arriving, session.number.boot(), session.client.session_number, session.place)
}

/// What is in a store.
pub struct Contents {
    counts: Counts,
    displaced: Vec<StoreNumber>,
    undecided: Vec<(StoreNumber, Key)>,
    orphans: Vec<StoreNumber>,
    last_decision: DecisionNumber,
    pub(super) is_scattered: bool,
    sessions: std::vec::IntoIter<Box<StoredSession>>,
    retained: BTreeMap<Arc<str>, TopicMap<OfTopic>>,
}

impl Contents {
    /// How much it is.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Numbers that do not count because others do, in whose records it is not said that they have ended. Who goes on with the store says so:
    /// otherwise they come back when the others have ended.
    pub fn displaced(&self) -> &[StoreNumber] {
        &self.displaced
    }

    /// The sessions that were not given out yet.
    pub fn left(&self) -> &[Box<StoredSession>] {
        self.sessions.as_slice()
    }

    /// The retained messages with their mountpoints.
    pub fn retained(&self) -> impl Iterator<Item = (&str, &Message)> {
        self.retained.iter().flat_map(|(mountpoint, messages)| {
            messages.from("").map(move |OfTopic(message, _)| (&**mountpoint, message))
        })
    }

    /// Messages that do not count because they depend on a decision that was not made, by session and key. Who goes on with the store says so
    /// before anything else is decided: otherwise they come back with the next decision of the same session.
    pub fn undecided(&self) -> &[(StoreNumber, Key)] {
        &self.undecided
    }

    /// Numbers under which the archive has pages that no session has, ascending. Who goes on with the store deletes them.
    pub fn orphans(&self) -> &[StoreNumber] {
        &self.orphans
    }

    /// Of all decisions that messages depend on, the last.
    pub fn last_decision(&self) -> DecisionNumber {
        self.last_decision
    }

    /// Whether every session and retained message is in the journal of the shard that it belongs to now, and in no other; of so many shards, with this
    /// seed of hashes. If not, what they do with it is not enough: a journal that forgets what others have, or has what others forget, would be read
    /// again at the next start.
    pub fn are_at_home(&self, shards: usize, seed: u64) -> bool {
        let home = |journal| Home::new(journal, shards, seed);
        let is_home = |session: &StoredSession| home(session.journal).has_session(&session.client.subscriber);
        let is_retained_at_home = |mountpoint: &str, OfTopic(message, journal): &OfTopic| {
            home(*journal).has_topic(mountpoint, message.topic().as_str())
        };
        !self.is_scattered
            && self.sessions.as_slice().iter().all(|session| is_home(session))
            && self
                .retained
                .iter()
                .all(|(mountpoint, messages)| messages.from("").all(|message| is_retained_at_home(mountpoint, message)))
    }

    /// Gives the sessions out, in the order of their numbers.
    pub fn sessions(&mut self) -> impl Iterator<Item = Box<StoredSession>> {
        self.sessions.by_ref()
    }

    /// The retained messages with their mountpoints, by mountpoint and topic.
    pub fn into_retained(self) -> impl Iterator<Item = (Arc<str>, Message)> {
        self.retained.into_iter().flat_map(|(mountpoint, messages)| {
            messages.into_values().map(move |OfTopic(message, _)| (mountpoint.clone(), message))
        })
    }
}
