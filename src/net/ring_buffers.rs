//! The receive buffers of one ring: one block of memory, lent to the kernel buffer by buffer ("provided buffers").
//!
//! Owns the block, and the ring of entries that lists the buffers that the kernel may fill. A buffer is either with the
//! kernel, which may write to it at any moment, or lent to the shard, from the completion that names it until it is
//! given back. Idle connections hold no buffer.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

/// The largest number of buffers that the kernel takes.
pub(super) const MAX_BUFFERS: u16 = 32768;
/// The number of a ring's only group of buffers.
pub(super) const GROUP: u16 = 0;
/// The alignment of the entries: the kernel wants a page, and this is the largest page size in use.
const ALIGNMENT: usize = 65536;
/// The mark, in `lent`, of a buffer that is with the kernel.
const WITH_KERNEL: u32 = u32::MAX;
/// The number of buffers in use at first: enough for a turn of a quiet shard.
const AT_FIRST: u16 = 64;

/// Bytes of a turn above which no more buffers come into use: received bytes would leave a core's second-level cache
/// before they are sent on.
const TURN: usize = 512 * 1024;

/// A lent buffer with received bytes. [`Ring::give_back`](super::ring::Ring::give_back) returns it; one that is dropped
/// instead is lost to its ring.
#[derive(Debug)]
#[must_use = "a buffer that is not given back is lost"]
pub struct Buffer(u16);

/// The buffers of one ring: their memory, the kernel's entries, and the owner of each buffer.
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    block: NonNull<u8>,
    /// A power of two.
    count: u16,
    /// The size of one buffer.
    bytes: u32,
    /// The number of buffers in use. The kernel fills them in a circle, so all of them are soon touched.
    in_use: u16,
    /// The buffers that are not in use, the next one last. Those that never were in use cost no memory.
    idle: Vec<u16>,
    /// Entries published so far, wrapping.
    tail: u16,
    /// By buffer: the received bytes in it, or [`WITH_KERNEL`].
    lent: Vec<u32>,
    /// The number of buffers that are with the kernel.
    with_kernel: u16,
    /// The moving average of received bytes in a buffer.
    filled: u32,
}

impl Buffers {
    /// `count` buffers, rounded up to a power of two and at most [`MAX_BUFFERS`], of `bytes` bytes each, none of them
    /// published yet.
    pub fn new(count: u16, bytes: u32) -> Buffers {
        let count = count.clamp(1, MAX_BUFFERS).next_power_of_two();
        let bytes = bytes.clamp(1, WITH_KERNEL - 1);
        let (entries_layout, block_layout) = Self::layouts(count, bytes);
        // SAFETY: both layouts have a size above zero, as `count` and `bytes` are at least one.
        let (entries, block) = unsafe { (alloc_zeroed(entries_layout), alloc(block_layout)) };
        let entries = NonNull::new(entries.cast()).unwrap_or_else(|| handle_alloc_error(entries_layout));
        let block = NonNull::new(block).unwrap_or_else(|| handle_alloc_error(block_layout));
        let lent = vec![WITH_KERNEL; usize::from(count)];
        Buffers {
            entries,
            block,
            count,
            bytes,
            in_use: 0,
            idle: (0..count).rev().collect(),
            tail: 0,
            lent,
            with_kernel: 0,
            filled: 0,
        }
    }

    fn layouts(count: u16, bytes: u32) -> (Layout, Layout) {
        let entries = Layout::from_size_align(usize::from(count) * size_of::<BufRingEntry>(), ALIGNMENT);
        let block = Layout::from_size_align(usize::from(count) * bytes as usize, 64);
        (entries.expect("512 KiB at most"), block.expect("32768 buffers below 4 GiB: less than an address space"))
    }

    /// Makes the buffers those of group [`GROUP`] of a ring, and publishes the first of them.
    ///
    /// # Safety
    ///
    /// `self` must live until the ring is gone or [`unregister`](Self::unregister) succeeded, and as long as any
    /// receive of the ring is outstanding.
    pub unsafe fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the entries are `count` initialised entries, aligned to a page, and live long enough by our contract.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0)? };
        self.use_up_to(AT_FIRST);
        Ok(())
    }

    /// Doubles the number of buffers in use, as far as there are more. Called when a receive found no buffer. Does
    /// nothing if a turn brings [`TURN`] bytes already.
    pub fn grow(&mut self) {
        if self.turn() < TURN {
            self.use_up_to(self.in_use.saturating_mul(2));
        }
    }

    /// The bytes of a turn that fills every buffer in use with the average number of bytes.
    fn turn(&self) -> usize {
        usize::from(self.in_use) * self.filled as usize
    }

    fn use_up_to(&mut self, wanted: u16) {
        while self.in_use < wanted {
            let Some(id) = self.idle.pop() else { return };
            self.publish(id);
            self.with_kernel += 1;
            self.in_use += 1;
        }
    }

    /// The reverse of [`register`](Self::register); nothing if that did not succeed.
    pub fn unregister(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        if self.in_use == 0 { Ok(()) } else { submitter.unregister_buf_ring(GROUP) }
    }

    /// The number of buffers that the kernel may fill, by the completions seen so far.
    pub fn with_kernel(&self) -> usize {
        usize::from(self.with_kernel)
    }

    /// Marks buffer `id` as lent, with `len` received bytes at its start.
    pub fn lend(&mut self, id: u16, len: u32) -> Buffer {
        let lent = &mut self.lent[usize::from(id)];
        assert!(*lent == WITH_KERNEL && len <= self.bytes, "the kernel lends a buffer it does not have");
        *lent = len;
        self.with_kernel -= 1;
        self.filled = self.filled - self.filled / 16 + len / 16;
        Buffer(id)
    }

    /// The received bytes.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        let id = usize::from(buffer.0);
        let len = self.lent[id];
        assert!(len != WITH_KERNEL, "a buffer of another ring");
        // SAFETY: `id` is below `count` (or the index above panicked) and `len` at most `bytes`, so the range lies in
        // the block. The kernel filled it, so it is initialised, and lent it, so nobody writes to it before
        // `give_back`, which needs `&mut self`.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().add(id * self.bytes as usize), len as usize) }
    }

    /// Gives the buffer back to the kernel, or takes it out of use if turns bring more than twice [`TURN`] bytes.
    ///
    /// # Panics
    ///
    /// If the buffer is another ring's.
    pub fn give_back(&mut self, buffer: Buffer) {
        let lent = &mut self.lent[usize::from(buffer.0)];
        assert!(*lent != WITH_KERNEL, "a buffer of another ring");
        *lent = WITH_KERNEL;
        if self.in_use > AT_FIRST && self.turn() > 2 * TURN {
            self.in_use -= 1;
            self.idle.push(buffer.0);
        } else {
            self.with_kernel += 1;
            self.publish(buffer.0);
        }
    }

    /// Appends the entry of buffer `id`, which must be marked as the kernel's, and not be among its entries yet.
    fn publish(&mut self, id: u16) {
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`. Only we write entries, and the kernel reads this one only after the tail
        // below has passed it: at most `count` buffers are published at a time, each once.
        let entry = unsafe { self.entries.add(place).as_mut() };
        // SAFETY: `id` is below `count`, so the buffer lies in the block.
        let address = unsafe { self.block.add(usize::from(id) * self.bytes as usize) };
        entry.set_addr(address.as_ptr() as u64);
        entry.set_len(self.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the pointer is that of the first of at least one initialised entry; the tail lies within it, aligned,
        // and everybody who shares it, the kernel included, goes at it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let (entries, block) = Self::layouts(self.count, self.bytes);
        // SAFETY: allocated in `new` with these layouts; the owner of the ring lets us drop only when the kernel is
        // done with it (contract of `register`).
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries);
            dealloc(self.block.as_ptr(), block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_rounded_up_to_what_the_kernel_takes() {
        assert_eq!(Buffers::new(0, 16).count, 1);
        assert_eq!(Buffers::new(100, 16).count, 128);
        assert_eq!(Buffers::new(u16::MAX, 1).count, MAX_BUFFERS);
    }

    #[test]
    fn a_lent_buffer_is_out_until_it_is_given_back() {
        let mut buffers = Buffers::new(4, 16);
        buffers.use_up_to(4);
        let buffer = buffers.lend(2, 0);
        assert_eq!((buffers.with_kernel(), buffers.bytes(&buffer)), (3, &[][..]));
        buffers.give_back(buffer);
        assert_eq!(buffers.with_kernel(), 4);
    }

    #[test]
    fn more_come_into_use_until_there_are_no_more() {
        let mut buffers = Buffers::new(128, 16);
        buffers.use_up_to(AT_FIRST);
        assert_eq!(buffers.with_kernel(), 64);
        buffers.grow();
        buffers.grow();
        assert_eq!(buffers.with_kernel(), 128);
    }

    #[test]
    fn buffers_that_come_full_are_enough() {
        let mut buffers = Buffers::new(128, 16 * 1024);
        buffers.use_up_to(AT_FIRST);
        let turn = |buffers: &mut Buffers, len| {
            for id in 0..AT_FIRST {
                let buffer = buffers.lend(id, len);
                buffers.give_back(buffer);
            }
            buffers.grow();
            buffers.in_use
        };
        assert_eq!(turn(&mut buffers, 16 * 1024), AT_FIRST);
        assert_eq!(turn(&mut buffers, 1024), 128, "small ones are not");
        let left = turn(&mut buffers, 16 * 1024);
        assert!((AT_FIRST..96).contains(&left), "those that are too many go out of use: {left} are left");
        assert_eq!((buffers.with_kernel(), buffers.idle.len()), (left.into(), usize::from(128 - left)));
    }

    #[test]
    #[should_panic(expected = "another ring")]
    fn a_strangers_buffer_is_never_read() {
        let mut buffers = Buffers::new(4, 16);
        buffers.use_up_to(4);
        let stranger = buffers.lend(1, 8);
        let _ = Buffers::new(4, 16).bytes(&stranger);
    }
}
