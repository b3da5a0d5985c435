//! The disk as a file system of the kernel.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use rustix::io::Errno as Error;
use rustix::mount::UnmountFlags;

use crate::disk::{Attributes, BLOCK, Disk, Refused};

/// The kernel may remember what it was told for so long: nobody else changes anything.
const FOREVER: Duration = Duration::from_secs(3600);
/// How long somebody may have a file open when it is unmounted: of a process that was killed, writes that are under way have one.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(2);
/// How many blocks it says that it has.
const ROOM: u64 = 1 << 24;

/// A disk that is mounted somewhere.
pub struct Mounted {
    disk: Arc<Mutex<Disk>>,
    is_direct: bool,
}

/// Mounts a disk. What is written with O_DIRECT is refused unless `is_direct`.
///
/// # Errors
///
/// The kernel has no FUSE, or this process may not mount.
pub fn mount(disk: Arc<Mutex<Disk>>, path: &Path, is_direct: bool) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("moormq-forgetful".to_owned()), MountOption::DefaultPermissions];
    fuser::spawn_mount(Mounted { disk, is_direct }, path, &config)
}

/// Unmounts it. All that was to be written is written then.
///
/// # Errors
///
/// Somebody has a file of it open, and keeps it.
pub fn unmount(session: BackgroundSession, path: &Path) -> io::Result<()> {
    let mut left = PATIENCE;
    while let Err(error) = rustix::mount::unmount(path, UnmountFlags::empty()) {
        if error != Error::BUSY || left.is_zero() {
            return Err(error.into());
        }
        sleep(RETRY);
        left = left.saturating_sub(RETRY);
    }
    session.join()
}

impl Mounted {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nobody panics")
    }

    fn entry(&self, made: Result<u64, Refused>) -> Result<FileAttr, Refused> {
        let disk = self.disk();
        made.and_then(|node| disk.attributes(node)).map(attributes)
    }

    fn may_open(&self, flags: i32) -> Result<(), Refused> {
        if flags & libc::O_DIRECT != 0 && !self.is_direct { Err(libc::EINVAL) } else { Ok(()) }
    }
}

fn attributes(of: Attributes) -> FileAttr {
    let then = SystemTime::UNIX_EPOCH;
    let kind = if of.is_directory { FileType::Directory } else { FileType::RegularFile };
    FileAttr {
        ino: INodeNo(of.node),
        size: of.size,
        blocks: of.size.div_ceil(512),
        atime: then,
        mtime: then,
        ctime: then,
        crtime: then,
        kind,
        perm: of.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK as u32,
        flags: 0,
    }
}

fn answer(reply: ReplyEmpty, done: Result<(), Refused>) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(Errno::from_i32(error)),
    }
}

fn answer_entry(reply: ReplyEntry, made: Result<FileAttr, Refused>) {
    match made {
        Ok(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
        Err(error) => reply.error(Errno::from_i32(error)),
    }
}

fn answer_attributes(reply: ReplyAttr, found: Result<FileAttr, Refused>) {
    match found {
        Ok(attributes) => reply.attr(&FOREVER, &attributes),
        Err(error) => reply.error(Errno::from_i32(error)),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.disk().find(parent.0, name);
        answer_entry(reply, self.entry(found));
    }

    fn getattr(&self, _: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(reply, self.entry(Ok(node.0)));
    }

    fn setattr(
        &self,
        _: &Request,
        node: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut disk = self.disk();
        if let Some(mode) = mode {
            disk.set_mode(node.0, (mode & 0o7777) as u16);
        }
        let sized = size.map_or(Ok(()), |size| disk.set_size(node.0, size));
        drop(disk);
        answer_attributes(reply, self.entry(sized.map(|()| node.0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let made = self.disk().make(parent.0, name, true, (mode & !umask & 0o7777) as u16);
        answer_entry(reply, self.entry(made));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().remove(parent.0, name));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(reply, self.disk().remove(parent.0, name));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let done = match flags.is_empty() {
            true => self.disk().rename((parent.0, name), (to.0, new)),
            false => Err(libc::EINVAL),
        };
        answer(reply, done);
    }

    fn open(&self, _: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.may_open(flags.0) {
            Ok(()) => reply.opened(FileHandle(node.0), FopenFlags::empty()),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self
            .may_open(flags)
            .and_then(|()| self.disk().make(parent.0, name, false, (mode & !umask & 0o7777) as u16));
        match self.entry(made) {
            Ok(of) => reply.created(&FOREVER, &of, Generation(0), FileHandle(of.ino.0), FopenFlags::empty()),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(node.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(node.0, offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(Errno::from_i32(error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // To close a file makes nothing last.
        reply.ok();
    }

    fn fsync(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync(node.0));
    }

    fn fsyncdir(&self, _: &Request, node: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.disk().sync_names(node.0));
    }

    fn readdir(&self, _: &Request, node: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        let names = match disk.names(node.0) {
            Ok(names) => names,
            Err(error) => return reply.error(Errno::from_i32(error)),
        };
        let own = [(".".into(), node.0), ("..".into(), node.0)];
        for (at, (name, node)) in own.into_iter().chain(names).enumerate().skip(offset as usize) {
            let is_directory = disk.attributes(node).is_ok_and(|of| of.is_directory);
            let kind = if is_directory { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(node), at as u64 + 1, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(ROOM, ROOM, ROOM, ROOM, ROOM, BLOCK as u32, 255, BLOCK as u32);
    }

    fn fallocate(
        &self,
        _: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let done = match mode {
            0 => self.disk().give_room(node.0, offset + length),
            _ => Err(libc::EOPNOTSUPP),
        };
        answer(reply, done);
    }
}
