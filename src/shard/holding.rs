//! Publishers that are held for clients which do not keep up: see `flow`.

use super::agenda::FollowUp;
use super::clients::Clients;
use crate::client::ConnectionId;
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::time::Time;

impl<C: Chain> Clients<C> {
    /// A publisher is to wait for one more client, as long as it has credit. One that has left or moved meanwhile waits for nobody.
    pub(super) fn publisher_waits(&mut self, id: ConnectionId) {
        let (now, all) = (self.agenda.now(), self.flow.patience());
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.consumers += 1;
        if connection.pauses.contains(PauseReason::SlowConsumer) {
            return;
        }
        let Some(left) = self.flow.left(&connection.hold_credit, now) else { return };
        connection.pauses.insert(PauseReason::SlowConsumer);
        connection.hold_credit.begin(all, now);
        connection.held_until = now + left;
        self.arm_connection(id, now + left);
    }

    /// A publisher is held no more.
    pub(super) fn end_hold(&mut self, id: ConnectionId) {
        let (now, all) = (self.agenda.now(), self.flow.patience());
        if let Some(connection) = self.connections.get_mut(id)
            && connection.pauses.remove(PauseReason::SlowConsumer)
        {
            connection.hold_credit.end(all, now);
            connection.held_until = Time::NEVER;
            self.agenda.follow_up(FollowUp::Serve(id));
        }
    }

    /// A publisher waits for one client less. One that has left or moved meanwhile waits for nobody.
    pub(super) fn publisher_released(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.consumers = connection.consumers.saturating_sub(1);
        if connection.consumers == 0 {
            self.end_hold(id);
        }
    }
}
