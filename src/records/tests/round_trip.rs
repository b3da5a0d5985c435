//! What is encoded is decoded as it was, and takes no more room than it has to.

use proptest::prelude::*;

use super::made_up::{KINDS, Pool};
use super::*;
use crate::codec::{PacketId, QoS};
use crate::message::Publication;
use crate::numbers::DecisionNumber;
use crate::random::Random;
use crate::records::{
    BadRecord, Delivery, DeliveryBuffer, SessionRecord, StoredIds, StoredMessage, WallClock, WallTime,
};
use crate::session::{Key, StoreNumber};
use crate::time::Time;
use crate::topic::TopicName;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn all_records_come_back_as_they_were(seed: u64) {
        let mut random = Random::from_seed(seed);
        let pool = Pool::new(&mut random);
        for kind in 1..=KINDS {
            let record = pool.record(kind, &mut random);
            let stored = Stored::of(&record);
            prop_assert_eq!(stored.kind, kind);
            let read = Record::decode(kind, &stored.body);
            prop_assert_eq!(read.as_ref(), Ok(&record));
            let longer = [&stored.body[..], &[0]].concat();
            let takes_the_rest = matches!(
                record,
                Record::Message { .. } | Record::Retained { .. } | Record::HookState(..)
            );
            prop_assert!(takes_the_rest || Record::decode(kind, &longer).is_err(), "bytes behind it are an error");
        }
    }
}

#[test]
fn a_kind_of_a_later_version_is_told_from_damage() {
    for kind in [0, KINDS + 1, 255] {
        assert_eq!(Record::decode(kind, b"anything"), Err(BadRecord::UnknownKind(kind)));
    }
    for kind in 1..=KINDS {
        assert!(matches!(Record::decode(kind, &[]), Err(BadRecord::Malformed { .. })), "{kind}");
    }
}

/// A later version adds fields; an earlier one did not have all of them.
#[test]
fn fields_that_are_not_known_are_passed_over_and_those_that_are_missing_have_defaults() {
    let number = StoreNumber::new(1, 2, 3);
    let mut record = SessionRecord::new(number, "m", "c");
    (record.listener, record.session_number, record.settings.keep_alive) = ("l", 7, 60);
    let mut stored = Stored::of(&Record::Session(Box::new(record.clone())));
    stored.body.extend([200, 3, 1, 2, 3]);
    assert_eq!(stored.record(), Record::Session(Box::new(record)));
    // The place, mountpoint and client id alone.
    let without: &[u8] = &[0, 1, 2, 3, 1, b'm', 1, b'c'];
    assert_eq!(Record::decode(1, without), Ok(Record::Session(Box::new(SessionRecord::new(number, "m", "c")))));
    // Twice the same, and one before another that comes first.
    for fields in [&[4, 1, b'u', 4, 1, b'u'][..], &[4, 1, b'u', 3, 1, 5]] {
        assert!(Record::decode(1, &[without, fields].concat()).is_err());
    }
}

/// Nothing that a shard would not write.
#[test]
fn what_makes_no_sense_is_refused() {
    let place = [0, 1, 2, 3];
    let bad: &[(u8, &[u8])] = &[
        (4, &[&place[..], &[0, 0], b"a/#/b"].concat()),
        (4, &[&place[..], &[3, 0], b"a"].concat()),
        (4, &[&place[..], &[0, 0xFF, 0xFF, 0xFF, 0xFF, 1], b"a"].concat()),
        (5, &[&place[..], b"\xFF"].concat()),
        (5, &place),
        // A message for nobody, with QoS 3, with a flag, with a topic that has a wildcard, with an expiry among the properties.
        (6, b"\x00\x01\x00\x00t"),
        (6, b"\x03\x01\x00\x01\x01\x10\x01\x02\x03\x01t"),
        (6, b"\x10\x01\x00\x01\x01\x10\x01\x02\x03\x01t"),
        (6, b"\x00\x01\x00\x01\x01\x10\x01\x02\x03\x01+"),
        (6, b"\x00\x01\x05\x01\x01\x10\x01\x02\x03\x01t\x02\x00\x00\x00\x01"),
        // Delivered with QoS 0, without a key, through a group that is none.
        (6, b"\x00\x01\x00\x01\x00\x10\x01\x02\x03\x01t"),
        (6, b"\x00\x01\x00\x01\x01\x00\x01\x02\x03t"),
        (6, b"\x00\x01\x00\x01\x11\x10\x01\x02\x03\x01\x01at"),
        // No key; a key where none belongs.
        (7, &place),
        (13, &[0x10, 1, 2, 3, 1]),
        // A key that is none, packet identifiers that there are not, nothing retained.
        (9, &[0x10, 1, 2, 3, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x3F]),
        (11, &place),
        (11, &[0x30, 1, 2, 3, 0, 0, 1]),
        (14, b"\x00\x01\x00\x00t"),
        (15, b"\x00"),
        // Decisions without numbers.
        (3, &[0, 1, 2, 3, 0]),
        (16, &[0x10, 1, 2, 3, 8, 0]),
        (6, b"\x10\x00\x01\x02\x03\x00\x01\x00\x01\x01\x10\x01\x02\x03\x01t"),
    ];
    for (kind, body) in bad {
        let read = Record::decode(*kind, body);
        assert!(matches!(read, Err(BadRecord::Malformed { .. })), "{kind} {body:x?}: {read:?}");
    }
    let good: &[(u8, &[u8])] = &[
        (6, b"\x00\x01\x00\x01\x01\x10\x01\x02\x03\x01t"),
        (9, &[0x10, 1, 2, 3, 8, 6]),
        (6, b"\x10\x00\x01\x02\x03\x07\x01\x00\x01\x01\x10\x01\x02\x03\x01t"),
        (11, &[0x10, 1, 2, 3, 1, 0]),
        (14, b"\x00\x01\x00\x00tx"),
        (15, b"\x00t"),
    ];
    for (kind, body) in good {
        assert!(Record::decode(*kind, body).is_ok(), "{kind} {body:x?}");
    }
}

/// The payload, and all else that lies in one piece already, is not copied.
#[test]
fn a_payload_is_where_it_was() {
    let payload = vec![7; 100_000];
    let publication = Publication::new(TopicName::trusted("a/b"), &payload);
    let message = StoredMessage::of_publication(&publication, WallClock::new(Time::ZERO, WallTime::default()));
    let (mut deliveries, mut buffer) = (DeliveryBuffer::default(), Vec::new());
    deliveries.push(&delivery(StoreNumber::new(1, 1, 1), 1));
    let record = Record::Message { message, deliveries: deliveries.deliveries() };
    let encoded = record.encode(&mut buffer);
    assert!(encoded.parts().iter().any(|part| std::ptr::eq(*part, &*payload)));
    assert!(buffer.capacity() < 100);
}

fn delivery(session: StoreNumber, key: u64) -> Delivery<'static> {
    let ids = StoredIds::from(&[][..]);
    Delivery { session, key: Key::new(key), qos: QoS::AtLeastOnce, retain: false, is_sent: true, ids, group: None }
}

/// Numbers of seven bits a byte, as in the rest of a record.
fn varint(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(7).clamp(1, 9) as usize
}

/// What frequent records take; printed, and bounded. The place is compared with what else it could be, over numbers of all magnitudes.
#[test]
fn frequent_records_are_small() {
    let size = |record: Record<'_>| Stored::of(&record).body.len();
    let largest = StoreNumber::new(StoreNumber::LAST_BOOT, 255, u32::MAX);
    assert!(size(Record::Removed(largest, Key::new((1 << 48) - 2))) <= 16);
    let usual = StoreNumber::new(40, 3, 100_000);
    let (id, key) = (PacketId::MAX, Key::new(1_000_000));
    let decision = Some(DecisionNumber::new(1_000_000, 3));
    let mut deliveries = DeliveryBuffer::default();
    deliveries.push(&delivery(usual, 1_000_000));
    let publication = Publication::new(TopicName::trusted("a/topic/of/usual/length"), &[0; 128]);
    let message = StoredMessage::of_publication(&publication, WallClock::new(Time::ZERO, WallTime::default()));
    let bytes = publication.bytes();
    for (name, size) in [
        ("removed", size(Record::Removed(usual, key))),
        ("launched", size(Record::Launched(usual, key))),
        ("renumbered", size(Record::Renumbered { session: usual, before: key, now: Key::new(1_000_001) })),
        ("incoming", size(Record::Incoming { session: usual, id, decision })),
        ("passed on", size(Record::PassedOn { session: usual, key, decision: DecisionNumber::new(1_000_000, 3) })),
        ("ended", size(Record::Ended(usual))),
        (
            "message to one, less its bytes",
            size(Record::Message { message, deliveries: deliveries.deliveries() }) - bytes,
        ),
        (
            "session, with nothing to say",
            size(Record::Session(Box::new(SessionRecord::new(usual, "", "client-0123456789")))),
        ),
    ] {
        println!("{name}: {size} bytes");
        assert!(size <= if name.starts_with("session") { 64 } else { 16 }, "{name} has {size} bytes");
    }
    let mut random = Random::from_seed(1);
    let (mut sums, count) = ([0; 4], 100_000);
    for _ in 0..count {
        // Up to a thousand starts, sixteen shards, ten million sessions, a thousand million messages each, all magnitudes alike.
        let [boot, counter, key] =
            [10, 23, 30].map(|bits| (random.u64() >> 34) as u32 >> (30 - 1 - random.below(bits)).min(31));
        let boot = boot.max(1);
        let (number, key) = (StoreNumber::new(boot, random.below(16) as u8, counter), u64::from(key));
        let both = u64::from(boot) << 8 | u64::from(number.shard());
        let ways = [
            size(Record::Removed(number, Key::new(key))),
            14,
            varint(number.get()) + varint(key),
            varint(both) + varint(counter.into()) + varint(key),
        ];
        sums.iter_mut().zip(ways).for_each(|(sum, way)| *sum += way);
    }
    let [own, fixed, one, two] = sums.map(|sum| sum as f64 / f64::from(count));
    println!("removed, on average: {own:.2} bytes; fixed {fixed:.2}, as two varints {one:.2}, as three {two:.2}");
    assert!(own < fixed && own < one);
}
