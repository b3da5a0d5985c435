//! What waits for a session to come from its old owner.

use std::collections::{BTreeMap, VecDeque};

use crate::client::{ConnectionId, SessionRequest, SubscriberId};
use crate::session::{MigrationState, Session};

/// Something that waits for a session to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// Its client connects. The accepted connect is with this connection.
    Register(ConnectionId),
    /// An operator asks for it, or ends it.
    Request(SessionRequest),
}

/// Whether the session of a subscriber id is on this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// There is none.
    Absent,
    /// It is, and can be used.
    Here,
    /// Its place is, and it is on its way there.
    Arriving,
}

impl Presence {
    /// That of the session in a place of the table; none if the subscriber id has no place.
    pub fn of<S>(session: Option<&Session<S>>) -> Self {
        match session.map(|session| &session.migration) {
            None => Presence::Absent,
            Some(Some(MigrationState::Arriving { .. })) => Presence::Arriving,
            Some(_) => Presence::Here,
        }
    }
}

/// Whether something has to wait for a session to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It has not: the session is here, or there is none.
    No,
    /// It has. The session is on its way, or was pulled before.
    Yes,
    /// It has, and the session is to be pulled from this shard.
    Pull(usize),
}

/// What waits for sessions to come, by subscriber id.
#[derive(Default)]
pub(crate) struct WaitingTable(BTreeMap<SubscriberId, VecDeque<Waiting>>);

impl WaitingTable {
    /// For how many sessions something waits.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether something has to wait for a session. `old_owner` is the last owner of its slot, if the slot may have sessions
    /// there still.
    pub fn must_wait(&self, subscriber: &SubscriberId, session: Presence, old_owner: Option<usize>) -> Wait {
        match (session, old_owner) {
            (Presence::Arriving, _) => Wait::Yes,
            (_, Some(_)) if self.0.contains_key(subscriber) => Wait::Yes,
            (Presence::Absent, Some(from)) => Wait::Pull(from),
            (Presence::Here, _) | (Presence::Absent, None) => Wait::No,
        }
    }

    /// Adds something, behind what waits for the session already.
    pub fn add(&mut self, subscriber: SubscriberId, waiting: Waiting) {
        self.0.entry(subscriber).or_default().push_back(waiting);
    }

    /// Takes what waits for a session, in order.
    pub fn release(&mut self, subscriber: &SubscriberId) -> VecDeque<Waiting> {
        self.0.remove(subscriber).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SessionAction;

    /// An end of the session that nobody waits for.
    const END: Waiting =
        Waiting::Request(SessionRequest { action: SessionAction::Disconnect { cleanup: true }, asked_by: None });

    #[test]
    fn what_waits_is_served_in_order() {
        let (a, b) = (SubscriberId::new("", "a"), SubscriberId::new("", "b"));
        let first = Waiting::Register(ConnectionId::new(1, 1));
        let second = END;
        let third = Waiting::Register(ConnectionId::new(2, 1));
        let mut table = WaitingTable::default();
        for waiting in [first, second, third] {
            table.add(a.clone(), waiting);
        }
        table.add(b.clone(), second);
        assert_eq!(table.len(), 2);
        assert_eq!(table.release(&a), [first, second, third]);
        assert!(table.release(&a).is_empty());
        assert_eq!(table.release(&b), [second]);
    }

    #[test]
    fn a_session_that_may_be_at_the_old_owner_is_pulled_once() {
        let a = SubscriberId::new("", "a");
        let mut table = WaitingTable::default();
        assert_eq!(table.must_wait(&a, Presence::Absent, Some(2)), Wait::Pull(2));
        table.add(a.clone(), END);
        assert_eq!(table.must_wait(&a, Presence::Absent, Some(2)), Wait::Yes);
        assert_eq!(table.must_wait(&a, Presence::Here, Some(2)), Wait::Yes, "others wait: behind them");
        assert_eq!(table.must_wait(&a, Presence::Absent, None), Wait::No, "the old owner has none");
        assert_eq!(table.must_wait(&SubscriberId::new("", "b"), Presence::Here, Some(2)), Wait::No);
    }

    #[test]
    fn nothing_of_a_session_is_served_while_it_is_on_its_way() {
        let table = WaitingTable::default();
        let a = SubscriberId::new("", "a");
        for old_owner in [None, Some(2)] {
            assert_eq!(table.must_wait(&a, Presence::Arriving, old_owner), Wait::Yes);
        }
        assert_eq!(table.must_wait(&a, Presence::Here, None), Wait::No);
    }
}
