//! The journals of a store replaced by new ones, with what counts and nothing else.

use super::dump::{DumpError, fingerprint};
use super::writing::{MOST_DELIVERIES, Owners, records};
use crate::journal::{BLOCK, LARGEST_FRAME};
use crate::records::{Contents, Counts, Image, WallClock};
use crate::session::{StoreNumber, StoredPage};
use crate::sharding::hasher;
use crate::storage::{JournalLayout, JournalReading, NewJournals, StorageError, StoreDirectory};

/// Commits of this length at least: many records go into one.
const LEAST_FRAME: usize = 1 << 20;

/// What new journals are to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many shards the broker has.
    pub shards: u32,
    /// The length of a segment, in bytes.
    pub segment_bytes: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// What is in the store now.
    pub counts: Counts,
    /// How many segments the largest journal has.
    pub most_segments: usize,
}

fn frame_for(largest_record: usize) -> usize {
    (largest_record + 2 * MOST_DELIVERIES).next_multiple_of(BLOCK).max(LEAST_FRAME)
}

/// The length of the shortest segments, in bytes, into which what has records of this length can be written.
pub(super) fn shortest_segment(largest_record: usize) -> u64 {
    (frame_for(largest_record) + BLOCK) as u64
}

/// Writes `contents`, whose times go by `clock`, into new journals of the store in `directory`, of which this is boot `boot`; and has these take the place
/// of all there are, which are kept if `keeps_old`. They are read once more before that. `pages` are those of its archive, which
/// stay as they are.
///
/// # Errors
///
/// There is no room, a segment is too short for the largest record, or the disk fails. The store is as it was then.
pub(super) fn rewrite(
    directory: StoreDirectory,
    boot: u32,
    (contents, clock): (Contents, WallClock),
    pages: &[(StoreNumber, StoredPage)],
    largest_record: usize,
    layout: Layout,
    keeps_old: bool,
) -> Result<Rewritten, StorageError> {
    let seed = directory.facts().slot_seed;
    let (path, owners) = (directory.path().to_owned(), Owners { shards: layout.shards as usize, seed });
    let frame_bytes = frame_for(largest_record);
    let longest = (layout.segment_bytes.saturating_sub(BLOCK as u64)).min(LARGEST_FRAME as u64);
    if frame_bytes as u64 > longest {
        let problem = format!(
            "has a message of {largest_record} bytes, for which segments of {} are too short: storage.segment_size has to be larger",
            layout.segment_bytes
        );
        return Err(StorageError::new(&path, problem));
    }
    let told = |error: DumpError| StorageError::new(&path, error.to_string());
    let before = fingerprint(&contents, clock, seed).map_err(told)?;
    let layout = JournalLayout { shards: layout.shards, segment_bytes: layout.segment_bytes, frame_bytes };
    let mut journals = NewJournals::begin(directory, layout, boot)?;
    let mut scratch = Vec::new();
    records(contents, clock, owners, &mut |shard, record| {
        let encoded = record.encode(&mut scratch);
        journals.append(shard, encoded.kind, encoded.parts())
    })?;
    let written = journals.finish()?;
    let mut readings = (0..layout.shards).map(|shard| written.read(shard)).collect::<Result<Vec<_>, _>>()?;
    let mut readers: Vec<_> = readings.iter_mut().map(JournalReading::reader).collect();
    let (mut image, mut is_whole) = (Image::new(clock, hasher(seed)), true);
    pages.iter().for_each(|(id, page)| image.page(*id, page.clone()));
    image.read(&mut readers, 0, |_, _| is_whole = false);
    is_whole &= readings.into_iter().all(|reading| reading.finish().findings.is_empty());
    let contents = image.finish();
    let counts = contents.counts();
    if !is_whole || counts.passed_over > 0 || fingerprint(&contents, clock, seed).map_err(told)? != before {
        let problem = "was written anew, and what is read of that is not what was written: nothing was changed, but the disk, or this program, has a fault";
        return Err(StorageError::new(&path, problem));
    }
    let most_segments = written.segments().iter().copied().max().unwrap_or(0);
    written.switch(keeps_old)?;
    Ok(Rewritten { counts, most_segments })
}
