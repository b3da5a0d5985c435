//! A damaged archive is kept under another name.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::storage::device;
use crate::storage::error::StorageError;

/// How many files that were set aside there may be.
pub const MOST_ASIDE: usize = 8;

/// Gives a file another name: with `.bad` behind it, or `.bad-1` and so on, up to [`MOST_ASIDE`] of them. It is not read again, and removed by operators
/// only. Returns the new name.
///
/// # Errors
///
/// There are so many already, or it cannot be renamed.
pub fn set_aside(path: &Path) -> Result<PathBuf, StorageError> {
    let is_free = |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let names = (0..MOST_ASIDE).map(|number| {
        let mut name = OsString::from(path);
        name.push(if number == 0 { ".bad".to_owned() } else { format!(".bad-{number}") });
        PathBuf::from(name)
    });
    let Some(name) = names.into_iter().find(|name| is_free(name)) else {
        let problem = format!(
            "cannot be set aside, since {MOST_ASIDE} have been before: see what has damaged them, and remove them"
        );
        return Err(StorageError::new(path, problem));
    };
    fs::rename(path, &name).map_err(|error| StorageError::io(path, "set aside", &error))?;
    if let Some(parent) = path.parent() {
        device::sync_directory(parent).map_err(|error| StorageError::io(parent, "synced", &error))?;
    }
    Ok(name)
}
