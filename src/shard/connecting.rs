//! CONNECT, up to the moment when all have accepted the client: the stages are the handshake's, what follows from them is here.

use super::machine::Shard;
use crate::client::ConnectionId;
use crate::codec::ReasonCode;
use crate::connection::{Connection, ConnectionStage, PauseReason};
use crate::handshake::{FirstPacket, NewConnection, NextPacket, PendingConnect, Progress, Question, Refusal};
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
        self.hold_unaccepted(id);
    }

    /// What is held for a client that is not accepted yet may have changed. While that is too much for all of them together, those are refused
    /// for whom most is held.
    pub(super) fn hold_unaccepted(&mut self, id: ConnectionId) {
        while let Some(id) = self.pubsub.clients.connections.hold(id) {
            let clients = &mut self.pubsub.clients;
            clients.statistics.counters.refused_for_memory += 1;
            if let Some(refused) = clients.connections.unaccepted.refuse(clients.agenda.now()) {
                tracing::warn!(
                    refused,
                    "clients that are not accepted hold more than max_unaccepted_bytes: refused those with most"
                );
            }
            let (code, what) = (ReasonCode::ServerBusy, "too much is held for clients that are not accepted");
            let refusal = match clients.connections.get(id).map(|connection| (&connection.stage, &connection.unread)) {
                Some((ConnectionStage::Opening { .. }, unread)) => {
                    Refusal::of_begun(unread.as_slice(), code).saying(what)
                }
                Some((ConnectionStage::Connecting(pending), _)) => pending.refuse(code, what),
                Some((ConnectionStage::Connected(_), _)) | None => return,
            };
            clients.refuse(id, &refusal);
        }
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
