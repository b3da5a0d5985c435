//! Where a session is on its way from one shard to another.

use super::Delivery;

/// Which publication of which shard a message is: `sequence` rises with every publication that the shard routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicationId {
    /// The shard that routed it.
    pub shard: usize,
    /// Its number there.
    pub sequence: u64,
}

impl PublicationId {
    /// Not a publication that was routed live: what is delivered is for this session alone, and for it only once.
    pub const NONE: PublicationId = PublicationId { shard: 0, sequence: u64::MAX };
}

/// A session that moves.
#[derive(Debug)]
pub enum MigrationState {
    /// It is to go to another shard, which prepares for it. It is still served here, but takes no packets.
    Leaving {
        /// The number of the move.
        token: u64,
        /// As in [`MigrationState::Arrived`], if it had come here not long ago.
        delivered_up_to: Option<Box<[u64]>>,
    },
    /// It is to come: messages for it are put aside.
    Arriving {
        /// In the order in which they came.
        buffered: Vec<Buffered>,
    },
    /// It has come. Of each shard's publications, those up to this number have been delivered where it was before.
    Arrived {
        /// By shard.
        delivered_up_to: Box<[u64]>,
    },
}

/// A message that was put aside.
#[derive(Debug)]
pub struct Buffered {
    /// Which publication it is.
    pub source: PublicationId,
    /// The message as it was to be delivered. Its QoS is that of the subscriptions: the terms are not known yet.
    pub delivery: Delivery,
}

impl MigrationState {
    /// Whether a message from `source` is for this session here: it is not if it was delivered where the session was before.
    /// What came through a shared subscription was sent to one shard only.
    pub fn is_new(&self, source: PublicationId, shared: bool) -> bool {
        match self {
            MigrationState::Arrived { delivered_up_to } | MigrationState::Leaving { delivered_up_to: Some(delivered_up_to), .. } => {
                shared || source.sequence > delivered_up_to[source.shard]
            }
            MigrationState::Leaving { delivered_up_to: None, .. } | MigrationState::Arriving { .. } => true,
        }
    }
}
