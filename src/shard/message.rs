//! What shards tell each other. Messages between two shards arrive in the order in which they were sent; between other pairs
//! there is no order.

use std::sync::Arc;

use super::counters::Counted;
use crate::client::{ConnectionId, SessionFound, SessionRequest, SubscriberId};
use crate::message::Message;
use crate::migration::SessionAnnouncement;
use crate::persistence::Committed;
use crate::retained::{Counts, RetainedPage, RetainedQuestion};
use crate::routing::{MemberCounts, Turn};
use crate::session::SubscriptionPortion;
use crate::sharding::Publisher;
use crate::topic::TopicFilter;

/// A message from one shard to another.
#[derive(Debug)]
pub enum ShardMessage {
    /// A message for all who match on the receiving shard.
    Publish {
        /// Its number among the publications of the sender.
        sequence: u64,
        /// The mountpoint it was published in.
        mountpoint: Arc<str>,
        /// The message.
        message: Message,
        /// If it is retained: which one it is of those that the sender has sent the owner of its topic; else zero.
        number: u64,
        /// The sender's connection that published it, if one did.
        publisher: Option<ConnectionId>,
    },
    /// A message of which some copies go to one member each of shared subscriptions.
    Share(Box<Share>),
    /// The sender has its first subscribers to some filters. Answered with [`ShardMessage::Subscribed`] once that has been taken in.
    Subscribe {
        /// The mountpoint of the filters.
        mountpoint: Arc<str>,
        /// The filters. There may be none: then the sender wants to know when all that it said before has been taken in.
        filters: Arc<[TopicFilter]>,
        /// The subscriptions are those of a session that comes from this shard, which is to be told, too; by this token.
        flush: Option<(usize, u64)>,
    },
    /// The answer to the oldest [`ShardMessage::Subscribe`] that was not answered: from now on nothing that matches is missed.
    Subscribed {
        /// How many messages to be retained the answering shard had sent owners of topics that match, as far as the receiver does not
        /// know.
        sent: Counts,
        /// How many publications were routed on the answering shard so far.
        sequence: u64,
    },
    /// What is retained for the filters of a new subscription? Answered with [`ShardMessage::Retained`].
    AskRetained(Box<RetainedQuestion>),
    /// The answer to [`ShardMessage::AskRetained`].
    Retained(Box<RetainedPage>),
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
        /// How many.
        members: MemberCounts,
    },
    /// A message that the receiver, which owns its topic, is to retain; with an empty payload, one it is to forget.
    Retain {
        /// The mountpoint.
        mountpoint: Arc<str>,
        /// The message.
        message: Message,
    },
    /// A client of the sender is about to leave, or its session ended while its slot leaves; what it published there has come with
    /// all that was sent before. Answered with [`ShardMessage::Flushed`].
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
    SessionComes(Box<SessionAnnouncement>),
    /// The sender has added a portion of the subscriptions of a session that is to come, and all shards have taken it in: it needs the next.
    /// Answered with [`ShardMessage::Subscriptions`], unless the session has ended.
    AskSubscriptions {
        /// The receiver's number for the move.
        token: u64,
        /// Where the portion begins.
        begin: usize,
    },
    /// The answer to [`ShardMessage::AskSubscriptions`].
    Subscriptions {
        /// The sender's number for the move.
        token: u64,
        /// The portion.
        portion: Box<SubscriptionPortion>,
    },
    /// A session that was to come has ended.
    Abandoned {
        /// The sender's number for the move.
        token: u64,
    },
    /// Slots of the sender belong to another shard now. Answered with [`ShardMessage::SlotsSeen`].
    SlotsMoved(Box<SlotsMoved>),
    /// The answer to [`ShardMessage::SlotsMoved`]: what clients in these slots published at the receiver has come.
    SlotsSeen {
        /// The number of the message.
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
    /// The sender has begun a session in place of the one of the receiver whose client has been away longest.
    MakeRoom,
    /// An operator asks for a client of the receiver, or ends its session. Answered with [`ShardMessage::SessionAnswer`] if anybody
    /// waits for that.
    SessionRequest {
        /// Which client.
        subscriber: SubscriberId,
        /// What is to be done.
        request: SessionRequest,
    },
    /// The answer to [`ShardMessage::SessionRequest`].
    SessionAnswer {
        /// The receiver's number for the question.
        ticket: u64,
        /// The session as it was; none if there is none.
        found: Option<Box<SessionFound>>,
    },
    /// A connection of the receiver publishes more than a client of the sender takes, or no longer does.
    Publisher {
        /// Which.
        connection: ConnectionId,
        /// Whether it is to wait.
        wait: bool,
        /// How long.
        hold: Hold,
    },
    /// The sender stops, and all wills of its clients have come.
    WillsPublished,
    /// What the sender has counted so far.
    Counters(Box<Counted>),
    /// So many of the receiver's messages that [lead to records](ShardMessage::leads_to_records) are on disk at the sender, with all that
    /// followed from them.
    Committed(Committed),
    /// What came to the sender by this token of the receiver, a session or a message for a member of a shared subscription, is on disk there.
    Stored {
        /// The token.
        token: u64,
    },
    /// All decisions of the sender below this count are on disk.
    Decided(u64),
    /// The sender has cut its journal for the copy of the store with this number: the receiver is to do so before it hears anything else of it.
    Cut(u64),
}

impl ShardMessage {
    /// Whether it may lead to records on disk that somebody waits for.
    #[inline]
    pub fn leads_to_records(&self) -> bool {
        matches!(self, ShardMessage::Publish { .. } | ShardMessage::Share(_) | ShardMessage::Retain { .. })
    }
}

/// Slots that belong to another shard now.
#[derive(Clone, Debug)]
pub struct SlotsMoved {
    /// The sender's number for the message.
    pub token: u64,
    /// Their new owner.
    pub to: usize,
    /// The slots.
    pub slots: Arc<[u16]>,
    /// The sender has used up session numbers below this one.
    pub next_number: u64,
}

/// How long a publisher is held for a client that takes less than it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As long as both have credit.
    WithCredit,
    /// Until the client has room, or is gone: what it publishes must not be dropped.
    WithoutEnd,
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
    /// As in [`ShardMessage::Publish`].
    pub number: u64,
    /// The shared subscriptions of which one member each, on the receiving shard, is to get it.
    pub groups: Vec<Arc<TopicFilter>>,
    /// Whether ordinary subscribers are to get it, too.
    pub plain: bool,
    /// Who published it, if a client did.
    pub publisher: Option<Publisher>,
    /// How members are chosen. Members leave while it is on its way.
    pub turn: Turn,
    /// By which the sender is to be told that it is on disk; zero if it need not be.
    pub token: u64,
}
