//! Wills that are due and wait for room, and what else is published to their topics here, which waits behind them. When that is much, so do its
//! publishers.

use std::time::Duration;

use super::agenda::PutOff;
use super::clients::Clients;
use super::hooks;
use super::pubsub::PubSub;
use crate::client::ConnectionId;
use crate::connection::{Connection, PauseReason};
use crate::flow::Flow;
use crate::hooks::Chain;
use crate::message::Publication;
use crate::publishing::{DueWill, DueWills};
use crate::routing::Origin;
use crate::session::Will;

/// Has a will wait, or what is published behind it; and whose it is.
pub(super) fn wait<C: Chain>(pubsub: &mut PubSub<C>, due: DueWill) {
    if let Some(subscriber) = &due.subscriber {
        hooks::make_busy(&mut pubsub.clients, subscriber);
    }
    pubsub.wills.push(due);
    await_room(pubsub);
}

/// Puts a publication, of this connection if a client made it, behind the wills to its topic that wait.
#[cold]
pub(super) fn put_behind<C: Chain>(
    pubsub: &mut PubSub<C>,
    mountpoint: u32,
    publication: &Publication<'_>,
    (origin, connection): (Origin, Option<ConnectionId>),
) {
    let Origin { session: index, publisher: slot, policy } = origin;
    if let Some(connection) = connection.and_then(|id| pubsub.clients.connections.get_mut(id)) {
        connection.publishes_behind_wills = true;
    }
    let session = index.and_then(|index| pubsub.clients.sessions.get(index));
    let subscriber = session.map(|session| session.client.subscriber.clone());
    let session = index.zip(session.map(|session| session.instance));
    let mountpoint = pubsub.routing.name(mountpoint).clone();
    let will = Will { message: publication.keep(), mountpoint, delay: Duration::ZERO, expiry: None };
    wait(pubsub, DueWill { subscriber, connection, slot, session, policy, will });
}

/// Wills wait, and the client of this connection publishes: whether it waits until there are fewer.
#[cold]
pub(super) fn holds<A>(wills: &DueWills, connection: &mut Connection<A>, flow: &mut Flow) -> bool {
    let waits = wills.holds(connection.publishes_behind_wills) && connection.session().is_some();
    if waits {
        connection.pauses.insert(PauseReason::Congestion);
        flow.wait_for_wills(connection.id);
    }
    connection.publishes_behind_wills &= waits;
    waits
}

/// Fewer wills wait: whoever waited for that publishes on.
pub(super) fn release_publishers<C: Chain>(clients: &mut Clients<C>) {
    for id in clients.flow.wills_have_room() {
        clients.serve_later(id, PauseReason::Congestion);
    }
}

/// What waits goes on as soon as there is room: a queue that has some is an input, and so is the next turn if it waits for that.
pub(super) fn await_room<C: Chain>(pubsub: &mut PubSub<C>) {
    let clients = &pubsub.clients;
    if pubsub.wills.is_turn_over() || clients.agenda.turn.is_share_over() || are_many_under_way(clients) {
        pubsub.clients.agenda.next_turn(PutOff::Wills);
    }
}

/// Whether messages to very many are under way to as many recipients as may be.
pub(super) fn are_many_under_way<C: Chain>(clients: &Clients<C>) -> bool {
    clients.delivery.fan_outs.has_many(clients.agenda.turn.limits().under_way)
}
