//! Sessions that have come from other shards, and those that are to be stored from now on: all that belongs to one is recorded under its new number, in
//! portions if that is much, and counts from the last of these records on. Until that is on disk the old one counts, or none; so nobody is told of
//! anything before.

use std::collections::{BTreeMap, VecDeque};

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
    /// What is recorded next.
    pub at: Cursor,
}

#[derive(Debug, Default)]
pub(super) struct Adoptions {
    under_way: VecDeque<Adoption>,
    /// Which numbers those that have come had before. It is said as often as they are recorded: so it is known for as long as anything is recorded of
    /// the old ones.
    replaced: BTreeMap<StoreNumber, StoreNumber>,
    /// With so many records all that came is whole.
    whole: u64,
}

impl Adoptions {
    pub fn begin(&mut self, adoption: Adoption, before: Option<StoreNumber>) {
        self.replaced.extend(before.map(|before| (adoption.number, before)));
        self.under_way.push_back(adoption);
    }

    /// The one whose turn it is.
    pub fn first(&mut self) -> Option<&mut Adoption> {
        self.under_way.front_mut()
    }

    /// It is the turn of that at this place in the table, if that is under way.
    pub fn put_first(&mut self, session: (u32, u64)) -> bool {
        let at = self.under_way.iter().position(|adoption| adoption.session == session);
        let adoption = at.and_then(|at| self.under_way.remove(at));
        let is_there = adoption.is_some();
        adoption.into_iter().for_each(|adoption| self.under_way.push_front(adoption));
        is_there
    }

    /// The first one is recorded but for its last record, which says that it is whole.
    pub fn take_first(&mut self) -> Option<Adoption> {
        self.under_way.pop_front()
    }

    /// One is recorded, with which there are so many records.
    pub fn end(&mut self, records: u64) {
        self.whole = records;
    }

    /// Whether any is under way.
    pub fn is_any_under_way(&self) -> bool {
        !self.under_way.is_empty()
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
}
