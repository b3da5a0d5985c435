//! Questions to this shard as the owner of topics, until they can be answered.

use std::collections::{BTreeMap, VecDeque};

use super::page::RetainedQuestion;

/// A question, and who asks.
pub(super) struct Asked {
    /// The shard that asks; perhaps this one.
    pub from: usize,
    /// The mountpoint, by its number here.
    pub mountpoint: u32,
    pub question: RetainedQuestion,
}

/// Questions that wait.
pub(super) struct Questions {
    /// Those that can be answered, in order.
    ready: VecDeque<Asked>,
    /// For each shard, those that wait until so many of its messages are applied.
    waiting: Vec<BTreeMap<(u64, u64), Asked>>,
    /// How many have come.
    count: u64,
}

impl Questions {
    /// None, on one of so many shards.
    pub fn new(shards: usize) -> Self {
        Questions { ready: VecDeque::new(), waiting: (0..shards).map(|_| BTreeMap::new()).collect(), count: 0 }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ready.len() + self.waiting.iter().map(BTreeMap::len).sum::<usize>()
    }

    /// A question has come. `applied` says how many messages of each shard were applied by now.
    pub fn add(&mut self, asked: Asked, applied: &[u64]) {
        self.count += 1;
        self.file(self.count, asked, applied);
    }

    /// One more message of `shard` was applied.
    pub fn applied(&mut self, shard: usize, applied: &[u64]) {
        while let Some(entry) = self.waiting[shard].first_entry().filter(|entry| entry.key().0 <= applied[shard]) {
            let ((_, number), asked) = entry.remove_entry();
            self.file(number, asked, applied);
        }
    }

    /// Whether one can be answered.
    pub fn is_any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next that can be answered.
    pub fn next(&mut self) -> Option<Asked> {
        self.ready.pop_front()
    }

    /// Puts a question where the first shard is waited for of which not enough was applied.
    fn file(&mut self, number: u64, asked: Asked, applied: &[u64]) {
        let after = asked.question.after.iter().zip(applied);
        match after.enumerate().find(|(_, (after, applied))| after > applied) {
            Some((shard, (after, _))) => drop(self.waiting[shard].insert((*after, number), asked)),
            None => self.ready.push_back(asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::topic::FilterSet;

    fn asked(token: u64, after: [u64; 2]) -> Asked {
        let filters = Arc::new(FilterSet::new(Vec::new()));
        let (from, sent) = ("".into(), Arc::from([0, 0]));
        let question = RetainedQuestion { token, mountpoint: "".into(), filters, from, sent, after: after.into() };
        Asked { from: 1, mountpoint: 0, question }
    }

    fn ready(questions: &mut Questions) -> Vec<u64> {
        std::iter::from_fn(|| questions.next()).map(|asked| asked.question.token).collect()
    }

    #[test]
    fn a_question_waits_until_enough_of_every_shard_was_applied() {
        let mut questions = Questions::new(2);
        for (token, after) in [(1, [2, 2]), (2, [0, 0]), (3, [1, 0]), (4, [2, 0])] {
            questions.add(asked(token, after), &[0, 0]);
        }
        assert!(questions.is_any_ready() && questions.len() == 4);
        assert_eq!(ready(&mut questions), [2]);
        questions.applied(0, &[1, 0]);
        assert_eq!(ready(&mut questions), [3]);
        questions.applied(0, &[2, 0]);
        assert_eq!(ready(&mut questions), [4], "the first waits for the other shard now");
        questions.applied(1, &[2, 1]);
        assert!(!questions.is_any_ready());
        questions.applied(1, &[2, 2]);
        assert_eq!((ready(&mut questions), questions.len()), (vec![1], 0));
    }
}
