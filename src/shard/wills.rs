//! Wills: published when a connection ends without a proper goodbye, at once or after their delay.

use super::Shard;
use super::audience::Origin;
use crate::client::{Client, EndReason};
use crate::codec::PublishProperties;
use crate::config::SharedPolicy;
use crate::hooks::{Chain, PublishedM5};
use crate::session::Will;
use crate::time::Time;

impl<C: Chain> Shard<C> {
    /// The connection of a session has ended for `reason`: its will is published now, or put off until its delay has passed
    /// or the session ends, whichever comes first [MQTT-3.1.3-9]. A goodbye has taken the will away before.
    pub(super) fn leave_will(&mut self, index: u32, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        let v3_goodbye = matches!(reason, EndReason::ClientDisconnect(_)) && !session.client.version.is_v5();
        let suppressed = reason == EndReason::TakenOver && self.config.session.suppress_will_on_takeover;
        if v3_goodbye || suppressed {
            session.will = None;
            return;
        }
        let Some(will) = &session.will else { return };
        let delayed = session.terms.kept && !will.delay.is_zero();
        let ends_first = session.terms.expiry.is_some_and(|expiry| expiry <= will.delay);
        if delayed && reason != EndReason::ServerShutdown {
            // If the session ends first, its end publishes the will.
            session.will_due = if ends_first { Time::NEVER } else { self.now + will.delay };
            return;
        }
        self.publish_will_of(index);
    }

    /// Publishes the will of a session.
    pub(super) fn publish_will_of(&mut self, index: u32) {
        let Some(session) = self.sessions.get_mut(index) else { return };
        session.will_due = Time::NEVER;
        let Some(will) = session.will.take() else { return };
        let client = session.client.clone();
        let policy = session.terms.shared_policy;
        // The hooks' state is lent out while the will is routed, which may lead back to this very session.
        let mut state = std::mem::take(&mut session.state);
        self.publish_will(&client, &mut state, policy, will);
        if let Some(session) = self.sessions.get_mut(index) {
            session.state = state;
        }
    }

    /// Publishes `will` and tells the hooks, as for any publish.
    pub(super) fn publish_will(&mut self, client: &Client, state: &mut C::State, policy: SharedPolicy, will: Will) {
        let realm = self.realms.number(&will.mountpoint);
        let mut publication = will.message.publication();
        if let Some(expiry) = will.expiry {
            publication.expire(self.now + expiry);
        }
        let origin = Origin { session: None, publisher: self.slots.hash(&client.subscriber), policy };
        self.route(realm, &publication, origin);
        let published = PublishedM5 {
            mountpoint: &will.mountpoint,
            topic: publication.topic.as_str(),
            payload: publication.payload,
            qos: publication.qos,
            retain: publication.retain,
            is_will: true,
            properties: &PublishProperties::trusted(publication.properties),
        };
        let notified = if client.version.is_v5() {
            self.chain.on_publish_m5(client, state, &published)
        } else {
            self.chain.on_publish(client, state, &published.without_properties())
        };
        self.notified_without_session(notified, "on_publish");
    }
}
