//! One segment, its file, and a place in it.

/// The number of a segment file, from which its name is made. It says nothing about what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// What may become of a file when nothing in it counts any more; the worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Condition {
    /// It is used again as it is, if it has the right length.
    Sound,
    /// It is removed: its header is damaged, or its length is not what that says.
    Worn,
    /// It is set aside: a part of it could not be read, or commits in it were lost. Somebody may want to look at it, and nobody is to read it for
    /// the journal again.
    Evidence,
}

/// A segment that has its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub file: FileId,
    pub generation: u64,
    /// The length of its file.
    pub bytes: u64,
    /// Where its next frame goes.
    pub end: u64,
    /// The numbers of its first and its last frame, 0 if there is none.
    pub first: u64,
    pub last: u64,
    pub condition: Condition,
}

impl Segment {
    /// One of which nothing is known but its header, which ends at `end`: no frames, and nothing wrong with its file.
    pub fn empty(file: FileId, generation: u64, bytes: u64, end: usize) -> Self {
        Segment { file, generation, bytes, end: end as u64, first: 0, last: 0, condition: Condition::Sound }
    }

    /// It has a frame more.
    pub fn add(&mut self, number: u64) {
        if self.first == 0 {
            self.first = number;
        }
        self.last = number;
    }

    /// Its file is in that condition, or a worse one.
    pub fn worsen(&mut self, condition: Condition) {
        self.condition = self.condition.max(condition);
    }
}

/// A file of which nothing counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Idle {
    pub file: FileId,
    pub bytes: u64,
    pub condition: Condition,
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
