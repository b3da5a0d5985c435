//! What the records of some boots say in the end is what those meant who wrote them.

use std::sync::Arc;

use proptest::prelude::*;

use super::writer::{Seen, SeenMessage, Whole, Writer};
use super::*;
use crate::codec::{PacketId, QoS};
use crate::message::Publication;
use crate::numbers::{Decision, DecisionNumber, StoreNumber};
use crate::records::{
    Contents, Counts, Delivery, DeliveryBuffer, Image, SessionRecord, StoredDelivery, StoredIds, StoredMessage,
    StoredSession, WallClock, WallTime,
};
use crate::session::{Key, Subscription, SubscriptionPortion};
use crate::time::Time;
use crate::topic::TopicName;

fn image<'r>(records: impl IntoIterator<Item = &'r Stored>) -> Image {
    let mut image = Image::new(WallClock::new(Time::ZERO, WallTime::default()), hasher());
    records.into_iter().for_each(|stored| image.apply(&stored.record()));
    image
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn seen(session: &StoredSession) -> Seen {
    let SubscriptionPortion { entries, .. } = session.subscriptions.all();
    let of = |Subscription { options, id }| (options.no_local, id);
    let messages = session.messages().iter().map(|(key, delivery)| {
        let stage = session.stage(key).expect("it is there");
        (key, SeenMessage { stage, payload: delivery.message.as_ref().map(|message| text(message.payload())) })
    });
    let bytes = session
        .messages()
        .iter()
        .map(|(_, delivery)| delivery.message.as_ref().map_or(0, |message| message.size()) + delivery.ids.bytes());
    assert_eq!(session.bytes(), bytes.sum::<usize>());
    assert_eq!(
        session.offline.is_some_and(|offline| offline.has_will),
        session.offline.is_some() && session.will.is_some()
    );
    Seen {
        client: session.client.subscriber.client_id.to_string(),
        connection: session.client.session_number,
        is_online: session.offline.is_none(),
        has_will: session.will.is_some(),
        subscriptions: entries
            .into_iter()
            .map(|(filter, subscription)| (filter.to_string(), of(subscription)))
            .collect(),
        messages: messages.collect(),
        incoming: (1..10).filter(|id| session.inbound.contains(PacketId::new(*id).expect("not zero"))).collect(),
        next_key: session.next_key,
        launched_below: session.launched_below,
    }
}

/// All of it, the counts, and what is displaced.
fn whole(mut contents: Contents) -> (Whole, Counts, Vec<StoreNumber>) {
    let (counts, displaced) = (contents.counts(), contents.displaced().to_vec());
    let sessions = contents.sessions().map(|session| (session.number, seen(&session))).collect();
    let retained = contents.into_retained().map(|(mountpoint, message)| {
        ((mountpoint.to_string(), message.topic().as_str().to_owned()), text(message.payload()))
    });
    (Whole { sessions, retained: retained.collect() }, counts, displaced)
}

/// Some boots, one after the other, with so many steps each: their records, and what they mean. `broken` is the boot in which the ends of all
/// journals are lost, if it is one of them; the next goes on with what is left.
fn history(seed: u64, boots: &[usize], broken: usize) -> (Vec<Stored>, Whole) {
    let (mut records, mut state, mut connections, mut displaced) = (Vec::new(), Whole::default(), 0, Vec::new());
    for (boot, steps) in boots.iter().enumerate() {
        let mut writer = Writer::new(seed.wrapping_add(boot as u64), boot as u32 + 1, state, connections);
        writer.end(&displaced);
        (0..*steps).for_each(|_| writer.step());
        if boot == broken {
            writer.lose_ends();
        }
        connections = writer.connections();
        records.append(&mut writer.in_any_order());
        let read = whole(image(&records).finish());
        assert_eq!(read.1.passed_over, 0, "nothing was read that is not known");
        displaced = read.2;
        state = if boot == broken { read.0 } else { writer.whole };
    }
    (records, state)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// In whatever order the journals of a boot are read.
    #[test]
    fn all_records_say_what_was_meant(seed: u64, boots in prop::collection::vec(0..150_usize, 1..4)) {
        let (records, meant) = history(seed, &boots, usize::MAX);
        let (read, counts, _) = whole(image(&records).finish());
        prop_assert_eq!(counts.sessions, meant.sessions.len());
        prop_assert_eq!(counts.retained, meant.retained.len());
        prop_assert_eq!(counts.messages, meant.sessions.values().map(|seen| seen.messages.len()).sum::<usize>());
        prop_assert_eq!(read, meant);
    }

    /// An archive may have what the journal has, too: any stretch, and then all that follows it once more.
    #[test]
    fn what_is_read_twice_changes_nothing(seed: u64, boots in prop::collection::vec(0..150_usize, 1..4), cuts: [prop::sample::Index; 2]) {
        let (records, meant) = history(seed, &boots, usize::MAX);
        let [one, other] = cuts.map(|cut| cut.index(records.len() + 1));
        let (begin, end) = (one.min(other), one.max(other));
        let (once, twice) = (image(&records), image(records[..end].iter().chain(&records[begin..])));
        let ((once, counts, displaced), (twice, again, also)) = (whole(once.finish()), whole(twice.finish()));
        prop_assert_eq!(&once, &meant);
        prop_assert_eq!(once, twice);
        prop_assert_eq!(displaced, also);
        prop_assert_eq!((counts.sessions, counts.messages, counts.bytes), (again.sessions, again.messages, again.bytes));
    }

    /// The ends of journals are lost in a crash, each anywhere, and the next boot goes on with what is left: nothing that it ended comes back.
    #[test]
    fn what_is_left_after_a_crash_can_be_gone_on_with(seed: u64, steps in prop::collection::vec(0..150_usize, 2..4), broken in 0..2_usize) {
        let (records, meant) = history(seed, &steps, broken);
        let (read, ..) = whole(image(&records).finish());
        prop_assert_eq!(read, meant);
    }
}

/// A crash may leave two numbers of one client: that of the connection that came later counts, whatever is read first. One that has not come whole
/// does not, nor one of an earlier boot. What does not count is to be ended.
#[test]
fn of_two_numbers_of_one_client_one_counts() {
    let header = |boot, shard, session_number, is_arriving| {
        let record = SessionRecord::new(StoreNumber::new(boot, shard, 1), "m", "c");
        SessionRecord { session_number, is_arriving, ..record }
    };
    let pairs = [
        [header(1, 0, 7, false), header(1, 1, 6, false)],
        [header(1, 1, 7, false), header(1, 0, 6, false)],
        [header(2, 0, 1, false), header(1, 1, 6, false)],
        [header(1, 0, 1, false), header(1, 1, 6, true)],
        [header(1, 0, 1, false), header(2, 1, 6, true)],
        [SessionRecord { replaces: Some(StoreNumber::new(2, 1, 1)), ..header(1, 0, 1, false) }, header(2, 1, 6, false)],
    ];
    for [winner, loser] in pairs {
        let [first, second] = [&winner, &loser].map(|header| Stored::of(&Record::Session(Box::new(header.clone()))));
        for records in [[&first, &second], [&second, &first]] {
            let (read, counts, displaced) = whole(image(records).finish());
            assert_eq!(read.sessions.keys().collect::<Vec<_>>(), [&winner.number]);
            assert_eq!((counts.sessions, displaced), (1, vec![loser.number]));
        }
    }
    // If all is the same, the one that was read later.
    let [one, other] = [0, 1].map(|shard| Stored::of(&Record::Session(Box::new(header(1, shard, 7, false)))));
    let (read, ..) = whole(image([&one, &other]).finish());
    assert!(read.sessions.contains_key(&StoreNumber::new(1, 1, 1)));
    let (read, ..) = whole(image([&one, &other, &one]).finish());
    assert!(read.sessions.contains_key(&StoreNumber::new(1, 0, 1)));
    // What replaces another that has not come whole leaves it as it is.
    let arriving = SessionRecord { replaces: Some(StoreNumber::new(1, 0, 1)), ..header(1, 1, 7, true) };
    let arriving = Stored::of(&Record::Session(Box::new(arriving)));
    let (read, _, displaced) = whole(image([&one, &arriving]).finish());
    assert!(read.sessions.contains_key(&StoreNumber::new(1, 0, 1)) && displaced == [StoreNumber::new(1, 1, 1)]);
}

/// However many sessions have a message, and however often the filter of a group is named.
#[test]
fn a_message_is_held_once_for_all_its_sessions() {
    let (mut records, mut deliveries) = (Vec::new(), DeliveryBuffer::default());
    for counter in 0..10 {
        let number = StoreNumber::new(1, 0, counter);
        let client = counter.to_string();
        records.push(Stored::of(&Record::Session(Box::new(SessionRecord::new(number, "", &client)))));
        deliveries.push(&Delivery {
            session: number,
            key: Key::new(counter.into()),
            qos: QoS::AtLeastOnce,
            retain: false,
            is_sent: false,
            ids: StoredIds::from(&[][..]),
            group: Some("$share/g/t"),
        });
    }
    let publication = Publication::new(TopicName::trusted("t"), &[7; 1000]);
    let clock = WallClock::new(Time::ZERO, WallTime::default());
    let message = StoredMessage::of_publication(&publication, clock);
    records.push(Stored::of(&Record::Message { message, deliveries: deliveries.deliveries() }));
    let mut contents = image(&records).finish();
    let sessions: Vec<_> = contents.sessions().collect();
    let all: Vec<_> =
        sessions.iter().flat_map(|session| session.messages().iter().map(|(_, delivery)| delivery)).collect();
    let (first, rest) = all.split_first().expect("ten of them");
    for other in rest {
        let message = |delivery: &StoredDelivery| delivery.message.as_ref().expect("it is queued").address();
        assert_eq!(message(first), message(other));
        let group = |delivery: &StoredDelivery| Arc::as_ptr(delivery.group.as_ref().expect("a group"));
        assert_eq!(group(first), group(other));
    }
    assert_eq!(all.len(), 10);
}

/// What names sessions that are not known is passed over, and counted by deliveries.
#[test]
fn what_is_about_nobody_is_counted() {
    let unknown = StoreNumber::new(1, 0, 1);
    let records = [
        Record::Removed(unknown, Key::new(1)),
        Record::WillGone(unknown, DecisionNumber::new(1, 0)),
        Record::Ended(unknown),
    ];
    let records = records.map(|record| Stored::of(&record));
    let (read, counts, displaced) = whole(image(&records).finish());
    assert_eq!((read, displaced), (Whole::default(), Vec::new()));
    assert_eq!((counts.records, counts.passed_over), (3, 2), "that it has ended is no news");
}

/// Messages that depend on a decision count when it was made, or if nobody can make it any more; whichever shard they are at, in whatever order its
/// records are read.
#[test]
fn what_was_not_decided_does_not_count() {
    let (publisher, gone, subscriber) =
        (StoreNumber::new(1, 0, 1), StoreNumber::new(1, 0, 2), StoreNumber::new(1, 1, 1));
    let (before, moved, stays) = (StoreNumber::new(1, 1, 2), StoreNumber::new(1, 0, 3), StoreNumber::new(1, 1, 3));
    let header = |number, name| Stored::of(&Record::Session(Box::new(SessionRecord::new(number, "", name))));
    let message = |session, count, key| {
        let mut publication = Publication::new(TopicName::trusted("t"), b"payload");
        publication.decision = Some(Decision { session, number: DecisionNumber::new(count, 0) });
        let message = StoredMessage::of_publication(&publication, WallClock::new(Time::ZERO, WallTime::default()));
        let mut deliveries = DeliveryBuffer::default();
        let (ids, qos, key) = (StoredIds::from(&[][..]), QoS::ExactlyOnce, Key::new(key));
        let session = subscriber;
        deliveries.push(&Delivery { session, key, qos, retain: false, is_sent: false, ids, group: None });
        Stored::of(&Record::Message { message, deliveries: deliveries.deliveries() })
    };
    let id = PacketId::MIN;
    let decision = Some(DecisionNumber::new(5, 0));
    let [made, made_by_moved] =
        [publisher, moved].map(|session| Stored::of(&Record::Incoming { session, id, decision }));
    let has_moved = SessionRecord { replaces: Some(before), ..SessionRecord::new(moved, "", "moved") };
    let at_publisher = [
        header(publisher, "publisher"),
        header(gone, "gone"),
        made,
        Stored::of(&Record::Ended(gone)),
        Stored::of(&Record::Session(Box::new(has_moved))),
        made_by_moved,
    ];
    let at_subscriber = [
        header(subscriber, "subscriber"),
        header(before, "moved"),
        header(stays, "stays"),
        message(publisher, 4, 0),
        message(publisher, 5, 1),
        message(publisher, 6, 2),
        message(gone, 9, 3),
        message(before, 5, 4),
        message(before, 6, 5),
        message(stays, 5, 6),
    ];
    let homes = [&at_publisher[..], &at_subscriber];
    for order in [[0, 1], [1, 0]] {
        let mut image = image([]);
        for journal in order {
            image.read_journal(journal);
            homes[journal as usize].iter().for_each(|stored| image.apply(&stored.record()));
        }
        let mut contents = image.finish();
        assert!(!contents.is_scattered, "each is in one journal");
        assert_eq!(contents.undecided(), [2, 5, 6].map(|key| (subscriber, Key::new(key))));
        assert_eq!(contents.last_decision(), DecisionNumber::new(9, 0));
        let session = contents.sessions().find(|session| session.number == subscriber).expect("it is there");
        assert_eq!(session.messages().iter().map(|(key, _)| key).collect::<Vec<_>>(), [0, 1, 3, 4]);
        assert_eq!(session.next_key, 6 + 1, "its keys are not used again");
    }
}
