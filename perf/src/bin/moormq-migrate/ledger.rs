//! What arrived of numbered messages: 0, 1, 2 ... of one sender to one receiver.

use std::collections::BTreeSet;

/// The messages from one sender to one receiver.
#[derive(Default)]
pub struct Ledger {
    /// How many were sent.
    pub sent: u32,
    next: u32,
    missing: BTreeSet<u32>,
    doubled: u64,
    reordered: u64,
}

/// What went wrong, all messages together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// Sent and never received.
    pub lost: u64,
    /// Received more than once.
    pub doubled: u64,
    /// Received behind a later one.
    pub reordered: u64,
}

impl Ledger {
    /// The number of the next message that is sent.
    pub fn send(&mut self) -> u32 {
        self.sent += 1;
        self.sent - 1
    }

    /// How many were sent behind the last one that was received.
    pub fn waiting(&self) -> u32 {
        self.sent.saturating_sub(self.next)
    }

    /// Notes a message that was received.
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

impl Wrong {
    /// What is wrong in these.
    pub fn of<'a>(ledgers: impl IntoIterator<Item = &'a Ledger>) -> Wrong {
        let mut wrong = Wrong::default();
        for ledger in ledgers {
            wrong.lost += ledger.missing.len() as u64 + u64::from(ledger.waiting());
            wrong.doubled += ledger.doubled;
            wrong.reordered += ledger.reordered;
        }
        wrong
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
    fn what_is_wrong_is_counted_once() {
        let mut ledger = Ledger::default();
        assert_eq!((0..8).map(|_| ledger.send()).last(), Some(7));
        [0, 1, 1, 4, 2, 4, 5].into_iter().for_each(|number| ledger.receive(number));
        assert!(!ledger.is_complete());
        assert_eq!(Wrong::of([&ledger]), Wrong { lost: 3, doubled: 2, reordered: 1 });
        [3, 6, 7].into_iter().for_each(|number| ledger.receive(number));
        assert!(ledger.is_complete());
    }
}
