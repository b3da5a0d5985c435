//! Sessions that come to this shard: those that are announced, and those that have come not long ago.

use std::collections::{BTreeMap, VecDeque};

/// Sessions that are to come to this shard, or have come not long ago.
pub(crate) struct IncomingSessions {
    shards: usize,
    /// The places in the table of sessions of those that are to come, by old owner and its token.
    arriving: BTreeMap<(usize, u64), u32>,
    /// Portions of their subscriptions that other shards are adding, by the number of the announcement.
    announced: BTreeMap<u64, Announced>,
    /// The places of those that have come, and that may be sent again what was delivered before; those that are looked at next in front.
    recently_arrived: VecDeque<u32>,
    /// How many of them are still to be looked at in this round.
    unseen: usize,
}

/// How many of them are looked at on one occasion.
const SEEN_AT_ONCE: usize = 2048;

/// A portion of the subscriptions of a session that is to come.
struct Announced {
    /// Whose.
    of: TakenIn,
    /// How many shards have not answered.
    unanswered: usize,
}

/// Every other shard has taken in a portion of the subscriptions of a session that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TakenIn {
    /// The old owner.
    pub from: usize,
    /// The number of the session there.
    pub token: u64,
    /// Where the next portion begins, for which the old owner is to be asked. None: it was the last one, and the old owner is to be told.
    pub rest: Option<usize>,
}

impl IncomingSessions {
    /// None on a shard of `shards`.
    pub fn new(shards: usize) -> Self {
        IncomingSessions {
            shards,
            arriving: BTreeMap::new(),
            announced: BTreeMap::new(),
            recently_arrived: VecDeque::new(),
            unseen: 0,
        }
    }

    /// How many are to come or have come not long ago. Their announcements are not counted again.
    pub fn len(&self) -> usize {
        self.arriving.len() + self.recently_arrived.len()
    }

    /// Whether some are to come.
    pub fn is_any_arriving(&self) -> bool {
        !self.arriving.is_empty()
    }

    /// A session is to come from shard `from`, where its number is `token`, to place `index`.
    pub fn expect(&mut self, from: usize, token: u64, index: u32) {
        self.arriving.insert((from, token), index);
    }

    /// The place of a session that is to come; none if it is not expected.
    pub fn place_of(&self, from: usize, token: u64) -> Option<u32> {
        self.arriving.get(&(from, token)).copied()
    }

    /// A portion of the subscriptions of such a session was announced to all other shards with this announcement.
    pub fn announced(&mut self, announcement: u64, of: TakenIn) {
        self.announced.insert(announcement, Announced { of, unanswered: self.shards - 1 });
    }

    /// A shard has answered this announcement. When all have, says of which portion it was.
    pub fn announcement_answered(&mut self, announcement: u64) -> Option<TakenIn> {
        let announced = self.announced.get_mut(&announcement)?;
        announced.unanswered -= 1;
        if announced.unanswered > 0 {
            return None;
        }
        self.announced.remove(&announcement).map(|announced| announced.of)
    }

    /// A session that was to come has come. Gives its place; none if it was not expected.
    pub fn arrived(&mut self, from: usize, token: u64) -> Option<u32> {
        let index = self.arriving.remove(&(from, token))?;
        self.recently_arrived.push_back(index);
        Some(index)
    }

    /// A session that was to come has ended where it was. Gives its place; none if it was not expected.
    pub fn abandoned(&mut self, from: usize, token: u64) -> Option<u32> {
        self.arriving.remove(&(from, token))
    }

    /// Looks at the next of the sessions that have come, and forgets those for which `is_over` holds: they are sent nothing again, or are
    /// gone. See [`MigrationState::is_over`](crate::session::MigrationState::is_over). Says whether all have been looked at: then it
    /// begins anew.
    pub fn forget_arrived(&mut self, mut is_over: impl FnMut(u32) -> bool) -> bool {
        if self.unseen == 0 {
            self.unseen = self.recently_arrived.len();
        }
        let seen = self.unseen.min(SEEN_AT_ONCE);
        for index in self.recently_arrived.drain(..seen).collect::<Vec<_>>() {
            if !is_over(index) {
                self.recently_arrived.push_back(index);
            }
        }
        self.unseen -= seen;
        self.unseen == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_owner_hears_of_a_portion_when_all_other_shards_have_answered() {
        let mut sessions = IncomingSessions::new(3);
        let [first, second] = [(1, 9, Some(7)), (2, 9, None)].map(|(from, token, rest)| TakenIn { from, token, rest });
        sessions.announced(20, first);
        sessions.announced(21, second);
        assert_eq!(sessions.announcement_answered(20), None);
        assert_eq!(sessions.announcement_answered(21), None);
        assert_eq!(sessions.announcement_answered(20), Some(first));
        assert_eq!(sessions.announcement_answered(20), None);
        assert_eq!(sessions.announcement_answered(21), Some(second));
        assert_eq!(sessions.announcement_answered(22), None, "another kind of subscription");
    }

    #[test]
    fn a_session_is_expected_by_its_old_owner_and_number() {
        let mut sessions = IncomingSessions::new(3);
        sessions.expect(1, 9, 5);
        sessions.expect(2, 9, 6);
        assert_eq!(sessions.arrived(1, 8), None);
        assert_eq!([(1, 8), (1, 9)].map(|(from, token)| sessions.place_of(from, token)), [None, Some(5)]);
        assert_eq!(sessions.arrived(1, 9), Some(5));
        assert!(sessions.is_any_arriving());
        assert_eq!(sessions.abandoned(2, 9), Some(6));
        assert_eq!((sessions.arrived(1, 9), sessions.arrived(2, 9)), (None, None));
        assert!(!sessions.is_any_arriving());
    }

    #[test]
    fn a_session_that_has_come_is_known_until_it_is_sent_nothing_again() {
        let mut sessions = IncomingSessions::new(2);
        sessions.expect(1, 8, 5);
        sessions.expect(1, 9, 6);
        sessions.expect(1, 10, 7);
        sessions.arrived(1, 8);
        sessions.arrived(1, 9);
        sessions.abandoned(1, 10);
        assert_eq!(sessions.len(), 2);
        assert!(sessions.forget_arrived(|index| index == 5));
        let mut left = Vec::new();
        sessions.forget_arrived(|index| {
            left.push(index);
            true
        });
        assert_eq!((left, sessions.len()), (vec![6], 0));
    }

    #[test]
    fn sessions_that_have_come_are_looked_at_in_portions() {
        let mut sessions = IncomingSessions::new(2);
        for token in 0..2 * SEEN_AT_ONCE as u64 + 1 {
            sessions.expect(1, token, token as u32);
            sessions.arrived(1, token);
        }
        let mut seen = Vec::new();
        let mut look = |sessions: &mut IncomingSessions| {
            let before = seen.len();
            let all = sessions.forget_arrived(|index| {
                seen.push(index);
                index % 2 == 0
            });
            assert!(seen.len() - before <= SEEN_AT_ONCE);
            all
        };
        assert_eq!([(); 3].map(|()| look(&mut sessions)), [false, false, true]);
        assert_eq!((seen, sessions.len()), ((0..2 * SEEN_AT_ONCE as u32 + 1).collect(), SEEN_AT_ONCE));
    }
}
