//! The sequence of numbered messages, 0, 1, 2 ..., from one sender to one receiver.

use std::collections::BTreeSet;

/// The messages from one sender to one receiver.
#[derive(Default)]
pub struct Sequence {
    /// How many were sent.
    pub sent: u32,
    next: u32,
    missing: BTreeSet<u32>,
    doubled: u64,
    reordered: u64,
}

/// The numbers of messages that were lost, doubled or out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Sent and never received.
    pub lost: u64,
    /// Received more than once.
    pub doubled: u64,
    /// Received behind a later one.
    pub reordered: u64,
}

impl Sequence {
    /// The number of the next message that is sent.
    pub fn send(&mut self) -> u32 {
        self.sent += 1;
        self.sent - 1
    }

    /// How many were sent behind the last one that was received.
    pub fn waiting(&self) -> u32 {
        self.sent.saturating_sub(self.next)
    }

    /// Records a received message.
    pub fn receive(&mut self, number: u32) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    /// Whether everything that was sent has come.
    pub fn is_complete(&self) -> bool {
        self.next == self.sent && self.missing.is_empty()
    }
}

impl Faults {
    /// The faults of these sequences together.
    pub fn of<'a>(sequences: impl IntoIterator<Item = &'a Sequence>) -> Faults {
        let mut faults = Faults::default();
        for sequence in sequences {
            faults.lost += sequence.missing.len() as u64 + u64::from(sequence.waiting());
            faults.doubled += sequence.doubled;
            faults.reordered += sequence.reordered;
        }
        faults
    }

    /// How many messages.
    pub fn count(&self) -> u64 {
        self.lost + self.doubled + self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_once() {
        let mut sequence = Sequence::default();
        assert_eq!((0..8).map(|_| sequence.send()).last(), Some(7));
        [0, 1, 1, 4, 2, 4, 5].into_iter().for_each(|number| sequence.receive(number));
        assert!(!sequence.is_complete());
        assert_eq!(Faults::of([&sequence]), Faults { lost: 3, doubled: 2, reordered: 1 });
        [3, 6, 7].into_iter().for_each(|number| sequence.receive(number));
        assert!(sequence.is_complete());
    }
}
