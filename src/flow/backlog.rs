//! What waits for a client.

use crate::connection::Connection;
use crate::session::Session;

/// What waits for a client.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// Bytes in its output.
    pub output: usize,
    /// Bytes in its queue.
    pub queued: usize,
    /// How many there may be in the queue.
    pub most_queued: usize,
    /// Whether the queue has nearly as many messages as it may have.
    pub is_long: bool,
}

impl Backlog {
    /// What waits for the client of a session on this connection.
    pub fn of<S, A>(session: &Session<S>, connection: &Connection<A>) -> Self {
        let (queue, limits) = (&session.outbound.queue, &session.settings.queue);
        Backlog {
            output: connection.outbox.waiting(),
            queued: queue.bytes(),
            most_queued: limits.bytes.get().unwrap_or(usize::MAX),
            is_long: limits.online.get().is_some_and(|most| queue.len() >= nearly(most)),
        }
    }

    /// The bytes of both.
    pub fn bytes(self) -> usize {
        self.output.saturating_add(self.queued)
    }
}

/// So much of a queue may be used before it counts as full: what is under way when publishers are told to wait still comes.
pub(super) fn nearly(most: usize) -> usize {
    most - (most / 4).max(1).min(most)
}
