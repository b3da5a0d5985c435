//! Compaction: what counts of a store is written anew, and the rest removed.

use std::path::Path;

use super::report::StoreReport;
use super::rewriting::{Layout, Rewritten, rewrite, shortest_segment};
use super::view::StoreView;
use crate::storage::{ReadOnlyStore, StorageError, StoreDirectory};

/// What a compaction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// What is in the store now.
    pub rewritten: Rewritten,
    /// How many records there were before.
    pub records_before: u64,
    /// How many bytes its journals had.
    pub bytes_before: u64,
}

/// Compacts the store at `path`. It has as many shards as before, and segments as long as before; of a copy, whose files end with what is in them, as
/// long as they have to be. `now` is the time in seconds since 1970.
///
/// A store that is damaged is compacted only if `despite_damage`: what cannot be read is gone from it, and the old journals are kept beside the new ones.
///
/// # Errors
///
/// A broker uses it, it is damaged, it has nothing, or the disk is full or fails. The store is as it was then.
pub fn compact(path: &Path, despite_damage: bool, now: u64) -> Result<Compacted, StorageError> {
    let (view, is_damaged, facts) = {
        let store = ReadOnlyStore::open(path)?;
        let view = StoreView::read(&store)?;
        let is_damaged = StoreReport::new(&store, &view).is_damaged;
        (view, is_damaged, store.facts().clone())
    };
    if is_damaged && !despite_damage {
        let problem = "is damaged, as `moormq store verify` tells: with --despite-damage what can be read is written anew, and the rest is kept \
                       beside it for inspection";
        return Err(StorageError::new(path, problem));
    }
    let lengths = || view.journals.iter().flat_map(|journal| &journal.segments);
    let (Some(segment_bytes), Some(last)) = (lengths().max().copied(), view.journals.last()) else {
        return Err(StorageError::new(path, "has no journals: there is nothing to compact"));
    };
    let (bytes_before, largest) = (lengths().sum(), view.largest_record());
    let layout = Layout { shards: last.shard + 1, segment_bytes: segment_bytes.max(shortest_segment(largest)) };
    let records_before = view.journals.iter().map(|journal| journal.records).sum();
    let mut directory = StoreDirectory::open_or_create(path, now)?;
    if *directory.facts() != facts {
        return Err(StorageError::new(path, "was used by a broker meanwhile: nothing was changed, try again"));
    }
    let boot = directory.begin_boot()?;
    let pages = view.archive.map_or_else(Vec::new, |archive| archive.pages);
    let rewritten = rewrite(directory, boot, (view.contents, view.clock), &pages, largest, layout, is_damaged)?;
    Ok(Compacted { rewritten, records_before, bytes_before })
}
