//! An archive in memory, for simulators and tests: it forgets what was not persisted, fails, and fills.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::batch::Change;
use super::contract::{Archive, Found};
use super::error::{ArchiveError, Trouble};
use super::key::ArchiveKey;
use super::span::Span;

/// What goes wrong with a [`MemoryArchive`], and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// There is room for so many bytes of keys and values.
    pub room: u64,
    /// So many further changes are made, and the next one fails.
    pub changes: u64,
    /// So many further persists are done, and the next one fails.
    pub persists: u64,
    /// So many further values are read, and the next ones cannot be.
    pub reads: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Faults { room: u64::MAX, changes: u64::MAX, persists: u64::MAX, reads: u64::MAX }
    }
}

/// An archive in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryArchive {
    /// What goes wrong from now on.
    pub faults: Faults,
    values: BTreeMap<Box<[u8]>, Bytes>,
    /// What keys had before each change since the last persist, in the order of changes.
    undo: Vec<(Box<[u8]>, Option<Bytes>)>,
    damaged: BTreeSet<Box<[u8]>>,
    bytes: u64,
    failed: bool,
}

impl MemoryArchive {
    /// One with nothing in it.
    pub fn new() -> Self {
        MemoryArchive::default()
    }

    /// How many changes would be lost at most if it crashed now.
    pub fn unpersisted(&self) -> usize {
        self.undo.len()
    }

    /// The process ends, or the power fails: of the changes that were not persisted, the first `kept` are there afterwards. What goes wrong is forgotten.
    pub fn crash(&mut self, kept: usize) {
        let lost = self.undo.split_off(kept.min(self.undo.len()));
        for (key, before) in lost.into_iter().rev() {
            self.set(key, before);
        }
        self.undo.clear();
        self.faults = Faults::default();
        self.failed = false;
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From now on the value of this key is damaged, until another one is put.
    pub fn damage(&mut self, key: ArchiveKey<'_>) {
        self.damaged.insert(key.to_bytes().into());
    }

    fn set(&mut self, key: Box<[u8]>, value: Option<Bytes>) -> Option<Bytes> {
        self.damaged.remove(&key);
        let length = key.len() as u64;
        let put = value.as_ref().map_or(0, |value| length + value.len() as u64);
        let before = match value {
            Some(value) => self.values.insert(key, value),
            None => self.values.remove(&key),
        };
        self.bytes = self.bytes + put - before.as_ref().map_or(0, |before| length + before.len() as u64);
        before
    }

    fn change(&mut self, key: &[u8], value: Option<Bytes>) -> Result<(), ArchiveError> {
        self.check_alive()?;
        if !count_down(&mut self.faults.changes) {
            return Err(self.fail("written"));
        }
        let before = self.set(key.into(), value);
        self.undo.push((key.into(), before));
        Ok(())
    }

    fn check_alive(&self) -> Result<(), ArchiveError> {
        if self.failed { Err(failed("written, since it has failed before")) } else { Ok(()) }
    }

    fn fail(&mut self, what: &str) -> ArchiveError {
        self.failed = true;
        failed(what)
    }

    fn look(&self, key: &[u8], value: &Bytes) -> Result<Bytes, ArchiveError> {
        match self.damaged.contains(key) {
            true => Err(ArchiveError::new(Trouble::Lost, "the value is damaged")),
            false => Ok(value.clone()),
        }
    }
}

fn failed(what: &str) -> ArchiveError {
    ArchiveError::new(Trouble::Failed, format!("the archive in memory cannot be {what}"))
}

/// Whether there was one left.
fn count_down(left: &mut u64) -> bool {
    match left.checked_sub(1) {
        Some(less) => *left = less,
        None => return false,
    }
    true
}

impl Archive for MemoryArchive {
    type Snapshot = MemoryArchive;

    fn check_room(&mut self, bytes: usize) -> Result<(), ArchiveError> {
        self.check_alive()?;
        match self.bytes.saturating_add(bytes as u64) > self.faults.room {
            true => Err(ArchiveError::new(Trouble::Full, "the archive in memory is full")),
            false => Ok(()),
        }
    }

    fn apply(&mut self, changes: &[Change]) -> Result<(), ArchiveError> {
        self.check_alive()?;
        for change in changes {
            match change {
                Change::Put(key, value) => self.change(key, Some(value.clone()))?,
                Change::Delete(key) => self.change(key, None)?,
                Change::DeleteAll(span) => drop(self.delete_some(span, usize::MAX)?),
            }
        }
        Ok(())
    }

    fn delete_some(&mut self, span: &Span, most: usize) -> Result<bool, ArchiveError> {
        self.check_alive()?;
        if span.is_empty() {
            return Ok(true);
        }
        let of_span = self.values.range::<[u8], _>(span.bounds());
        let keys: Vec<_> = of_span.take(most).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.change(key, None)?;
        }
        Ok(keys.len() < most)
    }

    fn persist(&mut self) -> Result<(), ArchiveError> {
        self.check_alive()?;
        if !count_down(&mut self.faults.persists) {
            return Err(self.fail("synced"));
        }
        self.undo.clear();
        Ok(())
    }

    fn snapshot(&mut self) -> Result<MemoryArchive, ArchiveError> {
        let mut snapshot = self.clone();
        snapshot.crash(0);
        Ok(snapshot)
    }

    fn read(&mut self, key: ArchiveKey<'_>) -> Result<Option<Bytes>, ArchiveError> {
        if !count_down(&mut self.faults.reads) {
            return Err(failed("read"));
        }
        let key = key.to_bytes();
        self.values.get(&key[..]).map(|value| self.look(&key, value)).transpose()
    }

    fn scan(&mut self, span: &Span, each: &mut dyn FnMut(Found<'_>) -> ControlFlow<()>) -> Result<(), ArchiveError> {
        if span.is_empty() {
            return Ok(());
        }
        for (key, value) in self.values.range::<[u8], _>(span.bounds()) {
            if !count_down(&mut self.faults.reads) {
                return Err(failed("read"));
            }
            let Some(name) = ArchiveKey::from_bytes(key) else { continue };
            let value = self.look(key, value);
            if each((name, value.as_deref().map_err(Clone::clone))).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn bytes_on_disk(&self) -> u64 {
        self.bytes
    }

    fn keys(&mut self) -> Result<u64, ArchiveError> {
        Ok(self.values.len() as u64)
    }
}
