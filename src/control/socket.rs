//! The control socket: made for its owner alone, found again, removed.

use std::fmt;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that listens. Its file is removed when this is dropped, unless it is somebody else's by then.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    place: (u64, u64),
}

/// Why there is no socket to listen on, or nobody to talk to; with what to do about it.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    problem: String,
}

impl SocketError {
    pub(super) fn new(path: &Path, problem: impl Into<String>) -> Self {
        SocketError { path: path.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control socket {}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for SocketError {}

impl ControlSocket {
    /// Listens at `path`, for this user only. A socket that nobody listens at any more is replaced.
    ///
    /// # Errors
    ///
    /// When a broker listens there, when there is something else of that name, or when the folder does not let us.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        make_way(path)?;
        // Made in a folder that nobody else can enter: at no time is there a socket that others may open.
        let nursery = folder_of(path).join(format!(".moormq-{}", std::process::id()));
        let failed = |doing: &str, error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => ": make the folder first",
                io::ErrorKind::PermissionDenied => ": choose a folder that the broker's user may write to",
                _ => "",
            };
            SocketError::new(path, format!("cannot {doing}: {error}{hint}"))
        };
        DirBuilder::new().mode(0o700).create(&nursery).map_err(|error| failed("be made", error))?;
        let made = nurse(&nursery, path);
        let _ = fs::remove_dir_all(&nursery);
        let (listener, place) = made.map_err(|error| failed("be made", error))?;
        Ok(ControlSocket { listener, file: SocketFile { path: path.to_owned(), place } })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn nurse(nursery: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let newborn = nursery.join("s");
    let listener = UnixListener::bind(&newborn)?;
    fs::set_permissions(&newborn, Permissions::from_mode(0o600))?;
    let place = place_of(&fs::symlink_metadata(&newborn)?);
    fs::rename(&newborn, path)?;
    Ok((listener, place))
}

fn place_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Sees to it that nothing of value is at `path`.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let refuse = |problem: String| Err(SocketError::new(path, problem));
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return refuse(format!("cannot be looked at: {error}")),
    };
    if !metadata.file_type().is_socket() {
        return refuse("there is something that is not a socket: move it away, or choose another path".to_owned());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => refuse("another broker listens there: stop it, or choose another path".to_owned()),
        Err(error) => refuse(format!("cannot tell whether a broker listens there: {error}")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| place_of(&metadata) == self.place) {
            // If it cannot be removed, the next broker replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_for_its_owner_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left lying about");
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stale_one_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "its file outlives a listener");
        let live = ControlSocket::bind(&path).unwrap();
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(error.ends_with("another broker listens there: stop it, or choose another path"), "{error}");
        // One that somebody put in its place meanwhile is not removed.
        fs::remove_file(&path).unwrap();
        let other = ControlSocket::bind(&path).unwrap();
        drop(live);
        UnixStream::connect(other.path()).unwrap();
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "precious").unwrap();
        let error = ControlSocket::bind(&path).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let error = ControlSocket::bind(&folder.path().join("nowhere/control")).unwrap_err().to_string();
        assert!(error.ends_with("make the folder first"), "{error}");
    }
}
