//! Decisions: of messages that count only when it is on disk that a session has decided so.
//!
//! A shard gives them numbers in order, and writes them in order, too. So it is enough that the others know up to which all of its are on disk.

use std::collections::VecDeque;

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::commits::UNKNOWN;
use crate::numbers::{Decision, DecisionNumber};
use crate::session::StoreNumber;

/// Those that this shard gives, and what it knows of others'.
#[derive(Debug)]
pub(super) struct Decisions {
    own: usize,
    /// The count of the last one of earlier boots. All of these have been made: what was not counts nowhere.
    before: u64,
    /// The count of the last one that was given here.
    last: u64,
    /// Those given here that are not known to be on disk: their counts, in order, and how many records there were when each was written.
    open: VecDeque<(u64, u64)>,
    /// Those that are not written, by session.
    unwritten: HashMap<StoreNumber, Unwritten, RandomState>,
    /// By shard: its decisions below this count are on disk, all of them.
    made: Vec<u64>,
    /// The last one that other shards wait for.
    awaited: u64,
    /// What they know.
    told: u64,
}

/// Decisions of a session that are not written: their counts, ascending. As a rule there is one.
#[derive(Debug)]
struct Unwritten {
    first: u64,
    others: VecDeque<u64>,
}

impl Unwritten {
    /// One is not among them any more. Whether there are others.
    fn remove(&mut self, count: u64) -> bool {
        if self.first != count {
            self.others.retain(|other| *other != count);
            return true;
        }
        let next = self.others.pop_front();
        self.first = next.unwrap_or(count);
        next.is_some()
    }
}

impl Decisions {
    /// None, on shard `own` of `shards`. `before`: the last of earlier boots.
    pub fn new(own: usize, shards: usize, before: DecisionNumber) -> Self {
        let before = before.count();
        // Store numbers are the broker's own: nobody can choose some that hash alike.
        let unwritten = HashMap::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        let (open, made) = (VecDeque::new(), vec![before + 1; shards]);
        Decisions { own, before, last: before, open, unwritten, made, awaited: 0, told: before + 1 }
    }

    /// The next one of a session, whose last one this was.
    pub fn give(&mut self, session: StoreNumber, last: DecisionNumber) -> Decision {
        self.last = self.last.max(last.count()) + 1;
        let number = DecisionNumber::new(self.last, self.own as u8);
        self.open.push_back((self.last, UNKNOWN));
        match self.unwritten.entry(session) {
            Entry::Vacant(none) => drop(none.insert(Unwritten { first: self.last, others: VecDeque::new() })),
            Entry::Occupied(mut some) => some.get_mut().others.push_back(self.last),
        }
        Decision { session, number }
    }

    /// One was written, with which there are so many records. `is_elsewhere`: other shards have messages that depend on it.
    pub fn write(&mut self, decision: Decision, records: u64, is_elsewhere: bool) {
        if let Some(at) = self.take_unwritten(decision) {
            self.open[at].1 = records;
        }
        if is_elsewhere {
            self.awaited = self.awaited.max(decision.number.count());
        }
    }

    /// A session goes to another shard, with messages that may depend on any that was given here.
    pub fn go_elsewhere(&mut self) {
        self.awaited = self.last;
    }

    /// One is not made, and nothing depends on it.
    pub fn forget(&mut self, decision: Decision) {
        if let Some(at) = self.take_unwritten(decision) {
            self.open.remove(at);
        }
    }

    /// Takes one out of those that are not written. Gives its place among those that are not known to be on disk.
    fn take_unwritten(&mut self, decision: Decision) -> Option<usize> {
        if let Entry::Occupied(mut some) = self.unwritten.entry(decision.session)
            && !some.get_mut().remove(decision.number.count())
        {
            some.remove();
        }
        self.open.binary_search_by_key(&decision.number.count(), |(count, _)| *count).ok()
    }

    /// Whether a session has decided anything that is not written.
    pub fn is_any_unwritten(&self, session: StoreNumber) -> bool {
        self.first_unwritten(session).is_some()
    }

    fn first_unwritten(&self, session: StoreNumber) -> Option<DecisionNumber> {
        self.unwritten.get(&session).map(|unwritten| DecisionNumber::new(unwritten.first, self.own as u8))
    }

    /// Up to which one all that a session has decided is written, if its last one is this.
    pub fn written(&self, session: StoreNumber, last: DecisionNumber) -> DecisionNumber {
        self.first_unwritten(session).map_or(last, |first| DecisionNumber::from_u64(first.get() - 1))
    }

    /// So many records are on disk.
    pub fn are_committed(&mut self, records: u64) {
        while self.open.front().is_some_and(|(_, written)| *written <= records) {
            self.open.pop_front();
        }
        self.made[self.own] = self.open.front().map_or(self.last + 1, |(count, _)| *count);
    }

    /// All of another shard below this count are on disk.
    pub fn are_made(&mut self, by: usize, below: u64) {
        self.made[by] = below;
    }

    /// Whether this one is on disk.
    pub fn is_made(&self, number: DecisionNumber) -> bool {
        let made = self.made.get(usize::from(number.shard()));
        number.count() <= self.before || made.is_none_or(|made| number.count() < *made)
    }

    /// What all other shards are to be told: those below this count are on disk.
    pub fn next_news(&mut self) -> Option<u64> {
        let made = self.made[self.own];
        if made <= self.told || self.awaited < self.told {
            return None;
        }
        self.told = made;
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: StoreNumber = StoreNumber::new(1, 0, 1);

    #[test]
    fn decisions_are_made_in_order() {
        let mut decisions = Decisions::new(1, 2, DecisionNumber::new(5, 0));
        let none = DecisionNumber::default();
        let [first, second] = [none; 2].map(|last| decisions.give(SESSION, last));
        assert_eq!((first.number.count(), second.number.count(), first.number.shard()), (6, 7, 1));
        assert!(decisions.is_made(DecisionNumber::new(5, 0)), "of an earlier boot");
        assert!(decisions.is_made(DecisionNumber::new(99, 7)), "there is no such shard");
        assert!(!decisions.is_made(DecisionNumber::new(6, 0)));
        assert_eq!(decisions.written(SESSION, second.number).get(), first.number.get() - 1);
        decisions.write(second, 3, true);
        decisions.are_committed(3);
        assert!(!decisions.is_made(second.number), "the first is not");
        assert_eq!(decisions.next_news(), None);
        decisions.write(first, 4, false);
        assert_eq!(decisions.written(SESSION, second.number), second.number);
        decisions.are_committed(4);
        assert!(decisions.is_made(first.number) && decisions.is_made(second.number));
        assert_eq!((decisions.next_news(), decisions.next_news()), (Some(8), None));
        let not_made = decisions.give(SESSION, none);
        decisions.forget(not_made);
        assert_eq!(decisions.written(SESSION, second.number), second.number);
        let third = decisions.give(SESSION, DecisionNumber::new(20, 0));
        assert_eq!(third.number.count(), 21, "its session has come with others");
        decisions.write(third, 5, false);
        decisions.are_committed(5);
        assert_eq!(decisions.next_news(), None, "nobody waits for it");
        decisions.go_elsewhere();
        assert_eq!((decisions.next_news(), decisions.next_news()), (Some(22), None));
        decisions.are_made(0, 9);
        assert!(decisions.is_made(DecisionNumber::new(8, 0)) && !decisions.is_made(DecisionNumber::new(9, 0)));
    }
}
