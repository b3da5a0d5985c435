//! What goes into a journal and comes out of it.

use std::fmt;
use std::io;

use super::aligned::Aligned;
use super::segment::FileId;
use super::settings::Sync;

/// How far a journal is: the number of a frame. Records of one frame have the same mark; later ones none that is smaller, after another opening
/// neither.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub(super) u64);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a record does to the room that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It needs more.
    Ordinary,
    /// It needs less in the end, once the archive has it: an acknowledgement, the end of a session. It may have the last segment, and a frame of its
    /// own beyond those that may wait.
    Relief,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is larger than [`CheckedSettings::largest_body`](super::CheckedSettings::largest_body).
    TooLarge,
    /// As much waits for its commit as may: there is room again after the next one.
    Busy,
    /// There is no segment for it: the archive is behind, or the disk is full.
    Full,
    /// The journal has [failed](super::Journal::failure).
    Failed,
}

/// What is to be done for a journal.
pub enum Effect {
    /// Write a frame; its answer is [`Journal::written`](super::Journal::written), and if its sync is [`Sync::Linked`] a second one, in any order,
    /// [`Journal::synced`](super::Journal::synced): that, too, whatever became of the write.
    Write(Write),
    /// Prepare a segment; its answer is [`Journal::prepared`](super::Journal::prepared).
    Prepare(Preparation),
    /// Remove a file, or try to: nothing in it counts. No answer.
    Remove {
        /// The file.
        file: FileId,
    },
    /// Give a file another name, under which no start reads it, or try to: it could not be read in full, or something in it is lost, and nothing
    /// in it counts any more. No answer. A start has no more of them than there were files, and no file twice; how many are kept over the
    /// years is for those who keep them to bound.
    SetAside {
        /// The file.
        file: FileId,
    },
}

/// What became of an effect. There is none to those that have no answer.
#[derive(Debug)]
pub enum Answer {
    /// To [`Journal::written`](super::Journal::written): of a [`Effect::Write`].
    Written {
        /// The buffer that was written.
        buffer: Aligned,
        /// How many bytes were.
        result: io::Result<usize>,
    },
    /// To [`Journal::synced`](super::Journal::synced): of a [`Effect::Write`] with [`Sync::Linked`].
    Synced(io::Result<()>),
    /// To [`Journal::prepared`](super::Journal::prepared): of a [`Effect::Prepare`].
    Prepared {
        /// The file.
        file: FileId,
        /// Whether it can be written.
        result: io::Result<()>,
    },
}

/// A frame to be written.
pub struct Write {
    /// Where to.
    pub file: FileId,
    /// Where in it, a multiple of [`BLOCK`](super::BLOCK).
    pub offset: u64,
    /// What, from its front on.
    pub buffer: Aligned,
    /// How much of the buffer, a multiple of [`BLOCK`](super::BLOCK).
    pub bytes: usize,
    /// How it becomes durable.
    pub sync: Sync,
}

impl Write {
    /// The bytes to be written.
    pub fn data(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }
}

/// A segment to be prepared.
///
/// If `fill` is set the file is made, which is not there, and filled with `bytes` zeros that are really written (so that no later write has to find room),
/// and synced. Then the header is written at its front, and the file is synced, with its directory if it is new. Only then the answer is given.
pub struct Preparation {
    /// The file.
    pub file: FileId,
    /// The generation that it gets; it is in the header, too.
    pub generation: u64,
    /// How long it is.
    pub bytes: u64,
    /// Whether it is to be made and filled. Otherwise it is there, and has been used.
    pub fill: bool,
    /// There are as many already as [`segments`](super::Settings::segments) says: it is made only if the disk has room to spare. Not so if what is
    /// needed cannot be written again without it: that makes room.
    pub is_beyond: bool,
    /// Its first block.
    pub header: Aligned,
}

/// A segment to be archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its file.
    pub file: FileId,
    /// Its generation: that of all records in it, see [`Journal::generation_of`](super::Journal::generation_of).
    pub generation: u64,
    /// The mark of its first records, as far as they could be read; 0 if none could.
    pub from: Mark,
    /// The mark of its last records.
    pub to: Mark,
}

/// How full a journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fullness {
    /// How many segments have records that are not archived, the one that is written among them.
    pub live: usize,
    /// How many segments can be written at once, the one for relief among them.
    pub ready: usize,
    /// How many there are to be in all.
    pub segments: usize,
    /// How many there may be at most, if what is needed takes that many.
    pub most: usize,
}
