//! Room in the journal: what is needed of its older half is written again, and its segments are given back.

use super::rewriting::{Cursor, Renewal, Rewriting};
use super::{CROWDED, Persistence};
use crate::client::ConnectionId;
use crate::journal::Class;

/// This part of the journal, at most, is for short queues that are written again: the others are put into pages.
const TAILS: usize = 8;
/// So often in a row what is needed is written again for the sake of where it is alone, nothing having been recorded since. What takes less than half
/// of a segment is in a single one then.
const MOVES: u8 = 2;

impl Persistence {
    /// What is to be written again now, to make room; [`rewritten`](Self::rewritten) has to follow. None if there is enough, or the journal takes
    /// no more at present.
    pub fn next_to_rewrite(&mut self) -> Option<Cursor> {
        // What was recorded comes first, wherever the rewriting is: its end may wait for that.
        if !self.behind.is_empty() {
            self.setup.journal.grow();
            return None;
        }
        if !self.is_to_be_rewritten() {
            return None;
        }
        // Where ordinary records have no room, this is what makes some.
        if self.setup.journal.room(Class::Relief).is_none_or(|room| room < CROWDED) {
            self.setup.journal.grow();
            return None;
        }
        if self.pages.as_ref().is_some_and(|pages| !pages.has_room()) {
            return None;
        }
        let recorded = self.recorded();
        let next = match &mut self.rewriting {
            Rewriting::Idle | Rewriting::Done { .. } => {
                let is_move = matches!(self.rewriting, Rewriting::Done { records, .. } if records == recorded);
                self.moves = if is_move { self.moves + 1 } else { 0 };
                self.tails_left = self.setup.journal.capacity() / TAILS;
                self.rewriting = Rewriting::UnderWay { below: None, at: Cursor::End };
                Some(Cursor::Session(0))
            }
            Rewriting::UnderWay { at, .. } => Some(std::mem::replace(at, Cursor::End)),
            Rewriting::Committing { .. } => None,
        };
        self.makes_room = next.is_some();
        next
    }

    /// Whether what is needed is being written again, or has to be: it must fit into the other half of the journal. To do so once more when
    /// neither a segment was begun meanwhile nor anything was recorded would make no room, unless it begins in one segment and ends in the next:
    /// then it can go from the first one, which may be what publishers wait for.
    fn is_to_be_rewritten(&self) -> bool {
        let fullness = self.setup.journal.fullness();
        let is_half = fullness.live > 1 && fullness.live * 2 >= fullness.segments;
        match self.rewriting {
            Rewriting::Idle => is_half || self.renewal == Renewal::UnderWay,
            Rewriting::Done { live, .. } if fullness.live > live => is_half,
            Rewriting::Done { below, records, .. } if self.recorded() == records => {
                let journal = &self.setup.journal;
                let is_released = journal.oldest().is_none_or(|oldest| oldest.generation >= below);
                let is_divided = journal.newest().is_some_and(|newest| newest > below);
                is_half && is_released && is_divided && self.moves < MOVES && self.is_crowded()
            }
            Rewriting::Done { .. } => is_half && self.is_crowded(),
            Rewriting::UnderWay { .. } => true,
            Rewriting::Committing { .. } => false,
        }
    }

    /// A client waits for room in the journal.
    pub fn wait_for_room(&mut self, id: ConnectionId) {
        self.standstill.wait(id, (self.setup.clock)());
    }

    /// Whether messages may be sent out of pages: each is recorded as a whole then. If there is no room because all of it is needed, some may nevertheless
    /// when that has been written again, or there would never be more.
    pub fn may_send_pages(&self) -> bool {
        !self.is_crowded() || self.sent_while_crowded < CROWDED
    }

    /// A client, to which messages in pages would be sent, waits until that may be.
    pub fn wait_to_send(&mut self, id: ConnectionId) {
        self.standstill.hold(id, (self.setup.clock)());
    }

    /// Clients that have waited for that, if it may be.
    pub fn may_send(&mut self) -> Vec<ConnectionId> {
        if self.may_send_pages() { self.standstill.try_unsent() } else { Vec::new() }
    }

    /// The clients that have waited for room in the journal, if there is some. Behind [`may_send`](Self::may_send).
    pub fn have_room(&mut self) -> Vec<ConnectionId> {
        if !self.standstill.has_begun() || self.is_crowded() {
            return Vec::new();
        }
        let (waiting, told) = self.standstill.end((self.setup.clock)());
        if let Some(waited) = told {
            let (shard, seconds) = (self.own, waited.as_secs());
            tracing::info!(shard, seconds, "storage: there is room again, clients are served");
        }
        waiting
    }

    /// Tells that clients wait for room, if that has lasted.
    pub(super) fn tell_standstill(&mut self) {
        if !self.standstill.is_to_be_told(&self.setup.clock) {
            return;
        }
        const LESS: &str = "when clients take what waits for them, or retained messages go";
        const FASTER: &str = "when the disk has caught up";
        let (shard, waiting, fullness) = (self.own, self.standstill.waiting(), self.setup.journal.fullness());
        let (needed, segments) = (fullness.live, fullness.segments);
        let (why, until) = match (&self.pages, self.setup.journal.shortage()) {
            (Some(pages), _) if pages.is_refused() => ("the archive is full".to_owned(), LESS),
            (Some(pages), _) if !pages.has_room() => {
                ("the disk is slower with the archive than messages come".to_owned(), FASTER)
            }
            (_, Some(shortage)) => (format!("no file more could be made: {shortage}"), LESS),
            _ if segments < fullness.most => {
                ("it is made, by writing again what is needed, but messages come faster".to_owned(), FASTER)
            }
            _ => ("storage.max_segments allows no more files".to_owned(), LESS),
        };
        tracing::warn!(
            shard,
            waiting,
            needed,
            segments,
            "storage: clients wait, the journal has no room: {why}. There is room {until}"
        );
    }

    /// If the store is renewed: what was written by earlier boots does not count any more.
    pub fn is_renewed(&mut self) {
        self.renewal = Renewal::None;
        self.release_segments();
    }

    /// What was to be written again has been, up to here.
    pub fn rewritten(&mut self, up_to: Cursor) {
        self.makes_room = false;
        let (records, deferred) = (self.recorded(), self.deferrals.count());
        if let (Cursor::End, Some(pages)) = (&up_to, &mut self.pages) {
            pages.close(records, false);
        }
        let pages = self.pages.as_ref().map_or(0, |pages| pages.last_closed());
        let Rewriting::UnderWay { below, at } = &mut self.rewriting else { return };
        match (up_to, *below) {
            (Cursor::End, Some(below)) => {
                self.rewriting = Rewriting::Committing { below, records, deferred, pages };
            }
            // Nothing counts at all of what there was.
            (Cursor::End, None) => {
                let below = match self.on_disk.commits.last_mark() {
                    Some(mark) => self.setup.journal.generation_of(mark),
                    // All that there is was there at the start.
                    None => self.setup.journal.newest().map(|newest| newest + 1),
                };
                self.rewriting = Rewriting::Committing { below: below.unwrap_or(0), records, deferred, pages };
            }
            (up_to, _) => *at = up_to,
        }
        // All of it may be on disk already, and nothing else be under way there.
        self.release_segments();
    }

    /// Gives segments back that are not needed any more.
    pub(super) fn release_segments(&mut self) {
        if let Rewriting::Committing { below, records, deferred, pages } = self.rewriting
            && self.on_disk.records() >= records
            && self.deferrals.are_done(deferred)
            && self.pages.as_ref().is_none_or(|one| one.are_persisted(pages))
        {
            if self.renewal != Renewal::None {
                self.renewal = Renewal::Written;
                return;
            }
            self.setup.journal.archive_below(below);
            let records = self.recorded();
            self.rewriting = Rewriting::Done { below, live: usize::MAX, records, is_fitted: false };
            self.sent_while_crowded = 0;
        }
        let Rewriting::Done { below, live, is_fitted, .. } = &mut self.rewriting else { return };
        let journal = &mut self.setup.journal;
        while let Some(oldest) = journal.oldest().filter(|oldest| oldest.generation < *below)
            && journal.release(oldest)
        {
            *live = journal.fullness().live;
        }
        *live = journal.fullness().live.min(*live);
        if !*is_fitted && journal.first().is_none_or(|first| first >= *below) {
            *is_fitted = true;
            journal.fit_to_need();
        }
    }
}
