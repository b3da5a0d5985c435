//! What a journal goes on from.

use super::segment::{FileId, Segment};

/// What a journal goes on from: what [`Reader`](super::Reader) found in its files, or nothing.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Segments that count, the oldest first.
    pub(super) live: Vec<Segment>,
    /// Files of which nothing counts: their lengths, by which they are used again or not; none if they cannot be.
    pub(super) idle: Vec<(FileId, Option<u64>)>,
    /// Files that could not be read, and of which nothing counts.
    pub(super) set_aside: Vec<FileId>,
    /// Above the number of every file that there is.
    pub(super) next_file: u32,
    /// The number of the last frame that counts, 0 if there was none.
    pub(super) last_number: u64,
    /// A number that earlier openings reached; they may have got so much further as one can.
    pub(super) reached: u64,
    /// The highest generation of all.
    pub(super) last_generation: u64,
}

impl Recovered {
    /// The journal of a shard that never had one.
    pub fn nothing() -> Self {
        Recovered::default()
    }

    /// The files that may still be in the kernel alone: they, and their directory, have to be synced before the journal goes on, since
    /// what follows in it relies on what was read.
    pub fn files_to_sync(&self) -> impl Iterator<Item = FileId> {
        self.live.iter().map(|segment| segment.file).chain(self.idle.iter().map(|(file, _)| *file))
    }

    /// How many segments wait for the archive, the one that was written last among them.
    pub fn live(&self) -> usize {
        self.live.len()
    }
}
