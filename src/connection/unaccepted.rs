//! What is held for clients that are not accepted yet, on one shard: strangers, as far as anybody knows.
//!
//! It has one bound for all of them. When it is exceeded, those go of whom most is held: an honest CONNECT is small, and comes in one piece,
//! so that it is hardly ever among them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::ConnectionId;
use crate::time::Time;

/// How much time lies between two lines of the log about it.
const QUIET: Duration = Duration::from_secs(10);

/// The bytes held for connections that belong to no session.
pub struct Unaccepted {
    /// How many there may be.
    most: usize,
    bytes: usize,
    /// The connections for which some are held, by how many.
    by_size: BTreeSet<(usize, ConnectionId)>,
    /// How many connections went since the last line of the log, and when there may be another one.
    refused: u64,
    next_line: Time,
}

impl Unaccepted {
    /// Nothing is held, and never more than `most` bytes.
    pub fn new(most: usize) -> Self {
        Unaccepted { most, bytes: 0, by_size: BTreeSet::new(), refused: 0, next_line: Time::ZERO }
    }

    /// For a connection for which `before` bytes were held there are `now`.
    pub fn hold(&mut self, id: ConnectionId, before: usize, now: usize) {
        if before == now {
            return;
        }
        if before > 0 {
            self.by_size.remove(&(before, id));
        }
        if now > 0 {
            self.by_size.insert((now, id));
        }
        self.bytes = self.bytes - before + now;
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The connection that is to go, if more is held than may be.
    pub fn too_large(&self) -> Option<ConnectionId> {
        if self.bytes <= self.most { None } else { self.by_size.last().map(|(_, id)| *id) }
    }

    /// A connection has to go. How many did since the last line of the log, if there is to be one now.
    pub fn refuse(&mut self, now: Time) -> Option<u64> {
        self.refused += 1;
        if now < self.next_line {
            return None;
        }
        self.next_line = now + QUIET;
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId::new(index, 1)
    }

    #[test]
    fn of_whom_most_is_held_has_to_go() {
        let mut unaccepted = Unaccepted::new(10);
        unaccepted.hold(id(1), 0, 3);
        unaccepted.hold(id(2), 0, 6);
        unaccepted.hold(id(3), 0, 1);
        assert_eq!((unaccepted.bytes(), unaccepted.too_large()), (10, None));
        unaccepted.hold(id(3), 1, 2);
        assert_eq!(unaccepted.too_large(), Some(id(2)));
        unaccepted.hold(id(2), 6, 0);
        assert_eq!((unaccepted.bytes(), unaccepted.too_large()), (5, None));
        unaccepted.hold(id(3), 2, 0);
        unaccepted.hold(id(1), 3, 11);
        assert_eq!(unaccepted.too_large(), Some(id(1)));
        unaccepted.hold(id(1), 11, 0);
        assert!(unaccepted.bytes() == 0 && unaccepted.by_size.is_empty());
    }

    #[test]
    fn the_log_says_how_many_went_and_not_each_time() {
        let mut unaccepted = Unaccepted::new(0);
        let at = Time::from_millis;
        assert_eq!(unaccepted.refuse(at(1)), Some(1));
        assert_eq!([2, 3, 9000].map(|millis| unaccepted.refuse(at(millis))), [None; 3]);
        assert_eq!((unaccepted.refuse(at(10_001)), unaccepted.refuse(at(10_002))), (Some(4), None));
    }
}
