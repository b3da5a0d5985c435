//! Reading a journal: all that counts in its files, in order.

use std::collections::BTreeSet;

use super::effect::Mark;
use super::finding::{Finding, Findings, What};
use super::format::{BLOCK, FrameHeader, Identity, read_record};
use super::recovered::Recovered;
use super::segment::{FileId, Segment};
use super::source::{Blocks, Kind, ReadAt, Source, Window, identify, read_frame};

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The mark that [`append`](super::Journal::append) gave it.
    pub mark: Mark,
    /// Its kind, as it was appended.
    pub kind: u8,
    /// Its body, as it was appended.
    pub body: &'a [u8],
}

/// Bytes of a segment that were stepped over: damaged, or never written.
struct Gap {
    /// Which of the segments.
    segment: usize,
    offset: u64,
    bytes: u64,
    /// The first header of a frame in it that is sound though its frame is not: where, and how long that would be.
    torn: Option<(u64, u64)>,
    /// There are good frames behind it in the same segment.
    is_inside: bool,
}

/// Reads all segments of a journal in order. One frame is in memory at a time, and a window of 256 KiB. Nothing is written.
pub struct Reader<F> {
    identity: Identity,
    /// The segments that count, by generation.
    sources: Vec<Source<F>>,
    /// What was found of each, as far as it was read.
    segments: Vec<Segment>,
    idle: Vec<(FileId, Option<u64>)>,
    next_file: u32,
    last_generation: u64,
    findings: Findings,
    window: Window,
    /// Where it is read: in the last of `segments`.
    blocks: Blocks,
    /// What was stepped over since the last good frame.
    gaps: Vec<Gap>,
    torn: Option<(u64, u64)>,
    /// The number of the last good frame.
    last: Option<u64>,
    /// Frames with numbers between these do not count.
    given_up: BTreeSet<[u64; 2]>,
    records: Vec<u8>,
    /// Where the next record is in `records`.
    at: usize,
    is_done: bool,
}

impl<F: ReadAt> Reader<F> {
    /// A reader of those of `files` that belong to the journal of `identity`. What the others are is among the findings.
    pub fn new(identity: Identity, files: Vec<(FileId, F)>) -> Self {
        let mut findings = Findings::default();
        let mut window = Window::new();
        let next_file = files.iter().map(|(FileId(id), _)| id.saturating_add(1)).max().unwrap_or(0);
        let (mut sources, mut idle) = (Vec::new(), Vec::new());
        for (id, file) in files {
            match identify(id, file, identity, &mut window, &mut findings) {
                Kind::Segment(source) => sources.push(source),
                Kind::Unfinished => idle.push((id, None)),
                Kind::Other => {}
            }
        }
        let last_generation = sources.iter().map(|source| source.generation).max().unwrap_or(0);
        let given_up = sources.iter().map(|source| source.given_up).collect();
        let sources = order(sources, &mut idle, &mut findings);
        let mut reader = Reader {
            identity,
            sources,
            segments: Vec::new(),
            idle,
            next_file,
            last_generation,
            findings,
            window,
            blocks: Blocks::new(FileId(0), 0),
            gaps: Vec::new(),
            torn: None,
            last: None,
            given_up,
            records: Vec::new(),
            at: 0,
            is_done: false,
        };
        reader.next_segment();
        reader
    }

    /// The next record; none at the end.
    #[expect(clippy::should_implement_trait, reason = "a record is lent until the next one is asked for")]
    pub fn next(&mut self) -> Option<Record<'_>> {
        let (kind, body, end) = loop {
            let rest = &self.records[self.at..];
            if let Some(record) = read_record(rest) {
                break record;
            }
            if !rest.is_empty() {
                let what = What::NoRecord { number: self.last.unwrap_or(0), bytes: rest.len() };
                self.findings.add(self.segments.last().map(|segment| segment.file), what);
            }
            if !self.next_frame() {
                return None;
            }
        };
        let start = self.at;
        self.at += end;
        Some(Record { mark: Mark(self.last?), kind, body: &self.records[start + body..start + end] })
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
        let (readable, other): (Vec<&Segment>, Vec<&Segment>) = unused.iter().partition(|segment| segment.is_readable);
        idle.extend(readable.iter().map(|segment| (segment.file, segment.is_sound.then_some(segment.bytes))));
        let last_number = self.last.unwrap_or(0);
        // Those frames may be archived by now, and written over.
        let reached = self.given_up.iter().map(|[_, first]| *first).max().unwrap_or(0);
        let recovered = Recovered {
            live: live.to_vec(),
            idle,
            set_aside: other.iter().map(|segment| segment.file).collect(),
            next_file: self.next_file,
            last_number,
            reached: reached.max(last_number),
            last_generation: self.last_generation,
        };
        (recovered, self.findings.into_list())
    }

    /// Goes on with the next segment; false if there is none.
    fn next_segment(&mut self) -> bool {
        let Some(source) = self.sources.get(self.segments.len()) else { return false };
        let &Source { id: file, generation, bytes, .. } = source;
        self.segments.push(Segment::empty(file, generation, bytes, BLOCK));
        self.blocks = Blocks::new(file, BLOCK as u64);
        self.window.forget();
        true
    }

    /// Reads the next frame; false at the end.
    fn next_frame(&mut self) -> bool {
        self.records.clear();
        self.at = 0;
        while !self.is_done {
            if self.next_frame_here() {
                return true;
            }
            self.step_over(false);
            if !self.next_segment() {
                self.is_done = true;
                self.tell_torn_tail();
            }
        }
        self.records.clear();
        false
    }

    /// Reads the next frame of the current segment; false if it has none any more.
    fn next_frame_here(&mut self) -> bool {
        let Some(current) = self.segments.len().checked_sub(1) else { return false };
        let Source { file, bytes, generation, .. } = &self.sources[current];
        let blocks = &mut self.blocks;
        while let Some((offset, block)) = blocks.next(file, *bytes, &mut self.window, &mut self.findings) {
            let Some(header) = FrameHeader::read(block, offset, self.identity) else { continue };
            // Others remain from an earlier use of the file, or were given up by an earlier start, which could not read them.
            let is_given_up = |[last, first]: &[u64; 2]| *last < header.number && header.number < *first;
            let is_old = self.last.is_some_and(|last| header.number <= last);
            if header.generation != *generation || is_old || self.given_up.iter().any(is_given_up) {
                continue;
            }
            match read_frame(file, *bytes, offset, &header, &mut self.records) {
                Ok(true) => {
                    self.accept(offset, &header);
                    return true;
                }
                Ok(false) => {
                    self.torn.get_or_insert((offset, header.whole()));
                }
                Err(error) => blocks.could_not_read(offset, error, &mut self.findings),
            }
        }
        if blocks.is_unreadable() {
            self.sources[current].is_sound = false;
        }
        self.segments[current].is_sound = self.sources[current].is_sound;
        self.segments[current].is_readable = !blocks.is_unreadable();
        false
    }

    fn accept(&mut self, offset: u64, header: &FrameHeader) {
        let current = self.segments.len() - 1;
        if offset > self.segments[current].end {
            self.blocks.offset = offset;
            self.step_over(true);
        }
        self.tell_lost(header);
        let segment = &mut self.segments[current];
        segment.last = header.number;
        segment.end = offset + header.whole();
        self.blocks.offset = segment.end;
        self.last = Some(header.number);
        self.torn = None;
    }

    /// Notes what there is from the last good frame of the current segment up to here.
    fn step_over(&mut self, is_inside: bool) {
        let Some(segment) = self.segments.len().checked_sub(1) else { return };
        let torn = self.torn.take();
        let (offset, end) =
            (self.segments[segment].end, if is_inside { self.blocks.offset } else { self.sources[segment].bytes });
        if offset < end {
            self.gaps.push(Gap { segment, offset, bytes: end - offset, torn, is_inside });
        }
    }

    /// A good frame is reached: tells what was lost before it, if anything was.
    fn tell_lost(&mut self, header: &FrameHeader) {
        let gaps = std::mem::take(&mut self.gaps);
        let is_next = |last: u64| header.previous == last;
        if self.last.is_some_and(is_next) {
            // What was stepped over was never written, or given up by an earlier start.
            return;
        }
        let mut is_told = self.last.is_none();
        for gap in gaps {
            // The unused end of a segment looks like this, too; it is not to blame if the segment behind it is missing.
            let is_unused =
                |gap: &Gap| self.sources.get(gap.segment + 1).is_some_and(|next| self.is_missing_before(next));
            if gap.is_inside || gap.torn.is_some() || !is_unused(&gap) {
                is_told = true;
                let Gap { segment, offset, bytes, .. } = gap;
                self.findings.add(Some(self.segments[segment].file), What::Damaged { offset, bytes });
            }
        }
        if let Some(after) = self.last.filter(|_| !is_told) {
            self.findings.add(None, What::MissingFrames { after, before: header.number });
        }
    }

    /// Whether the segment before `source` is not among those that are read.
    fn is_missing_before(&self, source: &Source<F>) -> bool {
        source.after > 0 && self.sources.iter().all(|other| other.generation != source.after)
    }

    fn tell_torn_tail(&mut self) {
        let torn = self.gaps.iter().find_map(|gap| Some((gap.segment, gap.torn?)));
        if let Some((segment, (offset, bytes))) = torn {
            self.findings.add(Some(self.segments[segment].file), What::TornTail { offset, bytes });
        }
    }
}

/// The segments that count, by generation. Files of those that do not are `idle`: those that are archived, and those that an opening has prepared
/// and not written, if a later one has gone on without them.
fn order<F>(
    mut sources: Vec<Source<F>>,
    idle: &mut Vec<(FileId, Option<u64>)>,
    findings: &mut Findings,
) -> Vec<Source<F>> {
    sources.sort_by_key(|source| (source.generation, !source.is_sound, source.id));
    let oldest = sources.iter().map(|source| source.oldest).max().unwrap_or(0);
    let steps: Vec<[u64; 2]> = sources.iter().map(|source| [source.after, source.generation]).collect();
    let is_stepped_over =
        |generation: u64| steps.iter().any(|[after, next]| (1..generation).contains(after) && generation < *next);
    let mut counting: Vec<Source<F>> = Vec::new();
    for source in sources {
        if source.generation < oldest || is_stepped_over(source.generation) {
            idle.push((source.id, source.is_sound.then_some(source.bytes)));
        } else if counting.last().is_some_and(|before| before.generation == source.generation) {
            findings.add(Some(source.id), What::SameGeneration { generation: source.generation });
        } else {
            counting.push(source);
        }
    }
    for source in &counting {
        let is_there = |other: &Source<F>| other.generation == source.after;
        if source.bytes < source.of {
            findings.add(Some(source.id), What::TooShort { bytes: source.bytes, of: source.of });
        }
        if source.after > 0 && source.after >= oldest && !counting.iter().any(is_there) {
            findings.add(None, What::MissingSegment { generation: source.after });
        }
    }
    counting
}
