//! Reading the journals of a store at the same time, each by itself.

use std::collections::HashMap;
use std::collections::btree_map::Entry;

use super::home::Home;
use super::image::Image;
use super::record::{BadRecord, Record};
use crate::journal::{ReadAt, Reader};

/// What one of the journals of a store says, read by itself, and perhaps on a thread of its own.
pub struct Part {
    image: Image,
    bad: Vec<BadRecord>,
}

impl Part {
    /// Whether its journal may be read by itself, as far as it was.
    pub fn is_apart(&self) -> bool {
        !self.image.is_scattered
    }

    /// Takes in what its journal has that was written by the boot `first` or later. Ends early if it has something that belongs into another one.
    pub fn read<F: ReadAt>(&mut self, journal: &mut Reader<F>, first: u32) {
        while let Some(boot) = journal.opened()
            && self.is_apart()
            && let Some(record) = journal.next()
        {
            match Record::decode(record.kind, record.body) {
                Ok(decoded) if boot >= u64::from(first) => self.image.apply(&decoded),
                Ok(_) => {}
                Err(error) => self.bad.push(error),
            }
        }
    }
}

impl Image {
    /// Nothing yet of what the journal of a shard says, of so many shards with this seed of hashes. All pages are known.
    pub fn part(&self, journal: u32, shards: usize, seed: u64) -> Part {
        Part { image: self.part_of(Home::new(journal, shards, seed)), bad: Vec::new() }
    }

    /// Takes in what the parts say, which are those of shards 0, 1 and so on, and have been read. `is_bad` is told the records that could not be, by shard.
    ///
    /// False if that may not be the same as if all journals [had been read in turn](Image::read): one has something that belongs into another, since there were
    /// more or fewer shards before, or slots have moved; or two have the same number. Then nothing was taken in, and they are to be read in turn.
    pub fn put_together(&mut self, mut parts: Vec<Part>, mut is_bad: impl FnMut(usize, BadRecord)) -> bool {
        let names_others = |part: &Part| {
            let mut others = parts.iter().filter(|other| !std::ptr::eq(*other, part));
            others.any(|other| part.image.strangers.iter().any(|number| other.image.sessions.contains_key(number)))
        };
        if parts.iter().any(|part| !part.is_apart() || names_others(part)) {
            return false;
        }
        let count = parts.iter().map(|part| part.image.sessions.len()).sum();
        let mut sessions = HashMap::with_capacity_and_hasher(count, self.sessions.hasher().clone());
        parts.iter_mut().for_each(|part| sessions.extend(part.image.sessions.drain()));
        if sessions.len() < count {
            return false;
        }
        self.sessions = sessions;
        for (shard, part) in parts.into_iter().enumerate() {
            part.bad.into_iter().for_each(|error| is_bad(shard, error));
            self.take_in(part.image);
        }
        // What replaced a session may have been in another journal than that.
        let Image { sessions, replaced, displaced, .. } = self;
        displaced.extend(replaced.keys().filter(|number| sessions.remove(number).is_some()));
        true
    }

    /// All but its sessions.
    fn take_in(&mut self, part: Image) {
        self.replaced.extend(part.replaced);
        self.displaced.extend(part.displaced);
        self.last_decision = self.last_decision.max(part.last_decision);
        self.records += part.records;
        self.passed_over += part.passed_over;
        for (mountpoint, messages) in part.retained {
            match self.retained.entry(mountpoint) {
                Entry::Vacant(vacant) => drop(vacant.insert(messages)),
                Entry::Occupied(mut known) => {
                    messages.into_values().for_each(|message| drop(known.get_mut().insert(message)))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SubscriberId;
    use crate::numbers::StoreNumber;
    use crate::records::{SessionRecord, StoredMessage, WallClock, WallTime};
    use crate::session::Key;
    use crate::sharding::hasher;
    use crate::time::Time;
    use crate::topic::TopicName;

    const SEED: u64 = 7;
    const SHARDS: usize = 2;

    fn image() -> Image {
        Image::new(WallClock::new(Time::ZERO, WallTime::default()), hasher(SEED))
    }

    /// What is read of the journals of two shards: apart, if that may be; and in turn, in both orders.
    struct Read {
        apart: Option<Whole>,
        in_turn: [Whole; 2],
    }

    #[derive(Debug, PartialEq)]
    struct Whole {
        sessions: Vec<(StoreNumber, u64)>,
        displaced: Vec<StoreNumber>,
        retained: Vec<(String, String)>,
        records: u64,
    }

    fn whole(image: Image) -> Whole {
        let mut contents = image.finish();
        let topic = |message: &crate::message::Message| String::from_utf8_lossy(message.topic_bytes()).into_owned();
        Whole {
            displaced: contents.displaced().to_vec(),
            retained: contents
                .retained()
                .map(|(mountpoint, message)| (mountpoint.to_owned(), topic(message)))
                .collect(),
            records: contents.counts().records,
            sessions: contents.sessions().map(|session| (session.number, session.next_key)).collect(),
        }
    }

    fn read(journals: [&[Record<'_>]; SHARDS]) -> Read {
        let mut apart = image();
        let parts = journals.iter().zip(0..).map(|(records, journal)| {
            let mut part = apart.part(journal, SHARDS, SEED);
            records.iter().for_each(|record| part.image.apply(record));
            part
        });
        let parts = parts.collect();
        let is_whole = apart.put_together(parts, |_, error| panic!("{error}"));
        let in_turn = [[0, 1], [1, 0]].map(|order| {
            let mut image = image();
            for journal in order {
                image.read_journal(journal);
                journals[journal as usize].iter().for_each(|record| image.apply(record));
            }
            whole(image)
        });
        let nothing = || Whole { sessions: Vec::new(), displaced: Vec::new(), retained: Vec::new(), records: 0 };
        let apart = whole(apart);
        assert!(is_whole || apart == nothing(), "nothing is taken in");
        Read { apart: is_whole.then_some(apart), in_turn }
    }

    /// The first of these names that belongs into a journal.
    fn client(journal: u32, names: &[&'static str]) -> &'static str {
        let home = Home::new(journal, SHARDS, SEED);
        names.iter().find(|name| home.has_session(&SubscriberId::new("", **name))).expect("one of some is")
    }

    fn topic(journal: u32, names: &[&'static str]) -> &'static str {
        let home = Home::new(journal, SHARDS, SEED);
        names.iter().find(|name| home.has_topic("", name)).expect("one of some is")
    }

    fn session(number: StoreNumber, client: &str) -> Record<'_> {
        Record::Session(Box::new(SessionRecord::new(number, "", client)))
    }

    fn retained(topic: &str) -> Record<'_> {
        let publication = crate::message::Publication::new(TopicName::trusted(topic), b"payload");
        let message = StoredMessage::of_publication(&publication, WallClock::new(Time::ZERO, WallTime::default()));
        Record::Retained { mountpoint: "", message }
    }

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
    const MORE: [&str; 8] = ["i", "j", "k", "l", "m", "n", "o", "p"];

    #[test]
    fn journals_that_have_what_belongs_to_them_may_be_read_at_once() {
        let (one, two) = (StoreNumber::new(1, 0, 1), StoreNumber::new(1, 1, 1));
        let (gone, next) = (StoreNumber::new(1, 0, 2), StoreNumber::new(2, 0, 3));
        let header = SessionRecord { replaces: Some(gone), ..SessionRecord::new(next, "", client(0, &MORE)) };
        let first = [
            session(one, client(0, &NAMES)),
            Record::Removed(one, Key::new(6)),
            retained(topic(0, &NAMES)),
            session(gone, client(0, &MORE)),
            Record::Session(Box::new(header)),
            Record::Ended(StoreNumber::new(1, 0, 9)),
        ];
        let cleared = Record::Cleared { mountpoint: "", topic: TopicName::trusted(topic(1, &MORE)) };
        let second = [
            session(two, client(1, &NAMES)),
            retained(topic(1, &NAMES)),
            retained(topic(1, &MORE)),
            cleared,
            Record::Removed(StoreNumber::new(1, 1, 9), Key::new(1)),
        ];
        let Read { apart, in_turn } = read([&first, &second]);
        let apart = apart.expect("nothing is elsewhere");
        assert_eq!(apart.sessions, [(one, 7), (two, 0), (next, 0)]);
        assert_eq!((apart.displaced.len(), apart.retained.len(), apart.records), (1, 2, 11));
        assert!(in_turn.iter().all(|other| *other == apart));
    }

    /// Its header may be read before that of the number it has replaced, or behind it.
    #[test]
    fn what_replaced_a_session_may_be_in_another_journal() {
        let (before, now) = (StoreNumber::new(1, 1, 1), StoreNumber::new(1, 0, 1));
        let header = SessionRecord { replaces: Some(before), ..SessionRecord::new(now, "", client(0, &NAMES)) };
        let second = [session(before, client(1, &NAMES)), Record::Removed(before, Key::new(1))];
        let Read { apart, in_turn } = read([&[Record::Session(Box::new(header))], &second]);
        let apart = apart.expect("nothing is elsewhere");
        assert_eq!((&*apart.sessions, &*apart.displaced), (&[(now, 0)][..], &[before][..]));
        assert!(in_turn.iter().all(|other| *other == apart));
    }

    #[test]
    fn what_is_in_another_journal_than_it_belongs_into_has_them_read_in_turn() {
        let (one, two) = (StoreNumber::new(1, 0, 1), StoreNumber::new(1, 1, 1));
        let home = session(one, client(0, &NAMES));
        let only_home = std::slice::from_ref(&home);
        let is_apart = |first: &[Record<'_>], second: &[Record<'_>]| read([first, second]).apart.is_some();
        assert!(is_apart(only_home, &[]));
        assert!(!is_apart(&[home.clone(), session(two, client(1, &NAMES))], &[]));
        assert!(!is_apart(&[home.clone(), retained(topic(1, &NAMES))], &[]));
        let cleared = Record::Cleared { mountpoint: "", topic: TopicName::trusted(topic(0, &NAMES)) };
        assert!(!is_apart(only_home, &[cleared]));
        // Nobody gives a number twice, but nobody believes what is on a disk.
        assert!(!is_apart(only_home, &[session(one, client(1, &NAMES))]));
        // The number is known in one journal, and the other one says something of it.
        assert!(!is_apart(only_home, &[Record::Ended(one)]));
        assert!(!is_apart(only_home, &[Record::Removed(one, Key::new(3))]));
        assert!(is_apart(&[home.clone(), Record::Ended(one)], &[Record::Removed(one, Key::new(3))]));
    }
}
