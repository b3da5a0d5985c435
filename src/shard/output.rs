//! What goes out to clients: written into the outbox of a connection, fetched by the runtime for one send at a time.
//!
//! Emptied buffers come back and are used again, so that writing allocates only while traffic grows.

use super::Shard;
use crate::client::ConnectionId;
use crate::codec::ProtocolVersion;
use crate::connection::{ConnectionStage, PauseReason, Output};
use crate::hooks::Chain;
use crate::time::Time;

/// Empty output buffers that are kept, and the largest that is: what idle connections cost is bounded by their product.
const SPARE_BUFFERS: usize = 1024;
const SPARE_CAPACITY: usize = 16 * 1024;

impl<C: Chain> Shard<C> {
    /// Everything that was handed over for `id` has left. `emptied` is the buffer it was in.
    pub fn sent(&mut self, id: ConnectionId, emptied: Vec<u8>, now: Time) {
        self.now = now;
        self.keep_spare(emptied);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.outbox.sent();
        if connection.outbox.has_output() && connection.dirty {
            self.dirty.push(id);
        }
        let ConnectionStage::Connected(connected) = &connection.stage else { return };
        let session = connected.session;
        self.send_more(session);
        self.consumer_has_read(id);
        self.release(id, PauseReason::Outbox);
    }

    /// Of a connection that has just come from another shard, so many bytes are still on their way to the client: [`Shard::sent`] tells
    /// when they have left, and [`Shard::take_output`] has nothing before.
    pub fn still_sending(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.outbox.still_sending(bytes);
        }
    }

    /// The connections that have output since the last call, once each.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        debug_assert!(self.batch.is_empty(), "nothing stays gathered");
        into.append(&mut self.dirty);
    }

    /// The output of a connection, for one send; none if there is nothing, or if a send is under way, or if it must not be
    /// seen before a hook is done.
    pub fn take_output(&mut self, id: ConnectionId) -> Option<Output> {
        let connection = self.connections.get_mut(id)?;
        if connection.pauses.contains(PauseReason::Notice) {
            return None;
        }
        let output = connection.outbox.take()?;
        connection.dirty = false;
        self.counters.bytes_out += connection.outbox.waiting() as u64;
        Some(output)
    }

    /// Writes a packet into the outbox of a connection.
    pub(super) fn write(&mut self, id: ConnectionId, encode: impl FnOnce(ProtocolVersion, &mut Vec<u8>)) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let version = match &connection.stage {
            ConnectionStage::Opening => ProtocolVersion::V311,
            ConnectionStage::Connecting(attempt) => attempt.client.version,
            ConnectionStage::Connected(connected) => connected.version,
        };
        encode(version, connection.outbox.bytes(&mut self.spare));
        self.mark_dirty(id);
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(id);
        }
    }

    pub(super) fn keep_spare(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE_CAPACITY && self.spare.len() < SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
