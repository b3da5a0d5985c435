//! Sessions whose clients are away, in the order in which they left. Only where they may have to make room for newcomers:
//! elsewhere nobody asks, and nothing is kept.

use std::collections::BTreeMap;

/// Those of one shard, by their index in the table of sessions.
#[derive(Default)]
pub(super) struct Absent {
    is_asked_for: bool,
    /// Numbers rise with every client that leaves.
    next: u64,
    by_number: BTreeMap<u64, u32>,
    numbers: BTreeMap<u32, u64>,
}

impl Absent {
    /// None yet; none ever if they are not `asked_for`.
    pub fn new(asked_for: bool) -> Self {
        Absent { is_asked_for: asked_for, ..Absent::default() }
    }

    /// The client of a session has left.
    pub fn left(&mut self, session: u32) {
        if self.is_asked_for {
            self.by_number.insert(self.next, session);
            self.numbers.insert(session, self.next);
            self.next += 1;
        }
    }

    /// It is back, or its session is gone.
    pub fn forget(&mut self, session: u32) {
        if let Some(number) = self.numbers.remove(&session) {
            self.by_number.remove(&number);
        }
    }

    /// The session whose client has been away longest.
    pub fn longest(&self) -> Option<u32> {
        self.by_number.first_key_value().map(|(_, session)| *session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_first_has_been_away_longest() {
        let mut absent = Absent::new(true);
        [3, 1, 2].into_iter().for_each(|session| absent.left(session));
        assert_eq!(absent.longest(), Some(3));
        absent.forget(3);
        absent.forget(3);
        assert_eq!(absent.longest(), Some(1));
        absent.left(3);
        absent.forget(1);
        absent.forget(2);
        assert_eq!(absent.longest(), Some(3));
        absent.forget(3);
        assert_eq!((absent.longest(), absent.numbers.len()), (None, 0));
    }

    #[test]
    fn nothing_is_kept_unasked() {
        let mut absent = Absent::new(false);
        absent.left(1);
        assert_eq!(absent.longest(), None);
    }
}
