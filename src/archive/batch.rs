//! What a shard wants to be changed in the archive.

use bytes::Bytes;

use super::key::ArchiveKey;
use super::span::Span;
use crate::session::{Key, StoreNumber};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The value of a key; there may have been another one.
    Put(Box<[u8]>, Bytes),
    /// A key has no value any more; it may have had none.
    Delete(Box<[u8]>),
    /// All keys of a span have none any more.
    DeleteAll(Span),
}

impl Change {
    /// How much it has to be counted as: what is written to the disk for it, and is in memory meanwhile.
    pub fn bytes(&self) -> usize {
        match self {
            Change::Put(key, value) => key.len() + value.len() + Batch::PER_CHANGE,
            Change::Delete(key) => key.len() + Batch::PER_CHANGE,
            Change::DeleteAll(span) => span.start().len() + span.end().len() + Batch::PER_CHANGE,
        }
    }
}

/// Changes that are made in order. Each may be made twice, with all that follow it: it says how something is, not what has become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    put_bytes: usize,
}

impl Batch {
    /// What a change counts beside its key and its value.
    pub const PER_CHANGE: usize = 64;

    /// Nothing yet.
    pub fn new() -> Self {
        Batch::default()
    }

    /// A key gets a value, in place of any other.
    pub fn put(&mut self, key: ArchiveKey<'_>, value: impl Into<Bytes>) {
        let change = Change::Put(key.to_bytes().into(), value.into());
        self.put_bytes += change.bytes();
        self.push(change);
    }

    /// A key loses its value, if it has one.
    pub fn delete(&mut self, key: ArchiveKey<'_>) {
        self.push(Change::Delete(key.to_bytes().into()));
    }

    /// All keys of a span lose their values.
    pub fn delete_all(&mut self, span: Span) {
        self.push(Change::DeleteAll(span));
    }

    /// A page and its summary are put. The page is first: a summary tells who reads the archive that it is there, and that no journal is needed for it,
    /// and a crash may come when the first of the two is persisted.
    pub fn put_page(&mut self, session: StoreNumber, first: Key, summary: impl Into<Bytes>, page: impl Into<Bytes>) {
        self.put(ArchiveKey::Page(session, first), page);
        self.put(ArchiveKey::Summary(session, first), summary);
    }

    /// A page and its summary are deleted. The page is first: as long as there is a summary, it is known that there is something to delete.
    pub fn delete_page(&mut self, session: StoreNumber, first: Key) {
        self.delete(ArchiveKey::Page(session, first));
        self.delete(ArchiveKey::Summary(session, first));
    }

    /// All that belongs to a session is deleted, its pages first: as long as there is one, there is a summary.
    pub fn delete_session(&mut self, session: StoreNumber) {
        self.delete_all(Span::pages(session));
        self.delete_all(Span::session(session));
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// How many bytes it has, for the bounds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many of them are of values that are put: what may make the archive larger.
    pub fn put_bytes(&self) -> usize {
        self.put_bytes
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn push(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }
}
