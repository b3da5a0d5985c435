//! The file of the control socket: its creation, for its owner alone, and its removal.

use std::fmt;
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Access;

/// A listening control socket. A drop removes its file, unless another program has replaced it.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Device and inode number: they tell whether the file has been replaced.
    inode: (u64, u64),
}

/// The reason why a control socket cannot be opened or used, with advice.
#[derive(Debug)]
pub struct SocketError {
    path: PathBuf,
    problem: String,
    in_use: bool,
}

impl SocketError {
    pub(super) fn new(path: &Path, problem: impl Into<String>) -> Self {
        SocketError { path: path.to_owned(), problem: problem.into(), in_use: false }
    }

    /// Whether the reason is that another broker listens there.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control socket {}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for SocketError {}

impl ControlSocket {
    /// Listens at `path`, for this user only. The file of a socket without a listener is replaced.
    ///
    /// # Errors
    ///
    /// A broker listens there, there is a file that is not a socket, or this user may not write to the folder.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        check_replaceable(path)?;
        // The socket is made in a folder that no other user can enter: there is no moment at which others could open
        // it.
        let private_folder = folder_of(path).join(format!(".moormq-{}", std::process::id()));
        let failed = |doing: &str, error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => ": make the folder first",
                io::ErrorKind::PermissionDenied => ": choose a folder that the broker's user may write to",
                _ => "",
            };
            SocketError::new(path, format!("cannot {doing}: {error}{hint}"))
        };
        let make = || DirBuilder::new().mode(0o700).create(&private_folder);
        make()
            .or_else(|error| match error.kind() {
                // Of a broker that was killed at that moment, and had the same process id: in containers all have.
                io::ErrorKind::AlreadyExists => fs::remove_dir_all(&private_folder).and_then(|()| make()),
                _ => Err(error),
            })
            .map_err(|error| failed("be made", error))?;
        let made = bind_in(&private_folder, path);
        let _ = fs::remove_dir_all(&private_folder);
        let (listener, inode) = made.map_err(|error| failed("be made", error))?;
        Ok(ControlSocket { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Checks that [`ControlSocket::bind`] would succeed, as far as that can be known without trying.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn check(path: &Path) -> Result<(), SocketError> {
        check_replaceable(path)?;
        let folder = folder_of(path);
        let refuse = |problem: &str| Err(SocketError::new(path, format!("{problem}: {}", folder.display())));
        match fs::metadata(folder) {
            Ok(metadata) if !metadata.is_dir() => return refuse("this is no folder"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return refuse("there is no such folder, make the folder first");
            }
            Err(error) => return refuse(&format!("its folder cannot be looked at ({error})")),
            Ok(_) => {}
        }
        match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Ok(()),
            Err(_) => refuse("choose a folder that the broker's user may write to, not this one"),
        }
    }

    /// The path of its file.
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

/// Binds a socket in `private_folder` and moves it to `path`.
fn bind_in(private_folder: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let draft = private_folder.join("s");
    let listener = UnixListener::bind(&draft)?;
    fs::set_permissions(&draft, Permissions::from_mode(0o600))?;
    let inode = inode_of(&fs::symlink_metadata(&draft)?);
    fs::rename(&draft, path)?;
    Ok((listener, inode))
}

fn inode_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Checks that there is nothing at `path`, or only a socket without a listener.
fn check_replaceable(path: &Path) -> Result<(), SocketError> {
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
        Ok(_) => {
            let error = SocketError::new(path, "another broker listens there: stop it, or choose another path");
            Err(SocketError { in_use: true, ..error })
        }
        Err(error) => refuse(format!("cannot tell whether a broker listens there: {error}")),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| inode_of(&metadata) == self.inode) {
            // If it cannot be removed, the next broker replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_may_open_it_and_a_drop_removes_it() {
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
    fn what_a_broker_with_the_same_process_id_has_left_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let left = folder.path().join(format!(".moormq-{}", std::process::id()));
        fs::create_dir(&left).expect("it is made");
        fs::write(left.join("s"), "").expect("it is written");
        let socket = ControlSocket::bind(&folder.path().join("control")).expect("it is bound");
        assert!(socket.path().exists() && !left.exists());
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
