//! The outbox of one connection: encoded packets that leave with the next flush.
//!
//! Small packets are copied into one run of bytes, so that one send carries many of them. A large payload stays where it
//! is and is spliced in, and so are large properties: the send is then a vectored one.

use super::spares::Spares;
use crate::memory::{Held, MemoryKind, allocated};
use crate::message::Message;

/// A part of a message that stands in the output without being copied into it.
#[derive(Debug)]
pub struct Splice {
    /// How many of the bytes come before it.
    pub at: usize,
    /// The message.
    pub message: Message,
    /// Which part of it.
    pub part: SplicedPart,
}

/// What of a message is spliced in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplicedPart {
    /// The properties that came with it.
    Properties,
    /// The payload.
    Payload,
}

impl Splice {
    /// The bytes that stand in the output.
    pub fn bytes(&self) -> &[u8] {
        match self.part {
            SplicedPart::Properties => self.message.properties(),
            SplicedPart::Payload => self.message.payload(),
        }
    }
}

/// The buffer of one send.
#[derive(Debug, Default)]
pub struct SendBuffer {
    /// Encoded packets.
    pub bytes: Vec<u8>,
    /// Payloads and properties between them, in order.
    pub splices: Vec<Splice>,
}

impl SendBuffer {
    /// How many bytes are to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.splices.iter().map(|splice| splice.bytes().len()).sum::<usize>()
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes as they leave, what is spliced in its places.
    pub fn into_bytes(self) -> Vec<u8> {
        if self.splices.is_empty() {
            return self.bytes;
        }
        let mut bytes = Vec::with_capacity(self.len());
        let mut at = 0;
        for splice in &self.splices {
            bytes.extend_from_slice(&self.bytes[at..splice.at]);
            bytes.extend_from_slice(splice.bytes());
            at = splice.at;
        }
        bytes.extend_from_slice(&self.bytes[at..]);
        bytes
    }
}

/// Payloads and properties of at least so many bytes are spliced in, not copied.
///
/// Below it the copy is cheaper than one more segment in the send, see `perf/`.
pub const SPLICE_FROM: usize = 8 * 1024;

/// The output of one connection.
#[derive(Debug)]
pub struct Outbox {
    output: SendBuffer,
    /// Bytes in the splices.
    spliced: usize,
    /// Bytes that the runtime took and has not sent yet.
    sending: usize,
    /// The memory of the buffer they are in, and of the one that is written into, as far as it was counted.
    sending_from: usize,
    counted: usize,
    held: Held<{ MemoryKind::Output as u8 }>,
}

/// Smaller buffers are not counted: it would be done twice for nearly every message.
const COUNTED_FROM: usize = 4096;
/// What is counted of a buffer that is not there: no buffer has that size.
const NO_BUFFER: usize = usize::MAX;

impl Default for Outbox {
    fn default() -> Self {
        let (output, held) = (SendBuffer::default(), Held::default());
        Outbox { output, spliced: 0, sending: 0, sending_from: 0, counted: NO_BUFFER, held }
    }
}

impl Outbox {
    /// Bytes that wait here or on their way into the socket.
    pub fn waiting(&self) -> usize {
        self.output.bytes.len() + self.spliced + self.sending
    }

    /// Whether there is something for the next flush.
    pub fn has_output(&self) -> bool {
        !self.output.bytes.is_empty()
    }

    /// Whether a send is under way.
    pub fn is_sending(&self) -> bool {
        self.sending > 0
    }

    /// The bytes, to append to. `spares` gives a buffer if there is none yet.
    pub fn bytes(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.output.bytes.capacity() != self.counted {
            self.renew(spares);
        }
        &mut self.output.bytes
    }

    /// Lets a part of `message` follow the bytes appended so far.
    pub fn splice(&mut self, message: Message, part: SplicedPart) {
        let splice = Splice { at: self.output.bytes.len(), message, part };
        self.spliced += splice.bytes().len();
        self.output.splices.push(splice);
    }

    /// Hands everything over for sending; none while a send is under way or there is nothing to send.
    pub fn take(&mut self) -> Option<SendBuffer> {
        if self.is_sending() || !self.has_output() {
            return None;
        }
        self.sending = self.waiting();
        self.spliced = 0;
        let capacity = self.output.bytes.capacity();
        if capacity >= COUNTED_FROM && capacity != self.counted {
            self.count();
        }
        (self.sending_from, self.counted) = (capacity, NO_BUFFER);
        Some(std::mem::take(&mut self.output))
    }

    /// Hands everything over for sending, behind whatever is under way: the connection ends with it.
    pub fn take_last(&mut self) -> Option<SendBuffer> {
        self.has_output().then(|| std::mem::take(&mut self.output))
    }

    /// So many bytes that were handed over elsewhere are still under way.
    pub fn still_sending(&mut self, bytes: usize) {
        self.sending = bytes;
    }

    /// What was handed over has left.
    pub fn sent(&mut self) {
        self.sending = 0;
        if std::mem::take(&mut self.sending_from) >= COUNTED_FROM {
            self.count();
        }
    }

    /// The buffer has grown, or there is none.
    #[cold]
    fn renew(&mut self, spares: &mut Spares) {
        if self.output.bytes.capacity() == 0 {
            self.output.bytes = spares.get();
        } else if self.counted != NO_BUFFER {
            spares.has_grown(&mut self.output.bytes, self.counted);
        }
        self.counted = self.output.bytes.capacity();
        if self.counted >= COUNTED_FROM {
            self.count();
        }
    }

    /// Counts the memory that the buffers take now.
    #[cold]
    fn count(&mut self) {
        let buffers = [self.output.bytes.capacity(), self.sending_from];
        let large = buffers.into_iter().filter(|buffer| *buffer >= COUNTED_FROM);
        self.held.set(large.map(allocated).sum());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryHeld;
    use crate::message::Publication;
    use crate::topic::TopicName;

    fn message(payload: &[u8]) -> Message {
        Publication::new(TopicName::trusted("t"), payload).keep()
    }

    #[test]
    fn splices_stand_between_the_bytes_they_came_between() {
        let mut outbox = Outbox::default();
        outbox.bytes(&mut Spares::default()).extend_from_slice(b"head");
        outbox.splice(message(b"payload"), SplicedPart::Payload);
        outbox.bytes(&mut Spares::default()).extend_from_slice(b"tail");
        assert_eq!(outbox.waiting(), 15);
        let output = outbox.take().expect("there is output");
        assert_eq!((output.len(), output.bytes.as_slice(), output.splices[0].at), (15, &b"headtail"[..], 4));
        assert!(!output.is_empty());
        assert_eq!(output.into_bytes(), b"headpayloadtail");
    }

    #[test]
    fn one_send_is_under_way_at_a_time_and_counts_until_it_has_left() {
        let mut outbox = Outbox::default();
        assert!(outbox.take().is_none() && outbox.take_last().is_none());
        outbox.bytes(&mut Spares::default()).extend_from_slice(b"one");
        assert!(outbox.take().is_some() && outbox.is_sending() && !outbox.has_output());
        outbox.bytes(&mut Spares::default()).extend_from_slice(b"two");
        assert!(outbox.take().is_none());
        assert_eq!(outbox.waiting(), 6);
        outbox.sent();
        assert_eq!(outbox.waiting(), 3);
        assert!(outbox.take().is_some());
        outbox.bytes(&mut Spares::default()).extend_from_slice(b"end");
        assert_eq!(outbox.take_last().map(|last| last.bytes), Some(b"end".to_vec()), "behind what is under way");
    }

    #[test]
    fn the_memory_of_large_buffers_is_known() {
        let held = || MemoryHeld::on_this_thread().of(MemoryKind::Output);
        let mut outbox = Outbox::default();
        let add = |outbox: &mut Outbox, bytes: usize| outbox.bytes(&mut Spares::default()).resize(bytes, 0);
        add(&mut outbox, 100);
        assert!(outbox.take().is_some() && held() == 0);
        outbox.sent();
        add(&mut outbox, 10_000);
        add(&mut outbox, 10_000);
        assert!(held() >= 10_000, "{}", held());
        let first = outbox.take();
        let one = held();
        add(&mut outbox, 5000);
        add(&mut outbox, 5000);
        assert!(held() >= one + 5000);
        drop(first);
        outbox.sent();
        assert!((5000..one).contains(&held()), "{}", held());
        drop(outbox);
        assert_eq!(held(), 0);
    }

    #[test]
    fn buffers_are_used_again() {
        let mut spares = Spares::default();
        spares.keep(Vec::with_capacity(100));
        let mut outbox = Outbox::default();
        outbox.bytes(&mut spares).push(1);
        assert_eq!(spares.count(), 0);
        assert_eq!(outbox.take().map(|output| output.bytes.capacity()), Some(100));
    }
}
