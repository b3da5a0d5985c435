//! A store written from what counts of it: the records of each session, each message once on each shard, retained messages.

use indexmap::IndexMap;

use crate::message::Message;
use crate::records::{
    Contents, Delivery, DeliveryBuffer, Record, StoredMessage, StoredSession, StoredStage, WallClock,
};
use crate::session::Key;
use crate::sharding::{hash_of_topic, hasher, owner_of};

/// A message goes into one record for so many bytes of deliveries, and into another one for the next.
pub(super) const MOST_DELIVERIES: usize = 128 << 10;

/// Who writes which records.
#[derive(Clone, Copy)]
pub(super) struct Owners {
    /// How many shards there are.
    pub shards: usize,
    /// The seed of the store.
    pub seed: u64,
}

/// To whom a message goes on a shard: the session, by its place among all, and the key there.
type Recipients = Vec<(usize, u64)>;

/// Gives each record of `contents` to `write`, with the shard that has it.
pub(super) fn records<E>(
    mut contents: Contents,
    clock: WallClock,
    owners: Owners,
    write: &mut impl FnMut(usize, &Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let sessions: Vec<Box<StoredSession>> = contents.sessions().collect();
    // In the order in which they are met: those of a session stay near to each other.
    let mut messages: IndexMap<(usize, usize), (Message, Recipients), ahash::RandomState> =
        IndexMap::with_hasher(hasher(owners.seed));
    for (at, session) in sessions.iter().enumerate() {
        let shard = owner_of(&session.client.subscriber, owners.shards, owners.seed);
        write_session(session, clock, &mut |record| write(shard, record))?;
        for (key, delivery) in session.messages().iter() {
            if let Some(message) = &delivery.message {
                let of = messages.entry((shard, message.address())).or_insert_with(|| (message.clone(), Vec::new()));
                of.1.push((at, key));
            }
        }
    }
    let mut buffer = DeliveryBuffer::default();
    for ((shard, _), (message, recipients)) in messages {
        // What it depended on was decided: it counts.
        let message = decided(&message, clock);
        let mut left = recipients.into_iter().peekable();
        while let Some((at, key)) = left.next() {
            push_delivery(&sessions[at], key, &mut buffer);
            if buffer.bytes() >= MOST_DELIVERIES || left.peek().is_none() {
                write(shard, &Record::Message { message, deliveries: buffer.deliveries() })?;
                buffer.clear();
            }
        }
    }
    let hasher = hasher(owners.seed);
    for (mountpoint, message) in contents.into_retained() {
        let shard = hash_of_topic(&mountpoint, message.topic().as_str(), &hasher) as usize % owners.shards;
        write(shard, &Record::Retained { mountpoint: &mountpoint, message: decided(&message, clock) })?;
    }
    Ok(())
}

/// All of a session but its messages.
fn write_session<E>(
    session: &StoredSession,
    clock: WallClock,
    write: &mut impl FnMut(&Record<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let number = session.number;
    write(&Record::Session(Box::new(session.header(clock))))?;
    for (filter, subscription) in session.subscriptions.all().entries {
        write(&Record::Subscribed { session: number, filter: filter.as_str(), subscription })?;
    }
    for id in session.inbound.ids() {
        write(&Record::Incoming { session: number, id, decision: None })?;
    }
    for (key, delivery) in session.messages().iter() {
        if delivery.message.is_none() {
            write(&Record::Received(number, Key::new(key)))?;
        }
    }
    // Pages stay as they are: what is gone from them has to be said again.
    session.gone_from_pages().try_for_each(|key| write(&Record::Removed(number, key)))?;
    // Its keys go on where they were, though messages with the last ones have gone.
    match session.next_key.checked_sub(1).filter(|last| session.messages().get(*last).is_none()) {
        Some(last) => write(&Record::Removed(number, Key::new(last))),
        None => Ok(()),
    }
}

fn decided(message: &Message, clock: WallClock) -> StoredMessage<'_> {
    let mut stored = StoredMessage::of(message, clock);
    stored.decision = None;
    stored
}

fn push_delivery(session: &StoredSession, key: u64, buffer: &mut DeliveryBuffer) {
    let Some(delivery) = session.messages().get(key) else { return };
    buffer.push(&Delivery {
        session: session.number,
        key: Key::new(key),
        qos: delivery.qos,
        retain: delivery.retain,
        is_sent: session.stage(key) == Some(StoredStage::Sent),
        ids: (&*delivery.ids).into(),
        group: delivery.group.as_ref().map(|group| group.as_str()),
    });
}
