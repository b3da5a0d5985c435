//! The segments of a journal: which is written, which are ready to be, which wait for the archive, and what is made of their files.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::aligned::Aligned;
use super::copying::{Piece, pieces};
use super::effect::{Class, Effect, Fullness, Preparation};
use super::format::{BLOCK, MOST_NUMBER, SegmentHeader};
use super::recovered::{Floor, Recovered};
use super::segment::{Condition, FileId, Idle, Place, Segment};
use super::settings::CheckedSettings;

/// How long after a segment could not be prepared that is tried again; each time that it fails again twice as long,
pub const PREPARED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// and so long at most.
pub const PREPARED_AGAIN_AT_LEAST_AFTER: Duration = Duration::from_secs(60);
/// A file that becomes a segment.
struct Making {
    file: FileId,
    generation: u64,
    /// All segments below are excluded by its header.
    oldest: u64,
    /// It is to be filled, too.
    is_new: bool,
}

/// A file that is used again as it is.
struct Spare {
    file: FileId,
    /// That of the released segment which is in it; 0 if there was never a frame in it that counts.
    generation: u64,
}

/// What becomes of a file that is not used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Removed(FileId),
    /// It could not be read in full, or something in it is lost: it is kept, and nobody is to read it again for the journal.
    SetAside(FileId),
}

impl Fate {
    /// None if a file is used again.
    fn of(file: FileId, bytes: u64, condition: Condition, segment_bytes: u64) -> Option<Self> {
        match condition {
            Condition::Sound if bytes == segment_bytes => None,
            Condition::Sound | Condition::Worn => Some(Fate::Removed(file)),
            Condition::Evidence => Some(Fate::SetAside(file)),
        }
    }
}

/// All segments.
pub(super) struct Segments {
    settings: CheckedSettings,
    /// Those with frames that are not in the archive, the oldest first. Frames go into the last one.
    live: VecDeque<Segment>,
    /// How many of them were there when the journal was opened.
    old: usize,
    /// No more frames go into the last one of `live`.
    is_sealed: bool,
    /// All segments below are to be archived, however many are left.
    archived_below: u64,
    /// Those that are used next, in this order.
    ready: VecDeque<Segment>,
    making: Option<Making>,
    /// When the next one may be begun, and how long it was waited for that after the last one failed.
    next_try: Duration,
    pause: Duration,
    /// Files to be used again, those that were released last at the end.
    idle: Vec<Spare>,
    /// What is to become of files that are not used any more, as soon as the headers on disk exclude this generation; 0 is excluded always.
    surplus: VecDeque<(u64, Fate)>,
    /// The headers on disk exclude all segments below this one.
    excluded_below: u64,
    next_file: u32,
    next_generation: u64,
    opened: u64,
    /// See [`SegmentHeader`].
    given_up: [u64; 2],
    /// Why the last one could not be prepared, and whether it was a new one.
    trouble: Option<(bool, io::Error)>,
    prepared: u64,
    /// How many files there are to be.
    wanted: usize,
    /// So many more files there may be for a while.
    extra: usize,
    /// If a copy is being made: the segments that were released since it began, whose files stay as they are.
    held: Option<Vec<Segment>>,
}

impl Segments {
    /// All that was `recovered`; the journal goes on with the generation and the number of `first`.
    pub fn new(settings: CheckedSettings, recovered: Recovered, first: Floor, opened: u64) -> Self {
        let Recovered { live, idle, next_file, last_number, .. } = recovered;
        let mut segments = Segments {
            settings,
            old: live.len(),
            live: live.into(),
            // Whatever this opening writes is in segments of its own: their headers say when it began, whether what it writes can be read or not.
            is_sealed: true,
            archived_below: 0,
            ready: VecDeque::new(),
            making: None,
            next_try: Duration::ZERO,
            pause: Duration::ZERO,
            idle: Vec::new(),
            surplus: VecDeque::new(),
            excluded_below: 0,
            next_file,
            next_generation: first.generation,
            // A greater number makes a header unsound.
            opened: opened.min(MOST_NUMBER),
            given_up: [last_number, first.number],
            trouble: None,
            prepared: 0,
            wanted: 0,
            extra: 0,
            held: None,
        };
        // All of them may be needed, and are written again then.
        segments.want(2 * segments.old + 1);
        for Idle { file, bytes, condition } in idle {
            segments.put_away(file, 0, bytes, condition);
        }
        segments.drop_surplus();
        segments
    }

    /// Nothing in a file counts any more: it is used again, if it is as it should be.
    fn put_away(&mut self, file: FileId, generation: u64, bytes: u64, condition: Condition) {
        match Fate::of(file, bytes, condition, self.settings.segment_bytes) {
            None => self.idle.push(Spare { file, generation }),
            Some(fate) => self.discard(generation, fate),
        }
    }

    /// A file goes, once a header says that nothing in it counts: its own may be the only one that says so of others, until there is one of this
    /// opening.
    fn discard(&mut self, generation: u64, fate: Fate) {
        let below = if generation == 0 { self.first_that_counts() - 1 } else { generation };
        self.surplus.push_back((below, fate));
    }

    /// More files than there may be are not kept, once nothing in them counts.
    fn drop_surplus(&mut self) {
        while self.files() > self.limit() && !self.idle.is_empty() {
            // Of those that never counted the last: the one before it would be missed. Of those that were released the first.
            let unused = self.idle.iter().rposition(|idle| idle.generation == 0);
            let Spare { file, generation } = self.idle.remove(unused.unwrap_or(0));
            self.discard(generation, Fate::Removed(file));
        }
    }

    /// There are to be so many files, within the settings.
    pub fn want(&mut self, files: usize) {
        let between = self.settings.between();
        self.wanted = files.clamp(*between.start(), *between.end());
    }

    /// What has records now is what is needed: the rest was released. There are to be so many files that it takes a third of them, so that it is
    /// not written again before half as much has come.
    pub fn fit_to_need(&mut self) {
        self.want(3 * self.live.len() + 2);
        self.drop_surplus();
    }

    /// How many files there may be. An opening that finds all of them waiting for the archive has one more, for relief, so that it does not
    /// depend on that; however many it finds, for without it there would never be room again.
    fn limit(&self) -> usize {
        self.wanted.max(self.old + 1) + self.extra
    }

    /// There may be one file more, until segments are released; if none can be written, and not more than as many as there are to be.
    pub fn grow(&mut self) {
        if self.ready.is_empty() && !self.needs_one() && self.making.is_none() && self.extra < self.wanted.max(self.old)
        {
            self.extra += 1;
        }
    }

    /// The generation of the first one that has records and is not archived.
    pub fn first(&self) -> Option<u64> {
        Some(self.live.front()?.generation)
    }

    /// The generation of the last one that has records.
    pub fn newest(&self) -> Option<u64> {
        Some(self.live.back()?.generation)
    }

    /// How many files there are that are used, or are to be.
    pub fn files(&self) -> usize {
        self.live.len() + self.ready.len() + self.idle.len() + usize::from(self.making.is_some())
    }

    /// Whether records of that class are taken at all: ordinary ones only while a whole segment is left for relief.
    pub fn allows(&self, class: Class) -> bool {
        class == Class::Relief || !self.ready.is_empty()
    }

    /// Whether records of that class may have the next segment.
    pub fn allows_next(&self, class: Class) -> bool {
        self.ready.len() > usize::from(class == Class::Ordinary)
    }

    /// How many bytes the current segment has left behind `open` bytes that are not yet counted.
    pub fn room_here(&self, open: u64) -> u64 {
        let current = self.live.back().filter(|_| !self.is_sealed);
        current.map_or(0, |segment| segment.bytes.saturating_sub(segment.end + open))
    }

    /// How many bytes the next segment has, if there is one.
    pub fn room_next(&self) -> u64 {
        self.ready.front().map_or(0, |segment| segment.bytes - BLOCK as u64)
    }

    /// Where a frame in the current segment goes.
    pub fn place(&self) -> Option<Place> {
        let Segment { file, generation, bytes, end, .. } = *self.live.back().filter(|_| !self.is_sealed)?;
        Some(Place { file, generation, offset: end, room: bytes - end })
    }

    /// Goes on with the next segment.
    pub fn advance(&mut self) {
        if let Some(segment) = self.ready.pop_front() {
            self.live.push_back(segment);
            self.is_sealed = false;
        }
    }

    /// No more frames go into the current segment: so it can be archived, and there will be others.
    pub fn seal(&mut self) {
        self.is_sealed = true;
    }

    /// Seals the current segment, and wants all that there are archived, however many are left.
    pub fn seal_all(&mut self) {
        self.seal();
        if let Some(last) = self.live.back() {
            self.archived_below = last.generation + 1;
        }
    }

    /// Segments below this generation are wanted archived, however many are left.
    pub fn archive_below(&mut self, generation: u64) {
        self.archived_below = self.archived_below.max(generation);
    }

    /// The current segment gets a frame more.
    pub fn begins(&mut self, number: u64) {
        if let Some(segment) = self.live.back_mut() {
            segment.add(number);
        }
    }

    /// The last frame of the current segment has so many bytes.
    pub fn took(&mut self, bytes: u64) {
        if let Some(segment) = self.live.back_mut() {
            segment.end += bytes;
        }
    }

    /// The generation of the segment that a frame is in, if that is not archived.
    pub fn generation_of(&self, number: u64) -> Option<u64> {
        // The later ones are asked for more often.
        let is_in = |segment: &&Segment| (segment.first.max(1)..=segment.last).contains(&number);
        self.live.iter().rev().find(is_in).map(|segment| segment.generation)
    }

    /// The oldest segment, if it gets no more frames and has none that is not written; `written` is the number of the last that is.
    fn complete(&self, written: u64) -> Option<Segment> {
        let is_closed = self.live.len() > 1 || self.is_sealed;
        self.live.front().copied().filter(|oldest| is_closed && oldest.last <= written)
    }

    /// The oldest segment, if it is to be archived: it is complete, and fewer than two are left to be used or all are wanted.
    pub fn oldest(&self, written: u64) -> Option<Segment> {
        let oldest = self.complete(written)?;
        let others = match self.trouble {
            Some(_) => self.ready.len(),
            None => self.wanted.saturating_sub(self.live.len()),
        };
        (others < 2 || oldest.generation < self.archived_below).then_some(oldest)
    }

    /// The oldest segment is archived. False if it was another one, or is not complete.
    pub fn release(&mut self, generation: u64, written: u64) -> bool {
        let Some(oldest) = self.complete(written).filter(|oldest| oldest.generation == generation) else {
            return false;
        };
        self.live.pop_front();
        self.old = self.old.saturating_sub(1);
        self.extra = self.extra.saturating_sub(1);
        match &mut self.held {
            Some(held) => held.push(oldest),
            None => self.put_all_away([oldest]),
        }
        // What there was no room for may have it now, since a file that is there does not need to grow.
        self.next_try = Duration::ZERO;
        true
    }

    /// Nothing in the files of these segments counts any more.
    fn put_all_away(&mut self, segments: impl IntoIterator<Item = Segment>) {
        for Segment { file, generation, bytes, condition, .. } in segments {
            self.put_away(file, generation, bytes, condition);
        }
        // Those that were never used first, and those that were released in their order.
        self.idle.sort_by_key(|idle| idle.generation);
        self.drop_surplus();
    }

    /// The files of segments that are released stay as they are from now on. There may be others in their place.
    pub fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// The pieces of a copy that has all records so far: the segments that are held, and those that count.
    pub fn pieces(&self) -> Vec<Piece> {
        pieces(self.held.iter().flatten().chain(&self.live))
    }

    /// Files are used again as ever.
    pub fn let_go(&mut self) {
        if let Some(held) = self.held.take() {
            self.put_all_away(held);
        }
    }

    /// The first of the files that are one too many of which no header says that they count.
    fn excluded(&self) -> Option<usize> {
        self.surplus.iter().position(|(generation, _)| self.is_excluded(*generation))
    }

    /// Whether a header on disk says that this generation does not count.
    fn is_excluded(&self, generation: u64) -> bool {
        generation < self.excluded_below.max(1)
    }

    /// The oldest generation that counts.
    fn first_that_counts(&self) -> u64 {
        self.live.front().or(self.ready.front()).map_or(self.next_generation, |segment| segment.generation)
    }

    /// What is to be done with a file.
    pub fn next_effect(&mut self, now: Duration) -> Option<Effect> {
        if let Some((_, fate)) = self.excluded().and_then(|at| self.surplus.remove(at)) {
            return Some(match fate {
                Fate::Removed(file) => Effect::Remove { file },
                Fate::SetAside(file) => Effect::SetAside { file },
            });
        }
        if self.making.is_some() || !self.needs_one() || now < self.next_try {
            return None;
        }
        let (file, is_new) = self.choose_file();
        let generation = self.next_generation;
        let before = self.ready.back().or(self.live.back());
        let after = before.map_or(0, |segment| segment.generation);
        let oldest = self.first_that_counts();
        // A generation is used once, whatever comes of it: what failed may be on disk.
        self.next_generation += 1;
        let mut header = Aligned::zeroed(BLOCK);
        let (bytes, identity) = (self.settings.segment_bytes, self.settings.identity);
        SegmentHeader { identity, generation, after, oldest, bytes, opened: self.opened, given_up: self.given_up }
            .write(&mut header);
        self.making = Some(Making { file, generation, oldest, is_new });
        // With this one.
        let files = self.files();
        let is_beyond = is_new && files > self.settings.segments as usize && files <= self.wanted;
        Some(Effect::Prepare(Preparation { file, generation, bytes, fill: is_new, is_beyond, header }))
    }

    /// The file that is prepared next, and whether it is made: one that is there needs no room. Whatever becomes of it, what the headers on disk
    /// say of others has to stay true: those that were never written go from the last on, those that were released from the first on.
    fn choose_file(&mut self) -> (FileId, bool) {
        let is_to_be_made = self.has_evidence_to_come() && self.may_make_one();
        if !self.idle.is_empty() && !is_to_be_made {
            let unused = self.idle.iter().rposition(|idle| idle.generation == 0);
            return (self.idle.remove(unused.unwrap_or(0)).file, false);
        }
        let file = FileId(self.next_file);
        self.next_file += 1;
        (file, true)
    }

    /// Whether a file is to be set aside that no header on disk excludes. What tells that something is lost in it may be in the header of another
    /// file: none is used again before that is done.
    fn has_evidence_to_come(&self) -> bool {
        let is_to_come =
            |(generation, fate): &(u64, Fate)| matches!(fate, Fate::SetAside(_)) && !self.is_excluded(*generation);
        self.surplus.iter().any(is_to_come)
    }

    /// Whether a file may be made, for all that is known.
    fn may_make_one(&self) -> bool {
        self.next_file < u32::MAX && self.trouble.is_none()
    }

    /// Whether there are fewer segments than there should be, and there may be a file for another.
    fn needs_one(&self) -> bool {
        let has_file = self.next_file < u32::MAX || !self.idle.is_empty();
        self.files() - self.idle.len() < self.limit() && has_file
    }

    /// A file was prepared, or could not be. False if that was another one.
    pub fn prepared(&mut self, file: FileId, result: io::Result<()>, now: Duration) -> bool {
        let Some(making) = self.making.take_if(|making| making.file == file) else { return false };
        let Making { generation, oldest, is_new, .. } = making;
        match result {
            Ok(()) => {
                self.ready.push_back(Segment::empty(file, generation, self.settings.segment_bytes, BLOCK));
                self.excluded_below = self.excluded_below.max(oldest);
                self.prepared += 1;
                self.trouble.take_if(|(was_new, _)| *was_new == is_new);
                (self.next_try, self.pause) = (Duration::ZERO, Duration::ZERO);
                self.drop_surplus();
            }
            Err(error) => {
                if is_new {
                    // The room that it took may be wanted elsewhere.
                    self.surplus.push_back((0, Fate::Removed(file)));
                } else {
                    self.discard(generation, Fate::Removed(file));
                }
                self.pause = (self.pause * 2).clamp(PREPARED_AGAIN_AFTER, PREPARED_AGAIN_AT_LEAST_AFTER);
                self.next_try = now + self.pause;
                self.trouble = Some((is_new, error));
            }
        }
        true
    }

    /// How many were prepared.
    pub fn prepared_so_far(&self) -> u64 {
        self.prepared
    }

    /// When something is to be done with a file.
    pub fn wake_up(&self) -> Option<Duration> {
        if self.excluded().is_some() {
            return Some(Duration::ZERO);
        }
        (self.making.is_none() && self.needs_one()).then_some(self.next_try)
    }

    pub fn trouble(&self) -> Option<&io::Error> {
        self.trouble.as_ref().map(|(_, error)| error)
    }

    pub fn fullness(&self) -> Fullness {
        let most = *self.settings.between().end();
        Fullness { live: self.live.len(), ready: self.ready.len(), segments: self.wanted, most }
    }
}

#[cfg(test)]
mod tests;
