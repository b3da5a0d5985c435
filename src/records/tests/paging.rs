//! A session whose messages go to pages of the archive and back: after any crash, whatever was released of the journal, each message is there as
//! it was, and once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::codec::QoS;
use crate::message::{Message, Publication};
use crate::numbers::{DecisionNumber, StoreNumber};
use crate::random::Random;
use crate::records::{
    Contents, Delivery, DeliveryBuffer, Image, NewPage, PageBuilder, SessionRecord, StoredIds, StoredMessage,
    StoredSession, StoredStage, WallClock, WallTime, read_page, read_summary,
};
use crate::session::{Key, OutgoingMessage, SubscriptionIds};
use crate::time::Time;
use crate::topic::TopicName;

fn clock() -> WallClock {
    WallClock::new(Time::ZERO, WallTime::default())
}

/// What of the session has to be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    waiting: BTreeMap<u64, String>,
    /// In flight; none: the client has it.
    sent: BTreeMap<u64, Option<String>>,
    has_ended: bool,
}

/// A change of the archive.
struct Batch {
    page: (StoreNumber, u64),
    /// None if the page is deleted.
    put: Option<NewPage>,
    /// So many records were committed before the archive was given it.
    given: usize,
    /// So many records there were when the shard learnt that it is persisted.
    known: usize,
}

/// A round of rewriting: when it has ended and so many batches are persisted, nothing before it is needed.
struct Round {
    begin: usize,
    end: usize,
    batches: usize,
}

/// What was written, and what it means after each record.
struct History {
    records: Vec<Stored>,
    /// Before the first record, and after each.
    states: Vec<State>,
    batches: Vec<Batch>,
    rounds: Vec<Round>,
    /// The records before this one are released.
    floor: usize,
    /// So many records outlast any crash: they were there at a start.
    lasting: usize,
}

/// Where a crash leaves off: from which record on there are some, up to which, and how many batches are persisted.
#[derive(Clone, Copy, Debug)]
struct Crash {
    start: usize,
    cut: usize,
    persisted: usize,
}

impl History {
    /// Any that may be. `far`: anywhere, not only a few records ago.
    fn crash(&self, random: &mut Random, far: bool) -> Crash {
        let least = self.rounds.iter().map(|round| round.end).filter(|_| !far).max().unwrap_or(0);
        let least = least.max(self.lasting);
        let cut = self.records.len() - random.below(self.records.len() - least + 1);
        // The archive never knows more than the journal; what the shard knows to be persisted is.
        let known = self.batches.iter().filter(|batch| batch.known < cut).count();
        let given = self.batches.iter().filter(|batch| batch.given <= cut).count();
        let persisted = known + random.below(given - known + 1);
        let may_begin = |round: &&Round| round.end <= cut && round.batches <= persisted && round.begin >= self.floor;
        let mut starts: Vec<usize> = self.rounds.iter().filter(may_begin).map(|round| round.begin).collect();
        starts.push(self.floor);
        Crash { start: starts[random.below(starts.len())], cut, persisted }
    }

    /// The pages that the archive has then.
    fn archive(&self, persisted: usize) -> BTreeMap<(StoreNumber, u64), &NewPage> {
        let mut pages = BTreeMap::new();
        for batch in &self.batches[..persisted] {
            match &batch.put {
                Some(page) => drop(pages.insert(batch.page, page)),
                None => drop(pages.remove(&batch.page)),
            }
        }
        pages
    }

    fn read(&self, crash: Crash) -> Contents {
        let mut image = Image::new(clock(), hasher());
        for ((pages_id, first), page) in self.archive(crash.persisted) {
            let page = read_summary(pages_id, Key::new(first), &page.summary).expect("it was written");
            image.page(pages_id, page);
        }
        self.records[crash.start..crash.cut].iter().for_each(|stored| image.apply(&stored.record()));
        image.finish()
    }

    /// What is read after a crash is what has to be there.
    fn check(&self, crash: Crash) -> Contents {
        let (contents, archive) = (self.read(crash), self.archive(crash.persisted));
        let meant = &self.states[crash.cut];
        let [session] = contents.left() else {
            assert!(contents.left().is_empty() && meant.has_ended, "{crash:?}");
            let ids: BTreeSet<_> = archive.keys().map(|(pages_id, _)| *pages_id).collect();
            assert!(contents.orphans().iter().eq(&ids), "{crash:?}");
            return contents;
        };
        assert!(contents.orphans().is_empty(), "{crash:?}: {:?} of {}", contents.orphans(), session.number);
        let mut read = of_memory(session);
        for page in &session.pages {
            let place = (session.pages_id(), page.keys.first().get());
            let value = &archive.get(&place).expect("the archive has it").value;
            for message in read_page(place.0, page.keys.first(), value, clock()).expect("it was written") {
                let key = message.key.get();
                if !page.gone.contains(&message.key) {
                    let before = read.waiting.insert(key, text(&message.message));
                    assert!(before.is_none() && !read.sent.contains_key(&key), "{crash:?}: {key} is there twice");
                }
                assert!(key < session.next_key, "its keys are above those of pages");
            }
        }
        assert_eq!(&read, meant, "{crash:?}");
        let firsts = |page: &NewPage| page.stored.keys.iter().all(|key| !meant.waiting.contains_key(&key.get()));
        let gone = archive.iter().filter(|(_, page)| firsts(page)).map(|((_, first), _)| *first);
        assert!(session.gone_pages.iter().map(|keys| keys.first().get()).eq(gone), "{crash:?}");
        let in_pages: usize = session.pages.iter().map(|page| page.keys.len() - page.gone.len()).sum();
        assert_eq!(contents.counts().messages, in_pages + session.messages().len());
        assert_eq!(session.waiting_in_pages().0, in_pages);
        // What goes on from there without any other record says the same.
        let going_on = Image::of(self.read(crash), clock(), hasher()).finish();
        let [again] = going_on.left() else { panic!("it is there") };
        assert_eq!((&again.pages, &again.gone_pages), (&session.pages, &session.gone_pages));
        assert_eq!(of_memory(again), of_memory(session));
        contents
    }
}

/// What of a session is not in pages.
fn of_memory(session: &StoredSession) -> State {
    let mut read = State::default();
    for (key, delivery) in session.messages().iter() {
        let payload = delivery.message.as_ref().map(text);
        match session.stage(key) {
            Some(StoredStage::Queued) => drop(read.waiting.insert(key, payload.expect("it waits"))),
            _ => drop(read.sent.insert(key, payload)),
        }
    }
    read
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.payload()).into_owned()
}

/// A page as the shard knows it.
struct KnownPage {
    keys: Vec<u64>,
    /// It is not known to be persisted: its messages are in memory as well.
    is_under_way: bool,
    is_being_deleted: bool,
}

/// A round that is under way.
struct Rewriting {
    begin: usize,
    /// What waited in memory alone, and is left; none before the session is begun with.
    left: Option<Vec<u64>>,
    /// What was in flight and is recorded.
    recorded: BTreeSet<u64>,
}

/// The shard that has the session.
struct Shard {
    random: Random,
    history: History,
    state: State,
    number: StoreNumber,
    numbers: u32,
    pages_id: Option<StoreNumber>,
    next_key: u64,
    payloads: u64,
    pages: BTreeMap<u64, KnownPage>,
    /// What came through a shared subscription.
    shared: BTreeSet<u64>,
    rewriting: Option<Rewriting>,
}

impl Shard {
    fn new(seed: u64) -> Self {
        let (records, batches, rounds) = (Vec::new(), Vec::new(), Vec::new());
        let history = History { records, states: vec![State::default()], batches, rounds, floor: 0, lasting: 1 };
        let mut shard = Shard {
            random: Random::from_seed(seed),
            history,
            state: State::default(),
            number: StoreNumber::new(1, 0, 0),
            numbers: 0,
            pages_id: None,
            next_key: 0,
            payloads: 0,
            pages: BTreeMap::new(),
            shared: BTreeSet::new(),
            rewriting: None,
        };
        shard.write_header(None, false);
        shard
    }

    /// Writes a record; the state is that after it.
    fn write(&mut self, record: &Record<'_>) {
        self.history.records.push(Stored::of(record));
        self.history.states.push(self.state.clone());
    }

    fn write_header(&mut self, replaces: Option<StoreNumber>, is_arriving: bool) {
        let pages_id = self.pages_id.filter(|pages_id| *pages_id != self.number);
        let header = SessionRecord { replaces, is_arriving, pages_id, ..SessionRecord::new(self.number, "", "c") };
        self.write(&Record::Session(Box::new(header)));
    }

    fn write_message(&mut self, key: u64, payload: &str, is_sent: bool) {
        let publication = Publication::new(TopicName::trusted("t"), payload.as_bytes());
        let mut deliveries = DeliveryBuffer::default();
        deliveries.push(&Delivery {
            session: self.number,
            key: Key::new(key),
            qos: QoS::ExactlyOnce,
            retain: false,
            is_sent,
            ids: StoredIds::from(&[][..]),
            group: self.shared.contains(&key).then_some("$share/g/t"),
        });
        let message = StoredMessage::of_publication(&publication, clock());
        self.write(&Record::Message { message, deliveries: deliveries.deliveries() });
    }

    fn write_sent(&mut self, key: u64) {
        match self.state.sent[&key].clone() {
            Some(payload) => self.write_message(key, &payload, true),
            None => self.write(&Record::Received(self.number, Key::new(key))),
        }
    }

    /// Of all pages that are, or may be, in the archive: what is gone, and is not said to be in flight.
    fn write_gone(&mut self) {
        let keys: Vec<u64> = self.pages.values().flat_map(|page| page.keys.iter().copied()).collect();
        for key in keys {
            if !self.state.waiting.contains_key(&key) && !self.state.sent.contains_key(&key) {
                self.write(&Record::Removed(self.number, Key::new(key)));
            }
        }
    }

    fn chance(&mut self, of: usize) -> bool {
        self.random.below(of) == 0
    }

    fn any(&mut self, keys: Vec<u64>) -> Option<u64> {
        keys.get(self.random.below(keys.len())).copied()
    }

    fn page_of(&self, key: u64) -> Option<&KnownPage> {
        self.pages.values().find(|page| page.keys.contains(&key))
    }

    fn step(&mut self) {
        match self.random.below(24) {
            0..=5 => self.arrive(),
            6..=9 => self.launch(),
            10 => self.renumber(),
            11 => {
                let sent = self.state.sent.iter().filter(|(_, payload)| payload.is_some()).map(|(key, _)| *key);
                if let Some(key) = self.any(sent.collect()) {
                    self.state.sent.insert(key, None);
                    self.write(&Record::Received(self.number, Key::new(key)));
                }
            }
            12 | 13 => {
                if let Some(key) = self.any(self.state.sent.keys().copied().collect()) {
                    self.state.sent.remove(&key);
                    self.write(&Record::Removed(self.number, Key::new(key)));
                }
            }
            14 => self.drop_waiting(),
            15..=19 => self.rewrite(),
            20 | 21 => self.learn(),
            22 => self.delete(),
            _ if self.chance(3) => self.move_on(),
            _ if self.chance(2) => self.restart(),
            _ => {}
        }
    }

    fn arrive(&mut self) {
        let key = self.next_key + self.random.below(2) as u64;
        self.next_key = key + 1;
        self.payloads += 1;
        let payload = self.payloads.to_string();
        let is_sent = self.state.waiting.is_empty() && self.chance(2);
        self.shared.remove(&key);
        if self.chance(8) {
            self.shared.insert(key);
        }
        match is_sent {
            true => drop(self.state.sent.insert(key, Some(payload.clone()))),
            false => drop(self.state.waiting.insert(key, payload.clone())),
        }
        self.write_message(key, &payload, is_sent);
    }

    /// The first one that waits is sent: in full if it is in a page.
    fn launch(&mut self) {
        let Some((key, payload)) = self.state.waiting.pop_first() else { return };
        self.state.sent.insert(key, Some(payload.clone()));
        match self.page_of(key) {
            Some(_) => self.write_message(key, &payload, true),
            None => self.write(&Record::Launched(self.number, Key::new(key))),
        }
    }

    /// One is sent past others, or under another key.
    fn renumber(&mut self) {
        let Some(before) = self.any(self.state.waiting.keys().copied().collect()) else { return };
        let now = if self.chance(2) { before } else { self.next_key };
        self.next_key = self.next_key.max(now + 1);
        let payload = self.state.waiting.remove(&before).expect("it waits");
        if self.page_of(before).is_some() {
            self.state.sent.insert(before, Some(payload.clone()));
            self.write_message(before, &payload, true);
            self.state.sent.remove(&before);
        }
        self.state.sent.insert(now, Some(payload));
        if self.shared.remove(&before) {
            self.shared.insert(now);
        }
        self.write(&Record::Renumbered { session: self.number, before: Key::new(before), now: Key::new(now) });
    }

    /// One that waits is dropped, or goes on to another session.
    fn drop_waiting(&mut self) {
        let Some(key) = self.any(self.state.waiting.keys().copied().collect()) else { return };
        self.state.waiting.remove(&key);
        let (session, key) = (self.number, Key::new(key));
        match self.chance(2) {
            true => self.write(&Record::PassedOn { session, key, decision: DecisionNumber::new(1, 0) }),
            false => self.write(&Record::Removed(session, key)),
        }
    }

    /// Begins with a round, or goes on with it.
    fn rewrite(&mut self) {
        let Some(mut rewriting) = self.rewriting.take() else {
            let begin = self.history.records.len();
            self.rewriting = Some(Rewriting { begin, left: None, recorded: BTreeSet::new() });
            return;
        };
        if rewriting.left.is_none() {
            self.write_header(None, false);
            self.write_gone();
            let waiting = self.state.waiting.keys().copied();
            rewriting.left = Some(waiting.filter(|key| self.page_of(*key).is_none()).collect());
        }
        let sent: Vec<u64> = self.state.sent.keys().copied().collect();
        for key in sent {
            if rewriting.recorded.insert(key) {
                self.write_sent(key);
            }
        }
        let left = rewriting.left.as_mut().expect("it was begun");
        if left.is_empty() {
            let (begin, end, batches) = (rewriting.begin, self.history.records.len(), self.history.batches.len());
            self.history.rounds.push(Round { begin, end, batches });
            return;
        }
        let mut portion: Vec<u64> = left.drain(..left.len().min(4)).collect();
        portion.retain(|key| self.state.waiting.contains_key(key));
        let (shared, paged): (Vec<u64>, _) = portion.into_iter().partition(|key| self.shared.contains(key));
        for key in shared {
            let payload = self.state.waiting[&key].clone();
            self.write_message(key, &payload, false);
        }
        self.page_out(&paged);
        self.rewriting = Some(rewriting);
    }

    fn page_out(&mut self, keys: &[u64]) {
        let Some(first) = keys.first() else { return };
        let pages_id = *self.pages_id.get_or_insert(self.number);
        let mut builder = PageBuilder::new(pages_id, 1000);
        for key in keys {
            let publication = Publication::new(TopicName::trusted("t"), self.state.waiting[key].as_bytes());
            let (message, key, ids) = (publication.keep(), Key::new(*key), SubscriptionIds::new());
            let message = OutgoingMessage { message, qos: QoS::ExactlyOnce, retain: false, key, ids, group: None };
            assert!(builder.push(&message, clock()), "four small ones");
        }
        let page = KnownPage { keys: keys.to_vec(), is_under_way: true, is_being_deleted: false };
        self.pages.insert(*first, page);
        self.give((pages_id, *first), builder.finish());
    }

    fn give(&mut self, page: (StoreNumber, u64), put: Option<NewPage>) {
        self.history.batches.push(Batch { page, put, given: self.history.records.len(), known: usize::MAX });
    }

    /// The next batch is said to be persisted.
    fn learn(&mut self) {
        let records = self.history.records.len();
        let Some(batch) = self.history.batches.iter_mut().find(|batch| batch.known == usize::MAX) else { return };
        batch.known = records;
        match batch.put {
            None => drop(self.pages.remove(&batch.page.1)),
            Some(_) => self.pages.get_mut(&batch.page.1).expect("it is known").is_under_way = false,
        }
    }

    /// Pages of which nothing is left are deleted.
    fn delete(&mut self) {
        let waiting = &self.state.waiting;
        let is_empty = |page: &KnownPage| page.keys.iter().all(|key| !waiting.contains_key(key));
        let mut empty = Vec::new();
        for (first, page) in self.pages.iter_mut().filter(|(_, page)| !page.is_being_deleted && is_empty(page)) {
            page.is_being_deleted = true;
            empty.push(*first);
        }
        let pages_id = self.pages_id.unwrap_or(self.number);
        empty.into_iter().for_each(|first| self.give((pages_id, first), None));
    }

    /// The session goes to another shard, and gets another number there.
    fn move_on(&mut self) {
        let old = self.number;
        self.rewriting = None;
        self.numbers += 1;
        self.number = StoreNumber::new(1, (self.numbers % 3) as u8, self.numbers);
        self.write_header(Some(old), true);
        self.write_gone();
        let sent: Vec<u64> = self.state.sent.keys().copied().collect();
        sent.into_iter().for_each(|key| self.write_sent(key));
        let in_memory = |key: &&u64| self.page_of(**key).is_none_or(|page| page.is_under_way);
        let waiting: Vec<u64> = self.state.waiting.keys().filter(in_memory).copied().collect();
        for key in waiting {
            let payload = self.state.waiting[&key].clone();
            self.write_message(key, &payload, false);
        }
        self.write_header(Some(old), false);
        // What is written of the old number after that does not count.
        if self.chance(2)
            && let Some(key) = self.any(self.state.waiting.keys().copied().collect())
        {
            self.write(&Record::Removed(old, Key::new(key)));
        }
        if self.chance(2) {
            self.write(&Record::Ended(old));
        }
    }

    /// A crash; the broker starts again and goes on with what is left.
    fn restart(&mut self) {
        let crash = self.history.crash(&mut self.random, false);
        let mut contents = self.history.check(crash);
        let displaced = contents.displaced().to_vec();
        let session = contents.sessions().next().expect("it has not ended");
        let history = &mut self.history;
        history.records.truncate(crash.cut);
        history.states.truncate(crash.cut + 1);
        history.batches.truncate(crash.persisted);
        history.batches.iter_mut().for_each(|batch| batch.known = 0);
        // What was to be persisted for them, and is not, will never be.
        let is_done = |round: &Round| round.end <= crash.cut && round.batches <= crash.persisted;
        history.rounds.retain(|round| is_done(round) && round.begin >= crash.start);
        (history.floor, history.lasting) = (crash.start, crash.cut);
        self.state = history.states[crash.cut].clone();
        (self.number, self.next_key, self.rewriting) = (session.number, session.next_key, None);
        let has_pages = !session.pages.is_empty() || !session.gone_pages.is_empty();
        self.pages_id = session.other_pages_id.or(has_pages.then_some(session.number));
        let pages = session.pages.iter().map(|page| &page.keys).chain(&session.gone_pages);
        let known = |keys: Vec<u64>| KnownPage { keys, is_under_way: false, is_being_deleted: false };
        let known = pages.map(|keys| (keys.first().get(), known(keys.iter().map(Key::get).collect())));
        self.pages = known.collect();
        displaced.into_iter().for_each(|number| self.write(&Record::Ended(number)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn after_any_crash_each_message_is_there_once(seed: u64, steps in 0..400_usize) {
        let mut shard = Shard::new(seed);
        (0..steps).for_each(|_| shard.step());
        let Shard { history, random, .. } = &mut shard;
        for _ in 0..12 {
            history.check(history.crash(random, true));
        }
        let (number, records) = (shard.number, shard.history.records.len());
        shard.state = State { has_ended: true, ..State::default() };
        shard.write(&Record::Ended(number));
        let Shard { history, random, .. } = &mut shard;
        let crash = history.crash(random, true);
        history.check(Crash { start: crash.start, cut: records + 1, persisted: history.batches.len() });
    }
}
