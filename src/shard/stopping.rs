//! An orderly stop: wills first, on all shards, then every connection, as [`draining`] says.

use super::agenda::Deadline;
use super::buffered;
use super::draining;
use super::leftovers;
use super::machine::Shard;
use super::memberships;
use super::message::ShardMessage;
use super::output::Output;
use super::pubsub::PubSub;
use super::sending;
use super::wills;
use crate::client::EndReason;
use crate::codec::ReasonCode;
use crate::connection::{ConnectionStage, PauseReason};
use crate::hooks::Chain;
use crate::session::Session;

impl<C: Chain> PubSub<C> {
    /// Publishes the will of a session, whose client is not served any more: nothing of it comes behind its will.
    pub(super) fn publish_last_will(&mut self, index: u32) {
        let clients = &mut self.clients;
        if let Some(id) = clients.sessions.get(index).and_then(|session| session.connection) {
            clients.connections.pause(id, PauseReason::Closing);
        }
        self.publish_will_of(index);
    }
}

impl<C: Chain> Shard<C> {
    /// Begins an orderly stop: publishes every will, and refuses who is connecting.
    pub(super) fn stop(&mut self) {
        let pubsub = &mut self.pubsub;
        let agenda = &mut pubsub.clients.agenda;
        if !agenda.stop.begin() {
            return;
        }
        let under_way = pubsub.clients.delivery.fan_outs.take_all();
        pubsub.deliver_at_once(under_way);
        buffered::finish_all(pubsub);
        memberships::finish_all(pubsub);
        leftovers::finish_all(pubsub);
        sending::finish_all(&mut pubsub.clients);
        let agenda = &mut pubsub.clients.agenda;
        // A shard that is stuck must not cost the clients of the others their DISCONNECT.
        let patience = pubsub.clients.setup.config.runtime.shutdown_timeout / 2;
        agenda.arm(agenda.now() + patience, Deadline::Stop);
        for id in pubsub.clients.connections.ids() {
            let stage = pubsub.clients.connections.get(id).map(|connection| &connection.stage);
            if !matches!(stage, Some(ConnectionStage::Connected(_))) {
                pubsub.end_with(id, EndReason::ServerShutdown, ReasonCode::ServerShuttingDown);
            }
        }
        wills::go_on(pubsub);
        // What delayed wills wait for would not come [MQTT-3.1.2-8], but for those on disk.
        let waits_on = |session: &Session<C::State>| session.stored.is_some() && session.connection.is_none();
        for index in pubsub.clients.sessions.which(|session| session.will.is_some() && !waits_on(session)) {
            pubsub.publish_last_will(index);
        }
        // What has not left yet ends here.
        for (token, to) in self.migration.outgoing.abandon_all() {
            self.pubsub.clients.agenda.post(to, ShardMessage::Abandoned { token });
        }
    }

    /// Goes on with an orderly stop that has begun, as far as it can. True if there may be follow-ups, and more to do behind them.
    #[cold]
    pub(super) fn go_on_stopping(&mut self) -> bool {
        let is_any_arriving = self.migration.incoming.is_any_arriving();
        let pubsub = &mut self.pubsub;
        let agenda = &mut pubsub.clients.agenda;
        if !is_any_arriving && agenda.stop.has_published() {
            // Behind the wills, on the way to each of the others.
            agenda.tell_others(|| ShardMessage::WillsPublished);
        }
        if agenda.stop.drains() {
            draining::begin(self);
            return true;
        }
        let clients = &mut self.pubsub.clients;
        let is_settled = clients.persistence.as_ref().is_none_or(|persistence| persistence.is_settled());
        if !is_any_arriving && !clients.pending_hooks.has_notifications() && is_settled && clients.agenda.stop.ends() {
            clients.agenda.output(Output::Stopped);
        }
        false
    }
}
