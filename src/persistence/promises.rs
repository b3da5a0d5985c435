//! What is promised to the sessions of a shard, and so which records are to survive a loss of power.

use std::collections::BTreeSet;

use super::commits::Durability;
use crate::config::StoredDurability;
use crate::journal::Sync;
use crate::records::{DeliveryBuffer, Record};
use crate::session::StoreNumber;

/// Who is promised what.
#[derive(Debug)]
pub(super) struct Promises {
    /// Whether anybody is promised that something survives a loss of power, and the journal can do that.
    is_any_fsynced: bool,
    can_sync: bool,
    /// Sessions of which that is not promised. It is kept as long as others are promised more; who is not here counts as one of these.
    flushed: BTreeSet<StoreNumber>,
}

/// Deliveries of one message that are recorded together.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub deliveries: DeliveryBuffer,
    /// Whether one of the sessions is promised that it survives a loss of power.
    pub is_to_be_synced: bool,
    /// How many there are, and how many of these wait.
    pub sessions: u64,
    pub waiting: u64,
}

impl Promises {
    /// To nobody yet; `most` may be promised.
    pub fn new(most: Durability, sync: Sync) -> Self {
        let can_sync = sync != Sync::Never;
        Promises { is_any_fsynced: can_sync && most == Durability::Fsynced, can_sync, flushed: BTreeSet::new() }
    }

    /// This is promised to a session that is stored; whether its client has come for it just now.
    pub fn make(&mut self, to: StoreNumber, durability: StoredDurability, client_came: bool) {
        // What one that was there before was promised by other settings holds no longer than it has to.
        self.is_any_fsynced |= self.can_sync && client_came && durability == StoredDurability::Fsynced;
        if !self.is_any_fsynced {
            return;
        }
        match durability {
            StoredDurability::Fsynced => self.flushed.remove(&to),
            StoredDurability::Flushed | StoredDurability::None => self.flushed.insert(to),
        };
    }

    /// The session has ended, or gone.
    pub fn forget(&mut self, session: StoreNumber) {
        self.flushed.remove(&session);
    }

    /// Whether anything is to survive a loss of power.
    pub fn is_any_fsynced(&self) -> bool {
        self.is_any_fsynced
    }

    /// Whether what is recorded of a session is to survive a loss of power.
    pub fn of(&self, session: StoreNumber) -> bool {
        self.is_any_fsynced && !self.flushed.contains(&session)
    }

    /// Whether this record is to; but for messages, of which their publishers are promised something, too.
    pub fn of_record(&self, record: &Record<'_>) -> bool {
        if !self.is_any_fsynced || self.flushed.is_empty() {
            return self.is_any_fsynced;
        }
        match *record {
            Record::Session(ref header) => header.replaces.is_some() || header.is_arriving || self.of(header.number),
            Record::Offline(session, _)
            | Record::Removed(session, _)
            | Record::Received(session, _)
            | Record::Launched(session, _)
            | Record::Released(session, _)
            | Record::Subscribed { session, .. }
            | Record::HookState(session, _)
            | Record::Unsubscribed { session, .. }
            | Record::Renumbered { session, .. }
            | Record::Incoming { session, decision: None, .. } => self.of(session),
            Record::Message { deliveries, .. } => deliveries.iter().any(|delivery| self.of(delivery.session)),
            // Others depend on these.
            Record::Incoming { .. } | Record::PassedOn { .. } | Record::WillGone(..) | Record::Ended(_) => true,
            Record::Retained { .. } | Record::Cleared { .. } => true,
        }
    }
}
