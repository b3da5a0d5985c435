//! The commit that is under way.

use std::io;
use std::time::Duration;

use super::aligned::Aligned;
use super::counters::LastCommit;
use super::effect::{Mark, Write};
use super::format::{FRAME_HEADER, Identity};
use super::segment::Place;
use super::settings::Sync;
use super::waiting::Frame;

/// How often a write is begun that the system does not begin, before that is a failure;
pub const MOST_ATTEMPTS: u32 = 100;
/// and how long after the last time at the earliest.
pub const BEGUN_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A frame on its way to the disk: written, and then synced if that is linked to it.
pub(super) struct Commit {
    place: Place,
    sync: Sync,
    /// How many bytes are written.
    bytes: usize,
    /// Where the buffer is that is written: no other one is there at the same time.
    address: usize,
    /// The buffer, if the system gave it back without a beginning.
    unwritten: Option<Aligned>,
    is_written: bool,
    /// The answer to the sync, if it is there before that to the write.
    synced: Option<io::Result<()>>,
    attempts: u32,
    pub cost: LastCommit,
}

impl Commit {
    /// Begins to write `frame`, which is not empty, behind the one with the number `previous`.
    pub fn begin(frame: Frame, previous: u64, identity: Identity, sync: Sync, now: Duration) -> (Self, Write) {
        let (mark, place, records) = (Mark(frame.number), frame.place, frame.records);
        let record_bytes = (frame.used - FRAME_HEADER) as u64;
        let (buffer, bytes) = frame.finish(identity, previous);
        let mut commit = Commit {
            place,
            sync,
            bytes,
            address: 0,
            unwritten: None,
            is_written: false,
            synced: None,
            attempts: 0,
            cost: LastCommit { mark, records, record_bytes, written_bytes: bytes as u64, begun: now },
        };
        let write = commit.attempt(buffer);
        (commit, write)
    }

    fn attempt(&mut self, buffer: Aligned) -> Write {
        self.attempts += 1;
        self.address = buffer.as_ptr().addr();
        Write { file: self.place.file, offset: self.place.offset, buffer, bytes: self.bytes, sync: self.sync }
    }

    /// Whether the write is to be begun again: nothing of it is on its way any more.
    pub fn is_to_be_begun_again(&self) -> bool {
        self.unwritten.is_some() && (self.sync != Sync::Linked || self.synced.is_some())
    }

    /// The same write once more.
    pub fn begin_again(&mut self) -> Option<Write> {
        let buffer = self.unwritten.take()?;
        self.synced = None;
        Some(self.attempt(buffer))
    }

    /// Whether this buffer is being written.
    pub fn writes(&self, buffer: &Aligned) -> bool {
        !self.is_written && self.unwritten.is_none() && self.address == buffer.as_ptr().addr()
    }

    /// The system has not begun to write. False if that was often enough, which is a failure.
    pub fn was_not_begun(&mut self, buffer: Aligned) -> bool {
        self.unwritten = Some(buffer);
        self.attempts < MOST_ATTEMPTS
    }

    /// So many bytes were written. False if those are not all.
    pub fn was_written(&mut self, bytes: usize) -> bool {
        self.is_written = bytes == self.bytes;
        self.is_written
    }

    /// Whether it is synced.
    pub fn is_synced(&self) -> bool {
        self.sync != Sync::Never
    }

    /// How many bytes are to be written.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sync has been answered. False if none is awaited.
    pub fn was_synced(&mut self, result: io::Result<()>) -> bool {
        let is_awaited = self.sync == Sync::Linked && self.synced.is_none();
        if is_awaited {
            self.synced = Some(result);
        }
        is_awaited
    }

    /// How it ended, if it has.
    pub fn end(&mut self) -> Option<io::Result<()>> {
        match self.sync {
            _ if !self.is_written => None,
            Sync::Linked => self.synced.take(),
            Sync::Dsync | Sync::Never => Some(Ok(())),
        }
    }
}
