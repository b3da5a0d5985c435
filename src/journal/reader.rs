//! Reading a journal: all that counts in its files, in order.

use super::effect::Mark;
use super::finding::{Finding, Findings, What};
use super::format::{BLOCK, FrameHeader, Identity, read_record};
use super::given_up::GivenUp;
use super::inspection::{Archived, Inspection};
use super::order::{is_missing_before, order};
use super::recovered::{Floor, Recovered};
use super::segment::{Condition, FileId, Idle, Segment};
use super::source::{Blocks, Kind, ReadAt, Records, Source, Window, identify};

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The mark that [`append`](super::Journal::append) gave it.
    pub mark: Mark,
    /// The generation of the segment that it is in: that is [`Archived::generation`](super::Archived) when it is archived.
    pub generation: u64,
    /// Its kind, as it was appended.
    pub kind: u8,
    /// Its body, as it was appended.
    pub body: &'a [u8],
}

/// A frame that had begun, and is not whole.
#[derive(Clone, Copy)]
struct Torn {
    offset: u64,
    bytes: u64,
    /// Its number, and that of the frame before it; none if its header is not sound.
    numbers: Option<[u64; 2]>,
}

/// Bytes of a segment that were stepped over: damaged, or never written.
struct Gap {
    /// Which of the segments.
    segment: usize,
    offset: u64,
    bytes: u64,
    /// The last frame in it that had begun.
    torn: Option<Torn>,
    /// There are frames behind it in the same segment.
    is_inside: bool,
}

/// What was passed since the last good frame.
#[derive(Default)]
struct Passed {
    gaps: Vec<Gap>,
    /// The last frame that had begun in the current segment.
    torn: Option<Torn>,
    /// What the first frame that was given up by an earlier start followed.
    given_up: Option<u64>,
    /// Up to where there are such in the current segment that may have been acknowledged.
    given_up_below: u64,
}

impl Passed {
    /// A frame is passed that an earlier start gave up, and whose predecessor it could read was `last`. One that is not whole, and followed that,
    /// is what the end of a process leaves; all others may have been acknowledged.
    fn give_up(&mut self, offset: u64, header: &FrameHeader, is_whole: bool, last: Option<u64>) {
        let before = last.unwrap_or(*self.given_up.get_or_insert(header.previous));
        if is_whole || header.previous != before {
            self.given_up_below = offset + header.whole();
        }
    }
}

/// Reads all segments of a journal in order. One frame is in memory at a time, and a window of 256 KiB. Nothing is written.
///
/// # What is to be done before
///
/// It trusts that what it is given is on the device, and that nobody else writes it. Whoever opens the files has to see to that, for each file and
/// before the first byte of it is read:
///
/// 1. **A lock on the file itself**: an exclusive `flock` of the open file description through which the file is written later (a ring that has the
///    file registered has it by that), held until the process ends; for a file that is made as soon as it is made. A write that is on its way to the
///    device when its process is killed holds the open file description, and with it that lock, until it has ended. A lock on the directory or
///    on another file, or one of `fcntl`, which belongs to the process, goes earlier: then the write reaches the file after it was read, or after
///    it was recycled, and is over the new header or a frame that is acknowledged. Who does not get the lock waits for a bounded time, and does not
///    start then.
/// 2. **A sync of the file** after that, and of the directory. What a killed process has written may be in the kernel alone. If it fails, do not
///    start: what is in the file is not known.
/// 3. **No reading from the cache of the kernel**: either direct reads (`O_DIRECT`), or `POSIX_FADV_DONTNEED` for the whole file, after the sync. Pages
///    whose sync has failed, in this process or an earlier one, count as clean: they are read as they were written, no further sync
///    writes them, and the next loss of power loses them.
///
/// What a failed sync was for is lost by the third, though it was [`flushed`](super::Journal::flushed): it would be lost anyway, but later, and with all
/// that was acknowledged since.
pub struct Reader<F> {
    identity: Identity,
    /// The segments that count, by generation.
    sources: Vec<Source<F>>,
    /// What was found of each, as far as it was read.
    segments: Vec<Segment>,
    idle: Vec<Idle>,
    left_alone: Vec<FileId>,
    next_file: u32,
    last_generation: u64,
    findings: Findings,
    window: Window,
    /// Where it is read: in the last of `segments`.
    blocks: Blocks,
    passed: Passed,
    /// The number of the last good frame.
    last: Option<u64>,
    given_up: GivenUp,
    /// The last frame of those that are archived.
    archived: Option<Archived>,
    records: Records,
    is_done: bool,
}

impl<F: ReadAt> Reader<F> {
    /// A reader of those of `files` that belong to the journal of `identity`. What the others are is among the findings.
    pub fn new(identity: Identity, files: Vec<(FileId, F)>) -> Self {
        let mut findings = Findings::default();
        let mut window = Window::new();
        let next_file = files.iter().map(|(FileId(id), _)| id.saturating_add(1)).max().unwrap_or(0);
        let (mut sources, mut idle, mut left_alone) = (Vec::new(), Vec::new(), Vec::new());
        for (id, file) in files {
            match identify(id, file, identity, &mut window, &mut findings) {
                Kind::Segment(source) => sources.push(source),
                Kind::Unfinished(file) => idle.push(file),
                Kind::Other => left_alone.push(id),
            }
        }
        let last_generation = sources.iter().map(|source| source.generation).max().unwrap_or(0);
        let given_up = GivenUp::new(sources.iter().map(|source| source.given_up));
        let [sources, others] = order(sources, &mut left_alone, &mut findings);
        let mut records = Records::none();
        let mut inspection =
            Inspection { identity, given_up: &given_up, window: &mut window, records: &mut records, last: None };
        inspection.inspect(others, &mut idle);
        let archived = inspection.last;
        let mut reader = Reader {
            identity,
            sources,
            segments: Vec::new(),
            idle,
            left_alone,
            next_file,
            last_generation,
            findings,
            window,
            blocks: Blocks::new(FileId(0), 0),
            passed: Passed::default(),
            last: None,
            given_up,
            archived,
            records,
            is_done: false,
        };
        reader.next_segment();
        reader
    }

    /// In which opening the next record was written, as its [`Journal`](super::Journal) was told; none at the end. Where that is lost, it is that of the
    /// segment before, or of the next one if there is none.
    pub fn opened(&mut self) -> Option<u64> {
        if !self.find() {
            return None;
        }
        let known = |source: &Source<F>| Some(source.opened).filter(|opened| *opened > 0);
        let (read, rest) = self.sources.split_at(self.segments.len());
        let before = read.iter().rev().find_map(known);
        Some(before.or_else(|| rest.iter().find_map(known)).unwrap_or(u64::MAX))
    }

    /// Whether there is another record. If it is, it is the first of what is left of the current frame.
    fn find(&mut self) -> bool {
        loop {
            let rest = self.records.rest();
            if read_record(rest).is_some() {
                return true;
            }
            if !rest.is_empty() {
                self.tell_no_record(rest.len());
            }
            if !self.next_frame() {
                return false;
            }
        }
    }

    /// The next record; none at the end.
    #[expect(clippy::should_implement_trait, reason = "a record is lent until the next one is asked for")]
    pub fn next(&mut self) -> Option<Record<'_>> {
        if !self.find() {
            return None;
        }
        let (kind, body, end) = read_record(self.records.rest())?;
        let (number, generation) = (self.last?, self.segments.last()?.generation);
        Some(Record { mark: Mark(number), generation, kind, body: &self.records.take(end)[body..] })
    }

    fn tell_no_record(&mut self, bytes: usize) {
        let segment = self.segments.last_mut();
        let file = segment.map(|segment| {
            segment.worsen(Condition::Evidence);
            segment.file
        });
        self.findings.add(file, What::NoRecord { number: self.last.unwrap_or(0), bytes });
    }

    /// What was found so far besides records.
    pub fn findings(&self) -> &[Finding] {
        self.findings.listed()
    }

    /// What a journal goes on from, and all that was found. Records that were not read yet are read over.
    pub fn finish(mut self) -> (Recovered, Vec<Finding>) {
        while self.next().is_some() {}
        let last_live = self.segments.iter().rposition(|segment| segment.last > 0);
        let (live, unused) = self.segments.split_at(last_live.map_or(0, |last| last + 1));
        let mut idle = self.idle;
        // An opening begins with a segment of its own: what was prepared for the last one is prepared anew.
        idle.extend(unused.iter().map(|&Segment { file, bytes, condition, .. }| Idle { file, bytes, condition }));
        // If all is archived, the journal goes on behind that.
        let last_number = self.last.or(self.archived.map(|archived| archived.number)).unwrap_or(0);
        let recovered = Recovered {
            identity: Some(self.identity),
            live: live.to_vec(),
            idle,
            left_alone: self.left_alone,
            next_file: self.next_file,
            last_number,
            // Those frames may be archived by now, and written over.
            reached: self.given_up.reached().max(last_number),
            last_generation: self.last_generation,
            floor: Floor::default(),
        };
        (recovered, self.findings.into_list())
    }

    /// Goes on with the next segment; false if there is none.
    fn next_segment(&mut self) -> bool {
        let Some(source) = self.sources.get(self.segments.len()) else { return false };
        let mut segment = Segment::empty(source.id, source.generation, source.bytes, BLOCK);
        segment.worsen(source.condition);
        self.segments.push(segment);
        self.blocks = Blocks::new(source.id, BLOCK as u64);
        self.window.forget();
        true
    }

    /// Reads the next frame; false at the end.
    fn next_frame(&mut self) -> bool {
        while !self.is_done {
            if self.next_frame_here() {
                return true;
            }
            self.step_over(None);
            if !self.next_segment() {
                self.is_done = true;
                self.tell_tail();
            }
        }
        self.records.clear();
        false
    }

    /// Reads the next frame of the current segment; false if it has none any more.
    fn next_frame_here(&mut self) -> bool {
        let Some(current) = self.segments.len().checked_sub(1) else { return false };
        let Source { file, bytes, generation, .. } = &self.sources[current];
        let (start, blocks) = (self.segments[current].end, &mut self.blocks);
        while let Some((offset, block)) = blocks.next(file, *bytes, &mut self.window, &mut self.findings) {
            let Some(header) = FrameHeader::read(block, offset, self.identity) else {
                // Where the next frame was to be one may have begun; elsewhere a client could have made that up.
                if offset == start && FrameHeader::has_begun(block, *generation) {
                    self.passed.torn = Some(Torn { offset, bytes: BLOCK as u64, numbers: None });
                }
                continue;
            };
            // Others remain from an earlier use of the file.
            if header.generation != *generation || self.last.is_some_and(|last| header.number <= last) {
                continue;
            }
            let read = self.records.read(file, *bytes, offset, &header);
            let is_whole = matches!(read, Ok(true));
            if let Err(error) = read {
                blocks.could_not_read(offset, error, &mut self.findings);
            }
            if self.given_up.has(header.number) {
                if is_whole {
                    blocks.offset = offset + header.whole();
                }
                self.passed.give_up(offset, &header, is_whole, self.last);
            } else if is_whole {
                self.accept(offset, &header);
                return true;
            } else {
                let numbers = Some([header.number, header.previous]);
                self.passed.torn = Some(Torn { offset, bytes: header.whole(), numbers });
            }
        }
        if blocks.is_unreadable() {
            self.segments[current].worsen(Condition::Evidence);
        }
        false
    }

    fn accept(&mut self, offset: u64, header: &FrameHeader) {
        let current = self.segments.len() - 1;
        let is_cut = |archived: &Archived| {
            archived.generation == self.sources[current].after && archived.number != header.previous
        };
        if let Some(archived) = self.archived.take().filter(is_cut) {
            // The end of the last segment that is archived is lost.
            self.idle[archived.idle].condition = Condition::Evidence;
        }
        if offset > self.segments[current].end {
            self.step_over(Some(offset));
        }
        self.tell_lost(header.number, header.previous);
        let segment = &mut self.segments[current];
        segment.add(header.number);
        segment.end = offset + header.whole();
        self.blocks.offset = segment.end;
        self.last = Some(header.number);
        self.passed = Passed::default();
    }

    /// Notes what there is from the last good frame of the current segment up to the `next` one, or up to the end.
    fn step_over(&mut self, next: Option<u64>) {
        let Some(segment) = self.segments.len().checked_sub(1) else { return };
        let offset = self.segments[segment].end;
        let end = next.unwrap_or(self.sources[segment].bytes);
        let torn = self.passed.torn.take();
        let given_up_below = std::mem::take(&mut self.passed.given_up_below).min(end);
        if given_up_below > offset {
            self.tell(segment, What::GivenUp { offset, bytes: given_up_below - offset });
        }
        if offset < end {
            self.passed.gaps.push(Gap { segment, offset, bytes: end - offset, torn, is_inside: next.is_some() });
        }
    }

    /// Something in a segment is lost: its bytes are kept.
    fn tell(&mut self, segment: usize, what: What) {
        self.segments[segment].worsen(Condition::Evidence);
        self.findings.add(Some(self.segments[segment].file), what);
    }

    /// A frame is reached that is good, or torn: tells what was lost before it, if anything was.
    fn tell_lost(&mut self, number: u64, previous: u64) {
        let gaps = std::mem::take(&mut self.passed.gaps);
        if self.last == Some(previous) {
            // What was stepped over was never written, or given up by an earlier start.
            return;
        }
        let is_told = self.blame(&gaps);
        if let Some(after) = self.last.filter(|_| !is_told) {
            self.findings.add(None, What::MissingFrames { after, before: number });
        }
    }

    /// Something was lost in one of these: tells of those in which it may have been. Whether there are any.
    fn blame(&mut self, gaps: &[Gap]) -> bool {
        let mut is_told = false;
        for &Gap { segment, offset, bytes, torn, is_inside } in gaps {
            // The unused end of a segment looks like this, too; it is not to blame if the segment behind it is missing.
            let next = self.sources.get(segment + 1);
            let is_unused = next.is_some_and(|next| is_missing_before(&self.sources, next));
            if is_inside || torn.is_some() || !is_unused {
                is_told = true;
                self.tell(segment, What::Damaged { offset, bytes });
            }
        }
        is_told
    }

    /// The end is reached. The last frame that had begun may have been on its way; no other one was at the same time, so what was before it is
    /// lost.
    fn tell_tail(&mut self) {
        let gaps = &mut self.passed.gaps;
        let Some(at) = gaps.iter().rposition(|gap| gap.torn.is_some()) else { return };
        gaps.truncate(at + 1);
        let Some((Gap { segment, offset, .. }, torn)) = gaps.pop().and_then(|gap| gap.torn.map(|torn| (gap, torn)))
        else {
            return;
        };
        if offset < torn.offset {
            gaps.push(Gap { segment, offset, bytes: torn.offset - offset, torn: None, is_inside: true });
        }
        if let Some([number, previous]) = torn.numbers {
            self.tell_lost(number, previous);
        } else {
            let begun: Vec<Gap> = std::mem::take(gaps).into_iter().filter(|gap| gap.torn.is_some()).collect();
            self.blame(&begun);
        }
        let Torn { offset, bytes, .. } = torn;
        self.findings.add(Some(self.segments[segment].file), What::TornTail { offset, bytes });
    }
}
