//! What has gone to another shard and has to be on disk there: each such thing has a token, and its receiver answers with it. Letters are counted
//! instead, but of those a later one is not told before an earlier one: who waits in turn for others would wait for itself.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

/// Tokens of things that went to others, and those that are owed to others.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Those that are not answered.
    open: BTreeSet<u64>,
    /// Those among them of messages that came from another shard, whose letters are not done before.
    passed_on: BTreeSet<u64>,
    /// The last of these that there was.
    last_passed_on: u64,
    /// To be answered: what came since the last turn.
    new: Vec<Owed>,
    /// Likewise, and how many messages in portions had been begun by then.
    in_portions: VecDeque<(u64, Owed)>,
    owed: VecDeque<Owed>,
}

/// An answer that is owed.
#[derive(Clone, Debug)]
struct Owed {
    to: usize,
    token: u64,
    /// When so many records are on disk.
    records: u64,
    /// And what was passed on for it, from which token up to which: not all that was, or two shards that pass on would wait for each other.
    passed_on: RangeInclusive<u64>,
}

impl Elsewhere {
    /// Something has gone.
    pub fn send(&mut self, token: u64) {
        self.open.insert(token);
    }

    /// A message that came from another shard has gone on to a third one.
    pub fn pass_on(&mut self, token: u64) {
        self.open.insert(token);
        self.passed_on.insert(token);
        self.last_passed_on = token;
    }

    /// It is on disk where it has gone.
    pub fn is_stored(&mut self, token: u64) {
        self.open.remove(&token);
        self.passed_on.remove(&token);
    }

    pub fn is_open(&self, token: u64) -> bool {
        self.open.contains(&token)
    }

    /// The last token of a message that was passed on.
    pub fn last_passed_on(&self) -> u64 {
        self.last_passed_on
    }

    /// Whether all messages that were passed on by these tokens are on disk where they went.
    pub fn are_passed_on(&self, tokens: RangeInclusive<u64>) -> bool {
        tokens.is_empty() || self.passed_on.range(tokens).next().is_none()
    }

    /// A message has come with this token, and was delivered as far as that is done at once. Since this token, messages were passed on for it.
    pub fn owe(&mut self, to: usize, token: u64, since: u64) {
        self.new.push(Owed { to, token, records: 0, passed_on: since + 1..=self.last_passed_on });
    }

    /// Something that has come with this token is on disk with so many records.
    pub fn owe_at(&mut self, to: usize, token: u64, records: u64) {
        self.owed.push_back(Owed { to, token, records, passed_on: 0..=0 });
    }

    /// As [`Letters::end_turn`](super::letters::Letters::end_turn).
    pub fn end_turn(&mut self, records: u64, (begun, done): (u64, u64)) {
        self.in_portions.extend(self.new.drain(..).map(|one| (begun, one)));
        while self.in_portions.front().is_some_and(|(begun, _)| *begun <= done)
            && let Some((_, owed)) = self.in_portions.pop_front()
        {
            self.owed.push_back(Owed { records, ..owed });
        }
    }

    /// The next answer, when so many records are on disk: to which shard, and the token.
    pub fn next_answer(&mut self, committed: u64) -> Option<(usize, u64)> {
        let is_due = |owed: &Owed| owed.records <= committed && self.are_passed_on(owed.passed_on.clone());
        let at = self.owed.iter().position(is_due)?;
        self.owed.remove(at).map(|owed| (owed.to, owed.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What came is told when it is on disk, and what was passed on for it is where it went; whatever else was passed on.
    #[test]
    fn what_came_waits_for_what_was_passed_on_for_it_alone() {
        let mut elsewhere = Elsewhere::default();
        elsewhere.pass_on(3);
        let before = elsewhere.last_passed_on();
        elsewhere.owe(1, 100, before);
        elsewhere.pass_on(7);
        elsewhere.owe(2, 200, before);
        elsewhere.end_turn(5, (1, 0));
        assert_eq!(elsewhere.next_answer(9), None, "it is being delivered in portions");
        elsewhere.end_turn(5, (1, 1));
        assert_eq!(elsewhere.next_answer(4), None, "it is not on disk");
        assert_eq!((elsewhere.next_answer(5), elsewhere.next_answer(5)), (Some((1, 100)), None));
        elsewhere.is_stored(7);
        assert_eq!(elsewhere.next_answer(5), Some((2, 200)), "the other one is not its own");
        assert!(!elsewhere.are_passed_on(0..=7) && elsewhere.is_open(3));
        elsewhere.owe_at(0, 300, 6);
        assert_eq!((elsewhere.next_answer(5), elsewhere.next_answer(6)), (None, Some((0, 300))));
    }
}
