//! How connections end, and how sessions do.
//!
//! The hooks hear of it in a fixed order: the will first, then `on_client_offline` for a session that is kept, or
//! `on_topic_unsubscribed` and `on_client_gone` for one that ends with its connection. Whoever comes later for the same
//! subscriber id comes after all of them.

use std::sync::Arc;

use super::attempt::Attempt;
use super::{Effect, Shard};
use crate::client::{ConnectionId, DropReason, EndReason, ExpiredReason};
use crate::codec::{Disconnect, PacketType, QoS, ReasonCode};
use crate::connection::{Connection, ConnectionStage, Output, Pending, Violation, code_for};
use crate::hooks::{Chain, Unsubscribed};
use crate::session::{InFlight, MigrationState, Stage};
use crate::topic::TopicFilter;

impl<C: Chain> Shard<C> {
    /// DISCONNECT from the client. With reason code 0x00 its will is forgotten [MQTT-3.14.4-3].
    pub(super) fn on_disconnect_packet(
        &mut self,
        id: ConnectionId,
        index: u32,
        disconnect: Disconnect<'_>,
    ) -> Result<(), Violation> {
        let Some(session) = self.sessions.get_mut(index) else { return Ok(()) };
        if let Some(seconds) = disconnect.session_expiry {
            if !session.settings.kept && seconds > 0 {
                return Err(Violation::protocol("DISCONNECT raises the session expiry interval from zero"));
            }
            let (kept, expiry) = self.expiry_at_disconnect(seconds);
            if let Some(session) = self.sessions.get_mut(index) {
                (session.settings.kept, session.settings.expiry) = (kept, expiry);
            }
        }
        if disconnect.code == ReasonCode::Success
            && let Some(session) = self.sessions.get_mut(index)
        {
            session.will = None;
        }
        self.end_connection(id, EndReason::ClientDisconnect(disconnect.code), None);
        Ok(())
    }

    /// Ends a connection that belongs to a session. `told` is what an MQTT 5 client finds in a DISCONNECT: the code, and what
    /// there is to say about it.
    pub(super) fn end_connection(&mut self, id: ConnectionId, reason: EndReason, told: Option<(ReasonCode, &str)>) {
        // What the client published comes before its will, also if it is a PUBLISH that ends the connection.
        self.deliver_batch();
        let Some(connection) = self.connections.get(id) else { return };
        let ConnectionStage::Connected(connected) = &connection.stage else { return };
        let (index, version) = (connected.session, connected.version);
        if let Some(Pending::Subscribe { token }) = connected.pending {
            self.subscribed_without_suback(token);
        }
        if let Some((code, what)) = told
            && version.is_v5()
        {
            self.write_disconnect(id, index, code, what);
        }
        self.forget_connection(id, None);
        let session = self.sessions.get(index);
        debug_assert_eq!(session.and_then(|session| session.connection), Some(id), "a session knows its connection");
        self.session_lost_connection(index, reason);
    }

    /// What the end of its connection means for a session.
    pub(super) fn session_lost_connection(&mut self, index: u32, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.connection = None;
        self.counters.connected -= 1;
        tracing::debug!(client = %session.client.subscriber, ?reason, kept = session.settings.kept, "connection ended");
        self.members_turn_online(index, false);
        self.drop_qos0(index);
        self.leave_will(index, reason);
        if self.sessions.get(index).is_some_and(|session| session.is_kept()) {
            self.go_offline(index, reason);
        } else {
            self.remove_session(index, |shard, session| {
                let notified = shard.chain.on_client_gone(&session.client, &mut session.state, reason);
                shard.notified_without_session(&session.client.subscriber, notified, "on_client_gone");
            });
        }
    }

    /// Writes the DISCONNECT, with a Reason String if the client takes one: without any property, paho-mqtt 2.1 and rumqttc
    /// 0.25 do not see the reason code either.
    fn write_disconnect(&mut self, id: ConnectionId, index: u32, code: ReasonCode, what: &str) {
        let most = self.sessions.get(index).map_or(0, |session| session.settings.maximum_outgoing);
        self.write(id, |version, out| {
            let mut disconnect = Disconnect::new(code_for(PacketType::Disconnect, code));
            disconnect.reason_string = Some(if what.is_empty() { disconnect.code.name() } else { what });
            if disconnect.encoded_len(version) > most {
                disconnect.reason_string = None;
            }
            disconnect.encode(version, out);
        });
    }

    /// A kept session waits for its client.
    fn go_offline(&mut self, index: u32, reason: EndReason) {
        self.redistribute(index, false);
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.expires = session.settings.expiry.map_or(crate::time::Time::NEVER, |expiry| self.now + expiry);
        let notified = self.chain.on_client_offline(&session.client, &mut session.state, reason);
        self.notified(index, notified, "on_client_offline");
        self.absent.left(index);
        self.arm_session(index);
    }

    /// Ends a kept session whose client is offline.
    pub(super) fn expire_session(&mut self, index: u32, reason: ExpiredReason) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        debug_assert!(session.connection.is_none(), "only offline sessions expire");
        let will = session.will.take();
        self.remove_session(index, |shard, session| {
            let notified = shard.chain.on_session_expired(&session.client, &mut session.state, reason);
            shard.notified_without_session(&session.client.subscriber, notified, "on_session_expired");
            if let Some(will) = will {
                shard.publish_will_after(session, &will);
            }
        });
    }

    /// Takes a session apart: its subscriptions end, what it still had to deliver is dropped, and `last` has the last word.
    fn remove_session(&mut self, index: u32, last: impl FnOnce(&mut Self, &mut crate::session::Session<C::State>)) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        if let Some(MigrationState::Leaving { token, .. }) = session.migration {
            session.migration = None;
            self.abandon_move(token);
        }
        let Some(session) = self.sessions.get_mut(index) else { return };
        let realm = self.realms.number(&session.client.subscriber.mountpoint);
        let filters: Vec<_> = session.subscriptions.drain().map(|(filter, _)| filter).collect();
        for filter in &filters {
            self.remove_subscriber(realm, filter, index);
        }
        self.counters.subscriptions -= filters.len() as u64;
        self.redistribute(index, true);
        let Some(session) = self.sessions.get_mut(index) else { return };
        let notified = self.chain.on_topic_unsubscribed(&session.client, &mut session.state, Unsubscribed::All);
        self.notified(index, notified, "on_topic_unsubscribed");
        self.drop_undelivered(index);
        self.absent.forget(index);
        if let Some(mut session) = self.sessions.remove(index) {
            last(self, &mut session);
            self.session_ended(&session.client.subscriber, session.slot);
        }
    }

    /// What a session that ends had not delivered is dropped, and said to be.
    fn drop_undelivered(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let in_flight = session.outbound.extract(|_| true).into_iter().filter_map(|entry| entry.delivery());
        let waiting: Vec<_> = in_flight.chain(session.outbound.queue.drain()).collect();
        for delivery in waiting {
            self.report_dropped(index, &delivery, DropReason::SessionEnded);
        }
    }

    /// QoS 0 messages do not wait for a client to come back.
    fn drop_qos0(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        for delivery in session.outbound.queue.extract(|delivery| delivery.qos == QoS::AtMostOnce) {
            self.report_dropped(index, &delivery, DropReason::OfflineQos0);
        }
    }

    /// Messages of shared subscriptions that a member has not acknowledged go to a member that is online; if the session of
    /// this one `ends`, to one that is not, if need be.
    ///
    /// A QoS 2 message that was sent stays: the client may have it already, and nobody else may get it then
    /// [MQTT-4.8.2-5], [MQTT-4.8.2-6].
    pub(super) fn redistribute(&mut self, index: u32, ends: bool) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let client = session.client.subscriber.clone();
        let policy = session.settings.shared_policy;
        let realm = self.realms.number(&client.mountpoint);
        let realm = &self.realms[realm];
        let has_other =
            |filter: &Arc<TopicFilter>| realm.group(filter).is_some_and(|group| ends || group.has_online_anywhere());
        let may_go = |entry: &InFlight| entry.stage() == Stage::AwaitingPuback && entry.group().is_some_and(has_other);
        let in_flight = session.outbound.extract(may_go);
        let queued = session.outbound.queue.extract(|delivery| delivery.group.as_ref().is_some_and(has_other));
        let moved = in_flight.into_iter().filter_map(|entry| entry.delivery()).chain(queued);
        let publisher = self.slots.slot(&client);
        for delivery in moved.collect::<Vec<_>>() {
            let Some(group) = delivery.group else { continue };
            self.offer_to_group(&client.mountpoint, &group, &delivery.message, policy, publisher, 0);
        }
    }

    /// The runtime closes the connection, after what it still has to send; here it is gone at once.
    pub(super) fn forget_connection(&mut self, id: ConnectionId, last: Option<Output>) {
        let Some(mut connection) = self.take_connection(id) else { return };
        if let Some(task) = waiting_for(&connection) {
            self.tasks.remove(&task);
            self.effects.push(Effect::CancelHook { task });
        }
        let last = last.or_else(|| connection.outbox.take_last());
        if let Some(output) = &last {
            self.counters.bytes_out += output.len() as u64;
        }
        self.effects.push(Effect::Close { connection: id, listener: connection.listener, last });
    }

    /// Begins an orderly stop: every client is told, every will is published, also those of clients that are away, every hook is
    /// called. New clients are refused.
    /// [`Effect::Stopped`] follows when that is true of those, too, that were on their way from another shard, and when the tasks
    /// of notifications are done or have been given up.
    pub fn stop(&mut self, now: crate::time::Time) {
        self.now = now;
        self.stopping = true;
        // Nothing of a session outlives the broker: what these wills wait for would not come [MQTT-3.1.2-8].
        for index in self.sessions.which(|session| session.connection.is_none() && session.will.is_some()) {
            self.publish_will_of(index);
        }
        for id in self.connections.ids() {
            self.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
        }
        self.abandon_moves();
        self.stopped_if_told();
    }

    /// Says that the shard has stopped, once no session is on its way here and no task of a notification is left.
    pub(super) fn stopped_if_told(&mut self) {
        if self.stopping && !self.stop_announced && self.moves.arriving.is_empty() && self.notices.is_empty() {
            self.stop_announced = true;
            self.effects.push(Effect::Stopped);
        }
    }
}

/// The hook that a connection waits for.
fn waiting_for<S>(connection: &Connection<Attempt<S>>) -> Option<u64> {
    match &connection.stage {
        ConnectionStage::Opening => None,
        ConnectionStage::Connecting(attempt) => attempt.waiting.map(|(task, _)| task),
        ConnectionStage::Connected(connected) => match connected.pending {
            Some(Pending::Hook { task, .. }) => Some(task),
            _ => None,
        },
    }
}
