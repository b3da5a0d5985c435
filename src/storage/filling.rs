//! A segment file in the making.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{ReadWriteFlags, pwritev2};

use super::device;
use crate::journal::{Aligned, BLOCK, Preparation, Sync};

/// How many zeros are written at once.
pub const PIECE: usize = 1 << 20;

/// How a file is opened, and where they are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub directory: PathBuf,
    pub sync: Sync,
    /// How many bytes of the disk are left free when more files are made than the settings want.
    pub reserve: u64,
}

impl Place {
    /// Whether what is written to files bypasses the page cache.
    pub fn is_direct(&self) -> bool {
        self.sync == Sync::Dsync
    }
}

/// A file that is being filled. It is removed if that does not come to its end.
pub(super) struct Filling {
    file: File,
    path: PathBuf,
    written: u64,
    is_done: bool,
}

impl Filling {
    /// Makes a file of so many bytes, which is not there. One that [is beyond](Preparation::is_beyond) needs room to spare.
    pub fn begin(path: PathBuf, bytes: u64, is_beyond: bool, place: &Place) -> io::Result<Self> {
        let free = if is_beyond { device::free_bytes(&place.directory)? } else { u64::MAX };
        if free < bytes.saturating_add(place.reserve) {
            let (reserve, path) = (place.reserve, path.display());
            let problem = format!(
                "{path} is not made: its disk has {free} bytes left, and {reserve} are to be left free (storage.archive.min_free)"
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, problem));
        }
        let file = device::create(&path, place.is_direct()).map_err(|error| told("made", &path, &error))?;
        let filling = Filling { file, path, written: 0, is_done: false };
        take_lock(&filling.file, &filling.path)?;
        // In one piece, if the file system can; what it does not have room for is known at once.
        match give_room(&filling.file, bytes) {
            Err(error) if !device::is_unsupported(&error) => Err(told("given room", &filling.path, &error)),
            _ => Ok(filling),
        }
    }

    /// Writes some more of the zeros. Whether all of the `bytes` are written.
    pub fn go_on(&mut self, zeros: &Aligned, bytes: u64) -> io::Result<bool> {
        let left = (bytes - self.written).min(zeros.len() as u64) as usize;
        match self.file.write_at(&zeros[..left], self.written) {
            // Direct writes begin at a block.
            Ok(written) if written >= BLOCK => self.written += (written - written % BLOCK) as u64,
            Ok(_) => return Err(told("filled", &self.path, &io::ErrorKind::WriteZero.into())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(told("filled", &self.path, &error)),
        }
        Ok(self.written >= bytes)
    }

    /// Writes the header in front. All of it is on disk then, and its name.
    pub fn finish(mut self, header: &[u8], place: &Place) -> io::Result<File> {
        self.file.sync_all().map_err(|error| told("synced", &self.path, &error))?;
        write_header(&self.file, &self.path, header)?;
        device::sync_directory(&place.directory).map_err(|error| told("synced", &place.directory, &error))?;
        self.is_done = true;
        self.file.try_clone()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.is_done {
            // Its room may be wanted elsewhere. If it stays, the next start finds that it is nothing.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn give_room(file: &File, bytes: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::INTR) => {}
            given => return given.map_err(io::Error::from),
        }
    }
}

/// Writes a header in front of a file that is there, which is `open` already or is opened.
pub(super) fn reuse(
    path: &Path,
    open: Option<&File>,
    preparation: &Preparation,
    place: &Place,
) -> io::Result<Option<File>> {
    let opened = match open {
        Some(_) => None,
        None => {
            let file = device::open(path, place.is_direct()).map_err(|error| told("opened", path, &error))?;
            take_lock(&file, path)?;
            Some(file)
        }
    };
    if let Some(file) = open.or(opened.as_ref()) {
        let bytes = file.metadata().map_err(|error| told("looked at", path, &error))?.len();
        if bytes != preparation.bytes {
            let problem = format!("{} has {bytes} bytes instead of {}", path.display(), preparation.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        write_header(file, path, &preparation.header)?;
    }
    Ok(opened)
}

/// Whoever writes a segment has a lock on the open file that he writes it by. Nobody else should have one, but a process that this one has just begun
/// may, until it executes its program.
fn take_lock(file: &File, path: &Path) -> io::Result<()> {
    match device::lock(file, device::SHORT_PATIENCE) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is used by another process", path.display())))
        }
        Err(error) => Err(told("locked", path, &error)),
    }
}

fn write_header(file: &File, path: &Path, header: &[u8]) -> io::Result<()> {
    let write = || {
        let written = pwritev2(file, &[IoSlice::new(header)], 0, ReadWriteFlags::empty())?;
        if written != header.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        file.sync_all()
    };
    write().map_err(|error| told("given its header", path, &error))
}

/// The error of something that could not be done with a file, which names both.
fn told(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{} cannot be {what}: {error}", path.display()))
}
