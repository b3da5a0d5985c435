//! A copy of an archive that goes on.

use std::path::Path;

use super::file::{ArchiveFile, ArchiveSettings};
use super::snapshot::ArchiveSnapshot;
use crate::archive::{Archive, ArchiveError};
use crate::journal::StoreId;

/// So many bytes are written at once.
const WRITTEN: usize = 1 << 20;
/// So many are persisted at once.
const PERSISTED: usize = 16 << 20;
/// Memory for parts of the copy.
const CACHE: usize = 8 << 20;

/// Makes the archive of `store` at `path`, where there is none, with all that the snapshot has. `goes_on` is told how many bytes more were copied; false,
/// if it says that this is to end.
///
/// # Errors
///
/// The archive cannot be read, or the copy not written.
pub fn copy_archive(
    snapshot: &ArchiveSnapshot,
    path: &Path,
    store: StoreId,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, ArchiveError> {
    let mut copy = ArchiveFile::open(path, store, ArchiveSettings { cache: CACHE, ..ArchiveSettings::default() })?;
    let mut left = snapshot.entries()?;
    let (mut entries, mut bytes, mut unpersisted) = (Vec::new(), 0, 0);
    loop {
        let next = left.next()?;
        let is_end = next.is_none();
        if let Some((key, value)) = next {
            bytes += key.len() + value.len();
            entries.push((key, value));
        }
        if bytes >= WRITTEN || is_end {
            copy.put_entries(&std::mem::take(&mut entries))?;
            unpersisted += bytes;
            if !goes_on(std::mem::take(&mut bytes) as u64) {
                return Ok(false);
            }
        }
        if unpersisted >= PERSISTED || is_end {
            copy.persist()?;
            unpersisted = 0;
        }
        if is_end {
            return copy.close().map(|()| true);
        }
    }
}
