//! Pages of a queue: runs of its messages that are in the archive, and in memory only while they are needed.

use super::Key;

/// The keys of the messages of a page, ascending, in little memory: a few bytes for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageKeys {
    first: Key,
    count: u32,
    /// How much greater each is than the one before, behind the first.
    differences: Box<[u8]>,
}

impl PageKeys {
    /// These, which ascend; none if there is none, or they do not.
    pub fn new(keys: &[Key]) -> Option<Self> {
        let (first, mut before) = (*keys.first()?, keys.first()?.get());
        let mut differences = Vec::with_capacity(keys.len());
        for key in &keys[1..] {
            let mut rest = key.get().checked_sub(before).filter(|difference| *difference > 0)?;
            while rest > 0x7f {
                differences.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            differences.push(rest as u8);
            before = key.get();
        }
        let (count, differences) = (u32::try_from(keys.len()).ok()?, differences.into());
        Some(PageKeys { first, count, differences })
    }

    /// The lowest one.
    pub fn first(&self) -> Key {
        self.first
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// They, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Key> {
        let mut rest = &*self.differences;
        std::iter::successors(Some(self.first), move |before| {
            let (mut difference, mut shift) = (0, 0);
            loop {
                let (byte, behind) = rest.split_first()?;
                rest = behind;
                difference |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return Some(Key::new(before.get() + difference));
                }
            }
        })
    }
}

/// A page as it is in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPage {
    /// The keys of its messages.
    pub keys: PageKeys,
    /// The size of its messages and of their identifiers in bytes, as [`OutgoingMessage::size`](super::OutgoingMessage::size) counts it.
    pub bytes: usize,
    /// The keys, ascending, of those of them that do not count any more.
    pub gone: Vec<Key>,
}
