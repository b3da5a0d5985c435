//! Pages of queues, on their way to the archive and back.

use super::Persistence;
use super::growth::Growth;
use super::pages::{PageNews, PageOf};
use crate::archive::{Answer, Order};
use crate::config::QueueType;
use crate::records::{NewPage, PageBuilder, WallClock};
use crate::session::{Key, MigrationState, PageKeys, Session, StoreNumber};

impl Persistence {
    /// What the desk of the archive is to be given now.
    pub fn next_order(&mut self) -> Option<Order> {
        let (records, on_disk) = (self.recorded(), self.on_disk.records());
        let pages = self.pages.as_mut()?;
        if pages.wake_up().is_some() {
            pages.try_again((self.setup.clock)());
        }
        pages.close(records, false);
        pages.next_order(on_disk)
    }

    /// The desk has answered.
    pub fn archive_answered(&mut self, answer: Answer) {
        let now = (self.setup.clock)();
        if let Some(pages) = &mut self.pages {
            pages.answered(answer, now);
        }
        self.release_segments();
    }

    /// What has become of pages since.
    pub fn next_page_news(&mut self) -> Option<PageNews> {
        self.pages.as_mut()?.next_news()
    }

    /// The clock of what was stored.
    pub fn wall(&self) -> WallClock {
        self.setup.wall
    }

    /// The next messages of a session's queue become a page, of so many bytes. None if there are none that can. None of a session that leaves do: its
    /// new owner would not hear that the page is persisted.
    pub fn page_out<S>(&mut self, index: u32, session: &mut Session<S>, looks: usize) -> Option<usize> {
        if MigrationState::leaves(session.migration.as_ref()) {
            return None;
        }
        let records = self.recorded();
        let (Some(number), Some(pages)) = (session.stored, &mut self.pages) else { return None };
        let id = session.outbound.queue.pages_id().unwrap_or(number);
        let (mut page, largest) = (PageBuilder::new(id, pages.how().page_bytes), pages.largest());
        let (decisions, wall) = (&self.on_disk.decisions, self.setup.wall);
        let first = session.outbound.queue.paged_mut().page_out(id, looks, |message| {
            // What depends on it counts nowhere after a crash, and comes again.
            let is_decided = message.message.decision().is_none_or(|decision| decisions.is_made(decision.number));
            is_decided && message.size() <= largest && page.push(message, wall)
        });
        let (Some(first), Some(NewPage { value, summary, .. })) = (first, page.finish()) else { return None };
        let bytes = value.len();
        pages.put(id, PageOf { session: (index, session.instance), first }, summary, value);
        pages.close(records, true);
        Some(bytes)
    }

    /// The session of which what waits in memory is to become pages now, by its place in the table, however much room the journal has: so much
    /// waits for all of them together. [`moved_out`](Self::moved_out) has to follow.
    pub fn next_to_move_out(&mut self) -> Option<u32> {
        self.pages.as_ref().filter(|pages| pages.has_room())?;
        if self.moved_out_below.is_none() && self.is_much_in_memory() {
            self.growth = Growth::default();
            self.moved_out_below = Some(0);
        }
        self.moved_out_below
    }

    /// Whether as much has come since queues are being moved as they are moved for.
    pub fn falls_behind(&self) -> bool {
        self.moved_out_below.is_some() && self.is_much_in_memory()
    }

    /// Whether so much waits in memory that queues are to be moved.
    fn is_much_in_memory(&self) -> bool {
        self.pages.as_ref().is_some_and(|pages| self.growth.bytes() >= pages.how().memory)
    }

    /// Whether a session of which so many bytes wait in memory is one of those.
    pub fn is_moved_out(&self, number: StoreNumber, is_connected: bool, bytes: usize) -> bool {
        let Some(pages) = &self.pages else { return false };
        // Who is there takes what waits, and soon as a rule.
        let least = if is_connected { pages.how().page_bytes } else { pages.how().least_moved };
        bytes >= least && !self.is_arriving(number)
    }

    /// What follows it: the same session once more, the next one, or none if that was the last.
    pub fn moved_out(&mut self, next: Option<u32>) {
        self.moved_out_below = next;
        let records = self.recorded();
        if let Some(pages) = self.pages.as_mut().filter(|_| next.is_none()) {
            pages.close(records, false);
        }
    }

    /// Whether a session has come from another shard, and is not recorded here as a whole.
    pub fn is_arriving(&self, number: StoreNumber) -> bool {
        self.adoptions.of(number).1
    }

    /// Whether what waits of a queue, so many bytes, is to be in pages rather than in the journal once more.
    pub fn is_paged_out(&mut self, bytes: usize) -> bool {
        let Some(pages) = self.pages.as_ref().filter(|_| bytes > 0) else { return false };
        let stays = bytes < pages.how().least && bytes <= self.tails_left;
        if stays {
            self.tails_left -= bytes;
        }
        !stays
    }

    /// Pages of a session go of which nothing is left; not of one that is arriving: as long as it is not whole here, it may be that its old number counts,
    /// of which nothing need be on disk that was sent out of them.
    pub fn let_go_emptied<S>(&mut self, session: &mut Session<S>) {
        if session.stored.is_some_and(|number| self.is_arriving(number)) {
            return;
        }
        if let (Some(id), Some(pages)) = (session.outbound.queue.pages_id(), &mut self.pages) {
            session.outbound.queue.paged_mut().take_emptied().into_iter().for_each(|keys| pages.delete(id, keys));
        }
    }

    /// Pages of a session that are deleted, and may still be in the archive.
    pub(super) fn pages_deleted<S>(&self, session: &Session<S>) -> impl Iterator<Item = &PageKeys> {
        let pages = session.outbound.queue.pages_id().zip(self.pages.as_ref());
        pages.into_iter().flat_map(|(id, pages)| pages.deleting(id))
    }

    /// A session is about to go to another shard: it takes along which of its pages may still be in the archive with nothing left of them.
    pub fn pages_leave<S>(&self, session: &mut Session<S>) {
        let deleted: Vec<PageKeys> = self.pages_deleted(session).cloned().collect();
        session.outbound.queue.paged_mut().are_emptied(deleted);
    }

    /// The page of a session that comes next is read, if it is in the archive and is to be. Not of one that is arriving: nothing of it may be sent.
    pub fn read_next_page<S>(&mut self, index: u32, session: &mut Session<S>, order: QueueType) {
        let Some(id) = session.outbound.queue.pages_id() else { return };
        let is_arriving = session.stored.is_some_and(|number| self.is_arriving(number));
        let Some(pages) = self.pages.as_mut().filter(|_| !is_arriving) else { return };
        if let Some(first) = session.outbound.queue.paged_mut().begin_reading(order) {
            pages.read(id, PageOf { session: (index, session.instance), first });
        }
    }

    /// A session ends: its pages go when that is recorded; at once, if it is not stored any more.
    pub fn pages_end<S>(&mut self, session: &Session<S>) {
        let (Some(id), Some(pages)) = (session.outbound.queue.pages_id(), &mut self.pages) else { return };
        match session.stored {
            Some(number) => pages.ends(number, id),
            None => pages.delete_all(id),
        }
    }

    /// Messages of a session up to this key, which it has in pages and in its queue, may be sent when all that was recorded so far is on disk.
    pub fn launch_up_to(&mut self, session: (u32, u64), key: Key) {
        self.launches.push(self.recorded(), session, key, None);
    }
}
