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
}
