//! How clients stand with each other: who is waited for, and who is held. For tests that look at a shard from outside.

use super::machine::Shard;
use crate::client::ConnectionId;
use crate::connection::PauseReason;
use crate::flow::Backlog;
use crate::hooks::Chain;

/// How one connected client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its connection.
    pub connection: ConnectionId,
    /// The instance number of its session.
    pub instance: u64,
    /// Bytes that wait in its output.
    pub output: usize,
    /// Bytes that wait in its queue.
    pub queued: usize,
    /// Messages that wait in its queue.
    pub messages: usize,
    /// How many messages were taken out of its queue to be sent.
    pub taken: u64,
    /// Its backlog was full, and has not been relieved: whether publishers wait for it no more.
    pub given_up: Option<bool>,
    /// It is held as a publisher, with credit.
    pub is_held: bool,
    /// Its session has come from another shard, and what was buffered for it is still being delivered.
    pub is_arriving: bool,
}

/// How the clients stand that are connected to a shard. Walks over its connections.
pub fn standings<C: Chain>(shard: &Shard<C>) -> Vec<Standing> {
    let clients = &shard.pubsub.clients;
    let of = |connection| {
        let connection = clients.connections.get(connection)?;
        let session = clients.sessions.get(connection.session()?)?;
        let Backlog { output, queued, .. } = Backlog::of(session, connection);
        Some(Standing {
            connection: connection.id,
            instance: session.instance,
            output,
            queued,
            messages: session.outbound.queue.len(),
            taken: session.outbound.queue.taken(),
            given_up: clients.flow.given_up(connection.id),
            is_held: connection.pauses.contains(PauseReason::SlowConsumer),
            is_arriving: session.is_arriving(),
        })
    };
    clients.connections.ids().into_iter().filter_map(of).collect()
}
