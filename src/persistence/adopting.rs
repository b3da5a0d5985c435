//! Sessions that have come from other shards, and those that are to be stored from now on: all that belongs to one is recorded under its new number, in
//! portions if that is much, and counts from the last of these records on. Until that is on disk the old one counts, or none; so nobody is told of
//! anything before.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use super::answers::Awaited;
use super::commits::Durability;
use super::on_disk::OnDisk;
use super::rewriting::Cursor;
use crate::session::StoreNumber;

/// A session that has come, or was not stored before, and is being recorded.
#[derive(Debug)]
pub struct Adoption {
    /// Its number here.
    pub number: StoreNumber,
    /// Its place in the table, and its instance number.
    pub session: (u32, u64),
    /// Where it came from, and by which token; none if it was here, and not stored.
    pub from: Option<(usize, u64)>,
    /// What is recorded next; [`Cursor::End`] if all is but the last record, which says that it is whole.
    pub at: Cursor,
    /// What has to be on disk before that.
    after: Awaited,
}

impl Adoption {
    /// Of the session at this place, with this instance number, which has come from another shard by a token, or was here and not stored. Nothing is
    /// recorded yet.
    pub fn new(number: StoreNumber, session: (u32, u64), from: Option<(usize, u64)>) -> Self {
        Adoption { number, session, from, at: Cursor::Session(session.0), after: Awaited::default() }
    }

    /// It is not whole before these letters are on disk where they went.
    pub(super) fn behind(self, letters: SmallVec<[(usize, u64); 2]>) -> Self {
        Adoption { after: Awaited { letters, ..self.after }, ..self }
    }

    /// Whether it waits for the disks of others alone.
    fn waits(&self, on_disk: &OnDisk) -> bool {
        matches!(self.at, Cursor::End) && !self.after.is_there(Durability::Fsynced, on_disk)
    }
}

#[derive(Debug, Default)]
pub(super) struct Adoptions {
    under_way: VecDeque<Adoption>,
    /// Which numbers those that have come had before. It is said as often as they are recorded: so it is known for as long as anything is recorded of
    /// the old ones.
    replaced: BTreeMap<StoreNumber, StoreNumber>,
    /// With so many records all that came is whole, or is stored from now on; and all that came.
    whole: u64,
    moves_whole: u64,
}

impl Adoptions {
    pub fn begin(&mut self, adoption: Adoption, before: Option<StoreNumber>) {
        self.replaced.extend(before.map(|before| (adoption.number, before)));
        self.under_way.push_back(adoption);
    }

    /// The one of which something is being recorded.
    pub fn first(&mut self) -> Option<&mut Adoption> {
        self.under_way.front_mut()
    }

    /// The one whose turn it is: the first that does not wait for others alone.
    pub fn next(&mut self, on_disk: &OnDisk) -> Option<&mut Adoption> {
        let at = self.under_way.iter().position(|adoption| !adoption.waits(on_disk))?;
        self.put_in_front(at);
        self.first()
    }

    fn put_in_front(&mut self, at: usize) {
        if at > 0
            && let Some(adoption) = self.under_way.remove(at)
        {
            self.under_way.push_front(adoption);
        }
    }

    /// It is the turn of that at this place in the table, if that is under way. One that waits for others alone is given up: it is not to be whole.
    pub fn put_first(&mut self, session: (u32, u64), on_disk: &OnDisk) -> bool {
        let Some(at) = self.under_way.iter().position(|adoption| adoption.session == session) else { return false };
        if self.under_way[at].waits(on_disk) {
            self.under_way.remove(at);
            return false;
        }
        self.put_in_front(at);
        true
    }

    /// The first one is recorded but for its last record, which says that it is whole. None if that has to wait.
    pub fn take_first(&mut self, on_disk: &OnDisk) -> Option<Adoption> {
        let first = self.under_way.front_mut()?;
        first.at = Cursor::End;
        if first.waits(on_disk) { None } else { self.under_way.pop_front() }
    }

    /// Whether the last record of one waits no more.
    pub fn is_any_due(&self, on_disk: &OnDisk) -> bool {
        let is_due = |adoption: &Adoption| matches!(adoption.at, Cursor::End) && !adoption.waits(on_disk);
        self.under_way.iter().any(is_due)
    }

    /// One is recorded, with which there are so many records; `has_come`: from another shard.
    pub fn end(&mut self, records: u64, has_come: bool) {
        self.whole = records;
        if has_come {
            self.moves_whole = records;
        }
    }

    /// Whether there is more to be recorded of any than its last record.
    pub fn is_any_being_recorded(&self) -> bool {
        self.under_way.iter().any(|adoption| !matches!(adoption.at, Cursor::End))
    }

    /// What a session replaces, and whether not all of it is recorded.
    pub fn of(&self, number: StoreNumber) -> (Option<StoreNumber>, bool) {
        let is_under_way = self.under_way.iter().any(|adoption| adoption.number == number);
        (self.before(number), is_under_way)
    }

    /// What a session replaces.
    pub fn before(&self, number: StoreNumber) -> Option<StoreNumber> {
        self.replaced.get(&number).copied()
    }

    /// The session has ended, or gone on.
    pub fn forget(&mut self, number: StoreNumber) {
        self.replaced.remove(&number);
    }

    /// Whether what is recorded counts, when so many records are on disk.
    pub fn are_whole(&self, committed: u64) -> bool {
        self.under_way.is_empty() && self.whole <= committed
    }

    /// The same, but for sessions that are to be stored from now on: nobody else is promised anything of those.
    pub fn are_moves_whole(&self, committed: u64) -> bool {
        self.under_way.iter().all(|adoption| adoption.from.is_none()) && self.moves_whole <= committed
    }
}
