//! Bytes that came and are not served yet: a packet that straddles two reads, or whatever comes while a client waits.

/// A queue of bytes. Holds memory only while it holds bytes.
#[derive(Debug, Default)]
pub struct Unread {
    bytes: Vec<u8>,
    /// Bytes at the front that were served already.
    served: usize,
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
    }

    /// Takes everything out, to be served; what is left of it comes back with [`Unread::put_back`].
    pub fn take(&mut self) -> Unread {
        std::mem::take(self)
    }

    /// Marks `count` bytes at the front as served.
    pub fn advance(&mut self, count: usize) {
        self.served += count;
        debug_assert!(self.served <= self.bytes.len(), "no more is served than there was");
        if self.served == self.bytes.len() {
            *self = Unread::default();
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

    proptest! {
        /// Bytes come, are taken out, served in part and put back; the order is kept and nothing is lost.
        #[test]
        fn agrees_with_a_queue_of_bytes(steps in prop::collection::vec((0..20_usize, 0..20_usize, any::<bool>()), 0..60)) {
            let (mut unread, mut model) = (Unread::default(), std::collections::VecDeque::<u8>::new());
            let mut next = 0_u8;
            for (count, served, aside) in steps {
                let bytes: Vec<u8> = (0..count).map(|_| { next = next.wrapping_add(1); next }).collect();
                let (early, late) = bytes.split_at(count / 2);
                unread.push(early);
                model.extend(early);
                if aside {
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
