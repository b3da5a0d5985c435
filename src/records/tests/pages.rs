//! Pages and their summaries are read as they were made, and nothing else is.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::codec::QoS;
use crate::message::Publication;
use crate::numbers::StoreNumber;
use crate::random::Random;
use crate::records::page::seal;
use crate::records::{BadPage, NewPage, PageBuilder, WallClock, WallTime, read_page, read_summary, summary};
use crate::session::{Key, OutgoingMessage, PageKeys, SubscriptionIds};
use crate::time::Time;
use crate::topic::TopicName;

const PAGES: StoreNumber = StoreNumber::new(3, 1, 70_000);

fn clock() -> WallClock {
    WallClock::new(Time::from_millis(1000), WallTime::from_millis(1_700_000_000_000))
}

fn message(key: u64, payload: &[u8], random: &mut Random) -> OutgoingMessage {
    let mut publication = Publication::new(TopicName::trusted(["t", "a/b/ä"][random.below(2)]), payload);
    publication.properties = [&[][..], &[1, 1]][random.below(2)];
    publication.expires = [Time::NEVER, Time::from_millis(70_000)][random.below(2)];
    (publication.qos, publication.retain) = (QoS::ExactlyOnce, random.below(2) == 0);
    let ids = (0..random.below(4)).fold(SubscriptionIds::new(), |mut ids, id| {
        ids.push(1 + 100 * id as u32);
        ids
    });
    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][random.below(2)];
    let (message, retain) = (publication.keep(), random.below(2) == 0);
    OutgoingMessage { message, qos, retain, key: Key::new(key), ids, group: None }
}

/// Messages with different keys, nearly in order, some of them far apart.
fn messages(random: &mut Random) -> Vec<OutgoingMessage> {
    let (mut keys, mut next) = (Vec::new(), random.u64() >> (17 + random.below(47)));
    for _ in 0..1 + random.below(60) {
        let at = keys.len() - random.below(3).min(keys.len());
        keys.insert(at, next);
        next += 1 + (random.u64() >> (24 + random.below(40)));
        next = next.min((1 << 47) + keys.len() as u64);
    }
    let mut seen = BTreeSet::new();
    keys.retain(|key| seen.insert(*key));
    let make = |key| {
        let length = [random.below(20), random.below(300)][random.below(2)];
        message(key, &vec![7; length], random)
    };
    keys.into_iter().map(make).collect()
}

/// What of a message has to come back: what the session has of it, and what all have.
type What = ((u64, QoS, bool, Vec<u32>), (String, Vec<u8>, Vec<u8>), (QoS, bool, Time));

fn what(message: &OutgoingMessage) -> What {
    let OutgoingMessage { message, qos, retain, key, ids, .. } = message;
    let parts = (message.topic().as_str().to_owned(), message.properties().to_vec(), message.payload().to_vec());
    let of_message = (message.qos(), message.retain(), message.expires());
    ((key.get(), *qos, *retain, ids.to_vec()), parts, of_message)
}

/// Pages of all of these, in order.
fn pages(messages: &[OutgoingMessage], limit: usize) -> Vec<NewPage> {
    let (mut pages, mut builder) = (Vec::new(), PageBuilder::new(PAGES, limit));
    for message in messages {
        if !builder.push(message, clock()) {
            let full = std::mem::replace(&mut builder, PageBuilder::new(PAGES, limit));
            pages.extend(full.finish());
            assert!(builder.push(message, clock()), "a page takes any message alone");
        }
    }
    pages.extend(builder.finish());
    pages
}

fn read(page: &NewPage) -> Result<Vec<OutgoingMessage>, BadPage> {
    read_page(PAGES, page.stored.keys.first(), &page.value, clock())
}

proptest! {
    #[test]
    fn what_is_put_into_pages_is_read_from_them(seed: u64, limit in 1..3000_usize) {
        let messages = messages(&mut Random::from_seed(seed));
        let (mut left, pages) = (&messages[..], pages(&messages, limit));
        for page in &pages {
            let again = read(page).expect("it was written");
            let (own, others) = left.split_at(again.len());
            left = others;
            prop_assert!(page.value.len() <= limit || own.len() == 1);
            prop_assert!(again.iter().map(what).eq(own.iter().map(what)));
            let mut keys: Vec<u64> = own.iter().map(|one| one.key.get()).collect();
            keys.sort_unstable();
            prop_assert_eq!(page.stored.keys.iter().map(Key::get).collect::<Vec<_>>(), keys);
            prop_assert_eq!(page.stored.bytes, own.iter().map(OutgoingMessage::size).sum::<usize>());
            let stored = read_summary(PAGES, page.stored.keys.first(), &page.summary);
            prop_assert_eq!(stored.as_ref(), Ok(&page.stored));
        }
        prop_assert!(left.is_empty());
    }

    /// Whatever is changed: it is told. If the checksum is right nevertheless, it is told, or it is what would be written.
    #[test]
    fn what_is_damaged_is_no_page(seed: u64, changes in prop::collection::vec(any::<(u16, u8, u8)>(), 1..4)) {
        let mut random = Random::from_seed(seed);
        let messages = messages(&mut random);
        let page = &pages(&messages, 3000)[0];
        let first = page.stored.keys.first();
        for value in [&page.value, &page.summary] {
            let mut damaged = value.clone();
            for (place, byte, how) in &changes {
                let place = usize::from(*place) % (if how & 1 == 0 { 40 } else { damaged.len().max(1) });
                match how >> 1 & 3 {
                    0 => damaged.truncate(place),
                    1 if place <= damaged.len() => damaged.insert(place, *byte),
                    _ => damaged.iter_mut().skip(place).take(1).for_each(|old| *old = *byte),
                }
            }
            let is_same = damaged == *value;
            prop_assert!(is_same || read_page(PAGES, first, &damaged, clock()).is_err());
            prop_assert!(is_same || read_summary(PAGES, first, &damaged).is_err());
            seal(PAGES, first, &mut damaged);
            match read_page(PAGES, first, &damaged, clock()) {
                Ok(read) => {
                    let again = pages(&read, 2 * damaged.len());
                    prop_assert_eq!(again.len(), 1);
                    // Times outside of those of the clock are at its ends.
                    let again = read_page(PAGES, first, &again[0].value, clock()).expect("it was written");
                    prop_assert!(again.iter().map(what).eq(read.iter().map(what)));
                }
                Err(BadPage { at, .. }) => prop_assert!(at <= damaged.len()),
            }
            match read_summary(PAGES, first, &damaged) {
                Ok(read) => prop_assert_eq!(summary(PAGES, &read.keys, read.bytes), damaged),
                Err(BadPage { at, .. }) => prop_assert!(at <= damaged.len()),
            }
        }
    }
}

/// Under the number of another session, or as another page of the same one.
#[test]
fn a_page_is_none_at_another_place() {
    let page = &pages(&[message(5, b"payload", &mut Random::from_seed(1))], 1)[0];
    let (here, elsewhere) = (Key::new(5), StoreNumber::new(3, 1, 70_001));
    assert!(read_page(PAGES, here, &page.value, clock()).is_ok());
    for (pages_id, first) in [(elsewhere, here), (PAGES, Key::new(6))] {
        assert_eq!(read_page(pages_id, first, &page.value, clock()).map(|_| ()).map_err(|error| error.at), Err(0));
        assert_eq!(read_summary(pages_id, first, &page.summary).map_err(|error| error.at), Err(0));
        let mut sealed = page.value.clone();
        seal(pages_id, first, &mut sealed);
        assert!(read_page(pages_id, first, &sealed, clock()).is_err(), "what is in it is for another place");
    }
}

/// What no queue would give to a page, and keys that there are not.
#[test]
fn what_makes_no_sense_is_told() {
    let mut random = Random::from_seed(1);
    let [one, other] = [5, 6].map(|key| pages(&[message(key, b"payload", &mut random)], 1).remove(0));
    let read = |value: &[u8]| {
        let mut value = value.to_vec();
        seal(PAGES, Key::new(5), &mut value);
        read_page(PAGES, Key::new(5), &value, clock()).map(|messages| messages.len()).map_err(|error| error.what)
    };
    assert_eq!(read(&[&one.value[..], &other.value[4..]].concat()), Ok(2));
    assert_eq!(read(&[&one.value[..], &one.value[4..]].concat()), Err("two messages have one key"));
    assert_eq!(read(&other.value), Err("its lowest key is another one"));
    assert_eq!(read(&one.value[..4]), Err("its lowest key is another one"), "there is none");
    // A message is: how long it is, flags, lengths of topic and properties, one delivery, its flags, place and key.
    let bodies: [(&[u8], &[u8], &str); 4] = [
        (&[0, 1, 0, 1], &[1 | 1 << 3], "a message does not wait for the session"),
        (&[0, 1, 0, 1], &[0], "a delivery has neither QoS 1 nor 2"),
        (&[0, 1, 0, 0], &[], "a message is for nobody"),
        (&[1 << 4, 0, 1, 2, 3, 7, 1, 0, 1], &[1], "a message depends on a decision"),
    ];
    for (head, flags, what) in bodies {
        let body = [head, flags, &[0x12, 3, 1, 0x70, 0x11, 1, 6], b"t"].concat();
        assert_eq!(read(&[&[0; 4][..], &[body.len() as u8], &body].concat()), Err(what), "{body:?}");
    }
    let summary = |value: &[u8]| {
        let mut value = [&[0; 4][..], value].concat();
        seal(PAGES, Key::new(5), &mut value);
        read_summary(PAGES, Key::new(5), &value).map(|page| page.keys.len()).map_err(|error| error.what)
    };
    assert_eq!(summary(&[9, 1, 1]), Ok(3));
    assert_eq!(summary(&[9, 1, 0]), Err("two messages have one key"));
    assert_eq!(summary(&[]), Err("it ends too early"));
    assert_eq!(summary(&[9, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Err("a key is none"));
    assert_eq!(summary(&[9, 0xFA, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F]), Err("a key is none"), "that of none");
}

/// Printed, and bounded.
#[test]
fn pages_and_summaries_are_small() {
    let publication = Publication::new(TopicName::trusted("a/topic/of/usual/length"), &[0; 128]);
    let message = publication.keep();
    let (mut builder, mut messages) = (PageBuilder::new(PAGES, 32_700), 0);
    let outgoing = |key| OutgoingMessage {
        message: message.clone(),
        qos: QoS::AtLeastOnce,
        retain: false,
        key: Key::new(key),
        ids: SubscriptionIds::new(),
        group: None,
    };
    while builder.push(&outgoing(1_000_000 + 3 * messages), clock()) {
        messages += 1;
    }
    assert_eq!((builder.len() as u64, builder.is_empty()), (messages, false));
    let page = builder.finish().expect("there are messages");
    let each = page.value.len() as u64 / messages - publication.bytes() as u64;
    println!(
        "{messages} messages of {} bytes: {each} more for each, a summary of {}",
        publication.bytes(),
        page.summary.len()
    );
    assert!(each <= 20 && page.summary.len() as u64 <= messages + 10);
    assert!(PageBuilder::new(PAGES, 1).finish().is_none());
    let keys = PageKeys::new(&[Key::new(7)]).expect("one");
    assert_eq!(summary(PAGES, &keys, 1).len(), 5);
}
