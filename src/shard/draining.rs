//! The end of an orderly stop: clients that take what waits for them have it before their connections are closed.
//!
//! By then all wills are published, and nothing else is published any more: of what clients send acknowledgements alone are served, for these
//! let them have more. A connection is closed when nothing waits for its client, when that has taken nothing for a while, or when a quarter of
//! `shutdown_timeout` has passed.

use std::time::Duration;

use super::agenda::Deadline;
use super::clients::Clients;
use super::machine::Shard;
use super::output::Output;
use super::stop::{Draining, Left, Open};
use crate::client::{ConnectionId, EndReason};
use crate::codec::{Ack, ReasonCode, Split, split};
use crate::connection::PauseReason;
use crate::hooks::Chain;

/// How often it is looked at who has taken something.
const LOOK: Duration = Duration::from_millis(20);

/// What is left for the client of this connection; none if nothing waits for it.
fn left<C: Chain>(clients: &Clients<C>, id: ConnectionId) -> Option<Left> {
    let connection = clients.connections.get(id)?;
    let outbound = &clients.sessions.get(connection.session()?)?.outbound;
    outbound.is_anything_waiting().then(|| Left {
        queued: outbound.queue.len(),
        taken: outbound.queue.taken(),
        in_flight: outbound.in_flight(),
        output: connection.outbox.waiting(),
    })
}

/// Every connection is to be closed: those for whose clients nothing waits are at once.
pub(super) fn begin<C: Chain>(shard: &mut Shard<C>) {
    let clients = &mut shard.pubsub.clients;
    let now = clients.agenda.now();
    let ids = clients.connections.ids();
    for id in &ids {
        let Some(connection) = clients.connections.get_mut(*id) else { continue };
        connection.pauses.remove_pace();
        connection.pauses.insert(PauseReason::Closing);
        if std::mem::take(&mut connection.reading_stopped) {
            clients.agenda.output(Output::Resume(*id));
        }
    }
    let mut open = Vec::new();
    for id in ids {
        serve_acks(shard, id);
        match left(&shard.pubsub.clients, id) {
            Some(left) => open.push(Open { id, left, since: now }),
            None => close(shard, id),
        }
    }
    let clients = &mut shard.pubsub.clients;
    let until = now + clients.setup.config.runtime.shutdown_timeout / 4;
    clients.agenda.stop.draining = Draining { open, next_look: now, until };
    look(shard);
}

/// Closes the connections that are done, or whose clients take nothing.
pub(super) fn look<C: Chain>(shard: &mut Shard<C>) {
    let clients = &mut shard.pubsub.clients;
    let (now, patience) = (clients.agenda.now(), clients.flow.stall_patience());
    if now < clients.agenda.stop.draining.next_look {
        return;
    }
    let Draining { open, until, .. } = std::mem::take(&mut clients.agenda.stop.draining);
    let mut still_open = Vec::with_capacity(open.len());
    for one in open {
        let clients = &shard.pubsub.clients;
        match left(clients, one.id).filter(|_| now < until) {
            Some(left) if left != one.left => still_open.push(Open { left, since: now, ..one }),
            Some(_) if now < one.since + patience => still_open.push(one),
            _ => close(shard, one.id),
        }
    }
    let agenda = &mut shard.pubsub.clients.agenda;
    if still_open.is_empty() {
        return agenda.stop.all_closed();
    }
    agenda.stop.draining = Draining { open: still_open, next_look: now + LOOK, until };
    agenda.arm(now + LOOK, Deadline::Stop);
}

/// The bytes of an acknowledgement that is served.
const SHORT: usize = 4;

/// Serves the acknowledgements at the front of what a client has sent whose connection is about to be closed. Whether more may be read of it.
#[cold]
pub(super) fn serve_acks<C: Chain>(shard: &mut Shard<C>, id: ConnectionId) -> bool {
    let clients = &mut shard.pubsub.clients;
    let Some(connection) = clients.connections.get_mut(id) else { return false };
    if !connection.pauses.is_only(PauseReason::Closing) {
        return false;
    }
    let Some(session) = connection.session() else { return false };
    let mut unread = connection.unread.take();
    let (mut served, mut outcome) = (0, Ok(()));
    while outcome.is_ok()
        && let Ok(Split::Frame(frame)) = split(&unread.as_slice()[served..], SHORT)
        && let Some((kind, ack)) = Ack::of_short(frame)
    {
        served += frame.length;
        outcome = clients.on_ack(id, session, kind, ack);
    }
    unread.advance(served);
    let is_more_to_come = matches!(split(unread.as_slice(), SHORT), Ok(Split::Incomplete { .. }));
    if let Some(connection) = clients.connections.get_mut(id) {
        connection.unread.put_back(unread);
    }
    if let Err(violation) = outcome {
        shard.pubsub.violation(id, violation);
        return false;
    }
    is_more_to_come
}

fn close<C: Chain>(shard: &mut Shard<C>, id: ConnectionId) {
    shard.pubsub.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
}
