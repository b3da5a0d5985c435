//! The file of the archive, and the thread that works on it: see [`archive`](crate::archive).
//!
//! | file | what |
//! |---|---|
//! | `file` | [`ArchiveFile`]: an archive in one file, by the library redb |
//! | `pages` | [`find_pages`]: which pages it has, and what is damaged of them |
//! | `looking` | a file that is looked at, and never written |
//! | `trouble` | what its errors mean, and what to do |
//! | `snapshot`, `copying` | [`ArchiveSnapshot`]: what it was like at some moment; [`copy_archive`]: another file with all of that, while it goes on |
//! | `aside` | [`set_aside`]: a damaged file is kept under another name |
//! | `thread` | [`ArchiveThread`]: the thread `moormq-archive`, and the doors of the [shards](ArchiveDoor) and of [operators](ArchiveControl) to it |
//!
//! # The file
//!
//! It is made as `archive.redb.new` and renamed. Two tables are in it: `facts` has the version of the format, the store, and the bytes of all keys and
//! values; `values` has for each key its value and behind it four bytes, the CRC-32C of key and value, lowest first. A damaged value is known by that; damage
//! to what the library itself has written it finds, or not, as it goes.
//!
//! A persist is one transaction. It saves which blocks of the file are free, some 250 KB for each GB of it, so that a start after a crash reads nothing but
//! that: so batches should come together. Until then all that was changed is in one that is open: a crash takes it back as a whole.
//!
//! # Trouble
//!
//! * *The disk is full*: before that, [`ArchiveSettings::reserve`] bytes are left, and who wants to put something is refused. Deleting makes room in
//!   the file, which becomes shorter only if its end is free.
//! * *A write or sync fails*: nothing more is written, until the file was opened again. It then has what was persisted last.
//! * *A read fails, or the library panics*: likewise; the shards are told, and the broker ends. A page that could not be read is no page that is lost.
//! * *A value is damaged*: that one is lost. Of pages there are summaries, which are made again from the pages, if these are whole.
//! * *The file is damaged*: what can be read of it is right. If it cannot be opened, it has to be restored from a backup or [set aside](set_aside): the
//!   broker then goes on with its journals alone.
//!
//! # Bounds
//!
//! | what | bound |
//! |---|---|
//! | memory | [`ArchiveSettings::cache`]; what is damaged of pages, while that is told; the batches of [`Limits`](crate::archive::Limits), a value |
//! | disk | [`ArchiveSettings::most`] bytes of keys and values; some more for bookkeeping, and for what was deleted and is not used again yet |
//! | files that are set aside | [`MOST_ASIDE`] |

#[cfg(feature = "archive")]
mod aside;
#[cfg(feature = "archive")]
mod copying;
#[cfg(feature = "archive")]
mod file;
#[cfg(feature = "archive")]
mod looking;
mod pages;
#[cfg(feature = "archive")]
mod snapshot;
#[cfg(all(test, feature = "archive"))]
mod tests;
mod thread;
#[cfg(feature = "archive")]
mod trouble;

#[cfg(feature = "archive")]
pub use aside::{MOST_ASIDE, set_aside};
#[cfg(feature = "archive")]
pub use copying::copy_archive;
#[cfg(feature = "archive")]
pub use file::{ARCHIVE_VERSION, ArchiveFile, ArchiveSettings};
pub use pages::{DamagedPage, find_pages, mend_pages, read_messages};
#[cfg(feature = "archive")]
pub use snapshot::ArchiveSnapshot;
pub use thread::{ArchiveControl, ArchiveDoor, ArchiveHold, ArchiveReport, ArchiveThread};
