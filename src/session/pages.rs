//! Pages of a queue: runs of its messages that are in the archive, and in memory only while they are needed.

use std::collections::VecDeque;

use super::{Key, OutgoingMessage, StoreNumber};
use crate::config::QueueType;
use crate::memory::{allocated, allocated_for};

/// The keys of the messages of a page, ascending, in little memory: none but this if there are no keys in between, as a rule, and a few bytes for each
/// otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageKeys {
    first: Key,
    count: u32,
    /// How much greater each is than the one before, behind the first; nothing if each is the next one.
    differences: Box<[u8]>,
}

impl PageKeys {
    /// These, which ascend; none if there is none, or they do not.
    pub fn new(keys: &[Key]) -> Option<Self> {
        let first = *keys.first()?;
        let steps = keys.windows(2).map(|pair| pair[1].get().checked_sub(pair[0].get()));
        PageKeys::in_steps(first, steps)
    }

    /// The first of them, and how much greater each is than the one before; none if it is not, or a step is none.
    pub fn in_steps(first: Key, steps: impl Iterator<Item = Option<u64>>) -> Option<Self> {
        let (mut count, mut differences) = (1_u32, Vec::new());
        for step in steps {
            let mut rest = step.filter(|step| *step > 0)?;
            if rest > 1 && differences.is_empty() {
                differences.resize(count as usize - 1, 1);
            }
            if rest > 1 || !differences.is_empty() {
                while rest > 0x7f {
                    differences.push(rest as u8 | 0x80);
                    rest >>= 7;
                }
                differences.push(rest as u8);
            }
            count = count.checked_add(1)?;
        }
        Some(PageKeys { first, count, differences: differences.into() })
    }

    /// The lowest one.
    pub fn first(&self) -> Key {
        self.first
    }

    /// How many there are: at least one.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The highest one.
    pub fn last(&self) -> Key {
        match self.is_dense() {
            true => Key::new(self.first.get() + u64::from(self.count) - 1),
            false => self.iter().last().unwrap_or(self.first),
        }
    }

    /// Whether all keys are there between the first and the last.
    fn is_dense(&self) -> bool {
        self.differences.is_empty()
    }

    /// Whether this is one of them.
    pub fn contains(&self, key: Key) -> bool {
        match self.is_dense() {
            true => key.get().checked_sub(self.first.get()).is_some_and(|above| above < u64::from(self.count)),
            false => self.iter().any(|one| one == key),
        }
    }

    /// The memory of them, in bytes.
    fn memory(&self) -> usize {
        allocated(self.differences.len())
    }

    /// They, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Key> {
        let (mut rest, mut key) = (&*self.differences, self.first.get());
        let mut step = move || {
            let (mut difference, mut shift) = (0, 0);
            while let Some((byte, behind)) = rest.split_first() {
                rest = behind;
                difference |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    return difference;
                }
            }
            1
        };
        (0..self.count).map(move |at| {
            key += if at == 0 { 0 } else { step() };
            Key::new(key)
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

impl StoredPage {
    /// How many of its messages count.
    pub fn left(&self) -> usize {
        self.keys.len() - self.gone.len()
    }

    /// The bytes of these, as if all of the page were of one size.
    pub fn bytes_left(&self) -> usize {
        (self.bytes as u128 * self.left() as u128 / self.keys.len() as u128) as usize
    }
}

/// With fewer messages than this that were read, the next page is.
const READ_AHEAD: usize = 64;

/// Where the messages of a page are beside the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copies {
    /// Nowhere.
    None,
    /// Among those that were read, and come before all others in memory.
    Read,
    /// Where they were before they became a page: that is not known to be persisted.
    Queue,
}

/// Where the message of a queue is that goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// In the queue, if there is one at all.
    Queue,
    /// Among those that were read.
    Read,
    /// In the archive alone.
    Archive,
}

#[derive(Debug)]
struct Page {
    stored: StoredPage,
    /// The bytes of what is left of it: about, if it was there when the broker started and has not been read since.
    bytes: usize,
    copies: Copies,
    /// Its keys, while there are copies.
    keys: Box<[Key]>,
}

impl Page {
    fn first(&self) -> Key {
        self.stored.keys.first()
    }

    fn has_copy(&self, key: Key) -> bool {
        self.copies != Copies::None && self.keys.binary_search(&key).is_ok()
    }
}

/// The pages of a queue, and what was read of them.
///
/// In the order of the queue: pages of which messages were read and wait in [`read`](Self::read), pages of which nothing is in memory, pages whose
/// messages are still in the queue itself. If the latest goes first, those that were read are behind those of which nothing is in memory.
#[derive(Debug)]
pub(super) struct Pages {
    /// Under which they are in the archive.
    id: StoreNumber,
    pages: VecDeque<Page>,
    /// What was read, in order; with what has got another key since, and belongs to no page any more.
    read: VecDeque<OutgoingMessage>,
    read_bytes: usize,
    /// The keys of pages of which nothing is left: they are still in the archive.
    emptied: Vec<PageKeys>,
    /// The first key of the page that is being read.
    reading: Option<Key>,
    /// No more pages are made: the session is to move, which waits until none is under way.
    is_held: bool,
    /// How many messages are in the archive alone, and their bytes.
    archived: (usize, usize),
    /// The memory of the keys of all pages, in bytes.
    keys: usize,
}

impl Pages {
    pub fn new(id: StoreNumber, stored: Vec<StoredPage>) -> Self {
        let page = |stored: StoredPage| Page {
            bytes: stored.bytes_left(),
            stored,
            copies: Copies::None,
            keys: Box::default(),
        };
        let mut pages = Pages {
            id,
            pages: stored.into_iter().map(page).collect(),
            read: VecDeque::new(),
            read_bytes: 0,
            emptied: Vec::new(),
            reading: None,
            is_held: false,
            archived: (0, 0),
            keys: 0,
        };
        pages.keys = pages.pages.iter().map(|page| page.stored.keys.memory()).sum();
        let count = |(len, bytes): (usize, usize), page: &Page| (len + page.stored.left(), bytes + page.bytes);
        pages.archived = pages.pages.iter().fold((0, 0), count);
        pages
    }

    pub fn id(&self) -> StoreNumber {
        self.id
    }

    /// How many messages are in the archive alone or were read.
    pub fn len(&self) -> usize {
        self.archived.0 + self.read.len()
    }

    /// Their bytes.
    pub fn bytes(&self) -> usize {
        self.archived.1 + self.read_bytes
    }

    /// Whether messages are in the archive alone.
    pub fn is_any_archived(&self) -> bool {
        self.archived.0 > 0
    }

    /// The bytes of messages that were read.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// The memory of what is known of them, about, in bytes.
    pub fn memory(&self) -> usize {
        allocated_for::<Pages>(1)
            + allocated_for::<Page>(self.pages.capacity())
            + allocated_for::<OutgoingMessage>(self.read.capacity())
            + self.keys
    }

    /// The places of the pages of which there are copies in memory: those are first, or last.
    fn with_copies(&self) -> impl Iterator<Item = usize> {
        let has_copies = |at: &usize| self.pages[*at].copies != Copies::None;
        (0..self.pages.len()).take_while(has_copies).chain((0..self.pages.len()).rev().take_while(has_copies))
    }

    /// The page that has a copy of this message, by its place.
    fn page_of(&self, key: Key) -> Option<usize> {
        self.with_copies().find(|at| self.pages[*at].has_copy(key))
    }

    /// Where the message is that goes next. `is_any_behind`: others are in memory behind all pages.
    pub fn next_is(&self, order: QueueType, is_any_behind: bool) -> Whereabouts {
        let is_archived = match order {
            QueueType::Fifo => self.pages.front().is_some_and(|page| page.copies == Copies::None),
            QueueType::Lifo => !self.pages.is_empty(),
        };
        match order {
            QueueType::Lifo if is_any_behind => Whereabouts::Queue,
            _ if !self.read.is_empty() => Whereabouts::Read,
            _ if is_archived => Whereabouts::Archive,
            _ => Whereabouts::Queue,
        }
    }

    /// The page that is to be read next, by its first key: from here on it is being read. `is_any_behind`: as of [`next_is`](Self::next_is).
    pub fn begin_reading(&mut self, order: QueueType, is_any_behind: bool) -> Option<Key> {
        if self.reading.is_some() {
            return None;
        }
        let page = match order {
            QueueType::Fifo if self.read.len() < READ_AHEAD => {
                self.pages.iter().find(|page| page.copies != Copies::Read).filter(|page| page.copies == Copies::None)
            }
            QueueType::Fifo => None,
            QueueType::Lifo => self.pages.back().filter(|_| self.next_is(order, is_any_behind) == Whereabouts::Archive),
        };
        self.reading = page.map(Page::first);
        self.reading
    }

    /// A page was read. What is gone of it is left out; what it lacks is gone from now on. Says how many those were. `is_wanted`: they are to be sent;
    /// otherwise they are not kept.
    pub fn was_read(
        &mut self,
        first: Key,
        messages: Vec<OutgoingMessage>,
        (order, is_wanted): (QueueType, bool),
    ) -> usize {
        self.reading = None;
        let at = match order {
            QueueType::Fifo => self.pages.iter().take_while(|page| page.copies == Copies::Read).count(),
            QueueType::Lifo => self.pages.len().wrapping_sub(1),
        };
        // Another one may be next by now.
        let Some(page) = self.pages.get_mut(at).filter(|page| page.copies == Copies::None && page.first() == first)
        else {
            return 0;
        };
        let is_in = |keys: &[Key], key: Key| keys.binary_search(&key).is_ok();
        let mut keys: Vec<Key> = messages.iter().map(|message| message.key).collect();
        keys.sort_unstable();
        let stored = &page.stored;
        let missing: Vec<Key> =
            stored.keys.iter().filter(|key| !is_in(&keys, *key) && !is_in(&stored.gone, *key)).collect();
        if !is_wanted && missing.is_empty() {
            return 0;
        }
        self.archived.0 -= page.stored.left();
        self.archived.1 -= page.bytes;
        page.stored.gone.extend(&missing);
        page.stored.gone.sort_unstable();
        page.copies = Copies::Read;
        page.keys = page.stored.keys.iter().collect();
        page.bytes = 0;
        for message in
            messages.into_iter().filter(|one| !is_in(&page.stored.gone, one.key) && is_in(&page.keys, one.key))
        {
            page.bytes += message.size();
            self.read.push_back(message);
        }
        self.read_bytes += page.bytes;
        if page.stored.left() == 0 {
            self.empty(at);
        }
        if !is_wanted {
            self.unload();
        }
        missing.len()
    }

    /// What was read is not needed in memory any more: nothing is sent.
    pub fn unload(&mut self) {
        if self.read.is_empty() {
            return;
        }
        let stays = std::mem::take(&mut self.read).into_iter().filter(|message| !self.has_copy(message.key)).collect();
        self.read = stays;
        self.read_bytes = self.read.iter().map(OutgoingMessage::size).sum();
        for page in self.pages.iter_mut().filter(|page| page.copies == Copies::Read) {
            (page.copies, page.keys) = (Copies::None, Box::default());
            self.archived.0 += page.stored.left();
            self.archived.1 += page.bytes;
        }
    }

    /// The next of those that were read.
    pub fn next_read(&self, order: QueueType) -> Option<&OutgoingMessage> {
        match order {
            QueueType::Fifo => self.read.front(),
            QueueType::Lifo => self.read.back(),
        }
    }

    /// The same, whose key may change.
    pub fn next_read_mut(&mut self, order: QueueType) -> Option<&mut OutgoingMessage> {
        match order {
            QueueType::Fifo => self.read.front_mut(),
            QueueType::Lifo => self.read.back_mut(),
        }
    }

    /// Takes out the next of those that were read.
    pub fn take_read(&mut self, order: QueueType) -> Option<OutgoingMessage> {
        let message = match order {
            QueueType::Fifo => self.read.pop_front(),
            QueueType::Lifo => self.read.pop_back(),
        }?;
        self.read_bytes -= message.size();
        self.is_gone(message.key, message.size());
        Some(message)
    }

    /// A message of this size does not wait under this key any more.
    pub fn is_gone(&mut self, key: Key, size: usize) {
        let Some(at) = self.page_of(key) else { return };
        let page = &mut self.pages[at];
        match page.stored.gone.binary_search(&key) {
            Ok(_) => return,
            Err(place) => page.stored.gone.insert(place, key),
        }
        page.bytes -= size;
        if self.pages[at].stored.left() == 0 {
            self.empty(at);
        }
    }

    fn empty(&mut self, at: usize) {
        if let Some(page) = self.pages.remove(at) {
            self.keys -= page.stored.keys.memory();
            self.emptied.push(page.stored.keys);
        }
    }

    /// Whether a message in memory is in a page, too.
    pub fn has_copy(&self, key: Key) -> bool {
        self.page_of(key).is_some()
    }

    /// Messages of the queue have become a page, with these keys, and that size; they stay where they are until it is [persisted](Self::persisted).
    /// Gives its first key.
    pub fn add(&mut self, mut keys: Vec<Key>, bytes: usize) -> Option<Key> {
        keys.sort_unstable();
        let stored = StoredPage { keys: PageKeys::new(&keys)?, bytes, gone: Vec::new() };
        let first = stored.keys.first();
        self.keys += stored.keys.memory();
        self.pages.push_back(Page { stored, bytes, copies: Copies::Queue, keys: keys.into() });
        Some(first)
    }

    /// The keys of what is left of a page that was added and is persisted now, ascending; none if there is nothing left of it. They are to be taken
    /// out of the queue.
    pub fn persisted(&mut self, first: Key) -> Option<Vec<Key>> {
        let mut in_queue = self.pages.iter_mut().rev().take_while(|page| page.copies == Copies::Queue);
        let page = in_queue.find(|page| page.first() == first)?;
        let is_gone = |key: &Key| page.stored.gone.binary_search(key).is_ok();
        let left = page.keys.iter().copied().filter(|key| !is_gone(key)).collect();
        (page.copies, page.keys) = (Copies::None, Box::default());
        self.archived.0 += page.stored.left();
        self.archived.1 += page.bytes;
        Some(left)
    }

    /// Whether messages of a page are still in the queue, since it is not known to be persisted, or one is being read.
    pub fn is_any_under_way(&self) -> bool {
        self.reading.is_some() || self.pages.back().is_some_and(|page| page.copies == Copies::Queue)
    }

    /// No more pages are made, or some may be again.
    pub fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Whether none are.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// The keys of pages of which nothing is left.
    pub fn emptied(&self) -> &[PageKeys] {
        &self.emptied
    }

    /// The same: these pages are to be deleted.
    pub fn take_emptied(&mut self) -> Vec<PageKeys> {
        std::mem::take(&mut self.emptied)
    }

    /// Of these pages, too, nothing is left, and they may still be in the archive.
    pub fn are_emptied(&mut self, pages: impl IntoIterator<Item = PageKeys>) {
        self.emptied.extend(pages);
    }

    /// What is gone of pages that are left, by page.
    pub fn gone(&self) -> impl Iterator<Item = &[Key]> {
        self.pages.iter().map(|page| &*page.stored.gone)
    }

    /// The bytes of pages of which something is gone and nothing is in memory: after a start they are known about only.
    pub fn bytes_in_doubt(&self) -> usize {
        let in_doubt = |page: &&Page| page.copies == Copies::None && !page.stored.gone.is_empty();
        self.pages.iter().filter(in_doubt).map(|page| page.bytes).sum()
    }

    /// Messages that were read, and are in no page any more.
    pub fn loose(&self) -> impl Iterator<Item = &OutgoingMessage> {
        self.read.iter().filter(|message| !self.has_copy(message.key))
    }
}
