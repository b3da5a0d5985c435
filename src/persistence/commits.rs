//! Which of the records of a shard are on disk.

use std::collections::VecDeque;

use crate::journal::Mark;

/// How many records there will be is not known yet: more are to come for the same.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// How many records are on disk, in either sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// So many survive the end of the process.
    pub flushed: u64,
    /// So many survive a loss of power.
    pub fsynced: u64,
}

impl Committed {
    /// How many are on disk in the sense that a client waits for.
    pub fn of(&self, durability: Durability) -> u64 {
        match durability {
            Durability::Fsynced => self.fsynced,
            Durability::Flushed => self.flushed,
        }
    }
}

/// What acknowledgements wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// What is acknowledged survives the end of the process.
    Flushed,
    /// What is acknowledged survives a loss of power.
    Fsynced,
}

/// Counts records, and follows the journal as it commits them.
#[derive(Debug, Default)]
pub(super) struct Commits {
    /// How many records the journal has taken.
    taken: u64,
    /// Marks that are not fsynced, each with how many records there were when the last one got it.
    marks: VecDeque<(Mark, u64)>,
    committed: Committed,
    last: Option<Mark>,
}

impl Commits {
    /// How many records the journal has taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The mark of the last one.
    pub fn last_mark(&self) -> Option<Mark> {
        self.last
    }

    /// How many of them are on disk.
    pub fn committed(&self) -> Committed {
        self.committed
    }

    /// The journal has taken one more, with this mark.
    pub fn take(&mut self, mark: Mark) {
        self.taken += 1;
        self.last = Some(mark);
        match self.marks.back_mut() {
            Some((last, count)) if *last == mark => *count = self.taken,
            _ => self.marks.push_back((mark, self.taken)),
        }
    }

    /// The journal has come so far.
    pub fn follow(&mut self, flushed: Mark, fsynced: Mark) {
        let up_to = |mark: Mark| {
            let behind = self.marks.partition_point(|(one, _)| *one <= mark);
            behind.checked_sub(1).map(|last| self.marks[last].1)
        };
        let Committed { flushed: written, fsynced: synced } = self.committed;
        self.committed = Committed {
            flushed: up_to(flushed).map_or(written, |count| count.max(written)),
            fsynced: up_to(fsynced).map_or(synced, |count| count.max(synced)),
        };
        while self.marks.front().is_some_and(|(mark, _)| *mark <= fsynced) {
            self.marks.pop_front();
        }
        // Without syncs nothing is ever fsynced: only the last mark is needed then.
        while self.marks.len() > 1 && self.marks[1].0 <= flushed {
            self.marks.pop_front();
        }
    }
}
