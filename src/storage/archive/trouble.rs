//! What errors of the library mean for an archive, and what to do.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::Error;

use crate::archive::{ArchiveError, Trouble};

/// Advice for a damaged file.
pub(super) const DAMAGED: &str =
    "restore it from a backup; or set it aside under another name, and what is in it is lost";

/// Something that was wanted of the file has failed: it cannot be `what`.
pub(super) fn told(path: &Path, what: &str, error: &Error) -> ArchiveError {
    let path = path.display();
    let (trouble, why) = match error {
        Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            (Trouble::Damaged, format!("it is no archive, or is damaged ({error}): {DAMAGED}"))
        }
        Error::Io(error) => (Trouble::Failed, format!("{error}{}", advice(error.kind()))),
        Error::Corrupted(how) => (Trouble::Damaged, format!("it is damaged ({how}): {DAMAGED}")),
        Error::RepairAborted => (Trouble::Damaged, format!("it is damaged: {DAMAGED}")),
        Error::DatabaseAlreadyOpen => (Trouble::InUse, "another process uses it: stop that first".to_owned()),
        Error::UpgradeRequired(version) => (
            Trouble::Foreign,
            format!("it has version {version} of the library's format: use the program that wrote it"),
        ),
        Error::PreviousIo | Error::DatabaseClosed => {
            (Trouble::Failed, "an earlier read or write has failed; start the broker again".to_owned())
        }
        Error::TableDoesNotExist(_) => {
            (Trouble::Damaged, format!("it was not made by this broker, or is damaged: {DAMAGED}"))
        }
        other => (Trouble::Failed, other.to_string()),
    };
    ArchiveError::new(trouble, format!("archive {path} cannot be {what}: {why}"))
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => ". It has to belong to the user that the broker runs as",
        ErrorKind::ReadOnlyFilesystem => ". Mount it for writing, or choose another directory",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ". Make room on the disk, and start the broker again",
        ErrorKind::NotFound => ". The directory of the store has to be there",
        _ => ". See whether the disk works, and start the broker again",
    }
}

/// Calls the library. In a damaged file it may find what it panics at: that is an error like any other, as no damage may end the broker.
pub(super) fn guarded<T>(path: &Path, what: &str, call: impl FnOnce() -> Result<T, Error>) -> Result<T, ArchiveError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| told(path, what, &error)),
        Err(_) => {
            let problem = format!(
                "archive {} cannot be {what}: it is damaged, and the library that reads it has given up: {DAMAGED}",
                path.display()
            );
            Err(ArchiveError::new(Trouble::Damaged, problem))
        }
    }
}
