//! What a client sent on its old connection comes before what it does on the new one.
//!
//! A CONNECT may be here before bytes that were sent earlier on another connection: its own DISCONNECT, say, which the kernel has and nobody
//! has read. So before a connection is taken over the runtime hands in what there is of it ([`Output::Drain`](super::Output::Drain)), and
//! that is served, also what waits because its publisher is slowed down. One read and one share of a turn are the most that it can be, and
//! what is behind a packet whose hook or subscription is not done is left: a client that never ends cannot keep its successor waiting.

use super::agenda::FollowUp;
use super::machine::Shard;
use crate::client::{ConnectionId, EndReason};
use crate::connection::PauseReason;
use crate::hooks::Chain;
use crate::time::Time;

/// What the kernel had of `old` is in: it is served, and then those go on who wait to take it over.
pub(super) fn drained<C: Chain>(shard: &mut Shard<C>, old: ConnectionId) {
    serve_last(shard, old);
    for id in shard.takeovers.go_on(old) {
        // One that has left meanwhile is not there any more.
        if shard.pubsub.clients.connections.resume(id, PauseReason::Takeover) {
            shard.register_when_possible(id);
            shard.serve_on(id);
        }
    }
    shard.takeovers.are_over();
    // If it was not taken over, it goes on: what held it up may have been done away with, so that nothing else would.
    shard.pubsub.clients.agenda.follow_up(FollowUp::Serve(old));
}

/// Serves what a connection has sent before it is taken over, as much as a share of a turn.
fn serve_last<C: Chain>(shard: &mut Shard<C>, old: ConnectionId) {
    let begun = shard.pubsub.clients.agenda.turn.done();
    loop {
        let clients = &mut shard.pubsub.clients;
        let share = clients.agenda.turn.limits().share;
        let Some(connection) = clients.connections.get_mut(old) else { return };
        let before = connection.unread.len();
        if before == 0 || connection.pauses.is_amid_something() || clients.agenda.turn.done() - begun >= share {
            break;
        }
        if clients.flow.holds_publishers() {
            // One PUBLISH passes, for whatever reason the last one was the last, and it is held again.
            connection.memory_look = Time::ZERO;
        }
        clients.end_hold(old);
        if let Some(connection) = clients.connections.get_mut(old) {
            connection.pauses.remove_pace();
        }
        shard.serve_unread(old);
        let Some(connection) = shard.pubsub.clients.connections.get_mut(old) else { return };
        if connection.memory_look == Time::ZERO {
            // It was none, and the takeover may be refused yet.
            connection.memory_look = Time::NEVER;
        }
        if connection.unread.len() == before {
            break;
        }
    }
    if shard.pubsub.clients.connections.get(old).is_some_and(|connection| connection.is_lost) {
        shard.pubsub.end_connection(old, EndReason::ConnectionLost, None);
    }
}
