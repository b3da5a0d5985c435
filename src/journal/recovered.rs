//! What a journal goes on from.

use super::format::{Identity, MOST_NUMBER};
use super::segment::{FileId, Idle, Segment};

/// By how much numbers of frames grow when a journal is opened: above all that may have been written and could not be read.
pub(super) const NUMBER_STEP: u64 = 1 << 40;
/// By how much generations do.
pub(super) const GENERATION_STEP: u64 = 1 << 32;

/// Numbers that a journal has not reached, for whoever keeps them elsewhere than in its files: so that neither generations nor marks go backwards
/// if all of those have gone. [`Journal::floor`](super::Journal::floor) says which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Above all generations.
    pub generation: u64,
    /// Above the numbers of all marks.
    pub number: u64,
}

/// What a journal goes on from: what [`Reader`](super::Reader) found in its files, or nothing.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Whose journal it is; none if nothing was read, which goes with any.
    pub(super) identity: Option<Identity>,
    /// Segments that count, the oldest first.
    pub(super) live: Vec<Segment>,
    /// Files of which nothing counts.
    pub(super) idle: Vec<Idle>,
    /// Files that are not touched.
    pub(super) left_alone: Vec<FileId>,
    /// Above the number of every file that there is.
    pub(super) next_file: u32,
    /// The number of the last frame that counts, 0 if there was none.
    pub(super) last_number: u64,
    /// A number that earlier openings reached; they may have got so much further as one can.
    pub(super) reached: u64,
    /// The highest generation of all, 0 if there was none.
    pub(super) last_generation: u64,
    pub(super) floor: Floor,
}

impl Floor {
    /// Above all that an opening can reach which begins with these; none if there are not so many numbers.
    pub(super) fn after_opening(self) -> Option<Self> {
        let Floor { generation, number } = self;
        let after = Floor {
            generation: generation.saturating_add(GENERATION_STEP),
            number: number.saturating_add(NUMBER_STEP),
        };
        (after.generation <= MOST_NUMBER && after.number <= MOST_NUMBER).then_some(after)
    }
}

impl Recovered {
    /// The journal of a shard that never had one.
    pub fn nothing() -> Self {
        Recovered::default()
    }

    /// The same, with a floor that was kept elsewhere: what the journal goes on with is above it. Numbers beyond 2⁶² count as that.
    pub fn above(mut self, floor: Floor) -> Self {
        self.floor = Floor {
            generation: floor.generation.max(self.floor.generation).min(MOST_NUMBER),
            number: floor.number.max(self.floor.number).min(MOST_NUMBER),
        };
        self
    }

    /// The files that may still be in the kernel alone: they, and their directory, have to be synced before the journal goes on, since
    /// what follows in it relies on what was read. If all were synced before they were read, that is done.
    pub fn files_to_sync(&self) -> impl Iterator<Item = FileId> {
        self.live.iter().map(|segment| segment.file).chain(self.idle.iter().map(|idle| idle.file))
    }

    /// The files that are not the journal's, or of which that cannot be told. They are neither written nor removed, and take room on the disk
    /// beside it; the findings say what each is.
    pub fn left_alone(&self) -> &[FileId] {
        &self.left_alone
    }

    /// How many segments wait for the archive, the one that was written last among them.
    pub fn live(&self) -> usize {
        self.live.len()
    }

    /// The highest generation that was found, 0 if there was none. Then all files of the journal have gone, if somebody remembers a floor.
    pub fn generation(&self) -> u64 {
        self.last_generation
    }

    /// The generation and the number that the journal goes on with.
    pub(super) fn first(&self) -> Floor {
        let is_new = self.next_file == 0;
        let generation = if is_new { 1 } else { self.last_generation.saturating_add(GENERATION_STEP) };
        let number = if is_new { 1 } else { self.reached.saturating_add(NUMBER_STEP) };
        Floor { generation: generation.max(self.floor.generation), number: number.max(self.floor.number) }
    }
}
