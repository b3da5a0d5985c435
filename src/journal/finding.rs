//! What is found in the files of a journal besides records.

use std::fmt;
use std::io;

use super::format::{FORMAT_VERSION, StoreId};
use super::segment::FileId;

/// Something that an operator should know of.
#[derive(Debug)]
pub struct Finding {
    /// The file, if it is about one that is there.
    pub file: Option<FileId>,
    /// What it is.
    pub what: What,
}

/// What was found.
#[derive(Debug)]
pub enum What {
    /// The last frame is not whole: it was being written when the broker ended, or a bad bit is in it. The journal goes on in its place.
    TornTail {
        /// Where it begins in the file.
        offset: u64,
        /// How many bytes it would have.
        bytes: u64,
    },
    /// One or several frames that cannot be read, although later ones can, or had begun. The file is not used again: it is
    /// [set aside](super::Effect::SetAside) for inspection when the rest of it is archived.
    Damaged {
        /// Where they begin in the file.
        offset: u64,
        /// How many bytes they are, or might be.
        bytes: u64,
    },
    /// One or several frames that an earlier start could not read, and went on without, and that may have been acknowledged. They do not
    /// count, whether they can be read now or not. The file is set aside as a damaged one is; until then this is found at each start.
    GivenUp {
        /// Where they begin in the file.
        offset: u64,
        /// How many bytes they are, or might be.
        bytes: u64,
    },
    /// Frames that should be there, and are in no file.
    MissingFrames {
        /// The frame that was read before.
        after: u64,
        /// The frame that was read next.
        before: u64,
    },
    /// A segment that should be there. Its file was removed, or is one of those that cannot be read.
    MissingSegment {
        /// Its generation.
        generation: u64,
    },
    /// The header of a segment is damaged; which segment it is was told from its frames.
    HeaderLost {
        /// Its generation.
        generation: u64,
    },
    /// No header, nor a frame of this journal: something else, or wholly damaged. It is left alone.
    NoSegment,
    /// A segment of another store. It is left alone.
    OtherStore {
        /// That store.
        store: StoreId,
    },
    /// A segment of another shard. It is left alone.
    OtherShard {
        /// That shard.
        shard: u32,
    },
    /// A segment of another version of the format. It is left alone.
    OtherVersion {
        /// That version.
        version: u32,
    },
    /// There is another segment of the same generation: one is a copy. This one is left alone.
    SameGeneration {
        /// The generation.
        generation: u64,
    },
    /// The file is shorter than it was made. What is there is read.
    TooShort {
        /// How long it is.
        bytes: u64,
        /// How long it should be.
        of: u64,
    },
    /// The file is longer than it was made. What is behind its end is not read, and goes with it.
    TooLong {
        /// How long it is.
        bytes: u64,
        /// How long it should be.
        of: u64,
    },
    /// The file, or a part of it, cannot be read. What can be is read, up to a [bound](super::MOST_UNREADABLE).
    Unreadable {
        /// Where that begins.
        offset: u64,
        /// What the system says.
        error: io::Error,
    },
    /// A frame is whole, but has something in it that is not a record. The records before it count.
    NoRecord {
        /// The number of the frame.
        number: u64,
        /// How many of its bytes are not read.
        bytes: usize,
    },
    /// More than are listed.
    Further {
        /// How many.
        count: u64,
    },
}

impl Finding {
    /// Whether something is lost that the journal may have acknowledged. A torn tail alone is what the end of a process leaves.
    pub fn is_loss(&self) -> bool {
        match self.what {
            What::Damaged { .. }
            | What::GivenUp { .. }
            | What::MissingFrames { .. }
            | What::MissingSegment { .. }
            | What::NoSegment
            | What::OtherVersion { .. }
            | What::TooShort { .. }
            | What::Unreadable { .. }
            | What::NoRecord { .. }
            | What::Further { .. } => true,
            What::TornTail { .. }
            | What::HeaderLost { .. }
            | What::TooLong { .. }
            | What::OtherStore { .. }
            | What::OtherShard { .. }
            | What::SameGeneration { .. } => false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(FileId(file)) = self.file {
            write!(f, "file {file}: ")?;
        }
        self.what.fmt(f)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::TornTail { offset, bytes } => {
                write!(f, "the last commit, {bytes} bytes at {offset}, is not whole; the journal ends before it")
            }
            What::Damaged { offset, bytes } => {
                write!(
                    f,
                    "commits in the {bytes} bytes at {offset} are damaged and left out; those behind them are read"
                )
            }
            What::GivenUp { offset, bytes } => {
                write!(
                    f,
                    "commits in the {bytes} bytes at {offset} could not be read at an earlier start, and are left out"
                )
            }
            What::MissingFrames { after, before } => {
                write!(f, "commits between those numbered {after} and {before} are missing")
            }
            What::MissingSegment { generation } => write!(f, "the segment of generation {generation} is missing"),
            What::HeaderLost { generation } => {
                write!(f, "the header is damaged; by its commits it is the segment of generation {generation}")
            }
            What::NoSegment => f.write_str("this is not a segment of a journal, or wholly damaged; it is left alone"),
            What::OtherStore { store } => write!(f, "this belongs to another store, {store}; it is left alone"),
            What::OtherShard { shard } => write!(f, "this belongs to shard {shard}; it is left alone"),
            What::OtherVersion { version } => write!(
                f,
                "this has version {version} of the format, and {FORMAT_VERSION} is what can be read; it is left alone"
            ),
            What::SameGeneration { generation } => {
                write!(f, "this is a second segment of generation {generation}; it is left alone")
            }
            What::TooShort { bytes, of } | What::TooLong { bytes, of } => {
                write!(f, "the file has {bytes} bytes instead of {of}")
            }
            What::Unreadable { offset, error } => write!(f, "the file cannot be read at {offset}: {error}"),
            What::NoRecord { number, bytes } => {
                write!(f, "{bytes} bytes at the end of commit {number} are not records, and left out")
            }
            What::Further { count } => write!(f, "there are {count} further findings"),
        }
    }
}

/// Findings, as many as are listed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    listed: Vec<Finding>,
    further: u64,
}

/// How many findings are listed.
const MOST_LISTED: usize = 1000;

impl Findings {
    pub fn add(&mut self, file: Option<FileId>, what: What) {
        if self.listed.len() < MOST_LISTED {
            self.listed.push(Finding { file, what });
        } else {
            self.further += 1;
        }
    }

    pub fn listed(&self) -> &[Finding] {
        &self.listed
    }

    pub fn into_list(mut self) -> Vec<Finding> {
        if self.further > 0 {
            self.listed.push(Finding { file: None, what: What::Further { count: self.further } });
        }
        self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_bound_are_listed_and_the_rest_is_counted() {
        let mut findings = Findings::default();
        (0..MOST_LISTED + 5).for_each(|file| findings.add(Some(FileId(file as u32)), What::NoSegment));
        assert_eq!(findings.listed().len(), MOST_LISTED);
        let list = findings.into_list();
        assert_eq!(list.len(), MOST_LISTED + 1);
        assert_eq!(list.last().map(ToString::to_string).as_deref(), Some("there are 5 further findings"));
    }

    #[test]
    fn each_is_told_in_words() {
        let of = |what| Finding { file: Some(FileId(3)), what };
        let torn = of(What::TornTail { offset: 4096, bytes: 8192 });
        assert_eq!(
            torn.to_string(),
            "file 3: the last commit, 8192 bytes at 4096, is not whole; the journal ends before it"
        );
        assert!(!torn.is_loss());
        let version = of(What::OtherVersion { version: 9 });
        assert_eq!(
            version.to_string(),
            "file 3: this has version 9 of the format, and 1 is what can be read; it is left alone"
        );
        assert!(version.is_loss());
        let missing = Finding { file: None, what: What::MissingFrames { after: 3, before: 6 } };
        assert_eq!(missing.to_string(), "commits between those numbered 3 and 6 are missing");
    }
}
