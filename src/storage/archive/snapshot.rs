//! What an archive was like at some moment, and stays while it goes on.

use std::path::PathBuf;

use redb::{Range, ReadOnlyTable, ReadableTable};

use super::trouble::guarded;
use crate::archive::ArchiveError;

/// The table of values, as it was.
pub(super) type ValuesThen = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What an archive was like when it was persisted last. As long as there is one, the file of the archive takes some more room: for what was changed since.
pub struct ArchiveSnapshot {
    pub(super) path: PathBuf,
    pub(super) values: ValuesThen,
    /// Of all keys and values.
    pub(super) bytes: u64,
}

/// A key, and its value with its checksum.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

/// Its keys and values, one after the other.
pub(super) struct Entries<'a> {
    of: &'a ArchiveSnapshot,
    left: Range<'a, &'static [u8], &'static [u8]>,
}

impl ArchiveSnapshot {
    /// The bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All that it has. A value has its checksum behind it.
    pub(super) fn entries(&self) -> Result<Entries<'_>, ArchiveError> {
        Ok(Entries { of: self, left: guarded(&self.path, "read", || Ok(self.values.iter()?))? })
    }
}

impl Entries<'_> {
    /// The next key and its value.
    pub fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        guarded(&self.of.path, "read", || {
            let next = self.left.next().transpose()?;
            Ok(next.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
        })
    }
}
