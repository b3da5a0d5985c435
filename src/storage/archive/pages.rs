//! Which pages an archive has, read at a start and by who looks at a store.
//!
//! As a rule a page is known by its summary, and not read. If the summary is damaged, the page itself says the same.

use std::ops::ControlFlow;

use crate::archive::{Archive, ArchiveError, ArchiveKey, Batch, Found, Span, Trouble};
use crate::records::{WallClock, read_page, read_summary, summarize};
use crate::session::{Key, OutgoingMessage, StoreNumber, StoredPage};

/// A page of an archive that cannot be read, or of which the summary cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedPage {
    /// Under which number it is.
    pub pages_id: StoreNumber,
    /// Its first key.
    pub first: Key,
    /// What is wrong.
    pub problem: String,
    /// Its summary, if that was made again from the page; none if the page is lost.
    pub summary: Option<Vec<u8>>,
}

/// Gives each page of an archive to `each`, in the order of keys, but for those whose summaries are damaged: these come last, if they are whole.
/// Returns what is damaged. `clock` is that of what is stored.
///
/// # Errors
///
/// The archive cannot be read: then nothing is known of what was not given.
pub fn find_pages(
    archive: &mut impl Archive,
    clock: WallClock,
    mut each: impl FnMut(StoreNumber, StoredPage),
) -> Result<Vec<DamagedPage>, ArchiveError> {
    let mut bad = Vec::new();
    archive.scan(&Span::sessions(), &mut |(key, value): Found<'_>| {
        if let ArchiveKey::Summary(id, first) = key {
            let read = value.map_err(|error| error.to_string());
            match read.and_then(|value| read_summary(id, first, value).map_err(|error| error.to_string())) {
                Ok(page) => each(id, page),
                Err(problem) => bad.push((id, first, problem)),
            }
        }
        ControlFlow::Continue(())
    })?;
    let mut damaged = Vec::with_capacity(bad.len());
    for (pages_id, first, problem) in bad {
        let page = read_messages(archive, pages_id, first, clock)?;
        let page = page.and_then(|messages| summarize(pages_id, &messages).ok_or_else(|| "it is empty".to_owned()));
        let (problem, summary) = match page {
            Ok((page, summary)) => {
                each(pages_id, page);
                (problem, Some(summary))
            }
            Err(too) => (format!("{problem}; {too}"), None),
        };
        damaged.push(DamagedPage { pages_id, first, problem, summary });
    }
    Ok(damaged)
}

/// The messages of a page, in the order of the queue; or why it is lost.
///
/// # Errors
///
/// The archive cannot be read: the page may be whole.
pub fn read_messages(
    archive: &mut impl Archive,
    pages_id: StoreNumber,
    first: Key,
    clock: WallClock,
) -> Result<Result<Vec<OutgoingMessage>, String>, ArchiveError> {
    let key = ArchiveKey::Page(pages_id, first);
    match archive.read(key) {
        Ok(Some(value)) => Ok(read_page(pages_id, first, &value, clock).map_err(|error| error.to_string())),
        Ok(None) => Ok(Err(format!("{key:?} is not in the archive"))),
        Err(error) if error.trouble == Trouble::Lost => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Summaries that were made again are put in place of those that are damaged, and what is left of lost pages is deleted: they are not told again.
///
/// # Errors
///
/// The archive cannot be written.
pub fn mend_pages(archive: &mut impl Archive, damaged: &[DamagedPage]) -> Result<(), ArchiveError> {
    for page in damaged {
        let mut batch = Batch::new();
        match &page.summary {
            Some(summary) => batch.put(ArchiveKey::Summary(page.pages_id, page.first), summary.clone()),
            None => batch.delete_page(page.pages_id, page.first),
        }
        match archive.check_room(batch.put_bytes()) {
            // The next start does it.
            Err(error) if error.trouble == Trouble::Full && page.summary.is_some() => continue,
            Err(error) if error.trouble != Trouble::Full => return Err(error),
            _ => archive.apply(batch.changes())?,
        }
    }
    archive.persist()
}
