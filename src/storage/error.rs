//! Why a store cannot be used.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The reason why a store cannot be used, with advice.
#[derive(Debug)]
pub struct StorageError {
    path: PathBuf,
    problem: String,
    in_use: bool,
}

impl StorageError {
    /// What is wrong with a file or directory, and what to do; as the rest of a sentence that begins with its path.
    pub fn new(path: &Path, problem: impl Into<String>) -> Self {
        StorageError { path: path.to_owned(), problem: problem.into(), in_use: false }
    }

    /// Another process uses it.
    pub(super) fn in_use(path: &Path, problem: impl Into<String>) -> Self {
        StorageError { in_use: true, ..StorageError::new(path, problem) }
    }

    /// Something could not be done with a file or directory: "cannot be" and `what`.
    pub(super) fn io(path: &Path, what: &str, error: &io::Error) -> Self {
        StorageError::new(path, format!("cannot be {what}: {error}{}", advice(error)))
    }

    /// The file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the reason is that another process uses the store.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ". It has to belong to the user that the broker runs as",
        io::ErrorKind::ReadOnlyFilesystem => ". Mount it for writing, or choose another directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ". Make room on the disk",
        _ => "",
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storage {}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for StorageError {}
