//! One segment, its file, and a place in it.

/// The number of a segment file, from which its name is made. It says nothing about what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// A segment that has its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub file: FileId,
    pub generation: u64,
    /// The length of its file.
    pub bytes: u64,
    /// Where its next frame goes.
    pub end: u64,
    /// The number of its last frame, 0 if there is none.
    pub last: u64,
    /// Whether its file may be used again without being filled.
    pub is_sound: bool,
    /// Whether all of it could be read.
    pub is_readable: bool,
}

impl Segment {
    /// One of which nothing is known but its header, which ends at `end`: no frames, and nothing wrong with its file.
    pub fn empty(file: FileId, generation: u64, bytes: u64, end: usize) -> Self {
        Segment { file, generation, bytes, end: end as u64, last: 0, is_sound: true, is_readable: true }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub file: FileId,
    pub generation: u64,
    pub offset: u64,
    /// How many bytes there are up to the end of the segment.
    pub room: u64,
}
