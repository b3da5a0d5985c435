//! A client that all have accepted, on its way to its session: on the shard that owns it, when that has come, when tasks of
//! notifications about it are done, when what an older connection of it has sent before is served, when there is room for its will, and when
//! what its older connection or session leaves is seen to.

use super::agenda::FollowUp;
use super::clients::Clients;
use super::leftovers;
use super::machine::Shard;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::sessions::STOPPING;
use crate::client::{ConnectionId, SubscriberId};
use crate::codec::ReasonCode;
use crate::connection::{ConnectionStage, PauseReason};
use crate::handshake::{AcceptedConnect, PendingConnect, ReplacedSession};
use crate::hooks::Chain;
use crate::migration::{Presence, Wait, Waiting};
use crate::sharding::SessionPlace;

impl<C: Chain> Shard<C> {
    /// The client of this connection was accepted by all.
    pub(super) fn accepted(&mut self, id: ConnectionId, accepted: Box<AcceptedConnect<C::State>>) {
        if let Some(connection) = self.pubsub.clients.connections.get_mut(id) {
            connection.stage = ConnectionStage::Connecting(Box::new(PendingConnect::Accepted(accepted)));
            self.register_when_possible(id);
        }
    }

    /// Registers the client of a connection with its session: on another shard if that owns it, not before its session is here if that is
    /// still to come, and not before tasks of notifications about it are done.
    pub(super) fn register_when_possible(&mut self, id: ConnectionId) {
        let clients = &mut self.pubsub.clients;
        let Some(accepted) = clients.accepted_at(id) else { return };
        let subscriber = accepted.client.subscriber.clone();
        let is_own = self.migration.slots.owner(&subscriber) == clients.setup.id;
        if is_own && clients.agenda.is_stopping() {
            // Not even to wait for its session: that moves no more.
            clients.refuse_for_limit(id, ReasonCode::ServerShuttingDown, STOPPING);
        } else if is_own && self.waits_for_session(&subscriber) {
            self.pubsub.clients.connections.pause(id, PauseReason::SessionArrival);
            self.migration.wait(subscriber, Waiting::Register(id));
        } else {
            self.register(id);
        }
    }

    /// Registers the client of a connection, whose session is here if there is one.
    pub(super) fn register(&mut self, id: ConnectionId) {
        let clients = &mut self.pubsub.clients;
        let Some(accepted) = clients.accepted_at(id) else { return };
        let (subscriber, listener) = (accepted.client.subscriber.clone(), accepted.listener);
        let has_will = accepted.will.is_some();
        let owner = self.migration.slots.owner(&subscriber);
        if owner != clients.setup.id {
            // Also if the slot has moved on while it waited: a session that began here now, perhaps in the place of the one that was
            // waited for, would be left behind, and its new owner would begin another one.
            clients.connections.pause(id, PauseReason::HandOff);
            clients.agenda.hand_off(id, owner);
        } else if self.takeovers.is_behind(&subscriber, id) {
            clients.connections.pause(id, PauseReason::Takeover);
        } else if clients.pending_hooks.wait(&subscriber, id) {
            clients.connections.pause(id, PauseReason::Registration);
        } else if let Some(old) = clients.sessions.of(&subscriber).and_then(|session| session.connection)
            && self.takeovers.waits(old, &subscriber, id)
        {
            clients.connections.pause(id, PauseReason::Takeover);
            clients.agenda.output(Output::Drain(old));
        } else if self.pubsub.wills.waits(&subscriber, id, has_will) {
            clients.connections.pause(id, PauseReason::Registration);
        } else if let Some((code, limit)) = self.pubsub.why_not_registered(id, &subscriber) {
            self.pubsub.clients.refuse_for_limit(id, code, limit);
        } else if waits_for_leftovers(&mut self.pubsub, id, &subscriber) {
            self.pubsub.clients.connections.pause(id, PauseReason::Registration);
        } else {
            let allows_anonymous = self.handshake.listener(listener).allow_anonymous;
            self.pubsub.register(id, self.migration.slots.slot(&subscriber), allows_anonymous);
        }
    }

    /// Whether something of a client of this shard must wait for its session to come; then that is pulled.
    pub(super) fn waits_for_session(&mut self, subscriber: &SubscriberId) -> bool {
        match self.migration.must_wait(subscriber, Presence::of(self.pubsub.clients.sessions.of(subscriber))) {
            Wait::No => false,
            Wait::Yes => true,
            Wait::Pull(from) => {
                self.pubsub.clients.agenda.post(from, ShardMessage::Pull { subscriber: subscriber.clone() });
                true
            }
        }
    }
}

/// Ends the connection or session before the one of this connection if that leaves too much for one turn. Whether the client has to wait
/// until that is seen to.
fn waits_for_leftovers<C: Chain>(pubsub: &mut PubSub<C>, id: ConnectionId, subscriber: &SubscriberId) -> bool {
    let clients = &pubsub.clients;
    let Some(clean_start) = clients.accepted_at(id).map(|accepted| accepted.clean_start) else { return false };
    if !leftovers::would_hold_up(clients, subscriber, clean_start) {
        return false;
    }
    let session = clients.sessions.of(subscriber).filter(|session| clean_start || !session.is_kept());
    let takeovers = session.map(|session| session.takeovers);
    pubsub.end_previous(subscriber, clean_start);
    let clients = &mut pubsub.clients;
    if let Some(takeovers) = takeovers {
        // It was let in while it had a session, and is not asked again whether it may have one.
        let place = SessionPlace::take_anyway(&clients.setup.quotas, clients.setup.id);
        replaces(clients, id, ReplacedSession { place, takeovers });
    }
    if !clients.pending_hooks.wait(subscriber, id) {
        // Others had room for most of it. It comes as one who has no session.
        clients.agenda.follow_up(FollowUp::Register(id));
    }
    true
}

/// The client of a connection is to have a session in the place of one that has ended for it.
fn replaces<C: Chain>(clients: &mut Clients<C>, id: ConnectionId, replaced: ReplacedSession) {
    if let Some(connection) = clients.connections.get_mut(id)
        && let ConnectionStage::Connecting(pending) = &mut connection.stage
        && let Some(accepted) = pending.accepted_mut()
    {
        accepted.replaces = Some(replaced);
    }
}
