//! Everything in a store, row by row.

use std::fmt;
use std::io::{self, Write};

use super::rows::{Row, owner};
use super::view::{ArchiveView, StoreView};
use crate::archive::ArchiveError;
use crate::records::{Contents, StoredSession, WallClock};
use crate::sharding::hasher;
use crate::storage::StoreFacts;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// Lines for people.
    Text,
    /// An object of JSON on each line.
    Json,
}

/// Why rows cannot be written.
#[derive(Debug)]
pub enum DumpError {
    /// Who reads them does not any more.
    Closed,
    /// Something else.
    Io(io::Error),
    /// The archive cannot be read.
    Archive(ArchiveError),
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DumpError::Closed => f.write_str("nobody reads the output any more"),
            DumpError::Io(error) => write!(f, "the output cannot be written: {error}"),
            DumpError::Archive(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DumpError {}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => DumpError::Closed,
            _ => DumpError::Io(error),
        }
    }
}

/// Writes all that is in a store to `out`: whose it is, each session with what belongs to it, retained messages. With `client` only the sessions of this
/// client id, in whatever mountpoint. Returns how many sessions were written. `view` is used up on the way, so that memory grows no further. Pages that
/// are lost are left out, and `lost` is told why.
///
/// # Errors
///
/// `out` cannot be written to, or the archive not be read.
pub fn dump(
    facts: &StoreFacts,
    view: StoreView,
    client: Option<&str>,
    form: DumpForm,
    out: &mut impl Write,
    lost: &mut dyn FnMut(&str),
) -> Result<usize, DumpError> {
    let StoreView { mut contents, clock, mut archive, .. } = view;
    write_row(&Row::store(facts), form, out)?;
    let mut written = 0;
    for mut session in contents.sessions() {
        if client.is_none_or(|client| *session.client.subscriber.client_id == *client) {
            let archive = archive.as_mut();
            archive.map_or(Ok(()), |archive| unpage(&mut session, archive, clock, lost)).map_err(DumpError::Archive)?;
            write_session(&session, clock, form, out)?;
            written += 1;
        }
    }
    if client.is_none() {
        for (mountpoint, message) in contents.into_retained() {
            write_row(&Row::retained(&mountpoint, &message, clock), form, out)?;
        }
    }
    out.flush()?;
    Ok(written)
}

/// Reads what waits for a session in pages.
fn unpage(
    session: &mut StoredSession,
    archive: &mut ArchiveView,
    clock: WallClock,
    lost: &mut dyn FnMut(&str),
) -> Result<(), ArchiveError> {
    let id = session.pages_id();
    for page in std::mem::take(&mut session.pages) {
        match archive.page(id, page.keys.first(), clock)? {
            Ok(messages) => {
                session.unpage(messages.into_iter().filter(|message| !page.gone.contains(&message.key)));
            }
            Err(problem) => {
                lost(&format!("{problem}: {} messages for client {}", page.left(), session.client.subscriber));
            }
        }
    }
    Ok(())
}

/// A number that two stores have in common if they have the same sessions, messages and retained messages, in whatever order; others hardly ever.
pub(super) fn fingerprint(contents: &Contents, clock: WallClock, seed: u64) -> Result<u64, DumpError> {
    let mut sum = Sum { sum: 0, line: Vec::new(), hasher: hasher(seed) };
    contents.left().iter().try_for_each(|session| write_session(session, clock, DumpForm::Json, &mut sum))?;
    let mut retained = contents.retained();
    retained.try_for_each(|(mountpoint, message)| {
        write_row(&Row::retained(mountpoint, message, clock), DumpForm::Json, &mut sum)
    })?;
    Ok(sum.sum)
}

/// The hashes of lines, added.
struct Sum {
    sum: u64,
    line: Vec<u8>,
    hasher: ahash::RandomState,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if bytes.ends_with(b"\n") {
            self.sum = self.sum.wrapping_add(self.hasher.hash_one(&self.line));
            self.line.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_session(
    session: &StoredSession,
    clock: WallClock,
    form: DumpForm,
    out: &mut impl Write,
) -> Result<(), DumpError> {
    write_row(&Row::session(session, clock), form, out)?;
    let mut subscriptions = session.subscriptions.all().entries;
    subscriptions.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    for (filter, subscription) in &subscriptions {
        write_row(&Row::subscription(owner(session), filter, *subscription), form, out)?;
    }
    if let Some(incoming) = Row::incoming(session) {
        write_row(&incoming, form, out)?;
    }
    for (key, delivery) in session.messages().iter() {
        write_row(&Row::delivery(session, key, delivery, clock), form, out)?;
    }
    Ok(())
}

fn write_row(row: &Row<'_>, form: DumpForm, out: &mut impl Write) -> Result<(), DumpError> {
    match form {
        DumpForm::Text => writeln!(out, "{row}")?,
        DumpForm::Json => {
            serde_json::to_writer(&mut *out, row).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}
