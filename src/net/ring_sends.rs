//! The send operations of one ring: outputs that the kernel reads from until the completion arrives.
//!
//! Owns every output from the start of its send until all of it has left or the send has failed. While the kernel works
//! on an operation, nothing here touches the output: that keeps the pointers in the kernel's hands valid.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;

use io_uring::{opcode, squeue, types};

use super::output::{Position, WireBuffer};
use crate::client::ConnectionId;

/// Segments of one vectored send; the kernel takes no more (`UIO_MAXIOV`). The rest follows in the next operation.
const MAX_SEGMENTS: usize = 1024;
/// Segments that an idle slot keeps memory for.
const KEPT_SEGMENTS: usize = 16;
/// Bytes of one operation; the rest follows in the next one. The kernel may take megabytes at once, and nothing else happens meanwhile.
const MAX_BYTES: usize = 1 << 20;

/// The send of one output. It takes several operations of the kernel if the socket takes only a part at a time.
struct SendOperation<P> {
    conn: ConnectionId,
    fd: RawFd,
    output: WireBuffer<P>,
    position: Position,
    /// The vector of a vectored send, and the header that points at it: the kernel reads both, so they stay put.
    segments: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// The outcome of one operation of the kernel.
pub(super) enum SendOutcome<P> {
    /// A part of the output has left: [`Sends::entry`] has to be submitted once more.
    Partial,
    /// The send is over: all of the output has left, or the send failed.
    Finished { conn: ConnectionId, result: io::Result<()>, output: WireBuffer<P> },
}

/// The sends, by slot. A slot keeps its box when its send is over, so that a steady load allocates nothing.
pub(super) struct Sends<P> {
    #[expect(
        clippy::vec_box,
        reason = "the kernel has pointers into the operations, which must not move when the vector grows"
    )]
    operations: Vec<Box<SendOperation<P>>>,
    idle: Vec<u32>,
    /// Slots whose sends are cancelled; few at a time. A list of its own, because the kernel may be reading the
    /// operations.
    cancelled: Vec<u32>,
}

impl<P: AsRef<[u8]>> Sends<P> {
    /// An empty table.
    pub fn new() -> Self {
        Sends { operations: Vec::new(), idle: Vec::new(), cancelled: Vec::new() }
    }

    /// Starts the send of an output and returns its slot. The caller submits [`entry`](Self::entry), now or later.
    pub fn start(&mut self, conn: ConnectionId, fd: RawFd, output: WireBuffer<P>) -> u32 {
        if let Some(slot) = self.idle.pop() {
            let operation = &mut self.operations[slot as usize];
            (operation.conn, operation.fd, operation.output, operation.position) =
                (conn, fd, output, Position::default());
            return slot;
        }
        let header = libc::msghdr {
            msg_name: null_mut(),
            msg_namelen: 0,
            msg_iov: null_mut(),
            msg_iovlen: 0,
            msg_control: null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        };
        let operation = SendOperation { conn, fd, output, position: Position::default(), segments: Vec::new(), header };
        self.operations.push(Box::new(operation));
        u32::try_from(self.operations.len() - 1).expect("fewer sends than connections")
    }

    /// How many bytes the output in `slot` has. None of it may be outstanding.
    pub fn bytes(&self, slot: u32) -> usize {
        self.operations[slot as usize].output.len()
    }

    /// The operation of the kernel that sends the rest of the output in `slot`, or as much of it as one operation does; and how many bytes
    /// those are.
    ///
    /// # Safety
    ///
    /// Between the submission of the operation and its completion, the caller calls neither `entry` nor
    /// [`complete`](Self::complete) for this slot, and keeps `self` alive (leaks it if need be). The pointers in the
    /// operation then stay good: they point into the boxed operation, the heap memory of its vectors, and memory that
    /// its payloads lend for as long as they are neither moved nor changed; and no other function of this type touches
    /// an operation.
    pub unsafe fn entry(&mut self, slot: u32) -> (squeue::Entry, usize) {
        let operation = &mut *self.operations[slot as usize];
        let fd = types::Fd(operation.fd);
        operation.segments.clear();
        let segments = &mut operation.segments;
        let mut left = MAX_BYTES;
        operation.output.segments_from(operation.position, |segment| {
            let len = segment.len().min(left);
            left -= len;
            segments.push(libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: len });
            segments.len() < MAX_SEGMENTS && left > 0
        });
        let entry = match *segments.as_slice() {
            [] => opcode::Send::new(fd, std::ptr::null(), 0).flags(libc::MSG_NOSIGNAL).build(),
            [one] => {
                let len = one.iov_len as u32;
                opcode::Send::new(fd, one.iov_base.cast(), len).flags(libc::MSG_NOSIGNAL).build()
            }
            _ => {
                operation.header.msg_iov = operation.segments.as_mut_ptr();
                operation.header.msg_iovlen = operation.segments.len();
                opcode::SendMsg::new(fd, &raw const operation.header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        };
        (entry, MAX_BYTES - left)
    }

    /// Cancels a send: it ends with the operation of the kernel that is outstanding. Its outcome then has ECANCELED as
    /// the result and the unsent rest, in one piece, as the output.
    pub fn cancel(&mut self, slot: u32) {
        self.cancelled.push(slot);
    }

    /// The outcome of the operation last submitted for `slot`, from the result in its completion.
    pub fn complete(&mut self, slot: u32, result: i32) -> SendOutcome<P> {
        let operation = &mut *self.operations[slot as usize];
        let cancelled = self.cancelled.iter().position(|cancelled| *cancelled == slot);
        let result = match usize::try_from(result) {
            Ok(sent) => {
                operation.position = operation.output.position_after(operation.position, sent);
                match operation.output.ends_at(operation.position) {
                    true => Ok(()),
                    false if sent == 0 => Err(io::ErrorKind::WriteZero.into()),
                    false if cancelled.is_some() => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    false => return SendOutcome::Partial,
                }
            }
            Err(_) if -result == libc::EINTR && cancelled.is_none() => return SendOutcome::Partial,
            Err(_) if -result == libc::EINTR => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        if let Some(at) = cancelled {
            self.cancelled.swap_remove(at);
            if result.is_err() {
                operation.output = WireBuffer::from(operation.output.rest(operation.position));
            }
        }
        if operation.segments.capacity() > KEPT_SEGMENTS {
            operation.segments = Vec::new();
        }
        self.idle.push(slot);
        SendOutcome::Finished { conn: operation.conn, result, output: std::mem::take(&mut operation.output) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::output::Splice;

    fn started(sends: &mut Sends<Vec<u8>>, output: WireBuffer<Vec<u8>>) -> u32 {
        let slot = sends.start(ConnectionId::new(3, 4), 5, output);
        // SAFETY: the entry is never submitted.
        let _ = unsafe { sends.entry(slot) };
        slot
    }

    #[test]
    fn a_send_is_over_when_all_has_left_and_its_slot_serves_the_next() {
        let mut sends = Sends::new();
        let slot = started(&mut sends, WireBuffer::from(vec![0; 10]));
        assert!(matches!(sends.complete(slot, 4), SendOutcome::Partial));
        assert!(matches!(sends.complete(slot, -libc::EINTR), SendOutcome::Partial));
        let SendOutcome::Finished { conn, result, output } = sends.complete(slot, 6) else { panic!("all has left") };
        assert!(conn == ConnectionId::new(3, 4) && result.is_ok() && output.bytes.len() == 10);
        assert_eq!(started(&mut sends, WireBuffer::default()), slot);
        assert!(matches!(sends.complete(slot, 0), SendOutcome::Finished { result: Ok(()), .. }));
    }

    #[test]
    fn a_send_that_fails_or_gets_nowhere_is_over() {
        let mut sends = Sends::new();
        for result in [-libc::EPIPE, -libc::ECANCELED, 0] {
            let slot = started(&mut sends, WireBuffer::from(vec![0; 10]));
            assert!(matches!(sends.complete(slot, result), SendOutcome::Finished { result: Err(_), .. }));
        }
    }

    #[test]
    fn a_send_that_is_cancelled_brings_back_what_has_not_left() {
        let mut sends = Sends::new();
        let output =
            || WireBuffer { bytes: b"abcdef".to_vec(), splices: vec![Splice { at: 3, payload: b"123".to_vec() }] };
        for (result, rest) in [(-libc::ECANCELED, "abc123def"), (-libc::EINTR, "abc123def"), (4, "23def")] {
            let slot = started(&mut sends, output());
            sends.cancel(slot);
            let SendOutcome::Finished { result: Err(error), output, .. } = sends.complete(slot, result) else {
                panic!("it ends")
            };
            assert_eq!((error.raw_os_error(), output.bytes.as_slice()), (Some(libc::ECANCELED), rest.as_bytes()));
        }
        let slot = started(&mut sends, output());
        sends.cancel(slot);
        assert!(
            matches!(sends.complete(slot, 9), SendOutcome::Finished { result: Ok(()), .. }),
            "too late: all has left"
        );
        let slot = started(&mut sends, output());
        assert!(matches!(sends.complete(slot, 4), SendOutcome::Partial), "the next occupant of the slot goes on");
    }

    #[test]
    fn an_idle_slot_keeps_room_for_few_segments() {
        let mut sends = Sends::new();
        let splices = (0..2 * MAX_SEGMENTS).map(|at| Splice { at, payload: vec![1] });
        let output = WireBuffer { bytes: vec![0; 2 * MAX_SEGMENTS], splices: splices.collect() };
        let slot = started(&mut sends, output);
        assert_eq!(sends.operations[slot as usize].segments.len(), MAX_SEGMENTS);
        assert!(matches!(sends.complete(slot, MAX_SEGMENTS as i32), SendOutcome::Partial));
        assert!(matches!(sends.complete(slot, 3 * MAX_SEGMENTS as i32), SendOutcome::Finished { result: Ok(()), .. }));
        assert!(sends.operations[slot as usize].segments.capacity() <= KEPT_SEGMENTS);
    }
}
