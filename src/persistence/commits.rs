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
    /// Of so many, those that are to survive a loss of power do, and the others the end of the process: nobody who waits for those is promised more.
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
    /// Marks that are not on disk as they are to be, each with how many records there were when the last one got it, and whether any of these is to
    /// survive a loss of power.
    marks: VecDeque<(Mark, u64, bool)>,
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

    /// The journal has taken one more, with this mark; whether it is to survive a loss of power.
    pub fn take(&mut self, mark: Mark, is_to_be_synced: bool) {
        self.taken += 1;
        self.last = Some(mark);
        match self.marks.back_mut() {
            Some((last, count, is_any)) if *last == mark => (*count, *is_any) = (self.taken, *is_any | is_to_be_synced),
            _ => self.marks.push_back((mark, self.taken, is_to_be_synced)),
        }
    }

    /// The journal has come so far.
    pub fn follow(&mut self, flushed: Mark, fsynced: Mark) {
        let written = self.marks.partition_point(|(one, ..)| *one <= flushed);
        if let Some(last) = written.checked_sub(1) {
            self.committed.flushed = self.marks[last].1;
        }
        let is_as_it_is_to_be = |(mark, _, is_any): &(Mark, u64, bool)| *mark <= fsynced || *mark <= flushed && !is_any;
        while let Some((_, count, _)) = self.marks.front().copied().filter(is_as_it_is_to_be) {
            self.committed.fsynced = count;
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Class, Journal, Recovered, Settings, StoreId};

    /// Marks of a journal, one for each of these records.
    fn marks<const MANY: usize>() -> [Mark; MANY] {
        let settings = Settings { frame_bytes: 4096, buffer_bytes: 1 << 20, ..Settings::new(StoreId([1; 16]), 0) };
        let mut journal = Journal::new(settings.check().expect("they hold"), Recovered::nothing(), 1).expect("numbers");
        while let Some(crate::journal::Effect::Prepare(preparation)) = journal.next_effect(Default::default()) {
            journal.prepared(preparation.file, Ok(()), Default::default());
        }
        [(); MANY].map(|()| journal.append(Class::Ordinary, 1, &[&[0; 3000]]).expect("there is room"))
    }

    fn committed(commits: &Commits) -> (u64, u64) {
        (commits.committed().flushed, commits.committed().fsynced)
    }

    #[test]
    fn nobody_waits_for_a_sync_of_what_is_not_to_be_synced() {
        let ([one, two, three, four], mut commits) = (marks(), Commits::default());
        commits.take(one, false);
        commits.take(two, true);
        commits.take(three, false);
        commits.follow(one, Mark::default());
        assert_eq!(committed(&commits), (1, 1));
        commits.follow(three, Mark::default());
        assert_eq!(committed(&commits), (3, 1), "the second is not synced");
        commits.take(four, false);
        commits.follow(three, two);
        assert_eq!(committed(&commits), (3, 3));
        commits.follow(four, two);
        assert_eq!(committed(&commits), (4, 4));
        assert!(commits.marks.is_empty());
    }

    #[test]
    fn one_record_of_a_commit_is_enough_to_have_it_synced() {
        let ([one, two], mut commits) = (marks(), Commits::default());
        [false, true, false].into_iter().for_each(|is| commits.take(one, is));
        commits.take(two, true);
        commits.follow(one, Mark::default());
        assert_eq!(committed(&commits), (3, 0));
        commits.follow(two, two);
        assert_eq!(committed(&commits), (4, 4));
    }
}
