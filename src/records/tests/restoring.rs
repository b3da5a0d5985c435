//! A session that was stored while it worked comes back as it was.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::client::ConnectionId;
use crate::codec::{PacketId, QoS, SubscriptionOptions};
use crate::config::QueueType;
use crate::message::Publication;
use crate::records::{
    Contents, Delivery, DeliveryBuffer, Image, Offline, SessionRecord, StoredIds, StoredMessage, StoredSession,
    WallClock, WallTime,
};
use crate::session::testing::session_of;
use crate::session::{
    Key, Look, OutgoingMessage, Session, Stage, StoreNumber, Subscription, SubscriptionIds, Walk, Will, packet_id,
};
use crate::time::Time;
use crate::topic::{TopicFilter, TopicName};

const NUMBER: StoreNumber = StoreNumber::new(1, 0, 1);

fn clock() -> WallClock {
    WallClock::new(Time::from_millis(1000), WallTime::from_millis(1_700_000_000_000))
}

/// A session, and what its shard has written of it.
struct Worked {
    session: Session<()>,
    order: QueueType,
    records: Vec<Stored>,
}

impl Worked {
    fn new(order: QueueType) -> Self {
        let mut worked = Worked { session: session_of("c"), order, records: Vec::new() };
        worked.session.settings.queue.order = order;
        worked.write_header();
        worked
    }

    fn write(&mut self, record: &Record<'_>) {
        self.records.push(Stored::of(record));
    }

    fn write_header(&mut self) {
        let record = SessionRecord::of(&self.session, NUMBER, WallTime::from_millis(7), clock());
        let stored = Stored::of(&Record::Session(Box::new(record)));
        self.records.push(stored);
    }

    /// A message comes, is stored, and waits.
    fn store(&mut self, payload: &str, qos: QoS, number_of_ids: u32) {
        let mut publication = Publication::new(TopicName::trusted("t"), payload.as_bytes());
        publication.expire(Time::from_millis(5000));
        let key = self.session.outbound.take_key();
        let ids = (1..=number_of_ids).fold(SubscriptionIds::new(), |mut ids, id| {
            ids.push(id);
            ids
        });
        let filter = TopicFilter::parse("$share/g/t", 9).expect("a filter");
        let group = payload.len().is_multiple_of(2).then(|| Arc::new(filter));
        let delivery = OutgoingMessage { message: publication.keep(), qos, retain: true, key, ids, group };
        let mut deliveries = DeliveryBuffer::default();
        deliveries.push(&Delivery {
            session: NUMBER,
            key,
            qos,
            retain: true,
            is_sent: false,
            ids: StoredIds::from(&*delivery.ids),
            group: delivery.group.as_ref().map(|group| group.as_str()),
        });
        let message = StoredMessage::of(&delivery.message, clock());
        self.write(&Record::Message { message, deliveries: deliveries.deliveries() });
        let limits = self.session.settings.queue;
        assert!(self.session.outbound.queue.push(delivery, &limits, true, Time::ZERO).stored);
    }

    /// The next message is sent.
    fn launch(&mut self) {
        let Some(delivery) = self.session.outbound.queue.take(self.order) else { return };
        let key = delivery.key;
        let sequence = self.session.outbound.next_sequence_for(key);
        self.session.outbound.put_in_flight(sequence, delivery, None);
        match self.order {
            QueueType::Fifo if sequence == key.get() => self.write(&Record::Launched(NUMBER, key)),
            _ => self.write(&Record::Renumbered { session: NUMBER, before: key, now: Key::new(sequence) }),
        }
    }

    /// The client acknowledges one of those in flight.
    fn acknowledge(&mut self, at: usize) {
        let flight = in_flight(&mut self.session);
        let Some((sequence, stage, _)) = flight.get(at % flight.len().max(1)).cloned() else { return };
        let (id, key) = (packet_id(sequence), Key::new(sequence));
        if stage == Stage::AwaitingPubrec {
            assert!(self.session.outbound.received(id));
            self.write(&Record::Received(NUMBER, key));
        } else {
            assert!(self.session.outbound.complete(id, stage));
            self.write(&Record::Removed(NUMBER, key));
        }
    }
}

/// What of a message has to come back.
type What = (Vec<u8>, QoS, bool, Vec<u32>, Option<String>, Time);

fn what(delivery: &OutgoingMessage) -> What {
    let group = delivery.group.as_ref().map(|group| group.to_string());
    let OutgoingMessage { message, qos, retain, ids, .. } = delivery;
    (message.payload().to_vec(), *qos, *retain, ids.to_vec(), group, message.expires())
}

/// What is in flight, in order: sequence, stage, message.
fn in_flight(session: &mut Session<()>) -> Vec<(u64, Stage, Option<What>)> {
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let mut found = None;
        let look = session.outbound.look_in_flight(&mut from, |entry| {
            found = Some((entry.stage(), entry.delivery().as_ref().map(what)));
            false
        });
        match (look, found) {
            (Look::End, _) => return all,
            (_, found) => all.extend(found.map(|(stage, message)| (from - 1, stage, message))),
        }
    }
}

/// What waits, in order, with its key.
fn queued(session: &mut Session<()>) -> Vec<(u64, What)> {
    let (mut walk, mut all) = (Walk::default(), Vec::new());
    while !matches!(
        session.outbound.queue.look(&mut walk, |delivery| {
            all.push((delivery.key.get(), what(delivery)));
            false
        }),
        Look::End
    ) {}
    all
}

fn restored(records: &[Stored], clock: WallClock) -> Session<()> {
    let mut image = Image::new(clock, hasher());
    records.iter().for_each(|stored| image.apply(&stored.record()));
    let mut contents = image.finish();
    let session = contents.sessions().next().expect("it was written");
    session.into_session(5, 9, clock)
}

#[derive(Clone, Debug)]
enum Step {
    Store(bool, u32),
    Launch,
    Acknowledge(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), 0..4_u32).prop_map(|(twice, ids)| Step::Store(twice, ids)),
        2 => Just(Step::Launch),
        2 => any::<usize>().prop_map(Step::Acknowledge),
    ]
}

proptest! {
    /// The same is in flight under the same packet ids, at the same stages; the same waits in the same order, under keys that are still its own.
    #[test]
    fn what_was_on_its_way_is_so_again(steps in prop::collection::vec(step(), 0..60), lifo: bool) {
        let mut worked = Worked::new(if lifo { QueueType::Lifo } else { QueueType::Fifo });
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Store(twice, ids) => {
                    let qos = if twice { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                    worked.store(&at.to_string(), qos, ids);
                }
                Step::Launch => worked.launch(),
                Step::Acknowledge(at) => worked.acknowledge(at),
            }
        }
        let mut again = restored(&worked.records, clock());
        prop_assert_eq!(in_flight(&mut again), in_flight(&mut worked.session));
        prop_assert_eq!(queued(&mut again), queued(&mut worked.session));
        prop_assert_eq!(again.outbound.has_unsent(), again.outbound.in_flight() > 0);
        prop_assert!(again.outbound.take_key().get() >= worked.session.outbound.take_key().get());
    }
}

/// The rest of a session, while its client is connected and when it is not. The broker starts a second later, with a clock of its own.
#[test]
fn a_session_comes_back_as_it_was() {
    let mut worked = Worked::new(QueueType::Fifo);
    let session = &mut worked.session;
    session.client.username = Some("user".into());
    (session.client.session_number, session.settings.expiry) = (7, Some(Duration::from_secs(60)));
    session.settings.keep_alive = 30;
    let message = Publication::new(TopicName::trusted("will"), b"gone").keep();
    let (delay, expiry) = (Duration::from_secs(5), Some(Duration::from_secs(9)));
    session.will = Some(Will { message, mountpoint: "m".into(), delay, expiry });
    session.connection = Some(ConnectionId::new(1, 1));
    worked.write_header();
    for text in ["a/#", "$share/g/b"] {
        let subscription = Subscription { options: SubscriptionOptions::new(QoS::ExactlyOnce), id: 3 };
        let filter = TopicFilter::parse(text, 9).expect("a filter");
        worked.write(&Record::Subscribed { session: NUMBER, filter: text, subscription });
        worked.session.subscriptions.put(filter, subscription);
    }
    let ids = [1, 65_535].map(|id| PacketId::new(id).expect("not zero"));
    ids.iter().for_each(|id| worked.write(&Record::Incoming { session: NUMBER, id: *id, decision: None }));

    let later = WallClock::new(Time::ZERO, WallTime::from_millis(1_700_000_001_000));
    let again = restored(&worked.records, later);
    let was = &worked.session;
    assert_eq!((&again.client, &again.settings), (&was.client, &was.settings));
    assert_eq!((again.slot, again.instance, again.connection), (5, 9, None));
    assert_eq!((again.expires, again.will_due), (Time::NEVER, Time::NEVER), "it has to go offline");
    let will = again.will.as_ref().expect("it has one");
    assert_eq!(
        (will.message.payload(), &*will.mountpoint, will.delay, will.expiry),
        (&b"gone"[..], "m", delay, expiry)
    );
    let filters = |session: &Session<()>| {
        let mut entries = session.subscriptions.all().entries;
        entries.sort_by_key(|(filter, _)| filter.to_string());
        entries
    };
    assert_eq!(filters(&again), filters(was));
    assert!(again.inbound.len() == 2 && ids.iter().all(|id| again.inbound.contains(*id)));

    // It went offline at the time 2000 of the first broker: for the second one that is its beginning.
    worked.session.connection = None;
    (worked.session.expires, worked.session.will_due) = (Time::from_millis(62_000), Time::from_millis(7000));
    worked.write_header();
    let again = restored(&worked.records, later);
    assert_eq!((again.expires, again.will_due), (Time::from_millis(60_000), Time::from_millis(5000)));
    let [since, expires] = [1, 2].map(WallTime::from_millis);
    worked.write(&Record::Offline(NUMBER, Offline { since, expires, will_due: WallTime::NEVER, has_will: false }));
    let again = restored(&worked.records, later);
    assert!(again.will.is_none() && (again.expires, again.will_due) == (Time::ZERO, Time::NEVER));
}

/// What one thread reads goes to the shards.
#[test]
fn what_is_read_may_go_to_other_threads() {
    fn may_go<T: Send>() {}
    may_go::<Contents>();
    may_go::<StoredSession>();
}

/// What the hooks keep is the caller's.
#[test]
fn the_state_of_the_hooks_is_kept() {
    let mut worked = Worked::new(QueueType::Fifo);
    let record = SessionRecord::of(&worked.session, NUMBER, WallTime::default(), clock());
    let stored = Stored::of(&Record::Session(Box::new(SessionRecord { hook_state: Some(b"state"), ..record })));
    worked.records.push(stored);
    let mut image = Image::new(clock(), hasher());
    worked.records.iter().for_each(|stored| image.apply(&stored.record()));
    let mut contents = image.finish();
    let session = contents.sessions().next().expect("it was written");
    assert_eq!(session.hook_state.as_deref(), Some(&b"state"[..]));
}
