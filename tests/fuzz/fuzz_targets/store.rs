//! The store of several shards, written by some boots and then damaged, journals and pages: reading ends, at once and in turn come to the same, and a
//! shard that goes on with what was read writes what is read again. With checksums that are right nevertheless it does not fall over, either.
//!
//! `tests/fuzz/run store`

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use moormq::archive::{Archive, ArchiveKey, Batch, Desk, MemoryArchive};
use moormq::codec::{PacketId, QoS, SubscriptionOptions};
use moormq::config::Config;
use moormq::hooks::NoHooks;
use moormq::journal::{Class, Identity, Journal, Recovered, Settings, StoreId, Sync};
use moormq::message::Publication;
use moormq::numbers::{Decision, DecisionNumber, StoreNumber};
use moormq::persistence::{Durability, Paging, PersistenceSetup};
use moormq::records::{
    Contents, Counts, Delivery, DeliveryBuffer, Image, NewPage, Offline, PageBuilder, Record, SessionRecord, Share,
    StoredIds, StoredMessage, StoredSession, WallClock, WallTime,
};
use moormq::session::{Key, OutgoingMessage, Subscription, SubscriptionIds};
use moormq::shard::{Input, Output, Setup, Shard, TurnLimits};
use moormq::sharding::{Quotas, hasher};
use moormq::storage::archive::{find_pages, mend_pages};
use moormq::time::Time;
use moormq::topic::TopicName;
use moormq_fuzz::choices::Choices;
use moormq_fuzz::files::Files;

const SEED: u64 = 7;
const WALL: WallClock = WallClock::new(Time::from_millis(1000), WallTime::from_millis(1_700_000_000_000));
const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const FILTERS: [&str; 4] = ["a", "#", "a/+", "$share/g/a"];
const MOST_SHARDS: usize = 3;
/// From this choice on there are no more records, but damage.
const END: u8 = 250;

struct Store {
    /// By shard.
    journals: Vec<Files>,
    archive: MemoryArchive,
    boot: u32,
}

fn settings(shard: usize) -> Settings {
    Settings {
        segment_bytes: 64 << 10,
        frame_bytes: 16 << 10,
        buffer_bytes: 32 << 10,
        segments: 3,
        most_segments: 64,
        commit_interval: Duration::ZERO,
        sync: Sync::Never,
        ..Settings::new(StoreId([7; 16]), shard as u32)
    }
}

/// Those of a shard that goes on, which wants room for all that a packet may lead to.
fn larger_settings() -> Settings {
    Settings { segment_bytes: 1 << 20, frame_bytes: 512 << 10, buffer_bytes: 1 << 20, ..settings(0) }
}

fn identity(shard: usize) -> Identity {
    settings(shard).identity
}

fn number(choices: &mut Choices<'_>) -> StoreNumber {
    StoreNumber::new(1 + choices.below(2) as u32, choices.below(MOST_SHARDS) as u8, choices.below(3) as u32)
}

fn key(choices: &mut Choices<'_>) -> Key {
    Key::new(choices.below(32) as u64)
}

fn decision(choices: &mut Choices<'_>) -> DecisionNumber {
    DecisionNumber::new(1 + choices.below(4) as u64, choices.below(MOST_SHARDS) as u8)
}

fn session_record(choices: &mut Choices<'_>) -> SessionRecord<'static> {
    let record = SessionRecord::new(number(choices), choices.one(&["", "m"]), choices.one(&NAMES));
    let offline =
        Offline { since: WallTime::default(), expires: WallTime::NEVER, will_due: WallTime::NEVER, has_will: false };
    let other = number(choices);
    let flags = choices.byte();
    SessionRecord {
        session_number: choices.byte().into(),
        offline: (flags & 1 != 0).then_some(offline),
        replaces: (flags & 2 != 0).then_some(other),
        is_arriving: flags & 4 != 0,
        pages_id: (flags & 8 != 0).then_some(other),
        ..record
    }
}

fn message<'a>(choices: &mut Choices<'a>) -> StoredMessage<'a> {
    let topic = TopicName::trusted(choices.one(&NAMES));
    StoredMessage::of_publication(&Publication::new(topic, choices.bytes()), WALL)
}

fn delivery<'a>(choices: &mut Choices<'_>) -> Delivery<'a> {
    let flags = choices.byte();
    Delivery {
        session: number(choices),
        key: key(choices),
        qos: if flags & 1 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
        retain: false,
        is_sent: flags & 2 != 0,
        ids: StoredIds::from(&[][..]),
        group: (flags & 4 != 0).then_some(FILTERS[3]),
    }
}

/// A record of any kind.
fn record<'a, 'c: 'a>(choices: &mut Choices<'c>, to: &'a mut DeliveryBuffer) -> Record<'a> {
    match choices.below(20) {
        0 => Record::Ended(number(choices)),
        1 => Record::Removed(number(choices), key(choices)),
        2 => Record::Received(number(choices), key(choices)),
        3 => Record::Launched(number(choices), key(choices)),
        4 => Record::Renumbered { session: number(choices), before: key(choices), now: key(choices) },
        5 => Record::PassedOn { session: number(choices), key: key(choices), decision: decision(choices) },
        6 => Record::WillGone(number(choices), decision(choices)),
        7 | 8 => {
            let (qos, id) = (choices.one(&[QoS::AtLeastOnce, QoS::ExactlyOnce]), choices.byte().into());
            let subscription = Subscription { options: SubscriptionOptions::new(qos), id };
            Record::Subscribed { session: number(choices), filter: choices.one(&FILTERS), subscription }
        }
        9 => Record::Unsubscribed { session: number(choices), filter: choices.one(&FILTERS) },
        10 => {
            let id = PacketId::new(1 + u16::from(choices.byte())).expect("not zero");
            Record::Incoming { session: number(choices), id, decision: choices.flag().then(|| decision(choices)) }
        }
        11 => Record::HookState(number(choices), choices.bytes()),
        12 => Record::Cleared { mountpoint: "", topic: TopicName::trusted(choices.one(&NAMES)) },
        13 | 14 => Record::Retained { mountpoint: "", message: message(choices) },
        15 | 16 => Record::Session(Box::new(session_record(choices))),
        _ => {
            (0..1 + choices.below(3)).for_each(|_| to.push(&delivery(choices)));
            let mut message = message(choices);
            message.decision = choices.flag().then(|| Decision { session: number(choices), number: decision(choices) });
            Record::Message { message, deliveries: to.deliveries() }
        }
    }
}

impl Store {
    /// Some boots write what `choices` say, until these say that it is enough.
    fn written(choices: &mut Choices<'_>) -> Store {
        let journals = (0..MOST_SHARDS).map(|_| Files::default()).collect();
        let mut store = Store { journals, archive: MemoryArchive::new(), boot: 0 };
        let mut now = Duration::ZERO;
        let mut open = store.next_boot();
        while let Some(choice) = choices.next().filter(|choice| *choice < END) {
            match choice % 16 {
                0 => open = store.next_boot(),
                1 => store.put_page(choices),
                _ => {
                    let shard = usize::from(choice) % MOST_SHARDS;
                    let (mut to, mut front) = (DeliveryBuffer::default(), Vec::new());
                    let record = record(choices, &mut to);
                    let encoded = record.encode(&mut front);
                    // In full journals nothing more is written.
                    let _ = open[shard].append(Class::Relief, encoded.kind, encoded.parts());
                    if choice % 4 == 0 {
                        store.journals[shard].work(&mut open[shard], &mut now);
                    }
                }
            }
        }
        store.journals.iter_mut().zip(&mut open).for_each(|(files, journal)| files.work(journal, &mut now));
        store
    }

    fn next_boot(&mut self) -> Vec<Journal> {
        self.boot += 1;
        let journals = self.journals.iter_mut().enumerate();
        journals
            .map(|(shard, files)| {
                let (recovered, _) = files.reader(identity(shard)).finish();
                let settings = settings(shard).check().expect("they hold");
                let mut journal = Journal::new(settings, recovered, self.boot.into()).expect("there are numbers");
                let mut now = Duration::ZERO;
                files.work(&mut journal, &mut now);
                journal
            })
            .collect()
    }

    fn put_page(&mut self, choices: &mut Choices<'_>) {
        let id = number(choices);
        let mut page = PageBuilder::new(id, 4096);
        let mut key = key(choices).get();
        for _ in 0..1 + choices.below(8) {
            let message = message(choices).publication(WALL).keep();
            let (qos, ids) = (QoS::AtLeastOnce, SubscriptionIds::new());
            page.push(&OutgoingMessage { message, qos, retain: false, key: Key::new(key), ids, group: None }, WALL);
            key += 1 + choices.below(3) as u64;
        }
        let NewPage { stored, value, summary } = page.finish().expect("it has a message");
        let mut batch = Batch::new();
        batch.put_page(id, stored.keys.first(), summary, value);
        self.archive.apply(batch.changes()).expect("it is in memory");
    }

    /// The rest of the choices is what happens to it on the disk.
    fn damage(&mut self, choices: &mut Choices<'_>) {
        while !choices.0.is_empty() {
            match choices.below(8) {
                0 => {
                    let (id, first, is_page) = (number(choices), key(choices), choices.flag());
                    let key = if is_page { ArchiveKey::Page(id, first) } else { ArchiveKey::Summary(id, first) };
                    let value = self.archive.read(key).expect("it is in memory");
                    let mut value = value.map_or_else(|| vec![0; 4], Vec::from);
                    choices.damage(&mut value);
                    if choices.flag() && value.len() >= 4 {
                        let place = [id.get().to_le_bytes(), first.get().to_le_bytes()].concat();
                        let checksum = crc32c::crc32c_append(crc32c::crc32c(&place), &value[4..]);
                        value[..4].copy_from_slice(&checksum.to_le_bytes());
                    }
                    let mut batch = Batch::new();
                    batch.put(key, value);
                    self.archive.apply(batch.changes()).expect("it is in memory");
                }
                1 => self.archive.damage(ArchiveKey::Page(number(choices), key(choices))),
                choice => self.journals[choice % MOST_SHARDS].damage(choices),
            }
        }
    }

    /// Nothing but the pages of the archive, which is mended.
    fn pages(&mut self) -> Image {
        let mut image = Image::new(WALL, hasher(SEED));
        let damaged = find_pages(&mut self.archive, WALL, |id, page| image.page(id, page)).expect("it is in memory");
        mend_pages(&mut self.archive, &damaged).expect("it is in memory");
        image
    }

    /// What is in it, if it can be read at once for so many shards.
    fn read_at_once(&mut self, shards: usize, first: u32) -> Option<Contents> {
        let mut image = self.pages();
        let parts = self.journals.iter().enumerate().map(|(shard, files)| {
            let mut part = image.part(shard as u32, shards, SEED);
            part.read(&mut files.reader(identity(shard)), first);
            part
        });
        let parts = parts.collect();
        image.put_together(parts, |_, error| drop(error.to_string())).then(|| image.finish())
    }

    /// What is in it, and what its first journal goes on from.
    fn read_in_turn(&mut self, first: u32) -> (Contents, Recovered) {
        let mut image = self.pages();
        let mut readers: Vec<_> =
            self.journals.iter().enumerate().map(|(shard, files)| files.reader(identity(shard))).collect();
        image.read(&mut readers.iter_mut().collect::<Vec<_>>(), first, |_, error| drop(error.to_string()));
        (image.finish(), readers.swap_remove(0).finish().0)
    }

    /// Goes on from there with one shard, which has what it wants on disk; and from when on that counts.
    fn go_on(&mut self, mut contents: Contents, recovered: Recovered, first: u32) -> Option<u32> {
        self.boot += 1;
        let settings = larger_settings().check().expect("they hold");
        let journal = Journal::new(settings, recovered, self.boot.into()).ok()?;
        let renews = self.journals.iter().skip(1).any(|files| !files.0.is_empty()) || !contents.are_at_home(1, SEED);
        let Share { sessions, beginning } = contents.shares(1, SEED, renews).swap_remove(0);
        let config = Config { allow_anonymous: true, ..Config::default() };
        let turn = TurnLimits { share: 40, turn: 100, at_once: 2, portion: 2, under_way: 8 };
        let quotas = Quotas::new(&config, 1);
        let setup = Setup { id: 0, shards: 1, seed: SEED, turn, version: "fuzzed", config: Arc::new(config), quotas };
        let mut shard = Shard::new(setup, NoHooks, Time::ZERO);
        sessions.into_iter().for_each(|stored| shard.restore(stored, WALL));
        contents.into_retained().for_each(|(mountpoint, message)| shard.restore_retained(&mountpoint, &message));
        shard.persist(PersistenceSetup {
            journal,
            paging: Some(Paging { least: 64, ..Paging::default() }),
            boot: self.boot,
            sync: Sync::Never,
            durability: Durability::Flushed,
            clock: Box::new(|| Duration::from_millis(1000)),
            wall: WALL,
            beginning,
        });
        self.settle(&mut shard);
        assert!(shard.is_restored(), "there is room for all that was there");
        Some(if renews { self.boot } else { first })
    }

    fn settle(&mut self, shard: &mut Shard<NoHooks>) {
        let now = Time::from_millis(1000);
        let mut desk = Desk::new(std::mem::take(&mut self.archive), 1);
        loop {
            let mut is_quiet = true;
            while let Some(output) = shard.next_output() {
                is_quiet = false;
                match output {
                    Output::Journal(effect) => {
                        if let Some(answer) = self.journals[0].carry_out(effect) {
                            shard.handle(Input::Journal(answer), now);
                        }
                    }
                    Output::Archive(order) => desk.take(order),
                    _ => {}
                }
            }
            let mut answers = Vec::new();
            is_quiet &= !desk.step(&mut |_, answer| answers.push(answer));
            answers.into_iter().for_each(|answer| shard.handle(Input::Archive(answer), now));
            if is_quiet && !shard.is_behind() {
                break;
            }
            shard.handle(Input::Tick, now);
        }
        self.archive = std::mem::take(desk.archive());
    }
}

/// A session, but for its numbers.
fn seen(session: &StoredSession) -> String {
    let client = &session.client.subscriber;
    let in_pages = session.waiting_in_pages().0;
    let messages: Vec<_> =
        session.messages().iter().map(|(key, message)| (key, message.qos, session.stage(key))).collect();
    let mut filters: Vec<_> = session.subscriptions.all().entries.into_iter().map(|one| format!("{one:?}")).collect();
    filters.sort_unstable();
    let incoming: Vec<_> = session.inbound.ids().collect();
    format!("{client} {filters:?} {incoming:?} {:?} {} {messages:?}", session.offline, messages.len() + in_pages)
}

/// All of it.
fn whole(contents: &Contents) -> Vec<String> {
    let sessions = contents.left().iter().map(|session| {
        let (header, pages) = (session.header(WALL), (&session.pages, &session.gone_pages));
        let keys = (session.launched_below, session.next_key, session.bytes());
        format!("{} {header:?} {pages:?} {keys:?}", seen(session))
    });
    let retained = contents.retained().map(|(mountpoint, message)| format!("{mountpoint} {:?}", message.publication()));
    // A number that another journal has replaced is known or not, as journals are read: what is passed over is no content.
    let counts = Counts { passed_over: 0, ..contents.counts() };
    let others = (counts, contents.displaced(), contents.undecided(), contents.orphans());
    sessions.chain(retained).chain([format!("{others:?} {:?}", contents.last_decision())]).collect()
}

/// What has to be there still when it was written anew: each client with its subscriptions, and how many messages it has; and what is retained.
fn lasting(contents: &Contents) -> (Vec<String>, usize) {
    let client = |session: &Box<StoredSession>| {
        let messages = session.messages().len() + session.waiting_in_pages().0;
        let filters = session.subscriptions.len();
        format!("{} {filters} {messages} {}", session.client.subscriber, session.inbound.len())
    };
    let mut clients: Vec<_> = contents.left().iter().map(client).collect();
    clients.sort_unstable();
    (clients, contents.counts().retained)
}

// Two bytes say for how many shards it is read, from which boot on, and whether checksums are made right; then come the records, and the damage.
fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    let (shards, is_forged) = (1 + choices.below(MOST_SHARDS), choices.flag());
    let mut store = Store::written(&mut choices);
    let first = choices.below(store.boot as usize + 1) as u32;
    store.damage(&mut choices);
    if is_forged {
        store.journals.iter_mut().enumerate().for_each(|(shard, files)| files.forge_checksums(identity(shard)));
    }
    let at_once = store.read_at_once(shards, first);
    let (in_turn, recovered) = store.read_in_turn(first);
    if let Some(at_once) = at_once {
        assert_eq!(whole(&at_once), whole(&in_turn), "at once, and in turn");
        assert_eq!(at_once.are_at_home(shards, SEED), in_turn.are_at_home(shards, SEED));
    }
    let before = lasting(&in_turn);
    if let Some(first) = store.go_on(in_turn, recovered, first) {
        if first == store.boot {
            store.journals.truncate(1);
        }
        assert_eq!(lasting(&store.read_in_turn(first).0), before, "it was written, and is read again");
    }
});
