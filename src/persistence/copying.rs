//! A copy of the store while it is used: where the journal of this shard is cut for it.
//!
//! All shards cut theirs for one copy, so that the cuts are those of a moment that could have been: when one shard has cut, no other one hears anything
//! of it before it has, too. So whatever is in one journal of the copy because of something on the disk of another shard, that is in the copy as well;
//! and the copy is what the end of the broker could have left.
//!
//! What the archive has is copied as it was before the first of the cuts, and it persists nothing until the last one is made: so nothing in a journal
//! of the copy relies on a page that the copy of the archive has not, or has forgotten.

use super::Persistence;
use super::cutting::{Cutting, Stage};
use crate::journal::Piece;

impl Persistence {
    /// All that is recorded by now is in the copy with this number, and nothing of what is recorded from here on. False if that was said before, or the
    /// copy is not wanted any more.
    pub fn cut(&mut self, number: u64) -> bool {
        if number <= self.cutting.number {
            return false;
        }
        // An earlier copy is not wanted any more.
        self.setup.journal.let_go();
        self.setup.journal.hold();
        self.cutting = Cutting { number, stage: Stage::Waiting(self.recorded()) };
        self.cut_journal();
        true
    }

    /// The number and the pieces of a copy, once, when all that it has is on disk.
    pub fn next_cut(&mut self) -> Option<(u64, Vec<Piece>)> {
        let is_on_disk = matches!(self.cutting.stage, Stage::Cut(records, _) if self.on_disk.records() >= records);
        match is_on_disk.then(|| std::mem::replace(&mut self.cutting.stage, Stage::Held))? {
            Stage::Cut(_, pieces) => Some((self.cutting.number, pieces)),
            _ => None,
        }
    }

    /// The copy with this number is made, or is not wanted any more: no earlier one is, either.
    pub fn end_cut(&mut self, number: u64) {
        if number >= self.cutting.number {
            self.cutting = Cutting { number, stage: Stage::Idle };
            self.setup.journal.let_go();
        }
    }
}
