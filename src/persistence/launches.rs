//! QoS 2 messages that wait in the queues of stored sessions until they are on disk.

use std::collections::VecDeque;

use super::commits::UNKNOWN;
use super::on_disk::OnDisk;
use crate::numbers::DecisionNumber;
use crate::session::Key;

/// A stored session has QoS 2 messages in its queue that may be sent when so many records are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    records: u64,
    /// The session, by its place in the table, and its instance number.
    pub session: (u32, u64),
    /// The last of them.
    pub key: Key,
    /// What it depends on.
    decision: Option<DecisionNumber>,
}

/// They, in the order in which they were recorded.
#[derive(Debug, Default)]
pub(super) struct Launches(VecDeque<Launch>);

impl Launches {
    /// What is recorded is, with so many records; or will be ([`UNKNOWN`]).
    pub fn push(&mut self, records: u64, session: (u32, u64), key: Key, decision: Option<DecisionNumber>) {
        self.0.push_back(Launch { records, session, key, decision });
    }

    /// What was to be recorded has been, with so many records.
    pub fn are_recorded(&mut self, records: u64) {
        for launch in self.0.iter_mut().rev().take_while(|launch| launch.records == UNKNOWN) {
            launch.records = records;
        }
    }

    /// The next that may be sent, with those behind it that are of the same session: they are sent together.
    pub fn next(&mut self, on_disk: &OnDisk) -> Option<Launch> {
        let is_decided = |launch: &Launch| launch.decision.is_none_or(|decision| on_disk.decisions.is_made(decision));
        let may_be = |launch: &Launch| launch.records <= on_disk.records() && is_decided(launch);
        self.0.front().filter(|first| may_be(first))?;
        let mut first = self.0.pop_front()?;
        while let Some(next) = self.0.front().filter(|next| next.session == first.session && may_be(next)) {
            first.key = first.key.max(next.key);
            self.0.pop_front();
        }
        Some(first)
    }
}
