//! CONNECT, up to the moment when all have accepted the client: the stages are the handshake's, what follows from them is here.

use super::machine::Shard;
use crate::client::ConnectionId;
use crate::connection::{Connection, ConnectionStage, PauseReason};
use crate::handshake::{FirstPacket, NewConnection, NextPacket, PendingConnect, Progress, Question};
use crate::hooks::Chain;
use crate::hooks::ask::Resumed;
use crate::pending_hooks::Waiter;
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// A whole packet of a connection that has no session yet: the first one must be a CONNECT [MQTT-3.1.0-1], another one is of a client
    /// that is to send AUTH.
    pub(super) fn on_early_packet(&mut self, id: ConnectionId, raw: &[u8]) {
        let clients = &mut self.pubsub.clients;
        let stopping = clients.agenda.is_stopping();
        let Some(connection) = clients.connections.get_mut(id) else { return };
        let Connection { peer, listener, connected_at, refused, .. } = *connection;
        connection.request_bytes += raw.len();
        match std::mem::replace(&mut connection.stage, ConnectionStage::Opening { due: Time::NEVER }) {
            ConnectionStage::Opening { .. } => {
                let origin = NewConnection { peer, listener, connected_at, refused, stopping };
                match self.handshake.first_packet(raw, origin) {
                    FirstPacket::Ask(question) => self.ask(id, question, None),
                    FirstPacket::Refused(refusal) => clients.refuse(id, &refusal),
                    FirstPacket::NotConnect(violation) => self.pubsub.violation(id, violation),
                }
            }
            ConnectionStage::Connecting(pending) => match *pending {
                PendingConnect::AwaitingAuth(waiting) => match waiting.packet(raw) {
                    NextPacket::Ask(question) => self.ask(id, question, None),
                    NextPacket::Disconnected => clients.close(id),
                    NextPacket::Refused(refusal) => clients.refuse(id, &refusal),
                },
                // Paused: nothing is served.
                other => connection.stage = ConnectionStage::Connecting(Box::new(other)),
            },
            connected => connection.stage = connected,
        }
        self.pubsub.clients.hold_unaccepted(id);
    }

    /// Asks the hooks about a connecting client, and does what follows.
    fn ask(&mut self, id: ConnectionId, question: Question<C::State>, resumed: Option<Resumed>) {
        let clients = &mut self.pubsub.clients;
        let progress = self.handshake.ask(&mut clients.chain, question, resumed, clients.agenda.now());
        let pending = match progress {
            Progress::Accepted(accepted) => return self.accepted(id, accepted),
            Progress::Refused(refusal) => return clients.refuse(id, &refusal),
            Progress::Later(question, pending) => {
                let link = pending.link;
                let task = clients.run_hook(Waiter::Connection(id), pending);
                clients.connections.pause(id, PauseReason::HookAnswer);
                PendingConnect::AwaitingHook { task, link, question }
            }
            Progress::Continue(waiting, auth) => {
                clients.connections.write_bytes(id, |out| out.extend_from_slice(&auth));
                PendingConnect::AwaitingAuth(waiting)
            }
        };
        let due = pending.due();
        if let Some(connection) = clients.connections.get_mut(id) {
            connection.stage = ConnectionStage::Connecting(Box::new(pending));
        }
        clients.arm_connection(id, due);
    }

    /// The hook that a connecting client waits for has answered, or is given up: the question is asked again, with what came of it.
    pub(super) fn resume_connecting(&mut self, id: ConnectionId, task: u64, resumed: Resumed) {
        let Some(connection) = self.pubsub.clients.connections.get_mut(id) else { return };
        match std::mem::replace(&mut connection.stage, ConnectionStage::Opening { due: Time::NEVER }) {
            ConnectionStage::Connecting(pending) if pending.task() == Some(task) => {
                connection.pauses.remove(PauseReason::HookAnswer);
                if let PendingConnect::AwaitingHook { question, .. } = *pending {
                    self.ask(id, question, Some(resumed));
                }
            }
            other => connection.stage = other,
        }
    }
}
