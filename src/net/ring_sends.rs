//! The sends of one ring that are under way: outputs that the kernel reads from until their completion comes.
//!
//! Owns every output from the moment it is submitted until all of it left or the send failed. While the kernel has a
//! flight, nothing here touches its output: that is what makes the pointers handed to the kernel good.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::ptr::null_mut;

use io_uring::{opcode, squeue, types};

use super::output::{Output, Place};
use crate::client::ConnectionId;

/// Segments of one vectored send; the kernel takes no more (`UIO_MAXIOV`). What is beyond follows in the next.
const MAX_SEGMENTS: usize = 1024;
/// Segments for which an idle slot keeps room.
const KEPT_SEGMENTS: usize = 16;
/// Bytes of one plain send; what is beyond follows in the next. The kernel stops a little short of 2 GiB.
const MAX_BYTES: usize = 1 << 30;

/// One output on its way.
struct Flight<P> {
    conn: ConnectionId,
    fd: RawFd,
    output: Output<P>,
    place: Place,
    /// The vector of a vectored send, and the header that points at it: the kernel reads both, so they stay put.
    segments: Vec<libc::iovec>,
    header: libc::msghdr,
}

/// What became of a flight.
pub(super) enum Landing<P> {
    /// A part has left; submit [`Sends::entry`] once more.
    Onward,
    /// It is over: everything has left, or the send failed.
    Over { conn: ConnectionId, result: io::Result<()>, output: Output<P> },
}

/// The flights, by slot. A slot keeps its box when its flight is over, so that a steady load allocates nothing.
pub(super) struct Sends<P> {
    #[expect(clippy::vec_box, reason = "the kernel has pointers into flights: they stay put when the vector grows")]
    flights: Vec<Box<Flight<P>>>,
    idle: Vec<u32>,
    /// Those that are to end where they are. Not noted in the flights, which the kernel may be at. Few at a time.
    cancelled: Vec<u32>,
}

impl<P: AsRef<[u8]>> Sends<P> {
    /// No flights.
    pub fn new() -> Self {
        Sends { flights: Vec::new(), idle: Vec::new(), cancelled: Vec::new() }
    }

    /// Takes an output in and returns its slot. It leaves by submitting [`entry`](Self::entry).
    pub fn launch(&mut self, conn: ConnectionId, fd: RawFd, output: Output<P>) -> u32 {
        if let Some(slot) = self.idle.pop() {
            let flight = &mut self.flights[slot as usize];
            (flight.conn, flight.fd, flight.output, flight.place) = (conn, fd, output, Place::default());
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
        let flight = Flight { conn, fd, output, place: Place::default(), segments: Vec::new(), header };
        self.flights.push(Box::new(flight));
        u32::try_from(self.flights.len() - 1).expect("fewer sends than connections")
    }

    /// The operation that sends what remains of the flight in `slot`.
    ///
    /// # Safety
    ///
    /// Between the submission of the operation and its completion, the caller calls neither `entry` nor
    /// [`land`](Self::land) for this slot, and keeps `self` alive (leaks it if need be). The pointers in the operation
    /// then stay good: they point into the boxed flight, the heap memory of its vectors, and memory that its payloads
    /// lend for as long as they are neither moved nor changed; and no other function of this type touches a flight.
    pub unsafe fn entry(&mut self, slot: u32) -> squeue::Entry {
        let flight = &mut *self.flights[slot as usize];
        let fd = types::Fd(flight.fd);
        flight.segments.clear();
        let segments = &mut flight.segments;
        flight.output.segments_from(flight.place, |segment| {
            let len = segment.len().min(MAX_BYTES);
            segments.push(libc::iovec { iov_base: segment.as_ptr().cast_mut().cast(), iov_len: len });
            segments.len() < MAX_SEGMENTS && len == segment.len()
        });
        match *segments.as_slice() {
            [] => opcode::Send::new(fd, std::ptr::null(), 0).flags(libc::MSG_NOSIGNAL).build(),
            [one] => {
                let len = one.iov_len as u32;
                opcode::Send::new(fd, one.iov_base.cast(), len).flags(libc::MSG_NOSIGNAL).build()
            }
            _ => {
                flight.header.msg_iov = flight.segments.as_mut_ptr();
                flight.header.msg_iovlen = flight.segments.len();
                opcode::SendMsg::new(fd, &raw const flight.header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        }
    }

    /// Has a flight end with the operation that is under way. What that leaves unsent is the output of its landing, in one piece,
    /// and ECANCELED the result.
    pub fn cancel(&mut self, slot: u32) {
        self.cancelled.push(slot);
    }

    /// Takes in the completion of the last submitted operation of `slot`.
    pub fn land(&mut self, slot: u32, result: i32) -> Landing<P> {
        let flight = &mut *self.flights[slot as usize];
        let cancelled = self.cancelled.iter().position(|cancelled| *cancelled == slot);
        let result = match usize::try_from(result) {
            Ok(sent) => {
                flight.place = flight.output.place_after(flight.place, sent);
                match flight.output.ends_at(flight.place) {
                    true => Ok(()),
                    false if sent == 0 => Err(io::ErrorKind::WriteZero.into()),
                    false if cancelled.is_some() => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
                    false => return Landing::Onward,
                }
            }
            Err(_) if -result == libc::EINTR && cancelled.is_none() => return Landing::Onward,
            Err(_) if -result == libc::EINTR => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        if let Some(at) = cancelled {
            self.cancelled.swap_remove(at);
            if result.is_err() {
                flight.output = Output::from(flight.output.rest(flight.place));
            }
        }
        if flight.segments.capacity() > KEPT_SEGMENTS {
            flight.segments = Vec::new();
        }
        self.idle.push(slot);
        Landing::Over { conn: flight.conn, result, output: std::mem::take(&mut flight.output) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::output::Splice;

    fn launched(sends: &mut Sends<Vec<u8>>, output: Output<Vec<u8>>) -> u32 {
        let slot = sends.launch(ConnectionId::new(3, 4), 5, output);
        // SAFETY: the entry is never submitted.
        let _ = unsafe { sends.entry(slot) };
        slot
    }

    #[test]
    fn a_flight_is_over_when_all_has_left_and_its_slot_serves_the_next() {
        let mut sends = Sends::new();
        let slot = launched(&mut sends, Output::from(vec![0; 10]));
        assert!(matches!(sends.land(slot, 4), Landing::Onward));
        assert!(matches!(sends.land(slot, -libc::EINTR), Landing::Onward));
        let Landing::Over { conn, result, output } = sends.land(slot, 6) else { panic!("all has left") };
        assert!(conn == ConnectionId::new(3, 4) && result.is_ok() && output.bytes.len() == 10);
        assert_eq!(launched(&mut sends, Output::default()), slot);
        assert!(matches!(sends.land(slot, 0), Landing::Over { result: Ok(()), .. }));
    }

    #[test]
    fn a_flight_that_fails_or_gets_nowhere_is_over() {
        let mut sends = Sends::new();
        for result in [-libc::EPIPE, -libc::ECANCELED, 0] {
            let slot = launched(&mut sends, Output::from(vec![0; 10]));
            assert!(matches!(sends.land(slot, result), Landing::Over { result: Err(_), .. }));
        }
    }

    #[test]
    fn a_flight_that_is_cancelled_brings_back_what_has_not_left() {
        let mut sends = Sends::new();
        let output = || Output { bytes: b"abcdef".to_vec(), splices: vec![Splice { at: 3, payload: b"123".to_vec() }] };
        for (result, rest) in [(-libc::ECANCELED, "abc123def"), (-libc::EINTR, "abc123def"), (4, "23def")] {
            let slot = launched(&mut sends, output());
            sends.cancel(slot);
            let Landing::Over { result: Err(error), output, .. } = sends.land(slot, result) else { panic!("it ends") };
            assert_eq!((error.raw_os_error(), output.bytes.as_slice()), (Some(libc::ECANCELED), rest.as_bytes()));
        }
        let slot = launched(&mut sends, output());
        sends.cancel(slot);
        assert!(matches!(sends.land(slot, 9), Landing::Over { result: Ok(()), .. }), "too late: all has left");
        let slot = launched(&mut sends, output());
        assert!(matches!(sends.land(slot, 4), Landing::Onward), "the next tenant of the slot goes on");
    }

    #[test]
    fn an_idle_slot_keeps_room_for_few_segments() {
        let mut sends = Sends::new();
        let splices = (0..2 * MAX_SEGMENTS).map(|at| Splice { at, payload: vec![1] });
        let output = Output { bytes: vec![0; 2 * MAX_SEGMENTS], splices: splices.collect() };
        let slot = launched(&mut sends, output);
        assert_eq!(sends.flights[slot as usize].segments.len(), MAX_SEGMENTS);
        assert!(matches!(sends.land(slot, MAX_SEGMENTS as i32), Landing::Onward));
        assert!(matches!(sends.land(slot, 3 * MAX_SEGMENTS as i32), Landing::Over { result: Ok(()), .. }));
        assert!(sends.flights[slot as usize].segments.capacity() <= KEPT_SEGMENTS);
    }
}
