//! On which terms something is imported.

use std::collections::HashSet;

use crate::client::SubscriberId;
use crate::config::Config;

/// What is imported how.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The mountpoint that clients and topics get.
    pub mountpoint: &'a str,
    /// The configuration of the broker that the store is for: limits of sessions, and the length of segments.
    pub config: &'a Config,
    /// How many shards it has, if there are no journals yet that say so.
    pub shards: u32,
    /// Whether it may be added to what is in the store already. What is there stays: a client, or a retained message for a topic, that the store has is
    /// not taken from elsewhere.
    pub merges: bool,
}

/// What a store has, that is not taken from elsewhere.
#[derive(Default)]
pub(super) struct Known {
    pub clients: HashSet<SubscriberId>,
    /// Mountpoints and topics of retained messages.
    pub retained: HashSet<(Box<str>, Box<str>)>,
}
