//! Files of segments that are archived, looked through once more before they are used again: what is lost in one was told, but its file may not have
//! been set aside before the broker ended.

use super::finding::Findings;
use super::format::{BLOCK, FrameHeader, Identity};
use super::given_up::GivenUp;
use super::segment::{Condition, Idle};
use super::source::{Blocks, ReadAt, Records, Source, Window};

/// A good frame of a segment that is archived.
#[derive(Clone, Copy)]
pub(super) struct Archived {
    pub number: u64,
    pub generation: u64,
    /// Which of the idle files it is in.
    pub idle: usize,
}

/// A walk through segments that do not count, the oldest first.
pub(super) struct Inspection<'a> {
    pub identity: Identity,
    pub given_up: &'a GivenUp,
    pub window: &'a mut Window,
    pub records: &'a mut Records,
    /// The last good frame.
    pub last: Option<Archived>,
}

impl Inspection<'_> {
    /// Adds the files of `sources` to those that are `idle`, in the condition that they are in. Nothing is told.
    pub fn inspect<F: ReadAt>(&mut self, sources: Vec<Source<F>>, idle: &mut Vec<Idle>) {
        for source in sources {
            idle.push(source.idle());
            self.inspect_one(&source, idle);
        }
    }

    fn inspect_one<F: ReadAt>(&mut self, source: &Source<F>, idle: &mut [Idle]) {
        let (own, generation) = (idle.len() - 1, source.generation);
        // Between two that are there others may have been used again.
        let mut last = self.last.filter(|last| last.generation == source.after);
        let mut findings = Findings::default();
        let mut blocks = Blocks::new(source.id, BLOCK as u64);
        self.window.forget();
        let (mut end, mut torn, mut is_evidence) = (BLOCK as u64, 0, false);
        while let Some((offset, block)) = blocks.next(&source.file, source.bytes, self.window, &mut findings) {
            let header = FrameHeader::read(block, offset, self.identity);
            let is_old = |header: &FrameHeader| last.is_some_and(|last| header.number <= last.number);
            let Some(header) = header.filter(|header| header.generation == generation && !is_old(header)) else {
                continue;
            };
            let read = self.records.read(&source.file, source.bytes, offset, &header);
            if let Err(error) = read {
                blocks.could_not_read(offset, error, &mut findings);
                continue;
            }
            let is_whole = matches!(read, Ok(true));
            let is_next = last.is_none_or(|last| header.previous == last.number);
            if is_whole {
                blocks.offset = offset + header.whole();
            }
            if is_whole && !self.given_up.has(header.number) {
                // They are one behind the other.
                is_evidence |= offset > end;
                end = blocks.offset;
                // If one is missing at the end of the file before, that is the one to be kept.
                if let Some(before) = last.filter(|_| !is_next) {
                    idle[before.idle].condition = Condition::Evidence;
                }
                last = Some(Archived { number: header.number, generation, idle: own });
                self.last = last;
                torn = 0;
            } else {
                is_evidence |= is_whole || torn > 0 || !is_next;
                torn += 1;
            }
        }
        self.records.clear();
        if is_evidence || blocks.is_unreadable() {
            idle[own].condition = Condition::Evidence;
        }
    }
}
