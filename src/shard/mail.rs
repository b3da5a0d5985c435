//! What shards tell each other. Mail between two shards arrives in the order in which it was sent; between other pairs
//! there is no order.

use std::sync::Arc;

use super::counters::Counted;
use super::keeper::{Asked, Found};
use super::migrate::Prepare;
use crate::client::{ConnectionId, SubscriberId};
use crate::config::SharedPolicy;
use crate::message::Message;
use crate::topic::TopicFilter;

/// A letter from one shard to another.
#[derive(Debug)]
pub enum Mail {
    /// A message for all who match on the receiving shard.
    Publish {
        /// Its number among the publications of the sender.
        sequence: u64,
        /// The mountpoint it was published in.
        mountpoint: Arc<str>,
        /// The message.
        message: Message,
        /// If it is retained: which one it is of those that the sender told its keeper of; else zero.
        number: u64,
        /// The sender's connection that published it, if one did.
        publisher: Option<ConnectionId>,
    },
    /// A message of which some copies go to one member each of shared subscriptions.
    Share(Box<Share>),
    /// A client of the sender subscribes. Answered with [`Mail::Subscribed`] once it has been taken in.
    Subscribe {
        /// The sender's number for it.
        token: u64,
        /// The mountpoint of the client.
        mountpoint: Arc<str>,
        /// The filters.
        filters: Arc<[Announcement]>,
        /// The subscriptions are those of a session that comes from this shard, which is to be told, too; by this token.
        flush: Option<(usize, u64)>,
    },
    /// The answer to [`Mail::Subscribe`]: from now on nothing that matches is missed.
    Subscribed {
        /// The number of the question.
        token: u64,
        /// For each keeper, how many messages to be retained the answering shard had told it of. Empty if nobody wants to
        /// know what is retained.
        told: Box<[u64]>,
        /// How many publications were routed on the answering shard so far.
        sequence: u64,
    },
    /// What is retained for the filters of a new subscription? Answered with [`Mail::Retained`].
    AskRetained(Box<Asked>),
    /// The answer to [`Mail::AskRetained`].
    Retained(Box<Found>),
    /// The sender has no subscriber to this filter any more.
    Unsubscribe {
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The filter; not a shared one.
        filter: TopicFilter,
    },
    /// How many members the sender has in a shared subscription now.
    Group {
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The filter, with its share name.
        filter: TopicFilter,
        /// Members with a live connection.
        online: u32,
        /// Members without.
        offline: u32,
    },
    /// A message that the receiver, its keeper, is to retain; with an empty payload, one it is to forget.
    Retain {
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The message.
        message: Message,
    },
    /// A client of the sender is about to leave, or its session ended while its slot leaves; what it published there has come with
    /// all that was sent before. Answered with [`Mail::Flushed`].
    Leaving {
        /// The sender's number for it.
        token: u64,
    },
    /// The sender has taken in what was announced for a move, or that it begins: all it sent before has come.
    Flushed {
        /// The receiver's number for the move.
        token: u64,
        /// How many publications were routed on the sender so far.
        sequence: u64,
    },
    /// A session is to come to the receiver.
    Prepare(Box<Prepare>),
    /// A session that was to come has ended.
    Abandoned {
        /// The sender's number for the move.
        token: u64,
    },
    /// Slots of the sender belong to another shard now. Answered with [`Mail::SlotsSeen`].
    SlotsMoved(Box<SlotsMoved>),
    /// The answer to [`Mail::SlotsMoved`]: what clients in these slots published at the receiver has come.
    SlotsSeen {
        /// The number of the letter.
        token: u64,
    },
    /// The sender has no session of this slot any more; it is the receiver's.
    SlotEmptied {
        /// The slot.
        slot: u16,
    },
    /// The sender needs this session at once.
    Pull {
        /// Whose.
        subscriber: SubscriberId,
    },
    /// There is no such session here.
    NotHere {
        /// Whose.
        subscriber: SubscriberId,
    },
    /// An operator wants a client of the receiver gone.
    Disconnect {
        /// Which.
        subscriber: SubscriberId,
        /// With its session.
        cleanup: bool,
    },
    /// A connection of the receiver publishes more than a client of the sender takes, or no longer does.
    Publisher {
        /// Which.
        connection: ConnectionId,
        /// Whether it is to wait.
        wait: bool,
    },
    /// What the sender has counted so far.
    Counters(Box<Counted>),
}

/// Slots that belong to another shard now.
#[derive(Clone, Debug)]
pub struct SlotsMoved {
    /// The sender's number for the letter.
    pub token: u64,
    /// Their new owner.
    pub to: usize,
    /// The slots.
    pub slots: Arc<[u16]>,
    /// The sender has used up session numbers below this one.
    pub next_number: u64,
}

/// One filter of a [`Mail::Subscribe`].
#[derive(Debug)]
pub struct Announcement {
    /// The filter.
    pub filter: TopicFilter,
    /// Whether it is new to the sender, so that the receiver must take note of it.
    pub interest: bool,
    /// Whether the sender will ask what is retained.
    pub retained: bool,
}

/// A message for members of shared subscriptions.
#[derive(Debug)]
pub struct Share {
    /// Its number among the publications of the sender; zero if it was sent on.
    pub sequence: u64,
    /// The mountpoint it was published in.
    pub mountpoint: Arc<str>,
    /// The message.
    pub message: Message,
    /// As in [`Mail::Publish`].
    pub number: u64,
    /// The shared subscriptions of which one member each, on the receiving shard, is to get it.
    pub groups: Vec<Arc<TopicFilter>>,
    /// Whether ordinary subscribers are to get it, too.
    pub plain: bool,
    /// The sender's connection that published it, if one did.
    pub connection: Option<ConnectionId>,
    /// The number that stands for the publisher.
    pub publisher: u16,
    /// How members are chosen.
    pub policy: SharedPolicy,
    /// How many shards it was sent to, this one included: members leave while it is on its way.
    pub hops: u8,
}
