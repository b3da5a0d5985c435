//! Files of entries, read as a whole and replaced as a whole.
//!
//! A change is written to a new file, which is then renamed to the old one. A reader finds the old text or the new
//! text, never a part of one, even after a power failure. Mode and owner are kept.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::hooks::stock::{FaultyLine, FaultyLines};

/// An error in a file, with its place: `/etc/moormq/users:3: must be user:hash`. All faulty lines are named, up to 20.
#[derive(Debug)]
pub struct FileError {
    /// The path of the file, as the caller gave it.
    pub path: PathBuf,
    /// The error.
    pub problem: FileProblem,
}

/// The kind of an error in a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileProblem {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// The file cannot be replaced.
    Unwritable(io::Error),
    /// Another process is changing the file, or has ended in the midst of a change.
    Busy {
        /// The file that marks the change. It has to be removed if no process is changing the file.
        lock: PathBuf,
    },
    /// Lines are not valid.
    Lines(FaultyLines),
    /// The change does not fit the content of the file.
    Refused(String),
}

impl FileError {
    pub(super) fn new(path: &Path, problem: FileProblem) -> Self {
        FileError { path: path.to_owned(), problem }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        match &self.problem {
            FileProblem::Unreadable(error) => write!(f, " cannot be read: {error}"),
            FileProblem::Unwritable(error) => write!(f, " cannot be replaced: {error}"),
            FileProblem::Busy { lock } => {
                write!(f, " is being changed by somebody else; if nobody is, remove {}", lock.display())
            }
            FileProblem::Lines(faulty) => {
                // With the first line, the place is as others write it.
                let text = faulty.to_string();
                write!(f, "{}", text.strip_prefix("line ").unwrap_or(&text))
            }
            FileProblem::Refused(why) => write!(f, " {why}"),
        }
    }
}

impl std::error::Error for FileError {}

/// Reads the file at `path`, which must be UTF-8.
///
/// # Errors
///
/// The file cannot be read, or a line is not UTF-8.
pub fn read(path: &Path) -> Result<String, FileError> {
    let bytes = fs::read(path).map_err(|error| FileError::new(path, FileProblem::Unreadable(error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        FileError::new(path, FileProblem::Lines(FaultyLine { line, problem: "not valid UTF-8".to_owned() }.into()))
    })
}

/// Replaces the text of the file at `path` by the result of `change` on it. A missing file counts as empty; it is
/// created with mode 0600.
///
/// # Errors
///
/// The file cannot be read or replaced, another process is changing it, or `change` failed. The file is unchanged then.
pub fn rewrite(path: &Path, change: impl FnOnce(&str) -> Result<String, FileProblem>) -> Result<(), FileError> {
    let failed = |problem| FileError::new(path, problem);
    // A symbolic link stays: its target is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = Draft::create(&target).map_err(failed)?;
    let (text, metadata) = match fs::metadata(&target) {
        Ok(metadata) => (read(&target).map_err(|error| failed(error.problem))?, Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), None),
        Err(error) => return Err(failed(FileProblem::Unreadable(error))),
    };
    let text = change(&text).map_err(failed)?;
    draft.publish(&text, metadata.as_ref()).map_err(|error| failed(FileProblem::Unwritable(error)))
}

/// A new file that replaces another one when it is complete. While it exists, no other process starts a change. A drop
/// removes it unless it was published.
struct Draft<'a> {
    file: File,
    /// None after it was published: others may use the name then.
    path: Option<PathBuf>,
    target: &'a Path,
}

impl<'a> Draft<'a> {
    fn create(target: &'a Path) -> Result<Self, FileProblem> {
        let name = target.file_name().ok_or_else(|| FileProblem::Refused("is not a file".to_owned()))?;
        let path = target.with_file_name([name.to_string_lossy().as_ref(), ".new"].concat());
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Draft { file, path: Some(path), target }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(FileProblem::Busy { lock: path }),
            Err(error) => Err(FileProblem::Unwritable(error)),
        }
    }

    /// Writes the text, takes over mode and owner of the file that it replaces, and takes that file's name.
    fn publish(mut self, text: &str, replaced: Option<&fs::Metadata>) -> io::Result<()> {
        if let Some(replaced) = replaced {
            let own = self.file.metadata()?;
            if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
                fchown(&self.file, Some(replaced.uid()), Some(replaced.gid()))?;
            }
            self.file.set_permissions(Permissions::from_mode(replaced.mode() & 0o7777))?;
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, self.target)?;
        }
        self.path = None;
        // The new name is durable only when the directory is.
        let directory = self.target.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // If it cannot be removed, the next change fails with an error that names it.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn append(text: &str) -> impl FnOnce(&str) -> Result<String, FileProblem> + '_ {
        move |old| Ok(old.to_owned() + text)
    }

    #[test]
    fn a_new_file_is_for_its_owner_alone_and_an_old_one_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        rewrite(&path, append("a\n")).unwrap();
        assert_eq!((read(&path).unwrap().as_str(), mode()), ("a\n", 0o600));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        rewrite(&path, append("b\n")).unwrap();
        assert_eq!((read(&path).unwrap().as_str(), mode()), ("a\nb\n", 0o640));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_link_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("users"), directory.path().join("link"));
        rewrite(&path, append("a\n")).unwrap();
        symlink(&path, &link).unwrap();
        rewrite(&link, append("b\n")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&path).unwrap(), "a\nb\n");
    }

    #[test]
    fn a_change_that_fails_leaves_all_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        rewrite(&path, append("a\n")).unwrap();
        let refused = rewrite(&path, |_| Err(FileProblem::Refused("has no user b".to_owned()))).unwrap_err();
        assert_eq!(refused.to_string(), format!("{}: has no user b", path.display()));
        assert_eq!(read(&path).unwrap(), "a\n");
        rewrite(&path, append("b\n")).expect("the way is free again");
    }

    #[test]
    fn two_do_not_change_it_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        let mut inner = None;
        rewrite(&path, |_| {
            inner = Some(rewrite(&path, append("b\n")).unwrap_err().to_string());
            Ok("a\n".to_owned())
        })
        .unwrap();
        let lock = directory.path().join("users.new");
        let expected =
            format!("{}: is being changed by somebody else; if nobody is, remove {}", path.display(), lock.display());
        assert_eq!(inner.as_deref(), Some(expected.as_str()));
        assert_eq!(read(&path).unwrap(), "a\n");
    }

    #[test]
    fn an_unreadable_file_or_line_is_named_in_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        assert!(read(&path).unwrap_err().to_string().contains("users: cannot be read: No such file"));
        fs::write(&path, b"a\nb\n\xff\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("users:3: not valid UTF-8"));
    }
}
