//! How much waits in memory that could be in pages of the archive.

use crate::session::OutgoingMessage;

/// How much the queues of a shard have grown since they were moved to the archive last: what came, and was not taken since.
///
/// It is told from what is recorded, and so an estimate: which of the messages it is that were taken is not known, and one that was there before may
/// be among them.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// How many messages came, those included that were sent at once.
    came: u64,
    /// How many of them wait, and their bytes.
    waiting: u64,
    bytes: u64,
    /// How many went again.
    went: u64,
}

/// What a message takes in each further queue.
const PLACE: u64 = 64;

impl Growth {
    /// A message of so many bytes has come to so many sessions, and waits for some of them, which share it.
    #[inline]
    pub fn came(&mut self, sessions: u64, waiting: u64, size: usize) {
        self.came += sessions;
        self.waiting += waiting;
        if waiting > 0 {
            self.bytes += size as u64 + (waiting - 1) * PLACE;
        }
    }

    /// So many messages with so many bytes waited for a session when the broker started.
    pub fn was_there(&mut self, messages: usize, bytes: usize) {
        self.came += messages as u64;
        self.waiting += messages as u64;
        self.bytes += bytes as u64;
    }

    /// A message has come to one session.
    pub fn came_to(&mut self, delivery: &OutgoingMessage, is_sent: bool) {
        self.came(1, u64::from(!is_sent), delivery.size());
    }

    /// A message of a session is there no more.
    #[inline]
    pub fn went(&mut self) {
        self.went += 1;
    }

    /// The bytes that wait.
    pub fn bytes(&self) -> usize {
        let left = self.came.saturating_sub(self.went).min(self.waiting);
        (u128::from(self.bytes) * u128::from(left) / u128::from(self.waiting.max(1))) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_does_not_wait() {
        let mut growth = Growth::default();
        assert_eq!(growth.bytes(), 0);
        growth.came(3, 2, 1000);
        assert_eq!(growth.bytes(), 1000 + 64, "it is there once");
        let mut growth = Growth::default();
        growth.came(2, 1, 1000);
        growth.came(1, 1, 1000);
        assert_eq!(growth.bytes(), 2000);
        growth.came(1, 0, 5000);
        assert_eq!(growth.bytes(), 2000, "it was sent at once");
        growth.went();
        growth.went();
        assert_eq!(growth.bytes(), 2000, "those may have been the ones that were sent");
        growth.went();
        assert_eq!(growth.bytes(), 1000);
        (0..5).for_each(|_| growth.went());
        assert_eq!(growth.bytes(), 0, "others had waited before");
    }
}
