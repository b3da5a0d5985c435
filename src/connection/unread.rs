//! Bytes that were received and are not served yet: a packet that straddles two reads, or what comes while a client waits.

use crate::codec::{Split, split};
use crate::memory::{Held, MemoryKind, allocated};

/// A queue of bytes. It has memory only while there are bytes in it.
#[derive(Debug, Default)]
pub struct Unread {
    bytes: Vec<u8>,
    /// Bytes at the front that were served already.
    served: usize,
    /// The length of the last packet that was taken out whole. The next one is given that much room at once.
    last_whole: usize,
    memory: Held<{ MemoryKind::Unread as u8 }>,
}

impl Unread {
    /// The bytes that wait.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.served..]
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.served
    }

    /// The memory it takes, in bytes.
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `bytes` behind those that wait.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.served > 0 && self.served >= self.len() {
            self.bytes.drain(..self.served);
            self.served = 0;
        }
        self.bytes.extend_from_slice(bytes);
        self.memory.set(allocated(self.bytes.capacity()));
    }

    /// Keeps `bytes`, which could not be served: most of the time the beginning of a packet. If the last one was long, there is room for this one at
    /// once, as by [`complete`](Self::complete).
    pub fn keep(&mut self, bytes: &[u8]) {
        match split(bytes, usize::MAX) {
            Ok(Split::Incomplete { missing }) if self.last_whole > bytes.len() && self.is_empty() => {
                self.complete(bytes, bytes.len() + missing);
            }
            _ => self.push(bytes),
        }
    }

    /// Adds `bytes` to a packet of which `missing` bytes have not come, these included. Room is made for no more than those, and
    /// for all of them at once only if the last packet was as long: what a client announces is never enough.
    pub fn complete(&mut self, bytes: &[u8], missing: usize) {
        let wanted = self.bytes.len() + bytes.len();
        if wanted > self.bytes.capacity() {
            let announced = self.bytes.len() + missing;
            let room = announced.min(self.last_whole.max(2 * self.bytes.capacity())).max(wanted);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.push(bytes);
    }

    /// Takes out the packet of `length` bytes at the front in the memory it is in, if there is nothing else in it.
    pub fn take_whole(&mut self, length: usize) -> Option<Vec<u8>> {
        if self.served > 0 || self.bytes.len() != length || self.bytes.capacity() - length > length / 4 {
            return None;
        }
        self.last_whole = length;
        self.memory.set(0);
        Some(std::mem::take(&mut self.bytes))
    }

    /// Takes everything out, to be served; what is left of it comes back with [`Unread::put_back`].
    pub fn take(&mut self) -> Unread {
        let last_whole = self.last_whole;
        std::mem::replace(self, Unread { last_whole, ..Unread::default() })
    }

    /// Marks `count` bytes at the front as served.
    pub fn advance(&mut self, count: usize) {
        self.served += count;
        debug_assert!(self.served <= self.bytes.len(), "no more is served than there was");
        if self.served == self.bytes.len() {
            (self.bytes, self.served) = (Vec::new(), 0);
            self.memory.set(0);
        }
    }

    /// Puts what was taken out back in front of what came in the meantime.
    pub fn put_back(&mut self, mut taken: Unread) {
        if taken.is_empty() {
            return;
        }
        taken.push(self.as_slice());
        *self = taken;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_put_back_stands_in_front() {
        let mut unread = Unread::default();
        unread.push(b"abcdef");
        let mut taken = unread.take();
        taken.advance(4);
        unread.push(b"gh");
        unread.put_back(taken);
        assert_eq!(unread.as_slice(), b"efgh");
        unread.advance(4);
        assert!(unread.is_empty());
        assert_eq!(unread.bytes.capacity(), 0);
    }

    #[test]
    fn room_is_made_for_what_came_not_for_what_is_announced() {
        let mut unread = Unread::default();
        let announced = 1000;
        for came in (0..announced).step_by(10) {
            unread.complete(&[7; 10], announced - came);
            let room = unread.bytes.capacity();
            assert!(room <= (2 * unread.len()).min(announced), "{room} for {}", unread.len());
        }
        assert_eq!(unread.take_whole(announced).map(|whole| (whole.len(), whole.capacity())), Some((1000, 1000)));
        unread.complete(&[7; 10], 5000);
        assert_eq!(unread.bytes.capacity(), 1000, "as much as came before");
        let _ = unread.take();
        unread.complete(&[7; 10], 100);
        assert_eq!(unread.bytes.capacity(), 100, "and no more than is announced");
    }

    #[test]
    fn a_packet_that_has_begun_is_given_as_much_room_as_the_last_one_took() {
        let packet = |length: u8| [[0x30, length].as_slice(), &vec![7; usize::from(length)]].concat();
        let mut unread = Unread::default();
        unread.keep(&packet(100)[..10]);
        assert_eq!(unread.bytes.capacity(), 10, "nothing is known of its client");
        unread.complete(&[7; 92], 92);
        assert_eq!(unread.take_whole(102).map(|whole| whole.len()), Some(102));
        unread.keep(&packet(50)[..10]);
        assert_eq!(unread.bytes.capacity(), 52, "no more than is announced");
        let _ = unread.take();
        unread.keep(&packet(120)[..10]);
        assert_eq!(unread.bytes.capacity(), 102, "no more than the last one had");
        let _ = unread.take();
        unread.keep(&[packet(1), packet(90)].concat()[..20]);
        assert!(unread.bytes.capacity() < 30, "it is not a beginning: its client waits");
    }

    #[test]
    fn a_packet_is_taken_out_whole_only_if_it_is_alone() {
        let mut unread = Unread::default();
        unread.push(b"abcd");
        assert_eq!(unread.take_whole(3), None);
        unread.advance(2);
        assert_eq!(unread.take_whole(2), None);
        assert_eq!(unread.as_slice(), b"cd");
        unread.advance(2);
        unread.complete(b"efgh", 4);
        assert_eq!(unread.take_whole(4), Some(b"efgh".to_vec()));
        assert!(unread.is_empty());
    }

    proptest! {
        /// Bytes come, are taken out, served in part and put back; the order is kept and nothing is lost.
        #[test]
        fn agrees_with_a_queue_of_bytes(steps in prop::collection::vec((0..20_usize, 0..20_usize, any::<bool>()), 0..60)) {
            let (mut unread, mut model) = (Unread::default(), std::collections::VecDeque::<u8>::new());
            let mut next = 0_u8;
            for (count, served, buffered) in steps {
                let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                let (early, late) = bytes.split_at(count / 2);
                unread.push(early);
                model.extend(early);
                if buffered {
                    let mut taken = unread.take();
                    unread.push(late);
                    let served = served.min(taken.len());
                    taken.advance(served);
                    unread.put_back(taken);
                    model.drain(..served);
                    model.extend(late);
                } else {
                    unread.push(late);
                    model.extend(late);
                    let served = served.min(unread.len());
                    unread.advance(served);
                    model.drain(..served);
                }
                prop_assert_eq!(unread.as_slice(), &*model.make_contiguous());
                prop_assert_eq!(unread.is_empty(), model.is_empty());
            }
        }
    }
}
