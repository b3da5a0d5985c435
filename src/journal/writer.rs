//! The journal of a shard.

use std::fmt;
use std::io;
use std::time::Duration;

use super::aligned::Aligned;
use super::commit::{BEGUN_AGAIN_AFTER, Commit};
use super::copying::Piece;
use super::counters::Counters;
use super::effect::{Answer, Archived, Class, Effect, Fullness, Mark, Refused, Write};
use super::format::{FRAME_HEADER, Identity, largest_body, record_bytes};
use super::recovered::{Floor, Recovered};
use super::segment::{FileId, Segment};
use super::segments::Segments;
use super::settings::{CheckedSettings, Sync};
use super::waiting::{Frame, Waiting};

/// Why a journal cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// What was recovered is another journal's.
    OtherIdentity(Identity),
    /// There are no numbers left for generations or marks: somebody has made up a file or a floor.
    NoNumbers,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::OtherIdentity(Identity { store, shard }) => {
                write!(f, "what was read is the journal of shard {shard} of store {store}")
            }
            OpenError::NoNumbers => f.write_str("the journal's numbers are used up"),
        }
    }
}

impl std::error::Error for OpenError {}

/// What ended a journal.
#[derive(Debug)]
pub enum Failure {
    /// A write.
    Write(io::Error),
    /// A write that wrote less than it should.
    Short {
        /// How many bytes were written.
        written: usize,
        /// How many should have been.
        of: usize,
    },
    /// A sync.
    Sync(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Write(error) => write!(f, "the journal could not be written: {error}"),
            Failure::Short { written, of } => write!(f, "only {written} of {of} bytes of the journal were written"),
            Failure::Sync(error) => write!(f, "the journal could not be synced: {error}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Where a record goes.
enum Room {
    /// Into the frame that is open.
    Open,
    /// Into a new frame of the current segment.
    Here,
    /// Into the first frame of the next segment.
    Next,
}

/// The journal of a shard: records go in, effects come out. One per shard.
///
/// All times are since the start of the broker, by the monotonic clock.
pub struct Journal {
    settings: CheckedSettings,
    /// The largest body of a record.
    largest: usize,
    segments: Segments,
    waiting: Waiting,
    commit: Option<Commit>,
    /// When the next commit may begin.
    next_commit: Duration,
    next_number: u64,
    /// The number of the frame that was written last, or recovered.
    previous: u64,
    flushed: Mark,
    fsynced: Mark,
    /// The mark of the last commit that has ended: no sync is on its way in a file that is used again.
    ended: Mark,
    /// Whether a record was taken that is to survive a loss of power.
    is_any_to_be_synced: bool,
    /// Whether commits have ended behind the last one that was synced.
    is_any_unsynced: bool,
    failure: Option<Failure>,
    /// Above all that this opening can reach.
    floor: Floor,
    counters: Counters,
}

impl Journal {
    /// Goes on from what was `recovered`; its [files](Recovered::files_to_sync) are synced. `opened` is the time of the wall clock, in
    /// seconds since 1970: it is written into segments, for whoever looks at them.
    ///
    /// Refused if the settings have another identity than what was recovered, or no numbers are left.
    pub fn new(settings: CheckedSettings, recovered: Recovered, opened: u64) -> Result<Self, OpenError> {
        if let Some(other) = recovered.identity.filter(|identity| *identity != settings.identity) {
            return Err(OpenError::OtherIdentity(other));
        }
        let first = recovered.first();
        let floor = first.after_opening().ok_or(OpenError::NoNumbers)?;
        let last = recovered.last_number;
        // Nothing below the floor comes any more.
        let reached = Mark(last.max(recovered.floor.number.saturating_sub(1)));
        Ok(Journal {
            settings,
            largest: settings.largest_body(),
            waiting: Waiting::new(settings.most_waiting(), settings.frame_bytes),
            segments: Segments::new(settings, recovered, first, opened),
            commit: None,
            next_commit: Duration::ZERO,
            next_number: first.number,
            previous: last,
            flushed: reached,
            fsynced: reached,
            ended: reached,
            is_any_to_be_synced: false,
            is_any_unsynced: false,
            failure: None,
            floor,
            counters: Counters::default(),
        })
    }

    /// Above all generations and marks of this opening, whatever it does. Who keeps that elsewhere, once it is open and before anything is
    /// acknowledged, and gives it [back](Recovered::above) at the next start, has marks that never go backwards, even if all files are lost.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// Writes a record behind all others. Its body is `parts`, one behind the other. Once [`flushed`](Journal::flushed) or
    /// [`fsynced`](Journal::fsynced) is no less than the mark, it is on disk in that sense.
    ///
    /// Nothing has happened if it is refused.
    pub fn append(&mut self, class: Class, kind: u8, parts: &[&[u8]]) -> Result<Mark, Refused> {
        self.append_as(class, true, kind, parts)
    }

    /// The same; unless it `is_to_be_synced` [`fsynced`](Journal::fsynced) reaches its mark only if that of another record, with it or behind it, does.
    pub fn append_as(
        &mut self,
        class: Class,
        is_to_be_synced: bool,
        kind: u8,
        parts: &[&[u8]],
    ) -> Result<Mark, Refused> {
        let length = parts.iter().map(|part| part.len()).sum();
        match self.room_for(class, length)? {
            Room::Open => {}
            room => self.begin_frame(matches!(room, Room::Next)),
        }
        self.is_any_to_be_synced |= is_to_be_synced;
        self.waiting.push(kind, length, parts, is_to_be_synced).map(Mark).ok_or(Refused::Full)
    }

    fn room_for(&mut self, class: Class, length: usize) -> Result<Room, Refused> {
        if self.failure.is_some() {
            return Err(Refused::Failed);
        }
        if length > self.largest {
            return Err(Refused::TooLarge);
        }
        if !self.segments.allows(class) {
            return Err(Refused::Full);
        }
        let bytes = record_bytes(length);
        if self.waiting.open_room(class) >= bytes {
            return Ok(Room::Open);
        }
        if !self.waiting.may_begin(class) {
            return Err(Refused::Busy);
        }
        if self.segments.room_here(self.waiting.open_bytes()) >= (FRAME_HEADER + bytes) as u64 {
            return Ok(Room::Here);
        }
        if self.segments.allows_next(class) {
            return Ok(Room::Next);
        }
        self.close_frame();
        self.segments.seal();
        Err(Refused::Full)
    }

    fn close_frame(&mut self) {
        if let Some(frame) = self.waiting.close() {
            self.segments.took(frame.whole());
        }
    }

    fn begin_frame(&mut self, in_next_segment: bool) {
        self.close_frame();
        if in_next_segment {
            self.segments.advance();
        }
        if let Some(place) = self.segments.place() {
            self.waiting.begin(place, self.next_number);
            self.segments.begins(self.next_number);
            self.next_number += 1;
        }
    }

    /// The length of the largest body that [`append`](Journal::append) takes now; none if it takes no record at all.
    pub fn room(&self, class: Class) -> Option<usize> {
        if self.failure.is_some() || !self.segments.allows(class) {
            return None;
        }
        let frame = self.settings.frame_bytes as u64;
        let begun = |room: u64| room.min(frame).saturating_sub(FRAME_HEADER as u64) as usize;
        let mut most = self.waiting.open_room(class);
        if self.waiting.may_begin(class) {
            most = most.max(begun(self.segments.room_here(self.waiting.open_bytes())));
            if self.segments.allows_next(class) {
                most = most.max(begun(self.segments.room_next()));
            }
        }
        (most >= record_bytes(0)).then(|| largest_body(most))
    }

    /// What is to be done now, if anything: ask until there is nothing. What has an answer gets it in any order.
    pub fn next_effect(&mut self, now: Duration) -> Option<Effect> {
        if self.failure.is_some() {
            return None;
        }
        match self.begin_commit(now) {
            Some(write) => Some(Effect::Write(write)),
            None => self.segments.next_effect(now),
        }
    }

    fn begin_commit(&mut self, now: Duration) -> Option<Write> {
        if now < self.next_commit {
            return None;
        }
        if let Some(commit) = &mut self.commit {
            let write = commit.is_to_be_begun_again().then(|| commit.begin_again())??;
            self.next_commit = now + self.settings.commit_interval.max(BEGUN_AGAIN_AFTER);
            self.counters.begun_again += 1;
            return Some(write);
        }
        if self.waiting.first_is_open() {
            self.close_frame();
        }
        let frame = self.waiting.pop()?;
        let previous = std::mem::replace(&mut self.previous, frame.number);
        let sync = self.sync_of(&frame);
        let (commit, write) = Commit::begin(frame, previous, self.settings.identity, sync, now);
        self.commit = Some(commit);
        self.next_commit = now + self.settings.commit_interval;
        Some(write)
    }

    /// How a frame becomes durable.
    fn sync_of(&self, frame: &Frame) -> Sync {
        // A sync is of one file, and the next frame may be in another one.
        let is_last = frame.place.room - frame.whole() < self.settings.frame_bytes as u64;
        match self.settings.sync {
            _ if !(frame.is_to_be_synced || self.is_any_to_be_synced && is_last) => Sync::Never,
            // A write that is durable by itself says nothing of those before it.
            Sync::Dsync if self.is_any_unsynced => Sync::Linked,
            sync => sync,
        }
    }

    /// An effect has been carried out, or could not be. False, and nothing has happened, if it is none that is under way.
    pub fn answer(&mut self, answer: Answer, now: Duration) -> bool {
        match answer {
            Answer::Written { buffer, result } => self.written(buffer, result),
            Answer::Synced(result) => self.synced(result),
            Answer::Prepared { file, result } => self.prepared(file, result, now),
        }
    }

    /// A write has ended; `result` is how many bytes were written. Its buffer comes back. False, and nothing has happened, if that is not the one
    /// that is being written.
    ///
    /// [`Interrupted`](io::ErrorKind::Interrupted) and [`WouldBlock`](io::ErrorKind::WouldBlock) say that the system has not begun to write: the
    /// same bytes are to be written to the same place once more, up to [`MOST_ATTEMPTS`](super::MOST_ATTEMPTS) times, [so far apart](super::BEGUN_AGAIN_AFTER). Any other error,
    /// and any other number of bytes than those of the write, ends the journal.
    pub fn written(&mut self, buffer: Aligned, result: io::Result<usize>) -> bool {
        let Some(commit) = self.commit.as_mut().filter(|commit| commit.writes(&buffer)) else { return false };
        match result {
            Ok(written) if commit.was_written(written) => {
                self.flushed = commit.cost.mark;
                self.waiting.give_back(buffer);
                self.end_commit();
            }
            Ok(written) => {
                let of = commit.bytes();
                self.fail(Failure::Short { written, of });
            }
            Err(error) => {
                let was_not_begun = matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock);
                if !was_not_begun || !commit.was_not_begun(buffer) {
                    self.fail(Failure::Write(error));
                }
            }
        }
        true
    }

    /// The sync behind a write has ended that was begun with [`Sync::Linked`]. If it is there before the answer to the write, it counts when that is. False, and
    /// nothing has happened, if there is none. An error of any kind ends the journal, if the write was one: a second sync would pass over
    /// what the first one lost.
    pub fn synced(&mut self, result: io::Result<()>) -> bool {
        let is_awaited = self.commit.as_mut().is_some_and(|commit| commit.was_synced(result));
        self.end_commit();
        is_awaited
    }

    /// Ends the commit, if all its answers are there.
    fn end_commit(&mut self) {
        let ended = |commit: &mut Commit| Some((commit.cost, commit.is_synced(), commit.end()?));
        let Some((cost, is_synced, end)) = self.commit.as_mut().and_then(ended) else { return };
        self.commit = None;
        if let Err(error) = end {
            return self.fail(Failure::Sync(error));
        }
        self.ended = cost.mark;
        if is_synced {
            self.fsynced = cost.mark;
        }
        self.is_any_unsynced = !is_synced;
        self.counters.count(cost);
    }

    /// Ends the journal: what is on disk is not known any more, and would not be by another attempt.
    fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.commit = None;
        self.waiting.clear();
    }

    /// A segment was prepared, or could not be: then that is tried again
    /// [a second later](super::PREPARED_AGAIN_AFTER) or more, or with a file that was released meanwhile. False, and nothing has happened, if
    /// that file is not being prepared.
    pub fn prepared(&mut self, file: FileId, result: io::Result<()>, now: Duration) -> bool {
        self.segments.prepared(file, result, now)
    }

    /// All records with marks up to this one survive the end of the process; those excepted whose sync has failed then.
    pub fn flushed(&self) -> Mark {
        self.flushed
    }

    /// All records with marks up to this one survive a loss of power. It stays where it is with [`Sync::Never`], and as long as nothing is
    /// [to be synced](Journal::append_as).
    pub fn fsynced(&self) -> Mark {
        self.fsynced
    }

    /// What ended the journal. It is for ever: no mark advances any more, nothing is taken, no effect comes out.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Why no further segment can be prepared at present: the disk is full, most likely.
    pub fn shortage(&self) -> Option<&io::Error> {
        self.segments.trouble()
    }

    /// What it has done so far, and what the last commit cost.
    pub fn counters(&self) -> Counters {
        Counters { segments: self.segments.prepared_so_far(), ..self.counters }
    }

    /// The generation of the segment that records with this mark are in; none if that is archived, or there are none. So the caller can keep a
    /// list per segment of what it put there.
    pub fn generation_of(&self, mark: Mark) -> Option<u64> {
        self.segments.generation_of(mark.0)
    }

    /// How many bytes a segment has.
    pub fn segment_bytes(&self) -> u64 {
        self.settings.segment_bytes
    }

    /// How many bytes all its segments have.
    pub fn capacity(&self) -> usize {
        self.segments.fullness().segments * self.settings.segment_bytes as usize
    }

    /// How many files it has, those among them that are to be used again.
    pub fn files(&self) -> usize {
        self.segments.files()
    }

    /// How many segments wait for the archive, and how many are ready.
    pub fn fullness(&self) -> Fullness {
        self.segments.fullness()
    }

    /// The segment to be archived next, if it is time for that: all that is still needed of its records is to be put elsewhere.
    pub fn oldest(&self) -> Option<Archived> {
        let Segment { file, generation, first, last, .. } = self.segments.oldest(self.ended.0)?;
        Some(Archived { file, generation, from: Mark(first), to: Mark(last) })
    }

    /// Ends the segment that is being written, and wants all that there are archived, however much room is left: before an orderly stop, or for a
    /// copy of the archive that has everything. [`oldest`](Journal::oldest) names them one after the other, the last one when its writes have
    /// ended. The journal takes records as before, in the next segment; what is appended from now on is not wanted.
    ///
    /// What was released last is read once more at the next start, unless another segment is prepared before. What is [not to be
    /// synced](Journal::append_as) is not synced by that.
    pub fn seal(&mut self) {
        self.close_frame();
        self.segments.seal_all();
    }

    /// A copy is about to be made: the files of segments that are released from now on stay as they are, until it is [let go](Journal::let_go). There may be
    /// as many others in their place.
    pub fn hold(&mut self) {
        self.segments.hold();
    }

    /// Ends the frame that is open. The pieces of a copy that has all records so far, as soon as they are [flushed](Journal::flushed), and nothing of what
    /// is appended from now on: those segments included that were released since it is [held](Journal::hold).
    pub fn cut(&mut self) -> Vec<Piece> {
        self.close_frame();
        self.segments.pieces()
    }

    /// The copy is made, or is not wanted any more.
    pub fn let_go(&mut self) {
        self.segments.let_go();
    }

    /// Allows one segment more, until others are released, if none is left: to write what is needed of those once more. There are twice as many
    /// as there are to be at most.
    pub fn grow(&mut self) {
        self.segments.grow();
    }

    /// What is needed of all that was written has been written again, and the rest is released: there are to be as many segments as that
    /// needs, within the settings. Three times as many as have records now, and two, so that it is not written again too often.
    pub fn fit_to_need(&mut self) {
        self.segments.fit_to_need();
    }

    /// There are to be so many segments, within the settings: what is to be written is known.
    pub fn want(&mut self, segments: usize) {
        self.segments.want(segments);
    }

    /// The generation of the first segment that has records and was not released; none if none has.
    pub fn first(&self) -> Option<u64> {
        self.segments.first()
    }

    /// The generation of the segment that was begun last, of those that have records; none if none has.
    pub fn newest(&self) -> Option<u64> {
        self.segments.newest()
    }

    /// Wants all segments below this generation archived, however much room is left: nothing in them is needed any more.
    pub fn archive_below(&mut self, generation: u64) {
        self.segments.archive_below(generation);
    }

    /// The oldest segment is in the archive, and that survives what the journal survives: its file is used again. It may be read once more
    /// if the broker ends before another segment is prepared. False if it was not the oldest, or is not complete.
    pub fn release(&mut self, archived: Archived) -> bool {
        self.segments.release(archived.generation, self.ended.0)
    }

    /// Whether every record is in the kernel, and on disk if that is asked for: never after a failure.
    pub fn is_settled(&self) -> bool {
        self.failure.is_none() && self.waiting.is_empty() && self.commit.is_none()
    }

    /// The next moment at which there is an effect, if nothing else happens meanwhile.
    pub fn wake_up(&self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        let has_write = match &self.commit {
            Some(commit) => commit.is_to_be_begun_again(),
            None => !self.waiting.is_empty(),
        };
        let commit = has_write.then_some(self.next_commit);
        [commit, self.segments.wake_up()].into_iter().flatten().min()
    }
}
