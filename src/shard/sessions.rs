//! A client that was accepted meets its session.
//!
//! Registrations of one subscriber id are served one after the other, in the order in which they come: the whole of one
//! happens in one input of the shard that owns the id. The hooks are called in the order of the lifecycle:
//! `on_register`, then whatever ends for the connection or session before, then `on_client_wakeup`, then CONNACK.
//!
//! If what ends leaves too much for one turn, it ends first, and the client is registered when that is seen to: see
//! `registering::waits_for_leftovers`. Hooks are told of such an end before `on_register`.

use super::delivering::watch_if_shared;
use super::leftovers;
use super::memberships;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::recording;
use super::remnants::SessionEnd;
use super::replaying::Replaying;
use super::rewriting;
use crate::client::{ConnectionId, EndReason, ExpiredReason, SubscriberId, log_client};
use crate::codec::ReasonCode;
use crate::config::SessionsFull;
use crate::handshake::ReplacedSession;
use crate::hooks::{Chain, ask};
use crate::memory::MemoryStage;

/// What clients are told that come when the broker stops.
pub(super) const STOPPING: &str = "the broker stops";

impl<C: Chain> PubSub<C> {
    /// Registers the client of a connection, whose subscriber id is hashed to `slot`. `allows_anonymous`: the last link of every
    /// conditional chain accepts what no hook has decided on.
    pub(super) fn register(&mut self, id: ConnectionId, slot: u16, allows_anonymous: bool) {
        let Some(mut accepted) = self.clients.take_accepted(id) else { return };
        accepted.client.session_number = self.clients.agenda.number();
        let mut state = std::mem::take(&mut accepted.state);
        let notified =
            ask::registered(&mut self.clients.chain, &accepted.client, &mut state, &accepted.connect_properties());
        self.clients.notified_about(&accepted.client.subscriber, notified);

        // A fight for an id goes on across the sessions that end with each takeover.
        let replaced = accepted.replaces.take();
        let takeovers = self.clients.sessions.of(&accepted.client.subscriber).map(|session| session.takeovers);
        let existing = self.end_previous(&accepted.client.subscriber, accepted.clean_start);
        leftovers::finish_last_of(self, &accepted.client.subscriber);
        let session_present = existing.is_some();
        let index = existing.unwrap_or_else(|| {
            let takeovers = match (takeovers, replaced) {
                // In place of the session that has just ended.
                (Some(takeovers), _) => {
                    self.clients.setup.quotas.sessions.take_anyway(self.clients.setup.id);
                    takeovers
                }
                (None, Some(ReplacedSession { place, takeovers })) => {
                    place.keep();
                    takeovers
                }
                // A newcomer has taken its place in `make_room`.
                (None, None) => (0, self.clients.agenda.now()),
            };
            self.clients.new_session(accepted.client.clone(), accepted.settings.clone(), slot, takeovers)
        });
        self.clients.attach(id, index, &mut accepted, state, allows_anonymous);
        let no_more = rewriting::client_came(self, index, session_present);
        memberships::follow_client(self, index);
        if let Some(session) = self.clients.sessions.get_mut(index) {
            let notified = self.clients.chain.on_client_wakeup(&session.client, &mut session.state, session_present);
            self.clients.notified(index, notified);
        }
        recording::record_hook_state(&mut self.clients, index);
        let mut fits = true;
        self.clients.connections.write_bytes(id, |out| fits = accepted.connack(session_present, out));
        if !fits {
            // Without a word: DISCONNECT must not come before CONNACK [MQTT-3.14.0-1].
            return self.end_connection(id, EndReason::ProtocolError(ReasonCode::PacketTooLarge), None);
        }
        recording::hold_output(&mut self.clients, id, index, no_more);
        log_client!(debug, accepted.client, session_present, "connected");
        self.clients.agenda.output(Output::ReadContinuously(id));
        if let Some(session) = self.clients.sessions.get_mut(index) {
            session.outbound.send_again();
        }
        self.clients.send_waiting(index);
        watch_if_shared(&mut self.clients, index);
        Replaying::of(self).set_online(index, true);
    }

    /// Why a client that the hooks accepted cannot be registered: limits that only the owner of the session knows. Without memory only
    /// those are let in who have a session, or had one that has ended for them: they come to take what waits for them.
    pub(super) fn why_not_registered(
        &mut self,
        id: ConnectionId,
        subscriber: &SubscriberId,
    ) -> Option<(ReasonCode, &'static str)> {
        if self.clients.agenda.is_stopping() {
            return Some((ReasonCode::ServerShuttingDown, STOPPING));
        }
        let Some(index) = self.clients.sessions.find(subscriber) else {
            if self.clients.accepted_at(id).is_some_and(|accepted| accepted.replaces.is_some()) {
                return None;
            }
            if self.clients.flow.memory() == MemoryStage::Full {
                return Some((ReasonCode::QuotaExceeded, "max_memory is reached"));
            }
            return (!self.make_room()).then_some((ReasonCode::QuotaExceeded, "max_sessions is reached"));
        };
        let (limits, now) = (&self.clients.setup.config.session, self.clients.agenda.now());
        let session = self.clients.sessions.get_mut(index)?;
        session.connection?;
        let most = limits.takeover_limit?;
        let (count, since) = session.takeovers;
        if now.since(since) >= limits.takeover_window {
            session.takeovers = (1, now);
            return None;
        }
        session.takeovers.0 += 1;
        (count >= most).then_some((ReasonCode::ConnectionRateExceeded, "takeover_limit is reached"))
    }

    /// Ends the connection that the subscriber id had, and its session if it is not to be resumed. What is left is resumed.
    pub(super) fn end_previous(&mut self, subscriber: &SubscriberId, clean_start: bool) -> Option<u32> {
        if let Some(connection) = self.clients.sessions.of(subscriber).and_then(|session| session.connection) {
            self.clients.statistics.counters.takeovers += 1;
            self.end_connection(connection, EndReason::TakenOver, Some((ReasonCode::SessionTakenOver, "")));
        }
        let kept = self.clients.sessions.find(subscriber)?;
        if clean_start {
            self.end_session(kept, SessionEnd::Expired(ExpiredReason::CleanStart));
            return None;
        }
        Some(kept)
    }

    /// Takes a place for one more session; perhaps that of another one, which ends. False if there is none.
    pub(super) fn make_room(&mut self) -> bool {
        let quotas = self.clients.setup.quotas.clone();
        let own = self.clients.setup.id;
        loop {
            if quotas.sessions.take(own, 1) {
                return true;
            }
            if self.clients.setup.config.limits.sessions_full == SessionsFull::Refuse {
                return false;
            }
            if let Some(longest) = longest_away(self) {
                self.end_session(longest, SessionEnd::Expired(ExpiredReason::Limit));
                if self.clients.sessions.get(longest).is_some() {
                    // It ends soon. For the moment there is one more than there may be.
                    quotas.sessions.take_anyway(own);
                    return true;
                }
                continue;
            }
            let Some(other) = quotas.most_offline() else { return false };
            if other == own {
                return false;
            }
            // It leaves its place to the newcomer. For the moment there is one more than there may be.
            self.clients.agenda.post(other, ShardMessage::MakeRoom);
            return true;
        }
    }

    /// Ends the session whose client has been away longest: another shard has let in a newcomer for that.
    pub(super) fn end_longest_offline(&mut self) {
        if let Some(longest) = longest_away(self).or_else(|| self.clients.sessions.longest_offline()) {
            self.end_session(longest, SessionEnd::Expired(ExpiredReason::Limit));
        }
    }
}

/// So many sessions are passed over at once whose clients are about to be back.
const PASSED_OVER: usize = 32;

/// The session whose client has been away longest, and does not wait to be registered: then it counts as one that has just left.
fn longest_away<C: Chain>(pubsub: &mut PubSub<C>) -> Option<u32> {
    let PubSub { clients, wills, .. } = pubsub;
    for _ in 0..PASSED_OVER {
        let longest = clients.sessions.longest_offline()?;
        let subscriber = &clients.sessions.get(longest)?.client.subscriber;
        if !clients.pending_hooks.is_awaited(subscriber) && !wills.is_awaited(subscriber) {
            return Some(longest);
        }
        clients.sessions.came_online(longest);
        clients.sessions.went_offline(longest);
    }
    None
}
