//! How sessions end, and what the end of its connection means for one.
//!
//! The hooks hear of it in a fixed order: the will first, then `on_client_offline` for a session that is kept, or
//! `on_topic_unsubscribed` and `on_client_gone` for one that ends with its connection. Whoever comes later for the same
//! subscriber id comes after all of them.

use super::clients::CLIENT_LEFT;
use super::due::{AUTH_TIMEOUT, Due, what};
use super::holding::memory_hold_over;
use super::leftovers;
use super::memberships;
use super::message::ShardMessage;
use super::output::Output;
use super::paging;
use super::pubsub::PubSub;
use super::recording;
use super::remnants::{EndedSession, SessionEnd};
use super::replaying::Replaying;
use super::rewriting::adopt_first;
use super::turn;
use crate::client::{
    Asker, Client, ConnectionId, EndReason, ExpiredReason, SessionAction, SessionRequest, SubscriberId, log_client,
};
use crate::codec::ReasonCode;
use crate::connection::{ConnectionStage, PauseReason, Pending, Violation};
use crate::hooks::{Chain, Unsubscribed};
use crate::publishing::publish_will;
use crate::session::{MigrationState, Session};
use crate::time::Time;

impl<C: Chain> PubSub<C> {
    /// Ends a connection that belongs to a session. `told` is the reason code and the reason string of the DISCONNECT to an
    /// MQTT 5 client; none if there is to be no DISCONNECT.
    pub(super) fn end_connection(&mut self, id: ConnectionId, reason: EndReason, told: Option<(ReasonCode, &str)>) {
        // What the client published comes before its will, also if it is a PUBLISH that ends the connection.
        self.clients.deliver_batch();
        let Some(connection) = self.clients.connections.get(id) else { return };
        let ConnectionStage::Connected(connected) = &connection.stage else { return };
        let (index, version) = (connected.session, connected.version);
        if let Some(Pending::Subscribe { token }) = connected.pending {
            self.subscribe_without_suback(token);
        }
        if let Some((code, what)) = told
            && version.is_v5()
        {
            self.clients.write_disconnect(id, index, code, what);
        }
        self.clients.close(id);
        let session = self.clients.sessions.get(index);
        debug_assert_eq!(session.and_then(|session| session.connection), Some(id), "a session knows its connection");
        self.connection_ended(index, reason, told.map_or("", |(_, what)| what));
    }

    /// The client did something it must not: it is told, and its connection ends.
    pub(super) fn violation(&mut self, id: ConnectionId, violation: Violation) {
        let Violation { code, what } = violation;
        let Some(connection) = self.clients.connections.get(id) else { return };
        match &connection.stage {
            ConnectionStage::Connected(_) => self.end_connection(id, violation.end_reason(), Some((code, what))),
            _ => self.clients.refuse_pending(id, code, what),
        }
    }

    /// An operator's or the broker's own wish to end a connection.
    pub(super) fn end_with(&mut self, id: ConnectionId, reason: EndReason, code: ReasonCode) {
        let Some(connection) = self.clients.connections.get(id) else { return };
        match &connection.stage {
            ConnectionStage::Connected(_) => self.end_connection(id, reason, Some((code, ""))),
            _ => self.clients.refuse_pending(id, code, "the broker ends the connection"),
        }
    }

    /// The far end closed the connection, or it broke. What it sent before is served first.
    pub(super) fn lost(&mut self, id: ConnectionId) {
        if self.clients.is_lost_later(id) {
            return;
        }
        match self.clients.connections.get(id).map(|connection| &connection.stage) {
            Some(ConnectionStage::Connected(_)) => self.end_connection(id, EndReason::ConnectionLost, None),
            Some(ConnectionStage::Connecting(pending)) => {
                log_client!(info, pending.client(), "connection closed: the client left before it was answered");
                self.clients.close(id);
            }
            Some(ConnectionStage::Opening { .. }) => self.clients.turn_away(id, CLIENT_LEFT),
            None => {}
        }
    }

    /// What the end of its connection means for a session. `what` is for the log, if there is more to say than the reason.
    pub(super) fn connection_ended(&mut self, index: u32, reason: EndReason, what: &str) {
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        session.connection = None;
        self.clients.statistics.counters.connected -= 1;
        log_end(&session.client, reason, what);
        let is_kept = session.is_kept();
        self.clients.agenda.turn.did(turn::SESSION);
        if is_kept || !memberships::is_much(&self.clients, index) {
            memberships::follow_client(self, index);
        }
        Replaying::of(self).set_online(index, false);
        leftovers::client_left(&mut self.clients, index);
        paging::unload(&mut self.clients, index);
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        let suppress = self.clients.setup.config.session.suppress_will_on_takeover;
        let publishes_will =
            publish_will(session, reason, suppress, self.clients.agenda.is_stopping(), self.clients.agenda.now());
        if publishes_will {
            self.publish_will_of(index);
        }
        if self.clients.sessions.get(index).is_some_and(Session::is_kept) {
            self.go_offline(index, reason, publishes_will);
        } else {
            self.end_session(index, SessionEnd::Gone(reason));
        }
    }

    /// A kept session waits for its client, whose will was published or not.
    fn go_offline(&mut self, index: u32, reason: EndReason, published_will: bool) {
        leftovers::give_to_others(self, index);
        let clients = &mut self.clients;
        let now = clients.agenda.now();
        let Some(session) = clients.sessions.get_mut(index) else { return };
        session.expires = session.settings.expiry.map_or(Time::NEVER, |expiry| now + expiry);
        let notified = clients.chain.on_client_offline(&session.client, &mut session.state, reason);
        clients.notified(index, notified);
        clients.sessions.went_offline(index);
        recording::record_offline(clients, index, published_will);
        recording::record_hook_state(clients, index);
        clients.arm_session(index);
    }

    /// Ends a session. In order: subscriptions removed, `on_topic_unsubscribed`, undelivered messages given to other members of shared
    /// subscriptions or dropped, `on_client_gone` or `on_session_expired`, will published if there is one still. If there is a lot to be
    /// dropped, the end is told later: see [`leftovers`]. If it has many shared subscriptions, it ends later: see [`memberships`].
    pub(super) fn end_session(&mut self, index: u32, end: SessionEnd) {
        if memberships::end_first(self, index, end) {
            return;
        }
        adopt_first(&mut self.clients, index);
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        debug_assert!(session.connection.is_none(), "only sessions without a connection end");
        let mut leaving = None;
        if let Some(MigrationState::Leaving { token, to, .. }) = session.migration {
            (session.migration, leaving) = (None, Some(token));
            self.clients.agenda.post(to, ShardMessage::Abandoned { token });
        }
        let will = session.will.take();
        let Some(remnant) = self.begin_to_clear_up(index) else { return };
        self.clients.agenda.turn.did(turn::SESSION);
        Replaying::of(self).ended(index);
        let Some(session) = self.clients.sessions.get_mut(index) else { return };
        let notified = self.clients.chain.on_topic_unsubscribed(&session.client, &mut session.state, Unsubscribed::All);
        self.clients.notified(index, notified);
        let Some(session) = self.clients.sessions.remove(index) else { return };
        self.clear_up(remnant);
        self.clients.setup.quotas.sessions.give_back(self.clients.setup.id, 1);
        leftovers::leave(self, EndedSession { session, end, will, leaving, put_back: None });
    }

    /// Does what an operator wants of a client whose session is here if there is one, and answers.
    pub(super) fn carry_out(&mut self, subscriber: &SubscriberId, request: SessionRequest) {
        let SessionRequest { action, asked_by } = request;
        let found = self.clients.sessions.of(subscriber).map(|session| Box::new(session.found()));
        if let SessionAction::Disconnect { cleanup } = action {
            self.disconnect_here(subscriber, cleanup);
        }
        let Some(Asker { shard, ticket }) = asked_by else { return };
        if shard == self.clients.setup.id {
            self.clients.agenda.output(Output::SessionAnswer { ticket, found });
        } else {
            self.clients.agenda.post(shard, ShardMessage::SessionAnswer { ticket, found });
        }
    }

    /// Ends the connection of a client whose session is here; with `cleanup`, its session.
    fn disconnect_here(&mut self, subscriber: &SubscriberId, cleanup: bool) {
        let Some(index) = self.clients.sessions.find(subscriber) else { return };
        let connection: Option<ConnectionId> = self.clients.sessions.get(index).and_then(|session| session.connection);
        if let Some(id) = connection {
            self.end_with(id, EndReason::Admin, ReasonCode::AdministrativeAction);
        }
        if cleanup && self.clients.sessions.find(subscriber) == Some(index) {
            self.end_session(index, SessionEnd::Expired(ExpiredReason::Admin));
        }
    }

    /// Does what is due for a connection.
    pub(super) fn look_at_connection(&mut self, index: usize) {
        let clients = &mut self.clients;
        let now = clients.agenda.now();
        if !clients.connections.entry_fired(index, now) {
            return;
        }
        let Some(id) = clients.connections.id_at(index) else { return };
        let session = clients.connections.get(id).and_then(|connection| connection.session());
        if session.and_then(|index| clients.sessions.get(index)).is_some_and(Session::is_arriving) {
            // What is due for it is done when it has come.
            return;
        }
        let Some(connection) = clients.connections.get_mut(id) else { return };
        let rate = clients.setup.config.session.min_packet_rate;
        match what(connection, session.and_then(|index| clients.sessions.get(index)), rate, now) {
            Due::Nothing => {}
            Due::NoConnect => {
                let why = match connection.unread.len() {
                    0 => "nothing came within connect_timeout".to_owned(),
                    bytes => format!("no whole CONNECT came within connect_timeout, only {bytes} bytes"),
                };
                clients.turn_away(id, &why);
            }
            Due::NotAuthenticated => clients.refuse_pending(id, ReasonCode::NotAuthorized, AUTH_TIMEOUT),
            Due::End(reason, code, what) => self.end_connection(id, reason, Some((code, what))),
            Due::ThrottleOver => clients.serve_later(id, PauseReason::Throttle),
            Due::HoldOver => clients.end_hold(id),
            Due::MemoryHoldOver => memory_hold_over(clients, id),
            Due::SendAgain => {
                if let Some(session) = session.and_then(|index| clients.sessions.get_mut(index)) {
                    session.outbound.send_again();
                }
                session.into_iter().for_each(|index| clients.send_waiting(index));
            }
        }
        self.clients.arm_connected(id);
    }

    /// Does what is due for an offline session.
    pub(super) fn look_at_session(&mut self, index: u32) {
        let now = self.clients.agenda.now();
        if !self.clients.sessions.entry_fired(index, now) {
            return;
        }
        // As above.
        let is_away = |session: &&Session<C::State>| session.connection.is_none() && !session.is_arriving();
        let Some(session) = self.clients.sessions.get(index).filter(is_away) else { return };
        if session.will_due <= now {
            self.publish_will_of(index);
        }
        if self.clients.sessions.get(index).is_some_and(|session| session.expires <= now) {
            self.end_session(index, SessionEnd::Expired(ExpiredReason::Expiry));
        }
        self.clients.arm_session(index);
    }
}

/// Logs that a connection has ended, and why. At debug if everybody had it so: a fleet of clients comes and goes all day.
fn log_end(client: &Client, reason: EndReason, what: &str) {
    let colon = if what.is_empty() { "" } else { ": " };
    if reason.is_ordinary() {
        log_client!(debug, client, "connection closed: {reason}{colon}{what}");
    } else {
        log_client!(info, client, "connection closed: {reason}{colon}{what}");
    }
}
