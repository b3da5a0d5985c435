//! The messages of a queue that are in the archive, or are to be.

use super::{Look, Waiting, Walk};
use crate::codec::QoS;
use crate::config::QueueType;
use crate::session::pages::{PageKeys, Pages, StoredPage};
use crate::session::{Key, OutgoingMessage, StoreNumber};

impl Waiting {
    /// Pages that were in the archive before the broker started, under this number.
    pub(in crate::session) fn restore_pages(&mut self, id: StoreNumber, stored: Vec<StoredPage>) {
        self.pages = Some(Box::new(Pages::new(id, stored)));
        self.count();
    }

    pub(in crate::session) fn pages_id(&self) -> Option<StoreNumber> {
        self.pages.as_ref().map(|pages| pages.id())
    }

    /// Whether messages are in a page that is not persisted, or one is being read.
    pub fn is_any_under_way(&self) -> bool {
        self.pages.as_ref().is_some_and(|pages| pages.is_any_under_way())
    }

    /// How many messages are in memory where they came in.
    pub fn messages_in_memory(&self) -> usize {
        self.places.len() - self.gaps
    }

    /// Their bytes.
    pub fn bytes_in_memory(&self) -> usize {
        self.bytes
    }

    /// Looks at the first message in memory that `walk` has not come to: [`Look::Taken`] has it if it is stored and in no page, or only in one that is
    /// not known to be persisted and that does not count. It stays where it is.
    pub fn look_outside_pages(&self, walk: &mut Walk, does_any_count: bool) -> Look<&OutgoingMessage> {
        let Some(at) = self.come_to(walk) else { return Look::End };
        // What is in a page that is persisted is here no more.
        let is_in_one = |key| does_any_count && self.has_copy(key);
        let is_outside = |message: &&OutgoingMessage| !message.key.is_none() && !is_in_one(message.key);
        self.places[at].as_ref().filter(is_outside).map_or(Look::Kept, Look::Taken)
    }

    /// What is gone of pages that are left, by page.
    pub fn gone(&self) -> impl Iterator<Item = &[Key]> {
        self.pages.iter().flat_map(|pages| pages.gone()).filter(|gone| !gone.is_empty())
    }

    /// Messages that were read of pages, and are in none any more: they have got other keys.
    pub fn loose(&self) -> impl Iterator<Item = &OutgoingMessage> {
        self.pages.iter().flat_map(|pages| pages.loose())
    }

    /// Whether messages are in the archive alone.
    pub fn is_any_archived(&self) -> bool {
        self.pages.as_ref().is_some_and(|pages| pages.is_any_archived())
    }

    /// Whether messages are in the archive, or were read from there.
    pub fn is_any_in_pages(&self) -> bool {
        self.pages.as_ref().is_some_and(|pages| pages.len() > 0)
    }

    /// The next messages that are in no page yet become one, under this number if it is the first: they are given to `add`, in order, up to one
    /// that it does not take. Gives the first key; none if there are no such messages. They stay where they are until it is [persisted](Self::persisted).
    /// What came through a shared subscription is passed over: another member may get it; so is what is not stored. `looks`: so many places are
    /// looked at, at most.
    pub fn page_out(
        &mut self,
        id: StoreNumber,
        looks: usize,
        mut add: impl FnMut(&OutgoingMessage) -> bool,
    ) -> Option<Key> {
        if self.pages.as_ref().is_some_and(|pages| pages.is_held()) {
            return None;
        }
        let (mut keys, mut bytes, mut walk) = (Vec::new(), 0, std::mem::take(&mut self.paged));
        for _ in 0..looks {
            let before = walk;
            let Some(at) = self.come_to(&mut walk) else { break };
            let Some(message) = &self.places[at] else { continue };
            let is_passed_over = message.key.is_none() || message.qos == QoS::AtMostOnce || message.group.is_some();
            if is_passed_over || self.has_copy(message.key) {
                continue;
            }
            if !add(message) {
                walk = before;
                break;
            }
            keys.push(message.key);
            bytes += message.size();
        }
        self.paged = walk;
        if keys.is_empty() {
            return None;
        }
        let pages = self.pages.get_or_insert_with(|| Box::new(Pages::new(id, Vec::new())));
        let first = pages.add(keys, bytes);
        self.count();
        first
    }

    /// Until it is said otherwise, messages become no pages.
    pub fn hold_pages(&mut self, are_held: bool) {
        if let Some(pages) = &mut self.pages {
            pages.hold(are_held);
        }
    }

    /// A page that messages have become is persisted: they are in the archive alone from here on. How many these are.
    pub fn persisted(&mut self, first: Key, order: QueueType) -> usize {
        let Some(pages) = &mut self.pages else { return 0 };
        if order == QueueType::Lifo {
            // They are behind what was read, and go before it.
            pages.unload();
        }
        let Some(keys) = pages.persisted(first) else { return 0 };
        let (messages, mut left, mut walk) = (keys.len(), keys.len(), std::mem::take(&mut self.persisted));
        while left > 0
            && let Some(at) = self.come_to(&mut walk)
        {
            let is_one = |message: &OutgoingMessage| keys.binary_search(&message.key).is_ok();
            if self.places[at].as_ref().is_some_and(is_one) {
                self.take_out(at);
                left -= 1;
            }
        }
        debug_assert_eq!(left, 0, "what is not in the queue any more is gone");
        self.persisted = walk;
        self.count();
        messages
    }

    /// The page that is to be read now, by its first key: from here on it is being read.
    pub fn begin_reading(&mut self, order: QueueType) -> Option<Key> {
        let is_any_behind = !self.places.is_empty();
        self.pages.as_mut()?.begin_reading(order, is_any_behind)
    }

    /// A page was read: see [`Pages::was_read`].
    pub fn was_read(&mut self, first: Key, messages: Vec<OutgoingMessage>, how: (QueueType, bool)) -> usize {
        let missing = self.pages.as_mut().map_or(0, |pages| pages.was_read(first, messages, how));
        self.count();
        missing
    }

    /// What was read of pages is not kept in memory.
    pub fn unload(&mut self) {
        if let Some(pages) = &mut self.pages {
            pages.unload();
            self.count();
        }
    }

    /// Whether a message in memory is in a page, too.
    pub fn has_copy(&self, key: Key) -> bool {
        self.pages.as_ref().is_some_and(|pages| pages.has_copy(key))
    }

    /// Those of its bytes that are known about only.
    pub fn bytes_in_doubt(&self) -> usize {
        self.pages.as_ref().map_or(0, |pages| pages.bytes_in_doubt())
    }

    /// The keys of pages of which nothing is left, and that may still be in the archive.
    pub fn emptied(&self) -> &[PageKeys] {
        self.pages.as_ref().map_or_else(Default::default, |pages| pages.emptied())
    }

    /// The same: these pages are to be deleted.
    pub fn take_emptied(&mut self) -> Vec<PageKeys> {
        self.pages.as_mut().map_or_else(Vec::new, |pages| pages.take_emptied())
    }

    /// Of these pages, too, nothing is left, and they may still be in the archive.
    pub fn are_emptied(&mut self, pages: impl IntoIterator<Item = PageKeys>) {
        if let Some(own) = &mut self.pages {
            own.are_emptied(pages);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::super::queue::tests::delivery;
    use super::*;

    /// What a page has in the archive.
    type Archive = std::collections::BTreeMap<u64, Vec<OutgoingMessage>>;

    #[derive(Default)]
    struct Paged {
        waiting: Waiting,
        archive: Archive,
        /// Pages that are not persisted, by their first keys.
        under_way: VecDeque<Key>,
        next: u64,
    }

    impl Paged {
        fn push(&mut self, qos: QoS) -> OutgoingMessage {
            let key = if qos == QoS::AtMostOnce { Key::NONE } else { Key::new(self.next) };
            let payload = "x".repeat(self.next as usize * 37 % 100);
            let message = OutgoingMessage { key, ..delivery(&format!("{} {payload}", self.next), qos) };
            self.next += 1;
            self.waiting.push(message.clone());
            message
        }

        fn page_out(&mut self, most: usize) {
            let mut page = Vec::new();
            let add = |message: &OutgoingMessage| {
                let has_room = page.len() < most;
                if has_room {
                    page.push(message.clone());
                }
                has_room
            };
            if let Some(first) = self.waiting.page_out(StoreNumber::new(1, 0, 1), 100, add) {
                self.archive.insert(first.get(), page);
                self.under_way.push_back(first);
            }
        }

        fn read(&mut self, order: QueueType, is_wanted: bool) -> bool {
            let Some(first) = self.waiting.begin_reading(order) else { return false };
            assert!(self.waiting.begin_reading(order).is_none(), "one at a time");
            let page = self.archive[&first.get()].clone();
            assert_eq!(self.waiting.was_read(first, page, (order, is_wanted)), 0);
            true
        }

        /// The next one, of which the page is read if it has to be.
        fn pop(&mut self, order: QueueType) -> Option<OutgoingMessage> {
            loop {
                let next = self.waiting.next(order).map(|next| next.key);
                let popped = self.waiting.pop_next(order);
                assert_eq!(next, popped.as_ref().map(|one| one.key));
                if popped.is_some() || !self.read(order, true) {
                    return popped;
                }
            }
        }
    }

    fn payloads<'a>(messages: impl IntoIterator<Item = &'a OutgoingMessage>) -> Vec<Vec<u8>> {
        messages.into_iter().map(|one| one.message.payload().to_vec()).collect()
    }

    proptest! {
        /// Whatever of a queue is in pages, it comes out as if nothing was, but that QoS 0 may be behind others.
        #[test]
        fn a_queue_with_pages_is_as_one_without(lifo in any::<bool>(), steps in prop::collection::vec((0..12_u8, 1..6_usize), 0..300)) {
            let order = if lifo { QueueType::Lifo } else { QueueType::Fifo };
            let (mut paged, mut model) = (Paged::default(), VecDeque::new());
            for (what, most) in steps {
                match what {
                    0..=4 => model.push_back(paged.push(QoS::AtLeastOnce)),
                    5 | 6 => paged.page_out(most),
                    7 => {
                        if let Some(first) = paged.under_way.pop_front() {
                            paged.waiting.persisted(first, order);
                        }
                    }
                    8 => drop(paged.read(order, most > 3)),
                    9 => paged.waiting.unload(),
                    _ => {
                        let expected = if lifo { model.pop_back() } else { model.pop_front() };
                        prop_assert_eq!(payloads(&paged.pop(order)), payloads(&expected));
                    }
                }
                for emptied in paged.waiting.take_emptied() {
                    prop_assert!(paged.archive.remove(&emptied.first().get()).is_some(), "once");
                }
                let bytes = model.iter().map(OutgoingMessage::size).sum::<usize>();
                let (len, counted) = (paged.waiting.len(), paged.waiting.bytes());
                prop_assert_eq!((len, paged.waiting.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!(counted, bytes);
            }
            let left: Vec<_> = std::iter::from_fn(|| paged.pop(order)).collect();
            if lifo { model.make_contiguous().reverse() }
            prop_assert_eq!(payloads(&left), payloads(&model));
            prop_assert_eq!(paged.archive.len() - paged.waiting.take_emptied().len(), 0);
            prop_assert_eq!(paged.waiting.bytes(), 0);
        }
    }

    #[test]
    fn what_stays_out_of_pages_is_behind_them() {
        let mut paged = Paged::default();
        let zero = paged.push(QoS::AtMostOnce);
        let (one, two) = (paged.push(QoS::AtLeastOnce), paged.push(QoS::ExactlyOnce));
        let group = Some(std::sync::Arc::new(crate::topic::TopicFilter::parse("$share/g/t", 8).expect("a filter")));
        let shared = OutgoingMessage { group, key: Key::new(77), ..delivery("shared", QoS::AtLeastOnce) };
        paged.waiting.push(shared.clone());
        paged.page_out(10);
        let first = paged.under_way.pop_front().expect("a page");
        assert!(paged.waiting.has_copy(one.key) && paged.waiting.is_any_under_way());
        paged.waiting.persisted(first, QueueType::Fifo);
        assert!(paged.waiting.next(QueueType::Fifo).is_none() && paged.waiting.is_any_archived());
        let order = std::iter::from_fn(|| paged.pop(QueueType::Fifo)).collect::<Vec<_>>();
        assert_eq!(payloads(&order), payloads([&one, &two, &zero, &shared]));
    }

    /// One that has got another key is in no page any more, and does not go when what was read does.
    #[test]
    fn a_message_with_another_key_stays_in_memory() {
        let mut paged = Paged::default();
        let messages = [(); 3].map(|()| paged.push(QoS::ExactlyOnce));
        paged.page_out(10);
        let first = paged.under_way.pop_front().expect("a page");
        paged.waiting.persisted(first, QueueType::Fifo);
        assert!(paged.read(QueueType::Fifo, true));
        paged.waiting.renumber_next(QueueType::Fifo, Key::new(99));
        assert_eq!(paged.waiting.loose().map(|one| one.key).collect::<Vec<_>>(), [Key::new(99)]);
        assert_eq!(paged.waiting.gone().collect::<Vec<_>>(), [&[messages[0].key]]);
        paged.waiting.unload();
        let order = std::iter::from_fn(|| paged.pop(QueueType::Fifo)).collect::<Vec<_>>();
        assert_eq!(payloads(&order), payloads(&messages));
    }

    /// A page that has lost messages: they are counted, the others come.
    #[test]
    fn what_a_page_lacks_is_gone() {
        let mut paged = Paged::default();
        (0..3).for_each(|_| drop(paged.push(QoS::AtLeastOnce)));
        paged.page_out(10);
        let first = paged.under_way.pop_front().expect("a page");
        paged.waiting.persisted(first, QueueType::Fifo);
        assert_eq!(paged.waiting.begin_reading(QueueType::Fifo), Some(first));
        let page = paged.archive[&first.get()][1..].to_vec();
        assert_eq!(paged.waiting.was_read(first, page, (QueueType::Fifo, true)), 1);
        assert_eq!(std::iter::from_fn(|| paged.pop(QueueType::Fifo)).count(), 2);
        assert!(paged.waiting.is_empty());
        assert_eq!(paged.waiting.take_emptied().iter().map(PageKeys::first).collect::<Vec<_>>(), [first]);
    }

    #[test]
    fn keys_of_a_page_are_what_was_given() {
        let keys = [0, 1, 127, 128, 300, 1 << 40, (1 << 48) - 2].map(Key::new);
        assert_eq!(PageKeys::new(&keys).expect("they ascend").iter().collect::<Vec<_>>(), keys);
        assert!(PageKeys::new(&[]).is_none() && PageKeys::new(&[keys[1], keys[1]]).is_none());
    }
}
