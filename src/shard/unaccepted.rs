//! Clients that are not accepted yet: those that are turned away at once, and the bytes of the others, which are bounded for all of them
//! together; and bytes that cannot be served yet.

use std::net::SocketAddr;

use super::clients::Clients;
use crate::client::ConnectionId;
use crate::codec::ReasonCode;
use crate::connection::ConnectionStage;
use crate::handshake::Refusal;
use crate::hooks::Chain;

/// A client was turned away before it was anybody: there was no place for its connection, not even to refuse it.
pub(super) fn turned_away<C: Chain>(clients: &mut Clients<C>, listener: usize, peer: SocketAddr) {
    let counters = &mut clients.statistics.counters;
    (counters.accepted, counters.refused) = (counters.accepted + 1, counters.refused + 1);
    let listener = clients.setup.listener_name(listener);
    let why = "there is no place for it beside the connections that are there, are being refused and are being closed";
    tracing::warn!(%peer, listener, "connection closed: {why}");
}

impl<C: Chain> Clients<C> {
    /// Keeps what came and cannot be served yet: the beginning of a packet, or what came behind one that is not done.
    pub(super) fn keep_unread(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.last_heard = self.agenda.now();
            connection.unread.keep(bytes);
            connection.progress.begin(bytes.len(), self.agenda.now());
        }
        self.hold_unaccepted(id);
    }

    /// What is held for a client that is not accepted yet may have changed. While that is too much for all of them together, those are refused
    /// for whom most is held.
    pub(super) fn hold_unaccepted(&mut self, id: ConnectionId) {
        while let Some(id) = self.connections.hold(id) {
            self.statistics.counters.refused_for_memory += 1;
            if let Some(refused) = self.connections.unaccepted.refuse(self.agenda.now()) {
                tracing::warn!(
                    refused,
                    "clients that are not accepted hold more than max_unaccepted_bytes: refused those with most"
                );
            }
            let (code, what) = (ReasonCode::ServerBusy, "too much is held for clients that are not accepted");
            let refusal = match self.connections.get(id).map(|connection| (&connection.stage, &connection.unread)) {
                Some((ConnectionStage::Opening { .. }, unread)) => {
                    Refusal::of_begun(unread.as_slice(), code).saying(what)
                }
                Some((ConnectionStage::Connecting(pending), _)) => pending.refuse(code, what),
                Some((ConnectionStage::Connected(_), _)) | None => return,
            };
            self.refuse(id, &refusal);
        }
    }
}
