//! What is on the disk, and what only looks as if it were: files and names as programs see them, and as they are after a loss of power.
//!
//! A file system promises little: what was written to a file is on the disk when the file was synced, and a name when its directory was. Of the
//! rest any block may be there or not, in any order, and of a block any sector. Names are kept in the order of the changes, as all file systems
//! with a journal do; so a loss of power leaves some of the changes that come first.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use fastrand::Rng;

/// What is written as a whole by programs, in bytes.
pub const BLOCK: usize = 4096;
/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;
/// The number of the directory of all.
pub const ROOT: u64 = 1;

type Block = [u8; BLOCK];

/// What a file has.
#[derive(Clone, Default)]
struct Content {
    size: u64,
    /// Blocks that are missing are zeros.
    blocks: BTreeMap<u64, Arc<Block>>,
}

#[derive(Default)]
struct File {
    now: Content,
    synced: Content,
    /// Blocks that are not the same in both.
    unsynced: BTreeSet<u64>,
}

#[derive(Default)]
struct Directory {
    now: BTreeMap<OsString, u64>,
    synced: BTreeMap<OsString, u64>,
}

enum Node {
    File(File),
    Directory(Directory),
}

/// A name that got another meaning: of which directory, and the number of what it stands for.
struct Naming {
    directory: u64,
    name: OsString,
    node: Option<u64>,
}

/// Files, directories and their names.
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    modes: BTreeMap<u64, u16>,
    next: u64,
    /// Changes of names that are not synced, the oldest first; what is in one is done together.
    changes: Vec<Vec<Naming>>,
    /// It says that it has synced, and has not.
    lies: bool,
}

/// What a node is, for those who ask.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    pub node: u64,
    pub is_directory: bool,
    pub size: u64,
    pub mode: u16,
}

/// What a loss of power did.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Lost {
    /// Blocks that were not synced.
    pub unsynced: u64,
    /// Those of them that are as they were before.
    pub dropped: u64,
    /// Those of which a part is.
    pub torn: u64,
    /// Changes of names that are undone.
    pub names: u64,
}

/// Why something was not done, as the kernel's number.
pub type Refused = i32;

impl Disk {
    /// An empty one.
    pub fn new(lies: bool) -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Directory::default()))]);
        Disk { nodes, modes: BTreeMap::from([(ROOT, 0o755)]), next: ROOT + 1, changes: Vec::new(), lies }
    }

    /// What a node is.
    pub fn attributes(&self, node: u64) -> Result<Attributes, Refused> {
        let (is_directory, size) = match self.nodes.get(&node).ok_or(libc::ENOENT)? {
            Node::File(file) => (false, file.now.size),
            Node::Directory(_) => (true, BLOCK as u64),
        };
        Ok(Attributes { node, is_directory, size, mode: self.modes.get(&node).copied().unwrap_or(0o600) })
    }

    /// The node with this name.
    pub fn find(&self, directory: u64, name: &OsStr) -> Result<u64, Refused> {
        self.directory(directory)?.now.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Names and nodes of a directory, in order.
    pub fn names(&self, directory: u64) -> Result<Vec<(OsString, u64)>, Refused> {
        Ok(self.directory(directory)?.now.iter().map(|(name, node)| (name.clone(), *node)).collect())
    }

    /// Makes a file or a directory that is not there.
    pub fn make(&mut self, directory: u64, name: &OsStr, is_directory: bool, mode: u16) -> Result<u64, Refused> {
        if self.directory(directory)?.now.contains_key(name) {
            return Err(libc::EEXIST);
        }
        let node = self.next;
        self.next += 1;
        let made = match is_directory {
            true => Node::Directory(Directory::default()),
            false => Node::File(File::default()),
        };
        self.nodes.insert(node, made);
        self.modes.insert(node, mode);
        self.change(vec![Naming { directory, name: name.to_owned(), node: Some(node) }])?;
        Ok(node)
    }

    /// Removes a file, or a directory that is empty.
    pub fn remove(&mut self, directory: u64, name: &OsStr) -> Result<(), Refused> {
        let node = self.find(directory, name)?;
        if self.directory(node).is_ok_and(|directory| !directory.now.is_empty()) {
            return Err(libc::ENOTEMPTY);
        }
        self.change(vec![Naming { directory, name: name.to_owned(), node: None }])
    }

    /// Gives a node another name, in place of what has it.
    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> Result<(), Refused> {
        let node = self.find(from.0, from.1)?;
        self.directory(to.0)?;
        self.change(vec![
            Naming { directory: from.0, name: from.1.to_owned(), node: None },
            Naming { directory: to.0, name: to.1.to_owned(), node: Some(node) },
        ])
    }

    pub fn set_mode(&mut self, node: u64, mode: u16) {
        self.modes.insert(node, mode);
    }

    /// What is in a file from `offset` on, at most so many bytes.
    pub fn read(&self, node: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, Refused> {
        let Some(Node::File(file)) = self.nodes.get(&node) else { return Err(libc::EISDIR) };
        let bytes = bytes.min(file.now.size.saturating_sub(offset) as usize);
        let mut read = vec![0; bytes];
        for (block, at, part) in parts(offset, bytes) {
            if let Some(content) = file.now.blocks.get(&block) {
                let length = part.len();
                read[part].copy_from_slice(&content[at..at + length]);
            }
        }
        Ok(read)
    }

    /// Writes to a file, which grows as it has to.
    pub fn write(&mut self, node: u64, offset: u64, bytes: &[u8]) -> Result<(), Refused> {
        let file = self.file_mut(node)?;
        for (block, at, part) in parts(offset, bytes.len()) {
            let content = Arc::make_mut(file.now.blocks.entry(block).or_insert_with(|| Arc::new([0; BLOCK])));
            content[at..at + part.len()].copy_from_slice(&bytes[part]);
            file.unsynced.insert(block);
            if content.iter().all(|byte| *byte == 0) {
                file.now.blocks.remove(&block);
            }
        }
        file.now.size = file.now.size.max(offset + bytes.len() as u64);
        Ok(())
    }

    /// Cuts a file off at this size, or has it grow to it.
    pub fn set_size(&mut self, node: u64, size: u64) -> Result<(), Refused> {
        let file = self.file_mut(node)?;
        for block in file.now.cut_off(size) {
            file.unsynced.insert(block);
        }
        file.now.size = size;
        Ok(())
    }

    /// Has a file grow to this size, unless it is as large.
    pub fn give_room(&mut self, node: u64, size: u64) -> Result<(), Refused> {
        let file = self.file_mut(node)?;
        file.now.size = file.now.size.max(size);
        Ok(())
    }

    /// All that was written to a file is on the disk then.
    pub fn sync(&mut self, node: u64) -> Result<(), Refused> {
        let lies = self.lies;
        let file = self.file_mut(node)?;
        if !lies {
            file.synced.take_blocks(&file.now, &std::mem::take(&mut file.unsynced));
            file.synced.size = file.now.size;
        }
        Ok(())
    }

    /// All names of a directory are on the disk then.
    pub fn sync_names(&mut self, directory: u64) -> Result<(), Refused> {
        self.directory(directory)?;
        if self.lies {
            return Ok(());
        }
        let is_of = |change: &Vec<Naming>| change.iter().any(|naming| naming.directory == directory);
        let (done, left) = std::mem::take(&mut self.changes).into_iter().partition(is_of);
        self.changes = left;
        self.keep_names(done);
        Ok(())
    }

    /// The power fails: what was not synced is there or not, as chance has it.
    pub fn lose_power(&mut self, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        let kept = rng.usize(..=self.changes.len());
        lost.names = (self.changes.len() - kept) as u64;
        let mut changes = std::mem::take(&mut self.changes);
        changes.truncate(kept);
        self.keep_names(changes);
        // Nothing of what was not synced, or all, is as likely as some.
        let chance = [0.0, 1.0, 0.5, 0.9, rng.f64()][rng.usize(..5)];
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.lose_power(chance, rng, &mut lost),
                Node::Directory(directory) => directory.now = directory.synced.clone(),
            }
        }
        self.forget_nameless();
        lost
    }

    fn directory(&self, node: u64) -> Result<&Directory, Refused> {
        match self.nodes.get(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn directory_mut(&mut self, node: u64) -> Result<&mut Directory, Refused> {
        match self.nodes.get_mut(&node) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn file_mut(&mut self, node: u64) -> Result<&mut File, Refused> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Directory(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn change(&mut self, change: Vec<Naming>) -> Result<(), Refused> {
        for Naming { directory, name, node } in &change {
            set(&mut self.directory_mut(*directory)?.now, name, *node);
        }
        self.changes.push(change);
        Ok(())
    }

    fn keep_names(&mut self, changes: Vec<Vec<Naming>>) {
        for Naming { directory, name, node } in changes.into_iter().flatten() {
            // It may be a directory that is itself not there any more.
            if let Ok(directory) = self.directory_mut(directory) {
                set(&mut directory.synced, &name, node);
            }
        }
    }

    /// What has no name any more is gone.
    fn forget_nameless(&mut self) {
        let (mut named, mut open) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(node) = open.pop() {
            if let Ok(directory) = self.directory(node) {
                open.extend(directory.now.values().copied().filter(|node| named.insert(*node)));
            }
        }
        self.nodes.retain(|node, _| named.contains(node));
        self.modes.retain(|node, _| named.contains(node));
    }
}

impl Content {
    /// Gives the blocks that are others than before.
    fn cut_off(&mut self, size: u64) -> Vec<u64> {
        let first = size.div_ceil(BLOCK as u64);
        let mut changed: Vec<u64> = self.blocks.split_off(&first).into_keys().collect();
        let (last, within) = (size / BLOCK as u64, (size % BLOCK as u64) as usize);
        if within > 0
            && let Some(block) = self.blocks.get_mut(&last)
        {
            Arc::make_mut(block)[within..].fill(0);
            changed.push(last);
        }
        changed
    }

    fn take_blocks(&mut self, from: &Content, which: &BTreeSet<u64>) {
        for block in which {
            match from.blocks.get(block) {
                Some(content) => self.blocks.insert(*block, Arc::clone(content)),
                None => self.blocks.remove(block),
            };
        }
    }
}

impl File {
    fn lose_power(&mut self, chance: f64, rng: &mut Rng, lost: &mut Lost) {
        let mut kept = BTreeSet::new();
        for block in std::mem::take(&mut self.unsynced) {
            lost.unsynced += 1;
            if rng.u8(..16) == 0 {
                lost.torn += 1;
                self.tear(block, rng);
                kept.insert(block);
            } else if rng.f64() < chance {
                kept.insert(block);
            } else {
                lost.dropped += 1;
            }
        }
        self.synced.take_blocks(&self.now, &kept);
        if rng.bool() {
            self.synced.size = self.now.size;
        }
        let size = self.synced.size;
        self.synced.cut_off(size);
        self.now = self.synced.clone();
    }

    /// Has some sectors of a block be what was synced.
    fn tear(&mut self, block: u64, rng: &mut Rng) {
        let before = self.synced.blocks.get(&block).cloned().unwrap_or_else(|| Arc::new([0; BLOCK]));
        let now = Arc::make_mut(self.now.blocks.entry(block).or_insert_with(|| Arc::new([0; BLOCK])));
        for (now, before) in now.chunks_mut(SECTOR).zip(before.chunks(SECTOR)) {
            if rng.bool() {
                now.copy_from_slice(before);
            }
        }
    }
}

fn set(names: &mut BTreeMap<OsString, u64>, name: &OsStr, node: Option<u64>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

/// The blocks of a range of bytes: the number, where in it, and which of the bytes.
fn parts(offset: u64, bytes: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % BLOCK as u64) as usize;
        let length = (BLOCK - within).min(bytes - done);
        let part = done..done + length;
        done += length;
        (length > 0).then_some((at / BLOCK as u64, within, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn with_file(lies: bool) -> (Disk, u64) {
        let mut disk = Disk::new(lies);
        let file = disk.make(ROOT, name("a"), false, 0o600).expect("there is no such file");
        disk.sync_names(ROOT).expect("it is a directory");
        (disk, file)
    }

    #[test]
    fn what_was_synced_is_there_and_of_the_rest_any_part() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let (mut disk, file) = with_file(false);
            disk.write(file, 100, &[1; 2 * BLOCK]).expect("it is a file");
            disk.sync(file).expect("it is a file");
            disk.write(file, 0, &[2; BLOCK]).expect("it is a file");
            disk.write(file, 2 * BLOCK as u64, &[2; 2 * BLOCK]).expect("it is a file");
            let lost = disk.lose_power(&mut Rng::with_seed(seed));
            assert_eq!(lost.unsynced, 3);
            let read = disk.read(file, 0, 100 * BLOCK).expect("it is there");
            assert!(read.len() == 2 * BLOCK + 100 || read.len() == 4 * BLOCK);
            assert!(read[BLOCK..2 * BLOCK].iter().all(|byte| *byte == 1));
            seen.insert((read[0], read[SECTOR * 3], read[2 * BLOCK], read.get(3 * BLOCK).copied()));
        }
        assert!(seen.contains(&(0, 1, 1, None)) && seen.contains(&(2, 2, 2, Some(2))), "all or nothing");
        assert!(seen.contains(&(2, 2, 1, Some(2))) && seen.contains(&(0, 1, 2, Some(0))), "any of them");
        assert!(seen.iter().any(|(first, later, ..)| (*first, *later) == (2, 1)), "a part of one");
    }

    #[test]
    fn names_are_there_when_their_directory_was_synced_and_in_order_else() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let (mut disk, file) = with_file(false);
            disk.make(ROOT, name("new"), false, 0o600).expect("there is no such file");
            disk.rename((ROOT, name("a")), (ROOT, name("b"))).expect("it is there");
            disk.lose_power(&mut Rng::with_seed(seed));
            let names: Vec<_> = disk.names(ROOT).expect("it is there").into_iter().map(|(name, _)| name).collect();
            assert!(disk.attributes(file).is_ok());
            seen.insert(names);
        }
        let expected = [vec!["a"], vec!["a", "new"], vec!["b", "new"]];
        assert_eq!(seen, expected.into_iter().map(|names| names.into_iter().map(OsString::from).collect()).collect());
    }

    #[test]
    fn a_file_without_a_synced_name_is_gone_with_what_is_in_it() {
        let mut disk = Disk::new(false);
        let file = disk.make(ROOT, name("a"), false, 0o600).expect("there is no such file");
        disk.write(file, 0, b"x").expect("it is a file");
        disk.sync(file).expect("it is a file");
        while disk.attributes(file).is_ok() {
            disk.changes.clear();
            disk.lose_power(&mut Rng::with_seed(1));
        }
        assert_eq!(disk.find(ROOT, name("a")), Err(libc::ENOENT));
    }

    #[test]
    fn a_disk_that_lies_has_synced_nothing() {
        let (mut disk, file) = with_file(true);
        disk.write(file, 0, &[1; 10]).expect("it is a file");
        disk.sync(file).expect("it is a file");
        let lost = disk.lose_power(&mut Rng::with_seed(3));
        assert_eq!(lost.unsynced, 1);
    }

    #[test]
    fn a_file_is_cut_off_and_grows_with_zeros() {
        let (mut disk, file) = with_file(false);
        disk.write(file, 0, &[1; 3 * BLOCK]).expect("it is a file");
        disk.set_size(file, 10).expect("it is a file");
        disk.give_room(file, 2 * BLOCK as u64).expect("it is a file");
        let read = disk.read(file, 5, 3 * BLOCK).expect("it is a file");
        assert_eq!(read.len(), 2 * BLOCK - 5);
        assert!(read[..5].iter().all(|byte| *byte == 1) && read[5..].iter().all(|byte| *byte == 0));
    }
}
