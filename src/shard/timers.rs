//! What connections and sessions wait for: how they are looked at in time.
//!
//! There is no timer for each packet. A connection or session has at most one entry of its own in the wheel that counts; when it fires,
//! its owner is looked at, and what is due is done.

use super::agenda::Deadline;
use super::clients::Clients;
use super::due::{HORIZON, first_look, when};
use crate::client::ConnectionId;
use crate::hooks::Chain;
use crate::time::Time;

impl<C: Chain> Clients<C> {
    /// Has the connection looked at when `at` has come.
    pub(super) fn arm_connection(&mut self, id: ConnectionId, at: Time) {
        let at = first_look(at, self.agenda.now());
        if self.connections.needs_entry(id.index(), at) {
            self.agenda.arm(at, Deadline::Connection(id.index()));
        }
    }

    /// Has a connection that was just registered, or whose settings changed, looked at in time.
    pub(super) fn arm_connected(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(id) else { return };
        let session = connection.session().and_then(|index| self.sessions.get(index));
        let due = when(connection, session);
        self.arm_connection(id, due);
    }

    /// Has an offline session looked at in time.
    pub(super) fn arm_session(&mut self, index: u32) {
        let Some(session) = self.sessions.get(index) else { return };
        let at = session.expires.min(session.will_due);
        if at == Time::NEVER || session.connection.is_some() {
            return;
        }
        let at = at.min(self.agenda.now() + HORIZON);
        if self.sessions.needs_entry(index, at) {
            self.agenda.arm(at, Deadline::Session(index));
        }
    }
}
