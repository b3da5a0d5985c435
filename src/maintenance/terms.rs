//! On which terms something is imported.

use std::collections::{BTreeMap, HashSet};

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

impl Known {
    /// Why a retained message for this topic is not taken, if the store has one.
    pub fn check_retained(&self, mountpoint: &str, topic: &str) -> Result<(), &'static str> {
        match self.retained.contains(&(mountpoint.into(), topic.into())) {
            true => Err("retained messages for topics that have one in the store already"),
            false => Ok(()),
        }
    }
}

/// What was taken and what was not.
#[derive(Default)]
pub(super) struct Taken {
    /// Of each kind, how many were.
    pub taken: BTreeMap<&'static str, u64>,
    /// Of each reason, how many were not.
    pub left_out: BTreeMap<&'static str, u64>,
    pub largest_record: usize,
}

impl Taken {
    /// One more of this kind.
    pub fn took(&mut self, what: &'static str) {
        *self.taken.entry(what).or_default() += 1;
    }

    /// One was left out.
    pub fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    /// There is a record of about this length.
    pub fn has_record(&mut self, bytes: usize) {
        self.largest_record = self.largest_record.max(bytes);
    }
}
