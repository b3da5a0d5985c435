//! Commands to a shard from other threads: those of the embedding program and those that serve operators.
//!
//! Commands wait in the shard's inbox, which is bounded, and are carried out in order; only the end of a subscription of the program is
//! always let in, and comes first. None of them makes the shard wait.

use std::sync::Arc;

use crossbeam::channel::Sender;

use crate::hooks::HookReport;
use crate::message::Message;
use crate::shard::{Report, Request, SlotsMoving};
use crate::topic::TopicFilter;

/// A command to a shard.
pub enum Command {
    /// An orderly stop: no more connections are accepted, those that exist are ended, then the thread ends.
    Stop,
    /// A request that the core carries out.
    Request(Request),
    /// The shard's report on itself. It is dropped if there is no room for it in `answer`.
    Report {
        /// The channel for the report.
        answer: Sender<Report>,
    },
    /// A move of slots to another shard: of those among `slots` that the shard owns. The answer is dropped if there is
    /// no room for it in `answer`.
    MoveSlots {
        /// The numbers of the slots.
        slots: Arc<[u16]>,
        /// The number of the shard that becomes their owner.
        to: usize,
        /// The channel for the slots that move now.
        answer: Sender<SlotsMoving>,
    },
    /// The counters of the hooks. They are dropped if there is no room for them in `answer`.
    Hooks {
        /// The channel for the counters.
        answer: Sender<Vec<HookReport>>,
    },
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

/// The receiver of a subscription's events, called on the shard's thread. It must not block. Returns whether it had room for the event.
pub type Sink = Box<dyn FnMut(SubscriptionEvent) -> bool + Send>;

/// An event of a subscription of the embedding program.
pub enum SubscriptionEvent {
    /// The subscription is in force on all shards: no message is missed from here on.
    Subscribed,
    /// A message that the subscription matches.
    Message(Message),
}
