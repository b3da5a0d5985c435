//! The calls of an archive.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::Change;
use super::error::ArchiveError;
use super::key::ArchiveKey;
use super::span::Span;

/// What a scan has found: a key, and its value unless that is damaged.
pub type Found<'a> = (ArchiveKey<'a>, Result<&'a [u8], ArchiveError>);

/// An archive: values by key.
///
/// What was changed is read at once. After the end of the process or a loss of power, all that was persisted is there; of what was changed since, all up
/// to some change, or nothing.
///
/// Once an error says [`Trouble::Failed`](super::Trouble::Failed), nothing more can be changed or persisted: each further call for that fails, too.
/// Reading may still be possible.
pub trait Archive {
    /// What it was like at some moment.
    type Snapshot: Send + 'static;

    /// Whether there is room for so many bytes more.
    ///
    /// # Errors
    ///
    /// There is not; or the archive has failed.
    fn check_room(&mut self, bytes: usize) -> Result<(), ArchiveError>;

    /// Makes changes, in order. A span is deleted at once, however much that is: [`delete_some`](Archive::delete_some) does it in pieces.
    ///
    /// # Errors
    ///
    /// It has failed; some of them may have been made.
    fn apply(&mut self, changes: &[Change]) -> Result<(), ArchiveError>;

    /// Deletes the first keys of a span, `most` at most. Whether it has looked at all that there are.
    ///
    /// # Errors
    ///
    /// It has failed; some of them may be deleted.
    fn delete_some(&mut self, span: &Span, most: usize) -> Result<bool, ArchiveError>;

    /// Has all that was changed survive a loss of power.
    ///
    /// # Errors
    ///
    /// It has failed, and nothing since the last persist need have survived.
    fn persist(&mut self) -> Result<(), ArchiveError>;

    /// What was persisted so far, which stays as it is whatever is changed later.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn snapshot(&mut self) -> Result<Self::Snapshot, ArchiveError>;

    /// The value of a key, if it has one.
    ///
    /// # Errors
    ///
    /// It is damaged, which is [`Trouble::Lost`](super::Trouble::Lost); or cannot be read, which may be so of all others, too.
    fn read(&mut self, key: ArchiveKey<'_>) -> Result<Option<Bytes>, ArchiveError>;

    /// Calls `each` with the keys of a span in order, until that says that it is enough. A value that is damaged ends nothing.
    ///
    /// # Errors
    ///
    /// It cannot be read on from there.
    fn scan(&mut self, span: &Span, each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<(), ArchiveError>;

    /// How many bytes it takes on disk.
    fn bytes_on_disk(&self) -> u64;

    /// How many keys have a value.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn keys(&mut self) -> Result<u64, ArchiveError>;
}
