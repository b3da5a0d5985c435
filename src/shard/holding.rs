//! Publishers that are held for clients which do not keep up, and for memory: see `flow`.

use std::time::Duration;

use super::agenda::FollowUp;
use super::clients::Clients;
use crate::client::ConnectionId;
use crate::connection::{Connection, PauseReason};
use crate::flow::Flow;
use crate::hooks::Chain;
use crate::memory::MemoryStage;
use crate::session::Outbound;
use crate::time::Time;

/// How long a client for which there is something is held for memory before it may publish once.
const MEMORY_HOLD: Duration = Duration::from_secs(1);

/// The client of this connection publishes, and publishers are held for memory. If this one is, gives when it is to be looked at.
#[cold]
pub(super) fn hold_for_memory<A>(connection: &mut Connection<A>, flow: &mut Flow, now: Time) -> Option<Time> {
    connection.session()?;
    if connection.memory_look <= now {
        connection.memory_look = Time::NEVER;
        return None;
    }
    connection.pauses.insert(PauseReason::Memory);
    connection.memory_look = now + MEMORY_HOLD;
    flow.wait_for_memory(connection.id);
    Some(connection.memory_look)
}

/// A client has been held for memory for a while. If there is something for it, the acknowledgements that make room stand perhaps behind
/// what it publishes: it publishes once. Else it is held on.
pub(super) fn memory_hold_over<C: Chain>(clients: &mut Clients<C>, id: ConnectionId) {
    let now = clients.agenda.now();
    let Some(connection) = clients.connections.get_mut(id) else { return };
    let session = connection.session().and_then(|index| clients.sessions.get(index));
    let takes = |outbound: &Outbound| outbound.in_flight() > 0 || outbound.is_anything_waiting();
    if session.is_some_and(|session| takes(&session.outbound)) {
        clients.serve_later(id, PauseReason::Memory);
    } else {
        connection.memory_look = now + MEMORY_HOLD;
    }
}

/// How near the broker is to holding as much memory as it may has changed.
pub(super) fn set_memory<C: Chain>(clients: &mut Clients<C>, stage: MemoryStage) {
    for id in clients.flow.set_memory(stage) {
        if let Some(connection) = clients.connections.get_mut(id) {
            connection.memory_look = Time::NEVER;
        }
        clients.serve_later(id, PauseReason::Memory);
    }
}

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
