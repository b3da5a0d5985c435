//! Commands to a shard from other threads: those of the embedding program and those that serve operators.
//!
//! Commands wait in the shard's inbox, which is bounded, and are carried out in order; only the end of a subscription of the program is
//! always let in, and comes first. None of them makes the shard wait. While the shard has no room for what the program publishes, that stays
//! in the inbox, subscriptions in their order with it, and other commands overtake.

use std::sync::Arc;

use crossbeam::channel::Sender;

use crate::archive;
use crate::client::{SessionAction, SessionFound, SubscriberId};
use crate::hooks::HookReport;
use crate::message::Message;
use crate::shard::{CutNews, Report, Request, SlotsMoving, StoreReport};
use crate::storage::Prepared;
use crate::topic::TopicFilter;

/// The answer of a shard: the number of the shard, and the answer.
pub type OfShard<T> = (usize, T);

/// Where an answer about a session goes: the number of the question, and the session if there is one.
pub type FoundSender = Sender<(usize, Option<Box<SessionFound>>)>;

/// A command to a shard.
pub enum Command {
    /// An orderly stop: no more connections are accepted, those that exist are ended, then the thread ends.
    Stop,
    /// A request that the core carries out.
    Request(Request),
    /// The shard's report on itself. It is dropped if there is no room for it in `answer`.
    Report {
        /// The channel for the report.
        answer: Sender<OfShard<Report>>,
    },
    /// An action on the session of a client, which the shard passes on to the owner. The answer is dropped if there is no room
    /// for it in `answer`.
    Session {
        /// The client.
        subscriber: SubscriberId,
        /// What is to be done.
        action: SessionAction,
        /// A number for the answer.
        number: usize,
        /// The channel for that number and the session as it was; none if there is none.
        answer: FoundSender,
    },
    /// A move of slots to another shard: of those among `slots` that the shard owns. The answer is dropped if there is
    /// no room for it in `answer`.
    MoveSlots {
        /// The numbers of the slots.
        slots: Arc<[u16]>,
        /// The number of the shard that becomes their owner.
        to: usize,
        /// The channel for the slots that move now.
        answer: Sender<OfShard<SlotsMoving>>,
    },
    /// The counters of the hooks. They are dropped if there is no room for them in `answer`.
    Hooks {
        /// The channel for the counters.
        answer: Sender<OfShard<Vec<HookReport>>>,
    },
    /// What the shard has in the store. It is dropped if there is no room for it in `answer`.
    CountStored {
        /// The channel for that.
        answer: Sender<OfShard<StoreReport>>,
    },
    /// The journals of all shards are cut for a copy of the store. What becomes of that on this shard is dropped if there is no room for it in `answer`.
    Cut {
        /// The number of the copy.
        number: u64,
        /// The channel for what becomes of it: twice, see [`CutNews`].
        answer: Sender<OfShard<CutNews>>,
    },
    /// What a copy has of this shard's journal is copied, or is not wanted any more. [Posted](super::mesh::InboxSender::post): once for each copy.
    EndCut {
        /// The number of the copy.
        number: u64,
    },
    /// A segment of the shard's journal was prepared, or could not be. [Posted](super::mesh::InboxSender::post): a journal prepares one at a time.
    Prepared(Prepared),
    /// The thread of the archive has answered.
    Archived(archive::Answer),
    /// The embedding program subscribes.
    Subscribe {
        /// The number of the subscription.
        subscription: u64,
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The filter; not a shared one.
        filter: TopicFilter,
        /// The receiver of its events.
        sink: Sink,
    },
    /// A subscription of the embedding program ends, and its sink is dropped. Sent once for each [`Command::Subscribe`] that found room, and
    /// [posted](super::mesh::InboxSender::post): so it is never lost, and may overtake that.
    Unsubscribe {
        /// The number of the subscription.
        subscription: u64,
    },
}

impl Command {
    /// About how many bytes of memory it holds on to, if it has to wait while the shard has no room for publications; else 0.
    pub fn bytes(&self) -> usize {
        match self {
            Command::Request(Request::Publish { mountpoint, topic, payload, properties, .. }) => {
                mountpoint.len() + topic.len() + properties.as_bytes().len() + payload.len()
            }
            Command::Subscribe { mountpoint, filter, .. } => mountpoint.len() + filter.as_str().len(),
            _ => 0,
        }
    }
}

/// The receiver of a subscription's events, called on the shard's thread. It must not block. Returns whether it had room for the event.
pub type Sink = Box<dyn FnMut(SubscriptionEvent) -> bool + Send>;

/// An event of a subscription of the embedding program.
pub enum SubscriptionEvent {
    /// The subscription is in force on all shards: no message is missed from here on.
    Subscribed,
    /// A message that the subscription matches.
    Message(Message),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{PropertyBlock, QoS};

    #[test]
    fn what_may_have_to_wait_counts_with_all_that_it_holds() {
        let long = "x".repeat(60_000);
        let mut properties = PropertyBlock::new();
        properties.user("name", &long).expect("a property");
        let publish = Request::Publish {
            mountpoint: long.as_str().into(),
            topic: long.clone(),
            payload: long.clone().into(),
            qos: QoS::AtMostOnce,
            retain: false,
            properties,
            expiry: None,
        };
        let bytes = Command::Request(publish).bytes();
        assert!((240_000..241_000).contains(&bytes), "{bytes}");
        let filter = TopicFilter::parse(&long, 8).expect("a valid filter");
        let subscribe = Command::Subscribe { subscription: 1, mountpoint: "".into(), filter, sink: Box::new(|_| true) };
        assert!((60_000..61_000).contains(&subscribe.bytes()));
        assert_eq!(Command::Stop.bytes(), 0);
    }
}
