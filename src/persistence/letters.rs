//! Letters between shards that lead to records: publications, and messages to be retained. Who has sent them is told how many of them are on
//! disk with all that followed from them.
//!
//! Letters of one shard to another arrive in order, so both sides count them, and no letter has a number.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::commits::Committed;
use super::elsewhere::Elsewhere;

/// Letters that have come from one shard.
#[derive(Debug, Default)]
struct From {
    /// How many have come.
    came: u64,
    /// How many of them are delivered, as far as that was looked at.
    delivered: u64,
    /// So many letters, and how many messages in portions had been begun when they had come: they are delivered when those are.
    in_portions: VecDeque<(u64, u64)>,
    /// So many letters are delivered; how many records there were then, and the last token by which one was passed on.
    recorded: VecDeque<(u64, u64, u64)>,
    /// What its sender knows.
    told: Committed,
}

impl From {
    /// Whether its sender does not know all that it will be told.
    fn is_any_new(&self) -> bool {
        self.came > self.told.flushed.min(self.told.fsynced)
    }
}

/// Letters that lead to records, of a shard and of the others.
#[derive(Debug)]
pub(super) struct Letters {
    /// By shard: how many were sent there.
    sent: Vec<u64>,
    /// By shard: how many of them are on disk there.
    committed: Vec<Committed>,
    from: Vec<From>,
    /// Whether letters have come that are not known to be delivered, or to be told of.
    is_any_new: bool,
}

impl Letters {
    /// None, of one of so many shards.
    pub fn new(shards: usize) -> Self {
        Letters {
            sent: vec![0; shards],
            committed: vec![Committed::default(); shards],
            from: std::iter::repeat_with(From::default).take(shards).collect(),
            is_any_new: false,
        }
    }

    /// One more is sent.
    pub fn send(&mut self, to: usize) {
        self.sent[to] += 1;
    }

    /// So many were sent in all.
    pub fn sent(&mut self, to: usize, sent: u64) {
        self.sent[to] = sent;
    }

    /// By shard with such letters, how many were sent there.
    pub fn all_open(&self) -> SmallVec<[(usize, u64); 2]> {
        (0..self.sent.len()).filter_map(|shard| Some((shard, self.open(shard)?))).collect()
    }

    /// How many were sent to this shard, if not all of them are known to be on disk there.
    pub fn open(&self, to: usize) -> Option<u64> {
        let sent = self.sent[to];
        (self.committed[to].flushed.min(self.committed[to].fsynced) < sent).then_some(sent)
    }

    /// By shard: how many of the letters there are on disk.
    pub fn committed(&self) -> &[Committed] {
        &self.committed
    }

    /// A shard says how many are on disk there.
    pub fn are_committed(&mut self, by: usize, committed: Committed) {
        self.committed[by] = committed;
    }

    /// One has come, and was delivered as far as that is done at once.
    pub fn come(&mut self, from: usize) {
        self.from[from].came += 1;
        self.is_any_new = true;
    }

    /// A turn is over, with so many records; and so many messages in portions had been begun, of which so many are done. Of the letters that
    /// have come, those are delivered that were before them.
    pub fn end_turn(&mut self, records: u64, passed_on: u64, (begun, done): (u64, u64)) {
        if !self.is_any_new {
            return;
        }
        for from in &mut self.from {
            if from.in_portions.back().map_or(from.delivered, |(letters, _)| *letters) < from.came {
                from.in_portions.push_back((from.came, begun));
            }
            let mut delivered = None;
            while from.in_portions.front().is_some_and(|(_, begun)| *begun <= done) {
                delivered = from.in_portions.pop_front();
            }
            if let Some((letters, _)) = delivered {
                from.delivered = letters;
                from.recorded.push_back((letters, records, passed_on));
            }
        }
    }

    /// So much is on disk here, and of what was passed on elsewhere: what the next shard is to be told that does not know it.
    pub fn next_news(&mut self, committed: Committed, elsewhere: &Elsewhere) -> Option<(usize, Committed)> {
        if !self.is_any_new {
            return None;
        }
        let news = self.from.iter_mut().enumerate().find_map(|(shard, from)| {
            let (mut news, mut on_disk) = (from.told, 0);
            for (letters, records, passed_on) in &from.recorded {
                // Records are counted up: what follows is not on disk either. There may be much of it, and this is asked for after every input.
                let is_on_disk = *records <= committed.flushed.max(committed.fsynced);
                if !is_on_disk || !elsewhere.are_passed_on(0..=*passed_on) {
                    break;
                }
                if *records <= committed.flushed {
                    news.flushed = *letters;
                }
                if *records <= committed.fsynced {
                    news.fsynced = *letters;
                }
                on_disk += 1;
            }
            // The last of them is enough to tell what is synced later; without syncs that is never.
            from.recorded.drain(..usize::saturating_sub(on_disk, 1));
            if from.recorded.front().is_some_and(|(letters, ..)| *letters <= news.fsynced.min(news.flushed)) {
                from.recorded.pop_front();
            }
            if news == from.told {
                return None;
            }
            from.told = news;
            Some((shard, news))
        });
        self.is_any_new = news.is_some() || self.from.iter().any(From::is_any_new);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each letter with a record of its own, of which so many are on disk.
    fn come(letters: &mut Letters, records: std::ops::Range<u64>) {
        for records in records {
            letters.come(1);
            letters.end_turn(records + 1, 0, (0, 0));
        }
    }

    #[test]
    fn what_is_never_synced_is_told_when_it_is_written_and_does_not_pile_up() {
        let (mut letters, elsewhere) = (Letters::new(2), Elsewhere::default());
        for round in 0..100 {
            come(&mut letters, 10 * round..10 * (round + 1));
            let written = Committed { flushed: 10 * round + 7, fsynced: 0 };
            assert_eq!(letters.next_news(written, &elsewhere), Some((1, written)));
            assert_eq!(letters.next_news(written, &elsewhere), None);
            assert!(letters.from[1].recorded.len() <= 4, "the last that is written, and what is not");
        }
    }

    #[test]
    fn what_is_synced_after_it_was_written_is_told_twice() {
        let (mut letters, elsewhere) = (Letters::new(2), Elsewhere::default());
        come(&mut letters, 0..10);
        for (flushed, fsynced) in [(4, 0), (4, 4), (10, 4), (10, 10)] {
            let committed = Committed { flushed, fsynced };
            assert_eq!(letters.next_news(committed, &elsewhere), Some((1, committed)));
            assert_eq!(letters.next_news(committed, &elsewhere), None);
        }
        assert!(letters.from[1].recorded.is_empty() && !letters.is_any_new);
    }
}
