//! The journal of a shard.

use std::fmt;
use std::io;
use std::time::Duration;

use super::aligned::Aligned;
use super::effect::{Answer, Archived, Class, Effect, Fullness, Mark, Refused, Write};
use super::format::{FRAME_HEADER, largest_body, record_bytes};
use super::recovered::Recovered;
use super::segment::FileId;
use super::segments::Segments;
use super::settings::{CheckedSettings, Sync};
use super::waiting::Waiting;

/// By how much numbers of frames grow when a journal is opened: above all that may have been written and could not be read.
const NUMBER_STEP: u64 = 1 << 40;

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

/// The commit that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    None,
    Writing { number: u64, bytes: usize },
    Syncing { number: u64 },
}

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
    commit: Commit,
    /// When the next commit may begin.
    next_commit: Duration,
    next_number: u64,
    /// The number of the frame that was written last, or recovered.
    previous: u64,
    flushed: Mark,
    fsynced: Mark,
    failure: Option<Failure>,
}

impl Journal {
    /// Goes on from what was `recovered`; its [files](Recovered::files_to_sync) are synced. `opened` is the time of the wall clock, in
    /// seconds since 1970: it is written into segments, for whoever looks at them.
    pub fn new(settings: CheckedSettings, recovered: Recovered, opened: u64) -> Self {
        let last = recovered.last_number;
        let next_number = if recovered.next_file == 0 { 1 } else { recovered.reached + NUMBER_STEP };
        Journal {
            settings,
            largest: settings.largest_body(),
            waiting: Waiting::new(settings.most_waiting(), settings.frame_bytes),
            segments: Segments::new(settings, recovered, next_number, opened),
            commit: Commit::None,
            next_commit: Duration::ZERO,
            next_number,
            previous: last,
            flushed: Mark(last),
            fsynced: Mark(last),
            failure: None,
        }
    }

    /// Writes a record behind all others. Its body is `parts`, one behind the other. Once [`flushed`](Journal::flushed) or
    /// [`fsynced`](Journal::fsynced) is no less than the mark, it is on disk in that sense.
    ///
    /// Nothing has happened if it is refused.
    pub fn append(&mut self, class: Class, kind: u8, parts: &[&[u8]]) -> Result<Mark, Refused> {
        let length = parts.iter().map(|part| part.len()).sum();
        match self.room_for(class, length)? {
            Room::Open => {}
            room => self.begin_frame(matches!(room, Room::Next)),
        }
        self.waiting.push(kind, length, parts).map(Mark).ok_or(Refused::Full)
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
        if self.waiting.open_room() >= bytes {
            return Ok(Room::Open);
        }
        if !self.waiting.may_begin() {
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
            self.segments.took(frame.number, frame.whole());
        }
    }

    fn begin_frame(&mut self, in_next_segment: bool) {
        self.close_frame();
        if in_next_segment {
            self.segments.advance();
        }
        if let Some(place) = self.segments.place() {
            self.waiting.begin(place, self.next_number);
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
        let mut most = self.waiting.open_room();
        if self.waiting.may_begin() {
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
        if self.commit != Commit::None || self.waiting.is_empty() || now < self.next_commit {
            return None;
        }
        if self.waiting.first_is_open() {
            self.close_frame();
        }
        let frame = self.waiting.pop()?;
        let (number, place) = (frame.number, frame.place);
        let (buffer, bytes) = frame.finish(self.settings.identity, self.previous);
        self.previous = number;
        self.commit = Commit::Writing { number, bytes };
        self.next_commit = now + self.settings.commit_interval;
        Some(Write { file: place.file, offset: place.offset, buffer, bytes, sync: self.settings.sync })
    }

    /// An effect has been carried out, or could not be.
    pub fn answer(&mut self, answer: Answer, now: Duration) {
        match answer {
            Answer::Written { buffer, result } => self.written(buffer, result),
            Answer::Synced(result) => self.synced(result),
            Answer::Prepared { file, result } => self.prepared(file, result, now),
        }
    }

    /// A write has ended; `result` is how many bytes were written. Its buffer comes back.
    pub fn written(&mut self, buffer: Aligned, result: io::Result<usize>) {
        let Commit::Writing { number, bytes } = self.commit else {
            debug_assert!(false, "nothing was being written");
            return;
        };
        self.commit = Commit::None;
        match result {
            Ok(written) if written == bytes => {
                self.waiting.give_back(buffer);
                self.flushed = Mark(number);
                match self.settings.sync {
                    Sync::Dsync => self.fsynced = Mark(number),
                    Sync::Linked => self.commit = Commit::Syncing { number },
                    Sync::Never => {}
                }
            }
            Ok(written) => self.fail(Failure::Short { written, of: bytes }),
            Err(error) => self.fail(Failure::Write(error)),
        }
    }

    /// The sync behind a write has ended: with [`Sync::Linked`].
    pub fn synced(&mut self, result: io::Result<()>) {
        let Commit::Syncing { number } = self.commit else {
            // The write has failed before it.
            debug_assert!(self.failure.is_some(), "nothing was being synced");
            return;
        };
        self.commit = Commit::None;
        match result {
            Ok(()) => self.fsynced = Mark(number),
            Err(error) => self.fail(Failure::Sync(error)),
        }
    }

    /// Ends the journal: what is on disk is not known any more, and would not be by another attempt.
    fn fail(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.waiting.clear();
    }

    /// A segment was prepared, or could not be: then that is tried again
    /// [a second later](super::PREPARED_AGAIN_AFTER) or more, or with a file that was released meanwhile.
    pub fn prepared(&mut self, file: FileId, result: io::Result<()>, now: Duration) {
        self.segments.prepared(file, result, now);
    }

    /// All records with marks up to this one survive the end of the process.
    pub fn flushed(&self) -> Mark {
        self.flushed
    }

    /// All records with marks up to this one survive a loss of power. It stays where it is with [`Sync::Never`].
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

    /// How many segments wait for the archive, and how many are ready.
    pub fn fullness(&self) -> Fullness {
        self.segments.fullness()
    }

    /// The segment to be archived next, if it is time for that: all that is still needed of its records is to be put elsewhere.
    pub fn oldest(&self) -> Option<Archived> {
        self.segments.oldest(self.flushed.0).map(|(file, generation)| Archived { file, generation })
    }

    /// The oldest segment is in the archive, and that survives what the journal survives: its file is used again. It may be read once more
    /// if the broker ends before another segment is prepared. False if it was not the oldest, or is not complete.
    pub fn release(&mut self, archived: Archived) -> bool {
        self.segments.release(archived.generation, self.flushed.0)
    }

    /// Whether every record is in the kernel, and on disk if that is asked for: never after a failure.
    pub fn is_settled(&self) -> bool {
        self.failure.is_none() && self.waiting.is_empty() && self.commit == Commit::None
    }

    /// The next moment at which there is an effect, if nothing else happens meanwhile.
    pub fn wake_up(&self) -> Option<Duration> {
        if self.failure.is_some() {
            return None;
        }
        let commit = (self.commit == Commit::None && !self.waiting.is_empty()).then_some(self.next_commit);
        [commit, self.segments.wake_up()].into_iter().flatten().min()
    }
}
