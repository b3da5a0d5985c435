//! How much the kernel is given to send at a time.
//!
//! A send that is submitted is carried out there and then: the bytes are copied, and for a client of the same machine its side is served, too.
//! The shard does nothing else meanwhile. So what is a lot goes in several submissions, and the shard has its turn between them.
//!
//! Small sends are not held back: how many there are is bounded by what the core does in a turn, and they would wait behind what takes long.

use std::collections::VecDeque;

/// What is submitted at a time, in bytes; the last operation of a submission may go beyond it.
const AT_ONCE: usize = 2 << 20;
/// What an operation costs besides its bytes, in bytes.
const OPERATION: usize = 4 << 10;
/// Up to so many bytes a send is small.
const SMALL: usize = 16 << 10;

/// The room that there is until the next submission, and the sends that wait for that, by slot.
pub(super) struct SendPace {
    room: usize,
    waiting: VecDeque<u32>,
}

impl SendPace {
    /// There is all the room that there can be.
    pub fn new() -> Self {
        SendPace { room: AT_ONCE, waiting: VecDeque::new() }
    }

    /// Whether the send in `slot`, of so many bytes in all, may be submitted. Otherwise it waits, behind all others that do.
    pub fn may_go(&mut self, slot: u32, bytes: usize) -> bool {
        let may_go = bytes <= SMALL || self.room > 0 && self.waiting.is_empty();
        if !may_go {
            self.waiting.push_back(slot);
        }
        may_go
    }

    /// An operation with so many bytes is to be submitted.
    pub fn goes(&mut self, bytes: usize) {
        if bytes > SMALL {
            self.room = self.room.saturating_sub(bytes + OPERATION);
        }
    }

    /// All that was to be submitted is.
    pub fn submitted(&mut self) {
        self.room = AT_ONCE;
    }

    /// The next one of those that wait, if there is room.
    pub fn next(&mut self) -> Option<u32> {
        if self.room > 0 { self.waiting.pop_front() } else { None }
    }

    /// Whether the send in `slot` waited: it does not any more.
    pub fn take(&mut self, slot: u32) -> bool {
        let at = self.waiting.iter().position(|waiting| *waiting == slot);
        at.is_some_and(|at| self.waiting.remove(at).is_some())
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Nothing waits any more: the ring ends.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the slots that may go, each with so many bytes.
    fn go(pace: &mut SendPace, slots: impl IntoIterator<Item = u32>, bytes: usize) -> Vec<u32> {
        let may_go = |slot: &u32| {
            let may_go = pace.may_go(*slot, bytes);
            if may_go {
                pace.goes(bytes);
            }
            may_go
        };
        slots.into_iter().filter(may_go).collect()
    }

    fn next(pace: &mut SendPace, bytes: usize) -> Vec<u32> {
        pace.submitted();
        std::iter::from_fn(|| {
            let slot = pace.next()?;
            pace.goes(bytes);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn what_is_a_lot_goes_in_several_submissions_and_in_order() {
        let mut pace = SendPace::new();
        assert_eq!(go(&mut pace, 0..5, 1 << 20), [0, 1]);
        assert_eq!(next(&mut pace, 1 << 20), [2, 3]);
        assert_eq!(go(&mut pace, [8], SMALL), [8], "small ones go past it");
        assert_eq!(go(&mut pace, [9], 1 << 20), [0; 0], "behind the one that waits still");
        assert_eq!(next(&mut pace, 1 << 20), [4, 9]);
        assert!(pace.is_empty() && next(&mut pace, 0).is_empty());
    }

    #[test]
    fn operations_count_for_what_they_cost() {
        let many = AT_ONCE.div_ceil(SMALL + 1 + OPERATION);
        assert_eq!(go(&mut SendPace::new(), 0..1000, SMALL + 1).len(), many);
    }

    #[test]
    fn one_that_is_large_goes_alone() {
        let mut pace = SendPace::new();
        assert_eq!(go(&mut pace, [3, 4], 16 << 20), [3]);
        assert!(pace.take(4) && !pace.take(4) && pace.is_empty());
    }
}
