//! The segments of a journal: which is written, which are ready to be, which wait for the archive, and what is made of their files.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::aligned::Aligned;
use super::effect::{Class, Effect, Fullness, Preparation};
use super::format::{BLOCK, SegmentHeader};
use super::recovered::Recovered;
use super::segment::{FileId, Place, Segment};
use super::settings::CheckedSettings;

/// How long after a segment could not be prepared that is tried again.
pub const PREPARED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// By how much generations grow when a journal is opened: above all that may have been in files that could not be read.
const GENERATION_STEP: u64 = 1 << 16;

/// A file that becomes a segment.
struct Making {
    file: FileId,
    generation: u64,
    /// It is to be filled, too.
    is_new: bool,
    /// When it is begun; none while it is under way.
    due: Option<Duration>,
}

/// All segments.
pub(super) struct Segments {
    settings: CheckedSettings,
    /// Those with frames that are not in the archive, the oldest first. Frames go into the last one.
    live: VecDeque<Segment>,
    /// No more frames go into the last one of `live`.
    is_sealed: bool,
    /// Those that are used next, in this order.
    ready: VecDeque<Segment>,
    making: Option<Making>,
    /// Files to be used again; true if they are to be filled anew.
    idle: Vec<(FileId, bool)>,
    /// Files that are one too many.
    surplus: Vec<FileId>,
    next_file: u32,
    next_generation: u64,
    opened: u64,
    /// See [`SegmentHeader`].
    given_up: [u64; 2],
    /// Why the last one could not be prepared, and whether it was a new one.
    trouble: Option<(bool, io::Error)>,
}

impl Segments {
    pub fn new(settings: CheckedSettings, recovered: Recovered, first_number: u64, opened: u64) -> Self {
        let Recovered { live, ready, idle, surplus, may_continue, next_file, last_generation, last_number, .. } =
            recovered;
        let next_generation = if next_file == 0 { 1 } else { last_generation + GENERATION_STEP };
        let fit = |segment: &&Segment| segment.bytes == settings.segment_bytes;
        let (fitting, other) = ready.split_at(ready.iter().take_while(fit).count());
        let mut segments = Segments {
            settings,
            is_sealed: !may_continue,
            live: live.into(),
            ready: fitting.iter().copied().collect(),
            making: None,
            idle,
            surplus,
            next_file,
            next_generation,
            opened,
            given_up: [last_number, first_number],
            trouble: None,
        };
        other.iter().for_each(|segment| segments.retire(segment));
        segments.drop_surplus();
        segments
    }

    /// Nothing in a segment counts any more: its file is used again if it has the right length.
    fn retire(&mut self, segment: &Segment) {
        if segment.is_sound && segment.bytes == self.settings.segment_bytes {
            self.idle.insert(0, (segment.file, false));
        } else {
            self.surplus.push(segment.file);
        }
    }

    /// More files than there may be are not kept, once nothing in them counts.
    fn drop_surplus(&mut self) {
        while self.files() > self.most_files()
            && let Some((file, _)) = self.idle.pop()
        {
            self.surplus.push(file);
        }
    }

    fn most_files(&self) -> usize {
        self.settings.segments as usize
    }

    fn files(&self) -> usize {
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

    /// The current segment has a frame more, of so many bytes.
    pub fn took(&mut self, number: u64, bytes: u64) {
        if let Some(segment) = self.live.back_mut() {
            segment.end += bytes;
            segment.last = number;
        }
    }

    /// The oldest segment, if it gets no more frames and has none that is not written; `written` is the number of the last that is.
    fn complete(&self, written: u64) -> Option<Segment> {
        let is_closed = self.live.len() > 1 || self.is_sealed;
        self.live.front().copied().filter(|oldest| is_closed && oldest.last <= written)
    }

    /// The oldest segment, if it is to be archived: it is complete, and fewer than two are left to be used.
    pub fn oldest(&self, written: u64) -> Option<(FileId, u64)> {
        let oldest = self.complete(written)?;
        let others = match self.trouble {
            Some(_) => self.ready.len(),
            None => self.most_files().saturating_sub(self.live.len()),
        };
        (others < 2).then_some((oldest.file, oldest.generation))
    }

    /// The oldest segment is archived. False if it was another one, or is not complete.
    pub fn release(&mut self, generation: u64, written: u64) -> bool {
        let Some(oldest) = self.complete(written).filter(|oldest| oldest.generation == generation) else {
            return false;
        };
        self.live.pop_front();
        self.retire(&oldest);
        self.drop_surplus();
        // What there was no room for may have it now, since a file of its own does not need to grow.
        if let Some(Making { due: Some(due), .. }) = &mut self.making {
            *due = Duration::ZERO;
        }
        true
    }

    /// What is to be done with a file.
    pub fn next_effect(&mut self, now: Duration) -> Option<Effect> {
        if let Some(file) = self.surplus.pop() {
            return Some(Effect::Remove { file });
        }
        self.begin_making(now);
        let Making { file, generation, is_new, due } = self.making.as_mut()?;
        if due.is_none_or(|due| now < due) {
            return None;
        }
        *due = None;
        let (file, generation, fill) = (*file, *generation, *is_new);
        let mut header = Aligned::zeroed(BLOCK);
        let before = self.ready.back().or(self.live.back());
        let oldest = self.live.front().or(self.ready.front()).map_or(generation, |segment| segment.generation);
        let bytes = self.settings.segment_bytes;
        let after = before.map_or(0, |segment| segment.generation);
        let identity = self.settings.identity;
        SegmentHeader { identity, generation, after, oldest, bytes, opened: self.opened, given_up: self.given_up }
            .write(&mut header);
        Some(Effect::Prepare(Preparation { file, generation, bytes, fill, header }))
    }

    /// Chooses the file that is prepared next, if one is needed. One that is to be used again is preferred to another that could not be
    /// made: it needs no room.
    fn begin_making(&mut self, now: Duration) {
        let reusable = self.idle.iter().position(|(_, fill)| !fill);
        if let Some(Making { is_new: true, due: Some(_), file, .. }) = &mut self.making
            && let Some(idle) = reusable
        {
            let (other, _) = self.idle.remove(idle);
            self.idle.push((std::mem::replace(file, other), true));
            if let Some(making) = &mut self.making {
                making.is_new = false;
                making.due = Some(now);
            }
        }
        if self.making.is_some() || !self.needs_one() {
            return;
        }
        let (file, is_new) = match reusable.map(|idle| self.idle.remove(idle)).or_else(|| self.idle.pop()) {
            Some(idle) => idle,
            None => {
                let file = FileId(self.next_file);
                self.next_file += 1;
                (file, true)
            }
        };
        self.making = Some(Making { file, generation: self.next_generation, is_new, due: Some(now) });
        self.next_generation += 1;
    }

    /// Whether there are fewer segments than there should be, and there may be a file for another.
    fn needs_one(&self) -> bool {
        let has_file = !self.idle.is_empty() || self.next_file < u32::MAX;
        self.files() - self.idle.len() < self.most_files() && has_file
    }

    /// A file was prepared, or could not be.
    pub fn prepared(&mut self, file: FileId, result: io::Result<()>, now: Duration) {
        let Some(making) = self.making.as_mut().filter(|making| making.file == file && making.due.is_none()) else {
            debug_assert!(false, "{file:?} was not being prepared");
            return;
        };
        match result {
            Ok(()) => {
                let (generation, bytes) = (making.generation, self.settings.segment_bytes);
                self.ready.push_back(Segment { file, generation, bytes, end: BLOCK as u64, last: 0, is_sound: true });
                self.trouble.take_if(|(was_new, _)| *was_new == making.is_new);
                self.making = None;
            }
            Err(error) => {
                making.due = Some(now + PREPARED_AGAIN_AFTER);
                self.trouble = Some((making.is_new, error));
            }
        }
    }

    /// When something is to be done with a file.
    pub fn wake_up(&self) -> Option<Duration> {
        if !self.surplus.is_empty() || (self.making.is_none() && self.needs_one()) {
            return Some(Duration::ZERO);
        }
        self.making.as_ref()?.due
    }

    pub fn trouble(&self) -> Option<&io::Error> {
        self.trouble.as_ref().map(|(_, error)| error)
    }

    pub fn fullness(&self) -> Fullness {
        Fullness { live: self.live.len(), ready: self.ready.len(), segments: self.most_files() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::StoreId;
    use super::super::settings::Settings;
    use super::*;

    const LATER: Duration = Duration::from_secs(9);

    fn settings(segments: u32) -> CheckedSettings {
        let settings =
            Settings { segment_bytes: 16_384, frame_bytes: 4096, segments, ..Settings::new(StoreId([1; 16]), 0) };
        settings.check().expect("they hold")
    }

    fn fresh() -> Segments {
        Segments::new(settings(3), Recovered::nothing(), 1, 0)
    }

    /// What is prepared next: the file, its header, and whether it is filled.
    fn prepares(segments: &mut Segments, now: Duration) -> Option<(u32, SegmentHeader, bool)> {
        match segments.next_effect(now)? {
            Effect::Prepare(Preparation { file, header, fill, generation, .. }) => {
                let header = SegmentHeader::read(&header).expect("it is sound");
                assert_eq!(header.generation, generation);
                Some((file.0, header, fill))
            }
            _ => None,
        }
    }

    fn make(segments: &mut Segments) -> SegmentHeader {
        let (file, header, _) = prepares(segments, LATER).expect("there is one to prepare");
        segments.prepared(FileId(file), Ok(()), LATER);
        header
    }

    #[test]
    fn headers_say_what_is_before_them_and_what_counts() {
        let mut segments = fresh();
        let headers: Vec<SegmentHeader> = (0..3).map(|_| make(&mut segments)).collect();
        assert_eq!(headers.iter().map(|header| header.generation).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(headers.iter().map(|header| header.after).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(headers.iter().all(|header| header.oldest == 1 && header.bytes == 16_384 && header.given_up == [0, 1]));
        assert!(segments.next_effect(LATER).is_none() && segments.wake_up().is_none());
        for number in 1..=2 {
            segments.advance();
            segments.took(number, 4096);
        }
        assert!(!segments.release(1, 0), "its frame is not written");
        assert_eq!(segments.oldest(1), Some((FileId(0), 1)));
        assert!(segments.release(1, 1) && !segments.release(2, 2), "the other may get frames still");
        let recycled = make(&mut segments);
        assert_eq!((recycled.generation, recycled.after, recycled.oldest), (4, 3, 2));
    }

    #[test]
    fn a_file_that_there_is_no_room_for_waits_for_its_turn() {
        let mut segments = fresh();
        make(&mut segments);
        make(&mut segments);
        let fails = |segments: &mut Segments, now| {
            let (file, ..) = prepares(segments, now).expect("there is one to prepare");
            segments.prepared(FileId(file), Err(io::ErrorKind::StorageFull.into()), now);
            file
        };
        assert_eq!(fails(&mut segments, LATER), 2);
        assert_eq!(segments.wake_up(), Some(LATER + PREPARED_AGAIN_AFTER));
        assert_eq!(fails(&mut segments, LATER + PREPARED_AGAIN_AFTER), 2, "the same, with the same generation");
        segments.advance();
        segments.took(1, 4096);
        segments.seal();
        assert!(segments.trouble().is_some());
        assert!(segments.release(1, 1));
        // What is there is used first.
        let (file, header, fill) = prepares(&mut segments, LATER).expect("there is one to prepare");
        assert_eq!((file, header.generation, header.after, fill), (0, 3, 2, false));
        segments.prepared(FileId(0), Ok(()), LATER);
        assert!(segments.trouble().is_some(), "the other is still missing");
        let (file, header, fill) = prepares(&mut segments, LATER).expect("there is one to prepare");
        assert_eq!((file, header.generation, header.after, fill), (2, 4, 3, true));
        segments.prepared(FileId(2), Ok(()), LATER);
        assert!(segments.trouble().is_none() && segments.fullness().ready == 3);
    }

    #[test]
    fn files_that_are_too_many_go() {
        let segment = |file: u32| Segment {
            file: FileId(file),
            generation: u64::from(file) + 1,
            bytes: 16_384,
            end: 8192,
            last: u64::from(file) + 1,
            is_sound: true,
        };
        let recovered = Recovered {
            live: (0..4).map(segment).collect(),
            idle: vec![(FileId(4), false), (FileId(5), true)],
            next_file: 6,
            last_generation: 5,
            ..Recovered::nothing()
        };
        let mut segments = Segments::new(settings(3), recovered, 100, 0);
        let mut removed = Vec::new();
        while let Some(Effect::Remove { file }) = segments.next_effect(LATER) {
            removed.push(file.0);
        }
        removed.sort_unstable();
        assert_eq!(removed, [4, 5]);
        assert_eq!(segments.oldest(4), Some((FileId(0), 1)), "at once");
        assert!(segments.release(1, 4));
        assert!(matches!(segments.next_effect(LATER), Some(Effect::Remove { file: FileId(0) })));
        assert!(segments.release(2, 4));
        let header = make(&mut segments);
        assert_eq!((header.generation, header.after, header.oldest), (5 + GENERATION_STEP, 4, 3));
    }
}
