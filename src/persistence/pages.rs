//! Changes of the archive that a shard wants, until they are persisted, and pages that it has read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::archive::{
    Answer, ArchiveError, ArchiveKey, Batch, Change, Limits, Order, Orders, PAGE_BYTES, Read, ReadResult, Ticket,
    Trouble,
};
use crate::session::{Key, PageKeys, StoreNumber};

/// A batch is closed when it has so many bytes.
const BATCH: usize = 256 << 10;
/// After the archive had no room, it is tried again so much later.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How queues get into the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paging {
    /// How much of a shard may be under way to the archive.
    pub limits: Limits,
    /// Queues with fewer bytes than that are written to the journal again, as long as they are few.
    pub least: usize,
    /// So many bytes a page has at most, but for one with a single larger message.
    pub page_bytes: usize,
    /// When about so many bytes wait in memory for sessions of the shard, queues are moved to the archive, however much room the journal has.
    pub memory: usize,
    /// Queues with fewer bytes stay in memory then: a page would take as much.
    pub least_moved: usize,
}

impl Default for Paging {
    fn default() -> Self {
        Paging { limits: Limits::default(), least: 8 << 10, page_bytes: PAGE_BYTES, memory: 32 << 20, least_moved: 512 }
    }
}

/// A page of a session: by the place of that in the table and its instance number, and the first key of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageOf {
    /// The session.
    pub session: (u32, u64),
    /// The page.
    pub first: Key,
}

/// What has become of pages.
#[derive(Debug)]
pub enum PageNews {
    /// One was put into the archive, and is persisted.
    Persisted(PageOf),
    /// One was read, or is not there, or its value is damaged. If the archive could not say that, it has failed, and this does not come.
    Read(PageOf, ReadResult),
}

/// Changes that go to the archive together.
#[derive(Debug, Default)]
struct Changes {
    batch: Batch,
    /// Pages that are put with it.
    pages: Vec<PageOf>,
    /// Pages that are deleted with it: the number under which one is, and its first key.
    deleted: Vec<(StoreNumber, Key)>,
    /// Its number, once it is closed.
    number: u64,
}

/// They.
#[derive(Debug)]
pub(super) struct Pages {
    how: Paging,
    orders: Orders,
    /// Pages that are to be put, and behind them what is to be deleted: apart, since that goes on when there is no room.
    gathered: Changes,
    deletions: Changes,
    /// Pages that are deleted, and that this is not persisted of, by the numbers under which they are: the archive may have them still.
    deleting: BTreeMap<StoreNumber, VecDeque<PageKeys>>,
    /// They go to the archive when so many records are on disk: it is never to know more than the journals.
    waiting: VecDeque<(u64, Changes)>,
    waiting_bytes: usize,
    under_way: VecDeque<(Ticket, Changes)>,
    /// How many batches were closed.
    closed: u64,
    /// Reads by their tags.
    reads: BTreeMap<u64, PageOf>,
    last_tag: u64,
    /// Those that the desk was not asked for yet.
    to_read: VecDeque<(u64, Read)>,
    news: VecDeque<PageNews>,
    /// When it is tried again to write, if there was no room.
    again: Option<Duration>,
    /// That has been said since something was persisted.
    is_refusal_told: bool,
    failure: Option<ArchiveError>,
    /// Sessions that end, and under which numbers they have pages: these are deleted when that is recorded.
    ending: BTreeMap<StoreNumber, StoreNumber>,
}

impl Pages {
    pub fn new(shard: usize, how: Paging) -> Self {
        Pages {
            how,
            orders: Orders::new(shard as u32, how.limits),
            gathered: Changes::default(),
            deletions: Changes::default(),
            deleting: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            under_way: VecDeque::new(),
            closed: 0,
            reads: BTreeMap::new(),
            last_tag: 0,
            to_read: VecDeque::new(),
            news: VecDeque::new(),
            again: None,
            is_refusal_told: false,
            failure: None,
            ending: BTreeMap::new(),
        }
    }

    /// How queues get into the archive.
    pub fn how(&self) -> Paging {
        self.how
    }

    /// Whether more pages may be put now.
    pub fn has_room(&self) -> bool {
        self.gathered.batch.bytes() + self.waiting_bytes + self.orders.bytes() < self.how.limits.bytes / 2
    }

    /// Whether the archive has no room.
    pub fn is_refused(&self) -> bool {
        self.again.is_some() || self.is_refusal_told
    }

    /// The largest message that a page may have, in bytes.
    pub fn largest(&self) -> usize {
        self.how.limits.bytes / 4
    }

    /// A page is put, and what is known of it beside it.
    pub fn put(&mut self, id: StoreNumber, page: PageOf, summary: Vec<u8>, value: Vec<u8>) {
        self.gathered.batch.put_page(id, page.first, summary, value);
        self.gathered.pages.push(page);
    }

    /// A page is deleted.
    pub fn delete(&mut self, id: StoreNumber, keys: PageKeys) {
        self.deletions.batch.delete_page(id, keys.first());
        self.deletions.deleted.push((id, keys.first()));
        self.deleting.entry(id).or_default().push_back(keys);
    }

    /// Pages under a number that are deleted, and may still be in the archive.
    pub fn deleting(&self, id: StoreNumber) -> impl Iterator<Item = &PageKeys> {
        self.deleting.get(&id).into_iter().flatten()
    }

    /// All pages under a number are deleted.
    pub fn delete_all(&mut self, id: StoreNumber) {
        self.deletions.batch.delete_session(id);
    }

    /// What was gathered has to wait until so many records are on disk. With `is_enough`, only if there is much of it.
    pub fn close(&mut self, records: u64, is_enough: bool) {
        if is_enough && self.gathered.batch.bytes() + self.deletions.batch.bytes() < BATCH {
            return;
        }
        for changes in [std::mem::take(&mut self.gathered), std::mem::take(&mut self.deletions)] {
            if !changes.batch.is_empty() {
                self.closed += 1;
                self.waiting_bytes += changes.batch.bytes();
                self.waiting.push_back((records, Changes { number: self.closed, ..changes }));
            }
        }
    }

    /// The number of the batch that was closed last.
    pub fn last_closed(&self) -> u64 {
        self.closed
    }

    /// Whether all batches up to that with this number are persisted. They need not be in order: what deletes may overtake what has no room.
    pub fn are_persisted(&self, up_to: u64) -> bool {
        let waiting = self.waiting.iter().map(|(_, changes)| changes.number);
        let mut all = waiting.chain(self.under_way.iter().map(|(_, changes)| changes.number));
        all.all(|number| number > up_to)
    }

    /// Whether nothing is under way.
    pub fn is_settled(&self) -> bool {
        let is_any_gathered = !self.gathered.batch.is_empty() || !self.deletions.batch.is_empty();
        !is_any_gathered && self.are_persisted(self.closed)
    }

    /// A page is to be read.
    pub fn read(&mut self, id: StoreNumber, page: PageOf) {
        self.last_tag += 1;
        self.reads.insert(self.last_tag, page);
        self.to_read.push_back((self.last_tag, Read::of(ArchiveKey::Page(id, page.first))));
    }

    /// What the desk is to be given now, if so many records are on disk.
    pub fn next_order(&mut self, on_disk: u64) -> Option<Order> {
        if let Some((tag, read)) = self.to_read.front()
            && let Ok(order) = self.orders.read(*tag, read.clone())
        {
            self.to_read.pop_front();
            return Some(order);
        }
        if self.again.is_some() {
            return None;
        }
        let (_, changes) = self.waiting.front().filter(|(records, _)| *records <= on_disk)?;
        let (ticket, order) = self.orders.write(changes.batch.clone()).ok()?;
        let (_, changes) = self.waiting.pop_front()?;
        self.waiting_bytes -= changes.batch.bytes();
        self.under_way.push_back((ticket, changes));
        Some(order)
    }

    /// The desk has answered.
    pub fn answered(&mut self, answer: Answer, now: Duration) {
        self.orders.answered(&answer);
        match answer {
            Answer::Persisted(up_to) => {
                self.is_refusal_told = false;
                let count = self.under_way.partition_point(|(ticket, _)| *ticket <= up_to);
                for (_, changes) in self.under_way.drain(..count) {
                    self.news.extend(changes.pages.into_iter().map(PageNews::Persisted));
                    for (id, first) in changes.deleted {
                        is_deleted(&mut self.deleting, id, first);
                    }
                }
            }
            Answer::Refused { from, error } => {
                if !std::mem::replace(&mut self.is_refusal_told, true) {
                    tracing::warn!("storage: {error}; until then who publishes may have to wait");
                }
                let count = self.under_way.partition_point(|(ticket, _)| *ticket < from);
                for (_, changes) in self.under_way.drain(count..).rev() {
                    self.waiting_bytes += changes.batch.bytes();
                    self.waiting.push_front((0, changes));
                }
                self.again = Some(now + TRIED_AGAIN_AFTER);
            }
            Answer::Failed(error) => self.fail(error),
            Answer::Read { tag, result } => {
                let page = self.reads.remove(&tag);
                match result {
                    // What it could not read is there, perhaps.
                    Err(error) if error.trouble != Trouble::Lost => self.fail(error),
                    result => self.news.extend(page.map(|page| PageNews::Read(page, result))),
                }
            }
        }
    }

    fn fail(&mut self, error: ArchiveError) {
        if self.failure.is_none() {
            tracing::error!("{error}: what is stored there cannot be relied on any more, so the broker ends");
            self.failure = Some(error);
        }
    }

    /// What has become of pages since.
    pub fn next_news(&mut self) -> Option<PageNews> {
        self.news.pop_front()
    }

    /// When it is to be tried again to write.
    pub fn wake_up(&self) -> Option<Duration> {
        self.again
    }

    /// It is so late now.
    pub fn try_again(&mut self, now: Duration) {
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            self.orders.go_on();
            self.put_deletions_first();
        }
    }

    /// What is deleted makes room for what is put, unless it was to be put before.
    fn put_deletions_first(&mut self) {
        let puts = self.waiting.iter().flat_map(|(_, changes)| changes.batch.changes());
        let puts: BTreeSet<Box<[u8]>> =
            puts.filter_map(|change| if let Change::Put(key, _) = change { Some(key.clone()) } else { None }).collect();
        let is_free = |change: &Change| match change {
            Change::Put(..) => false,
            Change::Delete(key) => !puts.contains(key),
            Change::DeleteAll(span) => span.is_empty() || puts.range::<[u8], _>(span.bounds()).next().is_none(),
        };
        let (first, then): (Vec<_>, Vec<_>) =
            self.waiting.drain(..).partition(|(_, changes)| changes.batch.changes().iter().all(is_free));
        self.waiting.extend(first.into_iter().chain(then));
    }

    pub fn failure(&self) -> Option<&ArchiveError> {
        self.failure.as_ref()
    }

    /// A session ends that has pages under this number.
    pub fn ends(&mut self, session: StoreNumber, id: StoreNumber) {
        self.ending.insert(session, id);
    }

    /// That it has ended is recorded.
    pub fn has_ended(&mut self, session: StoreNumber) {
        if let Some(id) = self.ending.remove(&session) {
            self.delete_all(id);
        }
    }
}

/// That a page is deleted is persisted.
fn is_deleted(deleting: &mut BTreeMap<StoreNumber, VecDeque<PageKeys>>, id: StoreNumber, first: Key) {
    let Some(pages) = deleting.get_mut(&id) else { return };
    // Nearly always the one that was deleted first.
    if let Some(at) = pages.iter().position(|keys| keys.first() == first) {
        pages.remove(at);
    }
    if pages.is_empty() {
        deleting.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: StoreNumber = StoreNumber::new(1, 0, 1);

    fn keys(first: u64) -> PageKeys {
        PageKeys::new(&[Key::new(first), Key::new(first + 1)]).expect("they ascend")
    }

    fn ordered(pages: &mut Pages) -> Ticket {
        match pages.next_order(1) {
            Some(_) => pages.under_way.back().expect("it is").0,
            None => panic!("nothing is to be done"),
        }
    }

    fn deleting(pages: &Pages) -> Vec<u64> {
        pages.deleting(SESSION).map(|keys| keys.first().get()).collect()
    }

    /// There is no room for a page. What deletes others goes before it, and that so many batches are persisted does not mean that it is.
    #[test]
    fn what_overtakes_a_page_is_not_taken_for_it() {
        let mut pages = Pages::new(0, Paging::default());
        let of = PageOf { session: (0, 1), first: Key::new(70) };
        pages.put(SESSION, of, vec![1], vec![2]);
        pages.close(1, false);
        let up_to = pages.last_closed();
        let from = ordered(&mut pages);
        let error = ArchiveError::new(Trouble::Full, "there is no room");
        pages.answered(Answer::Refused { from, error }, Duration::ZERO);
        for first in [10, 20] {
            pages.delete(SESSION, keys(first));
            pages.close(1, false);
        }
        assert_eq!(deleting(&pages), [10, 20]);
        pages.try_again(TRIED_AGAIN_AFTER);
        for left in [&[20][..], &[]] {
            let ticket = ordered(&mut pages);
            pages.answered(Answer::Persisted(ticket), TRIED_AGAIN_AFTER);
            assert_eq!(deleting(&pages), left);
            assert!(!pages.are_persisted(up_to) && !pages.is_settled());
        }
        let ticket = ordered(&mut pages);
        pages.answered(Answer::Persisted(ticket), TRIED_AGAIN_AFTER);
        assert!(pages.are_persisted(up_to) && pages.is_settled());
        assert!(matches!(pages.next_news(), Some(PageNews::Persisted(page)) if page == of));
    }
}
