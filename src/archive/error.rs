//! What goes wrong with an archive.

use std::fmt;

/// What kind of trouble it is: what may be tried then follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room for what is to be put; nothing of it was. It may be tried again when something was deleted, or there is room on the disk.
    Full,
    /// A value is not what was put: that one is lost, and all others are as they were. Of reading only.
    Lost,
    /// The archive has lost its order: what of it can be read still is right. Nothing more is to be asked of it, since what it does not find may be there.
    Damaged,
    /// Something could not be written, synced or read. Nothing more is written until the archive was opened again, and what was not persisted may be
    /// lost.
    Failed,
    /// Another process uses it. Of opening only.
    InUse,
    /// It belongs to another store, or was made by another version. Of opening only.
    Foreign,
}

/// Something went wrong with an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveError {
    /// What kind of trouble it is.
    pub trouble: Trouble,
    problem: String,
}

impl ArchiveError {
    /// The problem is a whole sentence, which names the file and says what to do.
    pub fn new(trouble: Trouble, problem: impl Into<String>) -> Self {
        ArchiveError { trouble, problem: problem.into() }
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for ArchiveError {}
